"""Text from outside becomes text that can be sent and shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_ocr_mcp.text import one_line, well_formed, well_formed_values, without_paths

HALF, PAIR = "\ud83d", "\ud83d\ude00"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain", "plain"),
        ("naïve 文字 😀", "naïve 文字 😀"),
        (f"a{HALF}b", "a\ufffdb"),
        ("caf\udce9.png", "caf\ufffd.png"),
        (f"{HALF}{HALF}", "\ufffd\ufffd"),
        (PAIR, "😀"),  # two halves that were meant as one character
    ],
)
def test_a_lone_surrogate_becomes_a_replacement_character(text: str, clean: str) -> None:
    assert well_formed(text) == clean


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_whatever_the_text_it_can_be_encoded_and_cleaning_is_done_once(text: str) -> None:
    clean = well_formed(text)
    clean.encode()
    assert well_formed(clean) is clean


def test_every_text_of_a_value_is_cleaned_and_its_names_too() -> None:
    value: Any = {HALF: [1, None, {"a": f"x{HALF}"}], "b": (True, 2.5)}
    assert well_formed_values(value) == {"\ufffd": [1, None, {"a": "x\ufffd"}], "b": (True, 2.5)}
    json.dumps(well_formed_values(value), ensure_ascii=False).encode()


def test_a_clean_value_is_not_copied() -> None:
    value = {"a": ["b", {"c": 1}], "d": ("e",)}
    assert well_formed_values(value) is value


def test_a_line_has_no_control_character() -> None:
    assert one_line("a\nb\x1b[31m\u202ec\udce9") == "a\\nb\\x1b[31m\\u202ec\\udce9"
    assert one_line("scan 1.png") == "scan 1.png"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/usr/lib/libcudnn.so.9: cannot open", "libcudnn.so.9: cannot open"),
        ("cannot import name 'a' from 'b' (/home/me/.venv/b.py)", "cannot import name 'a' from 'b' (b.py)"),
        ("[Errno 2] No such file: '/srv/x/y.bin'", "[Errno 2] No such file: 'y.bin'"),
        (r"C:\Users\me\x.dll is missing", "x.dll is missing"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("and/or 3/4 of 5 / 6", "and/or 3/4 of 5 / 6"),
        ("no path", "no path"),
    ],
)
def test_of_a_path_only_its_last_name_is_shown(text: str, shown: str) -> None:
    assert without_paths(text) == shown

"""What is known of an endpoint before it is asked, and what is made of what it says.

What it is asked: tests/edges/test_remote.py.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_ocr_mcp.engines import KNOWN, choose_engine, cpu_engine
from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
from deepseek_ocr_mcp.engines.loops import LONGEST_PIECE, TextGuard
from deepseek_ocr_mcp.errors import BadRequest
from deepseek_ocr_mcp.lifecycle.remote.answers import (
    MAX_RETRY_AFTER_S,
    Completion,
    parse_page,
    retry_after,
    server_message,
)
from deepseek_ocr_mcp.lifecycle.remote.client import LARGEST_SIDE, side_for
from deepseek_ocr_mcp.lifecycle.remote.trouble import Address, Facts
from deepseek_ocr_mcp.modes import RESOLUTIONS

# -- addresses


@pytest.mark.parametrize(
    ("given", "base", "root"),
    [
        ("http://10.0.0.5:8000", "http://10.0.0.5:8000/v1", "http://10.0.0.5:8000"),
        ("http://10.0.0.5:8000/v1/", "http://10.0.0.5:8000/v1", "http://10.0.0.5:8000"),
        ("https://ocr.example.org/team/v1", "https://ocr.example.org/team/v1", "https://ocr.example.org/team"),
        ("https://ocr.example.org/api", "https://ocr.example.org/api", "https://ocr.example.org/api"),
        ("http://[::1]:8000", "http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_an_address_leads_to_the_chat_api_and_to_what_is_beside_it(given: str, base: str, root: str) -> None:
    address = Address.parse(given)
    assert (address.base, address.root, address.login) == (base, root, None)


def test_a_name_and_a_password_are_taken_out_of_an_address() -> None:
    address = Address.parse("https://user:p%40ss@ocr.example.org/v1")
    assert address.login == ("user", "p@ss")
    assert "ss" not in repr(address).replace("address", "").replace("Address", "")
    assert address.base == "https://ocr.example.org/v1"


@pytest.mark.parametrize(
    "wrong", ["10.0.0.5:8000", "ftp://a", "http://", "http://a?b=c", "http://a:b:c", "http://a:0x"]
)
def test_what_is_no_address_is_refused_and_not_repeated(wrong: str) -> None:
    with pytest.raises(BadRequest) as refused:
        Address.parse(wrong)
    assert wrong not in str(refused.value).replace("http://10.0.0.5:8000/v1", "")


def test_pages_are_sent_as_large_as_their_resolution_says() -> None:
    assert {name: side_for(name) for name in RESOLUTIONS} == {
        "auto": LARGEST_SIDE, "tiny": 512, "small": 640, "base": 1024, "large": 1280, "gundam": LARGEST_SIDE,
    }  # fmt: skip


# -- the engine's place among the others


def test_it_is_chosen_by_name_only_and_has_no_worker() -> None:
    spec, reason = choose_engine("openai")
    assert (spec, reason) == (KNOWN["openai"], "OCR_ENGINE=openai.")
    assert spec.is_remote
    assert not any(other.is_remote for other in KNOWN.values() if other is not spec)
    assert cpu_engine("openai") is None
    assert choose_engine("auto")[0] is not spec


def test_what_was_read_is_known_again_if_the_model_has_a_name() -> None:
    from dataclasses import replace

    spec = KNOWN["openai"]
    in_words = replace(spec, asks="words")
    assert spec.version("a") == spec.version("a")
    assert len({spec.version("a"), spec.version("b"), in_words.version("a")}) == 3
    unnamed = "from deepseek_ocr_mcp.engines import KNOWN; print(KNOWN['openai'].version(''))"
    elsewhere = subprocess.run([sys.executable, "-c", unnamed], capture_output=True, text=True, check=True)
    assert elsewhere.stdout.strip() != spec.version("")


def test_nothing_of_the_client_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, deepseek_ocr_mcp.app.run, deepseek_ocr_mcp.cli.main\n"
        "assert 'deepseek_ocr_mcp.lifecycle.remote.manager' not in sys.modules\n"
        "import deepseek_ocr_mcp.lifecycle.remote.manager\n"
        "assert not {'openai', 'PIL', 'numpy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


# -- what an endpoint says


def test_retry_after_is_seconds_or_a_date_and_bounded() -> None:
    from datetime import UTC, datetime, timedelta
    from email.utils import format_datetime

    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after": "-3"}) == 0
    assert retry_after({"retry-after": "1e9"}) == MAX_RETRY_AFTER_S
    assert [retry_after({"retry-after": text}) for text in ("nan", "soon", "", "inf")] == [None] * 4
    assert retry_after({}) is None
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (retry_after({"retry-after": later}) or 0) <= 60


def test_of_an_error_a_sentence_is_quoted_and_never_what_it_repeats_of_the_request() -> None:
    assert server_message({"error": {"message": "The  model\ndoes not exist."}}) == "The model does not exist."
    assert (
        server_message({"message": "no"}) == server_message({"detail": "no"}) == server_message({"error": "no"}) == "no"
    )
    assert len(server_message({"detail": "x" * 10_000})) == 200
    assert server_message({"detail": [{"loc": ["body"], "input": "a secret prompt"}]}) == ""
    assert [server_message(nothing) for nothing in (None, [], 5, {"error": None})] == [""] * 4


def test_only_deepseek_s_answers_are_searched_for_boxes() -> None:
    page, options = PageImage("", 100, 100), ReadOptions("document")
    written = "<|ref|>title<|/ref|><|det|>[[0, 0, 999, 999]]<|/det|>\n# A<\uff5cend\u2581of\u2581sentence\uff5c>"
    found = parse_page(page, options, Facts("m", grounding=True), Completion(written, "stop", 3))
    assert (found.text, [block.box for block in found.blocks]) == ("# A", [(0, 0, 100, 100)])
    plain = parse_page(page, options, Facts("m"), Completion(written, "stop", 3))
    assert (plain.text, plain.blocks) == (written, ())


# -- loops in a text


def fed(text: str, cuts: random.Random | None = None) -> TextGuard:
    guard, at = TextGuard(), 0
    while at < len(text):
        step = cuts.randint(1, 9) if cuts else len(text)
        if guard.add(text[at : at + step]):
            break
        at += step
    return guard


@pytest.mark.parametrize(
    "phrase",
    [
        "The same line again.\n",
        "a",
        "的",
        "同じ行です。",
        "<td>1</td><td>2</td>",
        "0.00 | ",
        "- \u0434\u0430, \u043d\u0435\u0442\n",
    ],
)
def test_a_loop_is_cut_soon_after_its_first_copy_and_what_came_before_is_kept(phrase: str) -> None:
    before = "Invoice 4711 of 3 May, for one chair at 12.50 EUR and delivery to the door.\n"
    guard = fed(before + phrase * 5000, random.Random(1))
    assert guard.kept.startswith(before)
    assert len(guard.kept) <= len(before) + 2 * len(phrase) + LONGEST_PIECE
    assert len(guard.text) < len(before) + 3000


@pytest.mark.parametrize(
    "text",
    [
        "Introduction " + "." * 150 + " 1\nMethods " + "." * 150 + " 7\n",
        "Name " + "_" * 200 + "\nPlace " + "_" * 200,
        "<table>" + ("<tr>" + "<td></td>" * 6 + "</tr>") * 20 + "</table>",
        "\n".join(f"{number}. item {number * 7919 % 1000} at {number * 31 % 97}.50" for number in range(400)),
    ],
)
def test_a_page_that_rightly_repeats_itself_is_whole(text: str) -> None:
    assert fed(text, random.Random(2)).kept == text


@given(st.text(max_size=400), st.integers(0, 2**32))
def test_where_a_text_is_cut_up_on_its_way_makes_no_difference(text: str, seed: int) -> None:
    text = text + text * 3
    assert fed(text, random.Random(seed)).kept == text[: len(fed(text, random.Random(seed)).kept)]
    whole, pieces = TextGuard(), TextGuard()
    cut_whole = whole.add(text)
    cut_pieces = any(pieces.add(char) for char in text)
    assert cut_whole == cut_pieces
    assert not cut_whole or whole.kept == pieces.kept

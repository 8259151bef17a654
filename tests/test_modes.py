"""What agents call modes and resolutions, and what they mean by it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deepseek_ocr_mcp.models import OcrRequest
from deepseek_ocr_mcp.modes import MODES, RESOLUTIONS, meant_mode, meant_resolution


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("markdown", "document"), ("MD", "document"), ("table", "document"), (" Document ", "document"),
        ("convert to markdown", "document"), ("auto", "document"), ("OCR", "ocr"), ("lines", "ocr"),
        ("grounding", "ocr"), ("text", "free"), ("plain", "free"), ("plain-text", "free"), ("Free OCR", "free"),
        ("raw_text", "free"), ("handwriting", "free"), ("chart", "figure"), ("parse_figure", "figure"),
        ("caption", "describe"), ("search", "find"), ("'find'", "find"), ("question", "freeform"),
    ],
)  # fmt: skip
def test_a_mode_has_other_names(name: str, mode: str) -> None:
    assert meant_mode(name) == mode


@pytest.mark.parametrize("name", ["translate", "8k", "document2", "find me", "ocr,free"])
def test_a_name_that_nobody_knows_comes_back_as_it_is(name: str) -> None:
    assert meant_mode(name) == name
    assert meant_resolution(name) == name


def test_no_mode_is_the_one_that_the_other_arguments_ask_for() -> None:
    assert meant_mode("") == "document"
    assert meant_mode(" ", find_term="x") == "find"
    assert meant_mode("", custom_prompt="x") == "freeform"
    assert meant_mode("", find_term="x", custom_prompt="y") == "find"
    assert meant_mode("", find_term=" ") == "document"
    assert meant_mode("document", find_term="x") == "document", "a mode that was named is kept"


@pytest.mark.parametrize(
    ("name", "resolution"),
    [
        ("", "auto"), ("high", "auto"), ("High-Res", "auto"), ("best", "auto"), ("low", "small"), ("medium", "base"),
        ("1024", "base"), ("1280px", "large"), ("640x640", "small"), ("512", "tiny"), ("300", "auto"),
        ("300 dpi", "auto"), ("512dpi", "auto"), ("4096", "auto"), ("GUNDAM", "gundam"), ("Large", "large"),
    ],
)  # fmt: skip
def test_a_resolution_has_other_names(name: str, resolution: str) -> None:
    assert meant_resolution(name) == resolution


@given(st.text(max_size=30))
def test_any_name_is_one_of_ours_or_unchanged(name: str) -> None:
    assert meant_mode(name) in (*MODES, name)
    assert meant_resolution(name) in (*RESOLUTIONS, name)
    for known in (*MODES, *RESOLUTIONS):
        assert (meant_mode(known) if known in MODES else meant_resolution(known)) == known


def test_a_request_speaks_our_words_whoever_makes_it() -> None:
    request = OcrRequest(image="x", mode="Markdown", resolution="high", pages=[1, 3.0, "5-"])  # type: ignore[arg-type]
    assert (request.mode, request.resolution, request.pages) == ("document", "auto", "1,3,5-")
    assert OcrRequest(image="x", find_term="y").mode == "find"
    assert OcrRequest(image="x").mode == "document"


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (4417, "4417"), (4417.0, "4417"), (12.5, "12.5"), (["4417"], "4417"), ([4417], "4417"), ([], ""),
        (["a", 2], '["a", "2"]'), (("ü", "b"), '["ü", "b"]'),
    ],
)  # fmt: skip
def test_a_term_may_be_a_number_or_a_list(term: object, text: str) -> None:
    assert OcrRequest(image="x", find_term=term).find_term == text  # type: ignore[arg-type]


@pytest.mark.parametrize("term", [True, {"text": "a"}, [["a"]], [True], object()])
def test_what_is_no_term_is_refused_by_its_type(term: object) -> None:
    with pytest.raises(ValidationError):
        OcrRequest(image="x", find_term=term)  # type: ignore[arg-type]


def test_arguments_without_effect_are_noted() -> None:
    def notes(**arguments: str) -> list[str]:
        return [note.text for note in OcrRequest(image="x", **arguments).notes]

    assert notes() == notes(find_term="y") == notes(mode="find", find_term="y") == notes(custom_prompt="Why?") == []
    assert "mode=document was not used" in notes(mode="document", find_term="y")[0]
    assert "find_term was not used" in notes(mode="ocr", find_term="y")[0]
    assert "custom_prompt was not used" in notes(mode="document", custom_prompt="Why?")[0]
    assert "custom_prompt was not used" in notes(find_term="y", custom_prompt="Why?")[0]
    assert OcrRequest(image="x", mode="markdown", find_term="y").model_copy().notes


@pytest.mark.parametrize("pages", [True, 1.5, math.nan, math.inf, {"from": 1, "until": 2}, {}, object()])
def test_what_is_no_page_range_is_refused_by_its_type(pages: object) -> None:
    with pytest.raises(ValidationError):
        OcrRequest(image="x", pages=pages)  # type: ignore[arg-type]

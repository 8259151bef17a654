"""Units and their names."""

from __future__ import annotations

from dataclasses import replace

from deepseek_ocr_mcp.batch.state import Options, Unit, UnitText, units_of
from deepseek_ocr_mcp.engines.base import ReadOptions

OPTIONS = Options(ReadOptions("document"), "", "auto", 200, 1_000_000, "rapidocr 3.10")


def test_a_document_is_cut_into_units_that_do_not_depend_on_the_workers() -> None:
    assert [unit.pages for unit in units_of("d", [1])] == ["1"]
    assert [unit.pages for unit in units_of("d", list(range(1, 41)))] == ["1-16", "17-32", "33-40"]
    assert [unit.pages for unit in units_of("d", [3, 5, 16, 17, 400])] == ["3,5,16", "17", "400"]
    assert Unit("abc", "1-16").name == ".batch/units/ab/abc-1-16.json"


def test_whatever_changes_a_text_changes_the_name_of_its_document() -> None:
    others = [
        replace(OPTIONS, reading=ReadOptions("free")),
        replace(OPTIONS, pages="1"),
        replace(OPTIONS, text_layer="ignore"),
        replace(OPTIONS, dpi=300),
        replace(OPTIONS, max_pixels=2),
        replace(OPTIONS, version="rapidocr 3.11"),
    ]
    names = {options.document("ff") for options in (OPTIONS, *others)}
    assert len(names) == 1 + len(others)
    assert OPTIONS.document("ff") != OPTIONS.document("fe")
    assert others[-1].asked == OPTIONS.asked, "an older version was asked the same"


def test_a_unit_comes_back_as_it_was_put() -> None:
    text = UnitText("a\ud800 é\n", 2, 4, 0.5, "loop", "2", "deepseek", "m", "cuda", {"page-1-figure-1.png": "AAAA"})
    assert UnitText.load(text.dump()) == text

"""Letters in the drawing of a page without its text."""

from __future__ import annotations

import numpy as np
import pypdfium2
import pytest

from deepseek_ocr_mcp.decoder.textlayer.content import Clock
from deepseek_ocr_mcp.decoder.textlayer.drawing import draw, scale_for
from deepseek_ocr_mcp.decoder.textlayer.drawn_text import DrawnText, drawn_text
from pdf_maker import Sheet, pdf

NOTHING = np.zeros((0, 4))


def area(sheet: Sheet) -> tuple[float, ...] | None:
    """Where letters are, in points."""
    found, scale = drawn(sheet, NOTHING)
    return None if found.area is None else tuple(side / scale for side in found.area)


def drawn(sheet: Sheet, written: np.ndarray) -> tuple[DrawnText, float]:
    """What is found beside characters of a text, in points, and pixels per point."""
    document = pypdfium2.PdfDocument(pdf(sheet))
    page = document[0]
    clock = Clock(lambda: None)
    scale = scale_for(*sheet.size)
    try:
        found = drawn_text(draw(page, scale, clock), lambda: written * scale, clock)
    finally:
        page.close()
        document.close()
    return found, scale


def test_letters_drawn_as_strokes_are_found_where_they_are() -> None:
    left, top, right, bottom = area(Sheet().strokes(100, 300, "PLAN SECTION", 20)) or (0, 0, 0, 0)
    assert abs(left - 100) < 3
    assert abs(top - 280) < 3
    assert abs(bottom - 300) < 3
    assert 240 < right < 285


def test_letters_on_a_dark_ground_are_found() -> None:
    sheet = Sheet().box(80, 260, 400, 320, "0.1 0.1 0.4").raw("1 G").strokes(100, 300, "PLAN SECTION", 20)
    assert area(sheet) is not None


def test_a_letter_far_from_its_line_is_in_the_area() -> None:
    _, _, right, _ = area(Sheet().strokes(100, 300, "PLAN SECTION", 20).strokes(450, 300, "A", 20)) or (0, 0, 0, 0)
    assert right > 455


@pytest.mark.parametrize("matrix", ["0 1 -1 0 300 300", "0 -1 1 0 300 600"], ids=["upwards", "downwards"])
def test_letters_that_run_along_the_side_are_found(matrix: str) -> None:
    sheet = Sheet().raw(f"q {matrix} cm").raw("1 0 0 1 0 -842 cm").strokes(0, 0, "PLAN SECTION", 14).raw("Q")
    assert area(sheet) is not None


def test_short_words_are_found() -> None:
    """Letters of plotters are all as wide: their shapes tell that they are unlike."""
    assert area(Sheet().strokes(100, 300, "LID", 14)) is not None
    sheet = Sheet().raw("q 0 1 -1 0 300 300 cm").raw("1 0 0 1 0 -842 cm").strokes(0, 0, "RAISED LEAD", 14).raw("Q")
    assert area(sheet) is not None


@pytest.mark.parametrize(
    ("letters", "ends", "count"),
    [("LE", [(120, 126)], 2), ("E", [(93, 98), (106.5, 112)], 1), ("E", [(93, 98)], 0), ("LE", [(170, 176)], 0)],
    ids=["a word before text", "a letter within text", "a letter beside text", "a word far from text"],
)
def test_letters_on_a_line_of_the_text_are_found(letters: str, ends: list[tuple[float, float]], count: int) -> None:
    written = np.array([(left, 300.0, right, 12.0) for left, right in ends])
    found, _ = drawn(Sheet().strokes(100, 300, letters, 8.6), written)
    assert len(found.beside) == count
    assert found.area is None


def test_letters_of_a_poster_are_found() -> None:
    thick = Sheet(parts=[part.replace("1.2 w", "9 w") for part in Sheet().strokes(60, 500, "CANAL", 110).parts])
    assert area(thick) is not None


def grid() -> Sheet:
    sheet = Sheet()
    for n in range(20):
        sheet.rule(72, 100 + 18 * n, 500, 100 + 18 * n)
    for x in range(72, 501, 107):
        sheet.rule(x, 100, x, 442)
    return sheet


def dots() -> Sheet:
    sheet = Sheet()
    for n in range(60):
        sheet.box(72 + 7 * n, 300, 75 + 7 * n, 306)
    return sheet


def chart() -> Sheet:
    sheet = Sheet().rule(72, 500, 500, 500).rule(72, 200, 72, 500)
    for n in range(20):
        sheet.rule(72 + 20 * n, 500, 72 + 20 * n, 506)
        sheet.box(76 + 20 * n, 500 - 7 * (n * 13 % 37), 90 + 20 * n, 500, "0.2 0.4 0.8")
    return sheet


def column_of_boxes() -> Sheet:
    """Some of them ticked."""
    sheet = Sheet()
    for n in range(24):
        sheet.raw(f"72 {700 - 16 * n} 10 10 re S")
        if n % 3 == 0:
            sheet.raw(f"72 {700 - 16 * n} m 82 {710 - 16 * n} l S 72 {710 - 16 * n} m 82 {700 - 16 * n} l S")
    return sheet


@pytest.mark.parametrize(
    "sheet", [Sheet(), grid(), dots(), chart(), column_of_boxes(), Sheet().box(60, 60, 500, 700, "0.9 0.9 1")]
)
def test_rules_dots_bars_and_grounds_are_no_letters(sheet: Sheet) -> None:
    assert area(sheet) is None


def test_pieces_that_touch_by_a_corner_are_one() -> None:
    """A diagonal of single pixels, and a ring: one letter each, whichever way its rows are found."""
    drawing = np.full((120, 200, 4), 255, np.uint8)
    for k in range(20):
        drawing[40 + k, 40 + k] = 0
    drawing[40:60, 80:100] = 0
    drawing[44:56, 84:96] = 255
    assert drawn_text(drawing, lambda: NOTHING, Clock(lambda: None)) == DrawnText()

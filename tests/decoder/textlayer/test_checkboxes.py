"""Boxes to tick that a page draws as shapes."""

from __future__ import annotations

from pathlib import Path

import pypdfium2
import pytest

from answering import layer_answer
from deepseek_ocr_mcp.decoder.textlayer.layer import PagePlace, read_layer
from deepseek_ocr_mcp.documents.reader import LayerText
from pdf_maker import A4, Sheet, pdf


def lines(folder: Path, sheet: Sheet) -> list[str]:
    path = folder / "page.pdf"
    path.write_bytes(pdf(sheet))
    document = pypdfium2.PdfDocument(path)
    try:
        found = read_layer(PagePlace(document, 0, str(path), (827, 1170)), lambda: None)
    finally:
        document.close()
    assert found["usable"]
    return [line for line in layer_answer(LayerText(0, 0, **found), "free").text.split("\n") if line]


def circle(x: float, y: float, radius: float) -> str:
    k = 0.5523 * radius
    return (
        f"{x + radius} {y} m {x + radius} {y + k} {x + k} {y + radius} {x} {y + radius} c "
        f"{x - k} {y + radius} {x - radius} {y + k} {x - radius} {y} c "
        f"{x - radius} {y - k} {x - k} {y - radius} {x} {y - radius} c "
        f"{x + k} {y - radius} {x + radius} {y - k} {x + radius} {y} c h"
    )


def form(mark: str, frame: str = "{x} {y} 10 10 re S") -> Sheet:
    """Two labels behind boxes, the first of which has a mark; `{x}` and `{y}` are its lower left corner."""
    sheet = Sheet().raw("0.8 w")
    for n, label in enumerate(("by post", "by courier")):
        y = A4[1] - 102 - 22 * n
        sheet.raw(frame.format(x=72, y=y))
        if n == 0:
            sheet.raw(mark.format(x=72, y=y, x1=74, y1=y + 2, x2=80, y2=y + 8))
        sheet.text(88, 100 + 22 * n, label)
    return sheet


MARKS = {
    "a cross": "{x1} {y1} m {x2} {y2} l S {x1} {y2} m {x2} {y1} l S",
    "a cross as large as the box": "{x} {y} m {x2} {y2} l S {x} {y2} m {x2} {y} l S",
    "a tick": "{x1} {y} m {x1} {y1} l {x2} {y2} l S",
    "a filled square": "{x1} {y1} 6 6 re f",
    "a letter": "BT /F1 10 Tf 1 0 0 1 {x1} {y1} Tm (X) Tj ET",
}


@pytest.mark.parametrize("mark", MARKS)
def test_a_drawn_box_is_ticked_or_not(tmp_path: Path, mark: str) -> None:
    assert lines(tmp_path, form(MARKS[mark])) == ["[x] by post", "[ ] by courier"]


def test_a_round_button_is_chosen_or_not(tmp_path: Path) -> None:
    sheet = Sheet().raw("0.8 w")
    for n, label in enumerate(("by post", "by courier")):
        y = A4[1] - 97 - 22 * n
        sheet.raw(circle(77, y, 5) + " S")
        if n == 0:
            sheet.raw(circle(77, y, 2.5) + " f")
        sheet.text(88, 100 + 22 * n, label)
    assert lines(tmp_path, sheet) == ["[x] by post", "[ ] by courier"]


def test_boxes_within_a_line_stand_before_their_labels(tmp_path: Path) -> None:
    y = A4[1] - 101
    sheet = Sheet().raw("0.8 w").text(72, 100, "Sex:").text(114, 100, "male").text(170, 100, "female")
    sheet.raw(f"100 {y} 9 9 re S 156 {y} 9 9 re S 158 {y + 2} m 163 {y + 7} l S 158 {y + 7} m 163 {y + 2} l S")
    assert lines(tmp_path, sheet) == ["Sex: [ ] male [x] female"]


def test_a_light_tick_on_a_coloured_box_is_a_tick_and_another_sign_is_a_picture(tmp_path: Path) -> None:
    box = "0.1 0.4 0.8 rg {x} {y} 10 10 re f 0 g"
    left, low = 72, A4[1] - 102
    ticked = f"1 G 1.6 w {left + 2} {low + 5} m {left + 4} {low + 2.6} l {left + 8.4} {low + 7.6} l S 0 G 0.8 w"
    bar = f"1 g {left + 4} {low + 2} 2 6 re f 0 g"
    for sign, text in ((ticked, ["[x] by post"]), (bar, ["by post"])):
        sheet = Sheet().raw(box.format(x=left, y=low)).raw(sign).text(88, 100, "by post")
        assert lines(tmp_path, sheet) == text


def test_a_field_of_single_figures_and_a_swatch_of_colour_are_no_boxes_to_tick(tmp_path: Path) -> None:
    sheet = Sheet().raw("0.8 w").text(72, 100, "Code").text(88, 140, "Sales of the year")
    for n, figure in enumerate("4071"):
        sheet.raw(f"{110 + 14 * n} {A4[1] - 103} 14 14 re S").text(113 + 14 * n, 100, figure)
    sheet.raw(f"0.1 0.4 0.8 rg 0 G 72 {A4[1] - 141} 9 9 re B 0 g")
    found = " ".join(lines(tmp_path, sheet))
    assert "[" not in found
    assert found.replace(" ", "") == "Code4071Salesoftheyear"


def test_a_filled_box_beside_empty_ones_of_its_size_and_colour_is_ticked(tmp_path: Path) -> None:
    y = A4[1] - 101
    sheet = Sheet().raw("0.8 w").text(84, 100, "rye").text(144, 100, "oats").text(204, 100, "wheat")
    sheet.raw(f"72 {y} 9 9 re S 132 {y} 9 9 re B 192 {y} 9 9 re S")
    assert lines(tmp_path, sheet) == ["[ ] rye [x] oats [ ] wheat"]

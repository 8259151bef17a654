"""Figures that a font draws raised have the size and the baseline of their line; their ink tells them."""

from __future__ import annotations

import pytest

from deepseek_ocr_mcp.decoder.textlayer.content import Clock, Content, Glyph, Run
from deepseek_ocr_mcp.decoder.textlayer.lines import marks_of

CLOCK = Clock(lambda: None)
SIZE, BASE, HEIGHT = 10.0, 100.0, 200.0


def marks(text: str, ink: dict[int, tuple[float, float]]) -> str:
    """The text of one command. Its figures are 7 points high, but for those in `ink`: bottom and top above the base."""
    run, glyphs = Run(size=SIZE), []
    for n, char in enumerate(text):
        bottom, top = ink.get(n, (0.0, 7.0))
        x = 50 + 6 * n
        glyphs.append(Glyph(char, (x, BASE - top, x + 5, BASE - bottom), x, BASE, run))
    content = Content(300, HEIGHT, glyphs=glyphs)
    return "".join(mark.text for mark in marks_of(list(enumerate(glyphs)), 0.0, content, CLOCK))


def test_a_figure_whose_ink_is_small_and_high_is_raised() -> None:
    assert marks("24.912", {5: (3.6, 7.0)}) == "24.91²"


@pytest.mark.parametrize("ink", [(0.0, 7.0), (-2.0, 4.6), (0.0, 4.6), (-0.2, 6.8)])
def test_usual_and_old_style_figures_stay(ink: tuple[float, float]) -> None:
    assert marks("24.912", {5: ink}) == "24.912"


def test_a_quotation_mark_is_no_raised_figure() -> None:
    assert marks("5'", {1: (4.5, 7.0)}) == "5'"

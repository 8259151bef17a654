"""Finds the words that a bar strikes out: the page still shows them, and the text holds them like all others.

Pure Python. Boxes are points of the upright page.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from .content import Box, Clock, Glyph
from .lines import LayerLine

__all__ = ["struck_words"]

# Of the size of the text, tuned on bars by Chromium, LibreOffice, Word and by annotations of PDFium and MuPDF:
HIGH_EM: Final = 0.15  # of a bar at most
OVER_BASE_EM: Final = (0.14, 0.45)  # how far its middle is over the baseline; an underline is below it
BEYOND_EM: Final = 0.5  # it ends so near to its words, and a rule of a table does not
LEAST: Final = 2  # letters or figures: a dash may lie on one


def struck_words(
    lines: Iterable[LayerLine], bars: Sequence[Box], is_thin: Callable[[Box, float], bool], clock: Clock
) -> list[str]:
    """The words below level bars, in the order of the lines.

    Args:
        is_thin: whether a bar is drawn, and no higher than so many points: the box of a stroke does not say its width.
    """
    level = sorted((bar for bar in bars if bar[2] - bar[0] > bar[3] - bar[1]), key=lambda bar: bar[1] + bar[3])
    middles = [(bar[1] + bar[3]) / 2 for bar in level]
    found: list[str] = []
    for line in lines:
        clock.tick()
        if line.vertical or line.placed is not None or line.glyphs[0].run.angle:
            continue
        low, high = (line.base - share * line.size for share in reversed(OVER_BASE_EM))
        struck: set[int] = set()
        for bar in level[bisect_left(middles, low) : bisect_right(middles, high)]:
            clock.tick()
            if (below := _below(bar, line)) and is_thin(bar, HIGH_EM * line.size):
                struck |= below
        if struck:
            found += _words(line, struck)
    return found


def _below(bar: Box, line: LayerLine) -> set[int]:
    """The numbers of the line's marks that a bar strikes out."""
    y = (bar[1] + bar[3]) / 2
    under = {n for n, glyph in enumerate(line.glyphs) if _crosses(bar, y, glyph)}
    if sum(line.marks[n].text.isalnum() for n in under) < LEAST:
        return set()
    left = min(line.marks[n].glyph.box[0] for n in under)
    right = max(line.marks[n].glyph.box[2] for n in under)
    reach = BEYOND_EM * line.size
    return under if bar[0] >= left - reach and bar[2] <= right + reach else set()


def _crosses(bar: Box, y: float, glyph: Glyph) -> bool:
    x1, y1, x2, y2 = glyph.box
    if not bar[0] <= (x1 + x2) / 2 <= bar[2]:
        return False
    return not glyph.text.isalnum() or y1 < y < y2


def _words(line: LayerLine, struck: set[int]) -> list[str]:
    """What a line says at its marks that are struck out, each stretch of them as one string."""
    found = [""]
    for char, mark in zip(line.text, line.at, strict=True):
        if mark in struck or (mark < 0 and found[-1]):
            found[-1] += char
        else:
            found.append("")
    return [words.strip() for words in found if any(char.isalnum() for char in words)]

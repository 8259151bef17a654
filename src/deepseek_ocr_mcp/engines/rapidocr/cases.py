"""Tells small letters from capitals, and from the figure 0, by the height of their ink.

The model sees a line 48 rows high, whatever its size: alone in a cell, `x` looks like `X`, and `o` like `0`, another
number. Beside figures and tall letters of its line or row, the height of a letter tells which of the two it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..sheet import LONG, Pixels, Region, crop_region
from .heights import LOW
from .recognise import ROOM, LineReading, inked_rows

__all__ = ["with_cases"]

ON_LINE: Final = 0.15  # of a tall letter's height: how far apart the feet of two letters of a row may be
SAME_ROW: Final = 0.5  # of a region's height: how far apart the middles of two cells of a row may be
WITNESSES: Final = 3  # tall letters, the nearest ones, tell the size of the type
LEVEL_DEG: Final = 2.0  # cells that lean more are not measured

ALIKE: Final = re.compile("[OCSVWXZ0o]{1,2}")
TALL: Final = re.compile("[A-Zbdfhkl0-9]")
WITHOUT_FEET: Final = re.compile("[A-PR-Za-fhik-or-x0-9.… ]+")
"""Text whose ink reaches from the line to the height of its tallest letter: nothing hangs, nothing is raised."""
LINING: Final = re.compile("[012. ]*[12][012. ]*")
"""Numbers that tell how high a 0 is: in old style, 0, 1 and 2 are as low as an o, and the other figures are not."""


@dataclass(frozen=True, slots=True)
class _Ink:
    """The rows of a region's ink on the page, in pixels."""

    top: float
    bottom: float

    @property
    def high(self) -> float:
        return self.bottom - self.top


def with_cases(pixels: Pixels, regions: Sequence[Region], readings: Sequence[LineReading]) -> list[LineReading]:
    """The readings of an upright page; one or two letters alone in their region have the case that their ink shows."""
    out = list(readings)
    for n, reading in enumerate(readings):
        if ALIKE.fullmatch(reading.text.strip()) and _is_level(regions[n]):
            out[n] = replace(reading, text=_read_by_height(pixels, regions, readings, n))
    return out


def _is_level(region: Region) -> bool:
    return abs(region.angle) <= LEVEL_DEG and not (region.tall and region.length >= LONG * region.thickness)


def _read_by_height(pixels: Pixels, regions: Sequence[Region], readings: Sequence[LineReading], n: int) -> str:
    """The text of a region, if its ink can be compared with the ink of its row."""
    text, ink = readings[n].text.strip(), _ink_of(pixels, regions[n])
    beside = [
        m
        for m, other in enumerate(readings)
        if m != n and _is_witness(other) and abs(regions[m].y - regions[n].y) < SAME_ROW * regions[n].height
    ]
    row = _median_ink(pixels, regions, beside, n)
    if ink is None or row is None or abs(row.bottom - ink.bottom) > ON_LINE * row.high:
        return readings[n].text
    if ink.high > LOW * row.high:
        return readings[n].text
    if "0" in text:
        numbers = [m for m, other in enumerate(readings) if LINING.fullmatch(other.text) and m != n]
        figures = _median_ink(pixels, regions, numbers, n)
        if figures is None or ink.high > LOW * figures.high:
            return readings[n].text
    return text.replace("0", "o").lower()


def _is_witness(reading: LineReading) -> bool:
    text = reading.text.strip()
    return (
        not reading.is_noise
        and not ALIKE.fullmatch(text)
        and bool(WITHOUT_FEET.fullmatch(text))
        and bool(TALL.search(text))
    )


def _median_ink(pixels: Pixels, regions: Sequence[Region], numbers: Sequence[int], n: int) -> _Ink | None:
    """The ink of the middle one of the regions that are nearest to a region; None where there is none."""
    near = sorted(numbers, key=lambda m: math.dist((regions[m].x, regions[m].y), (regions[n].x, regions[n].y)))
    inks = [ink for m in near[:WITNESSES] if _is_level(regions[m]) and (ink := _ink_of(pixels, regions[m]))]
    return sorted(inks, key=lambda ink: ink.high)[len(inks) // 2] if inks else None


def _ink_of(pixels: Pixels, region: Region) -> _Ink | None:
    """The ink of a level region; None where it is not told from its paper."""
    roomy = region.thicker(ROOM)
    crop = crop_region(pixels, roomy, tall=False)
    begin, end = inked_rows(crop)
    if (begin, end) == (0, len(crop)):
        return None
    top = max(0.0, math.floor(roomy.y - roomy.height / 2))
    return _Ink(top + begin, top + end)

"""Tells small letters from capitals, and from the figure 0, by the height of their ink.

The model sees a line 48 rows high, whatever its size: alone in a cell, `x` looks like `X`, and `o` like `0`, another
number. Beside figures and tall letters of its line or row, the height of a letter tells which of the two it is.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

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
    """The readings of an upright page; one or two letters alone in their region have the case that their ink shows.

    Args:
        pixels: the upright page.
        regions: its regions.
        readings: the reading of each region.
    """
    alone = [n for n, each in enumerate(readings) if ALIKE.fullmatch(each.text.strip()) and _is_level(regions[n])]
    if not alone:
        return list(readings)
    page = _Inked.of(pixels, regions, readings)
    out = list(readings)
    for n in alone:
        out[n] = replace(readings[n], text=page.read_by_height(n, readings[n].text))
    return out


def _is_level(region: Region) -> bool:
    return abs(region.angle) <= LEVEL_DEG and not (region.tall and region.length >= LONG * region.thickness)


@dataclass(frozen=True, slots=True)
class _Inked:
    """The regions of a page, whose ink is measured once, and the numbers of those that others are compared with."""

    pixels: Pixels
    regions: Sequence[Region]
    witnesses: Sequence[int]
    """Regions with text that reaches from the line to the height of its tallest letter."""
    numbers: Sequence[int]
    """Regions with numbers that tell how high a 0 is."""
    inks: dict[int, _Ink | None]

    @classmethod
    def of(cls, pixels: Pixels, regions: Sequence[Region], readings: Sequence[LineReading]) -> Self:
        witnesses = [n for n, each in enumerate(readings) if _is_witness(each)]
        numbers = [n for n, each in enumerate(readings) if LINING.fullmatch(each.text)]
        return cls(pixels, regions, witnesses, numbers, {})

    def read_by_height(self, n: int, given: str) -> str:
        """The text of a region, if its ink can be compared with the ink of its row; else the given one."""
        region, ink = self.regions[n], self._ink(n)
        beside = [m for m in self.witnesses if abs(self.regions[m].y - region.y) < SAME_ROW * region.height]
        row = self._median_ink(beside, n)
        if ink is None or row is None or abs(row.bottom - ink.bottom) > ON_LINE * row.high:
            return given
        if ink.high > LOW * row.high:
            return given
        if "0" in given:
            figures = self._median_ink(self.numbers, n)
            if figures is None or ink.high > LOW * figures.high:
                return given
        return given.strip().replace("0", "o").lower()

    def _median_ink(self, numbers: Sequence[int], n: int) -> _Ink | None:
        """The ink of the middle one of the regions that are nearest to a region; None where there is none."""
        here = self.regions[n]
        places = ((math.dist((self.regions[m].x, self.regions[m].y), (here.x, here.y)), m) for m in numbers if m != n)
        near = heapq.nsmallest(WITNESSES, places)
        inks = [ink for _, m in near if _is_level(self.regions[m]) and (ink := self._ink(m))]
        return sorted(inks, key=lambda ink: ink.high)[len(inks) // 2] if inks else None

    def _ink(self, n: int) -> _Ink | None:
        if n not in self.inks:
            self.inks[n] = _ink_of(self.pixels, self.regions[n])
        return self.inks[n]


def _is_witness(reading: LineReading) -> bool:
    text = reading.text.strip()
    return (
        not reading.is_noise
        and not ALIKE.fullmatch(text)
        and bool(WITHOUT_FEET.fullmatch(text))
        and bool(TALL.search(text))
    )


def _ink_of(pixels: Pixels, region: Region) -> _Ink | None:
    """The ink of a level region; None where it is not told from its paper."""
    roomy = region.thicker(ROOM)
    crop = crop_region(pixels, roomy, tall=False)
    begin, end = inked_rows(crop)
    if (begin, end) == (0, len(crop)):
        return None
    top = max(0.0, math.floor(roomy.y - roomy.height / 2))
    return _Ink(top + begin, top + end)

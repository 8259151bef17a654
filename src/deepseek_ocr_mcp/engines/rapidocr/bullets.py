"""Finds the marks of lists that stand too far from their lines, and are too small, for the detection model.

A mark is a round or square spot of ink with white around it, left of a line. One such spot may be a speck: at least
two of one size must stand under each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ...layout.lines import LIST_MARK
from ..sheet import Pixels, Region
from .recognise import LineReading

__all__ = ["with_bullets"]

# Of the height of a line. All shapes are those of the bullets in Liberation, DejaVu and Noto, 14 to 30 pixels. Wider
# bounds take specks and letters for bullets; narrower ones lose the marks of a list, whose items become a paragraph.
WORD: Final = 1.2  # how long a line is at least
REACH: Final = 3.5  # from a line to its mark
GAPS: Final = (0.1, -0.12)  # least white between both; detection adds 0.17 to a line, where it does not miss a letter
SIZE: Final = (0.15, 0.6)  # of the mark
ROUND: Final = 1.35  # times as wide as high, or as high as wide, at most
FILLED: Final = 0.68  # of its own box is ink; a disc fills 0.78
MIDDLE: Final = (0.3, 0.75)  # where the middle of the mark is
SAME_PLACE: Final = 0.25  # how far from one under the other
SAME_SIZE: Final = 1.3  # times as large
LEAST_CONTRAST: Final = 64  # of 255 between paper and ink
INK: Final = 0.5  # of the strongest contrast
LEVEL_DEG: Final = 2.0  # lines that lean more are not searched


@dataclass(frozen=True, slots=True)
class _Bullet:
    """A mark, and the height of its line."""

    region: Region
    height: float


def with_bullets(
    pixels: Pixels, regions: Sequence[Region], readings: Sequence[LineReading]
) -> tuple[list[Region], list[LineReading]]:
    """The regions of an upright page and what was read there, with the marks of its lists.

    Args:
        pixels: the upright page.
        regions: its regions.
        readings: the reading of each region.
    """
    found = [
        bullet
        for region, reading in zip(regions, readings, strict=True)
        if _may_be_item(region, reading)
        and (bullet := next(filter(None, (_bullet_of(pixels, region, regions, gap) for gap in GAPS)), None))
    ]
    marks = [bullet.region for bullet in found if any(_are_alike(bullet, other) for other in found)]
    return [*regions, *marks], [*readings, *(LineReading("•", 1.0, (0.5,)) for _ in marks)]


def _may_be_item(region: Region, reading: LineReading) -> bool:
    is_level = abs(region.angle) <= LEVEL_DEG and not region.tall and region.width >= WORD * region.height
    return is_level and not reading.is_noise and LIST_MARK.match(reading.text) is None


def _are_alike(one: _Bullet, other: _Bullet) -> bool:
    if one is other or abs(one.region.x - other.region.x) > SAME_PLACE * one.height:
        return False
    small, large = sorted((one.region.width, other.region.width))
    return large <= SAME_SIZE * small + 1


def _bullet_of(pixels: Pixels, line: Region, regions: Sequence[Region], gap: float) -> _Bullet | None:
    """The mark left of a line, if there is one and nothing else between it and the next text on its left.

    Args:
        gap: from the mark to the region of its line, at least, in heights of the line.
    """
    height, left = line.height, line.x - line.width / 2
    top, bottom = max(0, round(line.y - height / 2)), min(len(pixels), round(line.y + height / 2))
    beside = (
        other.x + other.width / 2
        for other in regions
        if other is not line and abs(other.y - line.y) < (other.height + height) / 2 and other.x < line.x
    )
    begin, end = round(max([0.0, left - REACH * height, *beside])), round(left - gap * height)
    if end - begin < SIZE[0] * height or bottom - top < 8:
        return None
    window = pixels[top:bottom, begin:end].astype(np.int16).sum(axis=2)
    away = np.abs(window - np.median(window))
    if away.max() < 3 * LEAST_CONTRAST:
        return None
    ink = away > INK * away.max()
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    wide, high = int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
    if not SIZE[0] * height <= min(wide, high) <= max(wide, high) <= min(SIZE[1] * height, ROUND * min(wide, high) + 1):
        return None
    if columns[0] == 0 or columns[-1] == ink.shape[1] - 1 or rows[0] == 0 or rows[-1] == len(ink) - 1:
        return None
    middle = (rows[0] + rows[-1] + 1) / 2 / len(ink)
    spot = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if spot.mean() < FILLED or not MIDDLE[0] <= middle <= MIDDLE[1]:
        return None
    return _Bullet(Region(begin + float(columns[0]) + wide / 2, line.y, wide + 2.0, height, 0.0), height)

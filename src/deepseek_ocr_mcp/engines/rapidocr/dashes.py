"""Finds dashes that stand alone: in a table they say that there is nothing, and the detection model sees none.

A dash is looked for where a row of the page crosses a column, and nothing was detected: between the pixels of other
rows and columns there is white there, or a dash.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...layout.lines import NO_SPACES
from ..sheet import LONG, Pixels, Region, crop_region
from .recognise import LineReading, inked_rows

__all__ = ["with_dashes"]

LOOKALIKES: Final = frozenset("一ー丨二")
"""Chinese and Japanese characters that a dash is taken for, alone or over the rule of its row.

On a page with others of them, they are themselves.
"""

DASHES: Final = frozenset("-–—−_=~")
# All shapes are those of hyphens and dashes in Liberation, DejaVu and Noto, 14 to 30 pixels, drawn and scanned. Wider
# bounds take specks for dashes; narrower ones lose the dash of a typeface, and its cell is empty.
INK_EM: Final = 0.8  # of the size of its type is the ink of a cell high: digits are 0.7, words with a tail 0.95
LEAST_CONTRAST: Final = 64  # of 255 between paper and ink
INK: Final = 0.5  # of the strongest contrast: a pixel with that much is ink
MIN_WIDTH, MAX_WIDTH, MAX_HEIGHT = 0.15, 1.3, 0.2  # of the size of the type
FLATNESS: Final = 1.5  # times as wide as high
ROOM_EM: Final = 0.25  # around a region in which a dash may be
RULE: Final = 0.9  # of a row or column of pixels is ink: a rule
FILLED: Final = 0.75  # of its own box is ink
MIDDLE: Final = (0.25, 0.75)  # of a row's height: above is an overline, below a full stop or an underline
HYPHEN, EN_DASH = 0.42, 0.75  # of the size: up to here a dash is a hyphen, up to there an en dash

SAME_ROW: Final = 0.3  # of a region's height: how far apart the middles of two cells of a row may be
LIKE_HEIGHT: Final = 1.7  # times: how much higher another cell of the same column may be
NEAR_ROWS: Final = 12  # heights: cells further up or down belong to another table
MAX_COLUMN: Final = 12  # heights: what is wider is a line of text, not a cell
LEVEL_DEG: Final = 2.0  # of tilt: a table that is tilted more is not searched


@dataclass(frozen=True, slots=True)
class _Dash:
    """A dash in a picture: its character, and the columns of pixels that it takes."""

    text: str
    begin: int
    end: int


def with_dashes(
    pixels: Pixels, regions: Sequence[Region], readings: Sequence[LineReading]
) -> tuple[list[Region], list[LineReading]]:
    """The regions of an upright page and what was read there, with the dashes that stand alone in a row of the page.

    Args:
        pixels: the upright page.
        regions: its regions.
        readings: the reading of each region.
    """
    chinese = any(NO_SPACES.search(reading.text) and reading.text not in LOOKALIKES for reading in readings)
    if not chinese:
        readings = _corrected(pixels, regions, readings)
    kept = [
        n
        for n, reading in enumerate(readings)
        if not reading.is_noise and reading.text not in DASHES and (chinese or reading.text not in LOOKALIKES)
    ]
    dashes = _find_dashes(pixels, [regions[n] for n in kept])
    if not dashes:
        return list(regions), list(readings)
    others = [
        n for n, region in enumerate(regions) if n in set(kept) or not any(_covers(region, dash) for dash, _ in dashes)
    ]
    return (
        [*(regions[n] for n in others), *(region for region, _ in dashes)],
        [*(readings[n] for n in others), *(LineReading(text, 1.0, (0.5,)) for _, text in dashes)],
    )


def _corrected(pixels: Pixels, regions: Sequence[Region], readings: Sequence[LineReading]) -> Sequence[LineReading]:
    """The readings, with a dash wherever a region holds nothing else: the model takes one for a 1, say."""
    thick = [region.thickness for region in regions if region.length >= LONG * region.thickness]
    size = INK_EM * statistics.median(thick or [region.thickness for region in regions] or [0.0])
    out = list(readings)
    for n, region in enumerate(regions):
        if region.length < LONG * region.thickness and readings[n].text.strip() not in DASHES:
            dash = _dash_in(_around(pixels, region, size), size, anywhere=True)
            out[n] = LineReading(dash.text, 1.0, (0.5,)) if dash else readings[n]
    return out


def _around(pixels: Pixels, region: Region, size: float) -> Pixels:
    room = ROOM_EM * size
    left, right = region.x - region.width / 2 - room, region.x + region.width / 2 + room
    top, bottom = region.y - region.height / 2 - room, region.y + region.height / 2 + room
    return pixels[max(0, round(top)) : max(0, round(bottom)), max(0, round(left)) : max(0, round(right))]


def _covers(region: Region, dash: Region) -> bool:
    return abs(region.x - dash.x) < region.width / 2 and abs(region.y - dash.y) < (region.height + dash.height) / 2


def _dash_in(cell: Pixels, size: float, *, anywhere: bool = False) -> _Dash | None:
    """The dash, if there is nothing else in the cell: a flat bar with white all around.

    Args:
        cell: pixels of a row of the page.
        size: of the type of that row, in pixels.
        anywhere: it need not be at half the height of the cell.
    """
    if min(cell.shape[:2]) < 4:
        return None
    grey = cell.astype(np.int16).sum(axis=2)
    away = np.abs(grey - np.median(grey))
    if away.max() < 3 * LEAST_CONTRAST:
        return None
    ink = away > INK * away.max()
    upright, level = ink.mean(axis=0) >= RULE, ink.mean(axis=1) >= RULE
    ink[:, _beside(upright)] = False
    ink[_beside(level)] = False
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return None
    top, bottom, left, right = (int(n) for n in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    if top == 0 or left == 0 or bottom == len(ink) or right == ink.shape[1]:
        return None
    wide, high = (right - left) / size, (bottom - top) / size
    if not (MIN_WIDTH <= wide <= MAX_WIDTH and high <= MAX_HEIGHT and wide >= FLATNESS * high):
        return None
    is_level = anywhere or MIDDLE[0] < (top + bottom) / 2 / len(ink) < MIDDLE[1]
    if ink[top:bottom, left:right].mean() < FILLED or not is_level:
        return None
    return _Dash("-" if wide < HYPHEN else "–" if wide < EN_DASH else "—", left, right)


def _beside(rules: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The rows or columns of rules, and those next to them, which are grey."""
    wide: NDArray[np.bool_] = rules.copy()
    wide[1:] |= rules[:-1]
    wide[:-1] |= rules[1:]
    return wide


def _find_dashes(pixels: Pixels, regions: Sequence[Region]) -> list[tuple[Region, str]]:
    """Dashes that no region holds: where each is, as a region, and its character.

    Args:
        pixels: the upright page.
        regions: what was detected on it.
    """
    rows = _rows([r for r in regions if abs(r.angle) <= LEVEL_DEG and not (r.tall and r.length >= LONG * r.thickness)])
    found = []
    for row in rows:
        if len(row) > 1:
            found += _dashes_of_row(pixels, row, [region for other in rows if other is not row for region in other])
    return found


def _rows(regions: list[Region]) -> list[list[Region]]:
    """The regions that stand side by side."""
    rows: list[list[Region]] = []
    for region in sorted(regions, key=lambda region: region.y):
        for row in reversed(rows[-3:]):
            if abs(row[-1].y - region.y) <= SAME_ROW * min(row[-1].height, region.height):
                row.append(region)
                break
        else:
            rows.append([region])
    return rows


def _dashes_of_row(pixels: Pixels, row: list[Region], others: list[Region]) -> list[tuple[Region, str]]:
    """The dashes of a row, each above or below one of the other regions."""
    y, height = statistics.median(r.y for r in row), statistics.median(r.height for r in row)
    size = 0.0
    cells = [(r.x - r.width / 2, r.x + r.width / 2) for r in row]
    looked_at = list(cells)
    found = []
    for other in sorted(others, key=lambda region: abs(region.y - y)):
        left, right = other.x - other.width / 2, other.x + other.width / 2
        if abs(other.y - y) > NEAR_ROWS * height:
            break
        if right - left > MAX_COLUMN * height or not 1 / LIKE_HEIGHT < other.height / height < LIKE_HEIGHT:
            continue
        if any(left < end and begin < right for begin, end in looked_at):
            continue
        looked_at.append((left, right))
        # A dash may be wider than a digit of its column, up to the next cell of the row.
        begin = max([left - height, 0.0, *(end for _, end in cells if end <= left)])
        stop = min([right + height, float(pixels.shape[1]), *(start for start, _ in cells if start >= right)])
        top, bottom = max(0, round(y - height / 2)), min(len(pixels), round(y + height / 2))
        cell = pixels[top:bottom, round(begin) : round(stop)]
        if not cell.size or int(cell.max()) - int(cell.min()) < LEAST_CONTRAST:
            continue
        size = size or _type_size(pixels, row)
        if dash := _dash_in(cell, size):
            x = round(begin) + (dash.begin + dash.end) / 2
            found.append((Region(x, y, dash.end - dash.begin + 0.34 * height, height, 0.0), dash.text))
    return found


def _type_size(pixels: Pixels, row: list[Region]) -> float:
    """The size of the type in a row, in pixels, by the ink of its cells."""
    inks = [inked_rows(crop_region(pixels, region, tall=False)) for region in row]
    return statistics.median(end - begin for begin, end in inks) / INK_EM

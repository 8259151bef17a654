"""Finds columns, and the order in which a person reads them."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise
from statistics import median
from typing import Final

from .lines import LayoutPage, Row, Strip, text_length

__all__ = ["PROSE_CHARS", "ROW_SHIFT", "TITLE_SCALE", "advance", "by_middle", "columns_of"]


GUTTER_EM: Final = 0.6  # least width of a strip between columns
OVERHANG_EM: Final = 1.0  # a line that reaches less far beyond a gutter does not cross it
CROSSING_SHARE: Final = 0.3  # of the lines may cross a gutter, as headlines do
COLUMN_EM: Final = 5.0  # least width of a column of prose
PROSE_LINES: Final = 4  # least length of a column whose lines are level with its neighbour's
PROSE_FILL: Final = 0.6  # of the column is filled by its middle line, when it is prose
PROSE_CHARS: Final = 24  # least length of the middle line of running text
NARROW_CHARS: Final = 18  # the same in a column that it fills
ALIGNED_SHARE: Final = 0.4  # of the lines have a partner in the same row beyond the gutter: a table
BAND_EM: Final = 0.5  # least white from side to side between a headline and the columns
BAND_LINES: Final = 3  # at most, for a headline with what belongs to it
FOOT_EM: Final = 1.0  # least white above a page number that belongs to no column
MARGIN_SHARE: Final = 0.45  # of the text's width: what is wider is no margin
MARGIN_SCALE: Final = 0.87  # of the text's advance from character to character: notes are set smaller
NOTE_CHARS: Final = 6  # least length of the middle line of notes in a margin
ROW_SHIFT: Final = 0.5  # of the smaller height: how far middles may differ within a row
MAX_DEPTH: Final = 12  # cuts within cuts
TITLE_SCALE: Final = 1.3  # a line that is this much larger than the body is a title


def by_middle(page: LayoutPage, lines: Iterable[int]) -> Row:
    return sorted(lines, key=lambda i: (page.middle(i), page.boxes[i][0], i))


def columns_of(page: LayoutPage, lines: Row, depth: int, strips: list[Strip]) -> list[Row]:
    """`lines` (sorted by middle) as regions without gutters, in reading order. Adds gutters to `strips`."""
    if len(lines) < 4 or depth == MAX_DEPTH:
        return [lines]
    strip = _gutter(page, lines)
    if strip is not None:
        strips.append(strip)
        parts = _around(page, lines, (strip.x1 + strip.x2) / 2)
        return [region for part in parts for region in columns_of(page, part, depth + 1, strips)]
    parts = _between_gaps(page, lines)
    if len(parts) == 1:
        return [lines]
    regions = [columns_of(page, part, depth + 1, strips) for part in parts]
    if all(len(found) == 1 for found in regions):
        return [lines]  # no part had a gutter: the gaps mean nothing for the order
    return [region for found in regions for region in found]


def _gutter(page: LayoutPage, lines: Row) -> Strip | None:
    """The strip that divides `lines` into columns best, if one does."""
    starts = sorted(page.boxes[i][0] for i in lines)
    ends = sorted(page.boxes[i][2] for i in lines)
    strips = []
    for left, right in pairwise(sorted({*starts, *ends})):
        if right - left < GUTTER_EM * page.em:
            continue
        crossing = bisect_right(starts, left) - bisect_right(ends, left)
        if crossing <= CROSSING_SHARE * len(lines):
            strips.append((crossing, left - right, left, right))
    for _, _, left, right in sorted(strips)[:8]:
        if _divides(page, lines, (left + right) / 2):
            box = page.union(lines)
            return Strip(left, right, box[1], box[3])
    return None


def _side(page: LayoutPage, index: int, x: float) -> int:
    """-1: left of `x`, 1: right of it, 0: across. Boxes are not exact: a little overhang does not count."""
    x1, _, x2, _ = page.boxes[index]
    beyond, before = x2 - x, x - x1
    if min(beyond, before) >= OVERHANG_EM * page.em:
        return 0
    return -1 if before >= beyond else 1


def _divides(page: LayoutPage, lines: Row, x: float) -> bool:
    """Whether the strip at `x` stands between columns that are read one after the other."""
    sides = [(_side(page, i, x), i) for i in lines]
    left = [i for side, i in sides if side < 0]
    right = [i for side, i in sides if side > 0]
    if left and right and (_in_margin(page, left, right) or _in_margin(page, right, left)):
        return True
    if min(len(left), len(right)) < 2:
        return False
    a, b = page.union(left), page.union(right)
    if min(a[3], b[3]) - max(a[1], b[1]) < 2 * page.em:
        return False  # one stands above the other
    if min(a[2] - a[0], b[2] - b[0]) < COLUMN_EM * page.em:
        return False  # line numbers, prices, bullets belong to their row
    prose = all(_is_prose(page, side, box[2] - box[0]) for side, box in ((left, a), (right, b)))
    if prose and min(len(left), len(right)) >= PROSE_LINES:
        return True
    return _aligned_share(page, left, right) < ALIGNED_SHARE


def _in_margin(page: LayoutPage, notes: Row, text: Row) -> bool:
    """Whether `notes` are few, narrow and small beside running text: what stands in its margin."""
    if len(text) < PROSE_LINES or 2 * len(notes) > len(text):
        return False
    if median(len(page.lines[i].text) for i in notes) < NOTE_CHARS:
        return False  # numbers belong to their rows
    a, b = page.union(notes), page.union(text)
    return (
        a[2] - a[0] <= MARGIN_SHARE * (b[2] - b[0])
        and min(a[3], b[3]) > max(a[1], b[1])
        and _is_prose(page, text, b[2] - b[0])
        and advance(page, notes) <= MARGIN_SCALE * advance(page, text)
    )


def advance(page: LayoutPage, lines: Row) -> float:
    """The mean advance from character to character: it tells sizes of type apart better than the boxes' heights."""
    return sum(page.boxes[i][2] - page.boxes[i][0] for i in lines) / sum(max(1, len(page.lines[i].text)) for i in lines)


def _is_prose(page: LayoutPage, lines: Row, width: float) -> bool:
    """Whether the lines are running text, in one column of that width or in several narrower ones."""
    length = median(text_length(page.lines[i].text) for i in lines)
    fill = median((page.boxes[i][2] - page.boxes[i][0]) / max(width, 1.0) for i in lines)
    return length >= PROSE_CHARS or (fill >= PROSE_FILL and length >= NARROW_CHARS)


def _aligned_share(page: LayoutPage, left: Row, right: Row) -> float:
    """How many lines of the shorter column have a line of the other at their height."""
    few, many = sorted((left, right), key=len)
    middles = sorted(page.middle(i) for i in many)
    hits = 0
    for i in few:
        y, reach = page.middle(i), ROW_SHIFT * page.height(i)
        at = bisect_left(middles, y - reach)
        hits += at < len(middles) and middles[at] <= y + reach
    return hits / len(few)


def _around(page: LayoutPage, lines: Row, x: float) -> list[Row]:
    """Lines across `x` as bands; between them what is left of it, then what is right of it."""
    parts: list[Row] = []
    across: Row = []
    left: Row = []
    right: Row = []
    apart = _apart(page, lines, x)
    for i in lines:
        side = 0 if i in apart else _side(page, i, x)
        if side == 0 and (left or right):
            parts += [across, *_in_turn(page, left, right)]
            across, left, right = [], [], []
        (across, right, left)[side].append(i)
    return [part for part in (*parts, across, *_in_turn(page, left, right)) if part]


def _in_turn(page: LayoutPage, left: Row, right: Row) -> tuple[Row, Row]:
    """The left column before the right one, but notes after the text in whose margin they stand."""
    return (right, left) if left and right and _in_margin(page, left, right) else (left, right)


def _apart(page: LayoutPage, lines: Row, x: float) -> set[int]:
    """Lines on one side of the gutter at `x` that belong to both: headlines, running heads, page numbers.

    White from side to side parts them from the columns. Below a headline both columns begin at one height.
    """
    bands = _bands(page, lines)
    sides = [{_side(page, i, x) for i in band} for band in bands]
    small = [len(band) <= BAND_LINES and side in ({-1}, {1}) for band, side in zip(bands, sides, strict=True)]
    apart: set[int] = set()
    start = 0
    while start < len(bands):
        stop = start + 1
        if small[start]:
            while stop < len(bands) and small[stop]:
                stop += 1
            above = [i for band in bands[:start] for i in band if i not in apart and _side(page, i, x)]
            below = [i for band in bands[stop:] for i in band]
            title = median(page.height(i) for i in bands[start]) >= TITLE_SCALE * page.em
            if below and (title or not above) and _begin_together(page, below, x):
                apart.update(i for band in bands[start:stop] for i in band)
            else:
                stop = start + 1
        start = stop
    if small[-1] and _is_foot(page, bands[-1], [i for band in bands[:-1] for i in band], x):
        apart.update(bands[-1])
    return apart


def _is_foot(page: LayoutPage, band: Row, above: Row, x: float) -> bool:
    """Whether the last band is a page number and the like: well below the text, and not in line with its column."""
    box = page.union(band)
    column = [page.boxes[i][0] for i in above if _side(page, i, x) == _side(page, band[0], x)]
    bottom = max((page.boxes[i][3] for i in above), default=math.inf)
    return bool(column) and box[1] - bottom >= FOOT_EM * page.em <= abs(box[0] - min(column))


def _bands(page: LayoutPage, lines: Row) -> list[Row]:
    """`lines` parted where the page is white from side to side."""
    bands: list[Row] = []
    bottom = -math.inf
    for i in sorted(lines, key=lambda i: page.boxes[i][1]):
        if page.boxes[i][1] - bottom >= BAND_EM * page.em:
            bands.append([])
        bands[-1].append(i)
        bottom = max(bottom, page.boxes[i][3])
    return bands


def _begin_together(page: LayoutPage, lines: Row, x: float) -> bool:
    """Whether the first line on either side of `x` stands at the same height, and none across it comes before."""
    tops: dict[int, int] = {}
    for i in lines:
        side = _side(page, i, x)
        if side not in tops or page.boxes[i][1] < page.boxes[tops[side]][1]:
            tops[side] = i
    if -1 not in tops or 1 not in tops:
        return False
    level = abs(page.middle(tops[-1]) - page.middle(tops[1])) <= ROW_SHIFT * page.em
    return level and (0 not in tops or page.boxes[tops[0]][1] > page.boxes[tops[1]][1])


def _between_gaps(page: LayoutPage, lines: Row) -> list[Row]:
    """`lines` split where the page is empty from side to side, at the wide gaps only."""
    by_top = sorted(lines, key=lambda i: page.boxes[i][1])
    bottom = page.boxes[by_top[0]][3]
    gaps = []
    for i in by_top[1:]:
        gaps.append(page.boxes[i][1] - bottom)
        bottom = max(bottom, page.boxes[i][3])
    least = max(0.5 * page.em, 0.7 * max(gaps))
    parts: list[Row] = [[by_top[0]]]
    for i, gap in zip(by_top[1:], gaps, strict=True):
        if gap >= least:
            parts.append([])
        parts[-1].append(i)
    return [by_middle(page, part) for part in parts]

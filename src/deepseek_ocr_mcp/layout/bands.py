"""Puts the lines on both sides of a gutter, and those that stand across it, into the order in which they are read.

Lines across part the columns into bands, but not all of them do: an inset stands between the lines of columns that
flow around it, and is read after them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from .evidence import blocks_of, goes_on, in_margin, is_one_column, level_share, side_of
from .lines import ROW_SHIFT, Frame, Row

__all__ = ["around_gutter"]

# Tuned on the same pages as evidence.py. Where a constant is wrong, a headline tears the columns below it, or stands
# in the middle of one.
BAND_EM: Final = 0.5  # least white from side to side between a headline and the columns
BAND_LINES: Final = 3  # at most, for a headline with what belongs to it
HEADLINE_SCALE: Final = 1.3  # least size of a headline over columns that begin at one height
HEADLINE_SPACE: Final = 0.8  # of its height: the widest space between two words of a headline
FOOT_EM: Final = 1.0  # least white above a page number that belongs to no column
BLOCK_EM: Final = 1.2  # most white between the lines of an inset
ON_MARGIN: Final = 0.5  # by so much more sentences go on below an inset than beside it, or it parts the columns


@dataclass(slots=True)
class _Band:
    """A part of the page from side to side: lines over the gutter, then a column on each side of it.

    `insets` stand across the gutter between lines of the columns; they are read after them.
    """

    over: Row = field(default_factory=list)
    left: Row = field(default_factory=list)
    right: Row = field(default_factory=list)
    insets: list[Row] = field(default_factory=list)


def around_gutter(frame: Frame, lines: Row, x: float) -> list[Row]:
    """The parts that a gutter makes of the lines, in reading order.

    Args:
        frame: the page as a frame: its lines, and the usual size of its type.
        lines: the indices of the lines.
        x: the place of the gutter.
    """
    shared = _shared_by_both(frame, lines, x) | _headline_words(frame, lines, x)
    shared |= _level_with_across(frame, [i for i in lines if i not in shared], x)
    sides = {i: 0 if i in shared else side_of(frame, i, x) for i in lines}
    insets = _insets(frame, lines, sides, shared)
    inset_of = {i: n for n, inset in enumerate(insets) for i in inset}
    bands = [_Band()]
    for i in lines:
        if i in inset_of:
            if insets[inset_of[i]] not in bands[-1].insets:
                bands[-1].insets.append(insets[inset_of[i]])
            continue
        side = sides[i]
        if side == 0 and (bands[-1].left or bands[-1].right):
            bands.append(_Band())
        (bands[-1].over, bands[-1].right, bands[-1].left)[side].append(i)
    parts: list[Row] = []
    for band in _flowing(frame, bands):
        parts += [band.over, *_in_turn(frame, band.left, band.right), *band.insets]
    return [part for part in parts if part]


def _in_turn(frame: Frame, left: Row, right: Row) -> tuple[Row, Row]:
    """The left column before the right one, but notes after the text in whose margin they stand."""
    return (right, left) if left and right and in_margin(frame, left, right) else (left, right)


def _insets(frame: Frame, lines: Row, sides: dict[int, int], shared: set[int]) -> list[Row]:
    """Groups of lines across the gutter that have lines of a column beside them."""
    across = [i for i in lines if sides[i] == 0 and i not in shared]
    beside = sorted(frame.middles[i] for i in lines if sides[i])
    found = []
    for block in blocks_of(frame, across, BLOCK_EM):
        _, top, _, bottom = frame.union(block)
        at = bisect_right(beside, top)
        if len(block) > 1 and at < len(beside) and beside[at] < bottom:
            found.append(frame.by_middle(block))
    return found


def _level_with_across(frame: Frame, lines: Row, x: float) -> set[int]:
    """Rows of three or more, the middle one across the gutter at `x`: they are read from side to side.

    So are the names of authors over two columns, and a page number between two running feet. Lines of columns that
    flow around an inset do not all stand level with its lines.
    """
    across = [i for i in lines if side_of(frame, i, x) == 0]
    middles = [frame.middles[i] for i in lines]
    found: set[int] = set()
    for block in blocks_of(frame, across, BLOCK_EM):
        _, top, _, bottom = frame.union(block)
        within = lines[bisect_right(middles, top) : bisect_left(middles, bottom)]
        beside = [i for i in within if side_of(frame, i, x)]
        if {side_of(frame, i, x) for i in beside} == {-1, 1} and level_share(frame, beside, block) == 1:
            found.update(block, beside)
    return found


def _flowing(frame: Frame, bands: list[_Band]) -> list[_Band]:
    """Bands put together where their columns go on below what stands across them, as below an inset.

    The sentences tell: the last line of a column goes on either below or at the head of the next column.
    """
    joined = [bands[0]]
    for band in bands[1:]:
        above = joined[-1]
        columns = (above.left, above.right, band.left, band.right)
        if band.over and all(columns) and all(is_one_column(frame, column) for column in columns):
            texts = [(frame.lines[c[0]].text, frame.lines[c[-1]].text) for c in map(frame.by_middle, columns)]
            (_, a_end), (b, b_end), (c, c_end), (d, _) = texts
            below = goes_on(a_end, c) + goes_on(c_end, b) + goes_on(b_end, d)
            beside = goes_on(a_end, b) + goes_on(b_end, c) + goes_on(c_end, d)
            if below > beside + ON_MARGIN and goes_on(a_end, c) + goes_on(b_end, d) > 0:
                above.insets += [band.over, *band.insets]
                above.left += band.left
                above.right += band.right
                continue
        joined.append(band)
    return joined


def _shared_by_both(frame: Frame, lines: Row, x: float) -> set[int]:
    """Lines on one side of the gutter at `x` that belong to both: headlines, running heads, page numbers.

    White from side to side parts them from the columns. Below a headline both columns begin at one height.
    """
    bands = blocks_of(frame, lines, BAND_EM)
    narrow = [len(band) <= BAND_LINES and {side_of(frame, i, x) for i in band} in ({-1}, {1}) for band in bands]
    shared: set[int] = set()
    at = 0
    for is_narrow, run in groupby(narrow):
        stop = at + len(list(run))
        if is_narrow:
            for start in range(at, stop):
                if _is_head(frame, bands, start, stop, shared, x):
                    shared.update(i for band in bands[start:stop] for i in band)
                    break
        at = stop
    if narrow[-1] and _is_foot(frame, bands[-1], [i for band in bands[:-1] for i in band], x):
        shared.update(bands[-1])
    return shared


def _headline_words(frame: Frame, lines: Row, x: float) -> set[int]:
    """Lines of large type that are words of one headline across the gutter at `x`, no more than a space apart."""
    found: set[int] = set()
    words: Row = []
    for i in [*sorted((i for i in lines if frame.scale([i]) >= HEADLINE_SCALE), key=lambda i: frame.boxes[i][0]), -1]:
        if i >= 0 and words and _are_words(frame, words[-1], i):
            words.append(i)
            continue
        if len(words) > 1 and frame.boxes[words[0]][0] < x < frame.boxes[words[-1]][2]:
            found.update(words)
        words = [i]
    return found


def _are_words(frame: Frame, a: int, b: int) -> bool:
    """Whether two lines of large type stand in one row, with a space between them."""
    height = min(frame.height(a), frame.height(b))
    level = abs(frame.middles[a] - frame.middles[b]) <= ROW_SHIFT * height
    return level and frame.boxes[b][0] - frame.boxes[a][2] <= HEADLINE_SPACE * height


def _is_head(frame: Frame, bands: list[Row], start: int, stop: int, shared: set[int], x: float) -> bool:
    """Whether the bands from `start` to `stop` stand over both columns that begin below them."""
    below = [i for band in bands[stop:] for i in band]
    if not below or not _begin_together(frame, below, x):
        return False
    above = any(i not in shared and side_of(frame, i, x) for band in bands[:start] for i in band)
    return not above or frame.scale(bands[start]) >= HEADLINE_SCALE


def _is_foot(frame: Frame, band: Row, above: Row, x: float) -> bool:
    """Whether the last band is a page number and the like: well below the text, and not in line with its column."""
    box = frame.union(band)
    column = [frame.boxes[i][0] for i in above if side_of(frame, i, x) == side_of(frame, band[0], x)]
    bottom = max((frame.boxes[i][3] for i in above), default=math.inf)
    return bool(column) and box[1] - bottom >= FOOT_EM * frame.em <= abs(box[0] - min(column))


def _begin_together(frame: Frame, lines: Row, x: float) -> bool:
    """Whether the first line on either side of `x` stands at the same height, and none across it comes before."""
    tops: dict[int, int] = {}
    for i in lines:
        side = side_of(frame, i, x)
        if side not in tops or frame.boxes[i][1] < frame.boxes[tops[side]][1]:
            tops[side] = i
    if -1 not in tops or 1 not in tops:
        return False
    level = abs(frame.middles[tops[-1]] - frame.middles[tops[1]]) <= ROW_SHIFT * frame.em
    return level and (0 not in tops or frame.boxes[tops[0]][1] > frame.boxes[tops[1]][1])

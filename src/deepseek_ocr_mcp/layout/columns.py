"""Finds the columns of a page and the order in which they are read.

The page is cut at gutters: upright strips that only few lines cross. Lines that cross a gutter (a headline over
two columns) part it into bands; in each band the left column comes before the right one, and each column is cut
again. A gutter between cells of a table is no gutter: there the rows go on across it.

Every line that is given is in exactly one region.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from statistics import median
from typing import Final

from .lines import ENDS, LIST_MARK, NO_SPACES, PROSE_CHARS, ROW_SHIFT, Frame, Row

__all__ = ["Strip", "columns_of"]

# Tuned on the multi-column pages of the shared corpus and of benchmarks/generated_pages.py. Where a constant is
# wrong, columns are read across (every sentence torn), or rows of a table are read down (every row torn).
GUTTER_EM: Final = 0.6  # least width of a gutter; from .4 on, word spaces that stand under each other are gutters
OVERHANG_EM: Final = 1.0  # boxes are not exact: a line that reaches less far beyond a gutter does not cross it
CROSSING_SHARE: Final = 0.3  # of the lines may cross a gutter, as headlines do; more, and tables are cut
COLUMN_EM: Final = 5.0  # least width of a column; narrower are line numbers, prices and list marks
PROSE_LINES: Final = 4  # least length of a column whose lines are level with its neighbour's
PROSE_FILL: Final = 0.6  # of the column is filled by its middle line, when it is prose
NARROW_CHARS: Final = 18  # least length of the middle line of prose in a column that it fills
FULL_SHARE: Final = 0.85  # of the column is filled by the usual row, when it is prose in pieces
ALIGNED_SHARE: Final = 0.4  # of the lines have a partner in the same row beyond the gutter: a table
LEVEL_SHARE: Final = 0.9  # so many have one: rows, if none of them begins within a sentence and they are uneven
HEADING_LINES: Final = 24  # so many lines may stand above the names of columns and in them
ENTRY_LINES: Final = 6  # least length of two columns of an index
ENTRY_SHARE: Final = 0.7  # of their lines begin with a letter and end with a number
SORTED_SHARE: Final = 0.95  # of the lines come after the one before in the alphabet
BESIDE_SHARE: Final = 0.25  # of those have an item of the list beside them
WITHIN_SHARE: Final = 0.5  # of the lines of prose beside a list begin within a sentence
EVEN_LENGTH: Final = 0.75  # of the longest line of a column …
EVEN_SHARE: Final = 0.85  # … have so many of its lines, as lines of prose do and names of values do not
BAND_EM: Final = 0.5  # least white from side to side between a headline and the columns
BAND_LINES: Final = 3  # at most, for a headline with what belongs to it
HEADLINE_SCALE: Final = 1.3  # least size of a headline over columns that begin at one height
HEADLINE_SPACE: Final = 0.8  # of its height: the widest space between two words of a headline
FOOT_EM: Final = 1.0  # least white above a page number that belongs to no column
MARGIN_SHARE: Final = 0.45  # of the text's width: notes that are wider are no notes
MARGIN_SCALE: Final = 0.87  # of the size of the text: notes are set smaller
NOTE_CHARS: Final = 6  # least length of the middle line of notes in a margin; shorter are numbers of lines
STRIP_SHARE: Final = 0.6  # of a gutter's width must be white in a line that it cuts
BLOCK_EM: Final = 1.2  # most white between the lines of an inset
ON_MARGIN: Final = 0.5  # by so much more sentences go on below an inset than beside it, or it parts the columns
SIDE_SHARE: Final = 0.8  # of the lines on the left stand at the head of a paragraph: they are its heading
SIDE_LINES: Final = 1.6  # least mean length of such paragraphs; shorter are the values of a form
SIDE_GAP_EM: Final = 0.4  # more than the usual white between lines parts two of those paragraphs
ASIDE_ROWS: Final = 3  # least height of a box that text flows around, in rows with lines on both sides
MAX_DEPTH: Final = 12  # cuts within cuts


@dataclass(frozen=True, slots=True)
class Strip:
    """A gutter: white from `x1` to `x2` for most lines between `top` and `bottom`."""

    x1: float
    x2: float
    top: float
    bottom: float

    def runs_through(self, x1: float, x2: float, y: float) -> bool:
        """Whether white from `x1` to `x2` at height `y` is a part of the gutter."""
        shared = min(self.x2, x2) - max(self.x1, x1)
        return self.top <= y <= self.bottom and shared >= STRIP_SHARE * (self.x2 - self.x1)


def columns_of(frame: Frame, lines: Row, strips: list[Strip], depth: int = 0) -> list[Row]:
    """`lines` (sorted by middle) as regions without gutters, in reading order. Adds gutters to `strips`."""
    if len(lines) < 4 or depth == MAX_DEPTH:
        return [lines]
    parts = _beside_headings(frame, lines)
    if parts is None:
        strip = _gutter(frame, lines)
        if strip is not None:
            strips.append(strip)
            parts = _around(frame, lines, (strip.x1 + strip.x2) / 2)
        else:
            parts = _around_aside(frame, lines)
    if parts is not None:
        return [region for part in parts for region in columns_of(frame, part, strips, depth + 1)]
    parts = _between_gaps(frame, lines)
    if len(parts) == 1:
        return [lines]
    regions = [columns_of(frame, part, strips, depth + 1) for part in parts]
    if all(len(found) == 1 for found in regions):
        return [lines]  # no part had a gutter: the gaps mean nothing for the order
    return [region for found in regions for region in found]


# ---------------------------------------------------------------- gutters


def _strips(frame: Frame, lines: Row) -> Iterator[tuple[float, float, int]]:
    """White strips from `x1` to `x2`, and how many lines cross each; the best first."""
    starts = sorted(frame.boxes[i][0] for i in lines)
    ends = sorted(frame.boxes[i][2] for i in lines)
    found = []
    for left, right in pairwise(sorted({*starts, *ends})):
        if right - left < GUTTER_EM * frame.em:
            continue
        crossing = bisect_right(starts, left) - bisect_right(ends, left)
        if crossing <= CROSSING_SHARE * len(lines):
            found.append((crossing, left - right, left, right))
    return ((left, right, crossing) for crossing, _, left, right in sorted(found)[:8])


def _gutter(frame: Frame, lines: Row) -> Strip | None:
    """The strip that divides `lines` into columns best, if one does."""
    for left, right, _ in _strips(frame, lines):
        if _divides(frame, lines, (left + right) / 2):
            box = frame.union(lines)
            return Strip(left, right, box[1], box[3])
    return None


def _side(frame: Frame, index: int, x: float) -> int:
    """-1: left of `x`, 1: right of it, 0: across."""
    x1, _, x2, _ = frame.boxes[index]
    beyond, before = x2 - x, x - x1
    if min(beyond, before) >= OVERHANG_EM * frame.em:
        return 0
    return -1 if before >= beyond else 1


def _divides(frame: Frame, lines: Row, x: float) -> bool:
    """Whether the strip at `x` stands between columns that are read one after the other."""
    sides = [(_side(frame, i, x), i) for i in lines]
    left = [i for side, i in sides if side < 0]
    right = [i for side, i in sides if side > 0]
    if left and right and (_in_margin(frame, left, right) or _in_margin(frame, right, left)):
        return True
    if min(len(left), len(right)) < 2:
        return False
    a, b = frame.union(left), frame.union(right)
    if min(a[3], b[3]) - max(a[1], b[1]) < 2 * frame.em:
        return False  # one stands above the other
    if min(a[2] - a[0], b[2] - b[0]) < COLUMN_EM * frame.em:
        return False
    aligned = _aligned_share(frame, left, right)
    return aligned < ALIGNED_SHARE or _are_apart_though_level(frame, left, right, aligned)


def _are_apart_though_level(frame: Frame, left: Row, right: Row, aligned: float) -> bool:
    """Whether lines that stand level with each other are of two columns all the same, and not cells of rows."""
    few = min(len(left), len(right))
    if _have_one_heading(frame, left, right) or (few >= ENTRY_LINES and _are_entries(frame, left, right)):
        return True
    if few < PROSE_LINES:
        return False
    sides = [(side, box[2] - box[0]) for side, box in ((left, frame.union(left)), (right, frame.union(right)))]
    prose = all(_is_prose(frame, side, width) for side, width in sides)
    prose = prose or all(_fills(frame, side, width) for side, width in sides)
    if not prose:
        (a, a_width), (b, b_width) = sides
        return (_is_prose(frame, a, a_width) and _is_run(frame, a, b)) or (
            _is_prose(frame, b, b_width) and _is_run(frame, b, a)
        )
    if aligned < LEVEL_SHARE:
        return True
    return (_runs_on(frame, left) and _runs_on(frame, right)) or (_is_even(frame, left) and _is_even(frame, right))


def _have_one_heading(frame: Frame, left: Row, right: Row) -> bool:
    """Whether two tables stand side by side: a row of both has the same names of columns."""
    rows = [_names(frame, side[:HEADING_LINES]) for side in (left, right)]
    places = [middle for middle, _ in rows[1]]
    for middle, names in rows[0]:
        at = bisect_left(places, middle - ROW_SHIFT * frame.em)
        if at < len(places) and places[at] <= middle + ROW_SHIFT * frame.em and rows[1][at][1] == names:
            return True
    return False


def _names(frame: Frame, lines: Row) -> list[tuple[float, list[str]]]:
    """The rows of several cells without a figure, by their height."""
    found = []
    for row in _rows(frame, lines):
        texts = [frame.lines[i].text.strip() for i in row]
        if len(row) > 1 and not any(char.isdigit() for text in texts for char in text):
            found.append((frame.middles[row[0]], texts))
    return found


def _are_entries(frame: Frame, left: Row, right: Row) -> bool:
    """Whether both sides are entries of one list: of an index with its numbers, or in the order of the alphabet."""
    texts = [[frame.lines[i].text.strip().casefold() for i in side] for side in (left, right)]
    if all(
        sum(text[:1].isalpha() and text[-1:].isdigit() for text in side) >= ENTRY_SHARE * len(side) for side in texts
    ):
        return True
    ordered = [*texts[0], *texts[1]]
    falls = sum(b < a for a, b in pairwise(ordered))
    return falls <= (1 - SORTED_SHARE) * len(ordered) and all(text[:1].isalpha() for text in ordered)


def _is_run(frame: Frame, lines: Row, others: Row) -> bool:
    """Whether the lines are prose beside a list: most begin within a sentence, level with lines of the list.

    The second line of a cell has nothing beside it.
    """
    within = [i for i in lines if frame.lines[i].text.lstrip()[:1].islower()]
    gaps = sorted(frame.boxes[b][1] - frame.boxes[a][3] for a, b in pairwise(lines))
    if len(within) < WITHIN_SHARE * len(lines) or gaps[0] <= -ROW_SHIFT * frame.em:
        return False
    usual = gaps[len(gaps) // 3]
    apart = sum(gap > usual + SIDE_GAP_EM * frame.em for gap in gaps)
    return 3 * apart < len(lines) and _level_share(frame, within, others) >= BESIDE_SHARE


def _runs_on(frame: Frame, lines: Row) -> bool:
    """Whether one of the lines begins within a sentence, as far as its first letter tells."""
    firsts = (next((char for char in frame.lines[i].text if char.isalpha()), "") for i in lines)
    return any(not first.isupper() for first in firsts)


def _is_even(frame: Frame, lines: Row) -> bool:
    """Whether nearly all of the lines are about as long."""
    lengths = [frame.boxes[i][2] - frame.boxes[i][0] for i in lines]
    return sum(length >= EVEN_LENGTH * max(lengths) for length in lengths) >= EVEN_SHARE * len(lines)


def _in_margin(frame: Frame, notes: Row, text: Row) -> bool:
    """Whether `notes` are few, narrow and small beside running text, as notes in its margin are."""
    if len(text) < PROSE_LINES or 2 * len(notes) > len(text):
        return False
    if median(len(frame.lines[i].text) for i in notes) < NOTE_CHARS:
        return False
    a, b = frame.union(notes), frame.union(text)
    return (
        a[2] - a[0] <= MARGIN_SHARE * (b[2] - b[0])
        and min(a[3], b[3]) > max(a[1], b[1])
        and _is_prose(frame, text, b[2] - b[0])
        and frame.scale(notes) <= MARGIN_SCALE * frame.scale(text)
    )


def _is_prose(frame: Frame, lines: Row, width: float) -> bool:
    """Whether the lines are running text, in one column of that width or in several narrower ones."""
    length = median(frame.lengths[i] for i in lines)
    fill = median((frame.boxes[i][2] - frame.boxes[i][0]) / max(width, 1.0) for i in lines)
    return length >= PROSE_CHARS or (fill >= PROSE_FILL and length >= NARROW_CHARS)


def _fills(frame: Frame, lines: Row, width: float) -> bool:
    """Whether the usual row, its pieces put together, is a line of running text that fills the column."""
    lengths: list[int] = []
    inked: list[float] = []
    last = -math.inf
    for i in lines:
        length, wide = frame.lengths[i], frame.boxes[i][2] - frame.boxes[i][0]
        if frame.middles[i] - last <= ROW_SHIFT * frame.height(i):
            lengths[-1] += length
            inked[-1] += wide
        else:
            lengths.append(length)
            inked.append(wide)
        last = frame.middles[i]
    return median(lengths) >= NARROW_CHARS and median(inked) >= FULL_SHARE * width


def _aligned_share(frame: Frame, left: Row, right: Row) -> float:
    """How many lines of the shorter column have a line of the other at their height."""
    few, many = sorted((left, right), key=len)
    return _level_share(frame, few, many)


def _level_share(frame: Frame, lines: Row, others: Row) -> float:
    """How many of the lines have one of the others at their height."""
    middles = sorted(frame.middles[i] for i in others)
    hits = 0
    for i in lines:
        y, reach = frame.middles[i], ROW_SHIFT * frame.height(i)
        at = bisect_left(middles, y - reach)
        hits += at < len(middles) and middles[at] <= y + reach
    return hits / len(lines)


# ---------------------------------------------------------------- what stands around a gutter


@dataclass(slots=True)
class _Band:
    """A part of the page from side to side: lines over the gutter, then a column on each side of it.

    `insets` stand across the gutter between lines of the columns; they are read after them.
    """

    over: Row = field(default_factory=list)
    left: Row = field(default_factory=list)
    right: Row = field(default_factory=list)
    insets: list[Row] = field(default_factory=list)


def _around(frame: Frame, lines: Row, x: float) -> list[Row]:
    """The parts that the gutter at `x` makes of the lines, in reading order."""
    shared = _shared_by_both(frame, lines, x) | _headline_words(frame, lines, x)
    shared |= _level_with_across(frame, [i for i in lines if i not in shared], x)
    sides = {i: 0 if i in shared else _side(frame, i, x) for i in lines}
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
    return (right, left) if left and right and _in_margin(frame, left, right) else (left, right)


def _insets(frame: Frame, lines: Row, sides: dict[int, int], shared: set[int]) -> list[Row]:
    """Groups of lines across the gutter that have lines of a column beside them."""
    across = [i for i in lines if sides[i] == 0 and i not in shared]
    beside = sorted(frame.middles[i] for i in lines if sides[i])
    found = []
    for block in _blocks(frame, across, BLOCK_EM):
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
    across = [i for i in lines if _side(frame, i, x) == 0]
    found: set[int] = set()
    for block in _blocks(frame, across, BLOCK_EM):
        _, top, _, bottom = frame.union(block)
        beside = [i for i in lines if top < frame.middles[i] < bottom and _side(frame, i, x)]
        level = all(
            any(abs(frame.middles[i] - frame.middles[k]) <= ROW_SHIFT * frame.height(i) for k in block) for i in beside
        )
        if level and {_side(frame, i, x) for i in beside} == {-1, 1}:
            found.update(block, beside)
    return found


def _blocks(frame: Frame, lines: Iterable[int], gap: float) -> list[Row]:
    """Lines parted where there is more white than `gap` ems from side to side."""
    blocks: list[Row] = []
    bottom = -math.inf
    for i in sorted(lines, key=lambda i: frame.boxes[i][1]):
        if frame.boxes[i][1] - bottom >= gap * frame.em:
            blocks.append([])
        blocks[-1].append(i)
        bottom = max(bottom, frame.boxes[i][3])
    return blocks


def _flowing(frame: Frame, bands: list[_Band]) -> list[_Band]:
    """Bands put together where their columns go on below what stands across them, as below an inset.

    The sentences tell: the last line of a column goes on either below or at the head of the next column.
    """
    joined = [bands[0]]
    for band in bands[1:]:
        above = joined[-1]
        columns = (above.left, above.right, band.left, band.right)
        if band.over and all(columns) and all(_is_one_column(frame, column) for column in columns):
            texts = [(frame.lines[c[0]].text, frame.lines[c[-1]].text) for c in map(frame.by_middle, columns)]
            (_, a_end), (b, b_end), (c, c_end), (d, _) = texts
            below = _goes_on(a_end, c) + _goes_on(c_end, b) + _goes_on(b_end, d)
            beside = _goes_on(a_end, b) + _goes_on(b_end, c) + _goes_on(c_end, d)
            if below > beside + ON_MARGIN and _goes_on(a_end, c) + _goes_on(b_end, d) > 0:
                above.insets += [band.over, *band.insets]
                above.left += band.left
                above.right += band.right
                continue
        joined.append(band)
    return joined


def _is_one_column(frame: Frame, lines: Row) -> bool:
    """Whether no two of the lines stand side by side: then the first and the last one say how sentences go on."""
    by_middle = frame.by_middle(lines)
    return all(frame.middles[b] - frame.middles[a] > ROW_SHIFT * frame.height(b) for a, b in pairwise(by_middle))


def _goes_on(end: str, begin: str) -> int:
    """1: a sentence goes on from one line to the other, 0: it may, -1: one of them says that it does not."""
    end, begin = end.rstrip(), begin.lstrip()
    if not end or not begin or NO_SPACES.match(begin):
        return 0
    is_open, within = not end.endswith(ENDS), begin[0].islower()
    return 1 if is_open and within else -1 if within else 0


def _shared_by_both(frame: Frame, lines: Row, x: float) -> set[int]:
    """Lines on one side of the gutter at `x` that belong to both: headlines, running heads, page numbers.

    White from side to side parts them from the columns. Below a headline both columns begin at one height.
    """
    bands = _blocks(frame, lines, BAND_EM)
    narrow = [len(band) <= BAND_LINES and {_side(frame, i, x) for i in band} in ({-1}, {1}) for band in bands]
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
    above = any(i not in shared and _side(frame, i, x) for band in bands[:start] for i in band)
    return not above or frame.scale(bands[start]) >= HEADLINE_SCALE


def _is_foot(frame: Frame, band: Row, above: Row, x: float) -> bool:
    """Whether the last band is a page number and the like: well below the text, and not in line with its column."""
    box = frame.union(band)
    column = [frame.boxes[i][0] for i in above if _side(frame, i, x) == _side(frame, band[0], x)]
    bottom = max((frame.boxes[i][3] for i in above), default=math.inf)
    return bool(column) and box[1] - bottom >= FOOT_EM * frame.em <= abs(box[0] - min(column))


def _begin_together(frame: Frame, lines: Row, x: float) -> bool:
    """Whether the first line on either side of `x` stands at the same height, and none across it comes before."""
    tops: dict[int, int] = {}
    for i in lines:
        side = _side(frame, i, x)
        if side not in tops or frame.boxes[i][1] < frame.boxes[tops[side]][1]:
            tops[side] = i
    if -1 not in tops or 1 not in tops:
        return False
    level = abs(frame.middles[tops[-1]] - frame.middles[tops[1]]) <= ROW_SHIFT * frame.em
    return level and (0 not in tops or frame.boxes[tops[0]][1] > frame.boxes[tops[1]][1])


def _between_gaps(frame: Frame, lines: Row) -> list[Row]:
    """`lines` split where the page is empty from side to side, at the wide gaps only."""
    by_top = sorted(lines, key=lambda i: frame.boxes[i][1])
    bottom = frame.boxes[by_top[0]][3]
    gaps = []
    for i in by_top[1:]:
        gaps.append(frame.boxes[i][1] - bottom)
        bottom = max(bottom, frame.boxes[i][3])
    least = max(0.5 * frame.em, 0.7 * max(gaps))
    parts: list[Row] = [[by_top[0]]]
    for i, gap in zip(by_top[1:], gaps, strict=True):
        if gap >= least:
            parts.append([])
        parts[-1].append(i)
    return [frame.by_middle(part) for part in parts]


# ---------------------------------------------------------------- headings beside their paragraphs


def _beside_headings(frame: Frame, lines: Row) -> list[Row] | None:
    """A narrow column of headings, each level with the head of its paragraph: heading, paragraph, heading, …"""
    for left, right, crossing in _strips(frame, lines):
        if crossing:
            return None
        x = (left + right) / 2
        heads = [i for i in lines if frame.boxes[i][2] <= x]
        text = [i for i in lines if frame.boxes[i][2] > x]
        starts = _paragraph_starts(frame, heads, text)
        if starts:
            return _by_heading(frame, heads, text, starts)
    return None


def _paragraph_starts(frame: Frame, heads: Row, text: Row) -> list[int]:
    """The first lines of the paragraphs, where `heads` are their headings; nothing where they are not."""
    if len(heads) < 2 or len(text) < SIDE_LINES * len(heads):
        return []
    if any(LIST_MARK.fullmatch(frame.lines[i].text.strip()) or len(frame.lines[i].text) < 3 for i in heads):
        return []
    a, b = frame.union(heads), frame.union(text)
    if a[2] - a[0] >= b[2] - b[0] or not _is_prose(frame, text, b[2] - b[0]):
        return []
    gaps = [frame.boxes[n][1] - frame.boxes[i][3] for i, n in pairwise(text)]
    if min(gaps) < -ROW_SHIFT * frame.em:
        return []  # several in one row
    usual = sorted(gaps)[len(gaps) // 3]
    starts = [text[0], *(n for n, gap in zip(text[1:], gaps, strict=True) if gap > usual + SIDE_GAP_EM * frame.em)]
    if len(starts) < 2 or len(text) < SIDE_LINES * len(starts):
        return []
    blocks = _blocks(frame, heads, SIDE_GAP_EM)
    firsts = [min(block, key=lambda i: frame.boxes[i][1]) for block in blocks]
    level = [n for n in starts if any(abs(frame.middles[n] - frame.middles[i]) <= ROW_SHIFT * frame.em for i in firsts)]
    return level if min(len(level) / len(firsts), len(level) / len(starts)) >= SIDE_SHARE and len(level) > 1 else []


def _by_heading(frame: Frame, heads: Row, text: Row, starts: list[int]) -> list[Row]:
    """Each heading, then its paragraph."""
    tops = [frame.middles[i] - ROW_SHIFT * frame.em for i in starts]
    parts: list[tuple[Row, Row]] = [([], []) for _ in range(len(starts) + 1)]
    for column, rows in enumerate((heads, text)):
        for i in rows:
            parts[bisect_right(tops, frame.middles[i])][column].append(i)
    return [part for pair in parts for part in pair if part]


# ---------------------------------------------------------------- a box that the text flows around


@dataclass(slots=True)
class _Beside:
    """Rows from `start` to `stop` with white from `x1` to `x2` in them; `both` of them have lines on both sides."""

    start: int
    stop: int
    x1: float
    x2: float
    both: int = 1


def _around_aside(frame: Frame, lines: Row) -> list[Row] | None:
    """Text that flows around a box at its side, then the box; nothing where there is none.

    The sentences tell the text from the box: they go on from the rows above into one of the two.
    """
    rows = _rows(frame, lines)
    for run in _runs_beside(frame, rows):
        if run.both < ASIDE_ROWS or run.stop - run.start == len(rows):
            continue
        inside = [i for row in rows[run.start : run.stop] for i in row]
        sides = [[i for i in inside if frame.boxes[i][2] <= run.x2], [i for i in inside if frame.boxes[i][0] >= run.x1]]
        above, below = rows[run.start - 1] if run.start else [], rows[run.stop] if run.stop < len(rows) else []
        flows = [_flows(frame, above, side, below) for side in sides]
        if sum(map(len, sides)) != len(inside) or max(flows) < 1 or flows[0] == flows[1]:
            continue
        aside, main = (sides[0], sides[1]) if flows[0] < flows[1] else (sides[1], sides[0])
        within = sum(frame.lines[i].text.lstrip()[:1].islower() for i in main)
        if len(main) < PROSE_LINES or within < WITHIN_SHARE * len(main):
            continue
        if not _is_one_column(frame, main) or not _is_one_column(frame, aside):
            continue  # the columns of a table
        return [[i for i in lines if i not in aside], aside]
    return None


def _rows(frame: Frame, lines: Row) -> list[Row]:
    """The lines by height, each row from left to right."""
    rows: list[Row] = []
    for i in lines:
        if rows and frame.middles[i] - frame.middles[rows[-1][-1]] <= ROW_SHIFT * frame.height(i):
            rows[-1].append(i)
        else:
            rows.append([i])
    return [sorted(row, key=lambda i: frame.boxes[i][0]) for row in rows]


def _runs_beside(frame: Frame, rows: list[Row]) -> Iterator[_Beside]:
    """Runs of rows with a white strip in common."""
    run: _Beside | None = None
    for n, row in enumerate(rows):
        gaps = [(frame.boxes[a][2], frame.boxes[b][0]) for a, b in pairwise(row)]
        x1, x2 = max(gaps, key=lambda gap: gap[1] - gap[0], default=(0.0, 0.0))
        if run is not None:
            left, right = max(run.x1, x1), min(run.x2, x2)
            if gaps and right - left >= GUTTER_EM * frame.em:
                run.x1, run.x2, run.stop, run.both = left, right, n + 1, run.both + 1
                continue
            box = frame.boxes[row[0]]
            if not gaps and (box[2] <= run.x2 or box[0] >= run.x1) and not box[0] < run.x1 < run.x2 < box[2]:
                run.stop = n + 1
                continue
            yield run
        run = _Beside(n, n + 1, x1, x2) if gaps and x2 - x1 >= GUTTER_EM * frame.em else None
    if run is not None:
        yield run


def _flows(frame: Frame, above: Row, side: Row, below: Row) -> int:
    """How surely sentences go on from the row above into one side, and from there to the row below."""
    if not side:
        return -2
    first, last = frame.lines[side[0]].text, frame.lines[side[-1]].text
    flow = _goes_on(frame.lines[above[-1]].text, first) if above else 0
    return flow + (_goes_on(last, frame.lines[below[0]].text) if below else 0)

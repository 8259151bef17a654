"""What lines of text tell about each other: whether they are prose or cells of rows, and where a sentence goes on.

`columns.py`, `bands.py` and `asides.py` decide by it. Nothing here orders anything.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise
from statistics import median
from typing import Final

from .lines import ENDS, FIGURE, NO_SPACES, PROSE_CHARS, ROW_SHIFT, Frame, Row

__all__ = [
    "WhiteStrip",
    "aligned_share",
    "are_apart_though_level",
    "are_names_and_values",
    "blocks_of",
    "goes_on",
    "in_margin",
    "is_one_column",
    "is_prose",
    "level_rows",
    "level_share",
    "side_of",
    "white_strips",
]

# Tuned on the multi-column pages, tables and forms of the shared corpus and of benchmarks/generated_pages.py. Where a
# constant is wrong, columns are read across (every sentence torn), or rows of a table are read down (every row torn).
GUTTER_EM: Final = 0.6  # least width of a gutter; from .4 on, word spaces that stand under each other are gutters
OVERHANG_EM: Final = 1.0  # boxes are not exact: a line that reaches less far beyond a gutter does not cross it
CROSSING_SHARE: Final = 0.3  # of the lines may cross a gutter, as headlines do; more, and tables are cut
PROSE_LINES: Final = 4  # least length of a column whose lines are level with its neighbour's
PROSE_FILL: Final = 0.6  # of the column is filled by its middle line, when it is prose
NARROW_CHARS: Final = 18  # least length of the middle line of prose in a column that it fills
FULL_SHARE: Final = 0.85  # of the column is filled by the usual row, when it is prose in pieces
ALIGNED_SHARE: Final = 0.4  # of the lines have a partner in the same row beyond the gutter: a table
LEVEL_SHARE: Final = 0.9  # so many have one: rows, if none of them begins within a sentence and they are uneven
VALUES: Final = 0.6  # of the lines on one side of a table are figures …
NAMES: Final = 0.2  # … and so many at most on the side of their names
HEADING_LINES: Final = 24  # so many lines may stand above the names of columns and in them
ENTRY_LINES: Final = 6  # least length of two columns of an index
ENTRY_SHARE: Final = 0.7  # of their lines begin with a letter and end with a number
SORTED_SHARE: Final = 0.95  # of the lines come after the one before in the alphabet
BESIDE_SHARE: Final = 0.25  # of those have an item of the list beside them
WITHIN_SHARE: Final = 0.5  # of the lines of prose beside a list begin within a sentence
EVEN_LENGTH: Final = 0.75  # of the longest line of a column …
EVEN_SHARE: Final = 0.85  # … have so many of its lines, as lines of prose do and names of values do not
DIVIDED_SHARE: Final = 0.1  # of the lines of narrow prose end within a word
DASHES: Final = ("-", "–", "—", "−")
DIVIDING: Final = ("-", "\u2010", "\u00ad")
MARGIN_SHARE: Final = 0.45  # of the text's width: notes that are wider are no notes
MARGIN_SCALE: Final = 0.87  # of the size of the text: notes are set smaller
NOTE_CHARS: Final = 6  # least length of the middle line of notes in a margin; shorter are numbers of lines
SIDE_GAP_EM: Final = 0.4  # more than the usual white between lines parts two of those paragraphs


WhiteStrip = tuple[float, float, int]
"""White from one x to another, and how many lines cross it."""


def white_strips(frame: Frame, lines: Row) -> list[WhiteStrip]:
    """The white strips that the fewest lines cross, the best first."""
    starts = sorted(frame.boxes[i][0] for i in lines)
    ends = sorted(frame.boxes[i][2] for i in lines)
    found = []
    for left, right in pairwise(sorted({*starts, *ends})):
        if right - left < GUTTER_EM * frame.em:
            continue
        crossing = bisect_right(starts, left) - bisect_right(ends, left)
        if crossing <= CROSSING_SHARE * len(lines):
            found.append((crossing, left - right, left, right))
    return [(left, right, crossing) for crossing, _, left, right in sorted(found)[:8]]


def side_of(frame: Frame, index: int, x: float) -> int:
    """The side of a gutter on which a line is: -1 left, 1 right, 0 across.

    Args:
        frame: the page as a frame: its lines, and the usual size of its type.
        index: the index of the line.
        x: the place of a gutter.
    """
    x1, _, x2, _ = frame.boxes[index]
    beyond, before = x2 - x, x - x1
    if min(beyond, before) >= OVERHANG_EM * frame.em:
        return 0
    return -1 if before >= beyond else 1


def are_apart_though_level(frame: Frame, left: Row, right: Row, aligned: float) -> bool:
    """Whether lines that stand level with each other are of two columns all the same, and not cells of rows."""
    few = min(len(left), len(right))
    if _have_one_heading(frame, left, right) or (few >= ENTRY_LINES and _are_entries(frame, left, right)):
        return True
    if few < PROSE_LINES:
        return False
    if _divides_words(frame, left) and _divides_words(frame, right):
        return True
    sides = [(side, box[2] - box[0]) for side, box in ((left, frame.union(left)), (right, frame.union(right)))]
    prose = all(is_prose(frame, side, width) for side, width in sides)
    prose = prose or all(_fills(frame, side, width) for side, width in sides)
    if not prose:
        (a, a_width), (b, b_width) = sides
        return (is_prose(frame, a, a_width) and _is_run(frame, a, b)) or (
            is_prose(frame, b, b_width) and _is_run(frame, b, a)
        )
    if aligned < LEVEL_SHARE:
        return True
    return (_runs_on(frame, left) and _runs_on(frame, right)) or (_is_even(frame, left) and _is_even(frame, right))


def are_names_and_values(frame: Frame, left: Row, right: Row) -> bool:
    """Whether one side is figures and the other one their names: rows of a table, though many names have no value."""
    for names, values in ((left, right), (right, left)):
        if _figure_share(frame, values) >= VALUES and _figure_share(frame, names) <= NAMES:
            return median(frame.lengths[i] for i in names) < PROSE_CHARS
    return False


def _figure_share(frame: Frame, lines: Row) -> float:
    """How many of the lines are figures, or the dash that stands for none."""
    texts = [frame.lines[i].text.strip() for i in lines]
    return sum(text in DASHES or FIGURE.fullmatch(text) is not None for text in texts) / len(texts)


def _divides_words(frame: Frame, lines: Row) -> bool:
    """Whether words are divided at the ends of some lines, as in narrow columns of prose and never in cells."""
    texts = [frame.lines[i].text.strip() for i in lines]
    divided = sum(a.endswith(DIVIDING) and b[:1].islower() for a, b in pairwise(texts))
    return divided >= max(2, DIVIDED_SHARE * len(lines))


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
    for row in level_rows(frame, lines):
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
    return 3 * apart < len(lines) and level_share(frame, within, others) >= BESIDE_SHARE


def _runs_on(frame: Frame, lines: Row) -> bool:
    """Whether one of the lines begins within a sentence, as far as its first letter tells."""
    firsts = (next((char for char in frame.lines[i].text if char.isalpha()), "") for i in lines)
    return any(not first.isupper() for first in firsts)


def _is_even(frame: Frame, lines: Row) -> bool:
    """Whether nearly all of the lines are about as long."""
    lengths = [frame.boxes[i][2] - frame.boxes[i][0] for i in lines]
    return sum(length >= EVEN_LENGTH * max(lengths) for length in lengths) >= EVEN_SHARE * len(lines)


def in_margin(frame: Frame, notes: Row, text: Row) -> bool:
    """Whether `notes` are few, narrow and small beside running text, as notes in its margin are."""
    if len(text) < PROSE_LINES or 2 * len(notes) > len(text):
        return False
    if median(len(frame.lines[i].text) for i in notes) < NOTE_CHARS:
        return False
    a, b = frame.union(notes), frame.union(text)
    return (
        a[2] - a[0] <= MARGIN_SHARE * (b[2] - b[0])
        and min(a[3], b[3]) > max(a[1], b[1])
        and is_prose(frame, text, b[2] - b[0])
        and frame.scale(notes) <= MARGIN_SCALE * frame.scale(text)
    )


def is_prose(frame: Frame, lines: Row, width: float) -> bool:
    """Whether the lines are running text, in one column of a width or in several narrower ones.

    Args:
        frame: the page as a frame: its lines, and the usual size of its type.
        lines: the indices of the lines.
        width: the width of their column.
    """
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


def aligned_share(frame: Frame, left: Row, right: Row) -> float:
    """How many lines of the shorter column have a line of the other at their height."""
    few, many = sorted((left, right), key=len)
    return level_share(frame, few, many)


def level_share(frame: Frame, lines: Row, others: Row) -> float:
    """How many of the lines have one of the others at their height."""
    middles = sorted(frame.middles[i] for i in others)
    hits = 0
    for i in lines:
        y, reach = frame.middles[i], ROW_SHIFT * frame.height(i)
        at = bisect_left(middles, y - reach)
        hits += at < len(middles) and middles[at] <= y + reach
    return hits / len(lines)


def blocks_of(frame: Frame, lines: Iterable[int], gap: float) -> list[Row]:
    """The lines in groups, divided where there is more white than `gap` from side to side.

    Args:
        frame: the page as a frame: its lines, and the usual size of its type.
        lines: the indices of the lines.
        gap: ems of white.
    """
    blocks: list[Row] = []
    bottom = -math.inf
    for i in sorted(lines, key=lambda i: frame.boxes[i][1]):
        if frame.boxes[i][1] - bottom >= gap * frame.em:
            blocks.append([])
        blocks[-1].append(i)
        bottom = max(bottom, frame.boxes[i][3])
    return blocks


def is_one_column(frame: Frame, lines: Row) -> bool:
    """Whether no two of the lines stand side by side: then the first and the last one say how sentences go on."""
    by_middle = frame.by_middle(lines)
    return all(frame.middles[b] - frame.middles[a] > ROW_SHIFT * frame.height(b) for a, b in pairwise(by_middle))


def goes_on(end: str, begin: str) -> int:
    """1: a sentence goes on from one line to the other, 0: it may, -1: one of them says that it does not."""
    end, begin = end.rstrip(), begin.lstrip()
    if not end or not begin or NO_SPACES.match(begin):
        return 0
    is_open, within = not end.endswith(ENDS), begin[0].islower()
    return 1 if is_open and within else -1 if within else 0


def level_rows(frame: Frame, lines: Row) -> list[Row]:
    """The lines by height, each row from left to right."""
    rows: list[Row] = []
    for i in lines:
        if rows and frame.middles[i] - frame.middles[rows[-1][-1]] <= ROW_SHIFT * frame.height(i):
            rows[-1].append(i)
        else:
            rows.append([i])
    return [sorted(row, key=lambda i: frame.boxes[i][0]) for row in rows]

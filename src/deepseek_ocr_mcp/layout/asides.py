"""Two arrangements that no gutter tells: headings beside their paragraphs, and a box that text flows around.

Both give parts of the page in reading order, or nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from .evidence import (
    GUTTER_EM,
    OVERHANG_EM,
    PROSE_LINES,
    SIDE_GAP_EM,
    WITHIN_SHARE,
    WhiteStrip,
    blocks_of,
    goes_on,
    is_prose,
    level_rows,
)
from .lines import LIST_MARK, ROW_SHIFT, Frame, Row

__all__ = ["around_aside", "beside_headings"]

# Tuned on benchmarks/generated_pages.py. Where a constant is wrong, a table is read as headings with paragraphs, or a
# box is read into the lines beside it.
SIDE_SHARE: Final = 0.8  # of the lines on the left stand at the head of a paragraph: they are its heading
SIDE_LINES: Final = 1.6  # least mean length of such paragraphs; shorter are the values of a form
BESIDE_SHARE: Final = 0.3  # of the height of the lower of two lines beside each other is shared
ASIDE_ROWS: Final = 3  # least height of a box that text flows around, in rows with lines on both sides


def beside_headings(frame: Frame, lines: Row, white: Sequence[WhiteStrip]) -> list[Row] | None:
    """A narrow column of headings, each level with the head of its paragraph: heading, paragraph, heading, …"""
    for left, right, crossing in white:
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
    if a[2] - a[0] >= b[2] - b[0] or not is_prose(frame, text, b[2] - b[0]):
        return []
    gaps = [frame.boxes[n][1] - frame.boxes[i][3] for i, n in pairwise(text)]
    if min(gaps) < -ROW_SHIFT * frame.em:
        return []  # several in one row
    usual = sorted(gaps)[len(gaps) // 3]
    starts = [text[0], *(n for n, gap in zip(text[1:], gaps, strict=True) if gap > usual + SIDE_GAP_EM * frame.em)]
    if len(starts) < 2 or len(text) < SIDE_LINES * len(starts):
        return []
    blocks = blocks_of(frame, heads, SIDE_GAP_EM)
    firsts = [min(block, key=lambda i: frame.boxes[i][1]) for block in blocks]
    heights = sorted(frame.middles[i] for i in firsts)
    level = [n for n in starts if _is_near(heights, frame.middles[n], ROW_SHIFT * frame.em)]
    return level if min(len(level) / len(firsts), len(level) / len(starts)) >= SIDE_SHARE and len(level) > 1 else []


def _is_near(places: list[float], at: float, reach: float) -> bool:
    """Whether one of the places, which are sorted, is as near as that."""
    n = bisect_left(places, at - reach)
    return n < len(places) and places[n] <= at + reach


def _by_heading(frame: Frame, heads: Row, text: Row, starts: list[int]) -> list[Row]:
    """Each heading, then its paragraph."""
    tops = [frame.middles[i] - ROW_SHIFT * frame.em for i in starts]
    parts: list[tuple[Row, Row]] = [([], []) for _ in range(len(starts) + 1)]
    for column, rows in enumerate((heads, text)):
        for i in rows:
            parts[bisect_right(tops, frame.middles[i])][column].append(i)
    return [part for pair in parts for part in pair if part]


@dataclass(slots=True)
class _Beside:
    """Rows from `start` to `stop` with white from `x1` to `x2` in them; `both` of them have lines on both sides."""

    start: int
    stop: int
    x1: float
    x2: float
    both: int = 1


def around_aside(frame: Frame, lines: Row) -> list[Row] | None:
    """Text that flows around a box at its side, then the box; nothing where there is none.

    The sentences tell the text from the box: they go on from the rows above into one of the two.
    """
    rows = _rows_side_by_side(frame, lines)
    for run in _runs_beside(frame, rows):
        if run.both < ASIDE_ROWS or run.stop - run.start == len(rows):
            continue
        inside = [i for row in rows[run.start : run.stop] for i in row]
        sides: list[Row] = [[], []]
        for i in inside:
            sides[frame.boxes[i][2] > run.x2].append(i)
        margin = min(frame.boxes[i][0] for i in inside)
        above, below = (_across(frame, rows, n, run, margin) for n in (run.start - 1, run.stop))
        if not all(sides) or any(frame.boxes[i][0] < run.x1 for i in sides[1]):
            continue
        flows = [(_flows(frame, above, side, below), _within_share(frame, side)) for side in sides]
        aside, main = (sides[0], sides[1]) if flows[0] < flows[1] else (sides[1], sides[0])
        flow, within = max(flows)
        if flow < 1 or (flow == min(flows)[0] and min(flows)[1] >= WITHIN_SHARE):
            continue
        if len(main) < PROSE_LINES or within < WITHIN_SHARE:
            continue
        if _has_columns(frame, main) or _has_columns(frame, aside):
            continue  # those of a table
        before = [i for row in rows[: run.start] for i in row]
        after = [i for row in rows[run.stop :] for i in row]
        return [frame.by_middle(part) for part in (before, main, after, aside) if part]
    return None


def _has_columns(frame: Frame, lines: Row) -> bool:
    """Whether lines stand beside each other with white between them; the words of a headline may have been parted."""
    rows = level_rows(frame, lines)
    return any(frame.boxes[b][0] - frame.boxes[a][2] > frame.height(a) for row in rows for a, b in pairwise(row))


def _rows_side_by_side(frame: Frame, lines: Row) -> list[Row]:
    """Rows of lines beside each other, level or not: a box has a size of type and a white between lines of its own."""
    rows: list[Row] = []
    for i in lines:
        if rows and all(_is_beside(frame, i, other) for other in rows[-1]):
            rows[-1].append(i)
        else:
            rows.append([i])
    return [sorted(row, key=lambda i: frame.boxes[i][0]) for row in rows]


def _is_beside(frame: Frame, i: int, other: int) -> bool:
    """Whether two lines overlap in height, and not in length."""
    a, b = frame.boxes[i], frame.boxes[other]
    shared = min(a[3], b[3]) - max(a[1], b[1])
    return shared >= BESIDE_SHARE * min(frame.height(i), frame.height(other)) and min(a[2], b[2]) <= max(a[0], b[0])


def _within_share(frame: Frame, lines: Row) -> float:
    """How many of the lines begin within a sentence."""
    return sum(frame.lines[i].text.lstrip()[:1].islower() for i in lines) / len(lines)


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


def _across(frame: Frame, rows: list[Row], n: int, run: _Beside, margin: float) -> Row:
    """Row `n`, if it is a line from the left margin over the white strip: the text has the whole width there."""
    row = rows[n] if 0 <= n < len(rows) else []
    box = frame.boxes[row[0]] if len(row) == 1 else None
    return row if box is not None and box[0] < margin + OVERHANG_EM * frame.em and box[2] > run.x2 else []


def _flows(frame: Frame, above: Row, side: Row, below: Row) -> int:
    """How surely sentences go on from the row above into one side, and from there to the row below."""
    if not side:
        return -2
    first, last = frame.lines[side[0]].text, frame.lines[side[-1]].text
    flow = goes_on(frame.lines[above[-1]].text, first) if above else 0
    return flow + (goes_on(last, frame.lines[below[0]].text) if below else 0)

"""Cuts lines where a table has a column's edge: cells that one command of the file wrote are cells all the same.

The places of characters in a PDF are exact, so white that is much wider than the page's spaces parts cells by itself;
white that is a little wider does where rows above or below have an edge of two cells in it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from .content import Clock
from .lines import LIST_SIGNS, LayerLine, direction

__all__ = ["cut_at_columns"]

# Shares of the size of the line. Tuned on the tables of the public suites; too small a gap cuts justified prose into
# cells, too large a one leaves two figures in one cell.
WIDE_EM: Final = 1.4  # white that parts cells by itself …
WIDE_SPACES: Final = 3.0  # … if it is as many usual spaces of the page
NARROW_EM: Final = 0.45  # white that may be a column's edge
NARROW_SPACES: Final = 1.5
USUAL_EM: Final = 0.28  # a space, where the page tells nothing
WIDEST_EM: Final = 0.4  # a usual space of justified prose; where it seems wider, the page is all table
NEAR_ROWS: Final = 5  # above and below that are looked at
NEAR_EM: Final = 3.0  # from row to row of a table, at most
SUPPORT: Final = 2  # rows that have an edge there
TWO_PLACES: Final = 2.5  # of its advances: characters that are farther apart have two places or more between them
ONE_WIDTH_CHARS: Final = 6  # least length of a line that shows type of one width
WIDE_STEPS: Final = 3.0  # of its advances: white that parts cells by itself; behind a stop stand two
OFF_GRID: Final = 0.06  # of its advance: how far a character may stand from its place
REACH_EM: Final = 6.0  # from the white to the cells on its sides


@dataclass(frozen=True, slots=True)
class _White:
    """White in a line: before character `at` of its text, from `left` to `right`."""

    at: int
    left: float
    right: float


def cut_at_columns(lines: Sequence[LayerLine], clock: Clock) -> list[LayerLine]:
    """The lines, cut where cells of a table touch."""
    level = [line for line in lines if not line.vertical and line.placed is None and not _runs_leftwards(line)]
    steps = {id(line): _step(line) for line in level}
    whites = {id(line): _whites(line, steps[id(line)]) for line in level}
    widths = [w.right - w.left for line in level for w in whites[id(line)] if w.right - w.left < line.size]
    sizes = [line.size for line in level]
    usual = min(median(widths) / median(sizes), WIDEST_EM) if len(widths) > 10 else USUAL_EM
    candidates = {
        id(line): [w for w in whites[id(line)] if w.right - w.left >= max(NARROW_EM, NARROW_SPACES * usual) * line.size]
        for line in level
    }
    out: list[LayerLine] = []
    page = _Rows(sorted(level, key=lambda line: line.base), candidates)
    for line in lines:
        wide = max(WIDE_EM * line.size, WIDE_SPACES * usual * line.size, WIDE_STEPS * steps.get(id(line), 0.0))
        cuts = [
            white.at
            for white in candidates.get(id(line), ())
            if white.right - white.left >= wide or page.have_edge(white, line, clock)
        ]
        parts = [line.part(start, stop) for start, stop in pairwise([0, *cuts, len(line.text)])] if cuts else [line]
        out += [part for part in parts if part is not None]
    return out


def _runs_leftwards(line: LayerLine) -> bool:
    return any(direction(mark.text) == "R" for mark in line.marks)


def _step(line: LayerLine) -> float:
    """The advance from character to character in type of one width; 0 in any other."""
    xs = [mark.x for mark in line.marks]
    steps = [b - a for a, b in pairwise(xs)]
    least = min(steps, default=0.0)
    if len(xs) < ONE_WIDTH_CHARS or least <= 0:
        return 0.0
    return least if all(abs(step / least - round(step / least)) <= OFF_GRID for step in steps) else 0.0


def _whites(line: LayerLine, step: float) -> list[_White]:
    """The spaces of a line; in type of one width those of two places or more, because one of them is wide already.

    The white behind a list mark is none: its item belongs to it.

    Args:
        step: of the line.
    """
    found = []
    for at in range(2 if line.text[:1] in LIST_SIGNS else 1, len(line.at) - 1):
        if line.at[at] < 0 and line.at[at - 1] >= 0 and line.at[at + 1] >= 0:
            if step and line.marks[line.at[at + 1]].x - line.marks[line.at[at - 1]].x < TWO_PLACES * step:
                continue
            found.append(_White(at, line.marks[line.at[at - 1]].right, line.marks[line.at[at + 1]].left))
    return found


class _Rows:
    """The level lines of a page from top to bottom, and the whites in them that may be edges of columns."""

    def __init__(self, lines: Sequence[LayerLine], candidates: dict[int, list[_White]]) -> None:
        self._lines = lines
        self._bases = [line.base for line in lines]
        self._candidates = candidates

    def have_edge(self, white: _White, line: LayerLine, clock: Clock) -> bool:
        """Whether enough rows near the line have cells on both sides of the white, and hardly any runs through it."""
        support = against = 0
        for row in self._near(line, clock):
            left = [other.right for other in row if other.right <= white.right]
            right = [other.left for other in row if other.left >= white.left]
            through = [other for other in row if other.left < white.left and other.right > white.right]
            if through:
                parted = all(self._is_parted(other, white) for other in through)
                support += parted
                against += not parted
            elif left and right:
                reach = REACH_EM * line.size
                support += white.left - max(left) <= reach and min(right) - white.right <= reach
        return support >= SUPPORT and support > 2 * against

    def _near(self, line: LayerLine, clock: Clock) -> list[list[LayerLine]]:
        """The rows above and below, the nearest first."""
        reach = NEAR_ROWS * NEAR_EM * line.size
        rows: dict[int, list[LayerLine]] = {}
        for other in self._lines[
            bisect_left(self._bases, line.base - reach) : bisect_right(self._bases, line.base + reach)
        ]:
            clock.tick()
            if abs(other.base - line.base) > line.size / 2:
                rows.setdefault(round(2 * other.base / line.size), []).append(other)
        return sorted(rows.values(), key=lambda row: abs(row[0].base - line.base))[: 2 * NEAR_ROWS]

    def _is_parted(self, line: LayerLine, white: _White) -> bool:
        """Whether the line has white of its own in that place."""
        return any(
            min(own.right, white.right) - max(own.left, white.left) > 0 for own in self._candidates.get(id(line), ())
        )

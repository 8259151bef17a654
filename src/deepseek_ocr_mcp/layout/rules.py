"""Rules that are drawn on a page make grids where they cross: the places of columns and rows, and their borders.

Pure geometry, without text: for the rules of a PDF page and those found on a picture alike.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Final

from .lines import Box

__all__ = ["LEAST_BANDS", "Grid", "find_bands", "find_grids", "no_tick"]

# Tuned on the PDFs of tests/documents and on the ruled pages of benchmarks/generated_pages.py. SNAP and TOUCH are
# in ems: too small, and borders that are drawn in pieces do not meet, so that no table is found; too large, and the
# narrow columns of a calendar are one.
SNAP_EM: Final = 0.22  # rules that are closer are one
TOUCH_EM: Final = 0.32  # rules that end so close meet
LEAST_EM: Final = 0.7  # least height of a row and width of a column whose border is not drawn
LEAST_SIZE: Final = 11.0  # ems are at least so long, in points or pixels: rules are not drawn finer for small type
MAX_FILLS: Final = 400  # coloured areas that are compared with each grid: bounds the time
MAX_CROSSINGS: Final = 1_000_000  # level times upright rules
MAX_GRID: Final = 60  # rows or columns; a larger one is a drawing
HEAD_EM: Final = 5.0  # most height of a coloured row over a grid
BAND_EM: Final = (0.8, 12.0)  # least and most height of a row between two level rules
OPEN_EXTENTS: Final = 40  # extents that a rule is compared with: bounds the time
LEAST_BANDS: Final = 3  # fewer are the heading and the body of a table, whose rows no rule parts
BORDER_SHARE: Final = 0.6  # of the border between two cells is drawn, or they are one

Rule = tuple[float, float, float]
"""Where a rule is, and from where to where it goes."""


def no_tick() -> None:
    """Nobody counts the work."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Rules that cross: the places of columns and rows, and the pieces of borders that are drawn."""

    xs: list[float]
    ys: list[float]
    level: list[Rule]
    upright: list[Rule]
    snap: float
    has_head: bool = False
    """The first row is a coloured one over what the rules make."""

    @property
    def box(self) -> Box:
        """From the first row and column to the last."""
        return self.xs[0], self.ys[0], self.xs[-1], self.ys[-1]

    def cell_around(self, box: Box) -> tuple[int, int] | None:
        """The row and the column of the cell that holds the whole box, if one does."""
        row = bisect_right(self.ys, (box[1] + box[3]) / 2) - 1
        column = bisect_right(self.xs, (box[0] + box[2]) / 2) - 1
        if not (0 <= row < len(self.ys) - 1 and 0 <= column < len(self.xs) - 1):
            return None
        left, right, top, bottom = self.xs[column], self.xs[column + 1], self.ys[row], self.ys[row + 1]
        across = left - self.snap <= box[0] and box[2] <= right + self.snap
        return (row, column) if across and top - self.snap <= box[1] and box[3] <= bottom + self.snap else None

    def rows_around(self, box: Box, owner: list[list[tuple[int, int]]]) -> int:
        """How many rows the cell has that holds the whole box; 0 where none does.

        Args:
            owner: what `owners` gives: cells may be merged.
        """
        row = bisect_right(self.ys, (box[1] + box[3]) / 2) - 1
        column = bisect_right(self.xs, (box[0] + box[2]) / 2) - 1
        if not (0 <= row < len(self.ys) - 1 and 0 <= column < len(self.xs) - 1):
            return 0
        same = [(r, c) for r, cells in enumerate(owner) for c, first in enumerate(cells) if first == owner[row][column]]
        rows, columns = {r for r, _ in same}, {c for _, c in same}
        left, right = self.xs[min(columns)] - self.snap, self.xs[max(columns) + 1] + self.snap
        top, bottom = self.ys[min(rows)] - self.snap, self.ys[max(rows) + 1] + self.snap
        return len(rows) if left <= box[0] and box[2] <= right and top <= box[1] and box[3] <= bottom else 0

    def owners(self) -> list[list[tuple[int, int]]]:
        """For each cell the first of those that it is one with, because no border is drawn between them.

        Cells of a row are put together first; then a cell and the one above it, where both are equally wide.
        """
        columns, rows = len(self.xs) - 1, len(self.ys) - 1
        owner = [[(r, c) for c in range(columns)] for r in range(rows)]
        for r in range(rows):
            for c in range(1, columns):
                if not self._is_drawn(self.upright, self.xs[c], self.ys[r], self.ys[r + 1]):
                    owner[r][c] = owner[r][c - 1]
        runs = [[list(run) for _, run in groupby(range(columns), key=row.__getitem__)] for row in owner]
        for r in range(1, rows):
            for run in runs[r]:
                first, stop = run[0], run[-1] + 1
                alike = run in runs[r - 1]
                if alike and not self._is_drawn(self.level, self.ys[r], self.xs[first], self.xs[stop]):
                    owner[r][first:stop] = owner[r - 1][first:stop]
        return owner

    def _is_drawn(self, rules: list[Rule], at: float, start: float, end: float) -> bool:
        near = rules[
            bisect_left(rules, at - self.snap, key=itemgetter(0)) : bisect_right(
                rules, at + self.snap, key=itemgetter(0)
            )
        ]
        covered = sum(max(0.0, min(end, b) - max(start, a)) for _, a, b in near)
        return covered >= BORDER_SHARE * (end - start)


def find_grids(
    rules: Sequence[Box], em: float, tick: Callable[[], None] = no_tick, fills: Sequence[Box] = ()
) -> Iterator[Grid]:
    """Rules that touch each other, where they make at least two rows or columns of two cells.

    Args:
        rules: the boxes of lines that are drawn along the axes of the page.
        em: the usual height of a line of text.
        tick: is called for each pair of rules that is looked at; it may raise.
        fills: the boxes of coloured areas: the edges of a coloured row part it from the next.
    """
    snap, touch = SNAP_EM * max(em, LEAST_SIZE), TOUCH_EM * max(em, LEAST_SIZE)
    level = _merged([((y1 + y2) / 2, x1, x2) for x1, y1, x2, y2 in rules if x2 - x1 >= y2 - y1], snap, touch)
    upright = _merged([((x1 + x2) / 2, y1, y2) for x1, y1, x2, y2 in rules if x2 - x1 < y2 - y1], snap, touch)
    if not level or not upright or len(level) * len(upright) > MAX_CROSSINGS:
        return
    for across, down in _touching(level, upright, touch, tick):
        grid = _grid(across, down, fills[:MAX_FILLS], em, snap)
        if 2 <= len(grid.xs) <= MAX_GRID + 1 and 2 < len(grid.ys) <= MAX_GRID + 1 and len(grid.xs) + len(grid.ys) > 5:
            yield grid


def _grid(across: list[Rule], down: list[Rule], fills: Sequence[Box], em: float, snap: float) -> Grid:
    """The grid that rules make which touch each other."""
    xs = _places([x for x, _, _ in down], snap)
    xs = _with_places(xs, (min(a for _, a, _ in across), max(b for _, _, b in across)), LEAST_EM * em)
    edges = list(_edges(fills, xs, min(a for _, a, _ in down), max(b for _, _, b in down), snap))
    ys = _places([y for y, _, _ in (*across, *edges)], snap)
    ends = [(end, 0.0, 0.0) for _, a, b in down for end in (a, b)]
    shared = [at for at, spans in _by_place(ends, snap) if len(spans) > 1]
    ys = _with_places(ys, (min(a for _, a, _ in down), max(b for _, _, b in down), *shared), LEAST_EM * em)
    has_head = False
    for x1, y1, x2, y2 in fills:  # a coloured row of names over the grid
        is_as_wide = abs(x1 - xs[0]) <= 2 * snap and abs(x2 - xs[-1]) <= 2 * snap
        if is_as_wide and abs(y2 - ys[0]) <= snap and LEAST_EM * em <= y2 - y1 <= HEAD_EM * em:
            ys, has_head = [y1, *ys], True
    return Grid(xs, ys, sorted([*across, *edges]), down, snap, has_head)


def find_bands(
    rules: Sequence[Box], em: float, fills: Sequence[Box] = ()
) -> Iterator[tuple[float, float, list[float]]]:
    """Level rules and edges of coloured rows that begin and end at the same places: from where to where, and heights.

    Args: as those of `find_grids`. Rules that are parts of grids are among them, too.
    """
    snap, touch = SNAP_EM * max(em, LEAST_SIZE), TOUCH_EM * max(em, LEAST_SIZE)
    level = _merged([((y1 + y2) / 2, x1, x2) for x1, y1, x2, y2 in rules if x2 - x1 >= y2 - y1], snap, touch)
    rows = _merged_fills([box for box in fills if BAND_EM[0] * em <= box[3] - box[1] <= BAND_EM[1] * em], snap, touch)
    level += [(y, x1, x2) for x1, y1, x2, y2 in rows for y in (y1, y2)]
    level.sort(key=lambda rule: (rule[1], rule[2]))
    for extent in _alike(level, 2 * snap):
        ys = _places([y for y, _, _ in extent], snap)
        run = ys[:1]
        for above, y in pairwise([*ys, float("inf")]):
            if BAND_EM[0] * em <= y - above <= BAND_EM[1] * em:
                run.append(y)
                continue
            if len(run) > LEAST_BANDS:
                yield min(x1 for _, x1, _ in extent), max(x2 for _, _, x2 in extent), run
            run = [y]


def _alike(level: Sequence[Rule], slack: float) -> Iterator[list[Rule]]:
    """Rules that begin and end at the same places, in groups."""
    groups: list[list[Rule]] = []
    for rule in level:
        for group in groups[-OPEN_EXTENTS:]:
            if abs(group[0][1] - rule[1]) <= slack and abs(group[0][2] - rule[2]) <= slack:
                group.append(rule)
                break
        else:
            groups.append([rule])
    return (group for group in groups if len(group) > LEAST_BANDS)


def _merged_fills(fills: Sequence[Box], snap: float, touch: float) -> list[Box]:
    """Coloured areas, those put together that stand side by side as the cells of a row."""
    merged: list[Box] = []
    for box in sorted(fills[:MAX_FILLS], key=lambda box: (round(box[1] / snap), box[0])):
        before = merged[-1] if merged else None
        if (
            before is not None
            and abs(before[1] - box[1]) <= snap
            and abs(before[3] - box[3]) <= snap
            and box[0] <= before[2] + touch
        ):
            merged[-1] = (before[0], before[1], max(before[2], box[2]), before[3])
        else:
            merged.append(box)
    return merged


def _edges(fills: Sequence[Box], xs: list[float], top: float, bottom: float, snap: float) -> Iterator[Rule]:
    """The upper and lower edges of the coloured rows between these heights."""
    for x1, y1, x2, y2 in fills:
        is_row = 2 * snap <= y2 - y1 <= (bottom - top) / 2 and top - snap <= y1 and y2 <= bottom + snap
        if is_row and xs[0] - snap <= x1 and x2 <= xs[-1] + snap:
            yield from ((y1, x1, x2), (y2, x1, x2))


def _touching(
    level: list[Rule], upright: list[Rule], touch: float, tick: Callable[[], None]
) -> Iterator[tuple[list[Rule], list[Rule]]]:
    """Groups of level and upright rules that meet, directly or by way of others."""
    parent = list(range(len(level) + len(upright)))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    places = [x for x, _, _ in upright]  # in order: `_merged` sorts
    for i, (y, x1, x2) in enumerate(level):
        for k in range(bisect_left(places, x1 - touch), bisect_right(places, x2 + touch)):
            tick()
            if upright[k][1] - touch <= y <= upright[k][2] + touch:
                parent[root(i)] = root(len(level) + k)
    groups: dict[int, tuple[list[Rule], list[Rule]]] = {}
    for n in range(len(parent)):
        across, down = groups.setdefault(root(n), ([], []))
        (across if n < len(level) else down).append(level[n] if n < len(level) else upright[n - len(level)])
    return ((across, down) for across, down in groups.values() if across and down)


def _with_places(places: list[float], more: Iterable[float], least: float) -> list[float]:
    """Places of rules with those where other rules begin or end, as far as there is room for a cell between them.

    A row begins where upright rules do, though none is drawn there; on a page that is tilted a little they begin
    a little above or below one that is.
    """
    for at in more:
        if len(places) <= MAX_GRID + 1 and all(abs(at - place) >= least for place in places):
            places = sorted([*places, at])
    return places


def _merged(rules: list[Rule], snap: float, touch: float) -> list[Rule]:
    """Parallel rules at one place put together where they touch; sorted by their places."""
    merged: list[Rule] = []
    for at, spans in _by_place(rules, snap):
        start, end = spans[0]
        for a, b in spans[1:]:
            if a <= end + touch:
                end = max(end, b)
            else:
                merged.append((at, start, end))
                start, end = a, b
        merged.append((at, start, end))
    return merged


def _by_place(rules: list[Rule], snap: float) -> Iterator[tuple[float, list[tuple[float, float]]]]:
    group: list[Rule] = []
    for rule in [*sorted(rules), None]:
        if group and (rule is None or rule[0] - group[-1][0] > snap):
            yield sum(at for at, _, _ in group) / len(group), sorted((a, b) for _, a, b in group)
            group = []
        if rule is not None:
            group.append(rule)


def _places(values: Sequence[float], snap: float) -> list[float]:
    """Values, those that are close to each other as one."""
    return [at for at, _ in _by_place([(value, 0.0, 0.0) for value in values], snap)]

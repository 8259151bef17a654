"""Lines of text go into the cells that rules draw around them.

Where the rules of a page cross, they make a grid; cells between which no border is drawn are one.
Every line is in exactly one element, and what lies in no grid is arranged as
`layout/order.py` does it, with each table in the place of one line. Pure Python; lengths
are in points of a frame in which text runs to the right.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Final

from ...layout.lines import Element, TextLine, runs_leftwards
from ...layout.order import arrange
from .content import Box, Clock
from .lines import LayerLine

__all__ = ["arrange_with_rules", "cut_at_rules"]


SNAP_PT: Final = 2.5  # rules that are closer are one
TOUCH_PT: Final = 3.5  # rules that end so close meet
RUN_ALONG: Final = 0.5  # of the height of a line that a rule runs along to cut it
MAX_CROSSINGS: Final = 1_000_000  # level times upright rules
MAX_GRID: Final = 60  # rows or columns
LEAST_CELLS: Final = 3  # with text
FILLED_SHARE: Final = 0.3  # of the cells hold text; a diagram has a grid, too
BORDER_SHARE: Final = 0.6  # of the border between two cells is drawn, or they are one
CELL_LINES: Final = 4.0  # in the usual cell; more are columns of a page with frames
FORM_SHARE: Final = 0.4  # of the rows go over the whole width: a form
STAND_IN: Final = "0"  # no letter: never a title

Rule = tuple[float, float, float]
"""Where it is, and from where to where it goes."""
Row = list[list[int]]
"""The lines in each cell."""


def cut_at_rules(lines: Iterable[LayerLine], rules: Sequence[Box], clock: Clock) -> list[LayerLine]:
    """Lines cut where an upright rule stands between two of their characters."""
    upright = sorted(box for box in rules if box[3] - box[1] > box[2] - box[0])
    lefts = [box[0] for box in upright]
    out: list[LayerLine] = []
    for line in lines:
        cuts: set[int] = set()
        if not line.vertical:
            _, top, _, bottom = line.box
            for x1, y1, x2, y2 in upright[bisect_right(lefts, line.left) : bisect_right(lefts, line.right)]:
                clock.tick()
                if min(bottom, y2) - max(top, y1) >= RUN_ALONG * line.size:
                    cuts.update(_between(line, x1, x2))
        if cuts:
            parts = [line.part(start, stop) for start, stop in pairwise([0, *sorted(cuts), len(line.text)])]
            out += [part for part in parts if part is not None]
        else:
            out.append(line)
    return out


def _between(line: LayerLine, x1: float, x2: float) -> Iterator[int]:
    """The places of the text where one mark is on the left of the rule and its neighbour on the right."""
    slack = line.size / 10
    before = -1
    for n, at in enumerate(line.at):
        if at < 0:
            continue
        if before >= 0 and at != before:
            a, b = sorted((line.marks[before], line.marks[at]), key=lambda mark: mark.middle)
            if a.right <= x2 + slack and x1 - slack <= b.left:
                yield n
        before = at


def arrange_with_rules(frame: Sequence[TextLine], rules: Sequence[Box], clock: Clock) -> list[Element]:
    """The elements of the page in reading order; lines in a ruled table are in its cells."""
    taken: set[int] = set()
    tables: list[tuple[Box, list[Element]]] = []
    seen = frame
    leftwards = runs_leftwards(frame)
    if leftwards:
        rules = [_mirrored(box) for box in rules]
        seen = [replace(line, box=_mirrored(line.box)) for line in frame]
    by_middle = sorted(((line.box[1] + line.box[3]) / 2, n) for n, line in enumerate(frame))
    middles = [middle for middle, _ in by_middle]
    for grid in _grids(rules, clock):
        x1, y1, x2, y2 = grid.box
        level = by_middle[bisect_left(middles, y1) : bisect_right(middles, y2)]
        inside = [n for _, n in level if n not in taken and x1 <= (seen[n].box[0] + seen[n].box[2]) / 2 <= x2]
        elements = grid.elements(inside, seen)
        if elements:
            taken.update(inside)
            tables.append((_mirrored(grid.box) if leftwards else grid.box, elements))
    if not tables:
        return arrange(frame)
    rest = [n for n in range(len(frame)) if n not in taken]
    stand_ins = [TextLine(STAND_IN, box) for box, _ in tables]
    arranged: list[Element] = []
    for element in arrange([*(frame[n] for n in rest), *stand_ins], like=frame):
        if all(n < len(rest) for n in element.lines):
            arranged.append(_renumbered(element, rest))
        elif element.kind == "table":
            return arrange(frame)  # what was taken for a table is a part of a larger one
        else:
            arranged += _around(element, rest, [elements for _, elements in tables])
    return arranged


def _mirrored(box: Box) -> Box:
    """What is read from the right comes first on the left."""
    return -box[2], box[1], -box[0], box[3]


def _renumbered(element: Element, rest: Sequence[int]) -> Element:
    return replace(element, rows=tuple(tuple(tuple(rest[n] for n in cell) for cell in row) for row in element.rows))


def _around(element: Element, rest: Sequence[int], tables: Sequence[Sequence[Element]]) -> Iterator[Element]:
    """A paragraph with stand-ins as what is before, between and after the tables."""
    rows: list[tuple[tuple[int, ...], ...]] = []
    for (row,) in element.rows:
        if own := tuple(n for n in row if n < len(rest)):
            rows.append((own,))
        for n in row:
            if n >= len(rest):
                if rows:
                    yield _renumbered(replace(element, rows=tuple(rows)), rest)
                    rows = []
                yield from (replace(part, region=element.region) for part in tables[n - len(rest)])
    if rows:
        yield _renumbered(replace(element, rows=tuple(rows)), rest)


@dataclass(frozen=True, slots=True)
class _Grid:
    """Rules that cross: the places of columns and rows, and the pieces of borders that are drawn."""

    xs: list[float]
    ys: list[float]
    level: list[Rule]
    upright: list[Rule]

    @property
    def box(self) -> Box:
        return self.xs[0], self.ys[0], self.xs[-1], self.ys[-1]

    def elements(self, inside: Sequence[int], frame: Sequence[TextLine]) -> list[Element]:
        """These lines in the cells of the grid; nothing where they do not make a table."""
        columns, rows = len(self.xs) - 1, len(self.ys) - 1
        owner = self._owners()
        table: list[Row] = [[[] for _ in range(columns)] for _ in range(rows)]
        for n in inside:
            x1, y1, x2, y2 = frame[n].box
            row = min(max(bisect_right(self.ys, (y1 + y2) / 2) - 1, 0), rows - 1)
            column = min(max(bisect_right(self.xs, (x1 + x2) / 2) - 1, 0), columns - 1)
            row, column = owner[row][column]
            table[row][column].append(n)
        owners = {place for places in owner for place in places}
        filled = [table[row][column] for row, column in owners if table[row][column]]
        if len(filled) < max(LEAST_CELLS, FILLED_SHARE * len(owners)):
            return []
        if sum(len(_rows_of(cell, frame)) for cell in filled) > CELL_LINES * len(filled):
            return []
        split: list[Row] = []
        across: list[bool] = []
        for r, cells in enumerate(table):
            parts = [part for part in _entries(cells, frame) if any(part)]
            split += parts
            across += [len(set(owner[r])) == 1] * len(parts)
        if len(split) < 2:
            return []
        if sum(across) < FORM_SHARE * len(split):
            whole = _table(split, frame)
            return [whole] if whole is not None else []
        # A form: what goes over its whole width are paragraphs, and tables are between them.
        elements: list[Element] = []
        for alone, group in groupby(zip(across, split, strict=True), key=lambda pair: pair[0]):
            part = [row for _, row in group]
            found = None if alone else _table(part, frame)
            elements += (
                [found] if found is not None else [_paragraph(cell, frame) for row in part for cell in row if cell]
            )
        return elements

    def _owners(self) -> list[list[tuple[int, int]]]:
        """For each cell the first of those that it is one with, because no border is drawn between them."""
        columns, rows = len(self.xs) - 1, len(self.ys) - 1
        owner = [[(r, c) for c in range(columns)] for r in range(rows)]
        for r in range(rows):
            for c in range(1, columns):
                if not _is_drawn(self.upright, self.xs[c], self.ys[r], self.ys[r + 1]):
                    owner[r][c] = owner[r][c - 1]
        for r in range(1, rows):
            for c in range(columns):
                if not _is_drawn(self.level, self.ys[r], self.xs[c], self.xs[c + 1]):
                    owner[r][c] = owner[r - 1][c]
        return owner


def _table(rows: Sequence[Row], frame: Sequence[TextLine]) -> Element | None:
    used = [c for c in range(len(rows[0])) if any(row[c] for row in rows)]
    if len(rows) < 2 or len(used) < 2:
        return None
    return Element(
        "table",
        tuple(tuple(tuple(n for line in _rows_of(row[c], frame) for n in line) for c in used) for row in rows),
    )


def _paragraph(cell: Iterable[int], frame: Sequence[TextLine]) -> Element:
    return Element("line", tuple((tuple(line),) for line in _rows_of(cell, frame)))


def _is_drawn(rules: Iterable[Rule], at: float, start: float, end: float) -> bool:
    covered = sum(max(0.0, min(end, b) - max(start, a)) for place, a, b in rules if abs(place - at) <= SNAP_PT)
    return covered >= BORDER_SHARE * (end - start)


def _grids(rules: Sequence[Box], clock: Clock) -> Iterator[_Grid]:
    """Rules that touch each other, where they make at least two rows of two cells."""
    level = _merged([((y1 + y2) / 2, x1, x2) for x1, y1, x2, y2 in rules if x2 - x1 >= y2 - y1])
    upright = _merged([((x1 + x2) / 2, y1, y2) for x1, y1, x2, y2 in rules if x2 - x1 < y2 - y1])
    if not level or not upright or len(level) * len(upright) > MAX_CROSSINGS:
        return
    parent = list(range(len(level) + len(upright)))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    for i, (y, x1, x2) in enumerate(level):
        for k, (x, y1, y2) in enumerate(upright):
            clock.tick()
            if x1 - TOUCH_PT <= x <= x2 + TOUCH_PT and y1 - TOUCH_PT <= y <= y2 + TOUCH_PT:
                parent[root(i)] = root(len(level) + k)
    groups: dict[int, tuple[list[Rule], list[Rule]]] = {}
    for n in range(len(parent)):
        across, down = groups.setdefault(root(n), ([], []))
        if n < len(level):
            across.append(level[n])
        else:
            down.append(upright[n - len(level)])
    for across, down in groups.values():
        if across and down:
            xs = _places([*(x for x, _, _ in down), min(a for _, a, _ in across), max(b for _, _, b in across)])
            ys = _places([*(y for y, _, _ in across), min(a for _, a, _ in down), max(b for _, _, b in down)])
            if 2 < len(xs) <= MAX_GRID and 2 < len(ys) <= MAX_GRID:
                yield _Grid(xs, ys, across, down)


def _merged(rules: list[Rule]) -> list[Rule]:
    """Parallel rules at one place put together where they touch."""
    merged: list[Rule] = []
    for at, spans in _by_place(rules):
        start, end = spans[0]
        for a, b in spans[1:]:
            if a <= end + TOUCH_PT:
                end = max(end, b)
            else:
                merged.append((at, start, end))
                start, end = a, b
        merged.append((at, start, end))
    return merged


def _by_place(rules: list[Rule]) -> Iterator[tuple[float, list[tuple[float, float]]]]:
    group: list[Rule] = []
    for rule in [*sorted(rules), None]:
        if group and (rule is None or rule[0] - group[-1][0] > SNAP_PT):
            yield sum(at for at, _, _ in group) / len(group), sorted((a, b) for _, a, b in group)
            group = []
        if rule is not None:
            group.append(rule)


def _places(values: Sequence[float]) -> list[float]:
    """Values, those that are close to each other as one."""
    return [at for at, _ in _by_place([(value, 0.0, 0.0) for value in values])]


def _rows_of(lines: Iterable[int], frame: Sequence[TextLine]) -> list[list[int]]:
    """The lines of a cell from top to bottom, each row from left to right."""
    rows: list[list[int]] = []
    for n in sorted(lines, key=lambda n: (frame[n].box[3], frame[n].box[0])):
        if rows and frame[n].box[3] - frame[rows[-1][0]].box[3] <= (frame[n].box[3] - frame[n].box[1]) / 2:
            rows[-1].append(n)
        else:
            rows.append([n])
    return [sorted(row, key=lambda n: frame[n].box[0]) for row in rows]


def _entries(row: Row, frame: Sequence[TextLine]) -> list[Row]:
    """A row of cells as several, where columns are ruled and rows are not.

    Then the cells hold as many lines, side by side, and one of them is figures.
    """
    by_cell = [_rows_of(cell, frame) for cell in row]
    several = [lines for lines in by_cell if lines]
    count = len(several[0]) if several else 0
    if count < 2 or len(several) < 2 or any(len(lines) != count for lines in several):
        return [row]
    size = frame[several[0][0][0]].box[3] - frame[several[0][0][0]].box[1]
    bottoms = zip(*([frame[line[0]].box[3] for line in lines] for lines in several), strict=True)
    if any(max(places) - min(places) > size / 2 for places in bottoms):
        return [row]
    if not any(all(_has_figure(line, frame) for line in lines) for lines in several):
        return [row]
    return [[lines[k] if lines else [] for lines in by_cell] for k in range(count)]


def _has_figure(line: Iterable[int], frame: Sequence[TextLine]) -> bool:
    return any(char.isdigit() for n in line for char in frame[n].text)

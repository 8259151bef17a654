"""Puts lines of text into the cells that rules draw around them.

Where the rules of a page cross, they make a grid; cells between which no border is drawn are one. Every line is in
exactly one element. The layout arranges the lines that lie in no grid, with each table in the place of one line.
Lengths are in points of a frame in which text runs to the right. Unless its comment says otherwise, a constant was
tuned on the tables of public test suites: too small loses tables, too large makes tables of frames and diagrams.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby, pairwise
from statistics import median
from typing import Final

from ...layout.lines import Element, TextLine, runs_leftwards
from ...layout.order import ArrangedPart, arrange
from .content import Box, Clock
from .lines import LayerLine

__all__ = ["Ruling", "arrange_with_rules", "cut_at_rules"]

SNAP_PT: Final = 2.5  # rules that are closer are one
TOUCH_PT: Final = 3.5  # rules that end so close meet
RUN_ALONG: Final = 0.5  # of the height of a line that a rule runs along to cut it
READ_CELL: Final = 1.5  # times the size of a line that was read: its size is not exact
MAX_CROSSINGS: Final = 1_000_000  # level times upright rules: a bound for hostile pages
MAX_GRID: Final = 60  # rows or columns: the same
MAX_FILLS: Final = 400  # coloured areas that are compared with each grid: the same
LEAST_CELLS: Final = 3  # with text
FILLED_SHARE: Final = 0.3  # of the cells hold text; a diagram has a grid, too
BORDER_SHARE: Final = 0.6  # of the border between two cells is drawn, or they are one
CELL_LINES: Final = 4.0  # in the usual cell; more are columns of a page with frames
FORM_SHARE: Final = 0.4  # of the rows go over the whole width: a form
FILL_PT: Final = 6.0  # least height of a coloured row
NOTE_CHARS: Final = 40  # longest text that goes over the whole width below a heading, as "No results"
LABEL_SHARE: Final = 0.6  # of the rows have their names beside the grid
LABEL_CHARS: Final = 60
LEVEL_SHARE: Final = 0.35  # of the height of a line: how far feet of one row may lie apart
BAND_SCALE: Final = 1.5  # times the usual height of a row: a caption between two tables

Rule = tuple[float, float, float]
"""Where it is, and from where to where it goes."""
Row = list[list[int]]
"""The lines in each cell."""
Cell = tuple[int, int]
"""Row and column."""


@dataclass
class Ruling:
    """What is drawn on a page along its axes: rules, and coloured areas. Boxes in points of one frame."""

    rules: list[Box] = field(default_factory=list)
    fills: list[Box] = field(default_factory=list)

    @cached_property
    def level(self) -> list[Rule]:
        return _merged([((y1 + y2) / 2, x1, x2) for x1, y1, x2, y2 in self.rules if x2 - x1 >= y2 - y1])

    @cached_property
    def upright(self) -> list[Rule]:
        return _merged([((x1 + x2) / 2, y1, y2) for x1, y1, x2, y2 in self.rules if x2 - x1 < y2 - y1])

    def mirrored(self) -> Ruling:
        return Ruling([_mirrored(box) for box in self.rules], [_mirrored(box) for box in self.fills])

    def holds_in_cells(self, boxes: Sequence[Box], clock: Clock) -> list[bool]:
        """Whether each box lies in one cell of a grid, beside another of them: names of columns that are turned."""
        held = [False] * len(boxes)
        for grid in _grids(self, clock) if boxes else ():
            cells = [grid.cell_around(box) for box in boxes]
            rows = [cell[0] for cell in cells if cell is not None]
            for n, cell in enumerate(cells):
                held[n] = held[n] or (cell is not None and rows.count(cell[0]) > 1)
        return held


def cut_at_rules(lines: Iterable[LayerLine], ruling: Ruling, clock: Clock) -> list[LayerLine]:
    """Cut lines where an upright rule stands between two of their characters."""
    upright = sorted(box for box in ruling.rules if box[3] - box[1] > box[2] - box[0])
    lefts = [box[0] for box in upright]
    out: list[LayerLine] = []
    for line in lines:
        cuts: set[int] = set()
        is_read = line.marks[0].glyph.score is not None
        # A stroke of a drawn letter is no rule: a cell is at least as high as its line.
        least = line.size * (READ_CELL if is_read else 1.0)
        if not line.vertical and line.placed is None:
            _, top, _, bottom = line.box
            for x1, y1, x2, y2 in upright[bisect_right(lefts, line.left) : bisect_right(lefts, line.right)]:
                clock.tick()
                if y2 - y1 >= least and min(bottom, y2) - max(top, y1) >= RUN_ALONG * line.size:
                    cuts.update(_between(line, x1, x2))
        if is_read:  # the places of its characters are guessed: cut it between words only
            cuts = {cut for cut in cuts if line.text[cut - 1] == " "}
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


# ---------------------------------------------------------------- the page


def arrange_with_rules(frame: Sequence[TextLine], ruling: Ruling, clock: Clock) -> list[Element]:
    """The elements of the page in reading order; lines in a ruled table are in its cells."""
    leftwards = runs_leftwards(frame)
    seen = frame
    if leftwards:
        ruling = ruling.mirrored()
        seen = [replace(line, box=_mirrored(line.box)) for line in frame]
    tables = _tables(seen, ruling, clock)
    parts = [ArrangedPart(_mirrored(box) if leftwards else box, elements) for box, elements in tables]
    return arrange(frame, blocks=parts)


def _tables(seen: Sequence[TextLine], ruling: Ruling, clock: Clock) -> list[tuple[Box, list[Element]]]:
    """Boxes and elements of what the rules make of the lines."""
    by_middle = sorted(((line.box[1] + line.box[3]) / 2, n) for n, line in enumerate(seen))
    middles = [middle for middle, _ in by_middle]
    taken: set[int] = set()

    def free(top: float, bottom: float) -> list[int]:
        return [n for _, n in by_middle[bisect_left(middles, top) : bisect_right(middles, bottom)] if n not in taken]

    tables: list[tuple[Box, list[Element]]] = []
    for grid in _grids(ruling, clock):
        x1, y1, x2, y2 = grid.box
        level = free(y1, y2)
        inside = [n for n in level if x1 <= (seen[n].box[0] + seen[n].box[2]) / 2 <= x2]
        beside = [n for n in level if seen[n].box[2] <= x1 + TOUCH_PT]
        if elements := grid.elements(inside, beside, seen):
            used = {n for element in elements for n in element.lines}
            taken |= used
            tables.append((_union([grid.box, *(seen[n].box for n in used)]), elements))
    for stack in _stacks(ruling.level, [box for box, _ in tables]):
        for box in _without_captions(stack, seen, free(stack[0][0], stack[-1][0])):
            inside = [n for n in free(box[1], box[3]) if box[0] - TOUCH_PT <= seen[n].box[0] <= box[2]]
            found = arrange([seen[n] for n in inside])
            if len(found) == 1 and found[0].kind == "table":
                taken.update(inside)
                tables.append((box, [_renumbered(found[0], inside)]))
    return tables


def _union(boxes: Iterable[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _mirrored(box: Box) -> Box:
    """What is read from the right comes first on the left."""
    return -box[2], box[1], -box[0], box[3]


def _renumbered(element: Element, rest: Sequence[int]) -> Element:
    return replace(element, rows=tuple(tuple(tuple(rest[n] for n in cell) for cell in row) for row in element.rows))


# ---------------------------------------------------------------- tables with level rules only


def _stacks(level: Sequence[Rule], tables: Sequence[Box]) -> Iterator[list[Rule]]:
    """Rules of one length under each other, outside of the tables that are known."""
    groups: dict[tuple[int, int], list[Rule]] = {}
    for rule in sorted(level):
        at, start, end = rule
        if not any(x1 - 1 <= start and end <= x2 + 1 and y1 - 1 <= at <= y2 + 1 for x1, y1, x2, y2 in tables):
            groups.setdefault((round(start / SNAP_PT), round(end / SNAP_PT)), []).append(rule)
    yield from (group for group in groups.values() if len(group) > 5)


def _without_captions(stack: Sequence[Rule], seen: Sequence[TextLine], lines: Sequence[int]) -> list[Box]:
    """The parts of a stack of rules between bands that are higher than its rows and hold one line, a caption.

    Empty where there is no such band: then the layout finds the table by itself.
    """
    bands = list(pairwise(stack))
    usual = median(below[0] - above[0] for above, below in bands)
    parts: list[list[tuple[Rule, Rule]]] = [[]]
    for above, below in bands:
        inside = [n for n in lines if above[0] <= (seen[n].box[1] + seen[n].box[3]) / 2 <= below[0]]
        if below[0] - above[0] > BAND_SCALE * usual and len(inside) <= 1:
            parts.append([])
        else:
            parts[-1].append((above, below))
    if len(parts) == 1:
        return []
    return [(part[0][0][1], part[0][0][0], part[0][0][2], part[-1][1][0]) for part in parts if len(part) > 1]


# ---------------------------------------------------------------- grids


@dataclass(frozen=True, slots=True)
class _CellGrid:
    """Rules that cross: the places of columns and rows, and the pieces of borders that are drawn."""

    xs: list[float]
    ys: list[float]
    level: list[Rule]
    upright: list[Rule]

    @classmethod
    def of(cls, across: list[Rule], down: list[Rule], fills: Sequence[Box]) -> _CellGrid | None:
        """The grid of rules that touch each other; None where they make no two rows of two cells."""
        xs = _places([*(x for x, _, _ in down), min(a for _, a, _ in across), max(b for _, _, b in across)])
        ys = [*(y for y, _, _ in across), min(a for _, a, _ in down), max(b for _, _, b in down)]
        top, bottom = min(ys), max(ys)
        edges: list[Rule] = []
        for x1, y1, x2, y2 in fills[:MAX_FILLS]:  # the edges of a coloured row part it from the next
            is_row = FILL_PT <= y2 - y1 <= (bottom - top) / 2 and top - SNAP_PT <= y1 and y2 <= bottom + SNAP_PT
            if is_row and xs[0] - SNAP_PT <= x1 and x2 <= xs[-1] + SNAP_PT:
                edges += [(y1, x1, x2), (y2, x1, x2)]
        ys = _places([*ys, *(y for y, _, _ in edges)])
        if 2 < len(xs) <= MAX_GRID and 2 < len(ys) <= MAX_GRID:
            return cls(xs, ys, [*across, *edges], down)
        return None

    @property
    def box(self) -> Box:
        return self.xs[0], self.ys[0], self.xs[-1], self.ys[-1]

    def cell_around(self, box: Box) -> Cell | None:
        """The cell that holds the whole box."""
        row, column = self._row_of(box), self._column_of(box)
        left, right, top, bottom = self.xs[column], self.xs[column + 1], self.ys[row], self.ys[row + 1]
        inside = left - SNAP_PT <= box[0] and box[2] <= right + SNAP_PT
        return (row, column) if inside and top - SNAP_PT <= box[1] and box[3] <= bottom + SNAP_PT else None

    def elements(self, inside: Sequence[int], beside: Sequence[int], frame: Sequence[TextLine]) -> list[Element]:
        """These lines in the cells of the grid, with names of rows beside it; nothing where they make no table."""
        owner = self._owners()
        table: list[Row] = [[[] for _ in self.xs[1:]] for _ in self.ys[1:]]
        for n in inside:
            row, column = owner[self._row_of(frame[n].box)][self._column_of(frame[n].box)]
            table[row][column].append(n)
        if not _is_table(table, owner, frame):
            return []
        names = self._names(table, beside, frame)
        rows: list[Row] = []
        across: list[bool] = []
        for r, cells in enumerate(table):
            parts = [part for part in _entries([names[r], *cells] if any(names) else cells, frame) if any(part)]
            rows += parts
            across += [len(set(owner[r])) == 1] * len(parts)
        if len(rows) < 2:
            return []
        if sum(across) < FORM_SHARE * len(rows) or _is_heading_with_note(rows, across, frame):
            whole = _table(rows, frame)
            return [whole] if whole is not None else []
        return _form(rows, across, frame)

    def _row_of(self, box: Box) -> int:
        return min(max(bisect_right(self.ys, (box[1] + box[3]) / 2) - 1, 0), len(self.ys) - 2)

    def _column_of(self, box: Box) -> int:
        return min(max(bisect_right(self.xs, (box[0] + box[2]) / 2) - 1, 0), len(self.xs) - 2)

    def _owners(self) -> list[list[Cell]]:
        """For each cell the first of those that it is one with, because no border is drawn between them."""
        columns = range(len(self.xs) - 1)
        owner: list[list[Cell]] = []
        before: list[tuple[int, int]] = []
        for r, (top, bottom) in enumerate(pairwise(self.ys)):
            walls = [c for c in columns if c == 0 or _is_drawn(self.upright, self.xs[c], top, bottom)]
            spans = list(pairwise([*walls, len(columns)]))
            row: list[Cell] = []
            for start, stop in spans:
                # Only cells of the same columns go on in the next row: below a heading over all are several cells.
                is_open = (start, stop) in before and not _is_drawn(self.level, top, self.xs[start], self.xs[stop])
                row += [owner[r - 1][start] if is_open else (r, start)] * (stop - start)
            owner.append(row)
            before = spans
        return owner

    def _names(self, table: Sequence[Row], beside: Sequence[int], frame: Sequence[TextLine]) -> list[list[int]]:
        """For each row its name on the left of the grid; all empty where what stands there are no names."""
        names: list[list[int]] = [[] for _ in table]
        for n in beside:
            row = self._row_of(frame[n].box)
            high = frame[n].box[3] - frame[n].box[1]
            level = any(
                abs(frame[m].box[3] - frame[n].box[3]) <= LEVEL_SHARE * high for cell in table[row] for m in cell
            )
            if names[row] or not level or len(frame[n].text) > LABEL_CHARS:
                return [[] for _ in table]
            names[row].append(n)
        filled = sum(any(row) for row in table)
        return names if sum(map(bool, names)) >= max(2, LABEL_SHARE * filled) else [[] for _ in table]


def _is_table(table: Sequence[Row], owner: Sequence[Sequence[Cell]], frame: Sequence[TextLine]) -> bool:
    """Whether enough cells hold text, and not too much of it."""
    owners = {place for places in owner for place in places}
    filled = [table[row][column] for row, column in owners if table[row][column]]
    if len(filled) < max(LEAST_CELLS, FILLED_SHARE * len(owners)):
        return False
    return sum(len(_rows_of(cell, frame)) for cell in filled) <= CELL_LINES * len(filled)


def _is_heading_with_note(rows: Sequence[Row], across: Sequence[bool], frame: Sequence[TextLine]) -> bool:
    """Whether a heading has nothing below it but a short note over the whole width, as "No results"."""
    if len(rows) != 2 or list(across) != [False, True] or sum(map(bool, rows[0])) < 2:
        return False
    return sum(len(frame[n].text) for cell in rows[1] for n in cell) <= NOTE_CHARS


def _form(rows: Sequence[Row], across: Sequence[bool], frame: Sequence[TextLine]) -> list[Element]:
    """A form: what goes over its whole width are paragraphs, and tables are between them."""
    elements: list[Element] = []
    for alone, group in groupby(zip(across, rows, strict=True), key=lambda pair: pair[0]):
        part = [row for _, row in group]
        found = None if alone else _table(part, frame)
        elements += [found] if found is not None else [_paragraph(cell, frame) for row in part for cell in row if cell]
    return elements


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


def _grids(ruling: Ruling, clock: Clock) -> Iterator[_CellGrid]:
    """Rules that touch each other, where they make at least two rows of two cells."""
    level, upright = ruling.level, ruling.upright
    if not level or not upright or len(level) * len(upright) > MAX_CROSSINGS:
        return
    for across, down in _touching(level, upright, clock):
        if across and down and (grid := _CellGrid.of(across, down, ruling.fills)) is not None:
            yield grid


def _touching(level: Sequence[Rule], upright: Sequence[Rule], clock: Clock) -> list[tuple[list[Rule], list[Rule]]]:
    """The rules in groups that touch each other."""
    parent = list(range(len(level) + len(upright)))
    for i, (y, x1, x2) in enumerate(level):
        for k, (x, y1, y2) in enumerate(upright):
            clock.tick()
            if x1 - TOUCH_PT <= x <= x2 + TOUCH_PT and y1 - TOUCH_PT <= y <= y2 + TOUCH_PT:
                parent[_root(parent, i)] = _root(parent, len(level) + k)
    groups: dict[int, tuple[list[Rule], list[Rule]]] = {}
    for n, rule in enumerate([*level, *upright]):
        groups.setdefault(_root(parent, n), ([], []))[n >= len(level)].append(rule)
    return list(groups.values())


def _root(parent: list[int], n: int) -> int:
    while parent[n] != n:
        parent[n] = parent[parent[n]]
        n = parent[n]
    return n


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


# ---------------------------------------------------------------- cells


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

"""Lines of text go into the cells that rules draw around them, on a PDF page and in a picture alike.

Where rules cross they make a grid; cells between which no border is drawn are one. Every line is in exactly one
element. `order.py` arranges the lines that lie in no grid, with each table in the place of one line. Pure Python. Rules
and lines are in one frame, in which text runs to the right (or to the left).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from statistics import median
from typing import Final

from .banded import is_one_column, names_nothing, table_in_bands
from .lines import LIST_MARK, Box, Element, Frame, TextLine, runs_leftwards
from .order import ArrangedPart, arrange
from .rules import LEAST_BANDS, Grid, find_bands, find_grids, no_tick

__all__ = ["arrange_with_rules"]

# Tuned on the PDFs of tests/documents and on the ruled pages of benchmarks/generated_pages.py. Where a constant is
# wrong, a table is read as paragraphs, or a page with frames around its columns as a table.
LEAST_CELLS: Final = 3  # with text
FILLED_SHARE: Final = 0.3  # of the cells hold text; the grid of a diagram holds little
SPARSE_SHARE: Final = 0.15  # the same of a grid of many rows and columns, such as a calendar
SPARSE_SIDE: Final = 4  # that has so many of either
CELL_LINES: Final = 4.0  # in the usual cell; more are columns of a page with frames …
TALL_CELL_LINES: Final = 8.0  # … unless there are three rows or more, as in a table of paragraphs
FORM_SHARE: Final = 0.4  # of the rows go over the whole width: a form
NOTE_CHARS: Final = 60  # at most, has a row over the whole width that says that a table is empty
LABEL_EM: Final = 12.0  # from the names of rows to the grid that they stand left of, at most
LABEL_CHARS: Final = 40  # at most, in such a name; a longer line is prose beside a table
LABEL_SHARE: Final = 0.6  # of the rows have such a name
CAPTION_ROW: Final = 1.5  # times the usual height of a row between rules: more has the caption between two tables
OPEN_ROW: Final = 1.2  # times the usual height of a row between rules: one that no rule closes
ENTRY_SHARE: Final = 0.7  # of the entries of a tall row have something in a column of figures

Cells = list[list[int]]
"""The lines in each cell of a row."""


def arrange_with_rules(
    lines: Sequence[TextLine],
    rules: Sequence[Box],
    tick: Callable[[], None] = no_tick,
    fills: Sequence[Box] = (),
) -> list[Element]:
    """The elements of the page in reading order; lines in a ruled table are in its cells.

    Args:
        rules: the boxes of lines that are drawn, in the frame of `lines`.
        tick: is called for each step of the work whose extent the page decides; it may raise.
        fills: the boxes of coloured areas, in the same frame.
    """
    if not lines or not (rules or fills):
        return arrange(lines)
    seen = lines
    leftwards = runs_leftwards(lines)
    if leftwards:
        rules, fills = [_mirrored(box) for box in rules], [_mirrored(box) for box in fills]
        seen = [replace(line, box=_mirrored(line.box)) for line in lines]
    page = _LinesByHeight.of(seen, Frame.of(lines).em)
    blocks: list[ArrangedPart] = []
    for found in find_grids(rules, page.em, tick, fills):
        grid = _without_title(found, page)
        inside = page.free_inside(grid.box)
        elements, labels = _Table(grid, page).elements(inside)
        if elements:
            page.take([*inside, *labels])
            x1, y1, x2, y2 = grid.box
            box = (min([x1, *(seen[n].box[0] for n in labels)]), y1, x2, y2)
            blocks.append(ArrangedPart(_mirrored(box) if leftwards else box, elements))
    bands = [(a, b, part) for a, b, ys in find_bands(rules, page.em, fills) for part in _tables_of(ys, a, b, page)]
    for left, right, closed in ((a, b, _without_titles(ys, a, b, page)) for a, b, ys in bands):
        if len(closed) <= LEAST_BANDS:
            continue
        ys = _with_open_ends(closed, left, right, page)
        inside = page.free_inside((left, ys[0], right, ys[-1]))
        table = table_in_bands(seen, inside, ys[1:-1])
        if table is not None:
            page.take(inside)
            box = (left, ys[0], right, ys[-1])
            blocks.append(ArrangedPart(_mirrored(box) if leftwards else box, [table]))
    return arrange(lines, blocks=blocks)


def _without_title(grid: Grid, page: _LinesByHeight) -> Grid:
    """The grid without a coloured row over it that holds nothing but a title."""
    if not grid.has_head:
        return grid
    left, top, right, _ = grid.box
    head = page.free_inside((left, top, right, grid.ys[1]))
    return replace(grid, ys=grid.ys[1:]) if not head or names_nothing(page.lines, head, left, right) else grid


def _tables_of(ys: list[float], left: float, right: float, page: _LinesByHeight) -> Iterator[list[float]]:
    """The heights of the rules of each table: a high row with nothing but a caption in it parts two of them."""
    usual = median(b - a for a, b in pairwise(ys))
    part = ys[:1]
    for above, y in pairwise(ys):
        inside = page.free_inside((left, above, right, y))
        if y - above > CAPTION_ROW * usual and is_one_column(page.lines[n].box for n in inside):
            yield part
            part = []
        part.append(y)
    yield part


def _without_titles(ys: list[float], left: float, right: float, page: _LinesByHeight) -> list[float]:
    """The heights of rules without the first and last rows that hold nothing but a title or a note."""

    def is_title(row: int) -> bool:
        inside = page.free_inside((left, ys[row], right, ys[row + 1]))
        return names_nothing(page.lines, inside, left, right)

    first, last = 0, len(ys) - 1
    while first < last and is_title(first):
        first += 1
    while first < last and is_title(last - 1):
        last -= 1
    return ys[first : last + 1]


def _with_open_ends(ys: list[float], left: float, right: float, page: _LinesByHeight) -> list[float]:
    """The heights of rules with the ends of a first and a last row that no rule closes: they have cells, too."""
    high = OPEN_ROW * median(b - a for a, b in pairwise(ys))
    above = page.free_inside((left, ys[0] - high, right, ys[0]))
    below = page.free_inside((left, ys[-1], right, ys[-1] + high))

    def is_row(inside: Sequence[int]) -> bool:
        is_item = any(LIST_MARK.fullmatch(page.lines[n].text.strip()) for n in inside)  # of a list beside the table
        return len(inside) > 1 + is_item and len(_rows_of(inside, page)) == 1

    opened = list(ys)
    if is_row(above):
        opened.insert(0, ys[0] - high)
    if is_row(below):
        opened.append(ys[-1] + high)
    return opened


def _mirrored(box: Box) -> Box:
    """What is read from the right comes first on the left."""
    return -box[2], box[1], -box[0], box[3]


@dataclass(slots=True)
class _LinesByHeight:
    """The lines of a page by their height, and those that are in a table already."""

    lines: Sequence[TextLine]
    em: float
    by_middle: list[int]
    middles: list[float]
    taken: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, lines: Sequence[TextLine], em: float) -> _LinesByHeight:
        order = sorted(range(len(lines)), key=lambda n: lines[n].box[1] + lines[n].box[3])
        return cls(lines, em, order, [(lines[n].box[1] + lines[n].box[3]) / 2 for n in order])

    def level(self, top: float, bottom: float) -> list[int]:
        """The lines whose middle is between two heights and that are in no table."""
        found = self.by_middle[bisect_left(self.middles, top) : bisect_right(self.middles, bottom)]
        return [n for n in found if n not in self.taken]

    def free_inside(self, box: Box) -> list[int]:
        """The lines whose middle is in a box and that are in no table."""
        return [
            n
            for n in self.level(box[1], box[3])
            if box[0] <= (self.lines[n].box[0] + self.lines[n].box[2]) / 2 <= box[2]
        ]

    def take(self, lines: Iterable[int]) -> None:
        """These lines are in a table."""
        self.taken.update(lines)


# ---------------------------------------------------------------- the cells of a grid


@dataclass(frozen=True, slots=True)
class _Table:
    """A grid, and the page whose lines go into it."""

    grid: Grid
    page: _LinesByHeight

    def elements(self, inside: Sequence[int]) -> tuple[list[Element], list[int]]:
        """These lines in the cells of the grid, and the names of its rows that stand left of it.

        Nothing where they do not make a table.
        """
        owner = self.grid.owners()
        table = self._placed(inside, owner)
        if not self._is_filled(table, owner):
            return [], []
        rows = [
            _GridRow(part, len(set(owner[r])) == 1)
            for r, cells in enumerate(table)
            for part in _entries(cells, self.page)
        ]
        rows = [row for row in rows if any(row.cells)]
        if len(self.grid.xs) < 3 or len(rows) < 2:
            return [], []
        if sum(row.is_across for row in rows) >= FORM_SHARE * len(rows):
            return _form(rows, self.page), []
        labels = self._labels(table)
        if labels:
            rows = [_GridRow([labels.get(r, []), *cells], False) for r, cells in enumerate(table)]
        whole = _table([row.cells for row in rows], self.page)
        return ([whole] if whole is not None else []), [n for label in labels.values() for n in label]

    def _placed(self, inside: Sequence[int], owner: list[list[tuple[int, int]]]) -> list[Cells]:
        """The lines in the cells that own their place; in a row without borders, in their own columns."""
        columns, rows = len(self.grid.xs) - 1, len(self.grid.ys) - 1
        table: list[Cells] = [[[] for _ in range(columns)] for _ in range(rows)]
        merged: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for n in inside:
            x1, y1, x2, y2 = self.page.lines[n].box
            row = min(max(bisect_right(self.grid.ys, (y1 + y2) / 2) - 1, 0), rows - 1)
            column = min(max(bisect_right(self.grid.xs, (x1 + x2) / 2) - 1, 0), columns - 1)
            merged.setdefault(owner[row][column], []).append((n, column))
        for (row, column), found in merged.items():
            apart = self._stand_in_columns([n for n, _ in found])
            for n, own in found:
                table[row][own if apart else column].append(n)
        return table

    def _stand_in_columns(self, lines: Sequence[int]) -> bool:
        """Whether lines of a cell over several columns stand side by side, each within one of the columns."""
        columns = []
        for n in lines:
            x1, _, x2, _ = self.page.lines[n].box
            first, last = (
                bisect_right(self.grid.xs, x1 + self.grid.snap),
                bisect_right(self.grid.xs, x2 - self.grid.snap),
            )
            if first != last:
                return False
            columns.append(first)
        return len(set(columns)) == len(columns) > 1

    def _is_filled(self, table: list[Cells], owner: list[list[tuple[int, int]]]) -> bool:
        """Whether enough of the cells hold text, and not too much: a diagram and a page with frames are no tables."""
        owners = {place for places in owner for place in places}
        filled = [cell for row in table for cell in row if cell]
        large = min(len(self.grid.xs), len(self.grid.ys)) > SPARSE_SIDE
        if len(filled) < max(LEAST_CELLS, (SPARSE_SHARE if large else FILLED_SHARE) * len(owners)):
            return False
        most = TALL_CELL_LINES if len(self.grid.ys) > 3 and len(self.grid.xs) > 2 else CELL_LINES
        return sum(len(_rows_of(cell, self.page)) for cell in filled) <= most * len(filled)

    def _labels(self, table: list[Cells]) -> dict[int, list[int]]:
        """The names of rows that stand left of the grid, by row: one for most rows, and nothing else there."""
        left = self.grid.xs[0] - LABEL_EM * self.page.em
        level = self.page.level(self.grid.ys[0], self.grid.ys[-1])
        near = [n for n in level if left <= self.page.lines[n].box[2] <= self.grid.xs[0] + self.grid.snap]
        if any(len(self.page.lines[n].text) > LABEL_CHARS for n in near):
            return {}
        found: dict[int, list[int]] = {}
        for n in near:
            middle = (self.page.lines[n].box[1] + self.page.lines[n].box[3]) / 2
            found.setdefault(bisect_right(self.grid.ys, middle) - 1, []).append(n)
        rows = [r for r, cells in enumerate(table) if any(cells)]
        if any(len(_rows_of(lines, self.page)) > 1 for lines in found.values()) or any(r not in rows for r in found):
            return {}
        return found if len(found) >= max(2, LABEL_SHARE * len(rows)) else {}


@dataclass(frozen=True, slots=True)
class _GridRow:
    """The cells of a row, and whether one of them goes over the whole width."""

    cells: Cells
    is_across: bool


def _form(rows: Sequence[_GridRow], page: _LinesByHeight) -> list[Element]:
    """What goes over the whole width of a form are paragraphs; tables are between them."""
    parts = [(across, [row.cells for row in group]) for across, group in groupby(rows, key=lambda row: row.is_across)]
    elements: list[Element] = []
    head: list[Cells] = []
    for across, part in parts:
        if head and across and len(part) == 1 and _length(part[0], page) <= NOTE_CHARS and all(head[0]):
            empty = _table([*head, part[0]], page)  # a table that says that it is empty
            if empty is not None:
                elements.append(empty)
                head = []
                continue
        elements += _paragraphs(head, page)
        head = []
        if across:
            elements += _paragraphs(part, page)
        elif len(part) > 1 and (found := _table(part, page)) is not None:
            elements.append(found)
        else:
            head = part
    return [*elements, *_paragraphs(head, page)]


def _length(cells: Cells, page: _LinesByHeight) -> int:
    return sum(len(page.lines[n].text) for cell in cells for n in cell)


def _paragraphs(rows: Sequence[Cells], page: _LinesByHeight) -> list[Element]:
    """Each cell as a paragraph."""
    cells = [cell for row in rows for cell in row if cell]
    return [Element("line", tuple((tuple(line),) for line in _rows_of(cell, page))) for cell in cells]


def _table(rows: Sequence[Cells], page: _LinesByHeight) -> Element | None:
    """The rows as a table, without the columns that are empty; nothing where there is but one row or column."""
    used = [c for c in range(len(rows[0])) if any(row[c] for row in rows)]
    if len(rows) < 2 or len(used) < 2:
        return None
    return Element(
        "table",
        tuple(tuple(tuple(n for line in _rows_of(row[c], page) for n in line) for c in used) for row in rows),
    )


def _rows_of(lines: Iterable[int], page: _LinesByHeight) -> list[list[int]]:
    """The lines of a cell from top to bottom, each row from left to right."""
    rows: list[list[int]] = []
    for n in sorted(lines, key=lambda n: (page.lines[n].box[3], page.lines[n].box[0])):
        box = page.lines[n].box
        if rows and box[3] - page.lines[rows[-1][0]].box[3] <= (box[3] - box[1]) / 2:
            rows[-1].append(n)
        else:
            rows.append([n])
    return [sorted(row, key=lambda n: page.lines[n].box[0]) for row in rows]


def _entries(row: Cells, page: _LinesByHeight) -> list[Cells]:
    """A row of cells as several, where columns are ruled and rows are not.

    Then lines of all columns stand side by side, and one of the columns has a figure in nearly each of them. A
    line that stands alone in its row goes on with the entry above it.
    """
    columns = {n: c for c, cell in enumerate(row) for n in cell}
    by_row = _rows_of(columns, page)
    if len(by_row) < 2:
        return [row]
    entries: list[Cells] = []
    for lines in by_row:
        entry: Cells = [[] for _ in row]
        for n in lines:
            entry[columns[n]].append(n)
        alone = sum(map(bool, entry)) == 1 and sum(map(bool, row)) > 1
        if alone and entries and not _has_figure(lines, page):
            entries[-1] = [a + b for a, b in zip(entries[-1], entry, strict=True)]
        else:
            entries.append(entry)
    if len(entries) < 2 or not any(_counts([entry[c] for entry in entries], page) for c in range(len(row))):
        return [row]
    several = [entry for entry in entries if sum(map(bool, entry)) > 1]
    return entries if len(several) == len(entries) else [row]


def _counts(cells: list[list[int]], page: _LinesByHeight) -> bool:
    """Whether nearly all of the cells hold figures, and none anything else."""
    texts = ["".join(page.lines[n].text for n in cell) for cell in cells if cell]
    figures = [text for text in texts if sum(map(str.isdigit, text)) > sum(map(str.isalpha, text))]
    return len(figures) == len(texts) >= ENTRY_SHARE * len(cells)


def _has_figure(lines: Iterable[int], page: _LinesByHeight) -> bool:
    return any(char.isdigit() for n in lines for char in page.lines[n].text)

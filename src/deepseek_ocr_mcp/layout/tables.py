"""Finds tables in lines that stand in aligned cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from .columns import ROW_SHIFT
from .lines import LIST_MARK, Box, LayoutPage, Row

__all__ = ["cells_of", "rows_of", "table_grid", "table_runs"]

SAME_CELL_PITCH: Final = 1.3  # times the usual advance of a character: a space, in type of one width
SAME_CELL_EM: Final = 0.3  # lines of a row that stand closer are one cell
CONTINUATION_EM: Final = 0.4  # rows of a table that stand closer, and closer than the others, are one
CONTINUATION_SHARE: Final = 0.6  # of the white between the others


def rows_of(page: LayoutPage, lines: Row) -> list[Row]:
    """`lines` (sorted by middle) as rows from top to bottom, each from left to right."""
    rows: list[Row] = []
    for i in lines:
        if rows and all(_same_row(page, i, j) for j in rows[-1]):
            rows[-1].append(i)
        else:
            rows.append([i])
    for row in rows:
        row.sort(key=lambda i: (page.boxes[i][0], i))
    return rows


def _same_row(page: LayoutPage, i: int, j: int) -> bool:
    a, b = page.boxes[i], page.boxes[j]
    if abs(page.middle(i) - page.middle(j)) > ROW_SHIFT * min(page.height(i), page.height(j)):
        return False
    return min(a[2], b[2]) - max(a[0], b[0]) <= 0.3 * min(a[2] - a[0], b[2] - b[0])


def cells_of(page: LayoutPage, row: Sequence[int]) -> list[Row]:
    """A row as cells: lines closer than a wide space are one cell, and so is a list mark with its text."""
    cells = [[row[0]]]
    for before, i in pairwise(row):
        mark = before == row[0] and LIST_MARK.fullmatch(page.lines[before].text.strip())
        if mark or page.boxes[i][0] - page.boxes[before][2] < max(SAME_CELL_EM * page.em, SAME_CELL_PITCH * page.pitch):
            cells[-1].append(i)
        else:
            cells.append([i])
    return cells


def table_runs(page: LayoutPage, rows: list[Row]) -> Iterator[tuple[int, int]]:
    """Ranges of rows that may be a table: most have several cells, none stands far from the next."""
    counts = [len(cells_of(page, row)) for row in rows]
    tops = [page.union(row) for row in rows]
    start: int | None = None
    last = 0
    for at, count in enumerate(counts):
        if start is not None and (
            at - last > 5 or tops[at][1] - tops[at - 1][3] > (5 if min(count, counts[at - 1]) > 1 else 3) * page.em
        ):
            if _enough(counts[start : last + 1]):
                yield start, last + 1
            start = None
        if count > 1:
            start = at if start is None else start
            last = at
    if start is not None and _enough(counts[start : last + 1]):
        yield start, last + 1


def _enough(counts: list[int]) -> bool:
    several = [count for count in counts if count > 1]
    return len(several) >= 3 or (len(several) == 2 and min(several) > 2)


def table_grid(page: LayoutPage, rows: list[Row]) -> tuple[tuple[tuple[int, ...], ...], ...] | None:
    """The cells of the rows by column, or None where they do not stand under each other."""
    cells = [(r, cell, page.union(cell)) for r, row in enumerate(rows) for cell in cells_of(page, row)]
    columns = _columns(cells)
    if len(columns) < 2:
        return None
    table: list[list[list[int]]] = [[[] for _ in columns] for _ in rows]
    for r, cell, box in cells:
        overlap = [min(box[2], x2) - max(box[0], x1) for x1, x2 in columns]
        touched = [c for c, length in enumerate(overlap) if length > 0.3 * (columns[c][1] - columns[c][0])]
        c = touched[0] if len(touched) > 1 else overlap.index(max(overlap))
        table[r][c] += cell
    table = _merge_columns(table)
    used = [sum(bool(row[c]) for row in table) for c in range(len(table[0]))]
    if sum(count >= max(2, 0.3 * len(rows)) for count in used) < 2:
        return None
    merged = _merge_continuations(page, table)
    return tuple(tuple(tuple(cell) for cell in row) for row in merged)


def _columns(cells: list[tuple[int, Row, Box]]) -> list[tuple[float, float]]:
    """The x extents of the columns. Narrow cells make them; a cell over several columns makes none."""
    columns: list[tuple[float, float, set[int]]] = []
    for r, _, box in sorted(cells, key=lambda cell: (cell[2][2] - cell[2][0], cell[0], cell[2][0])):
        near = [
            column
            for column in columns
            if min(box[2], column[1]) - max(box[0], column[0]) > 0.2 * min(box[2] - box[0], column[1] - column[0])
        ]
        shared = any(a[2] & b[2] for n, a in enumerate(near) for b in near[n + 1 :])
        if shared:
            continue  # a heading over several columns
        rows = {r}.union(*(column[2] for column in near))
        columns = [column for column in columns if column not in near]
        columns.append((min([box[0], *(c[0] for c in near)]), max([box[2], *(c[1] for c in near)]), rows))
    return sorted((x1, x2) for x1, x2, _ in columns)


def _merge_columns(table: list[list[list[int]]]) -> list[list[list[int]]]:
    """A column without a heading whose cells only fill what its neighbour leaves empty is one with it."""
    width = len(table[0])
    c = 0
    while c < width - 1 and 2 * sum(map(bool, table[0])) > width:
        pairs = [(row[c], row[c + 1]) for row in table]
        if len(table) > 2 and not all(pairs[0]) and not any(a and b for a, b in pairs):
            table = [[*row[:c], row[c] + row[c + 1], *row[c + 2 :]] for row in table]
            width -= 1
        else:
            c += 1
    return table


def _merge_continuations(page: LayoutPage, table: list[list[list[int]]]) -> list[list[list[int]]]:
    """Rows that only go on with a cell of their neighbour are put into it."""

    def filled(row: list[list[int]]) -> int:
        return sum(bool(cell) for cell in row)

    full = [filled(row) >= 0.6 * max(filled(other) for other in table) for row in table]
    boxes = [page.union(i for cell in row for i in cell) for row in table]
    gaps = [below[1] - above[3] for above, below in pairwise(boxes)]
    between_full = [gap for n, gap in enumerate(gaps) if full[n] and full[n + 1]]
    if not between_full:
        return table
    close = min(CONTINUATION_EM * page.em, CONTINUATION_SHARE * median(between_full))
    merged = [table[0]]
    for n, row in enumerate(table[1:]):
        if gaps[n] <= close and not (full[n] and full[n + 1]) and not _both_count(page, merged[-1], row):
            merged[-1] = [above + below for above, below in zip(merged[-1], row, strict=True)]
        else:
            merged.append(row)
    return merged


def _both_count(page: LayoutPage, above: list[list[int]], below: list[list[int]]) -> bool:
    """Whether a column has figures in both rows: then they are two entries, however close they stand."""
    return any(
        cells and all(any(char.isdigit() for i in cell for char in page.lines[i].text) for cell in cells)
        for cells in zip(above, below, strict=True)
    )

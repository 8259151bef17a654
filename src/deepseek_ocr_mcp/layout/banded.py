"""Lines of text go into the rows of a table whose rows are parted by level rules or colours, and its columns by white.

What stands between two rules is one row, however many lines its cells have, unless its lines are rows of their own:
a column has a figure in each of them, or a cell ends before it is full.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from .lines import FIGURE, LIST_MARK, Box, Element, TextLine

__all__ = ["is_one_column", "names_nothing", "table_in_bands"]

# Tuned on tables that browsers, LaTeX and PDF libraries write. Where a constant is wrong, two rows are one, or the
# second line of a cell is a row of its own.
SAME_COLUMN: Final = 0.15  # of the narrower of two cells, shared by those of one column
LEAST_FULL: Final = 0.5  # of the rows have several cells
LEVEL: Final = 0.5  # of the height of a line: how far the middles of two lines of a row may differ
MARK_EM: Final = 1.2  # heights of a list mark, from it to its item
FULL_SLACK_EM: Final = 0.6  # from the end of a line of a cell to the column's edge, beyond the first word of the next

Column = tuple[float, float]
Cells = list[list[int]]
"""The lines in each cell of a row."""


def table_in_bands(lines: Sequence[TextLine], inside: Sequence[int], ys: Sequence[float]) -> Element | None:
    """The lines `inside` as a table; None where they do not make one.

    Args:
        ys: the heights of the rules, from top to bottom.
    """
    bands: list[list[int]] = [[] for _ in range(len(ys) + 1)]
    for n in inside:
        bands[bisect_right(ys, _middle(lines[n]))].append(n)
    columns = _columns(lines, bands)
    if len(columns) < 2:
        return None
    rows: list[Cells] = []
    for band in bands:
        rows += _rows(lines, band, columns) if band else []
    full = sum(sum(map(bool, row)) > 1 for row in rows)
    if len(rows) < 2 or full < max(2, LEAST_FULL * len(rows)):
        return None
    return Element("table", tuple(tuple(tuple(cell) for cell in row) for row in rows))


def names_nothing(lines: Sequence[TextLine], inside: Sequence[int], left: float, right: float) -> bool:
    """Whether what stands in a row is one line over its middle, such as the title of a table: no row of it."""
    boxes = [lines[n].box for n in inside]
    middle = (left + right) / 2
    return bool(boxes) and is_one_column(boxes) and all(box[0] < middle < box[2] for box in boxes)


def is_one_column(boxes: Iterable[Box]) -> bool:
    """Whether no box stands beside the others."""
    return all(b[0] < a[2] for a, b in pairwise(sorted(boxes)))


def _middle(line: TextLine) -> float:
    return (line.box[1] + line.box[3]) / 2


def _columns(lines: Sequence[TextLine], bands: Sequence[Sequence[int]]) -> list[Column]:
    """From where to where the columns go. Narrow lines make them; one that lies over two of a band makes none."""
    found: list[tuple[float, float, set[int]]] = []
    marks = {n for band in bands for n, _ in _list_marks(lines, band)}
    places = [(lines[n].box, r) for r, band in enumerate(bands) for n in band if n not in marks]
    for box, r in sorted(places, key=lambda place: place[0][2] - place[0][0]):
        near = [column for column in found if _shared(box, column[:2]) > 0]
        if len(near) > 1 and any(a[2] & b[2] for n, a in enumerate(near) for b in near[n + 1 :]):
            continue
        found = [column for column in found if column not in near]
        left, right = min([box[0], *(c[0] for c in near)]), max([box[2], *(c[1] for c in near)])
        found.append((left, right, {r}.union(*(column[2] for column in near))))
    return sorted((left, right) for left, right, _ in found)


def _shared(box: Box, column: Column) -> float:
    """How much of the narrower of both a box and a column share, beyond what boxes are not exact."""
    shared = min(box[2], column[1]) - max(box[0], column[0])
    return shared - SAME_COLUMN * min(box[2] - box[0], column[1] - column[0])


def _rows(lines: Sequence[TextLine], band: Sequence[int], columns: Sequence[Column]) -> list[Cells]:
    """What stands between two rules as one row, or as several."""
    levels: list[list[int]] = []
    for n in sorted(band, key=lambda n: _middle(lines[n])):
        box = lines[n].box
        if levels and _middle(lines[n]) - _middle(lines[levels[-1][0]]) <= LEVEL * (box[3] - box[1]):
            levels[-1].append(n)
        else:
            levels.append([n])
    rows = [_cells(lines, level, columns) for level in levels]
    if len(rows) == 1 or _are_apart(lines, rows, columns):
        return rows
    if any(sum(_shared(lines[n].box, column) > 0 for column in columns) > 1 for n in band):
        return rows  # a name over several columns, and the names of those
    return [[[n for row in rows for n in row[c]] for c in range(len(columns))]]


def _cells(lines: Sequence[TextLine], level: Sequence[int], columns: Sequence[Column]) -> Cells:
    cells: Cells = [[] for _ in columns]
    items = dict(_list_marks(lines, level))
    for n in sorted(level, key=lambda n: lines[n].box[0]):
        box = lines[items.get(n, n)].box  # a list mark stands with its item
        overlap = [_shared(box, column) for column in columns]
        first = next((c for c, shared in enumerate(overlap) if shared > 0), overlap.index(max(overlap)))
        cells[first].append(n)
    return cells


def _list_marks(lines: Sequence[TextLine], level: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The list marks among some lines, each with its item, which stands near. A dash that stands alone is a cell."""
    marks = [n for n in level if LIST_MARK.fullmatch(lines[n].text.strip())]
    for n in marks:
        _, top, right, bottom = lines[n].box
        near = MARK_EM * (bottom - top)
        for item in level:
            box = lines[item].box
            if item not in marks and 0 <= box[0] - right <= near and box[1] < (top + bottom) / 2 < box[3]:
                yield n, item
                break


def _are_apart(lines: Sequence[TextLine], rows: Sequence[Cells], columns: Sequence[Column]) -> bool:
    """Whether lines between two rules are rows of their own."""
    for c, column in enumerate(columns):
        texts = [" ".join(lines[n].text.strip() for n in row[c]) for row in rows]
        if all(FIGURE.fullmatch(text) for text in texts):
            return True
        if c == 0 and all(texts) and not all(_goes_on(lines, a[c], b[c], column) for a, b in pairwise(rows)):
            return True
    return all(sum(map(bool, row)) == len(columns) for row in rows) and not all(
        _goes_on(lines, a[c], b[c], column) for a, b in pairwise(rows) for c, column in enumerate(columns)
    )


def _goes_on(lines: Sequence[TextLine], above: Sequence[int], below: Sequence[int], column: Column) -> bool:
    """Whether a cell is broken for want of room: the first word below would not have fitted above."""
    box, text = lines[below[0]].box, lines[below[0]].text.strip()
    if text[:1].islower():
        return True
    word = len(text.split(maxsplit=1)[0]) * (box[2] - box[0]) / max(1, len(text))
    em = median(lines[n].box[3] - lines[n].box[1] for n in (*above, *below))
    return lines[above[-1]].box[2] + word > column[1] - FULL_SLACK_EM * em

"""Rows of a table whose cells are centred in height: a cell of several lines beside cells of fewer ones.

Browsers set cells so. A line at the middle of two others is level with neither, and still belongs to their row.
Rows are found by measuring: their cells have one middle, and the lines of a cell stand closer than rows do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

from .evidence import level_share
from .lines import FIGURE, Frame, Row

__all__ = ["are_centred_rows", "centred_bands", "with_centred_rows"]

# Tuned on tables that browsers and WeasyPrint write. Where a constant is wrong, two rows become one, or the lines of
# a cell become rows of their own.
CENTRED_EM: Final = 0.3  # most, between the middles of the cells of a row
INNER_SHARE: Final = 0.8  # of the white above and below a cell is, at most, that between two of its lines
BESIDE_EM: Final = 0.25  # lines that share so much of their heights are hardly of two rows
ROW_LEVELS: Final = 9  # most heights at which a row has lines: bounds the time
MOST_CELLS: Final = 50_000  # of a table that is looked at, empty ones too: bounds the time to about a second
LEAST_ROWS: Final = 3  # with several cells, for white strips to be those of a table …
ROWS_SHARE: Final = 0.8  # … and so many of the lines are in such rows
CENTRED_SHARE: Final = 0.25  # … of which so many have centred cells
LEVEL_SHARE: Final = 0.8  # of the lines have one level with them in the other column: too many for that

Cells = list[list[Row]]


def with_centred_rows(frame: Frame, table: Cells) -> Cells:
    """The rows of a table, those made one whose cells have one middle.

    Args:
        table: for each height at which lines stand, the lines in each column.
    """
    return [_merged(table[a:b]) for a, b in centred_bands(frame, table)]


def are_centred_rows(frame: Frame, columns: Sequence[Row]) -> bool:
    """Whether the lines of columns are rows of a table, of which some have centred cells."""
    columns = [column for column in columns if column]
    count = sum(map(len, columns))
    if len(columns) < 2 or min(_level_shares(frame, columns)) > LEVEL_SHARE:
        return False  # nothing stands beside the middle of several lines
    table = _by_height(frame, columns)
    rows = [_merged(table[a:b]) for a, b in centred_bands(frame, table)]
    full = [row for row in rows if sum(map(bool, row)) > 1]
    within = sum(len(cell) for row in full for cell in row)
    return (
        len(full) >= LEAST_ROWS
        and sum(any(_is_stack(frame, cell) for cell in row) for row in full) >= CENTRED_SHARE * len(full)
        and within >= ROWS_SHARE * count
    )


def _level_shares(frame: Frame, columns: Sequence[Row]) -> Iterator[float]:
    """How many lines of each column stand level with one of another column."""
    for n, column in enumerate(columns):
        yield level_share(frame, column, [i for k, other in enumerate(columns) if k != n for i in other])


def _is_stack(frame: Frame, cell: Row) -> bool:
    """Whether lines of a cell stand under each other."""
    boxes = sorted(frame.boxes[i] for i in cell)
    return any(b[0] < a[2] for a, b in pairwise(boxes))


def _by_height(frame: Frame, columns: Sequence[Row]) -> Cells:
    """The lines of columns by the heights at which they stand."""
    column_of = {i: n for n, column in enumerate(columns) for i in column}
    table: Cells = []
    middle = 0.0
    for i in frame.by_middle(column_of):
        if not table or frame.middles[i] - middle > CENTRED_EM * frame.em:
            table.append([[] for _ in columns])
            middle = frame.middles[i]
        table[-1][column_of[i]].append(i)
    return table


def _merged(rows: Cells) -> list[Row]:
    """Several heights as one row."""
    return [[i for part in column for i in part] for column in zip(*rows, strict=True)]


def centred_bands(frame: Frame, table: Cells) -> list[tuple[int, int]]:
    """The ranges of heights that are a row each: as many as can be have several cells, as few as can be have one.

    Args:
        table: for each height at which lines stand, the lines in each column.
    """
    if len(table) * len(table[0]) > MOST_CELLS:
        return [(n, n + 1) for n in range(len(table))]
    columns = [_Column.of(frame, [row[c] for row in table]) for c in range(len(table[0]))]
    tops, bottoms = _edges(frame, table)
    best: list[tuple[int, int]] = [(0, 0)]  # the score of all before a height, and where its last row begins
    for stop in range(1, len(table) + 1):
        choices = []
        for start in range(stop - 1, max(-1, stop - 1 - ROW_LEVELS), -1):
            used = [column for column in columns if column.before[start] < column.before[stop]]
            if any(column.runs_on(start, stop) for column in used):
                break  # in a taller row, too
            if stop - start == 1 or _is_row(frame, used, start, stop):
                is_torn = start > 0 and bottoms[start - 1] - tops[start] > BESIDE_EM * frame.em
                choices.append((best[start][0] + (1 if len(used) > 1 else -1) - is_torn, start))
        best.append(max(choices))
    bands: list[tuple[int, int]] = []
    stop = len(table)
    while stop:
        bands.append((best[stop][1], stop))
        stop = best[stop][1]
    return bands[::-1]


def _edges(frame: Frame, table: Cells) -> tuple[list[float], list[float]]:
    """The top and the bottom of the lines at each height."""
    boxes = [frame.union(i for cell in row for i in cell) for row in table]
    return [box[1] for box in boxes], [box[3] for box in boxes]


def _is_row(frame: Frame, columns: Sequence[_Column], start: int, stop: int) -> bool:
    """Whether heights from `start` to `stop` are one row: several cells with one middle, and white above them."""
    if len(columns) < 2 or any(column.hangs(start, stop) for column in columns):
        return False
    middles = [column.middle(start, stop) for column in columns]
    return max(middles) - min(middles) <= CENTRED_EM * frame.em


@dataclass(frozen=True, slots=True)
class _Column:
    """The lines of a column by height; heights without any are left out."""

    before: list[int]
    """How many lines stand above each height."""
    tops: list[float]
    bottoms: list[float]
    whites: list[float]
    """Below each line but the last one, as the middles of lines tell it: edges differ with the letters of a line."""
    are_figures: list[bool]

    @classmethod
    def of(cls, frame: Frame, cells: Sequence[Row]) -> _Column:
        used = [cell for cell in cells if cell]
        boxes = [frame.union(cell) for cell in used]
        return cls(
            [0, *accumulate(map(bool, cells))],
            [box[1] for box in boxes],
            [box[3] for box in boxes],
            [(below[1] + below[3] - above[1] - above[3]) / 2 - frame.em for above, below in pairwise(boxes)],
            [all(FIGURE.fullmatch(frame.lines[i].text.strip()) for i in cell) for cell in used],
        )

    def middle(self, start: int, stop: int) -> float:
        return (self.tops[self.before[start]] + self.bottoms[self.before[stop] - 1]) / 2

    def runs_on(self, start: int, stop: int) -> bool:
        """Whether several lines are no cell: the next one stands as near, or they are figures, entries of their own."""
        first, last = self.before[start], self.before[stop] - 1
        return first < last and (any(self.are_figures[first : last + 1]) or self._is_near(first, last, last))

    def hangs(self, start: int, stop: int) -> bool:
        """Whether the line above several ones stands as near as they stand to each other."""
        first, last = self.before[start], self.before[stop] - 1
        return first < last and self._is_near(first, last, first - 1)

    def _is_near(self, first: int, last: int, at: int) -> bool:
        return 0 <= at < len(self.whites) and max(self.whites[first:last]) > INNER_SHARE * self.whites[at]

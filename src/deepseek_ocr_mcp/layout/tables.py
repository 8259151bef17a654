"""Tables without rules: rows of cells that stand under each other.

What is not clearly a table stays text. Every line that is given is in exactly one cell.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from .centred import centred_bands, with_centred_rows
from .evidence import goes_on
from .lines import FIGURE, LIST_MARK, NO_SPACES, ROW_SHIFT, Box, Frame, Row, row_text

__all__ = ["aligned_cells", "cells_of", "rows_of", "table_runs", "wide_tables"]

# Tuned on the tables, invoices and receipts of the shared corpus and of benchmarks/generated_pages.py. Where a
# constant is wrong, two cells become one (a figure under a wrong heading), or prose becomes a table.
SIDE_BY_SIDE: Final = 0.3  # of the shorter line, at most, lies above or below the other
SAME_CELL_PITCH: Final = 1.3  # times the usual advance of a character: a space, in type of one width
SAME_CELL_EM: Final = 0.3  # lines of a row that stand closer are one cell
MARK_GAP_EM: Final = 4.0  # from a list mark to its item; a dash that stands farther from a figure is a cell
CONTINUATION_EM: Final = 0.4  # rows of a table that stand closer, and closer than the others, are one
CONTINUED_EM: Final = 0.6  # the same below the last row, where nothing but its own place tells that a line goes on
CONTINUATION_SHARE: Final = 0.6  # of the white between the others
SENTENCE_SHARE: Final = 0.9  # of that white: a name that goes on with a small letter
CLOSE_SHARE: Final = 0.45  # of the white between the others: rows so close are one, figures in both or not
CAPTION_SHARE: Final = 1.3  # times the usual white between rows: above the caption of a table that follows
PART_SHARE: Final = 2.0  # times the usual white: above the heading of a table with more columns than stand above it
MARGIN_EM: Final = 0.5  # from the edge of a region to a line that reaches it
EVEN_SPACES: Final = 1.6  # times the narrowest space of a stretched line is its widest one, as characters' centres tell
REACH: Final = 4  # lines above and below a run of rows that may be of its first and last cells
OFF_LEVEL: Final = 0.1  # the same of two rows that may be one: their middles tell
BESIDE: Final = 0.3  # of the lower of two lines lies beside the other one
IDLE_ROWS: Final = 5  # rows of one cell, at most, between two rows of a table
ROW_GAP_EM: Final = 5.0  # most white between two rows of several cells
LONE_GAP_EM: Final = 3.0  # most white where one of them has one cell
SAME_COLUMN: Final = 0.2  # of the narrower of two cells that stand under each other, shared
SPANNED: Final = 0.3  # of a column, shared by a cell that goes over it
WIDE_ROWS: Final = 3  # least number of rows with figures of a table over the whole width
WIDE_CELLS: Final = 3  # least number of cells in each
WIDE_CHARS: Final = 24  # most characters in a cell
FIGURE_SHARE: Final = 0.4  # of the cells of a row are figures; or none is, in its heading
WIDE_GAP_EM: Final = 2.5  # most white between two of its rows
USED_SHARE: Final = 0.3  # of the rows have something in each of two columns, or there is no table
LEADS: Final = re.compile(r"[.…·]{2,}[.,…·\s]*$|^[.…·]+\s*\d+$|^[.…·\s]+$")
LEADING_SHARE: Final = 0.4  # of the rows have dots that lead to the number of a page: a table of contents
CLOSING: Final = "，。、；：！？）」』】》〉”’"
OPENING: Final = "（「『【《〈“‘"

Cells = list[list[Row]]


def rows_of(frame: Frame, lines: Row) -> list[Row]:
    """`lines` (sorted by middle) as rows from top to bottom, each from left to right. A block is a row of its own."""
    rows: list[Row] = []
    for i in lines:
        # Only its neighbours in the row can be in its way.
        if rows and not frame.is_block([i, rows[-1][0]]) and _is_level(frame, rows[-1], i):
            at = bisect_left(rows[-1], (frame.boxes[i][0], i), key=lambda k: (frame.boxes[k][0], k))
            if all(_shares_little(frame, i, k) for k in rows[-1][max(0, at - 1) : at + 1]):
                rows[-1].insert(at, i)
                continue
        rows.append([i])
    return rows


def _is_level(frame: Frame, row: Row, i: int) -> bool:
    """Whether the middle of a line is where those of a row are."""
    shift = ROW_SHIFT * min(frame.height(i), frame.height(row[0]), frame.height(row[-1]))
    return (
        abs(frame.middles[i] - frame.middles[row[0]]) <= shift
        and abs(frame.middles[i] - frame.middles[row[-1]]) <= shift
    )


def _shares_little(frame: Frame, i: int, j: int) -> bool:
    """Whether two lines stand side by side: boxes are not exact, so a little of them may lie under the other."""
    a, b = frame.boxes[i], frame.boxes[j]
    return min(a[2], b[2]) - max(a[0], b[0]) <= SIDE_BY_SIDE * min(a[2] - a[0], b[2] - b[0])


def cells_of(frame: Frame, row: Sequence[int]) -> list[Row]:
    """A row as cells: lines closer than a wide space are one cell, and so is a list mark with its text."""
    cells = [[row[0]]]
    for before, i in pairwise(row):
        white = _white(frame, before, i)
        mark = before == row[0] and LIST_MARK.fullmatch(frame.lines[before].text.strip())
        if (mark and white < MARK_GAP_EM * frame.em) or white < max(
            SAME_CELL_EM * frame.em, SAME_CELL_PITCH * frame.pitch
        ):
            cells[-1].append(i)
        else:
            cells.append([i])
    return cells


def _white(frame: Frame, before: int, i: int) -> float:
    """The white between two lines of a row, without that inside the squares of Chinese stops and brackets."""
    white = frame.boxes[i][0] - frame.boxes[before][2]
    end, begin = frame.lines[before].text.rstrip()[-1:], frame.lines[i].text.lstrip()[:1]
    for char, line in ((end if end in CLOSING else "", before), (begin if begin in OPENING else "", i)):
        if char and NO_SPACES.search(frame.lines[line].text):
            white -= frame.height(line) / 2
    return white


def table_runs(frame: Frame, rows: list[Row]) -> Iterator[tuple[int, int]]:
    """Ranges of rows that may be a table: most have several cells, none stands far from the next."""
    boxes = [frame.union(row) for row in rows]
    counts = _cell_counts(frame, rows, boxes)
    taken = 0
    for start, last in _runs(frame, rows, boxes, counts):
        stop = _continued(frame, rows, counts, start, last + 1)
        first, taken = _with_centred_ends(frame, rows, counts, max(taken, start - REACH), (start, stop))
        yield from _parted(frame, rows, counts, first, taken)


def _runs(frame: Frame, rows: list[Row], boxes: list[Box], counts: list[int]) -> Iterator[tuple[int, int]]:
    """The first and the last row of several cells, with no more than a few rows of one cell between any two."""
    start: int | None = None
    last = 0
    for at, count in enumerate(counts):
        if start is not None and (
            at - last > IDLE_ROWS or frame.is_block(rows[at]) or _is_far(frame, boxes, counts, at)
        ):
            yield start, last
            start = None
        if count > 1:
            start = at if start is None else start
            last = at
    if start is not None:
        yield start, last


def _with_centred_ends(
    frame: Frame, rows: list[Row], counts: list[int], least: int, run: tuple[int, int]
) -> tuple[int, int]:
    """The range of rows with those above and below it that are lines of centred cells of its first and last row.

    Args:
        least: the first row that is free.
    """
    start, stop = first, last = run
    while first > least and counts[first - 1] == 1 and not frame.is_block(rows[first - 1]):
        first -= 1
    while last < min(len(rows), stop + REACH) and counts[last] == 1 and not frame.is_block(rows[last]):
        last += 1
    table = _in_columns(frame, rows[first:last]) if (first, last) != run else None
    if table is None:
        return run
    bands = centred_bands(frame, table)
    begin = next(a for a, b in bands if a <= start - first < b)
    end = next(b for a, b in bands if a <= stop - 1 - first < b)
    return first + begin, first + end


def _cell_counts(frame: Frame, rows: list[Row], boxes: list[Box]) -> list[int]:
    """How many cells each row has. A line of prose that is stretched to both margins is one cell."""
    counts = [len(cells_of(frame, row)) for row in rows]
    left, right = min((box[0] for box in boxes), default=0.0), max((box[2] for box in boxes), default=0.0)
    slack = MARGIN_EM * frame.em
    full = [box[0] - left <= slack and right - box[2] <= slack for box in boxes]
    counts = [
        1
        if count > 1
        and full[n]
        and any(full[k] and counts[k] == 1 for k in (n - 1, n + 1) if 0 <= k < len(rows))
        and _is_stretched(frame, rows[n])
        else count
        for n, count in enumerate(counts)
    ]
    return _with_centred_counts(frame, rows, boxes, counts)


def _with_centred_counts(frame: Frame, rows: list[Row], boxes: list[Box], counts: list[int]) -> list[int]:
    """The counts, where lines that are not level are cells of one row: each has the count of that row."""
    if not any(_stand_beside(above, below) for above, below in pairwise(boxes)):
        return counts
    table = _in_columns(frame, rows)
    if table is None:
        return counts
    for a, b in centred_bands(frame, table):
        filled = sum(map(any, zip(*table[a:b], strict=True)))
        if b - a > 1 and filled > 1 and not any(frame.is_block(row) for row in rows[a:b]):
            counts[a:b] = [max(count, filled) for count in counts[a:b]]
    return counts


def _stand_beside(above: Box, below: Box) -> bool:
    """Whether two rows overlap in height, and not in length."""
    shared = above[3] - below[1]
    return shared > OFF_LEVEL * min(above[3] - above[1], below[3] - below[1]) and (
        above[2] < below[0] or below[2] < above[0]
    )


def _is_stretched(frame: Frame, row: Row) -> bool:
    """Whether all spaces of a row are as wide, and no figure stands alone between two of them."""
    spaces = [frame.boxes[b][0] - frame.boxes[a][2] for a, b in pairwise(row)]
    for i in row:
        text, centres, box = frame.lines[i].text, frame.lines[i].centres, frame.boxes[i]
        if _is_figure(frame, i) or (" " in text and len(centres) != len(text)):
            return False
        steps = [(b - a) * (box[2] - box[0]) for a, b in pairwise(centres)]
        pitch = (box[2] - box[0]) / max(1, len(text))
        spaces += [steps[k - 1] + steps[k] - pitch for k in range(1, len(steps)) if text[k] == " "]
    return max(spaces) <= EVEN_SPACES * min(spaces)


def _continued(frame: Frame, rows: list[Row], counts: list[int], start: int, stop: int) -> int:
    """The end of a range of rows with those that go on with a cell of its last row: one that is not the first.

    They begin where the cell begins, and stand closer than the rows of the table do.
    """
    lefts = [frame.union(cell)[0] for cell in cells_of(frame, rows[stop - 1])[1:]]
    begins = [r for r in range(start + 1, stop) if counts[r] > 1]
    if len(begins) < 2:
        return stop  # two rows do not tell how far rows stand apart
    gaps = [_white_between(frame, rows[r - 1], rows[r]) for r in begins]
    most = min(CONTINUED_EM * frame.em, CONTINUATION_SHARE * min(gaps))
    while stop < len(rows) and counts[stop] == 1 and not frame.is_block(rows[stop]):
        box = frame.union(rows[stop])
        if _white_between(frame, rows[stop - 1], rows[stop]) > most:
            break
        if not any(abs(left - box[0]) <= CONTINUATION_EM * frame.em for left in lefts):
            break
        stop += 1
    return stop


def _white_between(frame: Frame, above: Row, below: Row) -> float:
    """The white between two rows, as the middles of their lines tell it: edges differ with the letters of a line."""
    return min(frame.middles[i] for i in below) - max(frame.middles[i] for i in above) - frame.em


def wide_tables(frame: Frame, lines: Row) -> Iterator[list[Row]]:
    """The rows of tables over the whole width of a page, looked for before its columns are.

    A table between columns of prose must not be cut at their gutter. So only what prose cannot be counts: rows of
    several short cells under each other, of which many are figures.
    """
    run: list[Row] = []
    for row in [*rows_of(frame, lines), []]:
        if row and _is_table_row(frame, row) and (not run or _follows(frame, run[-1], row)):
            run.append(row)
            continue
        figures = sum(any(_is_figure(frame, i) for i in found) for found in run)
        if len(run) > WIDE_ROWS and figures >= WIDE_ROWS and not _is_doubled(frame, run[0]):
            yield run
        run = [row] if row and _is_table_row(frame, row) else []


def _is_doubled(frame: Frame, row: Row) -> bool:
    """Whether a row has the same names twice: two tables stand side by side."""
    texts = [frame.lines[i].text.strip() for i in row]
    return texts[: len(texts) // 2] == texts[len(texts) // 2 :]


def _is_table_row(frame: Frame, row: Row) -> bool:
    """Whether a row has several cells, all of them short, and figures or names in them."""
    cells = cells_of(frame, row) if len(row) > 2 else []
    if len(cells) < WIDE_CELLS or any(sum(frame.lengths[i] for i in cell) > WIDE_CHARS for cell in cells):
        return False
    figures = sum(all(_is_figure(frame, i) for i in cell) for cell in cells)
    return figures >= FIGURE_SHARE * len(cells) or figures == 0


def _is_figure(frame: Frame, i: int) -> bool:
    return FIGURE.fullmatch(frame.lines[i].text.strip()) is not None


def _follows(frame: Frame, above: Row, row: Row) -> bool:
    """Whether a row stands under another one, not far below it."""
    return frame.union(row)[1] - frame.union(above)[3] <= WIDE_GAP_EM * frame.em


def _is_far(frame: Frame, boxes: list[Box], counts: list[int], at: int) -> bool:
    most = ROW_GAP_EM if min(counts[at], counts[at - 1]) > 1 else LONE_GAP_EM
    return boxes[at][1] - boxes[at - 1][3] > most * frame.em


def _parted(frame: Frame, rows: list[Row], counts: list[int], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """A range of rows as one table or several: a caption or a repeated heading begins another one."""
    gaps = [frame.union(rows[r])[1] - frame.union(rows[r - 1])[3] for r in range(start + 1, stop)]
    usual = median(gaps) if gaps else 0.0
    heading = [row_text(frame.lines, [cell]) for cell in cells_of(frame, rows[start])]
    first = start
    for r in range(start + 1, stop):
        if counts[r] < 2:
            continue
        lone = r - 1 if counts[r - 1] == 1 else r
        texts = [row_text(frame.lines, [cell]) for cell in cells_of(frame, rows[r])]
        gap = gaps[lone - start - 1]
        far = gap > CAPTION_SHARE * max(usual, 0.2 * frame.em)
        wider = gap > PART_SHARE * max(usual, 0.5 * frame.em) and counts[r] > max(counts[first:r], default=0)
        if lone > first and (
            texts == heading
            or (lone < r and far and _names_columns(texts) and _names_columns(heading))
            or (lone == r and wider and _names_columns(texts) and _enough(counts[r:stop]))
        ):
            if _enough(counts[first:lone]):
                yield first, lone
            first, heading = r, texts
    if _enough(counts[first:stop]):
        yield first, stop


def _names_columns(texts: list[str]) -> bool:
    """Whether cells may be the heading of a table: several, and no figure in them."""
    return len(texts) > 1 and not any(char.isdigit() for text in texts for char in text)


def _enough(counts: list[int]) -> bool:
    several = [count for count in counts if count > 1]
    return len(several) >= 3 or (len(several) == 2 and min(several) > 2)


def aligned_cells(frame: Frame, rows: list[Row]) -> tuple[tuple[tuple[int, ...], ...], ...] | None:
    """The cells of the rows by column, or None where they do not stand under each other, or lead to pages."""
    if sum(any(LEADS.search(frame.lines[i].text) for i in row) for row in rows) >= LEADING_SHARE * len(rows):
        return None
    table = _in_columns(frame, rows)
    if table is None:
        return None
    table = with_centred_rows(frame, _merge_columns(frame, table))
    used = [sum(bool(row[c]) for row in table) for c in range(len(table[0]))]
    if sum(count >= max(2, USED_SHARE * len(table)) for count in used) < 2:
        return None
    merged = _merge_continuations(frame, table)
    return tuple(tuple(tuple(cell) for cell in row) for row in merged)


def _in_columns(frame: Frame, rows: list[Row]) -> Cells | None:
    """The cells of the rows by column; None where there is one column."""
    cells = [(r, cell, frame.union(cell)) for r, row in enumerate(rows) for cell in cells_of(frame, row)]
    columns = _columns(cells)
    if len(columns) < 2:
        return None
    table: Cells = [[[] for _ in columns] for _ in rows]
    for r, cell, box in cells:
        touched = _touched(columns, box)
        if len(touched) > 1 and len(cell) > 1 and all(FIGURE.fullmatch(frame.lines[i].text.strip()) for i in cell):
            for i in cell:  # figures of two columns, no more than a space apart
                table[r][_touched(columns, frame.boxes[i])[0]].append(i)
        else:
            table[r][touched[0]] += cell
    return table


def _touched(columns: list[tuple[float, float]], box: Box) -> list[int]:
    """The columns that a cell goes over; at least one."""
    overlap = [min(box[2], x2) - max(box[0], x1) for x1, x2 in columns]
    touched = [c for c, length in enumerate(overlap) if length > SPANNED * (columns[c][1] - columns[c][0])]
    return touched if len(touched) > 1 else [overlap.index(max(overlap))]


def _columns(cells: list[tuple[int, Row, Box]]) -> list[tuple[float, float]]:
    """The x extents of the columns. Narrow cells make them; a cell over several columns makes none."""
    columns: list[tuple[float, float, set[int]]] = []
    for r, _, box in sorted(cells, key=lambda cell: (cell[2][2] - cell[2][0], cell[0], cell[2][0])):
        near = [
            column
            for column in columns
            if min(box[2], column[1]) - max(box[0], column[0])
            > SAME_COLUMN * min(box[2] - box[0], column[1] - column[0])
        ]
        shared = any(a[2] & b[2] for n, a in enumerate(near) for b in near[n + 1 :])
        if shared:
            continue  # a heading over several columns
        rows = {r}.union(*(column[2] for column in near))
        columns = [column for column in columns if column not in near]
        columns.append((min([box[0], *(c[0] for c in near)]), max([box[2], *(c[1] for c in near)]), rows))
    return sorted((x1, x2) for x1, x2, _ in columns)


def _merge_columns(frame: Frame, table: Cells) -> Cells:
    """A column without a heading whose cells only fill what its neighbour leaves empty is one with it."""
    width = len(table[0])
    c = 0
    while c < width - 1 and 2 * sum(map(bool, table[0])) > width:
        pairs = [(row[c], row[c + 1]) for row in table]
        if len(table) > 2 and not all(pairs[0]) and not _are_beside(frame, pairs):
            table = [[*row[:c], row[c] + row[c + 1], *row[c + 2 :]] for row in table]
            width -= 1
        else:
            c += 1
    return table


def _are_beside(frame: Frame, pairs: list[tuple[Row, Row]]) -> bool:
    """Whether a line of one column stands beside one of the other, level or not."""
    last: list[tuple[float, float]] = [(-math.inf, 0.0), (-math.inf, 0.0)]  # the bottom and the height of each column's
    for pair in pairs:
        for side, cell in enumerate(pair):
            if not cell:
                continue
            _, top, _, bottom = frame.union(cell)
            other, height = last[not side]
            if other - top > BESIDE * min(bottom - top, height):
                return True
            last[side] = (bottom, bottom - top)
    return False


def _merge_continuations(frame: Frame, table: Cells) -> Cells:
    """Rows that only go on with a cell of their neighbour are put into it."""
    filled = [sum(bool(cell) for cell in row) for row in table]
    full = [count >= 0.6 * max(filled) for count in filled]
    boxes = [frame.union(i for cell in row for i in cell) for row in table]
    gaps = [below[1] - above[3] for above, below in pairwise(boxes)]
    between_full = [gap for n, gap in enumerate(gaps) if full[n] and full[n + 1]]
    if not between_full:
        return table
    usual = median(between_full)
    close = min(max(CONTINUATION_EM * frame.em, CLOSE_SHARE * usual), CONTINUATION_SHARE * usual)
    merged, head = [table[0]], 0
    for n, row in enumerate(table[1:], start=1):
        most = SENTENCE_SHARE * usual if _is_one_sentence(frame, merged[-1], row) else close
        is_one = gaps[n - 1] <= most and not (full[n - 1] and full[n])
        if is_one and _both_count(frame, merged[-1], row):
            # Two entries, unless the rows are clearly in groups.
            is_one = gaps[n - 1] <= CLOSE_SHARE * usual and filled[n] < filled[head] and usual >= frame.em
        if is_one:
            merged[-1] = [above + below for above, below in zip(merged[-1], row, strict=True)]
        else:
            merged.append(row)
            head = n
    return merged


def _is_one_sentence(frame: Frame, above: list[Row], below: list[Row]) -> bool:
    """Whether a name without values goes on with a small letter in the row below: "Trade and other" "receivables"."""
    [name, *values] = above
    if not name or any(values) or not below[0]:
        return False
    return goes_on(frame.lines[name[-1]].text, frame.lines[below[0][0]].text) == 1


def _both_count(frame: Frame, above: list[Row], below: list[Row]) -> bool:
    """Whether a column has figures in both rows: then they are two entries, however close they stand."""
    return any(
        cells and all(any(char.isdigit() for i in cell for char in frame.lines[i].text) for cell in cells)
        for cells in zip(above, below, strict=True)
    )

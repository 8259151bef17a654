"""Puts lines into reading order and makes elements of them: titles, paragraphs, lists, tables.

Every line that is given comes back exactly once: the order is a permutation of the input, and the same lines
always give the same order. Pure Python; time grows as n log n for n lines.

`columns.py` finds the columns, `tables.py` the tables in each of them, `paragraphs.py` the rest. Where a page has
vertical lines among level lines, each group of vertical lines is a block of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from .columns import columns_of
from .headings import Headings, with_levels
from .lines import Box, Element, Frame, Row, TextLine
from .paragraphs import paragraphs_of
from .tables import aligned_cells, rows_of, table_runs, wide_tables

__all__ = ["ArrangedPart", "arrange", "reading_order"]

VERTICAL_LINES: Final = 2  # least number of vertical lines that are a block; a single one is a letter or a label
VERTICAL_CHARS: Final = 8  # least number of their characters
GROUPS_OPEN: Final = 50  # groups of vertical lines that are looked at for one more: bounds the time
NEIGHBOUR_EM: Final = 2.5  # most white between two vertical lines of a block


@dataclass(frozen=True, slots=True)
class ArrangedPart:
    """A part of the page that is arranged already: `elements` hold all of its lines."""

    box: Box
    elements: Sequence[Element]


def reading_order(lines: Sequence[TextLine]) -> list[int]:
    """The indices of `lines` in the order in which a reader takes them."""
    return [index for element in arrange(lines) for index in element.lines]


def arrange(
    lines: Sequence[TextLine], *, columns: bool = True, tables: bool = True, blocks: Sequence[ArrangedPart] = ()
) -> list[Element]:
    """The page as elements in reading order; each index of `lines` is in exactly one of them.

    Args:
        columns: whether columns are looked for.
        tables: whether tables without rules are looked for.
        blocks: parts of the page whose lines are arranged already; each is read as one line would be.
    """
    if not lines:
        return []
    page = Frame.of(lines)
    blocks = [*blocks, *_vertical_blocks(lines, _lines_of(blocks))]
    frame, rest, regions = _regions(page, blocks, columns=columns)
    if tables and len(regions) > 1 and (wide := list(_wide_tables(frame, rest, regions))):
        blocks += wide
        frame, rest, regions = _regions(page, blocks, columns=columns)
    headings = Headings(frame, page)
    in_rows = [rows_of(frame, region) for region in regions]
    elements: list[Element] = []
    for number, (rows, after) in enumerate(pairwise([*in_rows, []])):
        heading_of = headings.among(rows, after[0] if after else None)
        elements += _elements(frame, rows, number, heading_of, tables=tables)
    if blocks:
        elements = list(_put_in(elements, rest, blocks))
    return with_levels(lines, elements)


def _lines_of(blocks: Iterable[ArrangedPart]) -> set[int]:
    return {i for block in blocks for element in block.elements for i in element.lines}


def _regions(page: Frame, blocks: Sequence[ArrangedPart], *, columns: bool) -> tuple[Frame, list[int], list[Row]]:
    """The lines that are in no block and stand-ins for the blocks; the page's own numbers of the lines; the columns."""
    arranged = _lines_of(blocks)
    rest = [i for i in range(len(page.lines)) if i not in arranged]
    frame = page
    if blocks:
        stand_ins = [TextLine("", block.box) for block in blocks]
        frame = replace(Frame.of([*(page.lines[i] for i in rest), *stand_ins]).like(page), blocks_from=len(rest))
    everything = frame.by_middle(range(len(frame.lines)))
    return frame, rest, columns_of(frame, everything, []) if columns else [everything]


def _wide_tables(frame: Frame, rest: Sequence[int], regions: Sequence[Row]) -> Iterator[ArrangedPart]:
    """Tables that a gutter of the page has cut."""
    region_of = {i: number for number, region in enumerate(regions) for i in region}
    for rows in wide_tables(frame, frame.by_middle(range(len(rest)))):
        if len({region_of[i] for row in rows for i in row}) == 1:
            continue
        cells = aligned_cells(frame, rows)
        if cells is not None:
            own = tuple(tuple(tuple(rest[i] for i in cell) for cell in row) for row in cells)
            boxes = [frame.lines[i].box for row in rows for i in row]
            lefts, tops, rights, bottoms = zip(*boxes, strict=True)
            yield ArrangedPart((min(lefts), min(tops), max(rights), max(bottoms)), [Element("table", own)])


def _elements(
    frame: Frame, rows: list[Row], number: int, heading_of: Sequence[int], *, tables: bool
) -> Iterator[Element]:
    """The tables of a region and, between them, paragraphs and list items."""
    at = 0
    for start, stop in table_runs(frame, rows) if tables else ():
        cells = aligned_cells(frame, rows[start:stop])
        if cells is not None:
            yield from paragraphs_of(frame, rows[at:start], number, heading_of[at:start])
            yield Element("table", cells, region=number)
            at = stop
    yield from paragraphs_of(frame, rows[at:], number, heading_of[at:])


def _put_in(elements: Iterable[Element], rest: Sequence[int], blocks: Sequence[ArrangedPart]) -> Iterator[Element]:
    """The elements with the page's own numbers, and the elements of blocks in their places."""
    for element in elements:
        [first, *_] = element.lines
        if first < len(rest):
            rows = tuple(tuple(tuple(rest[i] for i in cell) for cell in row) for row in element.rows)
            yield replace(element, rows=rows)
        else:
            yield from (replace(part, region=element.region) for part in blocks[first - len(rest)].elements)


def _vertical_blocks(lines: Sequence[TextLine], arranged: set[int]) -> Iterator[ArrangedPart]:
    """Groups of lines set from top to bottom, on a page that has others too."""
    vertical = [i for i, line in enumerate(lines) if line.vertical and i not in arranged]
    across = [i for i, line in enumerate(lines) if not line.vertical and i not in arranged and len(line.text) > 1]
    if not vertical or not across:
        return
    groups: list[list[int]] = []
    for i in sorted(vertical, key=lambda i: lines[i].box[0]):
        for group in groups[-GROUPS_OPEN:]:
            if any(_are_neighbours(lines[i].box, lines[k].box) for k in group[-3:]):
                group.append(i)
                break
        else:
            groups.append([i])
    for group in groups:
        if len(group) >= VERTICAL_LINES and sum(len(lines[i].text) for i in group) >= VERTICAL_CHARS:
            x1, y1, x2, y2 = zip(*(lines[i].box for i in group), strict=True)
            elements = [
                replace(e, rows=tuple(tuple(tuple(group[i] for i in cell) for cell in row) for row in e.rows))
                for e in arrange([lines[i] for i in group])
            ]
            yield ArrangedPart((min(x1), min(y1), max(x2), max(y2)), elements)


def _are_neighbours(a: Box, b: Box) -> bool:
    """Whether two vertical lines stand side by side."""
    wide = min(a[2] - a[0], b[2] - b[0])
    white = max(a[0], b[0]) - min(a[2], b[2])
    return white <= NEIGHBOUR_EM * wide and min(a[3], b[3]) > max(a[1], b[1])

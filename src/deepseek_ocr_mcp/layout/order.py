"""Puts recognised lines into reading order and writes them as plain text or Markdown.

Every line given comes back exactly once: the order is a permutation of the input, and the same
lines always give the same order. Pure Python; time grows as n log n for n lines.

The page is cut at gutters: vertical strips that only few lines cross. Lines that cross a gutter
(a headline over two columns) cut it into bands; in each band the left column comes before the
right one, and each column is cut again. A gutter between cells of a table is no gutter: there
the rows go on across it. What is left after cutting is read row by row, and runs of rows whose
cells stand under each other become tables.

Lengths are in pixels of the page unless a name says otherwise; `em` is the median line height.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Final

from .columns import TITLE_SCALE, advance, by_middle, columns_of
from .lines import LIST_ITEM, Box, Element, Kind, LayoutPage, Row, TextLine, row_text
from .tables import cells_of, rows_of, table_grid, table_runs

__all__ = ["arrange", "reading_order"]

SUBTITLE_SCALE: Final = 1.12  # so is one that is this much larger and wider set, short, and ends openly
SUBTITLE_CHARS: Final = 60
TITLE_CHARS: Final = 150
PARAGRAPH_GAP: Final = 0.45  # em more than the usual gap: a new paragraph


def reading_order(lines: Sequence[TextLine]) -> list[int]:
    """The indices of `lines` in the order in which a reader takes them."""
    return [index for element in arrange(lines) for index in element.lines]


def arrange(
    lines: Sequence[TextLine], *, columns: bool = True, tables: bool = True, like: Sequence[TextLine] = ()
) -> list[Element]:
    """The page as elements in reading order; each index of `lines` is in exactly one of them.

    Args:
        columns: whether columns are looked for.
        tables: whether tables are looked for.
        like: all lines of the page, where `lines` are a part of it: they tell what is usual.
    """
    if not lines:
        return []
    page = LayoutPage.of(lines)
    if like:
        usual = LayoutPage.of(like)
        page = replace(page, em=usual.em, pitch=usual.pitch, bold_says=usual.bold_says)
    elements: list[Element] = []
    everything = by_middle(page, range(len(lines)))
    for number, region in enumerate(columns_of(page, everything, 0, []) if columns else [everything]):
        elements.extend(_elements(page, region, number, tables))
    return _with_levels(page, elements)


def _elements(page: LayoutPage, region: Row, number: int, tables: bool) -> Iterator[Element]:
    """Tables and, between them, paragraphs and list items."""
    rows = rows_of(page, region)
    at = 0
    for start, stop in table_runs(page, rows) if tables else ():
        grid = table_grid(page, rows[start:stop])
        if grid is not None:
            yield from _paragraphs(page, rows[at:start], number)
            yield Element("table", grid, region=number)
            at = stop
    yield from _paragraphs(page, rows[at:], number)


def _paragraphs(page: LayoutPage, rows: list[Row], number: int) -> Iterator[Element]:
    """Rows as titles, list items and paragraphs. A wide gap, an indent or a list mark begins a new one."""
    if not rows:
        return
    boxes = [page.union(row) for row in rows]
    gaps = [below[1] - above[3] for above, below in pairwise(boxes)]
    usual = sorted(gaps)[len(gaps) // 3] if gaps else 0.0  # paragraphs of two lines have wide gaps, too
    margin = min(box[0] for box in boxes)
    width = max(box[2] for box in boxes) - margin
    titles = [_is_title(page, row, width) for row in rows]
    current: list[Row] = []
    for n, row in enumerate(rows):
        if current and (
            titles[n] != titles[n - 1]
            or gaps[n - 1] > usual + PARAGRAPH_GAP * page.em
            or (_is_item(page, row) and not titles[n])
            or _leaves_item(page, current[0], boxes[n])
            or _is_indented(page, boxes[n - 1], boxes[n], margin)
        ):
            yield _paragraph(page, current, titles[n - 1], number)
            current = []
        current.append(row)
    yield _paragraph(page, current, titles[-1], number)


def _paragraph(page: LayoutPage, rows: list[Row], title: bool, number: int) -> Element:
    text = " ".join(page.lines[i].text for row in rows for i in row)
    kind: Kind = "line"
    if title and len(rows) <= 3 and len(text) <= TITLE_CHARS:
        kind = "title"
    elif _is_item(page, rows[0]):
        kind = "list"
    return Element(kind, tuple((tuple(row),) for row in rows), region=number)


def _is_item(page: LayoutPage, row: Row) -> bool:
    return LIST_ITEM.match(row_text(page.lines, [row])) is not None


def _leaves_item(page: LayoutPage, first: Row, box: Box) -> bool:
    """Whether a line stands to the left of what would be its list item's text."""
    return _is_item(page, first) and box[0] < page.boxes[first[0]][0] + 0.3 * page.em


def _is_indented(page: LayoutPage, above: Box, box: Box, margin: float) -> bool:
    """Whether a line begins a paragraph by standing a little to the right of the margin."""
    at_margin = above[0] < margin + 0.5 * page.em
    return at_margin and above[0] + page.em < box[0] < margin + 5 * page.em


def _is_title(page: LayoutPage, row: Row, width: float) -> bool:
    """Whether a row is set larger than the body: clearly, or a little (or bold) when it also looks like a title."""
    if len(cells_of(page, row)) > 1:
        return False
    text = " ".join(page.lines[i].text.strip() for i in row)
    if 2 * sum(char.isalpha() for char in text) <= len(text):
        return False
    scale = median(page.height(i) for i in row) / page.em
    if page.mirrored:  # joined letters: their heights tell little
        scale = min(scale, advance(page, row) / max(page.pitch, 1e-6))
    if scale >= TITLE_SCALE:
        return True
    box = page.union(row)
    wide = (box[2] - box[0]) / max(1, len(text)) >= SUBTITLE_SCALE * page.pitch
    begins = text[0].isupper() or text[0].isdigit()
    bold = page.bold_says and all(page.lines[i].bold for i in row)
    return (
        (bold or (scale >= SUBTITLE_SCALE and wide))
        and begins
        and text[-1] not in ".,;:-"
        and len(text) <= SUBTITLE_CHARS
        and box[2] - box[0] < 0.75 * width
    )


def _with_levels(page: LayoutPage, elements: list[Element]) -> list[Element]:
    """Larger titles get the higher level. A page of nothing but titles is a poster: it has none."""
    sizes = {
        n: median(page.height(i) for i in element.lines)
        for n, element in enumerate(elements)
        if element.kind == "title"
    }
    if len(sizes) == len(elements):
        return [Element("line", e.rows, region=e.region) for e in elements]
    steps: list[float] = []
    for size in sorted(sizes.values(), reverse=True):
        if not steps or size < steps[-1] / SUBTITLE_SCALE:
            steps.append(size)
    # A page may begin in the middle of a chapter: what is hardly larger than the body is no heading of the first level.
    above = 0 if steps and steps[0] >= TITLE_SCALE * page.em else 1
    return [
        Element("title", e.rows, above + max(1, sum(step >= sizes[n] for step in steps[:3])), e.region)
        if n in sizes
        else e
        for n, e in enumerate(elements)
    ]

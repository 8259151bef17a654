"""Writes elements in reading order as Markdown or as plain text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from .columns import PROSE_CHARS
from .lines import LIST_ITEM, NO_SPACES, Element, LayoutPage, TextLine, row_text, text_length
from .order import arrange
from .tables import cells_of

__all__ = ["rows_around", "to_markdown", "to_text"]


def to_text(lines: Sequence[TextLine], elements: Sequence[Element] | None = None) -> str:
    """Plain text: one row of the page per line, an empty line between elements."""
    chunks = []
    for element in arrange(lines) if elements is None else elements:
        rows = [row_text(lines, row) for row in element.rows]
        chunks.append("\n".join(row for row in rows if row))
    return "\n\n".join(chunk for chunk in chunks if chunk)


def rows_around(lines: Sequence[TextLine], elements: Sequence[Element], groups: Sequence[Sequence[int]]) -> str:
    """Plain text: for each group of lines the rows of the page that they stand in, whole; each row once."""
    place = {
        i: (n, r)
        for n, element in enumerate(elements)
        for r, row in enumerate(element.rows)
        for cell in row
        for i in cell
    }
    chunks: list[str] = []
    shown: set[tuple[int, int]] = set()
    for group in groups:
        rows = [row for row in dict.fromkeys(place[i] for i in group) if row not in shown]
        shown.update(rows)
        chunks.append(" ".join(row_text(lines, elements[n].rows[r]) for n, r in rows))
    return "\n".join(chunk for chunk in chunks if chunk)


def to_markdown(lines: Sequence[TextLine], elements: Sequence[Element] | None = None) -> str:
    """Markdown: titles as headings, tables as pipe tables, lines of a paragraph joined, hyphens healed."""
    page = LayoutPage.of(lines)
    chunks: list[str] = []
    before: Element | None = None
    for element in arrange(lines) if elements is None else elements:
        if element.kind == "table":
            chunk = _table_text(page, element)
        else:
            chunk = _paragraph_text(page, element)
            if element.kind == "title":
                chunk = "#" * element.level + " " + " ".join(chunk.split())
            elif element.kind == "list":
                chunk = LIST_ITEM.sub(lambda m: f"{m['number']} " if m["number"] else "- ", chunk, count=1)
        if not chunk.strip():
            continue
        if before is not None and element.kind == "line" and _runs_on(before, element, chunks[-1], chunk):
            chunks[-1] = _joined(chunks[-1], chunk)
        elif before is not None and before.kind == element.kind == "list":
            chunks[-1] += "\n" + chunk
        else:
            chunks.append(chunk)
        before = element
    return "\n\n".join(chunks)


def _paragraph_text(page: LayoutPage, element: Element) -> str:
    """The rows joined where the text runs on, on lines of their own where it does not.

    Where joined rows end or begin, a paragraph does: an empty line follows, as Markdown wants it.
    """
    rows = [row[0] for row in element.rows]
    right = math.inf if _is_listing(page, rows) else max(page.boxes[i][2] for i in element.lines)
    runs: list[tuple[int, str]] = []  # rows joined, and their text
    for n, row in enumerate(rows):
        chunk = " ".join(page.lines[i].text.strip() for i in row)
        if n and _goes_on(page, rows[n - 1], row, right):
            count, text = runs.pop()
            runs.append((count + 1, _joined(text, chunk)))
        else:
            runs.append((1, chunk))
    parts = [runs[0][1]]
    for (above, _), (below, text) in pairwise(runs):
        parts += ["\n" if above == below == 1 else "\n\n", text]
    return "".join(parts)


def _is_listing(page: LayoutPage, rows: Sequence[Sequence[int]]) -> bool:
    """Whether all rows begin with the same sign, as lines of a log do."""
    signs = {page.lines[row[0]].text.strip()[:1] for row in rows}
    return len(rows) > 2 and len(signs) == 1 and not signs.pop().isalnum()


def _goes_on(page: LayoutPage, above: Sequence[int], below: Sequence[int], right: float) -> bool:
    """Whether the line is broken for want of room: the first word below would not have fitted above."""
    if len(above) > 1 and len(cells_of(page, above)) > 1:
        return False
    text = page.lines[above[-1]].text.rstrip()
    if text.endswith("-"):
        return True
    if sum(text_length(page.lines[i].text) for i in above) < PROSE_CHARS:
        return False
    box, following = page.boxes[below[0]], page.lines[below[0]].text.strip()
    word = 1 if NO_SPACES.match(following) else len(following.split(maxsplit=1)[0]) if following else 0
    room = (word + 1) * (box[2] - box[0]) / max(1, len(following))
    return page.boxes[above[-1]][2] + room > right - 0.5 * page.em


def _table_text(page: LayoutPage, element: Element) -> str:
    rows = []
    for row in element.rows:
        cells = []
        for cell in row:
            text = ""
            for i in cell:
                text = _joined(text, page.lines[i].text.strip()) if text else page.lines[i].text.strip()
            cells.append(text.replace("|", "\\|"))
        rows.append("| " + " | ".join(cells) + " |")
    rows.insert(1, "|" + " --- |" * len(element.rows[0]))
    return "\n".join(rows)


def _joined(text: str, more: str) -> str:
    """`more` after `text` in one paragraph: a hyphen at the break is healed, CJK needs no space."""
    if not text or not more:
        return text + more
    if len(text) > 1 and text[-1] in "-‐\u00ad" and text[-2].isalpha() and more[0].islower():
        return text[:-1] + more
    if NO_SPACES.match(text[-1]) and NO_SPACES.match(more[0]):
        return text + more
    return f"{text} {more}"


def _runs_on(before: Element, element: Element, text: str, more: str) -> bool:
    """Whether a paragraph goes on at the top of the next column."""
    return (
        before.kind == "line"
        and before.region != element.region
        and len(before.rows) > 2
        and text[-1] not in ".!?:;"
        and more[0].islower()
    )

"""Writes elements as plain text or as Markdown.

In plain text every word stands as it was printed. In Markdown the headings, lists, tables and programs that layout
recognised are markup; characters of the page that only look like it are escaped (`escape.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from .escape import escape_block, escape_cell, escape_inline
from .lines import LIST_ITEM, NO_SPACES, PROSE_CHARS, Element, Frame, TextLine, reading_length, row_text
from .order import arrange
from .tables import cells_of

__all__ = ["rows_around", "to_markdown", "to_text"]

LEADING: Final = 1.6  # times the usual distance of two lines of a program: an empty line between them
LEADERS: Final = re.compile(r"(?:[.·_]\s?){5,}|…\s*…|(?:[.…·]{2,}|…)[\s.,…·]*\d+\s*$")
"""Dots that lead to the number of a page; recognisers make fewer of them. An ellipsis has three."""
FEW_DOTS: Final = ("..", "…", "··", "__", ". .")  # text without these has no leaders: they are sought first
HYPHENS: Final = ("-", "\u2010", "\u00ad")  # that divide a word at the end of a line
ADDRESS: Final = re.compile(r"(?:\b(?:https?://|www\.)\S*[/_?=&#%.-]|\S@[\w-]+(?P<whole>\.[\w.-]*)?\.|\w@)$")
"""The end of a line that breaks an address where browsers and editors do."""
ADDRESS_REST: Final = re.compile(
    r"[a-z0-9_%?=&#~-]*(?:[/_?=&#%~]|[a-z0-9]\.[a-z0-9])|[a-z]{2,4}(?![\w'’-])|[a-z0-9-]+$"
)
COMMON_HOSTS: Final = re.compile(r"(?:com|org|net|edu|gov|info|co|de|uk|fr|it|es|nl|eu|ch|at|jp|cn|in|io)\b")
DOTS: Final = re.compile(r"\s*(?:(?:[.·_]\s?){5,}|(?:…[\s.,]*){2,}|(?:[.…·]{2,}|…)[\s.,…·]*(?=\d+\s*$))\s*")
FILLED: Final = "●■"
EMPTY: Final = "○□❏❐❑❒"
SQUARE_CHARS: Final = 20  # the least reading length of a line of Chinese that goes on; shorter are entries of a list
SHORT_OF_MARGIN: Final = 0.5  # em: a word that would have ended so near the margin had no room


def to_text(lines: Sequence[TextLine], elements: Sequence[Element] | None = None) -> str:
    """Plain text: one row of the page per line, an empty line between elements, none between items of a list."""
    frame: Frame | None = None
    written: list[tuple[Element, str]] = []
    for element in arrange(lines) if elements is None else elements:
        if element.kind == "code":
            frame = frame or Frame.of(lines)
            chunk = "\n".join(_program_lines(frame, element))
        else:
            chunk = "\n".join(text for row in element.rows if (text := row_text(lines, row)))
        if chunk:
            written.append((element, chunk))
    return _apart(written)


def _apart(written: Iterable[tuple[Element, str]]) -> str:
    """An empty line between elements, but none between the entries of a list."""
    chunks: list[str] = []
    before: Element | None = None
    for element, chunk in written:
        if before is not None and before.kind == element.kind == "list":
            chunks[-1] += "\n" + chunk
        else:
            chunks.append(chunk)
        before = element
    return "\n\n".join(chunks)


def rows_around(lines: Sequence[TextLine], elements: Sequence[Element], groups: Sequence[Sequence[int]]) -> str:
    """The rows of a page that hold these groups of lines, as plain text. Rows are whole, and each comes once.

    Args:
        lines: the lines of the page.
        elements: the elements of the page, in reading order.
        groups: for each hit the indices of its lines.
    """
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
    frame = Frame.of(lines)
    texts = [(element, _plain(frame, element)) for element in (arrange(lines) if elements is None else elements)]
    joined = _joined_paragraphs(texts)
    choices = _choices(frame, joined)
    written = ((element, _markdown(frame, element, text, choices)) for element, text in joined)
    return _apart((element, chunk) for element, chunk in written if chunk.strip())


def _plain(frame: Frame, element: Element) -> str:
    """The text of a paragraph, a title or a list item, as printed; of others nothing."""
    return "" if element.kind in ("table", "code") else _paragraph_text(frame, element)


def _joined_paragraphs(texts: list[tuple[Element, str]]) -> list[tuple[Element, str]]:
    """Paragraphs that go on at the head of the next column as one."""
    joined: list[tuple[Element, str]] = []
    for element, text in texts:
        if joined and text.strip() and _runs_on(joined[-1][0], element, joined[-1][1], text):
            joined[-1] = (joined[-1][0], _join(joined[-1][1], text))
        else:
            joined.append((element, text))
    return joined


def _choices(frame: Frame, texts: Iterable[tuple[Element, str]]) -> str:
    """The signs that tell which items of a list are chosen: filled ones and empty ones under each other.

    Items at another indent have another bullet, filled or empty, and say nothing by it.
    """
    signs: dict[str, list[float]] = {sign: [] for sign in FILLED + EMPTY}
    for element, text in texts:
        if element.kind == "list" and text[:1] in signs:
            signs[text[0]].append(frame.boxes[next(iter(element.lines))][0])
    return "".join(
        filled + empty
        for filled in FILLED
        for empty in EMPTY
        if any(abs(x - y) < frame.em for x in signs[filled] for y in signs[empty])
    )


def _markdown(frame: Frame, element: Element, text: str, choices: str) -> str:
    """An element with its marks; `choices` are signs of list items that stay in the text (see `_choices`)."""
    if element.kind == "table":
        return _table_text(frame, element)
    if element.kind == "code":
        return _fenced(_program_lines(frame, element))
    if element.kind == "title":
        return "#" * element.level + " " + escape_inline(" ".join(text.split()), heading=True)
    if element.kind == "list" and (mark := LIST_ITEM.match(text)):
        # A star, because no page prints it before a box: it is markup, as a dash need not be.
        sign = mark["number"] or ("-" if not mark["tick"] else "* [ ]" if mark["tick"] in "[ ]☐" else "* [x]")
        # A tick or a cross says more than that an item begins.
        begin = mark.start() if mark["verdict"] or text[:1] in choices else mark.end()
        return f"{sign} {escape_block(text[begin:])}"
    return escape_block(text)


# ---------------------------------------------------------------- paragraphs


def _paragraph_text(frame: Frame, element: Element) -> str:
    """The rows joined where the text runs on, on lines of their own where it does not.

    Where joined rows end or begin, a paragraph does: an empty line follows, as Markdown wants it.
    """
    rows = [row[0] for row in element.rows]
    texts = [_with_short_leaders(row_text(frame.lines, [row])) for row in rows]
    if element.kind == "list":
        text = texts[0]
        for more in texts[1:]:
            text = _join(text, more)
        return text
    right = math.inf if _is_listing(frame, rows) else max(frame.boxes[i][2] for i in element.lines)
    runs: list[tuple[int, str]] = []  # rows joined, and their text
    for n, (row, chunk) in enumerate(zip(rows, texts, strict=True)):
        if n and _goes_on(frame, rows[n - 1], row, right):
            count, text = runs.pop()
            runs.append((count + 1, _join(text, chunk)))
        else:
            runs.append((1, chunk))
    parts = [runs[0][1]]
    for (above, _), (below, text) in pairwise(runs):
        parts += ["\n" if above == below == 1 else "\n\n", text]
    return "".join(parts)


def _with_short_leaders(text: str) -> str:
    """Dots that lead to the number of a page as three, with a space on either side."""
    return DOTS.sub(" ... ", text).strip() if _leads(text) else text


def _leads(text: str) -> bool:
    """Whether dots in a text lead to the number of a page."""
    return any(dots in text for dots in FEW_DOTS) and LEADERS.search(text) is not None


def _is_listing(frame: Frame, rows: Sequence[Sequence[int]]) -> bool:
    """Whether all rows begin with the same sign, as lines of a log do, or lead to a number."""
    texts = [row_text(frame.lines, [row]) for row in rows]
    if any(_leads(text) for text in texts):
        return True
    signs = {text[:1] for text in texts}
    return len(rows) > 2 and len(signs) == 1 and not signs.pop().isalnum()


def _goes_on(frame: Frame, above: Sequence[int], below: Sequence[int], right: float) -> bool:
    """Whether the line is broken for want of room: the first word below would not have fitted above."""
    text, following = frame.lines[above[-1]].text.rstrip(), frame.lines[below[0]].text.strip()
    if len(above) > 1 and len(cells_of(frame, above)) > 1:
        # A line of justified prose may have white as wide as a column's edge.
        return following[:1].islower() and frame.boxes[above[-1]][2] > right - SHORT_OF_MARGIN * frame.em
    if _leads(text):
        return False
    if text.endswith(HYPHENS) or _breaks_address(text, following):
        return True
    least = SQUARE_CHARS if NO_SPACES.match(text) else PROSE_CHARS
    length = sum(reading_length(frame.lines[i].text) for i in above)
    # A line before an address that had no room is short, within a sentence.
    is_within = " " in following or ADDRESS.search(following) is not None
    may_be_short = is_within and "@" in following.split(" ")[0] and text[-1:].islower()
    if length < least and not may_be_short:
        return False
    box = frame.boxes[below[0]]
    word = 1 if NO_SPACES.match(following) else len(following.split(maxsplit=1)[0]) if following else 0
    room = (word + 1) * (box[2] - box[0]) / max(1, len(following))
    return frame.boxes[above[-1]][2] + room > right - SHORT_OF_MARGIN * frame.em


def _join(text: str, more: str) -> str:
    """`more` after `text` in one paragraph: a hyphen at the break is healed, CJK needs no space."""
    if not text or not more:
        return text + more
    if len(text) > 1 and text[-1] in HYPHENS and text[-2].isalpha() and more[0].islower():
        return text[:-1] + more
    if len(text) > 1 and text[-1] in HYPHENS[:2] and text[-2].isalnum() and more[0].isalnum():
        return text + more  # INV-20417, 1990-2000, Jean-Luc: the hyphen is printed within the word
    if NO_SPACES.match(text[-1]) and NO_SPACES.match(more[0]):
        return text + more
    return text + more if _breaks_address(text, more) else f"{text} {more}"


def _breaks_address(text: str, more: str) -> bool:
    """Whether a line ends within an address of the web or of mail, and `more` goes on with it."""
    end = ADDRESS.search(text)
    if end is None or ADDRESS_REST.match(more) is None:
        return False
    # A host that has its dot already ends a sentence, unless a common ending of hosts follows.
    return not end["whole"] or COMMON_HOSTS.match(more) is not None


def _runs_on(before: Element, element: Element, text: str, more: str) -> bool:
    """Whether a paragraph goes on at the top of the next column."""
    return (
        before.kind == element.kind == "line"
        and before.region != element.region
        and len(before.rows) > 2
        and text[-1] not in ".!?:;"
        and more[0].islower()
    )


# ---------------------------------------------------------------- tables and programs


def _table_text(frame: Frame, element: Element) -> str:
    rows = []
    for row in element.rows:
        cells = []
        for cell in row:
            text = ""
            for i in cell:
                text = _join(text, frame.lines[i].text.strip())
            cells.append(escape_cell(text))
        rows.append("| " + " | ".join(cells) + " |")
    rows.insert(1, "|" + " --- |" * len(element.rows[0]))
    return "\n".join(rows)


def _program_lines(frame: Frame, element: Element) -> list[str]:
    """The lines of a program with their indent, and the empty ones between them."""
    lines = [row[0][0] for row in element.rows]
    left = min(frame.boxes[i][0] for i in lines)
    pitch = median((frame.boxes[i][2] - frame.boxes[i][0]) / max(1, len(frame.lines[i].text)) for i in lines)
    steps = [frame.middles[b] - frame.middles[a] for a, b in pairwise(lines)]
    usual = median(steps) if steps else 1.0
    written = []
    for i, step in zip(lines, [0.0, *steps], strict=True):
        if step > LEADING * usual > 0:
            written.append("")
        indent = round((frame.boxes[i][0] - left) / max(pitch, 1e-6))
        written.append(" " * indent + frame.lines[i].text.rstrip().lstrip())
    return written


def _fenced(lines: list[str]) -> str:
    """Lines between fences that are longer than any run of backticks in them."""
    fence = "```"
    while any(fence in line for line in lines):
        fence += "`"
    return "\n".join([fence, *lines, fence])

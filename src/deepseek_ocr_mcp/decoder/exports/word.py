"""Writes a Word document from the Markdown of pages. Model output is parsed, never trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any, Final

import docx
import docx.document
import docx.text.paragraph
from docx.enum.text import WD_BREAK
from markdown_it import MarkdownIt
from markdown_it.token import Token

from ...modes import MODES

__all__ = ["word_document"]


MAX_COLUMNS: Final = 60  # Word takes 63
MAX_SPAN: Final = 1000  # cells: what a model writes into rowspan

# XML has no control characters, no half characters and two that are none at all.
NOT_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
FIGURE: Final = re.compile(r"<!-- figure (\d+) -->")


def word_document(pages: Sequence[Mapping[str, Any]], title: str, mode: str) -> docx.document.Document:
    """A Word document; each page of the original begins a new one."""
    document = docx.Document()
    facts = document.core_properties
    facts.title, facts.author, facts.comments = _clean(title)[:255], "", ""  # not python-docx's own
    writer = _Writer(document)
    for index, page in enumerate(pages):
        if index:
            document.add_paragraph().add_run().add_break(WD_BREAK.PAGE)
        if mode in MODES and not MODES[mode].is_markdown:
            writer.plain(page["text"])
        else:
            writer.markdown(page["text"])
    return document


def _clean(text: str) -> str:
    return NOT_XML.sub("", text)


class _Writer:
    """Markdown, token by token, into a Word document."""

    def __init__(self, document: docx.document.Document) -> None:
        self._document = document
        # Pages have no indented code, no links and no escapes: a backslash there belongs to a formula.
        self._parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
        self._parser.disable(["code", "escape", "autolink", "entity"])

    def plain(self, text: str) -> None:
        for block in re.split(r"\n\s*\n", text):
            if block.strip():
                self._lines(self._document.add_paragraph(), block.strip("\n"))

    def markdown(self, text: str) -> None:
        tokens = self._parser.parse(text)
        lists: list[str] = []
        quoted = 0
        index = 0
        while index < len(tokens):
            token = tokens[index]
            match token.type:
                case "bullet_list_open" | "ordered_list_open":
                    lists.append("List Bullet" if token.type == "bullet_list_open" else "List Number")
                case "bullet_list_close" | "ordered_list_close":
                    lists.pop()
                case "blockquote_open":
                    quoted += 1
                case "blockquote_close":
                    quoted -= 1
                case "heading_open":
                    self._inline(self._document.add_heading(level=int(token.tag[1])), tokens[index + 1])
                    index += 1
                case "paragraph_open":
                    style = _list_style(lists) if lists else "Quote" if quoted else None
                    self._inline(self._document.add_paragraph(style=style), tokens[index + 1])
                    index += 1
                case "table_open":
                    index = self._pipe_table(tokens, index)
                case "html_block":
                    self._html(token.content)
                case "fence" | "code_block":
                    self._lines(self._document.add_paragraph(), token.content.rstrip("\n"), font="Courier New")
            index += 1

    def _lines(self, paragraph: docx.text.paragraph.Paragraph, text: str, font: str | None = None) -> None:
        for number, line in enumerate(_clean(text).split("\n")):
            run = paragraph.add_run()
            if number:
                run.add_break()
            run.add_text(line)
            run.font.name = font

    def _inline(self, paragraph: docx.text.paragraph.Paragraph, inline: Token) -> None:
        on: dict[str, bool] = {}
        for token in inline.children or ():
            kind = token.type.removesuffix("_open").removesuffix("_close")
            if token.nesting:
                on[kind] = token.nesting > 0
                continue
            text = token.content
            if token.type == "html_inline":
                tag = text.strip("<>/ ").lower()
                if tag in ("br", "b", "i", "u", "sup", "sub"):
                    if tag == "br":
                        paragraph.add_run().add_break()
                    on[tag] = not text.startswith("</")
                    continue
                text = FIGURE.sub(r"[Figure \1]", text)
            elif token.type in ("softbreak", "hardbreak"):
                paragraph.add_run().add_break()
                continue
            run = paragraph.add_run(_clean(text))
            run.bold = on.get("strong") or on.get("b") or None
            run.italic = on.get("em") or on.get("i") or None
            run.underline = on.get("u") or None
            run.font.strike = on.get("s") or None
            run.font.superscript = on.get("sup") or None
            run.font.subscript = on.get("sub") or None
            if token.type == "code_inline":
                run.font.name = "Courier New"

    def _pipe_table(self, tokens: list[Token], index: int) -> int:
        rows: list[list[Token]] = []
        while tokens[index].type != "table_close":
            if tokens[index].type == "tr_open":
                rows.append([])
            elif tokens[index].type == "inline":
                rows[-1].append(tokens[index])
            index += 1
        columns = min(MAX_COLUMNS, max(map(len, rows)))
        table = self._table(len(rows), columns)
        for cells, row in zip(table, rows, strict=True):
            for cell, token in zip(cells, row[:columns], strict=False):
                self._inline(cell.paragraphs[0], token)
        for cell in table[0]:
            for run in cell.paragraphs[0].runs:
                run.bold = True
        return index

    def _table(self, rows: int, columns: int) -> list[list[Any]]:
        """The cells, row by row. One table's `rows` walk the whole of it each time: they are asked once."""
        table = self._document.add_table(rows=rows, cols=columns, style="Table Grid")
        cells = table._cells
        return [cells[start : start + columns] for start in range(0, rows * columns, columns)]

    def _html(self, text: str) -> None:
        parser = _Html()
        parser.feed(FIGURE.sub(r"[Figure \1]", text))
        parser.close()
        for part in parser.parts:
            if isinstance(part, str):
                self.plain(part)
            elif part:
                self._html_table(part)

    def _html_table(self, rows: list[list[_Cell]]) -> None:
        placed: dict[tuple[int, int], tuple[_Cell, int, int]] = {}
        taken: set[tuple[int, int]] = set()
        columns = 1
        for row, cells in enumerate(rows):
            column = 0
            for cell in cells:
                while (row, column) in taken:
                    column += 1
                if column >= MAX_COLUMNS:
                    break
                down = min(cell.rows, len(rows) - row)
                right = min(cell.columns, MAX_COLUMNS - column)
                while right > 1 and any((row, column + step) in taken for step in range(right)):
                    right -= 1
                placed[row, column] = (cell, down, right)
                taken.update((row + y, column + x) for y in range(down) for x in range(right))
                column += right
                columns = max(columns, column)
        table = self._table(len(rows), columns)
        for (row, column), (cell, down, right) in placed.items():
            target = table[row][column]
            if down > 1 or right > 1:
                target = target.merge(table[row + down - 1][column + right - 1])
            self._lines(target.paragraphs[0], cell.text.strip())


def _list_style(lists: list[str]) -> str:
    """Word's template has three levels of each."""
    level = min(3, len(lists))
    return lists[-1] if level == 1 else f"{lists[-1]} {level}"


class _Cell:
    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns
        self.text = ""


class _Html(HTMLParser):
    """Text, and tables as rows of cells; all other tags are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str | list[list[_Cell]]] = []
        self._rows: list[list[_Cell]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self._rows = []
            self.parts.append(self._rows)
        elif tag == "br":
            self.handle_data("\n")
        elif self._rows is not None and tag == "tr":
            self._rows.append([])
        elif self._rows is not None and tag in ("td", "th"):
            if not self._rows:
                self._rows.append([])
            spans = dict(attrs)
            self._rows[-1].append(_Cell(_span(spans.get("rowspan")), _span(spans.get("colspan"))))

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._rows = None

    def handle_data(self, data: str) -> None:
        if self._rows is None:
            if data.strip():
                self.parts.append(data)
        elif self._rows and self._rows[-1]:
            self._rows[-1][-1].text += data


def _span(value: str | None) -> int:
    return min(MAX_SPAN, max(1, int(value))) if value is not None and value.isdecimal() and len(value) < 6 else 1

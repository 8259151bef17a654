r"""The text of a page as elements for every writer: headings, paragraphs, items of lists, tables, programs.

Markdown is parsed by CommonMark's rules with tables and strikethrough. What is printed on a page is never markup: a
backslash escape gives its character, formulas between `\(` and `\)`, `\[` and `\]`, `$$` and `$$` stay as they were
written, and so do links and pictures. Never raises over what a text holds: a model may have written it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Final, Literal

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from ...modes import MODES

__all__ = [
    "ExportElement",
    "PlacedCell",
    "StyledRun",
    "TableCell",
    "elements_of",
    "placed_cells",
    "run_text",
    "xml_text",
]

MAX_SPAN: Final = 1000  # cells: a model may write any number into rowspan
NOT_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
FIGURE: Final = re.compile(r"<!-- figure (\d+) -->")
FORMULAS: Final = {"\\(": "\\)", "\\[": "\\]", "$$": "$$"}
STYLES: Final = {
    "strong": "bold", "b": "bold", "em": "italic", "i": "italic", "u": "underline", "s": "strike",
    "sup": "superscript", "sub": "subscript",
}  # fmt: skip
"""The styles that tags and tokens ask for."""


@dataclass(frozen=True, slots=True)
class StyledRun:
    """Characters of one style. A line break is the text of a run of its own."""

    text: str
    styles: frozenset[str] = frozenset()
    """Of bold, italic, underline, strike, superscript, subscript and code."""


@dataclass(slots=True)
class TableCell:
    """A cell of a table, and the rows and columns that it spans."""

    runs: list[StyledRun] = field(default_factory=list)
    rows: int = 1
    columns: int = 1
    is_heading: bool = False


@dataclass(frozen=True, slots=True)
class ExportElement:
    """A piece of a page in reading order."""

    kind: Literal["heading", "paragraph", "quote", "bullet", "number", "code", "table"]
    runs: Sequence[StyledRun] = ()
    level: int = 1
    """Of a heading, 1 to 6; of an item, how deep its list lies, from 1."""
    mark: str = ""
    """The number of an item as it was printed: `7.`"""
    rows: Sequence[Sequence[TableCell]] = ()


def elements_of(page: Mapping[str, Any], mode: str) -> list[ExportElement]:
    """The elements of a page.

    Args:
        page: its `text`.
        mode: the mode that it was read in: whether its text is Markdown. An unknown mode's text is.
    """
    text = xml_text(str(page.get("text") or ""))
    if mode in MODES and not MODES[mode].is_markdown:
        return list(_plain(text))
    return list(_Parsed(_PARSER.parse(text)).elements())


def xml_text(text: str) -> str:
    """The text without control characters and halves of characters, which no XML may hold."""
    return NOT_XML.sub("", text)


def run_text(runs: Sequence[StyledRun]) -> str:
    """The characters alone."""
    return "".join(run.text for run in runs)


def _plain(text: str) -> Iterator[ExportElement]:
    for paragraph in re.split(r"\n\s*\n", text):
        if paragraph.strip():
            yield ExportElement("paragraph", _lines(paragraph.strip("\n")))


def _lines(text: str, styles: frozenset[str] = frozenset()) -> list[StyledRun]:
    runs = []
    for number, line in enumerate(text.split("\n")):
        runs += [StyledRun("\n")] * bool(number) + [StyledRun(line, styles)] * bool(line)
    return runs


# ---------------------------------------------------------------- Markdown


def _formula(state: StateInline, silent: bool) -> bool:
    """A rule of the parser: a formula stays as it was written, its backslashes too."""
    opening = state.src[state.pos : state.pos + 2]
    if opening not in FORMULAS:
        return False
    closed = state.src.find(FORMULAS[opening], state.pos + 2)
    end = state.pos + 2 if closed < 0 else closed + 2
    if not silent:
        state.push("text", "", 0).content = state.src[state.pos : end]
    state.pos = end
    return True


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    # Pages have no indented code, and their links and pictures are printed characters.
    parser.disable(["code", "autolink", "entity", "link", "image", "reference"])
    parser.inline.ruler.before("escape", "formula", _formula)
    return parser


_PARSER: Final = _parser()


class _Parsed:
    """The tokens of a text, which become elements one after the other."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._lists: list[Literal["bullet", "number"]] = []
        self._mark = ""
        self._quoted = 0

    def elements(self) -> Iterator[ExportElement]:
        rows: list[list[TableCell]] | None = None
        heading = 0
        for token in self._tokens:
            match token.type:
                case "heading_open":
                    heading = int(token.tag[1])
                case "table_open":
                    rows = []
                case "tr_open" if rows is not None:
                    rows.append([])
                case "th_open" | "td_open" if rows is not None:
                    rows[-1].append(TableCell(is_heading=token.tag == "th"))
                case "inline" if rows is not None:
                    rows[-1][-1].runs = list(_inline(token))
                case "inline":
                    yield self._line(list(_inline(token)), heading)
                    heading = 0
                case "table_close" if rows:
                    yield ExportElement("table", rows=rows)
                    rows = None
                case "html_block":
                    yield from _html_elements(token.content)
                case "fence" | "code_block":
                    yield ExportElement("code", _lines(token.content.rstrip("\n"), frozenset({"code"})))
                case _:
                    self._nest(token)

    def _nest(self, token: Token) -> None:
        """Follow lists and quotations as they open and close."""
        match token.type:
            case "bullet_list_open":
                self._lists.append("bullet")
            case "ordered_list_open":
                self._lists.append("number")
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
            case "list_item_open":
                self._mark = f"{token.info}{token.markup}"
            case "blockquote_open" | "blockquote_close":
                self._quoted += token.nesting

    def _line(self, runs: list[StyledRun], heading: int) -> ExportElement:
        if heading:
            return ExportElement("heading", runs, heading)
        if self._lists:
            mark, self._mark = self._mark, ""
            kind = self._lists[-1]
            return ExportElement(kind, runs, len(self._lists), mark if kind == "number" else "")
        return ExportElement("quote" if self._quoted else "paragraph", runs)


def _inline(inline: Token) -> Iterator[StyledRun]:
    on: dict[str, int] = {}
    for token in inline.children or ():
        if token.nesting:
            kind = token.type.removesuffix("_open").removesuffix("_close")
            on[kind] = on.get(kind, 0) + token.nesting
            continue
        text = token.content
        if token.type in ("softbreak", "hardbreak"):
            text = "\n"
        elif token.type == "html_inline":
            tag = text.strip("<>/ ").lower()
            if tag in STYLES:
                on[tag] = 0 if text.startswith("</") else 1
                continue
            text = "\n" if tag == "br" else FIGURE.sub(r"[Figure \1]", text)
        if text:
            styles = {STYLES[kind] for kind, open_ in on.items() if open_ > 0 and kind in STYLES}
            yield StyledRun(text, frozenset(styles | {"code"} if token.type == "code_inline" else styles))


# ---------------------------------------------------------------- tables of models, in HTML


def _html_elements(text: str) -> Iterator[ExportElement]:
    parser = _HtmlPart()
    parser.feed(FIGURE.sub(r"[Figure \1]", text))
    parser.close()
    for part in parser.parts:
        if isinstance(part, str):
            yield from _plain(xml_text(part))
        elif part:
            yield ExportElement("table", rows=[[_trimmed(cell) for cell in row] for row in part])


def _trimmed(cell: TableCell) -> TableCell:
    cell.runs = _lines(xml_text(run_text(cell.runs)).strip())
    return cell


class _HtmlPart(HTMLParser):
    """Text, and tables as rows of cells; all other tags are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str | list[list[TableCell]]] = []
        self._rows: list[list[TableCell]] | None = None

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
            rows, columns = _span(spans.get("rowspan")), _span(spans.get("colspan"))
            self._rows[-1].append(TableCell(rows=rows, columns=columns, is_heading=tag == "th"))

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._rows = None

    def handle_data(self, data: str) -> None:
        if self._rows is None:
            if data.strip():
                self.parts.append(data)
        elif self._rows and self._rows[-1]:
            self._rows[-1][-1].runs.append(StyledRun(data))


def _span(value: str | None) -> int:
    return min(MAX_SPAN, max(1, int(value))) if value is not None and value.isdecimal() and len(value) < 6 else 1


# ---------------------------------------------------------------- places of cells


@dataclass(frozen=True, slots=True)
class PlacedCell:
    """A cell and its place: row and column from 0, and how many of each it takes."""

    cell: TableCell
    row: int
    column: int
    rows: int
    columns: int


def placed_cells(rows: Sequence[Sequence[TableCell]], max_columns: int) -> list[PlacedCell]:
    """The cells of a table, each in a place of its own: no two overlap, none leaves the table.

    Args:
        max_columns: cells beyond so many columns are left out.
    """
    placed = []
    free_from: dict[int, int] = {}  # the row from which a column is free
    for row, cells in enumerate(rows):
        column = 0
        for cell in cells:
            while free_from.get(column, 0) > row:
                column += 1
            if column >= max_columns:
                break
            down, most = min(cell.rows, len(rows) - row), min(cell.columns, max_columns - column)
            right = next((step for step in range(1, most) if free_from.get(column + step, 0) > row), most)
            placed.append(PlacedCell(cell, row, column, down, right))
            free_from.update(dict.fromkeys(range(column, column + right), row + down))
            column += right
    return placed

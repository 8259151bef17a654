"""Writes a Word document: headings, paragraphs, lists and tables. Formulas stay as they were written.

Where things stood on the page is not kept. Nothing becomes a link, a field, a script or an address to load.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import docx
import docx.document
import docx.text.paragraph
from docx.enum.text import WD_BREAK
from docx.shared import Inches, Mm

from .elements import ExportElement, StyledRun, TableCell, elements_of, placed_cells, xml_text

__all__ = ["word_document"]

MAX_COLUMNS: Final = 60  # Word takes 63
PAPERS: Final = {"a4": (Mm(210), Mm(297)), "letter": (Inches(8.5), Inches(11))}
"""Width and height of a page."""
MAX_LIST_LEVEL: Final = 3  # Word's template has three levels of lists
PLAIN_STYLES: Final = {"quote": "Quote", "bullet": "List Bullet", "number": "List"}
"""The paragraph styles of Word. `List Number` counts on its own, and would print other numbers than the page."""


def word_document(pages: Sequence[Mapping[str, Any]], title: str, mode: str, paper: str = "a4") -> bytes:
    """A Word document; each page of the original begins a new one.

    Args:
        pages: with `text`.
        title: of the document; may be empty.
        mode: the mode that the pages were read in.
        paper: one of `PAPERS`.
    """
    document = docx.Document()
    document.sections[0].page_width, document.sections[0].page_height = PAPERS[paper]
    facts = document.core_properties
    facts.title, facts.author, facts.comments = xml_text(title)[:255], "", ""  # not python-docx's own
    for index, page in enumerate(pages):
        if index:
            document.add_paragraph().add_run().add_break(WD_BREAK.PAGE)
        for element in elements_of(page, mode):
            _add(document, element)
    data = io.BytesIO()
    document.save(data)
    return data.getvalue()


def _add(document: docx.document.Document, element: ExportElement) -> None:
    if element.kind == "table":
        _add_table(document, element.rows)
        return
    if element.kind == "heading":
        paragraph = document.add_heading(level=element.level)
    else:
        paragraph = document.add_paragraph(style=_style(element))
    if element.mark:
        paragraph.add_run(f"{element.mark} ")
    _write(paragraph, element.runs)


def _style(element: ExportElement) -> str | None:
    style = PLAIN_STYLES.get(element.kind)
    if element.kind in ("bullet", "number") and element.level > 1:
        return f"{style} {min(MAX_LIST_LEVEL, element.level)}"
    return style


def _write(paragraph: docx.text.paragraph.Paragraph, runs: Sequence[StyledRun], *, bold: bool = False) -> None:
    for part in runs:
        run = paragraph.add_run()
        if part.text == "\n":
            run.add_break()
            continue
        run.add_text(part.text)
        run.bold = bold or "bold" in part.styles or None
        run.italic = "italic" in part.styles or None
        run.underline = "underline" in part.styles or None
        run.font.strike = "strike" in part.styles or None
        run.font.superscript = "superscript" in part.styles or None
        run.font.subscript = "subscript" in part.styles or None
        if "code" in part.styles:
            run.font.name = "Courier New"


def _add_table(document: docx.document.Document, rows: Sequence[Sequence[TableCell]]) -> None:
    placed = placed_cells(rows, MAX_COLUMNS)
    columns = max((cell.column + cell.columns for cell in placed), default=1)
    table = document.add_table(rows=len(rows), cols=columns, style="Table Grid")
    cells = table._cells  # a table's `rows` walk the whole of it each time: they are asked once
    for place in placed:
        target = cells[place.row * columns + place.column]
        if place.rows > 1 or place.columns > 1:
            last = (place.row + place.rows - 1) * columns + place.column + place.columns - 1
            target = target.merge(cells[last])
        _write(target.paragraphs[0], place.cell.runs, bold=place.cell.is_heading)

"""Writes the tables of pages as CSV or as an Excel workbook. No cell becomes a formula or a link.

A cell becomes a number only where nothing is lost: `12.50` does and keeps its two digits; `007`, `1,5`, `1.234`, which
is a thousand in half of the world, and numbers of over 15 digits stay text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import xlsxwriter
import xlsxwriter.worksheet

from ...errors import BadRequest
from .elements import PlacedCell, elements_of, placed_cells, run_text

__all__ = ["csv_file", "workbook"]

MAX_COLUMNS: Final = 16_384  # Excel's limit
MAX_ROWS: Final = 1_048_576
MAX_CELLS: Final = 2_000_000  # of one table: what a model writes into colspan may ask for any number
MAX_CELL: Final = 32_767  # characters in one cell of Excel
NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.(\d+))?", re.ASCII)
DIGITS: Final = 15  # Excel keeps no more
THOUSANDS: Final = re.compile(r"-?[1-9]\d{0,2}\.\d{3}", re.ASCII)
DECIMAL_COMMA: Final = re.compile(r"\d,\d{1,2}(?!\d)", re.ASCII)
FORMULA: Final = re.compile(r"[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""The beginning of a cell that a spreadsheet would calculate, wide forms included."""
PLAIN_NUMBER: Final = re.compile(r"[+-]?[\d.,]+ ?%?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _PageTable:
    """A table and its page."""

    page: int
    cells: list[PlacedCell]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        cells = self.cells
        return max(cell.row + cell.rows for cell in cells), max(cell.column + cell.columns for cell in cells)

    def check(self) -> None:
        """Raise `BadRequest` if the table is larger than any that is printed."""
        rows, columns = self.size
        if rows * columns > MAX_CELLS:
            raise BadRequest(
                f"A table on page {self.page} claims to have {rows} rows and {columns} columns.",
                remedy="Choose another format, like html.",
            )


def csv_file(pages: Sequence[Mapping[str, Any]], mode: str) -> bytes:
    """The tables of the pages as CSV by RFC 4180, an empty line between two.

    A cell that spans several stands in the first; the others are empty. Text that a spreadsheet would take for a
    formula begins with an apostrophe. A file that is not ASCII begins with the mark of UTF-8, without which Excel
    takes it for another encoding.

    Raises:
        BadRequest: the pages have no table.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    for number, table in enumerate(_tables(pages, mode)):
        if number:
            out.write("\r\n")
        rows, columns = table.size
        lines = [[""] * columns for _ in range(rows)]
        for cell in table.cells:
            text = run_text(cell.cell.runs).strip()
            lines[cell.row][cell.column] = f"'{text}" if _is_formula(text) else text
        writer.writerows(lines)
    text = out.getvalue()
    return text.encode("utf-8" if text.isascii() else "utf-8-sig", errors="replace")


def workbook(pages: Sequence[Mapping[str, Any]], title: str, mode: str) -> bytes:
    """The tables of the pages as an Excel workbook, a sheet for each.

    Args:
        pages: the pages as they were read.
        title: the title of the document.
        mode: the mode in which they were read.

    Raises:
        BadRequest: the pages have no table, or a cell has more text than Excel takes.
    """
    data = io.BytesIO()
    book = xlsxwriter.Workbook(data, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False})
    book.set_properties({"title": title[:255]})
    writer = _BookWriter(book)
    for table in _tables(pages, mode):
        writer.add(table)
    book.close()
    return data.getvalue()


def _tables(pages: Sequence[Mapping[str, Any]], mode: str) -> list[_PageTable]:
    found = []
    for place, page in enumerate(pages, start=1):
        for element in elements_of(page, mode):
            if element.kind == "table" and (cells := placed_cells(element.rows[:MAX_ROWS], MAX_COLUMNS)):
                found.append(_PageTable(int(page.get("page") or place), cells))
                found[-1].check()
    if not found:
        raise BadRequest(
            "These pages have no table.",
            remedy="Read them in mode document, which finds tables, or choose another format, like docx or txt.",
        )
    return found


def _is_formula(text: str) -> bool:
    """Whether a spreadsheet might calculate a text: `+49-30` would become 19. A number and a dash alone stay."""
    return FORMULA.match(text) is not None and not PLAIN_NUMBER.fullmatch(text) and any(map(str.isalnum, text))


class _BookWriter:
    """Sheets of one workbook."""

    def __init__(self, book: xlsxwriter.Workbook) -> None:
        self._book = book
        self._sheets: dict[int, int] = {}
        self._formats: dict[tuple[str, bool], Any] = {}

    def add(self, table: _PageTable) -> None:
        count = self._sheets[table.page] = self._sheets.get(table.page, 0) + 1
        sheet = self._book.add_worksheet(f"Page {table.page}" + (f", table {count}" if count > 1 else ""))
        has_decimal_comma = any(DECIMAL_COMMA.search(run_text(cell.cell.runs)) for cell in table.cells)
        for place in table.cells:
            text = run_text(place.cell.runs).strip()
            number = None if has_decimal_comma else _number(text)
            look = self._format(_number_format(text) if number is not None else "@", place.cell.is_heading)
            if len(text) > MAX_CELL:
                raise BadRequest(
                    f"A cell of a table on page {table.page} has {len(text)} characters; Excel takes {MAX_CELL}.",
                    remedy="Choose the format csv.",
                )
            if place.rows > 1 or place.columns > 1:
                last = (place.row + place.rows - 1, place.column + place.columns - 1)
                sheet.merge_range(place.row, place.column, *last, "", look)
            if number is not None:
                sheet.write_number(place.row, place.column, number, look)
            elif text:
                sheet.write_string(place.row, place.column, text, look)
        sheet.autofit()

    def _format(self, number_format: str, bold: bool) -> Any:
        key = (number_format, bold)
        if key not in self._formats:
            wrap = {"text_wrap": True, "valign": "top"} if number_format == "@" else {"valign": "top"}
            self._formats[key] = self._book.add_format({"num_format": number_format, "bold": bold, **wrap})
        return self._formats[key]


def _number(text: str) -> float | None:
    """The number that a text is, where Excel shows it again just as it was printed."""
    if not NUMBER.fullmatch(text) or THOUSANDS.fullmatch(text):
        return None
    digits = text.replace(".", "").lstrip("-0")
    if len(digits) > DIGITS or (text.startswith("-") and not digits):
        return None
    return float(text)


def _number_format(text: str) -> str:
    """Excel's format with as many decimals as were printed."""
    _, _, decimals = text.partition(".")
    return f"0.{'0' * len(decimals)}" if decimals else "0"

"""The formats in which pages that were read can be written to a file: one table for every edge.

`save_to`, `POST /export` and the decoder's process look here for suffixes, media types and needs. The writers are in
`decoder/exports`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Literal

from .modes import DEFAULT_MODE

__all__ = ["EXPORT_FORMATS", "EXPORT_SUFFIXES", "ExportFormat", "ExportOptions", "export_format", "meant_format"]


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """One format of a file."""

    name: str
    """Its name at the edges, and its suffix without the dot."""
    title: str
    """Its name for a person."""
    media_type: str
    boxes: Literal["none", "lines", "words"] = "none"
    """The least detail of boxes that pages need for it. With less, places of words are estimated."""
    needs_boxes: bool = False
    """Whether nothing can be written where no block has text and a box."""
    needs_document: bool = False
    """Whether the document itself takes part, beside its pages as they were read."""
    tables_alone: bool = False
    """Whether its files hold the tables, and nothing of the text around them."""
    other_suffixes: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """The suffix of its files, with the dot."""
        return f".{self.name}"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How pages are written."""

    title: str = ""
    """The title of the document."""
    mode: str = DEFAULT_MODE
    """The mode that the pages were read in: whether their text is Markdown."""
    paper: Literal["a4", "letter"] = "a4"
    """The size of the pages of a Word document."""
    upright: bool = False
    """Whether a searchable PDF turns pages that lie on their side or upside down, as `Page.turn` says."""


_SPREADSHEET: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_WORD: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

EXPORT_FORMATS: Final[dict[str, ExportFormat]] = {
    known.name: known
    for known in (
        ExportFormat("md", "Markdown", "text/markdown; charset=utf-8", other_suffixes=(".markdown",)),
        ExportFormat("txt", "plain text", "text/plain; charset=utf-8"),
        ExportFormat("json", "JSON", "application/json", boxes="lines"),
        ExportFormat("html", "HTML", "text/html; charset=utf-8", other_suffixes=(".htm",)),
        ExportFormat("docx", "Word document", _WORD),
        ExportFormat("pdf", "searchable PDF", "application/pdf", boxes="words", needs_boxes=True, needs_document=True),
        ExportFormat("csv", "tables as CSV", "text/csv; charset=utf-8", tables_alone=True),
        ExportFormat("xlsx", "tables as Excel workbook", _SPREADSHEET, tables_alone=True),
        ExportFormat("hocr", "hOCR", "text/vnd.hocr+html; charset=utf-8", boxes="words", needs_boxes=True),
        ExportFormat("xml", "ALTO XML", "application/xml", boxes="words", needs_boxes=True, other_suffixes=(".alto",)),
    )
}
"""The formats by name."""

_BY_SUFFIX: Final = {
    suffix: known for known in EXPORT_FORMATS.values() for suffix in (known.suffix, *known.other_suffixes)
}

EXPORT_SUFFIXES: Final = tuple(_BY_SUFFIX)
"""Every suffix that decides a format, with the dot, in lower case."""


def export_format(path: str) -> ExportFormat | None:
    """The format that the suffix of a path asks for, in capitals or not; None: no such format is written."""
    return _BY_SUFFIX.get(os.path.splitext(path)[1].lower())


def meant_format(name: str) -> str:
    """The name of the format that a name or a suffix means: `markdown`, `.htm`, `ALTO`. An unknown name as it is."""
    plain = name.strip().lower().removeprefix(".")
    known = _BY_SUFFIX.get(f".{plain}")
    return known.name if known else name

"""Chooses the writer of a format. Its libraries are imported when that format is asked for: Word's alone take 15 MB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import BadRequest
from ...export_formats import ExportOptions

__all__ = ["written"]


def written(format: str, pages: Sequence[Mapping[str, Any]], options: ExportOptions) -> bytes:
    """The pages as a file of a format that needs them alone.

    Args:
        format: a name of `export_formats.EXPORT_FORMATS`.
        pages: as they were read: `page`, `width`, `height`, `text`, `blocks`.

    Raises:
        BadRequest: no such format, or the pages hold nothing that it could show.
    """
    title, mode = options.title, options.mode
    match format:
        case "docx":
            from .word import word_document

            return word_document(pages, title, mode, options.paper)
        case "html":
            from .web import html_document

            return html_document(pages, title, mode)
        case "csv" | "xlsx":
            from .sheet import csv_file, workbook

            return csv_file(pages, mode) if format == "csv" else workbook(pages, title, mode)
        case "hocr" | "xml":
            from .alto import alto_xml
            from .hocr import hocr_document

            return hocr_document(pages, title) if format == "hocr" else alto_xml(pages, title)
        case "md" | "txt" | "json":
            from .plain import json_file, markdown_file, text_file

            if format == "md":
                return markdown_file(pages)
            return text_file(pages, mode) if format == "txt" else json_file(pages, title, mode)
    raise BadRequest(f"No file of the format {format} can be written of pages alone.", remedy="Choose another format.")

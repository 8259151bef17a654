"""Writes the text of pages alone: as Markdown, as plain text, or as JSON with all that is known of each page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .elements import ExportElement, elements_of, run_text

__all__ = ["json_file", "markdown_file", "text_file"]

INDENT: Final = "  "  # of each level of a list


def markdown_file(pages: Sequence[Mapping[str, Any]]) -> bytes:
    """The texts of the pages as they are, an empty line between two."""
    return _joined(str(page.get("text") or "") for page in pages)


def json_file(pages: Sequence[Mapping[str, Any]], title: str, mode: str) -> bytes:
    """`{"title", "mode", "pages"}`, with the pages as they were read.

    Args:
        pages: the pages as they were read.
        title: the title of the document.
        mode: the mode in which they were read.
    """
    document = {"title": title, "mode": mode, "pages": list(pages)}
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode(errors="replace")


def text_file(pages: Sequence[Mapping[str, Any]], mode: str) -> bytes:
    """The printed characters without markup: a cell of a table ends with a tab, its row with the line."""
    return _joined("\n\n".join(_blocks(elements_of(page, mode))) for page in pages)


def _joined(texts: Iterator[str]) -> bytes:
    return ("\n\n".join(text for text in texts if text) + "\n").encode(errors="replace")


def _blocks(elements: Sequence[ExportElement]) -> Iterator[str]:
    """The elements as text; items that follow each other are one block."""
    items: list[str] = []
    for element in elements:
        text = run_text(element.runs)
        if element.kind in ("bullet", "number"):
            items.append(INDENT * (element.level - 1) + f"{element.mark or '-'} {text}")
            continue
        if items:
            yield "\n".join(items)
            items = []
        yield "\n".join(_rows(element)) if element.kind == "table" else text
    if items:
        yield "\n".join(items)


def _rows(element: ExportElement) -> Iterator[str]:
    for row in element.rows:
        yield "\t".join(" ".join(run_text(cell.runs).split()) for cell in row)

"""Prints what `ocr` reads: pages to standard output as they come, notes and errors to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..export_formats import EXPORT_FORMATS, export_format
from ..text import well_formed, well_formed_values
from .words import for_terminal

if TYPE_CHECKING:
    from ..models import Note, Page
    from ..service.answer import Answer

__all__ = ["FORMATS", "LIMITING", "PRINTED", "PagePrinter", "format_named", "format_of", "limits", "print_notes"]

NAMES: Final = {"md": "markdown", "txt": "text", "xml": "alto"}  # for formats that people call otherwise
FORMATS: Final = {NAMES.get(known.name, known.name): known for known in EXPORT_FORMATS.values()}
"""The formats of `--format`."""
PRINTED: Final = ("markdown", "text", "json")
"""The formats that are text: standard output gets them as they are."""

LIMITING: Final = frozenset(
    {"not_found", "not_read", "page_failed", "stopped", "no_text_layer", "layer_incomplete", "not_opened", "cut",
     "more", "left_out"}
)  # fmt: skip
"""Codes of notes that say that something is missing from an answer. A blank page misses nothing."""


def format_of(path: str) -> str:
    """The name of the format that the suffix of a path asks for; empty where no such format is written."""
    known = export_format(path)
    return NAMES.get(known.name, known.name) if known else ""


def format_named(name: str) -> str:
    """The name of `FORMATS` that a value of `--format` means: `md`, `.htm` and `markdown` are understood."""
    return format_of(f"page.{name.removeprefix('.')}") or name


class PagePrinter:
    """Prints one document to standard output, each page once.

    Args:
        kind: one of `PRINTED`. JSON is printed when the document is read, or when the reading is stopped.
    """

    def __init__(self, kind: str) -> None:
        self._is_json = kind == "json"
        self._begun = False
        self._pages: list[Page] = []
        """All pages that were read so far."""

    @property
    def last_page(self) -> int:
        """The number of the last page that was read; 0 before the first."""
        return self._pages[-1].page if self._pages else 0

    def add(self, pages: Iterable[Page]) -> None:
        """Print these pages, which follow the pages that were printed."""
        for page in pages:
            self._pages.append(page)
            if page.text and not self._is_json:
                _write(("\n" if self._begun else "") + well_formed(page.text) + "\n")
                self._begun = True

    def finish(self, answer: Answer) -> None:
        """Print the part of the answer that is not printed yet."""
        if self._is_json:
            _write(_json(answer.result.model_dump(mode="json", exclude_none=True)))
        else:
            self.add(page for page in answer.result.pages if page.page > self.last_page)

    def stop(self, next_pages: str) -> None:
        """The reading was stopped: print the pages that were read, where they are not printed yet.

        Args:
            next_pages: the pages that are left, as a range.
        """
        if self._is_json and self._pages:
            pages = [page.model_dump(mode="json", exclude_none=True) for page in self._pages]
            text = "\n\n".join(page.text for page in self._pages if page.text)
            _write(_json({"text": text, "pages": pages, "truncated": True, "next_pages": next_pages}))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _json(data: dict[str, Any]) -> str:
    return json.dumps(well_formed_values(data), indent=2, ensure_ascii=False) + "\n"


def print_notes(name: str, notes: Sequence[Note], terms: Mapping[str, str]) -> None:
    """Print notes to standard error, each with the name of its file.

    Args:
        name: of the file.
        notes: the notes.
        terms: what was searched for, as it was typed, by the pattern that notes have in its place.
    """
    for note in notes:
        text = for_terminal(str(note))
        for pattern, typed in terms.items():
            text = text.replace(pattern, typed)
        print(f"{name}: {text}", file=sys.stderr, flush=True)


def limits(notes: Sequence[Note]) -> bool:
    """Whether a note says that something is missing."""
    return any(note.code in LIMITING for note in notes)

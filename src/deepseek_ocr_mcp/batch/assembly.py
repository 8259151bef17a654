"""Writes the texts of documents and describes them in rows of the manifest. It has no state of its own."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

from ..documents.listing import Unlisted
from ..errors import InputNotFound, OcrError, TooManyFailedPages
from .plan import Round, Task
from .shards import SEPARATOR, ShardDocument, copy_into_piece, is_shard
from .state import LEFT_OUT, ManifestRow, Unit, UnitText, clean, merge_notes

__all__ = ["RANK", "SUFFIX", "Assembler"]

SUFFIX: Final = ".md"
RANK: Final = ("stop", "length", "loop", "cancelled", "failed")  # a document's `finish` is that of its worst page


@dataclass(frozen=True, slots=True)
class Assembler:
    """Writes the texts of documents.

    Args:
        current: the pass over the documents.
    """

    current: Round

    def units(self, task: Task) -> Iterable[UnitText]:
        """What was read of a document of several units."""
        for pages in task.units:
            yield UnitText.load(self.current.out.read(Unit(task.document, pages).name))

    def write(self, task: Task, parts: Iterable[UnitText]) -> ManifestRow:
        """Write the text of a document. Returns its row.

        Args:
            task: the document.
            parts: what was read, in the order of the pages; one is held at a time.
        """
        out, name = self.current.out, task.source.name
        figures = f"{name}-figures"
        texts: list[str] = []
        facts: list[UnitText] = []
        for part in parts:
            for figure, data in part.figures.items():
                out.write(f"{figures}/{figure}", base64.b64decode(data))
            texts.append(_relinked(part.text, f"{task.document}-figures", figures) if part.figures else part.text)
            facts.append(replace(part, text="", figures={}))
        if error := self._too_many_failed(task, facts):
            return self.failed(task, error)
        text = SEPARATOR.join(filter(None, texts))
        encoded = f"{text}\n".encode("utf-8", "replace")
        out.write(name + SUFFIX, encoded)
        return self.row(task, output=name + SUFFIX, output_bytes=len(encoded), characters=len(text), **_columns(facts))

    def shard_document(self, task: Task, parts: Iterable[UnitText]) -> tuple[ManifestRow, ShardDocument | None]:
        """The row of a document that goes into a shard, still without its output, and the document; None: it failed.

        Args:
            task: the document.
            parts: what was read, in the order of the pages.
        """
        pages: list[dict[str, Any]] = []
        facts: list[UnitText] = []
        for part in parts:
            pages += part.each_page
            facts.append(replace(part, each_page=[]))
        if error := self._too_many_failed(task, facts):
            return self.failed(task, error), None
        characters = sum(len(page["text"]) for page in pages) + len(SEPARATOR) * max(0, len(pages) - 1)
        row = self.row(task, characters=characters, **_columns(facts))
        about = {name: getattr(row, name) for name in ("engine", "model", "version", "finish")}
        notes = json.loads(row.notes) if row.notes else []
        source = str(clean(row.source))
        return row, ShardDocument(source, row.sha256, row.pages or 0, pages, notes, about)

    def _too_many_failed(self, task: Task, parts: Sequence[UnitText]) -> OcrError | None:
        pages, failed = sum(part.pages for part in parts), sum(part.failed_pages for part in parts)
        limit = self.current.rules.max_page_error_rate
        if not failed or failed <= limit * pages:
            return None
        return TooManyFailedPages(
            f"{failed} of {pages} pages of {task.source.url} could not be read; {limit:g} of them may fail.",
            remedy="Run the command again, or allow more with --max-page-error-rate.",
        )

    def copy(self, task: Task, known: ManifestRow) -> ManifestRow:
        """Give a document the text of another one with the same bytes. Returns its row.

        Raises:
            FileNotFoundError: the text is gone, or its file has another size than was written.
        """
        out, name, other = self.current.out, task.source.name, known.output.removesuffix(SUFFIX)
        own = self.row(task)
        if known.failed:
            return replace(own, error_code=known.error_code, error=known.error, copy_of=known.source)
        if known.source == clean(own.source):  # its time has changed, its bytes have not
            if not known.has_output(out.size(known.output)):
                raise FileNotFoundError(known.output)
            return replace(known, stamp=own.stamp, written=own.written, run=own.run)
        if is_shard(known.output):
            piece = copy_into_piece(out, self.current.options.format, known.output, known.source, own.source)
            return self._row_of_copy(own, known, output=piece)
        figures = f"{name}-figures"
        data = out.read(known.output)
        if not known.has_output(len(data)):
            raise FileNotFoundError(known.output)
        text = data.decode("utf-8", "replace")
        if f"]({quote(other.rpartition('/')[2])}-figures/" in text:
            for figure in sorted(out.names(f"{other}-figures")):
                out.write(f"{figures}/{figure.rpartition('/')[2]}", out.read(figure))
        data = _relinked(text, f"{other}-figures", figures).encode("utf-8", "replace")
        out.write(name + SUFFIX, data)
        return self._row_of_copy(own, known, output=name + SUFFIX, output_bytes=len(data))

    @staticmethod
    def _row_of_copy(own: ManifestRow, known: ManifestRow, **output: Any) -> ManifestRow:
        return replace(
            known,
            **output,
            source=own.source,
            bytes=own.bytes,
            seconds=0.0,
            tokens=None,
            copy_of=known.source,
            stamp=own.stamp,
            written=own.written,
            run=own.run,
        )

    def failed(self, task: Task, error: OcrError) -> ManifestRow:
        """The row of a document that could not be read."""
        return self.row(task, error_code=error.code, error=str(error))

    def left_out(self, name: Unlisted) -> ManifestRow:
        """The row of a name that was not opened."""
        return ManifestRow(
            source=name.name,
            finish=LEFT_OUT,
            error_code=InputNotFound.code,
            error=f"Left out: {name.why}.",
            written=round(time.time(), 3),
            run=self.current.run,
        )

    def row(self, task: Task, **facts: Any) -> ManifestRow:
        """The row of a document.

        Args:
            task: the document.
            facts: the other fields of the row.
        """
        options = self.current.options
        return ManifestRow(
            source=task.source.url,
            sha256=task.sha256,
            bytes=task.bytes,
            pages=task.pages,
            mode=options.reading.mode,
            version=options.version,
            asked=options.asked,
            stamp=task.source.stamp,
            written=round(time.time(), 3),
            run=self.current.run,
            **facts,
        )


def _columns(parts: Sequence[UnitText]) -> dict[str, Any]:
    """What the units of a document say of it together."""
    tokens = [part.tokens for part in parts if part.tokens is not None]
    return {
        "pages_read": sum(part.pages for part in parts),
        "seconds": round(sum(part.seconds for part in parts), 3),
        "tokens": sum(tokens) if tokens else None,
        "finish": max((part.finish for part in parts), key=RANK.index),
        "cut_pages": ",".join(part.cut_pages for part in parts if part.cut_pages),
        "notes": merge_notes(part.notes for part in parts),
        "engine": parts[0].engine,
        "model": parts[0].model,
        "device": parts[0].device,
    }


def _relinked(text: str, old: str, new: str) -> str:
    """A text whose figures lie in a folder of another name."""
    was, now = (quote(folder.rpartition("/")[2]) for folder in (old, new))
    return text.replace(f"]({was}/", f"]({now}/")

"""Puts documents together from the units that the workers read, and describes them in rows of the manifest.

The driver calls an `Assembler` on several threads: it has no state of its own.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

from ..documents.listing import Unlisted
from ..errors import InputNotFound
from .actors import RANK, Task
from .files import Location
from .state import LEFT_OUT, ManifestRow, Options, Unit, UnitText, merge_notes

__all__ = ["SUFFIX", "Assembler"]

SUFFIX: Final = ".md"


@dataclass(frozen=True, slots=True)
class Assembler:
    """Writes the texts of documents.

    Args:
        out: the output folder, which has the units too.
        options: how the documents are read.
    """

    out: Location
    options: Options

    def assemble(self, task: Task) -> ManifestRow:
        """Write the text of a document whose units are all there. Returns its row."""
        name = task.source.name
        figures, texts = f"{name}-figures", []
        parts = [UnitText.load(self.out.read(Unit(task.document, pages).name)) for pages in task.units]
        for part in parts:
            for figure, data in part.figures.items():
                self.out.write(f"{figures}/{figure}", base64.b64decode(data))
            texts.append(_relinked(part.text, f"{task.document}-figures", figures) if part.figures else part.text)
        text = "\n\n".join(filter(None, texts))
        self.out.write(name + SUFFIX, f"{text}\n".encode("utf-8", "replace"))
        return self.row(
            task,
            output=name + SUFFIX,
            pages_read=sum(part.pages for part in parts),
            characters=len(text),
            seconds=round(sum(part.seconds for part in parts), 3),
            finish=max((part.finish for part in parts), key=RANK.index),
            cut_pages=",".join(part.cut_pages for part in parts if part.cut_pages),
            notes=merge_notes(part.notes for part in parts),
            engine=parts[0].engine,
            model=parts[0].model,
            device=parts[0].device,
        )

    def copy(self, task: Task, known: ManifestRow) -> ManifestRow:
        """Give a document the text of another one with the same bytes. Returns its row."""
        name, other = task.source.name, known.output.removesuffix(SUFFIX)
        figures = f"{name}-figures"
        text = self.out.read(known.output).decode("utf-8", "replace")
        for figure in sorted(self.out.names(f"{other}-figures")):
            self.out.write(f"{figures}/{figure.rpartition('/')[2]}", self.out.read(figure))
        self.out.write(name + SUFFIX, _relinked(text, f"{other}-figures", figures).encode("utf-8", "replace"))
        own = self.row(task)
        return replace(
            known,
            source=own.source,
            output=name + SUFFIX,
            bytes=own.bytes,
            seconds=0.0,
            copy_of=known.source,
            stamp=own.stamp,
            written=own.written,
        )

    def left_out(self, name: Unlisted) -> ManifestRow:
        """The row of a name that was not opened."""
        return ManifestRow(
            source=name.name,
            finish=LEFT_OUT,
            error_code=InputNotFound.code,
            error=f"Left out: {name.why}.",
            written=round(time.time(), 3),
        )

    def row(self, task: Task, **facts: Any) -> ManifestRow:
        """The row of a document.

        Args:
            task: the document.
            facts: the other fields of the row.
        """
        return ManifestRow(
            source=task.source.url,
            sha256=task.sha256,
            bytes=task.bytes,
            pages=task.pages,
            mode=self.options.reading.mode,
            version=self.options.version,
            asked=self.options.asked,
            stamp=task.source.stamp,
            written=round(time.time(), 3),
            **facts,
        )


def _relinked(text: str, old: str, new: str) -> str:
    """A text whose figures lie in a folder of another name."""
    was, now = (quote(folder.rpartition("/")[2]) for folder in (old, new))
    return text.replace(f"]({was}/", f"]({now}/")

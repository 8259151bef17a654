"""Writes the result of a request to the file that `save_to` names. The suffix of the file decides the format.

Markdown, plain text and JSON are written here; a decoder writes the other formats (see `export_formats`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import anyio

from ..documents.output import make_folder, write_atomically
from ..documents.reader import Document, KeptDocument
from ..engines.markup import FIGURE_LABELS, figure_mark
from ..errors import BadRequest, UnreadableInput
from ..export_formats import EXPORT_FORMATS, ExportOptions, export_format
from ..models import Block, BoxDetail, OcrRequest, OcrResult, Page
from ..text import one_line, well_formed_values
from .answer import join_texts

__all__ = ["Export", "FileWriter"]

Export = Callable[[str, Sequence[Page], KeptDocument, ExportOptions], AbstractAsyncContextManager[str]]
"""Writes pages in a format, and gives the path of the file. It lasts as the context does; see `OcrService.export`."""

MARKDOWN, TEXT, JSON = (EXPORT_FORMATS[name] for name in ("md", "txt", "json"))
_FAILED: Final = "<!-- Page {page} could not be read. -->"


@dataclass(frozen=True, slots=True)
class FileWriter:
    """Writes results of one document to one file, and its figures into a folder beside a Markdown file."""

    document: Document
    path: str
    request: OcrRequest
    dirs: Sequence[str]
    """The allowed folders; none: every folder is."""
    export: Export

    async def write(self, result: OcrResult) -> None:
        """Write all pages of a result.

        Args:
            result: its pages have their whole texts, and their blocks.

        Raises:
            UnreadableInput: the format cannot show what is on the pages: they have no table, or no text.
            OutputExists, InputForbidden, OcrError: as `write_atomically`.
        """
        format = export_format(self.path)
        assert format is not None, "resolve_output has checked the suffix"
        if format is MARKDOWN:
            data = (await self._markdown(result.pages) + "\n").encode("utf-8", "replace")
        elif format is TEXT:
            data = (join_texts(result.pages) + "\n").encode("utf-8", "replace")
        elif format is JSON:
            data = _json(result, self.request.boxes)
        else:
            data = await self._exported(format.name, result)
        await self._put(self.path, data)

    async def _put(self, path: str, data: bytes) -> None:
        await write_atomically(path, data, self.request.overwrite, self.dirs)

    async def _exported(self, format: str, result: OcrResult) -> bytes:
        """The file as a decoder writes it."""
        title = one_line(self.document.snapshot.name)
        options = ExportOptions(title, result.mode, upright=self.request.upright)
        kept = await self.document.keep()
        try:
            async with self.export(format, result.pages, kept, options) as path:
                return await anyio.Path(path).read_bytes()
        except BadRequest as exc:
            # The next document of a folder may suit the request: only this one fails.
            raise UnreadableInput(exc.message, remedy="Save this document as .md, or as .json with boxes.") from None
        finally:
            kept.let_go()

    async def _markdown(self, pages: Sequence[Page]) -> str:
        """The texts, with links to their figures, which are cut out into a folder beside the file.

        A page that could not be read leaves a comment, so that nobody takes the text for whole.
        """
        folder = Path(self.path).with_suffix("").with_name(Path(self.path).stem + "-figures")
        texts = []
        for page in pages:
            text = page.text
            if page.finish == "failed":
                text = _FAILED.format(page=page.page)
            elif figures := _figures(page):
                await make_folder(str(folder), self.dirs)
                text = await self._with_figures(page, figures, folder)
            texts.append(text)
        return "\n\n".join(text for text in texts if text)

    async def _with_figures(self, page: Page, figures: Sequence[Block], folder: Path) -> str:
        """The text of a page with links to its figures, which are cut out into `folder`."""
        image = await self.document.page(page.page)
        text = page.text
        try:
            for number, block in enumerate(figures, start=1):
                name = f"page-{page.page}-figure-{number}.png"
                data = await anyio.Path(await self.document.crop(image, block.box)).read_bytes()
                await self._put(str(folder / name), data)
                link = f"{quote(os.fsencode(folder.name))}/{name}"
                text = text.replace(figure_mark(number), f"![Figure {number}]({link})")
        finally:
            self.document.discard(image)
        return text


def _figures(page: Page) -> list[Block]:
    """The regions that left a mark in the text, in the order of their numbers."""
    return [block for block in page.blocks or () if block.label.lower() in FIGURE_LABELS]


def _json(result: OcrResult, boxes: BoxDetail) -> bytes:
    """The result as JSON.

    Args:
        boxes: "words" adds the boxes of words. The boxes of lines are always there.
    """
    left_out = None if boxes == "words" else {"pages": {"__all__": {"blocks": {"__all__": {"words"}}}}}
    data = well_formed_values(result.model_dump(mode="json", exclude_none=True, exclude=left_out))
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()

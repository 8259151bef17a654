"""Makes the answer to a request out of the pages that were read."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import anyio
import anyio.to_thread

from ..documents.output import make_folder, write_atomically
from ..documents.ranges import format_pages
from ..documents.reader import Document, Kept
from ..engines.markup import FIGURE_LABELS, figure_mark
from ..lifecycle.base import Lifecycle
from ..models import Block, Entry, OcrRequest, OcrResult, Page
from ..text import well_formed_values
from .jobs import TEXT_LAYER, ReadPage

__all__ = [
    "MAX_ANNOTATED_PAGES",
    "MAX_ENTRIES",
    "Answer",
    "annotated_page",
    "blank_notes",
    "contents_entry",
    "cut_to_chars",
    "dump_pages",
    "how_to_go_on",
    "join_texts",
    "remark_notes",
    "result_of",
    "rounded",
    "save_result",
]


MAX_ANNOTATED_PAGES: Final = 5  # images of about 500 kB each: more would choke most clients
MAX_ENTRIES: Final = 100  # of a table of contents
HEADING_CHARS: Final = 80


@dataclass(frozen=True, slots=True)
class Answer:
    """What `read` returns: the result, and what an edge may show beside it."""

    result: OcrResult
    notes: list[str] = field(default_factory=list)
    """Sentences for the caller: blank pages, where the text was cut, how to go on."""
    images: list[tuple[bytes, str]] = field(default_factory=list)
    """Annotated pages: encoded bytes and media type."""
    whole: list[Page] = field(default_factory=list)
    """Every page that was read for this answer, with its text uncut and its blocks."""
    kept: Kept | None = None
    """The document, for whoever asked to keep it."""


def result_of(
    request: OcrRequest, document: Document, read: list[ReadPage], pages: list[Page], manager: Lifecycle
) -> OcrResult:
    by_engine = [page for page in read if page.engine != TEXT_LAYER]
    last = by_engine[-1] if by_engine else read[-1] if read else None
    return OcrResult(
        text=join_texts(pages),
        pages=pages,
        page_count=document.page_count,
        mode=request.mode,
        engine=last.engine if last else manager.engine.name,
        model=last.model if last else "",
        device=last.device if last else manager.device,
        cached=True if read and all(page.cached for page in read) else None,
    )


def dump_pages(pages: Sequence[Page]) -> list[dict[str, Any]]:
    return [page.model_dump(mode="json", exclude_none=True) for page in pages]


def join_texts(pages: list[Page]) -> str:
    return "\n\n".join(page.text for page in pages if page.text)


def contents_entry(page: Page) -> Entry:
    """A page in the table of contents: its first heading, or its first line."""
    lines = [line.strip() for line in page.text.splitlines() if line.strip()]
    heading = next((line for line in lines if line.startswith("#")), lines[0] if lines else "").lstrip("# ")
    if len(heading) > HEADING_CHARS:
        heading = heading[: HEADING_CHARS - 1] + "…"
    return Entry(page=page.page, heading=heading, chars=len(page.text))


def how_to_go_on(shown: list[Page], document: Document, next_pages: str, late: bool) -> str:
    if not shown:
        return f'Nothing is read yet; reading goes on. Call again in a moment with pages="{next_pages}".'
    said = f"Read up to page {shown[-1].page} of {document.page_count}"
    said += ", and reading goes on." if late else "."
    return f'{said} To go on, call again with pages="{next_pages}".'


async def annotated_page(document: Document, page: Page) -> list[tuple[bytes, str]]:
    """The page with its boxes drawn; nothing where there are none."""
    if not page.blocks:
        return []
    image = await document.page(page.page)
    try:
        return [await document.annotate(image, [block.model_dump() for block in page.blocks])]
    finally:
        document.discard(image)


def blank_notes(read: list[ReadPage], request: OcrRequest) -> list[str]:
    empty = [page.page.page for page in read if not page.page.text and not page.remark]
    if not empty:
        return []
    which = _which(empty)
    if request.mode == "find":
        return [f"{which}: {request.find_term!r} was not found."]
    return [f"{which}: blank, no text was found."]


def remark_notes(read: list[ReadPage]) -> list[str]:
    """Each remark once, with the pages that it is about."""
    pages: dict[str, list[int]] = {}
    for page in read:
        if page.remark:
            pages.setdefault(page.remark, []).append(page.page.page)
    return [f"{_which(numbers)}: {remark}" for remark, numbers in pages.items()]


def _which(numbers: list[int]) -> str:
    return f"Page{'s' if len(numbers) > 1 else ''} {format_pages(numbers)}"


def cut_to_chars(pages: list[Page], max_chars: int) -> tuple[list[Page], str]:
    """As many whole pages as fit; of a first page that does not fit, whole lines.

    Returns the pages to show and, where a page itself was cut, a sentence about it.
    """
    if not max_chars:
        return pages, ""
    shown: list[Page] = []
    used = 0
    for page in pages:
        used += len(page.text) + (2 if shown else 0)
        if used > max_chars:
            break
        shown.append(page)
    if shown or not pages:
        return shown, ""
    page = pages[0].model_copy()
    whole = len(page.text)
    end = page.text.rfind("\n", 0, max_chars + 1)
    page.text = page.text[: end if end > 0 else max_chars].rstrip()
    return [page], (
        f"Page {page.page} has {whole} characters and was cut at {len(page.text)}. For all of it, call again "
        f'with pages="{page.page}" and max_chars={whole} (or save_to).'
    )


def _is_markdown(path: str) -> bool:
    return path.lower().endswith((".md", ".markdown"))


def _figures(page: Page) -> list[Block]:
    """The regions that left a mark in the text, in the order of their numbers."""
    return [block for block in page.blocks or () if block.label.lower() in FIGURE_LABELS]


async def save_result(
    result: OcrResult, document: Document, path: str, overwrite: bool, dirs: Sequence[str] = ()
) -> None:
    """Write the text, and the figures of a Markdown text into a folder beside it, linked.

    Args:
        dirs: the allowed folders; none: every folder is.
    """
    write = partial(write_atomically, overwrite=overwrite, dirs=dirs)
    texts = [page.text for page in result.pages]
    if _is_markdown(path):
        folder = Path(path).with_suffix("").with_name(Path(path).stem + "-figures")
        for index, page in enumerate(result.pages):
            if figures := _figures(page):
                await make_folder(str(folder), dirs)
                texts[index] = await _with_figures(page, figures, document, folder, write)
    text = "\n\n".join(text for text in texts if text)
    await write(path, _serialised(result.model_copy(update={"text": text}), path))


async def _with_figures(
    page: Page, figures: list[Block], document: Document, folder: Path, write: Callable[[str, bytes], Awaitable[None]]
) -> str:
    """The page's text with links to its figures, which are cut out into `folder`."""
    image = await document.page(page.page)
    text = page.text
    try:
        for number, block in enumerate(figures, start=1):
            name = f"page-{page.page}-figure-{number}.png"
            data = await anyio.Path(await document.crop(image, block.box)).read_bytes()
            await write(str(folder / name), data)
            link = f"{quote(os.fsencode(folder.name))}/{name}"
            text = text.replace(figure_mark(number), f"![Figure {number}]({link})")
    finally:
        document.discard(image)
    return text


def _serialised(result: OcrResult, path: str) -> bytes:
    if path.lower().endswith(".json"):
        data = well_formed_values(result.model_dump(mode="json", exclude_none=True))
        return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()
    return (result.text + "\n").encode("utf-8", "replace")


def rounded(fields: dict[str, Any], digits: int = 1) -> dict[str, Any]:
    return {name: round(value, digits) if isinstance(value, float) else value for name, value in fields.items()}

"""Makes the answer to a request out of the pages that were read."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from ..errors import OcrError
from ..models import Block, Entry, Note, NoteCode, OcrRequest, OcrResult, Page
from ..text import well_formed_values
from .work import TEXT_LAYER, ReadPage

__all__ = [
    "MAX_ANNOTATED_PAGES",
    "MAX_ENTRIES",
    "Answer",
    "annotated_page",
    "contents_entry",
    "cut_to_chars",
    "document_notes",
    "dump_pages",
    "first_error",
    "how_to_go_on",
    "join_texts",
    "page_notes",
    "result_of",
    "rounded",
    "save_result",
]


MAX_ANNOTATED_PAGES: Final = 5  # images of about 500 kB each: more would choke most clients
MAX_ENTRIES: Final = 100  # of a table of contents
HEADING_CHARS: Final = 80


@dataclass(frozen=True, slots=True)
class Answer:
    """A result, and the data that an edge may show beside it."""

    result: OcrResult
    images: list[tuple[bytes, str]] = field(default_factory=list)
    """Annotated pages: encoded bytes and media type."""
    whole: list[Page] = field(default_factory=list)
    """Every page that was read for this answer, with its text uncut and its blocks."""
    kept: Kept | None = None
    """The document, for a caller that asked to keep it."""
    errors: Mapping[str, OcrError] = field(default_factory=dict)
    """The errors that the answer survived: of pages (`page 3`, `pages that are left`), or of files in a folder by their
    names."""

    def add(self, code: NoteCode, text: str, pages: str = "") -> None:
        """Add a note to the result."""
        self.result.notes.append(Note(code=code, text=text, pages=pages))


def result_of(request: OcrRequest, document: Document, read: Sequence[ReadPage], unread: tuple[str, str]) -> OcrResult:
    """The result of the pages that were read, whole.

    Args:
        unread: the engine's name and its device, for a result without pages.
    """
    by_engine = [page for page in read if page.engine not in (TEXT_LAYER, "")]
    last = by_engine[-1] if by_engine else read[-1] if read else None
    pages = [page.page.model_copy() for page in read]
    return OcrResult(
        text=join_texts(pages),
        pages=pages,
        page_count=document.page_count,
        mode=request.mode,
        engine=(last.engine if last else "") or unread[0],
        model=last.model if last else "",
        device=last.device if last else unread[1],
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
    """The sentence that tells an agent how to get the pages that are left.

    Args:
        late: whether pages are still being read.
    """
    if not shown:
        return f'Nothing is read yet; reading goes on. Call again in a moment with pages="{next_pages}".'
    so_far = f"Read up to page {shown[-1].page} of {document.page_count}"
    so_far += ", and reading goes on." if late else "."
    return f'{so_far} To go on, call again with pages="{next_pages}".'


async def annotated_page(document: Document, page: Page) -> list[tuple[bytes, str]]:
    """The page with its boxes drawn; nothing where there are none."""
    if not page.blocks:
        return []
    image = await document.page(page.page)
    try:
        return [await document.annotate(image, [block.model_dump() for block in page.blocks])]
    finally:
        document.discard(image)


def document_notes(document: Document) -> list[Note]:
    """The notes about what the document holds beside its pages."""
    return [Note(code="not_opened", text=text) for text in document.notes]


def page_notes(read: Sequence[ReadPage], request: OcrRequest) -> list[Note]:
    """The notes about pages: failed, not read in full, blank. Each sentence stands once, with all its pages."""
    pages: dict[tuple[NoteCode, str], list[int]] = {}
    for page in read:
        if (about := _about(page, request)) is not None:
            pages.setdefault(about, []).append(page.page.page)
    return [Note(code=code, text=text, pages=format_pages(numbers)) for (code, text), numbers in pages.items()]


def _about(page: ReadPage, request: OcrRequest) -> tuple[NoteCode, str] | None:
    """The code and the sentence of a page's note; None for a page that was read in full."""
    if page.error is not None:
        return "page_failed", str(page.error)
    if page.remark:
        if page.page.source:
            return "layer_incomplete", page.remark
        return "no_text_layer" if page.engine == TEXT_LAYER else "not_read", page.remark
    if page.page.text:
        return None
    if request.mode == "find":
        return "not_found", f"{request.find_term!r} was not found."
    return "blank", "blank, no text was found."


def first_error(read: Sequence[ReadPage]) -> OcrError | None:
    """The error of the first page, where no page could be read."""
    errors = [page.error for page in read]
    return errors[0] if errors and all(errors) else None


def cut_to_chars(pages: list[Page], max_chars: int) -> tuple[list[Page], Note | None]:
    """As many whole pages as fit; of a first page that does not fit, whole lines.

    Args:
        max_chars: characters; 0: no limit.

    Returns:
        The pages to show, and a note where a page itself was cut.
    """
    if not max_chars:
        return pages, None
    shown: list[Page] = []
    used = 0
    for page in pages:
        used += len(page.text) + (2 if shown else 0)
        if used > max_chars:
            break
        shown.append(page)
    if shown or not pages:
        return shown, None
    page = pages[0].model_copy()
    whole = len(page.text)
    end = page.text.rfind("\n", 0, max_chars + 1)
    page.text = page.text[: end if end > 0 else max_chars].rstrip()
    text = (
        f"{whole} characters, cut at {len(page.text)}. For all of the page, call again with "
        f'pages="{page.page}" and max_chars={whole}.'
    )
    return [page], Note(code="cut", text=text, pages=str(page.page))


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

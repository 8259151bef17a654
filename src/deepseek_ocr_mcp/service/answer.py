"""Makes the answer to a request out of the pages that were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..documents.ranges import format_pages
from ..documents.reader import Document, KeptDocument
from ..errors import OcrError
from ..models import Entry, Note, NoteCode, OcrRequest, OcrResult, Page
from ..modes import MODES
from .codes import codes_note
from .work import TEXT_LAYER, ReadPage

__all__ = [
    "MAX_ANNOTATED_PAGES",
    "MAX_ENTRIES",
    "Answer",
    "Cut",
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
]


MAX_ANNOTATED_PAGES: Final = 5  # each is an image of about 500 kB; more of them would choke most clients
MAX_ENTRIES: Final = 100  # pages in a table of contents
HEADING_CHARS: Final = 80


@dataclass(frozen=True, slots=True)
class Answer:
    """A result, and the data that an edge may show beside it."""

    result: OcrResult
    images: list[tuple[bytes, str]] = field(default_factory=list)
    """The annotated pages, each as encoded bytes and their media type."""
    whole: list[Page] = field(default_factory=list)
    """Every page that was read for this answer, with its whole text and its blocks."""
    tokens: int | None = None
    """Tokens that a model wrote for these pages; None where nobody counted."""
    chars: int = 0
    """The characters that were read; of an answer about a folder only."""
    kept_document: KeptDocument | None = None
    """The document, for a caller that asked to keep it."""
    errors: Mapping[str, OcrError] = field(default_factory=dict)
    """Errors that did not end the request, by the name of the part that failed: a page (`page 3`), `pages that are
    left`, or the name of a file in a folder."""

    def add(self, code: NoteCode, text: str, pages: str = "") -> None:
        """Add a note to the result.

        Args:
            code: the code of the note.
            text: the sentence.
            pages: the pages that the note is about, like "1-3,7"; empty: the whole answer.
        """
        self.result.notes.append(Note(code=code, text=text, pages=pages))


def result_of(request: OcrRequest, document: Document, read: Sequence[ReadPage], unread: tuple[str, str]) -> OcrResult:
    """The result of the pages that were read, with their whole texts.

    Args:
        request: the request.
        document: the document that the pages are from.
        read: the pages, ascending.
        unread: the name of the engine and its device, for a result without pages.
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


def contents_entry(page: Page, mode: str) -> Entry:
    """The entry of a page in the table of contents: its first heading, or else its first line, as printed on the
    page."""
    lines = [line.strip() for line in page.text.splitlines() if line.strip()]
    heading = next((line for line in lines if line.startswith("#")), lines[0] if lines else "")
    if MODES[mode].is_markdown:
        from ..layout.escape import unescaped

        heading = unescaped(heading.lstrip("# "))
    if len(heading) > HEADING_CHARS:
        heading = heading[: HEADING_CHARS - 1] + "…"
    return Entry(page=page.page, heading=heading, chars=len(page.text))


def how_to_go_on(shown: list[Page], document: Document, next_pages: str, late: bool) -> str:
    """The sentence that tells an agent how to get the other pages.

    Args:
        shown: the pages of the answer.
        document: the document that they are from.
        next_pages: the range of the pages that are not in the answer.
        late: whether pages are still being read.
    """
    if not shown:
        return f'Nothing is read yet; reading goes on. Call again in a moment with pages="{next_pages}".'
    so_far = f"Read up to page {shown[-1].page} of {document.page_count}"
    so_far += ", and reading goes on." if late else "."
    return f'{so_far} To go on, call again with pages="{next_pages}".'


async def annotated_page(document: Document, page: Page) -> list[tuple[bytes, str]]:
    """The page with its boxes drawn, as bytes and media type; an empty list for a page without boxes."""
    if not page.blocks:
        return []
    image = await document.page(page.page)
    try:
        return [await document.annotate(image, [block.model_dump() for block in page.blocks])]
    finally:
        document.discard(image)


def document_notes(document: Document) -> list[Note]:
    """The notes about parts of the document that are no pages, such as attachments."""
    return [Note(code="not_opened", text=text) for text in document.notes]


def page_notes(read: Sequence[ReadPage], request: OcrRequest) -> list[Note]:
    """The notes about pages that failed, were not read in full, are blank, or do not hold the term.

    Pages that get the same sentence share one note.
    """
    pages: dict[tuple[NoteCode, str], list[int]] = {}
    for page in read:
        if page.is_about_model:  # told beside the reason for its end, or for its emptiness
            pages.setdefault(("not_read", page.remark), []).append(page.page.page)
        if (about := _about(page, request)) is not None:
            pages.setdefault(about, []).append(page.page.page)
        if page.codes_seen:
            pages.setdefault(("codes", codes_note(page.codes_seen, request.mode)), []).append(page.page.page)
    if request.mode == "find":
        from .search import missing_terms

        found = [page for page in read if page.error is None and page.page.text]
        if missing := missing_terms(request.find_term, [page.page.text for page in found]):
            pages["not_found", missing] = [page.page.page for page in found]
    return [Note(code=code, text=text, pages=format_pages(numbers)) for (code, text), numbers in pages.items()]


_ENDS: Final[dict[str, str]] = {
    "length": "the model reached the length of its longest answer; the text ends there.",
    "loop": "the model began to repeat itself, and its text ends there.",
    "cancelled": "reading was stopped before the end; the text ends there.",
}
"""The reason why the text of a page may lack its end, by the `finish` of the page."""


def _about(page: ReadPage, request: OcrRequest) -> tuple[NoteCode, str] | None:
    """The code and the sentence of a page's note; None for a page that was read in full."""
    if page.error is not None:
        return "page_failed", str(page.error)
    if page.remark and not page.is_about_model:
        if page.page.source:
            return "layer_incomplete", page.remark
        return "no_text_layer" if page.engine == TEXT_LAYER else "not_read", page.remark
    if page.page.finish in _ENDS:
        return "not_read", _ENDS[page.page.finish]
    if page.page.text:
        return None
    if request.mode == "find":
        from .search import not_found

        return "not_found", not_found(request.find_term)
    return "blank", "blank, no text was found."


def first_error(read: Sequence[ReadPage]) -> OcrError | None:
    """The error of the first page if no page could be read; else None."""
    errors = [page.error for page in read]
    return errors[0] if errors and all(errors) else None


@dataclass(frozen=True, slots=True)
class Cut:
    """The pages that fit into `max_chars`."""

    pages: list[Page]
    note: Note | None = None
    """The note about the first page if that page itself was cut; else None."""
    next_max_chars: int | None = None
    """The characters of the first page as a whole, if it was cut."""


def cut_to_chars(pages: list[Page], max_chars: int) -> Cut:
    """As many whole pages as fit. If the first page alone does not fit: as many of its lines as fit; if its
    first line does not fit, the beginning of that line.

    Args:
        pages: the pages with their whole texts.
        max_chars: characters of the answer; 0 means no limit.
    """
    if not max_chars:
        return Cut(pages)
    shown: list[Page] = []
    used = 0
    for page in pages:
        used += len(page.text) + (2 if shown else 0)
        if used > max_chars:
            break
        shown.append(page)
    if shown or not pages:
        return Cut(shown)
    page = pages[0].model_copy()
    whole = len(page.text)
    end = page.text.rfind("\n", 0, max_chars + 1)
    page.text = page.text[: end if end > 0 else max_chars].rstrip()
    text = (
        f"{whole} characters, cut at {len(page.text)}. For all of the page, call again with "
        f'pages="{page.page}" and max_chars={whole}.'
    )
    return Cut([page], Note(code="cut", text=text, pages=str(page.page)), whole)


def rounded(fields: dict[str, Any], digits: int = 1) -> dict[str, Any]:
    return {name: round(value, digits) if isinstance(value, float) else value for name, value in fields.items()}

"""Documents that several requests share, and the work that one set of options makes of a document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from ..documents.reader import Document, UnreadPart
from ..engines import KNOWN
from ..engines.base import CPU, ReadOptions
from ..engines.vision_models import MODEL_REMARKS
from ..errors import OcrError
from ..models import Block, Page
from .codes import Code, shown_codes, with_codes

if TYPE_CHECKING:
    from ..engines.base import Reading

__all__ = ["ENGINE_TITLES", "TEXT_LAYER", "ReadPage", "SharedDocument", "View", "Work", "import_layout", "reading_of"]

TEXT_LAYER: Final = "text_layer"
"""Stands in the place of an engine's name on pages that no engine has read."""
ENGINE_TITLES: Final = {spec.name: spec.title for spec in KNOWN.values() if spec.title} | {TEXT_LAYER: "PDF"}
"""The names for people of the engines that pages name. An engine that is not here is shown by its own name."""


def reading_of(fields: Any) -> Reading:
    """`readings.checked`, imported when the first reading comes."""
    from .readings import checked

    return checked(fields)


def import_layout() -> None:
    """Import the modules that make text of readings: 25 ms that a server does not need to start."""
    from . import readings  # noqa: F401


class SharedDocument:
    """An open document. It closes when each of its holders has released it.

    Args:
        document: the open document.
        close: closes it.
    """

    def __init__(self, document: Document, close: Callable[[], Awaitable[None]]) -> None:
        self.document = document
        self._close = close
        self._holders = 1

    def __repr__(self) -> str:
        return f"<SharedDocument with {self._holders} holders>"

    def hold(self) -> Self:
        """Add a holder, which must release the document later."""
        assert self._holders, "the document is closed"
        self._holders += 1
        return self

    async def release(self) -> None:
        """Remove a holder. The last one closes the document, even where its task is being cancelled."""
        self._holders -= 1
        if self._holders == 0:
            with anyio.CancelScope(shield=True):
                await self._close()


@dataclass(frozen=True, slots=True)
class View:
    """How a request looks at a reading."""

    mode: str = "document"
    find_term: str = ""

    def of(self, reading: Reading) -> tuple[str, list[Block]]:
        """The text of the page, and its blocks with their words.

        Raises:
            BadRequest: the search took too long.
        """
        from .readings import seen

        return seen(reading, self.mode, self.find_term)


@dataclass(frozen=True, slots=True)
class Work:
    """Reading one document with one set of options. Requests for the same work share the pages that it reads."""

    key: str
    """A key that is equal for all requests that the same pages can answer."""
    reading_key: str
    """A key that is equal for all requests that the same readings can answer, with any mode and any term.

    Empty for a mode that asks for more than the text of the page."""
    shared: SharedDocument
    options: ReadOptions
    text_layer: str
    """One of `modes.TEXT_LAYERS`."""
    barcodes: bool = False
    """Whether codes are read, too."""

    @property
    def document(self) -> Document:
        """The document; it is open while it has a holder."""
        return self.shared.document

    def page_keys(self, number: int) -> list[str]:
        """The keys under which a page may be in the cache: as a reading, or as text that was written for one mode."""
        return [f"{key}-{number}" for key in dict.fromkeys((self.reading_key, self.key)) if key]

    def page_key(self, page: ReadPage) -> str:
        """The key under which a page is put into the cache."""
        key = self.reading_key if page.reading is not None and self.reading_key else self.key
        return f"{key}-{page.page.page}"


@dataclass(frozen=True, slots=True)
class ReadPage:
    """A page, and who read it."""

    page: Page
    """If `reading` is set, its text and blocks are empty until `seen` makes them."""
    engine: str
    model: str
    device: str
    remark: str = ""
    """A sentence for the caller: the reason why the text may be incomplete."""
    cached: bool = False
    error: OcrError | None = None
    """Why the page could not be read: then its text is empty and its `finish` is `failed`."""
    reading: Reading | None = None
    """The lines and places that the engine found; None for a page whose text an engine wrote itself."""
    tokens: int | None = None
    """How many a model wrote; None where nobody counted."""
    codes: tuple[Code, ...] = ()
    """The codes that are not on the page yet. `seen` adds them to its text and its blocks."""
    codes_seen: tuple[Code, ...] = ()
    """The codes that `seen` has added."""

    @classmethod
    def failed(cls, number: int, error: OcrError) -> Self:
        """A page that could not be drawn or read."""
        return cls(Page(page=number, width=0, height=0, text="", finish="failed"), "", "", CPU, error=error)

    @property
    def is_incomplete(self) -> bool:
        """Whether an engine left a part of the page unread. A restart with data of more languages may read it."""
        return bool(self.remark) and not self.is_about_model and not self.page.source

    @property
    def is_about_model(self) -> bool:
        """Whether the remark holds for the model, whatever the page."""
        return self.remark in MODEL_REMARKS

    @property
    def is_cacheable(self) -> bool:
        """Whether the page may go into the cache. Of a text that a model wrote with a remark, a second reading may be
        better."""
        return self.reading is not None or not self.remark or self.is_about_model

    def seen(self, view: View) -> Self:
        """The page as a request looks at it."""
        page = self.page
        if self.reading is not None:
            text, blocks = view.of(self.reading)
            turn = (360 - 90 * self.reading.quarters) % 360 or None
            page = page.model_copy(update={"text": text, "blocks": blocks, "turn": turn})
        if not self.codes:
            return self if page is self.page else replace(self, page=page)
        shown = tuple(shown_codes(self.codes, view.mode, view.find_term))
        left = () if self.reading is None else self.codes  # a reading makes its text anew each time
        return replace(self, page=with_codes(page, shown, view.mode), codes=left, codes_seen=shown)

    def is_scrap(self, part: UnreadPart) -> bool:
        """Whether this part of the page holds a few characters and nothing else."""
        from .readings import is_scrap

        return self.reading is not None and is_scrap(part, self.reading)

    def to_dict(self) -> dict[str, Any]:
        """The page as the cache keeps it; `from_dict` is the inverse."""
        left_out = set() if self.reading is None else {"text", "blocks", "turn"}
        page = self.page.model_dump(mode="json", exclude_none=True, exclude=left_out)
        fields: dict[str, Any] = {"page": page, "engine": self.engine, "model": self.model, "device": self.device}
        if self.reading is not None:
            fields["reading"] = self.reading.to_dict()
        if self.codes:
            fields["codes"] = [asdict(code) for code in self.codes]
        if self.tokens is not None:
            fields["tokens"] = self.tokens
        return fields | {"remark": self.remark} if self.remark else fields

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The page that `to_dict` described."""
        page = Page(**{"text": "", **data["page"]})
        reading = reading_of(data["reading"]) if "reading" in data else None
        facts = {"remark": data.get("remark", ""), "codes": tuple(map(Code.of, data.get("codes", ())))}
        facts["tokens"] = data.get("tokens")
        return cls(page, data["engine"], data["model"], data["device"], cached=True, reading=reading, **facts)

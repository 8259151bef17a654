"""Documents that several requests share, and the work that one set of options makes of a document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

import anyio

from ..documents.reader import Document
from ..engines.base import CPU, ReadOptions
from ..errors import OcrError
from ..models import Page

__all__ = ["TEXT_LAYER", "ReadPage", "SharedDocument", "Work"]

TEXT_LAYER = "text_layer"
"""Stands in the place of an engine's name on pages that no engine has read."""


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
class Work:
    """Reading one document with one set of options. Requests for the same work share the pages that it reads."""

    key: str
    """The same for every request that can be answered with the same pages."""
    shared: SharedDocument
    options: ReadOptions
    text_layer: str
    """One of `modes.TEXT_LAYERS`."""

    @property
    def document(self) -> Document:
        """The document; it is open while it has a holder."""
        return self.shared.document

    def page_key(self, number: int) -> str:
        """The key of a page in the cache."""
        return f"{self.key}-{number}"


@dataclass(frozen=True, slots=True)
class ReadPage:
    """A page, and who read it."""

    page: Page
    engine: str
    model: str
    device: str
    remark: str = ""
    """A sentence for the caller. A page that an engine has read with a remark is not cached: another reading may be
    better."""
    cached: bool = False
    error: OcrError | None = None
    """Why the page could not be read: then its text is empty and its `finish` is `failed`."""

    @classmethod
    def failed(cls, number: int, error: OcrError) -> Self:
        """A page that could not be drawn or read."""
        return cls(Page(page=number, width=0, height=0, text="", finish="failed"), "", "", CPU, error=error)

    def to_dict(self) -> dict[str, Any]:
        """The page as the cache keeps it; `from_dict` is the inverse."""
        page = self.page.model_dump(mode="json", exclude_none=True)
        fields = {"page": page, "engine": self.engine, "model": self.model, "device": self.device}
        return fields | {"remark": self.remark} if self.remark else fields

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The page that `to_dict` described."""
        remark = data.get("remark", "")
        return cls(Page(**data["page"]), data["engine"], data["model"], data["device"], remark, cached=True)

"""Keeps results that a client may ask for again, each under a name that cannot be guessed.

Results stay in memory for a while. Their bytes and their number are bounded, too: the result that was asked for longest
ago goes first. A name leads to the text of a result, to the details of its pages, and to the private copy of its
document if that is held. It leads to nothing else.
"""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

import anyio

from ..errors import InputNotFound
from .expiry import KEEP_S, Expiry

__all__ = ["Held", "ResultStore"]


MAX_BYTES: Final = 16 * 1024 * 1024  # bytes of UTF-8; enough for 5,000 pages of print
MAX_RESULTS: Final = 200
MAX_HELD_BYTES: Final = 256 * 1024 * 1024  # bytes of documents on disk
PAGE_BYTES: Final = 128  # bytes that a kept page takes beside its text
ID_BYTES: Final = 16  # 128 bits


class Held(Protocol):
    """A document that stays until its last holder lets it go. Equal documents are one `Held`."""

    @property
    def size(self) -> int: ...
    def let_go(self) -> None: ...


H = TypeVar("H", bound=Held)


@dataclass(slots=True)
class _Stored(Generic[H]):
    texts: dict[int, bytes]
    details: dict[int, bytes] = field(default_factory=dict)
    held: H | None = None

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return sum(len(text) + PAGE_BYTES for text in self.texts.values()) + sum(map(len, self.details.values()))


class ResultStore(Generic[H]):
    """The texts of pages, by the name of their result and the number of the page.

    Use it inside `async with store.running():`, or results are forgotten only to make room.

    Args:
        max_bytes: bytes of the texts and details in memory.
        max_results: the number of results.
        max_held_bytes: bytes of the documents on disk.
    """

    def __init__(
        self, *, max_bytes: int = MAX_BYTES, max_results: int = MAX_RESULTS, max_held_bytes: int = MAX_HELD_BYTES
    ) -> None:
        self._max_bytes = max_bytes
        self._max_results = max_results
        self._max_held_bytes = max_held_bytes
        self._results: OrderedDict[str, _Stored[H]] = OrderedDict()
        self._bytes = 0
        self._holds: Counter[H] = Counter()
        self._expiry = Expiry(KEEP_S, self.drop)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The lifespan, in which each result is forgotten when its time is over."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._expiry.run)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()

    def __repr__(self) -> str:
        return f"<ResultStore {len(self._results)} results, {self._bytes} bytes, {len(self._holds)} documents>"

    def put(
        self, pages: Mapping[int, str], *, details: Mapping[int, bytes] | None = None, held: H | None = None
    ) -> str:
        """Keep the texts of the pages of a result. Returns the name of the result; "" if the texts are too long to be
        kept.

        Args:
            pages: the texts, by the number of the page.
            details: more about each page, in the caller's own form.
            held: the document of the pages. It is let go with the result, or before it if documents take too much room.
        """
        stored = _Stored[H]({number: text.encode("utf-8", "replace") for number, text in pages.items()})
        stored.details.update(details or {})
        size = stored.size
        if size > self._max_bytes:
            if held is not None:
                held.let_go()
            return ""
        name = secrets.token_urlsafe(ID_BYTES)
        self._results[name] = stored
        self._expiry.add(name)
        self._bytes += size
        if held is not None:
            stored.held = held
            self._holds[held] += 1
        while self._bytes > self._max_bytes or len(self._results) > self._max_results:
            self.drop(next(iter(self._results)))
        self._bound_documents()
        return name

    def text(self, name: str) -> str:
        """The text of all pages of a result.

        Raises:
            InputNotFound: there is no such result, or it was dropped.
        """
        return "\n\n".join(text.decode() for text in self._get(name).texts.values() if text)

    def page(self, name: str, number: str) -> str:
        """The text of one page of a result.

        Raises:
            InputNotFound: there is no such result, or no such page in it.
        """
        pages = self._get(name).texts
        text = pages.get(int(number)) if number.isascii() and number.isdigit() and len(number) < 10 else None
        if text is None:
            shown = ", ".join(map(str, list(pages)[:20])) + (", …" if len(pages) > 20 else "")
            raise InputNotFound(f"The result has no such page; it has {shown}.", remedy="Name one of them.")
        return text.decode()

    def details(self, name: str, number: int) -> bytes | None:
        """The details that were kept about a page; None if none were kept, or if there is no such page.

        Raises:
            InputNotFound: there is no such result, or it was dropped.
        """
        return self._get(name).details.get(number)

    def held(self, name: str) -> H | None:
        """The document of a result; None if it is not held, or not held any more.

        Raises:
            InputNotFound: there is no such result, or it was dropped.
        """
        return self._get(name).held

    def drop(self, name: str) -> None:
        """Drop a result, if it is still there."""
        if (stored := self._results.pop(name, None)) is not None:
            self._bytes -= stored.size
            self._expiry.remove(name)
            self._let_go(stored)

    def _get(self, name: str) -> _Stored[H]:
        try:
            self._results.move_to_end(name)
        except KeyError:
            raise InputNotFound(
                "There is no such result, or no more: results are kept in memory for an hour, and those used "
                "longest ago make room for new ones.",
                remedy="Call ocr_image again.",
            ) from None
        return self._results[name]

    def _bound_documents(self) -> None:
        for stored in self._results.values():
            if sum(document.size for document in self._holds) <= self._max_held_bytes:
                return
            self._let_go(stored)

    def _let_go(self, stored: _Stored[H]) -> None:
        held, stored.held = stored.held, None
        if held is None:
            return
        held.let_go()
        self._holds[held] -= 1
        if not self._holds[held]:
            del self._holds[held]

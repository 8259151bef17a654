"""Results that a client may come back for, each under a name that nobody can guess.

Kept in memory only, within a bound of bytes and of results: what was not asked for longest goes
first. Nothing here knows where a text came from, so a name leads to a text and to nothing else.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from ..errors import InputNotFound

__all__ = ["ResultStore"]

MAX_BYTES: Final = 16 * 1024 * 1024  # of UTF-8: some 5,000 pages of print
MAX_RESULTS: Final = 200
PAGE_BYTES: Final = 128  # what keeping a page costs beside its text
ID_BYTES: Final = 16  # 128 bits


class ResultStore:
    """The texts of pages, by the name of their result and the number of the page."""

    def __init__(self, *, max_bytes: int = MAX_BYTES, max_results: int = MAX_RESULTS) -> None:
        self._max_bytes = max_bytes
        self._max_results = max_results
        self._results: OrderedDict[str, dict[int, bytes]] = OrderedDict()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<ResultStore {len(self._results)} results, {self._bytes} bytes>"

    def put(self, pages: Mapping[int, str]) -> str:
        """Keep the texts of these pages; the name of the result, or "" where they are too many to be kept."""
        texts = {number: text.encode("utf-8", "replace") for number, text in pages.items()}
        size = _size(texts)
        if size > self._max_bytes:
            return ""
        name = secrets.token_urlsafe(ID_BYTES)
        self._results[name] = texts
        self._bytes += size
        while self._bytes > self._max_bytes or len(self._results) > self._max_results:
            _, oldest = self._results.popitem(last=False)
            self._bytes -= _size(oldest)
        return name

    def text(self, name: str) -> str:
        """The text of all pages of a result.

        Raises:
            InputNotFound: there is no such result, or no more.
        """
        return "\n\n".join(text.decode() for text in self._get(name).values() if text)

    def page(self, name: str, number: str) -> str:
        """The text of one page of a result.

        Raises:
            InputNotFound: there is no such result, or no such page in it.
        """
        pages = self._get(name)
        text = pages.get(int(number)) if number.isascii() and number.isdigit() and len(number) < 10 else None
        if text is None:
            shown = ", ".join(map(str, list(pages)[:20])) + (", …" if len(pages) > 20 else "")
            raise InputNotFound(f"The result has no such page; it has {shown}.", remedy="Name one of them.")
        return text.decode()

    def _get(self, name: str) -> dict[int, bytes]:
        try:
            self._results.move_to_end(name)
        except KeyError:
            raise InputNotFound(
                "There is no such result, or no more: results are kept in memory, and the oldest go first.",
                remedy="Call ocr_image again.",
            ) from None
        return self._results[name]


def _size(pages: Mapping[int, bytes]) -> int:
    return sum(len(text) + PAGE_BYTES for text in pages.values())

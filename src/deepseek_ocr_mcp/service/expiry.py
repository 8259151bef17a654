"""Forgets entries when their time is over, whether anybody asks for them or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

__all__ = ["KEEP_S", "Expiry"]

KEEP_S: Final = 3600.0
"""Seconds that memory keeps a page, a result with its document, and a password. An agent comes back within minutes."""


class Expiry:
    """The times of entries that are all kept equally long. `run` forgets each at the end of its time.

    Args:
        keep_s: seconds that an entry is kept.
        forget: is called with the name of each entry whose time is over.
    """

    def __init__(self, keep_s: float, forget: Callable[[str], None]) -> None:
        self._keep_s: Final = keep_s
        self._forget = forget
        self._begun: dict[str, float] = {}
        """The time when each entry was added, the oldest first."""
        self._added: anyio.Event | None = None

    def add(self, name: str) -> None:
        """Begin the time of an entry, also of one that was added before."""
        self._begun.pop(name, None)
        self._begun[name] = anyio.current_time()
        if self._added is not None:
            self._added.set()

    def remove(self, name: str) -> None:
        """Note that an entry is gone already."""
        self._begun.pop(name, None)

    def forget_old(self) -> None:
        """Forget the entries whose time is over."""
        while (first := next(iter(self._begun), None)) is not None and self._until(first) <= anyio.current_time():
            del self._begun[first]
            self._forget(first)

    async def run(self) -> None:
        """Forget each entry at the end of its time, until cancelled."""
        while True:
            self.forget_old()
            if (first := next(iter(self._begun), None)) is not None:
                await anyio.sleep_until(self._until(first))
            else:
                self._added = anyio.Event()
                await self._added.wait()

    def _until(self, name: str) -> float:
        return self._begun[name] + self._keep_s

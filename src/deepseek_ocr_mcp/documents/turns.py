"""Lets clients take turns at the decoders, so that no client waits behind all calls of another."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

__all__ = ["Turns"]


class Turns:
    """A semaphore that goes round among clients. The calls of one client keep their order."""

    def __init__(self, places: int = 1) -> None:
        """
        Args:
            places: holders at once.
        """
        self._free = places
        self._waiting: dict[str, deque[anyio.Event]] = {}
        """The calls that wait, by client. The client whose turn is next stands first."""

    def __repr__(self) -> str:
        waiting = sum(map(len, self._waiting.values()))
        return f"<Turns {self._free} free, {waiting} of {len(self._waiting)} clients wait>"

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for this client's turn, and hold a place while the context lasts."""
        await self._acquire(client)
        try:
            yield
        finally:
            self._pass_on()

    async def _acquire(self, client: str) -> None:
        if self._free:  # then nobody waits
            self._free -= 1
            return
        place = anyio.Event()
        self._waiting.setdefault(client, deque()).append(place)
        try:
            await place.wait()
        except BaseException:
            if place.is_set():  # it got its turn in the moment in which it was cancelled
                self._pass_on()
            else:
                self._waiting[client].remove(place)
                if not self._waiting[client]:
                    del self._waiting[client]
            raise

    def _pass_on(self) -> None:
        if not self._waiting:
            self._free += 1
            return
        client = next(iter(self._waiting))
        places = self._waiting.pop(client)
        places.popleft().set()
        if places:
            self._waiting[client] = places  # behind all others

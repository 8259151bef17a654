"""Progress of a request as one number that only rises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import anyio.to_thread

from ..errors import cause_of
from .admission import Place
from .jobs import LOADING_SHARE

__all__ = ["OnPosition", "Progress", "ProgressReport", "RisingProgress", "position_as_progress", "positions_reported"]

LEAST_STEP: Final = 0.02  # of a page: a client redraws its bar for each step of progress

Progress = Callable[[float, float, str], Awaitable[None]]
"""Called with pages done, pages in all, and a sentence; the first strictly increases."""

OnPosition = Callable[[int], Awaitable[None]]
"""Called with the number of requests before this one, while there are any; then with 0."""


class RisingProgress:
    """Tells only what is more than before: where a request stands and what is read of it are told by two tasks."""

    def __init__(self, report: Progress) -> None:
        self._report = report
        self._last = -1.0

    async def __call__(self, done: float, total: float, message: str) -> None:
        if done > self._last:
            self._last = done
            await self._report(done, total, message)


class ProgressReport:
    """Turns what a job tells into one strictly increasing number of pages done."""

    def __init__(self, report: Progress | None, total: int, place: Place) -> None:
        self._place = place
        self._report = report
        self._total = total
        self._last = -1.0

    async def __call__(self, done: float, message: str) -> None:
        if done >= LOADING_SHARE:
            self._place.begin()
        if self._report is None or done < self._last + LEAST_STEP:
            return
        self._last = done
        await self._report(round(done, 3), float(self._total), message)


def position_as_progress(report: Progress | None) -> OnPosition | None:
    """Tells the position as progress, between nothing and the first of the reading itself."""
    if report is None:
        return None
    most = 0

    async def told(position: int) -> None:
        nonlocal most
        most = max(most, position)
        if position:
            requests = "1 request is" if position == 1 else f"{position} requests are"
            done = LOADING_SHARE / 4 * (1 - position / most)
            await report(round(done, 4), 1.0, f"waiting: {requests} before this one")

    return told


@asynccontextmanager
async def positions_reported(place: Place, on_position: OnPosition | None) -> AsyncIterator[None]:
    """Tell the position while it waits; whoever is the next at once is told nothing."""
    if on_position is None or not place.ahead:
        yield
        return

    async def tell() -> None:
        async for position in place.positions():
            await on_position(position)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tell)
            yield
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise cause_of(group) from None

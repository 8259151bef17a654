"""The progress of a request, as one number that only rises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

import anyio
import anyio.to_thread

from ..documents.source import Snapshot
from ..errors import cause_of
from .admission import Place
from .jobs import LOADING_SHARE, OnPages

__all__ = [
    "OnPosition",
    "Progress",
    "ProgressReport",
    "RisingProgress",
    "Terms",
    "position_as_progress",
    "positions_reported",
]

LEAST_STEP: Final = 0.02  # part of a page; a client redraws its bar for each step of progress
LEAST_S: Final = 0.1  # between two steps; nobody sees more, and each takes time from the engine

Progress = Callable[[float, float, str], Awaitable[None]]
"""Gets the number of pages done, the number of all pages, and a sentence. The first number strictly increases. While a
request waits for its turn, the number of its pages is not known, and the second number is 1."""

OnPosition = Callable[[int], Awaitable[None]]
"""Gets the number of requests before this one while there are any, then 0."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The way in which a caller wants its answer."""

    reply_s: float = inf
    """Seconds within which the answer comes, with the pages that are read by then. The other pages are read on, and so
    are the pages that the next call will ask for. Infinite: the answer has all pages, however long they take."""
    upload: Snapshot | None = None
    """The document, if the caller sent one: then `request.image` is ignored."""
    password: str = field(default="", repr=False)
    """The password of a locked PDF, or of the locked PDFs in a folder."""
    place: Place | None = None
    """The caller's place in the queue, if it has one already."""
    keep_document: bool = False
    """Whether the answer keeps the document, which can then be opened until the caller lets it go."""
    on_progress: Progress | None = None
    on_position: OnPosition | None = None
    """Called while requests stand before this one. If it is None, `on_progress` is called."""
    on_pages: OnPages | None = None
    """Gets pages as they are read, while others are still to be read. The answer repeats them."""

    def rising(self) -> Terms:
        """The same terms, with progress that only rises."""
        return self if self.on_progress is None else replace(self, on_progress=RisingProgress(self.on_progress))


class RisingProgress:
    """Passes progress on if it is beyond the last.

    Two tasks report on a request: one on its place in the queue, one on its pages.
    """

    def __init__(self, report: Progress) -> None:
        self._report = report
        self._last = -1.0

    async def __call__(self, done: float, total: float, message: str) -> None:
        if done > self._last:
            self._last = done
            await self._report(done, total, message)


class ProgressReport:
    """Turns the progress of a job into one strictly increasing number of pages done.

    Args:
        report: is told each step; None: nobody asks.
        total: the number of pages.
        place: the place in the queue.
    """

    def __init__(self, report: Progress | None, total: int, place: Place) -> None:
        self._place = place
        self._report = report
        self._total = total
        self._last = -1.0
        self._next = -inf
        """The time from which the next step may be reported."""

    async def __call__(self, done: float, message: str) -> None:
        if done >= LOADING_SHARE:
            self._place.begin()
        now = anyio.current_time()
        if self._report is None or done < self._last + LEAST_STEP or now < self._next:
            return
        self._last, self._next = done, now + LEAST_S
        await self._report(round(done, 3), float(self._total), message)


def position_as_progress(report: Progress | None) -> OnPosition | None:
    """Reports the position in the queue as progress, below the first progress of the reading itself."""
    if report is None:
        return None
    most = 0

    async def report_position(position: int) -> None:
        nonlocal most
        most = max(most, position)
        if position:
            requests = "1 request is" if position == 1 else f"{position} requests are"
            done = LOADING_SHARE / 4 * (1 - position / most)
            await report(round(done, 4), 1.0, f"waiting: {requests} before this one")

    return report_position


@asynccontextmanager
async def positions_reported(place: Place, on_position: OnPosition | None) -> AsyncIterator[None]:
    """Report the position while the request waits. A request that is the next at once reports nothing."""
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

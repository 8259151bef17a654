"""Admits requests: a bounded number at once, and from one client at most half of that number, but one at least.

A request beyond the bound is refused at once, with the seconds after which a place is likely free. Only
`Place.positions` waits. The lifecycle decides which page the engine reads next.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

from ..errors import QueueFull

__all__ = ["Admission", "Place"]


REMEMBERED: Final = 16  # requests whose pace predicts when the next place is free
FIRST_GUESS_S: Final = 5.0  # the guess while no request has ended
LONGEST_S: Final = 120.0  # no longer wait is promised: the pace of the last requests does not tell it


class Place:
    """One request's place, from its first byte to its last."""

    def __init__(self, line: Admission) -> None:
        self._line = line
        self._begun = False
        self.order: int | None = None
        """The number of the request in the line; None while its upload comes in."""
        self.changed = anyio.Event()

    def line_up(self) -> None:
        """Take a place in the line: the request has arrived in full."""
        if self.order is None:
            self.order = self._line.line_up()

    def begin(self) -> None:
        """Note that the reading has begun."""
        if not self._begun:
            self._begun = True
            self.changed.set()

    @property
    def ahead(self) -> int:
        """The number of requests that came before this one and are not done; 0 when this one is next or being read."""
        return 0 if self._begun or self.order is None else self._line.before(self.order)

    async def positions(self) -> AsyncIterator[int]:
        """The value of `ahead`: now, and whenever it changes, until it is 0."""
        last = -1
        with self._line.telling(self):
            while last:
                self.changed = anyio.Event()
                if self.ahead == last:
                    await self.changed.wait()
                    continue
                last = self.ahead
                yield last


class Admission:
    """The places of all requests.

    Args:
        limit: requests that have a place at once.
        clock: seconds; default: the clock of the event loop.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = anyio.current_time) -> None:
        self.limit = limit
        self.share = max(1, limit // 2)
        self._clock = clock
        self._held = 0
        self._orders: list[int] = []
        """The orders of the requests that have arrived in full, ascending."""
        self._listening: set[Place] = set()
        self._arrivals = 0
        self._of_client: Counter[str] = Counter()
        self._since = 0.0
        """The time when the last request ended, or when the line began after a pause. The pace is counted from it."""
        self._pace: deque[float] = deque(maxlen=REMEMBERED)

    def __len__(self) -> int:
        return self._held

    def __repr__(self) -> str:
        return f"<Admission {len(self)} of {self.limit}>"

    @property
    def full(self) -> bool:
        return self._held >= self.limit

    @contextmanager
    def place(self, client: str) -> Iterator[Place]:
        """Hold a place.

        Raises:
            QueueFull: no place is free, or this client has its share.
        """
        self._check(client)
        if not self._held:
            self._since = self._clock()
        place = Place(self)
        self._held += 1
        self._of_client[client] += 1
        try:
            yield place
        finally:
            self._held -= 1
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]
            now = self._clock()
            self._pace.append(now - self._since)
            self._since = now
            if place.order is not None:
                del self._orders[self.before(place.order)]
                for other in self._listening:
                    other.changed.set()

    def line_up(self) -> int:
        """Number a request that has arrived in full. Returns its order."""
        self._arrivals += 1
        self._orders.append(self._arrivals)
        return self._arrivals

    @contextmanager
    def telling(self, place: Place) -> Iterator[None]:
        """A context in which this place wakes up whenever the line moves."""
        self._listening.add(place)
        try:
            yield
        finally:
            self._listening.discard(place)

    def before(self, order: int) -> int:
        """The number of requests in the line that arrived before the one with this number."""
        return bisect.bisect_left(self._orders, order)

    def _check(self, client: str) -> None:
        mine = self._of_client[client]
        if self.full:
            reason = f"{len(self)} requests wait or are being read, as many as this server takes"
        elif mine >= self.share:
            reason = f"{mine} of your requests wait or are being read, as many as one client may have"
        else:
            return
        seconds = self.next_free_s()
        raise QueueFull(
            f"The queue is full: {reason}.",
            remedy=f"Send the request again in {seconds} s, or fewer at once. The operator sets OCR_MAX_QUEUE.",
            retry_after_s=seconds,
        )

    def next_free_s(self) -> int:
        """The whole seconds after which a place is likely free, by the pace of the last requests."""
        waited = self._clock() - self._since
        guess = sum(self._pace) / len(self._pace) if self._pace else FIRST_GUESS_S
        # A request that has taken longer than usual is likely to take as long again.
        return math.ceil(min(LONGEST_S, max(1.0, guess, waited)))

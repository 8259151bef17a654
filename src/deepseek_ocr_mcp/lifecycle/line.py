"""Decides whose pages are read next, by the line of waiting parts and the last turns. No model and no worker is asked.

Pages that a caller waits for come before pages that are read ahead. Among equals the client whose last turn is longest
ago comes first, and the requests of one client keep their order. So neither a long document nor a client with many
requests makes another client wait for more than one batch.

`WaitingLine` only orders. A caller waits on its `RequestPart`, which takes times from the clock of the event loop and
limits the pace of progress. So both need a running event loop; in tests its clock is virtual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import anyio

from ..engines.base import PageImage, ReadOptions
from ..errors import OcrError
from ..logs import request_id
from ..worker.client import OnProgress
from ..worker.protocol import PROGRESS_EVERY_S

__all__ = ["RequestPart", "WaitingLine"]


@dataclass(slots=True, eq=False)
class RequestPart:
    """A part of a request: the pages that it waits for at once."""

    pages: Sequence[PageImage]
    options: ReadOptions
    client: str = ""
    """The name of the client. All parts of a client share its turns."""
    background: Callable[[], bool] = lambda: False
    """Tells whether no caller waits for the pages. It is called when a turn is given, because a caller may have
    come."""
    alone: bool = False
    """Whether it is read in a batch of its own: its last batch failed, and other parts must not fail with it."""
    request: str = field(default_factory=request_id)
    """The id of the request, for log lines."""
    ticket: int = -1
    crashes: int = 0
    joined: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    device: str = ""
    found: dict[int, dict[str, Any]] = field(default_factory=dict)
    """The pages that are read, by their places in `pages`. They stay if the worker is lost over the others."""
    result: list[dict[str, Any]] | None = None
    error: OcrError | None = None
    _news: anyio.Event = field(default_factory=anyio.Event)
    _over: anyio.Event = field(default_factory=anyio.Event)
    _progress: tuple[float, str] = (0.0, "")
    _next_news: float = 0.0

    @property
    def unread(self) -> list[int]:
        """The places in `pages` of those that are not read yet."""
        return [place for place in range(len(self.pages)) if place not in self.found]

    def tell(self, done: float, message: str) -> None:
        """Note the progress. The caller gets only the latest, at its own pace."""
        self._progress = (done, message)
        self._news.set()

    def answer(self, result: list[dict[str, Any]]) -> None:
        """End the wait with pages as they were read."""
        self._end(result, None)

    def fail(self, error: OcrError) -> None:
        """End the wait with an error, if it has not ended already."""
        self._end(None, error)

    def send_back(self) -> None:
        """End the wait without a result. Its caller then asks for the model, and joins the line again."""
        self._end(None, None)

    def _end(self, result: list[dict[str, Any]] | None, error: OcrError | None) -> None:
        if not self._over.is_set():
            self.result, self.error = result, error
            self.ended = anyio.current_time()
            self._over.set()
            self._news.set()

    async def news(self) -> tuple[float, str] | None:
        """Wait for the latest progress, which comes at most every `PROGRESS_EVERY_S`; None as soon as the wait is
        over."""
        await self._news.wait()
        with anyio.move_on_after(max(0.0, self._next_news - anyio.current_time())):
            await self._over.wait()
        if self._over.is_set():
            return None
        self._news = anyio.Event()
        self._next_news = anyio.current_time() + PROGRESS_EVERY_S
        return self._progress

    async def follow(self, on_progress: OnProgress | None) -> None:
        """Return when the wait is over, and report the progress until then."""
        while (news := await self.news()) is not None:
            if on_progress is not None:
                await on_progress(*news)

    def begin(self) -> None:
        """Begin the wait, for the first time or again."""
        self._news, self._over = anyio.Event(), anyio.Event()
        self.joined, self.started = anyio.current_time(), 0.0
        self._next_news = self.joined + PROGRESS_EVERY_S


class WaitingLine:
    """The line of waiting parts."""

    def __init__(self) -> None:
        self._waiting: list[RequestPart] = []
        self._tickets = count()
        self._turns = count()
        self._last_turn: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[RequestPart]:
        return iter(self._waiting)

    def __repr__(self) -> str:
        return f"<Line {len(self._waiting)} waiting>"

    def join(self, part: RequestPart) -> None:
        """Add a part. A part that joins again keeps its first place."""
        if part.ticket < 0:
            part.ticket = next(self._tickets)
        part.begin()
        self._waiting.append(part)

    def leave(self, part: RequestPart) -> bool:
        """Remove a part. Returns whether it stood in this line."""
        try:
            self._waiting.remove(part)
        except ValueError:
            return False
        return True

    def take_all(self) -> list[RequestPart]:
        """Remove all parts, in no order."""
        parts, self._waiting = self._waiting, []
        return parts

    def next_part(self, may: Callable[[RequestPart], bool]) -> RequestPart | None:
        """Take the next part, if `may` allows it. Where it does not, no other part comes before it."""
        first = self._next(self._waiting)
        if first is None or not may(first):
            return None
        self._took(first)
        self._forget_turns()
        return first

    def next_batch(self, most_pages: int, may: Callable[[RequestPart], bool] = lambda part: True) -> list[RequestPart]:
        """Take the parts of the next batch: the next part, and others with the same options as long as they fit.

        Args:
            most_pages: pages of a batch. A first part with more pages is a batch of its own.
            may: tells whether the caller of this method may take a part.
        """
        first = self._next(filter(may, self._waiting))
        if first is None:
            return []
        in_background = first.background()
        batch, size = [self._took(first)], len(first.pages)
        while not first.alone:
            mate = self._next(
                part
                for part in self._waiting
                if part.options == first.options
                and part.background() == in_background
                and not part.alone
                and may(part)
                and size + len(part.pages) <= most_pages
            )
            if mate is None:
                break
            batch.append(self._took(mate))
            size += len(mate.pages)
        self._forget_turns()
        return batch

    def _forget_turns(self) -> None:
        if not self._waiting:
            self._last_turn.clear()  # no client is owed a turn, and names of clients are not kept for ever

    def _next(self, parts: Iterable[RequestPart]) -> RequestPart | None:
        return min(
            parts,
            # A part that lost its turn to a crash gets another turn at once.
            key=lambda part: (part.background(), not part.crashes, self._last_turn.get(part.client, -1), part.ticket),
            default=None,
        )

    def _took(self, part: RequestPart) -> RequestPart:
        self._waiting.remove(part)
        self._last_turn[part.client] = next(self._turns)
        return part

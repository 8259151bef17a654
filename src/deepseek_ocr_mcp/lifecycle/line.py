"""Decides who reads next, from the parts in the line and the last turns; no model and no worker is asked.

Pages that a caller waits for stand before pages that are read ahead for nobody yet; among equals the client
whose last turn is longest ago comes first, and each client's own requests keep their order. So neither a long
document nor a client with many requests makes another wait for more than one batch.

`Line` only orders. A `Part` is also what its caller waits on: it takes times from the event loop's clock and paces
the progress that it passes on, so both need a running event loop; in tests that clock is virtual.
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

__all__ = ["Part", "WaitingLine"]


@dataclass(slots=True, eq=False)
class Part:
    """Some pages of one request, as it waits for them."""

    pages: Sequence[PageImage]
    options: ReadOptions
    client: str = ""
    """Who asks: all that one client asks for shares its turns."""
    background: Callable[[], bool] = lambda: False
    """Whether nobody waits for it. Asked when a turn is given: somebody may have come meanwhile."""
    alone: bool = False
    """Whether it shares a batch no more: its last one failed, and mates must not suffer for each other."""
    request: str = field(default_factory=request_id)
    """For the lines of the log."""
    ticket: int = -1
    crashes: int = 0
    joined: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    device: str = ""
    result: list[dict[str, Any]] | None = None
    error: OcrError | None = None
    _news: anyio.Event = field(default_factory=anyio.Event)
    _over: anyio.Event = field(default_factory=anyio.Event)
    _progress: tuple[float, str] = (0.0, "")
    _next_news: float = 0.0

    def tell(self, done: float, message: str) -> None:
        """Note the progress. The caller that waits hears of the latest only, at its own pace."""
        self._progress = (done, message)
        self._news.set()

    def answer(self, result: list[dict[str, Any]]) -> None:
        """End the wait with pages as they were read."""
        self._end(result, None)

    def fail(self, error: OcrError) -> None:
        """End the wait with an error. A wait that has ended already stays as it is."""
        self._end(None, error)

    def send_back(self) -> None:
        """End the wait without an outcome: its caller asks for the model and joins the line again."""
        self._end(None, None)

    def _end(self, result: list[dict[str, Any]] | None, error: OcrError | None) -> None:
        if not self._over.is_set():
            self.result, self.error = result, error
            self.ended = anyio.current_time()
            self._over.set()
            self._news.set()

    async def news(self) -> tuple[float, str] | None:
        """The latest progress, at most every `PROGRESS_EVERY_S`; None, at once, when it is over."""
        await self._news.wait()
        with anyio.move_on_after(max(0.0, self._next_news - anyio.current_time())):
            await self._over.wait()
        if self._over.is_set():
            return None
        self._news = anyio.Event()
        self._next_news = anyio.current_time() + PROGRESS_EVERY_S
        return self._progress

    async def follow(self, on_progress: OnProgress | None) -> None:
        """Return when it is over; tell the progress on the way."""
        while (news := await self.news()) is not None:
            if on_progress is not None:
                await on_progress(*news)

    def begin(self) -> None:
        """Wait from now on, for the first time or again."""
        self._news, self._over = anyio.Event(), anyio.Event()
        self.joined, self.started = anyio.current_time(), 0.0
        self._next_news = self.joined + PROGRESS_EVERY_S


class WaitingLine:
    """The parts that wait."""

    def __init__(self) -> None:
        self._waiting: list[Part] = []
        self._tickets = count()
        self._turns = count()
        self._last_turn: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Part]:
        return iter(self._waiting)

    def __repr__(self) -> str:
        return f"<Line {len(self._waiting)} waiting>"

    def join(self, part: Part) -> None:
        """Stand in line. Who joins again keeps the place of the first time."""
        if part.ticket < 0:
            part.ticket = next(self._tickets)
        part.begin()
        self._waiting.append(part)

    def leave(self, part: Part) -> bool:
        """Step out. False: it did not stand here."""
        try:
            self._waiting.remove(part)
        except ValueError:
            return False
        return True

    def take_all(self) -> list[Part]:
        """Everybody, in no order; the line is empty afterwards."""
        everybody, self._waiting = self._waiting, []
        return everybody

    def next_batch(self, most_pages: int, may: Callable[[Part], bool] = lambda part: True) -> list[Part]:
        """Take the parts to read at once: the next one, and others with the same options while they fit.

        Args:
            most_pages: of the batch; a first part with more of them goes alone.
            may: whether whoever asks may have this part.
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
        if not self._waiting:
            self._last_turn.clear()  # nobody is owed a turn, and names are not kept for ever
        return batch

    def _next(self, parts: Iterable[Part]) -> Part | None:
        return min(
            parts,
            # A part whose turn was lost to a crash has it again at once.
            key=lambda part: (part.background(), not part.crashes, self._last_turn.get(part.client, -1), part.ticket),
            default=None,
        )

    def _took(self, part: Part) -> Part:
        self._waiting.remove(part)
        self._last_turn[part.client] = next(self._turns)
        return part

"""Reads the pages that wait with one worker, batch after batch, and gives every caller its own pages or its own error.

- A batch is read under the manager's lock. Its pages are chosen when the lock is held (`line.WaitingLine`).
- If the worker or its card is lost over a batch, the batch is read once more, request by request. So is a batch of
  several requests that the engine refused: no request fails for the page of another.
- A caller that goes away takes its own pages out of the batch. The batch is cancelled when no caller is left in it.
- Pages join a batch that is being read where its engine says that one of them can begin at once. Only the next part in
  line joins; where it may not, none does, and the batch ends soon. So neither another mode nor a move of the model
  waits longer than the pages take that are in the batch.
- A caller gets its pages when the last of them is read, whatever else is in the batch. Pages that are read stay read,
  even if the worker is lost over the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final, Protocol

import anyio
import anyio.abc

from ..engines import EngineSpec
from ..errors import Cancelled, GpuLost, OcrError, WorkerCrashed, closing, unforeseen
from ..logs import serve_now, serving
from ..observer import Observer
from ..worker.client import OnFrame, OnProgress, WorkerDied, describe_exit
from .base import PagesRead
from .line import RequestPart, WaitingLine

__all__ = ["Batches", "PageReader", "crashed"]

log = logging.getLogger(__name__)

READ_ATTEMPTS: Final = 2  # the first attempt, and one in a fresh worker
MOST_PAGES: Final = 256
"""No part joins a batch that has so many pages: both processes remember them until its end. When such a batch comes to
its end, only its last 32 pages are left: a twentieth of its steps."""


class PageReader(Protocol):
    """The owner of the worker, as far as `Batches` uses it; a `manager.ModelManager`."""

    @property
    def engine(self) -> EngineSpec: ...
    @property
    def observer(self) -> Observer: ...
    @property
    def device(self) -> str: ...
    @property
    def lock(self) -> anyio.Lock: ...
    @property
    def model(self) -> str: ...
    def is_ready(self) -> bool:
        """Whether the worker can read now."""
        ...

    async def ready(self) -> None:
        """Return when the worker can read. Raises the error of the load."""
        ...

    async def call(
        self, method: str, arguments: Mapping[str, Any], timeout: float, on_frame: OnFrame | None = None
    ) -> dict[str, Any]:
        """Call the worker; see `ModelManager.call`. Caller holds the lock."""
        ...

    async def add(self, pages: Sequence[Mapping[str, Any]], seconds: float) -> None:
        """Add pages to the batch that the worker reads, and seconds to its time limit."""
        ...

    async def drop(self, pages: Sequence[int]) -> None:
        """Tell the worker that nobody waits for these pages of its batch any more."""
        ...

    async def replace_spoiled(self, why: str) -> None:
        """End a worker that must not read again. Caller holds the lock."""
        ...


@dataclass(slots=True, eq=False)
class _Flight:
    """A batch that is being read: its parts, and the places of their pages."""

    first: RequestPart
    parts: list[RequestPart] = field(default_factory=list)
    """The parts with pages that are not read yet."""
    sent: list[tuple[RequestPart, int]] = field(default_factory=list)
    """Each page of the batch, in its order: its part, and its place there."""
    room: int = 0
    """The pages, counted from the first of the batch, that the engine can have begun by now; 0: none may join."""
    left: set[RequestPart] = field(default_factory=set)
    """Parts whose callers went away."""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    is_fed: bool = False
    """Whether a task is adding pages."""
    counted: float = field(default_factory=anyio.current_time)
    """The time when pages were counted last."""

    @property
    def requests(self) -> list[str]:
        """The ids of the requests that wait for pages of this batch."""
        return [part.request for part in self.parts]

    def enter(self, part: RequestPart, device: str) -> list[dict[str, Any]]:
        """Take in the unread pages of a part. Returns their fields."""
        part.started, part.device = anyio.current_time(), device
        self.parts.append(part)
        self.sent += [(part, place) for place in part.unread]
        return [asdict(part.pages[place]) for place in part.unread]

    def may_join(self, part: RequestPart) -> bool:
        """Whether a part may be read with those that are here, and one of its pages can begin at once."""
        return (
            len(self.sent) < min(self.room, MOST_PAGES)
            and not self.scope.cancel_called
            and not (part.alone or self.first.alone)
            and part.options == self.first.options
            and (not part.background() or all(mate.background() for mate in self.parts))
        )

    def places(self, part: RequestPart) -> list[int]:
        """The numbers in the batch that this part's pages have."""
        return [number for number, (owner, _) in enumerate(self.sent) if owner is part]

    def finish(self, number: int, page: dict[str, Any]) -> None:
        """Note a page that is read. A part whose last page it is has its answer."""
        part, place = self.sent[number]
        part.found[place] = page
        if not part.unread and part in self.parts:
            self.parts.remove(part)
            part.answer([part.found[place] for place in range(len(part.pages))])

    def tell(self, frame: Mapping[str, Any]) -> None:
        """Pass the progress of the worker on: of its own pages to each part, where the engine tells it by pages."""
        done, message = float(frame["progress"]), str(frame["message"])
        shares = dict(frame["shares"]) if "shares" in frame else None
        for part in self.parts:
            part.tell(done if shares is None else self._share(part, shares), message)

    def _share(self, part: RequestPart, shares: Mapping[int, float]) -> float:
        """The share of a part that is read, from 0 to 1."""
        begun = (shares.get(number, 0.0) for number in self.places(part) if self.sent[number][1] not in part.found)
        return (len(part.found) + sum(begun)) / len(part.pages)

    def fail(self, error: OcrError) -> None:
        """End the wait of every part that still waits."""
        for part in self.parts:
            part.fail(error)

    def send_back(self) -> None:
        """Send back what joined too late to be read: its caller asks again."""
        for part in self.parts:
            part.send_back()

    def lost_its_worker(self, cause: WorkerDied | GpuLost) -> None:
        """Send every part back, or fail it if all its attempts are used up."""
        for part in self.parts:
            part.alone = True
            part.crashes += 1
            if part.crashes < READ_ATTEMPTS:
                part.send_back()
            else:
                part.fail(crashed(cause) if isinstance(cause, WorkerDied) else cause)

    def was_refused(self, error: OcrError) -> None:
        """Fail a part that was alone. Send several back, because the error may be about the page of one.

        `Cancelled` is an error for all of them.
        """
        if len(self.parts) == 1 or isinstance(error, Cancelled):
            self.fail(error)
            return
        for part in self.parts:
            part.alone = True
            part.send_back()


class Batches:
    """The line of pages in front of one worker.

    Args:
        reader: the owner of the worker.
        page_timeout: seconds that a page may take.
    """

    def __init__(self, reader: PageReader, page_timeout: float) -> None:
        self._reader = reader
        self._page_timeout = page_timeout
        self._line = WaitingLine()
        self._batch: _Flight | None = None
        self._line_is_read = False
        self.served = 0
        """The number of pages that were read."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when pages may join the batch that is being read, and none waits here."""

    def __repr__(self) -> str:
        return f"<Batches {len(self._line)} in line, {self.served} pages served>"

    async def read(self, part: RequestPart, on_progress: OnProgress | None, tasks: anyio.abc.TaskGroup) -> PagesRead:
        """Read the pages of a part; see `ModelManager.read`.

        Args:
            part: the pages.
            on_progress: gets the progress, from 0 to 1, and a sentence.
            tasks: the task group in which batches are read. It outlives the caller.
        """
        queued_s = load_s = 0.0
        while part.result is None:
            began = anyio.current_time()
            try:
                await self._reader.ready()
            except GpuLost:
                part.crashes += 1
                if part.crashes == READ_ATTEMPTS:
                    raise
                continue
            finally:
                load_s += anyio.current_time() - began
            self._line.join(part)
            if not self._line_is_read:
                self._line_is_read = True
                tasks.start_soon(self._read_line)
            elif self._batch is not None:
                tasks.start_soon(self._feed, self._batch)
            try:
                await part.follow(on_progress)
            except BaseException:
                self._step_out(part, tasks)
                raise
            if part.error is not None:
                raise part.error
            queued_s += (part.started or part.ended) - part.joined
        infer_s = part.ended - part.started
        return PagesRead(
            part.result, self._reader.engine.name, self._reader.model, part.device, queued_s, load_s, infer_s
        )

    def may_join(self, part: RequestPart) -> bool:
        """Whether a part that asked now would join the batch that is being read, before any other."""
        return self._batch is not None and not self._line and self._takes_more(self._batch, part)

    @property
    def is_joined(self) -> bool:
        """Whether parts are on their way into the batch that is being read. `on_room` is called afterwards."""
        batch = self._batch
        return batch is not None and (batch.is_fed or any(self._takes_more(batch, part) for part in self._line))

    def _takes_more(self, batch: _Flight, part: RequestPart) -> bool:
        """Whether a part may join a batch. None joins while a task waits for the lock: it moves the model, and has
        waited for its turn like a batch."""
        return batch is self._batch and not self._reader.lock.statistics().tasks_waiting and batch.may_join(part)

    def _step_out(self, part: RequestPart, tasks: anyio.abc.TaskGroup) -> None:
        """Take out the pages of a part whose caller went away."""
        batch = self._batch
        if self._line.leave(part) or batch is None or part not in batch.parts:
            return
        batch.left.add(part)
        if batch.left.issuperset(batch.parts):
            batch.scope.cancel()
        else:
            tasks.start_soon(self._reader.drop, [place for place in batch.places(part) if place not in part.found])

    async def _read_line(self) -> None:
        """Read batch after batch until the line is empty."""
        try:
            while self._line:
                async with self._reader.lock:
                    if self._reader.is_ready():
                        await self._read_batch(self._line.next_batch(self._reader.engine.shared_pages))
                    else:  # the model was released: each part asks for it, and joins the line again
                        for part in self._line.take_all():
                            part.send_back()
        finally:
            self._line_is_read = False
            for part in self._line.take_all():  # parts are left only if the server closes
                part.fail(closing())

    async def _read_batch(self, parts: list[RequestPart]) -> None:
        """Read the pages of these parts, and of those that join them. Caller holds the lock. Afterwards every part has
        its answer or was sent back."""
        if not parts:
            return  # all callers went away before the lock was free
        self._batch = batch = _Flight(parts[0])
        try:
            with batch.scope, serving(*(part.request for part in parts)):
                pages = [page for part in parts for page in batch.enter(part, self._reader.device)]
                arguments = {"pages": pages, "options": asdict(parts[0].options)}
                reply = await self._reader.call(
                    "read", arguments, self._page_timeout * len(pages), partial(self._hear, batch)
                )
                self._finish(batch, {n: page for n, page in enumerate(reply["pages"]) if page is not None})
                batch.send_back()
                if why := reply.get("spoiled"):
                    await self._reader.replace_spoiled(str(why))
        except (WorkerDied, GpuLost) as exc:
            batch.lost_its_worker(exc)
        except OcrError as exc:
            batch.was_refused(exc)
        except Exception as exc:
            log.exception("A batch failed in a way that this program does not foresee.")
            batch.fail(unforeseen(exc))
        finally:
            self._batch = None
            batch.fail(closing())  # a part that still waits was cancelled with the server

    async def _hear(self, batch: _Flight, frame: Mapping[str, Any]) -> float | None:
        """Take in what the worker sends while it reads a batch; see `worker.protocol` and `worker.client.OnFrame`."""
        seconds = None
        if "progress" in frame:
            batch.tell(frame)
        elif "room" in frame:
            batch.room = int(frame["room"])
            await self._feed(batch)
        elif "page" in frame:
            self._finish(batch, {int(frame["page"]): frame["answer"]})
            seconds = self._page_timeout * max(1, sum(len(part.unread) for part in batch.parts))
        serve_now(*batch.requests)  # for the lines of this task; some may have joined in another
        return seconds

    async def _feed(self, batch: _Flight) -> None:
        """Add the next parts in line to a batch that is being read, as long as they may join it."""
        if batch.is_fed:
            return  # frames are sent in the order in which their pages are numbered
        batch.is_fed = True
        try:
            while part := self._line.next_part(partial(self._takes_more, batch)):
                pages = batch.enter(part, self._reader.device)
                with serving(*batch.requests):
                    await self._reader.add(pages, self._page_timeout * len(pages))
        finally:
            batch.is_fed = False
        if not self._line:
            self.on_room()

    def _finish(self, batch: _Flight, pages: Mapping[int, dict[str, Any]]) -> None:
        """Give pages that are read to their parts, and count them."""
        if not pages:
            return
        for number, page in pages.items():
            batch.finish(number, page)
        now = anyio.current_time()
        seconds, batch.counted = now - batch.counted, now
        self.served += len(pages)
        tokens = [page["tokens"] for page in pages.values() if page.get("tokens") is not None]
        with serving(*(batch.sent[number][0].request for number in pages)):
            name, written = self._reader.engine.name, sum(tokens) if tokens else None
            self._reader.observer.pages_read(name, len(pages), written, seconds)


def crashed(died: WorkerDied) -> WorkerCrashed:
    """The error for the callers of a dead worker, with the end of its stderr."""
    last_words = f" Its last words: {died.last_words}" if died.last_words else ""
    killed = died.returncode == -9
    return WorkerCrashed(
        f"The worker process ended with {describe_exit(died.returncode)}.{last_words}",
        remedy="SIGKILL mostly means that the machine ran out of memory: free some, or send smaller pages."
        if killed
        else "Send the page again; if it happens again, the page or the engine is at fault.",
    )

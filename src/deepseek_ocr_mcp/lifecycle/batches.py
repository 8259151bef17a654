"""Reads the pages that wait with one worker, batch after batch, and gives every caller its own pages or its own error.

- A batch is read under the manager's lock. Its pages are chosen when the lock is held (`line.WaitingLine`).
- If the worker or its card is lost over a batch, the batch is read once more, request by request. So is a batch of
  several requests that the engine refused: no request fails for the page of another.
- A caller that goes away takes its own pages out of the batch. The batch is cancelled when no caller is left in it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

import anyio
import anyio.abc

from ..engines import EngineSpec
from ..engines.base import PageImage
from ..errors import Cancelled, GpuLost, OcrError, WorkerCrashed, closing, unforeseen
from ..logs import serving
from ..observer import Observer
from ..worker.client import OnProgress, WorkerDied, describe_exit
from .base import PagesRead
from .line import Part, WaitingLine

__all__ = ["Batches", "PageReader", "crashed"]

log = logging.getLogger(__name__)

READ_ATTEMPTS: Final = 2  # the first attempt, and one in a fresh worker


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
        self, method: str, arguments: Mapping[str, Any], timeout: float, on_progress: OnProgress | None = None
    ) -> dict[str, Any]:
        """Call the worker; see `ModelManager.call`. Caller holds the lock."""
        ...

    async def drop(self, pages: Sequence[int]) -> None:
        """Tell the worker that nobody waits for these pages of its batch any more."""
        ...

    async def replace_spoiled(self, why: str) -> None:
        """End a worker that must not read again. Caller holds the lock."""
        ...


@dataclass(slots=True, eq=False)
class _Flight:
    """Parts that are read together."""

    parts: list[Part]
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    left: set[int] = field(default_factory=set)
    """Indices of the parts whose callers went away."""

    @property
    def pages(self) -> list[PageImage]:
        return [page for part in self.parts for page in part.pages]

    def places(self, part: Part) -> range:
        """The indices of this part's pages in the batch."""
        start = sum(len(other.pages) for other in self.parts[: self.parts.index(part)])
        return range(start, start + len(part.pages))

    def arguments(self) -> dict[str, Any]:
        """The arguments of the worker's `read`."""
        return {"pages": [asdict(page) for page in self.pages], "options": asdict(self.parts[0].options)}

    def begin(self, device: str) -> None:
        now = anyio.current_time()
        for part in self.parts:
            part.started, part.device = now, device

    async def tell(self, done: float, message: str) -> None:
        """Pass the progress of the worker on to every part."""
        for part in self.parts:
            part.tell(done, message)

    def answer(self, pages: Sequence[dict[str, Any]]) -> None:
        """Give every part its own pages."""
        for part in self.parts:
            places = self.places(part)
            part.answer(list(pages[places.start : places.stop]))

    def fail(self, error: OcrError) -> None:
        """End the wait of every part that still waits."""
        for part in self.parts:
            part.fail(error)

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

    def __repr__(self) -> str:
        return f"<Batches {len(self._line)} in line, {self.served} pages served>"

    async def read(self, part: Part, on_progress: OnProgress | None, tasks: anyio.abc.TaskGroup) -> PagesRead:
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

    def _step_out(self, part: Part, tasks: anyio.abc.TaskGroup) -> None:
        """Take out the pages of a part whose caller went away."""
        batch = self._batch
        if self._line.leave(part) or batch is None or part not in batch.parts:
            return
        batch.left.add(batch.parts.index(part))
        if len(batch.left) == len(batch.parts):
            batch.scope.cancel()
        else:
            tasks.start_soon(self._reader.drop, list(batch.places(part)))

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

    async def _read_batch(self, parts: list[Part]) -> None:
        """Read the pages of these parts. Caller holds the lock. Afterwards every part has its answer or was sent
        back."""
        if not parts:
            return  # all callers went away before the lock was free
        self._batch = batch = _Flight(parts)
        batch.begin(self._reader.device)
        try:
            with batch.scope, serving(*(part.request for part in parts)):
                began = anyio.current_time()
                timeout = self._page_timeout * len(batch.pages)
                reply = await self._reader.call("read", batch.arguments(), timeout, batch.tell)
                self._count(reply["pages"], anyio.current_time() - began)
                batch.answer(reply["pages"])
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

    def _count(self, pages: Sequence[dict[str, Any]], seconds: float) -> None:
        self.served += len(pages)
        tokens = [page["tokens"] for page in pages if page.get("tokens") is not None]
        self._reader.observer.pages_read(self._reader.engine.name, len(pages), sum(tokens) if tokens else None, seconds)


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

"""Every page is read once, for all who ask for it, and is read on when whoever asked has been answered.

A job is an open document that is read with one set of options, batch by batch, while the next pages are drawn;
as many batches at once as the lifecycle has lanes.
A page that holds its text itself is not read: what it says is taken from it. Requests ask it for pages and follow
them; requests for the same pages share one job. A request that leaves takes
along what only it asked for. What is read for nobody yet comes after everything that somebody waits for, and stops
when the memory is wanted back.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import anyio.abc
import anyio.lowlevel
from pydantic import ValidationError

from ..documents.reader import Document, LayerText
from ..engines.base import CPU, PageImage, ReadOptions
from ..errors import Cancelled, EngineUnavailable, GpuBusy, OcrError, unforeseen
from ..lifecycle.base import Lifecycle, PagesRead
from ..logs import request_id, serving
from ..models import Block, Page
from ..modes import IGNORE_LAYER, ONLY_LAYER
from ..worker.client import OnProgress
from .cache import PageCache

__all__ = ["LOADING_SHARE", "TEXT_LAYER", "Ask", "Jobs", "ReadPage", "Spent"]


log = logging.getLogger(__name__)

LOADING_SHARE: Final = 0.04  # of a page, on the progress bar: what comes before the engine's own progress
TEXT_LAYER: Final = "text_layer"  # in the place of an engine, for pages that none has read
MAX_UNATTENDED: Final = 4  # documents that are read on for nobody yet, each with a copy of its file on disk


@dataclass(frozen=True, slots=True)
class ReadPage:
    """A page, and who read it."""

    page: Page
    engine: str
    model: str
    device: str
    remark: str = ""
    """A sentence for the caller; what an engine has read with one is not cached: it may come out better next time."""
    cached: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For the cache; `from_dict` is its inverse."""
        page = self.page.model_dump(mode="json", exclude_none=True)
        fields = {"page": page, "engine": self.engine, "model": self.model, "device": self.device}
        return fields | {"remark": self.remark} if self.remark else fields

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ReadPage:
        remark = data.get("remark", "")
        return cls(Page(**data["page"]), data["engine"], data["model"], data["device"], remark, cached=True)


@dataclass(slots=True)
class Spent:
    """Seconds that the pages of an ask took."""

    queued_s: float = 0.0
    load_s: float = 0.0
    infer_s: float = 0.0


class Ask:
    """Pages that somebody wants, in this order.

    Args:
        limit: characters after which no further page is wanted; None: all are.
        client: who asks, for a fair share of turns.
        background: whether nobody waits for it.
    """

    def __init__(
        self, numbers: Sequence[int], *, limit: int | None = None, client: str = "", background: bool = False
    ) -> None:
        self.numbers = numbers
        self.client = client
        self.background = background
        self.request = request_id()
        self.error: OcrError | None = None
        self.notes: list[str] = []
        self.spent = Spent()
        self._limit = limit
        self._pages: dict[int, ReadPage] = {}
        self._whole = 0  # pages from the first on that are there without a gap
        self._chars = 0  # of these
        self._told: deque[tuple[float, str]] = deque()
        self._changed = anyio.Event()

    def __repr__(self) -> str:
        return f"<Ask {len(self._pages)} of {len(self.numbers)}{' in background' if self.background else ''}>"

    def pages(self) -> list[ReadPage]:
        """What is there from the first page on, without a gap."""
        return [self._pages[number] for number in self.numbers[: self._whole]]

    def all_pages(self) -> list[ReadPage]:
        """Whatever is there, in order."""
        return [self._pages[number] for number in self.numbers if number in self._pages]

    @property
    def satisfied(self) -> bool:
        """Whether there is an error or enough text: then no further page is wanted."""
        return self.error is not None or (self._limit is not None and self._chars >= self._limit)

    def outstanding(self) -> list[int]:
        """The pages that are still wanted."""
        if self.satisfied:
            return []
        return [number for number in self.numbers[self._whole :] if number not in self._pages]

    def has(self, number: int) -> bool:
        return number in self._pages

    def give(self, read: ReadPage) -> None:
        """Deliver a page; one that was never asked for is ignored."""
        if read.page.page not in self._pages and read.page.page in self.numbers:
            self._pages[read.page.page] = read
            while self._whole < len(self.numbers) and (there := self._pages.get(self.numbers[self._whole])):
                self._whole += 1
                self._chars += len(there.page.text)
            self._changed.set()

    def fail(self, error: OcrError) -> None:
        self.error = self.error or error
        self._changed.set()

    def tell(self, ahead: float, message: str) -> None:
        """Note progress: `ahead` pages beyond those that are there. Nothing is told twice, nothing is lost."""
        self._told.append((len(self._pages) + ahead, message))
        self._changed.set()

    async def follow(self, on_progress: Callable[[float, str], Awaitable[None]]) -> None:
        """Return when nothing is outstanding; tell the progress on the way.

        Where all is there before anything could be told, nothing is: the answer says so itself, and over HTTP it is
        then no stream of events.
        """
        told = False
        while told or self.outstanding():
            self._changed = anyio.Event()
            while self._told:
                told = True
                await on_progress(*self._told.popleft())
            if not self.outstanding():
                return
            await self._changed.wait()


@dataclass(slots=True)
class _Drawn:
    """A page on its way to the engine: its picture, or what came of it without one."""

    number: int
    image: PageImage | None = None
    read: ReadPage | None = None
    """Its own text."""
    error: OcrError | None = None


@dataclass(eq=False, slots=True)
class _PageBatch:
    """Pages that are being drawn, wait for a lane, or are being read."""

    numbers: Sequence[int]
    scope: anyio.CancelScope | None = None
    """Stops the reading, while there is any."""


@dataclass(eq=False, slots=True)
class _DocumentJob:
    """A document that is read with one set of options."""

    key: str
    document: Document
    options: ReadOptions
    text_layer: str
    page_key: Callable[[int], str]
    stack: AsyncExitStack
    """Closes the document."""
    asks: list[Ask] = field(default_factory=list)
    holders: int = 0
    """Requests that still use the document."""
    batches: list[_PageBatch] = field(default_factory=list)
    """What is under way."""
    fresh: dict[int, ReadPage] = field(default_factory=dict)
    """Pages that were given to those who waited, and are not in the cache yet."""
    changed: anyio.Event = field(default_factory=anyio.Event)

    def choose(self, most: int) -> list[int]:
        """The pages to read next: what somebody waits for first, asks in turn."""
        under_way = {number for batch in self.batches for number in batch.numbers}
        for ask in sorted(self.asks, key=lambda ask: ask.background):
            if todo := [number for number in ask.outstanding() if number not in under_way]:
                self.asks.remove(ask)
                self.asks.append(ask)
                return todo[:most]
        return []

    def wanted(self, numbers: Iterable[int]) -> list[Ask]:
        """Who wants any of these pages."""
        asked = set(numbers)
        return [ask for ask in self.asks if not asked.isdisjoint(ask.outstanding())]

    def stop_if_unwanted(self) -> None:
        self.changed.set()
        for batch in self.batches:
            if batch.scope is not None and not self.wanted(batch.numbers):
                batch.scope.cancel()


class Jobs:
    """Use it inside `async with` of the task group that it is given."""

    def __init__(self, manager: Lifecycle, fallback: Lifecycle | None, cache: PageCache) -> None:
        self._manager = manager
        self._fallback = fallback
        self._cache = cache
        self._jobs: dict[str, _DocumentJob] = {}
        self._tasks: anyio.abc.TaskGroup | None = None

    def __repr__(self) -> str:
        return f"<Jobs {len(self._jobs)} documents, {self.unattended} pages for nobody yet>"

    @property
    def unattended(self) -> int:
        """Pages that are to be read though nobody waits for them."""
        return sum(len(ask.outstanding()) for job in self._jobs.values() for ask in job.asks if ask.background)

    def start(self, tasks: anyio.abc.TaskGroup) -> None:
        """Have jobs run in this task group from now on."""
        self._tasks = tasks

    async def fill(self, ask: Ask, page_key: Callable[[int], str]) -> None:
        """Give an ask what the cache has, up to its limit."""
        for number in ask.numbers:
            if ask.satisfied:
                return
            if not ask.has(number) and (entry := await self._cache.get(page_key(number))) is not None:
                ask.give(ReadPage.from_dict(entry))

    def join(
        self,
        ask: Ask,
        key: str,
        document: Document,
        stack: AsyncExitStack,
        options: ReadOptions,
        text_layer: str,
        page_key: Callable[[int], str],
    ) -> None:
        """Have the outstanding pages of `ask` read. Unless in the background, `leave` must follow.

        Args:
            key: the same for every request that the same job can serve.
            document: taken over, with the `stack` that closes it, if there is no such job yet; it stays open until
                every request that joined has left.
        """
        assert self._tasks is not None
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _DocumentJob(key, document, options, text_layer, page_key, stack.pop_all())
            self._tasks.start_soon(self._run, job)
        for page in job.fresh.values():
            ask.give(page)
        job.asks.append(ask)
        if ask.background:
            self._bound_unattended()
        else:
            job.holders += 1
        job.changed.set()

    def leave(self, ask: Ask, key: str) -> None:
        """The caller has what it wanted, or wants no more."""
        job = self._jobs.get(key)
        if job is not None and ask in job.asks:
            job.asks.remove(ask)
            job.holders -= 1
            job.stop_if_unwanted()

    def stop_unattended(self) -> None:
        """Read nothing more that nobody waits for."""
        for job in self._jobs.values():
            job.asks = [ask for ask in job.asks if not ask.background]
            job.stop_if_unwanted()

    def _bound_unattended(self) -> None:
        unattended = [job for job in self._jobs.values() if all(ask.background for ask in job.asks)]
        for job in unattended[: max(0, len(unattended) - MAX_UNATTENDED)]:
            job.asks.clear()
            job.stop_if_unwanted()

    # -- one job

    async def _run(self, job: _DocumentJob) -> None:
        try:
            while await self._read_all(job):
                job.changed = anyio.Event()
                if not job.choose(1):
                    await job.changed.wait()
        except Exception as exc:
            log.exception("A document failed in a way nobody foresaw.")
            for ask in job.asks:
                ask.fail(unforeseen(exc))
        finally:
            del self._jobs[job.key]
            for ask in job.asks:  # only where the server closes
                ask.fail(Cancelled("The server is shutting down.", remedy="Start it again, then ask again."))
            with anyio.CancelScope(shield=True):
                await job.stack.aclose()

    async def _read_all(self, job: _DocumentJob) -> bool:
        """Read until nothing is outstanding. Returns whether the document is still in use."""
        most = self._manager.engine.batch_pages
        lanes = anyio.Semaphore(self._manager.lanes)
        async with AsyncExitStack() as lease, anyio.create_task_group() as tasks:
            leased = False
            while (numbers := job.choose(most)) or job.batches:
                if not numbers:  # all that is wanted is under way
                    job.changed = anyio.Event()
                    await job.changed.wait()
                    continue
                job.batches.append(batch := _PageBatch(numbers))
                drawn = await self._draw(job, numbers)  # while those before it are read
                drawn = await self._give_texts(job, drawn)
                if not drawn:  # these pages need no engine
                    job.batches.remove(batch)
                    continue
                if not leased and any(page.image for page in drawn):
                    # From the first picture to the last page: the model stays where it is between batches.
                    await lease.enter_async_context(self._manager.lease())
                    leased = True
                await lanes.acquire()
                tasks.start_soon(self._read_batch, job, batch, drawn, lanes)
        return job.holders > 0 or bool(job.choose(1))

    async def _read_batch(
        self, job: _DocumentJob, batch: _PageBatch, drawn: Sequence[_Drawn], lanes: anyio.Semaphore
    ) -> None:
        try:
            await self._read(job, batch, drawn)
        finally:
            job.batches.remove(batch)
            job.changed.set()
            lanes.release()

    async def _draw(self, job: _DocumentJob, numbers: Sequence[int]) -> list[_Drawn]:
        with self._lines(job, numbers):
            return [await self._draw_page(job, number) for number in numbers if job.wanted([number])]

    def _lines(self, job: _DocumentJob, numbers: Iterable[int]) -> AbstractContextManager[None]:
        """Lines of the log that are written within carry the ids of the requests that want these pages."""
        return serving(*(ask.request for ask in job.wanted(numbers)))

    async def _draw_page(self, job: _DocumentJob, number: int) -> _Drawn:
        try:
            if job.text_layer != IGNORE_LAYER:
                layer = await job.document.text_layer(number, job.options)
                if layer.usable or job.text_layer == ONLY_LAYER:
                    return _Drawn(number, read=_of_layer(number, layer))
            return _Drawn(number, image=await job.document.page(number))
        except OcrError as exc:
            return _Drawn(number, error=exc)

    async def _give_texts(self, job: _DocumentJob, drawn: Sequence[_Drawn]) -> list[_Drawn]:
        """Give those who want them the pages that hold their text themselves. Returns the others."""
        texts = [page.read for page in drawn if page.read is not None]
        if texts:
            asks = job.wanted(text.page.page for text in texts)
            for ask in asks:
                for text in texts:
                    ask.give(text)
                ask.tell(0, f"page {texts[-1].page.page} of {job.document.page_count} taken from its text")
            if self._cache.enabled or any(ask.background for ask in asks):
                await self._keep(job, [text for text in texts if text.page.source])  # the others cost nothing
            await anyio.lowlevel.checkpoint()  # who has enough now leaves before more is looked at
        return [page for page in drawn if page.read is None]

    async def _read(self, job: _DocumentJob, batch: _PageBatch, drawn: Sequence[_Drawn]) -> None:
        """Read these pages and give them to whoever wants them."""
        images: dict[int, PageImage] = {}
        for page in drawn:
            if page.error is not None:
                for ask in job.wanted([page.number]):
                    ask.fail(page.error)
            elif page.image is not None:
                images[page.number] = page.image
        pages: list[ReadPage] = []
        unattended = False
        try:
            if job.wanted(images):
                with anyio.CancelScope() as batch.scope, self._lines(job, images):
                    pages = await self._read_images(job, images)
                    unattended = any(ask.background for ask in job.asks)
        finally:
            batch.scope = None
            for image in images.values():
                job.document.discard(image)
        if self._cache.enabled or unattended:
            await self._keep(job, pages)

    async def _read_images(self, job: _DocumentJob, images: dict[int, PageImage]) -> list[ReadPage]:
        """Have them read, and give them to whoever wants them; nothing if that failed."""
        numbers = list(images)
        what = f"page {numbers[0]}" if len(numbers) == 1 else f"pages {numbers[0]}-{numbers[-1]}"
        what += f" of {job.document.page_count}"
        manager = self._manager
        if manager.state is not manager.ready_state:
            for ask in job.wanted(numbers):
                ask.tell(LOADING_SHARE / 2, f"loading the model for {what}")

        async def report(fraction: float, message: str) -> None:
            within = LOADING_SHARE + (1 - LOADING_SHARE) * fraction
            for ask in job.wanted(numbers):
                ask.tell(within * len(numbers), f"{what}: {message}" if message else what)

        try:
            reading = await self._read_somewhere(job, images, report)
            pages = [
                _validated(number, images[number], fields, reading)
                for number, fields in zip(numbers, reading.pages, strict=True)
            ]
        except OcrError as exc:
            for ask in job.wanted(numbers):
                ask.fail(exc)
            return []
        for ask in job.wanted(numbers):
            ask.spent.queued_s += reading.queued_s
            ask.spent.load_s += reading.load_s
            ask.spent.infer_s += reading.infer_s
            for page in pages:
                ask.give(page)
            ask.tell(0, f"{what} read")
        return pages

    async def _keep(self, job: _DocumentJob, pages: Iterable[ReadPage]) -> None:
        own = self._manager.engine.name
        fresh = {page.page.page: page for page in pages if page.page.source or (page.engine == own and not page.remark)}
        job.fresh |= fresh
        await anyio.lowlevel.checkpoint()  # those who waited are answered first
        for number, page in fresh.items():
            await self._cache.put(job.page_key(number), page.to_dict())
        for number in fresh:
            job.fresh.pop(number, None)

    async def _read_somewhere(self, job: _DocumentJob, images: dict[int, PageImage], report: OnProgress) -> PagesRead:
        """By the engine, or by the fallback while no GPU has room or no endpoint can read."""
        client = min(job.wanted(images), key=lambda ask: ask.background).client

        def read(where: Lifecycle) -> Awaitable[PagesRead]:
            return where.read(
                list(images.values()),
                job.options,
                client=client,
                background=lambda: all(ask.background for ask in job.wanted(images)),
                on_progress=report,
            )

        try:
            return await read(self._manager)
        except (GpuBusy, EngineUnavailable) as trouble:
            fallback, remote = self._fallback, self._manager.engine.is_remote
            lacking = isinstance(trouble, EngineUnavailable) and not remote  # for the operator to mend: an error
            if lacking or fallback is None or job.options.mode not in fallback.engine.modes:
                raise
            note = f"{trouble.message} Read by {fallback.engine.name} instead (OCR_FALLBACK)."
            for ask in job.wanted(images):
                if note not in ask.notes:
                    ask.notes.append(note)
            if remote:  # their pictures were deleted once they had been encoded
                for number, image in images.items():
                    job.document.discard(image)
                    images[number] = await job.document.page(number)
            async with fallback.lease():
                return await read(fallback)


def _of_layer(number: int, layer: LayerText) -> ReadPage:
    """What a page says itself; where that cannot be used, an empty page with a remark that says why."""
    page = Page(
        page=number,
        width=layer.width,
        height=layer.height,
        text=layer.text,
        blocks=[Block(**block) for block in layer.blocks],
        source="text_layer" if layer.usable else None,
    )
    return ReadPage(page, TEXT_LAYER, "", CPU, f"no usable text layer: {layer.why}." if layer.why else layer.remark)


def _validated(number: int, image: PageImage, fields: dict[str, Any], reading: PagesRead) -> ReadPage:
    remark = str(fields.pop("remark", ""))
    fields.pop("tokens", None)  # counted where they were read
    try:
        page = Page(page=number, width=image.width, height=image.height, **fields)
    except (ValidationError, TypeError) as exc:
        raise OcrError(
            f"The engine {reading.engine} answered something that is no page: {type(exc).__name__}.",
            remedy="This is a fault of the engine; set OCR_ENGINE=auto to use the embedded one.",
        ) from exc
    return ReadPage(page, reading.engine, reading.model, reading.device, remark)

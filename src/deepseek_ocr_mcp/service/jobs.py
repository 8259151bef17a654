"""Reads every page once, for all requests that ask for it, and reads on after a request has got its answer.

A job is one `Work`: an open document that is read with one set of options. The job reads batch by batch and draws the
next pages meanwhile. It reads several batches at once if the lifecycle has lanes for them and the answers may need
them. It takes the own text of a PDF page where that text can be trusted, and gives the other pages to the engine. A
request puts an `Ask` to a job and follows it; requests for the same work share one job. When a request ends early, the
job drops the pages that no other request needs, except those in one batch with a page that another request needs.
Background pages come after all pages that a request waits for. The job gives them up when the model has to give its
memory back.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import anyio
import anyio.abc
import anyio.lowlevel
from pydantic import ValidationError

from ..documents.reader import LayerText, UnreadPart
from ..engines.base import CPU, PageImage, ReadOptions
from ..errors import BadRequest, Cancelled, EngineUnavailable, GpuBusy, GpuLost, OcrError, UnreadableInput, unforeseen
from ..lifecycle.base import Lifecycle, PagesRead
from ..logs import request_id, serving
from ..models import Block, Note, Page
from ..modes import IGNORE_LAYER, ONLY_LAYER
from ..worker.client import OnProgress
from .cache import PageCache
from .codes import Code
from .work import TEXT_LAYER, ReadPage, View, Work, import_layout, reading_of

__all__ = ["LOADING_SHARE", "Ask", "Jobs", "OnPages", "Spent"]


log = logging.getLogger(__name__)

LINES_MODE: Final = "ocr"  # the mode in which an engine gives a block for each line
LOADING_SHARE: Final = 0.04  # part of a page on the progress bar, for the time before the engine begins
PAGE_CHARS: Final = 2500  # characters of a page of running text, about; only how many pages are begun depends on it
LEAST_AT_ONCE: Final = 8
"""Pages that are begun for an answer of bounded length, however short it is: many pages are nearly empty."""
MAX_UNATTENDED: Final = 4  # documents that only background asks name; each keeps a copy of its file on disk

OnPages = Callable[[Sequence[ReadPage]], Awaitable[None]]
"""Gets pages that were read, in the order of the document, each page once."""


@dataclass(slots=True)
class Spent:
    """Seconds that the pages of an ask took."""

    queued_s: float = 0.0
    load_s: float = 0.0
    infer_s: float = 0.0


class Ask:
    """The pages that one request wants, in order.

    Args:
        numbers: the pages, ascending.
        view: how the request looks at readings.
        limit: characters after which the ask needs no further page; None: it needs all pages.
        client: the name of the client, for a fair share of turns.
        background: whether no request waits for these pages yet.
    """

    def __init__(
        self,
        numbers: Sequence[int],
        view: View = View(),  # noqa: B008  it is frozen
        *,
        limit: int | None = None,
        client: str = "",
        background: bool = False,
    ) -> None:
        self.numbers = numbers
        self.view = view
        self.client = client
        self.background = background
        self.request = request_id()
        self.error: OcrError | None = None
        self.notes: list[Note] = []
        self.spent = Spent()
        self.limit = limit
        self._pages: dict[int, ReadPage] = {}
        self._whole = 0  # number of pages that are there without a gap, from the first page on
        self._chars = 0  # characters of these pages
        self._shares: dict[int, float] = {}  # of the pages that are being read, by their numbers
        self._steps: deque[tuple[float, str]] = deque()
        self._changed = anyio.Event()

    def __repr__(self) -> str:
        return f"<Ask {len(self._pages)} of {len(self.numbers)}{' in background' if self.background else ''}>"

    def pages(self) -> list[ReadPage]:
        """The pages that are there, from the first one on without a gap."""
        return [self._pages[number] for number in self.numbers[: self._whole]]

    def all_pages(self) -> list[ReadPage]:
        """All pages that are there, in order."""
        return [self._pages[number] for number in self.numbers if number in self._pages]

    @property
    def satisfied(self) -> bool:
        """Whether the ask needs no further page: there is an error, or enough text."""
        return self.error is not None or (self.limit is not None and self._chars >= self.limit)

    def needs_more_than(self, pages: int) -> bool:
        """Whether so many pages that are being read may be too few for the ask.

        An answer of bounded length has enough after some pages: if more are read side by side, it only comes later.
        """
        return self.limit is None or pages < max(LEAST_AT_ONCE, (self.limit - self._chars) / PAGE_CHARS)

    def outstanding(self) -> list[int]:
        """The pages that the ask still needs."""
        return [] if self.satisfied else self.missing()

    def missing(self) -> list[int]:
        """The pages that are not there, even where the ask is satisfied."""
        return [number for number in self.numbers[self._whole :] if number not in self._pages]

    def has(self, number: int) -> bool:
        return number in self._pages

    def give(self, read: ReadPage) -> None:
        """Deliver a page. A page that the ask does not name is ignored."""
        if read.page.page not in self._pages and read.page.page in self.numbers:
            try:
                self._pages[read.page.page] = read.seen(self.view)
            except BadRequest as exc:  # the search for a pattern took too long
                self.fail(exc)
                return
            self._shares.pop(read.page.page, None)
            while self._whole < len(self.numbers) and (there := self._pages.get(self.numbers[self._whole])):
                self._whole += 1
                self._chars += len(there.page.text)
            self._changed.set()

    def fail(self, error: OcrError) -> None:
        self.error = self.error or error
        self._changed.set()

    def tell(self, message: str, numbers: Iterable[int] = (), share: float = 0.0, *, least: float = 0.0) -> None:
        """Note a step of progress. No step is reported twice.

        Args:
            message: a sentence.
            numbers: the pages that the step is about. Others may be under way, too: they keep the share that they had.
            share: the part of each of these pages that is done, from 0 to 1.
            least: the least that counts as done beyond the pages that are there, as a part of a page.
        """
        self._shares |= {number: share for number in numbers if number in self.numbers and number not in self._pages}
        self._steps.append((len(self._pages) + max(sum(self._shares.values()), least), message))
        self._changed.set()

    async def follow(
        self, on_progress: Callable[[float, str], Awaitable[None]], on_pages: OnPages | None = None
    ) -> None:
        """Report the progress, and the pages as they come, until no page is outstanding.

        The last step is not reported: the answer says it. TypeScript clients drop a step that comes with the answer.
        Where all pages are there at once, nothing is reported: over HTTP the answer is then no stream of events.

        Args:
            on_progress: gets the number of pages done, and a sentence.
            on_pages: gets the pages that follow, without a gap, on the pages that it got before.
        """
        reported, delivered = False, 0
        while reported or self.outstanding():
            self._changed = anyio.Event()
            if on_pages is not None and self._whole > delivered:
                fresh = self.pages()[delivered:]
                delivered += len(fresh)
                await on_pages(fresh)
            if not self.outstanding():
                return
            while self._steps:
                reported = True
                await on_progress(*self._steps.popleft())
            await self._changed.wait()


@dataclass(slots=True)
class _ReadyPage:
    """A page ready for its next step: its picture for the engine, or the finished page where no engine reads."""

    number: int
    image: PageImage | None = None
    part: UnreadPart | None = None
    """Set if the picture shows only the part of the page that its own text does not hold."""
    read: ReadPage | None = None
    """The page's own text, or the error of a page that could not be drawn."""


@dataclass(eq=False, slots=True)
class _PageBatch:
    """Pages that are being drawn, wait for a lane, or are being read."""

    numbers: Sequence[int]
    is_read: bool = False
    """Whether it has its lane."""
    scope: anyio.CancelScope | None = None
    """Stops the reading; None while the pages are not being read."""


@dataclass(eq=False, slots=True)
class _DocumentJob:
    """A document that is read with one set of options."""

    work: Work
    asks: list[Ask] = field(default_factory=list)
    holders: int = 0
    """The number of requests that still use the document."""
    batches: list[_PageBatch] = field(default_factory=list)
    """The batches that are being drawn or read."""
    codes: dict[int, tuple[Code, ...]] = field(default_factory=dict)
    """The codes on pages that are drawn and not read yet."""
    fresh: dict[int, ReadPage] = field(default_factory=dict)
    """Pages that were delivered and are not in the cache yet."""
    changed: anyio.Event = field(default_factory=anyio.Event)

    def choose(self, most: int) -> list[int]:
        """The pages to read next, at most `most` of them. Asks take turns; background asks come last."""
        under_way = {number for batch in self.batches for number in batch.numbers}
        for ask in sorted(self.asks, key=lambda ask: ask.background):
            if todo := [number for number in ask.outstanding() if number not in under_way]:
                self.asks.remove(ask)
                self.asks.append(ask)
                return todo[:most]
        return []

    def asks_for(self, numbers: Iterable[int]) -> list[Ask]:
        """The asks that still need any of these pages."""
        pages = set(numbers)
        return [ask for ask in self.asks if not pages.isdisjoint(ask.outstanding())]

    def unattended(self) -> set[int]:
        """The pages that background asks wait for, and no other ask."""
        background = {number for ask in self.asks if ask.background for number in ask.outstanding()}
        return background.difference(*(ask.outstanding() for ask in self.asks if not ask.background))

    def stop_unneeded(self) -> None:
        """Stop the batches whose pages no ask needs any more, and wake the job."""
        self.changed.set()
        for batch in self.batches:
            if batch.scope is not None and not self.asks_for(batch.numbers):
                batch.scope.cancel()


class Jobs:
    """All jobs of a service. Its owner gives it a task group with `start`, and uses it inside that group.

    Args:
        manager: the lifecycle of the engine.
        fallback: reads while `manager` has no card or endpoint; None: nothing does.
        cache: the pages that were read before.
    """

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
        """The number of pages that background asks wait for, and no other ask."""
        return sum(len(job.unattended()) for job in self._jobs.values())

    def start(self, tasks: anyio.abc.TaskGroup) -> None:
        """Run jobs in this task group from now on."""
        self._tasks = tasks

    async def fill(self, ask: Ask, work: Work) -> None:
        """Give an ask the pages that the cache has, until the ask has enough text."""
        for number in ask.numbers:
            if ask.satisfied:
                return
            if not ask.has(number) and (page := await self._cached(work, number)) is not None:
                ask.give(page)

    async def _cached(self, work: Work, number: int) -> ReadPage | None:
        """A page as the cache has it. None also for an entry that is no page: a newer release may have written it."""
        for key in work.page_keys(number):
            if (entry := await self._cache.get(key)) is not None:
                with suppress(ValueError, KeyError, TypeError):
                    return ReadPage.from_dict(entry)
        return None

    def join(self, ask: Ask, work: Work) -> None:
        """Have the outstanding pages of `ask` read. Call `leave` later, unless the ask is in the background.

        If no job does this work yet, one begins. It holds the document until every request that joined has left.
        """
        assert self._tasks is not None
        job = self._jobs.get(work.key)
        if job is None:
            work.shared.hold()
            job = self._jobs[work.key] = _DocumentJob(work)
            self._tasks.start_soon(self._run, job)
        for page in job.fresh.values():
            ask.give(page)
        job.asks.append(ask)
        if ask.background:
            self._bound_unattended()
        else:
            job.holders += 1
        job.changed.set()

    def leave(self, ask: Ask, work: Work) -> None:
        """End an ask whose caller has its pages, or waits no more."""
        job = self._jobs.get(work.key)
        if job is not None and ask in job.asks:
            job.asks.remove(ask)
            job.holders -= 1
            job.stop_unneeded()

    def stop_unattended(self) -> None:
        """Give up all background asks."""
        for job in self._jobs.values():
            job.asks = [ask for ask in job.asks if not ask.background]
            job.stop_unneeded()

    def _bound_unattended(self) -> None:
        unattended = [job for job in self._jobs.values() if all(ask.background for ask in job.asks)]
        for job in unattended[: max(0, len(unattended) - MAX_UNATTENDED)]:
            job.asks.clear()
            job.stop_unneeded()

    # -- one job

    async def _run(self, job: _DocumentJob) -> None:
        import_layout()  # while the engine gets ready
        try:
            while await self._read_all(job):
                job.changed = anyio.Event()
                if not job.choose(1):
                    await job.changed.wait()
        except Exception as exc:
            log.exception("A document failed in a way that this program does not foresee.")
            for ask in job.asks:
                ask.fail(unforeseen(exc))
        finally:
            del self._jobs[job.work.key]
            for ask in job.asks:  # an ask that has its pages, or an error, takes no other one
                ask.fail(Cancelled("The server is shutting down.", remedy="Start it again, then ask again."))
            await job.work.shared.release()

    async def _read_all(self, job: _DocumentJob) -> bool:
        """Read until no page is outstanding. Returns whether the document is still in use."""
        most = self._manager.engine.batch_pages
        lanes = anyio.Semaphore(self._manager.lanes)
        async with AsyncExitStack() as lease, anyio.create_task_group() as tasks:
            leased = False
            while (numbers := job.choose(most)) or job.batches:
                if not numbers:  # all outstanding pages are under way
                    job.changed = anyio.Event()
                    await job.changed.wait()
                    continue
                job.batches.append(batch := _PageBatch(numbers))
                with self._log_context(job, numbers):  # while the engine reads the batch before
                    ready = [await self._draw_page(job, number) for number in numbers if job.asks_for([number])]
                ready = await self._give_texts(job, ready)
                if not ready:  # these pages need no engine
                    job.batches.remove(batch)
                    continue
                if not leased and any(page.image for page in ready):
                    # From the first picture to the last page: the model stays where it is between batches.
                    await lease.enter_async_context(self._manager.lease())
                    leased = True
                await self._until_needed(job, numbers)
                await lanes.acquire()
                batch.is_read = True
                tasks.start_soon(self._read_batch, job, batch, ready, lanes)
        return job.holders > 0 or bool(job.choose(1))

    async def _until_needed(self, job: _DocumentJob, numbers: Sequence[int]) -> None:
        """Return when an ask may need these pages beside those that are being read."""
        while True:
            reading = {number for batch in job.batches if batch.is_read for number in batch.numbers}
            asks = job.asks_for(numbers)
            needed = any(ask.needs_more_than(len(reading.intersection(ask.outstanding()))) for ask in asks)
            if needed or not reading or not asks:
                return
            job.changed = anyio.Event()
            await job.changed.wait()

    async def _read_batch(
        self, job: _DocumentJob, batch: _PageBatch, ready: Sequence[_ReadyPage], lanes: anyio.Semaphore
    ) -> None:
        try:
            await self._read(job, batch, ready)
        finally:
            job.batches.remove(batch)
            job.changed.set()
            lanes.release()

    def _log_context(self, job: _DocumentJob, numbers: Iterable[int]) -> AbstractContextManager[None]:
        """A context in which each log line carries the ids of the requests that want these pages."""
        return serving(*(ask.request for ask in job.asks_for(numbers)))

    async def _draw_page(self, job: _DocumentJob, number: int) -> _ReadyPage:
        document = job.work.document
        try:
            if job.work.barcodes:
                return await self._draw_with_codes(job, number)
            return await self._own_text(job, number) or _ReadyPage(number, image=await document.page(number))
        except OcrError as exc:
            return _ReadyPage(number, read=ReadPage.failed(number, exc))

    async def _draw_with_codes(self, job: _DocumentJob, number: int) -> _ReadyPage:
        """A page whose codes were read. Its picture goes to the engine if the engine reads all of the page."""
        document = job.work.document
        image, ready = await document.page(number), None
        try:
            await _read_codes(job, number, image)
            ready = await self._own_text(job, number) or _ReadyPage(number, image=image)
            return ready
        finally:
            if ready is None or ready.image is not image:
                document.discard(image)

    async def _own_text(self, job: _DocumentJob, number: int) -> _ReadyPage | None:
        """The page as its text layer gives it; of a layer with a part of the text, the picture of the other part; None
        if the engine reads the whole page."""
        document, use = job.work.document, job.work.text_layer
        if use == IGNORE_LAYER:
            return None
        layer = await document.text_layer(number)
        if layer.usable or use == ONLY_LAYER:
            return _ReadyPage(number, read=replace(_of_layer(number, layer), codes=job.codes.pop(number, ())))
        if layer.partial and self._manager.engine.gives_lines:
            part = await document.unread_part(number)
            return _ReadyPage(number, image=part.image, part=part)
        return None

    async def _give_texts(self, job: _DocumentJob, ready: Sequence[_ReadyPage]) -> list[_ReadyPage]:
        """Deliver the pages that need no engine. Returns the other pages."""
        texts = [page.read for page in ready if page.read is not None]
        if texts:
            asks = job.asks_for(text.page.page for text in texts)
            for ask in asks:
                for text in texts:
                    ask.give(text)
                done = "could not be drawn" if texts[-1].error else "taken from its text"
                ask.tell(f"page {texts[-1].page.page} of {job.work.document.page_count} {done}")
            if self._cache.enabled or any(ask.background for ask in asks):
                await self._cache_pages(job, [text for text in texts if text.page.source])  # errors are not kept
            await anyio.lowlevel.checkpoint()  # an ask that has enough text leaves before more pages are drawn
        return [page for page in ready if page.read is None]

    async def _read(self, job: _DocumentJob, batch: _PageBatch, ready: Sequence[_ReadyPage]) -> None:
        """Read these pages, or parts of pages, and deliver the pages."""
        whole = {page.number: page.image for page in ready if page.image is not None and page.part is None}
        parts = {page.number: page.part for page in ready if page.part is not None}
        part_images = {number: part.image for number, part in parts.items()}
        numbers = [*whole, *parts]
        pages: list[ReadPage] = []
        unattended = False
        try:
            if job.asks_for(numbers):
                with anyio.CancelScope() as batch.scope, self._log_context(job, numbers):
                    if whole:
                        pages += await self._read_images(job, whole, {})
                    if parts:
                        pages += await self._read_images(job, part_images, parts)
                    unattended = any(ask.background for ask in job.asks)
        finally:
            batch.scope = None
            # The dictionaries are read only now, because some pages may have been drawn anew.
            for image in (*whole.values(), *part_images.values()):
                job.work.document.discard(image)
        if self._cache.enabled or unattended:
            await self._cache_pages(job, pages)

    async def _read_images(
        self, job: _DocumentJob, images: dict[int, PageImage], parts: Mapping[int, UnreadPart]
    ) -> list[ReadPage]:
        """Have the engine read pages, or parts of pages, and deliver the pages. Returns the pages that were read.

        Args:
            job: the work.
            images: the pictures to read, by the number of their page.
            parts: the place of each picture that shows a part of its page. The lines that are read of it are merged
                with the page's own text.
        """
        numbers = list(images)
        what = f"page {numbers[0]}" if len(numbers) == 1 else f"pages {numbers[0]}-{numbers[-1]}"
        what += f" of {job.work.document.page_count}"
        manager = self._manager
        if manager.state is not manager.ready_state:
            for ask in job.asks_for(numbers):
                ask.tell(f"loading the model for {what}", least=LOADING_SHARE / 2)

        async def report(fraction: float, message: str) -> None:
            within = LOADING_SHARE + (1 - LOADING_SHARE) * fraction
            for ask in job.asks_for(numbers):
                ask.tell(f"{what}: {message}" if message else what, numbers, within)

        try:
            options = ReadOptions(LINES_MODE, resolution=job.work.options.resolution) if parts else job.work.options
            reading = await self._read_somewhere(job, images, options, report)
            pages = [
                await _merged(job, number, parts[number], fields, reading)
                if number in parts
                else _validated(number, images[number], fields, reading)
                for number, fields in zip(numbers, reading.pages, strict=True)
            ]
            pages = [replace(page, codes=job.codes.pop(page.page.page, ())) for page in pages]
        except OcrError as exc:
            if len(numbers) > 1 and _is_about_pages(exc):
                return [page for number in numbers for page in await self._read_alone(job, number, images, parts)]
            self._fail(job, numbers, exc)
            return []
        for ask in job.asks_for(numbers):
            ask.spent.queued_s += reading.queued_s
            ask.spent.load_s += reading.load_s
            ask.spent.infer_s += reading.infer_s
            for page in pages:
                ask.give(page)
            ask.tell(f"{what} read")
        return pages

    async def _read_alone(
        self, job: _DocumentJob, number: int, images: dict[int, PageImage], parts: Mapping[int, UnreadPart]
    ) -> list[ReadPage]:
        """Read one page of a batch that failed, so that a bad page does not cost the other pages."""
        if not job.asks_for([number]):
            return []
        document = job.work.document
        document.discard(images[number])  # its picture is deleted already if an endpoint got it
        try:
            part = await document.unread_part(number) if number in parts else None
            images[number] = part.image if part else await document.page(number)
        except OcrError as exc:
            self._fail(job, [number], exc)
            return []
        return await self._read_images(job, {number: images[number]}, {number: part} if part else {})

    def _fail(self, job: _DocumentJob, numbers: Sequence[int], error: OcrError) -> None:
        """Deliver a page as failed. An error that is not about the page ends the asks instead."""
        for ask in job.asks_for(numbers):
            if _is_about_pages(error):
                ask.give(ReadPage.failed(numbers[0], error))
            else:
                ask.fail(error)

    async def _cache_pages(self, job: _DocumentJob, pages: Iterable[ReadPage]) -> None:
        own = self._manager.engine.name
        fresh = {
            page.page.page: page for page in pages if page.page.source or (page.engine == own and page.is_cacheable)
        }
        job.fresh |= fresh
        await anyio.lowlevel.checkpoint()  # waiting requests are answered first
        for page in fresh.values():
            await self._cache.put(job.work.page_key(page), page.to_dict(), for_long=not page.is_incomplete)
        for number in fresh:
            job.fresh.pop(number, None)

    async def _read_somewhere(
        self, job: _DocumentJob, images: dict[int, PageImage], options: ReadOptions, report: OnProgress
    ) -> PagesRead:
        """Read with the engine, or with the fallback while the engine has no GPU with room, or no endpoint that
        answers."""
        client = min(job.asks_for(images), key=lambda ask: ask.background).client

        def read(where: Lifecycle) -> Awaitable[PagesRead]:
            return where.read(
                list(images.values()),
                options,
                client=client,
                background=lambda: all(ask.background for ask in job.asks_for(images)),
                on_progress=report,
            )

        try:
            return await read(self._manager)
        except (GpuBusy, EngineUnavailable) as trouble:
            fallback, remote = self._fallback, self._manager.engine.is_remote
            if fallback is None or job.work.options.mode not in fallback.engine.modes:
                raise
            note = Note(
                code="fallback", text=f"{trouble.message} Read by {fallback.engine.name} instead (OCR_FALLBACK)."
            )
            for ask in job.asks_for(images):
                if note not in ask.notes:
                    ask.notes.append(note)
            if remote:  # an endpoint's pictures are deleted as soon as they are encoded
                for number, image in images.items():
                    job.work.document.discard(image)
                    images[number] = await job.work.document.page(number)
            async with fallback.lease():
                return await read(fallback)


async def _read_codes(job: _DocumentJob, number: int, image: PageImage) -> None:
    """Read the codes on the picture of a page.

    Raises:
        OcrError: the decoder answers something that is no code.
    """
    try:
        job.codes[number] = tuple(map(Code.of, await job.work.document.codes(image)))
    except (ValueError, KeyError, TypeError):
        raise UnreadableInput(
            f"The decoder's answer about the codes on page {number} makes no sense.",
            remedy="Have the operator set OCR_BARCODES=off.",
        ) from None


def _is_about_pages(error: OcrError) -> bool:
    """Whether an error may be the fault of a page that was read, and not of the service."""
    return not (error.is_fatal or error.is_passing or isinstance(error, GpuLost))


def _of_layer(number: int, layer: LayerText) -> ReadPage:
    """A page with its own text. If that text cannot be trusted: an empty page, with a remark that says why."""
    source: Literal["text_layer"] | None = "text_layer" if layer.usable or layer.partial else None
    page = Page(page=number, width=layer.width, height=layer.height, text="", source=source)
    remark = layer.remark
    if layer.why:
        unread = f"not all of it was read: {layer.why}." if layer.partial else f"no usable text layer: {layer.why}."
        remark = f"{unread} {remark}".strip()
    try:
        reading = None if layer.reading is None else reading_of(layer.reading)
    except ValueError:
        raise UnreadableInput(
            f"The decoder's answer about the text layer of page {number} makes no sense.",
            remedy="Call again with text_layer=ignore: then the engine reads the page as a picture.",
        ) from None
    return ReadPage(page, TEXT_LAYER, "", CPU, remark, reading=reading)


async def _merged(
    job: _DocumentJob, number: int, part: UnreadPart, fields: dict[str, Any], reading: PagesRead
) -> ReadPage:
    """A page whose own text is merged with the lines that the engine read of the rest of the page."""
    found = _validated(number, part.image, fields, reading).seen(View(LINES_MODE))
    read = [_shifted(block, part.left, part.top) for block in found.page.blocks or ()]
    layer = await job.work.document.text_layer(number, read)
    if not layer.usable:
        raise OcrError(
            f"Page {number} was read, but its own text is not usable any more: {layer.why}.",
            remedy="Call again with text_layer=ignore.",
        )
    page = _of_layer(number, layer)
    of_engine = found.remark
    if of_engine and page.is_scrap(part):
        of_engine = ""  # of so few characters, the remark about their script is not reliable
    remark = f"{page.remark} Of the part that was read: {of_engine}".strip() if of_engine else page.remark
    mixed = page.page.model_copy(update={"source": "mixed"})
    return ReadPage(mixed, reading.engine, reading.model, reading.device, remark, reading=page.reading)


def _shifted(block: Block, left: int, top: int) -> dict[str, Any]:
    """A block in a part of a page, in pixels of the page."""

    def on_page(box: Sequence[int]) -> list[int]:
        return [box[0] + left, box[1] + top, box[2] + left, box[3] + top]

    words = [{"text": word.text, "box": on_page(word.box)} for word in block.words or ()]
    return {"text": block.text, "box": on_page(block.box), "score": block.score, "words": words}


def _validated(number: int, image: PageImage, fields: Mapping[str, Any], read: PagesRead) -> ReadPage:
    """A page as an engine gave it: a reading, or the text that it wrote."""
    try:
        if (found := fields.get("reading")) is not None:
            reading = reading_of(found)
            page = Page(page=number, width=image.width, height=image.height, text="")
            return ReadPage(page, read.engine, read.model, read.device, reading.remark, reading=reading)
        text = {name: value for name, value in fields.items() if name not in ("remark", "tokens")}
        page = Page(page=number, width=image.width, height=image.height, **text)
        tokens = None if fields.get("tokens") is None else int(fields["tokens"])
    except (ValidationError, ValueError, TypeError) as exc:
        raise OcrError(
            f"The engine {read.engine} answered something that is no page: {type(exc).__name__}.",
            remedy="This is a fault of the engine; set OCR_ENGINE=auto to use the embedded one.",
        ) from exc
    return ReadPage(page, read.engine, read.model, read.device, str(fields.get("remark", "")), tokens=tokens)

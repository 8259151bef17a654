"""`OcrService`: the four things this product does, the same for every edge.

A request is checked before anything is loaded; its document is opened, its pages come from the cache or from a
job (`jobs.py`); the answer fits `max_chars`, comes in time, and says how to go on.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import asdict, dataclass, field, replace
from functools import wraps
from math import inf
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Self
from urllib.parse import quote

import anyio
import anyio.to_thread

from .admission import Admission, Place
from .config import MB, Settings
from .documents.ranges import format_pages
from .documents.renderer import Document, DocumentReader, Kept
from .documents.source import Incoming, Snapshot, resolve_output, write_atomically
from .engines import KNOWN
from .engines.base import ReadOptions
from .errors import BadRequest, NotReady, OcrError, QueueFull, Timeout, UnsupportedMode, cause_of
from .gpu import GpuProbe
from .jobs import LOADING_SHARE, TEXT_LAYER, Ask, Jobs, ReadPage
from .lifecycle.base import Lifecycle, ModelStatus
from .logs import request as request_lines
from .models import Block, Entry, GpuStatus, OcrRequest, OcrResult, Page, State, Timing, Transition
from .modes import IGNORE_LAYER, MODES, ONLY_LAYER, RESOLUTIONS, TEXT_LAYERS
from .observer import CLIENT_GONE, INTERNAL, OK, UNKNOWN, Observer
from .results.cache import DiskCache, PageCache, cache_key
from .results.markup import FIGURE_LABELS, figure_mark

__all__ = ["LOCAL", "Answer", "Incoming", "Kept", "OcrService", "OnPosition", "Place", "Progress", "Snapshot"]

LOCAL: Final = "local"  # the client of stdio and of the command line: there is one

MAX_ANNOTATED_PAGES: Final = 5  # images of about 500 kB each: more would choke most clients
MAX_ENTRIES: Final = 100  # of a table of contents
HEADING_CHARS: Final = 80
LEAST_STEP: Final = 0.02  # of a page: a client redraws its bar for each step of progress
ANSWERING_SHARE: Final = 0.02  # of the time for a reply, for putting it together
STATUS_PROBE_S: Final = 2.0  # a driver that hangs must not hang the status

P = ParamSpec("P")

Progress = Callable[[float, float, str], Awaitable[None]]
"""Called with pages done, pages in all, and a sentence; the first strictly increases."""

OnPosition = Callable[[int], Awaitable[None]]
"""Called with the number of requests before this one, while there are any; then with 0."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What `read` returns: the result, and what an edge may show beside it."""

    result: OcrResult
    notes: list[str] = field(default_factory=list)
    """Sentences for the caller: blank pages, where the text was cut, how to go on."""
    images: list[tuple[bytes, str]] = field(default_factory=list)
    """Annotated pages: encoded bytes and media type."""
    whole: list[Page] = field(default_factory=list)
    """Every page that was read for this answer, with its text uncut and its blocks."""
    kept: Kept | None = None
    """The document, for whoever asked to keep it."""


_Read = Callable[Concatenate["OcrService", OcrRequest, P], Awaitable[Answer]]


def _observed(read: _Read[P]) -> _Read[P]:
    """Around `OcrService.read`: its lines have an id, and the observer learns how it ended."""

    @wraps(read)
    async def observed(self: OcrService, request: OcrRequest, /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        began = time.monotonic()
        outcome, answer = INTERNAL, None
        with request_lines():
            try:
                answer = await read(self, request, *args, **kwargs)
                outcome = OK
                return answer
            except OcrError as exc:
                outcome = exc.code
                raise
            except anyio.get_cancelled_exc_class():
                outcome = CLIENT_GONE
                raise
            finally:
                result = answer and answer.result
                self.observer.request_ended(
                    request.mode if request.mode in MODES else UNKNOWN,
                    result.engine if result else self.engine.name,
                    outcome,
                    time.monotonic() - began,
                    pages=len(result.pages) if result else 0,
                    timing=result.timing if result else None,
                )

    return observed


class OcrService:
    """Use it inside `async with service.running():`."""

    def __init__(
        self,
        settings: Settings,
        reason: str,
        manager: Lifecycle,
        reader: DocumentReader,
        *,
        fallback: Lifecycle | None = None,
    ) -> None:
        self.settings = settings
        self.engine = manager.engine
        self._reason = reason
        self._manager = manager
        self._reader = reader
        self._fallback = fallback
        self.tell(Observer())
        self._admission = Admission(settings.ocr_max_queue)
        folder = settings.ocr_cache_dir
        self._cache = PageCache(
            enabled=settings.ocr_cache == "on",
            max_bytes=settings.ocr_cache_mb * MB,
            disk=DiskCache(folder, settings.ocr_cache_dir_mb * MB) if folder else None,
        )
        self._jobs = Jobs(manager, fallback, self._cache)

    def tell(self, observer: Observer) -> None:
        """Have this observer learn what happens, in the place of the one before."""
        self.observer = observer
        for manager in filter(None, (self._manager, self._fallback)):
            manager.observer = observer

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Everything that needs an end has it here."""
        async with AsyncExitStack() as stack:
            stack.callback(self._cache.close)
            await stack.enter_async_context(self._reader.running())
            for manager in filter(None, (self._manager, self._fallback)):
                await stack.enter_async_context(manager.running())
            async with anyio.create_task_group() as tasks:
                self._jobs.start(tasks)
                yield self
                tasks.cancel_scope.cancel()

    @property
    def state(self) -> State:
        """Where the weights are."""
        return self._manager.state

    @property
    def reason(self) -> str:
        """Why this engine was chosen."""
        return self._reason

    def ready(self) -> None:
        """Return if a request could be taken now.

        Raises:
            NotReady: the queue is full, or the server is shutting down.
        """
        if self._manager.state is State.CLOSED:
            raise NotReady("The server is shutting down.", remedy="Ask another one, or start it again.")
        if self._admission.full:
            raise NotReady(
                f"{len(self._admission)} requests wait or are being read, as many as this server takes.",
                remedy="Ask again when some are done.",
            )

    @contextmanager
    def place(self, client: str) -> Iterator[Place]:
        """A place in the queue for a request that is still being sent; `read` takes it.

        Raises:
            QueueFull: there is none for this client.
        """
        with ExitStack() as stack:
            try:
                place = stack.enter_context(self._admission.place(client))
            except QueueFull as exc:
                self.observer.request_ended(UNKNOWN, self.engine.name, exc.code, 0.0)
                raise
            yield place

    def receive(self) -> AbstractAsyncContextManager[Incoming]:
        """Room for a file that is being sent; `read` takes its snapshot while the context lasts."""
        return self._reader.receive()

    @_observed
    async def read(
        self,
        request: OcrRequest,
        *,
        local: bool,
        client: str = LOCAL,
        place: Place | None = None,
        upload: Snapshot | None = None,
        reply_s: float | None = None,
        keep: bool = False,
        on_progress: Progress | None = None,
        on_position: OnPosition | None = None,
    ) -> Answer:
        """Read the pages of a document.

        Args:
            local: whether the caller sits on this machine: then paths are its own.
            client: who asks; clients take turns, and none takes all places.
            place: the caller's place in the queue, if it has one already.
            upload: the document, if it was sent; `request.image` is not looked at.
            reply_s: seconds within which the answer comes, with what is read by then; the rest is read meanwhile,
                and what the next call will want, too. None: the answer is whole, however long it takes.
            keep: have the answer hold the document, to be opened again until it is let go.
            on_position: told how many requests stand before this one; without it, `on_progress` is.

        Raises:
            QueueFull: there is no place for this client.
            NotReady: the model still loads when the time is over.
            OcrError: see `errors.py`; whatever it is, the service goes on.
        """
        began = time.monotonic()
        deadline = inf if reply_s is None else anyio.current_time() + reply_s * (1 - ANSWERING_SHARE)
        self.check(request)
        on_progress = on_progress and _Rising(on_progress)
        with nullcontext(place) if place else self._admission.place(client) as place:
            place.line_up()
            async with _told(place, on_position or _waiting(on_progress)):
                answer = await self._read(request, upload, local, client, place, reply_s, deadline, keep, on_progress)
        answer.result.timing.total_s = round(time.monotonic() - began, 3)
        return answer

    async def _read(
        self,
        request: OcrRequest,
        upload: Snapshot | None,
        local: bool,
        client: str,
        place: Place,
        reply_s: float | None,
        deadline: float,
        keep: bool,
        on_progress: Progress | None,
    ) -> Answer:
        save_to = ""
        if request.save_to:
            save_to = await resolve_output(
                request.save_to, settings=self.settings, local=local, overwrite=request.overwrite
            )
        options = ReadOptions(request.mode, request.find_term, request.custom_prompt, request.resolution)
        engine_version = await self._engine_version()
        limit = request.max_chars if request.max_chars and not save_to else None
        async with AsyncExitStack() as stack:
            document = await self._opened(stack, upload or request.image, local, deadline)
            wanted = document.numbers(request.pages)
            layered = document.format == "PDF" and MODES[request.mode].text_alone
            text_layer = request.text_layer if layered or request.text_layer == ONLY_LAYER else IGNORE_LAYER
            key = cache_key(
                document.snapshot.sha256,
                asdict(options),
                text_layer,
                self.settings.ocr_pdf_dpi,
                self.settings.max_pixels,
                engine_version,
            )

            def page_key(number: int) -> str:
                return f"{key}-{number}"

            def join(ask: Ask) -> None:
                self._jobs.join(ask, key, document, stack, options, text_layer, page_key)

            ask = Ask(wanted, limit=limit, client=client)
            progress = _Progress(on_progress, len(wanted), place)
            await self._jobs.fill(ask, page_key)
            if ask.outstanding():
                join(ask)
                stack.callback(self._jobs.leave, ask, key)
                with anyio.CancelScope(deadline=deadline):
                    await ask.follow(progress)
            if ask.error is not None:
                raise ask.error
            late = bool(ask.outstanding())
            answer = await self._answer(request, document, wanted, ask, save_to, late)
            if reply_s is not None and (left := wanted[len(answer.result.pages) :]) and not answer.result.saved_to:
                ahead = Ask(left, limit=limit, client=client, background=True)
                await self._jobs.fill(ahead, page_key)
                if ahead.outstanding():
                    join(ahead)
            if late and not ask.pages():
                self._refuse_while_loading()
            if answer.result.next_pages and not request.pages:
                await self._add_contents(answer, wanted, ask, page_key)
            if not self._cache.enabled:
                await self._settle(ask, answer, page_key)
            if keep:
                answer = replace(answer, kept=await document.keep())
        return answer

    async def _engine_version(self) -> str:
        """Weights may lie on a slow disk; without them, a thread would cost more than the answer."""
        if not self.engine.weights:
            return self.engine.version(self.settings.ocr_model)
        return await anyio.to_thread.run_sync(self.engine.version, self.settings.ocr_model)

    async def _opened(self, stack: AsyncExitStack, image: str | Snapshot, local: bool, deadline: float) -> Document:
        with anyio.CancelScope(deadline=deadline) as scope:
            return await stack.enter_async_context(self._reader.open(image, local=local))
        assert scope.cancelled_caught
        raise Timeout(
            f"The document could not be opened within {self.settings.ocr_reply_seconds:g} s.",
            remedy="Send fewer or smaller pages, or have the operator raise OCR_REPLY_SECONDS.",
        )

    def _refuse_while_loading(self) -> None:
        """When time is over and nothing is read because there is no model yet, say so; the pages stay wanted."""
        seconds = self._manager.loading_s
        if seconds is not None:
            raise NotReady(
                f"The model has been loading for {seconds:.0f} s and is not ready yet.",
                remedy="Call again in half a minute: the load goes on meanwhile.",
            )

    async def _add_contents(self, answer: Answer, wanted: list[int], ask: Ask, page_key: Callable[[int], str]) -> None:
        """Tell, once for a document that does not fit, what is on its pages as far as they are read."""
        known = Ask(wanted)
        for read in ask.pages():
            known.give(read)
        await self._jobs.fill(known, page_key)
        entries = [_entry(page.page) for page in known.all_pages()[:MAX_ENTRIES]]
        if len(entries) > 1:
            answer.result.contents = entries
            lines = [f"page {entry.page}: {entry.heading or '(blank)'} ({entry.chars})" for entry in entries]
            answer.notes.append("\n".join(["Contents so far, with characters:", *lines]))

    async def _settle(self, ask: Ask, answer: Answer, page_key: Callable[[int], str]) -> None:
        """With `OCR_CACHE=off`: forget what was answered, keep for a moment what was read beyond."""
        shown = {page.page for page in answer.result.pages}
        for read in ask.pages():
            if read.page.page in shown or answer.result.saved_to:
                self._cache.answered(page_key(read.page.page))
            else:
                await self._cache.put(page_key(read.page.page), read.to_dict())

    async def _answer(
        self, request: OcrRequest, document: Document, wanted: list[int], ask: Ask, save_to: str, late: bool
    ) -> Answer:
        """What is there, as it was asked for."""
        read = ask.pages()
        pages = [page.page.model_copy() for page in read]
        whole = [page.page.model_copy() for page in read]  # what is left out below is not left out there
        answer = Answer(_result(request, document, read, pages, self._manager), whole=whole)
        result = answer.result
        result.timing = Timing(**_rounded(asdict(ask.spent), 3))
        answer.notes.extend(ask.notes)
        answer.notes.extend(_remarks(read))
        answer.notes.extend(_blank_notes(read, request))
        if request.annotate:
            for page in pages[:MAX_ANNOTATED_PAGES]:
                answer.images.extend(await _annotated(document, page))
        if save_to and late:
            answer.notes.append(
                f"{len(read)} of {len(wanted)} pages are read so far, and reading goes on. Call again with the same "
                "arguments: the file is written when all of them are."
            )
            result.truncated, result.text, result.pages = True, "", []
            return answer
        if save_to:
            await _save(result, document, save_to, request.overwrite)
            result.saved_to = save_to
            answer.notes.append(f"The whole text is in {save_to}.")
        shown, cut_note = _cut(pages, request.max_chars)
        left = wanted[len(shown) :]
        if shown != pages:
            result.pages, result.text = shown, _joined(shown)
        result.truncated = bool(left or cut_note)
        if left and not save_to:
            result.next_pages = format_pages(left)
            answer.notes.append(_how_to_go_on(shown, document, result.next_pages, late))
        if cut_note:
            answer.notes.append(cut_note)
        for page in result.pages:
            if not request.boxes and request.mode != "find":
                page.blocks = None
            if not request.raw:
                page.raw = None
        return answer

    def why_not(self, mode: str) -> str:
        """Why the engine cannot do this mode; empty: it can."""
        if mode in self.engine.modes:
            return ""
        return f"The engine {self.engine.name} cannot do mode {mode}: it has no language model."

    def check(self, request: OcrRequest) -> None:
        """Return if the request can be meant.

        Raises:
            BadRequest: it cannot; neither engine nor document have been asked yet.
        """
        if request.mode not in MODES:
            raise BadRequest(f"There is no mode {request.mode!r}.", remedy=f"Use one of {', '.join(MODES)}.")
        if why := self.why_not(request.mode):
            able = [spec.name for spec in KNOWN.values() if request.mode in spec.modes]
            own = ", ".join(mode for mode in MODES if mode in self.engine.modes)
            raise UnsupportedMode(
                why,
                remedy=f"Use one of its modes ({own}), or have the operator set OCR_ENGINE={' or '.join(able)}.",
            )
        needed = MODES[request.mode].needs
        if needed and not getattr(request, needed).strip():
            raise BadRequest(f"Mode {request.mode} needs {needed}.", remedy=f"Give {needed}, or use another mode.")
        if request.text_layer not in TEXT_LAYERS:
            raise BadRequest(
                f"There is no text_layer {request.text_layer!r}.", remedy=f"Use one of {', '.join(TEXT_LAYERS)}."
            )
        if request.text_layer == ONLY_LAYER and not MODES[request.mode].text_alone:
            raise BadRequest(
                f"Mode {request.mode} looks at pages, and text_layer={ONLY_LAYER} never does.",
                remedy="Leave text_layer out, or use mode document.",
            )
        if request.resolution not in RESOLUTIONS:
            raise BadRequest(
                f"There is no resolution {request.resolution!r}.",
                remedy=f"Use one of {', '.join(RESOLUTIONS)}.",
            )

    @asynccontextmanager
    async def opened(self, upload: Snapshot | Kept) -> AsyncIterator[Document]:
        """A document to look at: its pages as pictures. The caller holds a place."""
        async with self._reader.open(upload, local=False) as document:
            yield document

    def searchable_pdf(self, upload: Snapshot, pages: Sequence[Page]) -> AbstractAsyncContextManager[str]:
        """The path of a PDF: the document, and what was read of it as text under its pages.

        Raises:
            BadRequest: nothing of what was read has a place on a page.
        """
        if not any(block.text for page in pages for block in page.blocks or ()):
            raise BadRequest(
                "None of these pages has blocks with text and a box, so no text can be laid under them.",
                remedy="Read the document with boxes=true, then send its `pages` as they were answered.",
            )
        return self._reader.exported("searchable_pdf", _dumped(pages), upload)

    def word_document(self, pages: Sequence[Page], title: str, mode: str) -> AbstractAsyncContextManager[str]:
        """The path of a Word document: headings, paragraphs, lists and tables."""
        return self._reader.exported("word_document", _dumped(pages), title=title, mode=mode)

    async def status(self) -> GpuStatus:
        """What is true now; never waits for a page that is being read."""
        probe = self._manager.probe
        facts = self._manager.status()
        gpus, note, worker_gpu_mb = [], "The driver did not answer in time.", None
        with anyio.move_on_after(STATUS_PROBE_S):
            gpus = await anyio.to_thread.run_sync(probe.cards, abandon_on_cancel=True)
            note = "" if gpus else probe.note
            if gpus and facts.worker_pid is not None:
                worker_gpu_mb = await anyio.to_thread.run_sync(_held_mb, probe, facts, abandon_on_cancel=True)
        return GpuStatus(
            engine=self.engine.name,
            engine_reason=self._reason,
            modes=[mode for mode in MODES if mode in self.engine.modes],
            gpus=gpus,
            gpu_note=note,
            worker_gpu_mb=worker_gpu_mb,
            unreturned_mb=self._manager.unreturned_mb(gpus),
            **_rounded(asdict(facts) | {"queue": len(self._admission)}),
        )

    async def offload(self) -> Transition:
        """Weights off the GPU, kept in host memory. Raises `Busy` after a bounded wait."""
        self._jobs.stop_unattended()  # it would bring them back at once
        return await self._manager.offload()

    async def release(self, force: bool = False) -> Transition:
        """End the worker and give everything back. Raises `Busy` after a bounded wait."""
        self._jobs.stop_unattended()
        return await self._manager.release(force)


def _held_mb(probe: GpuProbe, facts: ModelStatus) -> int | None:
    """MiB that the worker holds on cards, or all of them do; each of several is told its own."""
    if not facts.workers:
        return None if facts.worker_pid is None else probe.process_mb(facts.worker_pid)
    for worker in facts.workers:
        worker.gpu_mb = 0 if worker.pid is None else probe.process_mb(worker.pid)
    held = [worker.gpu_mb for worker in facts.workers]
    return None if None in held else sum(mb or 0 for mb in held)


class _Rising:
    """Tells only what is more than before: where a request stands and what is read of it are told by two tasks."""

    def __init__(self, report: Progress) -> None:
        self._report = report
        self._last = -1.0

    async def __call__(self, done: float, total: float, message: str) -> None:
        if done > self._last:
            self._last = done
            await self._report(done, total, message)


class _Progress:
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


def _waiting(report: Progress | None) -> OnPosition | None:
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
async def _told(place: Place, on_position: OnPosition | None) -> AsyncIterator[None]:
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


def _result(
    request: OcrRequest, document: Document, read: list[ReadPage], pages: list[Page], manager: Lifecycle
) -> OcrResult:
    by_engine = [page for page in read if page.engine != TEXT_LAYER]
    last = by_engine[-1] if by_engine else read[-1] if read else None
    return OcrResult(
        text=_joined(pages),
        pages=pages,
        page_count=document.page_count,
        mode=request.mode,
        engine=last.engine if last else manager.engine.name,
        model=last.model if last else "",
        device=last.device if last else manager.device,
        cached=True if read and all(page.cached for page in read) else None,
    )


def _dumped(pages: Sequence[Page]) -> list[dict[str, Any]]:
    return [page.model_dump(mode="json", exclude_none=True) for page in pages]


def _joined(pages: list[Page]) -> str:
    return "\n\n".join(page.text for page in pages if page.text)


def _entry(page: Page) -> Entry:
    """A page in the table of contents: its first heading, or its first line."""
    lines = [line.strip() for line in page.text.splitlines() if line.strip()]
    heading = next((line for line in lines if line.startswith("#")), lines[0] if lines else "").lstrip("# ")
    if len(heading) > HEADING_CHARS:
        heading = heading[: HEADING_CHARS - 1] + "…"
    return Entry(page=page.page, heading=heading, chars=len(page.text))


def _how_to_go_on(shown: list[Page], document: Document, next_pages: str, late: bool) -> str:
    if not shown:
        return f'Nothing is read yet; reading goes on. Call again in a moment with pages="{next_pages}".'
    said = f"Read up to page {shown[-1].page} of {document.page_count}"
    said += ", and reading goes on." if late else "."
    return f'{said} To go on, call again with pages="{next_pages}".'


async def _annotated(document: Document, page: Page) -> list[tuple[bytes, str]]:
    """The page with its boxes drawn; nothing where there are none."""
    if not page.blocks:
        return []
    image = await document.page(page.page)
    try:
        return [await document.annotate(image, [block.model_dump() for block in page.blocks])]
    finally:
        document.discard(image)


def _blank_notes(read: list[ReadPage], request: OcrRequest) -> list[str]:
    empty = [page.page.page for page in read if not page.page.text and not page.remark]
    if not empty:
        return []
    which = _which(empty)
    if request.mode == "find":
        return [f"{which}: {request.find_term!r} was not found."]
    return [f"{which}: blank, no text was found."]


def _remarks(read: list[ReadPage]) -> list[str]:
    """Each remark once, with the pages that it is about."""
    pages: dict[str, list[int]] = {}
    for page in read:
        if page.remark:
            pages.setdefault(page.remark, []).append(page.page.page)
    return [f"{_which(numbers)}: {remark}" for remark, numbers in pages.items()]


def _which(numbers: list[int]) -> str:
    return f"Page{'s' if len(numbers) > 1 else ''} {format_pages(numbers)}"


def _cut(pages: list[Page], max_chars: int) -> tuple[list[Page], str]:
    """As many whole pages as fit; of a first page that does not fit, whole lines.

    Returns the pages to show and, where a page itself was cut, a sentence about it.
    """
    if not max_chars:
        return pages, ""
    shown: list[Page] = []
    used = 0
    for page in pages:
        used += len(page.text) + (2 if shown else 0)
        if used > max_chars:
            break
        shown.append(page)
    if shown or not pages:
        return shown, ""
    page = pages[0].model_copy()
    whole = len(page.text)
    end = page.text.rfind("\n", 0, max_chars + 1)
    page.text = page.text[: end if end > 0 else max_chars].rstrip()
    return [page], (
        f"Page {page.page} has {whole} characters and was cut at {len(page.text)}. For all of it, call again "
        f'with pages="{page.page}" and max_chars={whole} (or save_to).'
    )


def _is_markdown(path: str) -> bool:
    return path.lower().endswith((".md", ".markdown"))


def _figures(page: Page) -> list[Block]:
    """The regions that left a mark in the text, in the order of their numbers."""
    return [block for block in page.blocks or () if block.label.lower() in FIGURE_LABELS]


async def _save(result: OcrResult, document: Document, path: str, overwrite: bool) -> None:
    """Write the text, and the figures of a Markdown text into a folder beside it, linked."""
    texts = [page.text for page in result.pages]
    if _is_markdown(path):
        folder = Path(path).with_suffix("").with_name(Path(path).stem + "-figures")
        for index, page in enumerate(result.pages):
            if figures := _figures(page):
                texts[index] = await _with_figures(page, figures, document, folder, overwrite)
    text = "\n\n".join(text for text in texts if text)
    await write_atomically(path, _serialised(result.model_copy(update={"text": text}), path), overwrite)


async def _with_figures(page: Page, figures: list[Block], document: Document, folder: Path, overwrite: bool) -> str:
    """The page's text with links to its figures, which are cut out into `folder`."""
    await anyio.Path(folder).mkdir(exist_ok=True)
    image = await document.page(page.page)
    text = page.text
    try:
        for number, block in enumerate(figures, start=1):
            name = f"page-{page.page}-figure-{number}.png"
            data = await anyio.Path(await document.crop(image, block.box)).read_bytes()
            await write_atomically(str(folder / name), data, overwrite)
            text = text.replace(figure_mark(number), f"![Figure {number}]({quote(folder.name)}/{name})")
    finally:
        document.discard(image)
    return text


def _serialised(result: OcrResult, path: str) -> bytes:
    if path.lower().endswith(".json"):
        return (result.model_dump_json(indent=2, exclude_none=True) + "\n").encode()
    return (result.text + "\n").encode("utf-8", "replace")


def _rounded(fields: dict[str, Any], digits: int = 1) -> dict[str, Any]:
    return {name: round(value, digits) if isinstance(value, float) else value for name, value in fields.items()}

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
from dataclasses import asdict, replace
from functools import wraps
from math import inf
from typing import Concatenate, Final, ParamSpec, Self

import anyio
import anyio.to_thread

from ..config import MB, Settings
from ..documents.output import resolve_output
from ..documents.ranges import format_pages
from ..documents.reader import Document, DocumentReader, Kept
from ..documents.source import Incoming, Snapshot
from ..engines import KNOWN
from ..engines.base import ReadOptions
from ..errors import BadRequest, NotReady, OcrError, QueueFull, Timeout, UnsupportedMode
from ..gpu.probe import GpuProbe
from ..lifecycle.base import Lifecycle, ModelStatus
from ..logs import request as request_lines
from ..models import GpuStatus, OcrRequest, Page, State, Timing, Transition
from ..modes import IGNORE_LAYER, MODES, ONLY_LAYER, RESOLUTIONS, TEXT_LAYERS
from ..observer import CLIENT_GONE, INTERNAL, OK, UNKNOWN, Observer
from .admission import Admission, Place
from .answer import (
    MAX_ANNOTATED_PAGES,
    MAX_ENTRIES,
    Answer,
    annotated_page,
    blank_notes,
    contents_entry,
    cut_to_chars,
    dump_pages,
    how_to_go_on,
    join_texts,
    remark_notes,
    result_of,
    rounded,
    save_result,
)
from .cache import DiskCache, PageCache, cache_key
from .jobs import Ask, Jobs
from .progress import OnPosition, Progress, ProgressReport, RisingProgress, position_as_progress, positions_reported

__all__ = ["LOCAL", "Incoming", "Kept", "OcrService", "Place", "Snapshot"]


LOCAL: Final = "local"  # the client of stdio and of the command line: there is one
ANSWERING_SHARE: Final = 0.02  # of the time for a reply, for putting it together
STATUS_PROBE_S: Final = 2.0  # a driver that hangs must not hang the status

P = ParamSpec("P")

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
            NotReady: the queue is full, there is no folder for pages, or the server is shutting down.
        """
        self._reader.check()
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
        on_progress = on_progress and RisingProgress(on_progress)
        with nullcontext(place) if place else self._admission.place(client) as place:
            place.line_up()
            async with positions_reported(place, on_position or position_as_progress(on_progress)):
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
            document = await self._opened(stack, upload or request.image, local, client, deadline)
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
            progress = ProgressReport(on_progress, len(wanted), place)
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

    async def _opened(
        self, stack: AsyncExitStack, image: str | Snapshot, local: bool, client: str, deadline: float
    ) -> Document:
        with anyio.CancelScope(deadline=deadline) as scope:
            return await stack.enter_async_context(self._reader.open(image, local=local, client=client))
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
        entries = [contents_entry(page.page) for page in known.all_pages()[:MAX_ENTRIES]]
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
        answer = Answer(result_of(request, document, read, pages, self._manager), whole=whole)
        result = answer.result
        result.timing = Timing(**rounded(asdict(ask.spent), 3))
        answer.notes.extend(ask.notes)
        answer.notes.extend(remark_notes(read))
        answer.notes.extend(blank_notes(read, request))
        if request.annotate:
            for page in pages[:MAX_ANNOTATED_PAGES]:
                answer.images.extend(await annotated_page(document, page))
        if save_to and late:
            answer.notes.append(
                f"{len(read)} of {len(wanted)} pages are read so far, and reading goes on. Call again with the same "
                "arguments: the file is written when all of them are."
            )
            result.truncated, result.text, result.pages = True, "", []
            return answer
        if save_to:
            await save_result(result, document, save_to, request.overwrite, self.settings.ocr_allowed_dirs)
            result.saved_to = save_to
            answer.notes.append(f"The whole text is in {save_to}.")
        shown, cut_note = cut_to_chars(pages, request.max_chars)
        left = wanted[len(shown) :]
        if shown != pages:
            result.pages, result.text = shown, join_texts(shown)
        result.truncated = bool(left or cut_note)
        if left and not save_to:
            result.next_pages = format_pages(left)
            answer.notes.append(how_to_go_on(shown, document, result.next_pages, late))
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
    async def opened(self, upload: Snapshot | Kept, client: str = "") -> AsyncIterator[Document]:
        """A document to look at: its pages as pictures. The caller holds a place."""
        async with self._reader.open(upload, local=False, client=client) as document:
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
        return self._reader.exported("searchable_pdf", dump_pages(pages), upload)

    def word_document(self, pages: Sequence[Page], title: str, mode: str) -> AbstractAsyncContextManager[str]:
        """The path of a Word document: headings, paragraphs, lists and tables."""
        return self._reader.exported("word_document", dump_pages(pages), title=title, mode=mode)

    async def confined(self) -> str:
        """What holds the document decoder back on this system, in words."""
        return str(await self._reader.confined())

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
            **rounded(asdict(facts) | {"queue": len(self._admission)}),
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

"""`OcrService`: read, status, offload and release, the same for every edge.

The service checks a request before it loads anything. It opens the document and takes pages from the cache or from a
job (`jobs.py`). Its answer fits `max_chars`, comes in time, and says how to get the rest.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Final, Self

import anyio
import anyio.to_thread

from ..caller import Caller
from ..config import MB, Settings
from ..documents.argument import Argument
from ..documents.listing import Listing, find
from ..documents.output import resolve_output
from ..documents.ranges import format_pages
from ..documents.reach import Reach
from ..documents.reader import Document, DocumentReader, KeptDocument
from ..documents.source import Incoming, Snapshot
from ..engines import KNOWN
from ..engines.base import ReadOptions
from ..errors import BadRequest, NotReady, OcrError, QueueFull, Timeout, UnsupportedMode
from ..export_formats import EXPORT_FORMATS, ExportOptions, export_format
from ..gpu.probe import GpuProbe
from ..lifecycle.base import Lifecycle, ModelStatus
from ..logs import request as request_lines
from ..models import GpuStatus, OcrRequest, OcrResult, Page, State, Timing, Transition
from ..modes import DEFAULT_MODE, IGNORE_LAYER, MODES, ONLY_LAYER, RESOLUTIONS, TEXT_LAYERS
from ..observer import CLIENT_GONE, INTERNAL, OK, UNKNOWN, Observer
from .admission import Admission, Place
from .answer import (
    MAX_ANNOTATED_PAGES,
    MAX_ENTRIES,
    Answer,
    annotated_page,
    contents_entry,
    cut_to_chars,
    document_notes,
    dump_pages,
    first_error,
    how_to_go_on,
    join_texts,
    page_notes,
    result_of,
    rounded,
)
from .cache import DiskCache, PageCache, cache_key
from .files import FileWriter
from .folders import FolderReader
from .jobs import Ask, Jobs, OnPages
from .progress import ProgressReport, Terms, position_as_progress, positions_reported
from .work import SharedDocument, View, Work

__all__ = ["Answer", "Incoming", "KeptDocument", "OcrService", "Place", "Snapshot"]


ANSWERING_SHARE: Final = 0.02  # part of the time for a reply that is left for making the answer
STATUS_PROBE_S: Final = 2.0  # seconds for the driver, which may hang, to answer


@dataclass(slots=True)
class _Observation:
    """The facts about an answered request, for the observer."""

    result: OcrResult | None = None


class OcrService:
    """Reads documents for every edge. Use it inside `async with service.running():`.

    Args:
        settings: the operator's settings.
        reason: a sentence that says why this engine was chosen.
        manager: the lifecycle of the engine.
        reader: opens documents.
        fallback: reads while `manager` has no card or endpoint; None: nothing does.
    """

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
        self.folders = FolderReader(settings, manager.engine.name, self.read)

    def tell(self, observer: Observer) -> None:
        """Replace the observer that learns of all events."""
        self.observer = observer
        for manager in filter(None, (self._manager, self._fallback)):
            manager.observer = observer

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The lifespan of the service. Every process, task and file that it started is gone at the end."""
        async with AsyncExitStack() as stack:
            stack.callback(self._cache.close)
            await stack.enter_async_context(self._reader.running())
            for manager in filter(None, (self._manager, self._fallback)):
                await stack.enter_async_context(manager.running())
            async with anyio.create_task_group() as tasks:
                self._jobs.start(tasks)
                tasks.start_soon(self._cache.run_expiry)
                async with self.folders.running():
                    yield self
                tasks.cancel_scope.cancel()

    @property
    def state(self) -> State:
        """The state of the model."""
        return self._manager.state

    @property
    def ready_state(self) -> State:
        """The state in which the engine reads."""
        return self._manager.ready_state

    @property
    def reason(self) -> str:
        """Why this engine was chosen."""
        return self._reason

    def ready(self) -> None:
        """Return if the service can take a request now.

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
            QueueFull: no place is free for this client.
        """
        with ExitStack() as stack:
            try:
                place = stack.enter_context(self._admission.place(client))
            except QueueFull as exc:
                self.observer.request_ended(UNKNOWN, self.engine.name, exc.code, 0.0)
                raise
            yield place

    def receive(self) -> AbstractAsyncContextManager[Incoming]:
        """Room for a file that is being sent. `read` takes its snapshot while the context lasts."""
        return self._reader.receive()

    async def keep(self, snapshot: Snapshot) -> KeptDocument:
        """Keep a file that was received, until its holder lets it go."""
        return await self._reader.keep(snapshot)

    def lend(self, kept: KeptDocument, name: str) -> AbstractAsyncContextManager[Snapshot]:
        """The file of a kept document, as if it had just been received. `read` takes it while the context lasts."""
        return self._reader.lent(kept, name)

    async def ocr(self, request: OcrRequest, caller: Caller, terms: Terms | None = None) -> Answer:
        """Read the document, or the documents of the folder, that `request.image` names. Every edge enters here.

        A folder or a pattern is read into files if the request has a `save_to`; otherwise its files are listed.

        Args:
            request: the request.
            caller: the client, and the folders that it may use.
            terms: the way in which the caller wants its answer; None: all pages, however long they take.

        Raises:
            QueueFull: no place is free for this client.
            NotReady: the model still loads when the time of `terms` is over.
            OcrError: see `errors.py`. The service goes on after any of them.
        """
        terms = terms or Terms()
        source = terms.upload or await find(request.image, Reach.of(caller, self.settings))
        if not isinstance(source, Listing):
            return await self.read(request, source, caller, terms)
        if not request.save_to.strip():
            return self.folders.describe(request, source)
        return await self.folders.read(request, source, caller, terms)

    async def read(self, request: OcrRequest, source: Argument | Snapshot, caller: Caller, terms: Terms) -> Answer:
        """Read the pages of one document. Raises as `ocr` does.

        Args:
            request: the request. Its `image` is ignored.
            source: the document.
            caller: the client.
            terms: the way in which the client wants its answer.
        """
        began, deadline = time.monotonic(), anyio.current_time() + terms.reply_s * (1 - ANSWERING_SHARE)
        terms = terms.rising()
        with self._observed(request) as observation, self._admitted(request, caller, terms) as place:
            async with positions_reported(place, terms.on_position or position_as_progress(terms.on_progress)):
                output = await self._output(request, caller)
                async with self._open(source, caller, terms.password, deadline) as shared:
                    work = await self._work(request, shared)
                    limit = None if output else request.max_chars or None
                    view = View(request.mode, request.find_term)
                    ask = Ask(shared.document.numbers(request.pages), view, limit=limit, client=caller.name)
                    try:
                        report = ProgressReport(terms.on_progress, len(ask.numbers), place)
                        await self._follow(ask, work, deadline, report, terms.on_pages)
                        answer = await self._answer(request, work, ask, output)
                        if terms.reply_s < inf:
                            await self._read_ahead(answer, work, ask)
                        if ask.outstanding() and not ask.pages():
                            self._refuse_while_loading()
                        if answer.result.next_pages and len(ask.numbers) == shared.document.page_count:
                            await self._add_contents(answer, work, ask)
                        if not self._cache.enabled:
                            await self._settle(ask, answer, work)
                    finally:
                        self._jobs.leave(ask, work)
                    if terms.keep_document:
                        answer = replace(answer, kept_document=await shared.document.keep())
            answer.result.timing.total_s = round(time.monotonic() - began, 3)
            observation.result = answer.result
        return answer

    @contextmanager
    def _observed(self, request: OcrRequest) -> Iterator[_Observation]:
        """A context for the reading of one request: its log lines carry an id, and the observer learns how it ended."""
        began = time.monotonic()
        outcome, observation = INTERNAL, _Observation()
        with request_lines():
            try:
                yield observation
                outcome = OK
            except OcrError as exc:
                outcome = exc.code
                raise
            except anyio.get_cancelled_exc_class():
                outcome = CLIENT_GONE
                raise
            finally:
                result = observation.result
                self.observer.request_ended(
                    request.mode if request.mode in MODES else UNKNOWN,
                    result.engine if result else self.engine.name,
                    outcome,
                    time.monotonic() - began,
                    pages=len(result.pages) if result else 0,
                    timing=result.timing if result else None,
                )

    @contextmanager
    def _admitted(self, request: OcrRequest, caller: Caller, terms: Terms) -> Iterator[Place]:
        """A place in the line for a request whose arguments were checked. Raises `BadRequest` and `QueueFull`."""
        self.check(request)
        with nullcontext(terms.place) if terms.place else self._admission.place(caller.name) as place:
            place.line_up()
            yield place

    async def _output(self, request: OcrRequest, caller: Caller) -> str:
        """The path of the file to write; empty if the request names none."""
        if not request.save_to:
            return ""
        return await resolve_output(request.save_to, Reach.of(caller, self.settings), overwrite=request.overwrite)

    @asynccontextmanager
    async def _open(
        self, source: Argument | Snapshot, caller: Caller, password: str, deadline: float
    ) -> AsyncIterator[SharedDocument]:
        """An open document. It outlives this context while a job holds it.

        Raises:
            Timeout: the document could not be opened before the deadline.
        """
        async with AsyncExitStack() as opening:
            with anyio.CancelScope(deadline=deadline) as scope:
                known = password or (self.settings.local_pdf_password if caller.is_local else "")
                document = await opening.enter_async_context(self._reader.open(source, caller.name, password=known))
            if scope.cancelled_caught:
                raise Timeout(
                    f"The document could not be opened within {self.settings.ocr_reply_seconds:g} s.",
                    remedy="Send fewer or smaller pages, or have the operator raise OCR_REPLY_SECONDS.",
                )
            shared = SharedDocument(document, opening.pop_all().aclose)
        try:
            yield shared
        finally:
            await shared.release()

    async def _work(self, request: OcrRequest, shared: SharedDocument) -> Work:
        """The work that answers this request. Its keys hold everything that the text of a page depends on."""
        document, text_alone = shared.document, MODES[request.mode].text_alone
        layered = document.format == "PDF" and text_alone
        text_layer = request.text_layer if layered or request.text_layer == ONLY_LAYER else IGNORE_LAYER
        options = ReadOptions(request.mode, request.find_term, request.custom_prompt, request.resolution)
        if self.engine.gives_lines:  # such an engine answers every mode with the same reading
            options = ReadOptions(DEFAULT_MODE, resolution=request.resolution)
        page: tuple[object, ...] = (
            document.snapshot.sha256,
            request.resolution,
            text_layer,
            self.settings.ocr_pdf_dpi,
            self.settings.max_pixels,
            await self._engine_version(),
        )
        barcodes = self.settings.ocr_barcodes == "on" and request.text_layer != ONLY_LAYER
        page += ("barcodes",) * barcodes
        reading_key = cache_key(*page) if text_alone else ""
        key = reading_key if self.engine.gives_lines else cache_key(*page, asdict(options))
        return Work(key, reading_key, shared, options, text_layer, barcodes)

    async def _follow(
        self, ask: Ask, work: Work, deadline: float, progress: ProgressReport, on_pages: OnPages | None
    ) -> None:
        """Wait until the pages of an ask are there, or until the deadline.

        Raises:
            OcrError: no page could be read. If some pages are there, the error stays in `ask.error`.
        """
        await self._jobs.fill(ask, work)
        if ask.outstanding():
            self._jobs.join(ask, work)
            with anyio.CancelScope(deadline=deadline):
                await ask.follow(progress, on_pages)
        read = ask.pages()
        error = ask.error if not read else None if ask.outstanding() else first_error(read)
        if error is not None:
            raise error

    async def _read_ahead(self, answer: Answer, work: Work, ask: Ask) -> None:
        """Begin to read the pages that the next call will ask for."""
        left = ask.numbers[len(answer.result.pages) :]
        if left and ask.error is None and not answer.result.saved_to:
            ahead = Ask(left, ask.view, limit=ask.limit, client=ask.client, background=True)
            await self._jobs.fill(ahead, work)
            if ahead.outstanding():
                self._jobs.join(ahead, work)

    async def _engine_version(self) -> str:
        """The version of the engine.

        It is read on a thread if the engine has weights, because they may lie on a slow disk.
        """
        if not self.engine.weights:
            return self.engine.version(self.settings.ocr_model, self.settings.ocr_precision)
        return await anyio.to_thread.run_sync(self.engine.version, self.settings.ocr_model)

    def _refuse_while_loading(self) -> None:
        """Raise `NotReady` if the model still loads. The pages are read all the same when it is ready."""
        seconds = self._manager.loading_s
        if seconds is not None:
            raise NotReady(
                f"The model has been loading for {seconds:.0f} s and is not ready yet.",
                remedy="Call again in half a minute: the load goes on meanwhile.",
            )

    async def _add_contents(self, answer: Answer, work: Work, ask: Ask) -> None:
        """Add a table of contents of the pages that are read."""
        known = Ask(ask.numbers, ask.view)
        for read in ask.pages():
            known.give(read)
        await self._jobs.fill(known, work)
        entries = [contents_entry(page.page, answer.result.mode) for page in known.all_pages()[:MAX_ENTRIES]]
        if len(entries) > 1:
            answer.result.contents = entries
            lines = [f"page {entry.page}: {entry.heading or '(blank)'} ({entry.chars})" for entry in entries]
            answer.add("contents", "\n".join(["Contents so far, with characters:", *lines]))

    async def _settle(self, ask: Ask, answer: Answer, work: Work) -> None:
        """With `OCR_CACHE=off`: forget the pages of the answer, keep the pages beyond it for a moment."""
        shown = {page.page for page in answer.result.pages}
        for read in ask.pages():
            if read.page.page in shown or answer.result.saved_to:
                self._cache.answered(work.page_key(read))
            elif read.error is None:
                await self._cache.put(work.page_key(read), read.to_dict())

    async def _answer(self, request: OcrRequest, work: Work, ask: Ask, output: str) -> Answer:
        """Make the answer from the pages that are there, and write the file that the request names."""
        read, late = ask.pages(), ask.error is None and bool(ask.outstanding())
        result = result_of(request, work.document, read, (self._manager.engine.name, self._manager.device))
        errors = {f"page {page.page.page}": page.error for page in read if page.error is not None}
        if ask.error is not None:
            errors["pages that are left"] = ask.error
        tokens = [page.tokens for page in read if page.tokens is not None]
        whole = [page.page.model_copy() for page in read]
        answer = Answer(result, whole=whole, tokens=sum(tokens) if tokens else None, errors=errors)
        result.timing = Timing(**rounded(asdict(ask.spent), 3))
        result.notes += [*request.notes, *ask.notes, *document_notes(work.document), *page_notes(read, request)]
        if request.annotate:
            for page in result.pages[:MAX_ANNOTATED_PAGES]:
                answer.images.extend(await annotated_page(work.document, page))
        if output and ask.error is not None:
            raise ask.error
        if output and late:
            answer.add(
                "more",
                f"{len(read)} of {len(ask.numbers)} pages are read so far, and reading goes on. Call again with the "
                "same arguments: the file is written when all of them are.",
            )
            result.truncated, result.text, result.pages = True, "", []
            return answer
        if output:
            dirs = self.settings.ocr_allowed_dirs
            await FileWriter(work.document, output, request, dirs, self._export).write(result)
            result.saved_to = output
            answer.add("saved", _saved(output, result))
        self._fit(answer, request, work, ask)
        return answer

    def _fit(self, answer: Answer, request: OcrRequest, work: Work, ask: Ask) -> None:
        """Cut the answer to `max_chars`, and say how to go on."""
        result = answer.result
        cut = cut_to_chars(result.pages, request.max_chars)
        shown = cut.pages
        left = ask.numbers[len(shown) :]
        if shown != result.pages:
            result.pages, result.text = shown, join_texts(shown)
        result.truncated, result.next_max_chars = bool(left or cut.note), cut.next_max_chars
        if ask.error is not None:
            answer.add("stopped", str(ask.error), format_pages(ask.missing()))
        if left and not result.saved_to:
            result.next_pages = format_pages(left)
            late = ask.error is None and bool(ask.outstanding())
            answer.add("more", how_to_go_on(shown, work.document, result.next_pages, late))
        if cut.note is not None:
            result.notes.append(cut.note)
        for page in result.pages:
            if request.boxes == "none" and request.mode != "find":
                page.blocks = None
            elif request.boxes != "words":
                page.blocks = page.blocks and [block.model_copy(update={"words": None}) for block in page.blocks]
            if not request.raw:
                page.raw = None

    def why_not(self, mode: str) -> str:
        """The reason why the engine cannot do a mode; empty if it can."""
        if mode in self.engine.modes:
            return ""
        return f"The engine {self.engine.name} cannot do mode {mode}: it has no language model."

    def check(self, request: OcrRequest) -> None:
        """Check the arguments of a request, before the engine or the document is needed.

        Raises:
            BadRequest: an argument, or a combination of arguments, makes no sense.
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
        if request.mode == "find":
            from .search import check_term

            check_term(request, self.engine)
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
    async def opened(self, upload: Snapshot | KeptDocument, client: str = "") -> AsyncIterator[Document]:
        """Open a document for pictures of its pages. The caller holds a place."""
        async with self._reader.open(upload, client) as document:
            yield document

    def export(
        self,
        format: str,
        pages: Sequence[Page],
        document: Snapshot | KeptDocument | None = None,
        *,
        options: ExportOptions = ExportOptions(),  # noqa: B008 - frozen
        client: str = "",
    ) -> AbstractAsyncContextManager[str]:
        """A file with these pages, as they were read. The path is good while the context lasts.

        Args:
            format: a name of `EXPORT_FORMATS`.
            pages: the pages.
            document: the document of the pages, for a format that needs it.
            options: the title and the mode of the pages, and more.
            client: the name of the client; clients take turns.

        Raises:
            BadRequest: there is no such format, or the format needs the document, boxes or tables, and these are
                missing.
        """
        known = EXPORT_FORMATS.get(format)
        if known is None:
            raise BadRequest(f"There is no format {format!r}.", remedy=f"Use one of {', '.join(EXPORT_FORMATS)}.")
        if known.needs_document and document is None:
            raise BadRequest(
                f"A {known.title} needs the document itself.",
                remedy="Send a form with the document as `file` and this JSON as `result`.",
            )
        if known.needs_boxes:
            _check_boxes(pages, known.title)
        return self._reader.exported(format, dump_pages(pages), options, document, client)

    def export_together(
        self, parts: Sequence[tuple[Snapshot, Sequence[Page]]], options: ExportOptions, client: str = ""
    ) -> AbstractAsyncContextManager[str]:
        """The path of one searchable PDF of several documents.

        Args:
            parts: each document with its pages as they were read.
            options: the title and the like.
            client: the name of the client, for a fair share of turns.

        Raises:
            BadRequest: no page of them has a block with text and a box.
        """
        _check_boxes((page for _, pages in parts for page in pages), EXPORT_FORMATS["pdf"].title)
        dumped = [(document, dump_pages(pages)) for document, pages in parts]
        return self._reader.joined(dumped, options, client)

    def _export(
        self, format: str, pages: Sequence[Page], document: KeptDocument, options: ExportOptions
    ) -> AbstractAsyncContextManager[str]:
        return self.export(format, pages, document, options=options)

    async def confined(self) -> str:
        """A sentence on the bounds that this system sets to the document decoder."""
        return str(await self._reader.confined())

    async def status(self) -> GpuStatus:
        """The status. It never waits for a page that is being read."""
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
        """Move the weights off the GPU and keep them in host memory. Raises `Busy` after a bounded wait."""
        self._jobs.stop_unattended()  # such a job would bring the weights back at once
        return await self._manager.offload()

    async def release(self, force: bool = False) -> Transition:
        """End the worker, which gives all memory back. Raises `Busy` after a bounded wait.

        Args:
            force: whether pages that are being read are given up instead of waited for.
        """
        self._jobs.stop_unattended()
        return await self._manager.release(force)


def _check_boxes(pages: Iterable[Page], title: str) -> None:
    """Raise `BadRequest` if no page has a block with text, which the format of this title places."""
    if not any(block.text for page in pages for block in page.blocks or ()):
        raise BadRequest(
            f"None of these pages has blocks with text and a box, so no {title} can be made of them.",
            remedy="Read the document with boxes=words, then send its `pages` as they were answered.",
        )


def _saved(output: str, result: OcrResult) -> str:
    """The sentence on a file that was written."""
    format, read = export_format(output), format_pages([page.page for page in result.pages])
    is_whole = len(result.pages) == result.page_count
    if format is not None and format.tables_alone:
        tables = "The tables" if is_whole else f"The tables of pages {read} of {result.page_count}"
        return f"{tables} are in {output}, without the text around them; .md, .json and others hold all text."
    if is_whole:
        return f"The whole text is in {output}."
    if format is not None and format.needs_document:
        return f"{output} has all pages of the document; only pages {read} were read, and the others hold no new text."
    return f"The text of pages {read} of {result.page_count} is in {output}."


def _held_mb(probe: GpuProbe, facts: ModelStatus) -> int | None:
    """MiB that all workers hold on cards; None if a driver does not tell. Also sets `gpu_mb` of each of several
    workers."""
    if not facts.workers:
        return None if facts.worker_pid is None else probe.process_mb(facts.worker_pid)
    for worker in facts.workers:
        worker.gpu_mb = 0 if worker.pid is None else probe.process_mb(worker.pid)
    held = [worker.gpu_mb for worker in facts.workers]
    return None if None in held else sum(mb or 0 for mb in held)

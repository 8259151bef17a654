"""`OcrService`: the four things this product does, the same for every edge.

A request is checked before anything is loaded; its document is opened, its pages are read batch
by batch while the next ones are drawn; the answer fits `max_chars` and says how to go on.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectSendStream
from pydantic import ValidationError

from .config import Settings
from .documents.ranges import format_pages, parse_pages
from .documents.renderer import Document, DocumentReader
from .documents.source import resolve_output, write_atomically
from .engines import KNOWN
from .engines.base import PageImage, ReadOptions
from .errors import BadRequest, GpuBusy, OcrError, UnsupportedMode
from .lifecycle.manager import ModelManager, Reading
from .models import Block, GpuStatus, OcrRequest, OcrResult, Page, Timing, Transition
from .modes import MODES, RESOLUTIONS
from .results.markup import FIGURE_LABELS, figure_mark
from .worker.client import OnProgress

__all__ = ["Answer", "OcrService", "Progress"]

MAX_ANNOTATED_PAGES: Final = 5  # images of about 500 kB each: more would choke most clients
LOADING_SHARE: Final = 0.04  # of a page, on the progress bar: what comes before the engine's own progress
STATUS_PROBE_S: Final = 2.0  # a driver that hangs must not hang the status

Progress = Callable[[float, float, str], Awaitable[None]]
"""Called with pages done, pages in all, and a sentence; the first strictly increases."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What `read` returns: the result, and what an edge may show beside it."""

    result: OcrResult
    notes: list[str] = field(default_factory=list)
    """Sentences for the caller: blank pages, where the text was cut, how to go on."""
    images: list[tuple[bytes, str]] = field(default_factory=list)
    """Annotated pages: encoded bytes and media type."""
    whole: list[Page] = field(default_factory=list)
    """Every page that was read for this answer, with its text uncut."""


class OcrService:
    """Use it inside `async with service.running():`."""

    def __init__(
        self,
        settings: Settings,
        reason: str,
        manager: ModelManager,
        reader: DocumentReader,
        *,
        fallback: ModelManager | None = None,
    ) -> None:
        self.settings = settings
        self.engine = manager.engine
        self._reason = reason
        self._manager = manager
        self._reader = reader
        self._fallback = fallback

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Everything that needs an end has it here."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._reader.running())
            for manager in filter(None, (self._manager, self._fallback)):
                await stack.enter_async_context(manager.running())
            yield self

    async def read(self, request: OcrRequest, *, local: bool, on_progress: Progress | None = None) -> Answer:
        """Read the pages of a document.

        Args:
            local: whether the caller sits on this machine: then paths are its own.

        Raises:
            OcrError: see `errors.py`; whatever it is, the service goes on.
        """
        began = time.monotonic()
        self._check(request)
        save_to = ""
        if request.save_to:
            save_to = await resolve_output(
                request.save_to, settings=self.settings, local=local, overwrite=request.overwrite
            )
        async with self._manager.lease(), self._reader.open(request.image, local=local) as document:
            wanted = parse_pages(request.pages, document.page_count)
            progress = _Progress(on_progress, len(wanted))
            work = _Work(self._manager, self._fallback, document, request, progress)
            limit = request.max_chars if request.max_chars and not save_to else None
            pages = await work.read(wanted, limit)
            if save_to:
                whole = self._result(request, pages, document, work, wanted[len(pages) :])
                await _save(whole, save_to, work.figures, request.overwrite)
        notes = work.notes + _blank_notes(pages, request)
        shown, cut_note = _cut(pages, request.max_chars)
        left = wanted[len(shown) :]
        result = self._result(request, shown, document, work, left)
        result.saved_to = save_to
        result.truncated = bool(left or cut_note)
        if save_to:
            notes.append(f"The whole text is in {save_to}.")
            result.next_pages = ""
        elif left:
            notes.append(
                f"Read up to page {shown[-1].page} of {document.page_count}. "
                f'To go on, call again with pages="{result.next_pages}".'
            )
        if cut_note:
            notes.append(cut_note)
        for page in result.pages:
            if not request.boxes and request.mode != "find":
                page.blocks = None
            if not request.raw:
                page.raw = None
        result.timing.total_s = round(time.monotonic() - began, 3)
        return Answer(result, notes, work.images, pages)

    def _check(self, request: OcrRequest) -> None:
        if request.mode not in MODES:
            raise BadRequest(f"There is no mode {request.mode!r}.", remedy=f"Use one of {', '.join(MODES)}.")
        if request.mode not in self.engine.modes:
            able = [spec.name for spec in KNOWN.values() if request.mode in spec.modes]
            own = ", ".join(mode for mode in MODES if mode in self.engine.modes)
            raise UnsupportedMode(
                f"The engine {self.engine.name} cannot do mode {request.mode}: it has no language model.",
                remedy=f"Use one of its modes ({own}), or have the operator set OCR_ENGINE={' or '.join(able)}.",
            )
        needed = MODES[request.mode].needs
        if needed and not getattr(request, needed).strip():
            raise BadRequest(f"Mode {request.mode} needs {needed}.", remedy=f"Give {needed}, or use another mode.")
        if request.resolution not in RESOLUTIONS:
            raise BadRequest(
                f"There is no resolution {request.resolution!r}.",
                remedy=f"Use one of {', '.join(RESOLUTIONS)}.",
            )

    def _result(
        self, request: OcrRequest, pages: list[Page], document: Document, work: _Work, left: list[int]
    ) -> OcrResult:
        return OcrResult(
            text="\n\n".join(page.text for page in pages if page.text),
            pages=pages,
            page_count=document.page_count,
            mode=request.mode,
            engine=work.engine,
            model=work.model,
            device=work.device,
            truncated=bool(left),
            next_pages=format_pages(left),
            timing=Timing(
                queued_s=round(work.queued_s, 3), load_s=round(work.load_s, 3), infer_s=round(work.infer_s, 3)
            ),
        )

    async def status(self) -> GpuStatus:
        """What is true now; never waits for a page that is being read."""
        probe = self._manager.probe
        facts = self._manager.status()
        gpus, note, worker_gpu_mb = [], "The driver did not answer in time.", None
        with anyio.move_on_after(STATUS_PROBE_S):
            gpus = await anyio.to_thread.run_sync(probe.cards, abandon_on_cancel=True)
            note = "" if gpus else probe.note
            if gpus and facts.worker_pid is not None:
                worker_gpu_mb = await anyio.to_thread.run_sync(
                    probe.process_mb, facts.worker_pid, abandon_on_cancel=True
                )
        return GpuStatus(
            engine=self.engine.name,
            engine_reason=self._reason,
            modes=[mode for mode in MODES if mode in self.engine.modes],
            gpus=gpus,
            gpu_note=note,
            worker_gpu_mb=worker_gpu_mb,
            **_rounded(asdict(facts)),
        )

    async def offload(self) -> Transition:
        """Weights off the GPU, kept in host memory. Raises `Busy` after a bounded wait."""
        return await self._manager.offload()

    async def release(self, force: bool = False) -> Transition:
        """End the worker and give everything back. Raises `Busy` after a bounded wait."""
        return await self._manager.release(force)


class _Progress:
    """Turns batches into one strictly increasing number of pages done."""

    def __init__(self, report: Progress | None, total: int) -> None:
        self._report = report
        self._total = total
        self._last = -1.0

    async def __call__(self, done: float, message: str) -> None:
        least = LOADING_SHARE / 2  # a client redraws its bar for each of these
        if self._report is None or done < self._last + least:
            return
        self._last = done
        await self._report(round(done, 3), float(self._total), message)


class _Work:
    """The reading of one request's pages."""

    def __init__(
        self,
        manager: ModelManager,
        fallback: ModelManager | None,
        document: Document,
        request: OcrRequest,
        progress: _Progress,
    ) -> None:
        self._manager = manager
        self._fallback = fallback
        self._document = document
        self._request = request
        self._progress = progress
        self.images: list[tuple[bytes, str]] = []
        self.figures: dict[tuple[int, int], str] = {}
        """Page and number of a figure to the file that it was cut into."""
        self.queued_s = self.load_s = self.infer_s = 0.0
        self.engine = manager.engine.name
        self.model = self.device = ""
        self.notes: list[str] = []

    async def read(self, numbers: list[int], limit: int | None) -> list[Page]:
        """The pages in order; no further batch is begun once `limit` characters are there."""
        pages: list[Page] = []
        send, receive = anyio.create_memory_object_stream[list[PageImage]](0)
        try:
            async with anyio.create_task_group() as tasks, receive:
                tasks.start_soon(self._draw, numbers, send)
                async for images in receive:
                    batch = numbers[len(pages) : len(pages) + len(images)]
                    pages += await self._read_batch(batch, images, len(pages))
                    if limit is not None and sum(len(page.text) for page in pages) >= limit:
                        break
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        return pages

    async def _draw(self, numbers: list[int], send: MemoryObjectSendStream[list[PageImage]]) -> None:
        """Draw batch after batch, one ahead of the engine: the stream holds none."""
        size = self._manager.engine.batch_pages
        async with send:
            for start in range(0, len(numbers), size):
                await send.send([await self._document.page(number) for number in numbers[start : start + size]])

    async def _read_batch(self, numbers: list[int], images: list[PageImage], done: int) -> list[Page]:
        request = self._request
        what = f"page {numbers[0]}" if len(numbers) == 1 else f"pages {numbers[0]}-{numbers[-1]}"
        what += f" of {self._document.page_count}"
        if self._manager.state is not self._manager.ready_state:
            await self._progress(done + LOADING_SHARE / 2, f"loading the model for {what}")

        async def report(fraction: float, message: str) -> None:
            within = LOADING_SHARE + (1 - LOADING_SHARE) * fraction
            await self._progress(done + within * len(numbers), f"{what}: {message}" if message else what)

        options = ReadOptions(request.mode, request.find_term, request.custom_prompt, request.resolution)
        reading = await self._read_somewhere(images, options, report)
        self.queued_s += reading.queued_s
        self.load_s += reading.load_s
        self.infer_s += reading.infer_s
        self.engine, self.model, self.device = reading.engine, reading.model, reading.device
        await self._progress(done + len(numbers), f"{what} read")
        pages = []
        for number, image, fields in zip(numbers, images, reading.pages, strict=True):
            try:
                if remark := fields.pop("remark", ""):
                    self.notes.append(f"Page {number}: {remark}")
                page = Page(page=number, width=image.width, height=image.height, **fields)
            except (ValidationError, TypeError) as exc:
                raise OcrError(
                    f"The engine {self.engine} answered something that is no page: {type(exc).__name__}.",
                    remedy="This is a fault of the engine; set OCR_ENGINE=auto to use the embedded one.",
                ) from exc
            if request.annotate and page.blocks and len(self.images) < MAX_ANNOTATED_PAGES:
                self.images.append(await self._document.annotate(image, [block.model_dump() for block in page.blocks]))
            if _is_markdown(request.save_to):
                for number_of, block in enumerate(_figures(page), start=1):
                    self.figures[page.page, number_of] = await self._document.crop(image, block.box)
            self._document.discard(image)
            pages.append(page)
        return pages

    async def _read_somewhere(self, images: list[PageImage], options: ReadOptions, report: OnProgress) -> Reading:
        """By the engine, or by the fallback while no GPU has room."""
        try:
            return await self._manager.read(images, options, on_progress=report)
        except GpuBusy as busy:
            fallback = self._fallback
            if fallback is None or options.mode not in fallback.engine.modes:
                raise
            if not self.notes:
                self.notes.append(f"{busy.message} Read by {fallback.engine.name} instead (OCR_FALLBACK).")
            async with fallback.lease():
                return await fallback.read(images, options, on_progress=report)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one failure in a group: of two tasks, the other was cancelled for it."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _blank_notes(pages: list[Page], request: OcrRequest) -> list[str]:
    empty = [page.page for page in pages if not page.text]
    if not empty:
        return []
    which = f"Page{'s' if len(empty) > 1 else ''} {format_pages(empty)}"
    if request.mode == "find":
        return [f"{which}: {request.find_term!r} was not found."]
    return [f"{which}: blank, no text was found."]


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


async def _save(result: OcrResult, path: str, figures: dict[tuple[int, int], str], overwrite: bool) -> None:
    """Write the text, and the figures of a Markdown text into a folder beside it, linked."""
    if figures:
        folder = Path(path).with_suffix("").with_name(Path(path).stem + "-figures")
        await anyio.Path(folder).mkdir(exist_ok=True)
        texts = []
        for page in result.pages:
            text = page.text
            for number, _ in enumerate(_figures(page), start=1):
                name = f"page-{page.page}-figure-{number}.png"
                data = await anyio.Path(figures[page.page, number]).read_bytes()
                await write_atomically(str(folder / name), data, overwrite)
                text = text.replace(figure_mark(number), f"![Figure {number}]({quote(folder.name)}/{name})")
            texts.append(text)
        result = result.model_copy(update={"text": "\n\n".join(text for text in texts if text)})
    await write_atomically(path, _serialised(result, path), overwrite)


def _serialised(result: OcrResult, path: str) -> bytes:
    if path.lower().endswith(".json"):
        return (result.model_dump_json(indent=2, exclude_none=True) + "\n").encode()
    return (result.text + "\n").encode("utf-8", "replace")


def _rounded(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in fields.items()}

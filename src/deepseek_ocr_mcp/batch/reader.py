"""Reads documents with an engine of its own, and writes their texts and rows.

A reader is an `OcrService` in a Ray actor: engine and decoder are its children. So a crash, a hang or a hostile file
costs one try of one page, as in a server, and never the actor. If the actor itself is killed, Ray starts another and
gives it the same row. The new actor does not read again what the first had finished. A unit that kills its actor time
and again is reported as failed, and units that were read beside it are not.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from .. import logs
from ..app.run import running_service
from ..caller import Caller
from ..config import Settings
from ..documents.private import private_folder
from ..documents.ranges import format_pages
from ..engines import EngineSpec, choose_engine
from ..errors import OcrError, UnreadableInput, WorkerCrashed, from_dict, unforeseen
from ..gpu.probe import GpuProbe
from ..models import OcrRequest, Page
from ..service.answer import Answer
from ..service.folders import ABOUT_ANSWER
from ..service.progress import Terms
from ..service.service import OcrService
from .assembly import RANK, Assembler
from .counts import Counts
from .loop import ActorLoop
from .manifest import write_part
from .plan import Round, Task, counts_of, from_row
from .planner import REPORT, snapshot_of
from .shards import ShardDocument, write_piece
from .state import FILES, ManifestRow, Unit, UnitText

__all__ = ["ATTEMPTS", "RowReader", "UnitReader", "engine_here", "reader_settings"]

log = logging.getLogger(__name__)

ATTEMPTS: Final = 3  # of a unit over which its actor dies; from the second on nothing else is read beside it
FLUSH_S: Final = 5.0  # what an actor has read since then is read again when it dies
RETRY_S: Final = 1.0  # while the line is full or the model loads


def reader_settings(settings: Settings, engine: str, threads: int) -> Settings:
    """The operator's settings as a reader needs them: its engine stays where it is, and it has its own cores.

    Args:
        settings: the operator's settings.
        engine: the name of the engine that the run has chosen.
        threads: the threads of this reader, where `OCR_THREADS` is not set.
    """
    return settings.model_copy(
        update={
            "ocr_engine": engine,
            "ocr_threads": settings.ocr_threads or threads,
            "ocr_cache": "off",  # nothing is asked twice here
            "ocr_cache_dir": "",
            "gpu_offload_after": -1.0,
            "gpu_idle_timeout": -1.0,
            "ocr_auth_token": None,  # a reader serves nobody
        }
    )


def engine_here(settings: Settings) -> tuple[EngineSpec, str]:
    """The engine that this machine would use, and its version.

    An engine of somebody's own has no version, nor has a model that an endpoint serves and nobody named: what they
    have read counts as read until it is asked for anew.

    Raises:
        BadRequest: nothing is known by that name.
    """
    spec, _ = choose_engine(settings.ocr_engine, model=settings.ocr_model, gpu=settings.ocr_gpu, cards=GpuProbe().cards)
    if spec.is_remote and not settings.ocr_model:
        return spec, spec.name
    return spec, spec.version(settings.ocr_model, settings.ocr_precision) if spec.is_known else spec.target


@dataclass(slots=True)
class _UnitInHand:
    """A unit that was read, or that failed, before anybody else knows."""

    task: Task
    text: UnitText | None
    error: OcrError | None
    ends_document: bool
    """Whether the document is to be written now."""

    @property
    def name(self) -> str:
        return Unit(self.task.document, self.task.unit).name

    @property
    def is_whole(self) -> bool:
        """Whether the unit is a document."""
        return len(self.task.units) == 1


class RowReader:
    """What a reader does with a row.

    Args:
        current: the pass over the documents.
        read: reads the unit of a task.
        ledger: the ledger, each method with `remote`.
        at_once: rows that are in hand at once.
    """

    def __init__(self, current: Round, read: Callable[[Task], Awaitable[UnitText]], ledger: Any, at_once: int) -> None:
        self._out = current.out
        self._format = current.options.format
        self._read_unit = read
        self._ledger = ledger
        self._at_once = at_once
        self._assembler = Assembler(current)
        self._room, self._doors = anyio.Semaphore(at_once), anyio.Lock()

    async def read_row(self, row: Mapping[str, str]) -> Counts:
        """Read the units of a row. Returns what was counted on its way until then.

        Only errors that every further document would meet end it early; they are in the counts.
        """
        counts = counts_of(row)
        hand: list[_UnitInHand] = []
        since = time.monotonic()
        for task in from_row(row):
            attempts, ended = await self._ledger.begin.remote(Unit(task.document, task.unit).name, task.document)
            if ended is not None:
                counts.add(Counts.load(ended))
                continue
            async with self._alone() if attempts else contextlib.nullcontext():
                unit = await self._read(task, attempts)
                if unit.error is not None and unit.error.is_fatal:
                    counts.add_fatal(unit.error)
                    break
                hand.append(unit)
                # A unit that was read alone and killed nothing is written before another suspect is read: else it would
                # be lost with the next actor that dies, until it is blamed itself.
                if attempts or time.monotonic() - since >= FLUSH_S:
                    counts.add(await self._write(hand))
                    hand, since = [], time.monotonic()
        counts.add(await self._write(hand))
        return counts

    async def _read(self, task: Task, attempts: int) -> _UnitInHand:
        """Read a unit. One of a longer document is on disk, then."""
        unit = _UnitInHand(task, None, None, True)
        try:
            unit.text = await self._text_of(unit, attempts)
        except OcrError as exc:
            unit.error = exc
        except Exception as exc:
            log.exception("A unit failed in a way that this program does not foresee.")
            unit.error = unforeseen(exc, "It", REPORT)
        if not unit.is_whole and not (unit.error and unit.error.is_fatal):
            own = unit.error.to_dict() if unit.error else None
            answer = await self._ledger.unit_read.remote(task.document, task.units, task.unit, own)
            unit.ends_document, first = answer
            unit.error = from_dict(first) if first else None
        return unit

    async def _text_of(self, unit: _UnitInHand, attempts: int) -> UnitText:
        task = unit.task
        if not unit.is_whole and await anyio.to_thread.run_sync(self._out.exists, unit.name):
            return UnitText.load(await anyio.to_thread.run_sync(self._out.read, unit.name))
        if attempts >= ATTEMPTS:
            raise WorkerCrashed(
                f"Pages {task.unit} of {task.source.url} were under way when {ATTEMPTS} workers died.",
                remedy="Read the file alone with `deepseek-ocr-mcp ocr` and look at the machine's memory.",
            )
        if attempts:  # the caller has nothing else read meanwhile
            await self._ledger.begin_again.remote(unit.name)
            text = await self._read_unit(task)
        else:
            async with self._room:
                text = await self._read_unit(task)
        if not unit.is_whole:
            await anyio.to_thread.run_sync(self._out.write, unit.name, text.dump())
        return text

    async def _write(self, hand: Sequence[_UnitInHand]) -> Counts:
        """Write texts, then their rows, then let go of the units that they stand for.

        All in one go: a kill finds a text without its row only in the moment between the two.
        """
        total, rows, ended, spent = Counts(), [], [], []
        documents = await self._documents(hand)
        for unit in hand:
            counts = Counts(pages=unit.text.pages, tokens=unit.text.tokens or 0) if unit.text else Counts()
            if unit.ends_document:
                row = documents[unit.name]
                (counts.add_ended if row.failed else counts.add_read)(row)
                rows.append(row)
                if not unit.is_whole and (unit.error is None or unit.error.blames_document):
                    spent += [Unit(unit.task.document, pages).name for pages in unit.task.units]
            ended.append((unit.name, unit.task.document, unit.task.source.url, counts.dump()))
            total.add(counts)
        await anyio.to_thread.run_sync(write_part, self._out, rows)
        if ended:
            await self._ledger.finished.remote(ended)
        if spent:
            await anyio.to_thread.run_sync(self._out.remove, spent)
        return total

    async def _documents(self, hand: Sequence[_UnitInHand]) -> dict[str, ManifestRow]:
        """Write the texts of the documents that end with these units. Returns their rows, by the names of the units."""
        rows: dict[str, ManifestRow] = {}
        documents: dict[str, ShardDocument] = {}
        for unit in hand:
            if unit.ends_document:
                rows[unit.name], document = await self._write_document(unit)
                documents |= {unit.name: document} if document else {}
        if documents:
            try:
                piece = await anyio.to_thread.run_sync(write_piece, self._out, self._format, list(documents.values()))
                rows |= {name: replace(rows[name], output=piece) for name in documents}
            except OcrError as exc:
                rows |= {unit.name: self._assembler.failed(unit.task, exc) for unit in hand if unit.name in documents}
        return rows

    async def _write_document(self, unit: _UnitInHand) -> tuple[ManifestRow, ShardDocument | None]:
        """Write the text of a document, or give it for a shard. Returns its row, or the row of what it failed with."""
        parts = [unit.text] if unit.is_whole and unit.text else self._assembler.units(unit.task)
        if unit.error is None:
            try:
                if self._format == FILES:
                    return await anyio.to_thread.run_sync(self._assembler.write, unit.task, parts), None
                return await anyio.to_thread.run_sync(self._assembler.shard_document, unit.task, parts)
            except OcrError as exc:
                unit.error = exc
            except Exception as exc:
                log.exception("A unit failed in a way that this program does not foresee.")
                unit.error = unforeseen(exc, "It", REPORT)
        return self._assembler.failed(unit.task, unit.error), None

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """While nothing else is under way here: what has killed an actor must not drag others along again."""
        async with self._doors, AsyncExitStack() as stack:
            for _ in range(self._at_once):
                await stack.enter_async_context(self._room)
            yield


class UnitReader:
    """An actor that reads rows with an engine of its own.

    Args:
        settings: the operator's settings.
        current: the facts of this run.
        ledger: the actor that knows which documents are under way.
        at_once: rows that this actor reads side by side.
    """

    def __init__(self, settings: Settings, current: Round, ledger: Any, at_once: int) -> None:
        logs.configure(settings.ocr_log_level, settings.ocr_log_format)
        self._settings = settings
        self._current = current
        self._ledger = ledger
        self._at_once = at_once
        self._loop = ActorLoop()
        self._folder = ""
        self._counted, self._clock = time.monotonic(), threading.Lock()
        self._rows: RowReader
        self._service = self._loop.enter(self._running)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[OcrService]:
        self._rows = RowReader(self._current, self._read_unit, self._ledger, self._at_once)
        with private_folder() as folder:
            self._folder = str(await anyio.Path(folder).resolve())
            settings = self._settings
            if settings.ocr_allowed_dirs:  # where texts are put together is ours, whatever the operator allows
                folders = (*settings.ocr_allowed_dirs, self._folder)
                settings = settings.model_copy(update={"ocr_allowed_dirs": folders})
            async with running_service(settings) as service:
                yield service

    def __call__(self, row: Mapping[str, str]) -> dict[str, str]:
        """What was counted of a row when all of it is done. Called on several threads."""
        counts = self._loop.call(self._rows.read_row, row)
        with self._clock:
            now = time.monotonic()
            counts.worker_s, self._counted = now - self._counted, now
        return {"counts": counts.dump()}

    async def _read_unit(self, task: Task) -> UnitText:
        service = self._service
        folder = tempfile.mkdtemp(dir=self._folder)
        options, reading = self._current.options, self._current.options.reading
        request = OcrRequest(
            image=task.source.url,
            mode=reading.mode,
            find_term=reading.find_term,
            custom_prompt=reading.custom_prompt,
            resolution=reading.resolution,
            text_layer=options.text_layer,
            pages=task.unit,
            max_chars=0,
            # Markdown, with its figures cut out beside it; links carry this name until the text has its own.
            save_to=os.path.join(folder, f"{task.document}.md") if options.format == FILES else "",
            boxes="words" if options.format == "parquet" else "none",
        )
        try:
            while True:
                async with snapshot_of(task.source, self._settings, folder, service) as snapshot:
                    if snapshot.sha256 != task.sha256:
                        raise UnreadableInput(
                            f"{task.source.url} was changed while the batch ran.",
                            remedy="Run the command again when nobody writes to it.",
                        )
                    try:
                        answer = await service.ocr(request, Caller(), Terms(upload=snapshot))
                        break
                    except OcrError as exc:
                        if not exc.is_passing:
                            raise
                await anyio.sleep(RETRY_S)
            return await anyio.to_thread.run_sync(partial(_unit_text, answer, request))
        finally:
            await anyio.to_thread.run_sync(partial(_remove_folder, folder))


def _unit_text(answer: Answer, request: OcrRequest) -> UnitText:
    result, pages = answer.result, answer.whole
    text, figures = "", {}
    if path := request.save_to:
        text = Path(path).read_text("utf-8").rstrip("\n")
        folder = Path(path).with_suffix("").with_name(f"{Path(path).stem}-figures")
        figures = {file.name: base64.b64encode(file.read_bytes()).decode() for file in sorted(folder.glob("*"))}
    return UnitText(
        text=text,
        pages=len(pages),
        characters=len(text),
        seconds=result.timing.infer_s,
        finish=max((page.finish for page in pages), key=RANK.index, default="stop"),
        cut_pages=format_pages([page.page for page in pages if page.finish != "stop"]),
        engine=result.engine,
        model=result.model,
        device=result.device,
        figures=figures,
        notes=[note.model_dump() for note in result.notes if note.code not in ABOUT_ANSWER],
        tokens=answer.tokens,
        failed_pages=sum(page.finish == "failed" for page in pages),
        each_page=[] if path else [_page_of(page, has_words=request.boxes == "words") for page in pages],
    )


def _page_of(page: Page, *, has_words: bool) -> dict[str, Any]:
    """A page for a shard."""
    words = [word for block in page.blocks or () for word in block.words or ()] if has_words else []
    return {
        "page": page.page,
        "text": page.text,
        "finish": page.finish,
        "words": [word.model_dump() for word in words],
    }


def _remove_folder(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)

"""What runs on the cluster: planners that look into files, readers that hold an engine, and one ledger.

A reader is an `OcrService` in a Ray actor: engine and decoder are its children, so that a crash, a hang or a hostile
file costs what it costs everywhere in this house, one page's try, and never the actor. If the actor itself is killed,
Ray starts another and gives it the same unit; what the first had finished lies on disk and is not read again. A unit
that kills its actor time and again is reported and passed over; nothing that was read beside it is.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import json
import logging
import os
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

from .. import logs
from ..app.run import running_service
from ..caller import Caller
from ..config import Settings
from ..documents.argument import Argument
from ..documents.private import private_folder
from ..documents.ranges import format_pages, parse_pages
from ..documents.reach import Reach
from ..documents.reader import DocumentReader
from ..documents.source import Snapshot, open_source
from ..engines import KNOWN, EngineSpec, choose_engine
from ..errors import OcrError, UnreadableInput, WorkerCrashed, from_dict
from ..gpu.probe import GpuProbe
from ..models import OcrRequest, Page
from ..service.progress import Terms
from ..service.service import Incoming, OcrService
from .files import Location, SourceDocument, pieces
from .state import Options, Unit, UnitText, units_of

__all__ = [
    "Ledger",
    "Planner",
    "Task",
    "UnitReader",
    "engine_here",
    "from_row",
    "plan_row",
    "reader_settings",
    "to_row",
]

log = logging.getLogger(__name__)

ABOUT_FILES: Final = frozenset({"saved", "files", "more", "contents"})  # notes about how an answer was given
ATTEMPTS: Final = 3  # of a unit over which its actor dies; from the second on nothing else is read beside it
AHEAD: Final = 20_000  # units that are planned and not done: rows of 1 kB that wait in the driver
FETCHES: Final = 4  # files that a planner looks into at once
RETRY_S: Final = 1.0  # while the line is full or the model loads
RANK: Final = (
    "stop",
    "length",
    "loop",
    "cancelled",
    "failed",
)  # the worst is what a document is said to have ended with

T = TypeVar("T")


def reader_settings(settings: Settings, engine: str, threads: int) -> Settings:
    """The operator's settings as a reader needs them: its engine stays where it is, and it has its own cores."""
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
    known = KNOWN.get(spec.name) == spec
    return spec, spec.version(settings.ocr_model, settings.ocr_precision) if known else spec.target


@dataclass(frozen=True, slots=True)
class Task:
    """A document, or pages of one, on its way through the cluster."""

    source: SourceDocument
    state: str = "new"
    """`new`: to be looked into; `unit`: to be read; `read`, `copy`, `there`, `failed`: for the driver."""
    sha256: str = ""
    bytes: int | None = None
    pages: int | None = None
    document: str = ""
    units: tuple[str, ...] = ()
    """Page ranges of all units of the document."""
    unit: str = ""
    error: dict[str, str] | None = None

    def failed(self, error: OcrError) -> Task:
        return replace(self, state="failed", error=error.to_dict())

    @property
    def failure(self) -> OcrError | None:
        return from_dict(self.error) if self.error else None


def to_row(tasks: Iterable[Task]) -> dict[str, str]:
    """One row of the data set: what one actor takes at a time.

    JSON in one column, so that no schema is guessed from what a block of rows happens to hold.
    """
    return {"tasks": json.dumps([asdict(task) for task in tasks])}


def plan_row(tasks: Iterable[Task], together: int) -> dict[str, Any]:
    """One row of what a planner takes at a time.

    Args:
        together: pages of short documents that go into one row of what a reader takes.
    """
    return {**to_row(tasks), "together": together}


def from_row(row: Mapping[str, Any]) -> list[Task]:
    """The tasks of a row; the inverse of `to_row`."""
    return [
        Task(**{**data, "source": SourceDocument(**data["source"]), "units": tuple(data["units"])})
        for data in json.loads(row["tasks"])
    ]


class Ledger:
    """Who reads what, known to all: of equal documents one is read, and planners do not run far ahead.

    An async actor; there is one. If it dies, an equal document may be read twice and nothing else happens.

    Args:
        done: sources by document, of what an earlier run has read.
    """

    def __init__(self, done: Mapping[str, str], ahead: int = AHEAD) -> None:
        self._done = frozenset(done)
        self._owners = dict(done)
        self._ahead = ahead
        self._under_way: dict[str, int] = {}
        self._waiting = 0  # units of all these
        self._attempts: Counter[str] = Counter()
        self._errors: dict[str, dict[str, str]] = {}
        self._planned = self._planned_pages = 0
        self._changed = anyio.Event()

    async def claim(self, claims: Sequence[tuple[str, str, int, int]]) -> list[tuple[str, bool]]:
        """For each source, document, number of units and of pages: the source that is to be read for this document,
        and whether an earlier run has.

        Waits while more is planned than the readers get done soon. The same question has the same answer.
        """
        while self._waiting >= self._ahead and not all(source in self._under_way for source, *_ in claims):
            self._changed = anyio.Event()
            await self._changed.wait()
        answers = []
        for source, document, units, pages in claims:
            if source not in self._under_way:
                self._under_way[source] = units
                self._waiting += units
                self._planned += 1
                self._planned_pages += pages
            answers.append((self._owners.setdefault(document, source), document in self._done))
        return answers

    async def begin(self, unit: str) -> tuple[int, dict[str, str] | None]:
        """It is read from now on, and not only waits: whatever kills its actor now may be its doing.

        Returns how often it was begun before, and the error that it ended with, if it did. Where either is told it is
        not to be read yet, see `begin_again`.
        """
        before = self._attempts[unit], self._errors.get(unit)
        if before == (0, None):
            self._attempts[unit] = 1
        return before

    async def begin_again(self, unit: str) -> None:
        """It is read from now on, and its actor reads nothing else."""
        self._attempts[unit] += 1

    async def failed(self, unit: str, error: dict[str, str]) -> None:
        """It ended with an error: whoever is given it again, because its actor died over another, need not try."""
        self._errors[unit] = error

    async def finished(self, sources: Iterable[str]) -> tuple[int, int]:
        """These are done. Returns how many documents are planned by now, and their pages."""
        for source in sources:
            self._waiting -= self._under_way.pop(source, 0)
        self._changed.set()
        return self._planned, self._planned_pages


class _Loop:
    """An event loop on a thread of its own, for things that live as long as their actor does."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(anyio.from_thread.start_blocking_portal())
        atexit.register(self._close)

    def enter(self, context: Callable[[], contextlib.AbstractAsyncContextManager[T]]) -> T:
        """Enter a context that is left when the process ends."""

        async def made() -> contextlib.AbstractAsyncContextManager[T]:
            return context()

        entered: T = self._stack.enter_context(self._portal.wrap_async_context_manager(self._portal.call(made)))
        return entered

    def call(self, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        result: T = self._portal.call(work, *arguments)
        return result

    def _close(self) -> None:
        with contextlib.suppress(Exception):
            self._stack.close()


class Planner:
    """Looks into each file: what its bytes are called, how many pages it has, and what is to be read of it."""

    def __init__(self, settings: Settings, options: Options, ledger: Any) -> None:
        logs.configure(settings.ocr_log_level, settings.ocr_log_format)
        self._settings = settings
        self._options = options
        self._ledger = ledger
        self._loop = _Loop()
        self._folder = ""
        self._documents = self._loop.enter(self._running)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[DocumentReader]:
        with private_folder() as self._folder:
            async with DocumentReader(self._settings, self._folder).running() as documents:
                yield documents

    def __call__(self, row: Mapping[str, Any]) -> Iterator[dict[str, str]]:
        """The rows that become of a `plan_row`: units of one long document, or so many short ones."""
        import ray

        tasks = self._loop.call(self._look_into_all, from_row(row))
        claims = [(task.source.url, task.document, max(1, len(task.units)), self._wanted(task)) for task in tasks]
        answers: list[tuple[str, bool]] = ray.get(self._ledger.claim.remote(claims))
        short: list[Task] = []
        pages = 0
        for task, (owner, done) in zip(tasks, answers, strict=True):
            if task.state == "failed":
                short.append(task)
            elif owner != task.source.url or done:
                short.append(replace(task, state="copy"))
            elif len(task.units) > 1:
                for unit in task.units:
                    yield to_row([replace(task, state="unit", unit=unit)])
            else:
                short.append(replace(task, state="unit", unit=task.units[0]))
                pages += self._wanted(task)
            if pages >= row["together"]:
                yield to_row(short)
                short, pages = [], 0
        if short:
            yield to_row(short)

    def _wanted(self, task: Task) -> int:
        return len(parse_pages(self._options.pages, task.pages)) if task.pages and task.state != "failed" else 0

    async def _look_into_all(self, tasks: list[Task]) -> list[Task]:
        """Several at once: most of the time goes into fetching what is far away."""
        done = list(tasks)
        room = anyio.Semaphore(FETCHES)

        async def look(index: int) -> None:
            async with room:
                done[index] = await self._look_into(tasks[index])

        async with anyio.create_task_group() as group:
            for index in range(len(tasks)):
                group.start_soon(look, index)
        return done

    async def _look_into(self, task: Task) -> Task:
        try:
            async with _snapshot_of(task.source, self._settings, self._folder, self._documents) as snapshot:
                document = self._options.document(snapshot.sha256)
                task = replace(task, sha256=snapshot.sha256, bytes=snapshot.size, document=document)
                async with self._documents.open(snapshot) as opened:
                    units = units_of(document, opened.numbers(self._options.pages))
                    return replace(task, pages=opened.page_count, units=tuple(unit.pages for unit in units))
        except OcrError as exc:
            # What cannot be opened is its own document to the ledger: its bytes may never have been had.
            return replace(task, document=task.document or f"unread {task.source.url}").failed(exc)
        except Exception as exc:
            log.exception("A file failed in a way that this program does not foresee.")
            return replace(task, document=f"unread {task.source.url}").failed(_unforeseen(exc))


class UnitReader:
    """Reads units with an engine of its own and puts what it read where the driver finds it."""

    def __init__(self, settings: Settings, options: Options, out: Location, ledger: Any, at_once: int) -> None:
        logs.configure(settings.ocr_log_level, settings.ocr_log_format)
        self._settings = settings
        self._options = options
        self._out = out
        self._ledger = ledger
        self._at_once = at_once
        self._loop = _Loop()
        self._folder = ""
        self._room: anyio.Semaphore
        self._doors: anyio.Lock
        self._service = self._loop.enter(self._running)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[OcrService]:
        self._room, self._doors = anyio.Semaphore(self._at_once), anyio.Lock()
        with private_folder() as folder:
            self._folder = str(await anyio.Path(folder).resolve())
            settings = self._settings
            if settings.ocr_allowed_dirs:  # where texts are put together is ours, whatever the operator allows
                folders = (*settings.ocr_allowed_dirs, self._folder)
                settings = settings.model_copy(update={"ocr_allowed_dirs": folders})
            async with running_service(settings) as service:
                yield service

    def __call__(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Its tasks when all of them are done.

        One row for one: of rows that are told one by one Ray keeps the first ones, if the actor dies over a later one,
        and takes for granted that another actor would have told the same.
        """
        return to_row(self._loop.call(self._read, task) if task.state == "unit" else task for task in from_row(row))

    async def _read(self, task: Task) -> Task:
        unit = Unit(task.document, task.unit)
        try:
            if await anyio.to_thread.run_sync(self._out.exists, unit.name):
                return replace(task, state="read")
            async with self._room:
                attempts, error = await self._ledger.begin.remote(unit.name)
                text = None if attempts or error else await self._read_unit(task)
            if error is not None:
                return replace(task, state="failed", error=error)
            if attempts >= ATTEMPTS:
                raise WorkerCrashed(
                    f"Pages {unit.pages} of {task.source.url} were under way when {ATTEMPTS} workers died.",
                    remedy="Read the file alone with `deepseek-ocr-mcp ocr` and look at the machine's memory.",
                )
            if text is None:
                async with self._alone():
                    await self._ledger.begin_again.remote(unit.name)
                    text = await self._read_unit(task)
            await anyio.to_thread.run_sync(self._out.write, unit.name, text.dump())
            return replace(task, state="read")
        except OcrError as exc:
            failed = task.failed(exc)
        except Exception as exc:
            log.exception("A unit failed in a way that this program does not foresee.")
            failed = task.failed(_unforeseen(exc))
        await self._ledger.failed.remote(unit.name, failed.error)
        return failed

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """While nothing else is under way here: what has killed an actor must not drag others along again."""
        async with self._doors, AsyncExitStack() as stack:
            for _ in range(self._at_once):
                await stack.enter_async_context(self._room)
            yield

    async def _read_unit(self, task: Task) -> UnitText:
        service = self._service
        folder = tempfile.mkdtemp(dir=self._folder)
        options = self._options.reading
        request = OcrRequest(
            image=task.source.url,
            mode=options.mode,
            find_term=options.find_term,
            custom_prompt=options.custom_prompt,
            resolution=options.resolution,
            text_layer=self._options.text_layer,
            pages=task.unit,
            max_chars=0,
            # Markdown, with its figures cut out beside it; links carry this name until the text has its own.
            save_to=os.path.join(folder, f"{task.document}.md"),
        )
        try:
            while True:
                async with _snapshot_of(task.source, self._settings, folder, service) as snapshot:
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
            return await anyio.to_thread.run_sync(partial(_unit_text, answer.result, answer.whole, request.save_to))
        finally:
            await anyio.to_thread.run_sync(partial(_remove_folder, folder))


@asynccontextmanager
async def _snapshot_of(
    source: SourceDocument, settings: Settings, folder: str, receiver: DocumentReader | OcrService
) -> AsyncIterator[Snapshot]:
    """A private copy of a document, from wherever it is.

    Raises:
        OcrError: it is not there, not permitted, empty or too large.
    """
    if source.local:
        yield await open_source(Argument.of(source.url, Reach.of(Caller(), settings)), settings, folder)
        return
    async with receiver.receive() as incoming:
        yield await _fetched(source, incoming)


async def _fetched(source: SourceDocument, incoming: Incoming) -> Snapshot:
    incoming.call(source.name)
    stop = threading.Event()

    def take(piece: bytes) -> None:
        anyio.from_thread.run(incoming.write, piece)

    try:
        await anyio.to_thread.run_sync(pieces, source, take, stop)
    finally:
        stop.set()
    return await incoming.snapshot()


def _unit_text(result: Any, pages: list[Page], path: str) -> UnitText:
    text = Path(path).read_text("utf-8").rstrip("\n")
    figures = Path(path).with_suffix("").with_name(f"{Path(path).stem}-figures")
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
        figures={file.name: base64.b64encode(file.read_bytes()).decode() for file in sorted(figures.glob("*"))},
        notes=[note.model_dump() for note in result.notes if note.code not in ABOUT_FILES],
    )


def _remove_folder(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _unforeseen(exc: BaseException) -> OcrError:
    return OcrError(
        f"It failed in a way that this program does not foresee ({type(exc).__name__}).",
        remedy="Run the command again with --log-level info and report what it says.",
    )

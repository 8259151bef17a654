"""Looks into each document: what its bytes are called, how many pages it has, and what is to be read of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import anyio
import anyio.from_thread
import anyio.to_thread

from .. import logs
from ..caller import Caller
from ..config import Settings
from ..documents.argument import Argument
from ..documents.private import private_folder
from ..documents.ranges import parse_pages
from ..documents.reach import Reach
from ..documents.reader import DocumentReader
from ..documents.source import Snapshot, open_source
from ..errors import OcrError, unforeseen
from ..service.service import Incoming, OcrService
from .archives import member_pieces
from .assembly import Assembler
from .counts import Counts
from .files import SourceDocument, pieces
from .ledger import LATER, YOURS, Claim
from .loop import ActorLoop
from .manifest import ManifestIndex, write_part
from .plan import Round, Task, counts_of, from_row, to_row
from .state import ManifestRow, units_of

__all__ = ["REPORT", "Planner", "RowPlanner", "snapshot_of"]

log = logging.getLogger(__name__)

FETCHES: Final = 4  # documents that a planner looks into at once
REPORT: Final = "Run the command again with --log-level info and report what it says."
"""What to do about a fault of this program."""
LOOKED_INTO: Final = 16  # documents that are looked into before what becomes of them is handed on


@dataclass(slots=True)
class _Open:
    """Short documents that are to be read, and that are not handed on yet."""

    tasks: list[Task]
    pages: int = 0


class RowPlanner:
    """What a planner does with a row.

    Args:
        current: the pass over the documents.
        look_into: gives a task the hash of its document, its pages and its units, or its error.
        call_ledger: calls a method of the ledger and waits for the answer.
    """

    def __init__(
        self,
        current: Round,
        look_into: Callable[[list[Task]], list[Task]],
        call_ledger: Callable[..., Any],
    ) -> None:
        self._current = current
        self._look_into = look_into
        self._ledger = call_ledger
        self._assembler = Assembler(current)
        self._index: ManifestIndex | None = None

    def plan(self, row: Mapping[str, Any]) -> Iterator[dict[str, str]]:
        """The rows for the readers: units of one long document, or so many short ones; the last has the counts."""
        counts, together = counts_of(row), int(row["together"])
        tasks = from_row(row)
        short = _Open([])
        for at in range(0, len(tasks), LOOKED_INTO):
            looked_into = self._look_into(tasks[at : at + LOOKED_INTO])
            for task in self._to_read(looked_into, counts):
                if len(task.units) > 1:
                    for unit in task.units:
                        yield to_row([replace(task, unit=unit)])
                    continue
                short.tasks.append(replace(task, unit=task.units[0]))
                short.pages += self._pages_to_read(task)
                if short.pages >= together:
                    yield to_row(short.tasks)
                    short = _Open([])
        if short.tasks or counts != Counts():
            yield to_row(short.tasks, counts)

    def _to_read(self, tasks: Sequence[Task], counts: Counts) -> list[Task]:
        """Those that are to be read. The rows of those that are not are written."""
        rows: list[ManifestRow] = []
        to_read = []
        for task, answer in zip(tasks, self._claim(tasks), strict=True):
            error = task.failure
            if error is not None and error.is_fatal:
                counts.add_fatal(error)
            elif error is not None:
                rows.append(self._assembler.failed(task, error))
                counts.add_ended(rows[-1])
            elif answer == LATER:
                counts.later += 1
            elif answer == YOURS:
                to_read.append(task)
            else:
                row = self._copy(task, answer, counts)
                if row is not None:
                    rows.append(row)
                elif self._claim_again(task):
                    to_read.append(task)
        write_part(self._current.out, rows)
        return to_read if self._current.reads else []

    def _claim(self, tasks: Sequence[Task]) -> list[int]:
        sound = [task for task in tasks if task.error is None]
        claims = [
            Claim(
                task.source.url,
                task.document,
                units=len(task.units) if self._current.reads else 0,
                pages=self._pages_to_read(task),
            )
            for task in sound
        ]
        answers = iter(self._ledger("claim", claims) if claims else [])
        return [LATER if task.error is not None else next(answers) for task in tasks]

    def _claim_again(self, task: Task) -> bool:
        self._ledger("read_again", task.document)
        return self._claim([task]) == [YOURS]

    def _copy(self, task: Task, number: int, counts: Counts) -> ManifestRow | None:
        """Give a document what is known of its bytes; None where that is gone, or is of other bytes."""
        self._index = self._index or ManifestIndex(self._current.out)
        known = self._index.row_at(number)
        if known.sha256 != task.sha256:
            return None
        try:
            row = self._assembler.copy(task, known)
        except FileNotFoundError:
            return None
        counts.copied += not row.failed and row.copy_of == known.source
        counts.add_ended(row)
        return row

    def _pages_to_read(self, task: Task) -> int:
        return len(parse_pages(self._current.options.pages, task.pages)) if task.pages else 0


class Planner:
    """An actor that plans rows with a decoder of its own.

    Args:
        settings: the operator's settings.
        current: the facts of this run.
        ledger: the actor that knows which documents are under way.
    """

    def __init__(self, settings: Settings, current: Round, ledger: Any) -> None:
        logs.configure(settings.ocr_log_level, settings.ocr_log_format)
        self._settings = settings
        self._options = current.options
        self._ledger = ledger
        self._loop = ActorLoop()
        self._folder = ""
        self._documents = self._loop.enter(self._running)
        self._planner = RowPlanner(current, self._look_into, self._call_ledger)

    def __call__(self, row: Mapping[str, Any]) -> Iterator[dict[str, str]]:
        """The rows for the readers that become of one of `lister.list_rows`."""
        yield from self._planner.plan(row)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[DocumentReader]:
        with private_folder() as self._folder:
            async with DocumentReader(self._settings, self._folder).running() as documents:
                yield documents

    def _call_ledger(self, method: str, *arguments: Any) -> Any:
        import ray

        return ray.get(getattr(self._ledger, method).remote(*arguments))

    def _look_into(self, tasks: list[Task]) -> list[Task]:
        return self._loop.call(self._look_into_all, tasks)

    async def _look_into_all(self, tasks: list[Task]) -> list[Task]:
        """Several at once: most of the time goes into fetching what is far away."""
        done = list(tasks)
        room = anyio.Semaphore(FETCHES)

        async def look(index: int) -> None:
            async with room:
                done[index] = await self._look_into_one(tasks[index])

        async with anyio.create_task_group() as group:
            for index in range(len(tasks)):
                group.start_soon(look, index)
        return done

    async def _look_into_one(self, task: Task) -> Task:
        try:
            async with snapshot_of(task.source, self._settings, self._folder, self._documents) as snapshot:
                document = self._options.document(snapshot.sha256)
                task = replace(task, sha256=snapshot.sha256, bytes=snapshot.size, document=document)
                password = self._settings.local_pdf_password
                async with self._documents.open(snapshot, password=password) as opened:
                    units = units_of(document, opened.numbers(self._options.pages))
                    return replace(task, pages=opened.page_count, units=tuple(unit.pages for unit in units))
        except OcrError as exc:
            return task.failed(exc)
        except Exception as exc:
            log.exception("A file failed in a way that this program does not foresee.")
            return task.failed(unforeseen(exc, "It", REPORT))


@asynccontextmanager
async def snapshot_of(
    source: SourceDocument, settings: Settings, folder: str, receiver: DocumentReader | OcrService
) -> AsyncIterator[Snapshot]:
    """A private copy of a document, from wherever it is.

    Args:
        source: the document.
        settings: the operator's settings.
        folder: a private folder, for the bytes of documents of other file systems.
        receiver: copies the document and checks its size.

    Raises:
        OcrError: it is not there, not permitted, empty or too large.
    """
    reach = Reach.of(Caller(), settings)
    if source.local and not source.member:
        yield await open_source(Argument.of(source.url, reach), settings, folder)
        return
    fetch = partial(member_pieces, source.member, reach.dirs) if source.member else partial(pieces, source)
    async with receiver.receive() as incoming:
        yield await _fetched(source, incoming, fetch)


async def _fetched(source: SourceDocument, incoming: Incoming, fetch: Callable[..., None]) -> Snapshot:
    incoming.call(source.name)
    stop = threading.Event()

    def take(piece: bytes) -> None:
        anyio.from_thread.run(incoming.write, piece)

    try:
        await anyio.to_thread.run_sync(fetch, take, stop)
    finally:
        stop.set()
    return await incoming.snapshot()

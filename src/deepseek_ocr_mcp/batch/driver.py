"""Runs a batch: lists, has the cluster read, puts documents together, and can be stopped anywhere.

The driver reads nothing itself and keeps no text: readers put theirs into the output folder, and the driver makes a
document of them when the last unit of it is there. It is the only one that writes texts and manifest.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, Final

from ..app.run import build_service
from ..config import Settings
from ..documents.listing import unlisted_text
from ..documents.ranges import parse_pages
from ..engines.base import ReadOptions
from ..errors import BadRequest, EngineUnavailable, InputNotFound, OcrError, class_of, from_dict
from ..install import extra_command
from ..logs import fields
from ..models import OcrRequest
from ..text import duration
from .actors import Task
from .assembly import SUFFIX, Assembler
from .cluster import Cluster, cluster, start_ledger, tasks
from .files import SourceDocument, SourceList, list_sources, place_of
from .state import MANIFEST, UNITS, Manifest, ManifestRow, Options, Unit, count_notes

__all__ = ["Batch", "Summary", "run_batch"]

log = logging.getLogger(__name__)

NEEDED: Final = ("ray", "pyarrow", "fsspec", "pandas")
FLUSH_S: Final = 2.0  # rows become a part of the manifest; their units wait for it
FLUSH_ROWS: Final = 1000
FINISHERS: Final = 8  # threads that put documents together: they wait for disks and networks
WAITING_TASKS: Final = 256  # that are done and not taken, before the cluster is held back
ROUNDS: Final = 3  # a cluster that says nothing of a document is asked again, so often in all
TICK_S: Final = 0.5
TOLD_EVERY_S: Final = 10.0  # where stderr is no terminal
PACE_S: Final = 60.0  # the rate is that of the last minute
LEDGER_WAIT_S: Final = 5.0  # for figures that only the progress needs


@dataclass(frozen=True, slots=True)
class Batch:
    """What is asked for."""

    source: str
    """A folder, a file or a pattern of this machine, or a URL."""
    out: str
    request: OcrRequest
    """Mode, terms, resolution, pages and text layer; the rest of it is not looked at."""
    ray: str = ""
    """The address of a cluster; empty: one on this machine, for this run."""
    workers: int = 0
    """0: one for each GPU, or for each core where the engine needs none."""
    again: bool = False
    """Whether what was read before is read, too."""
    retry_failed: bool = False
    """Whether what failed by its own fault is tried once more."""
    keep_older: bool = False
    """Whether what an older version has read counts as read."""


@dataclass(slots=True)
class Summary:
    """What became of it."""

    documents: int = 0
    there: int = 0
    read: int = 0
    copied: int = 0
    failed: int = 0
    pages: int = 0
    """That this run read."""
    exit_code: int = 0
    """Of the documents that failed, the worst."""
    manifest: str = ""
    notes: dict[str, int] = field(default_factory=dict)
    """By the code of a note, the documents that have such a note."""
    left_out: str = ""
    """How many names were left out, and which; empty: none."""

    def lines(self) -> list[str]:
        """The summary for a person, one fact a line."""
        parts = [f"{self.documents:,} files: {self.read:,} read ({self.pages:,} pages)"]
        parts += [f"{self.copied:,} with the same content as another"] if self.copied else []
        parts += [f"{self.there:,} done before"] if self.there else []
        parts += [f"{self.failed:,} failed"] if self.failed else []
        lines = [", ".join(parts) + "."]
        if self.notes:
            counts = ", ".join(f"{code} {count:,}" for code, count in sorted(self.notes.items()))
            lines.append(f"Documents with notes: {counts}. The column `notes` of the manifest has their text.")
        return [*lines, self.left_out] if self.left_out else lines


def run_batch(batch: Batch, settings: Settings) -> Summary:
    """Read all of it; failures and progress go to stderr.

    Raises:
        OcrError: nothing can be read, or what every further document would meet.
        KeyboardInterrupt: SIGINT or SIGTERM. What was done is in the manifest.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise EngineUnavailable(
            f"A batch runs on Ray, and {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed.",
            remedy=f"Run: {extra_command('ray')}",
        )
    _check(batch, settings)
    out = place_of(batch.out)
    with out.locked():
        out.prepare()
        sources = list_sources(batch.source, out, settings)
        with out.swept(), cluster(batch.ray, batch.workers, settings) as found, _signals() as stopped:
            return _BatchRun(batch, settings, sources, found, stopped).run()


def _check(batch: Batch, settings: Settings) -> None:
    """Refuse at once what no document could be read with."""
    if batch.request.pages:
        parse_pages(batch.request.pages, sys.maxsize)
    if not batch.ray:  # else the engine is the cluster's, which says so itself
        with tempfile.TemporaryDirectory() as folder:
            build_service(settings, folder).check(batch.request)


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Set by SIGINT and SIGTERM, so that a run stops between two documents; a second one raises at once.

    Ray, and Python's own way with Ctrl-C, would end it in the middle of anything.
    """
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    before = [(each, signal.signal(each, stop)) for each in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield stopped
    finally:
        for each, handler in before:
            signal.signal(each, handler)


# -- a run


@dataclass(slots=True)
class _DocumentInProgress:
    """A document some of whose units are read."""

    missing: set[str]
    error: OcrError | None = None


@dataclass(slots=True)
class _Documents:
    """The documents of a run, by `Options.document`: sources with the same bytes are one document."""

    ended: dict[str, ManifestRow] = field(default_factory=dict)
    """Documents that are done: another source with the same bytes is not read."""
    under_way: dict[str, _DocumentInProgress] = field(default_factory=dict)
    copies: dict[str, list[Task]] = field(default_factory=dict)
    """Sources that wait for the text of another one."""


@dataclass(frozen=True, slots=True)
class _Round:
    """One pass of the cluster over the documents that are left."""

    ledger: Any
    """The actor that counts the documents; see `actors.Ledger`."""
    finishers: ThreadPoolExecutor
    finishing: dict[Future[ManifestRow], Task] = field(default_factory=dict)
    """Documents that a finisher is writing."""

    def finish(self, task: Task, write: Callable[..., ManifestRow], *arguments: Any) -> None:
        """Have a finisher write a document."""
        self.finishing[self.finishers.submit(write, task, *arguments)] = task


class _BatchRun:
    """One run over the sources. Only the driver's main thread changes its state.

    Args:
        batch: what is asked for.
        settings: the operator's.
        sources: the documents, and the names that are left out.
        found: the cluster.
        stopped: set when the run is to end.
    """

    def __init__(
        self,
        batch: Batch,
        settings: Settings,
        sources: SourceList,
        found: Cluster,
        stopped: threading.Event,
    ) -> None:
        request = batch.request
        reading = ReadOptions(request.mode, request.find_term, request.custom_prompt, request.resolution)
        options = Options(
            reading, request.pages, request.text_layer, settings.ocr_pdf_dpi, settings.max_pixels, found.version
        )
        self._batch = batch
        self._settings = settings
        self._sources = sources.documents
        self._left_out = sources.left_out
        self._cluster = found
        self._stopped = stopped
        self._out = place_of(batch.out)
        self._assembler = Assembler(self._out, options)
        self._manifest = Manifest(self._out)
        self._documents = _Documents()
        self._there: set[str] = set()
        """Names of the files in the output folder when the run began."""
        self._spent: list[str] = []
        """Units whose text is written; they are deleted when the row of the document is written."""
        self._noted: set[str] = set()
        """Sources that are done in this run."""
        self._uncounted: list[str] = []
        """Sources that are done, and that the ledger has not counted yet."""
        self._progress = _ProgressLine(len(self._sources))
        self._summary = Summary(documents=len(self._sources), manifest=self._out.url_of(MANIFEST))

    def run(self) -> Summary:
        """Read what is not read yet, and write the manifest whatever ends it."""
        self._manifest.load()
        self._manifest.forget_left_out()
        for each in self._left_out:
            self._manifest.put(self._assembler.left_out(each))
        self._there = self._out.names()
        todo = [source for source in self._sources if not self._is_done(source)]
        self._refuse_collisions(todo)
        self._sweep_units()
        summary = self._summary
        summary.there = len(self._sources) - len(todo)
        self._progress.begin(summary.there)
        try:
            if todo:
                self._read(todo)
        finally:
            self._progress.clear()
            self._flush()
            self._manifest.merge()
        rows = [row for source in self._sources if (row := self._manifest.get(source.url)) is not None]
        failed = [row for row in rows if row.failed]
        if not failed:
            self._out.remove(self._out.names(UNITS))  # of runs that asked other things and were stopped
        summary.failed = len(failed)
        summary.exit_code = max((from_dict({"code": row.error_code}).exit_code for row in failed), default=0)
        summary.pages = self._progress.pages
        summary.notes = count_notes(rows)
        if self._left_out:
            summary.left_out = unlisted_text(self._left_out)
            summary.exit_code = max(summary.exit_code, InputNotFound.exit_code)
        return summary

    # -- what is done already

    def _is_done(self, source: SourceDocument) -> bool:
        """Whether nothing is to be done, as far as manifest and file system tell without opening the file."""
        row = self._manifest.get(source.url)
        if row is None or not self._is_good(row):
            return False
        if row.sha256:
            self._documents.ended[self._assembler.options.document(row.sha256)] = row
        return bool(source.stamp) and row.stamp == source.stamp

    def _is_good(self, row: ManifestRow) -> bool:
        """Whether it is what would come of the same bytes now."""
        if self._batch.again or row.asked != self._assembler.options.asked:
            return False
        if row.version != self._assembler.options.version and not self._batch.keep_older:
            return False
        if row.failed:
            return class_of(row.error_code).blames_document and not self._batch.retry_failed
        return row.output in self._there

    def _refuse_collisions(self, todo: Sequence[SourceDocument]) -> None:
        """Raise `BadRequest` where two documents would have one text."""
        owners = {row.output: row.source for row in self._manifest.rows() if row.output in self._there}
        for source in todo:
            output = source.name + SUFFIX
            if owners.setdefault(output, source.url) != source.url:
                raise BadRequest(
                    f"{output} would be the text of {source.url}, and is that of {owners[output]}.",
                    remedy="Name another folder with --out: one folder is for the documents of one SRC.",
                )

    def _sweep_units(self) -> None:
        """Delete units that a killed run had no time to delete, and all where everything is to be read anew."""
        units = [name for name in self._there if name.startswith(f"{UNITS}/")]
        done = {name for document in self._documents.ended for name in [f"{UNITS}/{document[:2]}/{document}"]}
        self._out.remove(name for name in units if self._batch.again or name.rpartition("-")[0] in done)

    # -- reading

    def _read(self, todo: Sequence[SourceDocument]) -> None:
        """Read these. Of what a cluster loses for all its promises, none is lost: it is asked again."""
        for _ in range(ROUNDS):
            self._read_once(todo)
            todo = [source for source in todo if source.url not in self._noted]
            if not todo:
                return
            log.warning("The cluster ended and left some documents out.", extra=fields(documents=len(todo)))
            self._documents.under_way.clear()
            self._documents.copies.clear()
        for source in todo:
            lost = OcrError("The cluster said nothing of it.", remedy="Run the same command again.")
            self._fail(Task(source), lost, None)

    def _read_once(self, todo: Sequence[SourceDocument]) -> None:
        ledger = start_ledger({document: row.source for document, row in self._documents.ended.items()})
        found = tasks(self._cluster, self._settings, self._assembler.options, self._out, todo, ledger)
        with ThreadPoolExecutor(FINISHERS, "finish") as finishers, _fed(found) as next_task:
            current = _Round(ledger, finishers)
            flushed = time.monotonic()
            try:
                while (task := next_task()) is not None:
                    if self._stopped.is_set():
                        raise KeyboardInterrupt
                    if isinstance(task, Task):
                        self._take(task, current)
                    self._settle(current)
                    if self._manifest.fresh >= FLUSH_ROWS or time.monotonic() - flushed >= FLUSH_S:
                        self._flush()
                        self._count(ledger)
                        flushed = time.monotonic()
                    self._progress.show()
            finally:
                # Stopped or not: documents that are whole are written and noted, and their copies with them.
                while current.finishing:
                    wait(current.finishing)
                    self._settle(current)

    def _take(self, task: Task, current: _Round) -> None:
        """Note a task that the cluster is done with."""
        error = task.failure
        if error is not None and error.is_fatal:
            raise error
        if task.unit:
            self._take_unit(task, current)
        elif error is not None:
            self._fail(task, error, current)
        elif (known := self._documents.ended.get(task.document)) is None:
            self._documents.copies.setdefault(task.document, []).append(task)
        elif known.source == task.source.url:  # its time has changed, its bytes have not
            self._note(task, replace(known, stamp=task.source.stamp), current)
        else:
            self._copy(task, known, current)

    def _take_unit(self, task: Task, current: _Round) -> None:
        error = task.failure
        document = self._documents.under_way.setdefault(task.document, _DocumentInProgress(set(task.units)))
        if task.unit not in document.missing:
            return
        document.missing.discard(task.unit)
        document.error = document.error or error
        if error is None:
            self._progress.add_pages(len(parse_pages(task.unit, task.pages or sys.maxsize)))
        if document.missing:
            return
        del self._documents.under_way[task.document]
        if document.error is not None:
            self._fail(task, document.error, current)
        else:
            current.finish(task, self._assembler.assemble)

    def _fail(self, task: Task, error: OcrError, current: _Round | None) -> None:
        self._progress.clear()
        print(f"{task.source.url}: {error}", file=sys.stderr, flush=True)
        if error.blames_document:
            self._spent += [Unit(task.document, pages).name for pages in task.units]
        self._note(task, self._assembler.row(task, error_code=error.code, error=str(error)), current)

    def _copy(self, task: Task, known: ManifestRow, current: _Round | None) -> None:
        """Give a source what is known of another one with the same bytes."""
        if known.failed:
            row = self._assembler.row(task, error_code=known.error_code, error=known.error, copy_of=known.source)
            self._note(task, row, current)
        elif current is not None:
            current.finish(task, self._assembler.copy, known)

    def _settle(self, current: _Round) -> None:
        """Note the documents that the finishers have written."""
        for future in [future for future in current.finishing if future.done()]:
            task, row = current.finishing.pop(future), future.result()
            if row.copy_of:
                self._summary.copied += 1
            else:
                self._summary.read += 1
                self._spent += [Unit(task.document, pages).name for pages in task.units]
            self._note(task, row, current)

    def _note(self, task: Task, row: ManifestRow, current: _Round | None) -> None:
        self._manifest.put(row)
        self._noted.add(task.source.url)
        self._uncounted.append(task.source.url)
        self._progress.add_documents(1, failed=row.failed)
        if task.document and self._documents.ended.setdefault(task.document, row) is row:
            for copy in self._documents.copies.pop(task.document, ()):
                self._copy(copy, row, current)

    def _flush(self) -> None:
        """Write the rows, then let go of the units that they stand for."""
        self._manifest.flush()
        spent, self._spent = self._spent, []
        self._out.remove(spent)

    def _count(self, ledger: Any) -> None:
        """Have the ledger count the sources that are done, and take its figures for the progress."""
        import ray

        done, self._uncounted = self._uncounted, []
        with contextlib.suppress(ray.exceptions.RayError):
            self._progress.planned = ray.get(ledger.finished.remote(done), timeout=LEDGER_WAIT_S)


@contextmanager
def _fed(found: Iterator[Task]) -> Iterator[Callable[[], Any]]:
    """Calls that return the next task, None after the last, and `...` where none comes within a moment.

    The data set runs on a thread of its own: whoever waits for its next row can do nothing else meanwhile.
    """
    waiting: queue.Queue[Task | BaseException | None] = queue.Queue(WAITING_TASKS)
    stop = threading.Event()

    def put(item: Task | BaseException | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=TICK_S)
                return

    def feed() -> None:
        try:
            for task in found:
                put(task)
                if stop.is_set():
                    return
            put(None)
        except BaseException as exc:
            put(exc)

    def take() -> Any:
        try:
            item = waiting.get(timeout=TICK_S)
        except queue.Empty:
            return ...
        if isinstance(item, OcrError):
            raise item
        if isinstance(item, BaseException):
            log.error("The cluster failed.", exc_info=item)
            raise EngineUnavailable(
                f"The Ray cluster failed ({type(item).__name__}).",
                remedy="What was read is kept: run the same command again to go on.",
            ) from None
        return item

    threading.Thread(target=feed, name="cluster", daemon=True).start()
    try:
        yield take
    finally:
        stop.set()


# -- progress


class _ProgressLine:
    """How far it is, on stderr: one line that is drawn anew on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._failed = self.pages = 0
        self.planned = (0, 0)
        """Documents of which the pages are known, and those pages."""
        self._fresh = 0
        self._pace: deque[tuple[float, int]] = deque()
        self._terminal = sys.stderr.isatty()
        self._drawn = False
        self._next = 0.0

    def begin(self, there: int) -> None:
        """So many documents were done before."""
        self._done = there
        self._next = time.monotonic() + (0 if self._terminal else TOLD_EVERY_S)

    def add_documents(self, number: int, *, failed: bool) -> None:
        self._done += number
        self._fresh += number
        self._failed += failed

    def add_pages(self, number: int) -> None:
        now = time.monotonic()
        self.pages += number
        self._pace.append((now, self.pages))
        while self._pace[0][0] < now - PACE_S and len(self._pace) > 2:
            self._pace.popleft()

    def show(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (TICK_S if self._terminal else TOLD_EVERY_S)
        line = self._line(now)
        if self._terminal:
            self._drawn = True
            sys.stderr.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])
            sys.stderr.flush()
        else:
            print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._drawn:
            self._drawn = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _line(self, now: float) -> str:
        said = [f"{self._done:,} of {self._total:,} files", f"{self.pages:,} pages"]
        if self._failed:
            said.append(f"{self._failed:,} failed")
        if rate := self._rate(now):
            said.append(f"{rate:.1f} pages/s" if rate >= 1 else f"{1 / rate:.1f} s/page")
            if (left := self._pages_left()) is not None:
                said.append(f"{duration(left / rate)} left")
        elif not self.pages:
            said.append("starting")
        return ", ".join(said)

    def _rate(self, now: float) -> float:
        if len(self._pace) < 2:
            return 0.0
        began, before = self._pace[0]
        return (self.pages - before) / max(now - began, 1e-3)

    def _pages_left(self) -> float | None:
        """By the documents whose pages are known, and for the others as many as those have."""
        documents, pages = self.planned
        if not documents:
            return None
        unknown = max(0, self._total - (self._done - self._fresh) - documents)
        return max(0.0, pages - self.pages + unknown * pages / documents)

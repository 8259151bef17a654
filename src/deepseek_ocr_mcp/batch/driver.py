"""Runs a batch: lists, has the cluster read, puts documents together, and can be stopped anywhere.

The driver reads nothing itself and keeps no text: readers put theirs into the output folder, and the driver makes a
document of them when the last unit of it is there. It is the only one that writes texts and manifest.
"""

from __future__ import annotations

import base64
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
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import quote

from ..app.run import build_service
from ..config import Settings
from ..documents.ranges import parse_pages
from ..engines.base import ReadOptions
from ..errors import BadRequest, EngineUnavailable, OcrError, from_dict
from ..logs import fields
from ..models import OcrRequest
from .actors import FATAL, RANK, Task
from .cluster import Cluster, cluster, start_ledger, tasks
from .files import Location, SourceDocument, list_sources, place_of
from .state import FINAL_ERRORS, MANIFEST, UNITS, Manifest, ManifestRow, Options, Unit, UnitText

__all__ = ["Batch", "Summary", "run_batch"]

log = logging.getLogger(__name__)

SUFFIX: Final = ".md"
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
            remedy='pip install "deepseek-ocr-mcp[ray]"',
        )
    _check(batch, settings)
    out = place_of(batch.out)
    with out.locked():
        out.prepare()
        sources = list_sources(batch.source, out, settings)
        with cluster(batch.ray, batch.workers, settings) as found, _signals() as stopped:
            return _BatchRun(batch, settings, out, sources, found, stopped).run()


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
    """A document whose units come in."""

    missing: set[str]
    error: OcrError | None = None


class _BatchRun:
    def __init__(
        self,
        batch: Batch,
        settings: Settings,
        out: Location,
        sources: Sequence[SourceDocument],
        found: Cluster,
        stopped: threading.Event,
    ) -> None:
        request = batch.request
        reading = ReadOptions(request.mode, request.find_term, request.custom_prompt, request.resolution)
        self._batch = batch
        self._settings = settings
        self._out = out
        self._sources = sources
        self._cluster = found
        self._stopped = stopped
        self._options = Options(
            reading, request.pages, request.text_layer, settings.ocr_pdf_dpi, settings.max_pixels, found.version
        )
        self._manifest = Manifest(out)
        self._there: set[str] = set()
        """Names of the files in the output folder when the run began."""
        self._ended: dict[str, ManifestRow] = {}
        """Documents that are done, by `Options.document`: another source with the same bytes is not read."""
        self._under_way: dict[str, _DocumentInProgress] = {}
        self._copies: dict[str, list[Task]] = {}
        """Sources that wait for the text of another one, by `Options.document`."""
        self._finishing: dict[Future[ManifestRow], Task] = {}
        self._spent: list[str] = []
        """Units whose text is written; deleted when its row is."""
        self._noted: set[str] = set()
        """Sources that are done in this run."""
        self._told: list[str] = []
        """Those of them of which the ledger does not know."""
        self._progress = _ProgressLine(len(sources))
        self._summary = Summary(documents=len(sources), manifest=out.url_of(MANIFEST))

    def run(self) -> Summary:
        """Read what is not read yet, and write the manifest whatever ends it."""
        self._manifest.load()
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
        return summary

    # -- what is done already

    def _is_done(self, source: SourceDocument) -> bool:
        """Whether nothing is to be done, as far as manifest and file system tell without opening the file."""
        row = self._manifest.get(source.url)
        if row is None or not self._is_good(row):
            return False
        if row.sha256:
            self._ended[self._options.document(row.sha256)] = row
        return bool(source.stamp) and row.stamp == source.stamp

    def _is_good(self, row: ManifestRow) -> bool:
        """Whether it is what would come of the same bytes now."""
        if self._batch.again or row.asked != self._options.asked:
            return False
        if row.version != self._options.version and not self._batch.keep_older:
            return False
        if row.failed:
            return row.error_code in FINAL_ERRORS and not self._batch.retry_failed
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
        done = {name for document in self._ended for name in [f"{UNITS}/{document[:2]}/{document}"]}
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
            self._under_way.clear()
            self._copies.clear()
        for source in todo:
            lost = OcrError("The cluster said nothing of it.", remedy="Run the same command again.")
            self._fail(Task(source), lost)

    def _read_once(self, todo: Sequence[SourceDocument]) -> None:
        self._ledger = start_ledger({document: row.source for document, row in self._ended.items()})
        found = tasks(self._cluster, self._settings, self._options, self._out, todo, self._ledger)
        with ThreadPoolExecutor(FINISHERS, "finish") as self._finishers, _fed(found) as done:
            flushed = time.monotonic()
            try:
                while True:
                    if self._stopped.is_set():
                        raise KeyboardInterrupt
                    task = done()
                    if task is None:
                        break
                    if isinstance(task, Task):
                        self._take(task)
                    self._settle()
                    if self._manifest.fresh >= FLUSH_ROWS or time.monotonic() - flushed >= FLUSH_S:
                        self._flush()
                        self._tell_ledger()
                        flushed = time.monotonic()
                    self._progress.show()
            finally:
                # Stopped or not: what is whole is put together and noted; what has waited for it, too.
                while self._finishing:
                    wait(self._finishing)
                    self._settle()

    def _take(self, task: Task) -> None:
        """A task that the cluster is done with."""
        error = task.failure
        if error is not None and error.code in FATAL:
            raise error
        if task.unit:
            self._take_unit(task, error)
        elif error is not None:
            self._fail(task, error)
        elif (known := self._ended.get(task.document)) is None:
            self._copies.setdefault(task.document, []).append(task)
        elif known.source == task.source.url:  # its time has changed, its bytes have not
            self._note(task, replace(known, stamp=task.source.stamp))
        else:
            self._copy(task, known)

    def _take_unit(self, task: Task, error: OcrError | None) -> None:
        document = self._under_way.setdefault(task.document, _DocumentInProgress(set(task.units)))
        if task.unit not in document.missing:
            return
        document.missing.discard(task.unit)
        document.error = document.error or error
        if error is None:
            self._progress.add_pages(len(parse_pages(task.unit, task.pages or sys.maxsize)))
        if document.missing:
            return
        del self._under_way[task.document]
        if document.error is not None:
            self._fail(task, document.error)
        else:
            self._finishing[self._finishers.submit(self._assemble, task)] = task

    def _fail(self, task: Task, error: OcrError) -> None:
        self._progress.clear()
        print(f"{task.source.url}: {error}", file=sys.stderr, flush=True)
        if error.code in FINAL_ERRORS:
            self._spent += [Unit(task.document, pages).name for pages in task.units]
        self._note(task, self._row(task, error_code=error.code, error=str(error)))

    def _copy(self, task: Task, known: ManifestRow) -> None:
        if known.failed:
            self._note(task, self._row(task, error_code=known.error_code, error=known.error, copy_of=known.source))
        else:
            self._finishing[self._finishers.submit(self._assemble_copy, task, known)] = task

    def _settle(self) -> None:
        """Note what the finishers have written."""
        for future in [future for future in self._finishing if future.done()]:
            task, row = self._finishing.pop(future), future.result()
            if row.copy_of:
                self._summary.copied += 1
            else:
                self._summary.read += 1
                self._spent += [Unit(task.document, pages).name for pages in task.units]
            self._note(task, row)

    def _note(self, task: Task, row: ManifestRow) -> None:
        self._manifest.put(row)
        self._noted.add(task.source.url)
        self._told.append(task.source.url)
        self._progress.add_documents(1, failed=row.failed)
        if task.document and self._ended.setdefault(task.document, row) is row:
            for copy in self._copies.pop(task.document, ()):
                self._copy(copy, row)

    def _flush(self) -> None:
        """Write the rows, then let go of the units that they stand for."""
        self._manifest.flush()
        spent, self._spent = self._spent, []
        self._out.remove(spent)

    def _tell_ledger(self) -> None:
        import ray

        told, self._told = self._told, []
        with contextlib.suppress(ray.exceptions.RayError):
            self._progress.planned = ray.get(self._ledger.finished.remote(told), timeout=LEDGER_WAIT_S)

    # -- on a finisher's thread

    def _assemble(self, task: Task) -> ManifestRow:
        """Put a document together from its units."""
        name = task.source.name
        figures, texts = f"{name}-figures", []
        parts = [UnitText.load(self._out.read(Unit(task.document, pages).name)) for pages in task.units]
        for part in parts:
            for figure, data in part.figures.items():
                self._out.write(f"{figures}/{figure}", base64.b64decode(data))
            texts.append(_relinked(part.text, f"{task.document}-figures", figures) if part.figures else part.text)
        text = "\n\n".join(filter(None, texts))
        self._out.write(name + SUFFIX, f"{text}\n".encode("utf-8", "replace"))
        return self._row(
            task,
            output=name + SUFFIX,
            pages_read=sum(part.pages for part in parts),
            characters=len(text),
            seconds=round(sum(part.seconds for part in parts), 3),
            finish=max((part.finish for part in parts), key=RANK.index),
            cut_pages=",".join(part.cut_pages for part in parts if part.cut_pages),
            engine=parts[0].engine,
            model=parts[0].model,
            device=parts[0].device,
        )

    def _assemble_copy(self, task: Task, known: ManifestRow) -> ManifestRow:
        """Give a document the text of another one with the same bytes."""
        name, other = task.source.name, known.output.removesuffix(SUFFIX)
        figures = f"{name}-figures"
        text = self._out.read(known.output).decode("utf-8", "replace")
        for figure in sorted(self._out.names(f"{other}-figures")):
            self._out.write(f"{figures}/{figure.rpartition('/')[2]}", self._out.read(figure))
        self._out.write(name + SUFFIX, _relinked(text, f"{other}-figures", figures).encode("utf-8", "replace"))
        mine = self._row(task)
        return replace(
            known,
            source=mine.source,
            output=name + SUFFIX,
            bytes=mine.bytes,
            seconds=0.0,
            copy_of=known.source,
            stamp=mine.stamp,
            written=mine.written,
        )

    def _row(self, task: Task, **facts: Any) -> ManifestRow:
        return ManifestRow(
            source=task.source.url,
            sha256=task.sha256,
            bytes=task.bytes,
            pages=task.pages,
            mode=self._options.reading.mode,
            version=self._options.version,
            asked=self._options.asked,
            stamp=task.source.stamp,
            written=round(time.time(), 3),
            **facts,
        )


def _relinked(text: str, old: str, new: str) -> str:
    """A text whose figures lie in a folder of another name."""
    was, now = (quote(folder.rpartition("/")[2]) for folder in (old, new))
    return text.replace(f"]({was}/", f"]({now}/")


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
                said.append(f"{_duration(left / rate)} left")
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


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"

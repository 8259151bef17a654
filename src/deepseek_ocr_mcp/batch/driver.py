"""Runs a batch: has the cluster list, read and write, adds up what became of it, and can be stopped anywhere.

The driver holds numbers. It reads nothing itself, writes no text, and knows no document but those that failed, whose
names it prints.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from typing import Any, Final

from ..app.run import build_service
from ..caller import Caller
from ..config import Settings
from ..documents.listing import Unlisted, left_out_text
from ..documents.ranges import parse_pages
from ..documents.reach import Reach
from ..engines.base import ReadOptions
from ..errors import BadRequest, EngineUnavailable, InputNotFound, OcrError, from_dict
from ..install import extra_command
from ..logs import fields
from ..models import OcrRequest
from ..text import how_many
from .archives import archive_of
from .assembly import SUFFIX
from .cluster import Cluster, cluster, start_ledger, stream
from .counts import Counts
from .files import Location, place_of
from .lister import lost_rows, todo_of
from .manifest import ManifestIndex, merge_manifest, write_part
from .metrics import served
from .plan import Round, Rules
from .progress import ProgressLine
from .shards import FORMATS, gather, is_shard
from .sources import LIST, SourcePart, list_part, parts_of
from .state import FILES, MANIFEST, UNITS, Options

__all__ = ["Batch", "Summary", "run_batch"]

log = logging.getLogger(__name__)

NEEDED: Final = ("ray", "pyarrow", "fsspec", "pandas")
WAITING_COUNTS: Final = 256  # rows that are done and not counted, before the cluster is held back
LOST_PASSES: Final = 3  # a cluster that says nothing of a document is asked again, so often in all
ROWS_PER_WORKER: Final = 8  # that are left at least, where documents are put together
TICK_S: Final = 0.5
FIGURES_EVERY_S: Final = 2.0
LEDGER_WAIT_S: Final = 5.0  # for figures that only the progress needs
STOP_WAIT_S: Final = 5.0  # for the thread that feeds the driver
LAST_WORDS: Final = (
    "The batch was ended from outside, or because its part of the Ray cluster on this machine died. "
    "What was read is kept: run the same command again to go on."
)
FEEDER: Final = "batch-feeder"
LOST_ROWS: Final = 1000  # of a part that the driver writes about documents that the cluster lost


@dataclass(frozen=True, slots=True)
class Batch:
    """What is asked for."""

    source: str
    """A folder, a file or a pattern of this machine, a URL, or `@` and a list of these."""
    out: str
    request: OcrRequest
    """Mode, terms, resolution, pages and text layer; the rest of it is not looked at."""
    ray: str = ""
    """The address of a cluster; empty: one on this machine, for this run."""
    workers: int = 0
    """0: one for each GPU, or for each core where the engine needs none."""
    rules: Rules = field(default_factory=Rules)
    """Decides which documents of earlier runs count as done."""
    format: str = FILES
    """`FILES`, or a key of `shards.FORMATS`."""
    price_per_hour: float = 0.0
    """The price of a worker: of its card, or of its cores. 0: unknown."""
    metrics_port: int = 0
    """The port on loopback that Prometheus asks; 0: none."""
    progress: str = "text"
    """`json`: progress and summary are objects in JSON, one a line."""


@dataclass(slots=True)
class Summary:
    """What became of it."""

    documents: int = 0
    there: int = 0
    read: int = 0
    copied: int = 0
    failed: int = 0
    pages: int = 0
    """Pages that this run read."""
    tokens: int = 0
    """Tokens that a model wrote for these pages; 0 where the engine counts none."""
    seconds: float = 0.0
    """Seconds from the start of the cluster's work to its end."""
    workers: int = 0
    unit: str = "CPU"
    """What the hours of a worker are hours of: `GPU`, or `CPU` for a core."""
    worker_seconds: float = 0.0
    """Seconds of all workers together, each from its start to the end of its last row."""
    units_per_worker: int = 1
    price_per_hour: float = 0.0
    """The price of a worker."""
    exit_code: int = 0
    """The worst exit code of the documents that failed."""
    manifest: str = ""
    notes: dict[str, int] = field(default_factory=dict)
    """The number of documents that have a note, by the code of the note."""
    left_out: str = ""
    """How many names were left out, and which; empty: none."""

    @property
    def pages_per_s(self) -> float:
        """0 if nothing was read."""
        return self.pages / self.seconds if self.seconds else 0.0

    @property
    def worker_hours(self) -> float:
        """Seconds of all workers together, each from its start to the end of its last row."""
        return self.worker_seconds / 3600

    @property
    def cost(self) -> float:
        """Of all workers together, in the currency of the price; 0: no price was given."""
        return self.worker_hours * self.price_per_hour

    def lines(self) -> list[str]:
        """The summary for a person, one fact a line."""
        parts = [f"{how_many(self.documents, 'file')}: {self.read:,} read ({how_many(self.pages, 'page')})"]
        parts += [f"{self.copied:,} with the same content as another"] if self.copied else []
        parts += [f"{self.there:,} done before"] if self.there else []
        parts += [f"{self.failed:,} failed"] if self.failed else []
        lines = [", ".join(parts) + "."]
        if self.pages_per_s:
            hours = f"{self.worker_hours * self.units_per_worker:.2f} {self.unit}-hours"
            tokens = f"{self.tokens:,} tokens ({self.tokens / self.seconds:,.0f}/s), " if self.tokens else ""
            lines.append(f"{self.pages_per_s:.2f} pages/s, {tokens}{hours}.")
            if self.price_per_hour:
                per_million = self.cost / self.pages * 1e6
                lines.append(f"Cost: {self.cost:.2f}, {per_million:,.2f} for a million such pages.")
        if self.notes:
            counts = ", ".join(f"{code} {count:,}" for code, count in sorted(self.notes.items()))
            lines.append(f"Documents with notes: {counts}. The column `notes` of the manifest has their text.")
        return [*lines, self.left_out] if self.left_out else lines

    def dump(self) -> str:
        """The summary for a program: an object in JSON."""
        rates = {"pages_per_s": round(self.pages_per_s, 3), "worker_hours": round(self.worker_hours, 4)}
        if self.price_per_hour:
            rates["cost"] = round(self.cost, 4)
        return json.dumps({"event": "summary", **asdict(self), **rates})


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
        parts = parts_of(batch.source, out, Reach.of(Caller(), settings))
        _refuse_nothing(batch.source, parts)
        merge_manifest(out)  # what a killed run has written since its last whole manifest
        _refuse_other_format(out, batch.format)
        if batch.format != FILES:
            gather(out, batch.format)
        run = secrets.token_hex(8)
        is_whole = False
        try:
            with (
                _last_words(),
                out.swept(),
                _in_one_line(),
                _fed_to_the_end(),
                cluster(batch.ray, batch.workers, settings) as found,
                _signals() as stopped,
            ):
                summary = _BatchRun(batch, settings, parts, found, run).read(stopped)
            is_whole = True
        finally:  # the cluster is gone: nobody writes
            merge_manifest(out, run=run if is_whole else "")
            out.remove(out.names(LIST))
        lost = gather(out, batch.format) if batch.format != FILES else 0
        if lost:
            raise OcrError(
                f"The texts of {lost:,} documents in {out.url} are gone or damaged.",
                remedy="Check the disk, then run the same command again: it reads these documents again.",
            )
        if not summary.failed:
            out.remove(out.names(UNITS))  # of runs that asked other things and were stopped
        return summary


def _refuse_nothing(source: str, parts: Sequence[SourcePart]) -> None:
    """Raise `InputNotFound` where there is no document: the listing goes as far as to the first one."""
    counts = Counts()
    for part in parts:
        for found in list_part(part):
            if not isinstance(found, Unlisted):
                return
            counts.add_left_out(found)
    left_out = f" {left_out_text(counts.left_out)}" if counts.left_out else ""
    raise InputNotFound(
        f"{source} names no file that can be read.{left_out}",
        remedy='Name a folder, a file, a list (@FILE), or a quoted pattern: "scans/**/*.pdf", "s3://bucket/**/*.pdf".',
    )


def _refuse_other_format(out: Location, format: str) -> None:
    """Raise `BadRequest` where earlier runs have written another format."""
    output = next((output for (output,) in ManifestIndex(out).facts("output") if output), "")
    written = next((name for name, each in FORMATS.items() if is_shard(output) and output.endswith(each.suffix)), FILES)
    if output and written != format:
        raise BadRequest(
            f"{out.url} holds texts in the format {written}, not {format}.",
            remedy=f"Name another folder with --out, or give --format {written}.",
        )


def _check(batch: Batch, settings: Settings) -> None:
    """Refuse at once what no document could be read with."""
    if batch.request.pages:
        parse_pages(batch.request.pages, sys.maxsize)
    for note in batch.request.notes:  # the same for all documents
        line = json.dumps({"event": "note", **note.model_dump()}) if batch.progress == "json" else str(note)
        print(line, file=sys.stderr, flush=True)
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


class _BatchRun:
    """One run over the documents.

    Args:
        batch: what is asked for.
        settings: the operator's.
        parts: what is to be listed.
        found: the cluster.
        run: names the run.
    """

    def __init__(self, batch: Batch, settings: Settings, parts: Sequence[SourcePart], found: Cluster, run: str) -> None:
        request = batch.request
        reading = ReadOptions(request.mode, request.find_term, request.custom_prompt, request.resolution)
        options = Options(
            reading,
            request.pages,
            request.text_layer,
            settings.ocr_pdf_dpi,
            settings.max_pixels,
            found.version,
            batch.format,
        )
        self._settings = settings
        self._parts = parts
        self._cluster = found
        self._out = place_of(batch.out)
        if batch.rules.again:
            self._out.remove(self._out.names(UNITS))
        self._round = Round(
            self._out,
            options,
            run,
            batch.rules,
            rows_in_hand=found.workers * max(ROWS_PER_WORKER, 2 * found.at_once),
            taken=_taken(self._out, parts),
        )
        self._price = batch.price_per_hour
        self._metrics_port = batch.metrics_port
        self._as_json = batch.progress == "json"
        self._progress = ProgressLine(as_json=self._as_json)
        self._began = time.monotonic()

    def read(self, stopped: threading.Event) -> Summary:
        """Read what is not read yet.

        The first pass leaves copies of what it reads; a further one finds the text of each. What a cluster loses for
        all its promises is not lost: it is asked again.
        """
        with served(self._metrics_port, lambda: self._progress.counts, self._cluster.workers):
            return self._read_all(stopped)

    def _read_all(self, stopped: threading.Event) -> Summary:
        left, lost = 1, 0
        try:
            while left and lost < LOST_PASSES:
                counts = self._pass_over(stopped)
                left = counts.todo - counts.ended
                are_copies = left == counts.later and self._round.reads
                if left and not are_copies:
                    lost += 1
                    log.warning("The cluster ended and left some documents out.", extra=fields(documents=left))
                if left:
                    merge_manifest(self._out)
                    self._round = replace(self._round, number=self._round.number + 1, reads=not are_copies)
        finally:
            self._progress.clear()
        if left:
            self._give_up()
        return self._summary()

    def _pass_over(self, stopped: threading.Event) -> Counts:
        """Have the cluster read what is left. Returns what this pass counted."""
        ledger = start_ledger(self._round)
        self._progress.begin_pass()
        counted = stream(self._cluster, self._settings, self._round, self._parts, ledger)
        counts = Counts()
        asked = time.monotonic()
        with _fed(counted) as next_counts:
            while (more := next_counts()) is not None:
                if stopped.is_set():
                    raise KeyboardInterrupt
                if isinstance(more, Counts):
                    self._take(more)
                    counts.add(more)
                    counts.failures.clear()
                if time.monotonic() - asked >= FIGURES_EVERY_S:
                    self._progress.figures = _figures_of(ledger) or self._progress.figures
                    asked = time.monotonic()
                self._progress.show()
        return counts

    def _take(self, counts: Counts) -> None:
        """Add up what a task counted, and print what failed."""
        if counts.failures:
            self._progress.clear()
            lines = counts.failures
            if self._as_json:
                lines = [json.dumps({"event": "failure", "text": line}) for line in lines]
            print("\n".join(lines), file=sys.stderr, flush=True)
        self._progress.add(counts if self._round.number == 1 else replace(counts, todo=0))  # the first has counted them
        if counts.fatal:
            raise from_dict(counts.fatal)

    def _give_up(self) -> None:
        """Write a row for each document of which the cluster says nothing."""
        rows = []
        for row in lost_rows(todo_of(self._parts, self._round), self._round):
            counts = Counts()
            counts.add_ended(row)
            self._take(counts)
            rows.append(row)
            if len(rows) >= LOST_ROWS:
                write_part(self._out, rows)
                rows = []
        write_part(self._out, rows)

    def _summary(self) -> Summary:
        total = self._progress.counts
        summary = Summary(
            documents=total.todo + total.there,
            there=total.there,
            read=total.read,
            copied=total.copied,
            failed=total.failed,
            pages=total.pages,
            tokens=total.tokens,
            seconds=round(time.monotonic() - self._began, 3),
            workers=self._cluster.workers,
            unit="GPU" if self._cluster.gpus else "CPU",
            worker_seconds=round(total.worker_s, 3),
            units_per_worker=self._cluster.gpus or self._cluster.cpus,
            price_per_hour=self._price,
            exit_code=total.exit_code,
            manifest=self._out.url_of(MANIFEST),
            notes=total.notes,
        )
        if total.left_out:
            summary.left_out = left_out_text(total.left_out)
            summary.exit_code = max(summary.exit_code, InputNotFound.exit_code)
        return summary


def _taken(out: Location, parts: Sequence[SourcePart]) -> dict[str, str]:
    """By the name of a text, the source that it belongs to, of rows that another SRC has left in the manifest."""
    roots = {part.root for part in parts}
    return {
        output: source
        for source, output in ManifestIndex(out).facts("source", "output")
        if output and not is_shard(output) and not any(_is_of(root, source, output) for root in roots)
    }


def _is_of(root: str, source: str, output: str) -> bool:
    """Whether a run over this root would give the text of this source this name."""
    below, archive = f"{root.rstrip('/')}/", archive_of(source)
    if archive:
        return archive.startswith(below) and output.startswith(f"{archive[len(below) :]}/")
    return source == below + output.removesuffix(SUFFIX)


def _figures_of(ledger: Any) -> dict[str, int] | None:
    import ray

    with contextlib.suppress(ray.exceptions.RayError):
        figures: dict[str, int] = ray.get(ledger.figures.remote(), timeout=LEDGER_WAIT_S)
        return figures
    return None


@contextmanager
def _fed(found: Iterator[Counts]) -> Iterator[Callable[[], Any]]:
    """Calls that return the next counts, None after the last, and `...` where none come within a moment.

    The data set runs on a thread of its own: whoever waits for its next row can do nothing else meanwhile.
    """
    waiting: queue.Queue[Counts | BaseException | None] = queue.Queue(WAITING_COUNTS)
    stop = threading.Event()

    def put(item: Counts | BaseException | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=TICK_S)
                return

    def feed() -> None:
        try:
            for counts in found:
                put(counts)
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
        error = _own_error(item)
        if error is not None:
            raise error
        if isinstance(item, BaseException):
            raise _failure_of_cluster(item) from None
        return item

    threading.Thread(target=feed, name=FEEDER, daemon=True).start()
    try:
        yield take
    finally:
        stop.set()


@contextmanager
def _fed_to_the_end() -> Iterator[None]:
    """Wait for the threads that ask Ray for rows. They end with the cluster; until then they call Ray."""
    try:
        yield
    finally:
        _join_feeders()


def _join_feeders() -> None:
    for thread in threading.enumerate():
        if thread.name == FEEDER:
            thread.join(STOP_WAIT_S)


@contextmanager
def _last_words() -> Iterator[None]:
    """Ray ends this process at once, with code 1, when the part of it on this machine dies. A child says so then."""
    if os.name != "posix":
        yield
        return
    script = 'read -r line || echo "$0" >&2'
    with subprocess.Popen(
        ["/bin/sh", "-c", script, LAST_WORDS], stdin=subprocess.PIPE, start_new_session=True
    ) as child:
        try:
            yield
        finally:
            child.communicate(b"done\n")


@contextmanager
def _in_one_line() -> Iterator[None]:
    """An error of Ray's, which is lost with its head or this machine's part of it, becomes one of ours."""
    try:
        yield
    except Exception as exc:
        if not type(exc).__module__.startswith("ray"):
            raise
        raise _own_error(exc) or _failure_of_cluster(exc) from None


def _failure_of_cluster(exc: BaseException) -> OcrError:
    log.info("The cluster failed.", exc_info=exc)
    return EngineUnavailable(
        f"The Ray cluster failed ({type(exc).__name__}).",
        remedy="What was read is kept: run the same command again to go on.",
    )


def _own_error(item: object) -> OcrError | None:
    """The error of ours that Ray has wrapped, if it is one."""
    while isinstance(item, BaseException):
        if isinstance(item, OcrError):
            return from_dict({"code": item.code, "message": item.message, "remedy": item.remedy})
        item = getattr(item, "cause", None) or item.__cause__
    return None

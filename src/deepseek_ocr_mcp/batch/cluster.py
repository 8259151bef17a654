"""Where a batch is read: a Ray cluster that is named, or one on this machine that ends with the run.

A local cluster listens on loopback only, and asks for the token of this run. It has no dashboard, sends no usage
report, and uses the cores that it was given.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from ..config import Settings
from ..documents.private import private_folder
from ..engines import KNOWN, EngineSpec
from ..engines.cores import granted_cores
from ..errors import EngineUnavailable, OcrError
from ..gpu.probe import GpuProbe
from .counts import Counts
from .ledger import Ledger
from .lister import list_rows, part_row
from .plan import Round, counts_of
from .planner import Planner
from .probe import probe
from .reader import UnitReader, engine_here, reader_settings
from .sources import SourcePart

__all__ = ["Cluster", "cluster", "found_here", "part_rows", "start_ledger", "stream"]

QUIET: Final[dict[str, Any]] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
OBJECT_STORE_BYTES: Final = 128 << 20  # of a local Ray; rows are small and nothing else goes through it
LONGEST_FOLDER: Final = 40  # characters; a Unix socket below it may have 107 in all
MOST_PART_ROWS: Final = 256  # tasks that list; each is a row that the driver holds
LISTERS: Final = 4  # of them at a time: each takes a process, and one lists some thousand names a second
LISTINGS: Final = 1000  # of a lister's process
MOST_WORKERS: Final = 256  # for whose planners there is room, where machines may join
READERS_PER_PLANNER: Final = 8  # a planner hashes and opens; a reader takes longer for any page
WAITING_CLAIMS: Final = 1000  # calls of the ledger at once; each waits for nothing but memory


@dataclass(frozen=True, slots=True)
class Cluster:
    """What there is to read with."""

    engine: EngineSpec
    version: str
    """The version of the engine, its weights and this program."""
    workers: int
    """The workers for which there is room now."""
    most_workers: int | None
    """The most workers of the run. None: as many as all machines have room for, those that join later included."""
    cpus: int
    """The cores of each worker."""
    at_once: int
    """Rows that a worker has in hand. While it reads one row, it fetches and draws the next. An engine that reads pages
    side by side gets several rows, and endpoints get as many as they may be sent."""

    @property
    def gpus(self) -> int:
        """The cards of each worker."""
        return 1 if self.engine.gpu_mb else 0

    @property
    def engine_setting(self) -> str:
        """`OCR_ENGINE` for the workers."""
        return self.engine.name if self.engine.is_known else self.engine.target


@contextmanager
def cluster(address: str, workers: int, settings: Settings) -> Iterator[Cluster]:
    """Join the cluster at `address`, or start one; leave it, or end it, with the context.

    Args:
        workers: 0: one for each GPU, or for each core (each `OCR_THREADS` cores) where the engine needs none; one where
            endpoints read.

    Raises:
        OcrError: nobody answers there, or what answers cannot read.
    """
    if address:
        probe(address, has_tls=os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"))
    # All are read when Ray is imported, and by the processes that it starts.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # whoever looks for a fault in Ray sets them lower
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # a call after the end of a run must not start a second Ray
    if not address:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's name for: listen on loopback only
        # What Ray counts about itself nobody sees without its dashboard: a tenth of what it takes beside the reading.
        os.environ |= dict.fromkeys(
            ("RAY_task_events_report_interval_ms", "RAY_event_stats", "RAY_enable_metrics_collection"), "0"
        )
        # Whoever else is on this machine has no business there. A token of this run's own leaves no file behind.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    with contextlib.ExitStack() as stack:
        if address:
            stack.callback(ray.shutdown)
            _join(address)
            found = _found_there(workers, settings)
        else:
            found = found_here(workers, settings)
            folder = stack.enter_context(private_folder())
            stack.callback(ray.shutdown)  # before its folder goes
            _start(found, folder)
        yield found


def _join(address: str) -> None:
    import ray

    try:
        with _hushed():
            ray.init(address=address, namespace=f"deepseek-ocr-mcp-{os.getpid()}-{time.time_ns()}", **QUIET)
    except Exception as exc:
        raise EngineUnavailable(
            f"No Ray cluster answered at {address} ({type(exc).__name__}).",
            remedy="Start one with `ray start --head` and name its address (HOST:6379, or auto on one of its "
            "machines). Its token must be here (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token), and "
            "Python, Ray and deepseek-ocr-mcp must be the same on every machine.",
        ) from None


def _start(found: Cluster, folder: str) -> None:
    import ray

    try:
        with _hushed():
            ray.init(
                address="local",  # whatever RAY_ADDRESS says
                num_cpus=found.workers * found.cpus,
                num_gpus=None if found.gpus else 0,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                _temp_dir=folder if len(folder) <= LONGEST_FOLDER else None,
                **QUIET,
            )
    except Exception as exc:
        raise EngineUnavailable(
            f"Ray did not start on this machine ({type(exc).__name__}: {exc}).",
            remedy="Look at its memory and at the space in /tmp and /dev/shm, then run the same command again.",
        ) from None


@contextmanager
def _hushed() -> Iterator[None]:
    """While Ray's native part says at what level it will say nothing. What fails is raised, not printed."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def found_here(workers: int, settings: Settings) -> Cluster:
    """What this machine has to read with."""
    engine, version = engine_here(settings)
    cpus = _cpus(engine, settings)
    slots = len(GpuProbe().cards()) if engine.gpu_mb else granted_cores() // cpus
    found = _sized(engine, version, workers or max(1, slots), cpus, settings)
    return replace(found, workers=workers or found.workers, most_workers=workers or found.workers)


def _found_there(workers: int, settings: Settings) -> Cluster:
    """What the machines of a cluster have: this one may be without a GPU and without weights.

    Where a GPU engine is named, a machine with a GPU is waited for: its group may be scaled to zero.
    """
    import ray

    there = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray says nothing of it
    gpus = 0 if settings.ocr_gpu.lower() == "cpu" else int(there.get("GPU", 0))
    named = KNOWN.get(settings.ocr_engine)
    if named is not None and named.gpu_mb and not gpus:
        print("Waiting for a machine with a GPU, as this engine needs.", file=sys.stderr, flush=True)
        gpus = 1
    ask = ray.remote(engine_here).options(num_cpus=0, num_gpus=1 if gpus else 0)
    try:
        engine, version = ray.get(ask.remote(settings))
    except ray.exceptions.RayTaskError as exc:
        if isinstance(exc.cause, OcrError):
            raise exc.cause from None
        raise EngineUnavailable(
            f"The machines of the cluster cannot run deepseek-ocr-mcp ({type(exc.cause).__name__}).",
            remedy="Install the same version of it there as here.",
        ) from None
    cpus = _cpus(engine, settings)
    slots = gpus if engine.gpu_mb else int(there.get("CPU", 1)) // cpus
    found = _sized(engine, version, min(workers or sys.maxsize, max(1, slots)), cpus, settings)
    return replace(found, most_workers=workers or (1 if engine.is_remote else None))


def _sized(engine: EngineSpec, version: str, workers: int, cpus: int, settings: Settings) -> Cluster:
    """So many workers; one is enough to keep all endpoints busy."""
    if engine.is_remote:
        at_once = settings.ocr_remote_concurrency * len(settings.ocr_remote_url)
        return Cluster(engine, version, 1, 1, cpus, max(2, at_once))
    return Cluster(engine, version, workers, workers, cpus, max(2, engine.shared_pages))


def _cpus(engine: EngineSpec, settings: Settings) -> int:
    """Of each worker. Pages side by side on a core each are read sooner than one page after the other on all."""
    return 1 if engine.gpu_mb else settings.ocr_threads or 1


def start_ledger(current: Round) -> Any:
    """The one ledger of a pass."""
    import ray

    actor: Any = ray.remote(Ledger)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "max_concurrency": WAITING_CLAIMS}
    return actor.options(**options).remote(current)


def part_rows(parts: Sequence[SourcePart]) -> list[dict[str, Any]]:
    """What the listers take, row by row."""
    length = -(-len(parts) // MOST_PART_ROWS) or 1
    groups = [parts[at : at + length] for at in range(0, len(parts), length)]
    return [part_row(group, len(groups)) for group in groups]


def stream(
    found: Cluster, settings: Settings, current: Round, parts: Sequence[SourcePart], ledger: Any
) -> Iterator[Counts]:
    """Have these parts listed and read. Yields the counts of documents and pages as they are counted.

    Args:
        found: the cluster.
        settings: the operator's settings.
        current: the facts of this run.
        parts: the parts of SRC to list.
        ledger: the actor that knows which documents are under way.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1  # byte: each row is a block, so that a unit waits for no other one
    # A reader is given as many rows as it has in hand at once: the pool grows when all have that.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    settings = reader_settings(settings, found.engine_setting, found.cpus)
    most_planners = max(1, (found.most_workers or MOST_WORKERS) // READERS_PER_PLANNER)
    rows = part_rows(parts)
    lister: Any = list_rows  # Ray's types know functions of one argument only
    planner: Any = Planner
    reader: Any = UnitReader
    data = (
        ray.data.from_items(rows, override_num_blocks=len(rows))
        .flat_map(
            lister,
            fn_args=(current, ledger),
            num_cpus=0,  # it waits for disks and networks; the cores are the readers'
            concurrency=min(LISTERS, len(rows)),
            max_calls=LISTINGS,  # the planners have no such bound: else Ray joins both, and one planner plans a part
        )
        .flat_map(
            planner,
            fn_constructor_args=(settings, current, ledger),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most_planners),
            num_cpus=0,
        )
    )
    if current.reads:
        data = data.map(
            reader,
            fn_constructor_args=(settings, current, ledger, found.at_once),
            compute=_reader_pool(found),
            num_cpus=found.cpus,
            num_gpus=found.gpus,
        )
    block: Any
    for block in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in block.to_pylist():
            yield counts_of(row)


def _reader_pool(found: Cluster) -> Any:
    """Readers that start at once, and more where machines join; more rows would wait at one while others have none."""
    import ray.data

    is_fixed = found.most_workers == found.workers
    sizes: dict[str, int | None] = (
        {"size": found.workers}
        if is_fixed
        else {"min_size": 1, "initial_size": found.workers, "max_size": found.most_workers}
    )
    return ray.data.ActorPoolStrategy(
        **sizes,
        max_tasks_in_flight_per_actor=found.at_once,
        max_concurrent_calls_per_actor=found.at_once,
        enable_true_multi_threading=True,
    )

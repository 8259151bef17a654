"""Where a batch is read: a Ray cluster that is named, or one on this machine that ends with the run.

A local one listens on loopback only, to whoever has the token of this run, reports nothing to anybody, has no
dashboard, and takes the cores it was given.
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
from dataclasses import dataclass
from typing import Any, Final

from ..config import Settings
from ..documents.private import private_folder
from ..engines import EngineSpec
from ..engines.cores import granted_cores
from ..errors import EngineUnavailable, OcrError
from ..gpu.probe import GpuProbe
from .actors import Ledger, Planner, Task, UnitReader, engine_here, from_row, plan_row, reader_settings
from .files import Location, SourceDocument
from .probe import probe
from .state import UNIT_PAGES, Options

__all__ = ["Cluster", "cluster", "found_here", "plan_rows", "start_ledger", "tasks"]

OBJECT_STORE_BYTES: Final = 128 << 20  # of a local Ray; rows are small and nothing else goes through it
LONGEST_FOLDER: Final = 40  # characters; a Unix socket below it may have 107 in all
FILES_PER_ROW: Final = 16  # that a planner takes at a time
ROWS_PER_WORKER: Final = 8  # that are left at least, where documents are put together
READERS_PER_PLANNER: Final = 8  # a planner hashes and opens; a reader takes longer for any page
WAITING_CLAIMS: Final = 1000  # calls of the ledger at once; each waits for nothing but memory


@dataclass(frozen=True, slots=True)
class Cluster:
    """What there is to read with."""

    engine: EngineSpec
    version: str
    """Of the engine, its weights and ourselves."""
    workers: int
    cpus: int
    """Of each worker."""
    at_once: int
    """Rows that a worker has in hand: while one is read the next is fetched and drawn, an engine that reads pages side
    by side is given some, and endpoints as many as they may be sent."""

    @property
    def gpus(self) -> int:
        """Of each worker."""
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
    if not address:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's name for: listen on loopback only
        # What Ray counts about itself nobody sees without its dashboard: a tenth of what it takes beside the reading.
        os.environ |= dict.fromkeys(
            ("RAY_task_events_report_interval_ms", "RAY_event_stats", "RAY_enable_metrics_collection"), "0"
        )
        # Whoever else is on this machine has no business there. A token of this run's own leaves no file behind.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    with contextlib.ExitStack() as stack:
        if address:
            try:
                with _hushed():
                    ray.init(address=address, namespace=f"deepseek-ocr-mcp-{os.getpid()}-{time.time_ns()}", **quiet)
            except Exception as exc:
                raise EngineUnavailable(
                    f"No Ray cluster answered at {address} ({type(exc).__name__}).",
                    remedy="Start one with `ray start --head` and name its address (HOST:6379, or auto on one of its "
                    "machines). Its token must be here (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token), and "
                    "Python, Ray and deepseek-ocr-mcp must be the same on every machine.",
                ) from None
            stack.callback(ray.shutdown)
            found = _found_there(workers, settings)
        else:
            found = found_here(workers, settings)
            folder = stack.enter_context(private_folder())
            with _hushed():
                ray.init(
                    address="local",  # whatever RAY_ADDRESS says
                    num_cpus=found.workers * found.cpus,
                    num_gpus=None if found.gpus else 0,
                    object_store_memory=OBJECT_STORE_BYTES,
                    include_dashboard=False,
                    _temp_dir=folder if len(folder) <= LONGEST_FOLDER else None,
                    **quiet,
                )
            stack.callback(ray.shutdown)
        yield found


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
    return _sized(engine, version, workers, slots, cpus, settings)


def _found_there(workers: int, settings: Settings) -> Cluster:
    """What the machines of a cluster have: this one may be without a GPU and without weights."""
    import ray

    there = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray says nothing of it
    gpus = 0 if settings.ocr_gpu.lower() == "cpu" else int(there.get("GPU", 0))
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
    return _sized(engine, version, workers, slots, cpus, settings)


def _sized(engine: EngineSpec, version: str, workers: int, slots: int, cpus: int, settings: Settings) -> Cluster:
    """As many workers as were asked for, else one a slot; one is enough to keep all endpoints busy."""
    if engine.is_remote:
        at_once = settings.ocr_remote_concurrency * len(settings.ocr_remote_url)
        return Cluster(engine, version, workers or 1, cpus, max(2, at_once))
    return Cluster(engine, version, workers or max(1, slots), cpus, max(2, engine.shared_pages))


def _cpus(engine: EngineSpec, settings: Settings) -> int:
    """Of each worker. Pages side by side on a core each are read sooner than one page after the other on all."""
    return 1 if engine.gpu_mb else settings.ocr_threads or 1


def start_ledger(done: dict[str, str]) -> Any:
    """The one ledger of a run."""
    import ray

    made: Any = ray.remote(Ledger)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "max_concurrency": WAITING_CLAIMS}
    return made.options(**options).remote(done)


def plan_rows(found: Cluster, sources: Sequence[SourceDocument]) -> list[dict[str, Any]]:
    """What the planners take, row by row.

    Short documents go together, so that Ray's work for each row is little beside the reading; ever fewer towards the
    end, where whoever is done first waits for the last row.
    """
    rows_wanted = found.workers * max(ROWS_PER_WORKER, 2 * found.at_once)
    return [
        plan_row(
            map(Task, sources[at : at + FILES_PER_ROW]),
            together=min(UNIT_PAGES, max(1, (len(sources) - at) // rows_wanted)),
        )
        for at in range(0, len(sources), FILES_PER_ROW)
    ]


def tasks(
    found: Cluster, settings: Settings, options: Options, out: Location, sources: Sequence[SourceDocument], ledger: Any
) -> Iterator[Task]:
    """Have these read; each task that is done, as it is done."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = 1  # byte: each row is a block, so that a unit waits for no other one
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    settings = reader_settings(settings, found.engine_setting, found.cpus)
    planners = ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, found.workers // READERS_PER_PLANNER))
    readers = ray.data.ActorPoolStrategy(
        size=found.workers,
        max_tasks_in_flight_per_actor=found.at_once,  # more would wait at one actor while others have nothing
        max_concurrent_calls_per_actor=found.at_once,
        enable_true_multi_threading=True,
    )
    rows = plan_rows(found, sources)
    planner: Any = Planner  # Ray's types know functions only
    reader: Any = UnitReader
    data = (
        ray.data.from_items(rows, override_num_blocks=len(rows))
        .flat_map(
            planner,
            fn_constructor_args=(settings, options, ledger),
            compute=planners,
            num_cpus=0,  # it waits for disks; the cores are the readers'
        )
        .map(
            reader,
            fn_constructor_args=(settings, options, out, ledger, found.at_once),
            compute=readers,
            num_cpus=found.cpus,
            num_gpus=found.gpus,
        )
    )
    block: Any
    for block in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in block.to_pylist():
            yield from from_row(row)

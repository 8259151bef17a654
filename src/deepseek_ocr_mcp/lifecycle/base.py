"""Defines a lifecycle, by which the service has pages read: by one worker, by several, or by servers elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from ..engines import EngineSpec
from ..engines.base import PageImage, ReadOptions
from ..gpu.probe import GpuProbe
from ..models import Doing, Endpoint, Gpu, State, Transition, WorkerStatus
from ..observer import Observer
from ..worker.client import OnProgress

__all__ = ["Lifecycle", "ModelStatus", "PagesRead"]


@dataclass(frozen=True, slots=True)
class PagesRead:
    """Pages that were read: an entry for each page, with the fields of `engines.base.PageText` or a `Reading`."""

    pages: list[dict[str, Any]]
    engine: str
    model: str
    device: str
    queued_s: float
    load_s: float
    infer_s: float


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The part of `models.GpuStatus` that a lifecycle knows; the fields have the same names."""

    state: State | Doing
    model: str
    device: str
    worker_pid: int | None
    prewarmed: bool
    download_percent: float | None
    worker_host_mb: int | None
    idle_s: float | None
    offload_in_s: float | None
    release_in_s: float | None
    queue: int
    served: int
    worker_restarts: int
    last_error: str
    workers: list[WorkerStatus] | None = None
    endpoints: list[Endpoint] | None = None


class Lifecycle(Protocol):
    """Brings the model to the place where it reads, reads with it, and gives its memory back."""

    observer: Observer

    @property
    def engine(self) -> EngineSpec: ...
    @property
    def probe(self) -> GpuProbe:
        """The cards of this machine."""
        ...

    @property
    def lanes(self) -> int:
        """The number of batches of one document that it pays to read at once. Each batch is one call of `read`."""
        ...

    @property
    def state(self) -> State:
        """The place of the weights. A move that runs does not change it before its end."""
        ...

    @property
    def ready_state(self) -> State:
        """The state in which the engine can read."""
        ...

    @property
    def device(self) -> str: ...
    @property
    def loading_s(self) -> float | None:
        """The seconds that the present load has taken; None while no load runs."""
        ...

    def running(self) -> AbstractAsyncContextManager[object]:
        """The lifespan. Every other method is called inside it. At its end all memory is given back."""
        ...

    def lease(self) -> AbstractAsyncContextManager[None]:
        """A lease, which a document holds from its first page to its last. The model is not idle while one is held."""
        ...

    async def read(
        self,
        pages: Sequence[PageImage],
        options: ReadOptions,
        *,
        client: str = "",
        background: Callable[[], bool] = ...,
        on_progress: OnProgress | None = None,
    ) -> PagesRead:
        """Read some pages. The caller holds a lease. Any number of calls may run at once.

        Args:
            pages: the pages.
            options: the mode and its arguments.
            client: the name of the client; clients take turns.
            background: tells whether the pages of other callers come first. It is called when a turn is given.
            on_progress: gets the progress, from 0 to 1, and a sentence.
        """
        ...

    def status(self) -> ModelStatus:
        """The status. It waits for nothing."""
        ...

    def unreturned_mb(self, cards: Sequence[Gpu]) -> int | None:
        """MiB that ended workers held and that their cards have not got back; None if nothing is missing."""
        ...

    async def offload(self) -> Transition: ...
    async def release(self, force: bool = False) -> Transition: ...

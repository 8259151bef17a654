"""Defines a lifecycle: how the service has pages read, wherever the model is: here, on several cards, or elsewhere."""

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
    """Pages as read: one entry of `pages` per page, each with the fields of `engines.base.PageText`."""

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
    """Brings the model where it must be, reads with it, and gives everything back."""

    observer: Observer

    @property
    def engine(self) -> EngineSpec: ...
    @property
    def probe(self) -> GpuProbe:
        """Knows the cards of this machine."""
        ...

    @property
    def lanes(self) -> int:
        """Batches of one document that are worth having under way at once; each is one call of `read`."""
        ...

    @property
    def state(self) -> State:
        """Where the weights are, whatever is being done about it."""
        ...

    @property
    def ready_state(self) -> State:
        """The state in which it can read."""
        ...

    @property
    def device(self) -> str: ...
    @property
    def loading_s(self) -> float | None:
        """Seconds that the load which runs has taken; None while none does."""
        ...

    def running(self) -> AbstractAsyncContextManager[object]:
        """Everything else happens inside; nothing is held when it ends."""
        ...

    def lease(self) -> AbstractAsyncContextManager[None]:
        """Held by a document from its first page to its last: the model is not idle meanwhile."""
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
        """Read some pages; the caller holds a lease. Any number of calls may be under way.

        Args:
            client: who asks; clients take turns.
            background: whether all that others ask for comes first; asked when a turn is given.
        """
        ...

    def status(self) -> ModelStatus:
        """The state of now; waits for nothing."""
        ...

    def unreturned_mb(self, cards: Sequence[Gpu]) -> int | None:
        """MiB that ended workers held and that their cards still lack; None: none."""
        ...

    async def offload(self) -> Transition: ...
    async def release(self, force: bool = False) -> Transition: ...

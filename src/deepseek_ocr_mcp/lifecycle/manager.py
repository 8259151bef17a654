"""Moves one model between the disk, host memory and its GPU, and reads with it. Nothing else writes its state.

- There is one lock. Its holder may read a batch or move the model. It is FIFO and held for one batch, so a short
  request overtakes a long document between two batches. `batches.Batches` reads under it.
- A document holds a lease from its first picture to its last page. Idle time starts when the last lease ends. A step of
  the idle policy is decided again under the lock.
- A load belongs to no request: if the request that caused it goes away, the others still get the model.
- A worker that dies, loses its card or hangs is replaced. The state is true afterwards, and `last_error` says what
  happened.
- An engine that can be opened without a card gives back its CUDA context, too, when it is parked: a *successor* is
  started, which has the libraries imported and the weights mapped, and the worker with the context ends. Until the
  successor is ready, the parked worker can be restored. `OCR_PARK=resident` keeps the parked worker instead.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, Protocol, Self

import anyio
import anyio.abc
import anyio.to_thread

from ..config import Settings
from ..engines import EngineSpec
from ..engines.base import CPU, PageImage, ReadOptions
from ..errors import Busy, Cancelled, EngineUnavailable, GpuBusy, GpuLost, NotReady, OcrError, WorkerCrashed, closing
from ..gpu.probe import GpuProbe
from ..logs import fields
from ..models import Doing, Gpu, State, Transition
from ..observer import Observer
from ..worker.client import ENGINE_HOST, OnFrame, OnProgress, WorkerDied, WorkerHandle, describe_exit
from .base import ModelStatus, PagesRead
from .batches import Batches, crashed
from .idle import Idleness, IdlePolicy, Step
from .line import RequestPart
from .memory import CardMemory, Footprint, difference, resident_mb
from .weights import Weights

__all__ = ["ModelManager", "Worker", "spawn_engine"]

log = logging.getLogger(__name__)

OFFLOAD_TIMEOUT_S: Final = 60.0  # 7 GB over a slow PCIe link, many times over
FORCE_TIMEOUT_S: Final = 10.0  # SIGKILL, confirmed death, memory seen to return
SUCCESSOR_WAIT_S: Final = 30.0  # that `gpu_offload` waits for a successor; agents give a call up after 60
SETTLE_S: Final = 3.0
"""From an offload of the idle policy to the start of a successor: the next page of an agent mostly comes sooner, and
starting a successor takes 3.5 s of a core (imports, torch for the CPU). Not tuned on a card; too long keeps 300 to
700 MB there for as long."""


class Worker(Protocol):
    """The part of a `WorkerHandle` that a manager uses. Tests have a worker that runs on virtual time."""

    @property
    def pid(self) -> int: ...
    @property
    def alive(self) -> bool: ...
    async def call(
        self,
        method: str,
        arguments: Mapping[str, Any],
        *,
        timeout: float,
        on_frame: OnFrame | None = None,
    ) -> dict[str, Any]: ...
    async def drop(self, pages: Sequence[int]) -> None: ...
    async def add(self, pages: Sequence[Mapping[str, Any]], seconds: float) -> None: ...
    async def stop(self) -> None: ...
    async def kill(self) -> None: ...


Spawn = Callable[[EngineSpec, Mapping[str, str]], Awaitable[Worker]]


async def spawn_engine(engine: EngineSpec, env: Mapping[str, str]) -> Worker:
    """Start a child process with an engine in it.

    Args:
        engine: the engine.
        env: environment variables of the process, beside those that every child gets.
    """
    return await WorkerHandle.spawn(
        ENGINE_HOST, engine.target, env=env, rights=engine.rights, name=f"{engine.name} worker"
    )


@dataclass(slots=True)
class _Child:
    """A worker and its place."""

    worker: Worker
    device: str = CPU
    card: str | None = None
    """The UUID of the card that holds its CUDA context; None if it has no context."""
    opened: bool = False
    """Whether the worker has the weights mapped, and waits for a card."""
    footprint: Footprint | None = None
    condemned: bool = False
    """Whether this manager is ending the worker: then its end is no crash."""
    gone: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True)
class _Succession:
    """The start of a successor. `over` is set when the successor has its place, or when the start has failed."""

    over: anyio.Event = field(default_factory=anyio.Event)
    hurry: anyio.Event = field(default_factory=anyio.Event)
    """Set when a caller waits for the successor."""


@dataclass(slots=True)
class _Loading:
    """A load that is running. Callers wait for `finished`."""

    finished: anyio.Event = field(default_factory=anyio.Event)
    error: OcrError | None = None
    since: float = field(default_factory=anyio.current_time)


class ModelManager:
    """One engine with one worker at most. Use it inside `async with manager.running():`.

    Args:
        engine: the engine.
        settings: the operator's settings.
        probe: sees the cards; None: one is made.
        spawn: starts a worker.
        weights: finds and fetches the weights; None: made for `engine`.
    """

    def __init__(
        self,
        engine: EngineSpec,
        settings: Settings,
        *,
        probe: GpuProbe | None = None,
        spawn: Spawn = spawn_engine,
        weights: Weights | None = None,
    ) -> None:
        self.engine = engine
        self.probe = probe or GpuProbe()
        self.observer = Observer()
        self._settings = settings
        self._spawn = spawn
        self._weights = weights or Weights(engine, settings)
        self._memory = CardMemory(engine, settings, self.probe)
        self._idle = Idleness(IdlePolicy(settings.gpu_offload_after, settings.gpu_idle_timeout))
        # An engine whose weights can be parked keeps them in host memory or on its device. With OCR_GPU=cpu
        # its device is a second copy in host memory: slow and large, but every step is the same.
        self._parks = engine.gpu_mb > 0
        self._uses_card = self._parks and settings.ocr_gpu.lower() != CPU
        self._succeeds = self._uses_card and engine.opens and settings.ocr_park == "successor"
        self._prewarm_due = self._parks and settings.ocr_prewarm != "off"
        self._prewarm_to = {"host": State.HOST, "gpu": State.GPU}.get(settings.ocr_prewarm, State.UNLOADED)
        self.lock = anyio.Lock()
        """Held while a batch is read or the model is moved."""
        self._state = State.UNLOADED
        self._doing: Doing | None = None
        self._child: _Child | None = None
        self._successor: _Child | None = None
        self._succession: _Succession | None = None
        self._records_steps = True
        self._loading: _Loading | None = None
        self.batches = Batches(self, settings.ocr_page_timeout)
        self._tasks: anyio.abc.TaskGroup | None = None
        self.model = ""
        """The name of the loaded model, as the worker reports it."""
        self._folder: str | None = None
        """The folder of the weights at the last load."""
        self._restarts = 0
        self._last_error = ""
        self.failed_at = -inf
        """The time of the failure that `last_error` describes."""

    def __repr__(self) -> str:
        parts = [self.state.name]
        if self._child and self._child.card:
            parts.append(self._child.card)
        if (idle := self._idle.seconds) is not None:
            parts.append(f"idle {idle:.0f}s")
        return f"<ModelManager {' '.join(parts)} served {self.batches.served}>"

    @property
    def state(self) -> State:
        """The place of the weights. A move that runs does not change it before its end. A dead worker has no
        weights."""
        if self._child is None or self._child.worker.alive or self.lock.locked():
            return self._state
        return State.UNLOADED

    @property
    def ready_state(self) -> State:
        """The state in which this engine can read."""
        return State.GPU if self._parks else State.HOST

    @property
    def lanes(self) -> int:
        """The number of batches of one document that it pays to read at once.

        On a card, as many as fill the slots of the engine: they join each other. On a CPU one, because more pages side
        by side make the first of them late.
        """
        return max(1, self.engine.shared_pages // self.engine.batch_pages) if self._uses_card else 1

    @property
    def device(self) -> str:
        """`cpu`, the UUID of the card that the worker sits on, or `none` while there is no worker on any."""
        if not self._uses_card:
            return CPU
        return (self._child and self._child.card) or "none"

    # -- life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The lifespan: the idle policy is watched, and at the end the workers are killed and all memory is given
        back."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self._idle.begin()
                tasks.start_soon(self._watch_idle)
                try:
                    yield self
                finally:
                    self._state = State.CLOSED
                    await self._kill_now()
                    tasks.cancel_scope.cancel()
        finally:
            await self._kill_now()  # a load may have started a worker meanwhile

    async def _kill_now(self) -> None:
        for child in (self._child, self._successor):
            if child is not None:
                child.condemned = True
                await child.worker.kill()

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[None]:
        """A lease, which a request holds from beginning to end. The model is not idle while one is held."""
        self.hold()
        try:
            yield
        finally:
            self.let_go()

    def hold(self) -> None:
        """Begin a lease. `let_go` must follow."""
        self._idle.hold()

    def let_go(self) -> None:
        """End a lease that `hold` began."""
        self._idle.let_go()

    # -- reading

    async def read(
        self,
        pages: Sequence[PageImage],
        options: ReadOptions,
        *,
        client: str = "",
        background: Callable[[], bool] = lambda: False,
        on_progress: OnProgress | None = None,
    ) -> PagesRead:
        """Read some pages. The caller holds a lease.

        Args:
            pages: the pages.
            options: the mode and its arguments.
            client: the name of the client; clients take turns.
            background: tells whether the pages of other callers come first. It is called when a turn is given.
            on_progress: gets the progress, from 0 to 1, and a sentence.

        Raises:
            NotReady: the weights are being fetched.
            WorkerCrashed, GpuLost: the worker or its card failed twice over these pages.
            Cancelled: the model was released by force, or the server closes.
            OcrError: the error of loading, or of the engine.
        """
        assert self._tasks is not None, "use the manager inside `async with manager.running():`"
        return await self.batches.read(RequestPart(pages, options, client, background), on_progress, self._tasks)

    async def drop(self, pages: Sequence[int]) -> None:
        """Tell the worker that nobody waits for these pages of its batch any more."""
        if self._child is not None:
            await self._child.worker.drop(pages)

    async def add(self, pages: Sequence[Mapping[str, Any]], seconds: float) -> None:
        """Add pages to the batch that the worker reads, and seconds to its time limit."""
        if self._child is not None:
            await self._child.worker.add(pages, seconds)

    @property
    def records_steps(self) -> bool:
        """Whether workers record decode steps. False after one of them could not."""
        return self._records_steps

    async def replace_spoiled(self, why: str) -> None:
        """End a worker that could not record a decode step.

        Its answer was right, but its allocator does not free its cache any more when memory is short. The next worker
        records no steps. Caller holds the lock.
        """
        self._records_steps = False
        log.warning(
            "The worker is replaced, and steps are not recorded any more.",
            extra=fields(engine=self.engine.name, reason=why),
        )
        await self._end_worker()

    @property
    def loading_s(self) -> float | None:
        """The seconds that the present load has taken; None while no load runs."""
        return None if self._loading is None else anyio.current_time() - self._loading.since

    @property
    def can_read(self) -> bool:
        """Whether a page could be read now, without moving the model first."""
        return self.is_ready() and self._doing is None

    async def load(self) -> None:
        """Bring the model to the state in which it reads. Callers that come meanwhile share the load.

        Raises:
            OcrError: the error of loading; see `read`.
        """
        while not self.can_read:
            if self.is_ready():  # but it is being moved, under the lock
                async with self.lock:
                    continue
            await self.ready()

    def is_ready(self) -> bool:
        """Whether the worker can read now."""
        return self._state is self.ready_state and self._child is not None and self._child.worker.alive

    async def ready(self) -> None:
        """Wait until the model is loaded, and start the load if none runs. Raises the error of the load."""
        self._refuse_when_closed()
        if self.is_ready():
            return
        if self._loading is None:
            assert self._tasks is not None, "use the manager inside `async with manager.running():`"
            self._loading = _Loading(error=closing())
            self._tasks.start_soon(self._load, self._loading)
        loading = self._loading
        await loading.finished.wait()
        if loading.error is not None:
            raise type(loading.error)(loading.error.message, remedy=loading.error.remedy)

    async def _load(self, loading: _Loading) -> None:
        try:
            async with self.lock:
                if not self.is_ready():
                    await self._load_twice()
            loading.error = None
        except OcrError as exc:
            loading.error = exc
        except WorkerDied as died:
            loading.error = crashed(died)
        except OSError as exc:
            loading.error = _not_started(exc)
        finally:
            self._remember(loading.error)
            self._loading = None
            loading.finished.set()
            self._idle.notify()

    async def _load_twice(self) -> None:
        """Load. If the worker dies meanwhile, load once more: many may wait, and somebody may have killed it by hand.

        Caller holds the lock.
        """
        self._refuse_when_closed()
        try:
            await self._move_to(self.ready_state)
        except WorkerDied as died:
            log.warning(
                "The worker died while it loaded, and is started once more.",
                extra=fields(engine=self.engine.name, reason=describe_exit(died.returncode)),
            )
            self._refuse_when_closed()
            await self._move_to(self.ready_state)

    async def call(
        self, method: str, arguments: Mapping[str, Any], timeout: float, on_frame: OnFrame | None = None
    ) -> dict[str, Any]:
        """Call the worker. Caller holds the lock. However it ends, the state is true afterwards.

        Args:
            method: a method of `engines.host.EngineHost`.
            arguments: the arguments of the method.
            timeout: seconds; a worker that takes longer is killed.
            on_frame: gets every frame that the worker sends before its answer.

        Raises:
            WorkerDied: the worker ended by itself.
            Cancelled: the worker was ended on purpose.
            GpuLost: the card of the worker failed. The worker is ended.
            OcrError: the error that the worker answered.
        """
        child = self._child
        assert child is not None
        try:
            return await child.worker.call(method, arguments, timeout=timeout, on_frame=on_frame)
        except WorkerDied as died:
            await self._bury(child, died)
            self._refuse_when_closed()
            if child.condemned:
                raise Cancelled(
                    "The model was released by force while this was being read.",
                    remedy="Send the request again; the model is loaded anew.",
                ) from None
            raise
        except GpuLost as lost:
            # After such an error CUDA is of no use in that process. The next worker may take another card.
            with anyio.CancelScope(shield=True):
                lost = await self._explained(lost, child)
                await child.worker.kill()
                await self._bury(child, lost)
            raise lost from None
        except BaseException as exc:
            if not child.worker.alive:  # it was killed, because it hung or ignored a cancellation
                await self._bury(child, exc)
            raise

    async def _explained(self, lost: GpuLost, child: _Child) -> GpuLost:
        """The error, with a sentence on whether the driver still knows the card."""
        if child.card is None:
            return lost
        cards = await anyio.to_thread.run_sync(self.probe.cards)
        gone = child.card not in [card.uuid for card in cards]
        fate = f"The driver does not list {child.card} any more." if gone else f"The card was {child.card}."
        return GpuLost(f"{lost.message} {fate}", remedy=lost.remedy)

    async def _bury(self, child: _Child, cause: BaseException | None) -> None:
        """Forget a dead worker. A ready successor takes its place. Returns when its card has its memory back."""
        if self._child is not child:
            return
        with anyio.CancelScope(shield=True):
            if not child.condemned:
                self._restarts += 1
                self._remember(cause)
                self.observer.worker_died(self.engine.name, child.worker.pid, _how(cause))
            await self._see_freed(child)
            self._child = None
            if self._state is not State.CLOSED:
                self._state = State.UNLOADED
            self._let_succeed()
            child.gone.set()
        self._idle.notify()

    async def _see_freed(self, child: _Child) -> None:
        if child.footprint is not None and (missing := await self._memory.see_freed(child.footprint)):
            self.observer.memory_missing(self.engine.name, child.footprint.card, missing)

    def _remember(self, cause: BaseException | None) -> None:
        if isinstance(cause, WorkerDied):
            cause = crashed(cause)
        if isinstance(cause, OcrError) and not isinstance(cause, (Cancelled, NotReady)):
            self._last_error, self.failed_at = cause.message, anyio.current_time()

    async def _notice_death(self) -> None:
        """Forget a worker that died while nobody called it: by hand, or for lack of memory. Caller holds the lock."""
        if self._child is not None and not self._child.worker.alive:
            await self._bury(self._child, None)

    # -- moving

    async def _move_to(self, target: State) -> None:
        """Move the model. Caller holds the lock. A failed step ends the worker, and leaves a true state."""
        await self._notice_death()
        card = None
        if target is self.ready_state:
            # The card is chosen first: a refusal leaves the weights where they are, and fetches none for nothing.
            assert self._tasks is not None
            if self._uses_card:
                card = await self._memory.choose(self._parked)
            self._folder = await self._weights.folder(self._tasks)
        began = anyio.current_time()
        self._doing = _step(self._state, target, self._child)
        try:
            match self._state, target:
                case (State.HOST, State.HOST) | (State.GPU, State.GPU):
                    pass
                case State.HOST, State.GPU if self._child and self._child.card == card:
                    await self.call("restore", {"device": self._child.device}, self._settings.ocr_load_timeout)
                case _, State.HOST | State.GPU if self._state is not State.GPU:
                    if self._child is not None and self._child.card is not None:
                        # Its card has no room any more. A fresh worker leaves no CUDA context on the old card.
                        await self._end_worker(but_successor=True)
                    await self._start_worker(card)
                case State.GPU, State.HOST:
                    await self._park()
                case _, State.UNLOADED:
                    await self._end_worker()
            if self._state is not State.CLOSED:
                self._state = target
            if self._doing is not None:
                self.observer.moved(self.engine.name, self._doing, anyio.current_time() - began, self.device)
        except (OcrError, WorkerDied) as exc:
            # No state describes weights that are half moved. So the worker is ended, and the next call starts anew.
            self._remember(exc)
            if self._doing is not None:
                code = exc.code if isinstance(exc, OcrError) else WorkerCrashed.code
                self.observer.move_failed(self.engine.name, self._doing, code)
            await self._end_worker()
            raise
        finally:
            self._doing = None
            self._idle.notify()

    @property
    def _parked(self) -> Footprint | None:
        """The footprint of the worker, if it is parked with a context on a card; else None."""
        return self._child.footprint if self._child is not None and self._state is State.HOST else None

    async def _spawned(self) -> _Child:
        """A fresh worker, with nothing loaded."""
        env = {"OCR_THREADS": str(self._settings.ocr_threads), "OCR_PRECISION": self._settings.ocr_precision}
        return _Child(await self._spawn(self.engine, env))

    def _environment(self, card: str | None = None) -> dict[str, str]:
        """The environment variables of a worker that opens its weights, or that places them on a card."""
        found = {"OCR_MODEL_PATH": self._folder} if self._folder else {}
        if self._uses_card and self.engine.opens:
            found["OCR_PARK"] = self._settings.ocr_park
        if not self._records_steps:
            found["OCR_RECORD_STEPS"] = "off"
        if card is not None:
            # Cards are named by UUID, because CUDA numbers them by speed and NVML by PCI bus.
            found |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": card}
        return found

    async def _start_worker(self, card: str | None) -> None:
        """Bring the weights to the card: in the successor, in a worker that was prewarmed, or in a fresh one."""
        if self._child is None:
            self._child = await self._spawned()
        child = self._child
        child.device = "cuda" if card else CPU
        if card is not None:
            free_mb = await self._memory.free_mb(card)
            child.card, child.footprint = card, Footprint(card, child.worker.pid, free_mb)
            if free_mb is not None:
                self._memory.settle(card, free_mb)
        arguments = {"device": child.device, "environment": self._environment(card)}
        if child.opened:
            child.opened = False
            await self.call("restore", arguments, self._settings.ocr_load_timeout)
        else:
            self._note(await self.call("load", arguments, self._settings.ocr_load_timeout))

    def _note(self, facts: Mapping[str, Any]) -> None:
        """Remember the name of the model that a worker has loaded or opened, and log its notes."""
        self.model = str(facts.get("model", ""))
        for note in facts.get("notes", ()):
            log.warning(note, extra=fields(engine=self.engine.name))

    # -- parking

    async def _park(self) -> None:
        """Take the weights off the card. Caller holds the lock."""
        assert self._child is not None
        if self._living_successor() is not None:
            await self._end_worker(but_successor=True)
            return
        await self.call("offload", {}, OFFLOAD_TIMEOUT_S)
        if (footprint := self._child.footprint) is not None:
            footprint.free_parked_mb = await self._memory.free_mb(footprint.card)
        if self._succeeds and self._succession is None:
            assert self._tasks is not None
            self._succession = _Succession()
            self._tasks.start_soon(self._succeed, self._succession)

    def _let_succeed(self) -> None:
        """Make a ready successor the worker, if there is no worker."""
        if self._state is State.CLOSED or self._child is not None:
            return
        if (successor := self._living_successor()) is not None:
            self._child, self._successor = successor, None
            self._state = State.HOST

    def _living_successor(self) -> _Child | None:
        successor = self._successor
        return successor if successor is not None and successor.opened and successor.worker.alive else None

    async def _succeed(self, succession: _Succession) -> None:
        """Open a successor, which takes the place of the worker that is parked with a context on the card.

        If that worker is in use again by then, the successor is kept for the next offload.
        """
        try:
            with anyio.move_on_after(SETTLE_S):
                await succession.hurry.wait()
            if (self._parked is None or self._idle.leases) and not succession.hurry.is_set():
                return  # a request needs the model again
            self._successor = successor = await self._spawned()
            arguments = {"device": "cuda", "environment": self._environment()}
            await successor.worker.call("open", arguments, timeout=self._settings.ocr_load_timeout)
            successor.opened = True
            async with self.lock:
                await self._notice_death()
                if self._parked is not None and self._living_successor() is not None:
                    await self._end_worker(but_successor=True)
                self._let_succeed()
        except (OcrError, WorkerDied) as exc:
            # The parked worker stays. It can be restored, and `release` gives its context back.
            if self._successor is not None and not self._successor.condemned:
                self._remember(exc)
                await self._drop_successor()
        except OSError as exc:
            self._remember(_not_started(exc))
        finally:
            self._succession = None
            succession.over.set()
            self._idle.notify()

    async def _drop_successor(self) -> None:
        """End the successor, if there is one, ready or not."""
        successor, self._successor = self._successor, None
        if successor is not None:
            successor.condemned = True
            await successor.worker.kill()

    async def _prewarm(self) -> None:
        """Do the step of `OCR_PREWARM`, once the server is idle. The first call reports a failure, which it meets
        again."""
        async with self.lock:
            self._prewarm_due = False
            if self._child is not None or self._idle.leases:
                return  # a request loads the model anyway
            target, self._prewarm_to = self._prewarm_to, State.UNLOADED
            try:
                self._child = await self._spawned()
                await self.call("prewarm", {}, self._settings.ocr_load_timeout)
                if target is State.HOST and self.engine.opens and self._uses_card:
                    await self._open()
                elif target is not State.UNLOADED:
                    await self._move_to(State.GPU)
                    if target is State.HOST:
                        await self._move_to(State.HOST)
            except (OcrError, WorkerDied, OSError) as exc:
                self._remember(exc)
                await self._end_worker()
            self._idle.begin()

    async def _open(self) -> None:
        """Let the worker map the weights, without a card. Caller holds the lock.

        Raises:
            EngineUnavailable: no card can be used, so the weights would be converted for nothing.
        """
        assert self._child is not None
        assert self._tasks is not None
        with contextlib.suppress(GpuBusy):  # there may be room when a page comes
            await self._memory.choose(None)
        self._folder = await self._weights.folder(self._tasks)
        arguments = {"device": "cuda", "environment": self._environment()}
        began = anyio.current_time()
        self._doing = "loading"
        try:
            self._note(await self.call("open", arguments, self._settings.ocr_load_timeout))
            self._child.opened = True
            if self._state is not State.CLOSED:
                self._state = State.HOST
            self.observer.moved(self.engine.name, "loading", anyio.current_time() - began, self.device)
        finally:
            self._doing = None

    async def _end_worker(self, *, but_successor: bool = False) -> None:
        """Stop the worker, if there is one. Returns when it is dead and its card has its memory back.

        Args:
            but_successor: whether a successor that is ready takes its place.
        """
        if not but_successor:
            await self._drop_successor()
        child = self._child
        if child is None:
            if self._state is not State.CLOSED:
                self._state = State.UNLOADED
            return
        with anyio.CancelScope(shield=True):
            child.condemned = True  # so its end counts as no crash
            await child.worker.stop()
            await self._bury(child, None)

    def unreturned_mb(self, cards: Sequence[Gpu]) -> int | None:
        """MiB that an ended worker held and that its card has not got back; None if nothing is missing."""
        return self._memory.unreturned_mb(cards, has_worker=self.device != "none")

    async def offload(self) -> Transition:
        """Move the weights off the GPU and keep them in host memory. With a successor the CUDA context leaves it, too.

        Raises:
            Busy: pages were being read during all of `OCR_BUSY_WAIT`.
        """
        if not self._parks:
            return self._unmoved(f"{self.engine.name} runs on the CPU: nothing of it is on a GPU.")
        async with self._turn("gpu_offload"):
            await self._notice_death()
            if self._state is not State.GPU:
                moved = self._unmoved(f"Nothing was on the GPU: the model is {self._state.value}.")
            else:
                moved = await self._timed(State.HOST, "The weights left the GPU and wait in host memory.")
            parked = self._parked
        return moved if parked is None else await self._without_context(moved, parked)

    async def _without_context(self, moved: Transition, parked: Footprint) -> Transition:
        """Wait, within a bound, until a successor has taken the place of the parked worker."""
        if not self._succeeds:
            return moved
        began = anyio.current_time()
        free = await self._memory.free_mb(parked.card)
        if self._succession is None and self._tasks is not None:
            self._succession = _Succession()
            self._tasks.start_soon(self._succeed, self._succession)
        if (succession := self._succession) is not None:
            succession.hurry.set()
            with anyio.move_on_after(SUCCESSOR_WAIT_S):
                await succession.over.wait()
        more = difference(free, await self._memory.free_mb(parked.card))
        if self._child is None or self._child.footprint is not parked:
            outcome = "Nothing of ours is on the card."
        elif self._succession is not None:
            outcome = "The CUDA context leaves the card when the successor is ready; gpu_release takes it off at once."
        else:
            outcome = "The CUDA context stays on the card; gpu_release gives it back."
        return moved.model_copy(
            update={
                "seconds": moved.seconds + anyio.current_time() - began,
                "freed_mb": None if moved.freed_mb is None and more is None else (moved.freed_mb or 0) + (more or 0),
                "message": f"{moved.message} {outcome}",
            }
        )

    async def release(self, force: bool = False) -> Transition:
        """End the worker, which gives all memory back.

        Args:
            force: whether pages that are being read are given up, instead of waited for. Their callers get `Cancelled`.

        Raises:
            Busy: pages were being read during all of `OCR_BUSY_WAIT`.
        """
        child = self._child
        if force and child is not None and self.lock.locked():
            began, before, free = anyio.current_time(), self._state, await self._memory.free_mb(child.card)
            child.condemned = True
            await self._drop_successor()
            await child.worker.kill()
            with anyio.move_on_after(FORCE_TIMEOUT_S):
                await child.gone.wait()
            seconds, waiting = anyio.current_time() - began, self._idle.leases
            self.observer.moved(self.engine.name, "releasing", seconds, self.device)
            return Transition(
                from_state=before,
                to_state=self._state,
                seconds=seconds,
                freed_mb=difference(free, await self._memory.free_mb(child.card if child else None)),
                message="What was being read was stopped and the worker process ended; its memory is free."
                + (f" {waiting} requests stand in line and will load the model again." if waiting else ""),
            )
        async with self._turn("gpu_release"):
            self._prewarm_due = False  # the caller asks for all memory
            await self._drop_successor()
            await self._notice_death()
            if self._child is None:
                return self._unmoved("Nothing was loaded: no worker process runs.")
            held = resident_mb(self._child.worker.pid)
            message = "The worker process ended" + (f" and returned {held} MiB of host memory." if held else ".")
            return await self._timed(State.UNLOADED, message)

    async def _timed(self, target: State, message: str) -> Transition:
        """Move the model, and measure the time. Caller holds the lock."""
        child = self._child
        before, free = self._state, await self._memory.free_mb(child.card if child else None)
        began = anyio.current_time()
        with anyio.CancelScope(shield=True):  # no state describes half a move; each step has its own bound
            await self._move_to(target)
        seconds = anyio.current_time() - began
        return Transition(
            from_state=before,
            to_state=target,
            seconds=seconds,
            freed_mb=difference(free, await self._memory.free_mb(child.card if child else None)),
            message=message,
        )

    def _unmoved(self, message: str) -> Transition:
        state = self.state
        return Transition(from_state=state, to_state=state, seconds=0.0, freed_mb=None, message=message)

    @asynccontextmanager
    async def _turn(self, tool: str) -> AsyncIterator[None]:
        """The lock, or `Busy` after a bounded wait."""
        self._refuse_when_closed()
        acquired = False
        with anyio.move_on_after(self._settings.ocr_busy_wait):
            await self.lock.acquire()
            acquired = True
        if not acquired:
            raise Busy(
                f"{tool} waited {self._settings.ocr_busy_wait:g} s; the model is busy and "
                f"{self._idle.leases} requests hold a place.",
                remedy="Call again when they are done, or gpu_release with force=true to stop what runs.",
            )
        try:
            yield
        finally:
            self.lock.release()

    # -- idle policy

    async def _watch_idle(self) -> None:
        """Sleep until a step of the policy is due or an event comes. An idle server wakes for nothing else."""
        while True:
            self._idle.begin_listening()
            if self._prewarm_due and self._idle.seconds is not None:
                await self._prewarm()
            elif self._idle.next_step(self.state) is not None:
                await self._step_down()
            else:
                await self._idle.news(within=self._idle.wake_after(self.state))

    async def _step_down(self) -> None:
        async with self.lock:
            step = self._idle.next_step(self.state)  # decided again, because a request may have come meanwhile
            if step is None:
                return
            # `last_error` has the failure, the worker is gone, and no caller waits for an answer.
            with contextlib.suppress(OcrError, WorkerDied):
                await self._move_to(State.HOST if step is Step.OFFLOAD else State.UNLOADED)
                if step is Step.RELEASE:
                    self._prewarm_due = self._parks and self._settings.ocr_prewarm != "off"

    # -- status

    def status(self) -> ModelStatus:
        """The status. It waits for nothing."""
        state = self.state
        child = self._child
        pid = child.worker.pid if child is not None and child.worker.alive else None

        return ModelStatus(
            state=self._doing or state,
            model=self.model,
            device=self.device,
            worker_pid=pid,
            prewarmed=pid is not None and state is State.UNLOADED and self._doing is None,
            download_percent=self._weights.percent,
            worker_host_mb=None if pid is None else self._host_mb(pid),
            idle_s=self._idle.seconds,
            offload_in_s=self._idle.seconds_until(Step.OFFLOAD, state),
            release_in_s=self._idle.seconds_until(Step.RELEASE, state),
            queue=self._idle.leases,
            served=self.batches.served,
            worker_restarts=self._restarts,
            last_error=self._last_error,
        )

    def _host_mb(self, pid: int) -> int | None:
        """MiB of host memory that the worker and its successor hold."""
        held = resident_mb(pid)
        if held is not None and self._successor is not None:
            held += resident_mb(self._successor.worker.pid) or 0
        return held

    def _refuse_when_closed(self) -> None:
        if self._state is State.CLOSED:
            raise closing()


def _step(state: State, target: State, child: _Child | None) -> Doing | None:
    """The name of a move; None if there is nothing to move."""
    match state, target:
        case State.HOST, State.GPU:
            return "restoring" if child is not None else "loading"
        case State.UNLOADED, State.HOST | State.GPU:
            return "loading"
        case State.GPU, State.HOST:
            return "offloading"
        case _, State.UNLOADED:
            return "releasing"
        case _:
            return None


def _not_started(exc: OSError) -> EngineUnavailable:
    return EngineUnavailable(
        f"The worker process cannot be started: {exc}.", remedy="Free memory or process slots, then try again."
    )


def _how(cause: BaseException | None) -> str:
    """The cause of a worker's death, for the log. It holds nothing that the worker wrote."""
    match cause:
        case None:
            return "it ended while nobody called it"
        case WorkerDied():
            return describe_exit(cause.returncode)
        case OcrError():
            return cause.code
        case _:
            return "it did not heed a cancellation"

"""Brings the model where it must be, reads with it, and gives everything back: the only writer of state.

- One lock: whoever holds it may read a batch or move the model. It is FIFO and held for one batch,
  so a short request overtakes a long document between its batches. What is read next is decided by
  `line.Line` with the lock in hand; pages of several requests share a batch where the engine can.
- A request holds a lease from its first byte to its last. Idle time starts when the last lease
  ends; what the idle policy wants is decided once more under the lock.
- Loading belongs to no request: the one that asked first may go away, the others still get it.
- A worker that dies while it reads, or loses its card, is replaced, and the batch is read once more; one
  that hangs is killed; either way the state is true afterwards and `last_error` says what happened. Requests
  that shared a failed batch are read again one by one: none fails for another's page.
- A caller that goes away stops the reading of its own pages, and of a batch only if nobody else is in it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Final, Protocol, Self

import anyio
import anyio.abc
import anyio.to_thread

from ..config import Settings
from ..engines import EngineSpec
from ..engines.base import CPU, PageImage, ReadOptions
from ..errors import Busy, Cancelled, EngineUnavailable, GpuLost, NotReady, OcrError, WorkerCrashed, closing, unforeseen
from ..gpu.choice import choose_gpu, visible_devices
from ..gpu.probe import ENOUGH_FREED, GpuProbe, wait_freed
from ..logs import fields, serving
from ..models import Doing, Gpu, State, Transition
from ..observer import Observer
from ..worker.client import ENGINE_HOST, OnProgress, WorkerDied, WorkerHandle, describe_exit
from .base import ModelStatus, PagesRead
from .idle import Idleness, IdlePolicy, Step
from .line import Part, WaitingLine
from .weights import Weights

__all__ = ["ModelManager", "Worker", "spawn_engine"]

log = logging.getLogger(__name__)

READ_ATTEMPTS: Final = 2  # the first, and one in a fresh worker
OFFLOAD_TIMEOUT_S: Final = 60.0  # 7 GB over a slow PCIe link, many times over
FORCE_TIMEOUT_S: Final = 10.0  # SIGKILL, confirmed death, memory seen to return


class Worker(Protocol):
    """What the manager asks of a `WorkerHandle`; tests bring one that runs on virtual time."""

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
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]: ...
    async def drop(self, pages: Sequence[int]) -> None: ...
    async def stop(self) -> None: ...
    async def kill(self) -> None: ...


Spawn = Callable[[EngineSpec, Mapping[str, str]], Awaitable[Worker]]


async def spawn_engine(engine: EngineSpec, env: Mapping[str, str]) -> Worker:
    """A real child process with this engine in it."""
    return await WorkerHandle.spawn(
        ENGINE_HOST, engine.target, env=env, rights=engine.rights, name=f"{engine.name} worker"
    )


@dataclass(slots=True)
class _Child:
    """A worker and where it sits."""

    worker: Worker
    device: str
    card: str | None
    """UUID of its card; None on a CPU."""
    free_before_mb: int | None = None
    """Free memory of the card before the worker took any."""
    condemned: bool = False
    """Whether `gpu_release(force=true)` killed it: then its end is no crash."""
    gone: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True)
class _Owed:
    """Memory that a dead worker held and that its card had not got back within the bound."""

    card: str
    free_before_mb: int
    """Free memory of the card before that worker took any."""
    missing_mb: int


@dataclass(slots=True)
class _Flight:
    """A batch that is being read."""

    parts: list[Part]
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    left: set[int] = field(default_factory=set)
    """Indices of the parts whose callers went away."""

    def places(self, part: Part) -> range:
        """Where this part's pages stand in the batch."""
        start = sum(len(other.pages) for other in self.parts[: self.parts.index(part)])
        return range(start, start + len(part.pages))


@dataclass(slots=True)
class _Loading:
    """A load that runs; whoever needs it waits for `finished`."""

    finished: anyio.Event = field(default_factory=anyio.Event)
    error: OcrError | None = None
    since: float = field(default_factory=anyio.current_time)


class ModelManager:
    """One engine, one worker at most. Use it inside `async with manager.running():`."""

    lanes = 1  # there is one worker, and what it reads at once is one batch

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
        self._idle = Idleness(IdlePolicy(settings.gpu_offload_after, settings.gpu_idle_timeout))
        # An engine with weights to park has two places for them: host memory and its device. With OCR_GPU=cpu
        # the device is a second copy in host memory: slow and large, but every step is the same.
        self._parks = engine.gpu_mb > 0
        self._uses_card = self._parks and settings.ocr_gpu.lower() != CPU
        self._prewarm_due = self._parks and settings.ocr_prewarm != "off"
        self._prewarm_to = {"host": State.HOST, "gpu": State.GPU}.get(settings.ocr_prewarm, State.UNLOADED)
        self._lock = anyio.Lock()
        self._state = State.UNLOADED
        self._doing: Doing | None = None
        self._child: _Child | None = None
        self._owed: _Owed | None = None
        self._loading: _Loading | None = None
        self._line = WaitingLine()
        self._flight: _Flight | None = None
        self._line_is_read = False
        self._tasks: anyio.abc.TaskGroup | None = None
        self._model = ""
        self._served = 0
        self._restarts = 0
        self._last_error = ""
        self.failed_at = -inf
        """When what `last_error` tells of happened."""

    def __repr__(self) -> str:
        parts = [self.state.name]
        if self._child and self._child.card:
            parts.append(self._child.card)
        if (idle := self._idle.seconds) is not None:
            parts.append(f"idle {idle:.0f}s")
        return f"<ModelManager {' '.join(parts)} served {self._served}>"

    @property
    def state(self) -> State:
        """Where the weights are, whatever is being done about it. A worker that died in its sleep counts as gone."""
        if self._child is None or self._child.worker.alive or self._lock.locked():
            return self._state
        return State.UNLOADED

    @property
    def ready_state(self) -> State:
        """The state in which this engine can read."""
        return State.GPU if self._parks else State.HOST

    @property
    def device(self) -> str:
        """`cpu`, the UUID of the card that the worker sits on, or `none` while there is no worker on any."""
        if not self._uses_card:
            return CPU
        return (self._child and self._child.card) or "none"

    # -- life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Watch the idle policy; at the end, kill what runs and give everything back."""
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
            await self._kill_now()  # a load may have started a worker in between

    async def _kill_now(self) -> None:
        if self._child is not None:
            self._child.condemned = True
            await self._child.worker.kill()

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[None]:
        """Held by a request from beginning to end: the model is not idle meanwhile."""
        self.hold()
        try:
            yield
        finally:
            self.let_go()

    def hold(self) -> None:
        """Begin what a `lease` is. `let_go` must follow."""
        self._idle.hold()

    def let_go(self) -> None:
        """End what `hold` began."""
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
            client: who asks; clients take turns.
            background: whether all that others ask for comes first; asked when a turn is given.

        Raises:
            NotReady: the weights are being fetched.
            WorkerCrashed, GpuLost: the worker or its card failed twice over these pages.
            Cancelled: the model was released by force, or the server closes.
            OcrError: what loading or the engine said.
        """
        part = Part(pages, options, client, background)
        queued_s = load_s = 0.0
        while part.result is None:
            began = anyio.current_time()
            try:
                await self._ready()
            except GpuLost:
                part.crashes += 1
                if part.crashes == READ_ATTEMPTS:
                    raise
                continue
            finally:
                load_s += anyio.current_time() - began
            self._stand_in_line(part)
            try:
                await part.follow(on_progress)
            except BaseException:
                self._step_out(part)
                raise
            if part.error is not None:
                raise part.error
            queued_s += (part.started or part.ended) - part.joined
        return PagesRead(
            part.result, self.engine.name, self._model, part.device, queued_s, load_s, part.ended - part.started
        )

    def _stand_in_line(self, part: Part) -> None:
        assert self._tasks is not None
        self._line.join(part)
        if not self._line_is_read:
            self._line_is_read = True
            self._tasks.start_soon(self._read_line)

    def _step_out(self, part: Part) -> None:
        """Its caller went away: what only it asked for is not read."""
        flight = self._flight
        if self._line.leave(part) or flight is None or part not in flight.parts:
            return
        flight.left.add(flight.parts.index(part))
        if len(flight.left) == len(flight.parts):
            flight.scope.cancel()
        elif self._child is not None and self._tasks is not None:
            self._tasks.start_soon(self._child.worker.drop, list(flight.places(part)))

    async def _read_line(self) -> None:
        """Read batch after batch until nobody stands in line."""
        try:
            while self._line:
                async with self._lock:
                    if self._is_ready():
                        await self._read_batch(self._line.next_batch(self.engine.shared_pages))
                    else:  # released while they stood in line: each asks for the model, and joins again
                        for part in self._line.take_all():
                            part.finish()
        finally:
            self._line_is_read = False
            for part in self._line.take_all():  # only where the server closes
                part.finish(error=closing())

    async def _read_batch(self, parts: list[Part]) -> None:
        """Read these parts' pages. Caller holds the lock. Every part is finished, or in line again."""
        if not parts:
            return  # their callers went away while the lock was awaited
        self._flight = flight = _Flight(parts)
        pages = [page for part in parts for page in part.pages]
        began = anyio.current_time()
        for part in parts:
            part.started, part.device = began, self.device

        async def progress(done: float, message: str) -> None:
            for part in parts:
                part.tell(done, message)

        arguments = {"pages": [asdict(page) for page in pages], "options": asdict(parts[0].options)}
        try:
            with flight.scope, serving(*(part.request for part in parts)):
                reply = await self._call("read", arguments, self._settings.ocr_page_timeout * len(pages), progress)
                self._served += len(pages)
                tokens = [page["tokens"] for page in reply["pages"] if page.get("tokens") is not None]
                self.observer.pages_read(
                    self.engine.name, len(pages), sum(tokens) if tokens else None, anyio.current_time() - began
                )
                for part in parts:
                    places = flight.places(part)
                    part.finish(reply["pages"][places.start : places.stop])
        except (WorkerDied, GpuLost) as exc:
            for part in parts:
                part.crashes += 1
                final = part.crashes == READ_ATTEMPTS
                part.finish(error=(_crashed(exc) if isinstance(exc, WorkerDied) else exc) if final else None)
                part.alone = True
        except OcrError as exc:
            for part in parts:
                # With mates, the error may be another's. One that stopped them on purpose is everybody's.
                shared = len(parts) > 1 and not isinstance(exc, Cancelled)
                part.finish(error=None if shared else exc)
                part.alone = True
        except Exception as exc:
            log.exception("A batch failed in a way nobody foresaw.")
            for part in parts:
                part.finish(error=unforeseen(exc))
        finally:
            self._flight = None
            for part in parts:  # cancelled: nobody waits, or the server closes
                part.finish(error=closing())

    @property
    def loading_s(self) -> float | None:
        """Seconds that the load which runs has taken; None while none does."""
        return None if self._loading is None else anyio.current_time() - self._loading.since

    @property
    def can_read(self) -> bool:
        """Whether a page would be read now without a move of the model before."""
        return self._is_ready() and self._doing is None

    async def load(self) -> None:
        """Bring the model to where it reads; whoever asks meanwhile shares it.

        Raises:
            OcrError: what loading said; see `read`.
        """
        while not self.can_read:
            if self._is_ready():  # and on its way elsewhere, under the lock
                async with self._lock:
                    continue
            await self._ready()

    def _is_ready(self) -> bool:
        return self._state is self.ready_state and self._child is not None and self._child.worker.alive

    async def _ready(self) -> None:
        """Wait for a loaded model, starting the load if nobody has."""
        self._refuse_when_closed()
        if self._is_ready():
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
            async with self._lock:
                if not self._is_ready():
                    await self._load_twice()
            loading.error = None
        except OcrError as exc:
            loading.error = exc
        except WorkerDied as died:
            loading.error = _crashed(died)
        except OSError as exc:
            loading.error = EngineUnavailable(
                f"The worker process cannot be started: {exc}.",
                remedy="Free memory or process slots, then try again.",
            )
        finally:
            self._remember(loading.error)
            self._loading = None
            loading.finished.set()
            self._idle.notify()

    async def _load_twice(self) -> None:
        """Load; where the worker dies over it, once more: many may wait for it, and it may have been killed by hand.

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

    async def _call(
        self, method: str, arguments: Mapping[str, Any], timeout: float, on_progress: OnProgress | None = None
    ) -> dict[str, Any]:
        """Call the worker. Caller holds the lock. However it ends, the state is true afterwards."""
        child = self._child
        assert child is not None
        try:
            return await child.worker.call(method, arguments, timeout=timeout, on_progress=on_progress)
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
            # After such an error nothing works in that process any more; the next worker may take another card.
            with anyio.CancelScope(shield=True):
                lost = await self._explained(lost, child)
                await child.worker.kill()
                await self._bury(child, lost)
            raise lost from None
        except BaseException as exc:
            if not child.worker.alive:  # killed, because it hung or ignored a cancellation
                await self._bury(child, exc)
            raise

    async def _explained(self, lost: GpuLost, child: _Child) -> GpuLost:
        """The error, and whether the driver still knows the card."""
        if child.card is None:
            return lost
        cards = await anyio.to_thread.run_sync(self.probe.cards)
        gone = child.card not in [card.uuid for card in cards]
        fate = f"The driver does not list {child.card} any more." if gone else f"The card was {child.card}."
        return GpuLost(f"{lost.message} {fate}", remedy=lost.remedy)

    async def _bury(self, child: _Child, cause: BaseException | None) -> None:
        """Forget a dead worker. Returns when its card has its memory back."""
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
            child.gone.set()
        self._idle.notify()

    def _remember(self, cause: BaseException | None) -> None:
        if isinstance(cause, WorkerDied):
            cause = _crashed(cause)
        if isinstance(cause, OcrError) and not isinstance(cause, (Cancelled, NotReady)):
            self._last_error, self.failed_at = cause.message, anyio.current_time()

    async def _notice_death(self) -> None:
        """A worker may have died in its sleep: killed by hand, or for its memory. Caller holds the lock."""
        if self._child is not None and not self._child.worker.alive:
            await self._bury(self._child, None)

    # -- moving

    async def _move_to(self, target: State) -> None:
        """The only writer of state. Caller holds the lock; a step that fails leaves a true state."""
        await self._notice_death()
        weights = card = None
        if target is self.ready_state:
            # Before anything moves: a refusal leaves the weights where they are.
            assert self._tasks is not None
            weights = await self._weights.folder(self._tasks)
            card = await self._choose_card(current=self._child.card if self._child else None)
        began = anyio.current_time()
        try:
            match self._state, target:
                case State.UNLOADED, State.HOST | State.GPU:
                    self._doing = "loading"
                    await self._start_worker(card, weights)
                case State.HOST, State.GPU if self._child and self._child.card == card:
                    self._doing = "restoring"
                    await self._call("restore", {"device": self._child.device}, self._settings.ocr_load_timeout)
                case State.HOST, State.GPU:
                    # Its card has filled up. A fresh worker leaves no CUDA context behind on the old one.
                    self._doing = "loading"
                    await self._end_worker()
                    await self._start_worker(card, weights)
                case State.GPU, State.HOST:
                    self._doing = "offloading"
                    await self._call("offload", {}, OFFLOAD_TIMEOUT_S)
                case _, State.UNLOADED:
                    self._doing = "releasing"
                    await self._end_worker()
            if self._state is not State.CLOSED:
                self._state = target
            if self._doing is not None:
                self.observer.moved(self.engine.name, self._doing, anyio.current_time() - began, self.device)
        except (OcrError, WorkerDied) as exc:
            # Half-moved weights are no state: end the worker, so that the next call starts clean.
            self._remember(exc)
            if self._doing is not None:
                code = exc.code if isinstance(exc, OcrError) else WorkerCrashed.code
                self.observer.move_failed(self.engine.name, self._doing, code)
            await self._end_worker()
            raise
        finally:
            self._doing = None
            self._idle.notify()

    async def _spawned(self) -> _Child:
        """A fresh worker, with nothing loaded. Caller holds the lock."""
        env = {"OCR_THREADS": str(self._settings.ocr_threads)}
        return _Child(await self._spawn(self.engine, env), CPU, None)

    async def _start_worker(self, card: str | None, weights: str | None) -> None:
        environment = {"OCR_MODEL_PATH": weights} if weights else {}
        if card is not None:
            # By UUID: CUDA counts fastest first, NVML by PCI bus, and neither obeys the other's order.
            environment |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": card}
        if self._child is None:
            self._child = await self._spawned()
        child = self._child
        child.device, child.card = ("cuda", card) if card else (CPU, None)
        child.free_before_mb = await self._free_mb(child)
        if child.card is not None and child.free_before_mb is not None:
            self._settle(child.card, child.free_before_mb)
        facts = await self._call(
            "load", {"device": child.device, "environment": environment}, self._settings.ocr_load_timeout
        )
        self._model = str(facts.get("model", ""))
        for note in facts.get("notes", ()):
            log.warning(note, extra=fields(engine=self.engine.name))

    async def _prewarm(self) -> None:
        """What `OCR_PREWARM` asks for, once the server is idle; a failure is told by the first call."""
        async with self._lock:
            self._prewarm_due = False
            if self._child is not None or self._idle.leases:
                return  # a request loads it anyway
            target, self._prewarm_to = self._prewarm_to, State.UNLOADED
            try:
                self._child = await self._spawned()
                await self._call("prewarm", {}, self._settings.ocr_load_timeout)
                if target is not State.UNLOADED:
                    await self._move_to(State.GPU)
                if target is State.HOST:
                    await self._move_to(State.HOST)
            except (OcrError, WorkerDied, OSError) as exc:
                self._remember(exc)
                await self._end_worker()
            self._idle.begin()

    async def _choose_card(self, current: str | None) -> str | None:
        """UUID of the card to use; None on a CPU.

        Raises:
            GpuBusy: no allowed card has room.
            EngineUnavailable: there is no card.
        """
        if not self._uses_card:
            return None
        cards = await anyio.to_thread.run_sync(self.probe.cards)
        card = choose_gpu(
            cards,
            need_mb=self.engine.gpu_mb,
            reserve_mb=self._settings.ocr_gpu_reserve_mb,
            wanted=self._settings.ocr_gpu,
            visible=visible_devices(os.environ),
            current=current,
            note=self.probe.note,
            setting="OCR_GPUS" if self._settings.ocr_gpus else "OCR_GPU",
        )
        return card.uuid

    async def _end_worker(self) -> None:
        """Stop the worker, if there is one; returns when it is dead and its card has its memory back."""
        child = self._child
        if child is None:
            if self._state is not State.CLOSED:
                self._state = State.UNLOADED
            return
        with anyio.CancelScope(shield=True):
            child.condemned = True  # its end is no crash
            await child.worker.stop()
            await self._bury(child, None)

    async def _see_freed(self, child: _Child) -> None:
        """Wait, within a bound, until the card of a dead worker has its memory back.

        Otherwise the next choice of a card would rank memory that is about to come free as taken.
        """
        if child.card is None or child.free_before_mb is None:
            return
        free_now = await anyio.to_thread.run_sync(self.probe.free_mb, child.card)
        if free_now is not None and free_now < child.free_before_mb:
            held = child.free_before_mb - free_now
            freed = await wait_freed(self.probe, child.card, free_before_mb=free_now, expect_mb=held)
            if freed < held * ENOUGH_FREED:
                self._owed = _Owed(child.card, child.free_before_mb, held - freed)
                self.observer.memory_missing(self.engine.name, child.card, held - freed)

    def _settle(self, card: str, free_mb: int) -> None:
        """A card on which nothing of ours sits has this much free: what came back late is not missing any more."""
        owed = self._owed
        if owed is not None and owed.card == card:
            owed.missing_mb = min(owed.missing_mb, owed.free_before_mb - free_mb)
            if owed.missing_mb <= 0:
                self._owed = None

    def unreturned_mb(self, cards: Sequence[Gpu]) -> int | None:
        """MiB that an ended worker held and that its card still lacks; None: nothing.

        While a worker sits on that card this is what was known before it came.
        """
        if self.device == "none":
            for card in cards:
                self._settle(card.uuid, card.memory_free_mb)
        return None if self._owed is None else self._owed.missing_mb

    async def offload(self) -> Transition:
        """Weights off the GPU, kept in host memory.

        Raises:
            Busy: pages were being read during all of `OCR_BUSY_WAIT`.
        """
        if not self._parks:
            return self._unmoved(f"{self.engine.name} runs on the CPU: nothing of it is on a GPU.")
        async with self._turn("gpu_offload"):
            await self._notice_death()
            if self._state is not State.GPU:
                return self._unmoved(f"Nothing was on the GPU: the model is {self._state.value}.")
            return await self._timed(State.HOST, "The weights left the GPU and wait in host memory.")

    async def release(self, force: bool = False) -> Transition:
        """End the worker and give everything back.

        Args:
            force: stop what is being read instead of waiting for it; its caller gets `Cancelled`.

        Raises:
            Busy: pages were being read during all of `OCR_BUSY_WAIT`.
        """
        child = self._child
        if force and child is not None and self._lock.locked():
            began, before, free = anyio.current_time(), self._state, await self._free_mb(child)
            child.condemned = True
            await child.worker.kill()
            with anyio.move_on_after(FORCE_TIMEOUT_S):
                await child.gone.wait()
            seconds, waiting = anyio.current_time() - began, self._idle.leases
            self.observer.moved(self.engine.name, "releasing", seconds, self.device)
            return Transition(
                from_state=before,
                to_state=self._state,
                seconds=seconds,
                freed_mb=_difference(free, await self._free_mb(child)),
                message="What was being read was stopped and the worker process ended; its memory is free."
                + (f" {waiting} requests stand in line and will load the model again." if waiting else ""),
            )
        async with self._turn("gpu_release"):
            self._prewarm_due = False  # who asks for the memory wants all of it
            await self._notice_death()
            if self._child is None:
                return self._unmoved("Nothing was loaded: no worker process runs.")
            held = _resident_mb(self._child.worker.pid)
            message = "The worker process ended" + (f" and returned {held} MiB of host memory." if held else ".")
            return await self._timed(State.UNLOADED, message)

    async def _timed(self, target: State, message: str) -> Transition:
        """Move, measured. Caller holds the lock."""
        child = self._child
        before, free = self._state, await self._free_mb(child)
        began = anyio.current_time()
        with anyio.CancelScope(shield=True):  # half a move is no state; each step has its own bound
            await self._move_to(target)
        seconds = anyio.current_time() - began
        return Transition(
            from_state=before,
            to_state=target,
            seconds=seconds,
            freed_mb=_difference(free, await self._free_mb(child)),
            message=message,
        )

    def _unmoved(self, message: str) -> Transition:
        state = self.state
        return Transition(from_state=state, to_state=state, seconds=0.0, freed_mb=None, message=message)

    async def _free_mb(self, child: _Child | None) -> int | None:
        if child is None or child.card is None:
            return None
        return await anyio.to_thread.run_sync(self.probe.free_mb, child.card)

    @asynccontextmanager
    async def _turn(self, tool: str) -> AsyncIterator[None]:
        """The lock, or `Busy` after a bounded wait."""
        self._refuse_when_closed()
        acquired = False
        with anyio.move_on_after(self._settings.ocr_busy_wait):
            await self._lock.acquire()
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
            self._lock.release()

    # -- idle policy

    async def _watch_idle(self) -> None:
        """Sleep until the policy is due or something happens: an idle server wakes for nothing else."""
        while True:
            self._idle.forget_news()
            if self._prewarm_due and self._idle.seconds is not None:
                await self._prewarm()
            elif self._idle.next_step(self.state) is not None:
                await self._step_down()
            else:
                await self._idle.news(within=self._idle.wake_after(self.state))

    async def _step_down(self) -> None:
        async with self._lock:
            step = self._idle.next_step(self.state)  # decide again: a request may have come meanwhile
            if step is None:
                return
            # A failure is in `last_error`, the worker is gone, and nobody waits for an answer.
            with contextlib.suppress(OcrError, WorkerDied):
                await self._move_to(State.HOST if step is Step.OFFLOAD else State.UNLOADED)
                if step is Step.RELEASE:
                    self._prewarm_due = self._parks and self._settings.ocr_prewarm != "off"

    # -- status

    def status(self) -> ModelStatus:
        """What is true now. Waits for nothing."""
        state = self.state
        child = self._child
        pid = child.worker.pid if child is not None and child.worker.alive else None

        return ModelStatus(
            state=self._doing or state,
            model=self._model,
            device=self.device,
            worker_pid=pid,
            prewarmed=pid is not None and state is State.UNLOADED and self._doing is None,
            download_percent=self._weights.percent,
            worker_host_mb=None if pid is None else _resident_mb(pid),
            idle_s=self._idle.seconds,
            offload_in_s=self._idle.seconds_until(Step.OFFLOAD, state),
            release_in_s=self._idle.seconds_until(Step.RELEASE, state),
            queue=self._idle.leases,
            served=self._served,
            worker_restarts=self._restarts,
            last_error=self._last_error,
        )

    def _refuse_when_closed(self) -> None:
        if self._state is State.CLOSED:
            raise closing()


def _crashed(died: WorkerDied) -> WorkerCrashed:
    said = f" Its last words: {died.last_words}" if died.last_words else ""
    killed = died.returncode == -9
    return WorkerCrashed(
        f"The worker process ended with {describe_exit(died.returncode)}.{said}",
        remedy="SIGKILL mostly means that the machine ran out of memory: free some, or send smaller pages."
        if killed
        else "Send the page again; if it happens again, the page or the engine is at fault.",
    )


def _how(cause: BaseException | None) -> str:
    """What a worker died of, for the log: never what it wrote."""
    match cause:
        case None:
            return "it ended while nobody called it"
        case WorkerDied():
            return describe_exit(cause.returncode)
        case OcrError():
            return cause.code
        case _:
            return "it did not heed a cancellation"


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(0, after - before)


def _resident_mb(pid: int) -> int | None:
    """MiB of host memory that a process holds; None where /proc does not tell."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // 1024
    except OSError:
        pass
    return None

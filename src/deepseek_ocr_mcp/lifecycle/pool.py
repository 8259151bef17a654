"""Reads with several workers at once: a `ModelManager` for each card, one line in front of all.

- All pages stand in one line, as with one card: clients take turns over all cards, and a batch goes to a card that can
  begin it at once. If all of them read, the next pages join those of a card that has room for them. `choice.py` decides
  when another card is woken.
- A card without room is passed over. If no card has room, the error names each of them.
- A card fails if two of its workers die over the same pages, if it is lost, or if a load fails. It is then left out,
  and another card reads its pages. It is tried again after ten seconds, then twenty, up to ten minutes, when there is
  work for it. While no other card can read, it is tried at once.
- If two sound cards fail over the same pages, the pages are at fault: their caller gets the error, and both cards serve
  on.
- Each card has its own lock and idle policy. A card is not idle until the requests that it read for have ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from typing import Final, Self

import anyio
import anyio.abc
import anyio.to_thread

from ..config import Settings
from ..engines import EngineSpec
from ..engines.base import CPU, PageImage, ReadOptions
from ..errors import Cancelled, EngineUnavailable, GpuBusy, GpuLost, NotReady, OcrError, Timeout, WorkerCrashed, closing
from ..gpu.probe import GpuProbe
from ..logs import serving
from ..models import Doing, Gpu, State, Transition, WorkerStatus
from ..observer import Observer
from ..worker.client import OnProgress
from .base import ModelStatus, PagesRead
from .choice import Standing, WaitingPages, is_hopeless, next_to_read, next_to_wake, share
from .line import RequestPart, WaitingLine
from .manager import ModelManager, Spawn, Worker, spawn_engine
from .weights import Weights

__all__ = ["Pool"]


CARDS_FOR_A_PAGE: Final = 2  # so many cards that had not failed before, failing over the same pages, clear the cards
RETRY_FIRST_S: Final = 10.0  # seconds from a failure to the next attempt with the card; doubled by each further failure
RETRY_MOST_S: Final = 600.0
NO_ROOM_RETRY_S: Final = 5.0  # until a card that had no room is asked again; asking takes the driver a millisecond
HANGS: Final = 2  # pages in a row that take too long, after which the card counts as failed and not the pages


@dataclass(eq=False, slots=True)
class _Request:
    """A request that holds a lease, with the cards that have read for it."""

    cards: set[_CardWorker] = field(default_factory=set)


_request: ContextVar[_Request | None] = ContextVar("request", default=None)


@dataclass(eq=False, slots=True)
class _PoolPart(RequestPart):
    """Some pages of one request, which wait for a card."""

    since: int = 0
    asked_by: _Request | None = None
    shunned: set[_CardWorker] = field(default_factory=set)
    """The cards that failed over these pages."""
    suspects: set[_CardWorker] = field(default_factory=set)
    """The cards among them that had not failed before."""
    blamed: OcrError | None = None
    """The error of the last of these cards."""
    reading: PagesRead | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    load_s: float = 0.0
    queued_s: float = 0.0

    async def pass_on(self, done: float, message: str) -> None:
        """Pass the progress of the card's manager on. It never waits."""
        self.tell(done, message)


@dataclass(eq=False, slots=True)
class _CardWorker:
    """A card, or a share of the processor, with its manager."""

    number: int
    name: str
    manager: ModelManager
    parts: list[_PoolPart] = field(default_factory=list)
    """The parts that it was given and has not read yet."""
    starting: int = 0
    """The parts among them that have not come to its manager yet."""
    waking: bool = False
    woken: tuple[float, float] = (0.0, 0.0)
    """The times at which its last load began and ended."""
    last_read: float = -inf
    strikes: int = 0
    hangs: int = 0
    out_until: float = -inf
    refused_at: int = -1
    refusal: OcrError | None = None

    @property
    def pages(self) -> int:
        return sum(len(part.pages) for part in self.parts)

    def may_read(self, part: RequestPart) -> bool:
        return self not in _shunned(part)

    def may_join(self, part: RequestPart) -> bool:
        """Whether the part can begin at once beside those that the card reads."""
        is_sound = self.may_read(part) and not part.crashes
        return is_sound and not self.starting and self.manager.batches.may_join(part)

    def standing(self, free_mb: Mapping[str, int]) -> Standing:
        return Standing(
            ready=self.manager.can_read,
            pages=self.pages,
            waking=self.waking,
            near=self.manager.state is State.HOST,
            free_mb=free_mb.get(self.name),
            last_read=self.last_read,
            strikes=self.strikes,
            out_until=self.out_until,
            refused_at=self.refused_at,
        )


class Pool:
    """One engine with a worker for each of several cards. Use it inside `async with pool.running():`."""

    def __init__(
        self,
        engine: EngineSpec,
        settings: Settings,
        cards: Sequence[str],
        *,
        probe: GpuProbe | None = None,
        spawn: Spawn = spawn_engine,
    ) -> None:
        """
        Args:
            engine: the engine.
            settings: the settings of the operator.
            cards: the value of `OCR_GPU` for each card; several times `cpu` for workers that share the processor.
            probe: the cards of this machine.
            spawn: starts a worker.
        """
        self.engine = engine
        self.probe = probe or GpuProbe()
        self._observer = Observer()
        weights = Weights(engine, settings)
        sharing = sum(name == CPU for name in cards)
        self._cards = [
            _CardWorker(
                number,
                name,
                ModelManager(
                    engine,
                    settings.model_copy(update={"ocr_gpu": name}),
                    probe=self.probe,
                    spawn=_sharing_cores(spawn, sharing) if name == CPU else spawn,
                    weights=weights,
                ),
            )
            for number, name in enumerate(cards)
        ]
        for card in self._cards:
            card.manager.batches.on_room = self._on_room
        self._line = WaitingLine()
        self._ticks = count()
        self._leases = 0
        self._closed = False
        self._tasks: anyio.abc.TaskGroup | None = None
        self._something_happened = anyio.Event()

    def __repr__(self) -> str:
        return f"<Pool {self.state.name} of {len(self._cards)}, {len(self._line)} in line>"

    @property
    def observer(self) -> Observer:
        """The observer, which gets the events of all cards."""
        return self._observer

    @observer.setter
    def observer(self, observer: Observer) -> None:
        self._observer = observer
        for card in self._cards:
            card.manager.observer = observer

    @property
    def lanes(self) -> int:
        """The number of batches of one document that it pays to read at once: those of each card that serves."""
        now = anyio.current_time()
        return max(1, sum(card.manager.lanes for card in self._cards if card.out_until <= now))

    @property
    def state(self) -> State:
        """The state of the card that is nearest to reading."""
        if self._closed:
            return State.CLOSED
        states = {card.manager.state for card in self._cards}
        return next(state for state in (State.GPU, State.HOST, State.UNLOADED, State.CLOSED) if state in states)

    @property
    def ready_state(self) -> State:
        """The state in which this engine can read."""
        return self._cards[0].manager.ready_state

    @property
    def device(self) -> str:
        """The cards that have a worker, with commas between; `cpu`, or `none` if no card has one."""
        devices = dict.fromkeys(card.manager.device for card in self._cards)
        return ", ".join(device for device in devices if device != "none") or "none"

    @property
    def loading_s(self) -> float | None:
        """The seconds that the longest load has taken; None while no load runs, or while a card can read."""
        if any(card.manager.can_read for card in self._cards):
            return None
        return max((s for card in self._cards if (s := card.manager.loading_s) is not None), default=None)

    # -- life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The lifespan: waiting pages are given to cards. At the end all workers are ended, side by side."""
        over = anyio.Event()
        async with anyio.create_task_group() as lives:
            for card in self._cards:
                await lives.start(_live, card.manager, over)
            try:
                async with anyio.create_task_group() as tasks:
                    self._tasks = tasks
                    tasks.start_soon(self._watch)
                    try:
                        yield self
                    finally:
                        self._closed = True
                        for part in self._line.take_all():
                            part.fail(closing())
                        tasks.cancel_scope.cancel()
            finally:
                over.set()

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[None]:
        """A lease, which a request holds from beginning to end. Cards that read for it are not idle until then."""
        outer, request = _request.get(), _Request()
        _request.set(request)
        self._leases += 1
        try:
            yield
        finally:
            self._leases -= 1
            _request.set(outer)
            for card in request.cards:
                card.manager.let_go()

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
        """Read some pages, on the card that is free first. The caller holds a lease; see `base.Lifecycle.read`.

        Raises:
            GpuBusy: no card has room.
            WorkerCrashed, GpuLost: two cards failed over these pages, or the only card did.
            OcrError: see `ModelManager.read`.
        """
        part = _PoolPart(pages, options, client, background, since=next(self._ticks), asked_by=_request.get())
        while part.reading is None:
            if self._closed:
                raise closing()
            assert self._tasks is not None, "use the pool inside `async with pool.running():`"
            self._line.join(part)
            self._give_out()
            self._notify()
            try:
                await part.follow(on_progress)
            except BaseException:
                if not self._line.leave(part):
                    part.scope.cancel()
                raise
            if part.error is not None:
                raise part.error
        reading = part.reading
        return replace(reading, queued_s=part.queued_s + reading.queued_s, load_s=part.load_s + reading.load_s)

    def _give_out(self) -> None:
        """Give waiting pages to the cards that can begin them now: first to those that read nothing, then to those
        with room beside the pages that they read."""
        while self._line and not self._closed:
            readers = next_to_read(self._standings())
            waiting = sum(len(part.pages) for part in self._line)
            most = share(waiting, len(readers), self.engine.shared_pages)
            for card in (self._cards[number] for number in readers):
                batch = self._line.next_batch(most, card.may_read)
                for part in batch:
                    self._give(card, part)
                if batch:
                    break
            else:
                if not self._give_to_join():
                    return

    def _give_to_join(self) -> bool:
        """Give the next part in line to a card that reads, the one with the fewest pages first, if it may join there.

        Returns whether it may.
        """
        for card in sorted(self._cards, key=lambda card: card.pages):
            if (part := self._line.next_part(card.may_join)) is not None:
                self._give(card, part)
                return True
        return False

    def _on_room(self) -> None:
        self._give_out()
        self._notify()

    def _give(self, card: _CardWorker, part: RequestPart) -> None:
        assert isinstance(part, _PoolPart)
        assert self._tasks is not None
        now = anyio.current_time()
        waited = now - part.joined
        loading = max(0.0, min(now, card.woken[1]) - max(part.joined, card.woken[0]))
        part.load_s += loading
        part.queued_s += waited - loading
        part.scope = anyio.CancelScope()
        card.parts.append(part)
        card.starting += 1
        card.manager.hold()
        if part.asked_by is not None and card not in part.asked_by.cards:
            part.asked_by.cards.add(card)
            card.manager.hold()
        self._tasks.start_soon(self._read_on, card, part)

    async def _read_on(self, card: _CardWorker, part: _PoolPart) -> None:
        """Let a card read a part. Afterwards the part is finished, or its caller joins the line again."""
        error: OcrError | None = closing()  # it stays so only if another card is to read the part
        card.starting -= 1
        self._notify()
        try:
            with part.scope, serving(part.request):
                part.reading = await card.manager.read(
                    part.pages, part.options, client=part.client, background=part.background, on_progress=part.pass_on
                )
                card.strikes, card.hangs, card.out_until, card.refusal = 0, 0, -inf, None
                error = None
        except OcrError as exc:
            error = self._could_not_read(card, part, exc)
        finally:
            card.parts.remove(part)
            card.last_read = anyio.current_time()
            if error is not None:
                part.fail(error)
            else:  # its caller takes the reading, or joins the line again if there is none
                part.send_back()
            self._give_out()  # before the lease ends, so that a card with more to read is not idle in between
            self._notify()
            card.manager.let_go()

    def _could_not_read(self, card: _CardWorker, part: _PoolPart, exc: OcrError) -> OcrError | None:
        """The error for the caller; None if another card is to read these pages."""
        match exc:
            case GpuBusy():  # the error of a load that the reading caused
                self._has_no_room(card, exc)
                return None
            case EngineUnavailable():
                self._has_failed(card, exc)
                return None
            case WorkerCrashed() | GpuLost():
                part.crashes += 1
                part.shunned.add(card)
                part.blamed = exc
                if not card.strikes:
                    part.suspects.add(card)
                self._has_failed(card, exc)
                if len(part.suspects) < CARDS_FOR_A_PAGE:
                    return None
                for suspect in part.suspects:
                    suspect.strikes, suspect.out_until, suspect.refusal = 0, -inf, None
            case Timeout():
                card.hangs += 1
                if card.hangs >= HANGS:
                    self._has_failed(card, exc)
        return exc

    def _has_no_room(self, card: _CardWorker, exc: OcrError) -> None:
        card.refused_at, card.refusal = next(self._ticks), exc
        card.out_until = anyio.current_time() + NO_ROOM_RETRY_S

    def _has_failed(self, card: _CardWorker, exc: OcrError) -> None:
        card.strikes += 1
        card.refused_at, card.refusal = next(self._ticks), exc
        seconds = min(RETRY_MOST_S, RETRY_FIRST_S * 2 ** min(card.strikes - 1, 16))
        card.out_until = anyio.current_time() + seconds
        self._observer.card_failed(self.engine.name, card.name, exc.code, seconds)

    # -- waking

    def _notify(self) -> None:
        self._something_happened.set()

    async def _watch(self) -> None:
        """Wake cards for waiting pages, and fail pages that no card can read. It sleeps while no page waits."""
        while True:
            self._something_happened = anyio.Event()
            self._give_out()
            deadline = inf
            if self._line:
                free_mb = await self._free_mb()
                if (number := self._next_to_wake(free_mb)) is not None:
                    self._begin_to_wake(self._cards[number])
                    continue
                self._end_the_hopeless()
                now = anyio.current_time()
                deadline = min((card.out_until for card in self._cards if card.out_until > now), default=inf)
            with anyio.CancelScope(deadline=deadline):
                await self._something_happened.wait()

    async def _free_mb(self) -> dict[str, int]:
        """The free MiB of each card by its name; empty if there is no choice between cards."""
        asleep = [card for card in self._cards if card.name != CPU and not card.standing({}).up]
        if len(asleep) < 2 or not self.engine.gpu_mb:
            return {}
        cards = await anyio.to_thread.run_sync(self.probe.cards)
        return {card.uuid: card.memory_free_mb for card in cards}

    def _standings(self, free_mb: Mapping[str, int] | None = None) -> list[Standing]:
        return [card.standing(free_mb or {}) for card in self._cards]

    def _waiting(self) -> list[WaitingPages]:
        return [_waiting_pages(part) for part in self._line]

    def _next_to_wake(self, free_mb: Mapping[str, int]) -> int | None:
        if any(card.starting or card.manager.batches.is_joined for card in self._cards):
            return None  # these have been given pages, and may take those that wait, too: they tell in a moment
        return next_to_wake(
            self._standings(free_mb),
            self._waiting(),
            batch_pages=self.engine.batch_pages,
            now=anyio.current_time(),
        )

    def _begin_to_wake(self, card: _CardWorker) -> None:
        assert self._tasks is not None
        card.waking = True
        card.manager.hold()  # until a page waits
        self._tasks.start_soon(self._wake, card)

    async def _wake(self, card: _CardWorker) -> None:
        """Bring a card's model to the state in which it reads. The card then reads for the next request in line."""
        began = anyio.current_time()
        try:
            with serving(*(part.request for part in self._line)):
                await card.manager.load()
            card.woken = began, anyio.current_time()
        except (NotReady, Cancelled) as exc:
            # True of all cards: the weights are being fetched, or the memory was taken back by force.
            card.waking = False
            self._has_no_room(card, exc)
            standings = self._standings()
            for part in list(self._line):
                allowed = (standings[other.number] for other in self._cards if other.may_read(part))
                if not any(standing.up for standing in allowed):
                    self._line.leave(part)
                    part.fail(exc)
        except GpuBusy as exc:
            self._has_no_room(card, exc)
        except OcrError as exc:
            self._has_failed(card, exc)
        finally:
            card.waking = False
            self._give_out()
            self._notify()
            card.manager.let_go()

    def _end_the_hopeless(self) -> None:
        standings, now = self._standings(), anyio.current_time()
        for part in list(self._line):
            if is_hopeless(_waiting_pages(part), standings, now):
                self._line.leave(part)
                assert isinstance(part, _PoolPart)
                part.fail(part.blamed or self._refusal())

    def _refusal(self) -> OcrError:
        """The refusals of all cards as one error. A sentence that several of them share stands in it once."""
        refusals = {card.refusal.message: card.refusal for card in self._cards if card.refusal is not None}
        message = " ".join(refusals)
        if any(isinstance(refusal, GpuBusy) for refusal in refusals.values()):
            return GpuBusy(
                message,
                remedy="Call gpu_release on other OCR servers, or end a program that nvidia-smi lists. Or name other "
                "cards in OCR_GPUS, or lower OCR_GPU_RESERVE_MB. Set OCR_ENGINE=rapidocr to read on the CPU.",
            )
        first = next(iter(refusals.values()), closing())
        return type(first)(message or first.message, remedy=first.remedy)

    # -- memory

    async def offload(self) -> Transition:
        """Move the weights off all cards and keep them in host memory.

        Raises:
            Busy: a card was reading during all of `OCR_BUSY_WAIT`. The other cards have moved.
        """
        return await self._move_all(lambda manager: manager.offload())

    async def release(self, force: bool = False) -> Transition:
        """End all workers, which gives all memory back.

        Args:
            force: whether pages that are being read are given up, instead of waited for. Their callers get `Cancelled`.

        Raises:
            Busy: a card was reading during all of `OCR_BUSY_WAIT`. The other cards have moved.
        """
        return await self._move_all(lambda manager: manager.release(force))

    async def _move_all(self, move: Callable[[ModelManager], Awaitable[Transition]]) -> Transition:
        before, began = self.state, anyio.current_time()
        moved: dict[int, Transition] = {}
        refused: dict[int, OcrError] = {}

        async def one(card: _CardWorker) -> None:
            try:
                moved[card.number] = await move(card.manager)
            except OcrError as exc:
                refused[card.number] = exc

        async with anyio.create_task_group() as tasks:
            for card in self._cards:
                tasks.start_soon(one, card)
        if refused:
            raise self._unmoved([self._cards[number] for number in sorted(refused)], refused, moved)
        done = {number: step for number, step in moved.items() if step.from_state is not step.to_state}
        freed = [step.freed_mb for step in moved.values() if step.freed_mb is not None]
        return Transition(
            from_state=before,
            to_state=self.state,
            seconds=anyio.current_time() - began,
            freed_mb=sum(freed) if freed else None,
            message=self._summary(done or moved),
        )

    def _summary(self, moved: Mapping[int, Transition]) -> str:
        """The sentences about a move, each once, with the number of workers for which it is true."""
        messages: dict[str, int] = {}
        for step in moved.values():
            messages[step.message] = messages.get(step.message, 0) + 1
        return " ".join(f"{times} of {len(self._cards)} workers: {message}" for message, times in messages.items())

    def _unmoved(
        self, cards: Sequence[_CardWorker], refused: Mapping[int, OcrError], moved: Mapping[int, Transition]
    ) -> OcrError:
        first = refused[cards[0].number]
        names = ", ".join(card.name for card in cards)
        others = " The others have done it." if moved else ""
        return type(first)(f"{first.message} That is {names}.{others}", remedy=first.remedy)

    def unreturned_mb(self, cards: Sequence[Gpu]) -> int | None:
        """MiB that ended workers held and that their cards have not got back; None if nothing is missing."""
        missing = [card.manager.unreturned_mb(cards) for card in self._cards]
        return sum(mb or 0 for mb in missing) or None

    # -- status

    def status(self) -> ModelStatus:
        """The status of the pool and of each worker. It waits for nothing."""
        now = anyio.current_time()
        facts = [card.manager.status() for card in self._cards]
        latest = max(self._cards, key=lambda card: card.manager.failed_at)
        reading = any(fact.idle_s is None for fact in facts)
        return ModelStatus(
            state=_furthest([fact.state for fact in facts], self.ready_state),
            model=next((fact.model for fact in facts if fact.model), ""),
            device=self.device,
            worker_pid=next((fact.worker_pid for fact in facts if fact.worker_pid is not None), None),
            prewarmed=any(fact.prewarmed for fact in facts),
            download_percent=facts[0].download_percent,
            worker_host_mb=_sum(fact.worker_host_mb for fact in facts),
            idle_s=None if reading else min(fact.idle_s or 0.0 for fact in facts),
            offload_in_s=None if reading else _last(fact.offload_in_s for fact in facts),
            release_in_s=None if reading else _last(fact.release_in_s for fact in facts),
            queue=self._leases,
            served=sum(fact.served for fact in facts),
            worker_restarts=sum(fact.worker_restarts for fact in facts),
            last_error=facts[latest.number].last_error,
            workers=[
                WorkerStatus(
                    card=card.name,
                    state=fact.state,
                    retry_in_s=_rounded(max(0.0, card.out_until - now)) if card.strikes else None,
                    pid=fact.worker_pid,
                    host_mb=fact.worker_host_mb,
                    idle_s=_rounded(fact.idle_s),
                    offload_in_s=_rounded(fact.offload_in_s),
                    release_in_s=_rounded(fact.release_in_s),
                    queue=card.pages,
                    served=fact.served,
                    restarts=fact.worker_restarts,
                    last_error=fact.last_error,
                )
                for card, fact in zip(self._cards, facts, strict=True)
            ],
        )


async def _live(manager: ModelManager, over: anyio.Event, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    async with manager.running():
        task_status.started()
        await over.wait()


def _sharing_cores(spawn: Spawn, workers: int) -> Spawn:
    """Starts workers that divide the cores among them, unless `OCR_THREADS` sets their threads."""

    async def spawned(engine: EngineSpec, env: Mapping[str, str]) -> Worker:
        return await spawn(engine, {**env, "OCR_CORES_SHARED_BY": str(workers)})

    return spawned


def _shunned(part: RequestPart) -> set[_CardWorker]:
    assert isinstance(part, _PoolPart)
    return part.shunned


def _waiting_pages(part: RequestPart) -> WaitingPages:
    assert isinstance(part, _PoolPart)
    numbers = frozenset(card.number for card in part.shunned)
    return WaitingPages(len(part.pages), part.since, part.background(), numbers)


def _furthest(states: Sequence[State | Doing], ready: State) -> State | Doing:
    order: tuple[State | Doing, ...] = (
        ready,
        "restoring",
        "loading",
        "offloading",
        State.HOST,
        "releasing",
        State.UNLOADED,
        State.CLOSED,
    )
    return next(state for state in order if state in states)


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _last(seconds: Iterable[float | None]) -> float | None:
    return max((s for s in seconds if s is not None), default=None)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)

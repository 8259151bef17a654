"""Reads with endpoints that hold the model: each page is sent to one of them, and to another if that fails.

No page is lost, and of no page two answers are taken.

- There is no lock. Each endpoint gets as many pages at once as it has shown that it takes (`concurrency.py`), and
  `OCR_REMOTE_CONCURRENCY` at most. Pages stand in one line (`line.WaitingLine`: clients take turns) and go to the
  endpoint with the largest free part. An endpoint that sleeps is woken only when those that are awake are full.
- An endpoint that answers "not now" (429, 503) gets no pages for the time that it names, or for a time that grows with
  each refusal; a little chance is added. Its pages go to other endpoints. An endpoint that cannot be reached, that lost
  the connection or that cannot read pages is taken out. It is asked ever more seldom, and is used again when it
  answers.
- A page is given up in four cases (`clock.py`): its first byte did not come within `OCR_REMOTE_QUEUE_TIMEOUT`, its
  answer takes longer than `OCR_PAGE_TIMEOUT` from that byte on, several answers about it broke off, or no endpoint is
  left and none comes back within `PATIENCE_S`.
- `gpu_offload`, `gpu_release` and the idle policy use vLLM's sleep mode: level 1 is `host`, level 2 is `unloaded`. An
  endpoint is put to sleep only when it has no page of ours and no work of others; it is woken before its next page. An
  endpoint without sleep mode is left as it is.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Final, Literal, Self

import anyio
import anyio.abc
import anyio.lowlevel

from ...config import Settings
from ...engines import EngineSpec
from ...engines.base import PageImage, ReadOptions
from ...errors import Busy, Cancelled, EngineUnavailable, OcrError, Timeout, cause_of, closing, unforeseen
from ...gpu.probe import GpuProbe
from ...logs import serving
from ...models import Doing, Gpu, State, Transition
from ...models import Endpoint as EndpointStatus
from ...observer import Observer
from ...worker.client import OnProgress
from ..base import ModelStatus, PagesRead
from ..idle import Idleness, IdlePolicy, Step
from ..line import WaitingLine
from .client import side_for
from .clock import PageClock
from .concurrency import LearnedConcurrency
from .endpoint import RemoteEndpoint, RemotePage, clients
from .trouble import Down, EncodedPage, EndpointClient, Overloaded, Trouble

__all__ = ["Encode", "RemoteManager", "SleepOutcome"]


log = logging.getLogger(__name__)

Encode = Callable[[PageImage, int], Awaitable[tuple[str, str]]]
"""Encodes a page as a file that can be sent, with so many pixels on its longer side at most. Returns the path and the
media type."""

MAX_LOST: Final = 3  # answers about one page that may break off before the page is given up
PATIENCE_S: Final = 30.0  # seconds that pages wait when no endpoint is left: enough to restart a proxy, not a model
STALE_S: Final = 10.0  # seconds of silence after which an endpoint is looked at before it gets a page
CHECK_EVERY_S: Final = 60.0  # seconds between two looks at an endpoint that does nothing
FIRST_CHECK_S: Final = 1.0  # seconds until an endpoint that was taken out is asked; doubled each time
LONGEST_CHECK_S: Final = 30.0
FIRST_REST_S: Final = 0.5  # seconds for an endpoint that answered "not now" without a time; doubled each time
LONGEST_REST_S: Final = 30.0
FORCE_TIMEOUT_S: Final = 10.0  # seconds for readings to stop
OTHERS_PAUSE_S: Final = 30.0  # seconds until the idle policy asks again whether others have work there


@dataclass(frozen=True, slots=True)
class SleepOutcome:
    """The outcome of an attempt to put an endpoint to sleep."""

    result: Literal["asleep", "left", "busy"]
    """`asleep`: it sleeps now. `left`: it stays as it is, and waiting does not change that. `busy`: it has work, and
    can be asked again later."""
    sentence: str


class RemoteManager:
    """A `base.Lifecycle`. Use it inside `async with manager.running():`.

    Args:
        encode: encodes a page as a file to send. The page's own file is then deleted.
        endpoints: the endpoints; default: those of the settings.
        chance: gives random numbers from 0 to 1.
    """

    ready_state = State.GPU

    def __init__(
        self,
        engine: EngineSpec,
        settings: Settings,
        *,
        encode: Encode,
        probe: GpuProbe | None = None,
        endpoints: Sequence[EndpointClient] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        asks = (settings.ocr_remote_prompts, settings.ocr_remote_server, settings.ocr_remote_fields)
        self.engine = replace(engine, asks=" ".join(filter(None, asks)))
        self.probe = probe or GpuProbe()
        self.observer = Observer()
        self._settings = settings
        self._encode = encode
        self._chance = chance
        most = settings.ocr_remote_concurrency
        found = clients(settings) if endpoints is None else endpoints
        self._endpoints = [RemoteEndpoint(client, LearnedConcurrency(most)) for client in found]
        self.lanes = most * len(self._endpoints)
        self._idle = Idleness(IdlePolicy(settings.gpu_offload_after, settings.gpu_idle_timeout))
        self._line = WaitingLine()
        self._sleep_not_before = -inf
        self._line_changed = anyio.Event()
        self._shields: set[anyio.CancelScope] = set()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._closed = False
        self._last_error = ""

    def __repr__(self) -> str:
        return f"<RemoteManager {self.state.name} {' '.join(map(repr, self._endpoints))}>"

    @property
    def state(self) -> State:
        """The place of the weights of the endpoint that is nearest to reading."""
        if self._closed:
            return State.CLOSED
        held = {endpoint.weights for endpoint in self._endpoints}
        return next(state for state in (State.GPU, State.HOST, State.UNLOADED) if state in held)

    @property
    def device(self) -> str:
        """The address of the endpoint if there is one only, else `remote`."""
        return self._endpoints[0].url if len(self._endpoints) == 1 else "remote"

    @property
    def loading_s(self) -> float | None:
        """The seconds for which an endpoint has been waking up, while no endpoint is awake; else None."""
        since = [one.doing_since for one in self._endpoints if one.doing in ("loading", "restoring")]
        return anyio.current_time() - min(since) if since and self.state is not State.GPU else None

    # -- life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The lifespan: pages are sent, endpoints are looked at, the idle policy is watched. Endpoints run on at the
        end."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self._idle.begin()
                tasks.start_soon(self._send_pages)
                tasks.start_soon(self._watch_idle)
                for endpoint in self._endpoints:
                    tasks.start_soon(self._look_after, endpoint)
                try:
                    yield self
                finally:
                    self._closed = True
                    for shield in self._shields:
                        shield.cancel()
                    tasks.cancel_scope.cancel()
        finally:
            for part in self._line.take_all():
                part.fail(closing())
            with anyio.CancelScope(shield=True):
                for endpoint in self._endpoints:
                    await endpoint.client.close()

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[None]:
        """A lease, which a document holds from its first page to its last. The model is not idle while one is held."""
        self._idle.hold()
        self._sleep_not_before = -inf
        self._notify()
        try:
            yield
        finally:
            self._idle.let_go()
            self._notify()

    def _notify(self) -> None:
        self._line_changed.set()
        self._idle.notify()

    @asynccontextmanager
    async def _unbroken(self) -> AsyncIterator[None]:
        """A context whose step goes on to its end, which is bounded, even if its caller goes away.

        A move that is broken off would leave vLLM in no known state. Only the end of the server breaks it off.
        """
        with anyio.CancelScope(shield=not self._closed) as shield:
            self._shields.add(shield)
            try:
                yield
            finally:
                self._shields.discard(shield)
        if shield.cancelled_caught:
            await anyio.lowlevel.checkpoint_if_cancelled()
            raise closing()

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
        """Read some pages. The caller holds a lease; see `base.Lifecycle.read`. The files of the pages are deleted.

        Raises:
            Timeout: all attempts with a page together took longer than one of its two bounds.
            EngineUnavailable: no endpoint can read, or several failed over this page.
            Cancelled: the model was released by force, or the server closes.
            OcrError: the error of an endpoint about the page.
        """
        done: dict[int, RemotePage] = {}

        async def one(number: int, image: PageImage) -> None:
            done[number] = await self._read_page(image, options, client, background, on_progress)

        try:
            async with anyio.create_task_group() as tasks:
                for number, image in enumerate(pages):
                    tasks.start_soon(one, number, image)
        except BaseExceptionGroup as group:
            raise cause_of(group) from None
        read = [done[number] for number in range(len(pages))]
        where = dict.fromkeys(page.endpoint for page in read if page.endpoint is not None)
        return PagesRead(
            [fields for page in read for fields in page.result or ()],
            self.engine.name,
            _joined(one.facts.model for one in where if one.facts),
            _joined(one.url for one in where),
            queued_s=max((page.ended - page.joined - page.load_s - page.infer_s for page in read), default=0.0),
            load_s=max((page.load_s for page in read), default=0.0),
            infer_s=max((page.infer_s for page in read), default=0.0),
        )

    async def _read_page(
        self,
        image: PageImage,
        options: ReadOptions,
        client: str,
        background: Callable[[], bool],
        on_progress: OnProgress | None,
    ) -> RemotePage:
        """Have one page read. However often it is sent, one answer is taken."""
        self._refuse_when_closed()
        path, mime = await self._encode(image, side_for(options.resolution))
        _remove(image.path)  # the encoded page takes a megabyte, the raw one ten, and many pages wait here
        clock = PageClock(self._settings.ocr_remote_queue_timeout, self._settings.ocr_page_timeout)
        page = RemotePage([image], options, client, background, picture=EncodedPage(path, mime), clock=clock)
        began = anyio.current_time()
        try:
            while page.result is None:
                self._line.join(page)
                self._notify()
                with anyio.CancelScope(deadline=page.clock.deadline) as page.patience:
                    try:
                        await page.follow(on_progress)
                    except BaseException:
                        self._step_out(page)
                        raise
                if page.patience.cancelled_caught:
                    raise self._too_late(page)
                if page.error is not None:
                    raise page.error
        finally:
            _remove(path)
        page.joined = began
        return page

    def _step_out(self, page: RemotePage) -> None:
        """Give up a page whose caller went away: it is not sent, or its answer is broken off."""
        if not self._line.leave(page) and page.flight is not None:
            page.flight.cancel()

    def _too_late(self, page: RemotePage) -> Timeout:
        endpoint, waited = page.endpoint, page.clock.phase == "waiting"
        where = f" at {endpoint.url}" if endpoint is not None else ""
        if endpoint is not None:
            endpoint.failures += 1
            endpoint.last_error = "a page waited too long" if waited else "a page took too long"
            if page in endpoint.pages:
                endpoint.room.halve(len(endpoint.pages))
        last_attempt = f" The last attempt: {page.trouble.message}" if page.trouble else ""
        if waited:
            return Timeout(
                f"The page waited {self._settings.ocr_remote_queue_timeout:g} s{where} and its answer did not "
                f"begin.{last_attempt}",
                remedy="Send it again when the endpoint has less to do, or have the operator give it more slots or "
                "raise OCR_REMOTE_QUEUE_TIMEOUT; gpu_status shows the endpoints.",
            )
        return Timeout(
            f"The page was not read within {self._settings.ocr_page_timeout:g} s of the first byte of its "
            f"answer{where}.{last_attempt}",
            remedy="Send it again, or have the operator raise OCR_PAGE_TIMEOUT; gpu_status shows the endpoints.",
        )

    async def _send_pages(self) -> None:
        """Send pages as long as there are places for them. It sleeps until something changes."""
        while True:
            self._line_changed = anyio.Event()
            while self._line and (endpoint := self._best()) is not None:
                (page,) = self._line.next_batch(1)
                assert isinstance(page, RemotePage)
                if page.avoid is endpoint and (other := self._best(without=endpoint)) is not None:
                    endpoint = other
                self._start(page, endpoint)
            with anyio.move_on_after(self._give_up() if self._line else inf):
                await self._line_changed.wait()

    def _best(self, without: RemoteEndpoint | None = None) -> RemoteEndpoint | None:
        """The endpoint for a page: one that is awake before one that sleeps, then the one with the largest free
        part."""
        now = anyio.current_time()
        free = [
            one
            for one in self._endpoints
            if one.usable and not one.closing and now >= one.rest_until and one.has_place and one is not without
        ]
        return min(free, key=lambda one: (one.sleeps and not one.pages, len(one.pages) / one.room.places), default=None)

    def _give_up(self) -> float:
        """Fail pages that no endpoint will read. Returns the seconds until this has to be asked again."""
        now = anyio.current_time()
        if any(one.down is None for one in self._endpoints):
            rests = [one.rest_until - now for one in self._endpoints if one.usable and one.rest_until > now]
            return min(rests, default=inf)
        if stale := [one for one in self._endpoints if now - one.asked > FIRST_CHECK_S]:
            for endpoint in stale:  # a look at it is due, which may find it back
                endpoint.next_check = now
                endpoint.changed.set()
            return inf
        # An endpoint that never answered is more likely to have a wrong address than to be starting.
        left = max(
            one.down_since + (0.0 if one.facts is None or (one.down and one.down.hopeless) else PATIENCE_S) - now
            for one in self._endpoints
        )
        if left > 0:
            return min(left, FIRST_CHECK_S)
        error = self._nobody()
        for part in self._line.take_all():
            part.fail(error)
        return inf

    def _nobody(self) -> OcrError:
        """The error for pages that no endpoint can read."""
        errors = [one.down.error for one in self._endpoints if one.down is not None]
        if len(errors) == 1:
            return EngineUnavailable(errors[0].message, remedy=errors[0].remedy)
        return EngineUnavailable(
            f"None of the {len(errors)} endpoints can read: {' '.join(error.message for error in errors)}",
            remedy=errors[0].remedy,
        )

    def _start(self, page: RemotePage, endpoint: RemoteEndpoint) -> None:
        assert self._tasks is not None
        now = anyio.current_time()
        page.endpoint = endpoint
        page.turn_to("waiting", now)
        page.mates = len(endpoint.pages)
        page.lone = not page.mates
        if page.lone:
            endpoint.emptied = anyio.Event()
        endpoint.pages.append(page)
        page.flight = anyio.CancelScope()
        self._tasks.start_soon(self._send, page, endpoint, page.flight)

    async def _send(self, page: RemotePage, endpoint: RemoteEndpoint, flight: anyio.CancelScope) -> None:
        """Have an endpoint read a page. Afterwards the page has its result or its error, or is to be sent again."""
        reading_since: float | None = None
        try:
            with flight, serving(page.request):
                began = anyio.current_time()
                page.turn_to("paused", began)  # waking up has a bound of its own
                try:
                    await self._get_ready(endpoint)
                finally:
                    page.load_s += anyio.current_time() - began
                    page.turn_to("waiting", anyio.current_time())
                assert endpoint.facts is not None
                page.started = reading_since = anyio.current_time()
                endpoint.used = True
                fields = await endpoint.client.read(
                    endpoint.facts, page.pages[0], page.options, page.picture, page.hear
                )
                page.infer_s += anyio.current_time() - reading_since
                self._succeeded(endpoint)
                self._learn(page, endpoint)
                endpoint.served += 1
                self.observer.pages_read(
                    self.engine.name, 1, fields.get("tokens"), anyio.current_time() - reading_since
                )
                page.answer([fields])
        except Trouble as trouble:
            if reading_since is not None:
                page.infer_s += anyio.current_time() - reading_since
            self._troubled(page, endpoint, trouble)
        except OcrError as exc:
            if reading_since is not None:
                self._succeeded(endpoint)  # it refused this page only
            page.fail(exc)
        except Exception as exc:
            log.exception("A page failed in a way that this program does not foresee.")
            page.fail(unforeseen(exc))
        finally:
            endpoint.pages.remove(page)
            page.flight = None
            page.fail(closing())  # a page that still waits was cancelled with the server
            is_sent_again = page.result is None and page.error is None
            page.turn_to("waiting" if is_sent_again else "paused", anyio.current_time())
            if not endpoint.pages:
                endpoint.emptied.set()
                endpoint.changed.set()
            self._notify()

    def _succeeded(self, endpoint: RemoteEndpoint) -> None:
        endpoint.heard = anyio.current_time()
        endpoint.refusals = 0

    def _learn(self, page: RemotePage, endpoint: RemoteEndpoint) -> None:
        """Learn the number of pages that an endpoint takes at once, from a page that it read."""
        now = anyio.current_time()
        begun = page.clock.since if page.clock.phase == "reading" else now  # an empty answer has no first byte
        endpoint.room.page_read(begun - page.started, now - begun, alone=page.lone, mates=page.mates)

    def _troubled(self, page: RemotePage, endpoint: RemoteEndpoint, trouble: Trouble) -> None:
        """Draw the conclusions from a failed attempt, for the endpoint and for the page."""
        endpoint.failures += 1
        endpoint.heard = -inf  # the endpoint is looked at before the next page: it may have been put to sleep
        page.avoid = endpoint
        page.trouble = error = trouble.error
        self._remember(endpoint, trouble)
        if isinstance(trouble, Overloaded):
            self._rest(endpoint, trouble.retry_after_s)
        else:
            page.crashes += 1  # this page may be the cause
        if isinstance(trouble, Down):
            self._take_out(endpoint, trouble)
            page.crashes -= not trouble.sent
            if trouble.hopeless and not any(one.usable for one in self._endpoints):
                page.fail(error)
                return
        if page.crashes >= MAX_LOST:
            message = f"{page.crashes} attempts to read the page failed. The last one: {error.message}"
            page.fail(EngineUnavailable(message, remedy=error.remedy))
            return
        self.observer.page_sent_again(self.engine.name, endpoint.url, trouble.what)
        page.send_back()

    def _rest(self, endpoint: RemoteEndpoint, retry_after_s: float | None) -> None:
        """Send an endpoint no pages for a while, and fewer at once after that."""
        now = anyio.current_time()
        if now < endpoint.rest_until and retry_after_s is None:
            return  # pages that were there together count as one refusal
        wait = min(LONGEST_REST_S, FIRST_REST_S * 2**endpoint.refusals) * (0.5 + self._chance())
        if retry_after_s is not None:
            wait = retry_after_s * (1 + self._chance() / 10)
        if now >= endpoint.rest_until:
            endpoint.refusals += 1
            endpoint.room.halve(len(endpoint.pages))
        endpoint.rest_until = max(endpoint.rest_until, now + wait)

    def _take_out(self, endpoint: RemoteEndpoint, down: Down) -> None:
        """Take an endpoint out: it gets no pages until it answers a look."""
        now = anyio.current_time()
        if endpoint.down is None:
            endpoint.down_since, endpoint.checks = now, 0
            self.observer.endpoint_out(self.engine.name, endpoint.url, down.what)
        wait = LONGEST_CHECK_S if down.hopeless else min(LONGEST_CHECK_S, FIRST_CHECK_S * 2**endpoint.checks)
        endpoint.down, endpoint.asked = down, now
        endpoint.next_check = now + wait * (0.75 + self._chance() / 2)
        endpoint.checks += 1
        endpoint.changed.set()
        self._notify()

    def _remember(self, endpoint: RemoteEndpoint, trouble: Trouble) -> None:
        endpoint.last_error = trouble.what
        self._last_error = f"{endpoint.url}: {trouble.what}"

    # -- looking after an endpoint

    async def _look_after(self, endpoint: RemoteEndpoint) -> None:
        """Look at an endpoint at the start, while it is out, and now and then."""
        while True:
            endpoint.changed = anyio.Event()
            now = anyio.current_time()
            due = endpoint.next_check if endpoint.down else endpoint.heard + CHECK_EVERY_S
            if endpoint.pages and not endpoint.down:
                due = inf  # answers about pages show that it works
            if due <= now:
                async with endpoint.lock:
                    with suppress(Trouble):
                        await self._look(endpoint)
                continue
            with anyio.move_on_after(due - now):
                await endpoint.changed.wait()

    async def _look(self, endpoint: RemoteEndpoint) -> None:
        """Ask an endpoint for its model and its state. Caller holds its lock.

        Raises:
            Trouble: it does not answer. It has been taken out, or rests.
        """
        try:
            facts = await endpoint.client.look()
        except Trouble as trouble:
            self._remember(endpoint, trouble)
            endpoint.heard = anyio.current_time()  # a page that comes now does not ask again
            if isinstance(trouble, Overloaded) and endpoint.usable:
                self._rest(endpoint, trouble.retry_after_s)
            else:
                self._take_out(endpoint, trouble if isinstance(trouble, Down) else Down(trouble.what, trouble.error))
            raise
        endpoint.facts = facts
        endpoint.heard = endpoint.asked = anyio.current_time()
        if endpoint.down is not None:
            self.observer.endpoint_back(self.engine.name, endpoint.url, endpoint.heard - endpoint.down_since)
            endpoint.down, endpoint.checks, endpoint.refuses_sleep = None, 0, False
        self._notify()

    async def _get_ready(self, endpoint: RemoteEndpoint) -> None:
        """Return when an endpoint can read: look at it if it was silent for long, wake it if it sleeps.

        Raises:
            Trouble: it cannot read.
        """
        async with endpoint.lock:
            if endpoint.sleeps or anyio.current_time() - endpoint.heard > STALE_S:
                await self._look(endpoint)  # another program may have put it to sleep or woken it
            if endpoint.sleeps:
                await self._wake(endpoint)

    async def _wake(self, endpoint: RemoteEndpoint) -> None:
        """Wake an endpoint, which brings its weights back. Caller holds its lock."""
        assert endpoint.facts is not None
        level = endpoint.facts.level
        async with self._moving(endpoint, "restoring" if level == 1 else "loading"), self._unbroken():
            await endpoint.client.wake(level, self._settings.ocr_load_timeout)
            endpoint.set_sleeping(None)
        endpoint.heard = anyio.current_time()

    @asynccontextmanager
    async def _moving(self, endpoint: RemoteEndpoint, doing: Doing) -> AsyncIterator[None]:
        """A step of an endpoint's weights, told. Caller holds its lock."""
        endpoint.doing, endpoint.doing_since = doing, anyio.current_time()
        try:
            yield
            seconds = anyio.current_time() - endpoint.doing_since
            self.observer.moved(self.engine.name, doing, seconds, endpoint.url)
        except Trouble as trouble:
            self.observer.move_failed(self.engine.name, doing, trouble.error.code)
            raise
        finally:
            endpoint.doing = None
            self._notify()

    # -- giving memory back

    async def offload(self) -> Transition:
        """Put the endpoints to sleep at level 1, which keeps the weights in their host memory.

        Raises:
            Busy: pages were being read during all of `OCR_BUSY_WAIT`.
        """
        return await self._moved_all(1, force=False)

    async def release(self, force: bool = False) -> Transition:
        """Put the endpoints to sleep at level 2, which drops the weights.

        Args:
            force: whether pages that are being read are given up, instead of waited for. Their callers get `Cancelled`.

        Raises:
            Busy: pages were being read during all of `OCR_BUSY_WAIT`.
        """
        return await self._moved_all(2, force)

    async def _moved_all(self, level: int, force: bool) -> Transition:
        self._refuse_when_closed()
        before, began = self.state, anyio.current_time()
        found: dict[RemoteEndpoint, SleepOutcome] = {}

        async def move(endpoint: RemoteEndpoint) -> None:
            found[endpoint] = await self._put_to_sleep(endpoint, level, force)

        async with anyio.create_task_group() as tasks:
            for endpoint in self._endpoints:
                tasks.start_soon(move, endpoint)
        outcomes = [found[endpoint] for endpoint in self._endpoints]
        message = " ".join(outcome.sentence for outcome in outcomes)
        results = {outcome.result for outcome in outcomes}
        if "busy" in results and "asleep" not in results:
            raise Busy(
                message, remedy="Call again when they are done, or gpu_release with force=true to stop what runs."
            )
        return Transition(
            from_state=before, to_state=self.state, seconds=anyio.current_time() - began, freed_mb=None, message=message
        )

    async def _put_to_sleep(
        self, endpoint: RemoteEndpoint, level: int, force: bool, unless: Callable[[], bool] = lambda: False
    ) -> SleepOutcome:
        """Put an endpoint to sleep, if it can sleep and nobody needs it.

        Args:
            endpoint: the endpoint.
            level: 1 keeps the weights in its host memory, 2 drops them.
            force: whether pages that are being read there are given up, instead of waited for.
            unless: called as the last check; True keeps the endpoint awake.
        """
        url = endpoint.url
        if not endpoint.usable:
            return SleepOutcome("left", f"{url} is not asked: {endpoint.last_error or 'it has not answered yet'}.")
        if not endpoint.can_sleep:
            return SleepOutcome(
                "left", f"{url} has no sleep mode: its model stays where it is (docs/remote.md says how vLLM gets one)."
            )
        endpoint.closing += 1
        try:
            if force:
                for page in list(endpoint.pages):
                    page.fail(_released())
                    if page.flight is not None:
                        page.flight.cancel()
            with anyio.move_on_after(FORCE_TIMEOUT_S if force else self._settings.ocr_busy_wait):
                while endpoint.pages:
                    await endpoint.emptied.wait()
            if endpoint.pages:
                return SleepOutcome("busy", f"{url} is reading {len(endpoint.pages)} pages.")
            async with endpoint.lock:
                return await self._sleep(endpoint, level, force, unless)
        except Trouble as trouble:
            endpoint.failures += 1
            self._remember(endpoint, trouble)
            return SleepOutcome("left", trouble.error.message)
        finally:
            endpoint.closing -= 1
            self._notify()

    async def _sleep(
        self, endpoint: RemoteEndpoint, level: int, force: bool, unless: Callable[[], bool]
    ) -> SleepOutcome:
        """See `_put_to_sleep`. Caller holds the lock, and no page is there."""
        url = endpoint.url
        await self._look(endpoint)  # another program may have put it to sleep or woken it
        if not endpoint.can_sleep or endpoint.facts is None:
            return SleepOutcome("left", f"{url} has no sleep mode: its model stays where it is.")
        if endpoint.sleeps and (level == 1 or endpoint.facts.level == 2):
            return SleepOutcome("left", f"{url} sleeps already.")
        if force:  # for the time in which it notices that its answers were broken off
            with anyio.move_on_after(FORCE_TIMEOUT_S):
                while await endpoint.client.others():
                    pass
        elif not endpoint.sleeps and (others := await endpoint.client.others()):
            return SleepOutcome("busy", f"{url} has {others} requests of others in work.")
        if unless():
            return SleepOutcome("busy", f"{url} is wanted.")
        if endpoint.sleeps:
            await self._wake(endpoint)  # vLLM has to wake up before it can go from level 1 to 2
        try:
            async with self._moving(endpoint, "offloading" if level == 1 else "releasing"), self._unbroken():
                await endpoint.client.sleep(level)
                endpoint.set_sleeping(level)
                endpoint.used = False
        except Trouble:
            with suppress(Trouble):
                await self._look(endpoint)  # so that its state is known
            endpoint.refuses_sleep = endpoint.usable and not endpoint.sleeps
            raise
        endpoint.heard = anyio.current_time()
        where = "its weights wait in its host memory" if level == 1 else "its weights are let go of"
        return SleepOutcome("asleep", f"{url} sleeps: {where}.")

    # -- idle policy

    def _policy_state(self) -> State:
        """The endpoints that the policy may put to sleep: they are awake, were used and can sleep.

        Endpoints at level 1 stay there. To drop their weights, vLLM would first have to take all of its memory on the
        card again, which others may be using.
        """
        return State.GPU if any(one.idles for one in self._endpoints) else State.UNLOADED

    async def _watch_idle(self) -> None:
        """Sleep until a step of the policy is due or an event comes."""
        while True:
            self._idle.begin_listening()
            wait = self._idle.wake_after(self._policy_state())
            if wait is not None:
                wait = max(wait, self._sleep_not_before - anyio.current_time())
            if wait is not None and wait <= 0:
                await self._step_down()
            else:
                await self._idle.news(within=wait)

    async def _step_down(self) -> None:
        step = self._idle.next_step(self._policy_state())
        if step is None:
            return
        # The reason why an endpoint stays awake (work of others, a failure) lasts for a while.
        self._sleep_not_before = anyio.current_time() + OTHERS_PAUSE_S
        level = 1 if step is Step.OFFLOAD else 2
        for endpoint in self._endpoints:
            if endpoint.idles:
                await self._put_to_sleep(endpoint, level, force=False, unless=lambda: self._idle.leases > 0)

    # -- status

    def status(self) -> ModelStatus:
        """The status. It waits for nothing."""
        now = anyio.current_time()
        policy_state = self._policy_state()
        doing = next((one.doing for one in self._endpoints if one.doing is not None), None)

        return ModelStatus(
            state=doing or self.state,
            model=_joined(one.facts.model for one in self._endpoints if one.facts),
            device=self.device,
            worker_pid=None,
            prewarmed=False,
            download_percent=None,
            worker_host_mb=None,
            idle_s=self._idle.seconds,
            offload_in_s=self._idle.seconds_until(Step.OFFLOAD, policy_state),
            release_in_s=self._idle.seconds_until(Step.RELEASE, policy_state),
            queue=self._idle.leases,
            served=sum(one.served for one in self._endpoints),
            worker_restarts=0,
            last_error=self._last_error,
            endpoints=[
                EndpointStatus(
                    url=one.url,
                    model=one.facts.model if one.facts else "",
                    state=one.state(now),
                    in_flight=len(one.pages),
                    served=one.served,
                    failures=one.failures,
                    last_error=one.last_error,
                    next_check_s=max(0.0, one.next_check - now) if one.down else None,
                )
                for one in self._endpoints
            ],
        )

    def unreturned_mb(self, cards: Sequence[Gpu]) -> int | None:
        """None, because the memory of an endpoint cannot be seen from here."""
        return None

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise closing()


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def _released() -> Cancelled:
    return Cancelled(
        "The model was released by force while this was being read.",
        remedy="Send the request again; the model is woken for it.",
    )


def _joined(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))

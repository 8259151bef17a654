"""Holds the state of one remote server: its client, its pages in flight, and the time when it is tried again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf

import anyio
import anyio.abc
import anyio.lowlevel

from ...config import Settings
from ...errors import OcrError
from ...models import Doing, EndpointState, State
from ..line import RequestPart
from .client import Client
from .clock import PageClock, Phase
from .concurrency import LearnedConcurrency
from .settings import endpoint_settings
from .trouble import Down, EncodedPage, EndpointClient, Facts

__all__ = ["RemoteEndpoint", "RemotePage", "clients"]


@dataclass(slots=True, eq=False)
class RemotePage(RequestPart):
    """One page on its way to an endpoint; see `line.RequestPart`."""

    picture: EncodedPage = field(default_factory=lambda: EncodedPage("", ""))
    clock: PageClock = field(default_factory=lambda: PageClock(inf, inf))
    """The clock of the page, which begins when the page is first sent."""
    patience: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    """The scope of its caller's wait."""
    lone: bool = False
    """Whether no other page of ours was at its endpoint until its answer began."""
    mates: int = 0
    """The number of other pages of ours that were there when it was sent."""
    flight: anyio.CancelScope | None = None
    endpoint: RemoteEndpoint | None = None
    """The endpoint that has it, or had it last."""
    avoid: RemoteEndpoint | None = None
    """The endpoint at which it has just failed."""
    trouble: OcrError | None = None
    """The last error over the page."""
    load_s: float = 0.0
    infer_s: float = 0.0

    def turn_to(self, phase: Phase, now: float) -> None:
        """Begin a phase of its clock, and set the deadline of its caller's wait accordingly."""
        self.clock.turn_to(phase, now)
        self.patience.deadline = self.clock.deadline

    def hear(self, done: float, message: str) -> None:
        """Note a piece of the answer; this is an `OnText`. The first piece ends the wait."""
        if self.clock.phase == "waiting":
            self.turn_to("reading", anyio.current_time())
            self.lone = self.lone and self.endpoint is not None and len(self.endpoint.pages) == 1
        self.tell(done, message)


@dataclass(slots=True, eq=False)
class RemoteEndpoint:
    """An endpoint, and the facts that are known of it."""

    client: EndpointClient
    room: LearnedConcurrency
    """The number of pages that it gets at once."""
    facts: Facts | None = None
    """The facts that it told; None if it has never answered."""
    down: Down | None = None
    """The reason why it is taken out; None if it is not."""
    down_since: float = 0.0
    checks: int = 0
    """The number of looks that failed, one after the other."""
    next_check: float = -inf
    asked: float = -inf
    """The time when a look last confirmed its state."""
    heard: float = -inf
    """The time when it last did as it was asked."""
    rest_until: float = -inf
    refusals: int = 0
    """The number of refusals, one after the other."""
    pages: list[RemotePage] = field(default_factory=list)
    """The pages that it has now."""
    closing: int = 0
    """The number of callers that want it to sleep. While there is one, it gets no pages."""
    refuses_sleep: bool = False
    used: bool = False
    """Whether pages were sent to it since it last slept. Otherwise the idle policy does not put it to sleep."""
    doing: Doing | None = None
    doing_since: float = 0.0
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    """Held while it is looked at or moved."""
    changed: anyio.Event = field(default_factory=anyio.Event)
    """Set when the task that looks after it has something to do."""
    emptied: anyio.Event = field(default_factory=anyio.Event)
    """Set when its last page has left."""
    served: int = 0
    failures: int = 0
    last_error: str = ""

    def __repr__(self) -> str:
        return f"<RemoteEndpoint {self.url} {self.state(-inf)} {len(self.pages)} pages>"

    @property
    def url(self) -> str:
        return self.client.url

    @property
    def has_place(self) -> bool:
        return len(self.pages) < self.room.places

    @property
    def usable(self) -> bool:
        return self.facts is not None and self.down is None

    @property
    def sleeps(self) -> bool:
        return self.facts is not None and bool(self.facts.sleeping)

    @property
    def can_sleep(self) -> bool:
        return self.facts is not None and self.facts.sleeping is not None and not self.refuses_sleep

    @property
    def idles(self) -> bool:
        """Whether the idle policy may put it to sleep."""
        return self.used and self.usable and self.can_sleep and not self.sleeps

    @property
    def weights(self) -> State:
        """The place of its weights, at a time. An endpoint that cannot be asked counts as unloaded."""
        if not self.usable:
            return State.UNLOADED
        if not self.sleeps:
            return State.GPU
        return State.HOST if self.facts is not None and self.facts.level == 1 else State.UNLOADED

    def state(self, now: float) -> EndpointState:
        if self.doing is not None:
            return self.doing
        if self.down is not None:
            return "out"
        if self.facts is None:
            return "unasked"
        if self.sleeps:
            return "asleep"
        return "resting" if now < self.rest_until else "ready"

    def set_sleeping(self, level: int | None) -> None:
        """Note that it was seen asleep at a level, or awake."""
        assert self.facts is not None
        self.facts = replace(self.facts, sleeping=level is not None, level=level)


def clients(settings: Settings) -> list[EndpointClient]:
    """The endpoints that `OCR_REMOTE_URL` names.

    Raises:
        BadRequest: none is named, or a setting of an endpoint makes no sense.
    """
    return [Client(one) for one in endpoint_settings(settings)]

"""The idle policy: pure, so that ten minutes can be tested in a millisecond.

`Idleness` asks it, and knows who needs the model and how long nobody has.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf

import anyio

from ..models import State

__all__ = ["NEVER", "IdlePolicy", "Idleness", "Step"]

NEVER = -1.0
"""The setting that switches a step off."""


class Step(StrEnum):
    """What the policy may ask for."""

    OFFLOAD = "offload"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class IdlePolicy:
    """When an idle model moves down: GPU to host memory, then out of the process.

    Both times count from the moment the last request ended, in seconds; `NEVER` switches a step off.
    """

    offload_after: float
    release_after: float

    def seconds_until(self, step: Step, state: State, idle_s: float) -> float | None:
        """Seconds until `step` is due, 0 if it is; None if it never will be in this state.

        Args:
            step: to take.
            state: of the model.
            idle_s: seconds since the last request ended.
        """
        after, states = {
            Step.OFFLOAD: (self.offload_after, (State.GPU,)),
            Step.RELEASE: (self.release_after, (State.GPU, State.HOST)),
        }[step]
        if after < 0 or state not in states:
            return None
        return max(0.0, after - idle_s)

    def next_step(self, state: State, idle_s: float) -> Step | None:
        """The step that is due now. A release that is due makes an offload pointless."""
        for step in (Step.RELEASE, Step.OFFLOAD):
            if self.seconds_until(step, state, idle_s) == 0:
                return step
        return None

    def wake_after(self, state: State, idle_s: float) -> float | None:
        """Seconds until the policy should be asked again; None: not before something happens."""
        waits = [self.seconds_until(step, state, idle_s) for step in Step]
        return min((wait for wait in waits if wait is not None), default=None)


class Idleness:
    """Counts who needs a model and since when nobody does, and asks the policy.

    What it says of the policy is None while somebody needs the model.
    """

    def __init__(self, policy: IdlePolicy) -> None:
        self._policy = policy
        self.leases = 0
        """Requests that need the model."""
        self._since: float | None = None
        self._news = anyio.Event()

    def __repr__(self) -> str:
        return f"<Idleness {self.leases} leases>"

    @property
    def seconds(self) -> float | None:
        """Since the last request ended; None while there is one."""
        return None if self.leases or self._since is None else anyio.current_time() - self._since

    def begin(self) -> None:
        """Count from now, as if a request had just ended."""
        self._since = anyio.current_time()

    def hold(self) -> None:
        """A request needs the model. `let_go` must follow."""
        self.leases += 1
        self.notify()

    def let_go(self) -> None:
        """It needs it no more."""
        self.leases -= 1
        if self.leases == 0:
            self.begin()
        self.notify()

    def next_step(self, state: State) -> Step | None:
        """The step that is due now."""
        return None if (idle := self.seconds) is None else self._policy.next_step(state, idle)

    def seconds_until(self, step: Step, state: State) -> float | None:
        """Seconds until `step` is due."""
        return None if (idle := self.seconds) is None else self._policy.seconds_until(step, state, idle)

    def wake_after(self, state: State) -> float | None:
        """Seconds until the policy should be asked again."""
        return None if (idle := self.seconds) is None else self._policy.wake_after(state, idle)

    def notify(self) -> None:
        """Whoever watches is to look again."""
        self._news.set()

    def forget_news(self) -> None:
        """Before a look: events from now on are news."""
        self._news = anyio.Event()

    async def news(self, within: float | None) -> None:
        """Return when there is news, or after so many seconds; None: however long that takes."""
        with anyio.move_on_after(inf if within is None else within):
            await self._news.wait()

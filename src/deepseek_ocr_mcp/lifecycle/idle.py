"""The idle policy, which says when a model that nobody uses gives its memory back.

`IdlePolicy` is pure, so that ten minutes are tested in a millisecond. `Idleness` counts the requests that need the
model and the time since the last one, and asks the policy.
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
    """The steps that the policy may ask for."""

    OFFLOAD = "offload"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class IdlePolicy:
    """Says when an idle model moves from the GPU to host memory, and when its process ends.

    Both times are seconds since the last request ended. `NEVER` switches a step off.
    """

    offload_after: float
    release_after: float

    def seconds_until(self, step: Step, state: State, idle_s: float) -> float | None:
        """The seconds until a step is due; 0 if it is due, None if it never will be in this state.

        Args:
            step: the step.
            state: the state of the model.
            idle_s: the seconds since the last request ended.
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
        """The seconds after which the policy has to be asked again; None: when the next event comes."""
        waits = [self.seconds_until(step, state, idle_s) for step in Step]
        return min((wait for wait in waits if wait is not None), default=None)


class Idleness:
    """Counts the requests that need a model, and the time since the last one; asks the policy.

    The answers of the policy are None while a request needs the model.
    """

    def __init__(self, policy: IdlePolicy) -> None:
        self._policy = policy
        self.leases = 0
        """The number of requests that need the model."""
        self._since: float | None = None
        self._news = anyio.Event()

    def __repr__(self) -> str:
        return f"<Idleness {self.leases} leases>"

    @property
    def seconds(self) -> float | None:
        """The seconds since the last request ended; None while there is a request."""
        return None if self.leases or self._since is None else anyio.current_time() - self._since

    def begin(self) -> None:
        """Begin the count now, as if a request had just ended."""
        self._since = anyio.current_time()

    def hold(self) -> None:
        """Note that a request needs the model. `let_go` must follow."""
        self.leases += 1
        self.notify()

    def let_go(self) -> None:
        """Note that a request needs the model no more."""
        self.leases -= 1
        if self.leases == 0:
            self.begin()
        self.notify()

    def next_step(self, state: State) -> Step | None:
        """The step that is due now."""
        return None if (idle := self.seconds) is None else self._policy.next_step(state, idle)

    def seconds_until(self, step: Step, state: State) -> float | None:
        """The seconds until a step is due."""
        return None if (idle := self.seconds) is None else self._policy.seconds_until(step, state, idle)

    def wake_after(self, state: State) -> float | None:
        """The seconds after which the policy has to be asked again."""
        return None if (idle := self.seconds) is None else self._policy.wake_after(state, idle)

    def notify(self) -> None:
        """Wake the task that watches."""
        self._news.set()

    def begin_listening(self) -> None:
        """Count events from now on as news. Called before the watching task looks at the policy."""
        self._news = anyio.Event()

    async def news(self, within: float | None) -> None:
        """Return when there is news, or after so many seconds; None: only when there is news."""
        with anyio.move_on_after(inf if within is None else within):
            await self._news.wait()

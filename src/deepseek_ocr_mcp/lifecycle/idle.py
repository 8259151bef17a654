"""The idle policy: pure, so that ten minutes can be tested in a millisecond."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..models import State

__all__ = ["NEVER", "IdlePolicy", "Step"]

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
        """Seconds until `step` is due, 0 if it is; None if it never will be in this state."""
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

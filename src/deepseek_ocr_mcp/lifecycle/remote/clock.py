"""Bounds the time of a page at endpoints: one bound for the wait until an answer begins, one for the answer itself.

A server that reads one page at a time lets every other page wait, for as long as the pages before it take. So the time
of a page (`OCR_PAGE_TIMEOUT`) counts from the first byte of its answer, and the wait has a bound of its own
(`OCR_REMOTE_QUEUE_TIMEOUT`). Each bound is for all attempts together. This module asks no clock: callers pass the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

__all__ = ["PageClock", "Phase"]

Phase = Literal["paused", "waiting", "reading"]
"""The phase of a page. `paused`: its time does not count, because it was never sent or its endpoint is being woken.
`waiting`: the first byte of its answer has not come. `reading`: the answer is coming."""


@dataclass(slots=True)
class PageClock:
    """The seconds that a page has left.

    Args:
        wait_left_s: seconds for the wait until its answer begins.
        read_left_s: seconds for its answer.
    """

    wait_left_s: float
    read_left_s: float
    phase: Phase = "paused"
    since: float = 0.0
    """The time when the phase began."""

    def turn_to(self, phase: Phase, now: float) -> None:
        """End the present phase, and begin another one."""
        spent = now - self.since
        if self.phase == "waiting":
            self.wait_left_s -= spent
        elif self.phase == "reading":
            self.read_left_s -= spent
        self.phase, self.since = phase, now

    @property
    def deadline(self) -> float:
        """The time when the page is given up if its phase does not change."""
        if self.phase == "paused":
            return inf
        return self.since + (self.wait_left_s if self.phase == "waiting" else self.read_left_s)

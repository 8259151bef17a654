"""Tests by a clock that jumps to whatever comes next: ten minutes of an idle policy take a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio
import trio.testing

__all__ = ["Steps", "counted_steps", "virtual_time"]


def virtual_time() -> tuple[str, dict[str, Any]]:
    """What an `anyio_backend` fixture returns."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0.002)}


class Steps(trio.abc.Instrument):
    """Counts how often any task runs."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


@contextmanager
def counted_steps() -> Iterator[Steps]:
    """How often any task runs within: whoever polls is found out."""
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    try:
        yield steps
    finally:
        trio.lowlevel.remove_instrument(steps)

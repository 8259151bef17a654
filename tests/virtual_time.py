"""Tests by a clock that jumps to whatever comes next: ten minutes of an idle policy take a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio.lowlevel
import pytest
import trio
import trio.testing

__all__ = ["Steps", "counted_steps", "inline_threads", "with_jumping_clock"]


def with_jumping_clock() -> tuple[str, dict[str, Any]]:
    """The value of the fixture `anyio_backend`."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0.002)}


def inline_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call inline whatever would run in a thread: virtual time jumps while a thread works."""

    async def run_sync(function: Callable[..., Any], *args: Any, **_: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return function(*args)

    monkeypatch.setattr("anyio.to_thread.run_sync", run_sync)


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

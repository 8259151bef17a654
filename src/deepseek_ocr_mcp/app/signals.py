"""Ends the running work in order on SIGINT and SIGTERM. It is light, so that it is in place before other imports."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import anyio
import anyio.abc

__all__ = ["until_signal"]


async def until_signal(work: Callable[[], Awaitable[None]], end: Callable[[], object] | None = None) -> int:
    """Run `work` until it is done, or until SIGINT or SIGTERM.

    Args:
        end: what a signal does; default: cancel `work`.

    Returns:
        The number of the signal, or 0.
    """
    received = 0

    async def watch(scope: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        nonlocal received
        try:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                task_status.started()
                async for number in signals:
                    received = int(number)
                    (end or scope.cancel)()
        except NotImplementedError:  # Windows: Ctrl-C arrives as KeyboardInterrupt
            task_status.started()

    async with anyio.create_task_group() as tasks:
        await tasks.start(watch, tasks.cancel_scope)
        await work()
        tasks.cancel_scope.cancel()
    return received

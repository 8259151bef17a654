"""Ends the running work in order on SIGINT, SIGTERM and SIGHUP.

This module imports little, so that signals are handled before the other modules are imported.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import anyio
import anyio.abc

__all__ = ["until_signal"]


async def until_signal(work: Callable[[], Awaitable[None]], end: Callable[[], object] | None = None) -> int:
    """Run `work` until it is done, or until a signal that asks for the end.

    Args:
        work: the work.
        end: called on a signal; default: cancel `work`.

    Returns:
        The number of the signal, or 0.
    """
    received = 0

    async def watch(scope: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        nonlocal received
        try:
            with anyio.open_signal_receiver(*_ending_signals()) as signals:
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


def _ending_signals() -> list[signal.Signals]:
    """The signals to handle. SIGHUP comes from a terminal that closes; under `nohup` it stays ignored."""
    signals = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals

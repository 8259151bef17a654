"""Ends the running work in order on SIGINT, SIGTERM and SIGHUP. It is light, so that it is in place before others."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import anyio
import anyio.abc

__all__ = ["until_signal"]


async def until_signal(work: Callable[[], Awaitable[None]], end: Callable[[], object] | None = None) -> int:
    """Run `work` until it is done, or until a signal that asks for the end.

    Args:
        end: what a signal does; default: cancel `work`.

    Returns:
        The number of the signal, or 0.
    """
    received = 0

    async def watch(scope: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        nonlocal received
        try:
            with anyio.open_signal_receiver(*_asked_to_end_by()) as signals:
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


def _asked_to_end_by() -> list[signal.Signals]:
    """SIGHUP comes from a terminal that closes; who started us with `nohup` has it ignored, and it stays so."""
    asked = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        asked.append(signal.SIGHUP)
    return asked

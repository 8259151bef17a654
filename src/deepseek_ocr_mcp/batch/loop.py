"""An event loop for the things that live as long as an actor does."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any, TypeVar

import anyio.from_thread

__all__ = ["ActorLoop"]

T = TypeVar("T")


class ActorLoop:
    """An event loop on a thread of its own. It ends with the process."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(anyio.from_thread.start_blocking_portal())
        atexit.register(self.close)

    def enter(self, context: Callable[[], contextlib.AbstractAsyncContextManager[T]]) -> T:
        """Enter a context that is left when the process ends."""

        async def opened() -> contextlib.AbstractAsyncContextManager[T]:
            return context()

        entered: T = self._stack.enter_context(self._portal.wrap_async_context_manager(self._portal.call(opened)))
        return entered

    def call(self, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run a coroutine function on the loop, and wait for what it returns."""
        result: T = self._portal.call(work, *arguments)
        return result

    def close(self) -> None:
        """Leave all contexts."""
        with contextlib.suppress(Exception):
            self._stack.close()

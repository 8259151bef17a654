"""A server of uvicorn that sleeps while it is idle and leaves signals to the program.

It is imported only when something is served over HTTP, because the import of uvicorn takes time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import uvicorn

__all__ = ["SleepingServer"]


class SleepingServer(uvicorn.Server):
    """A server of uvicorn without its timer: that checks ten times a second whether the server should end.

    Args:
        config: the configuration.
        stop: set when the server should end.
    """

    def __init__(self, config: uvicorn.Config, stop: anyio.Event) -> None:
        super().__init__(config)
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program."""
        yield

    async def main_loop(self) -> None:
        """Return when the server should end."""
        await self.on_tick(0)
        await self._stop.wait()

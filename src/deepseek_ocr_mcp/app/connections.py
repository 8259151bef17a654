"""Connections of the HTTP server: none is kept by a client that says nothing, and none by one that does not listen.

- There are at most as many as the process has descriptors for, less what it needs itself. One more ends the one that
  has been idle longest; where none is idle, the new one is closed at once. So `accept` never fails.
- Whoever does not send the head of a request in time is cut: at first, and between two requests.
- Whoever does not read its answer at least at `LEAST_BYTES_PER_S` is cut; of what nobody reads, `MAX_UNREAD_BYTES` are
  held in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..logs import fields

__all__ = ["KEEP_ALIVE_S", "BoundedConnection", "Connections", "most_connections", "silence_accept_errors"]

log = logging.getLogger(__name__)

KEEP_ALIVE_S: Final = 75  # longer than nginx keeps an idle connection to us (60 s): else it writes into a closed one
HEAD_S: Final = 20.0  # a head is a few hundred bytes
STALL_S: Final = 30.0  # between two looks at how much of an answer was read
LEAST_BYTES_PER_S: Final = 16 * 1024  # a telephone with one bar takes more
MAX_UNREAD_BYTES: Final = 256 << 20  # of all answers that wait for slow readers; the largest has about 90 MB
RESERVED: Final = 320  # descriptors for documents, children, and 128 connections that are accepted at once and then cut
WANTED: Final = 65_536  # descriptors; more connections than that are for several servers
ACCEPT_MESSAGE_EVERY_S: Final = 60.0


def most_connections() -> int:
    """How many connections this process may have, after it has asked for as many descriptors as it may."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return WANTED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    available = WANTED if soft == resource.RLIM_INFINITY else min(WANTED, soft)
    return max(available // 2, available - RESERVED)


class Connections:
    """All connections of one server."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._all: set[BoundedConnection] = set()
        self._idle: dict[BoundedConnection, None] = {}
        """Those that no request is served on, the longest idle first."""
        self._unread: dict[BoundedConnection, None] = {}
        """Those whose client does not read as fast as we write, the longest first."""

    def __repr__(self) -> str:
        return f"<Connections {len(self._all)} of {self.limit}, {len(self._idle)} idle, {len(self._unread)} unread>"

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: BoundedConnection) -> None:
        """Take a new one in, in the place of one that is idle if there are too many."""
        if len(self._all) >= self.limit:
            ended = next(iter(self._idle), connection)
            self.remove(ended)
            ended.cut("too many connections")
            if ended is connection:
                return
        self._all.add(connection)
        self._idle[connection] = None

    def remove(self, connection: BoundedConnection) -> None:
        """Forget one that is closed."""
        self._all.discard(connection)
        self._idle.pop(connection, None)
        self._unread.pop(connection, None)

    def busy(self, connection: BoundedConnection) -> None:
        """A request is served on it."""
        self._idle.pop(connection, None)

    def idle(self, connection: BoundedConnection) -> None:
        """Its request has been answered."""
        if connection in self._all:
            self._idle.pop(connection, None)
            self._idle[connection] = None

    def unread(self, connection: BoundedConnection) -> None:
        """Its client does not read: hold no more than the bound for all of them."""
        if connection in self._all:
            self._unread[connection] = None
        while sum(each.held_bytes for each in self._unread) > MAX_UNREAD_BYTES:
            slowest = next(iter(self._unread))
            self.remove(slowest)
            slowest.cut("too many bytes wait for slow readers")

    def read(self, connection: BoundedConnection) -> None:
        """Its client has read what it had."""
        self._unread.pop(connection, None)

    def protocol(self, *arguments: Any, **options: Any) -> BoundedConnection:
        """For `uvicorn.Config(http=…)`: a protocol for one new connection."""
        return BoundedConnection(self, *arguments, **options)


class BoundedConnection(H11Protocol):
    """One connection: uvicorn's own, with bounds."""

    def __init__(self, connections: Connections, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connections = connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._reading_timer: asyncio.TimerHandle | None = None
        self._left = 0
        """Bytes of an answer that its client had not read when it was last looked at."""

    @property
    def held_bytes(self) -> int:
        """Bytes of answers that wait in this process for its client."""
        return self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connections.add(self)
        if not transport.is_closing():
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        self._stop_head_timer()
        self._stop_reading_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def cut(self, why: str) -> None:
        """End it at once; what was not sent is lost."""
        log.info("A connection was cut.", extra=fields(reason=why, client=self.client[0] if self.client else None))
        self.transport.abort()

    # -- the head of a request

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_head_timer()
            self._connections.busy(self)
        elif self._head_timer is None and self.timeout_keep_alive_task is None:
            self._await_head()  # the beginning of another head

    def on_response_complete(self) -> None:
        self._connections.idle(self)
        super().on_response_complete()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self.cut, "the head of its request did not come in time")

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    # -- the answer

    def pause_writing(self) -> None:
        super().pause_writing()
        self._connections.unread(self)
        if not self.transport.is_closing() and self._reading_timer is None:
            self._left = self._unread_bytes()
            self._reading_timer = self.loop.call_later(STALL_S, self._see_reading)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._connections.read(self)
        self._stop_reading_timer()

    def timeout_keep_alive_handler(self) -> None:
        if self._reading_timer is not None:  # uvicorn counts from the end of writing; who reads steadily needs longer
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif self.held_bytes:  # to close it in order would wait for a client that does not read
            self.cut("its answer was not read")
        else:
            super().timeout_keep_alive_handler()

    def _see_reading(self) -> None:
        left = self._unread_bytes()
        if self._left - left < LEAST_BYTES_PER_S * STALL_S:
            self.cut("its answer was not read")
        else:
            self._left = left
            self._reading_timer = self.loop.call_later(STALL_S, self._see_reading)

    def _unread_bytes(self) -> int:
        """What waits here and in the system's own buffer, which takes megabytes at a time."""
        try:
            import fcntl
            import termios

            socket = self.transport.get_extra_info("socket")
            (queued,) = struct.unpack("i", fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4)))
        except (ImportError, OSError, AttributeError):
            queued = 0
        return self.held_bytes + int(queued)

    def _stop_reading_timer(self) -> None:
        if self._reading_timer is not None:
            self._reading_timer.cancel()
            self._reading_timer = None


def silence_accept_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Say once a minute that no connection can be accepted: asyncio says it two thousand times a second."""
    next_at = 0.0

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal next_at
        if "socket.accept() out of system resource" not in str(context.get("message")):
            loop.default_exception_handler(context)
        elif loop.time() >= next_at:
            next_at = loop.time() + ACCEPT_MESSAGE_EVERY_S
            log.error("No connection can be accepted: this process has no descriptor left (ulimit -n).")

    loop.set_exception_handler(handle)

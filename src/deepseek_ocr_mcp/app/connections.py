"""Bounds the connections of the HTTP server, so that no silent client, and none that does not read, keeps one.

- There are at most as many connections as the process has descriptors for, less those that it needs itself. One more
  ends the connection that has been idle longest; if none is idle, the new one is closed at once. So `accept` never
  fails.
- A client that does not send the head of a request in time is cut off: at first, and between two requests.
- A client that reads its answer more slowly than `LEAST_BYTES_PER_S` is cut off. `MAX_UNREAD_BYTES` of all answers may
  wait to be read.
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

KEEP_ALIVE_S: Final = 75  # seconds; nginx keeps an idle connection for 60 s, and must not write into a closed one
HEAD_S: Final = 20.0  # seconds; the head of a request has a few hundred bytes
STALL_S: Final = 30.0  # seconds between two checks of the bytes that were read
LEAST_BYTES_PER_S: Final = 16 * 1024  # a telephone with bad reception reads faster
MAX_UNREAD_BYTES: Final = 256 << 20  # bytes of all answers that wait for slow readers; the largest has 90 MB
RESERVED: Final = 320  # descriptors for documents, children, and 128 connections that are accepted at once and then cut
MOST_DESCRIPTORS: Final = 65_536  # descriptors; for more connections there should be several servers
ACCEPT_MESSAGE_EVERY_S: Final = 60.0


def most_connections() -> int:
    """Raise the limit of descriptors as far as the system allows. Returns the number of connections that it permits."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return MOST_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MOST_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < goal:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
            soft = goal
    available = MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(MOST_DESCRIPTORS, soft)
    return max(available // 2, available - RESERVED)


class Connections:
    """All connections of one server."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._all: set[BoundedConnection] = set()
        self._idle: dict[BoundedConnection, None] = {}
        """The connections without a request, the longest idle first."""
        self._unread: dict[BoundedConnection, None] = {}
        """The connections whose client reads more slowly than the server writes, the oldest first."""

    def __repr__(self) -> str:
        return f"<Connections {len(self._all)} of {self.limit}, {len(self._idle)} idle, {len(self._unread)} unread>"

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: BoundedConnection) -> None:
        """Add a new connection. If there are too many, it takes the place of an idle one."""
        if len(self._all) >= self.limit:
            ended = next(iter(self._idle), connection)
            self.remove(ended)
            ended.cut("too many connections")
            if ended is connection:
                return
        self._all.add(connection)
        self._idle[connection] = None

    def remove(self, connection: BoundedConnection) -> None:
        """Forget a connection that is closed."""
        self._all.discard(connection)
        self._idle.pop(connection, None)
        self._unread.pop(connection, None)

    def busy(self, connection: BoundedConnection) -> None:
        """Note that a connection has a request."""
        self._idle.pop(connection, None)

    def idle(self, connection: BoundedConnection) -> None:
        """Note that the request of a connection was answered."""
        if connection in self._all:
            self._idle.pop(connection, None)
            self._idle[connection] = None

    def unread(self, connection: BoundedConnection) -> None:
        """Note that the client of a connection does not read, and cut the oldest such connections if the bound is
        exceeded."""
        if connection in self._all:
            self._unread[connection] = None
        while sum(each.held_bytes for each in self._unread) > MAX_UNREAD_BYTES:
            slowest = next(iter(self._unread))
            self.remove(slowest)
            slowest.cut("too many bytes wait for slow readers")

    def read(self, connection: BoundedConnection) -> None:
        """Note that the client of a connection has read everything."""
        self._unread.pop(connection, None)

    def protocol(self, *arguments: Any, **options: Any) -> BoundedConnection:
        """The protocol for a new connection, for `uvicorn.Config(http=…)`."""
        return BoundedConnection(self, *arguments, **options)


class BoundedConnection(H11Protocol):
    """A connection of uvicorn, with bounds."""

    def __init__(self, connections: Connections, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connections = connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._reading_timer: asyncio.TimerHandle | None = None
        self._left = 0
        """The bytes of an answer that its client had not read at the last check."""

    @property
    def held_bytes(self) -> int:
        """The bytes of answers that wait in this process for its client."""
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
        """End the connection at once. Bytes that were not sent are lost."""
        log.info("A connection was cut.", extra=fields(reason=why, client=self.client[0] if self.client else None))
        self.transport.abort()

    # -- the head of a request

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_head_timer()
            self._connections.busy(self)
        elif self._head_timer is None and self.timeout_keep_alive_task is None:
            self._await_head()  # the head of another request has begun

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
        if self._reading_timer is not None:  # uvicorn counts from the end of writing; a steady reader needs longer
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif self.held_bytes:  # an orderly close would wait for a client that does not read
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
        """The bytes that wait here and in the buffer of the system, which takes megabytes at a time."""
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
    """Log once a minute that no connection can be accepted. asyncio logs it two thousand times a second."""
    next_at = 0.0

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal next_at
        if "socket.accept() out of system resource" not in str(context.get("message")):
            loop.default_exception_handler(context)
        elif loop.time() >= next_at:
            next_at = loop.time() + ACCEPT_MESSAGE_EVERY_S
            log.error("No connection can be accepted: this process has no descriptor left (ulimit -n).")

    loop.set_exception_handler(handle)

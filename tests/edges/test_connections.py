"""Connections that say nothing, do not listen, or are too many; over real sockets, by a clock that is put forward."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import pytest
import uvicorn

from deepseek_ocr_mcp.app import connections as module
from deepseek_ocr_mcp.app.connections import (
    HEAD_S,
    STALL_S,
    BoundedConnection,
    Connections,
    silence_accept_errors,
)

pytestmark = pytest.mark.anyio

LARGE = 32 << 20  # more than any system keeps for a socket
REQUEST = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers `/large` with many bytes, `/wait` never, and all else shortly."""
    if scope["path"] == "/wait":
        await receive()
        await receive()
        return
    body = bytes(LARGE) if scope["path"] == "/large" else b"ok"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class WatchedConnections(Connections):
    """Wakes whoever waits for a change, and puts the clock of the event loop forward."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.came = 0
        """Connections since the beginning."""
        self._news = anyio.Event()
        self._loop = asyncio.get_running_loop()
        self._bound = anyio.fail_after(60)

    def add(self, connection: BoundedConnection) -> None:
        self.came += 1
        super().add(connection)
        self._wake()

    def remove(self, connection: BoundedConnection) -> None:
        super().remove(connection)
        self._wake()

    def busy(self, connection: BoundedConnection) -> None:
        super().busy(connection)
        self._wake()

    def unread(self, connection: BoundedConnection) -> None:
        super().unread(connection)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this is true of the connections."""
        while not condition():
            await self._news.wait()

    async def until_all_busy(self, count: int) -> None:
        """Wait until there are so many connections, with a request each."""
        await self.until(lambda: len(self) == count and not self._idle)

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """For a minute of the real clock."""
        with self._bound as self._scope:
            yield

    async def forward(self, seconds: float) -> None:
        """Let so much time pass at once; whatever was to happen by then has happened."""
        now = self._loop.time
        self._scope.deadline += seconds
        self._loop.time = lambda: now() + seconds  # type: ignore[method-assign]
        for _ in range(3):  # a timer, what it closes, and who hears of it
            await asyncio.sleep(0)


@asynccontextmanager
async def serving(limit: int = 100) -> AsyncIterator[tuple[int, WatchedConnections]]:
    """The port, and what is known of its connections."""
    connections = WatchedConnections(limit)
    config = uvicorn.Config(
        application,
        http=connections.protocol,
        lifespan="off",
        log_config=None,
        ws="none",  # type: ignore[arg-type]
    )
    config.load()
    state = uvicorn.Server(config).server_state
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: connections.protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    try:
        with connections.bounded():
            yield server.sockets[0].getsockname()[1], connections
    finally:
        for each in list(state.connections):
            each.transport.abort()
        server.close()
        for task in state.tasks:
            task.cancel()
        await asyncio.sleep(0)


async def connect(port: int) -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
    return made


async def ask(made: socket.socket, path: bytes = b"") -> bytes:
    """The beginning of the answer; empty where the connection was closed."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(made, REQUEST % path)
    return await received(made)


async def received(made: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(made, 1000)
    except ConnectionResetError:
        return b""


async def test_who_says_nothing_is_cut() -> None:
    async with serving() as (port, connections):
        with await connect(port) as silent:
            await connections.until(lambda: len(connections) == 1)
            await connections.forward(HEAD_S - 1)
            assert len(connections) == 1
            await connections.forward(2)
            assert await received(silent) == b""
        assert len(connections) == 0


async def test_who_sends_the_head_of_a_request_byte_by_byte_is_cut_between_two_requests_too() -> None:
    async with serving() as (port, connections):
        with await connect(port) as slow:
            assert (await ask(slow)).startswith(b"HTTP/1.1 200")
            await asyncio.get_running_loop().sock_sendall(slow, b"GET / HTT")
            for _ in range(4):
                await connections.forward(HEAD_S)
            assert await received(slow) == b""
        assert len(connections) == 0


async def test_who_waits_for_its_answer_is_not_cut() -> None:
    async with serving() as (port, connections):
        with await connect(port) as patient:
            await asyncio.get_running_loop().sock_sendall(patient, REQUEST % b"wait")
            await connections.until_all_busy(1)
            await connections.forward(100 * HEAD_S)
            assert len(connections) == 1


async def test_who_does_not_read_its_answer_is_cut() -> None:
    async with serving() as (port, connections):
        with await connect(port) as deaf:
            await asyncio.get_running_loop().sock_sendall(deaf, REQUEST % b"large")
            await connections.until(lambda: bool(connections._unread))
            await connections.forward(STALL_S + 1)
            await connections.until(lambda: not len(connections))


async def test_who_reads_slowly_but_steadily_gets_all_of_it() -> None:
    async with serving() as (port, connections):
        with await connect(port) as slow:
            loop, got = asyncio.get_running_loop(), 0
            await loop.sock_sendall(slow, REQUEST % b"large")
            while got < LARGE:
                piece = await loop.sock_recv(slow, 1 << 20)
                assert piece, "it was cut"
                got += len(piece)
                await connections.forward(1)


async def test_what_waits_for_slow_readers_is_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNREAD_BYTES", 2 * LARGE)
    async with serving() as (port, connections):
        made = []
        for _ in range(4):
            made.append(await connect(port))
            await asyncio.get_running_loop().sock_sendall(made[-1], REQUEST % b"large")
        await connections.until(lambda: connections.came == 4 and len(connections) == 2)
        assert sum(each.held_bytes for each in connections._unread) <= 2 * LARGE
        for each in made:
            each.close()


async def test_one_connection_too_many_ends_the_one_that_was_idle_longest() -> None:
    async with serving(limit=2) as (port, connections):
        with await connect(port) as first, await connect(port) as second:
            assert await ask(first)
            assert await ask(second)
            assert await ask(first)  # so the second is idle longest
            with await connect(port) as third:
                assert (await ask(third)).startswith(b"HTTP/1.1 200")
            assert await received(second) == b""
            assert await ask(first)
        assert connections.limit == 2


async def test_where_all_are_busy_a_further_connection_is_closed_and_the_others_are_served() -> None:
    async with serving(limit=2) as (port, connections):
        with await connect(port) as first, await connect(port) as second:
            for each in (first, second):
                await asyncio.get_running_loop().sock_sendall(each, REQUEST % b"wait")
            await connections.until_all_busy(2)
            with await connect(port) as third:
                assert await received(third) == b""
            assert len(connections) == 2


async def test_that_nothing_can_be_accepted_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    silence_accept_errors(loop)
    with caplog.at_level(logging.ERROR):
        for _ in range(1000):
            loop.call_exception_handler({"message": "socket.accept() out of system resource"})
        loop.call_exception_handler({"message": "something else"})
    loop.set_exception_handler(None)
    assert [record.message for record in caplog.records if "descriptor" in record.message] == [
        "No connection can be accepted: this process has no descriptor left (ulimit -n)."
    ]
    assert any("something else" in record.message for record in caplog.records)

"""Connections that say nothing, do not listen, or are too many; over real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import uvicorn

from deepseek_ocr_mcp.app import connections as module
from deepseek_ocr_mcp.app.connections import Connections, silence_accept_errors

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


@asynccontextmanager
async def serving(limit: int = 100) -> AsyncIterator[tuple[int, Connections]]:
    """The port, and what is known of its connections."""
    connections = Connections(limit)
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
        with anyio.fail_after(20):
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


async def test_who_says_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.1)
    async with serving() as (port, connections):
        with await connect(port) as silent:
            assert await received(silent) == b""
        assert len(connections) == 0


async def test_who_sends_the_head_of_a_request_byte_by_byte_is_cut_between_two_requests_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.2)
    async with serving() as (port, connections):
        with await connect(port) as slow:
            assert (await ask(slow)).startswith(b"HTTP/1.1 200")
            await asyncio.get_running_loop().sock_sendall(slow, b"GET / HTT")
            assert await received(slow) == b""
        assert len(connections) == 0


async def test_who_waits_for_its_answer_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.05)
    async with serving() as (port, connections):
        with await connect(port) as patient:
            await asyncio.get_running_loop().sock_sendall(patient, REQUEST % b"wait")
            await anyio.sleep(0.3)
            assert len(connections) == 1


async def test_who_does_not_read_its_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_S", 0.2)
    async with serving() as (port, connections):
        with await connect(port) as deaf:
            await asyncio.get_running_loop().sock_sendall(deaf, REQUEST % b"large")
            while not len(connections):
                await anyio.sleep(0.01)
            while len(connections):
                await anyio.sleep(0.01)


async def test_who_reads_slowly_but_steadily_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_S", 0.2)
    async with serving() as (port, _):
        with await connect(port) as slow:
            loop, got = asyncio.get_running_loop(), 0
            await loop.sock_sendall(slow, REQUEST % b"large")
            while got < LARGE:
                piece = await loop.sock_recv(slow, 1 << 20)
                assert piece, "it was cut"
                got += len(piece)
                await anyio.sleep(0.02)


async def test_what_waits_for_slow_readers_is_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNREAD_BYTES", 2 * LARGE)
    async with serving() as (port, connections):
        made = []
        for _ in range(4):
            made.append(await connect(port))
            await asyncio.get_running_loop().sock_sendall(made[-1], REQUEST % b"large")
        while len(connections) > 2:
            await anyio.sleep(0.01)
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
            while connections._idle or len(connections) < 2:
                await anyio.sleep(0.01)
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

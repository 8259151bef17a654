"""The door that closes while requests are under way; on virtual time where seconds count."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from deepseek_ocr_mcp.edges.http.drain import Drain
from deepseek_ocr_mcp.errors import NotReady

pytestmark = pytest.mark.anyio


class Requests:
    """An application whose requests end when they are told to."""

    def __init__(self, drain: Drain) -> None:
        self.app = drain.middleware(self._app)
        self.end = anyio.Event()
        self.sent: list[Message] = []

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask(self, method: str = "POST") -> None:
        async def receive() -> Message:
            raise AssertionError("nothing is read")

        async def send(message: Message) -> None:
            self.sent.append(message)

        await self.app({"type": "http", "method": method}, receive, send)


async def test_what_is_under_way_is_answered_before_the_end() -> None:
    drain = Drain()
    requests = Requests(drain)
    left: list[int] = []

    async def finish() -> None:
        left.append(await drain.finish(10))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(requests.ask)
            tasks.start_soon(requests.ask)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(finish)
            await anyio.wait_all_tasks_blocked()
            assert not left
            requests.end.set()
    assert left == [0]
    assert [message["status"] for message in requests.sent] == [200, 200]


async def test_new_work_is_refused_with_the_time_to_come_again_and_a_look_is_not() -> None:
    drain = Drain()
    requests = Requests(drain)
    requests.end.set()
    assert await drain.finish(0) == 0
    await requests.ask()
    start, body = requests.sent
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"5"
    assert dict(start["headers"])[b"connection"] == b"close"
    assert set(json.loads(body["body"])["error"]) == {"code", "message", "remedy"}
    requests.sent.clear()
    await requests.ask("GET")
    assert requests.sent[0]["status"] == 200
    with pytest.raises(NotReady, match="shutting down"):
        drain.refuse_when_closing()


async def test_what_takes_longer_than_the_grace_period_is_counted() -> None:
    drain = Drain()
    requests = Requests(drain)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(requests.ask)
        await anyio.wait_all_tasks_blocked()
        assert await drain.finish(0.05) == 1
        tasks.cancel_scope.cancel()


async def test_a_request_that_fails_is_not_waited_for() -> None:
    drain = Drain()

    async def failing(*_: Any) -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - its own
        await drain.middleware(failing)({"type": "http", "method": "POST"}, None, None)  # type: ignore[arg-type]
    assert await drain.finish(1) == 0

"""Answers over HTTP that take time: event streams, files, and an end to work that no client waits for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

import anyio
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ...errors import OcrError, cause_of
from ...text import well_formed_values
from .auth import error_body
from .shapes import log, unforeseen

__all__ = ["ClientGone", "Emit", "EventStream", "FileAnswer", "while_connected"]


PING_S: Final = 15.0  # proxies close what is silent for a minute, some for half of one


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


T = TypeVar("T")


async def while_connected(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """Do the work, and cancel it when the client hangs up. The body of the request has been read.

    Raises:
        ClientGone: it did.
    """
    results: list[T] = []

    async def watch() -> None:
        await _gone(receive)
        tasks.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            results.append(await work())
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise cause_of(group) from None
    if not results:
        raise ClientGone
    return results[0]


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


Emit = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Sends an event with this name and these data."""


class EventStream(Response):
    """Server-sent events: the work's own, then `error` if it failed. The work ends when the client goes."""

    media_type = "text/event-stream"

    def __init__(self, work: Callable[[Emit], Awaitable[None]], resources: AsyncExitStack) -> None:
        """
        Args:
            resources: closed when the stream ends.
        """
        super().__init__(headers={"X-Accel-Buffering": "no"})  # nginx would hold the events back
        del self.headers["content-length"]
        self._work = work
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def ping() -> None:
            while True:
                await anyio.sleep(PING_S)
                await send(_chunk(": ping\n\n"))

        async def work() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ping)
                await self._told(send)
                tasks.cancel_scope.cancel()

        async with self._resources:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                await while_connected(receive, work)
            except ClientGone:
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _told(self, send: Send) -> None:
        async def emit(event: str, data: Mapping[str, Any]) -> None:
            text = json.dumps(well_formed_values(data), separators=(",", ":"))
            await send(_chunk(f"event: {event}\ndata: {text}\n\n"))

        try:
            await self._work(emit)
        except OcrError as exc:
            await emit("error", error_body(exc) | {"status": exc.http_status})
        except Exception:
            log.exception("A request failed in a way nobody foresaw.")
            error = unforeseen()
            await emit("error", error_body(error) | {"status": error.http_status})


class FileAnswer(FileResponse):
    """A file that lasts until it is sent."""

    def __init__(self, path: str, media_type: str, name: str, resources: AsyncExitStack) -> None:
        super().__init__(path, media_type=media_type, filename=name)
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._resources:
            await super().__call__(scope, receive, send)


def _chunk(text: str) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}

"""Sends answers that take time: event streams and files. Work ends when no client waits for it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

import anyio
from sse_starlette import EventSourceResponse
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from ...errors import OcrError, cause_of, unforeseen
from ...text import well_formed_values
from .auth import error_body
from .shapes import log

__all__ = ["ClientGone", "Emit", "EventStream", "FileAnswer", "while_connected"]


PING_S: Final = 15  # seconds; proxies close a connection that is silent for a minute, some after half a minute


EVENTS: Final = 8  # events that may wait for a slow client; then the work waits, too


class ClientGone(Exception):
    """The client closed its connection, so that nobody needs the answer."""


T = TypeVar("T")


async def while_connected(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """Do the work, and cancel it when the client hangs up. The body of the request has been read.

    Raises:
        ClientGone: the client has hung up.
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
"""Sends an event with a name and data."""


class EventStream(EventSourceResponse):
    """Stream the events of some work, then `error` if the work failed. The work ends when the client goes.

    Args:
        work: emits the events.
        resources: closed when the stream ends.
    """

    def __init__(self, work: Callable[[Emit], Awaitable[None]], resources: AsyncExitStack) -> None:
        self._work = work
        self._resources = resources
        self._events, received = anyio.create_memory_object_stream[dict[str, str]](EVENTS)
        super().__init__(
            received,
            sep="\n",
            ping=PING_S,
            headers={"X-Accel-Buffering": "no"},  # else nginx holds the events back
            data_sender_callable=self._run,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._resources, self._events:
            await super().__call__(scope, receive, send)

    async def _run(self) -> None:
        async with self._events:
            try:
                await self._work(self._emit)
            except OcrError as exc:
                await self._emit("error", error_body(exc) | {"status": exc.http_status})
            except Exception as exc:
                log.exception("A request failed in a way that this program does not foresee.")
                error = unforeseen(exc, "The request")
                await self._emit("error", error_body(error) | {"status": error.http_status})

    async def _emit(self, event: str, data: Mapping[str, Any]) -> None:
        text = json.dumps(well_formed_values(data), separators=(",", ":"))
        await self._events.send({"event": event, "data": text})


class FileAnswer(FileResponse):
    """A file that lasts until it is sent.

    Args:
        path: the file.
        media_type: its media type.
        name: the name under which a browser saves it.
        resources: is closed when the answer has ended.
    """

    def __init__(self, path: str, media_type: str, name: str, resources: AsyncExitStack) -> None:
        super().__init__(path, media_type=media_type, filename=name)
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._resources:
            await super().__call__(scope, receive, send)

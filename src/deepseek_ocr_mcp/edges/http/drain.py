"""Ends the HTTP server in order: requests that are being read are answered, new ones are refused with a time to retry.

A request counts from its first byte to the last byte of its answer. Open event streams of MCP do not count, because
they never end by themselves.
"""

from __future__ import annotations

import json
import math
from typing import Final

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import NotReady
from .auth import error_body

__all__ = ["Drain"]

WORKING: Final = frozenset({"PATCH", "POST", "PUT"})  # the methods of all requests that take time
RETRY_S: Final = 5  # seconds; by then another server has taken its place


class Drain:
    """Counts the requests that are being answered. `middleware` counts and refuses; `finish` waits."""

    def __init__(self) -> None:
        self.closing = False
        self._under_way = 0
        self._done = anyio.Event()

    def __repr__(self) -> str:
        return f"<Drain {self._under_way} under way{', closing' if self.closing else ''}>"

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """An application that refuses new work after `finish` was called."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["method"] not in WORKING:
                await app(scope, receive, send)
            elif self.closing:
                await _refuse(send)
            else:
                self._under_way += 1
                try:
                    await app(scope, receive, send)
                finally:
                    self._under_way -= 1
                    if not self._under_way:
                        self._done.set()

        return counted

    def refuse_when_closing(self) -> None:
        """Raise `NotReady` if `finish` was called."""
        if self.closing:
            raise _closing()

    async def finish(self, within_s: float) -> int:
        """Refuse new work, and wait for the requests that are being answered.

        Args:
            within_s: seconds; the caller has to end requests that are not done by then.

        Returns:
            The number of requests that are not done.
        """
        self.closing = True
        with anyio.move_on_after(within_s if math.isfinite(within_s) else None):
            while self._under_way:
                self._done = anyio.Event()
                await self._done.wait()
        return self._under_way


def _closing() -> NotReady:
    error = NotReady("The server is shutting down.", remedy="Send the request again, to the server that takes over.")
    error.retry_after_s = RETRY_S
    return error


async def _refuse(send: Send) -> None:
    error = _closing()
    body = json.dumps(error_body(error)).encode()
    start: Message = {
        "type": "http.response.start",
        "status": error.http_status,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", str(RETRY_S).encode()),
            (b"connection", b"close"),
        ],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})

"""Gives every HTTP request an id, and writes one line for it: method, path, status and seconds.

The line holds no query, no header and no body. This is pure ASGI and the outermost layer, so that refusals have an id
and a line, too. A valid `X-Request-ID` of the caller is kept, and every answer carries the id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...logs import fields, is_request_id, request
from ..mcp.passwords import PASSWORDS

__all__ = ["Access"]


log = logging.getLogger(__name__)

HEADER: Final = "x-request-id"
NAMED: Final = ("/documents/", PASSWORDS)  # a name behind them opens something, and must not reach the log
WATCHED: Final = frozenset({"/health", "/metrics"})  # paths that monitors ask every few seconds


class Access:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, answered: Callable[[int], None]) -> None:
        """
        Args:
            answered: called with the status of each answer.
        """
        self._app = app
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        status: int | None = None
        began = time.monotonic()
        with request(given if is_request_id(given) else "") as made:

            async def marked(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    headers = [*message.get("headers", ()), (HEADER.encode(), made.encode())]
                    message = {**message, "headers": headers}
                await send(message)

            try:
                await self._app(scope, receive, marked)
            except Exception:
                status = status or 500  # the answer of uvicorn to an exception
                raise
            finally:
                if status is not None:
                    self._answered(status)
                quiet = scope["path"] in WATCHED and status is not None and status < 400
                log.log(
                    logging.DEBUG if quiet else logging.INFO,
                    "An HTTP request has ended." if status else "An HTTP request was given up by its caller.",
                    extra=fields(
                        method=scope["method"],
                        path=_without_name(scope["path"]),
                        status=status,
                        seconds=round(time.monotonic() - began, 3),
                        client=scope["client"][0] if scope.get("client") else None,
                    ),
                )


def _without_name(path: str) -> str:
    return next((f"{start}…" for start in NAMED if path.startswith(start)), path)

"""Every HTTP request has an id and leaves one line: method, path, status, seconds; never a query, a header or a body.

Pure ASGI and the outermost layer, so that refusals have both too. An `X-Request-ID` that a caller sends is kept,
if it is one, and every answer carries the id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...logs import fields, is_request_id, request

__all__ = ["Access"]


log = logging.getLogger(__name__)

HEADER: Final = "x-request-id"
NAMED: Final = "/documents/"  # the name that follows is as good as the document, and stays out of the log
WATCHED: Final = frozenset({"/health", "/metrics"})  # asked every few seconds, for ever


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
                status = status or 500  # the server answers so
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
                        path=f"{NAMED}…" if scope["path"].startswith(NAMED) else scope["path"],
                        status=status,
                        seconds=round(time.monotonic() - began, 3),
                        client=scope["client"][0] if scope.get("client") else None,
                    ),
                )

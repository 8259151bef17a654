"""Makes the server of the HTTP edge. It leaves signals to `signals.py`.

It is imported only when HTTP is served, because the import of uvicorn takes time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import uvicorn

from ..config import Settings
from ..edges.sleeping_server import SleepingServer
from .connections import KEEP_ALIVE_S, Connections, most_connections

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["BACKLOG", "http_server"]

DRAIN_S: Final = 1  # seconds after OCR_DRAIN_SECONDS, because open event streams never end by themselves
BACKLOG: Final = 128  # connections that wait to be accepted; asyncio accepts as many at once, and each may fail


def http_server(app: ASGIApp, settings: Settings, stop: anyio.Event) -> SleepingServer:
    """A server for the HTTP edge.

    Args:
        app: the edge.
        settings: the settings of the operator.
        stop: set when the server should end.
    """
    return SleepingServer(
        uvicorn.Config(
            app,
            http=Connections(most_connections()).protocol,  # type: ignore[arg-type]
            timeout_keep_alive=KEEP_ALIVE_S,
            backlog=BACKLOG,
            log_config=None,  # logs.py gives its lines our form
            access_log=False,  # edges/http/access.py writes these lines, without queries
            timeout_graceful_shutdown=DRAIN_S,
            ws="none",
            proxy_headers=bool(settings.ocr_trusted_proxies),
            forwarded_allow_ips=list(settings.ocr_trusted_proxies),
            date_header=False,  # the timer that would keep the date right is gone
        ),
        stop,
    )

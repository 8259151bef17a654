"""The HTTP server's routes: `/mcp` for agents, `/health` for whoever watches over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .. import __version__
from ..service import OcrService
from .access import Access
from .auth import Guard, transport_security
from .metrics import Metrics

__all__ = ["build_http"]

BASE64_GROWTH: Final = 4 / 3
JSON_ROOM_BYTES: Final = 64 * 1024  # what a request holds beside its image


def build_http(service: OcrService, mcp: MCPServer) -> Starlette:
    """The ASGI application. Its lifespan runs MCP's sessions; the service runs outside of it."""
    settings = service.settings
    mcp_app = mcp.streamable_http_app(
        streamable_http_path="/mcp",
        max_request_body_size=int(settings.max_file_bytes * BASE64_GROWTH) + JSON_ROOM_BYTES,
        transport_security=transport_security(settings),
        host=settings.host,
    )

    async def health(request: Request) -> Response:
        """Never waits: it tells that the server answers, and what its model is doing."""
        return JSONResponse({"status": "ok", "version": __version__, "engine": service.engine.name})

    metrics = Metrics(service)

    async def scrape(request: Request) -> Response:
        body, kind = await metrics.render()
        return Response(body, media_type=kind)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with mcp.session_manager.run():
            yield

    return Starlette(
        routes=[*mcp_app.routes, Route("/health", health), Route("/metrics", scrape)],
        middleware=[Middleware(Access, answered=metrics.answered), Middleware(Guard, settings=settings)],
        lifespan=lifespan,
    )

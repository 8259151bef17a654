"""Builds the HTTP application: the API, MCP, the page, access checks and error answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from mcp.server.mcpserver import MCPServer
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ... import __version__
from ...config import Settings
from ...errors import BadRequest, MethodNotAllowed, NotFound, OcrError, unforeseen
from ...logs import fields
from ...service.service import OcrService
from ..web_folder import WEB
from .access import Access
from .api import COMPONENTS, Api, log
from .auth import Guard, SecurityHeaders, transport_security
from .bodies import BodyLimits, largest_body
from .documents import DocumentRoutes
from .drain import Drain
from .loaders import Loaders
from .metrics import Metrics
from .refusals import REMEDY, problems_of
from .shapes import ExportRequest, Problem, failure
from .stream import ClientGone
from .uploads import TUS_VERSION, Uploads, WrongTusVersion

__all__ = ["build_http"]

CLIENT_GONE_STATUS: Final = 499  # for the access log; the client is gone

DESCRIPTION: Final = """\
Reads text from images and PDFs. `POST /ocr` takes a page, `POST /ocr-pdf` a document; both take a form with a `file`, \
or JSON with an `image`. With `Accept: text/event-stream` they tell how far they are, and give each page as soon as it \
is read. A document that was sent to `POST /documents` is not sent again: give its name as `document`. The same server \
speaks MCP at `/mcp`.

Every error has the body `{"error": {"code", "message", "remedy"}}`. Boxes are `[x1, y1, x2, y2]` in pixels of the \
upright page, origin top left."""

# FastAPI can report to OpenTelemetry, and reads the environment for it; requests stay private.
NO_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False,
}  # fmt: skip


ERRORS: Final = {
    401: "no token, or another one",
    403: "an origin, a path or an address that the operator keeps out",
    404: "no such file or address",
    408: "the body came too slowly",
    409: "a piece of an upload that belongs elsewhere",
    412: "another version of tus",
    413: "too many bytes, pixels or pages",
    415: "no document that is read",
    421: "another Host name",
    422: "an argument that makes no sense",
    429: "the queue is full; Retry-After tells the seconds",
    500: "a fault of the server or of its engine",
    503: "busy, or not ready yet; Retry-After tells the seconds where they are known",
    504: "it took longer than the operator allows",
}
"""The meaning of each status of an error, for the schema."""


def build_http(service: OcrService, mcp: MCPServer, drain: Drain | None = None) -> FastAPI:
    """The ASGI application. Its lifespan runs MCP's sessions; the service runs outside of it.

    Args:
        service: reads the documents.
        mcp: the MCP server, which is mounted at `/mcp`.
        drain: refuses new work once the server is told to end; None: nothing tells it to end.
    """
    drain = drain or Drain()
    settings = service.settings
    mcp_app = mcp.streamable_http_app(
        streamable_http_path="/mcp",
        max_request_body_size=largest_body(settings),
        transport_security=transport_security(settings),
        host=settings.host,
    )

    metrics = Metrics(service)
    uploads = Uploads(service)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with uploads.running(), mcp.session_manager.run():
            yield

    app = _App(
        title="deepseek-ocr-mcp",
        version=__version__,
        description=DESCRIPTION,
        telemetry=NO_TELEMETRY,
        docs_url=None,  # its page loads from a foreign host
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,  # the name in generated clients
        lifespan=lifespan,
        exception_handlers={
            OcrError: _on_error,
            RequestValidationError: _on_validation,
            HTTPException: _on_http,
            ClientGone: _on_gone,
            ClientDisconnect: _on_gone,
        },
        middleware=_middleware(settings, metrics, drain),
        responses={status: {"model": Problem, "description": text} for status, text in ERRORS.items()},
    )
    app.state.has_token = settings.ocr_auth_token is not None
    Api(service, metrics, drain, uploads).add_to(app)
    DocumentRoutes(service, uploads).add_to(app)
    Loaders(service).add_to(app)
    app.router.routes.extend(mcp_app.routes)
    app.mount("/static", StaticFiles(directory=WEB, check_dir=False), name="static")
    return app


def _middleware(settings: Settings, metrics: Metrics, drain: Drain) -> list[Middleware]:
    """The layers around the routes, the outermost first."""
    return [
        Middleware(Access, answered=metrics.answered),
        Middleware(SecurityHeaders),
        Middleware(_LastResort),
        Middleware(BodyLimits, settings=settings),
        Middleware(drain.middleware),  # behind the limits, which let a client that is refused send its body
        Middleware(Guard, settings=settings),
    ]


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The schema. Bodies that are read piece by piece are not in the signatures: their parts come from here."""
        made = self.openapi_schema is None
        schema = super().openapi()
        if made:
            export = ExportRequest.model_json_schema(ref_template=COMPONENTS + "{model}")
            schema["components"]["schemas"] |= export.pop("$defs") | {"ExportRequest": export}
            if self.state.has_token:
                schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                schema["security"] = [{"token": []}]
        return schema


async def _on_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, OcrError)
    log.info("A request was refused.", extra=fields(error=exc.code))
    answer = failure(exc)
    if isinstance(exc, WrongTusVersion):
        answer.headers["Tus-Version"] = TUS_VERSION
    return answer


async def _on_validation(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    return failure(BadRequest(f"The request cannot be used. {problems_of(exc.errors())}", remedy=REMEDY))


async def _on_http(request: Request, exc: Exception) -> Response:
    """The answer to a request that the routing itself refuses."""
    assert isinstance(exc, HTTPException)
    path = ascii(request.url.path[:80])
    error: OcrError
    match exc.status_code:
        case 404:
            error = NotFound(f"There is nothing at {path}.", remedy="GET /docs lists the paths.")
        case 405:
            error = MethodNotAllowed(f"{path} does not answer {request.method}.", remedy="GET /docs shows its methods.")
        case _:
            error = BadRequest(f"{exc.detail}.", remedy="GET /docs shows the arguments.")
    answer = failure(error, exc.status_code)
    answer.headers.update(exc.headers or {})
    return answer


async def _on_gone(request: Request, exc: Exception) -> Response:
    return Response(status_code=CLIENT_GONE_STATUS)


class _LastResort:
    """ASGI middleware: an unexpected exception is logged, and answered like any other error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as exc:
            if scope["type"] != "http" or started:
                raise
            log.exception("A request failed in a way that this program does not foresee.")
            await failure(unforeseen(exc, "The request"))(scope, receive, send)

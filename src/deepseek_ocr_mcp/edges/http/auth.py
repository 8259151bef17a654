"""Who may speak to the HTTP server: `Host`, `Origin` and the bearer token are checked before any route.

Pure ASGI: it never buffers a body and never waits. Every path is covered. `/health`, the page's own files and the
pages that ask for a password need no token: a browser that opens a page cannot send one. The first two hold no data;
the address of the third is the secret.
"""

from __future__ import annotations

import hmac
import json
from typing import Final

from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...config import Settings, is_loopback
from ...errors import BadRequest, InputForbidden, OcrError, Unauthorized
from ...text import well_formed_values
from ..mcp.passwords import PASSWORDS

__all__ = ["Guard", "SecurityHeaders", "check_bind", "client_of", "error_body", "error_headers", "transport_security"]


STATIC: Final = "/static/"
OPEN_PATHS: Final = frozenset({"/health"})
OPEN_PAGES: Final = frozenset({"/", "/docs"})  # to look at: GET and HEAD, as for everything below /static/
LOOKING: Final = ("GET", "HEAD")
ANSWERING: Final = (*LOOKING, "POST")  # of a page that asks for a password
CORS_MAX_AGE_S: Final = 600
CORS_EXPOSED: Final = (
    "Location", "Mcp-Session-Id", "Retry-After", "Tus-Resumable", "Upload-Length", "Upload-Offset", "X-Page-Count",
    "X-Page-Height", "X-Page-Width", "X-Request-ID",
)  # fmt: skip

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",  # for <img> and <script>; CORS asks elsewhere
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost", "[::1]")


def check_bind(settings: Settings) -> None:
    """Refuse to listen to a network without knowing who may speak.

    Raises:
        BadRequest: the address is not loopback, and the token or the allowed hosts are missing.
    """
    if is_loopback(settings.host):
        return
    missing = []
    if settings.ocr_auth_token is None:
        missing.append("OCR_AUTH_TOKEN (a long random string that clients send as their bearer token)")
    if not settings.ocr_allowed_hosts:
        missing.append("OCR_ALLOWED_HOSTS (the names that clients call this machine by)")
    if missing:
        raise BadRequest(
            f"{settings.host} can be reached from other machines.",
            remedy=f"Set {' and '.join(missing)}, or bind 127.0.0.1.",
        )


def transport_security(settings: Settings) -> TransportSecuritySettings:
    """The `Host` and `Origin` values that are served: loopback, and the names that the operator allows."""
    hosts = [*LOOPBACK_HOSTS, *settings.ocr_allowed_hosts]
    with_ports = [host if _has_port(host) else f"{host}:*" for host in hosts]
    origins = [f"http://{host}:*" for host in LOOPBACK_HOSTS] + [f"http://{host}" for host in LOOPBACK_HOSTS]
    return TransportSecuritySettings(
        allowed_hosts=hosts + with_ports,
        allowed_origins=[*origins, *settings.ocr_allowed_origins, *settings.ocr_cors_origins],
    )


def _has_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]


def _matches(value: str, allowed: list[str]) -> bool:
    for pattern in allowed:
        if value == pattern:
            return True
        if pattern.endswith(":*"):
            base, _, port = value.rpartition(":")
            if base == pattern[:-2] and port.isdecimal():
                return True
    return False


def error_body(error: OcrError) -> dict[str, dict[str, str]]:
    """The body of every HTTP error."""
    return {"error": well_formed_values(error.to_dict())}


def error_headers(error: OcrError) -> dict[str, str]:
    """The headers of an HTTP error: the seconds after which the client may come again, where they are known."""
    return {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}


def client_of(scope: Scope) -> str:
    """The name of the client for the queue: its address. There is one token for all, so the token names no client."""
    address = scope.get("client")
    return f"http {address[0]}" if address else "http"


class SecurityHeaders:
    """ASGI middleware around every answer: its headers limit what a browser may do with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A browser asks for files again each time, and gets them only when they have changed; answers are private.
        cache_control = "no-cache" if scope["path"] in OPEN_PAGES or scope["path"].startswith(STATIC) else "no-store"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)  # the page that asks for a password has a policy of its own
                headers["Cache-Control"] = cache_control
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._security = transport_security(settings)
        token = settings.ocr_auth_token
        self._token = None if token is None else token.get_secret_value().encode()
        self._cors_origins = frozenset(settings.ocr_cors_origins)
        self._cors = CORSMiddleware(
            self._with_token,
            allow_origins=settings.ocr_cors_origins,
            allow_methods=("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"),
            allow_headers=("*",),  # there are no cookies: a client with the token may send any header
            expose_headers=CORS_EXPOSED,
            max_age=CORS_MAX_AGE_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if (refusal := self._foreign(headers)) is not None:
            await _refuse(send, *refusal)
        elif headers.get("origin") in self._cors_origins:
            await self._cors(scope, receive, send)  # a preflight has no token, and a refusal must be readable
        else:
            await self._with_token(scope, receive, send)

    def _foreign(self, headers: Headers) -> tuple[int, OcrError] | None:
        host = headers.get("host", "")
        if not _matches(host, self._security.allowed_hosts):
            return 421, InputForbidden(
                "This server does not answer to that Host name.",
                remedy="The operator can add it to OCR_ALLOWED_HOSTS.",
            )
        origin = headers.get("origin")
        if origin is None or origin in (f"http://{host}", f"https://{host}") or origin in self._cors_origins:
            return None
        if _matches(origin, self._security.allowed_origins):
            return None
        return 403, InputForbidden(
            "Pages of that origin may not call this server.",
            remedy="The operator can add it to OCR_CORS_ORIGINS, or to OCR_ALLOWED_ORIGINS for MCP.",
        )

    async def _with_token(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._token is None or _is_open(scope) or self._is_known(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        await _refuse(
            send,
            401,
            Unauthorized(
                "This server asks for a bearer token, and got none or another one.",
                remedy="Send the header Authorization: Bearer <OCR_AUTH_TOKEN of the server>.",
            ),
        )

    def _is_known(self, headers: Headers) -> bool:
        assert self._token is not None
        kind, _, given = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)


def _is_open(scope: Scope) -> bool:
    path, method = scope["path"], scope["method"]
    if path.startswith(PASSWORDS):
        return method in ANSWERING
    return path in OPEN_PATHS or (method in LOOKING and (path in OPEN_PAGES or path.startswith(STATIC)))


async def _refuse(send: Send, status: int, error: OcrError) -> None:
    body = json.dumps(error_body(error)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer error="invalid_token"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

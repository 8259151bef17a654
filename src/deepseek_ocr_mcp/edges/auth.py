"""Who may speak to the HTTP server: `Host`, `Origin` and the bearer token are checked before any route.

Pure ASGI: it never buffers a body and never waits. Every path is covered; `/health` needs no token.
"""

from __future__ import annotations

import hmac
import json
from typing import Final

from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ..config import Settings, is_loopback
from ..errors import BadRequest, InputForbidden, OcrError, Unauthorized

__all__ = ["Guard", "check_bind", "error_body", "transport_security"]

OPEN_PATHS: Final = frozenset({"/health"})
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
    """The `Host` and `Origin` values that are served: loopback, and what the operator allows."""
    hosts = [*LOOPBACK_HOSTS, *settings.ocr_allowed_hosts]
    with_ports = [host if _has_port(host) else f"{host}:*" for host in hosts]
    origins = [f"http://{host}:*" for host in LOOPBACK_HOSTS] + [f"http://{host}" for host in LOOPBACK_HOSTS]
    return TransportSecuritySettings(
        allowed_hosts=hosts + with_ports, allowed_origins=[*origins, *settings.ocr_allowed_origins]
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
    """What every HTTP error answers."""
    return {"error": error.to_dict()}


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._security = transport_security(settings)
        token = settings.ocr_auth_token
        self._token = None if token is None else token.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)) is not None:
            status, error = refusal
            await _refuse(send, status, error)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, OcrError] | None:
        headers = Headers(scope=scope)
        if not _matches(headers.get("host", ""), self._security.allowed_hosts):
            return 421, InputForbidden(
                "This server does not answer to that Host name.",
                remedy="The operator can add it to OCR_ALLOWED_HOSTS.",
            )
        origin = headers.get("origin")
        if origin is not None and not _matches(origin, self._security.allowed_origins):
            return 403, InputForbidden(
                "Pages of that origin may not call this server.",
                remedy="The operator can add it to OCR_ALLOWED_ORIGINS.",
            )
        if self._token is None or scope["path"] in OPEN_PATHS:
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token):
            return None
        return 401, Unauthorized(
            "This server asks for a bearer token, and got none or another one.",
            remedy="Send the header Authorization: Bearer <OCR_AUTH_TOKEN of the server>.",
        )


async def _refuse(send: Send, status: int, error: OcrError) -> None:
    body = json.dumps(error_body(error)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer error="invalid_token"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""`status`, `offload` and `release`: they ask a running server, and print its answer."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ..errors import EngineUnavailable, OcrError, Unauthorized, cause_of
from .shared import settings_from

if TYPE_CHECKING:
    import httpx2

    from ..models import GpuStatus
    from ..service.service import OcrService

__all__ = ["endpoint_line", "run_offload", "run_release", "run_status", "server_url", "settled_status"]

CALL_TIMEOUT_S: Final = 60.0
CONNECT_S: Final = 2.0  # for an address of this machine
FIRST_ANSWERS_S: Final = 10.0  # seconds for the first answers of endpoints


async def _call_server(arguments: argparse.Namespace, tool: str, given: dict[str, Any]) -> dict[str, Any]:
    """The structured content of the answer of a tool of a running server.

    Raises:
        EngineUnavailable: no server listens there, or it is not this product's.
        Unauthorized: the server wants another token.
        OcrError: the tool's own error.
    """
    import anyio
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    token = arguments.token or os.environ.get("OCR_AUTH_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = server_url(arguments)
    try:
        with anyio.fail_after(CALL_TIMEOUT_S):
            async with httpx2.AsyncClient(headers=headers, timeout=CALL_TIMEOUT_S) as http:
                await _check_server(http, url, has_token=bool(token))
                async with Client(streamable_http_client(url, http_client=http)) as client:
                    result = await client.call_tool(tool, given)
    except OcrError:
        raise
    except Exception as exc:
        cause = cause_of(exc)
        if isinstance(cause, OcrError):
            raise cause from None
        raise EngineUnavailable(
            f"The server at {url} did not answer {tool}: {str(cause) or type(cause).__name__}.",
            remedy="Look at its log. A server of another version may not have this tool: start it anew.",
        ) from None
    if result.is_error:
        raise OcrError(" ".join(block.text for block in result.content if block.type == "text"), remedy="")
    structured: dict[str, Any] = result.structured_content or {}
    return structured


def server_url(arguments: argparse.Namespace) -> str:
    """The address of the server: `--url`, or the one that `serve --transport http` would have with these settings."""
    if arguments.url:
        url = urlsplit(arguments.url if "://" in arguments.url else f"http://{arguments.url}")
        return (url if url.path.strip("/") else url._replace(path="/mcp")).geturl()
    settings = settings_from(arguments)
    host = settings.host if settings.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - it is replaced
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/mcp"


async def _check_server(http: httpx2.AsyncClient, url: str, *, has_token: bool) -> None:
    """Check an address before a tool is called: is it this product, and does it accept the token?

    Raises:
        EngineUnavailable: no program listens there, or another program does.
        Unauthorized: the token is missing or wrong.
    """
    import httpx2

    try:
        answer = await http.get(httpx2.URL(url).join("/gpu/status"))  # needs the token, and waits for no page
    except httpx2.TransportError as exc:
        raise EngineUnavailable(
            f"No server listens at {url} ({type(exc).__name__}).",
            remedy="Start one with `deepseek-ocr-mcp serve --transport http`, or name its address with --url.",
        ) from None
    if answer.status_code == 401:
        raise Unauthorized(
            f"The server at {url} refuses {'this token' if has_token else 'requests without a token'}.",
            remedy="Give its OCR_AUTH_TOKEN with --token, or in the environment.",
        )
    try:
        is_ours = "engine" in answer.json()
    except (ValueError, TypeError):
        is_ours = False
    if not is_ours:
        raise EngineUnavailable(
            f"Another program answers at {url}: its /gpu/status (HTTP {answer.status_code}) is not this product's.",
            remedy="Name the address of a deepseek-ocr-mcp server with --url, or start one on another port.",
        )


def _is_listening(url: str) -> bool:
    """Whether any program accepts connections at the address."""
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname or "", address.port or 80), timeout=CONNECT_S):
            return True
    except OSError:
        return False


def run_status(arguments: argparse.Namespace) -> int:
    """Print the status of a running server; where none listens and none was named, the status one would have."""
    import anyio

    async def local() -> dict[str, Any]:
        from ..app.run import running_service

        async with running_service(settings_from(arguments)) as service:
            return (await settled_status(service)).model_dump(mode="json", exclude_none=True)

    if arguments.url or _is_listening(server_url(arguments)):
        status = anyio.run(_call_server, arguments, "gpu_status", {})
    else:
        print("No server listens on this machine; a server would find this.", file=sys.stderr)
        status = anyio.run(local)
    print(json.dumps(status, indent=2) if arguments.json else "\n".join(_status_lines(status)))
    return 0


def _status_lines(status: dict[str, Any]) -> Iterator[str]:
    """The status as lines of a name and a value."""
    for name, value in status.items():
        match name:
            case "gpus":
                yield from (_gpu_line(gpu) for gpu in value)
            case "endpoints":
                yield from (f"endpoint           {endpoint_line(endpoint)}" for endpoint in value)
            case "workers":
                yield from (f"worker {number:<11} {_worker_line(worker)}" for number, worker in enumerate(value))
            case _ if value not in ("", []):
                yield f"{name:<18} {', '.join(value) if isinstance(value, list) else value}"


def _gpu_line(gpu: dict[str, Any]) -> str:
    free = f"{gpu['memory_free_mb']} of {gpu['memory_total_mb']} MiB free"
    return f"gpu {gpu['index']:<14} {gpu['name']}, {free}, {gpu['uuid']}"


async def settled_status(service: OcrService) -> GpuStatus:
    """The status once every endpoint has answered a first question, or after a bounded wait."""
    import anyio

    status = await service.status()
    with anyio.move_on_after(FIRST_ANSWERS_S):
        while any(one.state == "unasked" for one in status.endpoints or ()):
            await anyio.sleep(0.02)  # the service asks them by itself and signals no end
            status = await service.status()
    return status


def endpoint_line(endpoint: dict[str, Any]) -> str:
    counts = f"{endpoint['in_flight']} pages under way, {endpoint['served']} read, {endpoint['failures']} failures"
    parts = [endpoint["url"], endpoint["state"], endpoint["model"], counts, endpoint.get("last_error", "")]
    return ", ".join(part for part in parts if part)


def _worker_line(worker: dict[str, Any]) -> str:
    """One of several workers: its place, its work, and whether it is left out."""
    line = f"{worker['card']}, {worker['state']}, {worker['served']} pages read, {worker['queue']} to read"
    if (mb := worker.get("gpu_mb")) is not None:
        line += f", {mb} MiB on its card"
    if (left := worker.get("retry_in_s")) is not None:
        line += f"; it failed and is tried again {f'in {left:.0f} s' if left else 'when others wait'}"
        line += f": {worker['last_error']}" if worker.get("last_error") else ""
    return line


def run_offload(arguments: argparse.Namespace) -> int:
    return _move(arguments, "gpu_offload", {})


def run_release(arguments: argparse.Namespace) -> int:
    return _move(arguments, "gpu_release", {"force": arguments.force})


def _move(arguments: argparse.Namespace, tool: str, given: dict[str, Any]) -> int:
    import anyio

    moved = anyio.run(_call_server, arguments, tool, given)
    print(f"{moved['message']} ({moved['from']} → {moved['to']}, {moved['seconds']:.2f} s)")
    return 0

"""`status`, `offload` and `release`: they ask a running server, and print its answer."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from ..errors import EngineUnavailable, OcrError, cause_of
from .shared import settings_from

if TYPE_CHECKING:
    from ..models import GpuStatus
    from ..service.service import OcrService

__all__ = ["endpoint_line", "run_offload", "run_release", "run_status", "settled_status"]

DEFAULT_URL: Final = "http://127.0.0.1:8001/mcp"
CALL_TIMEOUT_S: Final = 60.0
FIRST_ANSWERS_S: Final = 10.0  # from endpoints, to the question what they are


async def _call_server(arguments: argparse.Namespace, tool: str, given: dict[str, Any]) -> dict[str, Any]:
    """What a tool of a running server answers, as its structured content.

    Raises:
        EngineUnavailable: nobody answers there, or not to us.
        OcrError: what the tool said.
    """
    import anyio
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    token = arguments.token or os.environ.get("OCR_AUTH_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with anyio.fail_after(CALL_TIMEOUT_S):
            async with (
                httpx2.AsyncClient(headers=headers, timeout=CALL_TIMEOUT_S) as http,
                Client(streamable_http_client(arguments.url, http_client=http)) as client,
            ):
                result = await client.call_tool(tool, given)
    except Exception as exc:
        cause = cause_of(exc)
        raise EngineUnavailable(
            f"No server answered at {arguments.url}: {str(cause) or type(cause).__name__}.",
            remedy="Start one with `deepseek-ocr-mcp serve --transport http`, or name it with --url and --token.",
        ) from None
    if result.is_error:
        raise OcrError(" ".join(block.text for block in result.content if block.type == "text"), remedy="")
    structured: dict[str, Any] = result.structured_content or {}
    return structured


def run_status(arguments: argparse.Namespace) -> int:
    import anyio

    async def local() -> dict[str, Any]:
        from ..app.run import running_service

        async with running_service(settings_from(arguments)) as service:
            return (await settled_status(service)).model_dump(mode="json", exclude_none=True)

    try:
        status = anyio.run(_call_server, arguments, "gpu_status", {})
    except EngineUnavailable:
        if arguments.url != DEFAULT_URL:
            raise
        print("No server answers on this machine; this is what one would find.", file=sys.stderr)
        status = anyio.run(local)
    if arguments.json:
        print(json.dumps(status, indent=2))
        return 0
    for name, value in status.items():
        if name == "gpus":
            for gpu in value:
                print(
                    f"gpu {gpu['index']:<14} {gpu['name']}, {gpu['memory_free_mb']} of {gpu['memory_total_mb']} MiB "
                    f"free, {gpu['uuid']}"
                )
        elif name == "endpoints":
            for endpoint in value:
                print(f"endpoint           {endpoint_line(endpoint)}")
        elif name == "workers":
            for number, worker in enumerate(value):
                print(f"worker {number:<11} {_worker_line(worker)}")
        elif value not in ("", []):
            print(f"{name:<18} {', '.join(value) if isinstance(value, list) else value}")
    return 0


async def settled_status(service: OcrService) -> GpuStatus:
    """The status, once every endpoint has been asked what it is; or what is known after a bounded wait."""
    import anyio

    status = await service.status()
    with anyio.move_on_after(FIRST_ANSWERS_S):
        while any(one.state == "unasked" for one in status.endpoints or ()):
            await anyio.sleep(0.02)  # what looks at them is of the service's own: it tells nobody
            status = await service.status()
    return status


def endpoint_line(endpoint: dict[str, Any]) -> str:
    counts = f"{endpoint['in_flight']} pages under way, {endpoint['served']} read, {endpoint['failures']} failures"
    parts = [endpoint["url"], endpoint["state"], endpoint["model"], counts, endpoint.get("last_error", "")]
    return ", ".join(part for part in parts if part)


def _worker_line(worker: dict[str, Any]) -> str:
    """One of several workers: where it is, what it has done, and whether it is left out."""
    said = f"{worker['card']}, {worker['state']}, {worker['served']} pages read, {worker['queue']} to read"
    if (mb := worker.get("gpu_mb")) is not None:
        said += f", {mb} MiB on its card"
    if (left := worker.get("retry_in_s")) is not None:
        said += f"; it failed and is tried again {f'in {left:.0f} s' if left else 'when others wait'}"
        said += f": {worker['last_error']}" if worker.get("last_error") else ""
    return said


def run_offload(arguments: argparse.Namespace) -> int:
    return _move(arguments, "gpu_offload", {})


def run_release(arguments: argparse.Namespace) -> int:
    return _move(arguments, "gpu_release", {"force": arguments.force})


def _move(arguments: argparse.Namespace, tool: str, given: dict[str, Any]) -> int:
    import anyio

    moved = anyio.run(_call_server, arguments, tool, given)
    print(f"{moved['message']} ({moved['from']} → {moved['to']}, {moved['seconds']:.2f} s)")
    return 0

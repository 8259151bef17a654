"""Puts the program together: makes a service of the settings, and its edges, all in one lifespan.

However the program ends (end of input, SIGTERM, SIGINT), the worker is dead and the private folder is removed before
the process exits, within `SHUTDOWN_S`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import anyio
import anyio.abc

from ..config import Settings
from ..documents.private import private_folder
from ..documents.reader import DocumentReader
from ..engines import KNOWN
from ..errors import BadRequest
from ..gpu.probe import GpuProbe
from ..install import extra_command
from ..lifecycle.build import build_lifecycle, engine_for
from ..lifecycle.manager import ModelManager
from ..service.service import OcrService
from ..worker.confine import hide_from_children
from .headstart import HeadStart
from .signals import until_signal

if TYPE_CHECKING:
    from ..lifecycle.first_day import Check

__all__ = ["build_service", "card_checks", "running_service", "serve_http", "serve_stdio"]


SHUTDOWN_S: Final = 0.9  # seconds; a client that closes its server waits one or two before it kills the process


def build_service(settings: Settings, folder: str, children: HeadStart | None = None) -> OcrService:
    """Make a service.

    Args:
        settings: the settings of the operator.
        folder: the private folder, for pages.
        children: children that were started ahead.
    """
    children = children or HeadStart(folder)
    if settings.ocr_barcodes == "on" and find_spec("zxingcpp") is None:
        raise BadRequest("OCR_BARCODES=on needs zxing-cpp.", remedy=f"Install it: {extra_command('barcodes')}")
    probe = GpuProbe()
    engine, reason = engine_for(settings, probe)
    fallback = KNOWN.get(settings.ocr_fallback)
    reader = DocumentReader(settings, folder, spawn=children.decoder)
    return OcrService(
        settings,
        reason,
        build_lifecycle(engine, settings, probe=probe, spawn=children.worker, encode=reader.encoded),
        reader,
        fallback=ModelManager(fallback, settings, probe=probe) if fallback and fallback is not engine else None,
    )


@asynccontextmanager
async def running_service(settings: Settings, children: HeadStart | None = None) -> AsyncIterator[OcrService]:
    """The lifespan of a service. Everything that it started ends with this context."""
    async with AsyncExitStack() as stack:
        if children is None:
            children = await stack.enter_async_context(HeadStart())
        yield await stack.enter_async_context(build_service(settings, children.folder, children).running())


async def card_checks(settings: Settings) -> AsyncIterator[Check]:
    """The checks of `doctor --gpu`, one by one, also those that are skipped; see `lifecycle.first_day`."""
    from ..lifecycle.clone_checks import clone_checks, own_clone
    from ..lifecycle.first_day import NAMES, Check, gpu_checks

    made, faults = set(), []
    with private_folder() as folder:
        async with aclosing(gpu_checks(settings, Path(folder))) as checks:
            async for check in checks:
                made.add(check.name)
                faults += [] if check.passed else [repr(check.name)]
                yield check
    failed = " and ".join(faults)
    skipped = [name for name in NAMES if name not in made]
    for name in skipped:
        yield Check(name, passed=True, found=f"Not run, because of {failed}.", is_skipped=True)
    async for check in clone_checks(own_clone(), failed if skipped else ""):
        yield check


async def serve_stdio(settings: Settings, wire: int | None = None) -> NoReturn:
    """Serve one client on stdin and stdout until it hangs up. Ends the process.

    Args:
        settings: the settings of the operator.
        wire: the descriptor of the real stdout, if the caller has pointed descriptor 1 elsewhere.
    """
    from ..edges.mcp.guard import run_stdio
    from ..edges.mcp.server import build_mcp

    hide_from_children()
    stop, cleaned = anyio.Event(), anyio.Event()
    services: list[OcrService] = []

    async def run_service(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with running_service(settings) as service:
            services.append(service)
            task_status.started()
            await stop.wait()
        cleaned.set()

    async def end() -> NoReturn:
        # The SDK reads stdin on a thread that cannot be interrupted, so the process does not wait for it. Our own
        # processes and files are cleaned up, then the process ends.
        with anyio.move_on_after(SHUTDOWN_S, shield=True):
            stop.set()
            await cleaned.wait()
        os._exit(0)

    async def serve() -> None:
        await run_stdio(build_mcp(services[0], local=True))

    async with anyio.create_task_group() as tasks:
        await tasks.start(run_service)
        if wire is not None:
            os.dup2(wire, 1)
            os.close(wire)

        def signalled() -> None:
            tasks.start_soon(end)

        await until_signal(serve, signalled)
        await end()
    raise AssertionError("end() ends the process")


async def serve_http(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve streamable HTTP until SIGINT or SIGTERM. Requests that are being read then are answered first.

    Args:
        settings: the settings of the operator.
        announce: called with the server's address once it listens.

    Raises:
        BadRequest: the address cannot be bound, or it can be reached from outside and no token was set.
    """
    from ..edges.http.auth import check_bind
    from ..edges.http.drain import Drain
    from ..edges.http.server import build_http
    from ..edges.mcp.server import build_mcp
    from .connections import silence_accept_errors
    from .http import BACKLOG, http_server

    hide_from_children()
    stop, drain = anyio.Event(), Drain()
    check_bind(settings)
    with _bound_socket(settings, BACKLOG) as listener:
        async with running_service(settings) as service:
            server = http_server(build_http(service, build_mcp(service, local=False), drain), settings, stop)

            async def serve() -> None:
                announce(_address(listener))  # only now that signals are handled: the reader of the line may send one
                await server.serve(sockets=[listener])

            async def finish() -> None:
                await drain.finish(settings.ocr_drain_seconds)
                stop.set()

            silence_accept_errors(asyncio.get_running_loop())
            async with anyio.create_task_group() as tasks:

                def signalled() -> None:
                    if drain.closing:
                        stop.set()
                    else:
                        tasks.start_soon(finish)

                await until_signal(serve, signalled)
                tasks.cancel_scope.cancel()


def _bound_socket(settings: Settings, backlog: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=backlog)
        # Accepted connections inherit the option. Without it a short answer waits 40 ms for the client's delayed ACK.
        # asyncio sets it only on sockets that it made itself.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as exc:
        raise BadRequest(
            f"{settings.host}:{settings.port} cannot be bound: {exc.strerror or exc}.",
            remedy="Set HOST and PORT (or --host and --port) to a free address; port 0 takes any free port.",
        ) from None


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/mcp"

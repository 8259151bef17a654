"""Pages to read and servers to ask, for the tests at the edges."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import re
import select
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from anyio.from_thread import start_blocking_portal
from faults import fingerprint
from filelock import FileLock
from mcp import Client
from mcp.client.extension import advertise
from mcp.client.streamable_http import streamable_http_client
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp.types import CallToolResult
from PIL import Image, ImageDraw, ImageFont

from deepseek_ocr_mcp import logs
from deepseek_ocr_mcp.app.run import build_service
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents.private import private_folder
from deepseek_ocr_mcp.edges.mcp.server import build_mcp
from deepseek_ocr_mcp.models import Doing
from deepseek_ocr_mcp.observer import Observer
from deepseek_ocr_mcp.service.service import OcrService
from forked import start_program, start_unforked
from leftovers import KEPT, workers_outlive_their_test

Colour = tuple[int, int, int]
GREY: Colour = (120, 130, 140)
NPM_TIMEOUT_S = 600
BOUND_S = 60.0
"""Seconds within which all comes true that a test waits for, on a machine that does other things too."""
SETTINGS: dict[str, Any] = {"ocr_cache": "off", "ocr_reply_seconds": 600}
"""Of every service and server, where a test says nothing else: a test that reads the same page twice wants it read
twice, and a call waits for a worker however long a busy machine takes to start one."""
ENVIRONMENT = {**{name.upper(): str(value) for name, value in SETTINGS.items()}, "OCR_DRAIN_SECONDS": "0"}
"""The same for a server in a process of its own."""


def install_node_modules(folder: Path, missing: Callable[[], list[str]]) -> None:
    """Bring node_modules in `folder` to what its package.json says, once for all processes that run tests.

    Args:
        missing: what is not there yet.
    """
    with FileLock(folder / ".npm-lock", timeout=2 * NPM_TIMEOUT_S):
        if not missing():
            return
        npm = shutil.which("npm")
        if npm is None:
            pytest.fail("These tests need Node and npm, and there is no npm here; scripts/test installs them.")
        command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(command, cwd=folder, timeout=NPM_TIMEOUT_S, capture_output=True, text=True, check=False)
        if done.returncode or (left := missing()):
            pytest.fail(f"npm install left {left if not done.returncode else 'an error'}:\n{done.stdout}{done.stderr}")


def node_module_version(folder: Path, name: str) -> str | None:
    """The version of a package in node_modules; None: it is not there, or not whole."""
    try:
        version: str = json.loads((folder / "node_modules" / name / "package.json").read_text())["version"]
    except (OSError, ValueError, KeyError):
        return None
    return version


def png(width: int = 40, height: int = 20, colour: Colour = GREY) -> bytes:
    """A page of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "PNG")
    return out.getvalue()


def echo(width: int = 40, height: int = 20, colour: Colour = GREY) -> str:
    """What the engine `faults:Echo` answers for `png(…)`."""
    return f"{width}x{height} {fingerprint(bytes(colour) * width * height)}"


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def tiff(*heights: int) -> bytes:
    """A document with one page of each height, 40 pixels wide: every page comes back as it is."""
    out = io.BytesIO()
    pages = [Image.new("RGB", (40, height), GREY) for height in heights]
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    return out.getvalue()


def written(text: str, size: int = 32) -> bytes:
    """A page with these lines on it, black on white."""
    font = ImageFont.load_default(size=size)
    lines = text.splitlines()
    image = Image.new(
        "RGB", (40 + max(int(font.getlength(line)) for line in lines), 40 + len(lines) * size * 2), "white"
    )
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((20, 20 + number * size * 2), line, font=font, fill="black")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


class Watch(Observer):
    """Counts what a service in this process does, and wakes whoever waits for it. Give it to `running` or `client`."""

    def __init__(self) -> None:
        self.pages = 0
        self.moves: list[Doing] = []
        self.leases = 0
        """Documents for which the model is held just now: the `queue` of the status."""
        self.endpoints_back = 0
        self._news = anyio.Event()

    def follow(self, service: OcrService) -> None:
        service.tell(self)
        manager = service._manager
        lease = manager.lease

        @asynccontextmanager
        async def counted() -> AsyncIterator[None]:
            async with lease():
                self._count(1)
                try:
                    yield
                finally:
                    self._count(-1)
            self._wake()

        manager.lease = counted  # type: ignore[method-assign]

    def _count(self, more: int) -> None:
        self.leases += more
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    def pages_read(self, engine: str, pages: int, tokens: int | None, seconds: float) -> None:
        super().pages_read(engine, pages, tokens, seconds)
        self.pages += pages
        self._wake()

    def moved(self, engine: str, doing: Doing, seconds: float, device: str) -> None:
        super().moved(engine, doing, seconds, device)
        self.moves.append(doing)
        self._wake()

    def endpoint_back(self, engine: str, endpoint: str, seconds: float) -> None:
        super().endpoint_back(engine, endpoint, seconds)
        self.endpoints_back += 1
        self._wake()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this is true of what was counted."""
        with anyio.fail_after(BOUND_S):
            while not condition():
                await self._news.wait()

    async def until_read(self, pages: int) -> None:
        await self.until(lambda: self.pages >= pages)

    async def until_idle(self) -> None:
        await self.until(lambda: not self.leases)


@asynccontextmanager
async def running(engine: str = "Echo", *, watch: Watch | None = None, **settings: Any) -> AsyncIterator[OcrService]:
    """A service with a fault engine (or, with a name that has a small first letter, a real one)."""
    name = engine if engine[0].islower() else f"faults:{engine}"
    with private_folder() as folder:
        service = build_service(Settings(ocr_engine=name, **{**SETTINGS, **settings}), folder)
        if watch is not None:
            watch.follow(service)
        async with service.running():
            yield service
        assert set(os.listdir(folder)) == {"lock"}, "a page was left behind"


SHOWS_APPS = [advertise(EXTENSION_ID, {"mimeTypes": [APP_MIME_TYPE]})]


@asynccontextmanager
async def client(
    engine: str = "Echo",
    *,
    local: bool = True,
    mode: str = "auto",
    apps: bool = False,
    watch: Watch | None = None,
    bound_s: float = 2 * BOUND_S,
    **settings: Any,
) -> AsyncIterator[Client]:
    """An MCP client of such a service, in this process; workers are real. `apps`: one that shows apps."""
    with anyio.fail_after(bound_s):
        async with (
            running(engine, watch=watch, **settings) as service,
            Client(build_mcp(service, local=local), mode=mode, extensions=SHOWS_APPS if apps else None) as made,
        ):
            yield made


Call = Callable[..., CallToolResult]
"""Calls a tool, `ocr_image` by default, with arguments by name."""


@contextmanager
def blocking_client(engine: str = "Echo") -> Iterator[Call]:
    """One MCP client on this machine that all tests of a module share, for tests without an event loop of their own."""
    with (
        start_blocking_portal() as portal,
        workers_outlive_their_test(),
        portal.wrap_async_context_manager(running(engine)) as service,
        portal.wrap_async_context_manager(Client(build_mcp(service, local=True))) as mcp,
    ):
        yield lambda tool="ocr_image", **arguments: portal.call(mcp.call_tool, tool, arguments)


def said(result: CallToolResult) -> str:
    """All text that the model sees."""
    return "\n".join(block.text for block in result.content if block.type == "text")


def facts(result: CallToolResult) -> dict[str, Any]:
    """The structured answer of a call that went well; of a reading, with the text of its pages put together."""
    assert not result.is_error, said(result)
    assert result.structured_content is not None
    answer = dict(result.structured_content)
    if "pages" in answer:
        assert "text" not in answer, "the text is in content, and in the pages"
        answer["text"] = "\n\n".join(page["text"] for page in answer["pages"] if page["text"])
    return answer


@contextmanager
def lines_and_requests() -> Iterator[list[tuple[str, str]]]:
    """The message of each log line of ours, with the ids of the requests that the line names."""
    found: list[tuple[str, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append((record.getMessage(), getattr(record, "request", logs.request_id())))

    handler = Handler()
    logging.getLogger("deepseek_ocr_mcp").addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger("deepseek_ocr_mcp").removeHandler(handler)


def alive(pid: int) -> bool:
    """Whether this process runs; one that is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends between opening and reading
        return False


def children(pid: int) -> list[int]:
    """The processes that this one started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def wait_until(condition: Callable[[], object], bound_s: float = BOUND_S) -> None:
    """Poll a fact about a program that is not ours and gives no sign of it. Fails when the time is over."""
    ends = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < ends, "it did not come true in time"
        time.sleep(0.02)


def until_dead(pids: Iterable[int], bound_s: float = BOUND_S) -> None:
    """Return when these processes have ended; fails when the time is over."""
    ends = time.monotonic() + bound_s
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            readable, _, _ = select.select([descriptor], [], [], max(0.0, ends - time.monotonic()))
        finally:
            os.close(descriptor)
        assert readable or not alive(pid), f"process {pid} did not end in time"


class Signs:
    """Signs that an engine of `faults.py` gives of what it does, in any process: it writes lines into a named pipe."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "signs")
        """The value of the variable `SIGNS`."""
        os.mkfifo(self.path)
        self._pipe = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self._text = ""

    def next(self, bound_s: float = BOUND_S) -> str:
        """The next sign; waits for it. Fails when the time is over."""
        ends = time.monotonic() + bound_s
        while "\n" not in self._text:
            readable, _, _ = select.select([self._pipe], [], [], max(0.0, ends - time.monotonic()))
            assert readable, "the engine gave no sign in time"
            self._text += os.read(self._pipe, 4096).decode()
        sign, _, self._text = self._text.partition("\n")
        return sign

    def is_silent(self) -> bool:
        """Whether no sign was given that is not taken yet."""
        readable, _, _ = select.select([self._pipe], [], [], 0)
        return not readable and not self._text

    def close(self) -> None:
        os.close(self._pipe)


def end_process(process: subprocess.Popen[Any]) -> None:
    """End a server as its user would, so that it takes along its children and its folder; kill it if it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(BOUND_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


class StdioServer:
    """A server process spoken to by hand, byte for byte."""

    def __init__(self, engine: str = "Echo", *arguments: str, from_its_start: bool = False, **environment: str) -> None:
        """
        Args:
            from_its_start: with its own imports, which take half a second of a core.
        """
        name = engine if engine[0].islower() else f"faults:{engine}"
        self.began = time.monotonic()
        start = start_unforked if from_its_start else start_program
        self.process = start(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OCR_ENGINE": name, **ENVIRONMENT, **environment},
        )
        self.lines: list[bytes] = []
        # Bounds every wait for an answer: stdout ends with the process.
        self._watchdog = threading.Timer(2 * BOUND_S, self.process.kill)
        self._watchdog.start()

    def send(self, **message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """The next line of stdout, which must be a JSON-RPC message."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.lines.append(line)
        message: dict[str, Any] = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        return message

    def initialize(self) -> dict[str, Any]:
        info = {"name": "test", "version": "1"}
        self.send(
            id=0,
            method="initialize",
            params={"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info},
        )
        answer = self.receive()
        self.send(method="notifications/initialized")
        return answer

    def call(self, tool: str, number: int = 1, **arguments: Any) -> None:
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}}
        self.send(id=number, method="tools/call", params=params)

    def until_reading(self) -> None:
        """Wait for the first progress that the engine itself reports."""
        while self.receive().get("params", {}).get("message") not in ("page 1 of 1", "page 1 of 1: reading"):
            pass

    def answer(self, number: int = 1) -> dict[str, Any]:
        while (message := self.receive()).get("id") != number:
            pass
        return message

    def close(self) -> None:
        self._watchdog.cancel()
        end_process(self.process)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


@contextmanager
def stdio_server(
    engine: str = "Echo", *arguments: str, from_its_start: bool = False, **environment: str
) -> Iterator[StdioServer]:
    server = StdioServer(engine, *arguments, from_its_start=from_its_start, **environment)
    try:
        yield server
    finally:
        server.close()


class HttpServer:
    """`serve --transport http` in a process of its own."""

    def __init__(self, engine: str = "Echo", *, port: str = "0", **environment: str) -> None:
        name = engine if engine[0].islower() else f"faults:{engine}"
        self.process = start_program(
            ["serve", "--transport", "http", "--port", port],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "OCR_ENGINE": name, **ENVIRONMENT, **environment},
            text=True,
        )
        # Bounds the wait for its first line; whoever asks it anything has a bound of its own.
        watchdog = threading.Timer(2 * BOUND_S, self.process.kill)
        watchdog.start()
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        watchdog.cancel()
        address = re.search(r'Serving MCP at ([^\s"]+)', line)
        if address is None:
            rest = self.process.communicate()[1]
            raise AssertionError(f"the server did not come up: {line}{rest}")
        self.url = address[1]
        self.root = self.url.removesuffix("/mcp")
        self.first_line = line
        self.log: list[str] = []
        self._news = threading.Condition()
        self._drain = threading.Thread(target=self._read_log, args=(self.process.stderr,), daemon=True)
        self._drain.start()

    def _read_log(self, lines: Iterable[str]) -> None:
        for line in lines:
            with self._news:
                self.log.append(line)
                self._news.notify_all()

    def until_logged(self, *parts: str, count: int = 1, bound_s: float = BOUND_S) -> None:
        """Wait until as many lines of the log have all these parts."""

        def is_there() -> bool:
            return sum(all(part in line for part in parts) for line in self.log) >= count

        with self._news:
            assert self._news.wait_for(is_there, bound_s), f"{parts} was not logged in time:\n{''.join(self.log)}"

    def close(self) -> None:
        end_process(self.process)
        self._drain.join(BOUND_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


async def until_answer(
    http: httpx2.AsyncClient, path: str, condition: Callable[[httpx2.Response], bool]
) -> httpx2.Response:
    """Ask a server until its answer is such. A server tells its queue and its health only to those who ask."""
    with anyio.fail_after(BOUND_S):
        while not condition(answer := await http.get(path)):
            await anyio.sleep(0.02)
    return answer


async def until_reading(http: httpx2.AsyncClient, queue: int = 1) -> None:
    """Wait until so many requests hold a place, the engine is loaded, and it has a page. It may be loaded before."""
    sought = {"queue": queue, "state": "host"}

    def is_reading(answer: httpx2.Response) -> bool:
        status = answer.json()
        return sought.items() <= status.items() and status.get("idle_s") is None

    await until_answer(http, "/gpu/status", is_reading)


async def until_queue(http: httpx2.AsyncClient, length: int) -> None:
    """Wait until so many requests wait or are read."""
    await until_answer(http, "/gpu/status", lambda answer: answer.json()["queue"] == length)


class Servers:
    """The HTTP servers of this test process: one for each engine and its settings, started when it is first asked for.

    For tests that leave a server as they found it. A test that kills one, reads its log or counts what it did starts
    its own with `http_server`.
    """

    def __init__(self) -> None:
        self._running: dict[str, HttpServer] = {}

    def __call__(self, engine: str = "Echo", **settings: str) -> HttpServer:
        key = json.dumps([engine, settings], sort_keys=True)
        server = self._running.get(key)
        if server is None or server.process.poll() is not None:
            server = self._running[key] = HttpServer(engine, **settings)
            KEPT.add(server.process.pid)
        return server

    def close(self) -> None:
        for server in self._running.values():
            server.process.terminate()  # all at once
        for server in self._running.values():
            server.close()


@contextmanager
def http_server(engine: str = "Echo", *, port: str = "0", **environment: str) -> Iterator[HttpServer]:
    server = HttpServer(engine, port=port, **environment)
    try:
        yield server
    finally:
        server.close()


@asynccontextmanager
async def http_client(
    server: HttpServer, *, mode: str = "auto", token: str = "", apps: bool = False
) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=BOUND_S) as http,
        Client(
            streamable_http_client(server.url, http_client=http), mode=mode, extensions=SHOWS_APPS if apps else None
        ) as made,
    ):
        yield made

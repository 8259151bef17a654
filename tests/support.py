"""Pages to read and servers to ask, for the tests at the edges."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from faults import fingerprint
from filelock import FileLock
from mcp import Client
from mcp.client.extension import advertise
from mcp.client.streamable_http import streamable_http_client
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp.types import CallToolResult
from PIL import Image, ImageDraw, ImageFont

from deepseek_ocr_mcp.app.run import build_service
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents.private import private_folder
from deepseek_ocr_mcp.edges.mcp.server import build_mcp
from deepseek_ocr_mcp.service.service import OcrService

Colour = tuple[int, int, int]
GREY: Colour = (120, 130, 140)
NPM_TIMEOUT_S = 600


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


@asynccontextmanager
async def running(engine: str = "Echo", **settings: Any) -> AsyncIterator[OcrService]:
    """A service with a fault engine (or, with a name that has a small first letter, a real one)."""
    name = engine if engine[0].islower() else f"faults:{engine}"
    with private_folder() as folder:
        # A test that reads the same page twice wants it read twice, unless it is about the cache.
        settings = {"ocr_cache": "off", **settings}
        async with build_service(Settings(ocr_engine=name, **settings), folder).running() as service:
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
    bound_s: float = 60,
    **settings: Any,
) -> AsyncIterator[Client]:
    """An MCP client of such a service, in this process; workers are real. `apps`: one that shows apps."""
    with anyio.fail_after(bound_s):
        async with (
            running(engine, **settings) as service,
            Client(build_mcp(service, local=local), mode=mode, extensions=SHOWS_APPS if apps else None) as made,
        ):
            yield made


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


def alive(pid: int) -> bool:
    """Whether this process runs; one that is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
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


def wait_until(condition: Any, timeout: float = 5.0) -> float:
    """Poll a fact about another process; seconds that it took. Fails when the time is over."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout, "it did not come true in time"
        time.sleep(0.005)
    return time.monotonic() - began


class StdioServer:
    """A server process spoken to by hand, byte for byte."""

    def __init__(self, engine: str = "Echo", *arguments: str, **environment: str) -> None:
        name = engine if engine[0].islower() else f"faults:{engine}"
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deepseek_ocr_mcp", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OCR_ENGINE": name, "OCR_CACHE": "off", **environment},
        )
        self.lines: list[bytes] = []
        # Bounds every wait for an answer: stdout ends with the process.
        self._watchdog = threading.Timer(30, self.process.kill)
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
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


@contextmanager
def stdio_server(engine: str = "Echo", *arguments: str, **environment: str) -> Iterator[StdioServer]:
    server = StdioServer(engine, *arguments, **environment)
    try:
        yield server
    finally:
        server.close()


class HttpServer:
    """`serve --transport http` in a process of its own."""

    def __init__(self, engine: str = "Echo", *, port: str = "0", **environment: str) -> None:
        name = engine if engine[0].islower() else f"faults:{engine}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deepseek_ocr_mcp", "serve", "--transport", "http", "--port", port],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "OCR_ENGINE": name, "OCR_CACHE": "off", **environment},
            text=True,
        )
        self._watchdog = threading.Timer(300, self.process.kill)  # of a whole module, on a slow machine
        self._watchdog.start()
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        address = re.search(r'Serving MCP at ([^\s"]+)', line)
        assert address is not None, line
        self.url = address[1]
        self.root = self.url.removesuffix("/mcp")
        self.first_line = line
        self.log: list[str] = []
        self._drain = threading.Thread(target=self.log.extend, args=(self.process.stderr,), daemon=True)
        self._drain.start()

    def close(self) -> None:
        self._watchdog.cancel()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._drain.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()


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
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(
            streamable_http_client(server.url, http_client=http), mode=mode, extensions=SHOWS_APPS if apps else None
        ) as made,
    ):
        yield made

"""What the benchmarks share: servers as child processes, a page to read, tables, and the machine of a run.

Every child gets a clean environment, so your own settings do not change a result.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil

__all__ = [
    "IN_PROCESS",
    "MB",
    "PAGES",
    "PRODUCT",
    "RESULTS",
    "StdioServer",
    "environment",
    "family",
    "http_server",
    "ratio",
    "report",
    "resident_mb",
    "sample_page",
    "say",
    "spread",
    "table",
    "text_of",
    "verdict",
]

HERE: Final = Path(__file__).resolve().parent
PAGES: Final = HERE.parent / "examples" / "pages"
RESULTS: Final = HERE / "results"
MB: Final = 1_000_000  # bytes
WATCHDOG_S: Final = 300.0  # a server that works longer on one request is killed, so no benchmark hangs
CLOSE_S: Final = 5.0  # end of input to SIGKILL

PRODUCT: Final = ("-m", "deepseek_ocr_mcp")
IN_PROCESS: Final = (str(HERE / "inprocess_server.py"),)
"""The peer: an MCP server that imports its engine into its own process when it starts."""

# onnxruntime reports to its maker by default, and it would be measured, too: in the peers' processes as in ours.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

LOAD: Final = psutil.getloadavg()[0]  # of others: taken before we make our own
PACKAGES: Final = ("deepseek-ocr-mcp", "mcp", "rapidocr", "onnxruntime", "pillow", "pypdfium2")


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without the variables of our settings, plus `settings`."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OCR_", "GPU_"))
        # an installed package has its bytecode; a source tree must be allowed to write it
        and name not in ("HOST", "PORT", "PYTHONDONTWRITEBYTECODE")
    }
    # The cache is off, so the engine reads a page each time, unless a benchmark is about the cache.
    return env | {"OCR_CACHE": "off"} | settings


class StdioServer:
    """A server process over stdio, line by line. No client library adds its own work to the figures."""

    def __init__(self, arguments: Sequence[str], **settings: str) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._number = 0
        self.began = time.perf_counter()
        self.popen = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(**settings),
        )
        self.process = psutil.Process(self.popen.pid)
        self._watchdog = threading.Timer(0, lambda: None)
        self._watch()

    def _watch(self) -> None:
        self._watchdog.cancel()
        self._watchdog = threading.Timer(WATCHDOG_S, self.popen.kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    def __enter__(self) -> StdioServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def initialize(self) -> float:
        """Seconds from spawn until `initialize` was answered."""
        client = {"name": "benchmark", "version": "1"}
        answer = self._request("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
        seconds = time.perf_counter() - self.began
        self.instructions: str = answer.get("instructions", "")
        self._send(method="notifications/initialized")
        return seconds

    def call(self, tool: str, **arguments: Any) -> str:
        """The text that a tool answered."""
        return text_of(self.result(tool, **arguments))

    def result(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The answer of a tool, as it came over the wire."""
        result = self._request("tools/call", name=tool, arguments=arguments)
        if result.get("isError"):
            sys.exit(f"{tool} failed: {text_of(result)}")
        return result

    def begin(self, tool: str, **arguments: Any) -> None:
        """Call a tool and wait for no answer."""
        self._number += 1
        self._send(id=self._number, method="tools/call", params={"name": tool, "arguments": arguments})

    def list(self, what: str) -> list[dict[str, Any]]:
        """All `tools`, `prompts` or `resources` that the server offers."""
        found: list[dict[str, Any]] = self._request(f"{what}/list")[what]
        return found

    def close(self) -> None:
        """End the server as a client does: by closing its input."""
        self._watchdog.cancel()
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.close()
        end_process(self.popen)
        self.popen.stdout.close()
        self._errors.close()

    def _send(self, **message: Any) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.popen.stdin.flush()

    def _request(self, method: str, **params: Any) -> dict[str, Any]:
        assert self.popen.stdout is not None
        self._number += 1
        self._watch()
        self._send(id=self._number, method=method, params=params)
        for line in self.popen.stdout:
            message = json.loads(line)
            if message.get("id") == self._number:
                if "error" in message:
                    sys.exit(f"{method} failed: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
        self._errors.seek(0)
        sys.exit(f"The server ended over {method}:\n{self._errors.read().decode(errors='replace')[-2000:]}")


def end_process(process: subprocess.Popen[Any]) -> int:
    """The exit status of a process that was told to end; one that does not is killed."""
    try:
        return process.wait(CLOSE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def text_of(result: dict[str, Any]) -> str:
    """The text that a model reads in the answer of a tool."""
    return "\n".join(block["text"] for block in result["content"] if block["type"] == "text")


@contextmanager
def http_server(*program: str, **settings: str) -> Iterator[tuple[psutil.Process, str]]:
    """Our server over streamable HTTP on a free port, or `program`, which says where as ours does: process, address."""
    process = subprocess.Popen(
        [sys.executable, *(program or (*PRODUCT, "serve", "--transport", "http", "--port", "0"))],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(**settings),
        text=True,
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        if not line.startswith("Serving MCP at "):
            sys.exit(f"The HTTP server did not start: {line}{process.stderr.read()}")
        threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop it
        yield psutil.Process(process.pid), line.split()[-1]
    finally:
        process.terminate()
        end_process(process)


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process and all processes below it."""
    return [process, *process.children(recursive=True)]


def resident_mb(process: psutil.Process) -> float:
    """Memory that the process holds now."""
    return float(process.memory_info().rss / MB)


def sample_page(folder: str) -> str:
    """Path of the receipt in `examples/pages`; without it, of a page drawn into `folder`."""
    page = PAGES / "receipt.png"
    if page.is_file():
        return str(page)
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (700, 900), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=30)
    for number in range(16):
        line = f"{number + 1} x Item number {number * 37}   {number}.95"
        draw.text((40, 30 + 52 * number), line, "black", font)
    page = Path(folder) / "receipt.png"
    image.save(page)
    return str(page)


# -- figures


def spread(values: Sequence[float], digits: int) -> str:
    """`median (min–max)`."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The median, over the rounds, of the ratio within a round, as `×0.42`."""
    return f"×{statistics.median(a / b for a, b in zip(ours, theirs, strict=True)):.2f}"


def verdict(holds: bool) -> str:
    """Whether a claim holds, as words for a table or a sentence."""
    return "holds" if holds else "DOES NOT HOLD"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is readable on a terminal too; figures on the right."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        figures = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return f"| {' | '.join((cells[0].ljust(widths[0]), *figures))} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def say(message: str) -> None:
    """Write progress to stderr; stdout holds the result."""
    print(message, file=sys.stderr, flush=True)


def report(name: str, claim: str, text: str, *, save: bool) -> None:
    """Print a result. With `save`, also write it to `results/`, with the machine of the run."""
    print(text)
    if not save:
        return
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.md"
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    run = f"`{command}`, {datetime.date.today().isoformat()}, on"
    parts = (f"# {name}", claim.strip(), text, run, _machine())
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    say(f"saved in {path}")


def _machine() -> str:
    facts = [
        f"{_cpu_model()}, {psutil.cpu_count()} logical cores",
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory, load {LOAD:.1f} before the run",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        ", ".join(filter(None, map(_package, PACKAGES))),
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return ""

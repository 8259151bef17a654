"""Claim: whatever is sent and whoever is killed, no answer is wrong, none is missing, and nothing is left behind.

One server over HTTP, one over stdio, and, all at once for as long as it is told to:

- *callers*: each reads small pages over the API or over MCP, in both eras, and holds every text against what the same
  page said before anything was killed;
- *kills*: SIGKILL to an engine's worker or to the decoder, every few seconds;
- *files*: pictures and documents with bytes changed, cut off or repeated, as uploads;
- *messages*: JSON-RPC with bytes changed, over both transports;
- *bad guests*: connections that say nothing, that creep, and that ask for much and read nothing.

Meanwhile the server's memory, descriptors, children and files are counted. Then the guests leave, and what was there at
the beginning is held against what is there at the end; at last the server is told to end while it reads.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import anyio.abc
import anyio.to_thread
import httpx2
import psutil
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from PIL import Image, ImageDraw, ImageFont

from common import MB, PRODUCT, end_process, environment, report, resident_mb, say, table, verdict

PAGES: Final = 24
BOUND_S: Final = 180.0  # an answer that takes longer is missing
QUIET_S: Final = 45.0  # after the last guest: an idle decoder ends after 30 s
SAMPLE_S: Final = 5.0
MAX_GROWTH_MB: Final = 40.0  # of the server itself, over the whole run; a leak of 1 kB a request would show
DRAIN_S: Final = 25
CALL: Final = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "gpu_status", "arguments": {}}}
HEADERS: Final = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


def page(number: int) -> bytes:
    """A small page that says something of its own."""
    image = Image.new("RGB", (360, 60), "white")
    text = f"Invoice {7919 * (number + 11) % 100_000:05}"
    ImageDraw.Draw(image).text((16, 12), text, fill="black", font=ImageFont.load_default(size=30))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def seeds() -> list[bytes]:
    """One file of each kind that is read, small."""
    image = Image.open(io.BytesIO(page(0)))
    made = []
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PDF", "PPM", "JPEG2000"):
        out = io.BytesIO()
        image.save(out, kind)
        made.append(out.getvalue())
    return made


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The same with bytes changed, cut off, repeated or put in."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place = chance.randrange(len(changed)) if changed else 0
        match chance.randrange(5):
            case 0:
                changed[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del changed[place : place + chance.randrange(1, 64)]
            case 2:
                changed[place:place] = chance.randbytes(chance.randrange(1, 16))
            case 3:
                changed[place:place] = changed[place : place + chance.randrange(1, 200)]
            case _:
                del changed[place:]
    return bytes(changed)


@dataclass
class Tally:
    """What became of everything that was sent."""

    answered: Counter[str] = field(default_factory=Counter)
    """Kinds of answer, over all guests: `caller ok`, `file 200`, `message 400`, …"""
    wrong: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    """Codes of the errors that callers with a clean page got."""
    kills: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    samples: list[tuple[float, int, int]] = field(default_factory=list)
    """Of the server: resident MB, descriptors, children."""


@dataclass
class Server:
    """The server over HTTP, and the folder that all of its files are in."""

    popen: subprocess.Popen[bytes]
    root: str
    folder: Path

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.popen.pid)

    def sample(self) -> tuple[float, int, int]:
        process = self.process
        return resident_mb(process), process.num_fds(), len(process.children(recursive=True))

    def files(self) -> int:
        return sum(len(files) for _, _, files in os.walk(self.folder))


@contextmanager
def running(log: Path) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        with log.open("wb") as errors:
            popen = subprocess.Popen(
                [sys.executable, *PRODUCT, "serve", "--transport", "http", "--port", "0"],
                stdin=subprocess.DEVNULL,
                stderr=errors,
                env=environment(
                    TMPDIR=folder, OCR_ENGINE="rapidocr", OCR_DRAIN_SECONDS=str(DRAIN_S), OCR_UPLOAD_TIMEOUT="5"
                ),
            )
        try:
            began = time.monotonic()
            while b"Serving MCP at " not in (said := log.read_bytes()):
                if time.monotonic() - began > 60:
                    sys.exit(f"The HTTP server did not start: {said.decode(errors='replace')}")
                time.sleep(0.05)
            address = said.partition(b"Serving MCP at ")[2].split()[0].decode()
            yield Server(popen, address.removesuffix("/mcp"), Path(folder))
        finally:
            popen.kill()
            popen.wait()


# -- guests: each does one thing, and is asked to do it again until the time is over


class Guests:
    """All that is sent to the server. Each method is one act."""

    def __init__(self, server: Server, tally: Tally, seed: int) -> None:
        self.server = server
        self.tally = tally
        self.pages = [page(number) for number in range(PAGES)]
        self.texts: list[str] = []
        """What each page said when nobody disturbed."""
        self._files = seeds()
        self._chance = random.Random(seed)

    async def learn(self) -> None:
        async with httpx2.AsyncClient(timeout=BOUND_S) as http:
            for data in self.pages:
                answer = await http.post(self.server.root + "/ocr", files={"file": ("page.png", data)})
                self.texts.append(answer.raise_for_status().json()["text"])

    async def read_by_api(self, http: httpx2.AsyncClient) -> None:
        number = self._chance.randrange(PAGES)
        answer = await http.post(self.server.root + "/ocr", files={"file": ("page.png", self.pages[number])})
        if answer.status_code == 200:
            self._hold(number, answer.json()["text"])
        else:
            self._refused(answer.json()["error"]["code"])

    async def read_by_mcp(self, mode: str) -> None:
        number = self._chance.randrange(PAGES)
        async with (
            httpx2.AsyncClient(timeout=BOUND_S) as http,
            Client(streamable_http_client(self.server.root + "/mcp", http_client=http), mode=mode) as client,
        ):
            result = await client.call_tool("ocr_image", {"image": base64.b64encode(self.pages[number]).decode()})
        text = "\n".join(block.text for block in result.content if block.type == "text")
        if result.is_error:
            self._refused(text)
        else:
            self._hold(number, text)

    def _hold(self, number: int, text: str) -> None:
        if text.strip() == self.texts[number].strip():
            self.tally.answered["caller ok"] += 1
        else:
            self.tally.wrong.append(f"page {number}: {text!r} instead of {self.texts[number]!r}")

    def _refused(self, code: str) -> None:
        self.tally.answered["caller refused"] += 1
        self.tally.failed[code.split(".")[0][:60]] += 1

    async def send_file(self, http: httpx2.AsyncClient) -> None:
        data = mutated(self._chance.choice(self._files), self._chance)
        answer = await http.post(self.server.root + "/ocr", files={"file": ("page", data)})
        error = {} if answer.status_code == 200 else answer.json()["error"]
        if error and set(error) != {"code", "message", "remedy"}:
            self.tally.wrong.append(f"a file was answered {answer.status_code} {answer.text[:200]}")
        self.tally.answered[f"file {error.get('code', 'read')}"] += 1

    async def send_message(self, http: httpx2.AsyncClient) -> None:
        data = mutated(json.dumps(CALL).encode(), self._chance)
        headers = HEADERS | ({"MCP-Protocol-Version": "2026-07-28"} if self._chance.random() < 0.5 else {})
        answer = await http.post(self.server.root + "/mcp", content=data, headers=headers)
        self.tally.answered[f"message {answer.status_code}"] += 1
        await anyio.sleep(0.02)

    async def be_rude(self) -> None:
        """Say nothing, creep, or ask and not read, for a while."""
        host, _, port = self.server.root.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as rude:
            match self._chance.randrange(3):
                case 1:
                    rude.sendall(b"POST /ocr HTTP/1.1\r\nHost: loc")
                case 2:
                    rude.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
            await anyio.sleep(self._chance.uniform(0.5, 5))
        self.tally.answered["bad guest gone"] += 1

    async def kill(self) -> None:
        await anyio.sleep(self._chance.uniform(1.5, 5))
        children = self.server.process.children()
        if children:
            victim = self._chance.choice(children)
            with contextlib.suppress(psutil.NoSuchProcess):
                kind = "decoder" if any("PageRenderer" in part for part in victim.cmdline()) else "engine"
                victim.kill()
                self.tally.kills[kind] += 1

    async def count(self) -> None:
        with contextlib.suppress(psutil.Error):
            self.tally.samples.append(await anyio.to_thread.run_sync(self.server.sample))
        await anyio.sleep(SAMPLE_S)


async def repeat(act: Callable[[], Awaitable[None]], until: float, tally: Tally, name: str) -> None:
    """Do it again and again; an answer that does not come in time, or a connection that breaks, is missing."""
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            with anyio.fail_after(BOUND_S):
                await act()
        except Exception as exc:
            cause: BaseException = exc
            while isinstance(cause, BaseExceptionGroup):
                cause = cause.exceptions[0]
            tally.missing.append(f"{name}: {type(cause).__name__} {str(cause)[:100]}")
            await anyio.sleep(0.1)
        if name == "caller":
            tally.latencies.append(time.monotonic() - began)


class Stdio:
    """A server over stdio that is sent damaged lines; after each, a good one must be answered."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.popen = subprocess.Popen(
            [sys.executable, *PRODUCT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(TMPDIR=self.folder.name, OCR_ENGINE="rapidocr"),
        )
        self.sent = self.answered = 0

    def _line(self, data: bytes) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(data + b"\n")
        self.popen.stdin.flush()

    def initialize(self) -> None:
        info = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "b", "version": "1"}}
        self._line(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": info}).encode())
        assert self.popen.stdout is not None
        self.popen.stdout.readline()
        self._line(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')

    def send(self, chance: random.Random) -> None:
        """A damaged line, then a sound one; reads until that one is answered."""
        assert self.popen.stdout is not None
        damaged = mutated(json.dumps(CALL).encode(), chance).replace(b"\n", b" ")
        self.sent += 1
        number = f"good {self.sent}"
        self._line(damaged)
        self._line(json.dumps({"jsonrpc": "2.0", "id": number, "method": "ping"}).encode())
        while line := self.popen.stdout.readline():
            if json.loads(line).get("id") == number:
                self.answered += 1
                return
        raise RuntimeError("the server over stdio ended")

    def close(self) -> int:
        assert self.popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.close()
        status = end_process(self.popen)
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        self.folder.cleanup()
        return status


async def at_stdio(stdio: Stdio, until: float, seed: int, tally: Tally) -> None:
    chance = random.Random(seed)
    try:
        await anyio.to_thread.run_sync(stdio.initialize, abandon_on_cancel=True)
        while time.monotonic() < until:
            with anyio.fail_after(BOUND_S):
                await anyio.to_thread.run_sync(stdio.send, chance, abandon_on_cancel=True)
            await anyio.sleep(0.02)
    except Exception as exc:
        tally.missing.append(f"stdio: {type(exc).__name__} {exc}")


# -- the run


async def disturb(guests: Guests, until: float, callers: int) -> Stdio:
    tally, stdio = guests.tally, Stdio()
    async with httpx2.AsyncClient(timeout=BOUND_S) as http, anyio.create_task_group() as tasks:

        def invite(name: str, act: Callable[[], Awaitable[None]]) -> None:
            tasks.start_soon(repeat, act, until, tally, name)

        for number in range(callers):
            match number % 3:
                case 0:
                    invite("caller", lambda: guests.read_by_api(http))
                case 1:
                    invite("caller", lambda: guests.read_by_mcp("legacy"))
                case _:
                    invite("caller", lambda: guests.read_by_mcp("auto"))
        invite("file", lambda: guests.send_file(http))
        invite("file", lambda: guests.send_file(http))
        invite("message", lambda: guests.send_message(http))
        for _ in range(4):
            invite("bad guest", guests.be_rude)
        invite("kill", guests.kill)
        invite("count", guests.count)
        tasks.start_soon(at_stdio, stdio, until, 7, tally)
        while time.monotonic() < until:
            await anyio.sleep(min(60.0, max(0.1, until - time.monotonic())))
            say(f"{dict(tally.answered)}, kills {dict(tally.kills)}, missing {len(tally.missing)}")
    return stdio


async def end_while_reading(server: Server, guests: Guests) -> tuple[Counter[str], int | None, float]:
    """SIGTERM while eight callers wait: what each got, the exit status, and the seconds until the end."""
    outcomes: Counter[str] = Counter()

    async def ask() -> None:
        try:
            async with httpx2.AsyncClient(timeout=60) as http:
                answer = await http.post(server.root + "/ocr", files={"file": ("page.png", guests.pages[0])})
                outcomes["answered" if answer.status_code == 200 else str(answer.status_code)] += 1
        except httpx2.HTTPError as exc:
            outcomes[type(exc).__name__] += 1

    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(ask)
        await anyio.sleep(0.3)
        server.popen.send_signal(signal.SIGTERM)
        status = await anyio.to_thread.run_sync(lambda: server.popen.wait(DRAIN_S + 10))
    return outcomes, status, time.monotonic() - began


@dataclass
class Run:
    """What is to be held against the promises."""

    tally: Tally
    before: tuple[float, int, int]
    after: tuple[float, int, int]
    files: tuple[int, int]
    """In the server's folder, before and after."""
    stdio: Stdio
    stdio_status: int
    ending: tuple[Counter[str], int | None, float]
    left: tuple[int, int]
    """Children and files that outlived the server."""


async def endure(minutes: float, callers: int, seed: int, log: Path) -> Run:
    tally = Tally()
    with running(log) as server:
        guests = Guests(server, tally, seed)
        await guests.learn()
        await anyio.sleep(QUIET_S)  # until the decoder has left
        before, files_before = server.sample(), server.files()
        say(f"before: {before[0]:.0f} MB, {before[1]} descriptors, {before[2]} children, {files_before} files")
        stdio = await disturb(guests, time.monotonic() + 60 * minutes, callers)
        stdio_status = stdio.close()
        await anyio.sleep(QUIET_S)
        after, files_after = server.sample(), server.files()
        children = server.process.children(recursive=True)
        ending = await end_while_reading(server, guests)
        left = [child.pid for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
        for line in (*tally.wrong[:10], *tally.missing[:10]):
            say(line)
        files = (files_before, files_after)
        return Run(tally, before, after, files, stdio, stdio_status, ending, (len(left), server.files()))


def promises(run: Run) -> list[tuple[str, str, str]]:
    """Each promise, what was measured, and whether it holds."""
    tally, before, after = run.tally, run.before, run.after
    kills, refused = sum(tally.kills.values()), tally.answered["caller refused"]
    files = sum(count for kind, count in tally.answered.items() if kind.startswith("file "))
    messages = sum(count for kind, count in tally.answered.items() if kind.startswith("message "))
    peak = max((sample[0] for sample in tally.samples), default=0.0)
    outcomes, status, seconds = run.ending
    clean = tally.answered["caller ok"] + refused
    by_kind = f"{tally.kills['engine']} engine, {tally.kills['decoder']} decoder"
    ended = ", ".join(f"{count} {kind}" for kind, count in outcomes.items())
    return [
        ("no wrong text", f"{len(tally.wrong)} of {clean}", verdict(not tally.wrong and clean > 0)),
        ("no answer is missing", f"{len(tally.missing)}", verdict(not tally.missing)),
        (
            "a kill costs one request at most",
            f"{refused} refused over {kills} kills ({by_kind})",
            verdict(refused <= kills),
        ),
        ("damaged files are answered", f"{files}", verdict(files > 0)),
        ("damaged messages over HTTP are answered", f"{messages}", verdict(messages > 0)),
        (
            "damaged lines harm no stdio server",
            f"{run.stdio.answered} of {run.stdio.sent}, exit {run.stdio_status}",
            verdict(run.stdio.answered == run.stdio.sent > 0 and run.stdio_status == 0),
        ),
        (
            "memory of the server stays",
            f"{before[0]:.0f} → {after[0]:.0f} MB, at most {peak:.0f}",
            verdict(after[0] - before[0] < MAX_GROWTH_MB),
        ),
        ("descriptors are given back", f"{before[1]} → {after[1]}", verdict(after[1] <= before[1] + 4)),
        ("children end", f"{before[2]} → {after[2]}", verdict(after[2] <= max(before[2], 1))),
        ("files are removed", f"{run.files[0]} → {run.files[1]}", verdict(run.files[1] <= run.files[0])),
        (
            "SIGTERM answers what is under way",
            f"{ended}, exit {status} after {seconds:.1f} s",
            verdict(status == 0 and set(outcomes) <= {"answered", "503"} and outcomes["answered"] > 0),
        ),
        ("nothing outlives the server", f"{run.left[0]} children, {run.left[1]} files", verdict(run.left == (0, 0))),
    ]


def told(run: Run, minutes: float, callers: int, log: Path) -> str:
    """The table, and what stands beside it."""
    tally = run.tally
    clean = tally.answered["caller ok"] + tally.answered["caller refused"]
    errors = ", ".join(f"{code} ({count})" for code, count in tally.failed.most_common()) or "none"
    kinds = [(kind.split(" ")[1], n) for kind, n in tally.answered.most_common() if kind.startswith("file ")]
    files = ", ".join(f"{kind} {n}" for kind, n in kinds)
    median = statistics.median(tally.latencies) if tally.latencies else 0.0
    return "\n\n".join(
        [
            table(("promise", "measured", ""), promises(run)),
            f"{minutes:g} minutes, {callers} callers with {clean} readings of clean pages (median {median:.2f} s, most "
            f"{max(tally.latencies, default=0.0):.1f} s), {tally.answered['bad guest gone']} bad guests. Errors that "
            f"callers got: {errors}. What damaged files got: {files}. The server's log has "
            f"{log.stat().st_size / MB:.2f} MB.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--callers", type=int, default=9)
    parser.add_argument("--seed", type=int, default=22)
    parser.add_argument("--save", action="store_true", help="keep the result in benchmarks/results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "server.log")
        run = anyio.run(endure, arguments.minutes, arguments.callers, arguments.seed, log)
        text = told(run, arguments.minutes, arguments.callers, log)
    report("endurance", __doc__.partition("\n")[0], text, save=arguments.save)


if __name__ == "__main__":
    main()

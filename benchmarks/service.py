"""Claim: clients of the HTTP API get at least 90 % of the pages per second that the engine alone reads, be they 1, 8
or 64, and meanwhile `/health` and `/gpu/status` answer within 50 ms in 99 of 100 cases.

The engine alone is `RapidOcrEngine` in a process of its own, warm, called directly, page after page. Pillow decodes the
file before it. The server is a warm process. Its clients send the same pages to `POST /ocr` as forms, each client the
next page as soon as it has its answer. No two files are the same, and the cache is off, so the engine reads every page.
All must return the same text.

In every round the engine has its turn before and after the clients; the clients are compared with the mean of the two.
Another process asks `/health` and `/gpu/status` in turn, with one connection, while the clients read. Everything shares
the machine's cores: the clients and this process take time from the server.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import anyio
import httpx2

from common import PAGES, environment, http_server, report, say, spread, table, verdict
from deepseek_ocr_mcp.engines.cores import usable_cores
from overhead import Reader, draw_pages, engine_alone

LEAST_SHARE: Final = 0.9
LATEST_S: Final = 0.05
CLIENTS: Final = (1, 8, 64)
CALL_TIMEOUT_S: Final = 600.0
PROBES: Final = ("/health", "/gpu/status")
PROBE_EVERY_S: Final = 0.1  # a load balancer asks less often; a higher rate would take cores from the engine
MODE: Final = "document"


# -- the process that asks for health and status: this file run with --probe


def probe(root: str) -> None:
    """Ask until stdin ends. Then print the seconds of each answer."""
    host, _, port = root.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    taken: dict[str, list[float]] = {path: [] for path in PROBES}
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    while not ended.wait(PROBE_EVERY_S):
        for path in PROBES:
            began = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            taken[path].append(time.perf_counter() - began)
            if answer.status != 200:
                sys.exit(f"{path} answered {answer.status}: {body.decode()}")
    print(json.dumps(taken))


class Prober:
    """The handle of a process that runs `probe`."""

    def __init__(self, root: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--probe", root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )

    def end(self) -> dict[str, list[float]]:
        """Seconds that each answer took."""
        said, _ = self._process.communicate("", timeout=60)
        found: dict[str, list[float]] = json.loads(said)
        return found


# -- the clients


async def read_by_clients(root: str, files: Sequence[bytes], clients: int) -> tuple[float, list[str]]:
    """The seconds that the clients took for these files, and the text of each file."""
    texts = [""] * len(files)
    left = deque(enumerate(files))

    async def client() -> None:
        async with httpx2.AsyncClient(base_url=root, timeout=CALL_TIMEOUT_S) as http:
            while left:
                number, data = left.popleft()
                answer = await http.post("/ocr", data={"mode": MODE}, files={"file": ("page", data)})
                if answer.status_code != 200:
                    sys.exit(f"A page was refused: {answer.text}")
                texts[number] = answer.json()["text"]

    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(clients):
            tasks.start_soon(client)
    return time.perf_counter() - began, texts


async def read_alone(engine: Reader, paths: Sequence[Path]) -> tuple[float, list[str]]:
    """The seconds and the texts of the engine alone, by its own clock."""
    seconds, texts = 0.0, []
    for path in paths:
        read = await engine(path)
        seconds += read.total
        texts.append(read.text)
    return seconds, texts


# -- the run


class Level:
    """The figures for one number of clients, round by round."""

    def __init__(self) -> None:
        self.speed: list[float] = []
        """Pages a second."""
        self.share: list[float] = []
        """Of the engine's own speed in the same round."""
        self.probes: dict[str, list[float]] = {path: [] for path in PROBES}


async def measure(arguments: argparse.Namespace) -> tuple[list[float], list[float], dict[int, Level]]:
    """The pages a second of the engine, the difference of its two turns, and each level."""
    levels = {clients: Level() for clients in arguments.clients}
    alone: list[float] = []
    noise: list[float] = []
    settings = {
        "OCR_THREADS": str(arguments.threads),
        "OCR_ENGINE": "rapidocr",
        "OCR_CACHE": "off",
        "OCR_MAX_QUEUE": str(2 * max(arguments.clients)),  # all come from one address, and a client may have half
        "GPU_IDLE_TIMEOUT": "-1",
    }
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        draw_pages(Path(folder))
        kinds = [*sorted(PAGES.glob("*.png")), Path(folder) / "one-line.png", Path(folder) / "full-page.png"]
        paths = [kinds[number % len(kinds)] for number in range(arguments.pages)]
        contents = [path.read_bytes() for path in paths]
        serial = 0
        _, url = stack.enter_context(http_server(**settings))
        root = url.removesuffix("/mcp")
        engine = stack.enter_context(engine_alone(MODE, arguments.threads))
        say("warming up")
        _, wanted = await read_alone(engine, paths)
        await read_by_clients(root, contents[: len(kinds)], 2)
        for number in range(1, arguments.rounds + 1):
            first, _ = await read_alone(engine, paths)
            took = {}
            for clients, level in levels.items():
                say(f"round {number} of {arguments.rounds}: {clients} clients")
                serial += 1
                # A decoder ignores bytes after the end of a picture. They make another file of the same page.
                files = [data + f" {serial} {index}".encode() for index, data in enumerate(contents)]
                prober = Prober(root)
                took[clients], texts = await read_by_clients(root, files, clients)
                for path, seconds in prober.end().items():
                    level.probes[path] += seconds
                if texts != wanted:
                    sys.exit(f"{clients} clients did not get the text that the engine alone reads.")
            second, _ = await read_alone(engine, paths)
            mean = (first + second) / 2
            alone.append(len(paths) / mean)
            noise.append(abs(first - second) / mean)
            for clients, level in levels.items():
                level.speed.append(len(paths) / took[clients])
                level.share.append(mean / took[clients])
    return alone, noise, levels


# -- the result


def judged(alone: list[float], noise: list[float], levels: dict[int, Level], pages: int) -> str:
    """The tables and the verdict."""
    rows, waits, verdicts = [], [], []
    for clients, level in levels.items():
        share = statistics.median(level.share)
        rows.append([str(clients), spread(level.speed, 2), f"{share:.0%}"])
        for path in PROBES:
            seconds = sorted(level.probes[path])
            worst = quantile(seconds, 0.99)
            waits.append(
                [
                    f"{path}, {clients} clients",
                    str(len(seconds)),
                    f"{1000 * quantile(seconds, 0.5):.1f}",
                    f"{1000 * worst:.1f}",
                    f"{1000 * seconds[-1]:.1f}",
                ]
            )
            verdicts.append(
                f"{path} with {clients} clients within {1000 * LATEST_S:g} ms at p99: {verdict(worst <= LATEST_S)}."
            )
        verdicts.append(
            f"{clients} clients at least {LEAST_SHARE:.0%} of the engine alone: {verdict(share >= LEAST_SHARE)}."
        )
    own = f"The engine alone: {spread(alone, 2)} pages a second; its turns in a round differ by up to {max(noise):.0%}."
    legend = (
        f"{len(alone)} rounds of {pages} pages each, for the engine twice and for each number of clients. Pages a "
        "second: median (min–max). Of the engine: median over the rounds of the ratio in the same round."
    )
    return "\n\n".join(
        [
            own,
            table(("clients", "pages a second", "of the engine"), rows),
            table(("answers while they read", "answers", "p50 ms", "p99 ms", "longest ms"), waits),
            legend,
            "\n".join(verdicts),
        ]
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that this share of all does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    """Measure, print, and save if asked."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="rounds (default %(default)s)")
    add("--pages", type=int, default=128, help="pages that are read in each turn (default %(default)s)")
    add("--clients", type=int, nargs="+", default=list(CLIENTS), help="numbers of clients (default %(default)s)")
    add("--threads", type=int, default=usable_cores(), help="threads of the engine, for both (default %(default)s)")
    add("--save", action="store_true", help="write results/service.md")
    add("--probe", metavar="ROOT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        probe(arguments.probe)
        return
    found = anyio.run(measure, arguments)
    report("service", __doc__ or "", judged(*found, arguments.pages), save=arguments.save)


if __name__ == "__main__":
    main()

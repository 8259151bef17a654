"""Claim: `initialize` is answered in under 1 s from spawn, and the server process stays under 120 MB.

A server that imports its engine makes every client wait for that import. It holds the engine's memory as long as the
client is open, also when nobody reads a page. Ours imports the engine in a child process when the first page comes. The
benchmark measures both over stdio, in turns, on the same page. The floor of the interpreter stands beside them: the
cost of the two imports alone.

Two facts about the peer. First, rapidocr 3.10 imports its libraries at once but loads its models with the first page;
an engine that loads its models at its start makes a slower peer than this one. Second, it reads with the same models as
ours, in a pipeline of its own; the row of the first page therefore compares the products, not the processes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

from common import (
    IN_PROCESS,
    MB,
    PRODUCT,
    StdioServer,
    environment,
    family,
    ratio,
    report,
    resident_mb,
    sample_page,
    say,
    spread,
    table,
    verdict,
)

INITIALIZE_S: Final = 1.0
SERVER_MB: Final = 120
SERVERS: Final = {"ours": PRODUCT, "in-process": IN_PROCESS}
FLOORS: Final = ("pass", "import mcp.server.mcpserver", "from rapidocr import RapidOCR")
ROWS: Final = (  # name, decimals
    ("spawn to initialize answered, s", 2),
    ("server process then, MB", 0),
    ("server process, peak after a page, MB", 0),
    ("with its child processes, sum of peaks, MB", 0),
    ("spawn to the first page's text, s", 2),
)


def peak_mb(process: psutil.Process) -> float:
    """The peak memory of a running process; its memory now, where the system keeps no peak."""
    try:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / MB
    except OSError:
        pass
    memory = process.memory_info()
    return float(getattr(memory, "peak_wset", memory.rss) / MB)


def measure_server(arguments: tuple[str, ...], page: str) -> list[float]:
    """One life of a server, from spawn to its first page: a figure for each of `ROWS`."""
    with StdioServer(arguments) as server:
        initialize_s = server.initialize()
        then = resident_mb(server.process)
        text = server.call("ocr_image", image=page)
        page_s = time.perf_counter() - server.began
        if not text.strip():
            sys.exit(f"{' '.join(arguments)} read nothing on {page}.")
        peaks = [peak_mb(process) for process in family(server.process)]
        return [initialize_s, then, peaks[0], sum(peaks), page_s]


def measure_floor(code: str) -> tuple[float, float]:
    """Seconds and peak MB of `python -c code`."""
    began = time.perf_counter()
    # -P: a module in this folder must not shadow an import
    child = subprocess.Popen([sys.executable, "-P", "-c", code], env=environment(), stderr=subprocess.DEVNULL)
    peak = float("nan")
    if hasattr(os, "wait4"):
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MB
    elif child.wait():
        pass
    if child.returncode:
        sys.exit(f"python -c {code!r} failed.")
    return time.perf_counter() - began, peak


def main() -> None:
    """Measure, print, and save if asked."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--rounds", type=int, default=7, help="lives of each server (default %(default)s)")
    parser.add_argument("--page", help="the page to read (default examples/pages/receipt.png)")
    parser.add_argument("--save", action="store_true", help="write results/startup.md")
    arguments = parser.parse_args()

    lives: dict[str, list[list[float]]] = {name: [] for name in SERVERS}
    floors: dict[str, list[tuple[float, float]]] = {code: [] for code in FLOORS}
    with tempfile.TemporaryDirectory() as folder:
        page = os.path.abspath(arguments.page or sample_page(folder))
        for number in range(arguments.rounds + 1):
            say(f"round {number} of {arguments.rounds}" if number else "warming the disk cache")
            for name in SERVERS if number % 2 else reversed(SERVERS):
                lives[name].append(measure_server(SERVERS[name], page))
            for code in FLOORS:
                floors[code].append(measure_floor(code))
    ours, peer = ([list(row) for row in zip(*lives[name][1:], strict=True)] for name in SERVERS)
    rows = [
        (name, spread(a, digits), spread(b, digits), ratio(a, b))
        for (name, digits), a, b in zip(ROWS, ours, peer, strict=True)
    ]
    bare = [
        (f'python -c "{code}"', spread([s for s, _ in runs[1:]], 2), spread([mb for _, mb in runs[1:]], 0))
        for code, runs in floors.items()
    ]
    fast, small = statistics.median(ours[0]) < INITIALIZE_S, max(ours[2]) < SERVER_MB
    text = "\n\n".join(
        [
            table(("", "ours", "in-process", "ours / in-process"), rows),
            table(("the floor", "s", "peak MB"), bare),
            f"Median (min–max) of {arguments.rounds} rounds on {os.path.basename(page)}; 1 MB is 10⁶ bytes.\n"
            f"initialize under {INITIALIZE_S:g} s: {verdict(fast)}. "
            f"Server process under {SERVER_MB} MB in every round: {verdict(small)}.",
        ]
    )
    report("startup", __doc__ or "", text, save=arguments.save)


if __name__ == "__main__":
    main()

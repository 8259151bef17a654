"""Claim: whoever ends a server, a command or a request has it ended within a second, whatever the engine does.

A client that closes its server waits a second or two before it kills; a person who presses Ctrl-C waits less. Each
way to end is measured while nothing is read, while an engine reads that can be cancelled, and while one reads that
ignores everything but SIGKILL. The tests hold that nothing is left behind; how long it takes is measured here, for a
bound in seconds fails on a machine that does other things too.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from common import PRODUCT, StdioServer, environment, report, sample_page, say, spread, table, verdict

BOUND_S: Final = 1.0
WATCHDOG_S: Final = 60.0
ENGINES: Final = Path(__file__).parents[1] / "tests" / "engines"
READING: Final = ("Patient", "Hanging")
ROWS: Final = (
    "stdio server, idle, end of input",
    "stdio server, idle, SIGTERM",
    *(f"stdio server, {engine} reads, {how}" for engine in READING for how in ("end of input", "SIGTERM", "SIGINT")),
    *(f"command `ocr`, {engine} reads, {how}" for engine in READING for how in ("SIGTERM", "SIGINT")),
)


class Signs:
    """The named pipe in which an engine of `tests/engines/faults.py` tells that it reads."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "signs")
        os.mkfifo(self.path)
        self._pipe = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)

    def wait(self) -> None:
        if not select.select([self._pipe], [], [], WATCHDOG_S)[0]:
            sys.exit("No engine began to read.")
        os.read(self._pipe, 4096)


def seconds_to_end(process: subprocess.Popen[bytes], end: Callable[[], object]) -> float:
    """Seconds from `end` to the death of the process."""
    began = time.perf_counter()
    end()
    process.wait(WATCHDOG_S)
    return time.perf_counter() - began


def end_of(process: subprocess.Popen[bytes], how: str) -> Callable[[], object]:
    """What ends it: a signal, or the end of its input."""
    if how == "end of input":
        assert process.stdin is not None
        return process.stdin.close
    return lambda: process.send_signal(getattr(signal, how))


def measure(row: str, page: str, signs: Signs) -> float:
    """One life that ends in the way that a row names."""
    what, doing, how = row.split(", ")
    engine = doing.removesuffix(" reads") if doing != "idle" else "Echo"
    settings = {"OCR_ENGINE": f"faults:{engine}", "PYTHONPATH": str(ENGINES), "SIGNS": signs.path}
    if what == "stdio server":
        with StdioServer(PRODUCT, **settings) as server:
            server.initialize()
            if doing != "idle":
                server.begin("ocr_image", image=page)
                signs.wait()
            return seconds_to_end(server.popen, end_of(server.popen, how))
    process = subprocess.Popen(
        [sys.executable, *PRODUCT, "ocr", page],
        env=environment(**settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    signs.wait()
    return seconds_to_end(process, end_of(process, how))


def main() -> None:
    """Measure, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="lives of each row (default %(default)s)")
    parser.add_argument("--save", action="store_true", help="write results/ending.md")
    arguments = parser.parse_args()

    found: dict[str, list[float]] = {row: [] for row in ROWS}
    with tempfile.TemporaryDirectory() as folder:
        page, signs = os.path.abspath(sample_page(folder)), Signs(folder)
        for number in range(arguments.rounds):
            say(f"round {number + 1} of {arguments.rounds}")
            for row in ROWS:
                found[row].append(measure(row, page, signs))
    slowest = max(map(statistics.median, found.values()))
    text = "\n\n".join(
        [
            table(("what, while, how", "s until it has ended"), [(row, spread(s, 2)) for row, s in found.items()]),
            f"Median (min–max) of {arguments.rounds} rounds. Ended within {BOUND_S:g} s: {verdict(slowest < BOUND_S)}.",
        ]
    )
    report("ending", __doc__ or "", text, save=arguments.save)


if __name__ == "__main__":
    main()

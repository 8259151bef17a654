"""Claim: an idle server polls nothing (at most 5 wake-ups a process in 10 s), and gives its memory back.

The benchmark watches one server over stdio in three states: after `initialize` (no worker), after a page (worker and
decoder alive) and after `gpu_release`. It watches one server over HTTP after a client came and went. The peer is a
server that holds its engine in its own process, after the same page. Wake-ups are the context switches, voluntary and
not, of all threads of a server and its children. Memory is the resident memory in that state.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import psutil
from mcp import Client

from common import (
    IN_PROCESS,
    PRODUCT,
    StdioServer,
    family,
    http_server,
    report,
    resident_mb,
    sample_page,
    say,
    spread,
    table,
    verdict,
)

WAKE_UPS: Final = 5  # of one process in 10 s
SETTLE_S: Final = 1.0  # by then the work after an answer is done
GONE_S: Final = 60.0  # the decoder ends after 30 s without a document

INITIALIZED, READ, RELEASED = "stdio, initialized", "stdio, a page read", "stdio, released"
HTTP, PEER = "HTTP, initialized", "in-process, a page read"
STATES: Final = (INITIALIZED, READ, RELEASED, HTTP, PEER)


@dataclass(frozen=True, slots=True)
class Idle:
    """A server and its children during a time without requests."""

    server_mb: float
    children_mb: float
    cpu_s: float
    wake_ups: list[int]
    """One for each process, the server first."""


def switches(process: psutil.Process) -> dict[str, int]:
    """Context switches so far of each thread. psutil counts the first thread only, on Linux."""
    threads = Path(f"/proc/{process.pid}/task")
    if not threads.is_dir():
        return {"": sum(process.num_ctx_switches())}
    found = {}
    for thread in threads.iterdir():
        lines = (thread / "status").read_text().splitlines()
        found[thread.name] = sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return found


def cpu_seconds(process: psutil.Process) -> float:
    """Processor time so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def watch(servers: Mapping[str, psutil.Process], seconds: float) -> dict[str, Idle]:
    """Watch all servers at once. Idle servers do not disturb each other."""
    time.sleep(SETTLE_S)
    families = {name: family(server) for name, server in servers.items()}
    before = {name: [(cpu_seconds(p), switches(p)) for p in members] for name, members in families.items()}
    time.sleep(seconds)
    found = {}
    for name, processes in families.items():
        cpu_s, wake_ups = 0.0, []
        for process, (cpu_before, switches_before) in zip(processes, before[name], strict=True):
            cpu_s += cpu_seconds(process) - cpu_before
            now = switches(process)
            wake_ups.append(sum(count - switches_before.get(thread, 0) for thread, count in now.items()))
        resident = [resident_mb(process) for process in processes]
        found[name] = Idle(resident[0], sum(resident[1:]), cpu_s, wake_ups)
    return found


async def come_and_go(url: str) -> None:
    """Connect as a client, and leave."""
    async with Client(url) as client:
        await client.list_tools()


def wait_childless(process: psutil.Process) -> None:
    """Wait until the server has no child left."""
    began = time.monotonic()
    while process.children():
        if time.monotonic() - began > GONE_S:
            sys.exit(f"The server still has {process.children()} after {GONE_S:g} s.")
        time.sleep(0.2)


def one_round(page: str, seconds: float) -> dict[str, Idle]:
    """The life of each server, with a window of `seconds` in each state."""
    with (
        StdioServer(PRODUCT, GPU_IDLE_TIMEOUT="-1") as ours,
        StdioServer(IN_PROCESS) as peer,
        http_server() as (http, url),
    ):
        ours.initialize()
        anyio.run(come_and_go, url)
        peer.initialize()
        found = watch({INITIALIZED: ours.process, HTTP: http}, seconds)
        for server in (ours, peer):
            if not server.call("ocr_image", image=page).strip():
                sys.exit(f"Nothing was read on {page}.")
        found |= watch({READ: ours.process, PEER: peer.process}, seconds)
        ours.call("gpu_release")
        say("waiting for the document decoder to end")
        wait_childless(ours.process)
        return found | watch({RELEASED: ours.process}, seconds)


def judged(rounds: list[dict[str, Idle]], seconds: float) -> str:
    """The table and the verdict."""
    rows, polling = [], []
    for name in STATES:
        seen = [found[name] for found in rounds]
        together = [idle.server_mb + idle.children_mb for idle in seen]
        peer = [found[PEER].server_mb + found[PEER].children_mb for found in rounds]
        busiest = [max(idle.wake_ups) for idle in seen]
        rows.append(
            (
                name,
                str(max(len(idle.wake_ups) for idle in seen)),
                spread([idle.server_mb for idle in seen], 0),
                spread([idle.children_mb for idle in seen], 0),
                f"×{statistics.median(a / b for a, b in zip(together, peer, strict=True)):.2f}",
                spread([idle.cpu_s for idle in seen], 2),
                spread([sum(idle.wake_ups) for idle in seen], 0),
                spread(busiest, 0),
            )
        )
        if name != PEER and statistics.median(busiest) > WAKE_UPS * seconds / 10:
            polling.append(name)
    head = ("idle", "processes", "server MB", "children MB", "memory / in-process",
            "CPU s", "wake-ups", "of one process")  # fmt: skip
    return "\n\n".join(
        [
            table(head, rows),
            f"Median (min–max) of {len(rounds)} rounds, {seconds:g} s in each state; 1 MB is 10⁶ bytes.",
            f"At most {WAKE_UPS} wake-ups of one process in 10 s: {verdict(not polling)}"
            + (f" for {'; '.join(polling)}." if polling else "."),
        ]
    )


def main() -> None:
    """Measure, print, and save if asked."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--rounds", type=int, default=3, help="lives of each server (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="in each state (default %(default)s)")
    parser.add_argument("--page", help="the page to read (default examples/pages/receipt.png)")
    parser.add_argument("--save", action="store_true", help="write results/idle.md")
    arguments = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        page = os.path.abspath(arguments.page or sample_page(folder))
        for number in range(arguments.rounds):
            say(f"round {number + 1} of {arguments.rounds}")
            rounds.append(one_round(page, arguments.seconds))
    report("idle", __doc__ or "", judged(rounds, arguments.seconds), save=arguments.save)


if __name__ == "__main__":
    main()

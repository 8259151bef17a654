"""Claim: a batch uses machines that join its cluster later, two batches share one, and a GPU engine waits for a card.

The cluster is a Ray head with one core on this machine's loopback. The engine sleeps. Each step is watched from
outside: how many workers there are, and what the command says.

1. A batch reads with the one worker that there is room for. A second node with two cores joins. Workers start there.
2. A second batch starts while the first one reads. Both end with code 0, and each has all of its texts.
3. A batch names DeepSeek-OCR, and no node has a GPU. It says that it waits, and starts no worker. A node that says that
   it has a GPU joins. A worker starts there. This machine has no card, so the worker says so, and the batch ends.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import psutil

from common import PRODUCT, environment, report, say, table, verdict

DOCUMENTS: Final = 600
LIMIT_S: Final = 600.0
WAITS_S: Final = 30.0  # that a batch is watched while it waits for a GPU
READER: Final = "UnitReader"
SETTINGS: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 2,
    "OCR_ENGINE": "sleeping_engine:Sleeping",
    "PYTHONPATH": str(Path(__file__).parent),
}


class Node:
    """A machine of the cluster: a Ray of its own on this one."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self._said = folder / name
        with self._said.open("w") as out:
            self.process = psutil.Popen(
                [Path(sys.executable).with_name("ray"), "start", "--block", "--node-ip-address=127.0.0.1",
                 "--object-store-memory=100000000", *arguments],
                stdout=out, stderr=out, env=environment(**SETTINGS),
            )  # fmt: skip
        wait_until(lambda: "Ray runtime started" in self._said.read_text() or self.process.poll() is not None, name)
        if self.process.poll() is not None:
            sys.exit(f"{name} did not start:\n{self._said.read_text()[-2000:]}")

    def workers(self) -> int:
        """Actors on it that read."""
        found = 0
        for process in self.process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found += READER in " ".join(process.cmdline())
        return found

    def end(self) -> None:
        for process in [*self.process.children(recursive=True), self.process]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait(60)


class Run:
    """A batch on the cluster."""

    def __init__(self, folder: Path, name: str, address: str, **settings: str) -> None:
        self.out = folder / f"{name}-texts"
        self._errors = folder / f"{name}-stderr"
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *PRODUCT, "batch", str(folder / name), "--out", str(self.out), "--ray", address],
                stderr=errors,
                env=environment(**{**SETTINGS, **settings}),
            )

    def texts(self) -> int:
        return sum(1 for _ in self.out.rglob("*.md"))

    def said(self) -> str:
        return self._errors.read_text()


def wait_until(fact: Callable[[], bool], what: str) -> float:
    """Seconds until a fact is true."""
    began = time.monotonic()
    while not fact():
        if time.monotonic() > began + LIMIT_S:
            sys.exit(f"Within {LIMIT_S:g} s it did not come true: {what}")
        time.sleep(0.2)
    return time.monotonic() - began


def make_documents(folder: Path, number: int, width: int) -> None:
    from PIL import Image

    folder.mkdir()
    for index in range(number):
        Image.new("RGB", (width + index % 500, 20 + index // 500), "white").save(folder / f"{index:05}.png")


@contextmanager
def head(folder: Path, stack: ExitStack) -> Iterator[tuple[str, Node]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    scratch = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True))
    node = Node(folder, "head", "--head", f"--port={port}", "--num-cpus=1", "--num-gpus=0", "--include-dashboard=false",
                f"--temp-dir={scratch}")  # fmt: skip
    try:
        yield f"127.0.0.1:{port}", node
    finally:
        node.end()


def measure(folder: Path) -> str:
    rows: list[tuple[str, str]] = []
    holds = []
    with ExitStack() as stack, head(folder, stack) as (address, first):
        make_documents(folder / "one", DOCUMENTS, 40)
        make_documents(folder / "two", DOCUMENTS // 4, 40)
        make_documents(folder / "three", 4, 40)
        one = Run(folder, "one", address)
        stack.callback(one.process.kill)
        wait_until(lambda: one.texts() > 4, "the first batch reads")
        rows.append(("workers on the head, with its one core", str(first.workers())))
        say("a second node joins")
        second = Node(folder, "second", f"--address={address}", "--num-cpus=2", "--num-gpus=0")
        stack.callback(second.end)
        at = one.texts()
        seconds = wait_until(lambda: second.workers() > 1 or one.process.poll() is not None, "workers start there")
        rows.append(("workers on the second node, with its two cores", str(second.workers())))
        rows.append(("seconds until they were there", f"{seconds:.0f}"))
        rows.append(("texts of the first batch then", f"{at} to {one.texts()} of {DOCUMENTS}"))
        holds.append(second.workers() > 1)
        say("a second batch starts")
        both_at = one.texts()
        two = Run(folder, "two", address)
        stack.callback(two.process.kill)
        wait_until(lambda: two.process.poll() is not None and one.process.poll() is not None, "both batches end")
        rows.append(("texts of the first batch when the second began", f"{both_at} of {DOCUMENTS}"))
        rows.append(("exit codes of both", f"{one.process.returncode}, {two.process.returncode}"))
        rows.append(("texts of both", f"{one.texts()} of {DOCUMENTS}, {two.texts()} of {DOCUMENTS // 4}"))
        holds.append((one.process.returncode, two.process.returncode) == (0, 0))
        holds.append((one.texts(), two.texts()) == (DOCUMENTS, DOCUMENTS // 4) and both_at < DOCUMENTS)
        say("a batch waits for a GPU")
        three = Run(folder, "three", address, OCR_ENGINE="deepseek")
        stack.callback(three.process.kill)
        wait_until(lambda: "Waiting for" in three.said() or three.process.poll() is not None, "it says that it waits")
        time.sleep(WAITS_S)
        waits = three.process.poll() is None and not first.workers() + second.workers()
        rows.append(
            (f"DeepSeek-OCR without a GPU: waits after {WAITS_S:g} s, without a worker", "yes" if waits else "no")
        )
        gpu = Node(folder, "gpu", f"--address={address}", "--num-cpus=1", "--num-gpus=1")
        stack.callback(gpu.end)
        seen = 0

        def ended() -> bool:
            nonlocal seen
            seen = max(seen, gpu.workers())
            return three.process.poll() is not None

        wait_until(ended, "it goes on")
        said = (three.said().strip().splitlines() or [""])[-1]
        rows.append(("workers on the node that says that it has one", str(seen)))
        rows.append((f"what the batch said then (code {three.process.returncode})", said.replace("|", "/")[:160]))
        holds.append(waits)
        for name in ("one", "two", "three"):
            say((folder / f"{name}-stderr").read_text()[-600:])
    return f"{table(('watched', 'found'), rows)}\n\nAll three steps: {verdict(all(holds))}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="keep the result in benchmarks/results/")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = measure(Path(folder))
    report("cluster", "\n".join(__doc__.splitlines()), text, save=arguments.save)


if __name__ == "__main__":
    main()

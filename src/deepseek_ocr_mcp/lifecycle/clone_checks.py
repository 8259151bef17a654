"""Measures and tests a card with the programs of a clone: the longer commands of docs/first-day-on-a-gpu.md.

Each is a process in a group of its own that gets no secret. It ends with its check: at its bound, or when the caller
goes away. Only the clone that this package is installed from is run, never a folder that happens to be the current one.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import anyio
import anyio.abc

from ..worker.environment import child_environment
from .first_day import Check

__all__ = ["CLONE_COMMANDS", "CloneCommand", "clone_checks", "own_clone"]

KEPT_BYTES: Final = 1 << 20  # of the output, from its end; a benchmark prints some ten thousand
CARD_TABLE: Final = "| on a GPU"  # begins the table of a benchmark's claims on a card
BROKEN: Final = "DOES NOT HOLD"  # a benchmark's words for a claim that is not kept
UNMEASURED: Final = "no figure"
REMEDY: Final = "Run it by hand in the clone, and report what it prints: docs/first-day-on-a-gpu.md."


@dataclass(frozen=True, slots=True)
class CloneCommand:
    """A program of the clone."""

    name: str
    """The name of its check."""
    arguments: tuple[str, ...]
    """For Python, in the clone."""
    bound_s: float
    """Seconds until it is killed; a guess, with room: no card has run it yet."""
    needs: tuple[str, ...]
    """Modules of the development group."""

    @property
    def runs_tests(self) -> bool:
        """Whether its last line counts tests; a benchmark prints a table of claims."""
        return "pytest" in self.arguments


CLONE_COMMANDS: Final = (
    CloneCommand("decode speed", ("benchmarks/decode.py", "--device", "cuda"), 1800.0, ("psutil", "PIL")),
    CloneCommand("moves", ("benchmarks/lifecycle.py", "--device", "cuda"), 1800.0, ("psutil",)),
    CloneCommand("card tests", ("-m", "pytest", "-q", "-m", "gpu", "tests/engines"), 900.0, ("pytest", "trio")),
)


def own_clone() -> Path | None:
    """The clone that this package is installed from in editable form; None for a copy in `site-packages`."""
    clone = Path(__file__).resolve().parents[3]
    return clone if (clone / "benchmarks" / "decode.py").is_file() else None


async def clone_checks(
    clone: Path | None, failed: str, commands: Sequence[CloneCommand] = CLONE_COMMANDS
) -> AsyncIterator[Check]:
    """A check for each command, also for those that cannot run.

    Args:
        clone: the folder of the clone, if there is one.
        failed: the name of a check that failed and without which no card reads; empty: none did.
        commands: in order.
    """
    for command in commands:
        if reason := _obstacle(command, clone, failed):
            yield Check(command.name, passed=True, found=reason, is_skipped=True)
        else:
            assert clone is not None
            yield await _run(command, clone)


def _obstacle(command: CloneCommand, clone: Path | None, failed: str) -> str:
    if failed:
        return f"Not run, because of {failed}."
    install = "pip install --editable '.[gpu]' --group dev, in a clone, then run it again."
    if clone is None:
        return f"Not run: benchmarks and tests are in a clone. {install}"
    missing = [name for name in command.needs if find_spec(name) is None]
    return f"Not run: {' and '.join(missing)} are missing. {install}" if missing else ""


async def _run(command: CloneCommand, clone: Path) -> Check:
    began = anyio.current_time()
    output, status = b"", None
    async with _started([sys.executable, *command.arguments], clone) as process:
        assert process.stdout is not None
        with anyio.move_on_after(command.bound_s):
            async for piece in process.stdout:
                output = (output + piece)[-KEPT_BYTES:]
            status = await process.wait()
    seconds = anyio.current_time() - began
    text = output.decode("utf-8", "replace")
    if status is None:
        found = f"It took longer than {math.ceil(command.bound_s)} s and was ended."
        return Check(command.name, passed=False, found=found, remedy=REMEDY)
    results = _last_line(text) if command.runs_tests else _card_rows(text)
    if command.runs_tests:
        good = status == 0 and " passed" in results
    else:
        good = status == 0 and results != "" and BROKEN not in results and UNMEASURED not in results
    return Check(command.name, good, f"{results or _last_line(text)} ({seconds:.0f} s)", "" if good else REMEDY)


@contextlib.asynccontextmanager
async def _started(arguments: Sequence[str], folder: Path) -> AsyncIterator[anyio.abc.Process]:
    """A process that ends with the block, and its children with it."""
    with anyio.CancelScope(shield=True):  # where a start is cut, asyncio ends the process, but not its children
        process = await anyio.open_process(
            arguments, cwd=folder, env=child_environment(), stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    if hasattr(os, "killpg"):
                        os.killpg(process.pid, signal.SIGKILL)
                    else:
                        process.kill()
            await process.aclose()


def _card_rows(text: str) -> str:
    """The rows of the table of claims on a card, `claim: figure, target, verdict`; empty without the table."""
    lines = text.partition(CARD_TABLE)[2].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows.append(f"{name}: {', '.join(filter(None, cells)) if cells and cells[0] else UNMEASURED}")
    return "; ".join(rows)


def _last_line(text: str) -> str:
    return next((line.strip()[:200] for line in reversed(text.splitlines()) if line.strip()), "It printed nothing.")

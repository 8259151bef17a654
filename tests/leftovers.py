"""What a test leaves behind: child processes, and transports of an event loop that has ended."""

from __future__ import annotations

import asyncio.base_subprocess
import asyncio.selector_events
import os
import time
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, Final, Self

import pytest

GRACE_S: Final = 60.0
"""Seconds in which a process that was told to end may end."""
PROC: Final = Path("/proc")
KEPT: Final[set[int]] = set()
"""Child processes that outlive the test in which they were started: those of servers that several tests share."""

_LONG_LIVED: Final[list[object]] = []
"""Services in this process that several tests share."""


@contextmanager
def workers_outlive_their_test() -> Iterator[None]:
    """While a service of this process is shared by several tests, its workers may come and go in any of them."""
    _LONG_LIVED.append(token := object())
    try:
        yield
    finally:
        _LONG_LIVED.remove(token)


def child_pids() -> set[int]:
    """The children of this process, dead ones that nobody has reaped among them.

    None at all where the system has no list of them.
    """
    found: set[int] = set()
    with suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with suppress(OSError), open(f"/proc/self/task/{thread}/children", "rb") as children:
                found.update(map(int, children.read().split()))
    return found


def memory_limit() -> int:
    """The bytes of address space that this process may have; -1: any number, or the system has no such limit."""
    try:
        import resource
    except ImportError:  # Windows
        return -1
    return resource.getrlimit(resource.RLIMIT_AS)[0]


def still_running(pids: Collection[int]) -> list[int]:
    """Those of these processes that do not end in a moment."""
    if _LONG_LIVED:
        pids = [pid for pid in pids if "deepseek_ocr_mcp.worker.main" not in named(pid)]
    ends = time.monotonic() + GRACE_S
    while (left := [pid for pid in pids if is_running(pid)]) and time.monotonic() < ends:
        time.sleep(0.01)
    return left


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that is dead and not yet reaped does not run."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def named(pid: int) -> str:
    """A process with its command, for messages."""
    try:
        command = (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        command = "ended meanwhile"
    return f"process {pid}: {command}"


def marked_processes(variable: str, value: str) -> list[str]:
    """All other processes in whose environment this variable has this value; they get a moment to end."""
    entry = f"{variable}={value}".encode()
    ends = time.monotonic() + GRACE_S
    while True:
        found = [pid for pid in _all_pids() if pid != os.getpid() and _has(pid, entry) and is_running(pid)]
        if not found or time.monotonic() > ends:
            return [named(pid) for pid in found]
        time.sleep(0.05)


def _all_pids() -> list[int]:
    return [int(folder.name) for folder in PROC.glob("[0-9]*")]


def _has(pid: int, entry: bytes) -> bool:
    try:
        return entry in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


class Transports:
    """Knows the transports of asyncio that this process made.

    One that is open when its loop ends is reported by Python whenever it is collected: in the middle of a test that has
    nothing to do with it.
    """

    def __init__(self) -> None:
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    @contextmanager
    def watching(self) -> Iterator[Self]:
        classes: list[type[Any]] = [
            asyncio.selector_events._SelectorTransport,  # type: ignore[attr-defined]
            asyncio.base_subprocess.BaseSubprocessTransport,
        ]
        if os.name == "posix":
            from asyncio import unix_events

            classes += [unix_events._UnixReadPipeTransport, unix_events._UnixWritePipeTransport]  # type: ignore[attr-defined]
        with pytest.MonkeyPatch.context() as patch:
            for each in classes:
                patch.setattr(each, "__init__", self._remembering(each.__init__))
            yield self

    def _remembering(self, begin: Any) -> Any:
        @wraps(begin)
        def __init__(transport: Any, *args: Any, **kwargs: Any) -> None:
            self._known.add(transport)
            begin(transport, *args, **kwargs)

        return __init__

    def take_unclosed(self) -> list[str]:
        """Those whose loop has ended without closing them; they are closed, and told of once."""
        left = []
        for transport in list(self._known):
            loop = getattr(transport, "_loop", None)
            if loop is not None and not loop.is_closed():
                continue
            self._known.discard(transport)
            file = getattr(transport, "_sock", None) or getattr(transport, "_pipe", None)
            if file is not None:
                left.append(repr(transport))
                transport._sock = transport._pipe = None
                file.close()
            elif getattr(transport, "_closed", True) is False:
                left.append(repr(transport))
                transport.close()
        return left

"""Runs an object in a child process. Every wait is bounded, and no child is left behind.

A call ends in one of four ways: with its result; with the `OcrError` that the child answered; with `WorkerDied` if the
child ended; with `errors.Timeout` if the call took too long and the child was killed. A cancelled call is cancelled in
the child, too: either its last answer is read, or the child is killed, so that the next call finds a clean pipe.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Self

import anyio
import anyio.abc
import anyio.lowlevel

from .. import logs
from ..errors import Timeout, from_dict
from ..text import one_line, without_paths
from .confine import ALL_BUT_SPYING, Rights
from .environment import child_environment
from .protocol import (
    HEADER_BYTES,
    PARENT_VARIABLE,
    RIGHTS_VARIABLE,
    ProtocolError,
    decode,
    encode,
    frame_length,
)

__all__ = ["DECODER", "ENGINE_HOST", "OnFrame", "OnProgress", "WorkerDied", "WorkerHandle", "describe_exit"]

DECODER: Final = "deepseek_ocr_mcp.decoder.renderer:PageRenderer"
"""The class that a document decoder serves."""

ENGINE_HOST: Final = "deepseek_ocr_mcp.engines.host:EngineHost"
"""The class that an engine's worker serves; its argument names the engine."""

SEND_TIMEOUT_S: Final = 5.0  # seconds; a call is a few hundred bytes, and a pipe that is full for so long has no reader
CANCEL_GRACE_S: Final = 0.7  # seconds from cancelling to killing; a caller's cancellation ends within a second
STOP_GRACE_S: Final = 0.3  # seconds from asking to SIGKILL; the child exits at once unless native code holds the GIL
KILL_WAIT_S: Final = 5.0  # seconds from SIGKILL to death; longer means a driver call that cannot be interrupted
WATCH_S: Final = 0.5  # seconds between two checks, during a call, that its child is alive
DRAIN_S: Final = 0.2  # seconds for the last words of a dead child, which may still be in the pipe
STDERR_TAIL_BYTES: Final = 8192
LAST_WORDS_CHARS: Final = 300  # characters of a dead child's last words in an answer
_FRAMES: Final = re.compile(
    r"\s|Traceback \(|File \"|Thread 0x|Current thread|Stack \(|<no Python frame>|Extension modules:|During handling|"
    r"The above exception"
)
"""The beginnings of lines that name a place in the code."""

OnProgress = Callable[[float, str], Awaitable[None]]

OnFrame = Callable[[Mapping[str, Any]], Awaitable[float | None]]
"""Gets a frame that a call sends before its answer; see `protocol`. Returns the seconds within which the answer must
now come, where that is sooner than the limit so far; None: the limit stays."""


class WorkerDied(Exception):
    """The child ended by itself or was killed from outside."""

    def __init__(self, returncode: int | None, stderr_tail: str) -> None:
        super().__init__(f"the worker ended with {describe_exit(returncode)}")
        self.returncode = returncode
        self.stderr_tail = stderr_tail

    @property
    def last_words(self) -> str:
        """The last that it wrote, for an answer: two lines at most, no traceback, no path."""
        lines = [line.strip() for line in self.stderr_tail.splitlines() if line and not _FRAMES.match(line)]
        return without_paths(one_line(" ".join(lines[-2:])))[-LAST_WORDS_CHARS:].strip()


def describe_exit(returncode: int | None) -> str:
    """`signal SIGKILL` or `exit status 3`, for messages."""
    if returncode is None:
        return "an unknown status"
    if returncode < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-returncode).name}"
    return f"exit status {returncode}"


class WorkerHandle:
    """One child. Only one task at a time may call it; its owner sees to that.

    Args:
        process: the process.
        name: its name, for errors and log lines.
        stderr: reads its stderr.
    """

    def __init__(self, process: anyio.abc.Process, name: str, stderr: _StderrTail) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._stderr = stderr
        self._name = name
        self._buffer = bytearray()
        self._number = 0
        self._sending = anyio.Lock()
        self._limit = anyio.CancelScope()
        """The scope of the running call. Its deadline is the time limit of the call."""

    @classmethod
    async def spawn(
        cls,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        rights: Rights | None = None,
        name: str = "worker",
    ) -> Self:
        """Start `worker/main.py` with these arguments, in a process group of its own.

        Args:
            arguments: the arguments of `worker/main.py`.
            env: variables beside those that every child gets (`environment.py`).
            rights: the rights of this process that the child keeps; None: all except to look into other processes.
            name: the name of the child in messages and in the log.
        """
        stderr = _StderrTail(name)
        try:
            with anyio.CancelScope(shield=True):  # asyncio leaves pipes open where a start is cut
                # -P: a module in the folder in which the server was started must never shadow numpy
                process = await anyio.open_process(
                    [sys.executable, "-P", "-m", "deepseek_ocr_mcp.worker.main", *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr.write_fd,
                    env={
                        **child_environment(),
                        PARENT_VARIABLE: str(os.getpid()),
                        RIGHTS_VARIABLE: (rights or ALL_BUT_SPYING).to_json(),
                        **(env or {}),
                    },
                    start_new_session=True,
                )
        finally:
            stderr.started()
        worker = cls(process, name, stderr)
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            await worker.kill()  # nobody takes the handle
            raise
        return worker

    def __repr__(self) -> str:
        return f"<WorkerHandle {self._name} pid {self.pid} {'alive' if self.alive else 'dead'}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def stderr_tail(self) -> str:
        """The end of the child's stderr, 8 KiB at most, without its lines for our log."""
        return self._stderr.text()

    async def call(
        self,
        method: str,
        arguments: Mapping[str, Any],
        *,
        timeout: float,
        on_frame: OnFrame | None = None,
    ) -> dict[str, Any]:
        """Call a method of the object in the child. Returns its answer.

        Args:
            method: the name of the method.
            arguments: its arguments.
            timeout: seconds after which the child is killed.
            on_frame: gets every frame of the call before its answer.

        Raises:
            OcrError: the error that the child answered.
            Timeout: the time is over; the child is dead.
            WorkerDied: the child ended.
        """
        self._number += 1
        number, began = self._number, anyio.current_time()
        try:
            with anyio.fail_after(timeout) as self._limit:
                await self._send({"id": number, "call": method, "args": dict(arguments), "log": _log_state()})
                reply = await self._reply(number, on_frame)
        except TimeoutError:
            limit_s = round(self._limit.deadline - began, 3)
            await self.kill()
            raise Timeout(
                f"The {self._name} did not answer {method} within {limit_s:g} s and was stopped.",
                remedy="Send a smaller page, or raise the time limit (OCR_PAGE_TIMEOUT, OCR_LOAD_TIMEOUT).",
            ) from None
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._abandon(number)
            raise
        except ProtocolError as exc:
            await self.kill()
            raise WorkerDied(self._process.returncode, f"{exc}\n{self.stderr_tail}") from exc
        except BaseException:  # a progress callback that failed leaves an answer in the pipe
            with anyio.CancelScope(shield=True):
                await self._abandon(number)
            raise
        if "error" in reply:
            raise from_dict(reply["error"])
        result: dict[str, Any] = reply["result"]
        return result

    async def drop(self, pages: Sequence[int]) -> None:
        """Tell the running call that nobody waits for some of its pages any more.

        It never raises: if the child is gone, the call itself reports that.

        Args:
            pages: indices of pages in the call, from 0.
        """
        with contextlib.suppress(WorkerDied, TimeoutError):
            await self._send({"drop": self._number, "pages": list(pages)})

    async def add(self, pages: Sequence[Mapping[str, Any]], seconds: float) -> None:
        """Add pages to the running call, which has said that it has room. It never raises; see `drop`.

        From then on the child's log lines have the ids of the requests that the current task serves.

        Args:
            pages: the fields of each.
            seconds: by which the time limit of the call grows.
        """
        if not self._limit.cancel_called:
            self._limit.deadline += seconds
        with contextlib.suppress(WorkerDied, TimeoutError):
            pages = [dict(page) for page in pages]
            await self._send({"add": self._number, "pages": pages, "log": _log_state()})

    async def stop(self) -> None:
        """End the child: ask it to exit, then kill it. Returns when the child and all its children are dead."""
        with anyio.CancelScope(shield=True):
            if self.alive:
                with contextlib.suppress(WorkerDied), anyio.move_on_after(STOP_GRACE_S):
                    await self._send({"stop": True})
                    await self._process.wait()
            await self.kill()

    async def kill(self) -> None:
        """Send SIGKILL to the child's process group. Returns when its death is confirmed."""
        with anyio.CancelScope(shield=True):
            self._kill_group()
            with anyio.move_on_after(KILL_WAIT_S):
                await self._process.wait()
            for stream in (self._stdin, self._stdout):
                with contextlib.suppress(Exception):
                    await stream.aclose()
            await self._stderr.drained()

    def _kill_group(self) -> None:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        elif self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _send(self, message: dict[str, Any]) -> None:
        frame = encode(message)
        try:
            # Shielded, because half a frame on the wire would make every later frame unreadable.
            with anyio.fail_after(SEND_TIMEOUT_S, shield=True):
                async with self._sending:
                    await self._stdin.send(frame)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, BrokenPipeError, ConnectionError):
            raise await self._obituary() from None

    async def _reply(self, number: int, on_frame: OnFrame | None) -> dict[str, Any]:
        while True:
            message = await self._receive()
            if message.get("id") != number:
                continue  # progress of a call that was abandoned
            if "result" in message or "error" in message:
                return message
            if on_frame is not None and (seconds := await on_frame(message)) is not None:
                self._limit.deadline = min(self._limit.deadline, anyio.current_time() + seconds)

    async def _receive(self) -> dict[str, Any]:
        """The next frame. A cancellation loses nothing, because its bytes stay in the buffer."""
        while True:
            if len(self._buffer) >= HEADER_BYTES:
                end = HEADER_BYTES + frame_length(bytes(self._buffer[:HEADER_BYTES]))
                if len(self._buffer) >= end:
                    body = bytes(self._buffer[HEADER_BYTES:end])
                    del self._buffer[:end]
                    return decode(body)
            self._buffer += await self._chunk()

    async def _chunk(self) -> bytes:
        while True:
            # A grandchild may hold the pipe open after the child's death, so the end of the pipe does not tell it. The
            # child is checked now and then; a task that waits for its death would cost more than most answers.
            alive = self.alive
            with (
                contextlib.suppress(
                    anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError
                ),
                anyio.move_on_after(WATCH_S if alive else DRAIN_S) as waited,
            ):
                return await self._stdout.receive(1 << 16)
            if not (waited.cancelled_caught and alive):
                raise await self._obituary()

    async def _abandon(self, number: int) -> None:
        """After a cancellation: read the child's last answer to this call, or kill the child."""
        try:
            with anyio.fail_after(CANCEL_GRACE_S):
                await self._send({"cancel": number})
                await self._reply(number, None)
        except (TimeoutError, WorkerDied, ProtocolError):
            await self.kill()

    async def _obituary(self) -> WorkerDied:
        await self.kill()
        return WorkerDied(self._process.returncode, self.stderr_tail)


def _log_state() -> list[int | str]:
    """The level and the request ids of the lines that a child writes; see `protocol`."""
    return [logs.level(), logs.request_id()]


class _StderrTail:
    """Passes the child's log lines on, and keeps the end of the rest of its stderr.

    It runs on a thread, because the pipe must be drained even while no call runs, under any event loop.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._read_fd, self.write_fd = os.pipe()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._done = threading.Event()

    def started(self) -> None:
        """Close our copy of the write end, now that the child has its own, and begin to read."""
        os.close(self.write_fd)
        threading.Thread(target=self._drain, daemon=True, name="worker-stderr").start()

    def _drain(self) -> None:
        rest = b""
        with os.fdopen(self._read_fd, "rb", buffering=0) as pipe:
            while chunk := pipe.read(4096):
                rest = self._sorted(rest + chunk)
        self._note_stderr(rest)
        self._done.set()

    def _sorted(self, data: bytes) -> bytes:
        """Pass log lines to the log and the rest to the tail. Returns the beginning of an incomplete line."""
        while data:
            noise, mark, data = data.partition(logs.RECORD_MARK)
            self._note_stderr(noise)
            line, end, after = data.partition(b"\n")
            if not mark:
                break
            if end and logs.relay(line, worker=self._name):
                data = after
            elif end or len(data) > logs.MAX_CHILD_LINE:
                self._note_stderr(mark)  # no line of ours: a library wrote the same mark
            else:
                return mark + data
        return b""

    def _note_stderr(self, chunk: bytes) -> None:
        if not chunk:
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        while self._size - len(self._chunks[0]) >= STDERR_TAIL_BYTES:
            self._size -= len(self._chunks.popleft())

    async def drained(self) -> None:
        """Wait for a moment until all output of a dead child has come.

        A grandchild in a session of its own may hold the pipe longer; the thread is a daemon.
        """
        with anyio.move_on_after(DRAIN_S):
            while not self._done.is_set():  # noqa: ASYNC110 - a thread sets it
                await anyio.sleep(0.005)

    def text(self) -> str:
        return b"".join(tuple(self._chunks)).decode(errors="replace")[-STDERR_TAIL_BYTES:].strip()

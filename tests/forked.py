"""Starts `python -m deepseek_ocr_mcp` by forking a process that has imported it already.

The imports of a server take a second of a core, and the tests start some two hundred of them. One template process for
each test process imports them once. A program that is forked from it runs from its first line on, with arguments,
environment, folder and streams of its own, and is a child of the test process like any other.

Only the imports are missing. A test about the start itself, about what is imported when, or about memory starts the
program with `subprocess.Popen`.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["COMMAND", "OUTPUT", "ForkedProgram", "end_template", "run_program", "start_program", "start_unforked"]

COMMAND: Final = (sys.executable, "-m", "deepseek_ocr_mcp")
PR_SET_CHILD_SUBREAPER: Final = 36
MAX_ORDER: Final = 200_000  # bytes; what one message of a Unix socket holds
OUTPUT: Final = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
READ_AT_START: Final = ("PYTHON", "LANG", "LC_")
"""Prefixes of the variables that an interpreter reads when it starts, and never again."""


def start_program(arguments: Sequence[str], *, env: Mapping[str, str], **streams: Any) -> subprocess.Popen[Any]:
    """Start our program: forked where that is the same, else as a shell would.

    Args:
        streams: what `subprocess.Popen` takes: stdin, stdout, stderr, text, cwd.
    """
    if sys.platform != "linux" or _read_at_start(env) != _read_at_start(os.environ):
        return start_unforked(arguments, env=env, **streams)
    return ForkedProgram([*COMMAND, *arguments], env=dict(env), **streams)


def start_unforked(arguments: Sequence[str], *, env: Mapping[str, str], **streams: Any) -> subprocess.Popen[Any]:
    """Start our program as a shell would."""
    return subprocess.Popen([*COMMAND, *arguments], env=dict(env), **streams)


def run_program(
    arguments: Sequence[str], *, env: Mapping[str, str], timeout: float, **streams: Any
) -> subprocess.CompletedProcess[Any]:
    """Start our program as `start_program` does, wait for its end, and give its output; after `timeout` seconds it is
    killed.
    """
    with start_program(arguments, env=env, **{**OUTPUT, **streams}) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(READ_AT_START)}


class ForkedProgram(subprocess.Popen[Any]):
    """What `subprocess.Popen` is for a command, for the program that the template forks."""

    def _execute_child(self, args: Any, *given: Any) -> None:
        cwd, env = given[4:6]
        pipes = given[9:15]  # for each of the three streams, the end of its reader and of its writer; -1: it has none
        theirs = (pipes[0], pipes[3], pipes[5])
        streams = [number if end == -1 else end for number, end in enumerate(theirs)]
        order = {"arguments": args[len(COMMAND) :], "env": env, "cwd": str(cwd or os.getcwd())}
        self.pid = _template().fork(order, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class _Template:
    """The process that has imported the program, as the test process sees it."""

    def __init__(self) -> None:
        self._started_with = _read_at_start(os.environ)
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._lock = threading.Lock()

    @property
    def is_current(self) -> bool:
        return self._started_with == _read_at_start(os.environ) and self.process.poll() is None

    def fork(self, order: Mapping[str, Any], streams: Sequence[int]) -> int:
        """The process id of a new program, which is a child of this process."""
        message = json.dumps(order).encode()
        assert len(message) < MAX_ORDER
        with self._lock:
            # It is the grandchild of the template: when the process between them has ended, it becomes our child.
            _adopt_orphans(True)
            try:
                socket.send_fds(self._link, [message], streams)
                answer = self._link.recv(64)
            finally:
                _adopt_orphans(False)
        assert answer, "the template of the program has ended"
        return int(answer)

    def end(self) -> None:
        self._link.close()
        self.process.wait(60)


_templates: Final[list[_Template]] = []


def _template() -> _Template:
    if not _templates or not _templates[-1].is_current:
        from leftovers import KEPT

        end_template()
        _templates.append(_Template())
        KEPT.add(_templates[-1].process.pid)
    return _templates[-1]


def end_template() -> None:
    """End the template process, if there is one."""
    while _templates:
        _templates.pop().end()


def _adopt_orphans(adopt: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


# -- in the template process


def _serve(link: socket.socket) -> dict[str, Any] | None:
    """Fork a process for each order. Returns the order in each of them, and None at the end of the template."""
    while True:
        message, streams, _, _ = socket.recv_fds(link, MAX_ORDER, 3)
        if not message:
            return None
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            if (program := os.fork()) == 0:
                link.close()
                os.close(reading)
                os.close(writing)
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                    os.close(stream)
                order: dict[str, Any] = json.loads(message)
                return order
            os.write(writing, str(program).encode())
            os._exit(0)
        os.waitpid(between, 0)
        for descriptor in (writing, *streams):
            os.close(descriptor)
        link.send(os.read(reading, 64))
        os.close(reading)


def _become(order: Mapping[str, Any]) -> None:
    """Everything that an interpreter takes from its start."""
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    tempfile.tempdir = None
    sys.path.insert(0, os.getcwd())
    sys.argv = ["deepseek_ocr_mcp", *order["arguments"]]
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout = io.TextIOWrapper(_writer(1), line_buffering=os.isatty(1))
    sys.stderr = io.TextIOWrapper(_writer(2), errors="backslashreplace", line_buffering=True)


def _writer(descriptor: int) -> io.BufferedWriter:
    return io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))


def _run() -> None:
    import importlib
    import runpy

    sys.path.pop(0)  # the folder of the tests
    for module in (
        "anyio._backends._asyncio",
        "deepseek_ocr_mcp.app.run",
        "deepseek_ocr_mcp.cli.main",
        "deepseek_ocr_mcp.edges.http.server",
        "deepseek_ocr_mcp.edges.mcp.guard",
        "deepseek_ocr_mcp.edges.mcp.server",
    ):
        importlib.import_module(module)
    gc.freeze()  # else the first collection of each program copies all of it
    with socket.socket(fileno=int(sys.argv[1])) as link:
        order = _serve(link)
    if order is not None:
        _become(order)
        runpy.run_module("deepseek_ocr_mcp", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run()

"""Serves the methods of one object in a child process: one call at a time, on the main thread.

Only frames reach the parent: file descriptor 1 points at stderr before any other module is imported, so that a library
that prints cannot break the wire. The child ends when its stdin ends, as it does when the parent is killed.

    python -P -m deepseek_ocr_mcp.worker.main MODULE:CLASS [ARGUMENT ...] [ahead]

The object is made from a class and string arguments. With `ahead` as the last argument, its `prewarm` is called before
the first call arrives.
"""

from __future__ import annotations

import os
import sys


def _take_wire() -> tuple[int, int]:
    wire_in, wire_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return wire_in, wire_out


if __name__ == "__main__":
    _WIRE = _take_wire()

import contextlib  # noqa: E402 - the wire is taken first
import faulthandler  # noqa: E402
import importlib  # noqa: E402
import logging  # noqa: E402
import queue  # noqa: E402
import signal  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from collections import deque  # noqa: E402
from collections.abc import Callable, Mapping, Sequence  # noqa: E402
from dataclasses import asdict  # noqa: E402
from typing import Any, BinaryIO, Final  # noqa: E402

from .. import logs  # noqa: E402
from ..errors import Cancelled, InputTooLarge, OcrError  # noqa: E402
from ..text import one_line, without_paths  # noqa: E402
from .confine import ALL_BUT_SPYING, Confined, Rights, confine  # noqa: E402
from .protocol import (  # noqa: E402
    AHEAD,
    CONFINED,
    HEADER_BYTES,
    PARENT_VARIABLE,
    PROGRESS_EVERY_S,
    RIGHTS_VARIABLE,
    decode,
    encode,
    frame_length,
)

__all__ = ["WireCall", "main"]

MAX_MESSAGE: Final = 300  # characters of an engine's own message about a fault

log = logging.getLogger(__package__ or __name__)  # run as a program, this module's name is `__main__`


class WireCall:
    """The way from one call back to the parent; see `engines.base.Call`."""

    def __init__(self, number: int, wire: _Wire) -> None:
        self._number = number
        self._wire = wire
        self._last_message = ""
        self._next_s = 0.0

    def progress(self, done: float, message: str = "", shares: Mapping[int, float] | None = None) -> None:
        """Report progress: a new message at once, the same message only every `PROGRESS_EVERY_S`.

        Args:
            done: the share of the call that is done, from 0 to 1.
            message: a sentence.
            shares: by the number of a page in the call, the share of the page that is done; None: the engine tells only
                the whole.
        """
        now = time.monotonic()
        if message == self._last_message and now < self._next_s:
            return
        self._last_message, self._next_s = message, now + PROGRESS_EVERY_S
        more = {} if shares is None else {"shares": [[page, share] for page, share in shares.items()]}
        self.tell(progress=float(done), message=message, **more)

    def tell(self, **facts: Any) -> None:
        """Send a frame of this call."""
        self._wire.send({"id": self._number, **facts})

    def raise_if_cancelled(self) -> None:
        if self._number in self._wire.cancelled:
            raise Cancelled("No request waits for this page any more.", remedy="Send the request again.")

    def is_dropped(self, page: int) -> bool:
        return (self._number, page) in self._wire.dropped

    def added(self) -> list[dict[str, Any]]:
        """The pages that were added to this call since it was asked last. Log lines name their requests, too."""
        found: list[dict[str, Any]] = []
        while self._wire.added:  # only this thread takes from it
            message = self._wire.added.popleft()
            if message["add"] == self._number:  # else they came after the end of their call, and are read in another
                found += message["pages"]
                logs.serve_now(message["log"][1])
        return found


class _Wire:
    """Sends frames, under a lock, and receives frames on a thread of its own. The thread also watches the parent."""

    def __init__(self, wire_in: int, wire_out: int) -> None:
        self._in: BinaryIO = os.fdopen(wire_in, "rb")
        self._out = wire_out
        self._out_lock = threading.Lock()
        self.calls: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.cancelled: set[int] = set()
        self.dropped: set[tuple[int, int]] = set()
        self.added: deque[dict[str, Any]] = deque()
        """Frames that add pages to a call."""

    def send(self, message: dict[str, Any]) -> None:
        view = memoryview(encode(message, clean=True))
        with self._out_lock:
            while view:
                view = view[os.write(self._out, view) :]

    def listen(self) -> None:
        try:
            while True:
                header = self._in.read(HEADER_BYTES)
                if len(header) < HEADER_BYTES:
                    break
                message = decode(self._in.read(frame_length(header)))
                if "stop" in message:
                    os._exit(0)  # nothing has to be saved; the driver takes the GPU's memory back
                if "cancel" in message:
                    self.cancelled.add(message["cancel"])
                elif "drop" in message:
                    self.dropped.update((message["drop"], page) for page in message["pages"])
                elif "add" in message:
                    self.added.append(message)
                else:
                    self.calls.put(message)
        except Exception:
            traceback.print_exc()
        _end_group()


def _end_group() -> None:
    """End this process and all processes that an engine started, because the parent is gone."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _die_with_parent() -> None:
    """Ask Linux to kill this process with its parent, even while native code holds the GIL.

    On other systems, and before this call, the end of stdin ends the child.
    """
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1  # linux/prctl.h
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, int(signal.SIGKILL), 0, 0, 0)
    if os.environ.get(PARENT_VARIABLE, str(os.getppid())) != str(os.getppid()):
        _end_group()  # the parent died before this call


def _give_up_rights() -> Confined:
    text = os.environ.pop(RIGHTS_VARIABLE, "")
    return confine(Rights.from_json(text) if text else ALL_BUT_SPYING)


def _build_target(argv: Sequence[str]) -> Any:
    """Make the object that serves the calls.

    Args:
        argv: `module:Class`, then the arguments of the constructor.

    Raises:
        EngineUnavailable: the module or the class cannot be imported.
    """
    module, _, name = argv[0].partition(":")
    return getattr(importlib.import_module(module), name)(*argv[1:])


def _answer(target: Callable[[], object], message: dict[str, Any], call: WireCall) -> dict[str, Any]:
    try:
        method = getattr(target(), message["call"])
        return {"result": method(call=call, **message["args"])}
    except OcrError as exc:  # a caller from elsewhere must not learn paths of this machine
        return {"error": {name: without_paths(text) for name, text in exc.to_dict().items()}}
    except MemoryError:
        return {
            "error": InputTooLarge(
                "The memory of this machine is too small for this page.", remedy="Send a smaller page."
            ).to_dict()
        }
    except Exception as exc:
        traceback.print_exc()
        log.exception(
            "A call failed in a way that this program does not foresee.", extra=logs.fields(call=message["call"])
        )
        return {
            "error": OcrError(
                f"{message['call']} failed: {type(exc).__name__}: {without_paths(one_line(str(exc)))[:MAX_MESSAGE]}",
                remedy="This is a fault of the engine; the server's log on stderr says where.",
            ).to_dict()
        }


def main(argv: list[str], wire: tuple[int, int]) -> None:
    """Serve calls until the parent closes the wire. Never returns."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _die_with_parent()
    confined = _give_up_rights()  # before a second thread is started
    logs.configure_child()
    line = _Wire(*wire)
    threading.Thread(target=line.listen, daemon=True, name="wire").start()
    ahead = argv[-1] == AHEAD
    built: list[Any] = []

    def target() -> Any:
        if not built:
            built.append(_build_target(argv[:-1] if ahead else argv))
        return built[0]

    if ahead:
        with contextlib.suppress(Exception):  # the first call meets the error again, and reports it
            target().prewarm()
    while True:
        message = line.calls.get()
        number = message["id"]
        began = time.monotonic()
        level, request = message["log"]
        with logs.serving(request, level=level):
            if message["call"] == CONFINED:
                reply: dict[str, Any] = {"result": asdict(confined)}
            else:
                reply = _answer(target, message, WireCall(number, line))
            log.debug(
                "A call was answered.",
                extra=logs.fields(
                    call=message["call"],
                    seconds=round(time.monotonic() - began, 3),
                    error=reply["error"]["code"] if "error" in reply else None,
                    pid=os.getpid(),
                ),
            )
        line.cancelled.discard(number)
        line.dropped.clear()  # there is one call at a time, so all of them were of this call
        line.added.clear()
        line.send({"id": number, **reply})


if __name__ == "__main__":
    main(sys.argv[1:], _WIRE)

"""What an engine is. Everything here is standard library, so that a child starts at once.

An engine runs in a child process of its own (`worker/main.py`), on one thread, one call at a
time. It may import what it likes, but inside its methods: the parent imports engine modules'
names only through `engines.KNOWN`, never the modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

__all__ = [
    "CPU",
    "Call",
    "Engine",
    "Finish",
    "PageImage",
    "PageText",
    "ReadOptions",
    "TextBlock",
]

CPU = "cpu"
"""The device of engines that need no GPU. A GPU is named `cuda`: the child sees only the chosen card."""

Finish = Literal["stop", "length", "loop", "cancelled"]


@dataclass(frozen=True, slots=True)
class PageImage:
    """An upright page on disk: `height * width * 3` bytes of 8-bit RGB, row by row, no header."""

    path: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the caller asked for; names are those of `modes.py`."""

    mode: str
    find_term: str = ""
    custom_prompt: str = ""
    resolution: str = "auto"


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A piece of the page. `box` is `(x1, y1, x2, y2)` in pixels of the page image, origin top left."""

    label: str
    text: str
    box: tuple[int, int, int, int]
    score: float | None = None


@dataclass(frozen=True, slots=True)
class PageText:
    """What was read on one page. An empty `text` means a blank page."""

    text: str
    blocks: Sequence[TextBlock] = field(default_factory=tuple)
    finish: Finish = "stop"
    raw: str | None = None
    """What the model wrote, tags and all; None where `text` is that."""
    remark: str = ""
    """A sentence for the caller: what could not be read, and what to do about it."""
    tokens: int | None = None
    """How many the model wrote; None for an engine that writes none."""


class Call(Protocol):
    """The engine's line back to its caller while it works."""

    def progress(self, done: float, message: str = "") -> None:
        """Tell the caller that `done` (0 to 1) of this call is finished. Cheap; call it often."""

    def raise_if_cancelled(self) -> None:
        """Raise `errors.Cancelled` when nobody waits any more. Ask at least every half second."""

    def is_dropped(self, page: int) -> bool:
        """Whether nobody waits any more for this page of the call, counted from 0; others may still be wanted.

        An engine that reads pages side by side leaves it out from here on and gives it `finish="cancelled"`.
        """


class Engine(Protocol):
    """Loaded once, read from many times. Any method may raise `OcrError`; nothing else is expected.

    An engine with slow imports may also have `prewarm()`, called before a device is chosen: it imports.
    """

    def load(self, device: str, call: Call) -> dict[str, Any]:
        """Bring the weights to `device`. Returns `{"model": name}`, and `"notes"`: sentences for the log, if any.

        A CPU engine ignores `device`.
        """

    def offload(self) -> None:
        """Take the weights off the GPU, keep them in host memory. Never called on `CPU`."""

    def restore(self, device: str) -> None:
        """Bring offloaded weights back to the GPU they were loaded on."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        """One `PageText` per page, in order."""

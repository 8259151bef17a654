"""Defines what an engine is: the methods it has, and the types that go in and out.

An engine that reads lines returns a `Reading` for each page, and every mode, search and export is made from that one
reading. An engine that writes the text of a page itself, as a vision-language model does, returns a `PageText`.

An engine runs in a child process of its own (`worker/main.py`), on one thread, one call at a time. Its module may
import anything: the parent knows engines by `engines.KNOWN` and never imports their modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

if TYPE_CHECKING:
    from ..layout.lines import TextLine
    from ..layout.reading import Reading

__all__ = [
    "CPU",
    "Call",
    "Engine",
    "Finish",
    "PageImage",
    "PageText",
    "ReadOptions",
    "Reading",
    "TextBlock",
    "TextLine",
]

_OF_LAYOUT: Final = {"Reading": "..layout.reading", "TextLine": "..layout.lines"}


def __getattr__(name: str) -> Any:
    """Import layout where an engine names its types: a server that only starts does without its 25 ms."""
    if name in _OF_LAYOUT:
        return getattr(import_module(_OF_LAYOUT[name], __package__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
    """The caller's choices; names are those of `modes.py`."""

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
    """The text of one page, as read. An empty `text` means a blank page."""

    text: str
    blocks: Sequence[TextBlock] = field(default_factory=tuple)
    finish: Finish = "stop"
    raw: str | None = None
    """The model's own words, tags and all; None where `text` is the same."""
    remark: str = ""
    """A sentence for the caller: what could not be read, and what to do about it."""
    tokens: int | None = None
    """How many the model wrote; None for an engine that writes none."""


class Call(Protocol):
    """The engine's line back to its caller while it works."""

    def progress(self, done: float, message: str = "", shares: Mapping[int, float] | None = None) -> None:
        """Tell the caller that `done` (0 to 1) of this call is finished. Cheap; call it often.

        Args:
            done: of all pages.
            message: a few words.
            shares: the part of each page that is finished, from 0 to 1, by an engine that knows it: only then can a
                request whose pages were added to the call be told how far they are.
        """

    def raise_if_cancelled(self) -> None:
        """Raise `errors.Cancelled` when nobody waits any more. Ask at least every half second."""

    def is_dropped(self, page: int) -> bool:
        """Whether nobody waits any more for this page of the call, counted from 0; others may still be wanted.

        An engine that reads pages side by side leaves it out from here on and gives it `finish="cancelled"`.
        """

    def more(self, room: int) -> Sequence[PageImage]:
        """The pages that have joined this call since the last time, with the same options. Ask between any two steps.

        They are counted on from those that the call had, and their answers are in the result. An engine that never
        asks gets none.

        Args:
            room: pages that could begin now, beside all that the call has. Others may come, and then have to wait.
        """

    def finished(self, page: int, text: PageText | Reading) -> None:
        """Give a page to those who wait for it, while others of the call are read. The result repeats it."""


class Engine(Protocol):
    """Loaded once, read from many times. Any method may raise `OcrError`; nothing else is expected.

    It may have more, which is asked for where it is there:

    - `prewarm()`, called before a device is chosen: imports that `load` would need.
    - `open(device, call)`, for an engine whose `EngineSpec` says `opens`: all of `load` that needs no card. It calls
      nothing of CUDA's, which would fix the visible cards; `restore` places the weights then. `device` is the kind.
    - `spoiled`, a sentence: why this process is to be replaced after the pages that it has just read; empty: it is not.
    """

    def load(self, device: str, call: Call) -> dict[str, Any]:
        """Bring the weights to `device`. Returns `{"model": name}`, and `"notes"`: sentences for the log, if any.

        A CPU engine ignores `device`.
        """

    def offload(self) -> None:
        """Take the weights off the GPU, keep them in host memory. Never called on `CPU`."""

    def restore(self, device: str) -> None:
        """Bring offloaded weights back to the GPU they were loaded on."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> Sequence[PageText | Reading]:
        """Read some pages.

        Args:
            pages: upright, as raw RGB on disk.
            options: the same for all of them.
            call: asked whether anybody still waits, and told how far it is.

        Returns:
            One `PageText` or `Reading` per page, in order. A `Reading` is the same whatever the mode is.
        """

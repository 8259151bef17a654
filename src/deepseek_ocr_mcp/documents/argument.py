"""Interprets an `image` argument, once: its text tells whether it is data, an address, a path, or none of these.

No file is opened here, and no path is allowed: the caller's reach is checked when a file is opened or a folder is
listed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final, Literal, Self

from ..errors import BadRequest, OcrError
from .paths import MAX_PATH, in_conversation, path_of_uri, places, printable, unwrapped
from .reach import ACCEPTED, ASK, Reach

__all__ = ["Argument"]

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_HEADLESS: Final = re.compile(
    r"(?:(?:image|application)/[\w.+-]{1,60}(?:;[\w=.-]{1,60}){0,4})?;?base64,", re.IGNORECASE
)

# Base64 that begins like an absolute path: that of a JPEG, and that of a JPEG 2000 codestream.
_SLASHED_BASE64: Final = ("/9j/", "/0//")


@dataclass(frozen=True, slots=True)
class Argument:
    """The meaning of an `image` argument."""

    text: str
    """The argument without the quotes and brackets around it."""
    kind: Literal["data", "address", "path", "text"]
    """`data`: a `data:` URI. `address`: an http or https URL. `path`: an absolute path, or a `file:` URI. `text`:
    base64, or a relative path."""
    reach: Reach
    """The reach of the caller."""
    paths: tuple[str, ...] = ()
    """The absolute paths that the argument can mean, the likeliest first. A relative path can mean files in folders
    that the caller may use."""
    host: str = ""
    """The machine that a `file:` URI names; empty for this one."""
    refusal: OcrError | None = None
    """The error of an argument that can name no document, whatever is on the disk."""

    @classmethod
    def of(cls, image: str, reach: Reach) -> Self:
        """Interpret an argument. The disk is looked at only to tell a path from base64.

        Args:
            image: the argument as the caller wrote it.
            reach: the reach of the caller.
        """
        text = unwrapped(image)
        if head := _HEADLESS.match(text):
            text = f"data:;base64,{text[head.end() :]}"
        try:
            return cls._of_text(text, reach)
        except BadRequest as exc:
            return cls(text, "text", reach, refusal=exc)

    @classmethod
    def of_file(cls, path: str, reach: Reach) -> Self:
        """The meaning of an absolute path that this program knows, such as one of a listing."""
        return cls(path, "path", reach, (path,))

    @classmethod
    def _of_text(cls, text: str, reach: Reach) -> Self:
        if not text:
            raise BadRequest("`image` is empty.", remedy=ACCEPTED)
        scheme = _SCHEME.match(text)
        kind = scheme[1].lower() if scheme else ""
        if kind == "data":
            return cls(text, "data", reach)
        if kind in ("http", "https"):
            return cls(text, "address", reach)
        if in_conversation(kind):
            raise BadRequest(
                f"{printable(text, 80)!r} is a file of the conversation, and no tool can reach those.", remedy=ASK
            )
        if scheme and kind != "file" and text.startswith(f"{scheme[1]}://"):
            raise BadRequest(f"{printable(kind, 40)}:// addresses are not read.", remedy=ACCEPTED)
        paths = places(text, reach.is_local)
        if text.startswith(_SLASHED_BASE64):
            is_path = reach.is_local and len(text) <= MAX_PATH and os.path.lexists(text)
            return cls(text, "path" if is_path else "text", reach, tuple(paths))
        if paths:
            host = path_of_uri(text)[0] if kind == "file" else ""
            return cls(text, "path", reach, tuple(paths), host)
        below = reach.below_bases(text) if len(text) <= MAX_PATH else []
        return cls(text, "text", reach, tuple(below))

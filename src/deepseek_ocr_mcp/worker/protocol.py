"""Encodes the frames between parent and child: four bytes of length, then a JSON object in UTF-8.

The parent sends `{"id": n, "call": name, "args": {...}, "log": [level, request ids]}`, where `log` is for the child's
log lines. It sends `{"cancel": n}` to cancel a call, and `{"drop": n, "pages": [i, ...]}` if nobody waits for some
pages of a call any more. `{"add": n, "pages": [{...}, ...], "log": [level, request ids]}` adds pages to a call that
runs, and names all requests that the call serves from then on. The child sends `{"id": n, "progress": done, "message":
text}`, then exactly one of `{"id": n, "result": {...}}` and `{"id": n, "error": {"code", "message", "remedy"}}`. A call
that takes more pages sends `{"id": n, "room": pages}`: the number of pages, counted from its first, that it can have
begun by now. It sends `{"id": n, "page": i, "answer": {...}}` for a page that is finished before the others. Added
pages that the call did not take before its end are not in its result. Frames hold no pixels: pages are files, whose
paths are arguments.
"""

from __future__ import annotations

import json
from typing import Any, Final

from ..text import well_formed

__all__ = [
    "AHEAD",
    "CONFINED",
    "HEADER_BYTES",
    "MAX_FRAME_BYTES",
    "PARENT_VARIABLE",
    "PROGRESS_EVERY_S",
    "RIGHTS_VARIABLE",
    "ProtocolError",
    "decode",
    "encode",
    "frame_length",
]

AHEAD: Final = "ahead"  # the argument that lets a child prewarm its object before the first call
PROGRESS_EVERY_S: Final = 0.25
"""Seconds between two reports of progress with the same message. Each takes 0.3 ms of the engine's cores."""

CONFINED: Final = "confined"  # the call that asks a child for its bounds, whichever object it serves
HEADER_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024  # enough for half a million words with boxes
PARENT_VARIABLE: Final = "DEEPSEEK_OCR_MCP_PARENT"  # the pid of the process that a child must not outlive
RIGHTS_VARIABLE: Final = "DEEPSEEK_OCR_MCP_RIGHTS"  # the rights that a child keeps, as JSON


class ProtocolError(Exception):
    """The other side does not speak the protocol."""


def encode(message: dict[str, Any], *, clean: bool = False) -> bytes:
    """One frame, header included.

    Args:
        message: a JSON object.
        clean: whether a lone surrogate becomes U+FFFD, which is right for answers. Otherwise it stays, which is right
            for paths.

    Raises:
        ProtocolError: the message is larger than `MAX_FRAME_BYTES`.
    """
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
    try:
        body = text.encode()
    except UnicodeEncodeError:
        body = well_formed(text).encode() if clean else json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def frame_length(header: bytes) -> int:
    """The number of bytes that follow a header.

    Raises:
        ProtocolError: the length is over `MAX_FRAME_BYTES`.
    """
    length = int.from_bytes(header, "big")
    if length > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
    return length


def decode(body: bytes) -> dict[str, Any]:
    """The message in a frame's body.

    Raises:
        ProtocolError: the body is no JSON object.
    """
    try:
        message = json.loads(body)
    except ValueError as exc:
        raise ProtocolError(f"a frame is no JSON: {exc}") from None
    if not isinstance(message, dict):
        raise ProtocolError("a frame is no JSON object")
    return message

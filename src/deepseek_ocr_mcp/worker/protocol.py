"""The frames between parent and child: four bytes of length, then a JSON object in UTF-8.

Parent to child: `{"id": n, "call": name, "args": {...}, "log": [level, request id]}`, the last for the child's log
lines; `{"cancel": n}`, and `{"drop": n, "pages": [i, ...]}` for pages of a call that nobody waits for any more while
others of it are still wanted.
Child to parent: `{"id": n, "progress": done, "message": text}`, then exactly one of
`{"id": n, "result": {...}}` and `{"id": n, "error": {"code", "message", "remedy"}}`.
Pixels never travel here: pages are files, named in the arguments.
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

AHEAD: Final = "ahead"  # the argument that makes a child do what it can before the first call
PROGRESS_EVERY_S: Final = 0.25
"""Seconds between messages of the same progress: each takes a third of a millisecond of the engine's cores."""

CONFINED: Final = "confined"  # the call that asks what is in force in a child, whatever it serves
HEADER_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024  # half a million boxed words
PARENT_VARIABLE: Final = "DEEPSEEK_OCR_MCP_PARENT"  # the pid of the process that a child must not outlive
RIGHTS_VARIABLE: Final = "DEEPSEEK_OCR_MCP_RIGHTS"  # what a child keeps of the rights that it starts with, as JSON


class ProtocolError(Exception):
    """The other side does not speak the protocol."""


def encode(message: dict[str, Any], *, clean: bool = False) -> bytes:
    """One frame, header included.

    Args:
        message: a JSON object.
        clean: whether a lone surrogate becomes U+FFFD, as an answer needs it; else it survives, as a path needs it.

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
    """Bytes that follow this header.

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

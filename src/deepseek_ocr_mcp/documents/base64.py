"""Recognises and decodes a document that was sent as base64 or as a `data:` URI."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from ..config import MB
from ..errors import UnreadableInput

__all__ = ["decode_base64", "is_base64_alphabet", "opens_like_image", "unquoted"]

TEXT_CHUNK: Final = 4 * MB  # characters of base64 or percent-encoding
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_SPACE: Final = b" \t\r\n\v\f"

_FIRST_BYTES: Final = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"\xff\x4f\xff\x51",
    b"%PDF",
    b"GIF8",
    b"BM",
    b"RIFF",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
)


def unquoted(text: str) -> Iterator[bytes]:
    """Decode percent-encoded text in pieces. Decoded at once, it would take thirty times its size in memory."""
    start = 0
    while start < len(text):
        end = start + TEXT_CHUNK
        while end < len(text) and "%" in text[end - 2 : end]:  # not within %41
            end += 1
        yield unquote_to_bytes(text[start:end])
        start = end


def decode_base64(text: str) -> Iterator[bytes]:
    """Decode base64 in pieces. Both alphabets are accepted, with or without padding and white space.

    Raises:
        UnreadableInput: the text is damaged.
    """
    rest = b""
    end = len(text.rstrip("= \t\r\n\v\f"))
    try:
        for start in range(0, end, TEXT_CHUNK):
            part = text[start : min(start + TEXT_CHUNK, end)].encode("ascii")
            part = rest + part.translate(_URL_SAFE, _SPACE)
            if b"=" in part:  # of two files in a row; a cut behind it would hide it from strict_mode
                raise ValueError
            whole = len(part) // 4 * 4
            yield binascii.a2b_base64(part[:whole], strict_mode=True)
            rest = part[whole:]
        yield binascii.a2b_base64(rest + b"=" * (-len(rest) % 4), strict_mode=True)
    except ValueError:  # binascii.Error and UnicodeEncodeError are subclasses
        raise UnreadableInput(
            "The base64 of `image` is damaged: it has foreign characters, or its end is missing.",
            remedy="Encode the whole file once, with `base64 -w0 FILE`, or give its absolute path.",
        ) from None


def opens_like_image(text: str) -> bool:
    compact = text[:256].encode("ascii", "replace").translate(_URL_SAFE, _SPACE)[:16].rstrip(b"=")
    try:
        start = binascii.a2b_base64(compact[: len(compact) // 4 * 4], strict_mode=True)
    except ValueError:
        return False
    return start.startswith(_FIRST_BYTES) or start[4:8] == b"ftyp" or start[4:8] == b"jP  "


def is_base64_alphabet(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9+/_\-=\s]*", text) is not None

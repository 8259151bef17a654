"""PDFs with a password, locked as PDF 1.4 says (ISO 32000-1, 7.6): RC4 of 128 bits."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from pdf_maker import Sheet, pdf

PAD: Final = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
ID: Final = bytes(range(16))
PERMISSIONS: Final = -44 & 0xFFFFFFFF
KEY_BYTES: Final = 16
_OBJECT: Final = re.compile(rb"(\d+) 0 obj\n(.*?)\nendobj\n", re.DOTALL)
_STREAM: Final = re.compile(rb"(.*?>>\nstream\n)(.*)(\nendstream)", re.DOTALL)
_STRING: Final = re.compile(rb"\(([^()\\]*)\)")


def locked_pdf(*sheets: Sheet, user: str, owner: str = "owner's own") -> bytes:
    """A PDF of these sheets that `user` or `owner` opens; an empty `user`: anybody does, and may not copy its text."""
    key, entries = _lock(user.encode("utf-8"), owner.encode("utf-8"))
    body, offsets = b"%PDF-1.7\n", {}
    for match in _OBJECT.finditer(pdf(*sheets)):
        number = int(match[1])
        offsets[number] = len(body)
        body += b"%d 0 obj\n" % number + _encrypted(match[2], number, key) + b"\nendobj\n"
    table = "xref\n0 1\n0000000000 65535 f \n" + "".join(f"{k} 1\n{at:010} 00000 n \n" for k, at in offsets.items())
    trailer = f"<< /Root 1 0 R /Size {max(offsets) + 1} /ID [<{ID.hex()}> <{ID.hex()}>] /Encrypt << {entries} >> >>"
    return body + f"{table}trailer\n{trailer}\nstartxref\n{len(body)}\n%%EOF\n".encode()


def _encrypted(value: bytes, number: int, key: bytes) -> bytes:
    own = hashlib.md5(key + number.to_bytes(3, "little") + bytes(2)).digest()
    found = _STREAM.fullmatch(value)
    entries, data, end = found.groups() if found else (value, b"", b"")
    entries = _STRING.sub(lambda match: b"<%s>" % _rc4(own, match[1]).hex().encode(), entries)
    return entries + _rc4(own, data) + end


def _lock(user: bytes, owner: bytes) -> tuple[bytes, str]:
    """The key of the document, and the entries of its dictionary of encryption (algorithms 2, 3 and 5)."""
    chest = _stretched(_padded(owner))
    entry_o = _rounds(chest, _padded(user))
    key = _stretched(_padded(user) + entry_o + PERMISSIONS.to_bytes(4, "little") + ID)
    entry_u = _rounds(key, hashlib.md5(PAD + ID).digest()) + bytes(16)
    return key, (
        f"/Filter /Standard /V 2 /R 3 /Length {8 * KEY_BYTES} /P {PERMISSIONS - (1 << 32)} "
        f"/O <{entry_o.hex()}> /U <{entry_u.hex()}>"
    )


def _padded(password: bytes) -> bytes:
    return (password + PAD)[:32]


def _stretched(data: bytes) -> bytes:
    for _ in range(51):
        data = hashlib.md5(data).digest()[:KEY_BYTES]
    return data


def _rounds(key: bytes, data: bytes) -> bytes:
    for step in range(20):
        data = _rc4(bytes(byte ^ step for byte in key), data)
    return data


def _rc4(key: bytes, data: bytes) -> bytes:
    box, j = list(range(256)), 0
    for i in range(256):
        j = (j + box[i] + key[i % len(key)]) % 256
        box[i], box[j] = box[j], box[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + box[i]) % 256
        box[i], box[j] = box[j], box[i]
        out.append(byte ^ box[(box[i] + box[j]) % 256])
    return bytes(out)

"""The part of an AVIF picture that its writer means to be seen.

A camera or an encoder stores more rows and columns than the picture has, and a property of the file (`clap`) says
which of them count. libavif gives all pixels and Pillow does not hand the property on, so this module reads it.
Source: ISO/IEC 14496-12 (`meta`, `pitm`, `ipco`, `ipma`, `clap`) and 23000-22, which puts the crop before rotation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

__all__ = ["clean_aperture"]

MAX_META_BYTES: Final = 1 << 20  # of tables; a picture with a thousand tiles has 40 kB
MAX_BOXES: Final = 64  # at the top of a file before its tables

Crop = tuple[int, int, int, int]
"""Left, upper, right and lower edge in pixels of the picture as stored."""


def clean_aperture(file: BinaryIO, size: tuple[int, int]) -> Crop | None:
    """The pixels that count of the main picture of an AVIF; None: all of them, or the tables make no sense.

    Args:
        file: open at any place; the place is lost.
        size: width and height in pixels as stored.
    """
    try:
        meta = _meta(file)
        return None if meta is None else _crop(_clap(meta), size)
    except (struct.error, IndexError):
        return None


def _meta(file: BinaryIO) -> bytes | None:
    """The contents of the file's tables, without the four bytes of version and flags."""
    start = 0
    for _ in range(MAX_BOXES):
        file.seek(start)
        head = file.read(8)
        if len(head) < 8:
            return None
        size = int.from_bytes(head[:4], "big")
        if head[4:] == b"meta":
            return file.read(size - 8)[4:] if 12 < size <= MAX_META_BYTES else None
        if size < 8:  # to the end of the file, or larger than four bytes can say
            return None
        start += size
    return None


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and contents of each box in a row of boxes."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8:
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def _clap(meta: bytes) -> bytes | None:
    """The contents of the property `clap` of the main picture."""
    boxes = dict(_boxes(meta))
    main, tables = boxes.get(b"pitm", b""), dict(_boxes(boxes.get(b"iprp", b"")))
    if not main or b"ipma" not in tables:
        return None
    item = int.from_bytes(main[4:6] if main[0] == 0 else main[4:8], "big")
    properties = list(_boxes(tables.get(b"ipco", b"")))
    for number in _properties_of(item, tables[b"ipma"]):
        if 0 < number <= len(properties) and properties[number - 1][0] == b"clap":
            return properties[number - 1][1]
    return None


def _properties_of(item: int, table: bytes) -> Iterator[int]:
    """The numbers, from 1, of the properties that the table `ipma` gives an item."""
    version, wide = table[0], table[3] & 1
    id_bytes, number_bytes = (4 if version else 2), (2 if wide else 1)
    (count,) = struct.unpack_from(">I", table, 4)
    at = 8
    for _ in range(min(count, len(table))):
        owner = int.from_bytes(table[at : at + id_bytes], "big")
        many = table[at + id_bytes]
        at += id_bytes + 1
        if owner == item:
            for start in range(at, at + many * number_bytes, number_bytes):
                number = int.from_bytes(table[start : start + number_bytes], "big")
                yield number & (0x7FFF if wide else 0x7F)  # the first bit: a reader has to know it
        at += many * number_bytes


def _crop(clap: bytes | None, size: tuple[int, int]) -> Crop | None:
    """Four fractions (width, height, and how far its middle is from the picture's middle) as whole edges."""
    if clap is None:
        return None
    width_n, width_d, height_n, height_d, right_n, right_d, down_n, down_d = struct.unpack_from(">IIIIiIiI", clap)
    if not (width_d and height_d and right_d and down_d):
        return None
    edges = []
    for full, extent, offset in (
        (size[0], width_n / width_d, right_n / right_d),
        (size[1], height_n / height_d, down_n / down_d),
    ):
        first = round((full - extent) / 2 + offset)
        edges.append((first, first + round(extent)))
    (left, right), (upper, lower) = edges
    inside = 0 <= left < right <= size[0] and 0 <= upper < lower <= size[1]
    return (left, upper, right, lower) if inside else None

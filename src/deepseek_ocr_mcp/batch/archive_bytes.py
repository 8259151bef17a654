"""Bytes of an archive, of which exactly so many are taken, and what is found in it."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from .files import CHUNK

__all__ = [
    "DAMAGES",
    "MAX_HEADER",
    "MAX_NAME",
    "NO_NAME",
    "ArchiveBytes",
    "ArchiveEntry",
    "DamagedError",
    "EntryBytes",
    "whole",
]

MAX_NAME: Final = 4096  # characters of a name or an address
MAX_HEADER: Final = 64 << 10  # bytes of the headers of a WARC record, or of the answer of a web server in it
NO_NAME: Final = "names that no file can have"


class DamagedError(Exception):
    """An archive does not go on as it must. The text says why, in the plural; empty: `DAMAGED`."""


DAMAGES: Final = (DamagedError, EOFError, zlib.error, gzip.BadGzipFile)
"""Errors that mean that the file itself is at fault."""


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """A name in an archive."""

    name: str
    start: int
    length: int = 0
    why: str = ""
    """Why it is no document; empty: it is one."""


class ArchiveBytes:
    """A stream of which exactly so many bytes are taken, or none.

    Args:
        stream: what is read.
        size: bytes of the stream where it can be sought in; None: it is read to skip something.
    """

    def __init__(self, stream: BinaryIO | io.BufferedReader | gzip.GzipFile, size: int | None = None) -> None:
        self._stream = stream
        self._size = size
        self.at = 0

    @classmethod
    def of_file(cls, file: io.BufferedReader) -> ArchiveBytes:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        return cls(file, size)

    def read(self, length: int) -> bytes:
        """So many bytes; fewer only at the end."""
        data = self._stream.read(length)
        self.at += len(data)
        return data

    def exactly(self, length: int) -> bytes:
        data = self.read(length)
        if len(data) < length:
            raise DamagedError
        return data

    def line(self, most: int) -> bytes:
        """A line with its end."""
        data = self._stream.readline(most)
        self.at += len(data)
        return data

    def skip(self, length: int) -> None:
        if self._size is not None:
            if self.at + length > self._size:
                raise DamagedError
            self.at = self._stream.seek(self.at + length)
            return
        while length:
            length -= len(self.exactly(min(length, CHUNK)))


class EntryBytes:
    """The bytes of a record, to read once.

    Args:
        stream: where the record stands.
        length: of the record.
    """

    def __init__(self, stream: ArchiveBytes, length: int) -> None:
        self._stream = stream
        self._left = length

    def read(self, most: int) -> bytes:
        """The next bytes; none at the end."""
        data = self._stream.exactly(min(self._left, most))
        self._left -= len(data)
        return data

    def line(self) -> bytes:
        """A line of headers with its end."""
        data = self._stream.line(min(self._left, MAX_HEADER))
        self._left -= len(data)
        return data


def whole(body: EntryBytes) -> Iterator[bytes]:
    while piece := body.read(CHUNK):
        yield piece

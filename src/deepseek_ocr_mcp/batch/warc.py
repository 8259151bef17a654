"""Records of WARC files (ISO 28500), packed record by record or not, and the documents in them."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from ..documents.listing import HEAD, begins_like_document
from .archive_bytes import MAX_HEADER, MAX_NAME, NO_NAME, ArchiveBytes, ArchiveEntry, DamagedError, EntryBytes, whole
from .files import CHUNK

__all__ = ["NoDocumentError", "document_in", "walk_warc", "walk_warc_gz"]

ONE_STREAM: Final = "WARC files that are not compressed record by record: write them anew with `warcio recompress`"
CUT: Final = "records that were cut when they were saved"
REVISITS: Final = "records whose content is in another record"
NOT_WHOLE: Final = "answers of web servers that are no whole document"
NO_DOCUMENT: Final = "records that are by content neither a picture nor a PDF"
CODED: Final = "answers of web servers in an encoding that is not read"
RECORD_END: Final = b"\r\n\r\n"
_STRUCTURE: Final = frozenset({"warcinfo", "request", "metadata"})  # records that hold no content of their own


@dataclass(frozen=True, slots=True)
class _WarcRecord:
    """The headers of a record; its bytes follow."""

    headers: Mapping[str, str]
    length: int

    @property
    def kind(self) -> str:
        return self.headers.get("warc-type", "").lower()

    @property
    def address(self) -> str:
        return self.headers.get("warc-target-uri", "").strip("<>")

    @property
    def is_answer(self) -> bool:
        """Whether its bytes are the answer of a web server, headers and all."""
        return self.headers.get("content-type", "").lower().startswith("application/http")


def walk_warc(file: io.BufferedReader) -> Iterator[ArchiveEntry]:
    stream = ArchiveBytes.of_file(file)
    while True:
        start = stream.at
        record = _warc_record(stream)
        if record is None:
            return
        at = stream.at
        found = _warc_found(record, EntryBytes(stream, record.length))
        stream.skip(record.length - (stream.at - at))
        if stream.read(len(RECORD_END)) != RECORD_END:
            raise DamagedError
        if found is not None:
            yield ArchiveEntry(found[0], start, stream.at - start, found[1])


def walk_warc_gz(file: io.BufferedReader) -> Iterator[ArchiveEntry]:
    start = 0
    while True:
        file.seek(start)
        if not file.peek(1):
            return
        packed = _GzipMember(file)
        stream = ArchiveBytes(io.BufferedReader(packed, CHUNK))
        record = _warc_record(stream)
        if record is None:
            raise DamagedError
        at = stream.at
        found = _warc_found(record, EntryBytes(stream, record.length))
        stream.skip(record.length - (stream.at - at))
        if stream.read(len(RECORD_END) + 1) not in (RECORD_END, b""):
            raise DamagedError(ONE_STREAM)
        if found is not None:
            yield ArchiveEntry(found[0], start, packed.end - start, found[1])
        start = packed.end


class _GzipMember(io.RawIOBase):
    """One member of a gzip file, of which there may be many.

    Args:
        file: the file, at the first byte of the member.
    """

    def __init__(self, file: io.BufferedReader | BinaryIO) -> None:
        self._file = file
        self._unpacker = zlib.decompressobj(31)
        self._taken = file.tell()

    def readable(self) -> bool:
        return True

    @property
    def end(self) -> int:
        """The byte behind its last one, when all of it was read."""
        return self._taken - len(self._unpacker.unused_data)

    def readinto(self, buffer: Any) -> int:
        while not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail
            if not packed:
                packed = self._file.read(CHUNK)
                self._taken += len(packed)
                if not packed:
                    raise EOFError
            data = self._unpacker.decompress(packed, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
        return 0


def _warc_record(stream: ArchiveBytes) -> _WarcRecord | None:
    """The headers of the next record; None at the end."""
    first = stream.line(MAX_HEADER)
    if not first:
        return None
    if not re.fullmatch(rb"WARC/\d+\.\d+\r?\n", first):
        raise DamagedError
    headers = _headers(lambda: stream.line(MAX_HEADER))
    length = headers.get("content-length", "")
    if not re.fullmatch(r"\d{1,18}", length):
        raise DamagedError
    return _WarcRecord(headers, int(length))


def _headers(line: Callable[[], bytes]) -> dict[str, str]:
    """Headers up to the empty line, by their names in small letters; of equal ones the first."""
    found: dict[str, str] = {}
    name, taken = "", 0
    while (text := line()) not in (b"\r\n", b"\n"):
        taken += len(text)
        if not text.endswith(b"\n") or taken > MAX_HEADER:
            raise DamagedError
        decoded = text.decode("utf-8", "replace").rstrip("\r\n")
        if decoded[:1] in (" ", "\t"):
            if name:
                found[name] += f" {decoded.strip()}"
            continue
        key, _, value = decoded.partition(":")
        name = key.strip().lower()
        if name in found:
            name = ""
        else:
            found[name] = value.strip()
    return found


def _warc_found(record: _WarcRecord, body: EntryBytes) -> tuple[str, str] | None:
    """Address of a record, and why it is no document; None for a record that is part of no content."""
    if record.kind in _STRUCTURE:
        return None
    address = record.address or record.headers.get("warc-record-id", "")
    if not address or len(address) > MAX_NAME or "\0" in address:
        return address[:MAX_NAME], NO_NAME
    if record.kind == "revisit":
        return address, REVISITS
    if "warc-truncated" in record.headers or "warc-segment-number" in record.headers or record.kind == "continuation":
        return address, CUT
    try:
        head = b""
        for piece in _payload(record, body):
            head += piece
            if len(head) >= HEAD:
                break
    except NoDocumentError as exc:
        return address, str(exc)
    return address, "" if begins_like_document(head[:HEAD]) else NO_DOCUMENT


class NoDocumentError(Exception):
    """The answer of a web server is no document; the text says why, in the plural."""


def _payload(record: _WarcRecord, body: EntryBytes) -> Iterator[bytes]:
    """The document in a record, piece by piece: the body of an answer without its transfer and content encodings.

    Raises:
        NoDocumentError: the answer is none of a document.
    """
    if not record.is_answer:
        return whole(body)
    status = body.line().split()
    if len(status) < 2 or not status[0].startswith(b"HTTP/"):
        raise NoDocumentError(NO_DOCUMENT)
    headers = _headers(body.line)
    if status[1] != b"200":
        raise NoDocumentError(NOT_WHOLE)
    chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    pieces = _unchunked(body) if chunked else whole(body)
    coding = headers.get("content-encoding", "").lower()
    if coding in ("", "identity"):
        return pieces
    if coding not in ("gzip", "x-gzip"):
        raise NoDocumentError(CODED)
    return _unzipped(pieces)


def _unchunked(body: EntryBytes) -> Iterator[bytes]:
    """The body of an answer that came in chunks (RFC 9112, section 7.1).

    Some programs save such an answer without its chunks and keep the header. It begins with no length then.
    """
    line = body.line()
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}(?:;[^\r\n]*)?\r?\n", line):
        yield line
        yield from whole(body)
        return
    while left := int(line.partition(b";")[0], 16):
        while left:
            piece = body.read(min(left, CHUNK))
            if not piece:
                raise NoDocumentError(NOT_WHOLE)
            left -= len(piece)
            yield piece
        body.line()
        line = body.line()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}(?:;[^\r\n]*)?\r?\n", line):
            raise NoDocumentError(NOT_WHOLE)


def _unzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The bytes that are packed with gzip, in one member or in several."""
    unpacker = zlib.decompressobj(31)
    for piece in pieces:
        while piece:
            if unpacker.eof:
                unpacker = zlib.decompressobj(31)
            try:
                yield unpacker.decompress(piece, CHUNK)
            except zlib.error:
                raise NoDocumentError(NOT_WHOLE) from None
            piece = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    if not unpacker.eof:
        raise NoDocumentError(NOT_WHOLE)


def document_in(file: BinaryIO | io.BufferedReader, *, is_packed: bool) -> Iterator[bytes]:
    """The document in the record that a file stands at, piece by piece.

    Raises:
        NoDocumentError: the record holds none.
        DamagedError: there is no record, or it ends early.
    """
    stream = ArchiveBytes(io.BufferedReader(_GzipMember(file), CHUNK) if is_packed else file)
    record = _warc_record(stream)
    if record is None:
        raise DamagedError
    yield from _payload(record, EntryBytes(stream, record.length))

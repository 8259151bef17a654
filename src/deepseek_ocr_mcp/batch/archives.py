"""Documents in tar and WARC files: listed as a stream, and fetched from the place where they lie.

An archive is hostile. Its names become names below DIR and nothing else; no member is written to a disk under its own
name. Headers and names are bounded, so that memory does not depend on what an archive says of itself. Whatever is no
document is told with the reason: links, names that lead out, an archive that ends early.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, Literal

from ..documents.listing import HEAD, SUFFIX, Unlisted, begins_like_document
from ..documents.paths import READABLE
from ..documents.reach import Reach, open_named
from ..errors import OcrError, UnreadableInput
from .files import CHUNK, WHOLE_BYTES, Location, Member, SourceDocument, safe_name, translated

__all__ = ["INSIDE", "archive_of", "is_archive", "list_members", "member_pieces"]

INSIDE: Final = "!/"
"""Between an archive and a name in it, as in the addresses of Java's jar files."""
_SUFFIX: Final = re.compile(r"\.(?:(tar)|(tar\.gz|tgz)|(warc)|(warc\.gz))$", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"\.(?:tar|tar\.gz|tgz|warc|warc\.gz)!/", re.IGNORECASE)

MAX_NAME: Final = 4096  # characters of a name or an address
MAX_EXTENDED: Final = 1 << 20  # bytes of a header that extends another one; with attributes of a file some kB
MAX_HEADER: Final = 64 << 10  # bytes of the headers of a WARC record, or of the answer of a web server in it
CURSORS: Final = 8  # open places in tar.gz files of a process: twice what a planner looks into at once

LEADS_OUT: Final = "names that lead out of their archive"
NO_NAME: Final = "names that no file can have"
LINKS: Final = "links in an archive"
SPECIAL: Final = "neither files nor folders"
SPARSE: Final = "files with holes in an archive"
DAMAGED: Final = "archives that are damaged or end early: what follows is not read"
ONE_STREAM: Final = "WARC files that are not compressed record by record: write them anew with `warcio recompress`"
CUT: Final = "records that were cut when they were saved"
REVISITS: Final = "records whose content is in another record"
NOT_WHOLE: Final = "answers of web servers that are no whole document"
NO_DOCUMENT: Final = "records that are by content neither a picture nor a PDF"
CODED: Final = "answers of web servers in an encoding that is not read"

RECORD_END: Final = b"\r\n\r\n"
_ZEROS: Final = bytes(tarfile.BLOCKSIZE)
_RECORD: Final = re.compile(rb"(\d{1,10}) ")


class _DamagedError(Exception):
    """An archive does not go on as it must. The text says why, in the plural; empty: `DAMAGED`."""


_DAMAGES: Final = (_DamagedError, EOFError, zlib.error, gzip.BadGzipFile)
_STRUCTURE: Final = frozenset({"warcinfo", "request", "metadata"})  # records that hold no content of their own


@dataclass(frozen=True, slots=True)
class _Found:
    """A name in an archive."""

    name: str
    start: int
    length: int = 0
    why: str = ""
    """Why it is no document; empty: it is one."""


def archive_of(source: str) -> str:
    """The archive that the address of a document leads into; empty: it is a document of its own."""
    found = _ADDRESS.search(source)
    return source[: found.end() - len(INSIDE)] if found else ""


def is_archive(name: str) -> bool:
    """Whether a path or a URL is by name an archive."""
    return _SUFFIX.search(name.partition("?")[0] if "://" in name else name) is not None


def _kind_of(name: str) -> Literal["tar", "tar.gz", "warc", "warc.gz"]:
    found = _SUFFIX.search(name.partition("?")[0] if "://" in name else name)
    kinds: Sequence[Literal["tar", "tar.gz", "warc", "warc.gz"]] = ("tar", "tar.gz", "warc", "warc.gz")
    return next(kind for kind, hit in zip(kinds, found.groups() if found else (), strict=True) if hit)


# -- listing


def list_members(archive: SourceDocument, dirs: Sequence[str]) -> Iterator[SourceDocument | Unlisted]:
    """The documents in an archive, in its order, and the names that are none. Nothing is held but a hash of each name.

    Args:
        archive: its path or URL, and the name that the texts of its documents lie below.
        dirs: the allowed folders of this machine; empty: all.
    """
    kind = _kind_of(archive.url)
    seen: set[int] = set()
    try:
        with _opened(archive.url, dirs) as file:
            for found in _WALKS[kind](file):
                yield from _described(archive, found, kind, seen)
    except _DAMAGES as exc:
        yield Unlisted(archive.url, str(exc) if isinstance(exc, _DamagedError) and str(exc) else DAMAGED)
    except (OcrError, OSError) as exc:
        why = exc.code if isinstance(exc, OcrError) else type(exc).__name__
        yield Unlisted(archive.url, f"archives that could not be read ({why})")


def _described(
    archive: SourceDocument, found: _Found, kind: str, seen: set[int]
) -> Iterator[SourceDocument | Unlisted]:
    """What a name in an archive is; nothing for a hidden file. A name that comes again gets its place behind it."""
    is_web = kind.startswith("warc")
    safe = safe_name(found.name.partition("://")[2] or found.name if is_web else found.name) or "_"
    if not is_web and any(part.startswith(".") for part in safe.split("/")):
        return
    shown = (found.name if is_web or found.why else safe)[:MAX_NAME]
    key = hash(safe)
    if key in seen:
        safe, shown = f"{safe}@{found.start}", f"{shown}@{found.start}"
    seen.add(key)
    address, why = f"{archive.url}{INSIDE}{shown}", found.why
    if not why and not is_web and not _readable(safe):
        why = SUFFIX
    if why:
        yield Unlisted(address, why)
        return
    yield SourceDocument(
        address,
        f"{archive.name}/{safe}",
        f"{archive.stamp} {found.start}" if archive.stamp else "",
        archive.local,
        renamed=archive.renamed and archive.url.startswith("http"),  # two addresses on the web may be one name
        member=Member(archive.url, found.start, found.length),
    )


def _readable(name: str) -> bool:
    """Whether a name in an archive may be that of a document; `name@512` is the second one of that name."""
    last = re.sub(r"@\d+$", "", name.lower()).rpartition("/")[2]
    return last.endswith(READABLE) or "." not in last


@contextmanager
def _opened(url: str, dirs: Sequence[str]) -> Iterator[io.BufferedReader]:
    """An archive, to read and to seek in.

    Raises:
        OcrError: it cannot be opened, or the allowed folders do not hold it.
    """
    place = Location(url)
    with translated(url):
        if place.local:
            descriptor, _ = open_named([url], "", Reach(tuple(dirs)))
            raw: Any = open(descriptor, "rb", buffering=0)  # noqa: SIM115  # the reader closes it
        else:
            raw = place.fs.open(place.root, "rb", block_size=CHUNK, cache_type="readahead")
    with io.BufferedReader(raw, CHUNK) as file:
        yield file


class _Bytes:
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
    def of_file(cls, file: io.BufferedReader) -> _Bytes:
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
            raise _DamagedError
        return data

    def line(self, most: int) -> bytes:
        """A line with its end."""
        data = self._stream.readline(most)
        self.at += len(data)
        return data

    def skip(self, length: int) -> None:
        if self._size is not None:
            if self.at + length > self._size:
                raise _DamagedError
            self.at = self._stream.seek(self.at + length)
            return
        while length:
            length -= len(self.exactly(min(length, CHUNK)))


# -- tar


@dataclass(slots=True)
class _Extended:
    """What the headers before a member say of it."""

    name: str = ""
    size: int | None = None
    is_sparse: bool = False


def _walk_tar(file: io.BufferedReader) -> Iterator[_Found]:
    yield from _tar_members(_Bytes.of_file(file))


def _walk_tar_gz(file: io.BufferedReader) -> Iterator[_Found]:
    with gzip.GzipFile(fileobj=file) as stream:
        yield from _tar_members(_Bytes(stream))


def _tar_members(stream: _Bytes) -> Iterator[_Found]:
    """The members of a tar file. Those behind its end are members, too: it may be several, one behind the other."""
    extended = _Extended()
    has_end = False
    while block := stream.read(tarfile.BLOCKSIZE):
        if block == _ZEROS[: len(block)]:
            has_end = True
            continue
        info = _header(block)
        if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE):
            _take_pax(_extension(stream, info), extended, is_global=info.type == tarfile.XGLTYPE)
        elif info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            data = _extension(stream, info)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                extended.name = data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        else:
            has_more = info.type == tarfile.GNUTYPE_SPARSE and block[482]
            while has_more:
                has_more = stream.exactly(tarfile.BLOCKSIZE)[504]
            yield from _tar_member(stream, info, extended)
            extended, has_end = _Extended(), False
    if not has_end:
        raise _DamagedError


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise _DamagedError from None
    if info.size < 0:
        raise _DamagedError
    return info


def _extension(stream: _Bytes, info: tarfile.TarInfo) -> bytes:
    """What a header says of the next one."""
    if info.size > MAX_EXTENDED:
        raise _DamagedError
    return stream.exactly(_padded(info.size))[: info.size]


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _take_pax(data: bytes, extended: _Extended, *, is_global: bool) -> None:
    """Take what the records of POSIX.1-2001 say: `length key=value`, one behind the other."""
    at = 0
    while at < len(data):
        found = _RECORD.match(data, at)
        length = int(found[1]) if found else 0
        record = data[at : at + length]
        if not found or len(record) < length or not record.endswith(b"\n"):
            raise _DamagedError
        key, _, value = record[found.end() - at : -1].partition(b"=")
        if key in (b"path", b"size") or key.startswith(b"GNU.sparse."):
            if is_global:  # of all further members: no program writes that
                raise _DamagedError
            _take_record(key, value, extended)
        at += length


def _take_record(key: bytes, value: bytes, extended: _Extended) -> None:
    if key == b"path":
        extended.name = value.decode("utf-8", "surrogateescape")
    elif key == b"size":
        if not re.fullmatch(rb"\d{1,18}", value):
            raise _DamagedError
        extended.size = int(value)
    else:
        extended.is_sparse = True


def _tar_member(stream: _Bytes, info: tarfile.TarInfo, extended: _Extended) -> Iterator[_Found]:
    """A member; its bytes are passed over."""
    start, name = stream.at, extended.name or info.name
    size = info.size if extended.size is None else extended.size
    # As tarfile has it: links, folders and devices have no bytes, whatever their header says.
    has_bytes = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
    stream.skip(_padded(size) if has_bytes else 0)
    if info.isdir():
        return
    if why := _name_fault(name):
        yield _Found(name, start, why=why)
    elif info.issym() or info.islnk():
        yield _Found(name, start, why=LINKS)
    elif info.type == tarfile.GNUTYPE_SPARSE or extended.is_sparse:
        yield _Found(name, start, why=SPARSE)
    elif not info.isreg():
        yield _Found(name, start, why=SPECIAL)
    else:
        yield _Found(name, start, size)


def _name_fault(name: str) -> str:
    parts = name.replace("\\", "/").split("/")
    if len(name) > MAX_NAME or "\0" in name or not any(part not in ("", ".") for part in parts):
        return NO_NAME
    return LEADS_OUT if ".." in parts or not parts[0] else ""


# -- WARC


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


def _walk_warc(file: io.BufferedReader) -> Iterator[_Found]:
    stream = _Bytes.of_file(file)
    while True:
        start = stream.at
        record = _warc_record(stream)
        if record is None:
            return
        at = stream.at
        found = _warc_found(record, _Limited(stream, record.length))
        stream.skip(record.length - (stream.at - at))
        if stream.read(len(RECORD_END)) != RECORD_END:
            raise _DamagedError
        if found is not None:
            yield _Found(found[0], start, stream.at - start, found[1])


def _walk_warc_gz(file: io.BufferedReader) -> Iterator[_Found]:
    start = 0
    while True:
        file.seek(start)
        if not file.peek(1):
            return
        packed = _GzipMember(file)
        stream = _Bytes(io.BufferedReader(packed, CHUNK))
        record = _warc_record(stream)
        if record is None:
            raise _DamagedError
        at = stream.at
        found = _warc_found(record, _Limited(stream, record.length))
        stream.skip(record.length - (stream.at - at))
        if stream.read(len(RECORD_END) + 1) not in (RECORD_END, b""):
            raise _DamagedError(ONE_STREAM)
        if found is not None:
            yield _Found(found[0], start, packed.end - start, found[1])
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


class _Limited:
    """The bytes of a record, to read once.

    Args:
        stream: where the record stands.
        length: of the record.
    """

    def __init__(self, stream: _Bytes, length: int) -> None:
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


def _warc_record(stream: _Bytes) -> _WarcRecord | None:
    """The headers of the next record; None at the end."""
    first = stream.line(MAX_HEADER)
    if not first:
        return None
    if not re.fullmatch(rb"WARC/\d+\.\d+\r?\n", first):
        raise _DamagedError
    headers = _headers(lambda: stream.line(MAX_HEADER))
    length = headers.get("content-length", "")
    if not re.fullmatch(r"\d{1,18}", length):
        raise _DamagedError
    return _WarcRecord(headers, int(length))


def _headers(line: Callable[[], bytes]) -> dict[str, str]:
    """Headers up to the empty line, by their names in small letters; of equal ones the first."""
    found: dict[str, str] = {}
    name, taken = "", 0
    while (text := line()) not in (b"\r\n", b"\n"):
        taken += len(text)
        if not text.endswith(b"\n") or taken > MAX_HEADER:
            raise _DamagedError
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


def _warc_found(record: _WarcRecord, body: _Limited) -> tuple[str, str] | None:
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
    except _NoDocumentError as exc:
        return address, str(exc)
    return address, "" if begins_like_document(head[:HEAD]) else NO_DOCUMENT


class _NoDocumentError(Exception):
    """The answer of a web server is no document; the text says why, in the plural."""


def _payload(record: _WarcRecord, body: _Limited) -> Iterator[bytes]:
    """The document in a record, piece by piece: the body of an answer without its transfer and content encodings.

    Raises:
        _NoDocumentError: the answer is none of a document.
    """
    if not record.is_answer:
        return _whole(body)
    status = body.line().split()
    if len(status) < 2 or not status[0].startswith(b"HTTP/"):
        raise _NoDocumentError(NO_DOCUMENT)
    headers = _headers(body.line)
    if status[1] != b"200":
        raise _NoDocumentError(NOT_WHOLE)
    chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    pieces = _unchunked(body) if chunked else _whole(body)
    coding = headers.get("content-encoding", "").lower()
    if coding in ("", "identity"):
        return pieces
    if coding not in ("gzip", "x-gzip"):
        raise _NoDocumentError(CODED)
    return _unzipped(pieces)


def _whole(body: _Limited) -> Iterator[bytes]:
    while piece := body.read(CHUNK):
        yield piece


def _unchunked(body: _Limited) -> Iterator[bytes]:
    """The body of an answer that came in chunks (RFC 9112, section 7.1).

    Some programs save such an answer without its chunks and keep the header. It begins with no length then.
    """
    line = body.line()
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}(?:;[^\r\n]*)?\r?\n", line):
        yield line
        yield from _whole(body)
        return
    while left := int(line.partition(b";")[0], 16):
        while left:
            piece = body.read(min(left, CHUNK))
            if not piece:
                raise _NoDocumentError(NOT_WHOLE)
            left -= len(piece)
            yield piece
        body.line()
        line = body.line()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}(?:;[^\r\n]*)?\r?\n", line):
            raise _NoDocumentError(NOT_WHOLE)


def _unzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(31)
    for piece in pieces:
        while piece and not unpacker.eof:
            try:
                yield unpacker.decompress(piece, CHUNK)
            except zlib.error:
                raise _NoDocumentError(NOT_WHOLE) from None
            piece = unpacker.unconsumed_tail
    if not unpacker.eof:
        raise _NoDocumentError(NOT_WHOLE)


_WALKS: Final[Mapping[str, Callable[[io.BufferedReader], Iterator[_Found]]]] = {
    "tar": _walk_tar,
    "tar.gz": _walk_tar_gz,
    "warc": _walk_warc,
    "warc.gz": _walk_warc_gz,
}


# -- fetching


def member_pieces(member: Member, dirs: Sequence[str], take: Callable[[bytes], None], stop: threading.Event) -> None:
    """Give the bytes of a document in an archive to `take`, a piece at a time.

    Raises:
        OcrError: it cannot be read, it is not there any more, or what `take` raised.
    """
    with translated(member.archive):
        try:
            for piece in _pieces(member, dirs):
                if stop.is_set():
                    return
                take(piece)
        except (*_DAMAGES, _NoDocumentError):
            raise UnreadableInput(
                f"{member.archive} does not hold the document any more.",
                remedy="Run the command again when nobody writes to it.",
            ) from None


def _pieces(member: Member, dirs: Sequence[str]) -> Iterator[bytes]:
    kind = _kind_of(member.archive)
    if kind == "tar.gz":
        with _cursors.at(member, dirs) as unpacked:
            yield from _whole(_Limited(unpacked, member.length))
        return
    with _slice(member, dirs) as file:
        if kind == "tar":
            yield from _whole(_Limited(_Bytes(file), member.length))
            return
        stream = _Bytes(io.BufferedReader(_GzipMember(file), CHUNK) if kind == "warc.gz" else file)
        record = _warc_record(stream)
        if record is None:
            raise _DamagedError
        yield from _payload(record, _Limited(stream, record.length))


@contextmanager
def _slice(member: Member, dirs: Sequence[str]) -> Iterator[BinaryIO | io.BufferedReader]:
    """A file at the first byte of a member; by one request where it is far away and not too large."""
    place = Location(member.archive)
    if not place.local and member.length <= WHOLE_BYTES:
        with translated(member.archive):
            end = member.start + member.length
            data: bytes = place.fs.cat_file(place.root, start=member.start, end=end) if member.length else b""
        yield io.BytesIO(data)
        return
    with _opened(member.archive, dirs) as file:
        file.seek(member.start)
        yield file


@dataclass(slots=True)
class _Cursors:
    """Open places in tar.gz files, which cannot be sought in.

    Documents come nearly in the order of their archive: from the nearest place before it, a document costs what lies
    between. A process therefore unpacks an archive a few times, not once for each document.
    """

    _idle: list[tuple[str, _Bytes, Any]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def at(self, member: Member, dirs: Sequence[str]) -> Iterator[_Bytes]:
        """The unpacked bytes of an archive, from the first one of a member."""
        with self._lock:
            before = [each for each in self._idle if each[0] == member.archive and each[1].at <= member.start]
            entry = max(before, key=lambda each: each[1].at, default=None)
            if entry is not None:
                self._idle.remove(entry)
        if entry is None:
            context = _opened(member.archive, dirs)
            entry = (member.archive, _Bytes(gzip.GzipFile(fileobj=context.__enter__())), context)
        is_sound = False
        try:
            entry[1].skip(member.start - entry[1].at)
            yield entry[1]
            is_sound = True
        finally:
            with self._lock:
                self._idle += [entry] if is_sound else []
                old = self._idle.pop(0) if len(self._idle) > CURSORS else None
            for each in filter(None, (old, None if is_sound else entry)):
                each[2].__exit__(None, None, None)


_cursors: Final = _Cursors()

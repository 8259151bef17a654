"""Members of tar files, packed with gzip or not. The standard library reads one header; whatever is long, is bounded.

`tarfile` itself would hold as many bytes as a header claims, and all members.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .archive_bytes import MAX_NAME, NO_NAME, ArchiveBytes, ArchiveEntry, DamagedError

__all__ = ["walk_tar", "walk_tar_gz"]

MAX_EXTENDED: Final = 1 << 20  # bytes of a header that extends another one; with attributes of a file some kB
LEADS_OUT: Final = "names that lead out of their archive"
LINKS: Final = "links in an archive"
SPECIAL: Final = "neither files nor folders"
SPARSE: Final = "files with holes in an archive"
_ZEROS: Final = bytes(tarfile.BLOCKSIZE)
_RECORD: Final = re.compile(rb"(\d{1,10}) ")


@dataclass(slots=True)
class _Extended:
    """What the headers before a member say of it."""

    name: str = ""
    size: int | None = None
    is_sparse: bool = False


def walk_tar(file: io.BufferedReader) -> Iterator[ArchiveEntry]:
    yield from _tar_members(ArchiveBytes.of_file(file))


def walk_tar_gz(file: io.BufferedReader) -> Iterator[ArchiveEntry]:
    with gzip.GzipFile(fileobj=file) as stream:
        yield from _tar_members(ArchiveBytes(stream))


def _tar_members(stream: ArchiveBytes) -> Iterator[ArchiveEntry]:
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
        raise DamagedError


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise DamagedError from None
    if info.size < 0:
        raise DamagedError
    return info


def _extension(stream: ArchiveBytes, info: tarfile.TarInfo) -> bytes:
    """What a header says of the next one."""
    if info.size > MAX_EXTENDED:
        raise DamagedError
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
            raise DamagedError
        key, _, value = record[found.end() - at : -1].partition(b"=")
        if key in (b"path", b"size") or key.startswith(b"GNU.sparse."):
            if is_global:  # of all further members: no program writes that
                raise DamagedError
            _take_record(key, value, extended)
        at += length


def _take_record(key: bytes, value: bytes, extended: _Extended) -> None:
    if key == b"path":
        extended.name = value.decode("utf-8", "surrogateescape")
    elif key == b"size":
        if not re.fullmatch(rb"\d{1,18}", value):
            raise DamagedError
        extended.size = int(value)
    else:
        extended.is_sparse = True


def _tar_member(stream: ArchiveBytes, info: tarfile.TarInfo, extended: _Extended) -> Iterator[ArchiveEntry]:
    """A member; its bytes are passed over."""
    start, name = stream.at, extended.name or info.name
    size = info.size if extended.size is None else extended.size
    # As tarfile has it: links, folders and devices have no bytes, whatever their header says.
    has_bytes = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
    stream.skip(_padded(size) if has_bytes else 0)
    if info.isdir():
        return
    if why := _name_fault(name):
        yield ArchiveEntry(name, start, why=why)
    elif info.issym() or info.islnk():
        yield ArchiveEntry(name, start, why=LINKS)
    elif info.type == tarfile.GNUTYPE_SPARSE or extended.is_sparse:
        yield ArchiveEntry(name, start, why=SPARSE)
    elif not info.isreg():
        yield ArchiveEntry(name, start, why=SPECIAL)
    else:
        yield ArchiveEntry(name, start, size)


def _name_fault(name: str) -> str:
    parts = name.replace("\\", "/").split("/")
    if len(name) > MAX_NAME or "\0" in name or not any(part not in ("", ".") for part in parts):
        return NO_NAME
    return LEADS_OUT if ".." in parts or not parts[0] else ""

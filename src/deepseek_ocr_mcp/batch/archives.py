"""Documents in tar and WARC files: listed as a stream, and fetched from the place where they lie.

An archive is hostile. Its names become names below DIR and nothing else; no member is written to a disk under its own
name. Headers and names are bounded, so that memory does not depend on what an archive says of itself. Whatever is no
document is told with the reason: links, names that lead out, an archive that ends early.
"""

from __future__ import annotations

import gzip
import io
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from ..documents.listing import OTHER_SUFFIX, Unlisted
from ..documents.reach import Reach, open_named
from ..errors import OcrError, UnreadableInput
from .archive_bytes import DAMAGES, MAX_NAME, ArchiveBytes, ArchiveEntry, DamagedError, EntryBytes, whole
from .files import CHUNK, WHOLE_BYTES, Location, Member, SourceDocument, may_be_document, safe_name, translated
from .tar import walk_tar, walk_tar_gz
from .warc import NoDocumentError, document_in, walk_warc, walk_warc_gz

__all__ = ["INSIDE", "archive_of", "is_archive", "list_members", "member_pieces"]

INSIDE: Final = "!/"
"""Between an archive and a name in it, as in the addresses of Java's jar files."""
_SUFFIXES: Final = r"\.(tar|tar\.gz|tgz|warc|warc\.gz)"
_SUFFIX: Final = re.compile(f"{_SUFFIXES}$", re.IGNORECASE)
_ADDRESS: Final = re.compile(f"{_SUFFIXES}{INSIDE}", re.IGNORECASE)
_PLACES: Final = re.compile(r"(?:@\d+)+$")  # behind a name that comes again: `name@512`

CURSORS: Final = 8  # open places in tar.gz files of a process: twice what a planner looks into at once
DAMAGED: Final = "archives that are damaged or end early: what follows is not read"


def archive_of(source: str) -> str:
    """The archive that the address of a document leads into; empty: it is a document of its own."""
    found = _ADDRESS.search(source)
    return source[: found.end() - len(INSIDE)] if found else ""


def is_archive(name: str) -> bool:
    """Whether a path or a URL is by name an archive."""
    return _kind_of(name) != ""


def _kind_of(name: str) -> str:
    """The kind of an archive by its name, one of `_WALKS`; empty: it is none."""
    found = _SUFFIX.search(name.partition("?")[0] if "://" in name else name)
    kind = found[1].lower() if found else ""
    return "tar.gz" if kind == "tgz" else kind


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
    except DAMAGES as exc:
        yield Unlisted(archive.url, str(exc) if isinstance(exc, DamagedError) and str(exc) else DAMAGED)
    except Exception as exc:  # of a file system: each has errors of its own
        why = exc.code if isinstance(exc, OcrError) else type(exc).__name__
        yield Unlisted(archive.url, f"archives that could not be read ({why})")


def _described(
    archive: SourceDocument, found: ArchiveEntry, kind: str, seen: set[int]
) -> Iterator[SourceDocument | Unlisted]:
    """What a name in an archive is; nothing for a hidden file. A name that comes again gets its place behind it."""
    is_web = kind.startswith("warc")
    safe = safe_name(found.name.partition("://")[2] or found.name if is_web else found.name) or "_"
    if not is_web and any(part.startswith(".") for part in safe.split("/")):
        return
    shown = (found.name if is_web or found.why else safe)[:MAX_NAME]
    while hash(safe) in seen:
        safe, shown = f"{safe}@{found.start}", f"{shown}@{found.start}"
    seen.add(hash(safe))
    address, why = f"{archive.url}{INSIDE}{shown}", found.why
    if not why and not is_web and not may_be_document(_PLACES.sub("", safe)):
        why = OTHER_SUFFIX
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


_WALKS: Final[Mapping[str, Callable[[io.BufferedReader], Iterator[ArchiveEntry]]]] = {
    "tar": walk_tar,
    "tar.gz": walk_tar_gz,
    "warc": walk_warc,
    "warc.gz": walk_warc_gz,
}


# -- fetching


def member_pieces(member: Member, dirs: Sequence[str], take: Callable[[bytes], None], stop: threading.Event) -> None:
    """Give the bytes of a document in an archive to `take`, a piece at a time.

    Args:
        member: the document and its archive.
        dirs: the allowed folders; see `OCR_ALLOWED_DIRS`.
        take: gets each piece. An error that it raises ends the reading.
        stop: ends the reading when it is set.

    Raises:
        OcrError: it cannot be read, it is not there any more, or what `take` raised.
    """
    with translated(member.archive):
        try:
            for piece in _pieces(member, dirs):
                if stop.is_set():
                    return
                take(piece)
        except (*DAMAGES, NoDocumentError):
            raise UnreadableInput(
                f"{member.archive} does not hold the document any more.",
                remedy="Run the command again when nobody writes to it.",
            ) from None


def _pieces(member: Member, dirs: Sequence[str]) -> Iterator[bytes]:
    kind = _kind_of(member.archive)
    if kind == "tar.gz":
        with _cursors.at(member, dirs) as unpacked:
            yield from whole(EntryBytes(unpacked, member.length))
        return
    with _slice(member, dirs) as file:
        if kind == "tar":
            yield from whole(EntryBytes(ArchiveBytes(file), member.length))
            return
        yield from document_in(file, is_packed=kind == "warc.gz")


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

    _idle: list[tuple[str, ArchiveBytes, Any]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def at(self, member: Member, dirs: Sequence[str]) -> Iterator[ArchiveBytes]:
        """The unpacked bytes of an archive, from the first one of a member."""
        with self._lock:
            before = [each for each in self._idle if each[0] == member.archive and each[1].at <= member.start]
            entry = max(before, key=lambda each: each[1].at, default=None)
            if entry is not None:
                self._idle.remove(entry)
        if entry is None:
            context = _opened(member.archive, dirs)
            entry = (member.archive, ArchiveBytes(gzip.GzipFile(fileobj=context.__enter__())), context)
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

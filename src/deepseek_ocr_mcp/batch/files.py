"""Folders on this machine or behind a URL: listed, read and written the same way, and nothing written half.

Any file system that fsspec knows can hold the documents and take the texts. A file that is written is there whole
or not at all: by a rename where the file system renames at once, by the one request that makes an object elsewhere.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Final
from urllib.parse import unquote

import anyio

from ..caller import Caller
from ..config import Settings
from ..documents.listing import SUFFIX, Unlisted, list_files, unlisted_text
from ..documents.paths import READABLE, path_of_uri
from ..documents.reach import Reach
from ..errors import BadRequest, InputForbidden, InputNotFound, OcrError
from ..install import install_command

__all__ = ["STATE", "Location", "SourceDocument", "SourceList", "list_sources", "pieces", "place_of"]

STATE: Final = ".batch"  # in the output folder: what a run that was stopped needs to go on
TEMPORARY: Final = f"{STATE}/unfinished"
MAX_FILES: Final = 100_000_000  # of one run: names and facts of each are held by the driver, about 1 kB
CHUNK: Final = 1 << 20

# Where one request makes the whole object, and a rename would copy it.
OBJECT_STORES: Final = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "hf", "memory", "r2"}
)
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")
# What file systems call the time or the content of a file.
_STAMPS: Final = ("ETag", "etag", "md5", "mtime", "LastModified", "last_modified", "updated", "modified", "created")


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document to read."""

    url: str
    """Its path on this machine, or its URL."""
    name: str
    """Relative to the folder that was named; what its text is called after."""
    stamp: str
    """Changes when the file does, as far as its file system tells; empty: it does not tell."""
    local: bool = True


@dataclass(frozen=True, slots=True)
class SourceList:
    """The documents that a run reads, and the names that it does not look into."""

    documents: list[SourceDocument]
    left_out: list[Unlisted]
    """Each with its whole path or URL."""


class Location:
    """A folder, named by a path of this machine or a URL. Names in it are relative and have forward slashes."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") or "/"
        self.local = not _URL.match(url)
        self._fs: Any = None
        self._root = ""

    def __repr__(self) -> str:
        return f"<Place {self.url}>"

    def __reduce__(self) -> tuple[type[Location], tuple[str]]:
        return Location, (self.url,)

    @property
    def fs(self) -> Any:
        """The fsspec file system, connected when it is first used in a process."""
        if self._fs is None:
            with _told(self.url):
                import fsspec

                # Files that others write meanwhile: a listing that was kept would hide them.
                options = {} if self.local else {"use_listings_cache": False}
                self._fs, root = fsspec.core.url_to_fs(self.url, **options)
                self._root = root.rstrip("/")
        return self._fs

    @property
    def root(self) -> str:
        """Its path in the file system."""
        return self._root if self.fs is not None else ""

    def path(self, name: str) -> str:
        """The path of a file in it, as the file system has it."""
        return f"{self.root}/{name}" if name else self.root

    def url_of(self, name: str) -> str:
        """What a person or another program calls a file in it."""
        return os.path.join(self.url, *name.split("/")) if self.local else f"{self.url}/{name}"

    def read(self, name: str) -> bytes:
        """A whole file.

        Raises:
            FileNotFoundError: there is none of that name.
        """
        data: bytes = self.fs.cat_file(self.path(name))
        return data

    def exists(self, name: str) -> bool:
        return bool(self.fs.exists(self.path(name)))

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that, whenever the machine stops, the old one is there or the new one.

        Raises:
            OcrError: it cannot be written.
        """
        path = self.path(name)
        with _told(self.url_of(name)):
            if not self.local and OBJECT_STORES.intersection(_protocols(self.fs)):
                self.fs.pipe_file(path, data)
                return
            temporary = self.path(f"{TEMPORARY}/{secrets.token_hex(8)}")
            for folder in (temporary, path):
                self.fs.makedirs(folder.rpartition("/")[0], exist_ok=True)
            if self.local:
                with open(temporary, "wb") as file:
                    file.write(data)
                os.replace(temporary, path)
            else:
                self.fs.pipe_file(temporary, data)
                self.fs.mv(temporary, path)

    def remove(self, names: Iterable[str]) -> None:
        """Delete files; those that are gone already are fine."""
        for name in names:
            with _told(self.url_of(name)):
                try:
                    self.fs.rm_file(self.path(name))
                except FileNotFoundError:
                    continue

    def names(self, below: str = "") -> set[str]:
        """All files in it, or in one of its folders, with their paths relative to it."""
        with _told(self.url):
            try:
                found = self.fs.find(self.path(below))
            except FileNotFoundError:
                return set()
            return {path[len(self.root) + 1 :] for path in found}

    def prepare(self) -> None:
        """Make the folder if it is not there."""
        with _told(self.url):
            self.fs.makedirs(self.root, exist_ok=True)

    @contextmanager
    def swept(self) -> Iterator[None]:
        """Delete unfinished files before and after: processes that were killed while they wrote leave them. Every
        process that writes begins and ends within the block.
        """
        self.remove(self.names(TEMPORARY))
        try:
            yield
        finally:
            self.remove(self.names(TEMPORARY))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second run away from it, as far as its file system has locks: this machine's has.

        Raises:
            BadRequest: another run is at work on it.
        """
        if not self.local:
            yield
            return
        path = self.path(f"{STATE}/lock")
        with _told(self.url):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            if not _has_lock(lock):
                raise BadRequest(
                    f"Another batch is writing to {self.url}.",
                    remedy="Wait for it, or stop it; then run this command again.",
                )
            yield
        finally:
            os.close(lock)


def _has_lock(descriptor: int) -> bool:
    """Take the lock of an open file. True also where there are no such locks: on Windows and on some network disks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError as exc:
        return exc.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def place_of(text: str) -> Location:
    """The folder that a path, relative ones included, or a URL names.

    Raises:
        BadRequest: a `file:` URL without a path.
    """
    if text[:5].lower() == "file:":
        text = path_of_uri(text)[1]
    return Location(text if _URL.match(text) else os.path.abspath(os.path.expanduser(text)))


def list_sources(text: str, out: Location, settings: Settings) -> SourceList:
    """The documents that a path, a pattern or a URL names, those in subfolders of a folder included.

    Args:
        out: where their texts go: what is in there is no document.

    Raises:
        InputNotFound: nothing that can be read is there.
        OcrError: the file system refused, or is not known.
    """
    place = place_of(text)
    found = _list_local(place.url, out, settings) if place.local else _list_remote(place, out)
    if not found.documents:
        left_out = f" {unlisted_text(found.left_out)}" if found.left_out else ""
        raise InputNotFound(
            f"{text} names no file that can be read.{left_out}",
            remedy='Name a folder, a file, or a quoted pattern: "scans/**/*.pdf", "s3://bucket/scans/**/*.pdf".',
        )
    return found


def _list_local(path: str, out: Location, settings: Settings) -> SourceList:
    pattern = os.path.join(path, "**") if os.path.isdir(path) else path
    leave_out = os.path.realpath(out.url) if out.local else ""
    look = partial(list_files, pattern, Reach.of(Caller(), settings), leave_out=leave_out, most=MAX_FILES)
    listing = anyio.run(look)
    if listing is None:
        if not os.path.isfile(path):
            return SourceList([], [])
        return SourceList([SourceDocument(path, os.path.basename(path), _local_stamp(path, settings))], [])

    def path_of(name: str) -> str:
        return os.path.normpath(os.path.join(listing.root, *name.split("/")))

    documents = [SourceDocument(path_of(name), name, _local_stamp(path_of(name), settings)) for name in listing.files]
    return SourceList(documents, [Unlisted(path_of(each.name), each.why) for each in listing.left_out])


def _local_stamp(path: str, settings: Settings) -> str:
    try:
        # Of a link that leads out of the allowed folders nothing is asked; to open it will be refused.
        facts = os.lstat(path) if settings.ocr_allowed_dirs else os.stat(path)
    except OSError:
        return ""
    return f"{facts.st_size} {facts.st_mtime_ns}"


def _list_remote(place: Location, out: Location) -> SourceList:
    fs, root = place.fs, place.root
    with _told(place.url):
        if any(char in place.url for char in "*?["):
            found = fs.glob(root, detail=True)
            fixed = re.split(r"[*?\[]", root)[0]
            root = fixed.rpartition("/")[0]
        elif fs.isdir(root):
            found = fs.find(root, detail=True)
        else:
            found = {root: fs.info(root)}
            root = root.rpartition("/")[0]
    mine = f"{out.root}/" if not out.local and type(out.fs) is type(fs) else ""
    sources, left_out = [], []
    for path, facts in found.items():
        name = path[len(root) :].lstrip("/")
        if facts.get("type") == "directory" or (mine and path.startswith(mine)):
            continue
        if any(part.startswith(".") for part in name.split("/")):
            continue
        if len(found) == 1 or _readable(name):
            sources.append(SourceDocument(fs.unstrip_protocol(path), _safe(name), _remote_stamp(facts), local=False))
        else:
            left_out.append(Unlisted(fs.unstrip_protocol(path), SUFFIX))
    return SourceList(sorted(sources, key=lambda source: source.name), sorted(left_out, key=lambda each: each.name))


def _readable(name: str) -> bool:
    """Whether a name may be that of a document. A name without a suffix may be: its planner looks into it."""
    last = name.lower().partition("?")[0].rpartition("/")[2]
    return last.endswith(READABLE) or "." not in last


def _safe(name: str) -> str:
    """A name in another file system as one that ours can have: nothing leads out of the folder."""
    parts = [part for part in unquote(name.partition("?")[0]).replace("\\", "/").split("/") if part not in ("", ".")]
    return "/".join("_" if part == ".." else part for part in parts)


def _remote_stamp(facts: dict[str, Any]) -> str:
    """Size and whatever else tells one state of a file from another; empty where it is the size alone."""
    told = [str(facts[name]) for name in _STAMPS if facts.get(name)]
    return f"{facts.get('size')} {' '.join(told)}" if told else ""


def _opened(source: SourceDocument) -> BinaryIO:
    """A document of another file system, open for reading.

    Raises:
        OcrError: it cannot be opened.
    """
    with _told(source.url):
        import fsspec

        fs, path = fsspec.core.url_to_fs(source.url)
        file: BinaryIO = fs.open(path, "rb")
        return file


def pieces(source: SourceDocument, take: Callable[[bytes], None], stop: threading.Event) -> None:
    """Give the bytes of a document of another file system to `take`, a piece at a time.

    Raises:
        OcrError: it cannot be read, or what `take` raised.
    """
    with _told(source.url), _opened(source) as file:
        while (piece := file.read(CHUNK)) and not stop.is_set():
            take(piece)


def _protocols(fs: Any) -> tuple[str, ...]:
    named = fs.protocol
    return (named,) if isinstance(named, str) else tuple(named)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever a file system says against it, in our words. Its own may hold keys: only its class is told."""
    try:
        yield
    except OcrError:
        raise
    except FileNotFoundError:
        raise InputNotFound(f"There is no {what}.", remedy="Correct the path or the URL.") from None
    except PermissionError:
        raise InputForbidden(f"Access to {what} is not permitted.", remedy="Give this user the right to it.") from None
    except ImportError as exc:
        scheme = what.partition("://")[0]
        extra = "http" if scheme == "https" else scheme
        raise BadRequest(
            f"{scheme}:// needs a package that is not installed ({exc.name or exc}).",
            remedy=f"Run: {install_command(f'fsspec[{extra}]')}",
        ) from None
    except ValueError as exc:
        if "rotocol" in str(exc):  # fsspec: Protocol not known: xyz
            raise BadRequest(
                f"{what.partition('://')[0]}:// is no file system that fsspec knows.",
                remedy="Name a folder of this machine, or a URL such as s3://bucket/scans.",
            ) from None
        raise OcrError(f"{what} failed ({type(exc).__name__}).", remedy="Run the command again.") from None
    except Exception as exc:
        number = f" {exc.strerror}" if isinstance(exc, OSError) and exc.strerror else ""
        raise OcrError(
            f"{what} failed ({type(exc).__name__}{number}).", remedy="Look after the file system, then run it again."
        ) from None

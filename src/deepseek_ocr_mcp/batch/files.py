"""Folders on this machine or behind a URL: listed, read and written the same way, and nothing written half.

Any file system that fsspec knows can hold the documents and take the texts. A file that is written is there whole
or not at all: by a rename where the file system renames at once, by the one request that makes an object elsewhere.
"""

from __future__ import annotations

import errno
import inspect
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from ..documents.paths import READABLE, path_of_uri
from ..errors import BadRequest, InputForbidden, InputNotFound, OcrError
from ..install import install_command

__all__ = [
    "CHUNK",
    "PAGE",
    "STATE",
    "WHOLE_BYTES",
    "Location",
    "Member",
    "SourceDocument",
    "lists_in_pages",
    "may_be_document",
    "pieces",
    "place_of",
    "safe_name",
    "translated",
]

STATE: Final = ".batch"  # in the output folder: what a run that was stopped needs to go on
TEMPORARY: Final = f"{STATE}/unfinished"
CHUNK: Final = 1 << 20
WHOLE_BYTES: Final = 32 << 20  # a document up to this size is fetched by one request; a larger one piece by piece
PAGE: Final = 1000  # names that an object store lists in one answer

# Where one request makes the whole object, and a rename would copy it.
OBJECT_STORES: Final = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "hf", "memory", "r2"}
)
_URL: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://")
_CHAIN: Final = re.compile(r"[A-Za-z0-9+.-]+::|.*::[A-Za-z][A-Za-z0-9+.-]+://", re.DOTALL)
_PATTERN: Final = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class Member:
    """Where a document lies in an archive."""

    archive: str
    """Path or URL."""
    start: int
    """Its first byte; in a compressed tar file, of the unpacked bytes. Of a WARC file, the record's."""
    length: int


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
    size: int | None = None
    """Bytes, as its listing says; None: it does not say."""
    renamed: bool = False
    """Whether its own file system calls it otherwise, so that two of them may have the same name here."""
    member: Member | None = None
    """The place in an archive; None: the document is a file of its own."""


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
            with translated(self.url):
                # Files that others write meanwhile: a listing that was kept would hide them.
                options = {} if self.local else {"use_listings_cache": False}
                self._fs, root = _opened_url(self.url, **options)
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
        return _contents(self.fs, self.path(name))

    def exists(self, name: str) -> bool:
        return bool(self.fs.exists(self.path(name)))

    def size(self, name: str) -> int | None:
        """Bytes of a file; None: there is none."""
        try:
            return int(self.fs.info(self.path(name))["size"])
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that, whenever the machine stops, the old one is there or the new one.

        Raises:
            OcrError: it cannot be written.
        """
        with self._arriving(name) as path:
            if self.local:
                with open(path, "wb") as file:
                    file.write(data)
            else:
                self.fs.pipe_file(path, data)

    def remove(self, names: Iterable[str]) -> None:
        """Delete files; those that are gone already are fine."""
        names = list(names)
        # `rm` takes names with these characters for patterns, which match other files or none.
        if lists_in_pages(self.fs) and not _PATTERN.search(self.root):  # and deletes as many by one request
            with translated(self.url):
                for at in range(0, len(names), PAGE):
                    self.fs.rm([self.path(name) for name in names[at : at + PAGE]])
            return
        for name in names:
            with translated(self.url_of(name)):
                try:
                    self.fs.rm_file(self.path(name))
                except FileNotFoundError:
                    continue

    def names(self, below: str = "") -> set[str]:
        """All files in it, or in one of its folders, with their paths relative to it."""
        with translated(self.url):
            try:
                found = self.fs.find(self.path(below))
            except FileNotFoundError:
                return set()
            return {path[len(self.root) + 1 :] for path in found}

    def entries(
        self, below: str = "", *, deep: bool = True, failed: Callable[[OSError], None] | None = None
    ) -> Iterator[dict[str, Any]]:
        """What is in it, or in one of its folders, while it is listed: each entry as its file system describes it.

        Args:
            below: a folder in it.
            deep: whether the files of the folders below are listed, and no folders; else files and folders.
            failed: takes the error of each folder that cannot be listed; default: such folders are passed over.
        """
        with translated(self.url):
            yield from _entries(self.fs, self.path(below), deep, failed)

    def prepare(self) -> None:
        """Make the folder if it is not there."""
        with translated(self.url):
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
    def scratch(self) -> Iterator[str]:
        """A folder of this machine for large files; on the disk of the location where it has one."""
        parent = None
        if self.local:
            parent = self.path(TEMPORARY)
            os.makedirs(parent, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            yield folder

    def move_here(self, path: str, name: str) -> None:
        """Make a file of `scratch` a file of this location, whole or not at all.

        Raises:
            OcrError: it cannot be written.
        """
        with self._arriving(name) as target:
            if self.local:
                os.replace(path, target)
            else:
                self.fs.put_file(path, target)

    @contextmanager
    def _arriving(self, name: str) -> Iterator[str]:
        """The path to write a file to, which takes its place at the end of the context."""
        path = self.path(name)
        with translated(self.url_of(name)):
            if not self.local and OBJECT_STORES.intersection(_protocols(self.fs)):
                yield path
                return
            temporary = self.path(f"{TEMPORARY}/{secrets.token_hex(8)}")
            for folder in (temporary, path):
                self.fs.makedirs(folder.rpartition("/")[0], exist_ok=True)
            yield temporary
            if self.local:
                with open(temporary, "rb") as file:
                    os.fsync(file.fileno())  # a rename may reach the disk before the bytes do
                os.replace(temporary, path)
            else:
                _rename(self.fs, temporary, path)

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
        with translated(self.url):
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


def may_be_document(name: str) -> bool:
    """Whether a name may be that of a document. A name without a suffix may be: its planner looks into it."""
    last = name.lower().rpartition("/")[2]
    return last.endswith(READABLE) or "." not in last


def safe_name(name: str) -> str:
    """A name of another file system or of an archive as one that ours can have: nothing leads out of the folder."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return "/".join("_" if part == ".." else part for part in parts)


def _opened_url(url: str, **options: Any) -> tuple[Any, str]:
    """The file system of a URL, and the path in it. `::` stands between file systems (`zip://a::s3://b`), and may stand
    in a key, which fsspec takes for the same.
    """
    import fsspec

    if "::" not in url or _CHAIN.match(url) or not _URL.match(url):
        found: tuple[Any, str] = fsspec.core.url_to_fs(url, **options)
        return found
    kind = fsspec.get_filesystem_class(url.partition("://")[0])
    return kind(**{**kind._get_kwargs_from_urls(url), **options}), kind._strip_protocol(url)


def _rename(fs: Any, old: str, new: str) -> None:
    """Rename a file. What fsspec has where a file system cannot takes names for patterns: it is copied then."""
    import fsspec

    if type(fs).mv is not fsspec.AbstractFileSystem.mv:
        fs.mv(old, new)
        return
    fs.cp_file(old, new)
    fs.rm_file(old)


def lists_in_pages(fs: Any) -> bool:
    """Whether a file system lists page by page, as s3fs does, so that a bucket of any size needs no memory."""
    return hasattr(fs, "_iterdir")


def _contents(fs: Any, path: str) -> bytes:
    """A whole file, by one request where that is possible: s3fs asks for the size first where it may read in parts."""
    one = {"max_concurrency": 1} if lists_in_pages(fs) and _takes(fs._cat_file, "max_concurrency") else {}
    data: bytes = fs.cat_file(path, **one)
    return data


def _takes(function: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(function).parameters


def _entries(fs: Any, path: str, deep: bool, failed: Callable[[OSError], None] | None) -> Iterator[dict[str, Any]]:
    if lists_in_pages(fs):
        bucket, key, _ = fs.split_path(path)
        found = fs._iterdir(bucket, delimiter="" if deep else "/", prefix=f"{key}/" if key else "")
        yield from _paged(fs, found)
    elif deep:
        for _, _, files in fs.walk(path, detail=True, on_error=failed or "omit"):
            yield from (files[name] for name in sorted(files))
    else:
        yield from sorted(fs.ls(path, detail=True), key=lambda entry: entry["name"])


def _paged(fs: Any, entries: Any) -> Iterator[dict[str, Any]]:
    """What an asynchronous generator of a file system yields, taken page by page."""
    from fsspec.asyn import sync

    while page := sync(fs.loop, _next_page, entries):
        yield from page


async def _next_page(entries: Any) -> list[dict[str, Any]]:
    page: list[dict[str, Any]] = []
    async for entry in entries:
        page.append(entry)
        if len(page) >= PAGE:
            break
    return page


def pieces(source: SourceDocument, take: Callable[[bytes], None], stop: threading.Event) -> None:
    """Give the bytes of a document of another file system to `take`, a piece at a time.

    Args:
        source: the document.
        take: gets each piece. An error that it raises ends the reading.
        stop: ends the reading when it is set.

    Raises:
        OcrError: it cannot be read, or what `take` raised.
    """
    with translated(source.url):
        fs, path = _opened_url(source.url)
        if source.size is not None and source.size <= WHOLE_BYTES:
            data = memoryview(_contents(fs, path))  # to open a file takes one request more, for its size
            for at in range(0, len(data), CHUNK):
                take(bytes(data[at : at + CHUNK]))
            return
        with fs.open(path, "rb") as file:
            while (piece := file.read(CHUNK)) and not stop.is_set():
                take(piece)


def _protocols(fs: Any) -> tuple[str, ...]:
    named = fs.protocol
    return (named,) if isinstance(named, str) else tuple(named)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Whatever a file system says against it, in our words. Its own may hold keys: only its class is told."""
    try:
        yield
    except OcrError:
        raise
    except FileNotFoundError:
        raise InputNotFound(f"There is no {what}.", remedy="Correct the path or the URL.") from None
    except PermissionError:
        raise InputForbidden(f"Access to {what} is not permitted.", remedy="Give this user permission.") from None
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
            f"{what} failed ({type(exc).__name__}{number}).",
            remedy="Check the file system, then run the command again.",
        ) from None

"""An `image` argument becomes a private file; nothing is parsed here, and no path leaves the allowed folders.

An agent's way to write a path is forgiven (`paths.py`), and what it can mean is judged like any
path. What it names is copied once, bounded, into the scratch folder, so that whoever owns the original
cannot change it between a check and its use. A path is judged by where it really leads; a
forbidden one gives the same answer whether it exists or not.
"""

from __future__ import annotations

import binascii
import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final
from urllib.parse import unquote_to_bytes

import anyio

from ..config import MB, Settings
from ..errors import (
    BadRequest,
    InputForbidden,
    InputNotFound,
    InputTooLarge,
    OcrError,
    OutputExists,
    UnreadableInput,
)
from .paths import (
    in_conversation,
    in_sandbox,
    is_drive_path,
    lookalikes,
    on_this_system,
    path_of_uri,
    places,
    printable,
    spellings,
    unwrapped,
)

__all__ = [
    "Incoming",
    "Snapshot",
    "allowed_path",
    "below_bases",
    "checked_path",
    "discard",
    "make_folder",
    "open_source",
    "resolve_output",
    "resolve_output_folder",
    "write_atomically",
]

OUTPUT_SUFFIXES: Final = (".md", ".markdown", ".txt", ".json")
CHUNK: Final = MB
TEXT_CHUNK: Final = 4 * MB  # characters of base64 or percent-encoding
BASE64_MIN: Final = 64  # characters; a shorter text with no image's first bytes is a file name: "scan", "in/p1"
MAX_PATH: Final = 4096  # characters; no system opens a longer path

ASK: Final = (
    "Ask the user for the file's absolute path on their computer and give that (a picture that was pasted has none "
    "until it is saved), or give the base64 of the file."
)
ACCEPTED: Final = 'Give an absolute path ("/home/me/scan.pdf"), a file:// or data: URI, or the base64 of the file.'

_BINARY: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_READ: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | _BINARY
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | _BINARY

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_HEADLESS: Final = re.compile(
    r"(?:(?:image|application)/[\w.+-]{1,60}(?:;[\w=.-]{1,60}){0,4})?;?base64,", re.IGNORECASE
)
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_SPACE: Final = b" \t\r\n\v\f"

# The one image format whose base64 begins like an absolute path, as a file and as a bare codestream.
_SLASHED_BASE64: Final = ("/9j/", "/0//")

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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A private copy of an input, readable by this user only."""

    path: str
    name: str
    """For people: the file's own name, or `image` where there is none."""
    sha256: str
    size: int


def discard(snapshot: Snapshot) -> None:
    """Delete the copy; one that is gone already is fine."""
    with contextlib.suppress(OSError):
        os.unlink(snapshot.path)


def allowed_path(path: str, dirs: Sequence[str]) -> bool:
    """Whether `path` lies in one of `dirs` or below. Both are real paths: no link is followed here."""
    path = os.path.normcase(path)
    for folder in dirs:
        folder = os.path.normcase(folder)
        if path == folder or path.startswith(folder.rstrip(os.sep) + os.sep):
            return True
    return False


async def open_source(image: str, *, settings: Settings, scratch: str, local: bool) -> Snapshot:
    """The private copy of what `image` names. The caller discards it.

    Args:
        image: absolute path, `file://` or `data:` URI, base64, or `https://` where that is enabled. Where no
            such file exists, what it can mean is tried: a path quoted in some way, one whose name differs in
            capitals only, a relative one below the caller's working folder or the allowed folders.
        scratch: an existing folder that belongs to this server.
        local: whether the caller sits on this machine, so that its paths are ours.

    Raises:
        BadRequest: no kind of input that is known: a relative path that leads nowhere, an unknown scheme.
        InputNotFound: no such file.
        InputForbidden: a path or an address that the settings keep out.
        InputTooLarge: over `OCR_MAX_FILE_MB`.
        UnreadableInput: empty, damaged base64, a folder, a pipe, a device, no permission.
        Timeout: a download that outran `OCR_FETCH_TIMEOUT`.
    """
    image = unwrapped(image)
    if not image:
        raise BadRequest("`image` is empty.", remedy=ACCEPTED)
    if head := _HEADLESS.match(image):
        image = f"data:;base64,{image[head.end() :]}"
    scheme = _SCHEME.match(image)
    if scheme is not None:
        kind = scheme[1].lower()
        if kind == "data":
            return await _snapshot(scratch, lambda copy: copy.data_uri(image), settings)
        if kind in ("http", "https"):
            return await _download(image, settings, scratch)
        if in_conversation(kind):
            raise BadRequest(
                f"{printable(image, 80)!r} is a file of the conversation, and no tool can reach those.", remedy=ASK
            )
        if kind != "file" and image.startswith(f"{scheme[1]}://"):
            raise BadRequest(f"{printable(kind, 40)}:// addresses are not read.", remedy=ACCEPTED)
    if image.startswith(_SLASHED_BASE64):
        return await _snapshot(scratch, lambda copy: copy.path_or_base64(image, local), settings)
    if places(image, local):
        return await _snapshot(scratch, lambda copy: copy.file(image, local), settings)
    return await _snapshot(scratch, lambda copy: copy.base64(image, local), settings)


async def resolve_output(save_to: str, *, settings: Settings, local: bool, overwrite: bool) -> str:
    """The real path of a file to write; nothing is written yet.

    Raises:
        BadRequest: no absolute path, or no text file's suffix, or a folder.
        InputForbidden: outside the allowed folders, or over HTTP while there are none.
        InputNotFound: the folder does not exist.
        OutputExists: the file does, and `overwrite` is false.
    """
    return await anyio.to_thread.run_sync(
        _resolve_output, save_to, settings.ocr_allowed_dirs, local, overwrite, abandon_on_cancel=True
    )


async def resolve_output_folder(save_to: str, *, settings: Settings, local: bool) -> tuple[str, str]:
    """The real path of a folder to write many files into, and their suffix; the folder is made.

    `save_to` is a folder, or a pattern that says what kind of files: `/out/*.json`. Markdown otherwise.

    Raises:
        BadRequest: no absolute path, one file, or a suffix that is not written.
        InputForbidden: outside the allowed folders, or over HTTP while there are none.
        InputNotFound: the folder that it is to be made in does not exist.
    """
    return await anyio.to_thread.run_sync(
        _resolve_output_folder, save_to, settings.ocr_allowed_dirs, local, abandon_on_cancel=True
    )


async def make_folder(path: str, *, settings: Settings) -> None:
    """Make a folder, and those above it, in an output folder.

    Raises:
        InputForbidden: a link on the way leads out of the allowed folders, or no permission.
    """
    await anyio.to_thread.run_sync(_make_folder, path, settings.ocr_allowed_dirs, abandon_on_cancel=True)


async def write_atomically(path: str, data: bytes, overwrite: bool) -> None:
    """Write a file that is there whole or not at all; two writers without `overwrite` cannot both win.

    Raises:
        OutputExists: the file exists, and `overwrite` is false.
        InputForbidden: no permission to write there.
        OcrError: the disk is full or failed.
    """
    await anyio.to_thread.run_sync(_write_atomically, path, data, overwrite)


async def _download(url: str, settings: Settings, scratch: str) -> Snapshot:
    if not settings.ocr_allow_urls:
        raise InputForbidden(
            "Addresses are not fetched by this server.",
            remedy="Download the file and give its path or its base64, or set OCR_ALLOW_URLS=true.",
        )
    from .fetch import fetch  # httpx2 takes a tenth of a second to import, and most servers fetch nothing

    path = os.path.join(scratch, f"input-{secrets.token_hex(8)}")
    try:
        os.close(os.open(path, _CREATE, 0o600))
        name = await fetch(url, path, settings=settings)
        size, digest = await anyio.to_thread.run_sync(_measure, path)
        shown = printable(name or "image", 100)
        if size == 0:
            raise _empty(shown)
        return Snapshot(path, shown, digest, size)
    except BaseException as exc:
        with contextlib.suppress(OSError):
            os.unlink(path)
        if isinstance(exc, OSError):
            raise _disk_error(exc, "the scratch folder") from None
        raise


def _measure(path: str) -> tuple[int, str]:
    with open(path, "rb") as file:
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


async def _snapshot(scratch: str, fill: Callable[[_Copy], None], settings: Settings) -> Snapshot:
    copy = _Copy(os.path.join(scratch, f"input-{secrets.token_hex(8)}"), settings)
    try:
        return await anyio.to_thread.run_sync(copy.run, fill, abandon_on_cancel=True)
    except BaseException:
        # The thread may still be at work: it sees `abandoned` and deletes what it made after us.
        copy.abandoned.set()
        with contextlib.suppress(OSError):
            os.unlink(copy.path)
        raise


class Incoming:
    """A file that arrives piece by piece: a private copy in the making, bounded by `OCR_MAX_FILE_MB`.

    What it is called is for messages only: the copy has a name of its own. Its folder is its maker's to delete.
    """

    def __init__(self, settings: Settings, scratch: str) -> None:
        self._path = os.path.join(scratch, f"input-{secrets.token_hex(8)}")
        self._limit = settings.max_file_bytes
        self._digest = hashlib.sha256()
        self._pending = bytearray()
        self._size = 0
        self.name = "image"

    def call(self, name: str) -> None:
        """Name it in messages. Some clients send whole paths: what counts is after the last slash."""
        self.name = printable(name.replace("\\", "/").rpartition("/")[2], 100).strip() or "image"

    async def write(self, chunk: bytes) -> None:
        """Take the next piece.

        Raises:
            InputTooLarge: it is one too many.
        """
        self._pending += chunk
        if self._size + len(self._pending) > self._limit:
            raise _too_large(self.name, self._size + len(self._pending), self._limit)
        if len(self._pending) >= CHUNK:
            await self._flush()

    async def snapshot(self) -> Snapshot:
        """The file, when all of it is here.

        Raises:
            UnreadableInput: it is empty.
        """
        if not self._size and not self._pending:
            raise _empty(self.name)
        await self._flush()
        return Snapshot(self._path, self.name, self._digest.hexdigest(), self._size)

    async def _flush(self) -> None:
        chunk, self._pending = bytes(self._pending), bytearray()
        await anyio.to_thread.run_sync(self._append, chunk)

    def _append(self, chunk: bytes) -> None:
        try:
            flags = _CREATE if self._size == 0 else os.O_WRONLY | os.O_APPEND | _BINARY
            with os.fdopen(os.open(self._path, flags, 0o600), "wb") as out:
                out.write(chunk)
        except OSError as exc:
            raise _disk_error(exc, "the scratch folder") from None
        self._size += len(chunk)
        self._digest.update(chunk)


class _Copy:
    """One copy in the making, on a thread that its caller may leave alone at any moment."""

    def __init__(self, path: str, settings: Settings) -> None:
        self.path = path
        self.abandoned = threading.Event()
        self._dirs = settings.ocr_allowed_dirs
        self._limit = settings.max_file_bytes
        self._digest = hashlib.sha256()
        self._size = 0
        self._name = "image"
        self._out: BinaryIO

    def run(self, fill: Callable[[_Copy], None]) -> Snapshot:
        try:
            try:
                self._out = os.fdopen(os.open(self.path, _CREATE, 0o600), "wb", buffering=0)
                with self._out:
                    fill(self)
            except OSError as exc:
                raise _disk_error(exc, "the scratch folder") from None
            if self._size == 0:
                raise _empty(self._name)
            return Snapshot(self.path, self._name, self._digest.hexdigest(), self._size)
        finally:
            if self.abandoned.is_set():
                with contextlib.suppress(OSError):
                    os.unlink(self.path)

    def _add(self, chunk: bytes) -> None:
        if self.abandoned.is_set():
            raise InterruptedError
        self._size += len(chunk)
        if self._size > self._limit:
            raise _too_large(self._name, self._size, self._limit)
        self._digest.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[self._out.write(view) :]

    def path_or_base64(self, image: str, local: bool) -> None:
        """Text that begins like the base64 of a JPEG, and like an absolute path."""
        if local and len(image) <= MAX_PATH and os.path.lexists(image):
            self.file(image, local)
        else:
            self.base64(image, local)

    def file(self, image: str, local: bool) -> None:
        descriptor, self._name = _open_meant(image, self._dirs, local)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            if size > self._limit:
                raise _too_large(self._name, size, self._limit)
            while chunk := _read(file, self._name):
                self._add(chunk)

    def base64(self, text: str, local: bool) -> None:
        """Raw base64, or the relative path that looks most like it."""
        if "\\" in text and _opens_like_image(text):  # line breaks that were quoted twice
            text = re.sub(r"\\[nrt]|\\", "", text)
        if not _opens_like_image(text) and (len(text) < BASE64_MIN or not _is_base64_alphabet(text[:MAX_PATH])):
            self._relative(text, local)
        else:
            self._add_base64(text)

    def _relative(self, text: str, local: bool) -> None:
        if len(text) > MAX_PATH or not re.search(r"[.\\/]|^\S{1,40}$", text):
            raise BadRequest("`image` is neither an absolute path nor base64.", remedy=ACCEPTED)
        self.file(_below_a_base(text, self._dirs, local), local)

    def data_uri(self, uri: str) -> None:
        head, comma, data = uri[len("data:") :].partition(",")
        if not comma:
            raise BadRequest(
                "The data: URI has no comma before its data.", remedy="Write data:image/png;base64,iVBORw0…"
            )
        if head.rpartition(";")[2].strip().lower() == "base64":
            if "%" in data:  # "+", "/" and "=" quoted, as a URI should have them
                data = b"".join(_unquoted(data)).decode("latin-1")
            self._add_base64(data)
        else:
            for chunk in _unquoted(data):
                self._add(chunk)

    def _add_base64(self, text: str) -> None:
        for chunk in _decode_base64(text):
            self._add(chunk)


def _unquoted(text: str) -> Iterator[bytes]:
    """Percent-encoded text as bytes, in pieces: decoded at once, it takes thirty times its size."""
    start = 0
    while start < len(text):
        end = start + TEXT_CHUNK
        while end < len(text) and "%" in text[end - 2 : end]:  # not within %41
            end += 1
        yield unquote_to_bytes(text[start:end])
        start = end


def _decode_base64(text: str) -> Iterator[bytes]:
    """The bytes, in pieces. Both alphabets, with or without padding and white space.

    Raises:
        UnreadableInput: it is damaged.
    """
    rest = b""
    end = len(text.rstrip("= \t\r\n\v\f"))
    try:
        for start in range(0, end, TEXT_CHUNK):
            part = text[start : min(start + TEXT_CHUNK, end)].encode("ascii")
            part = rest + part.translate(_URL_SAFE, _SPACE)
            if b"=" in part:  # two files one after the other; a cut there would hide it from strict_mode
                raise ValueError
            whole = len(part) // 4 * 4
            yield binascii.a2b_base64(part[:whole], strict_mode=True)
            rest = part[whole:]
        yield binascii.a2b_base64(rest + b"=" * (-len(rest) % 4), strict_mode=True)
    except ValueError:  # binascii.Error and UnicodeEncodeError are such
        raise UnreadableInput(
            "The base64 of `image` is damaged: it has foreign characters, or its end is missing.",
            remedy="Encode the whole file once, with `base64 -w0 FILE`, or give its absolute path.",
        ) from None


def _opens_like_image(text: str) -> bool:
    compact = text[:256].encode("ascii", "replace").translate(_URL_SAFE, _SPACE)[:16].rstrip(b"=")
    try:
        start = binascii.a2b_base64(compact[: len(compact) // 4 * 4], strict_mode=True)
    except ValueError:
        return False
    return start.startswith(_FIRST_BYTES) or start[4:8] == b"ftyp" or start[4:8] == b"jP  "


def _is_base64_alphabet(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9+/_\-=\s]*", text) is not None


def _open_meant(image: str, dirs: Sequence[str], local: bool) -> tuple[int, str]:
    """Open the file that an absolute path or a `file:` URI means.

    Each path that it can mean is judged; told is what became of the likeliest one.

    Raises:
        BadRequest, InputForbidden, InputNotFound, UnreadableInput: see `open_source`.
    """
    path, *others = places(image, local) or [image]
    try:
        return _open_file(path, dirs, local)
    except (InputForbidden, InputNotFound) as exc:
        if image[:5].lower() == "file:" and (host := path_of_uri(image)[0]):
            raise BadRequest(
                f"The URI names the machine {printable(host, 60)!r}; only this one's files are read.",
                remedy="Write file:///home/me/scan.pdf, with three slashes, or give the path itself.",
            ) from None
        if isinstance(exc, InputForbidden):
            raise _sandboxed(exc, path, dirs, local) from None
        missing = exc
    folder, name = os.path.split(path)
    near: list[str] = []
    # The folder is asked for its names only where the caller may read it.
    if not dirs or allowed_path(os.path.realpath(folder), dirs):
        alike, near = lookalikes(folder, name)
        others += [os.path.join(folder, alike)] if alike else []
    for other in others:
        with contextlib.suppress(BadRequest, InputForbidden, InputNotFound):
            return _open_file(other, dirs, local)
    if near:
        missing.remedy = _did_you_mean([os.path.join(folder, each) for each in near])
    elif not os.path.isdir(folder):
        missing.remedy = f"There is no folder {printable(folder)} either. Ask the user for the path."
    raise _sandboxed(missing, path, dirs, local)


def _did_you_mean(paths: Sequence[str]) -> str:
    return f"Did you mean {' or '.join(printable(path) for path in paths)}?"


def _sandboxed(exc: OcrError, path: str, dirs: Sequence[str], local: bool) -> OcrError:
    """The refusal of a path, in better words where it is one on the assistant's own machine."""
    if not in_sandbox(path):
        return exc
    return type(exc)(
        f"{printable(path)} is in the assistant's own sandbox: another machine, whose files no tool here can reach.",
        remedy=ASK if local or dirs else "Send the file itself, as base64.",
    )


def _below_a_base(text: str, dirs: Sequence[str], local: bool) -> str:
    """The absolute path of the one file that a relative path can mean.

    Raises:
        BadRequest: there is none, or there are several.
    """
    found = [path for path in below_bases(text, dirs, local) if os.path.lexists(path)]
    near: list[str] = []
    for path in [] if found else below_bases(text, dirs, local):
        folder, name = os.path.split(path)
        if not dirs or allowed_path(os.path.realpath(folder), dirs):
            alike, close = lookalikes(folder, name)
            found += [os.path.join(folder, alike)] if alike else []
            near += [os.path.join(folder, each) for each in close if os.path.join(folder, each) not in near]
    if len({os.path.realpath(path) for path in found}) == 1:
        return found[0]
    shown = printable(text, 80)
    if found:
        raise BadRequest(
            f"`image` is {shown!r}: a relative path, and there are {len(found)} such files.",
            remedy=f"Give the absolute path: {' or '.join(map(printable, found))}.",
        )
    bases = [*_working_folder(local), *dirs]
    where = (
        f"there is no such file in {' or '.join(map(printable, bases))}" if bases else "the server has no such folder"
    )
    example = re.sub(r"^(\.{1,2}[\\/])+", "", shown.replace("\\", "/")).lstrip("~/") or "scan.pdf"
    raise BadRequest(
        f"`image` is {shown!r}: a relative path, and {where}.",
        remedy=(f"{_did_you_mean(near)} " if near else "")
        + f'Give an absolute path, for instance "/home/me/{example}", or the base64 of the file.',
    )


def below_bases(text: str, dirs: Sequence[str], local: bool) -> list[str]:
    """The absolute paths that a relative one can mean, whether they exist or not: all in allowed folders.

    Below the caller's working folder, where the caller sits on this machine, and the allowed folders.
    """
    bases = list(dict.fromkeys([*_working_folder(local), *dirs]))
    paths = [os.path.join(base, each) for each in spellings(text) if _is_path(each) for base in bases]
    return [path for path in paths if not dirs or allowed_path(os.path.realpath(path), dirs)]


def _working_folder(local: bool) -> list[str]:
    """The folder that a client on this machine started the server in: its project, most often."""
    if local:
        with contextlib.suppress(OSError):
            return [os.getcwd()]
    return []


def _is_path(text: str) -> bool:
    """Whether the system can be asked for it at all."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def checked_path(path: str, dirs: Sequence[str], local: bool) -> str:
    """An absolute path on this machine, `~` expanded, before anything is touched.

    Raises:
        BadRequest: it is none.
        InputForbidden: this caller may use no paths.
    """
    if not _is_path(path):
        raise BadRequest("The path has a character that no path can have.", remedy="Give the path without it.")
    if not local and not dirs:
        raise InputForbidden(
            "Paths on the server are not used over HTTP.",
            remedy="Send the file itself, as base64 or an upload; or the operator sets OCR_ALLOWED_DIRS.",
        )
    if local:
        path = os.path.expanduser(path)
    if is_drive_path(path) and os.name != "nt":
        here = on_this_system(path)
        if here is None:
            raise BadRequest(
                f"{printable(path, 80)!r} is a Windows path, and this machine has no such drive.",
                remedy='Give the path as this machine has it (in WSL "/mnt/c/…"), or the base64 of the file.',
            )
        path = here
    if path.startswith("\\\\") and not local:
        # Only looking at it would send the machine's credentials to the host that it names.
        raise InputForbidden("Network paths are not used over HTTP.", remedy="Send the file itself.")
    if not os.path.isabs(path):
        raise BadRequest(f"{printable(path, 80)!r} is no absolute path.", remedy=ACCEPTED)
    return path


def _forbidden(what: str, dirs: Iterable[str]) -> InputForbidden:
    return InputForbidden(
        f"{what} is outside the allowed folders: {', '.join(dirs)}.",
        remedy="Use a file there, or send the file itself as base64; the operator can set OCR_ALLOWED_DIRS.",
    )


def _open_file(path: str, dirs: Sequence[str], local: bool) -> tuple[int, str]:
    path = checked_path(path, dirs, local)
    name = printable(os.path.basename(path.rstrip(os.sep)) or path, 100)
    # Asked before the file is opened: even to open a pipe or a tape is to do something to it.
    if dirs and not allowed_path(os.path.realpath(path), dirs):
        raise _forbidden(name, dirs)
    try:
        descriptor = os.open(path, _READ)
    except OSError as exc:
        raise _open_error(exc, path, name) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise _not_a_file(name, mode)
        # Asked again of the file that was opened: a link may have been turned in between.
        if dirs and not allowed_path(_path_of_open_file(descriptor, path), dirs):
            raise _forbidden(name, dirs)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, name


def _path_of_open_file(descriptor: int, path: str) -> str:
    """Where an open file lies; empty if that cannot be told."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{descriptor}")
    real = os.path.realpath(path)
    with contextlib.suppress(OSError):
        if os.path.samestat(os.stat(real, follow_symlinks=False), os.fstat(descriptor)):
            return real
    return ""


def _open_error(exc: OSError, path: str, name: str) -> OcrError:
    if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL):
        return InputNotFound(f"There is no file {printable(path)}.", remedy="Check the path, or ask the user for it.")
    if os.path.isdir(path):  # Windows does not open folders
        return _not_a_file(name, stat.S_IFDIR)
    if exc.errno in (errno.EACCES, errno.EPERM):
        return UnreadableInput(
            f"No permission to read {printable(path)}.",
            remedy="Make it readable for the user that the server runs as, or send the file as base64.",
        )
    if exc.errno in (errno.ENXIO, errno.ENODEV):  # a socket, a device that is not there
        return _not_a_file(name, 0)
    return UnreadableInput(
        f"{printable(path)} cannot be opened: {exc.strerror}.", remedy="Copy it elsewhere and give that path."
    )


def _not_a_file(name: str, mode: int) -> UnreadableInput:
    if stat.S_ISDIR(mode):
        return UnreadableInput(f"{name} is a folder.", remedy="Name one file in it; read several in several calls.")
    kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
    return UnreadableInput(f"{name} is {kind}, not a file.", remedy="Save what it gives to a file first.")


def _read(file: Any, name: str) -> bytes:
    try:
        chunk: bytes | None = file.read(CHUNK)
    except OSError as exc:
        raise UnreadableInput(
            f"{name} cannot be read: {exc.strerror}.", remedy="Copy it elsewhere and give that path."
        ) from None
    return chunk or b""


def _too_large(name: str, size: int, limit: int) -> InputTooLarge:
    return InputTooLarge(
        f"{name} has {size / MB:.1f} MiB or more; the limit is {limit // MB} MiB.",
        remedy="Send a smaller scan or fewer pages, or raise OCR_MAX_FILE_MB.",
    )


def _empty(name: str) -> UnreadableInput:
    return UnreadableInput(f"{name} is empty.", remedy="Check that it was saved or downloaded completely.")


def _disk_error(exc: OSError, where: str) -> OcrError:
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputForbidden(
            f"No permission to write to {where}.", remedy="Choose another folder, or change its permissions."
        )
    return OcrError(f"Writing to {where} failed: {exc.strerror or exc}.", remedy="Free space there, or use another.")


def _output_path(save_to: str, dirs: Sequence[str], local: bool) -> str:
    """The absolute path that `save_to` names. Nothing is guessed: a file is to be written there."""
    save_to = unwrapped(save_to)
    if save_to[:5].lower() == "file:":
        host, path = path_of_uri(save_to)
        save_to = f"//{host}{path}" if host else path
    if not save_to.startswith(("/", "~")) and not is_drive_path(save_to):
        raise BadRequest(
            f"`save_to` is {printable(save_to, 80)!r}: no absolute path.",
            remedy=f'Give an absolute one, for instance "{dirs[0] if dirs else "/home/me"}/scan.md".',
        )
    return checked_path(save_to, dirs, local)


def _resolve_output(save_to: str, dirs: Sequence[str], local: bool, overwrite: bool) -> str:
    path = _output_path(save_to, dirs, local)
    shown = printable(path)
    folder, name = os.path.split(path)
    if os.path.isdir(path):
        raise BadRequest(
            f"`save_to` is {shown!r}, a folder.",
            remedy=f'Name a file in it, for instance "{shown.rstrip("/")}/scan.md".',
        )
    if "*" in name or os.path.splitext(name)[1].lower() not in OUTPUT_SUFFIXES:
        raise BadRequest(
            f"`save_to` is {shown!r}; it must end in {', '.join(OUTPUT_SUFFIXES)}.",
            remedy='Name a text file, for instance "/home/me/scan.md".',
        )
    folder = os.path.realpath(folder)
    if dirs and not allowed_path(folder, dirs):
        raise _forbidden(f"The folder of {printable(name, 100)}", dirs)
    if not os.path.isdir(folder):
        raise InputNotFound(f"There is no folder {printable(folder)}.", remedy="Create it, or choose another.")
    path = os.path.join(folder, name)
    if not overwrite and os.path.lexists(path):
        raise _exists(path)
    return path


def _resolve_output_folder(save_to: str, dirs: Sequence[str], local: bool) -> tuple[str, str]:
    path = _output_path(save_to, dirs, local)
    folder, name = os.path.split(path)
    suffix = os.path.splitext(name)[1].lower()
    if "*" in name:
        if suffix not in OUTPUT_SUFFIXES:
            raise BadRequest(
                f"`save_to` is {printable(path)!r}; files that end like this are not written.",
                remedy=f"Name a folder, or one of {', '.join(f'{folder}/*{each}' for each in OUTPUT_SUFFIXES)}.",
            )
    elif suffix and not os.path.isdir(path) and not save_to.rstrip().endswith(("/", os.sep)):
        raise BadRequest(
            f"`save_to` is {printable(path)!r}, one file, and `image` names a folder.",
            remedy=f'Name a folder, for instance save_to="{folder}" (or "{folder}/*.json"), or one file as `image`.',
        )
    else:
        folder, suffix = path.rstrip(os.sep) or os.sep, OUTPUT_SUFFIXES[0]
    folder = os.path.realpath(folder)
    if dirs and not allowed_path(folder, dirs):
        raise _forbidden(f"The folder {printable(os.path.basename(folder), 100)}", dirs)
    if not os.path.isdir(os.path.dirname(folder)):
        raise InputNotFound(
            f"There is no folder {printable(os.path.dirname(folder))}.", remedy="Create it, or choose another."
        )
    _make_folder(folder, dirs)
    return folder, suffix


def _make_folder(path: str, dirs: Sequence[str]) -> None:
    if dirs and not allowed_path(os.path.realpath(path), dirs):
        raise _forbidden(f"The folder {printable(os.path.basename(path), 100)}", dirs)
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        raise BadRequest(f"{printable(path)} is a file, not a folder.", remedy="Choose another folder.") from None
    except OSError as exc:
        raise _disk_error(exc, printable(os.path.dirname(path))) from None


def _exists(path: str) -> OutputExists:
    return OutputExists(
        f"{printable(path)} exists already.",
        remedy="Choose another name, or set overwrite=true to replace it.",
    )


def _write_atomically(path: str, data: bytes, overwrite: bool) -> None:
    folder = os.path.dirname(path)
    # Not made of the file's name: that may be as long as a name can be.
    temporary = os.path.join(folder, f".ocr-{secrets.token_hex(8)}.part")
    try:
        try:
            with os.fdopen(os.open(temporary, _CREATE, 0o666), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if overwrite:
                with contextlib.suppress(OSError):
                    shutil.copymode(path, temporary)
                os.replace(temporary, path)
            else:
                _link(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as exc:
        raise _disk_error(exc, printable(folder)) from None


def _link(temporary: str, path: str) -> None:
    """Give the file its name unless that is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # FAT, SMB and Android know no links: take the name first, then fill it
        os.close(os.open(path, _CREATE, 0o666))
        os.replace(temporary, path)

"""An `image` argument becomes a private file; nothing is parsed here, and no path leaves the allowed folders.

Other spellings of a path are tried (`argument.py`), and each path is checked in the same way: by the place to which it
really leads. A forbidden path gets the same answer whether it exists or not. The file is copied once, up to a bound,
into the scratch folder, so that its owner cannot change it between a check and its use.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import anyio

from ..config import MB, Settings
from ..errors import BadRequest, InputForbidden, InputTooLarge, UnreadableInput
from .argument import Argument
from .base64 import decode_base64, is_base64_alphabet, opens_like_image, unquoted
from .output import disk_error
from .paths import MAX_PATH, printable
from .reach import ACCEPTED, BINARY, CREATE, below_a_base, open_named

__all__ = ["Incoming", "Snapshot", "discard", "open_source"]

CHUNK: Final = MB
BASE64_MIN: Final = 64  # characters; a shorter text that does not begin like a picture is a file name: "scan", "in/p1"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A private copy of an input, readable by this user only."""

    path: str
    name: str
    """The name of the file, for messages; `image` for a document without a name."""
    sha256: str
    size: int
    password: str = field(default="", repr=False)
    """The password of a locked PDF; it is in memory only."""

    @property
    def file(self) -> dict[str, str]:
        """The file as a decoder is asked for it."""
        return {"path": self.path, "name": self.name} | ({"password": self.password} if self.password else {})


def discard(snapshot: Snapshot) -> None:
    """Delete the copy, if it is still there."""
    with contextlib.suppress(OSError):
        os.unlink(snapshot.path)


async def open_source(argument: Argument, settings: Settings, scratch: str) -> Snapshot:
    """The private copy of the file that an `image` argument means. The caller discards it.

    If a path leads to no file, the file is looked for under other spellings of the path (quoted, other capitals). A
    relative path is looked for below the caller's working folder and the allowed folders.

    Args:
        argument: the argument.
        settings: the bounds, and whether addresses are fetched.
        scratch: an existing folder that belongs to this server.

    Raises:
        BadRequest: the argument names no document: a relative path that leads nowhere, an unknown scheme.
        InputNotFound: there is no such file.
        InputForbidden: the settings keep the path or the address out.
        InputTooLarge: the file is over `OCR_MAX_FILE_MB`.
        UnreadableInput: the file is empty, a folder, a pipe or a device, the base64 is damaged, or permission is
            missing.
        Timeout: the download took longer than `OCR_FETCH_TIMEOUT`.
    """
    if argument.refusal is not None:
        raise argument.refusal
    if argument.kind == "address":
        return await _download(argument.text, settings, scratch)
    copy = _Copy(os.path.join(scratch, f"input-{secrets.token_hex(8)}"), settings.max_file_bytes)
    try:
        return await anyio.to_thread.run_sync(copy.run, argument, abandon_on_cancel=True)
    except BaseException:
        # The thread may still be at work: it sees `abandoned` and deletes the copy that it makes after us.
        copy.abandoned.set()
        with contextlib.suppress(OSError):
            os.unlink(copy.path)
        raise


async def _download(url: str, settings: Settings, scratch: str) -> Snapshot:
    if not settings.ocr_allow_urls:
        raise InputForbidden(
            "Addresses are not fetched by this server.",
            remedy="Download the file and give its path or its base64, or set OCR_ALLOW_URLS=true.",
        )
    from .fetch import fetch  # its import takes 0.1 s, and most servers fetch nothing

    path = os.path.join(scratch, f"input-{secrets.token_hex(8)}")
    try:
        os.close(os.open(path, CREATE, 0o600))
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
            raise disk_error(exc, "the scratch folder") from None
        raise


def _measure(path: str) -> tuple[int, str]:
    with open(path, "rb") as file:
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


class Incoming:
    """A file that arrives piece by piece: a private copy that grows, up to `OCR_MAX_FILE_MB`.

    The name of the file is for messages only; the copy has another name. Whoever made the folder deletes it.
    """

    def __init__(self, settings: Settings, scratch: str) -> None:
        self._path = os.path.join(scratch, f"input-{secrets.token_hex(8)}")
        self._limit = settings.max_file_bytes
        self._digest = hashlib.sha256()
        self._pending = bytearray()
        self._size = 0
        self.name = "image"

    @property
    def size(self) -> int:
        """The bytes that have come so far."""
        return self._size + len(self._pending)

    def call(self, name: str) -> None:
        """Name the file in messages. Of a whole path, which some clients send, the part after the last slash is
        used."""
        self.name = printable(name.replace("\\", "/").rpartition("/")[2], 100).strip() or "image"

    async def write(self, chunk: bytes) -> None:
        """Take the next piece.

        Raises:
            InputTooLarge: the file exceeds its bound with this piece.
        """
        self._pending += chunk
        if self._size + len(self._pending) > self._limit:
            raise _too_large(self.name, self._size + len(self._pending), self._limit)
        if len(self._pending) >= CHUNK:
            await self._flush()

    async def snapshot(self) -> Snapshot:
        """The file, when all pieces have come.

        Raises:
            UnreadableInput: the file is empty.
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
            flags = CREATE if self._size == 0 else os.O_WRONLY | os.O_APPEND | BINARY
            with os.fdopen(os.open(self._path, flags, 0o600), "wb") as out:
                out.write(chunk)
        except OSError as exc:
            raise disk_error(exc, "the scratch folder") from None
        self._size += len(chunk)
        self._digest.update(chunk)


class _Copy:
    """A private copy that is being made, on a thread. Its caller may abandon it at any moment."""

    def __init__(self, path: str, limit: int) -> None:
        """
        Args:
            path: the path of the copy.
            limit: bytes that the copy may have.
        """
        self.path = path
        self.abandoned = threading.Event()
        self._limit = limit
        self._digest = hashlib.sha256()
        self._size = 0
        self._name = "image"
        self._out: BinaryIO

    def run(self, argument: Argument) -> Snapshot:
        """Make the copy. Called on a thread. Raises as `open_source` does."""
        try:
            try:
                self._out = os.fdopen(os.open(self.path, CREATE, 0o600), "wb", buffering=0)
                with self._out:
                    self._fill(argument)
            except OSError as exc:
                raise disk_error(exc, "the scratch folder") from None
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

    def _fill(self, argument: Argument) -> None:
        text = argument.text
        if argument.kind == "data":
            self._add_data_uri(text)
        elif argument.kind == "path":
            self._add_file(argument.paths, argument)
        else:
            if "\\" in text and opens_like_image(text):  # its line breaks were quoted twice
                text = re.sub(r"\\[nrt]|\\", "", text)
            if opens_like_image(text) or (len(text) >= BASE64_MIN and is_base64_alphabet(text[:MAX_PATH])):
                self._add_base64(text)
            elif len(text) > MAX_PATH or not re.search(r"[.\\/]|^\S{1,40}$", text):
                raise BadRequest("`image` is neither an absolute path nor base64.", remedy=ACCEPTED)
            else:
                self._add_file([below_a_base(text, argument.paths, argument.reach)], argument)

    def _add_file(self, paths: Sequence[str], argument: Argument) -> None:
        descriptor, self._name = open_named(paths, argument.host, argument.reach)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            if size > self._limit:
                raise _too_large(self._name, size, self._limit)
            while chunk := _read(file, self._name):
                self._add(chunk)

    def _add_data_uri(self, uri: str) -> None:
        head, comma, data = uri[len("data:") :].partition(",")
        if not comma:
            raise BadRequest(
                "The data: URI has no comma before its data.", remedy="Write data:image/png;base64,iVBORw0…"
            )
        if head.rpartition(";")[2].strip().lower() == "base64":
            if "%" in data:  # "+", "/" and "=" quoted, as a URI should have them
                data = b"".join(unquoted(data)).decode("latin-1")
            self._add_base64(data)
        else:
            for chunk in unquoted(data):
                self._add(chunk)

    def _add_base64(self, text: str) -> None:
        for chunk in decode_base64(text):
            self._add(chunk)


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

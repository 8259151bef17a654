"""Documents that a client sends once and then refers to: `POST /documents`, and tus 1.0 for uploads that go on.

A document has a name that cannot be guessed. Only the client that sent the document can use it. Documents lie in the
private folder of the server, within bounds of bytes. The server drops a document that nobody has asked for in an hour,
and all of them when it ends. The same bytes lie on the disk once.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import anyio
from starlette.requests import Request

from ...config import MB
from ...errors import BadRequest, InputNotFound, InputTooLarge, QueueFull, UnreadableInput
from ...service.service import Incoming, KeptDocument, OcrService, Snapshot
from .auth import client_of
from .bodies import media_type, read_form

__all__ = ["TUS_EXTENSIONS", "TUS_PIECE", "TUS_VERSION", "StoredDocument", "Uploads", "WrongOffset", "WrongTusVersion"]

NAME_BYTES: Final = 16  # 128 bits
MAX_BYTES: Final = 1024 * MB  # of all documents on disk; one client may have half of it
LEAST_FILES: Final = 4  # of the largest allowed size, that one client may have: where files may be very large
MAX_DOCUMENTS: Final = 2000  # of all clients: a name and its facts take less than 1 kB
KEPT_S: Final = 3600.0  # since a document was last asked for: a person reads a long document meanwhile
SWEEP_S: Final = 60.0
TUS_VERSION: Final = "1.0.0"
TUS_EXTENSIONS: Final = "creation,creation-with-upload,termination"
TUS_PIECE: Final = "application/offset+octet-stream"
NO_LENGTH_REMEDY: Final = "Send a form with the document in the field `file`, or begin an upload with Upload-Length."


class WrongOffset(BadRequest):
    """A piece of an upload does not begin where the last one ended."""

    code = "wrong_offset"
    http_status = 409


class WrongTusVersion(BadRequest):
    """A request is of a version of tus that the server does not know."""

    code = "wrong_tus_version"
    http_status = 412


@dataclass(slots=True, eq=False)
class _Arriving:
    """A document that has not arrived in full."""

    incoming: Incoming
    stack: AsyncExitStack
    """Its folder goes with it."""
    lock: anyio.Lock = field(default_factory=anyio.Lock)


@dataclass(slots=True, eq=False)
class StoredDocument:
    """A document of a client, whole or on its way."""

    name: str
    """The name that its client refers to it by."""
    file_name: str
    client: str
    size: int
    """Bytes, as the client has announced them."""
    used: float
    """The time when it was asked for last."""
    arriving: _Arriving | None = None
    kept: KeptDocument | None = None
    sha256: str = ""
    password: str = field(default="", repr=False)
    """The password of a locked PDF, if its client has given it. It goes with the document."""

    @property
    def received(self) -> int:
        """The bytes that have arrived."""
        return self.size if self.arriving is None else self.arriving.incoming.size


class Uploads:
    """The documents of all clients. Use it inside `async with uploads.running():`.

    Args:
        service: keeps and opens the documents.
        max_bytes: bytes of all documents.
        clock: seconds; virtual in tests.
    """

    def __init__(
        self, service: OcrService, *, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = anyio.current_time
    ) -> None:
        self._service = service
        self.max_file_bytes = service.settings.max_file_bytes
        self._max_bytes = max(max_bytes, 2 * LEAST_FILES * self.max_file_bytes)
        self._clock = clock
        self._documents: OrderedDict[str, StoredDocument] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Uploads {len(self._documents)} documents, {self._bytes()} bytes>"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Drop documents when their time is over, and all of them at the end."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._sweep)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    for document in list(self._documents.values()):
                        await self._drop(document)

    async def _sweep(self) -> None:
        while True:
            await anyio.sleep(SWEEP_S)
            await self.expire()

    async def expire(self) -> None:
        """Drop the documents that nobody has asked for in `KEPT_S` seconds."""
        for document in list(self._documents.values()):
            if document.used + KEPT_S < self._clock():
                await self._drop(document)

    def get(self, name: str, client: str) -> StoredDocument:
        """The document of this client with this name.

        Raises:
            InputNotFound: there is no such document, the server has dropped it, or another client has sent it.
        """
        document = self._documents.get(name)
        if document is None or document.client != client:
            raise InputNotFound(
                "There is no such document, or no more: documents are kept for a while, and the oldest go first.",
                remedy="Send it again with POST /documents.",
            )
        document.used = self._clock()
        self._documents.move_to_end(name)
        return document

    @asynccontextmanager
    async def lent(self, name: str, client: str) -> AsyncIterator[Snapshot]:
        """The file of a document, to be read once.

        Raises:
            InputNotFound: there is no such document.
            BadRequest: it has not arrived in full.
        """
        document = self.get(name, client)
        if document.kept is None:
            raise BadRequest(
                f"{document.received} of {document.size} bytes of this document are here.",
                remedy="Send the rest with PATCH, then ask again.",
            )
        async with self._service.lend(document.kept, document.file_name) as snapshot:
            yield replace(snapshot, password=document.password)

    async def unlock(self, name: str, client: str, password: str) -> None:
        """Keep the password of a document, in memory, if it opens it.

        Args:
            name: the name of the document.
            client: the client that sent it.
            password: the password.

        Raises:
            PasswordNeeded: it does not open the document.
        """
        async with (
            self.lent(name, client) as snapshot,
            self._service.opened(replace(snapshot, password=password), client),
        ):
            self.get(name, client).password = password

    async def receive(self, request: Request) -> StoredDocument:
        """A document that comes in one form, in its field `file`."""
        client = client_of(request.scope)
        async with self._service.receive() as incoming:
            await read_form(request, incoming)
            snapshot = await incoming.snapshot()
            await self._make_room(client, snapshot.size)
            document = self._new(snapshot.name, client, snapshot.size)
            await self._finish(document, snapshot)
        return document

    async def begin(self, request: Request) -> StoredDocument:
        """Begin an upload of the length that `Upload-Length` announces, with its first bytes if they come along.

        Raises:
            BadRequest: no length.
            UnreadableInput: the length is 0.
            InputTooLarge: more than a file may have.
            QueueFull: the server holds as much as it may, and none of it can go.
        """
        length = request.headers.get("upload-length", "")
        if not length.isdecimal():
            raise BadRequest("Upload-Length is missing, or no number of bytes.", remedy=NO_LENGTH_REMEDY)
        size = int(length)
        if not size:
            raise UnreadableInput("The document is empty.", remedy="Check that it was saved or downloaded completely.")
        if size > self.max_file_bytes:
            raise InputTooLarge(
                f"The document has {size / MB:.1f} MiB; the limit is {self.max_file_bytes // MB} MiB.",
                remedy="Send a smaller scan or fewer pages, or raise OCR_MAX_FILE_MB.",
            )
        client = client_of(request.scope)
        await self._make_room(client, size)
        stack = AsyncExitStack()
        incoming = await stack.enter_async_context(self._service.receive())
        incoming.call(_file_name(request.headers.get("upload-metadata", "")))
        document = self._new(incoming.name, client, size)
        document.arriving = _Arriving(incoming, stack)
        if media_type(request) == TUS_PIECE:
            try:
                await self.append(document, 0, request)
            except BaseException:  # its client does not know its name yet, and begins anew
                with anyio.CancelScope(shield=True):
                    await self._drop(document)
                raise
        return document

    async def append(self, document: StoredDocument, offset: int, request: Request) -> None:
        """Add the body of a request. What has come stays, even where the connection ends before the body does.

        Args:
            document: the document.
            offset: the byte at which the body begins.
            request: the request with the body.

        Raises:
            WrongOffset: the body begins elsewhere than where the last one ended.
            InputTooLarge: the body is longer than what was announced.
            ClientDisconnect: the client went away.
        """
        arriving = document.arriving
        if arriving is None:
            raise _wrong_offset(document, offset)
        async with arriving.lock:
            if offset != arriving.incoming.size or document.arriving is None:
                raise _wrong_offset(document, offset)
            async for chunk in request.stream():
                if arriving.incoming.size + len(chunk) > document.size:
                    raise InputTooLarge(
                        f"More bytes arrived than the {document.size} that were announced.",
                        remedy="Begin the upload again with the length of the file.",
                    )
                await arriving.incoming.write(chunk)
                document.used = self._clock()
            if arriving.incoming.size == document.size:
                await self._finish(document, await arriving.incoming.snapshot())
                document.arriving = None
                await arriving.stack.aclose()

    async def delete(self, name: str, client: str) -> None:
        """Drop a document of this client."""
        await self._drop(self.get(name, client))

    def _new(self, file_name: str, client: str, size: int) -> StoredDocument:
        document = StoredDocument(secrets.token_urlsafe(NAME_BYTES), file_name, client, size, self._clock())
        self._documents[document.name] = document
        return document

    async def _finish(self, document: StoredDocument, snapshot: Snapshot) -> None:
        document.sha256 = snapshot.sha256
        document.kept = await self._service.keep(snapshot)

    def _bytes(self, client: str | None = None) -> int:
        return sum(each.size for each in self._documents.values() if client is None or each.client == client)

    async def _make_room(self, client: str, size: int) -> None:
        """Drop the documents that were asked for longest ago: this client's above its half, then any client's."""
        while self._bytes(client) + size > self._max_bytes // 2:
            await self._drop_oldest(client)
        while self._bytes() + size > self._max_bytes or len(self._documents) >= MAX_DOCUMENTS:
            await self._drop_oldest(None)

    async def _drop_oldest(self, client: str | None) -> None:
        for document in self._documents.values():
            is_busy = document.arriving is not None and document.arriving.lock.locked()
            if not is_busy and client in (None, document.client):
                await self._drop(document)
                return
        raise QueueFull(
            "The server holds as many documents as it may, and all of them are still arriving.",
            remedy="Send the document again when others have arrived.",
        )

    async def _drop(self, document: StoredDocument) -> None:
        self._documents.pop(document.name, None)
        arriving, document.arriving = document.arriving, None
        kept, document.kept = document.kept, None
        if kept is not None:
            kept.let_go()
        if arriving is not None:
            await arriving.stack.aclose()


def _wrong_offset(document: StoredDocument, offset: int) -> WrongOffset:
    return WrongOffset(
        f"The document goes on at byte {document.received}, not at {offset}.",
        remedy="HEAD tells how many bytes have arrived: go on from there.",
    )


def _file_name(metadata: str) -> str:
    """The `filename` of `Upload-Metadata`: pairs of a key and a value in base64."""
    for pair in metadata.split(","):
        key, _, value = pair.strip().partition(" ")
        if key == "filename":
            with contextlib.suppress(binascii.Error, ValueError):
                return base64.b64decode(value, validate=True).decode("utf-8", "replace")
    return ""

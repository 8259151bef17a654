"""Receives the bodies of HTTP requests. Their bytes and their time are bounded.

A file goes straight to the private folder; only JSON is held whole in memory. A form may have one file, whose name is
used in messages only. A request whose body stalls, creeps or does not end gets an answer, and is cut off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...config import MB, Settings
from ...errors import BadRequest, InputTooLarge, OcrError, SlowUpload
from ...service.service import Incoming
from .auth import error_body

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["DOCUMENT_FIELD", "FIELD_BYTES", "BodyLimits", "largest_body", "media_type", "read_form"]


BASE64_GROWTH: Final = 4 / 3
ROOM_BYTES: Final = 64 * 1024  # bytes of a request beside its document
LEAST_BYTES_PER_S: Final = 4 * 1024  # of one request; several uploads that share a line of 60 KB/s are faster
LINGER_S: Final = 2.0  # seconds for a client that still sends to notice that it has its answer
LINGER_BYTES: Final = 16 * MB

FILE_FIELD: Final = "file"
DOCUMENT_FIELD: Final = "document"
MAX_FIELDS: Final = 32
FIELD_BYTES: Final = 64 * 1024

_EXTENDED_NAME: Final = re.compile(rb";\s*filename\*\s*=\s*\"?([\w.:+-]*)'[^']*'([^\s;\"]*)", re.IGNORECASE)
"""The name of a file by RFC 5987: `filename*=UTF-8''scan%20%C3%A4.png`. python-multipart ignores this form."""


def largest_body(settings: Settings) -> int:
    """The bytes of the largest request: a document of the allowed size in base64, with the other fields."""
    return int(settings.max_file_bytes * BASE64_GROWTH) + ROOM_BYTES


class BodyLimits:
    """ASGI middleware for every path: a body that the application does not read keeps no connection."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._largest = largest_body(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        await _Limited(scope, receive, send, self._largest, self._settings).run(self._app)


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


class _Limited:
    """One request with a body."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, largest: int, settings: Settings) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._largest = largest
        self._settings = settings
        self._stall_s = settings.ocr_upload_timeout
        self._taken = 0
        self._waited_s = 0.0
        self._all_here = False
        self._started = False
        self._cut: OcrError | None = None

    async def run(self, app: ASGIApp) -> None:
        length = Headers(scope=self._scope).get("content-length", "")
        if length.isdecimal() and int(length) > self._largest:
            await self._refuse(self._too_large())
            return
        try:
            await app(self._scope, self.receive, self.send)
        except OcrError as exc:
            if exc is not self._cut:
                raise
        # Sent whatever the application has answered, so that the client learns why its body was cut off.
        if self._cut is not None and not self._started:
            await self._refuse(self._cut)

    async def receive(self) -> Message:
        if self._all_here or self._cut is not None:
            return await self._receive()
        began = anyio.current_time()
        # The pace is checked only after the time that a stall may last, because connections start slowly.
        allowed = min(self._stall_s, self._stall_s + self._taken / LEAST_BYTES_PER_S - self._waited_s)
        message: Message | None = None
        with anyio.move_on_after(max(0.0, allowed)):
            message = await self._receive()
        self._waited_s += anyio.current_time() - began
        if message is None:
            self._cut = SlowUpload(
                f"The body of the request came too slowly and was cut after {self._taken} bytes.",
                remedy="Send it again over a better connection; the operator sets OCR_UPLOAD_TIMEOUT.",
            )
            raise self._cut
        if message["type"] == "http.request":
            self._taken += len(message.get("body", b""))
            self._all_here = not message.get("more_body", False)
            if self._taken > self._largest:
                self._cut = self._too_large()
                raise self._cut
        return message

    def _too_large(self) -> OcrError:
        return InputTooLarge(
            f"The request is larger than this server takes: {self._settings.ocr_max_file_mb} MiB for a file.",
            remedy="Send a smaller file, or fewer pages; the operator sets OCR_MAX_FILE_MB.",
        )

    async def send(self, message: Message) -> None:
        if self._cut is not None and not self._started:
            return  # `run` sends the answer
        if message["type"] == "http.response.start":
            self._started = True
            if not self._all_here:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await self._send(message)
        elif self._all_here or message.get("more_body", False):
            await self._send(message)
        else:
            # A server that closes while the client still sends resets the connection, and the answer is lost.
            await self._send({**message, "more_body": True})
            await self._linger()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _refuse(self, error: OcrError) -> None:
        body = json.dumps(error_body(error)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        self._cut = None
        await self.send({"type": "http.response.start", "status": error.http_status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def _linger(self) -> None:
        left = LINGER_BYTES
        with anyio.move_on_after(LINGER_S):
            while left > 0:
                message = await self._receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))


def media_type(request: Request) -> str:
    """The media type of a request, without parameters: `multipart/form-data`."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_form(
    request: Request,
    incoming: Incoming,
    *,
    field_bytes: Callable[[str], int] = lambda name: FIELD_BYTES,
    file_fields: Sequence[str] = (FILE_FIELD,),
) -> dict[str, str]:
    """Receive a form. Returns its fields; its file goes into `incoming`.

    A form with the field `document` refers to a file that was sent before, and needs no file.

    Args:
        field_bytes: the bytes that a field of a name may have.
        file_fields: the names that the file may have in the form.

    Raises:
        BadRequest: the body is no form, or is damaged; or the form has a second file, a file under another name, or too
            many fields.
        InputTooLarge: the file or a field is too large.
        ClientDisconnect: the client went away.
    """
    form = _Form(field_bytes, file_fields)
    try:
        parser = MultipartParser(_boundary(request), form.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
            if form.file_name is not None:
                incoming.call(form.file_name)
            for piece in form.take():
                await incoming.write(piece)
    except FormParserError:
        raise _damaged("it is no multipart/form-data") from None
    if not form.ended:
        raise _damaged("its end is missing")
    if form.file_name is None and not form.fields.get(DOCUMENT_FIELD):
        raise BadRequest(
            f"The form has no file in its field `{file_fields[0]}`.", remedy=f"Send it: -F {file_fields[0]}=@page.png"
        )
    if form.file_name is not None and form.fields.get(DOCUMENT_FIELD):
        raise BadRequest(
            f"The form has a file, and names another document in its field `{DOCUMENT_FIELD}`.",
            remedy="Send one of them.",
        )
    return form.fields


def _boundary(request: Request) -> bytes:
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise _damaged("its Content-Type names no boundary")
    return boundary


def _damaged(why: str) -> BadRequest:
    return BadRequest(f"The form cannot be read: {why}.", remedy=f"Send it as `curl -F {FILE_FIELD}=@page.png` does.")


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 40 else name[:39] + "…")


def _file_name(disposition: bytes, options: dict[bytes, bytes]) -> str | None:
    """The name of the file in a part of a form; None if the part is a field."""
    if b"filename" in options:
        return options[b"filename"].decode("utf-8", "replace")
    extended = _EXTENDED_NAME.search(disposition)
    if extended is None:
        return None
    charset, name = (part.decode("latin-1") for part in extended.groups())
    try:
        return unquote(name, charset or "utf-8", "replace")
    except LookupError:  # Python does not know the charset
        return unquote(name, "utf-8", "replace")


class _Form:
    """The callbacks of the parser. They collect the parts of the form, and never wait."""

    def __init__(self, field_bytes: Callable[[str], int], file_fields: Sequence[str]) -> None:
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None
        self.ended = False
        self._field_bytes = field_bytes
        self._file_fields = file_fields
        self._parts = 0
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._disposition = b""
        self._name: str | None = None
        """The name of the field that is being read; None while the file is."""
        self._value = bytearray()
        self._pieces: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begin,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_end": self._end,
        }

    def take(self) -> list[bytes]:
        """The pieces of the file that have come since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def _part_begin(self) -> None:
        self._parts += 1
        self._disposition = b""
        self._value.clear()
        if self._parts > MAX_FIELDS:
            raise BadRequest(
                f"The form has more than {MAX_FIELDS} fields.", remedy="Leave out the fields that are not needed."
            )

    def _header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._header = (bytearray(), bytearray())
        if name.lower() == b"content-disposition":
            self._disposition = value

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        file_name = _file_name(self._disposition, options)
        if file_name is None:
            self._name = name
            return
        if name not in self._file_fields:
            raise BadRequest(
                f"The form has a file in its field {_shown(name)}.",
                remedy=f"Send it in the field `{self._file_fields[0]}`.",
            )
        if self.file_name is not None:
            raise BadRequest("The form has more than one file.", remedy="Send one file a request.")
        self._name = None
        self.file_name = file_name

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            self._pieces.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > self._field_bytes(self._name):
            raise InputTooLarge(
                f"The field {_shown(self._name)} is larger than {self._field_bytes(self._name)} bytes.",
                remedy="Send less, or the document in the field `file`.",
            )

    def _part_end(self) -> None:
        if self._name is not None:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self.ended = True

"""The routes of `/documents`: send a document once, in one form or piece by piece, and drop it.

The server keeps the password of a document in memory, as long as it keeps the document.

Pieces follow tus 1.0 with creation, creation-with-upload and termination, so its clients work. A piece that is cut off
counts as far as it came. Pieces hold no place in the queue: their bytes were announced and found room before.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request
from starlette.responses import Response

from ...errors import BadRequest
from ...service.service import OcrService
from .auth import client_of
from .bodies import media_type
from .refusals import checked
from .shapes import DocumentFacts, FileForm, PasswordRequest, as_json
from .uploads import (
    NO_LENGTH_REMEDY,
    TUS_EXTENSIONS,
    TUS_PIECE,
    TUS_VERSION,
    StoredDocument,
    Uploads,
    WrongTusVersion,
)

__all__ = ["DocumentRoutes"]

PATH: Final = "/documents"
ONE: Final = "/documents/{name}"
TAG: Final = "Documents"


class DocumentRoutes:
    """Translates requests for `Uploads`."""

    def __init__(self, service: OcrService, uploads: Uploads) -> None:
        self._service = service
        self._uploads = uploads

    def add_to(self, app: FastAPI) -> None:
        form: dict[str, Any] = {"multipart/form-data": {"schema": FileForm.model_json_schema()}}
        piece: dict[str, Any] = {TUS_PIECE: {"schema": {"type": "string", "format": "binary"}}}
        app.post(
            PATH,
            response_model=DocumentFacts,
            status_code=201,
            tags=[TAG],
            summary="Send a document once, and refer to it by its name",
            openapi_extra={"requestBody": {"required": True, "content": form | piece}},
        )(self.create)
        app.patch(ONE, include_in_schema=False)(self.append)
        app.head(ONE, include_in_schema=False)(self.look)
        app.delete(ONE, status_code=204, tags=[TAG], summary="Drop a document")(self.delete)
        app.options(PATH, include_in_schema=False)(self.options)
        password = {"application/json": {"schema": PasswordRequest.model_json_schema()}}
        app.post(
            f"{ONE}/password",
            status_code=204,
            tags=[TAG],
            summary="Give the password of a locked document",
            openapi_extra={"requestBody": {"required": True, "content": password}},
        )(self.unlock)

    async def create(self, request: Request) -> Response:
        _check_version(request)
        if media_type(request) == "multipart/form-data":
            with self._service.place(client_of(request.scope)):
                document = await self._uploads.receive(request)
        elif "upload-length" in request.headers:
            document = await self._uploads.begin(request)
        else:
            raise BadRequest("The request has no document.", remedy=NO_LENGTH_REMEDY)
        facts = DocumentFacts(
            document=document.name,
            name=document.file_name,
            size=document.size,
            received=document.received,
            sha256=document.sha256,
        )
        headers = _tus(document) | {"Location": f"{PATH}/{document.name}"}
        return Response(as_json(facts), status_code=201, headers=headers, media_type="application/json")

    async def append(self, name: str, request: Request) -> Response:
        _check_version(request)
        offset = request.headers.get("upload-offset", "")
        if media_type(request) != TUS_PIECE or not offset.isdecimal():
            raise BadRequest(
                "The piece does not say where it belongs.", remedy=f"Send {TUS_PIECE} with the header Upload-Offset."
            )
        document = self._uploads.get(name, client_of(request.scope))
        await self._uploads.append(document, int(offset), request)
        return Response(status_code=204, headers=_tus(document))

    async def look(self, name: str, request: Request) -> Response:
        _check_version(request)
        return Response(headers=_tus(self._uploads.get(name, client_of(request.scope))))

    async def delete(self, name: str, request: Request) -> Response:
        _check_version(request)
        await self._uploads.delete(name, client_of(request.scope))
        return Response(status_code=204, headers={"Tus-Resumable": TUS_VERSION})

    async def unlock(self, name: str, request: Request) -> Response:
        client = client_of(request.scope)
        with self._service.place(client):
            body = await request.body()
            asked = checked(lambda: PasswordRequest.model_validate_json(body))
            await self._uploads.unlock(name, client, asked.password.get_secret_value())
        return Response(status_code=204)

    async def options(self) -> Response:
        headers = {"Tus-Version": TUS_VERSION, "Tus-Extension": TUS_EXTENSIONS}
        headers["Tus-Max-Size"] = str(self._uploads.max_file_bytes)
        return Response(status_code=204, headers=headers | {"Tus-Resumable": TUS_VERSION})


def _check_version(request: Request) -> None:
    """Refuse a request of another version of tus.

    A request without a version is accepted: it is a form, or its client takes any version.

    Raises:
        WrongTusVersion: it names another.
    """
    version = request.headers.get("tus-resumable", TUS_VERSION)
    if version != TUS_VERSION:
        raise WrongTusVersion(
            f"This server speaks version {TUS_VERSION} of tus, and the request is of version {version[:20]!a}.",
            remedy=f"Send Tus-Resumable: {TUS_VERSION}.",
        )


def _tus(document: StoredDocument) -> dict[str, str]:
    return {
        "Tus-Resumable": TUS_VERSION,
        "Upload-Offset": str(document.received),
        "Upload-Length": str(document.size),
    }

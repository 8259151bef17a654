"""The paths at which other programs look for a document loader: Open WebUI's external engine, and docling-serve's.

Both get the whole text as Markdown, with the notes about everything that limits it.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Any, Final
from urllib.parse import unquote

from fastapi import FastAPI, Request
from starlette.responses import Response

from ...caller import Caller
from ...errors import BadRequest, UnreadableInput
from ...models import OcrRequest, OcrResult, Page
from ...modes import DEFAULT_MODE
from ...service.progress import Terms
from ...service.service import OcrService
from .auth import client_of
from .bodies import media_type, read_form
from .shapes import DoclingAnswer, DoclingDocument, DoclingForm, LoadedPage, as_json
from .stream import while_connected

__all__ = ["Loaders"]

TAG: Final = "For other programs"
DOCLING_FILES: Final = ("files", "file")
DOCLING_MODES: Final = {"md": "document", "text": "free"}
"""The mode that makes each value of `to_formats`."""


class Loaders:
    """The routes. Each reads a whole document in mode document."""

    def __init__(self, service: OcrService) -> None:
        self._service = service

    def add_to(self, app: FastAPI) -> None:
        binary: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        app.put(
            "/process",
            response_model=list[LoadedPage],
            tags=[TAG],
            summary="Read a document, as Open WebUI's external document loader asks for it",
            openapi_extra={"requestBody": {"required": True, "content": binary}},
        )(self.process)
        form = {"multipart/form-data": {"schema": DoclingForm.model_json_schema()}}
        app.post(
            "/v1/convert/file",
            response_model=DoclingAnswer,
            tags=[TAG],
            summary="Read a document, as clients of docling-serve ask for it",
            openapi_extra={"requestBody": {"required": True, "content": form}},
        )(self.convert)

    async def process(self, request: Request) -> Response:
        async with AsyncExitStack() as stack:
            place = stack.enter_context(self._service.place(client_of(request.scope)))
            incoming = await stack.enter_async_context(self._service.receive())
            incoming.call(unquote(request.headers.get("x-filename", "")))
            async for chunk in request.stream():
                await incoming.write(chunk)
            snapshot = await incoming.snapshot()
            result = await self._read(request, Terms(place=place, upload=snapshot))
        pages = [_loaded(page, snapshot.name, result) for page in result.pages]
        with_text = [page for page in pages if page.page_content.strip()] or pages[:1]
        return Response(b"[" + b",".join(map(as_json, with_text)) + b"]", media_type="application/json")

    async def convert(self, request: Request) -> Response:
        began = time.monotonic()
        if media_type(request) != "multipart/form-data":
            raise UnreadableInput("The body is no form.", remedy="Send multipart/form-data with the field `files`.")
        async with AsyncExitStack() as stack:
            place = stack.enter_context(self._service.place(client_of(request.scope)))
            incoming = await stack.enter_async_context(self._service.receive())
            fields = await read_form(request, incoming, file_fields=DOCLING_FILES)
            mode = _mode(fields.get("to_formats", ""))
            if asked := sorted({"page_range", "pages"} & fields.keys()):
                raise BadRequest(
                    f"{asked[0]} has no effect here: all pages are read.", remedy="Use POST /ocr with pages."
                )
            snapshot = await incoming.snapshot()
            result = await self._read(request, Terms(place=place, upload=snapshot), mode)
        answer = DoclingAnswer(
            document=DoclingDocument(
                filename=snapshot.name,
                md_content=result.text if mode == "document" else None,
                text_content=result.text if mode == "free" else None,
            ),
            status="partial_success" if any(page.finish == "failed" for page in result.pages) else "success",
            errors=[{"component_type": "document_backend", "error_message": str(note)} for note in result.notes],
            processing_time=round(time.monotonic() - began, 3),
        )
        return Response(as_json(answer), media_type="application/json")

    async def _read(self, request: Request, terms: Terms, mode: str = DEFAULT_MODE) -> OcrResult:
        caller = Caller(client_of(request.scope), is_local=False)
        asked = OcrRequest(image="", max_chars=0, mode=mode)
        answer = await while_connected(request.receive, lambda: self._service.ocr(asked, caller, terms))
        return answer.result


def _loaded(page: Page, source: str, result: OcrResult) -> LoadedPage:
    return LoadedPage(
        page_content=page.text,
        metadata={
            "source": source,
            "page": page.page,
            "pages": result.page_count,
            "engine": result.engine,
            "notes": " ".join(map(str, result.notes)),
        },
    )


def _mode(formats: str) -> str:
    """The mode for a value of `to_formats`."""
    asked = formats.strip() or "md"
    if asked not in DOCLING_MODES:
        raise BadRequest(f"to_formats={asked[:40]!a} cannot be made.", remedy="Use md or text, or POST /export.")
    return DOCLING_MODES[asked]

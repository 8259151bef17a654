"""The HTTP server: `/mcp` for agents, an API for programs, and the page for people; one port, one lifespan.

Every error of every path has the same body. Work ends within a second when its client goes. Nothing here
decodes a document, and `/health` waits for nothing.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import FileResponse, Response

from ... import __version__
from ...caller import Caller
from ...config import MB
from ...errors import InputTooLarge, NotFound, OcrError, UnreadableInput
from ...export_formats import EXPORT_FORMATS, ExportOptions
from ...models import MAX_PICTURE_SIDE, MIN_PICTURE_SIDE, OcrRequest, Page
from ...modes import MODES, RESOLUTIONS
from ...service.progress import Terms
from ...service.service import OcrService, Snapshot
from ...service.work import ENGINE_TITLES, ReadPage
from ..web_folder import WEB
from .auth import client_of
from .bodies import DOCUMENT_FIELD, FIELD_BYTES, media_type, read_form
from .drain import Drain
from .metrics import Metrics
from .refusals import checked
from .shapes import (
    DocumentAnswer,
    ExportForm,
    ExportPart,
    ExportRequest,
    FieldsRequest,
    FileForm,
    Health,
    JsonRequest,
    Limits,
    ModeAnswer,
    Modes,
    PageAnswer,
    PageImages,
    PagePicture,
    PicturesForm,
    StatusAnswer,
    TransitionAnswer,
    Upload,
    as_dict,
    as_json,
)
from .stream import Emit, EventStream, FileAnswer, while_connected
from .uploads import Uploads

__all__ = ["COMPONENTS", "Api", "log"]


log = logging.getLogger(__name__)


MAX_PICTURES_BYTES: Final = 64 * MB  # of one answer, before base64
EXPORT_BYTES: Final = 32 * MB  # of JSON: the text of thousands of pages
READING, DOCUMENTS, MODEL, SERVER = "Reading", "Documents", "Model and GPUs", "Server"
COMPONENTS: Final = "#/components/schemas/"
NO_NAME: Final = re.compile(r'[\x00-\x1f\\/:*?"<>|]')  # characters that some file system refuses in a name
MAX_TITLE: Final = 100  # characters, in the name of a file
PREVIEW_HEADERS: Final = {
    name: {"schema": {"type": "integer"}, "description": text}
    for name, text in (
        ("X-Page-Count", "pages in the document"),
        ("X-Page-Width", "pixels of the whole upright page, the ones that boxes refer to"),
        ("X-Page-Height", "the same"),
    )
}


class Api:
    """The routes. Each translates a request for the service, and the answer of the service.

    Args:
        service: reads the documents.
        metrics: the metrics that `/metrics` answers.
        drain: says whether the server was told to end.
        uploads: the documents that clients sent before.
    """

    def __init__(self, service: OcrService, metrics: Metrics, drain: Drain, uploads: Uploads) -> None:
        self._service = service
        self._uploads = uploads
        self._metrics = metrics
        self._drain = drain

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an application."""
        self._add_reading(app)
        self._add_state(app)
        self._add_files(app)

    def _add_reading(self, app: FastAPI) -> None:
        body = {"requestBody": _read_body()}
        stream: dict[int | str, dict[str, Any]] = {
            200: {"content": {"text/event-stream": {}}, "description": "the answer, or the events until then"}
        }
        for path, shape, endpoint, summary in (
            ("/ocr", PageAnswer, self.ocr, "Read a page"),
            ("/ocr-pdf", DocumentAnswer, self.ocr_pdf, "Read a document"),
        ):
            app.post(path, response_model=shape, responses=stream, summary=summary, tags=[READING], openapi_extra=body)(
                endpoint
            )

    def _add_state(self, app: FastAPI) -> None:
        app.get("/health", response_model=Health, tags=[SERVER], summary="Live and ready")(self.health)
        app.get("/modes", response_model=Modes, tags=[SERVER], summary="Modes, limits and version of this server")(
            self.modes
        )
        app.get("/gpu/status", response_model=StatusAnswer, tags=[MODEL], summary="The model and the GPUs")(
            self.gpu_status
        )
        app.post("/gpu/offload", response_model=TransitionAnswer, tags=[MODEL], summary="Weights off the GPU")(
            self.gpu_offload
        )
        app.post(
            "/gpu/release",
            response_model=TransitionAnswer,
            tags=[MODEL],
            summary="Give all memory back",
            openapi_extra={"requestBody": _release_body()},
        )(self.gpu_release)

    def _add_files(self, app: FastAPI) -> None:
        picture: dict[str, Any] = {"content": {"image/png": {}, "image/jpeg": {}}, "description": "the picture"}
        app.post(
            "/preview",
            response_class=Response,
            responses={200: picture | {"headers": PREVIEW_HEADERS}},
            tags=[DOCUMENTS],
            summary="A page as a small picture, upright, as the engine sees it",
            openapi_extra={"requestBody": _form_body(FileForm)},
        )(self.preview)
        app.post(
            "/pdf-to-images",
            response_model=PageImages,
            tags=[DOCUMENTS],
            summary="Pages as PNG of 144 dpi",
            openapi_extra={"requestBody": _form_body(PicturesForm)},
        )(self.pictures)
        files: dict[str, Any] = {
            "content": {known.media_type: {} for known in EXPORT_FORMATS.values()},
            "description": "the file",
        }
        app.post(
            "/export",
            response_class=Response,
            responses={200: files},
            tags=[DOCUMENTS],
            summary="A reading as a Word document or a searchable PDF",
            openapi_extra={"requestBody": _export_body()},
        )(self.export)
        app.get("/metrics", include_in_schema=False)(self.metrics)
        app.get("/docs", include_in_schema=False)(self.docs)
        app.get("/", include_in_schema=False)(self.page)
        # Monitors often send HEAD.
        app.head("/", include_in_schema=False)(self.page)
        app.head("/docs", include_in_schema=False)(self.docs)
        app.head("/health", include_in_schema=False)(self.health)

    async def page(self) -> Response:
        return _page(WEB / "index.html")

    async def docs(self) -> Response:
        return _page(WEB / "docs" / "index.html")

    # -- reading

    async def ocr(self, request: Request) -> Response:
        return await self._read(request, PageAnswer)

    async def ocr_pdf(self, request: Request) -> Response:
        return await self._read(request, DocumentAnswer)

    async def _read(self, request: Request, shape: type[PageAnswer]) -> Response:
        async with AsyncExitStack() as stack:
            # Before the upload: a client without a place is refused before it has sent its file.
            place = stack.enter_context(self._service.place(client_of(request.scope)))
            asked, image, upload = await self._received(request, stack)
            caller = Caller(client_of(request.scope), is_local=False)
            terms = Terms(place=place, upload=upload, password=asked.password.get_secret_value())
            job = _ReadingRequest(self._service, shape, asked, asked.request(image), caller, terms)
            self._service.check(job.request)
            if "text/event-stream" in request.headers.get("accept", ""):
                return EventStream(job.told, stack.pop_all())
            answer = await while_connected(request.receive, job.done)
        return _answer(answer)

    async def _received(self, request: Request, stack: AsyncExitStack) -> tuple[FieldsRequest, str, Snapshot | None]:
        match media_type(request):
            case "multipart/form-data":
                incoming = await stack.enter_async_context(self._service.receive())
                fields = await read_form(request, incoming)
                # A form has no other way to leave out a number or a switch.
                given = {name: value for name, value in fields.items() if value != ""}
                asked = checked(lambda: FieldsRequest.model_validate(given), FieldsRequest.known_fields())
                return (
                    asked,
                    "",
                    await (self._lent(asked.document, request, stack) if asked.document else incoming.snapshot()),
                )
            case "application/json":
                body = await request.body()
                asked = checked(lambda: JsonRequest.model_validate_json(body), JsonRequest.known_fields())
                return asked, asked.image, await self._lent(asked.document, request, stack) if asked.document else None
            case _:
                raise _not_taken(
                    request,
                    "multipart/form-data with the document in the field `file`, or application/json with `image`",
                )

    async def _lent(self, name: str, request: Request, stack: AsyncExitStack) -> Snapshot:
        """The file of a document that this client has sent before. It stays until the stack is closed."""
        return await stack.enter_async_context(self._uploads.lent(name, client_of(request.scope)))

    async def _file(
        self, request: Request, stack: AsyncExitStack, long_fields: frozenset[str] = frozenset()
    ) -> tuple[dict[str, str], Snapshot]:
        """The fields and the file of a form. The place and the file stay until the stack is closed."""
        stack.enter_context(self._service.place(client_of(request.scope)))
        if media_type(request) != "multipart/form-data":
            raise _not_taken(request, "multipart/form-data with the document in the field `file`")
        incoming = await stack.enter_async_context(self._service.receive())
        fields = await read_form(
            request, incoming, field_bytes=lambda name: EXPORT_BYTES if name in long_fields else FIELD_BYTES
        )
        name, password = fields.get(DOCUMENT_FIELD), fields.get("password")
        upload = await (self._lent(name, request, stack) if name else incoming.snapshot())
        return fields, replace(upload, password=password) if password else upload

    # -- looking and taking along

    async def preview(
        self,
        request: Request,
        page: Annotated[int, Query(ge=1, description="its number, from 1")] = 1,
        side: Annotated[
            int, Query(ge=MIN_PICTURE_SIDE, le=MAX_PICTURE_SIDE, description="the longer side in pixels, at most")
        ] = 1200,
        document: Annotated[str, Query(description="in the place of a form with a file: its name")] = "",
    ) -> Response:
        async with AsyncExitStack() as stack:
            if document:
                stack.enter_context(self._service.place(client_of(request.scope)))
                upload = await self._lent(document, request, stack)
            else:
                _, upload = await self._file(request, stack)

            async def look() -> Response:
                async with self._service.opened(upload, client_of(request.scope)) as opened:
                    seen = await opened.preview(page, side)
                    headers = {
                        "X-Page-Count": str(opened.page_count),
                        "X-Page-Width": str(seen.width),
                        "X-Page-Height": str(seen.height),
                    }
                    return Response(seen.data, media_type=seen.mime, headers=headers)

            return await while_connected(request.receive, look)

    async def pictures(self, request: Request) -> Response:
        async with AsyncExitStack() as stack:
            fields, upload = await self._file(request, stack)

            async def look() -> PageImages:
                async with self._service.opened(upload, client_of(request.scope)) as document:
                    images, size = [], 0
                    for number in document.numbers(fields.get("pages", "")):
                        picture = await document.picture(number)
                        if (size := size + len(picture)) > MAX_PICTURES_BYTES:
                            raise InputTooLarge(
                                f"The pictures of these pages have over {MAX_PICTURES_BYTES // MB} MiB.",
                                remedy=f"Ask for fewer with `pages`: up to page {number - 1} they fit.",
                            )
                        data = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
                        images.append(PagePicture(page=number, data=data))
                    return PageImages(images=images, page_count=document.page_count)

            return _answer(await while_connected(request.receive, look))

    async def export(self, request: Request) -> Response:
        async with AsyncExitStack() as stack:
            upload = None
            if media_type(request) == "application/json":
                stack.enter_context(self._service.place(client_of(request.scope)))
                body = await request.body()
                asked = checked(lambda: ExportRequest.model_validate_json(body))
                if asked.document:
                    upload = await self._lent(asked.document, request, stack)
                    upload = replace(upload, password=asked.password.get_secret_value() or upload.password)
            else:
                fields, upload = await self._file(request, stack, frozenset({"result"}))
                beside = {name: fields[name] for name in ("format", "title", "paper", "upright") if fields.get(name)}
                read = checked(lambda: ExportRequest.model_validate_json(fields.get("result", "")))
                asked = checked(lambda: ExportRequest.model_validate(read.model_dump() | beside))
            title, client = asked.title.strip(), client_of(request.scope)
            options = ExportOptions(title, asked.mode, paper=asked.paper, upright=asked.upright)
            if asked.parts:
                parts = [await self._part(part, request, stack) for part in asked.parts]
                made = self._service.export_together(parts, options, client)
            else:
                made = self._service.export(asked.format, asked.as_pages(), upload, options=options, client=client)
            path = await while_connected(request.receive, lambda: stack.enter_async_context(made))
            name = f"{NO_NAME.sub('-', title)[:MAX_TITLE] or 'document'}.{asked.format}"
            return FileAnswer(path, EXPORT_FORMATS[asked.format].media_type, name, stack.pop_all())

    async def _part(self, part: ExportPart, request: Request, stack: AsyncExitStack) -> tuple[Snapshot, Sequence[Page]]:
        snapshot = await self._lent(part.document, request, stack)
        return replace(snapshot, password=part.password.get_secret_value() or snapshot.password), part.as_pages()

    # -- status

    async def health(
        self, ready: Annotated[str | None, Query(description="with any value: 503 while not ready")] = None
    ) -> Response:
        refusal = None
        try:
            self._drain.refuse_when_closing()
            self._service.ready()
        except OcrError as exc:
            if ready is not None:
                raise
            refusal = exc
        return _answer(
            Health(
                version=__version__,
                engine=self._service.engine.name,
                ready=refusal is None,
                state=self._service.state,
            )
        )

    async def metrics(self) -> Response:
        body, kind = await self._metrics.render()
        return Response(body, media_type=kind)

    async def modes(self) -> Response:
        service, settings = self._service, self._service.settings
        return _answer(
            Modes(
                modes=[
                    ModeAnswer(
                        name=mode.name,
                        purpose=mode.purpose,
                        needs=mode.needs,
                        locates=mode.locates,
                        markdown=mode.is_markdown,
                        available=mode.name in service.engine.modes,
                        why_not=service.why_not(mode.name),
                    )
                    for mode in MODES.values()
                ],
                resolutions=list(RESOLUTIONS),
                engine=service.engine.name,
                engine_reason=service.reason,
                engine_titles=ENGINE_TITLES,
                exports=list(EXPORT_FORMATS),
                limits=Limits(
                    max_file_mb=settings.ocr_max_file_mb,
                    max_pages=settings.ocr_max_pages,
                    max_queue=settings.ocr_max_queue,
                ),
                auth=settings.ocr_auth_token is not None,
                version=__version__,
            )
        )

    async def gpu_status(self) -> Response:
        service = self._service
        timeout = service.settings.gpu_idle_timeout
        return _answer(StatusAnswer.made(await service.status(), timeout, service.ready_state))

    async def gpu_offload(self) -> Response:
        return _answer(TransitionAnswer(**(await self._service.offload()).model_dump()))

    async def gpu_release(
        self, request: Request, force: Annotated[bool, Query(description="stop the page that is being read")] = False
    ) -> Response:
        if media_type(request) == "application/json" and (body := await request.body()):
            force = checked(lambda: _Release.model_validate_json(body)).force or force
        return _answer(TransitionAnswer(**(await self._service.release(force)).model_dump()))


class _Release(BaseModel):
    model_config = ConfigDict(extra="forbid")

    force: Annotated[bool, Field(description="stop the page that is being read; its caller gets an error")] = False


@dataclass(frozen=True, slots=True)
class _ReadingRequest:
    """One request to read. Its answer is a body or an event stream."""

    service: OcrService
    shape: type[PageAnswer]
    asked: FieldsRequest
    request: OcrRequest
    caller: Caller
    terms: Terms

    async def done(self) -> PageAnswer:
        return await self._read(self.terms)

    async def told(self, emit: Emit) -> None:
        async def on_position(position: int) -> None:
            await emit("queued", {"position": position})

        async def on_progress(done: float, total: float, message: str) -> None:
            await emit("progress", {"done": done, "total": total, "message": message})

        async def on_pages(pages: Sequence[ReadPage]) -> None:
            for read in pages:
                await emit("page", as_dict(_as_asked(read.page, self.request)))

        terms = replace(self.terms, on_progress=on_progress, on_position=on_position, on_pages=on_pages)
        answer = await self._read(terms)
        await emit("result", as_dict(answer))

    async def _read(self, terms: Terms) -> PageAnswer:
        return self.shape.of(await self.service.ocr(self.request, self.caller, terms), self.asked)


def _as_asked(page: Page, request: OcrRequest) -> Page:
    """A copy of a page with the boxes that were asked for, and without the model's own text."""
    blocks = page.blocks
    if request.boxes == "none" and request.mode != "find":
        blocks = None
    elif request.boxes != "words" and blocks:
        blocks = [block.model_copy(update={"words": None}) for block in blocks]
    return page.model_copy(update={"blocks": blocks, "raw": None})


def _page(path: Path) -> Response:
    if not path.is_file():
        raise NotFound("The page is not part of this installation.", remedy="Install the package from its wheel.")
    return FileResponse(path, media_type="text/html")


def _not_taken(request: Request, taken: str) -> UnreadableInput:
    given = media_type(request)
    return UnreadableInput(
        f"The body is of {f'the type {given[:40]!a}' if given else 'no stated type'}.", remedy=f"Send {taken}."
    )


def _answer(model: BaseModel) -> Response:
    return Response(as_json(model), media_type="application/json")


def _read_body() -> dict[str, Any]:
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": Upload.model_json_schema()},
            "application/json": {"schema": JsonRequest.model_json_schema()},
        },
    }


def _form_body(shape: type[BaseModel]) -> dict[str, Any]:
    return {"required": True, "content": {"multipart/form-data": {"schema": shape.model_json_schema()}}}


def _export_body() -> dict[str, Any]:
    body = _form_body(ExportForm)
    body["content"]["application/json"] = {"schema": {"$ref": f"{COMPONENTS}ExportRequest"}}
    return body


def _release_body() -> dict[str, Any]:
    return {"required": False, "content": {"application/json": {"schema": _Release.model_json_schema()}}}

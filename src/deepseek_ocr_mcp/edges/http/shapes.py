"""The shapes of the requests and answers of the HTTP API.

Requests may use the names of the first DeepSeek-OCR web service (`prompt_type`, `grounding`), and answers have its
fields beside ours (`raw_text`, `image_dims` …), so that its callers need not change.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

from ...errors import OcrError
from ...export_formats import EXPORT_FORMATS, meant_format
from ...models import (
    Block,
    Box,
    Entry,
    GpuStatus,
    Note,
    OcrRequest,
    OcrResult,
    Page,
    ReadingArguments,
    State,
    Timing,
    Transition,
    WorkerStatus,
)
from ...modes import DEFAULT_MODE, MODES
from ...service.answer import Answer
from ...text import well_formed_values
from .auth import error_body, error_headers

__all__ = [
    "Dimensions",
    "DoclingAnswer",
    "DoclingDocument",
    "DoclingForm",
    "DocumentAnswer",
    "DocumentFacts",
    "ExportBlock",
    "ExportForm",
    "ExportPage",
    "ExportPart",
    "ExportRequest",
    "ExportWord",
    "FieldsRequest",
    "FileForm",
    "Health",
    "Image",
    "JsonRequest",
    "LabelledBox",
    "Limits",
    "LoadedPage",
    "Metadata",
    "ModeAnswer",
    "Modes",
    "PageAnswer",
    "PageImages",
    "PagePicture",
    "PasswordRequest",
    "PicturesForm",
    "Problem",
    "StatusAnswer",
    "TransitionAnswer",
    "Upload",
    "as_dict",
    "as_json",
    "failure",
    "log",
]


log = logging.getLogger(__name__)


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


Password = Annotated[SecretStr, Field(max_length=1000, description="of a locked PDF")]

UNUSED: Final = ("base_size", "image_size", "crop_mode", "test_compress", "include_caption")
"""Fields of the first web pages of DeepSeek-OCR that have no effect here."""
Unused = SkipJsonSchema[Any]


class FieldsRequest(ReadingArguments):
    """The fields of `POST /ocr`, in a form or in JSON."""

    model_config = ConfigDict(extra="forbid")

    max_chars: Annotated[int, Field(ge=0, description="longest text to return; 0: no limit")] = 0
    document: Annotated[str, Field(description="in the place of a file: the name that POST /documents gave it")] = ""
    password: Password = SecretStr("")
    prompt_type: Annotated[str | None, Field(description="the first service's name of mode")] = None
    grounding: Annotated[bool, Field(description="the first service's name of boxes")] = False
    base_size: Unused = None
    image_size: Unused = None
    crop_mode: Unused = None
    test_compress: Unused = None
    include_caption: Unused = None

    @model_validator(mode="before")
    @classmethod
    def _as_the_first_service_did(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("mode") in (None, "") and data.get("prompt_type"):
            data = {**data, "mode": data["prompt_type"]}
        return data

    def request(self, image: str = "") -> OcrRequest:
        """The request of the service that these fields mean."""
        fields = self.model_dump(include=set(ReadingArguments.model_fields))
        if self.grounding and self.boxes == "none":
            fields["boxes"] = "lines"
        fields["raw"] = True  # `raw_text` is always there
        request = OcrRequest(image=image, **fields)
        for name in UNUSED:
            if getattr(self, name) is not None:
                request.note_unused(f"{name} was not used: `resolution` says how large a page is read.")
        return request

    @classmethod
    def known_fields(cls) -> list[str]:
        """The fields that have an effect."""
        return [name for name in cls.model_fields if name not in UNUSED]


class JsonRequest(FieldsRequest):
    """The body of `POST /ocr` as JSON."""

    image: Annotated[
        str,
        Field(
            description="base64 or a data: URI; an absolute path inside OCR_ALLOWED_DIRS; "
            "an https:// address where OCR_ALLOW_URLS is on; empty with `document`"
        ),
    ] = ""

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if bool(self.image) == bool(self.document):
            raise ValueError("give either `image` or `document`")
        return self


class Upload(FieldsRequest):
    """The body of `POST /ocr` as a form."""

    file: Annotated[bytes, Field(description="an image or a PDF", json_schema_extra={"format": "binary"})]


MAX_PARTS: Final = 200
"""Documents of one PDF. Each takes a process of its own for a moment; more would hold a turn for minutes."""

Pixel = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]


ExportBox = Annotated[list[Pixel], Field(min_length=4, max_length=4)]


class ExportWord(BaseModel):
    model_config = ConfigDict(extra="ignore")

    text: str = ""
    box: ExportBox


class ExportBlock(BaseModel):
    model_config = ConfigDict(extra="ignore")

    label: str = ""
    text: str = ""
    box: ExportBox
    score: Annotated[float | None, Field(ge=0, le=1, description="confidence, for hOCR and ALTO")] = None
    source: Literal["text_layer", "read"] | None = None
    angle: float | None = None
    vertical: Literal[True] | None = None
    words: list[ExportWord] | None = None

    def as_block(self) -> Block:
        """The block as the service knows it."""
        return Block(**self.model_dump())


class ExportPage(BaseModel):
    """A page of an answer of `POST /ocr`. Fields that an export does not need are ignored."""

    model_config = ConfigDict(extra="ignore")

    page: Annotated[int | None, Field(ge=1, description="its number in the document; default: its place here")] = None
    text: str = ""
    width: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    height: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    blocks: list[ExportBlock] | None = None
    turn: Annotated[Literal[90, 180, 270] | None, Field(description="degrees by which the page is turned")] = None

    def as_page(self, place: int) -> Page:
        """The page as the service knows it; `place` is its number where it has none."""
        blocks = [block.as_block() for block in self.blocks or ()]
        number = place if self.page is None else self.page
        page = Page(page=number, width=self.width, height=self.height, text=self.text, blocks=blocks)
        return page.model_copy(update={"turn": self.turn})


class ExportPart(BaseModel):
    """One of several documents of a PDF."""

    model_config = ConfigDict(extra="ignore")

    document: Annotated[str, Field(min_length=1, description="the name that POST /documents gave it")]
    password: Password = SecretStr("")
    pages: list[ExportPage]

    def as_pages(self) -> list[Page]:
        """The same for the service."""
        return [page.as_page(place) for place, page in enumerate(self.pages, start=1)]


class ExportRequest(BaseModel):
    """The body of `POST /export`: the answer of `POST /ocr` will do, with `format` beside it."""

    model_config = ConfigDict(extra="ignore")

    format: Annotated[
        str,
        AfterValidator(meant_format),
        Field(description="the kind of file; pdf is searchable", json_schema_extra={"enum": list(EXPORT_FORMATS)}),
    ] = "pdf"
    paper: Annotated[Literal["a4", "letter"], Field(description="of a Word document")] = "a4"
    upright: Annotated[bool, Field(description="whether a pdf turns pages that lie on their side")] = False
    pages: list[ExportPage] = Field(default_factory=list)
    parts: Annotated[
        list[ExportPart] | None,
        Field(min_length=1, max_length=MAX_PARTS, description="for one pdf of several documents, instead of `pages`"),
    ] = None
    title: str = ""
    document: Annotated[str, Field(description="for a pdf: the name that POST /documents gave the document")] = ""
    password: Password = SecretStr("")
    mode: Annotated[str, Field(description="the mode that it was read in; ocr and free are no Markdown")] = DEFAULT_MODE

    @model_validator(mode="after")
    def _has_pages(self) -> Self:
        if bool(self.pages) == bool(self.parts):
            raise ValueError("give either `pages` or `parts`")
        if self.parts and self.format != "pdf":
            raise ValueError("`parts` make a pdf; for another format, give all `pages`")
        return self

    def as_pages(self) -> list[Page]:
        """The same for the service."""
        return [page.as_page(place) for place, page in enumerate(self.pages, start=1)]


class ExportForm(BaseModel):
    """The body of `POST /export` as a form: for a searchable PDF, which needs the document."""

    format: Annotated[str, Field(json_schema_extra={"enum": list(EXPORT_FORMATS)})] = "pdf"
    title: str = ""
    password: Password = SecretStr("")
    file: Annotated[bytes, Field(description="the document", json_schema_extra={"format": "binary"})]
    result: Annotated[str, Field(description="JSON: the answer of POST /ocr with boxes=true, or {pages: …} of it")]


class FileForm(BaseModel):
    """A form with a document alone."""

    file: Annotated[bytes, Field(description="an image or a PDF", json_schema_extra={"format": "binary"})]
    password: Password = SecretStr("")


class PasswordRequest(_Shape):
    """The body of `POST /documents/{name}/password`."""

    password: Password


class DocumentFacts(_Shape):
    """The answer of `POST /documents`."""

    document: Annotated[str, Field(description="refer to it by this name, as `document`; only its sender can")]
    name: str
    size: Annotated[int, Field(description="bytes")]
    received: Annotated[int, Field(description="bytes that are here; less than size: send the rest with PATCH")]
    sha256: Annotated[str, Field(description="of the whole document; empty until it is here")] = ""


class LoadedPage(_Shape):
    """A page for Open WebUI."""

    page_content: str
    metadata: Annotated[dict[str, str | int], Field(description="source, page, pages, engine and notes")]


class DoclingForm(BaseModel):
    """The body of `POST /v1/convert/file`. Other fields of docling-serve are ignored."""

    files: Annotated[bytes, Field(description="an image or a PDF", json_schema_extra={"format": "binary"})]
    to_formats: Annotated[str, Field(description="md or text")] = "md"


class DoclingDocument(_Shape):
    filename: str
    md_content: str | None = None
    text_content: str | None = None


class DoclingAnswer(_Shape):
    """The answer of `POST /v1/convert/file`."""

    document: DoclingDocument
    status: Literal["success", "partial_success"]
    errors: Annotated[list[dict[str, str]], Field(description="the notes: what limits this answer")]
    processing_time: Annotated[float, Field(description="seconds")]
    timings: dict[str, float] = Field(default_factory=dict)


class PicturesForm(FileForm):
    """The body of `POST /pdf-to-images`."""

    pages: Annotated[str, Field(description='like "1-3,7" or "last"; empty: all')] = ""


class Problem(_Shape):
    """Every error of every path."""

    class Error(_Shape):
        code: Annotated[str, Field(description="stable, for programs")]
        message: Annotated[str, Field(description="what happened, and where")]
        remedy: Annotated[str, Field(description="what to do about it")]

    error: Error


class LabelledBox(_Shape):
    label: str
    box: Box


class Dimensions(_Shape):
    w: int
    h: int


class Metadata(_Shape):
    mode: str
    grounding: bool
    has_boxes: bool
    engine: str


class Image(_Shape):
    mime: str
    data: Annotated[str, Field(description="base64")]


class PageAnswer(_Shape):
    """The answer of `POST /ocr`."""

    success: Literal[True] = True
    text: Annotated[str, Field(description="all pages of this answer, in reading order")]
    raw_text: Annotated[
        str, Field(description="the model's own text with its tags; the text where the model writes none")
    ]
    boxes: Annotated[list[LabelledBox], Field(description="of the first page; in pixels of the upright page")]
    image_dims: Annotated[Dimensions, Field(description="pixels of the first page, upright")]
    prompt_type: str
    metadata: Metadata
    pages: list[Page]
    page_count: Annotated[int, Field(description="pages in the document")]
    mode: str
    markdown: Annotated[bool, Field(description="whether the text is Markdown")]
    engine: str
    model: str
    device: str
    truncated: bool
    next_pages: Annotated[str, Field(description="give this as pages to go on; empty: nothing is left")]
    next_max_chars: Annotated[
        int | None,
        Field(description="give this as max_chars, with the same pages, for the whole of a page that was cut"),
    ] = None
    contents: Annotated[
        list[Entry] | None, Field(description="where max_chars cut the text: the pages that are read")
    ] = None
    cached: Annotated[Literal[True] | None, Field(description="all of it was read before")] = None
    timing: Timing
    notes: Annotated[list[Note], Field(description="what limits this answer, and how to go on")]
    partial: Annotated[bool, Field(description="true: pages could not be read; notes tell why")] = False
    images: Annotated[list[Image] | None, Field(description="annotated pages, where they were asked for")] = None

    @classmethod
    def of(cls, answer: Answer, asked: FieldsRequest) -> Self:
        """The shape of an answer of the service."""
        return cls(**cls._fields(answer, asked))

    @classmethod
    def _fields(cls, answer: Answer, asked: FieldsRequest) -> dict[str, Any]:
        result: OcrResult = answer.result
        first = result.pages[0] if result.pages else Page(page=1, width=0, height=0, text="")
        boxes = [LabelledBox(label=block.label, box=block.box) for block in first.blocks or ()]
        raw_text = "\n\n".join(text for page in result.pages if (text := page.text if page.raw is None else page.raw))
        if not asked.raw:
            for page in result.pages:
                page.raw = None
        return {
            "text": result.text,
            "raw_text": raw_text,
            "boxes": boxes,
            "image_dims": Dimensions(w=first.width, h=first.height),
            "prompt_type": result.mode,
            "metadata": Metadata(
                mode=result.mode,
                grounding=asked.boxes != "none" or asked.grounding,
                has_boxes=bool(boxes),
                engine=result.engine,
            ),
            "pages": result.pages,
            "page_count": result.page_count,
            "mode": result.mode,
            "markdown": MODES[result.mode].is_markdown,
            "engine": result.engine,
            "model": result.model,
            "device": result.device,
            "truncated": result.truncated,
            "next_pages": result.next_pages,
            "next_max_chars": result.next_max_chars,
            "contents": result.contents,
            "cached": result.cached,
            "timing": result.timing,
            "notes": result.notes,
            "partial": bool(answer.errors),
            "images": [Image(mime=mime, data=base64.b64encode(data).decode()) for data, mime in answer.images]
            if asked.annotate
            else None,
        }


class DocumentAnswer(PageAnswer):
    """The answer of `POST /ocr-pdf`."""

    merged_text: Annotated[str, Field(description="the text of all pages")]

    @classmethod
    def _fields(cls, answer: Answer, asked: FieldsRequest) -> dict[str, Any]:
        return super()._fields(answer, asked) | {"merged_text": answer.result.text}


class Health(_Shape):
    """The answer of `GET /health`. It waits for nothing."""

    status: Literal["ok"] = "ok"
    version: str
    engine: str
    live: Literal[True] = True
    ready: Annotated[bool, Field(description="whether a request could be taken now")]
    state: State


class StatusAnswer(GpuStatus):
    """The answer of `GET /gpu/status`: the answer of `gpu_status`, with the first service's names beside ours."""

    model_location: Literal["gpu", "cpu", "unloaded"]
    idle_time: Annotated[float, Field(description="seconds since the last request ended; 0 while one runs")]
    timeout: Annotated[float, Field(description="GPU_IDLE_TIMEOUT; -1: never")]
    allocated: Annotated[int | None, Field(description="MiB that the worker holds on its card")]
    reserved: Annotated[int | None, Field(description="the same as allocated")]
    ready_state: Annotated[State, Field(description="the state in which the engine reads: gpu or host")]
    workers: Annotated[
        list[WorkerStatus] | None, Field(description="each of several workers, which the rest sums up; null: one")
    ] = None

    @classmethod
    def made(cls, status: GpuStatus, timeout: float, ready_state: State) -> StatusAnswer:
        location: Literal["gpu", "cpu", "unloaded"]
        match status.state:
            case State.GPU | "offloading":
                location = "gpu"
            case State.HOST | "restoring":
                location = "cpu"
            case _:
                location = "unloaded"
        return cls(
            **status.model_dump(),
            model_location=location,
            idle_time=status.idle_s or 0.0,
            timeout=timeout,
            ready_state=ready_state,
            allocated=status.worker_gpu_mb,
            reserved=status.worker_gpu_mb,
        )


class TransitionAnswer(Transition):
    """The answer of `POST /gpu/offload` and `POST /gpu/release`."""

    success: Literal[True] = True


class ModeAnswer(_Shape):
    name: str
    purpose: str
    needs: Annotated[str, Field(description="the field that this mode cannot do without")]
    locates: Annotated[bool, Field(description="whether its text comes with boxes")]
    markdown: Annotated[bool, Field(description="whether its text is Markdown")]
    available: bool
    why_not: str


class Limits(_Shape):
    max_file_mb: int
    max_pages: int
    max_queue: int


class Modes(_Shape):
    """The answer of `GET /modes`: modes, resolutions, limits and version of this server."""

    modes: list[ModeAnswer]
    resolutions: list[str]
    engine: str
    engine_reason: str
    engine_titles: Annotated[dict[str, str], Field(description="names for people, by the `engine` of a page")]
    exports: Annotated[list[str], Field(description="the formats of POST /export")]
    limits: Limits
    auth: bool
    version: str


class PagePicture(_Shape):
    page: int
    data: Annotated[str, Field(description="a data: URI")]


class PageImages(_Shape):
    """The answer of `POST /pdf-to-images`."""

    success: Literal[True] = True
    images: list[PagePicture]
    page_count: int


def as_dict(model: BaseModel) -> dict[str, Any]:
    """The model for JSON. Fields without a value are left out, except those that the first service always sent."""
    data = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(model, StatusAnswer):
        data |= {"allocated": model.allocated, "reserved": model.reserved}
    clean: dict[str, Any] = well_formed_values(data)
    return clean


def as_json(model: BaseModel) -> bytes:
    """`as_dict` as bytes."""
    return json.dumps(as_dict(model), separators=(",", ":"), ensure_ascii=False).encode()


def failure(error: OcrError, status: int | None = None) -> Response:
    """The HTTP answer for an error."""
    return Response(
        json.dumps(error_body(error)),
        status_code=status or error.http_status,
        headers=error_headers(error),
        media_type="application/json",
    )

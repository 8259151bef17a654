"""Requests and answers. They are the same at every edge: MCP, HTTP, command line.

The schemas of the tools show the descriptions of these fields, so write them for an agent. A box is
`[x1, y1, x2, y2]` in pixels of the upright page; the origin is the top left corner.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)

from .modes import (
    DEFAULT_MODE,
    DEFAULT_RESOLUTION,
    DEFAULT_TEXT_LAYER,
    MODES,
    PLAIN_MODE,
    RESOLUTIONS,
    TEXT_LAYERS,
    meant_mode,
    meant_resolution,
    meant_text_layer,
)

__all__ = [
    "MAX_PICTURE_SIDE",
    "MIN_PICTURE_SIDE",
    "PICTURE_SIDE",
    "Block",
    "Box",
    "BoxDetail",
    "Doing",
    "Endpoint",
    "EndpointState",
    "Entry",
    "Failure",
    "FilesWritten",
    "FindTerm",
    "Folder",
    "Gpu",
    "GpuStatus",
    "Note",
    "NoteCode",
    "OcrRequest",
    "OcrResult",
    "Page",
    "PageRange",
    "ReadingArguments",
    "State",
    "Timing",
    "Transition",
    "WordBox",
    "WorkerStatus",
]

Box = Annotated[list[int], Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels, origin top left")]
Finish = Literal["stop", "length", "loop", "cancelled", "failed"]

BoxDetail = Literal["none", "lines", "words"]
"""How much of a page comes with boxes: nothing, each line or other piece of text, or also each word."""

NoteCode = Literal[
    "blank",  # no text was found on these pages
    "not_found",  # the term of a search does not stand on these pages
    "not_read",  # the engine could not read all of these pages; the text says what is missing
    "page_failed",  # these pages could not be drawn or read; the others are answered
    "stopped",  # reading ended before these pages; the text says why
    "no_text_layer",  # text_layer=only, and these pages hold no text that can be trusted
    "layer_incomplete",  # the text of these pages is their own, or partly; the text says what is missing or uncertain
    "not_opened",  # the document holds more than its pages: attached files, a form that only another program shows
    "codes",  # QR codes and barcodes were read; their content is in the text
    "fallback",  # another engine read these pages
    "argument_unused",  # an argument had no effect
    "cut",  # the text of a page was cut at max_chars
    "more",  # pages are left: next_pages names them
    "contents",  # a table of contents of a document that does not fit
    "saved",  # a file was written
    "files",  # the files of a folder, or the state of reading them
    "left_out",  # names in a folder that were not read, and why
]
"""What a note is about. Codes are stable: programs may rely on them. docs/tools.md lists them."""


MIN_PICTURE_SIDE: Final = 64
PICTURE_SIDE: Final = 1600
MAX_PICTURE_SIDE: Final = 2400
"""Pixels of the longer side of a page's picture: the least and the most that may be asked for, and in between a picture
that is sharp on a large screen. `edges/web/js/viewer.js` has the last two, too; a test holds them equal."""


class State(StrEnum):
    """Where the weights are."""

    UNLOADED = "unloaded"  # no child process, nothing held
    HOST = "host"  # in host memory, child alive; an engine on the CPU reads in this state
    GPU = "gpu"
    CLOSED = "closed"  # the server is shutting down


Doing = Literal["loading", "offloading", "restoring", "releasing"]
"""A move of the model in progress. It shows in the place of the state."""

EndpointState = Doing | Literal["unasked", "ready", "resting", "asleep", "out"]
"""The state of an endpoint of `OCR_ENGINE=openai`. `resting`: it asked for a pause. `out`: it cannot read."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _number_text(value: Any) -> Any:
    """A number as text, a whole number without a decimal point. Other values come back as they are."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _name_text(value: Any) -> Any:
    """A name as text, from a number, a truth value, or a list of one of these."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return str(value).lower() if isinstance(value, bool) else _number_text(value)


Name = Annotated[str, BeforeValidator(_name_text)]
"""A name out of a list of names. `resolution=1024` and `text_layer=false` are understood."""


_RANGE_ENDS: Final = (
    ("from", "to"), ("start", "end"), ("first", "last"), ("begin", "end"), ("start_page", "end_page"), ("min", "max"),
)  # fmt: skip
_RANGE_KEYS: Final = ("pages", "page", "range", "number")
MAX_RANGE_DEPTH: Final = 4


def _range_text(value: Any, depth: int = 0) -> Any:
    """A page range as text: from 2, [1, 2], [[1, 3]], {"from": 1, "to": 3}, {"page": 2}, "1;"."""
    if isinstance(value, str):
        return _separated_by_commas(value, depth)
    if depth > MAX_RANGE_DEPTH:
        raise ValueError('write pages like "1-3,7"')
    if isinstance(value, (list, tuple)):
        return ",".join(str(_range_text(part, depth + 1)) for part in value)
    if isinstance(value, dict):
        return _range_of_object(value, depth + 1)
    return value if isinstance(value, float) and not value.is_integer() else _number_text(value)


def _separated_by_commas(text: str, depth: int) -> str:
    """The text of a range with commas alone between its parts; of an object as JSON, the range that it means."""
    if text.lstrip()[:1] == "{" and depth <= MAX_RANGE_DEPTH:
        try:
            return str(_range_text(json.loads(text), depth + 1))
        except (ValueError, RecursionError):
            return text
    return text.replace(";", ",").strip(", \n\t") or text


def _range_of_object(value: dict[Any, Any], depth: int) -> str:
    """The range of an object with a first and a last page, or with one page or range."""
    given = {str(key).lower(): each for key, each in value.items() if each is not None}
    for first, last in _RANGE_ENDS:
        if given and given.keys() <= {first, last}:
            return "-".join(str(_range_text(given.get(end, ""), depth)) for end in (first, last))
    if len(given) == 1 and (key := next(iter(given))) in _RANGE_KEYS:
        return str(_range_text(given[key], depth))
    raise ValueError('write pages like "1-3,7"')


PageRange = Annotated[str, BeforeValidator(_range_text)]
"""The text of a page range. Numbers, lists and objects that mean one become such a text."""


def _term_text(value: Any) -> Any:
    """A term as text: a number, or a list of texts and numbers, which becomes a JSON list."""
    if isinstance(value, (list, tuple)):
        terms = [_number_text(each) for each in value]
        if not all(isinstance(each, str) for each in terms):
            raise ValueError('write find_term like "Total", or like ["Total", "Sum"] to find any of them')
        return terms[0] if len(terms) == 1 else json.dumps(terms, ensure_ascii=False) if terms else ""
    return _number_text(value)


FindTerm = Annotated[str, BeforeValidator(_term_text)]
"""The words to find, a pattern between slashes, or a JSON list of these, of which any is to be found."""


_BOX_DETAILS: Final[dict[str, BoxDetail]] = {
    **dict.fromkeys(("", "0", "false", "no", "off"), "none"),
    **dict.fromkeys(("1", "true", "yes", "on", "line"), "lines"),
    "word": "words",
}
"""Other values of `boxes`: it was a truth value once."""


def _box_detail(value: Any) -> Any:
    """The level of detail that a value of `boxes` means. An unknown value comes back as it is."""
    if not isinstance(value, (str, bool, int)):
        return value
    name = str(value).strip().lower()
    return _BOX_DETAILS.get(name, name)


_IMAGE = """\
Absolute path (/home/me/scan.pdf, C:\\scans\\a.png) or file:// URI of an image or PDF; base64 or data: URI for \
programs; https:// where allowed. A folder or /scans/**/*.pdf: lists its files."""


class ReadingArguments(_Model):
    """How a document is read: the arguments that every edge takes, with their types, defaults and descriptions.

    They are checked for type only; the service checks their meaning.
    """

    mode: Annotated[
        Name,
        Field(
            description="; ".join(f"{mode.name}: {mode.purpose}" for mode in MODES.values()) + ".",
            json_schema_extra={"enum": list(MODES), "default": DEFAULT_MODE},
        ),
    ] = ""
    find_term: Annotated[
        FindTerm,
        Field(description="Words to locate, a list (any of them), or a pattern: /INV-[0-9]+/."),
    ] = ""
    custom_prompt: Annotated[str, Field(description="What mode freeform asks about the page.")] = ""
    pages: Annotated[PageRange, Field(description="Like 1-3,7 or 5- or last. Empty: all.")] = ""
    resolution: Annotated[
        Name,
        Field(
            description="tiny to large (512 to 1280 pixels) are faster and coarser than auto.",
            json_schema_extra={"enum": list(RESOLUTIONS)},
        ),
    ] = DEFAULT_RESOLUTION
    text_layer: Annotated[
        Name,
        Field(
            description="auto: PDF pages give their own sound text, exact and at once; ignore: read all; only: none.",
            json_schema_extra={"enum": list(TEXT_LAYERS)},
        ),
    ] = DEFAULT_TEXT_LAYER
    boxes: Annotated[
        BoxDetail,
        BeforeValidator(_box_detail),
        Field(description="lines: also each piece of text with its box in page pixels; words: each word, too."),
    ] = "none"
    annotate: Annotated[bool, Field(description="Also an image of the page with its boxes (first 5 pages).")] = False
    max_chars: Annotated[
        int, Field(ge=0, description="Longest text to return; next_pages names the rest. 0: no limit.")
    ] = 20_000
    raw: Annotated[bool, Field(description="Also the text as the model wrote it, tags and all, page by page.")] = False


class OcrRequest(ReadingArguments):
    """The arguments of `ocr_image`, `ocr_to_files` and `ocr`, as the service takes them from every edge.

    It replaces the names that agents use for modes, resolutions and uses of the text layer by ours. A request without a
    mode gets the mode that its other arguments ask for. `notes` names each argument that this leaves without effect.
    """

    image: Annotated[str, Field(description=_IMAGE)]
    save_to: Annotated[
        str,
        Field(description="Absolute path; the suffix is the format. For a folder: a folder or /out/*.json."),
    ] = ""
    overwrite: Annotated[bool, Field(description="Replace files.")] = False
    upright: Annotated[bool, Field(description="Turn PDF pages upright.")] = False

    _notes: list[Note] = PrivateAttr(default_factory=list)

    @property
    def notes(self) -> list[Note]:
        """The arguments that have no effect, in sentences."""
        return list(self._notes)

    @model_validator(mode="after")
    def _in_our_words(self) -> Self:
        self.mode = meant_mode(self.mode, self.find_term, self.custom_prompt)
        self.resolution = meant_resolution(self.resolution)
        self.text_layer = meant_text_layer(self.text_layer)
        self._settle_mode()
        return self

    def _settle_mode(self) -> None:
        """Have other arguments decide against the default mode, which some clients fill in themselves.

        A term asks for a search. A text file gets text without markup.
        """
        if self.mode == DEFAULT_MODE and self.save_to.strip().lower().endswith(".txt"):
            self.mode = PLAIN_MODE
        if self.find_term.strip() and self.mode == DEFAULT_MODE:
            self.mode = "find"
            self.note_unused(
                f"mode={DEFAULT_MODE} was not used: find_term was searched for. Without find_term, the answer is the "
                "whole text."
            )
        elif self.find_term.strip() and self.mode != "find":
            self.note_unused(f'find_term was not used: only mode="find" looks for words, and the mode is {self.mode}.')
        if self.custom_prompt.strip() and self.mode != "freeform":
            self.note_unused(f'custom_prompt was not used: only mode="freeform" asks it, and the mode is {self.mode}.')

    def note_unused(self, text: str) -> None:
        """Add a sentence about an argument without effect."""
        self._notes.append(Note(code="argument_unused", text=text))


class WordBox(_Model):
    """A word of a block, and the box around its ink."""

    text: str
    box: Box


class Block(_Model):
    """A piece of a page."""

    label: Annotated[str, Field(description="title, table, figure …, or the words that were found")] = "line"
    text: str
    box: Box
    score: Annotated[float | None, Field(description="confidence, 0 to 1, where the engine has one")] = None
    source: Annotated[Literal["text_layer", "read"] | None, WithJsonSchema({"type": "string"})] = None
    """On a page whose source is mixed: which this is from."""
    angle: Annotated[float | None, WithJsonSchema({"type": "number"})] = None
    """Degrees clockwise in which its text runs on the page; None: level, from left to right. 90: downwards, on a page
    that lies on its side."""
    vertical: Annotated[Literal[True] | None, WithJsonSchema({"type": "boolean"})] = None
    """Its characters stand under each other, as in columns of Chinese and Japanese."""
    words: Annotated[list[WordBox] | None, WithJsonSchema({"type": "array"})] = None
    """Its words in reading order, with `boxes=words`."""


class Page(_Model):
    """One page that was read."""

    page: Annotated[int, Field(description="page number in the document, from 1")]
    width: Annotated[int, Field(description="pixels of the upright page")]
    height: int
    text: Annotated[str, Field(description="empty for a blank page")]
    blocks: list[Block] | None = None
    raw: Annotated[str | None, Field(description="the model's own text with its tags; in files only")] = None
    source: Annotated[
        Literal["text_layer", "mixed"] | None,
        Field(description="text_layer: the PDF's own text, exact; mixed: part of it; absent: the engine's"),
    ] = None
    turn: Annotated[int | None, WithJsonSchema({"type": "integer"})] = None
    """Degrees clockwise, 90, 180 or 270, by which the page has to be turned to be upright; None: it is."""
    finish: Annotated[
        Finish,
        Field(description="stop: read to its end; length, loop, cancelled: cut, and why; failed: not read, see notes"),
    ] = "stop"


class Timing(_Model):
    """The seconds of a call, by cause."""

    queued_s: Annotated[float, Field(description="waiting for other requests")] = 0.0
    load_s: Annotated[float, Field(description="starting or restoring the model; 0 when it was ready")] = 0.0
    infer_s: Annotated[float, Field(description="reading")] = 0.0
    total_s: float = 0.0


class Note(_Model):
    """A sentence about whatever limits an answer, or about how to go on.

    An answer without notes is complete.
    """

    code: Annotated[NoteCode, WithJsonSchema({"type": "string"})]  # the list would cost each list of tools 200 bytes
    text: str
    pages: Annotated[str, Field(description='the pages it is about, like "1-3,7"; empty: the whole answer')] = ""

    def __str__(self) -> str:
        if not self.pages:
            return self.text
        return f"Page{'s' if set(self.pages) & set(',-') else ''} {self.pages}: {self.text}"


class Entry(_Model):
    """One entry of the table of contents."""

    page: int
    heading: Annotated[str, Field(description="first heading or line of the page")]
    chars: int


class Failure(_Model):
    """A file of a folder that could not be read."""

    file: str
    error: str


class Folder(_Model):
    """The progress of a folder that is read as a whole, or the list of its files."""

    folder: str
    found: Annotated[int, Field(description="files that can be read")]
    read: Annotated[int, Field(description="read by this request so far")] = 0
    there: Annotated[int, Field(description="files not read, because their texts exist already")] = 0
    failed: int = 0
    left: Annotated[int, Field(description="files not read yet; to go on, call again with the same arguments")] = 0
    index: Annotated[str, Field(description="file that lists every document with its pages and its result")] = ""
    failures: Annotated[list[Failure] | None, Field(description="the first failures; the index has all")] = None
    files: Annotated[list[str] | None, Field(description="without save_to: the files, as paths from the folder")] = None


class OcrResult(_Model):
    """The answer of `ocr_image`."""

    text: Annotated[str, Field(description="all pages of this answer, in reading order")] = ""
    pages: list[Page]
    page_count: Annotated[int, Field(description="pages in the document")]
    mode: str
    engine: str
    model: str
    device: str
    truncated: Annotated[bool, Field(description="true: the text was cut at max_chars or pages are left")] = False
    next_pages: Annotated[str, Field(description="give this as pages to go on; empty: no page is left")] = ""
    next_max_chars: Annotated[
        int | None, Field(description="give this as max_chars, with the same pages, for the whole of what was cut")
    ] = None
    contents: Annotated[
        list[Entry] | None,
        Field(description="where not all fits: the pages that are read by now"),
    ] = None
    cached: Annotated[Literal[True] | None, Field(description="true: every page comes from the cache")] = None
    saved_to: Annotated[str, Field(description="the file or the folder that was written")] = ""
    folder: Annotated[Folder | None, Field(description="set where image names a folder or a pattern")] = None
    notes: Annotated[list[Note], Field(description="what limits this answer, and how to go on")] = Field(
        default_factory=list
    )
    timing: Timing = Field(default_factory=Timing)


class FilesWritten(_Model):
    """The answer of `ocr_to_files`."""

    # Its list in an agent's list of tools has no room for more: ocr_image describes notes and timing.

    saved_to: Annotated[str, Field(description="the file or the folder that was written; empty: not yet")] = ""
    finished: Annotated[bool, Field(description="false: call again with the same arguments to go on")]
    pages_read: Annotated[int, Field(description="pages that were read for it")]
    chars: Annotated[int, Field(description="characters of their text")]
    page_count: Annotated[int, Field(description="pages in the document")]
    mode: str
    engine: str
    folder: Annotated[Folder | None, WithJsonSchema({"type": "object"})] = None
    """Set where `image` names a folder or a pattern."""
    notes: Annotated[list[Note], WithJsonSchema({"type": "array", "items": {"type": "object"}})] = Field(
        default_factory=list
    )
    """What limits the text in the file, and how to go on."""
    timing: Annotated[Timing, WithJsonSchema({"type": "object"})] = Field(default_factory=Timing)


class Gpu(_Model):
    """One card, as NVML sees it. Memory in MiB."""

    index: Annotated[int, Field(description="PCI bus order, as nvidia-smi counts")]
    uuid: str
    name: str
    memory_total_mb: int
    memory_used_mb: int
    memory_free_mb: int
    utilization: Annotated[int | None, Field(description="percent; null where the card does not say (MIG)")] = None


class Endpoint(_Model):
    """Another server that reads pages for this one."""

    url: str
    model: str
    state: Annotated[EndpointState, Field(description="resting: it asked for a pause; out: asked again later")]
    in_flight: Annotated[int, Field(description="pages that the endpoint has now")]
    served: int
    failures: int
    last_error: str = ""
    next_check_s: Annotated[float | None, Field(description="seconds until the server asks it again")] = None


class WorkerStatus(_Model):
    """One of several workers. Each card has one."""

    card: Annotated[str, Field(description="UUID of its card, or cpu")]
    state: State | Doing
    retry_in_s: Annotated[
        float | None, Field(description="seconds until a failed worker is tried again; null: it serves")
    ] = None
    pid: int | None = None
    gpu_mb: int | None = None
    host_mb: int | None = None
    idle_s: float | None = None
    offload_in_s: float | None = None
    release_in_s: float | None = None
    queue: Annotated[int, Field(description="pages that it has and has not read yet")] = 0
    served: int = 0
    restarts: int = 0
    last_error: str = ""


class GpuStatus(_Model):
    """The answer of `gpu_status`. It never waits for a page that is being read."""

    engine: str
    engine_reason: Annotated[str, Field(description="why this engine was chosen")]
    model: str
    modes: list[str]
    state: Annotated[
        State | Doing,
        Field(description="unloaded: no weights held; host: weights in host memory; gpu: on the device that reads"),
    ]
    device: str
    gpus: list[Gpu]
    gpu_note: Annotated[str, Field(description="why no card is listed")] = ""
    worker_pid: int | None = None
    prewarmed: Annotated[
        bool, Field(description="a worker waits with its libraries imported; it holds no GPU memory")
    ] = False
    download_percent: Annotated[float | None, Field(description="percent of the weights, during a download")] = None
    worker_gpu_mb: Annotated[int | None, Field(description="MiB that the worker holds on its card")] = None
    worker_host_mb: Annotated[int | None, Field(description="MiB of host memory that the worker holds")] = None
    unreturned_mb: Annotated[
        int | None, Field(description="MiB that an ended worker held and that its card still lacks; null: none")
    ] = None
    idle_s: Annotated[float | None, Field(description="seconds since the last request ended; null while one runs")] = (
        None
    )
    offload_in_s: Annotated[float | None, Field(description="null: not due")] = None
    release_in_s: Annotated[float | None, Field(description="null: not due")] = None
    queue: Annotated[int, Field(description="requests that hold a place now, the running ones included")]
    served: Annotated[int, Field(description="pages read since the server started")]
    worker_restarts: Annotated[int, Field(description="workers that died or were killed while they worked")] = 0
    last_error: str = ""
    workers: Annotated[
        list[WorkerStatus] | None,
        WithJsonSchema({"type": "array"}),  # no room for more in an agent's list of tools; `GET /gpu/status` has all
    ] = None
    """Each of several workers; the other fields are their sum. None: there is one worker."""
    endpoints: Annotated[list[Endpoint] | None, WithJsonSchema({"type": "array"})] = None
    """Each endpoint. None: the model is on this machine."""


class Transition(_Model):
    """The answer of `gpu_offload` and `gpu_release`."""

    from_state: Annotated[State, Field(serialization_alias="from", validation_alias="from")]
    to_state: Annotated[State, Field(serialization_alias="to", validation_alias="to")]
    seconds: float
    freed_mb: Annotated[
        int | None, Field(description="MiB that came back to the card, as NVML saw it; null: no card")
    ] = None
    message: Annotated[str, Field(description="the result, as a sentence")]

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

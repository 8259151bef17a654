"""What goes in and what comes out, the same at every edge: MCP, HTTP, CLI.

Field descriptions end up in the tools' schemas: they are written for an agent that reads them.
Boxes are `[x1, y1, x2, y2]` in pixels of the upright original page, origin top left.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from .modes import meant_mode, meant_resolution, meant_text_layer

__all__ = [
    "Block",
    "Box",
    "Doing",
    "Endpoint",
    "EndpointState",
    "Entry",
    "Failure",
    "Folder",
    "Gpu",
    "GpuStatus",
    "OcrRequest",
    "OcrResult",
    "Page",
    "PageRange",
    "State",
    "Timing",
    "Transition",
    "WorkerStatus",
]

Box = Annotated[list[int], Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels, origin top left")]
Finish = Literal["stop", "length", "loop", "cancelled"]


class State(StrEnum):
    """Where the weights are."""

    UNLOADED = "unloaded"  # no child process, nothing held
    HOST = "host"  # in host memory, child alive; a CPU engine that is ready to read is here
    GPU = "gpu"
    CLOSED = "closed"  # the server is shutting down


Doing = Literal["loading", "offloading", "restoring", "releasing"]
"""What is being done about the state; shown in its place while it lasts."""

EndpointState = Doing | Literal["unasked", "ready", "resting", "asleep", "out"]
"""How an endpoint of `OCR_ENGINE=openai` is: it said "not now" (resting), it cannot read (out)."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _range_text(value: Any) -> Any:
    """Page numbers that are given as numbers: 2, [1, 2], [[1, 3]]."""
    if isinstance(value, (list, tuple)):
        return ",".join(str(_range_text(part)) for part in value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


PageRange = Annotated[str, BeforeValidator(_range_text)]
"""The text of a page range; numbers and lists of them are taken as one."""


class OcrRequest(_Model):
    """The arguments of `ocr_image`, checked for type only; meaning is checked by the service.

    Names of modes, resolutions and uses of the text layer that agents use instead of ours are ours
    afterwards. A request that names no mode has the one that its other arguments ask for.
    """

    image: str
    mode: str = ""
    find_term: str = ""
    custom_prompt: str = ""
    pages: PageRange = ""
    resolution: str = ""
    text_layer: str = ""
    boxes: bool = False
    annotate: bool = False
    max_chars: Annotated[int, Field(ge=0)] = 20_000
    save_to: str = ""
    overwrite: bool = False
    raw: bool = False

    @model_validator(mode="after")
    def _in_our_words(self) -> Self:
        self.mode = meant_mode(self.mode, self.find_term, self.custom_prompt)
        self.resolution = meant_resolution(self.resolution)
        self.text_layer = meant_text_layer(self.text_layer)
        return self


class Block(_Model):
    """A piece of a page."""

    label: Annotated[str, Field(description="title, table, figure …, or the term that was found")] = "line"
    text: str
    box: Box
    score: Annotated[float | None, Field(description="confidence, 0 to 1, where the engine has one")] = None
    source: Annotated[Literal["text_layer", "read"] | None, WithJsonSchema({"type": "string"})] = None
    """On a page whose source is mixed: which this is from."""


class Page(_Model):
    """One page, as read."""

    page: Annotated[int, Field(description="page number in the document, from 1")]
    width: Annotated[int, Field(description="pixels of the upright page")]
    height: int
    text: Annotated[str, Field(description="empty for a blank page")]
    blocks: list[Block] | None = None
    raw: Annotated[str | None, Field(description="what the model wrote, tags and all; in files only")] = None
    source: Annotated[
        Literal["text_layer", "mixed"] | None,
        Field(description="text_layer: the PDF's own, exact; mixed: part; none: read"),
    ] = None
    finish: Annotated[Finish, Field(description="stop: read to its end; length, loop, cancelled: cut, and why")] = (
        "stop"
    )


class Timing(_Model):
    """Where the seconds of a call went."""

    queued_s: Annotated[float, Field(description="waiting for the requests before this one")] = 0.0
    load_s: Annotated[float, Field(description="starting or restoring the model; 0 when it was ready")] = 0.0
    infer_s: Annotated[float, Field(description="reading")] = 0.0
    total_s: float = 0.0


class Entry(_Model):
    """A line of the table of contents."""

    page: int
    heading: Annotated[str, Field(description="its first heading or line")]
    chars: int


class Failure(_Model):
    """A file of a folder that could not be read."""

    file: str
    error: str


class Folder(_Model):
    """How far a folder is that is read as a whole, or what there is in it."""

    folder: str
    found: Annotated[int, Field(description="files that can be read")]
    read: Annotated[int, Field(description="read by this request so far")] = 0
    there: Annotated[int, Field(description="not read: their texts were there already")] = 0
    failed: int = 0
    left: Annotated[int, Field(description="not read yet: to go on, call again with the same arguments")] = 0
    index: Annotated[str, Field(description="file that lists every document, its pages and what became of it")] = ""
    failures: Annotated[list[Failure] | None, Field(description="the first of them; the index has all")] = None
    files: Annotated[list[str] | None, Field(description="without save_to: the files, relative to the folder")] = None


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
    next_pages: Annotated[str, Field(description="give this as pages to go on; empty: nothing is left")] = ""
    contents: Annotated[
        list[Entry] | None,
        Field(description="where not all fits: what is on the pages read by now"),
    ] = None
    cached: Annotated[Literal[True] | None, Field(description="true: all of this was read before")] = None
    saved_to: Annotated[str, Field(description="the file or the folder that was written")] = ""
    folder: Annotated[Folder | None, Field(description="where image named a folder or a pattern")] = None
    timing: Timing = Field(default_factory=Timing)


class Gpu(_Model):
    """One card, as NVML sees it. Memory in MiB."""

    index: Annotated[int, Field(description="PCI bus order, as nvidia-smi counts")]
    uuid: str
    name: str
    memory_total_mb: int
    memory_used_mb: int
    memory_free_mb: int
    utilization: Annotated[int | None, Field(description="percent; null where the card cannot tell (MIG)")] = None


class Endpoint(_Model):
    """A server elsewhere that reads pages for this one."""

    url: str
    model: str
    state: Annotated[EndpointState, Field(description="resting: it asked for a pause; out: asked again later")]
    in_flight: Annotated[int, Field(description="pages that it has now")]
    served: int
    failures: int
    last_error: str = ""
    next_check_s: Annotated[float | None, Field(description="seconds until it is asked again")] = None


class WorkerStatus(_Model):
    """One of several workers; there is one for each card."""

    card: Annotated[str, Field(description="UUID of its card, or cpu")]
    state: State | Doing
    retry_in_s: Annotated[
        float | None, Field(description="it failed: seconds until it may be tried again; null: it serves")
    ] = None
    pid: int | None = None
    gpu_mb: int | None = None
    host_mb: int | None = None
    idle_s: float | None = None
    offload_in_s: float | None = None
    release_in_s: float | None = None
    queue: Annotated[int, Field(description="pages it was given and has not read yet")] = 0
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
    gpu_note: Annotated[str, Field(description="why no card is listed, if none is")] = ""
    worker_pid: int | None = None
    prewarmed: Annotated[
        bool, Field(description="a worker waits with its libraries imported; it holds no GPU memory")
    ] = False
    download_percent: Annotated[float | None, Field(description="how far the weights are, while they are fetched")] = (
        None
    )
    worker_gpu_mb: Annotated[int | None, Field(description="MiB the worker holds on its card")] = None
    worker_host_mb: Annotated[int | None, Field(description="MiB of host memory the worker holds")] = None
    unreturned_mb: Annotated[
        int | None, Field(description="MiB that an ended worker held and that its card still lacks; null: none")
    ] = None
    idle_s: Annotated[float | None, Field(description="seconds since the last request ended; null while one runs")] = (
        None
    )
    offload_in_s: Annotated[float | None, Field(description="null: not due")] = None
    release_in_s: Annotated[float | None, Field(description="null: not due")] = None
    queue: Annotated[int, Field(description="requests that hold a place now, the running one included")]
    served: Annotated[int, Field(description="pages read since the server started")]
    worker_restarts: Annotated[int, Field(description="workers that died or were killed while they worked")] = 0
    last_error: str = ""
    workers: Annotated[
        list[WorkerStatus] | None,
        WithJsonSchema({"type": "array"}),  # no room for more in an agent's list of tools; `GET /gpu/status` has all
    ] = None
    """Each of several workers, which the rest sums up; None: there is one."""
    endpoints: Annotated[list[Endpoint] | None, WithJsonSchema({"type": "array"})] = None
    """Each that reads for this server; None: the model is on this machine."""


class Transition(_Model):
    """The answer of `gpu_offload` and `gpu_release`."""

    from_state: Annotated[State, Field(serialization_alias="from", validation_alias="from")]
    to_state: Annotated[State, Field(serialization_alias="to", validation_alias="to")]
    seconds: float
    freed_mb: Annotated[
        int | None, Field(description="MiB that came back to the card, as NVML saw it; null: no card")
    ] = None
    message: Annotated[str, Field(description="what was done, in a sentence")]

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

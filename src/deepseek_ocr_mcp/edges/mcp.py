"""The four tools over MCP, for both protocol eras and both transports.

Every failure is an answer with `isError` whose text says what happened and what to do; none ends
the session. Unknown arguments are refused: an agent that misspells one learns it at once.
"""

from __future__ import annotations

import base64
import logging
from typing import Annotated, Any, Final

from mcp.server.caching import CacheHint
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, ContentBlock, Icon, ImageContent, TextContent, ToolAnnotations
from pydantic import BaseModel, Field, ValidationError

from .. import __version__
from ..errors import OcrError
from ..logs import fields, request
from ..models import GpuStatus, OcrRequest, OcrResult, Transition
from ..modes import DEFAULT_MODE, DEFAULT_RESOLUTION, MODES, RESOLUTIONS
from ..service import LOCAL, OcrService

__all__ = ["build_mcp"]

log = logging.getLogger(__name__)

INSTRUCTIONS: Final = """\
Reads text from images, scans and PDFs. Use ocr_image whenever the text of a picture, a scanned page, \
a screenshot, a receipt or a PDF is needed; give it an absolute path where you can. The first call may \
take some seconds while the model loads. gpu_status, gpu_offload and gpu_release manage the memory that \
the model holds; it is given back by itself when nobody reads, so you rarely need them."""

ICON: Final = (
    "data:image/svg+xml;base64,"
    + base64.b64encode(
        # Tiny: in the 2026-07-28 era it travels with every answer.
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path d="M1 2h6M1 4h6M1 6h4" stroke="#25e"/></svg>'
    ).decode()
)

MAX_RESULT_CHARS: Final = 200_000
"""Claude Code moves longer tool results into a file unless the tool asks for more room."""

_IMAGE = """\
The page to read: an absolute path (/home/me/scan.pdf, C:\\scans\\a.png) or file:// URI; a data: URI or \
base64 for programs; an https:// address where the operator allows it. PNG, JPEG, WebP, GIF, BMP, TIFF, \
JPEG 2000, AVIF, HEIC or PDF."""
_MODE = "What to do. " + "; ".join(f"{mode.name}: {mode.purpose}" for mode in MODES.values()) + "."
_PAGES = 'Pages of a PDF or TIFF, like "1-3,7", "5-" or "last". Empty: all.'
_MAX_CHARS = """\
Longest text to return; the answer then names next_pages to go on with. 0: no limit."""
_SAVE_TO = """\
Absolute path of a file to write the whole text to (.md, .txt, or .json with boxes). \
Never replaces a file unless overwrite is true."""


class _StrictTool(Tool):
    """A tool that refuses unknown arguments and says what is wrong in its own words."""

    async def run(self, arguments: dict[str, Any], context: Any, convert_result: bool = False) -> Any:
        known = self.parameters["properties"]
        if unknown := sorted(arguments.keys() - known.keys()):
            raise ToolError(
                f"{self.name} has no argument {', '.join(map(_short, unknown))}. "
                + (f"It takes {', '.join(known)}." if known else "It takes none.")
            )
        try:
            with request():
                return await super().run(arguments, context, convert_result)
        except ToolError as exc:
            cause = exc.__cause__
            if isinstance(cause, OcrError):
                log.info("A tool refused.", extra=fields(tool=self.name, error=cause.code))
                raise ToolError(str(cause)) from cause
            if isinstance(exc, UnexpectedToolError):
                raise UnexpectedToolError(
                    f"{self.name} failed in a way nobody foresaw ({type(cause).__name__}). The server goes on; "
                    "its log on stderr has the details."
                ) from cause
            if isinstance(cause, ValidationError):
                # pydantic's own text repeats the input, which may be a whole image
                problems = "; ".join(f"{_short(e['loc'][0])}: {e['msg']}" for e in cause.errors() if e["loc"])
                raise ToolError(f"{self.name} cannot use these arguments. {problems}.") from cause
            raise


def _short(name: object) -> str:
    text = str(name)
    return repr(text if len(text) <= 40 else text[:37] + "…")


def _structured(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def build_mcp(service: OcrService, *, local: bool) -> MCPServer:
    """An MCP server for this service.

    Args:
        local: whether its callers sit on this machine (stdio): then `image` may be any path that
            `OCR_ALLOWED_DIRS` does not keep out. Otherwise only paths inside `OCR_ALLOWED_DIRS`.
    """
    default_mode = DEFAULT_MODE

    async def ocr_image(
        ctx: Context,
        image: Annotated[str, Field(description=_IMAGE)],
        mode: Annotated[str, Field(description=_MODE, json_schema_extra={"enum": list(MODES)})] = default_mode,
        find_term: Annotated[str, Field(description="Mode find: the words to locate.")] = "",
        custom_prompt: Annotated[str, Field(description="Mode freeform: what to ask about the page.")] = "",
        pages: Annotated[str, Field(description=_PAGES)] = "",
        resolution: Annotated[
            str,
            Field(
                description="auto fits the page. tiny to large read it shrunk to 512 to 1280 pixels: faster, coarser.",
                json_schema_extra={"enum": list(RESOLUTIONS)},
            ),
        ] = DEFAULT_RESOLUTION,
        boxes: Annotated[
            bool,
            Field(description="Also return every piece of text with its box in pixels of the upright page."),
        ] = False,
        annotate: Annotated[
            bool, Field(description="Also return the page as an image with its boxes drawn (first 5 pages).")
        ] = False,
        max_chars: Annotated[int, Field(ge=0, description=_MAX_CHARS)] = 20_000,
        save_to: Annotated[str, Field(description=_SAVE_TO)] = "",
        overwrite: Annotated[bool, Field(description="Whether save_to may replace a file.")] = False,
    ) -> Annotated[CallToolResult, OcrResult]:
        request = OcrRequest(
            image=image,
            mode=mode,
            find_term=find_term,
            custom_prompt=custom_prompt,
            pages=pages,
            resolution=resolution,
            boxes=boxes,
            annotate=annotate,
            max_chars=max_chars,
            save_to=save_to,
            overwrite=overwrite,
        )
        answer = await service.read(
            request,
            local=local,
            client=LOCAL if local else _client(ctx),
            reply_s=service.settings.ocr_reply_seconds,
            on_progress=ctx.report_progress,
        )
        content: list[ContentBlock] = []
        if answer.result.text:
            content.append(TextContent(type="text", text=answer.result.text))
        if answer.notes or not content:
            content.append(TextContent(type="text", text="\n".join(answer.notes) or "No text was found."))
        content += [
            ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type=mime)
            for data, mime in answer.images
        ]
        return CallToolResult(content=content, structured_content=_structured(answer.result))

    async def gpu_status() -> Annotated[CallToolResult, GpuStatus]:
        status = await service.status()
        return CallToolResult(
            content=[TextContent(type="text", text=status.model_dump_json(exclude_none=True))],
            structured_content=_structured(status),
        )

    async def gpu_offload() -> Annotated[CallToolResult, Transition]:
        return _moved(await service.offload())

    async def gpu_release(
        force: Annotated[
            bool,
            Field(description="Stop what is being read instead of waiting for it; its caller gets an error."),
        ] = False,
    ) -> Annotated[CallToolResult, Transition]:
        return _moved(await service.release(force))

    def tool(fn: Any, title: str, description: str, *, changes: bool, destroys: bool = False, world: bool = False,
             meta: dict[str, Any] | None = None) -> Tool:  # fmt: skip
        made = _StrictTool.from_function(
            fn,
            title=title,
            description=description,
            annotations=ToolAnnotations(
                title=title,
                read_only_hint=not changes,
                destructive_hint=destroys,
                idempotent_hint=True,
                open_world_hint=world,
            ),
            meta=meta,
        )
        made.parameters["additionalProperties"] = False
        return made

    able = ", ".join(mode for mode in MODES if mode in service.engine.modes)
    return MCPServer(
        "deepseek-ocr",
        title="DeepSeek OCR",
        version=__version__,
        instructions=INSTRUCTIONS,
        icons=[Icon(src=ICON, mime_type="image/svg+xml", sizes=["any"])],
        log_level="ERROR",
        cache_hints={"tools/list": CacheHint(ttl_ms=3_600_000, scope="public")},
        tools=[
            tool(
                ocr_image,
                "Read text from an image or PDF",
                "Read the text of an image, a scan or a PDF, in reading order. Call it whenever you need what a "
                "picture or a scanned document says. For a long document, go on with the returned next_pages. "
                "Use mode find with find_term to locate words, boxes=true for positions, and save_to to write a "
                f"long text to a file instead of returning it. Modes of the engine in use: {able}.",
                changes=True,
                destroys=True,  # save_to with overwrite=true replaces a file
                world=service.settings.ocr_allow_urls,
                meta={"anthropic/maxResultSizeChars": MAX_RESULT_CHARS},
            ),
            tool(
                gpu_status,
                "Show the model and the GPUs",
                "Which engine reads, where its model is (unloaded, host memory, gpu), how much memory each GPU has "
                "free, how many requests wait, and when the memory will be given back. Answers at once, always.",
                changes=False,
            ),
            tool(
                gpu_offload,
                "Move the model off the GPU",
                "Take the model's weights off the GPU and keep them in host memory, so that another program can use "
                "the card; the next ocr_image brings them back. Waits for the page being read. Happens by itself "
                "when nobody reads.",
                changes=True,
            ),
            tool(
                gpu_release,
                "Give all memory back",
                "End the model's process and give back all its GPU and host memory; the next ocr_image loads it "
                "again. Waits for the page being read, unless force is true.",
                changes=True,
                destroys=True,
            ),
        ],
    )


def _client(ctx: Context) -> str:
    """Who asks, over HTTP: the session; in the era that has none, the address."""
    if session := (ctx.headers or {}).get("mcp-session-id"):
        return f"mcp {session}"
    address = getattr(ctx.request_context.request, "client", None)
    return f"http {address[0]}" if address else "http"


def _moved(transition: Transition) -> CallToolResult:
    freed = "" if transition.freed_mb is None else f" {transition.freed_mb} MiB came back to the card."
    return CallToolResult(
        content=[
            TextContent(
                type="text",
                text=f"{transition.message}{freed} ({transition.from_state} → {transition.to_state}, "
                f"{transition.seconds:.2f} s)",
            )
        ],
        structured_content=_structured(transition),
    )

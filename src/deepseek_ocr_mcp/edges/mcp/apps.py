"""Serves the MCP App, in which a host shows pages with their boxes and their text, as the web page does.

The app is one HTML document, which is made of the web page's own files when a host asks for it; it fetches nothing. A
client that does not declare that it shows apps gets no tool, no resource and no word of it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Annotated, Any, Final

from mcp.server.apps import APP_MIME_TYPE, Apps, client_supports_apps
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resources import FunctionResource
from mcp.types import CallToolResult, ImageContent, ToolAnnotations
from pydantic import Field

from ... import __version__
from ...caller import Caller
from ...errors import BadRequest
from ...models import MAX_PICTURE_SIDE, MIN_PICTURE_SIDE, PICTURE_SIDE
from ...service.answer import Answer
from ...service.service import KeptDocument, OcrService
from ...service.store import ResultStore
from ...service.work import ENGINE_TITLES
from ..web_folder import WEB
from .arguments import StrictTool

__all__ = ["LINK", "MARKDOWN", "RESULT", "AppView", "bundled", "extension", "hide_from_others", "view_html"]


URI: Final = "ui://deepseek-ocr/view.html"
LINK: Final[dict[str, Any]] = {"ui": {"resourceUri": URI}}  # in the _meta of a tool: the app that shows its results
MARKDOWN: Final = "deepseek-ocr/markdown"  # in the _meta of an answer: whether its text is Markdown
RESULT: Final = "deepseek-ocr/result"  # in the _meta of an answer: its name, for ocr_page

WORDS: Final = {"blocks": {"__all__": {"words"}}}  # left out of a kept page, because the app shows lines

VIEW: Final = WEB / "view"
INSTEAD: Final = {WEB / "js" / "load.js": VIEW / "load.js"}  # the app may fetch nothing

_STYLE: Final = re.compile(r'<link rel="stylesheet" href="([^"]+)">')
_SCRIPT: Final = re.compile(r'<script( type="module")? src="([^"]+)"></script>')
_SPRITE: Final = re.compile(r'<svg class="sprite".*?</svg>(?=\n\n)', re.DOTALL)
_IMPORT: Final = re.compile(r'^import (?:(\w+)|\{([^}]*)\}) from "([^"]+)";$', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (default|(?:const|let|class|(?:async )?function) ([\w$]+))", re.MULTILINE)
_OTHER_FORM: Final = re.compile(r"^(?:import|export)\b.*|\bimport\(.*", re.MULTILINE)


def extension() -> Apps:
    """The extension of MCP with the app as a resource. The document is made when it is read."""
    apps = Apps()
    apps.add_resource(
        FunctionResource.from_function(
            view_html,
            uri=URI,
            name="view",
            title="Page, boxes and text",
            description="Shows the pages that ocr_image read, with their boxes and their text side by side.",
            mime_type=APP_MIME_TYPE,
            meta={
                "ui": {
                    "csp": {"connectDomains": [], "resourceDomains": []},  # it connects to no server
                    "permissions": {"clipboardWrite": {}},  # for its button "Copy"
                    "prefersBorder": False,
                }
            },
        )
    )
    return apps


async def hide_from_others(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware that takes the app out of the lists of tools and resources for clients that show no apps."""
    answer = await call_next(ctx)
    if ctx.method not in ("tools/list", "resources/list") or not isinstance(answer, dict) or client_supports_apps(ctx):
        return answer
    if ctx.method == "resources/list":
        return answer | {"resources": [each for each in answer["resources"] if each["uri"] != URI]}
    tools = []
    for tool in answer["tools"]:
        meta = dict(tool.pop("_meta", None) or {})
        if "model" in meta.pop("ui", {}).get("visibility", ["model"]):
            tools.append(tool | ({"_meta": meta} if meta else {}))
    return answer | {"tools": tools}


class AppView:
    """Keeps answers for the app, and shows their pages."""

    def __init__(self, service: OcrService, store: ResultStore[KeptDocument]) -> None:
        self._service = service
        self._store = store

    def store_answer(self, ctx: Context, answer: Answer) -> str:
        """Keep an answer for the app. Returns its name; "" if the client shows no apps, or if there is nothing to
        show."""
        if not answer.whole or not client_supports_apps(ctx):
            if answer.kept_document:
                answer.kept_document.let_go()
            return ""
        details = {page.page: page.model_dump_json(exclude_none=True, exclude=WORDS) for page in answer.whole}
        return self._store.put(
            {page.page: page.text for page in answer.whole},
            details={number: text.encode("utf-8", "replace") for number, text in details.items()},
            held=answer.kept_document,
        )

    def tool(self, callers: Callable[[Context], Caller]) -> StrictTool:
        """`ocr_page`, the tool that the app calls. Hosts do not offer it to their model.

        Args:
            callers: tells the caller of a call.
        """

        async def ocr_page(
            ctx: Context,
            result: Annotated[str, Field(description=f"_meta[{RESULT!r}] of an answer of ocr_image")],
            page: Annotated[int, Field(ge=1, description="its number in the document")],
            side: Annotated[
                int,
                Field(ge=MIN_PICTURE_SIDE, le=MAX_PICTURE_SIDE, description="longer side of the picture, in pixels"),
            ] = PICTURE_SIDE,
        ) -> CallToolResult:
            details = self._store.details(result, page)
            structured: dict[str, Any] = {"page": page}
            if details is not None:
                structured["read"] = json.loads(details)
            kept = self._store.held(result)
            if kept is None:
                return CallToolResult(content=[], structured_content=structured)
            with self._service.place(callers(ctx).name):
                async with self._service.opened(kept, callers(ctx).name) as document:
                    if page > document.page_count:
                        raise BadRequest(f"The document has {document.page_count} pages.", remedy="Name one of them.")
                    seen = await document.preview(page, side)
            structured |= {"width": seen.width, "height": seen.height}
            picture = ImageContent(type="image", data=base64.b64encode(seen.data).decode(), mime_type=seen.mime)
            return CallToolResult(content=[picture], structured_content=structured)

        title = "Show a page that was read"
        tool = StrictTool.from_function(
            ocr_page,
            title=title,
            description="A page of an answer of ocr_image as a picture, with its text and its boxes. For the app.",
            annotations=ToolAnnotations(
                title=title, read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
            ),
            meta={"ui": {"resourceUri": URI, "visibility": ["app"]}},
            structured_output=False,
        )
        assert isinstance(tool, StrictTool)
        return tool


def view_html() -> str:
    """The app as one document: the links of its template are replaced by scripts, styles and icons."""
    html = (VIEW / "view.html").read_text("utf-8")
    sprite = _SPRITE.search((WEB / "index.html").read_text("utf-8"))
    assert sprite is not None, "index.html has lost its icons"
    html = html.replace("<!-- icons -->", sprite[0]).replace('"VERSION"', f'"{__version__}"')
    html = html.replace('"ENGINES"', f'"{escape(json.dumps(ENGINE_TITLES))}"')
    html = _STYLE.sub(lambda link: f"<style>\n{(VIEW / link[1]).read_text('utf-8')}</style>", html)

    def script(link: re.Match[str]) -> str:
        path = (VIEW / link[2]).resolve()
        text = bundled(path, INSTEAD) if link[1] else path.read_text("utf-8")
        # These two would end the element, or hide its end. The replacements mean the same in a string or an expression.
        text = text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
        return f"<script{link[1] or ''}>\n{text}</script>"

    return _SCRIPT.sub(script, html)


def bundled(entry: Path, instead: Mapping[Path, Path]) -> str:
    """Put a JavaScript module and all modules that it imports into one text. Each becomes a function that is called
    once.

    Args:
        entry: the file of the module.
        instead: files of modules, by the files that they replace.

    Raises:
        ValueError: modules import each other, or use a form of `import` or `export` that is not understood here.
    """
    names: dict[Path, str] = {}
    parts: list[str] = []

    def add(path: Path) -> str:
        path = instead.get(path, path)
        if path in names:
            return names[path]
        names[path] = ""  # modules that import each other find the empty name, and fail
        exports: list[str] = []

        def imported(match: re.Match[str]) -> str:
            default, members, address = match.groups()
            module = add((path.parent / address).resolve())
            if not module:
                raise ValueError(f"{path.name} and {address} import each other.")
            return f"const {default} = {module}.default;" if default else f"const {{{_renamed(members)}}} = {module};"

        def exported(match: re.Match[str]) -> str:
            if match[1] == "default":
                exports.append("default: whole")
                return "const whole ="
            exports.append(match[2])
            return match[1]

        text = _EXPORT.sub(exported, _IMPORT.sub(imported, path.read_text("utf-8")))
        if other := _OTHER_FORM.search(text):
            raise ValueError(f"{path.name} has {other[0][:60]!r}, which cannot be put into one document.")
        names[path] = f"module{len(parts) + 1}"
        parts.append(f"const {names[path]} = (() => {{\n{text}\nreturn {{ {', '.join(exports)} }};\n}})();\n")
        return names[path]

    add(entry)
    return "\n".join(parts)


def _renamed(names: str) -> str:
    return names.replace(" as ", ": ")

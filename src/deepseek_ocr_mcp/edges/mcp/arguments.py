"""Checks the arguments of a tool call. A refusal names the right argument.

Other shapes of a value are accepted (a list of one file, a number for a range). A null counts as left out. Unknown
names with a value are refused, because ignoring an argument would answer another question than the agent asked.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any, Final

from mcp.server.apps import client_supports_apps
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, TextContent
from pydantic import Field, ValidationError

from ...errors import OcrError, unforeseen
from ...logs import fields, request
from ...text import nearest

__all__ = ["FILES_HINTS", "IMAGE_HINTS", "WRITING", "StrictTool"]


log = logging.getLogger(__name__)

ERROR: Final = "deepseek-ocr/error"  # in the _meta of an answer: the error, for the app
MAX_HINTS: Final = 4  # unknown arguments that one refusal names
MAX_JSON_CHARS: Final = 8192  # characters; a longer text is an image
MAX_NESTING: Final = 4
WRITING: Final = ("save_to", "overwrite", "upright")
"""The arguments of `OcrRequest` with which it writes files."""

_JSON: Final = re.compile(r"""\s*(?:\[\s*["{]|\{\s*")""")  # the beginnings of a list of texts and of an object
_IMAGE_KEYS: Final = ("path", "file_path", "filepath", "file", "uri", "url", "image_url", "image", "source", "src",
                      "base64", "data", "content")  # fmt: skip
_USE: Final = {
    "image": ("path", "paths", "file", "files", "file_path", "filepath", "filename", "file_name", "image_path",
              "image_url", "image_data", "image_base64", "base64", "url", "uri", "source", "src", "input", "input_path",
              "document", "document_path", "pdf", "pdf_path", "images", "folder", "directory", "dir", "glob"),
    "find_term": ("query", "search", "search_term", "term", "keyword", "keywords", "text", "find", "needle", "pattern"),
    "custom_prompt": ("prompt", "question", "instruction", "instructions", "task"),
    "pages": ("page", "page_number", "page_numbers", "page_range", "range", "page_no"),
    "mode": ("prompt_type", "type", "method", "engine_mode"),
    "resolution": ("dpi", "scale", "quality", "size"),
    "text_layer": ("use_text_layer", "textlayer"),
    "boxes": ("bbox", "bboxes", "with_boxes", "grounding", "coordinates", "include_boxes"),
    "annotate": ("draw", "visualize", "visualise", "overlay"),
    "max_chars": ("limit", "max_length", "max_tokens", "max_characters", "length"),
}  # fmt: skip
_OUTPUT: Final = ("save_to", "output", "output_path", "output_file", "output_dir", "out", "save", "save_path",
                  "destination", "overwrite", "write_to", "dest", "target", "outfile", "force")  # fmt: skip
_INSTEAD: Final = {
    **dict.fromkeys(("force_ocr", "ocr", "ignore_text_layer"), 'give text_layer="ignore" to have every page read'),
    **dict.fromkeys(("skip_ocr", "no_ocr", "embedded_text", "extract_text"), 'give text_layer="only" to have no page '
                    "read"),
    **dict.fromkeys(("language", "lang", "languages", "langs"), "leave it out: the script is recognised by itself"),
    **dict.fromkeys(("format", "output_format"), "mode document is Markdown, mode free plain text; ocr_to_files "
                    "writes other formats, by the suffix of save_to"),
    **dict.fromkeys(("timeout", "timeout_s"), "leave it out: every call is answered in time"),
    **dict.fromkeys(("engine", "model", "gpu", "device"), "leave it out: the operator chooses; gpu_status tells"),
}  # fmt: skip

_READING_HINTS: Final = {other: f"give that as {name}" for name, others in _USE.items() for other in others} | _INSTEAD

IMAGE_HINTS: Final = _READING_HINTS | dict.fromkeys(
    _OUTPUT, "ocr_image writes no files; call ocr_to_files with image, save_to and overwrite"
)
"""Sentences about arguments that `ocr_image` does not take, with their replacement."""

FILES_HINTS: Final = {
    **_READING_HINTS,
    **dict.fromkeys(_OUTPUT, "give that as save_to"),
    **dict.fromkeys(("overwrite", "force", "replace"), "give that as overwrite"),
    **{other: "leave it out: a file gets the whole text, and its boxes where its format holds them; ocr_image takes it"
       for name in ("max_chars", "annotate", "boxes", "find_term") for other in (name, *_USE[name])},
}  # fmt: skip
"""Sentences about arguments that `ocr_to_files` does not take, with their replacement."""


class StrictTool(Tool):
    """A tool that refuses unknown arguments, with a message that an agent can act on."""

    hints: dict[str, str] = Field(default_factory=dict, exclude=True)

    async def run(self, arguments: dict[str, Any], context: Any, convert_result: bool = False) -> Any:
        # Some clients send every argument, and null for arguments that their model left out. In an older list of tools
        # ocr_image had the arguments for writing; their defaults ask for nothing.
        known = self.parameters["properties"]
        arguments = {
            name: value
            for name, value in arguments.items()
            if value is not None and (name in known or not (name in WRITING and value in ("", False)))
        }
        if unknown := sorted(arguments.keys() - known.keys()):
            raise ToolError(self._refusal(unknown))
        if "image" in arguments:
            arguments["image"] = _one_image(arguments["image"])
        try:
            with request():
                return await super().run(arguments, context, convert_result)
        except ToolError as exc:
            cause = exc.__cause__
            if isinstance(cause, OcrError):
                log.info("A tool refused.", extra=fields(tool=self.name, error=cause.code))
                if client_supports_apps(context):  # the app shows the error in the language of its reader
                    text = TextContent(type="text", text=str(cause))
                    return CallToolResult(content=[text], is_error=True, _meta={ERROR: cause.to_dict()})
                raise ToolError(str(cause)) from cause
            if isinstance(exc, UnexpectedToolError):
                raise UnexpectedToolError(str(unforeseen(cause or exc, self.name))) from cause
            if isinstance(cause, ValidationError):
                # pydantic's own text repeats the input, which may be a whole image
                problems = "; ".join(f"{_short(e['loc'][0])}: {e['msg']}" for e in cause.errors() if e["loc"])
                raise ToolError(f"{self.name} cannot use these arguments. {problems}.") from cause
            raise

    def _refusal(self, unknown: list[str]) -> str:
        known = list(self.parameters["properties"])
        refusal = f"{self.name} has no argument {', '.join(map(_short, unknown[:MAX_HINTS]))}. "
        if not known:
            return f"{refusal}It takes none."
        for name in unknown[:MAX_HINTS]:
            plain = name.lower().replace("-", "_")
            if hint := self.hints.get(plain):
                refusal += f"{_short(name)}: {hint}. "
            elif near := nearest(name, known):
                refusal += f"{_short(name)}: did you mean {near}? "
        return f"{refusal}It takes {', '.join(known)}."


def _short(name: object) -> str:
    text = str(name)
    return repr(text if len(text) <= 40 else text[:37] + "…")


def _one_image(value: Any, depth: int = 0) -> Any:
    """The text inside a list of one image, or inside an object that describes an image.

    Raises:
        ToolError: the list has several images, or the object names none.
    """
    if isinstance(value, str) and _JSON.match(value) and len(value) <= MAX_JSON_CHARS:
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, list):
        if len(value) != 1:
            raise ToolError(
                f"image takes one file, and this is a list of {len(value)}. Call once for each; or call ocr_to_files "
                'with their folder or a pattern ("/scans/*.pdf") as image, and a folder as save_to.'
            )
        value = value[0]
    elif isinstance(value, dict):
        found = next((value[key] for key in _IMAGE_KEYS if value.get(key)), None)
        if found is None:
            raise ToolError(
                'image is a text, and this is an object without a file. Send image="/home/me/scan.pdf", an absolute '
                "path, or the base64 of the file."
            )
        value = found
    else:
        return value
    return _one_image(value, depth + 1) if depth < MAX_NESTING else value

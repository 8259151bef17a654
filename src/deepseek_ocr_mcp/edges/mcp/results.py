"""Turns results and transitions into MCP answers, and serves whole texts as resources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel

from ...errors import InputNotFound
from ...models import FilesWritten, Note, OcrResult, Transition
from ...service.answer import Answer
from ...service.service import KeptDocument
from ...service.store import ResultStore

__all__ = [
    "RESULTS",
    "add_resources",
    "files_written",
    "lean_schema",
    "notes_text",
    "result_text",
    "structured",
    "structured_files",
    "structured_result",
    "transition_result",
]


RESULTS: Final = "ocr://results"


def structured(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def lean_schema(schema: dict[str, Any], *, output: bool) -> None:
    """Drop the parts of a schema that carry no information: a schema is sent with every list of tools.

    These parts are the titles that pydantic makes of the names, and most defaults. The schema of an answer also loses
    its nulls, because no answer holds a null. Some clients send every default back: a default of `mode` would look like
    the choice of the agent, so only numbers keep theirs. `additionalProperties` goes, too: google-genai 2.34 cannot
    convert it, and `StrictTool` refuses unknown arguments itself.
    """
    schema.pop("title", None)
    schema.pop("additionalProperties", None)
    if output or not schema.get("default") or isinstance(schema["default"], str):
        schema.pop("default", None)
    if output:
        kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
        if len(kinds) == 1:
            del schema["anyOf"]
            schema.update(kinds[0])
    for part in ("properties", "$defs"):
        for each in schema.get(part, {}).values():
            lean_schema(each, output=output)
    for each in (schema.get("items"), *schema.get("anyOf", ())):
        if isinstance(each, dict):
            lean_schema(each, output=output)


def structured_result(result: OcrResult) -> dict[str, Any]:
    """The result as structured content: the text page by page, without empty fields.

    `content` has the whole text already. Here a program or a model can tell the page of each text. A search names only
    the pages with hits. A block without a label is a line. Scores have two digits, because no engine's third digit has
    a meaning.
    """
    found = structured(result)
    del found["text"]
    if result.mode == "find":
        found["pages"] = [page for page in found["pages"] if page["text"] or page.get("blocks")]
    for block in (block for page in found["pages"] for block in page.get("blocks", ())):
        if block["label"] == "line":
            del block["label"]
        if "score" in block:
            block["score"] = round(block["score"], 2)
    return _without_empty(found)


def files_written(answer: Answer) -> FilesWritten:
    """The answer of `ocr_to_files`: the places of the files, and none of their text."""
    result, folder = answer.result, answer.result.folder
    return FilesWritten(
        saved_to=result.saved_to,
        finished=folder.left == 0 if folder else bool(result.saved_to),
        pages_read=result.page_count if folder else len(answer.whole),
        chars=answer.chars if folder else sum(len(page.text) for page in answer.whole),
        **{name: getattr(result, name) for name in ("page_count", "mode", "engine", "folder", "notes", "timing")},
    )


def structured_files(written: FilesWritten) -> dict[str, Any]:
    """The answer of `ocr_to_files` as structured content, without empty fields."""
    return _without_empty(structured(written))


def _without_empty(found: dict[str, Any]) -> dict[str, Any]:
    for name in ("next_pages", "saved_to", "notes"):
        if not found.get(name, True):
            del found[name]
    for note in found.get("notes", ()):
        if not note["pages"]:
            del note["pages"]
    return found


def notes_text(notes: Sequence[Note]) -> str:
    """The notes for clients that show their model the content alone, one on each line."""
    return "\n".join(map(str, notes))


def result_text(result: OcrResult) -> str:
    """The text of a result. In a search on several pages each line names its page."""
    if result.mode != "find" or result.page_count == 1:
        return result.text
    return "\n".join(f"Page {page.page}: {line}" for page in result.pages for line in page.text.splitlines() if line)


def add_resources(mcp: MCPServer, store: ResultStore[KeptDocument]) -> None:
    """Serve results as resources. They are in no list, which every client could read: only an answer tells their
    names."""

    def found(text: Callable[[], str]) -> str:
        try:
            return text()
        except InputNotFound as exc:
            raise ResourceNotFoundError(str(exc)) from exc

    @mcp.resource(
        f"{RESULTS}/{{id}}",
        name="result",
        title="Text of a result",
        description="All that was read for an answer, uncut. The answer names it.",
        mime_type="text/markdown",
    )
    async def result(id: str) -> str:
        return found(lambda: store.text(id))

    @mcp.resource(
        f"{RESULTS}/{{id}}/pages/{{page}}",
        name="page",
        title="Text of one page of a result",
        description="One page of a result, by its number in the document.",
        mime_type="text/markdown",
    )
    async def one_page(id: str, page: str) -> str:
        return found(lambda: store.page(id, page))


def transition_result(transition: Transition) -> CallToolResult:
    freed = "" if transition.freed_mb is None else f" {transition.freed_mb} MiB came back to the card."
    return CallToolResult(
        content=[
            TextContent(
                type="text",
                text=f"{transition.message}{freed} ({transition.from_state} → {transition.to_state}, "
                f"{transition.seconds:.2f} s)",
            )
        ],
        structured_content=structured(transition),
    )

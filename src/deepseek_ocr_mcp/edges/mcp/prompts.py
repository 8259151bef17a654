"""The prompts that people find in their client's menu, and the values that it offers for their arguments.

Each prompt is a message to the agent that names the tool, its arguments and what to do with the
answer, fitted to what the engine in use can do. Offered paths are those that the caller may read.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from mcp import MCPError
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import (
    INVALID_PARAMS,
    Completion,
    CompletionArgument,
    CompletionContext,
    GetPromptResult,
    InputRequiredResult,
    PromptReference,
    ResourceTemplateReference,
)
from pydantic import Field

from ...service.folders import FolderReader
from ...service.service import OcrService

__all__ = ["PromptServer", "add_prompts"]


MAX_VALUES: Final = 100  # the protocol allows no more

_FILE = "Absolute path of the image or PDF (or a file:// URI)."
_PAGES = 'Which pages, like "1-3,7" or "last"; all if left out.'
_OFFERED: Final[dict[str, tuple[str, ...]]] = {
    "pages": ("1", "1-3", "last"),
    "field": (
        "invoice number", "invoice date", "due date", "total amount", "net amount", "VAT amount", "VAT number", "IBAN",
        "supplier", "customer", "order number", "payment terms",
    ),
    "language": ("English", "German", "French", "Spanish", "Italian", "Dutch", "Chinese", "Japanese"),
}  # fmt: skip


class PromptServer(MCPServer):
    """A server that says which argument a prompt lacks; the SDK's own answer is an internal error."""

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        prompts = {prompt.name: prompt for prompt in await self.list_prompts()}
        if name not in prompts:
            raise MCPError(INVALID_PARAMS, f"There is no prompt {name[:40]!r}. There are {', '.join(prompts)}.")
        needed = [each.name for each in prompts[name].arguments or () if each.required]
        if missing := [each for each in needed if each not in (arguments or {})]:
            raise MCPError(INVALID_PARAMS, f"The prompt {name} needs {' and '.join(missing)}.")
        return await super().get_prompt(name, arguments, context)


def add_prompts(mcp: MCPServer, service: OcrService, folders: FolderReader, *, local: bool) -> None:
    """Register the five prompts and the completion of their arguments."""
    able = service.engine.modes

    @mcp.prompt(
        title="Digitise a document",
        description="The text of a scan or PDF as Markdown: headings, lists and tables in reading order.",
    )
    def digitise_document(
        file: Annotated[str, Field(description=_FILE)],
        pages: Annotated[str, Field(description=_PAGES)] = "",
        save_to: Annotated[str, Field(description="File to write, ending in .md, .txt or .json.")] = "",
    ) -> str:
        call = _call(image=file, mode="document", pages=pages, save_to=save_to)
        rest = (
            f"The whole text is in {save_to} then. Tell me the title, the number of pages and anything that was not "
            "read."
            if save_to
            else "While the answer names next_pages, call again with these pages. Give me the Markdown as it is: "
            "correct nothing, leave nothing out, and mark what the answer says could not be read."
        )
        return f"Digitise this document: {call} {rest}"

    @mcp.prompt(
        title="Take a table as CSV", description="One table of a page as CSV, cell by cell, checked against its totals."
    )
    def table_to_csv(
        file: Annotated[str, Field(description=_FILE)],
        pages: Annotated[str, Field(description='The page that the table is on, like "3".')] = "",
        table: Annotated[str, Field(description="Which table, if there are several: its title or place.")] = "",
    ) -> str:
        which = f'the table "{table}"' if table else "the table"
        return (
            f"Give me {which} as CSV: {_call(image=file, mode='document', pages=pages)} The answer holds tables as "
            "Markdown with | between cells. Write one CSV line for each row, the header first; quote cells that hold "
            "a comma, a quote or a line break, and copy numbers as they are written. Where rows add up to a total, "
            "check that they do, and tell me where they do not. If no table was found, call again with "
            'mode="ocr" and boxes=true, and build the columns from the boxes.'
        )

    @mcp.prompt(
        title="Find a field on an invoice",
        description="One field of an invoice or receipt (number, date, total …) with the place it stands at.",
    )
    def find_on_invoice(
        file: Annotated[str, Field(description=_FILE)],
        field: Annotated[str, Field(description="What to find: invoice number, due date, total amount, IBAN …")],
    ) -> str:
        return (
            f'Find the field "{field}" on this invoice: {_call(image=file, mode="document")} If you do not see it, '
            "look for the words that stand beside it, in the document's own language: "
            f"{_call(image=file, mode='find', find_term='those words')} Answer with the value exactly as it is "
            "printed, the line that it stands in and the page; say so if it is not there, and guess nothing."
        )

    @mcp.prompt(
        title="Transcribe handwriting",
        description="A handwritten page word by word, with doubtful words marked.",
    )
    def transcribe_handwriting(
        file: Annotated[str, Field(description=_FILE)],
        pages: Annotated[str, Field(description=_PAGES)] = "",
        language: Annotated[str, Field(description="The language it is written in, if you know it.")] = "",
    ) -> str:
        written = f" It is written in {language}." if language else ""
        return (
            f"Transcribe this handwriting: {_call(image=file, mode='ocr', pages=pages, boxes=True)}{written} Each "
            "piece of text comes with a score from 0 to 1 where the engine has one. Keep the lines, the spelling and "
            "the crossings-out of the writer. Mark each word that you are not sure of, and those in pieces scored "
            "under 0.8, like [this?], and what cannot be read [illegible]. Correct nothing silently."
        )

    @mcp.prompt(
        title="Describe a figure",
        description="What a chart, a diagram or a photo shows, with its data where it has any.",
    )
    def describe_figure(
        file: Annotated[str, Field(description=_FILE)],
        question: Annotated[str, Field(description="What you want to know about it.")] = "",
        pages: Annotated[str, Field(description='The page that it is on, like "3".')] = "",
    ) -> str:
        asked = f" Then answer: {question}" if question else ""
        if "figure" not in able:
            return (
                f"Describe this figure: {_call(image=file, mode='ocr', pages=pages, boxes=True)} The engine in use "
                f"({service.engine.name}) reads text and does not see pictures: say what its labels, axes and numbers "
                "tell and how they stand to each other, and say that the picture itself was not seen. (An engine "
                f"that sees: gpu_status tells why it is not in use.){asked}"
            )
        see = _call(image=file, mode="figure", pages=pages)
        describe = _call(image=file, mode="describe", pages=pages)
        ask = f" or {_call(image=file, mode='freeform', custom_prompt=question, pages=pages)}" if question else ""
        return (
            f"Describe this figure. For a chart or a diagram: {see} For a picture: {describe}{ask} Tell what it "
            f"shows, give its data as a table where it has any, and keep apart what is printed and what you infer."
            f"{asked}"
        )

    @mcp.completion()  # type: ignore[no-untyped-call, untyped-decorator]  # of the SDK
    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion | None:
        if not isinstance(ref, PromptReference):
            return None  # results have names that nobody may guess
        if argument.name == "file":
            values = await folders.complete(argument.value, local=local)
        else:
            begin = argument.value.casefold()
            values = [value for value in _OFFERED.get(argument.name, ()) if value.casefold().startswith(begin)]
        return Completion(values=values[:MAX_VALUES], total=len(values), has_more=len(values) > MAX_VALUES)


def _call(**arguments: str | bool) -> str:
    """A sentence that asks for a call of the tool; arguments without a value are left out."""
    given = [
        f"{name}={str(value).lower() if isinstance(value, bool) else _quoted(value)}"
        for name, value in arguments.items()
        if value != ""
    ]
    return f"call ocr_image with {', '.join(given)}."


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

"""The prompts in a client's menu, and the completions of their arguments.

A prompt is a message to the agent. It names the tool, its arguments and the use of the answer, and fits the engine in
use. Completions offer only paths that the caller may read.
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

from ...caller import Caller
from ...service.service import OcrService

__all__ = ["PromptServer", "add_prompts"]


MAX_VALUES: Final = 100  # the protocol allows no more

_FILE = "Absolute path of the image or PDF (or a file:// URI)."
_PAGES = 'Pages, like "1-3,7" or "last". Empty: all pages.'
_OFFERED: Final[dict[str, tuple[str, ...]]] = {
    "pages": ("1", "1-3", "last"),
    "field": (
        "invoice number", "invoice date", "due date", "total amount", "net amount", "VAT amount", "VAT number", "IBAN",
        "supplier", "customer", "order number", "payment terms",
    ),
    "language": ("English", "German", "French", "Spanish", "Italian", "Dutch", "Chinese", "Japanese"),
}  # fmt: skip


class PromptServer(MCPServer):
    """A server that names the argument that a prompt lacks. The SDK itself answers with an internal error."""

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        prompts = {prompt.name: prompt for prompt in await self.list_prompts()}
        if name not in prompts:
            raise MCPError(INVALID_PARAMS, f"There is no prompt {name[:40]!r}. The prompts are {', '.join(prompts)}.")
        needed = [each.name for each in prompts[name].arguments or () if each.required]
        if missing := [each for each in needed if not str((arguments or {}).get(each, "")).strip()]:
            raise MCPError(INVALID_PARAMS, f"The prompt {name} needs {' and '.join(missing)}.")
        return await super().get_prompt(name, arguments, context)


def add_prompts(mcp: MCPServer, service: OcrService, caller: Caller) -> None:
    """Register the five prompts and the completions of their arguments.

    Args:
        mcp: the server.
        service: the service.
        caller: the caller of completions.
    """
    mcp.prompt(
        "digitise_document",
        title="Digitise a document",
        description="The text of a scan or PDF as Markdown: headings, lists and tables in reading order.",
    )(_digitise_document)
    mcp.prompt(
        "table_to_csv",
        title="Take a table as CSV",
        description="One table of a page as CSV, cell by cell, checked against its totals.",
    )(_table_to_csv)
    mcp.prompt(
        "find_on_invoice",
        title="Find a field on an invoice",
        description="One field of an invoice or receipt (number, date, total …), with its place on the page.",
    )(_find_on_invoice)
    mcp.prompt(
        "transcribe_handwriting",
        title="Transcribe handwriting",
        description="A handwritten page word by word, with doubtful words marked.",
    )(_transcribe_handwriting)

    @mcp.prompt(
        title="Describe a figure",
        description="A description of a chart, a diagram or a photo, with its data where it has any.",
    )
    def describe_figure(
        file: Annotated[str, Field(description=_FILE)],
        question: Annotated[str, Field(description="Your question about the figure.")] = "",
        pages: Annotated[str, Field(description='The page with the figure, like "3".')] = "",
    ) -> str:
        if {"figure", "describe", "freeform"} <= service.engine.modes:
            return _seen_figure(file, question, pages)
        return _unseen_figure(file, question, pages, service.engine.name)

    @mcp.completion()  # type: ignore[no-untyped-call, untyped-decorator]  # of the SDK
    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion | None:
        if not isinstance(ref, PromptReference):
            return None  # the names of results are not completed, so that nobody guesses one
        if argument.name == "file":
            values = await service.folders.complete(argument.value, caller)
        else:
            begin = argument.value.casefold()
            values = [value for value in _OFFERED.get(argument.name, ()) if value.casefold().startswith(begin)]
        return Completion(values=values[:MAX_VALUES], total=len(values), has_more=len(values) > MAX_VALUES)


def _digitise_document(
    file: Annotated[str, Field(description=_FILE)],
    pages: Annotated[str, Field(description=_PAGES)] = "",
    save_to: Annotated[str, Field(description="File to write, like /home/me/scan.md or /home/me/scan.docx.")] = "",
) -> str:
    if save_to:
        call = _call("ocr_to_files", image=file, save_to=save_to, mode="document", pages=pages)
        rest = (
            "While the answer says finished: false, call again with the same arguments. The whole text is then in "
            f"{save_to}. Tell me the number of pages, and every part that could not be read."
        )
    else:
        call = _call(image=file, mode="document", pages=pages)
        rest = (
            "While the answer names next_pages, call again with these pages. Give me the Markdown as it is: "
            "correct nothing, leave nothing out, and mark every part that the answer says could not be read."
        )
    return f"Digitise this document: {call} {rest}"


def _table_to_csv(
    file: Annotated[str, Field(description=_FILE)],
    pages: Annotated[str, Field(description='The page with the table, like "3".')] = "",
    table: Annotated[str, Field(description="The title or the place of the table, if the page has several.")] = "",
) -> str:
    which = f'the table "{table}"' if table else "the table"
    return (
        f"Give me {which} as CSV: {_call(image=file, mode='document', pages=pages)} The answer holds tables as "
        "Markdown with | between cells. Write one CSV line for each row, the header first; quote cells that hold "
        "a comma, a quote or a line break, and copy numbers as they are written. Where a row is a total, add up "
        "the rows above it, and tell me where the sum differs. If the answer has no table, call again with "
        'mode="ocr" and boxes="lines", and build the columns from the boxes.'
    )


def _find_on_invoice(
    file: Annotated[str, Field(description=_FILE)],
    field: Annotated[str, Field(description="The field: invoice number, due date, total amount, IBAN …")],
) -> str:
    return (
        f'Find the field "{field}" on this invoice: {_call(image=file, mode="document")} If you do not see it, '
        "search for the label of the field in the document's own language: "
        f"{_call(image=file, mode='find', find_term='the label')} Answer with the value exactly as it is "
        "printed, with its line and its page. If the invoice does not have the field, say so. Guess nothing."
    )


def _transcribe_handwriting(
    file: Annotated[str, Field(description=_FILE)],
    pages: Annotated[str, Field(description=_PAGES)] = "",
    language: Annotated[str, Field(description="The language of the text, if you know it.")] = "",
) -> str:
    written = f" It is written in {language}." if language else ""
    return (
        f"Transcribe this handwriting: {_call(image=file, mode='ocr', pages=pages, boxes='lines')}{written} Each "
        "piece of text comes with a score from 0 to 1 where the engine has one. Keep the lines, the spelling and "
        "the crossings-out of the writer. Mark a doubtful word like [this?]: each word that you are not sure of, "
        "and each word in a piece with a score under 0.8. Write [illegible] for a word that nobody can read. "
        "Correct nothing silently."
    )


def _seen_figure(file: str, question: str, pages: str) -> str:
    """The prompt for an engine that sees pictures."""
    see = _call(image=file, mode="figure", pages=pages)
    describe = _call(image=file, mode="describe", pages=pages)
    freeform = _call(image=file, mode="freeform", custom_prompt=question, pages=pages)
    ask = f" For your own question: {freeform}" if question else ""
    return (
        f"Describe this figure. For a chart or a diagram: {see} For a picture: {describe}{ask} Say what the "
        "figure shows, give its data as a table where it has any, and separate the printed facts from your own "
        f"conclusions.{_then_answer(question)}"
    )


def _unseen_figure(file: str, question: str, pages: str, engine: str) -> str:
    """The prompt for an engine that reads text only."""
    return (
        f"Describe this figure: {_call(image=file, mode='ocr', pages=pages, boxes='lines')} The engine in use "
        f"({engine}) reads text and does not see pictures. Explain the labels, axes and numbers "
        "of the figure and how they relate, and say that the picture itself was not seen. (gpu_status says why "
        f"no engine that sees pictures is in use.){_then_answer(question)}"
    )


def _then_answer(question: str) -> str:
    return f" Then answer: {question}" if question else ""


def _call(tool: str = "ocr_image", /, **arguments: str) -> str:
    """A sentence that asks for a call of a tool. Arguments without a value are left out."""
    given = [f"{name}={_quoted(value)}" for name, value in arguments.items() if value]
    return f"call {tool} with {', '.join(given)}."


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

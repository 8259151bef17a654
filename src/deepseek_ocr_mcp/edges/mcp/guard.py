"""Answers every request: a message that the SDK cannot parse gets a JSON-RPC error, and every answer is valid UTF-8.

The SDK drops a line that it cannot parse, so that its client waits for ever. A request whose id is null or the like,
the SDK takes for a notification, and does not answer it either. A text that UTF-8 cannot hold ends the SDK's writer,
and the server with it. `guarded_stdio` and `clean_answers` stand between the SDK and the wire.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import TextIOWrapper
from typing import Any, Final, Self

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp.types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    RequestId,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from ...text import well_formed, well_formed_values

__all__ = [
    "clean_answers",
    "clean_progress",
    "guarded_stdio",
    "refusals",
    "run_stdio",
    "with_a_known_id",
]

STDIN: Final = 0
ODD_ID: Final = re.compile(r'"id"\s*:\s*(?:[^\s\d"-]|-?\d+[.eE])')  # neither a text nor a whole number
NO_REQUEST: Final = '{"id": null, "method": ""}'  # a request that the SDK cannot parse, so that `refusals` answers it
MAX_REFUSALS: Final = 100  # requests of a refused batch that get an answer; the others are dropped


async def clean_answers(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware that replaces each lone surrogate in an answer or an error by U+FFFD."""
    try:
        answer = await call_next(ctx)
    except MCPError as exc:
        error = exc.error
        raise MCPError(error.code, well_formed_values(error.message), well_formed_values(error.data)) from exc
    return well_formed_values(answer) if isinstance(answer, dict) else answer


def clean_progress(ctx: Context) -> Callable[[float, float, str], Awaitable[None]]:
    """A function that reports progress to the caller of a tool, with every lone surrogate replaced."""

    async def report(done: float, total: float, message: str) -> None:
        await ctx.report_progress(done, total, well_formed(message))

    return report


async def run_stdio(mcp: MCPServer) -> None:
    """Serve stdio as `mcp.run_stdio_async()` does, and answer every line."""
    server = mcp._lowlevel_server  # the SDK has no public way to run a server on streams of ours
    async with guarded_stdio() as (reader, writer):
        await server.run(reader, writer, server.create_initialization_options())


@asynccontextmanager
async def guarded_stdio() -> AsyncIterator[tuple[Any, Any]]:
    """The SDK's streams of stdin and stdout, which answer every line."""
    import anyio

    with _claimed_stdin() as stdin:
        lines: Any = _lines(anyio.wrap_file(stdin))  # the SDK only iterates over them
        async with stdio_server(lines) as (reader, writer):
            yield _AnsweringReader(reader, writer), writer


@contextmanager
def _claimed_stdin() -> Iterator[TextIOWrapper]:
    """Standard input for the protocol only. A child or a library that reads descriptor 0 finds an empty file.

    The SDK does the same with a standard input that it opens itself.
    """
    wire, nothing = os.dup(STDIN), os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(nothing, STDIN)
    finally:
        os.close(nothing)
    try:
        # It is never closed: at the end a thread may still wait for a line, and closing would wait for that thread.
        yield os.fdopen(wire, encoding="utf-8", errors="replace", closefd=False)
    finally:
        os.dup2(wire, STDIN)


async def _lines(stdin: AsyncIterable[str]) -> AsyncIterator[str]:
    async for line in stdin:
        yield with_a_known_id(line)


def with_a_known_id(line: str) -> str:
    """The line. In place of a request whose id is neither a text nor a whole number: a line that will be refused."""
    if ODD_ID.search(line) is None:  # nearly no line is parsed twice; some hold whole files
        return line
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return line
    is_request = isinstance(message, dict) and "method" in message and "id" in message
    return NO_REQUEST if is_request and not _is_id(message["id"]) else line


class _AnsweringReader:
    """A `ReadStream` of the SDK that answers messages that could not be parsed, and passes the others on."""

    def __init__(self, inner: Any, writer: Any) -> None:
        self._inner = inner
        self._writer = writer

    @property
    def last_context(self) -> Any:
        """The context of the message that was received last. The SDK restores it around its handler."""
        return self._inner.last_context

    async def receive(self) -> Any:
        while True:
            item = await self._inner.receive()
            if not isinstance(item, ValidationError):
                return item
            for refusal in refusals(item):
                await self._writer.send(SessionMessage(refusal))

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        import anyio

        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def refusals(exc: ValidationError) -> list[JSONRPCError]:
    """The errors to answer to a line that the SDK's parser refused: one for each request in it.

    A notification and an answer get none, as JSON-RPC demands. A line of no recognisable kind gets an error with the id
    null.
    """
    try:
        message = _message(exc)
    except (ValueError, RecursionError):
        return [_refusal(None, PARSE_ERROR, "This line is no JSON.")]
    if isinstance(message, list):
        text = "Batches are not taken: send each message on a line of its own."
        requests = [each for each in message if isinstance(each, dict) and "method" in each and "id" in each]
        return [_refusal(each["id"], INVALID_REQUEST, text) for each in requests[:MAX_REFUSALS]] or [
            _refusal(None, INVALID_REQUEST, text)
        ]
    if not isinstance(message, dict):
        return [_refusal(None, INVALID_REQUEST, "A message is a JSON object.")]
    if ("id" not in message and "method" in message) or ("method" not in message and "id" in message):
        return []
    return [_refusal(message.get("id"), *_reason(message))]


def _message(exc: ValidationError) -> Any:
    """The whole message, taken from an error of its parser.

    Raises:
        ValueError, RecursionError: the message is no JSON, or nested too deeply.
    """
    for error in exc.errors(include_url=False, include_context=False):
        if error["type"] == "json_invalid":
            return json.loads(error["input"])
        # The parser tries every kind of message. Some kind always lacks a field, or finds no object at all.
        if len(error["loc"]) == 1 or (error["type"] == "missing" and len(error["loc"]) == 2):
            return error["input"]
    return None


def _reason(message: dict[str, Any]) -> tuple[int, str]:
    if well_formed_values(message) is not message:
        return PARSE_ERROR, "A text in this message has half of a character: a lone surrogate."
    if not _is_id(message.get("id", 0)):
        return INVALID_REQUEST, "`id` of a request is a text or a whole number."
    if not isinstance(message.get("params", {}), dict):
        return INVALID_PARAMS, "`params` is a JSON object."
    try:
        jsonrpc_message_adapter.validate_python(message, by_name=False)
    except ValidationError:
        return INVALID_REQUEST, "This is no request as JSON-RPC 2.0 and MCP have it."
    return PARSE_ERROR, "This message is nested too deeply."


def _refusal(number: object, code: int, text: str) -> JSONRPCError:
    known: RequestId | None = well_formed_values(number) if _is_id(number) else None
    return JSONRPCError(jsonrpc="2.0", id=known, error=ErrorData(code=code, message=text))


def _is_id(number: object) -> bool:
    return isinstance(number, (int, str)) and not isinstance(number, bool)

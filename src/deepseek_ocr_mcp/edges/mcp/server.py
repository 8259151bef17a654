"""Builds the MCP server: tools, resources, prompts and the app, for both protocol eras and both transports.

A tool that fails answers with `isError`: its text says what happened and what to do. No failure ends the session.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mcp.server.caching import CacheHint
from mcp.server.mcpserver import MCPServer
from mcp.types import Icon

from ... import __version__
from ...service.service import KeptDocument, OcrService
from ...service.store import ResultStore
from .apps import AppView, extension, hide_from_others
from .guard import clean_answers
from .passwords import PASSWORDS, PasswordDesk
from .prompts import PromptServer, add_prompts
from .results import add_resources
from .tools import Callers, FilesTool, ReadingTool, memory_tools

__all__ = ["build_mcp"]


INSTRUCTIONS: Final = """\
Reads text from images, scans and PDFs: use ocr_image whenever you need what one says. Give an absolute path. A file \
pasted into the chat has none: ask the user where it is. Long documents come in parts: go on with next_pages. The \
first call may take seconds."""

ICON: Final = (
    "data:image/svg+xml;base64,"
    + base64.b64encode(
        # It is tiny, because in the 2026-07-28 era it travels with every answer.
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path d="M1 2h6M1 4h6M1 6h4" stroke="#25e"/></svg>'
    ).decode()
)


def build_mcp(service: OcrService, *, local: bool) -> MCPServer:
    """An MCP server for this service.

    Args:
        service: a running service.
        local: whether its caller runs on this machine (stdio). Then `image` may be any path that `OCR_ALLOWED_DIRS`
            does not keep out; otherwise only a path inside `OCR_ALLOWED_DIRS`.
    """
    store = ResultStore[KeptDocument]()
    view = AppView(service, store)
    callers = Callers(local)
    desk = PasswordDesk(service.ocr)

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncIterator[None]:
        async with store.running(), desk.running():
            yield

    mcp = PromptServer(
        "deepseek-ocr",
        title="DeepSeek OCR",
        version=__version__,
        instructions=INSTRUCTIONS,
        icons=[Icon(src=ICON, mime_type="image/svg+xml", sizes=["any"])],
        log_level="ERROR",
        lifespan=lifespan,
        cache_hints={"tools/list": CacheHint(ttl_ms=3_600_000, scope="private")},  # hosts of apps get another list
        extensions=[extension()],
        middleware=[clean_answers, hide_from_others],
        tools=[
            ReadingTool(service, store, view, callers, desk).tool(),
            FilesTool(service, callers, desk).tool(),
            *memory_tools(service),
            view.tool(callers),
        ],
    )
    if not local:
        mcp.custom_route(f"{PASSWORDS}{{name}}", ["GET", "POST"], include_in_schema=False)(desk.page)
    add_resources(mcp, store)
    add_prompts(mcp, service, callers.of_completion)
    return mcp

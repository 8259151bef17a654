"""The last progress and the result of a call never reach a client in one piece."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from deepseek_ocr_mcp.edges.mcp.arguments import RESULT_GAP_S, StrictTool

pytestmark = pytest.mark.anyio


class Context:
    """A call as a tool sees it."""

    def __init__(self, meta: dict[str, Any] | None) -> None:
        self.request_context = SimpleNamespace(meta=meta)


async def seconds(meta: dict[str, Any] | None) -> float:
    """How long after its function a tool answers."""
    ended = 0.0

    async def read() -> str:
        nonlocal ended
        ended = anyio.current_time()
        return "text"

    tool = StrictTool.from_function(read)
    assert isinstance(tool, StrictTool)
    tool.parameters["properties"] = {}
    await tool.run({}, Context(meta))
    return anyio.current_time() - ended


async def test_a_client_that_asks_for_progress_has_time_to_read_the_last_step() -> None:
    assert await seconds({"progress_token": 0}) >= RESULT_GAP_S
    assert await seconds({"progress_token": "call"}) >= RESULT_GAP_S


async def test_a_client_that_asks_for_none_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: float) -> None:
        raise AssertionError("a call without progress waits for nothing")

    monkeypatch.setattr("deepseek_ocr_mcp.edges.mcp.arguments.anyio.sleep", never)
    for meta in (None, {}):
        await seconds(meta)

"""The last progress and the result of a call never reach a client in one piece."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from deepseek_ocr_mcp.edges.mcp.arguments import RESULT_GAP_S, StrictTool
from deepseek_ocr_mcp.edges.mcp.guard import last_report

pytestmark = pytest.mark.anyio


class Context:
    """A call as a tool sees it."""

    def __init__(self, meta: dict[str, Any] | None) -> None:
        self.request_context = SimpleNamespace(meta=meta)


async def seconds(meta: dict[str, Any] | None, *, reports: bool = True) -> float:
    """How long after its function a tool answers.

    Args:
        reports: whether the function reports progress just before its end.
    """
    ended = 0.0

    async def read() -> str:
        nonlocal ended
        if reports:
            last_report.get()[:] = [time.monotonic()]
        ended = anyio.current_time()
        return "text"

    tool = StrictTool.from_function(read)
    assert isinstance(tool, StrictTool)
    tool.parameters["properties"] = {}
    await tool.run({}, Context(meta))
    return anyio.current_time() - ended


async def test_a_client_that_asks_for_progress_has_time_to_read_the_last_step() -> None:
    for token in (0, "call"):
        assert await seconds({"progress_token": token}) >= 0.9 * RESULT_GAP_S, "a moment passed since the report"


async def test_a_call_without_progress_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: float) -> None:
        raise AssertionError("a call without progress waits for nothing")

    monkeypatch.setattr("deepseek_ocr_mcp.edges.mcp.arguments.anyio.sleep", never)
    for meta in (None, {}):
        await seconds(meta)
    await seconds({"progress_token": 0}, reports=False)

"""The decoder's renderer runs in the test process here."""

from __future__ import annotations

import pytest

from deepseek_ocr_mcp.decoder.renderer import PageRenderer


@pytest.fixture(autouse=True)
def no_memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit holds for the rest of a process that does nothing else; pytest is not one."""
    monkeypatch.setattr(PageRenderer, "limit_memory", lambda *_: None)

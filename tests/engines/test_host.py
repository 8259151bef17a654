"""The host of an engine in its worker: what it makes of faults that are not the engine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepseek_ocr_mcp.engines.host import EngineHost
from deepseek_ocr_mcp.errors import OcrError


class Line:
    """A `Call` whose caller waits."""

    def progress(self, done: float, message: str = "") -> None: ...
    def raise_if_cancelled(self) -> None: ...
    def is_dropped(self, page: int) -> bool:
        return False


def test_a_page_that_an_interrupt_deleted_is_no_unforeseen_fault(tmp_path: Path) -> None:
    host = EngineHost("faults:Echo")
    host.load("cpu", {}, Line())
    gone = {"path": str(tmp_path / "page-1"), "width": 4, "height": 2}
    with pytest.raises(OcrError, match="deleted before it was read"):
        host.read([gone], {"mode": "free"}, Line())

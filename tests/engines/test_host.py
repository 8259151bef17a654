"""The host of an engine in its worker: what it makes of faults that are not the engine's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from calls import Caller

from deepseek_ocr_mcp.engines.base import Call, PageImage, PageText, ReadOptions
from deepseek_ocr_mcp.engines.host import EngineHost
from deepseek_ocr_mcp.errors import OcrError


class Line(Caller):
    """The line to a parent that waits."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.waiting: list[dict[str, Any]] = []

    def tell(self, **facts: Any) -> None:
        self.told.append(facts)

    def added(self) -> list[dict[str, Any]]:
        new, self.waiting = self.waiting, []
        return new


def test_a_page_that_an_interrupt_deleted_is_no_unforeseen_fault(tmp_path: Path) -> None:
    host = EngineHost("faults:Echo")
    host.load("cpu", {}, Line())
    gone = {"path": str(tmp_path / "page-1"), "width": 4, "height": 2}
    with pytest.raises(OcrError, match="deleted before it was read"):
        host.read([gone], {"mode": "free"}, Line())


class Joining:
    """An engine that reads its pages when one more has joined them; the first is finished before that."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        texts = [PageText(page.path) for page in pages]
        call.finished(0, texts[0])
        for room in (3, 2, 1):
            texts += [PageText(page.path) for page in call.more(room)]
        return texts


def test_pages_that_join_are_counted_on_and_a_page_is_sent_once() -> None:
    host, line = EngineHost("test_host:Joining"), Line()
    line.waiting = [{"path": "c", "width": 4, "height": 2}]
    pages = [{"path": path, "width": 4, "height": 2} for path in "ab"]
    answer = host.read(pages, {"mode": "free"}, line)
    first, room = line.told[0], line.told[1:]
    assert (first["page"], first["answer"]["text"]) == (0, "a")
    # Three beside the two; then there are three, of which no more than five may have begun.
    assert room == [{"room": 5}]
    assert [page and page["text"] for page in answer["pages"]] == [None, "b", "c"]


def test_an_engine_that_loses_a_page_that_joined_is_at_fault() -> None:
    class Losing(Joining):
        def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
            call.more(1)
            return [PageText(page.path) for page in pages]

    host, line = EngineHost("test_host:Joining"), Line()
    host._engine = Losing()  # type: ignore[assignment]
    line.waiting = [{"path": "c", "width": 4, "height": 2}]
    with pytest.raises(RuntimeError, match="answered 1 pages for 2"):
        host.read([{"path": "a", "width": 4, "height": 2}], {"mode": "free"}, line)

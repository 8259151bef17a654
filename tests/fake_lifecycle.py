"""A lifecycle and a document that run on virtual time: no child process, no file, no card."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel

from answering import layer_of
from deepseek_ocr_mcp.documents.reader import LayerText
from deepseek_ocr_mcp.engines import EngineSpec
from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
from deepseek_ocr_mcp.errors import OcrError
from deepseek_ocr_mcp.lifecycle.base import PagesRead
from deepseek_ocr_mcp.models import State
from deepseek_ocr_mcp.modes import MODES
from deepseek_ocr_mcp.observer import Observer
from deepseek_ocr_mcp.worker.client import OnProgress

READ_S = 5.0
"""Seconds for each call of `read`, however many pages it has."""
DRAW_S = 1.0
"""Seconds for each page that is drawn."""


def text_of(number: int) -> str:
    """What the fake engine reads on this page: twenty characters."""
    return f"the text of page {number:03}"


class FakeLifecycle:
    """Reads each batch in `READ_S` and remembers how it was asked.

    Args:
        batch_pages: pages of a document in one call.
        lanes: calls that are worth having under way at once.
        is_remote: whether the engine has no child: it reads elsewhere.
        failures: what the next calls raise; None: nothing.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        batch_pages: int = 1,
        lanes: int = 1,
        is_remote: bool = False,
        failures: Sequence[BaseException | None] = (),
        modes: Sequence[str] = tuple(MODES),
    ) -> None:
        self.observer = Observer()
        target = "" if is_remote else "faults:Echo"
        self.engine = EngineSpec(name, target, frozenset(modes), batch_pages=batch_pages)
        self.lanes = lanes
        self.state = State.UNLOADED
        self.ready_state = State.HOST
        self.failures = list(failures)
        self.batches: list[list[int]] = []
        """The pages of each call, in the order in which they began."""
        self.finished: list[list[int]] = []
        self.clients: list[str] = []
        self.were_background: list[bool] = []
        self.most_at_once = 0
        self.leases = 0
        self.leased_in_all = 0
        self.fields: dict[int, Mapping[str, Any]] = {}
        """More fields of a page, or other ones, by its number."""
        self._under_way = 0

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[None]:
        self.leases += 1
        self.leased_in_all += 1
        try:
            yield
        finally:
            self.leases -= 1

    async def read(
        self,
        pages: Sequence[PageImage],
        options: ReadOptions,
        *,
        client: str = "",
        background: Callable[[], bool] = lambda: False,
        on_progress: OnProgress | None = None,
    ) -> PagesRead:
        assert self.leases, "a page is read without a lease"
        numbers = [int(page.path.rpartition("-")[2]) for page in pages]
        self.batches.append(numbers)
        self.clients.append(client)
        self.were_background.append(background())
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            if self.failures and (failure := self.failures.pop(0)) is not None:
                raise failure
            if on_progress is not None:
                await on_progress(0.5, "reading")
            await anyio.sleep(READ_S)
        finally:
            self._under_way -= 1
        self.state = self.ready_state
        self.finished.append(numbers)
        read = [{"text": text_of(number), **self.fields.get(number, {})} for number in numbers]
        return PagesRead(read, self.engine.name, "model", "cpu", queued_s=0.0, load_s=1.0, infer_s=READ_S)


class FakeDocument:
    """Draws a page in `DRAW_S` and remembers which pictures there are.

    Args:
        layers: the text of pages that hold it themselves.
        errors: what the drawing of a page raises, by its number.
    """

    format = "PDF"

    def __init__(
        self,
        page_count: int = 20,
        *,
        layers: Mapping[int, str] | None = None,
        errors: Mapping[int, OcrError] | None = None,
    ) -> None:
        self.page_count = page_count
        self.closed = False
        self.drawn: list[int] = []
        self.there: set[str] = set()
        """Pictures that were drawn and not discarded."""
        self.left_behind: set[str] = set()
        """Those that were still there when the document was closed."""
        self._layers = layers or {}
        self._errors = errors or {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[FakeDocument]:
        assert not self.closed
        try:
            yield self
        finally:
            self.closed, self.left_behind = True, set(self.there)

    async def page(self, number: int) -> PageImage:
        assert not self.closed, "a page is drawn of a document that is closed"
        await anyio.sleep(DRAW_S)
        if number in self._errors:
            raise self._errors[number]
        self.drawn.append(number)
        self.there.add(f"page-{number}")
        return PageImage(f"page-{number}", 10, 10)

    async def codes(self, image: PageImage) -> list[dict[str, Any]]:
        assert image.path in self.there
        await anyio.lowlevel.checkpoint()
        return [{"symbology": "EAN-13", "text": image.path, "box": [1, 2, 3, 4]}]

    async def text_layer(self, number: int) -> LayerText:
        assert not self.closed
        await anyio.lowlevel.checkpoint()
        if number not in self._layers:
            return LayerText(10, 10, why="it has none")
        return layer_of(self._layers[number])

    def discard(self, image: PageImage) -> None:
        self.there.discard(image.path)

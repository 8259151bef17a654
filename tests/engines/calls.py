"""A caller of an engine, for tests that call it in their own process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deepseek_ocr_mcp.engines.base import PageImage, PageText, Reading


class Caller:
    """Waits for every page, has no more of them, and asks nothing; see `engines.base.Call`."""

    def progress(self, done: float, message: str = "", shares: Mapping[int, float] | None = None) -> None: ...
    def raise_if_cancelled(self) -> None: ...
    def is_dropped(self, page: int) -> bool:
        return False

    def more(self, room: int) -> Sequence[PageImage]:
        return ()

    def finished(self, page: int, text: PageText | Reading) -> None: ...

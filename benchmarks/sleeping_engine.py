"""An engine that sleeps for each page, and costs no processor time: the share of everything around it remains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from deepseek_ocr_mcp.engines.base import Call, PageImage, PageText, ReadOptions

SLEEP_S: Final = 0.3


class Sleeping:
    """Takes the same time for every page, whose size is its text."""

    model = "sleeping"
    seconds = SLEEP_S

    def load(self, device: str, call: Call) -> dict[str, Any]:
        return {"model": self.model}

    def offload(self) -> None: ...

    def restore(self, device: str) -> None: ...

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        time.sleep(self.seconds * len(pages))
        return [PageText(f"{page.width} x {page.height}") for page in pages]


class SleepingLonger(Sleeping):
    """Two workers have 2,000 pages to read for ten minutes, so that they can be killed meanwhile."""

    seconds = 2 * SLEEP_S

"""A document decoder on virtual time: it parses nothing, and fails where a test says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from deepseek_ocr_mcp.errors import Timeout
from deepseek_ocr_mcp.worker.client import WorkerDied

DECODE_S = 0.1
"""Seconds for each call."""


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


class FakeDecoder:
    """Answers like the document decoder in a child process.

    Args:
        script: what the next calls of a method raise, by its name; None: nothing.
        format: of every document.
        pages: of a document, by its name; three otherwise.
    """

    def __init__(
        self,
        script: Mapping[str, list[BaseException | None]],
        *,
        format: str = "PDF",
        pages: Mapping[str, int] | None = None,
    ) -> None:
        self._format = format
        self._pages = pages or {}
        self.calls: list[str] = []
        self.alive = True
        self.busy = False
        self._script = script

    async def call(self, method: str, arguments: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        assert self.alive, "a dead decoder is asked"
        assert not self.busy, "two calls at once"
        self.calls.append(method)
        self.busy = True
        try:
            await anyio.sleep(DECODE_S)
            failures = self._script.get(method)
            if failures and (failure := failures.pop(0)) is not None:
                self.alive = not isinstance(failure, (WorkerDied, Timeout))
                raise failure
        finally:
            self.busy = False
        if "out" in arguments:
            _write(arguments["out"], method)
        return {
            "inspect": {"format": self._format, "pages": self._pages.get(arguments.get("file", {}).get("name"), 3)},
            "render": {"width": 10, "height": 20},
            "text_layer": {"width": 10, "height": 20, "reading": {"width": 10, "height": 20}, "usable": True},
            "encode": {"mime": "image/png"},
            "annotate": {"mime": "image/png"},
            "preview": {"mime": "image/png", "width": 10, "height": 20},
        }.get(method, {})

    async def stop(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.alive = False

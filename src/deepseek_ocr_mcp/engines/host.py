"""Runs an engine inside a worker process: arguments become the types of `engines.base`, answers become JSON."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from ..errors import EngineUnavailable, OcrError
from .base import Call, Engine, PageImage, PageText, Reading, ReadOptions

__all__ = ["EngineHost"]


class _Line(Protocol):
    """The line to the parent; see `worker.main.WireCall`."""

    def progress(self, done: float, message: str = "", shares: Mapping[int, float] | None = None) -> None: ...
    def raise_if_cancelled(self) -> None: ...
    def is_dropped(self, page: int) -> bool: ...
    def tell(self, **facts: Any) -> None: ...
    def added(self) -> list[dict[str, Any]]: ...


class _ReadCall:
    """One call of `read`; see `engines.base.Call`."""

    def __init__(self, pages: Sequence[dict[str, Any]], line: _Line) -> None:
        self.images = [PageImage(**page) for page in pages]
        self.given: set[int] = set()
        """Pages whose callers have their answers."""
        self._line = line
        self._room = 0
        self.progress, self.raise_if_cancelled = line.progress, line.raise_if_cancelled
        self.is_dropped = line.is_dropped

    def more(self, room: int) -> list[PageImage]:
        # The number of all pages, not of those that may still come: then it is true whenever the parent hears it.
        if (most := len(self.images) + room) > self._room:
            self._room = most
            self._line.tell(room=most)
        new = [PageImage(**page) for page in self._line.added()]
        self.images += new
        return new

    def finished(self, page: int, text: PageText | Reading) -> None:
        self.given.add(page)
        self._line.tell(page=page, answer=_fields(text))


class EngineHost:
    """Gives an engine its arguments as the types of `engines.base`, and its answers as JSON."""

    def __init__(self, target: str) -> None:
        self._engine = _import_engine(target)

    def prewarm(self, call: Call | None = None) -> dict[str, Any]:
        """Do what can be done before a card is chosen: import libraries."""
        getattr(self._engine, "prewarm", lambda: None)()
        return {}

    def load(self, device: str, environment: dict[str, str], call: Call) -> dict[str, Any]:
        # CUDA reads its variables at its first call, not at import: a prewarmed worker can still take any card.
        os.environ.update(environment)
        return self._engine.load(device, call)

    def open(self, device: str, environment: dict[str, str], call: Call) -> dict[str, Any]:
        """For an engine that can: map the weights, without a card."""
        os.environ.update(environment)
        engine: Any = self._engine
        opened: dict[str, Any] = engine.open(device, call)
        return opened

    def offload(self, call: Call) -> dict[str, Any]:
        self._engine.offload()
        return {}

    def restore(self, device: str, call: Call, environment: dict[str, str] | None = None) -> dict[str, Any]:
        # An engine that was opened has called nothing of CUDA's: it can still take any card.
        os.environ.update(environment or {})
        self._engine.restore(device)
        return {}

    def read(self, pages: list[dict[str, Any]], options: dict[str, Any], call: _Line) -> dict[str, Any]:
        """Read pages. The result has an entry for each page, and null where its answer was sent before.

        Raises:
            OcrError: a page is gone. An interrupt of `ocr` deletes it while the call is on its way here, so this is no
                fault for the log.
        """
        reading = _ReadCall(pages, call)
        try:
            texts = self._engine.read(tuple(reading.images), ReadOptions(**options), reading)
        except FileNotFoundError:
            if all(os.path.exists(image.path) for image in reading.images):
                raise
            raise OcrError(
                "The picture of a page was deleted before it was read.", remedy="Send the request again."
            ) from None
        if len(texts) != len(reading.images):
            raise RuntimeError(f"the engine answered {len(texts)} pages for {len(reading.images)}")
        answers = [None if page in reading.given else _fields(text) for page, text in enumerate(texts)]
        return {"pages": answers, "spoiled": getattr(self._engine, "spoiled", "")}


def _fields(page: PageText | Reading) -> dict[str, Any]:
    return {"reading": page.to_dict()} if isinstance(page, Reading) else asdict(page)


def _import_engine(target: str) -> Engine:
    module, _, name = target.partition(":")
    try:
        engine: Engine = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError) as exc:
        raise EngineUnavailable(
            f"The engine {target} cannot be imported: {exc}.",
            remedy="Install what is missing, or set OCR_ENGINE=auto.",
        ) from exc
    return engine

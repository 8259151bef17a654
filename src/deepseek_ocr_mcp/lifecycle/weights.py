"""Finds an engine's weights on this machine, and fetches the missing part once, for all callers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import anyio
import anyio.abc
import anyio.to_thread

from ..config import Settings
from ..engines import EngineSpec, fetch_weights
from ..errors import EngineUnavailable, NotReady, OcrError

__all__ = ["Weights"]


@dataclass(slots=True)
class _Download:
    """A download of weights."""

    done: int = 0
    total: int = 0
    error: OcrError | None = None

    @property
    def percent(self) -> float:
        return round(100 * self.done / self.total, 1) if self.total else 0.0


class Weights:
    """The weights of one engine. Several managers may share them."""

    def __init__(self, engine: EngineSpec, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._download: _Download | None = None

    def __repr__(self) -> str:
        return f"<Weights {self._engine.weights or 'of a package'}{'' if self._download is None else ' on their way'}>"

    @property
    def percent(self) -> float | None:
        """The progress of the download, in percent; None while no download runs."""
        return None if self._download is None else self._download.percent

    async def folder(self, tasks: anyio.abc.TaskGroup) -> str | None:
        """The folder of the weights; None for an engine that has its own.

        Args:
            tasks: the task group in which a download runs on.

        Raises:
            EngineUnavailable: the weights are not on this machine.
            NotReady: the weights are being fetched.
        """
        if not self._engine.weights:
            return None
        model = self._settings.ocr_model or self._engine.weights
        here = await anyio.to_thread.run_sync(self._engine.weights_here, self._settings.ocr_model)
        if here is not None:
            return str(here)
        if not self._settings.ocr_auto_download:
            raise EngineUnavailable(
                f"The weights of {model} are not on this machine.",
                remedy=f"Run `deepseek-ocr-mcp download {model}`, or set OCR_AUTO_DOWNLOAD=true.",
            )
        if self._download is None:
            self._download = _Download()
            tasks.start_soon(self._fetch, model, self._download)
        elif self._download.error is not None:
            error, self._download = self._download.error, None
            raise error
        raise NotReady(
            f"The weights of {model} are being fetched: {self._download.percent} %.",
            remedy="Call again in a minute: the download goes on meanwhile.",
        )

    async def _fetch(self, model: str, download: _Download) -> None:
        def progress(done: int, total: int) -> None:
            download.done, download.total = done, total

        try:
            await anyio.to_thread.run_sync(partial(fetch_weights, model, on_progress=progress), abandon_on_cancel=True)
            self._download = None
        except OcrError as exc:
            download.error = exc

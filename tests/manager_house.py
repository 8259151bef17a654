"""A `ModelManager` on virtual time, on a worker and cards that are plain objects."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.engines import EngineSpec
from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
from deepseek_ocr_mcp.errors import Cancelled
from deepseek_ocr_mcp.gpu.probe import GpuProbe
from deepseek_ocr_mcp.lifecycle.manager import ModelManager
from deepseek_ocr_mcp.modes import MODES
from fake_nvml import FakeNvml
from fake_worker import FakeWorker


class House:
    """A manager and what it stands on."""

    def __init__(
        self,
        *,
        cards: Sequence[int] = (),
        failures: Sequence[BaseException] = (),
        shared_pages: int = 1,
        batch_pages: int = 1,
        opens: bool = False,
        slots: int = 0,
        **settings: Any,
    ) -> None:
        self.nvml = FakeNvml()
        for free_mb in cards:
            self.nvml.add_card(free_mb=free_mb)
        self.workers: list[FakeWorker] = []
        self.failures = list(failures)
        self.load_failures: list[BaseException] = []
        self.slots = slots
        self.seconds: dict[str, float] = {}
        """See `FakeWorker`."""
        self.spawn_error: Exception | None = None
        engine = EngineSpec(
            "fake",
            "faults:Echo",
            frozenset(MODES),
            gpu_mb=8000 if cards else 0,
            opens=opens,
            shared_pages=shared_pages,
            batch_pages=batch_pages,
        )
        self.settings = Settings(**{"ocr_prewarm": "off", **settings})
        self.manager = ModelManager(
            engine, self.settings, probe=GpuProbe(self.nvml, sees_host_pids=True), spawn=self.spawn
        )

    async def spawn(self, engine: EngineSpec, env: Mapping[str, str]) -> FakeWorker:
        if self.spawn_error is not None:
            raise self.spawn_error
        load_errors = {"": self.load_failures}
        worker = FakeWorker(1000 + len(self.workers), self.nvml.devices, self.failures, load_errors=load_errors)
        worker.slots, worker.seconds = self.slots, self.seconds
        self.workers.append(worker)
        return worker

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ModelManager]:
        with anyio.fail_after(100_000):
            async with self.manager.running():
                yield self.manager
        assert not any(worker.alive for worker in self.workers)

    async def read(self) -> str:
        return (await self.read_pages("/nowhere"))[0][0]

    async def read_quietly(self) -> None:
        """Read; a request that is stopped on purpose is none that fails."""
        with contextlib.suppress(Cancelled):
            await self.read()

    async def read_pages(self, *paths: str, mode: str = "free", **how: Any) -> list[tuple[str, str]]:
        """Who read each page, and the path that it had."""
        async with self.manager.lease():
            reading = await self.manager.read([PageImage(path, 10, 10) for path in paths], ReadOptions(mode), **how)
        return [(page["text"], page["raw"]) for page in reading.pages]

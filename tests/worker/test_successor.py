"""A parked worker and its successor, as real processes: killed at each step, they answer bit for bit the same."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from faults import fingerprint

from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.engines import EngineSpec
from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
from deepseek_ocr_mcp.gpu.probe import GpuProbe
from deepseek_ocr_mcp.lifecycle import manager as module
from deepseek_ocr_mcp.lifecycle.manager import ModelManager
from deepseek_ocr_mcp.modes import MODES
from fake_nvml import FakeNvml
from support import Signs, Watch, alive, until_dead

pytestmark = pytest.mark.anyio

PIXELS = bytes(range(240)) * 2


class Desk:
    """A manager over real workers, on a card that only NVML believes in."""

    def __init__(self, folder: Path) -> None:
        (folder / "page.rgb").write_bytes(PIXELS)
        self.page = PageImage(str(folder / "page.rgb"), 16, 10)
        self.gate = folder / "slow"
        self.opened = folder / "open"
        nvml = FakeNvml()
        nvml.add_card()
        engine = EngineSpec("openable", "faults:Openable", frozenset(MODES), gpu_mb=8_000, opens=True)
        settings = Settings(ocr_prewarm="off", gpu_offload_after=-1, gpu_idle_timeout=-1)
        self.manager = ModelManager(engine, settings, probe=GpuProbe(nvml, sees_host_pids=True))

    async def read(self) -> str:
        async with self.manager.lease():
            reading = await self.manager.read([self.page], ReadOptions("free"))
        text: str = reading.pages[0]["text"]
        return text

    @property
    def pid(self) -> int:
        found = self.manager.status().worker_pid
        assert found is not None
        return found

    def opening(self) -> list[int]:
        """Ids of the processes that began to map their weights, in order."""
        return [int(line) for line in self.opened.read_text().split()] if self.opened.exists() else []

    @contextmanager
    def opening_waits(self) -> Iterator[None]:
        """No process goes on with mapping its weights while this context lasts."""
        with self.gate.open("a") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setenv("FAULTS", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    async with running(Desk(tmp_path)) as desk:
        yield desk
    assert not any(alive(pid) for pid in desk.opening())


@asynccontextmanager
async def running(desk: Desk) -> AsyncIterator[Desk]:
    with anyio.fail_after(60):
        async with desk.manager.running():
            yield desk


async def until_opening(signs: Signs) -> None:
    assert await anyio.to_thread.run_sync(signs.next) == "opening"


ANSWER = f"16x10 {fingerprint(PIXELS)}"


async def test_a_successor_answers_bit_for_bit_the_same_and_the_old_process_is_gone(desk: Desk) -> None:
    assert await desk.read() == ANSWER
    first = desk.pid
    moved = await desk.manager.offload()
    assert "Nothing of ours is on the card" in moved.message
    assert (alive(first), desk.manager.device, desk.opening()) == (False, "none", [desk.pid])
    assert await desk.read() == ANSWER
    assert desk.manager.status().worker_restarts == 0


async def test_a_page_that_comes_while_the_successor_opens_is_read_by_the_parked_worker(
    desk: Desk, signs: Signs
) -> None:
    await desk.read()
    first = desk.pid
    async with anyio.create_task_group() as tasks:
        with desk.opening_waits():
            tasks.start_soon(desk.manager.offload)
            await until_opening(signs)
            assert await desk.read() == ANSWER
            assert desk.pid == first
    assert alive(desk.opening()[0])  # it waits for the next offload


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows")
@pytest.mark.parametrize("victim", ["successor that opens", "parked worker", "successor in its place"])
async def test_kill_9_at_each_step_leaves_a_model_that_reads_the_same(desk: Desk, signs: Signs, victim: str) -> None:
    await desk.read()
    first = desk.pid
    if victim == "successor in its place":
        await desk.manager.offload()
        os.kill(victim_pid := desk.pid, signal.SIGKILL)
        await anyio.to_thread.run_sync(until_dead, [victim_pid])
    else:
        async with anyio.create_task_group() as tasks:
            with desk.opening_waits():
                tasks.start_soon(desk.manager.offload)
                await until_opening(signs)
                os.kill(desk.opening()[0] if victim == "successor that opens" else first, signal.SIGKILL)
    assert await desk.read() == ANSWER
    moved = await desk.manager.offload()
    assert "Nothing of ours is on the card" in moved.message
    assert await desk.read() == ANSWER


async def test_prewarming_to_host_opens_a_real_worker_before_a_card_is_chosen(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.0)
    prewarmed = Desk(desk.gate.parent)
    prewarmed.manager = ModelManager(
        prewarmed.manager.engine,
        Settings(ocr_prewarm="host", gpu_idle_timeout=-1),
        probe=prewarmed.manager.probe,
    )
    watch = prewarmed.manager.observer = Watch()
    async with running(prewarmed):
        await watch.until(lambda: watch.moves == ["loading"])
        [pid] = prewarmed.opening()
        assert await prewarmed.read() == ANSWER
        await anyio.to_thread.run_sync(until_dead, [pid])  # by the idle policy
        assert await prewarmed.read() == ANSWER

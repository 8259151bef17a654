"""Several workers behind one server: real child processes, asked over MCP, in this process and over HTTP."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client

from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents.private import private_folder
from deepseek_ocr_mcp.documents.reader import DocumentReader
from deepseek_ocr_mcp.edges.mcp.server import build_mcp
from deepseek_ocr_mcp.engines import EngineSpec
from deepseek_ocr_mcp.gpu.probe import GpuProbe
from deepseek_ocr_mcp.lifecycle import pool
from deepseek_ocr_mcp.lifecycle.build import build_lifecycle
from deepseek_ocr_mcp.modes import MODES
from deepseek_ocr_mcp.service.service import OcrService
from fake_nvml import FakeNvml
from support import BOUND_S, alive, as_base64, facts, http_client, http_server, said, tiff

pytestmark = pytest.mark.anyio

HEIGHTS = tuple(range(20, 36))


@asynccontextmanager
async def house(engine: str, nvml: FakeNvml, **chosen: Any) -> AsyncIterator[Client]:
    """A server with a worker on each of two cards that only NVML believes in."""
    settings = Settings(ocr_gpus="all", ocr_prewarm="off", ocr_cache="off", **chosen)
    spec = EngineSpec(engine, f"faults:{engine}", frozenset(MODES), gpu_mb=8000)
    lifecycle = build_lifecycle(spec, settings, probe=GpuProbe(nvml, sees_host_pids=True))
    with private_folder() as folder, anyio.fail_after(60):
        service = OcrService(settings, "A test asked for it.", lifecycle, DocumentReader(settings, folder))
        async with service.running(), Client(build_mcp(service, local=True)) as mcp:
            yield mcp


def two_cards() -> FakeNvml:
    nvml = FakeNvml()
    for _ in range(2):
        nvml.add_card(free_mb=40_000)
    return nvml


async def read(mcp: Client, *heights: int) -> list[tuple[int, str]]:
    """The height of each page as it was read, and the card that read it."""
    answer = facts(await mcp.call_tool("ocr_image", {"image": as_base64(tiff(*heights)), "max_chars": 0}))
    texts = [page["text"].split(" on ") for page in answer["pages"]]
    assert [page["page"] for page in answer["pages"]] == list(range(1, len(heights) + 1))
    return [(int(height), card) for height, card in texts]


async def status(mcp: Client) -> dict[str, Any]:
    return facts(await mcp.call_tool("gpu_status", {}))


async def test_a_document_is_read_by_two_cards_and_comes_back_in_order() -> None:
    nvml = two_cards()
    # No idle policy: what it may have begun at one card, that card's part of the release would tell.
    async with house("Placed", nvml, gpu_offload_after=-1) as mcp:
        found = await read(mcp, *HEIGHTS)
        assert tuple(height for height, _ in found) == HEIGHTS
        counts = Counter(card for _, card in found)
        assert set(counts) == {card.uuid for card in nvml.devices}
        told = await status(mcp)
        assert {worker["card"]: worker["served"] for worker in told["workers"]} == dict(counts)
        assert told["served"] == len(HEIGHTS)
        pids = [worker["pid"] for worker in told["workers"]]
        assert len(set(pids)) == 2
        moved = facts(await mcp.call_tool("gpu_release", {}))
        assert moved["to"] == "unloaded"
        # Workers that end in the same way share a sentence; a busy machine may make them differ.
        assert sum(map(int, re.findall(r"(\d) of 2 workers:", moved["message"]))) == 2
        assert not any(alive(pid) for pid in pids)


async def test_a_card_that_kills_its_workers_is_left_out_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULTS", str(tmp_path))
    monkeypatch.setattr(pool, "RETRY_FIRST_S", 0.2)
    nvml = two_cards()
    sick, sound = (card.uuid for card in nvml.devices)
    mark = tmp_path / f"sick-{sick}"
    mark.touch()
    async with house("Sick", nvml, gpu_offload_after=-1) as mcp:
        found = await read(mcp, *HEIGHTS)
        assert found == [(height, sound) for height in HEIGHTS], "none lost, none doubled"
        worker, other = (await status(mcp))["workers"]
        assert (worker["card"], "retry_in_s" in worker, "retry_in_s" in other) == (sick, True, False)
        assert worker["restarts"] >= 2
        mark.unlink()
        while sick not in {card for _, card in found}:
            found = await read(mcp, *HEIGHTS)
            assert tuple(height for height, _ in found) == HEIGHTS
        assert "retry_in_s" not in (await status(mcp))["workers"][0]


async def test_cards_that_are_all_full_are_named() -> None:
    nvml = two_cards()
    for card in nvml.devices:
        card.free_mb = 1_000
    async with house("Placed", nvml) as mcp:
        text = said(await mcp.call_tool("ocr_image", {"image": as_base64(tiff(20))}))
        assert all(card.uuid in text for card in nvml.devices)
        assert "OCR_GPUS" in text


async def test_several_workers_on_the_cpu_read_over_http_while_one_of_them_is_killed() -> None:
    with http_server("Steady", OCR_CPU_WORKERS="3") as server, anyio.fail_after(2 * BOUND_S):
        async with http_client(server) as mcp:
            some_read = anyio.Event()

            async def note(done: float, total: float | None, message: str | None) -> None:
                if done >= 1:
                    some_read.set()

            async def document(texts: list[str]) -> None:
                arguments = {"image": as_base64(tiff(*HEIGHTS)), "max_chars": 0}
                answer = facts(await mcp.call_tool("ocr_image", arguments, progress_callback=note))
                texts += [page["text"].split()[0] for page in answer["pages"]]

            texts: list[str] = []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(document, texts)
                await some_read.wait()
                busy = [worker["pid"] for worker in (await status(mcp))["workers"] if worker["served"]]
                os.kill(busy[0], signal.SIGKILL)
            assert texts == [f"40x{height}" for height in HEIGHTS]
            told = await status(mcp)
            assert [worker["card"] for worker in told["workers"]] == ["cpu"] * 3
            assert told["served"] == sum(worker["served"] for worker in told["workers"]) == len(HEIGHTS)
            assert sum(worker["served"] > 0 for worker in told["workers"]) >= 2
            metrics = httpx2.get(server.root + "/metrics", timeout=BOUND_S).text
            assert "deepseek_ocr_workers 3.0" in metrics
            assert "deepseek_ocr_workers_out 0.0" in metrics
            for number, worker in enumerate(told["workers"]):
                sample = f'deepseek_ocr_worker_pages_total{{uuid="cpu",worker="{number}"}} {worker["served"]:.1f}'
                assert sample in metrics
            api = httpx2.get(server.root + "/gpu/status", timeout=BOUND_S).json()
            assert len(api["workers"]) == 3
            pids = [pid for worker in told["workers"] if (pid := worker.get("pid"))]
            await mcp.call_tool("gpu_release", {})
            assert not any(alive(pid) for pid in pids)

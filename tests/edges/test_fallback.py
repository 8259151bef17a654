"""While no GPU has room, another engine reads what it can, and the answer says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from mcp import Client

from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents.private import private_folder
from deepseek_ocr_mcp.documents.reader import DocumentReader
from deepseek_ocr_mcp.edges.mcp.server import build_mcp
from deepseek_ocr_mcp.engines import EngineSpec, choose_engine
from deepseek_ocr_mcp.gpu.probe import GpuProbe
from deepseek_ocr_mcp.lifecycle.manager import ModelManager
from deepseek_ocr_mcp.modes import MODES
from deepseek_ocr_mcp.service.service import OcrService
from fake_nvml import FakeNvml
from support import as_base64, echo, facts, png, said

pytestmark = pytest.mark.anyio

PAGE = as_base64(png())


@asynccontextmanager
async def house(free_mb: int, *, fallback: bool, compute_mode: int = 0) -> AsyncIterator[Client]:
    nvml = FakeNvml()
    nvml.add_card(free_mb=free_mb, compute_mode=compute_mode)
    probe = GpuProbe(nvml, sees_host_pids=True)
    settings = Settings(ocr_prewarm="off")
    on_gpu = EngineSpec("on-gpu", "faults:Steady", frozenset(MODES), gpu_mb=8000)
    on_cpu = EngineSpec("on-cpu", "faults:Echo", frozenset({"document", "free"}))
    with private_folder() as folder, anyio.fail_after(60):
        service = OcrService(
            settings,
            "A test asked for it.",
            ModelManager(on_gpu, settings, probe=probe),
            DocumentReader(settings, folder),
            fallback=ModelManager(on_cpu, settings, probe=probe) if fallback else None,
        )
        async with service.running(), Client(build_mcp(service, local=True)) as mcp:
            yield mcp


async def test_with_room_the_gpu_engine_reads() -> None:
    async with house(40_000, fallback=True) as mcp:
        answer = facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
    assert (answer["engine"], answer["text"]) == ("on-gpu", echo())
    assert answer["device"].startswith("GPU-")


async def test_without_room_the_fallback_reads_and_says_so() -> None:
    async with house(1_000, fallback=True) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
    answer = facts(result)
    assert (answer["engine"], answer["device"], answer["text"]) == ("on-cpu", "cpu", echo())
    assert "GPU 0" in said(result)
    assert "OCR_FALLBACK" in said(result)


async def test_where_no_card_can_be_used_the_fallback_reads_and_says_why() -> None:
    async with house(40_000, fallback=True, compute_mode=2) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
    assert (facts(result)["engine"], facts(result)["text"]) == ("on-cpu", echo())
    assert "compute mode Prohibited" in said(result)
    assert "OCR_FALLBACK" in said(result)


async def test_a_mode_that_the_fallback_cannot_do_stays_an_error() -> None:
    async with house(1_000, fallback=True) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "describe"})
    assert result.is_error
    assert "GPU 0" in said(result)


async def test_without_a_fallback_a_full_card_is_an_error_that_names_it() -> None:
    async with house(1_000, fallback=False) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
        assert result.is_error
        assert "GPU 0" in said(result)
        status = facts(await mcp.call_tool("gpu_status", {}))
    assert status["gpus"][0]["memory_free_mb"] == 1_000
    assert "GPU 0" in status["last_error"]


def test_auto_says_why_it_takes_the_embedded_engine(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    spec, reason = choose_engine("auto", gpu="cpu")
    assert (spec.name, "OCR_GPU=cpu" in reason) == ("rapidocr", True)
    monkeypatch.setattr("deepseek_ocr_mcp.engines.find_spec", lambda name: None)
    assert "pip install" in choose_engine("auto")[1]
    monkeypatch.setattr("deepseek_ocr_mcp.engines.find_spec", lambda name: object())
    assert "deepseek-ocr-mcp download" in choose_engine("auto")[1]


def test_auto_takes_deepseek_where_a_card_torch_and_the_weights_are(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("deepseek_ocr_mcp.engines.find_spec", lambda name: object())
    monkeypatch.setattr("deepseek_ocr_mcp.engines.hub.resolve_model", lambda model: tmp_path)
    nvml = FakeNvml()
    probe = GpuProbe(nvml)
    assert "no NVIDIA GPU" in choose_engine("auto", cards=probe.cards)[1]
    nvml.add_card(total_mb=4_000)
    assert "8832 MiB" in choose_engine("auto", cards=probe.cards)[1]
    nvml.add_card(total_mb=24_000)
    assert choose_engine("auto", cards=probe.cards)[0].name == "deepseek"

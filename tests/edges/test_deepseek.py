"""DeepSeek-OCR through the MCP tool, whole: tiny random weights, real processes, the CPU as its device."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import anyio
import pytest
import tiny_deepseek
from mcp import Client

from deepseek_ocr_mcp.modes import MODES
from support import alive, as_base64, client, facts, png, said, tiff, written

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PAGE = as_base64(written("A page"))
NEEDED = {"find": {"find_term": "page"}, "freeform": {"custom_prompt": "What is it?"}}


@pytest.fixture(scope="module")
def v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_deepseek.make_v1(tmp_path_factory.mktemp("weights") / "tiny-v1")


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_deepseek.make_v2(tmp_path_factory.mktemp("weights") / "tiny-v2")


def deepseek(weights: Path, **more: Any) -> Any:
    return client("deepseek", **{"ocr_model": str(weights), "ocr_gpu": "cpu", "ocr_prewarm": "off", **more})


async def read(mcp: Client, **arguments: Any) -> dict[str, Any]:
    return facts(await mcp.call_tool("ocr_image", {"image": PAGE, "resolution": "tiny", **arguments}))


async def test_every_mode_reads_a_page_with_v1(v1: Path) -> None:
    async with deepseek(v1) as mcp:
        for mode in MODES:
            answer = await read(mcp, mode=mode, **NEEDED.get(mode, {}))
            assert answer["engine"] == "deepseek"
            assert answer["model"] == "DeepSeek-OCR (tiny-v1)"
            assert answer["device"] == "cpu"
            assert answer["pages"][0]["finish"] in ("stop", "length", "loop")


async def test_v2_is_told_apart_by_its_config(v2: Path) -> None:
    async with deepseek(v2) as mcp:
        assert (await read(mcp))["model"] == "DeepSeek-OCR-2 (tiny-v2)"


async def test_pages_read_together_are_what_they_are_alone(v1: Path) -> None:
    document = as_base64(tiff(200, 300, 400))
    async with deepseek(v1) as mcp:
        together = facts(await mcp.call_tool("ocr_image", {"image": document, "resolution": "tiny"}))
        for page in together["pages"]:
            alone = facts(
                await mcp.call_tool("ocr_image", {"image": document, "resolution": "tiny", "pages": str(page["page"])})
            )
            assert alone["pages"] == [page]


async def test_the_weights_are_parked_as_soon_as_nobody_waits_and_come_back(v1: Path) -> None:
    async with deepseek(v1) as mcp:
        first = await read(mcp)
        with anyio.fail_after(10):
            while (status := facts(await mcp.call_tool("gpu_status", {})))["state"] != "host":
                await anyio.sleep(0.01)
        second = await read(mcp)
        assert second["text"] == first["text"]
        assert facts(await mcp.call_tool("gpu_status", {}))["worker_pid"] == status["worker_pid"]


async def test_fifty_rounds_of_moving_and_reading_from_eight_callers_change_nothing(v1: Path) -> None:
    pages = [as_base64(png(60 + 10 * n, 40)) for n in range(4)]
    chance = random.Random(7)
    patient = {"ocr_busy_wait": 200, "ocr_reply_seconds": 200}
    async with deepseek(v1, gpu_offload_after=-1, gpu_idle_timeout=-1, bound_s=240, **patient) as mcp:

        async def text(page: str) -> str:
            result = await mcp.call_tool("ocr_image", {"image": page, "resolution": "tiny"})
            return facts(result)["text"]

        before = [await text(page) for page in pages]
        rounds = iter(range(50))

        async def caller() -> None:
            for _ in rounds:
                match chance.randrange(4):
                    case 0:
                        facts(await mcp.call_tool("gpu_offload", {}))
                    case 1 if chance.random() < 0.3:
                        facts(await mcp.call_tool("gpu_release", {}))
                    case _:
                        number = chance.randrange(len(pages))
                        assert await text(pages[number]) == before[number]

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(caller)
        assert [await text(page) for page in pages] == before
        assert facts(await mcp.call_tool("gpu_status", {}))["worker_restarts"] == 0


async def test_offload_and_release_tell_where_the_weights_went(v1: Path) -> None:
    async with deepseek(v1, gpu_offload_after=-1) as mcp:
        await read(mcp)
        moved = facts(await mcp.call_tool("gpu_offload", {}))
        assert (moved["from"], moved["to"]) == ("gpu", "host")
        pid = facts(await mcp.call_tool("gpu_status", {}))["worker_pid"]
        released = facts(await mcp.call_tool("gpu_release", {}))
        assert (released["from"], released["to"]) == ("host", "unloaded")
        assert not alive(pid)


async def test_prewarming_imports_the_libraries_and_loads_nothing(v1: Path) -> None:
    async with deepseek(v1, ocr_prewarm="imports") as mcp:
        with anyio.fail_after(30):
            while not (status := facts(await mcp.call_tool("gpu_status", {})))["prewarmed"]:
                await anyio.sleep(0.05)
        assert status["state"] == "unloaded"
        await read(mcp)
        assert facts(await mcp.call_tool("gpu_status", {}))["worker_pid"] == status["worker_pid"]


async def test_missing_weights_are_an_error_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    async with deepseek(tmp_path / "nothing") as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
    assert result.is_error
    assert "deepseek-ocr-mcp download" in said(result)


async def test_weights_with_a_missing_key_never_serve(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tiny_deepseek.make_v1(tmp_path / "broken")
    file = next(broken.glob("*.safetensors"))
    tensors = load_file(file)
    lost = sorted(tensors)[3]
    del tensors[lost]
    save_file(tensors, file, metadata={"format": "pt"})
    async with deepseek(broken) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
    assert result.is_error
    assert lost in said(result)

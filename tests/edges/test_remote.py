"""Pages read by endpoints, through the MCP tool, whole: a real server in front of one that behaves as vLLM's does."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import anyio
import pytest
from fake_vllm import FakeVllm, fake_vllm
from mcp import Client

from deepseek_ocr_mcp.modes import MODES
from support import as_base64, client, echo, facts, png, said, tiff

pytestmark = pytest.mark.anyio

PAGE = as_base64(png())
NEEDED = {"find": {"find_term": "page"}, "freeform": {"custom_prompt": "What is it?"}}


def remote(*endpoints: FakeVllm, **settings: Any) -> Any:
    """A client of a server that reads with these; no idle policy unless a test wants one."""
    urls = ",".join(endpoint.url for endpoint in endpoints)
    quiet = {"gpu_offload_after": -1, "gpu_idle_timeout": -1}
    return client("openai", **{"ocr_remote_url": urls, **quiet, **settings})


async def read(mcp: Client, page: str = PAGE, **arguments: Any) -> dict[str, Any]:
    return facts(await mcp.call_tool("ocr_image", {"image": page, "mode": "free", **arguments}))


async def status(mcp: Client) -> dict[str, Any]:
    return facts(await mcp.call_tool("gpu_status", {}))


async def test_a_page_is_read_as_vllm_wants_it_asked() -> None:
    with fake_vllm() as vllm:
        async with remote(vllm) as mcp:
            answer = await read(mcp, mode="document", boxes=True)
    assert answer["text"] == echo()
    assert answer["pages"][0]["blocks"] == [{"label": "title", "text": echo(), "box": [0, 0, 40, 20]}]
    assert (answer["engine"], answer["model"]) == ("openai", "deepseek-ai/DeepSeek-OCR")
    assert answer["device"] == vllm.url
    (request,) = vllm.requests
    assert request["messages"][0]["content"][1]["text"] == "<|grounding|>Convert the document to markdown."
    assert request["temperature"] == 0
    assert request["skip_special_tokens"] is False
    ban = {"ngram_size": 30, "window_size": 90, "whitelist_token_ids": [128821, 128822]}
    assert request["vllm_xargs"] == ban


async def test_every_mode_asks_deepseek_with_its_own_prompt_and_others_in_words() -> None:
    with fake_vllm() as deepseek, fake_vllm("Qwen/Qwen3-VL-8B", context=65536) as other:
        for vllm, in_words in ((deepseek, False), (other, True)):
            async with remote(vllm) as mcp:
                for mode in MODES:
                    assert echo() in json.dumps(await read(mcp, mode=mode, **NEEDED.get(mode, {})))
            asked = [request["messages"][0]["content"][1]["text"] for request in vllm.requests]
            assert asked == [mode.question("page", "What is it?", in_words=in_words) for mode in MODES.values()]
    assert all("vllm_xargs" not in request and request["max_tokens"] == 8192 for request in other.requests)
    assert all("max_tokens" not in request for request in deepseek.requests)

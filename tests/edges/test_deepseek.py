"""DeepSeek-OCR through the MCP tool, whole: tiny random weights, real processes, the CPU as its device."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tiny_deepseek
import tiny_vision
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client

from deepseek_ocr_mcp.edges.mcp.server import build_mcp
from deepseek_ocr_mcp.modes import MODES
from leftovers import workers_outlive_their_test
from support import Watch, alive, as_base64, client, facts, png, running, said, tiff, written

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PAGE = as_base64(written("A page"))
NEEDED = {"find": {"find_term": "page"}, "freeform": {"custom_prompt": "What is it?"}}


@pytest.fixture(scope="module")
def v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_deepseek.make_v1(tmp_path_factory.mktemp("weights") / "tiny-v1", end_scale=tiny_deepseek.SHORT)


@pytest.fixture(scope="module")
def glm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vision.make("GLM-OCR", tmp_path_factory.mktemp("weights"))


# Two threads only get in each other's way with a model of this size; and on a busy machine it takes its time to load.
SETTINGS: dict[str, Any] = {
    "ocr_gpu": "cpu",
    "ocr_prewarm": "off",
    "ocr_threads": 1,
    "ocr_reply_seconds": 600,
    "ocr_busy_wait": 600,
}


def deepseek(weights: Path, **more: Any) -> Any:
    return client("deepseek", **{"ocr_model": str(weights), "bound_s": 600, **SETTINGS, **more})


async def read(mcp: Client, **arguments: Any) -> dict[str, Any]:
    return facts(await mcp.call_tool("ocr_image", {"image": PAGE, "resolution": "tiny", **arguments}))


class Shared:
    """One server with v1 for all tests that leave it as it was: its worker takes five seconds of a core to start.

    It runs in a thread of its own; `calls` is the only way to it.
    """

    def __init__(self, portal: BlockingPortal, mcp: Client, watch: Watch) -> None:
        self._portal = portal
        self._mcp = mcp
        self._watch = watch

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return facts(self._portal.call(self._mcp.call_tool, tool, arguments))

    def read(self, **arguments: Any) -> dict[str, Any]:
        return self.call("ocr_image", **{"image": PAGE, "resolution": "tiny", **arguments})

    def until_parked(self) -> dict[str, Any]:
        """The status once the weights are in host memory."""

        def is_parked() -> bool:
            return self._watch.moves[-1:] == ["offloading"]

        self._portal.call(self._watch.until, is_parked)
        return self.call("gpu_status")


@pytest.fixture(scope="module")
def shared(v1: Path) -> Iterator[Shared]:
    settings = {"ocr_model": str(v1), **SETTINGS}
    with start_blocking_portal() as portal, workers_outlive_their_test():
        watch = portal.call(Watch)
        with (
            portal.wrap_async_context_manager(running("deepseek", watch=watch, **settings)) as service,
            portal.wrap_async_context_manager(Client(build_mcp(service, local=True))) as mcp,
        ):
            yield Shared(portal, mcp, watch)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_reads_a_page_with_v1(mode: str, shared: Shared) -> None:
    answer = shared.read(mode=mode, **NEEDED.get(mode, {}))
    assert answer["engine"] == "deepseek"
    assert answer["model"] == "DeepSeek-OCR (tiny-v1)"
    assert answer["device"] == "cpu"
    assert answer["pages"][0]["finish"] in ("stop", "length", "loop")


def test_pages_read_together_are_what_they_are_alone(shared: Shared) -> None:
    document = as_base64(tiff(200, 300, 400))
    together = shared.read(image=document)
    assert len(together["pages"]) == 3
    for page in together["pages"]:
        assert shared.read(image=document, pages=str(page["page"]))["pages"] == [page]


def test_the_weights_are_parked_as_soon_as_nobody_waits_and_come_back(shared: Shared) -> None:
    first = shared.read()
    parked = shared.until_parked()
    assert parked["state"] == "host"
    assert shared.read()["text"] == first["text"]
    assert shared.call("gpu_status")["worker_pid"] == parked["worker_pid"]


async def test_another_model_of_the_table_reads_in_its_modes_and_says_what_it_leaves_out(glm: Path) -> None:
    async with client("vlm", ocr_model=str(glm), ocr_cache="on", bound_s=600, **SETTINGS) as mcp:
        answer = await read(mcp)
        assert (answer["engine"], answer["model"]) == ("vlm", "GLM-OCR (GLM-OCR)")
        (note,) = answer["notes"]
        assert note["code"] == "not_read"
        assert "GLM-OCR reads a whole page as text" in note["text"]
        again = await read(mcp)
        assert again["cached"], "the note holds for the model: a second reading would say the same"
        assert again["notes"] == [note]
        refused = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "describe"})
        assert refused.is_error
        assert "document, free" in said(refused)


def test_two_dozen_rounds_of_moving_and_reading_from_eight_callers_change_nothing(shared: Shared) -> None:
    """One of the rounds gives everything back: a worker takes five seconds of a core to start."""
    pages = [as_base64(png(60 + 10 * n, 40)) for n in range(4)]
    chance = random.Random(7)
    restarts = shared.call("gpu_status")["worker_restarts"]
    before = [shared.read(image=page)["text"] for page in pages]
    rounds = iter(range(24))

    def caller() -> None:
        for number in rounds:
            if number == 12:
                assert shared.call("gpu_release")["to"] == "unloaded"
            elif chance.randrange(3) == 0:
                shared.call("gpu_offload")
            else:
                page = chance.randrange(len(pages))
                assert shared.read(image=pages[page])["text"] == before[page]

    with ThreadPoolExecutor(8) as callers:
        for done in [callers.submit(caller) for _ in range(8)]:
            done.result()
    assert [shared.read(image=page)["text"] for page in pages] == before
    assert shared.call("gpu_status")["worker_restarts"] == restarts


async def test_one_worker_is_prewarmed_reads_is_parked_and_is_released(v1: Path) -> None:
    async with deepseek(v1, ocr_prewarm="imports", gpu_offload_after=-1) as mcp:
        await mcp.call_tool("gpu_offload", {})  # waits for its turn: the libraries are imported when it comes
        status = facts(await mcp.call_tool("gpu_status", {}))
        assert (status["state"], status["prewarmed"]) == ("unloaded", True), "the libraries are there, no weights are"
        await read(mcp)
        moved = facts(await mcp.call_tool("gpu_offload", {}))
        assert (moved["from"], moved["to"]) == ("gpu", "host")
        pid = facts(await mcp.call_tool("gpu_status", {}))["worker_pid"]
        assert pid == status["worker_pid"]
        released = facts(await mcp.call_tool("gpu_release", {}))
        assert (released["from"], released["to"]) == ("host", "unloaded")
        assert not alive(pid)


async def test_missing_weights_are_an_error_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    async with deepseek(tmp_path / "nothing") as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
    assert result.is_error
    assert "deepseek-ocr-mcp download" in said(result)

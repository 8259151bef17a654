"""Long documents and short patience through the tool: one proof of each promise, with real workers.

The logic, and that an answer comes in time, is tested on virtual time: `tests/service/test_patience.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from mcp import Client

from support import StdioServer, Watch, as_base64, client, echo, facts, png, said, stdio_server, tiff

pytestmark = pytest.mark.anyio

PAGE = as_base64(png())
FULL = {"ocr_cache": "on"}


async def status(mcp: Client) -> dict[str, Any]:
    return facts(await mcp.call_tool("gpu_status", {}))


# -- in time


async def test_a_document_is_finished_by_following_next_pages(tmp_path: Path) -> None:
    document = as_base64(tiff(*range(11, 17)))
    seen: list[int] = []
    async with client("Unhurried", ocr_reply_seconds=2.0, **FULL) as mcp:
        pages, calls = "", 0
        while pages or not seen:
            result = await mcp.call_tool("ocr_image", {"image": document, "pages": pages})
            calls += 1
            if result.is_error:  # on a busy machine the worker alone may take longer to start than a reply
                assert "loading" in said(result)
                continue
            answer = facts(result)
            seen += [page["page"] for page in answer["pages"]]
            pages = answer.get("next_pages", "")
            if pages:
                assert "reading goes on" in said(result)
                assert f'pages="{pages}"' in said(result)
        assert (await status(mcp))["served"] == 6
    assert seen == list(range(1, 7))
    assert calls > 1


# -- once


async def test_the_same_page_is_read_once_and_the_answer_says_so() -> None:
    async with client(**FULL) as mcp:
        first = await mcp.call_tool("ocr_image", {"image": PAGE})
        again = await mcp.call_tool("ocr_image", {"image": PAGE, "boxes": True})
        second = facts(again)
        assert "cached" not in facts(first)
        assert (second["cached"], said(again)) == (True, said(first))
        assert second["pages"][0]["blocks"][0]["box"] == [0, 0, 40, 20]
        assert (second["engine"], second["model"], second["device"]) == ("Echo", "echo", "cpu")
        assert (await status(mcp))["served"] == 1
        other = facts(await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"}))
        assert "cached" not in other


async def test_another_server_finds_on_disk_what_this_one_read(tmp_path: Path) -> None:
    # An engine of one's own is good for one process only: its code may change. RapidOCR has a version.
    for cached in (None, True):
        async with client("rapidocr", ocr_cache_dir=str(tmp_path), **FULL) as mcp:
            answer = facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
            assert answer.get("cached") is cached
            assert (await status(mcp))["state"] == ("unloaded" if cached else "host")


async def test_the_same_page_asked_by_ten_callers_at_once_is_read_once() -> None:
    async with client("Unhurried", **FULL) as mcp, anyio.create_task_group() as tasks:
        answers: list[str] = []

        async def caller() -> None:
            answers.append(said(await mcp.call_tool("ocr_image", {"image": PAGE})))
            if len(answers) == 10:
                assert answers == [echo()] * 10
                assert (await status(mcp))["served"] == 1

        for _ in range(10):
            tasks.start_soon(caller)


# -- leaving


async def test_a_caller_that_leaves_stops_only_what_nobody_else_asked_for() -> None:
    document = as_base64(tiff(*range(11, 17)))
    watch = Watch()
    async with client("Unhurried", watch=watch, **FULL) as mcp, anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def leaver() -> None:
            with scope:
                await mcp.call_tool("ocr_image", {"image": document})

        async def stayer() -> None:
            answer = facts(await mcp.call_tool("ocr_image", {"image": document, "pages": "1-2"}))
            assert [page["page"] for page in answer["pages"]] == [1, 2]
            await watch.until_idle()
            assert watch.pages <= 3, "two, and one that was being read"

        tasks.start_soon(leaver)
        tasks.start_soon(stayer)
        await watch.until(lambda: "loading" in watch.moves)
        scope.cancel()


# -- what a long document says of itself


async def test_a_document_that_does_not_fit_has_a_table_of_contents_once() -> None:
    document = as_base64(tiff(*range(11, 15)))
    async with client("Verbose", **FULL) as mcp:
        await mcp.call_tool("ocr_image", {"image": document, "max_chars": 0})
        result = await mcp.call_tool("ocr_image", {"image": document, "max_chars": 450})
        answer = facts(result)
        assert answer["contents"] == [{"page": n, "heading": "line 0000", "chars": 199} for n in (1, 2, 3, 4)]
        assert "page 4: line 0000 (199)" in said(result)
        more = facts(await mcp.call_tool("ocr_image", {"image": document, "pages": "3-4", "max_chars": 450}))
        assert "contents" not in more


# -- four hundred pages


def rss_mb(server: StdioServer) -> float:
    return float(psutil.Process(server.process.pid).memory_info().rss / 1e6)


@pytest.mark.slow
def test_four_hundred_pages_are_read_by_following_next_pages_and_the_server_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "long.tif"
    path.write_bytes(tiff(*range(100, 500)))
    seen: list[int] = []
    sizes: list[float] = []
    with stdio_server("Verbose", from_its_start=True, OCR_CACHE="on") as server:
        server.initialize()
        pages, number = "", 1
        while True:
            server.call("ocr_image", number, image=str(path), pages=pages, max_chars=4000)
            answer = server.answer(number)["result"]["structuredContent"]
            seen += [page["page"] for page in answer["pages"]]
            sizes.append(rss_mb(server))
            pages, number = answer.get("next_pages", ""), number + 1
            if not pages:
                break
    assert seen == list(range(1, 401))
    assert max(sizes) < 200
    assert sizes[-1] - sizes[len(sizes) // 4] < 15

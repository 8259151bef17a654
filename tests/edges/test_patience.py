"""Long documents and short patience: every call is answered in time, and no page is read twice."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from mcp import Client

from support import StdioServer, as_base64, client, echo, facts, png, running, said, stdio_server, tiff

pytestmark = pytest.mark.anyio

PAGE = as_base64(png())
REPLY_S = 2.0
SLACK_S = 2.0  # of a machine that does other things too
FULL = {"ocr_cache": "on"}


async def status(mcp: Client) -> dict[str, Any]:
    return facts(await mcp.call_tool("gpu_status", {}))


async def warm(mcp: Client) -> None:
    """Have the model loaded: on a busy machine that alone may take longer than a reply."""
    with anyio.fail_after(20):
        while (await mcp.call_tool("ocr_image", {"image": as_base64(png(50, 50))})).is_error:
            await anyio.sleep(0.1)
        await until_read(mcp, 1)


async def until_read(mcp: Client, pages: int) -> None:
    with anyio.fail_after(20):
        while (await status(mcp))["served"] < pages:
            await anyio.sleep(0.02)


# -- in time


@pytest.mark.parametrize("cache", ["on", "off"])
async def test_a_document_is_finished_by_following_next_pages_and_every_answer_is_in_time(cache: str) -> None:
    document = as_base64(tiff(*range(11, 21)))
    seen: list[int] = []
    async with client("Unhurried", ocr_reply_seconds=REPLY_S, ocr_cache=cache) as mcp:
        await warm(mcp)
        pages, calls = "", 0
        while True:
            began = time.monotonic()
            result = await mcp.call_tool("ocr_image", {"image": document, "pages": pages})
            assert time.monotonic() - began < REPLY_S + SLACK_S
            calls += 1
            answer = facts(result)
            seen += [page["page"] for page in answer["pages"]]
            pages = answer.get("next_pages", "")
            if not pages:
                break
            assert answer["truncated"] is True
            assert "reading goes on" in said(result)
            assert f'pages="{pages}"' in said(result)
        assert (await status(mcp))["served"] == 1 + 10
    assert seen == list(range(1, 11))
    assert calls > 1


async def test_the_next_call_finds_its_pages_read() -> None:
    document = as_base64(tiff(*range(11, 21)))
    async with client("Unhurried", ocr_reply_seconds=REPLY_S, **FULL) as mcp:
        await warm(mcp)
        first = facts(await mcp.call_tool("ocr_image", {"image": document}))
        await until_read(mcp, 1 + 10)
        second = facts(await mcp.call_tool("ocr_image", {"image": document, "pages": first["next_pages"]}))
        assert second["truncated"] is False
        assert second["cached"] is True
        assert second["timing"]["infer_s"] == 0


async def test_what_the_next_answer_will_hold_is_read_ahead_and_no_more() -> None:
    document = as_base64(tiff(*range(11, 31)))
    async with client("Verbose", **FULL) as mcp:
        first = facts(await mcp.call_tool("ocr_image", {"image": document, "max_chars": 450}))
        assert first["next_pages"] == "3-20"
        await until_read(mcp, 5)
        with anyio.fail_after(5):
            while (await status(mcp))["queue"]:
                await anyio.sleep(0.02)
        assert (await status(mcp))["served"] == 5


async def test_while_the_model_loads_a_call_is_answered_in_time_and_the_next_one_reads() -> None:
    async with client("SlowToLoad", ocr_reply_seconds=REPLY_S) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
        assert result.is_error
        assert "loading" in said(result)
        assert "Call again" in said(result)
        await until_read(mcp, 1)
        assert said(await mcp.call_tool("ocr_image", {"image": PAGE})) == echo()
        assert (await status(mcp))["served"] == 1


async def test_a_page_that_takes_longer_than_the_reply_is_no_error() -> None:
    async with client("Slow", ocr_reply_seconds=REPLY_S) as mcp:
        await warm(mcp)
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
        answer = facts(result)
        assert (answer["pages"], answer["next_pages"]) == ([], "1")
        assert "reading goes on" in said(result)
        await until_read(mcp, 2)
        assert said(await mcp.call_tool("ocr_image", {"image": PAGE, "pages": "1"})) == echo()


async def test_a_file_that_cannot_be_saved_in_time_is_saved_by_the_call_that_finds_all_pages_read(
    tmp_path: Path,
) -> None:
    arguments = {"image": as_base64(tiff(*range(11, 21))), "save_to": str(tmp_path / "all.md")}
    async with client("Unhurried", ocr_reply_seconds=REPLY_S, **FULL) as mcp:
        await warm(mcp)
        result = await mcp.call_tool("ocr_image", arguments)
        assert "of 10 pages are read so far" in said(result)
        assert "saved_to" not in facts(result) or not facts(result)["saved_to"]
        assert not (tmp_path / "all.md").exists()
        await until_read(mcp, 1 + 10)
        assert facts(await mcp.call_tool("ocr_image", arguments))["saved_to"] == str(tmp_path / "all.md")
        assert (await status(mcp))["served"] == 1 + 10
    assert (tmp_path / "all.md").read_text().count("40x") == 10


async def test_the_command_line_waits_as_long_as_it_takes() -> None:
    from deepseek_ocr_mcp.caller import Caller
    from deepseek_ocr_mcp.models import OcrRequest

    async with running("Unhurried", ocr_reply_seconds=0.1) as service:
        with anyio.fail_after(20):
            answer = await service.read(OcrRequest(image=as_base64(tiff(11, 12)), max_chars=0), Caller())
    assert len(answer.result.pages) == 2


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


async def test_with_the_cache_off_it_is_read_again() -> None:
    async with client(ocr_cache="off") as mcp:
        for _ in range(2):
            assert "cached" not in facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
        assert (await status(mcp))["served"] == 2


@pytest.mark.parametrize("cache", ["on", "off"])
async def test_the_same_page_asked_by_ten_callers_at_once_is_read_once(cache: str) -> None:
    async with client("Unhurried", ocr_cache=cache) as mcp, anyio.create_task_group() as tasks:
        answers: list[str] = []

        async def caller() -> None:
            answers.append(said(await mcp.call_tool("ocr_image", {"image": PAGE})))

        for _ in range(10):
            tasks.start_soon(caller)
        with anyio.fail_after(20):
            while len(answers) < 10:
                await anyio.sleep(0.02)
        assert answers == [echo()] * 10
        assert (await status(mcp))["served"] == 1


async def test_another_server_finds_on_disk_what_this_one_read(tmp_path: Path) -> None:
    # An engine of one's own is good for one process only: its code may change. RapidOCR has a version.
    for cached in (None, True):
        async with client("rapidocr", ocr_cache_dir=str(tmp_path), **FULL) as mcp:
            answer = facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
            assert answer.get("cached") is cached
            assert (await status(mcp))["state"] == ("unloaded" if cached else "host")


async def test_a_page_with_a_remark_is_read_again() -> None:
    async with client("Remarking", **FULL) as mcp:
        for _ in range(2):
            assert "The rest is in a script" in said(await mcp.call_tool("ocr_image", {"image": PAGE}))
        assert (await status(mcp))["served"] == 2


# -- leaving


async def test_a_caller_that_leaves_stops_only_what_nobody_else_asked_for() -> None:
    document = as_base64(tiff(*range(11, 17)))
    async with client("Unhurried", **FULL) as mcp, anyio.create_task_group() as tasks:
        answers: list[dict[str, Any]] = []

        async def stayer() -> None:
            answers.append(facts(await mcp.call_tool("ocr_image", {"image": document, "pages": "1-2"})))

        async def leaver(scope: anyio.CancelScope) -> None:
            with scope:
                await mcp.call_tool("ocr_image", {"image": document})

        scope = anyio.CancelScope()
        tasks.start_soon(leaver, scope)
        tasks.start_soon(stayer)
        with anyio.fail_after(20):
            while (await status(mcp))["state"] != "host":
                await anyio.sleep(0.02)
            scope.cancel()
            while not answers:
                await anyio.sleep(0.02)
            while (await status(mcp))["queue"]:
                await anyio.sleep(0.02)
        assert [page["page"] for page in answers[0]["pages"]] == [1, 2]
        assert (await status(mcp))["served"] <= 3


async def test_who_wants_the_memory_back_stops_what_is_read_for_nobody() -> None:
    document = as_base64(tiff(*range(11, 31)))
    async with client("Unhurried", ocr_reply_seconds=REPLY_S, **FULL) as mcp:
        await warm(mcp)
        await mcp.call_tool("ocr_image", {"image": document})
        assert facts(await mcp.call_tool("gpu_release", {}))["to"] == "unloaded"
        with anyio.fail_after(5):
            while (await status(mcp))["queue"]:
                await anyio.sleep(0.02)
        now = await status(mcp)
        assert (now["state"], now["served"] < 15) == ("unloaded", True)


async def test_a_short_request_waits_for_one_batch_of_a_long_document() -> None:
    document = as_base64(tiff(*range(11, 31)))  # ten seconds
    async with client("Unhurried") as mcp, anyio.create_task_group() as tasks:
        tasks.start_soon(mcp.call_tool, "ocr_image", {"image": document})
        await until_read(mcp, 1)
        before = (await status(mcp))["served"]
        assert said(await mcp.call_tool("ocr_image", {"image": PAGE})) == echo()
        assert (await status(mcp))["served"] <= before + 3  # the one that ran, its own, one that began meanwhile
        tasks.cancel_scope.cancel()


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
    with stdio_server("Verbose", OCR_CACHE="on") as server:
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

"""The handle on a child, against real children that misbehave."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from deepseek_ocr_mcp.errors import EngineUnavailable, OcrError, Timeout, UnsupportedMode
from deepseek_ocr_mcp.worker.client import DECODER, ENGINE_HOST, WorkerDied, WorkerHandle

pytestmark = pytest.mark.anyio

LOAD = {"device": "cpu", "environment": {}}


@asynccontextmanager
async def worker(engine: str) -> AsyncIterator[WorkerHandle]:
    handle = await WorkerHandle.spawn(ENGINE_HOST, f"faults:{engine}", name="test worker")
    try:
        with anyio.fail_after(60):
            yield handle
    finally:
        await handle.stop()
        assert not handle.alive


def page(folder: Path, width: int = 4, height: int = 2) -> dict[str, Any]:
    path = folder / f"{width}x{height}"
    path.write_bytes(bytes(width * height * 3))
    return {"path": str(path), "width": width, "height": height}


def read(*pages: dict[str, Any]) -> dict[str, Any]:
    return {"pages": list(pages), "options": {"mode": "free"}}


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: Any) -> None:
    with anyio.fail_after(60):
        while not condition():
            await anyio.sleep(0.01)


async def test_a_call_returns_what_the_engine_answered(tmp_path: Path) -> None:
    async with worker("Echo") as handle:
        assert await handle.call("load", LOAD, timeout=60) == {"model": "echo"}
        answer = await handle.call("read", read(page(tmp_path)), timeout=60)
    assert answer["pages"][0]["text"].startswith("4x2 ")
    assert answer["pages"][0]["blocks"][0]["box"] == [0, 0, 4, 2]


async def test_progress_arrives_before_the_answer(tmp_path: Path) -> None:
    seen = []

    async def note(done: float, message: str) -> None:
        seen.append(done)

    async with worker("Echo") as handle:
        await handle.call("read", read(page(tmp_path)), timeout=60, on_progress=note)
    assert seen == [0.5]


async def test_more_of_the_same_progress_is_told_now_and_then_and_what_is_new_at_once(tmp_path: Path) -> None:
    seen = []

    async def note(done: float, message: str) -> None:
        seen.append((done, message))

    async with worker("Insistent") as handle:
        await handle.call("read", read(page(tmp_path)), timeout=60, on_progress=note)
    assert seen[0] == (0.0, "reading")
    assert seen[-1] == (1.0, "done")
    assert len(seen) < 100


async def test_pages_that_nobody_waits_for_any_more_end_and_the_others_are_read(tmp_path: Path) -> None:
    async with worker("SideBySide") as handle:

        async def leave(done: float, message: str) -> None:
            await handle.drop([1])

        pages = [page(tmp_path, width) for width in (4, 5, 6)]
        answer = await handle.call("read", read(*pages), timeout=60, on_progress=leave)
        assert [text["finish"] for text in answer["pages"]] == ["stop", "cancelled", "stop"]


async def test_to_drop_pages_of_a_worker_that_is_gone_is_no_error() -> None:
    async with worker("Echo") as handle:
        await handle.kill()
        await handle.drop([0])


async def test_an_error_keeps_its_class_its_message_and_its_remedy() -> None:
    async with worker("Refusing") as handle:
        with pytest.raises(UnsupportedMode, match="Not this one") as caught:
            await handle.call("read", read(), timeout=60)
    assert caught.value.remedy == "Another."


async def test_a_bug_in_an_engine_is_an_error_and_the_worker_lives(tmp_path: Path) -> None:
    async with worker("Broken") as handle:
        with pytest.raises(OcrError, match="ValueError: the engine has a bug"):
            await handle.call("read", read(page(tmp_path)), timeout=60)
        assert handle.alive
        assert "Traceback" in handle.stderr_tail


async def test_an_engine_that_answers_too_few_pages_is_an_error(tmp_path: Path) -> None:
    async with worker("Miscounting") as handle:
        with pytest.raises(OcrError, match="0 pages for 1"):
            await handle.call("read", read(page(tmp_path)), timeout=60)


async def test_an_engine_that_does_not_exist_says_so() -> None:
    async with worker("NoSuchEngine") as handle:
        with pytest.raises(EngineUnavailable, match="NoSuchEngine"):
            await handle.call("load", LOAD, timeout=60)


async def test_nothing_that_an_engine_prints_breaks_the_wire(tmp_path: Path) -> None:
    async with worker("Printing") as handle:
        for _ in range(2):
            answer = await handle.call("read", read(page(tmp_path)), timeout=60)
            assert answer["pages"][0]["text"].startswith("4x2 ")
        await until(lambda: "grandchild" in handle.stderr_tail)
    assert "printed by an engine" in handle.stderr_tail
    assert "written to fd 1" in handle.stderr_tail


async def test_a_death_is_reported_with_its_status_and_its_last_words(tmp_path: Path) -> None:
    async with worker("Dying") as handle:
        with pytest.raises(WorkerDied, match="exit status 7") as caught:
            await handle.call("read", read(page(tmp_path)), timeout=60)
    assert "the engine's last words" in caught.value.stderr_tail


async def test_a_killed_worker_is_reported_by_its_signal(tmp_path: Path) -> None:
    async with worker("OomKilled") as handle:
        with pytest.raises(WorkerDied, match="SIGKILL"):
            await handle.call("read", read(page(tmp_path)), timeout=60)


async def test_a_worker_that_died_between_calls_is_noticed_at_the_next(tmp_path: Path) -> None:
    async with worker("Echo") as handle:
        await handle.call("load", LOAD, timeout=60)
        os.kill(handle.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await handle.call("read", read(page(tmp_path)), timeout=60)


async def test_a_hung_worker_is_killed_when_the_bound_passes(tmp_path: Path) -> None:
    async with worker("Hanging") as handle:
        await handle.call("load", LOAD, timeout=60)
        with pytest.raises(Timeout, match=r"within 0\.3 s"):
            await handle.call("read", read(page(tmp_path)), timeout=0.3)
        assert not handle.alive
        assert not running(handle.pid)


async def cancel_while_reading(handle: WorkerHandle, folder: Path) -> None:
    """Cancel a call once the engine reads; returns when it has ended."""
    with anyio.CancelScope() as scope:

        async def note(done: float, message: str) -> None:
            scope.cancel()

        await handle.call("read", read(page(folder)), timeout=60, on_progress=note)
    assert scope.cancelled_caught


async def test_a_cancelled_call_leaves_a_clean_pipe_and_a_living_worker(tmp_path: Path) -> None:
    async with worker("Patient") as handle:
        await handle.call("load", LOAD, timeout=60)
        for _ in range(3):
            await cancel_while_reading(handle, tmp_path)
            assert handle.alive
        assert await handle.call("load", LOAD, timeout=60) == {"model": "echo"}


async def test_a_worker_that_ignores_cancellation_is_killed(tmp_path: Path) -> None:
    async with worker("Hanging") as handle:
        await handle.call("load", LOAD, timeout=60)
        await cancel_while_reading(handle, tmp_path)
        assert not handle.alive


async def test_what_a_worker_started_ends_with_it(tmp_path: Path) -> None:
    async with worker("Forking") as handle:
        answer = await handle.call("read", read(page(tmp_path)), timeout=60)
        grandchild = int(answer["pages"][0]["text"])
        assert running(grandchild)
        await handle.stop()
        await until(lambda: not running(grandchild))


async def test_the_tail_of_stderr_is_bounded_and_keeps_the_end(tmp_path: Path) -> None:
    async with worker("Talkative") as handle:
        await handle.call("read", read(page(tmp_path)), timeout=60)
        await until(lambda: handle.stderr_tail.endswith("the end"))
        assert len(handle.stderr_tail) <= 8192


@pytest.mark.parametrize("arguments", [(ENGINE_HOST, "faults:Echo"), (DECODER,)])
async def test_no_child_is_given_the_token(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.setenv("OCR_AUTH_TOKEN", "correct-horse-battery-staple")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "correct-horse-battery-staple")
    monkeypatch.setenv("OCR_THREADS", "3")
    handle = await WorkerHandle.spawn(*arguments)
    try:
        # Until it has answered, it may still be a copy of this process.
        with pytest.raises(OcrError):
            await handle.call("no such method", {}, timeout=60)
        given = await anyio.Path(f"/proc/{handle.pid}/environ").read_bytes()
    finally:
        await handle.stop()
    assert b"OCR_THREADS=3" in given
    assert b"correct-horse" not in given


async def test_what_is_a_line_of_our_log_is_not_among_the_last_words(tmp_path: Path) -> None:
    async with worker("Marking") as handle:
        await handle.call("read", read(page(tmp_path)), timeout=60)
        await until(lambda: handle.stderr_tail.endswith("the end"))
    assert "a line of ours" not in handle.stderr_tail
    assert handle.stderr_tail.startswith("before \x1enoise\nafter \x1e{}\n\x1exxx")

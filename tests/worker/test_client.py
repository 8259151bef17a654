"""The handle on a child, against real children that misbehave."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from deepseek_ocr_mcp.errors import EngineUnavailable, OcrError, Timeout, UnsupportedMode
from deepseek_ocr_mcp.worker.client import DECODER, ENGINE_HOST, WorkerDied, WorkerHandle
from deepseek_ocr_mcp.worker.confine import Rights, landlock_version
from support import BOUND_S, alive, until_dead

pytestmark = pytest.mark.anyio
linux = pytest.mark.skipif(landlock_version() < 4, reason="this kernel has no Landlock that knows of TCP")

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


async def last_words(handle: WorkerHandle) -> str:
    """All that it wrote to stderr. Ends it: stderr comes by another pipe than its answers."""
    await handle.stop()
    assert await anyio.to_thread.run_sync(handle._stderr._done.wait, BOUND_S)
    return handle.stderr_tail


async def test_a_caller_that_goes_away_while_a_child_starts_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = anyio.open_process, []

    async def start_slowly(*arguments: Any, **options: Any) -> anyio.abc.Process:
        started.append(await start(*arguments, **options))
        tasks.cancel_scope.cancel()
        await anyio.lowlevel.checkpoint()
        return started[0]

    monkeypatch.setattr(anyio, "open_process", start_slowly)
    with anyio.fail_after(BOUND_S):
        async with anyio.create_task_group() as tasks:
            await WorkerHandle.spawn(ENGINE_HOST, "faults:Echo", name="test worker")
            pytest.fail("the caller went on")
    [process] = started
    assert not alive(process.pid)


async def test_a_call_returns_what_the_engine_answered(tmp_path: Path) -> None:
    async with worker("Echo") as handle:
        assert await handle.call("load", LOAD, timeout=60) == {"model": "echo"}
        answer = await handle.call("read", read(page(tmp_path)), timeout=60)
    assert answer["pages"][0]["text"].startswith("4x2 ")
    assert answer["pages"][0]["blocks"][0]["box"] == [0, 0, 4, 2]


async def test_progress_arrives_before_the_answer(tmp_path: Path) -> None:
    seen = []

    async def note(frame: Mapping[str, Any]) -> None:
        seen.append(frame["progress"])

    async with worker("Echo") as handle:
        await handle.call("read", read(page(tmp_path)), timeout=60, on_frame=note)
    assert seen == [0.5]


async def test_more_of_the_same_progress_is_told_now_and_then_and_what_is_new_at_once(tmp_path: Path) -> None:
    seen = []

    async def note(frame: Mapping[str, Any]) -> None:
        seen.append((frame["progress"], frame["message"]))

    async with worker("Insistent") as handle:
        await handle.call("read", read(page(tmp_path)), timeout=60, on_frame=note)
    assert seen[0] == (0.0, "reading")
    assert seen[-1] == (1.0, "done")
    assert len(seen) < 100


async def test_pages_that_nobody_waits_for_any_more_end_and_the_others_are_read(tmp_path: Path) -> None:
    async with worker("SideBySide") as handle:

        async def leave(frame: Mapping[str, Any]) -> None:
            await handle.drop([1])

        pages = [page(tmp_path, width) for width in (4, 5, 6)]
        answer = await handle.call("read", read(*pages), timeout=60, on_frame=leave)
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


async def test_an_error_of_a_child_says_no_path_of_this_machine() -> None:
    async with worker("TellingPaths") as handle:
        with pytest.raises(EngineUnavailable) as caught:
            await handle.call("read", read(), timeout=60)
    assert caught.value.message == "model.bin is missing."
    assert caught.value.remedy == "See models, or https://example.org/a/b."


async def test_a_bug_in_an_engine_is_an_error_and_the_worker_lives(tmp_path: Path) -> None:
    async with worker("Broken") as handle:
        with pytest.raises(OcrError, match="ValueError: the engine has a bug"):
            await handle.call("read", read(page(tmp_path)), timeout=60)
        assert handle.alive
        assert "Traceback" in await last_words(handle)


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
        words = await last_words(handle)
    assert "grandchild" in words
    assert "printed by an engine" in words
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
        assert not alive(handle.pid)


async def cancel_while_reading(handle: WorkerHandle, folder: Path) -> None:
    """Cancel a call once the engine reads; returns when it has ended."""
    with anyio.CancelScope() as scope:

        async def note(frame: Mapping[str, Any]) -> None:
            scope.cancel()

        await handle.call("read", read(page(folder)), timeout=60, on_frame=note)
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
        assert alive(grandchild)
        await handle.stop()
        until_dead([grandchild])


async def test_the_tail_of_stderr_is_bounded_and_keeps_the_end(tmp_path: Path) -> None:
    async with worker("Talkative") as handle:
        await handle.call("read", read(page(tmp_path)), timeout=60)
        words = await last_words(handle)
    assert words.endswith("the end")
    assert len(words) <= 8192


@pytest.mark.parametrize("arguments", [(ENGINE_HOST, "faults:Echo"), (DECODER,)])
async def test_no_child_is_given_the_token(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    for name in ("OCR_AUTH_TOKEN", "RAY_AUTH_TOKEN", "HF_TOKEN", "OPENAI_API_KEY", "SOMETHING_ELSE"):
        monkeypatch.setenv(name, "correct-horse-battery-staple")
    monkeypatch.setenv("OCR_THREADS", "3")
    handle = await WorkerHandle.spawn(*arguments)
    try:
        await handle.call("confined", {}, timeout=60)  # until then it may have no environment at all
        given = await anyio.Path(f"/proc/{handle.pid}/environ").read_bytes()
    finally:
        await handle.stop()
    assert b"OCR_THREADS=3" in given
    assert b"ORT_DISABLE_TELEMETRY=1" in given
    assert b"correct-horse" not in given


@linux
async def test_a_child_keeps_the_rights_that_it_is_given_and_says_what_holds_it() -> None:
    handle = await WorkerHandle.spawn(DECODER, rights=Rights(read=()))
    try:
        confined = await handle.call("confined", {}, timeout=60)
        status = await anyio.Path(f"/proc/{handle.pid}/status").read_text()
    finally:
        await handle.stop()
    assert confined == {"landlock": landlock_version(), "seccomp": True}
    for line in ("NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"):
        assert line in status


@linux
async def test_no_child_can_look_into_the_server(tmp_path: Path) -> None:
    """Whatever engine the operator brings: the token is in the server's environment and memory."""
    async with worker("Prying") as handle:
        answer = await handle.call("read", read(page(tmp_path)), timeout=60)
    assert json.loads(answer["pages"][0]["text"]) == {"environ": "PermissionError", "mem": "PermissionError"}


def test_the_last_words_of_a_child_have_no_traceback_and_no_path() -> None:
    tail = """noise
Traceback (most recent call last):
  File "/srv/venv/lib/python3.11/site-packages/engine.py", line 5, in load
    import libfoo
ImportError: /srv/venv/lib/libfoo.so.9: cannot open shared object file"""
    assert WorkerDied(1, tail).last_words == "noise ImportError: libfoo.so.9: cannot open shared object file"
    fatal = 'Fatal Python error: Segmentation fault\n\nCurrent thread 0x01 (most recent call first):\n  File "/a/b.py"'
    assert WorkerDied(-11, fatal).last_words == "Fatal Python error: Segmentation fault"
    assert len(WorkerDied(1, "x" * 9000).last_words) == 300
    assert WorkerDied(1, "").last_words == ""


async def test_what_is_a_line_of_our_log_is_not_among_the_last_words(tmp_path: Path) -> None:
    async with worker("Marking") as handle:
        await handle.call("read", read(page(tmp_path)), timeout=60)
        words = await last_words(handle)
    assert words.endswith("the end")
    assert "a line of ours" not in words
    assert words.startswith("before \x1enoise\nafter \x1e{}\n\x1exxx")

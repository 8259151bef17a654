"""Children that start before they are asked for: who gets them, and what becomes of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from deepseek_ocr_mcp.app.headstart import HeadStart
from deepseek_ocr_mcp.engines import EngineSpec, cpu_engine
from deepseek_ocr_mcp.worker.client import ENGINE_HOST, WorkerHandle
from support import BOUND_S, Signs, alive

pytestmark = pytest.mark.anyio

ECHO = EngineSpec("Echo", "faults:Echo", frozenset({"free"}))
EAGER = EngineSpec("Eager", "faults:Eager", frozenset({"free"}))
THREADS = {"OCR_THREADS": "0"}
LOAD: dict[str, Any] = {"device": "cpu", "environment": {}}


async def test_a_child_is_given_once_to_who_asks_for_one_like_it() -> None:
    with anyio.fail_after(BOUND_S):
        async with HeadStart() as children:
            await children.begin(ECHO, THREADS)
            ahead = [await children.decoder(), await children.worker(ECHO, THREADS)]
            later = [await children.decoder(), await children.worker(ECHO, THREADS)]
            assert len({child.pid for child in ahead + later}) == 4
            for child in ahead[1], later[1]:
                assert await child.call("load", LOAD, timeout=BOUND_S) == {"model": "echo"}
        for child in ahead + later:
            await child.stop()


async def test_a_worker_with_another_environment_is_another_one() -> None:
    with anyio.fail_after(BOUND_S):
        async with HeadStart() as children:
            await children.begin(ECHO, THREADS)
            [pid] = [child.pid for child in children._children.values() if "Echo" in repr(child)]
            other = await children.worker(ECHO, {"OCR_THREADS": "3"})
            assert other.pid != pid
            await other.stop()


async def test_children_that_nobody_took_are_dead_afterwards() -> None:
    with anyio.fail_after(BOUND_S):
        async with HeadStart() as children:
            await children.begin(ECHO, THREADS)
            pids = [child.pid for child in children._children.values()]
            assert len(pids) == 2
        assert not any(alive(pid) for pid in pids)


async def test_a_worker_started_ahead_imports_and_loads_before_it_is_asked(signs: Signs) -> None:
    with anyio.fail_after(BOUND_S):
        async with HeadStart() as children:
            await children.begin(EAGER, THREADS)
            assert await anyio.to_thread.run_sync(signs.next) == "prewarmed"
    child = await WorkerHandle.spawn(ENGINE_HOST, "faults:Eager")
    assert await child.call("load", LOAD, timeout=BOUND_S) == {"model": "echo"}
    await child.stop()
    assert signs.is_silent()


async def test_what_fails_ahead_is_told_by_the_first_call() -> None:
    unknown = EngineSpec("Nowhere", "no.such:Engine", frozenset({"free"}))
    with anyio.fail_after(BOUND_S):
        async with HeadStart() as children:
            await children.begin(unknown, THREADS)
            child = await children.worker(unknown, THREADS)
            with pytest.raises(Exception, match="cannot be imported"):
                await child.call("load", LOAD, timeout=BOUND_S)
            await child.stop()


def test_only_an_engine_that_no_card_could_change_is_likely(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert [spec and spec.name for spec in map(cpu_engine, ("rapidocr", "tesseract", "faults:Echo"))] == [
        "rapidocr",
        "tesseract",
        "Echo",
    ]
    assert cpu_engine("deepseek") is None
    assert cpu_engine("no such engine") is None
    monkeypatch.setattr("deepseek_ocr_mcp.engines.find_spec", lambda name: None)
    assert getattr(cpu_engine("auto"), "name", "") == "rapidocr"
    monkeypatch.setattr("deepseek_ocr_mcp.engines.find_spec", lambda name: object())
    monkeypatch.setattr("deepseek_ocr_mcp.engines.hub.resolve_model", lambda model: tmp_path)
    assert cpu_engine("auto") is None
    assert getattr(cpu_engine("auto", gpu="cpu"), "name", "") == "rapidocr"

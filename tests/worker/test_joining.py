"""Pages that join a running call, in real processes: one dies in the middle, and one has ended when they come."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from faults import fingerprint

from deepseek_ocr_mcp import logs
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.engines import EngineSpec
from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
from deepseek_ocr_mcp.lifecycle.manager import ModelManager
from deepseek_ocr_mcp.modes import MODES
from deepseek_ocr_mcp.worker.client import ENGINE_HOST, WorkerHandle
from support import BOUND_S, Signs, lines_and_requests

pytestmark = pytest.mark.anyio


def page(folder: Path, width: int, height: int = 2) -> PageImage:
    path = folder / f"{width}x{height}"
    path.write_bytes(bytes(range(width)) * height * 3)
    return PageImage(str(path), width, height)


def text_of(page: PageImage) -> str:
    return f"{page.width}x{page.height} {fingerprint(Path(page.path).read_bytes())}"


@asynccontextmanager
async def managing() -> AsyncIterator[ModelManager]:
    engine = EngineSpec("joined", "faults:Joined", frozenset(MODES), shared_pages=8)
    settings = Settings(ocr_prewarm="off", gpu_offload_after=-1, gpu_idle_timeout=-1)
    manager = ModelManager(engine, settings)
    with anyio.fail_after(BOUND_S):
        async with manager.running():
            yield manager


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows")
async def test_kill_9_in_the_middle_loses_no_page_that_was_read_and_every_caller_has_its_own(
    tmp_path: Path, signs: Signs
) -> None:
    held, quick, quicker = page(tmp_path, 5, 13), page(tmp_path, 6), page(tmp_path, 7)
    texts: dict[str, list[str]] = {}

    async with managing() as manager, anyio.create_task_group() as tasks:

        async def read(name: str, *pages: PageImage) -> None:
            async with manager.lease():
                reading = await manager.read(pages, ReadOptions("free"))
            texts[name] = [found["text"] for found in reading.pages]

        tasks.start_soon(read, "first", quicker, held)
        assert await anyio.to_thread.run_sync(signs.next) == "holding"
        await read("second", quick)  # has its answer while the first call is read on
        await read("third", quick, quicker)
        assert set(texts) == {"second", "third"}
        first_pid = manager.status().worker_pid
        assert first_pid is not None
        os.kill(first_pid, signal.SIGKILL)
        await anyio.Path(quicker.path).unlink()  # it has been read, and is not read again
        await anyio.Path(f"{held.path}.go").touch()
    assert texts["first"][1] == text_of(held)
    assert texts["first"][0] == texts["third"][1]
    assert texts["second"] == [text_of(quick)]
    status = manager.status()
    assert (status.served, status.worker_restarts) == (5, 1)


async def test_pages_that_come_after_the_end_of_a_call_are_in_no_other_call(tmp_path: Path) -> None:
    handle = await WorkerHandle.spawn(ENGINE_HOST, "faults:Joined", name="test worker")
    try:
        with anyio.fail_after(BOUND_S):
            first, second = page(tmp_path, 4), page(tmp_path, 5)

            def arguments(page: PageImage) -> dict[str, object]:
                fields = {"path": page.path, "width": page.width, "height": page.height}
                return {"pages": [fields], "options": {"mode": "free"}}

            for each in (first, second, first):
                answer = await handle.call("read", arguments(each), timeout=BOUND_S)
                assert answer["pages"] == [None]  # it was sent before the end
                await handle.add([{"path": str(tmp_path / "nowhere"), "width": 1, "height": 1}], 1.0)
    finally:
        await handle.stop()


async def test_log_lines_name_the_requests_whose_pages_have_joined(
    tmp_path: Path, signs: Signs, caplog: pytest.LogCaptureFixture
) -> None:
    held, quick = page(tmp_path, 5, 13), page(tmp_path, 6)
    caplog.set_level(logging.DEBUG, "deepseek_ocr_mcp")
    with lines_and_requests() as lines:
        async with managing() as manager, anyio.create_task_group() as tasks:

            async def read(name: str, page: PageImage) -> None:
                with logs.request(name):
                    async with manager.lease():
                        await manager.read([page], ReadOptions("free"))

            tasks.start_soon(read, "first", held)
            assert await anyio.to_thread.run_sync(signs.next) == "holding"
            await read("second", quick)
            await anyio.Path(f"{held.path}.go").touch()
        with anyio.fail_after(BOUND_S):
            while sum("is finished" in message for message, _ in lines) < 2:
                await anyio.sleep(0.01)  # a thread passes the lines of the child on
    assert sorted(line for line in lines if "finished" in line[0] or line[0] == "Pages were read.") == [
        ("Page 0 is finished.", "first,second"),
        ("Page 1 is finished.", "first,second"),
        ("Pages were read.", "first"),
        ("Pages were read.", "second"),
    ]

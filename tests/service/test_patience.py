"""Long documents and short patience: every call is answered in time, and no page is read twice. On virtual time."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from deepseek_ocr_mcp.caller import Caller
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents.reader import DocumentReader
from deepseek_ocr_mcp.engines import EngineSpec
from deepseek_ocr_mcp.errors import NotReady
from deepseek_ocr_mcp.gpu.probe import GpuProbe
from deepseek_ocr_mcp.lifecycle.manager import ModelManager
from deepseek_ocr_mcp.models import OcrRequest, State
from deepseek_ocr_mcp.modes import MODES
from deepseek_ocr_mcp.service.answer import Answer
from deepseek_ocr_mcp.service.progress import Terms
from deepseek_ocr_mcp.service.service import OcrService
from fake_decoder import FakeDecoder
from fake_nvml import FakeNvml
from fake_worker import LOAD_S, READ_S, FakeWorker

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("virtual_time")]

REPLY_S = 12.0
"""Enough for two pages, not for three: each is drawn and read in a little over five seconds."""


class Office:
    """A service with a real manager, whose worker and decoder take their time by the clock of the test.

    Args:
        pages: of the document.
    """

    def __init__(self, tmp_path: Path, *, pages: int = 1, **settings: Any) -> None:
        self.folder = tmp_path / "scratch"
        self.folder.mkdir(exist_ok=True)
        self.document = tmp_path / "document.tif"
        self.short = tmp_path / "short.tif"
        for file in (self.document, self.short):
            file.write_text(f"{file.name}, which nobody parses")
        self._pages = {self.document.name: pages, self.short.name: 1}
        self.workers: list[FakeWorker] = []
        chosen = Settings(**{"ocr_prewarm": "off", "gpu_idle_timeout": -1, **settings})
        engine = EngineSpec("fake", "faults:Echo", frozenset(MODES))
        probe = GpuProbe(FakeNvml(), sees_host_pids=True)
        self.manager = ModelManager(engine, chosen, probe=probe, spawn=self.spawn)
        reader = DocumentReader(chosen, str(self.folder), spawn=self.spawn_decoder)
        self.service = OcrService(chosen, "a test", self.manager, reader)

    async def spawn(self, engine: EngineSpec, env: Mapping[str, str]) -> FakeWorker:
        self.workers.append(FakeWorker(1000 + len(self.workers), [], []))
        return self.workers[-1]

    async def spawn_decoder(self) -> FakeDecoder:
        return FakeDecoder({}, format="TIFF", pages=self._pages)

    @asynccontextmanager
    async def open(self, *, warm: bool = True) -> AsyncIterator[anyio.abc.TaskGroup]:
        """While it serves. `warm`: the model is there, and one page was read for that."""
        with anyio.fail_after(100_000):
            async with self.service.running(), anyio.create_task_group() as tasks:
                if warm:
                    await self.service.ocr(OcrRequest(image=str(self.short), mode="describe"), Caller())
                    self.workers[0].batches.clear()
                yield tasks
                tasks.cancel_scope.cancel()

    async def read(self, *, reply_s: float = REPLY_S, **fields: Any) -> Answer:
        request = OcrRequest(image=str(self.document), **fields)
        return await self.service.ocr(request, Caller(), Terms(reply_s=reply_s))

    @property
    def read_pages(self) -> list[int]:
        """Every page that a worker was given, in order."""
        return [int(path.rpartition("-")[2]) for worker in self.workers for batch in worker.batches for path in batch]


def numbers(answer: Answer) -> list[int]:
    return [page.page for page in answer.result.pages]


# -- in time


@pytest.mark.parametrize("cache", ["on", "off"])
async def test_a_document_is_finished_by_following_next_pages_and_every_answer_is_in_time(
    cache: str, tmp_path: Path
) -> None:
    office = Office(tmp_path, pages=10, ocr_cache=cache)
    async with office.open():
        seen: list[int] = []
        pages, calls = "", 0
        while pages or not calls:
            began = anyio.current_time()
            answer = await office.read(pages=pages)
            assert anyio.current_time() - began <= REPLY_S
            calls += 1
            seen += numbers(answer)
            pages = answer.result.next_pages
            assert answer.result.truncated is bool(pages)
            if pages:
                assert "reading goes on" in " ".join(map(str, answer.result.notes))
                assert f'pages="{pages}"' in " ".join(map(str, answer.result.notes))
        assert seen == list(range(1, 11))
        assert calls > 2
        assert sorted(office.read_pages) == list(range(1, 11)), "each once"


async def test_the_next_call_finds_its_pages_read(tmp_path: Path) -> None:
    office = Office(tmp_path, pages=4)
    async with office.open():
        first = await office.read()
        await anyio.sleep(1000)
        began = anyio.current_time()
        second = await office.read(pages=first.result.next_pages)
        assert anyio.current_time() - began < 1
        assert (second.result.truncated, second.result.cached, second.result.timing.infer_s) == (False, True, 0)


async def test_what_the_next_answer_will_hold_is_read_ahead_and_no_more(tmp_path: Path) -> None:
    office = Office(tmp_path, pages=20)
    async with office.open():
        answer = await office.read(max_chars=20, reply_s=1000)
        assert (numbers(answer), answer.result.next_pages) == ([1, 2], "3-20")
        await anyio.sleep(1000)
        ahead = office.read_pages
        assert ahead == list(range(1, len(ahead) + 1))
        assert 5 <= len(ahead) <= 6
        assert office.manager.status().queue == 0


async def test_while_the_model_loads_a_call_is_answered_in_time_and_the_next_one_reads(tmp_path: Path) -> None:
    office = Office(tmp_path)
    async with office.open(warm=False):
        began = anyio.current_time()
        with pytest.raises(NotReady, match="loading for 12 s"):
            await office.read()
        assert anyio.current_time() - began <= REPLY_S
        await anyio.sleep(LOAD_S)
        assert numbers(await office.read()) == [1]
        assert office.read_pages == [1]


async def test_a_page_that_takes_longer_than_the_reply_is_no_error(tmp_path: Path) -> None:
    office = Office(tmp_path)
    async with office.open():
        answer = await office.read(reply_s=READ_S / 2)
        assert (numbers(answer), answer.result.next_pages) == ([], "1")
        assert "reading goes on" in " ".join(map(str, answer.result.notes))
        await anyio.sleep(READ_S)
        assert numbers(await office.read(pages="1", reply_s=READ_S / 2)) == [1]
        assert office.read_pages == [1]


async def test_a_file_that_cannot_be_saved_in_time_is_saved_by_the_call_that_finds_all_pages_read(
    tmp_path: Path,
) -> None:
    office = Office(tmp_path, pages=5)
    saved = tmp_path / "all.md"
    async with office.open():
        answer = await office.read(save_to=str(saved))
        assert "2 of 5 pages are read so far" in " ".join(map(str, answer.result.notes))
        assert (answer.result.saved_to, saved.exists()) == ("", False)
        await anyio.sleep(1000)
        assert (await office.read(save_to=str(saved))).result.saved_to == str(saved)
        assert office.read_pages == [1, 2, 3, 4, 5]
    assert saved.read_text().count("by 1000") == 5


async def test_who_sets_no_time_for_the_reply_waits_as_long_as_it_takes(tmp_path: Path) -> None:
    office = Office(tmp_path, pages=3, ocr_reply_seconds=1)
    async with office.open():
        assert numbers(await office.read(reply_s=math.inf, max_chars=0)) == [1, 2, 3]


# -- once


async def test_a_page_with_the_cache_on_is_read_once_for_each_mode_and_the_answer_says_so(tmp_path: Path) -> None:
    office = Office(tmp_path)
    async with office.open():
        assert (await office.read()).result.cached is None
        await anyio.sleep(1)
        assert (await office.read(boxes=True)).result.cached is True
        assert (await office.read(mode="free")).result.cached is None
        assert office.read_pages == [1, 1]


async def test_a_page_with_the_cache_off_is_read_again(tmp_path: Path) -> None:
    office = Office(tmp_path, ocr_cache="off")
    async with office.open():
        for _ in range(2):
            assert (await office.read()).result.cached is None
            await anyio.sleep(1)
        assert office.read_pages == [1, 1]


async def test_a_caller_that_leaves_stops_only_what_nobody_else_asked_for(tmp_path: Path) -> None:
    office = Office(tmp_path, pages=6)
    async with office.open() as tasks:
        scope = anyio.CancelScope()

        async def leaver() -> None:
            with scope:
                await office.read(reply_s=math.inf)

        tasks.start_soon(leaver)
        await anyio.sleep(READ_S / 2)
        scope.cancel()
        assert numbers(await office.read(pages="1-2", reply_s=math.inf)) == [1, 2]
        await anyio.sleep(1000)
        assert set(office.read_pages) == {1, 2}
        assert office.manager.status().queue == 0


@pytest.mark.parametrize("move", ["release", "offload"])
async def test_who_wants_the_memory_back_stops_what_is_read_for_nobody(move: str, tmp_path: Path) -> None:
    office = Office(tmp_path, pages=20)
    async with office.open():
        await office.read()
        await getattr(office.service, move)()
        await anyio.sleep(1000)
        assert len(office.read_pages) < 6
        assert office.manager.status().queue == 0
        if move == "release":
            assert office.manager.state is State.UNLOADED


async def test_a_short_request_waits_for_one_batch_of_a_long_document(tmp_path: Path) -> None:
    office = Office(tmp_path, pages=50)
    async with office.open() as tasks:
        tasks.start_soon(lambda: office.read(reply_s=math.inf, max_chars=0))
        await anyio.sleep(READ_S * 1.5)
        began = anyio.current_time()
        assert numbers(await office.service.ocr(OcrRequest(image=str(office.short)), Caller())) == [1]
        assert anyio.current_time() - began < 3 * READ_S

"""Pages of later calls join a batch that is being read, on virtual time, with workers that are plain objects."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from deepseek_ocr_mcp import logs
from deepseek_ocr_mcp.errors import Cancelled, GpuBusy, OcrError, WorkerCrashed
from deepseek_ocr_mcp.lifecycle import batches as module
from deepseek_ocr_mcp.models import State
from fake_worker import READ_S, FakeWorker
from manager_house import House
from support import lines_and_requests

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("virtual_time")]


class Callers:
    """Callers of a house, and what became of each: when it ended, with which pages or which error."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._began = anyio.current_time()
        self.ended: dict[str, float] = {}
        self.pages: dict[str, list[str]] = {}
        self.errors: dict[str, OcrError] = {}

    async def read(self, *paths: str, **how: Any) -> None:
        try:
            self.pages[paths[0]] = [path for _, path in await self._house.read_pages(*paths, **how)]
        except OcrError as exc:
            self.errors[paths[0]] = exc
        self.ended[paths[0]] = anyio.current_time() - self._began


async def test_a_page_joins_a_batch_that_is_read_and_each_caller_has_its_pages_when_they_are_read() -> None:
    house = House(slots=4, shared_pages=4)
    house.seconds["long"] = 50.0
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        callers = Callers(house)
        tasks.start_soon(callers.read, "long")
        await anyio.sleep(1)
        tasks.start_soon(callers.read, "a", "b")
        await anyio.sleep(9)
        tasks.start_soon(callers.read, "c")
    assert callers.pages == {"long": ["long"], "a": ["a", "b"], "c": ["c"]}
    assert callers.ended == pytest.approx({"long": 50, "a": 1 + READ_S, "c": 10 + READ_S})
    assert house.workers[0].batches[1:] == [["long", "a", "b", "c"]]


async def test_an_engine_without_room_reads_one_batch_after_the_other() -> None:
    house = House(shared_pages=4)
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        callers = Callers(house)
        tasks.start_soon(callers.read, "a")
        await anyio.sleep(1)
        tasks.start_soon(callers.read, "b")
    assert callers.ended == pytest.approx({"a": READ_S, "b": 2 * READ_S})
    assert house.workers[0].batches[1:] == [["a"], ["b"]]


async def test_a_slot_that_is_free_goes_to_the_client_whose_turn_is_longest_ago() -> None:
    house = House(slots=2, shared_pages=2)
    house.seconds["long"] = 100.0
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        callers = Callers(house)
        tasks.start_soon(callers.read, "long")
        await anyio.sleep(1)
        for number in range(6):
            tasks.start_soon(partial(callers.read, f"greedy {number}", client="greedy"))
        await anyio.sleep(1)
        tasks.start_soon(partial(callers.read, "modest", client="modest"))
    assert callers.ended["modest"] == pytest.approx(1 + 2 * READ_S)
    assert callers.ended["long"] == max(callers.ended.values())
    assert len(house.workers[0].batches) == 2


async def test_a_stream_of_pages_that_join_keeps_another_mode_waiting_for_one_batch() -> None:
    house = House(slots=2, shared_pages=2)
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        callers = Callers(house)
        for number in range(20):
            tasks.start_soon(callers.read, f"page {number}")
            if number == 4:
                tasks.start_soon(partial(callers.read, "other mode", mode="ocr", client="other"))
            await anyio.sleep(READ_S / 2)
    assert callers.ended["other mode"] == pytest.approx(4 * READ_S / 2 + 2 * READ_S, abs=READ_S)
    assert ["other mode"] in house.workers[0].batches


async def test_a_stream_of_pages_that_join_keeps_an_offload_waiting_for_one_batch() -> None:
    house = House(slots=2, shared_pages=2, cards=(20_000,), ocr_busy_wait=2 * READ_S)
    moved: list[float] = []

    async def offload() -> None:
        began = anyio.current_time()
        assert (await house.manager.offload()).to_state is State.HOST
        moved.append(anyio.current_time() - began)

    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        callers = Callers(house)
        for number in range(12):
            tasks.start_soon(callers.read, f"page {number}")
            if number == 5:
                tasks.start_soon(offload)
            await anyio.sleep(READ_S / 2)
    assert len(callers.pages) == 12
    assert moved[0] <= 2 * READ_S


async def test_what_nobody_waits_for_joins_no_page_that_somebody_waits_for_but_is_joined_by_it() -> None:
    house = House(slots=4, shared_pages=4)
    house.seconds |= {"now": 20.0, "ahead": 20.0}
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        callers = Callers(house)
        tasks.start_soon(callers.read, "now")
        await anyio.sleep(1)
        tasks.start_soon(partial(callers.read, "ahead", background=lambda: True))
        await anyio.sleep(21)
        tasks.start_soon(callers.read, "now too")
    assert callers.ended == pytest.approx({"now": 20, "ahead": 40, "now too": 22 + READ_S})
    assert house.workers[0].batches[1:] == [["now"], ["ahead", "now too"]]


async def test_a_worker_that_dies_costs_no_page_that_was_read_and_the_others_are_read_alone() -> None:
    house = House(slots=8, shared_pages=8)
    house.seconds |= {"slow": 30.0, "slower": 40.0}
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        callers = Callers(house)
        tasks.start_soon(callers.read, "quick")
        tasks.start_soon(callers.read, "a", "slow", "b")
        await anyio.sleep(1)
        tasks.start_soon(callers.read, "slower")
        await anyio.sleep(9)
        assert callers.pages == {"quick": ["quick"]}
        house.workers[0].die()
    assert callers.pages == {"quick": ["quick"], "a": ["a", "slow", "b"], "slower": ["slower"]}
    assert sorted(house.workers[1].batches) == [["slow"], ["slower"]]  # "a" and "b" had been read


async def test_a_page_that_kills_two_workers_is_an_error_for_its_own_caller_only() -> None:
    house = House(slots=4, shared_pages=4)
    house.seconds |= {"deadly": 30.0, "slow": 30.0}
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        callers = Callers(house)
        tasks.start_soon(callers.read, "deadly")
        await anyio.sleep(1)
        tasks.start_soon(callers.read, "slow")
        await anyio.sleep(1)
        house.workers[0].die()
        while not (len(house.workers) > 1 and ["deadly"] in house.workers[1].batches):
            await anyio.sleep(1)
        tasks.start_soon(callers.read, "late")  # a part that is read alone is joined by none
        await anyio.sleep(1)
        house.workers[1].die()
    assert isinstance(callers.errors["deadly"], WorkerCrashed)
    assert callers.pages == {"slow": ["slow"], "late": ["late"]}


async def test_an_error_about_one_page_sends_those_that_joined_back_to_be_read_alone() -> None:
    house = House(slots=4, shared_pages=4)
    worker_read = FakeWorker._read_side_by_side
    error = GpuBusy("A page does not fit.", remedy="Smaller.")

    async def refusing(self: FakeWorker, on_frame: Any) -> dict[str, Any]:
        if any(page["path"] == "large" for page in self._pages):
            await on_frame({"room": 4})
            await anyio.sleep(3)
            raise error
        return await worker_read(self, on_frame)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeWorker, "_read_side_by_side", refusing)
        async with house.open(), anyio.create_task_group() as tasks:
            await house.read()
            callers = Callers(house)
            tasks.start_soon(callers.read, "large")
            await anyio.sleep(1)
            tasks.start_soon(callers.read, "small")
    assert callers.errors == {"large": error}
    assert callers.pages == {"small": ["small"]}


async def test_a_caller_that_leaves_takes_only_its_pages_and_the_last_one_ends_the_batch() -> None:
    house = House(slots=4, shared_pages=4)
    house.seconds |= {"first": 30.0, "second": 30.0, "third": 30.0}
    scopes = [anyio.CancelScope() for _ in range(2)]

    async def leaver(number: int, path: str) -> None:
        with scopes[number]:
            await house.read_pages("quick", path)

    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        callers = Callers(house)
        tasks.start_soon(leaver, 0, "first")
        await anyio.sleep(1)
        tasks.start_soon(leaver, 1, "second")
        await anyio.sleep(READ_S + 1)
        scopes[0].cancel()
        await anyio.sleep(1)
        assert house.workers[0].dropped == [1]  # its other page was read
        scopes[1].cancel()
        await anyio.sleep(1)
        tasks.start_soon(callers.read, "after")
    assert callers.ended["after"] == pytest.approx(READ_S + 4 + READ_S)
    assert house.workers[0].batches[-1] == ["after"]
    assert len(house.workers) == 1


async def test_a_page_that_came_too_late_to_be_taken_is_read_in_the_next_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House(slots=4, shared_pages=4)
    ignored: list[str] = []

    async def ignore(self: FakeWorker, pages: Any, seconds: float) -> None:
        ignored.extend(page["path"] for page in pages)

    monkeypatch.setattr(FakeWorker, "add", ignore)
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        callers = Callers(house)
        tasks.start_soon(callers.read, "a")
        await anyio.sleep(1)
        tasks.start_soon(callers.read, "b", "c")
    assert ignored == ["b", "c"]
    assert callers.pages == {"a": ["a"], "b": ["b", "c"]}
    assert house.workers[0].batches[1:] == [["a"], ["b", "c"]]
    assert (len(house.workers), house.manager.status().worker_restarts) == (1, 0)


async def test_a_batch_takes_so_many_pages_and_then_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAGES", 3)
    house = House(slots=2, shared_pages=2)
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        callers = Callers(house)
        for name in "abcde":
            tasks.start_soon(callers.read, name)
            await anyio.sleep(0.1)
    assert house.workers[0].batches[1:] == [["a", "b", "c"], ["d", "e"]]
    assert len(callers.pages) == 5


async def test_the_time_limit_is_that_of_the_pages_that_are_not_read() -> None:
    house = House(slots=4, shared_pages=4, ocr_page_timeout=100)
    house.seconds["a"] = 30.0
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        house.workers[0].limits.clear()
        tasks.start_soon(house.read_pages, "a")
        await anyio.sleep(1)
        tasks.start_soon(house.read_pages, "b", "c")
    # Two pages more; when one of three is read, when two are, and when all are and the answer is due.
    assert house.workers[0].limits == [200, 200, 100, 100]


async def test_a_forced_release_stops_those_that_joined_too_and_no_page_that_was_read() -> None:
    house = House(slots=4, shared_pages=4)
    house.seconds |= {"first": 30.0, "second": 30.0}
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        callers = Callers(house)
        for name in ("first", "second", "quick"):
            tasks.start_soon(callers.read, name)
            await anyio.sleep(1)
        await anyio.sleep(READ_S + 1)
        await house.manager.release(force=True)
    assert callers.pages == {"quick": ["quick"]}
    assert {name: type(error) for name, error in callers.errors.items()} == {"first": Cancelled, "second": Cancelled}


async def test_the_model_is_idle_when_the_last_that_joined_has_its_answer() -> None:
    house = House(slots=4, shared_pages=4, cards=(20_000,), gpu_offload_after=0, gpu_idle_timeout=-1)
    async with house.open(), anyio.create_task_group() as tasks:
        async with house.manager.lease():
            await house.manager.load()
            tasks.start_soon(house.read_pages, "a")
            await anyio.sleep(4)
        tasks.start_soon(house.read_pages, "b")
        await anyio.sleep(READ_S - 1)
        assert house.manager.state is State.GPU
        assert house.manager.status().queue == 1
        await anyio.sleep(5)
        assert house.manager.state is State.HOST


async def test_progress_is_that_of_the_callers_own_pages_where_the_engine_tells_it_by_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House(slots=4, shared_pages=4)
    house.seconds["a"] = 30.0
    heard: dict[str, list[float]] = {"a": [], "b": []}

    async def tell(self: FakeWorker, on_frame: Any) -> dict[str, Any]:
        await on_frame({"room": 4})
        await anyio.sleep(2)
        await on_frame({"progress": 0.9, "message": "1 of 3", "shares": [[0, 0.3], [1, 0.5]]})
        await anyio.sleep(2)
        await on_frame({"page": 1, "answer": {"text": "", "raw": "b"}})
        await on_frame({"progress": 0.9, "message": "2 of 3", "shares": [[0, 0.4], [2, 0.5]]})
        await anyio.sleep(2)
        return {"pages": [{"text": "", "raw": "a"}, None, {"text": "", "raw": "c"}], "spoiled": ""}

    async def hear(name: str, done: float, message: str) -> None:
        heard[name].append(done)

    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        monkeypatch.setattr(FakeWorker, "_read_side_by_side", tell)
        tasks.start_soon(partial(house.read_pages, "a", on_progress=partial(hear, "a")))
        await anyio.sleep(1)
        tasks.start_soon(partial(house.read_pages, "b", "c", on_progress=partial(hear, "b")))
    assert heard == {"a": [0.1, 0.3, 0.4], "b": [0.25, 0.75]}


async def test_a_server_that_closes_answers_those_that_joined() -> None:
    house = House(slots=4, shared_pages=4)
    house.seconds |= {"a": 30.0, "b": 30.0}
    async with anyio.create_task_group() as tasks, house.open():
        await house.read()
        callers = Callers(house)
        tasks.start_soon(callers.read, "a")
        await anyio.sleep(1)
        tasks.start_soon(callers.read, "b")
        await anyio.sleep(1)
    assert {type(error) for error in callers.errors.values()} == {Cancelled}
    assert set(callers.errors) == {"a", "b"}


async def test_a_worker_that_dies_while_pages_are_added_loses_none() -> None:
    house = House(slots=4, shared_pages=4)
    house.seconds["a"] = 30.0

    async def die(self: FakeWorker, pages: Any, seconds: float) -> None:
        self.die()

    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakeWorker, "add", die)
            callers = Callers(house)
            tasks.start_soon(callers.read, "a")
            await anyio.sleep(1)
            tasks.start_soon(callers.read, "b")
            await anyio.sleep(1)
    assert callers.pages == {"a": ["a"], "b": ["b"]}
    assert sorted(house.workers[1].batches) == [["a"], ["b"]]


async def test_the_line_of_a_dead_worker_names_the_requests_that_had_joined() -> None:
    house = House(slots=3, shared_pages=3)
    house.seconds |= {"first": 50.0, "second": 50.0}
    with lines_and_requests() as lines:
        async with house.open(), anyio.create_task_group() as tasks:
            await house.read()
            callers = Callers(house)
            for name in ("first", "second", "third"):
                with logs.request(name):
                    tasks.start_soon(callers.read, name)
                await anyio.sleep(1)
            await anyio.sleep(READ_S)
            assert callers.pages == {"third": ["third"]}
            house.workers[0].die()
    assert callers.pages.keys() == {"first", "second", "third"}
    assert ("The worker died.", "first,second") in lines


async def read_document(house: House, name: str, pages: int) -> float:
    """Read a document as jobs do, as many batches at once as there are lanes. Returns the seconds that it took."""
    manager, most = house.manager, house.manager.engine.batch_pages
    lanes, began = anyio.Semaphore(manager.lanes), anyio.current_time()

    async def read(batch: range) -> None:
        async with lanes:
            await house.read_pages(*(f"{name} {number}" for number in batch), client=name)

    async with manager.lease(), anyio.create_task_group() as tasks:
        for first in range(0, pages, most):
            tasks.start_soon(read, range(first, min(first + most, pages)))
    return anyio.current_time() - began


async def test_one_long_document_fills_the_slots_of_a_card_and_another_caller_has_the_next_that_is_free() -> None:
    house = House(cards=[20_000], slots=8, shared_pages=8, batch_pages=2, gpu_offload_after=-1, gpu_idle_timeout=-1)
    async with house.open() as manager, anyio.create_task_group() as tasks:
        await house.read()
        assert manager.lanes == 4
        assert await read_document(house, "alone", 24) == pytest.approx(3 * READ_S)
        tasks.start_soon(read_document, house, "long", 40)
        await anyio.sleep(1)
        began = anyio.current_time()
        await house.read_pages("short", client="another")
        assert anyio.current_time() - began <= 2 * READ_S


async def test_without_a_card_one_batch_of_a_document_is_read_at_a_time() -> None:
    house = House(slots=8, shared_pages=8, batch_pages=2)
    async with house.open() as manager:
        await house.read()
        assert manager.lanes == 1
        assert await read_document(house, "alone", 8) == pytest.approx(4 * READ_S)

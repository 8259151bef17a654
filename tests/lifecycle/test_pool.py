"""Several cards behind one line, on virtual time, with workers and cards that are plain objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.engines import EngineSpec
from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
from deepseek_ocr_mcp.errors import (
    Busy,
    Cancelled,
    EngineUnavailable,
    GpuBusy,
    GpuLost,
    NotReady,
    OcrError,
    Timeout,
    UnsupportedMode,
    WorkerCrashed,
)
from deepseek_ocr_mcp.gpu.probe import GpuProbe
from deepseek_ocr_mcp.lifecycle.build import build_lifecycle
from deepseek_ocr_mcp.lifecycle.manager import ModelManager
from deepseek_ocr_mcp.lifecycle.pool import NO_ROOM_RETRY_S, RETRY_FIRST_S, RETRY_MOST_S, Pool
from deepseek_ocr_mcp.lifecycle.weights import Weights
from deepseek_ocr_mcp.models import State, WorkerStatus
from deepseek_ocr_mcp.modes import MODES
from deepseek_ocr_mcp.observer import Observer
from deepseek_ocr_mcp.worker.client import WorkerDied
from fake_nvml import FakeNvml
from fake_worker import CONTEXT_MB, LOAD_S, OFFLOAD_S, READ_S, RESTORE_S, WEIGHTS_MB, FakeWorker
from virtual_time import counted_steps

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("virtual_time")]


def lost() -> GpuLost:
    return GpuLost("CUDA error: Xid 79.", remedy="See dmesg.")


class Told(Observer):
    """Remembers which cards were left out, and for how long."""

    def __init__(self) -> None:
        self.out: list[tuple[str, str, float]] = []

    def card_failed(self, engine: str, device: str, error: str, retry_s: float) -> None:
        super().card_failed(engine, device, error, retry_s)
        self.out.append((device, error, retry_s))


class House:
    """A pool and what it stands on."""

    def __init__(
        self,
        *cards: int,
        shared_pages: int = 1,
        batch_pages: int = 1,
        slots: int = 0,
        engine: type[EngineSpec] = EngineSpec,
        weights: str = "",
        **settings: Any,
    ) -> None:
        self.nvml = FakeNvml()
        for free_mb in cards or (20_000, 20_000):
            self.nvml.add_card(free_mb=free_mb)
        self.cards = [card.uuid for card in self.nvml.devices]
        self.workers: list[FakeWorker] = []
        self.failures: list[BaseException] = []
        self.slots = slots
        self.seconds: dict[str, float] = {}
        """See `FakeWorker`."""
        self.by_card: dict[str, list[BaseException]] = {}
        self.load_errors: dict[str, list[BaseException]] = {}
        self.spec = engine(
            "fake",
            "faults:Echo",
            frozenset(MODES),
            gpu_mb=8000,
            shared_pages=shared_pages,
            batch_pages=batch_pages,
            weights=weights,
        )
        self.settings = Settings(**{"ocr_prewarm": "off", "ocr_gpus": "all", **settings})
        self.pool = Pool(
            self.spec, self.settings, self.cards, probe=GpuProbe(self.nvml, sees_host_pids=True), spawn=self.spawn
        )
        self.told = self.pool.observer = Told()

    async def spawn(self, engine: EngineSpec, env: Mapping[str, str]) -> FakeWorker:
        worker = FakeWorker(
            1000 + len(self.workers),
            self.nvml.devices,
            self.failures,
            by_card=self.by_card,
            load_errors=self.load_errors,
        )
        worker.slots, worker.seconds = self.slots, self.seconds
        self.workers.append(worker)
        return worker

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Pool]:
        with anyio.fail_after(100_000):
            async with self.pool.running():
                yield self.pool
        assert not any(worker.alive for worker in self.workers)

    async def read(self, *paths: str, **how: Any) -> list[tuple[str, str]]:
        """The card that read each page, and the path that it had."""
        async with self.pool.lease():
            return await self.read_leased(*paths, **how)

    async def read_leased(self, *paths: str, **how: Any) -> list[tuple[str, str]]:
        pages = [PageImage(path, 10, 10) for path in paths or ("/nowhere",)]
        reading = await self.pool.read(pages, ReadOptions("free"), **how)
        return [(reading.device, page["raw"]) for page in reading.pages]

    async def document(self, name: str, pages: int, found: list[tuple[str, str]]) -> None:
        """Read as jobs do: as many batches under way as there are lanes, under one lease."""
        lanes = anyio.Semaphore(self.pool.lanes)

        async def one(number: int) -> None:
            try:
                found.extend(await self.read_leased(f"{name}{number}", client=name))
            finally:
                lanes.release()

        async with self.pool.lease(), anyio.create_task_group() as tasks:
            for number in range(pages):
                await lanes.acquire()
                tasks.start_soon(one, number)

    def each(self) -> list[WorkerStatus]:
        workers = self.pool.status().workers
        assert workers is not None
        return workers

    def states(self) -> list[str]:
        return [worker.state for worker in self.each()]

    def batches(self) -> list[str]:
        """Every page that was read or tried, in the order of the workers."""
        return [path for worker in self.workers for batch in worker.batches for path in batch]


# -- who reads


async def test_two_documents_at_once_are_read_by_two_cards_and_no_page_twice() -> None:
    house = House()
    found: list[tuple[str, str]] = []
    async with house.open():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(house.document, "a", 6, found)
            tasks.start_soon(house.document, "b", 6, found)
        assert anyio.current_time() == pytest.approx(LOAD_S + 6 * READ_S)
    assert sorted(path for _, path in found) == sorted(f"{name}{number}" for name in "ab" for number in range(6))
    assert Counter(card for card, _ in found) == dict.fromkeys(house.cards, 6)
    assert Counter(house.batches()).most_common(1)[0][1] == 1


async def test_a_long_document_alone_is_read_by_all_cards() -> None:
    house = House(20_000, 20_000, 20_000)
    found: list[tuple[str, str]] = []
    async with house.open() as pool:
        assert pool.lanes == 3
        await house.document("a", 9, found)
        assert anyio.current_time() == pytest.approx(LOAD_S + 3 * READ_S)
    assert Counter(card for card, _ in found) == dict.fromkeys(house.cards, 3)


async def test_one_request_after_the_other_wakes_one_card_only() -> None:
    house = House(gpu_offload_after=-1)
    async with house.open():
        for _ in range(5):
            await house.read()
        assert house.states() == [State.GPU, State.UNLOADED]
    assert len(house.workers) == 1


async def test_the_emptiest_card_is_woken_first() -> None:
    house = House(10_000, 40_000, 20_000)
    async with house.open():
        [(card, _)] = await house.read()
    assert card == house.cards[1]
    assert house.workers[0].environment == {"CUDA_VISIBLE_DEVICES": card, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


async def test_what_waits_is_read_by_the_first_card_that_is_free_and_not_by_the_one_that_was_woken_for_it() -> None:
    house = House(gpu_offload_after=-1)
    answers: list[tuple[str, float]] = []

    async def caller(path: str) -> None:
        [(card, _)] = await house.read(path)
        answers.append((card, anyio.current_time()))

    async with house.open(), anyio.create_task_group() as tasks:
        await house.read("first")
        began = anyio.current_time()
        tasks.start_soon(caller, "a")
        await anyio.sleep(0.1)
        tasks.start_soon(caller, "b")  # wakes the second card, which needs longer than the first one's page
    assert answers == [(house.cards[0], began + READ_S), (house.cards[0], began + 2 * READ_S)]


async def warm(house: House) -> None:
    """Have both cards loaded."""
    async with anyio.create_task_group() as tasks:
        for name in "xy":
            tasks.start_soon(partial(house.read, *(f"{name}{n}" for n in range(house.spec.batch_pages))))
        await anyio.sleep(1)
        for name in "vw":
            tasks.start_soon(partial(house.read, *(f"{name}{n}" for n in range(house.spec.batch_pages))))
    assert house.states() == [State.GPU, State.GPU]
    for worker in house.workers:
        worker.batches.clear()


async def test_pages_that_wait_for_a_card_share_its_next_batch() -> None:
    house = House(shared_pages=8, batch_pages=8, gpu_offload_after=-1, gpu_idle_timeout=-1)
    async with house.open(), anyio.create_task_group() as tasks:
        await warm(house)
        tasks.start_soon(house.read, "a")
        tasks.start_soon(house.read, "b")
        await anyio.sleep(1)
        for name in "cdef":
            tasks.start_soon(house.read, name)
    assert Counter(len(batch) for worker in house.workers for batch in worker.batches) in (
        Counter({1: 2, 4: 1}),  # the cards are free one after the other
        Counter({1: 2, 2: 2}),  # or in the same moment
    )
    assert sorted(house.batches()) == list("abcdef")


async def test_a_client_with_many_requests_makes_another_wait_for_one_batch_on_whichever_card() -> None:
    house = House(gpu_offload_after=-1, gpu_idle_timeout=-1)
    order: list[str] = []

    async def caller(client: str) -> None:
        await house.read(client, client=client)
        order.append(client)

    async with house.open(), anyio.create_task_group() as tasks:
        await house.document("warm", 4, [])
        for _ in range(8):
            tasks.start_soon(caller, "greedy")
        await anyio.sleep(1)
        tasks.start_soon(caller, "modest")
    assert order.index("modest") in (2, 3), order


async def test_what_is_read_ahead_for_nobody_wakes_no_second_card() -> None:
    house = House()
    async with house.open(), anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(partial(house.read, f"ahead{number}", background=lambda: True))
        await anyio.sleep(LOAD_S + 1)
        assert len(house.workers) == 1


async def test_waiting_loading_and_reading_are_told_apart() -> None:
    house = House(20_000, gpu_offload_after=-1)
    readings = []

    async def caller() -> None:
        async with house.pool.lease():
            readings.append(await house.pool.read([PageImage("/p", 1, 1)], ReadOptions("free")))

    async with house.open(), anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(caller)
    assert [r.load_s for r in readings] == pytest.approx([LOAD_S, LOAD_S])
    assert [r.queued_s for r in readings] == pytest.approx([0, READ_S])
    assert [r.infer_s for r in readings] == pytest.approx([READ_S, READ_S])


async def test_a_slow_listener_to_progress_keeps_neither_others_nor_its_card_waiting() -> None:
    house = House(20_000, gpu_offload_after=-1)
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()

        async def deaf(done: float, message: str) -> None:
            await anyio.sleep(1000)

        tasks.start_soon(partial(house.read, "a", on_progress=deaf))
        await anyio.sleep(1)
        began = anyio.current_time()
        await house.read("b")
        assert anyio.current_time() - began <= 2 * READ_S


async def test_progress_reaches_whoever_asked() -> None:
    house = House()
    heard = []

    async def listen(done: float, message: str) -> None:
        heard.append((done, message))

    async with house.open():
        await house.read("a", on_progress=listen)
    assert heard == [(0.1, "begun")]


async def test_a_caller_that_goes_away_stops_its_reading_and_the_card_is_free() -> None:
    house = House(20_000, gpu_offload_after=-1)
    async with house.open():
        await house.read()
        began = anyio.current_time()
        with anyio.move_on_after(1):
            await house.read("left")
        await house.read("next")
        assert anyio.current_time() - began == pytest.approx(1 + READ_S)


async def test_a_caller_that_goes_away_while_it_waits_is_forgotten() -> None:
    house = House(20_000, gpu_offload_after=-1)
    async with house.open(), anyio.create_task_group() as tasks:
        tasks.start_soon(house.read, "a")
        await anyio.sleep(1)
        with anyio.move_on_after(1):
            await house.read("left")
    assert house.batches() == ["a"]


# -- each card by itself


async def test_each_card_is_idle_by_itself() -> None:
    house = House(gpu_offload_after=10, gpu_idle_timeout=60)
    async with house.open():
        await warm(house)
        for _ in range(3):
            await house.read()
            await anyio.sleep(4)
        used, unused = sorted(house.each(), key=lambda worker: worker.idle_s or 0)
        assert (used.state, used.idle_s, used.offload_in_s) == (State.GPU, 4.0, 6.0)
        assert unused.state == State.HOST
        for _ in range(6):
            await house.read()
            await anyio.sleep(4)
        assert sorted(house.states()) == [State.GPU, State.UNLOADED]
        await anyio.sleep(61)
        assert house.states() == [State.UNLOADED, State.UNLOADED]
        assert [card.processes for card in house.nvml.devices] == [{}, {}]


async def test_a_card_stays_between_the_batches_of_a_document_that_it_reads_for() -> None:
    house = House()
    async with house.open() as pool, pool.lease():
        for _ in range(3):
            await house.read_leased()
            await anyio.sleep(100)
        assert house.workers[0].calls == ["load", "read", "read", "read"]
        assert house.each()[0].idle_s is None


async def test_a_card_that_a_queue_needed_is_given_back_while_another_request_goes_on() -> None:
    house = House()
    found: list[tuple[str, str]] = []
    async with house.open(), anyio.create_task_group() as tasks, house.pool.lease():
        await house.read_leased("long0")
        tasks.start_soon(house.document, "short", 6, found)
        await anyio.sleep(1)
        await house.read_leased("long1")
        while len(found) < 6:
            await anyio.sleep(1)
        await anyio.sleep(OFFLOAD_S + 1)
        assert sorted(house.states()) == [State.GPU, State.HOST]


async def test_a_card_with_more_to_read_is_not_offloaded_in_between() -> None:
    house = House(20_000)
    async with house.open(), anyio.create_task_group() as tasks:
        for name in "abc":
            tasks.start_soon(house.read, name)
        await anyio.sleep(LOAD_S + 3 * READ_S + OFFLOAD_S + 1)
        assert house.workers[0].calls == ["load", "read", "read", "read", "offload"]


async def test_a_card_that_is_just_being_offloaded_is_woken_when_that_is_done() -> None:
    house = House(20_000)
    async with house.open():
        await house.read("a")
        await anyio.sleep(OFFLOAD_S / 2)
        assert house.states() == ["offloading"]
        began = anyio.current_time()
        await house.read("b")
        assert anyio.current_time() - began == pytest.approx(OFFLOAD_S / 2 + RESTORE_S + READ_S)


async def test_a_card_whose_weights_are_in_host_memory_is_woken_before_an_empty_one() -> None:
    house = House(20_000, 20_000)
    async with house.open():
        await house.read()
        await anyio.sleep(OFFLOAD_S + 1)
        house.nvml.devices[1].free_mb = 80_000
        began = anyio.current_time()
        [(card, _)] = await house.read()
        assert (card, anyio.current_time() - began) == (house.cards[0], pytest.approx(RESTORE_S + READ_S))


async def test_an_idle_pool_sleeps_without_polling() -> None:
    house = House(gpu_offload_after=-1, gpu_idle_timeout=-1)
    async with house.open():
        house.by_card[house.cards[0]] = [lost(), lost()]
        await house.document("a", 4, [])
        await anyio.sleep(1)
        with counted_steps() as steps:
            await anyio.sleep(10_000)
    assert steps.count <= 2


# -- cards without room


async def test_a_card_without_room_is_passed_over() -> None:
    house = House(40_000, 3_000)
    found: list[tuple[str, str]] = []
    async with house.open():
        await house.document("a", 4, found)
        assert house.states() == [State.GPU, State.UNLOADED]
        assert {card for card, _ in found} == {house.cards[0]}
        assert "GPU 1" in house.each()[1].last_error
        assert house.each()[1].retry_in_s is None, "it has not failed"


async def test_only_when_all_cards_are_full_is_it_an_error_and_it_names_each() -> None:
    house = House(3_000, 2_000, 1_000)
    async with house.open():
        with pytest.raises(GpuBusy) as caught:
            await house.read()
        assert all(uuid in caught.value.message for uuid in house.cards)
        assert "OCR_GPUS" in caught.value.remedy
        assert house.workers == []
        assert anyio.current_time() == 0


async def test_a_full_card_is_tried_again_at_once_for_the_next_who_asks() -> None:
    house = House(3_000, 2_000)
    async with house.open():
        with pytest.raises(GpuBusy):
            await house.read()
        house.nvml.devices[1].free_mb = 20_000
        [(card, _)] = await house.read()
        assert card == house.cards[1]


async def test_a_full_card_that_gets_room_while_others_wait_takes_its_share() -> None:
    house = House(20_000, 3_000)
    found: list[tuple[str, str]] = []
    async with house.open(), anyio.create_task_group() as tasks:
        tasks.start_soon(house.document, "a", 20, found)
        tasks.start_soon(house.document, "b", 20, found)
        await anyio.sleep(1)
        house.nvml.devices[1].free_mb = 20_000
        await anyio.sleep(NO_ROOM_RETRY_S + LOAD_S)
        assert house.states() == [State.GPU, State.GPU]
    assert len(set(found)) == 40


async def test_a_card_that_fills_up_while_its_weights_wait_in_host_memory_is_passed_over() -> None:
    house = House(20_000, 15_000)
    async with house.open():
        await house.read()
        await anyio.sleep(OFFLOAD_S + 1)
        house.nvml.devices[0].take(pid=1, mb=19_000)
        [(card, _)] = await house.read()
        assert card == house.cards[1]
        assert house.states()[0] == State.HOST


# -- cards that fail


async def test_a_card_that_dies_leaves_the_others_serving_and_no_page_is_lost_or_doubled() -> None:
    house = House(20_000, 20_000, 20_000)
    bad = house.cards[1]
    house.by_card[bad] = [lost() for _ in range(100)]
    found: list[tuple[str, str]] = []
    async with house.open():
        async with anyio.create_task_group() as tasks:
            for name in "abcd":
                tasks.start_soon(house.document, name, 10, found)
        assert sorted(path for _, path in found) == sorted(f"{name}{n}" for name in "abcd" for n in range(10))
        assert bad not in {card for card, _ in found}
        worker = house.each()[1]
        assert worker.card == bad
        assert worker.retry_in_s is not None
        assert bad in worker.last_error
        assert {card for card, _, _ in house.told.out} == {bad}


async def test_a_worker_that_crashes_twice_costs_its_card_and_the_page_is_read_by_another() -> None:
    house = House()
    house.by_card[house.cards[0]] = [WorkerDied(-11, "segfault"), WorkerDied(-11, "segfault")]
    async with house.open():
        assert await house.read("a") == [(house.cards[1], "a")]
        assert house.told.out == [(house.cards[0], "worker_crashed", RETRY_FIRST_S)]
        assert [worker.restarts for worker in house.each()] == [2, 0]
        assert house.pool.status().worker_restarts == 2


async def test_a_worker_that_crashes_once_is_replaced_on_its_card() -> None:
    house = House()
    house.by_card[house.cards[0]] = [WorkerDied(-11, "segfault")]
    async with house.open():
        assert await house.read("a") == [(house.cards[0], "a")]
    assert house.told.out == []


async def test_a_page_that_kills_every_worker_is_an_error_and_costs_no_card() -> None:
    house = House(20_000, 20_000, 20_000)
    async with house.open() as pool:
        house.failures += [WorkerDied(-11, "segfault") for _ in range(4)]
        with pytest.raises(WorkerCrashed, match="segfault"):
            await house.read("poison")
        assert len(house.batches()) == 4, "two workers on two cards, and no third card"
        assert pool.lanes == 3
        assert [worker.retry_in_s for worker in house.each()] == [None, None, None]
        assert len(await house.read("good")) == 1


async def test_a_page_that_meets_two_cards_that_fail_is_read_by_a_third() -> None:
    house = House(20_000, 20_000, 20_000)
    first, second, third = house.cards
    async with house.open():
        house.by_card[second] = [lost() for _ in range(100)]
        found: list[tuple[str, str]] = []
        await house.document("a", 9, found)
        house.by_card[first] = [lost(), lost()]
        await anyio.sleep(2 * RETRY_MOST_S)
        house.nvml.devices[2].free_mb = 1_000
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(house.document, "b", 1, found)
            await anyio.sleep(1)
            house.nvml.devices[2].free_mb = 20_000
        assert found[-1] == (third, "b0")
        assert len(set(found)) == 10


async def test_others_are_read_while_a_page_kills_workers() -> None:
    house = House(shared_pages=4, batch_pages=4)

    class Poisoned(FakeWorker):
        async def call(self, method: str, arguments: Mapping[str, Any], **how: Any) -> dict[str, Any]:
            if method == "read" and any(page["path"] == "poison" for page in arguments["pages"]):
                self.calls.append(method)
                self.die()
                raise WorkerDied(-11, "poisoned")
            return await super().call(method, arguments, **how)

    async def spawn(engine: EngineSpec, env: Mapping[str, str]) -> FakeWorker:
        house.workers.append(Poisoned(1000 + len(house.workers), house.nvml.devices, []))
        return house.workers[-1]

    for card in house.pool._cards:
        card.manager._spawn = spawn
    found: list[tuple[str, str]] = []

    async def poison() -> None:
        with pytest.raises(WorkerCrashed):
            await house.read("poison")

    async with house.open(), anyio.create_task_group() as tasks:
        tasks.start_soon(house.document, "a", 10, found)
        tasks.start_soon(poison)
        tasks.start_soon(house.document, "b", 10, found)
    assert len(set(found)) == len(found) == 20


async def test_a_card_that_recovers_comes_back_when_there_is_work_for_it() -> None:
    house = House(gpu_offload_after=-1, gpu_idle_timeout=-1)
    bad = house.cards[0]
    house.by_card[bad] = [lost(), lost()]
    found: list[tuple[str, str]] = []
    async with house.open() as pool:
        assert await house.read("a") == [(house.cards[1], "a")]
        assert house.each()[0].retry_in_s is not None
        await anyio.sleep(RETRY_FIRST_S)
        assert house.states()[0] == State.UNLOADED, "nobody waits for it"
        assert house.each()[0].retry_in_s == 0
        assert await house.read("b") == [(house.cards[1], "b")], "a card that is ready and has not failed comes first"
        await house.document("c", 20, found)
        assert Counter(card for card, _ in found)[bad] >= 5
        assert (pool.lanes, house.each()[0].retry_in_s) == (2, None)
        assert house.told.out == [(bad, "gpu_lost", RETRY_FIRST_S)]


async def test_a_card_is_tried_again_less_and_less_often_but_never_never() -> None:
    house = House(gpu_offload_after=-1, gpu_idle_timeout=-1)
    house.by_card[house.cards[0]] = [lost() for _ in range(1000)]
    found: list[tuple[str, str]] = []
    async with house.open():
        await house.document("a", 900, found)
    waits = [seconds for _, _, seconds in house.told.out]
    assert waits[:7] == [10, 20, 40, 80, 160, 320, 600]
    assert set(waits[7:]) == {RETRY_MOST_S}
    assert len(set(found)) == 900


async def test_a_card_that_cannot_load_is_left_out() -> None:
    house = House()
    house.load_errors[house.cards[0]] = [Timeout("It hung.", remedy="Wait."), WorkerDied(-9, "")]
    async with house.open():
        assert await house.read("a") == [(house.cards[1], "a")]
        assert house.told.out[0][:2] == (house.cards[0], "timeout")


async def test_a_card_that_the_driver_does_not_list_any_more_is_left_out() -> None:
    house = House()
    house.nvml.devices[0].lost = True
    found: list[tuple[str, str]] = []
    async with house.open():
        await house.document("a", 4, found)
        assert {card for card, _ in found} == {house.cards[1]}
        assert {told[:2] for told in house.told.out} == {(house.cards[0], "engine_unavailable")}
        assert "OCR_GPUS" in house.each()[0].last_error


async def test_a_card_that_goes_while_it_reads_is_left_out_and_its_page_read_elsewhere() -> None:
    house = House()
    first = house.nvml.devices[0]
    async with house.open():
        await house.read("a")
        house.failures.append(lost())
        first.lost = True
        assert await house.read("b") == [(house.cards[1], "b")]
        assert house.told.out[0][:2] == (house.cards[0], "engine_unavailable")


async def test_when_every_card_fails_the_caller_hears_what_the_last_one_said_and_the_next_tries_again() -> None:
    house = House()
    async with house.open():
        for uuid in house.cards:
            house.load_errors[uuid] = [WorkerDied(-9, "no memory"), WorkerDied(-9, "no memory")]
        with pytest.raises(WorkerCrashed, match="SIGKILL"):
            await house.read("a")
        assert await house.read("b") == [(house.cards[0], "b")]


async def test_a_page_that_hangs_is_not_tried_again_and_a_card_on_which_pages_keep_hanging_is_left_out() -> None:
    house = House(gpu_offload_after=-1)
    house.by_card[house.cards[0]] = [Timeout("It hung.", remedy="Another page.") for _ in range(2)]
    async with house.open():
        for _ in range(2):
            with pytest.raises(Timeout):
                await house.read("a")
        assert house.told.out == [(house.cards[0], "timeout", RETRY_FIRST_S)]
        assert await house.read("b") == [(house.cards[1], "b")]


async def test_an_error_of_the_engine_is_the_callers_and_costs_no_card() -> None:
    house = House()
    house.failures.append(UnsupportedMode("No.", remedy="Another."))
    async with house.open() as pool:
        with pytest.raises(UnsupportedMode):
            await house.read("a")
        assert (pool.lanes, house.told.out) == (2, [])


# -- offload, release, the end


async def test_offload_and_release_act_on_all_and_tell_the_sum() -> None:
    house = House(gpu_offload_after=-1, gpu_idle_timeout=-1)
    async with house.open() as pool:
        await house.document("a", 4, [])
        moved = await pool.offload()
        assert (moved.from_state, moved.to_state, moved.freed_mb) == (State.GPU, State.HOST, 2 * WEIGHTS_MB)
        assert moved.message.startswith("2 of 2 workers: The weights left the GPU")
        moved = await pool.release()
        assert (moved.from_state, moved.to_state, moved.freed_mb) == (State.HOST, State.UNLOADED, 2 * CONTEXT_MB)
        assert [card.processes for card in house.nvml.devices] == [{}, {}]
        assert "Nothing was loaded" in (await pool.release()).message


async def test_offload_takes_the_cards_that_can_and_says_which_are_busy() -> None:
    house = House(gpu_offload_after=-1, gpu_idle_timeout=-1, ocr_busy_wait=2)
    async with house.open() as pool, anyio.create_task_group() as tasks:
        await house.document("a", 4, [])
        tasks.start_soon(house.read, "b")
        await anyio.sleep(1)
        with pytest.raises(Busy) as caught:
            await pool.offload()
        busy = next(worker.card for worker in house.each() if worker.queue)
        assert busy in caught.value.message
        assert "The others have done it." in caught.value.message
        assert sorted(house.states()) == [State.GPU, State.HOST]


async def test_forced_release_stops_what_runs_on_every_card_and_tells_its_callers() -> None:
    house = House()
    async with house.open() as pool, anyio.create_task_group() as tasks:
        await warm(house)

        async def victim(path: str) -> None:
            with pytest.raises(Cancelled, match="released by force"):
                await house.read(path)

        tasks.start_soon(victim, "b")
        tasks.start_soon(victim, "c")
        await anyio.sleep(RESTORE_S + OFFLOAD_S + 1)
        assert [worker.queue for worker in house.each()] == [1, 1]
        moved = await pool.release(force=True)
        assert moved.to_state is State.UNLOADED
        assert [card.processes for card in house.nvml.devices] == [{}, {}]
        assert house.told.out == []


async def test_forced_release_stops_a_load_and_tells_who_waits_for_it() -> None:
    house = House()
    async with house.open() as pool, anyio.create_task_group() as tasks:

        async def victim() -> None:
            with pytest.raises(Cancelled):
                await house.read()

        tasks.start_soon(victim)
        await anyio.sleep(1)
        assert pool.status().state == "loading"
        assert (await pool.release(force=True)).to_state is State.UNLOADED
        await anyio.sleep(100)
        assert len(house.workers) == 1


async def test_requests_in_line_survive_a_forced_release() -> None:
    house = House(20_000)
    answers = []

    async def caller(path: str) -> None:
        try:
            answers.extend(path for _, path in await house.read(path))
        except Cancelled:
            answers.append("stopped")

    async with house.open() as pool, anyio.create_task_group() as tasks:
        await house.read()
        for path in "abc":
            tasks.start_soon(caller, path)
        await anyio.sleep(OFFLOAD_S + RESTORE_S + 1)
        await pool.release(force=True)
    assert len(answers) == 3
    assert answers.count("stopped") == 1


async def test_closing_stops_what_runs_and_what_waits_and_tells_their_callers() -> None:
    house = House()
    async with anyio.create_task_group() as tasks:

        async def victim(path: str) -> None:
            with pytest.raises(Cancelled, match="shutting down"):
                await house.read(path)

        async with house.open():
            for path in "abcd":
                tasks.start_soon(victim, path)
            await anyio.sleep(LOAD_S + 1)
        assert house.pool.state is State.CLOSED
        with pytest.raises(Cancelled, match="shutting down"):
            await house.read()


async def test_closing_while_they_load_leaves_no_worker() -> None:
    house = House()
    async with anyio.create_task_group() as tasks:

        async def victim() -> None:
            with pytest.raises(Cancelled):
                await house.read()

        async with house.open():
            tasks.start_soon(victim)
            tasks.start_soon(victim)
            await anyio.sleep(1)


# -- what it tells


async def test_the_status_tells_each_worker_and_the_whole() -> None:
    house = House(gpu_offload_after=100, gpu_idle_timeout=300)
    async with house.open() as pool:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(house.read, "a")
            await anyio.sleep(1)
            status = pool.status()
            assert (status.state, status.idle_s, status.device) == ("loading", None, house.cards[0])
            assert pool.loading_s == pytest.approx(1)
        await anyio.sleep(40)
        first, second = house.each()
        status = pool.status()
    assert (first.card, first.state, first.pid, first.served) == (house.cards[0], State.GPU, 1000, 1)
    assert (first.idle_s, first.offload_in_s, first.release_in_s) == (40.0, 60.0, 260.0)
    assert (second.card, second.state, second.pid, second.served) == (house.cards[1], State.UNLOADED, None, 0)
    assert (status.state, status.worker_pid, status.served) == (State.GPU, 1000, 1)
    assert (status.idle_s, status.offload_in_s) == (pytest.approx(40), pytest.approx(60))
    assert status.device == house.cards[0]


async def test_memory_that_cards_lack_adds_up() -> None:
    house = House(gpu_offload_after=-1, gpu_idle_timeout=-1)
    async with house.open() as pool:
        await house.document("a", 4, [])
        for card in house.nvml.devices:
            card.give_back = lambda pid: None  # type: ignore[method-assign] - the driver keeps what the process had
        await pool.release()
        assert pool.unreturned_mb(pool.probe.cards()) == 2 * (CONTEXT_MB + WEIGHTS_MB)


async def test_repr_tells_the_state_in_a_line() -> None:
    house = House()
    async with house.open() as pool:
        assert repr(pool) == "<Pool UNLOADED of 2, 0 in line>"


# -- weights


async def test_missing_weights_are_fetched_once_for_all_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    here: list[Path | None] = [None]
    fetched: list[str] = []

    class Spec(EngineSpec):
        def weights_here(self, model: str) -> Path | None:
            return here[0]

    async def fetch(self: Weights, model: str, download: Any) -> None:
        fetched.append(model)
        download.done, download.total = 25, 100
        await anyio.sleep(60)
        here[0] = Path("/weights")
        self._download = None

    monkeypatch.setattr(Weights, "_fetch", fetch)
    house = House(engine=Spec, weights="somebody/weights", ocr_auto_download=True)
    outcomes: list[str] = []

    async def caller() -> None:
        try:
            await house.read()
        except OcrError as exc:
            outcomes.append(exc.code)

    async with house.open() as pool:
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(caller)
        assert outcomes == [NotReady.code] * 4
        await anyio.sleep(1)
        assert pool.status().download_percent == 25.0
        await anyio.sleep(60)
        assert len(await house.read()) == 1
    assert fetched == ["somebody/weights"]


async def test_without_weights_the_answer_is_said_once() -> None:
    class Spec(EngineSpec):
        def weights_here(self, model: str) -> Path | None:
            return None

    house = House(engine=Spec, weights="somebody/weights")
    async with house.open():
        with pytest.raises(EngineUnavailable) as caught:
            await house.read()
    assert caught.value.message.count("not on this machine") == 1
    assert "deepseek-ocr-mcp download somebody/weights" in caught.value.remedy


# -- what the settings make


def built(*cards: int, gpu_mb: int = 8000, **settings: Any) -> Any:
    nvml = FakeNvml()
    for free_mb in cards:
        nvml.add_card(free_mb=free_mb, total_mb=free_mb)
    spec = EngineSpec("fake", "faults:Echo", frozenset(MODES), gpu_mb=gpu_mb)
    return build_lifecycle(spec, Settings(**settings), probe=GpuProbe(nvml, sees_host_pids=True))


def names(pool: Pool) -> list[str]:
    return [card.name for card in pool._cards]


def test_by_default_there_is_one_manager() -> None:
    assert isinstance(built(20_000, 20_000), ModelManager)


def test_all_means_every_card_that_is_large_enough() -> None:
    pool = built(20_000, 4_000, 40_000, ocr_gpus="all")
    assert [name[:12] for name in names(pool)] == ["GPU-00000000", "GPU-00000002"]


def test_one_card_that_is_named_needs_no_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(built(20_000, 20_000, ocr_gpus="1"), ModelManager)
    assert isinstance(built(20_000, ocr_gpus="all"), ModelManager)
    assert isinstance(built(ocr_gpus="all"), ModelManager)


async def test_the_one_card_that_is_named_is_the_one_that_is_used() -> None:
    nvml = FakeNvml()
    for free_mb in (80_000, 20_000):
        nvml.add_card(free_mb=free_mb)
    spec = EngineSpec("fake", "faults:Echo", frozenset(MODES), gpu_mb=8000)
    workers: list[FakeWorker] = []

    async def spawn(engine: EngineSpec, env: Mapping[str, str]) -> FakeWorker:
        workers.append(FakeWorker(1000, nvml.devices, []))
        return workers[-1]

    settings = Settings(ocr_gpus="1", ocr_prewarm="off")
    one = build_lifecycle(spec, settings, probe=GpuProbe(nvml, sees_host_pids=True), spawn=spawn)
    async with one.running(), one.lease():
        await one.read([PageImage("/p", 1, 1)], ReadOptions("free"))
        assert one.device == nvml.devices[1].uuid
        assert one.status().workers is None


def test_a_list_names_cards_and_one_that_is_gone_is_named_all_the_same() -> None:
    pool = built(20_000, 20_000, ocr_gpus="1, GPU-00000000-0000-4000-8000-000000000000, 1, GPU-dead")
    assert [name[:12] for name in names(pool)] == ["GPU-00000001", "GPU-00000000", "GPU-dead"]


def test_an_engine_on_the_cpu_has_as_many_workers_as_are_asked_for_whatever_cards_there_are() -> None:
    assert isinstance(built(gpu_mb=0, ocr_gpus="all"), ModelManager)
    assert names(built(gpu_mb=0, ocr_cpu_workers=3, ocr_gpus="all")) == ["cpu"] * 3
    assert names(built(20_000, ocr_gpu="cpu", ocr_cpu_workers=2)) == ["cpu"] * 2
    assert isinstance(built(20_000, ocr_cpu_workers=3), ModelManager)


async def test_workers_on_the_cpu_are_told_that_they_share_its_cores() -> None:
    environments: list[Mapping[str, str]] = []

    async def spawn(engine: EngineSpec, env: Mapping[str, str]) -> FakeWorker:
        environments.append(env)
        return FakeWorker(1000 + len(environments), [], [])

    spec = EngineSpec("fake", "faults:Echo", frozenset(MODES))
    pool = build_lifecycle(spec, Settings(ocr_cpu_workers=2), probe=GpuProbe(FakeNvml()), spawn=spawn)
    async with pool.running(), anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(pool.read, [PageImage("/p", 1, 1)], ReadOptions("free"))
    assert [env["OCR_CORES_SHARED_BY"] for env in environments] == ["2", "2"]


# -- pages that join a batch that is being read


async def test_a_document_may_fill_the_slots_of_every_card() -> None:
    house = House(slots=8, shared_pages=8, batch_pages=2)
    async with house.open() as pool:
        assert pool.lanes == 2 * 4


async def test_a_page_joins_a_card_that_reads_and_wakes_no_other() -> None:
    house = House(slots=4, shared_pages=4, batch_pages=4, gpu_offload_after=-1, gpu_idle_timeout=-1)
    house.seconds["long"] = 60.0
    ended: dict[str, float] = {}

    async def read(path: str) -> None:
        began = anyio.current_time()
        await house.read(path)
        ended[path] = anyio.current_time() - began

    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        tasks.start_soon(read, "long")
        await anyio.sleep(1)
        for path in "abc":
            tasks.start_soon(read, path)
        await anyio.sleep(10)
    assert ended == pytest.approx({"long": 60, "a": READ_S, "b": READ_S, "c": READ_S})
    assert len(house.workers) == 1
    assert sorted(house.workers[0].batches[1]) == ["a", "b", "c", "long"]


async def test_pages_beyond_the_room_of_a_card_wake_another_and_a_ready_card_comes_before_one_that_reads() -> None:
    house = House(slots=2, shared_pages=2, batch_pages=2, gpu_offload_after=-1, gpu_idle_timeout=-1)
    house.seconds |= dict.fromkeys(("1", "2", "3", "4", "5"), 100.0)
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        for path in ("1", "2", "3"):
            tasks.start_soon(house.read, path)
            await anyio.sleep(1)
        await anyio.sleep(LOAD_S)
        assert [sorted(worker.batches[-1]) for worker in house.workers] == [["1", "2"], ["3"]]
        tasks.start_soon(house.read, "4")
        await anyio.sleep(1)
        assert [sorted(worker.batches[-1]) for worker in house.workers] == [["1", "2"], ["3", "4"]]
        tasks.start_soon(house.read, "5")
        await anyio.sleep(1)
        assert sum(len(worker.batches[-1]) for worker in house.workers) == 4  # it waits for a slot


async def test_no_more_pages_join_a_card_than_it_has_room_for() -> None:
    house = House(20_000, slots=3, shared_pages=3, batch_pages=1, gpu_offload_after=-1, gpu_idle_timeout=-1)
    house.seconds["long"] = 60.0
    most = 0
    async with house.open() as pool, anyio.create_task_group() as tasks:
        await house.read()
        tasks.start_soon(house.read, "long")
        await anyio.sleep(1)
        for number in range(7):
            tasks.start_soon(partial(house.read, f"{number}", client=f"client {number % 2}"))
        for _ in range(30):
            await anyio.sleep(1)
            most = max(most, sum(card.queue for card in house.each()))
        assert sum(card.served for card in house.each()) == 8
    assert most == 3
    assert len(house.workers[0].batches) == 2
    assert pool.state is State.CLOSED


async def test_a_page_that_killed_the_workers_of_a_card_joins_no_other_page() -> None:
    house = House(slots=4, shared_pages=4, batch_pages=4, gpu_offload_after=-1, gpu_idle_timeout=-1)
    house.seconds |= {"long": 200.0, "deadly": 200.0}
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        tasks.start_soon(house.read, "deadly")
        await anyio.sleep(1)
        house.workers[0].die()
        await anyio.sleep(1 + LOAD_S)
        tasks.start_soon(house.read, "long")  # wakes the other card: a part that is read alone is joined by none
        await anyio.sleep(1 + LOAD_S)
        assert house.workers[-1].batches == [["long"]]
        house.workers[1].die()  # the second worker of the first card
        await anyio.sleep(5)
        assert house.workers[-1].batches == [["long"]]
        tasks.cancel_scope.cancel()

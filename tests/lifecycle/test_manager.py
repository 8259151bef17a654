"""The manager on virtual time, with a worker and cards that are plain objects."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from deepseek_ocr_mcp.engines import EngineSpec
from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
from deepseek_ocr_mcp.errors import (
    Busy,
    Cancelled,
    EngineUnavailable,
    GpuBusy,
    GpuLost,
    NotReady,
    Timeout,
    UnsupportedMode,
    WorkerCrashed,
)
from deepseek_ocr_mcp.gpu.probe import GpuProbe
from deepseek_ocr_mcp.lifecycle.manager import ModelManager
from deepseek_ocr_mcp.lifecycle.weights import Weights
from deepseek_ocr_mcp.models import State
from deepseek_ocr_mcp.modes import MODES
from deepseek_ocr_mcp.observer import Observer
from deepseek_ocr_mcp.worker.client import WorkerDied
from fake_worker import CONTEXT_MB, LOAD_S, OFFLOAD_S, PREWARM_S, READ_S, WEIGHTS_MB
from manager_house import House
from virtual_time import counted_steps

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("virtual_time")]

PAGE = PageImage("/nowhere", 10, 10)
FREE = ReadOptions("free")


class Told(Observer):
    """Remembers what it is told of missing memory."""

    def __init__(self) -> None:
        self.missing: list[tuple[str, int]] = []

    def memory_missing(self, engine: str, device: str, missing_mb: int) -> None:
        super().memory_missing(engine, device, missing_mb)
        self.missing.append((device, missing_mb))


async def test_nothing_is_loaded_until_somebody_reads() -> None:
    house = House()
    async with house.open() as manager:
        await anyio.sleep(10_000)
        assert (manager.state, house.workers) == (State.UNLOADED, [])


async def test_idle_model_is_offloaded_then_released() -> None:
    house = House(cards=[20_000], gpu_offload_after=10, gpu_idle_timeout=60)
    async with house.open() as manager:
        assert await house.read() == "by 1000"
        assert manager.state is State.GPU
        await anyio.sleep(9)
        assert manager.state is State.GPU
        await anyio.sleep(3)
        assert manager.state is State.HOST
        assert house.nvml.devices[0].processes == {1000: CONTEXT_MB}
        await anyio.sleep(60)
        assert manager.state is State.UNLOADED
        assert house.nvml.devices[0].processes == {}


async def test_by_default_the_weights_leave_the_gpu_as_soon_as_nobody_waits() -> None:
    house = House(cards=[20_000])
    async with house.open() as manager, anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(house.read)
        await anyio.sleep(LOAD_S + 3 * READ_S - 1)
        assert "offload" not in house.workers[0].calls
        await anyio.sleep(1 + OFFLOAD_S + 1)
        assert manager.state is State.HOST
        assert house.workers[0].calls == ["load", "read", "read", "read", "offload"]


async def test_never_means_never() -> None:
    house = House(cards=[20_000], gpu_offload_after=-1, gpu_idle_timeout=-1)
    async with house.open() as manager:
        await house.read()
        await anyio.sleep(50_000)
        assert manager.state is State.GPU


async def test_a_model_in_use_is_never_idle() -> None:
    house = House(gpu_idle_timeout=1)
    async with house.open() as manager:
        async with manager.lease():
            for _ in range(10):
                await manager.read([PAGE], FREE)
                await anyio.sleep(100)
            assert manager.state is State.HOST
        await anyio.sleep(2)
        assert manager.state is State.UNLOADED
    assert len(house.workers) == 1


async def test_a_request_that_comes_as_the_timer_fires_is_served() -> None:
    house = House(gpu_idle_timeout=60)
    async with house.open():
        await house.read()
        await anyio.sleep(60)
        assert (await house.read()).startswith("by ")


async def test_an_idle_manager_sleeps_without_polling() -> None:
    house = House(gpu_idle_timeout=-1)
    async with house.open():
        await house.read()
        with counted_steps() as steps:
            await anyio.sleep(10_000)
    assert steps.count <= 3  # the watcher once, and this test's own waking


async def test_callers_that_come_while_it_loads_share_one_load() -> None:
    house = House()
    async with house.open(), anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(house.read)
    assert house.workers[0].calls == ["load"] + ["read"] * 5


async def test_a_load_goes_on_when_the_caller_that_asked_first_goes_away() -> None:
    house = House()
    async with house.open():
        with anyio.move_on_after(LOAD_S / 2):
            await house.read()
        began = anyio.current_time()
        await house.read()
        assert anyio.current_time() - began == pytest.approx(LOAD_S / 2 + READ_S)
    assert len(house.workers) == 1


async def test_batches_of_two_requests_take_turns() -> None:
    house = House()
    order = []

    async def document(name: str, pages: int) -> None:
        async with house.manager.lease():
            for _ in range(pages):
                await house.manager.read([PAGE], FREE)
                order.append(name)

    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        tasks.start_soon(document, "long", 4)
        await anyio.sleep(1)
        tasks.start_soon(document, "short", 1)
    assert order == ["long", "short", "long", "long", "long"]


async def test_waiting_loading_and_reading_are_told_apart() -> None:
    house = House()
    readings = []

    async def caller() -> None:
        async with house.manager.lease():
            readings.append(await house.manager.read([PAGE], FREE))

    async with house.open(), anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(caller)
    assert [r.load_s for r in readings] == pytest.approx([LOAD_S, LOAD_S])
    assert [r.queued_s for r in readings] == pytest.approx([0, READ_S])
    assert [r.infer_s for r in readings] == pytest.approx([READ_S, READ_S])


# -- requests side by side


async def test_pages_of_waiting_requests_share_a_batch_and_each_gets_its_own_back() -> None:
    house = House(shared_pages=4)
    answers: dict[str, list[str]] = {}

    async def caller(*paths: str) -> None:
        answers[paths[0]] = [path for _, path in await house.read_pages(*paths)]

    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        for paths in (("a",), ("b1", "b2"), ("c",), ("d", "e")):
            tasks.start_soon(caller, *paths)
            await anyio.sleep(0.1)
    assert house.workers[0].batches[1:] == [["a"], ["b1", "b2", "c"], ["d", "e"]]
    assert answers == {"a": ["a"], "b1": ["b1", "b2"], "c": ["c"], "d": ["d", "e"]}


async def test_requests_of_different_modes_share_no_batch() -> None:
    house = House(shared_pages=4)
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        tasks.start_soon(house.read)
        await anyio.sleep(1)
        for mode in ("ocr", "free", "ocr", "free"):
            tasks.start_soon(partial(house.read_pages, mode, mode=mode))
    assert sorted(house.workers[0].batches[2:]) == [["free", "free"], ["ocr", "ocr"]]


async def test_a_request_never_fails_for_a_page_of_another() -> None:
    refusal = UnsupportedMode("Not this page.", remedy="Another.")
    house = House(shared_pages=4)
    outcomes: list[str] = []

    async def caller(path: str) -> None:
        try:
            outcomes.extend(path for _, path in await house.read_pages(path))
        except UnsupportedMode:
            outcomes.append("refused")

    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        tasks.start_soon(house.read)
        await anyio.sleep(1)
        house.failures += [refusal, refusal]  # for the batch, and for one of the two alone
        tasks.start_soon(caller, "a")
        tasks.start_soon(caller, "b")
    shared, *alone = house.workers[0].batches[2:]
    assert sorted(shared) == ["a", "b"]
    assert sorted(alone) == [["a"], ["b"]]
    assert outcomes == ["refused", alone[1][0]]


async def test_a_batch_that_kills_the_worker_is_read_again_request_by_request() -> None:
    house = House(shared_pages=4)
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        tasks.start_soon(house.read)
        await anyio.sleep(1)
        house.failures.append(WorkerDied(-9, ""))
        tasks.start_soon(house.read_pages, "a")
        tasks.start_soon(house.read_pages, "b")
    assert len(house.workers[0].batches[-1]) == 2
    assert sorted(house.workers[1].batches) == [["a"], ["b"]]


async def test_a_caller_that_leaves_a_shared_batch_takes_its_pages_along_and_nobody_elses() -> None:
    house = House(shared_pages=4)
    answers: list[list[str]] = []

    async def stayer() -> None:
        answers.append([path for _, path in await house.read_pages("a1", "a2")])

    async def leaver(scope: anyio.CancelScope) -> None:
        with scope:
            await house.read_pages("b")

    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        scope = anyio.CancelScope()
        tasks.start_soon(house.read)
        await anyio.sleep(1)
        tasks.start_soon(stayer)
        await anyio.sleep(1)
        tasks.start_soon(leaver, scope)
        await anyio.sleep(READ_S)
        scope.cancel()
    [worker] = house.workers
    assert worker.batches[-1] == ["a1", "a2", "b"]
    assert worker.dropped == [2]
    assert answers == [["a1", "a2"]]


async def test_when_all_callers_of_a_batch_leave_the_next_in_line_is_read_at_once() -> None:
    house = House()
    async with house.open():
        await house.read()
        began = anyio.current_time()
        with anyio.move_on_after(1):
            await house.read()
        await house.read()
        assert anyio.current_time() - began == pytest.approx(1 + READ_S)


async def test_a_client_with_many_requests_makes_another_wait_for_one_batch() -> None:
    house = House()
    order: list[str] = []

    async def caller(client: str) -> None:
        await house.read_pages(client, client=client)
        order.append(client)

    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        for _ in range(4):
            tasks.start_soon(caller, "greedy")
        await anyio.sleep(1)
        tasks.start_soon(caller, "modest")
    assert order == ["greedy", "modest", "greedy", "greedy", "greedy"]


async def test_what_nobody_waits_for_is_read_last() -> None:
    house = House(shared_pages=2)
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()
        tasks.start_soon(house.read_pages, "now 1")
        await anyio.sleep(1)
        for _ in range(2):
            tasks.start_soon(partial(house.read_pages, "ahead", background=lambda: True))
        await anyio.sleep(1)
        tasks.start_soon(house.read_pages, "now 2")
    assert house.workers[0].batches[1:] == [["now 1"], ["now 2"], ["ahead", "ahead"]]


async def test_a_slow_listener_to_progress_keeps_nobody_else_waiting() -> None:
    house = House()
    async with house.open(), anyio.create_task_group() as tasks:
        await house.read()

        async def deaf(done: float, message: str) -> None:
            await anyio.sleep(1000)

        tasks.start_soon(partial(house.read_pages, "a", on_progress=deaf))
        await anyio.sleep(1)
        began = anyio.current_time()
        await house.read()
        assert anyio.current_time() - began <= 2 * READ_S


# -- offload and release


async def test_offload_reports_what_came_back() -> None:
    house = House(cards=[20_000], gpu_offload_after=-1)
    async with house.open() as manager:
        await house.read()
        moved = await manager.offload()
        assert (moved.from_state, moved.to_state, moved.freed_mb) == (State.GPU, State.HOST, WEIGHTS_MB)
        again = await manager.offload()
        assert (again.from_state, again.to_state, again.freed_mb) == (State.HOST, State.HOST, None)


async def test_a_model_that_was_offloaded_is_restored_not_loaded() -> None:
    house = House(cards=[20_000])
    async with house.open():
        await house.read()
        await anyio.sleep(OFFLOAD_S + 1)
        await house.read()
    assert house.workers[0].calls[:5] == ["load", "read", "offload", "restore", "read"]


async def test_offloading_a_cpu_engine_is_a_success_that_says_so() -> None:
    house = House()
    async with house.open() as manager:
        await house.read()
        moved = await manager.offload()
    assert moved.from_state is moved.to_state is State.HOST
    assert "runs on the CPU" in moved.message


async def test_release_gives_everything_back() -> None:
    house = House(cards=[20_000])
    async with house.open() as manager:
        await house.read()
        moved = await manager.release()
        assert moved.to_state is State.UNLOADED
        assert house.nvml.devices[0].processes == {}
        assert "Nothing was loaded" in (await manager.release()).message


async def test_release_waits_for_the_batch_in_flight() -> None:
    house = House(ocr_busy_wait=10)
    async with house.open() as manager, anyio.create_task_group() as tasks:
        await house.read()
        tasks.start_soon(house.read)
        await anyio.sleep(1)
        assert (await manager.release()).to_state is State.UNLOADED
        assert manager.status().served == 2


async def test_release_says_busy_when_the_wait_is_over() -> None:
    house = House(ocr_busy_wait=2)
    async with house.open() as manager, anyio.create_task_group() as tasks:
        await house.read()
        tasks.start_soon(house.read)
        await anyio.sleep(1)
        with pytest.raises(Busy, match="waited 2 s") as caught:
            await manager.release()
        assert "force=true" in caught.value.remedy


async def test_forced_release_stops_what_runs_and_its_caller_is_told() -> None:
    house = House()
    async with house.open() as manager, anyio.create_task_group() as tasks:
        await house.read()

        async def victim() -> None:
            with pytest.raises(Cancelled, match="released by force"):
                await house.read()

        tasks.start_soon(victim)
        await anyio.sleep(1)
        moved = await manager.release(force=True)
        assert (moved.from_state, moved.to_state) == (State.HOST, State.UNLOADED)
        assert manager.status().worker_restarts == 0
        assert manager.status().last_error == ""
    async with house.open():
        pass


async def test_forced_release_stops_a_load() -> None:
    house = House()
    async with house.open() as manager, anyio.create_task_group() as tasks:

        async def victim() -> None:
            with pytest.raises(Cancelled):
                await house.read()

        tasks.start_soon(victim)
        await anyio.sleep(1)
        assert manager.status().state == "loading"
        assert (await manager.release(force=True)).to_state is State.UNLOADED


async def test_requests_in_line_survive_a_forced_release() -> None:
    house = House()
    async with house.open() as manager, anyio.create_task_group() as tasks:
        await house.read()
        answers = []

        async def caller() -> None:
            try:
                answers.append(await house.read())
            except Cancelled:
                answers.append("stopped")

        for _ in range(3):
            tasks.start_soon(caller)
        await anyio.sleep(1)
        await manager.release(force=True)
        while len(answers) < 3:
            await anyio.sleep(1)
    assert sorted(answers) == ["by 1001", "by 1001", "stopped"]


async def test_a_cancelled_offload_still_ends_in_a_true_state() -> None:
    house = House(cards=[20_000], gpu_offload_after=-1)
    async with house.open() as manager:
        await house.read()
        with anyio.move_on_after(OFFLOAD_S / 2):
            await manager.offload()
        assert manager.state is State.HOST
        assert house.nvml.devices[0].processes == {1000: CONTEXT_MB}


# -- failures


async def test_a_crash_while_reading_is_retried_once_in_a_fresh_worker() -> None:
    house = House(failures=[WorkerDied(-11, "segfault")])
    async with house.open() as manager:
        assert await house.read() == "by 1001"
        assert manager.status().worker_restarts == 1
        assert "segfault" in manager.status().last_error


async def test_a_worker_that_is_killed_while_it_loads_costs_none_of_those_who_wait_for_it() -> None:
    house = House()
    house.load_failures = [WorkerDied(-9, "")]
    answers: list[str] = []

    async def read() -> None:
        answers.append(await house.read())

    async with house.open() as manager, anyio.create_task_group() as tasks:
        for _ in range(16):
            tasks.start_soon(read)
        await anyio.sleep(LOAD_S + 17 * READ_S)
        assert answers == ["by 1001"] * 16
        assert manager.status().worker_restarts == 1


async def test_a_worker_that_dies_twice_while_it_loads_is_an_error() -> None:
    house = House()
    house.load_failures = [WorkerDied(-9, ""), WorkerDied(-9, "")]
    async with house.open():
        with pytest.raises(WorkerCrashed, match="SIGKILL"):
            await house.read()
        assert await house.read() == "by 1002"


async def test_a_page_that_kills_two_workers_is_an_error_with_their_last_words() -> None:
    house = House(failures=[WorkerDied(-11, "first"), WorkerDied(-11, "second")])
    async with house.open() as manager:
        with pytest.raises(WorkerCrashed, match=r"SIGSEGV.*second"):
            await house.read()
        assert manager.state is State.UNLOADED
        assert await house.read() == "by 1002"


async def test_a_card_that_is_lost_costs_its_worker_and_the_page_is_read_elsewhere() -> None:
    house = House(cards=[20_000, 15_000], failures=[GpuLost("CUDA error: Xid 79.", remedy="See dmesg.")])
    async with house.open() as manager:
        assert await house.read() == "by 1001"
        status = manager.status()
        assert (status.worker_restarts, house.workers[0].alive) == (1, False)
        assert house.nvml.devices[0].uuid in status.last_error


async def test_a_card_that_is_lost_twice_is_an_error_that_says_whether_the_driver_still_knows_it() -> None:
    house = House(cards=[20_000], failures=[GpuLost("CUDA error.", remedy="See dmesg.") for _ in range(2)])
    async with house.open() as manager:
        with pytest.raises(GpuLost, match=r"The card was GPU-"):
            await house.read()
        assert manager.state is State.UNLOADED
        house.failures += [GpuLost("CUDA error.", remedy="See dmesg.") for _ in range(2)]
        uuid = house.nvml.devices[0].uuid
        with pytest.raises(GpuLost, match="CUDA error"):
            await house.read()
        assert uuid in manager.status().last_error


async def test_a_hung_page_is_not_tried_again() -> None:
    house = House(failures=[Timeout("It hung.", remedy="Another page.")])
    async with house.open() as manager:
        with pytest.raises(Timeout):
            await house.read()
        assert (manager.state, len(house.workers)) == (State.UNLOADED, 1)
        assert await house.read() == "by 1001"


async def test_an_error_of_the_engine_leaves_the_model_where_it_is() -> None:
    house = House(failures=[UnsupportedMode("No.", remedy="Another.")])
    async with house.open() as manager:
        with pytest.raises(UnsupportedMode):
            await house.read()
        assert manager.state is State.HOST
        assert await house.read() == "by 1000"


async def test_a_worker_that_died_in_its_sleep_is_not_shown_as_loaded() -> None:
    house = House()
    async with house.open() as manager:
        await house.read()
        house.workers[0].die()
        assert manager.state is State.UNLOADED
        assert manager.status().worker_pid is None
        assert await house.read() == "by 1001"


async def test_offload_and_release_notice_a_worker_that_died_in_its_sleep() -> None:
    house = House(cards=[20_000], gpu_offload_after=-1)
    async with house.open() as manager:
        for step in (manager.offload, manager.release):
            await house.read()
            house.workers[-1].die()
            assert (await step()).to_state is State.UNLOADED
        assert "offload" not in house.workers[0].calls


async def test_a_worker_that_cannot_be_started_is_an_error_for_all_who_wait() -> None:
    house = House()
    house.spawn_error = OSError("no more processes")
    async with house.open() as manager, anyio.create_task_group() as tasks:

        async def caller() -> None:
            with pytest.raises(EngineUnavailable, match="no more processes"):
                await house.read()

        for _ in range(3):
            tasks.start_soon(caller)
        await anyio.sleep(1)
        assert "no more processes" in manager.status().last_error
        house.spawn_error = None
        assert await house.read() == "by 1000"


async def test_closing_stops_what_runs_and_tells_its_caller() -> None:
    house = House()
    async with anyio.create_task_group() as tasks:

        async def victim() -> None:
            with pytest.raises(Cancelled, match="shutting down"):
                await house.read()

        async with house.open():
            tasks.start_soon(victim)
            await anyio.sleep(LOAD_S + 1)
        assert house.manager.state is State.CLOSED


async def test_closing_while_it_loads_leaves_no_worker() -> None:
    house = House()
    async with anyio.create_task_group() as tasks:

        async def victim() -> None:
            with pytest.raises(Cancelled):
                await house.read()

        async with house.open():
            tasks.start_soon(victim)
            await anyio.sleep(1)


# -- which card


async def test_the_emptiest_card_is_taken_and_named_by_its_uuid() -> None:
    house = House(cards=[9_000, 10_000, 40_000, 12_000])
    async with house.open() as manager:
        await house.read()
        uuid = house.nvml.devices[2].uuid
        assert manager.status().device == uuid
        assert house.workers[0].environment == {"CUDA_VISIBLE_DEVICES": uuid, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


async def test_a_model_moves_when_its_card_has_filled_up() -> None:
    house = House(cards=[20_000, 15_000])
    first, second = house.nvml.devices
    async with house.open() as manager:
        await house.read()
        await anyio.sleep(OFFLOAD_S + 1)
        first.take(pid=1, mb=19_000)
        assert await house.read() == "by 1001"
        assert manager.status().device == second.uuid
        assert 1000 not in first.processes


async def test_a_model_waits_in_host_memory_when_every_card_has_filled_up() -> None:
    house = House(cards=[20_000])
    async with house.open() as manager:
        await house.read()
        await anyio.sleep(OFFLOAD_S + 1)
        house.nvml.devices[0].take(pid=1, mb=15_000)
        with pytest.raises(GpuBusy, match="GPU 0"):
            await house.read()
        assert manager.state is State.HOST
        house.nvml.devices[0].give_back(1)
        assert await house.read() == "by 1000"


async def test_no_room_on_any_card_starts_no_worker() -> None:
    house = House(cards=[4_000])
    async with house.open() as manager:
        with pytest.raises(GpuBusy):
            await house.read()
        assert house.workers == []
        assert manager.status().last_error


async def test_a_gpu_engine_told_to_use_the_cpu_asks_for_no_card() -> None:
    house = House(cards=[4_000], ocr_gpu="cpu")
    async with house.open() as manager:
        await house.read()
        assert (manager.state, manager.status().device) == (State.GPU, "cpu")
        await anyio.sleep(OFFLOAD_S + 1)
        assert manager.state is State.HOST
        assert house.workers[0].environment == {}


# -- before the first call


async def test_libraries_are_imported_while_the_server_is_idle_and_no_card_is_touched() -> None:
    house = House(cards=[20_000], ocr_prewarm="imports")
    async with house.open() as manager:
        await anyio.sleep(PREWARM_S + 1)
        assert house.workers[0].calls == ["prewarm"]
        status = manager.status()
        assert (status.state, status.prewarmed, status.worker_pid) == (State.UNLOADED, True, 1000)
        assert house.nvml.devices[0].processes == {}
        assert await house.read() == "by 1000"
        assert house.workers[0].calls[:3] == ["prewarm", "load", "read"]


async def test_a_request_that_comes_while_it_prewarms_uses_that_worker() -> None:
    house = House(cards=[20_000], ocr_prewarm="imports")
    async with house.open():
        await anyio.sleep(1)
        assert await house.read() == "by 1000"


@pytest.mark.parametrize(("prewarm", "state"), [("host", State.HOST), ("gpu", State.GPU)])
async def test_weights_can_be_loaded_before_the_first_call(prewarm: str, state: State) -> None:
    house = House(cards=[20_000], ocr_prewarm=prewarm, gpu_offload_after=-1, gpu_idle_timeout=-1)
    async with house.open() as manager:
        await anyio.sleep(PREWARM_S + LOAD_S + OFFLOAD_S + 1)
        assert manager.state is state


async def test_after_an_idle_release_a_fresh_worker_is_prewarmed() -> None:
    house = House(cards=[20_000], ocr_prewarm="imports", gpu_idle_timeout=60)
    async with house.open() as manager:
        await house.read()
        await anyio.sleep(100)
        assert [worker.calls[0] for worker in house.workers] == ["load", "prewarm"]
        assert manager.status().prewarmed


async def test_after_a_release_by_hand_nothing_runs() -> None:
    house = House(cards=[20_000], ocr_prewarm="imports")
    async with house.open() as manager:
        await anyio.sleep(PREWARM_S + 1)
        await manager.release()
        await anyio.sleep(1000)
        assert not house.workers[-1].alive
        assert len(house.workers) == 1


async def test_an_engine_without_weights_to_park_is_not_prewarmed() -> None:
    house = House(ocr_prewarm="gpu")
    async with house.open():
        await anyio.sleep(1000)
        assert house.workers == []


async def test_a_load_says_how_long_it_has_taken() -> None:
    house = House()
    async with house.open() as manager, anyio.create_task_group() as tasks:
        assert manager.loading_s is None
        tasks.start_soon(house.read)
        await anyio.sleep(12)
        assert manager.loading_s == pytest.approx(12)
        await anyio.sleep(LOAD_S)
        assert manager.loading_s is None


# -- weights


def with_weights(house: House, here: list[Path | None]) -> House:
    """An engine whose weights are looked for in `here`."""

    class Spec(EngineSpec):
        def weights_here(self, model: str) -> Path | None:
            return here[0]

    engine = Spec("fake", "faults:Echo", frozenset(MODES), gpu_mb=8000, weights="somebody/weights")
    house.manager = ModelManager(
        engine, house.settings, probe=GpuProbe(house.nvml, sees_host_pids=True), spawn=house.spawn
    )
    return house


async def test_without_weights_a_call_is_answered_with_the_command_that_fetches_them() -> None:
    house = with_weights(House(cards=[20_000]), [None])
    async with house.open():
        with pytest.raises(EngineUnavailable) as caught:
            await house.read()
        assert "deepseek-ocr-mcp download somebody/weights" in caught.value.remedy
        assert house.workers == []


async def test_the_worker_is_told_where_the_weights_are() -> None:
    house = with_weights(House(cards=[20_000]), [Path("/weights")])
    async with house.open():
        await house.read()
    assert house.workers[0].environment["OCR_MODEL_PATH"] == "/weights"


async def test_missing_weights_are_fetched_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    here: list[Path | None] = [None]
    house = with_weights(House(cards=[20_000], ocr_auto_download=True), here)

    async def fetch(self: Weights, model: str, download: Any) -> None:
        download.done, download.total = 25, 100
        await anyio.sleep(60)
        here[0] = Path("/weights")
        self._download = None

    monkeypatch.setattr(Weights, "_fetch", fetch)
    async with house.open() as manager:
        for _ in range(2):
            with pytest.raises(NotReady, match="fetched"):
                await house.read()
            await anyio.sleep(1)
        assert manager.status().download_percent == 25.0
        await anyio.sleep(60)
        assert await house.read() == "by 1000"
        assert manager.status().download_percent is None


async def test_repr_tells_the_state_in_a_line() -> None:
    house = House(cards=[20_000], gpu_offload_after=-1, gpu_idle_timeout=-1)
    async with house.open() as manager:
        await house.read()
        await anyio.sleep(12)
        assert repr(manager) == f"<ModelManager GPU {house.nvml.devices[0].uuid} idle 12s served 1>"


async def test_status_counts_down_to_each_step() -> None:
    house = House(cards=[20_000], gpu_offload_after=100, gpu_idle_timeout=300)
    async with house.open() as manager:
        assert manager.status().offload_in_s is None
        await house.read()
        await anyio.sleep(40)
        status = manager.status()
    assert status.idle_s == pytest.approx(40)
    assert status.offload_in_s == pytest.approx(60)
    assert status.release_in_s == pytest.approx(260)


async def test_memory_that_a_dead_worker_held_and_its_card_lacks_is_told_until_it_is_back() -> None:
    house = House(cards=[20_000], gpu_offload_after=-1, gpu_idle_timeout=-1)
    card, told = house.nvml.devices[0], Told()
    house.manager.observer = told
    async with house.open() as manager:
        await house.read()
        card.give_back = lambda pid: None  # type: ignore[method-assign] - the driver keeps what the process had
        await manager.release()
        assert told.missing == [(card.uuid, CONTEXT_MB + WEIGHTS_MB)]
        assert manager.unreturned_mb(manager.probe.cards()) == CONTEXT_MB + WEIGHTS_MB
        card.free_mb += 5_000
        assert manager.unreturned_mb(manager.probe.cards()) == CONTEXT_MB + WEIGHTS_MB - 5_000
        card.free_mb -= 1_000  # another program: it is not ours that is missing more
        await anyio.sleep(60)
        assert manager.unreturned_mb(manager.probe.cards()) == CONTEXT_MB + WEIGHTS_MB - 5_000
        card.free_mb += 3_500
        assert manager.unreturned_mb(manager.probe.cards()) is None
        card.free_mb -= 9_000
        assert manager.unreturned_mb(manager.probe.cards()) is None


async def test_memory_that_was_missing_and_is_back_at_the_next_load_is_not_told_any_more() -> None:
    house = House(cards=[40_000], gpu_offload_after=-1, gpu_idle_timeout=-1)
    card = house.nvml.devices[0]
    async with house.open() as manager:
        for late in (True, False):
            await house.read()
            missing = manager.unreturned_mb(manager.probe.cards())
            assert missing is None
            give_back, kept = card.give_back, card.processes.copy()
            card.give_back = lambda pid: None  # type: ignore[method-assign]
            await manager.release()
            card.give_back = give_back  # type: ignore[method-assign]
            if late:
                for pid in kept:
                    give_back(pid)
        await house.read()
        assert manager.unreturned_mb(manager.probe.cards()) == CONTEXT_MB + WEIGHTS_MB, "as known before this worker"


async def test_memory_that_comes_back_at_once_is_not_missing() -> None:
    house = House(cards=[20_000], gpu_offload_after=-1, gpu_idle_timeout=-1)
    told = house.manager.observer = Told()
    async with house.open() as manager:
        await house.read()
        await manager.release()
        assert manager.unreturned_mb(manager.probe.cards()) is None
    assert told.missing == []

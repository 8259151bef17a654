"""Parked without a trace on the card: a successor with the weights mapped takes the worker's place. Virtual time."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from deepseek_ocr_mcp.errors import EngineUnavailable, GpuBusy
from deepseek_ocr_mcp.lifecycle import manager as module
from deepseek_ocr_mcp.lifecycle.manager import SETTLE_S
from deepseek_ocr_mcp.models import State
from deepseek_ocr_mcp.worker.client import WorkerDied
from fake_worker import CONTEXT_MB, LOAD_S, OFFLOAD_S, OPEN_S, PREWARM_S, READ_S, RESTORE_S, WEIGHTS_MB
from manager_house import House
from virtual_time import counted_steps

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("virtual_time")]

SUCCEEDED_S = OFFLOAD_S + SETTLE_S + OPEN_S + 1
"""From the end of a page to a successor in its place."""


def house(**settings: object) -> House:
    return House(**{"cards": [20_000], "opens": True, "gpu_idle_timeout": -1, **settings})  # type: ignore[arg-type]


def held(house: House, card: int = 0) -> dict[int, int | None]:
    """MiB on a card by process id."""
    return house.nvml.devices[card].processes


async def test_a_parked_model_has_nothing_on_the_card() -> None:
    it = house()
    async with it.open() as manager:
        assert await it.read() == "by 1000"
        await anyio.sleep(OFFLOAD_S + 1)
        assert (manager.state, held(it)) == (State.HOST, {1000: CONTEXT_MB})
        await anyio.sleep(SUCCEEDED_S)
        assert (manager.state, held(it), manager.device) == (State.HOST, {}, "none")
        assert it.nvml.devices[0].free_mb == 20_000
        status = manager.status()
        assert (status.worker_pid, status.worker_restarts, status.last_error) == (1001, 0, "")
        assert it.workers[1].calls == ["open"]


async def test_the_next_page_waits_for_the_copy_only() -> None:
    it = house()
    async with it.open() as manager:
        await it.read()
        await anyio.sleep(SUCCEEDED_S)
        began = anyio.current_time()
        assert await it.read() == "by 1001"
        assert anyio.current_time() - began == pytest.approx(RESTORE_S + READ_S)
        assert it.workers[1].calls[:3] == ["open", "restore", "read"]
        assert it.workers[1].environment["CUDA_VISIBLE_DEVICES"] == it.nvml.devices[0].uuid
        assert manager.device == it.nvml.devices[0].uuid


async def test_a_page_that_comes_soon_is_read_by_the_worker_that_still_has_its_context() -> None:
    it = house()
    async with it.open():
        await it.read()
        await anyio.sleep(OFFLOAD_S + 1)
        assert await it.read() == "by 1000"
        assert len(it.workers) == 1


async def test_a_successor_that_is_not_needed_yet_waits_for_the_next_offload() -> None:
    it = house()
    async with it.open() as manager:
        await it.read()
        await anyio.sleep(OFFLOAD_S + SETTLE_S + OPEN_S / 2)
        with anyio.fail_after(OPEN_S + 10):
            async with manager.lease():
                assert await it.read() == "by 1000"
                await anyio.sleep(OPEN_S)
                assert it.workers[1].calls == ["open"]
        await anyio.sleep(0.1)
        assert (manager.state, held(it)) == (State.HOST, {})
        assert await it.read() == "by 1001"


async def test_an_offload_that_is_asked_for_ends_with_nothing_of_ours_on_the_card() -> None:
    it = house(gpu_offload_after=-1)
    async with it.open() as manager:
        await it.read()
        moved = await manager.offload()
        assert held(it) == {}
        assert (moved.from_state, moved.to_state) == (State.GPU, State.HOST)
        assert moved.freed_mb == WEIGHTS_MB + CONTEXT_MB
        assert moved.seconds == pytest.approx(OFFLOAD_S + OPEN_S)
        assert "Nothing of ours is on the card" in moved.message
        again = await manager.offload()
        assert (again.from_state, again.freed_mb) == (State.HOST, None)


async def test_an_offload_after_that_of_the_idle_policy_does_not_wait_for_it_to_settle() -> None:
    it = house()
    async with it.open() as manager:
        await it.read()
        await anyio.sleep(OFFLOAD_S + 0.1)
        began = anyio.current_time()
        moved = await manager.offload()
        assert anyio.current_time() - began == pytest.approx(OPEN_S)
        assert (held(it), moved.freed_mb) == ({}, CONTEXT_MB)


async def test_an_offload_is_answered_though_the_successor_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUCCESSOR_WAIT_S", OPEN_S / 2)
    it = house(gpu_offload_after=-1)
    async with it.open() as manager:
        await it.read()
        moved = await manager.offload()
        assert "when the successor is ready" in moved.message
        assert held(it) == {1000: CONTEXT_MB}
        await anyio.sleep(OPEN_S)
        assert held(it) == {}


async def test_resident_keeps_the_worker_and_its_context() -> None:
    it = house(ocr_park="resident")
    async with it.open() as manager:
        await it.read()
        assert it.workers[0].environment["OCR_PARK"] == "resident"
        await anyio.sleep(SUCCEEDED_S)
        assert held(it) == {1000: CONTEXT_MB}
        moved = await manager.offload()
        assert moved.freed_mb is None
        assert await it.read() == "by 1000"
        assert len(it.workers) == 1


async def test_release_ends_the_successor_too() -> None:
    it = house()
    async with it.open() as manager:
        for wait in (OFFLOAD_S + SETTLE_S + 1, SUCCEEDED_S):
            await it.read()
            await anyio.sleep(wait)
            await manager.release()
            assert manager.state is State.UNLOADED
            await anyio.sleep(0.1)
            assert not any(worker.alive for worker in it.workers)
        await it.read()
        await anyio.sleep(OFFLOAD_S + SETTLE_S + 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(it.read_quietly)
            await anyio.sleep(RESTORE_S + 1)
            await manager.release(force=True)
        await anyio.sleep(0.1)
        assert not any(worker.alive for worker in it.workers)


async def test_the_idle_policy_gives_everything_back_in_the_end() -> None:
    it = house(gpu_idle_timeout=60)
    async with it.open() as manager:
        await it.read()
        await anyio.sleep(61)
        assert manager.state is State.UNLOADED
        assert not any(worker.alive for worker in it.workers)


async def test_a_parked_model_sleeps_without_polling() -> None:
    it = house()
    async with it.open():
        await it.read()
        await anyio.sleep(SUCCEEDED_S)
        with counted_steps() as steps:
            await anyio.sleep(10_000)
    assert steps.count <= 3


# -- kill -9 at each step


async def test_a_successor_that_dies_while_it_opens_leaves_the_parked_worker() -> None:
    it = house()
    async with it.open() as manager:
        await it.read()
        await anyio.sleep(OFFLOAD_S + SETTLE_S + 1)
        it.workers[1].die()
        await anyio.sleep(1)
        assert (manager.state, held(it)) == (State.HOST, {1000: CONTEXT_MB})
        assert "SIGKILL" in manager.status().last_error
        assert await it.read() == "by 1000"
        await anyio.sleep(SUCCEEDED_S)
        assert held(it) == {}


async def test_a_parked_worker_that_dies_while_its_successor_opens_leaves_the_successor() -> None:
    it = house()
    async with it.open() as manager:
        await it.read()
        await anyio.sleep(OFFLOAD_S + SETTLE_S + 1)
        it.workers[0].die()
        await anyio.sleep(OPEN_S)
        assert await it.read() == "by 1001"
        assert len(it.workers) == 2
        assert manager.status().worker_restarts == 1


async def test_a_load_while_the_successor_opens_leaves_it_for_the_next_offload() -> None:
    it = house()
    async with it.open() as manager:
        await it.read()
        await anyio.sleep(OFFLOAD_S + SETTLE_S + 1)
        it.workers[0].die()
        async with manager.lease():
            assert await it.read() == "by 1002"
        await anyio.sleep(OFFLOAD_S)
        assert (manager.state, held(it)) == (State.HOST, {})
        assert await it.read() == "by 1001"
        assert not it.workers[2].alive


async def test_a_parked_worker_that_dies_unnoticed_is_followed_by_its_successor() -> None:
    it = house(gpu_idle_timeout=60)
    async with it.open() as manager:
        await it.read()
        await anyio.sleep(OFFLOAD_S + SETTLE_S + 1)
        it.workers[0].die()
        await anyio.sleep(OPEN_S)
        assert (manager.state, manager.status().worker_pid) == (State.HOST, 1001)
        await anyio.sleep(60)
        assert manager.state is State.UNLOADED
        assert not any(worker.alive for worker in it.workers)


async def test_a_successor_that_dies_in_its_sleep_is_replaced_by_a_load() -> None:
    it = house()
    async with it.open() as manager:
        await it.read()
        await anyio.sleep(SUCCEEDED_S)
        it.workers[1].die()
        assert manager.state is State.UNLOADED
        began = anyio.current_time()
        assert await it.read() == "by 1002"
        assert anyio.current_time() - began == pytest.approx(LOAD_S + READ_S)


async def test_a_worker_that_dies_over_a_page_has_its_waiting_successor_read_it_again() -> None:
    it = house()
    async with it.open():
        await it.read()
        await anyio.sleep(OFFLOAD_S + SETTLE_S + 1)
        async with it.manager.lease():
            await it.read()
            await anyio.sleep(OPEN_S)  # the successor is ready, and not needed
            it.failures.append(WorkerDied(-9, ""))
            began = anyio.current_time()
            assert await it.read() == "by 1001"
            assert anyio.current_time() - began == pytest.approx(RESTORE_S + READ_S)


async def test_a_successor_that_cannot_be_started_leaves_the_parked_worker() -> None:
    it = house()
    async with it.open() as manager:
        await it.read()
        it.spawn_error = OSError("no more processes")
        moved = await manager.offload()
        assert (manager.state, held(it)) == (State.HOST, {1000: CONTEXT_MB})
        assert "gpu_release gives it back" in moved.message
        assert "no more processes" in manager.status().last_error
        it.spawn_error = None
        moved = await manager.offload()
        assert (held(it), moved.freed_mb) == ({}, CONTEXT_MB)


async def test_closing_while_a_successor_opens_leaves_no_worker() -> None:
    it = house()
    async with it.open():
        await it.read()
        await anyio.sleep(OFFLOAD_S + SETTLE_S + 1)
        assert len(it.workers) == 2


# -- which card


async def test_a_restore_counts_the_memory_of_our_own_context_as_ours() -> None:
    it = house(cards=[9_300], ocr_park="resident", ocr_gpu_reserve_mb=1_024)  # 8000 and the reserve are 9024
    async with it.open() as manager:
        for _ in range(3):
            assert await it.read() == "by 1000"
            await anyio.sleep(OFFLOAD_S + 1)
            assert (manager.state, it.nvml.devices[0].free_mb) == (State.HOST, 9_300 - CONTEXT_MB)


async def test_our_own_context_counts_as_ours_where_nvml_hides_processes() -> None:
    it = house(cards=[9_300], ocr_park="resident")
    it.nvml.failing["nvmlDeviceGetComputeRunningProcesses"] = it.nvml.NVML_ERROR_NOT_SUPPORTED
    async with it.open():
        await it.read()
        await anyio.sleep(OFFLOAD_S + 1)
        assert await it.read() == "by 1000"
        await anyio.sleep(OFFLOAD_S + 1)
        it.nvml.devices[0].take(pid=1, mb=800)  # more than the context: a stranger's memory stays a stranger's
        with pytest.raises(GpuBusy):
            await it.read()


async def test_what_was_opened_goes_to_the_card_that_has_most_room_now() -> None:
    it = house(cards=[20_000, 15_000])
    first, second = it.nvml.devices
    async with it.open() as manager:
        await it.read()
        await anyio.sleep(SUCCEEDED_S)
        first.take(pid=1, mb=19_000)
        assert await it.read() == "by 1001"
        assert manager.device == second.uuid


async def test_a_parked_worker_whose_card_filled_up_is_ended_and_its_ready_successor_moves() -> None:
    it = house(cards=[20_000, 15_000])
    first, second = it.nvml.devices
    async with it.open() as manager:
        await it.read()
        await anyio.sleep(OFFLOAD_S + SETTLE_S + 1)
        async with manager.lease():
            await it.read()
            await anyio.sleep(OPEN_S)
        await anyio.sleep(1)
        assert held(it) == {}
        first.take(pid=1, mb=19_000)
        assert await it.read() == "by 1001"
        assert second.processes == {1001: CONTEXT_MB + WEIGHTS_MB}


# -- before the first call


async def test_prewarming_to_host_maps_the_weights_and_touches_no_card() -> None:
    it = house(ocr_prewarm="host")
    async with it.open() as manager:
        await anyio.sleep(PREWARM_S + OPEN_S + 1)
        assert it.workers[0].calls == ["prewarm", "open"]
        assert (manager.state, manager.device, held(it)) == (State.HOST, "none", {})
        began = anyio.current_time()
        assert await it.read() == "by 1000"
        assert anyio.current_time() - began == pytest.approx(RESTORE_S + READ_S)


async def test_where_no_card_can_be_used_nothing_is_fetched_and_nothing_converted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched: list[int] = []

    async def folder(*_: Any) -> None:
        fetched.append(1)

    it = house(ocr_prewarm="host")
    it.nvml.devices[0].compute_mode = 2
    monkeypatch.setattr(it.manager._weights, "folder", folder)
    async with it.open() as manager:
        await anyio.sleep(PREWARM_S + OPEN_S + 1)
        assert [worker.calls for worker in it.workers] == [["prewarm"]]
        assert "compute mode Prohibited" in manager.status().last_error
        with pytest.raises(EngineUnavailable, match="Prohibited"):
            await it.read()
        assert not fetched
        it.nvml.devices[0].compute_mode = 0
        await it.read()
        assert fetched == [1]


async def test_a_card_that_is_full_for_now_keeps_no_weights_from_being_mapped() -> None:
    it = house(ocr_prewarm="host")
    it.nvml.devices[0].free_mb = 100
    async with it.open() as manager:
        await anyio.sleep(PREWARM_S + OPEN_S + 1)
        assert it.workers[0].calls == ["prewarm", "open"]
        assert manager.state is State.HOST


# -- a worker that is to be replaced


async def test_a_spoiled_worker_answers_and_is_replaced_by_one_that_records_no_steps() -> None:
    it = house(gpu_offload_after=-1)
    async with it.open() as manager:
        await it.read()
        assert "OCR_RECORD_STEPS" not in it.workers[0].environment
        it.workers[0].spoiled = "operation not permitted when stream is capturing"
        assert await it.read() == "by 1000"
        assert (manager.state, it.workers[0].alive) == (State.UNLOADED, False)
        assert await it.read() == "by 1001"
        assert it.workers[1].environment["OCR_RECORD_STEPS"] == "off"
        assert manager.status().worker_restarts == 0

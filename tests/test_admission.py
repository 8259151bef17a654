"""The line: nobody takes all places, whoever comes too many is told when to come again, and positions are true."""

from __future__ import annotations

from contextlib import ExitStack

import anyio
import pytest

from deepseek_ocr_mcp.errors import QueueFull, from_dict
from deepseek_ocr_mcp.service.admission import Admission, Place


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def lined_up(line: Admission, stack: ExitStack, client: str) -> Place:
    place = stack.enter_context(line.place(client))
    place.line_up()
    return place


def test_a_line_takes_as_many_as_it_says_and_a_client_half_of_them() -> None:
    line = Admission(6, Clock())
    with ExitStack() as stack:
        for client in ("a", "a", "a", "b", "b"):
            stack.enter_context(line.place(client))
        with pytest.raises(QueueFull, match="3 of your requests"), line.place("a"):
            pass
        stack.enter_context(line.place("c"))
        with pytest.raises(QueueFull, match="6 requests"), line.place("d"):
            pass
        assert line.full
    assert len(line) == 0
    with line.place("a"):
        assert repr(line) == "<Admission 1 of 6>"


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_however_short_the_line_a_client_may_have_one_place(limit: int) -> None:
    line = Admission(limit, Clock())
    with line.place("a"), pytest.raises(QueueFull), line.place("a"):
        pass


def test_the_time_to_come_again_follows_the_pace_of_the_last_requests() -> None:
    clock = Clock()
    line = Admission(2, clock)

    def told() -> int | None:
        with line.place("a"), line.place("b"):
            clock.now += 0.5
            with pytest.raises(QueueFull) as refused, line.place("c"):
                pass
            assert f"in {refused.value.retry_after_s} s" in refused.value.remedy
            return refused.value.retry_after_s

    assert told() == 5  # nothing is known yet
    line = Admission(2, clock)
    for _ in range(30):
        with line.place("a"):
            clock.now += 7.0
    assert told() == 7
    clock.now += 3600  # an hour in which nobody asked says nothing about the pace
    assert told() == 7
    with line.place("a"), line.place("b"):
        clock.now += 1000
        with pytest.raises(QueueFull) as refused, line.place("c"):
            pass
        assert refused.value.retry_after_s == 120


def test_a_refusal_survives_the_pipe() -> None:
    copy = from_dict(QueueFull("Full.", remedy="Wait.", retry_after_s=9).to_dict())
    assert isinstance(copy, QueueFull)


def test_who_still_sends_its_file_stands_before_nobody() -> None:
    line = Admission(8, Clock())
    with ExitStack() as stack:
        sending = stack.enter_context(line.place("a"))
        second = lined_up(line, stack, "b")
        assert (sending.ahead, second.ahead) == (0, 0)
        third = lined_up(line, stack, "c")
        sending.line_up()
        assert (second.ahead, third.ahead, sending.ahead) == (0, 1, 2)


def test_who_is_read_has_nobody_before_it_though_others_came_first() -> None:
    line = Admission(8, Clock())
    with ExitStack() as stack:
        lined_up(line, stack, "a")
        second = lined_up(line, stack, "b")
        assert second.ahead == 1
        second.begin()
        assert second.ahead == 0


@pytest.mark.anyio
async def test_positions_are_told_as_they_change_and_end_with_the_turn() -> None:
    line = Admission(8)
    told: list[int] = []
    with ExitStack() as stack:
        first, second = ExitStack(), ExitStack()
        lined_up(line, first, "a")
        lined_up(line, second, "b")
        mine = lined_up(line, stack, "c")

        async def listen() -> None:
            async for position in mine.positions():
                told.append(position)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen)
                await anyio.wait_all_tasks_blocked()
                assert told == [2]
                second.close()
                await anyio.wait_all_tasks_blocked()
                lined_up(line, stack, "d")  # behind: nothing to tell
                await anyio.wait_all_tasks_blocked()
                assert told == [2, 1]
                first.close()
    assert told == [2, 1, 0]

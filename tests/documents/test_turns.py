"""Who gets the decoder next."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from deepseek_ocr_mcp.documents.turns import Turns

pytestmark = pytest.mark.anyio


async def in_order(*clients: str, cancelled: int | None = None) -> list[str]:
    """The order in which these calls, which come one after the other while the first one runs, get their turn."""
    turns, served = Turns(), []
    scopes = [anyio.CancelScope() for _ in clients]

    async def call(number: int, client: str) -> None:
        with scopes[number]:
            async with turns.turn(client):
                served.append(f"{client}{number}")
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for number, client in enumerate(clients):
            tasks.start_soon(call, number, client)
        await anyio.lowlevel.checkpoint()
        if cancelled is not None:
            scopes[cancelled].cancel()
    assert repr(turns) == "<Turns 1 free, 0 of 0 clients wait>"
    return served


async def test_a_client_with_one_call_does_not_wait_for_all_calls_of_another() -> None:
    assert await in_order("a", "a", "a", "a", "b") == ["a0", "a1", "b4", "a2", "a3"]


async def test_clients_take_turns_and_calls_of_one_are_served_in_order() -> None:
    assert await in_order("a", "a", "a", "b", "b", "c") == ["a0", "a1", "b3", "c5", "a2", "b4"]


async def test_who_goes_away_while_it_waits_holds_nobody_up() -> None:
    assert await in_order("a", "a", "b", cancelled=1) == ["a0", "b2"]


async def test_who_is_given_the_turn_and_cancelled_at_once_passes_it_on() -> None:
    turns, served = Turns(), []

    async def call(name: str) -> None:
        async with turns.turn(name):
            served.append(name)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            async with turns.turn("first"):
                scope = anyio.CancelScope()

                async def doomed() -> None:
                    with scope:
                        await call("doomed")

                tasks.start_soon(doomed)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(call, "next")
                await anyio.wait_all_tasks_blocked()
            scope.cancel()  # its turn has come, and it has not run yet
    assert served[-1] == "next"

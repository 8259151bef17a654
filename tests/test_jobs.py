"""What an ask is told on the way."""

from __future__ import annotations

import anyio
import pytest

from deepseek_ocr_mcp.models import Page
from deepseek_ocr_mcp.service.jobs import Ask, ReadPage

pytestmark = pytest.mark.anyio


def read(number: int) -> ReadPage:
    return ReadPage(Page(page=number, width=8, height=8, text="text"), "engine", "model", "cpu")


async def test_an_answer_that_is_there_before_anything_was_told_comes_without_progress() -> None:
    told: list[float] = []

    async def note(done: float, message: str) -> None:
        told.append(done)

    ask = Ask([1])
    ask.tell(0.5, "page 1 of 1")
    ask.give(read(1))
    ask.tell(0, "page 1 of 1 read")
    with anyio.fail_after(5):
        await ask.follow(note)
    assert told == []


async def test_whoever_was_told_anything_is_told_the_end_too() -> None:
    told: list[float] = []

    async def note(done: float, message: str) -> None:
        told.append(done)
        if done == 0.5:
            for number in (1, 2):
                ask.give(read(number))
                ask.tell(0, f"page {number} of 2 read")

    ask = Ask([1, 2])
    ask.tell(0.5, "page 1 of 2")
    with anyio.fail_after(5):
        await ask.follow(note)
    assert told == [0.5, 1, 2]

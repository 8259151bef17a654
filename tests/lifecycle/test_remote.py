"""The remote manager on virtual time, with endpoints that are plain objects."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.engines import KNOWN
from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
from deepseek_ocr_mcp.errors import Busy, Cancelled, EngineUnavailable, InputTooLarge, OcrError, Timeout
from deepseek_ocr_mcp.lifecycle.remote.manager import MAX_LOST, PATIENCE_S, RemoteManager
from deepseek_ocr_mcp.lifecycle.remote.trouble import Broken, Down, EncodedPage, Facts, OnText, Overloaded, Trouble
from deepseek_ocr_mcp.models import Endpoint, State

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("virtual_time")]

READ_S, WAKE_S, RELOAD_S, SLEEP_S = 5.0, 2.0, 20.0, 1.0
FREE = ReadOptions("free")
QUIET = {"gpu_offload_after": -1, "gpu_idle_timeout": -1}


def unavailable(what: str) -> EngineUnavailable:
    return EngineUnavailable(f"It {what}.", remedy="Mend it.")


def refused(retry_after_s: float | None = None) -> Overloaded:
    return Overloaded("HTTP 503", unavailable("takes no more"), retry_after_s)


def unreachable() -> Down:
    return Down("it cannot be reached", unavailable("cannot be reached"), sent=False)


def lost() -> Down:
    return Down("the connection was lost", unavailable("closed the connection"))


def broken() -> Broken:
    return Broken("HTTP 500", unavailable("failed"))


class FakeEndpoint:
    """Takes its time by the clock of the test."""

    def __init__(
        self, name: str = "a", *, sleeping: bool | None = None, seconds: float = READ_S, slots: int = 10**6
    ) -> None:
        self.url = f"http://{name}/v1"
        self.slots = anyio.Semaphore(slots)
        """Pages that it reads side by side; more of them wait there without a word."""
        self.prefill_s = 0.0
        """Until the first byte of an answer, beside the wait."""
        self.facts = Facts("the model", "vllm", True, sleeping)
        self.seconds = seconds
        self.failures: list[OcrError | Trouble | None] = []
        """Of the pages to come; None: none."""
        self.dead = False
        self.look_error: Trouble | None = None
        self.looks: list[float] = []
        self.sent: list[tuple[float, str]] = []
        """When each page was sent."""
        self.read_pages: list[str] = []
        self.running = 0
        self.most_running = 0
        self.room = 10**6
        self.moves: list[str] = []
        self.wake_error: Trouble | None = None
        self.sleep_error: Trouble | None = None
        self.of_others = 0
        self.closed = False

    async def look(self) -> Facts:
        self.looks.append(anyio.current_time())
        await anyio.sleep(0.01)
        if self.dead:
            raise unreachable()
        if self.look_error is not None:
            raise self.look_error
        return self.facts

    async def read(
        self, facts: Facts, page: PageImage, options: ReadOptions, picture: EncodedPage, tell: OnText
    ) -> dict[str, Any]:
        assert not self.facts.sleeping, "a page was sent to an endpoint that sleeps"
        self.sent.append((anyio.current_time(), picture.path))
        if self.dead:
            raise unreachable()
        if self.running >= self.room:
            raise refused()
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, Overloaded):
            raise failure
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            async with self.slots:
                await anyio.sleep(self.prefill_s)
                tell(0.5, "half")
                await anyio.sleep(self.seconds)
        finally:
            self.running -= 1
        if self.dead:
            raise lost()
        if failure is not None:
            raise failure
        self.read_pages.append(picture.path)
        return {"text": picture.path, "finish": "stop", "tokens": 7}

    async def sleep(self, level: int) -> None:
        assert not self.running, "it was sent to sleep while it read"
        self.moves.append(f"sleep {level}")
        await anyio.sleep(SLEEP_S)
        if self.sleep_error is not None:
            raise self.sleep_error
        self.facts = replace(self.facts, sleeping=True, level=level)

    async def wake(self, level: int | None, timeout: float) -> None:
        assert self.facts.sleeping
        self.moves.append(f"wake {level}")
        await anyio.sleep(WAKE_S if level == 1 else RELOAD_S)
        if self.wake_error is not None:
            raise self.wake_error
        self.facts = replace(self.facts, sleeping=False, level=None)

    async def others(self) -> int:
        return self.of_others

    async def close(self) -> None:
        self.closed = True


class House:
    """A manager and its endpoints."""

    def __init__(self, *endpoints: FakeEndpoint, knows_all: bool = True, **settings: Any) -> None:
        """`knows_all`: endpoints are given all pages from the start, as if it had learned that they take them."""
        self.endpoints = endpoints or (FakeEndpoint(),)
        self.encoded: list[tuple[str, int]] = []
        self.manager = RemoteManager(
            KNOWN["openai"],
            Settings(**{**QUIET, **settings}),
            encode=self.encode,
            endpoints=self.endpoints,
            chance=lambda: 0.5,
        )
        if knows_all:
            for endpoint in self.manager._endpoints:
                endpoint.room._size = float(endpoint.room._most)

    async def encode(self, image: PageImage, side: int) -> tuple[str, str]:
        await anyio.lowlevel.checkpoint()
        self.encoded.append((image.path, side))
        return image.path, "image/png"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[RemoteManager]:
        with anyio.fail_after(1_000_000):
            async with self.manager.running():
                yield self.manager
        assert all(endpoint.closed for endpoint in self.endpoints)

    async def read(self, name: str = "/page", *, options: ReadOptions = FREE, **how: Any) -> str:
        async with self.manager.lease():
            reading = await self.manager.read([PageImage(name, 10, 10)], options, **how)
        (page,) = reading.pages
        return str(page["text"])

    async def read_all(self, count: int) -> dict[str, str | OcrError]:
        """Many pages at once: what became of each."""
        came: dict[str, str | OcrError] = {}

        async def one(name: str) -> None:
            assert name not in came
            try:
                came[name] = await self.read(name)
            except OcrError as exc:
                came[name] = exc

        async with anyio.create_task_group() as tasks:
            for number in range(count):
                tasks.start_soon(one, f"/page {number}")
        return came

    def status(self, number: int = 0) -> Endpoint:
        endpoints = self.manager.status().endpoints
        assert endpoints is not None
        return endpoints[number]


# -- pages


async def test_a_page_is_read_and_its_answer_says_where() -> None:
    house = House()
    async with house.open() as manager, manager.lease():
        reading = await manager.read([PageImage("/page", 10, 10)], FREE)
    assert [page["text"] for page in reading.pages] == ["/page"]
    assert (reading.model, reading.device, reading.engine) == ("the model", "http://a/v1", "openai")
    assert reading.infer_s == READ_S


async def test_several_pages_of_one_call_come_back_in_order() -> None:
    house = House(FakeEndpoint("a"), FakeEndpoint("b", seconds=1))
    async with house.open() as manager, manager.lease():
        reading = await manager.read([PageImage(f"/{n}", 1, 1) for n in range(9)], FREE)
    assert [page["text"] for page in reading.pages] == [f"/{n}" for n in range(9)]


async def test_a_page_is_sent_as_large_as_its_resolution_says_and_no_larger_than_any_model_looks_at() -> None:
    house = House()
    async with house.open():
        await house.read(options=ReadOptions("free", resolution="small"))
        await house.read(options=ReadOptions("free", resolution="auto"))
    assert [side for _, side in house.encoded] == [640, 3072]


async def test_no_lock_as_many_pages_are_under_way_as_there_are_places() -> None:
    house = House(ocr_remote_concurrency=8)
    async with house.open() as manager:
        began = anyio.current_time()
        assert len(await house.read_all(24)) == 24
        assert anyio.current_time() - began == pytest.approx(3 * READ_S, abs=0.1)
        assert manager.lanes == 8
    assert house.endpoints[0].most_running == 8


async def test_pages_go_where_least_is_under_way() -> None:
    fast, slow = FakeEndpoint("fast", seconds=1), FakeEndpoint("slow", seconds=10)
    house = House(fast, slow, ocr_remote_concurrency=4)
    async with house.open() as manager:
        assert manager.lanes == 8
        came = await house.read_all(40)
    assert all(text == name for name, text in came.items())
    assert len(fast.read_pages) + len(slow.read_pages) == 40
    assert len(fast.read_pages) > 6 * len(slow.read_pages)


async def test_clients_take_turns_however_many_pages_one_of_them_has() -> None:
    house = House(ocr_remote_concurrency=1)
    order: list[str] = []

    async def read(name: str, client: str) -> None:
        await house.read(name, client=client)
        order.append(name)

    async with house.open(), anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(read, f"/many {number}", "many")
        await anyio.sleep(0.1)
        tasks.start_soon(read, "/one", "one")
    assert order.index("/one") <= 1


async def test_progress_is_told_while_an_answer_comes() -> None:
    told: list[tuple[float, str]] = []

    async def on_progress(done: float, message: str) -> None:
        told.append((done, message))

    house = House()
    async with house.open():
        await house.read(on_progress=on_progress)
    assert told == [(0.5, "half")]


async def test_a_caller_that_goes_away_breaks_its_answer_off_and_no_other() -> None:
    house = House()
    async with house.open(), anyio.create_task_group() as tasks:
        tasks.start_soon(house.read, "/stays")
        with anyio.move_on_after(1):
            await house.read("/leaves")
        await anyio.sleep(0.1)
        assert house.endpoints[0].running == 1
    assert house.endpoints[0].read_pages == ["/stays"]


async def test_the_end_of_the_server_ends_every_page_with_an_error() -> None:
    house = House(ocr_remote_concurrency=1)
    errors: list[str] = []

    async def read(name: str) -> None:
        try:
            await house.read(name)
        except Cancelled as exc:
            errors.append(exc.code)

    async with anyio.create_task_group() as tasks, house.open():
        for number in range(3):
            tasks.start_soon(read, f"/{number}")
        await anyio.sleep(1)
    assert errors == ["cancelled"] * 3


async def test_the_file_of_a_page_is_deleted_as_soon_as_there_is_one_to_send(tmp_path: Path) -> None:
    house = House()
    raw = tmp_path / "page"
    raw.write_bytes(b"pixels")
    seen: list[list[str]] = []

    async def encode(image: PageImage, side: int) -> tuple[str, str]:
        (tmp_path / "page-sent").write_bytes(b"png")
        return str(tmp_path / "page-sent"), "image/png"

    async def look() -> None:
        await anyio.sleep(1)
        seen.append(os.listdir(tmp_path))

    house.manager._encode = encode
    async with house.open(), anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await house.read(str(raw))
    assert seen == [["page-sent"]]
    assert os.listdir(tmp_path) == []


# -- "not now"


async def test_an_endpoint_that_says_for_how_long_is_left_alone_for_so_long() -> None:
    house = House()
    (endpoint,) = house.endpoints
    endpoint.failures = [refused(retry_after_s=40)]
    async with house.open():
        assert await house.read() == "/page"
        assert house.status().failures == 1
    first, second = (when for when, _ in endpoint.sent)
    assert 40 <= second - first <= 45


async def test_while_one_rests_its_pages_go_to_others_at_once() -> None:
    resting, other = FakeEndpoint("resting"), FakeEndpoint("other")
    resting.failures = [refused(retry_after_s=100)]
    house = House(resting, other)
    async with house.open():
        began = anyio.current_time()
        assert await house.read() == "/page"
        assert anyio.current_time() - began < READ_S + 1
        assert [house.status(n).state for n in (0, 1)] == ["resting", "ready"]
        await house.read()
    assert (len(resting.sent), len(other.sent)) == (1, 2)


async def test_one_that_does_not_say_is_left_alone_for_ever_longer() -> None:
    house = House()
    (endpoint,) = house.endpoints
    endpoint.failures = [refused() for _ in range(8)]
    async with house.open():
        await house.read()
    times = [when for when, _ in endpoint.sent]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30], rel=0.1)


async def test_the_pause_is_by_chance_a_little_more_or_less() -> None:
    waits = []
    for chance in (0.0, 0.999):
        house = House()
        house.manager._chance = lambda chance=chance: chance
        house.endpoints[0].failures = [refused()]
        async with house.open():
            await house.read()
        first, second = (when for when, _ in house.endpoints[0].sent)
        waits.append(second - first)
    assert waits == pytest.approx([0.25, 0.75], rel=0.1)


async def test_an_endpoint_with_less_room_than_we_thought_is_sent_less_and_loses_no_page() -> None:
    house = House()
    (endpoint,) = house.endpoints
    endpoint.room = 5
    async with house.open():
        came = await house.read_all(60)
    assert all(text == name for name, text in came.items())
    assert len(came) == 60
    assert Counter(endpoint.read_pages).most_common(1)[0][1] == 1
    assert len(endpoint.sent) < 4 * 60


async def test_a_page_that_is_always_refused_ends_when_its_wait_is_over() -> None:
    house = House(ocr_remote_queue_timeout=100)
    house.endpoints[0].failures = [refused() for _ in range(1000)]
    async with house.open():
        began = anyio.current_time()
        with pytest.raises(Timeout, match=r"waited 100 s.*takes no more"):
            await house.read()
        assert anyio.current_time() - began == pytest.approx(100, abs=1)
        house.endpoints[0].failures = []
        assert await house.read() == "/page"


async def test_a_page_that_hangs_ends_when_its_time_is_over_and_holds_no_place() -> None:
    house = House(FakeEndpoint(seconds=10**6), ocr_page_timeout=100, ocr_remote_concurrency=1)
    async with house.open():
        with pytest.raises(Timeout):
            await house.read()
        house.endpoints[0].seconds = 1
        assert await house.read() == "/page"
        assert house.status().last_error == "a page took too long"


# -- the clock of a page


async def test_the_time_of_a_page_counts_from_the_first_byte_so_one_slot_fails_no_long_document() -> None:
    slow = FakeEndpoint(seconds=80, slots=1)
    slow.prefill_s = 30
    house = House(slow, ocr_page_timeout=100, ocr_remote_queue_timeout=10_000, ocr_remote_concurrency=32)
    async with house.open():
        came = await house.read_all(40)
    assert all(text == name for name, text in came.items())
    assert slow.most_running == 32


async def test_a_page_whose_answer_does_not_begin_is_given_up_by_a_bound_of_its_own() -> None:
    busy = FakeEndpoint(slots=1)
    house = House(busy, ocr_page_timeout=1000, ocr_remote_queue_timeout=60)
    async with busy.slots, house.open():
        began = anyio.current_time()
        with pytest.raises(Timeout, match=r"waited 60 s at http://a/v1 and its answer did not begin") as error:
            await house.read()
        assert anyio.current_time() - began == pytest.approx(60, abs=1)
    assert "OCR_REMOTE_QUEUE_TIMEOUT" in error.value.remedy


async def test_the_time_of_an_answer_is_for_all_attempts_together() -> None:
    house = House(FakeEndpoint(seconds=40), ocr_page_timeout=100)
    house.endpoints[0].failures = [broken(), broken()]
    async with house.open():
        began = anyio.current_time()
        with pytest.raises(Timeout, match="within 100 s of the first byte"):
            await house.read()
        assert anyio.current_time() - began == pytest.approx(100, abs=1)


# -- how many pages an endpoint takes


async def test_an_endpoint_begins_with_two_pages_and_is_soon_given_all_that_it_takes() -> None:
    house = House(FakeEndpoint(seconds=5), knows_all=False)
    async with house.open():
        began = anyio.current_time()
        await house.read_all(400)
        seconds = anyio.current_time() - began
    assert house.endpoints[0].most_running == 32
    assert seconds < 1.5 * 400 / 32 * 5, "it learned too slowly"


@pytest.mark.parametrize("slots", [1, 4])
async def test_the_queue_of_an_endpoint_stays_short_and_its_slots_full(slots: int) -> None:
    endpoint = FakeEndpoint(seconds=20, slots=slots)
    endpoint.prefill_s = 3
    house = House(endpoint, knows_all=False)
    async with house.open():
        began = anyio.current_time()
        came = await house.read_all(60)
        seconds = anyio.current_time() - began
    assert all(text == name for name, text in came.items())
    # Tasks take turns by chance. Of 1,500 runs with four slots, 1,415 took 1.07 of the shortest time and 85 took 1.2;
    # 11 pages were there at most, and 3 with one slot.
    assert slots <= endpoint.most_running <= 3 * slots
    assert seconds < 1.35 * 60 / slots * 23, "its slots stood empty"


async def test_a_time_out_halves_what_an_endpoint_is_given() -> None:
    endpoint = FakeEndpoint(slots=1, seconds=50)
    house = House(endpoint, ocr_remote_concurrency=8, ocr_remote_queue_timeout=120)
    async with house.open():
        came = await house.read_all(8)
        assert sum(isinstance(answer, Timeout) for answer in came.values()) == 5
        assert house.manager._endpoints[0].room.places <= 2
        assert all(text == name for name, text in (await house.read_all(12)).items())


# -- endpoints that die


async def test_a_dead_endpoint_is_taken_out_and_its_pages_are_read_by_the_others() -> None:
    dying, other = FakeEndpoint("dying"), FakeEndpoint("other")
    house = House(dying, other, ocr_remote_concurrency=4)

    async def die() -> None:
        await anyio.sleep(READ_S / 2)
        dying.dead = True

    async with house.open(), anyio.create_task_group() as tasks:
        tasks.start_soon(die)
        came = await house.read_all(20)
        assert house.status(0).state == "out"
        assert house.status(0).next_check_s is not None
    assert all(text == name for name, text in came.items())
    assert len(came) == 20
    assert Counter(dying.read_pages + other.read_pages) == Counter(list(came))


async def test_a_dead_endpoint_is_looked_at_ever_more_seldom_and_is_back_when_it_answers() -> None:
    house = House(FakeEndpoint("a"), FakeEndpoint("b"))
    (first, second) = house.endpoints
    async with house.open():
        await house.read()
        first.dead = True
        first.looks.clear()
        await house.read()
        assert house.status(0).state == "out"
        await anyio.sleep(300)
        waits = [later - earlier for earlier, later in pairwise(first.looks)]
        assert waits[:4] == pytest.approx([2, 4, 8, 16], rel=0.1)
        assert waits[4:] == pytest.approx([30] * len(waits[4:]), rel=0.1)
        first.dead = False
        await anyio.sleep(40)
        assert house.status(0).state == "ready"
        second.dead = True
        assert await house.read() == "/page"


async def test_a_short_death_of_the_only_endpoint_is_ridden_out() -> None:
    house = House()
    (endpoint,) = house.endpoints

    async def restart() -> None:
        await anyio.sleep(READ_S / 2)
        endpoint.dead = True
        await anyio.sleep(PATIENCE_S * 0.6)
        endpoint.dead = False

    async with house.open(), anyio.create_task_group() as tasks:
        tasks.start_soon(restart)
        came = await house.read_all(10)
    assert all(text == name for name, text in came.items())


async def test_a_long_death_of_all_endpoints_is_told_after_a_bounded_wait() -> None:
    house = House(FakeEndpoint("a"), FakeEndpoint("b"))
    async with house.open() as manager:
        await house.read()
        for endpoint in house.endpoints:
            endpoint.dead = True
        began = anyio.current_time()
        with pytest.raises(EngineUnavailable, match="None of the 2 endpoints can read"):
            await house.read()
        assert anyio.current_time() - began <= PATIENCE_S + 5
        began = anyio.current_time()
        with pytest.raises(EngineUnavailable):
            await house.read()  # it is known by now
        assert anyio.current_time() - began < 1
        assert manager.state is State.UNLOADED


async def test_an_endpoint_that_was_never_there_is_told_at_once() -> None:
    house = House()
    house.endpoints[0].dead = True
    async with house.open():
        await anyio.sleep(100)
        began = anyio.current_time()
        with pytest.raises(EngineUnavailable, match="cannot be reached"):
            await house.read()
        assert anyio.current_time() - began < 2


async def test_a_page_that_comes_when_an_endpoint_is_back_does_not_wait_for_its_next_check() -> None:
    house = House()
    (endpoint,) = house.endpoints
    endpoint.dead = True
    async with house.open():
        await anyio.sleep(300)
        endpoint.dead = False
        began = anyio.current_time()
        assert await house.read() == "/page"
        assert anyio.current_time() - began < READ_S + 1


async def test_what_has_to_be_mended_is_told_at_once_unless_another_endpoint_can_read() -> None:
    wrong, right = FakeEndpoint("wrong"), FakeEndpoint("right")
    refusal = Down("HTTP 401", unavailable("does not take the key"), hopeless=True)
    wrong.failures = [refusal]
    house = House(wrong, right)
    async with house.open():
        assert await house.read() == "/page"
        assert house.status(0).state == "out"
    wrong.failures = [refusal]
    house = House(wrong)
    async with house.open():
        began = anyio.current_time()
        with pytest.raises(EngineUnavailable, match="does not take the key"):
            await house.read()
        assert anyio.current_time() - began < READ_S + 1


async def test_a_page_that_breaks_every_answer_is_given_up_and_the_rest_is_read() -> None:
    a, b = FakeEndpoint("a"), FakeEndpoint("b")
    house = House(a, b)
    poison = broken()

    async def read(facts: Facts, page: PageImage, options: ReadOptions, picture: EncodedPage, tell: OnText) -> Any:
        if picture.path == "/page 3":
            raise poison
        return {"text": picture.path, "finish": "stop", "tokens": 1}

    a.read = b.read = read  # type: ignore[method-assign]
    async with house.open():
        came = await house.read_all(10)
    error = came.pop("/page 3")
    assert isinstance(error, EngineUnavailable)
    assert f"{MAX_LOST} attempts" in error.message
    assert all(text == name for name, text in came.items())


async def test_an_error_about_the_page_is_told_and_not_tried_again() -> None:
    house = House()
    house.endpoints[0].failures = [InputTooLarge("Too large.", remedy="Send less.")]
    async with house.open():
        with pytest.raises(InputTooLarge):
            await house.read()
        assert house.status().state == "ready"
    assert len(house.endpoints[0].sent) == 1


async def test_an_unforeseen_failure_is_an_error_and_the_next_page_is_read(caplog: Any) -> None:
    house = House()
    house.endpoints[0].failures = [ZeroDivisionError()]  # type: ignore[list-item]
    async with house.open():
        with pytest.raises(OcrError, match="ZeroDivisionError"):
            await house.read()
        assert await house.read() == "/page"
    assert "A page failed in a way that this program does not foresee." in caplog.text


async def test_an_endpoint_that_does_nothing_is_looked_at_once_a_minute() -> None:
    house = House()
    async with house.open():
        await anyio.sleep(600)
        assert 9 <= len(house.endpoints[0].looks) <= 11
        house.endpoints[0].dead = True
        await anyio.sleep(70)
        assert house.status().state == "out"


async def test_an_endpoint_that_cannot_be_asked_at_the_start_is_used_when_it_can() -> None:
    house = House()
    house.endpoints[0].look_error = refused()
    async with house.open():
        await anyio.sleep(10)
        assert house.status().state == "out"
        house.endpoints[0].look_error = None
        assert await house.read() == "/page"


# -- sleep


def sleeper(name: str = "a", **more: Any) -> FakeEndpoint:
    return FakeEndpoint(name, sleeping=False, **more)


async def test_an_idle_endpoint_sleeps_and_is_woken_before_the_next_page() -> None:
    house = House(sleeper(), gpu_offload_after=10)
    (endpoint,) = house.endpoints
    async with house.open() as manager:
        await house.read()
        await anyio.sleep(9)
        assert manager.state is State.GPU
        await anyio.sleep(3)
        assert (manager.state, endpoint.moves) == (State.HOST, ["sleep 1"])
        assert house.status().state == "asleep"
        async with manager.lease():
            reading = await manager.read([PageImage("/page", 1, 1)], FREE)
        assert reading.load_s == pytest.approx(WAKE_S, abs=0.1)
        assert endpoint.moves == ["sleep 1", "wake 1"]


async def test_level_two_is_woken_by_loading_the_weights_anew() -> None:
    house = House(sleeper(), gpu_idle_timeout=10)
    (endpoint,) = house.endpoints
    async with house.open() as manager:
        await house.read()
        await anyio.sleep(15)
        assert (manager.state, endpoint.moves) == (State.UNLOADED, ["sleep 2"])
        await house.read()
        assert endpoint.moves == ["sleep 2", "wake 2"]


async def test_by_default_it_sleeps_as_soon_as_nobody_waits_and_stays_at_level_one() -> None:
    house = House(sleeper(), gpu_offload_after=0, gpu_idle_timeout=60)
    (endpoint,) = house.endpoints
    async with house.open() as manager:
        await house.read_all(5)
        await anyio.sleep(1000)
        assert (manager.state, endpoint.moves) == (State.HOST, ["sleep 1"])


async def test_an_endpoint_in_use_is_never_idle() -> None:
    house = House(sleeper(), gpu_offload_after=1)
    async with house.open() as manager, manager.lease():
        for _ in range(10):
            await manager.read([PageImage("/page", 1, 1)], FREE)
            await anyio.sleep(100)
        assert house.endpoints[0].moves == []


async def test_a_request_that_comes_at_the_last_moment_keeps_it_awake() -> None:
    house = House(sleeper(), gpu_offload_after=10)
    (endpoint,) = house.endpoints

    async def others() -> int:
        await anyio.sleep(1)
        return 0

    endpoint.others = others  # type: ignore[method-assign]
    async with house.open():
        await house.read()
        await anyio.sleep(10.5)
        assert await house.read() == "/page"
        assert endpoint.moves == []


async def test_one_that_works_for_others_is_not_sent_to_sleep_before_they_are_done() -> None:
    house = House(sleeper(), gpu_offload_after=10)
    (endpoint,) = house.endpoints
    endpoint.of_others = 3
    async with house.open() as manager:
        await house.read()
        await anyio.sleep(200)
        assert endpoint.moves == []
        with pytest.raises(Busy, match="3 requests of others"):
            await manager.offload()
        endpoint.of_others = 0
        await anyio.sleep(40)
        assert endpoint.moves == ["sleep 1"]


async def test_an_endpoint_without_sleep_mode_says_so_and_is_left_as_it_is() -> None:
    house = House(gpu_offload_after=0, gpu_idle_timeout=0)
    async with house.open() as manager:
        await house.read()
        await anyio.sleep(100)
        for move in (manager.offload, manager.release):
            moved = await move()
            assert (moved.from_state, moved.to_state) == (State.GPU, State.GPU)
            assert "http://a/v1 has no sleep mode" in moved.message
        status = manager.status()
        assert (status.offload_in_s, status.release_in_s) == (None, None)
    assert house.endpoints[0].moves == []


async def test_offload_and_release_wait_for_the_pages_under_way() -> None:
    house = House(sleeper())
    async with house.open() as manager, anyio.create_task_group() as tasks:
        tasks.start_soon(house.read)
        await anyio.sleep(1)
        moved = await manager.offload()
        assert (moved.from_state, moved.to_state) == (State.GPU, State.HOST)
        assert moved.seconds == pytest.approx(READ_S - 1 + SLEEP_S, abs=0.1)
        assert "host memory" in moved.message
    assert house.endpoints[0].read_pages == ["/page"]


async def test_busy_is_said_after_a_bounded_wait_and_the_page_goes_on() -> None:
    house = House(sleeper(seconds=100), ocr_busy_wait=10)
    async with house.open() as manager, anyio.create_task_group() as tasks:
        tasks.start_soon(house.read)
        await anyio.sleep(1)
        with pytest.raises(Busy, match="reading 1 pages"):
            await manager.release()
        assert house.status().state == "ready"
    assert house.endpoints[0].moves == []
    assert house.endpoints[0].read_pages == ["/page"]


async def test_force_stops_what_is_read_and_its_caller_is_told() -> None:
    house = House(sleeper(seconds=100))
    errors: list[OcrError] = []

    async def read() -> None:
        try:
            await house.read()
        except OcrError as exc:
            errors.append(exc)

    async with house.open() as manager, anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.sleep(1)
        moved = await manager.release(force=True)
        assert (moved.from_state, moved.to_state) == (State.GPU, State.UNLOADED)
        assert moved.seconds < 2
    (error,) = errors
    assert isinstance(error, Cancelled)


async def test_pages_that_come_while_it_goes_to_sleep_wake_it_again() -> None:
    house = House(sleeper())
    async with house.open() as manager, anyio.create_task_group() as tasks:
        await anyio.sleep(1)
        tasks.start_soon(manager.offload)
        await anyio.sleep(SLEEP_S / 2)
        assert await house.read() == "/page"
    assert house.endpoints[0].moves == ["sleep 1", "wake 1"]


async def test_from_level_one_release_goes_by_way_of_the_card_and_again_does_nothing() -> None:
    house = House(sleeper())
    async with house.open() as manager:
        await anyio.sleep(1)
        await manager.offload()
        moved = await manager.release()
        assert (moved.from_state, moved.to_state) == (State.HOST, State.UNLOADED)
        assert "sleeps already" in (await manager.release()).message
        assert "sleeps already" in (await manager.offload()).message
    assert house.endpoints[0].moves == ["sleep 1", "wake 1", "sleep 2"]


async def test_endpoints_that_sleep_are_woken_only_when_those_awake_are_full() -> None:
    awake, asleep = sleeper("awake"), sleeper("asleep")
    asleep.facts = replace(asleep.facts, sleeping=True, level=1)
    house = House(awake, asleep, ocr_remote_concurrency=4)
    async with house.open():
        await house.read_all(4)
        assert asleep.moves == []
        await house.read_all(12)
        assert asleep.moves == ["wake 1"]
    assert asleep.read_pages


async def test_many_pages_wake_an_endpoint_once() -> None:
    house = House(sleeper())
    house.endpoints[0].facts = replace(house.endpoints[0].facts, sleeping=True)
    async with house.open() as manager, anyio.create_task_group() as tasks:
        tasks.start_soon(house.read_all, 20)
        await anyio.sleep(RELOAD_S / 2)
        assert manager.status().state == "loading"
        assert manager.loading_s == pytest.approx(RELOAD_S / 2, abs=0.1)
        assert house.status().state == "loading"
    assert house.endpoints[0].moves == ["wake None"]  # put to sleep by nobody knows whom: read anew
    assert len(house.endpoints[0].read_pages) == 20


async def test_waking_does_not_count_against_the_time_of_a_page() -> None:
    house = House(sleeper(), ocr_page_timeout=READ_S + 1, ocr_remote_queue_timeout=1)
    house.endpoints[0].facts = replace(house.endpoints[0].facts, sleeping=True)
    async with house.open():
        assert await house.read() == "/page"


async def test_a_caller_that_leaves_does_not_break_a_wake_up_off() -> None:
    house = House(sleeper())
    house.endpoints[0].facts = replace(house.endpoints[0].facts, sleeping=True, level=1)
    async with house.open() as manager:
        with anyio.move_on_after(WAKE_S / 2):
            await house.read()
        assert await house.read() == "/page"
        assert manager.state is State.GPU
    assert house.endpoints[0].moves == ["wake 1"]


async def test_the_end_of_the_server_does_not_wait_for_a_wake_up() -> None:
    house = House(sleeper())
    house.endpoints[0].facts = replace(house.endpoints[0].facts, sleeping=True)

    async def read() -> None:
        with pytest.raises(Cancelled):
            await house.read()

    async with anyio.create_task_group() as tasks:
        async with house.open():
            tasks.start_soon(read)
            await anyio.sleep(1)
            began = anyio.current_time()
        assert anyio.current_time() - began < 0.5


async def test_an_endpoint_that_cannot_be_woken_is_given_up_after_a_few_tries() -> None:
    house = House(sleeper())
    (endpoint,) = house.endpoints
    endpoint.facts = replace(endpoint.facts, sleeping=True, level=1)
    endpoint.wake_error = Down("HTTP 500 to /wake_up", unavailable("answered HTTP 500 to /wake_up"))
    async with house.open():
        with pytest.raises(EngineUnavailable, match="HTTP 500 to /wake_up"):
            await house.read()
    assert endpoint.moves == ["wake 1"] * MAX_LOST


async def test_an_endpoint_that_refuses_to_sleep_is_not_asked_over_and_over() -> None:
    house = House(sleeper(), gpu_offload_after=1)
    (endpoint,) = house.endpoints
    endpoint.sleep_error = Down("HTTP 500 to /sleep", unavailable("answered HTTP 500 to /sleep"))
    async with house.open() as manager:
        await house.read()
        await anyio.sleep(1000)
        assert endpoint.moves == ["sleep 1"]
        assert manager.state is State.GPU
        assert manager.status().last_error == "http://a/v1: HTTP 500 to /sleep"
        assert await house.read() == "/page"


async def test_one_that_others_put_to_sleep_is_noticed_before_a_page_is_sent() -> None:
    house = House(sleeper())
    (endpoint,) = house.endpoints
    async with house.open():
        await house.read()
        await anyio.sleep(30)
        endpoint.facts = replace(endpoint.facts, sleeping=True, level=2)
        assert await house.read() == "/page"
    assert endpoint.moves == ["wake 2"]


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_endpoints_do_each_page_has_one_answer(seed: int) -> None:
    import random

    chance = random.Random(seed)
    endpoints = [sleeper(name, seconds=2) for name in "abc"]
    house = House(*endpoints, ocr_remote_concurrency=4, gpu_offload_after=1)

    async def misbehave(stop: Callable[[], bool]) -> None:
        while not stop():
            await anyio.sleep(chance.uniform(0.1, 3))
            endpoint = chance.choice(endpoints)
            match chance.randrange(6):
                case 0:
                    endpoint.dead = sum(one.dead for one in endpoints) < 2
                case 1 | 2:
                    endpoint.dead = False
                case 3:
                    endpoint.failures.append(chance.choice([refused(), refused(3.0), lost()]))
                case 4:
                    endpoint.room = chance.randrange(1, 6)
                case 5:
                    endpoint.failures.append(None)

    async with house.open(), anyio.create_task_group() as tasks:
        done = False
        tasks.start_soon(misbehave, lambda: done)
        came = await house.read_all(200)
        done = True
    assert len(came) == 200
    wrong = {name: text for name, text in came.items() if text != name}
    # Three lost answers give a page up; that is said, never another page's text.
    assert all(isinstance(error, EngineUnavailable) for error in wrong.values())
    assert len(wrong) < 10


def test_two_at_the_same_address_are_one() -> None:
    settings = Settings(ocr_remote_url="http://a:1, http://a:1,http://b:2")

    async def encode(image: PageImage, side: int) -> tuple[str, str]:
        raise AssertionError

    manager = RemoteManager(KNOWN["openai"], settings, encode=encode)
    assert manager.lanes == 2 * settings.ocr_remote_concurrency
    assert manager.device == "remote"
    assert repr(manager).startswith("<RemoteManager UNLOADED")


async def test_an_endpoint_that_we_never_used_is_not_put_to_sleep_by_the_idle_policy() -> None:
    house = House(sleeper(), gpu_offload_after=0, gpu_idle_timeout=0)
    async with house.open():
        await anyio.sleep(1000)
        assert house.endpoints[0].moves == []

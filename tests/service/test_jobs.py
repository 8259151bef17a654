"""Every page is read once for all who ask for it, and for nobody who has left: on virtual time, with fakes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import anyio.abc
import pytest

from deepseek_ocr_mcp.documents.reader import LayerText, UnreadPart
from deepseek_ocr_mcp.engines.base import Reading, ReadOptions, TextLine
from deepseek_ocr_mcp.errors import Cancelled, EngineUnavailable, GpuBusy, OcrError, UnreadableInput, WorkerCrashed
from deepseek_ocr_mcp.modes import IGNORE_LAYER, ONLY_LAYER
from deepseek_ocr_mcp.service.cache import PageCache
from deepseek_ocr_mcp.service.jobs import MAX_UNATTENDED, Ask, Jobs
from deepseek_ocr_mcp.service.work import TEXT_LAYER, ReadPage, SharedDocument, Work
from fake_lifecycle import DRAW_S, READ_S, FakeDocument, FakeLifecycle, text_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("virtual_time")]

FREE = ReadOptions("free")


class Desk:
    """Jobs, and callers who ask them as the service does."""

    def __init__(
        self,
        engine: FakeLifecycle | None = None,
        document: FakeDocument | None = None,
        *,
        fallback: FakeLifecycle | None = None,
        cached: bool = True,
        text_layer: str = IGNORE_LAYER,
        barcodes: bool = False,
    ) -> None:
        self.engine = engine or FakeLifecycle()
        self.document = document or FakeDocument()
        self.cache = PageCache(enabled=cached)
        self.text_layer = text_layer
        self.barcodes = barcodes
        self.jobs = Jobs(self.engine, fallback, self.cache)  # type: ignore[arg-type]
        self.progress: list[tuple[float, str]] = []
        self.delivered: list[tuple[float, list[int]]] = []
        """When pages were delivered while they were read, and their numbers."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[anyio.abc.TaskGroup]:
        with anyio.fail_after(100_000):
            async with anyio.create_task_group() as tasks:
                self.jobs.start(tasks)
                yield tasks
                assert not self.document.left_behind, "pictures outlived their reading"
                tasks.cancel_scope.cancel()
        assert not self.engine.leases

    async def ask(self, *numbers: int, document: FakeDocument | None = None, key: str = "k", **how: Any) -> Ask:
        """Ask for these pages and follow the reading to its end."""
        ask = Ask(list(numbers), **how)
        await self.follow(ask, document or self.document, key)
        return ask

    async def follow(self, ask: Ask, document: FakeDocument, key: str = "k") -> None:
        async with AsyncExitStack() as stack:
            await self.join(stack, ask, document, key)
            if ask.outstanding() and not ask.background:
                await ask.follow(self._note, self._take)

    async def join(self, stack: AsyncExitStack, ask: Ask, document: FakeDocument, key: str = "k") -> None:
        opened = AsyncExitStack()
        shared = SharedDocument(document, opened.aclose)  # type: ignore[arg-type]
        work = Work(key, f"{key} reading", shared, FREE, self.text_layer, self.barcodes)
        await self.jobs.fill(ask, work)
        if not ask.outstanding():
            return
        if document is not self.document or not self.jobs._jobs:  # the callers of one job share its document
            await opened.enter_async_context(document.open())
        stack.push_async_callback(shared.release)
        self.jobs.join(ask, work)
        if not ask.background:
            stack.callback(self.jobs.leave, ask, work)

    async def _note(self, done: float, message: str) -> None:
        self.progress.append((done, message))

    async def _take(self, pages: Sequence[ReadPage]) -> None:
        self.delivered.append((anyio.current_time(), [read.page.page for read in pages]))


def texts(ask: Ask) -> list[str]:
    return [read.page.text for read in ask.pages()]


def expected(*numbers: int) -> list[str]:
    return [text_of(number) for number in numbers]


# -- once


async def test_pages_come_in_the_order_in_which_they_were_asked_for() -> None:
    desk = Desk()
    async with desk.open():
        ask = await desk.ask(3, 1, 2)
        assert texts(ask) == expected(3, 1, 2)
        assert ask.spent.infer_s == 3 * READ_S
        assert ask.spent.load_s == 3


async def test_pages_are_delivered_as_they_are_read_in_order_and_once() -> None:
    desk = Desk()
    async with desk.open():
        await desk.ask(2)
        desk.delivered.clear()
        await desk.ask(1, 2, 3)
        assert [number for _, numbers in desk.delivered for number in numbers] == [1, 2, 3]
        assert len({when for when, _ in desk.delivered}) == 2, "the first two together, the last when it is read"
        desk.delivered.clear()
        await desk.ask(1, 2, 3)
        assert desk.delivered == [], "the answer has all pages at once"


@pytest.mark.parametrize("cached", [True, False])
async def test_ten_callers_at_once_have_a_page_read_once(cached: bool) -> None:
    desk = Desk(cached=cached)
    answers: list[list[str]] = []

    async def caller() -> None:
        answers.append(texts(await desk.ask(1)))

    async with desk.open() as tasks:
        for _ in range(10):
            tasks.start_soon(caller)
        await anyio.sleep(DRAW_S + READ_S + 1)
        assert answers == [expected(1)] * 10
        assert desk.engine.batches == [[1]]


async def test_a_page_that_was_read_comes_from_the_cache() -> None:
    desk = Desk()
    async with desk.open():
        await desk.ask(1, 2)
        await anyio.sleep(1)  # whoever waited is answered first, and then the page is kept
        again = await desk.ask(1, 2)
        assert all(read.cached for read in again.pages())
        assert desk.engine.batches == [[1], [2]]


async def test_without_a_cache_a_page_is_read_again_and_nothing_is_kept() -> None:
    desk = Desk(cached=False)
    async with desk.open():
        for _ in range(2):
            assert texts(await desk.ask(1)) == expected(1)
            await anyio.sleep(1)
            desk.document = FakeDocument()
        assert desk.engine.batches == [[1], [1]]
        assert "0 pages" in repr(desk.cache)


async def test_who_joins_late_gets_what_was_read_and_waits_for_the_rest_only() -> None:
    desk = Desk()
    first, second = Ask([1, 2, 3]), Ask([1, 2])
    async with desk.open() as tasks:
        tasks.start_soon(desk.follow, first, desk.document)
        await anyio.sleep(DRAW_S + READ_S + 1)  # the first page is read, the second is being read
        began = anyio.current_time()
        await desk.follow(second, desk.document)
        assert anyio.current_time() - began <= READ_S
        assert texts(second) == expected(1, 2)
        await anyio.sleep(100)
        assert texts(first) == expected(1, 2, 3)
        assert desk.engine.batches == [[1], [2], [3]]


class SlowCache(PageCache):
    """Takes its time to keep an entry, as a disk may."""

    async def put(self, key: str, value: dict[str, Any], *, for_long: bool = True) -> None:
        await anyio.sleep(READ_S)
        await super().put(key, value, for_long=for_long)


async def test_a_page_that_was_read_and_is_not_kept_yet_is_not_read_again() -> None:
    desk = Desk()
    desk.cache = desk.jobs._cache = SlowCache()
    async with desk.open() as tasks:
        tasks.start_soon(desk.follow, Ask([1, 2]), desk.document)
        await anyio.sleep(DRAW_S + READ_S + 1)
        began = anyio.current_time()
        assert texts(await desk.ask(1)) == expected(1)
        assert anyio.current_time() == began
        await anyio.sleep(100)
        assert desk.engine.batches == [[1], [2]]


async def test_what_was_read_with_a_remark_or_by_a_fallback_is_not_cached() -> None:
    engine = FakeLifecycle(failures=[None, GpuBusy("No room.", remedy="Wait.")])
    engine.fields = {1: {"remark": "The rest is in a script of its own."}}
    desk = Desk(engine, fallback=FakeLifecycle("other"))
    async with desk.open():
        assert [read.engine for read in (await desk.ask(1, 2, 3)).pages()] == ["fake", "other", "fake"]
        await anyio.sleep(1)
        desk.document = FakeDocument()
        assert [read.cached for read in (await desk.ask(1, 2, 3)).pages()] == [False, False, True]


# -- batches and lanes


async def test_a_batch_has_as_many_pages_as_the_engine_likes_and_the_next_is_drawn_meanwhile() -> None:
    desk = Desk(FakeLifecycle(batch_pages=4))
    async with desk.open():
        began = anyio.current_time()
        assert texts(await desk.ask(*range(1, 11))) == expected(*range(1, 11))
        assert desk.engine.batches == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
        assert anyio.current_time() - began == pytest.approx(4 * DRAW_S + 3 * READ_S)
        assert desk.engine.most_at_once == 1


async def test_as_many_batches_are_under_way_as_there_are_lanes() -> None:
    desk = Desk(FakeLifecycle(lanes=3))
    async with desk.open():
        assert texts(await desk.ask(*range(1, 10))) == expected(*range(1, 10))
        assert desk.engine.most_at_once == 3
        assert sorted(desk.engine.batches) == [[number] for number in range(1, 10)]


async def test_an_answer_of_bounded_length_has_no_more_pages_begun_than_it_may_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fake_lifecycle.DRAW_S", 0.01)
    for limit, at_once in ((None, 4), (100_000, 4), (40_000, 2), (20_000, 1), (10, 1)):
        desk = Desk(FakeLifecycle(lanes=4, batch_pages=8), FakeDocument(100))
        async with desk.open():
            await desk.ask(*range(1, 65), limit=limit)
            assert desk.engine.most_at_once == at_once
            assert len(desk.engine.finished) == (1 if limit == 10 else 8)


async def test_pictures_of_two_batches_are_there_at_once_and_no_more() -> None:
    desk = Desk(FakeLifecycle(batch_pages=2))
    ask = Ask(list(range(1, 13)))
    async with desk.open() as tasks:
        tasks.start_soon(desk.follow, ask, desk.document)
        most = 0
        while ask.outstanding():
            most = max(most, len(desk.document.there))
            await anyio.sleep(DRAW_S / 2)
        assert most == 4


async def test_the_model_is_leased_once_for_a_whole_document_and_given_back() -> None:
    desk = Desk()
    async with desk.open():
        await desk.ask(1, 2, 3)
        await anyio.sleep(1)
        assert (desk.engine.leased_in_all, desk.engine.leases) == (1, 0)


# -- leaving


async def test_a_caller_that_leaves_takes_along_what_only_it_asked_for() -> None:
    desk = Desk()
    leaver, stayer = Ask([1, 2, 3, 4]), Ask([1, 2])
    async with desk.open() as tasks:
        scope = anyio.CancelScope()

        async def leaving() -> None:
            with scope:
                await desk.follow(leaver, desk.document)

        tasks.start_soon(leaving)
        tasks.start_soon(desk.follow, stayer, desk.document)
        await anyio.sleep(DRAW_S + 1)
        scope.cancel()
        await anyio.sleep(100)
        assert texts(stayer) == expected(1, 2)
        assert desk.engine.finished == [[1], [2]]
        assert desk.document.closed


async def test_the_reading_of_a_page_that_nobody_wants_any_more_is_stopped() -> None:
    desk = Desk()
    async with desk.open():
        with anyio.move_on_after(DRAW_S + READ_S / 2):
            await desk.ask(1)
        await anyio.sleep(0.1)
        assert (desk.engine.batches, desk.engine.finished) == ([[1]], [])
        assert desk.document.closed
        assert repr(desk.jobs) == "<Jobs 0 documents, 0 pages for nobody yet>"


async def test_the_document_stays_open_while_a_caller_still_looks_at_it() -> None:
    desk = Desk()
    async with desk.open():
        ask = Ask([1])
        async with AsyncExitStack() as stack:
            await desk.join(stack, ask, desk.document)
            await ask.follow(desk._note)
            await anyio.sleep(1000)
            assert not desk.document.closed
        await anyio.sleep(1)
        assert desk.document.closed


async def test_who_has_enough_text_has_no_further_page_read() -> None:
    desk = Desk()
    async with desk.open():
        ask = await desk.ask(*range(1, 11), limit=30)
        await anyio.sleep(100)
        assert texts(ask) == expected(1, 2)
        assert desk.engine.finished == [[1], [2]]


async def test_a_server_that_ends_says_so_to_all_who_wait_and_closes_their_documents() -> None:
    desk = Desk()
    ask = Ask([1, 2])
    still_here = AsyncExitStack()
    async with desk.open():
        await desk.join(still_here, ask, desk.document)
        await anyio.sleep(DRAW_S + 1)
    await still_here.aclose()
    assert isinstance(ask.error, Cancelled)
    assert desk.document.closed


# -- for nobody yet


async def test_what_is_read_for_nobody_yet_comes_after_all_that_somebody_waits_for() -> None:
    desk = Desk()
    async with desk.open() as tasks:
        await desk.ask(*range(11, 15), background=True)
        await anyio.sleep(DRAW_S + 1)
        began = anyio.current_time()
        tasks.start_soon(desk.follow, ahead := Ask([5], client="a"), desk.document)
        await anyio.sleep(100)
        assert texts(ahead) == expected(5)
        assert anyio.current_time() > began
        # One page was being read and one was drawn already when the caller came.
        assert desk.engine.batches.index([5]) <= 2
        assert desk.engine.were_background == [batch != [5] for batch in desk.engine.batches]
        assert sorted(desk.engine.batches) == [[5], [11], [12], [13], [14]]
        assert "a" in desk.engine.clients


async def test_who_comes_back_finds_read_what_was_read_for_nobody_yet_with_and_without_a_cache() -> None:
    for cached in (True, False):
        desk = Desk(cached=cached)
        async with desk.open():
            await desk.ask(1, 2, background=True)
            await anyio.sleep(100)
            assert desk.document.closed
            again = await desk.ask(1, 2)
            assert all(read.cached for read in again.pages())
            assert desk.engine.batches == [[1], [2]]


async def test_who_wants_the_memory_back_stops_what_is_read_for_nobody_and_nothing_else() -> None:
    desk = Desk()
    other = FakeDocument()
    async with desk.open() as tasks:
        await desk.ask(*range(1, 11), background=True)
        tasks.start_soon(desk.follow, ask := Ask([1, 2]), other, "other")
        await anyio.sleep(DRAW_S + 1)
        assert desk.jobs.unattended == 10
        desk.jobs.stop_unattended()
        assert desk.jobs.unattended == 0
        await anyio.sleep(100)
        assert texts(ask) == expected(1, 2)
        assert desk.document.closed
        assert desk.engine.finished == [[1], [2]], "the two of the caller, of another document"


async def test_documents_that_are_read_for_nobody_are_few_and_the_oldest_go_first() -> None:
    desk = Desk()
    documents = [FakeDocument() for _ in range(MAX_UNATTENDED + 2)]
    async with desk.open():
        for number, document in enumerate(documents):
            await desk.ask(*range(1, 21), background=True, document=document, key=f"k{number}")
        await anyio.sleep(1)
        assert [document.closed for document in documents] == [True] * 2 + [False] * MAX_UNATTENDED


# -- a page's own text


async def test_pages_that_hold_their_text_need_no_engine_and_no_lease() -> None:
    desk = Desk(document=FakeDocument(layers={1: "first", 2: "second"}), text_layer="auto")
    async with desk.open():
        ask = await desk.ask(1, 2)
        assert texts(ask) == ["first", "second"]
        assert {read.engine for read in ask.pages()} == {TEXT_LAYER}
        assert (desk.engine.leased_in_all, desk.document.drawn) == (0, [])


async def test_of_a_mixed_document_only_the_pages_without_text_are_drawn() -> None:
    desk = Desk(FakeLifecycle(batch_pages=2), FakeDocument(layers={2: "second", 3: "third"}), text_layer="auto")
    async with desk.open():
        assert texts(await desk.ask(1, 2, 3, 4)) == [text_of(1), "second", "third", text_of(4)]
        assert desk.document.drawn == [1, 4]


async def test_who_wants_the_text_layer_only_gets_an_empty_page_that_says_why() -> None:
    desk = Desk(document=FakeDocument(layers={1: "first"}), text_layer=ONLY_LAYER)
    async with desk.open():
        read = (await desk.ask(1, 2)).pages()
        assert [page.page.text for page in read] == ["first", ""]
        assert read[1].remark == "no usable text layer: it has none."
        assert desk.document.drawn == []


class PartlyRead(FakeDocument):
    """Its page has text of its own, and a part that an engine has to read."""

    def __init__(self, lines: Sequence[tuple[str, list[int]]], remark: str = "") -> None:
        super().__init__()
        found = [TextLine(text, tuple(map(float, box)), source="text_layer") for text, box in lines]  # type: ignore[arg-type]
        self._whole = LayerText(900, 900, Reading.of(900, 900, found).to_dict(), usable=True, remark=remark)

    async def text_layer(self, number: int, read: object = None) -> LayerText:
        return self._whole if read is not None else replace(self._whole, usable=False, partial=True, why="drawn")

    async def unread_part(self, number: int) -> UnreadPart:
        image = await self.page(number)
        return UnreadPart(replace(image, width=330, height=320), left=50, top=100)


UNKNOWN = "2 characters are marked \ufffd."


@pytest.mark.parametrize(
    ("lines", "passed_on"),
    [
        ([("stu\ufffd", [138, 183, 267, 223]), ("o\ufffdice", [138, 294, 301, 334])], False),
        ([("stu\ufffd", [138, 183, 267, 223]), ("A page of other words", [138, 600, 801, 634])], True),
        ([("a line of many letters", [60, 183, 370, 403])], True),
        ([("A page of other words", [138, 600, 801, 634])], True),
    ],
    ids=["a few characters", "white beside them", "a line", "nothing found"],
)
async def test_a_remark_on_scripts_is_passed_on_only_where_a_part_may_hold_more_than_a_few_characters(
    lines: Sequence[tuple[str, list[int]]], passed_on: bool
) -> None:
    engine = FakeLifecycle()
    engine.engine = replace(engine.engine, gives_lines=True)
    engine.fields = {1: {"remark": "Most text could not be read."}}
    desk = Desk(engine, PartlyRead(lines, UNKNOWN), text_layer="auto")
    async with desk.open():
        [page] = (await desk.ask(1)).pages()
        assert page.remark.startswith(UNKNOWN)
        assert ("Most text" in page.remark) == passed_on


# -- errors


async def test_a_page_that_cannot_be_drawn_costs_that_page_and_no_other() -> None:
    desk = Desk(document=FakeDocument(errors={2: UnreadableInput("Damaged.", remedy="Save it anew.")}))
    first, second = Ask([1, 2]), Ask([1, 3])
    async with desk.open() as tasks:
        tasks.start_soon(desk.follow, first, desk.document)
        tasks.start_soon(desk.follow, second, desk.document)
        await anyio.sleep(100)
        assert (first.error, texts(first)) == (None, [*expected(1), ""])
        assert isinstance(first.pages()[1].error, UnreadableInput)
        assert (second.error, texts(second)) == (None, expected(1, 3))


async def test_an_engine_that_fails_over_a_page_leaves_the_next_caller_unharmed() -> None:
    desk = Desk(FakeLifecycle(failures=[WorkerCrashed("It died.", remedy="Again.")]))
    async with desk.open():
        [page] = (await desk.ask(1)).pages()
        assert isinstance(page.error, WorkerCrashed)
        await anyio.sleep(1)
        desk.document = FakeDocument()
        assert texts(await desk.ask(1)) == expected(1)


@pytest.mark.parametrize("fields", [{"blocks": [{"label": "line", "text": "x", "box": [1, 2, 3]}]}, {"nonsense": 1}])
async def test_an_engine_that_answers_no_page_is_named(fields: dict[str, Any]) -> None:
    engine = FakeLifecycle()
    engine.fields = {1: fields}
    desk = Desk(engine)
    async with desk.open():
        [page] = (await desk.ask(1)).pages()
        assert "fake answered something that is no page" in str(page.error)


async def test_one_bad_page_of_a_batch_costs_that_page_and_no_other() -> None:
    crash = WorkerCrashed("It died.", remedy="Again.")
    desk = Desk(FakeLifecycle(failures=[crash, None, crash], batch_pages=3))  # the batch, and page 2 alone
    async with desk.open():
        ask = await desk.ask(1, 2, 3)
        assert texts(ask) == [*expected(1), "", *expected(3)]
        assert desk.engine.batches == [[1, 2, 3], [1], [2], [3]]


async def test_trouble_of_the_service_ends_the_ask_and_leaves_what_was_read() -> None:
    desk = Desk(FakeLifecycle(failures=[None, busy()]))
    async with desk.open():
        ask = await desk.ask(1, 2, 3)
        assert (texts(ask), type(ask.error), ask.missing()) == (expected(1), GpuBusy, [2, 3])


async def test_a_bug_of_ours_is_an_error_for_all_who_wait_and_the_jobs_go_on() -> None:
    desk = Desk(FakeLifecycle(failures=[ZeroDivisionError()]))
    async with desk.open():
        ask = await desk.ask(1)
        assert ask.error is not None
        assert ask.error.code == OcrError.code
        await anyio.sleep(1)
        assert desk.document.closed
        desk.document = FakeDocument()
        assert texts(await desk.ask(1)) == expected(1)


# -- the fallback


def busy() -> GpuBusy:
    return GpuBusy("No card has room.", remedy="Wait.")


async def test_while_no_card_has_room_the_fallback_reads_and_the_answer_says_so_once() -> None:
    fallback = FakeLifecycle("other")
    desk = Desk(FakeLifecycle(failures=[busy(), busy()]), fallback=fallback)
    async with desk.open():
        ask = await desk.ask(1, 2)
        assert [read.engine for read in ask.pages()] == ["other", "other"]
        assert [note.text for note in ask.notes] == ["No card has room. Read by other instead (OCR_FALLBACK)."]
        assert fallback.leased_in_all == 2
        assert fallback.leases == 0


@pytest.mark.parametrize(
    ("failure", "fallback"),
    [
        (busy(), None),
        (busy(), FakeLifecycle("other", modes=["document"])),  # it cannot do what was asked
    ],
)
async def test_what_the_fallback_cannot_help_with_is_told_as_it_is(
    failure: OcrError, fallback: FakeLifecycle | None
) -> None:
    desk = Desk(FakeLifecycle(failures=[failure]), fallback=fallback)
    async with desk.open():
        assert (await desk.ask(1)).error is failure


async def test_pages_that_no_endpoint_reads_are_drawn_again_for_the_fallback() -> None:
    engine = FakeLifecycle(is_remote=True, failures=[EngineUnavailable("None answers.", remedy="Start one.")])
    desk = Desk(engine, fallback=FakeLifecycle("other"))
    async with desk.open():
        assert [read.engine for read in (await desk.ask(1)).pages()] == ["other"]
        assert desk.document.drawn == [1, 1], "the first picture was encoded and is gone"


async def test_a_page_is_drawn_once_for_its_codes_and_for_the_engine() -> None:
    desk = Desk(document=FakeDocument(layers={2: "second"}), text_layer="auto", barcodes=True)
    async with desk.open():
        ask = await desk.ask(1, 2)
        assert [[code.text for code in read.codes_seen] for read in ask.pages()] == [["page-1"], ["page-2"]]
        assert desk.document.drawn == [1, 2]
        assert not desk.document.there, "the picture of a page with its own text goes, too"


# -- what is told on the way


async def test_progress_rises_from_the_load_until_the_answer_is_there() -> None:
    desk = Desk()
    async with desk.open():
        await desk.ask(1, 2)
        done = [step for step, _ in desk.progress]
        assert done == sorted(done)
        assert 1 < done[-1] < 2
        messages = [message for _, message in desk.progress]
        assert messages == [
            "loading the model for page 1 of 20",
            "page 1 of 20: reading",
            "page 1 of 20 read",
            "page 2 of 20: reading",
        ]


async def test_progress_adds_up_over_the_pages_that_are_read_side_by_side() -> None:
    desk = Desk(FakeLifecycle(lanes=4))
    async with desk.open():
        await desk.ask(1, 2, 3, 4)
        done = [step for step, _ in desk.progress]
        assert done == sorted(done)
        half = 0.04 + 0.96 / 2
        assert done[-4:] == pytest.approx([4 * half, 1 + 3 * half, 2 + 2 * half, 3 + half])


async def collected(ask: Ask, steps: list[float]) -> None:
    async def note(done: float, message: str) -> None:
        steps.append(done)

    await ask.follow(note)


async def test_an_answer_that_is_there_before_anything_was_told_comes_without_progress() -> None:
    desk = Desk()
    steps: list[float] = []
    async with desk.open():
        done = await desk.ask(1)
        ask = Ask([1])
        ask.tell("page 1 of 1", [1], 0.5)
        ask.give(done.pages()[0])
        ask.tell("page 1 of 1 read")
        await collected(ask, steps)
        assert steps == []


async def test_the_last_step_is_the_answer_itself() -> None:
    desk = Desk()
    steps: list[float] = []
    async with desk.open() as tasks:
        pages: Sequence[Any] = (await desk.ask(1, 2)).pages()
        ask = Ask([1, 2])
        ask.tell("page 1 of 2", [1], 0.5)
        tasks.start_soon(collected, ask, steps)
        await anyio.sleep(1)
        for page in pages:
            ask.give(page)
            ask.tell("read")
            await anyio.sleep(1)
        assert steps == [0.5, 1]

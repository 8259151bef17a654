"""Which card reads and which is woken, as the pure choice that it is."""

from __future__ import annotations

from deepseek_ocr_mcp.lifecycle.choice import Standing, WaitingPages, is_hopeless, next_to_read, next_to_wake, share

ASLEEP, IDLE = Standing(), Standing(ready=True)


def reading(pages: int = 1) -> Standing:
    return Standing(ready=True, pages=pages)


def wake(
    *cards: Standing, waiting: tuple[WaitingPages, ...] = (WaitingPages(),), batch_pages: int = 1, now: float = 0
) -> int | None:
    return next_to_wake(cards, waiting, batch_pages=batch_pages, now=now)


# -- who reads


def test_only_a_card_that_is_ready_and_has_nothing_to_do_begins_a_batch() -> None:
    assert next_to_read([ASLEEP, reading(), Standing(waking=True), IDLE]) == [3]


def test_the_card_that_read_last_reads_on_so_that_the_others_give_their_memory_back() -> None:
    assert next_to_read([Standing(ready=True, last_read=10), Standing(ready=True, last_read=30), IDLE]) == [1, 0, 2]


def test_what_waits_is_shared_out_among_the_cards_that_can_begin_and_filled_up_where_there_is_one() -> None:
    assert share(16, 1, 16) == 16
    assert share(16, 2, 16) == 8
    assert share(9, 4, 16) == 3
    assert share(100, 2, 16) == 16
    assert share(1, 8, 16) == 1


# -- who is woken


def test_the_first_page_wakes_one_card() -> None:
    assert wake(ASLEEP, ASLEEP) == 0
    assert wake(Standing(waking=True), ASLEEP) is None


def test_what_waits_behind_a_card_that_reads_wakes_another() -> None:
    assert wake(reading(), ASLEEP) == 1


def test_nothing_that_waits_wakes_nothing() -> None:
    assert wake(reading(), ASLEEP, waiting=()) is None


def test_a_card_is_woken_for_each_batch_that_waits_and_not_for_each_page() -> None:
    pages = tuple(WaitingPages() for _ in range(8))
    assert wake(reading(), Standing(waking=True), ASLEEP, waiting=pages, batch_pages=8) is None
    assert wake(reading(), Standing(waking=True), ASLEEP, waiting=(*pages, WaitingPages()), batch_pages=8) == 2


def test_what_is_read_ahead_for_nobody_wakes_a_first_card_and_no_second_one() -> None:
    ahead = (WaitingPages(pages=100, background=True),)
    assert wake(ASLEEP, ASLEEP, waiting=ahead) == 0
    assert wake(reading(), ASLEEP, waiting=ahead) is None
    assert wake(Standing(waking=True), ASLEEP, waiting=ahead) is None
    assert wake(reading(), ASLEEP, waiting=(*ahead, WaitingPages())) == 1


def test_weights_in_host_memory_are_nearer_than_free_memory() -> None:
    assert wake(Standing(free_mb=80_000), Standing(near=True, free_mb=10_000)) == 1


def test_of_cards_alike_the_emptiest_is_woken_and_of_equals_the_first() -> None:
    assert wake(Standing(free_mb=10_000), Standing(free_mb=40_000), Standing(free_mb=20_000)) == 1
    assert wake(ASLEEP, ASLEEP) == 0


# -- cards that failed


def test_a_card_that_failed_comes_after_all_that_have_not() -> None:
    assert wake(Standing(strikes=1, near=True, free_mb=80_000), Standing(free_mb=1_000)) == 1
    assert wake(Standing(strikes=1), reading()) == 0


def test_a_card_that_is_left_out_is_not_woken_before_its_time_while_another_can_read() -> None:
    out = Standing(strikes=1, out_until=100, refused_at=1)
    later = (WaitingPages(since=2),)
    assert wake(out, reading(), waiting=later, now=99) is None
    assert wake(out, reading(), waiting=later, now=100) == 0


def test_when_no_other_card_can_read_one_that_is_left_out_is_tried_once_for_each_who_asks() -> None:
    out = [Standing(out_until=100, refused_at=5), Standing(out_until=50, refused_at=4)]
    assert wake(*out, waiting=(WaitingPages(since=6),)) == 1
    assert wake(*out, waiting=(WaitingPages(since=5),)) == 1
    assert wake(*out, waiting=(WaitingPages(since=3),)) is None


def test_a_card_is_not_woken_for_pages_that_it_failed_over() -> None:
    mine = (WaitingPages(shunned=frozenset({0})),)
    assert wake(ASLEEP, ASLEEP, waiting=mine) == 1
    assert wake(ASLEEP, waiting=mine) is None
    assert wake(ASLEEP, Standing(waking=True), waiting=mine) is None


def test_what_waits_is_hopeless_when_every_card_refused_it_or_failed_over_it() -> None:
    full = Standing(out_until=100, refused_at=7)
    assert is_hopeless(WaitingPages(since=3), [full, full], 0)
    assert not is_hopeless(WaitingPages(since=8), [full, full], 0), "they have not been tried since"
    assert not is_hopeless(WaitingPages(since=3), [full, ASLEEP], 0)
    assert not is_hopeless(WaitingPages(since=3), [full, reading()], 0)
    assert not is_hopeless(WaitingPages(since=3), [full, Standing(waking=True)], 0)
    assert not is_hopeless(WaitingPages(since=3), [full, full], 100), "it is their time again"
    assert is_hopeless(WaitingPages(since=3, shunned=frozenset({1})), [full, reading()], 0)

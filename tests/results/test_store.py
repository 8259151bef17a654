"""Results in memory: found by their names, within bounds."""

from __future__ import annotations

import re

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_ocr_mcp.errors import InputNotFound
from deepseek_ocr_mcp.service.expiry import KEEP_S
from deepseek_ocr_mcp.service.store import PAGE_BYTES, ResultStore

pytestmark = pytest.mark.anyio


class Paper:
    """A document that counts its holders."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.holders = 0

    def hold(self) -> Paper:
        self.holders += 1
        return self

    def let_go(self) -> None:
        self.holders -= 1
        assert self.holders >= 0


async def test_a_result_is_found_by_its_name_and_by_its_pages() -> None:
    store = ResultStore[Paper]()
    name = store.put({2: "two", 3: "", 5: "fünf \ud800"})
    assert store.text(name) == "two\n\nfünf ?"
    assert store.page(name, "2") == "two"
    assert store.page(name, "3") == ""
    for number in ("1", "x", "-2", "", "9" * 50, "２"):
        with pytest.raises(InputNotFound, match="it has 2, 3, 5"):
            store.page(name, number)


async def test_names_have_128_bits_and_never_repeat() -> None:
    store = ResultStore[Paper]()
    names = {store.put({1: "same"}) for _ in range(150)}
    assert len(names) == 150
    assert all(re.fullmatch(r"[\w-]{22}", name) for name in names)


async def test_what_was_asked_for_longest_ago_goes_first() -> None:
    store = ResultStore[Paper](max_results=2)
    first, second = store.put({1: "a"}), store.put({1: "b"})
    assert store.text(first) == "a"
    third = store.put({1: "c"})
    assert (store.text(first), store.text(third)) == ("a", "c")
    with pytest.raises(InputNotFound, match="Call ocr_image again"):
        store.text(second)


async def test_a_result_that_is_too_large_is_not_kept_and_drives_out_nothing() -> None:
    store = ResultStore[Paper](max_bytes=1000)
    small = store.put({1: "a"})
    assert store.put({1: "x" * 2000}) == ""
    assert store.text(small) == "a"


@given(st.lists(st.lists(st.text(max_size=40), min_size=1, max_size=5), max_size=30), st.integers(200, 2000))
async def test_the_bounds_hold_whatever_is_put(results: list[list[str]], limit: int) -> None:
    store = ResultStore[Paper](max_bytes=limit, max_results=7)
    for texts in results:
        store.put(dict(enumerate(texts, start=1)), details={1: b"{}"})
        kept = list(store._results.values())
        size = sum(len(text) + PAGE_BYTES for stored in kept for text in stored.texts.values()) + 2 * len(kept)
        assert size <= limit
        assert len(kept) <= 7
        assert f"{len(kept)} results, {size} bytes" in repr(store)


async def test_a_document_is_held_as_long_as_a_result_has_it() -> None:
    store = ResultStore[Paper](max_results=2)
    paper = Paper(10)
    first = store.put({1: "a"}, details={1: b"more"}, held=paper.hold())
    second = store.put({2: "b"}, held=paper.hold())
    assert (store.details(first, 1), store.details(first, 2), store.details(second, 2)) == (b"more", None, None)
    assert store.held(first) is store.held(second) is paper
    store.put({1: "c"})
    assert paper.holders == 1
    store.put({1: "d"})
    assert paper.holders == 0
    third = store.put({1: "e"}, held=paper.hold())
    for name in (third, third, first):
        store.drop(name)
    assert paper.holders == 0
    with pytest.raises(InputNotFound):
        store.text(third)


async def test_documents_that_are_too_large_are_let_go_before_their_results() -> None:
    store = ResultStore[Paper](max_held_bytes=100)
    old, new, huge = Paper(60), Paper(60), Paper(101)
    first, second = store.put({1: "a"}, held=old.hold()), store.put({1: "b"}, held=new.hold())
    assert (old.holders, new.holders) == (0, 1)
    assert (store.held(first), store.held(second)) == (None, new)
    assert store.text(first) == "a"
    again = store.put({2: "b"}, held=new.hold())  # the same document counts once
    assert store.held(second) is store.held(again) is new
    third = store.put({1: "c"}, held=huge.hold())
    assert (new.holders, huge.holders) == (0, 0)
    assert store.text(third) == "c"


async def test_a_result_that_is_not_kept_holds_no_document() -> None:
    store = ResultStore[Paper](max_bytes=1000)
    paper = Paper(1)
    assert store.put({1: "x" * 2000}, held=paper.hold()) == ""
    assert paper.holders == 0


@pytest.mark.usefixtures("virtual_time")
async def test_each_result_and_its_document_are_forgotten_at_the_end_of_their_own_time() -> None:
    store, paper = ResultStore[Paper](), Paper(10)
    with anyio.fail_after(10 * KEEP_S):
        async with store.running():
            first = store.put({1: "one"}, held=paper.hold())
            await anyio.sleep(KEEP_S * 0.6)
            second = store.put({1: "two"})
            store.text(first)  # to be asked for does not prolong it
            await anyio.sleep(KEEP_S * 0.6)
            assert paper.holders == 0
            with pytest.raises(InputNotFound, match="for an hour"):
                store.text(first)
            assert store.text(second) == "two"
            await anyio.sleep(KEEP_S)
            assert repr(store) == "<ResultStore 0 results, 0 bytes, 0 documents>"

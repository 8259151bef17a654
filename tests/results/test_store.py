"""Results in memory: found by their names, within bounds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_ocr_mcp.errors import InputNotFound
from deepseek_ocr_mcp.results.store import PAGE_BYTES, ResultStore


def test_a_result_is_found_by_its_name_and_by_its_pages() -> None:
    store = ResultStore()
    name = store.put({2: "two", 3: "", 5: "fünf \ud800"})
    assert store.text(name) == "two\n\nfünf ?"
    assert store.page(name, "2") == "two"
    assert store.page(name, "3") == ""
    for number in ("1", "x", "-2", "", "9" * 50, "２"):
        with pytest.raises(InputNotFound, match="it has 2, 3, 5"):
            store.page(name, number)


def test_names_have_128_bits_and_never_repeat() -> None:
    store = ResultStore()
    names = {store.put({1: "same"}) for _ in range(150)}
    assert len(names) == 150
    assert all(re.fullmatch(r"[\w-]{22}", name) for name in names)


def test_what_was_asked_for_longest_ago_goes_first() -> None:
    store = ResultStore(max_results=2)
    first, second = store.put({1: "a"}), store.put({1: "b"})
    assert store.text(first) == "a"
    third = store.put({1: "c"})
    assert (store.text(first), store.text(third)) == ("a", "c")
    with pytest.raises(InputNotFound, match="Call ocr_image again"):
        store.text(second)


def test_a_result_that_is_too_large_is_not_kept_and_drives_out_nothing() -> None:
    store = ResultStore(max_bytes=1000)
    small = store.put({1: "a"})
    assert store.put({1: "x" * 2000}) == ""
    assert store.text(small) == "a"


@given(st.lists(st.lists(st.text(max_size=40), min_size=1, max_size=5), max_size=30), st.integers(200, 2000))
def test_the_bounds_hold_whatever_is_put(results: list[list[str]], limit: int) -> None:
    store = ResultStore(max_bytes=limit, max_results=7)
    for texts in results:
        store.put(dict(enumerate(texts, start=1)))
        kept = list(store._results.values())
        size = sum(len(text) + PAGE_BYTES for pages in kept for text in pages.values())
        assert size <= limit
        assert len(kept) <= 7
        assert f"{len(kept)} results, {size} bytes" in repr(store)

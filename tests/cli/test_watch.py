"""A watched folder: a file is read when its writer is done, and once."""

from __future__ import annotations

from deepseek_ocr_mcp.cli.watch import Arrivals


def test_a_file_is_ready_when_it_stayed_the_same_between_two_looks() -> None:
    arrivals = Arrivals()
    assert arrivals.ready({"a": (10, 1)}) == []
    assert arrivals.ready({"a": (20, 2)}) == [], "its writer is at work"
    assert arrivals.ready({"a": (20, 2), "b": (0, 1)}) == ["a"]
    arrivals.done("a", (20, 2))
    assert arrivals.ready({"a": (20, 2), "b": (0, 1)}) == [], "an empty file is not written yet"


def test_a_file_that_changes_is_read_again_and_one_that_failed_is_not() -> None:
    arrivals = Arrivals()
    arrivals.ready({"a": (1, 1)})
    assert arrivals.ready({"a": (1, 1)}) == ["a"]
    arrivals.done("a", (1, 1))
    assert arrivals.ready({"a": (1, 1)}) == []
    arrivals.ready({"a": (1, 9)})
    assert arrivals.ready({"a": (1, 9)}) == ["a"]


def test_a_name_that_comes_back_is_a_new_file() -> None:
    arrivals = Arrivals()
    arrivals.done("a", (1, 1))
    arrivals.ready({})
    arrivals.ready({"a": (1, 1)})
    assert arrivals.ready({"a": (1, 1)}) == ["a"]

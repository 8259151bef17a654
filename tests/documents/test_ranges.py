"""Page ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_ocr_mcp.documents.ranges import format_pages, parse_pages
from deepseek_ocr_mcp.errors import BadRequest


@pytest.mark.parametrize(
    ("text", "pages"),
    [
        ("", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("1-3,7", [1, 2, 3, 7]),
        ("7,1-3,2", [1, 2, 3, 7]),
        (" 2 - 3 , 5 ", [2, 3, 5]),
        ("8-", [8, 9]),
        ("-2", [1, 2]),
        ("last", [9]),
        ("8-last", [8, 9]),
        ("9-999999999", [9]),
    ],
)
def test_a_range_names_pages(text: str, pages: list[int]) -> None:
    assert parse_pages(text, 9) == pages


@pytest.mark.parametrize(
    ("text", "pages"),
    [
        ("-1", [9]),
        ("first", [1]),
        ("First page", [1]),
        ("LAST", [9]),
        ("last page", [9]),
        ("page 2", [2]),
        ("Pages 2-4", [2, 3, 4]),
        ("p. 2, p. 5", [2, 5]),
        ("pp 2-3", [2, 3]),
        ("p2", [2]),
        ("page first", [1]),
        ("1..3", [1, 2, 3]),
        ("1...3", [1, 2, 3]),
        ("1:3", [1, 2, 3]),
        ("1 to 3", [1, 2, 3]),
        ("page 1 through page 3", [1, 2, 3]),
        ("1–3", [1, 2, 3]),
        ("8-end", [8, 9]),
        ("end", [9]),
        ("1 and 3", [1, 3]),
        ("1, 2 & 5", [1, 2, 5]),
        ("[1, 2]", [1, 2]),
        ('"2"', [2]),
        ("['1-2', '7']", [1, 2, 7]),
        ("first 2", [1, 2]),
        ("first 3 pages", [1, 2, 3]),
        ("last 2 pages", [8, 9]),
        ("last 99", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("all", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("All pages", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("*", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("null", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("[]", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_what_agents_write_instead_is_read_as_it_is_meant(text: str, pages: list[int]) -> None:
    assert parse_pages(text, 9) == pages


@pytest.mark.parametrize("text", ["0", "0-3", "page 0", "[0]"])
def test_counting_from_0_is_told_where_pages_begin(text: str) -> None:
    with pytest.raises(BadRequest, match="The first page is 1"):
        parse_pages(text, 9)


@pytest.mark.parametrize(
    "text", ["0", "3-1", "a", "1-2-3", "1-2 to 3", "1;2", ",", "-", "1.5", "-0", "10", "٣", "1" * 20_000, "last-2"]
)
def test_what_is_no_range_is_an_error_with_an_example(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_pages(text, 9)
    assert '"1-' in caught.value.remedy
    assert len(str(caught.value)) < 300


@given(st.text(max_size=30), st.integers(1, 50))
def test_any_text_gives_pages_of_the_document_or_a_clear_error(text: str, count: int) -> None:
    try:
        pages = parse_pages(text, count)
    except BadRequest:
        return
    assert pages == sorted(set(pages))
    assert set(pages) <= set(range(1, count + 1))
    assert pages


@given(st.sets(st.integers(1, 400), min_size=1))
def test_a_range_written_and_read_again_is_the_same(numbers: set[int]) -> None:
    assert parse_pages(format_pages(sorted(numbers)), 400) == sorted(numbers)

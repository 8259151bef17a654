"""The grounding tags of DeepSeek-OCR: what they mean, and that no page can abuse them."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_ocr_mcp.engines.markup import Markup, MarkupBlock, figure_mark, parse_markup

DOCUMENT = """<|ref|>title<|/ref|><|det|>[[100, 50, 899, 90]]<|/det|>
# Quarterly Report

<|ref|>text<|/ref|><|det|>[[100, 120, 899, 300]]<|/det|>
First paragraph,
two lines.

<|ref|>image<|/ref|><|det|>[[100, 320, 500, 600]]<|/det|>

<|ref|>image_caption<|/ref|><|det|>[[100, 610, 500, 640]]<|/det|>
<center>Figure 1: a map</center>

<|ref|>table<|/ref|><|det|>[[520, 320, 899, 600]]<|/det|>
<table><tr><td>a</td><td>1</td></tr></table>
"""


def boxes(markup: Markup) -> list[tuple[int, int, int, int]]:
    return [block.box for block in markup.blocks]


def test_a_document_becomes_markdown_and_blocks() -> None:
    markup = parse_markup(DOCUMENT, 999, 999)
    assert markup.text == (
        "# Quarterly Report\n\nFirst paragraph,\ntwo lines.\n\n<!-- figure 1 -->\n\n"
        "<center>Figure 1: a map</center>\n\n<table><tr><td>a</td><td>1</td></tr></table>"
    )
    assert [(block.label, block.text) for block in markup.blocks] == [
        ("title", "# Quarterly Report"),
        ("text", "First paragraph,\ntwo lines."),
        ("image", ""),
        ("image_caption", "<center>Figure 1: a map</center>"),
        ("table", "<table><tr><td>a</td><td>1</td></tr></table>"),
    ]
    assert markup.figures == (MarkupBlock("image", "", (100, 320, 500, 600), 1),)
    assert figure_mark(1) in markup.text


def test_refs_of_the_ocr_mode_are_the_text_itself() -> None:
    raw = (
        "<|ref|>Total<|/ref|><|det|>[[10, 10, 200, 40]]<|/det|>\n"
        "<|ref|>98.76 EUR<|/ref|><|det|>[[300, 10, 500, 40]]<|/det|>\n"
    )
    for told in (True, None):
        markup = parse_markup(raw, 1998, 999, text_in_ref=told)
        assert markup.text == "Total\n98.76 EUR"
        assert markup.blocks == (
            MarkupBlock("line", "Total", (20, 10, 400, 40)),
            MarkupBlock("line", "98.76 EUR", (600, 10, 1000, 40)),
        )


def test_one_ref_may_have_many_boxes() -> None:
    raw = "<|ref|>cat<|/ref|><|det|>[[0, 0, 100, 100], [500, 500, 999, 999]]<|/det|>"
    assert parse_markup(raw, 999, 999, text_in_ref=True).blocks == (
        MarkupBlock("line", "cat", (0, 0, 100, 100)),
        MarkupBlock("line", "cat", (500, 500, 999, 999)),
    )
    document = parse_markup(raw.replace("cat", "image") + "\nafter", 999, 999, text_in_ref=False)
    assert document.text == "<!-- figure 1 -->\n<!-- figure 2 -->\nafter"
    assert [block.text for block in document.blocks] == ["after", ""]


def test_text_without_tags_is_left_alone() -> None:
    assert parse_markup("  plain | text\n\n\n\n\nmore \n", 10, 10) == Markup("plain | text\n\nmore", ())
    assert parse_markup("", 10, 10) == Markup("", ())
    assert parse_markup("a \\coloneqq b, a < b <| c |>", 10, 10).text == "a := b, a < b <| c |>"


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ("[[0, 0, 999, 999]]", (0, 0, 2000, 1000)),
        ("[0, 0, 999, 999]", (0, 0, 2000, 1000)),
        (" [ [ 0,0 , 999,\n999 ] ] ", (0, 0, 2000, 1000)),
        ("[[999, 999, 0, 0]]", (0, 0, 2000, 1000)),
        ("[[-5, -5, 100000, 5000]]", (0, 0, 2000, 1000)),
        ("[[500.7, 500.2, 600.9, 600]]", (1001, 500, 1202, 601)),
        ("[[999, 999, 999, 999]]", (1999, 999, 2000, 1000)),
        ("[[0, 0, 0, 0]]", (0, 0, 1, 1)),
    ],
)
def test_a_box_is_pixels_of_the_page_and_never_empty(numbers: str, expected: tuple[int, ...]) -> None:
    assert boxes(parse_markup(f"<|ref|>text<|/ref|><|det|>{numbers}<|/det|>x", 2000, 1000)) == [expected]


@pytest.mark.parametrize(
    "numbers",
    [
        "__import__('os').system('touch /tmp/owned')",
        "[[1, 2, 3]]",
        "[[1, 2, 3, 4, 5]]",
        "[[1e3, 2, 3, 4]]",
        "[[1, 2, 3, four]]",
        "[[٣, 2, 3, 4]]",
        "[[1234567, 2, 3, 4]]",
        "nothing",
        "",
    ],
)
def test_what_is_no_list_of_boxes_gives_no_box(numbers: str) -> None:
    markup = parse_markup(f"<|ref|>text<|/ref|><|det|>{numbers}<|/det|>the words", 100, 100, text_in_ref=False)
    assert markup.blocks == ()
    assert markup.text.endswith("the words")


@pytest.mark.parametrize(
    ("raw", "text", "count"),
    [
        ("# A\n<|ref|>ti", "# A", 0),
        ("# A\n<|ref|>title<|/ref|>", "# A", 0),
        ("# A\n<|ref|>title<|/ref|><|det|>[[1, 2", "# A", 0),
        ("# A\n<|ref|>title<|/ref|><|det|>[[1, 2, 3, 4], [5", "# A", 1),
        ("# A\n<|ref|>title<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>\n# B", "# A\n\n# B", 1),
    ],
)
def test_a_page_cut_off_keeps_what_is_whole(raw: str, text: str, count: int) -> None:
    markup = parse_markup(raw, 999, 999, text_in_ref=False)
    assert (markup.text, len(markup.blocks)) == (text, count)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("<|ref|>a<|ref|>b<|/ref|><|det|>[[1,1,9,9]]<|/det|>c", "ac"),
        ("<|det|>[[1,1,9,9]]<|/det|>c", "[[1,1,9,9]]c"),
        ("<|/ref|><|/det|><|grounding|>c", "c"),
        ("<|ref|>text<|/ref|>between<|det|>[[1,1,9,9]]<|/det|>c", "between[[1,1,9,9]]c"),
        ("<|ref|>text<|/ref|><|det|>[[1,1,9,9]]<|det|>[[2,2,8,8]]<|/det|>c", "[[2,2,8,8]]c"),
        ("<|ref|>text<|/ref|><|det|><|ref|>text<|/ref|><|det|>[[1,1,9,9]]<|/det|>c", "c"),
    ],
)
def test_tags_out_of_place_are_dropped_and_their_text_stays(raw: str, text: str) -> None:
    assert parse_markup(raw, 10, 10, text_in_ref=False).text == text


PARTS = st.sampled_from([
    "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>", "<|", "|>", "[[", "]]", "[", "]", "1", "999", ",",
    "text", "image", "\n", " ", "-", ".", "\u2028", "é", "__import__('os')", "[[1, 2, 3, 4]]", "<td>", "</td>",
])  # fmt: skip


@given(st.one_of(st.lists(PARTS, max_size=60).map("".join), st.text()), st.integers(1, 50), st.booleans() | st.none())
def test_nothing_that_a_page_can_say_breaks_the_parser(raw: str, size: int, told: bool | None) -> None:
    markup = parse_markup(raw, size, size * 2, text_in_ref=told)
    for x1, y1, x2, y2 in boxes(markup):
        assert 0 <= x1 < x2 <= size
        assert 0 <= y1 < y2 <= size * 2
    assert [block.figure for block in markup.figures] == list(range(1, len(markup.figures) + 1))


@given(st.lists(st.tuples(st.sampled_from(["title", "text", "table"]), st.text(string.ascii_letters, min_size=1))))
def test_no_word_of_a_wellformed_page_is_lost(paragraphs: list[tuple[str, str]]) -> None:
    raw = "".join(f"<|ref|>{label}<|/ref|><|det|>[[1, 1, 5, 5]]<|/det|>\n{text}\n\n" for label, text in paragraphs)
    markup = parse_markup(raw, 100, 100)
    assert markup.text == "\n\n".join(text for _, text in paragraphs)
    assert [(block.label, block.text) for block in markup.blocks] == paragraphs


HOSTILE = {
    "open refs": "<|ref|>",
    "open dets": "<|ref|>a<|/ref|><|det|>",
    "dets after text": "x<|det|>",
    "brackets": "[",
    "blanks": " ",
    "lines": "\n",
    "half boxes": "[1,",
    "blank lines": "\n   \t  ",
    "boxes": "[[1,2,3,4]],",
    "tags": "<|ref|>image<|/ref|><|det|>[[1,2,3,4]]<|/det|>",
    "numbers": "1",
    "bars": "<|",
}


@pytest.mark.parametrize("start", ["", "<|ref|>a<|/ref|><|det|>[", "<|ref|>a<|/ref|>"], ids=["bare", "det", "ref"])
@pytest.mark.parametrize("unit", HOSTILE.values(), ids=list(HOSTILE))
def test_a_million_hostile_characters_take_as_long_as_any_other(unit: str, start: str) -> None:
    raw = start + unit * (1_000_000 // len(unit)) + "x"
    began = time.process_time()
    parse_markup(raw, 1000, 1000)
    assert time.process_time() - began < 5  # it takes 0.3 s at most; quadratic work would take minutes

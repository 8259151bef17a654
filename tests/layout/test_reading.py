"""A reading: the places of words on a page, and what each mode makes of it."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from deepseek_ocr_mcp.layout.answers import answer, hits
from deepseek_ocr_mcp.layout.lines import Quad, TextLine, WordPlace, cut, whole
from deepseek_ocr_mcp.layout.reading import Reading, Section, angle_of, around, bounds, part_of, words_of
from deepseek_ocr_mcp.service.work import reading_of


def line(text: str, x1: float, y1: float, x2: float, y2: float, **more: object) -> TextLine:
    return TextLine(text, (x1, y1, x2, y2), **more)  # type: ignore[arg-type]


def turned(quad: Quad, degrees: float) -> Quad:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    points = [(x * cos - y * sin, x * sin + y * cos) for x, y in zip(quad[::2], quad[1::2], strict=True)]
    return tuple(side for point in points for side in point)  # type: ignore[return-value]


LEVEL: Quad = (10, 10, 110, 10, 110, 30, 10, 30)


@pytest.mark.parametrize("degrees", [0, 4, 90, 175, 180, 270])
def test_the_angle_of_a_place_is_that_in_which_its_text_runs(degrees: int) -> None:
    assert angle_of(turned(LEVEL, degrees)) == pytest.approx(degrees)


@pytest.mark.parametrize("degrees", [0.3, -0.3, 90.2])
def test_text_that_hardly_leans_is_level(degrees: float) -> None:
    assert angle_of(turned(LEVEL, degrees)) == round(degrees / 90) * 90


@pytest.mark.parametrize("degrees", [0, 5, 90, 180, 270])
def test_the_place_around_the_words_of_a_line_is_turned_as_the_line_is(degrees: int) -> None:
    left, right = (10, 12, 50, 12, 50, 30, 10, 30), (60, 10, 110, 10, 110, 28, 60, 28)
    found = around([turned(left, degrees), turned(right, degrees)])
    assert found == pytest.approx(turned(LEVEL, degrees))


def test_a_box_is_inside_the_page_and_never_empty() -> None:
    assert bounds((-5.0, -5.0, 500.0, -5.0, 500.0, 20.4, -5.0, 20.4), 100, 50) == (0, 0, 100, 20)
    assert bounds((99.9, 49.9, 99.9, 49.9, 99.9, 49.9, 99.9, 49.9), 100, 50) == (99, 49, 100, 50)


def test_words_without_places_get_shares_of_their_line() -> None:
    words = words_of(line("mm ii", 0, 0, 200, 20))
    assert [(word.start, word.stop) for word in words] == [(0, 2), (3, 5)]
    first, second = (bounds(word.quad, 200, 20) for word in words)
    assert first[2] - first[0] > 2 * (second[2] - second[0]), "m is wider than i"
    assert (first[0], second[2]) == (0, 200)


def test_words_of_a_script_that_runs_leftwards_begin_on_the_right() -> None:
    first, last = words_of(line("שלום עולם", 0, 0, 200, 20))
    assert first.quad[0] > last.quad[0]


def test_chinese_and_latin_letters_are_words_of_their_own_and_signs_belong_to_a_word() -> None:
    text = "合同编号ABC-12, “done”。"
    assert [text[word.start : word.stop] for word in words_of(line(text, 0, 0, 200, 20))] == [
        "合同编号",
        "ABC-12,",
        "“done”",
        "。",
    ]


def test_a_few_letters_of_another_script_do_not_turn_a_line_round() -> None:
    first, *_ = words_of(line("Total due to כהן", 0, 0, 200, 20))
    assert first.quad[0] < 10


def test_a_place_that_holds_two_words_is_shared_by_them() -> None:
    places = (WordPlace(0, 8, (0, 0, 160, 0, 160, 20, 0, 20)),)
    new, york = words_of(line("New York", 0, 0, 160, 20, words=places))
    assert (new.stop, york.start) == (3, 4)
    assert 0 == new.quad[0] < new.quad[2] < york.quad[0] < york.quad[2] == 160


def test_a_part_of_a_line_is_boxed_by_its_words_without_the_signs_around_them() -> None:
    places = (WordPlace(0, 5, LEVEL), WordPlace(5, 6, (112, 26, 114, 26, 114, 30, 112, 30)))
    found = line("Total: 5", 10, 10, 200, 30, words=places)
    assert part_of(found, 0, 5) == LEVEL
    assert bounds(part_of(found, 0, 6), 300, 300) == (10, 10, 114, 30)
    half = part_of(found, 0, 2)
    assert (half[0], half[1]) == (10, 10)
    assert 40 < half[2] < 70


def test_a_line_that_is_cut_keeps_the_words_of_each_part() -> None:
    places = (WordPlace(0, 4, LEVEL), WordPlace(5, 8, turned(LEVEL, 1)))
    found = line("left one", 0, 0, 100, 20, words=places)
    assert cut(found, whole(0, found)).words == places
    piece = whole(0, found)
    right = cut(found, type(piece)(0, 5, 8, 0.6, 1.0))
    assert right.words == (WordPlace(0, 3, turned(LEVEL, 1)),)


# -- answers


PAGE = Reading.of(
    400,
    300,
    [
        line("The Heading", 20, 10, 300, 50),
        line("Total: 74.50", 20, 100, 140, 120, score=0.91234),
        line("paid", 200, 100, 240, 120),
        *(line("A line of running text that fills the page", 20, 140 + 24 * n, 380, 160 + 24 * n) for n in range(4)),
    ],
)


def test_each_mode_is_made_of_one_reading() -> None:
    text, blocks = answer(PAGE, is_markdown=False)
    assert text.split()[:5] == ["The", "Heading", "Total:", "74.50", "paid"]
    assert {block["label"] for block in blocks} == {"line"}
    markdown, blocks = answer(PAGE, is_markdown=True)
    assert markdown.startswith("# The Heading")
    assert blocks[0]["label"] == "title"
    around_hit, found = hits(PAGE, "total")
    assert "74.50" in around_hit
    assert [(block["label"], block["text"]) for block in found] == [("total", "Total")]
    assert found[0]["box"][2] < 80, "the box is around the word, not around the line"


def test_blocks_say_how_sure_the_engine_is_and_where_each_word_is() -> None:
    _, blocks = answer(PAGE, is_markdown=False)
    total = next(block for block in blocks if "74.50" in block["text"])
    assert total["score"] == 0.912
    assert [word["text"] for word in total["words"]] == ["Total:", "74.50"]
    assert total["words"][0]["box"][2] <= total["words"][1]["box"][0]
    assert not {"angle", "vertical", "source"} & set(total)


def test_blocks_of_a_page_on_its_side_say_how_their_text_runs() -> None:
    quad: Quad = (380, 20, 380, 200, 350, 200, 350, 20)
    section = Section.of([line("Sideways text", 20, 20, 200, 50, quad=quad)])
    _, [block] = answer(Reading(400, 300, (section,), quarters=1), is_markdown=False)
    assert (block["box"], block["angle"]) == ([350, 20, 380, 200], 90.0)


def test_characters_that_stand_under_each_other_are_vertical_and_not_turned() -> None:
    column = line("第一条の規定", 300, 20, 330, 200, vertical=True)
    _, [block] = answer(Reading.of(400, 300, [column]), is_markdown=False)
    assert block["vertical"] is True
    assert "angle" not in block


def test_the_pages_own_text_needs_no_score_and_a_mixed_page_says_the_source_of_each_block() -> None:
    lines = [
        line("own", 10, 10, 60, 30, source="text_layer"),
        line("drawn", 10, 100, 60, 120, score=0.8, source="read"),
    ]
    _, [own, drawn] = answer(Reading(100, 200, (Section.of(lines),), is_mixed=True), is_markdown=False)
    assert (own["source"], "score" in own) == ("text_layer", False)
    assert (drawn["source"], drawn["score"]) == ("read", 0.8)
    _, [own, _] = answer(Reading(100, 200, (Section.of(lines),)), is_markdown=False)
    assert "source" not in own


def test_sections_are_answered_one_after_the_other() -> None:
    sections = (Section.of([line("first", 0, 100, 50, 120)]), Section.of([line("aside", 0, 0, 50, 20)]))
    assert answer(Reading(100, 200, sections), is_markdown=False)[0] == "first\n\naside"


# -- as JSON


def test_a_reading_survives_json() -> None:
    fields = json.loads(json.dumps(PAGE.to_dict()))
    again = reading_of(fields)
    assert again.to_dict() == PAGE.to_dict()
    for is_markdown in (True, False):
        assert answer(again, is_markdown=is_markdown) == answer(PAGE, is_markdown=is_markdown)


A = {"text": "a", "box": [0, 0, 1, 1]}
ONE: list[dict[str, object]] = [{"kind": "line", "rows": [[[0]]]}]


@pytest.mark.parametrize(
    "change",
    [
        {"sections": [{"lines": [A], "elements": []}]},
        {"sections": [{"lines": [], "elements": ONE}]},
        {"sections": [{"lines": [{"text": 5, "box": [0, 0, 1, 1]}], "elements": ONE}]},
        {"width": "wide"},
        {"width": 0},
        {"skew": math.nan},
        {"sections": [{"lines": [A], "elements": [ONE[0] | {"level": 10**11}]}]},
        {"sections": [{"lines": [A], "elements": [*ONE, {"kind": "table", "rows": []}]}]},
        {"sections": [{"lines": [A], "elements": [{"kind": "list", "rows": [[[0], []]]}]}]},
        {
            "sections": [
                {
                    "lines": [{"text": "a", "box": [0, 0, 1, 1], "words": [[0, 9, [0] * 8]]}],
                    "elements": ONE,
                }
            ]
        },
        {"sections": [{"lines": [{"text": "a", "box": [0, 0, math.inf, 1]}], "elements": ONE}]},
    ],
    ids="unheld missing untyped wide narrow skew level rows cell beyond infinite".split(),  # noqa: SIM905
)
def test_what_is_no_reading_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((ValueError, ValidationError)):
        reading_of({"width": 10, "height": 10, **change})

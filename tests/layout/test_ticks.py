"""Boxes to tick become characters of the lines that they stand at."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from deepseek_ocr_mcp.layout.lines import Box, TextLine
from deepseek_ocr_mcp.layout.ticks import with_ticks
from deepseek_ocr_mcp.layout.writing import to_markdown
from drawn_lines import written


@dataclass(frozen=True)
class Tick:
    box: Box
    is_ticked: bool


def at(x: float, y: float, is_ticked: bool = True, size: float = 16) -> Tick:
    return Tick((x, y, x + size, y + size), is_ticked)


def texts(lines: list[TextLine], *ticks: Tick) -> list[str]:
    return [line.text for line in with_ticks(lines, ticks)]


def test_a_box_before_a_label_belongs_to_it() -> None:
    lines = [written("by post", 60, 60), written("by courier", 60, 100)]
    assert texts(lines, at(30, 60, False), at(30, 100)) == ["[ ] by post", "[x] by courier"]


def test_a_box_behind_a_label_belongs_to_it_where_the_next_label_is_far() -> None:
    lines = [written("Yes", 60, 60), written("No", 300, 60)]
    assert texts(lines, at(100, 60), at(340, 60, False)) == ["Yes [x]", "No [ ]"]


@pytest.mark.parametrize("seen", ["□", "O", "口"])
def test_what_a_recogniser_made_of_a_box_gives_way(seen: str) -> None:
    line = written(f"{seen} by post", 60, 60)
    assert texts([line], at(60, 60, size=(0.5 + line.centres[0]) * 20)) == ["[x] by post"]


def test_boxes_within_a_line_stand_where_they_are_drawn() -> None:
    line = written("card  transfer  cash", 60, 60)
    x1, _, x2, _ = line.box
    between = [x1 + (line.centres[n] + line.centres[n + 1]) / 2 * (x2 - x1) for n in (4, 14)]
    assert texts([line], *(at(x - 3, 60, n == 0, 6) for n, x in enumerate(between))) == ["card [x] transfer [ ] cash"]


def test_a_square_chinese_character_is_no_box() -> None:
    line = written("人口很多", 60, 60)
    assert texts([line], at(80, 60, False)) == ["人口很多"]


def test_a_box_within_a_word_is_none() -> None:
    line = written("notices", 60, 60)
    assert texts([line], at(75, 60, size=8)) == ["notices"]


@pytest.mark.parametrize(("number", "first"), [("27,300", 4), ("1.0 kg", 2), ("00:15", 0), ("Total 00", 6)])
def test_noughts_that_touch_are_no_box(number: str, first: int) -> None:
    line = written(number, 60, 60)
    x1, _, x2, _ = line.box
    begin, end = (x1 + line.centres[n] * (x2 - x1) for n in (first, min(first + 1, len(number) - 1)))
    last = begin if number[first + 1 : first + 2] != "0" else end
    assert texts([line], at((begin + last) / 2 - 6, 60, size=12)) == [number]


def test_a_box_that_stands_alone_is_kept() -> None:
    assert texts([written("Name", 60, 60)], at(400, 60)) == ["Name", "[x]"]


def test_ticked_labels_are_items_of_a_list() -> None:
    lines = with_ticks([written("by post", 60, 60), written("by courier", 60, 100)], [at(30, 60, False), at(30, 100)])
    assert to_markdown(lines) == "* [ ] by post\n* [x] by courier"

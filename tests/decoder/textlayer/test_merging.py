"""Lines that an engine read, put into those that the file holds."""

from __future__ import annotations

from deepseek_ocr_mcp.decoder.textlayer.content import Clock, Glyph, Run
from deepseek_ocr_mcp.decoder.textlayer.lines import LayerLine, Mark
from deepseek_ocr_mcp.decoder.textlayer.merging import ReadLine, merged, not_drawn_twice

CLOCK = Clock(lambda: None)


def line(text: str, y: float = 100.0, x: float = 72.0) -> LayerLine:
    """A line of the file; each character is 6 points wide."""
    run = Run(size=12)
    marks, at = [], []
    for n, char in enumerate(text):
        left = x + 6 * n
        if char == " ":
            at.append(-1)
            continue
        at.append(len(marks))
        marks.append(Mark(Glyph(char, (left, y - 9, left + 6, y), left, y, run), char, left, left + 6, y, 12, n, left))
    return LayerLine(marks, False, text, at)


def read(text: str, y: float = 100.0, x: float = 72.0, score: float = 0.95) -> ReadLine:
    return ReadLine(text, (x, y - 10, x + 6 * len(text), y + 2), score)


def texts(lines: list[LayerLine], doubtful: list[LayerLine], found: list[ReadLine]) -> tuple[list[str], list[str]]:
    out, rest = merged(lines, {id(one) for one in doubtful}, found, CLOCK)
    return [one.text for one in out], [other.text for other in rest]


def test_unknown_characters_are_taken_from_the_engine_and_all_others_stay() -> None:
    own = line("the chair\ufffds rep0rt of the club")
    assert texts([own], [own], [read("the chair's report of the club")]) == (["the chair's rep0rt of the club"], [])


def test_a_ligature_without_unicode_becomes_its_letters() -> None:
    own = line("the o\ufffdce of the club")
    assert texts([own], [own], [read("the office of the club")]) == (["the office of the club"], [])


def test_a_line_that_is_read_alike_is_exact_after_all() -> None:
    own = line("Invoice 2025-117, Total 74.50")
    assert texts([own], [own], [read("Invoice 2025-117. Tota1 74,50")]) == (["Invoice 2025-117, Total 74.50"], [])


def test_a_line_that_is_read_otherwise_is_replaced_if_the_engine_is_sure() -> None:
    own = line("Wkh surjudp lv khuh")
    assert texts([own], [own], [read("The program is here")]) == (["The program is here"], [])
    assert texts([own], [own], [read("The program is here", score=0.4)]) == (["Wkh surjudp lv khuh"], [])


def test_what_the_engine_does_not_find_stays_as_it_is() -> None:
    own = line("stu\ufffd")
    assert texts([own], [own], []) == (["stu\ufffd"], [])


def test_what_was_read_elsewhere_is_new_and_a_line_without_doubt_is_never_changed() -> None:
    own, other = line("A line of the file"), line("Another one\ufffd", y=130)
    found = [read("drawn letters", y=200), read("Another one.", y=130)]
    assert texts([own, other], [other], found) == (["A line of the file", "Another one."], ["drawn letters"])


def test_two_cells_that_were_read_as_one_line_are_both_compared() -> None:
    left, right = line("Total\ufffd"), line("74.50\ufffd", x=200)
    found = [ReadLine("Total: 74.50 €", (72, 90, 240, 102), 0.9)]
    assert texts([left, right], [left, right], found)[0] == ["Total:", "74.50€"]


def test_a_read_line_has_a_mark_for_each_character_inside_of_its_box() -> None:
    made = read("PLAN 42", score=0.7).as_line()
    assert made.text == "PLAN 42"
    assert [mark.text for mark in made.marks] == list("PLAN42")
    assert made.at == [0, 1, 2, 3, -1, 4, 5]
    assert all(mark.glyph.score == 0.7 for mark in made.marks)
    assert (made.left, made.right) == (72.0, 72.0 + 6 * 7)


def test_a_read_column_of_chinese_runs_downwards() -> None:
    made = ReadLine("縦書きの行", (100, 100, 112, 160), 0.9).as_line()
    assert made.vertical
    assert [round(mark.glyph.box[1]) for mark in made.marks] == [100, 112, 124, 136, 148]


def test_the_shadow_of_a_line_is_no_second_line() -> None:
    own = line("Annual report with 1,204.50 units")
    shadow, other = read("Annua1 report with 1,204.50 units", y=102, x=74), read("a stamp over it", y=102, x=90)
    assert not_drawn_twice([shadow, other], [own], [], CLOCK) == [other]
    assert not_drawn_twice([read("Annual report with 1,204.50 units", y=140)], [own], [], CLOCK), "a line elsewhere"


def test_a_drawn_list_mark_is_no_figure() -> None:
    own, dot = line("First point", x=90), (78.0, 93.0, 82.0, 97.0)
    figure = ReadLine("25", (78, 93, 82, 97), 0.89)
    label = ReadLine("25 pieces of it", (78, 92, 160, 98), 0.89)
    assert not_drawn_twice([figure, label], [own], [dot], CLOCK) == [label]

"""Reading order, plain text and Markdown, on layouts drawn with numbers."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek_ocr_mcp.layout.gutters import split_at_gutters
from deepseek_ocr_mcp.layout.lines import TextLine, cut
from deepseek_ocr_mcp.layout.order import arrange, reading_order
from deepseek_ocr_mcp.layout.writing import rows_around, to_markdown, to_text

CHAR = 8.0  # pixels a character is wide in these layouts
LINE = 16.0  # pixels a line is high
PROSE = "the quick brown fox jumps over a lazy dog and runs"


def line(text: str, x: float, y: float, height: float = LINE, vertical: bool = False) -> TextLine:
    """A line whose characters are all equally wide."""
    count = max(1, len(text))
    length = count * CHAR * height / LINE
    box = (x, y, x + height, y + length) if vertical else (x, y, x + length, y + height)
    return TextLine(text, box, 0.99, tuple((n + 0.5) / count for n in range(len(text))), vertical)


def column(name: str, x: float, y: float, count: int) -> list[TextLine]:
    return [line(f"{name}{n} {PROSE}", x, y + 24 * n) for n in range(count)]


def texts(lines: list[TextLine]) -> list[str]:
    return [lines[i].text for i in reading_order(lines)]


def names(lines: list[TextLine]) -> list[str]:
    return [text.split()[0] for text in texts(lines)]


def mixed(lines: list[TextLine]) -> list[TextLine]:
    """The same lines in an order that says nothing."""
    return sorted(lines, key=lambda each: each.text[::-1])


def test_lines_of_one_column_go_from_top_to_bottom() -> None:
    assert names(mixed(column("a", 50, 50, 6))) == [f"a{n}" for n in range(6)]


def test_the_left_column_is_read_before_the_right_one() -> None:
    lines = column("a", 50, 50, 8) + column("b", 500, 50, 8)
    assert names(mixed(lines)) == [f"a{n}" for n in range(8)] + [f"b{n}" for n in range(8)]


def test_three_columns_of_different_length_are_read_one_after_the_other() -> None:
    lines = column("a", 50, 50, 9) + column("b", 500, 55, 5) + column("c", 950, 47, 7)
    expected = [f"a{n}" for n in range(9)] + [f"b{n}" for n in range(5)] + [f"c{n}" for n in range(7)]
    assert names(mixed(lines)) == expected


def test_a_headline_over_both_columns_comes_first_and_a_footer_last() -> None:
    lines = [line("HEAD over the two columns of the page", 150, 20, 32)]
    lines += column("a", 50, 80, 6) + column("b", 500, 80, 6)
    lines += [line("FOOT in the middle of the page", 340, 260)]
    assert names(mixed(lines)) == ["HEAD"] + [f"a{n}" for n in range(6)] + [f"b{n}" for n in range(6)] + ["FOOT"]


def test_a_headline_in_the_middle_ends_the_columns_above_it() -> None:
    lines = column("a", 50, 50, 5) + column("b", 500, 50, 5)
    lines += [line("MIDDLE " + PROSE + " " + PROSE, 50, 190)]
    lines += column("c", 50, 230, 5) + column("d", 500, 230, 5)
    expected = [f"a{n}" for n in range(5)] + [f"b{n}" for n in range(5)] + ["MIDDLE"]
    assert names(mixed(lines)) == expected + [f"c{n}" for n in range(5)] + [f"d{n}" for n in range(5)]


def test_prices_stay_in_the_row_of_what_they_pay() -> None:
    goods = ["Bread", "Butter and jam", "Cheese", "Orange juice", "Total"]
    lines = [line(name, 30, 40 + 30 * n) for n, name in enumerate(goods)]
    lines += [line(f"{n}.50", 400, 42 + 30 * n) for n in range(5)]
    assert texts(mixed(lines)) == [text for n, name in enumerate(goods) for text in (name, f"{n}.50")]


def test_the_row_around_a_word_holds_what_stands_beside_it_and_comes_once() -> None:
    lines = [
        line("Subtotal", 50, 50), line("4.30", 400, 50),
        line("VAT", 50, 80), line("0.70", 400, 80),
        line("TOTAL", 50, 110), line("5.00", 400, 110),
    ]  # fmt: skip
    elements = arrange(lines)
    assert rows_around(lines, elements, [[0], [4]]) == "Subtotal 4.30\nTOTAL 5.00"
    assert rows_around(lines, elements, [[4], [5], [4]]) == "TOTAL 5.00"
    assert rows_around(lines, elements, [[2, 4]]) == "VAT 0.70 TOTAL 5.00"
    assert rows_around(lines, elements, []) == ""


def test_vertical_lines_go_from_right_to_left() -> None:
    lines = [
        line(text, x, 40, vertical=True) for text, x in (("第三行です", 40), ("第一行です", 120), ("第二行です", 80))
    ]
    assert texts(lines) == ["第一行です", "第二行です", "第三行です"]


def test_a_headline_over_one_column_that_stands_apart_belongs_to_both() -> None:
    lines = [line("FIRST story", 50, 20, 34), *column("a", 50, 80, 6), *column("b", 500, 80, 5)]
    lines += [line("SECOND story", 50, 260, 34), *column("c", 50, 320, 6), *column("d", 500, 320, 6)]
    expected = ["FIRST", *(f"a{n}" for n in range(6)), *(f"b{n}" for n in range(5))]
    expected += ["SECOND", *(f"c{n}" for n in range(6)), *(f"d{n}" for n in range(6))]
    assert names(mixed(lines)) == expected


def test_what_stands_over_the_middle_column_comes_first_and_a_page_number_last() -> None:
    lines = [line("TITLE", 660, 20, 36), line("by somebody", 660, 80)]
    lines += [each for n, name in enumerate("abc") for each in column(name, 50 + 450 * n, 120, 8)]
    lines.append(line("17 -", 690, 380))
    assert names(mixed(lines)) == ["TITLE", "by", *(f"{c}{n}" for c in "abc" for n in range(8)), "17"]


def test_small_notes_in_the_margin_follow_the_text_beside_them() -> None:
    def note(text: str, y: float) -> TextLine:
        return TextLine(text, (20, y, 20 + 5 * len(text), y + 11), 0.99)

    lines = [*column("a", 200, 50, 8), note("see the map", 52), note("and page nine", 148)]
    assert names(mixed(lines)) == [*(f"a{n}" for n in range(8)), "see", "and"]


def test_numbers_in_the_margin_stay_with_their_paragraphs() -> None:
    lines = column("a", 200, 50, 8)
    lines += [TextLine(f"{n}.", (150, 52 + 96 * n, 160, 63 + 96 * n), 0.99) for n in range(2)]
    assert names(mixed(lines)) == ["0.", "a0", "a1", "a2", "a3", "1.", "a4", "a5", "a6", "a7"]


HEBREW = "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd"  # peace, world


def leftwards(text: str, right: float, y: float) -> TextLine:
    """A line of Hebrew that begins at `right`."""
    words = f"{text} {' '.join([HEBREW] * 4)}"
    return TextLine(words, (right - CHAR * len(words), y, right, y + LINE), 0.99)


def test_columns_of_a_script_that_runs_to_the_left_go_from_right_to_left() -> None:
    lines = [leftwards(f"{name}{n}", right, 50 + 24 * n) for name, right in (("a", 950), ("b", 480)) for n in range(6)]
    assert names(mixed(lines)) == [f"{name}{n}" for name in "ab" for n in range(6)]


def test_cells_of_a_script_that_runs_to_the_left_go_from_right_to_left() -> None:
    def cell(text: str, right: float, y: float) -> TextLine:
        return TextLine(f"{HEBREW[:4]} {text}", (right - 80, y, right, y + LINE), 0.99)

    lines = [cell(f"{name}{r}", right, 40 + 30 * r) for r in range(3) for name, right in (("a", 600), ("b", 300))]
    word = HEBREW[:4]
    assert to_markdown(mixed(lines)) == (
        f"| {word} a0 | {word} b0 |\n| --- | --- |\n| {word} a1 | {word} b1 |\n| {word} a2 | {word} b2 |"
    )


def test_the_title_of_a_vertical_page_is_its_first_column() -> None:
    lines = [line("縦書きの題名", 300, 40, 28, vertical=True)]
    lines += [
        line(text, x, 40, vertical=True) for text, x in (("一行目はこう始まる長い行", 250), ("二行目は続きである", 220))
    ]
    assert [text[:2] for text in texts(mixed(lines))] == ["縦書", "一行", "二行"]


def test_aligned_cells_become_a_markdown_table() -> None:
    rows = [
        ("Name", "Year", "Sum"),
        ("Port Ellery", "1874", "48,210"),
        ("Stone Ferry", "", "12,640"),
        ("All", "", "9|1"),
    ]
    lines = [
        line(cell, (30, 300, 420)[c], 40 + 30 * r) for r, row in enumerate(rows) for c, cell in enumerate(row) if cell
    ]
    assert to_markdown(mixed(lines)) == (
        "| Name | Year | Sum |\n| --- | --- | --- |\n"
        "| Port Ellery | 1874 | 48,210 |\n| Stone Ferry |  | 12,640 |\n| All |  | 9\\|1 |"
    )


def test_a_cell_of_two_lines_is_one_cell() -> None:
    lines = [
        line(cell, x, 40 + 60 * r) for r in range(4) for cell, x in ((f"row{r}", 30), (f"{r}0", 300), (f"{r}1", 420))
    ]
    lines.append(line("more", 30, 40 + 60 + 19))
    assert "| row1 more | 10 | 11 |" in to_markdown(mixed(lines))


def test_totals_under_the_gap_between_two_columns_make_no_column() -> None:
    rows = [("Item", "Count", "Price", "Sum"), ("Bread", "2", "1.50", "3.00"), ("Jam", "1", "4.20", "4.20")]
    lines = [
        line(cell, (30, 300, 480, 640)[c], 40 + 30 * r) for r, row in enumerate(rows) for c, cell in enumerate(row)
    ]
    lines += [line("Net", 390, 140), line("7.20", 640, 140), line("All", 390, 170), line("8.64", 640, 170)]
    written = to_markdown(mixed(lines)).splitlines()
    assert written[0] == "| Item | Count | Price | Sum |"
    assert written[-1] == "|  | All |  | 8.64 |"


def test_lines_of_a_log_are_not_joined() -> None:
    lines = [line(f"[{n}] {PROSE}", 50, 50 + 24 * n) for n in range(4)]
    assert to_markdown(lines).splitlines() == [each.text for each in lines]


def test_without_columns_and_tables_rows_are_read_across() -> None:
    lines = column("a", 50, 50, 8) + column("b", 500, 50, 8)
    elements = arrange(lines, columns=False, tables=False)
    assert [lines[i].text[:2] for element in elements for i in element.lines][:4] == ["a0", "b0", "a1", "b1"]
    assert {element.kind for element in elements} == {"line"}


def test_larger_lines_become_headings_by_size() -> None:
    lines = [line("The Title", 50, 20, 40), line("A Section", 50, 100, 26), *column("a", 50, 150, 5)]
    markdown = to_markdown(mixed(lines)).split("\n\n")
    assert markdown[:2] == ["# The Title", "## A Section"]
    assert len(markdown) == 3


def test_the_level_of_a_heading_does_not_depend_on_the_others_of_its_page() -> None:
    body = column("A", 50, 150, 5)
    alone = [line("A Small Section", 50, 100, 21), *body]
    assert to_markdown(mixed(alone)).startswith("## A Small Section\n")
    both = [line("The Title", 50, 20, 40), *alone]
    assert to_markdown(mixed(both)).startswith("# The Title\n\n## A Small Section\n")


def test_large_type_alone_makes_no_headings() -> None:
    assert to_markdown([line("EXIT ONLY", 10, 10, 90)]) == "EXIT ONLY"


def test_lines_of_a_paragraph_are_joined_and_hyphens_healed() -> None:
    lines = [
        line("A paragraph whose last word is bro-", 50, 50),
        line("ken at the end, and that goes on to a", 50, 74),
        line("third line. Well-known words keep it.", 50, 98),
    ]
    assert to_markdown(lines) == (
        "A paragraph whose last word is broken at the end, and that goes on to a third line. Well-known words keep it."
    )
    assert to_text(lines).count("\n") == 2


def test_a_paragraph_that_ends_early_is_followed_by_an_empty_line() -> None:
    rows = ["This is a lot of text that is set in", "two paragraphs.", *["The quick brown fox jumped over a dog"] * 2]
    lines = [line(text, 50, 50 + 24 * n) for n, text in enumerate(rows)]
    assert to_markdown(lines) == f"{rows[0]} {rows[1]}\n\n{rows[2]} {rows[3]}"


def test_short_lines_keep_their_line_breaks() -> None:
    lines = [line(text, 50, 50 + 24 * n) for n, text in enumerate(("Mira Hale", "18 Harbour Street", "Port Ellery"))]
    assert to_markdown(lines) == "Mira Hale\n18 Harbour Street\nPort Ellery"


def test_chinese_lines_are_joined_without_a_space() -> None:
    text = "这是一个很长的段落用来测试换行的时候是否会加入空格"
    lines = [line(text, 50, 50 + 24 * n) for n in range(2)]
    assert to_markdown(lines) == text + text


def test_list_marks_become_list_items() -> None:
    lines = [line("• first thing", 50, 50), line("● second thing", 50, 74), line("3. third thing", 50, 98)]
    assert to_markdown(lines) == "- first thing\n- second thing\n3. third thing"


def test_a_gap_begins_a_new_paragraph() -> None:
    lines = column("a", 50, 50, 3) + column("b", 50, 150, 3)
    assert [chunk.split()[0] for chunk in to_markdown(lines).split("\n\n")] == ["a0", "b0"]


def joined(left: str, right: str, y: float) -> TextLine:
    """Two columns that a detector took for one line: three characters of white between them."""
    whole = line(f"{left}{' ' * 3}{right}", 50, y)
    kept = [n for n, char in enumerate(whole.text) if n < len(left) + 1 or n >= len(left) + 3]
    return TextLine("".join(whole.text[n] for n in kept), whole.box, whole.score, tuple(whole.centres[n] for n in kept))


def test_lines_joined_across_a_gutter_are_cut_there() -> None:
    lines = [
        joined(f"a{n} of the left one as it is in print", f"b{n} of the right one as it is too", 50 + 24 * n)
        for n in range(8)
    ]
    pieces = split_at_gutters(lines)
    assert [piece.line for piece in pieces] == [n for n in range(8) for _ in "ab"]
    parts = [cut(lines[piece.line], piece) for piece in pieces]
    assert names(parts) == [f"a{n}" for n in range(8)] + [f"b{n}" for n in range(8)]
    assert all(part.box[2] < 50 + 39 * CHAR for part in parts if part.text[0] == "a")


def test_word_spaces_of_a_single_column_cut_nothing() -> None:
    lines = column("a", 50, 50, 9)
    assert [(piece.start, piece.stop) for piece in split_at_gutters(lines)] == [(0, len(each.text)) for each in lines]


def test_five_thousand_lines_take_no_quadratic_work() -> None:
    lines = [line(f"{c}-{r} {PROSE[:20]}", 40 + 300 * c, 40 + 24 * r) for c in range(10) for r in range(500)]
    started = time.process_time()
    order = reading_order(lines)
    assert time.process_time() - started < 20, "quadratic work would take minutes"
    assert sorted(order) == list(range(5000))


def test_five_thousand_cells_in_one_row_take_no_longer() -> None:
    lines = [line("12 34", 70 * n, 40) for n in range(5000)]
    started = time.process_time()
    assert reading_order(lines) == list(range(5000))
    assert time.process_time() - started < 20, "quadratic work would take minutes"


coordinate = st.floats(-50, 3000, allow_nan=False)
length = st.floats(0, 900, allow_nan=False)
some_text = st.text(max_size=30)


@st.composite
def any_line(draw: st.DrawFn) -> TextLine:
    text, x, y = draw(some_text), draw(coordinate), draw(coordinate)
    centres = tuple(sorted(draw(st.floats(0, 1)) for _ in text)) if draw(st.booleans()) else ()
    return TextLine(text, (x, y, x + draw(length), y + draw(length)), 1.0, centres, draw(st.booleans()))


@settings(max_examples=150, deadline=None)
@given(st.lists(any_line(), max_size=40))
def test_reading_order_is_a_permutation_and_writing_never_fails(lines: list[TextLine]) -> None:
    elements = arrange(lines)
    order = [i for element in elements for i in element.lines]
    assert sorted(order) == list(range(len(lines)))
    assert order == reading_order(lines)
    assert isinstance(to_markdown(lines, elements), str)
    words = sorted(word for each in lines for word in each.text.split())
    assert sorted(to_text(lines, elements).split()) == words


@settings(max_examples=150, deadline=None)
@given(st.lists(any_line(), max_size=20))
def test_cutting_lines_loses_nothing_but_spaces(lines: list[TextLine]) -> None:
    pieces = split_at_gutters(lines)
    for n, whole in enumerate(lines):
        parts = [cut(whole, piece) for piece in pieces if piece.line == n]
        assert "".join("".join(part.text.split()) for part in parts) == "".join(whole.text.split())
        for part in parts:
            assert part.box[0] >= whole.box[0] - 1
            assert part.box[2] <= whole.box[2] + 1

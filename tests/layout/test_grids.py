"""Rules that are drawn around text: lines go into the cells, on a PDF page and in a picture alike."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek_ocr_mcp.layout.grids import arrange_with_rules
from deepseek_ocr_mcp.layout.gutters import split_at_gutters
from deepseek_ocr_mcp.layout.lines import TextLine, cut
from deepseek_ocr_mcp.layout.writing import to_markdown
from drawn_lines import paragraph, row, written

Rules = list[tuple[float, float, float, float]]
XS = [50.0, 200.0, 350.0, 500.0]


def level(y: float, x1: float = XS[0], x2: float = XS[-1]) -> tuple[float, float, float, float]:
    return x1, y - 1, x2, y + 1


def upright(x: float, y1: float, y2: float) -> tuple[float, float, float, float]:
    return x - 1, y1, x + 1, y2


def boxed(ys: list[float], xs: list[float] = XS) -> Rules:
    """A box around each cell."""
    return [*(level(y, xs[0], xs[-1]) for y in ys), *(upright(x, ys[0], ys[-1]) for x in xs)]


def cells(texts: list[str], y: float) -> list[TextLine]:
    return row(texts, [x + 8 for x in XS[: len(texts)]], y + 10)


def markdown(lines: list[TextLine], rules: Rules) -> str:
    parts = [cut(lines[piece.line], piece) for piece in split_at_gutters(lines, rules)]
    return to_markdown(parts, arrange_with_rules(parts, rules))


def test_a_row_over_the_whole_width_names_the_rows_below_it() -> None:
    ys = [100.0, 140, 180, 220, 260, 300, 340]
    rules = [level(y) for y in ys]
    rules += [upright(x, ys[0], ys[-1]) for x in (XS[0], XS[-1])]
    rules += [upright(x, y1, y2) for x in XS[1:-1] for n, (y1, y2) in enumerate(pairwise(ys)) if n not in (1, 4)]
    texts = [["Kind", "Old", "New"], ["Small boats, all"], ["Sails", "6745", "171"], ["Nets", "4438", "4656"],
             ["Large boats, all"], ["Lamps", "9836", "4086"]]  # fmt: skip
    lines = [line for y, row_texts in zip(ys, texts, strict=False) for line in cells(row_texts, y)]
    assert markdown(lines, rules).splitlines() == [
        "| Kind | Old | New |",
        "| --- | --- | --- |",
        "| Small boats, all |  |  |",
        "| Sails | 6745 | 171 |",
        "| Nets | 4438 | 4656 |",
        "| Large boats, all |  |  |",
        "| Lamps | 9836 | 4086 |",
    ]


def test_a_row_begins_where_upright_rules_do_though_none_is_drawn_there() -> None:
    rules = [level(100), level(140), level(220), level(260)]
    rules += [upright(x, 100, 260) for x in (XS[0], XS[-1])]
    rules += [upright(x, y1, y2) for x in XS[1:-1] for y1, y2 in ((100, 140), (180, 260))]
    lines = [*cells(["Kind", "Old", "New"], 100), *cells(["SMALL (below 2.0)"], 140)]
    lines += [*cells(["I", "39053", "121"], 180), *cells(["II", "7429", "208"], 220)]
    assert "| SMALL (below 2.0) |  |  |\n| I | 39053 | 121 |\n| II | 7429 | 208 |" in markdown(lines, rules)


def test_a_table_that_says_that_it_is_empty_keeps_its_heading() -> None:
    rules = [level(100), level(140), level(180), *(upright(x, 100, 140) for x in XS), upright(XS[0], 140, 180)]
    rules.append(upright(XS[-1], 140, 180))
    lines = [*cells(["Claim", "Type", "Status"], 100), *cells(["No results"], 140)]
    assert markdown(lines, rules) == "| Claim | Type | Status |\n| --- | --- | --- |\n| No results |  |  |"


def test_names_left_of_a_grid_are_the_first_cells_of_its_rows() -> None:
    ys = [100.0, 140, 180, 220]
    rules = boxed(ys, XS[1:])
    texts = [["Alder Bay", "14", "1"], ["Birch Hill", "9", "2"], ["Cedar", "1", "3"]]
    lines = [line for y, cell in zip(ys, texts, strict=False) for line in row(cell, [60, 210, 360], y + 10)]
    assert "| Birch Hill | 9 | 2 |" in markdown(lines, rules)


def test_a_paragraph_left_of_a_grid_stays_out_of_it() -> None:
    rules = boxed([100, 140, 180, 220], [700, 800, 900])
    lines = [line for n in range(3) for line in row([f"{n}4", f"{n}9"], [710, 810], 110 + 40 * n)]
    prose = paragraph([f"Rain fell without end from Monday on, and all of the {n} meadows" for n in range(4)], 50, 95)
    assert "| 04 | 09 |" in markdown([*lines, *prose], rules)


def test_cells_of_several_lines_are_put_together() -> None:
    lines = [*cells(["Work", "Done", "Open"], 100)]
    for n, y in enumerate((140, 220)):
        for k in range(2):
            lines += cells([f"job {n}{k}", f"done {n}{k}", f"open {n}{k}"], y + 30 * k)
    assert "| job 10 job 11 | done 10 done 11 | open 10 open 11 |" in markdown(lines, boxed([100, 140, 220, 300]))


def test_lines_that_a_rule_parts_are_cut_there() -> None:
    lines = [*cells(["Name", "Year", "Sum"], 100), written("Port Ellery 1874 48,210", 58, 150, 30)]
    x1, _, x2, _ = lines[-1].box
    assert x1 < XS[1] < XS[2] < x2
    lines += cells(["All", "", "9"], 180)
    table = markdown(lines, boxed([100, 140, 180, 220]))
    assert table.count("|") == 16
    assert "Port Ellery 1874 48,210" not in table


def test_the_boxes_of_a_diagram_are_no_table() -> None:
    rules = boxed([100, 200, 300, 400, 500], [50, 150, 250, 350, 450])
    lines = [written("pump", 60, 130), written("valve", 260, 330)]
    assert "|" not in markdown(lines, rules)


def test_columns_with_a_frame_around_them_are_read_one_after_the_other() -> None:
    rules = boxed([50, 700], [50, 420, 800])
    texts = [f"line {n} of a column that goes on" for n in range(20)]
    lines = [
        *paragraph([f"left {text}" for text in texts], 60, 60),
        *paragraph([f"right {text}" for text in texts], 430, 60),
    ]
    text = markdown(lines, rules)
    assert "|" not in text
    assert text.index("left line 19") < text.index("right line 0")


place = st.integers(0, 12).map(lambda n: 40.0 * n)


@st.composite
def any_rule(draw: st.DrawFn) -> tuple[float, float, float, float]:
    x, y, long = draw(place), draw(place), draw(place)
    return (x, y, x + long, y + 1) if draw(st.booleans()) else (x, y, x + 1, y + long)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(any_rule(), max_size=30),
    st.lists(st.tuples(place, place, st.sampled_from(["a", "12", "some text"])), max_size=20),
)
def test_every_line_is_in_exactly_one_element(rules: Rules, texts: list[tuple[float, float, str]]) -> None:
    lines = [written(text, x, y) for x, y, text in texts]
    order = [i for element in arrange_with_rules(lines, rules) for i in element.lines]
    assert sorted(order) == list(range(len(lines)))
    for element in arrange_with_rules(lines, rules):
        assert len({len(cells_of_row) for cells_of_row in element.rows}) == 1


# -- rows between level rules, or on colours


def ruled(rows: list[tuple[list[list[str]], float]]) -> tuple[list[TextLine], Rules]:
    """Rows with the lines of their cells, each as high as it says, with a level rule over and under each."""
    lines: list[TextLine] = []
    rules, y = [level(100.0)], 100.0
    for texts, high in rows:
        for x, cell in zip(XS, texts, strict=False):
            lines += [written(text, x + 4, y + 8 + 24 * n, 18) for n, text in enumerate(cell)]
        y += high
        rules.append(level(y))
    return lines, rules


def test_the_lines_of_a_cell_between_two_level_rules_are_one_cell() -> None:
    lines, rules = ruled(
        [
            ([["Risk"], ["Measure"], ["Owner"]], 36),
            ([["Loss of the", "supplier"], ["Stock is", "doubled"], ["Buying"]], 60),
            ([["Fire"], ["Sprinklers,", "checked"], ["Facility", "management"]], 60),
            ([["Currency"], ["Hedges"], ["Treasury"]], 36),
        ]
    )
    assert markdown(lines, rules).splitlines() == [
        "| Risk | Measure | Owner |",
        "| --- | --- | --- |",
        "| Loss of the supplier | Stock is doubled | Buying |",
        "| Fire | Sprinklers, checked | Facility management |",
        "| Currency | Hedges | Treasury |",
    ]


def test_rows_with_figures_between_two_level_rules_stay_apart() -> None:
    lines, rules = ruled(
        [
            ([["Place"], ["Kind"], ["Count"]], 36),
            ([["North", "South"], ["Boats", "Sails"], ["12", "7"]], 60),
            ([["East"], ["Oars"], ["31"]], 36),
            ([["Total"], [], ["50"]], 36),
        ]
    )
    assert markdown(lines, rules).splitlines()[2:4] == ["| North | Boats | 12 |", "| South | Sails | 7 |"]


def test_rows_are_told_by_their_colours_where_no_rule_is_drawn() -> None:
    lines, _ = ruled(
        [
            ([["Product"], ["Units"], ["Share"]], 36),
            ([["Chairs of", "oak"], ["12"], ["12%"]], 60),
            ([["Tables"], ["3"], ["9%"]], 36),
            ([["Lamps"], ["140"], ["1%"]], 36),
        ]
    )
    fills = [(50.0, 100.0, 500.0, 136.0), (50.0, 196.0, 500.0, 232.0)]
    fills += [(50.0, 136.0, 500.0, 196.0)]
    assert to_markdown(lines, arrange_with_rules(lines, [], fills=fills)).splitlines() == [
        "| Product | Units | Share |",
        "| --- | --- | --- |",
        "| Chairs of oak | 12 | 12% |",
        "| Tables | 3 | 9% |",
        "| Lamps | 140 | 1% |",
    ]


def test_a_coloured_row_of_names_over_a_grid_is_the_first_row_of_its_table() -> None:
    ys = [136.0, 172.0, 208.0]
    lines = [
        *cells(["Region", "Spring", "Summer"], 100),
        *cells(["North", "12", "7"], 136),
        *cells(["South", "9", "4"], 172),
    ]
    table = arrange_with_rules(lines, boxed(ys), fills=[(50.0, 100.0, 500.0, 136.0)])
    assert to_markdown(lines, table).splitlines()[0] == "| Region | Spring | Summer |"


def test_paragraphs_between_level_rules_are_no_table() -> None:
    texts = [
        "The ferry leaves the quay at seven",
        "It comes back in the evening",
        "Nobody goes on Sundays",
        "Ask at the inn",
    ]
    lines = [written(text, 54, 108 + 40 * n) for n, text in enumerate(texts)]
    assert "|" not in markdown(lines, [level(100.0 + 40 * n) for n in range(5)])


def test_a_dash_that_stands_in_its_column_is_a_cell_and_no_list_mark() -> None:
    cells = ["North", "120", "4.5 %", "South", "98", "3.1 %", "West", "—", "—"]
    places = [(69, 94), (110, 127), (140, 167)]
    lines = [TextLine(text, (*_side(n, places, 0), *_side(n, places, 1)), 1.0) for n, text in enumerate(cells)]
    [table] = arrange_with_rules(lines, [], fills=[(63, 302, 173, 320), (63, 336, 173, 354)])
    assert table.rows == (((0,), (1,), (2,)), ((3,), (4,), (5,)), ((6,), (7,), (8,)))


def test_a_list_below_a_table_is_no_row_of_it() -> None:
    cells = ["North", "120", "4.5 %", "South", "98", "3.1 %", "West", "14", "0.2 %"]
    places = [(69, 94), (110, 127), (140, 167)]
    lines = [TextLine(text, (*_side(n, places, 0), *_side(n, places, 1)), 1.0) for n, text in enumerate(cells)]
    lines += [TextLine("•", (86.0, 360.0, 90.0, 364.0), 1.0), TextLine("First point", (98.0, 357.0, 150.0, 368.0), 1.0)]
    table, *_ = arrange_with_rules(lines, [], fills=[(63, 302, 173, 320), (63, 336, 173, 354)])
    assert len(table.rows) == 3


def _side(n: int, places: list[tuple[int, int]], end: int) -> tuple[float, float]:
    """The left and the upper, or the right and the lower side of the `n`th cell of three columns."""
    return float(places[n % 3][end]), 305.0 + 17 * (n // 3) + 11 * end


def test_the_stems_of_large_letters_cut_no_line() -> None:
    """A picture's finder of rules takes the stems of a headline's letters for rules: these were found in one."""
    headline = replace(written("The New Bridge", 135, 156, 37), box=(135.1, 155.6, 441.9, 185.3))
    rules = [(131.6, 154.8, 159.2, 160.3), (378.1, 180.2, 423.4, 181.3)]
    rules += [(x, 154.8, x + 6, 187.9) for x in (140.4, 159.2, 218.9, 237.7, 316.2, 388.0)]
    rules.append((413.5, 164.7, 419.0, 193.5))
    lines = [headline, *paragraph(["The council met on Tuesday to discuss the bridge,"] * 4, 135, 223)]
    assert [piece.stop - piece.start for piece in split_at_gutters(lines, rules)] == [len(line.text) for line in lines]

"""What a careful reader keeps together and what apart: columns, headings, lists, tables, programs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deepseek_ocr_mcp.layout.gutters import split_at_gutters
from deepseek_ocr_mcp.layout.lines import TextLine, cut
from deepseek_ocr_mcp.layout.order import arrange
from deepseek_ocr_mcp.layout.writing import to_markdown, to_text
from drawn_lines import paragraph, row, vertical, written

LEFT = [
    "The ferry leaves the quay at seven in the",
    "morning and comes back in the evening with",
    "the last of the market women and what they",
    "have not sold, which on most days is very",
    "little, because the town likes its fish and",
    "pays for it without a word. In winter the",
    "boat stays in the harbour for weeks, and so",
    "nobody goes anywhere at all.",
]
RIGHT = [
    "Rain fell from Monday to Thursday, and the",
    "lower meadows stood under water. The bridge",
    "was closed, and the baker carried his bread",
    "across on a raft, which two boys had made",
    "of barrels and an old door. When the sun",
    "came out, people said that they would miss",
    "the quiet, and some of them built rafts of",
    "their own for the next flood.",
]


def columns(parted_at: int, gap: float) -> list[TextLine]:
    """Two columns with white for an inset between two of their lines."""
    lines = []
    for texts, x in ((LEFT, 60), (RIGHT, 560)):
        for n, text in enumerate(texts):
            lines.append(written(text, x, 60 + n * 28 + (gap if n >= parted_at else 0)))
    return lines


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_quotation_across_the_gutter_does_not_tear_the_columns() -> None:
    inset = written("It would miss the quiet, the town said", 250, 60 + 4 * 28 + 30, 30)
    markdown = flat(to_markdown([*columns(4, 110), inset]))
    assert flat(" ".join(LEFT)) in markdown
    assert flat(" ".join(RIGHT)) in markdown
    assert markdown.endswith("the town said")


def test_a_headline_between_two_stories_parts_them() -> None:
    above = paragraph(["One story is told here in full length.", "It ends with this line."], 60, 60)
    above += paragraph(["Another stands beside it on the right.", "It ends here, too."], 560, 60)
    below = paragraph(["The third begins in the left column, and", "it is done."], 60, 260)
    below += paragraph(["The fourth is at its right, as could be", "expected."], 560, 260)
    texts = to_text([*below, *above, written("A headline over both of the columns", 60, 180, 36)])
    places = [texts.index(part) for part in ("One", "Another", "A headline", "The third", "The fourth")]
    assert places == sorted(places)


def test_a_table_over_both_columns_is_not_cut_at_their_gutter() -> None:
    rows = [["Year", "Arrived", "Left", "Sunk"], *([str(1990 + n), f"{n}4", f"{n}7", str(n)] for n in range(5))]
    table = [line for n, cells in enumerate(rows) for line in row(cells, [60, 320, 620, 820], 320 + 30 * n)]
    below = [
        TextLine(each.text, (each.box[0], each.box[1] + 480, each.box[2], each.box[3] + 480), each.score, each.centres)
        for each in columns(9, 0)
    ]
    markdown = to_markdown([*columns(9, 0), *table, *below])
    assert "| Year | Arrived | Left | Sunk |" in markdown
    assert "| 1993 | 34 | 37 | 3 |" in markdown
    assert markdown.index("their own for the next flood") < markdown.index("1990") < markdown.rindex("The ferry leaves")


def test_names_over_both_columns_are_read_across() -> None:
    names = [
        line
        for n in range(2)
        for line in row([f"Mira {n}", f"Jonas Peck {n}", f"Ada {n}"], [160, 430, 800], 60 + 28 * n)
    ]
    lines = [
        *names,
        *(
            TextLine(each.text, (each.box[0], each.box[1] + 90, each.box[2], each.box[3] + 90))
            for each in columns(9, 0)
        ),
    ]
    assert to_text(lines).splitlines()[0] == "Mira 0 Jonas Peck 0 Ada 0"


def test_a_list_beside_prose_is_a_column() -> None:
    lines = paragraph([f"{n} spoons of honey" for n in range(8)], 60, 60)
    lines += paragraph(LEFT, 400, 60)
    assert flat(" ".join(LEFT)) in flat(to_markdown(lines))


def test_the_columns_of_an_index_are_read_one_after_the_other() -> None:
    entries = ["Anchors, 4, 18", "Boats, 7", "Clocks, 30, 31", "Ferry, 2", "Harbour, 9, 44", "Lamps, 12"]
    more = ["Mill, 80", "Nets, 3, 17", "Oak, 41", "Quay, 1, 2", "Rafts, 66", "Tides, 5"]
    lines = [*paragraph(entries, 60, 60), *paragraph(more, 400, 60)]
    assert [text for text in to_text(lines).split("\n") if text] == [*entries, *more]


def test_two_tables_side_by_side_are_two() -> None:
    lines = []
    for x, boats in ((60.0, ("Gull", "Tern", "Swift")), (620.0, ("Heron", "Crane", "Petrel"))):
        lefts = [x, x + 160, x + 300]
        lines += row(["Boat", "Leaves", "Back"], lefts, 60)
        lines += [
            line for n, boat in enumerate(boats) for line in row([boat, f"{n}:15", f"{n}:40"], lefts, 95 + 35 * n)
        ]
    tables = to_markdown(lines).split("\n\n")
    assert [table.splitlines()[2] for table in tables] == ["| Gull | 0:15 | 0:40 |", "| Heron | 0:15 | 0:40 |"]


def test_headings_beside_their_paragraphs_come_before_them() -> None:
    lines = []
    for n, name in enumerate(("Delivery", "Returns", "Privacy")):
        y = 60 + n * 160
        lines += [written(name, 60, y), *paragraph([f"{line} {n}" for line in LEFT[:3]], 400, y)]
    chunks = to_markdown(lines).split("\n\n")
    assert [chunk.split()[0] for chunk in chunks] == ["Delivery", "The", "Returns", "The", "Privacy", "The"]


def test_a_label_and_its_value_are_one_row() -> None:
    pairs = [
        ("Length over all, in metres", "42.6"),
        ("Engine, and the year of its building", "two diesel engines of 480 kW each, 1961"),
        ("Fuel, and where it comes from", "marine gas oil, by barge from Stone Ferry"),
        ("Crew, from the master to the cook", "a master, two mates, eleven hands and him"),
        ("Port of registry, and of her name", "Port Ellery, as everybody in it knows"),
    ]
    lines = [line for n, pair in enumerate(pairs) for line in row(list(pair), [60, 560], 60 + 45 * n)]
    assert "| Crew, from the master to the cook | a master, two mates, eleven hands and him |" in to_markdown(lines)


def test_vertical_lines_in_two_tiers_are_read_tier_by_tier() -> None:
    upper = ["春の法律の一部を改める", "政令をここに定める第一", "条の二の規定に基づき次", "のとおり改正するものと"]
    lower = ["附則この政令は公布の日", "から起算して三月を経過", "した日から施行するもの", "とし経過措置は別に定め"]
    tiers = [upper, lower]
    lines = [
        vertical(text, 400 - 40 * n, 60 + 300 * t) for t, texts in enumerate(tiers) for n, text in enumerate(texts)
    ]
    assert to_markdown(lines[::-1]) == "\n\n".join("".join(texts) for texts in tiers)


def test_tiers_that_a_detector_joined_are_cut() -> None:
    upper, lower = "春の法律の一部を改める", "附則この政令は公布の日"
    lines = []
    for n in range(4):
        centres = tuple((k + 0.5 + (1.5 if k >= len(upper) else 0)) / 23.5 for k in range(len(upper + lower)))
        lines.append(TextLine(upper + lower, (400 - 40 * n, 60, 420 - 40 * n, 530), 0.99, centres, vertical=True))
    pieces = split_at_gutters(lines)
    assert [lines[piece.line].text[piece.start : piece.stop] for piece in pieces] == [upper, lower] * 4


def test_a_title_from_left_to_right_stands_above_vertical_lines() -> None:
    body = [vertical("駅前の小さな本屋は夜九時まで開いている", 600 - 40 * n, 120) for n in range(3)]
    assert to_markdown([*body, written("港の便り", 300, 40, 30)]).startswith("## 港の便り\n\n駅前")


# -- headings


def test_a_line_that_is_stretched_to_the_margin_is_no_heading() -> None:
    lines = paragraph(LEFT, 60, 60)
    lines[3] = written(LEFT[3], 60, lines[3].box[1], 20, stretched=3.2)
    assert "#" not in to_markdown(lines)


def test_a_little_larger_line_over_a_paragraph_is_a_heading() -> None:
    lines = [*paragraph(LEFT[:4], 60, 60), written("Weather and wind", 60, 190, 25), *paragraph(RIGHT, 60, 230)]
    assert "## Weather and wind\n\nRain fell" in to_markdown(lines)


def test_names_over_lines_of_a_list_are_no_headings() -> None:
    lines = []
    for n, name in enumerate(("Mira Hale", "Jonas Peck", "Ada Lind", "Ruth Calder")):
        lines += [written(name, 60, 60 + 80 * n, 24), written(LEFT[n].capitalize(), 60, 90 + 80 * n)]
    assert "#" not in to_markdown(lines)


def test_a_headline_whose_words_were_found_one_by_one_stands_over_both_columns() -> None:
    lines = [*columns(9, 0), written("Low", 440, 0, 44), written("Water", 530, 0, 44)]
    assert to_markdown(lines).startswith("# Low Water\n")


# -- lists and programs


def test_the_second_line_of_an_item_belongs_to_it() -> None:
    lines = []
    for n in range(3):
        lines += [written("•", 60, 60 + 60 * n), written(f"Tracks may be assigned to any of the {n}", 90, 60 + 60 * n)]
        lines.append(written("and are played at once.", 90, 86 + 60 * n))
    expected = [f"- Tracks may be assigned to any of the {n} and are played at once." for n in range(3)]
    assert to_markdown(lines).splitlines() == expected


@pytest.mark.parametrize("marks", ["✔✘✔", "✓✗✗", "●○○", "■❏■"])
def test_a_mark_that_tells_an_item_from_the_others_stays_in_its_text(marks: str) -> None:
    lines = [
        written(text, x, 60 + 40 * n)
        for n, mark in enumerate(marks)
        for text, x in ((mark, 60), (f"Delivery by van number {n}", 90))
    ]
    expected = [f"- {mark} Delivery by van number {n}" for n, mark in enumerate(marks)]
    assert to_markdown(lines).splitlines() == expected


def test_bullets_of_two_levels_are_no_choices() -> None:
    lines = [
        written(f"{mark} Delivery by van number {n}", x, 60 + 40 * n)
        for n, (mark, x) in enumerate((("●", 60), ("○", 110), ("○", 110), ("●", 60)))
    ]
    assert to_markdown(lines).splitlines() == [f"- Delivery by van number {n}" for n in range(4)]


def test_an_item_whose_mark_was_not_read_is_an_item_of_its_own() -> None:
    texts = [
        "– Oak must dry for a year for each inch",
        "of its thickness.",
        "Rain fell without end from Monday on,",
        "and all",
    ]
    lines = [written(text, 60 if n == 0 else 82, 60 + 27 * n) for n, text in enumerate(texts)]
    chunks = to_markdown(lines).split("\n\n")
    assert chunks[0] == "- Oak must dry for a year for each inch of its thickness."
    assert len(chunks) == 2


def test_lines_of_a_program_keep_their_indent_and_empty_lines() -> None:
    program = [
        "def total(items, tax=0.19):",
        "    result = 0",
        "    for name, price in items:",
        "        result += price * (1 + tax)",
        "    return round(result, 2)",
        "",
        "print(total(bill))",
    ]
    lines = [
        written(text.lstrip(), 60 + 12 * (len(text) - len(text.lstrip())), 60 + 30 * n, mono=True)
        for n, text in enumerate(program)
        if text
    ]
    assert to_markdown(lines) == "\n".join(["```", *program, "```"])
    assert to_text(lines) == "\n".join(program)


def test_a_receipt_in_type_of_one_width_is_no_program() -> None:
    texts = ["CORNER STORE", "Oat milk (1 l)", "Rye bread", "Honey, dark", "TOTAL"]
    assert "```" not in to_markdown([written(text, 60, 60 + 30 * n, mono=True) for n, text in enumerate(texts)])


def test_entries_of_a_table_of_contents_stay_lines() -> None:
    names = ("Introduction", "Materials and methods", "Results of the first season")
    lines = [
        written(f"{name}{'.' * (90 - len(name))}{n * 7}", 60, 60 + 30 * n) for n, name in enumerate(names, start=1)
    ]
    assert to_markdown(lines).splitlines() == [f"{name} ... {n * 7}" for n, name in enumerate(names, start=1)]


def test_figures_at_the_axis_of_a_chart_are_one_block() -> None:
    figures = [written(str(100 - 25 * n), 60, 100 + 90 * n) for n in range(4)]
    names = row(["Ropes", "Lamps", "Sails"], [140, 300, 460], 440)
    lines = [*paragraph(LEFT, 60, 600), *figures, *names]
    assert to_markdown(lines).startswith("100\n75\n50\n25\nRopes Lamps Sails\n\nThe ferry")


# -- tables


def test_tables_under_each_other_end_at_their_captions() -> None:
    lines = []
    for n, month in enumerate(("March", "April")):
        y = 60 + 190 * n
        lines.append(written(f"Stock in {month}", 60, y))
        lines += row(["Item", "Store", "Count"], [60, 260, 460], y + 40)
        lines += row(["Bolts", "North", "140"], [60, 260, 460], y + 70)
        lines += row(["Nuts", "South", "95"], [60, 260, 460], y + 100)
    table = "| Item | Store | Count |\n| --- | --- | --- |\n| Bolts | North | 140 |\n| Nuts | South | 95 |"
    assert to_markdown(lines) == f"Stock in March\n\n{table}\n\nStock in April\n\n{table}"


def test_two_lines_of_a_cell_are_one_row_though_both_have_figures() -> None:
    lines = row(["Period", "Rate", "Amount"], [60, 400, 600], 60)
    for n in range(4):
        y = 120 + 90 * n
        lines += row([f"1 May 202{n} to", "4.25 %", f"{n},062.50"], [60, 400, 600], y)
        lines += row([f"31 July 202{n}", "", ""], [60, 400, 600], y + 26)
    assert "| 1 May 2022 to 31 July 2022 | 4.25 % | 2,062.50 |" in to_markdown(lines)


def test_white_beside_chinese_stops_makes_no_table() -> None:
    rows = [
        ("研究，主要工作内容为：", "（一）编制专题观测方案四十八页并在启动会上汇报，"),
        ("辑清晰、重点突出、进度。", "（二）独立设计八米乘五米试验水槽并申请专利以后再"),
        ("利用上述成果进行比较。", "（三）带领团队两次前往八条支流完成水样采集并开展"),
    ]
    lines = []
    for n, (a, b) in enumerate(rows):
        first = written(a, 60, 60 + 34 * n)
        x1, y1, x2, y2 = first.box
        lines += [TextLine(a, (x1, y1, x2 - 12, y2)), written(b, x2 + 20, y1)]
    assert "|" not in to_markdown(lines)


def test_figures_of_two_columns_that_a_detector_joined_are_two_cells() -> None:
    lefts = [60.0, 300.0, 420.0, 560.0]
    lines = [
        line
        for n in range(5)
        if n != 2
        for line in row([f"State {n}", f"{n},922", f"{n},664", "15"], lefts, 60 + 40 * n)
    ]
    joined = written("6,922  1,664", 300, 140)
    kept = [n for n in range(len(joined.text)) if n != 6]
    x1, y1, x2, y2 = joined.box
    wider = tuple((c * (x2 - x1) + (67 if n > 5 else 0)) / (x2 - x1 + 67) for n, c in enumerate(joined.centres))
    lines.append(TextLine("6,922 1,664", (x1, y1, x2 + 67, y2), 0.99, tuple(wider[n] for n in kept)))
    lines += row(["State 2", "", "", "15"], lefts, 140)
    pieces = split_at_gutters(lines)
    assert "| State 2 | 6,922 | 1,664 | 15 |" in to_markdown([cut(lines[p.line], p) for p in pieces])


def test_every_line_is_in_one_element_whatever_stands_beside_it() -> None:
    lines = [
        *columns(4, 110),
        written("An inset of two lines that", 250, 190, 30),
        written("stands between them", 280, 225, 30),
    ]
    assert sorted(i for element in arrange(lines) for i in element.lines) == list(range(len(lines)))


def test_a_program_between_paragraphs_keeps_its_lines() -> None:
    before = [
        "Run the following program with care and look closely at its",
        "answer, which is a number for each radius.",
    ]
    program = [
        "def area(r):",
        "    # in metres",
        "    return 3.14 * r ** 2",
        "",
        "for r in range(3):",
        "    print(area(r))",
    ]
    lines = [written(text, 60, 60 + 27 * n) for n, text in enumerate(before)]
    lines += [
        written(text.lstrip(), 60 + 12 * (len(text) - len(text.lstrip())), 150 + 27 * n, mono=True)
        for n, text in enumerate(program)
        if text
    ]
    lines.append(written("Then compare it with the table below and go on reading.", 60, 350))
    parts = to_markdown(lines).split("\n\n")
    assert "\n\n".join(parts[1:-1]) == "\n".join(["```", *program, "```"])
    assert parts[0] == " ".join(before)


@pytest.mark.parametrize(
    ("above", "below", "joined"),
    [
        ("Please write to a.b@example.", "com before noon of the day.", "a.b@example.com before"),
        ("Please write to anna.keller@", "example.org before noon.", "anna.keller@example.org before"),
        ("Look at https://example.org/a/", "long/path.html for the rest.", "https://example.org/a/long/path.html for"),
        ("Look at https://example.org/a/", "It has all the rest of it.", "https://example.org/a/ It has"),
        ("We met anna@example.org.", "the others came much later on.", "anna@example.org. the others"),
    ],
)
def test_an_address_that_a_line_breaks_is_whole(above: str, below: str, joined: str) -> None:
    assert joined in to_markdown([written(above, 60, 60), written(below, 60, 87)])


def test_justified_lines_with_wide_spaces_stay_in_their_paragraph() -> None:
    lines = [written("Paragraph one of the report describes circumstances under which", 60, 60)]
    right = lines[0].box[2]
    last = written("recommendations", 0, 87)
    lines += [written("investigation", 60, 87), written("communicated", 290, 87)]
    lines.append(written("recommendations", right - last.box[2], 87))
    lines.append(written("concerning responsibilities.", 60, 114))
    assert "recommendations concerning responsibilities." in to_markdown(lines)


def test_names_beside_figures_are_rows_though_many_have_no_value() -> None:
    lefts = [60.0, 420.0, 560.0]
    rows = [("", "2025", "2024"), ("Fixed assets", "", ""), ("Goodwill", "1,204.5", "1,187.0")]
    rows += [("Current assets", "", ""), ("Cash", "–", "3.0")]
    rows += [(name, "", "") for name in ("Liabilities", "Pensions", "Leases")]
    lines = [line for n, cells in enumerate(rows) for line in row(list(cells), lefts, 60 + 30 * n)]
    assert to_markdown(lines).splitlines()[2:6] == [
        "| Fixed assets |  |  |",
        "| Goodwill | 1,204.5 | 1,187.0 |",
        "| Current assets |  |  |",
        "| Cash | – | 3.0 |",
    ]


@pytest.mark.parametrize("texts", [["Land and buildings,", "plant and tools"], ["Land,", "plant and", "tools"]])
def test_a_cell_of_several_lines_is_one_with_the_cells_at_its_middle(texts: list[str]) -> None:
    lefts, high = [60.0, 420.0, 560.0], 27.0 * (len(texts) - 1)
    lines = row(["Task", "Who", "By"], lefts, 60)
    lines += [*paragraph(texts, 60, 110), *row(["Ana", "3 May"], lefts[1:], 110 + high / 2)]
    y = 110 + high + 50
    lines += [*row(["Dig"], lefts[:1], y + 13.5), *paragraph(["Ben and", "Cleo"], 420, y)]
    lines += row(["9 May"], lefts[2:], y + 13.5)
    assert to_markdown(lines).splitlines() == [
        "| Task | Who | By |",
        "| --- | --- | --- |",
        f"| {' '.join(texts)} | Ana | 3 May |",
        "| Dig | Ben and Cleo | 9 May |",
    ]


def test_rows_of_two_tables_that_are_not_level_stay_rows_of_their_own() -> None:
    left = [line for n in range(6) for line in row([f"Boat {n}", f"{n}:15"], [60, 200], 60 + 30 * n)]
    right = [line for n in range(6) for line in row([f"Coach {n}", f"{n}:40"], [620, 760], 70 + 30 * n)]
    markdown = to_markdown([*left, *right])
    assert all(f"| Boat {n} | {n}:15 |" in markdown and f"| Coach {n} | {n}:40 |" in markdown for n in range(6))


def test_a_line_that_is_stretched_over_its_column_is_no_row_of_cells() -> None:
    stretched = "been closed since March"
    room = written(LEFT[0], 60, 0).box[2] - written(stretched, 60, 0).box[2]
    words = stretched.split()
    lines = [written(LEFT[0], 60, 60)]
    for n, word in enumerate(words):
        before = written(" ".join([*words[:n], ""]), 60, 87).box[2] if n else 60.0
        lines.append(written(word, before + n * room / 3, 87))
    lines += [written(text, 60, 114 + 27 * n) for n, text in enumerate(LEFT[1:4])]
    lines += [line for n in range(2) for line in row([f"Day {n}", "12"], [60, 300], 240 + 27 * n)]
    assert flat(f"{LEFT[0]} {stretched} {LEFT[1]}") in flat(to_markdown(lines))


@pytest.mark.parametrize("shift", [0.0, 9.0])
@pytest.mark.parametrize("is_prose", [False, True])
def test_a_box_beside_text_is_read_after_it_level_or_not(shift: float, is_prose: bool) -> None:
    box = LEFT[:5] if is_prose else ["At a glance", "Cost: 1.2 million", "Length: 84 m", "Opens: May 2026"]
    lines = [*paragraph(RIGHT, 60, 60), *paragraph([line[:40] for line in box], 560, 60 + shift)]
    lines += paragraph([f"{a} {b}" for a, b in zip(["and went", *LEFT[1:4]], RIGHT[1:5], strict=True)], 60, 60 + 8 * 27)
    text = flat(to_text(lines))
    assert flat(" ".join(RIGHT) + " and went") in text
    assert flat(" ".join(line[:40] for line in box)) in text


def test_the_heading_of_a_table_with_more_columns_parts_it_from_what_stands_above() -> None:
    lines = [
        line
        for n, cells in enumerate(
            [["Baker & Sons", "Invoice 417"], ["12 Mill Lane", "14 June 2025"], ["Poole", "88213"]]
        )
        for line in row(cells, [60, 700], 60 + 27 * n)
    ]
    items = [["Pos", "Description", "Qty", "Total"], ["1", "Oak board", "4", "126.00"], ["2", "Delivery", "1", "15.00"]]
    lines += [line for n, cells in enumerate(items) for line in row(cells, [60, 180, 500, 720], 190 + 27 * n)]
    tables = to_markdown(lines).split("\n\n")
    assert tables[0].splitlines()[0] == "| Baker & Sons | Invoice 417 |"
    assert tables[1].splitlines()[0] == "| Pos | Description | Qty | Total |"


def test_bold_questions_and_their_answers_are_paragraphs() -> None:
    lines = []
    for n in range(3):
        bold = written(f"Question {n}: how long is it until the next boat goes?", 60, 60 + 80 * n)
        lines += [replace(bold, bold=True), written(f"Answer {n}: as long as it takes.", 60, 100 + 80 * n)]
    assert len(to_markdown(lines).split("\n\n")) == 6


def test_a_dash_far_from_a_figure_is_a_cell_and_no_list_mark() -> None:
    lines = [line for n in range(3) for line in row(["–", f"{n}.0"], [60, 260], 60 + 30 * n)]
    assert "| – | 1.0 |" in to_markdown(lines)


def test_a_name_that_goes_on_with_a_small_letter_is_one_with_the_row_of_its_values() -> None:
    rows = [("Revenue", "4,120"), ("Trade and other", ""), ("receivables", "2,310"), ("Profit", "1,810")]
    tops = [60, 90, 115, 145]
    lines = [line for y, cells in zip(tops, rows, strict=True) for line in row(list(cells), [60, 420], y)]
    assert "| Trade and other receivables | 2,310 |" in to_markdown(lines)


def test_the_last_lines_of_the_last_cell_belong_to_the_table() -> None:
    lines = [line for n in range(3) for line in row([f"A{n}", "Hinge", str(n)], [60, 180, 500], 60 + 36 * n)]
    lines += paragraph(["made of brass, with", "four screws"], 180, 132 + 24, leading=1.2)
    assert to_markdown(lines).splitlines()[-1] == "| A2 | Hinge made of brass, with four screws | 2 |"


def test_blocks_of_an_address_side_by_side_are_not_read_into_each_other() -> None:
    texts = (["Ship to:", "Ana Marsh", "3 Quay St", "Poole"], ["Bill to:", "Marsh & Co", "PO Box 9", "Poole"])
    lines = [line for x, block in zip((60, 400), texts, strict=True) for line in paragraph(block, x, 60)]
    lines += paragraph(["Order: 7716", "Date: 2 May 2025", "Terms: net 30"], 720, 73.5)
    assert "Order: 7716\nDate: 2 May 2025\nTerms: net 30" in to_text(lines)


def test_a_line_that_a_detector_joined_over_cells_of_several_lines_is_cut() -> None:
    texts = ["Order the boards from the mill", "and have them planed on both", "sides before delivery"]
    first, middle, last = paragraph(texts, 60, 110)
    ana = written("Ana", middle.box[2] + 30, middle.box[1])
    left, _, right, bottom = middle.box[0], 0, ana.box[2], middle.box[3]
    places = [
        x1 + c * (x2 - x1) for x1, _, x2, _, cs in ((*part.box, part.centres) for part in (middle, ana)) for c in cs
    ]
    places.insert(len(middle.text), (middle.box[2] + ana.box[0]) / 2)
    joined = TextLine(
        f"{middle.text} Ana",
        (left, middle.box[1], right, bottom),
        0.99,
        tuple((x - left) / (right - left) for x in places),
    )
    lefts = [60, ana.box[0], ana.box[0] + 200]
    lines = [*row(["Task", "Who", "By"], lefts, 60), first, joined, *row(["3 May"], lefts[2:], 137), last]
    lines += [*row(["Dig", "", "9 May"], lefts, 213.5), *paragraph(["Ben and the", "two boys"], ana.box[0], 200)]
    pieces = [cut(lines[piece.line], piece) for piece in split_at_gutters(lines)]
    assert f"| {' '.join(texts)} | Ana | 3 May |" in to_markdown(pieces)


def test_two_columns_of_which_no_row_is_level_are_a_table_if_cells_have_one_middle() -> None:
    lines = [line for n in range(2) for line in row([f"Size {n}", f"{n} cm"], [60, 300], 60 + 36 * n)]
    for n, y in enumerate((132, 190)):
        lines += [*row([f"Made {n} of"], [60], y + 13.5), *paragraph(["oak, oiled, and", "felt"], 300, y)]
    lines += row(["Price", "129.00"], [60, 300], 248)
    assert to_markdown(lines).splitlines()[2:] == [
        "| Size 1 | 1 cm |",
        "| Made 0 of | oak, oiled, and felt |",
        "| Made 1 of | oak, oiled, and felt |",
        "| Price | 129.00 |",
    ]

"""How characters become words, figures, cells and tables: each test is a kind of page that was once read wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pypdfium2
import pytest

from answering import layer_answer
from deepseek_ocr_mcp.decoder.textlayer.layer import PagePlace, read_layer
from deepseek_ocr_mcp.documents.reader import LayerText
from pdf_maker import PROSE, Sheet, letter_map, pdf, stream

Say = Callable[..., str]


@pytest.fixture
def say(tmp_path: Path) -> Say:
    """The text of a page that must be whole."""

    def text(sheet: Sheet, mode: str = "document", **more: object) -> str:
        path = tmp_path / "page.pdf"
        path.write_bytes(pdf(sheet, **more))  # type: ignore[arg-type]
        document = pypdfium2.PdfDocument(path)
        document.init_forms()
        try:
            place = PagePlace(document, 0, str(path), (827, 1170))
            found = read_layer(place, lambda: None)
        finally:
            document.close()
        assert (found["usable"], found["why"]) == (True, "")
        return layer_answer(LayerText(0, 0, **found), mode).text

    return text


# -- figures and words


def test_arabic_figures_with_zeros_stay_together_and_in_their_order(say: Say) -> None:
    """In font `U` a figure fills its place; here each stands by itself, the zeros with much white around them."""
    sheet = Sheet()
    for y, number in ((100, "٢٠٠٥"), (130, "٤٧٥٠٠")):
        for n, char in enumerate(number):
            sheet.text(200 + 7.2 * n, y, char, 12, "U")
        for n, char in enumerate("سنة"[::-1]):
            sheet.text(200 + 7.2 * (len(number) + 1 + n), y, char, 12, "U")
    assert say(sheet, "free").split("\n") == ["سنة ٢٠٠٥", "سنة ٤٧٥٠٠"]


@pytest.mark.parametrize(
    ("shown", "read"),
    [
        ("ריחמב 12.5% לש היילע", "עלייה של 12.5% במחיר"),
        ("דבלב $45.90 ריחמ", "מחיר $45.90 בלבד"),
        ("קושהמ 10%-5% ןיב", "בין 5%-10% מהשוק"),
        ("طقف %12.5 ةبسن", "نسبة 12.5% فقط"),
    ],
)
def test_a_percent_sign_stays_on_its_side_of_the_figures(say: Say, shown: str, read: str) -> None:
    """`shown` is the line as it stands, from left to right."""
    sheet = Sheet()
    for n, char in enumerate(shown):
        if char != " ":
            sheet.text(100 + 7.2 * n, 100, char, 12, "U")
    assert say(sheet, "free") == read


@pytest.mark.parametrize(
    ("shown", "read"),
    [
        (["C++", " ", "תפשב"], "בשפת C++"),
        (["++", "C", " ", "תפשב"], "בשפת C++"),
        (["555-1234", " ", "וה"], "הו 555-1234"),
        (["1234", "-", "555", " ", "وه"], "هو 555-1234"),
        (["555-1234", " ", "وه"], "هو 555-1234"),
        (["beta", "-", "2.0", " ", "השדח", " ", "הסרג"], "גרסה חדשה 2.0-beta"),
        (["beta-2.0", " ", "השדח", " ", "הסרג"], "גרסה חדשה beta-2.0"),
        (["ןאכ", " ", "Foo (Bar)", " ", "לש", " ", "הנורחאה"], "האחרונה של Foo (Bar) כאן"),
    ],
)
def test_signs_beside_latin_and_figures_in_a_hebrew_or_arabic_line(say: Say, shown: list[str], read: str) -> None:
    """`shown` are the text objects as they stand, from left to right: a browser writes one for each run."""
    sheet, x = Sheet(), 100.0
    for part in shown:
        if part != " ":
            sheet.text(x, 100, part, 12, "U")
        x += 7.2 * len(part)
    assert say(sheet, "free") == read


def test_figures_that_stand_apart_evenly_and_nearer_than_words_are_one_number(say: Say) -> None:
    """As browsers write `letter-spacing`: each figure is an object of its own, and a space is none."""
    sheet = Sheet()
    for y, number in ((100, "1234 5678"), (120, "4111 1111 1111"), (140, "12.50")):
        x = 72.0
        for char in number:
            if char != " ":
                sheet.text(x, y, char, 12)
            x += (3.336 if char in ". " else 6.672) + 2.25
    assert say(sheet, "ocr").split("\n") == ["1234 5678", "4111 1111 1111", "12.50"]


def test_figures_as_far_apart_as_words_stay_apart(say: Say) -> None:
    sheet = Sheet()
    for n, char in enumerate("5792"):
        sheet.text(72 + (6.672 + 3.336) * n, 100, char, 12)
    assert say(sheet, "ocr") == "5 7 9 2"


def test_a_raised_sum_is_no_part_of_its_word(say: Say) -> None:
    sheet = Sheet().text(72, 100, "The value x").text(134.2, 95.5, "n+1", 8).text(151.1, 100, "is large on the 1")
    sheet.text(236.7, 95.5, "st", 8).text(246.2, 100, "of May.")
    assert say(sheet, "free") == "The value xⁿ⁺¹ is large on the 1st of May."


def test_a_raised_number_behind_a_written_space_belongs_to_the_note_that_follows(say: Say) -> None:
    """Helvetica's space is 2.22 points wide at 8 points: less than the white that parts a number without a space."""
    sheet = Sheet().text(72, 100, "Restated. ", 8).text(107.58, 97, "2", 6).text(110.91, 100, " Net.", 8)
    assert say(sheet, "free") == "Restated. ² Net."


def test_a_raised_and_a_lowered_word_of_one_letter_are_not_mixed(say: Say) -> None:
    sheet = Sheet().text(72, 100, "The value x").text(134.2, 95.5, "BC", 8).text(134.2, 102.5, "13", 8)
    assert say(sheet.text(148.6, 100, "is large."), "free") in (
        "The value x₁₃BC is large.",
        "The value xBC₁₃ is large.",
    )


def test_a_low_line_that_lies_on_an_underline_is_part_of_its_word(say: Say) -> None:
    """With the underline in the same colour, the page looks alike without it."""
    sheet = Sheet().text(72, 100, "See report_2024.pdf for more", more="0 0 1 rg").box(72, 100.8, 240, 101.8, "0 0 1")
    assert say(sheet, "free") == "See report_2024.pdf for more"


def test_a_field_that_no_form_knows_covers_no_text(say: Say) -> None:
    """Where the document has no form, the page is drawn without it."""
    sheet = Sheet().text(72, 100, "Expiration Date: 01/31/2009")
    sheet.annotation("/Subtype /Widget /Rect [60 735 300 755] /F 4 /FT /Btn /Ff 65536 /AP << /N 50 0 R >>")
    ground = stream("1 g 0 0 240 20 re f", "/Type /XObject /Subtype /Form /BBox [0 0 240 20]")
    assert say(sheet, "free", objects={50: ground}) == "Expiration Date: 01/31/2009"


def test_a_hebrew_word_in_an_english_line_stays_one_word(say: Say) -> None:
    sheet = Sheet().text(72, 100, "A line with", 12, "U")
    right = 72 + 7.2 * 17
    for n, char in enumerate("שלום"):
        sheet.text(right - 7.2 * (n + 1), 100, char, 12, "U")
    sheet.text(right, 100, " in it.", 12, "U")
    assert say(sheet, "free") == "A line with שלום in it."


def test_brackets_around_hebrew_open_and_close(say: Say) -> None:
    shown = "(" + "ינואר"[::-1] + "("  # both look as the file has them
    assert say(Sheet().text(72, 100, shown, 12, "U").text(200, 100, "שלום"[::-1], 12, "U"), "free") == "שלום (ינואר)"


@pytest.mark.parametrize("visual", [True, False])
@pytest.mark.parametrize(
    ("shown", "read"),
    [
        (" ".join(["(PDF)", "קובץ"[::-1], "(Adobe Reader)", "שלום"[::-1]]), "(PDF) קובץ (Adobe Reader) שלום"),
        (" ".join(["." + "טוב"[::-1], "(Word)", "מסמך"[::-1]]), "מסמך (Word) טוב."),
        (
            " ".join(["." + "הישן"[::-1], "(Word 97)", "חדש"[::-1], "[PDF]", "מסמך"[::-1]]),
            "מסמך [PDF] חדש (Word 97) הישן.",
        ),
    ],
    ids=["in an English line", "in a Hebrew line", "two pairs"],
)
def test_brackets_around_latin_words_beside_hebrew_open_and_close(
    say: Say, shown: str, read: str, visual: bool
) -> None:
    """PDFium mirrors a bracket beside Hebrew, so that both of a pair may look alike."""
    sheet = Sheet()
    places = [(500 - 7.2 * (len(shown) - n), char) for n, char in enumerate(shown) if char != " "]
    for x, char in places if visual else places[::-1]:
        sheet.text(x, 100, char, 12, "U")
    assert say(sheet, "free") == read


def test_a_negative_size_turns_letters_round_as_its_matrix_does(say: Say) -> None:
    sheet = Sheet().raw(
        "BT /F1 -20 Tf -1 0 0 -1 72 700 Tm (PDF Box) Tj ET BT /F1 -14 Tf -1 0 0 -1 72 660 Tm (117) Tj ET"
    )
    assert say(sheet, "free").split() == ["PDF", "Box", "117"]


def test_flat_characters_stay_in_their_column(say: Say) -> None:
    """一 and ー are as wide as others, and hardly high."""
    sheet = Sheet().stacked(400, 100, "第一条の規定").stacked(378, 100, "一部を改める")
    assert say(sheet, "free").split() == ["第一条の規定", "一部を改める"]


@pytest.mark.parametrize("words", [["第一章"], ["データ"], ["第一章", "データ"]])
def test_a_short_column_with_flat_characters_is_one_word(say: Say, words: list[str]) -> None:
    sheet = Sheet()
    for n, word in enumerate(words):
        sheet.stacked(400 - 22 * n, 100, word)
    assert say(sheet, "free").split() == words


SIDEWAYS = "0 -1 1 0"  # a quarter of a turn to the right, as columns set figures


def test_figures_on_their_side_stay_in_their_vertical_line(say: Say) -> None:
    sheet = (
        Sheet().stacked(400, 100, "平成の法律第").turned(401.5, 162.4, "2026", SIDEWAYS).stacked(400, 199, "号を改正")
    )
    sheet.stacked(378, 100, "一部を改める規定で")
    assert say(sheet, "free").split() == ["平成の法律第2026号を改正", "一部を改める規定で"]


def test_words_and_figures_on_their_side_stand_around_a_single_character(say: Say) -> None:
    sheet = Sheet().stacked(400, 100, "平成の法律").turned(401.5, 150.4, "Windows 11", SIDEWAYS).stacked(400, 222, "号")
    sheet.turned(401.5, 224.4, "12", SIDEWAYS).stacked(400, 248, "条の規定")
    assert say(sheet, "free") == "平成の法律Windows 11号12条の規定"


@pytest.mark.parametrize(("x", "y"), [(300, 150), (401.5, 400)])
def test_a_line_on_its_side_elsewhere_is_a_line_of_its_own(say: Say, x: float, y: float) -> None:
    sheet = Sheet().stacked(400, 100, "平成の法律").turned(x, y, "a margin note", SIDEWAYS)
    assert {line for line in say(sheet, "free").split("\n") if line} == {"平成の法律", "a margin note"}


def test_tiers_of_vertical_text_are_read_one_after_the_other(say: Say) -> None:
    sheet = Sheet()
    upper = ["春の法律の規定を改める", "政令をここに定める第二", "条の規定に基づき次の通", "り改正するものとし四月"]
    lower = ["附則この政令は公布の日", "から起算して三月を過ぎ", "た日から施行するものと", "し経過措置は別に定める"]
    for top, tier in ((80, upper), (280, lower)):
        for n, column in enumerate(tier):
            sheet.stacked(400 - 26 * n, top, column, 12)
    assert say(sheet, "free").split() == [*upper, *lower]


def test_white_after_chinese_stops_makes_no_table(say: Say) -> None:
    sheet = Sheet()
    rows = [
        ("主要工作内容为：", "（一）编制专题观测方案"),
        ("重点突出、进度合理。", "（二）独立设计试验"),
        ("利。", "（三）带领团队"),
    ]
    for n, (left, right) in enumerate(rows):
        sheet.text(60, 100 + 17 * n, left, 10, "U").text(65 + 10 * len(left), 100 + 17 * n, right, 10, "U")
    assert "|" not in say(sheet)


def test_a_control_code_that_is_ink_is_never_dropped(tmp_path: Path) -> None:
    sheet = Sheet().paragraph(72, 100, PROSE).text(72, 200, "o\x1fce", 12, "U")
    path = tmp_path / "page.pdf"
    path.write_bytes(pdf(sheet))
    document = pypdfium2.PdfDocument(path)
    found = read_layer(PagePlace(document, 0, str(path), (827, 1170)), lambda: None)
    document.close()
    assert found["partial"]
    assert layer_answer(LayerText(0, 0, **found), "free").text.endswith("o\ufffdce")
    assert "marked \ufffd" in found["remark"]


def test_leaders_become_three_dots_and_each_entry_stays_apart(say: Say) -> None:
    sheet = Sheet().text(72, 80, "Contents", 18)
    for n, (title, page) in enumerate((("Introduction", "1"), ("Materials and methods", "4"), ("Discussion", "27"))):
        sheet.text(72, 110 + 18 * n, title + "." * 60 + page)
    text = say(sheet)
    assert ". . ." not in text
    assert "...." not in text
    assert [line.strip("| ").replace(" | ", " ") for line in text.split("\n") if "..." in line] == [
        "Introduction ... 1",
        "Materials and methods ... 4",
        "Discussion ... 27",
    ]


def test_check_boxes_that_are_characters_say_whether_they_are_ticked(say: Say) -> None:
    sheet = Sheet().text(72, 100, "☐ by post", 12, "U").text(72, 120, "☑ by courier", 12, "U")
    sheet.text(72, 140, "\uf0a8 in person", 12, "U")
    assert say(sheet, "free").split("\n") == ["[ ] by post", "[x] by courier", "[ ] in person"]


def named_font(name: str, kind: str = "Type1", more: str = "") -> str:
    return f"<< /Type /Font /Subtype /{kind} /BaseFont /{name} {more} >>"


WINDOWS = "/Encoding /WinAnsiEncoding"
WINGDINGS = named_font("ABCDEF+Wingdings-Regular", "TrueType", WINDOWS)
SYMBOL = named_font("Symbol")


@pytest.mark.parametrize(
    ("font", "code", "read"),
    [
        (WINGDINGS, r"\374", "✓"),
        (WINGDINGS, r"\373", "✗"),
        (WINGDINGS, r"\376", "[x]"),
        (WINGDINGS, r"\340", "→"),
        (WINGDINGS, "n", "■"),
        (named_font("ZapfDingbats"), "4", "✔"),
        (named_font("ZapfDingbats"), "8", "✘"),
        (SYMBOL, r"\256", "→"),
        (SYMBOL, r"\330", "¬"),
        (SYMBOL, r"\264", "×"),
        (named_font("Helvetica", more=WINDOWS), r"\374", "ü"),
    ],
)
def test_a_glyph_of_a_symbol_font_is_read_as_the_sign_that_it_shows(say: Say, font: str, code: str, read: str) -> None:
    sheet = Sheet().text(72, 100, "Delivered in time").raw(f"BT /S 12 Tf 200 742 Td ({code}) Tj ET")
    assert say(sheet, "free", objects={16: font}) == f"Delivered in time {read}"


BUTTON = "/Subtype /Widget /FT /Btn /F 4 /Rect [{} 700 {} 714] /T (b{}) {}"
LOOK = "/BBox [0 0 14 14] /Type /XObject /Subtype /Form"


@pytest.mark.parametrize("radio", [False, True])
def test_buttons_of_a_form_say_whether_they_are_on(say: Say, radio: bool) -> None:
    sheet = Sheet().text(92, 139, "card").text(172, 139, "cash")
    flags = "/Ff 49152" if radio else ""
    for n, (left, state) in enumerate(((72, "On"), (152, "Off"))):
        look = f"/AP << /N << /On 60 0 R /Off 61 0 R >> >> /AS /{state} /V /{state} {flags}"
        sheet.annotation(BUTTON.format(left, left + 14, n, look))
    fields = "/AcroForm << /Fields [10002 0 R 10003 0 R] >>"
    looks: dict[int, str | bytes] = {
        60: stream("0 0 14 14 re S 2 2 m 12 12 l S", LOOK),
        61: stream("0 0 14 14 re S", LOOK),
    }
    assert say(sheet, "free", catalog=fields, objects=looks) == "[x] card [ ] cash"


def test_words_of_letters_that_stand_apart_keep_their_spaces_and_no_other(say: Say) -> None:
    """Browsers place each letter so; the white behind each comes on top of the white of a space."""
    sheet, x = Sheet(), 72.0
    for char in "TOTAL 40 OLD":
        if char != " ":
            sheet.text(x, 100, char)
        x += (0.278 if char == " " else HELVETICA[char]) * 12 + 4
    assert say(sheet) == "TOTAL 40 OLD"


HELVETICA = {"T": 0.611, "O": 0.778, "A": 0.667, "L": 0.556, "4": 0.556, "0": 0.556, "D": 0.722}


def test_the_letter_behind_a_ligature_belongs_to_its_word(say: Say) -> None:
    """PDFium parts the box of a ligature among its letters; each glyph is placed by itself, as browsers do."""
    names = {chr(n): chr(n) for n in range(32, 127)} | {"m": "ffi"}
    sheet = Sheet().text(72, 100, "o").text(78.7, 100, "m", font="X").text(88.7, 100, "ce")
    assert say(sheet, objects={34: stream(letter_map(names))}) == "office"


def test_figures_below_a_letter_that_are_more_than_it_leave_it_on_its_line(say: Say) -> None:
    sheet = Sheet().text(72, 100, "x").text(78.2, 102.4, "12", 7).text(88, 100, "= 45")
    assert say(sheet) == "x₁₂ = 45"


def test_a_note_behind_a_narrow_figure_is_at_it(say: Say) -> None:
    sheet = Sheet().text(72, 100, "Price 1.1", 9).text(72 + 9 * 4.0 + 1, 96.5, "1", 5)
    assert say(sheet) == "Price 1.1¹"


def test_a_narrow_justified_line_that_ends_with_a_hyphen_is_no_row_of_a_table(say: Say) -> None:
    sheet = Sheet()
    for n, row in enumerate([("The", "extraordin-"), ("ary", "responsibil-"), ("ities of states",)]):
        place = (72, 112) if len(row) == 2 else (72,)
        for x, word in zip(place, row, strict=True):
            sheet.text(x, 100 + 15 * n, word)
    assert say(sheet) == "The extraordinary responsibilities of states"


def test_the_letter_o_in_another_font_is_a_list_mark(say: Say) -> None:
    sheet = Sheet()
    for n, item in enumerate(("coil the ropes", "fill the lamps")):
        sheet.text(72, 100 + 16 * n, "o", 10, "F2").text(92, 100 + 16 * n, item)
    assert say(sheet) == "- coil the ropes\n- fill the lamps"


# -- cells


ROWS = [
    ("Region", "Total", "Market", "Bank", "Other"),
    ("Northern", "48.11", "40.45", "3.26", "0.25"),
    ("Coastal", "12.69", "10.02", "2.41", "0.24"),
    ("Central", "40.75", "41.54", "1.12", "0.36"),
    ("Southern", "19.75", "17.10", "2.64", "0.44"),
]
ENDS = (250, 290, 326, 380)
WIDTHS = {".": 0.278, "r": 0.333, "t": 0.278, "i": 0.222, "l": 0.222, "k": 0.5, "R": 0.722, "T": 0.611, "M": 0.833,
          "B": 0.667, "O": 0.778, "N": 0.722, "C": 0.722, "S": 0.667, "s": 0.5}  # fmt: skip


def width(text: str, size: float = 10) -> float:
    return size * sum(WIDTHS.get(char, 0.556) for char in text)


# -- spaces, and what is raised


def set_apart(pieces: list[str], white: float, size: float = 12) -> Sheet:
    """Pieces of text on one line, each behind the width of the one before and this much white, in ems."""
    sheet, x = Sheet(), 72.0
    for piece in pieces:
        sheet.text(x, 100, piece, size)
        x += width(piece, size) + white * size
    return sheet


def test_narrow_white_beyond_the_width_of_a_letter_is_a_space(say: Say) -> None:
    """In some programs' files no space is written, and PDFium sees none in white that is as narrow."""
    assert say(set_apart(["Nation", "on", "Snoble", "no", "18"], 0.15)) == "Nation on Snoble no 18"


def test_white_that_belongs_to_the_letters_is_no_space(say: Say) -> None:
    """Two halves of a word, hardly apart, whose letters have white beside their ink."""
    assert say(set_apart(["hal", "led", "n", "u", "n", "u", "1", "1"], 0.06)) == "hallednunu11"


def test_a_word_on_its_side_whose_letters_are_set_one_by_one_stays_whole(say: Say) -> None:
    sheet, y = Sheet(), 500.0
    for char in "Runnun":
        sheet.turned(100, y, char, "0 1 -1 0", 12)
        y -= width(char, 12)
    assert say(sheet) == "Runnun"


@pytest.mark.parametrize("size", [7.0, 10.0, 11.6])
def test_raised_and_lowered_figures_stay_in_their_line_however_large_they_are(say: Say, size: float) -> None:
    sheet, x = Sheet(), 72.0
    for piece, rise in (
        ("Sales 24.91", 0),
        ("2", 5),
        (" million in 2023", 0),
        ("1", 5),
        (", CO", 0),
        ("2", -5),
        (" too", 0),
    ):
        type_size = size if rise else 12.0
        sheet.text(x, 100 - rise, piece, type_size)
        x += width(piece.replace(" ", "t").replace(",", "t"), type_size)
    assert say(sheet) == "Sales 24.91² million in 2023¹, CO₂ too"


def test_a_raised_letter_behind_a_figure_is_a_mark(say: Say) -> None:
    """4,200b would be 4,200 billion."""
    sheet = Sheet().text(72, 100, "4,200").text(72 + 26.7 + 3.4, 95, "b", 8).text(120, 100, "and more of it")
    assert say(sheet).startswith("4,200ᵇ")


def test_a_short_line_close_under_another_one_is_none_of_its_scripts(say: Say) -> None:
    """Beside a box to tick stand two lines of small type that nearly touch."""
    sheet = Sheet().paragraph(72, 60, PROSE).raw("0.5 w 72 637 8 8 re S")
    sheet.text(84, 200, "Full-time", 7).text(84, 206, "student", 7)
    text = say(sheet, "free")
    assert "Full-time" in text
    assert "student" in text


def test_the_line_of_a_chart_cuts_no_figure_of_a_label_that_hides_it(say: Say) -> None:
    sheet = Sheet()
    for x in (100, 150, 200, 250):
        sheet.rule(x, 90, x, 300)
    for y in (90, 150, 210, 300):
        sheet.rule(100, y, 250, y)
    sheet.box(138, 170, 172, 190, "1 1 0.6").text(141, 184, "1980s", 10)
    sheet.text(110, 140, "35", 10).text(210, 280, "27", 10)
    assert "1980s" in say(sheet, "free")


def test_a_frame_around_a_word_cuts_none_of_its_letters(say: Say) -> None:
    sheet = Sheet().text(72, 100, "This is some longer text for testing.")
    left = 72 + width("This is some ".replace("h", "u").replace(" ", "t"), 12)
    sheet.raw(f"0.5 w {left + 1.5} 736 40 16 re S")
    assert say(sheet) == "This is some longer text for testing."


def test_an_english_line_on_a_hebrew_page_runs_to_the_right(say: Say) -> None:
    sheet = Sheet()
    for n in range(4):
        sheet.text(200, 100 + 20 * n, "רבד לש ופוס ךבודמ"[::1], 12, "U")
    sheet.text(72, 200, "The word ", 12, "U").text(72 + 9 * 7.2, 200, "םולש", 12, "U")
    sheet.text(72 + 14 * 7.2, 200, "means peace, 5 times.", 12, "U")
    assert say(sheet, "free").splitlines()[-1] == "The word שלום means peace, 5 times."


@pytest.mark.parametrize(
    ("word", "is_whole"), [("Allg‰u", False), ("K‰fer", False), ("DurÈe", False), ("Allgäu", True), ("2‰ p", True)]
)
def test_a_sign_that_no_word_has_is_compared_with_the_page(tmp_path: Path, word: str, is_whole: bool) -> None:
    """Old programs' fonts have codes that PDFium takes for others; the letter is drawn all the same."""
    path = tmp_path / "page.pdf"
    path.write_bytes(pdf(Sheet().paragraph(72, 100, PROSE).text(72, 200, f"To {word} and back again")))
    document = pypdfium2.PdfDocument(path)
    try:
        found = read_layer(PagePlace(document, 0, str(path), (827, 1170)), lambda: None)
    finally:
        document.close()
    assert (found["usable"], found["partial"]) == (is_whole, not is_whole)


@pytest.mark.parametrize(
    "shown", ["No. 11 1171 and IBAN DE89 3704 0044", "Tel. 030 1234567 Fax 030 1111111", "W i d e and S P A C E D 1 2"]
)
def test_figures_that_stand_apart_as_the_letters_of_their_line_do_are_numbers(say: Say, shown: str) -> None:
    """As browsers write tracked text: a space is no character, but a way to go."""
    words = " -528 ".join(f"({word})" for word in shown.split())
    tracked = f"3 Tc BT /F1 12 Tf 1 0 0 1 72 642 Tm [{words}] TJ ET 0 Tc"
    assert say(Sheet().paragraph(72, 60, PROSE).raw(tracked), "free").splitlines()[-1] == shown


@pytest.mark.parametrize("shown", ["A B C 1 2 3 4 5", "5 7 9 1 2 6 8"])
def test_figures_in_columns_are_no_number(say: Say, shown: str) -> None:
    sheet = Sheet().paragraph(72, 60, PROSE)
    for n, char in enumerate(shown.split()):
        sheet.text(72 + 11 * n, 200, char)
    assert say(sheet, "free").splitlines()[-1] == shown


def test_a_unit_of_another_alphabet_has_a_capital_within(say: Say) -> None:
    sheet = Sheet()
    for n in range(3):
        sheet.text(72, 100 + 20 * n, "Давление 101 кПа, мощность 15 кВт.", 12, "U")
    assert say(sheet, "free").split("\n")[-1].endswith("Давление 101 кПа, мощность 15 кВт.")


def table(rows: list[tuple[str, ...]]) -> str:
    head, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *rest])


@pytest.mark.parametrize("spaced", [False, True])
def test_rows_that_one_command_writes_are_cut_into_their_cells(say: Say, spaced: bool) -> None:
    """Some jumps are hardly wider than a space; with `spaced` each cell ends with a written space, too."""
    sheet = Sheet()
    for n, row in enumerate(ROWS):
        at = 72 + width(row[0])
        parts = [f"({row[0]})"]
        for end, cell in zip(ENDS, row[1:], strict=True):
            jump = (end - width(cell) - at) * 100
            parts.append(f"( ) {278 - jump:.0f} ({cell})" if spaced else f"{-jump:.0f} ({cell})")
            at = end
        sheet.raw(f"BT /F1 10 Tf 72 {742 - 18 * n} Td [{' '.join(parts)}] TJ ET")
    assert say(sheet) == table(ROWS)


def grid(sheet: Sheet, xs: tuple[float, ...], ys: tuple[float, ...]) -> Sheet:
    for y in ys:
        sheet.rule(xs[0], y, xs[-1], y)
    for x in xs:
        sheet.rule(x, ys[0], x, ys[-1])
    return sheet


def test_rows_below_a_coloured_group_row_keep_their_cells(say: Say) -> None:
    xs, sheet = (72, 172, 272, 372), Sheet()
    for n, row in enumerate((("Kind", "Total", "New"), (), ("I", "39053", "121"), ("II", "7429", "208"))):
        for x, cell in zip(xs, row, strict=False):
            sheet.text(x + 4, 113 + 18 * n, cell, 10)
    sheet.box(72, 118, 372, 136, "0.95 0.9 0.5").raw("0 g").text(76, 131, "SMALL (below 2.0)", 10)
    for y in (100, 118, 154, 172):  # no rule is drawn below the coloured row
        sheet.rule(72, y, 372, y)
    for x in xs:
        sheet.rule(x, 100, x, 118)
        sheet.rule(x, 136, x, 172)
    sheet.rule(72, 118, 72, 136).rule(372, 118, 372, 136)
    assert say(sheet) == table(
        [("Kind", "Total", "New"), ("SMALL (below 2.0)", "", ""), ("I", "39053", "121"), ("II", "7429", "208")]
    )


def test_a_heading_with_nothing_but_a_note_below_it_is_a_table(say: Say) -> None:
    sheet = Sheet()
    for left, right, name in ((72, 172, "Claim"), (172, 272, "Date"), (272, 372, "Status")):
        grid(sheet, (left, right), (100, 116)).text(left + 4, 112, name, 9)
    grid(sheet, (72, 372), (116, 132)).text(76, 128, "No results", 9)
    assert say(sheet) == table([("Claim", "Date", "Status"), ("No results", "", "")])


def test_names_beside_a_grid_and_turned_ones_above_it_belong_to_it(say: Say) -> None:
    xs, sheet = (200, 260, 320, 380), Sheet()
    grid(sheet, xs, (100, 160, 180, 200, 220))
    for x, name in zip(xs, ("Adams", "Bell", "Cruz"), strict=False):
        sheet.turned(x + 34, 156, name, "0 1 -1 0", 10)
    rows = [("Alder Bay", "55", "26", "47"), ("Birch Hill", "40", "23", "45"), ("Cedar Point", "56", "26", "40")]
    for n, row in enumerate(rows):
        sheet.text(110, 174 + 20 * n, row[0], 10, "F2")
        for x, cell in zip(xs, row[1:], strict=False):
            sheet.text(x + 15, 174 + 20 * n, cell, 10)
    assert say(sheet) == table([("", "Adams", "Bell", "Cruz"), *rows])


def test_captions_between_tables_with_level_rules_part_them(say: Say) -> None:
    sheet, y = Sheet(), 100.0
    rows = {"March": (140, 95), "April": (155, 71), "May": (161, 64)}
    for month, counts in rows.items():
        sheet.text(72, y, f"Stock in {month}", 11)
        y += 14
        for row in (("Item", "Store", "Count"), ("Bolts", "North", counts[0]), ("Nuts", "South", counts[1])):
            sheet.rule(72, y, 500, y)
            y += 18
            for x, cell in zip((76, 236, 376), row, strict=True):
                sheet.text(x, y - 5, str(cell), 11)
        sheet.rule(72, y, 500, y)
        y += 30
    expected = []
    for month, (bolts, nuts) in rows.items():
        stock = [("Item", "Store", "Count"), ("Bolts", "North", str(bolts)), ("Nuts", "South", str(nuts))]
        expected += [f"Stock in {month}", table(stock)]
    assert say(sheet) == "\n\n".join(expected)


def test_a_cell_of_the_last_row_keeps_its_second_line(say: Say) -> None:
    """Without rules nothing but the place of that line tells that it goes on with a cell."""
    sheet = Sheet()
    rows = [
        ("4.1", "The tenant keeps the garden", "in good order and tidy.", "120"),
        ("4.2", "The owner repairs", "the roof.", "85"),
    ]
    for n, (number, first, second, fee) in enumerate([("Clause", "Meaning", "", "Fee"), *rows]):
        y = 100 + 40 * n
        sheet.text(72, y, number, 10).text(132, y, first, 10).text(320, y, fee, 10)
        if second:
            sheet.text(132, y + 12, second, 10)
    assert say(sheet).split("\n")[2:] == [
        "| 4.1 | The tenant keeps the garden in good order and tidy. | 120 |",
        "| 4.2 | The owner repairs the roof. | 85 |",
    ]


def test_a_name_on_its_side_beside_several_rows_is_in_their_table(say: Say) -> None:
    sheet = Sheet()
    for x in (72, 100, 200, 260):
        sheet.rule(x, 140, x, 220)
    sheet.rule(72, 140, 260, 140).rule(72, 220, 260, 220)
    for y in (160, 180, 200):
        sheet.rule(100, y, 260, y)
    sheet.turned(90, 205, "Exports", "0 1 -1 0", 10)
    for n, (name, tons) in enumerate((("Coffee", "48"), ("Tea", "17"), ("Cocoa", "5"), ("Sugar", "33"))):
        sheet.text(104, 154 + 20 * n, name, 10).text(204, 154 + 20 * n, tons, 10)
    assert say(sheet).split("\n")[0] == "| Exports | Coffee | 48 |"


@pytest.mark.parametrize("text", ["1 2 3 4 5 6 7 8 9", "5 7 9 2 4 6", "A B C D E F G", "if x > 0 : a b c d"])
def test_spaces_that_the_file_writes_stay_between_single_characters(say: Say, text: str) -> None:
    assert say(Sheet().text(72, 100, text), mode="ocr") == text


def test_the_frames_of_boxes_to_tick_are_no_columns(say: Say) -> None:
    sheet = Sheet()
    for x in (72, 172, 232, 292):
        sheet.rule(x, 90, x, 150)
    for n, row in enumerate((("Task", "Yes", "No"), ("Bins", "", ""), ("Lamps", "", ""))):
        sheet.rule(72, 90 + 20 * n, 292, 90 + 20 * n)
        for x, cell in zip((76, 176, 236), row, strict=True):
            sheet.text(x, 105 + 20 * n, cell, 10)
    sheet.rule(72, 150, 292, 150)
    for down, ticked in ((20, 176), (40, 236)):
        y = 842 - 107 - down
        for x in (176, 236):
            sheet.raw(f"{x} {y} 10 10 re S").text(x + 13, 105 + down, "on", 10)
        sheet.raw(f"{ticked + 1} {y + 1} m {ticked + 9} {y + 9} l S {ticked + 1} {y + 9} m {ticked + 9} {y + 1} l S")
    assert say(sheet).split("\n")[2:] == ["| Bins | [x] on | [ ] on |", "| Lamps | [ ] on | [x] on |"]


def test_dots_of_a_leader_that_stand_wide_apart_are_no_columns(say: Say) -> None:
    """As forms of tax offices set them: each dot is an object of its own, a line and a half from the next one."""
    rows = [("Wages, salaries, tips", "7"), ("Taxable interest", "8a"), ("Ordinary dividends", "9a")]
    sheet = Sheet()
    for n, (label, name) in enumerate(rows):
        y = 100 + 14 * n
        sheet.text(72, y, label, 8).text(400, y, name, 8)
        for k in range(18):
            sheet.text(180 + 12 * k, y, ".", 8)
    assert say(sheet).count("|") < 25
    assert say(sheet, "ocr").count("...") == 3


def test_annotations_of_a_layer_are_given_with_a_note(tmp_path: Path) -> None:
    """PDFium draws them, whether the layer is on or off."""
    sheet = Sheet().paragraph(72, 100, PROSE)
    sheet.annotation("/Subtype /FreeText /Rect [60 535 300 555] /F 4 /OC 51 0 R /AP << /N 50 0 R >> /Contents (SHOWN)")
    form = stream("BT /F1 12 Tf 2 4 Td (SHOWN) Tj ET", "/Type /XObject /Subtype /Form /BBox [0 0 240 20] "
                  "/Resources << /Font << /F1 10 0 R >> >>")  # fmt: skip
    path = tmp_path / "page.pdf"
    layers = "/OCProperties << /OCGs [51 0 R] /D << /ON [] /OFF [51 0 R] >> >>"
    path.write_bytes(pdf(sheet, catalog=layers, objects={50: form, 51: "<< /Type /OCG /Name (one) >>"}))
    document = pypdfium2.PdfDocument(path)
    try:
        found = read_layer(PagePlace(document, 0, str(path), (827, 1170)), lambda: None)
    finally:
        document.close()
    assert "SHOWN" in layer_answer(LayerText(0, 0, **found), "free").text
    assert "1 annotation belongs to a layer" in found["remark"]


def test_raised_notes_in_a_wide_table_stand_at_their_figures(say: Say) -> None:
    sheet = Sheet()
    for row in range(12):
        for column in range(14):
            sheet.text(40 + 38 * column, 100 + 16 * row, f"{row}{column % 10}.5", 9)
    sheet.text(40 + 38 * 5 + 17.6, 100 + 16 * 6 - 3.5, "2", 6)  # behind 65.5
    sheet.text(40 + 38 * 9 + 17.6, 100 + 16 * 2 - 3.5, "7", 6)  # behind 29.5
    words = say(sheet, "ocr").split()
    assert {word for word in words if not word.replace(".", "").isascii()} == {"65.5²", "29.5⁷"}
    assert len(words) == 12 * 14

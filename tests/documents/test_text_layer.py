from __future__ import annotations

import io
import itertools
import os
import random
import statistics
import string
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import psutil
import pypdfium2
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from answering import LayerAnswer, layer_answer
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.decoder.renderer import PageRenderer
from deepseek_ocr_mcp.decoder.textlayer import content as pdf_content
from deepseek_ocr_mcp.decoder.textlayer.layer import PagePlace, read_layer
from deepseek_ocr_mcp.documents import reader as renderer
from deepseek_ocr_mcp.documents.private import private_folder
from deepseek_ocr_mcp.documents.reader import DocumentReader, LayerText
from deepseek_ocr_mcp.errors import BadRequest, Cancelled, InputTooLarge, UnreadableInput
from deepseek_ocr_mcp.worker.client import DECODER, WorkerHandle
from meaning import meant
from pdf_maker import A4, PROSE, Sheet, born_digital, letter_map, pdf, stream

MAX_PIXELS = 20_000_000


class Line:
    """A `Call` whose caller waits, or has gone."""

    def __init__(self, gone: bool = False) -> None:
        self.gone = gone

    def progress(self, done: float, message: str = "") -> None:
        raise AssertionError("a text layer is read too fast for progress")

    def raise_if_cancelled(self) -> None:
        if self.gone:
            raise Cancelled("Nobody waits.", remedy="Send it again.")

    def is_dropped(self, page: int) -> bool:
        return False


class Desk:
    """A decoder in this process, and a folder for its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.renderer = PageRenderer()
        self.path = ""

    def put(self, *sheets: Sheet, **more: Any) -> Desk:
        return self.put_file(pdf(*sheets, **more))

    def put_file(self, data: bytes) -> Desk:
        self.path = str(self.folder / f"{len(os.listdir(self.folder))}.pdf")
        Path(self.path).write_bytes(data)
        return self

    @property
    def file(self) -> dict[str, str]:
        return {"path": self.path, "name": "scan"}

    def read(
        self,
        mode: str = "document",
        term: str = "",
        page: int = 1,
        dpi: int = 100,
        max_pixels: int = MAX_PIXELS,
        gone: bool = False,
    ) -> LayerAnswer:
        place = {"file": self.file, "page": page, "dpi": dpi, "max_pixels": max_pixels}
        return layer_answer(LayerText(**self.renderer.text_layer(**place, call=Line(gone))), mode, term)

    def draw(self, page: int = 1, dpi: int = 100, max_pixels: int = MAX_PIXELS) -> Image.Image:
        out = str(self.folder / "out")
        size = self.renderer.render(self.file, page, dpi, max_pixels, out, Line())  # type: ignore[arg-type]
        return Image.frombytes("RGB", (size["width"], size["height"]), Path(out).read_bytes())

    def text(self, *sheets: Sheet, mode: str = "document", **more: Any) -> str:
        """The text of a page that must be usable."""
        found = self.put(*sheets, **more).read(mode)
        assert (found.usable, found.why) == (True, "")
        return found.text

    def why(self, *sheets: Sheet, **more: Any) -> str:
        """Why a page is not usable, or not all of it."""
        found = self.put(*sheets, **more).read()
        assert not found.usable
        return found.why


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.renderer.close()


# -- what it says


def test_a_page_is_given_as_markdown_exactly(desk: Desk) -> None:
    assert desk.text(born_digital()) == (
        "# A Title of this Page\n\n" + " ".join(PROSE) + "\n\n- the first item\n- the second one"
    )


def test_modes_differ_as_those_of_an_engine(desk: Desk) -> None:
    desk.put(born_digital())
    lines = ["A Title of this Page", *PROSE, "• the first item", "• the second one"]
    for mode in ("ocr", "free"):
        found = desk.read(mode)
        assert [block["text"] for block in found.blocks] == lines
        assert {block["label"] for block in found.blocks} == {"line"}
        assert found.text.split() == " ".join(lines).split()
        assert "#" not in found.text
    assert [block["label"] for block in desk.read("document").blocks] == ["title", *["line"] * 3, *["list"] * 2]


def test_find_gives_a_box_for_each_hit_and_the_lines_around_it(desk: Desk) -> None:
    desk.put(born_digital().text(300, 400, "One more Word Processor here"))
    found = desk.read("find", "word processor")
    assert found.text == f"{PROSE[0]}\nOne more Word Processor here"
    assert [(block["label"], block["text"]) for block in found.blocks] == [
        ("word processor", "word processor"),
        ("word processor", "Word Processor"),
    ]
    first, second = (block["box"] for block in found.blocks)
    assert abs(first[1] - (140 - 9) * 100 / 72) < 4
    assert 300 * 100 / 72 + 60 < second[0] < second[2] < 300 * 100 / 72 + 200


def test_find_goes_over_the_end_of_a_line(desk: Desk) -> None:
    desk.put(Sheet().paragraph(72, 100, ["This is a line that ends with a hyphen-", "ated word, as some lines do."]))
    found = desk.read("find", "hyphenated word")
    assert [block["text"] for block in found.blocks] == ["hyphen", "ated word"]
    assert desk.read("find", "no such thing").blocks == []
    assert desk.read("find", "no such thing").usable


# -- where it stands


SIZES = [
    ("", 100, MAX_PIXELS),
    ("", 200, MAX_PIXELS),
    ("", 100, 300_000),
    ("/Rotate 90", 100, MAX_PIXELS),
    ("/Rotate 180", 100, MAX_PIXELS),
    ("/Rotate 270", 144, MAX_PIXELS),
    ("/Rotate -90", 100, MAX_PIXELS),
    ("/MediaBox [-50 -20 700 900] /CropBox [40 30 580 800]", 100, MAX_PIXELS),
    ("/MediaBox [-50 -20 700.5 900.25] /CropBox [40 30.3 580 800] /Rotate 90", 133, MAX_PIXELS),
    ("/MediaBox [595 842 0 0]", 100, MAX_PIXELS),
]


@pytest.mark.parametrize(("entries", "dpi", "max_pixels"), SIZES)
def test_boxes_hold_all_ink_of_the_drawn_page_and_nothing_else(
    desk: Desk, entries: str, dpi: int, max_pixels: int
) -> None:
    sheet = born_digital()
    sheet.entries = entries
    found = desk.put(sheet).read("ocr", dpi=dpi, max_pixels=max_pixels)
    page = desk.draw(dpi=dpi, max_pixels=max_pixels).convert("L")
    assert (found.width, found.height) == page.size
    ink = page.point(lambda value: 255 if value < 128 else 0)
    assert len(found.blocks) == 6
    for block in found.blocks:
        x1, y1, x2, y2 = block["box"]
        assert 0 <= x1 < x2 <= page.width
        assert 0 <= y1 < y2 <= page.height
        inside = ink.crop((x1 - 2, y1 - 2, x2 + 2, y2 + 2)).getbbox()
        assert inside is not None
        # The ink fills its box: two pixels are what rounding and smoothing take.
        assert max(inside[0], inside[1], x2 - x1 + 4 - inside[2], y2 - y1 + 4 - inside[3]) <= 4
        ink.paste(0, (x1 - 1, y1 - 1, x2 + 1, y2 + 1))
    assert ink.getbbox() is None, "there is ink that no box holds"


@pytest.mark.parametrize("quarter", [90, 180, 270])
def test_a_turned_page_says_the_same_as_one_that_is_upright(desk: Desk, quarter: int) -> None:
    """Text that lies on its side in an upright page, and a page whose content is turned back by /Rotate."""
    expected = desk.text(born_digital())
    matrix = {90: (0, -1, 1, 0, 0, 595), 180: (-1, 0, 0, -1, 595, 842), 270: (0, 1, -1, 0, 842, 0)}[quarter]
    size = A4 if quarter == 180 else (A4[1], A4[0])
    sheet = Sheet(size=size, parts=["{} {} {} {} {} {} cm".format(*matrix), *born_digital().parts])
    assert desk.text(sheet) == expected
    sheet.entries = f"/Rotate {-quarter % 360}"
    assert desk.text(sheet) == expected


def test_text_that_runs_otherwise_comes_after_the_rest(desk: Desk) -> None:
    sheet = (
        born_digital()
        .turned(30, 600, "Sideways in the margin", "0 1 -1 0")
        .turned(200, 600, "DRAFT", "0.7 0.7 -0.7 0.7", 60)
    )
    text = desk.text(sheet)
    assert text.startswith(desk.text(born_digital()))
    assert text.endswith("Sideways in the margin\n\nDRAFT")


# -- layout


def test_columns_are_read_one_after_the_other(desk: Desk) -> None:
    left = [f"the left column has its line {n}" for n in "abcdefgh"]
    right = [f"the right column has a line {n}" for n in "abcdefgh"]
    sheet = Sheet().text(72, 80, "A headline that goes over the whole of both columns", 18)
    for n in range(8):  # written row by row, as some programs do
        sheet.text(72, 120 + 15 * n, left[n], 11).text(310, 120 + 15 * n, right[n], 11)
    assert desk.text(sheet, mode="free").split("\n\n", 1)[1].split("\n") == [*left, "", *right]


def test_cells_of_a_ruled_table_stay_apart_and_together(desk: Desk) -> None:
    sheet = Sheet().paragraph(72, 100, PROSE)
    for y in (160, 180, 220, 240):
        sheet.rule(72, y, 400, y)
    for x in (72, 200, 300, 400):
        sheet.rule(x, 160, x, 220)
    sheet.rule(72, 220, 72, 240).rule(300, 220, 300, 240).rule(400, 220, 400, 240)
    sheet.text(75, 175, "Name").text(203, 175, "Amount").text(303, 175, "Price")
    sheet.text(75, 194, "Apples and other").text(75, 210, "fruit in a box").text(203, 200, "12").text(303, 200, "3.40")
    sheet.text(75, 235, "Sum of everything, over two columns").text(303, 235, "40.80")
    sheet.text(72, 270, "Text below the table.")
    assert desk.text(sheet).split("\n\n")[1:] == [
        "| Name | Amount | Price |\n"
        "| --- | --- | --- |\n"
        "| Apples and other fruit in a box | 12 | 3.40 |\n"
        "| Sum of everything, over two columns |  | 40.80 |",
        "Text below the table.",
    ]


def stations(ruled: bool) -> Sheet:
    sheet = Sheet().text(72, 80, "Stations of the coast line", 20)
    for r, row in enumerate(STATIONS):
        for c, cell in enumerate(row):
            sheet.text(76 + 120 * c, 134 + 24 * r, cell)
    for n in range(6 if ruled else 0):
        sheet.rule(72, 118 + 24 * n, 432, 118 + 24 * n)
    for x in (72, 192, 312, 432) if ruled else ():
        sheet.rule(x, 118, x, 238)
    return sheet


STATIONS = [("Station", "Opened", "Passengers"), ("Millbrook", "1904", "18,200"), ("Harbour East", "1911", "7,450"),
            ("Chapel Hill", "1926", "31,900"), ("Old Quarry", "1938", "2,615")]  # fmt: skip


@pytest.mark.parametrize("ruled", [True, False])
@pytest.mark.parametrize("way", ["upright", "turned by the page", "turned by its text", "on its head"])
def test_a_table_keeps_its_cells_however_the_page_lies(desk: Desk, way: str, ruled: bool) -> None:
    sheet = stations(ruled)
    if way == "turned by the page":
        sheet.entries = "/Rotate 270"
    elif way == "turned by its text":
        sheet = Sheet(size=(842, 595), parts=["q 0 -1 1 0 0 595 cm", *sheet.parts, "Q"])
    elif way == "on its head":
        sheet = Sheet(parts=["q -1 0 0 -1 595 842 cm", *sheet.parts, "Q"])
    head, *rows = ["| " + " | ".join(row) + " |" for row in STATIONS]
    assert desk.text(sheet).split("\n\n") == [
        "# Stations of the coast line",
        "\n".join([head, "| --- | --- | --- |", *rows]),
    ]


@pytest.mark.parametrize("ruled", [True, False])
def test_a_table_in_hebrew_begins_on_the_right(desk: Desk, ruled: bool) -> None:
    rows = [("שם", "עיר", "גיל"), ("דוד", "חיפה", "41"), ("רות", "אילת", "37"), ("נעמי", "צפת", "29")]
    sheet = Sheet()
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            shown = cell if cell.isdigit() else cell[::-1]
            sheet.text(400 - 100 * c, 115 + 24 * r, shown, 12, "U")
    for n in range(5 if ruled else 0):
        sheet.rule(190, 100 + 24 * n, 490, 100 + 24 * n)
    for x in (190, 290, 390, 490) if ruled else ():
        sheet.rule(x, 100, x, 196)
    head, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    assert desk.text(sheet) == "\n".join([head, "| --- | --- | --- |", *rest])


def test_a_rule_parts_cells_that_almost_touch(desk: Desk) -> None:
    sheet = Sheet()
    for y in (100, 120, 140):
        sheet.rule(72, y, 152, y)
    for x in (72, 110, 152):
        sheet.rule(x, 100, x, 140)
    # One command writes the whole row; the rule runs through the space.
    sheet.text(75, 115, "12345 67890").text(75, 135, "aaaaa bbbbb")
    assert desk.text(sheet) == "| 12345 | 67890 |\n| --- | --- |\n| aaaaa | bbbbb |"


def test_entries_under_one_another_are_rows_where_only_columns_are_ruled(desk: Desk) -> None:
    sheet = Sheet()
    for y in (100, 120, 180):
        sheet.rule(72, y, 300, y)
    for x in (72, 200, 300):
        sheet.rule(x, 100, x, 180)
    sheet.text(75, 115, "Town").text(203, 115, "People")
    for n, (town, people) in enumerate([("Ulm", "126,000"), ("Jena", "111,000"), ("Trier", "110,000")]):
        sheet.text(75, 135 + 18 * n, town).text(203, 135 + 18 * n, people)
    assert desk.text(sheet).splitlines()[2:] == ["| Ulm | 126,000 |", "| Jena | 111,000 |", "| Trier | 110,000 |"]


def test_a_frame_and_the_grid_of_a_chart_are_no_tables(desk: Desk) -> None:
    sheet = born_digital()
    for y in (60, 250):
        sheet.rule(50, y, 540, y)
    for x in (50, 540):
        sheet.rule(x, 60, x, 250)
    for n in range(9):
        sheet.rule(100, 400 + 20 * n, 400, 400 + 20 * n).rule(100 + 37.5 * n, 400, 100 + 37.5 * n, 560)
    sheet.text(200, 465, "growth")
    assert "|" not in desk.text(sheet)


def test_a_table_without_rules_has_cells_where_they_stand_under_each_other(desk: Desk) -> None:
    sheet = Sheet()
    for n, row in enumerate([("Name", "Born", "Died"), ("Ada", "1815", "1852"), ("Alan", "1912", "1954")]):
        for column, cell in enumerate(row):
            sheet.text(72 + 100 * column, 100 + 18 * n, cell)
    assert (
        desk.text(sheet) == "| Name | Born | Died |\n| --- | --- | --- |\n| Ada | 1815 | 1852 |\n| Alan | 1912 | 1954 |"
    )


def test_bold_lines_above_text_are_titles(desk: Desk) -> None:
    sheet = Sheet().text(72, 80, "The Whole", 20)
    sheet.text(72, 110, "First Part", 12, "F2").paragraph(72, 125, PROSE)
    sheet.text(72, 200, "Second Part", 12, "F2").paragraph(72, 215, PROSE)
    assert [line for line in desk.text(sheet).split("\n\n") if line.startswith("#")] == [
        "# The Whole",
        "## First Part",
        "## Second Part",
    ]
    # A page that is bold all over has no titles for that.
    assert "#" not in desk.text(Sheet().paragraph(72, 100, ["All of it", *PROSE], font="F2"))


def test_list_marks_are_found_apart_from_their_text_and_as_shapes(desk: Desk) -> None:
    sheet = Sheet().paragraph(72, 60, PROSE)
    for n, word in enumerate(("apples", "pears", "plums")):
        sheet.text(90, 130 + 20 * n, f"some {word} in a list").box(78, 124 + 20 * n, 82, 128 + 20 * n)
    assert desk.text(sheet).endswith("- some apples in a list\n- some pears in a list\n- some plums in a list")
    sheet = Sheet().paragraph(72, 60, PROSE)
    for n, word in enumerate(("apples", "pears", "plums")):
        sheet.text(72, 130 + 20 * n, f"{n + 1}.").text(108, 130 + 20 * n, f"some {word} in a list")
    assert desk.text(sheet).endswith("1. some apples in a list\n2. some pears in a list\n3. some plums in a list")


# -- characters


def said(desk: Desk, sheet: Sheet, **more: Any) -> str:
    return desk.text(sheet, mode="free", **more)


def test_scripts_in_their_order(desk: Desk) -> None:
    assert said(desk, Sheet().text(72, 100, "Здравствуй, мир. Γειά σου Κόσμε.", 12, "U")).startswith("Здравствуй, мир.")
    assert said(desk, Sheet().text(72, 100, "日本語のテキスト、ここに。", 12, "U")) == "日本語のテキスト、ここに。"
    beyond = {34: stream(letter_map({"a": "𝒳", " ": " ", "b": "😀"}))}
    assert said(desk, Sheet().text(72, 100, "a b", 12, "X"), objects=beyond) == "𝒳 😀"


@pytest.mark.parametrize("visual", [True, False])
def test_hebrew_and_arabic_are_read_from_the_right_whichever_way_they_are_written(desk: Desk, visual: bool) -> None:
    def write(sheet: Sheet, right: float, y: float, shown: str) -> None:
        """Characters as they are seen from left to right, in either order of writing."""
        places = [(right - 7.2 * (len(shown) - n), char) for n, char in enumerate(shown)]
        for x, char in places if visual else places[::-1]:
            if char != " ":
                sheet.text(x, y, char, 12, "U")

    sheet = Sheet()
    write(sheet, 500, 100, "English words " + "עולם"[::-1] + " 12,345 " + "שלום"[::-1])
    write(sheet, 500, 120, "." + "وكتب سطرا ثانيا"[::-1])
    assert said(desk, sheet) == "שלום 12,345 עולם English words\nوكتب سطرا ثانيا."


def test_vertical_lines_are_read_from_the_right(desk: Desk) -> None:
    sheet = (
        Sheet()
        .stacked(400, 100, "縦書きの最初の行は")
        .stacked(378, 100, "ここで次の行に続き")
        .stacked(356, 100, "ます。")
    )
    assert said(desk, sheet).split() == ["縦書きの最初の行は", "ここで次の行に続き", "ます。"]
    assert said(desk, born_digital().stacked(500, 300, "縦書きの行")).endswith("縦書きの行")


def test_ligatures_accents_and_hyphens_become_letters(desk: Desk) -> None:
    assert said(desk, Sheet().text(72, 100, "eﬃcient ﬂow of the oﬀice", 12, "U")) == "efficient flow of the office"
    # Old TeX sets an accent over a letter as a character of its own.
    sheet = Sheet().text(72, 100, "Schr").text(72 + 25.3, 100, "¨").text(72 + 24.7, 100, "odinger")
    assert said(desk, sheet) == "Schrödinger"
    sheet = Sheet().paragraph(
        72, 100, ["a word that is divided by a soft hy\xadphen, and here sol\xad", "ved at the end"]
    )
    assert "sol" in said(desk, sheet)
    document = desk.put(sheet).read("document").text
    assert "solved" in document


def test_words_divided_by_the_hyphen_of_unicode_are_healed_in_narrow_columns(desk: Desk) -> None:
    lines = ["the narrow col‐", "umn of a news‐", "paper has some", "long words and"]
    sheet = Sheet()
    for x in (72, 240):
        sheet.paragraph(x, 100, lines * 4, font="U")
    text = desk.text(sheet)
    assert (text.count("column of a newspaper has"), text.count("‐")) == (8, 0)
    assert len(desk.read("find", "newspaper").blocks) == 16


def test_raised_and_lowered_characters_stay_in_their_line(desk: Desk) -> None:
    sheet = Sheet().text(72, 100, "Water is H").text(128.2, 102, "2", 8).text(132.8, 100, "O and 10")
    sheet.text(182.4, 95, "3", 8).text(190.2, 100, "litres of it are heavy.")
    assert said(desk, sheet) == "Water is H₂O and 10³ litres of it are heavy."


def test_a_note_after_a_figure_is_no_part_of_it(desk: Desk) -> None:
    sheet = Sheet().text(72, 100, "24.91").text(102.1, 96.5, "2", 7).text(200, 100, "18.40")
    sheet.text(72, 120, "as in 2019").text(126.8, 116.5, "a)", 7)
    assert said(desk, sheet).split("\n") == ["24.91² 18.40", "as in 2019a)"]


def test_letters_that_stand_apart_are_words(desk: Desk) -> None:
    sheet = Sheet().raw("6 Tc").text(72, 100, "SPACED HEADLINE HERE").raw("0 Tc").paragraph(72, 130, PROSE)
    assert said(desk, sheet).startswith("SPACED HEADLINE HERE")


def test_a_shadow_is_not_said_twice(desk: Desk) -> None:
    sheet = born_digital()
    for dx, dy in ((1.5, 1.0), (0.3, 0)):
        sheet.text(72 + dx, 100 + dy, "A Title of this Page", 24)
    assert desk.text(sheet) == desk.text(born_digital())


def test_what_adobe_and_symbol_fonts_keep_in_the_private_area_is_known(desk: Desk) -> None:
    sheet = (
        Sheet()
        .text(72, 100, "\uf0b7 an item of it", 12, "U")
        .text(72, 120, "S\uf769\uf76d\uf775 in small capitals", 12, "U")
    )
    assert said(desk, sheet).split("\n")[0] == "• an item of it"
    assert "Simu in small capitals" in desk.read("free").text


def test_a_few_unknown_characters_are_marked_counted_and_left_to_reading(desk: Desk) -> None:
    sheet = Sheet().paragraph(72, 100, PROSE).text(72, 200, "a\ue123c", 12, "U")
    found = desk.put(sheet).read()
    assert (found.usable, found.partial, found.why) == (False, True, "some of its characters have no certain Unicode")
    assert found.text.endswith("a\ufffdc")
    assert "1 character is marked \ufffd" in found.remark
    assert "'a\ufffdc'" in found.remark


# -- what is not seen is not said


PALE = {
    "white on white": Sheet().paragraph(72, 100, PROSE).text(72, 300, "SECRET", more="1 g"),
    "almost white": Sheet().paragraph(72, 100, PROSE).text(72, 300, "SECRET", more="0.96 0.97 0.95 rg"),
    "black on black": Sheet().paragraph(72, 100, PROSE).box(60, 280, 200, 310).text(72, 300, "SECRET", more="0 g"),
    "painted over": Sheet().paragraph(72, 100, PROSE).text(72, 300, "SECRET").box(60, 280, 200, 310, "0.2 0.2 0.2"),
    "outside": Sheet().paragraph(72, 100, PROSE).text(700, 300, "SECRET"),
    "above the page": Sheet().paragraph(72, 100, PROSE).text(72, -20, "SECRET"),
    "clipped": Sheet().paragraph(72, 100, PROSE).raw("q 0 700 300 142 re W n").text(72, 300, "SECRET").raw("Q"),
    "invisible": Sheet().paragraph(72, 100, PROSE).text(72, 300, "SECRET", more="3 Tr"),
    "transparent": Sheet().paragraph(72, 100, PROSE).raw("/Clear gs").text(72, 300, "SECRET"),
}


@pytest.mark.parametrize("way", PALE)
def test_text_that_is_not_seen_is_not_given(desk: Desk, way: str) -> None:
    data = pdf(PALE[way]).replace(b"/Multiply << /BM /Multiply >>", b"/Clear << /Type /ExtGState /ca 0 >>")
    found = desk.put_file(data).read("free")
    assert found.usable
    assert "SECRET" not in found.text
    assert found.text.split() == " ".join(PROSE).split()


SEEN = {
    "white on a dark box": Sheet().box(60, 280, 200, 310, "0 0 0.5").text(72, 300, "LEGIBLE", more="1 g"),
    "white on a picture": Sheet().picture(60, 280, 120, 310).text(62, 300, "LEGIBLE", more="1 g"),
    "a marker over it": Sheet().text(72, 300, "LEGIBLE").raw("q /Multiply gs").box(60, 280, 200, 310, "1 1 0").raw("Q"),
    "on a box of its own": Sheet().box(60, 280, 200, 310, "1 1 0.8").text(72, 300, "LEGIBLE"),
    "outlined": Sheet().text(72, 300, "LEGIBLE", more="1 Tr"),
    "half cut off": Sheet().raw("q 0 545 600 300 re W n").text(72, 300, "LEGIBLE").raw("Q"),
}


@pytest.mark.parametrize("way", SEEN)
def test_text_that_is_seen_is_given(desk: Desk, way: str) -> None:
    sheet = SEEN[way]
    together = Sheet(parts=[*Sheet().paragraph(72, 100, PROSE).parts, *sheet.parts])
    assert "LEGIBLE" in said(desk, together)


# -- what is not usable


def test_a_blank_page_is_usable_and_says_nothing(desk: Desk) -> None:
    found = desk.put(Sheet()).read()
    assert (found.usable, found.why, found.text, found.blocks) == (True, "", "", [])


def test_without_text_there_is_nothing_to_use(desk: Desk) -> None:
    assert desk.why(Sheet().picture(0, 0, 595, 842)) == "it has none"
    assert desk.why(Sheet().box(100, 100, 200, 200)) == "it has none"
    assert desk.why(Sheet().box(100, 100, 200, 200).text(700, 10, "outside")) == "its text cannot be seen"


def test_an_earlier_ocr_is_not_trusted(desk: Desk) -> None:
    scan = Sheet().picture(0, 0, 595, 842)
    for n, line in enumerate(PROSE):
        scan.text(72, 100 + 15 * n, line, more="3 Tr")
    assert desk.why(scan) == "the text is invisible, as that of an earlier OCR"
    assert desk.read().text == ""
    behind = Sheet().paragraph(72, 100, PROSE).picture(0, 0, 595, 842)
    assert desk.why(behind) == "the text is invisible, as that of an earlier OCR"
    # A page with a letterhead in type and the rest scanned.
    part = born_digital().picture(60, 300, 500, 800).text(72, 400, "words of the scanned part", more="3 Tr")
    assert desk.why(part) == "pictures on it hold text of an earlier OCR"
    found = desk.read()
    assert found.partial
    assert found.text == desk.text(born_digital())


def test_a_stamp_or_page_number_on_a_scan_does_not_stand_for_it(desk: Desk) -> None:
    for name, why in (("Im", "most of the page is a picture without text"), ("Fax", "most of the page is a scan")):
        scan = Sheet().picture(0, 0, 595, 842, name)
        assert desk.why(Sheet(parts=[*scan.parts, "1 0 0 rg"]).text(290, 820, "17")) == why
        stamped = Sheet(parts=[*scan.parts, "1 0 0 rg"])
        stamped.text(60, 30, "Received by the office on 12 March 2020, file 1234/20")
        assert desk.why(stamped.text(60, 820, "Downloaded from an archive; all rights reserved, page 3 of 17")) == why
        assert desk.read().partial
    # In strips, as scanners write it.
    strips = Sheet()
    for n in range(80):
        strips.picture(0, 10 * n, 595, 10 * n + 10)
    assert desk.why(strips.text(290, 790, "17", more="1 g")) == "most of the page is a picture without text"
    # A receipt in the middle of an empty page.
    assert desk.why(Sheet().picture(200, 200, 400, 600).text(72, 60, "Receipt 7")) == (
        "most of the page is a picture without text"
    )


def test_a_figure_or_a_ground_does_not_stand_against_its_text(desk: Desk) -> None:
    figure = Sheet().picture(150, 500, 450, 700)
    for n in range(4):
        figure.paragraph(72, 80 + 70 * n, PROSE)
    assert desk.put(figure).read().usable
    slide = Sheet(size=(720, 405)).picture(0, 0, 720, 405).text(40, 60, "What we have found", 32, more="1 g")
    for n in range(5):
        slide.text(60, 120 + 40 * n, f"point {n} of the things that we have found", 20)
    assert desk.put(slide).read().usable


def test_garbled_characters_are_told_by_what_the_file_says_about_them(desk: Desk) -> None:
    no_map = "the characters are garbled, no Unicode map"
    assert desk.why(Sheet().paragraph(72, 100, PROSE, font="N")) == no_map
    assert desk.why(Sheet().paragraph(72, 100, PROSE).text(72, 200, "This line has none", 12, "N")) == (
        "some of its characters have no certain Unicode"
    )
    assert desk.read().partial
    assert desk.why(Sheet().text(72, 100, "\ue101\ue102\ue103\ue104 \ue105\ue106", 12, "U")) == (
        "the characters are garbled, not of any language"
    )


def test_garbled_characters_are_told_by_their_letters(desk: Desk) -> None:
    def mapped(pairs: dict[str, str]) -> dict[int, str | bytes]:
        return {34: stream(letter_map(pairs))}

    lower = string.ascii_lowercase
    three_on = dict(zip(lower, lower[3:] + lower[:3], strict=True)) | {" ": " ", ".": "."}
    many = [line.lower() for line in PROSE] * 2
    sheet = Sheet().paragraph(72, 100, many, font="X")
    assert desk.why(sheet, objects=mapped(three_on)) == "the characters are garbled, not of any language"
    # Cyrillic that claims to be Latin: Windows-1251 read as Windows-1252.
    russian = (
        "привет всем кто читает этот текст на русском языке он достаточно длинный чтобы было понятно о чем речь идет"
    )
    wrong = russian.encode("cp1251").decode("latin-1")
    lines = [wrong[start : start + 40] for start in range(0, len(wrong), 40)] * 2
    assert desk.why(Sheet().paragraph(72, 100, lines, font="U")) == "the characters are garbled, of another encoding"
    utf8 = "für Bücher über schöne Häuser".encode().decode("latin-1")
    assert desk.why(Sheet().text(72, 100, utf8, font="U")) == "the characters are garbled, of another encoding"


LANGUAGES = {
    "cs": "Žluťoučký kůň úpěl ďábelské ódy. Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. "
    "Jsou nadáni rozumem a svědomím a mají spolu jednat v duchu bratrství.",
    "cy": "Genir pawb yn rhydd ac yn gydradd â'i gilydd mewn urddas a hawliau. Fe'u cynysgaeddir â rheswm a chydwybod, "
    "a dylai pawb ymddwyn y naill at y llall mewn ysbryd cymodlon.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und "
    "Gewissen begabt und "
    "sollen einander im Geist der Brüderlichkeit begegnen.",
    "fi": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on annettu järki ja "
    "omatunto, ja heidän on toimittava toisiaan kohtaan veljeyden hengessä.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền. Mọi con người đều được tạo hóa "
    "ban cho lý trí và lương tâm và cần phải đối xử với nhau trong tình bằng hữu.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i "
    "sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и "
    "совестью и должны "
    "поступать в отношении друг друга в духе братства.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι "
    "προικισμένοι με λογική "
    "και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης.",
    "haw": "Hānau kūʻokoʻa ʻia nā kānaka apau loa, a ua kau like ka hanohano a me nā pono kīvila ma luna o "
    "kākou pākahi. Ua "
    "hāʻawi ʻia mai iā kākou ka noʻonoʻo pono a me ka ʻike pono.",
    "code": "def is_strange(text): return any(unicodedata.category(char) in names for char in text) # class Layer with "
    "str, int, dict, len, lambda, kwargs, args, self, init, tmp, ptr, msg, req, resp, ctx, cfg, btn",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_language_is_taken_for_garbled(desk: Desk, language: str) -> None:
    words = LANGUAGES[language].split()
    lines = [" ".join(words[n : n + 7]) for n in range(0, len(words), 7)]
    assert said(desk, Sheet().paragraph(40, 100, lines, font="U")).split() == words


def test_words_that_fall_apart_or_run_together_are_not_used(desk: Desk) -> None:
    sheet = Sheet()
    for n, line in enumerate(PROSE):
        for k, char in enumerate(line.replace(" ", "")):
            sheet.text(40 + 14 * (k % 37), 100 + 40 * n + 14 * (k // 37), char, 8)
    found = desk.put(sheet).read()
    assert found.usable is False or "c o n c" not in found.text
    together = ["".join(PROSE).replace(" ", "")[n : n + 60] for n in range(0, 180, 60)]
    many = [line for line in together for _ in range(20)]
    assert desk.why(Sheet().paragraph(40, 40, many, 9)) == "its words are not apart"


def test_text_that_stands_on_text_is_given_line_by_line(desk: Desk) -> None:
    loud = [line.upper() for line in PROSE]
    text = desk.text(Sheet().paragraph(72, 100, PROSE).paragraph(75, 104, loud), mode="free")
    assert sorted(filter(None, text.split("\n"))) == sorted([*PROSE, *loud])


def test_letters_drawn_as_shapes_are_left_to_reading(desk: Desk) -> None:
    sheet = Sheet().text(72, 60, "Exported without fonts")
    shapes = random.Random(7)
    for n in range(200):
        x, y = 72 + 12 * (n % 30), 700 - 20 * (n // 30)
        curves = " ".join(
            f"{x + 2} {y + k} {x + 6} {y + k} {x + 4} {y + k + 1} c" for k in range(shapes.randint(5, 30))
        )
        sheet.raw(f"{x} {y} m {curves} f")
    assert desk.why(sheet) == "some of its text is drawn, not written"
    found = desk.read()
    assert (found.partial, found.text) == (True, "Exported without fonts")


def test_text_on_a_layer_is_given_if_the_layer_is_on(desk: Desk) -> None:
    layers = {51: "<< /Type /OCG /Name (one) >>", 52: "<< /Type /OCG /Name (two) >>"}
    sheet = born_digital().raw("/OC /L1 BDC").text(72, 400, "SWITCHED").raw("EMC")
    off = "/OCProperties << /OCGs [51 0 R 52 0 R] /D << /ON [] /OFF [51 0 R] >> >>"
    assert desk.text(sheet, catalog=off, objects=layers) == desk.text(born_digital())
    on = "/OCProperties << /OCGs [51 0 R 52 0 R] /D << /ON [51 0 R] /OFF [52 0 R] >> >>"
    assert desk.text(sheet, catalog=on, objects=layers).endswith("SWITCHED")


# -- forms and annotations


FIELD = "/Subtype /Widget /FT /Tx /T (name) /V (Alice Example) /DA (/F1 12 Tf 0 g) /Rect [72 500 300 520] /F 4"
LOOK = "/BBox [0 0 228 20] /Type /XObject /Subtype /Form /Resources << /Font << /F1 10 0 R >> >>"


def form(extra: str = "") -> str:
    return f"/AcroForm << /Fields [102 0 R] /DR << /Font << /F1 10 0 R >> >> /DA (/F1 12 Tf 0 g) {extra} >>"


def test_what_was_typed_into_a_form_belongs_to_the_page(desk: Desk) -> None:
    look = stream("BT /F1 12 Tf 2 5 Td (Alice Example) Tj ET", LOOK)
    sheet = born_digital().annotation(f"{FIELD} /AP << /N 60 0 R >>")
    assert "Alice Example" in desk.text(sheet, catalog=form(), objects={60: look})
    before = desk.draw()
    desk.read()
    assert ImageChops.difference(before, desk.draw()).getbbox() is None, "drawing goes on as ever"
    [block] = desk.read("find", "Alice Example").blocks
    x1, y1, x2, y2 = block["box"]
    assert 72 * 100 / 72 <= x1 < x2 <= 300 * 100 / 72
    assert (842 - 520) * 100 / 72 <= y1 < y2 <= (842 - 500) * 100 / 72
    assert before.crop((x1, y1, x2, y2)).convert("L").getextrema()[0] < 128


def test_a_field_without_an_appearance_is_given_one(desk: Desk) -> None:
    assert "Alice Example" in desk.text(born_digital().annotation(FIELD), catalog=form("/NeedAppearances true"))


def test_a_field_whose_text_is_not_drawn_as_text_is_left_to_reading(desk: Desk) -> None:
    drawn = stream("0 0 228 20 re f", LOOK)
    found = desk.put(
        born_digital().annotation(f"{FIELD} /AP << /N 60 0 R >>"), catalog=form(), objects={60: drawn}
    ).read()
    assert found.usable is False or "Alice Example" in found.text


def test_notes_on_the_page_are_read_and_those_beside_it_are_not(desk: Desk) -> None:
    look = stream("BT /F1 12 Tf 2 5 Td (A remark) Tj ET", LOOK)
    note = "/Subtype /FreeText /Contents (A remark) /DA (/F1 12 Tf) /Rect [72 500 300 520] /AP << /N 60 0 R >>"
    assert "A remark" in desk.text(born_digital().annotation(f"{note} /F 4"), objects={60: look})
    unknown_kinds_only = "/F 5"  # the flag Invisible hides no kind that a reader knows, and PDFium draws all of them
    assert "A remark" in desk.text(born_digital().annotation(note + unknown_kinds_only), objects={60: look})
    for hidden in ("/F 2", "/F 32"):
        assert "A remark" not in desk.text(born_digital().annotation(note + hidden), objects={60: look})
    comment = "/Subtype /Text /Contents (Only in the margin) /Rect [72 500 92 520]"
    link = "/Subtype /Link /Rect [72 500 92 520] /A << /S /URI /URI (https://example.org) >>"
    assert desk.text(born_digital().annotation(comment).annotation(link)) == desk.text(born_digital())


FORM_WITHOUT_FONTS = "/AcroForm << /Fields [] /DA (/F1 12 Tf 0 g) >>"


@pytest.mark.parametrize("look", ["/DA (/F1 12 Tf 0 g)", ""])
@pytest.mark.parametrize("catalog", ["", FORM_WITHOUT_FONTS.replace("/DA", "/DR << /Font << /F1 10 0 R >> >> /DA")])
def test_a_note_without_an_appearance_is_read_as_it_is_drawn(desk: Desk, look: str, catalog: str) -> None:
    note = born_digital().annotation(f"/Subtype /FreeText /Contents (Typed words) {look} /Rect [72 500 300 520] /F 4")
    assert desk.text(note, catalog=catalog).endswith("Typed words")
    assert desk.draw().crop((100, 440, 420, 480)).convert("L").getextrema()[0] < 128, "it is drawn, too"


def test_words_of_a_note_that_is_not_drawn_are_told_in_a_remark(desk: Desk) -> None:
    """PDFium draws no note without an appearance where a form has no fonts; other programs do."""
    entries = "/Subtype /FreeText /Contents (Typed words) /DA (/F1 12 Tf 0 g) /Rect [72 500 300 520] /F"
    found = desk.put(born_digital().annotation(f"{entries} 4"), catalog=FORM_WITHOUT_FONTS).read()
    assert "1 note is not drawn" in found.remark
    assert "'Typed words'" in found.remark
    hidden = desk.put(born_digital().annotation(f"{entries} 2"), catalog=FORM_WITHOUT_FONTS).read()
    assert (hidden.usable, hidden.remark) == (True, "")


@pytest.mark.parametrize("kind", ["Line", "Highlight", "Square", "Ink", "Text"])
def test_words_in_the_appearance_of_an_annotation_are_read_whatever_its_kind(desk: Desk, kind: str) -> None:
    looks = {60: stream("BT /F1 12 Tf 2 5 Td (42 metres) Tj ET", LOOK), 61: stream("2 2 m 200 18 l S", LOOK)}
    note = f"/Subtype /{kind} /Contents (In the margin) /Rect [72 500 300 520] /F 4 /L [74 502 290 518]"
    assert desk.text(born_digital().annotation(f"{note} /AP << /N 60 0 R >>"), objects=looks).endswith("42 metres")
    # What draws no words adds none.
    assert "margin" not in desk.put(born_digital().annotation(f"{note} /AP << /N 61 0 R >>"), objects=looks).read().text


def test_a_field_of_a_page_that_was_taken_out_of_its_file_is_drawn(desk: Desk) -> None:
    """PDFium draws no field that is in no form of the document, as pypdf's add_page leaves it; other programs do."""
    look = stream("BT /F1 12 Tf 2 5 Td (Alice Example) Tj ET", LOOK)

    def ink(flags: str = "/F 4", catalog: str = "") -> bool:
        field = FIELD.replace("/F 4", flags) + " /AP << /N 60 0 R >>"
        desk.put(born_digital().annotation(field), catalog=catalog, objects={60: look})
        return desk.draw().crop((100, 440, 420, 480)).convert("L").getextrema()[0] < 128

    assert ink(catalog=form())
    assert ink()
    assert "Alice Example" in desk.read().text
    assert not ink("/F 2"), "a hidden one is not"


CHOICE = "/Subtype /Widget /FT /Ch /Ff 131072 /T (berth) /DA (/F1 12 Tf 0 g) /Rect [72 500 300 520] /F 4"


def test_a_choice_counts_as_the_words_that_are_shown_and_not_as_their_code(desk: Desk) -> None:
    """Such a page was read as a picture for its code, and its radio buttons were lost."""
    look = stream("BT /F1 12 Tf 2 5 Td (Swinging buoy) Tj ET", LOOK)
    options = "/Opt [[(A1) (Alongside)] [(B2) (Swinging buoy)]] /V (B2)"
    sheet = born_digital().annotation(f"{CHOICE} {options} /AP << /N 60 0 R >>")
    text = desk.text(sheet, catalog=form(), objects={60: look})
    assert "Swinging buoy" in text
    assert "B2" not in text


def struck_in(found: LayerAnswer) -> list[str]:
    """The words that a remark says are struck out."""
    _, told, words = found.remark.partition("Words are struck out, and the text holds them all the same: ")
    return [word.strip("'") for word in words.rstrip(".").split("; ")] if told else []


@pytest.mark.parametrize("size", [8, 12, 30])
@pytest.mark.parametrize("up", [0.2, 0.28, 0.36])
def test_words_below_a_bar_are_given_and_named_as_struck_out(desk: Desk, size: int, up: float) -> None:
    y = 300 - up * size
    width = size * 0.556  # of a figure of Helvetica
    sheet = born_digital().text(72, 300, "900 850 EUR", size).rule(72, y, 72 + 3 * width, y)
    found = desk.put(sheet).read()
    assert "900 850 EUR" in found.text
    assert struck_in(found) == ["900"]


def test_underlines_rules_of_tables_and_dashes_strike_nothing_out(desk: Desk) -> None:
    sheet = born_digital().text(72, 300, "Underlined, overlined").rule(72, 302, 190, 302).rule(72, 288, 190, 288)
    sheet.text(72, 340, "A row").text(300, 340, "that a rule crosses").rule(50, 337, 520, 337)
    sheet.text(72, 380, "5").rule(78, 377, 90, 377).text(92, 380, "7")
    sheet.text(72, 420, "A—B").rule(72, 440, 300, 440).rule(72, 455, 300, 455).text(80, 451, "cell")
    # The ground of a label, drawn as a thick stroke, and a white stroke that nobody sees.
    sheet.raw("q 0.7 0.4 0.2 RG 16 w 72 386 m 140 386 l S 1 1 1 RG 1 w 72 366 m 140 366 l S Q")
    sheet.text(74, A4[1] - 382, "White words", more="1 g").text(74, A4[1] - 362, "Plain words", more="0 g")
    assert struck_in(desk.put(sheet).read()) == []


def test_an_annotation_strikes_out_the_words_in_its_quadrilaterals(desk: Desk) -> None:
    quads = "/QuadPoints [72 504 138 504 72 490 138 490]"
    strike = f"/Subtype /StrikeOut {quads} /Rect [72 490 138 504] /F 4"
    sheet = born_digital().text(72, A4[1] - 494, "Old wording new wording")
    assert struck_in(desk.put(sheet.annotation(strike)).read()) == ["Old wording"]
    under = born_digital().text(72, A4[1] - 494, "Old wording new wording")
    assert struck_in(desk.put(under.annotation(strike.replace("StrikeOut", "Underline"))).read()) == []


def test_comments_are_told_in_a_remark(desk: Desk) -> None:
    place = "/Rect [72 500 92 520] /QuadPoints [72 504 92 504 72 490 92 490]"
    noted = born_digital().annotation(f"/Subtype /Text /Contents (Change to 3,900) {place} /F 4")
    found = desk.put(noted.annotation(f"/Subtype /Highlight /Contents (Why?) {place} /F 4")).read()
    assert (
        found.remark == "2 comments are attached to the page, which the text does not hold: 'Change to 3,900'; 'Why?'."
    )
    assert found.text == desk.text(born_digital())
    state = "/StateModel (Review) /State (Accepted)"
    for other in (f"/Subtype /Text /Contents (Accepted) {state} {place}", f"/Subtype /Text /Contents (x) {place} /F 2",
                  f"/Subtype /Popup /Contents (x) {place}", f"/Subtype /Highlight {place}"):  # fmt: skip
        assert desk.put(born_digital().annotation(other)).read().remark == ""


def test_what_a_document_holds_beside_its_pages_is_told(desk: Desk) -> None:
    def notes(**more: Any) -> list[str]:
        desk.put(born_digital(), **more)
        facts = desk.renderer.inspect(desk.file, MAX_PIXELS, 10, Line())  # type: ignore[arg-type]
        return list(facts.get("notes", ()))

    assert notes() == []
    files = {
        60: "<< /Type /Filespec /F (invoice.pdf) /UF (invoice.pdf) /EF << /F 61 0 R >> >>",
        61: stream("the real invoice", "/Type /EmbeddedFile"),
        62: stream("<xdp:xdp xmlns:xdp='http://ns.adobe.com/xdp/'></xdp:xdp>"),
    }
    attached = "/Names << /EmbeddedFiles << /Names [(invoice.pdf) 60 0 R] >> >>"
    assert notes(catalog=attached, objects=files) == [
        "The document holds 1 attached file, which was not read: invoice.pdf."
    ]
    [xfa] = notes(catalog="/NeedsRendering true /AcroForm << /Fields [] /XFA 62 0 R >>", objects=files)
    assert "XFA" in xfa


# -- hostile files


def test_a_picture_has_no_text_layer(desk: Desk) -> None:
    out = io.BytesIO()
    Image.new("RGB", (40, 20), "white").save(out, "PNG")
    found = desk.put_file(out.getvalue()).read()
    assert (found.usable, found.why) == (False, "a picture has none")


def test_pages_that_cannot_be_drawn_are_refused_as_drawing_refuses_them(desk: Desk) -> None:
    desk.put(born_digital())
    with pytest.raises(BadRequest, match="no page 2"):
        desk.read(page=2)
    desk.put(Sheet(entries="/MediaBox [0 0 14000000 14000000]"))
    with pytest.raises(InputTooLarge, match="inches"):
        desk.read()
    with pytest.raises(UnreadableInput, match="damaged"):
        desk.put_file(b"%PDF-1.7\nnothing of it").read()


def test_nobody_waits_and_nothing_is_read(desk: Desk) -> None:
    desk.put(born_digital())
    with pytest.raises(Cancelled):
        desk.read(gone=True)


def test_a_caller_who_leaves_stops_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_content, "ASK_EVERY", 10)
    desk.put(born_digital())
    document = pypdfium2.PdfDocument(desk.path)
    asked = []

    def ask() -> None:
        asked.append(1)
        if len(asked) == 5:
            raise Cancelled("Nobody waits.", remedy="Send it again.")

    with pytest.raises(Cancelled):
        read_layer(PagePlace(document, 0, desk.path, (600, 800)), ask)
    document.close()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("MAX_GLYPHS", 20, "the page has more than 20 characters"),
        ("MAX_OBJECTS", 3, "the page is drawn with more than 3 strokes"),
        ("LOOK_S", -1.0, "the page takes too long to look through"),
    ],
)
def test_a_page_beyond_a_limit_is_left_to_drawing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str, value: float, why: str
) -> None:
    monkeypatch.setattr(pdf_content, name, value)
    monkeypatch.setattr(pdf_content, "ASK_EVERY", 1)
    assert desk.why(born_digital()) == why
    assert desk.draw().size == (desk.read().width, desk.read().height)


def bomb(kind: str) -> tuple[Sheet, dict[int, str | bytes]]:
    """A page that asks for far too much."""
    if kind == "one million characters":
        return Sheet(parts=["BT /F1 5 Tf 10 800 Td 6 TL", *["(" + "spam " * 200 + ") '"] * 1000, "ET"]), {}
    if kind == "every character by itself":
        return Sheet(
            parts=[f"BT /F1 4 Tf 1 0 0 1 {n % 290 * 2} {n // 290 * 4} Tm (w) Tj ET" for n in range(50_000)]
        ), {}
    if kind == "all in one place":
        return Sheet(
            parts=[f"BT /F1 {5 + n % 90} Tf 1 0 0 1 {n % 7} {300 + n % 5} Tm (w{n}) Tj ET" for n in range(12_000)]
        ), {}
    if kind == "rules without end":
        return Sheet(
            parts=[f"{n % 590} 0 m {n % 590} 840 l S 0 {n % 840} m 590 {n % 840} l S" for n in range(20_000)]
        ).text(72, 100, "crossed out"), {}
    if kind == "pictures without end":
        sheet = Sheet(parts=[f"q 300 0 0 300 {n % 300} {n % 500} cm /Im Do Q" for n in range(9_000)])
        for n in range(60):
            sheet.text(10, 14 * n, "white words " * 8, more="1 g")
        return sheet, {}
    assert kind == "places beyond the world"
    places = ("1e38", "-1e38", "99999999999999999999", "1e-38", "0")
    return Sheet(
        parts=[f"BT /F1 {a} Tf {b} 0 0 1 {c} 700 Tm (far) Tj ET" for a in places for b in places for c in places]
    ), {}


@pytest.mark.parametrize(
    "kind",
    [
        "one million characters",
        "every character by itself",
        "all in one place",
        "rules without end",
        "pictures without end",
        "places beyond the world",
    ],
)
def test_hostile_pages_end_in_time(desk: Desk, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_content, "LOOK_S", 3.0)
    sheet, objects = bomb(kind)
    desk.put(sheet, objects=objects)
    began = time.process_time()
    for mode in ("document", "find"):
        found = desk.read(mode, "w")
        assert found.usable or found.why
    assert time.process_time() - began < 30


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_raise_nothing_but_our_errors(desk: Desk, data: st.DataObject) -> None:
    good = bytearray(pdf(born_digital().picture(300, 300, 400, 400).rule(72, 300, 200, 300)))
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, len(good) - 1))
        good[at] = data.draw(st.integers(0, 255))
    try:
        found = desk.put_file(bytes(good)).read()
    except (BadRequest, InputTooLarge, UnreadableInput):
        return
    assert found.why != "its text layer is damaged"
    assert found.usable == (not found.why)


WORD = st.text(string.ascii_letters + string.digits + "äöüéñ", min_size=1, max_size=12)  # É within a word is doubted


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(WORD, min_size=1, max_size=5), min_size=1, max_size=12), size=st.sampled_from([7, 11, 16])
)
def test_every_word_is_said_exactly_once(desk: Desk, rows: list[list[str]], size: int) -> None:
    sheet = Sheet()
    for n, row in enumerate(rows):
        for column, word in enumerate(row):
            sheet.text(30 + 110 * column, 60 + 2 * size * n, word, size * 0.6)
    found = desk.put(sheet).read("ocr")
    if not found.usable:
        assert found.why == "the characters are garbled, not of any language"  # that many letters without vowels
        return
    assert sorted(found.text.split()) == sorted(word for row in rows for word in row)
    assert sorted(word for block in found.blocks for word in block["text"].split()) == sorted(found.text.split())
    for block in found.blocks:
        x1, y1, x2, y2 = block["box"]
        assert 0 <= x1 < x2 <= found.width
        assert 0 <= y1 < y2 <= found.height


# -- through the decoder's process


@pytest.mark.anyio
async def test_a_document_gives_the_layer_of_each_page_in_pixels_of_its_picture(tmp_path: Path) -> None:
    path = tmp_path / "two.pdf"
    turned = born_digital()
    turned.entries = "/Rotate 90"
    path.write_bytes(pdf(turned, Sheet().picture(0, 0, 595, 842)))
    with anyio.fail_after(60), private_folder() as folder:
        async with (
            DocumentReader(Settings(), folder).running() as reader,
            reader.open(meant(path)) as document,
        ):
            layer = await document.text_layer(1)
            image = await document.page(1)
            assert (layer.width, layer.height) == (image.width, image.height)
            assert layer.usable
            assert [set(block) for block in layer_answer(layer).blocks] == [
                {"label", "text", "box", "angle", "words"}
            ] * 6
            scan = await document.text_layer(2)
            assert (scan.usable, scan.why) == (False, "it has none")
            with pytest.raises(BadRequest):
                await document.text_layer(3)


@pytest.mark.anyio
async def test_a_picture_is_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    Image.new("RGB", (40, 20), "white").save(path)
    with anyio.fail_after(60), private_folder() as folder:
        async with (
            DocumentReader(Settings(), folder).running() as reader,
            reader.open(meant(path)) as document,
        ):
            assert (await document.text_layer(1)).why == "a picture has none"


@pytest.mark.anyio
async def test_a_form_that_holds_itself_costs_its_document_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PDFium follows it two to the power of forty times."""
    form = (
        "/Type /XObject /Subtype /Form /BBox [0 0 600 900] /Resources << /XObject << /Fm 50 0 R >> /Font "
        "<< /F1 10 0 R >> >>"
    )
    path = tmp_path / "bomb.pdf"
    path.write_bytes(pdf(born_digital().raw("/Fm Do"), objects={50: stream("/Fm Do /Fm Do", form)}))
    with anyio.fail_after(120), private_folder() as folder:
        async with DocumentReader(Settings(), folder).running() as reader:
            async with reader.open(meant(path)) as document:
                with monkeypatch.context() as patch:
                    patch.setattr(renderer, "LAYER_TIMEOUT_S", 1.0)
                    patch.setattr(renderer, "DECODE_TIMEOUT_S", 2.0)
                    layer = await document.text_layer(1)
                    assert (layer.usable, layer.reading) == (False, None)
                    assert "too long" in layer.why or "crashed" in layer.why
                    with pytest.raises(UnreadableInput):
                        await document.page(1)
            path.write_bytes(pdf(born_digital()))
            async with reader.open(meant(path)) as document:
                assert (await document.text_layer(1)).usable


@pytest.mark.anyio
async def test_three_hundred_pages_one_by_one_leave_memory_flat(tmp_path: Path) -> None:
    path = tmp_path / "long.pdf"
    sheets = []
    for n in range(300):
        sheet = born_digital().text(290, 800, f"page {n + 1}")
        sheets.append(sheet.annotation("/Subtype /Link /Rect [72 500 92 520]"))
    path.write_bytes(pdf(*sheets))
    decoders: list[WorkerHandle] = []

    async def spawn() -> WorkerHandle:
        decoders.append(await WorkerHandle.spawn(DECODER, name="document decoder"))
        return decoders[-1]

    with anyio.fail_after(600), private_folder() as folder:
        async with (
            DocumentReader(Settings(), folder, spawn=spawn).running() as reader,
            reader.open(meant(path)) as document,
        ):
            child = psutil.Process(decoders[0].pid)
            held: list[int] = []
            for number in range(1, 301):
                layer = await document.text_layer(number)
                assert layer.usable
                assert layer_answer(layer).text.endswith(f"page {number}")
                if number % 50 == 0:
                    held.append(child.memory_info().rss)
            assert len(decoders) == 1
            # The heap takes 12 MB more for drawing once, at any page. A leak would show in each fifty.
            grown = statistics.median(after - before for before, after in itertools.pairwise(held))
            assert grown < 1 << 20, f"{grown / 1024:.0f} KB more with every 50 pages"

"""The embedded engine with its real models, on pages that are drawn here."""

from __future__ import annotations

import random
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from answering import page_text
from deepseek_ocr_mcp.engines.base import CPU, PageImage, PageText, ReadOptions
from deepseek_ocr_mcp.engines.rapidocr import detect, models, recognise
from deepseek_ocr_mcp.engines.rapidocr import engine as rapidocr
from deepseek_ocr_mcp.engines.rapidocr.engine import RapidOcrEngine
from deepseek_ocr_mcp.engines.rapidocr.spaces import Strokes
from deepseek_ocr_mcp.engines.scripts import Unread, find_unread
from deepseek_ocr_mcp.engines.sheet import Region
from deepseek_ocr_mcp.engines.tesseract import engine as tesseract
from deepseek_ocr_mcp.engines.tesseract.engine import Rereading
from deepseek_ocr_mcp.errors import Cancelled, EngineUnavailable, UnsupportedMode
from deepseek_ocr_mcp.layout.lines import TextLine

SENTENCES = [
    "The reading room opens at nine.",
    "Pencils and paper are welcome.",
    "Orders arrive the same afternoon.",
    "We wish you a quiet day.",
]
INK = Region(120.0, 55.0, 160.0, 30.0, 0.0)


class Listener:
    """A caller that notes what it hears and hangs up when told to."""

    def __init__(self) -> None:
        self.heard: list[float] = []
        self.gone = threading.Event()

    def progress(self, done: float, message: str = "") -> None:
        self.heard.append(done)

    def raise_if_cancelled(self) -> None:
        if self.gone.is_set():
            raise Cancelled("The call was cancelled.", remedy="Call again.")


@pytest.fixture(scope="module")
def engine() -> RapidOcrEngine:
    engine = RapidOcrEngine()
    facts = engine.load(CPU, Listener())
    assert str(facts["model"]).startswith("PP-OCR")
    return engine


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Image.Image], PageImage]:
    """Writes a picture the way the server gives pages to an engine."""
    count = iter(range(100))

    def write(image: Image.Image) -> PageImage:
        path = tmp_path / f"{next(count)}.rgb"
        path.write_bytes(image.convert("RGB").tobytes())
        return PageImage(str(path), image.width, image.height)

    return write


def drawn(
    rows: list[str], size: int = 28, width: int = 800, colours: tuple[str, str] = ("white", "black")
) -> Image.Image:
    page = Image.new("RGB", (width, 80 + 2 * size * len(rows)), colours[0])
    draw = ImageDraw.Draw(page)
    for n, row in enumerate(rows):
        draw.text((40, 40 + 2 * size * n), row, colours[1], ImageFont.load_default(size))
    return page


def likeness(text: str, rows: list[str]) -> float:
    return SequenceMatcher(None, " ".join(text.split()), " ".join(rows)).ratio()


def read(engine: RapidOcrEngine, page: PageImage, mode: str = "ocr", **options: str) -> PageText:
    asked = ReadOptions(mode, **options)
    [reading] = engine.read([page], asked, Listener())
    text = page_text(reading, asked)
    for block in text.blocks:
        x1, y1, x2, y2 = block.box
        assert all(isinstance(value, int) for value in block.box)
        assert 0 <= x1 < x2 <= page.width
        assert 0 <= y1 < y2 <= page.height
        assert block.score is not None
        assert 0 <= block.score <= 1
        assert round(block.score, 3) == block.score
    return text


def test_a_drawn_page_is_read_line_by_line(engine, write) -> None:
    text = read(engine, write(drawn(SENTENCES)))
    assert text.text.splitlines() == SENTENCES
    assert [block.text for block in text.blocks] == SENTENCES
    assert {block.label for block in text.blocks} == {"line"}


def test_line_boxes_surround_the_ink(engine, write) -> None:
    page = drawn(SENTENCES)
    draw = ImageDraw.Draw(page)
    blocks = read(engine, write(page)).blocks
    for n, block in enumerate(blocks):
        ink = draw.textbbox((40, 40 + 56 * n), SENTENCES[n], ImageFont.load_default(28))
        assert block.box == pytest.approx(ink, abs=8)


def test_document_mode_gives_markdown(engine, write) -> None:
    page = drawn(["", "", *SENTENCES])
    ImageDraw.Draw(page).text((40, 30), "A Guide", "black", ImageFont.load_default(60))
    text = read(engine, write(page), "document")
    assert text.text.startswith("# A Guide\n\n")
    assert [block.label for block in text.blocks] == ["title", "line", "line", "line", "line"]


def test_free_mode_gives_the_same_lines_as_plain_text(engine, write) -> None:
    assert read(engine, write(drawn(SENTENCES)), "free").text.splitlines() == SENTENCES


@pytest.mark.parametrize("term", ["paper", "PÁPER", "same afternoon"])
def test_found_words_are_boxed_to_a_few_pixels(engine, write, term: str) -> None:
    page = drawn(SENTENCES)
    text = read(engine, write(page), "find", find_term=term)
    plain = "paper" if term == "PÁPER" else term
    [row] = [n for n, sentence in enumerate(SENTENCES) if plain in sentence]
    before, _, _ = SENTENCES[row].partition(plain)
    font = ImageFont.load_default(28)
    ink = ImageDraw.Draw(page).textbbox((40 + font.getlength(before), 40 + 56 * row), plain, font)
    [block] = text.blocks
    assert (block.label, block.text) == (term, plain)
    assert block.box[0] == pytest.approx(ink[0], abs=4)
    assert block.box[2] == pytest.approx(ink[2], abs=4)
    assert block.box[1] == pytest.approx(ink[1], abs=8)
    assert block.box[3] == pytest.approx(ink[3], abs=8)
    assert text.text == SENTENCES[row]


def test_a_hit_over_a_line_break_has_a_box_on_each_line(engine, write) -> None:
    text = read(engine, write(drawn(SENTENCES)), "find", find_term="at nine. Pencils")
    assert [block.text for block in text.blocks] == ["at nine.", "Pencils"]


def test_a_term_that_is_not_there_gives_nothing(engine, write) -> None:
    text = read(engine, write(drawn(SENTENCES)), "find", find_term="zebra")
    assert (text.text, list(text.blocks)) == ("", [])


@pytest.mark.parametrize("colour", ["white", "black", (200, 190, 170)])
def test_a_blank_page_has_no_text(engine, write, colour) -> None:
    for mode in ("document", "find"):
        text = read(engine, write(Image.new("RGB", (600, 400), colour)), mode, find_term="x")
        assert (text.text, list(text.blocks)) == ("", [])


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (2000, 2)])
def test_a_sliver_of_a_page_is_blank(engine, write, size: tuple[int, int]) -> None:
    assert read(engine, write(Image.new("RGB", size, "white"))).text == ""


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_page_on_its_side_or_head_is_read_and_boxed_as_it_lies(engine, write, degrees: int) -> None:
    page = drawn(SENTENCES)
    draw = ImageDraw.Draw(page)
    x1, y1, x2, y2 = draw.textbbox((40, 40), SENTENCES[0], ImageFont.load_default(28))
    turned = page.rotate(degrees, expand=True)
    w, h = page.size
    ink = {
        90: (y1, w - x2, y2, w - x1),
        180: (w - x2, h - y2, w - x1, h - y1),
        270: (h - y2, x1, h - y1, x2),
    }[degrees]
    text = read(engine, write(turned))
    assert text.text.splitlines() == SENTENCES
    assert text.blocks[0].box == pytest.approx(ink, abs=12)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.sampled_from(SENTENCES), min_size=2, max_size=5),
    size=st.integers(20, 40),
    colours=st.sampled_from([("white", "black"), ("black", "white"), ("ivory", "navy")]),
)
def test_four_quarter_turns_give_the_same_text_each_time(engine, write, rows, size: int, colours) -> None:
    page = drawn(rows, size, colours=colours)
    texts = []
    for _ in range(4):
        texts.append(read(engine, write(page)).text)
        page = page.transpose(Image.Transpose.ROTATE_90)
    assert texts == ["\n".join(rows)] * 4


def test_a_tilted_page_is_read_in_order(engine, write) -> None:
    tilted = drawn(SENTENCES * 2).rotate(4, fillcolor="white", resample=Image.Resampling.BICUBIC)
    assert likeness(read(engine, write(tilted)).text, SENTENCES * 2) > 0.97


@pytest.mark.parametrize("ruled", [True, False])
@pytest.mark.parametrize("degrees", [0, 90, 180, 3])
def test_a_table_keeps_its_cells_however_it_lies_on_the_scanner(engine, write, degrees: int, ruled: bool) -> None:
    rows = [("Station", "Opened", "Passengers"), ("Millbrook", "1904", "18,200"), ("Harbour East", "1911", "7,450"),
            ("Chapel Hill", "1926", "31,900"), ("Old Quarry", "1938", "2,615")]  # fmt: skip
    page = Image.new("RGB", (900, 700), "white")
    draw = ImageDraw.Draw(page)
    draw.text((60, 40), "Stations of the coast line", "black", ImageFont.load_default(40))
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            x, y = 60 + 260 * c, 150 + 80 * r
            draw.text((x + 16, y + 20), cell, "black", ImageFont.load_default(28))
            if ruled:
                draw.rectangle((x, y, x + 260, y + 80), outline="black", width=2)
    turned = page.rotate(degrees, expand=True, fillcolor="white", resample=Image.Resampling.BICUBIC)
    text = read(engine, write(turned), "document").text
    table = [
        tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines() if line[:1] == "|"
    ]
    assert [row for row in table if set("".join(row)) != {"-"}] == rows


def test_columns_are_read_one_after_the_other(engine, write) -> None:
    left = [f"Left column line {n} goes on here" for n in range(6)]
    right = [f"Right column line {n} goes on too" for n in range(6)]
    page = drawn(left, width=1200)
    draw = ImageDraw.Draw(page)
    for n, row in enumerate(right):
        draw.text((620, 40 + 56 * n), row, "black", ImageFont.load_default(28))
    assert likeness(read(engine, write(page)).text, left + right) > 0.97


def test_boxes_are_in_pixels_of_the_page_whatever_the_resolution(engine, write) -> None:
    page = write(drawn(SENTENCES, size=56, width=1600))
    full, shrunk = read(engine, page), read(engine, page, resolution="tiny")
    assert likeness(shrunk.text, SENTENCES) > 0.95
    assert shrunk.blocks[0].box == pytest.approx(full.blocks[0].box, abs=16)


@settings(max_examples=20, deadline=None)
@given(
    lines=st.lists(st.tuples(st.integers(20, 60), st.integers(8, 40)), min_size=10, max_size=40),
    columns=st.integers(1, 3),
    shift=st.integers(0, 30),
)
def test_tiles_hold_every_line_of_a_page_whole(lines: list[tuple[int, int]], columns: int, shift: int) -> None:
    width = 1500 // columns
    inks = []
    for column in range(columns):
        y = 20 + column * shift
        for high, gap in lines:
            inks.append((column * width + 20, y, (column + 1) * width - 20, y + high))
            y += high + gap
    page = Image.new("RGB", (1500, max(ink[3] for ink in inks) + 20), "white")
    for ink in inks:
        ImageDraw.Draw(page).rectangle(ink, "black")
    tiles = list(detect.tiles(np.asarray(page)))
    for left, top, right, bottom in inks:
        assert any(x1 <= left and y1 <= top and x2 > right and y2 > bottom for x1, y1, x2, y2 in tiles)
    assert all((x2 - x1) * (y2 - y1) <= detect.TILE_PIXELS for x1, y1, x2, y2 in tiles)


@settings(max_examples=20, deadline=None)
@given(width=st.integers(32, 12000), height=st.integers(32, 2000))
def test_tiles_of_a_page_without_a_calm_place_overlap_by_a_line(width: int, height: int) -> None:
    busy = np.zeros((height, width, 3), np.uint8)
    busy[::2, ::2] = 255
    tiles = list(detect.tiles(busy))
    line = min(detect.DET_OVERLAP, width, height)
    for x in {*range(0, width - line, 37), width - line}:
        for y in {*range(0, height - line, 37), height - line}:
            assert any(x1 <= x and y1 <= y and x2 >= x + line and y2 >= y + line for x1, y1, x2, y2 in tiles)
    assert all((x2 - x1) * (y2 - y1) <= detect.TILE_PIXELS for x1, y1, x2, y2 in tiles)


def test_a_flat_page_has_no_tiles() -> None:
    assert list(detect.tiles(np.full((900, 700, 3), 200, np.uint8))) == []


@pytest.mark.parametrize("ends", [(0, 0), (7, 300), (300, 7), (41, 43)])
def test_a_line_is_cut_to_its_ink_in_whole_steps(ends: tuple[int, int]) -> None:
    line = np.full((recognise.LINE_HEIGHT, sum(ends) + 100, 3), 230, np.uint8)
    line[10:30, ends[0] : ends[0] + 100] = 20
    line[:4] = 20  # the line above
    begin, end = recognise.inked_columns(line)
    assert ends[0] - begin >= min(ends[0], recognise.LINE_MARGIN)
    assert end - ends[0] - 100 >= min(ends[1], recognise.LINE_MARGIN)
    assert end - begin <= 100 + 2 * recognise.LINE_MARGIN + recognise.LINE_STRIDE
    assert (end - begin) % recognise.LINE_STRIDE == 0 or (begin == 0 or end == line.shape[1])


def test_small_print_on_a_large_page_is_read(engine, write) -> None:
    page = Image.new("RGB", (3600, 2400), "white")
    draw = ImageDraw.Draw(page)
    for n in range(60):
        draw.text(
            (100 + 1200 * (n % 3), 100 + 100 * (n // 3)),
            f"{SENTENCES[n % 4]} {n}",
            "black",
            ImageFont.load_default(22),
        )
    text = read(engine, write(page))
    assert all(f"{SENTENCES[n % 4]} {n}" in text.text for n in range(60))


def test_pages_come_back_in_order_with_growing_progress(engine, write) -> None:
    listener = Listener()
    pages = [write(drawn([sentence])) for sentence in SENTENCES[:2]]
    readings = engine.read(pages, ReadOptions("ocr"), listener)
    assert [page_text(reading, ReadOptions("free")).text for reading in readings] == SENTENCES[:2]
    assert listener.heard == sorted(listener.heard)
    assert listener.heard[-1] == pytest.approx(1)


def test_a_cancelled_call_stops_and_the_next_one_works(engine, write) -> None:
    listener = Listener()
    page = write(drawn(SENTENCES * 12, width=1600))
    threading.Timer(0.3, listener.gone.set).start()
    with pytest.raises(Cancelled):
        engine.read([page] * 20, ReadOptions("ocr"), listener)
    assert max(listener.heard, default=0) < 1, "it read on to the end"
    assert read(engine, write(drawn(SENTENCES[:1]))).text == SENTENCES[0]


@pytest.mark.parametrize("mode", ["figure", "describe", "freeform"])
def test_other_modes_name_the_engine_that_can(engine, write, mode: str) -> None:
    with pytest.raises(UnsupportedMode, match="OCR_ENGINE=deepseek"):
        read(engine, write(drawn([])), mode)


def test_a_missing_package_is_named_with_the_command_to_run(monkeypatch) -> None:
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match=r"pip install.*rapidocr"):
        RapidOcrEngine().load(CPU, Listener())


def test_a_page_that_was_read_is_not_given_to_tesseract(engine, write, monkeypatch) -> None:
    monkeypatch.setattr(rapidocr, "reread", lambda *_: pytest.fail("it was asked"))
    assert read(engine, write(drawn(SENTENCES[:1]))).remark == ""


def test_what_tesseract_read_instead_takes_the_place_of_the_page(engine, write, monkeypatch) -> None:
    again = Rereading("", (TextLine("Ωραίος", (40.0, 40.0, 200.0, 70.0), 0.95),), (INK,), whole_page=True)
    monkeypatch.setattr(rapidocr, "find_unread", lambda *_: Unread((0,), whole=True))
    monkeypatch.setattr(rapidocr, "reread", lambda *_: again)
    answer = read(engine, write(drawn(SENTENCES[:1])))
    assert answer.text == "Ωραίος"
    assert [block.text for block in answer.blocks] == ["Ωραίος"]


# -- no digit is lost

NUMBERS = [["107,713", "1,113", "44,477"], ["300,200", "777", "-12.3"], ["5,305.75", "(5,747)", "2,288,199"]]


def numbers(size: int, *, ruled: bool) -> Image.Image:
    """A page of 1700 * 2200 pixels with numbers in small type: drawn large and reduced, as a PDF page is."""
    page = Image.new("RGB", (3400, 1200), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(2 * size)
    for r, row in enumerate(NUMBERS * 3):
        for c, cell in enumerate(row * 2):
            x, y = 520 * (c + 1), 120 * (r + 1)
            draw.text((x, y), cell, "black", font, anchor="rm")
            if ruled:
                draw.rectangle((x - 480, y - 60, x + 40, y + 60), outline="black", width=2)
    whole = Image.new("RGB", (1700, 2200), "white")
    whole.paste(page.resize((1700, 600), Image.Resampling.LANCZOS), (0, 0))
    return whole


@pytest.mark.parametrize("ruled", [False, True])
@pytest.mark.parametrize("size", [14, 17])
def test_small_numbers_on_a_large_page_keep_every_digit(engine, write, size: int, ruled: bool) -> None:
    text = read(engine, write(numbers(size, ruled=ruled)), "free").text
    expected = [re.sub(r"\D", "", cell) for row in NUMBERS for cell in row]
    found = Counter(re.sub(r"\D", "", word) for word in text.split())
    assert found == Counter(expected * 6)


@pytest.mark.parametrize("size", [17, 22, 28])
def test_a_space_between_a_number_and_its_unit_is_kept(engine, write, size: int) -> None:
    rows = ["0.3 l", "Flow of 5.2 l", "9.2 l of milk", "Rest 4 A", "8 J", "Tel. 0211", "Room: 14"]
    assert read(engine, write(drawn(rows, size, 400))).text.splitlines() == rows


def test_a_litre_before_a_comma_is_no_1(engine, write) -> None:
    rows = ["Milk 1.5 l, oil 0.25 l, salt", "Rows 2.5 1, 3.5 1, and 4 1."]
    assert read(engine, write(drawn(rows, 22))).text.splitlines() == rows


def test_a_line_of_one_colour_has_no_strokes_and_is_no_error() -> None:
    strokes = Strokes.of(np.full((48, 64, 3), 255, np.uint8), ["1"], np.array([10.0]))
    assert len(strokes.columns) == 0
    assert strokes.of_character == [-1]


def test_digits_that_stand_apart_are_no_two_numbers(engine, write) -> None:
    rows = ["Open 11:17 to 21:11 on 1.11.2011", "1,111,711 of 3.14", "In 1990 I went to B12", "Type X1 and 5kg"]
    assert read(engine, write(drawn(rows, 22))).text.splitlines() == rows


def test_a_litre_in_brackets_is_no_letter(engine, write) -> None:
    rows = ["Milk (2 l) and oil (1 l)", "Rooms (21) and (11)", "In 1990 I went there"]
    assert read(engine, write(drawn(rows, 22))).text.splitlines() == rows


def with_raised(rows: list[str], size: int, share: float, rise: float) -> Image.Image:
    """Rows in which the parts in braces are set raised by `rise` of the size, and `share` times as large."""
    page = Image.new("RGB", (900, 80 + 2 * size * len(rows)), "white")
    draw = ImageDraw.Draw(page)
    for n, row in enumerate(rows):
        x, base = 40.0, 40 + 2 * size * n + size
        for part in re.split(r"(\{\d+\})", row):
            raised = part.startswith("{")
            font = ImageFont.load_default(round(size * share) if raised else size)
            draw.text((x, base - (rise * size if raised else 0)), part.strip("{}"), "black", font, "ls")
            x += font.getlength(part.strip("{}")) + (1 if raised else 0)
    return page


@pytest.mark.parametrize(("share", "rise"), [(0.6, 0.36), (0.83, 0.4)])
def test_a_raised_figure_is_no_figure_of_its_number(engine, write, share: float, rise: float) -> None:
    rows = ["Sales 24.91{2}", "Costs 1,187{12} in all", "An area of 45 m{2}.", "{3} See page 7", "24.912 in 2025"]
    raised = ["Sales 24.91²", "Costs 1,187¹² in all", "An area of 45 m².", "³ See page 7", "24.912 in 2025"]
    assert read(engine, write(with_raised(rows, 28, share, rise))).text.splitlines() == raised


def test_a_page_with_fractions_says_that_they_may_be_others(engine, write, monkeypatch) -> None:
    assert all(unicodedata.normalize("NFKC", char)[1:2] == "⁄" for char in rapidocr.FRACTIONS)
    monkeypatch.setattr(rapidocr, "FRACTIONS", frozenset("&"))  # the font has no fractions
    pages = [write(drawn([row], 28, 500)) for row in ("Salt & pepper", "Salt and pepper")]
    remarks = [each.remark for each in engine.read(pages, ReadOptions("ocr"), Listener())]
    assert remarks == [rapidocr.FRACTIONS_REMARK, ""]


def test_figures_of_a_worn_or_bent_line_are_not_raised(engine, write) -> None:
    rows = ["Total 80.90", "Change 2.739.98", "Tel 1-300-80", "1/2 of 10.8", "13.04.2004"]
    page = np.array(with_raised(rows, 20, 1.0, 0.0))
    page[(np.arange(page.shape[0]) % 7 == 3)] = 255  # a printer that leaves out every seventh row of dots
    assert (
        read(engine, write(Image.fromarray(page))).text.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "??????????")).count("?")
        == 0
    )


def test_spaces_around_a_dash_between_numbers_are_kept(engine, write) -> None:
    rows = ["1990 - 1995", "2000 - 2005", "07-1315", "pp. 30-39", "10-20-30"]
    assert read(engine, write(drawn(rows, 24, 400))).text.splitlines() == rows


def test_a_small_letter_beside_a_number_is_no_capital(engine, write) -> None:
    rows = ["done in 5.50 s", "done in 2.90 S", "v 07 of 12 c", "V 07 of 12 C", "x 12", "X 12"]
    assert read(engine, write(drawn(rows, 18, 500))).text.splitlines() == rows


def table_of_marks(rows: list[str]) -> Image.Image:
    page = Image.new("RGB", (900, 60 + 70 * len(rows)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(24)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row.split()):
            draw.text((60 + 110 * c, 40 + 70 * r), cell, "black", font, anchor="lm")
    return page


def test_the_height_of_a_letter_in_a_cell_tells_it_from_a_figure_and_from_its_capital(engine, write) -> None:
    rows = ["Tomas 10 20 o x 8 0", "Ruth o 12 x o 0 7", "Mira X 0 21 x O V", "Ines v 0 x 22 s S"]
    found = read(engine, write(table_of_marks(rows)), "free").text
    assert found.split() == " ".join(rows).split()


@pytest.mark.parametrize("number", ["1", "4", "7", "iv"])
def test_a_page_number_of_one_figure_stands_behind_its_dots(engine, write, number: str) -> None:
    page = Image.new("RGB", (1000, 220), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(22)
    for n, (name, end) in enumerate([("Early years", number), ("Weather", "90")]):
        draw.text((60, 50 + 70 * n), name, "black", font)
        draw.text((940, 50 + 70 * n), end, "black", font, anchor="ra")
        for x in np.arange(75 + font.getlength(name), 925 - font.getlength(end), 11):
            draw.text((x, 50 + 70 * n), ".", "black", font)
    first, second = read(engine, write(page)).text.splitlines()
    assert (first.split()[-1], second.split()[-1]) == (number, "90")


def test_a_rule_behind_dots_is_no_page_number(engine, write) -> None:
    page = Image.new("RGB", (1000, 160), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(22)
    draw.text((60, 50), "Name of the applicant", "black", font)
    for x in range(320, 930, 11):
        draw.text((x, 50), ".", "black", font)
    draw.line((950, 0, 950, 160), "black", 2)
    assert not re.search(r"[0-9ivxl]$", read(engine, write(page)).text)


def test_the_dots_of_a_contents_page_are_no_unread_words(engine, write) -> None:
    entries = [("Early years", 9), ("Weather", 90), ("A visit", 122), ("Low Water", 177)]
    page = Image.new("RGB", (1000, 340), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(20)
    for n, (name, number) in enumerate(entries):
        y = 40 + 70 * n
        draw.text((60, y), name, "black", font)
        draw.text((960, y), str(number), "black", font, anchor="ra")
        begin, end = 72 + font.getlength(name), 948 - font.getlength(str(number))
        for dot in range(int((end - begin) // 9)):
            draw.text((begin + 9 * dot, y), ".", "black", font)
    text = read(engine, write(page), "document")
    assert not text.remark
    for name, number in entries:
        assert name in text.text
        assert str(number) in text.text


@pytest.mark.parametrize("rows", [(30, 44), (4, 16), (20, 32)])
def test_a_crop_is_cut_to_the_ink_of_its_line(rows: tuple[int, int]) -> None:
    crop = np.full((60, 300, 3), 240, np.uint8)
    for x in range(20, 280, 12):
        crop[rows[0] : rows[1], x : x + 5] = 20
    crop[58:] = 20  # a rule
    assert recognise.inked_rows(crop) == rows


def test_a_dash_tells_nothing_about_the_size_of_the_type() -> None:
    crop = np.full((60, 60, 3), 240, np.uint8)
    crop[28:32, 15:45] = 20
    assert recognise.inked_rows(crop) == (0, 60)


# -- nothing that stands on the page vanishes


def test_raised_and_lowered_figures_take_no_line_away(engine, write) -> None:
    page = Image.new("RGB", (1240, 420), "white")
    draw, size = ImageDraw.Draw(page), 34
    rows = [
        [("Revenue rose to 24.91", 0), ("2", -8), (" million in 2019", 0), ("3", -8), (" from 18.40.", 0)],
        [("Area 120 m", 0), ("2", -8), (", volume 35 m", 0), ("3", -8), (", emission 9.6 t CO", 0), ("2", 20)],
        [("2", -8), (" Restated.   ", 0), ("3", -8), (" Unaudited.", 0)],
    ]
    for n, row in enumerate(rows):
        x = 80.0
        for part, shift in row:
            font = ImageFont.load_default(20 if shift else size)
            draw.text((x, 60 + 110 * n + shift), part, "black", font)
            x += font.getlength(part)
    text = unicodedata.normalize("NFKC", read(engine, write(page)).text)
    assert likeness(text, ["".join(part for part, _ in row) for row in rows]) > 0.95


@pytest.mark.parametrize(("dash", "width"), [("-", 8), ("–", 13), ("—", 24)])
def test_a_dash_that_stands_alone_is_a_cell(engine, write, dash: str, width: int) -> None:
    rows = [("Region", "Loans", "Bonds", "Other"), ("Northern", "48.11", dash, "3.26"), ("Coastal", dash, dash, "0.13"),
            ("Central", "12.69", "2.41", dash), ("Southern", "40.75", dash, "-1.42"),
            ("Islands", dash, "0.31", dash)]  # fmt: skip
    page = Image.new("RGB", (1240, 520), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(26)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            x, y = (80 if c == 0 else 410 + 200 * c), 60 + 70 * r
            if cell == dash:
                draw.rectangle((x - width, y - 1, x, y + 1), "black")
            else:
                draw.text((x, y), cell, "black", font, anchor="lm" if c == 0 else "rm")
    table = read(engine, write(page), "document").text.splitlines()
    assert [tuple(c.strip() for c in line.strip("|").split("|")) for line in table if "---" not in line] == rows


@pytest.mark.parametrize("ruled", [True, False])
@pytest.mark.parametrize(("dash", "width"), [("-", 6), ("–", 14)])
def test_a_dash_that_is_detected_is_no_figure(engine, write, dash: str, width: int, ruled: bool) -> None:
    """The recogniser takes one for a 1, or with the rule below it for a Chinese two."""
    rows = [("Region", "Loans", "Bonds"), ("North", dash, "998"), ("South", "902", dash), ("Total", "902", "2,043")]
    page = Image.new("RGB", (700, 280), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(24)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            x, y = 68 + 160 * c, 62 + 44 * r
            if cell == dash:
                draw.rectangle((x, y + 2, x + width, y + 3), "black")
            else:
                draw.text((x, y), cell, "black", font, anchor="lm")
    for n in range(5 if ruled else 0):
        draw.line((60, 40 + 44 * n, 540, 40 + 44 * n), "black", 2)
        draw.line((60 + 160 * min(n, 3), 40, 60 + 160 * min(n, 3), 216), "black", 2)
    table = read(engine, write(page), "document").text.splitlines()
    assert [tuple(c.strip() for c in line.strip("|").split("|")) for line in table if "---" not in line] == rows


def test_marks_that_stand_far_from_their_items_make_a_list(engine, write) -> None:
    page = Image.new("RGB", (700, 300), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(26)
    for n, item in enumerate(("Fresh bread from the baker", "Two litres of milk", "Apples and pears")):
        draw.ellipse((60, 55 + 60 * n, 69, 64 + 60 * n), fill="black")
        draw.text((110, 60 + 60 * n), item, "black", font, anchor="lm")
    assert read(engine, write(page), "document").text.splitlines() == [
        "- Fresh bread from the baker",
        "- Two litres of milk",
        "- Apples and pears",
    ]


def test_a_single_spot_beside_a_line_is_no_list(engine, write) -> None:
    page = Image.new("RGB", (700, 240), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(26)
    draw.ellipse((60, 55, 69, 64), fill="black")
    for n, line in enumerate(("Fresh bread from the baker", "and two litres of milk.")):
        draw.text((110, 60 + 44 * n), line, "black", font, anchor="lm")
    assert read(engine, write(page), "document").text == "Fresh bread from the baker and two litres of milk."


def test_specks_and_underlines_are_no_dashes(engine, write) -> None:
    page = Image.new("RGB", (900, 300), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(26)
    for r, row in enumerate([("Region", "Loans", "Bonds"), ("Northern", "48.11", ""), ("Coastal", "1.20", "")]):
        for c, cell in enumerate(row):
            draw.text((60 + 280 * c, 60 + 70 * r), cell, "black", font, anchor="lm")
    draw.ellipse((650, 128, 654, 132), fill="black")
    draw.line((620, 219, 700, 219), "black", 2)
    assert "-" not in read(engine, write(page), "free").text


@pytest.mark.parametrize("size", [(600, 10_000), (9000, 700)])
def test_a_long_narrow_picture_is_read(engine, write, size: tuple[int, int]) -> None:
    page = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(20)
    places = [(20 + x, 60 + y) for x in range(0, size[0] - 500, 600) for y in range(0, size[1] - 60, 300)]
    for n, place in enumerate(places):
        draw.text(place, f"Entry {n + 1000}: the parcel was handed over", "black", font)
    text = read(engine, write(page), "free").text
    assert sorted(n.replace(" ", "") for n in re.findall(r"Entry ([\d ]+): the parcel was handed over", text)) == [
        str(n + 1000) for n in range(len(places))
    ]


def test_a_page_on_which_the_first_look_finds_nothing_is_looked_at_again(monkeypatch) -> None:
    looks = []
    monkeypatch.setattr(detect, "_detect_at", lambda run, detector, pixels, quarters, scale: looks.append(scale) or [])
    page = np.broadcast_to(np.uint8(255), (2000, 3200, 3))
    assert detect.detect(None, None, page) == []
    assert looks == [0.5, 1.0]


# -- no text is dropped in silence


def with_invented_script(page: Image.Image, rows: tuple[int, ...], left: int = 40, signs: int = 14) -> Image.Image:
    """Lines of signs that belong to no script, as a model sees one that it does not know."""
    draw, dice = ImageDraw.Draw(page), random.Random(1)
    for row in rows:
        for n in range(signs):
            x, y = left + 30 * n, 40 + 56 * row
            points = [(x + dice.choice((2, 12, 22)), y + dice.choice((0, 10, 20, 30))) for _ in range(5)]
            draw.line(points, "black", 3, joint="curve")
            draw.ellipse((x + 6, y + 9, x + 18, y + 21), outline="black", width=2)
    return page


def test_lines_of_an_unknown_script_are_noted_and_leave_no_noise(engine, write, monkeypatch) -> None:
    monkeypatch.setattr(tesseract, "find_program", lambda: None)
    page = with_invented_script(drawn([SENTENCES[0], "", SENTENCES[1], "", SENTENCES[2]]), (1, 3))
    answer = read(engine, write(page))
    assert answer.text.splitlines() == SENTENCES[:3]
    assert answer.remark.startswith("2 of the 5 lines of this page could not be read")
    for way in ("apt-get install", "brew install", "winget install", "container"):
        assert way in answer.remark


def test_a_word_of_an_unknown_script_in_a_line_is_noted_and_the_rest_is_kept(engine, write, monkeypatch) -> None:
    monkeypatch.setattr(tesseract, "find_program", lambda: None)
    page = drawn([SENTENCES[0], "For the amount of                        1,204.50 sign below.", SENTENCES[1]])
    answer = read(engine, write(with_invented_script(page, (1,), left=275, signs=4)))
    assert SENTENCES[0] in answer.text
    assert "1,204.50" in answer.text
    assert answer.remark.startswith("1 of the 3 lines of this page could not be read in full")
    whole = drawn([SENTENCES[0], "For the amount of 1,204.50 sign below.", SENTENCES[1]])
    assert read(engine, write(whole)).remark == ""


def test_a_page_of_an_unknown_script_is_no_blank_page(engine, write, monkeypatch) -> None:
    monkeypatch.setattr(tesseract, "find_program", lambda: None)
    answer = read(engine, write(with_invented_script(drawn(["", "", ""]), (0, 1, 2))))
    assert answer.text == ""
    assert answer.remark.startswith("Most text on this page could not be read")


def test_lines_that_tesseract_read_stand_where_they_stood(engine, write, monkeypatch) -> None:
    def reread(pixels, unread: Unread, boxes, call) -> Rereading:
        assert list(boxes) == list(unread.lines)
        lines = [TextLine(f"line {n}", boxes[n], 0.9) for n in unread.lines]
        inks = [Region((b[0] + b[2]) / 2, (b[1] + b[3]) / 2, b[2] - b[0], b[3] - b[1], 0.0) for b in boxes.values()]
        return Rereading("", tuple(lines), tuple(inks), frozenset(unread.lines))

    monkeypatch.setattr(rapidocr, "reread", reread)
    page = with_invented_script(drawn([SENTENCES[0], "", SENTENCES[1], "", SENTENCES[2]]), (1, 3))
    answer = read(engine, write(page), "free")
    rows = answer.text.split("\n")
    assert [row for row in rows if row] == [SENTENCES[0], "line 1", SENTENCES[1], "line 3", SENTENCES[2]]
    assert answer.remark == ""


def test_a_line_of_which_nothing_is_read_is_noted() -> None:
    lines = [TextLine("The office opens at seven.", (0, 0, 300, 20), 0.99), TextLine("   ", (0, 40, 300, 60), 0.52)]
    unread = find_unread([*lines, TextLine("Boats pay 48.70 a night.", (0, 80, 300, 100), 0.99)], [0.0, 0.25, 0.0])
    assert (unread.lines, unread.certain) == ((1,), True)


def test_a_row_of_signs_is_no_foreign_script() -> None:
    lines = [TextLine("*" * 36, (0, 0, 530, 18), 0.83), TextLine("Total 12.40", (0, 40, 200, 60), 0.99)]
    assert find_unread(lines, [0.08, 0.0], [1.15, 0.0]).lines == ()


def test_single_figures_in_cells_are_no_foreign_script() -> None:
    cells = [TextLine(str(n), (0, 30 * n, 15, 30 * n + 20), 0.99) for n in range(9)]
    assert find_unread([TextLine("No", (0, 0, 28, 20), 1.0), *cells], [0.0] * 10).lines == ()

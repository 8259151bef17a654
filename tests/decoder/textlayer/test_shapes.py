"""What a page draws decides over what its fonts and maps say."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from PIL import ImageFont

from answering import LayerAnswer, layer_answer
from deepseek_ocr_mcp.decoder.textlayer.content import Clock, Glyph, Run
from deepseek_ocr_mcp.decoder.textlayer.layer import PagePlace, _drawn_minuses, read_layer
from deepseek_ocr_mcp.documents.reader import LayerText
from pdf_maker import MAP, Sheet, letter_map, pdf, stream

LINES = [
    "The quarterly account shows 4,218.60 in the reserve fund",
    "and 917.35 for repairs of the harbour wall in March.",
]
Take = Callable[..., LayerAnswer]


@pytest.fixture
def take(tmp_path: Path) -> Take:
    """What is taken from a page, without reading it and with what was read of it."""

    def taken(sheet: Sheet, read: list[dict[str, Any]] | None = None, **more: Any) -> LayerAnswer:
        path = tmp_path / "page.pdf"
        path.write_bytes(pdf(sheet, **more))
        document = pypdfium2.PdfDocument(path)
        document.init_forms()
        try:
            found = read_layer(PagePlace(document, 0, str(path), (827, 1170)), lambda: None, read)
        finally:
            document.close()
        return layer_answer(LayerText(0, 0, **found), "free")

    return taken


def embedded(said: dict[str, str]) -> dict[int, str | bytes]:
    """Font `X` with the outlines of a typeface of Pillow's, whose map says other characters than it draws."""
    face = ImageFont.load_default(10)
    assert isinstance(face, ImageFont.FreeTypeFont)
    assert isinstance(face.path, io.BytesIO)
    data = face.path.getvalue()
    widths = " ".join(str(round(ImageFont.load_default(1000).getlength(chr(code)))) for code in range(32, 127))
    characters = {chr(code): chr(code) for code in range(32, 127)} | said
    return {
        15: "<< /Type /Font /Subtype /TrueType /BaseFont /ABCDEF+Face /Encoding /WinAnsiEncoding /FirstChar 32 "
        f"/LastChar 126 /Widths [{widths}] /FontDescriptor 50 0 R /ToUnicode 34 0 R >>",
        34: stream(letter_map(characters)),
        50: "<< /Type /FontDescriptor /FontName /ABCDEF+Face /Flags 32 /FontBBox [-200 -300 1200 1000] /ItalicAngle 0 "
        "/Ascent 900 /Descent -250 /CapHeight 700 /StemV 80 /FontFile2 51 0 R >>",
        51: stream(data, f"/Length1 {len(data)}"),
    }


def test_a_font_that_draws_what_it_names_is_exact(take: Take) -> None:
    found = take(Sheet().paragraph(72, 100, LINES, font="X"), objects=embedded({}))
    assert (found.usable, found.remark) == (True, "")
    assert found.text.split() == " ".join(LINES).split()


def test_a_font_with_letters_in_other_places_is_not_believed(take: Take) -> None:
    moved = {chr(97 + n): chr(97 + (7 * n + 3) % 26) for n in range(26)}
    found = take(Sheet().paragraph(72, 100, LINES, font="X"), objects=embedded(moved))
    assert (found.usable, found.text) == (False, "")


def test_latin_letters_that_are_named_chinese_are_not_believed(take: Take) -> None:
    moved = {chr(97 + n): chr(0x4E00 + 7 * n) for n in range(26)}
    found = take(Sheet().paragraph(72, 100, LINES, font="X"), objects=embedded(moved))
    assert (found.usable, found.text) == (False, "")


def test_figures_that_change_places_are_read_from_the_picture(take: Take) -> None:
    sheet = Sheet().paragraph(72, 100, [LINES[1]] * 2, font="X")
    found = take(sheet, objects=embedded({"1": "7", "7": "1"}))
    assert found.partial
    assert "971.35" not in found.text
    boxes = [[100, 120 + 21 * n, 500, 142 + 21 * n] for n in range(2)]
    read = [{"text": LINES[1], "box": box, "score": 0.98} for box in boxes]
    merged = take(sheet, read, objects=embedded({"1": "7", "7": "1"}))
    assert merged.text.count("917.35") == 2
    assert "read from the picture" in merged.remark


@pytest.mark.parametrize("name", [" ", "\u00a0", "\u200b", "\u00ad", "\u2009"], ids=ascii)
def test_a_letter_that_is_named_as_nothing_is_not_dropped_in_silence(take: Take, name: str) -> None:
    sheet = Sheet().paragraph(72, 100, LINES, font="X")
    found = take(sheet, objects={34: stream(letter_map({chr(n): chr(n) for n in range(32, 127)} | {"8": name}))})
    assert found.partial
    assert "421\ufffd.60" in found.text.replace(",", "")


def test_an_empty_shape_is_a_space_whatever_its_name_is(take: Take) -> None:
    found = take(Sheet().paragraph(72, 100, LINES, font="X"), objects=embedded({" ": "#"}))
    assert (found.usable, found.text.split()) == (True, " ".join(LINES).split())


def test_two_letters_named_as_spaces_are_both_noticed(take: Take) -> None:
    """PDFium gives one of two spaces."""
    found = take(Sheet().paragraph(72, 100, LINES, font="X"), objects=embedded({"1": " ", "8": " "}))
    assert found.partial
    assert found.text.count("\ufffd") >= 3


def test_a_text_for_the_whole_of_other_words_is_compared(take: Take) -> None:
    sheet = Sheet().raw("/Span << /ActualText (Send 900 EUR to Eve) >> BDC").text(72, 100, LINES[0]).raw("EMC")
    assert take(sheet).partial
    read = [{"text": LINES[0], "box": [98, 124, 520, 146], "score": 0.98}]
    assert take(sheet, read).text == LINES[0]


def test_boxes_as_large_as_the_font_hide_no_full_stop(take: Take) -> None:
    """A Type 3 font may say the same box for all its glyphs."""
    bar, dot = "600 0 0 -200 1000 800 d1 60 0 400 700 re f", "250 0 0 -200 1000 800 d1 60 0 120 120 re f"
    font = (
        "<< /Type /Font /Subtype /Type3 /FontBBox [0 -200 1000 800] /FontMatrix [0.001 0 0 0.001 0 0] /FirstChar 32 "
        "/LastChar 50 /Resources << >> /Widths [300 600 600 600 600 600 600 600 600 600 600 600 600 600 250 600 600 "
        "600 600] /Encoding << /Differences [32 /white 46 /dot 49 /bar /bar] >> "
        "/CharProcs << /white 55 0 R /dot 56 0 R /bar 57 0 R >> /ToUnicode 34 0 R >>"
    )
    objects = {
        15: font,
        34: stream(MAP.format("1 beginbfrange <20> <32> <0020> endbfrange")),
        55: stream("300 0 0 -200 1000 800 d1"),
        56: stream(dot),
        57: stream(bar),
    }
    found = take(Sheet().text(72, 100, "12.1 2.12 1.", 12, "X"), objects=objects)
    assert (found.usable, found.text) == (True, "12.1 2.12 1.")


def test_a_font_that_draws_a_block_for_every_letter_names_none_of_them_wrongly(take: Take) -> None:
    letters = "abcdefghij"
    font = (
        "<< /Type /Font /Subtype /Type3 /FontBBox [0 0 600 700] /FontMatrix [0.001 0 0 0.001 0 0] /FirstChar 97 "
        f"/LastChar 106 /Widths [{' '.join(['600'] * 10)}] /Resources << >> /ToUnicode 34 0 R "
        f"/Encoding << /Differences [97 {' '.join('/block' for _ in letters)}] >> /CharProcs << /block 50 0 R >> >>"
    )
    block = stream("600 0 0 0 500 700 d1 50 0 400 700 re f")
    maps = stream(letter_map({letter: letter for letter in letters}))
    sheet = Sheet().paragraph(72, 200, LINES).text(72, 100, letters, 20, "X")
    assert letters in take(sheet, objects={15: font, 34: maps, 50: block}).text


def test_a_font_of_another_script_that_names_its_letters_a_to_p_is_not_believed(take: Take) -> None:
    """As fonts of Indic scripts from before Unicode do; here, each letter is a figure of strokes."""
    letters = "abcdefghijklmnop"
    rng = random.Random(18)

    def drawn() -> bytes:
        points = [f"{rng.randrange(60, 540)} {rng.randrange(0, 700)}" for _ in range(6)]
        return stream(f"600 0 0 -60 600 760 d1 70 w {points[0]} m {' l '.join(points[1:])} l S")

    font = (
        "<< /Type /Font /Subtype /Type3 /FontBBox [0 -60 600 760] /FontMatrix [0.001 0 0 0.001 0 0] /FirstChar 97 "
        f"/LastChar 112 /Widths [{' '.join(['600'] * 16)}] /Resources << >> /ToUnicode 34 0 R "
        f"/Encoding << /Differences [97 {' '.join(f'/d{n}' for n in range(16))}] >> "
        f"/CharProcs << {' '.join(f'/d{n} {60 + n} 0 R' for n in range(16))} >> >>"
    )
    objects = {15: font, 34: stream(letter_map({letter: letter for letter in letters}))}
    sheet = Sheet().paragraph(72, 200, LINES).text(72, 100, letters, 20, "X")
    found = take(sheet, objects={**objects, **{60 + n: drawn() for n in range(16)}})
    assert found.partial
    assert not any(letter in found.text.splitlines()[0] for letter in letters)


def test_a_ligature_that_is_named_by_one_of_its_letters_is_not_dropped_in_silence(take: Take) -> None:
    """Here M stands for the ligature: it is named i, and far wider than any i."""
    lines = [*LINES, "as the Mrst of signiMcant works in this little village"]
    found = take(Sheet().paragraph(72, 100, lines, font="X"), objects=embedded({"M": "i"}))
    assert found.partial
    assert "as the \ufffdrst of signi\ufffdcant works in this little village" in found.text
    assert found.text.count("\ufffd") == 3  # with that of March


def test_letters_of_a_stretched_word_are_no_ligatures(take: Take) -> None:
    sheet = Sheet().paragraph(72, 200, LINES, font="X")
    sheet.raw("BT /X 12 Tf 250 Tz 72 742 Td (little fish in it) Tj 100 Tz ET")
    found = take(sheet, objects=embedded({}))
    assert (found.usable, found.remark) == (True, "")
    assert "little fish in it" in found.text


def test_a_minus_that_is_drawn_before_a_figure_is_read_from_the_picture(take: Take) -> None:
    sheet = Sheet().paragraph(72, 200, LINES).text(72, 100, "Balance").text(126, 100, "5.20 EUR")
    sheet.box(119, 95.6, 125, 96.6)
    found = take(sheet)
    assert found.partial
    assert "\ufffd5.20" in found.text.replace(" ", "")
    merged = take(sheet, [{"text": "Balance -5.20 EUR", "box": [98, 123, 260, 144], "score": 0.97}])
    assert "Balance -5.20 EUR" in merged.text
    assert "\ufffd" not in merged.text


def test_a_tick_of_an_axis_before_a_figure_is_no_minus(take: Take) -> None:
    sheet = Sheet().paragraph(72, 200, LINES)
    sheet.rule(119, 80, 119, 120).rule(119, 96, 125, 96).text(127, 100, "5.20 EUR")
    found = take(sheet)
    assert (found.usable, found.remark) == (True, "")


def test_a_figure_of_a_run_without_a_size_has_no_minus_and_stops_no_page() -> None:
    rule = (10.0, 5.0, 16.0, 6.0)
    figures = [Glyph("5", (17.0, 0.0, 22.0, 9.0), 17.0, 9.0, Run(size=size)) for size in (0.0, 10.0)]
    assert _drawn_minuses(figures[:1], [rule], Clock(lambda: None)) == []
    assert [glyph.box for glyph in _drawn_minuses(figures, [rule], Clock(lambda: None))] == [rule]

"""Which characters a person sees, told by drawing the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pypdfium2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepseek_ocr_mcp.decoder.textlayer.content import Clock, Glyph, TooMuch, look
from deepseek_ocr_mcp.decoder.textlayer.drawing import draw, scale_for
from deepseek_ocr_mcp.decoder.textlayer.visibility import seen
from pdf_maker import PROSE, Sheet, pdf


def measured(data: bytes) -> tuple[list[Glyph], list[Glyph]]:
    """The glyphs of the first page that are seen, and those that are not."""
    document = pypdfium2.PdfDocument(data)
    page = document[0]
    clock = Clock(lambda: None)
    try:
        sight = seen(page, look(page, clock), clock)
        return sight.shown, sight.hidden
    finally:
        page.close()
        document.close()


def text(glyphs: list[Glyph]) -> str:
    return "".join(glyph.text for glyph in glyphs)


LAYERS: dict[int, str | bytes] = {51: "<< /Type /OCG /Name (one) >>", 52: "<< /Type /OCG /Name (two) >>"}
CATALOG = "/OCProperties << /OCGs [51 0 R 52 0 R] /D << /ON [52 0 R] /OFF [51 0 R] >> >>"

HIDDEN = {
    "white on white": Sheet().text(72, 300, "SECRET", more="1 g"),
    "almost white": Sheet().text(72, 300, "SECRET", more="0.96 0.97 0.95 rg"),
    "black on black": Sheet().box(60, 280, 200, 310).text(72, 300, "SECRET", more="0 g"),
    "painted over": Sheet().text(72, 300, "SECRET").box(60, 280, 200, 310, "0.2 0.2 0.2"),
    "under a picture": Sheet().text(72, 300, "SECRET").picture(60, 280, 200, 310),
    "under a shape with many corners": Sheet()
    .text(72, 300, "SECRET")
    .raw("0.3 g 50 520 m 130 600 l 250 590 l 300 520 l 200 480 l f"),
    "outside of the page": Sheet().text(700, 300, "SECRET"),
    "cut off by a clip": Sheet().raw("q 0 700 300 142 re W n").text(72, 300, "SECRET").raw("Q"),
    "cut off by a round clip": Sheet().raw("q 0 0 m 0 90 90 90 90 0 c W n").text(72, 300, "SECRET").raw("Q"),
    "without paint": Sheet().text(72, 300, "SECRET", more="3 Tr"),
    "transparent": Sheet().raw("q /Clear gs").text(72, 300, "SECRET").raw("Q"),
    "on a layer that is off": Sheet().raw("/OC /L1 BDC").text(72, 300, "SECRET").raw("EMC"),
    "far too narrow": Sheet().text(72, 300, "SECRET", more="0.5 Tz").raw("100 Tz"),
    "far too small": Sheet().text(72, 300, "SECRET", 0.4),
    "under other words": Sheet().text(72, 300, "SECRET", more="1 g").text(72, 300, "DUMMY WORDS", more="0 g"),
}


@pytest.mark.parametrize("way", HIDDEN)
def test_what_nobody_sees_is_told_apart(way: str) -> None:
    sheet = Sheet(parts=[*Sheet().paragraph(72, 100, PROSE).parts, *HIDDEN[way].parts])
    shown, hidden = measured(pdf(sheet, catalog=CATALOG, objects=LAYERS))
    assert text(shown).startswith("".join(PROSE).replace(" ", ""))
    assert "SECRET" not in text(shown)
    assert len(text(shown)) + len(text(hidden)) >= len("".join(PROSE).replace(" ", "")) + 6 * ("outside" not in way)


SEEN = {
    "white on a dark box": Sheet().box(60, 280, 200, 310, "0 0 0.5").text(72, 300, "LEGIBLE", more="1 g"),
    "white on a picture": Sheet().picture(60, 280, 160, 310).text(62, 300, "LEGIBLE", more="1 g"),
    "under a marker": Sheet().text(72, 300, "LEGIBLE").raw("q /Multiply gs").box(60, 280, 200, 310, "1 1 0").raw("Q"),
    "half transparent": Sheet().raw("q /Half gs").text(72, 300, "LEGIBLE").raw("Q"),
    "outlined": Sheet().text(72, 300, "LEGIBLE", more="1 Tr"),
    "filled with a gradient": Sheet().text(72, 300, "LEGIBLE", 20, more="/Pattern cs /Shade scn"),
    "with a white halo": Sheet()
    .text(72, 300, "LEGIBLE", 20, more="3 w 1 G 1 Tr")
    .text(72, 300, "LEGIBLE", 20, more="1 w 0 G 0 Tr"),
    "white with a dark outline": Sheet().text(72, 300, "LEGIBLE", 20, more="0.1 0.1 0.4 RG 1 g 2 Tr"),
    "half cut off": Sheet().raw("q 0 545 600 300 re W n").text(72, 300, "LEGIBLE").raw("Q"),
    "beside a triangle whose box holds it": Sheet()
    .text(72, 300, "LEGIBLE")
    .raw("0.3 g 500 400 m 500 700 l 60 700 l f"),
    "on a layer that is on": Sheet().raw("/OC /L2 BDC").text(72, 300, "LEGIBLE").raw("EMC"),
    "turned": Sheet().turned(200, 300, "LEGIBLE", "0.7 0.7 -0.7 0.7"),
}


@pytest.mark.parametrize("way", SEEN)
def test_what_a_person_sees_is_found(way: str) -> None:
    sheet = Sheet(parts=[*SEEN[way].parts, "0 g 0 Tr", *Sheet().paragraph(72, 100, PROSE).parts])
    shown, _ = measured(pdf(sheet, catalog=CATALOG, objects=LAYERS))
    assert text(shown).count("LEGIBLE") == 1
    assert text(shown).endswith("".join(PROSE).replace(" ", ""))


def test_what_is_covered_in_part_is_given_in_part() -> None:
    shown, hidden = measured(pdf(Sheet().text(72, 300, "Account 12345678").box(117.5, 280, 200, 310)))
    assert (text(shown), text(hidden)) == ("Account", "12345678")


def test_copies_that_make_bold_type_are_one() -> None:
    sheet = Sheet().text(72, 300, "Total: 74.50", 18, "F2").text(114.7, 300.3, ": 74.50", 18, "F2")
    shown, _ = measured(pdf(sheet))
    assert text(shown) == "Total:74.50"


def test_like_letters_side_by_side_are_no_copies() -> None:
    shown, _ = measured(pdf(Sheet().text(72, 300, "llllllll").text(72, 330, "ll").text(78, 330, "ll")))
    assert text(shown) == "llllllllllll"


def test_text_on_text_on_text_is_too_much() -> None:
    sheet = Sheet()
    for n in range(12):
        sheet.text(72 + n, 300, f"{n} written here over all the others {n}")
    with pytest.raises(TooMuch, match="overlaps"):
        measured(pdf(sheet))


@dataclass(frozen=True)
class Cover:
    x1: int
    y1: int
    x2: int
    y2: int


COVERS = st.builds(
    lambda x, y, wide, high: Cover(x, y, x + wide, y + high),
    st.integers(0, 500),
    st.integers(0, 380),
    st.integers(4, 250),
    st.integers(4, 80),
)
WAYS = st.sampled_from(["before", "after", "clear", "clip", "half"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(covers=st.lists(st.tuples(COVERS, WAYS), max_size=6), colour=st.sampled_from(["0.4 g", "0.9 0.2 0.1 rg"]))
def test_random_covers_hide_what_they_hold_and_nothing_else(covers: list[tuple[Cover, str]], colour: str) -> None:
    """Covers before the text, after it, transparent ones; a clip that lets through what is outside of it."""
    size = (595, 420)
    sheet = Sheet(size=size)
    for cover, way in covers:
        if way == "before":
            sheet.box(cover.x1, cover.y1, cover.x2, cover.y2, "0.95 0.95 0.8")
    for cover, way in covers:
        if way == "clip":  # an even-odd clip: the page without this rectangle
            box = f"{cover.x1} {size[1] - cover.y2} {cover.x2 - cover.x1} {cover.y2 - cover.y1} re"
            sheet.raw(f"0 0 {size[0]} {size[1]} re {box} W* n")
    for n in range(9):
        sheet.text(40, 40 + 40 * n, "HAMBURGEFONTS QUICK BROWN FOX 4711", 17)
    sheet.raw(f"q {colour}")
    for cover, way in covers:
        if way in ("after", "clear", "half"):
            state = {"after": "", "clear": "/Clear gs", "half": "/Half gs"}[way]
            box = f"{cover.x1} {size[1] - cover.y2} {cover.x2 - cover.x1} {cover.y2 - cover.y1} re"
            sheet.raw(f"q {state} {box} f Q")
    sheet.raw("Q")
    shown, hidden = measured(pdf(sheet))
    for glyph in shown:
        # A clip cuts the covers, too: where its edge goes through a letter, the smoothed letter shines through.
        if any(way == "clip" and touches(cover, glyph.box) for cover, way in covers):
            assert not any(way == "clip" and holds(cover, glyph.box) for cover, way in covers), glyph
        else:
            assert not any(way == "after" and holds(cover, glyph.box) for cover, way in covers), glyph
    for glyph in hidden:
        assert any(touches(cover, glyph.box) for cover, way in covers if way in ("after", "clip")), glyph


def holds(cover: Cover, box: tuple[float, float, float, float]) -> bool:
    """With a margin for smoothing: PDFium snaps glyphs to pixels."""
    return (
        cover.x1 + 1.5 <= box[0] and box[2] <= cover.x2 - 1.5 and cover.y1 + 1.5 <= box[1] and box[3] <= cover.y2 - 1.5
    )


def touches(cover: Cover, box: tuple[float, float, float, float]) -> bool:
    return min(cover.x2, box[2]) > max(cover.x1, box[0]) and min(cover.y2, box[3]) > max(cover.y1, box[1])


def test_a_page_that_takes_too_long_to_draw_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    document = pypdfium2.PdfDocument(pdf(Sheet(parts=["0 0 m 595 842 l S"] * 2_000).paragraph(72, 100, PROSE)))
    page = document[0]
    clock = Clock(lambda: None)
    content = look(page, clock)
    monkeypatch.setattr(Clock, "is_over", property(lambda self: True))
    with pytest.raises(TooMuch, match="too long"):
        seen(page, content, clock)
    page.close()
    document.close()


def test_a_part_of_a_page_is_drawn_as_the_whole_page_shows_it() -> None:
    sheet = Sheet().box(300, 300, 400, 420, "0.8 0.9 1")
    for n in range(30):
        sheet.text(60.13 + 7.77 * n, 100.31 + 21.13 * n, "Each glyph snaps to its pixel", 7 + n / 5)
    document = pypdfium2.PdfDocument(pdf(sheet))
    page = document[0]
    clock, scale = Clock(lambda: None), scale_for(*sheet.size)
    try:
        whole, part = draw(page, scale, clock), draw(page, scale, clock, (203, 317, 641, 809))
    finally:
        page.close()
        document.close()
    assert (whole < 128).any()
    assert (part == whole[317:809, 203:641]).all()


def test_hidden_words_are_told_apart_among_a_thousand_letters() -> None:
    sheet = Sheet().text(72, 740, "SECRET", more="1 g").text(200, 60 + 14 * 7, "UNDER", 10, more="1 g").raw("0 g")
    for n in range(40):
        sheet.text(72, 60 + 14 * n, "thirty letters and some others beside them", 10)
    shown, hidden = measured(pdf(sheet))
    assert text(shown) == "thirtylettersandsomeothersbesidethem" * 40
    assert text(hidden) == "SECRETUNDER"

"""What was read, as a file: a PDF that looks as before and is found in, a Word document that holds nothing but text."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docx
import pypdfium2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pypdfium2 import raw

from deepseek_ocr_mcp.decoder.exports.word import word_document
from deepseek_ocr_mcp.decoder.renderer import PageRenderer

DPI = 200
MAX_PIXELS = 20_000_000


class Line:
    """A `Call` whose caller waits."""

    def progress(self, done: float, message: str = "") -> None: ...
    def raise_if_cancelled(self) -> None: ...


def a_page(number: int, width: int, height: int, *blocks: tuple[str, list[int]]) -> dict[str, Any]:
    made = [{"label": "line", "text": text, "box": box} for text, box in blocks]
    return {"page": number, "width": width, "height": height, "text": "", "blocks": made}


def searchable(
    folder: Path, content: bytes, pages: list[dict[str, Any]], *, upright: bool = False
) -> pypdfium2.PdfDocument:
    path, read, out = folder / "input", folder / "pages.json", folder / "out.pdf"
    path.write_bytes(content)
    read.write_text(json.dumps(pages))
    document = {"file": {"path": str(path), "name": "scan"}, "max_pixels": MAX_PIXELS}
    renderer = PageRenderer()
    renderer.inspect(**document, max_pages=100, call=Line())
    options = {"upright": upright}
    renderer.export("pdf", str(read), options, str(out), Line(), document=document | {"dpi": DPI})
    return pypdfium2.PdfDocument(out.read_bytes())


def text_of(page: pypdfium2.PdfPage) -> list[str]:
    """The lines that PDFium finds on a page."""
    return [line.strip() for line in page.get_textpage().get_text_range().splitlines() if line.strip()]


def drawn(page: pypdfium2.PdfPage) -> Image.Image:
    return page.render(scale=DPI / 72).to_pil().convert("RGB")


def words(page: pypdfium2.PdfPage, width: int, height: int) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Each character that a reader finds, and its box in pixels of the upright page."""

    def pixel(x: float, y: float) -> tuple[int, int]:
        from ctypes import c_int

        to_x, to_y = c_int(), c_int()
        raw.FPDF_PageToDevice(page, 0, 0, width, height, 0, x, y, to_x, to_y)
        return to_x.value, to_y.value

    text = page.get_textpage()
    for index in range(text.count_chars()):
        char = text.get_text_range(index, 1)
        if not char.isspace():  # empty: half of a character beyond the first plane
            left, bottom, right, top = text.get_charbox(index)
            corners = [pixel(left, bottom), pixel(right, top)]
            xs, ys = zip(*corners, strict=True)
            yield char, (min(xs), min(ys), max(xs), max(ys))


def picture(width: int = 400, height: int = 300) -> Image.Image:
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).rectangle((50, 50, 150, 90), fill="navy")
    return image


def encoded(*images: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    more = {"save_all": True, "append_images": images[1:]} if len(images) > 1 else {}
    images[0].save(out, kind, **more)
    return out.getvalue()


def scan(rotation: int = 0, crop: tuple[float, float, float, float] | None = None) -> bytes:
    """A PDF with a picture on its one page, turned and cropped."""
    pdf, out = pypdfium2.PdfDocument.new(), io.BytesIO()
    page = pdf.new_page(288, 216)
    image = pypdfium2.PdfImage.new(pdf)
    image.load_jpeg(io.BytesIO(encoded(picture(), kind="JPEG")), inline=True)
    image.set_matrix(pypdfium2.PdfMatrix().scale(288, 216))
    page.insert_obj(image)
    page.gen_content()
    page.set_rotation(rotation)
    if crop:
        page.set_cropbox(*crop)
    pdf.save(out)
    return out.getvalue()


# -- searchable PDF


def test_a_picture_becomes_a_pdf_that_shows_it_and_is_found_in(tmp_path: Path) -> None:
    text = "Überschrift 漢字 😀𠀀"
    page = a_page(1, 400, 300, (text, [50, 50, 150, 90]), ("6", [200, 100, 212, 120]))
    made = searchable(tmp_path, encoded(picture()), [page])
    assert made[0].get_size() == pytest.approx((400 * 72 / DPI, 300 * 72 / DPI), abs=0.01)
    assert text_of(made[0]) == [text, "6"]
    assert drawn(made[0]).tobytes() == picture().tobytes()
    found = list(words(made[0], 400, 300))
    assert found[0][1][:2] == pytest.approx((50, 50), abs=1)
    assert found[-1] == ("6", (200, 100, 212, 120))  # a single character has its place, too
    assert max(box[2] for char, box in found[:-1]) == pytest.approx(150, abs=1)


@pytest.mark.parametrize("crop", [None, (40, 30, 250, 200)])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_scanned_pdf_looks_as_before_and_its_text_lies_where_it_was_read(
    tmp_path: Path, rotation: int, crop: tuple[float, float, float, float] | None
) -> None:
    content = scan(rotation, crop)
    before = pypdfium2.PdfDocument(content)
    width, height = (math.ceil(side * DPI / 72) for side in before[0].get_size())
    box = [60, 80, 160, 100]
    made = searchable(tmp_path, content, [a_page(1, width, height, ("words", box))])
    assert drawn(made[0]).tobytes() == drawn(before[0]).tobytes()
    found = list(words(made[0], width, height))
    assert "".join(char for char, _ in found) == "words"
    xs = [x for _, (left, _, right, _) in found for x in (left, right)]
    ys = [y for _, (_, top, _, bottom) in found for y in (top, bottom)]
    assert [min(xs), min(ys), max(xs), max(ys)] == pytest.approx(box, abs=2)


def test_a_page_with_text_of_its_own_is_left_alone(tmp_path: Path) -> None:
    letter = (Path(__file__).parents[2] / "examples" / "pages" / "letter.pdf").read_bytes()
    before = pypdfium2.PdfDocument(letter)[0].get_textpage()
    if before.count_chars() < 10:  # a scan: make it one with text
        scanned = searchable(tmp_path, letter, [a_page(1, 1654, 2339, ("already here", [100, 100, 900, 150]))])
        out = io.BytesIO()
        scanned.save(out)
        letter = out.getvalue()
    own = pypdfium2.PdfDocument(letter)[0].get_textpage().get_text_range()
    made = searchable(tmp_path, letter, [a_page(1, 1654, 2339, ("twice", [100, 300, 900, 350]))])
    assert made[0].get_textpage().get_text_range() == own


def test_every_page_of_a_document_is_kept_and_those_that_were_read_have_text(tmp_path: Path) -> None:
    pages = [picture(400, height) for height in (200, 300, 400)]
    read = [a_page(2, 400, 300, ("second", [10, 10, 90, 30]))]
    made = searchable(tmp_path, encoded(*pages, kind="TIFF"), read)
    assert [round(page.get_height() * DPI / 72) for page in made] == [200, 300, 400]
    assert [text_of(page) for page in made] == [[], ["second"], []]


def test_a_region_of_several_lines_shares_its_box_among_them_and_tags_are_no_text(tmp_path: Path) -> None:
    table = "<table><tr><td>a &amp; b</td></tr></table>"
    read = a_page(1, 400, 300, ("one\n\ntwo", [10, 100, 110, 140]), (table, [10, 200, 110, 220]))
    read["blocks"][1]["label"] = "table"
    made = searchable(tmp_path, encoded(picture()), [read])
    tops = {char: box[1] for char, box in words(made[0], 400, 300)}
    assert (tops["n"], tops["w"]) == (100, 120)
    assert "a & b" in made[0].get_textpage().get_text_range()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.text(max_size=30), st.lists(st.integers(-1_000_000, 1_000_000), min_size=4, max_size=4)),
        max_size=5,
    ),
    st.integers(1, 1_000_000),
    st.integers(1, 1_000_000),
)
def test_whatever_was_read_a_pdf_comes_of_it(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[str, list[int]]], width: int, height: int
) -> None:
    folder = tmp_path_factory.mktemp("export")
    made = searchable(folder, encoded(Image.new("RGB", (8, 8))), [a_page(1, width, height, *blocks)])
    made[0].get_textpage().get_text_range()


# -- Word


def test_a_word_document_has_pages_of_the_paper_that_was_asked_for() -> None:
    for paper, width in (("a4", 210), ("letter", 215.9)):
        made = docx.Document(io.BytesIO(word_document([{"text": "x"}], "", "document", paper)))
        assert made.sections[0].page_width is not None
        assert made.sections[0].page_width.mm == pytest.approx(width, abs=0.1)


def word(*texts: str, mode: str = "document") -> Any:
    out = io.BytesIO(word_document([{"text": text} for text in texts], "Title\x0b", mode))
    with zipfile.ZipFile(out) as package:
        written = package.read("word/document.xml").decode()
        relations = package.read("word/_rels/document.xml.rels").decode()
    assert not re.search("<w:(hyperlink|instrText|fldSimple|altChunk|object|drawing)", written)
    assert "External" not in relations
    return docx.Document(out)


def lines(document: Any) -> list[tuple[str, str]]:
    return [(line.style.name, line.text) for line in document.paragraphs]


def tables(document: Any) -> list[list[list[str]]]:
    return [[[cell.text for cell in row.cells] for row in table.rows] for table in document.tables]


def test_markdown_becomes_headings_lists_and_tables() -> None:
    document = word(
        "# Head\n\nA *b* **c** line\nand the next\n\n- one\n  - two\n\n1. first\n\n> said\n\n"
        "| a | b |\n|---|---|\n| 1 \\| 2 | 3 |\n\n```\ncode\n```",
        "## Second page",
    )
    assert lines(document) == [
        ("Heading 1", "Head"),
        ("Normal", "A b c line\nand the next"),
        ("List Bullet", "one"),
        ("List Bullet 2", "two"),
        ("List", "1. first"),
        ("Quote", "said"),
        ("Normal", "code"),
        ("Normal", ""),
        ("Heading 2", "Second page"),
    ]
    assert tables(document) == [[["a", "b"], ["1 | 2", "3"]]]
    runs = document.paragraphs[1].runs
    assert [run.text for run in runs if run.italic] == ["b"]
    assert [run.text for run in runs if run.bold] == ["c"]
    assert document.paragraphs[7].runs[0].contains_page_break or "w:br" in document.paragraphs[7]._p.xml
    assert (document.core_properties.title, document.core_properties.author) == ("Title", "")


def test_the_tables_of_a_model_keep_their_spans() -> None:
    html = (
        '<table><tr><td rowspan="2">A</td><td colspan="2">B</td></tr>'
        "<tr><td>C</td><td>D &lt; E</td></tr><tr><td>only</td></tr></table>"
    )
    assert tables(word(html)) == [[["A", "B", "B"], ["A", "C", "D < E"], ["only", "", ""]]]


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)> [link](javascript:alert(1)) [site](https://evil.example.org)",
        "![picture](https://evil.example.org/a.png)",
        "<script>alert(1)</script>",
        "<https://evil.example.org>",
    ],
)
def test_nothing_that_a_model_wrote_becomes_a_link_or_is_loaded(text: str) -> None:
    word(text)  # which looks into the package


def test_formulas_and_figures_stay_as_they_were_written() -> None:
    document = word("Area \\(a^2\\) and \\[ x_1 \\] 5 * 3\n\n<!-- figure 2 -->")
    assert [text for _, text in lines(document)] == ["Area \\(a^2\\) and \\[ x_1 \\] 5 * 3", "[Figure 2]"]


def test_plain_text_is_no_markdown() -> None:
    assert lines(word("# 12\n* star\n\n    indented", mode="ocr")) == [
        ("Normal", "# 12\n* star"),
        ("Normal", "    indented"),
    ]


TAGS = ["<table>", "<tr>", "<td rowspan=99999999>", "<td colspan='3'>", "</td>", "</table>", "<br>", "<!--", "<sup>"]
MARKS = ["| a | b |\n|--|--|\n", "- ", "1. ", "> ", "# ", "\n\n", "```", "\x00", "\ud800", "\x0b"]


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(st.text(max_size=20), st.sampled_from(TAGS + MARKS)), max_size=30).map("".join))
def test_whatever_a_model_wrote_a_document_comes_of_it(text: str) -> None:
    for mode in ("document", "ocr"):
        word(text, mode=mode)


def test_a_table_that_claims_to_be_endless_does_not_take_for_ever() -> None:
    cell = '<td rowspan="99999" colspan="99999">x</td>'
    [table] = tables(word(f"<table>{f'<tr>{cell * 5}</tr>' * 40}</table>"))
    assert len(table) == 40
    assert len(table[0]) <= 60
    assert re.fullmatch("x*", "".join(table[0]))

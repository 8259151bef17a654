"""A searchable PDF is found in whatever the direction of its text, by three readers of PDF: Poppler, PDFium, pdf.js.

pdf.js runs in benchmarks/searchable.py only, because it comes by npm.
"""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from PIL import Image, ImageDraw

from deepseek_ocr_mcp.decoder.exports.pdf import lay_under
from deepseek_ocr_mcp.decoder.renderer import PageRenderer

WIDTH, HEIGHT = 1200, 900
DPI = 144
PROSE = (
    "The quiet harbour kept its ledger in iron boxes\nMr Hale signed for oranges and paid the barge\n"
    "Copper figs and glass came yearly to the quay\nNobody queried why the jury typed a page"
)

Box = tuple[float, float, float, float]


class Waiting:
    """A `Call` whose caller waits."""

    def progress(self, done: float, message: str = "") -> None: ...
    def raise_if_cancelled(self) -> None: ...


def turned(x: float, y: float, angle: float) -> tuple[float, float]:
    """A place on the page after a turn around its middle."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y = x - WIDTH / 2, y - HEIGHT / 2
    return x * cosine - y * sine + HEIGHT, x * sine + y * cosine + HEIGHT


def words_of(text: str, y: float, angle: float) -> list[dict[str, Any]]:
    """Words of a line that was level before the page was turned, with the boxes around them."""
    x, words = 250.0, []
    for word in text.split():
        wide = 14.0 * len(word)
        corners = [turned(cx, cy, angle) for cx in (x, x + wide) for cy in (y, y + 24)]
        xs, ys = zip(*corners, strict=True)
        words.append({"text": word, "box": [round(v) for v in (min(xs), min(ys), max(xs), max(ys))]})
        x += wide + 10
    return words


def page_at(angle: float) -> dict[str, Any]:
    """A page of prose whose lines run at an angle."""
    blocks = []
    for number, line in enumerate(PROSE.splitlines()):
        words = words_of(line, 300 + 60 * number, angle)
        lefts, tops, rights, bottoms = zip(*(word["box"] for word in words), strict=True)
        box = [min(lefts), min(tops), max(rights), max(bottoms)]
        blocks.append({"label": "line", "text": line, "box": box, "angle": angle % 360, "words": words})
    return {"page": 1, "width": 2 * HEIGHT, "height": 2 * HEIGHT, "text": PROSE, "blocks": blocks}


def written(folder: Path, page: dict[str, Any], *, upright: bool = False) -> Path:
    """A PDF of one blank page with the text of a page under it."""
    pdf = pypdfium2.PdfDocument.new()
    pdf.new_page(page["width"] * 72 / DPI, page["height"] * 72 / DPI)
    lay_under(pdf, [page], upright=upright)
    pdf.save(folder / "out.pdf")
    return folder / "out.pdf"


def poppler(path: Path, *options: str) -> str:
    return subprocess.run(["pdftotext", *options, str(path), "-"], capture_output=True, text=True, check=True).stdout


def pdfium(path: Path) -> str:
    text = pypdfium2.PdfDocument(path)[0].get_textpage().get_text_range()
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def boxes(path: Path) -> dict[str, Box]:
    """The words that Poppler finds, with their boxes in pixels."""
    found = re.findall(
        r'<word xMin="(\S+)" yMin="(\S+)" xMax="(\S+)" yMax="(\S+)">(.*?)</word>', poppler(path, "-bbox")
    )
    return {unescape(word): tuple(float(v) * DPI / 72 for v in box) for *box, word in found}  # type: ignore[misc]


def overlap(a: Box, b: Box) -> float:
    """The intersection of two boxes as a share of their union."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, wide) * max(0.0, high)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


ANGLES = [0, 90, 180, 270, 1, 2, 4, 6, -3, -6, 94, 176, 264]


@pytest.mark.parametrize("angle", ANGLES)
def test_poppler_finds_every_word_in_its_place_on_a_page_that_is_turned_or_skewed(tmp_path: Path, angle: int) -> None:
    page = page_at(angle)
    path = written(tmp_path, page)
    assert sorted(poppler(path).split()) == sorted(PROSE.split())
    found = boxes(path)
    words = [word for block in page["blocks"] for word in block["words"]]
    once = [word for word in words if PROSE.split().count(word["text"]) == 1]
    assert min(overlap(found[word["text"]], word["box"]) for word in once) >= 0.7


@pytest.mark.parametrize("angle", ANGLES)
def test_pdfium_finds_the_words_of_a_line_in_their_order(tmp_path: Path, angle: int) -> None:
    assert pdfium(written(tmp_path, page_at(angle))).split() == PROSE.split()


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_page_that_is_turned_upright_if_asked_reads_as_an_upright_page(tmp_path: Path, turn: int) -> None:
    page = page_at(-turn) | {"turn": turn}
    path = written(tmp_path, page, upright=True)
    assert pypdfium2.PdfDocument(path)[0].get_rotation() == turn
    assert pdfium(path) == PROSE
    assert poppler(path).split() == PROSE.split()
    assert pypdfium2.PdfDocument(written(tmp_path, page))[0].get_rotation() == 0


@pytest.mark.parametrize("angle", [0, 90, 4, -6])
def test_words_of_a_line_without_boxes_of_words_are_found_too(tmp_path: Path, angle: int) -> None:
    page = page_at(angle)
    for block in page["blocks"]:
        del block["words"]
    assert sorted(poppler(written(tmp_path, page)).split()) == sorted(PROSE.split())


def one_line(text: str, *, right_to_left: bool, words: bool) -> dict[str, Any]:
    x, found = 100, []
    for word in text.split()[:: -1 if right_to_left else 1]:
        found.append({"text": word, "box": [x, 100, x + 14 * len(word), 130]})
        x += 14 * len(word) + 12
    found = found[:: -1 if right_to_left else 1]
    block = {"label": "line", "text": text, "box": [100, 100, x - 12, 130]}
    return {"page": 1, "width": 1000, "height": 400, "blocks": [block | ({"words": found} if words else {})]}


@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("text", ["שלום עולם זהו משפט ארוך", "مرحبا بالعالم هذه جملة"])
def test_text_that_runs_from_right_to_left_is_found_as_it_is_written(tmp_path: Path, text: str, words: bool) -> None:
    path = written(tmp_path, one_line(text, right_to_left=True, words=words))
    assert pdfium(path) == text
    assert re.sub("[\u202a-\u202e]", "", poppler(path)).split() == text.split()


def test_a_number_within_a_hebrew_word_keeps_its_order(tmp_path: Path) -> None:
    path = written(tmp_path, one_line("סעיף ב-12.5 כאן", right_to_left=True, words=True))
    assert "12.5" in poppler(path)
    assert "12.5" in pdfium(path)


@pytest.mark.parametrize("words", [True, False])
def test_a_column_of_characters_is_found_from_top_to_bottom(tmp_path: Path, words: bool) -> None:
    texts = ["日本語の縦書き文章", "二行目の文字列です"]
    blocks = []
    for number, text in enumerate(texts):
        left = 800 - 60 * number
        block = {"label": "line", "text": text, "box": [left, 100, left + 40, 460], "vertical": True}
        chars = [{"text": c, "box": [left, 100 + 40 * n, left + 40, 138 + 40 * n]} for n, c in enumerate(text)]
        blocks.append(block | ({"words": chars} if words else {}))
    path = written(tmp_path, {"page": 1, "width": 1000, "height": 800, "blocks": blocks})
    assert poppler(path).split() == texts
    assert pdfium(path).split() == texts


def test_words_without_a_space_between_them_are_not_torn(tmp_path: Path) -> None:
    text = "価格は 500円です"
    places = [("価格", 100), ("は", 160), ("500", 210), ("円", 260), ("です", 290)]
    words = [{"text": word, "box": [x, 100, x + 28 * len(word), 130]} for word, x in places]
    block = {"label": "line", "text": text, "box": [100, 100, 346, 130], "words": words}
    path = written(tmp_path, {"page": 1, "width": 600, "height": 300, "blocks": [block]})
    assert pdfium(path) == text
    assert poppler(path).split() == text.split()


def test_words_whose_boxes_overlap_are_found_apart(tmp_path: Path) -> None:
    text, x, words = "the harbour kept its ledger", 100, []
    for word in text.split():
        words.append({"text": word, "box": [x, 100, x + 14 * len(word), 130]})
        x += 14 * len(word) - 5
    block = {"label": "line", "text": text, "box": [100, 100, x + 5, 130], "words": words}
    path = written(tmp_path, {"page": 1, "width": 600, "height": 300, "blocks": [block]})
    assert poppler(path).split() == pdfium(path).split() == text.split()


def test_a_page_with_some_text_of_its_own_gets_the_text_that_was_read_beside_it(tmp_path: Path) -> None:
    own = {"label": "line", "text": "Printed heading", "box": [100, 100, 500, 130]}
    first = written(tmp_path, {"page": 1, "width": 1000, "height": 800, "blocks": [own]})
    pdf = pypdfium2.PdfDocument(first.read_bytes())
    read = {"label": "line", "text": "stamped by hand", "box": [100, 400, 500, 430], "source": "read"}
    page = {"page": 1, "width": 1000, "height": 800, "blocks": [own | {"source": "text_layer"}, read]}
    lay_under(pdf, [page])
    pdf.save(tmp_path / "second.pdf")
    assert pdfium(tmp_path / "second.pdf").splitlines() == ["Printed heading", "stamped by hand"]


def exported(folder: Path, picture: bytes, page: dict[str, Any]) -> bytes:
    """A searchable PDF of a picture file, by way of the decoder's own method."""
    (folder / "in").write_bytes(picture)
    (folder / "pages").write_text(json.dumps([page]))
    document = {"file": {"path": str(folder / "in"), "name": "in"}, "max_pixels": 10_000_000, "dpi": DPI}
    PageRenderer().export("pdf", str(folder / "pages"), {}, str(folder / "out"), Waiting(), document=document)
    return (folder / "out").read_bytes()


def drawn(mode: str, kind: str, **options: Any) -> bytes:
    image = Image.new(mode, (400, 300), "white")
    ImageDraw.Draw(image).ellipse((100, 100, 200, 180), fill="grey")
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_a_jpeg_goes_into_the_pdf_as_it_is(tmp_path: Path) -> None:
    page = {"page": 1, "width": 400, "height": 300, "blocks": []}
    jpeg = drawn("RGB", "JPEG", quality=60)
    assert jpeg in exported(tmp_path, jpeg, page)
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = drawn("RGB", "JPEG", quality=60, exif=exif)
    made = exported(tmp_path, sideways, page | {"width": 300, "height": 400})
    assert sideways not in made
    assert pypdfium2.PdfDocument(made)[0].get_width() < pypdfium2.PdfDocument(made)[0].get_height()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_drawn_picture_keeps_every_pixel(tmp_path: Path, mode: str) -> None:
    png = drawn(mode, "PNG")
    made = exported(tmp_path, png, {"page": 1, "width": 400, "height": 300, "blocks": []})
    shown = pypdfium2.PdfDocument(made)[0].render(scale=DPI / 72).to_pil().convert("RGB")
    assert shown.tobytes() == Image.open(io.BytesIO(png)).convert("RGB").tobytes()

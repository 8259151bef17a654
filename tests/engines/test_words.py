"""The boxes of words lie on their ink: on drawn pages, level, tilted and turned."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from deepseek_ocr_mcp.engines.base import CPU, PageImage, Reading, ReadOptions
from deepseek_ocr_mcp.engines.rapidocr.engine import RapidOcrEngine
from deepseek_ocr_mcp.layout.answers import answer

ROWS = [
    "The mixed ensemble rehearses every Monday evening",
    "at nine (doors: 8.30), and again on 17 November.",
    "Tickets 24.50, or 18.00 for members and juniors",
    "Please quote reference KX-4471/b when you write",
]
SIZE = (1200, 420)
Box = tuple[float, float, float, float]


class Silent:
    """A caller who waits and asks nothing."""

    def progress(self, done: float, message: str = "") -> None: ...
    def raise_if_cancelled(self) -> None: ...
    def is_dropped(self, page: int) -> bool:
        return False


@pytest.fixture(scope="module")
def engine() -> RapidOcrEngine:
    engine = RapidOcrEngine()
    engine.load(CPU, Silent())
    return engine


def drawn() -> tuple[Image.Image, dict[str, Box]]:
    """A page, and the box of the ink of each word."""
    page, font = Image.new("RGB", SIZE, "white"), ImageFont.load_default(34)
    draw = ImageDraw.Draw(page)
    boxes: dict[str, Box] = {}
    for n, row in enumerate(ROWS):
        x = 60.0
        for word in row.split():
            draw.text((x, 40 + 90 * n), word, "black", font)
            boxes[word] = draw.textbbox((x, 40 + 90 * n), word, font)
            x += font.getlength(word + " ")
    return page, boxes


def turned(box: Box, degrees: float, size: tuple[int, int]) -> Box:
    """The box around a box after `Image.rotate(-degrees, expand=True)`, clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    centre = (SIZE[0] / 2, SIZE[1] / 2)
    corners = [(box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3])]
    places = [((x - centre[0]) * cos - (y - centre[1]) * sin, (x - centre[0]) * sin + (y - centre[1]) * cos)
              for x, y in corners]  # fmt: skip
    xs, ys = [x + size[0] / 2 for x, _ in places], [y + size[1] / 2 for _, y in places]
    return min(xs), min(ys), max(xs), max(ys)


def overlap(a: Box, b: Box) -> float:
    """The shared area of two boxes over the area of both."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def read(engine: RapidOcrEngine, page: Image.Image, folder: Path) -> Reading:
    path = folder / "page"
    path.write_bytes(page.tobytes())
    return engine.read([PageImage(str(path), *page.size)], ReadOptions("ocr"), Silent())[0]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_every_word_box_overlaps_the_ink_of_its_word(engine: RapidOcrEngine, tmp_path: Path, degrees: int) -> None:
    page, truth = drawn()
    page = page.rotate(-degrees, expand=True, fillcolor="white")
    reading = read(engine, page, tmp_path)
    assert reading.quarters == degrees // 90 % 4
    _, blocks = answer(reading, is_markdown=False)
    assert {block.get("angle", 0) for block in blocks} == {degrees}
    words = {word["text"]: word["box"] for block in blocks for word in block["words"]}
    assert set(words) == set(truth)
    for word, box in truth.items():
        assert overlap(words[word], turned(box, degrees, page.size)) >= 0.8, word


def test_on_a_tilted_page_words_are_boxed_and_lines_say_their_angle(engine: RapidOcrEngine, tmp_path: Path) -> None:
    page, truth = drawn()
    page = page.rotate(-4, expand=True, fillcolor="white", resample=Image.Resampling.BICUBIC)
    reading = read(engine, page, tmp_path)
    _, blocks = answer(reading, is_markdown=False)
    assert reading.skew == pytest.approx(4, abs=0.5)
    assert all(block["angle"] == pytest.approx(4, abs=1) for block in blocks)
    words = {word["text"]: word["box"] for block in blocks for word in block["words"]}
    found = [overlap(words[word], turned(box, 4, page.size)) for word, box in truth.items() if word in words]
    assert len(found) >= 0.95 * len(truth)
    assert sorted(found)[len(found) // 10] >= 0.7


def test_words_at_the_edge_of_a_page_are_boxed_like_others(engine: RapidOcrEngine, tmp_path: Path) -> None:
    page, truth = drawn()
    page = page.crop((58, 0, SIZE[0], SIZE[1]))
    _, blocks = answer(read(engine, page, tmp_path), is_markdown=False)
    words = {word["text"]: word["box"] for block in blocks for word in block["words"]}
    for word, (x1, y1, x2, y2) in truth.items():
        assert overlap(words[word], (x1 - 58, y1, x2 - 58, y2)) >= 0.8, word


def test_thin_words_and_signs_at_their_end_are_boxed_to_a_pixel(engine: RapidOcrEngine, tmp_path: Path) -> None:
    page, font = Image.new("RGB", (900, 200), "white"), ImageFont.load_default(24)
    truth: list[tuple[str, Box]] = []
    for y, row in ((40, "I saw a 1 in 5 chance of ill will"), (120, "Total: 24.50, and again on 17 November.")):
        x = 48.0
        for word in row.split():
            alone = Image.new("L", page.size, 255)
            ImageDraw.Draw(alone).text((x, y), word, 0, font)
            ImageDraw.Draw(page).text((x, y), word, "black", font)
            ink = alone.point(lambda value: 255 * (value < 160)).getbbox()
            assert ink
            truth.append((word, ink))
            x += font.getlength(word + " ")
    _, blocks = answer(read(engine, page, tmp_path), is_markdown=False)
    words = [(word["text"], word["box"]) for block in blocks for word in block["words"]]
    assert [text for text, _ in words] == [text for text, _ in truth]
    for (word, due), (_, box) in zip(truth, words, strict=True):
        away = max(abs(a - b) for a, b in zip(due, box, strict=True))
        assert away <= 1 or overlap(due, box) >= 0.8, (word, due, box)

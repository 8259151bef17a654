"""Rules and boxes to tick, found on drawn pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from deepseek_ocr_mcp.engines.rules import find_drawn

EM = 20.0


def drawn(paper: int = 255, ink: int = 0) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("L", (700, 500), paper)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(24)
    for r in range(4):
        for c in range(3):
            draw.text((75 + 200 * c, 60 + 60 * r), f"Hill {r}{c}", ink, font)
    return image, draw


def grid(draw: ImageDraw.ImageDraw, ink: int = 0, width: int = 2) -> None:
    for y in range(50, 291, 60):
        draw.line((60, y, 660, y), ink, width)
    for x in range(60, 661, 200):
        draw.line((x, 50, x, 290), ink, width)


def counted(image: Image.Image, tilt: float = 0.0) -> tuple[int, int]:
    rules = find_drawn(np.asarray(image), tilt, EM).rules
    level = sum(x2 - x1 > y2 - y1 for x1, y1, x2, y2 in rules)
    return level, len(rules) - level


@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (25, 220), (230, 170)], ids=["plain", "dark", "faint"])
def test_the_rules_of_a_table_are_found(paper: int, ink: int) -> None:
    image, draw = drawn(paper, ink)
    grid(draw, ink)
    assert counted(image) == (5, 4)


def test_rules_of_a_grainy_tilted_scan_are_found_where_they_would_stand_on_a_level_page() -> None:
    image, draw = drawn()
    grid(draw)
    grain = np.random.default_rng(1).integers(-16, 17, (500, 700))
    tilted = np.asarray(image.rotate(-2, Image.Resampling.BICUBIC, fillcolor=255), np.int16)
    scan = np.clip(tilted * 0.8 + 30 + grain, 0, 255).astype(np.uint8)
    rules = find_drawn(scan, 2.0, EM).rules
    level = sorted((y1 + y2) / 2 for x1, y1, x2, y2 in rules if x2 - x1 > y2 - y1)
    assert level == pytest.approx([50, 110, 170, 230, 290], abs=3)


def test_text_has_no_rules() -> None:
    image, _ = drawn()
    assert counted(image) == (0, 0)
    assert find_drawn(np.asarray(image), 0.0, EM).ticks == ()


def test_boxes_to_tick_are_found_ticked_and_not() -> None:
    image, draw = drawn()
    for n in range(4):
        draw.rectangle((20, 62 + 60 * n, 40, 82 + 60 * n), outline=0, width=2)
    draw.line((24, 66, 36, 78), 0, 3)
    draw.line((24, 78, 36, 66), 0, 3)
    draw.line((24, 192, 28, 198), 0, 3)
    draw.line((28, 198, 37, 184), 0, 3)
    ticks = sorted(find_drawn(np.asarray(image), 0.0, EM).ticks, key=lambda tick: tick.box[1])
    assert [tick.is_ticked for tick in ticks] == [True, False, True, False]
    assert ticks[1].box == pytest.approx((20, 122, 41, 143), abs=2)


@pytest.mark.parametrize(("lean", "grain"), [(0.0, 40), (0.7, 0), (0.5, 25)])
def test_boxes_of_a_poor_scan_are_told_though_its_tilt_is_unknown(lean: float, grain: int) -> None:
    image, draw = drawn()
    for r in range(4):
        for c in range(3):
            x, y = 45 + 200 * c, 63 + 60 * r
            draw.rectangle((x, y, x + 18, y + 18), outline=0, width=2)
            if (r + c) % 2:
                draw.line((x + 4, y + 4, x + 14, y + 14), 0, 3)
                draw.line((x + 4, y + 14, x + 14, y + 4), 0, 3)
    turned = np.asarray(image.rotate(-lean, Image.Resampling.BICUBIC, fillcolor=255), np.int16)
    scan = np.clip(turned + np.random.default_rng(1).integers(-grain, grain + 1, turned.shape), 0, 255)
    ticks = find_drawn(scan.astype(np.uint8), 0.0, EM).ticks
    assert len(ticks) == 12
    for tick in ticks:
        c, r = round((tick.box[0] - 45) / 200), round((tick.box[1] - 63) / 60)
        assert tick.is_ticked == bool((r + c) % 2)


@pytest.mark.parametrize("size", [16, 22, 34])
def test_letters_are_no_boxes(size: int) -> None:
    image = Image.new("L", (40 * size, 5 * size), 255)
    ImageDraw.Draw(image).text((size, size), "O D Q B H E U C G 0 8 6 9 o OLD DOG", 0, ImageFont.load_default(size))
    assert find_drawn(np.asarray(image), 0.0, 1.1 * size).ticks == ()


def test_a_pattern_of_lines_has_no_rules() -> None:
    image = Image.new("L", (1200, 1200), 255)
    draw = ImageDraw.Draw(image)
    for n in range(0, 1200, 5):
        for part in range(0, 1200, 60):
            draw.line((part, n, part + 50, n), 0, 1)
    assert find_drawn(np.asarray(image), 0.0, 12.0).rules == ()

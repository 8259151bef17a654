"""Draws the lines that the recogniser is calibrated with.

Many typefaces, sizes, papers, inks and scripts: a range of values that was never seen is cut off in integers. Nothing
of the shared corpus is drawn here; the corpus measures the result. The same seed gives the same pixels.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from generated_pages import scanned
from generated_sheet import (
    CHINESE,
    ENGLISH,
    FRENCH,
    GERMAN,
    GOODS,
    JAPANESE,
    NAMES,
    font,
    money,
)

__all__ = ["lines"]

LATIN_FACES: Final = (
    "serif", "serif bold", "serif italic", "sans", "sans bold", "mono", "mono bold", "wide", "wide bold", "book",
    "book bold", "free",
)  # fmt: skip
CJK_FACES: Final = ("cjk", "cjk bold", "cjk serif")
LINE_HEIGHT: Final = 48  # pixels, fixed by the recogniser
STEP: Final = 8  # pixels of a line for each answer of the recogniser
WIDEST: Final = 1000  # pixels of a line: longer ones tell no more and take longer

PAPERS: Final = (
    ((255, 255, 255), (20, 20, 20)),
    ((255, 255, 255), (110, 110, 110)),
    ((240, 236, 220), (60, 40, 30)),
    ((30, 30, 34), (220, 220, 210)),
    ((20, 60, 120), (255, 255, 255)),
    ((255, 255, 255), (180, 30, 40)),
    ((200, 200, 200), (90, 90, 100)),
)
"""Colours of paper and ink."""


def lines(count: int, seed: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Lines of text as the recogniser sees them: `48 * width * 3` RGB, the width a multiple of 8."""
    for number in range(count):
        dice = random.Random(f"{seed} line {number}")
        image = _damaged(_line(dice), dice)
        width = max(STEP, min(WIDEST, round(LINE_HEIGHT * image.width / image.height)) // STEP * STEP)
        pixels = np.asarray(image.convert("RGB"))
        yield cv2.resize(pixels, (width, LINE_HEIGHT), interpolation=cv2.INTER_LINEAR)


def _line(dice: random.Random) -> Image.Image:
    """A line with a little white around it, and now and then the ends of the lines above and below."""
    size = dice.choice((12, 14, 16, 18, 20, 24, 30, 40))
    text, face = _text(dice)
    letters = font(face, size)
    paper, ink = dice.choice(PAPERS) if dice.random() < 0.5 else PAPERS[0]
    left, top, right, bottom = letters.getbbox(text)
    side, above = dice.uniform(0.2, 0.8) * size, dice.uniform(0.1, 0.35) * size
    image = Image.new("RGB", (round(right - left + 2 * side), max(8, round(bottom - top + 2 * above))), paper)
    draw = ImageDraw.Draw(image)
    draw.text((side - left, above - top), text, ink, letters)
    if dice.random() < 0.2:
        draw.text((side - left, above - top + 1.25 * size), dice.choice(ENGLISH), ink, letters)
    if dice.random() < 0.1:
        draw.line((0, image.height - 2, image.width, image.height - 2), ink, 1)
    return image


def _text(dice: random.Random) -> tuple[str, str]:
    """A text and a typeface that has its letters."""
    kind = dice.random()
    if kind < 0.35:
        words = dice.choice((*ENGLISH, *GERMAN, *FRENCH)).split(" ")
        first = dice.randrange(len(words))
        text = " ".join(words[first : first + dice.randint(1, 9)])
        return (text.upper() if dice.random() < 0.15 else text), dice.choice(LATIN_FACES)
    if kind < 0.6:
        numbers = [
            money(dice, 99999),
            f"{dice.randint(1, 9999):,}",
            f"{dice.randint(1, 28):02}.{dice.randint(1, 12):02}.{dice.randint(1950, 2030)}",
            f"{dice.choice(GOODS)} {money(dice)}",
            f"{dice.choice(NAMES)} ({dice.randint(1, 99)} %)",
            f"{dice.choice(('No.', 'Fig.', '§', '#', '€', '£'))} {dice.randint(1, 99999)}",
            "".join(dice.choice("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789-/") for _ in range(dice.randint(5, 18))),
        ]
        return "  ".join(dice.sample(numbers, dice.randint(1, 3))), dice.choice(LATIN_FACES)
    if kind < 0.7:
        return dice.choice((*CHINESE, *JAPANESE))[: dice.randint(4, 20)], dice.choice(CJK_FACES)
    if kind < 0.95:  # characters that no sentence above has
        ideographs = [chr(dice.randint(0x4E00, 0x9FA5)) for _ in range(dice.randint(2, 14))]
        kana = [
            chr(dice.randint(*dice.choice(((0x3041, 0x3093), (0x30A1, 0x30F3))))) for _ in range(dice.randint(0, 6))
        ]
        return "".join(dice.sample(ideographs + kana, len(ideographs + kana))), dice.choice(CJK_FACES)
    return dice.choice("0123456789AaBbgIil?!&"), dice.choice(LATIN_FACES)


def _damaged(image: Image.Image, dice: random.Random) -> Image.Image:
    """The line as a scanner, a camera or a lossy file leaves it, or as it was drawn."""
    if dice.random() < 0.3:
        image = image.rotate(dice.uniform(-1.5, 1.5), Image.Resampling.BICUBIC, fillcolor=image.getpixel((0, 0)))
    if dice.random() < 0.3:
        image = scanned(image, dice)
    if dice.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(dice.uniform(0.4, 1.2)))
    if dice.random() < 0.4:
        with BytesIO() as file:
            image.save(file, "JPEG", quality=dice.randint(25, 85))
            image = Image.open(file).convert("RGB")
    return image

"""Draws pages of numbers, and counts the numbers that a reader got exactly right.

A reader that loses one digit of an amount gives a wrong answer that nobody notices, and a character error rate
hides it: one digit in a thousand letters is 0.001. So numbers are counted one by one: a group of digits is
right, or it is not.

The set: eight typefaces in four sizes, each plain, ruled and scanned, 96 pages of about 60 numbers. Pages are drawn
four times as large and reduced, as a PDF page is; about every second one stands on a sheet of 1700 * 2200 pixels, where
detection sees it reduced. The same seed gives the same pages. `reading.py --numbers` reads
the set. Needs the Debian packages that `generated_pages.py` names.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont

from generated_pages import FOLDERS, PACKAGES, scanned

__all__ = ["digit_groups", "numbers_right", "write_number_pages"]

FACES: Final = {
    "sans": "liberation/LiberationSans-Regular.ttf",
    "serif": "liberation/LiberationSerif-Regular.ttf",
    "narrow": "liberation/LiberationSansNarrow-Regular.ttf",
    "mono": "liberation/LiberationMono-Regular.ttf",
    "bold": "liberation/LiberationSans-Bold.ttf",
    "wide": "dejavu/DejaVuSans.ttf",
    "book": "linux-libertine/LinLibertine_R.otf",
    "noto": "noto/NotoSerif-Regular.ttf",
}
SIZES: Final = (14, 17, 20, 24)  # pixels: 6 to 11 points at 160 dpi
SURFACES: Final = ("plain", "ruled", "scanned")
ROWS: Final = 12
COLUMNS: Final = 5
SHEET: Final = (1700, 2200)  # pixels: letter paper at 200 dpi
LARGER: Final = 4  # times as large as the page is what is drawn and then reduced
JPEG_QUALITY: Final = 85
PLACES: Final = (
    "Port Ellery", "Millbrook", "Stone Ferry", "Upper Marsh", "Cold Ash", "Kingsholm", "Wetherby Hill", "Old Quarry",
    "Harbour East", "Chapel Hill", "Long Acre", "Saint Ives", "Dunmore", "Low Water",
)  # fmt: skip
HEADS: Final = ("Opened", "Loans", "Bonds", "Change", "Passengers", "Deposits", "Share", "Balance")


def digit_groups(text: str) -> Counter[str]:
    """How often each run of digits stands in a text: `"1,204 of 77"` has `1`, `204` and `77`."""
    return Counter(re.findall(r"[0-9]+", text))


def numbers_right(truth: str, text: str) -> tuple[int, int]:
    """How many groups of digits of a truth a reading has exactly, and out of how many; groups too many count as wrong.

    The order does not count: a table may be read by rows or by columns.
    """
    expected, found = digit_groups(truth), digit_groups(text)
    return (expected & found).total(), max(expected.total(), found.total())


def write_number_pages(folder: Path, seed: int = 1) -> list[dict[str, Any]]:
    """Draw every page of the set into `folder`; returns the entries of its manifest, which is written too."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for face, size, surface in product(FACES, SIZES, SURFACES):
        key = f"numbers_{face}_{size}_{surface}"
        image, truth = _page(random.Random(f"{seed} {key}"), face, size, surface)
        name = f"{key}.png"
        image.save(folder / name)
        entries.append(
            {
                "id": key,
                "file": name,
                "category": f"numbers {surface}",
                "lang": "en",
                "tess_lang": "eng",
                "pages": 1,
                "reading_order_meaningful": False,
                "checks": [],
                "gt": truth,
            }
        )
    (folder / "manifest.json").write_text(json.dumps(entries, ensure_ascii=False, indent=1))
    return entries


def _page(dice: random.Random, face: str, size: int, surface: str) -> tuple[Image.Image, str]:
    """A table of numbers and a sentence below it, and its text."""
    font = _font(face, size * LARGER)
    rows = [["Station", *dice.sample(HEADS, COLUMNS)]]
    kinds = [dice.choice(KINDS) for _ in range(COLUMNS)]
    rows += [[place, *(kind(dice) for kind in kinds)] for place in dice.sample(PLACES, ROWS)]
    note = f"Of {dice.randint(100, 999)} stations {dice.randint(20, 99)} are open, as in {dice.randint(1960, 2025)}."
    step, pad = round(size * LARGER * 1.8), size * LARGER
    widths = [round(max(font.getlength(row[n]) for row in rows)) + 2 * pad for n in range(COLUMNS + 1)]
    page = Image.new("RGB", (sum(widths) + 4 * pad, step * (ROWS + 4)), "white")
    draw = ImageDraw.Draw(page)
    for r, row in enumerate(rows):
        x, y = 2 * pad, step * (r + 1)
        for n, cell in enumerate(row):
            at = (x + pad, y + step // 2) if n == 0 else (x + widths[n] - pad, y + step // 2)
            draw.text(at, cell, (20, 20, 20), font, anchor="lm" if n == 0 else "rm")
            if surface == "ruled":
                draw.rectangle((x, y, x + widths[n], y + step), outline=(60, 60, 60), width=LARGER)
            x += widths[n]
    draw.text((3 * pad, step * (ROWS + 3)), note, (20, 20, 20), font, anchor="lm")
    reduced = page.resize((page.width // LARGER, page.height // LARGER), Image.Resampling.LANCZOS)
    if SHEET[0] >= reduced.width and dice.random() < 0.5:
        sheet = Image.new("RGB", SHEET, "white")
        sheet.paste(reduced, (0, 0))
        reduced = sheet
    if surface == "scanned":
        reduced = scanned(reduced, dice)
    return _compressed(reduced), "\n".join([*(" ".join(row) for row in rows), note])


def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    for folder in FOLDERS:
        if (path := folder / FACES[face]).is_file():
            return ImageFont.truetype(str(path), size)
    sys.exit(f"{FACES[face]} is missing: apt-get install {PACKAGES}")


def _compressed(image: Image.Image) -> Image.Image:
    """The picture after JPEG has been at it."""
    with BytesIO() as file:
        image.save(file, "JPEG", quality=JPEG_QUALITY)
        return Image.open(file).convert("RGB")


def _thousands(dice: random.Random) -> str:
    return f"{round(10 ** dice.uniform(3, 7)):,}"


def _cents(dice: random.Random) -> str:
    return f"{10 ** dice.uniform(0.5, 5):,.2f}"


def _negative(dice: random.Random) -> str:
    return f"({10 ** dice.uniform(0.5, 4):,.1f})" if dice.random() < 0.4 else f"{10 ** dice.uniform(0.5, 4):,.1f}"


def _share(dice: random.Random) -> str:
    return f"{dice.uniform(-30, 100):.1f}%"


def _short(dice: random.Random) -> str:
    return str(dice.randint(10, 999))


def _year(dice: random.Random) -> str:
    return str(dice.randint(1850, 2030))


def _day(dice: random.Random) -> str:
    return f"{dice.randint(1, 28):02}.{dice.randint(1, 12):02}.{dice.randint(1990, 2025)}"


KINDS: Final[tuple[Callable[[random.Random], str], ...]] = (
    _thousands, _thousands, _cents, _cents, _negative, _share, _short, _year, _day,
)  # fmt: skip

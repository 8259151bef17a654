"""Draws pages with known texts: the kinds of the shared corpus, but pages that nobody tuned anything to.

    python benchmarks/generated_pages.py FOLDER        write the pages and their manifest.json
    python benchmarks/reading.py --generated           draw them into a temporary folder and read them

The manifest has the format of the corpus, so `evaluate.py` scores both in the same way. A page depends only on its own
name and on `--seed`: the same seed gives the same pages, another seed gives other sizes, fonts, texts and angles. Needs
Debian's fonts-dejavu-core, fonts-liberation, fonts-linuxlibertine, fonts-freefont-ttf, fonts-noto-core and
fonts-noto-cjk.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageChops, ImageFilter

from generated_sheet import (
    ARABIC,
    CHINESE,
    ENGLISH,
    FOLDERS,
    FRENCH,
    GERMAN,
    GOODS,
    HEADINGS,
    HEBREW,
    INK,
    JAPANESE,
    LATIN,
    NAMES,
    PACKAGES,
    TITLES,
    Sheet,
    font,
    grid,
    money,
    prose,
)
from generated_structure import (
    box_in_text,
    chart,
    chinese_stops,
    code,
    contents,
    dashes,
    data_sheet,
    group_rows,
    index,
    inset,
    multiline_cells,
    narrow_columns,
    newspaper,
    picture_across,
    recipe,
    side_headings,
    stacked_tables,
    table_across,
    table_in_column,
    tables_side_by_side,
    tall_rows,
    ticks,
    vertical_tiers,
    years,
)

__all__ = ["FOLDERS", "PACKAGES", "scanned", "write_pages"]

# -- kinds of pages


def article(dice: random.Random, columns: int, *, hyphens: bool = True, scale: float = 1.0) -> Sheet:
    """A title over the columns, headings in them, a page number below."""
    size = dice.choice((22, 24, 26)) * scale
    body, bold = font(face := dice.choice(("serif", "book", "free", "sans")), size), font("serif bold", size * 1.25)
    page = Sheet((round(1240 * scale), round(1700 * scale)), dice)
    left, right, top, bottom = 90 * scale, 1150 * scale, 90 * scale, 1560 * scale
    title = dice.choice(TITLES)
    page.say(620 * scale, top, title, font("serif bold", size * 2), anchor="ma", heading=True)
    top += size * 3.2
    if dice.random() < 0.5:
        page.say(620 * scale, top, f"by {dice.choice(NAMES)}", body, anchor="ma")
        top += size * 2.2
    gutter = size * dice.uniform(1.4, 2.4)
    width = (right - left - gutter * (columns - 1)) / columns
    headings, texts = dice.sample(HEADINGS, 6), dice.sample(ENGLISH, len(ENGLISH))
    rest = ""
    for column in range(columns):
        x, y = left + column * (width + gutter), top
        while y < bottom - 3 * size:
            if not rest and headings and column + y / bottom > 0.3 and dice.random() < 0.4:
                y += size * 0.5
                page.say(x, y, headings.pop(), bold, heading=True)
                y += size * 1.9
            elif not rest:
                if len(texts) < 3:
                    break
                rest = " ".join(texts.pop() for _ in range(3))
            if rest:
                y, rest = page.paragraph(x, y, width, rest, body, hyphens=hyphens, justify=face != "sans", until=bottom)
                y += size * 0.55
    page.runs_on = False
    page.say(620 * scale, 1610 * scale, str(dice.randint(2, 400)), body, anchor="ma")
    return page


def headline_in_the_middle(dice: random.Random) -> Sheet:
    """Two stories of two columns each, one above the other."""
    page = Sheet((1240, 1500), dice)
    size = dice.choice((22, 24))
    body = font("serif", size)
    y = 80.0
    for title in dice.sample(TITLES, 2):
        page.say(90, y, title, font("serif bold", size * 1.9), heading=True)
        y += size * 3
        width, start = (1060 - 50) / 2, y
        ends = []
        for column in range(2):
            end, _ = page.paragraph(90 + column * (width + 50), start, width, prose(dice, 4), body, justify=True)
            ends.append(end)
        y = max(ends) + size * 2
    return page


def marginalia(dice: random.Random) -> Sheet:
    """A wide column, and notes in small type beside it; read after the column or where they stand."""
    page = Sheet((1240, 1400), dice)
    size = dice.choice((24, 26))
    body, small = font("book", size), font("serif italic", size * 0.72)
    page.say(330, 90, dice.choice(TITLES), font("book bold", size * 1.8), heading=True)
    y = 190.0
    notes = []
    for n in range(3):
        if n != 1:
            notes.append((y, dice.choice(HEADINGS).lower() + ", cf. page " + str(dice.randint(2, 90))))
        y, _ = page.paragraph(330, y, 800, prose(dice, 4), body, justify=True)
        y += size
    for at, note in notes:
        page.paragraph(70, at, 200, note, small)
    return page


def captions(dice: random.Random) -> Sheet:
    """A picture between two paragraphs, with its caption."""
    page = Sheet((1100, 1500), dice)
    size = dice.choice((24, 28))
    body = font(dice.choice(LATIN), size)
    page.say(90, 80, dice.choice(HEADINGS), font("sans bold", size * 1.7), heading=True)
    y, _ = page.paragraph(90, 160, 920, prose(dice, 4), body)
    y += size
    for n in range(14):  # rolling hills
        shade = 225 - 10 * n
        box = (150 + dice.randint(-60, 300), y + 20 * n, 500 + dice.randint(0, 400), y + 380)
        page.draw.ellipse((box[0], box[1], box[2], max(box[1] + 8, box[3])), (shade, shade, min(255, shade + 20)))
    page.draw.rectangle((90, y, 1010, y + 400), outline=INK)
    y += 415
    caption = f"Figure {dice.randint(1, 9)}. {dice.choice(ENGLISH)}"
    y, _ = page.paragraph(130, y, 840, caption, font("serif italic", size * 0.85))
    page.paragraph(90, y + size, 920, prose(dice, 4), body)
    return page


def letter(dice: random.Random, bank: Sequence[str] = tuple(ENGLISH), face: str = "") -> Sheet:
    """An address, a date on the right, paragraphs, a signature."""
    page = Sheet((1240, 1600), dice)
    size = dice.choice((24, 26, 30))
    body = font(face or dice.choice(LATIN), size)
    y = 110.0
    for text in (dice.choice(NAMES), f"{dice.randint(2, 99)} Harbour Street", "Port Ellery"):
        page.say(110, y, text, body)
        y += size * 1.4
    y += size
    page.say(1130, y, f"{dice.randint(1, 28)} March {dice.randint(1960, 2025)}", body, anchor="ra")
    y += size * 3
    for _ in range(3):
        y, _ = page.paragraph(110, y, 1020, prose(dice, 3, bank), body, hyphens=True)
        y += size
    page.say(110, y + size, dice.choice(NAMES), body)
    return page


def bullets(dice: random.Random) -> Sheet:
    """Headings, a list with bullets, a list with numbers."""
    page = Sheet((1100, 1300), dice)
    size = dice.choice((24, 28))
    body, bold = font(dice.choice(("sans", "wide", "serif")), size), font("sans bold", size * 1.4)
    y = 80.0
    for heading, marks in zip(dice.sample(HEADINGS, 2), ("•", ""), strict=True):
        page.say(90, y, heading, bold, heading=True)
        y += size * 2.4
        for n, text in enumerate(dice.sample(ENGLISH, 4), start=1):
            mark = marks or f"{n}."
            page.say(110, y, mark, body, truth=False)
            y, _ = page.paragraph(110 + size * 1.6, y, 820, text, body)
            if not marks:
                page.truth[-1] = f"{mark} {page.truth[-1]}"
            y += size * 0.35
        y += size
    return page


def footnotes(dice: random.Random) -> Sheet:
    """A running head, text, a rule, notes in small type, a page number."""
    page = Sheet((1100, 1500), dice)
    size = dice.choice((26, 28))
    body, small = font("book", size), font("book", size * 0.75)
    page.say(100, 60, dice.choice(TITLES), font("serif italic", size * 0.85))
    page.say(1000, 60, str(dice.randint(10, 400)), font("serif", size * 0.85), anchor="ra")
    y = 140.0
    for _ in range(3):
        y, _ = page.paragraph(100, y, 900, prose(dice, 4), body, hyphens=True, justify=True, indent=size * 1.5)
    y = max(y + 60, 1250)
    page.rule(100, y - 16, 400, y - 16)
    for n in (1, 2):
        y, _ = page.paragraph(100, y, 900, f"{n} {dice.choice(ENGLISH)}", small)
    return page


def sidebar(dice: random.Random) -> Sheet:
    """A grey box with text of its own to the right of the main column."""
    page = Sheet((1240, 1200), dice)
    size = dice.choice((24, 26))
    body, small = font("serif", size), font("sans", size * 0.85)
    page.say(90, 80, dice.choice(TITLES), font("sans bold", size * 1.8), heading=True)
    page.draw.rectangle((830, 190, 1170, 900), (225, 228, 232))
    page.paragraph(90, 190, 690, prose(dice, 10), body)
    page.say(855, 215, dice.choice(HEADINGS), font("sans bold", size), heading=True)
    page.paragraph(855, 265, 290, prose(dice, 3), small)
    return page


def form(dice: random.Random) -> Sheet:
    """Labels and values, two pairs a row, on lines."""
    page = Sheet((1240, 700), dice)
    size = dice.choice((24, 26))
    label, value = font("sans", size * 0.9), font("mono", size)
    page.say(80, 60, "Application for membership", font("sans bold", size * 1.6), heading=True)
    y = 170
    pairs = [("Name", dice.choice(NAMES)), ("Date of birth", f"{dice.randint(1, 28)}.04.{dice.randint(1950, 2004)}"),
             ("Street", f"{dice.randint(2, 99)} Mill Lane"), ("City", "Stone Ferry"),
             ("Telephone", f"0{dice.randint(100, 999)} {dice.randint(10000, 99999)}"), ("Member since", "1998"),
             ("Occupation", "carpenter"), ("Signature", "R. C.")]  # fmt: skip
    for n, (name, content) in enumerate(pairs):
        x = 80 + 560 * (n % 2)
        page.say(x, y, f"{name}:", label)
        page.say(x + 210, y, content, value)
        page.rule(x + 200, y + size * 1.3, x + 520, y + size * 1.3, 1)
        y += 75 * (n % 2)
    return page


def ledger(dice: random.Random, lines: str, *, two_lines: bool = False, gaps: bool = False) -> Sheet:
    """A table of places and figures."""
    page = Sheet((1240, 900), dice)
    size = dice.choice((22, 24, 28))
    text, bold = font(dice.choice(("sans", "serif", "wide")), size), font("sans bold", size)
    page.say(90, 60, f"Traffic by station, {dice.randint(1990, 2025)}", font("sans bold", size * 1.4), heading=True)
    places = ["Port Ellery", "Millbrook", "Stone Ferry", "Upper Marsh", "Cold Ash", "Kingsholm", "Wetherby Hill"]
    dice.shuffle(places)
    rows = [["Station", "Opened", "Platforms", "Passengers", "Change"]]
    for place in places[: dice.randint(4, 7)]:
        passengers, change = (
            f"{dice.randint(1, 90)},{dice.randint(100, 999)}",
            f"{dice.choice('+-')}{dice.randint(1, 30)} %",
        )
        rows.append([place, str(dice.randint(1850, 1950)), str(dice.randint(1, 9)), passengers, change])
    if two_lines:
        rows[2][0] += "\nand " + places[-1]
    if gaps:
        rows[1][4] = rows[3][2] = ""
    grid(page, 90, 140, [300, 160, 180, 220, 160], rows, text, lines=lines, right=(1, 2, 3, 4), bold=bold)
    return page


def invoice(dice: random.Random, lines: str) -> Sheet:
    """Sender, receiver, number and date on the right, positions, totals, a footer of three columns."""
    page = Sheet((1240, 1600), dice)
    size = dice.choice((22, 24))
    text, bold = font("sans", size), font("sans bold", size)
    page.say(90, 80, "Ellery Marine Supplies", font("sans bold", size * 1.6), heading=True)
    page.say(90, 80 + size * 2.2, f"{dice.randint(1, 40)} Dock Road · Port Ellery", font("sans", size * 0.85))
    y = 230.0
    number = f"INV-{dice.randint(10000, 99999)}"
    for left, right in zip(
        (dice.choice(NAMES), f"{dice.randint(2, 99)} Harbour Street", "Port Ellery"),
        (f"Invoice no. {number}", f"Date {dice.randint(1, 28):02}.05.2024", f"Customer {dice.randint(100, 999)}"),
        strict=True,
    ):
        page.say(90, y, left, text)
        page.say(780, y, right, text)
        y += size * 1.5
    y += size * 3
    page.say(90, y, "Invoice", font("sans bold", size * 1.6), heading=True)
    y += size * 3
    rows = [["Pos.", "Description", "Qty", "Price", "Amount"]]
    total = 0.0
    for n, thing in enumerate(dice.sample(GOODS, 6), start=1):
        count, price = dice.randint(1, 12), round(dice.uniform(0.5, 90), 2)
        total += count * price
        rows.append([str(n), thing, str(count), f"{price:.2f}", f"{count * price:.2f}"])
    y = grid(page, 90, y, [90, 480, 130, 160, 200], rows, text, lines=lines, right=(2, 3, 4), bold=bold)
    y += size
    for name, amount in (("Subtotal", total), ("VAT 20 %", total * 0.2), ("Total", total * 1.2)):
        page.say(790, y, name, bold, anchor="la")
        page.say(1138, y, f"{amount:.2f}", bold, anchor="ra")
        y += size * 1.6
    page.paragraph(90, y + size * 2, 1000, "Please pay within thirty days. " + dice.choice(ENGLISH), text)
    return page


def receipt(dice: random.Random) -> Sheet:
    """A narrow strip of a printer's type."""
    size = dice.choice((20, 24, 28))
    text, bold = font("mono", size), font("mono bold", size * 1.2)
    wide = round(size * 0.6 * 34)
    goods = dice.sample(GOODS, dice.randint(6, 12))
    page = Sheet((wide + 80, round(size * 1.5 * (len(goods) + 13))), dice, paper=(248, 247, 243))
    middle, y = 40 + wide / 2, 40.0
    for line, face in (("CORNER STORE", bold), (f"{dice.randint(1, 90)} Mill Lane", text), ("Stone Ferry", text)):
        page.say(middle, y, line, face, anchor="ma", heading=face is bold)
        y += size * 1.5
    y += size * 0.5
    prices = [money(dice, 40) for _ in goods]
    for name, price in (*zip(goods, prices, strict=True), ("TOTAL", f"{sum(map(float, prices)):.2f}")):
        face = bold if name == "TOTAL" else text
        y += size * 0.7 * (name == "TOTAL")
        page.put(40, y, name, face)
        page.put(40 + wide, y, price, face, anchor="ra")
        page.truth.append(f"{name} {price}")
        y += size * 1.5
    y += size
    page.say(40, y, f"{dice.randint(1, 28):02}/06/2024 {dice.randint(8, 20)}:{dice.randint(10, 59)}", text)
    page.say(middle, y + size * 2, "Thank you for your visit", text, anchor="ma")
    return page


def dark_list(dice: random.Random) -> Sheet:
    """A dark window: a title, names with a grey line under each."""
    page = Sheet((1000, 900), dice, paper=(28, 30, 34), ink=(235, 235, 240))
    size = dice.choice((20, 24))
    page.say(40, 30, "Recent messages", font("wide bold", size * 1.2), heading=True)
    y = 100
    for name, text in zip(dice.sample(NAMES, 5), dice.sample(ENGLISH, 5), strict=True):
        page.ink = (235, 235, 240)
        page.say(40, y, name, font("wide bold", size * 0.9))
        page.ink = (165, 170, 180)
        page.say(40, y + size * 1.4, text[:70].rsplit(" ", 1)[0], font("wide", size * 0.8))
        y += round(size * 4.5)
    return page


def terminal(dice: random.Random) -> Sheet:
    """Lines of a program's output."""
    page = Sheet((1100, 600), dice, paper=(12, 12, 12), ink=(190, 220, 190))
    text = font("mono", size := dice.choice((18, 20, 22)))
    y = 20.0
    for n in range(14):
        name = dice.choice(GOODS).split()[0].lower().strip(",")
        page.say(20, y, f"[{n:02}:{dice.randint(10, 59)}] build/{name}.o: done in {money(dice, 9)} s", text)
        y += size * 1.4
    return page


def chinese(dice: random.Random, columns: int) -> Sheet:
    """Chinese with a few words of Latin script."""
    page = Sheet((1100, 900), dice)
    size = dice.choice((26, 30))
    body = font("cjk", size, 2)
    page.say(550, 60, "港口新闻 Harbour News", font("cjk bold", size * 1.6, 2), anchor="ma", heading=True)
    gutter = size * 2
    width = (960 - gutter * (columns - 1)) / columns
    per = int(width // size)
    for column in range(columns):
        text = "".join(dice.sample(CHINESE, len(CHINESE))) + "联系电话 0571 8842。"
        lines = [text[n : n + per] for n in range(0, len(text), per)]
        y = 170.0
        for line in lines:
            page.say(70 + column * (width + gutter), y, line, body, truth=False)
            y += size * 1.6
        page.truth.append(text)
    return page


def japanese_vertical(dice: random.Random) -> Sheet:
    """Columns from right to left, a title at the right."""
    page = Sheet((1000, 900), dice)
    size = dice.choice((28, 32))
    body, bold = font("cjk serif", size), font("cjk bold", size * 1.4)
    text = "".join(dice.sample(JAPANESE, len(JAPANESE)))
    x = 880.0
    for chars, face in (("港の便り", bold), *((text[n : n + 22], body) for n in range(0, len(text), 22))):
        y = 80.0
        for char in chars:
            corner = char in "。、"
            page.put(x + face.size * (0.6 if corner else 0), y - face.size * (0.55 if corner else 0), char, face)
            y += face.size * 1.08
        page.truth.append(chars)
        x -= size * 1.9
    page.truth = ["".join(page.truth[:1]), "".join(page.truth[1:])]
    page.headings.append(page.truth[0])
    return page


def right_to_left(dice: random.Random, bank: Sequence[str], face: str, columns: int) -> Sheet:
    """Columns from right to left, lines set flush right."""
    page = Sheet((1240, 900), dice)
    size = dice.choice((34, 38))
    body = font(face, size)
    page.say(1150, 60, bank[0], font(face, size * 1.4), anchor="ra", heading=True)
    gutter = 80.0
    width = (1060 - gutter * (columns - 1)) / columns
    for column in range(columns):
        x = 1150 - width - column * (width + gutter)
        page.paragraph(x, 190, width, prose(dice, 6, bank[1:]), body, right=True, leading=1.7)
    return page


# -- what happens to pages


Effect = Callable[[Image.Image, random.Random], Image.Image]


def turned(degrees: int) -> Effect:
    return lambda image, dice: image.rotate(degrees, expand=True)


def tilted(least: float, most: float) -> Effect:
    """The page, laid askew on a scanner."""

    def effect(image: Image.Image, dice: random.Random) -> Image.Image:
        angle = dice.choice((-1, 1)) * dice.uniform(least, most)
        return image.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=image.getpixel((2, 2)))

    return effect


def shrunk(factor: float) -> Effect:
    def effect(image: Image.Image, dice: random.Random) -> Image.Image:
        size = (round(image.width * factor), round(image.height * factor))
        return image.resize(size, Image.Resampling.LANCZOS)

    return effect


def photographed(image: Image.Image, dice: random.Random) -> Image.Image:
    """The page on a table, seen from an angle, lit from one side, a little blurred."""
    w, h = image.size
    pad = w // 8
    table = Image.new("RGB", (w + 2 * pad, h + 2 * pad), (92, 74, 58))
    table.paste(image, (pad, pad))
    w, h = table.size
    move = [dice.uniform(-0.03, 0.03) * w for _ in range(8)]
    corners = [move[0], move[1], move[2], h + move[3], w + move[4], h + move[5], w + move[6], move[7]]
    table = table.transform((w, h), Image.Transform.QUAD, corners, Image.Resampling.BICUBIC, fillcolor=(92, 74, 58))
    light = Image.linear_gradient("L").rotate(dice.choice((0, 90)), expand=True).resize((w, h))
    shade = Image.merge("RGB", [light.point(lambda v: 150 + v * 100 // 255)] * 3)
    return _noisy(ImageChops.multiply(table, shade).filter(ImageFilter.GaussianBlur(0.8)), dice, 12)


def scanned(image: Image.Image, dice: random.Random) -> Image.Image:
    """Grey paper, grain, a soft edge."""
    return _noisy(image.filter(ImageFilter.GaussianBlur(0.7)).point(lambda v: 30 + v * 200 // 255), dice, 16)


def _noisy(image: Image.Image, dice: random.Random, strength: int) -> Image.Image:
    """Each pixel lighter or darker by up to `strength`."""
    grain = Image.frombytes("L", image.size, dice.randbytes(image.width * image.height))
    grain = grain.point(lambda v: 128 + (v - 128) * strength // 128)
    return ImageChops.add(image, Image.merge("RGB", [grain] * 3), offset=-128)


# -- the list


Maker = Callable[[random.Random], Sheet]


@dataclass(frozen=True)
class Kind:
    """A page to draw: its content, its damage, and its file format."""

    id: str
    category: str
    make: Maker
    effect: Effect | None = None
    suffix: str = ".png"
    mode: str = "RGB"
    language: str = "en"
    data: str = "eng"
    ordered: bool = True


KINDS: Final = (
    Kind("two_columns", "multi_column", lambda d: article(d, 2)),
    Kind("three_columns", "multi_column", lambda d: article(d, 3)),
    Kind("two_stories", "multi_column", headline_in_the_middle),
    Kind("marginalia", "multi_column", marginalia),
    Kind("sidebar", "multi_column", sidebar),
    Kind("chinese_columns", "chinese", lambda d: chinese(d, 2), language="zh", data="chi_sim"),
    Kind("chinese_page", "chinese", lambda d: chinese(d, 1), language="zh", data="chi_sim"),
    Kind("japanese_vertical", "multilingual", japanese_vertical, language="ja", data="jpn"),
    Kind("german_letter", "multilingual", lambda d: letter(d, GERMAN), language="de", data="deu"),
    Kind("french_letter", "multilingual", lambda d: letter(d, FRENCH), language="fr", data="fra"),
    Kind("letter_scan", "clean_scan", letter, scanned, ".jpg"),
    Kind("captions", "clean_scan", captions),
    Kind("bullets", "clean_scan", bullets),
    Kind("footnotes", "clean_scan", footnotes, scanned),
    Kind("form", "form", form, ordered=False),
    Kind("table_boxed", "table", lambda d: ledger(d, "all"), ordered=False),
    Kind("table_bare", "table", lambda d: ledger(d, "", gaps=True), ordered=False),
    Kind("table_rules", "table", lambda d: ledger(d, "rows", two_lines=True), ordered=False),
    Kind("table_tilted", "table", lambda d: ledger(d, "all"), tilted(1, 3), ordered=False),
    Kind("invoice_rules", "invoice", lambda d: invoice(d, "rows"), ordered=False),
    Kind("invoice_bare", "invoice", lambda d: invoice(d, ""), scanned, ".jpg", ordered=False),
    Kind("receipt", "receipt", receipt),
    Kind("receipt_photo", "receipt", receipt, photographed, ".jpg"),
    Kind("columns_on_side", "rotated", lambda d: article(d, 2), turned(90)),
    Kind("letter_on_head", "rotated", letter, turned(180)),
    Kind("receipt_on_side", "rotated", receipt, turned(270)),
    Kind("letter_tilted", "skewed", letter, tilted(2, 5)),
    Kind("columns_tilted", "skewed", lambda d: article(d, 2), tilted(2, 5)),
    Kind("letter_low", "low_res", letter, shrunk(0.45)),
    Kind("columns_low", "low_res", lambda d: article(d, 2, hyphens=False), shrunk(0.5)),
    Kind("dark_list", "screenshot", dark_list),
    Kind("terminal", "screenshot", terminal, ordered=False),
    Kind("transparent", "colour_mode", letter, mode="RGBA"),
    Kind("palette", "colour_mode", lambda d: article(d, 2), mode="P"),
    Kind("letter_photo", "photo", letter, photographed, ".jpg"),
    Kind("arabic_columns", "other_script", lambda d: right_to_left(d, ARABIC, "arabic", 2), language="ar", data="ara"),
    Kind("hebrew_page", "other_script", lambda d: right_to_left(d, HEBREW, "hebrew", 1), language="he", data="heb"),
    Kind("poster", "huge", lambda d: article(d, 3, scale=2.6)),
    Kind("inset", "multi_column", inset),
    Kind("picture_across", "multi_column", picture_across),
    Kind("table_in_column", "multi_column", table_in_column),
    Kind("side_headings", "multi_column", side_headings),
    Kind("chart", "chart", chart, scanned),
    Kind("data_sheet", "form", data_sheet),
    Kind("ticks", "form", ticks),
    Kind("ticks_scan", "form", ticks, scanned, ".jpg"),
    Kind("stacked_tables", "table", stacked_tables),
    Kind("multiline_cells", "table", multiline_cells),
    Kind("group_rows", "table", group_rows),
    Kind("group_rows_scan", "table", group_rows, tilted(0.5, 2), ".jpg"),
    Kind("narrow_columns", "table", narrow_columns),
    Kind("tall_rows", "table", tall_rows),
    Kind("tall_rows_scan", "table", tall_rows, scanned, ".jpg"),
    Kind("code", "screenshot", code),
    Kind("contents", "clean_scan", contents),
    Kind("dashes", "clean_scan", dashes),
    Kind("chinese_stops", "chinese", chinese_stops, language="zh", data="chi_sim"),
    Kind("vertical_tiers", "multilingual", vertical_tiers, language="ja", data="jpn"),
    Kind("newspaper", "multi_column", newspaper),
    Kind("table_across", "multi_column", table_across),
    Kind("tables_side_by_side", "table", tables_side_by_side),
    Kind("recipe", "multi_column", recipe),
    Kind("years", "multi_column", years, scanned, ".jpg"),
    Kind("box_in_text", "multi_column", box_in_text),
    Kind("index", "multi_column", index),
    Kind("blank_scan", "blank", lambda d: Sheet((900, 1200), d), scanned, ".jpg"),
)  # fmt: skip


def write_pages(folder: Path, seed: int = 1) -> list[dict[str, Any]]:
    """Draw every page into `folder`; returns the entries of its manifest, which is written too."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for kind in KINDS:
        dice = random.Random(f"{seed} {kind.id}")
        page = kind.make(dice)
        image = page.image if kind.effect is None else kind.effect(page.image, dice)
        name = kind.id + kind.suffix
        _save(image, folder / name, kind.mode)
        entry: dict[str, Any] = {
            "id": kind.id,
            "file": name,
            "category": kind.category,
            "lang": kind.language,
            "tess_lang": kind.data,
            "pages": 1,
            "reading_order_meaningful": kind.ordered,
            "checks": page.checks,
            "headings": page.headings,
        }
        if page.truth:
            entry["gt"] = "\n".join(page.truth)
        else:
            entry["expect"] = "empty"
        entries.append(entry)
    (folder / "manifest.json").write_text(json.dumps(entries, ensure_ascii=False, indent=1))
    return entries


def _save(image: Image.Image, path: Path, mode: str) -> None:
    if mode == "RGBA":  # ink on nothing
        ink = image.convert("L").point(lambda v: 255 - v)
        image = Image.merge("RGBA", [Image.new("L", image.size, 0)] * 3 + [ink])
    elif mode == "P":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    image.save(path, quality=82) if path.suffix == ".jpg" else image.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{len(write_pages(arguments.folder, arguments.seed))} pages in {arguments.folder}")


if __name__ == "__main__":
    main()

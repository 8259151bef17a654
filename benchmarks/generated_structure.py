"""Pages that try the layout: what a careful reader keeps together, and what apart. Drawn from words of our own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from generated_sheet import (
    CHINESE,
    ENGLISH,
    GOODS,
    HEADINGS,
    INK,
    JAPANESE,
    NAMES,
    TITLES,
    Font,
    Sheet,
    font,
    grid,
    prose,
)

__all__ = [
    "box_in_text",
    "chart",
    "chinese_stops",
    "code",
    "contents",
    "dashes",
    "data_sheet",
    "group_rows",
    "index",
    "inset",
    "multiline_cells",
    "narrow_columns",
    "newspaper",
    "picture_across",
    "recipe",
    "side_headings",
    "stacked_tables",
    "table_across",
    "table_in_column",
    "tables_side_by_side",
    "tall_rows",
    "ticks",
    "vertical_tiers",
    "years",
]

CODE: Final = (
    """\
def ferry_times(harbour, day):
    times = []
    for boat in harbour.boats:
        if boat.sails(day):
            times.append(boat.leaves)
        else:
            log(boat.name, 'stays')
    return sorted(times)

print(ferry_times(ellery, 'monday'))""",
    """\
struct tide { int hour; double metres; };

double highest(struct tide *list, int count) {
    double best = list[0].metres;
    for (int i = 1; i < count; i++) {
        if (list[i].metres > best)
            best = list[i].metres;
    }
    return best;
}""",
)
SALES: Final = ("Ropes", "Lamps", "Anchors", "Sails", "Paint", "Nets", "Charts", "Buoys")
MONTHS: Final = ("January", "February", "March", "April", "May", "June", "July", "August")
LABELS: Final = (
    "Length over all",
    "Beam",
    "Draught, laden",
    "Year of building",
    "Engine",
    "Fuel",
    "Crew",
    "Port of registry",
)


def inset(dice: random.Random) -> Sheet:
    """Two columns; a quotation in large type stands across the gutter, and the columns flow around it."""
    page = Sheet((1240, 1500), dice)
    size = dice.choice((22, 24))
    body, large = font("serif", size), font("serif italic", size * 1.6)
    page.say(90, 80, dice.choice(TITLES), font("serif bold", size * 2), heading=True)
    width, top, middle = 510.0, 190.0, 620.0
    quote = dice.choice(ENGLISH).split(" ")
    half = len(quote) // 2
    texts = [prose(dice, 12), prose(dice, 12)]
    at = dice.randint(500, 700)
    columns: list[list[str]] = []
    for column in range(2):
        x = 90 + column * (width + 40)
        page.truth.append("")
        _, rest = page.paragraph(x, top, width, texts[column], body, until=at)
        first = page.truth.pop()
        page.runs_on = False
        page.paragraph(x, at + size * 6, width, rest, body, until=1420)
        page.runs_on = False
        columns.append([first, page.truth.pop()])
        page.truth.pop()
    for n, part in enumerate((quote[:half], quote[half:])):
        page.say(middle, at + size * (1.2 + 2 * n), " ".join(part), large, anchor="ma", truth=False)
    page.truth += [" ".join(columns[0]), " ".join(columns[1])]
    page.truth.append(" ".join(quote))
    return page


def picture_across(dice: random.Random) -> Sheet:
    """Two columns, a picture over both with its caption, two columns again."""
    page = Sheet((1240, 1600), dice)
    size = dice.choice((22, 24))
    body, small = font("serif", size), font("serif italic", size * 0.85)
    width, y = 510.0, 90.0
    for part in range(2):
        ends = [page.paragraph(90 + c * 550, y, width, prose(dice, 5), body, justify=True)[0] for c in range(2)]
        y = max(ends) + size
        if part == 0:
            page.draw.rectangle((90, y, 1150, y + 260), (200, 210, 220))
            page.draw.polygon(((140, y + 250), (400, y + 60), (640, y + 250)), (150, 165, 150))
            caption = f"Figure {dice.randint(1, 9)}. {dice.choice(ENGLISH)}"
            y, _ = page.paragraph(90, y + 275, 1000, caption, small)
            y += size
    return page


def table_in_column(dice: random.Random) -> Sheet:
    """Two columns of prose; the left one holds a small table between its paragraphs."""
    page = Sheet((1240, 1500), dice)
    size = dice.choice((20, 22))
    body, bold = font("serif", size), font("serif bold", size)
    left, right = 90.0, 650.0
    y, _ = page.paragraph(left, 90, 500, prose(dice, 5), body)
    rows = [["Goods", "Sold", "Left"], *([name, str(dice.randint(2, 99)), str(dice.randint(2, 99))]
                                         for name in dice.sample(SALES, 4))]  # fmt: skip
    y = grid(
        page, left, y + size, [200, 150, 150], rows, body, lines=dice.choice(("", "rows")), right=(1, 2), bold=bold
    )
    page.paragraph(left, y + size, 500, prose(dice, 5), body)
    page.paragraph(right, 90, 500, prose(dice, 13), body)
    return page


def chart(dice: random.Random) -> Sheet:
    """Prose, a bar chart with numbers on its axis and names under its bars, prose."""
    page = Sheet((1100, 1500), dice)
    size = dice.choice((24, 26))
    body, small = font("sans", size), font("sans", size * 0.75)
    y, _ = page.paragraph(90, 80, 920, prose(dice, 4), body)
    y += size * 1.5
    top, height = y, 360
    for n in range(5):
        level = y + height - n * height / 4
        page.rule(150, level, 1000, level, 1)
        page.say(140, level, str(n * 25), small, anchor="rm", truth=False)
    names = dice.sample(SALES, 5)
    for n, name in enumerate(names):
        x = 210 + n * 160
        page.draw.rectangle((x, y + height - dice.randint(40, 340), x + 90, y + height), (90, 120, 170))
        page.say(x + 45, y + height + 10, name, small, anchor="ma", truth=False)
    page.truth.append(" ".join(["100", "75", "50", "25", "0", *names]))
    page.paragraph(90, top + height + size * 4, 920, prose(dice, 4), body)
    return page


def data_sheet(dice: random.Random) -> Sheet:
    """Labels on the left, values on the right: each pair is one row."""
    page = Sheet((1240, 900), dice)
    size = dice.choice((24, 26))
    label, value = font("sans bold", size), font("sans", size)
    page.say(90, 70, f"The ferry {dice.choice(NAMES).split()[1]}", font("sans bold", size * 1.6), heading=True)
    values = (
        f"{dice.randint(20, 60)}.{dice.randint(1, 9)} m",
        f"{dice.randint(6, 12)}.{dice.randint(1, 9)} m",
        "2.4 m",
        str(dice.randint(1930, 2010)),
        "two diesel engines of 480 kW each",
        "marine gas oil, 40,000 l",
        "a master, two mates, eleven hands",
        "Port Ellery",
    )
    y = 190.0
    for name, text in zip(LABELS, values, strict=True):
        page.put(90, y, name, label)
        page.put(520, y, text, value)
        page.truth.append(f"{name} {text}")
        page.checks.append({"type": "table", "cell": text, "left": name})
        y += size * 2.2
    return page


def side_headings(dice: random.Random) -> Sheet:
    """A heading on the left of each paragraph, in a column of its own."""
    page = Sheet((1400, 1300), dice)
    size = dice.choice((26, 30))
    body, bold = font("sans", size), font("sans bold", size)
    y = 80.0
    for name in dice.sample(HEADINGS, 4):
        page.say(80, y, name, bold, heading=True)
        y, _ = page.paragraph(520, y, 780, prose(dice, 2), body)
        y += size * 1.6
    return page


def stacked_tables(dice: random.Random) -> Sheet:
    """Tables under each other, each with a caption on the line above, and the same columns."""
    page = Sheet((1240, 1300), dice)
    size = dice.choice((22, 26))
    text, bold = font("sans", size), font("sans bold", size)
    y = 70.0
    lines = dice.choice(("", "rows"))
    for month in dice.sample(MONTHS, 3):
        page.say(102, y, f"Stock in {month}", text)
        rows = [["Item", "Store", "Count"], *([name, dice.choice(("North", "South")), str(dice.randint(10, 999))]
                                              for name in dice.sample(SALES, 3))]  # fmt: skip
        y = grid(page, 90, y + size * 2, [400, 300, 200], rows, text, lines=lines, right=(2,), bold=bold)
        y += size * 2
    return page


def multiline_cells(dice: random.Random) -> Sheet:
    """No rules; cells of two lines, figures in both; only the white between the rows tells them apart."""
    page = Sheet((1400, 900), dice)
    size = dice.choice((24, 26))
    rows = [["Period", "Description", "Rate", "Amount"]]
    for n, thing in enumerate(dice.sample(SALES, 5)):
        long = n != 3
        year = dice.randint(1990, 2025)
        rows.append(
            [
                f"1 {MONTHS[n]} {year}" + (f" to\n31 {MONTHS[n + 1]} {year}" if long else ""),
                f"{thing} delivered to the\nharbour of Port Ellery" if long else f"{thing} returned",
                f"{dice.randint(1, 9)}.{dice.randint(10, 99)} %",
                f"{dice.randint(1, 9)},{dice.randint(100, 999)}.50",
            ]
        )
    grid(page, 60, 60, [400, 520, 180, 220], rows, font("sans", size), bold=font("sans bold", size), leading=2.6)
    return page


def group_rows(dice: random.Random) -> Sheet:
    """A ruled table in which a row over the whole width names the rows below it; a cell over two rows."""
    page = Sheet((1240, 900), dice)
    size = dice.choice((22, 24))
    text, bold = font("sans", size), font("sans bold", size)
    widths, x, y, step = [260, 240, 240, 240], 90.0, 80.0, size * 2.0
    right = x + sum(widths)
    lefts = [x + sum(widths[:c]) for c in range(5)]
    head = ["Kind", "Total", "Old", "New"]

    def row(cells: Sequence[str], face: Font) -> None:
        for c, cell in enumerate(cells):
            page.put(lefts[c] + 12, y + size * 0.45, cell, face)
        page.truth.append(" ".join(cells))
        for left in (*lefts[: len(cells)], right):
            page.rule(left, y, left, y + step, 2)
        page.rule(x, y + step, right, y + step, 2)

    page.rule(x, y, right, y, 2)
    row(head, bold)
    for group in ("Small, below 2.0 metres", "Large, 2.0 metres and more"):
        y += step
        row([group], text)
        for name in dice.sample(SALES, 3):
            y += step
            cells = [name, *(str(dice.randint(10, 9999)) for _ in range(3))]
            row(cells, text)
            page.checks.append({"type": "table", "cell": cells[2], "left": cells[1], "top_heading": "Old"})
            page.checks.append({"type": "table", "cell": cells[1], "left": cells[0], "top_heading": "Total"})
    return page


def narrow_columns(dice: random.Random) -> Sheet:
    """A ruled calendar of 31 narrow columns, some of them empty."""
    page = Sheet((1700, 620), dice)
    text = font("sans", 18)
    x, y, wide, step = 60.0, 80.0, 46.0, 42.0
    names = dice.sample(NAMES, 5)
    rows = [["", *(str(n) for n in range(1, 32))]]
    rows += [
        [name.split()[0], *(dice.choice(("", "x", "o", str(dice.randint(2, 9)))) for _ in range(31))] for name in names
    ]
    for row in rows:
        at = x
        for c, cell in enumerate(row):
            width = 130 if c == 0 else wide
            if cell:
                page.put(at + width / 2, y + step / 2, cell, text, anchor="mm")
            page.rule(at, y, at, y + step, 1)
            at += width
        page.rule(at, y, at, y + step, 1)
        page.rule(x, y, at, y, 1)
        page.truth.append(" ".join(cell for cell in row if cell))
        y += step
    page.rule(x, y, at, y, 1)
    for r in range(1, 6):
        for c in range(2, 32):
            if rows[r][c].isdigit():
                page.checks.append(
                    {"type": "table", "cell": rows[r][c], "top_heading": rows[0][c], "left_heading": rows[r][0]}
                )
    return page


def tall_rows(dice: random.Random) -> Sheet:
    """A ruled table whose cells hold paragraphs, with a head over two columns."""
    page = Sheet((1240, 1200), dice)
    size = dice.choice((20, 22))
    text, bold = font("sans", size), font("sans bold", size)
    lefts = [70.0, 300.0, 680.0, 1150.0]
    y = 80.0
    page.rule(lefts[0], y, lefts[3], y, 2)
    for r in range(5):
        cells = (("Work", "What was done and who did it", "") if r == 0
                 else (dice.choice(HEADINGS), dice.choice(ENGLISH), dice.choice(ENGLISH)))  # fmt: skip
        ends = [y + size * 2]
        texts = []
        for c, cell in enumerate(cells):
            if cell:
                width = lefts[c + 1] - lefts[c] - 24 if r else 800
                end, _ = page.paragraph(lefts[c] + 12, y + 10, width, cell, bold if r == 0 else text)
                texts.append(page.truth.pop())
                ends.append(end + 10)
        page.truth += texts
        if r:
            page.checks.append({"type": "table", "cell": cells[1], "left": cells[0], "right": cells[2]})
        bottom = max(ends)
        for left in lefts if r else (lefts[0], lefts[1], lefts[3]):
            page.rule(left, y, left, bottom, 2)
        y = bottom
        page.rule(lefts[0], y, lefts[3], y, 2)
    return page


def code(dice: random.Random) -> Sheet:
    """A program on dark or light ground."""
    dark = dice.random() < 0.5
    page = Sheet((1000, 620), dice, paper=(30, 30, 30) if dark else "white", ink=(212, 212, 212) if dark else INK)
    size = dice.choice((22, 26))
    face = font("mono", size)
    y = 30.0
    for text in dice.choice(CODE).split("\n"):
        if text:
            indent = len(text) - len(text.lstrip())
            page.put(40 + face.getlength(" " * indent), y, text.lstrip(), face)
        page.truth.append(text)
        y += size * 1.7
    return page


def contents(dice: random.Random) -> Sheet:
    """Entries with dots that lead to their pages."""
    page = Sheet((1100, 900), dice)
    size = dice.choice((24, 26))
    body = font("serif", size)
    page.say(90, 70, "Contents", font("serif bold", size * 1.6), heading=True)
    y, number = 170.0, 1
    for name in (*HEADINGS, *dice.sample(TITLES, 3)):
        room = 900 - body.getlength(name) - body.getlength(str(number))
        dots = "." * int(room / body.getlength("."))
        page.put(90, y, f"{name}{dots}{number}", body)
        page.truth.append(f"{name} ... {number}")
        y += size * 1.8
        number += dice.randint(2, 30)
    return page


def dashes(dice: random.Random) -> Sheet:
    """A list whose items go on in a second line, with dashes; then paragraphs."""
    page = Sheet((1100, 1100), dice)
    size = dice.choice((24, 28))
    body = font(dice.choice(("sans", "book", "serif")), size)
    y, _ = page.paragraph(90, 80, 900, dice.choice(ENGLISH), body)
    y += size * 0.5
    for text in dice.sample(ENGLISH, 5):
        page.put(110, y, "–", body)
        y, _ = page.paragraph(110 + size * 1.3, y, 620, text, body)
        page.truth[-1] = f"- {page.truth[-1]}"
    page.paragraph(90, y + size, 900, prose(dice, 2), body)
    return page


def chinese_stops(dice: random.Random) -> Sheet:
    """A paragraph of Chinese whose stops leave white in the lines, some of it at one place."""
    page = Sheet((1100, 700), dice)
    size = dice.choice((26, 30))
    body = font("cjk", size, 2)
    text = "".join(f"（{n}）{part}" for n, part in zip("一二三四五六七八", dice.sample(CHINESE, 8), strict=True)) * 2
    for n in range(0, len(text), 31):
        page.say(70, 80 + n // 31 * size * 1.7, text[n : n + 31], body, truth=False)
    page.truth.append(text)
    return page


def vertical_tiers(dice: random.Random) -> Sheet:
    """Japanese from top to bottom in two tiers, a rule between them, a title from left to right above."""
    page = Sheet((900, 1000), dice)
    size = dice.choice((26, 28))
    body = font("cjk serif", size)
    page.say(450, 40, "港の便り　第三号", font("cjk bold", size * 1.3), anchor="ma", heading=True)
    for tier in range(2):
        text = "".join(dice.sample(JAPANESE, 5))
        x = 800.0
        for n in range(0, len(text), 13):
            y = 130.0 + 420 * tier
            for char in text[n : n + 13]:
                corner = char in "。、"
                page.put(x + size * (0.6 if corner else 0), y - size * (0.55 if corner else 0), char, body)
                y += size * 1.08
            x -= size * 1.8
        page.truth.append(text)
        if tier == 0:
            page.rule(60, 530, 840, 530)
    return page


def ticks(dice: random.Random) -> Sheet:
    """Boxes to tick on a printed form, some of them ticked."""
    page = Sheet((1000, 900), dice)
    size = dice.choice((24, 28))
    body = font("sans", size)
    page.say(80, 60, "How do you want to receive the bulletin?", body)
    y = 130.0
    for name in ("by post", "by courier", "collected in person", "by telephone", "not at all"):
        ticked = dice.random() < 0.5
        box = (80, y, 80 + size, y + size)
        page.draw.rectangle(box, outline=INK, width=2)
        if ticked:
            page.draw.line((box[0] + 4, box[1] + 4, box[2] - 4, box[3] - 4), INK, 3)
            page.draw.line((box[0] + 4, box[3] - 4, box[2] - 4, box[1] + 4), INK, 3)
        page.put(80 + size * 1.8, y - 2, name, body)
        page.truth.append(f"[{'x' if ticked else ' '}] {name}")
        y += size * 2
    page.paragraph(80, y + size, 840, dice.choice(ENGLISH), body)
    return page


def newspaper(dice: random.Random) -> Sheet:
    """Four columns: a story over two of them, two of one column each, one over all four below a rule."""
    page = Sheet((1700, 1900), dice)
    body, lefts, width = font("serif", 20), [60 + 410 * n for n in range(4)], 380.0
    page.say(850, 40, "THE ELLERY GAZETTE", font("serif bold", 72), anchor="ma", heading=True)
    page.say(60, 170, "River floods the lower meadows again", font("serif bold", 44), heading=True)
    rest = prose(dice, 18)
    for left in lefts[:2]:
        _, rest = page.paragraph(left, 240, width, rest or prose(dice, 6), body, until=960)
    page.runs_on = False
    for left, title, count in ((lefts[2], "Bridge closed", 12), (lefts[3], "In brief", 9)):
        page.say(left, 170, title, font("serif bold", 34), heading=True)
        page.paragraph(left, 230, width, prose(dice, count), body, until=960)
        page.runs_on = False
    page.rule(60, 1000, 1640, 1000)
    page.say(60, 1020, "Clock museum opens its doors to all of the county", font("serif bold", 40), heading=True)
    rest = prose(dice, 26)
    for left in lefts:
        if rest:
            _, rest = page.paragraph(left, 1100, width, rest, body, until=1500)
    page.runs_on = False
    return page


def table_across(dice: random.Random) -> Sheet:
    """Two columns, a table without rules over both of them, two columns again."""
    page = Sheet((1240, 1500), dice)
    body = font("serif", 21)
    y = 80.0
    for part in range(2):
        ends = [page.paragraph(left, y, 510, prose(dice, 7), body)[0] for left in (90, 640)]
        y = max(ends) + 30
        if part == 0:
            rows = [["Year", "Arrived", "Left", "Repaired", "Lost"]]
            for n in range(6):
                counts = [str(dice.randint(10, 99)) for _ in range(3)]
                rows.append([str(1990 + n), *counts, str(dice.randint(1, 9))])
            y = grid(page, 90, y, [260, 200, 200, 200, 200], rows, body, right=(1, 2, 3, 4)) + 30
    return page


def tables_side_by_side(dice: random.Random) -> Sheet:
    """Two tables with the same heading, each under its own title."""
    page = Sheet((1400, 600), dice)
    text, bold = font("sans", 22), font("sans bold", 26)
    for left, title in ((90, "Summer"), (760, "Winter")):
        page.say(left, 60, title, bold, heading=True)
        rows = [["Boat", "Leaves", "Returns"]]
        for boat in dice.sample(("Gull", "Heron", "Tern", "Swift", "Petrel", "Crane"), 5):
            rows.append(
                [
                    boat,
                    f"{dice.randint(6, 11)}:{dice.randint(10, 59)}",
                    f"{dice.randint(12, 20)}:{dice.randint(10, 59)}",
                ]
            )
        grid(page, left, 120, [200, 160, 160], rows, text)
    return page


def recipe(dice: random.Random) -> Sheet:
    """A list of what is needed, and beside it what is to be done, in lines of the same height."""
    page = Sheet((1200, 900), dice)
    body, bold = font("sans", 22), font("sans bold", 26)
    page.say(90, 60, "Soup for a winter day", font("sans bold", 44), heading=True)
    page.say(90, 160, "You need", bold, heading=True)
    for n, thing in enumerate(dice.sample(GOODS, 8)):
        page.say(90, 205 + n * 29.7, f"{dice.randint(1, 9)} {thing.lower()}", body)
    page.say(460, 160, "How to cook it", bold, heading=True)
    y = 205.0
    for n in range(4):
        y, _ = page.paragraph(460, y, 650, f"{n + 1}. {prose(dice, 2)}", body)
    return page


def years(dice: random.Random) -> Sheet:
    """Years on the left, what happened in them on the right, in several lines."""
    page = Sheet((1240, 1100), dice)
    body = font("serif", 24)
    page.say(90, 70, dice.choice(NAMES), font("serif bold", 44), heading=True)
    y = 180.0
    for n in range(5):
        page.say(90, y, f"{1990 + 5 * n} – {1995 + 5 * n}", body)
        y, _ = page.paragraph(330, y, 820, f"Harbour master, Port Ellery. {prose(dice, 2)}", body)
        y += 20
    return page


def box_in_text(dice: random.Random) -> Sheet:
    """One column of text that flows around a box on its right."""
    page = Sheet((1100, 1300), dice)
    body = font("serif", 24)
    rest, y = prose(dice, 22), 90.0
    for width, until in ((920.0, 500.0), (520.0, 850.0), (920.0, 1250.0)):
        y, rest = page.paragraph(90, y, width, rest, body, until=until)
    page.runs_on = False
    page.draw.rectangle((640, 520, 1010, 840), outline=INK)
    page.say(660, 540, "Did you know?", font("sans bold", 24), heading=True)
    page.paragraph(660, 580, 330, prose(dice, 2), font("sans", 20))
    return page


def index(dice: random.Random) -> Sheet:
    """Words with their pages, in two columns."""
    page = Sheet((1100, 800), dice)
    body = font("serif", 20)
    words = sorted({*GOODS, *HEADINGS, *NAMES, *TITLES}, key=str.casefold)
    entries = [f"{word}, {', '.join(str(dice.randint(1, 300)) for _ in range(dice.randint(1, 3)))}" for word in words]
    page.say(90, 50, "Index", font("serif bold", 36), heading=True)
    half = (len(entries) + 1) // 2
    for n, entry in enumerate(entries):
        page.say(90 + 520 * (n // half), 130 + 32 * (n % half), entry, body)
    return page

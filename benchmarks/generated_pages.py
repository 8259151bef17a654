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
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

__all__ = ["write_pages"]

FONTS: Final = {
    "serif": "liberation/LiberationSerif-Regular.ttf",
    "serif bold": "liberation/LiberationSerif-Bold.ttf",
    "serif italic": "liberation/LiberationSerif-Italic.ttf",
    "sans": "liberation/LiberationSans-Regular.ttf",
    "sans bold": "liberation/LiberationSans-Bold.ttf",
    "mono": "liberation/LiberationMono-Regular.ttf",
    "mono bold": "liberation/LiberationMono-Bold.ttf",
    "wide": "dejavu/DejaVuSans.ttf",
    "wide bold": "dejavu/DejaVuSans-Bold.ttf",
    "book": "linux-libertine/LinLibertine_R.otf",
    "book bold": "linux-libertine/LinLibertine_RB.otf",
    "free": "freefont/FreeSerif.ttf",
    "cjk": "noto/NotoSansCJK-Regular.ttc",
    "cjk bold": "noto/NotoSansCJK-Bold.ttc",
    "cjk serif": "noto/NotoSerifCJK-Regular.ttc",
    "arabic": "noto/NotoNaskhArabic-Regular.ttf",
    "arabic bold": "noto/NotoNaskhArabic-Bold.ttf",
    "hebrew": "noto/NotoSansHebrew-Regular.ttf",
}
FOLDERS: Final = tuple(Path("/usr/share/fonts") / kind for kind in ("truetype", "opentype"))
PACKAGES: Final = (
    "fonts-dejavu-core fonts-liberation fonts-linuxlibertine fonts-freefont-ttf fonts-noto-core fonts-noto-cjk"
)
LATIN: Final = ("serif", "sans", "book", "wide", "free")
INK: Final = (20, 20, 20)

ENGLISH: Final = """\
The harbour master keeps two ledgers, one for the boats that arrive and one for those that are expected.
Every evening the lamps along the quay are lit by hand, although electricity came to the town long ago.
Nobody remembers who planted the chestnut trees behind the chapel, but everybody has an opinion about it.
When the river froze in the winter of 1895, merchants drove their carts across it for eleven weeks.
The museum owns about four hundred clocks, of which perhaps thirty are running on any given day.
A carpenter explained that oak must dry for a year for each inch of its thickness before it is used.
Rain fell without interruption from Monday until Thursday, and the lower meadows stood under water.
The committee recommends that the bridge be repaired before traffic increases in the coming season.
Her grandmother had walked the same road with a basket of eggs and a letter for the schoolteacher.
Measurements were taken at seven stations, and the differences between them remained below two percent.
It is easier to build a wall than to explain to the neighbours why it stands where it stands.
Visitors are asked to leave umbrellas and large bags in the cloakroom next to the main entrance.
The translation follows the second edition, which the author corrected in the last year of his life.
Prices rose slowly at first, then quickly, and by the end of the decade bread cost twice as much.
An apprentice was expected to sweep the floor, sharpen the tools and never to ask the same thing twice.
The lighthouse can be seen from a distance of nineteen miles when the weather is clear.
Several witnesses described a bright object that moved from north to south without any sound.
Seeds should be sown in rows about ten inches apart and covered with no more than a thin layer of soil.
The orchestra rehearses in a former warehouse whose acoustics are better than those of the new hall.
Without a map the travellers relied on the stars, on rumours and on the patience of their mules.
Temperature and pressure were recorded automatically at intervals of fifteen minutes throughout the night.
The village has one shop, one inn and three brass bands, two of which do not speak to each other.
Glass was imported from the south until a local manufacturer discovered suitable sand near the coast.
According to the contract, the tenant pays for water and heating, the owner for everything else.
Swallows return in the second week of April and leave again before the grapes are harvested.
The librarian found the missing volume behind a radiator, dry, warm and only slightly bent.
Statistics of this kind should be read carefully, because the categories changed in the meantime.
At the crossroads turn left, follow the stream for half a mile and ask again at the mill.""".splitlines()

GERMAN: Final = """\
Die Straßenbahn fährt während der Bauarbeiten nur bis zum Marktplatz, danach verkehren Busse.
Für die Übernachtung im Gästehaus bezahlten wir außerhalb der Ferienzeit dreißig Euro pro Person.
Der Bürgermeister begrüßte die Gäste und überreichte jedem ein Glas selbstgemachter Pflaumenmarmelade.
Möglicherweise müssen die Öffnungszeiten der Bücherei im nächsten Jahr verkürzt werden.
Zwischen Äpfeln und Birnen unterscheidet die Gemeindeverwaltung bei der Gebührenordnung ausdrücklich nicht.
Schüler, Studierende und Rentner erhalten gegen Vorlage eines gültigen Ausweises eine Ermäßigung.""".splitlines()

FRENCH: Final = """\
La bibliothèque est fermée pendant les travaux ; elle rouvrira à la fin du mois de février.
« Où avez-vous trouvé cette clé ? » demanda le gardien, étonné de voir la porte déjà ouverte.
Les élèves ont préparé eux-mêmes le dîner de Noël : soupe à l’oignon, pâté et gâteau aux noix.
Le fleuve a débordé à plusieurs reprises, mais l’église du village n’a jamais été touchée.
À l’automne, les forêts des Ardennes prennent des couleurs que nul peintre n’oserait employer.""".splitlines()

CHINESE: Final = (
    "图书馆每天早上九点开门，下午五点关门。",
    "春天来了，河边的柳树长出了嫩绿的叶子。",
    "请在入口处出示身份证，并保持安静。",
    "这座桥建于一八七二年，至今仍在使用。",
    "老师说学习语言需要耐心，也需要勇气。",
    "市场里有新鲜的蔬菜、水果和海鱼。",
    "火车将于十点二十分从第三站台出发。",
    "他把信放进抽屉，再也没有打开过。",
)
JAPANESE: Final = (
    "駅前の小さな本屋は、夜九時まで開いている。",
    "雨が降りそうなので、傘を持って出かけた。",
    "祖母の庭には、赤い椿と白い梅が咲いていた。",
    "この橋を渡ると、海が見えてくるはずだ。",
    "会議は来週の水曜日に延期されました。",
    "新しい電車は静かで、とても速い。",
)
ARABIC: Final = (
    "تفتح المكتبة أبوابها كل يوم في الساعة التاسعة صباحا",
    "يمر النهر بين القرية والجبل ثم يصل إلى البحر",
    "قال المعلم إن القراءة مفتاح كل علم جديد",
    "نزل المطر طوال الليل وامتلأت الطرق بالماء",
    "وصل القطار متأخرا بسبب الثلوج في الشمال",
    "يزرع الفلاح القمح في الخريف ويحصده في الصيف",
    "كتبت الصحيفة خبرا عن افتتاح المتحف الكبير",
    "يجلس الشيخ أمام بيته ويحكي قصصا قديمة",
)
HEBREW: Final = (
    "הספרייה נפתחת בכל יום בשעה תשע בבוקר",
    "הנהר עובר בין הכפר להר ומגיע אל הים",
    "המורה אמר כי הקריאה היא מפתח לכל חכמה",
    "הגשם ירד כל הלילה והדרכים התמלאו מים",
    "הרכבת איחרה בגלל השלג בצפון הארץ",
    "האיכר זורע חיטה בסתיו וקוצר אותה בקיץ",
    "העיתון כתב על פתיחת המוזיאון הגדול",
    "הזקן יושב לפני ביתו ומספר סיפורים ישנים",
)
GOODS: Final = (
    "Oat milk", "Rye bread", "Tomatoes", "Olive oil 1 l", "Green tea", "Honey, dark", "Dish soap", "Paper towels",
    "Apples 2 kg", "Cheddar", "Coffee beans", "Red lentils", "Sea salt", "Butter", "Eggs (12)", "Orange juice",
)  # fmt: skip
TITLES: Final = ("The Clocks of Ellery", "A Winter on the River", "Notes from the Quay", "Oak and Iron", "Low Water")
HEADINGS: Final = (
    "Early years", "Materials and methods", "The new bridge", "What was found", "Weather", "Results of the survey",
    "A visit", "Further work",
)  # fmt: skip
NAMES: Final = ("Mira Hale", "Jonas Peck", "Ada Lindqvist", "Tomas Oyelaran", "Ruth Calder", "Ines Moreau")


@dataclass
class Sheet:
    """A page that is being drawn; `truth` grows in reading order."""

    size: tuple[int, int]
    dice: random.Random
    paper: Any = "white"
    ink: Any = INK
    truth: list[str] = field(default_factory=list)
    runs_on: bool = False
    """Whether the last text was cut at the foot of a column, and goes on at the head of the next."""
    checks: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", self.size, self.paper)
        self.draw = ImageDraw.Draw(self.image)

    def say(self, x: float, y: float, text: str, font: Font, *, anchor: str = "la", truth: bool = True) -> None:
        """One line of text."""
        self.draw.text((x, y), text, self.ink, font, anchor=anchor)
        if truth:
            self.truth.append(text)

    def paragraph(
        self,
        x: float,
        y: float,
        width: float,
        text: str,
        font: Font,
        *,
        leading: float = 1.35,
        hyphens: bool = False,
        justify: bool = False,
        indent: float = 0.0,
        right: bool = False,
        until: float | None = None,
    ) -> tuple[float, str]:
        """Text set in a column from `y` on. Returns where it ends, and what did not fit above `until`."""
        words, first = text.split(" "), True
        whole: list[str] = []
        step = font.size * leading
        while words and (until is None or y + step <= until):
            room = width - (indent if first else 0.0)
            line, words = _fitted(words, room, font, hyphens)
            last = not words
            at = x + (indent if first else 0.0)
            if justify and not last and len(line) > 1:
                gap = (room - sum(font.getlength(word) for word in line)) / (len(line) - 1)
                for word in line:
                    self.draw.text((at, y), word, self.ink, font)
                    at += font.getlength(word) + gap
            elif right:
                self.draw.text((x + width, y), " ".join(line), self.ink, font, anchor="ra")
            else:
                self.draw.text((at, y), " ".join(line), self.ink, font)
            whole += line[:-1]
            whole.append(line[-1] + ("\0" if line[-1].endswith("-") and hyphens and words else ""))
            y, first = y + step, False
        if whole:
            text = " ".join(whole).replace("-\0 ", "")
            if self.runs_on:
                text = f"{self.truth.pop()} {text}".replace("-\0 ", "")
            self.truth.append(text)
            self.runs_on = bool(words)
        return y, " ".join(words)

    def rule(self, x1: float, y1: float, x2: float, y2: float, width: int = 2) -> None:
        self.draw.line((x1, y1, x2, y2), self.ink, width)


Font = ImageFont.FreeTypeFont


def _fitted(words: list[str], room: float, font: Font, hyphens: bool) -> tuple[list[str], list[str]]:
    """The words of the next line, and those that are left; a long word may be broken."""
    line = [words[0]]
    for n, word in enumerate(words[1:], start=1):
        if font.getlength(" ".join([*line, word])) <= room:
            line.append(word)
            continue
        if hyphens and word.isalpha() and len(word) > 7:
            for cut in range(len(word) - 3, 2, -1):
                if font.getlength(" ".join([*line, word[:cut] + "-"])) <= room:
                    return [*line, word[:cut] + "-"], [word[cut:], *words[n + 1 :]]
        return line, words[n:]
    return line, []


def font(name: str, size: float, index: int = 0) -> Font:
    """A font of Debian's."""
    for folder in FOLDERS:
        if (path := folder / FONTS[name]).is_file():
            return ImageFont.truetype(str(path), size, index=index)
    sys.exit(f"{FONTS[name]} is missing: apt-get install {PACKAGES}")


def prose(dice: random.Random, count: int, bank: Sequence[str] = tuple(ENGLISH)) -> str:
    return " ".join(dice.sample(bank, min(count, len(bank))))


# -- kinds of pages


def article(dice: random.Random, columns: int, *, hyphens: bool = True, scale: float = 1.0) -> Sheet:
    """A title over the columns, headings in them, a page number below."""
    size = dice.choice((22, 24, 26)) * scale
    body, bold = font(face := dice.choice(("serif", "book", "free", "sans")), size), font("serif bold", size * 1.25)
    page = Sheet((round(1240 * scale), round(1700 * scale)), dice)
    left, right, top, bottom = 90 * scale, 1150 * scale, 90 * scale, 1560 * scale
    title = dice.choice(TITLES)
    page.say(620 * scale, top, title, font("serif bold", size * 2), anchor="ma")
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
                page.say(x, y, headings.pop(), bold)
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
        page.say(90, y, title, font("serif bold", size * 1.9))
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
    page.say(330, 90, dice.choice(TITLES), font("book bold", size * 1.8))
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
    page.say(90, 80, dice.choice(HEADINGS), font("sans bold", size * 1.7))
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
        page.say(90, y, heading, bold)
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
    page.say(90, 80, dice.choice(TITLES), font("sans bold", size * 1.8))
    page.draw.rectangle((830, 190, 1170, 900), (225, 228, 232))
    page.paragraph(90, 190, 690, prose(dice, 10), body)
    page.say(855, 215, dice.choice(HEADINGS), font("sans bold", size))
    page.paragraph(855, 265, 290, prose(dice, 3), small)
    return page


def form(dice: random.Random) -> Sheet:
    """Labels and values, two pairs a row, on lines."""
    page = Sheet((1240, 700), dice)
    size = dice.choice((24, 26))
    label, value = font("sans", size * 0.9), font("mono", size)
    page.say(80, 60, "Application for membership", font("sans bold", size * 1.6))
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


def grid(
    page: Sheet, x: float, y: float, widths: Sequence[float], rows: Sequence[Sequence[str]], text: Font, *,
    lines: str = "", pad: float = 12, leading: float = 1.9, right: Sequence[int] = (), bold: Font | None = None,
) -> float:  # fmt: skip
    """A table. `lines`: "" for none, "rows" for rules between them, "all" for a box around each cell."""
    step = text.size * leading
    lefts = [x + sum(widths[:c]) for c in range(len(widths) + 1)]
    top = y
    for r, row in enumerate(rows):
        high = max(cell.count("\n") + 1 for cell in row)
        for c, cell in enumerate(row):
            for n, part in enumerate(cell.split("\n")):
                at = lefts[c + 1] - pad if c in right else lefts[c] + pad
                use = bold if bold is not None and r == 0 else text
                page.draw.text((at, y + (step - text.size) / 2 + n * text.size * 1.25), part, page.ink, use,
                               anchor="ra" if c in right else "la")  # fmt: skip
        page.truth.append(" ".join(cell.replace("\n", " ") for cell in row if cell))
        y += step + (high - 1) * text.size * 1.25
        if lines:
            page.rule(x, y, lefts[-1], y, 1)
    if lines == "all":
        page.rule(x, top, lefts[-1], top, 1)
        for left in lefts:
            page.rule(left, top, left, y, 1)
    cells = [(r, c) for r in range(1, len(rows)) for c in range(1, len(widths)) if rows[r][c] and rows[r][c - 1]]
    for r, c in page.dice.sample(cells, min(5, len(cells))):
        check = {"type": "table", "cell": rows[r][c].replace("\n", " "), "left": rows[r][c - 1].replace("\n", " ")}
        if rows[0][c]:
            check["top_heading"] = rows[0][c].replace("\n", " ")
        page.checks.append(check)
    return y


def _money(dice: random.Random, most: int = 900) -> str:
    return f"{dice.randint(1, most)}.{dice.randint(0, 99):02}"


def ledger(dice: random.Random, lines: str, *, two_lines: bool = False, gaps: bool = False) -> Sheet:
    """A table of places and figures."""
    page = Sheet((1240, 900), dice)
    size = dice.choice((22, 24, 28))
    text, bold = font(dice.choice(("sans", "serif", "wide")), size), font("sans bold", size)
    page.say(90, 60, f"Traffic by station, {dice.randint(1990, 2025)}", font("sans bold", size * 1.4))
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
    page.say(90, 80, "Ellery Marine Supplies", font("sans bold", size * 1.6))
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
    page.say(90, y, "Invoice", font("sans bold", size * 1.6))
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
        page.say(middle, y, line, face, anchor="ma")
        y += size * 1.5
    y += size * 0.5
    prices = [_money(dice, 40) for _ in goods]
    for name, price in (*zip(goods, prices, strict=True), ("TOTAL", f"{sum(map(float, prices)):.2f}")):
        face = bold if name == "TOTAL" else text
        y += size * 0.7 * (name == "TOTAL")
        page.draw.text((40, y), name, INK, face)
        page.draw.text((40 + wide, y), price, INK, face, anchor="ra")
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
    page.say(40, 30, "Recent messages", font("wide bold", size * 1.2))
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
        page.say(20, y, f"[{n:02}:{dice.randint(10, 59)}] build/{name}.o: done in {_money(dice, 9)} s", text)
        y += size * 1.4
    return page


def chinese(dice: random.Random, columns: int) -> Sheet:
    """Chinese with a few words of Latin script."""
    page = Sheet((1100, 900), dice)
    size = dice.choice((26, 30))
    body = font("cjk", size, 2)
    page.say(550, 60, "港口新闻 Harbour News", font("cjk bold", size * 1.6, 2), anchor="ma")
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
            page.draw.text(
                (x + face.size * (0.6 if corner else 0), y - face.size * (0.55 if corner else 0)), char, INK, face
            )
            y += face.size * 1.08
        page.truth.append(chars)
        x -= size * 1.9
    page.truth = ["".join(page.truth[:1]), "".join(page.truth[1:])]
    return page


def right_to_left(dice: random.Random, bank: Sequence[str], face: str, columns: int) -> Sheet:
    """Columns from right to left, lines set flush right."""
    page = Sheet((1240, 900), dice)
    size = dice.choice((34, 38))
    body = font(face, size)
    page.say(1150, 60, bank[0], font(face, size * 1.4), anchor="ra")
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
    """Laid askew on a scanner."""

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
    """Seen from an angle, lit from one side, a little blurred, on a table."""
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
    """A page to draw: what is on it, what happened to it, how it is saved."""

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

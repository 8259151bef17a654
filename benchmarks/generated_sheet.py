"""What drawn pages with known texts are made with: fonts, words, a sheet that remembers what was put on it, tables."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont

__all__ = [
    "ARABIC",
    "CHINESE",
    "ENGLISH",
    "FOLDERS",
    "FRENCH",
    "GERMAN",
    "GOODS",
    "HEADINGS",
    "HEBREW",
    "INK",
    "JAPANESE",
    "LATIN",
    "NAMES",
    "PACKAGES",
    "TITLES",
    "Font",
    "Sheet",
    "font",
    "grid",
    "money",
    "prose",
]

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
    headings: list[str] = field(default_factory=list)
    """Texts that a reader would call a heading: larger or bolder than the text under them."""
    drawn: list[tuple[str, tuple[float, float, float, float], tuple[float, ...]]] = field(default_factory=list)
    """Each piece of text that was drawn: its characters, the box of its ink, the middle of each character in it."""

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", self.size, self.paper)
        self.draw = ImageDraw.Draw(self.image)

    def put(self, x: float, y: float, text: str, font: Font, *, anchor: str = "la") -> None:
        """Ink, and no truth."""
        self.draw.text((x, y), text, self.ink, font, anchor=anchor)
        left, top, right, bottom = self.draw.textbbox((x, y), text, font, anchor=anchor)
        if right > left:
            whole = max(1.0, font.getlength(text))
            ends = [font.getlength(text[:n]) / whole for n in range(len(text) + 1)]
            middles = tuple((a + b) / 2 for a, b in pairwise(ends))
            self.drawn.append((text, (left, top, right, bottom), middles))

    def say(
        self, x: float, y: float, text: str, font: Font, *, anchor: str = "la", truth: bool = True,
        heading: bool = False,
    ) -> None:  # fmt: skip
        """One line of text."""
        self.put(x, y, text, font, anchor=anchor)
        if truth:
            self.truth.append(text)
        if heading:
            self.headings.append(text)

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
                    self.put(at, y, word, font)
                    at += font.getlength(word) + gap
            elif right:
                self.put(x + width, y, " ".join(line), font, anchor="ra")
            else:
                self.put(at, y, " ".join(line), font)
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
                page.put(at, y + (step - text.size) / 2 + n * text.size * 1.25, part, use,
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


def money(dice: random.Random, most: int = 900) -> str:
    return f"{dice.randint(1, most)}.{dice.randint(0, 99):02}"

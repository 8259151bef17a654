"""Decides whether the text of a PDF page can be believed: visible, and of characters that are known."""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from .content import Area, Box, Clock, Colour, Content, Glyph
from .lines import IDEOGRAPH, is_strange

__all__ = ["SMALL_PICTURE", "TOLERATED", "Sight", "implausible", "is_inside", "middle"]


# Sight.
INVISIBLE: Final = (3, 7)  # text rendering modes of PDF: nothing is painted
WHITE: Final = (255, 255, 255)
FAINT: Final = 20  # of 255: text with less alpha is not seen
SAME_COLOUR: Final = 24  # of 255, in every channel: text that differs less from its ground is not seen
READABLE_SHARE: Final = 0.25  # of a character's width or height that is not cut off
MAX_COVERS: Final = 400  # areas that may hide text, the largest ones

# Pictures. Shares are of the page, counted on a grid.
GRID: Final = 40
MOSTLY_PICTURE: Final = 0.5  # a picture without text on it that large is most of the page
SCAN_SHARE: Final = 0.3  # the same for a picture in black and white
SMALL_PICTURE: Final = 0.1  # less holds no text that matters …
PICTURE_OVER_TEXT: Final = 2.0  # … nor does one that is less than twice as large as the text beside it
GROUND_SHARE: Final = 0.12  # of a picture is near text that is on it: it is the ground of that text
TOLERATED: Final = 10  # characters; what is behind a picture or invisible on it, when that says nothing
TOLERATED_SHARE: Final = 0.02  # the same, of all characters
SHAPES_LEAST: Final = 60  # curves that make a page of letters drawn as shapes
SHAPE_KINDS: Final = 12  # letters differ; the marks of a diagram do not

# Characters.
GARBLED_SHARE: Final = 0.02  # of the characters may be unknown: signs of a formula
GARBLED_LEAST: Final = 3
PLAIN_LETTERS: Final = 100  # fewer say nothing about their language
VOWELS: Final = (0.2, 0.7)  # share of the letters, in any language of these scripts
MOJIBAKE: Final = re.compile("[ÂÃ][\u0080-\u00bf]|â€")  # UTF-8 that was taken for Latin-1
FOREIGN_LETTERS: Final = 40
FOREIGN_SHARE: Final = 0.6  # of Latin letters have marks: no language has so many
SINGLE_SHARE: Final = 0.6  # of the words are single letters: they stand apart
LONG_WORD: Final = 35  # characters; the usual word is not that long

VOWEL_LETTERS: Final = {
    "LATIN": frozenset("aeiouyæøœıəɔɛ"),
    "CYRILLIC": frozenset("аеёиоуыэюяіїєѣѳүөұәў"),
    "GREEK": frozenset("αεηιουω"),
}


@dataclass(slots=True)
class Sight:
    """The characters of a page, by whether a person sees them."""

    content: Content
    areas: _Areas
    clock: Clock
    shown: list[Glyph] = field(default_factory=list)
    invisible: list[Glyph] = field(default_factory=list)
    behind: list[Glyph] = field(default_factory=list)
    """Under a picture."""
    lost: list[Glyph] = field(default_factory=list)
    """Painted over, as pale as their ground, or outside of the page: gone for good."""
    pictures: float = 0.0
    """Share of the page that is pictures without text on them, known after `why`."""
    layered: int = 0
    """How many of the shown ones are on layers that a person can switch off."""

    @classmethod
    def of(cls, content: Content, clock: Clock) -> Sight:
        sight = cls(content, _Areas.of(content, clock), clock)
        page = (0.0, 0.0, content.width, content.height)
        for glyph in content.glyphs:
            clock.tick()
            run = glyph.run
            if _is_cut_off(glyph.box, page) or (run.clip is not None and _is_cut_off(glyph.box, run.clip)):
                sight.lost.append(glyph)
            elif run.mode in INVISIBLE or (run.colour is not None and run.colour[3] < FAINT):
                sight.invisible.append(glyph)
            elif (cover := sight.areas.over(glyph)) is not None:
                (sight.behind if cover.picture else sight.lost).append(glyph)
            elif sight.areas.is_pale(glyph):
                sight.lost.append(glyph)
            else:
                sight.shown.append(glyph)
                sight.layered += run.layered
        return sight

    def why(self) -> str:
        """Why a reader of the page sees what this text does not say; empty if there is nothing else."""
        content = self.content
        if not content.objects:
            return ""  # nothing is drawn: the page is blank
        tolerated = max(TOLERATED, TOLERATED_SHARE * len(self.shown))
        on_pictures = sum(self.areas.is_on_picture(glyph) for glyph in self.invisible)
        if on_pictures > tolerated or (self.invisible and not self.shown):
            return "the text is invisible, as that of an earlier OCR"
        if len(self.behind) > tolerated:
            return "the text is behind a picture, as that of an earlier OCR"
        if not self.shown:
            return "its text cannot be seen" if self.lost or self.behind else "it has none"
        if self.layered:
            return "some of its text is on a layer that can be switched off"
        text, bare, scanned = _shares(content, self.shown, self.clock)
        self.pictures = bare
        if scanned > SCAN_SHARE:
            return "most of the page is a scan"
        if bare > MOSTLY_PICTURE or (bare > SMALL_PICTURE and bare > PICTURE_OVER_TEXT * text):
            return "most of the page is a picture without text"
        if content.shapes > max(SHAPES_LEAST, len(self.shown)) and content.shape_kinds > SHAPE_KINDS:
            return "its letters are drawn as shapes"
        return _garbled(self.shown)


@dataclass(slots=True)
class _Areas:
    """Pictures and coloured areas, in the order in which they are drawn."""

    every: list[Area]
    orders: list[int]
    solid: list[Area]
    """Those that hide what was drawn before."""
    solid_orders: list[int]
    clock: Clock
    alike: dict[Colour, bool] = field(default_factory=dict)
    """Whether anything on the page, or the page itself, has this colour."""

    @classmethod
    def of(cls, content: Content, clock: Clock) -> _Areas:
        every = sorted((*content.pictures, *content.grounds), key=lambda area: area.order)
        solid = sorted((area for area in every if area.opaque and area.exact), key=_size_of)[-MAX_COVERS:]
        solid.sort(key=lambda area: area.order)
        return cls(every, [area.order for area in every], solid, [area.order for area in solid], clock)

    def over(self, glyph: Glyph) -> Area | None:
        """What hides a glyph."""
        if glyph.run.order < 0:
            return None
        x, y = middle(glyph)
        for n in range(bisect_right(self.solid_orders, glyph.run.order), len(self.solid)):
            self.clock.tick()
            if is_inside(self.solid[n].box, x, y):
                return self.solid[n]
        return None

    def is_pale(self, glyph: Glyph) -> bool:
        """Whether a glyph has the colour of its ground. A ground of unknown colour is another one."""
        if glyph.run.colour is None:
            return False
        colour = glyph.run.colour[:3]
        if colour not in self.alike:
            self.alike[colour] = _alike(colour, WHITE) or any(
                area.colour is not None and _alike(area.colour, colour) for area in self.every
            )
        if not self.alike[colour]:
            return False
        x, y = middle(glyph)
        for n in range(bisect_left(self.orders, glyph.run.order) - 1, -1, -1):
            self.clock.tick()
            ground = self.every[n]
            if is_inside(ground.box, x, y):
                return ground.exact and ground.opaque and ground.colour is not None and _alike(ground.colour, colour)
        return _alike(colour, WHITE)

    def is_on_picture(self, glyph: Glyph) -> bool:
        x, y = middle(glyph)
        for area in self.every:
            self.clock.tick()
            if area.picture and is_inside(area.box, x, y):
                return True
        return False


def middle(glyph: Glyph) -> tuple[float, float]:
    x1, y1, x2, y2 = glyph.box
    return (x1 + x2) / 2, (y1 + y2) / 2


def is_inside(box: Box, x: float, y: float) -> bool:
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _is_cut_off(box: Box, clip: Box) -> bool:
    """Whether so little of a glyph is inside that it cannot be read."""
    wide, high = min(box[2], clip[2]) - max(box[0], clip[0]), min(box[3], clip[3]) - max(box[1], clip[1])
    return wide < READABLE_SHARE * (box[2] - box[0]) or high < READABLE_SHARE * (box[3] - box[1])


def _size_of(area: Area) -> float:
    return (area.box[2] - area.box[0]) * (area.box[3] - area.box[1])


def _alike(one: Colour, other: Colour) -> bool:
    return all(abs(a - b) <= SAME_COLOUR for a, b in zip(one, other, strict=True))


def _shares(content: Content, shown: Sequence[Glyph], clock: Clock) -> tuple[float, float, float]:
    """Shares of the page: near text, pictures without text, and those in black and white."""
    width, height = content.width / GRID, content.height / GRID

    def cells(box: Box, around: float = 0.0) -> Iterator[int]:
        """The cells whose middles are in the box."""
        x1, x2 = (box[0] - around) / width - 0.5, (box[2] + around) / width - 0.5
        y1, y2 = (box[1] - around) / height - 0.5, (box[3] + around) / height - 0.5
        for row in range(max(0, math.ceil(y1)), min(GRID, math.floor(y2) + 1)):
            clock.tick()
            for column in range(max(0, math.ceil(x1)), min(GRID, math.floor(x2) + 1)):
                yield row * GRID + column

    texts: set[int] = set()
    for glyph in shown:
        texts.update(cells(glyph.box, glyph.run.size))
    pictures: set[int] = set()
    scans: set[int] = set()
    for area in content.pictures:
        found = set(cells(area.box))
        if len(found & texts) >= GROUND_SHARE * len(found):
            continue  # a ground that text was set on; a stamp on a scan is smaller
        pictures |= found
        if area.bilevel:
            scans |= found
    every = GRID * GRID
    return len(texts) / every, len(pictures - texts) / every, len(scans - texts) / every


def _garbled(shown: Sequence[Glyph]) -> str:
    """Why the characters are not those that are seen; empty if they are."""
    unknown = sum(not glyph.known for glyph in shown)
    strange = sum(is_strange(glyph.text) for glyph in shown if glyph.known)
    least = max(GARBLED_LEAST, GARBLED_SHARE * len(shown))
    if unknown + strange > least:
        return f"the characters are garbled, {'no Unicode map' if unknown >= strange else 'not of any language'}"
    return ""


def implausible(text: str) -> str:
    """Why the text is no language's; empty where that cannot be told."""
    if len(MOJIBAKE.findall(text)) >= GARBLED_LEAST:
        return "the characters are garbled, of another encoding"
    words = {word for word in re.findall(r"[^\W\d_]+", text) if len(word) > 2}  # each once: an index repeats itself
    letters = Counter("".join(words))
    by_script: dict[str, Counter[str]] = {}
    for char, count in letters.items():
        script = unicodedata.name(char, "").split(" ", 1)[0]
        if script in VOWEL_LETTERS:
            by_script.setdefault(script, Counter())[char] += count
    for script, counted in by_script.items():
        total = counted.total()
        marked = sum(count for char, count in counted.items() if char > "\u007f")
        if script == "LATIN" and total >= FOREIGN_LETTERS and marked > FOREIGN_SHARE * total:
            return "the characters are garbled, of another encoding"
        if total < max(PLAIN_LETTERS, letters.total() / 2):
            continue
        bases = ((unicodedata.normalize("NFD", char.casefold())[:1], count) for char, count in counted.items())
        vowels = sum(count for base, count in bases if base in VOWEL_LETTERS[script])
        if not VOWELS[0] <= vowels / total <= VOWELS[1]:
            return "the characters are garbled, not of any language"
    tokens = [word for word in text.split() if word[0].isalpha() and not IDEOGRAPH.match(word)]
    plain = [word for word in tokens if unicodedata.name(word[0], "").split(" ", 1)[0] in VOWEL_LETTERS]
    if len(plain) >= PLAIN_LETTERS / 3:
        if sum(len(word) == 1 for word in plain) > SINGLE_SHARE * len(plain):
            return "its words fall apart into letters"
        if median(len(word) for word in plain) > LONG_WORD:
            return "its words are not apart"
    return ""

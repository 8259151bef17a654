"""Tells which of a page's characters can be believed, and whether the page shows text that they do not say.

Three kinds of characters are in doubt: those that the file does not know, those of a font whose characters are not
those of a language, and those that stand for more letters than their ink has room for. Their lines are read from the
page and compared.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from .content import Box, Clock, Content, Glyph, Picture
from .lines import IDEOGRAPH, is_strange
from .visibility import Sight

__all__ = ["Verdict", "implausible", "judged", "odd_within_words"]

# Pictures. Shares are of the page, counted on a grid.
GRID: Final = 40
MOSTLY_PICTURE: Final = 0.5  # a picture without text on it that large is most of the page
SCAN_SHARE: Final = 0.3  # the same for a picture in black and white
SMALL_PICTURE: Final = 0.1  # less holds no text that matters …
PICTURE_OVER_TEXT: Final = 2.0  # … nor does one that is less than twice as large as the text beside it
GROUND_SHARE: Final = 0.12  # of a picture is near text that is on it: it is the ground of that text
TOLERATED: Final = 10  # characters; what is hidden on a picture, when that says nothing
TOLERATED_SHARE: Final = 0.02  # the same, of all characters

# Characters.
GARBLED_SHARE: Final = 0.2  # of a page's characters are unknown: its text says too little to be compared
PLAIN_LETTERS: Final = 100  # fewer say nothing about their language
VOWELS: Final = (0.2, 0.7)  # share of the letters, in any language of these scripts
MOJIBAKE: Final = re.compile("[ÂÃ][\u0080-\u00bf]|â€")  # UTF-8 that was taken for Latin-1
MOJIBAKE_LEAST: Final = 3
FOREIGN_LETTERS: Final = 40
FOREIGN_SHARE: Final = 0.6  # of Latin letters have marks: no language has so many
SINGLE_SHARE: Final = 0.6  # of the words are single letters: they stand apart
LONG_WORD: Final = 35  # characters; the usual word is not that long
FONT_LETTERS: Final = 12  # shown glyphs of a font, or it says nothing
FONT_LETTER_SHARE: Final = 0.5  # of a font's characters are letters, figures or common signs, in any language
CROWDED: Final = 4  # letters of one glyph; the ligatures of Latin have three
CROWDED_EM: Final = 0.15  # width that a letter needs at least

ODD_WITHIN: Final = frozenset("‰¶§¤¢£¥„‚ˆ˜¨´¸¿¡¬±‡†Œ÷×¦¯")
"""Signs that stand in no word, between two small letters."""
VOWEL_LETTERS: Final = {
    "LATIN": frozenset("aeiouyæøœıəɔɛ"),
    "CYRILLIC": frozenset("аеёиоуыэюяіїєѣѳүөұәў"),
    "GREEK": frozenset("αεηιουω"),
}
COMMON: Final = frozenset(".,;:!?'\"()-‐‑–—/%&’‘“”„«»•…_+=€$£°*#@©®™[]|<>·")


@dataclass(slots=True)
class Verdict:
    """What is to be thought of a page's text."""

    why: str = ""
    """Why the page has to be read, whole or in part; empty where its text says all."""
    is_hopeless: bool = False
    """Nothing of the text is worth keeping: the page is to be read whole."""
    pictures: float = 0.0
    """Share of the page that is pictures without text on them."""
    doubtful: set[int] = field(default_factory=set)
    """The `id` of each glyph whose character is in doubt."""
    drawn: Box | None = None
    """Where text is drawn, in points."""
    is_everywhere: bool = True
    """What is to be read may be anywhere, not just where text is drawn and where characters are in doubt."""

    def hopeless(self, why: str) -> Verdict:
        self.why, self.is_hopeless = why, True
        return self


def judged(content: Content, sight: Sight, drawn: Box | None, clock: Clock) -> Verdict:
    """Judge the measured glyphs of a page.

    Args:
        drawn: where the page without its text shows what looks like text, in points; None: nowhere.
    """
    verdict = Verdict()
    if not sight.shown:
        if not content.objects and not bool((sight.with_text != 255).any()):
            return verdict  # blank
        if _on_pictures(sight.hidden, content.pictures, clock) > TOLERATED:
            return verdict.hopeless("the text is invisible, as that of an earlier OCR")
        return verdict.hopeless("its text cannot be seen" if sight.hidden else "it has none")
    verdict.doubtful = _doubtful(sight.shown)
    unknown = sum(not glyph.known or is_strange(glyph.text) for glyph in sight.shown)
    if unknown > GARBLED_SHARE * len(sight.shown):
        maps = sum(not glyph.known for glyph in sight.shown)
        reason = "no Unicode map" if 2 * maps >= unknown else "not of any language"
        return verdict.hopeless(f"the characters are garbled, {reason}")
    text, bare, scanned = _shares(content, sight.shown, clock)
    verdict.pictures = bare
    tolerated = max(TOLERATED, TOLERATED_SHARE * len(sight.shown))
    if _on_pictures(sight.hidden, content.pictures, clock) > tolerated:
        verdict.why = "pictures on it hold text of an earlier OCR"
    elif scanned > SCAN_SHARE:
        verdict.why = "most of the page is a scan"
    elif bare > MOSTLY_PICTURE or (bare > SMALL_PICTURE and bare > PICTURE_OVER_TEXT * text):
        verdict.why = "most of the page is a picture without text"
    elif drawn is not None:
        verdict.why, verdict.drawn = "some of its text is drawn, not written", drawn
        verdict.is_everywhere = False
    elif verdict.doubtful:
        verdict.why = "some of its characters have no certain Unicode"
        verdict.is_everywhere = False
    return verdict


def _on_pictures(glyphs: Iterable[Glyph], pictures: Sequence[Picture], clock: Clock) -> int:
    count = 0
    for glyph in glyphs:
        x, y = (glyph.box[0] + glyph.box[2]) / 2, (glyph.box[1] + glyph.box[3]) / 2
        for picture in pictures:
            clock.tick()
            left, top, right, bottom = picture.box
            if left <= x <= right and top <= y <= bottom:
                count += 1
                break
    return count


def _shares(content: Content, shown: Sequence[Glyph], clock: Clock) -> tuple[float, float, float]:
    """Shares of the page: near text, pictures without text, and those in black and white."""
    texts: set[int] = set()
    for glyph in shown if content.pictures else ():
        clock.tick()
        texts.update(_cells(content, glyph.box, glyph.run.size))
    pictures: set[int] = set()
    scans: set[int] = set()
    for picture in content.pictures:
        clock.tick()
        found = set(_cells(content, picture.box, 0.0))
        if len(found & texts) >= GROUND_SHARE * len(found):
            continue  # a ground that text was set on; a stamp on a scan is smaller
        pictures |= found
        if picture.bilevel:
            scans |= found
    every = GRID * GRID
    return len(texts) / every, len(pictures - texts) / every, len(scans - texts) / every


def _cells(content: Content, box: Box, around: float) -> Iterable[int]:
    """The cells of the grid whose middles are in the box."""
    width, height = max(content.width, 1e-6) / GRID, max(content.height, 1e-6) / GRID
    left, right = int((box[0] - around) / width + 0.5), int((box[2] + around) / width + 0.5)
    top, bottom = int((box[1] - around) / height + 0.5), int((box[3] + around) / height + 0.5)
    columns = range(max(0, left), min(GRID, right))
    return (row * GRID + column for row in range(max(0, top), min(GRID, bottom)) for column in columns)


# ---------------------------------------------------------------- fonts


def _doubtful(shown: Sequence[Glyph]) -> set[int]:
    """The `id` of each glyph that the file does not know, or whose font is suspicious."""
    fonts: dict[int, list[Glyph]] = defaultdict(list)
    doubtful: set[int] = set()
    for glyph in shown:
        fonts[glyph.run.font].append(glyph)
        if not glyph.known or is_strange(glyph.text) or _is_crowded(glyph) or glyph.run.is_replaced:
            doubtful.add(id(glyph))
    for glyphs in fonts.values():
        if len(glyphs) >= FONT_LETTERS and not glyphs[0].run.dingbat and _is_suspicious(glyphs):
            doubtful.update(map(id, glyphs))
    return doubtful


def odd_within_words(shown: Sequence[Glyph]) -> list[Glyph]:
    """The characters that stand within a word and that no word has."""
    return [
        glyph
        for before, glyph, after in zip(shown, shown[1:], shown[2:], strict=False)
        if glyph.text > "\u007f" and _is_odd_within(before, glyph, after)
    ]


def _is_odd_within(before: Glyph, glyph: Glyph, after: Glyph) -> bool:
    """Whether a character stands within a word and no word has it: wrong codes give Allg‰u, DurÈe.

    Units of other alphabets have capitals within: кПа, кВт.
    """
    is_capital = glyph.text.isupper() and glyph.text.isalpha()
    if not (is_capital or glyph.text in ODD_WITHIN) or glyph.space or glyph.fresh or after.space or after.fresh:
        return False
    is_in_word = before.text[-1:].islower() or (glyph.text in ODD_WITHIN and before.text.isalpha())
    if not is_in_word or not after.text[:1].islower() or before.run.font != after.run.font:
        return False
    script = _script(glyph.text[0])
    return not is_capital or script == "LATIN" or script != _script(before.text[-1])


def _is_crowded(glyph: Glyph) -> bool:
    """Whether a glyph stands for more letters than its ink has room for, as `/ActualText` may claim."""
    letters = len(glyph.text)
    wide = max(glyph.box[2] - glyph.box[0], glyph.box[3] - glyph.box[1])
    return letters >= CROWDED and wide < CROWDED_EM * letters * glyph.run.size


def _is_suspicious(glyphs: Sequence[Glyph]) -> bool:
    """Whether a font's characters are hardly letters, or letters of no language."""
    plain = sum(
        unicodedata.category(char)[0] in "LN" or char in COMMON or unicodedata.combining(char) > 0
        for glyph in glyphs
        for char in glyph.text[:1]
    )
    if plain < FONT_LETTER_SHARE * len(glyphs):
        return True
    if len(glyphs) < PLAIN_LETTERS:
        return False
    text = "".join(f" {glyph.text}" if glyph.space or glyph.fresh else glyph.text for glyph in glyphs)
    return bool(_unlike_any_script(_letters(text)))


# ---------------------------------------------------------------- languages


def implausible(text: str) -> str:
    """Why the text is no language's; empty where that cannot be told."""
    if len(MOJIBAKE.findall(text)) >= MOJIBAKE_LEAST:
        return "the characters are garbled, of another encoding"
    return _unlike_any_script(_letters(text)) or _unlike_words(text)


def _letters(text: str) -> Counter[str]:
    """The letters of its words, each word once: an index repeats itself."""
    return Counter("".join({word for word in re.findall(r"[^\W\d_]+", text) if len(word) > 2}))


def _unlike_any_script(letters: Mapping[str, int]) -> str:
    by_script: dict[str, Counter[str]] = {}
    for char, count in letters.items():
        if (script := _script(char)) in VOWEL_LETTERS:
            by_script.setdefault(script, Counter())[char] += count
    every = sum(letters.values())
    for script, counted in by_script.items():
        total = counted.total()
        marked = sum(count for char, count in counted.items() if char > "\u007f")
        if script == "LATIN" and total >= FOREIGN_LETTERS and marked > FOREIGN_SHARE * total:
            return "the characters are garbled, of another encoding"
        if total < max(PLAIN_LETTERS, every / 2):
            continue
        if not VOWELS[0] <= _vowels(script, counted) / total <= VOWELS[1]:
            return "the characters are garbled, not of any language"
    return ""


def _vowels(script: str, counted: Mapping[str, int]) -> int:
    bases = ((unicodedata.normalize("NFD", char.casefold())[:1], count) for char, count in counted.items())
    return sum(count for base, count in bases if base in VOWEL_LETTERS[script])


def _unlike_words(text: str) -> str:
    tokens = [word for word in text.split() if word[0].isalpha() and not IDEOGRAPH.match(word)]
    plain = [word for word in tokens if _script(word[0]) in VOWEL_LETTERS]
    if len(plain) < PLAIN_LETTERS / 3:
        return ""
    if sum(len(word) == 1 for word in plain) > SINGLE_SHARE * len(plain):
        return "its words fall apart into letters"
    if median(len(word) for word in plain) > LONG_WORD:
        return "its words are not apart"
    return ""


def _script(char: str) -> str:
    return unicodedata.name(char, "").split(" ", 1)[0]

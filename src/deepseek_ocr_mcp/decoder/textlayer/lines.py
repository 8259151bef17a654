"""Characters with places become lines of text: gaps become spaces, accents find their letters.

Every mark given is in exactly one line. Lines that run from right to left or from top to bottom come out in the order
in which a person reads them, in whatever order the file has them. Lengths are in points, or in shares of the size of
the text (`em`).
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt

from ...layout.lines import TextLine
from .content import UNSEEN, Box, Clock, Content, Glyph

__all__ = [
    "ASCENT",
    "DESCENT",
    "IDEOGRAPH",
    "LIST_SIGNS",
    "TICKED",
    "UNTICKED",
    "LayerLine",
    "Mark",
    "direction",
    "is_strange",
    "is_wide_sign",
    "lines_of",
    "marks_of",
    "turned",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ASCENT: Final = 0.8  # of the size of a line that is above its baseline
DESCENT: Final = 0.2
LEVEL_EM: Final = 0.15  # how far baselines of one line may differ
BACK_EM: Final = 0.5  # how far a character may reach back over the one before
JOIN_EM: Final = 0.9  # gap that pieces of one line may have
JUSTIFIED_EM: Final = 2.5  # the same within a justified line that ends with a hyphen
JUSTIFIED_EDGE_EM: Final = 0.4  # how far the edges of such lines lie apart
STEP_EM: Final = (0.8, 1.8)  # from line to line of a paragraph
HYPHENS: Final = frozenset("-\u2010\u00ad")
MARKED_EM: Final = 1.35  # the same behind a list mark
SPACED_EM: Final = 2.5  # the same where the text itself has a space
GAP_EM: Final = 0.16  # gap between pieces that is a space
SPACE_EM: Final = 0.11
"""White beyond the width of a character that is a space. Measured on 260 public pages, against `pdftotext`: of 356,000
pairs within a word 1 in 2,000 has more; of 23,000 pairs of two words without a written space 1 in 60 has less."""
RTL_GAP_EM: Final = 0.24  # the same in Arabic, whose letters have gaps of their own
HEBREW_GAP_EM: Final = 0.29
FIGURE_STEP_EM: Final = 0.85  # from figure to figure, where there is no space: the Arabic-Indic zero is a dot
NO_SPACE_EM: Final = 0.03
FOREIGN_SHARE: Final = 0.8  # of a line's letters run against the page: then the line does
STOPS: Final = frozenset(".!?:")  # at the end of a line, whichever way it runs
STOP_LEAST: Final = 12  # marks of a line with such an end
SCRIPT_SIZE: Final = 0.9  # of the line: what is smaller may be raised or lowered
SCRIPT_SHARE: Final = 0.3  # of its height stands beside the line
SCRIPT_CHARS: Final = 8
SCRIPT_GAP_EM: Final = 0.5
SCRIPT_SPACE_EM: Final = 0.35  # of its size: white beyond the width of the character before it that is a space
SCRIPT_SHIFT: Final = 0.12  # of the size of its line: what is raised or lowered less is only small type
FIGURES: Final = frozenset("0123456789")
LEADER: Final = re.compile(r"(?:[.·․] ?){6,}|…{3,}")  # dots that lead from an entry to its page
LEADER_LEAST: Final = 4  # dots of such a row that stand alone …
LEADER_STEP_EM: Final = 2.0  # … and how far apart
RAISED: Final = str.maketrans("0123456789+-−=()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾")
RAISED_LETTERS: Final = dict(zip("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ", strict=True))
BRACES: Final = frozenset("{}|⎧⎨⎩⎫⎬⎭")  # as high as several lines, which are no scripts of it
SCRIPTS: Final = frozenset("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎")
LOWERED: Final = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
LOWERED_LETTERS: Final = dict(zip("aehijklmnoprstuvx", "ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
BRACKETS: Final = frozenset("()=")  # in a raised line with letters: it is a formula or a note
ALL_RAISED: Final = RAISED | str.maketrans(RAISED_LETTERS)
ALL_LOWERED: Final = LOWERED | str.maketrans(LOWERED_LETTERS)
SHIFTED_SHARE: Final = 0.6  # of the height of what is as large as its line, and only shifted
RAISED_SHARE: Final = 0.35  # the same of what is as large, and raised or lowered by half of its height …
RAISED_GAP_EM: Final = 0.3  # … if it stands so near
RAISED_EM: Final = 0.25  # of its line: how far it is raised or lowered …
SMALL_SIZE: Final = 0.8  # … unless it is so small
RAISED_CHARS: Final = 4  # of what is as large; more are the upper side of a fraction
OVER_SHARE: Final = 0.5  # of a letter of its line that a script lies over …
MOST_OVER: Final = 2  # … of no more than so many, or it is a line of its own
FIRST_COMBINING: Final = "\u0300"  # the first of the marks that have no place of their own
COMBINED_EM: Final = 0.8  # how far a mark may stand from the middle of its letter
MAX_ASTRAY: Final = 200  # accents of a page that stand far from their neighbours in the file
ACCENT_EM: Final = 0.3  # the same for an accent that has a width of its own
TRACKED_SPACE_EM: Final = 0.4  # a space, beside the white of letters that stand apart; its columns are farther apart
STRETCHED_LEAST: Final = 5  # characters of a line whose letters stand apart
STRETCHED_SHARE: Final = 0.6  # of its gaps look like spaces
EVEN_EM: Final = 0.03  # how far the white behind the letters of a tracked line differs
EVEN_TIGHT_EM: Final = 0.22  # the same in a line of figures: less than any font's space; else they stand apart
EVEN_FIGURES: Final = 3  # pairs of such a line
EVEN_MOST_EM: Final = 0.5  # how wide it is at most: columns are farther apart
KERNED_SHARE: Final = 0.2  # of its pairs stand nearer to each other
EVEN_SPACES: Final = 2  # spaces of such a line
EVEN_LETTERS: Final = 2  # pairs of letters in its words
APART: Final = 1.6  # times the usual gap of such a line: a space
STACK_EM: Final = (0.7, 1.3)  # step from character to character of vertical text
STACK_LEAST: Final = 3
STACKS_OPEN: Final = 4  # notes stand between the characters of a vertical line
BESIDE_EM: Final = 3.0  # from one vertical line to the next
SIZE_MEANS: Final = (0.5, 8.0)  # a size is nonsense if it is less or more times the height of its letters
LETTER_EM: Final = 1.2  # size over the height of the tallest letters
RAISED_FIGURE_EM: Final = (0.2, 0.55)
"""A figure whose ink begins so high above its baseline, and is no higher than that, is drawn raised by its font.

Typst and others take such figures of a font for a superscript: they have the size and the baseline of their line, and
are named like any figure. Measured on 78 fonts: 780 figures begin at 0.0 or below, 643 superscripts at 0.25 to 0.42,
0.32 to 0.48 high. Too high, 24.91² becomes 24.912.
"""

ADOBE: Final = {
    **dict(enumerate("⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪⎮⎞⎟⎠⎤⎥⎦⎫⎬⎭", 0xF8EB)),
    **{code: chr(code - 0xF700) for code in (*range(0xF730, 0xF73A), *range(0xF761, 0xF77B))},
}
"""Characters that Adobe's glyph list has in the private area: pieces of brackets, old figures, small capitals."""
BULLETS: Final = frozenset("\uf0b7\uf0a7\uf0d8\uf0fc\uf076\uf06c\uf06e\uf0a8\uf02d\uf071\uf0e0\uf0be")
"""List marks of the fonts Symbol and Wingdings, whose characters have no Unicode."""
TICKED: Final = "[x]"
UNTICKED: Final = "[ ]"
TICKED_SIGNS: Final = frozenset("☑☒🗹🗵\uf0fe\uf0fd\uf078")
UNTICKED_SIGNS: Final = frozenset("☐🗆")
"""Check boxes, in Unicode and in the codes of Wingdings."""
LIST_SIGNS: Final = frozenset("•●▪◦‣∙○■➢❖")
LETTER_O_EM: Final = (0.4, 3.0)
"""From the letter o that stands for a list mark, as office programs set it in Courier, to its text in another font."""
SQUARES: Final = frozenset("□❏❐❑❒◻\uf06f\uf0a8\uf071\uf072")
"""Signs that are list marks, or check boxes where a page has ticked ones, too."""
BOX_SIGNS: Final = TICKED_SIGNS | UNTICKED_SIGNS | SQUARES
LIGATURES: Final = re.compile("[\ufb00-\ufb4f\ufb50-\ufdff\ufe70-\ufefc]")
IDEOGRAPH: Final = re.compile("[\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
"""What is written without spaces, and from top to bottom too."""
ACCENTS: Final = {
    "´": "\u0301", "`": "\u0300", "ˆ": "\u0302", "¨": "\u0308", "˜": "\u0303", "ˇ": "\u030c", "˘": "\u0306",
    "˙": "\u0307", "˚": "\u030a", "¸": "\u0327", "˝": "\u030b", "¯": "\u0304", "˛": "\u0328",
}  # fmt: skip
BRACKET_SIGNS: Final = frozenset("()[]{}")
OPENING: Final = {")": "(", "]": "[", "}": "{", "»": "«", "›": "‹"}


@dataclass(slots=True)
class Mark:
    """A glyph in the frame in which its text runs to the right."""

    glyph: Glyph
    text: str
    left: float
    right: float
    base: float
    size: float
    number: int
    """Its place in the file."""
    x: float = 0.0
    """Where the glyph begins, with the white space before its ink."""
    is_script: bool = False
    """It is raised or lowered, and says nothing of where its line stands."""

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


@dataclass(slots=True)
class LayerLine:
    """Marks that are read one after the other, and the text that they make."""

    marks: list[Mark]
    vertical: bool = False
    text: str = ""
    at: list[int] = field(default_factory=list)
    """For each character of the text, the mark that it is from; -1 for a space."""
    left: float = 0.0
    right: float = 0.0
    base: float = 0.0
    size: float = 0.0
    placed: Box | None = None
    """Where it stands in its frame, if it runs in another direction than its frame."""

    def __post_init__(self) -> None:
        self.left = min(mark.left for mark in self.marks)
        self.right = max(mark.right for mark in self.marks)
        own = [mark for mark in self.marks if not mark.is_script] or self.marks
        sizes = [mark.size for mark in own]
        if len(set(sizes)) > 1:
            sizes = [round(size, 1) for size in sizes]
            counts = Counter(sizes)
            usual = max(counts, key=lambda size: (counts[size], size))
            bases = [mark.base for mark, size in zip(own, sizes, strict=True) if size == usual]
        else:  # as in nearly every line
            usual = round(sizes[0], 1)
            bases = [mark.base for mark in own]
        self.size = max(usual, 0.1)
        self.base = median(bases) if len(set(bases)) > 1 else bases[0]  # not that of its scripts
        if self.placed is not None:
            self.left, _, self.right, self.base = self.placed

    @property
    def glyphs(self) -> list[Glyph]:
        return [mark.glyph for mark in self.marks]

    @property
    def bold(self) -> bool:
        return all(mark.glyph.run.bold for mark in self.marks if mark.text.isalnum())

    @property
    def box(self) -> Box:
        """In its frame: as high as its size, whatever its letters are."""
        if self.placed is not None:
            return self.placed
        if self.vertical:
            middle = median(mark.middle for mark in self.marks)
            tops = [mark.base - ASCENT * mark.size for mark in self.marks]
            return middle - self.size / 2, min(tops), middle + self.size / 2, max(tops) + self.size
        return self.left, self.base - ASCENT * self.size, self.right, self.base + DESCENT * self.size

    def glyphs_of(self, start: int, stop: int) -> list[Glyph]:
        """The glyphs of these characters of the text."""
        return [self.marks[n].glyph for n in sorted({n for n in self.at[start:stop] if n >= 0})]

    def part(self, start: int, stop: int) -> LayerLine | None:
        """The line that these characters make, without the spaces around them."""
        while start < stop and self.at[start] < 0:
            start += 1
        while start < stop and self.at[stop - 1] < 0:
            stop -= 1
        if (start, stop) == (0, len(self.text)):
            return self
        used = sorted({n for n in self.at[start:stop] if n >= 0})
        if not used:
            return None
        number = {n: k for k, n in enumerate(used)}
        at = [number.get(n, -1) for n in self.at[start:stop]]
        return LayerLine([self.marks[n] for n in used], self.vertical, self.text[start:stop], at)

    def framed(self) -> TextLine:
        """As the reading order takes it."""
        left, top, right, bottom = self.box
        if self.placed is not None:
            return TextLine(self.text, self.placed, bold=self.bold)
        if self.vertical:
            return TextLine(self.text, (left, top, right, bottom), vertical=True)
        width = max(right - left, 0.1)
        middles = [(mark.middle - left) / width for mark in self.marks]
        at = self.at
        centres = [
            middles[n] if n >= 0 else (middles[at[k - 1]] + middles[at[k + 1]]) / 2  # a space is between its neighbours
            for k, n in enumerate(at)
        ]
        if any(b < a for a, b in pairwise(centres)):
            centres = []  # from right to left, or both: its gaps are not what they seem
        return TextLine(self.text, (left, top, right, bottom), centres=tuple(centres), bold=self.bold)


# ---------------------------------------------------------------- marks


def turned(box: Box, way: float, width: float, height: float) -> Box | None:
    """A box of a page of that size in the frame in which text of this direction runs to the right.

    `way` is in degrees clockwise. None for directions that are not along the page's sides.
    """
    x1, y1, x2, y2 = box
    if way == 0:
        return box
    if way == 90:
        return y1, width - x2, y2, width - x1
    if way == 180:
        return width - x2, height - y2, width - x1, height - y1
    if way == 270:
        return height - y2, x1, height - y1, x2
    return None


def marks_of(glyphs: Sequence[tuple[int, Glyph]], way: float, content: Content, clock: Clock) -> list[Mark]:
    """Numbered glyphs of one direction in their frame, without those that show nothing."""
    heights: dict[int, float] = {}
    for _, glyph in glyphs:
        x1, y1, x2, y2 = glyph.box
        if glyph.text.isalnum():
            ink = max(y2 - y1, x2 - x1)  # the wider side: 一 and ー are flat
            heights[id(glyph.run)] = max(ink, heights.get(id(glyph.run), 0.0))
    cos, sin = math.cos(math.radians(way)), math.sin(math.radians(way))
    marks = []
    boxes = [glyph for _, glyph in glyphs if glyph.text in BOX_SIGNS]
    has_ticks = any(map(_is_ticked, boxes))
    circles = _circles([glyph for _, glyph in glyphs])
    box_signs = {id(glyph): sign for glyph in boxes if (sign := _box_sign(glyph, has_ticks))}
    for number, glyph in glyphs:
        clock.tick()
        text = box_signs.get(id(glyph)) or circles.get(id(glyph)) or _clean(glyph.text, glyph.known)
        if not text:
            continue
        size, ink = glyph.run.size, heights.get(id(glyph.run), 0.0)
        if ink > 0 and way % 90 == 0 and not SIZE_MEANS[0] * ink <= size <= SIZE_MEANS[1] * ink:
            size = LETTER_EM * ink  # fonts made of drawings have sizes that mean nothing
        size = max(size, 0.1)
        box: Box | None = glyph.box
        origin: tuple[float, ...] | None = (glyph.x, glyph.y)
        if way != 0:
            box = turned(glyph.box, way, content.width, content.height)
            origin = turned((glyph.x, glyph.y, glyph.x, glyph.y), way, content.width, content.height)
        if box is None or origin is None:
            left, base = glyph.x * cos + glyph.y * sin, glyph.y * cos - glyph.x * sin
            marks.append(Mark(glyph, text, left, left + size / 2, base, size, number, left))
        elif is_wide_sign(text):
            # Its ink is a corner of its square: white beside it is no gap.
            marks.append(Mark(glyph, text, origin[0], origin[0] + size, origin[1], size, number, origin[0]))
        else:
            right = max(box[2], box[0] + size / 20)
            if origin[1] - box[3] >= RAISED_FIGURE_EM[0] * size and box[3] - box[1] <= RAISED_FIGURE_EM[1] * size:
                text = text.translate(RAISED) if text in FIGURES else text
            marks.append(Mark(glyph, text, box[0], right, origin[1], size, number, origin[0]))
    return _with_combined(marks)


@lru_cache(maxsize=4096)
def is_strange(text: str) -> bool:
    """Whether this is no character that a page shows."""
    return any(
        (unicodedata.category(char) in ("Cc", "Co", "Cs", "Cn") or char == "\ufffd")
        and char not in BULLETS
        and ord(char) not in ADOBE
        for char in UNSEEN.sub("", text)
    )


def _circles(glyphs: Sequence[Glyph]) -> dict[int, str]:
    """The list mark that a letter o is, for the `id` of its glyph: it stands alone before text in another font."""
    found = {}
    for before, glyph, after in zip([None, *glyphs], glyphs, glyphs[1:], strict=False):
        if glyph.text != "o" or after.run.font == glyph.run.font or abs(after.y - glyph.y) > LEVEL_EM * after.run.size:
            continue
        is_alone = before is None or (before.run is not glyph.run and abs(before.y - glyph.y) > glyph.run.size / 2)
        gap = after.box[0] - glyph.box[2]
        if is_alone and LETTER_O_EM[0] * after.run.size <= gap <= LETTER_O_EM[1] * after.run.size:
            found[id(glyph)] = "◦"
    return found


def _is_ticked(glyph: Glyph) -> bool:
    return glyph.text in TICKED_SIGNS


def _box_sign(glyph: Glyph, has_ticks: bool) -> str:
    """A check box that is a character, as text; empty for any other character."""
    if _is_ticked(glyph):
        return TICKED
    if glyph.text in UNTICKED_SIGNS or (has_ticks and glyph.text in SQUARES):
        return UNTICKED
    return ""


@lru_cache(maxsize=4096)
def is_wide_sign(text: str) -> bool:
    """Whether this is a punctuation mark of Chinese or Japanese that is as wide as an ideograph."""
    return len(text) == 1 and unicodedata.east_asian_width(text) in "WF" and unicodedata.category(text)[0] == "P"


@lru_cache(maxsize=4096)
def _clean(text: str, known: bool) -> str:
    """A glyph's text without ligatures and characters that are not seen; U+FFFD where it is not known."""
    text = UNSEEN.sub("", text).translate(ADOBE)
    if text in BULLETS:
        return "•"
    if not known or (text and is_strange(text)):
        return "\ufffd"
    return LIGATURES.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)


def _with_combined(marks: list[Mark]) -> list[Mark]:
    """Marks that have no place of their own put to the letter before or after them that they stand at."""
    if not any(mark.text >= FIRST_COMBINING and unicodedata.combining(mark.text[0]) for mark in marks):
        return marks
    kept: list[Mark] = []
    waiting: list[Mark] = []
    for mark in _at_their_letters(marks):
        if not unicodedata.combining(mark.text[0]):
            kept.append(mark)
            for accent in waiting:
                kept[-1] = _both(accent, kept[-1])
            waiting = []
        elif kept and _stands_at(mark, kept[-1]):
            kept[-1] = _both(mark, kept[-1])
        else:
            waiting.append(mark)
    return [*kept, *waiting]


def _at_their_letters(marks: list[Mark]) -> list[Mark]:
    """Marks in the order of the file; an accent that stands nowhere near its neighbours goes behind its letter."""
    letters = [mark for mark in marks if not unicodedata.combining(mark.text[0])]
    astray = []
    for n, mark in enumerate(marks):
        if not unicodedata.combining(mark.text[0]):
            continue
        beside = [other for other in marks[max(0, n - 1) : n + 2] if other is not mark]
        if not any(_stands_at(mark, other) for other in beside):
            astray.append(mark)
    for accent in astray[:MAX_ASTRAY]:
        host = min(letters, key=lambda letter: _aside(accent, letter) + abs(accent.base - letter.base), default=None)
        if host is not None and _stands_at(accent, host):
            marks.remove(accent)
            marks.insert(marks.index(host) + 1, accent)
    return marks


def _stands_at(accent: Mark, letter: Mark) -> bool:
    """Whether an accent is over or under a letter, or over another accent."""
    return _aside(accent, letter) < COMBINED_EM * letter.size and abs(accent.base - letter.base) < accent.size


def _both(accent: Mark, letter: Mark) -> Mark:
    """A letter with its accent."""
    a, b = letter.glyph.box, accent.glyph.box
    box = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    text = unicodedata.normalize("NFC", letter.text + ACCENTS.get(accent.text, accent.text))
    return replace(letter, text=text, glyph=replace(letter.glyph, box=box))


def _aside(one: Mark, other: Mark) -> float:
    return abs(one.middle - other.middle)


# ---------------------------------------------------------------- lines


def lines_of(marks: Sequence[Mark], clock: Clock) -> list[LayerLine]:
    """Marks in the order of the file as lines with their text, in no order."""
    stacks, pieces = _stacked(_pieces(marks), clock)
    rows: list[list[list[Mark]]] = []
    for piece in sorted(pieces, key=lambda piece: (piece[0].base, piece[0].left)):
        before = rows[-1][-1][0] if rows else None
        if before is not None and piece[0].base - before.base <= LEVEL_EM * min(piece[0].size, before.size):
            rows[-1].append(piece)
        else:
            rows.append([piece])
    lines = _with_justified([LayerLine(joined) for row in rows for joined in _joined(row)], clock)
    stacked = [LayerLine(stack, vertical=True) for stack in stacks]
    kinds = Counter(direction(mark.text) for mark in marks)
    leftwards = kinds["R"] > kinds["L"]
    composed = (_composed(line, leftwards) for line in (*_with_scripts(lines, clock), *stacked))
    return [line for line in composed if line.text]


def _pieces(marks: Sequence[Mark]) -> list[list[Mark]]:
    """Runs of marks that follow each other in the file and on the page."""
    pieces: list[list[Mark]] = []
    for mark in marks:
        if pieces and _follows(pieces[-1][-1], mark):
            pieces[-1].append(mark)
        else:
            pieces.append([mark])
    return pieces


def _follows(before: Mark, mark: Mark) -> bool:
    if abs(mark.base - before.base) > LEVEL_EM * min(before.size, mark.size):
        return False
    size = max(before.size, mark.size)
    # What follows Hebrew in the file may stand far off.
    turns = direction(before.text) == "R" and direction(mark.text) == "L"
    reach = SPACED_EM if mark.glyph.space == 3 and not turns else JOIN_EM
    return -BACK_EM * size <= mark.left - before.right <= reach * size and mark.right > before.left


def _stacked(pieces: list[list[Mark]], clock: Clock) -> tuple[list[list[Mark]], list[list[Mark]]]:
    """Vertical lines: single characters of Chinese or Japanese, one under the other. And all other pieces."""
    others: list[list[Mark]] = []
    stacks: list[list[Mark]] = []
    for piece in pieces:
        mark = piece[0]
        if len(piece) > 1 or not (IDEOGRAPH.match(mark.text) or not mark.text.isalnum()):
            others.append(piece)
            continue
        under = [stack for stack in stacks[-STACKS_OPEN:] if _stands_under(stack[-1], mark)]
        if under:
            under[-1].append(mark)
        else:
            stacks.append([mark])
    long = [stack for stack in stacks if len(stack) >= STACK_LEAST and any(IDEOGRAPH.match(m.text) for m in stack)]
    chosen = {id(stack) for stack in long}
    kept = list(long)
    for stack in stacks:
        if id(stack) in chosen:
            continue
        for other in long:
            clock.tick()
            if _stands_beside(stack[0], other):
                kept.append(stack)  # the end of a paragraph
                break
        else:
            others.extend([mark] for mark in stack)
    return kept, others


def _stands_under(above: Mark, mark: Mark) -> bool:
    size = max(above.size, mark.size)
    if (
        abs(above.size - mark.size) > LEVEL_EM * size
        or not STACK_EM[0] <= (mark.base - above.base) / size <= STACK_EM[1]
    ):
        return False
    # Punctuation stands in a corner of its square.
    return min(_aside(above, mark), abs(above.left - mark.left), abs(above.glyph.x - mark.glyph.x)) <= size / 2


def _stands_beside(mark: Mark, stack: Sequence[Mark]) -> bool:
    return (
        _aside(mark, stack[0]) <= BESIDE_EM * mark.size
        and abs(mark.size - stack[0].size) <= LEVEL_EM * mark.size
        and stack[0].base - mark.size / 2 <= mark.base <= stack[-1].base + mark.size / 2
    )


def _joined(row: list[list[Mark]]) -> list[list[Mark]]:
    """Pieces at one height, those that are near each other put together."""
    lines: list[list[Mark]] = []
    ends: list[float] = []
    has_leaders = sum(_is_dots(piece) for piece in row) >= LEADER_LEAST
    for left, piece in sorted(((min(mark.left for mark in piece), piece) for piece in row), key=lambda pair: pair[0]):
        size = min(piece[0].size, lines[-1][-1].size) if lines else 0.0
        reach = LEADER_STEP_EM if has_leaders and _is_dots(piece) else JOIN_EM
        near = [
            n
            for n, line in list(enumerate(lines))[-3:]
            if -BACK_EM * size <= left - ends[n] <= (max(MARKED_EM, reach) if _is_list_mark(line) else reach) * size
        ]
        right = max(mark.right for mark in piece)
        if near:
            n = min(near, key=lambda n: abs(left - ends[n]))
            lines[n] += piece
            ends[n] = max(ends[n], right)
        else:
            lines.append(list(piece))
            ends.append(right)
    return _with_tracked_words(lines)


def _with_justified(lines: list[LayerLine], clock: Clock) -> list[LayerLine]:
    """The lines, those put together that only the wide white of a justified line keeps apart.

    Such a line ends with a hyphen, and its last word goes on where the line begins, not where the word does: they are
    no cells of a table.

    Args:
        lines: from top to bottom, and from left to right.
    """
    bases = [line.base for line in lines]
    joined: list[LayerLine] = []
    for line in lines:
        clock.tick()
        before = joined[-1] if joined else None
        if before is not None and _ends_with_hyphen(line) and _is_beside(before, line):
            first, stop = (bisect_right(bases, line.base + step * line.size) for step in STEP_EM)
            if any(_goes_on(other, before, line) for other in lines[first:stop]):
                joined[-1] = LayerLine([*before.marks, *line.marks])
                continue
        joined.append(line)
    return joined


def _ends_with_hyphen(line: LayerLine) -> bool:
    return len(line.marks) > 1 and line.marks[-1].text in HYPHENS and line.marks[-2].text.isalpha()


def _is_beside(before: LayerLine, line: LayerLine) -> bool:
    """Whether both are at one height, of one size, and follow each other in the file."""
    gap, size = line.left - before.right, line.size
    is_level = abs(line.base - before.base) <= LEVEL_EM * size and abs(line.size - before.size) <= LEVEL_EM * size
    return is_level and 0 < gap <= JUSTIFIED_EM * size and line.marks[0].number == before.marks[-1].number + 1


def _goes_on(other: LayerLine, before: LayerLine, line: LayerLine) -> bool:
    """Whether a line below goes on with the word that is divided at the end of a line."""
    near = JUSTIFIED_EDGE_EM * line.size
    return (
        abs(other.left - before.left) <= near and other.right <= line.right + near and other.marks[0].text[:1].islower()
    )


def _is_dots(marks: Sequence[Mark]) -> bool:
    return all(mark.text == "." for mark in marks)


def _is_list_mark(marks: Sequence[Mark]) -> bool:
    return len(marks) == 1 and marks[0].text in LIST_SIGNS


def _with_tracked_words(lines: list[list[Mark]]) -> list[list[Mark]]:
    """Pieces at one height, from left to right; put together where all of their letters stand apart.

    The white of a space comes on top of the white that is behind each letter, and behind the space.
    """
    pairs = [pair for line in lines for pair in pairwise(line) if not _has_written_space(*pair)]
    tracking = _tracking(pairs) if len(lines) > 1 and _are_letters(pairs) else 0.0
    even = _even_white(list(pairwise(itertools.chain.from_iterable(lines)))) if len(lines) > 1 else 0.0
    tracking = even or tracking
    joined: list[list[Mark]] = []
    for line in lines:
        before, first = joined[-1][-1] if joined else line[0], line[0]
        size = min(before.size, first.size)
        white = _white(before, first) if even else None
        gap = first.left - before.right if white is None else white
        if (
            joined
            and tracking > SPACE_EM * size
            and abs(before.size - first.size) <= LEVEL_EM * size
            and 0 < gap <= TRACKED_SPACE_EM * size + 2 * tracking
        ):
            joined[-1] += line
        else:
            joined.append(line)
    return joined


def _with_scripts(lines: list[LayerLine], clock: Clock) -> list[LayerLine]:
    """Raised and lowered characters put into the line that they stand at, the smallest first."""
    heights = _Heights.of(lines)
    taken: set[int] = set()
    hosts: set[int] = set()
    for n in heights.smallest_first():
        script = lines[n]
        if len(script.marks) > SCRIPT_CHARS:
            continue
        is_short = len(script.marks) <= RAISED_CHARS and all(mark.text not in "()" for mark in script.marks)
        best, most = -1, SCRIPT_SHARE * heights.sizes[n]
        clock.tick()
        for k in heights.near(n, script):
            clock.tick()
            shared = heights.shared(n, k)
            if k in taken or shared <= most or (reach := heights.reach(n, k, is_short=is_short)) == 0:
                continue
            if _touches(script, lines[k], reach):
                best, most = k, shared
        if best >= 0:
            taken.add(n)
            hosts.add(best)
            added = [replace(mark, is_script=True) for mark in _as_script(script, lines[best])]
            lines[best] = LayerLine(_put_beside(lines[best].marks, added))
            heights.note(best, lines[best])
    kept = [n for n in range(len(lines)) if n not in taken]
    return _rejoined([lines[n] for n in kept], {id(lines[n]) for n in hosts})


def _put_beside(marks: Sequence[Mark], script: Sequence[Mark]) -> list[Mark]:
    """The marks with those of a script in their places; beside the other script of the same letter, not among it.

    Lowered ones come first, as in x₁²; of words that stand one over the other, the upper ones.
    """
    left, right = min(mark.left for mark in script), max(mark.right for mark in script)
    other = [n for n, mark in enumerate(marks) if mark.is_script and min(mark.right, right) > max(mark.left, left)]
    if other:
        are_words = max(len(script), len(other)) > RAISED_CHARS
        is_first = (script[0].base > marks[other[0]].base) != are_words
        stop = other[0] if is_first else other[-1] + 1
        return [*marks[:stop], *script, *marks[stop:]]
    if any(left < mark.middle < right for mark in marks):
        return sorted([*marks, *script], key=lambda mark: mark.left)
    stop = next((n + 1 for n in range(len(marks) - 1, -1, -1) if marks[n].left <= left), 0)
    return [*marks[:stop], *script, *marks[stop:]]


@dataclass(frozen=True, slots=True)
class _Heights:
    """Where lines stand and how large they are, before any takes in another one."""

    bases: list[float]
    sizes: list[float]
    lengths: list[tuple[int, int]]
    """How many marks are in the row of each line, and in the line itself."""
    tops: list[float]
    feet: list[float]
    by_base: Ints
    """The numbers of the lines from top to bottom."""
    places: Ints
    """For each line its place in `by_base`."""
    in_order: list[float]
    """The bases from top to bottom."""
    edges: Floats
    """How far to the left and to the right a script of each line may stand, in the order of `by_base`."""
    tallest: float

    @classmethod
    def of(cls, lines: Sequence[LayerLine]) -> _Heights:
        by_base = sorted(range(len(lines)), key=lambda n: lines[n].base)
        rows: list[list[int]] = []
        for n in by_base:
            before = lines[rows[-1][-1]] if rows else None
            if before is not None and lines[n].base - before.base <= LEVEL_EM * min(lines[n].size, before.size):
                rows[-1].append(n)
            else:
                rows.append([n])
        lengths = [(0, 0)] * len(lines)
        for row in rows:
            length = sum(len(lines[n].marks) for n in row)
            for n in row:
                lengths[n] = (length, len(lines[n].marks))
        bases, sizes = [line.base for line in lines], [line.size for line in lines]
        tops = [base - ASCENT * size for base, size in zip(bases, sizes, strict=True)]
        feet = [base + DESCENT * size for base, size in zip(bases, sizes, strict=True)]
        order = np.array(by_base, np.int64)
        in_order, edges = [bases[n] for n in by_base], np.zeros((2, len(lines)))
        heights = cls(
            bases, sizes, lengths, tops, feet, order, order.argsort(), in_order, edges, max(sizes, default=0.0)
        )
        for n, line in enumerate(lines):
            heights.note(n, line)
        return heights

    def note(self, n: int, line: LayerLine) -> None:
        """Take over how wide a line is, which grows with its scripts."""
        reach = SCRIPT_GAP_EM * self.sizes[n]
        self.edges[:, self.places[n]] = line.left - reach, line.right + reach

    def smallest_first(self) -> list[int]:
        return sorted(range(len(self.bases)), key=lambda n: (self.sizes[n], self.lengths[n]))

    def near(self, n: int, line: LayerLine) -> list[int]:
        """The other lines that may share a part of a line's height, and be no farther from it than a script may be."""
        first = bisect_right(self.in_order, self.bases[n] - self.tallest)
        stop = bisect_right(self.in_order, self.bases[n] + self.tallest)
        left, right = self.edges[:, first:stop]
        found: list[int] = self.by_base[first:stop][(left <= line.right) & (right >= line.left)].tolist()
        return [k for k in found if k != n]

    def shared(self, n: int, k: int) -> float:
        """How much of their heights two lines share."""
        return min(self.feet[n], self.feet[k]) - max(self.tops[n], self.tops[k])

    def reach(self, n: int, k: int, *, is_short: bool) -> float:
        """How far line `n` may stand from line `k` to be its script; 0: it is none, however near."""
        size, host = self.sizes[n], self.sizes[k]
        if size <= SCRIPT_SIZE * host:
            return SCRIPT_GAP_EM * host
        if self.lengths[n] >= self.lengths[k]:
            return 0.0
        shared = self.shared(n, k)
        if shared > SHIFTED_SHARE * size:  # as large, but set a little lower or higher, as the E of TeX is
            return SCRIPT_GAP_EM * host
        return RAISED_GAP_EM * host if is_short and shared > RAISED_SHARE * size else 0.0


def _rejoined(lines: list[LayerLine], hosts: Collection[int]) -> list[LayerLine]:
    """The lines, those put together that only a script kept apart.

    Args:
        hosts: the `id` of each line that took in a script.
    """
    joined: list[LayerLine] = []
    for line in sorted(lines, key=lambda line: (round(line.base, 1), line.left)):
        before = joined[-1] if joined else None
        size = min(before.size, line.size) if before is not None else 0.0
        if (
            before is not None
            and (id(before) in hosts or id(line) in hosts)
            and abs(line.base - before.base) <= LEVEL_EM * size
            and -BACK_EM * size <= line.left - before.right <= JOIN_EM * size
        ):
            joined[-1] = LayerLine([*before.marks, *line.marks])
            hosts = {*hosts, id(joined[-1])}
        else:
            joined.append(line)
    return joined


def _as_script(script: LayerLine, host: LayerLine) -> list[Mark]:
    """The marks of a raised or lowered line, its figures as characters that say so: 24.91², not 24.912."""
    shift = host.base - script.base
    least = (SCRIPT_SHIFT if script.size <= SMALL_SIZE * host.size else RAISED_EM) * host.size
    text = "".join(mark.text for mark in script.marks)
    if abs(shift) < least or "[" in text:
        return script.marks
    if shift > 0 and text in RAISED_LETTERS:  # 4,200ᵇ has note b, and is not 4,200 billion
        return [replace(script.marks[0], text=RAISED_LETTERS[text])]
    if text.isalpha():  # of an ordinal or a shortened word: 1st, Mlle
        return script.marks
    if any(char.isalpha() for char in text):  # xⁿ⁺¹ is not xn+1
        letters = ALL_RAISED if shift > 0 else ALL_LOWERED
        if not all(ord(char) in letters or char == "," for char in text) or not BRACKETS.isdisjoint(text):
            return script.marks
        return [replace(mark, text=mark.text.translate(letters)) for mark in script.marks]
    table = RAISED if shift > 0 else LOWERED
    return [replace(mark, text=mark.text.translate(table)) for mark in script.marks]


def _touches(script: LayerLine, host: LayerLine, reach: float) -> bool:
    """Whether a mark of the host ends where the script begins, or begins where it ends."""
    left, right = script.left, script.right
    if right < host.left - reach or left > host.right + reach:
        return False
    if not any(
        mark.text not in BRACES
        and (-reach <= left - mark.right <= reach or -reach / 2 <= mark.left - right <= reach / 2)
        for mark in host.marks
    ):
        return False
    over = sum(
        abs(mark.base - host.base) <= LEVEL_EM * host.size
        and mark.text.isalnum()
        and min(mark.right, right) - max(mark.left, left) > OVER_SHARE * (mark.right - mark.left)
        for mark in host.marks
    )
    return over <= MOST_OVER


# ---------------------------------------------------------------- what a line says


def _composed(line: LayerLine, leftwards: bool) -> LayerLine:
    """The line with its text: marks in the order in which they are read, spaces where there are gaps.

    `leftwards`: most of the page runs from right to left.
    """
    if line.vertical:
        text = "".join(mark.text for mark in line.marks)
        return replace(line, text=text, at=[n for n, mark in enumerate(line.marks) for _ in mark.text])
    marks = _with_accents(line.marks)
    kinds = Counter(direction(mark.text) for mark in marks)
    if kinds["R"]:
        ordered: Iterable[Mark | None] = _logical(marks, _runs_leftwards(marks, kinds, leftwards))
    else:
        ordered = _spaced(marks)
    kept: list[Mark] = []
    text, at = "", []
    for mark in ordered:
        if mark is not None:
            text += mark.text
            at += [len(kept)] * len(mark.text)
            kept.append(mark)
        elif text and at[-1] >= 0:
            text += " "
            at.append(-1)
    text, at = _without_leaders(text, at)
    if at and at[-1] < 0:
        text, at = text[:-1], at[:-1]
    if len(kept) < len(line.marks):
        return replace(line, marks=kept, text=text, at=at)
    line.marks, line.text, line.at = kept, text, at  # it stands where it stood
    return line


def _runs_leftwards(marks: Sequence[Mark], kinds: Mapping[str, int], leftwards: bool) -> bool:
    """Whether a line with Hebrew or Arabic runs to the left: the stop at its end tells, or else most of its letters.

    Args:
        kinds: how many marks of each `direction` it has.
        leftwards: most of the page runs to the left.
    """
    first, *_, last = sorted(marks, key=lambda mark: mark.middle) if len(marks) > 1 else [marks[0], marks[0]]
    if (first.text in STOPS) != (last.text in STOPS) and kinds["L"] and len(marks) >= STOP_LEAST:
        return first.text in STOPS
    share = FOREIGN_SHARE if leftwards else 1 - FOREIGN_SHARE
    return kinds["L"] <= share * (kinds["L"] + kinds["R"])


def _without_leaders(text: str, at: list[int]) -> tuple[str, list[int]]:
    """The text with three dots in the place of a whole row of them, and a space on both sides."""
    for found in reversed(list(LEADER.finditer(text))):
        start, stop = found.span()
        dots = [n for n in at[start:stop] if n >= 0][:3]
        if text[start] == "…":
            dots *= 3
        before = [] if start == 0 or text[start - 1] == " " else [-1]
        after = [] if stop == len(text) or text[stop] == " " else [-1]
        text = text[:start] + " " * len(before) + "." * len(dots) + " " * len(after) + text[stop:]
        at = [*at[:start], *before, *dots, *after, *at[stop:]]
    return text, at


def _with_accents(marks: Sequence[Mark]) -> list[Mark]:
    """Accents that are set over a letter as characters of their own put into it, as old TeX needs it."""
    kept: list[Mark] = []
    waiting: Mark | None = None
    for mark in marks:
        if waiting is not None:
            both = _accented(waiting, mark)
            kept += [both] if both is not None else [waiting, mark]
            waiting = None
        elif mark.text in ACCENTS:
            both = _accented(mark, kept[-1]) if kept else None
            if both is not None:
                kept[-1] = both
            else:
                waiting = mark
        else:
            kept.append(mark)
    return [*kept, waiting] if waiting is not None else kept


def _accented(accent: Mark, letter: Mark) -> Mark | None:
    """Both as one, where the accent stands over or under the letter."""
    if not letter.text[-1].isalpha() or _aside(accent, letter) > ACCENT_EM * max(accent.size, letter.size):
        return None
    return _both(accent, letter)


def _spaced(marks: Sequence[Mark]) -> Iterator[Mark | None]:
    """Marks from left to right, None where a space is."""
    pairs = list(pairwise(marks))
    unwritten = [n for n, (before, mark) in enumerate(pairs) if not _has_written_space(before, mark)]
    together = [pairs[n] for n in unwritten]
    are_letters = _are_letters(together)
    even = _even_white(together)
    tracking = even or (_tracking(together) if are_letters else 0.0)
    spaces = [_parts(before, mark, tracking) for before, mark in pairs]
    letters = [spaces[n] for n in unwritten if pairs[n][1].text != "."]
    if are_letters and not even and len(letters) >= STRETCHED_LEAST and sum(letters) > STRETCHED_SHARE * len(letters):
        gaps = {n: pairs[n][1].left - pairs[n][0].right for n in unwritten}
        usual = median(gaps.values())
        if usual < JOIN_EM * marks[0].size:
            for n, gap in gaps.items():
                spaces[n] = gap > max(APART * usual, GAP_EM * marks[0].size)
    yield marks[0]
    for mark, space in zip(marks[1:], spaces, strict=True):
        if space:
            yield None
        yield mark


def _is_next(before: Mark, mark: Mark) -> bool:
    """Whether a mark is the next one in the file, and begins no line there."""
    return mark.number == before.number + 1 and not mark.glyph.fresh


def _has_written_space(before: Mark, mark: Mark) -> bool:
    """Whether the file writes a space between two marks."""
    return _is_next(before, mark) and mark.glyph.space == 3


def _are_letters(pairs: Sequence[tuple[Mark, Mark]]) -> bool:
    """Whether most pairs are letters. Figures that stand apart are figures of their own: 5 7 9 is not 579."""
    return 2 * sum(before.text.isalpha() and mark.text.isalpha() for before, mark in pairs) > len(pairs)


def _even_white(pairs: Sequence[tuple[Mark, Mark]]) -> float:
    """The white between all letters and figures of a line, where spaces are clearly wider; 0 where it is not even.

    Figures in columns are no such line: they stand apart as words do, or without letters.
    """
    if len(pairs) < EVEN_FIGURES or not all(_is_next(*pair) for pair in pairs):
        return 0.0
    whites = [white for pair in pairs if (white := _white(*pair)) is not None]
    if len(whites) < len(pairs):
        return 0.0
    are_letters = [before.text.isalpha() and mark.text.isalpha() for before, mark in pairs]
    ordered, size = sorted(whites), pairs[0][0].size
    if len(pairs) < STRETCHED_LEAST and any(are_letters):
        return 0.0
    usual = (ordered[len(ordered) // 4], ordered[0])  # one pair may be kerned; most words may have one letter
    return next((white for white in usual if _is_even(whites, are_letters, white, size)), 0.0)


def _is_even(whites: Sequence[float], are_letters: Sequence[bool], usual: float, size: float) -> bool:
    """Whether each white of a line is `usual`, points, or that of a kerned pair, or clearly a space."""
    near = [white <= usual + EVEN_EM * size for white in whites]
    wide = [white for white, is_near in zip(whites, near, strict=True) if not is_near]
    letters = sum(is_near and both for is_near, both in zip(near, are_letters, strict=True))
    kerned = sum(white < usual - EVEN_EM * size for white in whites)
    if not SPACE_EM * size < usual <= EVEN_MOST_EM * size or min(wide, default=math.inf) <= usual + SPACE_EM * size:
        return False
    if usual <= EVEN_TIGHT_EM * size and not kerned:  # figures alone, too
        return sum(near) >= max(EVEN_FIGURES, len(wide))
    return kerned <= KERNED_SHARE * sum(near) and letters >= EVEN_LETTERS and len(wide) >= EVEN_SPACES


def _tracking(pairs: Sequence[tuple[Mark, Mark]]) -> float:
    """The white that a line has between all of its letters, beyond their widths; 0 for most lines.

    Args:
        pairs: neighbours, most of them letters, between which the file writes no space.
    """
    if len(pairs) < STRETCHED_LEAST:
        return 0.0
    whites = sorted(_white(before, mark) or 0.0 for before, mark in pairs)
    return max(0.0, whites[len(whites) // 4])  # the median is a space, where most words have one letter


def _parts(before: Mark, mark: Mark, tracking: float) -> bool:
    """Whether there is a space between two marks."""
    gap, size = mark.left - before.right, min(before.size, mark.size)
    if IDEOGRAPH.match(before.text) and IDEOGRAPH.match(mark.text):
        return gap > JOIN_EM * size
    white = _white(before, mark)
    if mark.text[0] in SCRIPTS:
        if mark.number == before.number + 1 and mark.glyph.space == 3:
            return gap > NO_SPACE_EM * size  # the file writes a space before it: it begins a note
        # It belongs to the character that it stands at, though a 1 before it has much white beside it.
        return gap > SCRIPT_GAP_EM * size if white is None else white > SCRIPT_SPACE_EM * size
    is_exact = white is not None and not before.glyph.is_end_least
    if _has_written_space(before, mark):  # unless the file takes back the room that it gave the space
        return not is_exact or abs(white or 0.0) > NO_SPACE_EM * size or gap > SPACE_EM * size
    if white is not None and (is_exact or white > SPACE_EM * size):
        return white - tracking > SPACE_EM * size
    if _is_next(before, mark):
        return mark.glyph.space == 2 or (mark.glyph.space == 1 and gap > GAP_EM / 2 * size)
    return gap > GAP_EM * size


def _white(before: Mark, mark: Mark) -> float | None:
    """From the end of a mark's own width to the next mark, points; None where the font does not tell that width.

    The white around the ink of a letter is no measure: between r and u it is as wide as a narrow space.
    """
    end, run = before.glyph.end, before.glyph.run
    return None if end is None else run.along(mark.glyph.x, mark.glyph.y) - end


@lru_cache(maxsize=4096)
def direction(text: str) -> str:
    """`R`, `L`, `N` for figures, `S` for what belongs to figures on both its sides, `T` to one of them, or nothing."""
    kind = unicodedata.bidirectional(text[:1])
    if kind in ("R", "AL"):
        return "R"
    return {"L": "L", "EN": "N", "AN": "N", "CS": "S", "ES": "S", "ET": "T"}.get(kind, "")


def _logical(marks: Sequence[Mark], leftwards: bool) -> list[Mark | None]:
    """Marks of a line with Hebrew or Arabic in the order in which they are read; None where a space is.

    They are sorted as they are seen, because files store them either way; then what runs to the
    right within a line that runs to the left is turned, and the other way round.
    """
    seen: list[Mark | None] = []
    for mark in sorted(marks, key=lambda mark: (mark.middle, mark.number)):
        before = seen[-1] if seen else None
        if before is not None and _parts_leftwards(before, mark):
            seen.append(None)
        seen.append(mark)
    kinds = _kinds(seen)
    if leftwards:
        seen.reverse()
        kinds.reverse()
    ordered: list[Mark | None] = []
    for start, stop, rightwards in _runs(kinds, leftwards):
        run = seen[start:stop]
        if rightwards == leftwards:  # against the line
            run.reverse()
            if not rightwards:  # figures within run to the right all the same
                for first, last, figures in _runs(kinds[start:stop][::-1], True):
                    if figures:
                        run[first:last] = run[first:last][::-1]
        ordered += run
    return _with_brackets(ordered, leftwards)


def _kinds(seen: Sequence[Mark | None]) -> list[str]:
    """The `direction` of each mark, in the order in which they are seen; that of a sign may follow from its object.

    A program that sets such a line writes each run of one direction as an object of its own: signs among the letters
    or figures of an object that has no Hebrew or Arabic belong to them, and one in an object of its own does not.
    """
    kinds = [direction(mark.text) if mark is not None else "" for mark in seen]
    if any(mark is not None and unicodedata.bidirectional(mark.text[0]) == "AL" for mark in seen):
        # Beside figures of Arabic a percent sign and a hyphen are neutral: 1234-555 is read 555-1234.
        kinds = [
            "" if mark is not None and unicodedata.bidirectional(mark.text[0]) in ("ET", "ES") else kind
            for mark, kind in zip(seen, kinds, strict=True)
        ]
    objects: dict[int, list[int]] = {}
    for n, mark in enumerate(seen):
        if mark is not None:
            objects.setdefault(id(mark.glyph.run), []).append(n)
    own = [len(objects[id(mark.glyph.run)]) if mark is not None else 0 for mark in seen]
    for numbers in objects.values():
        strong = [n for n in numbers if kinds[n] in ("L", "N", "R")]
        if len(numbers) < 2 or not strong or any(kinds[n] == "R" for n in numbers):
            continue
        kind = "L" if any(kinds[n] == "L" for n in strong) else "N"
        stop = _end_of_word(seen, strong[0], strong[-1] + 1, numbers[-1] + 1) if kind == "L" else strong[-1] + 1
        for n in range(strong[0], stop):
            kinds[n] = kinds[n] if kinds[n] in ("L", "N", "R") else kind
    for n in range(1, len(seen) - 1):  # 2.0-beta and beta-2.0 look alike
        is_between = {kinds[n - 1], kinds[n + 1]} == {"L", "N"} and kinds[n] not in ("L", "N", "R")
        if is_between and seen[n] is not None and own[n] == 1 and min(own[n - 1], own[n + 1]) > 1:
            kinds[n] = "R"
    return kinds


def _end_of_word(seen: Sequence[Mark | None], first: int, stop: int, last: int) -> int:
    """Where the signs behind a word end: C++ has them, and Foo(bar); the brackets of (Foo) are not its own."""
    while stop < last and (mark := seen[stop]) is not None:
        within = sum(other is not None and other.text in BRACKET_SIGNS for other in seen[first : stop + 1])
        if mark.text not in "+#" and not (mark.text in BRACKET_SIGNS and within % 2 == 0):
            break
        stop += 1
    return stop


def _parts_leftwards(before: Mark, mark: Mark) -> bool:
    """Whether there is a space between two marks of a line with Hebrew or Arabic, which stand side by side."""
    size = min(before.size, mark.size)
    later = max(before, mark, key=lambda mark: mark.number)
    white = _white(before, mark)
    is_written = abs(mark.number - before.number) == 1 and later.glyph.space == 3
    is_touching = white is not None and not before.glyph.is_end_least and abs(white) <= NO_SPACE_EM * size
    if is_written and not is_touching:  # PDFium may put the space before a bracket behind it
        return True
    if white is not None and white > -size / 4:
        return white > SPACE_EM * size
    if direction(before.text) == direction(mark.text) == "N":
        return mark.x - before.x > FIGURE_STEP_EM * size
    if direction(before.text) != direction(mark.text) and 3 in (before.glyph.space, mark.glyph.space):
        return mark.left - before.right > GAP_EM * size  # one of them begins a word
    is_arabic = unicodedata.bidirectional(before.text[0]) == "AL"
    return mark.left - before.right > (RTL_GAP_EM if is_arabic else HEBREW_GAP_EM) * size


def _runs(kinds: Sequence[str], leftwards: bool) -> Iterator[tuple[int, int, bool]]:
    """Ranges of one direction, True where that is to the right.

    What is neutral goes with both its sides, or with the line.
    """
    ways: list[bool | None] = []
    for n, kind in enumerate(kinds):
        beside = [*kinds[max(0, n - 1) : n], *kinds[n + 1 : n + 2]]
        belongs = (kind in ("S", "T") and beside == ["N", "N"]) or (kind == "T" and "N" in beside)
        if kind == "L" or (leftwards and (kind == "N" or belongs)):
            ways.append(True)
        else:
            ways.append(False if kind == "R" else None)
    against = leftwards  # the direction that is not the line's
    known = [n for n, way in enumerate(ways) if way is not None]
    for a, b in pairwise(known):
        # Two figures with a space between them are read in the line's direction.
        if ways[a] == ways[b] == against and not (kinds[a] in "NT" and kinds[b] in "NT" and b > a + 1):
            ways[a + 1 : b] = [against] * (b - a - 1)
    start = 0
    for n in range(1, len(ways) + 1):
        if n == len(ways) or (ways[n] == against) != (ways[start] == against):
            yield start, n, against if ways[start] == against else not against
            start = n


def _with_brackets(marks: Iterable[Mark | None], leftwards: bool) -> list[Mark | None]:
    """Brackets are mirrored in such lines; whether a file means the shape or the character shows in pairs.

    PDFium mirrors those beside Hebrew and Arabic, so that two of a pair may look alike.
    """
    out = list(marks)
    for closing, opening in OPENING.items():
        at = [(n, mark) for n, mark in enumerate(out) if mark is not None and mark.text in (closing, opening)]
        found = "".join(mark.text for _, mark in at)
        if len(at) < 2 or _is_balanced(found, opening) or (len(at) % 2 and not leftwards):
            continue
        mirrored = "".join(opening if char == closing else closing for char in found)
        if not _is_balanced(mirrored, opening) and len(at) % 2 == 0:
            mirrored = (opening + closing) * (len(at) // 2)
        for (n, mark), text in zip(at, mirrored, strict=True):
            out[n] = replace(mark, text=text)
    return out


def _is_balanced(brackets: str, opening: str) -> bool:
    """Whether each bracket that opens is closed, and none is closed before."""
    depth = 0
    for char in brackets:
        depth += 1 if char == opening else -1
        if depth < 0:
            return False
    return depth == 0

"""What a PDF page's own text says, as the engines would have read it; and whether that can be believed.

A page is believed when what a person sees on it is what its text says: the characters are known,
visible and apart, and no picture, drawing or form field holds text of its own. Everything else is
left to recognition, with the reason in words. Text that a person does not see (invisible, painted
over, as pale as the page, outside of it) is never part of what is given back as usable.

Pure Python over `pdf_content.py`; the page is never drawn. Lengths are in points of the upright
page, but for the boxes that leave this module: those are pixels of the page as it would be drawn.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import median
from typing import Any, Final

from ..engines.base import ReadOptions
from ..results.find import find_term
from ..results.reading_order import LIST_MARK, Element, TextLine, arrange, split_at_gutters, to_markdown, to_text
from .pdf_content import Area, Box, Clock, Content, Glyph, Run, TooMuch, read_content

__all__ = ["TEXT_MODES", "read_layer"]

TEXT_MODES: Final = frozenset({"document", "ocr", "free", "find"})
MAX_LINES: Final = 12_000  # a sheet of a spreadsheet has 5,000 cells

# Sight.
FAINT: Final = 20  # of 255: text with less alpha is not seen
SAME_COLOUR: Final = 24  # of 255, in every channel: text that differs less from its ground is not seen
MAX_COVERS: Final = 400  # areas that may hide text, the largest ones

# Pictures. Shares are of the page, counted on a grid.
GRID: Final = 40
MOSTLY_PICTURE: Final = 0.5  # a picture without text on it that large is most of the page
SCAN_SHARE: Final = 0.3  # the same for a picture in black and white
SMALL_PICTURE: Final = 0.1  # less holds no text that matters …
PICTURE_OVER_TEXT: Final = 2.0  # … nor does one that is less than twice as large as the text beside it
TOLERATED: Final = 10  # characters; what is behind a picture or invisible on it, when that says nothing
TOLERATED_SHARE: Final = 0.02  # the same, of all characters
SHAPES_LEAST: Final = 60  # curves that make a page of letters drawn as shapes
SHAPE_KINDS: Final = 12  # letters differ; the marks of a diagram do not

# Characters.
GARBLED_SHARE: Final = 0.02  # of the characters may be unknown: signs of a formula
GARBLED_LEAST: Final = 3
PLAIN_LETTERS: Final = 150  # fewer say nothing about their language
VOWELS: Final = (0.2, 0.7)  # share of the letters, in any language of these scripts
FOREIGN_SHARE: Final = 0.6  # of Latin letters have marks: no language has so many
SINGLE_SHARE: Final = 0.6  # of the words are single letters: they stand apart
LONG_WORD: Final = 35  # characters; the usual word is not that long

# Lines. Shares of the size of the text.
ASCENT: Final = 0.8
DESCENT: Final = 0.2
LEVEL_EM: Final = 0.15  # how far baselines of one line may differ
BACK_EM: Final = 0.5  # how far a character may reach back over the one before
JOIN_EM: Final = 0.9  # gap that pieces of one line may have
SPACED_EM: Final = 2.5  # the same where the text itself has a space
GAP_EM: Final = 0.16  # gap between pieces that is a space
SCRIPT_SIZE: Final = 0.9  # of the line: what is smaller may be raised or lowered
SCRIPT_SHARE: Final = 0.3  # of its height stands beside the line
SHIFTED_SHARE: Final = 0.6
SCRIPT_CHARS: Final = 8
SCRIPT_GAP_EM: Final = 0.5
RTL_GAP_EM: Final = 0.24  # a space in Hebrew and Arabic, whose letters have gaps of their own
COMBINED_EM: Final = 0.8  # how far a mark may stand from the middle of its letter
STRETCHED_LEAST: Final = 5  # characters of a line whose letters stand apart
APART: Final = 1.6  # times the usual gap of a line whose letters stand apart: a space
STACK_EM: Final = (0.7, 1.3)  # step from character to character of vertical text
STACK_LEAST: Final = 3
BESIDE_EM: Final = 3.0  # from one vertical line to the next
MARK_LEVEL_EM: Final = 0.4  # how far a list mark may stand above or below its text
MARK_GAP_EM: Final = 4.0  # and how far before it
BOLD_SHARE: Final = 0.4  # of the page is bold: then that says nothing
BOLD_ROWS: Final = 2
BOLD_CHARS: Final = 100
BOLD_ROOM_EM: Final = 4.0  # a title on a line of its own ends before the margin
SLANT_DEG: Final = 8.0  # what leans less counts as straight
OVERLAP_SHARE: Final = 0.1  # of the characters may stand on others
TWIN_EM: Final = 0.25  # how far the copies of a shadow lie apart

# Tables.
SNAP_PT: Final = 2.5  # rules that are closer are one
TOUCH_PT: Final = 3.5  # rules that end so close meet
CUT_SHARE: Final = 0.5  # of the height of a line that a rule runs along
MAX_CROSSINGS: Final = 1_000_000
MAX_GRID: Final = 60  # rows or columns
FILLED_SHARE: Final = 0.3  # of the cells hold text; a diagram has a grid, too
BORDER_SHARE: Final = 0.6  # of the border between two cells is drawn, or they are one

STAND_IN: Final = "0"  # no letters: never a title
BULLETS: Final = frozenset("\uf0b7\uf0a7\uf0d8\uf0fc\uf076\uf06c\uf06e\uf0a8\uf02d\uf071\uf0e0\uf0be")
"""List marks of the fonts Symbol and Wingdings, whose characters have no Unicode."""
LIGATURES: Final = re.compile("[\ufb00-\ufb4f\ufb50-\ufdff\ufe70-\ufefc]")
UNSEEN: Final = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufffe\uffff]")
IDEOGRAPH: Final = re.compile("[\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
ACCENTS: Final = {
    "´": "\u0301", "`": "\u0300", "ˆ": "\u0302", "¨": "\u0308", "˜": "\u0303", "ˇ": "\u030c", "˘": "\u0306",
    "˙": "\u0307", "˚": "\u030a", "¸": "\u0327", "˝": "\u030b", "¯": "\u0304", "˛": "\u0328",
}  # fmt: skip
OPENING: Final = {")": "(", "]": "[", "}": "{", "»": "«", "›": "‹"}
VOWEL_LETTERS: Final = {
    "LATIN": frozenset("aeiouyæøœıəwɔɛ"),
    "CYRILLIC": frozenset("аеёиоуыэюяіїєѣѳүөұәў"),
    "GREEK": frozenset("αεηιουω"),
}


def read_layer(
    document: Any, number: int, path: str, size: tuple[int, int], options: ReadOptions, ask: Callable[[], None]
) -> dict[str, Any]:
    """Page `number`, counted from 0, of an open pypdfium2 document.

    `size` is that of the drawn page in pixels. Returns `text`, `blocks`, `usable` and `why`.
    """
    if options.mode not in TEXT_MODES:
        return _answer(why=f"mode {options.mode} needs a model")
    try:
        clock = Clock(ask)
        content = read_content(document, number, path, clock)
        sight = _Sight.of(content, clock)
        why = sight.why()
        glyphs = sight.shown if not why or not sight.hidden else sight.everything
        layer = _Layer.of(content, glyphs, clock)
        why = why or layer.why() or _missing_fields(content, layer)
        text, blocks = layer.written(options, size[0] / content.width, size[1] / content.height, size)
    except TooMuch as exc:
        return _answer(why=str(exc))
    return _answer(text, blocks, why)


def _answer(text: str = "", blocks: Sequence[dict[str, Any]] = (), why: str = "") -> dict[str, Any]:
    return {"text": text, "blocks": list(blocks), "usable": not why, "why": why}


# ---------------------------------------------------------------- what is seen


@dataclass(slots=True)
class _Sight:
    """The characters of a page, by whether a person sees them."""

    content: Content
    shown: list[Glyph]
    invisible: list[Glyph]
    behind: list[Glyph]
    """Under a picture."""
    lost: list[Glyph]
    """Painted over, as pale as their ground, or outside of the page: gone for good."""
    layered: int

    @classmethod
    def of(cls, content: Content, clock: Clock) -> _Sight:
        sight = cls(content, [], [], [], [], 0)
        page = (0.0, 0.0, content.width, content.height)
        covers = _covers(content)
        by_colour: dict[tuple[int, int, int], list[Area]] = {}
        for glyph in content.glyphs:
            clock.tick()
            run = glyph.run
            x, y = _middle(glyph)
            if not _inside(page, x, y) or (run.clip is not None and not _inside(run.clip, x, y)):
                sight.lost.append(glyph)
                continue
            cover = _cover(covers, run.order, x, y)
            if cover is not None:
                (sight.behind if cover.picture else sight.lost).append(glyph)
            elif run.mode in (3, 7) or (run.colour is not None and run.colour[3] < FAINT):
                sight.invisible.append(glyph)
            elif _is_pale(content, run, x, y, by_colour):
                sight.lost.append(glyph)
            else:
                sight.shown.append(glyph)
                sight.layered += run.layered
        return sight

    @property
    def hidden(self) -> bool:
        return bool(self.invisible or self.behind)

    @property
    def everything(self) -> list[Glyph]:
        """What is there, seen or not, in the order of the file."""
        lost = {id(glyph) for glyph in self.lost}
        return [glyph for glyph in self.content.glyphs if id(glyph) not in lost]

    def why(self) -> str:
        """Why recognition sees what this text does not say; empty if it does not."""
        content = self.content
        if not content.objects:
            return ""  # nothing is drawn: the page is blank
        tolerated = max(TOLERATED, TOLERATED_SHARE * len(self.shown))
        if len(self.behind) > tolerated:
            return "the text is behind a picture (an earlier OCR)"
        on_pictures = [glyph for glyph in self.invisible if _on_any(content.pictures, *_middle(glyph))]
        if len(on_pictures) > tolerated or (self.invisible and not self.shown):
            return "the text is invisible (an earlier OCR)"
        if not self.shown:
            return "no text layer" if not self.lost else "its text cannot be seen"
        if self.layered and content.hidden_layers():
            return "some of its layers are switched off"
        text, bare, scanned = _shares(content, self.shown)
        if scanned > SCAN_SHARE:
            return "most of the page is a scan"
        if bare > MOSTLY_PICTURE or (bare > SMALL_PICTURE and bare > PICTURE_OVER_TEXT * text):
            return "most of the page is a picture without text"
        if content.shapes > max(SHAPES_LEAST, len(self.shown)) and content.shape_kinds > SHAPE_KINDS:
            return "its letters are drawn as shapes"
        return _garbled(self.shown)


def _middle(glyph: Glyph) -> tuple[float, float]:
    x1, y1, x2, y2 = glyph.box
    return (x1 + x2) / 2, (y1 + y2) / 2


def _inside(box: Box, x: float, y: float) -> bool:
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _on_any(areas: Iterable[Area], x: float, y: float) -> bool:
    return any(_inside(area.box, x, y) for area in areas)


def _size_of(area: Area) -> float:
    return (area.box[2] - area.box[0]) * (area.box[3] - area.box[1])


def _covers(content: Content) -> list[Area]:
    """Areas that hide what was drawn before them, in the order in which they are drawn."""
    solid = [area for area in (*content.pictures, *content.grounds) if area.opaque and area.exact]
    return sorted(sorted(solid, key=_size_of)[-MAX_COVERS:], key=lambda area: area.order)


def _cover(covers: Sequence[Area], order: int, x: float, y: float) -> Area | None:
    if order < 0:
        return None
    for n in range(bisect_right(covers, order, key=lambda area: area.order), len(covers)):
        if _inside(covers[n].box, x, y):
            return covers[n]
    return None


def _alike(one: Sequence[int], other: Sequence[int]) -> bool:
    return all(abs(a - b) <= SAME_COLOUR for a, b in zip(one[:3], other[:3], strict=True))


def _is_pale(
    content: Content, run: Run, x: float, y: float, by_colour: dict[tuple[int, int, int], list[Area]]
) -> bool:
    """Whether text has the colour of its ground. A ground of unknown colour is another one."""
    if run.colour is None:
        return False
    colour = run.colour[:3]
    if colour not in by_colour:
        by_colour[colour] = [
            area for area in content.grounds if area.colour is not None and _alike(area.colour, colour)
        ]
    on_page = _alike(colour, (255, 255, 255))
    if not (on_page or by_colour[colour]):
        return False
    ground = None
    for area in (*content.grounds, *content.pictures):
        if area.order < run.order and _inside(area.box, x, y) and (ground is None or area.order > ground.order):
            ground = area
    if ground is None:
        return on_page
    return ground.exact and ground.opaque and ground.colour is not None and _alike(ground.colour, colour)


def _shares(content: Content, shown: Sequence[Glyph]) -> tuple[float, float, float]:
    """Shares of the page: near text, pictures without text, and those in black and white."""
    width, height = content.width / GRID, content.height / GRID

    def cells(box: Box, around: float = 0.0) -> Iterator[int]:
        """The cells whose middle is in the box; at least the one in which its own middle is, for text."""
        x1, x2 = (box[0] - around) / width - 0.5, (box[2] + around) / width - 0.5
        y1, y2 = (box[1] - around) / height - 0.5, (box[3] + around) / height - 0.5
        for row in range(max(0, math.ceil(y1)), min(GRID, math.floor(y2) + 1)):
            for column in range(max(0, math.ceil(x1)), min(GRID, math.floor(x2) + 1)):
                yield row * GRID + column

    texts: set[int] = set()
    for glyph in shown:
        texts.update(cells(glyph.box, glyph.run.size))
    pictures: set[int] = set()
    scans: set[int] = set()
    for area in content.pictures:
        found = set(cells(area.box))
        pictures |= found
        if area.bilevel:
            scans |= found
    every = GRID * GRID
    return len(texts) / every, len(pictures - texts) / every, len(scans - texts) / every


# ---------------------------------------------------------------- what is known


def _garbled(shown: Sequence[Glyph]) -> str:
    """Why the characters are not those that are seen; empty if they are."""
    unknown = sum(not glyph.known for glyph in shown)
    strange = sum(_is_strange(glyph.text) for glyph in shown if glyph.known)
    least = max(GARBLED_LEAST, GARBLED_SHARE * len(shown))
    if unknown + strange > least:
        return f"the characters are garbled: {'no Unicode map' if unknown >= strange else 'not of any language'}"
    return ""


def _is_strange(text: str) -> bool:
    """Whether this is no character that a page shows."""
    return any(
        (unicodedata.category(char) in ("Cc", "Co", "Cs", "Cn") or char == "\ufffd") and char not in BULLETS
        for char in text
    )


def _implausible(text: str) -> str:
    """Why the text is no language's; empty where that cannot be told."""
    words = re.findall(r"[^\W\d_]+", text)
    letters = Counter("".join(words))
    by_script: dict[str, Counter[str]] = {}
    for char, count in letters.items():
        script = unicodedata.name(char, "").split(" ", 1)[0]
        if script in VOWEL_LETTERS:
            by_script.setdefault(script, Counter())[char] += count
    for script, counted in by_script.items():
        total = counted.total()
        if total < max(PLAIN_LETTERS, letters.total() / 2):
            continue
        vowels = marked = 0
        for char, count in counted.items():
            base = unicodedata.normalize("NFD", char.casefold())[:1]
            vowels += count * (base in VOWEL_LETTERS[script])
            marked += count * (char > "\u007f")
        if not VOWELS[0] <= vowels / total <= VOWELS[1]:
            return "the characters are garbled: not of any language"
        if script == "LATIN" and marked > FOREIGN_SHARE * total:
            return "the characters are garbled: of another encoding"
    tokens = [word for word in text.split() if word[0].isalpha() and not IDEOGRAPH.match(word)]
    plain = [word for word in tokens if unicodedata.name(word[0], "").split(" ", 1)[0] in VOWEL_LETTERS]
    if len(plain) >= PLAIN_LETTERS / 3:
        if sum(len(word) == 1 for word in plain) > SINGLE_SHARE * len(plain):
            return "its words fall apart into letters"
        if median(len(word) for word in plain) > LONG_WORD:
            return "its words are not apart"
    return ""


def _missing_fields(content: Content, layer: _Layer) -> str:
    """Whether what was typed into a form is not in the text: then it is only drawn."""
    if not content.fields:
        return ""
    for entry in content.fields:
        x1, y1, x2, y2 = entry.box
        inside = "".join(
            glyph.text
            for line in layer.lines
            for glyph in line.glyphs
            if _inside((x1 - 2, y1 - 2, x2 + 2, y2 + 2), *_middle(glyph))
        )
        wanted = Counter(char for char in entry.text if char.isalnum())
        if (wanted - Counter(unicodedata.normalize("NFKC", inside))).total() > 0.1 * wanted.total():
            return "a form field's text is not in it"
    return ""


# ---------------------------------------------------------------- lines


@dataclass(slots=True)
class _Mark:
    """A glyph in the frame in which its text runs to the right."""

    glyph: Glyph
    text: str
    left: float
    right: float
    base: float
    size: float
    number: int
    """Its place in the file."""

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


@dataclass(slots=True)
class _Line:
    """Marks that are read one after the other, and the text that they make."""

    marks: list[_Mark]
    vertical: bool = False
    text: str = ""
    at: list[int] = field(default_factory=list)
    """For each character of the text, the mark that it is from; -1 for a space."""

    @property
    def glyphs(self) -> list[Glyph]:
        return [mark.glyph for mark in self.marks]

    @property
    def left(self) -> float:
        return min(mark.left for mark in self.marks)

    @property
    def right(self) -> float:
        return max(mark.right for mark in self.marks)

    @property
    def base(self) -> float:
        return median(mark.base for mark in self.marks)

    @property
    def size(self) -> float:
        sizes = Counter(round(mark.size, 1) for mark in self.marks)
        return max(sizes, key=lambda size: (sizes[size], size))

    @property
    def bold(self) -> bool:
        return all(mark.glyph.run.bold for mark in self.marks if mark.text.isalnum())

    def glyphs_of(self, start: int, stop: int) -> list[Glyph]:
        """The glyphs of these characters of the text."""
        return [self.marks[n].glyph for n in sorted({n for n in self.at[start:stop] if n >= 0})]

    def part(self, start: int, stop: int) -> _Line:
        """The line that these characters make, without the spaces around them."""
        while start < stop and self.at[start] < 0:
            start += 1
        while start < stop and self.at[stop - 1] < 0:
            stop -= 1
        if (start, stop) == (0, len(self.text)):
            return self
        used = sorted({n for n in self.at[start:stop] if n >= 0})
        number = {n: k for k, n in enumerate(used)}
        at = [number.get(n, -1) for n in self.at[start:stop]]
        return _Line([self.marks[n] for n in used], self.vertical, self.text[start:stop], at)

    def framed(self, mirrored: bool = False) -> TextLine:
        """As the reading order takes it; mirrored, so that what is read from the right comes first on the left."""
        left, right, size = self.left, self.right, self.size
        if self.vertical:
            tops = [mark.base - ASCENT * mark.size for mark in self.marks]
            middle = median(mark.middle for mark in self.marks)
            box = (middle - size / 2, min(tops), middle + size / 2, max(tops) + size)
            return TextLine(self.text, box, 1.0, (), True)
        base, width = self.base, max(right - left, 0.1)
        middles = [(mark.middle - left) / width for mark in self.marks]
        centres = [middles[n] if n >= 0 else (middles[self.at[k - 1]] + middles[self.at[k + 1]]) / 2 for k, n in enumerate(self.at)]
        if mirrored:
            left, right, centres = -right, -left, [1 - centre for centre in centres]
        if any(b < a for a, b in pairwise(centres)):
            centres = []  # both directions in one line: its gaps are not what they seem
        return TextLine(self.text, (left, base - ASCENT * size, right, base + DESCENT * size), 1.0, tuple(centres))


def _lines_of(marks: Sequence[_Mark]) -> list[_Line]:
    """Marks in the order of the file as lines of the page, without their text."""
    pieces = _pieces(marks)
    stacks, pieces = _stacked(pieces)
    rows: list[list[list[_Mark]]] = []
    for piece in sorted(pieces, key=lambda piece: (_base(piece), piece[0].left)):
        level = LEVEL_EM * min(piece[0].size, rows[-1][-1][0].size) if rows else 0.0
        if rows and _base(piece) - _base(rows[-1][-1]) <= level:
            rows[-1].append(piece)
        else:
            rows.append([piece])
    lines = [_Line(marks) for row in rows for marks in _joined(row)]
    return [*_with_scripts(lines), *(_Line(stack, vertical=True) for stack in stacks)]


def _base(piece: Sequence[_Mark]) -> float:
    return piece[0].base


def _pieces(marks: Sequence[_Mark]) -> list[list[_Mark]]:
    """Runs of marks that follow each other in the file and on the page."""
    pieces: list[list[_Mark]] = []
    for mark in marks:
        if pieces and _follows(pieces[-1][-1], mark):
            pieces[-1].append(mark)
        else:
            pieces.append([mark])
    return pieces


def _follows(before: _Mark, mark: _Mark) -> bool:
    size = max(before.size, mark.size)
    if abs(mark.base - before.base) > LEVEL_EM * min(before.size, mark.size):
        return False
    reach = SPACED_EM if mark.glyph.space == 2 else JOIN_EM
    return -BACK_EM * size <= mark.left - before.right <= reach * size and mark.right > before.left


def _stacked(pieces: list[list[_Mark]]) -> tuple[list[list[_Mark]], list[list[_Mark]]]:
    """Vertical lines: single characters of Chinese or Japanese, one under the other. And all other pieces."""
    stacks: list[list[_Mark]] = []
    others: list[list[_Mark]] = []
    short: list[list[_Mark]] = []
    stack: list[_Mark] = []

    def close() -> None:
        (stacks if len(stack) >= STACK_LEAST else short).append(stack.copy())
        stack.clear()

    for piece in pieces:
        mark = piece[0]
        single = len(piece) == 1 and (IDEOGRAPH.match(mark.text) or not mark.text.isalnum())
        if stack:
            size = max(stack[-1].size, mark.size)
            step = (mark.base - stack[-1].base) / max(size, 0.1)
            # Punctuation stands in a corner of its square.
            beside = abs(mark.glyph.x - stack[-1].glyph.x) if mark.glyph.x else 0.0
            if not single or not STACK_EM[0] <= step <= STACK_EM[1] or min(beside, _aside(stack[-1], mark)) > size / 2:
                close()
        if single:
            stack.append(mark)
        else:
            others.append(piece)
    close()
    long = stacks.copy()
    for stack in filter(None, short):
        if any(_stands_beside(stack[0], other) for other in long):
            stacks.append(stack)  # the end of a paragraph
        else:
            others.extend([mark] for mark in stack)
    return stacks, others


def _stands_beside(mark: _Mark, stack: Sequence[_Mark]) -> bool:
    return (
        _aside(mark, stack[0]) <= BESIDE_EM * mark.size
        and abs(mark.size - stack[0].size) <= LEVEL_EM * mark.size
        and stack[0].base - mark.size / 2 <= mark.base <= stack[-1].base + mark.size / 2
    )


def _aside(one: _Mark, other: _Mark) -> float:
    return abs(one.middle - other.middle)


def _joined(row: list[list[_Mark]]) -> list[list[_Mark]]:
    """Pieces at one height, those that are near each other put together."""
    lines: list[list[_Mark]] = []
    ends: list[float] = []
    for piece in sorted(row, key=lambda piece: min(mark.left for mark in piece)):
        left, right = min(mark.left for mark in piece), max(mark.right for mark in piece)
        size = min(piece[0].size, lines[-1][-1].size) if lines else 0.0
        near = [n for n in range(len(lines))[-3:] if -BACK_EM * size <= left - ends[n] <= JOIN_EM * size]
        if near:
            n = min(near, key=lambda n: abs(left - ends[n]))
            lines[n] += piece
            ends[n] = max(ends[n], right)
        else:
            lines.append(list(piece))
            ends.append(right)
    return lines


def _with_scripts(lines: list[_Line]) -> list[_Line]:
    """Raised and lowered characters put into the line that they stand at, the smallest first."""
    facts = [(line.base, line.size) for line in lines]
    by_base = sorted(range(len(lines)), key=lambda n: facts[n][0])
    bases = [facts[n][0] for n in by_base]
    tallest = max((size for _, size in facts), default=0.0)
    taken: set[int] = set()
    for n in sorted(range(len(lines)), key=lambda n: (facts[n][1], len(lines[n].marks))):
        base, size = facts[n]
        if len(lines[n].marks) > SCRIPT_CHARS:
            continue
        best, most = -1, SCRIPT_SHARE * size
        for k in by_base[bisect_right(bases, base - tallest) : bisect_right(bases, base + tallest)]:
            host_base, host_size = facts[k]
            top = max(base - ASCENT * size, host_base - ASCENT * host_size)
            shared = min(base + DESCENT * size, host_base + DESCENT * host_size) - top
            if k == n or k in taken or shared <= most:
                continue
            if size > SCRIPT_SIZE * host_size and not (
                # As large, but set a little lower or higher, as the E of TeX is.
                shared > SHIFTED_SHARE * size and len(lines[n].marks) < len(lines[k].marks)
            ):
                continue
            if _touches(lines[n], lines[k], SCRIPT_GAP_EM * host_size):
                best, most = k, shared
        if best >= 0:
            taken.add(n)
            lines[best].marks = sorted([*lines[best].marks, *lines[n].marks], key=lambda mark: mark.left)
    return [line for n, line in enumerate(lines) if n not in taken]


def _touches(script: _Line, host: _Line, reach: float) -> bool:
    """Whether a mark of the host ends where the script begins, or begins where it ends."""
    left, right = script.left, script.right
    return any(-reach <= left - mark.right <= reach or -reach / 2 <= mark.left - right <= reach / 2 for mark in host.marks)


# ---------------------------------------------------------------- what a line says


def _compose(line: _Line) -> _Line:
    """The line with its text: marks in the order in which they are read, spaces where there are gaps."""
    marks = _with_accents(line.marks)
    if line.vertical:
        return replace(line, marks=marks, text="".join(mark.text for mark in marks), at=_places(marks))
    if any(_direction(mark.text) == "R" for mark in marks):
        ordered = _logical(marks)
    else:
        ordered = _spaced(marks)
    kept, text, at = [], [], []
    for mark in ordered:
        if mark is None:
            if text and text[-1] != " ":
                text.append(" ")
                at.append(-1)
            continue
        text += mark.text
        at += [len(kept)] * len(mark.text)
        kept.append(mark)
    if at and at[-1] < 0:
        del at[-1], text[-1]
    return replace(line, marks=kept, text="".join(text), at=at)


def _places(marks: Sequence[_Mark]) -> list[int]:
    return [n for n, mark in enumerate(marks) for _ in mark.text]


def _with_accents(marks: Sequence[_Mark]) -> list[_Mark]:
    """Accents that are set over a letter of their own put into it, as old TeX needs it."""
    kept: list[_Mark] = []
    waiting: _Mark | None = None
    for mark in marks:
        if waiting is not None:
            kept.append(_accented(waiting, mark) or mark)
            if kept[-1] is mark:
                kept.insert(-1, waiting)
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


def _accented(accent: _Mark, letter: _Mark) -> _Mark | None:
    """Both as one, where the accent stands over or under the letter."""
    if not letter.text[-1].isalpha() or _aside(accent, letter) > 0.3 * max(accent.size, letter.size):
        return None
    return _both(accent, letter)


def _spaced(marks: Sequence[_Mark]) -> list[_Mark | None]:
    """Marks from left to right, None where a space is."""
    if not marks:
        return []
    spaces = [_parts(before, mark) for before, mark in pairwise(marks)]
    if len(marks) > STRETCHED_LEAST and sum(spaces) > SINGLE_SHARE * len(spaces):
        gaps = [mark.left - before.right for before, mark in pairwise(marks)]
        least = max(APART * median(gaps), GAP_EM * marks[0].size)
        if median(gaps) < JOIN_EM * marks[0].size:
            spaces = [gap > least for gap in gaps]
    out: list[_Mark | None] = [marks[0]]
    for mark, space in zip(marks[1:], spaces, strict=True):
        out += [None, mark] if space else [mark]
    return out


def _parts(before: _Mark, mark: _Mark) -> bool:
    """Whether there is a space between two marks."""
    gap, size = mark.left - before.right, min(before.size, mark.size)
    if IDEOGRAPH.match(before.text) and IDEOGRAPH.match(mark.text):
        return gap > JOIN_EM * size
    if mark.number == before.number + 1 and not mark.glyph.fresh:
        return mark.glyph.space == 2 or (mark.glyph.space == 1 and gap > GAP_EM / 2 * size)
    return gap > GAP_EM * size


def _direction(text: str) -> str:
    """`R`, `L`, `N` for figures, `S` for what belongs to figures beside it, or nothing."""
    kind = unicodedata.bidirectional(text[:1])
    if kind in ("R", "AL"):
        return "R"
    return {"L": "L", "EN": "N", "AN": "N", "CS": "S", "ES": "S", "ET": "S"}.get(kind, "")


def _logical(marks: Sequence[_Mark]) -> list[_Mark | None]:
    """Marks of a line with Hebrew or Arabic in the order in which they are read; None where a space is.

    They are sorted as they are seen, because files store them either way; then what runs to the
    right within a line that runs to the left is turned, and the other way round.
    """
    seen: list[_Mark | None] = []
    for mark in sorted(marks, key=lambda mark: (mark.middle, mark.number)):
        before = seen[-1] if seen else None
        if before is not None and mark.left - before.right > RTL_GAP_EM * min(before.size, mark.size):
            seen.append(None)
        seen.append(mark)
    kinds = [_direction(mark.text) if mark is not None else "" for mark in seen]
    leftwards = kinds.count("R") >= kinds.count("L")
    if leftwards:
        seen.reverse()
        kinds.reverse()
    turned: list[_Mark | None] = []
    for start, stop, rightwards in _runs(kinds, leftwards):
        run = seen[start:stop]
        if rightwards == leftwards:
            run.reverse()
            if not rightwards:  # figures within run to the right all the same
                kinds_of_run = kinds[start:stop][::-1]
                for first, last, figures in _runs(kinds_of_run, True):
                    if figures:
                        run[first:last] = run[first:last][::-1]
        turned += run
    return _with_brackets(turned) if leftwards else turned


def _runs(kinds: Sequence[str], leftwards: bool) -> Iterator[tuple[int, int, bool]]:
    """Ranges of one direction; True where that is to the right. What is neutral goes with both its sides or the line."""
    towards: list[bool | None] = []
    for n, kind in enumerate(kinds):
        if kind == "L":
            towards.append(True)
        elif kind == "N":
            towards.append(True if leftwards else None)
        elif kind == "R":
            towards.append(False)
        elif kind == "S" and leftwards and "N" in kinds[max(0, n - 1) : n] and "N" in kinds[n + 1 : n + 2]:
            towards.append(True)
        else:
            towards.append(None)
    other = leftwards  # the direction that is not the line's: True is to the right
    at = [n for n, way in enumerate(towards) if way is not None]
    for a, b in pairwise(at):
        if towards[a] == towards[b] == other and not (kinds[a] == kinds[b] == "N" and b > a + 1):
            towards[a + 1 : b] = [other] * (b - a - 1)
    start = 0
    for n in range(1, len(towards) + 1):
        if n == len(towards) or (towards[n] == other) != (towards[start] == other):
            yield start, n, other if towards[start] == other else not other
            start = n


def _with_brackets(marks: list[_Mark | None]) -> list[_Mark | None]:
    """Brackets are mirrored in such lines; whether a file means the shape or the character shows in pairs."""
    for closing, opening in OPENING.items():
        at = [n for n, mark in enumerate(marks) if mark is not None and mark.text in (closing, opening)]
        first = marks[at[0]] if len(at) > 1 else None
        if first is not None and first.text == closing:
            for n in at:
                mark = marks[n]
                assert mark is not None
                marks[n] = replace(mark, text=opening if mark.text == closing else closing)
    return marks


# ---------------------------------------------------------------- the page


@dataclass(slots=True)
class _Group:
    """Lines that run in one direction, in reading order of their own frame."""

    lines: list[_Line]
    frame: list[TextLine]
    elements: list[Element]


@dataclass(slots=True)
class _Layer:
    """The page's text: lines that run as most do, then those that run otherwise."""

    groups: list[_Group]
    overlapping: bool

    @classmethod
    def of(cls, content: Content, glyphs: Sequence[Glyph], clock: Clock) -> _Layer:
        by_way: dict[float, list[tuple[int, Glyph]]] = {}
        for number, glyph in enumerate(glyphs):
            by_way.setdefault(_way(glyph.run.angle), []).append((number, glyph))
        ways = sorted(by_way, key=lambda way: (way % 90 != 0, -len(by_way[way])))
        groups: list[_Group] = []
        overlapping = False
        for way in ways:
            lines = _lines_of(_marks(by_way[way], way, content, clock))
            if len(lines) > MAX_LINES:
                raise TooMuch(f"the page has more than {MAX_LINES:,} pieces of text")
            lines = [line for line in map(_compose, lines) if line.text]
            lines, crossed = _without_twins(lines, clock)
            overlapping = overlapping or crossed
            rules = [turned for box in content.rules if (turned := _turned(box, way, content)) is not None]
            parts = [[line for line in lines if line.vertical == vertical] for vertical in (False, True)]
            if sum(len(line.text) for line in parts[1]) < sum(len(line.text) for line in parts[0]):
                groups += [_arranged(part, rules, clock) for part in parts if part]
            else:
                groups.append(_arranged(lines, rules, clock))
        return cls(groups, overlapping)

    @property
    def lines(self) -> list[_Line]:
        return [line for group in self.groups for line in group.lines]

    def why(self) -> str:
        """Why these lines are not to be believed; empty if they are."""
        if self.overlapping:
            return "its text overlaps itself"
        return _implausible("\n".join(line.text for line in self.lines))

    def written(
        self, options: ReadOptions, across: float, down: float, size: tuple[int, int]
    ) -> tuple[str, list[dict[str, Any]]]:
        """Text and blocks, as an engine gives them; `across` and `down` are pixels per point."""

        def block(label: str, text: str, glyphs: Iterable[Glyph]) -> dict[str, Any]:
            boxes = [glyph.box for glyph in glyphs]
            x1, y1 = min(box[0] for box in boxes) * across, min(box[1] for box in boxes) * down
            x2, y2 = max(box[2] for box in boxes) * across, max(box[3] for box in boxes) * down
            left, top = min(max(0, math.floor(x1)), size[0] - 1), min(max(0, math.floor(y1)), size[1] - 1)
            right, bottom = max(left + 1, min(size[0], math.ceil(x2))), max(top + 1, min(size[1], math.ceil(y2)))
            return {"label": label, "text": text, "box": [left, top, right, bottom], "score": None}

        chunks: list[str] = []
        blocks: list[dict[str, Any]] = []
        if options.mode == "find":
            lines = self.lines
            frame = [line for group in self.groups for line in group.frame]
            order: list[int] = []
            for group in self.groups:
                start = len(order)
                order += [start + n for element in group.elements for n in element.lines]
            for hit in find_term(frame, options.find_term, order):
                for span in hit.spans:
                    line = lines[span.line]
                    glyphs = line.glyphs_of(span.start, span.stop)
                    blocks.append(block(options.find_term, line.text[span.start : span.stop], glyphs))
                chunks.append(" ".join(lines[span.line].text for span in hit.spans))
            return "\n".join(chunks), blocks
        for group in self.groups:
            write = to_markdown if options.mode == "document" else to_text
            chunks.append(write(group.frame, group.elements))
            blocks += [
                block(element.kind if options.mode == "document" else "line", group.lines[n].text, group.lines[n].glyphs)
                for element in group.elements
                for n in element.lines
            ]
        return "\n\n".join(chunk for chunk in chunks if chunk), blocks


def _way(angle: float) -> float:
    """The direction in which text runs: a quarter of a turn where it is nearly one."""
    quarter = round(angle / 90) * 90
    return quarter % 360 if abs(angle - quarter) <= SLANT_DEG else round(angle) % 360


def _turned(box: Box, way: float, content: Content) -> Box | None:
    """A box in the frame in which text of this direction runs to the right; None for a slanted one."""
    x1, y1, x2, y2 = box
    width, height = content.width, content.height
    if way == 0:
        return box
    if way == 90:
        return y1, width - x2, y2, width - x1
    if way == 180:
        return width - x2, height - y2, width - x1, height - y1
    if way == 270:
        return height - y2, x1, height - y1, x2
    return None


def _marks(glyphs: Sequence[tuple[int, Glyph]], way: float, content: Content, clock: Clock) -> list[_Mark]:
    """Glyphs of one direction in their frame, without those that show nothing."""
    heights: dict[int, float] = {}
    for _, glyph in glyphs:
        x1, y1, x2, y2 = glyph.box
        ink = y2 - y1 if way in (0, 180) else x2 - x1
        if glyph.text.isalnum():
            heights[id(glyph.run)] = max(ink, heights.get(id(glyph.run), 0.0))
    cos, sin = math.cos(math.radians(way)), math.sin(math.radians(way))
    marks = []
    for number, glyph in glyphs:
        clock.tick()
        text = _clean(glyph)
        if not text:
            continue
        size, ink = glyph.run.size, heights.get(id(glyph.run), 0.0)
        if ink > 0 and way % 90 == 0 and not ink / 2 <= size <= 8 * ink:
            size = 1.2 * ink  # fonts made of drawings have sizes that mean nothing
        size = max(size, 0.1)
        box = _turned(glyph.box, way, content)
        _, base, *_ = _turned((glyph.x, glyph.y, glyph.x, glyph.y), way, content) or (0, 0)
        if box is None:
            left, base = glyph.x * cos + glyph.y * sin, glyph.y * cos - glyph.x * sin
            box = (left, base - size, left + size / 2, base)
        marks.append(_Mark(glyph, text, box[0], max(box[2], box[0] + size / 20), base, size, number))
    return _with_combined(marks)


def _with_combined(marks: list[_Mark]) -> list[_Mark]:
    """Marks that have no place of their own put to the letter before or after them that they stand at."""
    kept: list[_Mark] = []
    waiting: list[_Mark] = []
    for mark in marks:
        if not unicodedata.combining(mark.text[0]):
            kept.append(mark)
            for accent in waiting:
                kept[-1] = _both(accent, kept[-1])
            waiting = []
        elif kept and _aside(mark, kept[-1]) < COMBINED_EM * kept[-1].size and abs(mark.base - kept[-1].base) < mark.size:
            kept[-1] = _both(mark, kept[-1])
        else:
            waiting.append(mark)
    return [*kept, *waiting]


def _both(accent: _Mark, letter: _Mark) -> _Mark:
    """A letter with its accent."""
    a, b = letter.glyph.box, accent.glyph.box
    box = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    text = unicodedata.normalize("NFC", letter.text + ACCENTS.get(accent.text, accent.text))
    return replace(letter, text=text, glyph=replace(letter.glyph, box=box))


def _clean(glyph: Glyph) -> str:
    """A glyph's text without ligatures and marks that are not seen; U+FFFD where it is not known."""
    text = UNSEEN.sub("", glyph.text)
    if text in BULLETS:
        return "•"
    if not glyph.known or _is_strange(text):
        return "\ufffd"
    return LIGATURES.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)


def _without_twins(lines: list[_Line], clock: Clock) -> tuple[list[_Line], bool]:
    """Lines without the copies that make a shadow, and whether too much text stands on other text."""
    boxes = [(line.left, line.base - ASCENT * line.size, line.right, line.base + DESCENT * line.size) for line in lines]
    tops = sorted(range(len(lines)), key=lambda n: boxes[n][1])
    open_lines: list[int] = []
    twins: set[int] = set()
    crossed: set[int] = set()
    for n in tops:
        left, top, right, bottom = boxes[n]
        open_lines = [k for k in open_lines if boxes[k][3] > top]
        for k in open_lines:
            clock.tick()
            wide = min(right, boxes[k][2]) - max(left, boxes[k][0])
            high = min(bottom, boxes[k][3]) - max(top, boxes[k][1])
            if wide <= 0 or lines[n].vertical or lines[k].vertical:
                continue
            near = TWIN_EM * lines[n].size
            if lines[n].text == lines[k].text and max(abs(left - boxes[k][0]), abs(top - boxes[k][1])) < near:
                twins.add(max(n, k))
            elif wide * high > (min(right - left, boxes[k][2] - boxes[k][0]) * min(bottom - top, boxes[k][3] - boxes[k][1])) / 2:
                crossed.add(min(n, k, key=lambda n: len(lines[n].text)))
        open_lines.append(n)
    crossed -= twins
    over = sum(len(lines[n].text) for n in crossed)
    everything = sum(len(line.text) for line in lines)
    return [line for n, line in enumerate(lines) if n not in twins], over > OVERLAP_SHARE * everything + TOLERATED


def _arranged(lines: list[_Line], rules: Sequence[Box], clock: Clock) -> _Group:
    """Lines in reading order, tables found by their rules or by how cells stand under each other."""
    lines = _cut_at_rules(lines, rules, clock)
    mirrored = sum(_direction(char) == "R" for line in lines for char in line.text)
    mirrored = mirrored > sum(_direction(char) == "L" for line in lines for char in line.text)
    lines = [
        line.part(piece.start, piece.stop)
        for piece in split_at_gutters([line.framed(mirrored) for line in lines])
        for line in (lines[piece.line],)
    ]
    lines = _with_list_marks([line for line in lines if line.text], rules)
    frame = [line.framed(mirrored) for line in lines]
    if mirrored:
        rules = [(-x2, y1, -x1, y2) for x1, y1, x2, y2 in rules]
    return _Group(lines, frame, _with_bold_titles(lines, _with_tables(frame, rules, clock)))


def _with_list_marks(lines: list[_Line], rules: Sequence[Box]) -> list[_Line]:
    """Bullets and numbers put before the text that they stand at, which may be several spaces away."""
    marks = [n for n, line in enumerate(lines) if not line.vertical and LIST_MARK.fullmatch(line.text)]
    if not marks:
        return lines
    by_base = sorted(range(len(lines)), key=lambda n: lines[n].base)
    bases = [lines[n].base for n in by_base]
    gone: set[int] = set()
    for n in marks:
        mark = lines[n]
        base, size = mark.base, mark.size
        near = by_base[bisect_right(bases, base - MARK_LEVEL_EM * size) : bisect_right(bases, base + MARK_LEVEL_EM * size)]
        after = [k for k in near if k != n and k not in gone and not lines[k].vertical and lines[k].left > mark.left]
        k = min(after, key=lambda k: lines[k].left, default=n)
        if k == n or LIST_MARK.fullmatch(lines[k].text) or lines[k].left - mark.right > MARK_GAP_EM * lines[k].size:
            continue
        if any(mark.right <= (x1 + x2) / 2 <= lines[k].left and y1 < base < y2 for x1, y1, x2, y2 in rules):
            continue
        line = lines[k]
        at = [*mark.at, -1, *(i + len(mark.marks) if i >= 0 else -1 for i in line.at)]
        lines[k] = _Line([*mark.marks, *line.marks], False, f"{mark.text} {line.text}", at)
        gone.add(n)
    return [line for n, line in enumerate(lines) if n not in gone]


def _with_bold_titles(lines: Sequence[_Line], elements: Sequence[Element]) -> list[Element]:
    """Short bold lines above text that is not bold are titles, too, below those that are larger."""
    bold = [line.bold for line in lines]
    if sum(len(line.text) for line, fat in zip(lines, bold, strict=True) if fat) > BOLD_SHARE * sum(
        len(line.text) for line in lines
    ):
        return list(elements)
    level = max((element.level for element in elements if element.kind == "title"), default=1) + 1
    out: list[Element] = []
    for element in elements:
        count = 0
        while element.kind in ("line", "list") and count < len(element.rows) and all(bold[n] for n in element.rows[count][0]):
            count += 1
        text = " ".join(lines[n].text for row in element.rows[:count] for n in row[0])
        wide = max((lines[n].right for n in element.lines), default=0.0)
        if (
            0 < count <= BOLD_ROWS
            and len(text) <= BOLD_CHARS
            and text[-1] not in ".,;:-"
            and any(char.isalpha() for char in text)
            and (count == len(element.rows) or lines[element.rows[count - 1][0][-1]].right < wide - BOLD_ROOM_EM * lines[0].size)
            and all(len(row[0]) == 1 for row in element.rows[:count])
        ):
            out.append(replace(element, kind="title", rows=element.rows[:count], level=level))
            if count < len(element.rows):
                out.append(replace(element, rows=element.rows[count:]))
        else:
            out.append(element)
    return out


# ---------------------------------------------------------------- tables


def _cut_at_rules(lines: Sequence[_Line], rules: Sequence[Box], clock: Clock) -> list[_Line]:
    """Lines cut where a vertical rule stands between two of their characters."""
    upright = sorted(box for box in rules if box[3] - box[1] > box[2] - box[0])
    lefts = [box[0] for box in upright]
    out: list[_Line] = []
    for line in lines:
        first, last = bisect_right(lefts, line.left), bisect_right(lefts, line.right)
        size, base = line.size, line.base
        top, bottom = base - ASCENT * size, base + DESCENT * size
        cuts: set[int] = set()
        for x1, y1, x2, y2 in upright[first:last]:
            clock.tick()
            if min(bottom, y2) - max(top, y1) < CUT_SHARE * size or line.vertical:
                continue
            for n in range(1, len(line.text)):
                a, b = line.at[n - 1], line.at[n]
                if b < 0:
                    continue
                if a < 0:
                    a = line.at[n - 2]
                sides = sorted((line.marks[a], line.marks[b]), key=lambda mark: mark.middle)
                if sides[0].right <= x2 + size / 10 and x1 - size / 10 <= sides[1].left:
                    cuts.add(n)
        ends = [0, *sorted(cuts), len(line.text)]
        out += [line.part(start, stop) for start, stop in pairwise(ends)]
    return [line for line in out if line.text]


@dataclass(frozen=True, slots=True)
class _Grid:
    """Rules that cross: the places of its columns and rows, and which pieces of its borders are drawn."""

    xs: list[float]
    ys: list[float]
    across: list[tuple[float, float, float]]
    """Level rules: height, beginning, end."""
    down: list[tuple[float, float, float]]

    def holds(self, box: Box) -> bool:
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        return self.xs[0] <= x <= self.xs[-1] and self.ys[0] <= y <= self.ys[-1]


def _with_tables(frame: Sequence[TextLine], rules: Sequence[Box], clock: Clock) -> list[Element]:
    """The elements of the page; lines in a ruled table go into its cells."""
    taken: set[int] = set()
    tables: list[tuple[Box, Element]] = []
    for grid in _grids(rules, clock):
        inside = [n for n, line in enumerate(frame) if n not in taken and grid.holds(line.box)]
        rows = _cells(grid, inside, frame)
        if rows is not None:
            taken.update(inside)
            tables.append(((grid.xs[0], grid.ys[0], grid.xs[-1], grid.ys[-1]), Element("table", rows)))
    if not tables:
        return arrange(frame)
    rest = [n for n in range(len(frame)) if n not in taken]
    # A table keeps its place as if it were one line.
    stand_ins = [TextLine(STAND_IN, box) for box, _ in tables]
    elements: list[Element] = []
    for element in arrange([*(frame[n] for n in rest), *stand_ins]):
        if all(n < len(rest) for n in element.lines):
            elements.append(_renumbered(element, rest))
        elif element.kind == "table":
            return arrange(frame)  # it is a part of a larger one
        else:
            elements += _around(element, rest, tables)
    return elements


def _renumbered(element: Element, rest: Sequence[int]) -> Element:
    rows = tuple(tuple(tuple(rest[n] for n in cell) for cell in row) for row in element.rows)
    return replace(element, rows=rows)


def _around(element: Element, rest: Sequence[int], tables: Sequence[tuple[Box, Element]]) -> Iterator[Element]:
    """A paragraph that holds stand-ins, as what is before, between and after the tables."""
    rows: list[tuple[tuple[int, ...], ...]] = []
    for row in element.rows:
        found = [n - len(rest) for n in row[0] if n >= len(rest)]
        if (own := tuple(n for n in row[0] if n < len(rest))):
            rows.append((own,))
        if found:
            if rows:
                yield _renumbered(replace(element, rows=tuple(rows)), rest)
                rows = []
            for n in found:
                yield replace(tables[n][1], region=element.region)
    if rows:
        yield _renumbered(replace(element, rows=tuple(rows)), rest)


def _grids(rules: Sequence[Box], clock: Clock) -> Iterator[_Grid]:
    """Rules that touch each other, where they make at least two rows of two cells."""
    level = [((y1 + y2) / 2, x1, x2) for x1, y1, x2, y2 in rules if x2 - x1 >= y2 - y1]
    upright = [((x1 + x2) / 2, y1, y2) for x1, y1, x2, y2 in rules if x2 - x1 < y2 - y1]
    across, down = _merged(level), _merged(upright)
    if not across or not down or len(across) * len(down) > MAX_CROSSINGS:
        return
    parent = list(range(len(across) + len(down)))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    for i, (y, x1, x2) in enumerate(across):
        for k, (x, y1, y2) in enumerate(down):
            clock.tick()
            if x1 - TOUCH_PT <= x <= x2 + TOUCH_PT and y1 - TOUCH_PT <= y <= y2 + TOUCH_PT:
                parent[root(i)] = root(len(across) + k)
    groups: dict[int, tuple[list[tuple[float, float, float]], list[tuple[float, float, float]]]] = {}
    for n in range(len(parent)):
        found = groups.setdefault(root(n), ([], []))
        if n < len(across):
            found[0].append(across[n])
        else:
            found[1].append(down[n - len(across)])
    for level, upright in groups.values():
        if not level or not upright:
            continue
        xs = _places_of([*(x for x, _, _ in upright), min(a for _, a, _ in level), max(b for _, _, b in level)])
        ys = _places_of([*(y for y, _, _ in level), min(a for _, a, _ in upright), max(b for _, _, b in upright)])
        if 2 < len(xs) <= MAX_GRID and 2 < len(ys) <= MAX_GRID:
            yield _Grid(xs, ys, level, upright)


def _merged(rules: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Parallel rules at one place put together where they touch."""
    merged: list[tuple[float, float, float]] = []
    places = _places_of([at for at, _, _ in rules])
    by_place: dict[float, list[tuple[float, float]]] = {}
    for at, start, end in rules:
        by_place.setdefault(min(places[max(0, bisect_right(places, at) - 1) :][:2], key=lambda place: abs(place - at)), []).append((start, end))
    for at, spans in sorted(by_place.items()):
        spans.sort()
        start, end = spans[0]
        for a, b in spans[1:]:
            if a <= end + TOUCH_PT:
                end = max(end, b)
            else:
                merged.append((at, start, end))
                start, end = a, b
        merged.append((at, start, end))
    return merged


def _places_of(values: Sequence[float]) -> list[float]:
    """Values, those that are close to each other as one."""
    places: list[list[float]] = []
    for value in sorted(values):
        if places and value - places[-1][-1] <= SNAP_PT:
            places[-1].append(value)
        else:
            places.append([value])
    return [sum(place) / len(place) for place in places]


def _cells(grid: _Grid, inside: Sequence[int], frame: Sequence[TextLine]) -> tuple[tuple[tuple[int, ...], ...], ...] | None:
    """The lines in the cells of the grid, or None where they do not make a table."""
    columns, rows = len(grid.xs) - 1, len(grid.ys) - 1
    owner = _owners(grid)
    table: list[list[list[int]]] = [[[] for _ in range(columns)] for _ in range(rows)]
    for n in inside:
        x1, y1, x2, y2 = frame[n].box
        row = min(max(bisect_right(grid.ys, (y1 + y2) / 2) - 1, 0), rows - 1)
        column = min(max(bisect_right(grid.xs, (x1 + x2) / 2) - 1, 0), columns - 1)
        row, column = owner[row][column]
        table[row][column].append(n)
    owners = {place for line in owner for place in line}
    filled = sum(bool(table[row][column]) for row, column in owners)
    if filled < FILLED_SHARE * len(owners) or filled < 3:
        return None
    split = [part for row in table for part in _entries(row, frame)]
    split = [row for row in split if any(row)]
    used = [c for c in range(columns) if any(row[c] for row in split)]
    if len(split) < 2 or len(used) < 2:
        return None
    return tuple(
        tuple(tuple(n for line in _rows_of(row[c], frame) for n in line) for c in used) for row in split
    )


def _owners(grid: _Grid) -> list[list[tuple[int, int]]]:
    """For each cell of the grid the first one of those that it is one with: no border is drawn between them."""
    columns, rows = len(grid.xs) - 1, len(grid.ys) - 1
    owner = [[(r, c) for c in range(columns)] for r in range(rows)]

    def drawn(rules: Iterable[tuple[float, float, float]], at: float, start: float, end: float) -> bool:
        covered = sum(max(0.0, min(end, b) - max(start, a)) for place, a, b in rules if abs(place - at) <= SNAP_PT)
        return covered >= BORDER_SHARE * (end - start)

    for r in range(rows):
        for c in range(1, columns):
            if not drawn(grid.down, grid.xs[c], grid.ys[r], grid.ys[r + 1]):
                owner[r][c] = owner[r][c - 1]
    for r in range(1, rows):
        for c in range(columns):
            if not drawn(grid.across, grid.ys[r], grid.xs[c], grid.xs[c + 1]):
                owner[r][c] = owner[r - 1][c]
    return owner


def _rows_of(lines: Iterable[int], frame: Sequence[TextLine]) -> list[list[int]]:
    """The lines of a cell from top to bottom, each row from left to right."""
    rows: list[list[int]] = []
    for n in sorted(lines, key=lambda n: (frame[n].box[3], frame[n].box[0])):
        if rows and frame[n].box[3] - frame[rows[-1][0]].box[3] <= (frame[n].box[3] - frame[n].box[1]) / 2:
            rows[-1].append(n)
        else:
            rows.append([n])
    return [sorted(row, key=lambda n: frame[n].box[0]) for row in rows]


def _entries(row: list[list[int]], frame: Sequence[TextLine]) -> list[list[list[int]]]:
    """A row of cells as several, where its columns are ruled and its rows are not.

    Then the cells hold as many lines, side by side, and one of them is figures.
    """
    by_cell = [_rows_of(cell, frame) for cell in row]
    several = [lines for lines in by_cell if lines]
    count = len(several[0]) if several else 0
    if count < 2 or len(several) < 2 or any(len(lines) != count for lines in several):
        return [row]
    heights = [[frame[line[0]].box[3] for line in lines] for lines in several]
    size = frame[several[0][0][0]].box[3] - frame[several[0][0][0]].box[1]
    level = all(max(places) - min(places) <= size / 2 for places in zip(*heights, strict=True))
    figures = any(all(any(char.isdigit() for n in line for char in frame[n].text) for line in lines) for lines in several)
    if not (level and figures):
        return [row]
    return [[lines[k] if lines else [] for lines in by_cell] for k in range(count)]

"""What a PDF page's own text says, as the engines would have read it; and whether that can be believed.

A page is believed when what a person sees on it is what its text says: the characters are known,
visible and apart, and no picture, drawing or form field holds text of its own. Everything else is
left to recognition, with the reason in words. Text that a person does not see (invisible, painted
over, as pale as the page, outside of it) is never given back.

Pure Python over `pdf_content.py`; the page is never drawn. Lengths are in points of the upright
page, but for the boxes that leave this module: those are pixels of the page as it would be drawn.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from ..engines.base import ReadOptions
from ..results.find import find_term
from ..results.reading_order import (
    LIST_MARK,
    Element,
    TextLine,
    rows_around,
    split_at_gutters,
    to_markdown,
    to_text,
)
from .pdf_content import Area, Box, Clock, Colour, Content, Glyph, TooMuch, read_content
from .ruled_tables import arrange_with_rules, cut_at_rules
from .text_lines import IDEOGRAPH, Line, Mark, is_strange, lines_of, marks_of, turned

__all__ = ["read_layer"]

MAX_LINES: Final = 12_000  # a sheet of a spreadsheet has 5,000 cells

# Sight.
INVISIBLE: Final = (3, 7)  # text rendering modes of PDF: nothing is painted
WHITE: Final = (255, 255, 255)
FAINT: Final = 20  # of 255: text with less alpha is not seen
SAME_COLOUR: Final = 24  # of 255, in every channel: text that differs less from its ground is not seen
READABLE_SHARE: Final = 0.25  # of a character's width or height that is not cut off
MAX_COVERS: Final = 400  # areas that may hide text, the largest ones

PICTURES_REMARK: Final = "pictures were not read; text_layer=ignore reads them, too."

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

# Lines. Lengths are shares of the size of the text.
SLANT_DEG: Final = 8.0  # what leans less counts as straight
OVERLAP_SHARE: Final = 0.1  # of the characters may stand on others
TWIN_EM: Final = 0.25  # how far the copies of a shadow lie apart
DOT_REACH_PT: Final = 40.0  # from a drawn list mark down to the baseline of its line
DOT_HIGH_EM: Final = 0.7
DOT_EM: Final = (0.12, 0.75)  # how large it is
DOT_GAP_EM: Final = 3.0

VOWEL_LETTERS: Final = {
    "LATIN": frozenset("aeiouyæøœıəɔɛ"),
    "CYRILLIC": frozenset("аеёиоуыэюяіїєѣѳүөұәў"),
    "GREEK": frozenset("αεηιουω"),
}


def read_layer(
    document: Any, number: int, path: str, size: tuple[int, int], options: ReadOptions, ask: Callable[[], None]
) -> dict[str, Any]:
    """Page `number`, counted from 0, of an open pypdfium2 document.

    `size` is that of the drawn page in pixels; the mode is one for which text is enough. Returns
    `text`, `blocks`, `usable`, `why` and `remark`.
    """
    try:
        clock = Clock(ask)
        content = read_content(document, number, path, clock)
        sight = _Sight.of(content, clock)
        if why := sight.why():
            return _unusable(why)
        layer = _Layer.of(content, sight.shown, clock)
        if why := layer.why() or _missing_fields(content, layer, clock):
            return _unusable(why)
        text, blocks = layer.written(options, size[0] / content.width, size[1] / content.height, size)
    except TooMuch as exc:
        return _unusable(str(exc))
    remark = PICTURES_REMARK if sight.pictures > SMALL_PICTURE else ""
    return {"text": text, "blocks": blocks, "usable": True, "why": "", "remark": remark}


def _unusable(why: str) -> dict[str, Any]:
    """Text that is not believed is not given either: what no person sees could speak to an agent."""
    return {"text": "", "blocks": [], "usable": False, "why": why, "remark": ""}


# ---------------------------------------------------------------- what is seen


@dataclass(slots=True)
class _Sight:
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
    def of(cls, content: Content, clock: Clock) -> _Sight:
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
        x, y = _middle(glyph)
        for n in range(bisect_right(self.solid_orders, glyph.run.order), len(self.solid)):
            self.clock.tick()
            if _inside(self.solid[n].box, x, y):
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
        x, y = _middle(glyph)
        for n in range(bisect_left(self.orders, glyph.run.order) - 1, -1, -1):
            self.clock.tick()
            ground = self.every[n]
            if _inside(ground.box, x, y):
                return ground.exact and ground.opaque and ground.colour is not None and _alike(ground.colour, colour)
        return _alike(colour, WHITE)

    def is_on_picture(self, glyph: Glyph) -> bool:
        x, y = _middle(glyph)
        for area in self.every:
            self.clock.tick()
            if area.picture and _inside(area.box, x, y):
                return True
        return False


def _middle(glyph: Glyph) -> tuple[float, float]:
    x1, y1, x2, y2 = glyph.box
    return (x1 + x2) / 2, (y1 + y2) / 2


def _inside(box: Box, x: float, y: float) -> bool:
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


# ---------------------------------------------------------------- what is known


def _garbled(shown: Sequence[Glyph]) -> str:
    """Why the characters are not those that are seen; empty if they are."""
    unknown = sum(not glyph.known for glyph in shown)
    strange = sum(is_strange(glyph.text) for glyph in shown if glyph.known)
    least = max(GARBLED_LEAST, GARBLED_SHARE * len(shown))
    if unknown + strange > least:
        return f"the characters are garbled, {'no Unicode map' if unknown >= strange else 'not of any language'}"
    return ""


def _implausible(text: str) -> str:
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


def _missing_fields(content: Content, layer: _Layer, clock: Clock) -> str:
    """Whether what was typed into a form is not in the text: then it is only drawn."""
    if not content.fields:
        return ""
    glyphs = [(glyph.text, *_middle(glyph)) for line in layer.lines for glyph in line.glyphs]
    for entry in content.fields:
        x1, y1, x2, y2 = entry.box
        around = (x1 - 2, y1 - 2, x2 + 2, y2 + 2)
        inside = ""
        for text, x, y in glyphs:
            clock.tick()
            if _inside(around, x, y):
                inside += text
        wanted = Counter(char for char in entry.text if char.isalnum())
        if (wanted - Counter(unicodedata.normalize("NFKC", inside))).total() > 0.1 * wanted.total():
            return "a form field's text is not in it"
    return ""


# ---------------------------------------------------------------- the page


@dataclass(slots=True)
class _Group:
    """Lines that run in one direction, in reading order of their own frame."""

    lines: list[Line]
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
            lines = lines_of(marks_of(by_way[way], way, content, clock), clock)
            if len(lines) > MAX_LINES:
                raise TooMuch(f"the page has more than {MAX_LINES:,} pieces of text")
            lines, crossed = _without_twins(lines, clock)
            overlapping = overlapping or crossed
            if way == 0:
                lines += _dots(lines, content.dots)
            rules = [
                side for box in content.rules if (side := turned(box, way, content.width, content.height)) is not None
            ]
            parts = [[line for line in lines if line.vertical == vertical] for vertical in (False, True)]
            if sum(len(line.text) for line in parts[1]) < sum(len(line.text) for line in parts[0]):
                groups += [_arranged(part, rules, clock) for part in parts if part]
            else:
                groups.append(_arranged(lines, rules, clock))
        return cls(groups, overlapping)

    @property
    def lines(self) -> list[Line]:
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
        for group in self.groups:
            if options.mode == "find":
                order = [n for element in group.elements for n in element.lines]
                hits = find_term(group.frame, options.find_term, order)
                for span in (span for hit in hits for span in hit.spans):
                    line = group.lines[span.line]
                    glyphs = line.glyphs_of(span.start, span.stop)
                    blocks.append(block(options.find_term, line.text[span.start : span.stop], glyphs))
                spans = [[span.line for span in hit.spans] for hit in hits]
                chunks.append(rows_around(group.frame, group.elements, spans))
                continue
            markdown = options.mode == "document"
            chunks.append((to_markdown if markdown else to_text)(group.frame, group.elements))
            for element in group.elements:
                for line in (group.lines[n] for n in element.lines):
                    blocks.append(block(element.kind if markdown else "line", line.text, line.glyphs))
        return ("\n" if options.mode == "find" else "\n\n").join(chunk for chunk in chunks if chunk), blocks


def _way(angle: float) -> float:
    """The direction in which text runs: a quarter of a turn where it is nearly one."""
    quarter = round(angle / 90) * 90
    return quarter % 360 if abs(angle - quarter) <= SLANT_DEG else round(angle) % 360


def _without_twins(lines: list[Line], clock: Clock) -> tuple[list[Line], bool]:
    """Lines without the copies that make a shadow, and whether too much text stands on other text."""
    boxes = [line.box for line in lines]
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
            elif (
                wide * high
                > (min(right - left, boxes[k][2] - boxes[k][0]) * min(bottom - top, boxes[k][3] - boxes[k][1])) / 2
            ):
                crossed.add(min(n, k, key=lambda n: len(lines[n].text)))
        open_lines.append(n)
    crossed -= twins
    over = sum(len(lines[n].text) for n in crossed)
    everything = sum(len(line.text) for line in lines)
    return [line for n, line in enumerate(lines) if n not in twins], over > OVERLAP_SHARE * everything + TOLERATED


def _dots(lines: Sequence[Line], dots: Sequence[Box]) -> list[Line]:
    """List marks that are drawn, not written, as lines of their own before the lines that they stand at."""
    level = [line for line in lines if not line.vertical]
    by_base = sorted(range(len(level)), key=lambda n: level[n].base)
    bases = [level[n].base for n in by_base]
    found: dict[int, Line] = {}
    for dot in dots:
        left, top, right, bottom = dot
        y = (top + bottom) / 2
        near = by_base[bisect_right(bases, y) : bisect_right(bases, y + DOT_REACH_PT)]
        beside = [n for n in near if y >= level[n].base - DOT_HIGH_EM * level[n].size]
        if any(level[n].left < right and level[n].right > left - level[n].size for n in beside):
            continue  # between two words, or a part of a drawing
        n = min((n for n in beside if level[n].left >= right), key=lambda n: level[n].left, default=-1)
        if n < 0 or n in found:
            continue
        line = level[n]
        low, high = (share * line.size for share in DOT_EM)
        if (
            low <= bottom - top <= high
            and line.left - right <= DOT_GAP_EM * line.size
            and not LIST_MARK.match(line.text)
        ):
            glyph = Glyph("•", dot, left, bottom, line.marks[0].glyph.run)
            found[n] = Line([Mark(glyph, "•", left, right, line.base, line.size, -1)], False, "•", [0])
    return list(found.values())


def _arranged(lines: list[Line], rules: Sequence[Box], clock: Clock) -> _Group:
    """Lines in reading order, tables found by their rules or by how cells stand under each other."""
    lines = cut_at_rules(lines, rules, clock)
    pieces = split_at_gutters([line.framed() for line in lines])
    parts = [lines[piece.line].part(piece.start, piece.stop) for piece in pieces]
    lines = [part for part in parts if part is not None]
    frame = [line.framed() for line in lines]
    return _Group(lines, frame, arrange_with_rules(frame, rules, clock))

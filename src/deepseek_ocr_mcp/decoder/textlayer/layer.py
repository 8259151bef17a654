"""Gives a PDF page's own text as a reading, and says which part of the page the text does not hold.

The text holds the characters that a person sees on the page, and no other (`visibility.py`). An engine reads the other
text of the page, and the characters that are in doubt (`trust.py`), from a picture of the page without the certain
characters. `read_layer` puts the lines of the engine in their places.

Lengths are in points of the upright page, but for the boxes that leave this module: those are pixels of the page as
it would be drawn.
"""

from __future__ import annotations

import contextlib
import gc
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import median
from typing import Any, Final

import numpy as np

from ...layout.grids import arrange_with_rules
from ...layout.gutters import split_at_gutters
from ...layout.lines import LIST_MARK, Element, Quad, TextLine, WordPlace
from ...layout.reading import PIECE, Reading, Section, quad_of_box, rectangle_around
from .cells import cut_at_columns
from .checkboxes import with_check_boxes
from .content import Box, Clock, Content, Glyph, Run, TooMuch, is_within, look
from .drawing import activate
from .drawn_text import LevelText, drawn_text
from .forms import Button, Opened, opened
from .homoglyphs import given_one_alphabet
from .lines import TICKED, UNTICKED, LayerLine, Mark, lines_of, marks_of, turned
from .merging import ReadLine, is_readable, merged, not_drawn_twice
from .shapes import belied
from .sideways import with_sideways
from .struck import struck_words
from .tables import SEEN, Ruling, cut_at_rules, visible, without_frames
from .trust import SMALL_PICTURE, Verdict, implausible, judged, odd_within_words
from .visibility import Sight, seen

__all__ = ["PagePlace", "leave_unread", "read_layer"]

MAX_LINES: Final = 12_000  # a sheet of a spreadsheet has 5,000 cells
QUOTED_CHARS: Final = 200  # of a note, in a remark
QUOTED_TEXTS: Final = 5
PICTURES_REMARK: Final = "pictures were not read; text_layer=ignore reads them, too."

MARGIN_PT: Final = 30.0  # around what is to be read: an engine finds the edges of a page, not of a letter

SLANT_DEG: Final = 8.0  # what leans less counts as straight
MINUS_PT: Final = (2.0, 12.0)  # how long a short rule is that may be a minus sign …
MINUS_HIGH_PT: Final = 2.5
MINUS_MOST: Final = 200  # more of them are a drawing
# … and of the size of the figure behind it:
MINUS_EM: Final = (0.3, 0.8)
MINUS_GAP_EM: Final = (-0.02, 0.3)
MINUS_UP: Final = (0.15, 0.5)  # its middle over the baseline
TOUCH_PT: Final = 1.0  # so near to another rule it is a part of a drawing
DOT_REACH_PT: Final = 40.0  # from a drawn list mark down to the baseline of its line
# Of the size of the text:
DOT_HIGH_EM: Final = 0.7
DOT_EM: Final = (0.12, 0.75)  # how large it is
DOT_GAP_EM: Final = 3.0


@dataclass(frozen=True, slots=True)
class PagePlace:
    """A page of an open document."""

    document: Any
    """Of pypdfium2."""
    number: int
    """Counted from 0."""
    path: str
    """The document's file."""
    size: tuple[int, int]
    """Width and height of the drawn page, pixels."""
    password: str = field(default="", repr=False)
    """Of the document, where it needs one."""


def read_layer(
    place: PagePlace, ask: Callable[[], None], read: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Take the text of a page from the file, and merge it with what an engine read.

    Args:
        ask: raises when nobody waits any more.
        read: lines that an engine found in the picture of the page without its certain text, as blocks of an answer
            in pixels of the page. None: it was not asked.

    Returns `reading` (as `Reading.to_dict` gives it; None where the text is not usable), `usable`, `partial` (the text
    is good, but not all that the page shows), `why` (it is not usable, or not all) and `remark`.
    """
    clock = Clock(ask)
    try:
        with _uncollected(), opened(place.document, place.number, place.path, clock, place.password) as found:
            page = _Examined.of(found, clock)
            if page.verdict.is_hopeless:
                return _unusable(page.verdict.why)
            layer = _Layer.of(page, clock)
            if why := layer.why() or _missing_fields(found, layer, clock):
                return _unusable(why)
            remarks = [PICTURES_REMARK] if page.verdict.pictures > SMALL_PICTURE and read is None else []
            if read is not None:
                across, down = page.content.width / place.size[0], page.content.height / place.size[1]
                layer = layer.with_read([ReadLine.of(line, across, down) for line in read], page, clock)
            remarks += [
                *layer.remarks(),
                *_changed(page),
                *_layered(found),
                *_undrawn(found),
                *_struck(found, page, layer, clock),
                *_commented(found),
                *(_unread(found, page, layer) if read is not None else []),
            ]
            sections = _LinePlaces(page.content, place.size).sections(layer.groups(clock))
    except TooMuch as exc:
        return _unusable(str(exc))
    partial = bool(page.verdict.why) and read is None
    return {
        "reading": Reading(*place.size, sections, is_mixed=read is not None).to_dict(),
        "usable": not partial,
        "partial": partial,
        "why": page.verdict.why if partial else "",
        "remark": " ".join(remarks),
    }


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Spare the search for cycles, of which a page makes none: its many small objects cost 3 % of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _changed(page: _Examined) -> list[str]:
    """A remark on letters that look like others."""
    if not page.changed:
        return []
    many = "1 letter is" if page.changed == 1 else f"{page.changed} letters are"
    return [f"{many} of another alphabet in the file; given as the letters of their words, which look the same."]


def _layered(found: Opened) -> list[str]:
    """A remark on annotations of layers."""
    if not found.layered:
        return []
    many = "1 annotation belongs to a layer" if found.layered == 1 else f"{found.layered} annotations belong to layers"
    return [f"{many} of the document; other programs hide the text where the layer is switched off."]


def _undrawn(found: Opened) -> list[str]:
    """A remark on the notes that are not in the picture either."""
    if not found.undrawn:
        return []
    words = _quoted(found.undrawn)
    many = "1 note is" if len(found.undrawn) == 1 else f"{len(found.undrawn)} notes are"
    return [f"{many} not drawn, because the file holds no appearance of it; other programs show: {words}."]


def _struck(found: Opened, page: _Examined, layer: _Layer, clock: Clock) -> list[str]:
    """A remark on words that are valid no more."""

    def is_thin(bar: Box, most: float) -> bool:
        return bar in found.struck or _is_thin(bar, most, page.sight)

    words = struck_words(layer.lines, [*page.content.rules, *found.struck], is_thin, clock)
    return [f"Words are struck out, and the text holds them all the same: {_quoted(words)}."] if words else []


def _is_thin(bar: Box, most: float, sight: Sight) -> bool:
    """Whether a level bar is seen against its ground, and no higher than `most` points."""
    left, right = round(bar[0] * sight.scale), round(bar[2] * sight.scale) + 1
    y, reach = round((bar[1] + bar[3]) / 2 * sight.scale), math.ceil(most / 2 * sight.scale) + 1
    rows = np.clip((y - reach, y + reach), 0, len(sight.without_text) - 1)
    drawn = sight.without_text[:, max(0, left) : right, :3].astype(np.int16)
    own = drawn[max(0, y - 1) : y + 2]
    if not own.size:
        return False
    # The bar may lie between two rows of pixels: of its rows, the one that differs most counts.
    return all(np.abs(own - drawn[row]).max(axis=2).mean(axis=1).max() >= SEEN for row in rows)


def _commented(found: Opened) -> list[str]:
    """A remark on comments, which are no text of the page."""
    if not found.comments:
        return []
    many = "1 comment is" if len(found.comments) == 1 else f"{len(found.comments)} comments are"
    return [f"{many} attached to the page, which the text does not hold: {_quoted(found.comments)}."]


def _quoted(texts: Sequence[str]) -> str:
    """The beginnings of the document's own words, for a remark."""
    quoted = "; ".join(repr(text[:QUOTED_CHARS]) for text in texts[:QUOTED_TEXTS])
    return quoted + ("; …" if len(texts) > QUOTED_TEXTS else "")


def _unread(found: Opened, page: _Examined, layer: _Layer) -> list[str]:
    """A remark on what was drawn, by hand or as shapes, and where no text was read."""
    glyphs = [glyph for line in layer.lines for glyph in line.glyphs if glyph.score is not None]
    unread = sum(not any(is_within(glyph.box, box) for glyph in glyphs) for box in found.inks)
    if unread:
        many = "1 drawing by hand holds" if unread == 1 else f"{unread} drawings by hand hold"
        return [f"{many} no words that could be read."]
    drawn = page.verdict.drawn
    if drawn is None or found.inks or any(is_within(glyph.box, drawn) for glyph in glyphs):
        return []
    across, down = 100 / page.content.width, 100 / page.content.height
    x, y = (drawn[0] + drawn[2]) / 2 * across, (drawn[1] + drawn[3]) / 2 * down
    return [
        f"Around {x:.0f} % of the width and {y:.0f} % of the height of the page, shapes look like letters, "
        "and no words could be read there."
    ]


def leave_unread(found: Opened, ask: Callable[[], None]) -> Box:
    """Have the page drawn without the text that `read_layer` is certain of.

    Returns what is to be read of it, in points of the upright page.
    """
    clock = Clock(ask)
    page = _Examined.of(found, clock)
    layer = _Layer.of(page, clock)
    in_doubt = layer.lines_in_doubt()
    runs = {id(glyph.run) for line in in_doubt for glyph in line.glyphs}
    activate((run.item for run in page.content.runs if id(run) in runs), True)
    content = page.content
    boxes = [glyph.box for line in in_doubt for glyph in line.glyphs]
    if page.verdict.drawn is not None:
        boxes.append(page.verdict.drawn)
    if page.verdict.is_everywhere or not boxes:
        return 0.0, 0.0, content.width, content.height
    left, top, right, bottom = zip(*boxes, strict=True)
    return (
        max(0.0, min(left) - MARGIN_PT),
        max(0.0, min(top) - MARGIN_PT),
        min(content.width, max(right) + MARGIN_PT),
        min(content.height, max(bottom) + MARGIN_PT),
    )


def _unusable(why: str) -> dict[str, Any]:
    """Text that is not believed is not given either: what no person sees could speak to an agent."""
    return {"reading": None, "usable": False, "partial": False, "why": why, "remark": ""}


@dataclass(slots=True)
class _Examined:
    """A page whose characters were measured and judged."""

    content: Content
    sight: Sight
    verdict: Verdict
    inks: list[Box]
    signs: list[Box]
    """Boxes to tick, buttons and list marks that are drawn: the text has them as characters."""
    changed: int
    """Letters that were of another alphabet than their word."""

    @classmethod
    def of(cls, found: Opened, clock: Clock) -> _Examined:
        content = look(found.page, clock)
        sight = seen(found.page, content, clock)
        _doubt_belied(sight, clock)
        changed = given_one_alphabet(sight.shown)
        sight.shown = _with_buttons(sight.shown, found)
        sight.shown, boxes = with_check_boxes(sight.shown, content.squares, sight.with_text, sight.scale, clock)
        content.dots = [dot for dot in content.dots if not any(is_within(dot, box) for box in boxes)]
        ticks = [*boxes, *(button.box for button in found.buttons)]
        content.rules = visible(without_frames(content.rules, ticks, clock), sight.without_text, sight.scale, clock)
        sight.shown += _drawn_minuses(sight.shown, content.rules, clock)
        _blank(sight, ticks)
        area = _drawn_area(sight, clock) if sight.shown else None
        drawn = [area] if area is not None else []
        verdict = judged(content, sight, _around([*drawn, *found.inks]), clock)
        return cls(content, sight, verdict, found.inks, [*ticks, *content.dots], changed)


def _drawn_area(sight: Sight, clock: Clock) -> tuple[float, ...] | None:
    """Where text is drawn, in points. Letters that are drawn within the written text become unknown glyphs."""
    level = [glyph for glyph in sight.shown if abs(glyph.run.angle) < 1]

    def written() -> LevelText:
        rows = [(glyph.box[0], glyph.y, glyph.box[2], glyph.run.size) for glyph in level]
        return np.array(rows, np.float64).reshape(-1, 4) * sight.scale

    found = drawn_text(sight.without_text, written, clock)
    for box, n in found.beside:
        left, top, right, bottom = (side / sight.scale for side in box)
        beside = level[n]
        sight.shown.append(Glyph("\ufffd", (left, top, right, bottom), left, beside.y, beside.run, known=False))
    return None if found.area is None else tuple(side / sight.scale for side in found.area)


def _drawn_minuses(shown: Sequence[Glyph], rules: Sequence[Box], clock: Clock) -> list[Glyph]:
    """Short level rules before a figure, which may be minus signs, as unknown glyphs; a tick of an axis touches it."""
    short = [
        (x1, y1, x2, y2)
        for x1, y1, x2, y2 in rules
        if MINUS_PT[0] <= x2 - x1 <= MINUS_PT[1] and y2 - y1 <= MINUS_HIGH_PT
    ]
    found: list[Glyph] = []
    if not 0 < len(short) <= MINUS_MOST:
        return found
    figures = sorted(
        (glyph for glyph in shown if glyph.text.isdecimal() and abs(glyph.run.angle) < 1),
        key=lambda glyph: glyph.box[0],
    )
    lefts = [glyph.box[0] for glyph in figures]
    largest = max((glyph.run.size for glyph in figures), default=0.0)
    for rule in short:
        clock.tick()
        least, most = (rule[2] + gap * largest for gap in MINUS_GAP_EM)
        near = figures[bisect_left(lefts, least) : bisect_right(lefts, most)]
        figure = next((glyph for glyph in near if _is_minus(rule, glyph)), None)
        if figure is not None and sum(_touches(rule, other) for other in rules) == 1:
            found.append(Glyph("\ufffd", rule, rule[0], figure.y, figure.run, known=False))
    return found


def _is_minus(rule: Box, figure: Glyph) -> bool:
    """Whether a rule is as long, as near to a figure and as high over its baseline as a minus sign."""
    x1, y1, x2, y2 = rule
    size = figure.run.size
    return (
        MINUS_GAP_EM[0] * size <= figure.box[0] - x2 <= MINUS_GAP_EM[1] * size
        and MINUS_EM[0] * size <= x2 - x1 <= MINUS_EM[1] * size
        and MINUS_UP[0] * size <= figure.y - (y1 + y2) / 2 <= MINUS_UP[1] * size
    )


def _touches(rule: Box, other: Box) -> bool:
    (x1, y1, x2, y2), (a, b, c, d) = rule, other
    return a <= x2 + TOUCH_PT and x1 - TOUCH_PT <= c and b <= y2 + TOUCH_PT and y1 - TOUCH_PT <= d


def _around(boxes: Sequence[tuple[float, ...]]) -> Box | None:
    if not boxes:
        return None
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _doubt_belied(sight: Sight, clock: Clock) -> None:
    """Mark the glyphs of fonts that draw other letters than they name, and those that no word has."""
    single = [glyph for glyph in sight.shown if id(glyph.run) not in sight.doubled]
    for glyph in belied(single, sight.change, sight.scale, clock):
        glyph.known = False
    for glyph in odd_within_words(single):
        glyph.known = False


def _blank(sight: Sight, boxes: Iterable[Box]) -> None:
    """Take what is known to be a box to tick out of the drawing without text: several in a row look like letters."""
    for box in boxes:
        left, top, right, bottom = (round(side * sight.scale) for side in box)
        sight.without_text[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = 255


def _with_buttons(shown: Sequence[Glyph], found: Opened) -> list[Glyph]:
    """The glyphs with a mark for each check box and radio button in the place of what is drawn in it."""
    glyphs = list(shown)
    angles = Counter(_way(glyph.run.angle) for glyph in glyphs)
    way = max(angles, key=lambda angle: angles[angle]) if angles else 0.0  # the page may be turned as a whole
    for button in found.buttons:
        inside = [glyph for glyph in glyphs if is_within(glyph.box, button.box)]
        chosen = {id(glyph) for glyph in inside}
        glyphs = [glyph for glyph in glyphs if id(glyph) not in chosen]
        glyphs.append(_button_mark(button, way))
    return glyphs


def _button_mark(button: Button, way: float) -> Glyph:
    """A button as a character that runs in a direction."""
    left, top, right, bottom = button.box
    side = (bottom - top) / 5
    origins = {90.0: (left + side, top), 180.0: (right, top + side), 270.0: (right - side, bottom)}
    x, y = origins.get(way, (left, bottom - side))
    run = Run(size=bottom - top, angle=way if way in origins else 0.0, order=0)
    return Glyph(TICKED if button.is_on else UNTICKED, button.box, x, y, run)


def _missing_fields(found: Opened, layer: _Layer, clock: Clock) -> str:
    """Whether what was typed into a form is not in the text: then it is only drawn."""
    if not found.fields:
        return ""
    glyphs = [glyph for line in layer.lines for glyph in line.glyphs]
    for entry in found.fields:
        x1, y1, x2, y2 = entry.box
        around = (x1 - 2, y1 - 2, x2 + 2, y2 + 2)
        inside: Counter[str] = Counter()
        for glyph in glyphs:
            clock.tick()
            if is_within(glyph.box, around):
                inside.update(glyph.text)
        wanted = Counter(char for char in entry.text if char.isalnum())
        if (wanted - inside).total() > 0.1 * wanted.total():
            return "a form field's text is not in it"
    return ""


# ---------------------------------------------------------------- the page's lines


@dataclass(slots=True)
class _Group:
    """Lines that run in one direction, in reading order of their own frame."""

    lines: list[LayerLine]
    frame: list[TextLine]
    elements: list[Element]


@dataclass(slots=True)
class _Way:
    """Lines that run in one direction, and the rules and list marks in their frame."""

    angle: float
    """Degrees clockwise from running to the right."""
    lines: list[LayerLine]
    ruling: Ruling
    dots: list[Box] = field(default_factory=list)


@dataclass(slots=True)
class _Layer:
    """The page's lines: those that run as most do, then those that run otherwise."""

    ways: list[_Way]
    doubtful: set[int]
    """The `id` of each glyph whose character is in doubt."""

    @classmethod
    def of(cls, page: _Examined, clock: Clock) -> _Layer:
        content = page.content
        by_way: dict[float, list[tuple[int, Glyph]]] = {}
        for number, glyph in enumerate(page.sight.shown):
            by_way.setdefault(_way(glyph.run.angle), []).append((number, glyph))
        ways = []
        for way in sorted(by_way, key=lambda way: (way % 90 != 0, -len(by_way[way]))):
            lines = lines_of(marks_of(by_way[way], way, content, clock), clock)
            if len(lines) > MAX_LINES:
                raise TooMuch(f"the page has more than {MAX_LINES:,} pieces of text")
            ruling = Ruling(_turned(content.rules, way, content), _turned(content.fills, way, content))
            ways.append(_Way(way, lines, ruling, content.dots if way == 0 else []))
        _take_turned_headings(ways, content, clock)
        _take_sideways(ways, content, clock)
        return cls(ways, page.verdict.doubtful)

    @property
    def lines(self) -> list[LayerLine]:
        return [line for way in self.ways for line in way.lines]

    def why(self) -> str:
        """Why these lines are not to be believed; empty if they are."""
        return implausible("\n".join(line.text for line in self.lines))

    def lines_in_doubt(self) -> list[LayerLine]:
        return [line for line in self.lines if any(id(glyph) in self.doubtful for glyph in line.glyphs)]

    def with_read(self, read: Sequence[ReadLine], page: _Examined, clock: Clock) -> _Layer:
        """The lines with what an engine read, compared where a line is in doubt, added where there was none."""
        doubtful = {id(line) for line in self.lines_in_doubt()}
        rest = list(read)
        for way in self.ways:
            way.lines, rest = merged(way.lines, doubtful, rest, clock)
        upright = next((way for way in self.ways if way.angle == 0), None)
        if upright is None:
            upright = _Way(0, [], Ruling(page.content.rules, page.content.fills), page.content.dots)
            self.ways.insert(0, upright)
        usual = median(line.size for line in upright.lines) if upright.lines else math.inf
        for line in not_drawn_twice(rest, self.lines, page.signs, clock):
            # What is written by hand is no heading, however large it is.
            by_hand = any(is_within(line.box, box) for box in page.inks)
            upright.lines.append(line.as_line(usual if by_hand else math.inf))
        return self

    def remarks(self) -> list[str]:
        """What a reader has to know of the characters of the text."""
        remarks = []
        lines = self.lines
        if unknown := sum(line.text.count("\ufffd") for line in lines):
            first = next(line.text for line in lines if "\ufffd" in line.text)
            many = "1 character is" if unknown == 1 else f"{unknown} characters are"
            remarks.append(
                f"{many} marked \ufffd because the file does not say which it is; the first is in {first[:60]!r}."
            )
        filled = sum(glyph.score is not None for line in lines if not _is_read(line) for glyph in line.glyphs)
        if filled:
            many = "1 character was" if filled == 1 else f"{filled} characters were"
            remarks.append(f"{many} read from the picture because the file does not say which it is.")
        if unchecked := sum(not is_readable(line.text) for line in self.lines_in_doubt() if "\ufffd" not in line.text):
            many = "1 line has" if unchecked == 1 else f"{unchecked} lines have"
            remarks.append(f"{many} an unusual font whose characters could not be checked.")
        return remarks

    def groups(self, clock: Clock) -> list[_Group]:
        """The lines in reading order, in groups of one direction."""
        groups = []
        for way in self.ways:
            lines = way.lines + _dots(way.lines, way.dots)
            parts = [[line for line in lines if line.vertical == vertical] for vertical in (False, True)]
            if sum(len(line.text) for line in parts[1]) < sum(len(line.text) for line in parts[0]):
                groups += [_arranged(part, way.ruling, clock) for part in parts if part]
            elif lines:
                groups.append(_arranged(lines, way.ruling, clock))
        return groups


def _is_read(line: LayerLine) -> bool:
    """Whether an engine read the whole line."""
    return all(glyph.score is not None for glyph in line.glyphs)


@lru_cache(maxsize=1024)
def _way(angle: float) -> float:
    """The direction in which text runs: a quarter of a turn where it is nearly one."""
    quarter = round(angle / 90) * 90
    return quarter % 360 if abs(angle - quarter) <= SLANT_DEG else round(angle) % 360


def _turned(boxes: Iterable[Box], way: float, content: Content) -> list[Box]:
    """Boxes of the page in the frame of a direction; none where that is not along the page's sides."""
    return [side for box in boxes if (side := turned(box, way, content.width, content.height)) is not None]


def _take_turned_headings(ways: list[_Way], content: Content, clock: Clock) -> None:
    """Put names of columns that stand on their side in cells of the page's tables into the lines of the page."""
    if len(ways) < 2 or ways[0].angle % 90:
        return
    main = ways[0]
    for way in ways[1:]:
        if way.angle % 90 or (way.angle - main.angle) % 180 == 0:
            continue
        boxes = []
        for line in way.lines:
            corners = [glyph.box for glyph in line.glyphs]
            lefts, tops, rights, bottoms = zip(*corners, strict=True)
            boxes += _turned([(min(lefts), min(tops), max(rights), max(bottoms))], main.angle, content)
        held = main.ruling.holds_in_cells(boxes, clock)
        main.lines += [
            replace(line, placed=box) for line, box, is_held in zip(way.lines, boxes, held, strict=True) if is_held
        ]
        way.lines = [line for line, is_held in zip(way.lines, held, strict=True) if not is_held]


def _take_sideways(ways: list[_Way], content: Content, clock: Clock) -> None:
    """Put what lies on its side in vertical lines into them."""
    by_angle = {way.angle: way for way in ways}
    for way in ways:
        across = by_angle.get((way.angle + 90) % 360)
        if across is None or not any(line.vertical for line in way.lines):
            continue
        sideways = [
            (line, _turned((mark.glyph.box for mark in line.marks), way.angle, content))
            for line in across.lines
            if not line.vertical
        ]
        if all(len(boxes) == len(line.marks) for line, boxes in sideways):
            way.lines, rest = with_sideways(way.lines, sideways, clock)
            across.lines = [*rest, *(line for line in across.lines if line.vertical)]


def _dots(lines: Sequence[LayerLine], dots: Sequence[Box]) -> list[LayerLine]:
    """List marks that are drawn, not written, as lines of their own before the lines that they stand at."""
    level = [line for line in lines if not line.vertical]
    by_base = sorted(range(len(level)), key=lambda n: level[n].base)
    bases = [level[n].base for n in by_base]
    found: dict[int, LayerLine] = {}
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
            found[n] = LayerLine([Mark(glyph, "•", left, right, line.base, line.size, -1)], False, "•", [0])
    return list(found.values())


def _arranged(lines: list[LayerLine], ruling: Ruling, clock: Clock) -> _Group:
    """Lines in reading order, tables found by their rules or by how cells stand under each other."""
    lines = cut_at_columns(cut_at_rules(lines, ruling, clock), clock)
    pieces = split_at_gutters([line.framed() for line in lines])
    parts = [lines[piece.line].part(piece.start, piece.stop) for piece in pieces]
    lines = [part for part in parts if part is not None]
    frame = [line.framed() for line in lines]
    return _Group(lines, frame, arrange_with_rules(frame, ruling.rules, clock.tick, ruling.fills))


# ---------------------------------------------------------------- the reading


class _LinePlaces:
    """Places lines and their words on the page as it would be drawn."""

    def __init__(self, content: Content, size: tuple[int, int]) -> None:
        """`size`: width and height of the drawn page, pixels."""
        self._across, self._down = size[0] / content.width, size[1] / content.height

    def sections(self, groups: Iterable[_Group]) -> tuple[Section, ...]:
        """The groups with their lines placed."""
        return tuple(
            Section(
                tuple(self._placed(line, framed) for line, framed in zip(group.lines, group.frame, strict=True)),
                tuple(group.elements),
            )
            for group in groups
        )

    def _placed(self, line: LayerLine, framed: TextLine) -> TextLine:
        angle = 90.0 if line.vertical else _way(line.marks[0].glyph.run.angle)
        pieces = []
        for match in PIECE.finditer(line.text):
            if glyphs := line.glyphs_of(*match.span()):
                pieces.append(WordPlace(*match.span(), self._quad(glyphs, angle)))
        scores = [glyph.score for glyph in line.glyphs if glyph.score is not None]
        return replace(
            framed,
            quad=self._quad(line.glyphs, angle),
            words=tuple(pieces),
            vertical=line.vertical,
            score=min(scores, default=1.0),
            source="read" if scores else "text_layer",
        )

    def _quad(self, glyphs: Sequence[Glyph], angle: float) -> Quad:
        """The corners of the place of these glyphs, whose text runs at this angle.

        Where text runs along the sides of the page, the place is made of whole pixels, so that all ink is in it.
        """
        boxes = [self._in_pixels(glyph.box) for glyph in glyphs]
        if angle % 90:
            corners = (point for x1, y1, x2, y2 in boxes for point in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)))
            return rectangle_around(corners, angle)
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        box = (math.floor(min(lefts)), math.floor(min(tops)), math.ceil(max(rights)), math.ceil(max(bottoms)))
        return quad_of_box(box, quarters=round(angle / 90) % 4)

    def _in_pixels(self, box: Box) -> Box:
        return box[0] * self._across, box[1] * self._down, box[2] * self._across, box[3] * self._down

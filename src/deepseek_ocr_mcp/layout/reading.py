"""A reading: all that was found on a page, from which every answer about the page is made.

An engine that reads lines returns a reading, and so does the text layer of a PDF. `layout/answers.py` makes the text
and the blocks of each mode from it. A reading travels as JSON between processes and into the cache.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .grids import arrange_with_rules
from .lines import NO_SPACES, Box, Element, Quad, TextLine, WordPlace, is_leftwards, length_in_ems

__all__ = [
    "PIECE",
    "WORD",
    "Reading",
    "Section",
    "angle_of",
    "around",
    "bounds",
    "part_of",
    "part_of_quad",
    "quad_of",
    "quad_of_box",
    "rectangle_around",
    "words_of",
]

_CJK: Final = NO_SPACES.pattern[1:-1]
WORD: Final = re.compile(f"[{_CJK}]+|[^\\s{_CJK}]+")
"""A word. Chinese and Japanese write none apart: a run of their characters is one."""
PIECE: Final = re.compile(f"[{_CJK}]+|[^\\s\\W{_CJK}](?:[^\\s{_CJK}]*[^\\s\\W{_CJK}])?|[^\\s\\w{_CJK}]+")
"""A piece of a word that has a place of its own: the word, or the signs before or after it. A search for a word then
finds its box without the full stop."""

MAX_LEVEL: Final = 6  # of a heading, in Markdown
LEVEL_DEG: Final = 0.5
"""Degrees by which text may lean and still count as level. Detection finds the angle of a short line no better."""


@dataclass(frozen=True, slots=True)
class Section:
    """Lines of a page that run in one direction, and the elements that they make, in reading order."""

    lines: tuple[TextLine, ...]
    elements: tuple[Element, ...]
    """Each line is in exactly one of them."""

    @classmethod
    def of(cls, lines: Sequence[TextLine], rules: Sequence[Box] = ()) -> Section:
        """The lines, arranged.

        Args:
            lines: in the frame of their boxes, in which text runs to the right.
            rules: the boxes of the rules that are drawn around them, in the same frame.
        """
        return cls(tuple(lines), tuple(arrange_with_rules(lines, rules)))

    @property
    def order(self) -> list[int]:
        """The lines as they are read."""
        return [index for element in self.elements for index in element.lines]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found on a page of `width` by `height` pixels."""

    width: int
    height: int
    sections: tuple[Section, ...] = ()
    quarters: int = 0
    """Quarter turns counter-clockwise that bring the page upright."""
    skew: float = 0.0
    """Degrees clockwise by which the lines of the upright page lean."""
    remark: str = ""
    """A sentence for the caller: what could not be read, and what to do about it."""
    is_mixed: bool = False
    """Whether a part of the page is its own text and a part was read; then each line says its source."""

    @classmethod
    def of(cls, width: int, height: int, lines: Sequence[TextLine], rules: Sequence[Box] = ()) -> Reading:
        """A reading of an upright page.

        Args:
            width: of the page, pixels, as is its `height`.
            lines: their boxes in pixels of the page.
            rules: the boxes of the rules that are drawn on the page.
        """
        return cls(width, height, (Section.of(lines, rules),) if lines else ())

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.height > 0 and math.isfinite(self.skew)):
            raise ValueError("a page has no such size or skew")
        for section in self.sections:
            for element in section.elements:
                _check_element(element)
            if sorted(section.order) != list(range(len(section.lines))):
                raise ValueError("the elements do not hold each line once")
            for line in section.lines:
                _check_line(line)

    @property
    def lines(self) -> Iterable[TextLine]:
        """All lines in reading order."""
        return (section.lines[index] for section in self.sections for index in section.order)

    def to_dict(self) -> dict[str, Any]:
        """The reading as JSON. Centres of characters are left out: the elements hold all that is made of them."""
        fields: dict[str, Any] = {
            "width": self.width,
            "height": self.height,
            "sections": [
                {
                    "lines": [_line_fields(line) for line in section.lines],
                    "elements": [
                        {"kind": e.kind, "rows": e.rows, "level": e.level, "region": e.region} for e in section.elements
                    ],
                }
                for section in self.sections
            ],
        }
        optional = {"quarters": self.quarters, "skew": self.skew, "remark": self.remark, "is_mixed": self.is_mixed}
        return fields | {name: value for name, value in optional.items() if value}


def _check_element(element: Element) -> None:
    """Refuse an element that cannot be written."""
    if not (0 <= element.level <= MAX_LEVEL and element.rows and element.rows[0]):
        raise ValueError("an element has no such level, or no rows")
    if element.kind != "table" and not all(len(row) == 1 and row[0] for row in element.rows):
        raise ValueError("only tables have several cells in a row, or empty ones")


def _check_line(line: TextLine) -> None:
    """Refuse a line whose places are none."""
    sides = (*line.box, line.score, *(line.quad or ()), *(side for word in line.words for side in word.quad))
    if not math.isfinite(sum(sides)):
        raise ValueError("a place is not finite")
    end = 0
    for word in line.words:
        if not end <= word.start < word.stop <= len(line.text):
            raise ValueError("a word is not in its line, or not behind the word before it")
        end = word.stop


def _line_fields(line: TextLine) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "text": line.text,
        "box": [round(side, 2) for side in line.box],
        "score": round(line.score, 3),
        "words": [(start, stop, [round(side, 1) for side in quad]) for start, stop, quad in line.words],
    }
    if line.quad is not None:
        fields["quad"] = [round(side, 1) for side in line.quad]
    optional = {"vertical": line.vertical, "bold": line.bold, "source": line.source}
    return fields | {name: value for name, value in optional.items() if value}


# ---------------------------------------------------------------- places


def quad_of(line: TextLine) -> Quad:
    """Where the line is on the page."""
    if line.quad is not None:
        return line.quad
    return quad_of_box(line.box, quarters=int(line.vertical))


def quad_of_box(box: Box, quarters: int = 0) -> Quad:
    """The corners of a box whose text is turned clockwise by so many quarters: 1 for text that runs downwards."""
    x1, y1, x2, y2 = box
    corners = [x1, y1, x2, y1, x2, y2, x1, y2]
    a, b, c, d, e, f, g, h = corners[2 * quarters :] + corners[: 2 * quarters]
    return a, b, c, d, e, f, g, h


def angle_of(quad: Quad) -> float:
    """Degrees clockwise, 0 to 360, in which the text in a rectangle runs."""
    x1, y1, x2, y2, x3, y3, x4, y4 = quad
    angle = math.degrees(math.atan2(y2 + y3 - y1 - y4, x2 + x3 - x1 - x4)) % 360
    nearest = round(angle / 90) * 90
    return nearest % 360 if abs(angle - nearest) < LEVEL_DEG else angle


def bounds(quad: Quad, width: int, height: int) -> tuple[int, int, int, int]:
    """The box in whole pixels around a rectangle: inside the page, and not empty.

    Args:
        quad: the rectangle.
        width: of the page, pixels.
        height: of the page, pixels.
    """
    xs, ys = quad[::2], quad[1::2]
    x1, y1 = min(max(0, round(min(xs))), width - 1), min(max(0, round(min(ys))), height - 1)
    return x1, y1, max(x1 + 1, min(width, round(max(xs)))), max(y1 + 1, min(height, round(max(ys))))


def around(quads: Sequence[Quad]) -> Quad:
    """The rectangle around rectangles of one line, turned as the first of them is."""
    if len(quads) == 1:
        return quads[0]
    points = (point for quad in quads for point in zip(quad[::2], quad[1::2], strict=True))
    return rectangle_around(points, angle_of(quads[0]))


def rectangle_around(points: Iterable[tuple[float, float]], angle: float) -> Quad:
    """The rectangle around points that is turned by an angle, degrees clockwise."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    xs, ys = zip(*((x * cos + y * sin, y * cos - x * sin) for x, y in points), strict=True)
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)

    def back(x: float, y: float) -> tuple[float, float]:
        return x * cos - y * sin, x * sin + y * cos

    return (*back(left, top), *back(right, top), *back(right, bottom), *back(left, bottom))


def part_of_quad(quad: Quad, begin: float, end: float, top: float = 0.0, bottom: float = 1.0) -> Quad:
    """A part of a rectangle.

    Args:
        quad: the rectangle.
        begin: fraction of the length at which the part begins.
        end: fraction of the length at which it ends.
        top: fraction of the height at which it begins.
        bottom: fraction of the height at which it ends.
    """
    x1, y1, x2, y2, _, _, x4, y4 = quad

    def at(along: float, down: float) -> tuple[float, float]:
        return x1 + along * (x2 - x1) + down * (x4 - x1), y1 + along * (y2 - y1) + down * (y4 - y1)

    return (*at(begin, top), *at(end, top), *at(end, bottom), *at(begin, bottom))


def words_of(line: TextLine) -> list[WordPlace]:
    """The words of a line and their places."""
    words: list[WordPlace] = []
    pieces = _pieces(line)
    n = 0
    for match in WORD.finditer(line.text):
        first = n
        while n < len(pieces) and pieces[n].stop <= match.end():
            n += 1
        if quads := _quads_within(line, pieces[first : n + 1], *match.span()):
            words.append(WordPlace(*match.span(), around(quads)))
    return words


def _pieces(line: TextLine) -> tuple[WordPlace, ...]:
    """The pieces of the words of a line.

    Where the engine did not place them, they are placed in proportion to the usual widths of their characters.
    """
    if line.words:
        return line.words
    quad = quad_of(line)
    places = ((match.start(), match.end()) for match in PIECE.finditer(line.text))
    return tuple(WordPlace(*place, part_of_quad(quad, *_share(line.text, *place))) for place in places)


def part_of(line: TextLine, start: int, stop: int) -> Quad:
    """The box around the words of a line between two characters; a word at either end is cut in proportion.

    Args:
        line: the line.
        start: the first character.
        stop: the character behind the last one.
    """
    quads = _quads_within(line, _pieces(line), start, stop)
    return around(quads) if quads else quad_of(line)


def _quads_within(line: TextLine, pieces: Iterable[WordPlace], start: int, stop: int) -> list[Quad]:
    """The places of these pieces, as far as they lie between two characters; a piece is cut in proportion."""
    quads = []
    for piece in pieces:
        first, last = max(start, piece.start), min(stop, piece.stop)
        if first >= last:
            continue
        if (first, last) == (piece.start, piece.stop):
            quads.append(piece.quad)
        else:
            share = _share(line.text[piece.start : piece.stop], first - piece.start, last - piece.start)
            quads.append(part_of_quad(piece.quad, *share))
    return quads


def _share(text: str, start: int, stop: int) -> tuple[float, float]:
    """Where characters `start` to `stop` begin and end, as fractions of the length of `text`."""
    whole = length_in_ems(text)
    begin, end = length_in_ems(text[:start]) / whole, length_in_ems(text[:stop]) / whole
    return (1 - end, 1 - begin) if is_leftwards(text) else (begin, end)

"""The lines of a page, the elements that they make, and the frame in which layout looks at them.

Pure Python. Lengths are pixels of a picture or points of a PDF page, whichever the lines came in; `em`
is the usual height of a line. Nothing here knows where the lines came from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal, NamedTuple

__all__ = ["Element", "Frame", "Piece", "Quad", "TextLine", "WordPlace", "cut", "edge_of", "is_leftwards",
           "length_in_ems", "reading_length", "row_text", "runs_leftwards", "type_size", "whole"]  # fmt: skip

Box = tuple[float, float, float, float]
Quad = tuple[float, float, float, float, float, float, float, float]
"""The corners of a rectangle that may be turned, x and y of each, in pixels of the page: top left, top right, bottom
right and bottom left of the text when it is held so that it runs to the right. Text of scripts that run to the left is
held upright. Characters that stand under each other are held as if they lay on their left side."""
Kind = Literal["title", "line", "list", "table", "code"]
Row = list[int]

PROSE_CHARS: Final = 24
"""Least length of a usual line of running text. Tuned on the shared corpus: from 30 on, narrow newspaper columns
are no prose any more and are read across; below 18, the cells of a table are prose and become columns."""
ROW_SHIFT: Final = 0.5
"""Of the smaller height: how far the middles of two lines of one row may differ. Half is where one line leaves
the other; .7 joins the rows of dense tables, .3 tears tilted rows apart."""
BOLD_SHARE: Final = 0.4
"""From this share of bold characters on, bold type does not stand out on a page. Not tuned: a page of which a
third is headings is rare. Too high, and pages of bold text become headings."""
LIST_ITEM: Final = re.compile(
    r"""(?:
      (?P<tick>\[[ xX]\]|[☐☑☒])\s*
    | (?P<bullet>[•●▪◦‣∙○■□►➢➤❖❏❐❑❒·](?!·)|\*(?!\*)|[-–—](?=\s))\s*
    | (?P<verdict>[✓✔✕✖✗✘])\s*
    | (?P<number>\(?\d{1,2}[.)])\s+
    )(?=\S)""",
    re.VERBOSE,
)
"""What begins an item of a list: a box to tick, a bullet, a tick, a cross, a number. A row of stars or dots is none."""
LIST_MARK: Final = re.compile(r"\[[ xX]\]|[☐☑☒]|[•●▪◦‣∙○■□►➢➤❖❏❐❑❒✓✔✕✖✗✘*·–—-]|\(?(\d{1,2}|[a-z])[.)]")
ENDS: Final = (*".!?:;…。！？：；", '."', ".”", ".)")
"""How the last line of a sentence ends."""
FIGURE: Final = re.compile(r"[-+(−]?\d[\d.,:'’%/ ]*\)?[⁰¹²³⁴-⁹]*")
"""A number, also with the raised number of a note."""
RIGHT_TO_LEFT: Final = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
NO_SPACES: Final = re.compile(r"[\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")


class WordPlace(NamedTuple):
    """A word of a line, or a piece of one: characters `start` to `stop`, and where their ink is on the page."""

    start: int
    stop: int
    quad: Quad


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of text, as an engine or a PDF gives it.

    `box` is `(x1, y1, x2, y2)` in the upright, straightened page. `centres` holds the middle of
    each character of `text` as a fraction of the box's length; it may be empty.
    `vertical` marks a line that is set from top to bottom, `bold` one in bold type, where that is known.
    """

    text: str
    box: Box
    score: float = 1.0
    centres: tuple[float, ...] = ()
    vertical: bool = False
    bold: bool = False
    quad: Quad | None = None
    """Where the line is on the page as it was given; None: at `box`."""
    words: tuple[WordPlace, ...] = ()
    """The pieces of its words, where their places are known."""
    source: Literal["text_layer", "read"] | None = None
    """On a PDF page with text of its own: whether the line is that text, which needs no score."""


@dataclass(frozen=True, slots=True)
class Element:
    """A part of the page: a title, a paragraph, a list item, a table or lines of a program.

    `rows[r][c]` holds the indices of the lines in that cell. All but tables have one cell a row.
    """

    kind: Kind
    rows: tuple[tuple[tuple[int, ...], ...], ...]
    level: int = 0
    region: int = 0

    @property
    def lines(self) -> Iterator[int]:
        """The lines in the order in which they are read."""
        return (index for row in self.rows for cell in row for index in cell)


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters `start` to `stop` of a line; `begin` and `end` are fractions of the line's length."""

    line: int
    start: int
    stop: int
    begin: float
    end: float


def whole(number: int, line: TextLine) -> Piece:
    """A line that is not cut."""
    return Piece(number, 0, len(line.text), 0.0, 1.0)


def cut(line: TextLine, piece: Piece) -> TextLine:
    """The line that `piece` makes of `line`, with its own box and centres."""
    x1, y1, x2, y2 = line.box
    if line.vertical:
        y1, y2 = y1 + piece.begin * (y2 - y1), y1 + piece.end * (y2 - y1)
    else:
        x1, x2 = x1 + piece.begin * (x2 - x1), x1 + piece.end * (x2 - x1)
    share = max(piece.end - piece.begin, 1e-6)
    centres = tuple((centre - piece.begin) / share for centre in line.centres[piece.start : piece.stop])
    words = tuple(
        word._replace(start=word.start - piece.start, stop=word.stop - piece.start)
        for word in line.words
        if piece.start <= word.start and word.stop <= piece.stop
    )
    text = line.text[piece.start : piece.stop]
    return replace(line, text=text, box=(x1, y1, x2, y2), centres=centres, words=words)


def edge_of(line: TextLine, at: int) -> float:
    """The fraction of the line's length at which character `at` begins; in a space, its middle."""
    count = len(line.text)
    if at <= 0 or at >= count:
        return 0.0 if at <= 0 else 1.0
    if len(line.centres) != count:
        return at / count
    if line.text[at - 1].isspace():
        return line.centres[at - 1]
    if line.text[at].isspace():
        return line.centres[at]
    return (line.centres[at - 1] + line.centres[at]) / 2


@dataclass(frozen=True, slots=True)
class Frame:
    """The lines in a frame in which text runs to the right and rows follow each other downwards.

    Vertical pages are turned into it, pages of Arabic or Hebrew are mirrored. `boxes` are the lines' boxes there.
    """

    lines: Sequence[TextLine]
    boxes: list[Box]
    em: float
    """The usual height of a line; at least one pixel."""
    pitch: float
    """The usual advance from character to character."""
    type_size: float
    """The usual size of the type, as the widths of the lines tell it."""
    middles: list[float]
    """Where the middle of each line's height is."""
    sizes: list[float]
    """The size of the type of each line, as its width tells it."""
    lengths: list[int]
    """How much each line holds, in characters of a script with spaces."""
    mirrored: bool = False
    bold_stands_out: bool = False
    """Most of the page is not bold."""
    blocks_from: int | None = None
    """Lines from this one on stand for parts of the page that are arranged already."""

    @classmethod
    def of(cls, lines: Sequence[TextLine]) -> Frame:
        """The frame of a page with these lines, or of a part of a page."""
        upright = sum(len(line.text) for line in lines if not line.vertical)
        vertical = sum(len(line.text) for line in lines if line.vertical)
        bold = sum(len(line.text) for line in lines if line.bold)
        mirrored = False
        if vertical > upright:  # columns from right to left: turn the page, and they are rows
            boxes = [(line.box[1], -line.box[2], line.box[3], -line.box[0]) for line in lines]
        elif runs_leftwards(lines):
            boxes = [(-line.box[2], line.box[1], -line.box[0], line.box[3]) for line in lines]
            mirrored = True
        else:
            boxes = [line.box for line in lines]
        counts = [max(1, len(line.text)) for line in lines]
        sizes = [type_size(line.text, box[2] - box[0]) for line, box in zip(lines, boxes, strict=True)]
        em = _usual([box[3] - box[1] for box in boxes], counts)
        pitch = _usual([(box[2] - box[0]) / count for box, count in zip(boxes, counts, strict=True)], counts)
        return cls(
            lines,
            boxes,
            max(1.0, em),
            pitch,
            max(_usual(sizes, counts), 1e-6),
            [(box[1] + box[3]) / 2 for box in boxes],
            sizes,
            [reading_length(line.text) for line in lines],
            mirrored,
            bold < BOLD_SHARE * sum(counts),
        )

    def like(self, other: Frame) -> Frame:
        """This part of a page, measured by all of it."""
        return replace(
            self, em=other.em, pitch=other.pitch, type_size=other.type_size, bold_stands_out=other.bold_stands_out
        )

    def is_block(self, row: Iterable[int]) -> bool:
        """Whether a row stands for a part of the page that is arranged already."""
        return self.blocks_from is not None and any(i >= self.blocks_from for i in row)

    def height(self, index: int) -> float:
        """From the top of a line to its bottom."""
        return self.boxes[index][3] - self.boxes[index][1]

    def union(self, indices: Iterable[int]) -> Box:
        """The box around these lines; there is at least one."""
        lefts, tops, rights, bottoms = zip(*[self.boxes[i] for i in indices], strict=True)
        return min(lefts), min(tops), max(rights), max(bottoms)

    def by_middle(self, indices: Iterable[int]) -> Row:
        """The lines from top to bottom."""
        return sorted(indices, key=lambda i: (self.middles[i], self.boxes[i][0], i))

    def scale(self, row: Iterable[int]) -> float:
        """How large the type of a row is beside the page's usual type, as its width tells it.

        Boxes are too coarse for that: their heights depend on which letters a line has. Letters of unlike
        typefaces differ by about a tenth.
        """
        row = list(row)
        if len(row) == 1:
            return self.sizes[row[0]] / self.type_size
        length = sum(self.boxes[i][2] - self.boxes[i][0] for i in row)
        return length / (self.type_size * max(0.2, sum(length_in_ems(self.lines[i].text) for i in row)))


def type_size(text: str, length: float) -> float:
    """The size of the type in which `text` is `length` long, if its letters are as wide as most."""
    return length / max(0.2, length_in_ems(text))


@lru_cache(maxsize=8192)
def length_in_ems(text: str) -> float:
    """The length of a text in ems: a sum of the usual widths of its characters in a proportional typeface."""
    return sum(_unit(char) for char in text)


@lru_cache(maxsize=8192)
def _unit(char: str) -> float:
    if char in " ijl.,:;'|!‘’":
        return 0.26
    if char in 'ftrI()[]-"“”/':
        return 0.34
    if char in "mMW@%—":
        return 0.87
    if NO_SPACES.match(char):
        return 1.0
    return 0.68 if char.isupper() or char == "w" else 0.52


def _usual(values: Iterable[float], weights: Sequence[int]) -> float:
    """The value that the middle character of the page has, given each line's value and characters."""
    ordered = sorted(zip(values, weights, strict=True))
    half = sum(weights) / 2
    for value, count in ordered:
        half -= count
        if half <= 0:
            return value
    return 0.0


def runs_leftwards(lines: Iterable[TextLine]) -> bool:
    """Whether most letters of the lines are Hebrew or Arabic."""
    return is_leftwards("".join(line.text for line in lines))


def is_leftwards(text: str) -> bool:
    """Whether most letters of a text are Hebrew or Arabic."""
    return 2 * len(RIGHT_TO_LEFT.findall(text)) > sum(map(str.isalpha, text))


def reading_length(text: str) -> int:
    """Characters, where one of a script without spaces counts for two: it holds as much."""
    return len(text) if text.isascii() else len(text) + len(NO_SPACES.findall(text))


def row_text(lines: Sequence[TextLine], row: Iterable[Iterable[int]]) -> str:
    """The text of a row of cells."""
    return " ".join(lines[i].text.strip() for cell in row for i in cell)

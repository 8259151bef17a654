"""The lines of a page and their geometry: the input of every decision about layout."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

__all__ = [
    "LIST_ITEM",
    "LIST_MARK",
    "NO_SPACES",
    "RIGHT_TO_LEFT",
    "Box",
    "Element",
    "Gap",
    "Kind",
    "LayoutPage",
    "Piece",
    "Row",
    "Strip",
    "TextLine",
    "cut",
    "row_text",
    "runs_leftwards",
    "text_length",
    "whole",
]


Box = tuple[float, float, float, float]
Kind = Literal["title", "line", "list", "table"]
Row = list[int]
STRIP_SHARE: Final = 0.6  # of a gutter's width must be white in a line that it cuts
BOLD_SHARE: Final = 0.4  # of the page is bold: then that makes no title
LIST_ITEM: Final = re.compile(r"(?P<bullet>[•●▪◦‣∙○■□►➢✓*·]|[-–—](?=\s))\s*(?=\S)|(?P<number>\(?\d{1,2}[.)])\s+(?=\S)")
LIST_MARK: Final = re.compile(r"[•●▪◦‣∙○■□►➢✓*·–—-]|\(?(\d{1,2}|[a-z])[.)]")
RIGHT_TO_LEFT: Final = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
NO_SPACES: Final = re.compile(r"[\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")


@dataclass(frozen=True, slots=True)
class TextLine:
    """One recognised line.

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


@dataclass(frozen=True, slots=True)
class Element:
    """A piece of the page: a title, a paragraph, a list item or a table.

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


@dataclass(frozen=True, slots=True)
class Gap:
    """White space in a line: after character `before`, in front of character `after`, from `x1` to `x2`."""

    before: int
    after: int
    x1: float
    x2: float
    stands_out: bool
    """Wider than the other spaces of the line."""


@dataclass(frozen=True, slots=True)
class Strip:
    """A gutter: white from `x1` to `x2` for most lines between `top` and `bottom`."""

    x1: float
    x2: float
    top: float
    bottom: float

    def runs_through(self, gap: Gap, y: float) -> bool:
        shared = min(self.x2, gap.x2) - max(self.x1, gap.x1)
        return self.top <= y <= self.bottom and shared >= STRIP_SHARE * (self.x2 - self.x1)


def runs_leftwards(lines: Iterable[TextLine]) -> bool:
    """Whether most letters are Hebrew or Arabic."""
    text = "".join(line.text for line in lines)
    return 2 * len(RIGHT_TO_LEFT.findall(text)) > sum(map(str.isalpha, text))


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
    return replace(line, text=line.text[piece.start : piece.stop], box=(x1, y1, x2, y2), centres=centres)


def row_text(lines: Sequence[TextLine], row: Iterable[Iterable[int]]) -> str:
    return " ".join(lines[i].text.strip() for cell in row for i in cell)


@dataclass(frozen=True, slots=True)
class LayoutPage:
    """The lines in a frame in which text runs to the right and rows follow each other downwards.

    Vertical pages are turned into it, pages of Arabic or Hebrew are mirrored.
    """

    lines: Sequence[TextLine]
    boxes: list[Box]
    em: float
    """The usual height of a line; at least one pixel."""
    pitch: float
    """The usual advance from character to character."""
    mirrored: bool = False
    bold_says: bool = False
    """Bold type stands out: most of the page is not bold."""

    @classmethod
    def of(cls, lines: Sequence[TextLine]) -> LayoutPage:
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
        sizes = [(box[3] - box[1], len(line.text)) for line, box in zip(lines, boxes, strict=True)]
        pitches = [
            ((box[2] - box[0]) / max(1, len(line.text)), len(line.text)) for line, box in zip(lines, boxes, strict=True)
        ]
        bold_says = bold < BOLD_SHARE * sum(len(line.text) for line in lines)
        return cls(lines, boxes, max(1.0, _usual(sizes)), _usual(pitches), mirrored, bold_says)

    def middle(self, index: int) -> float:
        return (self.boxes[index][1] + self.boxes[index][3]) / 2

    def height(self, index: int) -> float:
        return self.boxes[index][3] - self.boxes[index][1]

    def union(self, indices: Iterable[int]) -> Box:
        lefts, tops, rights, bottoms = zip(*[self.boxes[i] for i in indices], strict=True)
        return min(lefts), min(tops), max(rights), max(bottoms)


def _usual(weighted: Iterable[tuple[float, int]]) -> float:
    """The value that the middle character of the page has, given each line's value and characters."""
    ordered = sorted((value, max(1, count)) for value, count in weighted)
    half = sum(count for _, count in ordered) / 2
    for value, count in ordered:
        half -= count
        if half <= 0:
            return value
    return 0.0


def text_length(text: str) -> int:
    """Characters, where one of a script without spaces counts for two: it says as much."""
    return len(text) + len(NO_SPACES.findall(text))

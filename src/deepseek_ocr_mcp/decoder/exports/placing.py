"""Finds the place of every line and word of a page, for the formats that keep places: PDF, hOCR and ALTO.

Where a page has boxes of words, these are the places. Where it has only boxes of regions or lines, a region is divided
among its lines, and a line among its words, by the usual widths of their characters. No text makes it raise.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from .elements import xml_text

__all__ = [
    "PlacedBlock",
    "PlacedLine",
    "PlacedWord",
    "is_right_to_left",
    "is_without_spaces",
    "placed_blocks",
    "quarter_of",
    "text_sides",
]

TAGS: Final = re.compile(r"</?[A-Za-z][^<>]*>|<!--.*?-->", re.DOTALL)
TITLES: Final = ("title", "sub_title")
HEADING: Final = re.compile(r"^\s*#{1,6}\s+", re.MULTILINE)
"""What a model writes before a title. No engine that reads lines has such blocks."""
LEAST: Final = 1.0  # pixels of a side
LONGEST_LINE: Final = 80.0  # times its height: a box that is longer has no exact angle
MOST_SLANT: Final = 40.0  # degrees off a quarter turn up to which a box tells the sides of the text within
NARROW: Final = frozenset("ijlI.,:;!'|()[]`")
NO_SPACES: Final = re.compile("[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]+")
"""Characters of scripts that set no spaces between words."""

Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class PlacedWord:
    """A word and its box on the page: left, top, right, bottom in pixels."""

    text: str
    box: Rectangle
    spaced: bool = True
    """Whether a space follows it in its line."""


@dataclass(frozen=True, slots=True)
class PlacedLine:
    """A line of text. Its box surrounds its words."""

    words: Sequence[PlacedWord]
    box: Rectangle
    angle: float
    """Degrees clockwise in which its text runs, from 0 up to 360. A column of characters runs downwards: 90."""
    vertical: bool
    """Its characters stand upright under each other."""
    score: float | None


@dataclass(frozen=True, slots=True)
class PlacedBlock:
    """A block of a page with its lines. One without text has none: a figure."""

    label: str
    box: Rectangle
    lines: Sequence[PlacedLine]
    source: str = ""
    """On a page of several sources: `text_layer` or `read`."""


def placed_blocks(page: Mapping[str, Any]) -> list[PlacedBlock]:
    """The blocks of a page in reading order. A block whose box encloses nothing is left out."""
    blocks = (_placed(block) for block in page.get("blocks") or ())
    return [block for block in blocks if block is not None]


def quarter_of(angle: float) -> tuple[int, float]:
    """The quarter turn that is nearest to an angle, 0, 90, 180 or 270, and the degrees clockwise from there."""
    quarter = round(angle / 90) * 90
    return quarter % 360, angle - quarter


def is_without_spaces(text: str) -> bool:
    """Whether all characters are of scripts that set no spaces between words."""
    return NO_SPACES.fullmatch(text) is not None


def is_right_to_left(text: str) -> bool:
    """Whether a text is of a script that runs from right to left: more of its letters are than are not."""
    kinds = [unicodedata.bidirectional(char) for char in text]
    return sum(kind in ("R", "AL") for kind in kinds) > kinds.count("L")


def _placed(block: Mapping[str, Any]) -> PlacedBlock | None:
    box = _rectangle(block["box"])
    if box is None:
        return None
    angle = float(block.get("angle") or 0.0)
    vertical = bool(block.get("vertical"))
    angle = (angle + 90 if vertical and quarter_of(angle)[0] in (0, 180) else angle) % 360
    words = [
        PlacedWord(text, place)
        for word in block.get("words") or ()
        if (text := _clean(word["text"])) and (place := _rectangle(word["box"])) is not None
    ]
    texts = list(_texts(block, is_printed=bool(words) or block.get("label") == "line"))
    if words:
        lines = list(_lines_of_words(words, texts))
    else:
        lines = [
            _estimated_words(text, part, angle)
            for text, part in zip(texts, _shares(box, len(texts), angle), strict=True)
        ]
    score = block.get("score")
    return PlacedBlock(
        str(block.get("label") or ""),
        box,
        [PlacedLine(line, _around(line), angle, vertical, score) for line in lines],
        str(block.get("source") or ""),
    )


def _texts(block: Mapping[str, Any], *, is_printed: bool) -> Iterator[str]:
    """The lines of the text of a block, without the markup of a model.

    Args:
        is_printed: whether its characters stand on the page as they are.
    """
    text = str(block.get("text") or "")
    if not is_printed:
        text = TAGS.sub(" ", text)
        text = html.unescape(HEADING.sub("", text) if block.get("label") in TITLES else text)
    yield from (line for raw in text.splitlines() if (line := _clean(raw)))


def _clean(text: str) -> str:
    return " ".join(xml_text(str(text)).split())


def _rectangle(box: Sequence[float]) -> Rectangle | None:
    left, top, right, bottom = map(float, box)
    return (left, top, right, bottom) if right > left and bottom > top else None


def _around(words: Sequence[PlacedWord]) -> Rectangle:
    boxes = [word.box for word in words]
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )


def _lines_of_words(words: Sequence[PlacedWord], texts: Sequence[str]) -> Iterator[list[PlacedWord]]:
    """The words of a block by its lines, with a space after those that have one in the text of the block.

    Where words and text do not agree, the words are one line with spaces, but for scripts that have none.
    """
    at, lines = 0, []
    for text in texts:
        line, place = [], 0
        while at < len(words) and text.startswith(words[at].text, place):
            place += len(words[at].text)
            spaced = text[place : place + 1] == " "
            line.append(PlacedWord(words[at].text, words[at].box, spaced))
            place += spaced
            at += 1
        if place < len(text):
            break
        lines.append(line)
    if at == len(words) and sum(map(len, lines)) == len(words):
        yield from (line for line in lines if line)
        return
    gaps = [
        not (is_without_spaces(word.text[-1]) and is_without_spaces(after.text[0])) for word, after in pairwise(words)
    ]
    yield [PlacedWord(word.text, word.box, gap) for word, gap in zip(words, [*gaps, False], strict=True)]


# ---------------------------------------------------------------- places that are estimated


def _shares(box: Rectangle, count: int, angle: float) -> Iterator[Rectangle]:
    """The box of each of `count` lines of a region, the first line first."""
    left, top, right, bottom = box
    quarter, _ = quarter_of(angle)
    for number in range(count):
        low, high = number / count, (number + 1) / count
        if quarter in (90, 180):
            low, high = 1 - high, 1 - low
        if quarter in (0, 180):
            yield (left, top + low * (bottom - top), right, top + high * (bottom - top))
        else:
            yield (left + low * (right - left), top, left + high * (right - left), bottom)


def text_sides(box: Rectangle, slant: float, across: bool) -> tuple[float, float]:
    """The length and the height of a text whose surrounding box is known.

    Args:
        box: around the text.
        slant: degrees by which it is off a quarter turn.
        across: whether it runs from top to bottom or back, and not from side to side.
    """
    wide, high = box[2] - box[0], box[3] - box[1]
    if across:
        wide, high = high, wide
    if abs(slant) > MOST_SLANT:
        return math.hypot(wide, high) * 0.9, math.hypot(wide, high) * 0.1
    cosine, sine = math.cos(math.radians(slant)), abs(math.sin(math.radians(slant)))
    length = (wide * cosine - high * sine) / (cosine * cosine - sine * sine)
    height = (high * cosine - wide * sine) / (cosine * cosine - sine * sine)
    return max(LEAST, length), max(LEAST, height, min(high, wide / LONGEST_LINE))


def _estimated_words(text: str, box: Rectangle, angle: float) -> list[PlacedWord]:
    """The words of a line, each with its share of the line by the usual widths of characters."""
    quarter, slant = quarter_of(angle)
    length, height = text_sides(box, slant, quarter in (90, 270))
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    ahead = (math.cos(math.radians(angle)), math.sin(math.radians(angle)))
    words = text.split(" ")
    total = sum(map(_usual_width, text))
    at = 0.0
    placed: list[PlacedWord] = []
    backwards = is_right_to_left(text)
    for word in words:
        share = sum(map(_usual_width, word))
        centre = length * ((at + share / 2) / total - 0.5) * (-1 if backwards else 1)
        x, y = middle[0] + centre * ahead[0], middle[1] + centre * ahead[1]
        half, tall = length * share / total / 2, height / 2
        wide = half * abs(ahead[0]) + tall * abs(ahead[1])
        high = half * abs(ahead[1]) + tall * abs(ahead[0])
        placed.append(PlacedWord(word, (x - wide, y - high, x + wide, y + high), spaced=len(placed) + 1 < len(words)))
        at += share + _usual_width(" ")
    return placed


def _usual_width(char: str) -> float:
    """The width of a character in a usual typeface, as a share of its size."""
    if unicodedata.east_asian_width(char) in "WF":
        return 1.0
    if unicodedata.combining(char):
        return 0.0
    return 0.28 if char in NARROW or char == " " else 0.68 if char.isupper() else 0.52

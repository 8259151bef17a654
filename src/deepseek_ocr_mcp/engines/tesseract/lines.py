"""Turns the words that Tesseract found into the lines of the page."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from typing import Final

from ...layout.gutters import split_at_gutters
from ...layout.lines import NO_SPACES, RIGHT_TO_LEFT, Quad, TextLine, WordPlace, cut
from ...layout.reading import PIECE, part_of, quad_of_box
from ..sheet import Region, slice_region
from .program import Word, by_line, mean_confidence

__all__ = ["lay_out"]

NOISE: Final = 0.3  # confidence of a line that is no text
TILTED_DEG: Final = 0.5
SPACE_EM: Final = 0.6  # least gap that is a space in scripts without spaces between words
HANGUL_SPACE_EM: Final = 0.25  # the same in Korean, where the program takes syllables for words
UNSPACED: Final = re.compile(f"{NO_SPACES.pattern[:-1]}\\u0e00-\\u0eff\\u1000-\\u109f\\u1780-\\u17ff]")
HANGUL: Final = re.compile("[\\uac00-\\ud7a3]")


def lay_out(words: Sequence[Word], width: int, height: int, scale: float = 1.0) -> tuple[list[TextLine], list[Region]]:
    """The lines of a page, straightened and cut at gutters, and where their ink is.

    Args:
        words: the words as the program printed them.
        width: of the page, pixels.
        height: of the page, pixels.
        scale: pixels of the page per pixel that the program saw.
    """
    groups = [group for group in by_line(words).values() if mean_confidence(group) >= NOISE]
    tilt = _tilt(groups)
    made = [_line(group, tilt, width, height, scale) for group in groups]
    lines, inks = [line for line, _ in made], [ink for _, ink in made]
    pieces = split_at_gutters(lines)
    return (
        [cut(lines[piece.line], piece) for piece in pieces],
        [slice_region(inks[piece.line], piece.begin, piece.end) for piece in pieces],
    )


def _tilt(groups: Sequence[Sequence[Word]]) -> float:
    """Degrees by which the page is tilted: the middle tilt of its long lines; 0 for less than half a degree."""
    tilts = []
    for group in groups:
        middles = [((w.box[0] + w.box[2]) / 2, (w.box[1] + w.box[3]) / 2) for w in group]
        size = statistics.median(w.box[3] - w.box[1] for w in group)
        if len(group) >= 4 and max(x for x, _ in middles) - min(x for x, _ in middles) >= 8 * size:
            slope, _ = statistics.linear_regression(*zip(*middles, strict=True))
            tilts.append(math.degrees(math.atan(slope)))
    tilt = statistics.median(tilts) if tilts else 0.0
    return tilt if abs(tilt) >= TILTED_DEG else 0.0


def _line(group: Sequence[Word], tilt: float, width: int, height: int, scale: float) -> tuple[TextLine, Region]:
    """A line of words on a page that is tilted: straightened, and as it lies."""
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    boxes = []
    for word in group:
        x1, y1, x2, y2 = (side * scale for side in word.box)
        dx, dy = (x1 + x2 - width) / 2, (y1 + y2 - height) / 2
        x, y = width / 2 + dx * cos + dy * sin, height / 2 - dx * sin + dy * cos
        half = (max((y2 - y1) - (x2 - x1) * abs(sin), 0.3 * (y2 - y1))) / 2  # a tilted word's box is higher than it
        boxes.append((x - (x2 - x1) / 2, y - half, x + (x2 - x1) / 2, y + half))
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[2] for box in boxes), max(box[3] for box in boxes)
    text, places, starts = _joined(group, boxes, vertical=bottom - top > 1.5 * (right - left) and len(group) > 1)
    vertical = bottom - top > 1.5 * (right - left) and len(text) > 1
    begin, extent = (top, bottom - top) if vertical else (left, right - left)
    centres = tuple((place - begin) / extent for place in places)
    if RIGHT_TO_LEFT.search(text):
        centres = ()  # they would run backwards
    pieces = [
        WordPlace(start, start + len(word.text), _place(word, scale, vertical=vertical))
        for start, word in zip(starts, group, strict=True)
    ]
    dx, dy = (left + right - width) / 2, (top + bottom - height) / 2
    ink = Region(width / 2 + dx * cos - dy * sin, height / 2 + dx * sin + dy * cos, right - left, bottom - top, tilt)
    line = TextLine(
        text, (left, top, right, bottom), mean_confidence(group), centres, vertical, words=_words(text, pieces)
    )
    return line, ink


def _place(word: Word, scale: float, *, vertical: bool) -> Quad:
    """Where a word is, in pixels of the page."""
    x1, y1, x2, y2 = word.box
    return quad_of_box((x1 * scale, y1 * scale, x2 * scale, y2 * scale), quarters=int(vertical))


def _words(text: str, pieces: Sequence[WordPlace]) -> tuple[WordPlace, ...]:
    """The words of a line and the signs at them, made of the pieces that the program takes for words.

    Of Korean, the program gives syllables; signs at a word are a part of it, and are placed in their share of it.
    """
    whole = TextLine(text, (0.0, 0.0, 0.0, 0.0), words=tuple(pieces))
    return tuple(WordPlace(*match.span(), part_of(whole, *match.span())) for match in PIECE.finditer(text))


def _joined(
    group: Sequence[Word], boxes: Sequence[tuple[float, float, float, float]], *, vertical: bool
) -> tuple[str, list[float], list[int]]:
    """The words as one text, the middle of each of its characters along the line, and where each word starts in it."""
    first, last = (1, 3) if vertical else (0, 2)
    text, places, starts = "", [], []
    for n, word in enumerate(group):
        begin, end = boxes[n][first], boxes[n][last]
        if n:
            gap = begin - boxes[n - 1][last]
            size = boxes[n][2] - boxes[n][0] if vertical else boxes[n][3] - boxes[n][1]
            if gap >= _space(text[-1], word.text[0]) * size:
                text += " "
                places.append((boxes[n - 1][last] + begin) / 2)
        starts.append(len(text))
        text += word.text
        places += [begin + (at + 0.5) / len(word.text) * (end - begin) for at in range(len(word.text))]
    return text, places, starts


def _space(before: str, after: str) -> float:
    """The least gap between two characters, in heights of the line, that is a space."""
    if UNSPACED.match(before) and UNSPACED.match(after):
        return SPACE_EM
    return HANGUL_SPACE_EM if HANGUL.match(before) and HANGUL.match(after) else -math.inf

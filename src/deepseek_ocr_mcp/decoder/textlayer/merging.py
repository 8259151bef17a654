"""Merges lines that an engine read with those that the file holds: compares where these are in doubt, adds elsewhere.

A line in doubt that the engine reads alike is exact after all. One with unknown characters takes just those from the
engine. One that the engine reads otherwise is replaced by what the engine read.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any, Final

from .content import Box, Clock, Glyph, Run, is_within
from .lines import IDEOGRAPH, LayerLine, Mark

__all__ = ["ReadLine", "is_readable", "merged", "not_drawn_twice"]

UNKNOWN: Final = "\ufffd"
COVERED_SHARE: Final = 0.5  # of a read line lies on a line of the file: both are the same
LEVEL_SHARE: Final = 0.5  # of the lower line's height is shared
SHADOW: Final = 0.8  # of a read line and the line over it is alike: its shadow; chance words in one place are none
SIGN_WIDE: Final = 2.0  # times a drawn sign may the reading of it be wide
ALIKE: Final = 0.6  # of a line's known characters are read alike: the font says what it shows
FILLED_ALIKE: Final = 0.7  # the same for a line whose unknown characters are filled in
LONGEST_FILL: Final = 4  # characters for one that is unknown: a ligature has three
SURE: Final = 0.6  # score of a read line that may take a line's place
UNREADABLE: Final = re.compile("[\u0590-\u10ff\u1100-\u11ff\u1780-\u18af\uac00-\ud7ff\ufb1d-\ufeff]")
"""Letters from Hebrew to Georgian, of Khmer and Mongolian, and Hangul."""
UNREADABLE_SHARE: Final = 0.3
ASCENT: Final = 0.78  # of the height of a read line's box is above its baseline
SIZE: Final = 0.9  # of that height is the size of its type


@dataclass(frozen=True, slots=True)
class ReadLine:
    """A line that an engine read; boxes in points of the upright page."""

    text: str
    box: Box
    score: float
    words: tuple[tuple[str, Box], ...] = ()

    @classmethod
    def of(cls, block: Mapping[str, Any], across: float, down: float) -> ReadLine:
        """From a block in pixels; `across` and `down` are points per pixel."""

        def in_points(box: Sequence[float]) -> Box:
            return box[0] * across, box[1] * down, box[2] * across, box[3] * down

        score = block.get("score")
        words = tuple((str(word["text"]), in_points(word["box"])) for word in block.get("words", ()))
        return cls(str(block["text"]), in_points(block["box"]), 1.0 if score is None else float(score), words)

    def as_line(self, most: float = math.inf) -> LayerLine:
        """As a line of the page, in type of that size at most."""
        x1, y1, x2, y2 = self.box
        text = " ".join(self.text.split())
        vertical = y2 - y1 > 2 * (x2 - x1) and bool(IDEOGRAPH.search(text))
        size = min(most, SIZE * (x2 - x1 if vertical else y2 - y1))
        run = Run(size=max(size, 0.1), order=0)
        marks: list[Mark] = []
        at: list[int] = []
        for char, (begin, end) in zip(text, self._places(text, vertical=vertical), strict=True):
            if char == " ":
                at.append(-1)
                continue
            at.append(len(marks))
            box = (x1, begin, x2, end) if vertical else (begin, y1, end, y2)
            base = box[1] + ASCENT * (box[3] - box[1])
            glyph = Glyph(char, box, box[0], base, run, score=self.score)
            marks.append(Mark(glyph, char, box[0], box[2], base, run.size, -1))
        return LayerLine(marks, vertical, text, at)

    def _places(self, text: str, *, vertical: bool) -> list[tuple[float, float]]:
        """Where each character begins and ends along the line: at equal distances within its word."""
        first, last = (1, 3) if vertical else (0, 2)
        places = _shares(self.box[first], self.box[last], len(text))
        start = 0
        for word, box in self.words:
            if (start := text.find(word, start)) < 0:
                break
            places[start : start + len(word)] = _shares(box[first], box[last], len(word))
            start += len(word)
        return places


def _shares(begin: float, end: float, count: int) -> list[tuple[float, float]]:
    """A length in equal parts."""
    step = (end - begin) / max(1, count)
    return [(begin + n * step, begin + (n + 1) * step) for n in range(count)]


def merged(
    lines: Sequence[LayerLine], doubtful: Collection[int], read: Sequence[ReadLine], clock: Clock
) -> tuple[list[LayerLine], list[ReadLine]]:
    """The lines, those in doubt compared with what was read in their places; and what was read elsewhere.

    Args:
        doubtful: the `id` of each line that is in doubt.
    """
    used: set[int] = set()
    out: list[LayerLine] = []
    for line in lines:
        if id(line) not in doubtful:
            out.append(line)
            continue
        box = _box_of(line)
        found = []
        for n, other in enumerate(read):
            clock.tick()
            if _is_same(box, other.box):
                found.append(other)
                if _share(box, other.box) >= COVERED_SHARE:
                    used.add(n)
        out += _compared(line, box, sorted(found, key=lambda other: other.box[0]))
    return out, [other for n, other in enumerate(read) if n not in used and other.text.strip()]


def not_drawn_twice(
    read: Sequence[ReadLine], lines: Sequence[LayerLine], signs: Sequence[Box], clock: Clock
) -> list[ReadLine]:
    """What was read, without what the lines of the file give already.

    A blurred shadow under a heading is a picture of its words, and a drawn list mark looks like a small figure.

    Args:
        lines: of the file.
        signs: the boxes of drawn signs that the lines have as characters.
    """
    boxes = [(line.text, _box_of(line)) for line in lines]
    kept = []
    for other in read:
        clock.tick()
        if any(_is_on(other.box, sign) for sign in signs):
            continue
        under = [text for text, box in boxes if _is_same(box, other.box) and _share(box, other.box) >= COVERED_SHARE]
        if not any(SequenceMatcher(None, text, other.text, autojunk=False).ratio() >= SHADOW for text in under):
            kept.append(other)
    return kept


def _is_on(box: Box, sign: Box) -> bool:
    """Whether a box is where a sign is, and no line beside it."""
    return is_within(box, sign) and box[2] - box[0] <= SIGN_WIDE * max(sign[2] - sign[0], sign[3] - sign[1])


def _box_of(line: LayerLine) -> Box:
    boxes = [glyph.box for glyph in line.glyphs]
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _is_same(box: Box, other: Box) -> bool:
    high = min(box[3], other[3]) - max(box[1], other[1])
    wide = min(box[2], other[2]) - max(box[0], other[0])
    return wide > 0 and high >= LEVEL_SHARE * min(box[3] - box[1], other[3] - other[1])


def _share(box: Box, other: Box) -> float:
    """How much of `other` is along `box`."""
    return (min(box[2], other[2]) - max(box[0], other[0])) / max(other[2] - other[0], 1e-6)


def _compared(line: LayerLine, box: Box, found: Sequence[ReadLine]) -> list[LayerLine]:
    """The line as it is to be given, or the lines that take its place.

    Args:
        box: of the line, on the page.
    """
    text = " ".join(other.text for other in found)
    if not text.strip():
        return [line]
    matcher = SequenceMatcher(None, line.text, text, autojunk=False)
    known = sum(char != UNKNOWN and not char.isspace() for char in line.text)
    shared = "".join(line.text[block.a : block.a + block.size] for block in matcher.get_matching_blocks())
    alike = len("".join(shared.split()))
    unknown = line.text.count(UNKNOWN)
    inside = [other for other in found if _share(box, other.box) >= COVERED_SHARE]
    sure = [other for other in inside if other.score >= SURE and any(map(str.isalnum, other.text))]
    if unknown and known and alike >= FILLED_ALIKE * known:
        filled = _filled(line, text, matcher, min(other.score for other in found))
        if UNKNOWN in filled.text and sure and len(sure) == len(found):
            return [other.as_line() for other in sure]
        return [filled]
    if not unknown and alike >= ALIKE * known:
        return [line]
    if sure and (unknown > known or (not unknown and is_readable(line.text))):
        return [other.as_line() for other in sure]
    return [line]


def is_readable(text: str) -> bool:
    """Whether an engine that reads Latin and Chinese can tell that this is not what a page shows."""
    chars = [char for char in text if not char.isspace()]
    strange = sum(bool(UNREADABLE.match(char)) or unicodedata.category(char) == "So" for char in chars)
    return len(chars) > 1 and strange <= UNREADABLE_SHARE * len(chars)


def _filled(line: LayerLine, text: str, matcher: SequenceMatcher[str], score: float) -> LayerLine:
    """The line with its unknown characters as they were read."""
    fills: dict[int, str] = {}
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        if kind != "replace" or UNKNOWN not in line.text[i1:i2]:
            continue
        if i2 - i1 == j2 - j1:
            fills.update({i: text[j1 + i - i1] for i in range(i1, i2) if line.text[i] == UNKNOWN})
        elif i2 - i1 == 1 and (words := text[j1:j2].split()):
            word = words[-1] if i1 == 0 else words[0]  # the rest belongs to a line beside it
            if len(word) <= LONGEST_FILL:
                fills[i1] = word
    marks = list(line.marks)
    for i, chars in fills.items():
        mark = marks[line.at[i]]
        if chars.strip() and mark.text == UNKNOWN:
            marks[line.at[i]] = replace(mark, text=chars, glyph=replace(mark.glyph, score=score))
    return _rebuilt(line, marks)


def _rebuilt(line: LayerLine, marks: list[Mark]) -> LayerLine:
    text, at = "", []
    for before, n in pairwise([None, *line.at]):
        if n is not None and n < 0:
            text += " "
            at.append(-1)
        elif n is not None and n != before:
            text += marks[n].text
            at += [n] * len(marks[n].text)
    return LayerLine(marks, line.vertical, text, at)

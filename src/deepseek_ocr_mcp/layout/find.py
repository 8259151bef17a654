"""Finds a word or a sequence of words in recognised lines. Pure Python; never raises on any text.

Case, accents, width (NFKC) and the shape of quotes and dashes do not count. A sequence may run
over a line break, and a word may be hyphenated there. Where nothing is found, a second look
ignores spaces, because recognition sometimes drops them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .lines import TextLine
from .order import reading_order

__all__ = ["Hit", "Span", "find_term"]

SAME: Final = str.maketrans(
    {**dict.fromkeys("‘’‚`´′", "'"), **dict.fromkeys("“”„«»″", '"'), **dict.fromkeys("‐‑‒–—―−", "-")}
)


@dataclass(frozen=True, slots=True)
class Span:
    """The part of one line that belongs to a hit.

    `start` and `stop` index the characters of the line's text; `begin` and `end` are the same
    places as fractions of its box's length, in the white space around the part where there is any.
    """

    line: int
    start: int
    stop: int
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One place where the term stands; one span for each line that it touches."""

    spans: tuple[Span, ...]


def find_term(lines: Sequence[TextLine], term: str, order: Sequence[int] | None = None) -> list[Hit]:
    """Every place of `term`, in reading order, without overlaps.

    `order` is the reading order where the caller has it already.
    """
    words = [re.escape(_folded(word)) for word in term.split()]
    words = [word for word in words if word]
    if not words:
        return []
    text, places = _haystack(lines, reading_order(lines) if order is None else order)
    found = list(re.finditer(r"\s+".join(words), text))
    if not found:
        letters = [re.escape(char) for word in term.split() for char in _folded(word)]
        found = list(re.finditer(r"\s*".join(letters), text))
    return [Hit(tuple(_spans(lines, places[match.start() : match.end()]))) for match in found]


def _haystack(lines: Sequence[TextLine], order: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """All lines folded to one string, and for each of its characters the line and place it is from."""
    text: list[str] = []
    places: list[tuple[int, int]] = []
    for index in order:
        if text:
            if _is_broken_word(text, lines[index].text):
                del text[-1], places[-1]
            else:
                text.append(" ")
                places.append((-1, -1))
        for at, char in enumerate(lines[index].text):
            for folded in _folded(char):
                text.append(folded)
                places.append((index, at))
    return "".join(text), places


def _is_broken_word(text: list[str], following: str) -> bool:
    return len(text) > 1 and text[-1] in "-\u00ad" and text[-2].isalpha() and following[:1].islower()


def _spans(lines: Sequence[TextLine], places: list[tuple[int, int]]) -> list[Span]:
    reached: dict[int, tuple[int, int]] = {}
    for index, at in places:
        if index >= 0:
            start, stop = reached.get(index, (at, at + 1))
            reached[index] = (min(start, at), max(stop, at + 1))
    return [
        Span(index, start, stop, _edge(lines[index], start), _edge(lines[index], stop))
        for index, (start, stop) in reached.items()
    ]


def _edge(line: TextLine, at: int) -> float:
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


def _folded(text: str) -> str:
    """Without case, accents and width; quotes and dashes of one shape."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).translate(SAME).casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))

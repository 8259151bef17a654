"""Rows of a column become titles, paragraphs, list items and lines of a program.

Every row that is given is in exactly one element, in the order in which it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from .evidence import goes_on
from .lines import ENDS, FIGURE, LIST_ITEM, LIST_MARK, Box, Element, Frame, Kind, Row, row_text

__all__ = ["paragraphs_of"]

# Tuned on the shared corpus and benchmarks/generated_pages.py. Too small, and paragraphs fall apart at every line
# that is set a little low; too large, and two paragraphs are one.
PARAGRAPH_GAP: Final = 0.45  # em more than the usual gap: a new paragraph
HANGING_EM: Final = 1.0  # how far the second line of a list item may stand from the text of the first
HANGING_MOST_EM: Final = 4.0  # the same from its mark, where the place of the text is not known
LABEL_CHARS: Final = 16  # at most, in a name along the axis of a chart
CODE_ROWS: Final = 3  # least length of a program
CODE_SHARE: Final = 0.4  # of its lines end or are written as only programs are
CODE_SIGNS: Final = 2  # least number of lines with such signs
CODE_PITCHES: Final = 2  # least number of lines that tell the advance
CODE_GAP_EM: Final = 3.2  # most white between two lines of a program
OFF_GRID: Final = 0.45  # of the advance: how far a letter of type of one width may stand from its place
PITCH_SPREAD: Final = 0.05  # of the advance: lines of one type, some of them short
PITCH_SHARE: Final = 0.7  # of the lines that are not short have that advance
PITCH_CHARS: Final = 6  # shorter lines tell no advance
CODE: Final = re.compile(
    r"[;{}]$|^[}\])]|^(?:\$|>>>|PS>) \S|\)\s*[:{;]?$|\w\(|[\w\])]\s*[-+*/|&]?=\s*\S|==|!=|->|=>|::"
    r"|^\s*(?:#|//|/\*|\*/|--\s)|^@\w"
    r"|^(?:def|class|if|else|elif|for|while|try|return|import|from|end|fi|done|print|var|let|const|function)\b.*[:({;\w]$"
)


def paragraphs_of(frame: Frame, rows: Sequence[Row], number: int, heading_of: Sequence[int]) -> Iterator[Element]:
    """Rows as elements of the region `number`. A wide gap, an indent or a list mark begins a new one.

    Args:
        heading_of: for each row 0, or the number of the heading that it belongs to.
    """
    if not rows:
        return
    part = _ColumnRows.of(frame, rows, heading_of)
    at = 0
    for start, stop in [*_programs(frame, rows, heading_of), (len(rows), len(rows))]:
        yield from _prose(part, at, start, number)
        if stop > start:
            yield Element("code", tuple((tuple(row),) for row in rows[start:stop]), region=number)
        at = stop


def _prose(part: _ColumnRows, first: int, end: int, number: int) -> Iterator[Element]:
    """The rows from `first` to `end` as elements of the region `number`."""
    start = first
    for n in range(first + 1, end + 1):
        if n == end or part.begins(start, n):
            yield part.element(start, n, number)
            start = n


@dataclass(frozen=True, slots=True)
class _ColumnRows:
    """The rows of a column, and what they are measured by."""

    frame: Frame
    rows: Sequence[Row]
    boxes: list[Box]
    heading_of: Sequence[int]
    usual: float
    margin: float

    @classmethod
    def of(cls, frame: Frame, rows: Sequence[Row], heading_of: Sequence[int]) -> _ColumnRows:
        boxes = [frame.union(row) for row in rows]
        gaps = sorted(below[1] - above[3] for above, below in pairwise(boxes))
        # Paragraphs of two lines have wide gaps, too: the lower third is the usual one.
        usual = gaps[len(gaps) // 3] if gaps else 0.0
        return cls(frame, rows, boxes, heading_of, usual, min(box[0] for box in boxes))

    def begins(self, start: int, n: int) -> bool:
        """Whether row `n` begins an element, where the one before it began at `start`."""
        em, box, above = self.frame.em, self.boxes[n], self.boxes[n - 1]
        if self.heading_of[n] != self.heading_of[n - 1] or self.frame.is_block([*self.rows[n - 1], *self.rows[n]]):
            return True
        if self.heading_of[n]:
            return False
        if self._is_axis(n):
            return False
        if box[1] - above[3] > self.usual + PARAGRAPH_GAP * em or self._is_item(n):
            return True
        if self._changes_weight(n):
            return True
        if self._is_item(start):
            return not self._hangs(start, n)
        at_margin = above[0] < self.margin + 0.5 * em
        return at_margin and above[0] + em < box[0] < self.margin + 5 * em

    def _changes_weight(self, n: int) -> bool:
        """Whether bold type ends or begins with row `n`, and no sentence goes on into it."""
        above, row = ([self.frame.lines[i] for i in self.rows[k]] for k in (n - 1, n))
        is_other = all(line.bold for line in above) != all(line.bold for line in row)
        return is_other and goes_on(above[-1].text, row[0].text) < 1

    def _is_item(self, n: int) -> bool:
        return LIST_ITEM.match(row_text(self.frame.lines, [self.rows[n]])) is not None

    def _is_axis(self, n: int) -> bool:
        """Whether row `n` goes on with the figures at the axis of a chart, or names what stands along the other."""
        before, row = self.rows[n - 1], self.rows[n]
        lines = self.frame.lines
        if len(before) > 1 or not FIGURE.fullmatch(lines[before[0]].text.strip()):
            return False
        if len(row) == 1:
            return FIGURE.fullmatch(lines[row[0]].text.strip()) is not None
        return n > 1 and self._is_axis(n - 1) and all(len(lines[i].text) <= LABEL_CHARS for i in row)

    def _hangs(self, start: int, n: int) -> bool:
        """Whether row `n` goes on with the list item that begins at `start`: under its text, not under its mark."""
        em, left = self.frame.em, self.boxes[n][0]
        mark = self.boxes[start][0]
        if left < mark + 0.3 * em or self._is_next_item(start, n):
            return False
        text = self._text_left(start)
        return abs(left - text) <= HANGING_EM * em if text is not None else left <= mark + HANGING_MOST_EM * em

    def _is_next_item(self, start: int, n: int) -> bool:
        """Whether row `n` is an item whose mark was not read: the one above ended early, and with a sentence."""
        rows, lines = self.rows, self.frame.lines
        above, text = row_text(lines, [rows[n - 1]]), row_text(lines, [rows[n]])
        if not above.endswith(ENDS) or not text[:1].isupper():
            return False
        stop = next((k for k in range(n, len(rows)) if self.boxes[k][0] < self.boxes[start][0]), len(rows))
        right = max(box[2] for box in self.boxes[start:stop])
        box = self.boxes[n]
        word = len(text.split(maxsplit=1)[0]) * (box[2] - box[0]) / len(text)
        return self.boxes[n - 1][2] + word + self.frame.em < right

    def _text_left(self, n: int) -> float | None:
        """Where the text of a list item begins, after its mark."""
        row, lines = self.rows[n], self.frame.lines
        if len(row) > 1 and LIST_MARK.fullmatch(lines[row[0]].text.strip()):
            return self.frame.boxes[row[1]][0]
        line, match = lines[row[0]], LIST_ITEM.match(lines[row[0]].text)
        if match is None or len(line.centres) != len(line.text):
            return None
        x1, _, x2, _ = self.frame.boxes[row[0]]
        return x1 + (x2 - x1) * line.centres[match.end()] - self.frame.pitch / 2

    def element(self, start: int, stop: int, number: int) -> Element:
        kind: Kind = "line"
        if self.heading_of[start]:
            kind = "title"
        elif self._is_item(start):
            kind = "list"
        return Element(kind, tuple((tuple(row),) for row in self.rows[start:stop]), region=number)


def _programs(frame: Frame, rows: Sequence[Row], heading_of: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges of rows that are lines of a program: type of one width, and signs that only programs have."""
    if frame.mirrored or len(rows) < CODE_ROWS:
        return
    lines = [_ProgramLine.of(frame, row) for row in rows]
    if sum(line.has_sign for line in lines) < CODE_SIGNS:
        return
    start = 0
    while start < len(rows):
        stop = start
        while stop < len(rows) and lines[stop].may_be and not heading_of[stop]:
            if stop > start and frame.union(rows[stop])[1] - frame.union(rows[stop - 1])[3] > CODE_GAP_EM * frame.em:
                break
            stop += 1
        first, end = start, stop
        while first < end and not (lines[first].pitch or lines[first].has_sign):
            first += 1
        while first < end and not (lines[end - 1].pitch or lines[end - 1].has_sign):
            end -= 1  # a short word before or after it is none of its lines
        if end - first >= CODE_ROWS and _is_program(lines[first:end]):
            yield first, end
        start = max(stop, start + 1)


@dataclass(frozen=True, slots=True)
class _ProgramLine:
    """What a row tells about whether it is a line of a program."""

    pitch: float
    """The advance from character to character, if it is the same all along; 0 where that is not so, or not known."""
    has_sign: bool
    is_short: bool

    @classmethod
    def of(cls, frame: Frame, row: Row) -> _ProgramLine:
        if len(row) > 1 or frame.is_block(row):
            return cls(0.0, has_sign=False, is_short=False)
        text = frame.lines[row[0]].text.strip()
        return cls(_pitch(frame, row[0]), CODE.search(text) is not None, len(text) < PITCH_CHARS)

    @property
    def may_be(self) -> bool:
        return self.pitch > 0 or self.has_sign or self.is_short


def _is_program(lines: Sequence[_ProgramLine]) -> bool:
    """Whether the lines have one advance, and enough of them signs of a program."""
    pitches = [line.pitch for line in lines if line.pitch]
    long = sum(not line.is_short for line in lines)
    if len(pitches) < CODE_PITCHES or sum(line.has_sign for line in lines) < max(CODE_SIGNS, CODE_SHARE * len(lines)):
        return False
    usual = median(pitches)
    return sum(abs(pitch - usual) <= PITCH_SPREAD * usual for pitch in pitches) >= PITCH_SHARE * long


def _pitch(frame: Frame, i: int) -> float:
    """The advance from character to character of a line; 0 where it is too short to tell, or not the same all along."""
    line, box = frame.lines[i], frame.boxes[i]
    count = len(line.text)
    if count < PITCH_CHARS or len(line.centres) != count:
        return 0.0
    step = (line.centres[-1] - line.centres[0]) / (count - 1)
    off = max(abs(centre - line.centres[0] - n * step) for n, centre in enumerate(line.centres) if line.text[n] != " ")
    return step * (box[2] - box[0]) if off <= OFF_GRID * step else 0.0

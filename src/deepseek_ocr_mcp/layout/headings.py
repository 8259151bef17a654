"""Tells headings from text: by the size of the type, by what they say, and by what follows them.

A heading that is missed costs an agent an outline entry; a false one tears a paragraph and misleads the agent.
So a row is a heading only where several signs agree.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean
from typing import Final

from .lines import ENDS, LIST_ITEM, Element, Frame, Row, TextLine, reading_length, row_text, type_size
from .tables import cells_of

__all__ = ["Headings", "with_levels"]

# Tuned on 104 headings and 6,500 other lines of benchmarks/generated_pages.py (two seeds) and on those of the
# shared corpus. Lower, and the stretched or badly boxed lines of paragraphs are headings.
LARGE: Final = 1.4  # times the usual type: a heading, whatever it says
LARGER: Final = 1.15  # times the usual type: one if all other signs agree
TALL: Final = 0.95  # times the usual height of a line, at least; lower are letters set wide apart
LARGE_TALL: Final = 1.1  # the same for a heading whatever it says
LARGE_SHARE: Final = 0.35  # of the page's characters, at most, are as large as a large heading
LARGER_SHARE: Final = 0.25  # or as one that is a little larger
AS_LARGE: Final = 0.93  # of a size counts as the same
SMALLER: Final = 0.92  # of the heading's size, at most, has what follows it
SHORT_CHARS: Final = 6  # the widths of fewer characters tell little of their size: SHORT_LARGER is asked of them
SHORT_LARGER: Final = 1.25
HEADING_CHARS: Final = 60  # at most, for one that is a little larger
TITLE_CHARS: Final = 150  # at most, for any
SENTENCE_WORDS: Final = 8  # from so many on, text that ends like a sentence is one
BLOCK_ROWS: Final = 3  # at most
BODY_CHARS: Final = 16  # least length of the text that follows a heading
HEADING_WIDTH: Final = 0.85  # of the column, at most, for one that is a little larger
WORDS_SCALE: Final = 1.06  # what words without their spaces measure less than with them, in the middle
NAMES: Final = 3  # so many headings that are only a little larger …
MOST_ROWS: Final = 0.35  # … in more than this share of a column's rows are the names in a list
LEVEL_STEP: Final = 1.12  # sizes that differ by less are one level
LEVELS: Final = 3


@dataclass(frozen=True, slots=True)
class _Context:
    """The rows of a column, and the row that is read after the last of them."""

    rows: Sequence[Row]
    following: Row | None
    left: float
    width: float
    usual_gap: float

    def after(self, at: int) -> Row | None:
        return self.rows[at] if at < len(self.rows) else self.following


class Headings:
    """Looks for the headings of one page.

    `frame` holds the lines that are looked at, `page` all of them: those in tables tell what is large, too.
    """

    def __init__(self, frame: Frame, page: Frame) -> None:
        self._frame = frame
        sizes = sorted((page.scale([i]), len(line.text)) for i, line in enumerate(page.lines))
        self._sizes = [size for size, _ in sizes]
        self._counts = [0, *accumulate(count for _, count in sizes)]

    def among(self, rows: Sequence[Row], following: Row | None) -> list[int]:
        """For each row of a column 0, or the number of the heading that it belongs to, counted from 1.

        Args:
            rows: the rows of a column, those of its tables too.
            following: the row that is read after them, if there is one.
        """
        frame, numbers = self._frame, [0] * len(rows)
        if not rows:
            return numbers
        boxes = [frame.union(row) for row in rows]
        gaps = sorted(b[1] - a[3] for a, b in pairwise(boxes))
        left = min(box[0] for box in boxes)
        width = max(box[2] for box in boxes) - left
        context = _Context(rows, following, left, width, gaps[len(gaps) // 3] if gaps else 0.0)
        blocks: list[tuple[int, int]] = []
        at = 0
        while at < len(rows):
            stop = self._block(rows, at)
            if stop > at:
                blocks.append((at, stop))
            at = max(stop, at + 1)
        for number, (at, stop) in reversed(list(enumerate(blocks, start=1))):
            over_heading = stop < len(rows) and numbers[stop] > 0
            if self._is_large(context, at, stop) or self._is_larger(context, at, stop, over_heading=over_heading):
                numbers[at:stop] = [number] * (stop - at)
        larger = [(at, stop) for at, stop in blocks if numbers[at] and not self._is_large(context, at, stop)]
        if len(larger) >= NAMES and sum(map(bool, numbers)) > MOST_ROWS * len(rows):
            for at, stop in larger:  # names in a list, each over a line of text
                numbers[at:stop] = [0] * (stop - at)
        return numbers

    def _block(self, rows: Sequence[Row], at: int) -> int:
        """Where the run of rows of one size ends that begins at `at` and may be a heading; `at` if none does."""
        frame, size = self._frame, self._size(rows[at])
        bold = self._is_bold(rows[at])
        if size < LARGER and not bold:
            return at
        stop = at + 1
        while stop < len(rows) and stop - at <= BLOCK_ROWS:
            above, below = frame.union(rows[stop - 1]), frame.union(rows[stop])
            like = self._size(rows[stop]) / size
            if (
                below[1] - above[3] > frame.em * size
                or not AS_LARGE <= like <= 1 / AS_LARGE
                or bold != self._is_bold(rows[stop])
            ):
                break
            stop += 1
        return stop

    def _size(self, row: Row) -> float:
        """How large the type of a row is; the spaces of a justified line do not count."""
        frame = self._frame
        scale = frame.scale(row)
        if scale < LARGER or frame.mirrored:
            return min(scale, fmean(frame.height(i) for i in row) / frame.em) if frame.mirrored else scale
        sizes = [_size_of_words(frame.lines[i], frame.boxes[i]) for i in row]
        return min(scale, WORDS_SCALE * fmean(sizes) / frame.type_size) if all(sizes) else scale

    def _is_bold(self, row: Row) -> bool:
        return self._frame.bold_stands_out and all(self._frame.lines[i].bold for i in row)

    def _may_be(self, context: _Context, at: int, stop: int) -> bool:
        """Whether the rows from `at` to `stop` are short text that begins a sentence, and no cells or list item."""
        frame = self._frame
        text = row_text(frame.lines, context.rows[at:stop])
        item = LIST_ITEM.match(text)
        if (
            stop - at > BLOCK_ROWS
            or len(text) > TITLE_CHARS
            or (item and (item["bullet"] or item["verdict"]))
            or _begins_low(text)
        ):
            return False
        if text.endswith(ENDS) and len(text.split()) >= SENTENCE_WORDS:
            return False  # a quotation in large type
        if 2 * sum(map(str.isalpha, text)) <= len(text):
            return False
        return all(len(cells_of(frame, row)) == 1 for row in context.rows[at:stop])

    def _measured(self, context: _Context, at: int, stop: int) -> tuple[float, float]:
        """How large the type is and how high the lines are, both beside the usual ones of the page."""
        rows = context.rows[at:stop]
        heights = [self._frame.height(i) for row in rows for i in row]
        return fmean(map(self._size, rows)), fmean(heights) / self._frame.em

    def _is_large(self, context: _Context, at: int, stop: int) -> bool:
        """Whether the type is so large that the rows are a heading, whatever they say."""
        size, tall = self._measured(context, at, stop)
        large = size >= LARGE and tall >= LARGE_TALL and self._share(size) <= LARGE_SHARE
        return large and self._may_be(context, at, stop)

    def _is_larger(self, context: _Context, at: int, stop: int, *, over_heading: bool) -> bool:
        """Whether the rows are set a little larger, or bold, stand apart, and head the text that follows."""
        frame = self._frame
        text = row_text(frame.lines, context.rows[at:stop])
        if not self._may_be(context, at, stop) or len(text) > HEADING_CHARS or text[-1] in ".,;:-":
            return False
        size, tall = self._measured(context, at, stop)
        bold = self._is_bold(context.rows[at])
        if not bold:
            least = LARGER if sum(map(str.isalpha, text)) >= SHORT_CHARS else SHORT_LARGER
            if tall < TALL or size < least or self._share(size) > LARGER_SHARE:
                return False
        box = frame.union(i for row in context.rows[at:stop] for i in row)
        if box[2] - box[0] > HEADING_WIDTH * context.width or not self._stands_apart(context, at):
            return False
        return over_heading or self._is_followed(context, stop, size, bold)

    def _share(self, size: float) -> float:
        """The share of the page's characters that are set as large."""
        at = bisect_left(self._sizes, AS_LARGE * size)
        return 1 - self._counts[at] / max(1, self._counts[-1])

    def _stands_apart(self, context: _Context, at: int) -> bool:
        """Whether there is more white above a row than between the lines of the text, or nothing."""
        if at == 0:
            return True
        frame = self._frame
        gap = frame.union(context.rows[at])[1] - frame.union(context.rows[at - 1])[3]
        return gap > context.usual_gap + 0.15 * frame.em

    def _is_followed(self, context: _Context, stop: int, size: float, bold: bool) -> bool:
        """Whether text in smaller type, or a table, comes next, and does not go on with a sentence."""
        row = context.after(stop)
        if row is None:
            return False
        if self._frame.is_block(row) or len(cells_of(self._frame, row)) > 1:
            return True
        text = row_text(self._frame.lines, [row])
        if bold:
            return not self._is_bold(row)
        smaller = self._size(row) <= SMALLER * size
        return smaller and reading_length(text) >= BODY_CHARS and not _begins_low(text)


def _begins_low(text: str) -> bool:
    """Whether the first letter is a small one: then a sentence goes on."""
    return next((char.islower() for char in text if char.isalnum()), False)


def _size_of_words(line: TextLine, box: tuple[float, float, float, float]) -> float:
    """The size of the type, told by the words without the spaces between them; 0 where that is not known."""
    if len(line.centres) != len(line.text):
        return 0.0
    along = box[2] - box[0]
    sizes, start = [], 0
    for word in line.text.split(" "):
        stop = start + len(word)
        if len(word) > 2:
            # From the middle of the first letter to that of the last: half of either is left out.
            inner = word[1:-1] + word[0]
            sizes.append((type_size(inner, (line.centres[stop - 1] - line.centres[start]) * along), len(word)))
        start = stop + 1
    total = sum(count for _, count in sizes)
    return sum(size * count for size, count in sizes) / total if total else 0.0


def with_levels(lines: Sequence[TextLine], elements: list[Element]) -> list[Element]:
    """Larger titles get the higher level. A page of nothing but titles is a poster: it has none."""
    if not any(element.kind == "title" for element in elements):
        return elements
    frame = Frame.of(lines)
    sizes = {n: frame.scale(element.lines) for n, element in enumerate(elements) if element.kind == "title"}
    if len(sizes) == len(elements):
        return [Element("line", e.rows, region=e.region) for e in elements]
    steps: list[float] = []
    for size in sorted(sizes.values(), reverse=True):
        if not steps or size < steps[-1] / LEVEL_STEP:
            steps.append(size)
    # A page may begin in the middle of a chapter: a heading hardly larger than the text is none of the first level.
    above = 0 if steps and steps[0] >= LARGE else 1
    return [
        Element("title", e.rows, above + max(1, sum(step >= sizes[n] for step in steps[:LEVELS])), e.region)
        if n in sizes
        else e
        for n, e in enumerate(elements)
    ]

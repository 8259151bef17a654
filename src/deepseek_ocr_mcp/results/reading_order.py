"""Puts recognised lines into reading order and writes them as plain text or Markdown.

Every line given comes back exactly once: the order is a permutation of the input, and the same
lines always give the same order. Pure Python; time grows as n log n for n lines.

The page is cut at gutters: vertical strips that only few lines cross. Lines that cross a gutter
(a headline over two columns) cut it into bands; in each band the left column comes before the
right one, and each column is cut again. A gutter between cells of a table is no gutter: there
the rows go on across it. What is left after cutting is read row by row, and runs of rows whose
cells stand under each other become tables.

Lengths are in pixels of the page unless a name says otherwise; `em` is the median line height.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Final, Literal

__all__ = [
    "Box",
    "Element",
    "Piece",
    "TextLine",
    "arrange",
    "cut",
    "reading_order",
    "rows_around",
    "runs_leftwards",
    "split_at_gutters",
    "to_markdown",
    "to_text",
    "whole",
]

Box = tuple[float, float, float, float]
Kind = Literal["title", "line", "list", "table"]
Row = list[int]

GUTTER_EM: Final = 0.6  # least width of a strip between columns
OVERHANG_EM: Final = 1.0  # a line that reaches less far beyond a gutter does not cross it
CROSSING_SHARE: Final = 0.3  # of the lines may cross a gutter, as headlines do
COLUMN_EM: Final = 5.0  # least width of a column of prose
PROSE_LINES: Final = 4  # least length of a column whose lines are level with its neighbour's
PROSE_FILL: Final = 0.6  # of the column is filled by its middle line, when it is prose
PROSE_CHARS: Final = 24  # least length of the middle line of running text
NARROW_CHARS: Final = 18  # the same in a column that it fills
ALIGNED_SHARE: Final = 0.4  # of the lines have a partner in the same row beyond the gutter: a table
SPACE_EM: Final = 0.4  # least gap in a line that a gutter may run through
BAND_EM: Final = 0.5  # least white from side to side between a headline and the columns
BAND_LINES: Final = 3  # at most, for a headline with what belongs to it
FOOT_EM: Final = 1.0  # least white above a page number that belongs to no column
MARGIN_SHARE: Final = 0.45  # of the text's width: what is wider is no margin
MARGIN_SCALE: Final = 0.87  # of the text's advance from character to character: notes are set smaller
NOTE_CHARS: Final = 6  # least length of the middle line of notes in a margin
STRIP_SHARE: Final = 0.6  # of a gutter's width must be white in a line that it cuts
SPLIT_EM: Final = 0.9  # least gap in a line that suggests a gutter
SPLIT_SPACES: Final = 1.8  # times the usual space of the line
CELL_GAP_EM: Final = 2.5  # a gap in a line that is wider parts cells, gutter or not
SAME_CELL_PITCH: Final = 1.3  # times the usual advance of a character: a space, in type of one width
SAME_CELL_EM: Final = 0.3  # lines of a row that stand closer are one cell
ROW_SHIFT: Final = 0.5  # of the smaller height: how far middles may differ within a row
CONTINUATION_EM: Final = 0.4  # rows of a table that stand closer, and closer than the others, are one
CONTINUATION_SHARE: Final = 0.6  # of the white between the others
MAX_DEPTH: Final = 12  # cuts within cuts
TITLE_SCALE: Final = 1.3  # a line that is this much larger than the body is a title
SUBTITLE_SCALE: Final = 1.12  # so is one that is this much larger and wider set, short, and ends openly
SUBTITLE_CHARS: Final = 60
TITLE_CHARS: Final = 150
BOLD_SHARE: Final = 0.4  # of the page is bold: then that makes no title
PARAGRAPH_GAP: Final = 0.45  # em more than the usual gap: a new paragraph
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


def split_at_gutters(lines: Sequence[TextLine]) -> list[Piece]:
    """The lines, cut where a detector has joined text across a gutter or cells of a table.

    A gap inside a line is a cut if it is wide, or if a gutter of the page runs through it. Lines
    without character centres stay whole. Every character but the spaces at a cut is in one piece.
    """
    page = _Page.of(lines)
    gaps = [_gaps(page, n) for n in range(len(lines))]
    if not any(gap.stands_out for found in gaps for gap in found):
        return [whole(n, line) for n, line in enumerate(lines)]
    pieces = [p for n in range(len(lines)) for p in _pieces(page, n, [g for g in gaps[n] if g.stands_out])]
    strips: list[_Strip] = []
    _regions_of(lines, pieces, strips)
    for n, found in enumerate(gaps):
        y = page.middle(n)
        gaps[n] = [g for g in found if g.stands_out or any(strip.runs_through(g, y) for strip in strips)]
    pieces = [piece for n, found in enumerate(gaps) for piece in _pieces(page, n, found)]
    region_of, boxes = _regions_of(lines, pieces, [])
    kept: list[Piece] = []
    for n, piece in enumerate(pieces):
        if (
            n
            and kept[-1].line == piece.line
            and region_of[n] == region_of[n - 1]
            and boxes[n][0] - boxes[n - 1][2] < CELL_GAP_EM * page.em
        ):
            kept[-1] = Piece(piece.line, kept[-1].start, piece.stop, kept[-1].begin, piece.end)
        else:
            kept.append(piece)
    return kept


@dataclass(frozen=True, slots=True)
class _Gap:
    """White space in a line: after character `before`, in front of character `after`, from `x1` to `x2`."""

    before: int
    after: int
    x1: float
    x2: float
    stands_out: bool
    """Wider than the other spaces of the line."""


@dataclass(frozen=True, slots=True)
class _Strip:
    """A gutter: white from `x1` to `x2` for most lines between `top` and `bottom`."""

    x1: float
    x2: float
    top: float
    bottom: float

    def runs_through(self, gap: _Gap, y: float) -> bool:
        shared = min(self.x2, gap.x2) - max(self.x1, gap.x1)
        return self.top <= y <= self.bottom and shared >= STRIP_SHARE * (self.x2 - self.x1)


def runs_leftwards(lines: Iterable[TextLine]) -> bool:
    """Whether most letters are Hebrew or Arabic."""
    text = "".join(line.text for line in lines)
    return 2 * len(RIGHT_TO_LEFT.findall(text)) > sum(map(str.isalpha, text))


def whole(number: int, line: TextLine) -> Piece:
    """A line that is not cut."""
    return Piece(number, 0, len(line.text), 0.0, 1.0)


def _gaps(page: _Page, number: int) -> list[_Gap]:
    """The spaces of a line that could be part of a gutter."""
    line, box = page.lines[number], page.boxes[number]
    along, across = box[2] - box[0], box[3] - box[1]
    at = [n for n, char in enumerate(line.text) if not char.isspace()]
    if len(line.centres) != len(line.text) or len(at) < 4 or along <= 0 or page.mirrored:
        return []
    steps = [((line.centres[b] - line.centres[a]) * along, a, b) for a, b in pairwise(at)]
    pitch = median(step for step, _, _ in steps)
    spaces = [step - pitch for step, a, b in steps if b > a + 1]
    least = max(SPLIT_EM * across, SPLIT_SPACES * median(spaces) if len(spaces) > 1 else 0.0)
    gaps = []
    for step, a, b in steps:
        width = step - pitch
        if width >= (SPACE_EM if b > a + 1 else CELL_GAP_EM) * across:
            x1, x2 = (
                box[0] + line.centres[a] * along + pitch / 2,
                box[0] + line.centres[b] * along - pitch / 2,
            )
            gaps.append(_Gap(a, b, x1, x2, width >= least))
    return gaps


def _pieces(page: _Page, number: int, gaps: Sequence[_Gap]) -> Iterator[Piece]:
    """A line cut at these gaps."""
    box = page.boxes[number]
    along = max(box[2] - box[0], 1e-6)
    start, begin = 0, 0.0
    for gap in gaps:
        yield Piece(number, start, gap.before + 1, begin, min(1.0, (gap.x1 - box[0]) / along))
        start, begin = gap.after, max(0.0, (gap.x2 - box[0]) / along)
    yield Piece(number, start, len(page.lines[number].text), begin, 1.0)


def _regions_of(
    lines: Sequence[TextLine], pieces: Sequence[Piece], strips: list[_Strip]
) -> tuple[dict[int, int], list[Box]]:
    """The region in which each piece is, and its box; the gutters between them go into `strips`."""
    page = _Page.of([cut(lines[piece.line], piece) for piece in pieces])
    regions = _columns_of(page, _by_middle(page, range(len(pieces))), 0, strips)
    return {i: number for number, region in enumerate(regions) for i in region}, page.boxes


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


def reading_order(lines: Sequence[TextLine]) -> list[int]:
    """The indices of `lines` in the order in which a reader takes them."""
    return [index for element in arrange(lines) for index in element.lines]


def arrange(
    lines: Sequence[TextLine], *, columns: bool = True, tables: bool = True, like: Sequence[TextLine] = ()
) -> list[Element]:
    """The page as elements in reading order; each index of `lines` is in exactly one of them.

    Args:
        columns: whether columns are looked for.
        tables: whether tables are looked for.
        like: all lines of the page, where `lines` are a part of it: they tell what is usual.
    """
    if not lines:
        return []
    page = _Page.of(lines)
    if like:
        usual = _Page.of(like)
        page = replace(page, em=usual.em, pitch=usual.pitch, bold_says=usual.bold_says)
    elements: list[Element] = []
    everything = _by_middle(page, range(len(lines)))
    for number, region in enumerate(_columns_of(page, everything, 0, []) if columns else [everything]):
        elements.extend(_elements(page, region, number, tables))
    return _with_levels(page, elements)


def to_text(lines: Sequence[TextLine], elements: Sequence[Element] | None = None) -> str:
    """Plain text: one row of the page per line, an empty line between elements."""
    chunks = []
    for element in arrange(lines) if elements is None else elements:
        rows = [_row_text(lines, row) for row in element.rows]
        chunks.append("\n".join(row for row in rows if row))
    return "\n\n".join(chunk for chunk in chunks if chunk)


def rows_around(lines: Sequence[TextLine], elements: Sequence[Element], groups: Sequence[Sequence[int]]) -> str:
    """Plain text: for each group of lines the rows of the page that they stand in, whole; each row once."""
    place = {
        i: (n, r)
        for n, element in enumerate(elements)
        for r, row in enumerate(element.rows)
        for cell in row
        for i in cell
    }
    chunks: list[str] = []
    shown: set[tuple[int, int]] = set()
    for group in groups:
        rows = [row for row in dict.fromkeys(place[i] for i in group) if row not in shown]
        shown.update(rows)
        chunks.append(" ".join(_row_text(lines, elements[n].rows[r]) for n, r in rows))
    return "\n".join(chunk for chunk in chunks if chunk)


def _row_text(lines: Sequence[TextLine], row: Iterable[Iterable[int]]) -> str:
    return " ".join(lines[i].text.strip() for cell in row for i in cell)


def to_markdown(lines: Sequence[TextLine], elements: Sequence[Element] | None = None) -> str:
    """Markdown: titles as headings, tables as pipe tables, lines of a paragraph joined, hyphens healed."""
    page = _Page.of(lines)
    chunks: list[str] = []
    before: Element | None = None
    for element in arrange(lines) if elements is None else elements:
        if element.kind == "table":
            chunk = _table_text(page, element)
        else:
            chunk = _paragraph_text(page, element)
            if element.kind == "title":
                chunk = "#" * element.level + " " + " ".join(chunk.split())
            elif element.kind == "list":
                chunk = LIST_ITEM.sub(lambda m: f"{m['number']} " if m["number"] else "- ", chunk, count=1)
        if not chunk.strip():
            continue
        if before is not None and element.kind == "line" and _runs_on(before, element, chunks[-1], chunk):
            chunks[-1] = _joined(chunks[-1], chunk)
        elif before is not None and before.kind == element.kind == "list":
            chunks[-1] += "\n" + chunk
        else:
            chunks.append(chunk)
        before = element
    return "\n\n".join(chunks)


@dataclass(frozen=True, slots=True)
class _Page:
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
    def of(cls, lines: Sequence[TextLine]) -> _Page:
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


# ---------------------------------------------------------------- columns


def _by_middle(page: _Page, lines: Iterable[int]) -> Row:
    return sorted(lines, key=lambda i: (page.middle(i), page.boxes[i][0], i))


def _columns_of(page: _Page, lines: Row, depth: int, strips: list[_Strip]) -> list[Row]:
    """`lines` (sorted by middle) as regions without gutters, in reading order. Adds gutters to `strips`."""
    if len(lines) < 4 or depth == MAX_DEPTH:
        return [lines]
    strip = _gutter(page, lines)
    if strip is not None:
        strips.append(strip)
        parts = _around(page, lines, (strip.x1 + strip.x2) / 2)
        return [region for part in parts for region in _columns_of(page, part, depth + 1, strips)]
    parts = _between_gaps(page, lines)
    if len(parts) == 1:
        return [lines]
    regions = [_columns_of(page, part, depth + 1, strips) for part in parts]
    if all(len(found) == 1 for found in regions):
        return [lines]  # no part had a gutter: the gaps mean nothing for the order
    return [region for found in regions for region in found]


def _gutter(page: _Page, lines: Row) -> _Strip | None:
    """The strip that divides `lines` into columns best, if one does."""
    starts = sorted(page.boxes[i][0] for i in lines)
    ends = sorted(page.boxes[i][2] for i in lines)
    strips = []
    for left, right in pairwise(sorted({*starts, *ends})):
        if right - left < GUTTER_EM * page.em:
            continue
        crossing = bisect_right(starts, left) - bisect_right(ends, left)
        if crossing <= CROSSING_SHARE * len(lines):
            strips.append((crossing, left - right, left, right))
    for _, _, left, right in sorted(strips)[:8]:
        if _divides(page, lines, (left + right) / 2):
            box = page.union(lines)
            return _Strip(left, right, box[1], box[3])
    return None


def _side(page: _Page, index: int, x: float) -> int:
    """-1: left of `x`, 1: right of it, 0: across. Boxes are not exact: a little overhang does not count."""
    x1, _, x2, _ = page.boxes[index]
    beyond, before = x2 - x, x - x1
    if min(beyond, before) >= OVERHANG_EM * page.em:
        return 0
    return -1 if before >= beyond else 1


def _divides(page: _Page, lines: Row, x: float) -> bool:
    """Whether the strip at `x` stands between columns that are read one after the other."""
    sides = [(_side(page, i, x), i) for i in lines]
    left = [i for side, i in sides if side < 0]
    right = [i for side, i in sides if side > 0]
    if left and right and (_in_margin(page, left, right) or _in_margin(page, right, left)):
        return True
    if min(len(left), len(right)) < 2:
        return False
    a, b = page.union(left), page.union(right)
    if min(a[3], b[3]) - max(a[1], b[1]) < 2 * page.em:
        return False  # one stands above the other
    if min(a[2] - a[0], b[2] - b[0]) < COLUMN_EM * page.em:
        return False  # line numbers, prices, bullets belong to their row
    prose = all(_is_prose(page, side, box[2] - box[0]) for side, box in ((left, a), (right, b)))
    if prose and min(len(left), len(right)) >= PROSE_LINES:
        return True
    return _aligned_share(page, left, right) < ALIGNED_SHARE


def _in_margin(page: _Page, notes: Row, text: Row) -> bool:
    """Whether `notes` are few, narrow and small beside running text: what stands in its margin."""
    if len(text) < PROSE_LINES or 2 * len(notes) > len(text):
        return False
    if median(len(page.lines[i].text) for i in notes) < NOTE_CHARS:
        return False  # numbers belong to their rows
    a, b = page.union(notes), page.union(text)
    return (
        a[2] - a[0] <= MARGIN_SHARE * (b[2] - b[0])
        and min(a[3], b[3]) > max(a[1], b[1])
        and _is_prose(page, text, b[2] - b[0])
        and _advance(page, notes) <= MARGIN_SCALE * _advance(page, text)
    )


def _advance(page: _Page, lines: Row) -> float:
    """The mean advance from character to character: it tells sizes of type apart better than the boxes' heights."""
    return sum(page.boxes[i][2] - page.boxes[i][0] for i in lines) / sum(max(1, len(page.lines[i].text)) for i in lines)


def _is_prose(page: _Page, lines: Row, width: float) -> bool:
    """Whether the lines are running text, in one column of that width or in several narrower ones."""
    length = median(_length(page.lines[i].text) for i in lines)
    fill = median((page.boxes[i][2] - page.boxes[i][0]) / max(width, 1.0) for i in lines)
    return length >= PROSE_CHARS or (fill >= PROSE_FILL and length >= NARROW_CHARS)


def _length(text: str) -> int:
    """Characters, where one of a script without spaces counts for two: it says as much."""
    return len(text) + len(NO_SPACES.findall(text))


def _aligned_share(page: _Page, left: Row, right: Row) -> float:
    """How many lines of the shorter column have a line of the other at their height."""
    few, many = sorted((left, right), key=len)
    middles = sorted(page.middle(i) for i in many)
    hits = 0
    for i in few:
        y, reach = page.middle(i), ROW_SHIFT * page.height(i)
        at = bisect_left(middles, y - reach)
        hits += at < len(middles) and middles[at] <= y + reach
    return hits / len(few)


def _around(page: _Page, lines: Row, x: float) -> list[Row]:
    """Lines across `x` as bands; between them what is left of it, then what is right of it."""
    parts: list[Row] = []
    across: Row = []
    left: Row = []
    right: Row = []
    apart = _apart(page, lines, x)
    for i in lines:
        side = 0 if i in apart else _side(page, i, x)
        if side == 0 and (left or right):
            parts += [across, *_in_turn(page, left, right)]
            across, left, right = [], [], []
        (across, right, left)[side].append(i)
    return [part for part in (*parts, across, *_in_turn(page, left, right)) if part]


def _in_turn(page: _Page, left: Row, right: Row) -> tuple[Row, Row]:
    """The left column before the right one, but notes after the text in whose margin they stand."""
    return (right, left) if left and right and _in_margin(page, left, right) else (left, right)


def _apart(page: _Page, lines: Row, x: float) -> set[int]:
    """Lines on one side of the gutter at `x` that belong to both: headlines, running heads, page numbers.

    White from side to side parts them from the columns. Below a headline both columns begin at one height.
    """
    bands = _bands(page, lines)
    sides = [{_side(page, i, x) for i in band} for band in bands]
    small = [len(band) <= BAND_LINES and side in ({-1}, {1}) for band, side in zip(bands, sides, strict=True)]
    apart: set[int] = set()
    start = 0
    while start < len(bands):
        stop = start + 1
        if small[start]:
            while stop < len(bands) and small[stop]:
                stop += 1
            above = [i for band in bands[:start] for i in band if i not in apart and _side(page, i, x)]
            below = [i for band in bands[stop:] for i in band]
            title = median(page.height(i) for i in bands[start]) >= TITLE_SCALE * page.em
            if below and (title or not above) and _begin_together(page, below, x):
                apart.update(i for band in bands[start:stop] for i in band)
            else:
                stop = start + 1
        start = stop
    if small[-1] and _is_foot(page, bands[-1], [i for band in bands[:-1] for i in band], x):
        apart.update(bands[-1])
    return apart


def _is_foot(page: _Page, band: Row, above: Row, x: float) -> bool:
    """Whether the last band is a page number and the like: well below the text, and not in line with its column."""
    box = page.union(band)
    column = [page.boxes[i][0] for i in above if _side(page, i, x) == _side(page, band[0], x)]
    bottom = max((page.boxes[i][3] for i in above), default=math.inf)
    return bool(column) and box[1] - bottom >= FOOT_EM * page.em <= abs(box[0] - min(column))


def _bands(page: _Page, lines: Row) -> list[Row]:
    """`lines` parted where the page is white from side to side."""
    bands: list[Row] = []
    bottom = -math.inf
    for i in sorted(lines, key=lambda i: page.boxes[i][1]):
        if page.boxes[i][1] - bottom >= BAND_EM * page.em:
            bands.append([])
        bands[-1].append(i)
        bottom = max(bottom, page.boxes[i][3])
    return bands


def _begin_together(page: _Page, lines: Row, x: float) -> bool:
    """Whether the first line on either side of `x` stands at the same height, and none across it comes before."""
    tops: dict[int, int] = {}
    for i in lines:
        side = _side(page, i, x)
        if side not in tops or page.boxes[i][1] < page.boxes[tops[side]][1]:
            tops[side] = i
    if -1 not in tops or 1 not in tops:
        return False
    level = abs(page.middle(tops[-1]) - page.middle(tops[1])) <= ROW_SHIFT * page.em
    return level and (0 not in tops or page.boxes[tops[0]][1] > page.boxes[tops[1]][1])


def _between_gaps(page: _Page, lines: Row) -> list[Row]:
    """`lines` split where the page is empty from side to side, at the wide gaps only."""
    by_top = sorted(lines, key=lambda i: page.boxes[i][1])
    bottom = page.boxes[by_top[0]][3]
    gaps = []
    for i in by_top[1:]:
        gaps.append(page.boxes[i][1] - bottom)
        bottom = max(bottom, page.boxes[i][3])
    least = max(0.5 * page.em, 0.7 * max(gaps))
    parts: list[Row] = [[by_top[0]]]
    for i, gap in zip(by_top[1:], gaps, strict=True):
        if gap >= least:
            parts.append([])
        parts[-1].append(i)
    return [_by_middle(page, part) for part in parts]


# ---------------------------------------------------------------- rows and tables


def _rows(page: _Page, lines: Row) -> list[Row]:
    """`lines` (sorted by middle) as rows from top to bottom, each from left to right."""
    rows: list[Row] = []
    for i in lines:
        if rows and all(_same_row(page, i, j) for j in rows[-1]):
            rows[-1].append(i)
        else:
            rows.append([i])
    for row in rows:
        row.sort(key=lambda i: (page.boxes[i][0], i))
    return rows


def _same_row(page: _Page, i: int, j: int) -> bool:
    a, b = page.boxes[i], page.boxes[j]
    if abs(page.middle(i) - page.middle(j)) > ROW_SHIFT * min(page.height(i), page.height(j)):
        return False
    return min(a[2], b[2]) - max(a[0], b[0]) <= 0.3 * min(a[2] - a[0], b[2] - b[0])


def _elements(page: _Page, region: Row, number: int, tables: bool) -> Iterator[Element]:
    """Tables and, between them, paragraphs and list items."""
    rows = _rows(page, region)
    at = 0
    for start, stop in _table_runs(page, rows) if tables else ():
        grid = _grid(page, rows[start:stop])
        if grid is not None:
            yield from _paragraphs(page, rows[at:start], number)
            yield Element("table", grid, region=number)
            at = stop
    yield from _paragraphs(page, rows[at:], number)


def _cells(page: _Page, row: Sequence[int]) -> list[Row]:
    """A row as cells: lines closer than a wide space are one cell, and so is a list mark with its text."""
    cells = [[row[0]]]
    for before, i in pairwise(row):
        mark = before == row[0] and LIST_MARK.fullmatch(page.lines[before].text.strip())
        if mark or page.boxes[i][0] - page.boxes[before][2] < max(SAME_CELL_EM * page.em, SAME_CELL_PITCH * page.pitch):
            cells[-1].append(i)
        else:
            cells.append([i])
    return cells


def _table_runs(page: _Page, rows: list[Row]) -> Iterator[tuple[int, int]]:
    """Ranges of rows that may be a table: most have several cells, none stands far from the next."""
    counts = [len(_cells(page, row)) for row in rows]
    tops = [page.union(row) for row in rows]
    start: int | None = None
    last = 0
    for at, count in enumerate(counts):
        if start is not None and (
            at - last > 5 or tops[at][1] - tops[at - 1][3] > (5 if min(count, counts[at - 1]) > 1 else 3) * page.em
        ):
            if _enough(counts[start : last + 1]):
                yield start, last + 1
            start = None
        if count > 1:
            start = at if start is None else start
            last = at
    if start is not None and _enough(counts[start : last + 1]):
        yield start, last + 1


def _enough(counts: list[int]) -> bool:
    several = [count for count in counts if count > 1]
    return len(several) >= 3 or (len(several) == 2 and min(several) > 2)


def _grid(page: _Page, rows: list[Row]) -> tuple[tuple[tuple[int, ...], ...], ...] | None:
    """The cells of the rows by column, or None where they do not stand under each other."""
    cells = [(r, cell, page.union(cell)) for r, row in enumerate(rows) for cell in _cells(page, row)]
    columns = _columns(cells)
    if len(columns) < 2:
        return None
    table: list[list[list[int]]] = [[[] for _ in columns] for _ in rows]
    for r, cell, box in cells:
        overlap = [min(box[2], x2) - max(box[0], x1) for x1, x2 in columns]
        touched = [c for c, length in enumerate(overlap) if length > 0.3 * (columns[c][1] - columns[c][0])]
        c = touched[0] if len(touched) > 1 else overlap.index(max(overlap))
        table[r][c] += cell
    table = _merge_columns(table)
    used = [sum(bool(row[c]) for row in table) for c in range(len(table[0]))]
    if sum(count >= max(2, 0.3 * len(rows)) for count in used) < 2:
        return None
    merged = _merge_continuations(page, table)
    return tuple(tuple(tuple(cell) for cell in row) for row in merged)


def _columns(cells: list[tuple[int, Row, Box]]) -> list[tuple[float, float]]:
    """The x extents of the columns. Narrow cells make them; a cell over several columns makes none."""
    columns: list[tuple[float, float, set[int]]] = []
    for r, _, box in sorted(cells, key=lambda cell: (cell[2][2] - cell[2][0], cell[0], cell[2][0])):
        near = [
            column
            for column in columns
            if min(box[2], column[1]) - max(box[0], column[0]) > 0.2 * min(box[2] - box[0], column[1] - column[0])
        ]
        shared = any(a[2] & b[2] for n, a in enumerate(near) for b in near[n + 1 :])
        if shared:
            continue  # a heading over several columns
        rows = {r}.union(*(column[2] for column in near))
        columns = [column for column in columns if column not in near]
        columns.append((min([box[0], *(c[0] for c in near)]), max([box[2], *(c[1] for c in near)]), rows))
    return sorted((x1, x2) for x1, x2, _ in columns)


def _merge_columns(table: list[list[list[int]]]) -> list[list[list[int]]]:
    """A column without a heading whose cells only fill what its neighbour leaves empty is one with it."""
    width = len(table[0])
    c = 0
    while c < width - 1 and 2 * sum(map(bool, table[0])) > width:
        pairs = [(row[c], row[c + 1]) for row in table]
        if len(table) > 2 and not all(pairs[0]) and not any(a and b for a, b in pairs):
            table = [[*row[:c], row[c] + row[c + 1], *row[c + 2 :]] for row in table]
            width -= 1
        else:
            c += 1
    return table


def _merge_continuations(page: _Page, table: list[list[list[int]]]) -> list[list[list[int]]]:
    """Rows that only go on with a cell of their neighbour are put into it."""

    def filled(row: list[list[int]]) -> int:
        return sum(bool(cell) for cell in row)

    full = [filled(row) >= 0.6 * max(filled(other) for other in table) for row in table]
    boxes = [page.union(i for cell in row for i in cell) for row in table]
    gaps = [below[1] - above[3] for above, below in pairwise(boxes)]
    between_full = [gap for n, gap in enumerate(gaps) if full[n] and full[n + 1]]
    if not between_full:
        return table
    close = min(CONTINUATION_EM * page.em, CONTINUATION_SHARE * median(between_full))
    merged = [table[0]]
    for n, row in enumerate(table[1:]):
        if gaps[n] <= close and not (full[n] and full[n + 1]) and not _both_count(page, merged[-1], row):
            merged[-1] = [above + below for above, below in zip(merged[-1], row, strict=True)]
        else:
            merged.append(row)
    return merged


def _both_count(page: _Page, above: list[list[int]], below: list[list[int]]) -> bool:
    """Whether a column has figures in both rows: then they are two entries, however close they stand."""
    return any(
        cells and all(any(char.isdigit() for i in cell for char in page.lines[i].text) for cell in cells)
        for cells in zip(above, below, strict=True)
    )


# ---------------------------------------------------------------- paragraphs, lists, titles


def _paragraphs(page: _Page, rows: list[Row], number: int) -> Iterator[Element]:
    """Rows as titles, list items and paragraphs. A wide gap, an indent or a list mark begins a new one."""
    if not rows:
        return
    boxes = [page.union(row) for row in rows]
    gaps = [below[1] - above[3] for above, below in pairwise(boxes)]
    usual = sorted(gaps)[len(gaps) // 3] if gaps else 0.0  # paragraphs of two lines have wide gaps, too
    margin = min(box[0] for box in boxes)
    width = max(box[2] for box in boxes) - margin
    titles = [_is_title(page, row, width) for row in rows]
    current: list[Row] = []
    for n, row in enumerate(rows):
        if current and (
            titles[n] != titles[n - 1]
            or gaps[n - 1] > usual + PARAGRAPH_GAP * page.em
            or (_is_item(page, row) and not titles[n])
            or _leaves_item(page, current[0], boxes[n])
            or _is_indented(page, boxes[n - 1], boxes[n], margin)
        ):
            yield _paragraph(page, current, titles[n - 1], number)
            current = []
        current.append(row)
    yield _paragraph(page, current, titles[-1], number)


def _paragraph(page: _Page, rows: list[Row], title: bool, number: int) -> Element:
    text = " ".join(page.lines[i].text for row in rows for i in row)
    kind: Kind = "line"
    if title and len(rows) <= 3 and len(text) <= TITLE_CHARS:
        kind = "title"
    elif _is_item(page, rows[0]):
        kind = "list"
    return Element(kind, tuple((tuple(row),) for row in rows), region=number)


def _is_item(page: _Page, row: Row) -> bool:
    return LIST_ITEM.match(_row_text(page.lines, [row])) is not None


def _leaves_item(page: _Page, first: Row, box: Box) -> bool:
    """Whether a line stands to the left of what would be its list item's text."""
    return _is_item(page, first) and box[0] < page.boxes[first[0]][0] + 0.3 * page.em


def _is_indented(page: _Page, above: Box, box: Box, margin: float) -> bool:
    """Whether a line begins a paragraph by standing a little to the right of the margin."""
    at_margin = above[0] < margin + 0.5 * page.em
    return at_margin and above[0] + page.em < box[0] < margin + 5 * page.em


def _is_title(page: _Page, row: Row, width: float) -> bool:
    """Whether a row is set larger than the body: clearly, or a little (or bold) when it also looks like a title."""
    if len(_cells(page, row)) > 1:
        return False
    text = " ".join(page.lines[i].text.strip() for i in row)
    if 2 * sum(char.isalpha() for char in text) <= len(text):
        return False
    scale = median(page.height(i) for i in row) / page.em
    if page.mirrored:  # joined letters: their heights tell little
        scale = min(scale, _advance(page, row) / max(page.pitch, 1e-6))
    if scale >= TITLE_SCALE:
        return True
    box = page.union(row)
    wide = (box[2] - box[0]) / max(1, len(text)) >= SUBTITLE_SCALE * page.pitch
    begins = text[0].isupper() or text[0].isdigit()
    bold = page.bold_says and all(page.lines[i].bold for i in row)
    return (
        (bold or (scale >= SUBTITLE_SCALE and wide))
        and begins
        and text[-1] not in ".,;:-"
        and len(text) <= SUBTITLE_CHARS
        and box[2] - box[0] < 0.75 * width
    )


def _with_levels(page: _Page, elements: list[Element]) -> list[Element]:
    """Larger titles get the higher level. A page of nothing but titles is a poster: it has none."""
    sizes = {
        n: median(page.height(i) for i in element.lines)
        for n, element in enumerate(elements)
        if element.kind == "title"
    }
    if len(sizes) == len(elements):
        return [Element("line", e.rows, region=e.region) for e in elements]
    steps: list[float] = []
    for size in sorted(sizes.values(), reverse=True):
        if not steps or size < steps[-1] / SUBTITLE_SCALE:
            steps.append(size)
    # A page may begin in the middle of a chapter: what is hardly larger than the body is no heading of the first level.
    above = 0 if steps and steps[0] >= TITLE_SCALE * page.em else 1
    return [
        Element("title", e.rows, above + max(1, sum(step >= sizes[n] for step in steps[:3])), e.region)
        if n in sizes
        else e
        for n, e in enumerate(elements)
    ]


# ---------------------------------------------------------------- writing


def _paragraph_text(page: _Page, element: Element) -> str:
    """The rows joined where the text runs on, on lines of their own where it does not.

    Where joined rows end or begin, a paragraph does: an empty line follows, as Markdown wants it.
    """
    rows = [row[0] for row in element.rows]
    right = math.inf if _is_listing(page, rows) else max(page.boxes[i][2] for i in element.lines)
    runs: list[tuple[int, str]] = []  # rows joined, and their text
    for n, row in enumerate(rows):
        chunk = " ".join(page.lines[i].text.strip() for i in row)
        if n and _goes_on(page, rows[n - 1], row, right):
            count, text = runs.pop()
            runs.append((count + 1, _joined(text, chunk)))
        else:
            runs.append((1, chunk))
    parts = [runs[0][1]]
    for (above, _), (below, text) in pairwise(runs):
        parts += ["\n" if above == below == 1 else "\n\n", text]
    return "".join(parts)


def _is_listing(page: _Page, rows: Sequence[Sequence[int]]) -> bool:
    """Whether all rows begin with the same sign, as lines of a log do."""
    signs = {page.lines[row[0]].text.strip()[:1] for row in rows}
    return len(rows) > 2 and len(signs) == 1 and not signs.pop().isalnum()


def _goes_on(page: _Page, above: Sequence[int], below: Sequence[int], right: float) -> bool:
    """Whether the line is broken for want of room: the first word below would not have fitted above."""
    if len(above) > 1 and len(_cells(page, above)) > 1:
        return False
    text = page.lines[above[-1]].text.rstrip()
    if text.endswith("-"):
        return True
    if sum(_length(page.lines[i].text) for i in above) < PROSE_CHARS:
        return False
    box, following = page.boxes[below[0]], page.lines[below[0]].text.strip()
    word = 1 if NO_SPACES.match(following) else len(following.split(maxsplit=1)[0]) if following else 0
    room = (word + 1) * (box[2] - box[0]) / max(1, len(following))
    return page.boxes[above[-1]][2] + room > right - 0.5 * page.em


def _table_text(page: _Page, element: Element) -> str:
    rows = []
    for row in element.rows:
        cells = []
        for cell in row:
            text = ""
            for i in cell:
                text = _joined(text, page.lines[i].text.strip()) if text else page.lines[i].text.strip()
            cells.append(text.replace("|", "\\|"))
        rows.append("| " + " | ".join(cells) + " |")
    rows.insert(1, "|" + " --- |" * len(element.rows[0]))
    return "\n".join(rows)


def _joined(text: str, more: str) -> str:
    """`more` after `text` in one paragraph: a hyphen at the break is healed, CJK needs no space."""
    if not text or not more:
        return text + more
    if len(text) > 1 and text[-1] in "-‐\u00ad" and text[-2].isalpha() and more[0].islower():
        return text[:-1] + more
    if NO_SPACES.match(text[-1]) and NO_SPACES.match(more[0]):
        return text + more
    return f"{text} {more}"


def _runs_on(before: Element, element: Element, text: str, more: str) -> bool:
    """Whether a paragraph goes on at the top of the next column."""
    return (
        before.kind == "line"
        and before.region != element.region
        and len(before.rows) > 2
        and text[-1] not in ".!?:;"
        and more[0].islower()
    )

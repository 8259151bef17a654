"""Cuts lines where a detector, or a PDF's own text, has joined what stands in two columns or two cells.

Every character of a line but the spaces at a cut is in exactly one piece.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from .bands import HEADLINE_SCALE
from .columns import Strip, columns_of
from .lines import NO_SPACES, Box, Frame, Piece, TextLine, cut, type_size, whole
from .rules import Rule, find_grids

__all__ = ["split_at_gutters"]

# Tuned on the shared corpus and on the PDFs of tests/documents: too small, and justified prose falls apart into
# pieces that are read column by column; too large, and two cells of a table are one.
SPACE_EM: Final = 0.4  # least gap in a line that a gutter may run through
SPLIT_EM: Final = 0.9  # least gap in a line that suggests a gutter
SPLIT_SPACES: Final = 1.8  # times the usual space of the line
CELL_GAP_EM: Final = 2.5  # a gap in a line that is wider parts cells, gutter or not
SIZE_SHARE: Final = 0.75  # of the type's size is a line high at least; detectors draw large type too low
SQUARE_EM: Final = 0.8  # least white between Chinese characters, beyond their squares, that suggests a gutter
ROWS_ALIKE: Final = 3  # so many rows above and below a line have a gap where it has one: cells of a table
BESIDE_LINES: Final = 2  # so many lines near a gap end and begin at it, and none runs through
ALIKE_EM: Final = 0.5  # least width of the white that they share
ALIKE_REACH: Final = 6.0  # ems up and down from a line to those
NEAREST: Final = 100  # lines up and down that are looked at, at most: bounds the time
ALIKE_SIDE: Final = 6.0  # ems from its gap to the cells on its sides
ALONG: Final = 0.5  # of the height of a line a rule runs along to cut it …
BEYOND: Final = 0.2  # … and goes on above or below it, as few letters do
RULE_LONG: Final = 1.2  # of the height of a line is a rule at least; the stem of a large "g" is .97
FIGURE_BEFORE: Final = re.compile(r"(?:^|\s)[-+(]?[\d.,'’%/]*\d[%)]?$")
FIGURE_AFTER: Final = re.compile(r"[-+(]?\d[\d.,'’%/]*\)?(?:\s|$)")


@dataclass(frozen=True, slots=True)
class _Gap:
    """White space in a line: after character `before`, in front of character `after`, from `x1` to `x2`."""

    before: int
    after: int
    x1: float
    x2: float
    stands_out: bool
    """Wider than the other spaces of the line."""
    parts_figures: bool
    """Between two figures: a space there is rare."""

    def shares(self, other: _Gap, em: float) -> bool:
        """Whether both are parts of one white strip."""
        return min(self.x2, other.x2) - max(self.x1, other.x1) >= ALIKE_EM * em


Gaps = list[list[_Gap]]


def split_at_gutters(lines: Sequence[TextLine], rules: Sequence[Box] = ()) -> list[Piece]:
    """The lines, cut where a detector has joined text across a gutter or cells of a table.

    A line is cut at a gap if the gap is wide, if a gutter of the page runs through it, or if the lines above and below
    have a gap there. Lines without character centres stay whole.

    Args:
        rules: the boxes of lines that are drawn. An upright one of a grid that runs along a line cuts it.
    """
    upright = [rule for grid in find_grids(rules, Frame.of(lines).em) for rule in grid.upright] if rules else []
    if not upright:
        return _split(lines)
    cuts = _at_rules(lines, sorted(upright))
    cells = [piece for n, found in enumerate(cuts) for piece in _pieces_between(n, lines[n], found)]
    return [_within(cells[piece.line], piece) for piece in _split([cut(lines[cell.line], cell) for cell in cells])]


def _split(lines: Sequence[TextLine]) -> list[Piece]:
    """The lines, cut at white that parts columns or cells."""
    frame = Frame.of(lines)
    gaps = [_gaps(frame, n) for n in range(len(lines))]
    wide = [[gap for gap in found if gap.stands_out] for found in gaps]
    rows = _RowsAround(frame, gaps)
    cells = {(n, gap.after) for n, found in enumerate(gaps) for gap in found if rows.part_cells(n, gap)}
    if not any(wide) and not cells:
        return [whole(n, line) for n, line in enumerate(lines)]
    strips: list[Strip] = []
    if any(wide):
        _regions_of(lines, _cut_at(frame, wide), strips)
    chosen = [
        [g for g in found if g.stands_out or (n, g.after) in cells or _is_in_gutter(frame, n, g, strips)]
        for n, found in enumerate(gaps)
    ]
    return _without_needless(frame, lines, _cut_at(frame, chosen), cells)


def _at_rules(lines: Sequence[TextLine], upright: Sequence[Rule]) -> list[list[int]]:
    """For each line the characters that are the first behind an upright rule; the rules are sorted."""
    places = [x for x, _, _ in upright]
    found: list[list[int]] = []
    for line in lines:
        x1, y1, x2, y2 = line.box
        cuts: set[int] = set()
        if not line.vertical and len(line.centres) == len(line.text) > 1 and list(line.centres) == sorted(line.centres):
            centres = [x1 + centre * (x2 - x1) for centre in line.centres]
            for x, top, bottom in upright[bisect_right(places, x1) : bisect_left(places, x2)]:
                along = min(bottom, y2) - max(top, y1) >= ALONG * (y2 - y1)
                is_long = bottom - top >= RULE_LONG * (y2 - y1)
                if along and is_long and max(y1 - top, bottom - y2) >= BEYOND * (y2 - y1):
                    cuts.add(bisect_left(centres, x))
        found.append(sorted(cuts - {0, len(line.text)}))
    return found


def _pieces_between(number: int, line: TextLine, cuts: list[int]) -> Iterator[Piece]:
    """A line cut before these characters; spaces and bars at a cut are left out."""
    start, begin = 0, 0.0
    for at in [*cuts, len(line.text)]:
        text = line.text[start:at]
        kept = text.strip(" |") if cuts else text
        end = (line.centres[at - 1] + line.centres[at]) / 2 if at < len(line.text) else 1.0
        if kept:
            first = start + text.index(kept)
            yield Piece(number, first, first + len(kept), begin, end)
        start, begin = at, end


def _within(outer: Piece, inner: Piece) -> Piece:
    """A piece of a piece as a piece of the line."""
    span = outer.end - outer.begin
    begin, end = outer.begin + inner.begin * span, outer.begin + inner.end * span
    return Piece(outer.line, outer.start + inner.start, outer.start + inner.stop, begin, end)


def _gaps(frame: Frame, number: int) -> list[_Gap]:
    """The spaces of a line that could be part of a gutter."""
    line, box = frame.lines[number], frame.boxes[number]
    along, across = box[2] - box[0], box[3] - box[1]
    at = [n for n, char in enumerate(line.text) if not char.isspace()]
    if len(line.centres) != len(line.text) or len(at) < 4 or along <= 0 or frame.mirrored:
        return []
    across = max(across, SIZE_SHARE * type_size(line.text, along))
    steps = [((line.centres[b] - line.centres[a]) * along, a, b) for a, b in pairwise(at)]
    pitch = median(step for step, _, _ in steps)
    spaces = [step - pitch for step, a, b in steps if b > a + 1]
    least = max(SPLIT_EM * across, SPLIT_SPACES * median(spaces) if len(spaces) > 1 else 0.0)
    square = 2 * len(NO_SPACES.findall(line.text)) > len(at)  # squares of one width: white stands out sooner
    gaps = []
    for step, a, b in steps:
        width = step - pitch
        if width >= (SPACE_EM if b > a + 1 else SQUARE_EM if square else CELL_GAP_EM) * across:
            x1 = box[0] + line.centres[a] * along + pitch / 2
            x2 = box[0] + line.centres[b] * along - pitch / 2
            stands_out = width >= (SQUARE_EM * across if square else least)
            figures = bool(FIGURE_BEFORE.search(line.text[: a + 1]) and FIGURE_AFTER.match(line.text[b:]))
            gaps.append(_Gap(a, b, x1, x2, stands_out, figures))
    return gaps


def _is_in_gutter(frame: Frame, number: int, gap: _Gap, strips: Sequence[Strip]) -> bool:
    """Whether a gutter runs through the gap; through a headline's none does, though it may have a space there."""
    if frame.scale([number]) >= HEADLINE_SCALE:
        return False
    return any(strip.runs_through(gap.x1, gap.x2, frame.middles[number]) for strip in strips)


class _RowsAround:
    """The lines of a page by height: whether those around a gap have white at its place, as cells of a table do."""

    def __init__(self, frame: Frame, gaps: Gaps) -> None:
        self._frame = frame
        self._gaps = gaps
        self._order = frame.by_middle(range(len(frame.lines)))
        self._middles = [frame.middles[i] for i in self._order]

    def part_cells(self, number: int, gap: _Gap) -> bool:
        """Whether enough of the rows above and below have a cell on either side of the gap."""
        if not (gap.stands_out or gap.parts_figures):
            return False
        frame, em = self._frame, self._frame.em
        y = frame.middles[number]
        at = bisect_left(self._middles, y)
        first = max(at - NEAREST, bisect_left(self._middles, y - ALIKE_REACH * em))
        stop = min(at + NEAREST, bisect_right(self._middles, y + ALIKE_REACH * em))
        support, against = 0, 0
        beside = {-1: 0, 1: 0}
        sides: dict[int, set[int]] = {}
        for i in self._order[first:stop]:
            row = round((frame.middles[i] - y) / em)
            if i == number or row == 0:
                continue
            x1, _, x2, _ = frame.boxes[i]
            if x1 < gap.x1 and x2 > gap.x2:  # runs through
                alike = [other for other in self._gaps[i] if other.shares(gap, em)]
                support += any(other.stands_out for other in alike)
                against += not alike
            elif gap.x1 - ALIKE_SIDE * em <= x2 <= gap.x2 or gap.x1 <= x1 <= gap.x2 + ALIKE_SIDE * em:
                side = 1 if x1 >= gap.x1 else -1
                sides.setdefault(row, set()).add(side)
                beside[side] += 1
        support += sum(len(found) == 2 for found in sides.values())
        if not against and gap.stands_out and min(beside.values()) >= BESIDE_LINES:
            return True  # cells of several lines need not be level
        return support >= ROWS_ALIKE and support > 2 * against


def _cut_at(frame: Frame, gaps: Gaps) -> list[Piece]:
    """All lines, each cut at its gaps."""
    return [piece for n, found in enumerate(gaps) for piece in _pieces(frame, n, found)]


def _pieces(frame: Frame, number: int, gaps: Sequence[_Gap]) -> Iterator[Piece]:
    """A line cut at these gaps."""
    box = frame.boxes[number]
    along = max(box[2] - box[0], 1e-6)
    start, begin = 0, 0.0
    for gap in gaps:
        yield Piece(number, start, gap.before + 1, begin, min(1.0, (gap.x1 - box[0]) / along))
        start, begin = gap.after, max(0.0, (gap.x2 - box[0]) / along)
    yield Piece(number, start, len(frame.lines[number].text), begin, 1.0)


def _regions_of(
    lines: Sequence[TextLine], pieces: Sequence[Piece], strips: list[Strip]
) -> tuple[dict[int, int], list[Box]]:
    """The region in which each piece is, and its box; the gutters between them go into `strips`."""
    frame = Frame.of([cut(lines[piece.line], piece) for piece in pieces])
    regions = columns_of(frame, frame.by_middle(range(len(pieces))), strips)
    return {i: number for number, region in enumerate(regions) for i in region}, frame.boxes


def _without_needless(
    frame: Frame, lines: Sequence[TextLine], pieces: list[Piece], cells: set[tuple[int, int]]
) -> list[Piece]:
    """Pieces of a line put together again where both are in one column and the gap is no wide one, nor one of cells."""
    region_of, boxes = _regions_of(lines, pieces, [])
    kept: list[Piece] = []
    for n, piece in enumerate(pieces):
        before = kept[-1] if kept else None
        if (
            before is not None
            and before.line == piece.line
            and region_of[n] == region_of[n - 1]
            and boxes[n][0] - boxes[n - 1][2] < CELL_GAP_EM * frame.em
            and (piece.line, piece.start) not in cells
        ):
            kept[-1] = Piece(piece.line, before.start, piece.stop, before.begin, piece.end)
        else:
            kept.append(piece)
    return kept

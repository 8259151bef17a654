"""Cuts lines that run across a gutter between columns or into the next cell of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from .columns import by_middle, columns_of
from .lines import Box, Gap, LayoutPage, Piece, Strip, TextLine, cut, whole

__all__ = ["split_at_gutters"]

SPACE_EM: Final = 0.4  # least gap in a line that a gutter may run through
SPLIT_EM: Final = 0.9  # least gap in a line that suggests a gutter
SPLIT_SPACES: Final = 1.8  # times the usual space of the line
CELL_GAP_EM: Final = 2.5  # a gap in a line that is wider parts cells, gutter or not


def split_at_gutters(lines: Sequence[TextLine]) -> list[Piece]:
    """The lines, cut where a detector has joined text across a gutter or cells of a table.

    A gap inside a line is a cut if it is wide, or if a gutter of the page runs through it. Lines
    without character centres stay whole. Every character but the spaces at a cut is in one piece.
    """
    page = LayoutPage.of(lines)
    gaps = [_gaps(page, n) for n in range(len(lines))]
    if not any(gap.stands_out for found in gaps for gap in found):
        return [whole(n, line) for n, line in enumerate(lines)]
    pieces = [p for n in range(len(lines)) for p in _pieces(page, n, [g for g in gaps[n] if g.stands_out])]
    strips: list[Strip] = []
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


def _gaps(page: LayoutPage, number: int) -> list[Gap]:
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
            gaps.append(Gap(a, b, x1, x2, width >= least))
    return gaps


def _pieces(page: LayoutPage, number: int, gaps: Sequence[Gap]) -> Iterator[Piece]:
    """A line cut at these gaps."""
    box = page.boxes[number]
    along = max(box[2] - box[0], 1e-6)
    start, begin = 0, 0.0
    for gap in gaps:
        yield Piece(number, start, gap.before + 1, begin, min(1.0, (gap.x1 - box[0]) / along))
        start, begin = gap.after, max(0.0, (gap.x2 - box[0]) / along)
    yield Piece(number, start, len(page.lines[number].text), begin, 1.0)


def _regions_of(
    lines: Sequence[TextLine], pieces: Sequence[Piece], strips: list[Strip]
) -> tuple[dict[int, int], list[Box]]:
    """The region in which each piece is, and its box; the gutters between them go into `strips`."""
    page = LayoutPage.of([cut(lines[piece.line], piece) for piece in pieces])
    regions = columns_of(page, by_middle(page, range(len(pieces))), 0, strips)
    return {i: number for number, region in enumerate(regions) for i in region}, page.boxes

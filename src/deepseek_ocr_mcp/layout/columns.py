"""Finds the columns of a page and the order in which they are read.

The page is cut at gutters: upright strips that only few lines cross. A gutter between cells of a table is no gutter:
there the rows go on across it. Each column is cut again. Every line that is given is in exactly one region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .asides import around_aside, beside_headings
from .bands import around_gutter
from .centred import are_centred_rows
from .evidence import (
    ALIGNED_SHARE,
    WhiteStrip,
    aligned_share,
    are_apart_though_level,
    are_names_and_values,
    in_margin,
    side_of,
    white_strips,
)
from .lines import Frame, Row

__all__ = ["Strip", "columns_of"]

COLUMN_EM: Final = 5.0  # least width of a column; narrower are line numbers, prices and list marks
STRIP_SHARE: Final = 0.6  # of a gutter's width must be white in a line that it cuts
MAX_DEPTH: Final = 12  # cuts within cuts


@dataclass(frozen=True, slots=True)
class Strip:
    """A gutter: white from `x1` to `x2` for most lines between `top` and `bottom`."""

    x1: float
    x2: float
    top: float
    bottom: float

    def runs_through(self, x1: float, x2: float, y: float) -> bool:
        """Whether white from `x1` to `x2` at height `y` is a part of the gutter."""
        shared = min(self.x2, x2) - max(self.x1, x1)
        return self.top <= y <= self.bottom and shared >= STRIP_SHARE * (self.x2 - self.x1)


def columns_of(frame: Frame, lines: Row, strips: list[Strip], depth: int = 0) -> list[Row]:
    """The lines as regions without gutters, in reading order.

    Args:
        frame: the page as a frame: its lines, and the usual size of its type.
        lines: the indices of the lines, sorted by their middles.
        strips: the gutters of the page; those that are found are added.
        depth: cuts around these lines.
    """
    if len(lines) < 4 or depth == MAX_DEPTH:
        return [lines]
    white = white_strips(frame, lines)
    if _is_centred_table(frame, lines, white):
        return [lines]
    parts = beside_headings(frame, lines, white) or around_aside(frame, lines)
    if parts is None:
        strip = _gutter(frame, lines, white)
        if strip is not None:
            strips.append(strip)
            parts = around_gutter(frame, lines, (strip.x1 + strip.x2) / 2)
    if parts is not None:
        return [region for part in parts for region in columns_of(frame, part, strips, depth + 1)]
    parts = _between_gaps(frame, lines)
    if len(parts) == 1:
        return [lines]
    regions = [columns_of(frame, part, strips, depth + 1) for part in parts]
    if all(len(found) == 1 for found in regions):
        return [lines]  # no part had a gutter: the gaps mean nothing for the order
    return [region for found in regions for region in found]


def _is_centred_table(frame: Frame, lines: Row, white: Sequence[WhiteStrip]) -> bool:
    """Whether the white strips stand between cells that are centred in their rows."""
    places = sorted((left + right) / 2 for left, right, crossing in white if crossing == white[0][2])
    columns: list[Row] = [[] for _ in range(len(places) + 1)]
    for i in lines:
        sides = [side_of(frame, i, x) for x in places]
        if 0 not in sides:
            columns[sides.count(1)].append(i)
    return are_centred_rows(frame, columns)


def _gutter(frame: Frame, lines: Row, white: Sequence[WhiteStrip]) -> Strip | None:
    """The strip that divides `lines` into columns best, if one does."""
    for left, right, _ in white:
        if _divides(frame, lines, (left + right) / 2):
            box = frame.union(lines)
            return Strip(left, right, box[1], box[3])
    return None


def _divides(frame: Frame, lines: Row, x: float) -> bool:
    """Whether the strip at `x` stands between columns that are read one after the other."""
    sides = [(side_of(frame, i, x), i) for i in lines]
    left = [i for side, i in sides if side < 0]
    right = [i for side, i in sides if side > 0]
    if left and right and (in_margin(frame, left, right) or in_margin(frame, right, left)):
        return True
    if min(len(left), len(right)) < 2:
        return False
    a, b = frame.union(left), frame.union(right)
    if min(a[3], b[3]) - max(a[1], b[1]) < 2 * frame.em:
        return False  # one stands above the other
    if min(a[2] - a[0], b[2] - b[0]) < COLUMN_EM * frame.em:
        return False
    if are_names_and_values(frame, left, right):
        return False
    aligned = aligned_share(frame, left, right)
    return aligned < ALIGNED_SHARE or are_apart_though_level(frame, left, right, aligned)


def _between_gaps(frame: Frame, lines: Row) -> list[Row]:
    """`lines` split where the page is empty from side to side, at the wide gaps only."""
    by_top = sorted(lines, key=lambda i: frame.boxes[i][1])
    bottom = frame.boxes[by_top[0]][3]
    gaps = []
    for i in by_top[1:]:
        gaps.append(frame.boxes[i][1] - bottom)
        bottom = max(bottom, frame.boxes[i][3])
    least = max(0.5 * frame.em, 0.7 * max(gaps))
    parts: list[Row] = [[by_top[0]]]
    for i, gap in zip(by_top[1:], gaps, strict=True):
        if gap >= least:
            parts.append([])
        parts[-1].append(i)
    return [frame.by_middle(part) for part in parts]

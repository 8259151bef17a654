"""Cuts lines of a PDF page at its rules, and tells which lines on their side are names of columns.

What the rules make of the lines is decided in `layout/grids.py`, as for pictures. Lengths are points of a frame in
which text runs to the right.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from ...layout.rules import Grid, find_grids
from .content import Box, Clock
from .drawing import Pixels
from .lines import LayerLine

__all__ = ["Ruling", "cut_at_rules", "visible", "without_frames"]

RUN_ALONG: Final = 0.5  # of the height of a line that a rule runs along to cut it
READ_CELL: Final = 1.5  # times the size of a line that was read: its size is not exact
USUAL_SIZE: Final = 10.0  # points: of type, where only the rules are known
SEEN: Final = 24  # of 255: less contrast with the ground on both sides is no rule
AROUND_PX: Final = 2
PLACES: Final = 400  # along a rule that are looked at, about
FRAME_PT: Final = 1.0  # how far the side of a box to tick may be from the edge of the box
DASH_PT: Final = 6.0  # between the dashes of one rule; a label that hides a part of it is higher


@dataclass
class Ruling:
    """What is drawn on a page along its axes: rules, and coloured areas. Boxes in points of one frame."""

    rules: list[Box] = field(default_factory=list)
    fills: list[Box] = field(default_factory=list)

    def holds_in_cells(self, boxes: Sequence[Box], clock: Clock) -> list[bool]:
        """Whether each box lies in a cell of a grid, beside another of them or along several rows.

        They are turned names of columns, or of groups of rows.
        """
        held = [False] * len(boxes)
        for grid in find_grids(self.rules, USUAL_SIZE, clock.tick, self.fills) if boxes else ():
            cells = [grid.cell_around(box) for box in boxes]
            rows = [cell[0] for cell in cells if cell is not None]
            owner = grid.owners()
            for n, cell in enumerate(cells):
                is_beside = cell is not None and rows.count(cell[0]) > 1
                held[n] = held[n] or is_beside or grid.rows_around(boxes[n], owner) > 1
        return held


def cut_at_rules(lines: Iterable[LayerLine], ruling: Ruling, clock: Clock) -> list[LayerLine]:
    """Cut lines where an upright rule stands between two of their characters.

    A rule within a word cuts it only where it is a border of a table: a frame around a word may touch a letter.

    Args:
        lines: the lines.
        ruling: the rules of the page.
        clock: bounds the time.
    """
    upright = sorted(box for box in ruling.rules if box[3] - box[1] > box[2] - box[0])
    lefts = [box[0] for box in upright]
    borders = _Borders(ruling, clock)
    out: list[LayerLine] = []
    for line in lines:
        cuts: set[int] = set()
        is_read = line.marks[0].glyph.score is not None
        # A stroke of a drawn letter is no rule: a cell is at least as high as its line.
        least = line.size * (READ_CELL if is_read else 1.0)
        if not line.vertical and line.placed is None:
            _, top, _, bottom = line.box
            for x1, y1, x2, y2 in upright[bisect_right(lefts, line.left) : bisect_right(lefts, line.right)]:
                clock.tick()
                if y2 - y1 >= least and min(bottom, y2) - max(top, y1) >= RUN_ALONG * line.size:
                    found = set(_between(line, x1, x2))
                    within = {cut for cut in found if " " not in line.text[cut - 1 : cut + 1]}
                    cuts |= found if within and borders.holds(x1, line.base) else found - within
        if is_read:  # the places of its characters are guessed: cut it between words only
            cuts = {cut for cut in cuts if line.text[cut - 1] == " "}
        if cuts:
            parts = [line.part(start, stop) for start, stop in pairwise([0, *sorted(cuts), len(line.text)])]
            out += [part for part in parts if part is not None]
        else:
            out.append(line)
    return out


class _Borders:
    """The upright borders of the cells of tables; looked for when first asked."""

    def __init__(self, ruling: Ruling, clock: Clock) -> None:
        self._ruling = ruling
        self._clock = clock
        self._grids: list[Grid] | None = None

    def holds(self, x: float, y: float) -> bool:
        """Whether there is a border at this place."""
        if self._grids is None:
            self._grids = list(find_grids(self._ruling.rules, USUAL_SIZE, self._clock.tick, self._ruling.fills))
        return any(
            abs(at - x) <= grid.snap and top - grid.snap <= y <= bottom + grid.snap
            for grid in self._grids
            for at, top, bottom in grid.upright
        )


def without_frames(rules: Iterable[Box], boxes: Sequence[Box], clock: Clock) -> list[Box]:
    """The rules that are no side of these boxes to tick or write in."""
    ordered = sorted(boxes)
    lefts = [box[0] for box in ordered]
    widest = max((box[2] - box[0] for box in boxes), default=0.0)
    out = []
    for rule in rules:
        first = bisect_left(lefts, rule[0] - widest - FRAME_PT)
        near = ordered[first : bisect_right(lefts, rule[0] + FRAME_PT)]
        clock.tick()
        if not any(_is_side(rule, box) for box in near):
            out.append(rule)
    return out


def _is_side(rule: Box, box: Box) -> bool:
    x1, y1, x2, y2 = box
    within = x1 - FRAME_PT <= rule[0] and rule[2] <= x2 + FRAME_PT
    return within and y1 - FRAME_PT <= rule[1] and rule[3] <= y2 + FRAME_PT


def visible(rules: Iterable[Box], drawing: Pixels, scale: float, clock: Clock) -> list[Box]:
    """The parts of rules that a person sees in the drawing of a page without its text.

    The line of a chart may run behind the label that stands on it. A rule that is nowhere seen is kept: where it is
    white on white, it still tells of columns.

    Args:
        rules: the rules, in points.
        drawing: the page without its text.
        scale: pixels of the drawing per point.
        clock: bounds the time.
    """
    out: list[Box] = []
    for box in rules:
        clock.tick()
        is_upright = box[3] - box[1] >= box[2] - box[0]
        start, end = (box[1], box[3]) if is_upright else (box[0], box[2])
        shown = _seen_along(box, drawing if is_upright else drawing.swapaxes(0, 1), scale, is_upright=is_upright)
        if shown.all() or not shown.any():
            out.append(box)
            continue
        places = np.flatnonzero(np.diff(np.concatenate(([0], shown.astype(np.int8), [0])))) * (end - start) / len(shown)
        parts: list[tuple[float, float]] = []
        for first, stop in places.reshape(-1, 2).tolist():
            if parts and first - parts[-1][1] <= DASH_PT:
                parts[-1] = (parts[-1][0], stop)
            else:
                parts.append((first, stop))
        for first, stop in parts:
            low, high = start + first, start + stop
            out.append((box[0], low, box[2], high) if is_upright else (low, box[1], high, box[3]))
    return out


def _seen_along(box: Box, drawing: Pixels, scale: float, *, is_upright: bool) -> npt.NDArray[np.bool_]:
    """Whether a rule stands out from its ground, at places along it; `drawing` is turned so that it is upright."""
    x1, y1, x2, y2 = box if is_upright else (box[1], box[0], box[3], box[2])
    left, right, top, bottom = round(x1 * scale), round(x2 * scale), max(0, round(y1 * scale)), round(y2 * scale) + 1
    columns = np.clip((left - AROUND_PX, left, (left + right) // 2, right, right + AROUND_PX), 0, drawing.shape[1] - 1)
    pixels = drawing[top : bottom : max(1, (bottom - top) // PLACES)][:, columns, :3]
    if not pixels.size:
        return np.zeros(0, np.bool_)
    seen: npt.NDArray[np.bool_] = (pixels.max(axis=1) - pixels.min(axis=1)).max(axis=1) >= SEEN
    return seen


def _between(line: LayerLine, x1: float, x2: float) -> Iterator[int]:
    """The places of the text where one mark is on the left of the rule and its neighbour on the right."""
    slack = line.size / 10
    before = -1
    for n, at in enumerate(line.at):
        if at < 0:
            continue
        if before >= 0 and at != before:
            a, b = sorted((line.marks[before], line.marks[at]), key=lambda mark: mark.middle)
            if a.right <= x2 + slack and x1 - slack <= b.left:
                yield n
        before = at

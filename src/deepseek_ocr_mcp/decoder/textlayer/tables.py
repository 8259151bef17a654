"""Cuts lines of a PDF page where an upright rule stands between two of their characters.

What the rules make of the lines afterwards is `layout/grids.py`'s.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from .content import Box, Clock
from .lines import LayerLine

__all__ = ["cut_at_rules"]

RUN_ALONG: Final = 0.5  # of the height of a line that a rule runs along to cut it


def cut_at_rules(lines: Iterable[LayerLine], rules: Sequence[Box], clock: Clock) -> list[LayerLine]:
    """Lines cut where an upright rule stands between two of their characters."""
    upright = sorted(box for box in rules if box[3] - box[1] > box[2] - box[0])
    lefts = [box[0] for box in upright]
    out: list[LayerLine] = []
    for line in lines:
        cuts: set[int] = set()
        if not line.vertical:
            _, top, _, bottom = line.box
            for x1, y1, x2, y2 in upright[bisect_right(lefts, line.left) : bisect_right(lefts, line.right)]:
                clock.tick()
                if min(bottom, y2) - max(top, y1) >= RUN_ALONG * line.size:
                    cuts.update(_between(line, x1, x2))
        if cuts:
            parts = [line.part(start, stop) for start, stop in pairwise([0, *sorted(cuts), len(line.text)])]
            out += [part for part in parts if part is not None]
        else:
            out.append(line)
    return out


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

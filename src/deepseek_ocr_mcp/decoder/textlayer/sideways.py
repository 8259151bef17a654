"""Puts figures and Latin words that lie on their side within a vertical line into that line.

Chinese and Japanese set a number of several figures so: it runs downwards, a quarter of a turn from the line that it
is a part of. Places are in the frame of the vertical line, in points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

from .content import Box, Clock
from .lines import ASCENT, IDEOGRAPH, LayerLine

__all__ = ["with_sideways"]

# Drawn by hand, not tuned. Less room tears a line where figures stand loose, more joins it with a note below it.
GAP_EM: Final = (
    -0.9,
    1.0,
)  # from one to the next; the box of a vertical line counts a figure as an em, a 1 has a quarter
ASIDE_EM: Final = 0.5  # how far their middle may be from that of the line


def with_sideways(
    lines: Sequence[LayerLine], sideways: Sequence[tuple[LayerLine, Sequence[Box]]], clock: Clock
) -> tuple[list[LayerLine], list[LayerLine]]:
    """Join vertical lines and what lies on its side in them.

    Args:
        lines: the lines of the frame.
        sideways: lines that run downwards in this frame, and the box of each of their marks in it.

    Returns the lines of the frame, and the lines on their side that belong to none of them.
    """
    kept, rest = list(lines), []
    for line, boxes in sorted(sideways, key=lambda pair: pair[1][0][1]):
        piece = _upright(line, boxes)
        above = below = None
        for other in kept:
            clock.tick()
            if not (other.vertical or _is_ideograph(other)) or not _is_in_column(piece, other):
                continue
            if _follows(other, piece):
                above = other
            elif _follows(piece, other):
                below = other
        parts = [part for part in (above, piece, below) if part is not None]
        if len(parts) == 3 or any(part.vertical for part in parts if part is not piece):
            kept = [other for other in kept if other is not above and other is not below]
            kept.append(_joined(parts))
        else:
            rest.append(line)
    return kept, rest


def _upright(line: LayerLine, boxes: Sequence[Box]) -> LayerLine:
    """The line with its marks placed as those of a vertical line are."""
    marks = [
        replace(mark, left=left, right=right, base=top + ASCENT * mark.size, x=left)
        for mark, (left, top, right, _) in zip(line.marks, boxes, strict=True)
    ]
    return LayerLine(marks, vertical=True, text=line.text, at=line.at)


def _is_ideograph(line: LayerLine) -> bool:
    return len(line.marks) == 1 and IDEOGRAPH.match(line.text) is not None


def _is_in_column(piece: LayerLine, line: LayerLine) -> bool:
    middles = [(box[0] + box[2]) / 2 for box in (piece.box, line.box)]
    return abs(middles[0] - middles[1]) <= ASIDE_EM * line.size


def _follows(above: LayerLine, below: LayerLine) -> bool:
    size = max(above.size, below.size)
    return GAP_EM[0] * size <= below.box[1] - above.box[3] <= GAP_EM[1] * size


def _joined(parts: Sequence[LayerLine]) -> LayerLine:
    at: list[int] = []
    marks = list(chain.from_iterable(part.marks for part in parts))
    start = 0
    for part in parts:
        at += [n + start if n >= 0 else n for n in part.at]
        start += len(part.marks)
    return LayerLine(marks, vertical=True, text="".join(part.text for part in parts), at=at)

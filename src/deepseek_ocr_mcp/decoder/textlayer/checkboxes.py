"""Finds boxes to tick that a page draws as shapes beside a label, and tells by their ink whether they are ticked.

A square or round path as high as a line is a box to tick under three conditions: the drawing shows a frame with white
in it, a label stands beside it, and it holds no text but a mark. What makes the mark (strokes, a shape, a letter, a
dingbat) does not matter. Where there are such frames, a shape of their size and colour that is filled is a ticked box,
too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from .content import Box, Clock, Glyph, Run, is_within
from .drawing import Pixels
from .lines import TICKED, UNTICKED

__all__ = ["with_check_boxes"]

Mask = npt.NDArray[np.bool_]

MOST_PX: Final = 40  # of its side are looked at: small pages are drawn large
CONTRAST: Final = 48  # of 255, of a stroke and its ground
EDGE: Final = 0.15  # of the side of a box: how far from its edge its frame may be drawn
INSIDE: Final = 0.24  # of the side, from where on there is no frame any more
FRAME: Final = 0.85  # of a frame is inked
CORNER: Final = 0.12  # of the side of a circle: its corners are empty
WHITE: Final = 0.25  # of the ring within a frame, at least: a swatch of colour has none
MOST_FRAMES: Final = 40  # of a page tell how large its filled boxes are
SAME_SIDE: Final = 0.1  # of the side of a frame: how much larger or smaller a filled box may be
SAME_COLOUR: Final = 96  # of 255, of a fill and its frame, whose thin strokes are drawn paler
ALL_FILLED: Final = 0.95  # of a filled box has one colour
TICKED_SHARE: Final = 0.08  # of its inside is inked
LIGHT_MOST: Final = 0.4  # of a coloured box is its light tick, at most
TICK_WIDE: Final = 0.4  # of the box is its tick wide
TICK_HIGH: Final = 0.25  # of the box goes the tick up
TICK_TURN: Final = (0.15, 0.55)  # of its width, where it turns
SIDE_EM: Final = (0.55, 1.7)  # how large a box is, for the type of its label
REACH_EM: Final = 2.5  # from a box to the label behind it
BEFORE_EM: Final = 1.2  # the same to a label before it
LEVEL_EM: Final = 0.45  # how far the middle of a box may be from the middle of its label's small letters
MIDDLE_EM: Final = 0.3  # of that middle above the baseline
APART: Final = 0.04  # of its side: nearer ones are cells of a grid, or of a field for single figures
MARKS: Final = frozenset("xXvV×✓✔✕✖✗✘☒☑•●■▪◆√/\\")


@dataclass(frozen=True, slots=True)
class _CheckBox:
    box: Box
    is_on: bool
    label: Glyph


def with_check_boxes(
    shown: Sequence[Glyph], squares: Sequence[Box], drawing: Pixels, scale: float, clock: Clock
) -> tuple[list[Glyph], list[Box]]:
    """The glyphs with `[x]` or `[ ]` in the place of each box to tick, and these boxes.

    Args:
        squares: shapes that may be one, points.
        drawing: the page with its text, `scale` pixels per point.
    """
    found = []
    framed: dict[Box, bool] = {}
    for box in squares:
        clock.tick()
        if box not in framed and (is_on := _is_ticked(box, drawing, scale)) is not None:
            framed[box] = is_on  # the mark of a pen that leaves its box is a shape as large, and no frame
    framed |= dict.fromkeys(_filled(squares, list(framed), drawing, scale), True)
    for box in _apart(list(framed), clock):
        is_on = framed[box]
        inside = [glyph for glyph in shown if is_within(glyph.box, box)]
        label = _label(box, shown, inside, clock)
        if label is not None and all(glyph.text in MARKS or glyph.run.dingbat for glyph in inside):
            found.append(_CheckBox(box, is_on, label))
    if not found:
        return list(shown), []
    kept = [glyph for glyph in shown if not any(is_within(glyph.box, each.box) for each in found)]
    for each in found:
        run = Run(size=each.label.run.size, order=0)
        kept.append(Glyph(TICKED if each.is_on else UNTICKED, each.box, each.box[0], each.label.y, run))
    return kept, [each.box for each in found]


def _filled(squares: Sequence[Box], frames: Sequence[Box], drawing: Pixels, scale: float) -> list[Box]:
    """The shapes that are as large as one of the frames, and filled with its colour."""
    sizes = {(_side(box), _frame_colour(box, drawing, scale)) for box in frames[:MOST_FRAMES]}
    found = []
    for box in squares if sizes else ():
        if any(abs(_side(box) - side) <= SAME_SIDE * side for side, _ in sizes) and box not in frames:
            window = _window(box, drawing, scale)[2:-2, 2:-2].reshape(-1, 3)
            fill = np.median(window, axis=0) if len(window) else None
            if fill is not None and (np.abs(window - fill).max(axis=1) < CONTRAST).mean() >= ALL_FILLED:
                found += [box] if any(np.abs(fill - colour).max() < SAME_COLOUR for _, colour in sizes) else []
    return found


def _side(box: Box) -> float:
    return box[2] - box[0]


def _frame_colour(box: Box, drawing: Pixels, scale: float) -> tuple[int, ...]:
    """The colour on the edge of a box that differs most from its inside."""
    window = _window(box, drawing, scale)
    middle = np.median(window, axis=(0, 1))
    pixels = window.reshape(-1, 3)
    return tuple(map(int, pixels[np.abs(pixels - middle).max(axis=1).argmax()]))


def _window(box: Box, drawing: Pixels, scale: float) -> npt.NDArray[np.int16]:
    """The drawing of a box, and a pixel around it."""
    left, top = max(0, round(box[0] * scale) - 1), max(0, round(box[1] * scale) - 1)
    right, bottom = round(box[2] * scale) + 1, round(box[3] * scale) + 1
    step = max(1, (bottom - top) // MOST_PX)
    return drawing[top:bottom:step, left:right:step, :3].astype(np.int16)


def _apart(squares: Sequence[Box], clock: Clock) -> list[Box]:
    """The boxes that touch no other, each once: its frame and its ground may be two shapes."""
    single: list[Box] = []
    for box in sorted(squares, key=lambda box: (box[0] - box[2]) * (box[3] - box[1])):
        clock.tick()
        if not any(_holds(other, box) for other in single):
            single.append(box)
    out = []
    for box in single:
        gap = APART * (box[2] - box[0])
        clock.tick()
        if not any(other is not box and _gap(other, box) < gap for other in single):
            out.append(box)
    return out


def _holds(outer: Box, box: Box) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return outer[0] < x < outer[2] and outer[1] < y < outer[3]


def _gap(one: Box, other: Box) -> float:
    across = max(one[0], other[0]) - min(one[2], other[2])
    down = max(one[1], other[1]) - min(one[3], other[3])
    return max(across, down)


def _label(box: Box, shown: Sequence[Glyph], inside: Sequence[Glyph], clock: Clock) -> Glyph | None:
    """The nearest letter behind the box on its line, or else before it."""
    own = {id(glyph) for glyph in inside}
    side, middle = box[2] - box[0], (box[1] + box[3]) / 2
    best, least = None, REACH_EM
    for glyph in shown:
        clock.tick()
        size = glyph.run.size
        if id(glyph) in own or abs(glyph.run.angle) >= 1 or not SIDE_EM[0] * size <= side <= SIDE_EM[1] * size:
            continue
        if abs(glyph.y - MIDDLE_EM * size - middle) > LEVEL_EM * size or not glyph.text[0].isalnum():
            continue
        behind, before = glyph.box[0] - box[2], box[0] - glyph.box[2]
        reach = behind / size if behind >= -side / 4 else before / size * REACH_EM / BEFORE_EM
        if -1 < reach < least:
            best, least = glyph, reach
    return best


def _is_ticked(box: Box, drawing: Pixels, scale: float) -> bool | None:
    """Whether the drawing shows a mark in the frame of a box; None where it shows no frame."""
    window = _window(box, drawing, scale)
    if min(window.shape[:2]) < 8:
        return None
    around = np.concatenate([window[0], window[-1], window[:, 0], window[:, -1]])
    ink: Mask = np.abs(window - np.median(around, axis=0)).max(axis=2) >= CONTRAST
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return None
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if not (_has_square_frame(ink) or _has_round_frame(ink)):
        return None
    side = min(ink.shape)
    edge, inner = max(2, round(EDGE * side)), max(3, round(INSIDE * side))
    ring = ink[edge:-edge, edge:-edge].copy()
    inside = ink[inner:-inner, inner:-inner]
    wide = inner - edge
    white = ring.size - np.count_nonzero(ring)
    if wide > 0:
        white -= inside.size - np.count_nonzero(inside)
    around_inside = ring.size - inside.size
    if inside.size == 0:
        return None
    if around_inside > 0 and white < WHITE * around_inside:
        return True if _is_tick(~ink[edge:-edge, edge:-edge]) else None
    return bool(inside.mean() > TICKED_SHARE)


def _is_tick(mark: Mask) -> bool:
    """Whether a light mark on a coloured box goes down a little and then up higher: browsers draw a tick so.

    Any other sign on a coloured box may be a picture.
    """
    columns = np.flatnonzero(mark.any(axis=0))
    if len(columns) < TICK_WIDE * mark.shape[1] or not TICKED_SHARE < mark.mean() < LIGHT_MOST:
        return False
    rows = np.arange(len(mark))[:, None]
    part = mark[:, columns[0] : columns[-1] + 1]
    if not part.any(axis=0).all():
        return False
    heights = (part * rows).sum(axis=0) / part.sum(axis=0)  # of the middle of the stroke, from the top
    lowest = int(heights.argmax())
    down, up = heights[lowest] - heights[0], heights[lowest] - heights[-1]
    return bool(TICK_TURN[0] <= lowest / len(heights) <= TICK_TURN[1] and up > down > 0 and up > TICK_HIGH * len(mark))


def _has_square_frame(ink: Mask) -> bool:
    edge = max(1, round(EDGE * min(ink.shape)))
    sides = (ink[:edge].any(0), ink[-edge:].any(0), ink[:, :edge].any(1), ink[:, -edge:].any(1))
    return min(float(side.mean()) for side in sides) >= FRAME


def _has_round_frame(ink: Mask) -> bool:
    """Whether there is ink in every direction near the edge of an ellipse, and none in the corners around it."""
    height, width = ink.shape
    corner = max(1, round(CORNER * min(height, width)))
    if any(ink[rows, columns].any() for rows in _ends(corner) for columns in _ends(corner)):
        return False
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    hits = np.zeros(len(angles), np.bool_)
    for radius in (0.98, 0.9, 0.82, 0.74):
        y = ((1 + radius * np.sin(angles)) * (height - 1) / 2).round().astype(int)
        x = ((1 + radius * np.cos(angles)) * (width - 1) / 2).round().astype(int)
        hits |= ink[y, x]
    return float(hits.mean()) >= FRAME


def _ends(count: int) -> tuple[slice, slice]:
    return slice(None, count), slice(-count, None)

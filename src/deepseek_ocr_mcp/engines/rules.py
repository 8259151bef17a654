"""Finds the rules and the boxes to tick that are drawn on a picture of a page.

No model: OpenCV keeps the ink that is long and thin, or that makes a square. Everything comes in pixels of the
straightened page, the frame of the lines that an engine read. Only an engine's child imports this module.

Models were tried in their place, in November 2026: rapid-layout 1.2.1 and rapid-table 0.3.0, with the lines of our
reader. Of 281 cells of the shared and generated tables they placed 175; these rules and the layout placed 276, and
missed none of the 175. The models cost 0.23 CPU seconds a page and 15 MB of weights, the rules 0.01 to 0.03 CPU
seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..layout.lines import Box

__all__ = ["PageDrawing", "TickBox", "find_drawn"]

Pixels = NDArray[np.uint8]

# Tuned on the ruled pages of benchmarks/generated_pages.py (plain, scanned, tilted) and the tables of the shared
# corpus. Too short, and the strokes of letters are rules; too long, and the borders of low rows are missed.
LEVEL_EM: Final = 2.5  # least length of a level rule
UPRIGHT_EM: Final = 1.5  # least length of an upright rule; rows are seldom lower
STROKE_EM: Final = 1.2  # longer than any stroke of a letter
BROKEN_EM: Final = 0.4  # most white within a rule: scans break them
THICK_EM: Final = 0.4  # most thickness of a rule; thicker is a bar or the ground of a heading
SLOPE: Final = 0.02  # of its length a rule may climb: the tilt of a page of short lines is known to a degree
NEIGHBOURHOOD: Final = 31  # pixels: ink is darker than the mean around it …
DARKER: Final = 12  # … by so many of 255 levels; less, and the grain of paper is ink
GRAINS: Final = 3.0  # times the usual difference of two pixels of paper side by side is ink darker, at least
GRAIN_ROWS: Final = 7  # one of so many rows is measured
DARK_PAGE: Final = 110  # a page whose middle level is darker has light ink
ENOUGH_EM: Final = 15.0  # pixels: lines of a page that are higher are reduced to it; rules stay visible
FORM_EM: Final = 26.0  # the same of a page with boxes: a second look tells better which of them are ticked
MOST_PIXELS: Final = 6_000_000  # of a page that is looked at; larger ones are reduced further
MOST_TICKS: Final = 500  # bounds the time
MOST_RULES: Final = 2000  # more are a pattern
TILTED_DEG: Final = 0.2  # a page tilted by less is not turned
TICK_EM: Final = (0.7, 1.8)  # the side of a box to tick
TICK_PIXELS: Final = 10  # at least; a letter of that size looks like a box
SQUARE: Final = 0.2  # by so much the sides may differ
EDGE: Final = 0.92  # of each side of a box is inked
CORNER: Final = 0.5  # of each corner of a box is inked; an o has none
EDGE_WIDTH: Final = 0.12  # of a side: how far from its place the ink of a side may be
TICKED: Final = 0.08  # of its inside is inked, when it is ticked; scans leave specks
TOUCHED: Final = 0.02  # of its inside, at most, is inked when it is not; between, nobody can tell: taken as ticked


@dataclass(frozen=True, slots=True)
class TickBox:
    """A box to tick on a form."""

    box: Box
    is_ticked: bool


@dataclass(frozen=True, slots=True)
class PageDrawing:
    """What is drawn on a page beside its text: the boxes of rules, and boxes to tick."""

    rules: tuple[Box, ...] = ()
    ticks: tuple[TickBox, ...] = ()


def find_drawn(pixels: Pixels, tilt: float, em: float) -> PageDrawing:
    """The rules and the boxes to tick of a page.

    Args:
        pixels: the upright page, `(height, width, 3)` or `(height, width)`.
        tilt: degrees by which its lines go down to the right; the result is as if they did not.
        em: the usual height of a line, in pixels.
    """
    if em < 4:
        return PageDrawing()
    scale = _scale(pixels, ENOUGH_EM, em)
    ink = _ink(pixels, tilt, scale)
    size = em * scale
    rules = [*_rules(ink, size, level=True), *_rules(ink, size, level=False)]
    if len(rules) > MOST_RULES:
        return PageDrawing()
    ticks = _ticks_at(ink, em, scale)
    if ticks and scale < (finer := _scale(pixels, FORM_EM, em)):
        better = _ticks_at(_ink(pixels, tilt, finer), em, finer)
        ticks = [*better, *(tick for tick in ticks if not any(_overlap(tick.box, other.box) for other in better))]
    return PageDrawing(tuple(_scaled(rule, 1 / scale) for rule in rules), tuple(ticks))


def _scale(pixels: Pixels, enough: float, em: float) -> float:
    """The scale at which a page is looked at: lines as high as `enough` says, and a bounded number of pixels."""
    return min(1.0, enough / em, math.sqrt(MOST_PIXELS / max(1, pixels.shape[0] * pixels.shape[1])))


def _ticks_at(ink: Pixels, em: float, scale: float) -> list[TickBox]:
    """The boxes to tick, in pixels of the page, as they are seen at a scale."""
    found = islice(_ticks(ink, em * scale), MOST_TICKS)
    return [TickBox(_scaled(tick.box, 1 / scale), tick.is_ticked) for tick in found]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _scaled(box: Box, by: float) -> Box:
    return box[0] * by, box[1] * by, box[2] * by, box[3] * by


def _ink(pixels: Pixels, tilt: float, scale: float) -> Pixels:
    """255 where there is ink, on a page turned so that its lines are level."""
    grey: Any = pixels if pixels.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if np.median(grey[::8, ::8]) < DARK_PAGE:
        grey = 255 - grey
    if abs(tilt) > TILTED_DEG:
        height, width = grey.shape
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), tilt, 1.0)
        grey = cv2.warpAffine(grey, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask: Pixels = cv2.adaptiveThreshold(
        grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, NEIGHBOURHOOD, max(DARKER, GRAINS * _grain(grey))
    )
    return mask


def _grain(grey: Pixels) -> float:
    """How much the levels of paper vary from one pixel to the next: the deviation of most neighbours."""
    part = grey[::GRAIN_ROWS].astype(np.int16)
    return float(np.median(np.abs(np.diff(part, axis=1)))) if part.shape[1] > 1 else 0.0


def _rules(ink: Pixels, em: float, *, level: bool) -> Iterator[Box]:
    """Long thin runs of ink in one direction."""
    least = (LEVEL_EM if level else UPRIGHT_EM) * em

    def line(length: float) -> Pixels:
        ones: Pixels = np.ones((1, max(1, round(length))) if level else (max(1, round(length)), 1), np.uint8)
        return ones

    # Letters go first, so that closing the gaps of a rule does not join their feet.
    runs = cv2.morphologyEx(ink, cv2.MORPH_OPEN, line(STROKE_EM * em))
    x, y, wide, high = cv2.boundingRect(runs)
    if wide == 0:
        return
    runs = cv2.morphologyEx(runs[y : y + high, x : x + wide], cv2.MORPH_CLOSE, line(BROKEN_EM * em))
    runs = cv2.morphologyEx(runs, cv2.MORPH_OPEN, line(least))
    count, _, stats, _ = cv2.connectedComponentsWithStats(runs, connectivity=8)
    for left, top, width, height, area in stats[1 : min(count, 4 * MOST_RULES)].tolist():
        long, thick = (width, height) if level else (height, width)
        if area <= THICK_EM * em * long and thick <= max(3.0, THICK_EM * em, SLOPE * long):
            yield float(x + left), float(y + top), float(x + left + width), float(y + top + height)


def _ticks(ink: Pixels, em: float) -> Iterator[TickBox]:
    """Squares of ink with straight sides, and whether there is something in them."""
    least, most = max(TICK_PIXELS, TICK_EM[0] * em), TICK_EM[1] * em
    # Only strokes that are long enough for a side: on grainy paper all else is a million specks.
    stroke = max(3, round(least / 2))
    level = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((1, stroke), np.uint8))
    upright = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((stroke, 1), np.uint8))
    contours, _ = cv2.findContours(level | upright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours[: 50 * MOST_RULES]:
        left, top, width, height = cv2.boundingRect(contour)
        if not (least <= width <= most and least <= height <= most) or abs(width - height) > SQUARE * max(
            width, height
        ):
            continue
        square = ink[top : top + height, left : left + width]
        edge = max(2, round(EDGE_WIDTH * min(width, height)))
        sides = (square[:edge].max(0), square[-edge:].max(0), square[:, :edge].max(1), square[:, -edge:].max(1))
        # A page that leans a little more than its tilt says moves the ends of a side; its corners stay.
        ends = (square[y, x] for y in (np.s_[:edge], np.s_[-edge:]) for x in (np.s_[:edge], np.s_[-edge:]))
        has_sides = min(float(side.mean()) for side in sides) >= 255 * EDGE
        leans = min(float(side[edge:-edge].mean()) for side in sides) >= 255 * EDGE
        if not (has_sides or (leans and min(float(end.mean()) for end in ends) >= 255 * CORNER)):
            continue
        inner = max(edge + 1, round(0.22 * min(width, height)))
        inside = square[inner:-inner, inner:-inner]
        if inside.size == 0:
            continue
        share = float(inside.mean()) / 255
        yield TickBox((float(left), float(top), float(left + width), float(top + height)), share > TICKED)

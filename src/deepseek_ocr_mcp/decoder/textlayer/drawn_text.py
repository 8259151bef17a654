"""Finds ink that looks like text in the drawing of a page without its text: letters as strokes, shapes or pictures.

Letters are connected pieces of ink that stand out from their ground, as high as letters are, side by side on one line,
and unlike each other: the dots of a leader and the ticks of an axis are alike. On 413 pages of public suites it found
41 of 48 with such text (the other seven are logos of one word) and raised six false alarms; a false alarm costs the
reading of a page, a miss leaves the page's note about its pictures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from .content import Box, Clock
from .drawing import Pixels

__all__ = ["connected", "text_area"]

Gray = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

HAT_PX: Final = 13  # thickest stroke of a letter; what is thicker is a ground
CONTRAST: Final = 48  # of 255, of a stroke and its ground
LETTER_PX: Final = (6, 70)  # least and greatest height of a letter
WIDEST: Final = 2.2  # times the height: an M, or two letters that touch
FILL: Final = (0.08, 0.9)  # of the box of a letter is ink
NARROW: Final = 0.35  # of the height: an I fills its box
MIN_INK_PX: Final = 40  # in the whole drawing
BOXES: Final = 0.6  # of a line are squares of one size: a column of boxes to tick
LIKE_HEIGHT: Final = 1.9  # times: a capital beside a small letter
GAP: Final = 1.3  # of the greater height, from letter to letter and over a narrow space
LEVEL: Final = 0.25  # of the height: how far the feet of most letters may lie apart
COARSE: Final = 3  # how many times letters may be larger than `LETTER_PX`
MAX_LETTERS: Final = 4_000  # from the top; a scan of a page of print has as many


@dataclass(frozen=True, slots=True)
class _Letter:
    left: int
    top: int
    right: int
    bottom: int
    ink: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def kind(self) -> tuple[int, int]:
        """About the same for letters that look alike."""
        return round(4 * (self.right - self.left) / self.height), round(self.ink / (self.height * 1.5))

    @property
    def is_solid(self) -> bool:
        """It may be a bar of a chart."""
        return self.ink > FILL[1] * self.height * (self.right - self.left)

    def is_square_like(self, other: _Letter) -> bool:
        """Both are squares of one size, and may be boxes to tick."""
        wide, high = self.right - self.left, self.height
        apart = max(abs(other.right - other.left - wide), abs(other.height - high), abs(wide - high))
        return apart <= 1


@dataclass(frozen=True, slots=True)
class _Demand:
    """What makes a line of letters; less is a row of marks, boxes or bars."""

    letters: int
    """Side by side."""
    kinds: int
    """Unlike each other."""
    may_be_drawing: bool = True

    def is_met_by(self, letters: Sequence[_Letter]) -> bool:
        if self.may_be_drawing:
            kinds = {letter.kind for letter in letters}
        else:
            kinds = {letter.kind for letter in letters if not letter.is_solid}
            middle = sorted(letters, key=lambda letter: letter.height)[len(letters) // 2]
            if sum(letter.is_square_like(middle) for letter in letters) > BOXES * len(letters):
                return False
        return len(letters) >= self.letters and len(kinds) >= self.kinds


LEVEL_LINE: Final = _Demand(4, 3)
TURNED_LINE: Final = _Demand(6, 4, may_be_drawing=False)  # boxes to tick stand under each other, too
LARGE_LINE: Final = _Demand(5, 3, may_be_drawing=False)


def text_area(drawing: Pixels, clock: Clock) -> Box | None:
    """Where the drawing of a page without its text shows letters, in pixels; None where it has no line of them."""
    found = _cropped(drawing)
    if found is None:
        return None
    gray, left, top = found
    areas = _areas(gray, clock)
    for area in _large_areas(_reduced(gray), clock):
        x1, y1, x2, y2 = (COARSE * (side - HAT_PX) for side in area)
        areas.append((x1, y1, x2, y2))
    if not areas:
        return None
    lefts, tops, rights, bottoms = zip(*areas, strict=True)
    return min(lefts) + left, min(tops) + top, max(rights) + left, max(bottoms) + top


def _areas(gray: Gray, clock: Clock) -> list[Box]:
    """Where letters stand side by side, dark or light, and dark ones one above the other."""
    dark, light = _standing_out(gray)
    found = [_area(_letters(mask), LEVEL_LINE, clock) for mask in (dark, light)]
    turned = _letters(dark.T)  # their feet are on the right where they run upwards, else on the left
    mirrored = [_Letter(each.left, -each.bottom, each.right, -each.top, each.ink) for each in turned]
    if (area := _area(turned, TURNED_LINE, clock)) is not None:
        found.append((area[1], area[0], area[3], area[2]))
    elif (area := _area(mirrored, TURNED_LINE, clock)) is not None:
        found.append((-area[3], area[0], -area[1], area[2]))
    return [area for area in found if area is not None]


def _large_areas(gray: Gray, clock: Clock) -> list[Box]:
    found = (_area(_letters(mask), LARGE_LINE, clock) for mask in _standing_out(gray))
    return [area for area in found if area is not None]


def _standing_out(gray: Gray) -> tuple[Mask, Mask]:
    """Strokes that are darker than what is around them, and those that are lighter."""
    closed, opened = _eroded(_dilated(gray)), _dilated(_eroded(gray))
    return (closed - gray) >= CONTRAST, (gray - opened) >= CONTRAST


def _reduced(gray: Gray) -> Gray:
    """The drawing at a fraction of its size: in it, the letters of a poster are as large as those of a letter."""
    height, width = gray.shape[0] // COARSE * COARSE, gray.shape[1] // COARSE * COARSE
    parts = gray[:height, :width].reshape(height // COARSE, COARSE, width // COARSE, COARSE)
    reduced = np.full((height // COARSE + 2 * HAT_PX, width // COARSE + 2 * HAT_PX), 255, np.uint8)
    reduced[HAT_PX:-HAT_PX, HAT_PX:-HAT_PX] = parts.mean(axis=(1, 3))
    return reduced


def _cropped(drawing: Pixels) -> tuple[Gray, int, int] | None:
    """The part with ink, in grey, and where it begins; None where there is hardly any."""
    flat = drawing.reshape(drawing.shape[0], -1).view(np.uint32)
    inked = flat != 0xFFFFFFFF
    rows = np.flatnonzero(inked.any(axis=1))
    if not len(rows):
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(inked[top:bottom].any(axis=0))
    if np.count_nonzero(inked[top:bottom]) < MIN_INK_PX:
        return None
    part = drawing[top:bottom, columns[0] : columns[-1] + 1]
    gray = np.full((part.shape[0] + 2 * HAT_PX, part.shape[1] + 2 * HAT_PX), 255, np.uint8)
    # A quarter of blue and red, half of green: near enough to how bright a colour looks.
    middle = gray[HAT_PX:-HAT_PX, HAT_PX:-HAT_PX]
    np.add(part[:, :, 0] >> 2, part[:, :, 2] >> 2, out=middle)
    middle += part[:, :, 1] >> 1
    return gray, int(columns[0]) - HAT_PX, top - HAT_PX


def _dilated(gray: Gray) -> Gray:
    """The brightest value around each pixel."""
    return _running(_running(gray, np.maximum).T, np.maximum).T


def _eroded(gray: Gray) -> Gray:
    return _running(_running(gray, np.minimum).T, np.minimum).T


def _running(gray: Gray, better: np.ufunc) -> Gray:
    """The best of `HAT_PX` values in each row, around each pixel; at the sides of fewer."""
    best = np.ascontiguousarray(gray)
    done = 1
    while done < HAT_PX:
        step = min(done, HAT_PX - done)
        wider = best.copy()
        better(best[:, step:], best[:, :-step], out=wider[:, :-step])
        best, done = wider, done + step
    out = best.copy()
    half = HAT_PX // 2
    out[:, half:] = best[:, :-half]
    return out


def _letters(mask: Mask) -> list[_Letter]:
    """Connected pieces that are as large as letters, from top to bottom."""
    boxes = connected(mask)
    if not len(boxes):
        return []
    left, top, right, bottom, ink = boxes.T
    high, wide = bottom - top, right - left
    fill = ink / (high * wide)
    fits = (high >= LETTER_PX[0]) & (high <= LETTER_PX[1]) & (wide <= WIDEST * high) & (fill >= FILL[0])
    fits &= (fill <= FILL[1]) | (wide <= NARROW * high)
    chosen = boxes[fits]
    chosen = chosen[np.argsort(chosen[:, 1], kind="stable")][:MAX_LETTERS]
    return [_Letter(*map(int, row)) for row in chosen]


def connected(mask: Mask) -> Ints:
    """For each connected piece left, top, right, bottom and its number of pixels; right and bottom are outside."""
    width = mask.shape[1] + 2
    edges = np.zeros((mask.shape[0], width), np.int8)
    edges[:, 1:-1] = mask
    flat = np.diff(edges.ravel(), prepend=np.int8(0))
    starts, ends = np.flatnonzero(flat == 1), np.flatnonzero(flat == -1)
    if not len(starts):
        return np.zeros((0, 5), np.int64)
    # Stretches of ink that touch one of the row above, even if only by a corner.
    first = np.searchsorted(ends, starts - width, side="left")
    last = np.searchsorted(starts, ends - width, side="right")
    touching = np.maximum(last - first, 0)
    below = np.repeat(np.arange(len(starts)), touching)
    offset = np.arange(len(below)) - np.repeat(np.cumsum(touching) - touching, touching)
    root = _joined(len(starts), below, np.repeat(first, touching) + offset)
    order = np.argsort(root, kind="stable")
    begin = np.flatnonzero(np.diff(root[order], prepend=-1))
    rows, columns, lengths = starts[order] // width, starts[order] % width - 1, (ends - starts)[order]
    return np.stack(
        [
            np.minimum.reduceat(columns, begin),
            np.minimum.reduceat(rows, begin),
            np.maximum.reduceat(columns + lengths, begin),
            np.maximum.reduceat(rows, begin) + 1,
            np.add.reduceat(lengths, begin),
        ],
        axis=1,
    ).astype(np.int64)


def _joined(count: int, one: Ints, other: Ints) -> Ints:
    """For each of `count` things the smallest of those that it is connected with by the pairs `one`, `other`."""
    root = np.arange(count)
    while True:
        a, b = root[one], root[other]
        apart = a != b
        if not apart.any():
            return root
        np.minimum.at(root, np.maximum(a, b)[apart], np.minimum(a, b)[apart])
        while (root[root] != root).any():
            root = root[root]


def _area(letters: list[_Letter], least: _Demand, clock: Clock) -> Box | None:
    """The box of all letters, if so many of them, and so many unlike ones, make a line of text."""
    after = _followers(letters, clock) if len(letters) >= least.letters else {}
    for start in set(after) - set(after.values()):
        line = [start]
        while line[-1] in after and len(line) <= len(letters):
            line.append(after[line[-1]])
        if _is_text([letters[n] for n in line], least):
            return (  # of every piece that may be a letter: what stands apart must not be cut off
                min(letter.left for letter in letters),
                min(letter.top for letter in letters),
                max(letter.right for letter in letters),
                max(letter.bottom for letter in letters),
            )
    return None


def _followers(letters: list[_Letter], clock: Clock) -> dict[int, int]:
    """For each letter the next one on its line."""
    cell = LETTER_PX[1]
    places: dict[tuple[int, int], list[int]] = defaultdict(list)
    for n, letter in enumerate(letters):
        places[letter.left // cell, letter.top // cell].append(n)
    after: dict[int, int] = {}
    for n, letter in enumerate(letters):
        clock.tick()
        column, row = letter.right // cell, letter.top // cell
        near = [m for i in (-1, 0, 1) for k in (-1, 0, 1) for m in places.get((column + i, row + k), ())]
        beside = [m for m in near if m != n and _is_beside(letter, letters[m])]
        if beside:
            after[n] = min(beside, key=lambda m: letters[m].left)
    return after


def _is_beside(letter: _Letter, other: _Letter) -> bool:
    low, high = sorted((letter.height, other.height))
    gap = other.left - letter.right
    shared = min(letter.bottom, other.bottom) - max(letter.top, other.top)
    return high <= LIKE_HEIGHT * low and -low / 3 <= gap <= GAP * high and other.left > letter.left and shared > low / 2


def _is_text(line: list[_Letter], least: _Demand) -> bool:
    if not least.is_met_by(line):
        return False
    feet = sorted(letter.bottom for letter in line)
    usual = feet[len(feet) // 2]
    high = sorted(letter.height for letter in line)[len(line) // 2]
    return sum(abs(foot - usual) <= LEVEL * high for foot in feet) >= 0.7 * len(feet)

"""Finds ink that looks like text in the drawing of a page without its text: letters as strokes, shapes or pictures.

Letters are connected pieces of ink that stand out from their ground. They are as high as letters, stand side by side on
one line, and differ from each other; the dots of a leader and the ticks of an axis are alike. Three such letters are
enough by themselves, two beside written text, and one within it. On 413 pages of public suites, it found 41 of 48 pages
with such text; the other seven have logos of one word. It raised six false alarms. A false alarm costs the reading of a
page; a miss leaves the page's note about its pictures.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from .content import Box, Clock
from .drawing import Pixels

__all__ = ["DrawnText", "LevelText", "connected", "drawn_text"]

Gray = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
LevelText = npt.NDArray[np.float64]
"""For each character of a text left, baseline, right and the size of its type, pixels."""

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
SHORT_LEVEL: Final = 0.12  # the same for all letters of a short word, which says less
GRID: Final = (4, 3)  # rows and columns of samples of a letter
UNLIKE: Final = 0.12  # how far the samples of two letters lie apart, in the mean
# A short word beside written text stands on its line; shares of the size of the text. Of 1,006 public pages whose text
# was whole before, 7 have a word of three letters (4 of them text) and none has one of two, or a letter, beside text.
BESIDE_EM: Final = (-0.2, 1.2)  # gap to the text
WITHIN_EM: Final = 0.3  # the same on both sides of a single letter
BASE_EM: Final = 0.08  # how far its feet may be from the baseline
BASE_PX: Final = 1.5  # the same, in small type
HIGH_EM: Final = (0.55, 0.95)  # its height
COARSE: Final = 3  # how many times letters may be larger than `LETTER_PX`
MAX_LETTERS: Final = 4_000  # from the top; a scan of a page of print has as many


@dataclass(frozen=True, slots=True)
class _Letter:
    left: int
    top: int
    right: int
    bottom: int
    ink: int
    in_mask: tuple[int, int, int, int] | None = None
    """Its box in the mask, if that is another one."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        return self.in_mask or (self.left, self.top, self.right, self.bottom)

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
    by_shape: bool = False
    """Letters of one width may be unlike, too."""

    def is_met_by(self, letters: Sequence[_Letter], mask: Mask) -> bool:
        if len(letters) < self.letters:
            return False
        if self.may_be_drawing:
            return len({letter.kind for letter in letters}) >= self.kinds
        middle = sorted(letters, key=lambda letter: letter.height)[len(letters) // 2]
        if sum(letter.is_square_like(middle) for letter in letters) > BOXES * len(letters):
            return False
        open_ones = [letter for letter in letters if not letter.is_solid]
        if len({letter.kind for letter in open_ones}) >= self.kinds:
            return True
        return self.by_shape and _unlike(open_ones, mask) >= self.kinds


LEVEL_LINE: Final = _Demand(4, 3)
TURNED_LINE: Final = _Demand(6, 4, may_be_drawing=False, by_shape=True)  # boxes to tick stand under each other, too
LARGE_LINE: Final = _Demand(5, 3, may_be_drawing=False)


@dataclass(slots=True)
class DrawnText:
    """What looks like text in the drawing of a page without its text."""

    area: Box | None = None
    """Where letters stand by themselves, pixels."""
    beside: list[tuple[Box, int]] = field(default_factory=list)
    """Letters on a line of the written text, and the number of the character that each stands near."""


def drawn_text(drawing: Pixels, written: Callable[[], LevelText], clock: Clock) -> DrawnText:
    """Find letters in the drawing of a page without its text.

    Args:
        written: gives the characters of the page's text that run to the right; hardly any page needs them.
    """
    drawn = DrawnText()
    found = _cropped(drawing)
    if found is None:
        return drawn
    gray, left, top = found
    areas, beside = _areas(gray, _LevelText(written, (left, top)), clock)
    for area in _large_areas(_reduced(gray), clock):
        x1, y1, x2, y2 = (COARSE * (side - HAT_PX) for side in area)
        areas.append((x1, y1, x2, y2))
    if areas:
        lefts, tops, rights, bottoms = zip(*areas, strict=True)
        drawn.area = (min(lefts) + left, min(tops) + top, max(rights) + left, max(bottoms) + top)
    drawn.beside = [((x1 + left, y1 + top, x2 + left, y2 + top), n) for (x1, y1, x2, y2), n in beside]
    return drawn


def _areas(gray: Gray, written: _LevelText, clock: Clock) -> tuple[list[Box], list[tuple[Box, int]]]:
    """Where letters stand side by side, dark or light, and dark ones one above the other; and those beside text."""
    dark, light = _standing_out(gray)
    found: list[Box] = []
    beside: list[tuple[Box, int]] = []
    pieces = connected(dark)
    for mask, boxes in ((dark, pieces), (light, connected(light))):
        letters = _letters(boxes)
        is_area = False
        for chain in _chains(letters, clock):
            if (n := written.near(chain, mask)) >= 0:
                if not any(_overlap(_around(chain), box) for box, _ in beside):  # the white within dark letters
                    beside += [(letter.box, n) for letter in chain]
            else:
                is_area = is_area or _is_text(chain, mask, LEVEL_LINE) or _is_short(chain)
        found += [_around(letters)] if is_area else []
    mask = dark.T
    # Their feet are on the right where they run upwards, else on the left.
    turned = _letters(pieces[:, [1, 0, 3, 2, 4]])
    mirrored = [_Letter(each.left, -each.bottom, each.right, -each.top, each.ink, each.box) for each in turned]
    if any(_is_text(chain, mask, TURNED_LINE) for way in (turned, mirrored) for chain in _chains(way, clock)):
        left, top, right, bottom = _around(turned)
        found.append((top, left, bottom, right))
    return found, beside


def _large_areas(gray: Gray, clock: Clock) -> list[Box]:
    found: list[Box] = []
    for mask in _standing_out(gray):
        letters = _letters(connected(mask))
        if any(_is_text(chain, mask, LARGE_LINE) for chain in _chains(letters, clock)):
            found.append(_around(letters))
    return found


def _standing_out(gray: Gray) -> tuple[Mask, Mask]:
    """Strokes that are darker than what is around them, and those that are lighter."""
    closed, opened = _eroded(_dilated(gray)), _dilated(_eroded(gray))
    return (closed - gray) >= CONTRAST, (gray - opened) >= CONTRAST


def _reduced(gray: Gray) -> Gray:
    """The drawing at a fraction of its size: in it, the letters of a poster are as large as those of a letter."""
    height, width = gray.shape[0] // COARSE * COARSE, gray.shape[1] // COARSE * COARSE
    parts = gray[:height, :width].reshape(height // COARSE, COARSE, width // COARSE, COARSE)
    reduced = np.full((height // COARSE + 2 * HAT_PX, width // COARSE + 2 * HAT_PX), 255, np.uint8)
    sums = np.zeros((height // COARSE, width // COARSE), np.uint16)
    for row in range(COARSE):
        for column in range(COARSE):
            sums += parts[:, row, :, column]
    reduced[HAT_PX:-HAT_PX, HAT_PX:-HAT_PX] = sums // COARSE**2
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
    best, wider = gray, np.empty_like(gray)
    done = 1
    while done < HAT_PX:
        step = min(done, HAT_PX - done)
        better(best[:, step:], best[:, :-step], out=wider[:, :-step])
        wider[:, -step:] = best[:, -step:]
        best, wider, done = wider, np.empty_like(gray) if best is gray else best, done + step
    half = HAT_PX // 2
    wider[:, half:] = best[:, :-half]
    wider[:, :half] = best[:, :half]
    return wider


def _letters(boxes: Ints) -> list[_Letter]:
    """Of the pieces that `connected` found those that are as large as letters, from top to bottom."""
    if not len(boxes):
        return []
    left, top, right, bottom, ink = boxes.T
    high, wide = bottom - top, right - left
    fill = ink / (high * wide)
    fits = (high >= LETTER_PX[0]) & (high <= LETTER_PX[1]) & (wide <= WIDEST * high) & (fill >= FILL[0])
    fits &= (fill <= FILL[1]) | (wide <= NARROW * high)
    chosen = boxes[fits]
    chosen = chosen[np.argsort(chosen[:, 1], kind="stable")][:MAX_LETTERS]
    return [_Letter(*row) for row in chosen.tolist()]


def connected(mask: Mask) -> Ints:
    """For each connected piece left, top, right, bottom and its number of pixels; right and bottom are outside."""
    width = mask.shape[1] + 2
    edges = np.zeros((mask.shape[0], width), np.bool_)
    edges[:, 1:-1] = mask
    flat = edges.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, ends = changes[::2], changes[1::2]
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


def _around(letters: Sequence[_Letter]) -> Box:
    """The box of every piece that may be a letter: what stands apart must not be cut off."""
    return (
        min(letter.left for letter in letters),
        min(letter.top for letter in letters),
        max(letter.right for letter in letters),
        max(letter.bottom for letter in letters),
    )


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _chains(letters: list[_Letter], clock: Clock) -> Iterator[list[_Letter]]:
    """Letters that follow each other on a line; each is in one of them at least."""
    after = _followers(letters, clock)
    for start in set(range(len(letters))) - set(after.values()):
        chain = [start]
        while chain[-1] in after and len(chain) <= len(letters):
            chain.append(after[chain[-1]])
        yield [letters[n] for n in chain]


def _followers(letters: list[_Letter], clock: Clock) -> dict[int, int]:
    """For each letter the next one on its line."""
    cell = LETTER_PX[1]
    places: dict[tuple[int, int], list[tuple[int, int, int, int, int]]] = defaultdict(list)
    for n, letter in enumerate(letters):
        place = (letter.left, letter.top, letter.bottom, letter.bottom - letter.top, n)
        places[letter.left // cell, letter.top // cell].append(place)
    after: dict[int, int] = {}
    for n, letter in enumerate(letters):
        clock.tick()
        column, row = letter.right // cell, letter.top // cell
        left, top, right, bottom = letter.left, letter.top, letter.right, letter.bottom
        high = bottom - top
        least = math.inf
        for i in (-1, 0, 1):
            for k in (-1, 0, 1):
                for x, y1, y2, other, m in places.get((column + i, row + k), ()):
                    if left < x < least:  # most are none, and this is asked for each letter nine times
                        taller, lower = (high, other) if high > other else (other, high)
                        if (
                            taller <= LIKE_HEIGHT * lower
                            and -lower / 3 <= x - right <= GAP * taller
                            and (y2 if y2 < bottom else bottom) - (y1 if y1 > top else top) > lower / 2
                        ):
                            after[n], least = m, x
    return after


def _is_text(line: Sequence[_Letter], mask: Mask, least: _Demand) -> bool:
    if not least.is_met_by(line, mask):
        return False
    feet = sorted(letter.bottom for letter in line)
    usual = feet[len(feet) // 2]
    high = sorted(letter.height for letter in line)[len(line) // 2]
    return sum(abs(foot - usual) <= LEVEL * high for foot in feet) >= 0.7 * len(feet)


def _is_short(line: Sequence[_Letter]) -> bool:
    """Whether these are three unlike letters whose feet are level: EUR, VAT."""
    feet = [letter.bottom for letter in line]
    return (
        len(line) == 3
        and len({letter.kind for letter in line}) == 3
        and sum(not letter.is_solid for letter in line) >= 2
        and max(feet) - min(feet) <= max(1, SHORT_LEVEL * max(letter.height for letter in line))
    )


class _LevelText:
    """The characters of the page's text, beside which a letter or two may be drawn."""

    def __init__(self, characters: Callable[[], LevelText], corner: tuple[int, int]) -> None:
        """`corner`: left and top of the part of the page in which letters are looked for, pixels."""
        self._given = characters
        self._corner = corner

    @cached_property
    def _by_base(self) -> tuple[LevelText, Ints, float]:
        """The characters from top to bottom, their numbers, and how far from a baseline feet may be at most."""
        left, top = self._corner
        characters = self._given() - np.array([left, top, left, 0])
        order = np.argsort(characters[:, 1], kind="stable")
        largest = characters[:, 3].max(initial=0.0)
        return characters[order], order, max(BASE_EM * float(largest), BASE_PX)

    def near(self, line: Sequence[_Letter], mask: Mask) -> int:
        """The number of the character beside which up to three unlike letters stand on its line; -1: there is none."""
        if len(line) > 3 or all(each.is_solid for each in line):
            return -1
        if len({letter.kind for letter in line}) < len(line) and _unlike(line, mask) < len(line):
            return -1
        left, top, right, bottom = _around(line)
        characters, order, reach = self._by_base
        first, stop = np.searchsorted(characters[:, 1], (bottom - reach, bottom + reach))
        begin, base, end, size = characters[first:stop].T
        high = (bottom - top) / size
        feet = np.abs(bottom - base) <= np.maximum(BASE_EM * size, BASE_PX)
        on_line = feet & (high >= HIGH_EM[0]) & (high <= HIGH_EM[1])
        behind, before = (left - end) / size, (begin - right) / size
        near = WITHIN_EM if len(line) == 1 else BESIDE_EM[1]
        is_behind = on_line & (behind >= BESIDE_EM[0]) & (behind <= near)
        is_before = on_line & (before >= BESIDE_EM[0]) & (before <= near)
        if len(line) == 1 and not (is_behind.any() and is_before.any()):
            return -1
        either = is_behind | is_before
        return int(order[first + either.argmax()]) if either.any() else -1


def _unlike(letters: Sequence[_Letter], mask: Mask) -> int:
    """How many letters are unlike each other, by samples of their shapes: strokes of plotters make all as wide."""
    kinds: list[Floats] = []
    for letter in letters:
        left, top, right, bottom = letter.box
        rows = np.linspace(top, bottom, GRID[0] + 1).astype(int)
        columns = np.linspace(left, right, GRID[1] + 1).astype(int)
        window = mask[top:bottom, left:right].astype(np.float32)
        if window.shape[0] < GRID[0] or window.shape[1] < GRID[1]:
            continue
        sums = np.add.reduceat(np.add.reduceat(window, rows[:-1] - top, axis=0), columns[:-1] - left, axis=1)
        shape = sums / np.outer(np.diff(rows), np.diff(columns))
        if all(np.abs(shape - other).mean() > UNLIKE for other in kinds):
            kinds.append(shape)
    return len(kinds)

"""Regions of text on a page image, and the reading of a page that they make, for the engines that read lines.

Lengths are pixels of the page image, angles are degrees clockwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedMode
from ..layout.gutters import split_at_gutters
from ..layout.lines import Box, Frame, Quad, TextLine, WordPlace, cut, edge_of
from ..layout.reading import PIECE, WORD, Reading, Section, part_of_quad
from ..layout.ticks import with_ticks
from . import KNOWN
from .base import PageImage
from .rules import find_drawn

__all__ = [
    "INK_SHARE",
    "LONG",
    "MIN_SIDE",
    "POLL_S",
    "Pixels",
    "Region",
    "Sheet",
    "column_contrast",
    "crop_region",
    "inset",
    "lay_out_lines",
    "outline",
    "refuse_other_modes",
    "slice_region",
]


Pixels = NDArray[np.uint8]
POLL_S: Final = 0.1  # how often a waiting call asks whether it is cancelled
MIN_SIDE: Final = 3  # pixels at detection scale; less is a speck
TALL: Final = 1.5  # height over width of a region whose text runs downwards
MARGIN: Final = 0.17  # of a region's height: what detection adds around the ink on each side
STRAIGHT_DEG: Final = 0.5  # tilt that a crop along the axes still forgives

# Where the ink of a word is. Measured against the boxes of the glyphs of 546 words, on two born-digital pages at 200
# dpi: the median overlap is .93, and 99.8 % of the words have .8 or more. Too wide, and a word takes ink of its
# neighbours; too narrow, and it loses letters at its ends.
WORD_ROOM: Final = 1.2  # times the height of a line: where the ink of its words may be; more takes in other lines
SNAP: Final = 0.3  # of a line's height: how far the end of a word may be from where it was placed
INK_SHARE: Final = 0.4  # of the strongest contrast in a word: a column of pixels with that much is ink
EDGE_INK: Final = 0.25  # the same at the edge of a word, where pixels are half white

LONG: Final = 3.0  # a region longer than so many times its thickness holds several letters, and shows how a page lies


@dataclass(frozen=True, slots=True)
class Region:
    """A place where text was detected: a rectangle turned by `angle` degrees, at most 45 either way."""

    x: float
    y: float
    width: float
    height: float
    angle: float

    @property
    def tall(self) -> bool:
        return self.height >= TALL * self.width

    @property
    def length(self) -> float:
        return max(self.width, self.height)

    @property
    def thickness(self) -> float:
        return min(self.width, self.height)

    def thicker(self, times: float) -> Region:
        """The same region, `times` as thick across its line."""
        return replace(self, width=times * self.width) if self.tall else replace(self, height=times * self.height)

    def turned(self, quarters: int, width: float, height: float) -> Region:
        """Where this is after `np.rot90(page, quarters)` of a page of that size.

        Args:
            quarters: quarter turns against the clock.
            width: of the page before the turn, pixels.
            height: of the page before the turn, pixels.
        """
        x, y = _turned(self.x, self.y, quarters, (width, height))
        if quarters % 2:
            return replace(self, x=x, y=y, width=self.height, height=self.width)
        return replace(self, x=x, y=y)


def _turned(x: float, y: float, quarters: int, size: tuple[float, float]) -> tuple[float, float]:
    """Where a point is after `np.rot90(page, quarters)` of a page of that width and height."""
    width, height = size
    match quarters:
        case 1:
            return y, width - x
        case 2:
            return width - x, height - y
        case 3:
            return height - y, x
    return x, y


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page that has been read: its upright pixels, its lines, and where the ink of each line is."""

    page: PageImage
    upright: Pixels
    quarters: int
    lines: list[TextLine]
    inks: list[Region]
    rules: tuple[Box, ...] = ()
    """The boxes of the rules that are drawn on the page, in the frame of the lines."""

    tilt: float = 0.0
    """Degrees by which its lines go down to the right."""
    remark: str = ""
    """A sentence for the caller: what could not be read, and what to do about it."""

    def reading(self) -> Reading:
        """The page as every answer is made of it: its lines, arranged, and the places of lines and words."""
        lines = [self._placed(line, ink) for line, ink in zip(self.lines, self.inks, strict=True)]
        return Reading(
            self.page.width,
            self.page.height,
            (Section.of(lines, self.rules),) if lines else (),
            self.quarters,
            round(self.tilt, 2),
            self.remark,
        )

    def _placed(self, line: TextLine, ink: Region) -> TextLine:
        """The line with its place and those of its words, in pixels of the page as it was given."""
        quad = _corners(ink, downwards=_runs_down(line, ink))
        words = line.words or _words_in_ink(self.upright, line, ink)
        on_page = tuple(word._replace(quad=self._on_page(word.quad)) for word in words)
        return replace(line, quad=self._on_page(quad), words=on_page)

    def _on_page(self, quad: Quad) -> Quad:
        """The corners of a place on the upright page, on the page as it was given."""
        height, width = self.upright.shape[:2]
        scale = max(self.page.width, self.page.height) / max(width, height)
        x1, y1, x2, y2, x3, y3, x4, y4 = quad

        def at(x: float, y: float) -> tuple[float, float]:
            x, y = _turned(x, y, -self.quarters % 4, (width, height))
            return x * scale, y * scale

        return (*at(x1, y1), *at(x2, y2), *at(x3, y3), *at(x4, y4))


def refuse_other_modes(engine: str, mode: str) -> None:
    """Refuse a mode that this engine of lines does not have.

    Raises:
        UnsupportedMode: the mode needs a model that understands pictures or questions.
    """
    if mode not in (able := KNOWN[engine].modes):
        raise UnsupportedMode(
            f"The {engine} engine cannot do mode {mode!r}: it reads text and nothing else.",
            remedy=f"Set OCR_ENGINE=deepseek for it, or use one of {', '.join(sorted(able))}.",
        )


def lay_out_lines(
    upright: Pixels, lines: Sequence[TextLine], inks: Sequence[Region], tilt: float
) -> tuple[list[TextLine], list[Region], tuple[Box, ...]]:
    """The lines with the boxes to tick that are drawn at them, cut at gutters and rules; their ink; the rules.

    Args:
        upright: the page as its text is read.
        lines: as they would stand if the page were not tilted; `inks` are where they stand.
        tilt: degrees by which the lines go down to the right.
    """
    height, width = upright.shape[:2]
    drawn = find_drawn(upright, tilt, Frame.of(lines).em)
    marked = with_ticks(lines, drawn.ticks)
    inks = [
        ink if line is before else _where_it_stands(line.box, tilt, width, height)
        for line, before, ink in zip(marked, lines, inks, strict=False)
    ] + [_where_it_stands(line.box, tilt, width, height) for line in marked[len(lines) :]]
    pieces = split_at_gutters(marked, drawn.rules)
    return (
        [cut(marked[piece.line], piece) for piece in pieces],
        [slice_region(inks[piece.line], piece.begin, piece.end) for piece in pieces],
        drawn.rules,
    )


def _where_it_stands(box: Box, tilt: float, width: int, height: int) -> Region:
    """A box of the straightened page as a region of the page as it lies."""
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    dx, dy = (box[0] + box[2] - width) / 2, (box[1] + box[3] - height) / 2
    x, y = width / 2 + dx * cos - dy * sin, height / 2 + dx * sin + dy * cos
    return Region(x, y, box[2] - box[0], box[3] - box[1], tilt)


def crop_region(pixels: Pixels, region: Region, *, tall: bool | None = None) -> Pixels:
    """The region's pixels, turned so that its text runs to the right. At least one pixel each way.

    Args:
        pixels: the page.
        region: the region, in pixels of the page.
        tall: whether its text runs downwards; None: as the region says.
    """
    x1, y1, x2, y2 = _pixel_bounds(region, pixels)
    crop: Pixels = np.ascontiguousarray(pixels[y1:y2, x1:x2])
    if abs(region.angle) >= STRAIGHT_DEG:
        size = (max(1, round(region.width)), max(1, round(region.height)))
        turn = cv2.getRotationMatrix2D((region.x - x1, region.y - y1), region.angle, 1)
        turn[:, 2] += (size[0] / 2 - (region.x - x1), size[1] / 2 - (region.y - y1))
        crop = cv2.warpAffine(crop, turn, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    downwards = region.tall if tall is None else tall
    return np.ascontiguousarray(np.rot90(crop)) if downwards else crop


def _pixel_bounds(region: Region, pixels: Pixels) -> tuple[int, int, int, int]:
    """The whole pixels that a region reaches: at least one each way, and within the page."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = outline(region)
    x1, y1 = min(max(0, math.floor(left)), width - 1), min(max(0, math.floor(top)), height - 1)
    return x1, y1, max(x1 + 1, min(width, math.ceil(right))), max(y1 + 1, min(height, math.ceil(bottom)))


def column_contrast(pixels: Pixels) -> NDArray[np.uint8]:
    """The difference between the brightest and the darkest pixel of each column, in its strongest colour channel."""
    contrast: NDArray[np.uint8] = (pixels.max(axis=0) - pixels.min(axis=0)).max(axis=1)
    return contrast


def outline(region: Region) -> tuple[float, float, float, float]:
    """The upright rectangle around the region; one that is hardly tilted keeps its own size."""
    w, h = region.width, region.height
    if abs(region.angle) >= STRAIGHT_DEG:
        cos, sin = abs(math.cos(math.radians(region.angle))), abs(math.sin(math.radians(region.angle)))
        w, h = w * cos + h * sin, w * sin + h * cos
    return region.x - w / 2, region.y - h / 2, region.x + w / 2, region.y + h / 2


def inset(region: Region) -> Region:
    """The region without the margin that detection adds: the ink."""
    margin = 2 * MARGIN * region.thickness
    return replace(region, width=region.width - margin, height=region.height - margin)


def slice_region(region: Region, begin: float, end: float) -> Region:
    """The part of a region between two fractions of its length.

    Args:
        region: the region.
        begin: fraction of the length, from 0; less than 0 lies before the region.
        end: fraction of the length, to 1; more than 1 lies behind the region.
    """
    shift, length = ((begin + end) / 2 - 0.5) * region.length, max(1.0, (end - begin) * region.length)
    cos, sin = math.cos(math.radians(region.angle)), math.sin(math.radians(region.angle))
    if region.tall:
        return replace(region, x=region.x - shift * sin, y=region.y + shift * cos, height=length)
    return replace(region, x=region.x + shift * cos, y=region.y + shift * sin, width=length)


def _runs_down(line: TextLine, ink: Region) -> bool:
    """Whether the text of a region runs downwards. A single narrow character stands upright in a tall region."""
    return line.vertical and ink.tall and len(line.text.strip()) > 1


def _corners(region: Region, *, downwards: bool) -> Quad:
    """The corners of a region: top left, top right, bottom right, bottom left of its text held upright."""
    level = abs(region.angle) < STRAIGHT_DEG
    turn = 0.0 if level else math.radians(region.angle)
    along = (math.cos(turn) * region.width / 2, math.sin(turn) * region.width / 2)
    down = (-math.sin(turn) * region.height / 2, math.cos(turn) * region.height / 2)
    x, y = region.x, region.y
    top_left = (x - along[0] - down[0], y - along[1] - down[1])
    top_right = (x + along[0] - down[0], y + along[1] - down[1])
    bottom_right = (x + along[0] + down[0], y + along[1] + down[1])
    bottom_left = (x - along[0] + down[0], y - along[1] + down[1])
    if downwards:
        return (*top_right, *bottom_right, *bottom_left, *top_left)
    return (*top_left, *top_right, *bottom_right, *bottom_left)


def _words_in_ink(upright: Pixels, line: TextLine, ink: Region) -> tuple[WordPlace, ...]:
    """The pieces of the words of a line, each drawn in to its ink.

    The recogniser places a character to a quarter of a line's height. So a cut between two words, or between two pieces
    of a word, moves to the nearest column without ink, as long as each side keeps some ink.
    """
    downwards = _runs_down(line, ink)
    if ink.tall != downwards:  # one or two characters in a region that is no longer than it is high
        corners, spans = _corners(ink, downwards=downwards), [match.span() for match in PIECE.finditer(line.text)]
        return tuple(WordPlace(*s, part_of_quad(corners, edge_of(line, s[0]), edge_of(line, s[1]))) for s in spans)
    reach = SNAP * ink.thickness / ink.length
    roomy = _in_whole_pixels(slice_region(ink, -reach, 1 + reach).thicker(WORD_ROOM), upright)
    crop = crop_region(upright, roomy, tall=downwards)
    height, width = crop.shape[:2]
    contrast = column_contrast(crop)
    place = _corners(roomy, downwards=downwards)
    length, begins = _place_in_crop(ink, roomy, width, reach, downwards=downwards)

    def cuts(spans: Sequence[tuple[int, int]], first: int, last: int) -> list[int]:
        due = [begins + length * (edge_of(line, a[1]) + edge_of(line, b[0])) / 2 for a, b in pairwise(spans)]
        return [first, *(_nearest_white(contrast, at, round(reach * length), (first, last)) for at in due), last]

    words = [match.span() for match in WORD.finditer(line.text)]
    places = []
    for word, (first, last) in zip(words, pairwise(cuts(words, 0, width)), strict=True):
        pieces = [match.span() for match in PIECE.finditer(line.text, *word)]
        inner = cuts(pieces, *_inked_columns(contrast, first, max(last, first + 1)))
        paper = np.median(crop[:, first : max(last, first + 1)], axis=(0, 1))
        for piece, (begin, end) in zip(pieces, pairwise(inner), strict=True):
            left, right = _inked_columns(contrast, begin, max(end, begin + 1))
            top, bottom = _inked_rows(crop[:, left:right], paper)
            part = part_of_quad(place, left / width, right / width, top / height, bottom / height)
            places.append(WordPlace(*piece, part))
    return tuple(places)


def _place_in_crop(ink: Region, roomy: Region, width: int, reach: float, *, downwards: bool) -> tuple[float, float]:
    """The length of a line in the crop of the region around it, and where it begins there, in pixels."""
    if abs(roomy.angle) >= STRAIGHT_DEG:
        length = width / (1 + 2 * reach)
        return length, reach * length
    if downwards:
        return ink.height, ink.y - ink.height / 2 - (roomy.y - roomy.height / 2)
    return ink.width, ink.x - ink.width / 2 - (roomy.x - roomy.width / 2)


def _in_whole_pixels(region: Region, pixels: Pixels) -> Region:
    """The region as its crop shows it: one that is not tilted goes from pixel to pixel, within the page."""
    if abs(region.angle) >= STRAIGHT_DEG:
        return region
    x1, y1, x2, y2 = _pixel_bounds(region, pixels)
    return Region((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, 0.0)


def _nearest_white(contrast: NDArray[np.uint8], due: float, reach: int, within: tuple[int, int]) -> int:
    """The column without ink that is nearest to where a word ends; where letters touch, the one with least ink.

    Args:
        due: the column where the recogniser places the end.
        reach: columns that the end may be away from there.
        within: the first column and the last (plus one) of both sides: each side keeps a column.
    """
    least, most = within[0] + 1, max(within[0] + 2, within[1])
    at = min(max(least, round(due)), most - 1)
    first, last = max(least, at - max(1, reach)), min(most, at + max(1, reach) + 1)
    around = contrast[max(0, at - 4 * reach) : at + 4 * reach + 1]
    part = contrast[first:last]
    away = np.abs(np.arange(first, last) - due) / max(1, last - first)
    inked = part > INK_SHARE * around.max(initial=0)
    return first + int((inked + away).argmin() if not inked.all() else part.argmin())


def _inked_columns(contrast: NDArray[np.uint8], first: int, last: int) -> tuple[int, int]:
    """The first and the last column (plus one) of the ink between two columns; both where there is none."""
    part = contrast[first:last]
    inked = np.flatnonzero(part > EDGE_INK * part.max(initial=0))
    return (first + int(inked[0]), first + int(inked[-1]) + 1) if len(inked) else (first, last)


def _inked_rows(crop: Pixels, paper: NDArray[np.float64]) -> tuple[int, int]:
    """The first and the last row (plus one) of the ink in a crop; all rows where there is none.

    Args:
        paper: the colour around the ink. A crop of the letter I has more ink than paper.
    """
    away = np.abs(crop.astype(np.int16) - paper.astype(np.int16)).max(axis=(1, 2))
    if not away.any():
        return 0, len(crop)
    inked = np.flatnonzero(away > EDGE_INK * away.max())
    return int(inked[0]), int(inked[-1]) + 1

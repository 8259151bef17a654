"""The geometry of regions of text on a page image, shared by the engines that read lines.

Lengths are pixels of the page image, angles are degrees clockwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedMode
from ..layout.find import find_term
from ..layout.grids import arrange_with_rules
from ..layout.gutters import split_at_gutters
from ..layout.lines import Box, Element, Frame, TextLine, cut
from ..layout.ticks import with_ticks
from ..layout.writing import rows_around, to_markdown, to_text
from . import KNOWN
from .base import PageImage, PageText, TextBlock
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

SNAP: Final = 0.3  # of a line's height: how far the end of a word may be from where it was placed
INK_SHARE: Final = 0.4  # of the strongest contrast in a word: a column of pixels with that much is ink

LONG: Final = 3.0  # times its thickness is a region long that holds several letters: it tells how a page lies


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
        """With so much more of what is above and below its line."""
        return replace(self, width=times * self.width) if self.tall else replace(self, height=times * self.height)

    def turned(self, quarters: int, width: float, height: float) -> Region:
        """Where this is after `np.rot90(page, quarters)` of a page of that size."""
        if quarters == 0:
            return self
        if quarters == 2:
            return replace(self, x=width - self.x, y=height - self.y)
        x, y = (self.y, width - self.x) if quarters == 1 else (height - self.y, self.x)
        return replace(self, x=x, y=y, width=self.height, height=self.width)


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

    def _elements(self) -> list[Element]:
        """The page in reading order; tables by their rules where it has any."""
        return arrange_with_rules(self.lines, self.rules)

    def written(self, mode: str) -> PageText:
        """The whole page, one block per line in reading order."""
        elements = self._elements()
        text = to_markdown(self.lines, elements) if mode == "document" else to_text(self.lines, elements)
        blocks = [
            self._block(element.kind if mode == "document" else "line", self.lines[i].text.strip(), i, self.inks[i])
            for element in elements
            for i in element.lines
        ]
        return PageText(text, tuple(blocks))

    def found(self, term: str) -> PageText:
        """One block for each part of a hit in a line; as text, the rows of the page that the hits stand in.

        Whole rows, because the amount that belongs to "Total" is a line of its own at the other edge.
        """
        elements = self._elements()
        hits = find_term(self.lines, term, [i for element in elements for i in element.lines])
        blocks = []
        for span in (span for hit in hits for span in hit.spans):
            ink = _drawn_in(self.upright, self.inks[span.line], span.begin, span.end)
            words = self.lines[span.line].text[span.start : span.stop]
            blocks.append(self._block(term, words, span.line, ink))
        around = rows_around(self.lines, elements, [[span.line for span in hit.spans] for hit in hits])
        return PageText(around, tuple(blocks))

    def _block(self, label: str, text: str, line: int, ink: Region) -> TextBlock:
        height, width = self.upright.shape[:2]
        box = _bounds(ink.turned(-self.quarters % 4, width, height), max(width, height), self.page)
        return TextBlock(label, text, box, round(self.lines[line].score, 3))


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
    """The region's pixels, turned so that its text runs to the right. At least one pixel each way."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = outline(region)
    x1, y1 = min(max(0, math.floor(left)), width - 1), min(max(0, math.floor(top)), height - 1)
    x2, y2 = max(x1 + 1, min(width, math.ceil(right))), max(y1 + 1, min(height, math.ceil(bottom)))
    crop: Pixels = np.ascontiguousarray(pixels[y1:y2, x1:x2])
    if abs(region.angle) >= STRAIGHT_DEG:
        size = (max(1, round(region.width)), max(1, round(region.height)))
        turn = cv2.getRotationMatrix2D((region.x - x1, region.y - y1), region.angle, 1)
        turn[:, 2] += (size[0] / 2 - (region.x - x1), size[1] / 2 - (region.y - y1))
        crop = cv2.warpAffine(crop, turn, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    downwards = region.tall if tall is None else tall
    return np.ascontiguousarray(np.rot90(crop)) if downwards else crop


def column_contrast(pixels: Pixels) -> NDArray[np.uint8]:
    """How far the pixels of each column are apart, in the colour that shows it best."""
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


def _bounds(region: Region, longest: int, page: PageImage) -> tuple[int, int, int, int]:
    """The region's box in whole pixels of the page, not empty and inside it.

    `longest` is the longest side of the picture that the region is in, in its pixels.
    """
    scale = max(page.width, page.height) / longest
    left, top, right, bottom = outline(region)
    x1 = min(max(0, round(left * scale)), page.width - 1)
    y1 = min(max(0, round(top * scale)), page.height - 1)
    return (
        x1,
        y1,
        max(x1 + 1, min(page.width, round(right * scale))),
        max(y1 + 1, min(page.height, round(bottom * scale))),
    )


def slice_region(region: Region, begin: float, end: float) -> Region:
    """The part of a region between two fractions of its length."""
    shift, length = ((begin + end) / 2 - 0.5) * region.length, max(1.0, (end - begin) * region.length)
    cos, sin = math.cos(math.radians(region.angle)), math.sin(math.radians(region.angle))
    if region.tall:
        return replace(region, x=region.x - shift * sin, y=region.y + shift * cos, height=length)
    return replace(region, x=region.x + shift * cos, y=region.y + shift * sin, width=length)


def _drawn_in(pixels: Pixels, ink: Region, begin: float, end: float) -> Region:
    """The part of a line between two fractions of its length, drawn in to the ink that is there.

    The fractions come from the recogniser, which places a character to a quarter of a line's
    height. Each end goes to the white nearest to it first, so that no letter is cut.
    """
    reach = SNAP * ink.thickness / ink.length
    first, last = begin - reach, end + reach
    contrast = column_contrast(crop_region(pixels, slice_region(ink, first, last), tall=ink.tall))
    if (count := len(contrast)) < 3 or not contrast.any():
        return slice_region(ink, max(0.0, begin), min(1.0, end))
    inked = contrast > INK_SHARE * contrast.max()
    window = max(1, round(2 * reach / (last - first) * count))  # `reach` to either side of the end
    away = np.abs(np.arange(window) - window / 2) / window
    left = int((inked[:window] + away).argmin())
    right = count - 1 - int((inked[::-1][:window] + away).argmin())
    inside = left + np.flatnonzero(inked[left : right + 1])
    if len(inside):
        left, right = int(inside[0]), int(inside[-1])
    step = (last - first) / count
    return slice_region(ink, first + left * step, first + (right + 1) * step)

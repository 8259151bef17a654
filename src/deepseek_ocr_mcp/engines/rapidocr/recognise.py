"""Reads one line of text with the PP-OCR recognition model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...layout.lines import TextLine
from ..sheet import Pixels, Region, column_contrast, inset, outline

__all__ = [
    "LINE_STRIDE",
    "NOTHING",
    "LineReading",
    "as_input",
    "inked_columns",
    "round_up",
    "straightened",
    "with_spaces",
]

LINE_STRIDE: Final = 8  # pixels of a line per step of the output
LINE_EDGE: Final = 6  # pixels above and below in which there may be ink of other lines
LINE_MARGIN: Final = 3  # pixels of white that are kept at the ends of a line; 2 lose a character in a thousand
DROPPED_STOP: Final = 1.9  # times the usual advance after a full stop or comma: there was a space
DROPPED_SENTENCE: Final = 1.25  # the same where a capital follows a small letter and a stop
DROPPED_SPACE: Final = 3.2  # the same between letters, where m and w are wide themselves
CJK_FROM: Final = "\u2e80"  # scripts from here on are written without spaces
FAINT_INK: Final = 0.25  # of the same: a column with less is white


@dataclass(frozen=True, slots=True)
class LineReading:
    """What the recogniser made of one crop. `centres` are fractions of the crop's length."""

    text: str
    score: float
    centres: tuple[float, ...]


NOTHING: Final = LineReading("", 0.0, ())


def with_spaces(chars: list[str], steps: list[float]) -> tuple[list[str], list[float]]:
    """The characters and their steps, with the spaces that the model dropped where it left room for one."""
    gaps = [b - a for n, (a, b) in enumerate(pairwise(steps)) if not chars[n].isspace() and not chars[n + 1].isspace()]
    pitch = statistics.median(gaps) if gaps else 0
    text, places = chars[:1], steps[:1]
    for n, (a, b) in enumerate(pairwise(steps), start=1):
        before, char = chars[n - 1], chars[n]
        if before not in ".,;:!?":
            needs = DROPPED_SPACE if before.isalpha() else math.inf
        elif char.isupper() and n > 1 and chars[n - 2].islower():
            needs = DROPPED_SENTENCE
        else:
            needs = DROPPED_STOP
        if char.isalpha() and max(before, char) < CJK_FROM and b - a >= needs * pitch > 0:
            text.append(" ")
            places.append((a + b) / 2)
        text.append(char)
        places.append(b)
    return text, places


def round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def as_input(pixels: Pixels, width: int) -> NDArray[np.float32]:
    """RGB pixels as both models want them: `1 * 3 * height * width`, BGR, -1 to 1, zeros on the right."""
    tensor = np.zeros((1, 3, pixels.shape[0], width), np.float32)
    inside = tensor[0, :, :, : pixels.shape[1]]
    np.multiply(pixels[:, :, ::-1].transpose(2, 0, 1), np.float32(1 / 127.5), out=inside)
    inside -= 1
    return tensor


def inked_columns(line: Pixels) -> tuple[int, int]:
    """The first and the last column (plus one) of a line that the model has to see: whole steps, where there is room.

    Rows at the edges do not count: neighbouring lines reach into them.
    """
    contrast = column_contrast(line[LINE_EDGE:-LINE_EDGE])
    inked = np.flatnonzero(contrast > FAINT_INK * contrast.max())
    if not len(inked):
        return 0, len(contrast)
    begin, end = int(inked[0]) - LINE_MARGIN, int(inked[-1]) + 1 + LINE_MARGIN
    begin -= -(end - begin) % LINE_STRIDE // 2
    end += -(end - begin) % LINE_STRIDE
    return max(0, begin), min(len(contrast), end)


def straightened(
    regions: Sequence[Region], readings: Sequence[LineReading], tilt: float, width: int, height: int
) -> list[TextLine]:
    """The lines as they would stand on a page that is not tilted."""
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    lines = []
    for region, reading in zip(regions, readings, strict=True):
        dx, dy = region.x - width / 2, region.y - height / 2
        x, y = width / 2 + dx * cos + dy * sin, height / 2 - dx * sin + dy * cos
        ink = inset(region)
        share = region.length / ink.length
        centres = tuple(min(1.0, max(0.0, 0.5 + (centre - 0.5) * share)) for centre in reading.centres)
        box = outline(replace(ink, x=x, y=y, angle=region.angle - tilt))
        lines.append(TextLine(reading.text, box, reading.score, centres, region.tall))
    return lines

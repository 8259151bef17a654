"""Reads one line of text with the PP-OCR recognition model.

The model sees a line as 48 rows of pixels and gives one answer for each 8 columns. Two equal characters side by side
need three answers, or one of them is lost: `107,713` becomes `107,73`. So a crop is cut to its ink before it is
enlarged to 48 rows. Then small type in a loose box becomes as large as type in a tight box.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ...layout.lines import TextLine
from ..sheet import LONG, Pixels, Region, crop_region, inset, outline
from .heights import may_be_small, with_small_letters
from .ink import LINE_EDGE, ink_of, line_contrast, runs_of, strokes_of
from .models import SpareModel
from .raised import with_raised_figures
from .run import ModelRun
from .spaces import Strokes, read_litres, spaces_beside_digits

__all__ = [
    "LEADER_DOTS",
    "LINE_HEIGHT",
    "NOTHING",
    "LineReader",
    "LineReading",
    "are_flat",
    "as_input",
    "as_pixels",
    "find_leaders",
    "inked_columns",
    "inked_rows",
    "straightened",
    "with_spaces",
]

LINE_HEIGHT: Final = 48  # pixels, fixed by the model
LINE_STRIDE: Final = 8  # pixels of a line for each answer of the model, fixed by the model
MAX_LINE_WIDTH: Final = 4800  # pixels; a longer line is squeezed, because memory follows the longest
GREY: Final = 127  # of 255: the middle, which is 0 in float
SURE_SCORE: Final = 0.9
"""A line that the integer model reads with less is read again by the float model.

Tuned on the shared corpus: 4 lines in 100 there, on worn and faint print. Most lines that the two models read
differently are among them. Each such line takes three times as long.
"""
MIN_SCORE: Final = 0.5  # below it a reading is noise (rapidocr: text_score)

LINE_MARGIN: Final = 8
"""Pixels of white that are kept at the ends of a line.

Tuned on 2,396 drawn numbers of 14 to 24 pixels in eight typefaces, cropped without `INK_ROOM`: 3 pixels lost digits
in 325 of them, 8 in 145, 16 in 138. Each pixel more costs half a percent of the columns that the model reads.
"""
ROOM: Final = 1.12
"""Times its thickness is a region cropped.

Tuned on the shared corpus: from 1.15 on, worn print is read worse; 1.0 costs a tenth more columns.
"""
INK_ROOM: Final = 1.5
"""Times the height of its ink is a line cropped at most.

Tuned on the same numbers: 2.5 loses digits in 8 of 1,198 numbers, 1.8 and 1.5 in none; a comma is taken for a full
stop in 82 of them at 1.8, in 50 at 1.5, in 17 at 1.3. Smaller costs columns: 1.5 costs the shared corpus 2 %.
"""
RULE_FROM: Final = 0.95  # of a crop's length: a row of pixels with that much ink is a rule
FLAT_INK: Final = 0.15  # of a crop's height: less ink is a dash, dots or a speck, and tells no size of type
SOLID_INK: Final = 0.8  # of the box around it is ink: a dash; letters fill half of theirs
STROKE_GAP: Final = 0.1  # of a crop's height: white between a letter and its accent, less than between two lines
LOST_INK: Final = 0.35  # of the strongest contrast in a line: letters that touch come apart, faint ones still count
LOST_REACH: Final = 7  # pixels of a line: how far from its ink the model may place a character
LEADER: Final = "…"  # stands for a row of dots
LEADER_DOTS: Final = 8  # at least; an ellipsis has three, a line for a signature is one stroke
DOT_WIDTH: Final = 12  # pixels of a line that a dot is wide at most: three of small type run into each other
LEADER_STEP: Final = 2.5  # times the usual step is the widest between two dots: scans lose one
LOST_SHARE: Final = 0.05  # of a line's ink; where less has no character, nobody asks whether it is dots
LEAST_CONTRAST: Final = 24  # of 255; a line with less holds no ink

DROPPED_STOP: Final = 1.9  # times the usual advance after a full stop or comma: there was a space
DROPPED_SENTENCE: Final = 1.25  # the same where a capital follows a small letter and a stop
DROPPED_SPACE: Final = 3.2  # the same between letters, where m and w are wide themselves
FULL_WIDTH_FROM: Final = "\uff00"
HALF_WIDTH: Final = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
CJK_FROM: Final = "\u2e80"  # scripts from here on are written without spaces


@dataclass(frozen=True, slots=True)
class LineReading:
    """What the recogniser made of one crop.

    `centres` are fractions of the crop's length, one for each character. `unread` is the share of the crop's ink
    from which no character was read: 0 in readable text, more than a fifth in a script that the model does not know.
    `gap` is the longest stretch of such ink, in heights of the line.
    """

    text: str
    score: float
    centres: tuple[float, ...]
    unread: float = 0.0
    gap: float = 0.0

    @property
    def is_noise(self) -> bool:
        """Whether this is no text to give to anybody."""
        return self.score < MIN_SCORE or not self.text.strip()


NOTHING: Final = LineReading("", 0.0, ())


@dataclass(frozen=True, slots=True)
class _Characters:
    """What a model found in a line: the steps that hold characters, and each one's code and probability."""

    at: NDArray[np.floating[Any]]
    codes: NDArray[np.intp]
    likely: NDArray[np.float32]

    @property
    def score(self) -> float:
        """The mean probability; 0 where there is no character."""
        return float(self.likely.mean()) if len(self.at) else 0.0

    def moved(self, steps: float) -> _Characters:
        """The same, so many steps further to the right."""
        return replace(self, at=self.at + steps)

    @classmethod
    def joined(cls, parts: Sequence[_Characters]) -> _Characters:
        """Several parts of a line as one."""
        if not parts:
            return cls(np.zeros(0), np.zeros(0, np.intp), np.zeros(0, np.float32))
        at, codes, likely = zip(*((part.at, part.codes, part.likely) for part in parts), strict=True)
        return cls(np.concatenate(at), np.concatenate(codes), np.concatenate(likely))


class LineReader:
    """The recognition model and its alphabet. Holds nothing of any page, so threads may share it.

    Args:
        session: of the float model, or of the integer one.
        exact: the float model, which reads again the lines that the integer model is unsure of.
    """

    def __init__(self, session: Any, exact: SpareModel | None = None) -> None:
        self._session = session
        self._exact = exact
        self._alphabet = ["", *session.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]

    def read_region(self, run: ModelRun, pixels: Pixels, region: Region) -> LineReading:
        """The line in a region of a page.

        A short upright region may as well be one narrow character, such as 1: the better reading counts.

        Args:
            run: runs the model.
            pixels: the page.
            region: the region, in pixels of the page.
        """
        roomy = region.thicker(ROOM)
        reading = self.read_crop(run, crop_region(pixels, roomy, tall=region.tall))
        if region.tall and region.length < LONG * region.thickness:
            standing = self.read_crop(run, crop_region(pixels, roomy, tall=False))
            reading = max(reading, standing, key=lambda r: r.score)
        return reading

    def read_crop(self, run: ModelRun, crop: Pixels) -> LineReading:
        """The line in a crop whose text runs to the right.

        Greedy CTC: the best character of each step, repetitions and blanks (0) dropped.
        """
        crop = _without_room(crop)
        height, width = crop.shape[:2]
        wide = min(MAX_LINE_WIDTH, max(LINE_STRIDE, math.ceil(LINE_HEIGHT * width / height)))
        way = cv2.INTER_AREA if height > 2 * LINE_HEIGHT else cv2.INTER_LINEAR
        line = cv2.resize(crop, (wide, LINE_HEIGHT), interpolation=way)
        begin, end = inked_columns(line)
        found = self._read_pieces(run, line, begin, end)
        read = [self._alphabet[code] for code in found.codes]
        printed = np.array([not char.isspace() for char in read], dtype=bool)
        unread, gap = _unread_ink(line, begin + (found.at[printed] + 0.5) * LINE_STRIDE)
        if not any(char not in f"{LEADER} " for char in read):  # a leader alone is no text
            return replace(NOTHING, unread=unread, gap=gap)
        read, dropped = _as_inked(line, read, begin + (found.at + 0.5) * LINE_STRIDE)
        chars, places = with_spaces(read, [float(step) for step in found.at], dropped)
        centres = tuple(min(1.0, (begin + (step + 0.5) * LINE_STRIDE) / wide) for step in places)
        text = "".join(chars)
        if text.endswith(f"{LEADER} "):
            text, centres = text[:-1], centres[:-1]
        return LineReading(_half_width(text), found.score, centres, unread, gap)

    def _read_pieces(self, run: ModelRun, line: Pixels, begin: int, end: int) -> _Characters:
        """What is read in these columns of a line: the parts between leaders, and an ellipsis for each leader."""
        parts: list[_Characters] = []
        leaders = find_leaders(line[:, begin:end])
        for (_, left), (right, following) in pairwise([(0, 0), *leaders, (end - begin, 0)]):
            if right - left >= LINE_STRIDE:
                parts.append(self._read_piece(run, line[:, begin + left : begin + right]).moved(left / LINE_STRIDE))
            if following:
                parts.append(self._leader((right + following) / 2 / LINE_STRIDE))
        return parts[0] if len(parts) == 1 else _Characters.joined(parts)

    def _read_piece(self, run: ModelRun, piece: Pixels) -> _Characters:
        found = _characters(run, self._session, piece)
        if self._exact is not None and found.score < SURE_SCORE:
            found = _characters(run, self._exact.session(), piece)
        return found

    def _leader(self, middle: float) -> _Characters:
        """An ellipsis between two spaces, at this step."""
        space, dots = len(self._alphabet) - 1, self._alphabet.index(LEADER)
        return _Characters(
            np.array([middle - 1, middle, middle + 1]), np.array([space, dots, space]), np.ones(3, np.float32)
        )


def _characters(run: ModelRun, session: Any, line: Pixels) -> _Characters:
    """What a model reads in a line. The integer model gives logarithms of probabilities, up to a constant each step."""
    in_integers = session.get_inputs()[0].type == "tensor(uint8)"
    width = -(-line.shape[1] // LINE_STRIDE) * LINE_STRIDE
    steps = run.model(session, (as_pixels if in_integers else as_input)(line, width))[0]
    best = steps.argmax(axis=1)
    kept = best != 0
    kept[1:] &= best[1:] != best[:-1]
    at = np.flatnonzero(kept)
    likely = steps[at, best[at]]
    if in_integers:
        likely = 1 / np.exp(steps[at] - likely[:, None]).sum(axis=1)
    return _Characters(at.astype(np.float64), best[at], likely)


def _as_inked(line: Pixels, chars: list[str], places: NDArray[np.floating[Any]]) -> tuple[list[str], frozenset[int]]:
    """The characters of a line, and before which of them a space is there in ink.

    Looks at the strokes of lines with digits, and of lines with capitals that may be small letters.
    """
    with_digits, with_cases = any(char.isdecimal() for char in chars), may_be_small("".join(chars))
    if not (with_digits or with_cases):
        return chars, frozenset()
    strokes = Strokes.of(line, chars, places)
    if not len(strokes.columns):
        return chars, frozenset()
    if with_cases:
        chars = with_small_letters(chars, strokes)
    if not with_digits:
        return chars, frozenset()
    chars, dropped = read_litres(chars, strokes, spaces_beside_digits(chars, strokes))
    return with_raised_figures(chars, strokes, dropped), dropped


def _half_width(text: str) -> str:
    """A line without a letter of Chinese or Japanese has no full-width letters either: the model mixes both."""
    return text if any(CJK_FROM <= char < FULL_WIDTH_FROM for char in text) else text.translate(HALF_WIDTH)


def with_spaces(chars: list[str], steps: list[float], dropped: Collection[int] = ()) -> tuple[list[str], list[float]]:
    """The characters and their steps, with the spaces that the model dropped where it left room for one.

    Args:
        dropped: the numbers of the characters before which a space is there in ink.
    """
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
        leaves_room = char.isalpha() and max(before, char) < CJK_FROM and b - a >= needs * pitch > 0
        if n in dropped or leaves_room:
            text.append(" ")
            places.append((a + b) / 2)
        text.append(char)
        places.append(b)
    return text, places


def as_input(pixels: Pixels, width: int) -> NDArray[np.float32]:
    """RGB pixels as both models take them: `1 * 3 * height * width`, BGR, -1 to 1, zeros on the right."""
    tensor = np.zeros((1, 3, pixels.shape[0], width), np.float32)
    inside = tensor[0, :, :, : pixels.shape[1]]
    np.multiply(pixels[:, :, ::-1].transpose(2, 0, 1), np.float32(1 / 127.5), out=inside)
    inside -= 1
    return tensor


def as_pixels(pixels: Pixels, width: int) -> Pixels:
    """RGB pixels as the integer model takes them: `1 * height * width * 3`, grey on the right."""
    tensor = np.full((1, pixels.shape[0], width, 3), GREY, np.uint8)
    tensor[0, :, : pixels.shape[1]] = pixels
    return tensor


def inked_columns(line: Pixels) -> tuple[int, int]:
    """The first and the last column (plus one) of a line that the model has to see: whole steps, where there is room.

    Rows at the edges do not count: neighbouring lines reach into them.
    """
    strokes, width = strokes_of(line), line.shape[1]
    if not len(strokes):
        return 0, width
    begin, end = int(strokes[0, 0]) - LINE_MARGIN, int(strokes[-1, 1]) + LINE_MARGIN
    begin -= -(end - begin) % LINE_STRIDE // 2
    end += -(end - begin) % LINE_STRIDE
    return max(0, begin), min(width, end)


def find_leaders(line: Pixels) -> list[tuple[int, int]]:
    """Begin and end of each row of dots that leads from a text to a number: columns of the line.

    The model reads a line with a leader badly: it loses spaces and digits at both of its ends.
    """
    strokes = strokes_of(line)
    narrow = strokes[:, 1] - strokes[:, 0] <= DOT_WIDTH
    leaders = []
    for first, last in runs_of(narrow).tolist():
        if last - first < LEADER_DOTS:
            continue
        flat = are_flat(line, strokes[first:last])
        for begin, end in runs_of(flat).tolist():
            dots = strokes[first + begin : first + end]
            steps = np.diff(dots[:, 0])
            if len(dots) >= LEADER_DOTS and steps.max() <= LEADER_STEP * np.median(steps):
                leaders.append((int(dots[0, 0]), int(dots[-1, 1])))
    return leaders


def inked_rows(crop: Pixels) -> tuple[int, int]:
    """The first and the last row (plus one) of the ink of the line in a crop; the whole crop where there is no text.

    Rules and the ink of other lines do not count: of several groups of rows, the one with most ink near the middle
    does. Ink that is solid is a dash or the like: its height tells nothing about the size of the type.
    """
    ink = ink_of(crop)
    columns = ink.mean(axis=0) < RULE_FROM
    ink = ink[:, columns] if columns.any() else ink
    rows = ink.mean(axis=1)
    rows[rows >= RULE_FROM] = 0
    height = len(rows)
    groups: list[list[int]] = []
    for begin, end in runs_of(rows > 0).tolist():
        if groups and begin - groups[-1][1] <= STROKE_GAP * height:
            groups[-1][1] = end
        else:
            groups.append([begin, end])
    if not groups:
        return 0, height
    weight = rows * (1 - np.abs(2 * (np.arange(height) + 0.5) / height - 1))
    first, last = max(groups, key=lambda group: float(weight[group[0] : group[1]].sum()))
    inside = ink[first:last]
    inked = np.flatnonzero(inside.any(axis=0))
    if last - first < FLAT_INK * height or inside[:, inked[0] : inked[-1] + 1].mean() > SOLID_INK:
        return 0, height
    return first, last


def _without_room(crop: Pixels) -> Pixels:
    """The crop without the rows that are too far from the ink of its line."""
    begin, end = inked_rows(crop)
    spare = (INK_ROOM - 1) * (end - begin) / 2
    top, bottom = max(0, round(begin - spare)), min(len(crop), round(end + spare))
    return crop if (top, bottom) == (0, len(crop)) else np.ascontiguousarray(crop[top:bottom])


def _unread_ink(line: Pixels, places: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """The share of a line's ink that is not near a character, and its longest stretch in heights of the line.

    Args:
        places: the columns of the characters, in order. Spaces are none: the model takes foreign words for spaces.
    """
    contrast = line_contrast(line)
    if contrast.max() < LEAST_CONTRAST:
        return 0.0 if len(places) else 1.0, 0.0
    strokes = runs_of(contrast > LOST_INK * contrast.max())
    before = np.searchsorted(places, strokes[:, 0] - LOST_REACH)
    after = np.searchsorted(places, strokes[:, 1] + LOST_REACH, side="right")
    is_lost = before == after
    widths = strokes[:, 1] - strokes[:, 0]
    if widths[is_lost].sum() >= LOST_SHARE * widths.sum():
        is_lost[is_lost] = ~are_flat(line, strokes[is_lost])
    stretches = np.split(np.where(is_lost, widths, 0), np.flatnonzero(~is_lost))
    longest = max(int(stretch.sum()) for stretch in stretches)
    return float(widths[is_lost].sum() / widths.sum()), longest / LINE_HEIGHT


def are_flat(line: Pixels, strokes: NDArray[np.intp]) -> NDArray[np.bool_]:
    """For each stroke, given by its columns, whether it is too low for a letter: the dots of a leader, a rule."""
    ink = ink_of(line)[LINE_EDGE:-LINE_EDGE]
    heights = [np.flatnonzero(ink[:, a:b].any(axis=1)) for a, b in strokes.tolist()]
    return np.array([len(rows) == 0 or rows[-1] - rows[0] < FLAT_INK * LINE_HEIGHT for rows in heights], dtype=bool)


def straightened(
    regions: Sequence[Region], readings: Sequence[LineReading], tilt: float, width: int, height: int
) -> list[TextLine]:
    """The lines as they would stand on a page that is not tilted.

    Args:
        tilt: of the page, in degrees clockwise.
        width: of the page, in pixels, as its `height` is.
    """
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

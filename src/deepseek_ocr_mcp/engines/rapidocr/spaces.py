"""Spaces beside digits that the recogniser dropped: they are measured in the ink of the line.

The model reads `DE16 0414` as `DE160414` and `0.3 l` as `0.31`: another number, and nobody notices. White between two
characters tells a space, in heights of the digit beside it, whatever the size of the type.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from statistics import median
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..sheet import Pixels
from .ink import ink_of, strokes_of

__all__ = ["DASHES", "InkBox", "Strokes", "read_litres", "spaces_beside_digits"]

# Heights of the digit. Measured on 15,436 pairs of characters in eleven typefaces of 13 to 30 pixels, sharp and
# reduced: the widest white without a space, and the least with one, stand behind each. Most limits lie above both: a
# space that is not told leaves the reading of the model as it is, but a number that is cut is another number. With
# these, no number of 3,294 drawn words in twelve further typefaces is cut, also with letters 0.12 em apart; of codes
# such as X95 three come apart, in one typeface with such letters.
LETTER_GAP: Final = 0.33  # between a digit and a letter: 0.23, 0.23
LETTER_GAP_OF_1: Final = 0.42  # the same beside a 1, which is narrow in its place: 0.31, 0.32
DIGIT_GAP: Final = 0.42  # between two digits: 0.27, 0.29
DIGIT_GAP_BEFORE_1: Final = 0.5  # before a 1, which may be an l: 0.37, 0.35
DIGIT_GAP_BEHIND_1: Final = 0.55  # behind a 1: 0.38, 0.44
DIGIT_GAP_OF_11: Final = 0.62  # where both are: 0.44, 0.48
DASH_GAP: Final = 0.36  # between a digit and a dash: 0.25, 0.28; 0.43 in typewriter faces, where all gaps are wide
DASH_GAP_OF_1: Final = 0.45  # the same beside a 1: 0.39, 0.32
DASH_GAP_TOO: Final = 0.28  # the same where the white on the other side of the dash is a space: both are alike
SIGN_GAP: Final = 0.2  # how much more white is behind the sign of `No. 12` than before it: 0.17, 0.21
SIGN_GAP_OF_1: Final = 0.27  # 0.19, 0.31

DASHES: Final = frozenset("-–—−")
WIDER: Final = 2.2  # times the median of all gaps of its line: where most are wide, its characters stand apart
WIDEST: Final = 1.8  # times the widest white of its line: digits of typewriters stand apart
ALONE: Final = 0.4  # of a digit and a letter without other gaps in their line
ENOUGH: Final = 2  # other gaps of a line, at least, tell how its digits stand

SPECK: Final = 8  # pixels of ink: less is no character, but a full stop is more

BAR: Final = 0.255  # of its height is the width of an l that is a bar; a 1 has a flag: 0.35
NARROWER: Final = 1.4  # times the width of such an l is every other 1 of its line at least
AS_HIGH: Final = 0.95  # times the height of a digit is such an l at least
TALLER: Final = 1.07  # times the height of a digit is an l with feet
ONE_SPACE: Final = 1.2  # heights of a digit: more white is between columns
BAR_GAP: Final = 0.33
"""Heights of a digit are between a number and a bar behind it, at least, that is no 1 but an l.

Measured on numbers with and without litres in 24 typefaces of 13 to 28 pixels: a 1 is .26 of its height wide and more.
Of 1,789 litres 917 are told (most others have feet), and of 2,300 numbers two are taken for litres, in two typefaces.
"""
BAR_WIDER: Final = 1.2  # times the widest other white of its line


class InkBox(NamedTuple):
    """Where the ink of a character is, in pixels of its line."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


@dataclass(frozen=True)
class Strokes:
    """The strokes of a line, and the one in which each of its characters stands; -1 for a space."""

    line: Pixels
    columns: NDArray[np.intp]
    """`(strokes, 2)`: the first column of each and the last, plus one."""
    of_character: list[int]

    @classmethod
    def of(cls, line: Pixels, chars: Sequence[str], places: NDArray[np.floating[Any]]) -> Strokes:
        """The strokes of a line.

        Args:
            places: the columns of the characters, in order. The model errs by a few pixels: the nearest stroke counts.
        """
        columns = strokes_of(line)
        if not len(columns):  # a line of one colour
            return cls(line, columns, [-1] * len(chars))
        near = [
            -1 if char.isspace() else int(np.maximum(columns[:, 0] - at, at - columns[:, 1] + 1).clip(0).argmin())
            for char, at in zip(chars, places, strict=True)
        ]
        return cls(line, columns, near)

    @cached_property
    def _ink(self) -> NDArray[np.bool_]:
        """The pixels that are ink. Few lines have white that is wide enough to ask for the height of a digit."""
        return ink_of(self.line)

    def gap(self, n: int) -> int:
        """Columns of the widest white between a character and the one before it."""
        first, last = self.of_character[n - 1], self.of_character[n]
        white = self.columns[first + 1 : last + 1, 0] - self.columns[first:last, 1]
        return int(white.max(initial=0))

    def white_between(self, a: int, b: int) -> int:
        """Columns from the stroke of a character to that of a later one."""
        return int(self.columns[self.of_character[b], 0] - self.columns[self.of_character[a], 1])

    def rows(self, n: int) -> tuple[int, int]:
        """The first row and the last, plus one, of the stroke in which a character stands."""
        begin, end = self.columns[self.of_character[n]]
        rows = np.flatnonzero(self._ink[:, begin:end].any(axis=1))
        return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)

    def boxes_of_characters(self) -> dict[int, InkBox]:
        """Where the ink of each character is that is told from those beside it.

        Two that share a stroke stand over each other in part: `9³`. Their ink is in as many pieces, or nothing is told.
        """
        found: dict[int, InkBox] = {}
        of_character = self._each_stroke_used()
        for stroke, group in groupby(range(len(of_character)), key=of_character.__getitem__):
            numbers = list(group)
            if stroke < 0:
                continue
            begin, end = map(int, self.columns[stroke])
            if len(numbers) == 1:
                rows = np.flatnonzero(self._ink[:, begin:end].any(axis=1))
                if len(rows):
                    found[numbers[0]] = InkBox(begin, int(rows[0]), end, int(rows[-1]) + 1)
                continue
            _, _, pieces, _ = cv2.connectedComponentsWithStats(self._ink[:, begin:end].astype(np.uint8))
            pieces = pieces[1:][pieces[1:, cv2.CC_STAT_AREA] >= SPECK]
            ordered = sorted(pieces.tolist())
            if len(pieces) == len(numbers) and not any(_is_within(a, b) for a, b in pairwise(ordered)):
                for n, (left, top, wide, high, _) in zip(numbers, ordered, strict=True):
                    found[n] = InkBox(begin + left, top, begin + left + wide, top + high)
        return found

    def _each_stroke_used(self) -> list[int]:
        """The stroke of each character, of two in one stroke one at the next stroke, if no character is there.

        The model errs by a few pixels, which is as far as from a comma to the figure behind it.
        """
        strokes = list(self.of_character)
        used = {*strokes, len(self.columns)}
        for n, (before, stroke) in enumerate(pairwise(self.of_character)):
            if before != stroke or stroke < 0:
                continue
            if stroke - 1 not in used and strokes[n] == stroke:
                strokes[n] = stroke - 1
            elif stroke + 1 not in used and strokes[n] == stroke:
                strokes[n + 1] = stroke + 1
            used.update(strokes[n : n + 2])
        return strokes

    def height(self, n: int) -> int:
        """Rows from the top to the bottom of the stroke in which a character stands."""
        top, bottom = self.rows(n)
        return bottom - top

    def width(self, n: int) -> int:
        """Columns of the stroke in which a character stands."""
        begin, end = self.columns[self.of_character[n]]
        return int(end - begin)


def _is_within(before: Sequence[int], piece: Sequence[int]) -> bool:
    """Whether a piece of ink, `(left, top, width, height, area)`, is over or under the one before it."""
    return before[0] + before[2] - piece[0] > piece[2] / 2


def spaces_beside_digits(chars: Sequence[str], strokes: Strokes) -> frozenset[int]:
    """The numbers of the characters before which the model dropped a space that is there in ink.

    Of `12:30` and of the thousands of a number no space is told: a comma and a colon stand apart in many typefaces.
    """
    pairs = [n for n in range(1, len(chars)) if not (chars[n - 1].isspace() or chars[n].isspace())]
    gaps = {n: strokes.gap(n) for n in pairs}
    usual = median(gaps.values()) if gaps else 0.0
    least = WIDER * usual if len(pairs) > ENOUGH else 0.0
    wide = [n for n in pairs if gaps[n] >= least and _is_wide(chars, n, gaps, strokes)]
    others = [gaps[n] for n in pairs if n not in wide]
    return frozenset(n for n in wide if _is_wide_in_line(chars, n, gaps[n], others, strokes))


def _is_wide(chars: Sequence[str], n: int, gaps: Mapping[int, int], strokes: Strokes) -> bool:
    """Whether there is as much white before a character as a space has, if one of the two is a digit."""
    before, char = chars[n - 1], chars[n]
    ones = (before == "1") + (char == "1")
    white = gaps[n]
    if _is_digit(char) and before in ".:=" and n - 1 in gaps and _is_letter(chars[n - 2]):
        white, least = white - gaps[n - 1], SIGN_GAP_OF_1 if ones else SIGN_GAP
    elif _is_digit(before) and _is_digit(char):
        behind = DIGIT_GAP_BEHIND_1 if before == "1" else DIGIT_GAP
        least = DIGIT_GAP_OF_11 if ones == 2 else DIGIT_GAP_BEFORE_1 if char == "1" else behind
    elif (_is_digit(before) and _is_letter(char)) or (_is_letter(before) and _is_digit(char)):
        least = LETTER_GAP_OF_1 if ones else LETTER_GAP
    elif (_is_digit(before) and char in DASHES) or (before in DASHES and _is_digit(char)):
        other_side = gaps.get(n + 1 if char in DASHES else n - 1, 0)
        least = DASH_GAP_OF_1 if ones else DASH_GAP
        if other_side >= least * _digit_height(chars, n, strokes):
            least = DASH_GAP_TOO
    else:
        return False
    return white > 0 and white >= least * _digit_height(chars, n, strokes)


def _is_wide_in_line(chars: Sequence[str], n: int, white: int, others: Sequence[int], strokes: Strokes) -> bool:
    """Whether white is wide beside the other gaps of its line: its characters may stand apart."""
    are_digits = _is_digit(chars[n - 1]) and _is_digit(chars[n])
    if len(others) < ENOUGH:
        return (
            "1" not in chars[n - 1] + chars[n] and not are_digits and white >= ALONE * _digit_height(chars, n, strokes)
        )
    return white >= (WIDEST if are_digits else 1) * max(others)


def _digit_height(chars: Sequence[str], n: int, strokes: Strokes) -> int:
    """The height of the digit at a gap, in pixels."""
    return max(1, strokes.height(n if _is_digit(chars[n]) else n - 1))


def read_litres(chars: Sequence[str], strokes: Strokes, dropped: frozenset[int]) -> tuple[list[str], frozenset[int]]:
    """The characters, with `l` where the model took one for a 1 or an I: the unit alone behind its number.

    An l is a bar without the flag of a 1, or taller than the digits of its number. Of an I behind a whole number,
    within a line, nobody can tell: "In 1990 I went."

    Args:
        dropped: the numbers of the characters before which the model dropped a space.

    Returns:
        The characters, and the numbers of those before which the model dropped a space: `0.3 l` may be read `0.31`.
    """
    read = list(chars)
    for n in range(1, len(read)):
        if read[n] not in "1I" or not _ends_word(read, n, dropped):
            continue
        if n not in dropped and _is_bar_apart(read, n, strokes):
            dropped |= {n}
        number = n - 1 if n in dropped else n - 2 if read[n - 1].isspace() else -1
        if number < 0 or not _is_digit(read[number]):
            continue
        if _is_bracketed(read, number, n) or (
            (read[n] == "1" or _is_decimal(read, number))
            and strokes.white_between(number, n) <= ONE_SPACE * strokes.height(number)
            and _is_small_l(read, n, number, strokes)
        ):
            read[n] = "l"
    return read, dropped


def _is_bar_apart(chars: Sequence[str], n: int, strokes: Strokes) -> bool:
    """Whether a 1 behind a digit is a bar that stands apart from it, as no 1 of its number does."""
    if chars[n] != "1" or not _is_digit(chars[n - 1]) or not _is_small_l(chars, n, n - 1, strokes):
        return False
    others = (strokes.gap(m) for m in range(1, n) if not (chars[m - 1].isspace() or chars[m].isspace()))
    return (
        strokes.width(n) <= BAR * strokes.height(n)
        and strokes.gap(n) >= BAR_GAP * strokes.height(n - 1)
        and strokes.gap(n) >= BAR_WIDER * max(others, default=0)
    )


def _is_bracketed(chars: Sequence[str], last: int, unit: int) -> bool:
    """Whether brackets hold a number and an I and nothing else: `(2 l)`. The ink of an l often touches its bracket."""
    first = last
    while first > 0 and _is_digit(chars[first - 1]):
        first -= 1
    return chars[unit] == "I" and first > 0 and chars[first - 1] == "(" and chars[unit + 1 : unit + 2] == [")"]


def _ends_word(chars: Sequence[str], n: int, dropped: Collection[int]) -> bool:
    """Whether no letter or figure follows a character; one mark may stand behind it: `0.3 l, 100 ml`."""
    after = n + 1 + (n + 1 < len(chars) and n + 1 not in dropped and chars[n + 1] in ",.;:)")
    return after == len(chars) or after in dropped or chars[after].isspace()


def _is_small_l(chars: Sequence[str], n: int, number: int, strokes: Strokes) -> bool:
    """Whether the ink of a character is an l, beside the last digit of its number."""
    high, size = strokes.height(n), strokes.height(number)
    ones = (m for m, char in enumerate(chars) if char == "1" and m != n)
    if strokes.width(n) <= BAR * high:
        narrow = NARROWER * strokes.width(n)
        return high >= AS_HIGH * size and not any(strokes.width(m) < narrow for m in ones)
    return chars[n] == "1" and high >= TALLER * size


def _is_decimal(chars: Sequence[str], last: int) -> bool:
    """Whether the number that ends there has a decimal point or comma."""
    n = last
    while n > 0 and _is_digit(chars[n]):
        n -= 1
    return n > 0 and chars[n] in ".," and _is_digit(chars[n - 1])


def _is_digit(char: str) -> bool:
    return "0" <= char <= "9"


def _is_letter(char: str) -> bool:
    """Whether this is a letter of a script that is written with spaces."""
    return char.isalpha() and char < "\u2e80"

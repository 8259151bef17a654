"""Finds raised figures, which the model reads as figures of their line: `24.91²` as `24.912`, another number.

A raised figure ends a word or begins a note. It is smaller than the figures beside it, and stands above the line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Final

from .spaces import DASHES, InkBox, Strokes

__all__ = ["with_raised_figures"]

# Heights of a tall character near it. Measured on the pages of tests/engines/rapidocr/test_raised.py, and on the
# pages without a raised figure of benchmarks/number_pages.py and generated_pages.py.
ABOVE: Final = 0.3  # so far above the line stands a raised figure at least; .32 to .56 were found
HIGH: Final = 0.92  # so high is one at most: browsers make it .83 times as large
LEAST_HIGH: Final = 0.4  # and so high at least
HIGH_1: Final = 0.8  # the same of a 1, whose width says nothing
BELOW_TOP: Final = 0.15  # so far below the top of its neighbour begins one at most
OVER_TOP: Final = 0.12  # so far above its neighbours begins one, at least, whose size needs no measuring
WIDE: Final = 0.9  # times the width of a figure near it
NEAR: Final = 4  # characters tell the line, and how large characters are: a line may bend
FEET: Final = frozenset("ABCDEFGHIKLMNOPRSTUVWXYZabcdefhiklmnorstuvwxz01268.")
"""Characters that stand on the line. Figures of old style hang below it where they are 3, 4, 5, 7 or 9."""
TALL: Final = frozenset("ABCDEFGHIKLMNOPRSTUVWXYZbdfhkl0123456789")
FIGURES: Final = frozenset("0123456789")
WIDE_FIGURES: Final = FIGURES - {"1"}
RAISED: Final = dict(zip("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True))
ALL_RAISED: Final = frozenset(RAISED.values())
ENDS: Final = frozenset(" .,;:!?)]}%*=+×·…”\"'⁰¹²³⁴⁵⁶⁷⁸⁹")
"""Characters that may stand behind a raised figure."""


def with_raised_figures(chars: Sequence[str], strokes: Strokes, dropped: Collection[int]) -> list[str]:
    """The characters of a line, with `²` for a raised 2.

    They stay as they are where nothing tells on which line they stand, or where the ink of a figure touches another
    character's.

    Args:
        dropped: the numbers of the characters before which the model dropped a space.
    """
    read = list(chars)
    if not any(_may_be_raised(read, n, dropped) and not _is_wide(read, n, strokes) for n in range(len(read))):
        return read
    boxes = {n: box for n, box in strokes.boxes_of_characters().items() if len(read[n]) == 1}
    for n in range(len(read) - 1, -1, -1):  # from the end: behind a raised figure another one may stand
        if _may_be_raised(read, n, dropped) and n in boxes and _is_raised(read, n, boxes):
            read[n] = RAISED[read[n]]
    for n, char in enumerate(read):
        if char in ALL_RAISED and n > 1 and read[n - 1] in DASHES and read[n - 2].isalnum():  # 10⁻³
            read[n - 1] = "⁻"
        elif char == RAISED["0"] and (not n or read[n - 1] not in ALL_RAISED):
            return list(chars)  # no note is number 0
    return read


def _may_be_raised(chars: Sequence[str], n: int, dropped: Collection[int]) -> bool:
    """Whether a figure ends a word, or begins a note: one within a word is none that is raised."""
    if chars[n] not in FIGURES:
        return False
    ends = n + 1 == len(chars) or n + 1 in dropped or chars[n + 1] in ENDS
    ends = ends or (n > 0 and chars[n - 1].isalpha() and chars[n + 1] == "/")  # m²/s, but not the ¹/₂ of a fraction
    begins = n == 0 or chars[n - 1].isspace()
    if n + 2 < len(chars) and chars[n + 1] == "." and chars[n + 2] in FIGURES:
        return False  # within a number
    if n > 1 and chars[n - 1] == "." and chars[n - 2] in FIGURES:
        return False
    return ends and not (begins and n + 1 < len(chars) and not chars[n + 1].isspace())


def _is_wide(chars: Sequence[str], n: int, strokes: Strokes) -> bool:
    """Whether a figure is as wide as the others of its line: to measure heights takes longer."""
    if chars[n] == "1":
        return False
    own = strokes.of_character
    alone = [
        m for m, char in enumerate(chars) if char in WIDE_FIGURES and own[m] not in (*own[:m][-1:], *own[m + 1 :][:1])
    ]
    return n in alone and strokes.width(n) > WIDE * median(strokes.width(m) for m in alone)


def _is_raised(chars: Sequence[str], n: int, boxes: Mapping[int, InkBox]) -> bool:
    """Whether a figure stands above the line, and is smaller than the characters near it."""

    def near(kind: frozenset[str]) -> list[InkBox]:
        others = sorted((abs(m - n), m) for m in boxes if m != n and chars[m] in kind)
        return [boxes[m] for _, m in others[:NEAR]]

    box, feet, tall = boxes[n], near(FEET), near(TALL)
    if not feet or not tall:
        return False
    line = sorted(foot.bottom for foot in feet)[-2:][0]  # one may hang, as a comma does that is read as a full stop
    high, top = max(each.height for each in tall), median(each.top for each in tall)
    if line - box.bottom < ABOVE * high or box.top - top > BELOW_TOP * high:
        return False
    if box.height < LEAST_HIGH * high:
        return False  # a speck
    if box.top <= top - OVER_TOP * high:
        return True  # worn ink ends too early, and never begins above its line
    if chars[n] == "1":
        is_followed = n + 1 < len(chars) and chars[n + 1] in ALL_RAISED
        return box.height <= (HIGH if is_followed else HIGH_1) * high
    figures = [each.width for each in near(WIDE_FIGURES)]
    return box.height <= HIGH * high and (not figures or box.width <= WIDE * median(figures))

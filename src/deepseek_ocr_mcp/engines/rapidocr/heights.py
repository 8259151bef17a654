"""Tells small letters of a line from capitals by the height of their ink.

The shapes of c, o, s, v, w, x and z are those of their capitals. In a word of letters the model sees which is larger;
of one that stands alone it does not, and reads `5.50 s` as `5.50 S`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Final

from .spaces import Strokes

__all__ = ["LOW", "may_be_small", "with_small_letters"]

LOW: Final = 0.87
"""Times the height of a capital or a figure: a letter that is lower is a small one.

Measured on eighteen typefaces of 13 to 28 pixels: small letters are .66 to .85 times as high, capitals .93 and more.
"""
ON_LINE: Final = 0.12  # of a tall letter's height: how far the foot of a letter may be from theirs
ALONE: Final = re.compile(r"(?<![^\W\d_])[COSVWXZ]{1,2}(?![^\W\d_])|(?<=[a-z])[COSVWXZ](?![A-Z])")
TALL: Final = re.compile("[ABD-NPRTUYbdhkl0-9]")


def may_be_small(text: str) -> bool:
    """Whether a line has capitals of which their height must tell whether they are small letters."""
    return ALONE.search(text) is not None


def with_small_letters(chars: Sequence[str], strokes: Strokes) -> list[str]:
    """The characters of a line, with small letters for the capitals that are too low beside its tall characters."""
    read = list(chars)
    if any(len(char) != 1 for char in read):
        return read
    text = "".join(read)
    shared = Counter(strokes.of_character)
    tall = [n for n in range(len(read)) if TALL.match(read[n]) and shared[strokes.of_character[n]] == 1]
    if not tall:
        return read
    places = [strokes.rows(n) for n in tall]
    high, foot = median(end - begin for begin, end in places), median(end for _, end in places)
    for match in ALONE.finditer(text):
        for n in range(*match.span()):
            begin, end = strokes.rows(n)
            is_low = 0 < end - begin <= LOW * high and abs(end - foot) <= ON_LINE * high
            if is_low and shared[strokes.of_character[n]] == 1:
                read[n] = read[n].lower()
    return read

"""Gives letters of Latin, Greek and Cyrillic that look alike the alphabet of the word that they stand in.

A map of a font may call a Latin a the Cyrillic а: nobody sees a difference, and no search finds the word. A word is of
the alphabet of those of its letters that look like no other one's; it is changed if all others have a twin there.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from .content import Glyph

__all__ = ["given_one_alphabet"]

CYRILLIC: Final = dict(zip("аеорсухіјѕһԁԛԝАВЕКМНОРСТХУІЈЅҮ", "aeopcyxijshdqwABEKMHOPCTXYIJSY", strict=True))
GREEK: Final = dict(zip("αεικνορτυχγΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aeikvoptuxyABEZHIKMNOPTYX", strict=True))
"""Letters that look like a Latin one, in upright type or nearly."""
LOOKALIKES: Final = {"CYRILLIC": CYRILLIC, "GREEK": GREEK}
FOREIGN: Final = {
    script: {latin: own for own, latin in reversed(pairs.items())} for script, pairs in LOOKALIKES.items()
}
LEAST_OF_GREEK: Final = 3
"""Letters of a word of Latin and Greek that have no twin in the other one: μm, αx and kΩ are no spelling mistakes."""
LEAST_OF_CYRILLIC: Final = 2  # of a word that becomes Cyrillic: Eк and Iк are symbols with an index
AS_LARGE: Final = 0.9  # times the size of its neighbour is a letter of the same word, at least: an index is smaller
FONT_WORDS: Final = 3  # changed words of a font that make its other words of lookalikes Latin, too: "а", "оr"


def given_one_alphabet(glyphs: Sequence[Glyph]) -> int:
    """Change the texts of glyphs whose words mix alphabets that look alike. Returns how many were changed.

    Args:
        glyphs: in the order of the file.
    """
    changed = 0
    in_font: dict[tuple[int, str], int] = defaultdict(int)
    unsure: list[tuple[list[Glyph], str]] = []
    with_own: set[tuple[int, str]] = set()
    for word in _words(glyphs):
        kinds = {script for glyph in word if (script := _script(glyph.text)) in LOOKALIKES}
        if len(kinds) != 1:
            continue
        script = kinds.pop()
        key = (word[0].run.font, script)
        least, least_own = (LEAST_OF_GREEK, LEAST_OF_GREEK) if script == "GREEK" else (1, LEAST_OF_CYRILLIC)
        own = sum(_script(glyph.text) == script and glyph.text not in LOOKALIKES[script] for glyph in word)
        latin = [glyph for glyph in word if _script(glyph.text) == "LATIN"]
        sure = sum(glyph.text not in FOREIGN[script] for glyph in latin)
        if own:
            with_own.add(key)
            changed += _changed(latin, FOREIGN[script]) if own >= least_own and not sure else 0
        elif sure >= least and not _is_symbol(word):
            changed += _changed(word, LOOKALIKES[script])
            in_font[key] += 1
        else:
            unsure.append((word, script))
    for word, script in unsure:
        key = (word[0].run.font, script)
        if in_font[key] >= FONT_WORDS and key not in with_own:
            changed += _changed(word, LOOKALIKES[script])
    return changed


def _words(glyphs: Iterable[Glyph]) -> list[list[Glyph]]:
    """Letters of one font that follow each other, where one of them may be a lookalike."""
    words: list[list[Glyph]] = []
    before: Glyph | None = None
    for glyph in glyphs:
        is_letter = len(glyph.text) == 1 and glyph.text.isalpha()
        if is_letter and before is not None and _goes_on(before, glyph):
            words[-1].append(glyph)
        elif is_letter:
            words.append([glyph])
        before = glyph if is_letter else None
    return [word for word in words if any(glyph.text > "\u024f" for glyph in word)]


def _goes_on(before: Glyph, glyph: Glyph) -> bool:
    """Whether a letter belongs to the word of the one before it, by its place and type."""
    sizes = sorted((before.run.size, glyph.run.size))
    is_close = not (glyph.space or glyph.fresh)
    return is_close and before.run.font == glyph.run.font and sizes[0] >= AS_LARGE * sizes[1]


def _is_symbol(word: Sequence[Glyph]) -> bool:
    """Whether the only Greek letter of a word is its first: `ρfluid`."""
    return [_script(glyph.text) == "GREEK" for glyph in word] == [True] + [False] * (len(word) - 1)


def _changed(glyphs: Iterable[Glyph], twins: dict[str, str]) -> int:
    count = 0
    for glyph in glyphs:
        if glyph.text in twins:
            glyph.text = twins[glyph.text]
            count += 1
    return count


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    return unicodedata.name(char[:1], "").split(" ", 1)[0]

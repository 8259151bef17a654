"""Scores the headings of a reading against those that were drawn."""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

__all__ = ["heading_scores"]

HEADING: Final = re.compile(r"#{1,6} +(.+)")
ALIKE: Final = 0.8  # recognisers err in a letter of five of the shortest headings
PART: Final = 5  # least letters of a part of a heading that counts as one


def heading_scores(entry: dict[str, Any], text: str) -> dict[str, float]:
    """The share of a reading's headings that are none, and the share of the drawn ones that it missed.

    Nothing for a page without drawn headings, unless the reading has some.
    """
    if "headings" not in entry:
        return {}
    drawn = [_letters(heading) for heading in entry["headings"]]
    read = [_letters(match[1]) for line in text.splitlines() if (match := HEADING.match(line))]
    scores = {}
    if read:
        scores["false_headings"] = sum(not any(_is_same(one, other) for other in drawn) for one in read) / len(read)
    if drawn:
        scores["missed_headings"] = sum(not any(_is_same(one, other) for one in read) for other in drawn) / len(drawn)
    return scores


def _letters(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


def _is_same(read: str, drawn: str) -> bool:
    if len(read) >= PART and read in drawn:
        return True
    return difflib.SequenceMatcher(None, read, drawn, autojunk=False).ratio() > ALIKE

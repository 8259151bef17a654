"""Text from outside, made fit to be sent and shown: no half characters, no control characters in a line.

A file name that is not UTF-8 and the answer of an engine can hold a lone surrogate, which no encoder of JSON or UTF-8
takes. Whatever leaves the program passes `well_formed` once, at the edge.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["duration", "how_many", "nearest", "one_line", "well_formed", "well_formed_values", "without_paths"]

NAME_CHARS: Final = 40  # of a name that is compared; a longer one is no misspelt name
ALIKE: Final = 0.75  # 1: equal. On 90 wrong names: below it most guesses are other words (start for status)
BEGINNING_CHARS: Final = 3  # of a name that is cut short, so that it can be told from others
# A slash that begins a path (not one of an address or of "and/or"), up to the last slash before its name.
_FOLDERS: Final = re.compile(r"(?<![\w:/.\\])(?:[A-Za-z]:[\\/]|/)(?:[^\s'\"<>|:,;()\[\]]*[\\/])?(?=[^\s/\\])")


def well_formed(text: str) -> str:
    """`text` with U+FFFD in the place of each lone surrogate; the same object if it has none."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def well_formed_values(value: Any) -> Any:
    """A JSON value whose texts and names are all `well_formed`; the same object where nothing had to change."""
    match value:
        case str():
            return well_formed(value)
        case dict():
            clean = {well_formed_values(name): well_formed_values(each) for name, each in value.items()}
            changed = any(new is not old for new, old in zip(clean.values(), value.values(), strict=False))
            return clean if changed or list(clean) != list(value) else value
        case list() | tuple():
            items = [well_formed_values(each) for each in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        case _:
            return value


def one_line(text: str) -> str:
    """`text` with every control character, line break, bidirectional mark and lone surrogate written as an escape.

    What a caller sent, or what a file is called, can then neither forge a line nor drive a terminal.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def without_paths(text: str) -> str:
    """`text` with nothing but the last name of each path in it: where things lie on a server is its own business."""
    return _FOLDERS.sub("", text)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one, for "did you mean"; empty where none is like it."""
    name, known = name.lower().replace("-", "_")[:NAME_CHARS], sorted(known, key=len)
    if found := difflib.get_close_matches(name, known, n=1, cutoff=ALIKE):
        return found[0]
    letters = sorted(name)
    like = (
        each for each in known if sorted(each) == letters or (len(name) >= BEGINNING_CHARS and each.startswith(name))
    )
    return next(like, "")


def how_many(number: int, noun: str) -> str:
    """A number of things, for people: `1 file`, `2,000 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A length of time for people: `59 s`, `12 min`, `5 h 00 min`, `1 d 3 h`."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"

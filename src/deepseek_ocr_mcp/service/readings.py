"""Checks readings that come from children and from the cache, and makes the text and blocks that a mode asks for.

It imports layout, so no module imports it before the first document is read: a server starts without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import TypeAdapter

from ..documents.reader import UnreadPart
from ..engines.base import Reading
from ..layout.answers import answer, hits
from ..layout.reading import bounds, quad_of
from ..models import Block
from ..modes import MODES
from .search import term_errors

__all__ = ["checked", "is_scrap", "seen"]

SCRAP_CHARS: Final = (
    12  # with fewer characters in the part of a page that was read, an engine cannot tell which script it sees
)
SCRAP_MARGIN: Final = (
    4.0  # heights of a line; a part is drawn with 30 points around its text, three lines of small type
)

_READING: Final = TypeAdapter(Reading)


def checked(fields: Any) -> Reading:
    """The reading that `Reading.to_dict` described.

    Raises:
        ValueError: the fields are no reading. They come from a child, which is not trusted.
    """
    return _READING.validate_python(fields)


def seen(reading: Reading, mode: str, find_term: str) -> tuple[str, list[Block]]:
    """The text of a page, and its blocks with their words, as a request with this mode and this term sees it.

    Args:
        reading: the reading of the page.
        mode: one of the modes of lines: document, ocr, free or find.
        find_term: the term of a search; empty in other modes.

    Raises:
        BadRequest: the search took too long.
    """
    with term_errors():
        if mode == "find":
            text, blocks = hits(reading, find_term)
        else:
            text, blocks = answer(reading, is_markdown=MODES[mode].is_markdown)
    return text, [Block(**block) for block in blocks]


def is_scrap(part: UnreadPart, reading: Reading) -> bool:
    """Whether a part holds a few characters and nothing else: its lines end near each of its sides.

    Where no line was found, or one side of the part is empty, there may be text that was not read.
    """
    right, bottom = part.left + part.image.width, part.top + part.image.height
    boxes: list[Sequence[float]] = []
    characters = 0
    for line in reading.lines:
        box = bounds(quad_of(line), reading.width, reading.height)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        if part.left <= x <= right and part.top <= y <= bottom:
            boxes.append(box)
            characters += len("".join(line.text.split()))
    if not boxes or characters >= SCRAP_CHARS:
        return False
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    most = SCRAP_MARGIN * max(low - high for high, low in zip(tops, bottoms, strict=True))
    sides = (min(lefts) - part.left, min(tops) - part.top, right - max(rights), bottom - max(bottoms))
    return bool(max(sides) <= most)

"""Page ranges: `"1-3,7"` to page numbers and back. Exact inverses on sorted, unique numbers."""

from __future__ import annotations

import re
from typing import Final

from ..errors import BadRequest

__all__ = ["format_pages", "parse_pages"]

MAX_CHARS: Final = 10_000  # longer than any range of OCR_MAX_PAGES pages that a person or a program means
_PART = re.compile(r"(?P<first>\d{1,9}|last)?(?P<dash>\s*-\s*)?(?P<last>\d{1,9}|last)?", re.ASCII)
_REMEDY: Final = 'Write pages like "1-3,7", "5-" or "last"; empty for all.'


def parse_pages(text: str, page_count: int) -> list[int]:
    """The pages that `text` names, from 1, in ascending order, each once. Empty text: all.

    Accepts `1-3,7`, `5-` (to the end), `-3` (from the start) and `last`. What lies beyond the last
    page is left out, as long as something is left.

    Raises:
        BadRequest: no range, a range upside down, or nothing of it in the document.
    """
    if not text.strip():
        return list(range(1, page_count + 1))
    if len(text) > MAX_CHARS:
        raise BadRequest(f"pages has {len(text)} characters.", remedy=_REMEDY)
    wanted: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None or not (match["first"] or match["last"]):
            raise BadRequest(f"pages={_shown(text)} is no page range.", remedy=_REMEDY)
        first = _number(match["first"], page_count, default=1)
        last = _number(match["last"], page_count, default=page_count) if match["dash"] else first
        if first < 1 or (match["first"] and match["last"] and last < first):
            raise BadRequest(f"pages={_shown(text)} counts backwards or from 0.", remedy=_REMEDY)
        wanted.update(range(first, min(last, page_count) + 1))
    if not wanted:
        raise BadRequest(
            f"pages={_shown(text)} lies beyond the end: the document has {page_count} "
            f"page{'s' if page_count > 1 else ''}.",
            remedy=f'Choose from "1-{page_count}".' if page_count > 1 else "Leave pages empty.",
        )
    return sorted(wanted)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")


def _number(text: str | None, page_count: int, default: int) -> int:
    if text is None:
        return default
    return page_count if text == "last" else int(text)


def format_pages(numbers: list[int]) -> str:
    """Ascending, unique page numbers as a range; `""` for none."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)

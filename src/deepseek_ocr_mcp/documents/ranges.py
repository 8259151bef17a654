"""Page ranges: `"1-3,7"` to page numbers and back. Exact inverses on sorted, unique numbers.

What agents write instead (`1..3`, `1 to 3`, `page 2`, `first`, `all`, `[1, 2]`) is read as it is
meant. What could be meant in two ways is refused, and the refusal says what to write.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ..errors import BadRequest

__all__ = ["format_pages", "pages_after", "parse_pages"]

MAX_CHARS: Final = 10_000  # longer than any range of OCR_MAX_PAGES pages that a person or a program means
_PART = re.compile(r"(?P<first>\d{1,9}|last)?(?P<dash>\s*-\s*)?(?P<last>\d{1,9}|last)?", re.ASCII)
_REMEDY: Final = 'Write pages like "1-3,7", "5-" or "last"; empty for all.'

_ALL: Final = frozenset({"", "all", "*", "any", "every", "everything", "null", "none"})
_QUOTES: Final = re.compile(r"[\"'`\[\](){}]")
_PAGE: Final = re.compile(r"\b(?:pages?|pp?\.?)(?=\s*\d|\s+last\b|\s+first\b|\s+end\b)|\bpages?$")
_COMMA: Final = re.compile(r"&|\band\b")
_DASH: Final = re.compile(r"\.\.+|…|:|[‐‑‒–—−~]|\b(?:to|through|thru|until)\b")
_COUNTED: Final = re.compile(r"(first|last)\s+(\d{1,9})", re.ASCII)


def parse_pages(text: str, page_count: int) -> list[int]:
    """The pages that `text` names, from 1, in ascending order, each once. Empty text: all.

    Accepts `1-3,7`, `5-` (to the end), `-3` (from the start), `last` and `-1` (the last one), and
    other ways to write them. What lies beyond the last page is left out, as long as something is left.

    Raises:
        BadRequest: no range, a range upside down, or nothing of it in the document.
    """
    if len(text) > MAX_CHARS:
        raise BadRequest(f"pages has {len(text)} characters.", remedy=_REMEDY)
    plain = _plain(text)
    if plain in _ALL:
        return list(range(1, page_count + 1))
    wanted: set[int] = set()
    for part in plain.split(","):
        wanted.update(_pages_of(part.strip(), text, page_count))
    if not wanted:
        raise BadRequest(
            f"pages={_shown(text)} lies beyond the end: the document has {page_count} "
            f"page{'s' if page_count > 1 else ''}.",
            remedy=f'Choose from "1-{page_count}".' if page_count > 1 else "Leave pages empty.",
        )
    return sorted(wanted)


def _plain(text: str) -> str:
    """In our own words: digits, `last`, dashes and commas."""
    plain = _QUOTES.sub("", text).strip().lower()
    plain = _DASH.sub("-", _COMMA.sub(",", _PAGE.sub("", plain).strip()))
    return re.sub(r"\bend\b", "last", plain).strip()


def _pages_of(part: str, text: str, page_count: int) -> range:
    """The pages of one part, which may be none.

    Raises:
        BadRequest: it is no range. The text is what the caller wrote.
    """
    if counted := _COUNTED.fullmatch(part):
        count = min(int(counted[2]), page_count)
        part = f"1-{count}" if counted[1] == "first" else f"{page_count - count + 1}-"
    elif part in ("first", "first one"):
        part = "1"
    elif part == "-1":  # as programs count from the end; nobody writes the first page like that
        part = "last"
    match = _PART.fullmatch(part)
    if match is None or not (match["first"] or match["last"]):
        raise BadRequest(f"pages={_shown(text)} is no page range.", remedy=_REMEDY)
    first = _number(match["first"], page_count, default=1)
    last = _number(match["last"], page_count, default=page_count) if match["dash"] else first
    if first < 1 or (match["first"] and match["last"] and last < first):
        raise BadRequest(f"pages={_shown(text)} counts backwards or from 0.", remedy=f"The first page is 1. {_REMEDY}")
    return range(first, min(last, page_count) + 1)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")


def _number(text: str | None, page_count: int, default: int) -> int:
    if text is None:
        return default
    return page_count if text == "last" else int(text)


def format_pages(numbers: Sequence[int]) -> str:
    """Ascending, unique page numbers as a range; `""` for none."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def pages_after(text: str, page: int) -> str:
    """The part of a range that lies behind a page, as a range; `""` where nothing of it does.

    Pages that are counted from the end of the document (`last`) stay, because its length is not known here.

    Args:
        text: a range that `parse_pages` accepts.
        page: a page, from 1.
    """
    plain = _plain(text)
    if plain in _ALL:
        return f"{page + 1}-"
    parts = []
    for part in (each.strip() for each in plain.split(",")):
        match = _PART.fullmatch(part)
        if match is None or match["first"] == "last" or part == "-1":
            parts.append(part)
            continue
        first = max(int(match["first"] or 1), page + 1)
        last = int(match["first"] or 0) if not match["dash"] else None
        if match["dash"] and match["last"] not in (None, "last"):
            last = int(match["last"])
        if last is None:
            parts.append(f"{first}-")
        elif first <= last:
            parts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(parts)

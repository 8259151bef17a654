"""Turns page ranges such as `"1-3,7"` into page numbers and back. On sorted, unique numbers the two are inverses.

Other forms that agents write (`1..3`, `1 to 3`, `page 2`, `first`, `all`, `[1, 2]`) are understood. A range with two
possible meanings is refused, and the refusal says how to write ranges.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ..errors import BadRequest

__all__ = ["format_pages", "pages_after", "parse_pages"]

MAX_CHARS: Final = 10_000  # more than a range of OCR_MAX_PAGES pages needs
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

    Accepted are `1-3,7`, `5-` (to the end), `-3` (from the start), `last` and `-1` (the last page), and other ways to
    write them. Pages beyond the end of the document are left out, if at least one page is left.

    Raises:
        BadRequest: the text is no range, counts backwards, or names no page of the document.
    """
    if len(text) > MAX_CHARS:
        raise BadRequest(f"pages has {len(text)} characters.", remedy=_REMEDY)
    plain = _plain(text)
    if plain in _ALL:
        return list(range(1, page_count + 1))
    numbers: set[int] = set()
    for part in plain.split(","):
        numbers.update(_pages_of(part.strip(), text, page_count))
    if not numbers:
        raise BadRequest(
            f"pages={_shown(text)} lies beyond the end: the document has {page_count} "
            f"page{'s' if page_count > 1 else ''}.",
            remedy=f'Choose from "1-{page_count}".' if page_count > 1 else "Leave pages empty.",
        )
    return sorted(numbers)


def _plain(text: str) -> str:
    """The text as digits, `last`, dashes and commas."""
    plain = _QUOTES.sub("", text).strip().lower()
    plain = _DASH.sub("-", _COMMA.sub(",", _PAGE.sub("", plain).strip()))
    return re.sub(r"\bend\b", "last", plain).strip()


def _pages_of(part: str, text: str, page_count: int) -> range:
    """The pages of one part of a range; none if they are beyond the end.

    Args:
        part: between two commas.
        text: the whole range as the caller wrote it, for messages.
        page_count: pages of the document.

    Raises:
        BadRequest: the part is no range.
    """
    if counted := _COUNTED.fullmatch(part):
        count = min(int(counted[2]), page_count)
        part = f"1-{count}" if counted[1] == "first" else f"{page_count - count + 1}-"
    elif part in ("first", "first one"):
        part = "1"
    elif part == "-1":  # programs count from the end; nobody writes the first page so
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
    """The part of a range that lies behind a page, as a range; `""` if no page of it does.

    Pages that are counted from the end (`last`) stay, because the length of the document is not known here.

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

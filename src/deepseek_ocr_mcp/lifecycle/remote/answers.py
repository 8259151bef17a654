"""Parses the answers of a server that speaks OpenAI's protocol."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from ...engines.base import Finish, PageImage, PageText, ReadOptions
from ...engines.markup import page_text
from ...modes import NOTHING_FOUND
from .trouble import Facts

__all__ = ["QUOTED", "Completion", "parse_page", "retry_after", "server_message"]

MAX_RETRY_AFTER_S: Final = 300.0
QUOTED: Final = 200  # characters of what an endpoint said about a request that it refused
END: Final = "<\uff5cend\u2581of\u2581sentence\uff5c>"  # DeepSeek's, which an endpoint that keeps tags may leave
_BARE_TAGS: Final = re.compile(r"^([^\[\]\n]{1,2000}?)(\[\[[0-9., \[\]-]{7,}\]\])", re.MULTILINE)
_FENCE: Final = re.compile(r"\A```[\w-]*\n(.*?)\n?```\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote about a page."""

    text: str
    finish: Finish
    tokens: int
    """About how many: exact where the endpoint counts them."""
    censored: bool = False
    """Whether the endpoint's content filter ended it."""


def server_message(body: Any) -> str:
    """The sentence in an error's body, bounded. Lists of what was wrong are left out: they repeat the request."""
    for name in ("error", "detail", "message"):
        if isinstance(body, dict) and name in body:
            body = body[name]
    return " ".join(body.split())[:QUOTED] if isinstance(body, str) else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an endpoint asks to be left alone, bounded; None where it asks for nothing that can be meant."""
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (at - datetime.now(UTC)).total_seconds() if at.tzinfo else 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if math.isfinite(seconds) else None


def parse_page(page: PageImage, options: ReadOptions, facts: Facts, completion: Completion) -> PageText:
    """The page that a completion is about, as text and blocks.

    Args:
        page: as it was sent; boxes are in its pixels.
        options: as they were asked for.
        facts: of the endpoint: whether it was asked with DeepSeek-OCR's own prompts.
        completion: of the model.
    """
    text, finish, tokens = completion.text, completion.finish, completion.tokens
    remark = "The endpoint's content filter cut this page." if completion.censored else ""
    if facts.grounding:
        text = text.strip().removesuffix(END).rstrip()
        if "<|det|>" not in text:  # an endpoint that drops tags leaves what was between them
            text = _BARE_TAGS.sub(r"<|ref|>\1<|/ref|><|det|>\2<|/det|>", text)
        read = page_text(page, options, text, finish, tokens)
        return PageText(read.text, read.blocks, finish, read.raw, remark, tokens)
    written = text.strip()
    if fenced := _FENCE.match(written):  # many put the whole page into one
        written = fenced[1].strip()
    if options.mode == "find" and written.strip(" .*\"'").upper() == NOTHING_FOUND:
        written = ""
    return PageText(written, (), finish, None if written == text else text, remark, tokens)

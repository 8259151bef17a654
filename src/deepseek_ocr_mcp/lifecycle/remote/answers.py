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

__all__ = ["QUOTED", "Completion", "completed", "parse_page", "quoted", "retry_after", "server_message"]

MAX_RETRY_AFTER_S: Final = 300.0
QUOTED: Final = 200  # characters of an endpoint's message that a caller gets
MAX_MESSAGE: Final = 4000  # characters of a message that are searched; a gateway puts its own words before the server's
END: Final = "<\uff5cend\u2581of\u2581sentence\uff5c>"  # DeepSeek's; an endpoint that keeps tags may leave it
_BARE_TAGS: Final = re.compile(r"^([^\[\]\n]{1,2000}?)(\[\[[0-9., \[\]-]{7,}\]\])", re.MULTILINE)
_THOUGHT: Final = re.compile(
    r"\s*(?:<(think|thinking|thought)>.*?</\1>|\[THINK\].*?\[/THINK\]|\u25c1think\u25b7.*?\u25c1/think\u25b7)\s*",
    re.DOTALL | re.IGNORECASE,
)
"""The marks around thoughts: of DeepSeek, Qwen and others, of Mistral's models, and of Kimi's. A server that knows the
model takes its thoughts out (`reasoning_content`); other servers leave them in the text."""
_THOUGHT_TAG: Final = re.compile(r"<think(?:ing)?>|<thought>|\[THINK\]|\u25c1think\u25b7", re.IGNORECASE)
_THOUGHT_BEGINS: Final = re.compile(rf"\s*(?:{_THOUGHT_TAG.pattern})", re.IGNORECASE)
_THOUGHT_ENDS: Final = re.compile(
    r".*?(</think(?:ing)?>|\[/THINK\]|\u25c1/think\u25b7)[ \t]*(?:\n\s*|\Z)", re.DOTALL | re.IGNORECASE
)
_FENCE: Final = re.compile(r"\A```[\w-]*\n(.*?)\n?```\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer of a model about a page."""

    text: str
    finish: Finish
    tokens: int
    """The number of tokens; exact if the endpoint counts them, else an estimate."""
    remark: str = ""
    """A sentence for the caller about the way in which the text ended."""


_ENDS: Final[dict[str, Finish]] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_output_tokens"), "length"),
    **dict.fromkeys(("repetition",), "loop"),
    **dict.fromkeys(("content_filter", "safety", "recitation"), "cancelled"),
}
"""Finish reasons in small letters. OpenAI's are stop, length and content_filter; the others are those of Text
Generation Inference, Anthropic, Mistral, Google and vLLM, which some gateways pass on."""


def completed(text: str, reason: str, tokens: int) -> Completion:
    """The end of a text as the endpoint gives it. A reason that is missing or unknown keeps the text, with a remark.

    Args:
        text: the text of the page.
        reason: the `finish_reason` of the endpoint; empty: none.
        tokens: the tokens that the model wrote.
    """
    finish = _ENDS.get(reason.lower())
    if finish == "cancelled":
        return Completion(text, finish, tokens, "The endpoint's content filter cut this page.")
    if finish is not None:
        return Completion(text, finish, tokens)
    why = f"the reason {reason[:40]!r}, which this server does not know" if reason else "no reason"
    return Completion(text, "stop", tokens, f"The endpoint gave {why} for the end of this page: text may be missing.")


def server_message(body: Any) -> str:
    """The message in the body of an error, bounded; empty if there is none.

    From a list of faults (status 422 of FastAPI) the place and the sentence of each fault are taken, and no words of
    the request.
    """
    for name in ("error", "detail", "errors", "message"):
        if isinstance(body, dict) and name in body:
            body = body[name]
    if isinstance(body, list):
        body = "; ".join(filter(None, map(_fault, body[:20])))
    return " ".join(body.split())[:MAX_MESSAGE] if isinstance(body, str) else ""


def _fault(entry: Any) -> str:
    """One entry of a list of faults, like `max_tokens: Input should be less than 4096`."""
    if not isinstance(entry, dict):
        return entry if isinstance(entry, str) else ""
    sentence = next((entry[name] for name in ("msg", "message", "detail") if isinstance(entry.get(name), str)), "")
    place = entry.get("loc")
    path = [str(part) for part in place if part != "body"] if isinstance(place, list) else []
    return ": ".join(filter(None, (".".join(path), sentence)))


def quoted(message: str) -> str:
    """A message for the end of one of our sentences: behind a colon, and short. Empty for an empty message."""
    return f": {message[:QUOTED]}" if message else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds for which an endpoint asks for no requests, bounded; None if it names no sensible time."""
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


def _without_thoughts(text: str) -> tuple[str, str]:
    """The text without the thoughts that a model wrote before it.

    The second part is a sentence for the caller, if the thoughts are a guess or are all there is; else empty.
    """
    begin = 0
    while thought := _THOUGHT.match(text, begin):
        begin = thought.end()
    bare = text[begin:]
    if _THOUGHT_BEGINS.match(bare):
        return "", "The model ended within its thoughts and wrote no text of this page."
    if (end := _THOUGHT_ENDS.match(bare)) and not _THOUGHT_TAG.search(bare, 0, end.start(1)):
        # The template of the model has put the first tag into the question.
        return bare[end.end() :], f"The words before {end[1]} were taken for the model's thoughts and left out."
    return bare, ""


def parse_page(page: PageImage, options: ReadOptions, facts: Facts, completion: Completion) -> PageText:
    """The page that a completion is about, as text and blocks.

    Args:
        page: the page as it was sent; boxes are in its pixels.
        options: the question about the page.
        facts: the facts about the endpoint, among them whether DeepSeek-OCR's own prompts were sent.
        completion: the answer of the model.
    """
    text, finish, tokens = completion.text, completion.finish, completion.tokens
    remark = completion.remark
    if facts.grounding:
        text = text.strip().removesuffix(END).rstrip()
        if "<|det|>" not in text:  # an endpoint that drops tags leaves the words between them
            text = _BARE_TAGS.sub(r"<|ref|>\1<|/ref|><|det|>\2<|/det|>", text)
        remark = " ".join(filter(None, (remark, facts.remarks.get(options.mode))))
        read = page_text(page, options, text, finish, tokens)
        return PageText(read.text, read.blocks, finish, read.raw, remark, tokens)
    text, about_thoughts = _without_thoughts(text)
    remark = " ".join(filter(None, (remark, about_thoughts)))
    written = text.strip()
    if fenced := _FENCE.match(written):  # many models put the whole page into one
        written = fenced[1].strip()
    if options.mode == "find" and written.strip(" .*\"'").upper() == NOTHING_FOUND:
        written = ""
    return PageText(written, (), finish, None if written == text else text, remark, tokens)

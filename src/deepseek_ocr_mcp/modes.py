"""The seven modes and the six resolutions: names, prompts and purposes. Nothing else knows them.

Prompts: the README of github.com/deepseek-ai/DeepSeek-OCR ("Prompts examples"). The prefix
`<image>\\n` is the engine's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_MODE", "DEFAULT_RESOLUTION", "MODES", "RESOLUTIONS", "Mode"]


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to look at a page."""

    name: str
    purpose: str
    """What the caller gets, in a phrase."""
    prompt: str
    """What DeepSeek-OCR is asked. `{term}` and `{prompt}` are filled from the request."""
    needs: str = ""
    """The request field that this mode cannot do without."""
    locates: bool = False
    """Whether blocks with boxes come with the text."""


MODES: Final[dict[str, Mode]] = {
    mode.name: mode
    for mode in (
        Mode(
            "document",
            "Markdown of the whole page, in reading order",
            "<|grounding|>Convert the document to markdown.",
            locates=True,
        ),
        Mode("ocr", "every line of text with its box", "<|grounding|>OCR this image.", locates=True),
        Mode("free", "plain text without layout", "Free OCR."),
        Mode("figure", "the data of a chart or the parts of a diagram", "Parse the figure."),
        Mode("describe", "a description of what the image shows", "Describe this image in detail."),
        Mode(
            "find",
            "where find_term stands: one block with a box for each hit",
            "Locate <|ref|>{term}<|/ref|> in the image.",
            needs="find_term",
            locates=True,
        ),
        Mode("freeform", "the answer to custom_prompt", "{prompt}", needs="custom_prompt"),
    )
}

DEFAULT_MODE: Final = "document"

RESOLUTIONS: Final[dict[str, int | None]] = {
    "auto": None,
    "tiny": 512,
    "small": 640,
    "base": 1024,
    "large": 1280,
    "gundam": None,
}
"""Longest side in pixels at which a page is read; None: as large as the engine reads well."""

DEFAULT_RESOLUTION: Final = "auto"

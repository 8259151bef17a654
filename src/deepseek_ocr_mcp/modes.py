"""The modes, the resolutions and the uses of a text layer: their names, their prompts, and other names for them.

This module is the one place of these names and of the names that agents use instead. An engine's specification names
the modes that the engine can do.

Source of the prompts: the README of github.com/deepseek-ai/DeepSeek-OCR ("Prompts examples"). The engine adds the
prefix `<image>\\n`. A model that was not trained on these prompts is asked in words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = [
    "DEFAULT_MODE",
    "DEFAULT_RESOLUTION",
    "DEFAULT_TEXT_LAYER",
    "IGNORE_LAYER",
    "MODES",
    "NOTHING_FOUND",
    "ONLY_LAYER",
    "PLAIN_MODE",
    "RESOLUTIONS",
    "TEXT_LAYERS",
    "Mode",
    "meant_mode",
    "meant_resolution",
    "meant_text_layer",
]

NOTHING_FOUND: Final = "NOTHING FOUND"
"""The answer of a model that is asked in words, where the term of `find` is not on the page."""

_TAG: Final = re.compile(r"<\|[^<>|]{1,32}\|>")


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to look at a page."""

    name: str
    purpose: str
    """The result for the caller, as a phrase."""
    prompt: str
    """The prompt for DeepSeek-OCR. The request fills `{term}` and `{prompt}`."""
    words: str
    """The prompt for any other model that sees pictures, with the same two places."""
    needs: str = ""
    """The field of the request that this mode needs; empty: none."""
    locates: bool = False
    """Whether the answer has blocks with boxes beside the text."""
    is_markdown: bool = True
    """Whether the text of the answer is Markdown. Otherwise a star is a star."""
    text_alone: bool = False
    """Whether the mode asks for the text of the page only. Then the text layer of a PDF may answer."""

    def question(self, term: str = "", prompt: str = "", *, in_words: bool = False) -> str:
        """The prompt for a model, without the picture. Tags in the term are removed: they would end its own tag.

        Args:
            term: the words of `find`.
            prompt: the question of `freeform`.
            in_words: whether the model was not trained on DeepSeek-OCR's prompts.
        """
        return (self.words if in_words else self.prompt).format(term=_TAG.sub("", term).strip(), prompt=prompt)


MODES: Final[dict[str, Mode]] = {
    mode.name: mode
    for mode in (
        Mode(
            "document",
            "Markdown, in reading order",
            "<|grounding|>Convert the document to markdown.",
            "Convert this page to Markdown: all of its text in reading order, with headings, lists and tables, and "
            "formulas as LaTeX. Write the Markdown and nothing else.",
            locates=True,
            text_alone=True,
        ),
        Mode(
            "ocr",
            "line by line, with boxes",
            "<|grounding|>OCR this image.",
            "Write every line of text in this image as it stands there, one below the other, and nothing else.",
            locates=True,
            is_markdown=False,
            text_alone=True,
        ),
        Mode(
            "free",
            "plain text",
            "Free OCR.",
            "Write all text of this image in reading order, without any formatting, and nothing else.",
            is_markdown=False,
            text_alone=True,
        ),
        Mode(
            "figure",
            "data of a chart or diagram",
            "Parse the figure.",
            "Write what this figure holds: of a chart its data as a table, of a diagram its parts and how they are "
            "connected. Write nothing else.",
        ),
        Mode(
            "describe",
            "what the image shows",
            "Describe this image in detail.",
            "Describe this image in detail.",
        ),
        Mode(
            "find",
            "the rows that hold find_term, a box for each hit",
            "Locate <|ref|>{term}<|/ref|> in the image.",
            "Write every line of this image in which these words stand, as it stands there, one below the other: "
            f"{{term}}\nIf they stand nowhere, write {NOTHING_FOUND}. Write nothing else.",
            needs="find_term",
            locates=True,
            is_markdown=False,
            text_alone=True,
        ),
        Mode("freeform", "the answer to custom_prompt", "{prompt}", "{prompt}", needs="custom_prompt"),
    )
}

DEFAULT_MODE: Final = "document"
PLAIN_MODE: Final = "free"
"""The same text without markup."""

RESOLUTIONS: Final[dict[str, int | None]] = {
    "auto": None,
    "tiny": 512,
    "small": 640,
    "base": 1024,
    "large": 1280,
    "gundam": None,
}
"""The longer side in pixels at which a page is read. None: the size that the engine reads best."""

DEFAULT_RESOLUTION: Final = "auto"

DEFAULT_TEXT_LAYER: Final = "auto"
IGNORE_LAYER: Final = "ignore"
ONLY_LAYER: Final = "only"

TEXT_LAYERS: Final[dict[str, str]] = {
    DEFAULT_TEXT_LAYER: "a PDF page that holds sound text gives that text; the engine reads the other pages",
    IGNORE_LAYER: "the engine reads every page as a picture",
    ONLY_LAYER: "the engine reads no page",
}

# Names that agents write instead, seen in their calls. Spaces, dashes, underscores and capitals do not count.
_MODE_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "document": (
        "auto", "default", "documents", "doc", "docs", "markdown", "md", "layout", "structure", "structured", "table",
        "tables", "pdf", "page", "scan", "full", "all", "read", "convert", "converttomarkdown", "digitize", "digitise",
        "invoice", "receipt", "form", "html",
    ),
    "ocr": ("lines", "line", "words", "boxes", "bbox", "grounding", "detect", "detection", "recognize", "recognise"),
    "free": (
        "text", "plain", "plaintext", "txt", "raw", "rawtext", "simple", "freeocr", "textonly", "extract",
        "extracttext", "handwriting", "handwritten", "transcribe", "transcription",
    ),
    "figure": ("figures", "chart", "charts", "diagram", "graph", "plot", "parsefigure", "parsethefigure"),
    "describe": ("description", "caption", "describeimage", "imagedescription"),
    "find": ("search", "locate", "findterm", "findtext", "grep", "lookup"),
    "freeform": ("custom", "customprompt", "prompt", "question", "ask", "qa", "vqa", "query", "chat", "freeprompt"),
}  # fmt: skip
_MODE_OF: Final = {other: name for name, others in _MODE_NAMES.items() for other in others} | {n: n for n in MODES}
_BEST: Final = ("high", "highres", "higher", "highest", "hd", "best", "max", "maximum", "full", "original", "native",
                "default", "fine", "ultra")  # fmt: skip
_RESOLUTION_OF: Final = {
    **dict.fromkeys(_BEST, DEFAULT_RESOLUTION),
    **dict.fromkeys(("low", "lowres", "fast"), "small"),
    **dict.fromkeys(("medium", "mid", "normal", "standard"), "base"),
    **{str(pixels): name for name, pixels in RESOLUTIONS.items() if pixels},
    **{name: name for name in RESOLUTIONS},
}
_TEXT_LAYER_OF: Final = {
    **dict.fromkeys(("use", "yes", "true", "on", "1", "prefer", "default", "smart", "mixed"), DEFAULT_TEXT_LAYER),
    **dict.fromkeys(("no", "false", "off", "0", "none", "never", "skip", "force", "forceocr", "ocr"), IGNORE_LAYER),
    **dict.fromkeys(("always", "required", "noocr", "text", "embedded", "native"), ONLY_LAYER),
    **{name: name for name in TEXT_LAYERS},
}
_SIZE: Final = re.compile(r"(\d{1,5})(?:x\d{1,5})?(px|pixels?|dpi)?", re.ASCII)


def meant_mode(mode: str, find_term: str = "", custom_prompt: str = "") -> str:
    """The mode that a caller means. An unknown name comes back as it is.

    Without a name the mode is `find` where there is a term, `freeform` where there is a prompt, and else the default.

    Args:
        mode: the name that the caller gave; may be empty.
        find_term: the words to find; may be empty.
        custom_prompt: the question about the page; may be empty.
    """
    name = _squeezed(mode)
    if not name:
        return "find" if find_term.strip() else "freeform" if custom_prompt.strip() else DEFAULT_MODE
    return _MODE_OF.get(name, mode)


def meant_resolution(resolution: str) -> str:
    """The resolution that a caller means. An unknown name comes back as it is.

    A number of pixels means the resolution with that side. Any other number, and a number in DPI, means the default:
    the size that the engine reads best.
    """
    name = _squeezed(resolution)
    if not name:
        return DEFAULT_RESOLUTION
    if name in _RESOLUTION_OF:
        return _RESOLUTION_OF[name]
    size = _SIZE.fullmatch(name)
    if size is None:
        return resolution
    return DEFAULT_RESOLUTION if size[2] == "dpi" else _RESOLUTION_OF.get(size[1], DEFAULT_RESOLUTION)


def meant_text_layer(text_layer: str) -> str:
    """The use of the text layer that a caller means. An unknown name comes back as it is."""
    return _TEXT_LAYER_OF.get(_squeezed(text_layer) or DEFAULT_TEXT_LAYER, text_layer)


def _squeezed(name: str) -> str:
    return re.sub(r"[\s_\-.\"'`]+", "", name).casefold()

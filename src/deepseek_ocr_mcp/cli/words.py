"""Puts messages that were written for an agent into the words of a person at a terminal.

Errors and notes name the arguments and the tools of MCP. A person at a terminal has flags and commands instead, and is
the operator. `for_terminal` replaces each such name; a message without one stays as it is.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["for_terminal"]

PROGRAM: Final = "deepseek-ocr-mcp"

SEARCHES: Final = r"Write --find Total, --find Total --find Sum (any of them), or --find 'INV-\d+' --regex."

_FLAGS: Final = {
    "save_to": "--output",
    "text_layer": "--text-layer",
    "find_term": "--find",
    "custom_prompt": "--prompt",
}
"""Flags with another spelling than the argument that they set. `pages`, `mode` and the like are told by their marks."""

_PHRASES: Final = (
    # Tools are commands.
    (r"`?gpu_release`? with `?force=true`?|`?gpu_release\(force=true\)`?", f"`{PROGRAM} release --force`"),
    (r"[Cc]all `?gpu_(release|offload)`?", rf"run `{PROGRAM} \1`"),
    (r"`?\bgpu_(release|offload|status)\b`?", rf"`{PROGRAM} \1`"),
    (
        r"\bSet OCR_PDF_PASSWORD where the server is started.*?`[^`]*` asks for it\.",
        "Give its password: --password - reads it from standard input, OCR_PDF_PASSWORD holds it, and a terminal asks "
        "for it.",
    ),
    # A call is a command that is run.
    (r"\b[Cc]all `?ocr_to_files`? with", "run the command again with"),
    (r"\bSend it again completely", "Copy the whole file again"),
    (r"\bCall `?ocr_image`? again|\bSend (?:the request|the page|it) again|\bCall again", "Run the command again"),
    (r"\bsend (?:the request|the page) again|\bcall again|\bask again", "run the command again"),
    (r"\bRead the file again\b", "Run the command again"),
    # The person is the operator, and sends nothing to anybody.
    (r"\b(?:have|let) the operator (\w)", r"\1"),
    (r"\b[Tt]he operator (?:can )?sets? ([A-Z_]{4,})", r"Set \1"),
    (r"(?<=[;,] )Set ([A-Z_]{4,})", r"set \1"),
    (r"\bSend (?=(?:a|an|fewer|smaller|less|larger)\b)", "Use "),
    (r"\bsend (?=(?:a|an|fewer|smaller|less|larger)\b)", "use "),
    (r"The server goes on; its log on stderr has the details\.", "The log has the details: add --log-level info."),
    (r",? or ask the user(?: for it)?(?=[.,;])", ""),
    (r"\bAsk the user for the path\.", "Check the path."),
    # Arguments are flags.
    (r"`?\boverwrite(?:=true)?\b`?(?!-)", "--overwrite"),
    (r"`?\bboxes=\w+\b`?", "--format json"),
    (r"""\b(image)=(["'])(.*?)\2""", r"\2\3\2"),
    (r"Write find_term like .*\(a pattern\)\.", SEARCHES.replace("\\", r"\\")),
    (r"""`?\b(pages|mode|resolution)="([\w,-]+)\"""", r"--\1 \2"),
    (r"""`?\b(pages|mode|resolution)=(["']?)(?=[^\s"'])""", r"--\1 \2"),
    (rf"""`?\b({"|".join(_FLAGS)})=(["']?)(?=[^\s"'])""", lambda match: f"{_FLAGS[match[1]]} {match[2]}"),
    (rf"`?\b({'|'.join(_FLAGS)})\b`?", lambda match: _FLAGS[match[1]]),
    (r"`(pages|mode|resolution)`", r"--\1"),
    (r"`image`", "FILE"),
)
_RULES: Final = [(re.compile(pattern), words) for pattern, words in _PHRASES]


def for_terminal(text: str) -> str:
    """A message or a remedy with flags and commands in the place of arguments and tools."""
    for pattern, words in _RULES:
        text = pattern.sub(words, text)
    return text

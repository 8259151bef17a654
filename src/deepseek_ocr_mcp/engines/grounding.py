"""Reads what Unlimited-OCR and LightOnOCR-3 write around their text. Never raises; work grows with the length only.

Unlimited-OCR: `<|det|>label [x1, y1, x2, y2]<|/det|>text`, coordinates from 0 to 999 over the page.
LightOnOCR-3: `![label](x1,y1,x2,y2) text`, from 0 to 1000; `label+` goes on with the block before.

A marker is exactly that, or it is text of the page. Text that looks like a picture in Markdown is escaped: a page could
print one, and whoever shows the Markdown would fetch it. The other models write their text and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .base import Finish, PageImage, PageText, TextBlock
from .markup import BLANK_LINES, FIGURE_LABELS, figure_mark, pixel_span
from .vision_models import MarkupKind

__all__ = ["parse_page"]

NUMBER: Final = r"[ \t]{0,3}([0-9]{1,4})[ \t]{0,3}"
BOX: Final = f"{NUMBER},{NUMBER},{NUMBER},{NUMBER}"
LABEL: Final = r"([A-Za-z_][\w-]{0,40})(\+?)"
UNLIMITED: Final = re.compile(rf"<\|det\|>[ \t]{{0,3}}{LABEL}[ \t]{{1,3}}\[{BOX}\]<\|/det\|>", re.ASCII)
GROUNDING: Final = re.compile(rf"!\[{LABEL}\]\({BOX}\)", re.ASCII)
LEFT_OVER: Final = re.compile(r"<\|/?(?:det|ref|grounding)\|>|<PAGE>")
PICTURE: Final = re.compile(r"!(?=\[)")
FIGURES: Final = FIGURE_LABELS - {"chart"}  # of a chart the model writes the data


@dataclass(frozen=True, slots=True)
class _GroundedBlock:
    """A marker, and the text up to the next one; without a label: text before the first."""

    label: str
    goes_on: bool
    box: tuple[int, int, int, int]
    text: str


def parse_page(
    kind: MarkupKind, page: PageImage, written: str, finish: Finish, *, is_markdown: bool = True
) -> PageText:
    """A model's own words about a page as text and blocks.

    Args:
        kind: of markup; not `deepseek`, which `markup` reads.
        page: whose pixels the boxes are in.
        written: the model's words.
        finish: why it ended.
        is_markdown: whether the text is shown as Markdown.
    """
    if kind == "plain":
        text = _without_pictures(written) if is_markdown else written
        return PageText(text.strip(), (), finish, raw=written)
    marker, scale = (UNLIMITED, 999) if kind == "unlimited" else (GROUNDING, 1000)
    parts: list[str] = []
    blocks: list[TextBlock] = []
    figures = 0
    for block in _blocks(marker, written):
        text = block.text
        if block.label:
            x1, y1, x2, y2 = block.box
            left, right = pixel_span(x1, x2, page.width, scale)
            top, bottom = pixel_span(y1, y2, page.height, scale)
            blocks.append(TextBlock(block.label, text, (left, top, right, bottom)))
            if block.label in FIGURES:
                figures += 1
                text = f"{figure_mark(figures)}\n\n{text}".rstrip()
        if text and block.goes_on and parts:
            parts[-1] += f" {text}"
        elif text:
            parts.append(text)
    return PageText("\n\n".join(parts), tuple(blocks), finish, raw=written)


def _blocks(marker: re.Pattern[str], written: str) -> Iterator[_GroundedBlock]:
    matches = list(marker.finditer(written))
    first = matches[0].start() if matches else len(written)
    yield _GroundedBlock("", False, (0, 0, 0, 0), _clean(written[:first]))
    for index, match in enumerate(matches):
        end = matches[index + 1].start() if index + 1 < len(matches) else len(written)
        x1, y1, x2, y2 = (int(number) for number in match.groups()[2:])
        yield _GroundedBlock(match[1].lower(), bool(match[2]), (x1, y1, x2, y2), _clean(written[match.end() : end]))


def _clean(text: str) -> str:
    return BLANK_LINES.sub("\n\n", _without_pictures(LEFT_OVER.sub("", text))).strip()


def _without_pictures(text: str) -> str:
    return PICTURE.sub(r"\\!", text)

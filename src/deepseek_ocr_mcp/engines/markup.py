"""Reads the tags that DeepSeek-OCR writes around what it found. Never raises; work grows with the length only.

`<|ref|>label<|/ref|><|det|>[[x1, y1, x2, y2], …]<|/det|>`, where coordinates run from 0 to 999 over the original
page. The model's own code gives the part in brackets to `eval()`, so that a crafted page runs code; here
it is numbers or it is nothing. Whatever is nested, cut off or out of place loses its tags and stays text.
Tables stay as the model wrote them. A figure leaves the mark `figure_mark(number)` in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .base import Finish, PageImage, PageText, ReadOptions, TextBlock

__all__ = ["FIGURE_LABELS", "Markup", "MarkupBlock", "figure_mark", "page_text", "parse_markup", "pixel_span"]


def page_text(page: PageImage, options: ReadOptions, written: str, finish: Finish, tokens: int | None) -> PageText:
    """The model's own words about a page as text and blocks.

    Args:
        page: whose pixels the boxes are in.
        options: as the model was asked.
        written: the model's words, tags and all.
        finish: why it ended.
        tokens: that it wrote; None where nobody counted.
    """
    inline = {"ocr": True, "find": True, "document": False}.get(options.mode)
    markup = parse_markup(written, page.width, page.height, text_in_ref=inline)
    label = {"ocr": "line", "find": options.find_term}.get(options.mode)
    blocks = [TextBlock(label or block.label, block.text, block.box) for block in markup.blocks]
    return PageText(markup.text, tuple(blocks), finish, raw=written, tokens=tokens)


Box = tuple[int, int, int, int]

SCALE: Final = 999  # the coordinate of the right and the lower edge
FIGURE_LABELS: Final = frozenset({"image", "figure", "chart", "seal", "stamp", "logo", "photo", "picture"})
LAYOUT_LABELS: Final = FIGURE_LABELS | {
    "title", "sub_title", "text", "table", "table_caption", "table_footnote", "image_caption", "figure_caption",
    "formula", "equation", "interline_equation", "formula_caption", "header", "footer", "page_number", "page_footnote",
    "footnote", "list", "list_item", "caption", "reference", "code", "code_caption", "abstract", "author",
}  # fmt: skip
LONGEST_LABEL: Final = 64  # characters; more than that is text

TAGS: Final = re.compile(r"<\|(/?(?:ref|det)|grounding)\|>")
# Possessive, so that no run of blanks is walked twice.
NUMBER: Final = r"\s*+(-?[0-9]{1,6}+)(?:\.[0-9]{0,9}+)?+\s*+"
BOX: Final = re.compile(rf"\[{NUMBER},{NUMBER},{NUMBER},{NUMBER}\]")
NOTHING_BUT_NUMBERS: Final = re.compile(r"[\s,\[\]0-9.\-]*+")
BLANK_LINES: Final = re.compile(r"\n(?:[ \t]*+\n){2,}+")
SYMBOLS: Final = {"\\coloneqq": ":=", "\\eqqcolon": "=:"}  # as upstream's run_dpsk_ocr_image.py replaces them


@dataclass(frozen=True, slots=True)
class MarkupBlock:
    """A piece of the page. `box` is in pixels of the page, origin top left, at least one pixel large."""

    label: str
    text: str
    box: Box
    figure: int | None = None
    """The number in this region's mark, from 1; None for a region that is no figure."""


@dataclass(frozen=True, slots=True)
class Markup:
    """A page's text, and its blocks with their places."""

    text: str
    """Markdown without a tag."""
    blocks: tuple[MarkupBlock, ...]

    @property
    def figures(self) -> tuple[MarkupBlock, ...]:
        """The regions to cut out, in the order of their marks."""
        return tuple(block for block in self.blocks if block.figure is not None)


@dataclass(slots=True)
class _TaggedPiece:
    """A ref with its boxes, and the text up to the next one."""

    label: str | None = None
    boxes: tuple[Box, ...] = ()
    text: str = ""


def figure_mark(number: int) -> str:
    """What stands in the text where figure `number` belongs: invisible once rendered, easy to replace."""
    return f"<!-- figure {number} -->"


def parse_markup(raw: str, width: int, height: int, *, text_in_ref: bool | None = None) -> Markup:
    """The text and the blocks of one page.

    Args:
        raw: what the model wrote, whatever it wrote.
        width: of the page in pixels; `height` too.
        text_in_ref: True where a ref holds the text itself (modes `ocr` and `find`), False where it names the kind
            of what follows (mode `document`); None to tell by the labels.
    """
    pieces = list(_pieces(raw, width, height))
    if text_in_ref is None:
        text_in_ref = _refs_are_text(pieces)
    parts: list[str] = []
    blocks: list[MarkupBlock] = []
    figures = 0
    for piece in pieces:
        label = (piece.label or "").strip()
        if piece.label is None:
            parts.append(piece.text)
        elif text_in_ref:
            parts += [label, piece.text]
            blocks += [MarkupBlock("line", label, box) for box in piece.boxes]
        else:
            marks = []
            for index, box in enumerate(piece.boxes):
                is_figure = label.lower() in FIGURE_LABELS
                if is_figure:
                    figures += 1
                    marks.append(figure_mark(figures))
                # The text is there once, however many boxes share it.
                text = "" if index else _clean(piece.text)
                blocks.append(MarkupBlock(label, text, box, figures if is_figure else None))
            if len(label) > LONGEST_LABEL:
                parts.append(label)
            parts += ["\n".join(marks), piece.text]
    return Markup(_clean("".join(parts)), tuple(blocks))


def _pieces(raw: str, width: int, height: int) -> Iterator[_TaggedPiece]:
    """One pass over the tags. A tag that nothing fits is dropped, and what it would have held is text."""
    piece, texts = _TaggedPiece(), [""]
    open_tag = ""  # ref or det while one is open
    only_blanks = False  # since the ref was closed
    at = 0
    for match in (*TAGS.finditer(raw), None):
        tag = match[1] if match else "end"
        between = raw[at : match.start() if match else len(raw)]
        at = match.end() if match else at
        if open_tag == "ref" and tag in ("/ref", "end"):
            piece.text = "".join(texts)
            yield piece
            piece, texts, only_blanks = _TaggedPiece(label=between), [], True
        elif open_tag == "det" and NOTHING_BUT_NUMBERS.fullmatch(between):
            piece.boxes = tuple(_boxes(between, width, height))
        else:
            texts.append(between)
            only_blanks = only_blanks and not between.strip()
        open_tag = tag if tag == "ref" or (tag == "det" and only_blanks and not piece.boxes) else ""
    piece.text = "".join(texts)
    yield piece


def _boxes(numbers: str, width: int, height: int) -> Iterator[Box]:
    """All that is whole of a list that may be cut off."""
    for match in BOX.finditer(numbers):
        x1, y1, x2, y2 = (int(number) for number in match.groups())
        left, right = pixel_span(x1, x2, width)
        top, bottom = pixel_span(y1, y2, height)
        yield left, top, right, bottom


def pixel_span(first: int, second: int, size: int, scale: int = SCALE) -> tuple[int, int]:
    """Pixels from and to along an axis: every pixel that is touched, one at least.

    Args:
        first: a coordinate; `second` is the other, in any order.
        size: of the page along the axis, in pixels.
        scale: the coordinate of the far edge.
    """
    low, high = min(first, second), max(first, second)
    start = min(max(low * size // scale, 0), size - 1)
    return start, min(max(-(-high * size // scale), start + 1), size)


def _clean(text: str) -> str:
    for symbol, meaning in SYMBOLS.items():
        text = text.replace(symbol, meaning)
    return BLANK_LINES.sub("\n\n", text).strip()


def _refs_are_text(pieces: list[_TaggedPiece]) -> bool:
    """Where nothing follows any ref, and the labels are not those of a layout, they are the text."""
    refs = [piece for piece in pieces if piece.label is not None]
    if any(piece.text.strip() for piece in refs):
        return False
    return not all((piece.label or "").strip().lower() in LAYOUT_LABELS for piece in refs)

"""Writes hOCR 1.2: pages, areas, paragraphs, lines and words with boxes, angles and confidence.

Source: the specification at https://kba.github.io/hocr-spec/1.2/.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ... import __version__
from .elements import xml_text
from .placing import PlacedBlock, PlacedLine, Rectangle, placed_blocks

__all__ = ["hocr_document"]

CAPABILITIES: Final = "ocr_page ocr_carea ocr_par ocr_line ocr_photo ocrx_word ocrp_wconf"


def hocr_document(pages: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """The pages as XHTML with the classes and properties of hOCR. Boxes are pixels of the page.

    A word has the confidence of its line (`x_wconf`, 0 to 100) where an engine read it. The text layer of a PDF is no
    guess and has none.
    """
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" '
        '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">',
        '<html xmlns="http://www.w3.org/1999/xhtml">',
        f"<head><title>{_escaped(title)}</title>",
        '<meta http-equiv="Content-Type" content="text/html;charset=utf-8"/>',
        f'<meta name="ocr-system" content="deepseek-ocr-mcp {__version__}"/>',
        f'<meta name="ocr-capabilities" content="{CAPABILITIES}"/>',
        f'<meta name="ocr-number-of-pages" content="{len(pages)}"/></head>',
        "<body>",
    ]
    for place, page in enumerate(pages, start=1):
        parts += _page(page, int(page.get("page") or place), place)
    return "\n".join([*parts, "</body></html>", ""]).encode()


def _page(page: Mapping[str, Any], number: int, place: int) -> Iterator[str]:
    box = (0, 0, float(page["width"]), float(page["height"]))
    yield f'<div class="ocr_page" id="page_{place}" title="{_box(box)}; ppageno {number - 1}">'
    for count, block in enumerate(placed_blocks(page), start=1):
        yield from _block(block, f"{place}_{count}")
    yield "</div>"


def _block(block: PlacedBlock, number: str) -> Iterator[str]:
    if not block.lines:
        yield f'<div class="ocr_photo" id="photo_{number}" title="{_box(block.box)}"></div>'
        return
    box = _box(block.box)
    yield f'<div class="ocr_carea" id="block_{number}" title="{box}">'
    yield f'<p class="ocr_par" id="par_{number}" title="{box}">'
    for count, line in enumerate(block.lines, start=1):
        yield _line(line, f"{number}_{count}")
    yield "</p></div>"


def _line(line: PlacedLine, number: str) -> str:
    angle = -line.angle % 360  # hOCR counts against the clock
    turned = f"; textangle {angle:g}" if angle and not line.vertical else ""
    confidence = "" if line.score is None else f"; x_wconf {round(100 * min(1.0, max(0.0, line.score)))}"
    words = "".join(
        f'<span class="ocrx_word" id="word_{number}_{count}" title="{_box(word.box)}{confidence}">'
        f"{_escaped(word.text)}</span>{' ' if word.spaced else ''}"
        for count, word in enumerate(line.words, start=1)
    )
    return f'<span class="ocr_line" id="line_{number}" title="{_box(line.box)}{turned}">{words}</span>'


def _box(box: Rectangle) -> str:
    return "bbox " + " ".join(str(max(0, round(value))) for value in box)


def _escaped(text: str) -> str:
    return html.escape(xml_text(text))

"""Writes ALTO 4 XML: blocks, lines and words with boxes, rotation and confidence.

Source: the schema at https://www.loc.gov/standards/alto/, whose order of elements this module keeps.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ... import __version__
from .elements import xml_text
from .placing import PlacedBlock, PlacedLine, PlacedWord, Rectangle, placed_blocks

__all__ = ["alto_xml"]

NAMESPACE: Final = "http://www.loc.gov/standards/alto/ns-v4#"
SCHEMA: Final = "https://www.loc.gov/standards/alto/v4/alto-4-4.xsd"


def alto_xml(pages: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """The pages as ALTO. The unit is the pixel of the page; `title` is the name of the source.

    A word has the confidence of its line (`WC`, 0 to 1) where an engine read it. The text layer of a PDF is no guess
    and has none.
    """
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<alto xmlns="{NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{NAMESPACE} {SCHEMA}" SCHEMAVERSION="4.4">',
        "<Description><MeasurementUnit>pixel</MeasurementUnit>",
        f"<sourceImageInformation><fileName>{_escaped(title)}</fileName></sourceImageInformation>",
        '<Processing ID="processing_1"><processingSoftware><softwareCreator>The deepseek-ocr-mcp developers'
        f"</softwareCreator><softwareName>deepseek-ocr-mcp</softwareName><softwareVersion>{__version__}"
        "</softwareVersion></processingSoftware></Processing></Description>",
        "<Layout>",
    ]
    for place, page in enumerate(pages, start=1):
        parts += _page(page, int(page.get("page") or place), place)
    return "\n".join([*parts, "</Layout></alto>", ""]).encode()


def _page(page: Mapping[str, Any], number: int, place: int) -> Iterator[str]:
    box = _box((0, 0, float(page["width"]), float(page["height"])))
    size = f'WIDTH="{page["width"]}" HEIGHT="{page["height"]}"'
    yield f'<Page ID="page_{place}" PHYSICAL_IMG_NR="{number}" {size}><PrintSpace {box}>'
    for count, block in enumerate(placed_blocks(page), start=1):
        yield from _block(block, f"{place}_{count}")
    yield "</PrintSpace></Page>"


def _block(block: PlacedBlock, number: str) -> Iterator[str]:
    if not block.lines:
        yield f'<Illustration ID="illustration_{number}" {_box(block.box)}/>'
        return
    angle = -block.lines[0].angle % 360  # ALTO counts against the clock
    turned = f' ROTATION="{angle:g}"' if angle and not block.lines[0].vertical else ""
    yield f'<TextBlock ID="block_{number}" {_box(block.box)}{turned}>'
    for count, line in enumerate(block.lines, start=1):
        yield _line(line, f"{number}_{count}")
    yield "</TextBlock>"


def _line(line: PlacedLine, number: str) -> str:
    parts = []
    for count, word in enumerate(line.words, start=1):
        confidence = "" if line.score is None else f' WC="{min(1.0, max(0.0, line.score)):.3f}"'
        parts.append(
            f'<String ID="word_{number}_{count}" CONTENT="{_escaped(word.text)}" {_box(word.box)}{confidence}/>'
        )
        if word.spaced and count < len(line.words):
            parts.append(_space(word, line.words[count]))
    return f'<TextLine ID="line_{number}" {_box(line.box)}>{"".join(parts)}</TextLine>'


def _space(word: PlacedWord, after: PlacedWord) -> str:
    left, right = sorted((min(word.box[2], after.box[2]), max(word.box[0], after.box[0])))
    top, width = min(word.box[1], after.box[1]), round(right) - round(left)
    return f'<SP WIDTH="{width}" HPOS="{max(0, round(left))}" VPOS="{max(0, round(top))}"/>'


def _box(box: Rectangle) -> str:
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    width, height = max(0, round(box[2]) - left), max(0, round(box[3]) - top)
    return f'HPOS="{left}" VPOS="{top}" WIDTH="{width}" HEIGHT="{height}"'


def _escaped(text: str) -> str:
    return html.escape(xml_text(text))

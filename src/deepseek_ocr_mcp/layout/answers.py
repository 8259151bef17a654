"""Makes the text and the blocks of each mode from a reading. It takes milliseconds and no picture."""

from __future__ import annotations

from typing import Any

from .find import find_term
from .lines import NO_SPACES, Quad, TextLine
from .reading import Reading, Section, angle_of, bounds, part_of, quad_of, words_of
from .writing import rows_around, to_markdown, to_text

__all__ = ["BlockFields", "answer", "hits"]

BlockFields = dict[str, Any]
"""A piece of a page as JSON, with the fields of a block in an answer: `label`, `text`, `box`, `score`, `source`,
`angle`, `vertical`, and `words` with `text` and `box`. A field that has nothing to say is left out."""


def answer(reading: Reading, *, is_markdown: bool) -> tuple[str, list[BlockFields]]:
    """The whole page: its text, and a block for each line in reading order.

    Args:
        reading: the reading of the page.
        is_markdown: whether the text is Markdown, and the labels are kinds of elements; else plain text and lines.
    """
    chunks: list[str] = []
    blocks: list[BlockFields] = []
    for section in reading.sections:
        chunks.append((to_markdown if is_markdown else to_text)(section.lines, section.elements))
        for element in section.elements:
            lines = (section.lines[index] for index in element.lines)
            blocks += [_line_block(reading, element.kind if is_markdown else "line", line) for line in lines]
    return "\n\n".join(chunk for chunk in chunks if chunk), blocks


def hits(reading: Reading, term: str) -> tuple[str, list[BlockFields]]:
    """Where the term of a search stands: the rows of the page with a hit, and a block for each part of a hit in a line.

    Whole rows, because the amount that belongs to "Total" is a line of its own at the other edge.
    """
    chunks: list[str] = []
    blocks: list[BlockFields] = []
    for section in reading.sections:
        text, found = _hits_in(reading, section, term)
        chunks.append(text)
        blocks += found
    return "\n".join(chunk for chunk in chunks if chunk), blocks


def _hits_in(reading: Reading, section: Section, term: str) -> tuple[str, list[BlockFields]]:
    found = find_term(section.lines, term, section.order)
    blocks = []
    for term, span in ((hit.term, span) for hit in found for span in hit.spans):
        line = section.lines[span.line]
        block = _block(reading, line, part_of(line, span.start, span.stop))
        blocks.append({"label": term, "text": line.text[span.start : span.stop], **block})
    groups = [[span.line for span in hit.spans] for hit in found]
    return rows_around(section.lines, section.elements, groups), blocks


def _line_block(reading: Reading, label: str, line: TextLine) -> BlockFields:
    words = [{"text": line.text[word.start : word.stop], "box": _box(reading, word.quad)} for word in words_of(line)]
    return {"label": label, "text": line.text.strip(), **_block(reading, line, quad_of(line)), "words": words}


def _block(reading: Reading, line: TextLine, quad: Quad) -> BlockFields:
    """The fields of a block that say where it is, and how sure the engine is of it."""
    block: BlockFields = {"box": _box(reading, quad)}
    if line.source != "text_layer":
        block["score"] = round(line.score, 3)
    if reading.is_mixed and line.source:
        block["source"] = line.source
    if line.vertical and 2 * len(NO_SPACES.findall(line.text)) >= len(line.text):  # Latin letters are turned
        block["vertical"] = True
    elif angle := round(angle_of(quad), 1) % 360:
        block["angle"] = angle
    return block


def _box(reading: Reading, quad: Quad) -> list[int]:
    return list(bounds(quad, reading.width, reading.height))

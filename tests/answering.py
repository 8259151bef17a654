"""What a mode makes of a reading: of an engine of lines, or of the text layer of a PDF page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepseek_ocr_mcp.documents.reader import LayerText
from deepseek_ocr_mcp.engines.base import PageText, Reading, ReadOptions, TextBlock
from deepseek_ocr_mcp.layout.answers import BlockFields, answer, hits
from deepseek_ocr_mcp.layout.lines import TextLine
from deepseek_ocr_mcp.modes import MODES
from deepseek_ocr_mcp.service.work import reading_of


def _in_mode(reading: Reading, mode: str, term: str) -> tuple[str, list[BlockFields]]:
    return hits(reading, term) if mode == "find" else answer(reading, is_markdown=MODES[mode].is_markdown)


def page_text(reading: Reading, options: ReadOptions) -> PageText:
    """The text and the blocks of a reading in the mode of these options."""
    text, blocks = _in_mode(reading, options.mode, options.find_term)
    found = [TextBlock(block["label"], block["text"], tuple(block["box"]), block["score"]) for block in blocks]
    return PageText(text, found, remark=reading.remark)


@dataclass(frozen=True)
class LayerAnswer:
    """The text layer of a page, and what a mode makes of it."""

    layer: LayerText
    text: str
    blocks: list[BlockFields]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)


def layer_answer(layer: LayerText, mode: str = "document", term: str = "") -> LayerAnswer:
    """The answer of a mode; empty where the text layer is not usable."""
    if layer.reading is None:
        return LayerAnswer(layer, "", [])
    reading = reading_of(layer.reading)
    return LayerAnswer(layer, *_in_mode(reading, mode, term))


def layer_of(text: str, **more: Any) -> LayerText:
    """A usable text layer of one line that says `text`."""
    size = more.pop("size", (10, 10))
    reading = Reading.of(*size, [TextLine(text, (0.0, 0.0, *map(float, size)), source="text_layer")])
    return LayerText(*size, reading.to_dict(), usable=True, **more)

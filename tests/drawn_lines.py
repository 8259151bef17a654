"""Lines of text drawn with numbers: letters as wide as print has them, rows as high."""

from __future__ import annotations

from itertools import pairwise

from deepseek_ocr_mcp.layout.lines import TextLine

WIDTHS = {**dict.fromkeys(" ijl.,:;'|!", 0.26), **dict.fromkeys('ftrI()[]-"/', 0.34), **dict.fromkeys("mMW@%", 0.87)}


def wide(char: str) -> float:
    """The width of a character in ems."""
    if ord(char) > 0x2E80:
        return 1.0
    return WIDTHS.get(char, 0.68 if char.isupper() or char == "w" else 0.52)


def written(text: str, x: float, y: float, size: float = 20, *, stretched: float = 1.0, mono: bool = False) -> TextLine:
    """A line of type of that size whose ink begins at `x` and `y`."""
    widths = [(0.6 if mono else wide(char)) * size * (stretched if char == " " else 1.0) for char in text]
    length = sum(widths) or 1.0
    ends = [sum(widths[:n]) for n in range(len(text) + 1)]
    centres = tuple((a + b) / 2 / length for a, b in pairwise(ends))
    return TextLine(text, (x, y, x + length, y + size * 0.8), 0.99, centres)


def paragraph(texts: list[str], x: float, y: float, size: float = 20, leading: float = 1.35) -> list[TextLine]:
    """Lines under each other."""
    return [written(text, x, y + n * size * leading, size) for n, text in enumerate(texts)]


def vertical(text: str, x: float, y: float, size: float = 20) -> TextLine:
    """A line from top to bottom."""
    count = len(text)
    return TextLine(
        text, (x, y, x + size, y + size * count), 0.99, tuple((n + 0.5) / count for n in range(count)), True
    )


def row(cells: list[str], lefts: list[float], y: float, size: float = 20) -> list[TextLine]:
    """Cells side by side; empty ones are not there."""
    return [written(cell, x, y, size) for cell, x in zip(cells, lefts, strict=True) if cell]

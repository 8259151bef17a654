"""Boxes drawn on a page, one colour per label, so that a person sees what was found where.

Never fails over what a box or a label holds: a model wrote them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_boxes"]


# Dark enough for white letters (contrast 4.5 and more) and told apart by the colour-blind.
_COLOURS: Final = (
    (0, 95, 175),
    (176, 38, 28),
    (0, 112, 74),
    (133, 62, 160),
    (156, 84, 0),
    (0, 108, 122),
    (176, 30, 110),
    (84, 96, 20),
)
_PLAIN_LABELS: Final = ("", "line", "text")
MAX_LABEL: Final = 24  # characters


def draw_boxes(image: Image.Image, blocks: Sequence[Mapping[str, Any]]) -> Image.Image:
    """A copy of an RGB page with each block's box and number, and its label where it says something.

    Args:
        blocks: `label` and `box` (x1, y1, x2, y2 in pixels of `image`) of each; one without area
            or without finite numbers is left out, but counted.
    """
    page = image.convert("RGB")
    draw = ImageDraw.Draw(page)
    longest = max(page.size)
    line = max(1, round(longest / 800))
    font = ImageFont.load_default(size=max(9, round(longest / 90)))
    colours: dict[str, tuple[int, int, int]] = {}
    placed = []
    for number, block in enumerate(blocks, start=1):
        box = _clipped(block.get("box"), page.size)
        if box is not None:
            label = str(block.get("label") or "")
            colour = colours.setdefault(label, _COLOURS[len(colours) % len(_COLOURS)])
            label = _latin(label)
            draw.rectangle(box, outline=colour, width=line)
            text = str(number) if label.lower() in _PLAIN_LABELS else f"{number} {label}"
            placed.append((box, colour, text))
    # Tags come last, so that no later box crosses them.
    for (left, top, _, _), colour, text in placed:
        _, _, x2, y2 = draw.textbbox((0, 0), text, font=font)
        width, height = math.ceil(x2) + 2 * line, math.ceil(y2) + 2 * line
        x = max(0, min(left, page.width - width))
        y = top - height if top >= height else top
        draw.rectangle((x, y, x + width, y + height), fill=colour)
        draw.text((x + line, y + line), text, fill="white", font=font)
    return page


def _clipped(box: Any, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    try:
        x1, y1, x2, y2 = (float(value) for value in box)
        left, right = sorted(min(max(x, 0.0), size[0] - 1.0) for x in (x1, x2))
        top, bottom = sorted(min(max(y, 0.0), size[1] - 1.0) for y in (y1, y2))
        clipped = (round(left), round(top), round(right), round(bottom))
    except (TypeError, ValueError, OverflowError):
        return None
    return clipped if clipped[2] > clipped[0] and clipped[3] > clipped[1] else None


def _latin(label: str) -> str:
    """What the built-in font can write. A number alone is better than a row of empty boxes."""
    label = " ".join(label.split())
    readable = all(char.isprintable() and ord(char) < 0x180 for char in label)
    if not readable:
        return ""
    return label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 3]}..."

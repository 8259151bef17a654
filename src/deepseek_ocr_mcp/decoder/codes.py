"""Finds QR codes and barcodes on a page that was drawn, with zxing-cpp: an extra, which only this module needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import zxingcpp

from .encode import open_page_image

__all__ = ["codes_on"]

MOST: Final = 200  # codes of a page: a sheet of labels has 65
CONTENT_CHARS: Final = 8000  # of a code; the largest QR code has 7,089 digits


def codes_on(path: str, size: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The codes on a page: `symbology` (`QR Code`, `EAN-13` …), `text` and `box` in pixels, from the top down.

    Args:
        path: the page, as `render` writes it.
        size: its `width` and `height`.
    """
    grey = np.asarray(open_page_image(path, size).convert("L"))
    found = [_fields(code, size) for code in zxingcpp.read_barcodes(grey) if code.text]
    return sorted(found, key=lambda code: (code["box"][1], code["box"][0]))[:MOST]


def _fields(code: Any, size: Mapping[str, Any]) -> dict[str, Any]:
    place = code.position
    corners = (place.top_left, place.top_right, place.bottom_right, place.bottom_left)
    xs = [min(max(corner.x, 0), size["width"]) for corner in corners]
    ys = [min(max(corner.y, 0), size["height"]) for corner in corners]
    return {
        "symbology": str(code.format),
        "text": code.text[:CONTENT_CHARS],
        "box": [min(xs), min(ys), max(xs), max(ys)],
    }

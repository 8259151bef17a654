"""Encodes page images as PNG or JPEG: previews, pages for a remote model, pages of a PDF."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, Final

from PIL import Image
from PIL import Image as PilImage

__all__ = ["encoded_small", "encoded_to_send", "open_page_image", "read_json", "shrunk"]

PREVIEW_BYTES: Final = 1_500_000  # base64 of it still fits a client's message
PREVIEW_QUALITIES: Final = (85, 70, 50, 30)

SENT_EXACT_BYTES: Final = 2_000_000  # of a page on its way to an endpoint
SENT_QUALITY: Final = 95


def open_page_image(path: str, size: Mapping[str, Any]) -> PilImage.Image:
    """A page that was drawn."""
    with open(path, "rb") as file:
        return Image.frombytes("RGB", (int(size["width"]), int(size["height"])), file.read())


def shrunk(image: PilImage.Image, side: int) -> PilImage.Image:
    """With a longer side of `side` pixels; as it is, if that is shorter."""
    factor = side / max(image.size)
    if factor >= 1:
        return image
    small = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(small, Image.Resampling.LANCZOS, reducing_gap=2.0)


def read_json(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def encoded_small(image: PilImage.Image) -> tuple[str, bytes]:
    """PNG or JPEG, whichever is smaller: flat pages suit the one, photographs the other."""

    def encoded(kind: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    png, jpeg = encoded("PNG"), encoded("JPEG", quality=PREVIEW_QUALITIES[0])
    if len(png) <= min(len(jpeg), PREVIEW_BYTES):
        return "image/png", png
    for quality in PREVIEW_QUALITIES[1:]:
        if len(jpeg) <= PREVIEW_BYTES:
            break
        jpeg = encoded("JPEG", quality=quality)
    return "image/jpeg", jpeg


def encoded_to_send(image: PilImage.Image) -> tuple[str, bytes]:
    """PNG, which is exact, where that is small as drawn pages are; JPEG where it is not, as of scans."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)  # a third of the time of 6, for a fifth more bytes
    if buffer.tell() <= SENT_EXACT_BYTES:
        return "image/png", buffer.getvalue()
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=SENT_QUALITY, subsampling=0)
    return "image/jpeg", buffer.getvalue()

"""Draws a PDF page with and without some of its text, as fast as a measurement needs it.

A drawing is an array of `height * width * 4` bytes (blue, green, red, unused) on white. PDFium stops between two
objects when the time of the `Clock` is over: `TooMuch` is raised then, and the page is read instead.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pypdfium2.raw as raw

from .content import Clock, TooMuch

__all__ = ["PixelBox", "Pixels", "activate", "difference", "draw", "give_appearances", "scale_for"]

Pixels = npt.NDArray[np.uint8]
PixelBox = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of a drawing, pixels."""

DPI: Final = 100.0  # 72 and 150 change 2 % of the pages of public suites; half the dpi lose thin strokes
MAX_SIDE: Final = 2_600  # pixels of the longer side; a poster is measured more coarsely, its letters are larger


def scale_for(width: float, height: float) -> float:
    """Pixels per point at which a page of that size, in points, is measured."""
    return min(DPI / 72, MAX_SIDE / max(width, height, 1.0))


def draw(page: Any, scale: float, clock: Clock, part: PixelBox | None = None) -> Pixels:
    """Draw a page with its annotations, or a part of it.

    The page above a part and on its left is drawn, too, and left out: where PDFium draws at an offset, some glyphs snap
    to other pixels, and three of 625 public pages got letters that nobody sees.

    Args:
        page: the open pypdfium2 page.
        scale: pixels per point.
        clock: bounds the time.
        part: the part to draw; None: the whole page.

    Raises:
        TooMuch: drawing it takes longer than the clock allows.
    """
    width = max(1, math.ceil(page.get_width() * scale))
    height = max(1, math.ceil(page.get_height() * scale))
    left, top, right, bottom = part or (0, 0, width, height)
    pixels = np.full((bottom, right, 4), 255, np.uint8)
    bitmap = raw.FPDFBitmap_CreateEx(*pixels.shape[1::-1], raw.FPDFBitmap_BGRx, pixels.ctypes.data, pixels.strides[0])
    if not bitmap:
        raise TooMuch("the page is too large to be drawn")
    pause = raw.IFSDK_PAUSE(version=1)
    pause.NeedToPauseNow = type(pause.NeedToPauseNow)(lambda _: clock.is_over)
    try:
        place = (0, 0, width, height, 0, raw.FPDF_ANNOT)
        state = raw.FPDF_RenderPageBitmap_Start(bitmap, page, *place, ctypes.byref(pause))
        raw.FPDF_RenderPage_Close(page)
    finally:
        raw.FPDFBitmap_Destroy(bitmap)
    if state == raw.FPDF_RENDER_TOBECONTINUED:
        raise TooMuch("the page takes too long to draw")
    return pixels[top:, left:]


def difference(one: Pixels, other: Pixels) -> Pixels:
    """How much two drawings differ at each pixel, in the channel that differs most."""
    height, width = one.shape[:2]
    out = np.zeros(height * width, np.uint8)
    a, b = one.view(np.uint32).ravel(), other.view(np.uint32).ravel()  # twenty times as fast to take from as rows of 4
    changed = np.flatnonzero(a != b)
    if len(changed):
        x, y = (side[changed].view(np.uint8).reshape(-1, 4) for side in (a, b))
        apart = np.maximum(x, y) - np.minimum(x, y)
        out[changed] = np.maximum(np.maximum(apart[:, 0], apart[:, 1]), apart[:, 2])
    return out.reshape(height, width)


def give_appearances(page: Any) -> None:
    """Have PDFium make the appearances of annotations that have none, as every drawing of the page does first.

    The drawing itself stops at its first object. Flattening leaves out what has no appearance.
    """
    bitmap = raw.FPDFBitmap_Create(1, 1, 0)
    if not bitmap:
        return
    pause = raw.IFSDK_PAUSE(version=1)
    pause.NeedToPauseNow = type(pause.NeedToPauseNow)(lambda _: True)
    try:
        raw.FPDF_RenderPageBitmap_Start(bitmap, page, 0, 0, 1, 1, 0, raw.FPDF_ANNOT, ctypes.byref(pause))
        raw.FPDF_RenderPage_Close(page)
    finally:
        raw.FPDFBitmap_Destroy(bitmap)


def activate(items: Iterable[Any], active: bool) -> None:
    """Have these page objects drawn from now on, or not."""
    for item in items:
        raw.FPDFPageObj_SetIsActive(item, active)

"""Draws the pages of a PDF with PDFium, in bands where a page is large."""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Iterator
from typing import Any, Final

import pypdfium2
import pypdfium2.raw as raw

from ..engines.base import Call, ReadOptions
from ..errors import InputTooLarge, OcrError, UnreadableInput
from .formats import check_page, check_smallest, too_many_pages, write_file

__all__ = ["PdfDocument"]

MIN_PDF_DPI: Final = 10.0  # a page that needs less to fit is hundreds of metres wide: a mistake or an attack
MAX_BAND_BYTES: Final = 64 << 20  # of a PDF page that is drawn at once; A4 at 200 dpi has 12 MB


class PdfDocument:
    format = "PDF"
    only_page = False

    def __init__(self, path: str, name: str) -> None:
        self._name = name
        self._path = path
        try:
            self._pdf = pypdfium2.PdfDocument(path)
        except pypdfium2.PdfiumError as exc:
            if exc.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
                raise UnreadableInput(
                    f"{name} is encrypted and asks for a password.",
                    remedy="Remove the password first, for instance: `qpdf --decrypt --password=… IN OUT`.",
                ) from None
            raise
        with contextlib.suppress(pypdfium2.PdfiumError):
            self._pdf.init_forms()  # without it, what was typed into a form is not drawn

    @property
    def pdf(self) -> Any:
        return self._pdf

    def fitted(self, page: int, dpi: float, max_pixels: int) -> tuple[int, int, float]:
        """Width and height in pixels at which this page is drawn, and the dpi that make them."""
        check_page(self._name, page, len(self._pdf))
        points = self._pdf.get_page_size(page - 1)
        width, height, scale = self._sized(page, points[0], points[1], dpi, max_pixels)
        return width, height, scale * 72

    def count(self, max_pages: int) -> int:
        pages = len(self._pdf)
        if pages < 1:
            raise UnreadableInput(f"{self._name} has no pages.", remedy="Export the document again.")
        if pages > max_pages:
            raise too_many_pages(self._name, max_pages)
        return pages

    def check(self, max_pixels: int) -> None:
        """Each page has its own size, and is drawn to fit."""

    def draw(self, page: int, dpi: float, max_pixels: int, out: str, call: Call) -> tuple[int, int]:
        check_page(self._name, page, len(self._pdf))
        opened = self._pdf[page - 1]
        try:
            width, height, scale = self._sized(page, opened.get_width(), opened.get_height(), dpi, max_pixels)
            write_file(out, self._bands(opened, scale, width, height, call))
            return width, height
        finally:
            opened.close()

    @staticmethod
    def _bands(opened: Any, scale: float, width: int, height: int, call: Call) -> Iterator[memoryview]:
        """The page's rows, from band to band: beside a band PDFium holds as much of a picture that it shrinks."""
        row = width * 3
        rows = max(1, MAX_BAND_BYTES // row)
        for top in range(0, height, rows):
            call.raise_if_cancelled()
            below = max(0, height - top - rows)
            # In points, which are rounded up to pixels.
            crop = (0, max(0, below - 0.5) / scale, 0, max(0, top - 0.5) / scale)
            bitmap = opened.render(scale=scale, crop=crop, rev_byteorder=True)
            try:
                with memoryview(bitmap.buffer).cast("B") as view:
                    if bitmap.stride == row:
                        yield view[: row * bitmap.height]
                    else:  # rows are padded to four bytes
                        for start in range(0, bitmap.stride * bitmap.height, bitmap.stride):
                            yield view[start : start + row]
            finally:
                bitmap.close()

    def layer(self, page: int, dpi: float, max_pixels: int, options: ReadOptions, call: Call) -> dict[str, Any]:
        from .textlayer.layer import read_layer

        width, height, _ = self.fitted(page, dpi, max_pixels)
        try:
            found = read_layer(self._pdf, page - 1, self._path, (width, height), options, call.raise_if_cancelled)
        except OcrError:
            raise
        except Exception:  # a damaged text layer is no reason not to draw the page and read it
            traceback.print_exc()
            found = {"text": "", "blocks": [], "usable": False, "why": "its text layer is damaged", "remark": ""}
        return {"width": width, "height": height, **found}

    def _sized(self, page: int, width: float, height: float, dpi: float, max_pixels: int) -> tuple[int, int, float]:
        """Width and height in pixels of a page of so many points, `max_pixels` at most, and pixels per point."""
        name = f"Page {page} of {self._name}"
        if not (math.isfinite(width * height) and width > 0 and height > 0):
            raise UnreadableInput(f"{name} has no size.", remedy="Export the document again.")
        scale = dpi / 72
        if math.ceil(width * scale) * math.ceil(height * scale) > max_pixels:
            # Both sides are rounded up: leave room for a row and a column.
            scale = math.sqrt(max_pixels / (width * height))
            while math.ceil(width * scale) * math.ceil(height * scale) > max_pixels:
                scale *= 0.99
            if scale * 72 < MIN_PDF_DPI:
                raise InputTooLarge(
                    f"{name} is {width / 72:.0f} by {height / 72:.0f} inches large.",
                    remedy="Export the document with a page size that exists on paper.",
                )
        pixels = math.ceil(width * scale), math.ceil(height * scale)
        check_smallest(name, *pixels)
        return *pixels, scale

    def close(self) -> None:
        self._pdf.close()

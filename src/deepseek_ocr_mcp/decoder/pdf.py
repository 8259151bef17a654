"""Draws the pages of a PDF with PDFium, in bands where a page is large."""

from __future__ import annotations

import contextlib
import ctypes
import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pypdfium2
import pypdfium2.raw as raw

from ..engines.base import Call
from ..errors import InputTooLarge, OcrError, PasswordNeeded, UnreadableInput
from .formats import MIN_SIDE, check_page, check_smallest, too_many_pages, write_file
from .textlayer.content import Clock, TooMuch
from .textlayer.forms import holds_unknown_field, opened
from .textlayer.layer import PagePlace, leave_unread, read_layer

__all__ = ["PdfDocument"]

MIN_PDF_DPI: Final = 10.0  # a page that needs less to fit is hundreds of metres wide: a mistake or an attack
MAX_NAMES: Final = 5  # attached files that a note names
NAME_CHARS: Final = 60
MAX_NAME_BYTES: Final = 4_096
MAX_BAND_BYTES: Final = 64 << 20  # of a PDF page that is drawn at once; A4 at 200 dpi has 12 MB


LOCKED_REMEDY: Final = (
    "Set OCR_PDF_PASSWORD where the server is started: it opens one document, and the locked ones of a folder. "
    "Requests over HTTP have the field `password`; `deepseek-ocr-mcp ocr FILE` asks for it. Or save a copy without a "
    "password."
)


class PdfDocument:
    format = "PDF"
    only_page = False

    def __init__(self, path: str, name: str, password: str = "") -> None:
        self._name = name
        self._path = path
        self._pdf, self._password = _opened_pdf(path, name, password)
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

    def notes(self) -> list[str]:
        """Sentences about what the document holds beside its pages, which nobody reads for the caller."""
        notes = []
        if self._pdf.get_formtype() == raw.FORMTYPE_XFA_FULL:
            notes.append(
                "The document is an XFA form, which only Adobe Reader shows; its pages show something in its place."
            )
        if count := raw.FPDFDoc_GetAttachmentCount(self._pdf):
            names = [self._attachment_name(n) for n in range(min(count, MAX_NAMES))]
            listed = ", ".join(name for name in names if name) + (", …" if count > MAX_NAMES else "")
            files = "1 attached file" if count == 1 else f"{count} attached files"
            notes.append(f"The document holds {files}, which {'was' if count == 1 else 'were'} not read: {listed}.")
        if raw.FPDF_GetSignatureCount(self._pdf) > 0:
            notes.append("The document is digitally signed; its signature was not checked.")
        return notes

    def _attachment_name(self, number: int) -> str:
        """The name of an attached file, on one line and short: it is the document's word, not ours."""
        attachment = raw.FPDFDoc_GetAttachment(self._pdf, number)
        size = raw.FPDFAttachment_GetName(attachment, None, 0) if attachment else 0
        if not 2 < size <= MAX_NAME_BYTES:
            return ""
        buffer = ctypes.create_string_buffer(size)
        raw.FPDFAttachment_GetName(attachment, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), size)
        name = buffer.raw[: size - 2].decode("utf-16-le", "replace")
        return "".join(char for char in name if char.isprintable())[:NAME_CHARS]

    def draw(self, page: int, dpi: float, max_pixels: int, out: str, call: Call) -> tuple[int, int]:
        check_page(self._name, page, len(self._pdf))
        with self._drawable(page, call) as drawn:
            width, height, scale = self._sized(page, drawn.get_width(), drawn.get_height(), dpi, max_pixels)
            write_file(out, self._bands(drawn, scale, width, height, call))
            return width, height

    @contextlib.contextmanager
    def _drawable(self, page: int, call: Call) -> Iterator[Any]:
        """The open page, with the fields that PDFium leaves out as a part of it."""
        with contextlib.ExitStack() as stack:
            drawn = stack.enter_context(contextlib.closing(self._pdf[page - 1]))
            if holds_unknown_field(self._pdf, drawn):
                clock = Clock(call.raise_if_cancelled)
                with contextlib.suppress(TooMuch):
                    drawn = stack.enter_context(opened(self._pdf, page - 1, self._path, clock, self._password)).page
            yield drawn

    def draw_unread(self, page: int, dpi: float, max_pixels: int, out: str, call: Call) -> tuple[int, int, int, int]:
        """Write the part of a page that its text layer does not hold, without the text that is certain.

        See `OpenDocument.draw` for the arguments. Returns left, top, right and bottom of that part, in pixels of the
        page as `draw` gives it.
        """
        width, height, exact_dpi = self.fitted(page, dpi, max_pixels)
        scale = exact_dpi / 72
        clock = Clock(call.raise_if_cancelled)
        with opened(self._pdf, page - 1, self._path, clock, self._password) as found:
            x1, y1, x2, y2 = leave_unread(found, call.raise_if_cancelled)
            left, top = min(math.floor(x1 * scale), width - MIN_SIDE), min(math.floor(y1 * scale), height - MIN_SIDE)
            right = min(width, max(math.ceil(x2 * scale), left + MIN_SIDE))
            bottom = min(height, max(math.ceil(y2 * scale), top + MIN_SIDE))
            box = (max(0, left), max(0, top), right, bottom)
            write_file(out, self._bands(found.page, scale, width, height, call, box))
            return box

    @staticmethod
    def _bands(
        page: Any,
        scale: float,
        width: int,
        height: int,
        call: Call,
        box: tuple[int, int, int, int] | None = None,
    ) -> Iterator[memoryview]:
        """The rows of the page or of a box of it, from band to band.

        Beside a band PDFium holds as much of a picture that it shrinks.
        """
        left, first, right, last = box or (0, 0, width, height)
        row = (right - left) * 3
        rows = max(1, MAX_BAND_BYTES // row)
        for top in range(first, last, rows):
            call.raise_if_cancelled()
            around = (left, max(0, height - min(last, top + rows)), width - right, top)
            # In points, which are rounded up to pixels.
            crop = tuple(max(0, pixels - 0.5) / scale for pixels in around)
            bitmap = page.render(scale=scale, crop=crop, rev_byteorder=True)
            try:
                with memoryview(bitmap.buffer).cast("B") as view:
                    if bitmap.stride == row:
                        yield view[: row * bitmap.height]
                    else:  # rows are padded to four bytes
                        for start in range(0, bitmap.stride * bitmap.height, bitmap.stride):
                            yield view[start : start + row]
            finally:
                bitmap.close()

    def layer(
        self, page: int, dpi: float, max_pixels: int, call: Call, read: Sequence[Mapping[str, Any]] | None = None
    ) -> dict[str, Any]:
        width, height, _ = self.fitted(page, dpi, max_pixels)
        place = PagePlace(self._pdf, page - 1, self._path, (width, height), self._password)
        try:
            found = read_layer(place, call.raise_if_cancelled, read)
        except OcrError:
            raise
        except Exception:  # a damaged text layer is no reason not to draw the page and read it
            traceback.print_exc()
            found = {"reading": None, "usable": False, "why": "its text layer is damaged", "remark": ""}
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


def _opened_pdf(path: str, name: str, password: str) -> tuple[pypdfium2.PdfDocument, str]:
    """An open document, and the password that it needed: the password is used only where none does not do.

    PDFium refuses a wrong password even for a document that needs none, as one whose author has forbidden copies.

    Raises:
        PasswordNeeded: the document is locked, and the password is missing or wrong.
        UnreadableInput: it is encrypted in a way that PDFium does not know.
    """
    for tried in dict.fromkeys(("", password)):
        try:
            return pypdfium2.PdfDocument(path, password=tried or None), tried
        except pypdfium2.PdfiumError as exc:
            if exc.err_code == raw.FPDF_ERR_SECURITY:
                raise UnreadableInput(
                    f"{name} is encrypted in a way that is not read.",
                    remedy="Open it in the program that it was made for, and print it to a new PDF.",
                ) from None
            if exc.err_code != raw.FPDF_ERR_PASSWORD:
                raise
    state = "does not open with this password" if password else "is locked with a password"
    raise PasswordNeeded(f"{name} {state}.", remedy=LOCKED_REMEDY)

"""Tells the format of a file by its first bytes, and refuses a file that is too large or not readable.

Every error that a decoding library raises becomes an `OcrError` here.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from ..engines.base import Call
from ..errors import BadRequest, InputTooLarge, OcrError, UnreadableInput, WriteFailed

__all__ = [
    "HEAD_BYTES",
    "MIN_SIDE",
    "OpenDocument",
    "check_page",
    "check_size",
    "check_smallest",
    "decoder_errors",
    "disk_errors",
    "sniff",
    "too_many_pages",
    "unreadable_format",
    "write_file",
]


MIN_SIDE: Final = 4  # pixels; no letter fits in less

HEAD_BYTES: Final = 4096
PCX_HEADER_BYTES: Final = 128
TGA_HEADER_BYTES: Final = 18
MAX_ICONS: Final = 256  # pictures in one file of icons; programs write a dozen

_BMP_HEADERS: Final = (12, 16, 40, 52, 56, 64, 108, 124)
_READ_FORMATS: Final = "PDF, PNG, JPEG, TIFF, WebP, HEIC, AVIF, JPEG 2000, GIF, BMP, PNM, ICO, PCX and TGA"

_TO_PDF: Final = "Convert it to PDF, for instance: `soffice --headless --convert-to pdf FILE`."
_XPS_PARTS: Final = (b".fdseq", b"FixedDocSeq", b"FixedDocumentSequence")
_UNREAD: Final = (
    (0, (b"%!PS", b"\xc5\xd0\xd3\xc6"), "PostScript, which is not read",
     "Convert it to PDF, for instance: `ps2pdf IN OUT.pdf`."),
    (0, (b"PK\x03\x04",), "an Office document, an e-book or another ZIP archive, which is not read", _TO_PDF),
    (0, (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"{\\rtf"), "an Office document, which is not read", _TO_PDF),
    (0, (b"AT&TFORM",), "a DjVu document, which is not read",
     "Convert it to PDF, for instance: `ddjvu -format=pdf IN OUT.pdf`."),
    (128, (b"DICM",), "a DICOM file, which is not read",
     "Take its picture out, for instance: `dcmj2pnm --write-png IN OUT.png`; a PDF in it: `dcm2pdf IN OUT.pdf`."),
    (0, (b"\xd7\xcd\xc6\x9a",), "a Windows metafile (WMF), which is not read", _TO_PDF),
    (40, (b" EMF",), "a Windows metafile (EMF), which is not read", _TO_PDF),
    (0, (b"SIMPLE  =",), "a FITS file of measurements, which is not read",
     "Write its picture as PNG, for instance: `fits2bitmap -o OUT.png IN`."),
    (0, (b"\xff\x0a", b"\0\0\0\x0cJXL "), "a JPEG XL picture, which is not read",
     "Convert it to PNG, for instance: `djxl IN OUT.png`."),
    (0, (b"8BPS",), "a Photoshop file, which is not read", "Export it as PNG and send that."),
    (0, (b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ"), "a compressed archive, which is not read",
     "Unpack it and send a file from it."),
    (0, (b"RIFF", b"\x1aE\xdf\xa3", b"OggS"), "audio or video, which is not read",
     "Save one frame as PNG and send that."),
    (4, (b"ftyp",), "audio or video, which is not read", "Save one frame as PNG and send that."),
)  # fmt: skip
"""Formats that are refused by name: where their first bytes are, these bytes, the name and what to do."""


class OpenDocument(Protocol):
    """An open file. Any method may raise what its library raises; `_translated` is around all of them."""

    format: str

    @property
    def only_page(self) -> bool: ...
    def count(self, max_pages: int) -> int:
        """The number of pages. Raises `InputTooLarge` if it is above `max_pages`."""
        ...

    def check(self, max_pixels: int) -> None:
        """Raise `InputTooLarge` if the header tells more pixels than `max_pixels`. Nothing is decoded."""
        ...

    def notes(self) -> list[str]:
        """A sentence for each thing that the document holds beside its pages."""
        ...

    def draw(self, page: int, dpi: float, max_pixels: int, out: str, call: Call) -> tuple[int, int]:
        """Write a page as `height * width * 3` bytes of upright RGB. Returns its width and height in pixels.

        Args:
            page: its number, from 1.
            dpi: dots per inch of a page that has no pixels of its own.
            max_pixels: the most pixels that the page may have.
            out: the path of the file to write.
            call: tells whether the caller has gone.
        """
        ...

    def layer(
        self, page: int, dpi: float, max_pixels: int, call: Call, read: Sequence[Mapping[str, Any]] | None = None
    ) -> dict[str, Any]:
        """The text that a page holds itself; see `textlayer/layer.py`.

        Args:
            page: its number, from 1.
            dpi: dots per inch at which the page is drawn; boxes are in pixels of that drawing.
            max_pixels: the most pixels that the page may have.
            call: tells whether the caller has gone.
            read: lines that an engine found on the rest of the page, as blocks; None: none were read.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def sniff(head: bytes) -> str | None:
    """The format by its first bytes; what a file is called says nothing."""
    for magic, kind in (
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"II+\0", "TIFF"),
        (b"MM\0+", "TIFF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
        (b"\xff\x4f\xff\x51", "JPEG2000"),
    ):
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = head[8 : max(16, int.from_bytes(head[:4], "big"))]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        if re.search(rb"hei[cxms]|hev[cx]|mif1|msf1", brands):
            return "HEIF"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if re.match(rb"P[1-6f]\s", head):
        return "PNM"
    if head.startswith(b"\0\0\1\0") and 0 < int.from_bytes(head[4:6], "little") <= MAX_ICONS:
        return "ICO"
    if re.match(rb"\n[\x00\x02-\x05]\x01[\x01\x02\x04\x08]", head, re.DOTALL) and len(head) >= PCX_HEADER_BYTES:
        return "PCX"
    if b"%PDF-" in head[:1024]:
        return "PDF"
    return "TGA" if _is_tga(head) else None


def _is_tga(head: bytes) -> bool:
    """TGA has no mark of its own: every field of its header has to make sense."""
    if len(head) <= TGA_HEADER_BYTES:
        return False
    _, mapped, kind, first, colours, colour_bits, _, _, width, height, bits, flags = struct.unpack_from(
        "<BBBHHBHHHHBB", head
    )
    has_map = kind in (1, 9)
    sound_map = (colours > 0 and colour_bits in (15, 16, 24, 32)) if has_map else first == colours == colour_bits == 0
    sound_bits = bits == 8 if kind in (1, 3, 9, 11) else bits in (16, 24, 32)
    kinds = (1, 2, 3, 9, 10, 11)
    return kind in kinds and mapped == has_map and sound_map and sound_bits and flags < 64 and width > 0 < height


def unreadable_format(head: bytes, name: str) -> UnreadableInput:
    """The refusal of a file whose first bytes are `head`: it names the format and a program that converts it."""
    what, remedy = _unread(head)
    return UnreadableInput(f"{name} is {what}.", remedy=remedy)


def _unread(head: bytes) -> tuple[str, str]:
    """What a file is instead of a format that is read, and what to do."""
    if not head:
        return "empty", "Check that it was saved or downloaded completely."
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in start:
        return "an SVG drawing, which is not read", "Convert it to PDF or PNG and send that."
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page, not a document", "Give the address or the path of the file itself."
    if head.startswith(b"PK\x03\x04") and any(part in head for part in _XPS_PARTS):
        return "an XPS document, which is not read", "Convert it to PDF, for instance: `mutool convert -o OUT.pdf IN`."
    for at, magics, what, remedy in _UNREAD:
        if head.startswith(magics, at):
            return what, remedy
    if _is_text(head):
        return "text already, not a picture of text", "Read the file directly."
    return "of a format that is not read", f"Convert it; read are {_READ_FORMATS}."


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as exc:
        return exc.start > len(head) - 4 and len(head) == HEAD_BYTES  # only the cut is at fault
    return True


def check_page(name: str, page: int, pages: int) -> None:
    """Raise `BadRequest` if a document of `pages` pages, called `name` in the message, has no page `page`."""
    if not 1 <= page <= pages:
        raise BadRequest(f"{name} has no page {page}; it has {pages}.", remedy=f"Ask for pages 1-{pages}.")


def check_smallest(name: str, width: int, height: int) -> None:
    """Raise `UnreadableInput` if `width` or `height` is too few pixels to hold text; `name` is for the message."""
    if min(width, height) < MIN_SIDE:
        raise UnreadableInput(
            f"{name} has {width} by {height} pixels, too few to hold text.", remedy="Send a larger picture."
        )


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    """Raise `InputTooLarge` for more pixels than `max_pixels`, `UnreadableInput` for too few to hold text.

    `name`, `width` and `height` are those of the picture.
    """
    check_smallest(name, width, height)
    if width * height > max_pixels:
        raise InputTooLarge(
            f"{name} has {width} by {height} pixels; the limit is {max_pixels / 1e6:g} megapixels.",
            remedy="Scale it down (300 dpi is plenty), or raise OCR_MAX_MEGAPIXELS.",
        )


def too_many_pages(name: str, max_pages: int) -> InputTooLarge:
    return InputTooLarge(
        f"{name} has more than {max_pages} pages.", remedy="Split the document, or raise OCR_MAX_PAGES."
    )


@contextlib.contextmanager
def decoder_errors(name: str) -> Iterator[None]:
    """Whatever a decoder raises becomes one of our errors; its warnings concern nobody."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OcrError:
        raise
    except MemoryError:
        raise InputTooLarge(
            f"{name} needs more memory than a page of the allowed size.",
            remedy="Open it in a viewer and save it anew, smaller; or raise OCR_MAX_MEGAPIXELS.",
        ) from None
    except Exception as exc:  # decoders raise anything: struct.error, KeyError, RecursionError …
        cut = isinstance(exc, EOFError) or "truncated" in str(exc).lower()
        state = "cut off: its end is missing" if cut else "damaged, or of a kind that is not read"
        raise UnreadableInput(
            f"{name} is {state}.",
            remedy="Send it again completely, or open it in a viewer and save it anew as PDF or PNG.",
        ) from exc


def write_file(out: str, pieces: Any) -> None:
    """Write `out`, for this user only. What produces the pieces may raise its own errors."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    with disk_errors(), os.fdopen(os.open(out, flags, 0o600), "wb") as file:
        for piece in pieces:
            file.write(piece)


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise WriteFailed(
            f"A page cannot be written to the scratch folder: {exc.strerror or exc}.",
            remedy="Free space in the folder for temporary files (TMPDIR), or set TMPDIR to another.",
        ) from None

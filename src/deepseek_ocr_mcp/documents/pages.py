"""Snapshots become upright pages of 8-bit RGB; what a header claims meets the limits before it is decoded.

Runs in a child process, because files are made by strangers: what no check foresees ends that
process and not the server. Pillow and PDFium are imported when a file needs them, so that the
child starts at once. No message carries a file's content.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import os
import re
import sys
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, Protocol

from ..engines.base import Call, ReadOptions
from ..errors import BadRequest, InputTooLarge, OcrError, UnreadableInput

if TYPE_CHECKING:
    from PIL import Image as PilImage

    from . import exports

__all__ = ["PageRenderer"]

MIN_SIDE: Final = 4  # pixels; no letter fits in less
MIN_PDF_DPI: Final = 10.0  # a page that needs less to fit is hundreds of metres wide: a mistake or an attack
STRIP_PIXELS: Final = 500_000  # converted and written at once, so that a huge page is never held twice
SAMPLE_PIXELS: Final = 4_000_000  # that are looked at to see what a transparent picture stands out from
MAX_BAND_BYTES: Final = 64 << 20  # of a PDF page that is drawn at once; A4 at 200 dpi has 12 MB
BYTES_PER_PIXEL: Final = 16  # decoded, turned, and once more inside a codec, at four bytes each
MEMORY_BASE: Final = 1 << 30  # bytes: the libraries, PDFium's caches, a damaged file's tables

PREVIEW_SIDE: Final = 1600  # pixels; what a model or a browser shows anyway
PREVIEW_BYTES: Final = 1_500_000  # base64 of it still fits a client's message
PREVIEW_QUALITIES: Final = (85, 70, 50, 30)

SENT_EXACT_BYTES: Final = 2_000_000  # of a page on its way to an endpoint
SENT_QUALITY: Final = 95

HEAD_BYTES: Final = 4096
TIFF_SUBFILE_TYPE: Final = 254
TIFF_PHOTOMETRIC: Final = 262
TIFF_NOT_A_PAGE: Final = 0b101  # a reduced copy of another image, or its mask
EXIF_ORIENTATION: Final = 274

_TRANSPOSED: Final = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}

_PLUGINS: Final = {"TIFF": "Tiff", "WEBP": "WebP", "JPEG2000": "Jpeg2K", "AVIF": "Avif"}
"""Formats of Pillow that `Image.open` would search for among all plugins, one import after the other."""

_BMP_HEADERS: Final = (12, 16, 40, 52, 56, 64, 108, 124)
_READ_FORMATS: Final = "PDF, PNG, JPEG, TIFF, WebP, HEIC, AVIF, JPEG 2000, GIF, BMP and PNM"


class PageRenderer:
    """Opens one document at a time and keeps it open, so that its pages need not search it anew."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._document: _Document | None = None
        self._limited = False

    def __repr__(self) -> str:
        return f"<PageRenderer {self._document.format if self._document else 'empty'}>"

    def prewarm(self) -> None:
        """Import what most files need."""
        from PIL import Image  # noqa: F401

    def inspect(self, path: str, name: str, max_pixels: int, max_pages: int, call: Call) -> dict[str, Any]:
        """What the file is: `{"format": "PDF", "pages": 12}`. Nothing is decoded.

        Raises:
            UnreadableInput: no format that is read, damaged, encrypted, without pages.
            InputTooLarge: more pages than `max_pages`, or a picture with more pixels than `max_pixels`.
        """
        self._limit(max_pixels)
        call.raise_if_cancelled()
        with _translated(name):
            document = self._open(path, name)
            pages = document.count(max_pages)
            document.check(max_pixels)
            return {"format": document.format, "pages": pages}

    def render(
        self, path: str, name: str, page: int, dpi: int, max_pixels: int, out: str, call: Call
    ) -> dict[str, Any]:
        """Write page `page`, from 1, to `out` as `height * width * 3` bytes. Returns `width` and `height`.

        Raises:
            BadRequest: there is no such page.
            UnreadableInput: damaged, or smaller than anything that holds text.
            InputTooLarge: more pixels than `max_pixels`; a PDF page is drawn at fewer dpi first.
        """
        call.raise_if_cancelled()
        with _translated(name):
            document = self._open(path, name)
            try:
                width, height = document.draw(page, dpi, max_pixels, out, call)
            except BaseException:
                self.close()  # a decoder that stumbled is not asked again
                raise
            if document.only_page:
                self.close()  # its pixels are not kept
            return {"width": width, "height": height}

    def text_layer(
        self, path: str, name: str, page: int, dpi: int, max_pixels: int, options: dict[str, Any], call: Call
    ) -> dict[str, Any]:
        """What page `page`, from 1, says itself; see `text_layer.py`. Never draws it.

        Returns `text`, `blocks`, `usable`, `why`, `remark`, and the `width` and `height` that `render` would give.

        Raises:
            BadRequest, UnreadableInput, InputTooLarge: as `render` does, before anything is read.
        """
        call.raise_if_cancelled()
        with _translated(name):
            document = self._open(path, name)
            return document.layer(page, dpi, max_pixels, ReadOptions(**options), call)

    def annotate(self, image: dict[str, Any], blocks: Sequence[dict[str, Any]], out: str, call: Call) -> dict[str, Any]:
        """Draw the boxes on a rendered page and write it small to `out`. Returns `mime` and `bytes`."""
        from ..results.overlay import draw_boxes

        call.raise_if_cancelled()
        page = _picture(image["path"], image)
        factor = min(1.0, PREVIEW_SIDE / max(page.size))
        if factor < 1:
            page = _shrunk(page, PREVIEW_SIDE)
            # Boxes are drawn after scaling, so that their lines and labels stay sharp.
            blocks = [{**block, "box": [value * factor for value in block.get("box") or ()]} for block in blocks]
        call.raise_if_cancelled()
        mime, data = _encoded_small(draw_boxes(page, blocks))
        _write(out, [data])
        return {"mime": mime, "bytes": len(data)}

    def crop(self, image: dict[str, Any], box: Sequence[int], out: str, call: Call) -> dict[str, Any]:
        """Cut a region out of a rendered page and write it to `out` as PNG. Returns `bytes`."""
        call.raise_if_cancelled()
        x1, y1, x2, y2 = box
        data = io.BytesIO()
        _picture(image["path"], image).crop((x1, y1, x2, y2)).save(data, "PNG")
        _write(out, [data.getvalue()])
        return {"bytes": data.tell()}

    def encode(self, image: dict[str, Any], side: int, out: str, call: Call) -> dict[str, Any]:
        """Write a rendered page to `out` as a file to send, its longer side `side` pixels at most. Returns `mime`."""
        call.raise_if_cancelled()
        mime, data = _encoded_to_send(_shrunk(_picture(image["path"], image), side))
        _write(out, [data])
        return {"mime": mime, "bytes": len(data)}

    def preview(
        self, path: str, name: str, page: int, dpi: int, max_pixels: int, side: int, out: str, call: Call
    ) -> dict[str, Any]:
        """Write page `page` to `out` as a small picture, upright, its longer side `side` pixels at most.

        Returns `mime`, and `width` and `height` of the page as `render` draws it.

        Raises:
            BadRequest, UnreadableInput, InputTooLarge: as `render`.
        """
        call.raise_if_cancelled()
        with _translated(name):
            document = self._open(path, name)
            if isinstance(document, _Pdf):  # drawn small at once: a tenth of the work
                width, height, exact_dpi = document.fitted(page, dpi, max_pixels)
                factor = max(min(1.0, side / max(width, height)), MIN_SIDE / min(width, height))
                size, drawn = (width, height), document.draw(page, exact_dpi * factor, max_pixels, out, call)
            else:
                size = drawn = document.draw(page, dpi, max_pixels, out, call)
                if document.only_page:
                    self.close()
            picture = _shrunk(_picture(out, {"width": drawn[0], "height": drawn[1]}), side)
            call.raise_if_cancelled()
            mime, data = _encoded_small(picture)
        _write(out, [data])
        return {"mime": mime, "width": size[0], "height": size[1]}

    def picture(
        self, path: str, name: str, page: int, dpi: int, max_pixels: int, out: str, call: Call
    ) -> dict[str, Any]:
        """Write page `page` to `out` as PNG, drawn as `render` does. Returns `bytes`."""
        size = self.render(path, name, page, dpi, max_pixels, out, call)
        data = io.BytesIO()
        with _translated(name):
            _picture(out, size).save(data, "PNG")
        _write(out, [data.getvalue()])
        return {"bytes": data.tell()}

    def searchable_pdf(
        self, path: str, name: str, pages: str, dpi: int, max_pixels: int, out: str, call: Call
    ) -> dict[str, Any]:
        """Write the document to `out` as a PDF with its text under its pages. See `exports.py`.

        Args:
            pages: a file with what was read: JSON, a list of pages with `page`, `width`, `height` and `blocks`.
        """
        from . import exports

        texts = _read_json(pages)
        with _translated(name):
            document = self._open(path, name)
            if isinstance(document, _Pdf):
                exports.lay_under(document.pdf, texts)
                with _disk():
                    document.pdf.save(out)
                self.close()  # it is no longer what is in the file
                return {}
            pictures = []
            for number in range(1, document.count(max_pages=sys.maxsize) + 1):
                call.raise_if_cancelled()
                width, height = document.draw(number, dpi, max_pixels, out, call)
                pictures.append(_for_pdf(out, {"width": width, "height": height}))
            self.close()
            _write(out, [exports.pdf_of_pictures(pictures, texts, dpi)])
            return {}

    def word_document(self, pages: str, title: str, mode: str, out: str, call: Call) -> dict[str, Any]:
        """Write what was read to `out` as a Word document. See `exports.py`.

        Args:
            pages: a file with what was read: JSON, a list of pages with `text`.
        """
        from . import exports

        self._limit(0)
        call.raise_if_cancelled()
        document = exports.word_document(_read_json(pages), title, mode)
        data = io.BytesIO()
        document.save(data)
        _write(out, [data.getvalue()])
        return {}

    def _limit(self, max_pixels: int) -> None:
        if not self._limited:
            self.limit_memory(max_pixels)
            self._limited = True

    @classmethod
    def limit_memory(cls, max_pixels: int) -> None:
        """Let this process have what the largest allowed page needs: a bomb becomes a `MemoryError`.

        Only Linux counts address space well enough for that; elsewhere the parent's deadline remains.
        """
        if sys.platform != "linux":
            return
        import resource

        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        limit = used + MEMORY_BASE + max_pixels * BYTES_PER_PIXEL
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))

    def _open(self, path: str, name: str) -> _Document:
        facts = os.stat(path)
        key = (path, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
        if self._document is None or self._key != key:
            self.close()
            self._document = _open_document(path, name)
            self._key = key
        return self._document

    def close(self) -> None:
        """Let go of the document that is open, if one is."""
        document, self._document, self._key = self._document, None, None
        if document is not None:
            document.close()


class _Document(Protocol):
    """An open file. Any method may raise what its library raises; `_translated` is around all of them."""

    format: str

    @property
    def only_page(self) -> bool: ...
    def count(self, max_pages: int) -> int: ...
    def check(self, max_pixels: int) -> None: ...
    def draw(self, page: int, dpi: float, max_pixels: int, out: str, call: Call) -> tuple[int, int]: ...
    def layer(self, page: int, dpi: float, max_pixels: int, options: ReadOptions, call: Call) -> dict[str, Any]: ...
    def close(self) -> None: ...


# -- PDF


class _Pdf:
    format = "PDF"
    only_page = False

    def __init__(self, path: str, name: str) -> None:
        import pypdfium2
        import pypdfium2.raw as raw

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
        _check_page(self._name, page, len(self._pdf))
        points = self._pdf.get_page_size(page - 1)
        width, height, scale = self._sized(page, points[0], points[1], dpi, max_pixels)
        return width, height, scale * 72

    def count(self, max_pages: int) -> int:
        pages = len(self._pdf)
        if pages < 1:
            raise UnreadableInput(f"{self._name} has no pages.", remedy="Export the document again.")
        if pages > max_pages:
            raise _too_many_pages(self._name, max_pages)
        return pages

    def check(self, max_pixels: int) -> None:
        """Each page has its own size, and is drawn to fit."""

    def draw(self, page: int, dpi: float, max_pixels: int, out: str, call: Call) -> tuple[int, int]:
        _check_page(self._name, page, len(self._pdf))
        opened = self._pdf[page - 1]
        try:
            width, height, scale = self._sized(page, opened.get_width(), opened.get_height(), dpi, max_pixels)
            _write(out, self._bands(opened, scale, width, height, call))
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
        from .text_layer import read_layer

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
        _check_smallest(name, *pixels)
        return *pixels, scale

    def close(self) -> None:
        self._pdf.close()


# -- pictures


class _Pictures:
    """A picture, or a TIFF with several. Of an animation, the first frame."""

    def __init__(self, path: str, name: str, kind: str) -> None:
        self._name = name
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
        self._frames: list[int] | None = None
        try:
            self.format = kind
            self._image = _open_image(self._file, kind)
        except BaseException:
            self._file.close()
            raise

    @property
    def only_page(self) -> bool:
        return self.format != "TIFF"

    def count(self, max_pages: int) -> int:
        if self.format != "TIFF":
            return 1
        self._frames = _tiff_pages(self._file, max_pages)
        if len(self._frames) > max_pages:
            raise _too_many_pages(self._name, max_pages)
        return len(self._frames)

    def check(self, max_pixels: int) -> None:
        _check_size(self._name, *self._image.size, max_pixels)

    def draw(self, page: int, dpi: float, max_pixels: int, out: str, call: Call) -> tuple[int, int]:
        if self.format == "TIFF":
            if self._frames is None or len(self._frames) < page:
                self._frames = _tiff_pages(self._file, 2 * page)
            _check_page(self._name, page, len(self._frames))
            self._image.seek(self._frames[page - 1])
        else:
            _check_page(self._name, page, 1)
        name = f"Page {page} of {self._name}" if page > 1 else self._name
        _check_size(name, *self._image.size, max_pixels)
        self._image.load()
        _check_size(name, *self._image.size, max_pixels)  # HEIF tells its real size only now
        call.raise_if_cancelled()
        convert = _converter(self._image)
        image = _upright(self._image)
        width, height = image.size
        rows = max(1, STRIP_PIXELS // width)
        if rows >= height:
            _write(out, [convert(image).tobytes()])
        else:
            _write(out, _strips(image, rows, convert, call))
        return width, height

    def layer(self, page: int, dpi: float, max_pixels: int, options: ReadOptions, call: Call) -> dict[str, Any]:
        return {
            "width": 0,
            "height": 0,
            "text": "",
            "blocks": [],
            "usable": False,
            "why": "a picture has none",
        }

    def close(self) -> None:
        self._image.close()
        self._file.close()


def _open_image(file: BinaryIO, kind: str) -> PilImage.Image:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # our own check names the setting and follows it
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    elif kind in _PLUGINS:
        importlib.import_module(f"PIL.{_PLUGINS[kind]}ImagePlugin")
    return Image.open(file, formats=["PPM" if kind == "PNM" else kind])


def _strips(
    image: PilImage.Image, rows: int, convert: Callable[[PilImage.Image], PilImage.Image], call: Call
) -> Iterator[bytes]:
    width, height = image.size
    for top in range(0, height, rows):
        call.raise_if_cancelled()
        call.progress(top / height)
        yield convert(image.crop((0, top, width, min(top + rows, height)))).tobytes()


def _upright(image: PilImage.Image) -> PilImage.Image:
    """Turned as its EXIF or XMP says. TIFF and HEIF pages were turned when they were loaded."""
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # damaged metadata raises anything at all; the picture itself is fine
        return image
    method = _TRANSPOSED.get(orientation)
    if method is None:
        return image
    from PIL import Image

    return image.transpose(Image.Transpose[method])


def _converter(image: PilImage.Image) -> Callable[[PilImage.Image], PilImage.Image]:
    """What makes a piece of this picture 8-bit RGB, by a scale and a ground that suit the whole of it."""
    if image.mode.startswith("I") or image.mode == "F":
        scale, offset = _levels(image)

        def eight_bits(piece: PilImage.Image) -> PilImage.Image:
            piece = piece.convert("I") if piece.mode.startswith("I;") else piece
            return piece.point(lambda value: value * scale + offset).convert("L").convert("RGB")

        return eight_bits
    if image.has_transparency_data:
        ground = _ground(image.convert("RGBA"))
        if ground is not None:
            return lambda piece: _flat(piece.convert("RGBA"), ground)
        return lambda piece: piece.convert("RGBA").convert("RGB")
    if image.mode == "RGB":
        return lambda piece: piece
    return lambda piece: piece.convert("RGB")


def _levels(image: PilImage.Image) -> tuple[float, float]:
    """Factor and offset that bring deep grey values to 0 … 255 and keep their contrast.

    White is the largest value of the fewest bits that hold all values: scanners store 10 and 12 bits in 16.
    """
    low, high = (image.convert("I") if image.mode.startswith("I;") else image).getextrema()
    if not (isinstance(low, (int, float)) and isinstance(high, (int, float))):
        raise ValueError("more than one band")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("not a number")
    black = 0.0
    whites = (255, 1023, 4095, 16383, 65535) if image.mode != "F" else (1, 255, 65535)
    white = next((float(level) for level in whites if high <= level), float(high))
    if low < 0 or high > whites[-1]:
        black, white = float(low), max(float(high), low + 1.0)
    scale = 255 / (white - black)
    tags = getattr(image, "tag_v2", {})
    if tags.get(TIFF_PHOTOMETRIC) == 0:  # zero is white; Pillow turns that round for 8 bits only
        return -scale, white * scale + 0.5
    return scale, 0.5 - black * scale


def _ground(image: PilImage.Image) -> int | None:
    """The grey on which the visible pixels of an RGBA picture stand out; None: its alpha says nothing.

    What counts are pixels next to transparent ones: black text beside a large pale logo is still
    black text. Where both black and white would vanish, middle grey shows both.
    """
    from PIL import ImageChops, ImageFilter

    alpha = image.getchannel("A")
    low, high = alpha.getextrema()
    if low == 255 or high == 0:  # opaque; or invisible, which no one who sends a page means
        return None
    light = image.convert("L")
    if image.width * image.height > SAMPLE_PIXELS:
        factor = math.sqrt(SAMPLE_PIXELS / (image.width * image.height))
        small = (max(MIN_SIDE, int(image.width * factor)), max(MIN_SIDE, int(image.height * factor)))
        alpha, light = alpha.resize(small, resample=0), light.resize(small, resample=0)
    visible = alpha.point([0] * 128 + [255] * 128)
    edge = ImageChops.subtract(visible, visible.filter(ImageFilter.MinFilter(3)))
    counts = light.histogram(edge)
    if not any(counts):  # nothing but faint pixels
        counts = light.histogram(alpha)
    total = max(1, sum(counts))
    dark, pale = sum(counts[:64]) / total, sum(counts[192:]) / total
    if min(dark, pale) > 0.1:
        return 128
    mean = sum(value * count for value, count in enumerate(counts)) / total
    return 255 if mean < 128 else 0


def _flat(image: PilImage.Image, ground: int) -> PilImage.Image:
    from PIL import Image

    page = Image.new("RGB", image.size, (ground, ground, ground))
    page.paste(image, mask=image)
    return page


def _tiff_pages(file: BinaryIO, enough: int) -> list[int]:
    """Which images of a TIFF are pages, up to `enough` and one more. Their directories are read, no pixels.

    Pillow's own count follows millions of them; reduced copies and masks are not pages.
    """
    head = _read_at(file, 0, 16)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"

    def number(data: bytes) -> int:
        return int.from_bytes(data, order)

    big = number(head[2:4]) == 43
    count_bytes, entry_bytes, offset_bytes = (8, 20, 8) if big else (2, 12, 4)
    offset = number(head[8:16] if big else head[4:8])
    seen: set[int] = set()
    pages: list[int] = []
    copies: list[int] = []
    while offset and offset not in seen and len(pages) <= enough and len(seen) < 4 * enough + 16:
        seen.add(offset)
        count = number(_read_at(file, offset, count_bytes))
        entries = _read_at(file, offset + count_bytes, min(count, 0xFFFF) * entry_bytes)
        if not entries:
            break
        kind = 0
        for start in range(0, len(entries), entry_bytes):
            tag = number(entries[start : start + 2])
            if tag >= TIFF_SUBFILE_TYPE:  # they are sorted
                if tag == TIFF_SUBFILE_TYPE:
                    kind = number(entries[start + entry_bytes - offset_bytes : start + entry_bytes][:4])
                break
        (copies if kind & TIFF_NOT_A_PAGE else pages).append(len(seen) - 1)
        offset = number(_read_at(file, offset + count_bytes + count * entry_bytes, offset_bytes))
    return pages or copies[:1] or [0]


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    if offset >= 1 << 63:
        return b""
    file.seek(offset)
    return file.read(size)


# -- what a file is


def _open_document(path: str, name: str) -> _Document:
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    kind = _sniff(head)
    if kind is None:
        raise _not_read(head, name)
    if kind == "PDF":
        return _Pdf(path, name)
    return _Pictures(path, name, kind)


def _sniff(head: bytes) -> str | None:
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
    if b"%PDF-" in head[:1024]:
        return "PDF"
    return None


def _not_read(head: bytes, name: str) -> UnreadableInput:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    to_pdf = "Convert it to PDF and send that."
    what, remedy = "of a format that is not read", f"Convert it; read are {_READ_FORMATS}."
    if not head:
        what, remedy = "empty", "Check that it was saved or downloaded completely."
    elif start.startswith((b"%!ps", b"\xc5\xd0\xd3\xc6")):
        what, remedy = "PostScript, which is not read", to_pdf
    elif start.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in start:
        what, remedy = "an SVG drawing, which is not read", "Convert it to PDF or PNG and send that."
    elif start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        what, remedy = "a web page, not a document", "Give the address or the path of the file itself."
    elif head.startswith(b"PK\x03\x04"):
        what, remedy = "an Office document, an e-book or another ZIP archive, which is not read", to_pdf
    elif head.startswith((b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"{\\rtf", b"AT&TFORM")):
        what, remedy = "an Office or DjVu document, which is not read", to_pdf
    elif head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        what, remedy = "a JPEG XL picture, which is not read", "Convert it to PNG and send that."
    elif head.startswith(b"8BPS"):
        what, remedy = "a Photoshop file, which is not read", "Export it as PNG and send that."
    elif head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")):
        what, remedy = "a compressed archive, which is not read", "Unpack it and send a file from it."
    elif head[4:8] == b"ftyp" or head[:4] in (b"RIFF", b"\x1aE\xdf\xa3", b"OggS"):
        what, remedy = "audio or video, which is not read", "Save one frame as PNG and send that."
    elif _is_text(head):
        what, remedy = "text already, not a picture of text", "Read the file directly."
    return UnreadableInput(f"{name} is {what}.", remedy=remedy)


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as exc:
        return exc.start > len(head) - 4 and len(head) == HEAD_BYTES  # only the cut is at fault
    return True


# -- limits and errors


def _check_page(name: str, page: int, pages: int) -> None:
    if not 1 <= page <= pages:
        raise BadRequest(f"{name} has no page {page}; it has {pages}.", remedy=f"Ask for pages 1-{pages}.")


def _check_smallest(name: str, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise UnreadableInput(
            f"{name} has {width} by {height} pixels, too few to hold text.", remedy="Send a larger picture."
        )


def _check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    _check_smallest(name, width, height)
    if width * height > max_pixels:
        raise InputTooLarge(
            f"{name} has {width} by {height} pixels; the limit is {max_pixels / 1e6:g} megapixels.",
            remedy="Scale it down (300 dpi is plenty), or raise OCR_MAX_MEGAPIXELS.",
        )


def _too_many_pages(name: str, max_pages: int) -> InputTooLarge:
    return InputTooLarge(
        f"{name} has more than {max_pages} pages.", remedy="Split the document, or raise OCR_MAX_PAGES."
    )


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
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


# -- what is written


def _picture(path: str, size: Mapping[str, Any]) -> PilImage.Image:
    """A page that was drawn."""
    from PIL import Image

    with open(path, "rb") as file:
        return Image.frombytes("RGB", (int(size["width"]), int(size["height"])), file.read())


def _shrunk(image: PilImage.Image, side: int) -> PilImage.Image:
    """With a longer side of `side` pixels; as it is, if that is shorter."""
    from PIL import Image

    factor = side / max(image.size)
    if factor >= 1:
        return image
    small = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(small, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _for_pdf(path: str, size: Mapping[str, Any]) -> exports.Picture:
    """As JPEG or as packed rows, whichever is smaller: photographs suit the one, drawn pages the other."""
    from . import exports

    image = _picture(path, size)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=exports.JPEG_QUALITY)
    packed = zlib.compress(image.tobytes())
    if len(packed) <= jpeg.tell():
        return exports.Picture(image.width, image.height, packed, "FlateDecode")
    return exports.Picture(image.width, image.height, jpeg.getvalue(), "DCTDecode")


def _read_json(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _encoded_small(image: PilImage.Image) -> tuple[str, bytes]:
    """PNG or JPEG, whichever is smaller: flat pages suit the one, photographs the other."""
    import io

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


def _encoded_to_send(image: PilImage.Image) -> tuple[str, bytes]:
    """PNG, which is exact, where that is small as drawn pages are; JPEG where it is not, as of scans."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)  # a third of the time of 6, for a fifth more bytes
    if buffer.tell() <= SENT_EXACT_BYTES:
        return "image/png", buffer.getvalue()
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=SENT_QUALITY, subsampling=0)
    return "image/jpeg", buffer.getvalue()


def _write(out: str, pieces: Any) -> None:
    """Write `out`, for this user only. What produces the pieces may raise its own errors."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    with _disk(), os.fdopen(os.open(out, flags, 0o600), "wb") as file:
        for piece in pieces:
            file.write(piece)


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OcrError(
            f"A page cannot be written to the scratch folder: {exc.strerror or exc}.",
            remedy="Free space in the folder for temporary files (TMPDIR), or set TMPDIR to another.",
        ) from None

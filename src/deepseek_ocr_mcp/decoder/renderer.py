"""Snapshots become upright pages of 8-bit RGB; what a header claims meets the limits before it is decoded.

Runs in a child process, because files are made by strangers: what no check foresees ends that
process and not the server. Pillow and PDFium are imported when a file needs them, so that the
child starts at once. No message carries a file's content.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from ..engines.base import Call
from ..errors import OcrError
from ..export_formats import ExportOptions
from .encode import encoded_small, encoded_to_send, open_page_image, read_json, shrunk
from .formats import (
    HEAD_BYTES,
    MIN_SIDE,
    OpenDocument,
    check_page,
    decoder_errors,
    disk_errors,
    sniff,
    unreadable_format,
    write_file,
)

__all__ = ["PageRenderer"]

BYTES_PER_PIXEL: Final = 16  # decoded, turned, and once more inside a codec, at four bytes each
MEMORY_BASE: Final = 1 << 30  # bytes: the libraries, PDFium's caches, a damaged file's tables

PREVIEW_SIDE: Final = 1600  # pixels; what a model or a browser shows anyway

File = Mapping[str, str]
"""A document on the disk: its `path`, the `name` for messages and, of a locked PDF, the `password`."""


class PageRenderer:
    """Opens one document at a time and keeps it open, so that its pages need not search it anew.

    The parent calls these methods over the pipe. The same arguments mean the same everywhere: `file` is the document;
    `page` counts from 1; `dpi` are the dots per inch of a PDF page; `max_pixels` is the most that a page may have;
    `image` is a page that `render` has written, with `path`, `width` and `height`; `out` is the path of the file to
    write; `side` is the longer side of a small picture in pixels; `call` tells whether the caller has gone.
    """

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._document: OpenDocument | None = None
        self._limited = False

    def __repr__(self) -> str:
        return f"<PageRenderer {self._document.format if self._document else 'empty'}>"

    def prewarm(self) -> None:
        """Import what most files need."""

    def inspect(self, file: File, max_pixels: int, max_pages: int, call: Call) -> dict[str, Any]:
        """What the file is: `{"format": "PDF", "pages": 12}`. Nothing is decoded.

        Where the file holds something beside its pages, `notes` are sentences about it.

        Raises:
            PasswordNeeded: a locked PDF, and the password is missing or wrong. All methods that take a file raise it.
            UnreadableInput: no format that is read, damaged, without pages.
            InputTooLarge: more pages than `max_pages`, or a picture with more pixels than `max_pixels`.
        """
        self._limit(max_pixels)
        call.raise_if_cancelled()
        with self._opened(file) as document:
            pages = document.count(max_pages)
            document.check(max_pixels)
            facts = {"format": document.format, "pages": pages}
            return facts | {"notes": notes} if (notes := document.notes()) else facts

    def render(self, file: File, page: int, dpi: int, max_pixels: int, out: str, call: Call) -> dict[str, Any]:
        """Write page `page`, from 1, to `out` as `height * width * 3` bytes. Returns `width` and `height`.

        Raises:
            BadRequest: there is no such page.
            UnreadableInput: damaged, or smaller than anything that holds text.
            InputTooLarge: more pixels than `max_pixels`; a PDF page is drawn at fewer dpi first.
        """
        call.raise_if_cancelled()
        with self._opened(file) as document:
            try:
                width, height = document.draw(page, dpi, max_pixels, out, call)
            except BaseException:
                self.close()  # a decoder that stumbled is not asked again
                raise
            if document.only_page:
                self.close()  # its pixels are not kept
            return {"width": width, "height": height}

    def text_layer(
        self,
        file: File,
        page: int,
        dpi: int,
        max_pixels: int,
        call: Call,
        read: Sequence[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """The text that page `page`, from 1, holds itself; see `textlayer/layer.py`.

        Args:
            read: the lines that an engine found in the picture that `render_unread` gave, as blocks in pixels of the
                page. They are merged with the page's own text.

        Returns `reading`, `usable`, `partial`, `why`, `remark`, and the `width` and `height` that `render` would give.

        Raises:
            BadRequest, UnreadableInput, InputTooLarge: as `render` does, before anything is read.
        """
        call.raise_if_cancelled()
        with self._opened(file) as document:
            return document.layer(page, dpi, max_pixels, call, read)

    def render_unread(self, file: File, page: int, dpi: int, max_pixels: int, out: str, call: Call) -> dict[str, Any]:
        """Write the part of page `page`, from 1, that its text layer does not hold, as `render` writes a page.

        The text that is certain is not drawn. Returns `box`: left, top, right and bottom of the part, in pixels of the
        page as `render` gives it.

        Raises:
            BadRequest, UnreadableInput, InputTooLarge: as `render` does.
        """
        from .pdf import PdfDocument

        call.raise_if_cancelled()
        with self._opened(file) as document:
            if not isinstance(document, PdfDocument):
                width, height = document.draw(page, dpi, max_pixels, out, call)
                return {"box": [0, 0, width, height]}
            return {"box": list(document.draw_unread(page, dpi, max_pixels, out, call))}

    def annotate(self, image: dict[str, Any], blocks: Sequence[dict[str, Any]], out: str, call: Call) -> dict[str, Any]:
        """Draw the boxes on a rendered page and write it small to `out`. Returns `mime` and `bytes`."""
        from .overlay import draw_boxes

        call.raise_if_cancelled()
        page = open_page_image(image["path"], image)
        factor = min(1.0, PREVIEW_SIDE / max(page.size))
        if factor < 1:
            page = shrunk(page, PREVIEW_SIDE)
            # Boxes are drawn after scaling, so that their lines and labels stay sharp.
            blocks = [{**block, "box": [value * factor for value in block.get("box") or ()]} for block in blocks]
        call.raise_if_cancelled()
        mime, data = encoded_small(draw_boxes(page, blocks))
        write_file(out, [data])
        return {"mime": mime, "bytes": len(data)}

    def crop(self, image: dict[str, Any], box: Sequence[int], out: str, call: Call) -> dict[str, Any]:
        """Cut a region out of a rendered page and write it to `out` as PNG. Returns `bytes`."""
        call.raise_if_cancelled()
        x1, y1, x2, y2 = box
        data = io.BytesIO()
        open_page_image(image["path"], image).crop((x1, y1, x2, y2)).save(data, "PNG")
        write_file(out, [data.getvalue()])
        return {"bytes": data.tell()}

    def codes(self, image: dict[str, Any], call: Call) -> dict[str, Any]:
        """The QR codes and barcodes on a rendered page: `codes`; see `codes.py`."""
        from .codes import codes_on  # an extra, which most servers do without

        call.raise_if_cancelled()
        return {"codes": codes_on(image["path"], image)}

    def encode(self, image: dict[str, Any], side: int, out: str, call: Call) -> dict[str, Any]:
        """Write a rendered page to `out` as a file to send, its longer side `side` pixels at most. Returns `mime`."""
        call.raise_if_cancelled()
        mime, data = encoded_to_send(shrunk(open_page_image(image["path"], image), side))
        write_file(out, [data])
        return {"mime": mime, "bytes": len(data)}

    def preview(
        self, file: File, page: int, dpi: int, max_pixels: int, side: int, out: str, call: Call
    ) -> dict[str, Any]:
        """Write page `page` to `out` as a small picture, upright, its longer side `side` pixels at most.

        Returns `mime`, and `width` and `height` of the page as `render` draws it.

        Raises:
            BadRequest, UnreadableInput, InputTooLarge: as `render`.
        """
        from .pdf import PdfDocument

        call.raise_if_cancelled()
        with self._opened(file) as document:
            if isinstance(document, PdfDocument):  # drawn small at once: a tenth of the work
                width, height, exact_dpi = document.fitted(page, dpi, max_pixels)
                factor = max(min(1.0, side / max(width, height)), MIN_SIDE / min(width, height))
                size, drawn = (width, height), document.draw(page, exact_dpi * factor, max_pixels, out, call)
            else:
                size = drawn = document.draw(page, dpi, max_pixels, out, call)
                if document.only_page:
                    self.close()
            picture = shrunk(open_page_image(out, {"width": drawn[0], "height": drawn[1]}), side)
            call.raise_if_cancelled()
            mime, data = encoded_small(picture)
        write_file(out, [data])
        return {"mime": mime, "width": size[0], "height": size[1]}

    def picture(self, file: File, page: int, dpi: int, max_pixels: int, out: str, call: Call) -> dict[str, Any]:
        """Write page `page` to `out` as PNG, drawn as `render` does. Returns `bytes`."""
        size = self.render(file, page, dpi, max_pixels, out, call)
        data = io.BytesIO()
        with decoder_errors(file["name"]):
            open_page_image(out, size).save(data, "PNG")
        write_file(out, [data.getvalue()])
        return {"bytes": data.tell()}

    def export(
        self,
        format: str,
        pages: str,
        options: dict[str, Any],
        out: str,
        call: Call,
        document: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write pages that were read to `out` in a format of `export_formats.py`. See `exports/writers.py`.

        Args:
            pages: a file with the pages as they were read: JSON, a list.
            options: the fields of `ExportOptions`.
            document: the `file`, and the `dpi` and `max_pixels` to draw it with, for a format that needs it.

        Raises:
            BadRequest: the pages hold nothing that the format could show.
            UnreadableInput, InputTooLarge: as `render`, for a format that needs the document.
        """
        from .exports.writers import written  # a reading needs no exports

        self._limit(0)
        call.raise_if_cancelled()
        chosen = ExportOptions(**options)
        if document is None:
            write_file(out, [written(format, read_json(pages), chosen)])
        else:
            self._export_document(document, read_json(pages), chosen, out, call)
        return {}

    def join(self, files: Sequence[File], out: str, call: Call) -> dict[str, Any]:
        """Write the pages of several PDFs to `out`, in order, as one PDF. It has no password.

        Raises:
            PasswordNeeded, UnreadableInput: as `render`.
        """
        from .exports.pdf import new_pdf
        from .pdf import PdfDocument

        self._limit(0)
        joined = new_pdf()
        for file in files:
            call.raise_if_cancelled()
            with self._opened(file) as opened:
                assert isinstance(opened, PdfDocument), "an export made it"
                joined.import_pages(opened.pdf)
        with disk_errors():
            joined.save(out)
        joined.close()
        return {}

    def _export_document(
        self, document: dict[str, Any], pages: list[dict[str, Any]], options: ExportOptions, out: str, call: Call
    ) -> None:
        from .exports.pdf import lay_under
        from .pdf import PdfDocument

        name = document["file"]["name"]
        with self._opened(document["file"]) as opened:
            for page in pages:
                check_page(name, page["page"], opened.count(max_pages=sys.maxsize))
            failed = {page["page"] for page in pages if page.get("finish") == "failed"}
            pdf = opened.pdf if isinstance(opened, PdfDocument) else _pdf_of(opened, document, failed, out, call)
            lay_under(pdf, pages, upright=options.upright)
            with disk_errors():
                pdf.save(out)
            self.close()  # it is no longer what is in the file

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
        import resource  # which Windows does not have

        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        limit = used + MEMORY_BASE + max_pixels * BYTES_PER_PIXEL
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))

    @contextmanager
    def _opened(self, file: File) -> Iterator[OpenDocument]:
        """The document. Errors of a library that reads it become ours, and name the file."""
        with decoder_errors(file["name"]):
            path, password = file["path"], file.get("password", "")
            facts = os.stat(path)
            key = (path, password, facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
            if self._document is None or self._key != key:
                self.close()
                self._document = _open_document(path, file["name"], password)
                self._key = key
            yield self._document

    def close(self) -> None:
        """Let go of the document that is open, if one is."""
        document, self._document, self._key = self._document, None, None
        if document is not None:
            document.close()


def _pdf_of(opened: OpenDocument, document: dict[str, Any], failed: Collection[int], out: str, call: Call) -> Any:
    """A PDF of the pages of a picture file.

    Args:
        document: as `PageRenderer.export` takes it.
        failed: pages that could not be read. Where such a page cannot be drawn either, an empty one is in its place.
        out: a file to draw into.
    """
    from .exports.pdf import add_empty_page, add_picture, new_pdf

    pdf = new_pdf()
    file = document["file"]
    original = file["path"] if opened.format == "JPEG" else ""
    for number in range(1, opened.count(max_pages=sys.maxsize) + 1):
        call.raise_if_cancelled()
        try:
            with decoder_errors(file["name"]):
                width, height = opened.draw(number, document["dpi"], document["max_pixels"], out, call)
        except OcrError:
            if number not in failed:
                raise
            add_empty_page(pdf)
        else:
            add_picture(pdf, out, {"width": width, "height": height}, document["dpi"], original)
    return pdf


def _open_document(path: str, name: str, password: str) -> OpenDocument:
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    kind = sniff(head)
    if kind is None:
        raise unreadable_format(head, name)
    if kind == "PDF":
        from .pdf import PdfDocument  # PDFium, which pictures do not need

        return PdfDocument(path, name, password)
    from .pictures import PictureDocument

    return PictureDocument(path, name, kind)

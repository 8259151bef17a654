"""What was read, as a file: a Word document out of its Markdown, or its own pages with the text laid under them.

Runs in the child process that documents are parsed in. Never fails over what a text holds: a model wrote it.
Nothing of it becomes a link, a field, a script or an address to load.

A searchable PDF looks as it did before, point for point. Its text is invisible, in a font without shapes, and as
exact as its boxes are: a line for an engine that boxes lines, a share of the box for one that boxes paragraphs.
A page that has text of its own is left alone. A Word document has headings, paragraphs, lists and tables;
formulas stay as they were written, and where things stood on the page is not kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import html
import io
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pypdfium2
import pypdfium2.raw as raw

from ..encode import open_page_image

__all__ = ["PdfPicture", "lay_under", "pdf_of_pictures", "picture_for_pdf"]

GLYPH_WIDTH: Final = 500  # thousandths of the size of the text; any would do, as lines are stretched to fit
OWN_TEXT: Final = 8  # characters: a page with more has text of its own, not just a number that a scanner wrote
SURROGATES: Final = range(0xD800, 0xE000)
JPEG_QUALITY: Final = 88
TAGS: Final = re.compile(r"</?[A-Za-z][^<>]*>|<!--.*?-->", re.DOTALL)


class PdfPicture(NamedTuple):
    """A page of a picture file: upright RGB, as JPEG or as rows."""

    width: int
    height: int
    data: bytes
    filter: str
    """`DCTDecode` or `FlateDecode`."""


def lay_under(pdf: pypdfium2.PdfDocument, pages: Sequence[Mapping[str, Any]]) -> None:
    """Put the text of `pages` under the pages of a PDF that is open."""
    texts = [page for page in pages if 1 <= page["page"] <= len(pdf) and not _has_text(pdf, page["page"])]
    if not texts:
        return
    with contextlib.closing(pypdfium2.PdfDocument(_pdf([_PdfPage.of(page) for page in texts]))) as overlay:
        for index, text in enumerate(texts):
            page = pdf[text["page"] - 1]
            laid = overlay.page_as_xobject(index, pdf).as_pageobject()
            laid.set_matrix(pypdfium2.PdfMatrix(*_to_page(page, text["width"], text["height"])))
            page.insert_obj(laid)
            page.gen_content()
            page.close()


def pdf_of_pictures(pictures: Sequence[PdfPicture], pages: Sequence[Mapping[str, Any]], dpi: int) -> bytes:
    """A PDF of these pictures, each with the text of its page under it."""
    texts = {page["page"]: page for page in pages}
    sheets = []
    for number, picture in enumerate(pictures, start=1):
        sheet = _PdfPage.of(texts[number]) if number in texts else _PdfPage(picture.width, picture.height, [])
        sheets.append(sheet._replace(picture=picture, points=(picture.width * 72 / dpi, picture.height * 72 / dpi)))
    return _pdf(sheets)


def _has_text(pdf: pypdfium2.PdfDocument, number: int) -> bool:
    page = pdf[number - 1]
    text = page.get_textpage()
    try:
        return bool(text.count_chars() > OWN_TEXT)
    finally:
        text.close()
        page.close()


def _to_page(page: pypdfium2.PdfPage, width: int, height: int) -> tuple[float, ...]:
    """The matrix from a sheet of `width` by `height`, origin bottom left, to the page's own space.

    PDFium knows how the page is turned and cropped.
    """

    def point(x: int, y: int) -> tuple[float, float]:
        to_x, to_y = ctypes.c_double(), ctypes.c_double()
        raw.FPDF_DeviceToPage(page, 0, 0, width, height, 0, x, y, to_x, to_y)
        return to_x.value, to_y.value

    (left, bottom), (right, also_bottom), (also_left, top) = point(0, height), point(width, height), point(0, 0)
    return (
        (right - left) / width,
        (also_bottom - bottom) / width,
        (also_left - left) / height,
        (top - bottom) / height,
        left,
        bottom,
    )


class _PdfPage(NamedTuple):
    """A page to write: its lines in pixels, and perhaps the picture that they stand on."""

    width: int
    height: int
    lines: list[tuple[str, float, float, float, float]]
    """Text, left, top, width, height."""
    picture: PdfPicture | None = None
    points: tuple[float, float] | None = None
    """Size of the page; None: a point for each pixel."""

    @classmethod
    def of(cls, page: Mapping[str, Any]) -> _PdfPage:
        return cls(page["width"], page["height"], list(_lines(page)))


def _lines(page: Mapping[str, Any]) -> Iterator[tuple[str, float, float, float, float]]:
    for block in page.get("blocks") or ():
        left, top, right, bottom = block["box"]
        lines = [line for raw in TAGS.sub(" ", block["text"]).splitlines() if (line := html.unescape(raw).strip())]
        width, height = right - left, bottom - top
        if lines and width > 0 and height > 0:
            share = height / len(lines)
            for index, line in enumerate(lines):
                yield line, left, top + index * share, width, share


def _pdf(sheets: Sequence[_PdfPage]) -> bytes:
    """A PDF, written object by object."""
    objects: list[bytes] = []

    def add(dictionary: str, stream: bytes | None = None, *, packed: bool = False) -> int:
        if stream is None:
            objects.append(dictionary.encode())
        else:
            if not packed:
                stream, dictionary = zlib.compress(stream), f"{dictionary} /Filter /FlateDecode"
            objects.append(b"<< %s /Length %d >>\nstream\n%s\nendstream" % (dictionary.encode(), len(stream), stream))
        return len(objects)

    add("<< /Type /Catalog /Pages 2 0 R >>")
    add("")  # the pages: known at the end
    codes = _Codes()
    to_unicode = add("")  # what it says is known when all text is written
    glyphs = add("", b"\0\1" * 65536)  # every character has the one glyph
    font_file = add("", _font())
    descriptor = add(
        "<< /Type /FontDescriptor /FontName /GlyphLessFont /Flags 5 /FontBBox [0 0 500 1000] /ItalicAngle 0 "
        f"/Ascent 1000 /Descent -1 /CapHeight 1000 /StemV 80 /FontFile2 {font_file} 0 R >>"
    )
    descendant = add(
        "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /GlyphLessFont "
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> "
        f"/FontDescriptor {descriptor} 0 R /CIDToGIDMap {glyphs} 0 R /DW {GLYPH_WIDTH} >>"
    )
    font = add(
        "<< /Type /Font /Subtype /Type0 /BaseFont /GlyphLessFont /Encoding /Identity-H "
        f"/DescendantFonts [{descendant} 0 R] /ToUnicode {to_unicode} 0 R >>"
    )
    kids = []
    for sheet in sheets:
        width, height = sheet.points or (sheet.width, sheet.height)
        resources = f"/Font << /F {font} 0 R >>"
        if (picture := sheet.picture) is not None:
            image = add(
                f"/Type /XObject /Subtype /Image /Width {picture.width} /Height {picture.height} "
                f"/ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /{picture.filter}",
                picture.data,
                packed=True,
            )
            resources += f" /XObject << /I {image} 0 R >>"
        content = add("", _content(sheet, width, height, codes))
        page = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:.3f} {height:.3f}] "
        kids.append(add(f"{page}/Resources << {resources} >> /Contents {content} 0 R >>"))
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] >>".encode()
    mapping = zlib.compress(codes.to_unicode())
    objects[to_unicode - 1] = b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(mapping), mapping)
    return _file(objects)


def _content(sheet: _PdfPage, width: float, height: float, codes: _Codes) -> bytes:
    parts = []
    if sheet.picture is not None:
        parts.append(f"q {width:.3f} 0 0 {height:.3f} 0 0 cm /I Do Q")
    parts.append(f"q {width / sheet.width:.6f} 0 0 {height / sheet.height:.6f} 0 0 cm BT 3 Tr")
    for text, left, top, wide, high in sheet.lines:
        code = codes.of(text)
        stretch = 100 * wide / (len(code) / 2 * high * GLYPH_WIDTH / 1000)
        parts.append(
            f"/F {high:.2f} Tf {stretch:.3f} Tz 1 0 0 1 {left:.2f} {sheet.height - top - high:.2f} Tm <{code.hex()}> Tj"
        )
    parts.append("ET Q")
    return "\n".join(parts).encode()


def _file(objects: Sequence[bytes]) -> bytes:
    out = bytearray(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


class _Codes:
    """Two bytes for each character: its number in Unicode; for those beyond, numbers that Unicode leaves free.

    Half characters, which UTF-16 would make of them, are no text to most readers.
    """

    def __init__(self) -> None:
        self._beyond: dict[str, int] = {}

    def of(self, text: str) -> bytes:
        return b"".join(self._code(char).to_bytes(2, "big") for char in text)

    def _code(self, char: str) -> int:
        if (number := ord(char)) in SURROGATES:
            return ord("\ufffd")
        if number <= 0xFFFF:
            return number
        if len(self._beyond) < len(SURROGATES):
            self._beyond.setdefault(char, SURROGATES[len(self._beyond)])
        return self._beyond.get(char, ord("\ufffd"))

    def to_unicode(self) -> bytes:
        """The PDF's own table of what the codes mean. A range may not go over 256 codes, a block not over 100."""
        rows = [
            b"<%02X00> <%02XFF> <%02X00>" % (high, high, high) for high in range(256) if high << 8 not in SURROGATES
        ]
        rows += [
            b"<%04X> <%04X> <%s>" % (code, code, char.encode("utf-16-be").hex().upper().encode())
            for char, code in self._beyond.items()
        ]
        blocks = [rows[start : start + 100] for start in range(0, len(rows), 100)]
        return b"\n".join(
            [
                b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
                b"/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def",
                b"/CMapName /Adobe-Identity-UCS def /CMapType 2 def",
                b"1 begincodespacerange <0000> <FFFF> endcodespacerange",
                *(b"%d beginbfrange\n%s\nendbfrange" % (len(block), b"\n".join(block)) for block in blocks),
                b"endcmap CMapName currentdict /CMap defineresource pop end end",
            ]
        )


def _font() -> bytes:
    """A TrueType font with two glyphs: none, and a line from corner to corner.

    Text that nobody sees needs no shapes. But readers take a character's place from its glyph, and leave out what
    has none; the line encloses nothing, so that even who paints it paints nothing.
    """
    tables = {
        b"glyf": struct.pack(">5hHHBBhh", 1, 0, 0, 500, 1000, 1, 0, 0x31, 0x01, 500, 1000),
        b"head": struct.pack(
            ">IIIIHHQQhhhhHHhhh", 0x10000, 0x10000, 0, 0x5F0F3CF5, 0, 1000, 0, 0, 0, 0, 500, 1000, 0, 8, 2, 0, 0
        ),
        b"hhea": struct.pack(">IhhhHhhhhhhhhhhhH", 0x10000, 1000, 0, 0, 500, 0, 0, 500, 1, *(0,) * 7, 1),
        b"hmtx": struct.pack(">Hhh", 500, 0, 0),
        b"loca": struct.pack(">HHH", 0, 0, 10),  # in units of two bytes
        b"maxp": struct.pack(">IH13H", 0x10000, 2, 2, 1, 0, 0, 1, *(0,) * 8),
    }
    at = 12 + 16 * len(tables)
    directory, body = struct.pack(">IHHHH", 0x10000, len(tables), 64, 2, 32), b""
    for tag, table in sorted(tables.items()):
        padded = table + b"\0" * (-len(table) % 4)
        total = sum(struct.unpack(f">{len(padded) // 4}I", padded)) & 0xFFFFFFFF
        directory += struct.pack(">4sIII", tag, total, at + len(body), len(table))
        body += padded
    return directory + body


def picture_for_pdf(path: str, size: Mapping[str, Any]) -> PdfPicture:
    """As JPEG or as packed rows, whichever is smaller: photographs suit the one, drawn pages the other."""
    image = open_page_image(path, size)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=JPEG_QUALITY)
    packed = zlib.compress(image.tobytes())
    if len(packed) <= jpeg.tell():
        return PdfPicture(image.width, image.height, packed, "FlateDecode")
    return PdfPicture(image.width, image.height, jpeg.getvalue(), "DCTDecode")

"""Lays the text that was read under the pages of a PDF: invisible, in place, to be searched and copied.

A page looks as it did before, point for point. A page that has text of its own keeps this text, and gets only the text
that was read beside it. PDFium writes the file. Its calls for fonts without an encoding (`FPDFText_LoadCidType2Font`)
replace a PDF writer of our own. fpdf2 cannot change a PDF, and pikepdf has no fonts.

A word is one piece of text, stretched to the width of its box, and the space after it is another. Poppler breaks a word
where its base line moves by half a point. So the words of a line that is skewed are level, each a little lower or
higher than the one before. On a page that was drawn at 30 degrees Poppler finds 87 % of such words; of words that are
turned with the page it finds none.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import math
import re
import struct
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import pypdfium2
import pypdfium2.raw as raw
from PIL import Image, ImageChops

from ..encode import open_page_image
from .placing import PlacedLine, is_without_spaces, placed_blocks, quarter_of, text_sides

__all__ = ["add_empty_page", "add_picture", "lay_under", "new_pdf"]

OWN_TEXT: Final = 8  # characters: a page with more has text of its own, not just a number that a scanner wrote
GLYPH_WIDTH: Final = 500  # thousandths of the size of the text; any would do, as words are stretched to fit
MAX_CODES: Final = 0xFFFE  # different characters in one document
EMPTY_PAGE: Final = (595, 842)  # points: A4
JPEG_QUALITY: Final = 88
EXIF_ORIENTATION: Final = 0x0112
RUNS_RIGHT: Final = re.compile(
    "[A-Za-z0-9\u0660-\u0669\u06f0-\u06f9]+(?:[.,:/+-][A-Za-z0-9\u0660-\u0669\u06f0-\u06f9]+)*"
)
"""Numbers and Latin letters within a Hebrew or Arabic word."""
LEAST_GAP: Final = 0.2  # times the height of a line, between two words; Poppler takes up to 0.15 for none
LEAST_WORD: Final = 1.0  # pixels: the width of a word whose box is hidden by others
LINE_END: Final = 4.0  # pixels: the width of the space that ends a line
LEVEL: Final = 0.3  # degrees: the words of a line that is skewed less stand at one height for every reader
UPSIDE_DOWN_LIFT: Final = 0.42
"""Times the height of a line by which a space in a line that is upside down stands off.

PDFium sorts pieces of text at one height from left to right, which turns the words of such a line round. It takes a
piece that is off by half the width of a character for the next line, but writes no line break before 0.5. Measured with
PDFium 152 on drawn pages: 0.3 to 0.45 give the words in order and in one line.
"""


def lay_under(pdf: pypdfium2.PdfDocument, pages: Sequence[Mapping[str, Any]], *, upright: bool = False) -> None:
    """Put the text of `pages` under the pages of a PDF that is open.

    Args:
        pages: as they were read: `page`, `width`, `height` and `blocks`; perhaps `turn`.
        upright: whether pages are turned by their `turn`, so that a viewer shows them upright.
    """
    texts = [page for page in pages if 1 <= page["page"] <= len(pdf)]
    lines = {number: _missing_lines(pdf, page) for number, page in enumerate(texts)}
    font = None
    if characters := {char for found in lines.values() for line in found for word in line.words for char in word.text}:
        font = _InvisibleFont(pdf, characters)
    for number, text in enumerate(texts):
        page = pdf[text["page"] - 1]
        if font is not None and lines[number]:
            place = _PagePoints.of(page, text["width"], text["height"])
            for line, following in zip(lines[number], [*lines[number][1:], None], strict=True):
                for piece in _pieces(line, following):
                    raw.FPDFPage_InsertObject(page, font.text_object(piece, place))
            page.gen_content()
        if upright and (turn := text.get("turn")):
            page.set_rotation((page.get_rotation() + int(turn)) % 360)
        page.close()


def new_pdf() -> Any:
    """A PDF without pages."""
    return pypdfium2.PdfDocument.new()


def add_empty_page(pdf: Any) -> None:
    """Add a page of A4 without anything on it, so that the pages behind it keep their numbers."""
    pdf.new_page(*EMPTY_PAGE).close()


def add_picture(pdf: Any, path: str, size: Mapping[str, Any], dpi: float, original: str = "") -> None:
    """Add a page with a picture to a PDF.

    A JPEG that shows the page as it is goes in as it is. Any other picture goes in as JPEG or as packed rows, whichever
    is smaller: photographs suit the one, drawn pages the other. The page is written and taken over packed, because
    PDFium holds the rows of a picture unpacked until its document is written.

    Args:
        pdf: from `new_pdf`.
        path: a page that was drawn.
        size: its `width` and `height` in pixels.
        dpi: pixels of it that make an inch.
        original: the file that it was drawn from; empty: that is no JPEG.
    """
    picture = _grey_if_grey(open_page_image(path, size))
    jpeg, packed = _unchanged_jpeg(original, picture.size), io.BytesIO()
    if jpeg is None:
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=JPEG_QUALITY)
        if len(zlib.compress(picture.tobytes())) > encoded.tell():
            jpeg = encoded.getvalue()
    width, height = picture.width * 72 / dpi, picture.height * 72 / dpi
    with contextlib.closing(pypdfium2.PdfDocument.new()) as sheet:
        page, image = sheet.new_page(width, height), pypdfium2.PdfImage.new(sheet)
        if jpeg is None:
            image.set_bitmap(pypdfium2.PdfBitmap.from_pil(picture))
        else:
            image.load_jpeg(io.BytesIO(jpeg), inline=True)
        image.set_matrix(pypdfium2.PdfMatrix().scale(width, height))
        page.insert_obj(image)
        page.gen_content()
        sheet.save(packed)
    with contextlib.closing(pypdfium2.PdfDocument(packed)) as sheet:
        pdf.import_pages(sheet)


def _grey_if_grey(picture: Image.Image) -> Image.Image:
    """A picture without colours as one plane: a third of the rows."""
    red, green, blue = picture.split()
    if ImageChops.difference(red, green).getbbox() or ImageChops.difference(green, blue).getbbox():
        return picture
    return red


def _unchanged_jpeg(path: str, size: tuple[int, int]) -> bytes | None:
    """The bytes of a JPEG that every reader of PDF shows as it was drawn; None: there is none, or it may differ."""
    if not path:
        return None
    with Image.open(path, formats=["JPEG"]) as image:
        if image.format != "JPEG" or image.mode not in ("L", "RGB") or image.size != size:
            return None
        if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
            return None
    with open(path, "rb") as file:
        return file.read()


def _missing_lines(pdf: pypdfium2.PdfDocument, page: Mapping[str, Any]) -> list[PlacedLine]:
    """The lines that the page in the PDF does not hold. Where it has text of its own, what was read beside that."""
    has_text = _has_text(pdf, page["page"])
    return [line for block in placed_blocks(page) if not has_text or block.source == "read" for line in block.lines]


def _has_text(pdf: pypdfium2.PdfDocument, number: int) -> bool:
    page = pdf[number - 1]
    with contextlib.closing(page), contextlib.closing(page.get_textpage()) as text:
        return bool(text.count_chars() > OWN_TEXT)


# ---------------------------------------------------------------- where text stands


class _PlacedText(NamedTuple):
    """Characters on a straight base line, all in pixels of the page: where it begins, its vector, and its height's."""

    text: str
    """In the order in which the characters stand."""
    start: tuple[float, float]
    along: tuple[float, float]
    up: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _PagePoints:
    """The way from pixels of a page, as it was drawn, to the points of the page's own space."""

    origin: tuple[float, float]
    right: tuple[float, float]
    """The vector of one pixel to the right."""
    down: tuple[float, float]

    @classmethod
    def of(cls, page: pypdfium2.PdfPage, width: int, height: int) -> _PagePoints:
        """PDFium knows how the page is turned and cropped."""

        def point(x: int, y: int) -> tuple[float, float]:
            to_x, to_y = ctypes.c_double(), ctypes.c_double()
            raw.FPDF_DeviceToPage(page, 0, 0, width, height, 0, x, y, to_x, to_y)
            return to_x.value, to_y.value

        (x, y), (right_x, right_y), (down_x, down_y) = point(0, 0), point(width, 0), point(0, height)
        return cls(
            (x, y), ((right_x - x) / width, (right_y - y) / width), ((down_x - x) / height, (down_y - y) / height)
        )

    def vector(self, x: float, y: float) -> tuple[float, float]:
        """In points, of a vector in pixels."""
        return x * self.right[0] + y * self.down[0], x * self.right[1] + y * self.down[1]

    def point(self, x: float, y: float) -> tuple[float, float]:
        """In points, of a place in pixels."""
        there = self.vector(x, y)
        return self.origin[0] + there[0], self.origin[1] + there[1]


class _LineFrame:
    """A line, seen as if it were level but for its slant: u goes ahead, v goes down, both in pixels."""

    def __init__(self, line: PlacedLine) -> None:
        quarter, self._slant = quarter_of(line.angle)
        self._cosine, self._sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[quarter]
        self._rise = math.tan(math.radians(self._slant))
        self.is_level = abs(self._slant) < LEVEL
        self.is_upside_down = quarter == 180
        self.boxes = [self.seen(word.box) for word in line.words]
        tops, bottoms = zip(*map(self._extent, self.boxes), strict=True)
        self._top, self._bottom = min(tops), max(bottoms)
        self.height = self._bottom - self._top

    def seen(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """A box of the page as the line sees it."""
        left, top, right, bottom = box
        us = (left * self._cosine + top * self._sine, right * self._cosine + bottom * self._sine)
        vs = (top * self._cosine - left * self._sine, bottom * self._cosine - right * self._sine)
        return min(us), min(vs), max(us), max(vs)

    def _extent(self, box: tuple[float, float, float, float]) -> tuple[float, float]:
        """The top and the bottom of a word where its line meets u = 0."""
        _, height = text_sides(box, self._slant, across=False)
        middle = (box[1] + box[3]) / 2 - self._rise * (box[0] + box[2]) / 2
        return middle - height / 2, middle + height / 2

    def piece(self, text: str, begin: float, end: float, lines_below: float = 0.0) -> _PlacedText:
        """Text from one u to another, so many times its height below its place."""
        bottom = self._bottom + self._rise * (begin + end) / 2 + lines_below * self.height
        start = (begin * self._cosine - bottom * self._sine, begin * self._sine + bottom * self._cosine)
        along = ((end - begin) * self._cosine, (end - begin) * self._sine)
        return _PlacedText(text, start, along, (self.height * self._sine, -self.height * self._cosine))


def _pieces(line: PlacedLine, following: PlacedLine | None) -> Iterator[_PlacedText]:
    """The words of a line and the spaces between them, in the order in which they stand.

    Args:
        following: the line whose text comes next.
    """
    frame = _LineFrame(line)
    mixed = any(_runs_left(word.text) for word in line.words)
    stretches = [
        _Stretch(_as_it_stands(word.text), box[0], box[2], word.spaced or mixed)
        for word, box in zip(line.words, frame.boxes, strict=True)
    ]
    if mixed:
        stretches.sort(key=lambda word: word.begin)
    words = _parted(list(_joined(stretches)), LEAST_GAP * frame.height)
    lift = UPSIDE_DOWN_LIFT if frame.is_upside_down else 0.0
    for word, after in zip(words, [*words[1:], None], strict=True):
        yield frame.piece(word.text, word.begin, word.end)
        if after is None:
            yield frame.piece(" ", word.end, word.end + LINE_END, _line_end(frame, following))
        elif word.spaced:
            yield frame.piece(" ", word.end, after.begin, -lift)


def _line_end(frame: _LineFrame, following: PlacedLine | None) -> float:
    """Where the space at the end of a line stands: so many times the height of the line below it.

    On a skewed page the next line may begin at the height at which this one ends. PDFium would take both for one line,
    and sort their words, if the space were not off them both.
    """
    if frame.is_level or following is None:
        return 0.0
    begins, ends = frame.seen(following.words[0].box), frame.boxes[-1]
    return 1.0 if begins[1] + begins[3] < ends[1] + ends[3] else -1.0


class _Stretch(NamedTuple):
    """A word and its place on its line."""

    text: str
    begin: float
    end: float
    spaced: bool


def _joined(words: Sequence[_Stretch]) -> Iterator[_Stretch]:
    """The words, those of scripts without spaces in one: PDFium would put each on a line of its own in a column."""
    open_word: _Stretch | None = None
    for word in words:
        if open_word is None:
            open_word = word
        elif not open_word.spaced and is_without_spaces(open_word.text) and is_without_spaces(word.text):
            open_word = _Stretch(open_word.text + word.text, open_word.begin, max(open_word.end, word.end), word.spaced)
        else:
            yield open_word
            open_word = word
    if open_word is not None:
        yield open_word


def _parted(words: Sequence[_Stretch], gap: float) -> list[_Stretch]:
    """The words with a gap where a space is, and none where there is none: readers take a gap for a space.

    Boxes around the words of a skewed line may overlap, and boxes around ink leave a gap between a figure and a sign.
    """
    parted = list(words)
    for number, (word, after) in enumerate(pairwise(words)):
        width = max(gap, after.begin - word.end) if word.spaced else 0.0
        middle = (word.end + after.begin) / 2
        parted[number] = parted[number]._replace(end=max(parted[number].begin + LEAST_WORD, middle - width / 2))
        begin = middle + width / 2
        parted[number + 1] = after._replace(begin=begin, end=max(after.end, begin + LEAST_WORD))
    return parted


def _runs_left(text: str) -> bool:
    return any(unicodedata.bidirectional(char) in ("R", "AL") for char in text)


def _as_it_stands(text: str) -> str:
    """The characters of a word from left to right: readers of PDF turn Hebrew and Arabic round again."""
    if not _runs_left(text):
        return text
    return RUNS_RIGHT.sub(lambda match: match[0][::-1], text[::-1])


# ---------------------------------------------------------------- the font


class _InvisibleFont:
    """A font without shapes for the characters of one document."""

    def __init__(self, pdf: pypdfium2.PdfDocument, characters: Iterable[str]) -> None:
        self._pdf = pdf
        self._codes = {char: code for code, char in enumerate(["\ufffd", *sorted({*characters, " "})][:MAX_CODES], 1)}
        font = _font_file()
        glyphs = b"\0\0" + b"\0\1" * len(self._codes)  # every character has the one glyph
        self._font = raw.FPDFText_LoadCidType2Font(
            pdf, _bytes(font), len(font), self._to_unicode(), _bytes(glyphs), len(glyphs)
        )
        if not self._font:
            raise RuntimeError("PDFium did not take the font of the text.")

    def text_object(self, piece: _PlacedText, place: _PagePoints) -> Any:
        """An object to insert into a page."""
        codes = [self._codes.get(char, 1) for char in piece.text]
        item = raw.FPDFPageObj_CreateTextObj(self._pdf, self._font, 1.0)
        raw.FPDFText_SetCharcodes(item, (ctypes.c_uint32 * len(codes))(*codes), len(codes))
        raw.FPDFTextObj_SetTextRenderMode(item, raw.FPDF_TEXTRENDERMODE_INVISIBLE)
        stretch = 1 / (len(codes) * GLYPH_WIDTH / 1000)
        along, up, start = place.vector(*piece.along), place.vector(*piece.up), place.point(*piece.start)
        raw.FPDFPageObj_SetMatrix(item, raw.FS_MATRIX(along[0] * stretch, along[1] * stretch, *up, *start))
        return item

    def _to_unicode(self) -> bytes:
        """The PDF's own table of what the codes mean. A block may not go over 100 rows."""
        rows = [
            b"<%04X> <%s>" % (code, char.encode("utf-16-be", "replace").hex().upper().encode())
            for char, code in self._codes.items()
        ]
        blocks = [rows[start : start + 100] for start in range(0, len(rows), 100)]
        return b"\n".join(
            [
                b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
                b"/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def",
                b"/CMapName /Adobe-Identity-UCS def /CMapType 2 def",
                b"1 begincodespacerange <0000> <FFFF> endcodespacerange",
                *(b"%d beginbfchar\n%s\nendbfchar" % (len(block), b"\n".join(block)) for block in blocks),
                b"endcmap CMapName currentdict /CMap defineresource pop end end",
            ]
        )


def _bytes(data: bytes) -> Any:
    return (ctypes.c_ubyte * len(data)).from_buffer_copy(data)


def _font_file() -> bytes:
    """A TrueType font with two glyphs: none, and a line from corner to corner.

    Text that nobody sees needs no shapes. But readers take a character's place from its glyph, and leave out what
    has none; the line encloses nothing, so that even who paints it paints nothing. It reaches two units below the base
    line: PDFium rounds one to 0, which Poppler takes for a font that does not say.
    """
    tables = {
        b"glyf": struct.pack(">5hHHBBhh", 1, 0, 0, 500, 1000, 1, 0, 0x31, 0x01, 500, 1000),
        b"head": struct.pack(
            ">IIIIHHQQhhhhHHhhh", 0x10000, 0x10000, 0, 0x5F0F3CF5, 0, 1000, 0, 0, 0, 0, 500, 1000, 0, 8, 2, 0, 0
        ),
        b"hhea": struct.pack(">IhhhHhhhhhhhhhhhH", 0x10000, 1000, -2, 0, 500, 0, 0, 500, 1, *(0,) * 7, 1),
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

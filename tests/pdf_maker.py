"""PDFs written by hand, so that a test knows every character and where it stands."""

from __future__ import annotations

import re
import unicodedata
import zlib
from dataclasses import dataclass, field
from itertools import groupby

A4 = (595, 842)
PROSE = [
    "The concept of the word processor predates modern computers and has",
    "evolved through several technological milestones. Many of them were",
    "made by people who wanted to write without retyping whole documents.",
]
FIRST_FONT, FONT_STEP, FIRST_PAGE = 1_000, 5, 10_000
MAP = (
    "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def\n"
    "1 begincodespacerange <00> <ff> endcodespacerange\n{} endcmap end end"
)
STROKES = {
    " ": "",
    "A": "000416263430 0232",
    "C": "3526160501102031",
    "D": "00062635312000",
    "E": "30000636 0323",
    "I": "1016",
    "L": "060030",
    "N": "00063036",
    "O": "100105162635312010",
    "P": "00062635342303",
    "R": "00062635342303 1330",
    "S": "01102031320405162635",
    "T": "0626 1016",
}
"""Letters as lines on a grid of 4 by 6: pairs of figures are points, spaces part lines."""
BLOCK = re.compile(r"/T([0-9a-f]{2,3}) ")


def letter_map(pairs: dict[str, str]) -> str:
    """A ToUnicode map for a font of single bytes: what each of these characters is said to be."""
    lines = [f"<{ord(a):02x}> <{b.encode('utf-16-be').hex()}>" for a, b in pairs.items()]
    body = "".join(
        f"{len(part)} beginbfchar\n" + "\n".join(part) + "\nendbfchar\n"
        for part in (lines[start : start + 100] for start in range(0, len(lines), 100))
    )
    return MAP.format(body)


@dataclass
class Sheet:
    """A page in the making. Places are in points from the top left; `y` is a baseline."""

    size: tuple[float, float] = A4
    entries: str = ""
    """More of the page's dictionary, such as `/Rotate 90`."""
    parts: list[str] = field(default_factory=list)
    annotations: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, size: float = 12, font: str = "F1", more: str = "") -> Sheet:
        """One line. Font `U` draws every character as a block, the others know those of Windows-1252."""
        if font == "U":
            shown = " ".join(
                f"/T{high:02x} {size} Tf <{''.join(f'{ord(char) & 255:02x}' for char in run)}> Tj"
                for high, run in groupby(text, key=lambda char: ord(char) >> 8)
            )
            self.parts.append(f"{more} BT 1 0 0 1 {x} {self.size[1] - y} Tm {shown} ET")
        else:
            if font == "N":
                shown = f"<{text.encode('utf-16-be').hex()}>"
            else:
                text = text.encode("cp1252").decode("latin-1")
                shown = "(" + text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") + ")"
            self.parts.append(f"{more} BT /{font} {size} Tf 1 0 0 1 {x} {self.size[1] - y} Tm {shown} Tj ET")
        return self

    def stacked(self, x: float, y: float, text: str, size: float = 12) -> Sheet:
        """From top to bottom, as browsers write it: each character has its own place."""
        for number, char in enumerate(text):
            self.text(x, y + number * size, char, size, "U")
        return self

    def turned(self, x: float, y: float, text: str, matrix: str, size: float = 12) -> Sheet:
        """A line whose text matrix begins with these four numbers."""
        self.parts.append(f"BT /F1 {size} Tf {matrix} {x} {self.size[1] - y} Tm ({text}) Tj ET")
        return self

    def paragraph(self, x: float, y: float, lines: list[str], size: float = 12, font: str = "F1") -> Sheet:
        for number, line in enumerate(lines):
            self.text(x, y + number * 1.25 * size, line, size, font)
        return self

    def rule(self, x1: float, y1: float, x2: float, y2: float) -> Sheet:
        height = self.size[1]
        self.parts.append(f"0.5 w {x1} {height - y1} m {x2} {height - y2} l S")
        return self

    def box(self, x1: float, y1: float, x2: float, y2: float, colour: str = "0 0 0") -> Sheet:
        self.parts.append(f"q {colour} rg {x1} {self.size[1] - y2} {x2 - x1} {y2 - y1} re f Q")
        return self

    def picture(self, x1: float, y1: float, x2: float, y2: float, name: str = "Im") -> Sheet:
        self.parts.append(f"q {x2 - x1} 0 0 {y2 - y1} {x1} {self.size[1] - y2} cm /{name} Do Q")
        return self

    def raw(self, operators: str) -> Sheet:
        self.parts.append(operators)
        return self

    def strokes(self, x: float, y: float, text: str, size: float = 20) -> Sheet:
        """Capital letters and figures drawn as strokes, as drawing programs plot them; `y` is their foot."""
        step = size / 6
        for number, char in enumerate(text):
            left = x + number * 4.4 * step
            for line in STROKES[char].split():
                ends = [
                    f"{left + int(a) * step:.2f} {self.size[1] - y + int(b) * step:.2f}"
                    for a, b in zip(line[::2], line[1::2], strict=True)
                ]
                self.parts.append(f"1.2 w {ends[0]} m {' l '.join(ends[1:])} l S")
        return self

    def annotation(self, entries: str) -> Sheet:
        self.annotations.append(entries)
        return self


def born_digital(title: str = "A Title of this Page") -> Sheet:
    """A page with text of its own: a title, a paragraph, two items of a list."""
    sheet = Sheet().text(72, 100, title, 24).paragraph(72, 140, PROSE)
    return sheet.text(72, 210, "• the first item").text(72, 226, "• the second one")


def scanned() -> Sheet:
    """A page that is a picture."""
    return Sheet().picture(0, 0, *A4)


def garbled() -> Sheet:
    """A page that looks well, and whose font does not say which characters it has."""
    return Sheet().paragraph(72, 100, PROSE, font="N")


def invisible() -> Sheet:
    """A scan with an earlier OCR, of unknown quality, under it."""
    return scanned().raw("3 Tr").paragraph(72, 100, [f"hidden {line}" for line in PROSE])


def stream(data: str | bytes, entries: str = "") -> bytes:
    data = data.encode("latin-1") if isinstance(data, str) else data
    return f"<< /Length {len(data)} {entries} >>\nstream\n".encode() + data + b"\nendstream"


def pdf(*sheets: Sheet, catalog: str = "", objects: dict[int, str | bytes] | None = None) -> bytes:
    """The file. Objects of your own have numbers from 50 to 99; pages begin at 10,000."""
    blocks = sorted({int(found, 16) for sheet in sheets for part in sheet.parts for found in BLOCK.findall(part)})
    fonts = "/F1 10 0 R /F2 11 0 R /N 14 0 R /X 15 0 R /S 16 0 R "
    fonts += " ".join(f"/T{block:02x} {FIRST_FONT + FONT_STEP * block} 0 R" for block in blocks)
    made: dict[int, str | bytes] = {
        10: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        11: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>",
        14: "<< /Type /Font /Subtype /Type0 /BaseFont /Foo /Encoding /Identity-H /DescendantFonts [31 0 R] >>",
        15: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding /ToUnicode 34 0 R >>",
        16: "<< /Type /Font /Subtype /Type1 /BaseFont /Symbol >>",
        17: "<< /PatternType 2 /Shading << /ShadingType 2 /ColorSpace /DeviceRGB /Coords [0 0 500 0] "
            "/Extend [true true] /Function << /FunctionType 2 /Domain [0 1] /C0 [0 0 0.8] /C1 [0.8 0 0] /N 1 >> >> >>",
        30: "<< /Type /FontDescriptor /FontName /Foo /Flags 4 /FontBBox [0 -200 1000 800] /ItalicAngle 0 "
            "/Ascent 800 /Descent -200 /CapHeight 700 /StemV 80 >>",
        31: "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Foo /CIDSystemInfo << /Registry (Adobe) "
            "/Ordering (Identity) /Supplement 0 >> /FontDescriptor 30 0 R /DW 600 >>",
        34: stream(letter_map({chr(code): chr(code) for code in range(32, 127)})),
        40: stream(zlib.compress(bytes(64)), picture_entries("/DeviceGray", 8)),
        41: stream(zlib.compress(bytes(8)), picture_entries("/DeviceGray", 1)),
        42: stream(bytes([0x80] * 9), "/Type /XObject /Subtype /Image /Width 8 /Height 8 /ColorSpace /DeviceGray "
                   "/BitsPerComponent 1 /Filter /CCITTFaxDecode /DecodeParms << /K -1 /Columns 8 /Rows 8 >>"),
        **(objects or {}),
    }  # fmt: skip
    for block in blocks:
        made.update(drawn_font(block))
    kids = " ".join(f"{FIRST_PAGE + 2 * n} 0 R" for n in range(len(sheets)))
    made[1] = f"<< /Type /Catalog /Pages 2 0 R {catalog} >>"
    made[2] = f"<< /Type /Pages /Kids [{kids}] /Count {len(sheets)} >>"
    number = FIRST_PAGE + 2 * len(sheets)
    for n, sheet in enumerate(sheets):
        notes = []
        for entries in sheet.annotations:
            made[number] = f"<< /Type /Annot {entries} >>"
            notes.append(f"{number} 0 R")
            number += 1
        annots = f"/Annots [{' '.join(notes)}]" if notes else ""
        media = "" if "/MediaBox" in sheet.entries else f"/MediaBox [0 0 {sheet.size[0]} {sheet.size[1]}]"
        made[FIRST_PAGE + 2 * n] = (
            f"<< /Type /Page /Parent 2 0 R {media} {sheet.entries} {annots} "
            f"/Contents {FIRST_PAGE + 2 * n + 1} 0 R /Resources << "
            f"/Font << {fonts} >> /XObject << /Im 40 0 R /Bw 41 0 R /Fax 42 0 R /Fm 50 0 R >> "
            "/Properties << /L1 51 0 R /L2 52 0 R >> /ExtGState << /Multiply << /BM /Multiply >> "
            "/Clear << /ca 0 >> /Half << /ca 0.5 >> >> /Pattern << /Shade 17 0 R >> >> >>"
        )
        made[FIRST_PAGE + 2 * n + 1] = stream("\n".join(sheet.parts))
    body, offsets = b"%PDF-1.7\n", {}
    for key, value in sorted(made.items()):
        offsets[key] = len(body)
        body += (
            f"{key} 0 obj\n".encode() + (value.encode("latin-1") if isinstance(value, str) else value) + b"\nendobj\n"
        )
    table = "xref\n0 1\n0000000000 65535 f \n" + "".join(f"{k} 1\n{at:010} 00000 n \n" for k, at in offsets.items())
    return body + f"{table}trailer\n<< /Root 1 0 R /Size {number} >>\nstartxref\n{len(body)}\n%%EOF\n".encode()


def picture_entries(space: str, bits: int) -> str:
    return (
        f"/Type /XObject /Subtype /Image /Width 8 /Height 8 /ColorSpace {space} /BitsPerComponent {bits} "
        "/Filter /FlateDecode"
    )


def drawn_font(block: int) -> dict[int, str | bytes]:
    """A font of drawings for 256 characters: white space is white, a dash is flat, all others look like a block."""
    width = 1000 if block >= 0x2E else 600
    number = FIRST_FONT + FONT_STEP * block
    names = {
        "Encoding": f"<< /Differences [0 {' '.join(f'/{drawing(256 * block + n)}' for n in range(256))}] >>",
        "CharProcs": f"<< /block {number + 1} 0 R /dash {number + 3} 0 R /white {number + 4} 0 R >>",
        "ToUnicode": f"{number + 2} 0 R",
        "Widths": f"[{f'{width} ' * 256}]",
    }
    entries = " ".join(f"/{key} {value}" for key, value in names.items())
    box = "/FontBBox [0 -200 1000 800] /FontMatrix [0.001 0 0 0.001 0 0] /FirstChar 0 /LastChar 255 /Resources << >>"
    return {
        number: f"<< /Type /Font /Subtype /Type3 {box} {entries} >>",
        number + 1: stream(f"{width} 0 60 0 {width - 60} 700 d1 60 0 {width - 120} 700 re f"),
        number + 2: stream(MAP.format(f"1 beginbfrange <00> <ff> <{block:02x}00> endbfrange")),
        number + 3: stream(f"{width} 0 60 280 {width - 60} 350 d1 60 280 {width - 120} 70 re f"),
        number + 4: stream(f"{width} 0 0 0 0 0 d1"),
    }


def drawing(code: int) -> str:
    """Which of the font's drawings a character has."""
    category = unicodedata.category(chr(code)) if code < 0x110000 else "Co"
    if category in ("Zs", "Zl", "Zp") or (category == "Cf" and code != 0xAD):
        return "white"
    return "dash" if category == "Pd" or code == 0xAD else "block"

#!/usr/bin/env bash
# A PDF embeds a TrueType font whole, with its table of characters, and has no ToUnicode map (Identity-H).
# A good guess: the large engines (PDFium, MuPDF) find the letters in the font file, pdfminer does not.
# Seen: pdfminer alone finds them. PDFium, MuPDF and pypdf give the glyph numbers as characters.
. "$(dirname "$0")/common.sh"
python_with pypdfium2==5.15.2 pymupdf==1.27.2 pdfminer.six==20260107 pypdf==7.1.1 fonttools==4.68.0
python_runs <<'EOF'
import io

import pymupdf
import pypdf
import pypdfium2
from finding import as_described, pdf, stream, versions
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from pdfminer.high_level import extract_text

versions("pypdfium2", "pymupdf", "pdfminer.six", "pypdf")
letters = "abc"
pen = TTGlyphPen(None)
for at, point in enumerate(((0, 0), (0, 600), (500, 600), (500, 0))):
    (pen.lineTo if at else pen.moveTo)(point)
pen.closePath()
box, names = pen.glyph(), [".notdef", *letters]
builder = FontBuilder(1000)
builder.setupGlyphOrder(names)
builder.setupCharacterMap({ord(letter): letter for letter in letters})
builder.setupGlyf({name: box for name in names})
builder.setupHorizontalMetrics({name: (600, 0) for name in names})
builder.setupHorizontalHeader(ascent=800, descent=-200)
builder.setupNameTable({"familyName": "Boxes", "styleName": "Regular"})
builder.setupOS2()
builder.setupPost()
file = io.BytesIO()
builder.save(file)

font = "/F1 << /Type /Font /Subtype /Type0 /BaseFont /Boxes /Encoding /Identity-H /DescendantFonts [8 0 R] >>"
objects = {
    8: "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Boxes /CIDToGIDMap /Identity /FontDescriptor 9 0 R /DW 600 "
    "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>",
    9: "<< /Type /FontDescriptor /FontName /Boxes /Flags 4 /FontBBox [0 -200 1000 800] /ItalicAngle 0 /Ascent 800 "
    "/Descent -200 /CapHeight 700 /StemV 80 /FontFile2 10 0 R >>",
    10: stream(file.getvalue(), f"/Length1 {len(file.getvalue())}"),
}
data = pdf("BT /F1 20 Tf 50 100 Td <000100020003> Tj ET", fonts=font, objects=objects)
as_described("pdfminer", extract_text(io.BytesIO(data)).strip(), "abc")
as_described("PDFium", pypdfium2.PdfDocument(data)[0].get_textpage().get_text_range(), "\x01")
as_described("MuPDF", pymupdf.open(stream=data)[0].get_text().strip("\n"), "\x01\x02\x03")
as_described("pypdf", pypdf.PdfReader(io.BytesIO(data)).pages[0].extract_text(), "\x01\x02\x03")
EOF

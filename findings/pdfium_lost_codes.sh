#!/usr/bin/env bash
# A font without a ToUnicode map has codes from 1 on: PDFium gives the codes as characters.
# A good guess: FPDFText_GetText gives as many characters as FPDFText_CountChars counts.
# Seen: the characters U+0002 and U+0003 are counted, and missing from the text: positions no longer agree.
. "$(dirname "$0")/common.sh"
python_with pypdfium2==5.15.2
python_runs <<'EOF'
import pypdfium2
import pypdfium2.raw as raw
from finding import as_described, pdf, versions

versions("pypdfium2")
font = "/F1 << /Type /Font /Subtype /Type0 /BaseFont /Foo /Encoding /Identity-H /DescendantFonts [8 0 R] >>"
objects = {
    8: "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Foo /FontDescriptor 9 0 R /DW 600 "
    "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>",
    9: "<< /Type /FontDescriptor /FontName /Foo /Flags 4 /FontBBox [0 -200 1000 800] /ItalicAngle 0 /Ascent 800 "
    "/Descent -200 /CapHeight 700 /StemV 80 >>",
}
codes = list(range(1, 32))
shown = "".join(f"{code:04x}" for code in codes)
page = pypdfium2.PdfDocument(pdf(f"BT /F1 8 Tf 50 100 Td <{shown}> Tj ET", fonts=font, objects=objects))[0]
text = page.get_textpage()
counted = [raw.FPDFText_GetUnicode(text, at) for at in range(raw.FPDFText_CountChars(text))]
as_described("characters that are counted", counted == codes, True)
missing = [code for code in codes if chr(code) not in text.get_text_range()]
as_described("codes that are missing from the text", missing, [2, 3])
EOF

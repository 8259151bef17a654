#!/usr/bin/env bash
# A font's map names two printed figures as spaces, as a broken program may write it. Both are ink on the page.
# A good guess: PDFium gives a character for each figure that is drawn, be its name a letter or a space.
# Seen: of two neighbours that are named as spaces PDFium gives one: what a person reads as "18" is one character.
. "$(dirname "$0")/common.sh"
python_with pypdfium2==5.15.2 pdfminer.six==20260107
python_runs <<'EOF'
import io

import pypdfium2
import pypdfium2.raw as raw
from finding import as_described, character_map, pdf, versions
from pdfminer.high_level import extract_text

versions("pypdfium2", "pdfminer.six")
font = "/F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding /ToUnicode 8 0 R >>"
names = {"A": "0041", "1": "0020", "8": "0020", "B": "0042"}
rows = "\n".join(f"<{ord(char):02x}> <{name}>" for char, name in names.items())
objects = {8: character_map(f"{len(names)} beginbfchar\n{rows}\nendbfchar")}
data = pdf("BT /F1 20 Tf 50 100 Td (A18B) Tj ET", fonts=font, objects=objects)
text = pypdfium2.PdfDocument(data)[0].get_textpage()
as_described("characters of PDFium for four that are drawn", text.get_text_range(), "A B")
as_described("how many it counts", raw.FPDFText_CountChars(text), 3)
as_described("characters of pdfminer", extract_text(io.BytesIO(data)).rstrip("\n\f"), "A  B")
EOF

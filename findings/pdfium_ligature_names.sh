#!/usr/bin/env bash
# A font names its ligature f_i, as the rules for glyph names have it, and has no ToUnicode map.
# A good guess: PDFium gives "fi", as for the glyph name fi; or it gives nothing.
# Seen: PDFium gives the letter at the glyph's code, here "A" for "fi". The text looks sound and is wrong.
. "$(dirname "$0")/common.sh"
python_with pypdfium2==5.15.2 pdfminer.six==20260107
python_runs <<'EOF'
import io

import pypdfium2
from finding import as_described, pdf, versions
from pdfminer.high_level import extract_text

versions("pypdfium2", "pdfminer.six")
font = "/F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding << /Differences [65 /{0}] >> >>"
for name, pdfium, pdfminer in (("fi", "ofice", "oﬁce"), ("f_i", "oAce", "ofice"), ("a.alt", "oace", "oace")):
    data = pdf("BT /F1 20 Tf 50 100 Td (oAce) Tj ET", fonts=font.format(name))
    as_described(f"PDFium, glyph {name}", pypdfium2.PdfDocument(data)[0].get_textpage().get_text_range(), pdfium)
    text = extract_text(io.BytesIO(data)).replace("\n", "").strip()
    as_described(f"pdfminer, glyph {name}", text, pdfminer)
EOF

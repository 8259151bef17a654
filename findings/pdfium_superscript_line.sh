#!/usr/bin/env bash
# "x", a raised small 2 (text rise), "y" on one line.
# A good guess: a text page holds "x2y", as pdfminer, MuPDF and pypdf give it.
# Seen: PDFium puts the raised figure on a line of its own, three lines in all.
. "$(dirname "$0")/common.sh"
python_with pypdfium2==5.15.2 pymupdf==1.27.2 pdfminer.six==20260107
python_runs <<'EOF'
import io

import pymupdf
import pypdfium2
from finding import as_described, pdf, versions
from pdfminer.high_level import extract_text

versions("pypdfium2", "pymupdf", "pdfminer.six")
data = pdf("BT /F1 20 Tf 50 100 Td (x) Tj 8 Ts /F1 12 Tf (2) Tj 0 Ts /F1 20 Tf (y) Tj ET")
as_described("pdfminer", extract_text(io.BytesIO(data)).strip(), "x2y")
as_described("MuPDF", pymupdf.open(stream=data)[0].get_text().strip(), "x2y")
as_described("PDFium", pypdfium2.PdfDocument(data)[0].get_textpage().get_text_range(), "x\r\n2\r\ny")
EOF

#!/usr/bin/env bash
# A heading is set with wide letter spacing: 20 points between the letters of a 20-point font (Tc).
# A good guess: every reader takes the wide gaps for spaces, PDFium too.
# Seen: PDFium and pypdf give "Total"; pdfminer gives "T o t a l", MuPDF gives each letter a line of its own.
. "$(dirname "$0")/common.sh"
python_with pypdfium2==5.15.2 pymupdf==1.27.2 pdfminer.six==20260107 pypdf==7.1.1
python_runs <<'EOF'
import io

import pymupdf
import pypdf
import pypdfium2
from finding import as_described, pdf, versions
from pdfminer.high_level import extract_text

versions("pypdfium2", "pymupdf", "pdfminer.six", "pypdf")
data = pdf("BT /F1 20 Tf 20 Tc 50 100 Td (Total) Tj ET")
as_described("PDFium", pypdfium2.PdfDocument(data)[0].get_textpage().get_text_range(), "Total")
as_described("pypdf", pypdf.PdfReader(io.BytesIO(data)).pages[0].extract_text(), "Total")
as_described("pdfminer", extract_text(io.BytesIO(data)).strip(), "T o t a l")
as_described("MuPDF", pymupdf.open(stream=data)[0].get_text().strip(), "T\no\nt\na\nl")
# The same gaps, made by moving between the letters, are spaces to PDFium.
data = pdf("BT /F1 20 Tf 50 100 Td [(T) -1000 (o) -1000 (t)] TJ ET")
as_described("PDFium, moved", pypdfium2.PdfDocument(data)[0].get_textpage().get_text_range(), "T o t")
EOF

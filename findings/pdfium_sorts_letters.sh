#!/usr/bin/env bash
# A program draws the letters of a line from right to left, each with a command of its own.
# A good guess: PDFium's text follows the order of the file, as it does for columns.
# Seen: PDFium sorts them into "abc"; but what one command draws leftwards, it leaves in the order of the file.
. "$(dirname "$0")/common.sh"
python_with pypdfium2==5.15.2 pdfminer.six==20260107 pypdf==7.1.1
python_runs <<'EOF'
import io

import pypdf
import pypdfium2
from finding import as_described, pdf, versions
from pdfminer.high_level import extract_text

versions("pypdfium2", "pdfminer.six", "pypdf")


def pdfium(data):
    return pypdfium2.PdfDocument(data)[0].get_textpage().get_text_range()


placed = "".join(f"1 0 0 1 {x} 100 Tm ({letter}) Tj " for letter, x in (("c", 84), ("b", 72), ("a", 60)))
data = pdf(f"BT /F1 20 Tf {placed} ET")
as_described("PDFium, three commands", pdfium(data), "abc")
as_described("pypdf", pypdf.PdfReader(io.BytesIO(data)).pages[0].extract_text(), "cba")
data = pdf("BT /F1 20 Tf 150 100 Td [(def) 4000 (abc)] TJ ET")
as_described("PDFium, one command", pdfium(data), "defabc")
as_described("pdfminer, one command", extract_text(io.BytesIO(data)).split(), ["abc", "def"])
columns = "BT /F1 10 Tf 20 180 Td (left 1) Tj 0 -14 Td (left 2) Tj 180 14 Td (right 1) Tj 0 -14 Td (right 2) Tj ET"
as_described("PDFium, two columns", pdfium(pdf(columns)).split("\r\n"), ["left 1", "left 2", "right 1", "right 2"])
EOF

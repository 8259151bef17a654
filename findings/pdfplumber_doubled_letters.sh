#!/usr/bin/env bash
# pdfplumber's dedupe_chars() takes away the copies of letters that a program drew twice to make them bold.
# A good guess: of small print, in which nothing is drawn twice, it takes nothing away.
# Seen: letters count as copies up to a point apart, whatever their size: of print of 4 points, "all bills" is "al bils".
. "$(dirname "$0")/common.sh"
python_with pdfplumber==0.11.10
python_runs <<'EOF'
import io

import pdfplumber
from finding import as_described, pdf, versions

versions("pdfplumber")
SAID = "all bills will be filled"


def page(size):
    return pdfplumber.open(io.BytesIO(pdf(f"BT /F1 {size} Tf 50 100 Td ({SAID}) Tj ET"))).pages[0]


for size, deduped in ((6, SAID), (4, "al bils wil be filed")):
    as_described(f"{size} points, as it is", page(size).extract_text(), SAID)
    as_described(f"{size} points, dedupe_chars()", page(size).dedupe_chars().extract_text(), deduped)
as_described("4 points, tolerance=0.2", page(4).dedupe_chars(tolerance=0.2).extract_text(), SAID)
EOF

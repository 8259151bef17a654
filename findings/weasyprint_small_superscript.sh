#!/usr/bin/env bash
# <sup> in an HTML page that becomes a PDF, without a style that says how large it is.
# A good guess: a fixed part of its line, 1/1.2 as in browsers ("smaller").
# Seen: WeasyPrint takes the next named size below (… 14.2, 16, 19.2, 24 px …). So the figure is .80 of a line of 24 px, and
# 1.00 of one of 24.1 px: a reader that tells superscripts by their size does not find them.
. "$(dirname "$0")/common.sh"
python_with weasyprint==70.0 pypdfium2==5.15.2
python_runs <<'EOF'
import pypdfium2
import pypdfium2.raw as raw
import weasyprint
from finding import as_described, versions

versions("weasyprint")


def part_of_line(pixels):
    page = weasyprint.HTML(string=f"<p style='font-size: {pixels}px'>x<sup>2</sup>y").write_pdf()
    text = pypdfium2.PdfDocument(page)[0].get_textpage()
    sizes = {chr(raw.FPDFText_GetUnicode(text, n)): raw.FPDFText_GetFontSize(text, n) for n in range(text.count_chars())}
    return round(sizes["2"] / sizes["x"], 2)


lines = (12, 15, 16, 16.1, 20, 24, 24.1, 32)  # pixels
seen = {pixels: part_of_line(pixels) for pixels in lines}
described = {12: 0.8, 15: 0.95, 16: 0.89, 16.1: 0.99, 20: 0.96, 24: 0.8, 24.1: 1.0, 32: 0.75}
as_described("size of the figure, by the size of its line", seen, described)
EOF

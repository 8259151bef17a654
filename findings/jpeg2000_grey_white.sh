#!/usr/bin/env bash
# A black and white page (one bit for each pixel) as JPEG 2000, alone and in a PDF (JPXDecode).
# A good guess: white is white, 255 of 255, as for every other format of one bit.
# Seen: Pillow, PDFium, MuPDF and pypdf alike give 128 for white, and 192 and 240 for pages of two and four bits: they
# shift the value to the top of the byte and leave the lower bits empty.
. "$(dirname "$0")/common.sh"
python_with imagecodecs==2026.3.6 numpy==2.4.6 pillow==13.0.0 pypdfium2==5.15.2 pymupdf==1.27.2 pypdf==7.1.1
python_runs <<'EOF'
import io

import imagecodecs
import numpy
import pymupdf
import pypdf
import pypdfium2
from finding import as_described, pdf, stream, versions
from PIL import Image

versions("pillow", "pypdfium2", "pymupdf", "pypdf", "imagecodecs")
SIDE = 64


def whites(bits):
    """The white of a page, as Pillow, PDFium, MuPDF and pypdf give it."""
    page = numpy.zeros((SIDE, SIDE), numpy.uint8)
    page[: SIDE // 2] = 2**bits - 1
    file = imagecodecs.jpeg2k_encode(page, codecformat="jp2", level=0, bitspersample=bits)
    assert (imagecodecs.jpeg2k_decode(file) == page).all()
    entries = f"/Type /XObject /Subtype /Image /Width {SIDE} /Height {SIDE} /ColorSpace /DeviceGray /Filter /JPXDecode"
    data = pdf(
        "200 0 0 200 100 0 cm /I Do", resources="/XObject << /I 8 0 R >>", objects={8: stream(file, entries)}
    )
    by_pdfium = pypdfium2.PdfDocument(data)[0].render().to_pil().convert("L")
    by_mupdf = pymupdf.open(stream=data)[0].get_pixmap()
    by_pypdf = pypdf.PdfReader(io.BytesIO(data)).pages[0].images[0].image
    return (
        Image.open(io.BytesIO(file)).getpixel((5, 5)),
        by_pdfium.getpixel((200, 20)),
        by_mupdf.pixel(200, 20)[0],
        by_pypdf.getpixel((5, 5)),
    )


for bits, white in ((1, 128), (2, 192), (4, 240), (8, 255)):
    as_described(f"white of {bits} bits: Pillow, PDFium, MuPDF, pypdf", whites(bits), (white,) * 4)
EOF

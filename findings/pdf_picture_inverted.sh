#!/usr/bin/env bash
# A scan in a PDF has /Decode [1 0], which turns its values round: 1 is black. Its picture is taken out, as scripts do that
# want the pixels of the scanner in place of a page drawn anew.
# A good guess: a library that minds /Decode for one picture minds it for all, and gives what it draws; or it minds none.
# Seen: both readers draw all three right. Each way out gives at least one of them as a negative, and pikepdf gives one that
# is black all over.
. "$(dirname "$0")/common.sh"
python_with pypdfium2==5.15.2 pymupdf==2.0 pypdf==7.1.1 pikepdf==10.18.0 pillow==13.0.0
python_runs <<'EOF'
import io
import zlib

import pikepdf
import pymupdf
import pypdf
import pypdfium2
from finding import as_described, pdf, stream, versions
from PIL import Image

versions("pypdfium2", "pymupdf", "pypdf", "pikepdf", "pillow")
WIDTH, HEIGHT = 64, 32
stored = Image.new("L", (WIDTH, HEIGHT), 0)  # the negative of a page whose left quarter is black
stored.paste(255, (0, 0, 16, HEIGHT))
jpeg = io.BytesIO()
stored.save(jpeg, "JPEG", quality=95)
bits = zlib.compress(stored.convert("1", dither=Image.Dither.NONE).tobytes())
FLATE = "/Filter /FlateDecode"
SCANS = {
    "grey": ("/DeviceGray", 8, FLATE, zlib.compress(stored.tobytes())),
    "JPEG": ("/DeviceGray", 8, "/Filter /DCTDecode", jpeg.getvalue()),
    "palette": ("[/Indexed /DeviceGray 1 <00FF>]", 1, FLATE, bits),
}


def document(colours, depth, coding, data):
    entries = (f"/Type /XObject /Subtype /Image /Width {WIDTH} /Height {HEIGHT} /ColorSpace {colours} "
               f"/BitsPerComponent {depth} {coding} /Decode [1 0]")
    drawn = pdf("q 400 0 0 200 0 0 cm /I Do Q", resources="/XObject << /I 8 0 R >>", objects={8: stream(data, entries)})
    return pymupdf.open("pdf", drawn).tobytes()  # with the cross-reference table that qpdf wants


def looks(picture):
    grey = picture.convert("L").resize((WIDTH, HEIGHT))
    left, right = grey.getpixel((4, 16)) > 127, grey.getpixel((48, 16)) > 127
    return {(False, True): "right", (True, False): "negative", (False, False): "black"}.get((left, right), "white")


def pdfium_extract(file):
    document, out = pypdfium2.PdfDocument(file), io.BytesIO()
    page = document[0]
    next(page.get_objects()).extract(out)
    return Image.open(out)


def mupdf(file, name):
    document = pymupdf.open("pdf", file)
    if name == "drawn":
        return Image.open(io.BytesIO(document[0].get_pixmap().tobytes("png")))
    return Image.open(io.BytesIO(document.extract_image(document[0].get_images()[0][0])["image"]))


def by_pikepdf(file):
    with pikepdf.open(io.BytesIO(file)) as document:
        return pikepdf.PdfImage(document.pages[0].Resources.XObject["/I"]).as_pil_image()


WAYS = {
    "PDFium, drawn": lambda file: pypdfium2.PdfDocument(file)[0].render().to_pil(),
    "MuPDF, drawn": lambda file: mupdf(file, "drawn"),
    "pypdfium2, extract()": pdfium_extract,
    "pymupdf, extract_image()": lambda file: mupdf(file, "taken out"),
    "pypdf, images": lambda file: pypdf.PdfReader(io.BytesIO(file)).pages[0].images[0].image,
    "pikepdf, as_pil_image()": by_pikepdf,
}
DESCRIBED = {
    "PDFium, drawn": ["right", "right", "right"],
    "MuPDF, drawn": ["right", "right", "right"],
    "pypdfium2, extract()": ["negative", "negative", "right"],
    "pymupdf, extract_image()": ["right", "negative", "right"],
    "pypdf, images": ["right", "right", "negative"],
    "pikepdf, as_pil_image()": ["right", "negative", "black"],
}
print(", ".join(SCANS))
for name, way in WAYS.items():
    as_described(name, [looks(way(document(*scan))) for scan in SCANS.values()], DESCRIBED[name])
EOF

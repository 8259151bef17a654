#!/usr/bin/env bash
# One page of a filled form is taken out of its file, as people split documents: with pypdf's add_page, or with PDFium.
# A good guess: the page looks as before; its field and the appearance of its value are in the new file.
# Seen: PDFium, and so Chrome, draws an empty page for the field; MuPDF draws it, and flattening in PDFium brings it back.
. "$(dirname "$0")/common.sh"
python_with pypdfium2==5.15.2 pypdf==7.1.1 pymupdf==2.0 pillow==13.0.0
python_runs <<'EOF'
import io

import pymupdf
import pypdf
import pypdfium2
import pypdfium2.raw as raw
from finding import as_described, pdf, stream, versions

versions("pypdfium2", "pypdf", "pymupdf")
look = "/Type /XObject /Subtype /Form /BBox [0 0 200 30] /Resources << /Font << /F1 9 0 R >> >>"
objects = {
    8: "<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (Alice) /F 4 /Rect [50 100 250 130] /P 3 0 R "
    "/DA (/F1 20 Tf 0 g) /AP << /N 10 0 R >> >>",
    9: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    10: stream("/Tx BMC BT /F1 20 Tf 2 8 Td (Alice) Tj ET EMC", look),
}
form = "/AcroForm << /Fields [8 0 R] /DA (/F1 20 Tf 0 g) /DR << /Font << /F1 9 0 R >> >> >>"
whole = pdf("", page="/Annots [8 0 R]", catalog=form, objects=objects)


def by_pypdf():
    writer, out = pypdf.PdfWriter(), io.BytesIO()
    writer.add_page(pypdf.PdfReader(io.BytesIO(whole)).pages[0])
    writer.write(out)
    return out.getvalue()


def by_pdfium():
    new, out = pypdfium2.PdfDocument.new(), io.BytesIO()
    new.import_pages(pypdfium2.PdfDocument(whole), [0])
    new.save(out)
    return out.getvalue()


def drawn(data, flatten=False):
    """Whether PDFium draws the value."""
    document = pypdfium2.PdfDocument(data)
    document.init_forms()
    if flatten:
        raw.FPDFPage_Flatten(document[0], raw.FLAT_NORMALDISPLAY)
    return document[0].render().to_pil().convert("L").getextrema()[0] < 128


as_described("the whole form, drawn by PDFium", drawn(whole), True)
for name, data in (("pypdf's add_page", by_pypdf()), ("PDFium's import_pages", by_pdfium())):
    [field] = pymupdf.open(stream=data)[0].widgets()
    as_described(f"{name}: the value in the new file", field.field_value, "Alice")
    as_described(f"{name}: drawn by PDFium", drawn(data), False)
    as_described(f"{name}: drawn by PDFium after flattening", drawn(data, flatten=True), True)
    pixels = pymupdf.open(stream=data)[0].get_pixmap().samples
    as_described(f"{name}: drawn by MuPDF", min(pixels) < 128, True)
EOF

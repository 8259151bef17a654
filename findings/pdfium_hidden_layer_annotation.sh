#!/usr/bin/env bash
# An annotation belongs to an optional layer (/OC) that is switched off.
# A good guess: it is not drawn, as page content of that layer is not, and flattening leaves it out.
# Seen: PDFium draws it, and FPDFPage_Flatten makes its words page text. MuPDF hides it.
. "$(dirname "$0")/common.sh"
python_with pypdfium2==5.15.2 pymupdf==1.27.2 pillow==13.0.0
python_runs <<'EOF'
import pymupdf
import pypdfium2
import pypdfium2.raw as raw
from finding import PDF_FONT, as_described, pdf, stream, versions

versions("pypdfium2", "pymupdf")
words = "BT /F1 20 Tf 10 10 Td (stamped) Tj ET"
look = stream(words, f"/Type /XObject /Subtype /Form /BBox [0 0 200 40] /Resources << /Font << {PDF_FONT} >> >>")
layers = "/OCProperties << /OCGs [10 0 R] /D << /OFF [10 0 R] /Order [10 0 R] >> >>"
stamp = "<< /Type /Annot /Subtype /Stamp /F 4 /Rect [50 100 250 140] /OC 10 0 R /AP << /N 9 0 R >> >>"
objects = {8: stamp, 9: look, 10: "<< /Type /OCG /Name (notes) >>"}


def darkest(data):
    return min(pypdfium2.PdfDocument(data)[0].render().to_pil().convert("L").tobytes())


content = pdf(f"/OC /L BDC {words} EMC", resources="/Properties << /L 10 0 R >>", catalog=layers,
              objects={10: objects[10]})
as_described("PDFium draws page content of that layer", darkest(content) < 128, False)

data = pdf("", page="/Annots [8 0 R]", catalog=layers, objects=objects)
as_described("PDFium draws the annotation", darkest(data) < 128, True)
document = pypdfium2.PdfDocument(data)
page = document[0]
raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY)
page.close()
as_described("its words after flattening", document[0].get_textpage().get_text_range(), "stamped")
as_described("MuPDF draws it", min(pymupdf.open(stream=data)[0].get_pixmap().samples) < 128, False)
EOF

#!/usr/bin/env bash
# A stamp has one of the flags that say where it is seen: Invisible (1) or NoView (32). The page is flattened for display.
# A good guess: flattening keeps the stamps that the same library draws, and no others.
# Seen: it is the reverse. PDFium draws the stamp with Invisible (a flag for kinds that a reader does not know), and
# flattening loses it; it does not draw the one with NoView, and flattening makes its words page text. MuPDF draws neither.
. "$(dirname "$0")/common.sh"
python_with pypdfium2==5.15.2 pymupdf==1.27.2 pillow==13.0.0
python_runs <<'EOF'
import pymupdf
import pypdfium2
import pypdfium2.raw as raw
from finding import PDF_FONT, as_described, pdf, stream, versions

versions("pypdfium2", "pymupdf")
look = stream(
    "BT /F1 20 Tf 10 10 Td (stamped) Tj ET",
    f"/Type /XObject /Subtype /Form /BBox [0 0 200 40] /Resources << /Font << {PDF_FONT} >> >>",
)


def stamp(flags):
    entries = f"<< /Type /Annot /Subtype /Stamp /F {flags} /Rect [50 100 250 140] /AP << /N 9 0 R >> >>"
    return pdf("", page="/Annots [8 0 R]", objects={8: entries, 9: look})


def drawn(flags):
    page = pypdfium2.PdfDocument(stamp(flags))[0]
    return min(page.render().to_pil().convert("L").tobytes()) < 128


def drawn_by_mupdf(flags):
    return min(pymupdf.open(stream=stamp(flags))[0].get_pixmap().samples) < 128


def flattened(flags, usage):
    document = pypdfium2.PdfDocument(stamp(flags))
    page = document[0]
    raw.FPDFPage_Flatten(page, usage)
    page.close()
    return document[0].get_textpage().get_text_range()


PRINT, INVISIBLE, NO_VIEW = 4, 1, 32
flags = (PRINT, PRINT | INVISIBLE, PRINT | NO_VIEW)
as_described("PDFium draws: plain, Invisible, NoView", [drawn(n) for n in flags], [True, True, False])
kept = [flattened(n, raw.FLAT_NORMALDISPLAY) for n in flags]
as_described("flattened for display", kept, ["stamped", "", "stamped"])
kept = [flattened(n, raw.FLAT_PRINT) for n in flags]
as_described("flattened for print", kept, ["stamped", "stamped", "stamped"])
as_described("MuPDF draws", [drawn_by_mupdf(n) for n in flags], [True, False, False])
EOF

#!/usr/bin/env bash
# Labels with the same barcode, one below the other, as on a sheet of labels or a pallet.
# A good guess: as many results as labels, each with its place.
# Seen: lines of bars that say the same are one result until the white between them is about half as high as the code is
# wide: one result for three labels, whose place covers all of them. Labels side by side, and QR codes, stay apart.
. "$(dirname "$0")/common.sh"
python_with zxing-cpp==3.1.1 numpy==2.4.6
python_runs <<'EOF'
import numpy
import zxingcpp
from finding import as_described, versions

versions("zxing-cpp")
Format = zxingcpp.BarcodeFormat
MARGIN = 40


def sheet(format, text, *, rows=1, columns=1, gap=60):
    """A grid of equal labels, each with its quiet zone."""
    code = zxingcpp.create_barcode(text, format)
    label = numpy.array(code.to_image(scale=3, add_quiet_zones=True))
    label = numpy.pad(label, ((0, gap), (0, gap)), constant_values=255)
    return numpy.pad(numpy.tile(label, (rows, columns)), MARGIN, constant_values=255)


def heights(picture):
    """Of each result: how high its place is, in pixels."""
    return [code.position.bottom_left.y - code.position.top_left.y for code in zxingcpp.read_barcodes(picture)]


for name, text in (("EAN13", "4006381333931"), ("Code128", "AB-1234"), ("Code39", "AB12")):
    format = getattr(Format, name)
    [alone] = heights(sheet(format, text))
    below = heights(sheet(format, text, rows=3))
    as_described(f"{name}, three below each other", (len(below), below[0] > 3 * alone), (1, True))
    as_described(f"{name}, two side by side", len(heights(sheet(format, text, columns=2))), 2)
    as_described(f"{name}, far apart", len(heights(sheet(format, text, rows=3, gap=400))), 3)
as_described("QR code, three below each other", len(heights(sheet(Format.QRCode, "hello", rows=3))), 3)
EOF

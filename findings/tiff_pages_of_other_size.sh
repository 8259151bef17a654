#!/usr/bin/env bash
# A fax of three pages as a TIFF; the second page is shorter than the others, as faxes are cut.
# A good guess: imread gives three pages, or one, or an error.
# Seen: tifffile, and with it scikit-image and imageio, give pages one and three as if they were all; no warning.
. "$(dirname "$0")/common.sh"
python_with tifffile==2026.3.3 scikit-image==0.26.0 imageio==2.38.2 pillow==13.0.0 numpy==2.4.6
python_runs <<'EOF'
import warnings

import imageio.v3
import numpy
import skimage.io
import tifffile
from finding import as_described, versions
from PIL import Image, ImageSequence

versions("tifffile", "scikit-image", "imageio", "pillow")
first, second, third = (Image.new("L", (200, high), number) for number, high in ((1, 300), (2, 200), (3, 300)))
first.save("fax.tif", save_all=True, append_images=[second, third])


def numbers(pages):
    return sorted(set(numpy.asarray(pages).ravel().tolist()))


with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    as_described("tifffile.imread", numbers(tifffile.imread("fax.tif")), [1, 3])
    as_described("skimage.io.imread", numbers(skimage.io.imread("fax.tif")), [1, 3])
    as_described("imageio.v3.imread", numbers(imageio.v3.imread("fax.tif")), [1, 3])
as_described("warnings", len(told), 0)
as_described("imageio.v3.imiter", [numbers(pages) for pages in imageio.v3.imiter("fax.tif")], [[1, 3], [2]])
with tifffile.TiffFile("fax.tif") as file:
    as_described("tifffile, page by page", [numbers(page.asarray()) for page in file.pages], [[1], [2], [3]])
frames = ImageSequence.Iterator(Image.open("fax.tif"))
as_described("Pillow, frame by frame", [numbers(frame) for frame in frames], [[1], [2], [3]])
EOF

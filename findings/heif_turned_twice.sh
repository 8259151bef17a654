#!/usr/bin/env bash
# A photograph as JPEG, whose orientation says "turn me", becomes a HEIC file by pillow_heif.from_pillow(picture).save(…).
# A good guess: the HEIC file shows it upright, as Pillow's own save() does.
# Seen: from_pillow() turns the pixels and keeps the old orientation beside them, and save() writes a turn for it: the
# picture is turned twice. One that was upside down stays upside down, one that lay on its side is turned half round.
. "$(dirname "$0")/common.sh"
python_with pillow-heif==1.8.1 pillow==13.0.0
python_runs <<'EOF'
import io

import pillow_heif
from finding import as_described, versions
from PIL import Image, ImageOps

versions("pillow-heif", "pillow")
pillow_heif.register_heif_opener()
ORIENTATION = 0x112
CORNERS = {"top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1)}


def photograph(orientation):
    """White, with a black corner that is at the top left of the pixels."""
    picture = Image.new("RGB", (64, 32), "white")
    picture.paste("black", (0, 0, 16, 16))
    notes = Image.Exif()
    notes[ORIENTATION] = orientation
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=notes, quality=95)
    return Image.open(file)


def corner(picture):
    grey = picture.convert("L")
    return next(
        name for name, (x, y) in CORNERS.items()
        if grey.getpixel((4 + x * (grey.width - 9), 4 + y * (grey.height - 9))) < 128
    )


def saved(save):
    file = io.BytesIO()
    save(file)
    return corner(ImageOps.exif_transpose(Image.open(file)))


ways = {3: [], 6: [], 8: []}
for orientation, corners in ways.items():
    picture = photograph(orientation)
    corners.append(corner(ImageOps.exif_transpose(picture)))
    corners.append(saved(lambda file: picture.save(file, "HEIF")))
    corners.append(saved(lambda file: pillow_heif.from_pillow(picture).save(file)))
as_described("half a turn: upright, by save(), by from_pillow()", ways[3], ["bottom right", "bottom right", "top left"])
as_described("a quarter to the right", ways[6], ["top right", "top right", "bottom right"])
as_described("a quarter to the left", ways[8], ["bottom left", "bottom left", "bottom right"])
EOF

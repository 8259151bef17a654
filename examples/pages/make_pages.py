"""Draws the sample pages beside this file. Needs Pillow and the DejaVu fonts (Debian, Ubuntu:
fonts-dejavu-core; Fedora: dejavu-sans-fonts).

Everything on the pages is invented. Run it again after a change: python examples/pages/make_pages.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
INK = (28, 28, 30)

RECEIPT = [
    ("c", "CORNER BAKERY & DELI"),
    ("c", "18 Harbour Street, Port Ellery"),
    ("c", "Tel. 555-0142   VAT No. 204 118 63"),
    ("-", ""),
    ("lr", "Receipt 004217|14/03/2026 08:52"),
    ("lr", "Till 2|Served by Mira"),
    ("-", ""),
    ("lr", "2 x Sourdough loaf|9.80"),
    ("lr", "1 x Rye bread, sliced|4.25"),
    ("lr", "3 x Butter croissant|7.50"),
    ("lr", "1 x Cheddar 250 g|5.95"),
    ("lr", "1 x Orange juice 1 l|3.40"),
    ("-", ""),
    ("lr", "Subtotal|30.90"),
    ("lr", "VAT 8 %|2.47"),
    ("LR", "TOTAL|33.37"),
    ("lr", "Cash|40.00"),
    ("lr", "Change|6.63"),
    ("-", ""),
    ("c", "Thank you and see you again!"),
]

LETTER = """\
h A Short Guide to the Reading Room
p The reading room opens at nine in the morning and closes at six in the evening, on
  Saturdays at one. Readers who come for the first time are asked to register at the desk
  near the entrance; it takes a few minutes and costs nothing.
s What to bring
p Pencils, paper and laptops are welcome. Coats, bags and umbrellas stay in the lockers,
  and so do drinks. Please have these things with you:
l an identity card or a passport
l the order numbers of the books you want to see
l a coin for the locker, which is returned
s Ordering books
p Orders that reach us before noon are brought to your seat the same afternoon. Older
  volumes are kept in another building and need one working day. No more than five volumes
  can be on your desk at a time.

s Copies and photographs
p You may photograph most volumes yourself, without flash and without a tripod. Fragile
  volumes are photographed by our staff; the desk will tell you what it costs and how long
  it takes.
s If something goes wrong
p Tell us at once if a page is loose or torn. Nobody will be blamed for damage that was
  there before, and early repair is easy. A lost locker key costs twenty crowns.
p We wish you a quiet and fruitful day.
p The staff of the reading room
"""
"""Pages are parted by an empty line. h: title, s: section, p: paragraph, l: list item."""

TABLE = [
    ("Station", "Opened", "Platforms", "Passengers"),
    ("Port Ellery", "1874", "6", "48,210"),
    ("Millbrook", "1881", "2", "9,375"),
    ("Stone Ferry", "1902", "3", "12,640"),
    ("Upper Marsh", "1926", "1", "2,118"),
    ("Total", "", "12", "72,343"),
]


def font(size: int, name: str = "DejaVuSans") -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(f"{name}.ttf", size)


def receipt() -> Image.Image:
    page = Image.new("RGB", (640, 40 + 40 * len(RECEIPT)), (252, 251, 247))
    draw = ImageDraw.Draw(page)
    for n, (kind, text) in enumerate(RECEIPT):
        y = 40 + 38 * n
        face = font(
            26 if kind == "LR" or n == 0 else 22,
            "DejaVuSansMono-Bold" if kind == "LR" or n == 0 else "DejaVuSansMono",
        )
        if kind == "c":
            draw.text((320, y), text, INK, face, anchor="ma")
        elif kind == "-":
            draw.line([(30, y + 14), (610, y + 14)], INK, 2)
        else:
            left, right = text.split("|")
            draw.text((30, y), left, INK, face)
            draw.text((610, y), right, INK, face, anchor="ra")
    return page


def letter() -> list[Image.Image]:
    pages = []
    for part in LETTER.replace("\n  ", " ").split("\n\n"):
        page = Image.new("RGB", (1240, 1754), "white")  # A4 at 150 dpi
        draw, y = ImageDraw.Draw(page), 150
        for kind, text in (line.split(" ", 1) for line in part.splitlines()):
            size, face = {"h": (46, "DejaVuSerif-Bold"), "s": (34, "DejaVuSerif-Bold")}.get(kind, (25, "DejaVuSerif"))
            if kind in "hs":
                y += 22
            for n, line in enumerate(wrapped(text, font(size, face), 940 if kind != "l" else 900)):
                if kind == "l":
                    draw.text((170, y), "•" if n == 0 else "", INK, font(size, face))
                draw.text((150 if kind != "l" else 205, y), line, INK, font(size, face))
                y += round(size * 1.5)
            y += 10 if kind == "l" else 24
        pages.append(page)
    return pages


def wrapped(text: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if face.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def table() -> Image.Image:
    page = Image.new("RGB", (1000, 160 + 60 * len(TABLE)), "white")
    draw = ImageDraw.Draw(page)
    draw.text((40, 40), "Stations of the coast line, 2025", INK, font(30, "DejaVuSans-Bold"))
    edges = [40, 340, 520, 730, 960]
    for r, row in enumerate(TABLE):
        top = 110 + 60 * r
        face = font(24, "DejaVuSans-Bold" if r in (0, len(TABLE) - 1) else "DejaVuSans")
        for c, cell in enumerate(row):
            draw.rectangle([edges[c], top, edges[c + 1], top + 60], outline=(120, 120, 120))
            if c == 0:
                draw.text((edges[c] + 14, top + 30), cell, INK, face, anchor="lm")
            else:
                draw.text((edges[c + 1] - 14, top + 30), cell, INK, face, anchor="rm")
    return page


if __name__ == "__main__":
    receipt().convert("P", palette=Image.Palette.ADAPTIVE, colors=32).save(HERE / "receipt.png", optimize=True)
    table().convert("P", palette=Image.Palette.ADAPTIVE, colors=32).save(HERE / "table.png", optimize=True)
    first, *rest = [page.convert("L") for page in letter()]
    first.save(HERE / "letter.pdf", save_all=True, append_images=rest, resolution=150, quality=80)

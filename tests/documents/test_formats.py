"""Each line of docs/formats.md is held by the case of the same name."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image, ImageDraw, TiffImagePlugin

from deepseek_ocr_mcp.decoder.aperture import clean_aperture
from deepseek_ocr_mcp.decoder.renderer import PageRenderer
from deepseek_ocr_mcp.errors import InputTooLarge, OcrError, UnreadableInput

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
UPRIGHT = [RED, GREEN, BLUE, WHITE]
MAX_PIXELS = 1_000_000

pillow_heif.register_heif_opener()


class Call:
    def progress(self, done: float, message: str = "") -> None:
        """Nobody watches."""

    def raise_if_cancelled(self) -> None:
        """Nobody gives up."""


class Desk:
    """Reads files as the decoder's process does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.renderer = PageRenderer()

    def inspect(self, data: bytes, **limits: int) -> dict[str, Any]:
        limits = {"max_pixels": MAX_PIXELS, "max_pages": 10, **limits}
        return self.renderer.inspect(self._file(data), call=Call(), **limits)

    def read(self, data: bytes, page: int = 1, dpi: int = 72) -> Image.Image:
        self.inspect(data)
        out = self.folder / "out"
        size = self.renderer.render(self._file(data), page, dpi, MAX_PIXELS, str(out), Call())
        return Image.frombytes("RGB", (size["width"], size["height"]), out.read_bytes())

    def _file(self, data: bytes) -> dict[str, str]:
        path = self.folder / f"{zlib.crc32(data)}"
        path.write_bytes(data)
        return {"path": str(path), "name": "scan"}

    def refusal(self, data: bytes) -> str:
        with pytest.raises(OcrError) as caught:
            self.read(data)
        return str(caught.value)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.renderer.close()


def quarters(mode: str = "RGB") -> Image.Image:
    """Red, green, blue and white quarters: a turned picture shows."""
    image = Image.new("RGB", (64, 48), WHITE)
    draw = ImageDraw.Draw(image)
    for at, colour in (((0, 0), RED), ((32, 0), GREEN), ((0, 24), BLUE)):
        draw.rectangle((*at, at[0] + 31, at[1] + 23), fill=colour)
    return image.convert(mode)


def square(mode: str = "L") -> Image.Image:
    """Black on white."""
    image = Image.new("L", (40, 40), 255)
    image.paste(0, (10, 10, 30, 30))
    return image.convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    width, height = image.size
    points = ((1, 1), (3, 1), (1, 3), (3, 3))
    found = (image.getpixel((width * x // 4, height * y // 4)) for x, y in points)
    return [tuple(255 if value > 127 else 0 for value in pixel) for pixel in found if isinstance(pixel, tuple)]


def is_square(image: Image.Image) -> bool:
    grey = image.convert("L")
    return grey.getpixel((2, 2)) >= 250 and grey.getpixel((20, 20)) <= 5  # type: ignore[operator]


def tiff(bands: list[bytes], size: tuple[int, int], **tags: Any) -> bytes:
    """An uncompressed little-endian TIFF by hand, one strip for each plane. Tags by their names in lower case."""
    numbers = {"bits": 258, "photometric": 262, "samples": 277, "planar": 284, "extra": 338, "format": 339, "map": 320}
    offsets, at = [], 8
    for band in bands:
        offsets.append(at)
        at += len(band)
    entries: dict[int, tuple[int, list[int]]] = {
        256: (3, [size[0]]),
        257: (3, [size[1]]),
        259: (3, [1]),
        273: (4, offsets),
        278: (3, [size[1]]),
        279: (4, [len(band) for band in bands]),
        **{numbers[name]: (3, value if isinstance(value, list) else [value]) for name, value in tags.items()},
    }
    extra, directory = b"", struct.pack("<H", len(entries))
    for tag, (kind, values) in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", at + len(extra)), extra + packed
        directory += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<I", at + len(extra))
    return head + b"".join(bands) + extra + directory + bytes(4)


def with_aperture(data: bytes, crop: tuple[int, int, int, int]) -> bytes:
    """A HEIC or AVIF file whose main picture has a clean aperture: width, height, offsets of its middle in halves."""
    clap = b"\0\0\0\x28clap" + struct.pack(">IIIIiIiI", crop[0], 1, crop[1], 1, crop[2], 2, crop[3], 2)
    growth = len(clap) + 1

    def grown(box: bytes, by: int) -> bytes:
        return struct.pack(">I", struct.unpack(">I", box[:4])[0] + by) + box[4:]

    start = data.index(b"meta") - 4
    size = struct.unpack(">I", data[start : start + 4])[0]
    meta = data[start : start + size]
    item = struct.unpack(">H", meta[meta.index(b"pitm") + 8 :][:2])[0]
    first = meta.index(b"ipco") - 4
    length = struct.unpack(">I", meta[first : first + 4])[0]
    number, inner = 0, first + 8
    while inner < first + length:
        number, inner = number + 1, inner + struct.unpack(">I", meta[inner : inner + 4])[0]
    ipco = grown(meta[first : first + length], len(clap)) + clap
    rest = meta[first + length :]
    at = rest.index(struct.pack(">H", item), rest.index(b"ipma") + 12)
    many = rest[at + 2]
    known = rest[: at + 2] + bytes([many + 1]) + rest[at + 3 : at + 3 + many]
    table = rest.index(b"ipma") - 4
    rest = known + bytes([0x80 | (number + 1)]) + rest[at + 3 + many :]
    rest = rest[:table] + grown(rest[table:], 1)
    iprp = meta.index(b"iprp") - 4
    before = meta[:iprp] + grown(meta[iprp:first], growth)
    places = meta.index(b"iloc") + 4
    version, wide = meta[places], meta[places + 4]
    assert wide == 0x44, "offsets of four bytes"
    at, count = places + 8, struct.unpack(">H", meta[places + 6 : places + 8])[0]
    base = 4 if meta[places + 5] >> 4 == 4 else 0
    for _ in range(count):
        method = struct.unpack(">H", before[at + 2 : at + 4])[0] if version else 0
        at += (4 if version else 2) + 2
        if base and method == 0:
            before = before[:at] + grown(before[at : at + 4], growth) + before[at + 4 :]
        at += base
        extents = struct.unpack(">H", before[at : at + 2])[0]
        at += 2
        for _ in range(extents):
            if not base and method == 0:
                before = before[:at] + grown(before[at : at + 4], growth) + before[at + 4 :]
            at += 8
    return data[:start] + grown(before + ipco + rest, growth) + data[start + size :]


def pdf(entries: str = "/MediaBox [0 0 64 48]", content: str = "", extra: str = "", objects: str = "") -> bytes:
    """A PDF of one page by hand."""
    blocks = [
        f"1 0 obj << /Type /Catalog /Pages 2 0 R {extra} >> endobj",
        "2 0 obj << /Type /Pages /Kids [3 0 R] /Count 1 >> endobj",
        f"3 0 obj << /Type /Page /Parent 2 0 R /Contents 4 0 R {entries} >> endobj",
        f"4 0 obj << /Length {len(content)} >> stream\n{content}\nendstream endobj",
        objects,
    ]
    return ("%PDF-1.7\n" + "\n".join(blocks) + "\ntrailer << /Root 1 0 R /Size 9 >>\n%%EOF\n").encode()


COLOURS = "1 0 0 rg 0 24 32 24 re f 0 1 0 rg 32 24 32 24 re f 0 0 1 rg 0 0 32 24 re f"
Case = Callable[[Desk], None]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    def keep(check: Case) -> Case:
        CASES[name] = check
        return check

    return keep


# -- PNG, JPEG, WebP, GIF, BMP, PNM, JPEG 2000


@case("png-depth")
def _(desk: Desk) -> None:
    for mode in ("1", "L", "P", "I;16"):
        image = square().convert("I").point(lambda value: value * 257).convert(mode) if mode == "I;16" else square(mode)
        assert is_square(desk.read(saved(image, "PNG")))


@case("png-alpha")
def _(desk: Desk) -> None:
    for ink in (BLACK, WHITE):
        image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
        image.paste((*ink, 255), (10, 10, 30, 30))
        low, high = desk.read(saved(image, "PNG")).convert("L").getextrema()
        assert (low, high) == (0, 255)


@case("png-frames")
def _(desk: Desk) -> None:
    frames = {"save_all": True, "append_images": [Image.new("RGB", (64, 48), BLACK)]}
    for kind in ("PNG", "GIF", "WEBP", "AVIF"):
        data = saved(quarters(), kind, **frames)
        assert desk.inspect(data)["pages"] == 1
        assert corners(desk.read(data)) == UPRIGHT


@case("exif-orientation")
def _(desk: Desk) -> None:
    exif = Image.Exif()
    exif[274] = 6
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF"):
        data = saved(quarters().transpose(Image.Transpose.ROTATE_90), kind, exif=exif.tobytes())
        page = desk.read(data)
        assert (page.size, corners(page)) == ((64, 48), UPRIGHT), kind


@case("colour-profile")
def _(desk: Desk) -> None:
    profile = b"\0\0\0\x80" + bytes(124)
    page = desk.read(saved(Image.new("RGB", (8, 8), (10, 20, 30)), "PNG", icc_profile=profile))
    assert page.getpixel((1, 1)) == (10, 20, 30)


@case("jpeg-colour")
def _(desk: Desk) -> None:
    for mode in ("L", "RGB", "CMYK"):
        page = desk.read(saved(square(mode) if mode == "L" else square("RGB").convert(mode), "JPEG", quality=95))
        assert is_square(page), mode


@case("jpeg-several")
def _(desk: Desk) -> None:
    data = saved(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48), BLACK)])
    assert desk.inspect(data)["format"] == "JPEG"
    assert desk.inspect(data)["pages"] == 1
    assert corners(desk.read(data)) == UPRIGHT


@case("webp-alpha")
def _(desk: Desk) -> None:
    for kind, options in (("WEBP", {"lossless": True}), ("GIF", {}), ("AVIF", {}), ("HEIF", {})):
        image = Image.new("RGBA", (48, 48), (0, 0, 0, 0))
        image.paste((0, 0, 0, 255), (10, 10, 38, 38))
        page = desk.read(saved(image, kind, **options)).convert("L")
        assert page.getpixel((2, 2)) > 200, kind  # type: ignore[operator]
        assert page.getpixel((24, 24)) < 60, kind  # type: ignore[operator]


@case("bmp-depth")
def _(desk: Desk) -> None:
    for mode in ("1", "L", "P", "RGB"):
        assert is_square(desk.read(saved(square(mode), "BMP"))), mode


@case("bmp-rows")
def _(desk: Desk) -> None:
    planes = (plane.tobytes() for plane in quarters().split())
    pixels = b"".join(bytes((blue, green, red, 0)) for red, green, blue in zip(*planes, strict=True))
    for height, rows in ((-48, pixels), (48, b"".join(pixels[at : at + 256] for at in range(47 * 256, -1, -256)))):
        head = struct.pack("<IiiHHIIiiII", 40, 64, height, 1, 32, 0, len(rows), 0, 0, 0, 0)
        data = b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + head + rows
        assert corners(desk.read(data)) == UPRIGHT, height


@case("pnm-kinds")
def _(desk: Desk) -> None:
    assert is_square(desk.read(saved(square("1"), "PPM")))
    assert is_square(desk.read(saved(square("L"), "PPM")))
    assert corners(desk.read(saved(quarters(), "PPM"))) == UPRIGHT
    deep = b"P5\n40 40\n65535\n" + b"".join(struct.pack(">H", value * 257) for value in square().tobytes())
    assert is_square(desk.read(deep))


@case("jpeg2000-kinds")
def _(desk: Desk) -> None:
    assert corners(desk.read(saved(quarters(), "JPEG2000"))) == UPRIGHT
    assert corners(desk.read(saved(quarters(), "JPEG2000", no_jp2=True))) == UPRIGHT
    deep = square().convert("I").point(lambda value: value * 257).convert("I;16")
    assert is_square(desk.read(saved(deep, "JPEG2000")))


# -- TIFF


@case("tiff-pages")
def _(desk: Desk) -> None:
    data = saved(Image.new("RGB", (64, 48)), "TIFF", save_all=True, append_images=[quarters()])
    assert desk.inspect(data)["pages"] == 2
    assert corners(desk.read(data, 2)) == UPRIGHT


@case("tiff-copies")
def _(desk: Desk) -> None:
    copy = Image.new("RGB", (8, 8))
    copy.encoderinfo = {"tiffinfo": {254: 1}}  # type: ignore[attr-defined]
    data = saved(Image.new("RGB", (64, 48)), "TIFF", save_all=True, append_images=[copy, quarters()])
    assert desk.inspect(data)["pages"] == 2
    assert corners(desk.read(data, 2)) == UPRIGHT


@case("tiff-compression")
def _(desk: Desk) -> None:
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        assert corners(desk.read(saved(quarters(), "TIFF", compression=compression))) == UPRIGHT, compression
    for compression in ("group3", "group4"):
        assert is_square(desk.read(saved(square("1"), "TIFF", compression=compression))), compression
    assert corners(desk.read(saved(quarters(), "TIFF", big_tiff=True))) == UPRIGHT


@case("tiff-grey")
def _(desk: Desk) -> None:
    for white in (1023, 4095, 65535):
        deep = b"".join(struct.pack("<H", white if value else 0) for value in square().tobytes())
        assert is_square(desk.read(tiff([deep], (40, 40), bits=16, photometric=1, samples=1))), white
    floats = b"".join(struct.pack("<f", value / 255) for value in square().tobytes())
    assert is_square(desk.read(tiff([floats], (40, 40), bits=32, photometric=1, samples=1, format=3)))


@case("tiff-white-is-zero")
def _(desk: Desk) -> None:
    turned = bytes(255 - value for value in square().tobytes())
    assert is_square(desk.read(tiff([turned], (40, 40), bits=8, photometric=0, samples=1)))


@case("tiff-signed")
def _(desk: Desk) -> None:
    signed = bytes(value ^ 0x80 for value in square().tobytes())
    assert is_square(desk.read(tiff([signed], (40, 40), bits=8, photometric=1, samples=1, format=2)))


@case("tiff-colour-map")
def _(desk: Desk) -> None:
    ramp = list(range(256))
    old = tiff([square().tobytes()], (40, 40), bits=8, photometric=3, samples=1, map=ramp * 3)
    new = tiff([square().tobytes()], (40, 40), bits=8, photometric=3, samples=1, map=[v * 257 for v in ramp] * 3)
    assert is_square(desk.read(old))
    assert is_square(desk.read(new))
    half = tiff(
        [quarters("L").tobytes()], (64, 48), bits=8, photometric=3, samples=1, map=ramp + [0] * 256 + ramp[::-1]
    )
    grey = quarters("L").getpixel((1, 1))
    assert desk.read(half).getpixel((1, 1)) == (grey, 0, 255 - grey)  # type: ignore[operator]


@case("tiff-planes")
def _(desk: Desk) -> None:
    planes = [plane.tobytes() for plane in quarters().split()]
    deep = [b"".join(struct.pack("<H", value * 257) for value in plane) for plane in planes]
    assert corners(desk.read(tiff(planes, (64, 48), bits=[8] * 3, photometric=2, samples=3, planar=2))) == UPRIGHT
    assert corners(desk.read(tiff(deep, (64, 48), bits=[16] * 3, photometric=2, samples=3, planar=2))) == UPRIGHT


@case("tiff-alpha-plane")
def _(desk: Desk) -> None:
    planes = [plane.tobytes() for plane in quarters().split()]
    for extra in (0, 1, 2):
        opaque = tiff(
            [*planes, b"\xff" * 64 * 48], (64, 48), bits=[8] * 4, photometric=2, samples=4, planar=2, extra=extra
        )
        assert corners(desk.read(opaque)) == UPRIGHT, extra
    letter = bytes(255 - value for value in square().tobytes())  # black ink, seen through an alpha of the same shape
    for extra in (1, 2):
        seen = tiff(
            [bytes(1600)] * 3 + [letter], (40, 40), bits=[8] * 4, photometric=2, samples=4, planar=2, extra=extra
        )
        assert is_square(desk.read(seen)), extra


@case("tiff-refused")
def _(desk: Desk) -> None:
    words = [b"".join(struct.pack("<I", value << 24) for value in plane.tobytes()) for plane in quarters().split()]
    assert "not read" in desk.refusal(tiff(words, (64, 48), bits=[32] * 3, photometric=2, samples=3, planar=2))
    letter = bytes(255 - value for value in square().tobytes())
    grey = tiff([bytes(1600), letter], (40, 40), bits=[8] * 2, photometric=1, samples=2, planar=2, extra=2)
    assert "transparency" in desk.refusal(grey)
    doubles = b"".join(struct.pack("<d", value / 255) for value in square().tobytes())
    assert "not read" in desk.refusal(tiff([doubles], (40, 40), bits=64, photometric=1, samples=1, format=3))


# -- HEIC and AVIF


def framed(kind: str) -> bytes:
    """A picture of quarters inside a black frame, whose clean aperture leaves the frame out."""
    image = Image.new("RGB", (128, 112), BLACK)
    image.paste(quarters(), (48, 16))
    return with_aperture(saved(image, kind, quality=95), (64, 48, 2 * (48 + 32 - 64), 2 * (16 + 24 - 56)))


@case("avif-aperture")
def _(desk: Desk) -> None:
    page = desk.read(framed("AVIF"))
    assert (page.size, corners(page)) == ((64, 48), UPRIGHT)
    stored = Image.new("RGB", (112, 128), BLACK)  # the aperture counts in the picture as stored, before it is turned
    stored.paste(quarters().transpose(Image.Transpose.ROTATE_90), (16, 16))
    exif = Image.Exif()
    exif[274] = 6
    turned = with_aperture(saved(stored, "AVIF", quality=95, exif=exif.tobytes()), (48, 64, -32, -32))
    page = desk.read(turned)
    assert (page.size, corners(page)) == ((64, 48), UPRIGHT)


@case("heic-aperture")
def _(desk: Desk) -> None:
    page = desk.read(framed("HEIF"))
    assert (page.size, corners(page)) == ((64, 48), UPRIGHT)


@case("heic-turned")
def _(desk: Desk) -> None:
    assert corners(desk.read(saved(quarters(), "HEIF", quality=95))) == UPRIGHT
    assert desk.inspect(saved(quarters(), "HEIF"))["format"] == "HEIF"


# -- ICO, PCX, TGA


@case("ico-largest")
def _(desk: Desk) -> None:
    for bitmap in ("bmp", "png"):
        icon = quarters().resize((64, 64))
        data = saved(icon, "ICO", sizes=[(16, 16), (64, 64)], bitmap_format=bitmap)
        page = desk.read(data)
        assert (page.size, corners(page)) == ((64, 64), UPRIGHT), bitmap
        assert desk.inspect(data)["pages"] == 1


@case("pcx-depth")
def _(desk: Desk) -> None:
    for mode in ("1", "L", "P"):
        assert is_square(desk.read(saved(square(mode), "PCX"))), mode
    assert corners(desk.read(saved(quarters(), "PCX"))) == UPRIGHT


@case("tga-origin")
def _(desk: Desk) -> None:
    for orientation in (1, -1):
        for compression in (None, "tga_rle"):
            data = saved(quarters(), "TGA", orientation=orientation, compression=compression)
            assert corners(desk.read(data)) == UPRIGHT, (orientation, compression)
    for mode in ("L", "P"):
        assert is_square(desk.read(saved(square(mode), "TGA"))), mode


@case("tga-no-mark")
def _(desk: Desk) -> None:
    for other in (bytes(100), bytes(2) + b"\x02" + bytes(97), b"\0\0\2\0\1\0" + bytes(94), b"\1\0\0\0" + b"\x10" * 96):
        assert "of a format that is not read" in desk.refusal(other)


# -- PDF


@case("pdf-turned")
def _(desk: Desk) -> None:
    page = desk.read(pdf("/MediaBox [0 0 64 48] /Rotate 180", COLOURS))
    assert corners(page) == UPRIGHT[::-1]
    assert desk.read(pdf("/MediaBox [0 0 64 48] /Rotate 90", COLOURS)).size == (48, 64)


@case("pdf-size")
def _(desk: Desk) -> None:
    assert desk.read(pdf(content=COLOURS), dpi=144).size == (128, 96)
    page = desk.read(pdf("/MediaBox [0 0 64 48] /CropBox [0 24 32 48]", COLOURS))
    assert (page.size, corners(page)) == ((32, 24), [RED] * 4)


@case("pdf-user-unit")
def _(desk: Desk) -> None:
    assert desk.read(pdf("/MediaBox [0 0 64 48] /UserUnit 2", COLOURS)).size == (64, 48)


@case("pdf-annotations")
def _(desk: Desk) -> None:
    form = "<< /Type /XObject /Subtype /Form /BBox [0 0 64 48] /Length 24 >>"
    look = f"6 0 obj {form} stream\n0 0 0 rg 0 0 64 48 re f\nendstream endobj"
    for flags, seen in ((4, BLACK), (2, WHITE)):
        stamp = f"5 0 obj << /Type /Annot /Subtype /Stamp /Rect [0 0 64 48] /F {flags} /AP << /N 6 0 R >> >> endobj"
        page = desk.read(pdf("/MediaBox [0 0 64 48] /Annots [5 0 R]", objects=f"{stamp}\n{look}"))
        assert page.getpixel((32, 24)) == seen


@case("pdf-layers")
def _(desk: Desk) -> None:
    off = "/OCProperties << /OCGs [7 0 R] /D << /OFF [7 0 R] /Order [7 0 R] >> >>"
    layer = "7 0 obj << /Type /OCG /Name (notes) >> endobj"
    resources = "/MediaBox [0 0 64 48] /Resources << /Properties << /L 7 0 R >> >>"
    page = desk.read(pdf(resources, "/OC /L BDC 0 0 64 48 re f EMC", extra=off, objects=layer))
    assert page.getpixel((32, 24)) == WHITE
    form = "<< /Type /XObject /Subtype /Form /BBox [0 0 64 48] /Length 24 >>"
    look = f"6 0 obj {form} stream\n0 0 0 rg 0 0 64 48 re f\nendstream endobj"
    stamp = "5 0 obj << /Type /Annot /Subtype /Stamp /Rect [0 0 64 48] /F 4 /OC 7 0 R /AP << /N 6 0 R >> >> endobj"
    entries = "/MediaBox [0 0 64 48] /Annots [5 0 R]"
    page = desk.read(pdf(entries, extra=off, objects=f"{stamp}\n{look}\n{layer}"))
    assert page.getpixel((32, 24)) == BLACK


@case("pdf-password")
def _(desk: Desk) -> None:
    locked = pdf().replace(
        b"/Size 9",
        f"/Size 9 /ID [<{'00' * 16}> <{'00' * 16}>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{'11' * 32}> "
        f"/U <{'22' * 32}> >>".encode(),
    )
    assert "password" in desk.refusal(locked)
    assert "OCR_PDF_PASSWORD" in desk.refusal(locked)


# -- what is refused

REFUSED = {
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript", "ps2pdf"),
    "svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG", "PDF or PNG"),
    "html": (b"<!DOCTYPE html><html>", "web page", "the file itself"),
    "text": (b"The quick brown fox", "text already", "Read the file"),
    "office": (b"PK\x03\x04" + bytes(40), "Office document", "soffice"),
    "office-old": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(40), "Office document", "soffice"),
    "rtf": (b"{\\rtf1 words}", "Office document", "soffice"),
    "xps": (b"PK\x03\x04" + bytes(26) + b"FixedDocSeq.fdseq" + bytes(40), "XPS", "mutool"),
    "djvu": (b"AT&TFORM" + bytes(40), "DjVu", "ddjvu"),
    "dicom": (bytes(128) + b"DICM" + bytes(40), "DICOM", "dcmj2pnm"),
    "wmf": (b"\xd7\xcd\xc6\x9a" + bytes(40), "WMF", "soffice"),
    "emf": (b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(40), "EMF", "soffice"),
    "fits": (b"SIMPLE  =                    T" + b" " * 50, "FITS", "fits2bitmap"),
    "jpeg-xl": (b"\xff\x0a" + bytes(40), "JPEG XL", "djxl"),
    "photoshop": (b"8BPS" + bytes(40), "Photoshop", "PNG"),
    "archive": (b"\x1f\x8b" + bytes(40), "archive", "Unpack"),
    "video": (b"\0\0\0\x20ftypisom" + bytes(40), "video", "one frame"),
    "empty": (b"", "empty", "completely"),
    "unknown": (bytes(100), "format that is not read", "PNG"),
}


def refuses(data: bytes, what: str, remedy: str) -> Case:
    def check(desk: Desk) -> None:
        refusal = desk.refusal(data)
        assert what in refusal
        assert remedy in refusal

    return check


for refused, (first_bytes, what_it_is, what_to_do) in REFUSED.items():
    CASES[f"refused-{refused}"] = refuses(first_bytes, what_it_is, what_to_do)


@case("limit-pixels")
def _(desk: Desk) -> None:
    with pytest.raises(InputTooLarge, match="megapixels"):
        desk.inspect(saved(Image.new("1", (1001, 1000)), "PNG"))


@case("limit-pages")
def _(desk: Desk) -> None:
    with pytest.raises(InputTooLarge, match="more than 1 pages"):
        desk.inspect(saved(square(), "TIFF", save_all=True, append_images=[square()]), max_pages=1)


@case("limit-small")
def _(desk: Desk) -> None:
    with pytest.raises(UnreadableInput, match="too few to hold text"):
        desk.inspect(saved(Image.new("L", (3, 500)), "PNG"))


@case("limit-cut")
def _(desk: Desk) -> None:
    noise = Image.effect_noise((200, 200), 100)
    assert "cut off" in desk.refusal(saved(noise, "JPEG")[:-400])


# -- the page and the cases


@pytest.mark.parametrize("name", CASES)
def test_a_line_of_the_page_about_formats_is_true(desk: Desk, name: str) -> None:
    CASES[name](desk)


def test_the_page_about_formats_has_a_line_for_each_case_and_no_other() -> None:
    lines = re.findall(r"^\|.*\| `([a-z0-9-]+)` \|$", PAGE.read_text(), re.MULTILINE)
    assert len(lines) == len(set(lines))
    assert set(lines) == set(CASES)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\x08free",
        b"\0\0\0\x10meta" + bytes(8),
        b"\0\0\0\x01ftyp" + bytes(20),
        framed("AVIF").replace(b"clap", b"nope"),
        framed("AVIF")[:200],
    ],
)
def test_a_picture_without_a_sound_aperture_is_taken_whole(data: bytes) -> None:
    assert clean_aperture(io.BytesIO(data), (128, 112)) is None


def test_an_aperture_that_leaves_the_picture_is_ignored() -> None:
    assert clean_aperture(io.BytesIO(framed("AVIF")), (100, 60)) is None


def test_uncompressed_tiffs_are_read_by_libtiff() -> None:
    assert TiffImagePlugin.READ_LIBTIFF

from __future__ import annotations

import io
import os
import random
import stat
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from deepseek_ocr_mcp.decoder import encode, pdf, pictures
from deepseek_ocr_mcp.decoder import renderer as pages
from deepseek_ocr_mcp.decoder.overlay import draw_boxes
from deepseek_ocr_mcp.decoder.renderer import PageRenderer
from deepseek_ocr_mcp.errors import BadRequest, Cancelled, InputTooLarge, OcrError, PasswordNeeded, UnreadableInput

MAX_PIXELS = 20_000_000
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


class Line:
    """A `Call` whose caller waits, or gave up after so many questions."""

    def __init__(self, patience: int = 1_000_000) -> None:
        self.patience = patience

    def progress(self, done: float, message: str = "") -> None:
        assert 0 <= done <= 1

    def raise_if_cancelled(self) -> None:
        self.patience -= 1
        if self.patience < 0:
            raise Cancelled("Nobody waits.", remedy="Send it again.")


class Desk:
    """A folder to render in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.renderer = PageRenderer()

    def file(self, content: bytes | Image.Image, kind: str = "PNG", **options: Any) -> str:
        path = self.folder / f"input-{len(os.listdir(self.folder))}"
        if isinstance(content, Image.Image):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content.save(path, kind, **options)
        else:
            path.write_bytes(content)
        return str(path)

    def inspect(self, path: str, max_pixels: int = MAX_PIXELS, max_pages: int = 100) -> dict[str, Any]:
        return self.renderer.inspect({"path": path, "name": "scan"}, max_pixels, max_pages, Line())

    def render(
        self, path: str, page: int = 1, dpi: int = 72, max_pixels: int = MAX_PIXELS, call: Line | None = None
    ) -> Image.Image:
        out = str(self.folder / "out")
        size = self.renderer.render({"path": path, "name": "scan"}, page, dpi, max_pixels, out, call or Line())
        data = Path(out).read_bytes()
        assert len(data) == size["width"] * size["height"] * 3
        return Image.frombytes("RGB", (size["width"], size["height"]), data)

    def read(self, content: bytes | Image.Image, kind: str = "PNG", **options: Any) -> Image.Image:
        path = self.file(content, kind, **options)
        self.inspect(path)
        return self.render(path)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.renderer.close()


def quarters(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Red, green, blue and white corners, so that a turned page shows."""
    image = Image.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(image)
    half = (size[0] // 2, size[1] // 2)
    draw.rectangle((0, 0, half[0] - 1, half[1] - 1), fill=RED)
    draw.rectangle((half[0], 0, *size), fill=GREEN)
    draw.rectangle((0, half[1], half[0] - 1, size[1]), fill=BLUE)
    draw.rectangle((*half, *size), fill=WHITE)
    return image


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours of the four quarters, rounded to fully on or off."""
    w, h = image.size
    points = ((w // 4, h // 4), (3 * w // 4, h // 4), (w // 4, 3 * h // 4), (3 * w // 4, 3 * h // 4))
    found = []
    for point in points:
        pixel = image.getpixel(point)
        assert isinstance(pixel, tuple)
        found.append(tuple(255 if value > 127 else 0 for value in pixel))
    return found


def contrast(image: Image.Image) -> int:
    low, high = image.convert("L").getextrema()
    assert isinstance(low, int)
    assert isinstance(high, int)
    return high - low


def make_pdf(*page_entries: str, extra: str = "", trailer: str = "", contents: str = "") -> bytes:
    """A PDF by hand: one page for each text of page entries."""
    kids = " ".join(f"{10 + 2 * i} 0 R" for i in range(len(page_entries)))
    objects = {
        1: f"<< /Type /Catalog /Pages 2 0 R {extra} >>",
        2: f"<< /Type /Pages /Kids [{kids}] /Count {len(page_entries)} >>",
    }
    for i, entries in enumerate(page_entries):
        objects[10 + 2 * i] = f"<< /Type /Page /Parent 2 0 R /Contents {11 + 2 * i} 0 R {entries} >>"
        objects[11 + 2 * i] = f"<< /Length {len(contents)} >>\nstream\n{contents}\nendstream"
    body, offsets = b"%PDF-1.7\n", {}
    for number, text in objects.items():
        offsets[number] = len(body)
        body += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = "xref\n0 1\n0000000000 65535 f \n"
    table += "".join(f"{number} 1\n{offset:010} 00000 n \n" for number, offset in offsets.items())
    end = f"trailer\n<< /Root 1 0 R /Size 999 {trailer} >>\nstartxref\n{len(body)}\n%%EOF\n"
    return body + table.encode() + end.encode()


DAMAGED = "scan is damaged, or of a kind that is not read."
LETTER_PDF = Path(__file__).parents[2] / "examples" / "pages" / "letter.pdf"
LETTER = "/MediaBox [0 0 200 100]"
RED_LEFT = "1 0 0 rg 0 0 100 100 re f"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes, data: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", data or zlib.compress(bytes((width + 1) * height)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + body + chunk(b"IEND", b"")


def refusal(content: Callable[[], object]) -> str:
    """What our error says, if there is one. Any other exception fails the test."""
    try:
        content()
    except OcrError as error:
        return error.message
    return ""


# -- formats


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("PNG", "PNG"),
        ("JPEG", "JPEG"),
        ("WEBP", "WEBP"),
        ("GIF", "GIF"),
        ("BMP", "BMP"),
        ("PPM", "PNM"),
        ("JPEG2000", "JPEG2000"),
        ("AVIF", "AVIF"),
        ("HEIF", "HEIF"),
        ("TIFF", "TIFF"),
        ("PDF", "PDF"),
    ],
)
def test_every_format_is_read(desk: Desk, kind: str, shown: str) -> None:
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    path = desk.file(quarters(), kind)
    assert desk.inspect(path) == {"format": shown, "pages": 1}
    image = desk.render(path)
    assert image.size == (64, 48)
    assert corners(image) == [RED, GREEN, BLUE, WHITE]


def test_a_bare_jpeg_2000_codestream_is_read(desk: Desk) -> None:
    buffer = io.BytesIO()
    quarters().save(buffer, "JPEG2000", no_jp2=True)
    assert corners(desk.read(buffer.getvalue())) == [RED, GREEN, BLUE, WHITE]


def test_of_an_animation_the_first_frame_is_the_page(desk: Desk) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, GREEN, BLUE)]
    for kind in ("GIF", "WEBP", "PNG", "AVIF"):
        path = desk.file(frames[0], kind, save_all=True, append_images=frames[1:])
        assert desk.inspect(path)["pages"] == 1
        assert corners(desk.render(path))[0] == RED


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg", "packbits"])
def test_all_pages_of_a_tiff_are_read_in_any_order(desk: Desk, compression: str | None) -> None:
    first, *rest = (Image.new("RGB", (32 + i, 40), colour) for i, colour in enumerate((RED, GREEN, BLUE)))
    path = desk.file(first, "TIFF", save_all=True, append_images=rest, compression=compression)
    assert desk.inspect(path)["pages"] == 3
    for page, colour in ((3, BLUE), (1, RED), (2, GREEN), (2, GREEN)):
        image = desk.render(path, page)
        assert image.width == 31 + page
        assert corners(image)[0] == colour


def test_reduced_copies_in_a_tiff_are_no_pages(desk: Desk) -> None:
    first, second = Image.new("RGB", (32, 32), RED), Image.new("RGB", (32, 32), GREEN)
    copy = Image.new("RGB", (8, 8), BLUE)
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    path = desk.file(first, "TIFF", save_all=True, append_images=[copy, second])
    assert desk.inspect(path)["pages"] == 2
    assert corners(desk.render(path, 2))[0] == GREEN


def test_pages_of_a_tiff_are_found_without_inspecting_first(desk: Desk) -> None:
    first, *rest = (Image.new("RGB", (32, 32), colour) for colour in (RED, GREEN, BLUE))
    path = desk.file(first, "TIFF", save_all=True, append_images=rest)
    assert corners(desk.render(path, 3))[0] == BLUE
    with pytest.raises(BadRequest, match="it has 3"):
        desk.render(path, 4)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"]
)
def test_every_mode_keeps_black_on_white(desk: Desk, mode: str) -> None:
    image = Image.new("L", (40, 40), 255)
    image.paste(0, (10, 10, 30, 30))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.applyTransform(image.convert("RGB"), ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    elif mode in ("I;16", "I"):
        image = image.convert("I").point(lambda value: value * 257).convert(mode)
    elif mode == "F":
        image = image.convert("F").point(lambda value: value * (1 / 255) + 0)
    elif mode in ("PA", "RGBX", "YCbCr", "CMYK"):
        image = image.convert("RGB").convert("P" if mode == "PA" else mode)
    else:
        image = image.convert(mode)
    kind = "PNG" if mode in ("LA", "P") else "TIFF"
    page = desk.read(image, kind).convert("L")
    for point, expected in (((2, 2), 255), ((20, 20), 0)):
        value = page.getpixel(point)
        assert isinstance(value, int)
        assert abs(value - expected) <= 4


@pytest.mark.parametrize(("top", "expected"), [(65535, 255), (4095, 255), (1023, 255), (200, 200)])
def test_deep_grey_keeps_its_contrast(desk: Desk, top: int, expected: int) -> None:
    image = Image.new("I", (40, 40), top)
    image.paste(0, (10, 10, 30, 30))
    for kind in ("PNG", "TIFF"):
        assert abs(contrast(desk.read(image.convert("I;16"), kind)) - expected) <= 1
    middle = desk.read(Image.linear_gradient("L").convert("I").point(lambda v: v * 256 + 0).convert("I;16"))
    assert middle.convert("L").getpixel((5, 128)) in (127, 128, 129)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 255.0), (-3.5, 8.25), (0.0, 1e9), (7.0, 7.0)])
def test_floats_keep_their_contrast(desk: Desk, low: float, high: float) -> None:
    image = Image.new("F", (40, 40), high)
    image.paste(low, (10, 10, 30, 30))
    assert contrast(desk.read(image, "TIFF")) in ((0,) if low == high else (254, 255))


def test_a_page_of_no_numbers_is_refused(desk: Desk) -> None:
    with pytest.raises(UnreadableInput):
        desk.read(Image.new("F", (40, 40), float("nan")), "TIFF")


@pytest.mark.parametrize("mode", ["1", "L", "I;16"])
def test_a_tiff_whose_zero_is_white_is_turned_round(desk: Desk, mode: str) -> None:
    image = Image.new("L", (40, 40), 0)
    image.paste(255, (10, 10, 30, 30))
    if mode == "I;16":
        image = image.convert("I").point(lambda value: value * 257 + 0).convert(mode)
    else:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    data = bytearray(buffer.getvalue())
    offset = int.from_bytes(data[4:8], "little")
    for entry in range(offset + 2, offset + 2 + 12 * int.from_bytes(data[offset : offset + 2], "little"), 12):
        if int.from_bytes(data[entry : entry + 2], "little") == 262:
            data[entry + 8] = 0  # PhotometricInterpretation: WhiteIsZero
    page = desk.read(bytes(data)).convert("L")
    assert (page.getpixel((2, 2)), page.getpixel((20, 20))) == (255, 0)


def test_an_inverted_cmyk_jpeg_is_not_a_negative(desk: Desk) -> None:
    page = desk.read(quarters().convert("CMYK"), "JPEG", quality=95)  # Pillow writes them as Adobe does
    assert corners(page) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_page_is_upright_whatever_its_exif_says(desk: Desk, orientation: int, kind: str) -> None:
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    T = Image.Transpose
    how_it_was_held = {
        2: T.FLIP_LEFT_RIGHT,
        3: T.ROTATE_180,
        4: T.FLIP_TOP_BOTTOM,
        5: T.TRANSPOSE,
        6: T.ROTATE_90,
        7: T.TRANSVERSE,
        8: T.ROTATE_270,
    }
    image = quarters()
    if orientation in how_it_was_held:
        image = image.transpose(how_it_was_held[orientation])
    exif = Image.Exif()
    exif[274] = orientation
    page = desk.read(image, kind, exif=exif.tobytes())
    assert page.size == (64, 48)
    assert corners(page) == [RED, GREEN, BLUE, WHITE]


def test_damaged_exif_does_not_spoil_the_page(desk: Desk) -> None:
    assert desk.read(quarters(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff").size == (64, 48)
    assert desk.read(quarters(), "PNG", exif=b"Exif\0\0nonsense").size == (64, 48)


# -- transparency


def ink(colour: tuple[int, ...], ground: tuple[int, ...] = (0, 0, 0, 0)) -> Image.Image:
    image = Image.new("RGBA", (120, 40), ground)
    ImageDraw.Draw(image).text((5, 5), "Text", fill=colour, font_size=28)
    return image


@pytest.mark.parametrize("colour", [BLACK, WHITE, (200, 0, 0), (255, 255, 0)])
@pytest.mark.parametrize("hidden", [(0, 0, 0, 0), (255, 255, 255, 0)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_text_on_nothing_stays_visible(desk: Desk, colour: tuple[int, ...], hidden: tuple[int, ...], mode: str) -> None:
    image = ink((*colour, 255), hidden)
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    assert contrast(desk.read(image)) > 120


def test_black_text_beside_a_large_pale_logo_stays_visible(desk: Desk) -> None:
    image = Image.new("RGBA", (600, 200), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((250, 0, 599, 199), fill=(250, 250, 200, 255))
    draw.text((5, 5), "Black text\nin two lines", fill="black", font_size=40)
    page = desk.read(image)
    assert contrast(page.crop((0, 0, 240, 200))) > 120


def test_black_and_white_text_on_nothing_are_both_visible(desk: Desk) -> None:
    image = Image.new("RGBA", (120, 80), (0, 0, 0, 0))
    image.paste(ink((0, 0, 0, 255)), (0, 0))
    image.paste(ink((255, 255, 255, 255)), (0, 40))
    page = desk.read(image)
    assert contrast(page.crop((0, 0, 120, 40))) > 100
    assert contrast(page.crop((0, 40, 120, 80))) > 100


def test_a_colour_that_stands_for_transparent_is_honoured(desk: Desk) -> None:
    image = Image.new("L", (40, 40), 255)
    image.paste(250, (10, 10, 30, 30))
    assert contrast(desk.read(image, transparency=255)) > 200
    assert contrast(desk.read(image.convert("RGB"), transparency=(255, 255, 255))) > 200


def test_an_alpha_that_hides_everything_is_ignored(desk: Desk) -> None:
    page = desk.read(ink((0, 0, 0, 0), (255, 255, 255, 0)))
    assert contrast(page) == 255


def test_faint_text_on_nothing_stays_visible(desk: Desk) -> None:
    assert contrast(desk.read(ink((255, 255, 255, 100)))) > 80


# -- PDF


def test_pdf_pages_are_drawn_at_the_resolution(desk: Desk) -> None:
    path = desk.file(make_pdf(LETTER, "/MediaBox [0 0 72 36]", contents=RED_LEFT))
    assert desk.inspect(path) == {"format": "PDF", "pages": 2}
    assert desk.render(path, dpi=144).size == (400, 200)
    assert desk.render(path, 2, dpi=300).size == (300, 150)
    assert corners(desk.render(path))[:2] == [RED, WHITE]


@pytest.mark.parametrize("width", [200, 201, 202, 203])
def test_padded_rows_of_a_bitmap_are_cut(desk: Desk, width: int) -> None:
    page = desk.read(make_pdf(f"/MediaBox [0 0 {width} 100]", contents=RED_LEFT))
    assert page.size == (width, 100)
    assert corners(page) == [RED, WHITE, RED, WHITE]


def test_a_rotated_pdf_page_is_upright(desk: Desk) -> None:
    page = desk.read(make_pdf(f"{LETTER} /Rotate 90", contents=RED_LEFT))
    assert page.size == (100, 200)
    assert corners(page) == [RED, RED, WHITE, WHITE]


@pytest.mark.parametrize("kind", ["words", "picture", "odd", "rotated"])
def test_a_page_drawn_in_bands_is_the_same_picture(desk: Desk, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    noise = io.BytesIO()
    Image.frombytes("RGB", (310, 230), random.Random(4).randbytes(310 * 230 * 3)).save(noise, "PDF", resolution=200)
    data = {
        "words": LETTER_PDF.read_bytes(),
        "picture": noise.getvalue(),
        "odd": make_pdf("/MediaBox [3.3 1.7 201.9 141.4]", contents=RED_LEFT),
        "rotated": make_pdf(f"{LETTER} /Rotate 270", contents=RED_LEFT),
    }[kind]
    path = desk.file(data)
    whole = [desk.render(path, dpi=dpi) for dpi in (72, 137)]
    assert len(whole[0].getcolors(MAX_PIXELS) or ()) > 1
    for rows in (1, 7, 64):
        for dpi, page in zip((72, 137), whole, strict=True):
            monkeypatch.setattr(pdf, "MAX_BAND_BYTES", rows * page.width * 3)
            assert desk.render(path, dpi=dpi).tobytes() == page.tobytes()


def test_annotations_and_form_fields_are_drawn(desk: Desk) -> None:
    square = "<< /Type /Annot /Subtype /Square /Rect [0 0 100 100] /IC [0 0 1] /C [0 0 1] /F 4 >>"
    field = (
        "<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (XXXXXXX) /Rect [110 60 190 90] /F 4 "
        "/DA (/Helv 20 Tf 0 g) /MK << /BG [0 1 0] >> >>"
    )
    data = make_pdf(
        f"{LETTER} /Annots [{square} {field}]",
        extra="/AcroForm << /Fields [] /NeedAppearances true /DA (/Helv 20 Tf 0 g) >>",
    )
    page = desk.read(data)
    assert corners(page)[2] == BLUE
    assert page.getpixel((150, 25)) != WHITE


def test_a_poster_is_drawn_at_fewer_dpi_to_fit(desk: Desk) -> None:
    path = desk.file(make_pdf("/MediaBox [0 0 2384 3370]", "/MediaBox [0 0 5000 4]"))
    page = desk.render(path, dpi=200, max_pixels=1_000_000)
    assert 950_000 < page.width * page.height <= 1_000_000
    assert abs(page.width / page.height - 2384 / 3370) < 0.01
    assert desk.render(path, 2, dpi=400, max_pixels=1_000_000).size == (27778, 23)


def test_an_absurd_pdf_page_is_refused(desk: Desk) -> None:
    with pytest.raises(InputTooLarge, match="inches"):
        desk.read(make_pdf("/MediaBox [0 0 1000000 1000000]"))
    with pytest.raises(UnreadableInput):
        desk.read(make_pdf("/MediaBox [0 0 1 1]"))


def test_an_encrypted_pdf_is_refused_with_what_to_do(desk: Desk) -> None:
    trailer = (
        f"/ID [<{'00' * 16}> <{'00' * 16}>] "
        f"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{'11' * 32}> /U <{'22' * 32}> >>"
    )
    with pytest.raises(PasswordNeeded, match="locked with a password") as caught:
        desk.inspect(desk.file(make_pdf(LETTER, trailer=trailer)))
    assert "OCR_PDF_PASSWORD" in caught.value.remedy


def test_a_pdf_without_pages_or_with_broken_ones_is_refused(desk: Desk) -> None:
    with pytest.raises(UnreadableInput):
        desk.inspect(desk.file(make_pdf()))
    for broken in (b"%PDF-1.7\nnothing", make_pdf(LETTER)[:60]):
        with pytest.raises(UnreadableInput, match="damaged"):
            desk.inspect(desk.file(broken))
    path = desk.file(make_pdf(LETTER).replace(b"/Count 1", b"/Count 3"))
    pages_found = desk.inspect(path)["pages"]
    for page in range(1, pages_found + 1):
        try:
            desk.render(path, page)
        except UnreadableInput:
            assert page > 1


def test_a_document_stays_open_between_its_pages_and_closes_for_the_next(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    really = pages._open_document

    def counting(path: str, name: str, password: str) -> Any:
        opened.append(path)
        return really(path, name, password)

    monkeypatch.setattr(pages, "_open_document", counting)
    one, two = desk.file(make_pdf(LETTER, LETTER, LETTER)), desk.file(quarters())
    desk.inspect(one)
    for page in (1, 2, 3):
        desk.render(one, page)
    assert opened == [one]
    desk.inspect(two)
    desk.render(two)
    assert opened == [one, two]
    assert repr(desk.renderer) == "<PageRenderer empty>"
    Path(one).write_bytes(make_pdf(LETTER))
    assert desk.inspect(one)["pages"] == 1
    assert repr(desk.renderer) == "<PageRenderer PDF>"


# -- limits


def test_pixels_are_counted_before_they_are_decoded(desk: Desk) -> None:
    bomb = desk.file(png(60_000, 60_000, data=zlib.compress(b"")))
    with pytest.raises(InputTooLarge, match="60000 by 60000 pixels; the limit is 20 megapixels"):
        desk.inspect(bomb)
    with pytest.raises(InputTooLarge):
        desk.render(bomb)
    path = desk.file(quarters(), "TIFF", save_all=True, append_images=[Image.new("L", (500, 500))])
    desk.inspect(path, max_pixels=10_000)
    desk.render(path, 1, max_pixels=10_000)
    with pytest.raises(InputTooLarge, match="Page 2 of scan"):
        desk.render(path, 2, max_pixels=10_000)


def test_more_pages_than_the_limit_are_refused(desk: Desk) -> None:
    with pytest.raises(InputTooLarge, match="more than 2 pages") as caught:
        desk.inspect(desk.file(make_pdf(LETTER, LETTER, LETTER)), max_pages=2)
    assert "OCR_MAX_PAGES" in caught.value.remedy
    frame = Image.new("L", (8, 8))
    path = desk.file(frame, "TIFF", save_all=True, append_images=[frame, frame])
    assert desk.inspect(path, max_pages=3)["pages"] == 3
    with pytest.raises(InputTooLarge, match="more than 2 pages"):
        desk.inspect(path, max_pages=2)


def test_a_million_directories_of_a_tiff_are_not_walked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    directories = 1_000_000
    first = Image.new("L", (8, 8))
    buffer = io.BytesIO()
    first.save(buffer, "TIFF")
    data = bytearray(buffer.getvalue())
    start = len(data) + len(data) % 2
    offset = int.from_bytes(data[4:8], "little")
    end = offset + 2 + 12 * int.from_bytes(data[offset : offset + 2], "little")
    data[end : end + 4] = start.to_bytes(4, "little")
    data += bytes(start - len(data))
    data += b"".join(struct.pack("<HHHIIII", 1, 254, 4, 1, 1, start + 18 * (i + 1), 0)[:18] for i in range(directories))
    reads = []
    really = pictures._read_at
    monkeypatch.setattr(pictures, "_read_at", lambda *args: reads.append(1) or really(*args))
    desk.inspect(desk.file(bytes(data)))
    assert len(reads) < 5000


def test_a_loop_of_tiff_directories_ends(desk: Desk) -> None:
    buffer = io.BytesIO()
    frame = Image.new("L", (8, 8))
    frame.save(buffer, "TIFF", save_all=True, append_images=[frame])
    data = bytearray(buffer.getvalue())
    first = int.from_bytes(data[4:8], "little")
    end = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    second = int.from_bytes(data[end : end + 4], "little")
    end = second + 2 + 12 * int.from_bytes(data[second : second + 2], "little")
    data[end : end + 4] = data[4:8]
    path = desk.file(bytes(data))
    assert desk.inspect(path)["pages"] == 2
    assert desk.render(path, 2).size == (8, 8)
    with pytest.raises(BadRequest):
        desk.render(path, 3)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_bomb_in_a_png_text_is_a_clean_error_or_ignored(desk: Desk, kind: bytes) -> None:
    packed = zlib.compress(bytes(100_000_000), 9)
    start = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    assert refusal(lambda: desk.read(png(20, 20, chunk(kind, start + packed)))) in ("", DAMAGED)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "JPEG2000", "AVIF", "BMP"])
def test_a_truncated_file_is_an_error(desk: Desk, kind: str) -> None:
    buffer = io.BytesIO()
    random.seed(1)
    noise = Image.frombytes("RGB", (128, 128), random.randbytes(128 * 128 * 3))
    noise.save(buffer, kind)
    with pytest.raises(UnreadableInput):
        desk.read(buffer.getvalue()[: len(buffer.getvalue()) * 2 // 3])


def test_a_cut_file_is_called_cut_off(desk: Desk) -> None:
    buffer = io.BytesIO()
    quarters((400, 400)).save(buffer, "JPEG")
    with pytest.raises(UnreadableInput, match="cut off"):
        desk.read(buffer.getvalue()[:-400])


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3)])
def test_what_is_too_small_for_text_is_refused(desk: Desk, size: tuple[int, int]) -> None:
    with pytest.raises(UnreadableInput, match="too few to hold text"):
        desk.read(Image.new("L", size))


def test_the_smallest_page_is_read(desk: Desk) -> None:
    assert desk.read(Image.new("RGBA", (4, 4), (0, 0, 0, 40))).size == (4, 4)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty"),
        (b"The quick brown fox", "text already"),
        ("Größe ".encode() * 2000, "text already"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6" + bytes(40), "PostScript"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\xef\xbb\xbf<svg/>", "SVG"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04" + bytes(40), "Office document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(40), "Office"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"8BPS" + bytes(40), "Photoshop"),
        (b"\x1f\x8b" + bytes(40), "archive"),
        (b"\0\0\0\x20ftypisom" + bytes(40), "video"),
        (bytes(100), "format that is not read"),
        (b"BM is how this begins\0", "format that is not read"),
    ],
)
def test_what_is_not_read_is_named(desk: Desk, data: bytes, what: str) -> None:
    with pytest.raises(UnreadableInput, match=what) as caught:
        desk.inspect(desk.file(data))
    assert caught.value.remedy


@pytest.mark.parametrize(
    "start",
    [
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"II*\0\x08\0\0\0",
        b"MM\0+\0\x08\0\0",
        b"GIF89a",
        b"P6\n",
        b"RIFF\0\0\0\0WEBP",
        b"\0\0\0\x18ftypheic",
        b"\0\0\0\x18ftypavif",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"%PDF-1.7\n",
    ],
)
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(rest=st.binary(max_size=200))
def test_no_bytes_give_anything_but_our_errors(desk: Desk, start: bytes, rest: bytes) -> None:
    message = refusal(lambda: desk.read(start + rest))
    assert not message or "scan" in message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "AVIF", "PDF"])
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_flipped_byte_gives_a_page_or_our_error(desk: Desk, kind: str, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    quarters().save(buffer, kind)
    spoilt = bytearray(buffer.getvalue())
    spoilt[data.draw(st.integers(0, len(spoilt) - 1))] ^= data.draw(st.integers(1, 255))
    message = refusal(lambda: desk.read(bytes(spoilt)))
    assert not message or "scan" in message


def test_warnings_of_the_decoder_reach_nobody(desk: Desk) -> None:
    path = desk.file(quarters(), "TIFF", tiffinfo={270: "x" * 50})
    data = bytearray(Path(path).read_bytes())
    index = data.find(b"x" * 50)
    assert index > 0
    Path(path).write_bytes(bytes(data[:index] + data[index + 49 :]))  # pytest turns a warning into a failure
    assert "xxx" not in refusal(lambda: (desk.inspect(path), desk.render(path)))


@pytest.mark.parametrize("content", [quarters(), make_pdf(LETTER)])
def test_a_cancelled_page_is_given_up_and_the_next_one_is_read(
    desk: Desk, content: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = desk.file(content)
    for patience in range(2):
        with pytest.raises(Cancelled):
            desk.render(path, call=Line(patience))
    assert desk.render(path)


def test_a_large_page_is_written_in_strips(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "STRIP_PIXELS", 64 * 5)  # 48 rows: nine strips of five and one of three
    image = quarters()
    assert desk.read(image).tobytes() == image.tobytes()
    assert corners(desk.read(ink((0, 0, 0, 255)))) is not None
    with pytest.raises(Cancelled):
        desk.render(desk.file(image), call=Line(5))


@pytest.mark.skipif(os.name != "posix", reason="POSIX only")
def test_a_page_is_for_this_user_only_and_a_full_disk_is_named(desk: Desk) -> None:
    path = desk.file(quarters())
    desk.render(path)
    assert stat.S_IMODE(os.stat(desk.folder / "out").st_mode) == 0o600
    if os.path.exists("/dev/full"):
        with pytest.raises(OcrError, match="No space") as caught:
            desk.renderer.render({"path": path, "name": "scan"}, 1, 72, MAX_PIXELS, "/dev/full", Line())
        assert "TMPDIR" in caught.value.remedy


@pytest.mark.parametrize("page", [0, 2, -1])
def test_a_page_that_is_not_there_is_refused(desk: Desk, page: int) -> None:
    for content in (quarters(), make_pdf(LETTER)):
        with pytest.raises(BadRequest, match="it has 1"):
            desk.render(desk.file(content), page)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits address space")
def test_a_process_that_swells_is_stopped_by_its_memory_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    quarters().save(path)
    code = f"""
from deepseek_ocr_mcp.decoder.formats import decoder_errors
from deepseek_ocr_mcp.decoder.renderer import PageRenderer
from deepseek_ocr_mcp.errors import InputTooLarge
class Call:
    def progress(self, done, message=""): pass
    def raise_if_cancelled(self): pass
r = PageRenderer()
file = dict(path={str(path)!r}, name="a.png")
r.inspect(file, max_pixels=1_000_000, max_pages=1, call=Call())
r.render(file, page=1, dpi=72, max_pixels=1_000_000, out={str(tmp_path / "out")!r}, call=Call())
try:
    with decoder_errors("a.png"):
        bytearray(4 << 30)
except InputTooLarge:
    print("stopped")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "stopped\n", done.stderr


def test_importing_the_renderer_imports_no_decoder_of_pdf() -> None:
    code = (
        "import sys, deepseek_ocr_mcp.decoder.renderer\n"
        "print([m for m in ('pypdfium2', 'docx', 'pydantic', 'numpy', 'anyio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


# -- boxes


BLOCKS: list[dict[str, Any]] = [
    {"label": "title", "text": "A", "box": [10, 10, 300, 60], "score": 0.9},
    {"label": "line", "text": "B", "box": [10, 100, 300, 160], "score": None},
    {"label": "表", "text": "C", "box": [320, 100, 600, 400]},
    {"label": "x" * 500, "text": "", "box": [0, 0, 5000, 5000]},
    {"label": "\ud800\n\0", "text": "", "box": [-50, -50, 20, 20]},
    {"label": None, "text": "", "box": [700, 700, 650, 650]},
    {"label": "none", "text": "", "box": [5, 5, 5, 90]},
    {"label": "none", "text": "", "box": [float("nan"), 5, 5, 90]},
    {"label": "none", "text": "", "box": []},
    {"text": ""},
]


def annotate(desk: Desk, image: Image.Image, blocks: list[dict[str, Any]]) -> tuple[dict[str, Any], Image.Image]:
    raw, out = desk.folder / "raw", desk.folder / "drawn"
    raw.write_bytes(image.tobytes())
    answer = desk.renderer.annotate(
        image={"path": str(raw), "width": image.width, "height": image.height},
        blocks=blocks,
        out=str(out),
        call=Line(),
    )
    assert answer["bytes"] == out.stat().st_size <= encode.PREVIEW_BYTES
    drawn = Image.open(io.BytesIO(out.read_bytes()))
    assert drawn.get_format_mimetype() == answer["mime"]
    return answer, drawn


def test_boxes_are_drawn_where_they_are(desk: Desk) -> None:
    answer, drawn = annotate(desk, Image.new("RGB", (800, 600), WHITE), BLOCKS[:3])
    assert answer["mime"] == "image/png"
    assert drawn.size == (800, 600)
    for x, y in ((150, 60), (10, 30), (300, 130), (600, 250)):
        assert drawn.convert("RGB").getpixel((x, y)) != WHITE
    assert drawn.convert("RGB").getpixel((700, 500)) == WHITE


def test_a_large_page_is_shown_small_with_its_boxes_in_place(desk: Desk) -> None:
    _, drawn = annotate(desk, Image.new("RGB", (4000, 2000), WHITE), [{"label": "a", "box": [2000, 1000, 3000, 1500]}])
    assert drawn.size == (1600, 800)
    assert drawn.convert("RGB").getpixel((1000, 600)) != WHITE  # its lower edge
    assert drawn.convert("RGB").getpixel((1000, 500)) == WHITE


def test_a_photograph_becomes_a_jpeg_within_the_limit(desk: Desk) -> None:
    random.seed(1)
    noise = Image.frombytes("RGB", (1600, 1600), random.randbytes(1600 * 1600 * 3))
    answer, _ = annotate(desk, noise, BLOCKS[:1])
    assert answer["mime"] == "image/jpeg"


def test_no_box_and_no_label_fails(desk: Desk) -> None:
    annotate(desk, Image.new("RGB", (800, 600), WHITE), BLOCKS)
    annotate(desk, Image.new("RGB", (4, 4), WHITE), BLOCKS)
    annotate(desk, Image.new("RGB", (4000, 4), WHITE), BLOCKS)


@hypothesis_settings(max_examples=30, deadline=None)
@given(
    blocks=st.lists(
        st.fixed_dictionaries(
            {
                "label": st.text(max_size=40),
                "box": st.lists(st.integers(-(10**30), 10**30) | st.floats(), min_size=4, max_size=4),
            }
        ),
        max_size=5,
    )
)
def test_whatever_a_model_writes_can_be_drawn(blocks: list[dict[str, Any]]) -> None:
    page = Image.new("RGB", (120, 80), WHITE)
    assert draw_boxes(page, blocks).size == (120, 80)
    assert page.getcolors() == [(120 * 80, WHITE)], "the page itself is left alone"


def test_each_label_has_its_own_colour() -> None:
    labels = ["title", "line", "title", "表", "table"]
    blocks = [{"label": label, "box": [10, 10 + 40 * i, 190, 40 + 40 * i]} for i, label in enumerate(labels)]
    page = draw_boxes(Image.new("RGB", (200, 220), WHITE), blocks)
    colours = [page.getpixel((190, 25 + 40 * i)) for i in range(len(labels))]
    assert colours[0] == colours[2]
    assert len(set(colours)) == 4

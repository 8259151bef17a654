"""Decodes pictures into upright 8-bit RGB rows, strip by strip."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final, Literal

import pillow_heif
from PIL import Image, ImageChops, ImageFilter, TiffImagePlugin
from PIL import Image as PilImage

from ..engines.base import Call
from ..errors import UnreadableInput
from .aperture import clean_aperture
from .formats import MIN_SIDE, check_page, check_size, too_many_pages, write_file

__all__ = ["PictureDocument"]

STRIP_PIXELS: Final = 500_000  # converted and written at once, so that a huge page is never held twice
SAMPLE_PIXELS: Final = 4_000_000  # that are looked at to see what a transparent picture stands out from
TIFF_SUBFILE_TYPE: Final = 254
TIFF_BITS: Final = 258
TIFF_PHOTOMETRIC: Final = 262
TIFF_PLANES: Final = 284
TIFF_SEPARATE: Final = 2
TIFF_COLOUR_MAP: Final = 320
TIFF_SAMPLE_FORMAT: Final = 339
TIFF_SIGNED: Final = 2
TIFF_NOT_A_PAGE: Final = 0b101  # a reduced copy of another image, or its mask
EXIF_ORIENTATION: Final = 274

_TRANSPOSED: Final = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}

_PLUGINS: Final = {
    "TIFF": "Tiff",
    "WEBP": "WebP",
    "JPEG2000": "Jpeg2K",
    "AVIF": "Avif",
    "ICO": "Ico",
    "PCX": "Pcx",
    "TGA": "Tga",
}
"""Formats of Pillow that `Image.open` would search for among all plugins, one import after the other."""

# Pillow's own reader of uncompressed files takes each byte of a 16-bit plane for a pixel and loses a plane of alpha.
TiffImagePlugin.READ_LIBTIFF = True


class PictureDocument:
    """A picture, or a TIFF with several. Of an animation, the first frame."""

    def __init__(self, path: str, name: str, kind: str) -> None:
        self._name = name
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
        self._frames: list[int] | None = None
        try:
            self.format = kind
            self._image = _open_image(self._file, kind)
        except BaseException:
            self._file.close()
            raise

    @property
    def only_page(self) -> bool:
        return self.format != "TIFF"

    def count(self, max_pages: int) -> int:
        if self.format != "TIFF":
            return 1
        self._frames = _tiff_pages(self._file, max_pages)
        if len(self._frames) > max_pages:
            raise too_many_pages(self._name, max_pages)
        return len(self._frames)

    def check(self, max_pixels: int) -> None:
        check_size(self._name, *self._image.size, max_pixels)

    def notes(self) -> list[str]:
        """Pictures hold nothing beside what they show."""
        return []

    def draw(self, page: int, dpi: float, max_pixels: int, out: str, call: Call) -> tuple[int, int]:
        if self.format == "TIFF":
            if self._frames is None or len(self._frames) < page:
                self._frames = _tiff_pages(self._file, 2 * page)
            check_page(self._name, page, len(self._frames))
            self._image.seek(self._frames[page - 1])
        else:
            check_page(self._name, page, 1)
        name = f"Page {page} of {self._name}" if page > 1 else self._name
        check_size(name, *self._image.size, max_pixels)
        self._image.load()
        check_size(name, *self._image.size, max_pixels)  # HEIF tells its real size only now
        call.raise_if_cancelled()
        visible = _as_meant(self._image, self._file, self.format, name)
        convert = _converter(visible)
        image = _upright(visible)
        width, height = image.size
        rows = max(1, STRIP_PIXELS // width)
        if rows >= height:
            write_file(out, [convert(image).tobytes()])
        else:
            write_file(out, _strips(image, rows, convert, call))
        return width, height

    def layer(
        self, page: int, dpi: float, max_pixels: int, call: Call, read: Sequence[Mapping[str, Any]] | None = None
    ) -> dict[str, Any]:
        return {
            "width": 0,
            "height": 0,
            "reading": None,
            "usable": False,
            "why": "a picture has none",
        }

    def close(self) -> None:
        self._image.close()
        self._file.close()


def _open_image(file: BinaryIO, kind: str) -> PilImage.Image:
    Image.MAX_IMAGE_PIXELS = None  # our own check names the setting and follows it
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
    elif kind in _PLUGINS:
        importlib.import_module(f"PIL.{_PLUGINS[kind]}ImagePlugin")
    return Image.open(file, formats=["PPM" if kind == "PNM" else kind])


def _as_meant(image: PilImage.Image, file: BinaryIO, kind: str, name: str) -> PilImage.Image:
    """A loaded picture with the facts that Pillow leaves out of a TIFF or an AVIF.

    Raises:
        UnreadableInput: Pillow loses a plane of transparency, which would make a black page.
    """
    if kind == "AVIF":
        aperture = clean_aperture(file, image.size)
        return image if aperture is None else image.crop(aperture)
    if kind != "TIFF":
        return image
    tags = getattr(image, "tag_v2", {})
    if image.mode in ("LA", "PA") and tags.get(TIFF_PLANES) == TIFF_SEPARATE:
        raise UnreadableInput(
            f"{name} is a TIFF with its transparency in a plane of its own, which is not read.",
            remedy="Save it as PNG, for instance: `convert IN OUT.png`.",
        )
    colours = tags.get(TIFF_COLOUR_MAP, ())
    if image.mode == "P" and colours and max(colours) < 256:  # of 8 bits, as old writers made it; libtiff knows them
        channels = [colours[start : start + len(colours) // 3] for start in range(0, len(colours), len(colours) // 3)]
        image.putpalette(bytes(value for colour in zip(*channels, strict=False) for value in colour))
    if TIFF_SIGNED in tags.get(TIFF_SAMPLE_FORMAT, ()) and set(tags.get(TIFF_BITS, ())) == {8}:
        return image.point([value ^ 0x80 for value in range(256)] * len(image.getbands()))
    return image


def _strips(
    image: PilImage.Image, rows: int, convert: Callable[[PilImage.Image], PilImage.Image], call: Call
) -> Iterator[bytes]:
    width, height = image.size
    for top in range(0, height, rows):
        call.raise_if_cancelled()
        call.progress(top / height)
        yield convert(image.crop((0, top, width, min(top + rows, height)))).tobytes()


def _upright(image: PilImage.Image) -> PilImage.Image:
    """Turned as its EXIF or XMP says. TIFF and HEIF pages were turned when they were loaded."""
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # damaged metadata raises anything at all; the picture itself is fine
        return image
    method = _TRANSPOSED.get(orientation)
    if method is None:
        return image
    return image.transpose(Image.Transpose[method])


def _converter(image: PilImage.Image) -> Callable[[PilImage.Image], PilImage.Image]:
    """What makes a piece of this picture 8-bit RGB, by a scale and a ground that suit the whole of it."""
    if image.mode.startswith("I") or image.mode == "F":
        scale, offset = _levels(image)

        def eight_bits(piece: PilImage.Image) -> PilImage.Image:
            piece = piece.convert("I") if piece.mode.startswith("I;") else piece
            return piece.point(lambda value: value * scale + offset).convert("L").convert("RGB")

        return eight_bits
    if image.has_transparency_data:
        ground = _ground(image.convert("RGBA"))
        if ground is not None:
            return lambda piece: _flat(piece.convert("RGBA"), ground)
        return lambda piece: piece.convert("RGBA").convert("RGB")
    if image.mode == "RGB":
        return lambda piece: piece
    return lambda piece: piece.convert("RGB")


def _levels(image: PilImage.Image) -> tuple[float, float]:
    """Factor and offset that bring deep grey values to 0 … 255 and keep their contrast.

    White is the largest value of the fewest bits that hold all values: scanners store 10 and 12 bits in 16.
    """
    low, high = (image.convert("I") if image.mode.startswith("I;") else image).getextrema()
    if not (isinstance(low, (int, float)) and isinstance(high, (int, float))):
        raise ValueError("more than one band")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("not a number")
    black = 0.0
    whites = (255, 1023, 4095, 16383, 65535) if image.mode != "F" else (1, 255, 65535)
    white = next((float(level) for level in whites if high <= level), float(high))
    if low < 0 or high > whites[-1]:
        black, white = float(low), max(float(high), low + 1.0)
    scale = 255 / (white - black)
    tags = getattr(image, "tag_v2", {})
    if tags.get(TIFF_PHOTOMETRIC) == 0:  # zero is white; Pillow turns that round for 8 bits only
        return -scale, white * scale + 0.5
    return scale, 0.5 - black * scale


def _ground(image: PilImage.Image) -> int | None:
    """The grey on which the visible pixels of an RGBA picture stand out; None: its alpha says nothing.

    What counts are pixels next to transparent ones: black text beside a large pale logo is still
    black text. Where both black and white would vanish, middle grey shows both.
    """
    alpha = image.getchannel("A")
    low, high = alpha.getextrema()
    if low == 255 or high == 0:  # opaque; or invisible, which no one who sends a page means
        return None
    light = image.convert("L")
    if image.width * image.height > SAMPLE_PIXELS:
        factor = math.sqrt(SAMPLE_PIXELS / (image.width * image.height))
        small = (max(MIN_SIDE, int(image.width * factor)), max(MIN_SIDE, int(image.height * factor)))
        alpha, light = alpha.resize(small, resample=0), light.resize(small, resample=0)
    visible = alpha.point([0] * 128 + [255] * 128)
    edge = ImageChops.subtract(visible, visible.filter(ImageFilter.MinFilter(3)))
    counts = light.histogram(edge)
    if not any(counts):  # nothing but faint pixels
        counts = light.histogram(alpha)
    total = max(1, sum(counts))
    dark, pale = sum(counts[:64]) / total, sum(counts[192:]) / total
    if min(dark, pale) > 0.1:
        return 128
    mean = sum(value * count for value, count in enumerate(counts)) / total
    return 255 if mean < 128 else 0


def _flat(image: PilImage.Image, ground: int) -> PilImage.Image:
    page = Image.new("RGB", image.size, (ground, ground, ground))
    page.paste(image, mask=image)
    return page


def _tiff_pages(file: BinaryIO, enough: int) -> list[int]:
    """Which images of a TIFF are pages, up to `enough` and one more. Their directories are read, no pixels.

    Pillow's own count follows millions of them; reduced copies and masks are not pages.
    """
    head = _read_at(file, 0, 16)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"

    def number(data: bytes) -> int:
        return int.from_bytes(data, order)

    big = number(head[2:4]) == 43
    count_bytes, entry_bytes, offset_bytes = (8, 20, 8) if big else (2, 12, 4)
    offset = number(head[8:16] if big else head[4:8])
    seen: set[int] = set()
    pages: list[int] = []
    copies: list[int] = []
    while offset and offset not in seen and len(pages) <= enough and len(seen) < 4 * enough + 16:
        seen.add(offset)
        count = number(_read_at(file, offset, count_bytes))
        entries = _read_at(file, offset + count_bytes, min(count, 0xFFFF) * entry_bytes)
        if not entries:
            break
        kind = 0
        for start in range(0, len(entries), entry_bytes):
            tag = number(entries[start : start + 2])
            if tag >= TIFF_SUBFILE_TYPE:  # they are sorted
                if tag == TIFF_SUBFILE_TYPE:
                    kind = number(entries[start + entry_bytes - offset_bytes : start + entry_bytes][:4])
                break
        (copies if kind & TIFF_NOT_A_PAGE else pages).append(len(seen) - 1)
        offset = number(_read_at(file, offset + count_bytes + count * entry_bytes, offset_bytes))
    return pages or copies[:1] or [0]


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    if offset >= 1 << 63:
        return b""
    file.seek(offset)
    return file.read(size)

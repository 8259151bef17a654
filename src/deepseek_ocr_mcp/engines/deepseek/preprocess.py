"""Cuts a page into the views that DeepSeek-OCR looks at, bit for bit as the models were trained.

v1: `infer()` and `dynamic_preprocess()` of the original remote code (github.com/deepseek-ai/DeepSeek-OCR,
modeling_deepseekocr.py); equal to its recorded output. v2: the native `DeepseekOcr2ImageProcessorPil` of
transformers. Both with Pillow and numpy alone: no torchvision. Pages arrive upright and in RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

__all__ = ["Kind", "Pixels", "Views", "closest_grid", "cut_views", "level_table", "read_page"]

Kind = Literal["v1", "v2", "unlimited"]
"""DeepSeek-OCR, DeepSeek-OCR-2, or Unlimited-OCR, which cuts a page as the first does, in more tiles."""

PIXELS_PER_TOKEN: Final = 64  # a side: SAM's patch of 16, then two convolutions that halve
GREY: Final = (127, 127, 127)  # pads a view to a square: `int(0.5 * 255)`

V1_SIDES: Final = {"tiny": 512, "small": 640, "base": 1024, "large": 1280, "gundam": 1024, "auto": 1024}
V1_SQUASHED: Final = 640  # pixels; up to this side the original squeezes the page into the square
V1_TILE: Final = 640  # pixels
V1_TILES: Final = (2, 9)  # fewest and most
UNLIMITED_TILES: Final = (2, 32)  # of transformers' image processor for Unlimited-OCR

V2_SIDES: Final = {"tiny": 768, "small": 768, "base": 1024, "large": 1024, "gundam": 1024, "auto": 1024}
"""v2 has queries for 768 and 1024 pixels only."""
V2_TILE: Final = 768  # pixels
V2_TILES: Final = (2, 6)

CROPPED: Final = frozenset({"gundam", "auto"})


@dataclass(frozen=True, slots=True)
class Views:
    """The pictures of one page that the model looks at, as 8-bit RGB."""

    whole: Pixels
    """The page in one square, `(side, side, 3)`."""
    tiles: Pixels | None
    """The page cut up, row by row, `(count, tile, tile, 3)`; None for a small page or without cropping."""
    grid: tuple[int, int]
    """Columns and rows of the tiles; `(1, 1)` where there are none."""
    placeholders: int
    """Image tokens in the prompt: one for each vector that the vision towers give."""


def read_page(path: str, width: int, height: int) -> Image.Image:
    """A page on disk, in RGB; path, width and height are those of an `engines.base.PageImage`.

    Args:
        path: the file of raw RGB.
        width: pixels.
        height: pixels.
    """

    with open(path, "rb") as file:
        return Image.frombytes("RGB", (width, height), file.read())


def cut_views(image: Image.Image, kind: Kind, resolution: str) -> Views:
    """The views of a page.

    Args:
        image: in RGB.
        kind: of the model.
        resolution: one of `modes.RESOLUTIONS`.
    """
    if kind == "v2":
        return _cut_v2(image, resolution)
    return _cut_v1(image, resolution, V1_TILES if kind == "v1" else UNLIMITED_TILES)


@lru_cache(maxsize=3)
def level_table(kind: Kind) -> Floats:
    """The 256 levels of a colour as the model takes them, from -1 to 1, by the original's own arithmetic."""
    levels = np.arange(256)
    half = np.float32(0.5)
    if kind != "v2":  # torchvision: ToTensor, Normalize
        scaled = levels.astype(np.float32) / np.float32(255)
    else:  # transformers.image_transforms: rescale in double precision, then normalize
        scaled = (levels.astype(np.float64) * (1 / 255)).astype(np.float32)
    table: Floats = (scaled - half) / half
    return table


def _cut_v1(image: Image.Image, resolution: str, most_tiles: tuple[int, int]) -> Views:
    side = V1_SIDES[resolution]
    tiles, grid = None, (1, 1)
    if resolution in CROPPED:
        if max(image.size) > V1_TILE:
            grid = closest_grid(image.width, image.height, V1_TILE, *most_tiles)
            tiles = _tiles(image, V1_TILE, grid)
    elif side <= V1_SQUASHED:
        image = image.resize((side, side))  # bicubic is Pillow's default, here and in ImageOps.pad
    whole = np.asarray(ImageOps.pad(image, (side, side), color=GREY))
    across = side // PIXELS_PER_TOKEN
    count = across * (across + 1) + 1  # each row ends with a newline vector, the view with a separator
    if tiles is not None:
        across = V1_TILE // PIXELS_PER_TOKEN
        count += across * grid[1] * (across * grid[0] + 1)
    return Views(whole, tiles, grid, count)


def _cut_v2(image: Image.Image, resolution: str) -> Views:
    side = V2_SIDES[resolution]
    tiles, grid = None, (1, 1)
    if resolution in CROPPED and max(image.size) > V2_TILE:
        grid = closest_grid(image.width, image.height, V2_TILE, *V2_TILES)
        tiles = _tiles(image, V2_TILE, grid)
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    square = Image.new("RGB", (side, side), GREY)
    square.paste(
        image.resize((width, height), resample=Image.Resampling.BICUBIC), ((side - width) // 2, (side - height) // 2)
    )
    count = (side // PIXELS_PER_TOKEN) ** 2 + 1
    if tiles is not None:
        count += len(tiles) * (V2_TILE // PIXELS_PER_TOKEN) ** 2
    return Views(np.asarray(square), tiles, grid, count)


def _tiles(image: Image.Image, tile: int, grid: tuple[int, int]) -> Pixels:
    columns, rows = grid
    stretched = np.asarray(image.resize((tile * columns, tile * rows), resample=Image.Resampling.BICUBIC))
    cut = stretched.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2)
    return np.ascontiguousarray(cut).reshape(rows * columns, tile, tile, 3)


def closest_grid(width: int, height: int, tile: int, fewest: int, most: int) -> tuple[int, int]:
    """Columns and rows whose shape is nearest to the page's (`find_closest_aspect_ratio` of the original).

    Of two that are equally near, the one with more tiles wins while the page fills half of them.

    Args:
        width: of the page, in pixels.
        height: of the page, in pixels.
        tile: side of a tile, in pixels.
        fewest: tiles that a grid may have.
        most: tiles that a grid may have.
    """
    best, nearest = (1, 1), float("inf")
    for columns, rows in _grids(fewest, most):
        distance = abs(width / height - columns / rows)
        if distance < nearest:
            best, nearest = (columns, rows), distance
        elif distance == nearest and width * height > 0.5 * tile * tile * columns * rows:
            best = (columns, rows)
    return best


@lru_cache(maxsize=3)
def _grids(fewest: int, most: int) -> tuple[tuple[int, int], ...]:
    """By number of tiles. Among equals the original's order is that of a set of pairs, which we keep."""
    found = {
        (columns, rows)
        for count in range(fewest, most + 1)
        for columns in range(1, count + 1)
        for rows in range(1, count + 1)
        if fewest <= columns * rows <= most
    }
    return tuple(sorted(found, key=lambda grid: grid[0] * grid[1]))

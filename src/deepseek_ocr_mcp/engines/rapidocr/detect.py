"""Finds the regions of text on a page with the PP-OCR detection model.

A page is looked at whole, at a scale at which its type is large enough to be told apart, in tiles that bound the
memory.
"""

from __future__ import annotations

import math
import mmap
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..sheet import LONG, MIN_SIDE, Pixels, Region
from .recognise import as_input
from .run import ModelRun

__all__ = ["detect", "drop_from_memory", "find_regions", "join_words", "resize", "skew", "tiles"]

# The scale of a page. Tuned on 22 of the shared corpus' files, for F1 and seconds; too small loses small print.
DET_LONG_SIDE: Final = 1600  # pixels; larger costs by its square and finds no more (1600 = 2000 = 3500)
DET_SHORT_SIDE: Final = 544  # pixels; a smaller side is enlarged to this (736 and 480 find as much)
DET_PIXELS: Final = 1600 * 1131  # a page of DIN A4: as much is looked at of a page that is long and narrow
ENLARGED_FROM: Final = 1.25  # times; to enlarge by less costs half as much again and finds nothing more
SMALL_TEXT: Final = 14.0  # pixels at detection scale; below it, lines blur into each other
GOOD_TEXT: Final = 24.0  # pixels; the scale of the second look at a page of small text
SECOND_PIXELS: Final = 16_000_000  # of the second look at a page on which the first found nothing: half a minute

# Tiles. A tile's size bounds the memory; the places of the cuts were tuned on generated pages.
HUGE_PAGE: Final = 64 << 20  # bytes; above it a page is never held in memory as a whole
BAND: Final = 64  # rows of a reduced page that are made at a time
DET_MULTIPLE: Final = 32  # the model halves its input five times
TILE_PIXELS: Final = 1600 * 512  # that the detector sees at once: its memory grows with their number
DET_MARGIN: Final = 24  # pixels kept around the part of the page that is not flat
FLAT_CONTRAST: Final = 16  # of 255; a part of the page without steeper edges holds no text
CALM_ROWS: Final = 5  # pixels without an edge: white between lines, where a page can be cut
CALM_COLUMNS: Final = 15  # the same between columns: wider than the white between words
CUT_WITHIN: Final = 0.25  # of a side: how far from where it is due a cut may be
DET_OVERLAP: Final = 96  # pixels that tiles share where no cut is calm, more than a line is high
UNCUT_WIDTH: Final = 1600  # pixels; only what is wider is cut through its lines

# Regions. The thresholds are those of rapidocr's config.yaml (section Det).
MASK_THRESHOLD: Final = 0.3
REGION_THRESHOLD: Final = 0.5
UNCLIP_RATIO: Final = 1.6
INSIDE: Final = 5.0  # times: a region that holds another one and is no thicker than this is its line
SAME_ROW: Final = 0.3  # of a region's height: how far the middles of two words of a line may be from each other
LIKE_HEIGHT: Final = 1.7  # times: how much higher a word of the same line may be
JOIN_GAP: Final = 0.0  # of the height: white between two words of a line, beyond the margins around them
JOIN_DEG: Final = 2.0  # of tilt: how much two words of a line may differ


def detect(run: ModelRun, detector: Any, pixels: Pixels, quarters: int = 0) -> list[Region]:
    """The regions of text after `np.rot90(pixels, quarters)`, in pixels of that page.

    A second look follows the size of the type that the first one found; where that found nothing, the page may be
    larger than it seemed.

    Args:
        detector: the session of the detection model.

    Raises:
        Cancelled: nobody waits for this page any more.
    """
    height, width = pixels.shape[:2]
    scale = _first_scale(width, height)
    regions = _detect_at(run, detector, pixels, quarters, scale)
    if scale >= 1:
        return regions
    if not regions:
        better = min(1.0, math.sqrt(SECOND_PIXELS / (width * height)))
    elif (size := statistics.median_high(region.thickness * scale for region in regions)) < SMALL_TEXT:
        better = min(1.0, scale * GOOD_TEXT / size)
    else:
        return regions
    return _detect_at(run, detector, pixels, quarters, better) if better > scale else regions


def _first_scale(width: int, height: int) -> float:
    """The scale of the first look at a page of that size, in pixels."""
    longest, shortest = max(width, height), min(width, height)
    scale = min(1.0, DET_LONG_SIDE / longest)
    if shortest * scale * ENLARGED_FROM < DET_SHORT_SIDE:
        most = max(DET_LONG_SIDE / longest, min(1.0, math.sqrt(DET_PIXELS / (width * height))))
        scale = min(DET_SHORT_SIDE / shortest, most)
    return scale


def _detect_at(run: ModelRun, detector: Any, pixels: Pixels, quarters: int, scale: float) -> list[Region]:
    small = np.ascontiguousarray(np.rot90(resize(pixels, scale), quarters))
    height, width = np.rot90(pixels, quarters).shape[:2]
    likely = np.zeros(small.shape[:2], np.uint8)  # 255 times the probability of text
    for left, top, right, bottom in tiles(small):
        tile = small[top:bottom, left:right]
        below, beside = -tile.shape[0] % DET_MULTIPLE, -tile.shape[1] % DET_MULTIPLE
        padded = cv2.copyMakeBorder(tile, 0, below, 0, beside, cv2.BORDER_REPLICATE)
        [output] = run.all(lambda tensor: run.model(detector, tensor), [as_input(padded, padded.shape[1])])
        found = (output[0, 0, : tile.shape[0], : tile.shape[1]] * 255).astype(np.uint8)
        part = likely[top:bottom, left:right]
        np.maximum(part, found, out=part)
    return join_words(find_regions(likely, width / small.shape[1], height / small.shape[0]))


def resize(pixels: Pixels, scale: float) -> Pixels:
    """The page, each side `scale` times as long.

    A huge page is first reduced by a whole number, band by band, and the bands already done are
    dropped from memory: the file holds them still.
    """
    height, width = pixels.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    step = int(1 / scale)
    if step > 1 and pixels.nbytes > HUGE_PAGE:
        reduced = np.empty((height // step, width // step, 3), np.uint8)
        for top in range(0, len(reduced), BAND):
            part = reduced[top : top + BAND]
            band = pixels[top * step : (top + len(part)) * step, : part.shape[1] * step]
            cv2.resize(band, part.shape[1::-1], dst=part, interpolation=cv2.INTER_AREA)
            drop_from_memory(pixels)
        pixels = reduced
    resized: Pixels = cv2.resize(pixels, size, interpolation=way)
    return resized


def drop_from_memory(pixels: Pixels) -> None:
    """Drop what was read of a mapped file; touching it again reads it again."""
    if isinstance(mapped := getattr(pixels, "_mmap", None), mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def tiles(pixels: Pixels) -> Iterator[tuple[int, int, int, int]]:
    """`(left, top, right, bottom)` of tiles that cover every part of a page that is not flat.

    A part that is too large for the detector is cut in two, and its parts again: between lines, else between
    columns, else with an overlap that holds a line. What both parts share is this overlap, or the white between them.
    """
    red, green, blue = cv2.split(cv2.morphologyEx(pixels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))
    edges = cv2.max(cv2.max(red, green), blue)
    parts = [(0, 0, pixels.shape[1], pixels.shape[0])]
    while parts:
        left, top, right, bottom = parts.pop()
        columns, rows = (
            cv2.reduce(edges[top:bottom, left:right], axis, cv2.REDUCE_MAX).ravel() >= FLAT_CONTRAST for axis in (0, 1)
        )
        if not rows.any():
            continue
        (x1, x2), (y1, y2) = _extent(columns), _extent(rows)
        columns, rows = columns[x1:x2], rows[y1:y2]
        left, top, right, bottom = left + x1, top + y1, left + x2, top + y2
        if (right - left) * (bottom - top) <= TILE_PIXELS:
            yield left, top, right, bottom
            continue
        below, (begin, end) = _cut(rows, columns)
        if below:
            parts += [(left, top + begin, right, bottom), (left, top, right, top + end)]
        else:
            parts += [(left + begin, top, right, bottom), (left, top, left + end, bottom)]


def _extent(busy: NDArray[np.bool_]) -> tuple[int, int]:
    """The first and the last place (plus one) that is busy, and a margin where there is room for one."""
    places = np.flatnonzero(busy)
    return max(0, int(places[0]) - DET_MARGIN), min(len(busy), int(places[-1]) + 1 + DET_MARGIN)


def _cut(rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> tuple[bool, tuple[int, int]]:
    """How to cut a part: whether below a row (else beside a column), and begin and end of what both its parts share."""
    width, height = len(columns), len(rows)
    tiles = math.ceil(width * height / TILE_PIXELS)
    due = (tiles // 2) / tiles
    if band := _calm_band(rows, due, CALM_ROWS):
        return True, band
    if band := _calm_band(columns, due, CALM_COLUMNS):
        return False, band
    if width <= UNCUT_WIDTH:
        return True, _overlap(height, TILE_PIXELS // width)
    return False, _overlap(width, UNCUT_WIDTH)


def _overlap(length: int, longest: int) -> tuple[int, int]:
    """Begin and end of what the first two of equal steps over this length share, none of them longer than `longest`."""
    count = math.ceil((length - DET_OVERLAP) / (longest - DET_OVERLAP))
    step = math.ceil((length + (count - 1) * DET_OVERLAP) / count)
    return step - DET_OVERLAP, step


def _calm_band(busy: NDArray[np.bool_], due: float, least: int) -> tuple[int, int] | None:
    """Begin and end of the band without edges, at least so long, nearest to this share of all; None if none is near."""
    bands = np.flatnonzero(np.diff(busy, prepend=True, append=True)).reshape(-1, 2)
    bands = bands[bands[:, 1] - bands[:, 0] >= least]
    off = np.abs(bands.mean(axis=1) / len(busy) - due)
    if not len(off) or off.min() > CUT_WITHIN:
        return None
    begin, end = bands[off.argmin()]
    return int(begin), int(end)


def find_regions(likely: NDArray[np.uint8], scale_x: float, scale_y: float) -> list[Region]:
    """The regions in a map of 255 times the probability of text, scaled to page pixels.

    The method and its constants are rapidocr's (DBPostProcess), but for one thing: how likely a region is tells the
    mean inside its contour, not inside the rectangle around it. A raised figure makes that rectangle half white, and
    its line would be lost. The offset of a rectangle's outline is a larger rectangle: no polygon library is needed.

    Args:
        likely: the map, rows by columns.
        scale_x: pixels of the page for each column.
        scale_y: pixels of the page for each row.
    """
    mask = cv2.dilate((likely > 255 * MASK_THRESHOLD).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    regions = []
    for contour in contours:
        (x, y), (w, h), angle = cv2.minAreaRect(contour)
        if min(w, h) < MIN_SIDE or _likelihood(likely, contour) < 255 * REGION_THRESHOLD:
            continue
        grown = w * h * UNCLIP_RATIO / (w + h)  # both sides: twice area * ratio / perimeter
        w, h = w + grown, h + grown
        if min(w, h) < MIN_SIDE + 2:
            continue
        while angle > 45:
            angle, w, h = angle - 90, h, w
        while angle <= -45:
            angle, w, h = angle + 90, h, w
        regions.append(Region(x * scale_x, y * scale_y, w * scale_x, h * scale_y, angle))
    return _outermost(regions)


def _likelihood(likely: NDArray[np.uint8], contour: NDArray[np.int32]) -> float:
    """The mean of the map inside a contour."""
    left, top, width, height = cv2.boundingRect(contour)
    inside = np.zeros((height, width), np.uint8)
    cv2.drawContours(inside, [contour], -1, 1, cv2.FILLED, offset=(-left, -top))
    return float(cv2.mean(likely[top : top + height, left : left + width], inside)[0])


def _outermost(regions: list[Region]) -> list[Region]:
    """The regions without those whose ink lies in another one: a raised figure is part of the line beside it."""
    places = np.array([(r.x, r.y, r.width / 2, r.height / 2, r.thickness) for r in regions]).reshape(-1, 5)
    kept = []
    for region in regions:
        holds = (np.abs(places[:, 0] - region.x) < places[:, 2]) & (np.abs(places[:, 1] - region.y) < places[:, 3])
        thickness = region.thickness
        if not (holds & (places[:, 4] > 1.5 * thickness) & (places[:, 4] < INSIDE * thickness)).any():
            kept.append(region)
    return kept


def join_words(regions: list[Region]) -> list[Region]:
    """The regions, neighbouring words of a line made one where the margins around them run into each other.

    A word alone is read worse: a small s looks like a large one.
    """
    joined: list[Region] = []
    by_row = sorted(regions, key=lambda region: (region.y, region.x))
    for region in by_row:
        near = [n for n, other in enumerate(joined) if other.y >= region.y - region.height and _touch(other, region)]
        for n in reversed(near):
            region = _union(joined.pop(n), region)
        joined.append(region)
    return joined


def _touch(a: Region, b: Region) -> bool:
    """Whether two regions are words of one line with no more than a space between them."""
    if any(region.tall and region.length >= LONG * region.thickness for region in (a, b)):
        return False
    low, high = sorted((a.height, b.height))
    if high > LIKE_HEIGHT * low or abs(a.angle - b.angle) > JOIN_DEG:
        return False
    tilt = math.radians((a.angle + b.angle) / 2)
    dx, dy = b.x - a.x, b.y - a.y
    along, across = abs(dx * math.cos(tilt) + dy * math.sin(tilt)), abs(dy * math.cos(tilt) - dx * math.sin(tilt))
    return along < (a.width + b.width) / 2 + JOIN_GAP * low and across < SAME_ROW * low


def _union(a: Region, b: Region) -> Region:
    """The region around two words of a line."""
    longer = max(a, b, key=lambda region: region.width)
    tilt = math.radians(longer.angle)
    cos, sin = math.cos(tilt), math.sin(tilt)
    spans = [(r.x * cos + r.y * sin, r.y * cos - r.x * sin, r.width / 2, r.height / 2) for r in (a, b)]
    left, right = min(u - w for u, _, w, _ in spans), max(u + w for u, _, w, _ in spans)
    top, bottom = min(v - h for _, v, _, h in spans), max(v + h for _, v, _, h in spans)
    u, v = (left + right) / 2, (top + bottom) / 2
    return Region(u * cos - v * sin, u * sin + v * cos, right - left, bottom - top, longer.angle)


def skew(regions: Sequence[Region]) -> float:
    """Degrees by which the page is tilted: the middle tilt of its lines, long ones counting more."""
    tilts = sorted((region.angle, region.length) for region in regions if region.length > 4 * region.thickness)
    half = sum(length for _, length in tilts) / 2
    for tilt, length in tilts:
        half -= length
        if half <= 0:
            return tilt
    return 0.0

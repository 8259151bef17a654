"""Reads vertical lines of Chinese and Japanese: their characters are laid side by side.

The model reads a vertical line that lies on its side, and loses small characters and punctuation.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...layout.lines import NO_SPACES
from ..sheet import INK_SHARE, MIN_SIDE, Pixels, Region, crop_region
from .recognise import LineReader, LineReading
from .run import ModelRun

__all__ = ["is_stacked", "read_column", "reads_downwards"]

# Tuned on generated pages of Japanese, and on two vertical pages of the shared corpus; too much slack cuts characters
# in two, too little cuts beside the white between them.
PITCH_SLACK: Final = 0.2  # of the distance between characters: how wrong a first guess may be
PITCH_STEPS: Final = 41  # distances that are tried
CUT_SLACK: Final = 0.15  # of the distance: how far the white between two characters may be from where it is due
WORSE_BY: Final = 0.08  # of score: laid flat, a line may score so much less and still be read better
PROBES: Final = 4  # characters of each line that are looked at alone
CORNER: Final = 0.6  # of a cell's sides: ink that stays within it is a comma or a full stop
ALIKE_ON_ITS_SIDE: Final = frozenset("ー―—–-…‥~〜:：;；|丨「」『』（）()〈〉《》【】〔〕[]{}")
"""Characters that are turned with a vertical line: what lies on its side shows them as they are."""


def reads_downwards(
    run: ModelRun,
    reader: LineReader,
    pixels: Pixels,
    regions: Sequence[Region],
    read: Mapping[int, Future[LineReading]],
) -> bool:
    """Whether the characters of tall lines stand upright: vertical text, not a page on its side.

    Args:
        read: readings of some of the regions, by their numbers, with the page on its side.
    """
    expected, crops = [], []
    for n, future in read.items():
        region, reading = regions[n], future.result()
        for char, centre in list(zip(reading.text, reading.centres, strict=True))[:PROBES]:
            y = region.y + (centre - 0.5) * region.height
            expected.append(char)
            crops.append(crop_region(pixels, replace(region, y=y, height=1.1 * region.width)))
    readings = run.all(lambda crop: reader.read_crop(run, crop), crops)
    hits = sum(char in reading.text for char, reading in zip(expected, readings, strict=True))
    return hits > len(expected) / 2


def read_column(
    run: ModelRun, reader: LineReader, pixels: Pixels, region: Region, sideways: LineReading
) -> LineReading:
    """A vertical line once more, its characters laid side by side; the better reading, or the best of both.

    Args:
        run: runs the model.
        reader: reads lines.
        pixels: the upright page.
        region: the region of the line.
        sideways: the reading of the line as a whole, turned.
    """
    column = crop_region(pixels, region, tall=False)
    ends = _cell_ends(column, sideways.centres)
    if len(ends) < 2:
        return sideways
    laid = reader.read_crop(run, _laid_flat(column, ends))
    if laid.score < sideways.score - WORSE_BY:
        return sideways
    middles = [(a + b) / 2 / len(column) for a, b in pairwise((0, *ends))]
    centres = tuple(middles[min(len(middles) - 1, int(centre * len(middles)))] for centre in laid.centres)
    return _combined(replace(laid, centres=centres), sideways)


def is_stacked(text: str) -> bool:
    """Whether a tall line is likely to be characters set under each other: those of Latin script are turned."""
    return len(text) > 1 and 2 * len(NO_SPACES.findall(text)) >= len(text)


def _combined(laid: LineReading, sideways: LineReading) -> LineReading:
    """The characters laid flat, but those that are turned with the line as they look when it lies on its side."""
    text = ""
    centres: list[float] = []
    for kind, a, b, c, d in SequenceMatcher(None, laid.text, sideways.text, autojunk=False).get_opcodes():
        source, begin, end = laid, a, b
        if kind != "equal" and d > c and ALIKE_ON_ITS_SIDE.issuperset(sideways.text[c:d]):
            source, begin, end = sideways, c, d
        text += source.text[begin:end]
        centres += source.centres[begin:end]
    return replace(laid, text=text, centres=tuple(centres))


def _cell_ends(column: Pixels, centres: Sequence[float]) -> list[int]:
    """Where each character of a vertical line ends, in rows of its picture.

    `centres` are those of the characters that were read with the line on its side: some are missing, and they are
    not exact. The characters of a line are equally far from each other: the distance is the one whose cuts meet
    least ink; then each cut goes to the whitest row nearby.
    """
    ink = np.abs(column.astype(np.int16) - np.median(column, axis=(0, 1))).sum(axis=(1, 2))
    inked = np.flatnonzero(ink > INK_SHARE / 4 * ink.max())
    if len(centres) < 2 or not len(inked):
        return []
    first, last = int(inked[0]), int(inked[-1]) + 1
    rough = statistics.median(b - a for a, b in pairwise(centres)) * len(column)
    if rough < MIN_SIDE:
        return []
    ink = ink / ink.max()
    reach = max(1, round(CUT_SLACK / 2 * rough))
    white = np.lib.stride_tricks.sliding_window_view(np.pad(ink, reach), 2 * reach + 1).min(axis=1)

    def cuts(pitch: float, shift: float) -> NDArray[np.intp]:
        return np.arange(first + shift * pitch, last - CUT_SLACK * pitch, pitch).astype(int)

    grids = [
        (rough * stretch, shift)
        for stretch in np.linspace(1 - PITCH_SLACK, 1 + PITCH_SLACK, PITCH_STEPS)
        for shift in np.linspace(0.75, 1.1, 8)
        if len(cuts(rough * stretch, shift))
    ]
    if not grids:
        return []
    pitch, shift = min(grids, key=lambda grid: float(white[cuts(*grid)].mean()))
    ends = []
    for due in cuts(pitch, shift):
        near = np.arange(max(0, round(due - CUT_SLACK * pitch)), min(last, round(due + CUT_SLACK * pitch) + 1))
        ends.append(int(near[(ink[near] + INK_SHARE * np.abs(near - due) / pitch).argmin()]))
    return [*ends, len(column)]


def _laid_flat(column: Pixels, ends: Sequence[int]) -> Pixels:
    """The characters of a vertical line side by side, as if it had been set horizontally."""
    width = column.shape[1]
    high = max(width, *(b - a for a, b in pairwise((0, *ends))))
    paper = np.median(column, axis=(0, 1)).astype(np.uint8)
    flat = np.empty((high, width * len(ends), 3), np.uint8)
    flat[:] = paper
    for n, (top, bottom) in enumerate(pairwise((0, *ends))):
        cell = column[top:bottom]
        ink = np.abs(cell.astype(np.int16) - paper).max(axis=2) > 255 * INK_SHARE / 2
        rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        y, x = (high - len(cell)) // 2, n * width
        if len(rows) and rows[-1] < CORNER * len(cell) and columns[0] > (1 - CORNER) * width:
            # Commas and full stops stand at the upper right in a column, at the lower left in a row.
            cell = cell[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            y, x = high - len(cell) - high // 8, x + width // 8
        flat[y : y + len(cell), x : x + cell.shape[1]] = cell
    return flat

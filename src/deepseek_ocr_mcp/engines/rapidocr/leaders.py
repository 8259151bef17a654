"""Finds the page number behind a row of dots where the detection model sees none: a figure alone is easily missed.

A row of dots leads the eye to a number. It is followed on the picture, from the text that it begins at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from ..sheet import LONG, Pixels, Region
from .ink import ink_of, strokes_of
from .recognise import LEADER_DOTS, LINE_HEIGHT, LineReading, are_flat

__all__ = ["PAGE_NUMBER", "find_ends_of_leaders"]

ENDS_IN_DOTS: Final = re.compile(r"(?:…|\.\.\.)\s*$")
PAGE_NUMBER: Final = re.compile(r"[0-9]{1,4}|[ivxlc]{1,6}")
# Of the height of a line. Tuned on drawn pages of contents; wider bounds take rules and pictures for numbers.
REACH: Final = 4.0  # from the last dot to the number
LONGEST: Final = 3.0  # of a number: four figures
HIGHEST: Final = 0.85  # of its ink; a rule goes from edge to edge
SAME_ROW: Final = 0.5  # how far the middles of two regions of a row may be from each other
MARGIN: Final = 0.17  # around the ink, as detection has it
LEVEL_DEG: Final = 1.0  # a leader that leans more leaves the strip of its line


def find_ends_of_leaders(pixels: Pixels, regions: Sequence[Region], readings: Sequence[LineReading]) -> list[Region]:
    """Where on an upright page there is ink behind a row of dots, and no region holds it.

    Args:
        pixels: the upright page.
        regions: its regions.
        readings: the reading of each region.
    """
    found = []
    for region, reading in zip(regions, readings, strict=True):
        is_level = abs(region.angle) <= LEVEL_DEG and region.width >= LONG * region.height
        if not is_level or not ENDS_IN_DOTS.search(reading.text):
            continue
        right = region.x + region.width / 2
        beside = (
            other.x - other.width / 2
            for other in regions
            if abs(other.y - region.y) < SAME_ROW * max(region.height, other.height) and other.x > region.x
        )
        end = min(beside, default=float(pixels.shape[1]))
        if end - right > region.height and (number := _ink_behind_dots(pixels, region, end)):
            found.append(number)
    return found


def _ink_behind_dots(pixels: Pixels, region: Region, end: float) -> Region | None:
    """The ink behind the dots that go on to the right of a region, up to a column of the page."""
    begin = region.x + region.width / 2 - region.height
    top, bottom = max(0, round(region.y - region.height / 2)), min(len(pixels), round(region.y + region.height / 2))
    strip = pixels[top:bottom, max(0, round(begin)) : round(end)]
    if min(strip.shape[:2]) < 8:
        return None
    scale = LINE_HEIGHT / len(strip)
    line = cv2.resize(strip, (math.ceil(strip.shape[1] * scale), LINE_HEIGHT), interpolation=cv2.INTER_LINEAR)
    strokes = strokes_of(line)
    dots = np.flatnonzero(are_flat(line, strokes))
    last = int(dots[-1]) if len(dots) else -1
    if len(dots) < LEADER_DOTS or last + 1 == len(strokes):
        return None
    left, right = int(strokes[last + 1, 0]), int(strokes[-1, 1])
    ink = np.flatnonzero(ink_of(line)[:, left:right].any(axis=1))
    if left - strokes[last, 1] > REACH * LINE_HEIGHT or right - left > LONGEST * LINE_HEIGHT or not len(ink):
        return None
    if ink[-1] - ink[0] > HIGHEST * LINE_HEIGHT:
        return None
    margin = 2 * MARGIN * region.height
    x = max(0, round(begin)) + (left + right) / 2 / scale
    return Region(x, region.y, (right - left) / scale + margin, region.height, 0.0)

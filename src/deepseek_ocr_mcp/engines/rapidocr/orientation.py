"""Finds out which way a page lies: a few of its longest lines are read one way round, and the other way if need be."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ..sheet import LONG, Pixels, Region
from .recognise import LineReader, LineReading
from .run import ModelRun, longest_first
from .vertical import reads_downwards

__all__ = ["Turn", "find_upright"]

# Tuned on the turned pages of the shared corpus and of generated_pages.py. A page that is turned wrongly is lost.
SAMPLE_LINES: Final = 4  # more cost time on each page that lies on its side
SAMPLE_LENGTH: Final = 12.0  # times its thickness is a line long enough; longer lines tell no more
SURE_SCORE: Final = 0.85  # upright lines score about 0.98, lines on their head or side about 0.7
CERTAIN_SCORE: Final = 0.95  # one line of words that the model is so sure of tells how the page lies
CERTAIN_LETTERS: Final = 8
BETTER_BY: Final = 0.12  # of score: how much better the other way round must be; Hebrew on its head is 0.09 better


@dataclass(frozen=True, slots=True)
class Turn:
    """A page turned by `quarters`, as `np.rot90` counts them: its regions then, and the lines whose reading has begun.

    `score` is the mean of the lines that were read to judge this turn, `surest` that of the best one of words.
    """

    quarters: int
    regions: list[Region]
    begun: dict[int, Future[LineReading]]
    score: float = 0.0
    surest: float = 0.0


def find_upright(run: ModelRun, reader: LineReader, pixels: Pixels, regions: list[Region]) -> Turn:
    """The turn that brings a page upright.

    Most lines of a page tell whether it lies on its side; then one of two turns is right. A page of vertical lines
    stays as it is.

    Args:
        run: runs the model.
        reader: reads lines.
        pixels: the page as it was given.
        regions: its regions.

    Raises:
        Cancelled: nobody waits for this page any more.
    """
    sample, sideways = _sample(regions)
    if not sample:
        return Turn(0, regions, {})
    attempts = _Attempts(run, reader, pixels, regions, sample)
    first = attempts.turned(1 if sideways else 0)
    if first.score >= SURE_SCORE:
        if sideways and reads_downwards(run, reader, pixels, regions, first.begun):
            return replace(first, quarters=0, regions=regions)
        return first
    other = attempts.turned(3 if sideways else 2)
    if first.surest >= CERTAIN_SCORE > other.surest:
        return first  # the other lines are in a script that the model does not know
    return other if other.score > first.score + BETTER_BY else first


def _sample(regions: Sequence[Region]) -> tuple[list[int], bool]:
    """The numbers of the regions to judge by, and whether most lines are upright: the page lies on its side."""
    long = [n for n, region in enumerate(regions) if region.length >= LONG * region.thickness]
    tall = sum(regions[n].length for n in long if regions[n].tall)
    sideways = 2 * tall > sum(regions[n].length for n in long)
    fitting = [n for n in long if regions[n].tall == sideways]
    fitting.sort(key=lambda n: -min(regions[n].length, SAMPLE_LENGTH * regions[n].thickness))
    return fitting[:SAMPLE_LINES], sideways


@dataclass(frozen=True, slots=True)
class _Attempts:
    """A page as it was given, and the numbers of the regions to judge its turns by."""

    run: ModelRun
    reader: LineReader
    pixels: Pixels
    regions: list[Region]
    sample: list[int]

    def turned(self, quarters: int) -> Turn:
        """This page turned, with the score of its sample."""
        height, width = self.pixels.shape[:2]
        regions = [region.turned(quarters, width, height) for region in self.regions]
        page = np.rot90(self.pixels, quarters)
        # Most pages lie as they should: the other lines keep the threads busy while the last of the sample is read.
        others = [] if quarters else longest_first(self.regions, set(self.sample))
        begun = self.run.start(lambda n: self.reader.read_region(self.run, page, regions[n]), [*self.sample, *others])
        readings = list(self.run.each(begun[n] for n in self.sample))
        score = sum(reading.score for reading in readings) / len(self.sample)
        words = [reading.score for reading in readings if sum(map(str.isalpha, reading.text)) >= CERTAIN_LETTERS]
        if score < SURE_SCORE:
            begun = {n: future for n, future in begun.items() if not future.cancel()}
        return Turn(quarters, regions, begun, score, max(words, default=0.0))

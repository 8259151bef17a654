"""The ink of a line of text, as pixels and as strokes. Lengths are pixels of the line as the model takes it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..sheet import Pixels, column_contrast

__all__ = ["LINE_EDGE", "ink_of", "line_contrast", "runs_of", "strokes_of"]

LINE_EDGE: Final = 6  # pixels above and below in which there may be ink of other lines
INK_FROM: Final = 0.3  # of the strongest contrast in a crop: a pixel with that much is ink
FAINT_INK: Final = 0.25  # of the strongest contrast in a line: a column with less is white


def ink_of(crop: Pixels) -> NDArray[np.bool_]:
    """The pixels that are ink, `(rows, columns)`."""
    grey = crop.astype(np.int16).sum(axis=2)
    away = np.abs(grey - np.median(grey))
    ink: NDArray[np.bool_] = away > INK_FROM * np.percentile(away, 99)
    return ink


def line_contrast(line: Pixels) -> NDArray[np.uint8]:
    """The contrast of each column of a line, without the rows at its edges: neighbouring lines reach into them."""
    return column_contrast(line[LINE_EDGE:-LINE_EDGE])


def strokes_of(line: Pixels) -> NDArray[np.intp]:
    """The columns of each stroke of a line, `(strokes, 2)`: the first and the last, plus one."""
    contrast = line_contrast(line)
    return runs_of(contrast > FAINT_INK * contrast.max())


def runs_of(flags: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The begin and the end (plus one) of each run of true values, `(runs, 2)`."""
    return np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)

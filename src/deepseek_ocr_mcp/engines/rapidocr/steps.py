"""Switches for the steps of reading a page; the benchmarks measure each step by switching it off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["ALL_STEPS", "Steps"]


@dataclass(frozen=True, slots=True)
class Steps:
    """What is done beside detecting lines and recognising them; `benchmarks/steps.py` tells what each of it earns."""

    normal_weights: bool = True
    """Weights that no processor likes are made zero."""
    flat_skipped: bool = True
    """Margins and empty parts of a page are not looked at."""
    enlarged: bool = True
    """A small picture is detected larger than it is."""
    calm_cuts: bool = True
    """Where a page is cut into tiles, no line is."""
    second_look: bool = True
    """A page of small text is detected again, at a scale that fits it."""
    words_joined: bool = True
    """Words of a line that were detected one by one are read as one line."""
    upright: bool = True
    """A page on its side or head is turned."""
    detected_upright: bool = True
    """A turned page is detected again."""
    roomy: bool = True
    """Lines are cropped with more room above and below: smaller letters, fewer pixels to read."""
    trimmed: bool = True
    """Lines lose the white at their ends before they are read."""
    vertical: bool = True
    """A page of vertical lines is not taken for one on its side."""
    laid_flat: bool = True
    """Vertical lines are read once more with their characters side by side."""
    both_ways: bool = True
    """A short upright region is read lying, and standing."""
    spaces: bool = True
    """Spaces that the recogniser dropped are put where it left room for them."""
    noise_dropped: bool = True
    """Readings with a bad score are dropped."""
    other_scripts: bool = True
    """A page of unknown script goes to Tesseract."""
    straightened: bool = True
    """The tilt of the page is taken out before its layout is looked at."""
    gutters: bool = True
    """Lines that run across a gutter or into the next cell are cut there."""
    columns: bool = True
    """Columns are read one after the other."""
    tables: bool = True
    """Aligned cells become tables."""


ALL_STEPS: Final = Steps()

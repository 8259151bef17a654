"""Reads pages with the `tesseract` program, a bounded child process; no file is left behind, nothing is downloaded.

Languages are those that are installed and fit the script that Tesseract detects on the page. A
cancelled call kills the program within a tenth of a second, and it dies with this process. Where
the page's script has no language data here, a remark names the package that brings it: what
Tesseract makes of a foreign script is not given out as the page's text.

`reread` gives another engine's page of unknown script to the same program, where it is installed.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np

from ...errors import EngineUnavailable, UnsupportedMode
from ...layout.lines import TextLine
from ...modes import RESOLUTIONS
from ..base import Call, PageImage, PageText, ReadOptions
from ..scripts import remark
from ..sheet import Region, Sheet
from .lines import lay_out
from .program import INSTALL, Pixels, Program, Word, find_program, reduce_pixels

__all__ = ["Rereading", "TesseractEngine", "reread"]


MODES: Final = frozenset({"document", "ocr", "free", "find"})
LONGEST_SIDE: Final = 10_000  # pixels; the program refuses 32768


@dataclass(frozen=True, slots=True)
class Rereading:
    """A page that was read again, or a sentence that says why it was not.

    `quarters` is how often `np.rot90` turns the given pixels upright. `inks[n]` is where `lines[n]`
    stands on the upright page; `lines` are straightened, and cut where columns are.
    """

    remark: str = ""
    quarters: int = 0
    lines: tuple[TextLine, ...] = ()
    inks: tuple[Region, ...] = ()


class TesseractEngine:
    """Tesseract as it is installed on this machine. Needs no GPU and holds no memory between pages."""

    def __init__(self) -> None:
        self._program: Program | None = None

    def load(self, device: str, call: Call) -> dict[str, Any]:
        """Find the program and its languages. `device` is ignored.

        Raises:
            EngineUnavailable: the program or its language data is missing.
        """
        path = find_program()
        if path is None:
            raise EngineUnavailable("The program tesseract is not installed.", remedy=INSTALL)
        self._program = Program(path, call)
        call.progress(1.0, "program found")
        return {"model": f"Tesseract {self._program.version(call)}", "languages": self._program.readers}

    def offload(self) -> None:
        """Nothing to do: there is nothing on a GPU."""

    def restore(self, device: str) -> None:
        """Nothing to do: there is nothing on a GPU."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        """One `PageText` per page, as the rapidocr engine gives it.

        A page in a script for which no language data is installed has no text, but a remark.

        Raises:
            UnsupportedMode: the mode needs a model that understands pictures or questions.
            Cancelled: nobody waits any more.
        """
        if options.mode not in MODES:
            raise UnsupportedMode(
                f"The tesseract engine cannot do mode {options.mode!r}: it reads text and nothing else.",
                remedy=f"Set OCR_ENGINE=deepseek for it, or use one of {', '.join(sorted(MODES))}.",
            )
        texts = []
        for number, page in enumerate(pages):
            texts.append(self._read_page(page, options, call))
            call.progress((number + 1) / len(pages), "page read")
        return texts

    def _read_page(self, page: PageImage, options: ReadOptions, call: Call) -> PageText:
        if self._program is None:
            raise RuntimeError("read() before load()")
        pixels: Pixels = np.memmap(page.path, np.uint8, "r", shape=(page.height, page.width, 3))
        pixels = reduce_pixels(pixels, min(RESOLUTIONS[options.resolution] or LONGEST_SIDE, LONGEST_SIDE))
        grey = _grey(pixels)
        reading = self._program.read(grey, self._program.orientation(grey, call), call)
        script = reading.script
        if reading.words and not reading.trusted and self._program.lacks(script):
            return PageText(
                "",
                remark=f"The page seems to be in {script.name.replace('_', ' ')} script, and Tesseract has no language "
                f"data for it (it has {', '.join(self._program.readers)}). Install it (Debian: apt-get install "
                f"{script.package}; elsewhere put {script.languages[0]}.traineddata into its tessdata folder) and "
                "restart the server.",
            )
        upright = np.rot90(pixels, reading.quarters)
        lines, inks = lay_out(reading.words, upright.shape[1], upright.shape[0])
        sheet = Sheet(page, upright, reading.quarters, lines, inks)
        return sheet.found(options.find_term) if options.mode == "find" else sheet.written(options.mode)


def reread(pixels: Pixels, script: str, call: Call) -> Rereading:
    """What Tesseract reads on an upright page that the bundled models could not read.

    Args:
        script: what `scripts.seems_unread` found.

    Returns:
        A reading; or a remark without lines, where Tesseract is not installed or reads no better.
    """
    path = find_program()
    if path is None:
        return Rereading(remark(script))
    program = Program(path, call)
    grey = _grey(reduce_pixels(pixels, LONGEST_SIDE))
    seen = program.orientation(grey, call)
    if script:
        seen = replace(seen, script=script, script_confidence=math.inf)
    found = seen.known
    if program.may_read(found):  # else it is not read: that takes longest, and nobody would be given the text
        reading = program.read(grey, seen, call)
        if reading.trusted and _is_foreign(reading.words):  # the bundled models would have read Latin text
            scale = max(pixels.shape[:2]) / max(grey.shape)
            height, width = np.rot90(pixels, reading.quarters).shape[:2]
            lines, inks = lay_out(reading.words, width, height, scale)
            return Rereading("", reading.quarters, tuple(lines), tuple(inks))
        found = reading.script
    return Rereading(remark(found.name if program.lacks(found) else script))


def _is_foreign(words: Sequence[Word]) -> bool:
    """Whether most letters are of scripts that the bundled models do not know."""
    letters = [unicodedata.name(char, "") for word in words for char in word.text if char.isalpha()]
    return 2 * sum(name.startswith(("LATIN", "CJK", "HIRAGANA", "KATAKANA")) for name in letters) < len(letters)


def _grey(pixels: Pixels) -> Pixels:
    grey: Pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return grey

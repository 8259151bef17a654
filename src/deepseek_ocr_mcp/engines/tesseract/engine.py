"""Reads pages with the `tesseract` program, a bounded child process; no file is left behind, nothing is downloaded.

Languages are those that are installed and fit the script that Tesseract detects on the page. A
cancelled call kills the program within a tenth of a second, and it dies with this process. Where
the page's script has no language data here, a remark names the package that brings it: what
Tesseract makes of a foreign script is not given out as the page's text.

`reread` gives lines of another engine that are in an unknown script to the same program, where it is installed.
"""

from __future__ import annotations

import math
import statistics
import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np

from ...errors import EngineUnavailable
from ...layout.lines import Box, TextLine
from ...modes import RESOLUTIONS
from ..base import Call, PageImage, Reading, ReadOptions
from ..scripts import Unread, how_to_install, remark
from ..sheet import Region, Sheet, refuse_other_modes
from .lines import lay_out
from .program import (
    INSTALL,
    UNSEEN,
    Orientation,
    Pixels,
    Program,
    Recognition,
    Word,
    find_program,
    mean_confidence,
    reduce_pixels,
)

__all__ = ["Rereading", "TesseractEngine", "reread"]


EXPECTED_CONFIDENCE: Final = 0.78
"""The least confidence of text in the detected script. Hebrew read as Thai has up to 0.75, badly printed Greek 0.79."""
LONGEST_SIDE: Final = 10_000  # pixels; the program refuses 32768


@dataclass(frozen=True, slots=True)
class Rereading:
    """Lines that were read again, and a sentence on those that were not.

    `lines` are straightened, and cut where columns are; `inks[n]` is where `lines[n]` stands on the upright page.
    They take the place of the lines with these `numbers`, or of the whole page, which `np.rot90` brings upright
    with so many `quarters`.
    """

    remark: str = ""
    lines: tuple[TextLine, ...] = ()
    inks: tuple[Region, ...] = ()
    numbers: frozenset[int] = frozenset()
    whole_page: bool = False
    quarters: int = 0


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

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[Reading]:
        """One `Reading` per page, whatever the mode is.

        A page in a script for which no language data is installed has no text, but a remark.

        Raises:
            UnsupportedMode: the mode needs a model that understands pictures or questions.
            Cancelled: nobody waits any more.
        """
        refuse_other_modes("tesseract", options.mode)
        readings = []
        for number, page in enumerate(pages):
            readings.append(self._read_page(page, options, call))
            call.progress((number + 1) / len(pages), "page read")
        return readings

    def _read_page(self, page: PageImage, options: ReadOptions, call: Call) -> Reading:
        if self._program is None:
            raise RuntimeError("read() before load()")
        pixels: Pixels = np.memmap(page.path, np.uint8, "r", shape=(page.height, page.width, 3))
        pixels = reduce_pixels(pixels, min(RESOLUTIONS[options.resolution] or LONGEST_SIDE, LONGEST_SIDE))
        grey = _grey(pixels)
        seen = self._program.orientation(grey, call)
        reading = self._program.read(grey, seen, call)
        script = reading.script
        if reading.words and not reading.trusted and self._program.lacks(script) and seen.is_sure_of_script:
            return Reading(
                page.width,
                page.height,
                remark=f"The page seems to be in {script.name.replace('_', ' ')} script, and Tesseract has no language "
                f"data for it (it has {', '.join(self._program.readers)}). Install the data and restart the server "
                f"({how_to_install(script)}).",
            )
        upright = np.rot90(pixels, reading.quarters)
        lines, inks = lay_out(reading.words, upright.shape[1], upright.shape[0])
        return Sheet(page, upright, reading.quarters, lines, inks).reading()


def reread(pixels: Pixels, unread: Unread, boxes: Mapping[int, Box], call: Call) -> Rereading:
    """Lines that the bundled models could not read, as Tesseract reads them.

    Args:
        pixels: the page, upright as far as is known.
        unread: which lines these are.
        boxes: where each of them stands, in pixels of the page.

    Returns:
        Lines; or a remark, where Tesseract is not installed, lacks the language data or reads no better.

    Raises:
        Cancelled: nobody waits any more.
    """
    path = find_program()
    try:
        program = Program(path, call) if path else None
    except EngineUnavailable:
        program = None
    if program is None:
        return Rereading(_remark(unread, unread.script))
    page = _GreyPage(_grey(reduce_pixels(pixels, LONGEST_SIDE)), pixels.shape[0], pixels.shape[1])
    return (
        _reread_page(program, page, unread, call) if unread.whole else _reread_lines(program, page, unread, boxes, call)
    )


@dataclass(frozen=True, slots=True)
class _GreyPage:
    """A page in grey, reduced for the program, and the `height` and `width` that it had."""

    pixels: Pixels
    height: int
    width: int

    @property
    def scale(self) -> float:
        """Pixels of the page for each of these."""
        return float(max(self.height, self.width) / max(self.pixels.shape))

    def only(self, boxes: Iterable[Box]) -> Pixels:
        """Nothing but what stands in these boxes, which are in pixels of the page, on paper of their colour."""
        places = []
        for box in boxes:
            x1, y1, x2, y2 = (max(0, round(side / self.scale)) for side in box)
            places.append((slice(y1, max(y2, y1 + 1)), slice(x1, max(x2, x1 + 1))))
        paper = statistics.median(float(np.median(self.pixels[place])) for place in places)
        alone: Pixels = np.full_like(self.pixels, round(paper))
        for place in places:
            alone[place] = self.pixels[place]
        return alone


def _reread_page(program: Program, page: _GreyPage, unread: Unread, call: Call) -> Rereading:
    """A page of which most is unread: it may lie otherwise than it seems."""
    seen = program.orientation(page.pixels, call)
    if unread.script:
        seen = replace(seen, script=unread.script, script_confidence=math.inf)
    if program.may_read(seen.known):  # else it is not read: that takes longest, and nobody would be given the text
        reading = program.read(page.pixels, seen, call)
        if _is_text(reading, seen):
            height, width = (page.width, page.height) if reading.quarters % 2 else (page.height, page.width)
            lines, inks = lay_out(reading.words, width, height, page.scale)
            return Rereading("", tuple(lines), tuple(inks), whole_page=True, quarters=reading.quarters)
    named = seen.script if seen.is_sure_of_script and program.lacks(seen.known) else unread.script
    return Rereading(_remark(unread, named))


def _reread_lines(program: Program, page: _GreyPage, unread: Unread, boxes: Mapping[int, Box], call: Call) -> Rereading:
    """Some lines of an upright page. Each counts in the script that reads it best; the rest is painted out."""
    if not (program.foreign_scripts or unread.certain):
        return Rereading()
    alone = page.only(boxes.values())
    if unread.script:
        seen = replace(UNSEEN, script=unread.script, script_confidence=math.inf)
        scripts = [seen.known] if seen.known in program.foreign_scripts else []
    else:
        seen = program.orientation(alone, call)
        likely = seen.known if seen.is_sure_of_script else None
        scripts = sorted(program.foreign_scripts, key=lambda script: script != likely)
    best: dict[int, list[Word]] = {}
    for script in scripts:
        for n, words in _by_box(program.words_in(alone, script, call), boxes, page.scale).items():
            if _is_text(Recognition(0, script, tuple(words)), seen) and mean_confidence(words) > mean_confidence(
                best.get(n, [])
            ):
                best[n] = words
        if len(best) == len(boxes):
            break
    lines, inks = lay_out([word for n in sorted(best) for word in best[n]], page.width, page.height, page.scale)
    named = seen.script if seen.is_sure_of_script and program.lacks(seen.known) else ""
    return Rereading(_remark(unread, named, best), tuple(lines), tuple(inks), frozenset(best))


def _remark(unread: Unread, script: str, read: Container[int] = ()) -> str:
    """What to say of the lines that nobody could read; nothing where they may be pictures."""
    left = [n for n in unread.lines if n not in read]
    if not left or not unread.certain:
        return ""
    return remark(script, 0 if unread.whole else len(left), unread.total)


def _is_text(reading: Recognition, seen: Orientation) -> bool:
    """Whether text that the bundled models could not read was read now: with another script's data it is noise."""
    expected = seen.is_sure_of_script and reading.script == seen.known
    if not reading.trusted or not (reading.is_clear or (expected and reading.confidence >= EXPECTED_CONFIDENCE)):
        return False
    return reading.script.name == "Vietnamese" or _is_foreign(reading.words)


def _by_box(words: Iterable[Word], boxes: Mapping[int, Box], scale: float) -> dict[int, list[Word]]:
    """The words whose middle is in each of the boxes; a box is a line to them from now on."""
    found: dict[int, list[Word]] = {}
    for word in words:
        x, y = (word.box[0] + word.box[2]) / 2 * scale, (word.box[1] + word.box[3]) / 2 * scale
        for n, (x1, y1, x2, y2) in boxes.items():
            if x1 <= x <= x2 and y1 <= y <= y2:
                found.setdefault(n, []).append(replace(word, line=(n, 0, 0)))
                break
    return found


def _is_foreign(words: Sequence[Word]) -> bool:
    """Whether most letters are of scripts that the bundled models do not know."""
    letters = [unicodedata.name(char, "") for word in words for char in word.text if char.isalpha()]
    return 2 * sum(name.startswith(("LATIN", "CJK", "HIRAGANA", "KATAKANA")) for name in letters) < len(letters)


def _grey(pixels: Pixels) -> Pixels:
    grey: Pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return grey

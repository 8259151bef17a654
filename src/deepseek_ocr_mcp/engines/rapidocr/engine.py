"""Reads pages on the CPU with the PP-OCR models inside the rapidocr wheel; nothing is ever downloaded.

The two models run on onnxruntime directly: rapidocr's own pipeline shrinks every page to 2000
pixels, turns upright lines upside down and takes twice the time and memory. A cancelled call
stops within a tenth of a second, in the middle of a model run if need be. Nothing is written to
stdout.

There are three frames of coordinates. Blocks are in pixels of the page as it was given. Regions are in pixels of the
page that was turned by quarter turns until its text was upright. Each `TextLine` is in pixels of the upright page when
straightened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from ...errors import EngineUnavailable
from ...modes import RESOLUTIONS
from ..base import Call, PageImage, Reading, ReadOptions
from ..cores import usable_cores
from ..precision import choose_precision, precision_setting
from ..scripts import find_unread
from ..sheet import Pixels, Region, Sheet, inset, lay_out_lines, outline, refuse_other_modes
from ..tesseract.engine import Rereading, reread
from .bullets import with_bullets
from .cases import with_cases
from .dashes import with_dashes
from .detect import HUGE_PAGE, detect, drop_from_memory, resize, skew
from .leaders import PAGE_NUMBER, find_ends_of_leaders
from .models import SpareModel, installed_release, integer_model, model_file, model_folder, new_session, share_arena
from .onnx_weights import without_subnormals
from .orientation import Turn, find_upright
from .recognise import LineReader, LineReading, straightened
from .run import ModelRun, longest_first
from .vertical import is_stacked, read_column

__all__ = ["RapidOcrEngine"]

FRACTIONS: Final = frozenset("¼½¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞")
FRACTIONS_REMARK: Final = (
    "Fractions of one character, such as ½, are often read as another one or as a number (¼ as ½, ¾ as 34). Compare "
    "the fractions of this page with the picture."
)
"""Seen in three typefaces of 20 to 40 pixels, read by the integer model."""
DET_SHARE: Final = 0.2  # of a page's time goes into detection, roughly: moves the progress bar, nothing else


@dataclass(frozen=True, slots=True)
class _FoundLines:
    """The upright page, turned by `quarters`: where its lines are, and what the model read there."""

    upright: Pixels
    quarters: int
    regions: list[Region]
    readings: list[LineReading]


class RapidOcrEngine:
    """The embedded engine: needs no GPU, no network and no settings.

    `OCR_THREADS` bounds its threads, `OCR_PRECISION` chooses its arithmetic.
    """

    def __init__(self) -> None:
        self._detector: Any = None
        self._reader: LineReader | None = None
        self._model = ""
        self._pool: ThreadPoolExecutor | None = None

    def prewarm(self) -> None:
        """Do all that `load` does, ahead of it: the models need no device. `load` says if something is missing."""
        with contextlib.suppress(EngineUnavailable):
            self._load_models()

    def load(self, device: str, call: Call) -> dict[str, Any]:
        """Both models into host memory, a fifth of a second. `device` is ignored.

        Raises:
            EngineUnavailable: a package or its model file is missing.
        """
        self._load_models()
        call.progress(1.0, "models loaded")
        return {"model": self._model, "threads": usable_cores()}

    def _load_models(self) -> None:
        """Load both models, each on a core of its own: one takes as long as the other."""
        if self._pool is not None:
            return
        folder = model_folder()
        detector, recogniser = model_file(folder, "det"), model_file(folder, "rec")
        share_arena()
        pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="ocr")
        # Lines go to the recogniser one by one, several at once: a batch would pad all to the longest.
        integers = integer_model(recogniser) if choose_precision(precision_setting()) == "int8" else None
        loading = pool.submit(new_session, str(integers or recogniser), 1)
        self._detector = new_session(without_subnormals(detector), usable_cores())
        self._reader = LineReader(loading.result(), SpareModel(recogniser) if integers is not None else None)
        family, _, size = detector.stem.replace("_det_", " ").partition(" ")
        precision = "int8" if integers is not None else "float32"
        self._model = f"{family} {size} (rapidocr {installed_release(folder)}, {precision})"
        self._pool = pool

    def offload(self) -> None:
        """Nothing to do: there is nothing on a GPU."""

    def restore(self, device: str) -> None:
        """Nothing to do: there is nothing on a GPU."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[Reading]:
        """One `Reading` per page, whatever the mode is.

        Raises:
            UnsupportedMode: the mode needs a model that understands pictures or questions.
            Cancelled: nobody waits any more.
        """
        refuse_other_modes("rapidocr", options.mode)
        readings = []
        for number, page in enumerate(pages):

            def progress(done: float, message: str, number: int = number) -> None:
                call.progress((number + done) / len(pages), message)

            call.raise_if_cancelled()
            readings.append(self._read_page(page, options, call, progress))
            if number + 1 < len(pages):  # of the last one the answer tells
                progress(1.0, "page read")
        return readings

    def _read_page(
        self, page: PageImage, options: ReadOptions, call: Call, progress: Callable[[float, str], None]
    ) -> Reading:
        pixels: Pixels = np.memmap(page.path, np.uint8, "r", shape=(page.height, page.width, 3))
        longest = RESOLUTIONS[options.resolution]
        if longest is not None and longest < max(page.width, page.height):
            pixels = resize(pixels, longest / max(page.width, page.height))
        return self._sheet(page, self._find_lines(pixels, call, progress), call).reading()

    def _find_lines(self, pixels: Pixels, call: Call, progress: Callable[[float, str], None]) -> _FoundLines:
        """Where lines are on the upright page, and what the model reads there."""
        if self._pool is None or self._reader is None:
            raise RuntimeError("read() before load()")
        with ModelRun(self._pool, call) as run:
            regions = detect(run, self._detector, pixels)
            progress(DET_SHARE, f"{len(regions)} lines found")
            turn = find_upright(run, self._reader, pixels, regions)
            if turn.quarters:  # the detector finds more on an upright page
                turn = Turn(turn.quarters, detect(run, self._detector, pixels, turn.quarters), {})
            upright = np.rot90(pixels, turn.quarters)
            readings = self._recognise(
                run, upright, turn, lambda done: progress(DET_SHARE + (1 - DET_SHARE) * done, "reading")
            )
            regions, readings = self._with_ends_of_leaders(run, upright, turn.regions, readings)
        readings = with_cases(upright, regions, readings)
        marked = with_bullets(upright, *with_dashes(upright, regions, readings))
        return _FoundLines(upright, turn.quarters, *marked)

    def _recognise(
        self, run: ModelRun, pixels: Pixels, turn: Turn, progress: Callable[[float], None]
    ) -> list[LineReading]:
        """One reading for each region of an upright page."""
        reader, regions = self._reader, turn.regions
        assert reader is not None
        todo = longest_first(regions, turn.begun.keys())
        begun = turn.begun | run.start(lambda n: reader.read_region(run, pixels, regions[n]), todo)
        for done, _ in enumerate(run.each(begun.values()), start=1):
            if pixels.nbytes > HUGE_PAGE:
                drop_from_memory(pixels)
            progress(done / len(begun))
        readings = [begun[n].result() for n in range(len(regions))]
        stacked = [n for n, region in enumerate(regions) if region.tall and is_stacked(readings[n].text)]
        columns = run.all(lambda n: read_column(run, reader, pixels, regions[n], readings[n]), stacked)
        for n, reading in zip(stacked, columns, strict=True):
            readings[n] = reading
        return readings

    def _with_ends_of_leaders(
        self, run: ModelRun, pixels: Pixels, regions: list[Region], readings: list[LineReading]
    ) -> tuple[list[Region], list[LineReading]]:
        """The regions and their readings, with the page numbers behind rows of dots that were not detected."""
        reader = self._reader
        assert reader is not None
        ends = find_ends_of_leaders(pixels, regions, readings)
        read = run.all(lambda region: reader.read_region(run, pixels, region), ends)
        found = [(end, each) for end, each in zip(ends, read, strict=True) if PAGE_NUMBER.fullmatch(each.text.strip())]
        return [*regions, *(end for end, _ in found)], [*readings, *(each for _, each in found)]

    def _sheet(self, page: PageImage, found: _FoundLines, call: Call) -> Sheet:
        """The page with all lines that can be read here, and a remark on those that cannot."""
        height, width = found.upright.shape[:2]
        tilt = skew(found.regions)
        lines = straightened(found.regions, found.readings, tilt, width, height)
        readings = found.readings
        unread = find_unread(lines, [each.unread for each in readings], [each.gap for each in readings])
        boxes = {n: outline(found.regions[n]) for n in unread.lines}
        again = reread(found.upright, unread, boxes, call) if boxes else Rereading()
        reread_lines, reread_inks = list(again.lines), list(again.inks)
        if again.whole_page:
            turned, quarters = np.rot90(found.upright, again.quarters), (found.quarters + again.quarters) % 4
            return Sheet(page, turned, quarters, reread_lines, reread_inks, remark=again.remark)
        kept = [
            n
            for n, reading in enumerate(found.readings)
            if not (reading.is_noise or n in unread.noise or n in again.numbers)
        ]
        remarks = [again.remark] if again.remark else []
        if any(not FRACTIONS.isdisjoint(lines[n].text) for n in kept):
            remarks.append(FRACTIONS_REMARK)
        remark = " ".join(remarks)
        sheet = Sheet(page, found.upright, found.quarters, reread_lines, reread_inks, tilt=tilt, remark=remark)
        if kept:
            inks = [inset(found.regions[n]) for n in kept]
            laid, inks, rules = lay_out_lines(found.upright, [lines[n] for n in kept], inks, tilt)
            sheet = replace(sheet, lines=[*laid, *reread_lines], inks=[*inks, *reread_inks], rules=rules)
        return sheet

"""Reads pages on the CPU with the PP-OCR models inside the rapidocr wheel; nothing is ever downloaded.

The two models run on onnxruntime directly: rapidocr's own pipeline shrinks every page to 2000
pixels, turns upright lines upside down and takes twice the time and memory. A cancelled call
stops within a tenth of a second, in the middle of a model run if need be. Only the standard
library is imported before `load()`, and nothing is written to stdout.

Three frames of coordinates: the page as it was given (blocks are in its pixels), the page turned
by quarter turns so that its text is upright (regions), and that page straightened (`TextLine`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import cv2
import numpy as np

from ...errors import EngineUnavailable, UnsupportedMode
from ...layout.lines import Box, TextLine
from ...modes import RESOLUTIONS
from ..base import Call, PageImage, PageText, ReadOptions
from ..cores import usable_cores
from ..scripts import seems_unread
from ..sheet import LONG, Pixels, Region, Sheet, crop_region, inset, lay_out_lines
from ..tesseract.engine import Rereading, reread
from .detect import HUGE_PAGE, drop_from_memory, find_regions, join_words, resize, skew, tiles
from .models import installed_release, model_file, model_folder, new_session, share_arena
from .onnx_weights import without_subnormals
from .recognise import LINE_STRIDE, NOTHING, LineReading, as_input, inked_columns, round_up, straightened, with_spaces
from .run import ModelRun, longest_first
from .steps import ALL_STEPS, Steps
from .vertical import cell_ends, combine_readings, is_stacked, laid_flat

__all__ = ["RapidOcrEngine"]


MODES: Final = frozenset({"document", "ocr", "free", "find"})
DET_SHARE: Final = 0.2  # of a page's time goes into detection, roughly

# Detection. Thresholds are those of rapidocr's config.yaml (section Det).
DET_LONG_SIDE: Final = 1600  # pixels; larger costs by its square and finds no more (1600 = 2000 = 3500)
DET_SHORT_SIDE: Final = 544  # pixels; smaller pictures are enlarged to this (736 and 480 find as much)
ENLARGED_FROM: Final = 1.25  # times; to enlarge by less costs half as much again and finds nothing more
DET_MULTIPLE: Final = 32  # the model halves its input five times
SMALL_TEXT: Final = 14.0  # pixels at detection scale; below it, lines blur into each other
GOOD_TEXT: Final = 24.0  # pixels; the scale of the second look at a page of small text
FLAT_CONTRAST: Final = 16  # of 255; a part of the page without steeper edges holds no text

# Recognition.
LINE_HEIGHT: Final = 48  # pixels, fixed by the model
ROOM: Final = 1.12  # times its thickness is a region cropped: fewer pixels to read; from 1.15 on, worn print suffers
MAX_LINE_WIDTH: Final = 4800  # pixels; longer lines are squeezed, memory follows the longest
MIN_SCORE: Final = 0.5  # below it a line is noise (rapidocr: text_score)
SAMPLE_LINES: Final = 4
SAMPLE_LENGTH: Final = 12.0  # lengths over thickness that are enough; longer lines tell no more
SURE_SCORE: Final = 0.85  # upright lines score about 0.98, lines on their head or side about 0.7
BETTER_BY: Final = 0.08


class RapidOcrEngine:
    """The embedded engine: needs no GPU, no network and no settings. `OCR_THREADS` bounds its threads."""

    def __init__(self, steps: Steps = ALL_STEPS) -> None:
        self._steps = steps
        self._detector: Any = None
        self._recogniser: Any = None
        self._alphabet: list[str] = []
        self._model = ""
        self._pool: ThreadPoolExecutor | None = None

    def prewarm(self) -> None:
        """All that `load` does, ahead of it: the models need no device. What is missing is told by `load`."""
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
        """The recogniser meanwhile, on another core: each takes as long as the other."""
        if self._pool is not None:
            return
        folder = model_folder()
        detector, recogniser = model_file(folder, "det"), model_file(folder, "rec")
        share_arena()  # imports onnxruntime and numpy, which two threads must not do at once
        pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="ocr")
        # Lines go to the recogniser one by one, several at once: a batch would pad all to the longest.
        loading = pool.submit(new_session, str(recogniser), 1)
        model = without_subnormals(detector) if self._steps.normal_weights else str(detector)
        self._detector = new_session(model, usable_cores())
        self._recogniser = loading.result()
        characters = self._recogniser.get_modelmeta().custom_metadata_map["character"].splitlines()
        self._alphabet = ["", *characters, " "]
        family, _, size = detector.stem.replace("_det_", " ").partition(" ")
        self._model = f"{family} {size} (rapidocr {installed_release(folder)})"
        self._pool = pool

    def offload(self) -> None:
        """Nothing to do: there is nothing on a GPU."""

    def restore(self, device: str) -> None:
        """Nothing to do: there is nothing on a GPU."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        """One `PageText` per page.

        Blocks of `document`, `ocr` and `free` are lines in reading order. `find` gives one block for
        each part of a hit in a line: its label is the term, its box surrounds the matching words,
        and the text holds the row of the page that each hit stands in.

        Raises:
            UnsupportedMode: the mode needs a model that understands pictures or questions.
            Cancelled: nobody waits any more.
        """
        if options.mode not in MODES:
            raise UnsupportedMode(
                f"The rapidocr engine cannot do mode {options.mode!r}: it reads text and nothing else.",
                remedy=f"Set OCR_ENGINE=deepseek for it, or use one of {', '.join(sorted(MODES))}.",
            )
        texts = []
        for number, page in enumerate(pages):

            def progress(done: float, message: str, number: int = number) -> None:
                call.progress((number + done) / len(pages), message)

            call.raise_if_cancelled()
            texts.append(self._read_page(page, options, call, progress))
            if number + 1 < len(pages):  # of the last one the answer tells
                progress(1.0, "page read")
        return texts

    # ------------------------------------------------------------ one page

    def _read_page(
        self, page: PageImage, options: ReadOptions, call: Call, progress: Callable[[float, str], None]
    ) -> PageText:
        if self._pool is None:
            raise RuntimeError("read() before load()")
        pixels: Pixels = np.memmap(page.path, np.uint8, "r", shape=(page.height, page.width, 3))
        longest = RESOLUTIONS[options.resolution]
        if longest is not None and longest < max(page.width, page.height):
            pixels = resize(pixels, longest / max(page.width, page.height))
        with ModelRun(self._pool, call) as run:
            regions = self._detect(run, pixels)
            progress(DET_SHARE, f"{len(regions)} lines found")
            quarters, regions, begun = self._upright(run, pixels, regions) if self._steps.upright else (0, regions, {})
            if quarters and self._steps.detected_upright:  # the detector finds more on an upright page
                regions, begun = self._detect(run, pixels, quarters), {}
            upright = np.rot90(pixels, quarters)
            readings = self._recognise(
                run, upright, regions, begun, lambda done: progress(DET_SHARE + (1 - DET_SHARE) * done, "reading")
            )
        again = self._read_again(upright, self._straightened(regions, readings, upright), call)
        if again is not None and again.lines:
            turned = np.rot90(upright, again.quarters)
            quarters = (quarters + again.quarters) % 4
            sheet = Sheet(page, turned, quarters, list(again.lines), list(again.inks), self._steps)
            return sheet.found(options.find_term) if options.mode == "find" else sheet.written(options.mode)
        least = MIN_SCORE if self._steps.noise_dropped else 0.0
        kept = [n for n, reading in enumerate(readings) if reading.score >= least and reading.text.strip()]
        regions, readings = [regions[n] for n in kept], [readings[n] for n in kept]
        found, inks = self._straightened(regions, readings, upright), [inset(region) for region in regions]
        rules: tuple[Box, ...] = ()
        if self._steps.gutters and found:
            tilt = skew(regions) if self._steps.straightened else 0.0
            found, inks, rules = lay_out_lines(upright, found, inks, tilt)
        sheet = Sheet(page, upright, quarters, found, inks, self._steps, rules)
        text = sheet.found(options.find_term) if options.mode == "find" else sheet.written(options.mode)
        return text if again is None else replace(text, remark=again.remark)

    def _read_again(self, upright: Pixels, lines: Sequence[TextLine], call: Call) -> Rereading | None:
        """What Tesseract says of a page that these models could not read; None for one that they could."""
        script = seems_unread(lines) if self._steps.other_scripts else None
        if script is None:
            return None
        return reread(upright, script, call)

    def _straightened(
        self, regions: Sequence[Region], readings: Sequence[LineReading], upright: Pixels
    ) -> list[TextLine]:
        tilt = skew(regions) if self._steps.straightened else 0.0
        return straightened(regions, readings, tilt, upright.shape[1], upright.shape[0])

    # ------------------------------------------------------------ detection

    def _detect(self, run: ModelRun, pixels: Pixels, quarters: int = 0) -> list[Region]:
        """The places of text after `np.rot90(pixels, quarters)`, at a scale at which the detector tells lines apart."""
        height, width = pixels.shape[:2]
        scale = min(1.0, DET_LONG_SIDE / max(width, height))
        if min(width, height) * scale * ENLARGED_FROM < DET_SHORT_SIDE and self._steps.enlarged:
            scale = min(DET_SHORT_SIDE / min(width, height), DET_LONG_SIDE / max(width, height))
        regions = self._detect_at(run, pixels, quarters, scale)
        if scale < 1 and regions and self._steps.second_look:
            sizes = sorted(region.thickness * scale for region in regions)
            size = sizes[len(sizes) // 2]
            if size < SMALL_TEXT:
                regions = self._detect_at(run, pixels, quarters, min(1.0, scale * GOOD_TEXT / size))
        return regions

    def _detect_at(self, run: ModelRun, pixels: Pixels, quarters: int, scale: float) -> list[Region]:
        small = np.ascontiguousarray(np.rot90(resize(pixels, scale), quarters))
        height, width = np.rot90(pixels, quarters).shape[:2]
        likely = np.zeros(small.shape[:2], np.uint8)  # 255 times the probability of text
        flat = FLAT_CONTRAST if self._steps.flat_skipped else 0
        for left, top, right, bottom in tiles(small, flat, calm_cuts=self._steps.calm_cuts):
            tile = small[top:bottom, left:right]
            padded = cv2.copyMakeBorder(
                tile,
                0,
                -tile.shape[0] % DET_MULTIPLE,
                0,
                -tile.shape[1] % DET_MULTIPLE,
                cv2.BORDER_REPLICATE,
            )
            [output] = run.all(lambda tensor: run.model(self._detector, tensor), [as_input(padded, padded.shape[1])])
            found = (output[0, 0, : tile.shape[0], : tile.shape[1]] * 255).astype(np.uint8)
            part = likely[top:bottom, left:right]
            np.maximum(part, found, out=part)
        regions = find_regions(likely, width / small.shape[1], height / small.shape[0])
        return join_words(regions) if self._steps.words_joined else regions

    # ------------------------------------------------------------ orientation

    def _upright(
        self, run: ModelRun, pixels: Pixels, regions: list[Region]
    ) -> tuple[int, list[Region], dict[int, Future[LineReading]]]:
        """How often `np.rot90` brings the page upright, its regions then, and the lines of which reading has begun."""
        height, width = pixels.shape[:2]
        long = [n for n, region in enumerate(regions) if region.length >= LONG * region.thickness]
        tall = sum(regions[n].length for n in long if regions[n].tall)
        sideways = 2 * tall > sum(regions[n].length for n in long)
        sample = sorted(
            (n for n in long if regions[n].tall == sideways),
            key=lambda n: -min(regions[n].length, SAMPLE_LENGTH * regions[n].thickness),
        )[:SAMPLE_LINES]
        if not sample:
            return 0, regions, {}

        def attempt(quarters: int) -> tuple[float, int, list[Region], dict[int, Future[LineReading]]]:
            turned = [region.turned(quarters, width, height) for region in regions]
            page = np.rot90(pixels, quarters)
            # Most pages lie as they should: the other lines keep the threads busy while the last of the sample is read.
            others = [] if quarters else longest_first(regions, set(sample))
            begun = run.start(lambda n: self._read_region(run, page, turned[n]), [*sample, *others])
            score = sum(reading.score for reading in run.each(begun[n] for n in sample)) / len(sample)
            if score < SURE_SCORE:
                begun = {n: future for n, future in begun.items() if not future.cancel()}
            return score, quarters, turned, begun

        first = attempt(1 if sideways else 0)
        score, _, _, begun = first
        if score >= SURE_SCORE:
            if sideways and self._steps.vertical and self._reads_downwards(run, pixels, regions, begun):
                return 0, regions, begun
            return first[1:]
        other = attempt(3 if sideways else 2)
        return other[1:] if other[0] > score + BETTER_BY else first[1:]

    def _reads_downwards(
        self, run: ModelRun, pixels: Pixels, regions: list[Region], read: dict[int, Future[LineReading]]
    ) -> bool:
        """Whether the characters of tall lines stand upright: vertical text, not a page on its side."""
        expected, crops = [], []
        for n, future in read.items():
            region, reading = regions[n], future.result()
            for char, centre in list(zip(reading.text, reading.centres, strict=True))[:4]:
                y = region.y + (centre - 0.5) * region.height
                expected.append(char)
                crops.append(crop_region(pixels, replace(region, y=y, height=1.1 * region.width)))
        readings = run.all(lambda crop: self._read_crop(run, crop), crops)
        hits = sum(char in reading.text for char, reading in zip(expected, readings, strict=True))
        return hits > len(expected) / 2

    # ------------------------------------------------------------ recognition

    def _recognise(
        self,
        run: ModelRun,
        pixels: Pixels,
        regions: list[Region],
        begun: dict[int, Future[LineReading]],
        progress: Callable[[float], None],
    ) -> list[LineReading]:
        """One reading per region."""
        todo = longest_first(regions, begun.keys())
        begun |= run.start(lambda n: self._read_region(run, pixels, regions[n]), todo)
        for done, _ in enumerate(run.each(begun.values()), start=1):
            if pixels.nbytes > HUGE_PAGE:
                drop_from_memory(pixels)
            progress(done / len(begun))
        readings = [begun[n].result() for n in range(len(regions))]
        stacked = [
            n
            for n, region in enumerate(regions)
            if self._steps.laid_flat and region.tall and is_stacked(readings[n].text)
        ]
        for n, reading in zip(
            stacked, run.all(lambda n: self._read_column(run, pixels, regions[n], readings[n]), stacked), strict=True
        ):
            readings[n] = reading
        return readings

    def _read_column(self, run: ModelRun, pixels: Pixels, region: Region, sideways: LineReading) -> LineReading:
        """A vertical line once more, its characters laid side by side; the better reading, or the best of both."""
        column = crop_region(pixels, region, tall=False)
        ends = cell_ends(column, sideways.centres)
        if len(ends) < 2:
            return sideways
        laid = self._read_crop(run, laid_flat(column, ends))
        if laid.score < sideways.score - BETTER_BY:
            return sideways
        middles = [(a + b) / 2 / len(column) for a, b in pairwise((0, *ends))]
        centres = tuple(middles[min(len(middles) - 1, int(centre * len(middles)))] for centre in laid.centres)
        return combine_readings(replace(laid, centres=centres), sideways)

    def _read_region(self, run: ModelRun, pixels: Pixels, region: Region) -> LineReading:
        """A line; a short upright one may as well be one narrow character, such as 1: the better reading."""
        roomy = region.thicker(ROOM) if self._steps.roomy else region
        reading = self._read_crop(run, crop_region(pixels, roomy, tall=region.tall))
        if self._steps.both_ways and region.tall and region.length < LONG * region.thickness:
            return max(reading, self._read_crop(run, crop_region(pixels, roomy, tall=False)), key=lambda r: r.score)
        return reading

    def _read_crop(self, run: ModelRun, crop: Pixels) -> LineReading:
        """Greedy CTC: the best character of each step, repetitions and blanks (0) dropped."""
        height, width = crop.shape[:2]
        wide = min(MAX_LINE_WIDTH, max(LINE_STRIDE, math.ceil(LINE_HEIGHT * width / height)))
        way = cv2.INTER_AREA if height > 2 * LINE_HEIGHT else cv2.INTER_LINEAR
        line = cv2.resize(crop, (wide, LINE_HEIGHT), interpolation=way)
        begin, end = inked_columns(line) if self._steps.trimmed else (0, wide)
        tensor = as_input(line[:, begin:end], round_up(end - begin, LINE_STRIDE))
        steps = run.model(self._recogniser, tensor)[0]
        best = steps.argmax(axis=1)
        kept = best != 0
        kept[1:] &= best[1:] != best[:-1]
        at = np.flatnonzero(kept)
        if not len(at):
            return NOTHING
        score = float(steps[at, best[at]].mean())
        chars, places = [self._alphabet[code] for code in best[at]], [float(step) for step in at]
        if self._steps.spaces:
            chars, places = with_spaces(chars, places)
        text = "".join(chars)
        centres = tuple(min(1.0, (begin + (step + 0.5) * LINE_STRIDE) / wide) for step in places)
        return LineReading(text, score, centres)

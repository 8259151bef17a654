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
import os
import statistics
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from ..errors import EngineUnavailable, UnsupportedMode
from ..modes import RESOLUTIONS
from ..results.find import find_term
from ..results.reading_order import (
    NO_SPACES,
    TextLine,
    arrange,
    cut,
    rows_around,
    split_at_gutters,
    to_markdown,
    to_text,
    whole,
)
from .base import Call, PageImage, PageText, ReadOptions, TextBlock
from .cores import usable_cores
from .onnx_weights import without_subnormals
from .scripts import seems_unread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .tesseract import Rereading

    Pixels = NDArray[np.uint8]

__all__ = ["RapidOcrEngine", "Steps"]

S = TypeVar("S")
T = TypeVar("T")

MODES: Final = frozenset({"document", "ocr", "free", "find"})
HUGE_PAGE: Final = 64 << 20  # bytes; above it a page is never held in memory as a whole
BAND: Final = 64  # rows of a reduced page that are made at a time
POLL_S: Final = 0.1  # how often a waiting call asks whether it is cancelled
DET_SHARE: Final = 0.2  # of a page's time goes into detection, roughly

# Detection. Thresholds are those of rapidocr's config.yaml (section Det).
DET_LONG_SIDE: Final = 1600  # pixels; larger costs by its square and finds no more (1600 = 2000 = 3500)
DET_SHORT_SIDE: Final = 544  # pixels; smaller pictures are enlarged to this (736 and 480 find as much)
ENLARGED_FROM: Final = 1.25  # times; to enlarge by less costs half as much again and finds nothing more
TILE_PIXELS: Final = 1600 * 512  # that the detector sees at once: its memory grows with their number
DET_MULTIPLE: Final = 32  # the model halves its input five times
DET_MARGIN: Final = 24  # pixels kept around the part of the page that is not flat
CALM_ROWS: Final = 5  # pixels without an edge: white between lines, where a page can be cut
CALM_COLUMNS: Final = 15  # the same between columns: wider than the white between words
CUT_WITHIN: Final = 0.25  # of a side: how far from where it is due a cut may be
DET_OVERLAP: Final = 96  # pixels that tiles share where no cut is calm, more than a line is high
UNCUT_WIDTH: Final = 1600  # pixels; only what is wider is cut through its lines
SMALL_TEXT: Final = 14.0  # pixels at detection scale; below it, lines blur into each other
GOOD_TEXT: Final = 24.0  # pixels; the scale of the second look at a page of small text
MASK_THRESHOLD: Final = 0.3
REGION_THRESHOLD: Final = 0.5
UNCLIP_RATIO: Final = 1.6
MIN_SIDE: Final = 3  # pixels at detection scale; less is a speck
FLAT_CONTRAST: Final = 16  # of 255; a part of the page without steeper edges holds no text

# Recognition.
LINE_HEIGHT: Final = 48  # pixels, fixed by the model
LINE_STRIDE: Final = 8  # pixels of a line per step of the output
LINE_EDGE: Final = 6  # pixels above and below in which there may be ink of other lines
LINE_MARGIN: Final = 3  # pixels of white that are kept at the ends of a line; 2 lose a character in a thousand
ROOM: Final = 1.12  # times its thickness is a region cropped: fewer pixels to read; from 1.15 on, worn print suffers
MAX_LINE_WIDTH: Final = 4800  # pixels; longer lines are squeezed, memory follows the longest
MIN_SCORE: Final = 0.5  # below it a line is noise (rapidocr: text_score)
DROPPED_STOP: Final = 1.9  # times the usual advance after a full stop or comma: there was a space
DROPPED_SENTENCE: Final = 1.25  # the same where a capital follows a small letter and a stop
DROPPED_SPACE: Final = 3.2  # the same between letters, where m and w are wide themselves
CJK_FROM: Final = "\u2e80"  # scripts from here on are written without spaces
TALL: Final = 1.5  # height over width of a region whose text runs downwards
SAME_ROW: Final = 0.3  # of a region's height: how far the middles of two words of a line may be from each other
LIKE_HEIGHT: Final = 1.7  # times: how much higher a word of the same line may be
JOIN_GAP: Final = 0.0  # of the height: white between two words of a line, beyond the margins around them
JOIN_DEG: Final = 2.0  # of tilt: how much two words of a line may differ
MARGIN: Final = 0.17  # of a region's height: what detection adds around the ink on each side
STRAIGHT_DEG: Final = 0.5  # tilt that a crop along the axes still forgives

# Vertical lines: the model reads them lying on their side, and loses small characters and punctuation.
PITCH_SLACK: Final = 0.2  # of the distance between characters: how wrong a first guess may be
PITCH_STEPS: Final = 41
CUT_SLACK: Final = 0.15  # of the same: how far the white between two characters may be from where it is due
CORNER: Final = 0.6  # of a cell's sides: ink that stays within it is a comma or a full stop
ALIKE_ON_ITS_SIDE: Final = frozenset("ー―—–-…‥~〜:：;；|丨「」『』（）()〈〉《》【】〔〕[]{}")
"""Characters that are turned with a vertical line: what lies on its side shows them as they are."""

SNAP: Final = 0.3  # of a line's height: how far the end of a word may be from where it was placed
INK_SHARE: Final = 0.4  # of the strongest contrast in a word: a column of pixels with that much is ink
FAINT_INK: Final = 0.25  # of the same: a column with less is white

# Orientation.
LONG: Final = 3.0  # lengths over thickness of a line that tells which way a page lies: several letters
SAMPLE_LINES: Final = 4
SAMPLE_LENGTH: Final = 12.0  # lengths over thickness that are enough; longer lines tell no more
SURE_SCORE: Final = 0.85  # upright lines score about 0.98, lines on their head or side about 0.7
BETTER_BY: Final = 0.08


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


@dataclass(frozen=True, slots=True)
class _Region:
    """A place where text was detected: a rectangle turned by `angle` degrees, at most 45 either way."""

    x: float
    y: float
    width: float
    height: float
    angle: float

    @property
    def tall(self) -> bool:
        return self.height >= TALL * self.width

    @property
    def length(self) -> float:
        return max(self.width, self.height)

    @property
    def thickness(self) -> float:
        return min(self.width, self.height)

    def thicker(self, times: float) -> _Region:
        """With so much more of what is above and below its line."""
        return replace(self, width=times * self.width) if self.tall else replace(self, height=times * self.height)

    def turned(self, quarters: int, width: float, height: float) -> _Region:
        """Where this is after `np.rot90(page, quarters)` of a page of that size."""
        if quarters == 0:
            return self
        if quarters == 2:
            return replace(self, x=width - self.x, y=height - self.y)
        x, y = (self.y, width - self.x) if quarters == 1 else (height - self.y, self.x)
        return replace(self, x=x, y=y, width=self.height, height=self.width)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the recogniser made of one crop. `centres` are fractions of the crop's length."""

    text: str
    score: float
    centres: tuple[float, ...]


NOTHING: Final = _Reading("", 0.0, ())


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
        # numpy multiplies no matrices here: starting the threads of its BLAS would double the time of its import.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        folder = _model_folder()
        detector, recogniser = _model_file(folder, "det"), _model_file(folder, "rec")
        _share_arena()  # imports onnxruntime and numpy, which two threads must not do at once
        pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="ocr")
        # Lines go to the recogniser one by one, several at once: a batch would pad all to the longest.
        loading = pool.submit(_session, str(recogniser), 1)
        model = without_subnormals(detector) if self._steps.normal_weights else str(detector)
        self._detector = _session(model, usable_cores())
        self._recogniser = loading.result()
        characters = self._recogniser.get_modelmeta().custom_metadata_map["character"].splitlines()
        self._alphabet = ["", *characters, " "]
        family, _, size = detector.stem.replace("_det_", " ").partition(" ")
        self._model = f"{family} {size} (rapidocr {_release(folder)})"
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
        import numpy as np

        if self._pool is None:
            raise RuntimeError("read() before load()")
        pixels: Pixels = np.memmap(page.path, np.uint8, "r", shape=(page.height, page.width, 3))
        longest = RESOLUTIONS[options.resolution]
        if longest is not None and longest < max(page.width, page.height):
            pixels = _resized(pixels, longest / max(page.width, page.height))
        with _Run(self._pool, call) as run:
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
            sheet = _Sheet(page, turned, quarters, list(again.lines), list(again.inks), self._steps)
            return sheet.found(options.find_term) if options.mode == "find" else sheet.written(options.mode)
        least = MIN_SCORE if self._steps.noise_dropped else 0.0
        kept = [n for n, reading in enumerate(readings) if reading.score >= least and reading.text.strip()]
        regions, readings = [regions[n] for n in kept], [readings[n] for n in kept]
        found = self._straightened(regions, readings, upright)
        pieces = split_at_gutters(found) if self._steps.gutters else [whole(n, line) for n, line in enumerate(found)]
        sheet = _Sheet(
            page,
            upright,
            quarters,
            [cut(found[piece.line], piece) for piece in pieces],
            [_slice(_inset(regions[piece.line]), piece.begin, piece.end) for piece in pieces],
            self._steps,
        )
        text = sheet.found(options.find_term) if options.mode == "find" else sheet.written(options.mode)
        return text if again is None else replace(text, remark=again.remark)

    def _read_again(self, upright: Pixels, lines: Sequence[TextLine], call: Call) -> Rereading | None:
        """What Tesseract says of a page that these models could not read; None for one that they could."""
        script = seems_unread(lines) if self._steps.other_scripts else None
        if script is None:
            return None
        from .tesseract import reread  # which builds on this module

        return reread(upright, script, call)

    def _straightened(
        self, regions: Sequence[_Region], readings: Sequence[_Reading], upright: Pixels
    ) -> list[TextLine]:
        tilt = _skew(regions) if self._steps.straightened else 0.0
        return _straightened(regions, readings, tilt, upright.shape[1], upright.shape[0])

    # ------------------------------------------------------------ detection

    def _detect(self, run: _Run, pixels: Pixels, quarters: int = 0) -> list[_Region]:
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

    def _detect_at(self, run: _Run, pixels: Pixels, quarters: int, scale: float) -> list[_Region]:
        import cv2
        import numpy as np

        small = np.ascontiguousarray(np.rot90(_resized(pixels, scale), quarters))
        height, width = np.rot90(pixels, quarters).shape[:2]
        likely = np.zeros(small.shape[:2], np.uint8)  # 255 times the probability of text
        flat = FLAT_CONTRAST if self._steps.flat_skipped else 0
        for left, top, right, bottom in _tiles(small, flat, calm_cuts=self._steps.calm_cuts):
            tile = small[top:bottom, left:right]
            padded = cv2.copyMakeBorder(
                tile,
                0,
                -tile.shape[0] % DET_MULTIPLE,
                0,
                -tile.shape[1] % DET_MULTIPLE,
                cv2.BORDER_REPLICATE,
            )
            [output] = run.all(lambda tensor: run.model(self._detector, tensor), [_as_input(padded, padded.shape[1])])
            found = (output[0, 0, : tile.shape[0], : tile.shape[1]] * 255).astype(np.uint8)
            part = likely[top:bottom, left:right]
            np.maximum(part, found, out=part)
        regions = _regions(likely, width / small.shape[1], height / small.shape[0])
        return _joined(regions) if self._steps.words_joined else regions

    # ------------------------------------------------------------ orientation

    def _upright(
        self, run: _Run, pixels: Pixels, regions: list[_Region]
    ) -> tuple[int, list[_Region], dict[int, Future[_Reading]]]:
        """How often `np.rot90` brings the page upright, its regions then, and the lines of which reading has begun."""
        import numpy as np

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

        def attempt(quarters: int) -> tuple[float, int, list[_Region], dict[int, Future[_Reading]]]:
            turned = [region.turned(quarters, width, height) for region in regions]
            page = np.rot90(pixels, quarters)
            # Most pages lie as they should: the other lines keep the threads busy while the last of the sample is read.
            others = [] if quarters else _longest_first(regions, set(sample))
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
        self, run: _Run, pixels: Pixels, regions: list[_Region], read: dict[int, Future[_Reading]]
    ) -> bool:
        """Whether the characters of tall lines stand upright: vertical text, not a page on its side."""
        expected, crops = [], []
        for n, future in read.items():
            region, reading = regions[n], future.result()
            for char, centre in list(zip(reading.text, reading.centres, strict=True))[:4]:
                y = region.y + (centre - 0.5) * region.height
                expected.append(char)
                crops.append(_crop(pixels, replace(region, y=y, height=1.1 * region.width)))
        readings = run.all(lambda crop: self._read_crop(run, crop), crops)
        hits = sum(char in reading.text for char, reading in zip(expected, readings, strict=True))
        return hits > len(expected) / 2

    # ------------------------------------------------------------ recognition

    def _recognise(
        self,
        run: _Run,
        pixels: Pixels,
        regions: list[_Region],
        begun: dict[int, Future[_Reading]],
        progress: Callable[[float], None],
    ) -> list[_Reading]:
        """One reading per region."""
        todo = _longest_first(regions, begun.keys())
        begun |= run.start(lambda n: self._read_region(run, pixels, regions[n]), todo)
        for done, _ in enumerate(run.each(begun.values()), start=1):
            if pixels.nbytes > HUGE_PAGE:
                _forget(pixels)
            progress(done / len(begun))
        readings = [begun[n].result() for n in range(len(regions))]
        stacked = [
            n
            for n, region in enumerate(regions)
            if self._steps.laid_flat and region.tall and _is_stacked(readings[n].text)
        ]
        for n, reading in zip(
            stacked, run.all(lambda n: self._read_column(run, pixels, regions[n], readings[n]), stacked), strict=True
        ):
            readings[n] = reading
        return readings

    def _read_column(self, run: _Run, pixels: Pixels, region: _Region, sideways: _Reading) -> _Reading:
        """A vertical line once more, its characters laid side by side; the better reading, or the best of both."""
        column = _crop(pixels, region, tall=False)
        ends = _cell_ends(column, sideways.centres)
        if len(ends) < 2:
            return sideways
        laid = self._read_crop(run, _laid_flat(column, ends))
        if laid.score < sideways.score - BETTER_BY:
            return sideways
        middles = [(a + b) / 2 / len(column) for a, b in pairwise((0, *ends))]
        centres = tuple(middles[min(len(middles) - 1, int(centre * len(middles)))] for centre in laid.centres)
        return _combined(replace(laid, centres=centres), sideways)

    def _read_region(self, run: _Run, pixels: Pixels, region: _Region) -> _Reading:
        """A line; a short upright one may as well be one narrow character, such as 1: the better reading."""
        roomy = region.thicker(ROOM) if self._steps.roomy else region
        reading = self._read_crop(run, _crop(pixels, roomy, tall=region.tall))
        if self._steps.both_ways and region.tall and region.length < LONG * region.thickness:
            return max(reading, self._read_crop(run, _crop(pixels, roomy, tall=False)), key=lambda r: r.score)
        return reading

    def _read_crop(self, run: _Run, crop: Pixels) -> _Reading:
        """Greedy CTC: the best character of each step, repetitions and blanks (0) dropped."""
        import cv2
        import numpy as np

        height, width = crop.shape[:2]
        wide = min(MAX_LINE_WIDTH, max(LINE_STRIDE, math.ceil(LINE_HEIGHT * width / height)))
        way = cv2.INTER_AREA if height > 2 * LINE_HEIGHT else cv2.INTER_LINEAR
        line = cv2.resize(crop, (wide, LINE_HEIGHT), interpolation=way)
        begin, end = _inked(line) if self._steps.trimmed else (0, wide)
        tensor = _as_input(line[:, begin:end], _up(end - begin, LINE_STRIDE))
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
            chars, places = _with_spaces(chars, places)
        text = "".join(chars)
        centres = tuple(min(1.0, (begin + (step + 0.5) * LINE_STRIDE) / wide) for step in places)
        return _Reading(text, score, centres)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A page that has been read: its upright pixels, its lines, and where the ink of each line is."""

    page: PageImage
    upright: Pixels
    quarters: int
    lines: list[TextLine]
    inks: list[_Region]
    steps: Steps = ALL_STEPS

    def written(self, mode: str) -> PageText:
        """The whole page, one block per line in reading order."""
        elements = arrange(self.lines, columns=self.steps.columns, tables=self.steps.tables)
        text = to_markdown(self.lines, elements) if mode == "document" else to_text(self.lines, elements)
        blocks = [
            self._block(element.kind if mode == "document" else "line", self.lines[i].text.strip(), i, self.inks[i])
            for element in elements
            for i in element.lines
        ]
        return PageText(text, tuple(blocks))

    def found(self, term: str) -> PageText:
        """One block for each part of a hit in a line; as text, the rows of the page that the hits stand in.

        Whole rows, because the amount that belongs to "Total" is a line of its own at the other edge.
        """
        elements = arrange(self.lines)
        hits = find_term(self.lines, term, [i for element in elements for i in element.lines])
        blocks = []
        for span in (span for hit in hits for span in hit.spans):
            ink = _drawn_in(self.upright, self.inks[span.line], span.begin, span.end)
            words = self.lines[span.line].text[span.start : span.stop]
            blocks.append(self._block(term, words, span.line, ink))
        around = rows_around(self.lines, elements, [[span.line for span in hit.spans] for hit in hits])
        return PageText(around, tuple(blocks))

    def _block(self, label: str, text: str, line: int, ink: _Region) -> TextBlock:
        height, width = self.upright.shape[:2]
        box = _bounds(ink.turned(-self.quarters % 4, width, height), max(width, height), self.page)
        return TextBlock(label, text, box, round(self.lines[line].score, 3))


class _Run:
    """The model runs of one page, shared out over the pool. None outlives the context."""

    def __init__(self, pool: ThreadPoolExecutor, call: Call) -> None:
        import onnxruntime

        self._pool = pool
        self._call = call
        self._options = onnxruntime.RunOptions()
        self._started: list[Future[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._options.terminate = True
        for future in self._started:
            future.cancel()
        wait(self._started)

    def model(self, session: Any, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """The first output of `session`. For use inside `start` and `all`."""
        output: NDArray[np.float32] = session.run(None, {"x": tensor}, self._options)[0]
        return output

    def start(self, work: Callable[[S], T], items: Iterable[S]) -> dict[S, Future[T]]:
        """Begin `work(item)` for all items, in their order."""
        futures = {item: self._pool.submit(work, item) for item in items}
        self._started += futures.values()
        return futures

    def each(self, futures: Iterable[Future[T]]) -> Iterator[T]:
        """Their results, in the order in which they are done.

        Raises:
            Cancelled: nobody waits for this page any more.
        """
        waiting = list(futures)
        done: SimpleQueue[Future[T]] = SimpleQueue()
        for future in waiting:  # `wait` would look at all that are left each time that one is done
            future.add_done_callback(done.put)
        left = len(waiting)
        while left:
            self._call.raise_if_cancelled()
            try:
                future = done.get(timeout=POLL_S)
            except Empty:
                continue
            left -= 1
            yield future.result()

    def all(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """`work(item)` for all items, in their order."""
        futures = self.start(lambda n: work(items[n]), range(len(items))).values()
        for _ in self.each(futures):
            pass
        return [future.result() for future in futures]


def _longest_first(regions: Sequence[_Region], without: Container[int]) -> list[int]:
    """The numbers of the regions, in an order in which no thread is left with a long one at the end."""
    numbers = [n for n in range(len(regions)) if n not in without]
    return sorted(numbers, key=lambda n: -regions[n].length / regions[n].thickness)


def _is_stacked(text: str) -> bool:
    """Whether a tall line is likely to be characters set under each other: those of Latin script are turned."""
    return len(text) > 1 and 2 * len(NO_SPACES.findall(text)) >= len(text)


def _combined(laid: _Reading, sideways: _Reading) -> _Reading:
    """The characters laid flat, but those that are turned with the line as they look when it lies on its side."""
    from difflib import SequenceMatcher

    text = ""
    centres: list[float] = []
    for kind, a, b, c, d in SequenceMatcher(None, laid.text, sideways.text, autojunk=False).get_opcodes():
        source, begin, end = laid, a, b
        if kind != "equal" and d > c and ALIKE_ON_ITS_SIDE.issuperset(sideways.text[c:d]):
            source, begin, end = sideways, c, d
        text += source.text[begin:end]
        centres += source.centres[begin:end]
    return _Reading(text, laid.score, tuple(centres))


def _with_spaces(chars: list[str], steps: list[float]) -> tuple[list[str], list[float]]:
    """The characters and their steps, with the spaces that the model dropped where it left room for one."""
    gaps = [b - a for n, (a, b) in enumerate(pairwise(steps)) if not chars[n].isspace() and not chars[n + 1].isspace()]
    pitch = statistics.median(gaps) if gaps else 0
    text, places = chars[:1], steps[:1]
    for n, (a, b) in enumerate(pairwise(steps), start=1):
        before, char = chars[n - 1], chars[n]
        if before not in ".,;:!?":
            needs = DROPPED_SPACE if before.isalpha() else math.inf
        elif char.isupper() and n > 1 and chars[n - 2].islower():
            needs = DROPPED_SENTENCE
        else:
            needs = DROPPED_STOP
        if char.isalpha() and max(before, char) < CJK_FROM and b - a >= needs * pitch > 0:
            text.append(" ")
            places.append((a + b) / 2)
        text.append(char)
        places.append(b)
    return text, places


# ---------------------------------------------------------------- models and processors


def _model_folder() -> Path:
    missing = [name for name in ("rapidocr", "onnxruntime", "cv2", "numpy") if find_spec(name) is None]
    spec = find_spec("rapidocr")
    if missing or spec is None or spec.origin is None:
        raise EngineUnavailable(
            f"The rapidocr engine needs packages that are not installed: {', '.join(missing)}.",
            remedy="Run: pip install rapidocr onnxruntime opencv-python-headless",
        )
    return Path(spec.origin).parent / "models"  # found without importing it: that would cost half a second


def _model_file(folder: Path, part: str) -> Path:
    found = sorted(folder.glob(f"PP-OCR*_{part}_*.onnx"))
    if not found:
        raise EngineUnavailable(
            f"The rapidocr package holds no PP-OCR_{part} model in {folder}.",
            remedy="Run: pip install --force-reinstall 'rapidocr>=3.10,<4'",
        )
    return found[-1]


def _release(folder: Path) -> str:
    """Which release of rapidocr this is, by the name of its metadata: `importlib.metadata` takes 15 ms to import."""
    found = [path.name for path in folder.parents[1].glob("rapidocr-*.dist-info")]
    return found[0].removesuffix(".dist-info").rpartition("-")[2] if found else "of unknown release"


@cache
def _share_arena() -> None:
    """One arena for all sessions of this process: the recogniser uses the memory that the detector gave back.

    With an arena for each, a page takes a third more memory; without any, reading takes a tenth more time.
    """
    import onnxruntime

    cpu = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(cpu, None)


def _session(model: str | bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only: stopping a run on purpose is logged as an error
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.use_env_allocators", "1")  # see `_share_arena`
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads sleep
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


# ---------------------------------------------------------------- pixels


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _resized(pixels: Pixels, scale: float) -> Pixels:
    """The page, each side `scale` times as long.

    A huge page is first reduced by a whole number, band by band, and the bands already done are
    dropped from memory: the file holds them still.
    """
    import cv2
    import numpy as np

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
            _forget(pixels)
        pixels = reduced
    resized: Pixels = cv2.resize(pixels, size, interpolation=way)
    return resized


def _forget(pixels: Pixels) -> None:
    """Drop what was read of a mapped file; touching it again reads it again."""
    import mmap

    if isinstance(mapped := getattr(pixels, "_mmap", None), mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _as_input(pixels: Pixels, width: int) -> NDArray[np.float32]:
    """RGB pixels as both models want them: `1 * 3 * height * width`, BGR, -1 to 1, zeros on the right."""
    import numpy as np

    tensor = np.zeros((1, 3, pixels.shape[0], width), np.float32)
    inside = tensor[0, :, :, : pixels.shape[1]]
    np.multiply(pixels[:, :, ::-1].transpose(2, 0, 1), np.float32(1 / 127.5), out=inside)
    inside -= 1
    return tensor


def _tiles(pixels: Pixels, flat: int, *, calm_cuts: bool) -> Iterator[tuple[int, int, int, int]]:
    """`(left, top, right, bottom)` of tiles that cover every part with edges of at least `flat`.

    A part that is too large for the detector is cut in two, and its parts again: between lines, else between
    columns, else with an overlap that holds a line. What both parts share is this overlap, or the white between them.
    """
    import cv2
    import numpy as np

    red, green, blue = cv2.split(cv2.morphologyEx(pixels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))
    edges = cv2.max(cv2.max(red, green), blue)
    parts = [(0, 0, pixels.shape[1], pixels.shape[0])]
    while parts:
        left, top, right, bottom = parts.pop()
        columns, rows = (
            cv2.reduce(edges[top:bottom, left:right], axis, cv2.REDUCE_MAX).ravel() >= flat for axis in (0, 1)
        )
        if not rows.any():
            continue
        (x1, x2), (y1, y2) = _extent(columns), _extent(rows)
        columns, rows = columns[x1:x2], rows[y1:y2]
        left, top, right, bottom = left + x1, top + y1, left + x2, top + y2
        if (right - left) * (bottom - top) <= TILE_PIXELS:
            yield left, top, right, bottom
            continue
        below, (begin, end) = _cut(rows, columns, calm_cuts)
        if below:
            parts += [(left, top + begin, right, bottom), (left, top, right, top + end)]
        else:
            parts += [(left + begin, top, right, bottom), (left, top, left + end, bottom)]


def _extent(busy: NDArray[np.bool_]) -> tuple[int, int]:
    """The first and the last place (plus one) that is busy, and a margin where there is room for one."""
    import numpy as np

    places = np.flatnonzero(busy)
    return max(0, int(places[0]) - DET_MARGIN), min(len(busy), int(places[-1]) + 1 + DET_MARGIN)


def _cut(rows: NDArray[np.bool_], columns: NDArray[np.bool_], calm_cuts: bool) -> tuple[bool, tuple[int, int]]:
    """How to cut a part: whether below a row (else beside a column), and begin and end of what both its parts share."""
    width, height = len(columns), len(rows)
    tiles = math.ceil(width * height / TILE_PIXELS)
    due = (tiles // 2) / tiles
    if calm_cuts and (band := _calm_band(rows, due, CALM_ROWS)):
        return True, band
    if calm_cuts and (band := _calm_band(columns, due, CALM_COLUMNS)):
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
    import numpy as np

    bands = np.flatnonzero(np.diff(busy, prepend=True, append=True)).reshape(-1, 2)
    bands = bands[bands[:, 1] - bands[:, 0] >= least]
    off = np.abs(bands.mean(axis=1) / len(busy) - due)
    if not len(off) or off.min() > CUT_WITHIN:
        return None
    begin, end = bands[off.argmin()]
    return int(begin), int(end)


def _regions(likely: NDArray[np.uint8], scale_x: float, scale_y: float) -> list[_Region]:
    """The regions in a map of 255 times the probability of text, scaled to page pixels.

    The method and its constants are rapidocr's (DBPostProcess); the offset of a rectangle's outline
    is a larger rectangle, which needs no polygon library.
    """
    import cv2
    import numpy as np

    height, width = likely.shape
    mask = cv2.dilate((likely > 255 * MASK_THRESHOLD).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    regions = []
    for contour in contours:
        (x, y), (w, h), angle = cv2.minAreaRect(contour)
        if min(w, h) < MIN_SIDE:
            continue
        corners = cv2.boxPoints(((x, y), (w, h), angle))
        left, top = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, (width - 1, height - 1))
        right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int), 0, (width - 1, height - 1))
        inside = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
        cv2.fillPoly(inside, [(corners - (left, top)).astype(np.int32)], 1)
        if cv2.mean(likely[top : bottom + 1, left : right + 1], inside)[0] < 255 * REGION_THRESHOLD:
            continue
        grown = w * h * UNCLIP_RATIO / (w + h)  # both sides: twice area * ratio / perimeter
        w, h = w + grown, h + grown
        if min(w, h) < MIN_SIDE + 2:
            continue
        while angle > 45:
            angle, w, h = angle - 90, h, w
        while angle <= -45:
            angle, w, h = angle + 90, h, w
        regions.append(_Region(x * scale_x, y * scale_y, w * scale_x, h * scale_y, angle))
    return regions


def _joined(regions: list[_Region]) -> list[_Region]:
    """The regions, neighbouring words of a line made one where the margins around them run into each other.

    A word alone is read worse: a small s looks like a large one.
    """
    joined: list[_Region] = []
    by_row = sorted(regions, key=lambda region: (region.y, region.x))
    for region in by_row:
        near = [n for n, other in enumerate(joined) if other.y >= region.y - region.height and _touch(other, region)]
        for n in reversed(near):
            region = _union(joined.pop(n), region)
        joined.append(region)
    return joined


def _touch(a: _Region, b: _Region) -> bool:
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


def _union(a: _Region, b: _Region) -> _Region:
    """The region around two words of a line."""
    longer = max(a, b, key=lambda region: region.width)
    tilt = math.radians(longer.angle)
    cos, sin = math.cos(tilt), math.sin(tilt)
    spans = [(r.x * cos + r.y * sin, r.y * cos - r.x * sin, r.width / 2, r.height / 2) for r in (a, b)]
    left, right = min(u - w for u, _, w, _ in spans), max(u + w for u, _, w, _ in spans)
    top, bottom = min(v - h for _, v, _, h in spans), max(v + h for _, v, _, h in spans)
    u, v = (left + right) / 2, (top + bottom) / 2
    return _Region(u * cos - v * sin, u * sin + v * cos, right - left, bottom - top, longer.angle)


def _crop(pixels: Pixels, region: _Region, *, tall: bool | None = None) -> Pixels:
    """The region's pixels, turned so that its text runs to the right. At least one pixel each way."""
    import cv2
    import numpy as np

    height, width = pixels.shape[:2]
    left, top, right, bottom = _outline(region)
    x1, y1 = min(max(0, math.floor(left)), width - 1), min(max(0, math.floor(top)), height - 1)
    x2, y2 = max(x1 + 1, min(width, math.ceil(right))), max(y1 + 1, min(height, math.ceil(bottom)))
    crop: Pixels = np.ascontiguousarray(pixels[y1:y2, x1:x2])
    if abs(region.angle) >= STRAIGHT_DEG:
        size = (max(1, round(region.width)), max(1, round(region.height)))
        turn = cv2.getRotationMatrix2D((region.x - x1, region.y - y1), region.angle, 1)
        turn[:, 2] += (size[0] / 2 - (region.x - x1), size[1] / 2 - (region.y - y1))
        crop = cv2.warpAffine(crop, turn, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    downwards = region.tall if tall is None else tall
    return np.ascontiguousarray(np.rot90(crop)) if downwards else crop


def _inked(line: Pixels) -> tuple[int, int]:
    """The first and the last column (plus one) of a line that the model has to see: whole steps, where there is room.

    Rows at the edges do not count: neighbouring lines reach into them.
    """
    import numpy as np

    contrast = _contrast(line[LINE_EDGE:-LINE_EDGE])
    inked = np.flatnonzero(contrast > FAINT_INK * contrast.max())
    if not len(inked):
        return 0, len(contrast)
    begin, end = int(inked[0]) - LINE_MARGIN, int(inked[-1]) + 1 + LINE_MARGIN
    begin -= -(end - begin) % LINE_STRIDE // 2
    end += -(end - begin) % LINE_STRIDE
    return max(0, begin), min(len(contrast), end)


def _contrast(pixels: Pixels) -> NDArray[np.uint8]:
    """How far the pixels of each column are apart, in the colour that shows it best."""
    contrast: NDArray[np.uint8] = (pixels.max(axis=0) - pixels.min(axis=0)).max(axis=1)
    return contrast


def _cell_ends(column: Pixels, centres: Sequence[float]) -> list[int]:
    """Where each character of a vertical line ends, in rows of its picture.

    `centres` are those of the characters that were read with the line on its side: some are missing, and they are
    not exact. The characters of a line are equally far from each other: the distance is the one whose cuts meet
    least ink; then each cut goes to the whitest row nearby.
    """
    import numpy as np

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
    import numpy as np

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


# ---------------------------------------------------------------- geometry


def _outline(region: _Region) -> tuple[float, float, float, float]:
    """The upright rectangle around the region; one that is hardly tilted keeps its own size."""
    w, h = region.width, region.height
    if abs(region.angle) >= STRAIGHT_DEG:
        cos, sin = abs(math.cos(math.radians(region.angle))), abs(math.sin(math.radians(region.angle)))
        w, h = w * cos + h * sin, w * sin + h * cos
    return region.x - w / 2, region.y - h / 2, region.x + w / 2, region.y + h / 2


def _inset(region: _Region) -> _Region:
    """The region without the margin that detection adds: the ink."""
    margin = 2 * MARGIN * region.thickness
    return replace(region, width=region.width - margin, height=region.height - margin)


def _bounds(region: _Region, longest: int, page: PageImage) -> tuple[int, int, int, int]:
    """The region's box in whole pixels of the page, not empty and inside it.

    `longest` is the longest side of the picture that the region is in, in its pixels.
    """
    scale = max(page.width, page.height) / longest
    left, top, right, bottom = _outline(region)
    x1 = min(max(0, round(left * scale)), page.width - 1)
    y1 = min(max(0, round(top * scale)), page.height - 1)
    return (
        x1,
        y1,
        max(x1 + 1, min(page.width, round(right * scale))),
        max(y1 + 1, min(page.height, round(bottom * scale))),
    )


def _straightened(
    regions: Sequence[_Region], readings: Sequence[_Reading], tilt: float, width: int, height: int
) -> list[TextLine]:
    """The lines as they would stand on a page that is not tilted."""
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    lines = []
    for region, reading in zip(regions, readings, strict=True):
        dx, dy = region.x - width / 2, region.y - height / 2
        x, y = width / 2 + dx * cos + dy * sin, height / 2 - dx * sin + dy * cos
        ink = _inset(region)
        share = region.length / ink.length
        centres = tuple(min(1.0, max(0.0, 0.5 + (centre - 0.5) * share)) for centre in reading.centres)
        box = _outline(replace(ink, x=x, y=y, angle=region.angle - tilt))
        lines.append(TextLine(reading.text, box, reading.score, centres, region.tall))
    return lines


def _skew(regions: Sequence[_Region]) -> float:
    """Degrees by which the page is tilted: the middle tilt of its lines, long ones counting more."""
    tilts = sorted((region.angle, region.length) for region in regions if region.length > 4 * region.thickness)
    half = sum(length for _, length in tilts) / 2
    for tilt, length in tilts:
        half -= length
        if half <= 0:
            return tilt
    return 0.0


def _slice(region: _Region, begin: float, end: float) -> _Region:
    """The part of a region between two fractions of its length."""
    shift, length = ((begin + end) / 2 - 0.5) * region.length, max(1.0, (end - begin) * region.length)
    cos, sin = math.cos(math.radians(region.angle)), math.sin(math.radians(region.angle))
    if region.tall:
        return replace(region, x=region.x - shift * sin, y=region.y + shift * cos, height=length)
    return replace(region, x=region.x + shift * cos, y=region.y + shift * sin, width=length)


def _drawn_in(pixels: Pixels, ink: _Region, begin: float, end: float) -> _Region:
    """The part of a line between two fractions of its length, drawn in to the ink that is there.

    The fractions come from the recogniser, which places a character to a quarter of a line's
    height. Each end goes to the white nearest to it first, so that no letter is cut.
    """
    import numpy as np

    reach = SNAP * ink.thickness / ink.length
    first, last = begin - reach, end + reach
    contrast = _contrast(_crop(pixels, _slice(ink, first, last), tall=ink.tall))
    if (count := len(contrast)) < 3 or not contrast.any():
        return _slice(ink, max(0.0, begin), min(1.0, end))
    inked = contrast > INK_SHARE * contrast.max()
    window = max(1, round(2 * reach / (last - first) * count))  # `reach` to either side of the end
    away = np.abs(np.arange(window) - window / 2) / window
    left = int((inked[:window] + away).argmin())
    right = count - 1 - int((inked[::-1][:window] + away).argmin())
    inside = left + np.flatnonzero(inked[left : right + 1])
    if len(inside):
        left, right = int(inside[0]), int(inside[-1])
    step = (last - first) / count
    return _slice(ink, first + left * step, first + (right + 1) * step)

"""Measures which characters of a page a person sees: the page is drawn with and without its text.

Where both drawings differ inside the box of a glyph is that glyph's ink; a glyph without ink is hidden, whatever hides
it: a cover, a clip, a layer that is off, a colour like its ground, no paint at all. If most of that ink lies in the
boxes of other glyphs, the page is drawn once more without the runs in question. So the ink of its neighbours makes no
hidden glyph visible. No operator of the page is interpreted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .content import Box, Clock, Content, Glyph, Run, TooMuch
from .drawing import PixelBox, Pixels, activate, difference, draw, scale_for
from .drawn_text import connected

__all__ = ["Sight", "seen"]

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.float64]
"""For each glyph left, top, right, bottom, points."""
Layers = npt.NDArray[np.int32]
"""How many boxes hold each pixel."""

SEEN: Final = 24  # of 255, in the channel that differs most: less than this is as pale as its ground …
WEAK: Final = 10  # … but this is enough for a thin character of a run that is seen else
THIN_PX: Final = 4  # a box that is thinner grows by a pixel: PDFium snaps glyphs to pixels
LEAST_SHARE: Final = 0.03  # of a box is ink, or the glyph is cut off; a thin diagonal stroke fills a tenth
BLANK_SHARE: Final = 0.2  # the same of what the file calls a space: its box is that of its shape, which fills it
SMALL_PX: Final = 12  # of a box: a stop or a comma, whose ink may be lost in smoothing; it goes with its neighbours
ASTRAY_PX: Final = 6  # of ink that no box holds, near a glyph without ink: it is drawn beside its box
GAP_EM: Final = 0.1  # least width of a space
STRAY_PX: Final = 8  # of ink that no box explains, in one piece as high as a letter: less is a part of a letter
STRAY_HIGH_PX: Final = 5
STRAY_GAP_PX: Final = 2  # from the nearest box
STRAY_EM: Final = (0.35, 1.2)  # how high such a piece is
STRAY_REACH_EM: Final = 12.0  # from it to a glyph of its line
MAX_STRAYS: Final = 200  # more is a font whose boxes say nothing
MANY_BOXES: Final = 700  # from here on it is faster to sum their corners up than to fill them
FLAT_PT: Final = 0.1  # PDFium knows no height
LEGIBLE_PT: Final = 1.5  # no person reads smaller type at the size of the page
SQUEEZED_LEAST: Final = 4  # letters of a run, or their distance says nothing
SQUEEZED_SHARE: Final = 0.2  # of the least height is the least step from letter to letter
A4_SIDE_PT: Final = 842.0
AMBIGUOUS_SHARE: Final = 0.7  # of a glyph's ink lies in boxes of other runs, too
MAX_PASSES: Final = 6  # drawings that part such runs; 40 % of pages need one, and hardly any needs more
MAX_AMBIGUOUS: Final = 2_000  # runs
TWIN_EM: Final = 0.25  # how far the copies of a shadow or a halo lie apart
TWIN_LETTER_EM: Final = 0.05  # the same for a run of one letter, which says less
TWIN_CELL_PT: Final = 8.0  # of the grid in which copies are looked for
CELLS: Final = 20_000  # of such a grid on each side of the origin; what lies farther off is at its edge
TWIN_SHARE: Final = 0.6  # of the shorter run is in the other one, too


@dataclass(slots=True)
class Sight:
    """The characters of a page by whether a person sees them, and the drawings that tell."""

    scale: float
    """Pixels per point of the drawings."""
    with_text: Pixels
    without_text: Pixels
    change: Pixels
    """How much both differ at each pixel."""
    shown: list[Glyph] = field(default_factory=list)
    hidden: list[Glyph] = field(default_factory=list)
    doubled: set[int] = field(default_factory=set)
    """The `id` of each run that has copies, as of a shadow: its ink is that of several."""


def seen(page: Any, content: Content, clock: Clock) -> Sight:
    """Measure which glyphs of a page a person sees.

    The text objects of the page are inactive afterwards: what it draws now is the page without its text.

    Args:
        page: the open pypdfium2 page.
        content: the glyphs that were taken from the page.
        clock: bounds the time.

    Raises:
        TooMuch: drawing takes too long, or more text lies on text than can be told apart.
    """
    scale = scale_for(content.width, content.height)
    items = [run.item for run in content.runs]
    with_text = draw(page, scale, clock)
    activate(items, False)
    without_text = draw(page, scale, clock) if items else with_text
    sight = Sight(scale, with_text, without_text, difference(with_text, without_text))
    if content.glyphs:
        measurement = _Measurement(page, content, sight, clock)
        measurement.part_runs()
        least_pt = LEGIBLE_PT * min(1.0, max(content.width, content.height) / A4_SIDE_PT)
        _sort(sight, measurement.glyphs, measurement.visible(), measurement.legible(least_pt))
        sight.shown += measurement.strays()
        sight.doubled = measurement.doubled
    return sight


def _sort(sight: Sight, glyphs: Sequence[Glyph], visible: Mask, legible: Mask) -> None:
    """Put each glyph to those that a person sees, or to those that nobody sees."""
    gap = False
    for glyph, is_visible, is_legible in zip(glyphs, visible.tolist(), legible.tolist(), strict=True):
        if not is_visible and (glyph.text.isspace() or _is_gap(glyph)):
            gap = True  # a control code that shows nothing is the space that it says it is
            continue
        if gap:
            glyph.space, gap = 3, False
        (sight.shown if is_visible and is_legible else sight.hidden).append(glyph)


class _Measurement:
    """Counts the ink of each glyph of a page."""

    def __init__(self, page: Any, content: Content, sight: Sight, clock: Clock) -> None:
        self._page = page
        self._items = [run.item for run in content.runs]
        self._sight = sight
        self._clock = clock
        self._given = content.glyphs
        self.glyphs, self._twins = _without_twins(content.glyphs, clock)
        self._change = sight.change
        self._ink: Mask = self._change >= SEEN
        self._places = _places(self.glyphs)
        self._runs = _Runs(self.glyphs)
        self._boxes = _pixel_boxes(self._places, sight.scale, self._change.shape)
        self._areas: Ints = (self._boxes[:, 2] - self._boxes[:, 0]) * (self._boxes[:, 3] - self._boxes[:, 1])
        self._counts = _inside(self._ink, self._boxes)
        self._faint: dict[int, int] = {}
        """Pixels that are at least faintly ink, of the glyphs that were measured by themselves."""

    @property
    def doubled(self) -> set[int]:
        return set(self._twins)

    def part_runs(self) -> None:
        """Measure glyphs by themselves where other runs' boxes hold most of their ink, too.

        Raises:
            TooMuch: more of them lie on each other than can be told apart.
        """
        layers = _layers(self._runs.boxes(self._boxes, self._change.shape), self._change.shape)
        overlap: Mask = layers > 1
        overlap &= self._ink
        if not overlap.any():
            return
        shared = _inside(overlap, self._boxes)
        doubtful = np.flatnonzero((self._counts > 0) & (shared > AMBIGUOUS_SHARE * self._counts)).tolist()
        by_run = self._by_run(doubtful)
        passes = self._passes(by_run, self._boxes)
        if len(by_run) > MAX_AMBIGUOUS or len(passes) > MAX_PASSES:
            raise TooMuch("its text overlaps itself")
        for numbers, (left, top, _, _), own in self._drawn_alone(passes, by_run, self._boxes):
            boxes = self._boxes[numbers] - np.array([left, top, left, top])
            self._counts[numbers] = _inside(own >= SEEN, boxes)
            self._faint.update(zip(numbers, _inside(own >= WEAK, boxes).tolist(), strict=True))

    def _by_run(self, numbers: Iterable[int]) -> dict[int, list[int]]:
        by_run: dict[int, list[int]] = defaultdict(list)
        for n in numbers:
            by_run[id(self.glyphs[n].run)].append(n)
        return by_run

    def _passes(self, by_run: Mapping[int, Sequence[int]], boxes: Ints) -> list[_Pass]:
        """Runs in groups that lie apart, so that one drawing tells about all of a group; at most one too many."""
        all_of = self._by_run(n for n, glyph in enumerate(self.glyphs) if id(glyph.run) in by_run)
        limit = np.array([self._change.shape[1], self._change.shape[0]] * 2)
        passes: list[_Pass] = []
        for key, numbers in list(by_run.items())[: MAX_AMBIGUOUS + 1]:
            self._clock.tick()
            measured = boxes[numbers]
            removed = np.clip(boxes[all_of[key]] + np.array([-1, -1, 1, 1]), 0, limit)
            chosen = next((each for each in passes if each.takes(measured, removed)), None)
            if chosen is None:
                passes.append(chosen := _Pass(self._change.shape))
            if len(passes) > MAX_PASSES:
                break
            chosen.add(key, measured, removed)
        return passes

    def _drawn_alone(
        self, passes: Sequence[_Pass], by_run: Mapping[int, list[int]], boxes: Ints
    ) -> Iterator[tuple[list[int], PixelBox, Pixels]]:
        """For each pass the numbers of the glyphs that it measures, and the change that their runs make.

        Only the part of the page is drawn that their boxes are in.
        """
        for each in passes:
            self._clock.check()
            runs = [self.glyphs[by_run[key][0]].run for key in each.runs]
            left_out = {id(other): other for run in runs for other in (run, *self._twins.get(id(run), ()))}
            activate(self._items, True)
            activate((run.item for run in left_out.values() if run.item is not None), False)
            numbers = [n for key in each.runs for n in by_run[key]]
            left, top = boxes[numbers, :2].min(axis=0).tolist()
            right, bottom = boxes[numbers, 2:].max(axis=0).tolist()
            part = (left, top, right, bottom)
            drawn = draw(self._page, self._sight.scale, self._clock, part)
            yield numbers, part, difference(self._sight.with_text[top:bottom, left:right], drawn)
        if passes:
            activate(self._items, False)

    def visible(self) -> Mask:
        """For each glyph whether a person sees it."""
        visible: Mask = (self._counts > 0) & (self._counts >= LEAST_SHARE * self._areas)
        left, top, right, bottom = self._places.T
        flat: Mask = (bottom - top < FLAT_PT) & (right > left)
        numbers = np.flatnonzero(flat)
        flat[numbers] = [self.glyphs[n].run.embedded for n in numbers.tolist()]
        visible[numbers] |= ~flat[numbers]  # PDFium lacks a character of a font that is not in the file; others draw it
        is_blank: Mask = np.array([glyph.text == " " and not glyph.known for glyph in self.glyphs])
        blanks = np.flatnonzero(is_blank)
        if len(blanks):  # beside a space that shows nothing stands the ink of its neighbours
            outside = self._outside(np.delete(self._boxes, blanks, axis=0))
            visible[blanks] = _inside(outside, self._boxes[blanks]) > BLANK_SHARE * self._areas[blanks]
        visible &= ~flat  # the font has no shape for it: the ink in its place is that of its neighbours
        if not (visible | is_blank).all():
            self._follow_runs(visible, ~(is_blank | flat))
            self._find_astray(visible)
            self._find_underlined(visible)
        return visible

    def legible(self, least_pt: float) -> Mask:
        """For each glyph whether its run is as high as type that a person reads, and its letters stand apart."""
        runs = self._runs
        heights = self._places[:, 3] - self._places[:, 1]
        sizes = np.array([glyph.run.size for glyph in self.glyphs])
        # A font made of drawings has a size that means nothing.
        legible = np.maximum.reduceat(np.maximum(heights, sizes)[runs.order], runs.begin) >= least_pt
        origins = np.array([[glyph.x for glyph in self.glyphs], [glyph.y for glyph in self.glyphs]])[:, runs.order]
        spans = np.maximum.reduceat(origins, runs.begin, axis=1) - np.minimum.reduceat(origins, runs.begin, axis=1)
        letters = np.diff(runs.begin, append=len(self.glyphs))
        # Letters that stand in one place are a stroke to the eye.
        squeezed = (letters >= SQUEEZED_LEAST) & (spans.max(axis=0) < SQUEEZED_SHARE * least_pt * (letters - 1))
        for n in np.flatnonzero(squeezed).tolist():
            squeezed[n] = not self.glyphs[runs.order[runs.begin[n]]].run.is_replaced
        out: Mask = (legible & ~squeezed)[runs.number]
        return out

    def _outside(self, boxes: Ints) -> Mask:
        """The ink that none of these boxes holds."""
        outside: Mask = _layers(boxes, self._ink.shape) == 0
        outside &= self._ink
        return outside

    def strays(self) -> list[Glyph]:
        """Ink of text that no glyph explains, as glyphs that nobody knows: PDFium drops one of two spaces, say.

        The ink of glyphs whose boxes are too small for it is none, nor is what is smaller than a letter.
        """
        limit = np.array([self._ink.shape[1], self._ink.shape[0]] * 2)
        # The copies of a shadow explain their ink, too, and so does what is drawn beside its box.
        places = self._places if self.glyphs is self._given else _places(self._given)
        flat = np.flatnonzero((places[:, 3] - places[:, 1] < FLAT_PT) & (places[:, 2] > places[:, 0]))
        if len(flat):
            places = places.copy()
            places[flat] = [_reach(self._given[n]) for n in flat.tolist()]
        boxes = _pixel_boxes(places, self._sight.scale, self._ink.shape)
        grown = np.clip(boxes + np.array([-1, -1, 1, 1]) * STRAY_GAP_PX, 0, limit)
        unclaimed = self._outside(grown)
        found: list[Glyph] = []
        if np.count_nonzero(unclaimed) < STRAY_PX:
            return found
        scale = self._sight.scale
        claimed: Mask | None = None
        for left, top, right, bottom, ink in connected(unclaimed).tolist():
            self._clock.tick()
            if ink < STRAY_PX or bottom - top < STRAY_HIGH_PX:
                continue
            if claimed is None:
                claimed = self._ink & (_layers(boxes, self._ink.shape) > 0)
            window = np.s_[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1]
            if (_spread(unclaimed[window]) & claimed[window]).any():
                continue  # a part of the glyph beside it, such as its outline
            box = (left / scale, top / scale, right / scale, bottom / scale)
            run = self._run_at(box)
            if run is not None and STRAY_EM[0] * run.size <= box[3] - box[1] <= STRAY_EM[1] * run.size:
                found.append(Glyph("\ufffd", box, box[0], box[3], run, known=False))
        return found if len(found) <= MAX_STRAYS else []

    def _run_at(self, box: Box) -> Run | None:
        """The run on whose line a box stands."""
        for glyph in self.glyphs:
            run = glyph.run
            if (
                run.embedded
                and abs(run.angle) < 1
                and glyph.y - run.size <= box[1]
                and box[3] <= glyph.y + run.size / 3
            ):
                left, right = glyph.x - STRAY_REACH_EM * run.size, glyph.x + STRAY_REACH_EM * run.size
                if left <= box[0] and box[2] <= right:
                    return run
        return None

    def _follow_runs(self, visible: Mask, able: Mask) -> None:
        """Let faint and tiny characters go with the run that they are in, where most of it is seen."""
        tiny = (self._areas <= SMALL_PX) & (self._areas > 0)
        missing = np.flatnonzero(able & ~visible).tolist()
        candidates = [n for n in missing if tiny[n] or self._is_faint(n)]
        if not candidates:
            return
        seen_in: dict[int, int] = defaultdict(int)
        length: dict[int, int] = defaultdict(int)
        before = visible.tolist()
        for glyph, is_visible in zip(self.glyphs, before, strict=True):
            length[id(glyph.run)] += 1
            seen_in[id(glyph.run)] += is_visible
        for n in candidates:
            run = self.glyphs[n].run
            if tiny[n]:
                beside = [k for k in (n - 1, n + 1) if 0 <= k < len(before) and self.glyphs[k].run is run]
                visible[n] = any(before[k] for k in beside)
            else:
                visible[n] = 2 * seen_in[id(run)] >= length[id(run)]

    def _is_faint(self, n: int) -> bool:
        left, top, right, bottom = self._boxes[n]
        if n in self._faint:
            weak = self._faint[n]
        else:
            weak = int(np.count_nonzero(self._change[top:bottom, left:right] >= WEAK))
        return weak > 0 and weak >= LEAST_SHARE * self._areas[n]

    def _find_astray(self, visible: Mask) -> None:
        """Find the ink that PDFium draws beside its glyphs' boxes, as it does with fonts that are not in the file."""
        missing = np.flatnonzero(~visible)
        if not len(missing):
            return
        unclaimed = self._outside(self._boxes)
        if not unclaimed.any():
            return
        around = self._boxes.copy()
        reach = np.array([_reach(self.glyphs[n]) for n in missing.tolist()], np.float64)
        around[missing] = _pixel_boxes(reach, self._sight.scale, self._ink.shape)
        near = _inside(unclaimed, around[missing])
        by_run = self._by_run(missing[near >= ASTRAY_PX].tolist())
        # Ink near by may belong to another run: only what goes when its own run goes is its own.
        passes = self._passes(by_run, around)[:MAX_PASSES]
        for numbers, (left, top, right, bottom), own in self._drawn_alone(passes, by_run, around):
            boxes = around[numbers] - np.array([left, top, left, top])
            found = _inside(unclaimed[top:bottom, left:right] & (own >= SEEN), boxes)
            areas = (around[numbers, 2] - around[numbers, 0]) * (around[numbers, 3] - around[numbers, 1])
            visible[numbers] = found >= np.maximum(ASTRAY_PX, LEAST_SHARE * areas)

    def _find_underlined(self, visible: Mask) -> None:
        """Find the low lines of words such as report_2024 that lie on an underline: without them, nothing changes."""
        for n in np.flatnonzero(~visible).tolist():
            if self.glyphs[n].text != "_":
                continue
            beside = [self._beside(n, step) for step in (-1, 1)]
            found = [k for k in beside if k is not None]
            is_in_word = beside[0] is not None and all(visible[k] and self.glyphs[k].text.isalnum() for k in found)
            left, top, right, bottom = self._boxes[n]
            part = self._sight.with_text[max(0, top - 2) : bottom + 2, left:right, :3]
            if is_in_word and part.size:
                visible[n] = bool(((part.max(axis=0) - part.min(axis=0)).max(axis=1) >= SEEN).all())

    def _beside(self, n: int, step: int) -> int | None:
        """The number of the glyph that touches glyph `n` before it (`step` is -1) or after it; None: there is none."""
        k = n + step
        if not 0 <= k < len(self.glyphs):
            return None
        one, other = self.glyphs[n], self.glyphs[k]
        gap = max(other.box[0] - one.box[2], one.box[0] - other.box[2])
        return k if abs(other.y - one.y) <= GAP_EM * one.run.size and gap <= GAP_EM * one.run.size else None


def _places(glyphs: Sequence[Glyph]) -> Places:
    flat = np.fromiter(chain.from_iterable(glyph.box for glyph in glyphs), np.float64, 4 * len(glyphs))
    return flat.reshape(-1, 4)


def _pixel_boxes(places: Places, scale: float, shape: tuple[int, ...]) -> Ints:
    """For each box left, top, right, bottom in pixels, inside the drawing; right and bottom are outside."""
    boxes = np.clip(places * scale, -1e6, 1e6)
    low, high = np.floor(boxes[:, :2] + 0.01), np.ceil(boxes[:, 2:] - 0.01)
    thin = (high - low) < THIN_PX
    low, high = low - thin, high + thin
    limit = np.array([shape[1], shape[0]])
    return np.hstack([np.clip(low, 0, limit), np.clip(high, 0, limit)]).astype(np.int64)


def _inside(mask: Mask, boxes: Ints) -> Ints:
    """How many pixels of the mask each box holds."""
    left, top, right, bottom = boxes.T
    high = np.maximum(bottom - top, 0) * (right > left)
    if not high.any():
        return np.zeros(len(boxes), np.int64)
    first = int(top[high > 0].min())
    part = mask[first : int(bottom[high > 0].max())]
    width = mask.shape[1]
    total = np.zeros(part.size + 1, np.int32)
    np.cumsum(part.ravel(), dtype=np.int32, out=total[1:])
    # One entry for each row of each box.
    box = np.repeat(np.arange(len(boxes)), high)
    begin = (np.arange(len(box)) - np.repeat(np.cumsum(high) - high - top + first, high)) * width
    inked = total[begin + np.repeat(right, high)] - total[begin + np.repeat(left, high)]
    counts: Ints = np.bincount(box, inked, len(boxes)).astype(np.int64)
    return counts


def _layers(boxes: Ints, shape: tuple[int, ...]) -> Layers:
    if len(boxes) < MANY_BOXES:
        layers = np.zeros(shape, np.int32)
        for left, top, right, bottom in boxes.tolist():
            layers[top:bottom, left:right] += 1
        return layers
    # What begins and what ends at each corner, summed up; each row of corners sums up to nothing.
    width = shape[1] + 1
    corners = np.zeros((shape[0] + 1) * width, np.int32)
    x1, y1, x2, y2 = boxes.T
    for x, y, sign in ((x1, y1, 1), (x2, y2, 1), (x2, y1, -1), (x1, y2, -1)):
        np.add.at(corners, y * width + x, sign)
    np.cumsum(corners, out=corners)
    summed = corners.reshape(shape[0] + 1, width)
    for above, row in pairwise(summed):  # half the time of `cumsum` down the columns
        row += above
    return summed[:-1, :-1]


def _spread(mask: Mask) -> Mask:
    """The mask, a pixel wider on every side."""
    padded = np.pad(mask, 1)
    wide = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    spread: Mask = wide[:-2] | wide[1:-1] | wide[2:]
    return spread


def _is_flat(glyph: Glyph) -> bool:
    return glyph.box[3] - glyph.box[1] < FLAT_PT and glyph.box[2] > glyph.box[0]


def _is_gap(glyph: Glyph) -> bool:
    """Whether the font in the file has an empty shape for a character: a wrong map may give a space any name."""
    return _is_flat(glyph) and glyph.run.embedded and glyph.box[2] - glyph.box[0] > GAP_EM * glyph.run.size


def _reach(glyph: Glyph) -> Box:
    """The place where a glyph is to be found that is not in its box: the square of its type."""
    size, x, y = glyph.run.size, glyph.x, glyph.y
    is_level = abs(glyph.run.angle) < 1 and glyph.box[3] - glyph.box[1] > FLAT_PT
    return (x, y - size, x + size, y + size / 5) if is_level else (x - size, y - size, x + size, y + size)


# ---------------------------------------------------------------- text on text


class _Runs:
    """Which glyphs are in one run."""

    def __init__(self, glyphs: Sequence[Glyph]) -> None:
        numbers: dict[int, int] = {}
        self.number: Ints = np.array([numbers.setdefault(id(glyph.run), len(numbers)) for glyph in glyphs], np.int64)
        """For each glyph the number of its run."""
        self.order: Ints = np.argsort(self.number, kind="stable")
        """The numbers of the glyphs, run by run."""
        self.begin: Ints = np.flatnonzero(np.diff(self.number[self.order], prepend=-1))
        """Where each run begins in `order`."""

    def boxes(self, boxes: Ints, shape: tuple[int, ...]) -> Ints:
        """The box of each run, a pixel wider on every side: ink of one run is not exactly in its glyphs' boxes."""
        low = np.minimum.reduceat(boxes[self.order, :2], self.begin) - 1
        high = np.maximum.reduceat(boxes[self.order, 2:], self.begin) + 1
        limit = np.array([shape[1], shape[0]])
        return np.hstack([np.clip(low, 0, limit), np.clip(high, 0, limit)])


class _Pass:
    """A drawing without some runs, and the boxes that are measured by it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.runs: list[int] = []
        """The `id` of each run that is measured."""
        self._measured: Mask = np.zeros(shape, np.bool_)
        self._removed: Mask = np.zeros(shape, np.bool_)

    def takes(self, measured: Ints, removed: Ints) -> bool:
        """Whether no ink that this pass removes is in these boxes, and the other way round."""
        return not (_any_in(self._removed, measured) or _any_in(self._measured, removed))

    def add(self, run: int, measured: Ints, removed: Ints) -> None:
        """Measure these boxes of a run; `removed` are the boxes of all that goes with it, a pixel wider."""
        self.runs.append(run)
        for mask, boxes in ((self._measured, measured), (self._removed, removed)):
            for left, top, right, bottom in boxes.tolist():
                mask[top:bottom, left:right] = True


def _any_in(mask: Mask, boxes: Ints) -> bool:
    return any(mask[top:bottom, left:right].any() for left, top, right, bottom in boxes.tolist())


def _without_twins(glyphs: Sequence[Glyph], clock: Clock) -> tuple[Sequence[Glyph], dict[int, list[Run]]]:
    """Glyphs without the copies that make a shadow, a halo or bold type: of two, that of the longer run stays.

    Also returns, for the `id` of each run, the runs that hold copies of its glyphs.
    """
    places: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for n in _near_their_like(glyphs):
        clock.tick()
        glyph = glyphs[n]
        reach = _twin_reach(glyph)
        x, y = glyph.x, glyph.y
        for column in range(int((x - reach) // TWIN_CELL_PT), int((x + reach) // TWIN_CELL_PT) + 1):
            for row in range(int((y - reach) // TWIN_CELL_PT), int((y + reach) // TWIN_CELL_PT) + 1):
                for m in places.get((glyph.text, column, row), ())[-4:]:
                    if _is_copy(glyphs[m], glyph, reach):
                        pairs[id(glyphs[m].run), id(glyph.run)].append((m, n))
        places[glyph.text, int(x // TWIN_CELL_PT), int(y // TWIN_CELL_PT)].append(n)
    lengths = Counter(id(glyph.run) for glyph in glyphs) if pairs else Counter()
    dropped: set[int] = set()
    twins: dict[int, list[Run]] = defaultdict(list)
    for (one, other), found in pairs.items():
        shorter = min(lengths[one], lengths[other])
        if len(found) < TWIN_SHARE * shorter or (shorter == 1 and not _coincide(glyphs, found)):
            continue
        for m, n in found:
            dropped.add(min((m, n), key=lambda k: (lengths[id(glyphs[k].run)], glyphs[k].run.order)))
            for a, b in ((m, n), (n, m)):
                if all(run is not glyphs[b].run for run in twins[id(glyphs[a].run)]):
                    twins[id(glyphs[a].run)].append(glyphs[b].run)
    return [glyph for n, glyph in enumerate(glyphs) if n not in dropped] if dropped else glyphs, twins


def _twin_reach(glyph: Glyph) -> float:
    return min(max(TWIN_EM * glyph.run.size, 0.1), TWIN_CELL_PT)


def _near_their_like(glyphs: Sequence[Glyph]) -> list[int]:
    """The numbers of the glyphs that may have a copy: a like one in their cell of a grid, or in one beside it.

    Most glyphs of a page have none, and a look at each by itself takes a third of the whole measurement.
    """
    cell = max(map(_twin_reach, {id(glyph.run): glyph for glyph in glyphs}.values()))
    names: dict[str, int] = {}
    kinds = np.array([names.setdefault(glyph.text, len(names)) for glyph in glyphs], np.int64)
    places = np.array([[glyph.x for glyph in glyphs], [glyph.y for glyph in glyphs]]) / cell
    columns, rows = np.clip(np.floor(places), -CELLS, CELLS).astype(np.int64)
    step = 2 * CELLS + 3
    keys = (kinds * step + columns) * step + rows
    known, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    near = counts > 1
    for beside in (1, step - 1, step, step + 1):
        at = np.minimum(np.searchsorted(known, known + beside), len(known) - 1)
        pairs = known[at] == known + beside
        near |= pairs
        near[at[pairs]] = True
    found: list[int] = np.flatnonzero(near[inverse]).tolist()
    return found


def _is_copy(one: Glyph, other: Glyph, reach: float) -> bool:
    return (
        one.run is not other.run
        and abs(one.x - other.x) < reach
        and abs(one.y - other.y) < reach
        and abs(one.run.size - other.run.size) < 0.1 * other.run.size
    )


def _coincide(glyphs: Sequence[Glyph], pairs: Iterable[tuple[int, int]]) -> bool:
    return all(
        max(abs(glyphs[m].x - glyphs[n].x), abs(glyphs[m].y - glyphs[n].y)) <= TWIN_LETTER_EM * glyphs[n].run.size
        for m, n in pairs
    )

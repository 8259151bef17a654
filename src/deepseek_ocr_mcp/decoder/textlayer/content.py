"""Lists what PDFium knows about a page without drawing it: characters, pictures, rules and list marks.

Every place is in points of the page as a person sees it: upright, origin top left, after `/Rotate` and inside the
page's box. Time and memory are bounded: a page with more characters, objects or path segments than the limits raises
`TooMuch`, and so does a page that takes too long.
"""

from __future__ import annotations

import ctypes
import math
import re
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any, Final

import pypdfium2.raw as raw

from .dingbats import symbol_character, symbol_font

__all__ = ["UNSEEN", "Box", "Clock", "Content", "Glyph", "Matrix", "Picture", "Run", "TooMuch", "is_within",
           "look", "upright"]  # fmt: skip

Box = tuple[float, float, float, float]
Segment = tuple[int, float, float]
"""Kind of a path's segment, and the point where it ends."""

MAX_GLYPHS: Final = 60_000  # a page of a newspaper has 20,000
MAX_OBJECTS: Final = 60_000  # a map has as many; beyond, drawing is no slower than looking
MAX_SEGMENTS: Final = 200_000  # of all paths together
MAX_PICTURES: Final = 4_000  # first come
MAX_RULES: Final = 8_000
MAX_DOTS: Final = 500
MAX_FILLS: Final = 2_000
MAX_DEPTH: Final = 8  # forms within forms
LOOK_S: Final = 6.0  # seconds of CPU; reading a page by recognition takes about as long
ASK_EVERY: Final = 500  # glyphs or objects between two looks at the clock

RULE_PT: Final = 3.0  # an area that is thinner is a line
RULE_LENGTH_PT: Final = 4.0
RECTANGLE_SEGMENTS: Final = 6  # of a coloured area that may be a row of a table
STRAIGHT_PT: Final = 0.6  # how far a line may lean and still be level
SQUARE_PT: Final = (5.0, 24.0)  # the same of a box to tick
DOT_PT: Final = (1.0, 9.0)  # least and greatest size of a list mark drawn as a shape

BOLD_NAMES: Final = (b"bold", b"black", b"heavy", b"demi", b"-bd", b"cmbx", b"sfbx")
DINGBATS: Final = (b"dingbat", b"wingdings", b"webdings")
REPLACED_LEAST: Final = 4  # characters in the place of the one before; the longest ligature of Latin has three
NO_INK_PT: Final = 0.1
LEAST_GAP_EM: Final = 0.04  # of white between two glyphs: where there is less, nobody asks for the width of the first
OVERHANG_EM: Final = 0.005
TURN_DEG: Final = 1.0  # a run that leans more has no widths along its axis
HYPHEN_EM: Final = 0.4  # a dash of any font is thinner, and any figure or letter is thicker …
HYPHEN_HIGH: Final = 0.5  # … as it is beside the other glyphs of its run, whose size may mean nothing
HYPHEN_SIGNS: Final = frozenset("-\u2010\u2011")
LIGATURE_LETTERS: Final = frozenset("fijltThbk")
"""Letters that ligatures of Latin begin or end with."""
COMPARED_LETTERS: Final = LIGATURE_LETTERS | frozenset("aceors")  # those beside them, which say how wide the type is
# Of the size of the text. Measured on 2,013 public pages: 13 have such a map. "fi" named i is 0.27 to 0.33 wider, "ff"
# named f 0.26, "Th" named h 0.57.
LIGATURE_MORE_EM: Final = 0.2  # it is wider than the letter that it is named by
LIGATURE_BESIDE_EM: Final = 0.05  # the letters beside it are wider, at most
LIGATURE_HIGH: Final = 0.76  # times as high as the highest glyph of that name, at least
I_MORE_EM: Final = 0.05  # an i may be wider than an l; in small capitals, the l is the wider one
LIGATURE_AROUND: Final = 12  # glyphs before and after it
LOOSE_LEAST: Final = 3  # glyphs of a run whose boxes are all alike …
LOOSE_STEPS: Final = 2  # … while their widths are not
UNSEEN: Final = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufffe\uffff]")
"""Characters that show nothing."""
LAM: Final = "ل"  # with the alef after it, the one ligature that every font has
SOFT_HYPHEN: Final = 0xAD  # one that is in the file is drawn
HYPHENS: Final = frozenset({0x02, 0x2D, SOFT_HYPHEN, 0xFFFE})
"""Codes that PDFium gives for a hyphen at the end of a line."""


class TooMuch(Exception):
    """The page is beyond a limit; its message is a fragment that says which."""


class Clock:
    """Counts work, and looks at the time now and then. `ask` raises when nobody waits any more.

    The time is the CPU's, of this process: on a busy machine a page is not taken for one that takes too long.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._end = time.process_time() + LOOK_S
        self._count = 0

    def __repr__(self) -> str:
        return f"<Clock {self._end - time.process_time():.1f} s left>"

    @property
    def is_over(self) -> bool:
        return time.process_time() > self._end

    def tick(self) -> None:
        """Count one more glyph or object. Raises `TooMuch` when the time is over."""
        self._count += 1
        if self._count % ASK_EVERY == 0:
            self.check()

    def check(self) -> None:
        """Look at the time now. Raises `TooMuch` when it is over."""
        self._ask()
        if self.is_over:
            raise TooMuch("the page takes too long to look through")


@dataclass(frozen=True, slots=True)
class Matrix:
    """x' = a x + c y + e, y' = b x + d y + f."""

    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 1.0
    e: float = 0.0
    f: float = 0.0

    def point(self, x: float, y: float) -> tuple[float, float]:
        return self.a * x + self.c * y + self.e, self.b * x + self.d * y + self.f

    def box(self, x1: float, y1: float, x2: float, y2: float) -> Box:
        """The upright rectangle around a rectangle."""
        a, b, c, d, e, f = self.a, self.b, self.c, self.d, self.e, self.f
        ax, ay = a * x1 + c * y1 + e, b * x1 + d * y1 + f
        bx, by = a * x2 + c * y2 + e, b * x2 + d * y2 + f
        if (b or c) and (a or d):  # neither straight nor on its side
            cx, cy = self.point(x1, y2)
            dx, dy = self.point(x2, y1)
            return min(ax, bx, cx, dx), min(ay, by, cy, dy), max(ax, bx, cx, dx), max(ay, by, cy, dy)
        return (
            ax if ax < bx else bx,
            ay if ay < by else by,
            bx if ax < bx else ax,
            by if ay < by else ay,
        )

    def after(self, first: Matrix) -> Matrix:
        """The matrix that does `first`, then this."""
        a, b = self.a * first.a + self.c * first.b, self.b * first.a + self.d * first.b
        c, d = self.a * first.c + self.c * first.d, self.b * first.c + self.d * first.d
        e, f = self.point(first.e, first.f)
        return Matrix(a, b, c, d, e, f)

    @classmethod
    def of(cls, matrix: Any) -> Matrix:
        """The matrix that a `FS_MATRIX` holds."""
        return cls(matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f)


@dataclass(slots=True)
class Run:
    """Text that was set with one command: everything its characters have in common."""

    size: float = 0.0
    """Height of a line, points."""
    angle: float = 0.0
    """Degrees clockwise from running to the right."""
    order: int = -1
    """When it is drawn. -1: not known."""
    bold: bool = False
    embedded: bool = False
    """The file holds its font."""
    dingbat: bool = False
    """Its font has pictures for characters, such as check boxes."""
    is_replaced: bool = False
    """The file gives a text of its own in the place of the characters, as `/ActualText` does."""
    symbols: str = ""
    """Its symbol font, by the key of `dingbats.py`; empty for any other font."""
    font: int = 0
    """The same number for runs of the same font."""
    item: Any = field(default=None, repr=False, compare=False)
    """PDFium's page object; valid while the page is open."""

    def along(self, x: float, y: float) -> float:
        """How far along the axis on which this text runs a point lies, points."""
        if self.angle == 0:
            return x
        turn = math.radians(self.angle)
        return x * math.cos(turn) + y * math.sin(turn)


@dataclass(slots=True)
class Glyph:
    """One character, or the few of a ligature."""

    text: str
    box: Box
    """The ink."""
    x: float
    """The origin: where the baseline begins."""
    y: float
    run: Run
    space: int = 0
    """White space before it: 0 none, 1 or 2 where PDFium saw a gap (2: within one command), 3 written in the text."""
    fresh: bool = False
    """PDFium begins a line with it."""
    known: bool = True
    """The file says which character it is."""
    end: float | None = None
    """Where the next glyph's origin belongs if nothing is between both: on the axis along which its run goes, points.
    None: not known, or not asked for."""
    is_end_least: bool = False
    """`end` may be too large: it is where the ink ends, which goes beyond the width of the glyph."""
    score: float | None = None
    """How sure the engine is that read it; None: it is from the file."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture on the page."""

    box: Box
    bilevel: bool = False
    """Black and white, as fax machines and scanners write."""


@dataclass(slots=True)
class Content:
    """A page as PDFium knows it."""

    width: float
    height: float
    glyphs: list[Glyph] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    """In the order in which they are drawn."""
    pictures: list[Picture] = field(default_factory=list)
    rules: list[Box] = field(default_factory=list)
    """Straight lines along the axes."""
    dots: list[Box] = field(default_factory=list)
    """Small filled shapes, as wide as high: list marks, perhaps."""
    fills: list[Box] = field(default_factory=list)
    """Coloured rectangles: rows of a table, perhaps."""
    squares: list[Box] = field(default_factory=list)
    """Shapes as wide as high, as high as a line of text: boxes to tick, perhaps."""
    objects: int = 0


def look(page: Any, clock: Clock) -> Content:
    """List everything on an open pypdfium2 page.

    Raises:
        TooMuch: the page is beyond the limits of this module.
    """
    content = Content(page.get_width(), page.get_height())
    matrix = upright(page)
    runs = _Scene(content, clock).walk(page, matrix)
    text_page = page.get_textpage()
    try:
        content.glyphs = _GlyphReader(text_page, matrix, runs, clock).glyphs()
    finally:
        text_page.close()
    content.runs = sorted(runs.values(), key=lambda run: run.order)
    return content


def upright(page: Any) -> Matrix:
    """The matrix from the page's own coordinates to points of the page as a person sees it."""
    box = raw.FS_RECTF()
    raw.FPDF_GetPageBoundingBox(page, box)
    width, height = page.get_width(), page.get_height()
    size, x, y = 1 << 20, ctypes.c_int(), ctypes.c_int()
    corners = []
    for px, py in ((box.left, box.bottom), (box.right, box.bottom), (box.left, box.top)):
        raw.FPDF_PageToDevice(page, 0, 0, size, size, 0, px, py, x, y)
        corners.append((round(x.value / size) * width, round(y.value / size) * height))
    (ox, oy), (rx, ry), (tx, ty) = corners
    across, up = box.right - box.left, box.top - box.bottom
    if across <= 0 or up <= 0:
        return Matrix(d=-1.0, f=height)
    a, b, c, d = (rx - ox) / across, (ry - oy) / across, (tx - ox) / up, (ty - oy) / up
    return Matrix(a, b, c, d, ox - a * box.left - c * box.bottom, oy - b * box.left - d * box.bottom)


# -- objects


@dataclass(frozen=True, slots=True)
class _Level:
    """A page or a form, whose objects share a place and a clip."""

    container: Any
    count: Callable[[Any], int]
    get: Callable[[Any, int], Any]
    matrix: Matrix
    clip: Box | None = None
    depth: int = 0


class _Scene:
    """Walks through a page's objects in the order in which they are drawn."""

    def __init__(self, content: Content, clock: Clock) -> None:
        self._content = content
        self._clock = clock
        self._runs: dict[int, Run] = {}
        self._segments = 0

    def walk(self, page: Any, matrix: Matrix) -> dict[int, Run]:
        """Fill the content. Returns the runs of text by the address of their objects."""
        self._objects(_Level(page.raw, raw.FPDFPage_CountObjects, raw.FPDFPage_GetObject, matrix))
        return self._runs

    def _objects(self, level: _Level) -> None:
        for n in range(level.count(level.container)):
            self._clock.tick()
            self._content.objects += 1
            if self._content.objects > MAX_OBJECTS:
                raise TooMuch(f"the page is drawn with more than {MAX_OBJECTS:,} strokes")
            item = level.get(level.container, n)
            kind = raw.FPDFPageObj_GetType(item)
            if kind == raw.FPDF_PAGEOBJ_TEXT:
                self._runs[_address(item)] = Run(order=self._content.objects, item=item)
            elif kind == raw.FPDF_PAGEOBJ_IMAGE:
                self._picture(item, level)
            elif kind == raw.FPDF_PAGEOBJ_PATH:
                self._path(item, level)
            elif kind == raw.FPDF_PAGEOBJ_FORM and level.depth < MAX_DEPTH:
                self._form(item, level)

    def _form(self, item: Any, level: _Level) -> None:
        inner = raw.FS_MATRIX()
        raw.FPDFPageObj_GetMatrix(item, inner)
        matrix, clip = level.matrix.after(Matrix.of(inner)), _meet(level.clip, self._clip(item, level.matrix))
        self._objects(
            _Level(item, raw.FPDFFormObj_CountObjects, raw.FPDFFormObj_GetObject, matrix, clip, level.depth + 1)
        )

    def _clip(self, item: Any, matrix: Matrix) -> Box | None:
        """The box of what is not cut off. A clip with many corners counts as its outline."""
        path = raw.FPDFPageObj_GetClipPath(item)
        clip: Box | None = None
        for n in range(min(max(raw.FPDFClipPath_CountPaths(path), 0), MAX_DEPTH)):
            count = raw.FPDFClipPath_CountPathSegments(path, n)
            if not 2 < count <= 64:
                continue
            points = [_point(raw.FPDFClipPath_GetPathSegment(path, n, k)) for k in range(count)]
            xs, ys = [x for x, _ in points], [y for _, y in points]
            clip = _meet(clip, matrix.box(min(xs), min(ys), max(xs), max(ys)))
        return clip

    def _picture(self, item: Any, level: _Level) -> None:
        box = _meet(_bounds(item, level.matrix), _meet(level.clip, self._clip(item, level.matrix)))
        if box is None or box[0] >= box[2] or box[1] >= box[3] or len(self._content.pictures) >= MAX_PICTURES:
            return
        bilevel = False
        for n in range(min(raw.FPDFImageObj_GetImageFilterCount(item), MAX_DEPTH)):
            buffer = ctypes.create_string_buffer(32)
            raw.FPDFImageObj_GetImageFilter(item, n, buffer, len(buffer))
            bilevel = bilevel or buffer.value in (b"CCITTFaxDecode", b"CCF", b"JBIG2Decode")
        self._content.pictures.append(Picture(box, bilevel))

    def _path(self, item: Any, level: _Level) -> None:
        count = raw.FPDFPath_CountSegments(item)
        self._segments += max(0, count)
        if self._segments > MAX_SEGMENTS:
            raise TooMuch(f"the page is drawn with more than {MAX_SEGMENTS:,} strokes")
        fill, stroke = ctypes.c_int(), ctypes.c_int()
        if count < 2 or not raw.FPDFPath_GetDrawMode(item, fill, stroke):
            return
        filled, stroked = fill.value != raw.FPDF_FILLMODE_NONE, bool(stroke.value)
        if not (filled or stroked):
            return
        box = _bounds(item, level.matrix)
        if filled and box is not None and _is_dot(box) and len(self._content.dots) < MAX_DOTS:
            self._content.dots.append(box)
        if box is not None and _is_square(box) and len(self._content.squares) < MAX_DOTS:
            self._content.squares.append(box)
        is_rectangle = filled and count <= RECTANGLE_SEGMENTS
        if is_rectangle and box is not None and _is_wide(box) and len(self._content.fills) < MAX_FILLS:
            self._content.fills.append(box)
        if len(self._content.rules) >= MAX_RULES or (not stroked and _has_curve(item, count)):
            return
        inner = raw.FS_MATRIX()
        matrix = level.matrix.after(Matrix.of(inner)) if raw.FPDFPageObj_GetMatrix(item, inner) else level.matrix
        segments = list(_outline(item, count, matrix))
        self._rules(segments, filled and not stroked, _meet(level.clip, self._clip(item, level.matrix)))

    def _rules(self, segments: list[Segment], thin: bool, clip: Box | None) -> None:
        """Straight lines along the axes: strokes, and filled rectangles that are as thin as a line."""
        for points in _polylines(segments):
            if len(self._content.rules) >= MAX_RULES:
                return
            xs, ys = [x for x, _ in points], [y for _, y in points]
            if thin:
                box = (min(xs), min(ys), max(xs), max(ys))
                if 3 < len(points) < 7 and min(box[2] - box[0], box[3] - box[1]) <= RULE_PT:
                    self._rule(box, clip)
                continue
            for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1] * (len(points) > 3), strict=False):
                if min(abs(x1 - x2), abs(y1 - y2)) <= STRAIGHT_PT:
                    self._rule((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), clip)

    def _rule(self, box: Box, clip: Box | None) -> None:
        if max(box[2] - box[0], box[3] - box[1]) < RULE_LENGTH_PT or not all(map(math.isfinite, box)):
            return
        shown = _meet(box, clip)
        if shown is not None and shown[0] <= shown[2] and shown[1] <= shown[3]:
            self._content.rules.append(shown)


def _has_curve(item: Any, count: int) -> bool:
    segments = (raw.FPDFPath_GetPathSegment(item, n) for n in range(count))
    return any(raw.FPDFPathSegment_GetType(segment) == raw.FPDF_SEGMENT_BEZIERTO for segment in segments)


def _outline(item: Any, count: int, matrix: Matrix) -> Iterator[Segment]:
    x, y = ctypes.c_float(), ctypes.c_float()
    for n in range(count):
        segment = raw.FPDFPath_GetPathSegment(item, n)
        raw.FPDFPathSegment_GetPoint(segment, x, y)
        yield raw.FPDFPathSegment_GetType(segment), *matrix.point(x.value, y.value)


def _polylines(segments: list[Segment]) -> list[list[tuple[float, float]]]:
    """The straight parts of a path; a curve parts what it joins."""
    parts: list[list[tuple[float, float]]] = []
    for kind, x, y in segments:
        if kind != raw.FPDF_SEGMENT_LINETO or not parts:
            parts.append([])
        parts[-1].append((x, y))
    return parts


def _point(segment: Any) -> tuple[float, float]:
    x, y = ctypes.c_float(), ctypes.c_float()
    raw.FPDFPathSegment_GetPoint(segment, x, y)
    return x.value, y.value


def _bounds(item: Any, matrix: Matrix) -> Box | None:
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    if not raw.FPDFPageObj_GetBounds(item, left, bottom, right, top):
        return None
    box = matrix.box(left.value, bottom.value, right.value, top.value)
    return box if all(map(math.isfinite, box)) else None


def _is_wide(box: Box) -> bool:
    return min(box[2] - box[0], box[3] - box[1]) > RULE_PT


def _is_dot(box: Box) -> bool:
    wide, high = box[2] - box[0], box[3] - box[1]
    return DOT_PT[0] <= min(wide, high) <= max(wide, high) <= min(DOT_PT[1], 1.4 * min(wide, high))


def _is_square(box: Box) -> bool:
    wide, high = box[2] - box[0], box[3] - box[1]
    return SQUARE_PT[0] <= min(wide, high) <= max(wide, high) <= min(SQUARE_PT[1], 1.25 * min(wide, high))


def _address(item: Any) -> int:
    return ctypes.addressof(item.contents) if item else 0


def is_within(part: Box, box: Box) -> bool:
    """Whether the middle of a box is in another one."""
    x, y = (part[0] + part[2]) / 2, (part[1] + part[3]) / 2
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _meet(one: Box | None, other: Box | None) -> Box | None:
    """What both have in common; None has no bounds."""
    if one is None or other is None:
        return one or other
    return max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])


# -- characters


_text_object: Final = ctypes.cast(
    raw.FPDFText_GetTextObject, ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
)
"""The address of a character's object, 0 or None where it has none; as a number it takes half the time."""


class _GlyphReader:
    """Takes the characters of a page one by one; several of one drawing become one glyph."""

    def __init__(self, text_page: Any, matrix: Matrix, runs: dict[int, Run], clock: Clock) -> None:
        self._page = text_page.raw
        self._address = ctypes.cast(self._page, ctypes.c_void_p).value
        self._count = text_page.count_chars()
        self._matrix = matrix
        self._runs = runs
        self._clock = clock
        self._measured: dict[int, Run] = {}
        self._found: list[Glyph] = []
        self._space = 0
        self._fresh = True
        self._high = 0
        self._in_place = 0
        """How many characters in a row have the place of the one before."""
        self._last_number = -1
        """The number of the last character of the last glyph: PDFium parts the box of a ligature among its letters."""
        self._edges = [ctypes.c_double() for _ in range(4)]
        self._origin = [ctypes.c_double() for _ in range(2)]
        self._loose = raw.FS_RECTF()

    def glyphs(self) -> list[Glyph]:
        if self._count > MAX_GLYPHS:
            raise TooMuch(f"the page has more than {MAX_GLYPHS:,} characters")
        for n in range(self._count):
            self._clock.tick()
            self._take(n)
        for n, glyph in enumerate(self._found):
            if len(glyph.text) > 1:
                after = self._found[n + 1] if n + 1 < len(self._found) else None
                _put_in_order(self._found[n - 1] if n else None, glyph, after)
        _tighten(self._found)
        _doubt_shapes(self._found)
        _doubt_ligatures(self._found)
        return self._found

    def _take(self, n: int) -> None:
        code = raw.FPDFText_GetUnicode(self._page, n)
        address = _text_object(self._address, n)
        if not address:  # PDFium's own: a gap or the end of a line
            if code in (0x0A, 0x0D):
                self._fresh = True
            else:
                self._space = max(self._space, 1)
            return
        if 0xD800 <= code < 0xDC00:
            self._high = code
            return
        if 0xDC00 <= code < 0xE000 and self._high:
            code = 0x10000 + ((self._high - 0xD800) << 10) + (code - 0xDC00)
        self._high = 0
        if code == SOFT_HYPHEN or (code in HYPHENS and raw.FPDFText_IsHyphen(self._page, n) == 1):
            code = 0x2D
        text = chr(code) if code < 0x110000 else "\ufffd"
        run = self._measured.get(address) or self._run(n, address)
        if text.isspace() and code > 0x1F:  # `isspace` is true for control codes, which may be letters without a map
            # A gap inside of one command has a text object, too; only one that is in the file counts as written.
            is_generated = raw.FPDFText_IsGenerated(self._page, n) == 1
            if is_generated or not self._has_height(n) or self._is_in_place(n, run):
                self._space = max(self._space, 2 if is_generated else 3)
                return
            text = " "  # whether its place holds ink will be measured: a map may call a letter a space
        self._add(n, text, run)

    def _has_height(self, n: int) -> bool:
        """Whether the font has a shape for a character: PDFium gives a space a box without height."""
        left, right, bottom, top = self._edges
        if not raw.FPDFText_GetCharBox(self._page, n, left, right, bottom, top):
            return False
        return min(right.value - left.value, top.value - bottom.value) > NO_INK_PT

    def _is_in_place(self, n: int, run: Run) -> bool:
        """Whether a character has the place of the one before: both belong to a text for the whole."""
        x, y = self._origin
        last = self._found[-1] if self._found else None
        return (
            last is not None
            and last.run is run
            and bool(raw.FPDFText_GetCharOrigin(self._page, n, x, y))
            and (last.x, last.y) == self._matrix.point(x.value, y.value)
        )

    def _run(self, n: int, address: int) -> Run:
        run = self._runs.get(address)
        if run is None:  # in a form that is nested too deeply to be looked at
            run = self._runs[address] = Run()
        self._measured[address] = run
        self._measure(n, run)
        return run

    def _add(self, n: int, text: str, run: Run) -> None:
        left, right, bottom, top = self._edges
        x, y = self._origin
        if not raw.FPDFText_GetCharBox(self._page, n, left, right, bottom, top) or not raw.FPDFText_GetCharOrigin(
            self._page, n, x, y
        ):
            return
        box = self._matrix.box(left.value, bottom.value, right.value, top.value)
        origin = self._matrix.point(x.value, y.value)
        if not math.isfinite(sum(box) + sum(origin)):
            return
        if text < " " and min(box[2] - box[0], box[3] - box[1]) < NO_INK_PT:
            # A character that no font has, and that shows nothing: a space where it takes up room.
            self._space = 3 if text.isspace() else max(self._space, 1)
            return
        known = raw.FPDFText_HasUnicodeMapError(self._page, n) != 1 and text != " "
        if run.symbols and (sign := symbol_character(run.symbols, text)):
            text, known = sign, True
        last = self._found[-1] if self._found else None
        is_in_place = last is not None and run is last.run and (last.x, last.y) == origin
        self._in_place = self._in_place + 1 if is_in_place else 0
        run.is_replaced = run.is_replaced or self._in_place >= REPLACED_LEAST
        if last is not None and is_in_place and not self._space and known:
            last.text += text  # one drawing for several letters, which PDFium gives one by one
            last.box = (min(last.box[0], box[0]), last.box[1], max(last.box[2], box[2]), last.box[3])
            self._last_number = n
            return
        if last is not None and last.end is None and self._may_be_apart(last, box, text):
            self._find_end(self._last_number, last)
        self._found.append(Glyph(text, box, *origin, run, self._space, self._fresh, known))
        self._space, self._fresh, self._last_number = 0, False, n

    def _may_be_apart(self, last: Glyph, box: Box, text: str) -> bool:
        """Whether the width of a glyph must tell if there is a space behind it: most touch the next one."""
        run = last.run
        if self._space or (text > "\u007f" and unicodedata.bidirectional(text) in ("R", "AL", "AN")):
            return True
        x1, y1, x2, y2 = box
        left, top, right, bottom = last.box
        gap = LEAST_GAP_EM * run.size
        return x1 - right > gap or left - x2 > gap or y1 - bottom > gap or top - y2 > gap

    def _find_end(self, n: int, glyph: Glyph) -> None:
        """Note where the pen is after a character, by the width that the font gives it.

        PDFium gives a box around the width and the ink: of a slanted f, whose ink goes beyond, it tells no width.
        """
        run = glyph.run
        loose = self._loose
        if abs((run.angle + 45) % 90 - 45) > TURN_DEG or not raw.FPDFText_GetLooseCharBox(self._page, n, loose):
            return
        x1, y1, x2, y2 = self._matrix.box(loose.left, loose.bottom, loose.right, loose.top)
        end = max(run.along(x1, y1), run.along(x2, y2))
        if math.isfinite(end):
            ink = max(run.along(*glyph.box[:2]), run.along(*glyph.box[2:]))
            is_least = end <= ink + OVERHANG_EM * run.size
            glyph.end, glyph.is_end_least = max(end, ink) if len(glyph.text) > 1 else end, is_least

    def _measure(self, n: int, run: Run) -> None:
        """Note how large a run is, which way it goes and which font it has."""
        inner = raw.FS_MATRIX()
        if raw.FPDFText_GetMatrix(self._page, n, inner):
            size = raw.FPDFText_GetFontSize(self._page, n)
            whole = self._matrix.after(Matrix.of(inner))
            run.size = abs(size) * math.hypot(whole.c, whole.d)
            # A negative size turns its letters round, as a matrix does.
            run.angle = math.degrees(math.atan2(whole.b, whole.a)) + (180.0 if size < 0 else 0.0)
        font = raw.FPDFTextObj_GetFont(run.item) if run.item else None
        if font:
            buffer = ctypes.create_string_buffer(128)
            raw.FPDFFont_GetBaseFontName(font, buffer, len(buffer))
            name = buffer.value.lower()
            run.bold = name.endswith(b"-medi") or any(word in name for word in BOLD_NAMES)
            run.dingbat = any(word in name for word in DINGBATS)
            run.symbols = symbol_font(buffer.value.decode("latin-1")) or ""
            run.embedded = raw.FPDFFont_GetIsEmbedded(font) == 1
            run.font = _address(font)


def _doubt_shapes(glyphs: Sequence[Glyph]) -> None:
    """Mark glyphs that have a shape, and a name that has none; and those that are too high for a hyphen."""
    tallest: dict[int, float] = {}
    for glyph in glyphs:
        thin = _thin(glyph.box)
        if thin > tallest.get(id(glyph.run), 0.0):
            tallest[id(glyph.run)] = thin
        if glyph.text > "\u007f" and UNSEEN.fullmatch(glyph.text):
            glyph.known = glyph.known and thin <= NO_INK_PT
    for glyph in glyphs:
        if glyph.text in HYPHEN_SIGNS and _thin(glyph.box) > HYPHEN_HIGH * tallest.get(id(glyph.run), 0.0) > 0:
            glyph.known = glyph.known and _thin(glyph.box) <= HYPHEN_EM * glyph.run.size


def _doubt_ligatures(glyphs: Sequence[Glyph]) -> None:
    """Mark glyphs that are far wider than the others of their name: a map may name a ligature by one of its letters.

    All letters of a stretched or outlined word are wider: such a glyph stands among letters as wide as ever.
    """
    widths: dict[tuple[int, str], list[float]] = {}
    heights: dict[tuple[int, str], float] = {}
    for glyph in filter(_is_compared, glyphs):
        key, size = (glyph.run.font, glyph.text), glyph.run.size
        widths.setdefault(key, []).append((glyph.box[2] - glyph.box[0]) / size)
        heights[key] = max(heights.get(key, 0.0), (glyph.box[3] - glyph.box[1]) / size)
    usual = {key: sorted(found)[(len(found) - 1) // 2] for key, found in widths.items()}
    for font, letter in list(usual):
        if letter == "i" and (font, "l") in usual:  # a font may have its only i in the word "final"
            usual[font, "i"] = min(usual[font, "i"], usual[font, "l"] + I_MORE_EM)
    wide = {
        key
        for key, found in widths.items()
        if key[1] in LIGATURE_LETTERS and max(found) >= usual[key] + LIGATURE_MORE_EM
    }
    if not wide:
        return

    def more(glyph: Glyph) -> float:
        """How much wider a glyph is than usual, of its size."""
        return (glyph.box[2] - glyph.box[0]) / glyph.run.size - usual[glyph.run.font, glyph.text]

    for n, glyph in enumerate(glyphs):
        key = (glyph.run.font, glyph.text)
        if key not in wide or not glyph.known or not _is_compared(glyph) or more(glyph) < LIGATURE_MORE_EM:
            continue
        if glyph.box[3] - glyph.box[1] < LIGATURE_HIGH * heights[key] * glyph.run.size:
            continue  # a small capital
        around = [*glyphs[max(0, n - LIGATURE_AROUND) : n], *glyphs[n + 1 : n + 1 + LIGATURE_AROUND]]
        like = [each for each in around if each.run.size == glyph.run.size and (each.run.font, each.text) in usual]
        own = [each for each in like if each.run is glyph.run]
        beside = [more(each) for each in (own if len(own) > 1 else like)]
        glyph.known = not beside or median(beside) > LIGATURE_BESIDE_EM


def _is_compared(glyph: Glyph) -> bool:
    """Whether the width of a glyph tells about ligatures of its font: an upright letter like theirs, or beside them."""
    run = glyph.run
    return run.embedded and glyph.text in COMPARED_LETTERS and -TURN_DEG < run.angle < TURN_DEG and run.size > 0


def _thin(box: Box) -> float:
    return min(box[2] - box[0], box[3] - box[1])


def _tighten(glyphs: Sequence[Glyph]) -> None:
    """Let each box of a font that has one box for all of its glyphs end where the next glyph begins.

    Type 3 fonts may say so. The ink of a full stop is nothing in such a box, and each box overlaps the next ones.
    """
    runs: dict[int, list[Glyph]] = {}
    for glyph in glyphs:
        runs.setdefault(id(glyph.run), []).append(glyph)
    for found in runs.values():
        if len(found) < LOOSE_LEAST or found[0].run.angle != 0:
            continue
        first = found[0].box
        size = (first[2] - first[0], first[3] - first[1])
        if any(max(abs(g.box[2] - g.box[0] - size[0]), abs(g.box[3] - g.box[1] - size[1])) > NO_INK_PT for g in found):
            continue
        steps = [after.x - glyph.x for glyph, after in pairwise(found)]
        if (
            len({round(step, 1) for step in steps}) < LOOSE_STEPS
            or sum(0 < s < size[0] for s in steps) < len(steps) / 2
        ):
            continue
        widths = {glyph.text: step for glyph, step in zip(found, steps, strict=False)}
        last = widths.get(found[-1].text, median(step for step in steps if step > 0))
        for glyph, step in zip(found, [*steps, last], strict=True):
            if 0 < step < size[0]:
                glyph.box = (glyph.box[0], glyph.box[1], glyph.box[0] + step, glyph.box[3])


def _put_in_order(before: Glyph | None, glyph: Glyph, after: Glyph | None) -> None:
    """Turn the letters of a ligature of Hebrew or Arabic round where PDFium gives the line from left to right."""
    if unicodedata.bidirectional(glyph.text[0]) in ("R", "AL"):
        following = after.x if after is not None else None
        x = following if before is None or before.y != glyph.y else 2 * glyph.x - before.x
        if (x is not None and x > glyph.x) or glyph.text[1] == LAM:
            glyph.text = glyph.text[::-1]

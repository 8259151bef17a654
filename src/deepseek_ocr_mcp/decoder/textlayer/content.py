"""What PDFium knows about a page without drawing it: its characters, pictures, rules and shapes.

Everything is given in points of the page as it is seen: upright, origin top left, after `/Rotate`
and inside the page's box. Time and memory are bounded: a page with more characters, objects or
path segments than the limits raises `TooMuch`, and so does one that takes too long. Runs in the
sandboxed child; PDFium is imported by the first call.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pypdfium2
import pypdfium2.raw as raw

__all__ = [
    "Area",
    "Box",
    "Clock",
    "Colour",
    "Content",
    "Field",
    "Glyph",
    "Matrix",
    "TextRun",
    "TooMuch",
    "read_content",
]


Box = tuple[float, float, float, float]
Colour = tuple[int, int, int]
"""Red, green, blue: 0 to 255."""

MAX_GLYPHS: Final = 60_000  # a page of a newspaper has 20,000
MAX_OBJECTS: Final = 60_000  # a map has as many; beyond, drawing is no slower than looking
MAX_SEGMENTS: Final = 200_000  # of all paths together
MAX_AREAS: Final = 4_000  # pictures or coloured areas that are looked at, first come
MAX_RULES: Final = 8_000
MAX_DOTS: Final = 500
MAX_FIELDS: Final = 4_000  # annotations
MAX_DEPTH: Final = 8  # forms within forms
LOOK_S: Final = 6.0  # seconds; reading a page by recognition takes about as long
ASK_EVERY: Final = 500  # glyphs or objects between two looks at the clock

RULE_PT: Final = 3.0  # an area that is thinner is a line
RULE_LENGTH_PT: Final = 4.0
STRAIGHT_PT: Final = 0.6  # how far a line may lean and still be level
DOT_PT: Final = (1.0, 9.0)  # least and greatest size of a list mark drawn as a shape
SHAPE_SEGMENTS: Final = 7  # of the simplest letter with a curve
SHAPE_PT: Final = (2.0, 72.0)  # least and greatest height of a letter drawn as a shape
SEGMENTS_PER_LETTER: Final = 30

BOLD_NAMES: Final = (b"bold", b"black", b"heavy", b"demi", b"-bd", b"cmbx", b"sfbx")
NO_INK_PT: Final = 0.1
LAM: Final = "ل"  # with the alef after it, the one ligature that every font has
SOFT_HYPHEN: Final = 0xAD  # one that is in the file is drawn
HIDDEN_FLAGS: Final = 0b100010  # annotations: Hidden, NoView
NO_TEXT_ANNOTATIONS: Final = frozenset(
    {"LINK", "POPUP", "TEXT", "HIGHLIGHT", "UNDERLINE", "SQUIGGLY", "STRIKEOUT", "LINE", "SQUARE", "CIRCLE", "INK"}
)
"""Kinds of annotations that show no text of their own on the page."""


class TooMuch(Exception):
    """The page is beyond a limit; its message is a fragment that says which."""


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
        ax, ay = self.point(x1, y1)
        bx, by = self.point(x2, y2)
        if (self.b or self.c) and (self.a or self.d):  # neither straight nor on its side
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
        """What does `first`, then this."""
        a, b = self.a * first.a + self.c * first.b, self.b * first.a + self.d * first.b
        c, d = self.a * first.c + self.c * first.d, self.b * first.c + self.d * first.d
        e, f = self.point(first.e, first.f)
        return Matrix(a, b, c, d, e, f)

    @classmethod
    def of(cls, raw: Any) -> Matrix:
        return cls(raw.a, raw.b, raw.c, raw.d, raw.e, raw.f)


@dataclass(slots=True)
class TextRun:
    """Text that was set with one command: everything its characters have in common."""

    size: float = 0.0
    """Height of a line, points."""
    angle: float = 0.0
    """Degrees clockwise from running to the right."""
    order: int = -1
    """When it is drawn: areas with a greater number may cover it. -1: not known."""
    mode: int = 0
    """PDF's text rendering mode: 3 is invisible."""
    colour: tuple[int, int, int, int] | None = None
    """Red, green, blue and alpha; None: a pattern."""
    clip: Box | None = None
    """What is outside is not drawn."""
    layered: bool = False
    """Belongs to an optional layer, which may be switched off."""
    bold: bool = False


@dataclass(slots=True)
class Glyph:
    """One character, or the few of a ligature."""

    text: str
    box: Box
    """The ink."""
    x: float
    """The origin: where the baseline begins."""
    y: float
    run: TextRun
    space: int = 0
    """White space before it: 0 none, 1 where PDFium saw a gap, 2 written in the text."""
    fresh: bool = False
    """PDFium begins a line with it."""
    known: bool = True
    """The file says which character it is."""


@dataclass(frozen=True, slots=True)
class Area:
    """A picture (`colour` is None) or a filled path."""

    box: Box
    order: int
    colour: Colour | None = None
    picture: bool = False
    bilevel: bool = False
    """Black and white, as fax machines and scanners write."""
    opaque: bool = True
    exact: bool = True
    """It fills its box."""


@dataclass(frozen=True, slots=True)
class Field:
    """A form field that shows text."""

    text: str
    box: Box


@dataclass(slots=True)
class Content:
    """A page as PDFium knows it."""

    width: float
    height: float
    glyphs: list[Glyph] = field(default_factory=list)
    pictures: list[Area] = field(default_factory=list)
    grounds: list[Area] = field(default_factory=list)
    rules: list[Box] = field(default_factory=list)
    """Straight lines along the axes."""
    dots: list[Box] = field(default_factory=list)
    """Small filled shapes, as wide as high: list marks, perhaps."""
    shapes: int = 0
    """Filled curves that could be letters."""
    shape_kinds: int = 0
    """How many different ones."""
    objects: int = 0
    fields: list[Field] = field(default_factory=list)


def read_content(document: Any, number: int, path: str, clock: Clock) -> Content:
    """Everything on page `number`, counted from 0, of an open pypdfium2 document, whose file is `path`.

    Raises:
        TooMuch: beyond the limits of this module.
    """
    page = document[number]
    other = None
    try:
        fields, drawn = _annotations(document, page, clock)
        if drawn:
            # Text of annotations and form fields is not in a page's text. Put into the page it is, exactly as it
            # is drawn; in a copy, so that drawing the page goes on as ever.
            other, page_of_copy = _flattened(path, number)
            if page_of_copy is not None:
                page.close()
                page = page_of_copy
        content = _look(page, clock)
        content.fields = [Field(f.text, _upright(page).box(*f.box)) for f in fields]
        return content
    finally:
        page.close()
        if other is not None:
            other.close()


class Clock:
    """Counts work, and looks at the time now and then. `ask` raises when nobody waits any more."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._end = time.monotonic() + LOOK_S
        self._count = 0

    def tick(self) -> None:
        """One more glyph or object. Raises `TooMuch` when the time is over."""
        self._count += 1
        if self._count % ASK_EVERY == 0:
            self._ask()
            if time.monotonic() > self._end:
                raise TooMuch("the page takes too long to look through")


def _upright(page: Any) -> Matrix:
    """From the page's own coordinates to points of the page as it is seen."""
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


def _annotations(document: Any, page: Any, clock: Clock) -> tuple[list[Field], bool]:
    """Fields that hold text, in the page's own coordinates, and whether any annotation may show text."""
    count = raw.FPDFPage_GetAnnotCount(page)
    if count > MAX_FIELDS:
        raise TooMuch(f"the page has more than {MAX_FIELDS:,} annotations")
    quiet = {getattr(raw, f"FPDF_ANNOT_{kind}") for kind in NO_TEXT_ANNOTATIONS}
    fields: list[Field] = []
    drawn = False
    for n in range(count):
        clock.tick()
        annotation = raw.FPDFPage_GetAnnot(page, n)
        if not annotation:
            continue
        try:
            kind = raw.FPDFAnnot_GetSubtype(annotation)
            if raw.FPDFAnnot_GetFlags(annotation) & HIDDEN_FLAGS or kind in quiet:
                continue
            drawn = True
            if kind == raw.FPDF_ANNOT_WIDGET and document.formenv is not None:
                text = _field_text(document.formenv, annotation)
                rect = raw.FS_RECTF()
                if text.strip() and raw.FPDFAnnot_GetRect(annotation, rect):
                    fields.append(Field(text, (rect.left, rect.bottom, rect.right, rect.top)))
        finally:
            raw.FPDFPage_CloseAnnot(annotation)
    return fields, drawn


def _field_text(form: Any, annotation: Any) -> str:
    """What a person typed or chose; nothing for buttons, signatures and passwords."""
    kind = raw.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind not in (raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX):
        return ""
    password = 1 << 13
    if kind == raw.FPDF_FORMFIELD_TEXTFIELD and raw.FPDFAnnot_GetFormFieldFlags(form, annotation) & password:
        return ""
    size = raw.FPDFAnnot_GetFormFieldValue(form, annotation, None, 0)
    if not 2 < size <= 1 << 20:
        return ""
    buffer = ctypes.create_string_buffer(size)
    raw.FPDFAnnot_GetFormFieldValue(
        form, annotation, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), ctypes.c_ulong(size)
    )
    return buffer.raw[: size - 2].decode("utf-16-le", "replace")


def _flattened(path: str, number: int) -> tuple[Any, Any]:
    """A second document whose page has its annotations in its content; the page is None where that fails."""
    other = None
    try:
        other = pypdfium2.PdfDocument(path)
        with contextlib.suppress(pypdfium2.PdfiumError):
            other.init_forms()  # makes the appearance of fields that have none yet
        page = other[number]
        done = raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY)
        page.close()
        return other, other[number] if done == raw.FLATTEN_SUCCESS else None
    except pypdfium2.PdfiumError:
        return other, None


def _look(page: Any, clock: Clock) -> Content:
    content = Content(page.get_width(), page.get_height())
    upright = _upright(page)
    runs = _Scene(content, clock).walk(page, upright)
    text_page = page.get_textpage()
    try:
        content.glyphs = list(_glyphs(text_page, upright, runs, clock))
    finally:
        text_page.close()
    return content


class _Scene:
    """Walks through a page's objects in the order in which they are drawn."""

    def __init__(self, content: Content, clock: Clock) -> None:
        self._content = content
        self._clock = clock
        self._runs: dict[int, TextRun] = {}
        self._segments = 0
        self._kinds: set[int] = set()

    def walk(self, page: Any, upright: Matrix) -> dict[int, TextRun]:
        self._raw = raw
        self._objects(page, raw.FPDFPage_CountObjects, raw.FPDFPage_GetObject, upright, None, False, False, 0)
        self._content.shape_kinds = len(self._kinds)
        return self._runs

    def _objects(
        self,
        container: Any,
        count: Callable[[Any], int],
        get: Callable[[Any, int], Any],
        matrix: Matrix,
        clip: Box | None,
        layered: bool,
        see_through: bool,
        depth: int,
    ) -> None:
        raw = self._raw
        for n in range(count(container)):
            self._clock.tick()
            self._content.objects += 1
            if self._content.objects > MAX_OBJECTS:
                raise TooMuch(f"the page is drawn with more than {MAX_OBJECTS:,} strokes")
            item = get(container, n)
            kind = raw.FPDFPageObj_GetType(item)
            own_layer = layered or self._on_layer(item)
            own_clip = _meet(clip, self._clip(item, matrix))
            clear = see_through or bool(raw.FPDFPageObj_HasTransparency(item))
            if kind == raw.FPDF_PAGEOBJ_TEXT:
                self._text(item, own_clip, own_layer)
            elif kind == raw.FPDF_PAGEOBJ_IMAGE:
                self._picture(item, matrix, own_clip, clear)
            elif kind == raw.FPDF_PAGEOBJ_PATH:
                self._path(item, matrix, own_clip, clear)
            elif kind == raw.FPDF_PAGEOBJ_SHADING:
                self._area(item, matrix, own_clip, opaque=False)
            elif kind == raw.FPDF_PAGEOBJ_FORM and depth < MAX_DEPTH:
                inner = raw.FS_MATRIX()
                raw.FPDFPageObj_GetMatrix(item, inner)
                self._objects(
                    item,
                    raw.FPDFFormObj_CountObjects,
                    raw.FPDFFormObj_GetObject,
                    matrix.after(Matrix.of(inner)),
                    own_clip,
                    own_layer,
                    clear,
                    depth + 1,
                )

    def _on_layer(self, item: Any) -> bool:
        raw = self._raw
        for n in range(min(raw.FPDFPageObj_CountMarks(item), MAX_DEPTH)):
            buffer, size = (ctypes.c_ushort * 4)(), ctypes.c_ulong()
            mark = raw.FPDFPageObj_GetMark(item, n)
            if (
                raw.FPDFPageObjMark_GetName(mark, buffer, ctypes.sizeof(buffer), size)
                and size.value == 6
                and bytes(buffer)[:4].decode("utf-16-le") == "OC"
            ):
                return True
        return False

    def _clip(self, item: Any, matrix: Matrix) -> Box | None:
        """The box of what is not cut off. A clip with many corners counts as its outline."""
        raw = self._raw
        path = raw.FPDFPageObj_GetClipPath(item)
        clip: Box | None = None
        for n in range(min(max(raw.FPDFClipPath_CountPaths(path), 0), MAX_DEPTH)):
            count = raw.FPDFClipPath_CountPathSegments(path, n)
            if not 2 < count <= 64:
                continue
            points = [self._point(raw.FPDFClipPath_GetPathSegment(path, n, k)) for k in range(count)]
            xs, ys = [x for x, _ in points], [y for _, y in points]
            clip = _meet(clip, matrix.box(min(xs), min(ys), max(xs), max(ys)))
        return clip

    def _point(self, segment: Any) -> tuple[float, float]:
        x, y = ctypes.c_float(), ctypes.c_float()
        self._raw.FPDFPathSegment_GetPoint(segment, x, y)
        return x.value, y.value

    def _colour(self, get: Callable[..., Any], item: Any) -> tuple[int, int, int, int] | None:
        r, g, b, a = (ctypes.c_uint() for _ in range(4))
        return (r.value, g.value, b.value, a.value) if get(item, r, g, b, a) else None

    def _bounds(self, item: Any, matrix: Matrix) -> Box | None:
        left, bottom, right, top = (ctypes.c_float() for _ in range(4))
        if not self._raw.FPDFPageObj_GetBounds(item, left, bottom, right, top):
            return None
        box = matrix.box(left.value, bottom.value, right.value, top.value)
        return box if all(map(math.isfinite, box)) else None

    def _text(self, item: Any, clip: Box | None, layered: bool) -> None:
        raw = self._raw
        mode = raw.FPDFTextObj_GetTextRenderMode(item)
        get = raw.FPDFPageObj_GetStrokeColor if mode == raw.FPDF_TEXTRENDERMODE_STROKE else raw.FPDFPageObj_GetFillColor
        self._runs[_address(item)] = TextRun(
            order=self._content.objects,
            mode=mode,
            colour=self._colour(get, item),
            clip=clip,
            layered=layered,
            bold=_is_bold(raw, item),
        )

    def _area(self, item: Any, matrix: Matrix, clip: Box | None, **facts: Any) -> None:
        box = _meet(self._bounds(item, matrix), clip)
        areas = self._content.pictures if facts.get("picture") else self._content.grounds
        if box is not None and box[0] < box[2] and box[1] < box[3] and len(areas) < MAX_AREAS:
            areas.append(Area(box, self._content.objects, **facts))

    def _picture(self, item: Any, matrix: Matrix, clip: Box | None, clear: bool) -> None:
        raw = self._raw
        bilevel = False
        for n in range(min(raw.FPDFImageObj_GetImageFilterCount(item), MAX_DEPTH)):
            buffer = ctypes.create_string_buffer(32)
            raw.FPDFImageObj_GetImageFilter(item, n, buffer, len(buffer))
            bilevel = bilevel or buffer.value in (b"CCITTFaxDecode", b"CCF", b"JBIG2Decode")
        self._area(item, matrix, clip, picture=True, bilevel=bilevel, opaque=not clear)

    def _path(self, item: Any, matrix: Matrix, clip: Box | None, clear: bool) -> None:
        raw = self._raw
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
        inner = raw.FS_MATRIX()
        whole = matrix.after(Matrix.of(inner)) if raw.FPDFPageObj_GetMatrix(item, inner) else matrix
        segments = list(self._outline(item, count, whole))
        curved = any(kind == raw.FPDF_SEGMENT_BEZIERTO for kind, _, _ in segments)
        if filled:
            box = self._bounds(item, matrix)
            if box is not None and _is_dot(box) and len(self._content.dots) < MAX_DOTS:
                self._content.dots.append(box)
            if box is not None and curved and count >= SHAPE_SEGMENTS and SHAPE_PT[0] <= box[3] - box[1] <= SHAPE_PT[1]:
                self._content.shapes += max(1, count // SEGMENTS_PER_LETTER)
                self._kinds.add(count)
            if box is not None and min(box[2] - box[0], box[3] - box[1]) > RULE_PT:
                colour = self._colour(raw.FPDFPageObj_GetFillColor, item)
                self._area(
                    item,
                    matrix,
                    clip,
                    colour=colour[:3] if colour else None,
                    opaque=not clear and colour is not None and colour[3] == 255,
                    exact=not curved and count <= 6,
                )
        if not curved or stroked:
            self._rules(segments, filled and not stroked, clip)

    def _outline(self, item: Any, count: int, matrix: Matrix) -> Iterator[tuple[int, float, float]]:
        raw = self._raw
        for n in range(count):
            segment = raw.FPDFPath_GetPathSegment(item, n)
            yield raw.FPDFPathSegment_GetType(segment), *matrix.point(*self._point(segment))

    def _rules(self, segments: list[tuple[int, float, float]], thin: bool, clip: Box | None) -> None:
        """Straight lines along the axes: strokes, and filled rectangles that are as thin as a line."""
        raw, rules = self._raw, self._content.rules
        parts: list[list[tuple[float, float]]] = []
        for kind, x, y in segments:
            if kind == raw.FPDF_SEGMENT_MOVETO or not parts:
                parts.append([])
            elif kind != raw.FPDF_SEGMENT_LINETO:
                parts.append([])  # a curve parts what it joins
            parts[-1].append((x, y))
        for points in parts:
            if len(rules) >= MAX_RULES:
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


def _is_dot(box: Box) -> bool:
    wide, high = box[2] - box[0], box[3] - box[1]
    return DOT_PT[0] <= min(wide, high) <= max(wide, high) <= min(DOT_PT[1], 1.4 * min(wide, high))


def _is_bold(raw: Any, item: Any) -> bool:
    font = raw.FPDFTextObj_GetFont(item)
    if not font:
        return False
    buffer = ctypes.create_string_buffer(128)
    raw.FPDFFont_GetBaseFontName(font, buffer, len(buffer))
    name = buffer.value.lower()
    return name.endswith(b"-medi") or any(word in name for word in BOLD_NAMES)


def _address(item: Any) -> int:
    return ctypes.addressof(item.contents) if item else 0


def _meet(one: Box | None, other: Box | None) -> Box | None:
    """What both have in common; None has no bounds."""
    if one is None or other is None:
        return one or other
    return max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])


def _glyphs(text_page: Any, upright: Matrix, runs: dict[int, TextRun], clock: Clock) -> Iterator[Glyph]:
    count = text_page.count_chars()
    if count > MAX_GLYPHS:
        raise TooMuch(f"the page has more than {MAX_GLYPHS:,} characters")
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    x, y = ctypes.c_double(), ctypes.c_double()
    measured: set[int] = set()
    space, fresh, high = 0, True, 0
    before: Glyph | None = None
    last: Glyph | None = None
    for n in range(count):
        clock.tick()
        code = raw.FPDFText_GetUnicode(text_page, n)
        item = raw.FPDFText_GetTextObject(text_page, n)
        address = _address(item)
        if not address:  # PDFium's own: a gap or the end of a line
            if code in (0x0A, 0x0D):
                fresh = True
            else:
                space = max(space, 1)
            continue
        if 0xD800 <= code < 0xDC00:
            high = code
            continue
        if 0xDC00 <= code < 0xE000 and high:
            code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00)
        high = 0
        if raw.FPDFText_IsHyphen(text_page, n) == 1 or code == SOFT_HYPHEN:
            code = 0x2D
        text = chr(code) if code < 0x110000 else "\ufffd"
        if text.isspace():
            space = 2
            continue
        if not raw.FPDFText_GetCharBox(text_page, n, left, right, bottom, top) or not raw.FPDFText_GetCharOrigin(
            text_page, n, x, y
        ):
            continue
        box = upright.box(left.value, bottom.value, right.value, top.value)
        origin = upright.point(x.value, y.value)
        if not all(map(math.isfinite, (*box, *origin))):
            continue
        if code < 0x20 and min(box[2] - box[0], box[3] - box[1]) < NO_INK_PT:
            continue  # a character that no font has, and that shows nothing
        run = runs.setdefault(address, TextRun())
        if address not in measured:
            measured.add(address)
            _measure(raw, text_page, n, upright, run)
        known = raw.FPDFText_HasUnicodeMapError(text_page, n) != 1
        if last is not None and run is last.run and not space and (last.x, last.y) == origin and known:
            last.text += text  # one drawing for several letters, which PDFium gives one by one
            last.box = (min(last.box[0], box[0]), last.box[1], max(last.box[2], box[2]), last.box[3])
            continue
        if last is not None:
            yield _in_order(before, last, origin[0])
        before, last = last, Glyph(text, box, *origin, run, space, fresh, known)
        space, fresh = 0, False
    if last is not None:
        yield _in_order(before, last, None)


def _in_order(before: Glyph | None, glyph: Glyph, following: float | None) -> Glyph:
    """A ligature of Hebrew or Arabic has its letters turned round where PDFium gives the line from left to right."""
    if len(glyph.text) > 1 and unicodedata.bidirectional(glyph.text[0]) in ("R", "AL"):
        x = following if before is None or before.y != glyph.y else 2 * glyph.x - before.x
        if (x is not None and x > glyph.x) or glyph.text[1] == LAM:
            glyph.text = glyph.text[::-1]
    return glyph


def _measure(raw: Any, text_page: Any, n: int, upright: Matrix, run: TextRun) -> None:
    """How large a run is and which way it goes."""
    inner = raw.FS_MATRIX()
    if not raw.FPDFText_GetMatrix(text_page, n, inner):
        return
    whole = upright.after(Matrix.of(inner))
    run.size = abs(raw.FPDFText_GetFontSize(text_page, n)) * math.hypot(whole.c, whole.d)
    run.angle = math.degrees(math.atan2(whole.b, whole.a))

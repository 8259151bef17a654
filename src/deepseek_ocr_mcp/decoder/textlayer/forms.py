"""Opens a page with its annotations and form fields as a part of its content, where they are visible.

PDFium's text of a page leaves out the text of annotations and fields. Flattened into the page, it is there exactly as
it is drawn. That happens in a second copy of the document, so that drawing the first one goes on as ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pypdfium2
import pypdfium2.raw as raw

from .content import Box, Clock, Matrix, TooMuch, upright
from .drawing import give_appearances

__all__ = ["Button", "Field", "Opened", "holds_unknown_field", "opened"]

MAX_ANNOTATIONS: Final = 4_000
MAX_VALUE_BYTES: Final = 1 << 20
HIDDEN_FLAGS: Final = 0b100010  # annotations: Hidden, NoView
INVISIBLE_FLAG: Final = 0b1  # meant for kinds that a reader does not know; PDFium draws them all
PASSWORD_FLAG: Final = 1 << 13
NO_TEXT_ANNOTATIONS: Final = frozenset(
    {"LINK", "POPUP", "HIGHLIGHT", "UNDERLINE", "SQUIGGLY", "STRIKEOUT", "LINE", "SQUARE", "CIRCLE", "INK"}
)
"""Kinds of annotations that show no text of their own on the page; the ink that they draw is measured all the same."""
ICONS: Final = frozenset({raw.FPDF_ANNOT_TEXT, raw.FPDF_ANNOT_FILEATTACHMENT})
"""Kinds that are icons which a person moves aside to see the words below."""
QUIET: Final = frozenset(getattr(raw, f"FPDF_ANNOT_{kind}") for kind in NO_TEXT_ANNOTATIONS)
STRUCK: Final = raw.FPDF_ANNOT_STRIKEOUT
COMMENTED: Final = frozenset(
    getattr(raw, f"FPDF_ANNOT_{kind}")
    for kind in ("TEXT", "HIGHLIGHT", "UNDERLINE", "SQUIGGLY", "STRIKEOUT", "CARET", "LINE", "SQUARE", "CIRCLE", "INK")
)
"""Kinds of annotations whose `/Contents` is a comment, which programs show beside the page."""
MAX_OPTIONS: Final = 1_000  # of a field to choose from
MAX_STRUCK: Final = 200  # quadrilaterals of one annotation
BUTTONS: Final = frozenset({raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON})


@dataclass(frozen=True, slots=True)
class Field:
    """A form field that shows text."""

    text: str
    box: Box


@dataclass(frozen=True, slots=True)
class Button:
    """A check box or a radio button."""

    is_on: bool
    box: Box


@dataclass(slots=True)
class Opened:
    """An open page, and its form fields in points of the page as a person sees it."""

    page: Any
    fields: list[Field] = field(default_factory=list)
    buttons: list[Button] = field(default_factory=list)
    inks: list[Box] = field(default_factory=list)
    """Where somebody drew by hand: words, perhaps."""
    layered: int = 0
    """Annotations that show text and belong to a layer, which may be off: PDFium draws them all the same."""
    struck: list[Box] = field(default_factory=list)
    """The bars of annotations that strike words out."""
    comments: list[str] = field(default_factory=list)
    """Comments on the page, which other programs show beside it or in a window of their own."""
    undrawn: list[str] = field(default_factory=list)
    """Words of notes that other programs draw and PDFium does not."""


@contextlib.contextmanager
def opened(document: Any, number: int, path: str, clock: Clock, password: str = "") -> Iterator[Opened]:
    """Open a page of a PDF with its annotations and form fields.

    Args:
        document: the pypdfium2 document.
        number: the page, from 0.
        path: the file of the document.
        clock: bounds the time.
        password: the password of the document.

    Raises:
        TooMuch: the page has more annotations than anybody reads.
    """
    page = document[number]
    copy = None
    try:
        found = Opened(page)
        if _look_at_annotations(document, found, clock):
            copy, flattened = _flattened(path, password, number, found)
            if flattened is not None:
                page.close()
                page = found.page = flattened
        yield found
    finally:
        page.close()
        if copy is not None:
            copy.close()


def _look_at_annotations(document: Any, found: Opened, clock: Clock) -> bool:
    """Note the fields and buttons. Returns whether any annotation may show text."""
    count = raw.FPDFPage_GetAnnotCount(found.page)
    if count > MAX_ANNOTATIONS:
        raise TooMuch(f"the page has more than {MAX_ANNOTATIONS:,} annotations")
    matrix = upright(found.page) if count else None
    is_drawn = False
    for n in range(count):
        clock.tick()
        with _annotation(found.page, n) as annotation:
            if not annotation or raw.FPDFAnnot_GetFlags(annotation) & HIDDEN_FLAGS:
                continue
            kind = raw.FPDFAnnot_GetSubtype(annotation)
            rect = raw.FS_RECTF()
            has_place = matrix is not None and bool(raw.FPDFAnnot_GetRect(annotation, rect))
            box = matrix.box(rect.left, rect.bottom, rect.right, rect.top) if matrix is not None else (0, 0, 0, 0)
            if kind == raw.FPDF_ANNOT_INK and has_place and not _holds_text(annotation):
                found.inks.append(box)
            if kind == STRUCK and matrix is not None:
                found.struck += _bars(annotation, matrix)
            if kind in COMMENTED and (comment := _comment(annotation)):
                found.comments.append(comment)
            if kind in QUIET and not _holds_text(annotation):
                continue
            is_drawn = True
            found.layered += bool(raw.FPDFAnnot_HasKey(annotation, b"OC"))
            if kind == raw.FPDF_ANNOT_WIDGET and document.formenv is not None and has_place:
                _note_field(document.formenv, annotation, found, box)
    return is_drawn


@contextlib.contextmanager
def _annotation(page: Any, number: int) -> Iterator[Any]:
    annotation = raw.FPDFPage_GetAnnot(page, number)
    try:
        yield annotation
    finally:
        if annotation:
            raw.FPDFPage_CloseAnnot(annotation)


def _bars(annotation: Any, matrix: Matrix) -> list[Box]:
    """The bars through the middle of what an annotation strikes out, in points of the upright page."""
    bars = []
    quad = raw.FS_QUADPOINTSF()
    for n in range(min(raw.FPDFAnnot_CountAttachmentPoints(annotation), MAX_STRUCK)):
        if raw.FPDFAnnot_GetAttachmentPoints(annotation, n, quad):
            xs, ys = (quad.x1, quad.x2, quad.x3, quad.x4), (quad.y1, quad.y2, quad.y3, quad.y4)
            left, top, right, bottom = matrix.box(min(xs), min(ys), max(xs), max(ys))
            bars.append((left, (top + bottom) / 2, right, (top + bottom) / 2))
    return bars


def _comment(annotation: Any) -> str:
    """Somebody's words about the page; nothing where the annotation draws words, or tells the state of a comment."""
    if raw.FPDFAnnot_HasKey(annotation, b"StateModel") or _holds_text(annotation):
        return ""
    return _string(functools.partial(raw.FPDFAnnot_GetStringValue, annotation, b"Contents")).strip()


def _holds_text(annotation: Any) -> bool:
    """Whether an annotation's appearance has text of its own, as the caption of a line has."""
    if not raw.FPDFAnnot_HasKey(annotation, b"AP"):
        return False
    objects = (raw.FPDFAnnot_GetObject(annotation, n) for n in range(raw.FPDFAnnot_GetObjectCount(annotation)))
    return any(item and raw.FPDFPageObj_GetType(item) == raw.FPDF_PAGEOBJ_TEXT for item in objects)


def _is_icon(annotation: Any) -> bool:
    return raw.FPDFAnnot_GetSubtype(annotation) in ICONS and not _holds_text(annotation)


def holds_unknown_field(document: Any, page: Any) -> bool:
    """Whether a field with text is in no form of the document, as on a page that was taken out of its file.

    PDFium draws no such field, and other programs do; flattening makes it a part of the page.
    """
    count = raw.FPDFPage_GetAnnotCount(page)
    for n in range(count if count <= MAX_ANNOTATIONS else 0):
        with _annotation(page, n) as annotation:
            if (
                annotation
                and raw.FPDFAnnot_GetSubtype(annotation) == raw.FPDF_ANNOT_WIDGET
                and _is_unknown(document.formenv, annotation)
                and not raw.FPDFAnnot_GetFlags(annotation) & HIDDEN_FLAGS
                and _holds_text(annotation)
            ):
                return True
    return False


def _is_unknown(form: Any, widget: Any) -> bool:
    return form is None or raw.FPDFAnnot_GetFormFieldType(form, widget) <= raw.FPDF_FORMFIELD_UNKNOWN


def _is_cover(form: Any, annotation: Any) -> bool:
    """Whether this is a field that the document's form does not know: PDFium draws none, and flattening its ground."""
    return (
        raw.FPDFAnnot_GetSubtype(annotation) == raw.FPDF_ANNOT_WIDGET
        and _is_unknown(form, annotation)
        and not _holds_text(annotation)
    )


def _note_field(form: Any, annotation: Any, found: Opened, box: Box) -> None:
    if raw.FPDFAnnot_GetFormFieldType(form, annotation) in BUTTONS:
        found.buttons.append(Button(raw.FPDFAnnot_IsChecked(form, annotation) == 1, box))
    elif (text := _field_text(form, annotation)).strip():
        found.fields.append(Field(text, box))


def _field_text(form: Any, annotation: Any) -> str:
    """What a person typed or chose; nothing for signatures and passwords."""
    kind = raw.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind not in (raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX):
        return ""
    if kind == raw.FPDF_FORMFIELD_TEXTFIELD and raw.FPDFAnnot_GetFormFieldFlags(form, annotation) & PASSWORD_FLAG:
        return ""
    if kind == raw.FPDF_FORMFIELD_COMBOBOX:  # its value may be a code that no person sees
        chosen = (n for n in range(MAX_OPTIONS) if raw.FPDFAnnot_IsOptionSelected(form, annotation, n))
        if (number := next(chosen, None)) is not None:
            return _string(functools.partial(raw.FPDFAnnot_GetOptionLabel, form, annotation, number))
    return _string(functools.partial(raw.FPDFAnnot_GetFormFieldValue, form, annotation))


def _string(ask: Callable[[Any, Any], int]) -> str:
    """A string of PDFium's, from the function that writes it into a buffer of a size."""
    size = ask(None, ctypes.c_ulong(0))
    if not 2 < size <= MAX_VALUE_BYTES:
        return ""
    buffer = ctypes.create_string_buffer(size)
    ask(ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), ctypes.c_ulong(size))
    return buffer.raw[: size - 2].decode("utf-16-le", "replace")


def _undrawn(page: Any) -> list[str]:
    """The words of free text that has no appearance, not even one by PDFium, which needs a font in `/AcroForm /DR`."""
    words = []
    for n in range(raw.FPDFPage_GetAnnotCount(page)):
        with _annotation(page, n) as annotation:
            if (
                annotation
                and raw.FPDFAnnot_GetSubtype(annotation) == raw.FPDF_ANNOT_FREETEXT
                and not raw.FPDFAnnot_HasKey(annotation, b"AP")
            ):
                words.append(_string(functools.partial(raw.FPDFAnnot_GetStringValue, annotation, b"Contents")).strip())
    return [text for text in words if text]


def _flattened(path: str, password: str, number: int, found: Opened) -> tuple[Any, Any]:
    """A second document whose page has its visible annotations in its content; the page is None where that fails."""
    copy = None
    try:
        copy = pypdfium2.PdfDocument(path, password=password or None)
        with contextlib.suppress(pypdfium2.PdfiumError):
            copy.init_forms()  # makes the appearance of fields that have none yet
        page = copy[number]
        try:
            for n in range(raw.FPDFPage_GetAnnotCount(page) - 1, -1, -1):
                with _annotation(page, n) as annotation:
                    flags = raw.FPDFAnnot_GetFlags(annotation) if annotation else 0
                    is_icon = bool(annotation) and (_is_icon(annotation) or _is_cover(copy.formenv, annotation))
                    if flags & INVISIBLE_FLAG:  # it is drawn, but flattening leaves it out
                        raw.FPDFAnnot_SetFlags(annotation, flags & ~INVISIBLE_FLAG)
                if flags & HIDDEN_FLAGS or is_icon:  # flattening knows nothing of NoView
                    raw.FPDFPage_RemoveAnnot(page, n)
            give_appearances(page)
            found.undrawn += _undrawn(page)
            done = raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY)
        finally:
            page.close()
        return copy, copy[number] if done == raw.FLATTEN_SUCCESS else None
    except pypdfium2.PdfiumError:
        return copy, None

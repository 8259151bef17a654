"""What a PDF page's own text says, as the engines would have read it; and whether that can be believed.

A page is believed when what a person sees on it is what its text says: the characters are known,
visible and apart, and no picture, drawing or form field holds text of its own. Everything else is
left to recognition, with the reason in words. Text that a person does not see (invisible, painted
over, as pale as the page, outside of it) is never given back.

Pure Python over `pdf_content.py`; the page is never drawn. Lengths are in points of the upright
page, but for the boxes that leave this module: those are pixels of the page as it would be drawn.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...engines.base import ReadOptions
from ...layout.find import find_term
from ...layout.gutters import split_at_gutters
from ...layout.lines import LIST_MARK, Element, TextLine
from ...layout.writing import rows_around, to_markdown, to_text
from .content import Box, Clock, Content, Glyph, TooMuch, read_content
from .lines import LayerLine, Mark, lines_of, marks_of, turned
from .tables import arrange_with_rules, cut_at_rules
from .trust import SMALL_PICTURE, TOLERATED, Sight, implausible, is_inside, middle

__all__ = ["read_layer"]


MAX_LINES: Final = 12_000  # a sheet of a spreadsheet has 5,000 cells

PICTURES_REMARK: Final = "pictures were not read; text_layer=ignore reads them, too."

# Lines. Lengths are shares of the size of the text.
SLANT_DEG: Final = 8.0  # what leans less counts as straight
OVERLAP_SHARE: Final = 0.1  # of the characters may stand on others
TWIN_EM: Final = 0.25  # how far the copies of a shadow lie apart
DOT_REACH_PT: Final = 40.0  # from a drawn list mark down to the baseline of its line
DOT_HIGH_EM: Final = 0.7
DOT_EM: Final = (0.12, 0.75)  # how large it is
DOT_GAP_EM: Final = 3.0


def read_layer(
    document: Any, number: int, path: str, size: tuple[int, int], options: ReadOptions, ask: Callable[[], None]
) -> dict[str, Any]:
    """Page `number`, counted from 0, of an open pypdfium2 document.

    `size` is that of the drawn page in pixels; the mode is one for which text is enough. Returns
    `text`, `blocks`, `usable`, `why` and `remark`.
    """
    try:
        clock = Clock(ask)
        content = read_content(document, number, path, clock)
        sight = Sight.of(content, clock)
        if why := sight.why():
            return _unusable(why)
        layer = _Layer.of(content, sight.shown, clock)
        if why := layer.why() or _missing_fields(content, layer, clock):
            return _unusable(why)
        text, blocks = layer.written(options, size[0] / content.width, size[1] / content.height, size)
    except TooMuch as exc:
        return _unusable(str(exc))
    remark = PICTURES_REMARK if sight.pictures > SMALL_PICTURE else ""
    return {"text": text, "blocks": blocks, "usable": True, "why": "", "remark": remark}


def _unusable(why: str) -> dict[str, Any]:
    """Text that is not believed is not given either: what no person sees could speak to an agent."""
    return {"text": "", "blocks": [], "usable": False, "why": why, "remark": ""}


def _missing_fields(content: Content, layer: _Layer, clock: Clock) -> str:
    """Whether what was typed into a form is not in the text: then it is only drawn."""
    if not content.fields:
        return ""
    glyphs = [(glyph.text, *middle(glyph)) for line in layer.lines for glyph in line.glyphs]
    for entry in content.fields:
        x1, y1, x2, y2 = entry.box
        around = (x1 - 2, y1 - 2, x2 + 2, y2 + 2)
        inside = ""
        for text, x, y in glyphs:
            clock.tick()
            if is_inside(around, x, y):
                inside += text
        wanted = Counter(char for char in entry.text if char.isalnum())
        if (wanted - Counter(unicodedata.normalize("NFKC", inside))).total() > 0.1 * wanted.total():
            return "a form field's text is not in it"
    return ""


@dataclass(slots=True)
class _Group:
    """Lines that run in one direction, in reading order of their own frame."""

    lines: list[LayerLine]
    frame: list[TextLine]
    elements: list[Element]


@dataclass(slots=True)
class _Layer:
    """The page's text: lines that run as most do, then those that run otherwise."""

    groups: list[_Group]
    overlapping: bool

    @classmethod
    def of(cls, content: Content, glyphs: Sequence[Glyph], clock: Clock) -> _Layer:
        by_way: dict[float, list[tuple[int, Glyph]]] = {}
        for number, glyph in enumerate(glyphs):
            by_way.setdefault(_way(glyph.run.angle), []).append((number, glyph))
        ways = sorted(by_way, key=lambda way: (way % 90 != 0, -len(by_way[way])))
        groups: list[_Group] = []
        overlapping = False
        for way in ways:
            lines = lines_of(marks_of(by_way[way], way, content, clock), clock)
            if len(lines) > MAX_LINES:
                raise TooMuch(f"the page has more than {MAX_LINES:,} pieces of text")
            lines, crossed = _without_twins(lines, clock)
            overlapping = overlapping or crossed
            if way == 0:
                lines += _dots(lines, content.dots)
            rules = [
                side for box in content.rules if (side := turned(box, way, content.width, content.height)) is not None
            ]
            parts = [[line for line in lines if line.vertical == vertical] for vertical in (False, True)]
            if sum(len(line.text) for line in parts[1]) < sum(len(line.text) for line in parts[0]):
                groups += [_arranged(part, rules, clock) for part in parts if part]
            else:
                groups.append(_arranged(lines, rules, clock))
        return cls(groups, overlapping)

    @property
    def lines(self) -> list[LayerLine]:
        return [line for group in self.groups for line in group.lines]

    def why(self) -> str:
        """Why these lines are not to be believed; empty if they are."""
        if self.overlapping:
            return "its text overlaps itself"
        return implausible("\n".join(line.text for line in self.lines))

    def written(
        self, options: ReadOptions, across: float, down: float, size: tuple[int, int]
    ) -> tuple[str, list[dict[str, Any]]]:
        """Text and blocks, as an engine gives them; `across` and `down` are pixels per point."""

        def block(label: str, text: str, glyphs: Iterable[Glyph]) -> dict[str, Any]:
            boxes = [glyph.box for glyph in glyphs]
            x1, y1 = min(box[0] for box in boxes) * across, min(box[1] for box in boxes) * down
            x2, y2 = max(box[2] for box in boxes) * across, max(box[3] for box in boxes) * down
            left, top = min(max(0, math.floor(x1)), size[0] - 1), min(max(0, math.floor(y1)), size[1] - 1)
            right, bottom = max(left + 1, min(size[0], math.ceil(x2))), max(top + 1, min(size[1], math.ceil(y2)))
            return {"label": label, "text": text, "box": [left, top, right, bottom], "score": None}

        chunks: list[str] = []
        blocks: list[dict[str, Any]] = []
        for group in self.groups:
            if options.mode == "find":
                order = [n for element in group.elements for n in element.lines]
                hits = find_term(group.frame, options.find_term, order)
                for span in (span for hit in hits for span in hit.spans):
                    line = group.lines[span.line]
                    glyphs = line.glyphs_of(span.start, span.stop)
                    blocks.append(block(options.find_term, line.text[span.start : span.stop], glyphs))
                spans = [[span.line for span in hit.spans] for hit in hits]
                chunks.append(rows_around(group.frame, group.elements, spans))
                continue
            markdown = options.mode == "document"
            chunks.append((to_markdown if markdown else to_text)(group.frame, group.elements))
            for element in group.elements:
                for line in (group.lines[n] for n in element.lines):
                    blocks.append(block(element.kind if markdown else "line", line.text, line.glyphs))
        return ("\n" if options.mode == "find" else "\n\n").join(chunk for chunk in chunks if chunk), blocks


def _way(angle: float) -> float:
    """The direction in which text runs: a quarter of a turn where it is nearly one."""
    quarter = round(angle / 90) * 90
    return quarter % 360 if abs(angle - quarter) <= SLANT_DEG else round(angle) % 360


def _without_twins(lines: list[LayerLine], clock: Clock) -> tuple[list[LayerLine], bool]:
    """Lines without the copies that make a shadow, and whether too much text stands on other text."""
    boxes = [line.box for line in lines]
    tops = sorted(range(len(lines)), key=lambda n: boxes[n][1])
    open_lines: list[int] = []
    twins: set[int] = set()
    crossed: set[int] = set()
    for n in tops:
        left, top, right, bottom = boxes[n]
        open_lines = [k for k in open_lines if boxes[k][3] > top]
        for k in open_lines:
            clock.tick()
            wide = min(right, boxes[k][2]) - max(left, boxes[k][0])
            high = min(bottom, boxes[k][3]) - max(top, boxes[k][1])
            if wide <= 0 or lines[n].vertical or lines[k].vertical:
                continue
            near = TWIN_EM * lines[n].size
            if lines[n].text == lines[k].text and max(abs(left - boxes[k][0]), abs(top - boxes[k][1])) < near:
                twins.add(max(n, k))
            elif (
                wide * high
                > (min(right - left, boxes[k][2] - boxes[k][0]) * min(bottom - top, boxes[k][3] - boxes[k][1])) / 2
            ):
                crossed.add(min(n, k, key=lambda n: len(lines[n].text)))
        open_lines.append(n)
    crossed -= twins
    over = sum(len(lines[n].text) for n in crossed)
    everything = sum(len(line.text) for line in lines)
    return [line for n, line in enumerate(lines) if n not in twins], over > OVERLAP_SHARE * everything + TOLERATED


def _dots(lines: Sequence[LayerLine], dots: Sequence[Box]) -> list[LayerLine]:
    """List marks that are drawn, not written, as lines of their own before the lines that they stand at."""
    level = [line for line in lines if not line.vertical]
    by_base = sorted(range(len(level)), key=lambda n: level[n].base)
    bases = [level[n].base for n in by_base]
    found: dict[int, LayerLine] = {}
    for dot in dots:
        left, top, right, bottom = dot
        y = (top + bottom) / 2
        near = by_base[bisect_right(bases, y) : bisect_right(bases, y + DOT_REACH_PT)]
        beside = [n for n in near if y >= level[n].base - DOT_HIGH_EM * level[n].size]
        if any(level[n].left < right and level[n].right > left - level[n].size for n in beside):
            continue  # between two words, or a part of a drawing
        n = min((n for n in beside if level[n].left >= right), key=lambda n: level[n].left, default=-1)
        if n < 0 or n in found:
            continue
        line = level[n]
        low, high = (share * line.size for share in DOT_EM)
        if (
            low <= bottom - top <= high
            and line.left - right <= DOT_GAP_EM * line.size
            and not LIST_MARK.match(line.text)
        ):
            glyph = Glyph("•", dot, left, bottom, line.marks[0].glyph.run)
            found[n] = LayerLine([Mark(glyph, "•", left, right, line.base, line.size, -1)], False, "•", [0])
    return list(found.values())


def _arranged(lines: list[LayerLine], rules: Sequence[Box], clock: Clock) -> _Group:
    """Lines in reading order, tables found by their rules or by how cells stand under each other."""
    lines = cut_at_rules(lines, rules, clock)
    pieces = split_at_gutters([line.framed() for line in lines])
    parts = [lines[piece.line].part(piece.start, piece.stop) for piece in pieces]
    lines = [part for part in parts if part is not None]
    frame = [line.framed() for line in lines]
    return _Group(lines, frame, arrange_with_rules(frame, rules, clock))

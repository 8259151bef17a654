"""Boxes to tick that are drawn on a page become characters of its lines: `[x]` or `[ ]`.

What a recogniser made of a box (a square, a letter O, nothing) gives way to it. Pure Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from .lines import NO_SPACES, Box, TextLine

__all__ = ["TickMark", "with_ticks"]

# Tuned on the forms of benchmarks/generated_pages.py. Too far, and a box is put to a label of another column.
REACH_EM: Final = 2.5  # from a box to its label, in heights of the label's line
BEFORE: Final = 0.6  # of the reach to the right counts the reach to the left: a label mostly follows its box
LEVEL: Final = 0.7  # of a line's height: how far the middle of its box may be from that of the line
FIGURES: Final = re.compile("[0ODo]{1,2}")
ENDS_IN_FIGURE: Final = re.compile("[0-9][.,]?$")
FIGURE_FIRST: Final = re.compile("[.,]?[0-9]")
LOOKS_LIKE: Final = "□■☐☑☒口日回OD0oxX×✓✔√V[]()|LIl"


class TickMark(Protocol):
    """A box to tick."""

    @property
    def box(self) -> Box:
        """Where it is, in the frame of the lines."""
        ...

    @property
    def is_ticked(self) -> bool:
        """Whether there is something in it."""
        ...


def with_ticks(lines: Sequence[TextLine], ticks: Iterable[TickMark]) -> list[TextLine]:
    """The lines with `[x]` or `[ ]` where a box is drawn, before or behind the label that it belongs to.

    A box within a word, and one that is a Chinese character, is none.
    """
    out = list(lines)
    for tick in ticks:
        x1, y1, x2, y2 = tick.box
        mark = "[x]" if tick.is_ticked else "[ ]"
        level = [n for n, line in enumerate(out) if not line.vertical and _is_level(line, y1, y2)]
        over = next((n for n in level if out[n].box[0] < (x1 + x2) / 2 < out[n].box[2]), None)
        if over is not None:
            out[over] = _put_over(out[over], tick.box, mark)
            continue
        near = min(level, key=lambda n: _distance(out[n].box, tick.box), default=None)
        if near is not None and _distance(out[near].box, tick.box) <= REACH_EM:
            out[near] = _put_beside(out[near], tick.box, mark)
        elif not any(_holds(line.box, tick.box) for line in lines):
            out.append(TextLine(mark, tick.box))
    return out


def _is_level(line: TextLine, top: float, bottom: float) -> bool:
    _, y1, _, y2 = line.box
    return abs((y1 + y2) - (top + bottom)) / 2 <= LEVEL * (y2 - y1)


def _holds(line: Box, tick: Box) -> bool:
    """Whether the middle of a box is in a line, as a character of vertical writing is."""
    x, y = (tick[0] + tick[2]) / 2, (tick[1] + tick[3]) / 2
    return line[0] < x < line[2] and line[1] < y < line[3]


def _distance(line: Box, tick: Box) -> float:
    """From a box to a line beside it, in heights of the line; one that follows is nearer than one before."""
    height = max(1.0, line[3] - line[1])
    if line[0] >= (tick[0] + tick[2]) / 2:
        return max(0.0, line[0] - tick[2]) / height
    return max(0.0, tick[0] - line[2]) / height / BEFORE


def _put_beside(line: TextLine, tick: Box, mark: str) -> TextLine:
    """A line with a box before or behind it."""
    before = tick[0] < line.box[0]
    text = f"{mark} {line.text.lstrip()}" if before else f"{line.text.rstrip()} {mark}"
    box = (min(line.box[0], tick[0]), line.box[1], max(line.box[2], tick[2]), line.box[3])
    return replace(line, text=text, box=box, centres=_centres(line, box, text, before=before))


def _centres(line: TextLine, box: Box, text: str, *, before: bool) -> tuple[float, ...]:
    """The middles of the characters after a mark was put to the line."""
    kept = line.text.lstrip() if before else line.text.rstrip()
    if len(line.centres) != len(line.text) or not kept:
        return ()
    start = line.text.index(kept)
    along = box[2] - box[0]
    own = [
        (line.box[0] + centre * (line.box[2] - line.box[0]) - box[0]) / along
        for centre in line.centres[start : start + len(kept)]
    ]
    added = len(text) - len(kept)
    room = own[0] if before else 1 - own[-1]
    mark = [room * (n + 0.5) / added for n in range(added)]
    return tuple(mark + own) if before else tuple(own + [own[-1] + place for place in mark])


def _put_over(line: TextLine, tick: Box, mark: str) -> TextLine:
    """A line in which a box stands: the character that it was taken for gives way."""
    if len(line.centres) != len(line.text):
        return line
    x1, _, x2, _ = line.box
    slack = (tick[2] - tick[0]) / 4
    at = [n for n, c in enumerate(line.centres) if tick[0] - slack <= x1 + c * (x2 - x1) <= tick[2] + slack]
    inside = "".join(line.text[n] for n in at).strip()
    if any(char not in LOOKS_LIKE for char in inside) or len(inside) > 2:
        return line
    start = (
        at[0] if at else next((n for n, c in enumerate(line.centres) if x1 + c * (x2 - x1) > tick[2]), len(line.text))
    )
    stop = at[-1] + 1 if at else start
    before, after = line.text[:start], line.text[stop:]
    beside = (before[-1:].strip(), after[:1].strip())
    if FIGURES.fullmatch(inside) and (len(inside) == 2 or ENDS_IN_FIGURE.search(before) or FIGURE_FIRST.match(after)):
        return line  # two noughts that touch have the sides of a box
    if NO_SPACES.search(line.text) and (before.strip() or any(beside)):
        return line  # a character of Chinese writing
    if not at and all(beside) and beside[0].isalnum() and beside[1].isalnum():
        return line  # a part of a word
    along = max(x2 - x1, 1e-6)
    begin, end = (tick[0] - x1) / along, (tick[2] - x1) / along
    chars = [(char, line.centres[n]) for n, char in enumerate(before.rstrip())]
    chars += [(" ", begin)] if chars else []
    chars += [(char, begin + (end - begin) * (n + 0.5) / len(mark)) for n, char in enumerate(mark)]
    rest = after.lstrip()
    chars += [(" ", end)] if rest else []
    chars += [(char, line.centres[len(line.text) - len(rest) + n]) for n, char in enumerate(rest)]
    return replace(line, text="".join(char for char, _ in chars), centres=tuple(centre for _, centre in chars))

r"""Characters that are printed on a page are escaped where Markdown would take them for markup, and nowhere else.

`__init__` becomes `\__init__`, `# 1` becomes `\# 1`, `a_b` and `5 * 3` stay as they are. A reader of CommonMark
with tables and strikethrough shows the text as it was printed. Pure Python; never fails.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

__all__ = ["escape_block", "escape_cell", "escape_inline", "unescaped"]

PUNCTUATION: Final = r"!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~"
BACKSLASH: Final = re.compile(rf"\\(?=[{PUNCTUATION}]|$)", re.MULTILINE)
TAG: Final = re.compile(r"<(?=[A-Za-z/!?])")  # if a > follows anywhere: `<!a<>` is a declaration
ENTITY: Final = re.compile(r"&(?=#\d{1,7};|#[xX][0-9a-fA-F]{1,6};|[A-Za-z][A-Za-z0-9]{0,31};)")
LINK: Final = re.compile(r"\](?=\(|\[|:)")
RUN: Final = re.compile(r"`+|\*+|_+|~+")
FENCE: Final = 3  # backticks, or more
FORMULA: Final = re.compile(r"\${2,}")
BLOCK: Final = re.compile(
    r"""^(?P<space>\s*)(?:
      (?P<mark>\#{1,6}(?=\s|$)                   # a heading
        | >                                      # a quotation
        | [-+*](?=\s|$)                          # an item of a list
        | (?:`{3}|~{3})                          # a fence
        | <(?=[A-Za-z/!?])                       # a block of HTML
        | (?:=+|-+)(?=\s*$)                      # a line under a heading
        | (?:\*\s*){3,}$ | (?:_\s*){3,}$ | (?:-\s*){3,}$   # a rule
        | \|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$        # the line under the heading of a table
      )
      | (?P<number>\d{1,9})(?P<stop>[.)])(?=\s|$)          # an item of a numbered list
    )""",
    re.VERBOSE,
)
ESCAPED: Final = re.compile(rf"\\([{PUNCTUATION}])")
CLOSING_MARKS: Final = re.compile(r"(?:^|(?<=\s))#+$")


def escape_block(text: str, *, begins: bool = True) -> str:
    """The lines of a paragraph.

    Args:
        begins: whether the text begins a paragraph. A line within one begins no numbered list but at 1.
    """
    lines = escape_inline(text).split("\n")
    return "\n".join(_escape_start(line, begins and n == 0, text) for n, line in enumerate(lines))


def _escape_start(line: str, begins: bool, text: str) -> str:
    match = BLOCK.match(line)
    if match is None:
        return line
    at = match.end("space")
    run = RUN.match(line, at)
    if run is not None and (run[0][0] in "`~" or text.count(run[0][0]) > len(run[0])):
        # The rest of a fence, or of a rule that is not alone, could open or close something.
        return line[:at] + "".join(f"\\{sign}" for sign in run[0]) + line[run.end() :]
    if match["number"] is not None:
        if not begins and match["number"] != "1":
            return line
        at = match.start("stop")
    return f"{line[:at]}\\{line[at:]}"


def escape_inline(text: str, *, heading: bool = False) -> str:
    """Text within a line: a heading, an item of a list, a part of a paragraph."""
    places = {match.start() for match in CLOSING_MARKS.finditer(text)} if heading else set()
    if any(char in text for char in "\\`*_~<&]"):
        places.update(match.start() for pattern in (BACKSLASH, ENTITY, LINK) for match in pattern.finditer(text))
        places.update(match.start() for match in TAG.finditer(text, 0, text.rfind(">") + 1))
        places.update(_delimiters(text))
    if text.count("$$") > 1:  # a formula stands between two
        places.update(n for match in FORMULA.finditer(text) for n in range(*match.span()))
    return "".join("\\" + char if n in places else char for n, char in enumerate(text)) if places else text


def escape_cell(text: str) -> str:
    """The cell of a table: on one line, without bars that would end it."""
    return escape_inline(" ".join(text.split())).replace("|", "\\|")


def unescaped(text: str) -> str:
    """The text without the backslashes of `escape_inline`."""
    return ESCAPED.sub(r"\1", text)


def _delimiters(text: str) -> Iterator[int]:
    """The places of runs of backticks, stars, lines and tildes that would open or close something."""
    if sum(text.count(char) for char in "`*_~") < 2:
        return
    runs = [(match.start(), match.end(), match[0][0]) for match in RUN.finditer(text)]
    for sign in "`*_~":
        of_sign = [(start, end) for start, end, char in runs if char == sign]
        if len(of_sign) < 2:
            continue
        if sign == "`":
            yield from _backticks(text, of_sign)
            continue
        opening = [_flanks(text, start, end, sign) for start, end in of_sign]
        first = next((n for n, (opens, _) in enumerate(opening) if opens), None)
        if first is None or not any(closes for _, closes in opening[first + 1 :]):
            continue
        for (start, end), (opens, closes) in zip(of_sign, opening, strict=True):
            if opens or closes:
                yield from range(start, end)


def _backticks(text: str, runs: list[tuple[int, int]]) -> Iterator[int]:
    """The places of runs of backticks that would begin or end code.

    A run ends the code that a run of its length begins. Each backtick that is escaped ends the code of a single one
    before it: no backslash counts in code. The runs that `_escape_start` escapes as fences do so, too.
    """
    lengths = Counter(end - start for start, end in runs)
    paired = {run for run in runs if lengths[run[1] - run[0]] > 1}
    fences = any(end - start >= FENCE and text[:start].rpartition("\n")[2].strip() == "" for start, end in runs)
    for start, end in runs:
        if (start, end) in paired or (end - start == 1 and (paired or fences)):
            yield from range(start, end)


def _flanks(text: str, start: int, end: int, sign: str) -> tuple[bool, bool]:
    """Whether a run of `*`, `_` or `~` can open and can close, by the rules of CommonMark."""
    before, after = text[start - 1 : start] or " ", text[end : end + 1] or " "
    left = not after.isspace() and (not _is_punctuation(after) or before.isspace() or _is_punctuation(before))
    right = not before.isspace() and (not _is_punctuation(before) or after.isspace() or _is_punctuation(after))
    if sign == "_":
        return left and (not right or _is_punctuation(before)), right and (not left or _is_punctuation(after))
    return left, right


def _is_punctuation(char: str) -> bool:
    """Whether CommonMark takes a character for punctuation: neither a letter, a figure, a mark nor a space."""
    return not (char.isalnum() or char.isspace())

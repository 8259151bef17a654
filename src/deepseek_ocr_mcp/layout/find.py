r"""Finds words, sequences of words and patterns in recognised lines.

A term is one of these:

- **words**: case, accents, width (NFKC) and the shape of quotes and dashes do not count. A sequence may run over a line
  break, and a word may be hyphenated there, or be divided behind a hyphen of its own. Where nothing is found, a second
  look ignores spaces, because recognition sometimes drops them. Quotes around the whole term are not part of it.
- **a pattern between slashes**: `/INV-\d+/`, `/\bTotal\b/`. Case, width, and the shape of quotes and dashes do not
  count. `^` and `$` are the ends of a line, and a space in the pattern may be a line break on the page.
- **a list of both**, as a sequence or as a JSON list: any of them is found.

A pattern comes from an agent and may be hostile: the searches of a term end after `TIMEOUT_S`, whatever its patterns.
"""

from __future__ import annotations

import json
import re
import time
import unicodedata
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Final

import regex

from .lines import NO_SPACES, TextLine
from .order import reading_order

__all__ = [
    "BadTerm",
    "Hit",
    "Matcher",
    "SlowPattern",
    "Span",
    "as_pattern_hint",
    "compiled",
    "find_term",
    "occurs",
    "terms_of",
]

MAX_TERM_CHARS: Final = 2000  # longer than any sentence that a person looks for
MAX_TERMS: Final = 50
MAX_PATTERN_SIZE: Final = 2000
"""Groups of a pattern, each as often as its counts repeat it. The compiler of `regex` writes them out, and no timeout
bounds it: measured, `(((ab|c){50}){50}){50}` takes it 0.3 s and 200 MB. More would let that through; less would refuse
a group that is repeated a thousand times, and no pattern for a page was met that comes near."""
TIMEOUT_S: Final = 0.2
"""CPU seconds for the patterns of one term. More would hold the server's other requests longer, once for each hostile
term; less would refuse patterns that are only clumsy."""
REFILL: Final = 0.02
"""CPU seconds that come back in a second, and for each page. Measured: an ordinary pattern takes 1 ms on a page of
10,000 characters. Less would refuse an ordinary pattern on a long document."""

SAME: Final = str.maketrans(
    {**dict.fromkeys("‘’‚`´′", "'"), **dict.fromkeys("“”„«»″", '"'), **dict.fromkeys("‐‑‒–—―−", "-")}
)
UNSEEN: Final = frozenset(
    "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
"""Marks of direction and of joining, which a copied term may carry and no page shows."""
_PAIRS: Final = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“", "‘": "’", "«": "»", "»": "«", "「": "」"}
_IN_SLASHES: Final = re.compile(r"/(?P<body>(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+)/(?P<flags>[gimsu]{0,5})")
_PATTERN_TOKEN: Final = re.compile(r"\\.|\[\^?\]?|\]| +|\{\d*,?\d*\}|[{()]|[^\x00-\x7f]", re.DOTALL)
_COUNT: Final = re.compile(r"\{(?P<least>\d*),?(?P<most>\d*)\}")
_RECURSION: Final = re.compile(r"\(\?(?:R|[+-]?\d|&|P>)")
_PATTERN_SIGNS: Final = re.compile(r"\\[bdswBDSW.]|\.[*+]|\(\?|\[[^\]]+\][*+?{]|[*|^]|\$$")


class BadTerm(ValueError):
    """A term that cannot be searched for. The message is a sentence for its author."""


class SlowPattern(BadTerm):
    """A pattern whose search took too long on a page."""


@dataclass(frozen=True, slots=True)
class Span:
    """The part of one line that belongs to a hit."""

    line: int
    """The index of the line."""
    start: int
    """The index of the part's first character in the text of the line."""
    stop: int
    """The index behind its last character."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One place where the term stands; one span for each line that it touches."""

    spans: tuple[Span, ...]
    term: str = ""
    """The term that stands there: of a list, the one of its terms."""


@dataclass(frozen=True, slots=True)
class _Words:
    """A term of words."""

    term: str
    exact: re.Pattern[str]
    spaceless: re.Pattern[str]

    def found(self, page: _Searched) -> Iterator[tuple[Span, ...]]:
        """The spans of each place on the page."""
        looks = ((page.folded, self.exact), (page.folded_run_on, self.exact), (page.folded, self.spaceless))
        for text, pattern in looks:
            if places := [match.span() for match in pattern.finditer(text.text)]:
                return (text.spans(*place) for place in places)
        return iter(())


@dataclass(slots=True)
class _Allowance:
    """The CPU seconds that the patterns of a term may still take."""

    seconds: float = TIMEOUT_S
    at: float = field(default_factory=time.monotonic)

    def refill(self) -> None:
        """Add what has come back since the last page."""
        now = time.monotonic()
        self.seconds = min(TIMEOUT_S, self.seconds + REFILL * (1 + now - self.at))
        self.at = now

    @contextmanager
    def spending(self) -> Iterator[float]:
        """The seconds that are left; the thread's CPU time inside the context is taken off them."""
        began = time.thread_time()
        try:
            yield max(self.seconds, 0.001)
        finally:
            self.seconds -= time.thread_time() - began


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A term that is a pattern."""

    term: str
    pattern: regex.Pattern[str]
    allowance: _Allowance

    def found(self, page: _Searched) -> Iterator[tuple[Span, ...]]:
        """The spans of each place on the page.

        Raises:
            SlowPattern: the search took too long.
        """
        for text in (page.printed, page.printed_run_on):
            try:
                with self.allowance.spending() as seconds:
                    places = [match.span() for match in self.pattern.finditer(text.text, timeout=seconds)]
            except (TimeoutError, MemoryError):
                raise SlowPattern(f"The search for the pattern {self.term} takes too long.") from None
            if places:
                return (text.spans(*place) for place in places)
        return iter(())


@dataclass(frozen=True, slots=True)
class Matcher:
    """A term, ready to be searched for on many pages."""

    parts: tuple[_Words | _Pattern, ...]
    allowance: _Allowance

    @property
    def is_plain(self) -> bool:
        """Whether the term is one sequence of words, which a vision-language model can be asked for."""
        return len(self.parts) == 1 and isinstance(self.parts[0], _Words)

    def hits(self, lines: Sequence[TextLine], order: Sequence[int] | None = None) -> list[Hit]:
        """Every place of the terms, in reading order, without overlaps.

        Args:
            lines: of a page.
            order: their reading order, where the caller has it already.

        Raises:
            SlowPattern: the search took too long.
        """
        if not self.parts or not lines:
            return []
        self.allowance.refill()
        page = _Searched(lines, reading_order(lines) if order is None else order)
        rank = {index: n for n, index in enumerate(page.order)}
        hits = [Hit(spans, part.term) for part in self.parts for spans in part.found(page) if spans]
        if len(self.parts) == 1:
            return hits

        def ends(hit: Hit) -> tuple[tuple[int, int], tuple[int, int]]:
            first, last = hit.spans[0], hit.spans[-1]
            return (rank[first.line], first.start), (rank[last.line], last.stop)

        apart: list[Hit] = []
        reached = (-1, 0)
        for hit in sorted(hits, key=lambda hit: (ends(hit)[0], *(-n for n in ends(hit)[1]))):  # the longest first
            begin, end = ends(hit)
            if begin >= reached:
                apart.append(hit)
                reached = end
        return apart


def find_term(
    lines: Sequence[TextLine], term: str | Sequence[str] | Matcher, order: Sequence[int] | None = None
) -> list[Hit]:
    """Every place of `term`, in reading order, without overlaps. See `Matcher.hits`.

    Args:
        lines: of a page.
        term: words, a pattern between slashes, a list of them, or the matcher of one of these. No words: no hits.
        order: the reading order of the lines, where the caller has it already.

    Raises:
        BadTerm: the pattern is none, or too much.
        SlowPattern: the search took too long.
    """
    return compiled(term).hits(lines, order)


def occurs(term: str, text: str) -> bool:
    """Whether a term stands in a text.

    Raises:
        BadTerm, SlowPattern: as `find_term`.
    """
    lines = [TextLine(line, (0.0, 0.0, 0.0, 0.0), 1.0) for line in text.splitlines()]
    return bool(compiled(term).hits(lines, range(len(lines))))


def compiled(term: str | Sequence[str] | Matcher) -> Matcher:
    """The matcher of a term.

    Raises:
        BadTerm: the pattern is none, or the term is too long.
    """
    if isinstance(term, Matcher):
        return term
    return _compiled(term if isinstance(term, str) else tuple(term))


@lru_cache(maxsize=64)
def _compiled(term: str | tuple[str, ...]) -> Matcher:
    allowance = _Allowance()
    parts = [part for each in terms_of(term) if (part := _part_of(each, allowance)) is not None]
    return Matcher(tuple(parts), allowance)


def terms_of(term: str | Sequence[str]) -> list[str]:
    """The terms of a list, each once; of a text that is no list, the text itself.

    Raises:
        BadTerm: they are too many, or one is too long.
    """
    terms = _listed(term) or [term] if isinstance(term, str) else list(term)
    terms = list(dict.fromkeys(stripped for each in terms if (stripped := each.strip())))
    if len(terms) > MAX_TERMS:
        raise BadTerm(f"find_term has {len(terms)} terms, and at most {MAX_TERMS} are searched for at once.")
    if any(len(each) > MAX_TERM_CHARS for each in terms):
        raise BadTerm(f"A term of find_term is longer than {MAX_TERM_CHARS} characters.")
    return terms


def _listed(term: str) -> list[str]:
    """The texts of a JSON list; none where the term is no such list."""
    if not (term.startswith("[") and term.endswith("]")):
        return []
    try:
        values = json.loads(term)
    except (ValueError, RecursionError):
        return []
    return values if all(isinstance(each, str) for each in values) else []


def as_pattern_hint(term: str) -> str:
    """How to write a term that looks like a pattern and was taken as words; empty where it does not."""
    for each in terms_of(term):
        if _IN_SLASHES.fullmatch(each) is None and _PATTERN_SIGNS.search(each):
            return f"It was searched for as printed; to search for a pattern, write it between slashes: /{each}/."
    return ""


def _part_of(term: str, allowance: _Allowance) -> _Words | _Pattern | None:
    """What finds one term; None where it has no words."""
    if (match := _IN_SLASHES.fullmatch(term)) is not None:
        return _Pattern(term, _pattern(term, match["body"], match["flags"]), allowance)
    words = [folded for word in _unquoted(term).split() if (folded := _folded(word).replace("\u00ad", ""))]
    if not words:
        return None
    return _Words(
        term,
        re.compile(r"\s+".join(map(re.escape, words))),
        re.compile(r"\s*".join(re.escape(char) for word in words for char in word)),
    )


def _unquoted(term: str) -> str:
    """The term without quotes around all of it, as in a search engine; a quote that stands alone stays."""
    inner = term[1:-1].strip()
    return inner if inner and _PAIRS.get(term[0]) == term[-1] and term[-1] not in inner else term


def _pattern(term: str, body: str, flags: str) -> regex.Pattern[str]:
    """The compiled pattern.

    Raises:
        BadTerm: it is no pattern, or calls itself, for which memory could not be bounded.
    """
    if _RECURSION.search(body):
        raise BadTerm(f"The pattern {term} calls itself.")
    source = _PatternReader.read(term, body)
    options = regex.IGNORECASE | regex.MULTILINE | (regex.DOTALL if "s" in flags else 0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sets that a later release of regex will read in another way
            return regex.compile(source, options, cache_pattern=False)
    except (regex.error, RecursionError, OverflowError, ValueError) as exc:
        reason = exc.msg if isinstance(exc, regex.error) else "it is nested too deeply"
        raise BadTerm(f"{term} is no pattern: {reason}.") from None


@dataclass(slots=True)
class _PatternReader:
    """Turns a pattern into one for a text that is folded by `_width`, and measures it.

    A space in it is any white space, also the end of a line. A brace that counts nothing is a brace: `regex` would take
    it for a measure of likeness, whose search needs memory without bounds.
    """

    in_class: bool = False
    sizes: list[int] = field(default_factory=lambda: [1])
    """The size of each group that is open, the whole pattern first."""
    closed: tuple[int, int] = (0, -1)
    """The size of the group that ended last, and where it ended."""

    @classmethod
    def read(cls, term: str, body: str) -> str:
        """The pattern.

        Raises:
            BadTerm: it repeats groups in groups too often.
        """
        reader = cls()
        folded = _PATTERN_TOKEN.sub(reader._token, body)
        if sum(reader.sizes) > MAX_PATTERN_SIZE:
            raise BadTerm(f"The pattern {term} repeats its groups too often.")
        return folded

    def _token(self, match: re.Match[str]) -> str:
        found = match[0]
        if found[0] == "\\":
            return found
        if found[0] == "[" or found == "]":
            self.in_class = found[0] == "["
            return found
        if self.in_class:
            return found if found.isascii() else "".join(re.escape(char) for char in _width(found))
        if found[0] == " ":
            return r"\s+"
        if found == "(":
            self.sizes.append(1)
        elif found == ")" and len(self.sizes) > 1:
            self.closed = self.sizes.pop(), match.end()
            self.sizes[-1] += self.closed[0]
        elif count := _COUNT.fullmatch(found):
            size, end = self.closed
            if end == match.start():
                self.sizes[-1] += size * max(int(count["most"] or count["least"] or 1) - 1, 0)
        if found.isascii():
            return r"\{" if found == "{" else found
        same = "".join(re.escape(char) for char in _width(found))
        return same if len(same) < 3 else f"(?:{same})"


@dataclass
class _Searched:
    """The lines of a page as one text, in the forms that are searched in; each is made when it is needed.

    A hyphen at the end of a line may divide a word (`inter-` `national`), or be a part of one (`well-` `known`, `INV-`
    `20417`). So where nothing is found, the search looks again at lines that run on behind their hyphens.
    """

    lines: Sequence[TextLine]
    order: Sequence[int]

    @cached_property
    def folded(self) -> _Joined:
        """For words: without case, accents and width; quotes and dashes of one shape."""
        return _Joined.of(self.lines, self.order, _folded)

    @cached_property
    def folded_run_on(self) -> _Joined:
        """The same, with lines that run on."""
        return _Joined.of(self.lines, self.order, _folded, run_on=True)

    @cached_property
    def printed(self) -> _Joined:
        """For patterns: without width; quotes and dashes of one shape."""
        return _Joined.of(self.lines, self.order, _width)

    @cached_property
    def printed_run_on(self) -> _Joined:
        """The same, with lines that run on."""
        return _Joined.of(self.lines, self.order, _width, run_on=True)


@dataclass(frozen=True, slots=True)
class _Joined:
    """The lines of a page as one text, each on a line of its own, and the way back to their characters.

    A word that is hyphenated at the end of a line is whole. Where lines run on, a line keeps the hyphen at its end, and
    no line ends there, nor between characters of a script without spaces.
    """

    text: str
    rows: list[_Row]
    begins: list[int]
    """Where each row begins in the text."""

    @classmethod
    def of(
        cls, lines: Sequence[TextLine], order: Sequence[int], fold: Callable[[str], str], *, run_on: bool = False
    ) -> _Joined:
        """The text of the lines in this order, folded."""
        parts: list[str] = []
        rows: list[_Row] = []
        for n, index in enumerate(order):
            text = lines[index].text
            same = fold(text)
            at = None if len(same) == len(text) and text.isascii() else _places(text, fold)
            if at is not None:
                same = "".join(map(fold, text))
            following = lines[order[n + 1]].text if n + 1 < len(order) else ""
            is_broken = _is_broken_word(same, following)
            if is_broken and not run_on:
                same = same[:-1]
            rows.append(_Row(index, len(same), at))
            goes_on = is_broken or (run_on and _runs_on(same, following))
            parts.append(same if goes_on else same + "\n")
        begins = [0, *accumulate(map(len, parts))][: len(parts)]
        return cls("".join(parts), rows, begins)

    def spans(self, begin: int, end: int) -> tuple[Span, ...]:
        """The parts of lines that stand between two places of the text; none where there are no characters."""
        found = []
        n = max(bisect_right(self.begins, begin) - 1, 0)
        while n < len(self.rows) and self.begins[n] < end:
            row = self.rows[n]
            start, stop = row.part(begin - self.begins[n], end - self.begins[n])
            if start < stop:
                found.append(Span(row.line, start, stop))
            n += 1
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _Row:
    """Where the characters of a line are in the text."""

    line: int
    length: int
    """Characters of the line in the text."""
    at: list[int] | None
    """For each character of the folded line, its place in the line; None: they are the same."""

    def part(self, begin: int, end: int) -> tuple[int, int]:
        """The part of the line that stands between two places of its folded text."""
        begin, end = max(begin, 0), min(end, self.length)
        if self.at is None or begin >= end:
            return begin, end
        return self.at[begin], self.at[end - 1] + 1


def _places(text: str, fold: Callable[[str], str]) -> list[int]:
    """For each character of the folded text, the place of the character that it is from."""
    return [n for n, char in enumerate(text) for _ in fold(char)]


def _is_broken_word(text: str, following: str) -> bool:
    return len(text) > 1 and text[-1] in "-\u00ad" and text[-2].isalpha() and following[:1].islower()


def _runs_on(text: str, following: str) -> bool:
    """Whether a text may go on in the line below without a space: behind a hyphen, or in a script without spaces."""
    if not text or not following:
        return False
    if NO_SPACES.match(text[-1]) and NO_SPACES.match(following[0]):
        return True
    return len(text) > 1 and text[-1] == "-" and text[-2].isalnum() and following[0].isalnum()


def _folded(text: str) -> str:
    """Without case, accents and width; quotes and dashes of one shape."""
    if text.isascii():
        return text.translate(SAME).lower()
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).translate(SAME).casefold())
    return "".join(char for char in decomposed if not (unicodedata.combining(char) or char in UNSEEN))


def _width(text: str) -> str:
    """Without width; quotes and dashes of one shape."""
    return (text if text.isascii() else unicodedata.normalize("NFKC", text)).translate(SAME)

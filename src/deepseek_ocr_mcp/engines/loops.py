"""Notices when the model repeats itself, its best-known fault, and how much of the text is good. Pure Python.

Two means, for one page each. The ban: a token that would complete an n-gram seen among the last tokens is
forbidden, with the numbers and the exception for table cells that vLLM uses for this model
(`NGramPerReqLogitsProcessor`, vllm/model_executor/models/deepseek_ocr.py). The cut: generation ends when what the
model wants to write has been one repetition for long, or when the ban had to step in again and again. A loop of up
to `LONGEST` tokens is cut within 200 of its start, the first token that repeats; only empty table cells are given
more. What is longer may be a form that stands on the page twice: it is cut in its third copy. Work per token does
not grow.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Set
from typing import Final

__all__ = ["NGRAM", "WINDOW", "LoopGuard", "TextGuard"]


NGRAM: Final = 30  # tokens
WINDOW: Final = 90  # tokens that are searched for the n-gram

PROBE: Final = 8  # tokens that, seen before, make us suspect a repetition
LOOK_BACK: Final = 256  # tokens to which a suspected repetition is followed back
REPEATED: Final = 120  # tokens of nothing but repetition that end a page
COPIES: Final = 2  # and as many copies of it, beyond the first
LONGEST: Final = 180  # tokens that a loop may have to be cut at its first repetition, and that this then takes
EMPTY_CELLS: Final = 1000  # tokens; a blank form is a table of these
BANS: Final = 4  # this many in so many tokens mean a loop that the ban cannot break
BANS_WITHIN: Final = 150

# About what a tokenizer makes of a text: a few letters, a digit or three, a run of one sign; of scripts that are
# written without spaces each character. No piece grows without an end, so that none has to be waited for.
PIECE: Final = re.compile(
    r"<\|[^<>|]{1,32}\|>|</?t[dr]>|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]| ?[^\W\d_]{1,4}|[0-9]{1,3}"
    r"|\n| {1,8}|([^\w\s])\1{0,7}|_{1,8}|.",
    re.DOTALL,
)
BLANK_PIECES: Final = frozenset({"<td>", "</td>", "<tr>", "</tr>", "|", "\n", " "})
LONGEST_PIECE: Final = 36  # characters


class LoopGuard:
    """The tokens of one page, as they are written.

    Args:
        cells: ids of `<td>` and `</td>`, which are never banned.
        blank: ids of which an empty table consists.
        ngram: tokens of a sequence that may not come again, and of the text that is searched for it; 0: no ban.
    """

    def __init__(
        self,
        cells: Set[int] = frozenset(),
        blank: Set[int] = frozenset(),
        ngram: tuple[int, int] = (NGRAM, WINDOW),
    ) -> None:
        self.tokens: list[int] = []
        self.good_tokens: int | None = None
        """The number of tokens before the loop, its first copy included; None while there is no loop."""
        self._cells = cells
        self._blank = blank
        self._ngram, self._window = ngram
        self._proposed: list[int] = []  # the tokens as the model proposed them, before the ban replaced any
        self._seen: dict[tuple[int, ...], int] = {}  # the last place of each probe
        self._period = 0
        self._run = 0  # tokens that are as they were one period ago
        self._blank_run = 0
        self._bans: deque[int] = deque(maxlen=BANS)

    def __repr__(self) -> str:
        state = (
            f"loop after {self.good_tokens}"
            if self.good_tokens is not None
            else f"period {self._period} for {self._run}"
        )
        return f"<LoopGuard {len(self.tokens)} tokens, {state}>"

    def banned(self) -> set[int]:
        """What may not come next."""
        tokens = self.tokens
        length = self._ngram
        if not length or len(tokens) < length:
            return set()
        prefix = tokens[1 - length :]
        last = prefix[-1]
        found = set()
        for start in range(max(0, len(tokens) - self._window), len(tokens) - length + 1):
            end = start + length - 1
            if tokens[end - 1] == last and tokens[start:end] == prefix:
                found.add(tokens[end])
        return found - self._cells

    def add(self, token: int, proposed: int | None = None) -> bool:
        """Note the next token.

        Args:
            token: the token that was written.
            proposed: the token that the model proposed; None: it proposed `token`, so no ban replaced it.

        Returns:
            Whether the page ends here.
        """
        self.tokens.append(token)
        self._proposed.append(token if proposed is None else proposed)
        if proposed is not None and proposed != token:
            self._bans.append(len(self.tokens) - 1)
            if len(self._bans) == BANS and self._bans[-1] - self._bans[0] <= BANS_WITHIN:
                self.good_tokens = self._bans[0] - self._ngram + 1
        self._follow()
        return self.good_tokens is not None

    def _follow(self) -> None:
        written = self._proposed
        here = len(written) - 1
        self._blank_run = self._blank_run + 1 if written[here] in self._blank else 0
        if self._period and written[here] == written[here - self._period]:
            self._run += 1
        else:
            self._period = self._run = 0
        probe = tuple(written[-PROBE:])
        if not self._period and len(probe) == PROBE and probe in self._seen:
            self._period = here - self._seen[probe]
            self._run = self._matching(here)
        self._seen[probe] = here
        needed = max(REPEATED, COPIES * self._period)
        if self._period <= LONGEST:
            needed = min(needed, LONGEST)
        if self._blank_run >= self._run:
            needed = max(needed, EMPTY_CELLS)
        if self._period and self._run >= needed and self.good_tokens is None:
            self.good_tokens = len(written) - self._run

    def _matching(self, here: int) -> int:
        written, count = self._proposed, 0
        while count < LOOK_BACK and here - count >= self._period:
            if written[here - count] != written[here - count - self._period]:
                break
            count += 1
        return count


class TextGuard:
    """A `LoopGuard` for the text of a model whose tokens are not seen, as it comes in.

    Pieces of the text stand for tokens: the same pieces, however it was cut up on its way here.
    """

    def __init__(self) -> None:
        self.text = ""
        """All that came."""
        self._numbers = {piece: number for number, piece in enumerate(sorted(BLANK_PIECES))}
        self._guard = LoopGuard(blank=frozenset(self._numbers.values()))
        self._ends: list[int] = []  # where each piece ends
        self._seen = 0  # characters that are pieces already

    def __repr__(self) -> str:
        return f"<TextGuard {len(self.text)} characters, {self._guard!r}>"

    @property
    def good_text(self) -> str:
        """The text. If it ends in a loop: the text before the loop, and the first copy of the loop."""
        if self._guard.good_tokens is None:
            return self.text
        return self.text[: self._ends[self._guard.good_tokens - 1]] if self._guard.good_tokens else ""

    def add(self, text: str) -> bool:
        """Note what came. True: the page ends here."""
        self.text += text
        waiting = self.text[self._seen :]
        start = self._seen
        for match in PIECE.finditer(waiting):
            if len(waiting) - match.start() < LONGEST_PIECE:
                break  # it might be the beginning of a longer one
            number = self._numbers.setdefault(match[0], len(self._numbers))
            self._seen = start + match.end()
            self._ends.append(self._seen)
            if self._guard.add(number):
                return True
        return False

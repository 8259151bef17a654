"""How far a batch is, on stderr: one line that is drawn anew on a terminal, a line now and then elsewhere.

For programs, each line is an object in JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import deque
from dataclasses import replace
from typing import Final

from ..text import duration
from .counts import Counts

__all__ = ["ProgressLine"]

TICK_S: Final = 0.5
LINE_EVERY_S: Final = 10.0  # where stderr is no terminal
PACE_S: Final = 60.0  # the rate is that of the last minute


class ProgressLine:
    """The line, made from what was counted and from what the ledger says of the documents ahead.

    Args:
        as_json: whether the line is for a program.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self.counts = Counts()
        """What was counted so far, in all."""
        self.figures = {"listed": 0, "planned": 0, "planned_pages": 0}
        """See `Ledger.figures`."""
        self._before = Counts()
        """What earlier passes counted: figures are those of this pass."""
        self._pace: deque[tuple[float, int]] = deque()
        self._terminal = sys.stderr.isatty() and not as_json
        self._drawn = False
        self._next = time.monotonic() + (0 if self._terminal else LINE_EVERY_S)

    def begin_pass(self) -> None:
        """Figures begin anew: a further pass lists and plans only the documents that are left."""
        self._before = replace(self.counts)
        self.figures = dict.fromkeys(self.figures, 0)

    def add(self, counts: Counts) -> None:
        """Add what a task counted."""
        self.counts.add(counts)
        self.counts.failures.clear()
        if counts.pages:
            now = time.monotonic()
            self._pace.append((now, self.counts.pages))
            while self._pace[0][0] < now - PACE_S and len(self._pace) > 2:
                self._pace.popleft()

    def show(self) -> None:
        """Draw the line, where it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (TICK_S if self._terminal else LINE_EVERY_S)
        line = json.dumps(self._object(now)) if self._as_json else self._line(now)
        if self._terminal:
            self._drawn = True
            sys.stderr.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])
            sys.stderr.flush()
        else:
            print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line, so that another one can be printed."""
        if self._drawn:
            self._drawn = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _object(self, now: float) -> dict[str, object]:
        counts, listed, rate = self.counts, self._listed(), self._rate(now)
        left = self._pages_left(listed)
        return {
            "event": "progress",
            "files": listed,
            "done": counts.there + counts.ended,
            "failed": counts.failed,
            "pages": counts.pages,
            "tokens": counts.tokens,
            "pages_per_s": round(rate, 3),
            "seconds_left": round(left / rate) if left is not None and rate else None,
        }

    def _listed(self) -> int:
        return max(self.figures["listed"], self.counts.there + self.counts.todo)

    def _line(self, now: float) -> str:
        counts, listed = self.counts, self._listed()
        parts = [f"{counts.there + counts.ended:,} of {listed:,} files", f"{counts.pages:,} pages"]
        if counts.failed:
            parts.append(f"{counts.failed:,} failed")
        if rate := self._rate(now):
            parts.append(f"{rate:.1f} pages/s" if rate >= 1 else f"{1 / rate:.1f} s/page")
            if (left := self._pages_left(listed)) is not None:
                parts.append(f"{duration(left / rate)} left")
        elif not counts.pages:
            parts.append("starting")
        return ", ".join(parts)

    def _rate(self, now: float) -> float:
        if len(self._pace) < 2:
            return 0.0
        began, before = self._pace[0]
        return (self.counts.pages - before) / max(now - began, 1e-3)

    def _pages_left(self, listed: int) -> float | None:
        """By the documents whose pages are known, and for the others that are listed as many as those have."""
        documents, pages = self.figures["planned"], self.figures["planned_pages"]
        if not documents:
            return None
        if self._before.todo:
            listed = self.figures["listed"]
        unknown = max(0, listed - self.counts.there + self._before.there - documents)
        return max(0.0, pages - self.counts.pages + self._before.pages + unknown * pages / documents)

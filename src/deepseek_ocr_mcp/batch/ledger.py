"""Who reads what, known to all workers of a run. It holds numbers and hashes, and no document's facts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio

from .counts import Counts
from .manifest import ManifestIndex
from .plan import Done, Round

__all__ = ["Claim", "Ledger", "key_of"]

AHEAD: Final = 20_000  # units that are planned and not done: rows of 1 kB that wait in the cluster
REMEMBERED: Final = 50_000  # units that ended: whoever is given one again asks within a few rows
LATER: Final = -1  # the answer to a claim: another source with the same bytes is read in this pass
YOURS: Final = -2  # the answer to a claim: read it


@dataclass(frozen=True, slots=True)
class Claim:
    """A document that a planner has looked into."""

    source: str
    document: str
    units: int
    pages: int


@dataclass(slots=True)
class _LongDocument:
    """A document that several workers read."""

    missing: set[str]
    """Units that are not read yet."""
    last: str = ""
    """The unit that was read last: whoever read it writes the document."""
    error: dict[str, str] | None = None


@dataclass(slots=True)
class _Remembered:
    """The newest of many entries."""

    entries: OrderedDict[int, str] = field(default_factory=OrderedDict)

    def add(self, key: int, value: str) -> None:
        self.entries[key] = value
        if len(self.entries) > REMEMBERED:
            self.entries.popitem(last=False)

    def get(self, key: int) -> str | None:
        return self.entries.get(key)


def key_of(document: str) -> int:
    """64 bits of the SHA-256 that the name of a document begins with.

    Documents that share them by chance are not taken for one: whoever copies a text compares the whole hash.
    """
    return int(document[:16], 16)


class Ledger:
    """Of equal documents one is read, planners do not run far ahead, and a unit that kills its workers is found.

    An async actor; there is one for each pass. It holds about 110 bytes for each document. If it dies, an equal
    document may be read twice, and documents of several units that were under way are left to the next pass; nothing
    else happens.

    Args:
        current: the pass; what its manifest says is done is not read.
        ahead: units that may be planned and not done.
    """

    def __init__(self, current: Round, ahead: int = AHEAD) -> None:
        self._ahead = ahead
        self._done: dict[int, int] = {}
        """The number of the row in the manifest, by the key of a document that is done."""
        self._owners: dict[int, int] = {}
        """A hash of the source that is read, by the key of a document."""
        self._under_way: dict[int, int] = {}
        """The number of units that are planned and not done, by the hash of a source."""
        self._names: dict[str, str] = {}
        self._waiting = 0  # units of all these
        self._attempts: dict[str, int] = {}
        self._ended = _Remembered()
        self._closed = _Remembered()
        self._long: dict[str, _LongDocument] = {}
        self._figures = {"listed": 0, "planned": 0, "planned_pages": 0}
        self._changed = anyio.Event()
        for number, row in enumerate(map(Done._make, ManifestIndex(current.out).facts(*Done._fields))):
            if row.sha256 and current.is_done(row):
                self._done.setdefault(key_of(row.sha256), number)

    async def claim(self, claims: Sequence[Claim]) -> list[int]:
        """For each claim: `YOURS`, `LATER`, or the number of the row of a document with the same bytes.

        Waits while more is planned than the readers get done soon. The same question has the same answer.
        """
        while self._waiting >= self._ahead and not all(hash(each.source) in self._under_way for each in claims):
            self._changed = anyio.Event()
            await self._changed.wait()
        return [self._answer(each) for each in claims]

    def _answer(self, claim: Claim) -> int:
        key, source = key_of(claim.document), hash(claim.source)
        known = self._done.get(key)
        if known is not None:
            return known
        if self._owners.setdefault(key, source) != source:
            return LATER
        if source not in self._under_way:
            self._under_way[source] = claim.units
            self._waiting += claim.units
            self._figures["planned"] += 1
            self._figures["planned_pages"] += claim.pages
        return YOURS

    async def read_again(self, document: str) -> None:
        """The text of a document that is done is gone: it is read again."""
        self._done.pop(key_of(document), None)

    async def take_name(self, output: str, source: str) -> str:
        """The source that the name of a text belongs to: the first that asked for it."""
        return self._names.setdefault(output, source)

    async def begin(self, unit: str, document: str) -> tuple[int, str | None]:
        """It is read from now on, and not only waits: whatever kills its actor now may be its doing.

        Returns how often it was begun before, and the counts of what it ended with, if it has ended. Where either is
        there it is not to be read yet, see `begin_again`.
        """
        ended = self._ended.get(hash(unit))
        if ended is None:
            ended = self._closed.get(hash(document))
        before = self._attempts.get(unit, 0)
        if not before and ended is None:
            self._attempts[unit] = 1
        return before, ended

    async def begin_again(self, unit: str) -> None:
        """It is read from now on, and its actor reads nothing else."""
        self._attempts[unit] = self._attempts.get(unit, 0) + 1

    async def unit_read(
        self, document: str, units: Sequence[str], unit: str, error: dict[str, str] | None
    ) -> tuple[bool, dict[str, str] | None]:
        """A unit of a document of several units is on disk, or has failed.

        Returns whether the caller is to write the document now, and the error that the document ended with.

        Args:
            document: the address of the document.
            units: the names of all its units.
            unit: the name of the unit that ended.
            error: the error of the unit, as a row has it; None: it was read.
        """
        long = self._long.setdefault(document, _LongDocument(set(units)))
        long.error = long.error or error
        if unit in long.missing:
            long.missing.discard(unit)
            long.last = "" if long.missing else unit
        return not long.missing and long.last == unit, long.error

    async def finished(self, units: Iterable[tuple[str, str, str, str]]) -> None:
        """These units ended, and the rows of documents that ended with them are written.

        Args:
            units: name, document, source, and the counts of each.
        """
        for unit, document, source, counts in units:
            self._attempts.pop(unit, None)
            if self._ended.get(hash(unit)) is not None:
                continue
            self._ended.add(hash(unit), counts)
            self._release(hash(source))
            if document in self._long and Counts.load(counts).ended:
                del self._long[document]
                self._closed.add(hash(document), "")
        self._changed.set()

    def _release(self, source: int) -> None:
        units = self._under_way.get(source, 0)
        if units:
            self._waiting -= 1
            self._under_way[source] = units - 1
        if units <= 1:
            self._under_way.pop(source, None)

    async def listed(self, documents: int) -> None:
        """So many more documents were listed."""
        self._figures["listed"] += documents

    async def figures(self) -> dict[str, int]:
        """For the progress: documents that are listed, those that are planned, and the pages of those."""
        return dict(self._figures)

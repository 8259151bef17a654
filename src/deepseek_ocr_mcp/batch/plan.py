"""What the tasks of a batch hand to each other: documents, and the rules of one pass over them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from ..errors import OcrError, class_of, from_dict
from .counts import Counts
from .files import Location, Member, SourceDocument
from .state import ManifestRow, Options

__all__ = ["Done", "Round", "Rules", "Task", "counts_of", "from_row", "to_row"]


@dataclass(frozen=True, slots=True)
class Task:
    """A document, or pages of one, on its way through the cluster."""

    source: SourceDocument
    sha256: str = ""
    bytes: int | None = None
    pages: int | None = None
    document: str = ""
    units: tuple[str, ...] = ()
    """Page ranges of all units of the document."""
    unit: str = ""
    """The pages that are to be read."""
    error: dict[str, str] | None = None

    def failed(self, error: OcrError) -> Task:
        return replace(self, error=error.to_dict())

    @property
    def failure(self) -> OcrError | None:
        return from_dict(self.error) if self.error else None


def to_row(tasks: Iterable[Task], counts: Counts | None = None) -> dict[str, str]:
    """One row of the data set: what one actor takes at a time, and what was counted on the way.

    JSON, so that no schema is guessed from what a block of rows happens to hold.
    """
    return {"tasks": json.dumps([asdict(task) for task in tasks]), "counts": counts.dump() if counts else ""}


def from_row(row: Mapping[str, str]) -> list[Task]:
    """The tasks of a row; the inverse of `to_row`."""
    return [
        Task(**{**data, "source": _source(data["source"]), "units": tuple(data["units"])})
        for data in json.loads(row["tasks"])
    ]


def _source(data: dict[str, Any]) -> SourceDocument:
    member = data["member"]
    return SourceDocument(**{**data, "member": Member(**member) if member else None})


def counts_of(row: Mapping[str, str]) -> Counts:
    """What was counted on the way of a row."""
    return Counts.load(row["counts"])


@dataclass(frozen=True, slots=True)
class Rules:
    """Which of the documents that earlier runs have done are done."""

    again: bool = False
    """Whether what was read before is read, too."""
    retry_failed: bool = False
    """Whether what failed by its own fault is tried once more."""
    keep_older: bool = False
    """Whether what an older version has read counts as read."""
    max_page_error_rate: float = 1.0
    """A document of which a larger share of pages, 0 to 1, could not be read counts as failed."""


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over the documents: what all its tasks know."""

    out: Location
    options: Options
    run: str
    """Names the run."""
    rules: Rules = Rules()
    number: int = 1
    """The number of the pass, from 1. Later passes take the copies of documents that the first has read, and lost
    documents."""
    reads: bool = True
    """Whether documents are read; else only the texts of copies are written, for which no engine is needed."""
    rows_in_hand: int = 16
    """Rows that the readers hold at a time, all together."""
    taken: Mapping[str, str] = field(default_factory=dict)
    """The source whose text has a name, by that name, where this run would give the name to another source."""

    def is_done(self, row: ManifestRow | Done) -> bool:
        """Whether a row holds what would come of the same bytes now. Whether its text is there is another question."""
        if row.run == self.run:
            return True
        if self.rules.again or row.asked != self.options.asked:
            return False
        if row.version != self.options.version and not self.rules.keep_older:
            return False
        return not row.error_code or (class_of(row.error_code).blames_document and not self.rules.retry_failed)


class Done(NamedTuple):
    """The columns of a row that decide whether its document is done, and its hash."""

    sha256: str
    asked: str
    version: str
    error_code: str
    run: str

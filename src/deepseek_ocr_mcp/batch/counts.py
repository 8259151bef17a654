"""What became of documents, in numbers: tasks count, and the driver adds up. No list of documents is in here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

from ..documents.listing import SHOWN, Unlisted
from ..errors import OcrError, from_dict
from .state import ManifestRow, codes_of

__all__ = ["Counts"]


@dataclass(slots=True)
class Counts:
    """Numbers about documents."""

    todo: int = 0
    """Documents that were listed and that are to be looked into."""
    there: int = 0
    """Documents that were listed and that an earlier run has done."""
    ended: int = 0
    """Documents of `todo` that have a row of this run."""
    later: int = 0
    """Documents of `todo` whose text a later pass copies from another one with the same bytes."""
    read: int = 0
    copied: int = 0
    failed: int = 0
    pages: int = 0
    """Pages that were read."""
    tokens: int = 0
    """Tokens that a model wrote for these pages."""
    worker_s: float = field(default=0.0, compare=False)
    """Seconds of workers, idle or not, until a row of theirs ended."""
    exit_code: int = 0
    """The worst of documents that failed."""
    notes: dict[str, int] = field(default_factory=dict)
    """The number of documents that have a note, by the code of the note."""
    left_out: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    """The number of names that were left out, and the first of them, by the reason."""
    failures: list[str] = field(default_factory=list)
    """A line for each document that failed, for stderr; the driver takes them out."""
    fatal: dict[str, str] | None = None
    """An error that every further document would meet."""

    def add(self, other: Counts) -> None:
        """Add what another task counted."""
        for name in ("todo", "there", "ended", "later", "read", "copied", "failed", "pages", "tokens", "worker_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.exit_code = max(self.exit_code, other.exit_code)
        for code, number in other.notes.items():
            self.notes[code] = self.notes.get(code, 0) + number
        for why, (number, names) in other.left_out.items():
            known, first = self.left_out.get(why, (0, []))
            self.left_out[why] = known + number, [*first, *names][:SHOWN]
        self.failures += other.failures
        self.fatal = self.fatal or other.fatal

    def add_there(self, row: ManifestRow) -> None:
        """Count a document that an earlier run has done."""
        self.there += 1
        self._add_facts(row)

    def add_read(self, row: ManifestRow) -> None:
        """Count a document whose text was written."""
        self.read += 1
        self.add_ended(row)

    def add_ended(self, row: ManifestRow) -> None:
        """Count a document that has got its row in this run."""
        self.ended += 1
        if row.failed:
            self.failures.append(f"{row.source}: {row.error}")
        self._add_facts(row)

    def add_left_out(self, name: Unlisted) -> None:
        self.add(Counts(left_out={name.why: (1, [name.name])}))

    def add_fatal(self, error: OcrError) -> None:
        self.fatal = self.fatal or error.to_dict()

    def _add_facts(self, row: ManifestRow) -> None:
        if row.failed:
            self.failed += 1
            self.exit_code = max(self.exit_code, from_dict({"code": row.error_code}).exit_code)
        for code in codes_of(row.notes):
            self.notes[code] = self.notes.get(code, 0) + 1

    def dump(self) -> str:
        return json.dumps({name: value for name, value in asdict(self).items() if value})

    @classmethod
    def load(cls, text: str) -> Self:
        data: Mapping[str, object] = json.loads(text) if text else {}
        return cls(**data)  # type: ignore[arg-type]  # as `dump` wrote it

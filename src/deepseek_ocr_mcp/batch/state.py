"""What a batch has done, kept so that a kill at any moment, of any process of it, leaves a valid state.

- `OUT/a/scan.pdf.md`: the text of a document, there whole or not at all.
- `OUT/manifest.parquet`: one row for each document. It is replaced by a rename when a run ends.
- `OUT/.batch/manifest/*.parquet`: rows since then, a part every few seconds. Of two rows of one document the later
  counts, so that parts which are in the manifest already do no harm.
- `OUT/.batch/units/*.json`: what a worker read, before its document is whole and its row in a part. The worker writes
  it before it says that it is done: what was read is never read again, whoever is killed.

A text is written before its row, its row before its units are deleted. Whatever of that is missing after a kill is
done by the next run, from what is there.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Self

from ..engines.base import ReadOptions
from ..service.cache import cache_key
from .files import STATE, Location

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "LEFT_OUT",
    "MANIFEST",
    "UNITS",
    "UNIT_PAGES",
    "Manifest",
    "ManifestRow",
    "Options",
    "Unit",
    "UnitText",
    "count_notes",
    "merge_notes",
    "units_of",
]

MANIFEST: Final = "manifest.parquet"
PARTS: Final = f"{STATE}/manifest"
UNITS: Final = f"{STATE}/units"

LEFT_OUT: Final = "left_out"  # the `finish` of a row about a name that was not opened
MAX_PAGE: Final = 1_000_000_000  # beyond the last page of any document

UNIT_PAGES: Final = 16
"""Pages of a document that one worker reads at a time. Fixed: with another number, what a stopped run has read of a
document would not be found. Two of DeepSeek-OCR's batches; the file is opened anew for each unit."""


@dataclass(frozen=True, slots=True)
class Options:
    """Everything beside a document's bytes that decides what is read of it."""

    reading: ReadOptions
    pages: str
    """Which, like "1-3,7"; empty: all."""
    text_layer: str
    dpi: int
    max_pixels: int
    version: str
    """Of the engine, its weights and ourselves."""

    @property
    def asked(self) -> str:
        """A name for what is asked, whoever reads it."""
        return cache_key(asdict(self.reading), self.pages, self.text_layer, self.dpi, self.max_pixels)[:16]

    def document(self, sha256: str) -> str:
        """A name for what comes of a document with these bytes."""
        return f"{sha256}-{cache_key(self.asked, self.version)[:16]}"


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """What the manifest says of a document. `columns` is its schema."""

    source: str
    """Path or URL."""
    output: str = ""
    """The text's file, relative to the output folder; empty where there is none."""
    sha256: str = ""
    """Of the bytes; empty where they could not be had."""
    bytes: int | None = None
    pages: int | None = None
    """In the document."""
    pages_read: int = 0
    characters: int = 0
    seconds: float = 0.0
    """The engine's, all pages together; 0 for a copy."""
    finish: str = ""
    """`stop`: read to its end; `length`, `loop`, `failed`: that of the worst page; `left_out`: a name that is no
    document, or a folder that could not be listed; empty where nothing was read."""
    cut_pages: str = ""
    """Those that were not read to their end, like "3,7"."""
    notes: str = ""
    """What limits the text: a JSON list of objects with `code`, `text` and `pages`; empty: nothing does."""
    error_code: str = ""
    error: str = ""
    """What happened and what to do; empty: all is well."""
    copy_of: str = ""
    """The source with the same bytes that was read instead."""
    engine: str = ""
    model: str = ""
    device: str = ""
    mode: str = ""
    version: str = ""
    asked: str = ""
    """Names mode, pages, resolution and the like together: rows that differ in it were asked other things."""
    stamp: str = ""
    """Size and time of the file, by which a later run sees that it did not change."""
    written: float = 0.0
    """When, in seconds since 1970 (UTC)."""

    @property
    def failed(self) -> bool:
        return bool(self.error)


@dataclass(frozen=True, slots=True)
class Unit:
    """Pages of a document that are read in one piece."""

    document: str
    """`Options.document`."""
    pages: str

    @property
    def name(self) -> str:
        return f"{UNITS}/{self.document[:2]}/{self.document}-{self.pages}.json"


@dataclass(frozen=True, slots=True)
class UnitText:
    """What was read of a unit."""

    text: str
    pages: int
    characters: int
    seconds: float
    finish: str
    cut_pages: str
    engine: str
    model: str
    device: str
    figures: dict[str, str]
    """Pictures that the text links to, by name, in base64."""
    notes: list[dict[str, str]] = field(default_factory=list)
    """What limits the text: `code`, `text` and `pages` of each note."""

    def dump(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode("utf-8", "surrogatepass")

    @classmethod
    def load(cls, data: bytes) -> Self:
        return cls(**json.loads(data.decode("utf-8", "surrogatepass")))


def units_of(document: str, numbers: list[int]) -> list[Unit]:
    """The units of a document of which these pages are wanted, ascending."""
    from ..documents.ranges import format_pages

    groups: dict[int, list[int]] = {}
    for number in numbers:
        groups.setdefault((number - 1) // UNIT_PAGES, []).append(number)
    return [Unit(document, format_pages(group)) for group in groups.values()]


def merge_notes(parts: Iterable[Sequence[dict[str, str]]]) -> str:
    """The notes of a document as the manifest keeps them. Notes of several units that say the same become one."""
    from ..documents.ranges import format_pages, parse_pages

    pages: dict[tuple[str, str], set[int]] = {}
    for note in (note for notes in parts for note in notes):
        about = pages.setdefault((note["code"], note["text"]), set())
        about.update(parse_pages(note["pages"], MAX_PAGE) if note["pages"] else ())
    notes = [{"code": code, "text": text, "pages": format_pages(sorted(on))} for (code, text), on in pages.items()]
    return json.dumps(notes, ensure_ascii=False) if notes else ""


def count_notes(rows: Iterable[ManifestRow]) -> dict[str, int]:
    """By the code of a note, the rows that have such a note."""
    codes = (code for row in rows if row.notes for code in {note["code"] for note in json.loads(row.notes)})
    return dict(Counter(codes))


class Manifest:
    """The rows, and which of them are not on disk yet. One process writes: the driver."""

    def __init__(self, out: Location) -> None:
        self._out = out
        self._rows: dict[str, ManifestRow] = {}
        self._fresh: list[ManifestRow] = []
        self._parts: list[str] = []

    def __repr__(self) -> str:
        return f"<Manifest {len(self._rows)} rows, {len(self._fresh)} not written, {len(self._parts)} parts>"

    def __len__(self) -> int:
        return len(self._rows)

    def load(self) -> None:
        """Take over what earlier runs left."""
        if self._out.exists(MANIFEST):
            self._add(self._table(MANIFEST))
        self._parts = sorted(self._out.names(PARTS))
        for part in self._parts:
            self._add(self._table(part))

    def forget_left_out(self) -> None:
        """Drop the rows of names that were left out: each run looks anew."""
        self._rows = {source: row for source, row in self._rows.items() if row.finish != LEFT_OUT}

    def get(self, source: str) -> ManifestRow | None:
        return self._rows.get(_clean(source))

    def rows(self) -> Iterator[ManifestRow]:
        return iter(self._rows.values())

    def put(self, row: ManifestRow) -> None:
        """Note a row; `flush` writes it."""
        row = ManifestRow(**{name: _clean(value) for name, value in asdict(row).items()})
        self._rows[row.source] = row
        self._fresh.append(row)

    @property
    def fresh(self) -> int:
        """Rows that a kill would lose."""
        return len(self._fresh)

    def flush(self) -> None:
        """Write the fresh rows as a part."""
        if self._fresh:
            name = f"{PARTS}/{time.time_ns():020}.parquet"
            self._out.write(name, _parquet(self._fresh))
            self._parts.append(name)
            self._fresh = []

    def merge(self) -> None:
        """Write the one manifest, in the order of its sources, and let the parts go."""
        self._rows = {source: self._rows[source] for source in sorted(self._rows)}
        self._out.write(MANIFEST, _parquet(self._rows.values()))
        self._fresh = []
        self._out.remove(self._parts)
        self._parts = []

    def _table(self, name: str) -> pyarrow.Table:
        import io

        import pyarrow.parquet

        return pyarrow.parquet.read_table(io.BytesIO(self._out.read(name)))

    def _add(self, table: pyarrow.Table) -> None:
        known = [field.name for field in fields(ManifestRow) if field.name in table.column_names]
        for found in table.select(known).to_pylist():
            row = ManifestRow(**{name: value for name, value in found.items() if value is not None})
            self._rows[row.source] = row


def _parquet(rows: Iterable[ManifestRow]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    types: dict[str, Any] = {
        "str": pyarrow.string(),
        "int": pyarrow.int64(),
        "int | None": pyarrow.int64(),
        "float": pyarrow.float64(),
    }
    schema = pyarrow.schema([(field.name, types[str(field.type)]) for field in fields(ManifestRow)])
    sink = pyarrow.BufferOutputStream()
    table = pyarrow.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _clean(value: Any) -> Any:
    """Without what Parquet cannot hold: a path that is no UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value

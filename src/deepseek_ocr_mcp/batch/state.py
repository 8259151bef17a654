"""What a batch has done, kept so that a kill at any moment, of any process of it, leaves a valid state.

- `OUT/a/scan.pdf.md`: the text of a document, there whole or not at all. With another format, `OUT/documents`: see
  `shards`.
- `OUT/manifest.parquet`: one row for each document, see `manifest`. It is replaced by a rename when a run ends.
- `OUT/.batch/manifest/*.jsonl`: rows since then. The worker that read documents writes them, for as many documents as
  it took at a time.
- `OUT/.batch/units/*.json`: what a worker read of a document that several workers read, before the document is whole
  and its row in a part.

A text is written before its row, its row before its units are deleted. Whatever of that is missing after a kill is
done by the next run, from what is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from ..engines.base import ReadOptions
from ..service.cache import cache_key
from .files import STATE

__all__ = [
    "FILES",
    "LEFT_OUT",
    "MANIFEST",
    "MAX_PAGE",
    "PARTS",
    "UNITS",
    "UNIT_PAGES",
    "ManifestRow",
    "Options",
    "Unit",
    "UnitText",
    "clean",
    "codes_of",
    "merge_notes",
    "units_of",
]

MANIFEST: Final = "manifest.parquet"
FILES: Final = "files"  # the format with a Markdown file for each document
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
    """The pages to read, like "1-3,7"; empty: all."""
    text_layer: str
    dpi: int
    max_pixels: int
    version: str
    """The version of the engine, its weights and this program."""
    format: str = FILES
    """`FILES`, or a key of `shards.FORMATS`: what is kept of a page differs."""

    @property
    def asked(self) -> str:
        """A name for what is asked, whoever reads it."""
        asked = (asdict(self.reading), self.pages, self.text_layer, self.dpi, self.max_pixels)
        return cache_key(*asked, *([self.format] if self.format != FILES else []))[:16]

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
    """The hash of the bytes; empty where they could not be read."""
    bytes: int | None = None
    pages: int | None = None
    """The number of pages of the document."""
    pages_read: int = 0
    characters: int = 0
    seconds: float = 0.0
    """Seconds of the engine, all pages together; 0 for a copy."""
    finish: str = ""
    """`stop`: read to its end; `length`, `loop`, `failed`: that of the worst page; `left_out`: a name that is no
    document, or a folder that could not be listed; empty where nothing was read."""
    tokens: int | None = None
    """Tokens that the model wrote, all pages together; None where the engine counts none, and for a copy."""
    cut_pages: str = ""
    """The pages that were not read to their end, like "3,7"."""
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
    """The time of the row, in seconds since 1970 (UTC)."""
    run: str = ""
    """Names the run that wrote the row."""
    output_bytes: int | None = None
    """The size of the text's file: a file of another size is not the written one. None: the text is in a shard,
    whose name is a hash, or a release without this column wrote the row."""

    @property
    def failed(self) -> bool:
        return bool(self.error)

    def has_output(self, size: int | None) -> bool:
        """Whether the text's file is whole.

        Args:
            size: bytes of the file of that name; None: there is none.
        """
        return size is not None and self.output_bytes in (None, size)


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
    tokens: int | None = None
    """Tokens that the model wrote; None where the engine counts none."""
    failed_pages: int = 0
    """The number of `pages` that could not be drawn or read."""
    each_page: list[dict[str, Any]] = field(default_factory=list)
    """For shards, instead of `text`: `page`, `text`, `finish` and `words` of each page."""

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


def codes_of(notes: str) -> set[str]:
    """The codes of the notes of a row."""
    return {note["code"] for note in json.loads(notes)} if notes else set()


def clean(value: Any) -> Any:
    """Without what Parquet cannot hold: a path that is no UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value

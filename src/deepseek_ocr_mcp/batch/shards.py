"""Documents in shards instead of files: Dolma's JSON lines, or Parquet with a row for each page.

Workers write pieces: a shard of the documents that they had in hand, named after its bytes (SHA-256) and the number of
its documents. At the start and the end of a run, when nobody writes, the pieces become shards of some megabytes. The
manifest decides what counts: a document is in a shard only if its row names that shard. A document that no row names is
removed. A row is dropped if its shard is gone or its piece is damaged, so the next run reads its document again. After
a kill at any moment, the manifest names only whole shards.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..documents.ranges import parse_pages
from .files import STATE, Location
from .manifest import ManifestIndex, replace_outputs
from .state import MAX_PAGE, clean

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "FORMATS",
    "PIECES",
    "SEPARATOR",
    "SHARDS",
    "Format",
    "ShardDocument",
    "copy_into_piece",
    "gather",
    "is_shard",
    "write_piece",
]

SHARDS: Final = "documents"
PIECES: Final = f"{STATE}/pieces"
SHARD_BYTES: Final = 64 << 20  # after which a shard ends; a reader of Dolma takes one at a time
GROUP_PAGES: Final = 5_000  # of a row group of a Parquet shard
LEVEL: Final = 6  # of gzip
SEPARATOR: Final = "\n\n"  # between pages, as in a Markdown file
_NAME: Final = re.compile(r"/([0-9a-f]{64})-(\d+)\.[a-z.]+$")


@dataclass(frozen=True, slots=True)
class ShardDocument:
    """A document on its way into a shard."""

    source: str
    """Path or URL."""
    sha256: str
    page_count: int
    """Pages in the document."""
    pages: Sequence[dict[str, Any]]
    """The pages that were read: `page`, `text`, `finish` and `words` (`text` and `box` of each)."""
    notes: Sequence[dict[str, str]]
    """What limits the text: `code`, `text` and `pages` of each note."""
    facts: dict[str, str] = field(default_factory=dict)
    """Engine, model, version and the like."""


class Format(Protocol):
    """How shards are written."""

    suffix: str

    def dump(self, documents: Sequence[ShardDocument]) -> bytes:
        """A shard of these documents."""

    def select(self, data: bytes, sources: Collection[str]) -> bytes:
        """The shard with the documents of these sources alone."""

    def renamed(self, data: bytes, source: str, new: str) -> bytes:
        """A shard that holds one document of a shard, under a new address; empty bytes if the shard lacks the document.

        Args:
            data: the bytes of a shard.
            source: the address of the document to take.
            new: the address that the document gets.
        """

    def join(self, path: str) -> _Joining:
        """A new shard at `path`, which takes pieces."""


class _Joining(Protocol):
    """A shard that is written."""

    def add(self, data: bytes) -> None: ...

    def close(self) -> None: ...


# -- Dolma


class _Dolma:
    """JSON lines in gzip, with the fields of Dolma and the page spans of olmOCR."""

    suffix = ".jsonl.gz"

    def dump(self, documents: Sequence[ShardDocument]) -> bytes:
        return _zipped(_line(_dolma(document)) for document in documents)

    def select(self, data: bytes, sources: Collection[str]) -> bytes:
        return _zipped(line for line in _lines(data) if json.loads(line)["metadata"]["Source-File"] in sources)

    def renamed(self, data: bytes, source: str, new: str) -> bytes:
        quoted = json.dumps(source, ensure_ascii=False).encode()
        for line in _lines(data):
            if quoted in line:  # to parse all lines takes ten times as long
                found = json.loads(line)
                if found["metadata"]["Source-File"] == source:
                    found["id"] = _id(new)
                    found["metadata"]["Source-File"] = new
                    return _zipped([_line(found)])
        return b""

    def join(self, path: str) -> _Joining:
        return _GzipMembers(path)


class _GzipMembers:
    """Files of gzip one behind the other are a file of gzip."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb")  # noqa: SIM115  # closed by `close`

    def add(self, data: bytes) -> None:
        self._file.write(data)

    def close(self) -> None:
        self._file.close()


def _dolma(document: ShardDocument) -> dict[str, Any]:
    text, spans = "", []
    for number, page in enumerate(document.pages, start=1):
        start = len(text)
        text += page["text"]
        if number < len(document.pages):
            text += SEPARATOR
        spans.append([start, len(text), page["page"]])
    today = time.strftime("%Y-%m-%d", time.gmtime())
    return {
        "id": _id(document.source),
        "text": text,
        "source": "deepseek-ocr-mcp",
        "added": today,
        "created": today,
        "metadata": {
            "Source-File": document.source,
            "sha256": document.sha256,
            "pdf-total-pages": document.page_count,
            **document.facts,
            "notes": list(document.notes),
        },
        "attributes": {"pdf_page_numbers": spans},
    }


def _id(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:40]


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _lines(data: bytes) -> Iterable[bytes]:
    with gzip.open(io.BytesIO(data)) as file:
        yield from file


def _zipped(lines: Iterable[bytes]) -> bytes:
    return gzip.compress(b"".join(lines), LEVEL, mtime=0)


# -- Parquet


class _Parquet:
    """A row for each page."""

    suffix = ".parquet"

    def dump(self, documents: Sequence[ShardDocument]) -> bytes:
        import pyarrow

        rows = [row for document in documents for row in _rows(document)]
        return _stored(pyarrow.Table.from_pylist(rows, schema=_schema()))

    def select(self, data: bytes, sources: Collection[str]) -> bytes:
        return _stored(_of_sources(data, sources))

    def renamed(self, data: bytes, source: str, new: str) -> bytes:
        import pyarrow

        table = _of_sources(data, [source])
        column = pyarrow.array([new] * len(table), pyarrow.string())
        return _stored(table.set_column(0, _schema().field(0), column)) if len(table) else b""

    def join(self, path: str) -> _Joining:
        return _PageGroups(path)


class _PageGroups:
    """Pieces put together to large row groups."""

    def __init__(self, path: str) -> None:
        import pyarrow.parquet

        self._writer = pyarrow.parquet.ParquetWriter(path, _schema(), compression="zstd")
        self._waiting: list[pyarrow.Table] = []

    def add(self, data: bytes) -> None:
        import pyarrow.parquet

        self._waiting.append(pyarrow.parquet.read_table(io.BytesIO(data), schema=_schema()))
        if sum(map(len, self._waiting)) >= GROUP_PAGES:
            self._write()

    def _write(self) -> None:
        import pyarrow

        if self._waiting:
            self._writer.write_table(pyarrow.concat_tables(self._waiting))
            self._waiting = []

    def close(self) -> None:
        self._write()
        self._writer.close()


def _schema() -> pyarrow.Schema:
    import pyarrow

    text, number = pyarrow.string(), pyarrow.int32()
    word = pyarrow.struct([("text", text), ("box", pyarrow.list_(number))])
    note = pyarrow.struct([("code", text), ("text", text)])
    return pyarrow.schema(
        [
            ("source", text),
            ("sha256", text),
            ("page", number),
            ("page_count", number),
            ("text", text),
            ("finish", text),
            ("words", pyarrow.list_(word)),
            ("notes", pyarrow.list_(note)),
            ("engine", text),
            ("model", text),
            ("version", text),
        ]
    )


def _rows(document: ShardDocument) -> Iterable[dict[str, Any]]:
    notes = [(note, set(parse_pages(note["pages"], MAX_PAGE)) if note["pages"] else None) for note in document.notes]
    for page in document.pages:
        yield {
            **{name: document.facts.get(name, "") for name in ("engine", "model", "version")},
            "source": document.source,
            "sha256": document.sha256,
            "page": page["page"],
            "page_count": document.page_count,
            "text": _sound(page["text"]),
            "finish": page["finish"],
            "words": [{"text": _sound(word["text"]), "box": word["box"]} for word in page["words"]],
            "notes": [
                {"code": note["code"], "text": _sound(note["text"])}
                for note, on in notes
                if on is None or page["page"] in on
            ],
        }


def _sound(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _of_sources(data: bytes, sources: Collection[str]) -> pyarrow.Table:
    import pyarrow.compute
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(data), schema=_schema())
    wanted = pyarrow.array(sorted(sources), pyarrow.string())
    return table.filter(pyarrow.compute.is_in(table["source"], value_set=wanted))


def _stored(table: pyarrow.Table) -> bytes:
    import pyarrow.parquet

    data = io.BytesIO()
    pyarrow.parquet.write_table(table, data, compression="zstd")
    return data.getvalue()


FORMATS: Final[dict[str, Format]] = {"dolma": _Dolma(), "parquet": _Parquet()}
"""The formats of shards, by the value of `--format`; `files` has none."""


# -- pieces and shards


def is_shard(output: str) -> bool:
    """Whether the output of a row is a shard, and no file of its own."""
    return _NAME.search(output) is not None and output.startswith((f"{SHARDS}/", f"{PIECES}/"))


def write_piece(out: Location, format: str, documents: Sequence[ShardDocument]) -> str:
    """Write documents as a piece. Returns its name, which their rows carry.

    Args:
        out: the folder of the run.
        format: one of `FORMATS`.
        documents: the documents, one at least.

    Raises:
        OcrError: it cannot be written.
    """
    return _put_piece(out, format, FORMATS[format].dump(documents), len(documents))


def copy_into_piece(out: Location, format: str, output: str, source: str, new: str) -> str:
    """Write the document of `source`, from the shard `output`, as that of `new`. Returns the name of the piece.

    Args:
        out: the folder of the run.
        format: one of `FORMATS`.
        output: the name of the shard that holds the document.
        source: the address of the document there.
        new: the address that the copy gets.

    Raises:
        FileNotFoundError: it is not there.
    """
    data = out.read(output)
    copied = FORMATS[format].renamed(data, source, str(clean(new))) if _is_sound(output, data) else b""
    if not copied:
        raise FileNotFoundError(output)
    return _put_piece(out, format, copied, 1)


def _put_piece(out: Location, format: str, data: bytes, documents: int) -> str:
    name = f"{PIECES}/{hashlib.sha256(data).hexdigest()}-{documents}{FORMATS[format].suffix}"
    out.write(name, data)
    return name


def _is_sound(name: str, data: bytes) -> bool:
    found = _NAME.search(name)
    return found is not None and found[1] == hashlib.sha256(data).hexdigest()


def _documents_of(name: str) -> int:
    found = _NAME.search(name)
    return int(found[2]) if found else 0


def gather(out: Location, format: str) -> int:
    """Put pieces together to shards, as the manifest has it. Nobody may write meanwhile.

    Returns the number of documents whose shard was gone, or was a damaged piece: their rows are dropped. Shards that
    are put together already are not read again, so that damage to one of them is not seen.
    """
    there = {name for name in (*out.names(PIECES), *out.names(SHARDS)) if is_shard(name)}
    index = ManifestIndex(out)
    named = Counter(output for (output,) in index.facts("output") if is_shard(output))
    if not there and not named:
        return 0
    partly = {name for name in there & named.keys() if named[name] != _documents_of(name)}
    wanted: dict[str, set[str]] = {name: set() for name in partly}
    if partly:
        for source, output in index.facts("source", "output"):
            if output in partly:
                wanted[output].add(source)
    moving = sorted(name for name in there & named.keys() if name in partly or name.startswith(f"{PIECES}/"))
    moved = _joined(out, FORMATS[format], moving, wanted)
    lost = named.keys() - there | set(moving) - moved.keys()
    if moved or lost:
        replace_outputs(out, moved, lost)
    out.remove(sorted((there - named.keys() | set(moving)) - set(moved.values())))
    return sum(named[name] for name in lost)


def _joined(out: Location, format: Format, names: Sequence[str], wanted: dict[str, set[str]]) -> dict[str, str]:
    """Write these pieces as shards. Returns the shard of each; damaged pieces are left out."""
    moved: dict[str, str] = {}
    with out.scratch() as folder:
        path = os.path.join(folder, f"shard{format.suffix}")
        members: list[str] = []
        documents, size = 0, 0
        joining: _Joining | None = None
        for name in [*names, ""]:
            data = out.read(name) if name else b""
            if joining is not None and (not name or size + len(data) > SHARD_BYTES):
                joining.close()
                shard = f"{SHARDS}/{_hash_of(path)}-{documents}{format.suffix}"
                out.move_here(path, shard)
                moved.update(dict.fromkeys(members, shard))
                members, documents, size, joining = [], 0, 0, None
            if not _is_sound(name, data):
                continue
            joining = joining or format.join(path)
            joining.add(format.select(data, wanted[name]) if name in wanted else data)
            documents += len(wanted[name]) if name in wanted else _documents_of(name)
            size += len(data)
            members.append(name)
    return moved


def _hash_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

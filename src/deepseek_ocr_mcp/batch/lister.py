"""Lists a part of the documents, leaves out what is done, and hands on the others while the listing goes on.

Resuming is an anti-join: what was listed, without what the manifest says is done and whose text is there.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from ..documents.listing import Unlisted
from ..errors import BadRequest, InputNotFound, OcrError
from .assembly import SUFFIX, Assembler
from .counts import Counts
from .files import Location, SourceDocument
from .manifest import ManifestIndex, write_part
from .plan import Round, Task, to_row
from .shards import PIECES, SHARDS, is_shard
from .sources import SourcePart, list_part
from .state import FILES, UNIT_PAGES, ManifestRow, clean

__all__ = ["list_rows", "lost_rows", "part_row", "todo_of"]

FIRST_ROW: Final = 4  # documents of the first row, so that reading begins at once; each further one has twice as many
LONGEST_ROW: Final = 256  # documents of a row: rows of one run are few, and one planner takes a row


def part_row(parts: Sequence[SourcePart], of: int) -> dict[str, Any]:
    """A row of the data set: parts that one task lists, of so many tasks in all."""
    return {"parts": json.dumps([asdict(part) for part in parts]), "of": of}


def _parts_of_row(row: Mapping[str, Any]) -> list[SourcePart]:
    return [
        SourcePart(**{**data, "pattern": tuple(data["pattern"]), "dirs": tuple(data["dirs"])})
        for data in json.loads(row["parts"])
    ]


def list_rows(row: Mapping[str, Any], current: Round, ledger: Any) -> Iterator[dict[str, Any]]:
    """The rows for the planners that become of a `part_row`.

    Short documents go together, so that Ray's work for each row is little beside the reading; never so many that a
    worker holds more than a small share of what was listed. The same listing makes the same rows, because Ray repeats
    a task whose machine died, and takes the rows that it had already for the same.

    Args:
        row: the `part_row` to list.
        current: the facts of this run.
        ledger: the actor that knows which documents are under way.
    """
    todo = 0
    try:
        for counts, documents in _chunks(_parts_of_row(row), current, ledger):
            todo += len(documents)
            ledger.listed.remote(counts.there + counts.todo)
            together = max(1, min(UNIT_PAGES, todo * int(row["of"]) // current.rows_in_hand))
            yield {**to_row(map(Task, documents), counts), "together": together}
    except OcrError as exc:
        counts = Counts()
        counts.add_fatal(exc)
        yield {**to_row((), counts), "together": 1}


def todo_of(parts: Iterable[SourcePart], current: Round) -> Iterator[SourceDocument]:
    """The documents of these parts that are not done."""
    for _, documents in _chunks(parts, current, None):
        yield from documents


def _chunks(parts: Iterable[SourcePart], current: Round, ledger: Any) -> Iterator[tuple[Counts, list[SourceDocument]]]:
    index = ManifestIndex(current.out)
    length = FIRST_ROW
    for part in parts:
        texts = _Texts(current.out, part)
        found = list_part(part)
        while chunk := list(itertools.islice(found, length)):
            length = min(LONGEST_ROW, 2 * length)
            counts = Counts()
            documents = [each for each in chunk if isinstance(each, SourceDocument)]
            _note_left_out([each for each in chunk if isinstance(each, Unlisted)], current, counts)
            if ledger is not None and current.options.format == FILES:  # a shard has no names
                _refuse_collisions(documents, part, current, ledger)
            todo = _todo(documents, current, index, texts, counts)
            counts.todo = len(todo)
            if current.number > 1:
                counts = Counts(todo=len(todo))  # the first pass has counted the others
            yield counts, todo


def _note_left_out(names: Sequence[Unlisted], current: Round, counts: Counts) -> None:
    if current.number > 1:
        return
    assembler = Assembler(current)
    write_part(current.out, [assembler.left_out(name) for name in names])
    for name in names:
        counts.add_left_out(name)


def _todo(
    documents: Sequence[SourceDocument], current: Round, index: ManifestIndex, texts: _Texts, counts: Counts
) -> list[SourceDocument]:
    """The documents that are not done, as far as manifest and file systems tell without opening them."""
    rows = index.find(document.url for document in documents) if len(index) else {}
    todo = []
    for document in documents:
        row = rows.get(str(clean(document.url)))
        if row is not None and row.run == current.run:
            continue  # done by an earlier pass
        is_same = row is not None and document.stamp and row.stamp == document.stamp
        if row is None or not is_same or not current.is_done(row) or not (row.failed or texts.has(row)):
            todo.append(document)
        else:
            counts.add_there(row)
    return todo


def _refuse_collisions(documents: Iterable[SourceDocument], part: SourcePart, current: Round, ledger: Any) -> None:
    """Raise `BadRequest` where two documents would have one text."""
    for document in documents:
        output = document.name + SUFFIX
        owner = current.taken.get(output, document.url)
        if owner != document.url and not current.out.exists(output):
            owner = document.url
        if document.renamed and owner == document.url:
            owner = _owner_of_name(document, part, ledger)
        if owner != document.url:
            raise BadRequest(
                f"{document.url} and {owner} would have the same name for their text: {output}.",
                remedy="Name another folder with --out: one folder is for the documents of one SRC.",
            )


def _owner_of_name(document: SourceDocument, part: SourcePart, ledger: Any) -> str:
    """The document that may have the name of this one, whose name in its own file system is another."""
    import ray

    place = Location(part.root)
    if not part.listed and not part.root.startswith("http") and place.exists(document.name):
        return place.url_of(document.name)
    return str(ray.get(ledger.take_name.remote(document.name, document.url)))


class _Texts:
    """Which texts are there as they were written. Those of a bucket are listed once, and only hashes are held."""

    def __init__(self, out: Location, part: SourcePart) -> None:
        self._out = out
        self._part = part
        self._hashes: set[int] | None = None
        self._shards: set[str] | None = None

    def has(self, row: ManifestRow) -> bool:
        name = row.output
        if is_shard(name) and not self._out.local:
            if self._shards is None:
                self._shards = self._out.names(SHARDS) | self._out.names(PIECES)
            return name in self._shards
        is_deep = self._part.own_files and "/" in name  # of an archive in the part
        if self._out.local or self._part.listed or is_deep or row.output_bytes is None:
            return row.has_output(self._out.size(name))
        if self._hashes is None:
            self._hashes = set()
            prefix = self._part.prefix if self._part.prefix.endswith("/") else ""
            skip = len(self._out.root) + 1
            try:
                for entry in self._out.entries(prefix.rstrip("/"), deep=not self._part.own_files):
                    self._hashes.add(hash((entry["name"][skip:], entry["size"])))
            except InputNotFound:
                pass
        return hash((name, row.output_bytes)) in self._hashes


def lost_rows(documents: Iterable[SourceDocument], current: Round) -> Iterator[ManifestRow]:
    """Rows of documents that the cluster did not report."""
    lost = OcrError("The cluster did not say what became of this document.", remedy="Run the same command again.")
    assembler = Assembler(current)
    for document in documents:
        yield assembler.failed(Task(document), lost)

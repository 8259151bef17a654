"""The manifest: parts that workers write, one file that is sorted by source, and look-ups in it.

Memory is bounded, however many rows there are. A kill at any moment leaves a valid manifest: one rename replaces it,
and the parts are removed after that. Of two rows of one source the later row counts. So a part that is in the manifest
already does no harm.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import secrets
import time
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from typing import IO, TYPE_CHECKING, Any, Final

from ..errors import OcrError
from .files import Location
from .state import LEFT_OUT, MANIFEST, PARTS, ManifestRow, clean

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

__all__ = ["ManifestIndex", "merge_manifest", "replace_outputs", "write_part"]

GROUP_ROWS: Final = 5_000  # of a row group: what a look-up reads, about 2 MB in memory
RUN_ROWS: Final = 50_000  # that are sorted in memory at a time
GROUPS_AT_ONCE: Final = 10  # of each range that is merged
FETCHES: Final = 16  # parts that are read at once: each is a request where they are far away
PARTS_AT_ONCE: Final = 256  # that become one table
OLD_PART: Final = ".parquet"  # a part that an earlier release wrote in a run that was stopped
NEWEST: Final = "newest"  # a column while rows are merged: the order in which they were met


def write_part(out: Location, rows: Sequence[ManifestRow]) -> None:
    """Write rows as a part of the manifest; nothing where there are none.

    Raises:
        OcrError: they cannot be written.
    """
    if rows:
        lines = [json.dumps({name: clean(value) for name, value in asdict(row).items()}) for row in rows]
        name = f"{PARTS}/{time.time_ns():020}-{secrets.token_hex(4)}.jsonl"
        out.write(name, "\n".join(lines).encode())


def merge_manifest(out: Location, *, run: str = "") -> None:
    """Write the one manifest, in the order of its sources, and let the parts go.

    Args:
        out: the output folder.
        run: a run that is over: rows of names that other runs left out go, for each run looks anew.
    """
    parts = sorted(name for name in out.names(PARTS))
    if not parts and not run:
        return
    with out.scratch() as folder:
        runs = _sorted_runs(_tables(out, parts), folder)
        merged = os.path.join(folder, "merged")
        _merge(runs, merged, run)
        out.move_here(merged, MANIFEST)
    out.remove(parts)


def replace_outputs(out: Location, new: Mapping[str, str], lost: Collection[str]) -> None:
    """Write the manifest with other outputs. There must be a manifest, and nobody else may write it.

    Args:
        out: the output folder.
        new: by an output, the output that takes its place.
        lost: outputs that are gone: their rows go.
    """
    import pyarrow
    import pyarrow.parquet

    with out.scratch() as folder, out.fs.open(out.path(MANIFEST), "rb") as source:
        file = _opened(source, out)
        path = os.path.join(folder, "replaced")
        with pyarrow.parquet.ParquetWriter(path, _schema(), compression="zstd") as writer:
            for group in range(file.metadata.num_row_groups):
                rows = _conformed(file.read_row_group(group))
                outputs = [output or "" for output in rows["output"].to_pylist()]
                column = pyarrow.array([new.get(output, output) for output in outputs], pyarrow.string())
                rows = rows.set_column(rows.column_names.index("output"), "output", column)
                rows = rows.filter(pyarrow.array([output not in lost for output in outputs]))
                if len(rows):
                    writer.write_table(rows, row_group_size=GROUP_ROWS)
        out.move_here(path, MANIFEST)


def _opened(file: IO[bytes], out: Location) -> pyarrow.parquet.ParquetFile:
    """The manifest in an open file. Raises `OcrError` where it is no Parquet file: an end that was cut off shows."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowInvalid as exc:
        raise OcrError(
            f"{out.path(MANIFEST)} is damaged.",
            remedy="Replace it with a backup. Or remove it and run the same command again, which reads all anew.",
        ) from exc


def _schema() -> pyarrow.Schema:
    import pyarrow

    types: dict[str, Any] = {
        "str": pyarrow.string(),
        "int": pyarrow.int64(),
        "int | None": pyarrow.int64(),
        "float": pyarrow.float64(),
    }
    return pyarrow.schema([(field.name, types[str(field.type)]) for field in fields(ManifestRow)])


def _tables(out: Location, parts: Sequence[str]) -> Iterator[pyarrow.Table]:
    """All rows, the oldest first, in tables of some thousand rows."""
    import pyarrow
    import pyarrow.parquet

    if out.exists(MANIFEST):
        with out.fs.open(out.path(MANIFEST), "rb") as file:
            for batch in _opened(file, out).iter_batches(GROUP_ROWS):
                yield _conformed(pyarrow.table(batch))
    for name in (name for name in parts if name.endswith(OLD_PART)):
        yield _conformed(pyarrow.parquet.read_table(io.BytesIO(out.read(name))))
    parts = [name for name in parts if not name.endswith(OLD_PART)]
    with ThreadPoolExecutor(FETCHES, "parts") as readers:
        known = {field.name for field in fields(ManifestRow)}
        for at in range(0, len(parts), PARTS_AT_ONCE):
            names = parts[at : at + PARTS_AT_ONCE]
            lines = [line for data in readers.map(out.read, names) for line in data.splitlines()]
            rows = [{key: value for key, value in json.loads(line).items() if key in known} for line in lines]
            yield pyarrow.Table.from_pylist(rows, schema=_schema())


def _conformed(table: pyarrow.Table) -> pyarrow.Table:
    """A table of another version with the columns of this one."""
    import pyarrow

    columns = []
    for field in _schema():
        if field.name in table.column_names:
            columns.append(table[field.name].cast(field.type))
        else:
            columns.append(pyarrow.nulls(len(table), field.type))
    return pyarrow.table(columns, schema=_schema())


def _sorted_runs(tables: Iterable[pyarrow.Table], folder: str) -> list[str]:
    """Files of rows, each sorted by source, then by age."""
    import pyarrow
    import pyarrow.parquet

    runs: list[str] = []
    waiting: list[pyarrow.Table] = []
    met = 0

    for table in itertools.chain(tables, [None]):
        if table is not None:
            order = pyarrow.array(range(met, met + len(table)), pyarrow.int64())
            waiting.append(table.append_column(NEWEST, order))
            met += len(table)
        if waiting and (table is None or sum(map(len, waiting)) >= RUN_ROWS):
            rows = pyarrow.concat_tables(waiting).sort_by(
                [("source", "ascending"), ("written", "ascending"), (NEWEST, "ascending")]
            )
            runs.append(os.path.join(folder, f"run-{len(runs)}"))
            pyarrow.parquet.write_table(rows, runs[-1], row_group_size=GROUP_ROWS, compression="zstd")
            waiting = []
    return runs


def _merge(runs: Sequence[str], path: str, run: str) -> None:
    """Write the newest row of each source, in the order of the sources."""
    import pyarrow
    import pyarrow.parquet

    files = [_Groups(pyarrow.parquet.ParquetFile(name)) for name in runs]
    firsts = sorted(first for file in files for first in file.firsts)
    bounds: list[str | None] = [*firsts[GROUPS_AT_ONCE::GROUPS_AT_ONCE], None]
    with pyarrow.parquet.ParquetWriter(path, _schema(), compression="zstd") as writer:
        low: str | None = None
        for high in bounds:
            if high is not None and high == low:
                continue
            tables = [file.between(low, high) for file in files]
            rows = pyarrow.concat_tables(tables) if tables else None
            if rows is not None and len(rows):
                writer.write_table(_newest(rows, run), row_group_size=GROUP_ROWS)
            low = high


def _newest(rows: pyarrow.Table, run: str) -> pyarrow.Table:
    """The newest row of each source, without the names that other runs than `run` left out."""
    import pyarrow
    import pyarrow.compute

    rows = rows.sort_by([("source", "ascending"), ("written", "ascending"), (NEWEST, "ascending")])
    sources = rows["source"].combine_chunks()
    is_last = pyarrow.compute.not_equal(sources[1:], sources[:-1])
    is_last = pyarrow.concat_arrays([is_last, pyarrow.array([True])])
    rows = rows.filter(is_last).drop_columns([NEWEST])
    if run:
        stale = pyarrow.compute.and_(
            pyarrow.compute.equal(rows["finish"].fill_null(""), LEFT_OUT),
            pyarrow.compute.not_equal(rows["run"].fill_null(""), run),
        )
        rows = rows.filter(pyarrow.compute.invert(stale))
    return rows


class _Groups:
    """The row groups of a Parquet file that is sorted by `source`."""

    def __init__(self, file: Any) -> None:
        self.file = file
        meta = file.metadata
        column = file.schema_arrow.get_field_index("source")
        statistics = [meta.row_group(n).column(column).statistics for n in range(meta.num_row_groups)]
        self.firsts: list[str] = [each.min for each in statistics]
        self.lasts: list[str] = [each.max for each in statistics]

    def between(self, low: str | None, high: str | None) -> pyarrow.Table:
        """The rows of the sources from `low` (None: the first) to before `high` (None: to the last)."""
        import pyarrow.compute

        groups = [
            n
            for n, (first, last) in enumerate(zip(self.firsts, self.lasts, strict=True))
            if (low is None or last >= low) and (high is None or first < high)
        ]
        rows = self.file.read_row_groups(groups)
        if low is not None:
            rows = rows.filter(pyarrow.compute.greater_equal(rows["source"], low))
        if high is not None:
            rows = rows.filter(pyarrow.compute.less(rows["source"], high))
        return rows


@dataclass(frozen=True, slots=True)
class _KeptGroup:
    number: int
    rows: Any


class ManifestIndex:
    """Look-ups in the manifest, a row group at a time. The manifest must not be replaced meanwhile."""

    def __init__(self, out: Location) -> None:
        self._groups: _Groups | None = None
        self._kept: _KeptGroup | None = None
        if out.exists(MANIFEST):
            file = _opened(out.fs.open(out.path(MANIFEST), "rb"), out)
            if file.metadata.num_rows:
                self._groups = _Groups(file)

    def __repr__(self) -> str:
        return f"<ManifestIndex {len(self)} rows>"

    def __len__(self) -> int:
        return int(self._groups.file.metadata.num_rows) if self._groups else 0

    def find(self, sources: Iterable[str]) -> dict[str, ManifestRow]:
        """The rows of these sources, by source. Fastest for sources that lie near to each other in their order."""
        if self._groups is None:
            return {}
        of_group: dict[int, list[str]] = {}
        for source in map(clean, sources):
            number = bisect_right(self._groups.firsts, source) - 1
            if number >= 0 and source <= self._groups.lasts[number]:
                of_group.setdefault(number, []).append(source)
        found = {}
        for number, names in sorted(of_group.items()):
            for row in self._matching(number, names):
                found[row.source] = row
        return found

    def row_at(self, number: int) -> ManifestRow:
        """The row of this number, counted from 0 in the order of the sources."""
        assert self._groups is not None
        for group in range(len(self._groups.firsts)):
            rows = self._groups.file.metadata.row_group(group).num_rows
            if number < rows:
                return _row(self._read(group).slice(number, 1).to_pylist()[0])
            number -= rows
        raise IndexError(number)

    def facts(self, *columns: str) -> Iterator[tuple[Any, ...]]:
        """Some columns of all rows, in the order of the sources. A text that is not there is empty."""
        for group in range(len(self._groups.firsts) if self._groups else 0):
            assert self._groups is not None
            there = [name for name in columns if name in self._groups.file.schema_arrow.names]
            rows = self._groups.file.read_row_group(group, columns=there)
            lists = [rows[name].to_pylist() if name in there else [""] * len(rows) for name in columns]
            yield from zip(*([value or "" for value in each] for each in lists), strict=True)

    def _matching(self, group: int, sources: Sequence[str]) -> Iterator[ManifestRow]:
        import pyarrow
        import pyarrow.compute

        rows = self._read(group)
        hits = pyarrow.compute.is_in(rows["source"], value_set=pyarrow.array(sources, pyarrow.string()))
        yield from map(_row, rows.filter(hits).to_pylist())

    def _read(self, group: int) -> Any:
        if self._kept is None or self._kept.number != group:
            assert self._groups is not None
            self._kept = _KeptGroup(group, _conformed(self._groups.file.read_row_group(group)))
        return self._kept.rows


def _row(found: dict[str, Any]) -> ManifestRow:
    return ManifestRow(**{name: value for name, value in found.items() if value is not None})

"""Documents in shards: read back as other programs read them, exact after a kill between any two writes."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from deepseek_ocr_mcp.batch import shards
from deepseek_ocr_mcp.batch.files import Location, place_of
from deepseek_ocr_mcp.batch.manifest import merge_manifest, write_part
from deepseek_ocr_mcp.batch.shards import FORMATS, PIECES, SHARDS, ShardDocument, copy_into_piece, gather, write_piece
from deepseek_ocr_mcp.batch.state import ManifestRow
from manifests import rows_of

BOTH = pytest.mark.parametrize("format", FORMATS)


@pytest.fixture
def out(tmp_path: Path) -> Location:
    return place_of(str(tmp_path))


def document(source: str, *texts: str) -> ShardDocument:
    pages = [
        {"page": n, "text": text, "finish": "stop", "words": [{"text": text, "box": [1, 2, 3, n]}]}
        for n, text in enumerate(texts, start=1)
    ]
    notes = [{"code": "blank", "text": "Nothing is on it.", "pages": "2"}]
    return ShardDocument(source, "ab" * 32, 7, pages, notes, {"engine": "rapidocr", "version": "1"})


def put(out: Location, format: str, documents: Sequence[ShardDocument]) -> str:
    """Write a piece and its rows, as a reader does."""
    name = write_piece(out, format, documents)
    write_part(out, [ManifestRow(each.source, output=name) for each in documents])
    return name


def found(out: Location, format: str) -> list[tuple[str, str]]:
    """Source and text of every page in every shard of the output folder, as a program finds them that knows no row."""
    pages: list[tuple[str, str]] = []
    for name in sorted(out.names(SHARDS)):
        if format == "parquet":
            table = pyarrow.parquet.read_table(io.BytesIO(out.read(name))).to_pylist()
            pages += [(row["source"], row["text"]) for row in table]
            continue
        for line in gzip.decompress(out.read(name)).splitlines():
            whole = json.loads(line)
            spans = whole["attributes"]["pdf_page_numbers"]
            pages += [(whole["metadata"]["Source-File"], whole["text"][a:b].rstrip("\n")) for a, b, _ in spans]
    return sorted(pages)


def settled(out: Location, format: str) -> int:
    merge_manifest(out)
    return gather(out, format)


def test_a_line_of_dolma_has_the_spans_of_its_pages(out: Location) -> None:
    put(out, "dolma", [document("/a.pdf", "first", "", "thïrd 🙂")])
    assert settled(out, "dolma") == 0
    (name,) = out.names(SHARDS)
    line = json.loads(gzip.decompress(out.read(name)))
    assert set(line) == {"id", "text", "source", "added", "created", "metadata", "attributes"}
    assert line["text"] == "first\n\n\n\nthïrd 🙂"
    assert line["attributes"]["pdf_page_numbers"] == [[0, 7, 1], [7, 9, 2], [9, 16, 3]]
    assert line["metadata"]["pdf-total-pages"] == 7
    assert line["metadata"]["notes"][0]["code"] == "blank"


def test_a_row_of_parquet_is_a_page_with_its_words_and_its_own_notes(out: Location) -> None:
    put(out, "parquet", [document("/a.pdf", "first", "second")])
    settled(out, "parquet")
    (name,) = out.names(SHARDS)
    first, second = pyarrow.parquet.read_table(io.BytesIO(out.read(name))).to_pylist()
    assert (first["page"], first["text"], first["page_count"], first["engine"]) == (1, "first", 7, "rapidocr")
    assert second["words"] == [{"text": "second", "box": [1, 2, 3, 2]}]
    assert (first["notes"], second["notes"]) == ([], [{"code": "blank", "text": "Nothing is on it."}])


@BOTH
def test_pieces_become_one_shard_that_the_rows_name(out: Location, format: str) -> None:
    put(out, format, [document("/a.pdf", "a"), document("/b.pdf", "b")])
    put(out, format, [document("/c.pdf", "c")])
    assert settled(out, format) == 0
    (shard,) = out.names(SHARDS)
    assert {row.output for row in rows_of(out)} == {shard}
    assert out.names(PIECES) == set()
    assert found(out, format) == [("/a.pdf", "a"), ("/b.pdf", "b"), ("/c.pdf", "c")]
    assert settled(out, format) == 0, "and again"
    assert out.names(SHARDS) == {shard}


@BOTH
def test_what_no_row_names_is_in_no_shard(out: Location, format: str) -> None:
    """A worker was killed between its piece and its rows, and a document was read anew."""
    put(out, format, [document("/a.pdf", "old a"), document("/b.pdf", "b")])
    settled(out, format)
    write_piece(out, format, [document("/b.pdf", "twice"), document("/c.pdf", "lost")])
    put(out, format, [document("/a.pdf", "new a")])
    assert settled(out, format) == 0
    assert found(out, format) == [("/a.pdf", "new a"), ("/b.pdf", "b")]


@BOTH
@pytest.mark.parametrize(("place", "step"), [(shards, "replace_outputs"), (Location, "remove")])
def test_a_kill_while_shards_are_made_leaves_nothing_twice(
    out: Location, format: str, place: Any, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    put(out, format, [document("/a.pdf", "a")])
    put(out, format, [document("/b.pdf", "b")])
    merge_manifest(out)
    with monkeypatch.context() as patch:
        patch.setattr(place, step, killed)
        with pytest.raises(KeyboardInterrupt):
            gather(out, format)
    assert settled(out, format) == 0
    assert found(out, format) == [("/a.pdf", "a"), ("/b.pdf", "b")]
    assert {row.output for row in rows_of(out)} == out.names(SHARDS)
    assert out.names(PIECES) == set()


@BOTH
@pytest.mark.parametrize("damage", [b"", b"half"])
def test_a_damaged_piece_is_told_by_its_content_and_its_documents_are_read_again(
    out: Location, format: str, damage: bytes
) -> None:
    piece = put(out, format, [document("/a.pdf", "a"), document("/b.pdf", "b")])
    put(out, format, [document("/c.pdf", "c")])
    out.write(piece, damage)
    assert settled(out, format) == 2
    assert [row.source for row in rows_of(out)] == ["/c.pdf"]
    assert found(out, format) == [("/c.pdf", "c")]


@BOTH
def test_a_shard_that_is_gone_takes_its_rows_along(out: Location, format: str) -> None:
    put(out, format, [document("/a.pdf", "a")])
    settled(out, format)
    out.remove(out.names(SHARDS))
    assert settled(out, format) == 1
    assert rows_of(out) == []


@BOTH
def test_a_shard_ends_at_its_size(out: Location, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        put(out, format, [document(f"/{name}.pdf", name)])
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    settled(out, format)
    assert len(out.names(SHARDS)) == 3
    assert {row.output for row in rows_of(out)} == out.names(SHARDS)
    assert len(found(out, format)) == 3


@BOTH
def test_a_copy_is_a_document_of_its_own(out: Location, format: str) -> None:
    put(out, format, [document("/a.pdf", "a"), document("/b.pdf", "b")])
    settled(out, format)
    (shard,) = out.names(SHARDS)
    piece = copy_into_piece(out, format, shard, "/b.pdf", "/c.pdf")
    write_part(out, [ManifestRow("/c.pdf", output=piece)])
    settled(out, format)
    assert found(out, format) == [("/a.pdf", "a"), ("/b.pdf", "b"), ("/c.pdf", "b")]
    with pytest.raises(FileNotFoundError):
        copy_into_piece(out, format, shard, "/nobody.pdf", "/d.pdf")

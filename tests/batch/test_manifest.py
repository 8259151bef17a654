"""The manifest: whatever is killed, what is on disk is valid and says what is true."""

from __future__ import annotations

import io
import random
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet
import pytest

from deepseek_ocr_mcp.batch import manifest
from deepseek_ocr_mcp.batch.files import Location, place_of
from deepseek_ocr_mcp.batch.manifest import ManifestIndex, merge_manifest, write_part
from deepseek_ocr_mcp.batch.state import MANIFEST, PARTS, ManifestRow
from deepseek_ocr_mcp.errors import OcrError
from manifests import rows_of

ROW = ManifestRow("/scans/a.png", "a.png.md", "ab" * 32, 12, 1, 1, 5, 0.25, "stop")


@pytest.fixture(params=["path", "memory"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    place = place_of({"path": str(tmp_path), "memory": f"memory://{tmp_path.name}/out"}[request.param])
    place.prepare()
    return place


def sources(out: Location) -> list[str]:
    return [row.source for row in rows_of(out)]


def test_parts_become_the_manifest_in_the_order_of_the_sources(out: Location) -> None:
    write_part(out, [replace(ROW, source="/scans/b.png")])
    write_part(out, [])
    write_part(out, [ROW])
    assert len(out.names()) == 2
    merge_manifest(out)
    assert out.names() == {MANIFEST}
    assert sources(out) == ["/scans/a.png", "/scans/b.png"]
    with out.fs.open(out.path(MANIFEST), "rb") as file:
        table = pyarrow.parquet.read_table(file)
    assert table.schema.field("pages").type == "int64"
    assert table["seconds"].to_pylist() == [0.25, 0.25]


def test_parts_that_an_earlier_release_left_are_taken_over(out: Location) -> None:
    columns = {name: [value] for name, value in asdict(ROW).items() if name not in ("notes", "stamp")}
    data = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), data)
    out.write(f"{PARTS}/00000000000000000001.parquet", data.getvalue())
    write_part(out, [replace(ROW, source="/scans/b.png")])
    merge_manifest(out)
    assert sources(out) == ["/scans/a.png", "/scans/b.png"]
    assert out.names() == {MANIFEST}


def test_a_later_row_replaces_an_earlier_one(out: Location) -> None:
    write_part(out, [ROW])
    merge_manifest(out)
    later = replace(ROW, error="It failed.", error_code="timeout")
    write_part(out, [ROW, later])
    merge_manifest(out)
    assert rows_of(out) == [later]


def test_a_kill_between_the_manifest_and_the_end_of_its_parts_does_no_harm(
    out: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in (ROW, replace(ROW, characters=7)):
        write_part(out, [row])

    def killed(names: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(out, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            merge_manifest(out)
    assert rows_of(out) == [replace(ROW, characters=7)]
    merge_manifest(out)
    assert rows_of(out) == [replace(ROW, characters=7)]
    assert out.names() == {MANIFEST}


def test_a_manifest_of_another_version_is_taken_as_far_as_it_goes(out: Location) -> None:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table({"source": ["/scans/a.png"], "characters": [5], "of_the_future": [1]}), sink
    )
    out.write(MANIFEST, sink.getvalue())
    assert ManifestIndex(out).find(["/scans/a.png"]) == {"/scans/a.png": ManifestRow("/scans/a.png", characters=5)}
    write_part(out, [replace(ROW, source="/scans/b.png")])
    merge_manifest(out)
    assert rows_of(out)[0] == ManifestRow("/scans/a.png", characters=5)


def test_names_that_are_no_text_are_kept_and_found(out: Location) -> None:
    odd = "/scans/\udcff.png"
    write_part(out, [replace(ROW, source=odd, output="\udcff.png.md")])
    merge_manifest(out)
    (row,) = ManifestIndex(out).find([odd]).values()
    assert row.output == "\\udcff.png.md"


def test_names_that_were_left_out_are_those_of_the_last_run(out: Location) -> None:
    gone = ManifestRow("/scans/gone.txt", finish="left_out", error="Left out.", run="1")
    write_part(out, [ROW, gone, replace(gone, source="/scans/there.txt")])
    merge_manifest(out, run="1")
    assert len(rows_of(out)) == 3
    write_part(out, [replace(gone, source="/scans/there.txt", run="2")])
    merge_manifest(out)
    assert len(rows_of(out)) == 3, "a run that was stopped may have listed a part"
    merge_manifest(out, run="2")
    assert sources(out) == ["/scans/a.png", "/scans/there.txt"]


def test_many_rows_in_any_order_are_merged_and_found_with_little_in_memory(
    out: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "GROUP_ROWS", 7)
    monkeypatch.setattr(manifest, "RUN_ROWS", 40)
    monkeypatch.setattr(manifest, "GROUPS_AT_ONCE", 2)
    monkeypatch.setattr(manifest, "PARTS_AT_ONCE", 3)
    rng = random.Random(5)
    newest: dict[str, ManifestRow] = {}
    for number in range(30):
        rows = [
            replace(ROW, source=f"/scans/{rng.randrange(150):03}.png", characters=n, written=float(number))
            for n in range(10)
        ]
        newest |= {row.source: row for row in rows}
        write_part(out, rows)
        if number in (9, 10, 25):
            merge_manifest(out)
    merge_manifest(out)
    assert rows_of(out) == [newest[source] for source in sorted(newest)]
    index = ManifestIndex(out)
    assert len(index) == len(newest)
    asked = [f"/scans/{n:03}.png" for n in range(0, 200, 3)] + ["/a", "/z"]
    assert index.find(asked) == {source: newest[source] for source in asked if source in newest}
    assert [index.row_at(n).source for n in (0, 8, len(index) - 1)] == [sorted(newest)[n] for n in (0, 8, -1)]
    assert list(index.facts("source", "error")) == [(source, "") for source in sorted(newest)]


def test_without_a_manifest_nothing_is_found(out: Location) -> None:
    index = ManifestIndex(out)
    assert (len(index), index.find(["/scans/a.png"]), list(index.facts("source"))) == (0, {}, [])
    merge_manifest(out)
    assert not out.exists(MANIFEST)
    merge_manifest(out, run="1")
    assert rows_of(out) == []
    assert out.exists(MANIFEST), "a run without documents has a manifest without rows"


def test_a_manifest_whose_end_was_cut_off_is_named(out: Location) -> None:
    write_part(out, [ROW])
    merge_manifest(out)
    out.write(MANIFEST, out.read(MANIFEST)[:-9])
    with pytest.raises(OcrError, match=r"manifest\.parquet is damaged"):
        ManifestIndex(out)
    write_part(out, [ROW])
    with pytest.raises(OcrError, match=r"manifest\.parquet is damaged"):
        merge_manifest(out)
    assert len(out.names(PARTS)) == 1, "the rows that wait are kept"

"""The manifest and the units: whatever is killed, what is on disk is valid and says what is true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest

from deepseek_ocr_mcp.batch.files import Location, place_of
from deepseek_ocr_mcp.batch.state import MANIFEST, Manifest, ManifestRow, Options, Unit, UnitText, units_of
from deepseek_ocr_mcp.engines.base import ReadOptions

OPTIONS = Options(ReadOptions("document"), "", "auto", 200, 1_000_000, "rapidocr 3.10")
ROW = ManifestRow("/scans/a.png", "a.png.md", "ab" * 32, 12, 1, 1, 5, 0.25, "stop")


@pytest.fixture
def out(tmp_path: Path) -> Location:
    return place_of(str(tmp_path))


def loaded(out: Location) -> list[ManifestRow]:
    manifest = Manifest(out)
    manifest.load()
    return list(manifest.rows())


def test_rows_survive_as_parts_and_as_the_manifest(out: Location) -> None:
    manifest = Manifest(out)
    manifest.put(replace(ROW, source="/scans/b.png"))
    assert loaded(out) == [], "it is not written yet"
    manifest.flush()
    manifest.put(ROW)
    manifest.flush()
    assert {row.source for row in loaded(out)} == {"/scans/a.png", "/scans/b.png"}
    assert not out.exists(MANIFEST)
    manifest.merge()
    assert out.names() == {MANIFEST}
    assert [row.source for row in loaded(out)] == ["/scans/a.png", "/scans/b.png"]
    table = pyarrow.parquet.read_table(Path(out.url, MANIFEST))
    assert table.schema.field("pages").type == "int64"
    assert table["seconds"].to_pylist() == [0.25, 0.25]


def test_a_later_row_replaces_an_earlier_one(out: Location) -> None:
    manifest = Manifest(out)
    manifest.put(ROW)
    manifest.merge()
    later = replace(ROW, error="It failed.", error_code="timeout")
    manifest.put(later)
    manifest.flush()
    assert loaded(out) == [later]


def test_a_kill_between_the_manifest_and_the_end_of_its_parts_does_no_harm(
    out: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest(out)
    for row in (ROW, replace(ROW, characters=7)):
        manifest.put(row)
        manifest.flush()

    def killed(names: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(out, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        manifest.merge()
    assert loaded(out) == [replace(ROW, characters=7)]


def test_a_manifest_of_another_version_is_taken_as_far_as_it_goes(out: Location) -> None:
    import io

    sink = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table({"source": ["/scans/a.png"], "characters": [5], "of_the_future": [1]}), sink
    )
    out.write(MANIFEST, sink.getvalue())
    assert loaded(out) == [ManifestRow("/scans/a.png", characters=5)]


def test_names_that_are_no_text_are_kept_and_found(out: Location) -> None:
    odd = "/scans/\udcff.png"
    manifest = Manifest(out)
    manifest.put(replace(ROW, source=odd, output="\udcff.png.md"))
    manifest.merge()
    again = Manifest(out)
    again.load()
    assert again.get(odd) is not None


def test_a_document_is_cut_into_units_that_do_not_depend_on_the_workers() -> None:
    assert [unit.pages for unit in units_of("d", [1])] == ["1"]
    assert [unit.pages for unit in units_of("d", list(range(1, 41)))] == ["1-16", "17-32", "33-40"]
    assert [unit.pages for unit in units_of("d", [3, 5, 16, 17, 400])] == ["3,5,16", "17", "400"]
    assert Unit("abc", "1-16").name == ".batch/units/ab/abc-1-16.json"


def test_whatever_changes_a_text_changes_the_name_of_its_document() -> None:
    others = [
        replace(OPTIONS, reading=ReadOptions("free")),
        replace(OPTIONS, pages="1"),
        replace(OPTIONS, text_layer="ignore"),
        replace(OPTIONS, dpi=300),
        replace(OPTIONS, max_pixels=2),
        replace(OPTIONS, version="rapidocr 3.11"),
    ]
    names = {options.document("ff") for options in (OPTIONS, *others)}
    assert len(names) == 1 + len(others)
    assert OPTIONS.document("ff") != OPTIONS.document("fe")
    assert others[-1].asked == OPTIONS.asked, "an older version was asked the same"


def test_a_unit_comes_back_as_it_was_put() -> None:
    text = UnitText("a\ud800 é\n", 2, 4, 0.5, "loop", "2", "deepseek", "m", "cuda", {"page-1-figure-1.png": "AAAA"})
    assert UnitText.load(text.dump()) == text

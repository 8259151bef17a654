"""Readers, planners and the ledger, each alone: what they do without Ray around them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pyarrow.parquet
import pytest
from PIL import Image

from deepseek_ocr_mcp.batch import ledger as ledgers
from deepseek_ocr_mcp.batch import reader as readers
from deepseek_ocr_mcp.batch.cluster import cluster
from deepseek_ocr_mcp.batch.counts import Counts
from deepseek_ocr_mcp.batch.files import SourceDocument, place_of
from deepseek_ocr_mcp.batch.ledger import LATER, YOURS, Claim, Ledger
from deepseek_ocr_mcp.batch.lister import todo_of
from deepseek_ocr_mcp.batch.manifest import merge_manifest, write_part
from deepseek_ocr_mcp.batch.plan import Round, Task, from_row, to_row
from deepseek_ocr_mcp.batch.planner import Planner
from deepseek_ocr_mcp.batch.reader import ATTEMPTS, RowReader, UnitReader, engine_here, reader_settings
from deepseek_ocr_mcp.batch.shards import FORMATS, PIECES
from deepseek_ocr_mcp.batch.sources import parts_of
from deepseek_ocr_mcp.batch.state import ManifestRow, Options, Unit, UnitText
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents.reach import Reach
from deepseek_ocr_mcp.engines.base import ReadOptions
from deepseek_ocr_mcp.errors import EngineUnavailable, OcrError
from manifests import rows_of
from support import echo, png, tiff

pytestmark = pytest.mark.anyio
OPTIONS = Options(ReadOptions("document"), "", "auto", 200, 200_000_000, "1")
TEXT = UnitText("text", 1, 4, 0.5, "stop", "", "rapidocr", "m", "cpu", {})


class Remote:
    """A method as Ray offers it."""

    def __init__(self, method: Any) -> None:
        self.remote = method


class LedgerHandle:
    """An actor as Ray offers it."""

    def __init__(self, ledger: Ledger) -> None:
        for name in ("begin", "begin_again", "finished", "unit_read"):
            setattr(self, name, Remote(getattr(ledger, name)))


def round_in(folder: Path, **facts: Any) -> Round:
    return Round(place_of(str(folder)), OPTIONS, "this run", **facts)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes readers, and ends them. They write when they have read all, however long that takes."""
    monkeypatch.setattr(readers, "FLUSH_S", math.inf)
    opened: list[Any] = []

    class Bench:
        current = round_in(tmp_path / "out")
        ledger = Ledger(current)
        out = current.out

        def reader(self, engine: str, **settings: Any) -> UnitReader:
            given = reader_settings(Settings(**settings), f"faults:{engine}", 1)
            opened.append(UnitReader(given, self.current, LedgerHandle(self.ledger), 2))
            reader: UnitReader = opened[-1]
            return reader

        def planner(self) -> Planner:
            opened.append(Planner(Settings(), self.current, LedgerHandle(self.ledger)))
            planner: Planner = opened[-1]
            return planner

        def task(self, name: str, data: bytes, *units: str) -> Task:
            path = tmp_path / "in" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            sha256 = hashlib.sha256(data).hexdigest()
            units = units or ("1",)
            document = OPTIONS.document(sha256)
            return Task(SourceDocument(str(path), name, ""), sha256, len(data), 1, document, units, units[0])

        def read(self, reader: UnitReader, *tasks: Task) -> Counts:
            return Counts.load(reader(to_row(tasks))["counts"])

        def rows(self) -> dict[str, ManifestRow]:
            merge_manifest(self.out)
            return {Path(row.source).name: row for row in rows_of(self.out)}

    yield Bench()
    for actor in opened:
        actor._loop.close()


def test_a_row_comes_back_as_it_was(bench: Any) -> None:
    tasks = [bench.task("a.png", png()), Task(SourceDocument("s3://b/c.pdf", "c.pdf", "7 x", False, 7, True))]
    assert from_row(to_row(tasks)) == tasks


@pytest.mark.parametrize("out", ["path", "memory"])
def test_a_text_counts_as_done_only_where_its_file_has_the_size_that_was_written(out: str, tmp_path: Path) -> None:
    names = ("cut", "gone", "longer", "old release", "old release, gone", "whole")
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / f"{name}.png").write_bytes(png())
    place = place_of(str(tmp_path / "out") if out == "path" else f"memory://{tmp_path.name}")
    parts = parts_of(str(tmp_path / "in"), place, Reach())
    current = Round(place, OPTIONS, "this run")
    rows = [
        ManifestRow(each.url, f"{each.name}.md", version=OPTIONS.version, asked=OPTIONS.asked, stamp=each.stamp,
                    output_bytes=None if "old" in each.name else 6)
        for each in todo_of(parts, current)
    ]  # fmt: skip
    write_part(place, rows)
    merge_manifest(place)
    texts = {"cut": b"whol", "longer": b"whole\n\n", "old release": b"any\n", "whole": b"whole\n"}
    for name, text in texts.items():
        place.write(f"{name}.png.md", text)
    todo = sorted(each.name for each in todo_of(parts, current))
    assert todo == ["cut.png", "gone.png", "longer.png", "old release, gone.png"]


def test_counts_come_back_as_they_were() -> None:
    counts = Counts(todo=2, notes={"blank": 1}, left_out={"links": (4, ["a", "b"])}, failures=["a.png: It failed."])
    again = Counts.load(counts.dump())
    again.add(Counts(left_out={"links": (1, ["c"]), "others": (1, ["d"])}))
    assert (again.todo, again.notes) == (2, {"blank": 1})
    assert again.left_out == {"links": (5, ["a", "b", "c"]), "others": (1, ["d"])}


def test_a_short_document_is_written_with_its_row_and_a_repeated_row_reads_nothing(bench: Any) -> None:
    reader = bench.reader("Counting")
    task = bench.task("three.tiff", tiff(30, 31, 32), "2-3")
    counts = bench.read(reader, task)
    assert (counts.read, counts.ended, counts.pages, counts.tokens, counts.failures) == (1, 1, 2, 14, [])
    assert bench.out.read("three.tiff.md") == b"seven tokens\n\nseven tokens\n"
    row = bench.rows()["three.tiff"]
    assert (row.output, row.pages_read, row.tokens, row.finish) == ("three.tiff.md", 2, 14, "stop")
    assert row.run == "this run"
    assert not any(name.endswith(".json") for name in bench.out.names()), "no unit is written"
    Path(task.source.url).unlink()
    assert bench.read(reader, task) == counts, "its actor died after it: the next one counts it, and reads nothing"


def test_a_row_of_the_manifest_repeats_no_note_about_arguments(bench: Any) -> None:
    reading = ReadOptions("document", custom_prompt="x")
    bench.current = replace(bench.current, options=replace(OPTIONS, reading=reading))
    bench.read(bench.reader("Echo"), bench.task("a.png", png()))
    assert bench.rows()["a.png"].notes == ""


def test_a_unit_of_a_longer_document_waits_on_disk_for_the_others(bench: Any) -> None:
    reader = bench.reader("Echo")
    first = bench.task("two.tiff", tiff(30, 31), "1", "2")
    counts = bench.read(reader, first)
    assert (counts.read, counts.ended, counts.pages) == (0, 0, 1)
    assert bench.rows() == {}
    assert bench.out.exists(Unit(first.document, "1").name)
    counts = bench.read(reader, replace(first, unit="2"))
    assert (counts.read, counts.ended, counts.pages) == (1, 1, 1)
    assert bench.out.read("two.tiff.md").decode() == f"{echo(40, 30)}\n\n{echo(40, 31)}\n"
    assert bench.rows()["two.tiff"].pages_read == 2
    assert bench.rows()["two.tiff"].tokens is None, "this engine counts none"
    assert not any(name.endswith(".json") for name in bench.out.names())


def test_figures_travel_with_their_text(bench: Any) -> None:
    task = bench.task("page.png", png(100, 60))
    reader = bench.reader("Drawing", ocr_allowed_dirs=(str(Path(task.source.url).parent),))
    assert bench.read(reader, task).failures == []
    assert "![Figure 1](page.png-figures/page-1-figure-1.png)" in bench.out.read("page.png.md").decode()
    picture = Image.open(io.BytesIO(bench.out.read("page.png-figures/page-1-figure-1.png")))
    assert picture.size == (50, 30)


@pytest.mark.parametrize("format", FORMATS)
def test_documents_in_hand_become_one_piece(bench: Any, format: str) -> None:
    bench.current = replace(bench.current, options=replace(OPTIONS, format=format))
    tasks = [bench.task("a.tiff", tiff(30, 31), "1-2"), bench.task("b.png", png(50, 20))]
    counts = bench.read(bench.reader("Echo"), *tasks)
    assert (counts.read, counts.pages) == (2, 3)
    rows = bench.rows()
    (piece,) = bench.out.names(PIECES)
    assert [rows[name].output for name in ("a.tiff", "b.png")] == [piece, piece]
    assert not bench.out.exists("a.tiff.md")
    data = bench.out.read(piece)
    if format == "parquet":
        pages = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
        assert [(page["page"], page["text"]) for page in pages] == [
            (1, echo(40, 30)),
            (2, echo(40, 31)),
            (1, echo(50, 20)),
        ]
    else:
        first, second = map(json.loads, gzip.decompress(data).splitlines())
        assert first["text"] == f"{echo(40, 30)}\n\n{echo(40, 31)}"
        assert (len(first["text"]), second["text"]) == (rows["a.tiff"].characters, echo(50, 20))


def test_units_of_a_document_become_one_line(bench: Any) -> None:
    bench.current = replace(bench.current, options=replace(OPTIONS, format="dolma"))
    reader = bench.reader("Echo")
    first = bench.task("two.tiff", tiff(30, 31), "1", "2")
    bench.read(reader, replace(first, unit="2"))
    assert bench.read(reader, first).read == 1
    line = json.loads(gzip.decompress(bench.out.read(bench.rows()["two.tiff"].output)))
    assert [page for *_, page in line["attributes"]["pdf_page_numbers"]] == [1, 2]


@pytest.mark.parametrize("format", ["files", "dolma"])
@pytest.mark.parametrize(("rate", "failed"), [(0.4, 1), (0.5, 0)])
def test_a_document_fails_where_more_of_its_pages_fail_than_may(
    bench: Any, format: str, rate: float, failed: int
) -> None:
    rules = replace(bench.current.rules, max_page_error_rate=rate)
    bench.current = replace(bench.current, rules=rules, options=replace(OPTIONS, format=format))
    task = bench.task("two.tiff", tiff(32, 33), "1-2")
    counts = bench.read(bench.reader("OnePageKills"), task)
    assert (counts.failed, counts.read) == (failed, 1 - failed)
    row = bench.rows()["two.tiff"]
    assert ("1 of 2 pages" in row.error, row.output == "") == (bool(failed), bool(failed))
    assert row.error_code == ("too_many_failed_pages" if failed else "")
    assert bench.current.is_done(replace(row, run="an earlier run")) is not bool(failed), "it is read again"


def test_a_file_that_changed_meanwhile_is_not_passed_off_as_the_one_that_was_planned(bench: Any) -> None:
    task = bench.task("page.png", png())
    Path(task.source.url).write_bytes(png(50, 50))
    counts = bench.read(bench.reader("Echo"), task)
    assert "was changed" in counts.failures[0]
    assert not bench.out.exists("page.png.md")
    assert bench.rows()["page.png"].error_code == "unreadable_input"


def test_a_unit_that_failed_is_not_tried_again_because_of_another_one(bench: Any, tmp_path: Path) -> None:
    task = bench.task("page.png", png(40, 33))
    reader = bench.reader("OnePageKills")
    counts = bench.read(reader, task)
    assert (counts.failed, counts.exit_code) == (1, 4)
    assert bench.rows()["page.png"].error_code == "worker_crashed"
    Path(task.source.url).unlink()
    assert bench.read(reader, task) == counts


def test_a_file_outside_the_allowed_folders_is_not_read(bench: Any, tmp_path: Path) -> None:
    task = bench.task("page.png", png())
    (tmp_path / "other").mkdir()
    bench.read(bench.reader("Echo", ocr_allowed_dirs=(str(tmp_path / "other"),)), task)
    assert bench.rows()["page.png"].error_code == "input_forbidden"


def test_a_unit_that_killed_its_readers_is_reported_and_others_are_read(bench: Any) -> None:
    bad, good = bench.task("bad.png", png(40, 30)), bench.task("good.png", png(41, 30))
    for unit in (bad, good):
        # They were begun side by side when their actor died: each is read alone now.
        anyio.run(bench.ledger.begin, Unit(unit.document, unit.unit).name, unit.document)
    for _ in range(ATTEMPTS - 1):
        anyio.run(bench.ledger.begin_again, Unit(bad.document, bad.unit).name)
    counts = bench.read(bench.reader("Echo"), bad, good)
    assert (counts.read, counts.failed) == (1, 1)
    assert bench.rows()["bad.png"].error_code == "worker_crashed"
    assert bench.out.read("good.png.md").decode() == echo(41, 30) + "\n"


async def test_rows_are_written_while_a_long_row_is_read(
    tmp_path: Path, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "FLUSH_S", 0.0)

    async def read(task: Task) -> UnitText:
        if task.source.name == "b.png":
            assert list(bench.rows()) == ["a.png"]
            raise OcrError("Its worker dies here.", remedy="-")
        return TEXT

    tasks = [bench.task(name, name.encode()) for name in ("a.png", "b.png")]
    counts = await RowReader(bench.current, read, LedgerHandle(bench.ledger), 2).read_row(to_row(tasks))
    assert (counts.read, counts.failed) == (1, 1)


async def test_a_row_ends_at_an_error_that_every_document_would_meet(bench: Any) -> None:
    async def read(task: Task) -> UnitText:
        if task.source.name == "b.png":
            raise EngineUnavailable("The weights are not here.", remedy="Fetch them.")
        return TEXT

    tasks = [bench.task(name, name.encode()) for name in ("a.png", "b.png", "c.png")]
    counts = await RowReader(bench.current, read, LedgerHandle(bench.ledger), 2).read_row(to_row(tasks))
    assert counts.fatal is not None
    assert counts.fatal["code"] == "engine_unavailable"
    assert list(bench.rows()) == ["a.png"]


def claims(*names: str, pages: int = 1) -> list[Claim]:
    """Claims from "source=document"."""
    pairs = [name.split("=") for name in names]
    return [Claim(source, document * 64, units=1, pages=pages) for source, document in pairs]


async def test_of_equal_documents_one_is_read(tmp_path: Path) -> None:
    current = round_in(tmp_path)
    old = ManifestRow("/old.png", "old.png.md", "c" * 64, version=OPTIONS.version, asked=OPTIONS.asked)
    write_part(current.out, [ManifestRow("/newer.png", "x.md", "b" * 64, version="0", asked=OPTIONS.asked), old])
    merge_manifest(current.out)
    ledger = Ledger(current)
    asked = claims("/a.png=a", "/b.png=a", "/c.png=c", "/old.png=c", "/d.png=b")
    answers = await ledger.claim(asked)
    assert answers == [YOURS, LATER, 1, 1, YOURS], "the row of another version is not taken for done"
    assert await ledger.claim(asked) == answers, "a planner that was killed asks again"
    assert await ledger.figures() == {"listed": 0, "planned": 2, "planned_pages": 2}
    await ledger.read_again("c" * 64)
    assert await ledger.claim(claims("/c.png=c")) == [YOURS], "its text was gone"


async def test_planners_do_not_run_far_ahead(tmp_path: Path) -> None:
    ledger = Ledger(round_in(tmp_path), ahead=2)
    with anyio.fail_after(60):
        long = Claim("/a.pdf", "a" * 64, units=3, pages=48)
        await ledger.claim([long])
        async with anyio.create_task_group() as tasks:
            claimed = anyio.Event()

            async def claim() -> None:
                await ledger.claim(claims("/b.pdf=b"))
                claimed.set()

            tasks.start_soon(claim)
            await anyio.wait_all_tasks_blocked()
            await ledger.claim([long])  # who asks again does not wait for itself
            await ledger.finished([("unit 1", long.document, "/a.pdf", "")])
            await ledger.finished([("unit 1", long.document, "/a.pdf", "")])  # a unit that ends twice ended once
            await anyio.wait_all_tasks_blocked()
            assert not claimed.is_set()
            await ledger.finished([("unit 2", long.document, "/a.pdf", ""), ("never", "d", "/never.pdf", "")])
            await claimed.wait()


async def test_one_worker_writes_a_document_of_several_units(tmp_path: Path) -> None:
    ledger = Ledger(round_in(tmp_path))
    units = ("1-16", "17-20")
    assert await ledger.unit_read("d", units, "17-20", {"code": "timeout"}) == (False, {"code": "timeout"})
    assert await ledger.unit_read("d", units, "1-16", None) == (True, {"code": "timeout"})
    assert await ledger.unit_read("d", units, "17-20", None) == (False, {"code": "timeout"}), "who was not the last"
    assert await ledger.unit_read("d", units, "1-16", None) == (True, {"code": "timeout"}), "who died over it"
    await ledger.finished([("d 1-16", "d", "/d.pdf", Counts(ended=1).dump())])
    assert await ledger.begin("d 17-20", "d") == (0, ""), "the document is written: nothing is to be done"


async def test_the_ledger_remembers_what_may_be_asked_again_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "REMEMBERED", 3)
    ledger = Ledger(round_in(tmp_path))
    for number in range(5):
        assert await ledger.begin(f"unit {number}", "d") == (0, None)
        assert await ledger.begin(f"unit {number}", "d") == (1, None), "it was under way when its actor died"
        await ledger.finished([(f"unit {number}", "d", "s", "what it was")])
    assert await ledger.begin("unit 4", "d") == (0, "what it was")
    assert await ledger.begin("unit 0", "d") == (0, None)
    assert ledger._attempts == {"unit 0": 1}


def test_a_reader_keeps_its_engine_and_its_cores() -> None:
    settings = reader_settings(
        Settings(ocr_auth_token="a-secret-token-of-a-server", gpu_idle_timeout=60), "rapidocr", 1
    )
    assert (settings.ocr_threads, settings.gpu_offload_after, settings.gpu_idle_timeout) == (1, -1, -1)
    assert settings.ocr_auth_token is None
    assert reader_settings(Settings(ocr_threads=3), "rapidocr", 1).ocr_threads == 3


def test_the_version_of_an_engine_of_ones_own_is_the_same_in_every_process() -> None:
    spec, version = engine_here(Settings(ocr_engine="faults:Echo"))
    assert (spec.name, version) == ("Echo", "faults:Echo")
    _, version = engine_here(Settings(ocr_engine="rapidocr"))
    assert "rapidocr" in version
    assert engine_here(Settings(ocr_engine="openai"))[1] == "openai"
    assert "a-model" in engine_here(Settings(ocr_engine="openai", ocr_model="a-model"))[1]


def test_a_cluster_that_does_not_answer_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_BACKEND_LOG_LEVEL", "RAY_DATA_LOG_LEVEL"):
        monkeypatch.setenv(name, "0")  # so that what is set for Ray is gone after the test

    def refuse(**given: Any) -> None:
        raise ConnectionError("a secret of Ray's")

    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(EngineUnavailable) as caught, cluster("auto", 0, Settings()):
        pass
    assert "No Ray cluster answered at auto (ConnectionError)" in caught.value.message
    assert "RAY_AUTH_TOKEN" in caught.value.remedy
    assert "secret" not in str(caught.value)


def test_a_worker_counts_its_seconds_once(bench: Any) -> None:
    began = time.monotonic()
    reader = bench.reader("Echo")
    first, second = (bench.read(reader, bench.task(f"{n}.png", png(40 + n))).worker_s for n in range(2))
    assert 0 < first + second <= time.monotonic() - began
    total = Counts(worker_s=first)
    total.add(Counts(worker_s=second))
    assert total.worker_s == first + second

"""What a run makes of documents, without a cluster: its stages in this process, in any order, and stopped anywhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pyarrow.parquet
import pytest

from deepseek_ocr_mcp.batch import driver, progress, sources
from deepseek_ocr_mcp.batch.archives import member_pieces
from deepseek_ocr_mcp.batch.cluster import Cluster, found_here, part_rows
from deepseek_ocr_mcp.batch.counts import Counts
from deepseek_ocr_mcp.batch.driver import Batch, Summary, run_batch
from deepseek_ocr_mcp.batch.files import Location, SourceDocument, place_of
from deepseek_ocr_mcp.batch.ledger import Ledger
from deepseek_ocr_mcp.batch.lister import list_rows
from deepseek_ocr_mcp.batch.manifest import merge_manifest
from deepseek_ocr_mcp.batch.plan import Round, Rules, Task, counts_of
from deepseek_ocr_mcp.batch.planner import RowPlanner
from deepseek_ocr_mcp.batch.progress import ProgressLine
from deepseek_ocr_mcp.batch.reader import RowReader
from deepseek_ocr_mcp.batch.shards import FORMATS, PIECES, SHARDS
from deepseek_ocr_mcp.batch.sources import SourcePart
from deepseek_ocr_mcp.batch.state import ManifestRow, UnitText, units_of
from deepseek_ocr_mcp.cli.main import main
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.engines import KNOWN
from deepseek_ocr_mcp.errors import (
    BadRequest,
    EngineUnavailable,
    InputNotFound,
    OcrError,
    UnreadableInput,
    UnsupportedMode,
    WorkerCrashed,
)
from deepseek_ocr_mcp.install import extra_command
from deepseek_ocr_mcp.models import OcrRequest
from manifests import rows_of
from support import BOUND_S, png, wait_until

SETTINGS = Settings(ocr_engine="rapidocr")
Reading = Callable[["Desk", Task], UnitText]


class LocalLedger:
    """The ledger as its callers see it, without Ray: to call a method, and to ask for the answer, is one thing."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return LocalMethod(getattr(self.ledger, name))

    def call(self, method: str, *arguments: Any) -> Any:
        async def answer() -> Any:
            return await getattr(self.ledger, method)(*arguments)

        return anyio.run(answer)


class LocalMethod:
    def __init__(self, method: Any) -> None:
        self._method = method

    def remote(self, *arguments: Any) -> Any:
        return None if self._method.__name__ == "listed" else self._method(*arguments)


class Desk:
    """Stands for the cluster, and for what documents are: their pages, and what is read of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scans, self.out = folder / "scans", folder / "texts"
        self.scans.mkdir()
        self.version = "version 1"
        self.asked: list[str] = []
        """The documents that were looked into, and in `units` the units that were read."""
        self.units: list[str] = []
        self.passes = 0
        self.pages: dict[str, int] = {}
        self.faults: dict[str, OcrError] = {}
        """Of documents that cannot be looked into."""
        self.readings: dict[str, Reading] = {}
        self.reading: Reading = page
        self.backwards = False
        self.lose: Callable[[Task], bool] = lambda task: False

    def scan(self, name: str, content: bytes = b"", pages: int = 1) -> None:
        (self.scans / name).parent.mkdir(parents=True, exist_ok=True)
        (self.scans / name).write_bytes(content or name.encode())
        self.pages[name] = pages

    def run(self, **batch: Any) -> Summary:
        self.asked, self.units, self.passes = [], [], 0
        request = OcrRequest(image="", mode=batch.pop("mode", ""))
        names = ("again", "retry_failed", "keep_older")
        batch["rules"] = Rules(**{name: batch.pop(name) for name in names if name in batch})
        source = batch.pop("source", str(self.scans))
        return run_batch(Batch(source, str(self.out), request, **batch), SETTINGS)

    def manifest(self) -> dict[str, ManifestRow]:
        out = place_of(str(self.out))
        merge_manifest(out)
        return {str(Path(row.source).relative_to(self.scans)): row for row in rows_of(out)}

    def text(self, name: str) -> str:
        return (self.out / f"{name}.md").read_text()

    def state(self) -> list[str]:
        """The files of `.batch`."""
        return [file.name for file in (self.out / ".batch").rglob("*") if file.is_file()]

    def look_into(self, tasks: list[Task], current: Round) -> list[Task]:
        done = []
        for task in tasks:
            self.asked.append(task.source.name)
            if fault := self.faults.get(task.source.name):
                done.append(task.failed(fault))
                continue
            data = bytes_of(task.source)
            document = current.options.document(hashlib.sha256(data).hexdigest())
            count = self.pages.get(task.source.name, 1)
            units = tuple(unit.pages for unit in units_of(document, list(range(1, count + 1))))
            done.append(
                replace(task, sha256=document[:64], bytes=len(data), pages=count, document=document, units=units)
            )
        return done

    async def read(self, task: Task) -> UnitText:
        self.units.append(f"{task.source.name} {task.unit}")
        reading = self.readings.get(task.source.name, self.reading)
        return await anyio.to_thread.run_sync(reading, self, task)

    def stream(
        self, found: Cluster, settings: Settings, current: Round, parts: Sequence[SourcePart], ledger: LocalLedger
    ) -> Iterator[Counts]:
        self.passes += 1
        planner = RowPlanner(current, lambda tasks: self.look_into(tasks, current), ledger.call)
        listed = [row for part in part_rows(parts) for row in list_rows(part, current, ledger)]
        planned = [row for each in listed for row in planner.plan(each)]
        if self.backwards:
            planned.reverse()

        async def read(row: dict[str, str]) -> Counts:
            return await RowReader(current, self.read, ledger, at_once=2).read_row(row)

        for row in planned:
            tasks = json.loads(row["tasks"])
            if tasks and self.lose(Task(**tasks[0])):
                continue
            yield anyio.run(read, row) if current.reads else counts_of(row)


def bytes_of(source: SourceDocument) -> bytes:
    if source.member is None:
        return Path(source.url).read_bytes()
    taken: list[bytes] = []
    member_pieces(source.member, (), taken.append, threading.Event())
    return b"".join(taken)


def page(desk: Desk, task: Task, **facts: Any) -> UnitText:
    text = UnitText(f"text of {task.sha256[:4]} {task.unit}", 1, 9, 0.5, "stop", "", "rapidocr", "m", "cpu", {})
    return replace(text, **facts)


def failing(error: OcrError) -> Reading:
    def read(desk: Desk, task: Task) -> UnitText:
        raise error

    return read


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path)

    @contextmanager
    def cluster(address: str, workers: int, settings: Settings) -> Iterator[Cluster]:
        yield Cluster(KNOWN["rapidocr"], desk.version, workers=1, most_workers=1, cpus=1, at_once=2)

    monkeypatch.setattr(driver, "cluster", cluster)
    monkeypatch.setattr(driver, "stream", desk.stream)
    monkeypatch.setattr(driver, "start_ledger", lambda current: LocalLedger(Ledger(current)))
    monkeypatch.setattr(driver, "_figures_of", lambda ledger: None)
    return desk


def test_a_folder_is_read_once(desk: Desk) -> None:
    desk.scan("a.png")
    desk.scan("b/c.pdf")
    summary = desk.run()
    assert (summary.documents, summary.read, summary.failed, summary.exit_code) == (2, 2, 0, 0)
    assert desk.text("a.png").startswith("text of ")
    row = desk.manifest()["b/c.pdf"]
    assert (row.output, row.pages_read, row.finish, row.mode) == ("b/c.pdf.md", 1, "stop", "document")
    assert Path(summary.manifest).is_file()
    assert desk.state() == ["lock"]
    assert desk.passes == 1
    summary = desk.run()
    assert (summary.there, summary.read) == (2, 0)
    assert desk.asked == [], "nothing is looked into"


@pytest.mark.parametrize("backwards", [False, True])
def test_units_are_put_together_in_order_whenever_they_come(desk: Desk, backwards: bool) -> None:
    def read(desk: Desk, task: Task) -> UnitText:
        is_second = task.unit == "17-32"
        return page(desk, task, finish="loop" if is_second else "stop", cut_pages="20" * is_second)

    desk.scan("long.pdf", pages=40)
    desk.readings["long.pdf"] = read
    desk.backwards = backwards
    summary = desk.run()
    assert (summary.read, summary.pages) == (1, 3)
    assert [line.split()[-1] for line in desk.text("long.pdf").split("\n\n")] == ["1-16", "17-32", "33-40"]
    row = desk.manifest()["long.pdf"]
    assert (row.pages, row.pages_read, row.seconds, row.finish, row.cut_pages) == (40, 3, 1.5, "loop", "20")
    assert desk.state() == ["lock"], "units are gone when their document is written"


def test_a_document_with_a_unit_that_failed_is_not_written_and_what_was_read_of_it_is_kept(desk: Desk) -> None:
    def read(desk: Desk, task: Task) -> UnitText:
        if task.unit == "17-20":
            raise WorkerCrashed("It died.", remedy="Again.")
        return page(desk, task)

    desk.scan("long.pdf", pages=20)
    desk.readings["long.pdf"] = read
    summary = desk.run()
    assert (summary.failed, summary.exit_code) == (1, 4)
    row = desk.manifest()["long.pdf"]
    assert (row.output, row.error_code, row.error) == ("", "worker_crashed", "It died. Again.")
    assert [name[-10:] for name in desk.state() if name != "lock"] == ["-1-16.json"]
    desk.readings.clear()
    assert desk.run().failed == 0
    assert desk.units == ["long.pdf 17-20"], "a unit that was read is not read again"
    assert desk.text("long.pdf").count("text of") == 2
    assert desk.state() == ["lock"]


@pytest.mark.parametrize("backwards", [False, True])
def test_files_with_the_same_bytes_get_the_same_text(desk: Desk, backwards: bool) -> None:
    picture = base64.b64encode(png()).decode()

    def read(desk: Desk, task: Task) -> UnitText:
        text = f"Before ![Figure 1]({task.document}-figures/page-1-figure-1.png) after"
        return page(desk, task, text=text, figures={"page-1-figure-1.png": picture})

    desk.backwards = backwards
    for name in ("a.png", "b c/d.png"):
        desk.scan(name, b"the same")
        desk.readings[name] = read
    summary = desk.run()
    assert (summary.documents, summary.read, summary.copied, len(desk.units)) == (2, 1, 1, 1)
    assert "](a.png-figures/page-1-figure-1.png)" in desk.text("a.png")
    assert "](d.png-figures/page-1-figure-1.png)" in desk.text("b c/d.png")
    for folder in ("a.png-figures", "b c/d.png-figures"):
        assert (desk.out / folder / "page-1-figure-1.png").read_bytes() == png()
    rows = desk.manifest()
    (copy,) = (row for row in rows.values() if row.copy_of)
    assert (copy.seconds, copy.pages_read) == (0.0, 1)
    assert copy.copy_of in {row.source for row in rows.values()} - {copy.source}
    desk.scan("moved/e.png", b"the same")
    summary = desk.run()
    assert (summary.read, summary.copied, summary.there, desk.passes) == (0, 1, 2, 1)
    assert "](e.png-figures/page-1-figure-1.png)" in desk.text("moved/e.png")


def test_the_progress_counts_no_document_twice_where_copies_need_a_second_pass(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[ProgressLine] = []

    def progress_line(**options: Any) -> ProgressLine:
        lines.append(ProgressLine(**options))
        return lines[-1]

    monkeypatch.setattr(driver, "ProgressLine", progress_line)
    for name in ("a.png", "b.png", "c.png"):
        desk.scan(name, b"the same")
    assert (desk.run().documents, desk.passes) == (3, 2)
    assert lines[0]._line(0.0).startswith("3 of 3 files")


def test_a_copy_of_what_failed_fails_like_it(desk: Desk) -> None:
    for name in ("a.png", "b.png"):
        desk.scan(name, b"the same")
        desk.readings[name] = failing(UnreadableInput("It is damaged.", remedy="Save it anew."))
    assert desk.run().failed == 2
    assert {row.error for row in desk.manifest().values()} == {"It is damaged. Save it anew."}
    assert len(desk.units) == 1


def test_the_files_own_fault_is_final_and_chance_is_not(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("crash.png", "damaged.png", "good.png"):
        desk.scan(name)
    desk.readings["crash.png"] = failing(WorkerCrashed("It died.", remedy="Again."))
    desk.faults["damaged.png"] = UnreadableInput("It is damaged.", remedy="Save it anew.")
    assert desk.run().exit_code == 4
    assert "damaged.png: It is damaged. Save it anew." in capsys.readouterr().err
    desk.readings.clear()
    desk.faults.clear()
    summary = desk.run()
    assert desk.asked == ["crash.png"]
    assert (summary.failed, summary.exit_code) == (1, 3), "what failed before still counts"
    desk.run(retry_failed=True)
    assert desk.asked == ["damaged.png"]
    assert desk.run().exit_code == 0


def test_what_was_changed_is_read_again_and_what_was_touched_is_not(desk: Desk) -> None:
    for name in ("changed.png", "touched.png", "same.png", "lost.png", "cut.png"):
        desk.scan(name)
    desk.run()
    before, whole = desk.text("touched.png"), desk.text("cut.png")
    desk.scan("changed.png", b"other bytes")
    desk.scan("touched.png")
    (desk.out / "lost.png.md").unlink()
    os.truncate(desk.out / "cut.png.md", 3)
    summary = desk.run()
    assert desk.asked == ["changed.png", "cut.png", "lost.png", "touched.png"]
    assert desk.units == ["changed.png 1", "cut.png 1", "lost.png 1"]
    assert (summary.read, summary.copied) == (3, 0)
    assert (desk.text("touched.png"), desk.text("cut.png")) == (before, whole)
    assert desk.run().there == 5


def test_a_text_that_was_cut_is_given_to_no_other_document(desk: Desk) -> None:
    desk.scan("a.png", b"the same")
    desk.run()
    whole = desk.text("a.png")
    os.truncate(desk.out / "a.png.md", 3)
    desk.scan("b.png", b"the same")
    desk.run()
    assert desk.text("a.png") == desk.text("b.png") == whole


def test_other_questions_and_other_versions_are_other_texts(desk: Desk) -> None:
    desk.scan("a.png")
    desk.run()
    for change in ({"mode": "free"}, {"mode": "free", "again": True}):
        assert desk.run(**change).read == 1
    desk.version = "version 2"
    assert desk.run(mode="free", keep_older=True).read == 0
    assert desk.run(mode="free").read == 1
    assert desk.manifest()["a.png"].version == "version 2"


def test_what_every_document_would_meet_ends_the_run_and_what_was_done_is_kept(desk: Desk) -> None:
    for name in ("a.png", "b.png", "c.png"):
        desk.scan(name)
    desk.readings["b.png"] = failing(EngineUnavailable("The weights are not here.", remedy="Fetch them."))
    with pytest.raises(EngineUnavailable):
        desk.run()
    assert "a.png" in desk.manifest()
    assert "b.png" not in desk.manifest()
    desk.readings.clear()
    summary = desk.run()
    assert summary.read + summary.there == 3
    assert "b.png" in desk.asked
    assert "a.png" not in desk.asked


def test_a_run_that_is_stopped_keeps_what_is_written(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(desk: Desk, task: Task) -> UnitText:
        wait_until((desk.out / "a.png.md").exists)
        os.kill(os.getpid(), signal.SIGTERM)
        assert over.wait(60)
        return page(desk, task)

    over = threading.Event()
    for name in ("a.png", "b.png"):
        desk.scan(name)
    desk.readings["b.png"] = stop
    monkeypatch.setattr(driver, "STOP_WAIT_S", 0.1)  # the reading of b.png does not end
    try:
        with pytest.raises(KeyboardInterrupt):
            desk.run()
    finally:
        over.set()
        wait_until(lambda: all(thread.name != driver.FEEDER for thread in threading.enumerate()))
    assert "a.png" in desk.manifest()
    assert desk.text("a.png")


def test_a_cluster_that_fails_says_that_nothing_is_lost(desk: Desk) -> None:
    def fail(task: Task) -> bool:
        raise RuntimeError("a secret of Ray's")

    desk.scan("a.png")
    desk.lose = fail
    with pytest.raises(EngineUnavailable, match="What was read is kept") as caught:
        desk.run()
    assert "secret" not in str(caught.value)


def test_an_error_of_ours_that_ray_has_wrapped_is_told_as_ours(desk: Desk) -> None:
    def fail(task: Task) -> bool:
        raise RuntimeError("a wrapping of Ray's") from BadRequest("The disk is full.", remedy="Make room.")

    desk.scan("a.png")
    desk.lose = fail
    with pytest.raises(BadRequest, match="The disk is full"):
        desk.run()


def test_a_run_that_is_ended_at_once_has_last_words() -> None:
    script = "import os; from deepseek_ocr_mcp.batch.driver import _last_words\nwith _last_words(): "
    for ending, words in (("os._exit(1)", driver.LAST_WORDS), ("pass", "")):
        done = subprocess.run(
            [sys.executable, "-c", f"{script}{ending}"], stderr=subprocess.PIPE, text=True, timeout=60
        )
        assert done.stderr.strip() == words


def test_what_a_cluster_loses_is_asked_for_again_and_never_vanishes(desk: Desk) -> None:
    for name in ("a.png", "b.png", "never.png"):
        desk.scan(name)
    desk.lose = lambda task: (
        task.source["name"] == "never.png"
        or (  # type: ignore[index]  # a row, not yet a task
            desk.passes == 1 and task.source["name"] == "b.png"  # type: ignore[index]
        )
    )
    summary = desk.run()
    assert (summary.documents, summary.read, summary.failed, desk.passes) == (3, 2, 1, 3)
    assert desk.units == ["a.png 1", "b.png 1"]
    assert "did not say what became of" in desk.manifest()["never.png"].error
    desk.lose = lambda task: False
    assert desk.run().failed == 0


def test_two_documents_do_not_share_a_text(desk: Desk, tmp_path: Path) -> None:
    desk.scan("a.png")
    desk.run()
    before = desk.text("a.png")
    desk.scans = tmp_path / "other"
    desk.scan("a.png", b"others")
    with pytest.raises(BadRequest, match="the same name for their text"):
        desk.run()
    assert desk.text("a.png") == before


def test_what_cannot_be_meant_is_refused_before_anything_starts(desk: Desk) -> None:
    desk.scan("a.png")
    with pytest.raises(UnsupportedMode):
        desk.run(mode="describe")
    with pytest.raises(BadRequest):
        run_batch(Batch(str(desk.scans), str(desk.out), OcrRequest(image="", pages="3-1")), SETTINGS)
    with pytest.raises(InputNotFound):
        run_batch(Batch(str(desk.folder / "nowhere"), str(desk.out), OcrRequest(image="")), SETTINGS)
    (desk.folder / "others").mkdir()
    (desk.folder / "others" / "notes.txt").write_bytes(b"x")
    with pytest.raises(InputNotFound, match=r"1 name was left out: .*notes\.txt"):
        run_batch(Batch(str(desk.folder / "others"), str(desk.out), OcrRequest(image="")), SETTINGS)
    assert desk.passes == 0


def test_without_ray_it_says_what_to_install(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(driver, "find_spec", lambda name: None if name == "ray" else object())
    with pytest.raises(SystemExit) as ended:
        main(["batch", str(desk.scans), "--out", str(desk.out)])
    assert ended.value.code == 4
    assert extra_command("ray") in capsys.readouterr().err


def test_the_command_tells_what_became_of_it(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.scan("a.png")
    desk.scan("b.png")
    desk.readings["b.png"] = failing(UnreadableInput("It is damaged.", remedy="Save it anew."))
    for said in ("2 files: 1 read (1 page), 1 failed.", "2 files: 0 read (0 pages), 2 done before, 1 failed."):
        with pytest.raises(SystemExit) as ended:
            main(["batch", str(desk.scans), "--out", str(desk.out), "--engine", "rapidocr"])
        assert ended.value.code == 3
        out, err = capsys.readouterr()
        assert out.strip() == str(desk.out / "manifest.parquet")
        assert said in err


def test_names_that_are_left_out_are_rows_and_are_counted(desk: Desk) -> None:
    desk.scan("a.png")
    desk.scan("b/notes.txt")
    summary = desk.run()
    assert (summary.read, summary.failed, summary.exit_code) == (1, 0, 3)
    row = desk.manifest()["b/notes.txt"]
    assert (row.output, row.finish, row.error_code) == ("", "left_out", "input_not_found")
    assert "neither a picture nor a PDF" in row.error
    assert "1 name was left out: " in summary.lines()[-1]
    (desk.scans / "b" / "notes.txt").unlink()
    summary = desk.run()
    assert (summary.there, summary.exit_code) == (1, 0)
    assert list(desk.manifest()) == ["a.png"], "a name that is gone leaves no row"


def test_notes_are_in_the_manifest_and_counted_at_the_end(desk: Desk) -> None:
    blank = {"code": "blank", "text": "blank, no text was found."}

    def read(desk: Desk, task: Task) -> UnitText:
        if task.unit == "1-16":
            return page(desk, task, notes=[{**blank, "pages": "2,5"}])
        scripts = {"code": "not_read", "text": "Arabic could not be read.", "pages": "17"}
        return page(desk, task, notes=[scripts, {**blank, "pages": "18"}])

    desk.scan("a.png")
    desk.scan("long.pdf", pages=20)
    desk.readings["long.pdf"] = read
    summary = desk.run()
    assert json.loads(desk.manifest()["long.pdf"].notes) == [
        {**blank, "pages": "2,5,18"},
        {"code": "not_read", "text": "Arabic could not be read.", "pages": "17"},
    ]
    assert desk.manifest()["a.png"].notes == ""
    assert summary.notes == {"blank": 1, "not_read": 1}
    assert any("blank 1, not_read 1" in line for line in summary.lines())
    assert desk.run().notes == summary.notes, "documents of earlier runs count too"


def test_its_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["batch", "--help"])
    said = capsys.readouterr().out
    for word in ("--out", "--ray", "kill -9", "manifest.parquet", "examples:", "s3://", "docs/scaling.md"):
        assert word in said


def test_the_progress_tells_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    line = ProgressLine()
    line.add(Counts(there=100, todo=900))
    line.show()
    assert capsys.readouterr().err == "", "not at once"
    for _ in range(51):
        now += 1
        line.add(Counts(pages=4, ended=2))
    # Half of what is left is looked into: two pages each.
    line.figures = {"listed": 1000, "planned": 450, "planned_pages": 900}
    line.show()
    # 204 of 1,800 pages are read, at 4 a second.
    assert capsys.readouterr().err == "202 of 1,000 files, 204 pages, 4.0 pages/s, 7 min left\n"


def test_an_argument_without_effect_is_told_once_and_not_of_each_document(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.scan("a.png")
    for progress_as, said in (("text", "custom_prompt was not used"), ("json", '"code": "argument_unused"')):
        given = ["--prompt", "x", "--engine", "rapidocr", "--progress", progress_as]
        with pytest.raises(SystemExit):
            main(["batch", str(desk.scans), "--out", str(desk.out), *given])
        assert capsys.readouterr().err.count(said) == 1


def test_progress_and_summary_are_json_for_programs(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine(as_json=True)
    line.add(Counts(there=1, todo=3, ended=2, pages=5, failed=1))
    line._next = 0.0
    line.show()
    assert json.loads(capsys.readouterr().err) == {
        "event": "progress",
        "files": 4,
        "done": 3,
        "failed": 1,
        "pages": 5,
        "tokens": 0,
        "pages_per_s": 0.0,
        "seconds_left": None,
    }
    desk.scan("a.png")
    desk.scan("b.png")
    desk.readings["b.png"] = failing(UnreadableInput("It is damaged.", remedy="Save it anew."))
    with pytest.raises(SystemExit):
        main(["batch", str(desk.scans), "--out", str(desk.out), "--engine", "rapidocr", "--progress", "json"])
    failure, summary = map(json.loads, capsys.readouterr().err.splitlines())
    assert failure == {"event": "failure", "text": f"{desk.scans / 'b.png'}: It is damaged. Save it anew."}
    assert (summary["event"], summary["documents"], summary["read"], summary["exit_code"]) == ("summary", 2, 1, 3)
    assert summary["pages_per_s"] > 0


def test_one_worker_keeps_all_endpoints_as_busy_as_they_may_be() -> None:
    urls = ("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:1")  # named twice, asked as one
    asked = Settings(ocr_engine="openai", ocr_model="named", ocr_remote_url=urls, ocr_remote_concurrency=8)
    found = found_here(0, asked)
    assert (found.workers, found.at_once) == (1, 16)


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_becomes_shards_that_later_runs_go_on_with(desk: Desk, format: str) -> None:
    desk.scan("a.png")
    desk.scan("b/copy.png", b"a.png")
    desk.scan("long.pdf", pages=40)
    desk.reading = page_by_page
    summary = desk.run(format=format)
    assert (summary.read, summary.copied, summary.exit_code) == (2, 1, 0)
    assert desk.state() == ["lock"]
    assert {row.output for row in desk.manifest().values()} == place_of(str(desk.out)).names(SHARDS)
    assert desk.run(format=format).there == 3
    assert desk.asked == []
    desk.scan("a.png", b"changed")
    assert (desk.run(format=format).read, desk.units) == (1, ["a.png 1"])
    assert sources_in(desk, format) == ["a.png", "b/copy.png", *["long.pdf"] * (3 if format == "parquet" else 1)]


def page_by_page(desk: Desk, task: Task) -> UnitText:
    number = int(task.unit.split("-")[0])
    return page(desk, task, each_page=[{"page": number, "text": task.unit, "finish": "stop", "words": []}])


def sources_in(desk: Desk, format: str) -> list[str]:
    out, found = place_of(str(desk.out)), []
    for name in out.names(SHARDS):
        data = out.read(name)
        if format == "parquet":
            found += [row["source"] for row in pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()]
        else:
            found += [json.loads(line)["metadata"]["Source-File"] for line in gzip.decompress(data).splitlines()]
    return sorted(str(Path(each).relative_to(desk.scans)) for each in found)


def test_one_folder_is_for_one_format(desk: Desk) -> None:
    desk.scan("a.png")
    desk.run()
    with pytest.raises(BadRequest, match="in the format files, not dolma"):
        desk.run(format="dolma")


def test_shards_that_are_damaged_while_they_are_made_are_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.scan("a.png")
    desk.reading = page_by_page
    write = driver.merge_manifest

    def damaged(out: Location, *, run: str = "") -> None:
        for name in out.names(PIECES):
            out.write(name, b"half")
        write(out, run=run)

    with monkeypatch.context() as patch:
        patch.setattr(driver, "merge_manifest", damaged)
        with pytest.raises(OcrError, match=r"1 documents .* gone or damaged"):
            desk.run(format="dolma")
    assert desk.run(format="dolma").read == 1
    assert sources_in(desk, "dolma") == ["a.png"]


def test_a_list_names_documents_and_a_later_list_adds_to_it(desk: Desk) -> None:
    for name in ("a.png", "b/c.pdf", "not listed.png"):
        desk.scan(name)
    names = desk.folder / "list"
    first = str(desk.scans / "a.png")
    names.write_text(f"{first}\n\n{first}\n")
    assert desk.run(source=f"@{names}").read == 1
    names.write_text(f"{desk.scans / 'b/c.pdf'}\n{first}\n{desk.scans}\n")
    summary = desk.run(source=f"@{names}")
    assert (summary.read, summary.there, summary.exit_code) == (1, 1, 3)
    assert "folders in a list" in summary.left_out
    assert desk.manifest()["b/c.pdf"].output == f"{str(desk.scans).lstrip('/')}/b/c.pdf.md"


def test_a_long_list_goes_to_the_workers_in_parts_and_leaves_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LISTED", 2)
    monkeypatch.setattr(sources, "LOOKED_UP", 2)
    for number in range(5):
        desk.scan(f"{number}.png")
    monkeypatch.chdir(desk.scans)
    lines = "".join(f"{number}.png\r\n" for number in (0, 1, 2, 3, 4, 0))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    parts: list[list[SourcePart]] = []
    whole = desk.stream

    def stream(found: Any, settings: Any, current: Any, listed: list[SourcePart], ledger: Any) -> Iterator[Counts]:
        parts.append(listed)
        yield from whole(found, settings, current, listed, ledger)

    monkeypatch.setattr(driver, "stream", stream)
    summary = desk.run(source="@-")
    assert (summary.documents, summary.read, len(parts[0])) == (5, 5, 3)
    assert desk.units == [f"{str(desk.scans).lstrip('/')}/{number}.png 1" for number in range(5)], "in their order"
    assert desk.state() == ["lock"], "the lines that the workers read are gone"


def test_an_archive_is_read_like_a_folder_and_a_later_run_goes_on(desk: Desk) -> None:
    path = desk.folder / "scans.tar"

    def pack(*names: str) -> None:
        with tarfile.open(path, "w") as archive:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.size = len(name)
                archive.addfile(entry, io.BytesIO(name.encode()))

    pack("a.png", "../b.png", "c/d.pdf")
    summary = desk.run(source=str(path))
    assert (summary.documents, summary.read, summary.exit_code) == (2, 2, 3)
    assert summary.left_out == f"1 name was left out: {path}!/../b.png (names that lead out of their archive)."
    rows = {row.source: row for row in rows_of(place_of(str(desk.out)))}
    assert rows[f"{path}!/c/d.pdf"].output == "scans.tar/c/d.pdf.md"
    assert rows[f"{path}!/../b.png"].error
    assert desk.text("scans.tar/a.png").startswith("text of ")
    assert not (desk.folder / "b.png").exists()
    summary = desk.run(source=str(path))
    assert (summary.there, summary.read, desk.asked) == (2, 0, [])
    pack("new.png", "a.png", "c/d.pdf")
    summary = desk.run(source=str(path))
    assert (summary.read, desk.units) == (1, ["scans.tar/new.png 1"]), "the others have other places and the same bytes"
    assert (desk.out / "scans.tar/a.png.md").is_file()


def test_a_list_of_files_and_urls_is_refused(desk: Desk) -> None:
    names = desk.folder / "list"
    names.write_text("/a.pdf\ns3://bucket/a.pdf\n")
    with pytest.raises(BadRequest, match="both files of this machine and URLs"):
        desk.run(source=f"@{names}")


def test_the_summary_says_the_cost_at_a_price(desk: Desk) -> None:
    summary = Summary(pages=2_000, read=1, documents=1, seconds=7200, workers=1, unit="GPU", price_per_hour=1.5)
    summary = replace(summary, worker_seconds=14_400)  # one joined later
    assert summary.lines()[1:] == ["0.28 pages/s, 4.00 GPU-hours.", "Cost: 6.00, 3,000.00 for a million such pages."]
    assert json.loads(summary.dump())["cost"] == 6
    assert "cost" not in json.loads(replace(summary, price_per_hour=0).dump())
    summary = replace(summary, tokens=1_440_000)
    assert summary.lines()[1] == "0.28 pages/s, 1,440,000 tokens (200/s), 4.00 GPU-hours."


def test_the_time_left_of_a_later_pass_is_that_of_its_own_documents() -> None:
    line = ProgressLine()
    line.begin_pass()
    line.figures = {"listed": 10, "planned": 10, "planned_pages": 100}
    line.add(Counts(todo=10, there=5, ended=8, pages=80))
    line.begin_pass()
    assert line._pages_left(line._listed()) is None, "nothing is planned yet"
    line.figures = {"listed": 2, "planned": 1, "planned_pages": 10}
    assert line._pages_left(line._listed()) == 20
    line.add(Counts(ended=1, pages=10))
    assert line._pages_left(line._listed()) == 10


def test_prometheus_asks_a_running_batch_on_loopback(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/metrics"
    answers: list[str] = []

    def read(desk: Desk, task: Task) -> UnitText:
        with urllib.request.urlopen(url, timeout=BOUND_S) as answer:
            answers.append(answer.read().decode())
        return page(desk, task)

    for number in range(8):  # of which the first are a row of their own
        desk.scan(f"{number}.png")
    desk.reading = read
    assert desk.run(metrics_port=int(url.split(":")[2].split("/")[0])).read == 8
    assert 'deepseek_ocr_batch_documents_total{result="read"} 0.0' in answers[0]
    shown = [line for line in answers[-1].splitlines() if line.startswith("deepseek_ocr_batch_pages_total")]
    assert 0 < float(shown[0].split()[1]) < 8
    assert "deepseek_ocr_batch_workers 1.0" in answers[-1]
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=BOUND_S)


def test_a_port_that_is_taken_ends_the_batch_with_one_line(desk: Desk) -> None:
    desk.scan("a.png")
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(BadRequest, match="Give another --metrics-port"),
    ):
        desk.run(metrics_port=taken.getsockname()[1])

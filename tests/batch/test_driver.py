"""What the driver makes of what the cluster tells it, without a cluster: in any order, and stopped anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deepseek_ocr_mcp.batch import driver
from deepseek_ocr_mcp.batch.actors import Task
from deepseek_ocr_mcp.batch.cluster import Cluster, found_here
from deepseek_ocr_mcp.batch.driver import Batch, Summary, run_batch
from deepseek_ocr_mcp.batch.files import Location, SourceDocument, place_of
from deepseek_ocr_mcp.batch.state import Manifest, ManifestRow, Options, Unit, UnitText, units_of
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
from support import png, wait_until

SETTINGS = Settings(ocr_engine="rapidocr")
Answer = Callable[["Desk", SourceDocument], Iterator[Task]]


class Desk:
    """Stands for the cluster: what it says of each source, and what it puts into the output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scans, self.out = folder / "scans", folder / "texts"
        self.scans.mkdir()
        self.version = "version 1"
        self.asked: list[str] = []
        self.answers: dict[str, Answer] = {}
        self.options: Options
        self.reversed = False

    def scan(self, name: str, content: bytes = b"") -> None:
        (self.scans / name).parent.mkdir(parents=True, exist_ok=True)
        (self.scans / name).write_bytes(content or name.encode())

    def task(self, source: SourceDocument, pages: int = 1) -> Task:
        data = Path(source.url).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        document = self.options.document(sha256)
        units = tuple(unit.pages for unit in units_of(document, list(range(1, pages + 1))))
        return Task(source, "new", sha256, len(data), pages, document, units)

    def put(self, task: Task, unit: str, **facts: Any) -> Task:
        text = UnitText(f"text of {task.sha256[:4]} {unit}", 1, 9, 0.5, "stop", "", "rapidocr", "m", "cpu", {})
        place_of(str(self.out)).write(Unit(task.document, unit).name, replace(text, **facts).dump())
        return replace(task, state="read", unit=unit)

    def run(self, **batch: Any) -> Summary:
        request = OcrRequest(image="", mode=batch.pop("mode", ""))
        return run_batch(Batch(str(self.scans), str(self.out), request, **batch), SETTINGS)

    def manifest(self) -> dict[str, ManifestRow]:
        manifest = Manifest(place_of(str(self.out)))
        manifest.load()
        return {str(Path(row.source).relative_to(self.scans)): row for row in manifest.rows()}

    def text(self, name: str) -> str:
        return (self.out / f"{name}.md").read_text()

    def tasks(
        self,
        found: Cluster,
        settings: Settings,
        options: Options,
        out: Location,
        sources: Sequence[SourceDocument],
        ledger: Any,
    ) -> Iterator[Task]:
        self.options = options
        self.asked = [source.name for source in sources]
        for source in reversed(sources) if self.reversed else sources:
            yield from self.answers.get(source.name, one_page)(self, source)


def one_page(desk: Desk, source: SourceDocument) -> Iterator[Task]:
    yield desk.put(desk.task(source), "1")


def failing(error: OcrError) -> Answer:
    def answer(desk: Desk, source: SourceDocument) -> Iterator[Task]:
        yield replace(desk.task(source), unit="1").failed(error)

    return answer


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path)

    @contextmanager
    def cluster(address: str, workers: int, settings: Settings) -> Iterator[Cluster]:
        yield Cluster(KNOWN["rapidocr"], desk.version, workers=1, cpus=1, at_once=2)

    monkeypatch.setattr(driver, "cluster", cluster)
    monkeypatch.setattr(driver, "tasks", desk.tasks)
    monkeypatch.setattr(driver, "start_ledger", lambda done: None)
    monkeypatch.setattr(driver._BatchRun, "_count", lambda self, ledger: None)
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
    assert not list(desk.out.rglob("*.json")), "units are gone when their rows are written"
    summary = desk.run()
    assert (summary.there, summary.read) == (2, 0)
    assert desk.asked == ["a.png", "b/c.pdf"], "nothing is asked of the cluster"


def test_units_are_put_together_in_order_whenever_they_come(desk: Desk) -> None:
    def answer(desk: Desk, source: SourceDocument) -> Iterator[Task]:
        task = desk.task(source, pages=40)
        for unit in ("33-40", "1-16", "1-16", "17-32"):  # a unit may be told of twice
            yield desk.put(task, unit, finish="loop" if unit == "17-32" else "stop", cut_pages="20" * (unit == "17-32"))

    desk.scan("long.pdf")
    desk.answers["long.pdf"] = answer
    assert desk.run().read == 1
    assert [line.split()[-1] for line in desk.text("long.pdf").split("\n\n")] == ["1-16", "17-32", "33-40"]
    row = desk.manifest()["long.pdf"]
    assert (row.pages, row.pages_read, row.seconds, row.finish, row.cut_pages) == (40, 3, 1.5, "loop", "20")


def test_a_document_with_a_unit_that_failed_is_not_written_and_what_was_read_of_it_is_kept(desk: Desk) -> None:
    def answer(desk: Desk, source: SourceDocument) -> Iterator[Task]:
        task = desk.task(source, pages=20)
        yield desk.put(task, "1-16")
        yield replace(task, unit="17-20").failed(WorkerCrashed("It died.", remedy="Again."))

    desk.scan("long.pdf")
    desk.answers["long.pdf"] = answer
    summary = desk.run()
    assert (summary.failed, summary.exit_code) == (1, 4)
    row = desk.manifest()["long.pdf"]
    assert (row.output, row.error_code, row.error) == ("", "worker_crashed", "It died. Again.")
    assert [file.name[-10:] for file in desk.out.rglob("*.json")] == ["-1-16.json"]
    desk.answers["long.pdf"] = lambda desk, source: iter(
        [replace(task := desk.task(source, pages=20), unit="1-16"), desk.put(task, "17-20")]
    )
    assert desk.run().failed == 0
    assert desk.text("long.pdf").count("text of") == 2
    assert not list(desk.out.rglob("*.json"))


@pytest.mark.parametrize("backwards", [False, True])
def test_files_with_the_same_bytes_get_the_same_text(desk: Desk, backwards: bool) -> None:
    picture = base64.b64encode(png()).decode()

    def answer(desk: Desk, source: SourceDocument) -> Iterator[Task]:
        task = desk.task(source)
        text = f"Before ![Figure 1]({task.document}-figures/page-1-figure-1.png) after"
        yield desk.put(task, "1", text=text, figures={"page-1-figure-1.png": picture})

    def copy(desk: Desk, source: SourceDocument) -> Iterator[Task]:
        yield replace(desk.task(source), state="copy")

    desk.reversed = backwards
    for name in ("a.png", "b c/d.png"):
        desk.scan(name, b"the same")
    # Listed in this order: "a.png" after the folder's.
    desk.answers = {"a.png": answer, "b c/d.png": copy}
    summary = desk.run()
    assert (summary.read, summary.copied) == (1, 1)
    assert "](a.png-figures/page-1-figure-1.png)" in desk.text("a.png")
    assert "](d.png-figures/page-1-figure-1.png)" in desk.text("b c/d.png")
    for folder in ("a.png-figures", "b c/d.png-figures"):
        assert (desk.out / folder / "page-1-figure-1.png").read_bytes() == png()
    row = desk.manifest()["b c/d.png"]
    assert (Path(row.copy_of).name, row.seconds, row.pages_read) == ("a.png", 0.0, 1)


def test_a_copy_of_what_failed_fails_like_it(desk: Desk) -> None:
    for name in ("a.png", "b.png"):
        desk.scan(name, b"the same")
    desk.answers["a.png"] = failing(UnreadableInput("It is damaged.", remedy="Save it anew."))
    desk.answers["b.png"] = lambda desk, source: iter([replace(desk.task(source), state="copy")])
    assert desk.run().failed == 2
    assert {row.error for row in desk.manifest().values()} == {"It is damaged. Save it anew."}


def test_the_files_own_fault_is_final_and_chance_is_not(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("crash.png", "damaged.png", "good.png"):
        desk.scan(name)
    desk.answers["crash.png"] = failing(WorkerCrashed("It died.", remedy="Again."))
    desk.answers["damaged.png"] = failing(UnreadableInput("It is damaged.", remedy="Save it anew."))
    assert desk.run().exit_code == 4
    assert "damaged.png: It is damaged. Save it anew." in capsys.readouterr().err
    desk.answers.clear()
    summary = desk.run()
    assert desk.asked == ["crash.png"]
    assert (summary.failed, summary.exit_code) == (1, 3), "what failed before still counts"
    desk.run(retry_failed=True)
    assert desk.asked == ["damaged.png"]
    assert desk.run().exit_code == 0


def test_what_was_changed_is_read_again_and_what_was_touched_is_not(desk: Desk) -> None:
    for name in ("changed.png", "touched.png", "same.png", "lost.png"):
        desk.scan(name)
    desk.run()
    before = desk.text("touched.png")
    desk.scan("changed.png", b"other bytes")
    desk.scan("touched.png")
    (desk.out / "lost.png.md").unlink()
    desk.answers["touched.png"] = lambda desk, source: iter([replace(desk.task(source), state="copy")])
    summary = desk.run()
    assert desk.asked == ["changed.png", "lost.png", "touched.png"]
    assert summary.read == 2
    assert desk.text("touched.png") == before
    desk.answers.clear()
    desk.run()
    assert desk.run().there == 4


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
    desk.answers["b.png"] = failing(EngineUnavailable("The weights are not here.", remedy="Fetch them."))
    with pytest.raises(EngineUnavailable):
        desk.run()
    assert list(desk.manifest()) == ["a.png"]
    desk.answers.clear()
    assert desk.run().read == 2
    assert desk.asked == ["b.png", "c.png"]


def test_a_run_that_is_stopped_notes_what_is_whole(desk: Desk) -> None:
    def stop(desk: Desk, source: SourceDocument) -> Iterator[Task]:
        wait_until((desk.out / "a.png.md").exists)
        os.kill(os.getpid(), signal.SIGTERM)
        assert over.wait(60)
        yield from ()

    over = threading.Event()

    for name in ("a.png", "b.png"):
        desk.scan(name)
    desk.answers["b.png"] = stop
    with pytest.raises(KeyboardInterrupt):
        desk.run()
    over.set()
    assert list(desk.manifest()) == ["a.png"]
    assert desk.text("a.png")


def test_a_cluster_that_fails_says_that_nothing_is_lost(desk: Desk) -> None:
    def fail(desk: Desk, source: SourceDocument) -> Iterator[Task]:
        raise RuntimeError("a secret of Ray's")
        yield

    desk.scan("a.png")
    desk.answers["a.png"] = fail
    with pytest.raises(EngineUnavailable, match="What was read is kept") as caught:
        desk.run()
    assert "secret" not in str(caught.value)


def test_what_a_cluster_loses_is_asked_for_again(desk: Desk) -> None:
    asked: list[list[str]] = []

    def forgetful(desk: Desk, source: SourceDocument) -> Iterator[Task]:
        asked.append(desk.asked)
        task = desk.task(source, pages=20)
        yield desk.put(task, "1-16" if len(asked) == 1 else "17-20")
        if len(asked) > 1:
            yield replace(task, state="read", unit="1-16")

    for name in ("a.png", "b.png", "never.png"):
        desk.scan(name)
    desk.answers = {"b.png": forgetful, "never.png": lambda desk, source: iter(())}
    assert desk.run().failed == 1
    assert asked == [["a.png", "b.png", "never.png"], ["b.png", "never.png"]]
    assert desk.text("b.png").count("text of") == 2
    assert "said nothing" in desk.manifest()["never.png"].error


def test_two_documents_do_not_share_a_text(desk: Desk, tmp_path: Path) -> None:
    desk.scan("a.png")
    desk.run()
    desk.scans = tmp_path / "other"
    desk.scan("a.png")
    with pytest.raises(BadRequest, match="is that of"):
        desk.run()


def test_what_cannot_be_meant_is_refused_before_anything_starts(desk: Desk) -> None:
    desk.scan("a.png")
    with pytest.raises(UnsupportedMode):
        desk.run(mode="describe")
    with pytest.raises(BadRequest):
        run_batch(Batch(str(desk.scans), str(desk.out), OcrRequest(image="", pages="3-1")), SETTINGS)
    with pytest.raises(InputNotFound):
        run_batch(Batch(str(desk.folder / "nowhere"), str(desk.out), OcrRequest(image="")), SETTINGS)


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
    desk.answers["b.png"] = failing(UnreadableInput("It is damaged.", remedy="Save it anew."))
    for said in ("2 files: 1 read (1 pages), 1 failed.", "2 files: 0 read (0 pages), 2 done before, 1 failed."):
        with pytest.raises(SystemExit) as ended:
            main(["batch", str(desk.scans), "--out", str(desk.out), "--engine", "rapidocr"])
        assert ended.value.code == 3
        out, err = capsys.readouterr()
        assert out.strip() == str(desk.out / "manifest.parquet")
        assert said in err


def test_names_that_are_left_out_are_rows_and_are_counted(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
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

    def answer(desk: Desk, source: SourceDocument) -> Iterator[Task]:
        task = desk.task(source, pages=20)
        yield desk.put(task, "1-16", notes=[{**blank, "pages": "2,5"}])
        scripts = {"code": "not_read", "text": "Arabic could not be read.", "pages": "17"}
        yield desk.put(task, "17-20", notes=[scripts, {**blank, "pages": "18"}])

    desk.scan("a.png")
    desk.scan("long.pdf")
    desk.answers["long.pdf"] = answer
    summary = desk.run()
    assert json.loads(desk.manifest()["long.pdf"].notes) == [
        {**blank, "pages": "2,5,18"},
        {"code": "not_read", "text": "Arabic could not be read.", "pages": "17"},
    ]
    assert desk.manifest()["a.png"].notes == ""
    assert summary.notes == {"blank": 1, "not_read": 1}
    assert "blank 1, not_read 1" in summary.lines()[1]
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
    monkeypatch.setattr(driver.time, "monotonic", lambda: now)
    progress = driver._ProgressLine(1000)
    progress.begin(there=100)
    progress.show()
    assert capsys.readouterr().err == "", "not at once"
    for _ in range(51):
        now += 1
        progress.add_pages(4)
        progress.add_documents(2, failed=False)
    progress.planned = (450, 900)  # half of what is left is looked into: two pages each
    progress.show()
    # 204 of 1,800 pages are read, at 4 a second.
    assert capsys.readouterr().err == "202 of 1,000 files, 204 pages, 4.0 pages/s, 7 min left\n"


def test_one_worker_keeps_all_endpoints_as_busy_as_they_may_be() -> None:
    urls = ("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:1")  # named twice, asked as one
    asked = Settings(ocr_engine="openai", ocr_model="named", ocr_remote_url=urls, ocr_remote_concurrency=8)
    found = found_here(0, asked)
    assert (found.workers, found.at_once) == (1, 16)

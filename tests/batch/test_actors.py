"""Readers and the ledger, each alone: what they do without Ray around them."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image

from deepseek_ocr_mcp.batch.actors import (
    ATTEMPTS,
    Ledger,
    Task,
    UnitReader,
    engine_here,
    from_row,
    reader_settings,
    to_row,
)
from deepseek_ocr_mcp.batch.cluster import Cluster, cluster, plan_rows
from deepseek_ocr_mcp.batch.files import SourceDocument, place_of
from deepseek_ocr_mcp.batch.state import Options, Unit, UnitText
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.engines import KNOWN
from deepseek_ocr_mcp.engines.base import ReadOptions
from deepseek_ocr_mcp.errors import EngineUnavailable
from support import echo, png, tiff

pytestmark = pytest.mark.anyio
OPTIONS = Options(ReadOptions("document"), "", "auto", 200, 200_000_000, "1")


class Remote:
    """A method as Ray offers it."""

    def __init__(self, method: Any) -> None:
        self.remote = method


class LedgerHandle:
    def __init__(self, ledger: Ledger) -> None:
        for name in ("begin", "begin_again", "claim", "failed", "finished"):
            setattr(self, name, Remote(getattr(ledger, name)))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Any]:
    """Makes readers, and ends them."""
    made: list[UnitReader] = []

    class Bench:
        ledger = Ledger({})
        out = place_of(str(tmp_path / "out"))

        def reader(self, engine: str, **settings: Any) -> UnitReader:
            given = reader_settings(Settings(**settings), f"faults:{engine}", 1)
            made.append(UnitReader(given, OPTIONS, self.out, LedgerHandle(self.ledger), 2))
            return made[-1]

        def task(self, name: str, data: bytes, unit: str = "1") -> Task:
            path = tmp_path / "in" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            sha256 = hashlib.sha256(data).hexdigest()
            document = OPTIONS.document(sha256)
            return Task(SourceDocument(str(path), name, ""), "unit", sha256, len(data), 1, document, (unit,), unit)

        def read(self, reader: UnitReader, *tasks: Task) -> list[Task]:
            return from_row(reader(to_row(tasks)))

        def text(self, task: Task) -> UnitText:
            return UnitText.load(self.out.read(Unit(task.document, task.unit).name))

    yield Bench()
    for reader in made:
        reader._loop._close()


def test_a_row_comes_back_as_it_was(bench: Any) -> None:
    tasks = [bench.task("a.png", png()), Task(SourceDocument("s3://b/c.pdf", "c.pdf", "7 x", local=False))]
    assert from_row(to_row(tasks)) == tasks


def test_short_documents_go_together_and_ever_fewer_towards_the_end() -> None:
    found = Cluster(KNOWN["rapidocr"], "1", workers=2, cpus=1, at_once=2)
    sources = [SourceDocument(f"{n}.png", f"{n}.png", "") for n in range(500)]
    rows = plan_rows(found, sources)
    assert [task.source for row in rows for task in from_row(row)] == sources
    together = [row["together"] for row in rows]
    assert together == sorted(together, reverse=True)
    assert (together[0], together[-1]) == (16, 1)
    assert plan_rows(found, sources[:1])[0]["together"] == 1


def test_a_unit_is_put_where_the_driver_finds_it_and_is_not_read_twice(bench: Any) -> None:
    reader = bench.reader("Counting")
    task = bench.task("three.tiff", tiff(30, 31, 32), "2-3")
    other = Task(SourceDocument("elsewhere", "elsewhere", ""), "copy")
    done = bench.read(reader, task, other)
    assert [(each.state, each.failure) for each in done] == [("read", None), ("copy", None)]
    text = bench.text(task)
    assert (text.text, text.pages, text.finish) == ("seven tokens\n\nseven tokens", 2, "stop")
    bench.out.write(Unit(task.document, task.unit).name, b"as it was")
    assert bench.read(reader, task)[0].state == "read"
    assert bench.out.read(Unit(task.document, task.unit).name) == b"as it was"


def test_figures_travel_with_their_text(bench: Any) -> None:
    task = bench.task("page.png", png(100, 60))
    reader = bench.reader("Drawing", ocr_allowed_dirs=(str(Path(task.source.url).parent),))
    assert bench.read(reader, task)[0].failure is None
    text = bench.text(task)
    assert f"![Figure 1]({task.document}-figures/page-1-figure-1.png)" in text.text
    picture = Image.open(io.BytesIO(base64.b64decode(text.figures["page-1-figure-1.png"])))
    assert picture.size == (50, 30)


def test_a_file_that_changed_meanwhile_is_not_passed_off_as_the_one_that_was_planned(bench: Any) -> None:
    task = bench.task("page.png", png())
    Path(task.source.url).write_bytes(png(50, 50))
    failure = bench.read(bench.reader("Echo"), task)[0].failure
    assert failure is not None
    assert "was changed" in str(failure)
    assert not bench.out.exists(Unit(task.document, task.unit).name)


def test_a_unit_that_failed_is_not_tried_again_because_of_another_one(bench: Any, tmp_path: Path) -> None:
    task = bench.task("page.png", png(40, 33))
    reader = bench.reader("OnePageKills")
    failure = bench.read(reader, task)[0].failure
    assert failure is not None
    assert failure.code == "worker_crashed"
    Path(task.source.url).unlink()
    again = bench.read(reader, task)[0].failure
    assert again is not None
    assert again.message == failure.message


def test_a_file_outside_the_allowed_folders_is_not_read(bench: Any, tmp_path: Path) -> None:
    task = bench.task("page.png", png())
    (tmp_path / "other").mkdir()
    failure = bench.read(bench.reader("Echo", ocr_allowed_dirs=(str(tmp_path / "other"),)), task)[0].failure
    assert failure is not None
    assert failure.code == "input_forbidden"


def test_a_unit_that_killed_its_readers_is_reported_and_others_are_read(bench: Any) -> None:
    bad, good = bench.task("bad.png", png(40, 30)), bench.task("good.png", png(41, 30))
    for unit in (bad, good):
        anyio.run(bench.ledger.begin, Unit(unit.document, unit.unit).name)  # side by side: each is read alone now
    for _ in range(ATTEMPTS - 1):
        anyio.run(bench.ledger.begin_again, Unit(bad.document, bad.unit).name)
    first, second = bench.read(bench.reader("Echo"), bad, good)
    assert first.failure is not None
    assert first.failure.code == "worker_crashed"
    assert second.failure is None
    assert bench.text(good).text == echo(41, 30)


async def test_of_equal_documents_one_is_read() -> None:
    ledger = Ledger({"known": "/old.png"})
    claims = [("/a.png", "d", 1, 1), ("/b.png", "d", 1, 1), ("/c.png", "known", 1, 1), ("/old.png", "known", 1, 1)]
    answers = [("/a.png", False), ("/a.png", False), ("/old.png", True), ("/old.png", True)]
    assert await ledger.claim(claims) == answers
    assert await ledger.claim(claims) == answers, "a planner that was killed asks again"
    assert await ledger.finished(["/a.png"]) == (4, 4)


async def test_planners_do_not_run_far_ahead() -> None:
    ledger = Ledger({}, ahead=10)
    with anyio.fail_after(60):
        await ledger.claim([("/a.pdf", "a", 25, 400)])
        async with anyio.create_task_group() as tasks:
            claimed = anyio.Event()

            async def claim() -> None:
                await ledger.claim([("/b.pdf", "b", 1, 1)])
                claimed.set()

            tasks.start_soon(claim)
            await anyio.wait_all_tasks_blocked()
            assert not claimed.is_set()
            await ledger.claim([("/a.pdf", "a", 25, 400)])  # who asks again does not wait for itself
            await ledger.finished(["/a.pdf", "/never.pdf"])
            await claimed.wait()


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

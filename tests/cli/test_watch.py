"""A watched folder: a file is read when its writer is done, and once."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from deepseek_ocr_mcp.cli import watch
from deepseek_ocr_mcp.cli.parser import build_parser
from deepseek_ocr_mcp.cli.read import FileReader, check_arguments
from deepseek_ocr_mcp.cli.watch import Arrivals
from support import BOUND_S, echo, png, running


def test_a_file_is_ready_when_it_stayed_the_same_between_two_looks() -> None:
    arrivals = Arrivals()
    assert arrivals.ready({"a": (10, 1)}) == []
    assert arrivals.ready({"a": (20, 2)}) == [], "its writer is at work"
    assert arrivals.ready({"a": (20, 2), "b": (0, 1)}) == ["a"]
    arrivals.done("a", (20, 2))
    assert arrivals.ready({"a": (20, 2), "b": (0, 1)}) == [], "an empty file is not written yet"


def test_a_file_that_changes_is_read_again_and_one_that_failed_is_not() -> None:
    arrivals = Arrivals()
    arrivals.ready({"a": (1, 1)})
    assert arrivals.ready({"a": (1, 1)}) == ["a"]
    arrivals.done("a", (1, 1))
    assert arrivals.ready({"a": (1, 1)}) == []
    arrivals.ready({"a": (1, 9)})
    assert arrivals.ready({"a": (1, 9)}) == ["a"]


def test_a_name_that_comes_back_is_a_new_file() -> None:
    arrivals = Arrivals()
    arrivals.done("a", (1, 1))
    arrivals.ready({})
    arrivals.ready({"a": (1, 1)})
    assert arrivals.ready({"a": (1, 1)}) == ["a"]


@pytest.mark.anyio
async def test_a_watched_folder_is_read_and_so_is_a_file_that_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.02)
    inbox, out = tmp_path / "inbox", tmp_path / "texts"
    inbox.mkdir()
    for name, data in (("page.png", png()), ("done.png", png(43)), ("bad.png", b"no picture"), ("notes.txt", b"x")):
        (inbox / name).write_bytes(data)
    out.mkdir()
    (out / "done.png.md").write_text("read before")
    os.utime(inbox / "done.png", (1, 1))
    asked = build_parser().parse_args(["ocr", "--watch", str(inbox), "--output-dir", str(out)])
    check_arguments(asked)
    async with running() as service, anyio.create_task_group() as tasks:
        reading = FileReader(service, asked, str(tmp_path))
        tasks.start_soon(reading.run)
        with anyio.fail_after(BOUND_S):
            while not (out / "page.png.md").exists():
                await anyio.sleep(0.02)
            (inbox / "later.png").write_bytes(png(41))
            while not (out / "later.png.md").exists():
                await anyio.sleep(0.02)
            (inbox / "later.png").write_bytes(png(42))
            while echo(42) not in (out / "later.png.md").read_text():
                await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()
    assert (out / "done.png.md").read_text() == "read before"
    printed, errors = capsys.readouterr()
    assert str(out / "page.png.md") in printed.split()
    assert errors.count("inbox/bad.png:") == 1, "a file that cannot be read is tried once"
    assert errors.count("notes.txt") == 1
    assert reading.exit_code == 3

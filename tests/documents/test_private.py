"""The private folder: never swept by another start, made again when somebody removed it, gone at the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
import pytest

from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents import private
from deepseek_ocr_mcp.documents.private import is_whole, private_folder, restore
from deepseek_ocr_mcp.documents.reader import DocumentReader
from deepseek_ocr_mcp.errors import NotReady
from meaning import meant
from support import as_base64, png

posix = pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")

STARTS = """
import json, os, sys
from deepseek_ocr_mcp.documents.private import private_folder
lost = 0
for _ in range(int(sys.argv[1])):
    with private_folder() as folder:
        try:
            open(os.path.join(folder, "page"), "x").close()
        except FileNotFoundError:
            lost += 1
print(json.dumps(lost))
"""


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@posix
def test_starts_at_once_do_not_sweep_each_other(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STARTS, "40"],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [error for _, error in answers] == [""] * 6
    assert [json.loads(out) for out, _ in answers] == [0] * 6
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_folder_is_locked_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    really = os.rename

    def rename(source: str, target: str) -> None:
        private._sweep(tmp_path)  # another start, at the worst moment
        seen.append(source)
        really(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with private_folder() as folder:
        private._sweep(tmp_path)
        assert is_whole(folder)
    assert len(seen) == 1
    assert list(tmp_path.iterdir()) == []


@posix
def test_what_a_killed_start_left_is_removed_when_no_start_can_still_be_at_it(tmp_path: Path) -> None:
    fresh, old, lockless = (
        tmp_path / f"{private.UNFINISHED}a",
        tmp_path / f"{private.UNFINISHED}b",
        tmp_path / f"{private.PREFIX}c",
    )
    for folder in (fresh, old, lockless):
        folder.mkdir()
    for folder in (old, lockless):
        os.utime(folder, (0, 0))
    with private_folder():
        assert fresh.exists()
        assert not old.exists()
        assert not lockless.exists()


@posix
@pytest.mark.parametrize("removed", ["folder", "lock"])
def test_a_folder_that_was_removed_is_made_again_and_locked(tmp_path: Path, removed: str) -> None:
    with private_folder() as folder:
        if removed == "folder":
            shutil.rmtree(folder)
        else:
            os.unlink(os.path.join(folder, private.LOCK))
        assert not is_whole(folder)
        restore(folder)
        assert is_whole(folder)
        assert os.stat(folder).st_mode & 0o777 == 0o700
        private._sweep(tmp_path)
        assert is_whole(folder)
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.anyio
async def test_a_server_whose_folder_was_removed_reads_on() -> None:
    """By the ageing of /tmp, or an administrator: its decoder was confined to a folder that is no more."""
    page = as_base64(png())
    with private_folder() as folder, anyio.fail_after(60):
        async with DocumentReader(Settings(), folder).running() as reader:
            async with reader.open(meant(page)) as document:
                assert (await document.page(1)).width == 40
            shutil.rmtree(folder)
            reader.check()
            async with reader.open(meant(page)) as document:
                assert (await document.page(1)).width == 40


@posix
@pytest.mark.anyio
async def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    with private_folder() as folder:
        async with DocumentReader(Settings(), folder).running() as reader:
            away = f"{tmp_path}-away"
            os.rename(tmp_path, away)
            await anyio.Path(tmp_path).write_text("in the way")
            with pytest.raises(NotReady, match="folder for pages"):
                reader.check()
            with pytest.raises(NotReady):
                async with reader.open(meant(as_base64(png()))):
                    pass
            os.unlink(tmp_path)
            os.rename(away, tmp_path)
            reader.check()

"""A folder or a pattern as `image`: all of it is read, nothing twice, nothing lost, nothing replaced."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from deepseek_ocr_mcp.caller import Caller
from deepseek_ocr_mcp.errors import OcrError
from deepseek_ocr_mcp.models import OcrRequest
from deepseek_ocr_mcp.service import folders
from deepseek_ocr_mcp.service.progress import Terms
from deepseek_ocr_mcp.service.service import OcrService
from support import BOUND_S, client, echo, facts, png, running, said, tiff

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "scans"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(png(41))
    (folder / "b 2.tif").write_bytes(tiff(11, 12, 13))
    (folder / "b 10.png").write_bytes(png(42))
    (folder / "sub" / "c.png").write_bytes(png(43))
    (folder / "notes.txt").write_text("no page")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path.resolve() / "texts"


def content(path: Path) -> str:
    return path.read_text()


def written(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def make(folder: Path, count: int) -> None:
    for number in range(count):
        (folder / f"page {number}.png").write_bytes(png(40 + number))


async def read(service: OcrService, **arguments: Any) -> tuple[folders.Folder, str]:
    """One request to the end, or to `reply_s`: how far the folder is, and what is said."""
    reply_s = arguments.pop("reply_s", math.inf)
    local = arguments.pop("local", True)
    progress = arguments.pop("on_progress", None)
    request = OcrRequest(
        **{name: str(value) if name in ("image", "save_to") else value for name, value in arguments.items()}
    )
    with anyio.fail_after(BOUND_S):
        caller = Caller(is_local=local)
        answer = await service.ocr(request, caller, Terms(on_progress=progress, reply_s=reply_s))
    assert answer.result.folder is not None
    return answer.result.folder, "\n".join(map(str, answer.result.notes))


def counts(folder: folders.Folder) -> tuple[int, int, int, int, int]:
    return folder.found, folder.read, folder.there, folder.failed, folder.left


# -- through the tool


async def test_a_folder_is_read_into_another_with_an_index(scans: Path, out: Path) -> None:
    async with client() as mcp:
        result = await mcp.call_tool("ocr_to_files", {"image": str(scans), "save_to": str(out)})
        answer = facts(result)
        assert answer["folder"] == {
            "folder": str(scans), "found": 3, "read": 3, "there": 0, "failed": 0, "left": 0, "index": f"{out}/index.md",
        }  # fmt: skip
        assert (answer["pages_read"], answer["saved_to"], answer["finished"]) == (5, str(out), True)
        assert answer["chars"] > 0
        assert written(out) == {"a.png.md", "b 2.tif.md", "b 10.png.md", "index.md"}
        assert content(out / "a.png.md") == echo(41) + "\n"
        assert content(out / "b 2.tif.md").count("40x1") == 3
        index = content(out / "index.md")
        assert "3 of 3 files, 5 pages" in index
        assert f"| [b 2.tif](b%202.tif.md) | 3 | {len(content(out / 'b 2.tif.md')) - 1} | read |" in index
        assert index.index("a.png") < index.index("b 2.tif") < index.index("b 10.png")
        assert "3 of 3 files were read (5 pages)" in said(result)
        assert f'image="{scans}/**"' in said(result), "the subfolder is told"

        again = facts(await mcp.call_tool("ocr_to_files", {"image": str(scans), "save_to": str(out)}))["folder"]
        assert (again["read"], again["there"]) == (0, 3)
        assert facts(await mcp.call_tool("gpu_status", {}))["served"] == 5, "nothing was read twice"
        assert content(out / "index.md") == index, "the index still knows pages and characters"


@pytest.mark.parametrize("suffix", ["json", "txt", "markdown"])
async def test_the_pattern_of_save_to_chooses_what_is_written(scans: Path, out: Path, suffix: str) -> None:
    async with client() as mcp:
        await mcp.call_tool("ocr_to_files", {"image": f"{scans}/**/*.png", "save_to": f"{out}/*.{suffix}"})
    assert written(out) == {f"a.png.{suffix}", f"b 10.png.{suffix}", f"sub/c.png.{suffix}", "index.md"}
    assert echo(43) in content(out / "sub" / f"c.png.{suffix}")


async def test_a_folder_without_save_to_tells_what_is_in_it(scans: Path) -> None:
    async with client() as mcp:
        result = await mcp.call_tool("ocr_image", {"image": str(scans)})
        assert facts(result)["folder"]["files"] == ["a.png", "b 2.tif", "b 10.png"]
        for word in ("3 files", f'image="{scans}/a.png"', "ocr_to_files with save_to=", f'image="{scans}/**"'):
            assert word in said(result)
        short = await mcp.call_tool("ocr_image", {"image": str(scans), "max_chars": 15})
        assert facts(short)["folder"]["files"] == ["a.png", "b 2.tif"]
        assert "… and 1 more" in said(short)
        assert facts(short)["truncated"] is True
        limit = facts(short)["next_max_chars"]
        every = facts(await mcp.call_tool("ocr_image", {"image": str(scans), "max_chars": limit}))
        assert len(every["folder"]["files"]) == 3
        assert every["truncated"] is False
        assert facts(await mcp.call_tool("gpu_status", {}))["state"] == "unloaded", "nothing was loaded for it"
        empty = await mcp.call_tool("ocr_image", {"image": f"{scans}/*.webp"})
        assert "0 files" in said(empty)


@pytest.mark.parametrize(
    ("save_to", "words"),
    [
        ("{out}.md", ["one file", 'save_to="']),
        ("{scans}/a.png", ["one file"]),
        ("texts", ["no absolute path"]),
        ("{out}/*.odt", ["not written", ".json"]),
        ("{out}/deeper/down", ["There is no folder {out}/deeper"]),
    ],
)
async def test_a_place_that_is_no_folder_says_what_to_send(
    save_to: str, words: list[str], scans: Path, out: Path
) -> None:
    def filled(text: str) -> str:
        return text.replace("{out}", str(out)).replace("{scans}", str(scans))

    async with client() as mcp:
        refused = await mcp.call_tool("ocr_to_files", {"image": str(scans), "save_to": filled(save_to)})
        assert refused.is_error
        for word in words:
            assert filled(word) in said(refused)
        nothing = await mcp.call_tool("ocr_to_files", {"image": f"{scans}/*.webp", "save_to": str(out)})
        assert nothing.is_error
        assert "names no file" in said(nothing)


async def test_over_http_only_allowed_folders_are_read_and_written(scans: Path, out: Path) -> None:
    async with client(local=False) as mcp:
        refused = await mcp.call_tool("ocr_to_files", {"image": str(scans), "save_to": str(out)})
        assert refused.is_error
        assert "OCR_ALLOWED_DIRS" in said(refused)
    async with client(local=False, ocr_allowed_dirs=str(scans)) as mcp:
        refused = await mcp.call_tool("ocr_to_files", {"image": str(scans), "save_to": str(out)})
        assert refused.is_error
        assert "outside the allowed folders" in said(refused)
        assert "texts" not in os.listdir(scans.parent)
        inside = await mcp.call_tool("ocr_to_files", {"image": str(scans), "save_to": f"{scans}/out"})
        assert facts(inside)["folder"]["read"] == 3


async def test_the_answer_comes_in_time_and_the_same_call_goes_on(scans: Path, out: Path) -> None:
    make(scans, 12)
    calls = 0
    async with client("Steady", ocr_reply_seconds=0.2) as mcp:
        arguments = {"image": str(scans), "save_to": str(out), "overwrite": True}
        while True:
            calls += 1
            result = await mcp.call_tool("ocr_to_files", arguments)
            folder = facts(result)["folder"]
            assert folder["read"] + folder["left"] == 15
            if not folder["left"]:
                break
            assert facts(result)["finished"] is False
            assert "call again with the same arguments" in said(result)
        assert facts(await mcp.call_tool("gpu_status", {}))["served"] == 17
    assert calls > 1
    assert len(written(out)) == 16


async def test_progress_counts_files_and_names_the_page(scans: Path, out: Path) -> None:
    seen: list[tuple[float, float | None, str]] = []

    async def note(done: float, total: float | None, message: str | None) -> None:
        seen.append((done, total, message or ""))

    async with client() as mcp:
        await mcp.call_tool("ocr_to_files", {"image": str(scans), "save_to": str(out)}, progress_callback=note)
    steps = [done for done, _, _ in seen]
    assert steps == sorted(set(steps))
    assert steps[-1] == 3.0
    assert {total for _, total, _ in seen} == {3.0}
    assert any(re.search(r"b 2\.tif \(2 of 3\): page \d of 3", message) for _, _, message in seen), seen


# -- one failure stops nothing


async def test_each_failure_is_told_and_stops_none_of_the_others(scans: Path, out: Path) -> None:
    (scans / "aa.png").write_bytes(tiff(33))  # kills the worker
    (scans / "bad | file.png").write_text("no picture")
    (scans / "empty.png").touch()
    async with running("OnePageKills") as service:
        folder, notes = await read(service, image=scans, save_to=out)
        assert counts(folder) == (6, 3, 0, 3, 0)
        assert [failure.file for failure in folder.failures or ()] == ["aa.png", "bad | file.png", "empty.png"]
        assert "exit status 5" in notes
        assert "empty.png is empty" in notes
        index = content(out / "index.md")
        assert "3 of 6 files" in index
        assert "| bad \\| file.png |  |  | failed: " in index
        (scans / "empty.png").write_bytes(png())
        assert counts((await read(service, image=scans, save_to=out))[0]) == (6, 1, 3, 2, 0)


# -- nothing is replaced, nothing of ours is read


async def test_texts_and_figures_beside_the_pages_are_not_read_the_next_time(scans: Path) -> None:
    async with running("Drawing") as service:
        first, _ = await read(service, image=f"{scans}/**", save_to=scans)
        assert first.read == 4
        assert "sub/c.png-figures/page-1-figure-1.png" in written(scans)
        again, _ = await read(service, image=f"{scans}/**", save_to=scans)
        assert counts(again) == (4, 0, 4, 0, 0)
        inside, _ = await read(service, image=f"{scans}/**", save_to=scans / "out")
        assert inside.found == 4
        assert counts((await read(service, image=f"{scans}/**", save_to=scans / "out"))[0]) == (4, 0, 4, 0, 0)


async def test_links_out_of_the_allowed_folders_are_refused_one_by_one(scans: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(png(99))
    (scans / "leak.png").symlink_to(outside / "secret.png")
    (scans / "nothing.png").symlink_to(outside / "missing.png")
    (scans / "texts").symlink_to(outside)
    async with running(ocr_allowed_dirs=str(scans)) as service:
        folder, _ = await read(service, image=f"{scans}/**", save_to=scans / "out", local=False)
        assert counts(folder) == (6, 4, 0, 2, 0)
        told = {failure.file: failure.error.replace(failure.file, "") for failure in folder.failures or ()}
        assert told["leak.png"] == told["nothing.png"], "a refusal does not tell what exists outside"
        with pytest.raises(OcrError, match="outside the allowed folders"):
            await read(service, image=scans, save_to=scans / "texts", local=False)
    assert os.listdir(outside) == ["secret.png"]


# -- who shares a reading, who leaves it, and what a reading ends over: tests/service/test_folders.py
# -- on the command line: tests/test_cli.py

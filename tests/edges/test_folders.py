"""A folder or a pattern as `image`: all of it is read, nothing twice, nothing lost, nothing replaced."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from deepseek_ocr_mcp.errors import NotReady, OcrError
from deepseek_ocr_mcp.models import OcrRequest
from deepseek_ocr_mcp.service import folders
from deepseek_ocr_mcp.service.folders import FolderReader
from deepseek_ocr_mcp.service.service import OcrService
from support import client, echo, facts, png, running, said, tiff

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")]

BOUND_S = 30.0  # a bound, not a wait


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


async def read(reader: FolderReader, **arguments: Any) -> tuple[folders.Folder, str]:
    """One request to the end, or to `reply_s`: how far the folder is, and what is said."""
    reply_s = arguments.pop("reply_s", None)
    local = arguments.pop("local", True)
    progress = arguments.pop("on_progress", None)
    request = OcrRequest(
        **{name: str(value) if name in ("image", "save_to") else value for name, value in arguments.items()}
    )
    with anyio.fail_after(BOUND_S):
        listing = await reader.find(request.image, local=local)
        assert listing is not None
        answer, _ = await reader.read(request, listing, local=local, on_progress=progress, reply_s=reply_s)
    assert answer.result.folder is not None
    return answer.result.folder, "\n".join(answer.notes)


def counts(folder: folders.Folder) -> tuple[int, int, int, int, int]:
    return folder.found, folder.read, folder.there, folder.failed, folder.left


# -- through the tool


async def test_a_folder_is_read_into_another_with_an_index(scans: Path, out: Path) -> None:
    async with client() as mcp:
        result = await mcp.call_tool("ocr_image", {"image": str(scans), "save_to": str(out)})
        answer = facts(result)
        assert answer["folder"] == {
            "folder": str(scans), "found": 3, "read": 3, "there": 0, "failed": 0, "left": 0, "index": f"{out}/index.md",
        }  # fmt: skip
        assert (answer["page_count"], answer["saved_to"], answer["truncated"]) == (5, str(out), False)
        assert written(out) == {"a.png.md", "b 2.tif.md", "b 10.png.md", "index.md"}
        assert content(out / "a.png.md") == echo(41) + "\n"
        assert content(out / "b 2.tif.md").count("40x1") == 3
        index = content(out / "index.md")
        assert "3 of 3 files, 5 pages" in index
        assert f"| [b 2.tif](b%202.tif.md) | 3 | {len(content(out / 'b 2.tif.md')) - 1} | read |" in index
        assert index.index("a.png") < index.index("b 2.tif") < index.index("b 10.png")
        assert "3 of 3 files were read (5 pages)" in said(result)
        assert f'image="{scans}/**"' in said(result), "the subfolder is told"

        again = facts(await mcp.call_tool("ocr_image", {"image": str(scans), "save_to": str(out)}))["folder"]
        assert (again["read"], again["there"]) == (0, 3)
        assert facts(await mcp.call_tool("gpu_status", {}))["served"] == 5, "nothing was read twice"
        assert content(out / "index.md") == index, "the index still knows pages and characters"


@pytest.mark.parametrize("suffix", ["json", "txt", "markdown"])
async def test_the_pattern_of_save_to_chooses_what_is_written(scans: Path, out: Path, suffix: str) -> None:
    async with client() as mcp:
        await mcp.call_tool("ocr_image", {"image": f"{scans}/**/*.png", "save_to": f"{out}/*.{suffix}"})
    assert written(out) == {f"a.png.{suffix}", f"b 10.png.{suffix}", f"sub/c.png.{suffix}", "index.md"}
    assert echo(43) in content(out / "sub" / f"c.png.{suffix}")


async def test_a_folder_without_save_to_tells_what_is_in_it(scans: Path) -> None:
    async with client() as mcp:
        result = await mcp.call_tool("ocr_image", {"image": str(scans)})
        assert facts(result)["folder"]["files"] == ["a.png", "b 2.tif", "b 10.png"]
        for word in ("3 files", f'image="{scans}/a.png"', "save_to=", f'image="{scans}/**"'):
            assert word in said(result)
        short = await mcp.call_tool("ocr_image", {"image": str(scans), "max_chars": 15})
        assert facts(short)["folder"]["files"] == ["a.png", "b 2.tif"]
        assert "… and 1 more" in said(short)
        assert facts(await mcp.call_tool("gpu_status", {}))["state"] == "unloaded", "nothing was loaded for it"
        empty = await mcp.call_tool("ocr_image", {"image": f"{scans}/*.webp"})
        assert "0 files" in said(empty)


@pytest.mark.parametrize(
    ("save_to", "words"),
    [
        ("{out}.md", ["one file", 'save_to="']),
        ("{scans}/a.png", ["one file"]),
        ("texts", ["no absolute path"]),
        ("{out}/*.docx", ["not written", "*.json"]),
        ("{out}/deeper/down", ["There is no folder {out}/deeper"]),
    ],
)
async def test_a_place_that_is_no_folder_says_what_to_send(
    save_to: str, words: list[str], scans: Path, out: Path
) -> None:
    def filled(text: str) -> str:
        return text.replace("{out}", str(out)).replace("{scans}", str(scans))

    async with client() as mcp:
        refused = await mcp.call_tool("ocr_image", {"image": str(scans), "save_to": filled(save_to)})
        assert refused.is_error
        for word in words:
            assert filled(word) in said(refused)
        nothing = await mcp.call_tool("ocr_image", {"image": f"{scans}/*.webp", "save_to": str(out)})
        assert nothing.is_error
        assert "No file" in said(nothing)


async def test_over_http_only_allowed_folders_are_read_and_written(scans: Path, out: Path) -> None:
    async with client(local=False) as mcp:
        refused = await mcp.call_tool("ocr_image", {"image": str(scans), "save_to": str(out)})
        assert refused.is_error
        assert "OCR_ALLOWED_DIRS" in said(refused)
    async with client(local=False, ocr_allowed_dirs=str(scans)) as mcp:
        refused = await mcp.call_tool("ocr_image", {"image": str(scans), "save_to": str(out)})
        assert refused.is_error
        assert "outside the allowed folders" in said(refused)
        assert "texts" not in os.listdir(scans.parent)
        inside = await mcp.call_tool("ocr_image", {"image": str(scans), "save_to": f"{scans}/out"})
        assert facts(inside)["folder"]["read"] == 3


async def test_the_answer_comes_in_time_and_the_same_call_goes_on(
    scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "RETRY_S", 0.01)
    make(scans, 12)
    calls = 0
    async with client("Steady", ocr_reply_seconds=0.2) as mcp:
        arguments = {"image": str(scans), "save_to": str(out), "overwrite": True}
        while True:
            calls += 1
            result = await mcp.call_tool("ocr_image", arguments)
            folder = facts(result)["folder"]
            assert folder["read"] + folder["left"] == 15
            if not folder["left"]:
                break
            assert facts(result)["truncated"] is True
            assert "call again with the same arguments" in said(result)
        assert facts(await mcp.call_tool("gpu_status", {}))["served"] == 17
    assert calls > 1
    assert len(written(out)) == 16


async def test_progress_counts_files_and_names_the_page(scans: Path, out: Path) -> None:
    seen: list[tuple[float, float | None, str]] = []

    async def note(done: float, total: float | None, message: str | None) -> None:
        seen.append((done, total, message or ""))

    async with client() as mcp:
        await mcp.call_tool("ocr_image", {"image": str(scans), "save_to": str(out)}, progress_callback=note)
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
    async with running("OnePageKills") as service, FolderReader(service).running() as reader:
        folder, notes = await read(reader, image=scans, save_to=out)
        assert counts(folder) == (6, 3, 0, 3, 0)
        assert [failure.file for failure in folder.failures or ()] == ["aa.png", "bad | file.png", "empty.png"]
        assert "exit status 5" in notes
        assert "empty.png is empty" in notes
        index = content(out / "index.md")
        assert "3 of 6 files" in index
        assert "| bad \\| file.png |  |  | failed: " in index
        (scans / "empty.png").write_bytes(png())
        assert counts((await read(reader, image=scans, save_to=out))[0]) == (6, 1, 3, 2, 0)


async def test_a_page_range_that_one_document_has_not_is_that_documents_failure(scans: Path, out: Path) -> None:
    async with running() as service, FolderReader(service).running() as reader:
        folder, notes = await read(reader, image=scans, save_to=out, pages="3")
    assert counts(folder) == (3, 1, 0, 2, 0)
    assert "beyond the end" in notes


@pytest.mark.parametrize(
    ("engine", "arguments", "words"),
    [
        ("Unloadable", {}, ["The weights are not here.", "0 of 3 files", "Fetch them."]),
        ("Refusing", {}, ["Not this one."]),
        ("Echo", {"mode": "translate"}, ["'translate'"]),
        ("Echo", {"mode": "find"}, ["find_term"]),
    ],
)
async def test_what_every_document_would_meet_ends_the_reading_at_once(
    engine: str, arguments: dict[str, Any], words: list[str], scans: Path, out: Path
) -> None:
    async with running(engine) as service, FolderReader(service).running() as reader:
        for _ in range(2):
            with pytest.raises(OcrError) as caught:
                await read(reader, image=scans, save_to=out, **arguments)
            for word in words:
                assert word in str(caught.value)
        assert (await service.status()).queue == 0


async def test_a_fault_of_ours_is_an_error_and_the_server_goes_on(
    scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    async with client() as mcp:
        with monkeypatch.context() as patch:
            patch.setattr(OcrService, "read", broken)
            failed = await mcp.call_tool("ocr_image", {"image": str(scans), "save_to": str(out)})
        assert failed.is_error
        assert "RuntimeError" in said(failed)
        assert (
            facts(await mcp.call_tool("ocr_image", {"image": str(scans), "save_to": str(out)}))["folder"]["read"] == 3
        )


# -- nothing is replaced, nothing of ours is read


async def test_a_text_that_is_there_is_left_and_an_older_one_is_told(scans: Path, out: Path) -> None:
    os.mkdir(out)
    (out / "a.png.md").write_text("corrected by hand")
    (out / "b 10.png.md").write_text("of last year")
    os.utime(out / "b 10.png.md", (1, 1))
    async with running() as service, FolderReader(service).running() as reader:
        folder, notes = await read(reader, image=scans, save_to=out)
        assert counts(folder) == (3, 1, 2, 0, 0)
        assert "1 of them are older" in notes
        assert "overwrite=true" in notes
        assert content(out / "a.png.md") == "corrected by hand"
        assert content(out / "b 10.png.md") == "of last year"
        assert "older than its file" in content(out / "index.md")
        assert counts((await read(reader, image=scans, save_to=out, overwrite=True))[0]) == (3, 3, 0, 0, 0)
    assert content(out / "a.png.md") == echo(41) + "\n"


async def test_an_index_that_is_not_ours_is_not_touched(scans: Path, out: Path, tmp_path: Path) -> None:
    os.mkdir(out)
    (out / "index.md").write_text("# My site")
    async with running() as service, FolderReader(service).running() as reader:
        folder, notes = await read(reader, image=scans, save_to=out)
        assert folder.index == ""
        assert "somebody's own" in notes
        assert content(out / "index.md") == "# My site"
        (out / "index.md").unlink()
        (tmp_path / "secret.md").write_text(folders.INDEX_MARK)
        (out / "index.md").symlink_to(tmp_path / "secret.md")
        await read(reader, image=scans, save_to=out, overwrite=True)
    assert content(tmp_path / "secret.md") == folders.INDEX_MARK
    assert content(out / "index.md").startswith(folders.INDEX_MARK)


async def test_texts_and_figures_beside_the_pages_are_not_read_the_next_time(scans: Path) -> None:
    async with running("Drawing") as service, FolderReader(service).running() as reader:
        first, _ = await read(reader, image=f"{scans}/**", save_to=scans)
        assert first.read == 4
        assert "sub/c.png-figures/page-1-figure-1.png" in written(scans)
        again, _ = await read(reader, image=f"{scans}/**", save_to=scans)
        assert counts(again) == (4, 0, 4, 0, 0)
        inside, _ = await read(reader, image=f"{scans}/**", save_to=scans / "out")
        assert inside.found == 4
        assert counts((await read(reader, image=f"{scans}/**", save_to=scans / "out"))[0]) == (4, 0, 4, 0, 0)


async def test_links_out_of_the_allowed_folders_are_refused_one_by_one(scans: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(png(99))
    (scans / "leak.png").symlink_to(outside / "secret.png")
    (scans / "nothing.png").symlink_to(outside / "missing.png")
    (scans / "texts").symlink_to(outside)
    async with running(ocr_allowed_dirs=str(scans)) as service, FolderReader(service).running() as reader:
        folder, _ = await read(reader, image=f"{scans}/**", save_to=scans / "out", local=False)
        assert counts(folder) == (6, 4, 0, 2, 0)
        told = {failure.file: failure.error.replace(failure.file, "") for failure in folder.failures or ()}
        assert told["leak.png"] == told["nothing.png"], "a refusal does not tell what exists outside"
        with pytest.raises(OcrError, match="outside the allowed folders"):
            await read(reader, image=scans, save_to=scans / "texts", local=False)
    assert os.listdir(outside) == ["secret.png"]


async def test_while_the_model_loads_the_answer_says_so(
    scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, refusals = OcrService.read, iter(range(3))

    async def loading(self: OcrService, *arguments: Any, **more: Any) -> Any:
        if next(refusals, None) is not None:
            raise NotReady("The model has been loading for 9 s.", remedy="Call again.")
        return await really(self, *arguments, **more)

    async with running() as service, FolderReader(service).running() as reader:
        monkeypatch.setattr(OcrService, "read", loading)
        monkeypatch.setattr(folders, "RETRY_S", 3600.0)
        with anyio.fail_after(BOUND_S):
            first, notes = await read(reader, image=scans, save_to=out, reply_s=0.0)
            while "loading for 9 s" not in notes:
                first, notes = await read(reader, image=scans, save_to=out, reply_s=0.01)
        assert first.left == 3
    monkeypatch.setattr(folders, "RETRY_S", 0.01)
    async with running() as service, FolderReader(service).running() as reader:
        assert counts((await read(reader, image=scans, save_to=out))[0]) == (3, 3, 0, 0, 0)


# -- callers come and go


async def test_a_cancelled_call_stops_the_reading(scans: Path, out: Path) -> None:
    async with running("Patient") as service, FolderReader(service).running() as reader:
        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: read(reader, image=scans, save_to=out))
                while (await service.status()).state != "host":
                    await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
            while (await service.status()).queue:
                await anyio.sleep(0.01)
    assert not any(name.endswith(".png.md") for name in written(out))


async def test_callers_with_the_same_words_share_one_reading(scans: Path, out: Path) -> None:
    make(scans, 5)
    found: list[folders.Folder] = []

    async with running("Steady") as service, FolderReader(service).running() as reader:

        async def call() -> None:
            found.append((await read(reader, image=scans, save_to=out, overwrite=True))[0])

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call)
        assert (await service.status()).served == 10
    assert [counts(folder) for folder in found] == [(8, 8, 0, 0, 0)] * 3


async def test_what_nobody_comes_back_for_is_left_and_found_again(
    scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(scans, 5)
    async with running("Steady") as service, FolderReader(service).running() as reader:
        monkeypatch.setattr(folders, "LINGER_S", -1.0)
        first, notes = await read(reader, image=scans, save_to=out, overwrite=True, reply_s=0.0)
        assert first.left > 0
        assert "call again with the same arguments" in notes
        [job] = reader._jobs.values()
        with anyio.fail_after(BOUND_S):
            while job.scope is not None:
                await anyio.sleep(0.01)
        assert job.done < 8, "it stopped before the next document"
        (scans / "new.png").write_bytes(png(90))
        last, _ = await read(reader, image=scans, save_to=out, overwrite=True)
        assert counts(last) == (9, 9, 0, 0, 0)
        assert (await service.status()).served == 11
        assert "9 of 9" in content(out / "index.md")


async def test_a_reading_that_ended_meanwhile_is_told_and_not_begun_anew(scans: Path, out: Path) -> None:
    async with running() as service, FolderReader(service).running() as reader:
        first, _ = await read(reader, image=scans, save_to=out, overwrite=True, reply_s=0.0)
        assert first.left == 3
        [job] = reader._jobs.values()
        with anyio.fail_after(BOUND_S):
            while job.scope is not None:
                await anyio.sleep(0.01)
        assert counts((await read(reader, image=scans, save_to=out, overwrite=True))[0]) == (3, 3, 0, 0, 0)
        assert (await service.status()).served == 5
        assert counts((await read(reader, image=scans, save_to=out, overwrite=True))[0]) == (3, 3, 0, 0, 0)
        assert (await service.status()).served == 10


async def test_readings_that_nobody_comes_back_for_are_forgotten(
    scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "LINGER_S", -1.0)
    async with running() as service, FolderReader(service).running() as reader:
        for number in range(folders.MAX_JOBS + 5):
            await read(reader, image=scans, save_to=f"{out}{number}", reply_s=0.0)
            with anyio.fail_after(BOUND_S):
                while any(job.scope is not None for job in reader._jobs.values()):
                    await anyio.sleep(0.005)
        assert len(reader._jobs) <= folders.MAX_JOBS + 1


# -- on the command line: tests/test_cli.py

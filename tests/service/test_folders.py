"""A folder is read file by file, nothing twice, nothing lost: on virtual time, with a service that reads nothing."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.abc
import pytest

from deepseek_ocr_mcp.caller import Caller
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents.argument import Argument
from deepseek_ocr_mcp.documents.listing import Listing, find
from deepseek_ocr_mcp.documents.reach import Reach
from deepseek_ocr_mcp.errors import (
    BadRequest,
    Busy,
    EngineUnavailable,
    NotReady,
    OcrError,
    OutputExists,
    PasswordNeeded,
    QueueFull,
    UnreadableInput,
    UnsupportedMode,
    WorkerCrashed,
)
from deepseek_ocr_mcp.models import Folder, Note, OcrRequest, OcrResult, Page
from deepseek_ocr_mcp.service.answer import Answer
from deepseek_ocr_mcp.service.folder_index import INDEX_MARK, IndexedText, Outcome, read_index, written_index
from deepseek_ocr_mcp.service.folders import INDEX_EVERY_S, LINGER_S, MAX_JOBS, RETRY_S, FolderReader
from deepseek_ocr_mcp.service.progress import Terms

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("virtual_time"),
    pytest.mark.skipif(os.name == "nt", reason="paths of POSIX"),
]

READ_S = 10.0
"""Seconds for each document."""
Counts = tuple[int, int, int, int, int]


class FakeService:
    """Reads every document in `READ_S` as one page that is its name.

    Args:
        failures: what the next readings of a file raise, by its name.
    """

    def __init__(self, failures: dict[str, list[Exception]]) -> None:
        self.settings = Settings()
        self.engine = SimpleNamespace(name="fake")
        self.asked: list[str] = []
        self.passwords: dict[str, str] = {}
        """Of the documents that are locked, by their names."""
        self.read_to_the_end: list[str] = []
        self._failures = failures

    async def read(self, request: OcrRequest, document: Argument, caller: Caller, terms: Terms) -> Answer:
        on_progress = terms.on_progress
        name = os.path.basename(document.text)
        self.asked.append(name)
        await anyio.sleep(READ_S / 2)
        if failures := self._failures.get(name):
            raise failures.pop(0)
        if terms.password != self.passwords.get(name, terms.password):
            raise PasswordNeeded(f"{name} is locked.", remedy="Give its password.")
        if on_progress is not None:
            await on_progress(0.5, 1.0, "page 1 of 1")
        await anyio.sleep(READ_S / 2)
        self.read_to_the_end.append(name)
        _write(request, f"{name}\n")
        page = Page(page=1, width=10, height=10, text=name)
        result = OcrResult(
            text=name, pages=[page], page_count=1, mode=request.mode, engine="fake", model="", device="cpu",
            truncated=False, saved_to=request.save_to,
        )  # fmt: skip
        answer = Answer(result)
        if name == "remarked.png":
            answer.add("not_read", "a remark.", pages="1")
        return answer


def _write(request: OcrRequest, text: str) -> None:
    path = Path(request.save_to)
    if path.exists() and not request.overwrite:
        raise OutputExists(f"{path} exists already.", remedy="Choose another name.")
    path.write_text(text)


class Archive:
    """A folder with three files, a folder for their texts, and a reader."""

    def __init__(self, tmp_path: Path) -> None:
        self.scans = tmp_path.resolve() / "scans"
        self.out = tmp_path.resolve() / "texts"
        self.scans.mkdir()
        for name in ("a.png", "b.png", "c.png"):
            self.add(name)
        self.failures: dict[str, list[Exception]] = {}
        self.service = FakeService(self.failures)
        self.reader = FolderReader(self.service.settings, "fake", self.service.read)
        self.steps: list[tuple[float, float, str]] = []

    def add(self, name: str) -> None:
        (self.scans / name).write_bytes(b"a picture that nobody looks at")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[anyio.abc.TaskGroup]:
        with anyio.fail_after(1_000_000):
            async with self.reader.running(), anyio.create_task_group() as tasks:
                yield tasks

    async def read(self, *, reply_s: float = math.inf, password: str = "", **fields: Any) -> tuple[Folder, str]:
        """One request to the end, or to `reply_s`: how far the folder is, and the sentences of the answer."""
        arguments = {"image": str(self.scans), "save_to": str(self.out), **fields}
        request = OcrRequest(**arguments)
        listing = await find(request.image, Reach())
        assert isinstance(listing, Listing)
        terms = Terms(on_progress=self._note, reply_s=reply_s, password=password)
        answer = await self.reader.read(request, listing, Caller(), terms)
        assert answer.result.folder is not None
        return answer.result.folder, "\n".join(map(str, answer.result.notes))

    async def counts(self, **how: Any) -> Counts:
        folder, _ = await self.read(**how)
        return counts(folder)

    async def _note(self, done: float, total: float, message: str) -> None:
        self.steps.append((done, total, message))

    def text(self, name: str) -> str:
        return (self.out / name).read_text()


def counts(folder: Folder) -> Counts:
    """Found, read, there already, failed, left."""
    return folder.found, folder.read, folder.there, folder.failed, folder.left


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


# -- what is read, and what is not


async def test_each_file_is_read_once_into_a_file_of_its_own_and_the_next_call_reads_none(archive: Archive) -> None:
    async with archive.running():
        assert await archive.counts() == (3, 3, 0, 0, 0)
        assert archive.service.asked == ["a.png", "b.png", "c.png"]
        assert archive.text("b.png.md") == "b.png\n"
        index = archive.text("index.md")
        assert "3 of 3 files, 3 pages, 15 characters." in index
        assert await archive.counts() == (3, 0, 3, 0, 0)
        assert len(archive.service.asked) == 3
        assert archive.text("index.md") == index, "pages and characters are known from the earlier index"


async def test_a_text_that_is_there_is_left_and_an_older_one_is_named(archive: Archive) -> None:
    archive.out.mkdir()
    (archive.out / "a.png.md").write_text("corrected by hand")
    (archive.out / "b.png.md").write_text("of last year")
    os.utime(archive.out / "b.png.md", (1, 1))
    async with archive.running():
        folder, notes = await archive.read()
        assert counts(folder) == (3, 1, 2, 0, 0)
        assert "1 of them are older" in notes
        assert "overwrite=true" in notes
        assert archive.text("a.png.md") == "corrected by hand"
        assert archive.text("b.png.md") == "of last year"
        assert "older than its file" in archive.text("index.md")
        assert await archive.counts(overwrite=True) == (3, 3, 0, 0, 0)
    assert archive.text("a.png.md") == "a.png\n"


async def test_an_index_that_is_not_ours_is_left_and_replaced_only_on_request(archive: Archive) -> None:
    archive.out.mkdir()
    (archive.out / "index.md").write_text("# My site")
    async with archive.running():
        folder, notes = await archive.read()
        assert folder.index == ""
        assert "did not write" in notes
        assert archive.text("index.md") == "# My site"
        await archive.read(overwrite=True)
        assert archive.text("index.md").startswith(INDEX_MARK)
        (archive.out / "index.md").unlink()
        (archive.out / "secret.md").write_text(INDEX_MARK)
        (archive.out / "index.md").symlink_to(archive.out / "secret.md")
        await archive.read(overwrite=True)
    assert archive.text("secret.md") == INDEX_MARK, "a link is replaced, never followed"


async def test_a_remark_about_a_page_is_in_the_index(archive: Archive) -> None:
    archive.add("remarked.png")
    async with archive.running():
        await archive.read()
    assert "read. Page 1: a remark." in archive.text("index.md")


async def test_notes_about_texts_that_are_there_are_told_by_every_later_call(archive: Archive) -> None:
    archive.add("remarked.png")
    async with archive.running():
        first, notes = await archive.read()
        index = archive.text("index.md")
        for _ in range(2):
            again, notes_again = await archive.read()
            assert again.there == first.read
            assert "remarked.png: Page 1: a remark." in notes
            assert "remarked.png: Page 1: a remark." in notes_again
            assert archive.text("index.md") == index


def test_an_index_keeps_every_note_whatever_its_characters_are(tmp_path: Path) -> None:
    notes = (
        Note(code="not_read", text="a | b \\ c, `d` [e](f)", pages="1-3,7"),
        Note(code="layer_incomplete", text="\u0661 of 2"),
    )
    outcomes = {"a|(b) [c].png": Outcome("read", IndexedText(12, 3456, notes)), "d.png": Outcome("there")}
    (tmp_path / "index.md").write_text(written_index("/scans", list(outcomes), outcomes, ".md"))
    assert read_index(str(tmp_path), overwrite=False)[1] == {
        str(tmp_path / f"{name}.md"): outcome.text for name, outcome in outcomes.items()
    }


def test_rows_of_an_index_that_somebody_changed_are_left_out(tmp_path: Path) -> None:
    rows = ["| [a](a.md) | , | , | read |", "| [a](a.md) | 1 | no_code_of_ours | text |", "| [b](b.md) | 1 | blank |"]
    (tmp_path / "index.md").write_text("\n".join([INDEX_MARK, *rows]))
    assert read_index(str(tmp_path), overwrite=False)[1] == {str(tmp_path / "a.md"): IndexedText()}


async def test_files_that_come_and_go_between_two_calls_are_seen(archive: Archive) -> None:
    async with archive.running():
        await archive.read()
        archive.add("new.png")
        (archive.scans / "a.png").unlink()
        assert await archive.counts() == (3, 1, 2, 0, 0)


# -- failures


async def test_one_failure_stops_none_of_the_others_and_is_tried_again_by_the_next_call(archive: Archive) -> None:
    archive.failures["b.png"] = [WorkerCrashed("It died.", remedy="Again."), UnreadableInput("Bad | file.", remedy="")]
    async with archive.running():
        folder, notes = await archive.read()
        assert counts(folder) == (3, 2, 0, 1, 0)
        assert "It died." in notes
        folder, _ = await archive.read()
        assert counts(folder) == (3, 0, 2, 1, 0)
        assert "| b.png |  |  | failed: Bad \\| file." in archive.text("index.md")
        assert await archive.counts() == (3, 1, 2, 0, 0)


@pytest.mark.parametrize("error", [EngineUnavailable, UnsupportedMode, Busy, BadRequest])
async def test_what_every_document_would_meet_ends_the_reading_at_once(error: type[OcrError], archive: Archive) -> None:
    archive.failures["b.png"] = [error("Not this one.", remedy="Another.")]
    async with archive.running():
        with pytest.raises(error, match=r"Not this one\. 1 of 3 files were done before"):
            await archive.read()
        assert archive.service.asked == ["a.png", "b.png"]
        assert await archive.counts() == (3, 2, 1, 0, 0), "the next call begins anew"


async def test_a_page_range_that_one_document_has_not_is_that_documents_failure(archive: Archive) -> None:
    archive.failures["b.png"] = [BadRequest("Page 3 is beyond the end.", remedy="Fewer.")]
    async with archive.running():
        assert await archive.counts(pages="3") == (3, 2, 0, 1, 0)


async def test_a_fault_of_ours_is_an_error_and_the_next_call_is_served(archive: Archive) -> None:
    archive.failures["a.png"] = [RuntimeError("a bug")]
    async with archive.running():
        with pytest.raises(OcrError, match="RuntimeError"):
            await archive.read()
        assert await archive.counts() == (3, 3, 0, 0, 0)


@pytest.mark.parametrize("error", [NotReady, QueueFull])
async def test_what_passes_is_waited_for_and_named_meanwhile(error: type[OcrError], archive: Archive) -> None:
    archive.failures["a.png"] = [error("The model has been loading for 9 s.", remedy="Call again.") for _ in range(3)]
    async with archive.running():
        began = anyio.current_time()
        folder, notes = await archive.read(reply_s=READ_S)
        assert counts(folder) == (3, 0, 0, 0, 3)
        assert "loading for 9 s" in notes
        assert await archive.counts() == (3, 3, 0, 0, 0)
        assert anyio.current_time() - began == pytest.approx(3 * READ_S + 3 * (READ_S / 2 + RETRY_S))


# -- callers come and go


async def test_the_answer_comes_in_time_and_the_same_call_finds_the_reading_further_on(archive: Archive) -> None:
    async with archive.running():
        folder, notes = await archive.read(reply_s=READ_S + 1)
        assert counts(folder) == (3, 1, 0, 0, 2)
        assert "call again with the same arguments" in notes
        assert "1 of 3 files" in archive.text("index.md")
        await anyio.sleep(READ_S)
        began = anyio.current_time()
        assert await archive.counts(reply_s=100) == (3, 3, 0, 0, 0)
        assert anyio.current_time() - began < READ_S
        assert archive.service.asked == ["a.png", "b.png", "c.png"]


async def test_a_reading_that_ended_meanwhile_is_answered_and_not_begun_anew(archive: Archive) -> None:
    async with archive.running():
        assert await archive.counts(overwrite=True, reply_s=0) == (3, 0, 0, 0, 3)
        await anyio.sleep(10 * READ_S)
        assert await archive.counts(overwrite=True) == (3, 3, 0, 0, 0)
        assert len(archive.service.asked) == 3
        assert await archive.counts(overwrite=True) == (3, 3, 0, 0, 0), "now it is known, and this is a new request"
        assert len(archive.service.asked) == 6


async def test_callers_with_the_same_words_share_one_reading(archive: Archive) -> None:
    found: list[Counts] = []

    async def call() -> None:
        found.append(await archive.counts(overwrite=True))

    async with archive.running() as tasks:
        for _ in range(3):
            tasks.start_soon(call)
    assert found == [(3, 3, 0, 0, 0)] * 3
    assert archive.service.asked == ["a.png", "b.png", "c.png"]


async def test_a_caller_without_the_password_shares_no_reading_with_one_who_has_it(archive: Archive) -> None:
    archive.service.passwords["b.png"] = "open sesame"
    found: dict[str, Counts] = {}

    async def call(password: str, after_s: float) -> None:
        await anyio.sleep(after_s)
        found[password] = await archive.counts(password=password)

    async with archive.running() as tasks:
        tasks.start_soon(call, "open sesame", READ_S / 10)  # both read each document at the same time
        tasks.start_soon(call, "", 0.0)
    assert found[""] == (3, 2, 0, 1, 0)
    assert found["open sesame"] == (3, 1, 2, 0, 0), "the other caller was a little faster with two of them"
    assert archive.text("b.png.md") == "b.png\n"


async def test_what_nobody_comes_back_for_ends_after_the_document_that_is_being_read(archive: Archive) -> None:
    for number in range(20):
        archive.add(f"more-{number}.png")
    async with archive.running():
        await archive.read(reply_s=1)
        await anyio.sleep(100 * READ_S)
        read = len(archive.service.read_to_the_end)
        assert read == LINGER_S // READ_S + 1
        assert await archive.counts() == (23, 23, 0, 0, 0), "those that were read before are counted, not read again"
        assert len(archive.service.asked) == 23


async def test_a_cancelled_call_stops_the_reading_unless_another_one_waits_for_it(archive: Archive) -> None:
    async with archive.running() as tasks:
        with anyio.move_on_after(READ_S * 1.25):
            await archive.read()
        await anyio.sleep(100)
        assert archive.service.read_to_the_end == ["a.png"]
        tasks.start_soon(archive.read)
        with anyio.move_on_after(READ_S * 0.25):
            await archive.read()
        await anyio.sleep(100)
        assert archive.service.read_to_the_end == ["a.png", "b.png", "c.png"]


async def test_readings_that_nobody_comes_back_for_are_forgotten(archive: Archive) -> None:
    async with archive.running():
        for number in range(MAX_JOBS + 5):
            await archive.read(save_to=f"{archive.out}{number}", reply_s=0)
            await anyio.sleep(10 * READ_S)
        assert len(archive.reader._jobs) <= MAX_JOBS + 1


async def test_a_server_that_ends_stops_the_reading(archive: Archive) -> None:
    async with archive.running():
        await archive.read(reply_s=READ_S * 1.25)
    assert archive.service.read_to_the_end == ["a.png"]


# -- what is told on the way


async def test_progress_counts_files_and_names_the_page(archive: Archive) -> None:
    async with archive.running():
        await archive.read()
    done = [step for step, _, _ in archive.steps]
    assert done == sorted(set(done))
    assert done[-1] == 3
    assert {total for _, total, _ in archive.steps} == {3.0}
    assert (1.5, 3.0, "b.png (2 of 3): page 1 of 1") in archive.steps


async def test_the_index_is_written_now_and_then_while_the_folder_is_read(archive: Archive) -> None:
    async with archive.running() as tasks:
        tasks.start_soon(archive.read)
        await anyio.sleep(READ_S + INDEX_EVERY_S + 1)
        assert "1 of 3 files" in archive.text("index.md")
        assert "| c.png |  |  | waiting |" in archive.text("index.md")


@pytest.mark.parametrize(
    ("image", "save_to", "words"),
    [("{scans}/*.webp", "{out}", "names no file that can be read"), ("{scans}", "texts", "absolute path")],
)
async def test_a_request_that_cannot_be_meant_is_refused_before_anything_is_read(
    image: str, save_to: str, words: str, archive: Archive
) -> None:
    places = {"scans": str(archive.scans), "out": str(archive.out)}
    async with archive.running():
        with pytest.raises(OcrError, match=words):
            await archive.read(image=image.format(**places), save_to=save_to.format(**places))
    assert archive.service.asked == []

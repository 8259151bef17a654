"""The document reader's own logic, on virtual time: its one decoder comes and goes, and no file outlives its use."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents.private import LOCK
from deepseek_ocr_mcp.documents.reader import EXPORTS_AT_ONCE, IDLE_EXIT_S, DocumentReader
from deepseek_ocr_mcp.engines.base import ReadOptions
from deepseek_ocr_mcp.errors import InputNotFound, OcrError, Timeout, UnreadableInput
from deepseek_ocr_mcp.export_formats import ExportOptions
from deepseek_ocr_mcp.worker.client import WorkerDied
from fake_decoder import DECODE_S, FakeDecoder
from meaning import meant
from virtual_time import counted_steps

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("virtual_time")]

DOCUMENT = ReadOptions("document")


def content(path: str | Path) -> bytes:
    return Path(path).read_bytes()


class Library:
    """A reader, the decoders that it started, and a file to read."""

    def __init__(self, tmp_path: Path) -> None:
        self.scratch = tmp_path / "scratch"
        self.scratch.mkdir()
        (self.scratch / LOCK).touch()  # as `private_folder` makes it
        self.file = tmp_path / "a.pdf"
        self.file.write_bytes(b"%PDF-1.7 which nobody parses")
        self.decoders: list[FakeDecoder] = []
        self.script: dict[str, list[BaseException | None]] = {}
        self.reader = DocumentReader(Settings(), str(self.scratch), spawn=self.spawn)

    async def spawn(self) -> FakeDecoder:
        self.decoders.append(FakeDecoder(self.script))
        return self.decoders[-1]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[DocumentReader]:
        with anyio.fail_after(100_000):
            async with self.reader.running():
                yield self.reader
        assert not any(decoder.alive for decoder in self.decoders)
        assert self.left() == []

    def left(self) -> list[str]:
        """What is in the reader's folder, without its lock and the empty folder for documents that are kept."""
        files = (str(file.relative_to(self.scratch)) for file in self.scratch.rglob("*") if file.is_file())
        return sorted(name for name in files if name != LOCK)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


# -- the decoder


async def test_no_decoder_is_started_before_a_document_comes_and_one_serves_them_all(library: Library) -> None:
    async with library.running() as reader:
        await anyio.sleep(1000)
        assert library.decoders == []
        for _ in range(3):
            async with reader.open(meant(library.file)) as document:
                assert (document.format, document.page_count) == ("PDF", 3)
        assert len(library.decoders) == 1


async def test_an_unused_decoder_ends_after_a_while_and_the_next_document_starts_another(library: Library) -> None:
    async with library.running() as reader:
        async with reader.open(meant(library.file)):
            await anyio.sleep(IDLE_EXIT_S * 10)
            assert library.decoders[0].alive, "a document is open"
        await anyio.sleep(IDLE_EXIT_S - 1)
        assert library.decoders[0].alive
        await anyio.sleep(2)
        assert not library.decoders[0].alive
        async with reader.open(meant(library.file)):
            assert len(library.decoders) == 2


async def test_each_document_begins_the_idle_time_anew(library: Library) -> None:
    async with library.running() as reader:
        for _ in range(5):
            async with reader.open(meant(library.file)):
                pass
            await anyio.sleep(IDLE_EXIT_S * 0.8)
        assert len(library.decoders) == 1
        assert library.decoders[0].alive


async def test_a_reader_without_work_does_not_wake_up(library: Library) -> None:
    async with library.running() as reader:
        async with reader.open(meant(library.file)):
            pass
        await anyio.sleep(IDLE_EXIT_S + 1)
        with counted_steps() as steps:
            await anyio.sleep(100_000 / 2)
        assert steps.count <= 2


async def test_many_callers_share_one_decoder_and_are_served_one_after_the_other(library: Library) -> None:
    async with library.running() as reader, reader.open(meant(library.file)) as document:
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for number in (1, 2, 3):
                tasks.start_soon(document.page, number)
        assert anyio.current_time() - began == pytest.approx(3 * DECODE_S)
        assert library.decoders[0].calls == ["inspect", "render", "render", "render"]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (WorkerDied(-11, ""), "crashed over page 2 of a.pdf"),
        (Timeout("", remedy=""), "page 2 of a.pdf took over"),
    ],
)
async def test_a_page_that_ends_its_decoder_is_blamed_and_the_next_page_gets_another_decoder(
    failure: BaseException, words: str, library: Library
) -> None:
    tries = 2 if isinstance(failure, WorkerDied) else 1  # a death may be somebody else's doing: it is tried again
    library.script["render"] = [None, *[failure] * tries]
    async with library.running() as reader, reader.open(meant(library.file)) as document:
        await document.page(1)
        with pytest.raises(UnreadableInput, match=words):
            await document.page(2)
        assert (await document.page(3)).height == 20
        assert len(library.decoders) == 1 + tries


async def test_an_error_that_the_decoder_answers_is_the_callers_and_costs_no_decoder(library: Library) -> None:
    refusal = OcrError("Page 1 is too large.", remedy="Send a smaller one.")
    library.script["render"] = [refusal]
    async with library.running() as reader, reader.open(meant(library.file)) as document:
        with pytest.raises(OcrError) as caught:
            await document.page(1)
        assert caught.value is refusal
        await document.page(2)
        assert len(library.decoders) == 1


# -- text layers


@pytest.mark.parametrize(
    ("failure", "why"),
    [(WorkerDied(-11, ""), "crashed over its text layer"), (Timeout("", remedy=""), "took too long")],
)
async def test_a_text_layer_that_ends_a_decoder_is_asked_of_that_document_no_more(
    failure: BaseException, why: str, library: Library
) -> None:
    tries = 2 if isinstance(failure, WorkerDied) else 1
    library.script["text_layer"] = [failure] * tries
    async with library.running() as reader:
        async with reader.open(meant(library.file)) as document:
            first = await document.text_layer(1)
            assert (first.usable, why in first.why) == (False, True)
            second = await document.text_layer(2)
            assert (second.usable, "another page" in second.why) == (False, True)
            await document.page(2)  # it may still be drawn
        assert [decoder.calls for decoder in library.decoders] == [
            ["inspect", "text_layer"],
            *[["text_layer"]] * (tries - 1),
            ["render"],
        ]
        async with reader.open(meant(library.file)) as document:
            assert (await document.text_layer(1)).usable, "another document, another chance"


# -- files


async def test_what_a_document_needs_on_disk_is_gone_when_it_is_closed_whatever_happened(library: Library) -> None:
    async with library.running() as reader:
        async with reader.open(meant(library.file)) as document:
            image = await document.page(1)
            assert os.path.dirname(image.path) == os.path.dirname(document.snapshot.path)
            document.discard(image)
            document.discard(image)  # twice is no error
            await document.page(2)
        await anyio.sleep(1)
        assert library.left() == []
        library.script["inspect"] = [UnreadableInput("No.", remedy="Another.")]
        with pytest.raises(UnreadableInput):
            async with reader.open(meant(library.file)):
                raise AssertionError
        await anyio.sleep(1)
        assert library.left() == []
        with anyio.move_on_after(DECODE_S / 2):
            async with reader.open(meant(library.file)):
                raise AssertionError
        await anyio.sleep(1)
        assert library.left() == []


async def test_a_document_that_is_received_is_taken_over_and_its_sender_may_leave(library: Library) -> None:
    async with library.running() as reader:
        async with reader.receive() as incoming:
            incoming.name = "sent.pdf"
            await incoming.write(b"%PDF-1.7 sent")
            snapshot = await incoming.snapshot()
            opened = reader.open(snapshot)
            document = await opened.__aenter__()
        await anyio.sleep(1)
        assert content(document.snapshot.path) == b"%PDF-1.7 sent"
        await document.page(1)
        await opened.__aexit__(None, None, None)
        await anyio.sleep(1)
        assert library.left() == []


async def test_a_document_that_is_kept_is_one_file_for_all_holders_and_goes_with_the_last(library: Library) -> None:
    async with library.running() as reader:
        kept = []
        for _ in range(2):
            async with reader.open(meant(library.file)) as document:
                kept.append(await document.keep())
        assert kept[0] is kept[1]
        await anyio.sleep(1)
        assert len(library.left()) == 1
        kept[0].let_go()
        async with reader.open(kept[1]) as again:
            assert content(again.snapshot.path) == content(library.file)
        await anyio.sleep(1)
        kept[1].let_go()
        assert library.left() == []
        with pytest.raises(InputNotFound, match="not kept any more"):
            async with reader.open(kept[0]):
                raise AssertionError
        async with reader.open(meant(library.file)) as document:
            new = await document.keep()
        assert new is not kept[0]
        assert new.alive


# -- exports


async def test_exports_have_decoders_of_their_own_a_few_at_once_and_leave_nothing(library: Library) -> None:
    most = 0
    async with library.running() as reader:

        async def export() -> None:
            nonlocal most
            async with reader.exported("docx", [{"text": "a page"}], ExportOptions()) as path:
                most = max(most, sum(decoder.alive for decoder in library.decoders))
                assert content(path) == b"export"

        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(2 * EXPORTS_AT_ONCE):
                tasks.start_soon(export)
        assert anyio.current_time() - began == pytest.approx(2 * DECODE_S)
        assert [decoder.calls for decoder in library.decoders] == [["export"]] * 2 * EXPORTS_AT_ONCE
        assert most <= EXPORTS_AT_ONCE
        await anyio.sleep(1)
        assert library.left() == []


async def test_clients_take_turns_with_exports(library: Library) -> None:
    ended = []
    async with library.running() as reader:

        async def export(client: str) -> None:
            async with reader.exported("docx", [{"text": "a page"}], ExportOptions(), client=client):
                ended.append(client)

        async with anyio.create_task_group() as tasks:
            for _ in range(3 * EXPORTS_AT_ONCE):
                tasks.start_soon(export, "many")
            await anyio.sleep(DECODE_S / 2)
            tasks.start_soon(export, "one")
    assert "one" in ended[: 3 * EXPORTS_AT_ONCE - 1], "it waits for what is under way, and not for what waits"
    assert len(ended) == 3 * EXPORTS_AT_ONCE + 1


async def test_an_export_of_a_document_has_it_inspected_first_and_blames_it_for_a_crash(library: Library) -> None:
    library.script["export"] = [WorkerDied(-11, "")]
    async with library.running() as reader:
        async with reader.open(meant(library.file)) as document:
            with pytest.raises(UnreadableInput, match=r"crashed over a\.pdf"):
                async with reader.exported("pdf", [], ExportOptions(), document.snapshot):
                    raise AssertionError
            assert library.decoders[1].calls == ["inspect", "export"]
            assert not library.decoders[1].alive
            await document.page(1)
        await anyio.sleep(1)
        assert library.left() == []

"""Locked PDFs: with their password they are read like any other, and what is made of them stays locked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pypdfium2
import pytest

from deepseek_ocr_mcp.caller import Caller
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.decoder.renderer import PageRenderer
from deepseek_ocr_mcp.documents.argument import Argument
from deepseek_ocr_mcp.documents.private import LOCK
from deepseek_ocr_mcp.documents.reach import Reach
from deepseek_ocr_mcp.documents.reader import DocumentReader
from deepseek_ocr_mcp.documents.source import Snapshot
from deepseek_ocr_mcp.errors import PasswordNeeded
from deepseek_ocr_mcp.models import OcrRequest
from deepseek_ocr_mcp.service.progress import Terms
from fake_decoder import FakeDecoder
from locked_pdf import locked_pdf
from pdf_maker import Sheet, born_digital
from support import running

WORD = "geheim-ä"
OPTIONS = {"title": "", "mode": "document", "paper": "a4", "upright": False}


class Waiting:
    """A `Call` whose caller waits."""

    def progress(self, done: float, message: str = "") -> None: ...
    def raise_if_cancelled(self) -> None: ...


@pytest.fixture
def renderer() -> PageRenderer:
    return PageRenderer()


def file_of(folder: Path, data: bytes) -> dict[str, Any]:
    path = folder / "locked.pdf"
    path.write_bytes(data)
    return {"path": str(path), "name": "locked.pdf"}


def inspected(renderer: PageRenderer, file: dict[str, Any]) -> int:
    return int(renderer.inspect(file, max_pixels=10_000_000, max_pages=10, call=Waiting())["pages"])


@pytest.mark.parametrize("password", [WORD, "owner's own"])
def test_a_locked_pdf_is_drawn_and_its_text_is_taken(tmp_path: Path, renderer: PageRenderer, password: str) -> None:
    field = "/Subtype /FreeText /Rect [100 300 400 330] /DA (/F1 12 Tf 0 g) /Contents (A note) /AP << /N 50 0 R >>"
    sheet = born_digital("Secret Title").annotation(field)
    file = file_of(tmp_path, locked_pdf(sheet, user=WORD)) | {"password": password}
    assert inspected(renderer, file) == 1
    asked = {"page": 1, "dpi": 50, "max_pixels": 10_000_000, "call": Waiting()}
    assert renderer.render(file, **asked, out=str(tmp_path / "out"))["width"] > 400
    assert renderer.preview(file, **asked, side=100, out=str(tmp_path / "out"))["mime"].startswith("image/")
    layer = renderer.text_layer(file, **asked)
    assert "Secret Title" in json.dumps(layer["reading"])


@pytest.mark.parametrize(("password", "words"), [("", "is locked with a password"), ("guess", "does not open with")])
def test_a_missing_and_a_wrong_password_are_told_apart_and_not_repeated(
    tmp_path: Path, renderer: PageRenderer, password: str, words: str
) -> None:
    file = file_of(tmp_path, locked_pdf(Sheet(), user=WORD)) | {"password": password}
    with pytest.raises(PasswordNeeded, match=words) as caught:
        inspected(renderer, file)
    assert "guess" not in str(caught.value)
    assert "OCR_PDF_PASSWORD" in caught.value.remedy


def test_a_pdf_that_only_forbids_copies_opens_whatever_password_comes_along(
    tmp_path: Path, renderer: PageRenderer
) -> None:
    file = file_of(tmp_path, locked_pdf(Sheet(), user=""))
    assert inspected(renderer, file | {"password": "of another document"}) == 1


def test_a_document_that_is_open_is_not_lent_to_a_caller_without_its_password(
    tmp_path: Path, renderer: PageRenderer
) -> None:
    file = file_of(tmp_path, locked_pdf(Sheet(), user=WORD))
    assert inspected(renderer, file | {"password": WORD}) == 1
    with pytest.raises(PasswordNeeded):
        inspected(renderer, file)


def test_a_searchable_pdf_of_a_locked_one_is_locked_too(tmp_path: Path, renderer: PageRenderer) -> None:
    file = file_of(tmp_path, locked_pdf(Sheet().picture(0, 0, 595, 842), user=WORD)) | {"password": WORD}
    pages, out = tmp_path / "pages.json", tmp_path / "out.pdf"
    block = {"label": "line", "text": "read words", "box": [100, 100, 400, 130]}
    pages.write_text(json.dumps([{"page": 1, "width": 595, "height": 842, "text": "read words", "blocks": [block]}]))
    document = {"file": file, "dpi": 72, "max_pixels": 10_000_000}
    renderer.export("pdf", str(pages), OPTIONS, str(out), Waiting(), document)
    with pytest.raises(pypdfium2.PdfiumError, match="password"):
        pypdfium2.PdfDocument(out)
    with pypdfium2.PdfDocument(out, password=WORD) as made:
        assert made[0].get_textpage().get_text_range().strip() == "read words"
    shown = subprocess.run(["pdftotext", "-opw", "owner's own", out, "-"], capture_output=True, text=True)
    assert (shown.stdout.split(), shown.returncode) == (["read", "words"], 0)


# -- the reader


class Listening(FakeDecoder):
    """Remembers the password of each call."""

    def __init__(self) -> None:
        super().__init__({})
        self.passwords: list[str] = []

    async def call(self, method: str, arguments: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        self.passwords.append(arguments["file"].get("password", ""))
        return await super().call(method, arguments, timeout=timeout)


@pytest.mark.anyio
@pytest.mark.usefixtures("virtual_time")
async def test_each_call_about_a_document_brings_its_password_and_no_file_holds_it(tmp_path: Path) -> None:
    decoder, scratch = Listening(), tmp_path / "scratch"
    scratch.mkdir()
    (scratch / LOCK).touch()
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7 which nobody parses")

    async def spawn() -> Listening:
        return decoder

    async with DocumentReader(Settings(), str(scratch), spawn=spawn).running() as reader:
        path = Argument.of(str(tmp_path / "a.pdf"), Reach())
        async with reader.open(path, password=WORD) as document:
            await document.page(1)
            await document.text_layer(1)
            await document.preview(1, 100)
            assert decoder.passwords == [WORD] * 4
            assert WORD not in repr(document)
            assert not any(WORD.encode() in path.read_bytes() for path in scratch.rglob("*") if path.is_file())
            with_password = await document.keep()
        upload = tmp_path / "upload.pdf"
        upload.write_bytes(b"%PDF-1.7 which nobody parses")
        sent = Snapshot(str(upload), "a.pdf", document.snapshot.sha256, upload.stat().st_size)
        async with reader.open(sent) as stranger:
            assert decoder.passwords[-1] == ""
            without = await stranger.keep()
        assert without is not with_password, "the same bytes, but not for the same people"
        async with reader.open(without):
            assert decoder.passwords[-1] == ""
        async with reader.open(with_password):
            assert decoder.passwords[-1] == WORD
        for kept in (without, with_password):
            kept.let_go()


@pytest.mark.anyio
async def test_the_password_of_the_settings_is_for_callers_on_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "locked.pdf"
    path.write_bytes(locked_pdf(born_digital("Secret Title"), user=WORD))
    async with running("Echo", ocr_pdf_password=WORD, ocr_allowed_dirs=str(tmp_path)) as service:
        asked = OcrRequest(image=str(path))
        assert "Secret Title" in (await service.ocr(asked, Caller())).result.text
        with pytest.raises(PasswordNeeded):
            await service.ocr(asked, Caller("elsewhere", is_local=False))
        terms = Terms(password=WORD)
        assert "Secret Title" in (await service.ocr(asked, Caller("elsewhere", is_local=False), terms)).result.text

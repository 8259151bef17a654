"""`ocr_to_files` writes every format that the suffix of `save_to` names, of one document and of a folder."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pypdfium2
import pytest

from deepseek_ocr_mcp.export_formats import EXPORT_FORMATS
from pdf_maker import Sheet, born_digital, pdf
from support import Call, blocking_client, facts, png, said


@pytest.fixture(scope="module")
def call() -> Iterator[Call]:
    with blocking_client() as shared:
        yield shared


def table() -> Sheet:
    """A ruled table of two rows and two columns."""
    sheet = Sheet().text(72, 60, "A page with a table", 18)
    for y in (100, 120, 140):
        sheet.rule(72, y, 272, y)
    for x in (72, 172, 272):
        sheet.rule(x, 100, x, 140)
    for x, y, word in ((80, 114, "Item"), (180, 114, "Price"), (80, 134, "Tea"), (180, 134, "2.50")):
        sheet.text(x, y, word)
    return sheet


def text_of(data: bytes, suffix: str) -> str:
    """The text of a file of this format."""
    if suffix == "pdf":
        with pypdfium2.PdfDocument(data) as document:
            return "\n".join(page.get_textpage().get_text_bounded() for page in document)
    if suffix in ("docx", "xlsx"):
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            return "\n".join(parts.read(name).decode("utf-8", "replace") for name in parts.namelist())
    return data.decode()


@pytest.mark.parametrize("suffix", EXPORT_FORMATS)
def test_the_suffix_decides_the_format(suffix: str, tmp_path: Path, call: Call) -> None:
    source, target = tmp_path / "in.pdf", tmp_path / f"out.{suffix}"
    source.write_bytes(pdf(born_digital(), table()))
    result = call("ocr_to_files", image=str(source), save_to=str(target))
    answer = facts(result)
    assert (answer["saved_to"], answer["finished"], answer["pages_read"]) == (str(target), True, 2)
    assert answer["chars"] > 100
    assert str(target) in said(result)
    assert "concept of the word processor" not in result.model_dump_json(), "the text is in the file alone"
    text = text_of(target.read_bytes(), suffix)
    assert "Price" in text
    holds_all = "concept" in text
    assert holds_all is (suffix not in ("csv", "xlsx"))
    assert ("The whole text is in" in said(result)) is holds_all
    assert ("without the text around them" in said(result)) is not holds_all


def test_a_json_file_has_the_boxes_of_lines_and_the_notes(tmp_path: Path, call: Call) -> None:
    (tmp_path / "in.pdf").write_bytes(pdf(born_digital()))
    arguments = {"image": f"{tmp_path}/in.pdf", "save_to": f"{tmp_path}/out.json"}
    facts(call("ocr_to_files", **arguments))
    saved = json.loads((tmp_path / "out.json").read_text())
    [page] = saved["pages"]
    assert page["blocks"][0]["text"] == "A Title of this Page"
    assert "words" not in page["blocks"][0]
    assert saved["notes"] == []


def test_a_text_file_has_no_markup(tmp_path: Path, call: Call) -> None:
    (tmp_path / "in.pdf").write_bytes(pdf(born_digital("The __init__ of *it*")))
    for name, mode in (("a.txt", {}), ("b.txt", {"mode": "document"})):
        arguments = {"image": f"{tmp_path}/in.pdf", "save_to": f"{tmp_path}/{name}", **mode}
        facts(call("ocr_to_files", **arguments))
        assert (tmp_path / name).read_text().startswith("The __init__ of *it*\n")


def test_a_document_without_a_table_costs_that_document_alone(tmp_path: Path, call: Call) -> None:
    inbox = tmp_path / "in"
    inbox.mkdir()
    (inbox / "a.pdf").write_bytes(pdf(born_digital()))
    (inbox / "b.pdf").write_bytes(pdf(table()))
    refused = call("ocr_to_files", image=f"{inbox}/a.pdf", save_to=f"{tmp_path}/a.csv")
    assert refused.is_error
    assert "no table" in said(refused)
    assert not (tmp_path / "a.csv").exists()
    answer = facts(call("ocr_to_files", image=str(inbox), save_to=f"{tmp_path}/out/*.csv"))
    folder = answer["folder"]
    assert (folder["read"], folder["failed"], folder["left"]) == (1, 1, 0)
    assert "Tea,2.50" in (tmp_path / "out" / "b.pdf.csv").read_text()


def test_files_that_were_written_beside_their_documents_are_no_documents(tmp_path: Path, call: Call) -> None:
    (tmp_path / "a.png").write_bytes(png())
    arguments = {"image": str(tmp_path), "save_to": f"{tmp_path}/*.pdf"}
    for read in (1, 0):
        folder = facts(call("ocr_to_files", **arguments))["folder"]
        assert (folder["found"], folder["read"]) == (1, read)
    assert set(os.listdir(tmp_path)) == {"a.png", "a.png.pdf", "index.md"}

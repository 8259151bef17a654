"""A page is read once: each mode, search, detail and picture of it is made from that one reading."""

from __future__ import annotations

import base64
import io
import os
import re
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from mcp import Client
from PIL import Image

from deepseek_ocr_mcp.documents.reader import DocumentReader
from pdf_maker import born_digital, pdf
from support import as_base64, client, facts, said, written

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
INVOICE = as_base64(written("Invoice KX-4471\nTotal: 74.50\nIBAN DE02 1203 0000"))
LOOKS: list[dict[str, Any]] = [
    {},
    {"mode": "ocr"},
    {"mode": "free"},
    {"find_term": "IBAN"},
    {"find_term": "total"},
    {"find_term": "nowhere"},
    {"boxes": "lines"},
    {"boxes": "words"},
    {"annotate": True},
    {"max_chars": 10},
]


async def look(mcp: Client, image: str, **arguments: Any) -> dict[str, Any]:
    return facts(await mcp.call_tool("ocr_image", {"image": image, **arguments}))


async def pages_read(mcp: Client) -> int:
    return int(facts(await mcp.call_tool("gpu_status", {}))["served"])


async def test_every_mode_term_and_detail_of_a_picture_comes_from_one_reading() -> None:
    async with client("rapidocr", ocr_cache="on") as mcp:
        answers = [await look(mcp, INVOICE, **arguments) for arguments in LOOKS]
        assert await pages_read(mcp) == 1
    document, lines, free, iban, total, nowhere, *_ = answers
    assert "74.50" in document["text"]
    assert "74.50" in free["text"]
    assert lines["text"].splitlines()[0] == "Invoice KX-4471"
    assert (iban["text"], total["text"], nowhere["text"]) == ("IBAN DE02 1203 0000", "Total: 74.50", "")
    assert all(answer.get("cached") for answer in answers[1:])


async def test_files_of_every_kind_come_from_the_same_reading(tmp_path: Path) -> None:
    page = tmp_path / "invoice.png"
    page.write_bytes(base64.b64decode(INVOICE))
    async with client("rapidocr", ocr_cache="on") as mcp:
        await look(mcp, str(page))
        for suffix in ("docx", "pdf", "hocr", "xml", "json", "txt"):
            asked = {"image": str(page), "save_to": str(tmp_path / f"out.{suffix}")}
            assert facts(await mcp.call_tool("ocr_to_files", asked))["saved_to"]
        assert await pages_read(mcp) == 1
    with pypdfium2.PdfDocument(tmp_path / "out.pdf") as made:
        text = made[0].get_textpage().get_text_range()
        assert text.split() == "Invoice KX-4471 Total: 74.50 IBAN DE02 1203 0000".split()  # noqa: SIM905


async def test_a_search_through_a_document_that_was_read_reads_nothing() -> None:
    pages = [Image.open(io.BytesIO(written(f"Minutes of meeting {n}\nKX-{n}00"))).convert("L") for n in range(1, 5)]
    data = io.BytesIO()
    pages[0].save(data, "TIFF", save_all=True, append_images=pages[1:])
    async with client("rapidocr", ocr_cache="on") as mcp:
        await look(mcp, as_base64(data.getvalue()))
        found = await look(mcp, as_base64(data.getvalue()), find_term="KX-300")
        assert [page["page"] for page in found["pages"] if page.get("blocks")] == [3]
        assert await pages_read(mcp) == 4


async def test_words_come_with_their_boxes_only_where_they_are_asked_for() -> None:
    async with client("rapidocr", ocr_cache="on") as mcp:
        [page] = (await look(mcp, INVOICE, boxes="words"))["pages"]
        words = [word for block in page["blocks"] for word in block["words"]]
        assert [word["text"] for word in words[:2]] == ["Invoice", "KX-4471"]
        assert words[0]["box"][2] < words[1]["box"][0]
        [page] = (await look(mcp, INVOICE, boxes="lines"))["pages"]
        assert all("words" not in block for block in page["blocks"])
        [page] = (await look(mcp, INVOICE, find_term="total"))["pages"]
        [hit] = page["blocks"]
        assert hit["text"] == "Total", "without the colon behind it"


async def test_the_own_text_of_a_page_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []
    text_layer = DocumentReader.text_layer

    async def counted(self: DocumentReader, *args: Any, **kwargs: Any) -> Any:
        looked_up.append(args)
        return await text_layer(self, *args, **kwargs)

    monkeypatch.setattr(DocumentReader, "text_layer", counted)
    document = as_base64(pdf(born_digital()))
    async with client("rapidocr", ocr_cache="on") as mcp:
        for arguments in ({}, {"mode": "ocr"}, {"find_term": "word processor"}, {"find_term": "item"}):
            assert (await look(mcp, document, **arguments))["text"]
        assert await pages_read(mcp) == 0
    assert len(looked_up) == 1


async def test_an_engine_of_somebodys_own_may_give_readings() -> None:
    async with client("Lines", ocr_cache="on") as mcp:
        assert "first line" in (await look(mcp, INVOICE))["text"]
        [hit] = (await look(mcp, INVOICE, find_term="second"))["pages"][0]["blocks"]
        assert hit["text"] == "second"
        assert (await look(mcp, INVOICE, mode="free"))["text"].split() == ["first", "line", "second", "line"]
        assert await pages_read(mcp) == 1


STAND_INS = {
    "my_ocr": "def find_lines(page): return [('Total: 74.50', (10, 10, 130, 30), 0.9)]",
    "my_model": "def ask(page, question): return question",
}


@pytest.mark.parametrize(("name", "answered"), [("LineEngine", "Total: 74.50"), ("TextEngine", "74.50")])
async def test_the_engines_that_the_documentation_shows_read(
    name: str, answered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "own-engine.md").read_text(), re.DOTALL)
    [code] = [block for block in blocks if f"class {name}" in block]
    assert len([line for line in code.splitlines() if line.strip()]) <= 13
    (tmp_path / "shown.py").write_text(code)
    for module, stand_in in STAND_INS.items():
        (tmp_path / f"{module}.py").write_text(stand_in)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    async with client(f"shown:{name}") as mcp:
        assert (await look(mcp, INVOICE, find_term="74.50"))["text"].count(answered)


async def test_an_engine_that_writes_text_itself_is_asked_for_each_mode() -> None:
    async with client(ocr_cache="on") as mcp:
        for mode in ("document", "ocr", "document"):
            assert (await look(mcp, INVOICE, mode=mode))["text"]
        assert await pages_read(mcp) == 2


async def test_a_remark_on_a_page_is_kept_with_its_reading_but_not_on_disk(tmp_path: Path) -> None:
    async with client("Puzzled", ocr_cache="on", ocr_cache_dir=str(tmp_path)) as mcp:
        for mode in ("document", "free"):
            result = await mcp.call_tool("ocr_image", {"image": INVOICE, "mode": mode})
            assert "Some lines could not be read." in said(result)
        assert await pages_read(mcp) == 1
    async with client("Puzzled", ocr_cache="on", ocr_cache_dir=str(tmp_path)) as mcp:
        await look(mcp, INVOICE)
        assert await pages_read(mcp) == 1, "by now there may be data of another language"


async def test_a_reading_that_is_none_is_an_error_of_the_engine() -> None:
    async with client("Nonsense") as mcp:
        result = await mcp.call_tool("ocr_image", {"image": INVOICE})
    assert result.is_error
    assert "no page" in said(result)


async def test_a_damaged_page_of_a_picture_file_costs_that_page_of_its_pdf(tmp_path: Path) -> None:
    pages = [Image.open(io.BytesIO(written(f"Minutes {n} of the board"))).convert("RGB") for n in (1, 2)]
    data = io.BytesIO()
    pages[0].save(data, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    broken = bytearray(data.getvalue())
    with Image.open(io.BytesIO(data.getvalue())) as file:
        file.seek(1)
        begin = file.tag_v2[273][0]  # where the strips of the second page begin
    broken[begin + 20 : begin + 200] = b"\xff" * 180
    (tmp_path / "scan.tiff").write_bytes(broken)
    async with client("rapidocr") as mcp:
        asked = {"image": str(tmp_path / "scan.tiff"), "save_to": str(tmp_path / "out.pdf")}
        answer = facts(await mcp.call_tool("ocr_to_files", asked))
    assert [note["pages"] for note in answer["notes"] if note["code"] == "page_failed"] == ["2"]
    with pypdfium2.PdfDocument(tmp_path / "out.pdf") as made:
        assert len(made) == 2
        assert "Minutes" in made[0].get_textpage().get_text_range()


async def test_a_searchable_pdf_is_turned_upright_if_asked(tmp_path: Path) -> None:
    page = Image.open(io.BytesIO(written("Minutes of the board"))).convert("RGB")
    page.rotate(-90, expand=True).save(tmp_path / "scan.png")
    async with client("rapidocr") as mcp:
        for upright, name in ((False, "as-it-lies.pdf"), (True, "upright.pdf")):
            asked = {"image": f"{tmp_path}/scan.png", "save_to": f"{tmp_path}/{name}", "upright": upright}
            facts(await mcp.call_tool("ocr_to_files", asked))
    turns = []
    for name in ("as-it-lies.pdf", "upright.pdf"):
        with pypdfium2.PdfDocument(tmp_path / name) as made:
            assert "Minutes" in made[0].get_textpage().get_text_range()
            turns.append(made[0].get_rotation())
    assert turns == [0, 270]

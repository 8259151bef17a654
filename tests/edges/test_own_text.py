"""PDF pages that hold their text themselves, at every edge: taken, not read; page by page; and the answer says so."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from forked import run_program
from pdf_maker import born_digital, garbled, invisible, pdf, scanned
from support import BOUND_S, HttpServer, Servers, as_base64, client, facts, png, said

pytestmark = pytest.mark.anyio

# The engine `faults:Echo` answers the size of the picture that it is given, 1653x2339, and its fingerprint.


@pytest.fixture
def server(serve: Servers) -> HttpServer:
    return serve()


@pytest.fixture
async def http(server: HttpServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.root, timeout=60) as made:
        yield made


def mixed() -> str:
    """Two pages with text, between them a scan, one whose characters mean nothing, and one of an earlier OCR."""
    return as_base64(pdf(born_digital(), scanned(), garbled(), invisible(), born_digital("The last page")))


async def test_a_born_digital_document_is_answered_without_a_worker() -> None:
    document = as_base64(pdf(born_digital(), born_digital("Second page")))
    async with client() as mcp:
        result = await mcp.call_tool("ocr_image", {"image": document, "boxes": True})
        answer = facts(result)
        assert [page["source"] for page in answer["pages"]] == ["text_layer", "text_layer"]
        assert said(result).startswith("# A Title of this Page\n\nThe concept of the word processor")
        assert "# Second page" in said(result)
        assert (answer["engine"], answer["device"], answer["model"]) == ("text_layer", "cpu", "")
        assert answer["timing"]["load_s"] == answer["timing"]["infer_s"] == 0
        first = answer["pages"][0]
        assert (first["width"], first["height"]) == (1653, 2339)
        assert first["blocks"][0]["label"] == "title"
        assert first["blocks"][0]["box"][0] == pytest.approx(72 * 200 / 72, abs=6)
        status = facts(await mcp.call_tool("gpu_status", {}))
        assert (status["state"], status["served"]) == ("unloaded", 0)
        assert "worker_pid" not in status


async def test_a_mixed_document_is_read_where_it_must_be() -> None:
    async with client() as mcp:
        answer = facts(await mcp.call_tool("ocr_image", {"image": mixed()}))
        assert [page.get("source") for page in answer["pages"]] == ["text_layer", None, None, None, "text_layer"]
        assert [page["text"][:9] for page in answer["pages"]][1:4] == ["1653x2339"] * 3
        assert (answer["engine"], answer["model"]) == ("Echo", "echo"), "of the pages that an engine has read"
        assert facts(await mcp.call_tool("gpu_status", {}))["served"] == 3


async def test_a_page_with_drawn_letters_is_read_in_part_and_each_block_says_which_it_is() -> None:
    sheet = born_digital().strokes(100, 500, "SECTION PLAN", 24).text(72, 600, "The last line of the page.")
    document = as_base64(pdf(sheet))
    async with client("rapidocr", ocr_cache="on") as mcp:
        result = await mcp.call_tool("ocr_image", {"image": document, "boxes": True})
        [page] = facts(result)["pages"]
        assert page["source"] == "mixed"
        assert (
            page["text"].index("the second one") < page["text"].index("SECTION PLAN") < page["text"].index("The last")
        )
        sources = {block["text"]: block["source"] for block in page["blocks"]}
        assert sources["SECTION PLAN"] == "read"
        assert {source for text, source in sources.items() if text != "SECTION PLAN"} == {"text_layer"}
        [drawn] = [block for block in page["blocks"] if block["source"] == "read"]
        assert drawn["score"] > 0.5
        assert drawn["box"][0] == pytest.approx(100 * 200 / 72, abs=16)
        assert drawn["box"][3] == pytest.approx(500 * 200 / 72, abs=16)
        found = await mcp.call_tool("ocr_image", {"image": document, "find_term": "section plan"})
        assert len(facts(found)["pages"][0]["blocks"]) == 1
        only = await mcp.call_tool("ocr_image", {"image": document, "text_layer": "only"})
        assert facts(only)["pages"][0]["source"] == "text_layer"
        assert "Page 1: not all of it was read: some of its text is drawn, not written." in said(only)


async def test_ignored_the_layer_is_not_looked_at() -> None:
    document = as_base64(pdf(born_digital()))
    async with client(ocr_cache="on") as mcp:
        for _ in range(2):  # neither takes what was cached for the other
            own = facts(await mcp.call_tool("ocr_image", {"image": document}))
            assert own["pages"][0]["source"] == "text_layer"
            read = facts(await mcp.call_tool("ocr_image", {"image": document, "text_layer": "ignore"}))
            assert "source" not in read["pages"][0]
            assert read["text"].startswith("1653x2339")
        assert own["cached"] is read["cached"] is True
        assert facts(await mcp.call_tool("gpu_status", {}))["served"] == 1


async def test_only_never_reads_and_says_of_each_page_why_it_has_nothing() -> None:
    async with client() as mcp:
        result = await mcp.call_tool("ocr_image", {"image": mixed(), "text_layer": "only"})
        answer = facts(result)
        assert [page.get("source") for page in answer["pages"]] == ["text_layer", None, None, None, "text_layer"]
        assert [bool(page["text"]) for page in answer["pages"]] == [True, False, False, False, True]
        for note in (
            "Page 2: no usable text layer: it has none.",
            "Page 3: no usable text layer: the characters are garbled, no Unicode map.",
            "Page 4: no usable text layer: the text is invisible, as that of an earlier OCR.",
        ):
            assert note in said(result)
        assert "hidden" not in said(result), "what nobody sees does not reach the model"
        assert "blank" not in said(result)
        picture = await mcp.call_tool("ocr_image", {"image": as_base64(png()), "text_layer": "only"})
        assert said(picture) == "Page 1: no usable text layer: a picture has none."
        status = facts(await mcp.call_tool("gpu_status", {}))
        assert (status["state"], status["served"]) == ("unloaded", 0)


async def test_pictures_that_were_not_read_are_mentioned_each_time() -> None:
    document = as_base64(pdf(*[born_digital().picture(72, 300, 332, 560) for _ in range(2)], born_digital()))
    async with client(ocr_cache="on") as mcp:
        for _ in range(2):
            result = await mcp.call_tool("ocr_image", {"image": document})
            assert "Pages 1-2: pictures were not read; text_layer=ignore reads them, too." in said(result)
        assert facts(result)["cached"] is True


async def test_pages_without_a_layer_for_one_reason_are_told_in_one_sentence() -> None:
    document = as_base64(pdf(*(scanned() for _ in range(9)), born_digital()))
    async with client() as mcp:
        result = await mcp.call_tool("ocr_image", {"image": document, "text_layer": "only"})
    assert said(result).count("no usable text layer") == 1
    assert "Pages 1-9: no usable text layer: it has none." in said(result)


@pytest.mark.parametrize("mode", ["describe", "figure", "freeform"])
async def test_modes_that_look_at_a_page_never_take_its_text(mode: str) -> None:
    asked = {"image": as_base64(pdf(born_digital())), "mode": mode, "custom_prompt": "What is this?"}
    async with client() as mcp:
        answer = facts(await mcp.call_tool("ocr_image", asked))
        assert "source" not in answer["pages"][0]
        refused = await mcp.call_tool("ocr_image", {**asked, "text_layer": "only"})
        assert refused.is_error
        assert "text_layer=only never does" in said(refused)


@pytest.mark.parametrize(
    ("given", "taken"), [("true", True), ("off", False), ("Ignore", False), ("force-ocr", False), ("", True)]
)
async def test_what_agents_write_instead_is_understood(given: str, taken: bool) -> None:
    async with client() as mcp:
        answer = facts(await mcp.call_tool("ocr_image", {"image": as_base64(pdf(born_digital())), "text_layer": given}))
        assert ("source" in answer["pages"][0]) == taken


async def test_a_use_that_nobody_knows_is_refused_with_the_names() -> None:
    async with client() as mcp:
        refused = await mcp.call_tool("ocr_image", {"image": as_base64(pdf(born_digital())), "text_layer": "purple"})
        assert refused.is_error
        assert "auto, ignore, only" in said(refused)


async def test_find_has_its_boxes_from_the_layer_and_tells_the_page() -> None:
    document = as_base64(pdf(scanned(), born_digital()))
    async with client() as mcp:
        result = await mcp.call_tool("ocr_image", {"image": document, "find_term": "word processor", "pages": "2"})
    [page] = facts(result)["pages"]
    [hit] = page["blocks"]
    assert (hit["label"], hit["text"], page["source"]) == ("word processor", "word processor", "text_layer")
    assert said(result).startswith("Page 2: The concept of the word processor")
    assert hit["box"][2] - hit["box"][0] == pytest.approx(80 * 200 / 72, rel=0.1)


async def test_a_long_document_in_parts_has_its_table_of_contents_and_is_taken_once() -> None:
    document = as_base64(pdf(*(born_digital(f"Chapter {number}") for number in range(1, 41))))
    async with client("Counting", ocr_cache="on") as mcp:
        seen: list[int] = []
        pages = ""
        while True:
            result = await mcp.call_tool("ocr_image", {"image": document, "max_chars": 3000, "pages": pages})
            answer = facts(result)
            if not seen:
                assert answer["contents"][0] == {
                    "page": 1,
                    "heading": "Chapter 1",
                    "chars": len(answer["pages"][0]["text"]),
                }
            assert {page["source"] for page in answer["pages"]} == {"text_layer"}
            seen += [page["page"] for page in answer["pages"]]
            if not (pages := answer.get("next_pages", "")):
                break
        assert seen == list(range(1, 41))
        assert facts(await mcp.call_tool("gpu_status", {}))["state"] == "unloaded"


async def test_ten_callers_have_each_page_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from deepseek_ocr_mcp.documents.reader import Document

    looked: list[int] = []
    look = Document.text_layer

    async def counted(self: Document, number: int, *rest: Any) -> Any:
        looked.append(number)
        return await look(self, number, *rest)

    monkeypatch.setattr(Document, "text_layer", counted)
    document = as_base64(pdf(*(born_digital(f"Chapter {number}") for number in range(1, 7))))
    async with client(ocr_cache="on") as mcp, anyio.create_task_group() as tasks:
        answers: list[str] = []

        async def ask() -> None:
            answers.append(facts(await mcp.call_tool("ocr_image", {"image": document}))["text"])

        for _ in range(10):
            tasks.start_soon(ask)
    assert len(answers) == 10
    assert len(set(answers)) == 1
    assert sorted(looked) == [1, 2, 3, 4, 5, 6]


async def test_a_saved_document_and_a_folder_take_it_too(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.pdf").write_bytes(pdf(born_digital()))
    (tmp_path / "in" / "b.pdf").write_bytes(pdf(scanned()))
    async with client() as mcp:
        facts(await mcp.call_tool("ocr_to_files", {"image": f"{tmp_path}/in/a.pdf", "save_to": f"{tmp_path}/a.json"}))
        saved = json.loads((tmp_path / "a.json").read_text())
        assert saved["pages"][0]["source"] == "text_layer"
        assert saved["pages"][0]["blocks"]
        asked = {"image": f"{tmp_path}/in", "save_to": f"{tmp_path}/out", "text_layer": "only"}
        facts(await mcp.call_tool("ocr_to_files", asked))
        assert (tmp_path / "out" / "a.pdf.md").read_text().startswith("# A Title")
        assert facts(await mcp.call_tool("gpu_status", {}))["state"] == "unloaded"


async def test_over_http_it_is_a_field_of_the_form_and_of_the_json(http: httpx2.AsyncClient) -> None:
    document = pdf(born_digital(), scanned())
    for more, sources in (({}, ["text_layer", None]), ({"text_layer": "ignore"}, [None, None])):
        form = (await http.post("/ocr", data=more, files={"file": ("a.pdf", document)})).json()
        body = (await http.post("/ocr", json={"image": as_base64(document), **more})).json()
        for answer in (form, body):
            assert [page.get("source") for page in answer["pages"]] == sources
    refused = await http.post("/ocr", data={"text_layer": "purple"}, files={"file": ("a.pdf", document)})
    assert refused.status_code == 422
    only = (await http.post("/ocr", data={"text_layer": "only"}, files={"file": ("a.pdf", document)})).json()
    assert only["notes"] == [{"code": "no_text_layer", "text": "no usable text layer: it has none.", "pages": "2"}]


async def test_a_searchable_pdf_of_such_pages_keeps_them_as_they_are(http: httpx2.AsyncClient) -> None:
    import pypdfium2

    document = pdf(born_digital(), scanned())
    answer = (await http.post("/ocr", data={"boxes": "true"}, files={"file": ("a.pdf", document)})).json()
    form = {"format": "pdf", "result": json.dumps(answer)}
    made = await http.post("/export", data=form, files={"file": ("a.pdf", document)})
    with pypdfium2.PdfDocument(made.content) as searchable:
        first, second = (page.get_textpage().get_text_bounded() for page in searchable)
    assert first.count("A Title of this Page") == 1
    assert "1653x2339" in second


def test_on_the_command_line_it_is_an_option(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(born_digital(), scanned()))
    command = ["ocr", str(tmp_path / "a.pdf"), "--format", "text"]
    environment = {**os.environ, "OCR_ENGINE": "faults:Echo"}

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return run_program([*command, *more], env=environment, text=True, timeout=BOUND_S)

    read = run().stdout
    assert read.split("\n\n")[0] == "A Title of this Page"
    assert "1653x2339" in read
    assert run("--text-layer", "ignore").stdout.startswith("1653x2339")
    only = run("--text-layer", "only")
    assert "1653x2339" not in only.stdout
    assert "Page 2: no usable text layer: it has none." in only.stderr

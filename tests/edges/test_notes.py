"""Every code of a note at the MCP edge: in the structured content, and in the content for those who read that alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from deepseek_ocr_mcp.engines.vision_models import model_named
from deepseek_ocr_mcp.models import NoteCode, OcrRequest, Page
from deepseek_ocr_mcp.service.answer import page_notes
from deepseek_ocr_mcp.service.work import ReadPage
from pdf_maker import born_digital, pdf, scanned, stream
from support import Call, as_base64, blocking_client, facts, png, said, tiff

PAGE = as_base64(png())
PAGES = as_base64(tiff(11, 12, 13))
ATTACHED = "/Names << /EmbeddedFiles << /Names [(invoice.pdf) 60 0 R] >> >>"
FILES: dict[int, str | bytes] = {
    60: "<< /Type /Filespec /F (invoice.pdf) /UF (invoice.pdf) /EF << /F 61 0 R >> >>",
    61: stream("the real invoice", "/Type /EmbeddedFile"),
}


OnEngine = Callable[[str], Call]


@pytest.fixture(scope="module")
def on_engine() -> Iterator[OnEngine]:
    """Calls the tools of a server with this engine. All tests share it."""
    with ExitStack() as stack:
        servers: dict[str, Call] = {}

        def call(engine: str) -> Call:
            if engine not in servers:
                servers[engine] = stack.enter_context(blocking_client(engine))
            return servers[engine]

        yield call


@dataclass(frozen=True)
class Case:
    """A call whose answer has a note."""

    arguments: dict[str, Any]
    pages: str = ""
    """The pages that the note is about."""
    words: str = ""
    engine: str = "Echo"
    tool: str = "ocr_image"


CASES: dict[str, Case] = {
    "blank": Case({"image": PAGES}, "1-3", "no text was found", "Blank"),
    "not_found": Case({"image": as_base64(pdf(born_digital())), "find_term": ["zebra", 7]}, "1", "'zebra', '7'"),
    "not_read": Case({"image": PAGE}, "1", "a script of its own", "Remarking"),
    "page_failed": Case({"image": as_base64(tiff(11, 33, 12))}, "2", "exit status 5", "OnePageKills"),
    "stopped": Case({"image": as_base64(pdf(born_digital(), scanned()))}, "2", "weights are not here", "Unloadable"),
    "no_text_layer": Case({"image": as_base64(pdf(born_digital(), scanned())), "text_layer": "only"}, "2"),
    "layer_incomplete": Case(
        {"image": as_base64(pdf(born_digital().picture(72, 100, 500, 400))), "text_layer": "only"}, "1", "pictures"
    ),
    "not_opened": Case({"image": as_base64(pdf(born_digital(), catalog=ATTACHED, objects=FILES))}, "", "invoice.pdf"),
    "argument_unused": Case({"image": PAGE, "mode": "document", "find_term": "x"}, "", "mode=document"),
    "cut": Case({"image": PAGE, "max_chars": 55}, "1", "max_chars=199", "Verbose"),
    "more": Case({"image": PAGES, "max_chars": 210}, "", 'pages="2-3"', "Verbose"),
    "contents": Case({"image": PAGES, "max_chars": 210}, "", "page 1: line 0000 (199)", "Verbose"),
    "saved": Case({"image": PAGE, "save_to": "{tmp}/a.md"}, "", "{tmp}/a.md", tool="ocr_to_files"),
    "files": Case({"image": "{tmp}"}, "", "1 file that can be read"),
    "left_out": Case({"image": "{tmp}"}, "", "letter.docx"),
}


@pytest.mark.parametrize("code", CASES)
def test_a_note_has_a_code_and_stands_in_both_parts_of_the_answer(
    code: str, tmp_path: Path, on_engine: OnEngine
) -> None:
    case = CASES[code]
    (tmp_path / "page.png").write_bytes(png())
    (tmp_path / "letter.docx").write_bytes(b"PK")

    def filled(value: Any) -> Any:
        return value.replace("{tmp}", str(tmp_path)) if isinstance(value, str) else value

    call = on_engine(case.engine)
    result = call(case.tool, **{name: filled(value) for name, value in case.arguments.items()})
    note = next(note for note in facts(result)["notes"] if note["code"] == code)
    assert note.get("pages", "") == case.pages
    assert filled(case.words) in note["text"]
    assert note["text"] in said(result), "some clients show their model the content alone"


def test_every_code_has_a_case() -> None:
    assert set(get_args(NoteCode)) == {*CASES, "fallback", "codes"}  # test_fallback.py and test_codes.py have these


def test_an_answer_that_is_whole_has_no_notes(on_engine: OnEngine) -> None:
    call = on_engine("Echo")
    assert "notes" not in facts(call("ocr_image", image=PAGES))


@pytest.mark.parametrize("finish", ["length", "loop"])
def test_a_text_that_a_model_did_not_end_is_noted(finish: str, on_engine: OnEngine) -> None:
    call = on_engine("Unfinished")
    result = call("ocr_image", image=as_base64(png(40, 20 if finish == "length" else 21)))
    [note] = facts(result)["notes"]
    assert (note["code"], note["pages"]) == ("not_read", "1")
    assert "ends there" in said(result)


# -- the way on


@pytest.mark.parametrize(
    ("image", "arguments", "on"),
    [
        (PAGE, {"max_chars": 55}, {"next_max_chars": 199}),
        (PAGES, {"max_chars": 210}, {"next_pages": "2-3"}),
        (PAGES, {"max_chars": 55}, {"next_pages": "2-3", "next_max_chars": 199}),
        (PAGES, {"max_chars": 55, "pages": "3"}, {"next_max_chars": 199}),
    ],
)
def test_an_answer_that_is_cut_names_the_way_on(
    image: str, arguments: dict[str, Any], on: dict[str, Any], on_engine: OnEngine
) -> None:
    call = on_engine("Verbose")
    answer = facts(call("ocr_image", **{"image": image, **arguments}))
    assert answer["truncated"] is True
    assert {name: answer[name] for name in ("next_pages", "next_max_chars") if name in answer} == on
    if limit := on.get("next_max_chars"):
        number = str(answer["pages"][0]["page"])
        whole = facts(call("ocr_image", image=image, pages=number, max_chars=limit))
        assert (len(whole["text"]), whole["truncated"]) == (199, False)


def test_a_table_of_contents_shows_headings_as_they_are_printed(on_engine: OnEngine) -> None:
    document = as_base64(pdf(*(born_digital(f"{n}. The __init__ of *part* {n}") for n in (1, 2))))
    call = on_engine("Echo")
    answer = facts(call("ocr_image", image=document, max_chars=300))
    assert [entry["heading"] for entry in answer["contents"]] == [f"{n}. The __init__ of *part* {n}" for n in (1, 2)]


# -- searches


def test_any_term_of_a_list_is_found_and_the_others_are_named(on_engine: OnEngine) -> None:
    document = as_base64(pdf(born_digital(), born_digital("Second page")))
    call = on_engine("Echo")
    result = call("ocr_image", image=document, find_term=["Second page", "zebra"])
    assert "Second page" in said(result)
    notes = {note["text"]: note["pages"] for note in facts(result)["notes"]}
    assert notes["'zebra' was not found."] == "2"
    assert notes["None of 'Second page', 'zebra' was found."] == "1"


def test_a_pattern_finds_whole_words(on_engine: OnEngine) -> None:
    document = as_base64(pdf(born_digital("Subtotal of a Total")))
    call = on_engine("Echo")
    arguments = {"image": document, "find_term": r"/\btotal\b/", "boxes": "lines"}
    [page] = facts(call("ocr_image", **arguments))["pages"]
    assert [block["text"] for block in page["blocks"]] == ["Total"]
    hint = call("ocr_image", image=document, find_term=r"tot.*")
    assert "write it between slashes: /tot.*/" in said(hint)


def test_a_hostile_pattern_is_refused_and_the_server_goes_on(on_engine: OnEngine) -> None:
    document = as_base64(pdf(born_digital("a" * 60)))
    call = on_engine("Echo")
    refused = call("ocr_image", image=document, find_term=r"/(?:a?){400}a{60}x/")
    assert refused.is_error
    assert "takes too long" in said(refused)
    assert facts(call("ocr_image", image=document, find_term="aaa"))["text"]


# -- a page that fails costs that page


@pytest.mark.parametrize("suffix", ["md", "json"])
def test_a_page_that_fails_costs_that_page_of_a_file_and_of_a_folder(
    tmp_path: Path, suffix: str, on_engine: OnEngine
) -> None:
    inbox = tmp_path / "in"
    inbox.mkdir()
    (inbox / "a.tif").write_bytes(tiff(11, 33, 12))
    (inbox / "b.png").write_bytes(png())
    call = on_engine("OnePageKills")
    one = {"image": str(inbox / "a.tif"), "save_to": f"{tmp_path}/a.{suffix}"}
    every = {"image": str(inbox), "save_to": f"{tmp_path}/out/*.{suffix}"}
    for arguments, written, name in (
        (one, tmp_path / f"a.{suffix}", ""),
        (every, tmp_path / "out" / f"a.tif.{suffix}", "a.tif: Page 2: "),
    ):
        result = call("ocr_to_files", **arguments)
        answer = facts(result)
        assert answer["finished"] is True
        [note] = [note for note in answer["notes"] if note["code"] == "page_failed"]
        assert note["text"].startswith(name)
        assert "exit status 5" in said(result)
        text = written.read_text()
        assert "40x11" in text
        assert "40x12" in text
    assert "Page 2: " in (tmp_path / "out" / "index.md").read_text()


def test_a_page_that_a_model_left_early_or_blank_says_so_beside_what_is_true_of_the_model() -> None:
    remark = model_named("DeepSeek-OCR-2").remarks["ocr"]
    read = [
        ReadPage(Page(page=1, width=9, height=9, text="x", finish="loop"), "deepseek", "m", "cpu", remark),
        ReadPage(Page(page=2, width=9, height=9, text="x", finish="stop"), "deepseek", "m", "cpu", remark),
        ReadPage(Page(page=3, width=9, height=9, text="", finish="stop"), "deepseek", "m", "cpu", remark),
    ]
    notes = {(note.code, note.pages): note.text for note in page_notes(read, OcrRequest(image="", mode="ocr"))}
    assert set(notes) == {("not_read", "1-3"), ("not_read", "1"), ("blank", "3")}
    assert notes["not_read", "1-3"] == remark
    assert "repeat itself" in notes["not_read", "1"]

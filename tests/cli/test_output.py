"""Pages are printed once, as they come; the time left is told; arguments that cannot be meant are refused."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from deepseek_ocr_mcp.cli.output import PagePrinter, limits, print_notes
from deepseek_ocr_mcp.cli.parser import build_parser
from deepseek_ocr_mcp.cli.read import check_arguments
from deepseek_ocr_mcp.cli.shared import ProgressBar, reading_fields, typed_terms
from deepseek_ocr_mcp.documents.ranges import pages_after
from deepseek_ocr_mcp.errors import BadRequest
from deepseek_ocr_mcp.models import Note, OcrResult, Page
from deepseek_ocr_mcp.service.answer import Answer
from deepseek_ocr_mcp.service.search import not_found


def page(number: int, text: str) -> Page:
    return Page(page=number, width=1, height=1, text=text)


def answer(*pages: Page) -> Answer:
    text = "\n\n".join(page.text for page in pages if page.text)
    return Answer(
        OcrResult(text=text, pages=list(pages), page_count=9, mode="free", engine="e", model="m", device="cpu")
    )


def arguments(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(["ocr", *words])


def test_pages_that_came_early_are_not_printed_again(capsys: pytest.CaptureFixture[str]) -> None:
    printer = PagePrinter("markdown")
    pages = [page(2, "one"), page(3, ""), page(5, "two"), page(6, "three")]
    printer.add(pages[:2])
    assert capsys.readouterr().out == "one\n", "each page is there as soon as it is read"
    printer.add([pages[2]])
    printer.finish(answer(*pages))
    assert capsys.readouterr().out == "\ntwo\n\nthree\n"


def test_a_whole_answer_is_printed_as_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    PagePrinter("text").finish(whole := answer(page(1, "one"), page(2, "two")))
    assert capsys.readouterr().out == whole.result.text + "\n"
    PagePrinter("text").finish(answer(page(1, "")))
    assert capsys.readouterr().out == ""


def test_json_that_is_stopped_is_whole_json_with_the_pages_that_were_read(capsys: pytest.CaptureFixture[str]) -> None:
    printer = PagePrinter("json")
    printer.add([page(1, "one")])
    assert capsys.readouterr().out == ""
    printer.stop("2-")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["text"], shown["truncated"], shown["next_pages"]) == ("one", True, "2-")


@pytest.mark.parametrize(
    ("asked", "read", "left"),
    [
        ("", 2, "3-"),
        ("all", 2, "3-"),
        ("1-3,7", 2, "3,7"),
        ("1-3,7", 7, ""),
        ("2-", 4, "5-"),
        ("-5", 2, "3-5"),
        ("3 to 6", 4, "5-6"),
        ("1,last", 1, "last"),
        ("4-last", 5, "6-"),
    ],
)
def test_the_pages_behind_a_page_are_named_as_a_range(asked: str, read: int, left: str) -> None:
    assert pages_after(asked, read) == left


def test_notes_that_miss_something_limit_an_answer_and_others_do_not() -> None:
    assert not limits([Note(code="blank", text=""), Note(code="saved", text=""), Note(code="fallback", text="")])
    assert limits([Note(code="blank", text=""), Note(code="not_read", text="")])


def test_the_progress_tells_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = ProgressBar("/scans/long.pdf", clock=lambda: now)
    bar.draw(0, 12, "page 1 of 12")
    assert "left" not in capsys.readouterr().err
    now += 30
    bar.draw(3, 12, "page 4 of 12")
    assert "page 4 of 12, 2 min left" in capsys.readouterr().err
    quiet = ProgressBar("/scans/long.pdf", quiet=True)
    quiet.draw(1, 2, "page 1 of 2")
    quiet.clear()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["a.png"], "markdown"),
        (["a.png", "-o", "-"], "markdown"),
        (["a.png", "--output", "a.TXT"], "text"),
        (["a.png", "-o", "a.json", "--format", "json"], "json"),
        (["a.png", "--output-dir", "out", "--format", "text"], "text"),
    ],
)
def test_the_name_of_the_output_says_the_format(words: list[str], kind: str) -> None:
    check_arguments(asked := arguments(*words))
    assert asked.format == kind


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.png", "b.png", "-o", "all.md"], "one document"),
        (["a.png", "-o", "a.exe"], "no format"),
        (["a.png", "-o", "a.json", "--format", "text"], "--format says text"),
        (["a.png", "-o", "a.md", "--output-dir", "out"], "one of them"),
        (["-", "-"], "one document"),
        (["--watch", "scans"], "--output-dir"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_arguments(arguments(*words))
    assert said in str(caught.value)


def test_a_folder_has_no_single_output(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="--output takes"):
        check_arguments(arguments(str(tmp_path), "-o", "a.md"))


@pytest.mark.parametrize(
    ("words", "term"),
    [
        (["--find", "Total"], "Total"),
        (["--find", "Total", "--find", "Sum"], ["Total", "Sum"]),
        (["--find", r"INV-\d+/\d", "--regex"], r"/INV-\d+\/\d/"),
        (["--find", r"a\/b", "--regex"], r"/a\/b/"),
        (["--find", "a//b", "--regex"], r"/a\/\/b/"),
        (["--find", "km/h", "--whole-word"], r"/(?<!\w)km\/h(?!\w)/"),
        ([], ""),
    ],
)
def test_flags_of_a_search_become_a_term(words: list[str], term: str | list[str]) -> None:
    fields = reading_fields(arguments("a.png", *words))
    assert (fields["find_term"], fields["mode"]) == (term, "find" if term else "document")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--find", "co.", "--whole-word"], "a.png: 'co.' as a whole word was not found."),
        (["--find", r"INV-\d+", "--regex"], r"a.png: 'INV-\d+' was not found."),
        (["--find", "km/h"], "a.png: 'km/h' was not found."),
    ],
)
def test_words_that_are_nowhere_are_named_as_they_were_typed(
    words: list[str], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments("a.png", *words)
    note = Note(code="not_found", text=not_found(reading_fields(given)["find_term"]))
    print_notes("a.png", [note], typed_terms(given))
    assert capsys.readouterr().err.strip() == shown


@pytest.mark.parametrize("words", [["ocr", "a.png", "--over"], ["ocr", "a.png", "--output-d", "x"], ["--vers"]])
def test_flags_are_written_in_full(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(words)
    assert ended.value.code == 2
    assert "unknown: --" in capsys.readouterr().err

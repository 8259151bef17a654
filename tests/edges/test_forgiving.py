"""The ways in which an agent calls `ocr_image` wrong: each works, or the answer says exactly what to send.

What is forgiven widens nothing: the last part tries every forgiven spelling on a file that the
settings keep out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from deepseek_ocr_mcp.documents import paths
from support import Call, as_base64, blocking_client, client, echo, facts, png, said, tiff

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")]

PAGE = as_base64(png())
DOCUMENT = as_base64(tiff(*range(11, 20)))
Spell = Callable[[Path], Any]


@pytest.fixture(scope="module")
def ask() -> Iterator[Call]:
    """Calls `ocr_image` on one server that all these tests share, as a client on its machine."""
    with blocking_client() as call:
        yield call


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a page under several names; the home and the working folder of the caller."""
    folder = tmp_path / "in box"
    folder.mkdir()
    for name in ("scan.png", "My Scan.png", "Shot at 9.41\u202fPM.png", "Größe.png", "100%.png"):
        (folder / name).write_bytes(png())
    (folder / "letter.PDF").write_bytes(png())
    (folder / "sub").mkdir()
    (folder / "sub" / "deep.png").write_bytes(png())
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


SPELLINGS: dict[str, Spell] = {
    "a relative path": lambda d: "scan.png",
    "a relative path with a dot": lambda d: "./scan.png",
    "a relative path with a folder": lambda d: "sub/deep.png",
    "a relative path of Windows": lambda d: "sub\\deep.png",
    "a home folder": lambda d: "~/scan.png",
    "a file URI": lambda d: (d / "My Scan.png").as_uri(),
    "a file URI with spaces": lambda d: f"file://{d}/My Scan.png",
    "a file URI with one slash": lambda d: f"file:{quote(str(d))}/scan.png",
    "a file URI with two slashes": lambda d: f"file://{quote(str(d)).lstrip('/')}/scan.png",
    "a file URI with four slashes": lambda d: f"file:///{quote(str(d))}/scan.png",
    "a file URI of localhost": lambda d: f"file://localhost{quote(str(d))}/scan.png",
    "a file URI of the home folder": lambda d: "file://~/scan.png",
    "a file URI with a percent sign that quotes nothing": lambda d: f"file://{d}/100%.png",
    "a path with %20": lambda d: f"{quote(str(d))}/My%20Scan.png",
    "a path with umlauts quoted": lambda d: f"{d}/Gr%C3%B6%C3%9Fe.png",
    "a path quoted for a shell": lambda d: f"{d}/My Scan.png".replace(" ", "\\ "),
    "a path in double quotes": lambda d: f'"{d}/My Scan.png"',
    "a path in single quotes": lambda d: f"'{d}/My Scan.png'",
    "a path in backticks": lambda d: f"`{d}/My Scan.png`",
    "a path in angle brackets": lambda d: f"<{d}/My Scan.png>",
    "a path in curly quotes": lambda d: f"“{d}/My Scan.png”",
    "a path in quotes in backticks": lambda d: f"`'{d}/My Scan.png'`",
    "a path with a direction mark": lambda d: f"\u202a{d}/scan.png",
    "a path between isolating marks": lambda d: f"\u2066{d}/scan.png\u2069",
    "a path with a byte order mark": lambda d: f"\ufeff{d}/scan.png\u200b",
    "a path with a mark in a quote": lambda d: f'"\u200e{d}/scan.png"',
    "a file URI with a direction mark": lambda d: "\u202a" + (d / "My Scan.png").as_uri(),
    "a path with a soft hyphen in its name": lambda d: f"{d}/sc\u00adan.png",
    "a path with spaces around": lambda d: f"  {d}/scan.png \n",
    "a path with a full stop": lambda d: f"{d}/scan.png.",
    "a Markdown link": lambda d: f"[the scan]({d}/My Scan.png)",
    "a Markdown image": lambda d: f"![]({d}/scan.png)",
    "a Markdown link with a title": lambda d: f'[x](<{d}/My Scan.png> "the scan")',
    "a mention": lambda d: f"@{d}/scan.png",
    "a relative mention": lambda d: "@scan.png",
    "a suffix in other capitals": lambda d: f"{d}/scan.PNG",
    "another suffix in other capitals": lambda d: f"{d}/letter.pdf",
    "a name in other capitals": lambda d: f"{d}/my scan.png",
    "a relative name in other capitals": lambda d: "Scan.png",
    "a space that is another one on disk": lambda d: f"{d}/Shot at 9.41 PM.png",
    "letters composed in another way": lambda d: f"{d}/Gro\u0308ße.png",
    "a list of one": lambda d: [f"{d}/scan.png"],
    "a list of one as text": lambda d: json.dumps([f"{d}/scan.png"]),
    "an object": lambda d: {"path": f"{d}/scan.png"},
    "an object as text": lambda d: json.dumps({"file_path": f"{d}/scan.png"}),
    "an object of a chat": lambda d: [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PAGE}"}}],
    "an image block": lambda d: {"type": "image", "data": PAGE, "mimeType": "image/png"},
    "a source object": lambda d: {"type": "image", "source": {"type": "base64", "data": PAGE}},
    "base64 in quotes": lambda d: f'"{PAGE}"',
    "base64 with line breaks": lambda d: "\n".join(PAGE[i : i + 20] for i in range(0, len(PAGE), 20)),
    "base64 with quoted line breaks": lambda d: "\\n".join(PAGE[i : i + 20] for i in range(0, len(PAGE), 20)),
    "base64 with half a prefix": lambda d: f"image/png;base64,{PAGE}",
    "base64 with a quarter of a prefix": lambda d: f"base64,{PAGE}",
    "a data URI of another type": lambda d: f"data:image/jpeg;base64,{PAGE}",
    "a data URI in quotes": lambda d: f"'data:image/png;base64,{PAGE}'",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_image_is_read_however_it_is_written(spelling: str, inbox: Path, ask: Call) -> None:
    assert facts(ask(image=SPELLINGS[spelling](inbox)))["text"] == echo()


def test_a_pdf_is_read_as_base64_and_under_a_wrong_type(ask: Call) -> None:
    pdf = (Path(__file__).parents[2] / "examples" / "pages" / "letter.pdf").read_bytes()
    for image in (as_base64(pdf), f"data:image/png;base64,{as_base64(pdf)}"):
        assert facts(ask(image=image, pages="1"))["page_count"] >= 1


def test_the_linux_inside_windows_reads_drives_and_its_own_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Call
) -> None:
    drive = tmp_path / "mnt" / "c" / "Users" / "me"
    drive.mkdir(parents=True)
    (drive / "My Scan.png").write_bytes(png())
    monkeypatch.setattr(paths, "WSL_DRIVES", str(tmp_path / "mnt"))
    share = "\\\\wsl.localhost\\Ubuntu" + str(drive).replace("/", "\\")
    for image in (
        "C:\\Users\\me\\My Scan.png",
        "c:/Users/me/My Scan.png",
        "C:\\\\Users\\\\me\\\\My Scan.png",
        "file:///C:/Users/me/My%20Scan.png",
        "file://C:/Users/me/My%20Scan.png",
        f"{share}\\My Scan.png",
    ):
        assert facts(ask(image=image))["text"] == echo(), image


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [
        ({"mode": "markdown"}, "document"),
        ({"mode": "table"}, "document"),
        ({"mode": " Document "}, "document"),
        ({"mode": ""}, "document"),
        ({"mode": None}, "document"),
        ({"mode": "OCR"}, "ocr"),
        ({"mode": "text"}, "free"),
        ({"mode": "plain"}, "free"),
        ({"mode": "plain_text"}, "free"),
        ({"mode": "search", "find_term": "x"}, "find"),
        ({"find_term": "x"}, "find"),
        ({"custom_prompt": "What is it?"}, "freeform"),
        ({"find_term": "x", "custom_prompt": "", "mode": None}, "find"),
        ({"resolution": "high"}, "document"),
        ({"resolution": "1024"}, "document"),
        ({"boxes": "true", "max_chars": "5000", "annotate": "no"}, "document"),
        ({"save_to": None, "pages": None, "overwrite": None}, "document"),
        ({"save_to": "", "overwrite": False, "unknown": None}, "document"),
        ({"mode": ["ocr"], "resolution": 1024, "text_layer": False}, "ocr"),
    ],
)
def test_a_mode_is_what_the_other_arguments_mean(arguments: dict[str, Any], mode: str, ask: Call) -> None:
    assert facts(ask(image=PAGE, **arguments))["mode"] == mode


def test_a_term_decides_against_a_mode_that_a_client_filled_in(ask: Call) -> None:
    result = ask(image=PAGE, mode="document", find_term="total")
    assert facts(result)["mode"] == "find"
    assert "mode=document was not used" in said(result)
    [note] = facts(result)["notes"]
    assert note["code"] == "argument_unused"


def test_a_term_that_the_mode_does_not_look_for_is_told(ask: Call) -> None:
    result = ask(image=PAGE, mode="ocr", find_term="total")
    assert facts(result)["mode"] == "ocr"
    assert 'mode="find"' in said(result)


@pytest.mark.parametrize(
    ("pages", "read"),
    [
        ("last", [9]), ("1..3", [1, 2, 3]), ("1:3", [1, 2, 3]), ("1 to 3", [1, 2, 3]), ("all", list(range(1, 10))),
        ("page 2", [2]), ("first", [1]), ("-1", [9]), (-1, [9]), (2, [2]), (2.0, [2]), ([1, 2], [1, 2]),
        ("[1, 2]", [1, 2]), (["1-2", 7], [1, 2, 7]), ([], list(range(1, 10))),
        ({"from": 1, "to": 3}, [1, 2, 3]), ({"start": 2, "end": 2}, [2]), ({"start": 8}, [8, 9]), ("1;", [1]),
        ("1; 3", [1, 3]), ({"page": 2}, [2]), ({"pages": [1, 2]}, [1, 2]), ('{"first": 1, "last": "2"}', [1, 2]),
        ([{"from": 1, "to": 2}, 5], [1, 2, 5]), ({"end": 2, "start": None}, [1, 2]), ("1,", [1]),
    ],
)  # fmt: skip
def test_pages_are_read_however_they_are_counted(pages: Any, read: list[int], ask: Call) -> None:
    answer = facts(ask(image=DOCUMENT, pages=pages))
    assert [page["page"] for page in answer["pages"]] == read


# -- what cannot work says what to send


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image": "/mnt/user-data/uploads/invoice.pdf"}, ["sandbox", "Ask the user", "base64"]),
        ({"image": "file:///mnt/user-data/uploads/invoice.pdf"}, ["sandbox", "Ask the user"]),
        ({"image": "/mnt/data/invoice.pdf"}, ["sandbox", "Ask the user"]),
        ({"image": "sandbox:/mnt/data/invoice.pdf"}, ["conversation", "Ask the user"]),
        ({"image": "attachment://invoice.pdf"}, ["conversation", "Ask the user", "saved"]),
        ({"image": "attachment:invoice.pdf"}, ["conversation"]),
        ({"image": "blob:https://example.org/1"}, ["conversation"]),
        ({"image": "image.png"}, ["relative path", "there is no such file in", '"/home/me/image.png"']),
        ({"image": "scam.png"}, ["Did you mean", "in box/scan.png"]),
        ({"image": "{inbox}/scam.png"}, ["Did you mean {inbox}/scan.png"]),
        ({"image": "/no/such/folder/scan.png"}, ["There is no folder /no/such/folder either"]),
        ({"image": "C:\\scans\\a.png"}, ["Windows path", "/mnt/c/"]),
        ({"image": "\\\\server\\share\\a.png"}, ["Windows path"]),
        ({"image": "~nobody-here/scan.png"}, ["absolute path"]),
        ({"image": "https://example.org/a.png"}, ["OCR_ALLOW_URLS", "Download the file"]),
        ({"image": "s3://bucket/a.png"}, ["s3://", "absolute path"]),
        ({"image": "file://server/share/a.png"}, ["'server'", "three slashes"]),
        ({"image": []}, ["list of 0", "save_to"]),
        ({"image": ["a.png", "b.png"]}, ["list of 2", "save_to"]),
        ({"image": {"name": "a.png"}}, ["object without a file", "/home/me/scan.pdf"]),
        ({"image": 7}, ["image", "string"]),
        ({"image": None}, ["image"]),
        ({"path": "/a.png"}, ["'path': give that as image"]),
        ({"file": "/a.png"}, ["'file': give that as image"]),
        ({"url": "https://example.org/a.png"}, ["'url': give that as image"]),
        ({"image": PAGE, "query": "total"}, ["'query': give that as find_term"]),
        ({"image": PAGE, "language": "de"}, ["'language': leave it out"]),
        ({"image": PAGE, "prompt": "Total?"}, ["'prompt': give that as custom_prompt"]),
        ({"image": PAGE, "page": 2}, ["'page': give that as pages"]),
        ({"image": PAGE, "output_path": "/a.md"}, ["'output_path'", "call ocr_to_files with image, save_to"]),
        ({"image": PAGE, "save_to": "/a.md", "overwrite": True}, ["'save_to'", "call ocr_to_files"]),
        ({"image": PAGE, "boxs": True}, ["'boxs'", "did you mean boxes?"]),
        ({"image": PAGE, "pages": {"chapter": 2}}, ['pages like "1-3,7"']),
        ({"image": PAGE, "find_term": "/(/"}, ["no pattern", "/INV-"]),
        ({"image": PAGE, "format": "json"}, ["'format'", "mode free"]),
        ({"image": PAGE, "outputs": "json"}, ["'outputs'", "It takes image, mode"]),
        ({"image": PAGE, "mode": "find"}, ["Mode find needs find_term"]),
        ({"image": PAGE, "mode": "find", "find_term": "  "}, ["Mode find needs find_term"]),
        ({"image": PAGE, "mode": "question"}, ["Mode freeform needs custom_prompt"]),
        ({"image": PAGE, "mode": "translate"}, ["document, ocr, free"]),
        ({"image": PAGE, "resolution": "8k"}, ["auto, tiny"]),
        ({"image": PAGE, "pages": 0}, ["The first page is 1"]),
        ({"image": PAGE, "pages": "chapter 2"}, ['"1-3,7"']),
        ({"image": PAGE, "pages": True}, ["pages"]),
    ],
)
def test_what_cannot_work_says_what_to_send(
    arguments: dict[str, Any], words: list[str], inbox: Path, ask: Call
) -> None:
    refused(ask, arguments, words, inbox)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"save_to": "out.md"}, ["no absolute path", '"/home/me/scan.md"']),
        ({"save_to": "{inbox}"}, ["a folder", '"{inbox}/scan.md"']),
        ({"save_to": "{inbox}/out.odt"}, ["must end in .md, "]),
        ({"save_to": "{inbox}/*.md"}, ["must end in", "scan.md"]),
        ({"save_to": ""}, ["save_to", "absolute path"]),
        ({}, ["save_to"]),
        ({"output_path": "/a.md"}, ["'output_path': give that as save_to"]),
        ({"save_to": "{inbox}/a.md", "max_chars": 100}, ["'max_chars'", "whole text", "ocr_image"]),
        ({"save_to": "{inbox}/a.md", "find_term": "x"}, ["'find_term'", "ocr_image takes it"]),
        ({"save_to": "{inbox}/a.md", "replace": True}, ["'replace': give that as overwrite"]),
    ],
)
def test_a_file_that_cannot_be_written_says_what_to_send(
    arguments: dict[str, Any], words: list[str], inbox: Path, ask: Call
) -> None:
    refused(partial(ask, "ocr_to_files"), {"image": PAGE, **arguments}, words, inbox)


def refused(ask: Call, arguments: dict[str, Any], words: list[str], inbox: Path) -> None:
    def filled(value: Any) -> Any:
        return value.replace("{inbox}", str(inbox)) if isinstance(value, str) else value

    result = ask(**{name: filled(value) for name, value in arguments.items()})
    assert result.is_error
    for word in words:
        assert filled(word) in said(result)
    assert len(said(result)) < 900


async def test_a_relative_path_that_can_mean_two_files_names_both(inbox: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "scan.png").write_bytes(png())
    async with client(local=False, ocr_allowed_dirs=f"{inbox}:{other}") as mcp:
        refused = await mcp.call_tool("ocr_image", {"image": "scan.png"})
        assert refused.is_error
        assert f"{inbox}/scan.png or {other}/scan.png" in said(refused)
        (other / "scan.png").unlink()
        assert facts(await mcp.call_tool("ocr_image", {"image": "scan.png"}))["text"] == echo()


def test_two_names_that_differ_in_capitals_only_are_not_guessed_between(inbox: Path, ask: Call) -> None:
    (inbox / "SCAN.png").write_bytes(png(50))
    refused = ask(image=f"{inbox}/Scan.png")
    assert refused.is_error
    assert f"Did you mean {inbox}/SCAN.png or {inbox}/scan.png" in said(refused)


def test_a_file_where_an_assistant_has_its_sandbox_is_read_if_it_is_there(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, ask: Call
) -> None:
    monkeypatch.setattr(paths, "SANDBOXES", (f"{inbox}/",))
    assert facts(ask(image=f"{inbox}/scan.png"))["text"] == echo()
    assert "sandbox" in said(ask(image=f"{inbox}/missing.png"))


async def test_an_agent_over_http_is_told_to_send_the_file_itself() -> None:
    async with client(local=False) as mcp:
        for image in ("/home/me/scan.png", "/mnt/data/scan.png", "scan.png"):
            refused = await mcp.call_tool("ocr_image", {"image": image})
            assert refused.is_error
            assert "base64" in said(refused), image
        assert "does not know whose" in said(await mcp.call_tool("ocr_image", {"image": "~/scan.png"}))


# -- what is forgiven widens nothing


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("spelling", [name for name in SPELLINGS if PAGE[:9] not in str(SPELLINGS[name](Path("/x")))])
async def test_no_spelling_leads_out_of_the_allowed_folders(
    spelling: str, local: bool, inbox: Path, tmp_path: Path
) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    image = SPELLINGS[spelling](inbox)
    async with client(local=local, ocr_allowed_dirs=str(allowed)) as mcp:
        there = await mcp.call_tool("ocr_image", {"image": image})
        for name in os.listdir(inbox):
            os.rename(inbox / name, tmp_path / f"moved {name}")
        gone = await mcp.call_tool("ocr_image", {"image": image})
    assert there.is_error
    assert said(there) == said(gone), "a refusal must not tell whether the file exists"


@pytest.mark.parametrize("image", ["../in box/scan.png", "..%2Fin%20box%2Fscan.png", "..\\in box\\scan.png", "lin.png"])
async def test_no_relative_path_leads_out_of_the_allowed_folders(image: str, inbox: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link.png").symlink_to(inbox / "scan.png")
    (allowed / "Link").symlink_to(inbox)
    for local in (True, False):
        async with client(local=local, ocr_allowed_dirs=str(allowed)) as mcp:
            for each in (image, f"{allowed}/{image}", "LINK.png", "link/scan.png"):
                refused = await mcp.call_tool("ocr_image", {"image": each})
                assert refused.is_error
                assert "My Scan" not in said(refused)


async def test_near_names_are_told_only_from_folders_that_the_caller_may_read(inbox: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "scan 1.png").write_bytes(png())
    async with client(local=False, ocr_allowed_dirs=str(allowed)) as mcp:
        near = said(await mcp.call_tool("ocr_image", {"image": f"{allowed}/scan 2.png"}))
        assert f"Did you mean {allowed}/scan 1.png?" in near
        for image in (f"{inbox}/scam.png", f"{allowed}/../in box/scam.png", str(allowed) + "x", "../in box/scam.png"):
            assert "Did you mean" not in said(await mcp.call_tool("ocr_image", {"image": image}))


def test_a_long_text_costs_no_search_for_names(inbox: Path) -> None:
    assert paths.lookalikes(str(inbox), "x" * 100_000) == ("", [])

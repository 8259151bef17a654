"""An `image` argument is interpreted once, and its meaning says whether it is data, an address, a path or a text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deepseek_ocr_mcp.documents.argument import Argument
from deepseek_ocr_mcp.documents.reach import Reach
from meaning import meant

pytestmark = pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")


@pytest.mark.parametrize(
    ("image", "kind", "paths"),
    [
        ("data:image/png;base64,iVBORw0KGgo=", "data", ()),
        ("image/png;base64,iVBORw0KGgo=", "data", ()),
        ("https://example.org/a.png", "address", ()),
        ('"/scans/a.png"', "path", ("/scans/a.png",)),
        ("/scans/a%20b.png", "path", ("/scans/a%20b.png", "/scans/a b.png")),
        ("file:///scans/a.png", "path", ("/scans/a.png",)),
        ("/9j/4AAQSkZJRgABAQ", "text", ("/9j/4AAQSkZJRgABAQ",)),
    ],
)
def test_the_text_of_an_argument_tells_its_kind(image: str, kind: str, paths: tuple[str, ...]) -> None:
    argument = meant(image)
    assert (argument.kind, argument.paths, argument.refusal) == (kind, paths, None)


def test_a_relative_path_means_files_in_the_folders_that_the_caller_may_use(tmp_path: Path) -> None:
    folder = str(tmp_path.resolve())
    assert meant("a.png", folder, is_local=False).paths == (f"{folder}/a.png",)
    assert meant("../a.png", folder, is_local=False).paths == ()
    assert meant("a.png", is_local=False).paths == ()


@pytest.mark.parametrize("image", ["", "attachment://a.png", "s3://bucket/a.png", "file:a.png"])
def test_an_argument_that_is_never_read_carries_its_refusal(image: str) -> None:
    assert meant(image).refusal is not None


def test_the_home_of_a_caller_is_meant_on_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert meant("~/a.png").paths == ("/home/me/a.png",)
    assert meant("~/a.png", is_local=False).refusal is not None


def test_a_path_that_this_program_knows_is_not_interpreted() -> None:
    assert Argument.of_file("/scans/a%20b.png", Reach()).paths == ("/scans/a%20b.png",)

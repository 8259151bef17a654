"""Folders and patterns: what is listed, in which order, within which bounds, and never from outside."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from deepseek_ocr_mcp.caller import Caller
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents import listing
from deepseek_ocr_mcp.documents.listing import Unlisted, complete_path, list_files, unlisted_text
from deepseek_ocr_mcp.documents.paths import READABLE
from deepseek_ocr_mcp.documents.reach import Reach
from deepseek_ocr_mcp.errors import BadRequest

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")]


def reach(*dirs: Path, is_local: bool = True) -> Reach:
    settings = Settings(_env_file=None, ocr_allowed_dirs=tuple(map(str, dirs)))  # type: ignore[call-arg]
    return Reach.of(Caller(is_local=is_local), settings)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "scans"
    for name in (
        "page 10.png", "page 2.png", "Page 1.PNG", "notes.txt", ".hidden.png", "b.pdf", "a.tiff", "raw.dat",
        "2024/x.png", "2024/y.pdf", "2024/deep/z.png", ".git/objects.png", "[odd] {name}/i.png",
        "report.pdf", "report.pdf.md", "report.pdf-figures/page-1-figure-1.png", "other-figures/f.png",
    ):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


async def names(image: object, *dirs: Path, local: bool = True, leave_out: str = "") -> list[str] | None:
    found = await list_files(str(image), reach(*dirs, is_local=local), leave_out=leave_out)
    return None if found is None else list(found.files)


TOP = ["a.tiff", "b.pdf", "Page 1.PNG", "page 2.png", "page 10.png", "report.pdf"]


async def test_a_folder_names_its_own_readable_files_in_the_order_of_people(scans: Path) -> None:
    for spelling in (scans, f"{scans}/", f'"{scans}"', scans.as_uri(), f"{scans}/../scans"):
        assert await names(spelling) == TOP
    found = await list_files(str(scans), reach())
    assert found is not None
    assert found.root == str(scans)
    assert found.subfolders


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", TOP),
        ("*.png", ["Page 1.PNG", "page 2.png", "page 10.png"]),
        ("*.PNG", ["Page 1.PNG", "page 2.png", "page 10.png"]),
        ("page ?.png", ["Page 1.PNG", "page 2.png"]),
        ("page [2-9]*.png", ["page 2.png"]),
        ("*.{pdf, tiff}", ["a.tiff", "b.pdf", "report.pdf"]),
        ("{a,b}.*", ["a.tiff", "b.pdf"]),
        ("*.dat", ["raw.dat"]),
        ("2024/*", ["2024/x.png", "2024/y.pdf"]),
        ("*/x.png", ["2024/x.png"]),
        ("**/*.png", ["2024/deep/z.png", "2024/x.png", "[odd] {name}/i.png", "other-figures/f.png",
                      "Page 1.PNG", "page 2.png", "page 10.png"]),
        ("**/deep/*", ["2024/deep/z.png"]),
        ("**/**/z.png", ["2024/deep/z.png"]),
        ("2024/**", ["2024/deep/z.png", "2024/x.png", "2024/y.pdf"]),
        ("**/2024/**/*.png", ["2024/deep/z.png", "2024/x.png"]),
        ("[odd] {name}/*.png", ["i.png"]),
        ("nothing*.png", []),
    ],
)  # fmt: skip
async def test_a_pattern_names_files(scans: Path, pattern: str, found: list[str]) -> None:
    assert sorted(await names(f"{scans}/{pattern}") or []) == sorted(
        each.removeprefix("2024/") if pattern.startswith("2024/") else each for each in found
    )
    assert await names(f"{scans}/{pattern}") == await names(f"{scans}/{pattern}")


async def test_a_relative_folder_is_looked_for_where_the_caller_works(
    scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scans.parent)
    assert await names("scans") == TOP
    assert await names("scans/*.pdf") == ["b.pdf", "report.pdf"]
    assert await names("scans", scans.parent, local=False) == TOP
    assert await names("scans", local=False) is None
    monkeypatch.chdir(scans)
    assert await names(".") == TOP


async def test_what_is_one_file_or_nothing_is_no_listing(scans: Path) -> None:
    (scans / "really[1].png").touch()
    for image in (
        scans / "b.pdf", scans / "really[1].png", scans / "missing", scans / "missing" / "*.png", "", "iVBORw0KGgo=",
        "data:image/png;base64,aaaa", "https://example.org/*.png", "/9j/4AAQ", "x" * 5000, "file:", "/\0*", "\ud800",
        "attachment://x", "/\ud800/*.png",
    ):  # fmt: skip
        assert await names(image) is None, image


async def test_only_allowed_folders_are_listed_and_no_link_leads_out(scans: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").touch()
    (scans / "door").symlink_to(outside)
    (scans / "leak.png").symlink_to(outside / "secret.png")
    (scans / "nothing.png").symlink_to(outside / "missing.png")
    (scans / "loop").symlink_to(scans)
    for local in (True, False):
        for image in (outside, outside / "*", scans / "door", scans / "door" / "*", scans / ".." / "outside", tmp_path):
            assert await names(image, scans, local=local) is None, image
        everything = await names(f"{scans}/**", scans, local=local) or []
        assert "leak.png" in everything  # to be refused when it is opened
        assert "nothing.png" in everything  # the same, so that a listing does not tell what exists outside
        assert not any("secret" in name or name.startswith(("door", "loop")) for name in everything)
    assert await names(scans, local=False) is None


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
async def test_one_odd_link_in_a_folder_costs_that_link(scans: Path) -> None:
    before = await names(scans)
    assert before
    (scans / "circle.png").symlink_to(scans / "circle.png")
    assert await names(scans) == before
    assert await names(f"{scans}/**")


async def left_out(image: object, *dirs: Path) -> dict[str, str]:
    found = await list_files(str(image), reach(*dirs))
    assert found is not None
    return {each.name: each.why for each in found.left_out}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may list every folder")
async def test_a_folder_that_cannot_be_listed_is_named(scans: Path) -> None:
    (scans / "2024" / "deep").chmod(0)
    try:
        assert "Permission denied" in (await left_out(f"{scans}/**"))["2024/deep"]
    finally:
        (scans / "2024" / "deep").chmod(0o755)


async def test_a_folder_that_fails_while_it_is_listed_is_named(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(listing.os, "scandir", refuse)
    assert "Permission denied" in (await left_out(f"{scans}/**"))["2024/deep"]


async def test_nothing_that_a_pattern_names_vanishes(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (scans / "circle.png").symlink_to(scans / "circle.png")
    (scans / "nowhere.png").symlink_to(tmp_path / "missing.png")
    (scans / "door").symlink_to(tmp_path / "elsewhere")
    (scans / "index.md").touch()
    os.mkfifo(scans / "pipe.png")
    named = await left_out(f"{scans}/**")
    assert sorted(named) == ["circle.png", "door", "notes.txt", "nowhere.png", "pipe.png", "raw.dat"]
    assert "circle" in named["circle.png"]
    assert "circle or nowhere" in named["nowhere.png"]
    assert "not followed" in named["door"]
    assert await left_out(f"{scans}/*.pdf") == {
        name: why for name, why in named.items() if name not in ("notes.txt", "raw.dat")
    }, "what a pattern does not name is not missed"


async def test_a_file_without_a_suffix_is_listed_by_its_content(scans: Path) -> None:
    (scans / "scan").write_bytes(b"%PDF-1.7")
    (scans / "photo").write_bytes(b"\xff\xd8\xff\xe0")
    (scans / "Makefile").write_bytes(b"all:")
    assert {"scan", "photo"} < set(await names(f"{scans}/*") or [])
    assert "Makefile" in await left_out(f"{scans}/*")


def test_names_that_were_left_out_are_told_in_one_sentence() -> None:
    names_left = [Unlisted(f"{n}.txt", "by name no picture") for n in range(5)] + [Unlisted("a", "links")]
    assert unlisted_text(names_left) == (
        "6 names were left out: 0.txt, 1.txt, 2.txt and 2 more (by name no picture); a (links)."
    )
    assert unlisted_text(names_left[:1]) == "1 name was left out: 0.txt (by name no picture)."


async def test_the_folder_that_the_texts_go_to_is_passed_over(scans: Path) -> None:
    assert "2024/x.png" in (await names(f"{scans}/**") or [])
    assert not any(
        name.startswith("2024/") for name in await names(f"{scans}/**", leave_out=str(scans / "2024")) or ["2024/"]
    )


async def test_more_files_than_the_bound_are_refused(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_FILES", 5)
    with pytest.raises(BadRequest, match="more than 5 files"):
        await names(scans)
    monkeypatch.setattr(listing, "MAX_FILES", 100)
    monkeypatch.setattr(listing, "MAX_ENTRIES", 10)
    with pytest.raises(BadRequest, match="more than 10 names"):
        await names(f"{scans}/**")


async def test_a_pattern_of_many_stars_ends(scans: Path) -> None:
    deep = scans
    for _ in range(listing.MAX_DEPTH + 20):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "bottom.png").touch()
    assert "2024/x.png" in (await names(f"{scans}/**/**/**/*/**/*.png") or [])
    assert await names(f"{scans}/{'{a,b}' * 20}.png") == []
    assert not any("bottom" in name for name in await names(f"{scans}/**") or [])


async def test_paths_are_completed_where_the_caller_may_read(scans: Path, tmp_path: Path) -> None:
    found = await complete_path(f"{scans}/pag", reach(scans, is_local=False))
    assert found == [f"{scans}/Page 1.PNG", f"{scans}/page 2.png", f"{scans}/page 10.png"]
    assert f"{scans}/2024/" in await complete_path(f"{scans}/2", reach(scans, is_local=False))
    assert await complete_path("", reach(scans, is_local=False)) == [f"{scans}/"]
    assert await complete_path(str(scans)[:-2], reach(scans, is_local=False)) == [f"{scans}/"]
    assert await complete_path(f"{tmp_path}/", reach(scans)) == [f"{scans}/"]
    assert await complete_path("/etc/", reach(scans)) == []
    assert await complete_path(f"{scans}/", reach(is_local=False)) == []
    assert len(await complete_path(f"{scans}/", reach())) >= len(TOP)
    for text in ("relative", "~", "\0", "x" * 5000, "\ud800"):
        assert await complete_path(text, reach()) is not None


async def test_the_page_takes_the_same_files_of_a_folder_as_the_server() -> None:
    script = (Path(listing.__file__).parents[1] / "edges" / "web" / "js" / "folders.js").read_text("utf-8")
    listed = re.search(r"const READABLE = \[(.*?)\];", script, re.DOTALL)
    assert listed is not None
    assert re.findall(r'"(\.\w+)"', listed[1]) == list(READABLE)

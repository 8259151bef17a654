"""Folders of this machine and behind URLs: one way to list, read and write them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import anyio.to_thread
import fsspec
import pytest

from deepseek_ocr_mcp.batch.files import STATE, Location, SourceDocument, pieces, place_of
from deepseek_ocr_mcp.batch.planner import snapshot_of
from deepseek_ocr_mcp.batch.sources import list_part, parts_of
from deepseek_ocr_mcp.caller import Caller
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents.listing import Unlisted
from deepseek_ocr_mcp.documents.private import private_folder
from deepseek_ocr_mcp.documents.reach import Reach
from deepseek_ocr_mcp.documents.reader import DocumentReader
from deepseek_ocr_mcp.errors import BadRequest, InputNotFound, InputTooLarge, OcrError

pytestmark = pytest.mark.anyio

SETTINGS = Settings()


@pytest.fixture(params=["path", "file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty folder, in each way to name one."""
    fsspec.filesystem("memory").store.clear()
    return place_of({"path": str(tmp_path), "file": tmp_path.as_uri(), "memory": "memory://bucket/out"}[request.param])


def files(*names: str, at: Path) -> None:
    for name in names:
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(b"x")


class Listed:
    """All parts of a source together, the documents sorted by name."""

    def __init__(self, text: str, out: Location, settings: Settings) -> None:
        self.parts = parts_of(text, out, Reach.of(Caller(), settings))
        found = [each for part in self.parts for each in list_part(part)]
        self.documents = sorted((e for e in found if isinstance(e, SourceDocument)), key=lambda each: each.name)
        self.left_out = [each for each in found if isinstance(each, Unlisted)]


def list_sources(text: str, out: Location, settings: Settings) -> Listed:
    return Listed(text, out, settings)


def names(sources: Listed) -> list[str]:
    return [source.name for source in sources.documents]


def test_what_is_written_is_read_listed_and_removed(place: Location) -> None:
    place.prepare()
    place.write("a/b.md", b"first")
    place.write("a/b.md", b"second")
    place.write("c.md", b"")
    assert place.read("a/b.md") == b"second"
    assert place.names() == {"a/b.md", "c.md"}, "nothing is left of how they were written"
    assert place.names("a") == {"a/b.md"}
    assert place.names("nowhere") == set()
    assert place.exists("a/b.md")
    place.remove(["a/b.md", "a/b.md", "never/was"])
    assert not place.exists("a/b.md")
    with pytest.raises(FileNotFoundError):
        place.read("a/b.md")


def test_what_a_killed_writer_left_is_swept(place: Location) -> None:
    place.write(f"{STATE}/unfinished/0123", b"ha")
    place.write("whole.md", b"whole")
    with place.swept():
        assert place.names() == {"whole.md"}
        place.write(f"{STATE}/unfinished/4567", b"ha")
    assert place.names() == {"whole.md"}


@pytest.mark.parametrize("folder", ["scans [1]", "scans?"])
def test_a_folder_whose_name_looks_like_a_pattern_loses_its_own_files_only(
    monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """`rm` of fsspec looks for patterns in names that it is given."""
    monkeypatch.setattr("deepseek_ocr_mcp.batch.files.lists_in_pages", lambda fs: True)
    place, other = Location(f"memory://{folder}"), Location("memory://scans1")
    for each in (place, other):
        each.write("parts/a", b"text")
    try:
        place.remove(["parts/a"])
        assert (place.names(), other.names()) == (set(), {"parts/a"})
    finally:
        for each in (place, other):
            for path in each.fs.find(each.root):
                each.fs.rm_file(path)


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_of(str(tmp_path))
    place.write("a.md", b"old")

    def killed(source: str, target: str) -> None:
        assert Path(source).read_bytes() == b"new"
        assert place.read("a.md") == b"old"
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        place.write("a.md", b"new")
    assert place.read("a.md") == b"old"


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    first, second = place_of(str(tmp_path)).locked(), place_of(str(tmp_path)).locked()
    with first, pytest.raises(BadRequest, match="Another batch"), second:
        pass
    with place_of(str(tmp_path)).locked():
        pass


def test_a_disk_without_locks_is_not_taken_for_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with place_of(str(tmp_path)).locked():
        pass


def test_a_folder_is_listed_with_all_below_it(tmp_path: Path) -> None:
    files("2.png", "10.pdf", "a/b/c.TIFF", "notes.txt", ".hidden.png", ".git/x.png", "out/x.png", at=tmp_path)
    out = place_of(str(tmp_path / "out"))
    found = list_sources(str(tmp_path), out, SETTINGS)
    assert names(found) == ["10.pdf", "2.png", "a/b/c.TIFF"]
    assert [part.prefix for part in found.parts] == ["", "a/", "a/b/"], "each folder is a part of its own"
    assert [Path(each.name).name for each in found.left_out] == ["notes.txt"]
    assert found.documents[1].url == str(tmp_path / "2.png")
    assert names(list_sources(f"{tmp_path}/**/*.tiff", out, SETTINGS)) == ["a/b/c.TIFF"]
    assert names(list_sources(str(tmp_path / "notes.txt"), out, SETTINGS)) == ["notes.txt"]
    assert names(list_sources((tmp_path / "2.png").as_uri(), out, SETTINGS)) == ["2.png"]


def test_more_files_are_listed_than_a_client_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepseek_ocr_mcp.documents.listing.MAX_FILES", 3)
    files(*(f"{number}.png" for number in range(5)), at=tmp_path)
    assert len(list_sources(str(tmp_path), place_of("memory://o"), SETTINGS).documents) == 5


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    files("a.png", at=tmp_path)
    stamps = []
    for change in (lambda: None, lambda: os.utime(tmp_path / "a.png", (1, 1)), lambda: files("a.png", at=tmp_path)):
        change()
        stamps.append(list_sources(str(tmp_path), place_of("memory://o"), SETTINGS).documents[0].stamp)
    assert len(set(stamps)) == 3
    assert all(stamps)


def test_a_bucket_is_listed_like_a_folder() -> None:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    for name in (
        "/bucket/in/a.png",
        "/bucket/in/b/c.pdf",
        "/bucket/in/n.txt",
        "/bucket/in/.x.png",
        "/bucket/in/o/p.png",
    ):
        fs.pipe_file(name, b"x")
    out = place_of("memory://bucket/in/o")
    found = list_sources("memory://bucket/in", out, SETTINGS)
    assert names(found) == ["a.png", "b/c.pdf"]
    assert found.documents[0].url == "memory:///bucket/in/a.png"
    assert not found.documents[0].local
    assert found.documents[0].stamp
    assert [each.name for each in found.left_out] == ["memory:///bucket/in/n.txt"]
    assert names(list_sources("memory://bucket/in/**/*.pdf", out, SETTINGS)) == ["b/c.pdf"]
    assert names(list_sources("memory://bucket/in/n.txt", out, SETTINGS)) == ["n.txt"]


def test_no_name_of_another_file_system_leads_out_of_the_folder() -> None:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pipe_file("/bucket/in/b%2F..%2F..%2Fy.png", b"x")
    fs.pipe_file("/bucket/in/b\\..\\..\\z.png", b"x")
    found = names(list_sources("memory://bucket/in", place_of("memory://o"), SETTINGS))
    assert sorted(found) == ["b/_/_/y.png", "b/_/_/z.png"]


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("memory://nothing/here", InputNotFound, "There is no"),
        ("nonsense://bucket/x", BadRequest, "no file system that fsspec knows"),
        ("s3://bucket/x", BadRequest, "s3fs"),
        ("http://127.0.0.1:9/x.png", OcrError, "failed"),
    ],
)
def test_what_cannot_be_listed_says_why(text: str, error: type[OcrError], said: str) -> None:
    with pytest.raises(error) as caught:
        list_sources(text, place_of("memory://o"), SETTINGS)
    assert said in str(caught.value)
    assert caught.value.remedy


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a server that shows the folder `web`."""
    (tmp_path / "web").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_documents_behind_http_are_listed_and_fetched(web: str, tmp_path: Path) -> None:
    files("a.png", "b/c.pdf", "notes.txt", at=tmp_path / "web")
    (tmp_path / "web" / "b" / "c.pdf").write_bytes(b"%PDF" + bytes(3_000_000))
    out = place_of(str(tmp_path / "out"))
    found = await anyio.to_thread.run_sync(list_sources, f"{web}/", out, SETTINGS)
    assert names(found) == ["a.png", "b/c.pdf"]
    (one,) = (await anyio.to_thread.run_sync(list_sources, f"{web}/b/c.pdf", out, SETTINGS)).documents
    assert (one.name, one.url) == ("c.pdf", f"{web}/b/c.pdf")
    with anyio.fail_after(60), private_folder() as folder:
        async with DocumentReader(SETTINGS, folder).running() as reader:
            async with snapshot_of(one, SETTINGS, folder, reader) as snapshot:
                data = b"%PDF" + bytes(3_000_000)
                assert await anyio.Path(snapshot.path).read_bytes() == data
                assert snapshot.sha256 == hashlib.sha256(data).hexdigest()
            small = Settings(ocr_max_file_mb=1)
            async with DocumentReader(small, folder).running() as strict:
                with pytest.raises(InputTooLarge):
                    await snapshot_of(one, small, folder, strict).__aenter__()
            with pytest.raises(InputNotFound):
                await snapshot_of(replace(one, url=f"{web}/gone.png"), SETTINGS, folder, reader).__aenter__()


def test_folders_that_the_operator_keeps_out_are_not_listed(tmp_path: Path) -> None:
    files("in/a.png", "out/b.png", at=tmp_path)
    settings = Settings(ocr_allowed_dirs=(str(tmp_path / "in"),))
    assert names(list_sources(str(tmp_path / "in"), place_of("memory://o"), settings)) == ["a.png"]
    assert parts_of(str(tmp_path / "out"), place_of("memory://o"), Reach.of(Caller(), settings)) == []


def test_two_colons_in_a_key_are_no_chain_of_file_systems() -> None:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pipe_file("/b/in/a::b.png", b"one")
    out = place_of("memory://b/out::x")
    (document,) = list_sources("memory://b/in", out, SETTINGS).documents
    assert document.name == "a::b.png"
    taken: list[bytes] = []
    pieces(document, taken.append, threading.Event())
    assert taken == [b"one"]
    out.write(f"{document.name}.md", b"text")
    assert out.read(f"{document.name}.md") == b"text"


def test_two_colons_in_a_path_of_this_machine_are_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files("in::1/a::b.png", at=tmp_path)
    monkeypatch.chdir(tmp_path)
    assert names(list_sources("in::1", place_of("out::1"), SETTINGS)) == ["a::b.png"]
    assert place_of("simplecache::s3://b/in").local is False


def test_a_file_takes_its_place_where_names_look_like_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepseek_ocr_mcp.batch.files.OBJECT_STORES", frozenset())
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    out = place_of("memory://b/out[1]*")
    for text in (b"old", b"new"):
        out.write("a[2]?.md", text)
        assert (out.read("a[2]?.md"), out.names()) == (text, {"a[2]?.md"})

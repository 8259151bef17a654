"""Documents in tar and WARC files: each is found and fetched, and an archive that means harm is told for it."""

from __future__ import annotations

import gzip
import io
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from deepseek_ocr_mcp.batch import tar as tars
from deepseek_ocr_mcp.batch import warc as warcs
from deepseek_ocr_mcp.batch.archives import DAMAGED, archive_of, member_pieces
from deepseek_ocr_mcp.batch.files import SourceDocument, place_of
from deepseek_ocr_mcp.batch.plan import Task, from_row, to_row
from deepseek_ocr_mcp.batch.sources import list_part, parts_of
from deepseek_ocr_mcp.batch.tar import LEADS_OUT, LINKS
from deepseek_ocr_mcp.batch.warc import NOT_WHOLE, ONE_STREAM
from deepseek_ocr_mcp.documents.listing import OTHER_SUFFIX, Unlisted
from deepseek_ocr_mcp.documents.reach import Reach
from deepseek_ocr_mcp.errors import OcrError, UnreadableInput
from support import png

PDF = b"%PDF-1.7 one"


def listed(source: str | Path, dirs: tuple[str, ...] = ()) -> list[SourceDocument | Unlisted]:
    parts = parts_of(str(source), place_of("memory://nowhere"), Reach(dirs))
    return [each for part in parts for each in list_part(part)]


def documents(source: str | Path) -> dict[str, bytes]:
    """The documents of an archive, by the names of their texts."""
    return {each.name: fetched(each) for each in listed(source) if isinstance(each, SourceDocument)}


def left_out(source: str | Path) -> dict[str, str]:
    """Why names are no documents, without the archive before them."""
    reasons = [each for each in listed(source) if isinstance(each, Unlisted)]
    return {each.name.partition("!/")[2]: each.why for each in reasons}


def fetched(document: SourceDocument, dirs: tuple[str, ...] = ()) -> bytes:
    taken: list[bytes] = []
    assert document.member is not None
    member_pieces(document.member, dirs, taken.append, threading.Event())
    return b"".join(taken)


def tar(path: Path, *members: tuple[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=form) as archive:  # type: ignore[call-overload]
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def odd(name: str, kind: bytes, link: str = "") -> bytes:
    """The header of a member that is no file."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry.tobuf(tarfile.GNU_FORMAT)


def warc(*records: bytes) -> bytes:
    return b"".join(records)


def record(kind: str, address: str, body: bytes, **headers: str) -> bytes:
    lines = {
        "WARC-Type": kind,
        "WARC-Target-URI": address,
        **{name.replace("_", "-"): value for name, value in headers.items()},
        "Content-Length": str(len(body)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return b"WARC/1.1\r\n" + head.encode() + b"\r\n" + body + b"\r\n\r\n"


def answer(address: str, body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    http = f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body
    return record("response", address, http, Content_Type="application/http; msgtype=response")


WEB = [
    record("warcinfo", "", b"software: a\r\n"),
    record("request", "https://a.example/1.pdf", b"GET / HTTP/1.1\r\n\r\n", Content_Type="application/http"),
    answer("https://a.example/1.pdf?id=3", PDF, Content_Type="application/pdf"),
    answer("https://a.example/", b"<html>"),
    answer("https://a.example/2.pdf", b"6\r\n%PDF-1\r\n2\r\n.7\r\n0\r\n\r\n", Transfer_Encoding="chunked"),
    answer("https://a.example/3", gzip.compress(b"%PDF-1.7 ") + gzip.compress(b"three"), Content_Encoding="gzip"),
    answer("https://a.example/4.pdf", PDF, status="206 Partial Content"),
    record("resource", "file:///scans/../5.png", png(1, 1), Content_Type="image/png"),
    record("revisit", "https://a.example/1.pdf?id=3", b"", WARC_Refers_To="<urn:uuid:1>"),
    answer("https://a.example/1.pdf?id=4", b"%PDF-1.7 four"),
    record("resource", "https://a.example/6.pdf", PDF, WARC_Truncated="length"),
]  # fmt: skip
WEB_DOCUMENTS = {
    "a.example/1.pdf?id=3": PDF,
    "a.example/2.pdf": b"%PDF-1.7",
    "a.example/3": b"%PDF-1.7 three",
    "scans/_/5.png": png(1, 1),
    "a.example/1.pdf?id=4": b"%PDF-1.7 four",
}


@pytest.fixture(params=["w", "w:gz"])
def scans(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A tar file, packed or not, with documents in folders."""
    long = f"{'deep/' * 60}c.png"
    name = "scans.tar" if request.param == "w" else "scans.tar.gz"
    members = [("./a.pdf", PDF), ("b/é.png", b"two" * 1000), ("b/readme", b"?"), ("n.txt", b"n"), (".x.pdf", b"-")]
    return tar(tmp_path / name, *members, (long, b"long"), mode=request.param)


def test_the_documents_of_a_tar_file_are_found_and_fetched_in_any_order(scans: Path) -> None:
    expected = {"a.pdf": PDF, "b/é.png": b"two" * 1000, "b/readme": b"?", f"{'deep/' * 60}c.png": b"long"}
    assert documents(scans) == {f"{scans.name}/{name}": data for name, data in expected.items()}
    found = [each for each in listed(scans) if isinstance(each, SourceDocument)]
    assert [fetched(each) for each in reversed(found)] == list(reversed(expected.values()))
    assert left_out(scans) == {"n.txt": OTHER_SUFFIX}
    assert [archive_of(each.url) for each in found] == [str(scans)] * 4
    assert len({each.stamp for each in found}) == 4


def test_a_tar_file_of_a_pattern_a_list_and_another_file_system_is_opened(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tar(tmp_path / "in" / "a.tar", ("x.pdf", PDF))
    assert documents(tmp_path / "in" / "*.tar") == {"a.tar/x.pdf": PDF}
    (tmp_path / "names").write_text(f"{path}\n")
    out = place_of(str(tmp_path / "out"))
    out.prepare()
    parts = parts_of(f"@{tmp_path / 'names'}", out, Reach())
    assert [each.name for part in parts for each in list_part(part)] == [f"{str(path).lstrip('/')}/x.pdf"]
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pipe_file("/b/a.tar", path.read_bytes())
    memory.pipe_file("/b/c.warc.gz", b"".join(map(gzip.compress, WEB)))
    assert documents("memory://b/a.tar") == {"a.tar/x.pdf": PDF}
    assert documents("memory://b/*.gz") == {f"c.warc.gz/{name}": data for name, data in WEB_DOCUMENTS.items()}
    memory.store["/b/a.tar/x.pdf"] = memory.store["/b/a.tar"]  # object stores hold both
    assert documents("memory://b/a.tar") == {}, "its texts would have the names of others"


def test_an_archive_in_a_folder_is_left_out_with_a_word(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", ("x.pdf", PDF))
    assert [(each.name, each.why) for each in listed(tmp_path) if isinstance(each, Unlisted)] == [
        (str(tmp_path / "a.tar"), OTHER_SUFFIX)
    ]


def test_names_that_lead_out_and_links_are_told_and_never_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.pdf"
    secret.write_bytes(b"%PDF-1.7 secret")
    path = tar(tmp_path / "a.tar", ("../secret.pdf", b"a"), ("/etc/b.pdf", b"b"), ("c/..\\..\\c.pdf", b"c"))
    path.write_bytes(
        odd("link.pdf", tarfile.SYMTYPE, str(secret))
        + odd("hard.pdf", tarfile.LNKTYPE, str(secret))
        + odd("tape.pdf", tarfile.CHRTYPE)
        + odd("folder", tarfile.DIRTYPE)
        + path.read_bytes()
    )
    assert documents(path) == {}
    assert left_out(path) == {
        "link.pdf": LINKS,
        "hard.pdf": LINKS,
        "tape.pdf": tars.SPECIAL,
        "../secret.pdf": LEADS_OUT,
        "/etc/b.pdf": LEADS_OUT,
        "c/..\\..\\c.pdf": LEADS_OUT,
    }


def test_a_name_that_comes_twice_is_two_documents(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", ("x.pdf@2560", b"0"), ("x.pdf", b"1"), ("./x.pdf", b"2"))
    assert documents(path) == {"a.tar/x.pdf@2560": b"0", "a.tar/x.pdf": b"1", "a.tar/x.pdf@2560@2560": b"2"}
    assert len({each.url for each in listed(path) if isinstance(each, SourceDocument)}) == 3


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tar_is_read(tmp_path: Path, form: int) -> None:
    name = f"{'f' * 90}/{'g' * 60}.pdf"
    assert documents(tar(tmp_path / "a.tar", (name, PDF), form=form)) == {f"a.tar/{name}": PDF}


def test_several_tar_files_one_behind_the_other_are_one(tmp_path: Path) -> None:
    one, two = tar(tmp_path / "1.tar", ("1.pdf", b"1")), tar(tmp_path / "2.tar", ("2.pdf", b"2"))
    (tmp_path / "a.tar").write_bytes(one.read_bytes() + two.read_bytes())
    assert documents(tmp_path / "a.tar") == {"a.tar/1.pdf": b"1", "a.tar/2.pdf": b"2"}


def damages(data: bytes) -> Iterator[bytes]:
    """A tar file of two members of 512 bytes, cut or changed where it hurts."""
    yield b""
    yield data[:300]
    yield data[:1024]  # between two members: no end is there
    yield data[:1800]
    yield data[: 1024 + 100] + b"?" + data[1024 + 101 :]
    yield data[:124] + b"\xff" * 12 + data[136:]


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_a_damaged_tar_file_says_so_and_gives_what_stands_before(tmp_path: Path, number: int, suffix: str) -> None:
    data = tar(tmp_path / "sound.tar", ("1.pdf", b"1" * 512), ("2.pdf", b"2" * 512)).read_bytes()
    damaged = list(damages(data))[number]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(damaged) if suffix == "tar.gz" else damaged)
    found = listed(path)
    assert found[-1] == Unlisted(str(path), DAMAGED)
    assert len(found) - 1 <= 1


def test_a_gzip_file_that_is_cut_says_so(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar.gz", ("1.pdf", b"1" * 5000), mode="w:gz")
    path.write_bytes(path.read_bytes()[:-9])
    assert listed(path)[-1] == Unlisted(str(path), DAMAGED)


@pytest.mark.parametrize(
    "records",
    [b"12 size=-5\n", b"99 path=a\n", b"x", b"11 path=a\n", b"18 size=99999999\n\n", b"25 GNU.sparse.map=0,1,2\n\n"],
)
def test_headers_that_lie_are_no_members(tmp_path: Path, records: bytes) -> None:
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, len(records)
    data = tar(tmp_path / "a.tar", ("1.pdf", b"1")).read_bytes()
    (tmp_path / "a.tar").write_bytes(entry.tobuf() + records.ljust(512, b"\0") + data)
    assert documents(tmp_path / "a.tar") == {}
    assert left_out(tmp_path / "a.tar")


def test_memory_does_not_depend_on_a_header_s_word(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("pax")
    huge.type, huge.size = tarfile.XHDTYPE, 1 << 30
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(huge.tobuf())
        for _ in range(8):
            file.write(bytes(1 << 20))
    (tmp_path / "b.warc.gz").write_bytes(gzip.compress(b"WARC/1.0\r\n" + b"a" * (8 << 20), 1))
    tracemalloc.start()
    try:
        for name in ("a.tar.gz", "b.warc.gz"):
            assert listed(tmp_path / name) == [Unlisted(str(tmp_path / name), DAMAGED)]
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_documents_of_a_warc_file_are_found_and_fetched(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / ("a.warc" if pack is bytes else "a.warc.gz")
    path.write_bytes(b"".join(map(pack, WEB)))
    assert documents(path) == {f"{path.name}/{name}": data for name, data in WEB_DOCUMENTS.items()}
    start = len(b"".join(map(pack, WEB[:8])))
    assert left_out(path) == {
        "https://a.example/": warcs.NO_DOCUMENT,
        "https://a.example/4.pdf": NOT_WHOLE,
        f"https://a.example/1.pdf?id=3@{start}": warcs.REVISITS,
        "https://a.example/6.pdf": warcs.CUT,
    }


def test_a_warc_file_in_one_stream_and_a_cut_one_say_so(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress(b"".join(WEB)))
    assert listed(path) == [Unlisted(str(path), ONE_STREAM)]
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(WEB)[:-3])
    assert listed(path)[-1] == Unlisted(str(path), DAMAGED)
    path.write_bytes(WEB[2].replace(b"Content-Length: ", b"Content-Length: -"))
    assert listed(path) == [Unlisted(str(path), DAMAGED)]


def test_an_archive_outside_the_allowed_folders_is_not_opened(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    tar(outside / "a.tar", ("x.pdf", PDF))
    (inside / "a.tar").symlink_to(outside / "a.tar")
    found = listed(inside / "*.tar", (str(inside),))
    assert found == [Unlisted(str(inside / "a.tar"), "archives that could not be read (input_forbidden)")]
    (document,) = [each for each in listed(outside / "a.tar") if isinstance(each, SourceDocument)]
    with pytest.raises(OcrError, match="outside the allowed folders"):
        fetched(document, (str(inside),))


def test_an_archive_that_changed_gives_an_error_and_no_other_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(WEB))
    found = [each for each in listed(path) if isinstance(each, SourceDocument)]
    path.write_bytes(WEB[0])
    with pytest.raises(UnreadableInput, match="does not hold the document any more"):
        fetched(found[0])


def test_a_document_of_an_archive_travels_through_the_cluster(tmp_path: Path) -> None:
    found = [Task(each) for each in listed(tar(tmp_path / "a.tar", ("x.pdf", PDF))) if isinstance(each, SourceDocument)]
    assert from_row(to_row(found)) == found


def test_an_archive_that_a_file_system_cannot_seek_in_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def streaming(file: object) -> None:
        raise ValueError("Cannot seek streaming HTTP file")

    monkeypatch.setattr("deepseek_ocr_mcp.batch.tar.ArchiveBytes.of_file", streaming)
    path = tar(tmp_path / "a.tar", ("x.pdf", PDF))
    assert listed(path) == [Unlisted(str(path), "archives that could not be read (ValueError)")]

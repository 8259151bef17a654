from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import socket
import stat
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.to_thread
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents import base64 as base64_source
from deepseek_ocr_mcp.documents import source
from deepseek_ocr_mcp.documents.output import make_folder, resolve_output, write_atomically
from deepseek_ocr_mcp.documents.reach import Reach, allowed_path
from deepseek_ocr_mcp.documents.source import Snapshot, discard, open_source
from deepseek_ocr_mcp.errors import (
    BadRequest,
    InputForbidden,
    InputNotFound,
    InputTooLarge,
    OcrError,
    OutputExists,
    UnreadableInput,
)
from meaning import meant

pytestmark = pytest.mark.anyio
BOUND_S = 60.0  # a bound, not a wait: nothing here takes a second

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(100))
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(100))

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


def make_settings(**values: object) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[arg-type]


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def real(path: Path) -> str:
    return os.path.realpath(path)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


async def opened(image: str, scratch: Path, settings: Settings, *, local: bool = True) -> Snapshot:
    return await open_source(meant(image, *settings.ocr_allowed_dirs, is_local=local), settings, str(scratch))


async def take(image: str, scratch: Path, *, local: bool = True, **values: object) -> bytes:
    """The bytes that a snapshot of `image` holds; the snapshot itself is checked and discarded."""
    with anyio.fail_after(BOUND_S):
        snapshot = await opened(image, scratch, make_settings(**values), local=local)
    data = content(snapshot.path)
    assert Path(snapshot.path).parent == scratch
    assert snapshot.size == len(data)
    assert snapshot.sha256 == hashlib.sha256(data).hexdigest()
    if os.name == "posix":
        assert stat.S_IMODE(os.stat(snapshot.path).st_mode) == 0o600
    discard(snapshot)
    assert not os.listdir(scratch)
    return data


async def refused(kind: type[OcrError], image: str, scratch: Path, **values: object) -> OcrError:
    with pytest.raises(kind) as caught:
        await take(image, scratch, **values)  # type: ignore[arg-type]
    assert not os.listdir(scratch), "a failed copy must leave nothing"
    assert caught.value.remedy
    return caught.value


# -- what is taken


async def test_an_absolute_path_is_copied(inbox: Path, scratch: Path) -> None:
    path = inbox / "Räum & Co 100%.png"
    path.write_bytes(PNG)
    assert await take(str(path), scratch) == PNG
    assert await take(f"  {path}\n", scratch) == PNG


@posix
async def test_a_file_whose_name_is_no_utf8_is_found_by_the_name_that_answers_show(inbox: Path, scratch: Path) -> None:
    path = os.path.join(os.fsencode(inbox), b"caf\xe9.png")
    os.write(descriptor := os.open(path, os.O_CREAT | os.O_WRONLY), PNG)
    os.close(descriptor)
    assert await take(str(inbox / "caf\ufffd.png"), scratch) == PNG
    assert await take(os.fsdecode(path), scratch) == PNG


async def test_the_name_is_the_files_own(inbox: Path, scratch: Path) -> None:
    path = inbox / "two\nlines.png"
    path.write_bytes(PNG)
    snapshot = await opened(str(path), scratch, make_settings())
    assert snapshot.name == "two\\nlines.png"
    discard(snapshot)
    discard(snapshot)  # twice is fine


@pytest.mark.parametrize("prefix", ["file://", "file://localhost", "FILE://LOCALHOST", "file:"])
async def test_a_file_uri_is_decoded(inbox: Path, scratch: Path, prefix: str) -> None:
    path = inbox / "my scan #1.png"
    path.write_bytes(PNG)
    assert await take(prefix + quote(str(path)), scratch) == PNG
    assert await take(prefix + str(path), scratch) == PNG


async def test_a_file_uri_of_another_machine_is_refused(scratch: Path) -> None:
    error = await refused(BadRequest, "file://server/share/a.png", scratch)
    assert "server" in error.message


async def test_a_tilde_is_the_home_of_a_local_caller(
    inbox: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inbox / "a.png").write_bytes(PNG)
    monkeypatch.setenv("HOME", str(inbox))
    monkeypatch.setenv("USERPROFILE", str(inbox))
    assert await take("~/a.png", scratch) == PNG
    await refused(BadRequest, "~/a.png", scratch, local=False, ocr_allowed_dirs=(str(inbox),))


async def test_base64_of_a_jpeg_is_no_path_although_it_begins_with_a_slash(scratch: Path) -> None:
    text = base64.b64encode(JPEG).decode()
    assert text.startswith("/9j/")
    assert await take(text, scratch) == JPEG
    assert await take(text, scratch, local=False) == JPEG
    long = JPEG * 1000
    assert await take(base64.b64encode(long).decode(), scratch) == long


async def test_data_uris_in_all_their_forms(scratch: Path) -> None:
    text = base64.b64encode(PNG).decode()
    assert await take(f"data:image/png;base64,{text}", scratch) == PNG
    assert await take(f"DATA:image/png;charset=utf-8;name=a.png;BASE64,{text}", scratch) == PNG
    assert await take(f"data:;base64,{quote(text, safe='')}", scratch) == PNG
    assert await take(f"data:application/octet-stream,{quote(PNG)}", scratch) == PNG
    error = await refused(BadRequest, "data:image/png;base64", scratch)
    assert "comma" in error.message


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.binary(min_size=64, max_size=400),
    url_safe=st.booleans(),
    padded=st.booleans(),
    width=st.sampled_from([0, 1, 7, 64, 76]),
    kind=st.sampled_from(["raw", "data", "quoted"]),
    chunk=st.sampled_from([3, 5, 8, 4096]),
)
def test_any_spelling_of_base64_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    data: bytes,
    url_safe: bool,
    padded: bool,
    width: int,
    kind: str,
    chunk: int,
) -> None:
    if kind == "raw":
        data = PNG + data
    text = (base64.urlsafe_b64encode(data) if url_safe else base64.b64encode(data)).decode()
    text = text if padded else text.rstrip("=")
    if kind == "quoted":
        text = quote(text, safe="")
    elif width:
        text = "\r\n".join(text[i : i + width] for i in range(0, len(text), width))
    scratch = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base64_source, "TEXT_CHUNK", chunk)
        image = text if kind == "raw" else f"data:;base64,{text}"
        assert anyio.run(take, image, scratch) == data


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(min_size=1, max_size=200), chunk=st.sampled_from([2, 3, 4, 4096]))
@example(data=b"%" * 9, chunk=2)
def test_any_bytes_survive_percent_encoding(tmp_path_factory: pytest.TempPathFactory, data: bytes, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base64_source, "TEXT_CHUNK", chunk)
        assert anyio.run(take, f"data:,{quote(data, safe='')}", tmp_path_factory.mktemp("scratch")) == data


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(image=st.text(max_size=200))
@example(image="/\0")
@example(image="file:///%00")
@example(image="data:,%")
@example(image="data:;base64,=")
@example(image="\ud800")
@example(image="/9j/\ud800")
@example(image="file://\ud800/")
@example(image="~")
@example(image="~\0")
@example(image="~a\0/b")
@example(image="https://[")
def test_no_text_at_all_gives_anything_but_our_errors(tmp_path_factory: pytest.TempPathFactory, image: str) -> None:
    with contextlib.suppress(OcrError):
        anyio.run(take, image, tmp_path_factory.mktemp("scratch"))


# -- what is refused, and how


@pytest.mark.parametrize(
    "image",
    ["scan.png", "./scan.png", "../in/scan.pdf", "in/scan.pdf", "in\\scan.pdf", "scan", "My scan.png"],
)
async def test_a_relative_path_is_told_from_base64(scratch: Path, image: str) -> None:
    error = await refused(BadRequest, image, scratch)
    assert "relative path" in error.message
    assert '"/home/me/' in error.remedy


@pytest.mark.parametrize("image", ["", "   ", "what is this, please?\n" * 9, "ftp://host/a.png", "s3://bucket/a.png"])
async def test_what_is_neither_a_path_nor_base64_is_refused(scratch: Path, image: str) -> None:
    await refused(BadRequest, image, scratch)


@posix
@pytest.mark.parametrize("image", [r"C:\scans\a.png", "c:/scans/a.png", r"\\server\share\a.png"])
async def test_a_windows_path_is_named_as_such(scratch: Path, image: str) -> None:
    assert "Windows" in (await refused(BadRequest, image, scratch)).message


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t[:-1],
        lambda t: t[:50] + "!" + t[50:],
        lambda t: t[:8] + "==" + t[8:],
        lambda t: t + "==" + t,
        lambda t: t[:40] + "é" + t[40:],
    ],
)
async def test_damaged_base64_is_refused(scratch: Path, spoil: object, monkeypatch: pytest.MonkeyPatch) -> None:
    text = spoil(base64.b64encode(PNG + b"\0").decode().rstrip("="))  # type: ignore[operator]
    for chunk in (4, 8, 4096):
        monkeypatch.setattr(base64_source, "TEXT_CHUNK", chunk)
        await refused(UnreadableInput, f"data:image/png;base64,{text}", scratch)


async def test_what_does_not_exist_is_named(inbox: Path, scratch: Path) -> None:
    error = await refused(InputNotFound, str(inbox / "missing.png"), scratch)
    assert "missing.png" in error.message
    await refused(InputNotFound, str(inbox / ("x" * 300)), scratch)
    await refused(InputNotFound, str(inbox / "a.png" / "b.png"), scratch)


async def test_a_nul_in_a_path_is_refused(scratch: Path) -> None:
    await refused(BadRequest, "/tmp/a\0b.png", scratch)
    await refused(BadRequest, "file:///tmp/a%00b.png", scratch)


async def test_an_empty_file_is_named(inbox: Path, scratch: Path) -> None:
    (inbox / "empty.png").touch()
    assert "empty.png is empty" in (await refused(UnreadableInput, str(inbox / "empty.png"), scratch)).message
    await refused(UnreadableInput, "data:image/png;base64,", scratch)


async def test_a_folder_is_named(inbox: Path, scratch: Path) -> None:
    assert "is a folder" in (await refused(UnreadableInput, str(inbox), scratch)).message
    assert "is a folder" in (await refused(UnreadableInput, f"{inbox}/", scratch)).message


@posix
async def test_a_fifo_is_refused_at_once(inbox: Path, scratch: Path) -> None:
    os.mkfifo(inbox / "pipe.png")
    assert "named pipe" in (await refused(UnreadableInput, str(inbox / "pipe.png"), scratch)).message


@posix
async def test_devices_and_sockets_are_refused_at_once(inbox: Path, scratch: Path) -> None:
    for device in ("/dev/zero", "/dev/tty", "/dev/stdin"):
        await refused(OcrError, device, scratch)
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(inbox):
        listener.bind("socket.png")
        assert "device or a socket" in (await refused(UnreadableInput, str(inbox / "socket.png"), scratch)).message


@posix
async def test_a_file_without_permission_is_named(inbox: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = inbox / "secret.png"
    path.write_bytes(PNG)
    really = os.open

    def denied(name: str, flags: int, mode: int = 0o777) -> int:
        if name == str(path):
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return really(name, flags, mode)

    monkeypatch.setattr(os, "open", denied)  # the tests may run as root, whom no mode stops
    assert "No permission" in (await refused(UnreadableInput, str(path), scratch)).message


@pytest.mark.parametrize("kind", ["path", "base64", "data", "percent"])
async def test_more_bytes_than_the_limit_are_refused_with_its_name(inbox: Path, scratch: Path, kind: str) -> None:
    data = PNG + bytes(1024 * 1024)
    (inbox / "large.png").write_bytes(data)
    text = base64.b64encode(data).decode()
    image = {
        "path": str(inbox / "large.png"),
        "base64": text,
        "data": f"data:image/png;base64,{text}",
        "percent": f"data:image/png,{quote(data)}",
    }[kind]
    error = await refused(InputTooLarge, image, scratch, ocr_max_file_mb=1)
    assert "limit is 1 MiB" in error.message
    assert "OCR_MAX_FILE_MB" in error.remedy


@posix
async def test_a_file_that_grows_while_it_is_copied_is_held_to_the_limit(
    inbox: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = inbox / "log.png"
    path.write_bytes(PNG)
    really = source._read

    def growing(file: object, name: str) -> bytes:
        with path.open("ab") as end:
            end.write(bytes(300_000))
        return really(file, name)

    monkeypatch.setattr(source, "_read", growing)
    await refused(InputTooLarge, str(path), scratch, ocr_max_file_mb=1)


async def test_a_full_disk_is_named_and_leaves_nothing(
    inbox: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inbox / "a.png").write_bytes(PNG)

    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            os.close(self.descriptor)

        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    really = os.fdopen

    def full(descriptor: int, mode: str, buffering: int = -1) -> object:
        if mode != "wb":
            return really(descriptor, mode, buffering)
        file = Full()
        file.descriptor = descriptor  # type: ignore[attr-defined]
        return file

    monkeypatch.setattr(os, "fdopen", full)
    assert "No space" in (await refused(OcrError, str(inbox / "a.png"), scratch)).message


async def test_a_cancelled_copy_leaves_nothing(inbox: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (inbox / "a.png").write_bytes(PNG)
    reading, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    really_read, really_run = source._read, source._Copy.run

    def slow(file: object, name: str) -> bytes:
        reading.set()
        assert go_on.wait(BOUND_S)
        return really_read(file, name)

    def run(self: source._Copy, fill: object) -> Snapshot:
        try:
            return really_run(self, fill)  # type: ignore[arg-type]
        finally:
            ended.set()

    monkeypatch.setattr(source, "_read", slow)
    monkeypatch.setattr(source._Copy, "run", run)
    with anyio.fail_after(BOUND_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take, str(inbox / "a.png"), scratch)
            await anyio.to_thread.run_sync(reading.wait, BOUND_S)
            tasks.cancel_scope.cancel()
        go_on.set()
        assert await anyio.to_thread.run_sync(ended.wait, BOUND_S)
    assert not os.listdir(scratch)


# -- allowed folders


async def test_over_http_no_path_is_read_without_allowed_folders(inbox: Path, scratch: Path) -> None:
    (inbox / "a.png").write_bytes(PNG)
    there = await refused(InputForbidden, str(inbox / "a.png"), scratch, local=False)
    missing = await refused(InputForbidden, str(inbox / "b.png"), scratch, local=False)
    assert there.message == missing.message
    assert "OCR_ALLOWED_DIRS" in there.remedy


@pytest.mark.parametrize("local", [True, False])
async def test_only_allowed_folders_are_read(inbox: Path, scratch: Path, tmp_path: Path, local: bool) -> None:
    (inbox / "a.png").write_bytes(PNG)
    (tmp_path / "inbox-2").mkdir()
    (tmp_path / "inbox-2" / "a.png").write_bytes(PNG)
    dirs = (str(inbox),)
    assert await take(str(inbox / "a.png"), scratch, local=local, ocr_allowed_dirs=dirs) == PNG
    for path in (tmp_path / "inbox-2" / "a.png", inbox / ".." / "inbox-2" / "a.png", tmp_path):
        await refused(InputForbidden, str(path), scratch, local=local, ocr_allowed_dirs=dirs)


async def test_a_forbidden_path_does_not_tell_whether_it_exists(inbox: Path, scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    messages = {
        (await refused(InputForbidden, str(path / "a.png"), scratch, ocr_allowed_dirs=(str(inbox),))).message
        for path in (tmp_path, tmp_path / "missing", tmp_path / "a.png")
    }
    assert len(messages) == 1


@posix
async def test_a_link_out_of_the_allowed_folders_is_refused(inbox: Path, scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    (inbox / "link.png").symlink_to(tmp_path / "secret.png")
    (inbox / "folder").symlink_to(tmp_path)
    (inbox / "loop.png").symlink_to(inbox / "loop.png")
    dirs = (str(inbox),)
    await refused(InputForbidden, str(inbox / "link.png"), scratch, ocr_allowed_dirs=dirs)
    await refused(InputForbidden, str(inbox / "folder" / "secret.png"), scratch, ocr_allowed_dirs=dirs)
    await refused(OcrError, str(inbox / "loop.png"), scratch, ocr_allowed_dirs=dirs)
    assert await take(str(inbox / "link.png"), scratch) == PNG  # locally, links are the caller's own


@posix
@pytest.mark.parametrize("proc", [True, False])
async def test_a_link_turned_between_check_and_opening_is_refused(
    inbox: Path, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proc: bool
) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    path = inbox / "a.png"
    path.write_bytes(PNG)
    really = os.open

    def turning(name: str, flags: int, mode: int = 0o777) -> int:
        if name != str(path):
            return really(name, flags, mode)
        path.unlink()
        path.symlink_to(tmp_path / "secret.png")
        descriptor = really(name, flags, mode)
        path.unlink()
        path.write_bytes(PNG)  # and back again
        return descriptor

    monkeypatch.setattr(os, "open", turning)
    if not proc or sys.platform != "linux":
        monkeypatch.setattr(os, "readlink", lambda _: (_ for _ in ()).throw(OSError()))
    await refused(InputForbidden, str(path), scratch, ocr_allowed_dirs=(str(inbox),))


@given(
    st.lists(st.sampled_from(["a", "b", "ab", "a b"]), max_size=4),
    st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3),
)
def test_a_path_is_allowed_exactly_below_an_allowed_folder(parts: list[str], folder: list[str]) -> None:
    path, allowed = os.sep + os.sep.join(parts), os.sep + os.sep.join(folder)
    assert allowed_path(path, (allowed,)) == (parts[: len(folder)] == folder)
    assert not allowed_path(path, ())


# -- addresses


async def test_addresses_are_off_unless_enabled(scratch: Path) -> None:
    error = await refused(InputForbidden, "https://example.org/a.png", scratch)
    assert "OCR_ALLOW_URLS" in error.remedy


async def test_a_download_becomes_a_snapshot(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepseek_ocr_mcp.documents import fetch

    async def fetched(url: str, path: str, *, settings: Settings) -> str:
        await anyio.Path(path).write_bytes(PNG)
        return "scan.png"

    monkeypatch.setattr(fetch, "fetch", fetched)
    assert await take("https://example.org/scan.png", scratch, ocr_allow_urls=True) == PNG


async def test_a_failed_download_leaves_nothing(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepseek_ocr_mcp.documents import fetch

    async def full(url: str, path: str, *, settings: Settings) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def nothing(url: str, path: str, *, settings: Settings) -> None:
        return None

    monkeypatch.setattr(fetch, "fetch", full)
    await refused(OcrError, "https://example.org/a.png", scratch, ocr_allow_urls=True)
    monkeypatch.setattr(fetch, "fetch", nothing)
    await refused(UnreadableInput, "https://example.org/a.png", scratch, ocr_allow_urls=True)


# -- writing


async def resolve(save_to: object, *, local: bool = True, overwrite: bool = False, **values: object) -> str:
    reach = Reach(make_settings(**values).ocr_allowed_dirs, local)
    return await resolve_output(str(save_to), reach, overwrite=overwrite)


async def test_an_output_is_an_absolute_text_file(inbox: Path) -> None:
    for suffix in (".md", ".markdown", ".txt", ".JSON"):
        assert await resolve(inbox / f"a{suffix}") == real(inbox / f"a{suffix}")
    assert await resolve(f"file://{inbox}/a%20b.md") == real(inbox / "a b.md")
    for wrong in ("a.md", "in/a.md", inbox / "a.py", inbox / ".md", inbox / "a", f"{inbox}/\0.md"):
        with pytest.raises(BadRequest):
            await resolve(wrong)
    with pytest.raises(InputNotFound):
        await resolve(inbox / "missing" / "a.md")
    (inbox / "folder.md").mkdir()
    with pytest.raises(BadRequest):
        await resolve(inbox / "folder.md", overwrite=True)


async def test_an_output_is_written_in_allowed_folders_only(inbox: Path, tmp_path: Path) -> None:
    with pytest.raises(InputForbidden):
        await resolve(inbox / "a.md", local=False)
    dirs = (str(inbox),)
    assert await resolve(inbox / "a.md", local=False, ocr_allowed_dirs=dirs)
    for outside in (tmp_path / "a.md", tmp_path / "missing" / "a.md", inbox / ".." / "a.md"):
        with pytest.raises(InputForbidden):
            await resolve(outside, ocr_allowed_dirs=dirs)
    if os.name == "posix":
        (inbox / "out").symlink_to(tmp_path)
        with pytest.raises(InputForbidden):
            await resolve(inbox / "out" / "a.md", ocr_allowed_dirs=dirs)


async def test_an_existing_output_needs_overwrite(inbox: Path) -> None:
    (inbox / "a.md").write_text("old")
    with pytest.raises(OutputExists) as caught:
        await resolve(inbox / "a.md")
    assert "overwrite=true" in caught.value.remedy
    assert await resolve(inbox / "a.md", overwrite=True)


@pytest.mark.parametrize("links", [True, False])
async def test_a_file_is_written_whole_and_not_over_another(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def link(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", link)
    path = str(inbox / f"{'n' * 250}.md")
    await write_atomically(path, b"first", False)
    with pytest.raises(OutputExists):
        await write_atomically(path, b"second", False)
    assert content(path) == b"first"
    await write_atomically(path, b"third", True)
    assert content(path) == b"third"
    assert len(os.listdir(inbox)) == 1


@posix
async def test_overwriting_keeps_the_mode_and_replaces_a_link_not_its_target(inbox: Path) -> None:
    path = inbox / "a.md"
    path.write_text("old")
    path.chmod(0o600)
    await write_atomically(str(path), b"new", True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (inbox / "link.md").symlink_to(path)
    await write_atomically(str(inbox / "link.md"), b"other", True)
    assert path.read_bytes() == b"new"


async def test_a_failed_write_leaves_nothing(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OcrError, match="No space"):
        await write_atomically(str(inbox / "a.md"), b"text", False)
    assert not os.listdir(inbox)
    with pytest.raises(OcrError):
        await write_atomically(str(inbox / "missing" / "a.md"), b"text", False)


@posix
async def test_a_folder_that_becomes_a_link_before_the_writing_leads_nowhere(inbox: Path, tmp_path: Path) -> None:
    (inbox / "out").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    path = await resolve(inbox / "out" / "a.md", ocr_allowed_dirs=(str(inbox),))
    (inbox / "out").rmdir()
    (inbox / "out").symlink_to(outside)
    for overwrite in (False, True):
        with pytest.raises(InputForbidden):
            await write_atomically(path, b"text", overwrite, (real(inbox),))
    assert not os.listdir(outside)


@posix
async def test_no_folder_is_made_outside_of_the_allowed_ones(inbox: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (inbox / "door").symlink_to(outside)
    dirs = (real(inbox),)
    for path in (inbox / "door", inbox / "door" / "new", outside / "new"):
        with pytest.raises(InputForbidden):
            await make_folder(str(path), dirs)
    await make_folder(str(inbox / "a" / "b"), dirs)
    await make_folder(str(inbox / "a" / "b"), dirs)
    assert (inbox / "a" / "b").is_dir()
    (inbox / "file").touch()
    for path in (inbox / "file", inbox / "file" / "a"):
        with pytest.raises(BadRequest):
            await make_folder(str(path), dirs)
    assert not os.listdir(outside)


@posix
async def test_a_folder_that_is_turned_while_folders_are_made_leads_nowhere(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    really = os.mkdir

    def turning(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        really(name, mode, dir_fd=dir_fd)
        if name == "a":
            (inbox / "a").rmdir()
            (inbox / "a").symlink_to(outside)

    monkeypatch.setattr(os, "mkdir", turning)
    with pytest.raises(InputForbidden):
        await make_folder(str(inbox / "a" / "b"), (real(inbox),))
    assert not os.listdir(outside)

"""Models found on this machine and fetched from a small hub on this machine: whole, or not at all."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deepseek_ocr_mcp.engines import KNOWN, PREFERRED, choose_engine, hub, weights_to_fetch
from deepseek_ocr_mcp.engines.hub import download, resolve_model
from deepseek_ocr_mcp.errors import BadRequest, Busy, EngineUnavailable
from deepseek_ocr_mcp.install import extra_command

MODEL = "deepseek-ai/DeepSeek-OCR"
COMMIT = "a" * 40
SHARD = "model-00001-of-000001.safetensors"

needs_hub = pytest.mark.skipif(not importlib.util.find_spec("huggingface_hub"), reason="the [gpu] extra")


def safetensors(count: int = 200_000) -> bytes:
    """A file of weights: one tensor of `count` bytes."""
    header = json.dumps({"x": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(n * 37 % 251 for n in range(count))


def model_files() -> dict[str, bytes]:
    return {
        "config.json": b'{"model_type": "deepseek_vl_v2"}',
        "tokenizer.json": b"{}",
        "model.safetensors.index.json": json.dumps({"weight_map": {"x": SHARD}}).encode(),
        SHARD: safetensors(),
        "README.md": b"not read",
        "modeling_deepseekocr.py": b"raise SystemExit('code of a stranger')",
        "assets/fig1.png": b"not read",
    }


class Hub(ThreadingHTTPServer):
    """The two endpoints of the hub that are asked, with its faults on demand."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = model_files()
        self.commit = COMMIT
        self.requests: list[tuple[str, str | None, str | None]] = []
        """Name of each file that was asked for, its Range and its Authorization."""
        self.break_after: int | None = None
        """Bytes after which each transfer of the weights ends."""
        self.breaks = 0
        """How often that happens."""
        self.ranges = True
        self.status: int | None = None
        self.lie: bytes | None = None
        """Sent in place of the weights."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub = self.server
        if hub.status is not None:
            self.answer(hub.status, b"no")
        elif self.path.startswith(f"/api/models/{MODEL}"):
            self.answer(200, json.dumps(self.described()).encode(), {"Content-Type": "application/json"})
        elif self.path.startswith(f"/{MODEL}/resolve/{hub.commit}/"):
            self.send_file(self.path.rpartition("/")[2])
        else:
            self.answer(404, b"no")

    def described(self) -> dict[str, Any]:
        siblings = []
        for name, content in self.server.files.items():
            entry: dict[str, Any] = {
                "rfilename": name,
                "size": len(content),
                "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
            }
            if name.endswith(".safetensors"):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 134}
            siblings.append(entry)
        return {"id": MODEL, "sha": self.server.commit, "siblings": siblings}

    def send_file(self, name: str) -> None:
        hub, content = self.server, self.server.files[name]
        wanted = self.headers.get("Range")
        hub.requests.append((name, wanted, self.headers.get("Authorization")))
        weights = name.endswith(".safetensors")
        if weights and hub.lie is not None:
            content = hub.lie
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and hub.ranges else 0
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if weights and hub.breaks > 0 and hub.break_after is not None:
            hub.breaks -= 1
            self.wfile.write(body[: hub.break_after])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache and no variable of the hub."""
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hub, "RETRY_S", 0.001)
    return tmp_path / "home"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running
        running.shutdown()
        thread.join()
    if "huggingface_hub" in sys.modules:
        sys.modules["huggingface_hub"].close_session()


def write_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in model_files().items():
        if "/" not in name:
            (folder / name).write_bytes(content)
    return folder


def snapshot(home: Path, commit: str, *, main: bool = False, model: str = MODEL) -> Path:
    repository = home / "hub" / f"models--{model.replace('/', '--')}"
    if main:
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
    return write_model(repository / "snapshots" / commit)


# -- on this machine


def test_a_folder_with_all_files_is_a_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    assert resolve_model(str(folder)) == folder


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", SHARD])
def test_a_folder_without_one_of_its_files_is_no_model(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "model")
    (folder / name).unlink()
    assert resolve_model(str(folder)) is None


def test_weights_that_were_cut_short_are_no_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    os.truncate(folder / SHARD, 100_000)
    assert resolve_model(str(folder)) is None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"weight_map": {}}', b'{"weight_map": 3}', b"\xff"])
def test_a_damaged_index_is_no_model(tmp_path: Path, content: bytes) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "model.safetensors.index.json").write_bytes(content)
    assert resolve_model(str(folder)) is None


@pytest.mark.parametrize("content", [b"", b"\x02", b"\xff" * 8, (9).to_bytes(8, "little") + b'{"x": {}}'])
def test_weights_with_a_damaged_header_are_no_model(tmp_path: Path, content: bytes) -> None:
    folder = write_model(tmp_path / "model")
    (folder / SHARD).write_bytes(content)
    assert resolve_model(str(folder)) is None


def test_a_hub_id_is_looked_up_in_the_cache(home: Path) -> None:
    assert resolve_model(MODEL) is None
    folder = snapshot(home, COMMIT)
    assert resolve_model(MODEL) == folder


def test_the_first_deepseek_ocr_reads_where_it_was_fetched_and_the_second_was_not(home: Path) -> None:
    engine = KNOWN[PREFERRED]
    assert engine.weights_here("") is None
    first = snapshot(home, COMMIT)
    assert engine.weights_here("") == first
    assert engine.weights_here(engine.weights) is None, "a model that is named is that model"
    second = snapshot(home, COMMIT, model="deepseek-community/DeepSeek-OCR-2")
    assert engine.weights_here("") == second
    assert engine.weights_here(MODEL) == first


def test_a_server_keeps_the_weights_that_it_began_with_and_says_how_to_change_them(home: Path) -> None:
    """Pages that the first model reads must not be kept as pages of the second, which was fetched meanwhile."""
    nothing, reason = choose_engine(PREFERRED)
    assert (nothing, reason) == (KNOWN[PREFERRED], "OCR_ENGINE=deepseek.")
    first = snapshot(home, COMMIT)
    engine, reason = choose_engine(PREFERRED)
    version = engine.version("")
    snapshot(home, COMMIT, model="deepseek-community/DeepSeek-OCR-2")
    assert engine.weights_here("") == first
    assert engine.version("") == version
    for words in ("It reads with DeepSeek-OCR,", "download", f"OCR_MODEL={MODEL}"):
        assert words in reason
    again, reason = choose_engine(PREFERRED)
    assert (again.weights, reason) == ("deepseek-community/DeepSeek-OCR-2", "OCR_ENGINE=deepseek.")
    assert not choose_engine(PREFERRED, model=MODEL)[0].about_weights, "the operator chose it"


def test_the_publishers_files_of_the_default_model_are_the_default_model(home: Path) -> None:
    snapshot(home, COMMIT)
    own = snapshot(home, COMMIT, model="deepseek-ai/DeepSeek-OCR-2")
    engine, reason = choose_engine(PREFERRED)
    assert engine.weights_here("") == own
    assert reason == "OCR_ENGINE=deepseek."


@pytest.mark.parametrize(
    ("engine", "model", "fetched"),
    [
        ("auto", "", KNOWN[PREFERRED].weights),
        ("auto", MODEL, MODEL),
        ("deepseek", "/srv/weights", KNOWN[PREFERRED].weights),
        ("vlm", "", KNOWN["vlm"].weights),
        ("vlm", "zai-org/GLM-OCR", "zai-org/GLM-OCR"),
        ("openai", MODEL, KNOWN[PREFERRED].weights),
        ("rapidocr", "", KNOWN[PREFERRED].weights),
    ],
)
def test_the_model_that_the_settings_name_is_fetched_where_the_command_names_none(
    engine: str, model: str, fetched: str
) -> None:
    assert weights_to_fetch(engine, model) == fetched


def test_the_snapshot_of_main_comes_before_newer_ones(home: Path) -> None:
    main = snapshot(home, "b" * 40, main=True)
    other = snapshot(home, "c" * 40)
    os.utime(main, (1, 1))
    assert resolve_model(MODEL) == main
    (main / SHARD).unlink()
    assert resolve_model(MODEL) == other


def test_the_newest_complete_snapshot_is_taken_where_main_is_not_known(home: Path) -> None:
    old, new, newest = (snapshot(home, letter * 40) for letter in "def")
    (newest / "config.json").unlink()
    for age, folder in enumerate((newest, new, old)):
        os.utime(folder, (1_000_000 - age, 1_000_000 - age))
    assert resolve_model(MODEL) == new


def test_the_cache_is_where_the_variables_of_the_hub_say(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = snapshot(home, COMMIT)
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home.parent / "xdg"))
    assert resolve_model(MODEL) is None
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "hub"))
    assert resolve_model(MODEL) == folder
    (home.parent / "xdg").mkdir()
    home.rename(home.parent / "xdg" / "huggingface")
    monkeypatch.delenv("HF_HUB_CACHE")
    found = resolve_model(MODEL)
    assert found is not None
    assert found.is_relative_to(home.parent / "xdg" / "huggingface" / "hub")


@pytest.mark.parametrize("model", ["", "DeepSeek-OCR", "../../etc", "a/../b", "a/b/c", "/nowhere", "~nobody/x"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_not_found(model: str) -> None:
    assert resolve_model(model) is None


def test_looking_up_a_model_imports_nothing_heavy() -> None:
    code = (
        "import sys; from deepseek_ocr_mcp.engines.hub import resolve_model; resolve_model('a/b');"
        "print(sorted({'torch', 'transformers', 'huggingface_hub', 'numpy', 'httpx2'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# -- from the hub


@needs_hub
def test_a_download_brings_the_files_that_are_read_and_no_others(server: Hub, home: Path) -> None:
    folder = download(MODEL)
    assert folder == resolve_model(MODEL)
    wanted = {"config.json", "tokenizer.json", "model.safetensors.index.json", SHARD}
    assert {path.name for path in folder.iterdir()} == wanted
    assert {name for name, _, _ in server.requests} == wanted
    for name in wanted:
        assert (folder / name).read_bytes() == server.files[name]


@needs_hub
def test_the_hubs_own_library_finds_what_was_fetched(server: Hub, home: Path) -> None:
    import huggingface_hub

    folder = download(MODEL)
    cache = home / "hub"
    assert huggingface_hub.try_to_load_from_cache(MODEL, SHARD, cache_dir=cache) == str(folder / SHARD)
    report = huggingface_hub.scan_cache_dir(cache)
    assert not report.warnings
    assert [repository.repo_id for repository in report.repos] == [MODEL]


@needs_hub
def test_progress_is_told_in_bytes_to_the_last_one(server: Hub) -> None:
    told: list[tuple[int, int]] = []
    folder = download(MODEL, on_progress=lambda done, total: told.append((done, total)))
    total = sum(path.stat().st_size for path in folder.iterdir())
    assert told[0] == (0, total)
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@needs_hub
def test_a_second_download_fetches_nothing(server: Hub) -> None:
    first = download(MODEL)
    server.requests.clear()
    told: list[tuple[int, int]] = []
    assert download(MODEL, on_progress=lambda done, total: told.append((done, total))) == first
    assert server.requests == []
    assert told[-1][0] == told[-1][1] > 0


@needs_hub
def test_a_transfer_that_breaks_goes_on_where_it_was(server: Hub) -> None:
    server.break_after, server.breaks = 30_000, 3
    folder = download(MODEL)
    assert (folder / SHARD).read_bytes() == server.files[SHARD]
    assert [asked for name, asked, _ in server.requests if name == SHARD] == [
        None, "bytes=30000-", "bytes=60000-", "bytes=90000-",
    ]  # fmt: skip


@needs_hub
def test_what_a_given_up_download_brought_is_kept_for_the_next(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ATTEMPTS", 1)
    server.break_after, server.breaks = 150_000, 1
    with pytest.raises(EngineUnavailable, match="cannot be reached") as caught:
        download(MODEL)
    assert "goes on where it stopped" in caught.value.remedy
    assert resolve_model(MODEL) is None
    server.requests.clear()
    told: list[int] = []
    folder = download(MODEL, on_progress=lambda done, _: told.append(done))
    assert server.requests == [(SHARD, "bytes=150000-", None)]
    assert told[-1] == sum(path.stat().st_size for path in folder.iterdir())
    assert (folder / SHARD).read_bytes() == server.files[SHARD]


@needs_hub
def test_a_caller_that_gives_up_leaves_a_download_to_go_on_with(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.break_after, server.breaks = 100_000, 99

    def give_up(done: int, _: int) -> None:
        if done >= 100_000:
            raise KeyboardInterrupt

    monkeypatch.setattr(hub, "TELL_EVERY_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        download(MODEL, to=tmp_path / "here", on_progress=give_up)
    server.breaks = 0
    server.requests.clear()
    download(MODEL, to=tmp_path / "here")
    ((name, asked, _),) = server.requests
    assert name == SHARD
    assert asked is not None


@needs_hub
def test_a_server_that_knows_no_ranges_sends_all_of_it_again(server: Hub) -> None:
    server.break_after, server.breaks, server.ranges = 120_000, 1, False
    told: list[tuple[int, int]] = []
    folder = download(MODEL, on_progress=lambda done, total: told.append((done, total)))
    assert (folder / SHARD).read_bytes() == server.files[SHARD]
    assert told[-1][0] == told[-1][1]


@needs_hub
@pytest.mark.parametrize("lie", [safetensors()[:-1] + b"!", safetensors() + b"more", safetensors()[:1000]])
def test_bytes_that_are_not_what_was_announced_are_thrown_away(
    server: Hub, lie: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "ATTEMPTS", 2)
    server.lie = lie
    with pytest.raises(EngineUnavailable, match=SHARD):
        download(MODEL)
    assert resolve_model(MODEL) is None
    server.lie = None
    assert (download(MODEL) / SHARD).read_bytes() == server.files[SHARD]


@needs_hub
def test_a_download_to_a_folder_leaves_the_cache_alone(server: Hub, tmp_path: Path, home: Path) -> None:
    folder = download(MODEL, to=tmp_path / "weights")
    assert folder == tmp_path / "weights" == resolve_model(str(folder))
    assert not (home / "hub").exists()
    assert not list(folder.glob("*.part"))
    server.requests.clear()
    (folder / "config.json").write_text("edited, and so fetched again  !!")
    assert download(MODEL, to=folder) == folder
    assert [name for name, _, _ in server.requests] == ["config.json"]


@needs_hub
def test_a_new_release_of_the_model_brings_what_is_new(server: Hub) -> None:
    old = download(MODEL)
    server.requests.clear()
    server.commit = "b" * 40
    server.files["config.json"] = b'{"model_type": "deepseek_vl_v2", "new": true}'
    new = download(MODEL)
    assert [name for name, _, _ in server.requests] == ["config.json"]
    assert resolve_model(MODEL) == new != old


@needs_hub
def test_the_token_goes_along(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download(MODEL)
    assert {authorization for _, _, authorization in server.requests} == {"Bearer hf_secret"}


@needs_hub
@pytest.mark.parametrize(
    ("status", "message", "remedy"),
    [
        (401, "401", "HF_TOKEN"),
        (403, "conditions", "Accept them"),
        (404, "has no", "Check the name"),
        (503, "503", "again"),
    ],
)
def test_a_refusal_says_what_to_do(server: Hub, status: int, message: str, remedy: str) -> None:
    server.status = status
    with pytest.raises(EngineUnavailable, match=message) as caught:
        download(MODEL)
    assert remedy in caught.value.remedy
    assert MODEL in caught.value.message


@needs_hub
def test_a_repository_without_weights_is_refused_before_anything_is_fetched(server: Hub) -> None:
    del server.files[SHARD]
    with pytest.raises(EngineUnavailable, match=r"no \*.safetensors"):
        download(MODEL)
    assert server.requests == []


@needs_hub
def test_no_network_says_so_unless_the_model_is_here(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EngineUnavailable, match="cannot be reached") as caught:
        download(MODEL)
    assert "HTTPS_PROXY" in caught.value.remedy
    folder = snapshot(home, COMMIT)
    assert download(MODEL) == folder
    with pytest.raises(EngineUnavailable, match="cannot be reached"):
        download(MODEL, to=home / "elsewhere")


def test_offline_mode_asks_no_server(server: Hub, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    server.status = 500
    with pytest.raises(EngineUnavailable, match="HF_HUB_OFFLINE") as caught:
        download(MODEL)
    assert "OCR_MODEL" in caught.value.remedy
    folder = snapshot(home, COMMIT)
    assert download(MODEL) == folder


@needs_hub
def test_a_short_disk_is_found_before_the_download(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000_000))
    with pytest.raises(EngineUnavailable, match=r"0\.1 GB free; 0\.3 GB are needed") as caught:
        download(MODEL)
    assert "--to" in caught.value.remedy
    assert server.requests == []


@needs_hub
def test_a_disk_that_fills_up_is_reported_and_nothing_is_lost(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(EngineUnavailable, match="disk is full"):
            download(MODEL)
    assert resolve_model(MODEL) is None
    assert resolve_model(str(download(MODEL))) is not None


@needs_hub
def test_a_folder_that_is_not_writable_is_reported(server: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EngineUnavailable, match="cannot be stored"):
        download(MODEL, to=tmp_path / "file" / "below")


@needs_hub
def test_two_processes_do_not_fetch_to_the_same_place(server: Hub, tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".download.lock"), pytest.raises(Busy, match="Another process"):
        download(MODEL, to=tmp_path)


@needs_hub
def test_a_name_that_climbs_out_of_the_folder_is_not_fetched(server: Hub, tmp_path: Path) -> None:
    server.files["../model-00001-of-00001.safetensors"] = safetensors()
    server.files["sub/config.json"] = b"{}"
    folder = download(MODEL, to=tmp_path / "in")
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        "config.json", "tokenizer.json", "model.safetensors.index.json", SHARD,
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["in"]


def test_a_folder_is_returned_as_it_is_and_nonsense_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    assert download(str(folder)) == folder
    with pytest.raises(BadRequest, match="neither a hub id"):
        download(str(tmp_path))


def test_without_huggingface_hub_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EngineUnavailable) as caught:
        download(MODEL)
    assert extra_command("gpu") in caught.value.remedy

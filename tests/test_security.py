"""What docs/security.md claims and no other test holds; and that every test it names is there."""

from __future__ import annotations

import ast
import os
import re
import signal
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from deepseek_ocr_mcp.caller import Caller
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents.private import private_folder
from deepseek_ocr_mcp.documents.reader import DocumentReader
from deepseek_ocr_mcp.engines import KNOWN, choose_engine
from deepseek_ocr_mcp.errors import OcrError, Timeout, UnreadableInput
from deepseek_ocr_mcp.models import OcrRequest
from deepseek_ocr_mcp.worker.client import DECODER, WorkerDied, WorkerHandle
from deepseek_ocr_mcp.worker.confine import ALL_BUT_SPYING
from forked import run_program
from meaning import meant
from support import BOUND_S, Servers, as_base64, children, png, running

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "security.md").read_text()
PAGE = as_base64(png())


def test_every_test_and_every_file_that_the_document_names_is_there() -> None:
    # A named test is either after its file, or alone, where one paragraph names several of the same file.
    files = set(re.findall(r"`((?:src|tests|docs|deploy|scripts)/[\w./-]+)`", DOCUMENT))
    assert files
    for file in files:
        assert (ROOT / file).exists(), file
    known = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        if "node_modules" not in file.parts
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT))
    assert len(named) > 40
    assert named <= known, named - known


def test_every_setting_that_the_document_names_is_there() -> None:
    settings = {name.upper() for name in Settings.model_fields}
    named = set(re.findall(r"`((?:OCR|GPU)_[A-Z_]+|HOST|PORT)\b", DOCUMENT)) - {"OCR_ENV_FILE"}
    assert "OCR_AUTH_TOKEN" in named
    assert named <= settings, named - settings


def test_what_is_read_lies_where_nobody_else_may_look() -> None:
    with private_folder() as folder:
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(Path(folder, "lock")).st_mode) == 0o600
    assert not os.path.exists(folder)


async def test_a_module_in_the_folder_of_the_server_shadows_none_in_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIL", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "page.png").write_bytes(png())
    monkeypatch.chdir(tmp_path)
    decoder = await WorkerHandle.spawn(DECODER)
    try:
        facts = {"file": {"path": "page.png", "name": "page.png"}, "max_pixels": 1000, "max_pages": 1}
        assert await decoder.call("inspect", facts, timeout=60) == {"format": "PNG", "pages": 1}
    finally:
        await decoder.stop()
    assert not (tmp_path / "ran").exists()


def test_a_worker_keeps_what_its_engine_needs_and_no_more() -> None:
    kept = {name: spec.rights for name, spec in KNOWN.items() if not spec.is_remote}
    assert {name for name, rights in kept.items() if rights.tcp or rights.signals} == set()
    assert {name for name, rights in kept.items() if rights.sockets} == {"deepseek", "vlm"}  # the driver's daemons
    assert {name for name, rights in kept.items() if rights.programs} == {"deepseek", "vlm", "rapidocr", "tesseract"}
    own, _ = choose_engine("package.module:Class")
    assert own.rights == ALL_BUT_SPYING


class Decoder:
    """Ends as it is told over the pictures of one document."""

    def __init__(self, end: Exception, hostile: set[str]) -> None:
        self._end = end
        self._hostile = hostile
        self.alive = True

    async def call(self, method: str, arguments: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
        if method == "inspect":
            return {"format": "PNG", "pages": 1}
        if arguments["file"]["path"] in self._hostile:
            self.alive = False
            raise self._end
        await anyio.Path(arguments["out"]).write_bytes(bytes(3))
        return {"width": 1, "height": 1}

    async def stop(self) -> None:
        self.alive = False


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (WorkerDied(-11, "its last words"), "The decoder crashed over page 1 of image."),
        (Timeout("It hung.", remedy="Wait."), "Decoding page 1 of image took over 60 s and was stopped."),
    ],
)
async def test_a_file_that_ends_its_decoder_costs_its_own_request_only(end: Exception, said: str) -> None:
    started: list[Decoder] = []
    hostile: set[str] = set()

    async def spawn() -> Any:
        started.append(Decoder(end, hostile))
        return started[-1]

    with private_folder() as folder:
        async with (
            DocumentReader(Settings(), folder, spawn=spawn).running() as reader,
            reader.open(meant(PAGE)) as bad,
            reader.open(meant(PAGE)) as other,
        ):
            hostile.add(bad.snapshot.path)
            with pytest.raises(UnreadableInput) as caught:
                await bad.page(1)
            assert (await other.page(1)).width == 1
        assert len(started) == (3 if isinstance(end, WorkerDied) else 2)  # a death is tried once more, a hang is not
        assert not any(decoder.alive for decoder in started)
    assert caught.value.message == said
    assert "last words" not in str(caught.value)


@pytest.mark.parametrize("at", ["inspect", "render"])
async def test_a_decoder_that_is_killed_over_a_clean_file_costs_nothing(at: str) -> None:
    deaths = [WorkerDied(-9, "")]

    class Mortal(Decoder):
        async def call(self, method: str, arguments: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
            if method == at and deaths:
                self.alive = False
                raise deaths.pop()
            return await super().call(method, arguments, timeout=timeout)

    async def spawn() -> Any:
        return Mortal(RuntimeError(), set())

    with private_folder() as folder:
        async with (
            DocumentReader(Settings(), folder, spawn=spawn).running() as reader,
            reader.open(meant(PAGE)) as document,
        ):
            assert (await document.page(1)).width == 1
    assert not deaths


async def test_a_decoder_that_is_killed_is_replaced() -> None:
    async with running("Echo", ocr_cache="off") as service:
        await service.ocr(OcrRequest(image=PAGE), Caller())
        pid = (await service.status()).worker_pid
        (decoder,) = [child for child in children(os.getpid()) if child != pid and DECODER in command(child)]
        os.kill(decoder, signal.SIGKILL)
        with anyio.fail_after(BOUND_S):
            await service._reader._decoder._process.wait()  # type: ignore[union-attr]
            answer = await service.ocr(OcrRequest(image=PAGE), Caller())
    assert answer.result.text


def command(pid: int) -> list[str]:
    """The arguments of a process; none of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


async def test_what_an_agent_sends_is_never_a_program_nor_an_option() -> None:
    async with running("Echo") as service:
        for image in ("--help", "-o /tmp/x", "$(touch /tmp/x)", "`id`", "file:///dev/stdin", "|cat /etc/passwd"):
            with pytest.raises(OcrError):
                await service.ocr(OcrRequest(image=image), Caller())


async def test_without_the_token_health_tells_the_version_the_engine_and_the_state_and_no_more(serve: Servers) -> None:
    server = serve(OCR_AUTH_TOKEN="correct-horse-battery-staple")
    async with httpx2.AsyncClient(timeout=BOUND_S) as http:
        told = (await http.get(server.root + "/health")).json()
    assert set(told) == {"status", "version", "engine", "live", "ready", "state"}


def test_no_module_of_ours_evaluates_text_or_starts_a_shell() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads"), path
                assert called not in ("torch.load", "yaml.load", "marshal.loads"), path
                for keyword in node.keywords:
                    assert keyword.arg not in ("shell", "trust_remote_code") or ast.unparse(keyword.value) == "False", (
                        path
                    )


def test_the_command_line_does_not_need_the_token_as_an_argument(serve: Servers) -> None:
    """What stands in the arguments of a process, everybody on the machine can read."""
    server = serve(OCR_AUTH_TOKEN="correct-horse-battery-staple")
    env = {**os.environ, "OCR_AUTH_TOKEN": "correct-horse-battery-staple"}
    done = run_program(["status", "--url", server.url], env=env, text=True, timeout=BOUND_S)
    assert done.returncode == 0, done.stderr
    assert "faults" in done.stdout

"""The server process on stdin and stdout: how it starts, what it writes, how it ends."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from support import BOUND_S, alive, as_base64, children, echo, png, stdio_server, until_dead

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="reads /proc and sends signals")

RESIDENT_MB = 120
ENDINGS = ["end of input", signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def end(server: object, how: object) -> None:
    process = server.process  # type: ignore[attr-defined]
    if how == "end of input":
        process.stdin.close()
    else:
        process.send_signal(how)


def resident_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.fixture(autouse=True)
def temp_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_initialize_is_answered_and_names_the_server() -> None:
    with stdio_server(from_its_start=True) as server:
        info = server.initialize()["result"]
    assert info["serverInfo"]["name"] == "deepseek-ocr"
    assert "absolute path" in info["instructions"]


def test_the_parent_imports_no_heavy_library() -> None:
    # What a server has loaded when it answers `initialize`; the engine's libraries live in its worker.
    import subprocess

    code = (
        "import sys, deepseek_ocr_mcp.app.run, deepseek_ocr_mcp.cli.main, deepseek_ocr_mcp.edges.mcp.server, "
        "deepseek_ocr_mcp.edges.http.api\n"
        "print(*{'torch','onnxruntime','cv2','numpy','PIL','rapidocr','pypdfium2','transformers'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize("how", ENDINGS)
def test_an_idle_server_ends_by_itself_and_leaves_nothing(how: object, temp_folder: Path) -> None:
    with stdio_server(from_its_start=True) as server:
        server.initialize()
        end(server, how)
        assert server.process.wait(BOUND_S) == 0
    assert list(temp_folder.iterdir()) == []


@pytest.mark.parametrize("engine", ["Patient", "Hanging"])
@pytest.mark.parametrize("how", ENDINGS)
def test_a_server_ends_while_a_page_is_read_and_leaves_nothing(how: object, engine: str, temp_folder: Path) -> None:
    with stdio_server(engine) as server:
        server.initialize()
        server.call("ocr_image", image=as_base64(png()))
        server.until_reading()
        workers = children(server.process.pid)
        assert len(workers) == 2  # the engine and the decoder
        end(server, how)
        assert server.process.wait(BOUND_S) == 0
        assert not any(alive(worker) for worker in workers)
    assert list(temp_folder.iterdir()) == []


@pytest.mark.parametrize("engine", ["Patient", "Hanging"])
def test_a_killed_server_takes_its_children_along(engine: str) -> None:
    with stdio_server(engine) as server:
        server.initialize()
        server.call("ocr_image", image=as_base64(png()))
        server.until_reading()
        workers = children(server.process.pid)
        server.process.kill()
        server.process.wait(BOUND_S)
        until_dead(workers)


def test_what_a_killed_server_left_is_removed_by_the_next(temp_folder: Path) -> None:
    with stdio_server("Patient") as server:
        server.initialize()
        server.call("ocr_image", image=as_base64(png()))
        server.until_reading()
        server.process.kill()
        server.process.wait(BOUND_S)
    assert len(list(temp_folder.iterdir())) == 1
    with stdio_server() as first, stdio_server() as second:
        first.initialize()
        second.initialize()
        assert len(list(temp_folder.iterdir())) == 2  # neither took the other's


def test_nothing_but_protocol_reaches_stdout() -> None:
    with stdio_server("Printing") as server:
        server.initialize()
        for number in (1, 2):
            server.call("ocr_image", number, image=as_base64(png()))
            text = server.answer(number)["result"]["content"][0]["text"]
            assert text == echo()
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(BOUND_S) == 0
        assert server.process.stdout is not None
        rest = server.process.stdout.read()
    for line in [*server.lines, *rest.splitlines()]:
        assert json.loads(line)["jsonrpc"] == "2.0"


def test_an_import_that_prints_does_not_reach_stdout(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nclass Noise:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'deepseek_ocr_mcp.service.service': print('noise at import', flush=True)\n"
        "sys.meta_path.insert(0, Noise())\n"
    )
    paths = f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"
    with stdio_server(PYTHONPATH=paths) as server:
        assert server.initialize()["result"]


def test_the_parent_stays_small_whatever_the_worker_reads() -> None:
    with stdio_server(from_its_start=True) as server:
        server.initialize()
        for number in range(1, 4):
            server.call("ocr_image", number, image=as_base64(png(6000, 6000)))  # 108 MB of pixels
            server.answer(number)
        assert resident_mb(server.process.pid) < RESIDENT_MB


def test_every_line_is_answered_whatever_is_in_it() -> None:
    call = '{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":%s}'
    with stdio_server() as server:
        server.initialize()
        assert server.process.stdin is not None
        for number, params in enumerate(('{"name":"\\ud83d"}', "[1]", '{"a":' + "[" * 250 + "]" * 250 + "}"), start=5):
            server.process.stdin.write((call % (number, params)).encode() + b"\n")
            server.process.stdin.flush()
            answer = server.receive()
            assert answer["id"] == number
            assert answer["error"]["code"] in (-32700, -32602)
        server.process.stdin.write(b'{"jsonrpc":"2.0","id":null,"method":"ping"}\n')
        server.process.stdin.flush()
        answer = server.receive()
        assert (answer["id"], answer["error"]["code"]) == (None, -32600)


@pytest.mark.parametrize("tool", ["a listing", "a reading", "a completion"])
def test_a_file_name_that_is_no_utf8_ends_no_server(tmp_path: Path, tool: str) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    file = os.path.join(os.fsencode(folder), b"caf\xe9.png")
    os.write(descriptor := os.open(file, os.O_CREAT | os.O_WRONLY), png())
    os.close(descriptor)
    with stdio_server() as server:
        server.initialize()
        if tool == "a completion":
            prompt = {"type": "ref/prompt", "name": "digitise_document"}
            argument = {"name": "file", "value": str(folder) + "/"}
            server.send(id=1, method="completion/complete", params={"ref": prompt, "argument": argument})
            assert server.answer()["result"]["completion"]["values"] == [f"{folder}/caf\ufffd.png"]
            return
        arguments = {"image": str(folder)} if tool == "a listing" else {"image": f"{folder}/caf\ufffd.png"}
        server.call("ocr_image", **arguments)
        text = server.answer()["result"]["content"][0]["text"]
        assert "caf\ufffd.png" in text if tool == "a listing" else text == echo()


def test_garbage_on_stdin_does_not_end_the_server() -> None:
    with stdio_server() as server:
        server.initialize()
        assert server.process.stdin is not None
        server.process.stdin.write(b"this is no JSON\n{}\n[]\n\xff\xfe\n")
        server.call("gpu_status")
        assert server.answer()["result"]["isError"] is False


def test_a_cancelled_call_stops_the_work_and_the_next_is_served() -> None:
    with stdio_server("Patient") as server:
        server.initialize()
        server.call("ocr_image", 1, image=as_base64(png()))
        server.until_reading()
        server.send(method="notifications/cancelled", params={"requestId": 1})
        server.call("gpu_release", 2)
        released = server.answer(2)["result"]
        assert released["isError"] is False
        assert released["structuredContent"]["to"] == "unloaded"


def test_a_killed_worker_costs_nobody_an_answer() -> None:
    with stdio_server("Unhurried") as server:
        server.initialize()
        server.call("ocr_image", 1, image=as_base64(png()))
        server.until_reading()
        for child in children(server.process.pid):
            os.kill(child, signal.SIGKILL)
        assert server.answer(1)["result"]["content"][0]["text"] == echo()


def test_python_dash_m_is_the_command() -> None:
    import subprocess

    shown = subprocess.run([sys.executable, "-m", "deepseek_ocr_mcp", "--version"], capture_output=True, text=True)
    assert shown.stdout.startswith("deepseek-ocr-mcp ")
    assert shown.returncode == 0

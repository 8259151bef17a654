"""What a confined process can still do, tried in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deepseek_ocr_mcp.worker.confine import Confined, Rights, landlock_version

pytestmark = pytest.mark.skipif(landlock_version() < 4, reason="this kernel has no Landlock that knows of TCP")

TRIES = """
import ctypes, json, os, socket, subprocess, sys, threading
from dataclasses import asdict
from deepseek_ocr_mcp.worker.confine import Rights, confine

home, scratch, port, rights = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
answers = {"confined": asdict(confine(Rights(**rights)))}

def attempt(name, act):
    try:
        act()
        answers[name] = "done"
    except OSError as exc:
        answers[name] = type(exc).__name__

def attempt_all():
    attempt("read home", lambda: open(home + "/secret").read())
    attempt("list home", lambda: os.listdir(home))
    attempt("write home", lambda: open(home + "/new", "w"))
    attempt("read scratch", lambda: open(scratch + "/page").read())
    attempt("write scratch", lambda: open(scratch + "/out", "w").write("x"))
    attempt("remove in scratch", lambda: os.unlink(scratch + "/out"))
    attempt("parent's environment", lambda: open(f"/proc/{os.getppid()}/environ").read())
    attempt("parent's memory", lambda: open(f"/proc/{os.getppid()}/mem", "rb").read(1))
    attempt("signal to the parent", lambda: os.kill(os.getppid(), 0))
    attempt("tcp", lambda: socket.create_connection(("127.0.0.1", port), timeout=60).close())
    attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close())
    attempt("program", lambda: subprocess.run([sys.executable, "-c", ""], check=True))
    attempt("library", lambda: __import__("sqlite3"))

thread = threading.Thread(target=attempt_all)
thread.start()
thread.join()
print(json.dumps(answers))
"""


def tried(tmp_path: Path, port: int, **rights: Any) -> dict[str, Any]:
    """What became of each attempt: `done`, or the class of the error."""
    for folder, file in (("home", "secret"), ("scratch", "page")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / file).write_text("x")
    arguments = [str(tmp_path / "home"), str(tmp_path / "scratch"), str(port), json.dumps(rights)]
    done = subprocess.run(
        [sys.executable, "-c", TRIES, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.fixture
def port() -> Any:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_confined_process_reads_its_libraries_and_its_folder_and_reaches_nothing_else(
    tmp_path: Path, port: int
) -> None:
    answers = tried(tmp_path, port, read=[], write=[str(tmp_path / "scratch")])
    assert answers.pop("confined")["landlock"] == landlock_version()
    able = {name for name, outcome in answers.items() if outcome == "done"}
    assert able == {"read scratch", "write scratch", "remove in scratch", "library"}


def test_a_process_that_keeps_its_files_reaches_neither_the_network_nor_its_parent(tmp_path: Path, port: int) -> None:
    answers = tried(tmp_path, port, programs=True)
    for name in ("parent's environment", "parent's memory", "tcp", "udp"):
        assert answers[name] == "PermissionError", name
    for name in ("read home", "write home", "program"):
        assert answers[name] == "done", name


def test_a_process_that_keeps_everything_does_not_reach_its_parent_s_memory(tmp_path: Path, port: int) -> None:
    answers = tried(tmp_path, port, tcp=True, sockets=True, programs=True, signals=True)
    refused = {name for name, outcome in answers.items() if outcome == "PermissionError"}
    assert refused >= {"parent's environment", "parent's memory"}
    assert answers["tcp"] == answers["udp"] == answers["signal to the parent"] == "done"


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path, port: int) -> None:
    answers = tried(tmp_path, port, read=[str(tmp_path / "nowhere")], write=[str(tmp_path / "nowhere")])
    assert answers["read home"] == answers["read scratch"] == "PermissionError"


def test_rights_survive_the_way_to_a_child() -> None:
    rights = Rights(read=("/usr",), write=("/tmp/x",), tcp=True)
    assert Rights.from_json(rights.to_json()).to_json() == rights.to_json()


def test_what_is_in_force_is_said_in_words() -> None:
    assert str(Confined(7, True)) == "Landlock 7 and seccomp"
    assert str(Confined()).startswith("nothing")

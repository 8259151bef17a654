"""Nothing calls home: a page is read under strace, which shows every file that is made and every address asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import written

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="strace is a program of Linux")

MADE = re.compile(r'(?:openat\([^,]*, |open\(|mkdir\(|creat\()"([^"]*)"(?=.*(?:O_CREAT|mkdir|creat)).* = (?!-1)')
ADDRESS = re.compile(r"\b(?:connect|sendto|sendmsg|sendmmsg)\(.*AF_INET6?\b.*")


def test_a_page_is_read_without_one_look_at_the_network_or_one_file_outside_our_folder(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    assert strace is not None, "install Debian's package strace"
    folders = {name: tmp_path / name for name in ("home", "temporary", "elsewhere")}
    for folder in folders.values():
        folder.mkdir()
    page = tmp_path / "page.png"
    page.write_bytes(written("Total 42.50"))
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "HF_", "XDG_"))}
    done = subprocess.run(
        [strace, "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", "trace=network,open,openat,creat,mkdir,mkdirat",
         sys.executable, "-m", "deepseek_ocr_mcp", "ocr", str(page), "--engine", "rapidocr"],
        cwd=folders["elsewhere"],
        env={**own, "HOME": str(folders["home"]), "TMPDIR": str(folders["temporary"]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert "42.50" in done.stdout, done.stderr
    trace = (tmp_path / "trace").read_text(errors="replace").splitlines()
    made = [path for line in trace if (match := MADE.search(line)) and (path := match[1])]
    assert any(path.startswith(str(folders["temporary"])) for path in made), "strace saw nothing"
    ours = (str(folders["temporary"]), "/dev/", "/proc/")
    assert [path for path in made if not path.startswith(ours)] == []
    assert [line for line in trace if ADDRESS.search(line)] == []
    assert [list(folder.iterdir()) for folder in folders.values()] == [[], [], []]

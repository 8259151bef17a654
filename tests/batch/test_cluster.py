"""A real Ray on this machine reads folders, and is killed at every joint."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pyarrow.parquet
import pytest

from deepseek_ocr_mcp.worker.client import ENGINE_HOST
from support import BOUND_S, echo, png, tiff, wait_until

LIMIT_S = 400.0
pytestmark = pytest.mark.slow


class Run:
    """`deepseek-ocr-mcp batch` as a child process."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self._folder = folder
        self._errors = folder / f"stderr-{time.monotonic_ns()}"
        with self._errors.open("w") as errors:
            self.process = psutil.Popen(
                [
                    sys.executable,
                    "-m",
                    "deepseek_ocr_mcp",
                    "batch",
                    "scans",
                    "--out",
                    "texts",
                    *arguments,
                ],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**surroundings(folder), **environment},
            )

    def family(self) -> list[psutil.Process]:
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def readers(self) -> list[psutil.Process]:
        """The actors that hold an engine."""
        found = []
        for process in self.family():
            try:
                if any(ENGINE_HOST in child.cmdline() for child in process.children()):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def wait_for(self, fact: Callable[[], Any]) -> Any:
        """Poll a fact; fails when the process has ended or the time is over."""
        ends = time.monotonic() + LIMIT_S
        while not (found := fact()):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < ends, self.said()
            time.sleep(0.1)
        return found

    def end(self) -> int:
        """Wait for its own end."""
        try:
            return int(self.process.wait(LIMIT_S))
        finally:
            self.kill()

    def kill(self) -> None:
        """End all that may still run of it."""
        kill_all(reversed(self.family()))
        if self.process.stdout:
            self.process.stdout.close()
        self.process.wait(BOUND_S)

    def said(self) -> str:
        return self._errors.read_text()


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of a batch and of the machines that read for it."""
    here = Path(__file__).parent
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(here / "broken_decoder"), str(here.parent / "engines")]),
        "OCR_ENGINE": "faults:Noting",
        "FAULTS": str(folder / "faults"),
        "TMPDIR": "/tmp",
        "RAY_worker_niceness": "0",  # Ray's own 15 starves the readers for minutes beside programs that never wait
    }


def name_of(process: psutil.Process) -> str:
    """Its program's name; empty for one that has ended by now."""
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """End these; one may have ended by itself, or with the one before."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def locked_pdf() -> bytes:
    """A PDF that asks for a password."""
    zeros, ones, twos = "00" * 16, "11" * 32, "22" * 32
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
               "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>"]  # fmt: skip
    out, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    start = len(out)
    out += "xref\n0 4\n0000000000 65535 f \n" + "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    out += (
        f"trailer\n<< /Size 4 /Root 1 0 R /ID [<{zeros}> <{zeros}>] "
        f"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{ones}> /U <{twos}> >> >>\nstartxref\n{start}\n%%EOF\n"
    )
    return out.encode()


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Its rows by source, relative to the folder of the scans."""
    rows = pyarrow.parquet.read_table(folder / "texts" / "manifest.parquet").to_pylist()
    found = {os.path.relpath(row["source"], folder / "scans"): row for row in rows}
    assert len(found) == len(rows), "a source has two rows"
    return found


def texts(folder: Path) -> dict[str, str]:
    """What was written, by the file that it was read from."""
    root = folder / "texts"
    return {
        str(file.relative_to(root)).removesuffix(".md"): file.read_text()
        for file in root.rglob("*.md")
        if ".batch" not in file.parts
    }


def reads(folder: Path) -> Counter[str]:
    """How often each page was read."""
    notes = folder / "faults" / "reads"
    return Counter(notes.read_text().splitlines() if notes.exists() else [])


def corpus(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Thirty-two files: the text of each good one, and the error code of each bad one."""
    scans, good = folder / "scans", {}
    for number in range(20):
        name = f"{number // 12:02}/page-{number}.png"
        (scans / name).parent.mkdir(parents=True, exist_ok=True)
        (scans / name).write_bytes(png(40 + number, 20))
        good[name] = echo(40 + number, 20) + "\n"
    for number in range(2):  # beside the file that they are copies of
        name = f"00/page-{number}-copy.png"
        (scans / name).write_bytes((scans / name.replace("-copy", "")).read_bytes())
        good[name] = good[name.replace("-copy", "")]
    documents = {f"three-{number}.tiff": range(100 + 3 * number, 103 + 3 * number) for number in range(2)}
    for name, heights in (documents | {"long.tiff": range(200, 220)}).items():
        (scans / name).write_bytes(tiff(*heights))
        good[name] = "\n\n".join(echo(40, height) for height in heights) + "\n"
    bad = {
        "empty.png": (b"", "unreadable_input"),
        "rubbish.png": (b"\x89PNG\r\n\x1a\nrubbish", "unreadable_input"),
        "cut.tiff": (tiff(50, 51)[:200], "unreadable_input"),
        "locked.pdf": (locked_pdf(), "password_needed"),
        "crashes-the-decoder.pdf": (b"%PDF-crash", "unreadable_input"),
        "crashes-the-engine.png": (png(40, 33), "worker_crashed"),
        "kills-the-worker.png": (png(40, 35), "worker_crashed"),
    }
    for name, (data, _) in bad.items():
        (scans / name).write_bytes(data)
    assert len(good) + len(bad) == 32
    return good, {name: code for name, (_, code) in bad.items()}


class Gate:
    """Lets `Noting` read a few pages at a time, so that each kill comes while there is work left, however slow or fast
    this machine is, and however many pages a kill has the workers read once more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "faults" / "allowed"
        self._allow(4)

    def _allow(self, pages: int) -> None:
        self._allowed = pages
        self._file.with_name("next").write_text(str(pages))
        self._file.with_name("next").replace(self._file)

    def opened_until(self, fact: Callable[[], Any]) -> Callable[[], Any]:
        """The fact, for somebody who waits for it: whoever asks in vain lets more pages through."""

        def ask() -> Any:
            if found := fact():
                return found
            if reads(self._folder).total() >= self._allowed:
                self._allow(self._allowed + 4)
            return None

        return ask

    def remove(self) -> None:
        self._file.unlink()


def run_until_killed(folder: Path) -> None:
    """A run in which a worker and then the driver are killed."""
    gate = Gate(folder)
    run = Run(folder, "--workers=2")
    slow: list[psutil.Process] = []
    try:
        run.wait_for(gate.opened_until(lambda: len(texts(folder)) > 1))
        kill_all(run.wait_for(run.readers)[:1])
        run.wait_for(gate.opened_until(lambda: len(texts(folder)) > 3))
        family = run.family()
        slow = [process for process in family if "Agent" in name_of(process)]  # Ray's; they take a minute to notice
        os.kill(run.process.pid, signal.SIGKILL)
        ours = [process for process in family if process not in slow]
        assert psutil.wait_procs(ours, timeout=BOUND_S)[1] == [], "something outlives the driver"
    finally:
        kill_all(slow)
        run.kill()
    gate.remove()


def assert_rows_tell_of(texts: dict[str, str], rows: dict[str, dict[str, Any]]) -> None:
    """The manifest's rows have the facts of these texts."""
    for name, text in texts.items():
        row, pages = rows[name], text.count("\n\n") + 1
        assert row["output"] == f"{name}.md"
        assert (row["pages"], row["pages_read"], row["finish"]) == (pages, pages, "stop")
        assert row["characters"] == len(text) - 1
        assert (row["engine"], row["model"], row["device"]) == ("Noting", "echo", "cpu")
        assert len(row["sha256"]) == 64


@contextmanager
def head_of_a_cluster(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A Ray head on this machine. Yields its address, and the environment that whoever joins it needs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 2}
    said = folder / "head"
    with TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as scratch, said.open("w") as out:
        head = psutil.Popen(
            [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--port", str(port), "--num-cpus=2",
             "--include-dashboard=false", "--object-store-memory=100000000", "--node-ip-address=127.0.0.1",
             "--temp-dir", scratch],
            stdout=out, stderr=out, env={**surroundings(folder), **loopback, **token},
        )  # fmt: skip
        try:
            wait_until(lambda: "Ray runtime started" in said.read_text(), LIMIT_S)
            yield f"127.0.0.1:{port}", {**loopback, **token}
            assert head.poll() is None, "it goes on without us"
        finally:
            family = [*head.children(recursive=True), head]
            kill_all(family)
            psutil.wait_procs(family, timeout=BOUND_S)


def test_files_a_killed_worker_a_killed_driver_and_another_cluster(tmp_path: Path) -> None:
    """A Ray of its own is killed at its joints; then a cluster that was there before goes on and outlives the run."""
    (tmp_path / "faults").mkdir()
    good, bad = corpus(tmp_path)
    run_until_killed(tmp_path)
    there, before = texts(tmp_path), reads(tmp_path)
    assert 3 < len(there) < len(good)
    assert there.items() <= good.items(), "a text is half written"

    with head_of_a_cluster(tmp_path) as (address, environment):
        run = Run(tmp_path, "--ray", address, **environment)
        assert run.end() == 4, run.said()  # the worst: a crash of the engine
    rows = manifest(tmp_path)
    assert {name: row["error_code"] for name, row in rows.items() if row["error"]} == bad, run.said()
    assert texts(tmp_path) == good
    assert sorted(rows) == sorted([*good, *bad])
    assert_rows_tell_of(good, rows)
    copies = [name for name, row in rows.items() if row["copy_of"]]
    assert len(copies) == 2
    assert all(rows[os.path.relpath(rows[name]["copy_of"], tmp_path / "scans")]["seconds"] > 0 for name in copies)

    counts = reads(tmp_path)
    assert set(counts) == {line for text in good.values() for line in text.split("\n") if line}
    pages_there = {line for text in there.values() for line in text.split("\n") if line}
    again = pages_there & set(counts - before)
    assert len(again) <= 4, f"{again}: only in the rows that two workers had in hand may a text be without its row"
    # Each kill may cost what was under way: two rows in a worker. Almost all have one page, one of them has sixteen.
    twice = [page for page, count in counts.items() if count > 1]
    assert len(twice) <= 16 + 3 * 3, f"{len(twice)} pages were read more than once"
    state = [file for file in (tmp_path / "texts" / ".batch").rglob("*") if file.is_file()]
    assert [file.name for file in state if file.parent.parent.name != "units"] == ["lock"]

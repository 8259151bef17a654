"""A real Ray on this machine reads folders, and is killed at every joint."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pyarrow.parquet
import pytest

from deepseek_ocr_mcp.worker.client import ENGINE_HOST
from support import BOUND_S, echo, png, tiff, wait_until, written

LIMIT_S = 400.0
pytestmark = pytest.mark.slow


class Run:
    """`deepseek-ocr-mcp batch` as a child process."""

    def __init__(self, folder: Path, *arguments: str, engine: str = "faults:Noting", **environment: str) -> None:
        self._folder = folder
        here = Path(__file__).parent
        path = os.pathsep.join([str(here / "broken_decoder"), str(here.parent / "engines")])
        (folder / "faults").mkdir(exist_ok=True)
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
                    "--workers=2",
                    *arguments,
                ],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={
                    **os.environ,
                    "PYTHONPATH": path,
                    "OCR_ENGINE": engine,
                    "FAULTS": str(folder / "faults"),
                    "TMPDIR": "/tmp",
                    **environment,
                },
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
    return Counter((folder / "faults" / "reads").read_text().splitlines())


def corpus(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Fifty files: the text of each good one, and the error code of each bad one."""
    scans, good = folder / "scans", {}
    for number in range(34):
        name = f"{number // 12:02}/page-{number}.png"
        (scans / name).parent.mkdir(parents=True, exist_ok=True)
        (scans / name).write_bytes(png(40 + number, 20))
        good[name] = echo(40 + number, 20) + "\n"
    for number in range(4):  # beside the file that they are copies of
        name = f"00/page-{number}-copy.png"
        (scans / name).write_bytes((scans / name.replace("-copy", "")).read_bytes())
        good[name] = good[name.replace("-copy", "")]
    documents = {f"three-{number}.tiff": range(100 + 3 * number, 103 + 3 * number) for number in range(4)}
    for name, heights in (documents | {"long.tiff": range(200, 220)}).items():
        (scans / name).write_bytes(tiff(*heights))
        good[name] = "\n\n".join(echo(40, height) for height in heights) + "\n"
    bad = {
        "empty.png": (b"", "unreadable_input"),
        "rubbish.png": (b"\x89PNG\r\n\x1a\nrubbish", "unreadable_input"),
        "cut.tiff": (tiff(50, 51)[:200], "unreadable_input"),
        "locked.pdf": (locked_pdf(), "unreadable_input"),
        "crashes-the-decoder.pdf": (b"%PDF-crash", "unreadable_input"),
        "crashes-the-engine.png": (png(40, 33), "worker_crashed"),
        "kills-the-worker.png": (png(40, 35), "worker_crashed"),
    }
    for name, (data, _) in bad.items():
        (scans / name).write_bytes(data)
    assert len(good) + len(bad) == 50
    return good, {name: code for name, (_, code) in bad.items()}


def run_until_killed(folder: Path) -> None:
    """A run in which a worker and then the driver are killed. `Noting` reads as many pages as it is allowed, so that
    each kill comes while there is work left, however slow this machine is.
    """
    allowed = folder / "faults" / "allowed"

    def allow(pages: int) -> None:
        allowed.with_name("next").write_text(str(pages))
        allowed.with_name("next").replace(allowed)

    allow(40)
    run = Run(folder)
    slow: list[psutil.Process] = []
    try:
        run.wait_for(lambda: len(texts(folder)) > 1)
        run.wait_for(run.readers)[0].kill()
        allow(60)
        run.wait_for(lambda: len(texts(folder)) > 3)
        family = run.family()
        slow = [process for process in family if "Agent" in process.name()]  # Ray's; they take a minute to notice
        os.kill(run.process.pid, signal.SIGKILL)
        ours = [process for process in family if process not in slow]
        assert psutil.wait_procs(ours, timeout=BOUND_S)[1] == [], "something outlives the driver"
    finally:
        kill_all(slow)
        run.kill()
    allowed.unlink()


def assert_rows_tell_of(texts: dict[str, str], rows: dict[str, dict[str, Any]]) -> None:
    """The manifest's rows have the facts of these texts."""
    for name, text in texts.items():
        row, pages = rows[name], text.count("\n\n") + 1
        assert row["output"] == f"{name}.md"
        assert (row["pages"], row["pages_read"], row["finish"]) == (pages, pages, "stop")
        assert row["characters"] == len(text) - 1
        assert (row["engine"], row["model"], row["device"]) == ("Noting", "echo", "cpu")
        assert len(row["sha256"]) == 64


def test_fifty_files_a_killed_worker_and_a_killed_driver(tmp_path: Path) -> None:
    (tmp_path / "faults").mkdir()
    good, bad = corpus(tmp_path)
    run_until_killed(tmp_path)
    there, before = texts(tmp_path), reads(tmp_path)
    assert 3 < len(there) < len(good)
    assert there.items() <= good.items(), "a text is half written"

    run = Run(tmp_path)
    assert run.end() == 4, run.said()  # the worst: a crash of the engine
    rows = manifest(tmp_path)
    assert {name: row["error_code"] for name, row in rows.items() if row["error"]} == bad, run.said()
    assert texts(tmp_path) == good
    assert sorted(rows) == sorted([*good, *bad])
    assert_rows_tell_of(good, rows)
    copies = [name for name, row in rows.items() if row["copy_of"]]
    assert len(copies) == 4
    assert all(rows[os.path.relpath(rows[name]["copy_of"], tmp_path / "scans")]["seconds"] > 0 for name in copies)

    counts = reads(tmp_path)
    assert set(counts) == {line for text in good.values() for line in text.split("\n") if line}
    written = {line for text in there.values() for line in text.split("\n") if line}
    assert not written & set(counts - before), "a page whose text was there was read again"
    # Each kill may cost what was under way: two units in a worker. Almost all have one page, one of them has sixteen.
    twice = [page for page, count in counts.items() if count > 1]
    assert len(twice) <= 16 + 3 * 3, f"{len(twice)} pages were read more than once"
    state = [file for file in (tmp_path / "texts" / ".batch").rglob("*") if file.is_file()]
    assert [file.name for file in state if file.parent.name != "units" and file.suffix != ".json"] == ["lock"]


def test_a_cluster_that_is_there_is_joined_for_the_real_engine_and_left(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    words = ["Grapefruit", "Tangerine"]
    for word in words:
        (tmp_path / "scans" / f"{word}.png").write_bytes(written(f"{word}\nand nothing else", size=40))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 2}
    said = tmp_path / "head"
    with TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder, said.open("w") as out:
        head = psutil.Popen(
            [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--port", str(port), "--num-cpus=2",
             "--include-dashboard=false", "--object-store-memory=100000000", "--node-ip-address=127.0.0.1",
             "--temp-dir", folder],
            stdout=out, stderr=out, env={**os.environ, **loopback, **token},
        )  # fmt: skip
        try:
            wait_until(lambda: "Ray runtime started" in said.read_text(), LIMIT_S)
            run = Run(tmp_path, "--workers=1", "--ray", f"127.0.0.1:{port}", engine="rapidocr", **loopback, **token)
            assert run.end() == 0, run.said()
            assert head.poll() is None, "it goes on without us"
        finally:
            family = [*head.children(recursive=True), head]
            kill_all(family)
            psutil.wait_procs(family, timeout=BOUND_S)
    found = texts(tmp_path)
    assert {name: words[n] in found[f"{words[n]}.png"] for n, name in enumerate(words)} == dict.fromkeys(words, True)
    rows = manifest(tmp_path)
    assert {row["engine"] for row in rows.values()} == {"rapidocr"}
    assert all("rapidocr" in row["version"] and row["seconds"] > 0 for row in rows.values())
    assert not list((tmp_path / "texts" / ".batch").rglob("*.json"))

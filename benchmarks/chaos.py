"""Claim: whatever process of a `batch` is killed, a rerun leaves one row and one exact text of each document.

The benchmark starts `deepseek-ocr-mcp batch` with two workers over documents of its own: pictures in folders, some
equal ones, and TIFF files of 40 pages, which several workers read. For some minutes it sends SIGKILL, every few
seconds, to a process drawn from all kinds in the family: the command, Ray's daemons, actors, tasks, engines, decoders.
Each second time, it waits for the workers first. A command that ended is started again. After that, it runs until it
ends by itself.

The engine sleeps, and its text is the size of the page, so each text is known beforehand. `--on s3` starts moto, a
server that speaks S3 (`pip install 'moto[server]' s3fs`); `--on tar` gives the same documents as one tar file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from common import PRODUCT, environment, family, report, say, table, verdict

FOLDER_DOCUMENTS: Final = 50
LONG: Final = 4  # documents of so many pages
LONG_PAGES: Final = 40
COPY_EVERY: Final = 20
LEAST_WAIT_S, MOST_WAIT_S = 4.0, 16.0  # between two kills: a start takes ten seconds on a quiet machine
WORKERS_S: Final = 60.0  # that workers are waited for
READER: Final = "UnitReader"
LAST_RUN_S: Final = 1200.0
LAST_RUNS: Final = 3
BUCKET: Final = "scans"


@dataclass
class Place:
    """Where documents and texts are."""

    source: str
    out: str
    settings: dict[str, str]
    prefix: str
    """Of each source in the manifest, before the name of the document."""


def picture(width: int, height: int, pages: int = 1) -> tuple[bytes, str]:
    """A document, and its text."""
    from PIL import Image

    images = [Image.new("RGB", (width, height + page), "white") for page in range(pages)]
    data = io.BytesIO()
    images[0].save(
        data, "TIFF" if pages > 1 else "PNG", **({"save_all": True, "append_images": images[1:]} if pages > 1 else {})
    )
    return data.getvalue(), "\n\n".join(f"{image.width} x {image.height}" for image in images) + "\n"


def documents(number: int) -> Iterator[tuple[str, bytes, str]]:
    """Name, bytes and text of each document."""
    for index in range(number - LONG):
        same = index - 1 if index % COPY_EVERY == COPY_EVERY - 1 else index
        yield f"{index // FOLDER_DOCUMENTS:03}/{index:05}.png", *picture(40 + same % 500, 20 + same // 500)
    for index in range(LONG):
        yield f"long/{index}.tiff", *picture(40, 1000 + 100 * index, LONG_PAGES)


@contextmanager
def prepared(on: str, folder: Path, number: int, texts: dict[str, str]) -> Iterator[Place]:
    """Write the documents where the run finds them, and keep their texts by name."""
    out = folder / "texts"
    if on == "s3":
        with moto() as settings:
            import fsspec

            fs = fsspec.filesystem("s3")
            fs.mkdir(BUCKET)
            for name, data, text in documents(number):
                fs.pipe_file(f"{BUCKET}/in/{name}", data)
                texts[name] = text
            yield Place(f"s3://{BUCKET}/in", f"s3://{BUCKET}/out", settings, f"s3://{BUCKET}/in/")
    elif on == "tar":
        source = folder / "scans.tar"
        with tarfile.open(source, "w") as archive:
            for name, data, text in documents(number):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
                texts[f"scans.tar/{name}"] = text
        yield Place(str(source), str(out), {}, f"{folder}/")
    else:
        for name, data, text in documents(number):
            path = folder / "scans" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            texts[name] = text
        yield Place(str(folder / "scans"), str(out), {}, f"{folder}/scans/")


@contextmanager
def moto() -> Iterator[dict[str, str]]:
    """A server that speaks S3. Returns the settings of its clients, which this process has, too."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    os.environ.update(settings)
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.2)
        yield settings
    finally:
        server.kill()
        server.wait()


class Chaos:
    """A batch whose processes are killed."""

    def __init__(self, place: Place, folder: Path, seed: int, extra: list[str]) -> None:
        self._place = place
        self._errors = folder / "stderr"
        self._extra = extra
        self._rng = random.Random(seed)
        self.killed: Counter[str] = Counter()
        self.codes: list[int] = []
        self.seconds = self._began = 0.0
        """From the first start to the last kill."""

    def start(self) -> psutil.Popen:
        here = str(Path(__file__).parent)
        settings = {
            "OCR_ENGINE": "sleeping_engine:SleepingLonger",
            "PYTHONPATH": os.pathsep.join([here, *self._paths()]),
        }
        command = [*PRODUCT, "batch", self._place.source, "--out", self._place.out, "--workers", "2", *self._extra]
        with self._errors.open("a") as errors:
            return psutil.Popen(
                [sys.executable, *command],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment(**settings, **self._place.settings),
            )

    @staticmethod
    def _paths() -> list[str]:
        return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]

    def run(self, seconds: float) -> int:
        """Kill for so long, then wait for an end. Returns the last exit code."""
        self._began = time.monotonic()
        ends = self._began + seconds
        process = self.start()
        while time.monotonic() < ends:
            time.sleep(self._rng.uniform(LEAST_WAIT_S, MOST_WAIT_S))
            if process.poll() is not None:
                self.codes.append(process.returncode)
                if not process.returncode:
                    return 0
                process = self.start()
                continue
            if self.killed.total() % 2:
                self._wait_for_workers(process)
            self._kill_one(process)
        for _ in range(LAST_RUNS):
            try:
                self.codes.append(process.wait(LAST_RUN_S))
            except psutil.TimeoutExpired:
                for each in family(process):
                    each.kill()
                self.codes.append(process.wait(60))
            if not self.codes[-1]:
                break
            process = self.start()
        return self.codes[-1]

    def _wait_for_workers(self, process: psutil.Popen) -> None:
        ends = time.monotonic() + WORKERS_S
        while time.monotonic() < ends:
            if any(READER in kind for kind in _kinds(process)):
                break
            time.sleep(0.5)
        time.sleep(self._rng.uniform(1, LEAST_WAIT_S))

    def _kill_one(self, process: psutil.Popen) -> None:
        kinds = _kinds(process)
        if kinds:
            name = self._rng.choice(sorted(kinds))
            with contextlib.suppress(psutil.NoSuchProcess):
                self._rng.choice(kinds[name]).kill()
                self.killed[name] += 1
                self.seconds = time.monotonic() - self._began


def _kinds(process: psutil.Process) -> dict[str, list[psutil.Process]]:
    """The processes of a command that run, by what they are."""
    found: dict[str, list[psutil.Process]] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in family(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                if each.status() != psutil.STATUS_ZOMBIE:
                    found.setdefault("the command" if each.pid == process.pid else _kind(each), []).append(each)
    return found


def _kind(process: psutil.Process) -> str:
    """What a process of the family is."""
    line = process.cmdline() or [process.name()]
    ray = next((word for word in line if word.startswith("ray::")), "")
    if ray:
        return ray.removeprefix("ray::").partition(".")[0]
    modules = [word for word in line[1:] if "deepseek_ocr_mcp" in word or word.endswith(".py")]
    return " ".join([os.path.basename(line[0]), *(os.path.basename(word) for word in modules[:1])])


def judged(place: Place, texts: dict[str, str]) -> dict[str, int]:
    """What is wrong with manifest and texts, counted."""
    import fsspec
    import pyarrow.parquet

    fs, root = fsspec.core.url_to_fs(place.out)
    root = root.rstrip("/")
    with fs.open(f"{root}/manifest.parquet", "rb") as file:
        rows = pyarrow.parquet.read_table(io.BytesIO(file.read())).to_pylist()
    written = {path[len(root) + 1 :] for path in fs.find(root)}
    names = Counter(row["source"].removeprefix(place.prefix).replace("!/", "/") for row in rows)
    wrong = sum(
        f"{name}.md" not in written or fs.cat_file(f"{root}/{name}.md").decode() != texts[name] for name in texts
    )
    return {
        "documents": len(texts),
        "rows": len(rows),
        "documents without a row": len(texts.keys() - names.keys()),
        "documents with several rows": sum(number > 1 for number in names.values()),
        "rows with an error": sum(bool(row["error"]) for row in rows),
        "texts that are gone or wrong": wrong,
        "texts of no document": len(
            {name for name in written if name.endswith(".md")} - {f"{name}.md" for name in texts}
        ),
        "copies": sum(bool(row["copy_of"]) for row in rows),
        "pages in the rows": sum(row["pages_read"] for row in rows),
        "files left in .batch": sum(name.startswith(".batch/") and not name.endswith("/lock") for name in written),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", choices=("files", "s3", "tar"), default="files")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", action="store_true", help="keep the result in benchmarks/results/")
    arguments = parser.parse_args()
    texts: dict[str, str] = {}
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        prepared(arguments.on, Path(folder), arguments.documents, texts) as place,
    ):
        say(f"{len(texts)} documents are ready")
        chaos = Chaos(place, Path(folder), arguments.seed, [])
        code = chaos.run(60 * arguments.minutes)
        found: dict[str, Any] = judged(place, texts)
        if code:
            say((Path(folder) / "stderr").read_text()[-3000:])
    counted = ("documents without a row", "documents with several rows", "rows with an error",
               "texts that are gone or wrong", "texts of no document", "files left in .batch")  # fmt: skip
    holds = not code and not any(found[name] for name in counted) and found["rows"] == found["documents"]
    rows = [(name, f"{number:,}") for name, number in found.items()]
    kinds = ", ".join(f"{name} {number}" for name, number in chaos.killed.most_common())
    said = (
        f"{chaos.killed.total()} times SIGKILL in {chaos.seconds / 60:.1f} minutes: {kinds}. The command was started "
        f"{len(chaos.codes)} times (exit codes {json.dumps(chaos.codes)}); all took {time.monotonic() - began:.0f} s. "
        f"Each document once, each text exact: {verdict(holds)}."
    )
    text = f"{table(('in the end', 'number'), rows)}\n\n{said}"
    report(f"chaos-{arguments.on}", "\n".join(__doc__.splitlines()), text, save=arguments.save)


if __name__ == "__main__":
    main()

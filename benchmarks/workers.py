"""Claim: one worker on the CPU, which is the default, reads as many pages per second as a worker for each core
(OCR_CPU_WORKERS) on the same cores, at least 0.95 of it, in less memory and with the same texts.

A worker shares out the lines of a page among its threads. On a machine with more cores than a page can use, one worker
does not keep all cores busy. Then the claim does not hold, and the ratio shows the gain of OCR_CPU_WORKERS on that
machine. Two servers are warm at once, one with one worker, one with several. They read the same pages in turns; the
first turn of a round alternates. Clients of `POST /ocr` send a page each, and the next one as soon as the answer is
there. Then one client sends all pages as one document. No two files are the same, and the cache is off, so the engine
reads every page.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
from PIL import Image

from common import PAGES, http_server, ratio, report, say, spread, table, verdict
from deepseek_ocr_mcp.engines.cores import usable_cores
from overhead import draw_pages
from service import CALL_TIMEOUT_S, MODE, read_by_clients

LEAST: Final = 0.95
KINDS: Final = ("a page each", "one document")


def document(paths: Sequence[Path], serial: int) -> bytes:
    """All pages as one TIFF. The serial number makes each file different."""
    out = io.BytesIO()
    pages = [Image.open(path).convert("RGB") for path in paths]
    # Compressed, because raw pages are larger than OCR_MAX_FILE_MB.
    pages[0].save(
        out, "TIFF", save_all=True, append_images=pages[1:], description=str(serial), compression="tiff_deflate"
    )
    return out.getvalue()


async def read_document(root: str, data: bytes) -> tuple[float, list[str]]:
    """Seconds that a client took for one document, and the text of each page."""
    async with httpx2.AsyncClient(base_url=root, timeout=CALL_TIMEOUT_S) as http:
        began = time.perf_counter()
        answer = await http.post("/ocr-pdf", data={"mode": MODE}, files={"file": ("pages.tiff", data)})
        seconds = time.perf_counter() - began
    if answer.status_code != 200:
        sys.exit(f"A document was refused: {answer.text}")
    return seconds, [page["text"] for page in answer.json()["pages"]]


async def memory_mb(root: str) -> int:
    """MiB of host memory that the workers hold."""
    async with httpx2.AsyncClient(base_url=root, timeout=30) as http:
        status: dict[str, Any] = (await http.get("/gpu/status")).json()
    return int(status["worker_host_mb"])


async def measure(arguments: argparse.Namespace) -> tuple[dict[tuple[int, str], list[float]], dict[int, int]]:
    """Pages a second by number of workers and kind, and the memory of the workers."""
    speed: dict[tuple[int, str], list[float]] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        draw_pages(Path(folder))
        kinds = [*sorted(PAGES.glob("*.png")), Path(folder) / "one-line.png", Path(folder) / "full-page.png"]
        paths = [kinds[number % len(kinds)] for number in range(arguments.pages)]
        contents = [path.read_bytes() for path in paths]
        roots = {}
        for workers in (1, arguments.workers):
            settings = {"OCR_ENGINE": "rapidocr", "OCR_CPU_WORKERS": str(workers), "GPU_IDLE_TIMEOUT": "-1"}
            _, url = stack.enter_context(http_server(**settings, OCR_MAX_QUEUE=str(4 * arguments.clients)))
            roots[workers] = url.removesuffix("/mcp")
        serial, wanted = 0, []
        for number in range(arguments.rounds + 1):  # the first warms up
            say(f"round {number} of {arguments.rounds}")
            for workers in sorted(roots, reverse=number % 2 == 0):
                serial += 1
                # A decoder ignores bytes after the end of a picture. They make another file of the same page.
                files = [data + f" {serial} {index}".encode() for index, data in enumerate(contents)]
                took = {
                    KINDS[0]: await read_by_clients(roots[workers], files, arguments.clients),
                    KINDS[1]: await read_document(roots[workers], document(paths, serial)),
                }
                for kind, (seconds, texts) in took.items():
                    wanted = wanted or texts
                    if texts != wanted:
                        sys.exit(f"{workers} workers read another text of {kind}.")
                    if number:
                        speed.setdefault((workers, kind), []).append(len(paths) / seconds)
        return speed, {workers: await memory_mb(root) for workers, root in roots.items()}


def judged(speed: dict[tuple[int, str], list[float]], memory: dict[int, int], arguments: argparse.Namespace) -> str:
    """The table and the verdict."""
    many = arguments.workers
    rows = [
        [kind, spread(speed[1, kind], 2), spread(speed[many, kind], 2), ratio(speed[1, kind], speed[many, kind])]
        for kind in KINDS
    ]
    rows.append(["host memory, MiB", str(memory[1]), str(memory[many]), f"×{memory[1] / memory[many]:.2f}"])
    legend = (
        f"Pages a second, median (min–max) of {arguments.rounds} rounds of {arguments.pages} pages; "
        f"{arguments.clients} clients send a page each. The ratio is the median over the rounds."
    )
    shares = {
        kind: statistics.median(a / b for a, b in zip(speed[1, kind], speed[many, kind], strict=True)) for kind in KINDS
    }
    said = [f"{kind}: at least {LEAST} of it: {verdict(share >= LEAST)}." for kind, share in shares.items()]
    head = ("", "1 worker", f"{many} workers", f"1 / {many}")
    return "\n\n".join([table(head, rows), legend, "\n".join(said)])


def main() -> None:
    """Measure, print, and save if asked."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="rounds (default %(default)s)")
    add("--pages", type=int, default=48, help="pages that are read in each turn (default %(default)s)")
    add("--workers", type=int, default=max(2, usable_cores()), help="against one (default %(default)s)")
    add("--clients", type=int, default=8, help="clients at once (default %(default)s)")
    add("--save", action="store_true", help="write results/workers.md")
    arguments = parser.parse_args()
    found = anyio.run(measure, arguments)
    report("workers", __doc__ or "", judged(*found, arguments), save=arguments.save)


if __name__ == "__main__":
    main()

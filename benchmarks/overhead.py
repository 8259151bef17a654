"""Claim: `ocr_image` costs at most 5 % and 5 ms a page more than the engine alone.

The engine alone is `RapidOcrEngine` in a process of its own, warm, called directly: Pillow or PDFium
decodes the file, the pixels are handed over in memory, the page is read. Against it the same file
over stdio (as a path) and over streamable HTTP (as base64), each to a warm server process of its own,
by the SDK's `mcp.Client`, which asks for progress as agents do. All have the same number of threads
and the same mode, and must return the same text.

In every round each page is read by all of them in turn, first by the one, then by the other, so that
a noisy machine is noisy for all. The engine alone runs twice: what its two runs differ by is noise.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import psutil
from mcp import Client, StdioServerParameters

from common import PAGES, PRODUCT, environment, http_server, report, say, spread, table, verdict

SHARE: Final = 0.05
EXTRA_S: Final = 0.005
CALL_TIMEOUT_S: Final = 120.0
PDF_DPI: Final = 200  # the server's own default, OCR_PDF_DPI
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".pdf", ".tif", ".tiff", ".webp")
ENGINE, AGAIN, STDIO, HTTP = "engine", "engine again", "stdio", "HTTP"
READERS: Final = (ENGINE, STDIO, HTTP, AGAIN)


@dataclass(slots=True)
class Read:
    """One document, read once. Seconds; `inside` is what the reader itself says went into the engine."""

    total: float
    engine: float
    inside: float
    pages: int
    text: str


@dataclass(slots=True)
class Series:
    """One document, read once a round by one reader."""

    reads: list[Read] = field(default_factory=list)

    def per_page(self, of: Callable[[Read], float]) -> list[float]:
        return [of(read) / read.pages for read in self.reads]


Reader = Callable[[Path], Awaitable[Read]]


# -- the engine alone: this file run with --engine


class _Nobody:
    """A call that nobody watches or cancels."""

    def progress(self, done: float, message: str = "") -> None: ...
    def raise_if_cancelled(self) -> None: ...


def serve_engine(mode: str) -> None:
    """Read the documents whose paths come on stdin, one a line; answer each with a line of JSON."""
    from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
    from deepseek_ocr_mcp.engines.rapidocr import RapidOcrEngine

    engine, options = RapidOcrEngine(), ReadOptions(mode)
    engine.load("cpu", _Nobody())
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    for line in sys.stdin:
        began = time.perf_counter()
        texts, reading = [], 0.0
        for width, height, pixels in decoded(line.rstrip("\n")):
            with tempfile.NamedTemporaryFile(dir=memory) as file:
                file.write(pixels)
                file.flush()
                at = time.perf_counter()
                [page] = engine.read([PageImage(file.name, width, height)], options, _Nobody())
                reading += time.perf_counter() - at
            texts.append(page.text)
        total = time.perf_counter() - began
        answer = {"total": total, "engine": reading, "inside": total, "pages": len(texts)}
        print(json.dumps(answer | {"text": "\n\n".join(filter(None, texts))}), flush=True)


def decoded(path: str) -> Iterator[tuple[int, int, bytes]]:
    """Width, height and RGB bytes of every page."""
    if path.lower().endswith(".pdf"):
        import pypdfium2

        with contextlib.closing(pypdfium2.PdfDocument(path)) as document:
            for page in document:
                image = page.render(scale=PDF_DPI / 72, rev_byteorder=True).to_pil().convert("RGB")
                yield image.width, image.height, image.tobytes()
        return
    from PIL import Image, ImageSequence

    with Image.open(path) as opened:
        for frame in ImageSequence.Iterator(opened):
            image = frame.convert("RGB")
            yield image.width, image.height, image.tobytes()


@asynccontextmanager
async def engine_alone(mode: str, threads: int) -> Any:
    """A reader that asks a process of `serve_engine`; only that process's own clock counts."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--engine", mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(OCR_THREADS=str(threads)),
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(path: Path) -> Read:
        print(path, file=process.stdin, flush=True)
        line = process.stdout.readline()
        if not line:
            sys.exit(f"The engine alone ended over {path}.")
        return Read(**json.loads(line))

    async def read(path: Path) -> Read:
        return await anyio.to_thread.run_sync(ask, path)

    try:
        yield read
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


# -- the servers


def reader_of(client: Client, mode: str, argument: Callable[[Path], str]) -> Reader:
    """A reader that calls `ocr_image` and takes the time from the call to the answer."""

    async def ignore(done: float, total: float | None, message: str | None) -> None: ...

    async def read(path: Path) -> Read:
        image = argument(path)  # a client has its picture at hand: encoding it is no part of the call
        began = time.perf_counter()
        result = await client.call_tool(
            "ocr_image",
            {"image": image, "mode": mode, "max_chars": 0},
            read_timeout_seconds=CALL_TIMEOUT_S,
            progress_callback=ignore,
        )
        total = time.perf_counter() - began
        facts = result.structured_content
        if result.is_error or facts is None:
            sys.exit(f"{path}: {result.content}")
        timing = facts["timing"]
        return Read(total, timing["infer_s"], timing["total_s"], len(facts["pages"]), facts["text"])

    return read


def as_base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


# -- pages


def draw_pages(folder: Path) -> None:
    """A page with one line, a full page, and a scan of many pixels."""
    from PIL import Image, ImageDraw, ImageFont

    def drawn(name: str, size: tuple[int, int], font_size: int, lines: int, words: int) -> None:
        image = Image.new("RGB", size, "white")
        draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=font_size)
        pool = "the reading room opens at nine and closes at six on every day but one".split()
        for line in range(lines):
            text = " ".join(pool[(line * 5 + word * 3) % len(pool)] for word in range(words))
            draw.text((2 * font_size, font_size * (2 + 1.6 * line)), text, "black", font)
        image.save(folder / name, quality=85)

    drawn("one-line.png", (600, 100), 28, 1, 6)
    drawn("full-page.png", (1654, 2339), 30, 40, 13)  # A4 at 200 dpi
    drawn("large-scan.jpg", (3508, 4961), 60, 12, 13)  # A3 at 300 dpi: 52 MB of pixels, few words


# -- the run


async def measure(paths: list[Path], rounds: int, mode: str, threads: int) -> dict[Path, dict[str, Series]]:
    """Read every document with every reader, once a round and once before the first."""
    # Models stay loaded, as on a server that is in use.
    settings = {"OCR_THREADS": str(threads), "OCR_ENGINE": "rapidocr", "GPU_IDLE_TIMEOUT": "-1"}
    stdio_server = StdioServerParameters(command=sys.executable, args=[*PRODUCT], env=environment(**settings))
    found = {path: {name: Series() for name in READERS} for path in paths}
    async with AsyncExitStack() as stack:
        _, url = stack.enter_context(http_server(**settings))
        alone = await stack.enter_async_context(engine_alone(mode, threads))
        stdio = await stack.enter_async_context(Client(stdio_server))
        http = await stack.enter_async_context(Client(url))
        readers: dict[str, Reader] = {
            ENGINE: alone,
            STDIO: reader_of(stdio, mode, str),
            HTTP: reader_of(http, mode, as_base64),
            AGAIN: alone,
        }
        for number in range(rounds + 1):
            say(f"round {number} of {rounds}" if number else "warming up")
            for path in paths:
                texts = set()
                for turn in range(len(READERS)):
                    name = READERS[(turn + number) % len(READERS)]
                    read = await readers[name](path)
                    texts.add(read.text)
                    if number:
                        found[path][name].reads.append(read)
                if len(texts) > 1:
                    sys.exit(f"{path} was not read alike by all: {sorted(map(len, texts))} characters.")
    return found


def judged(found: dict[Path, dict[str, Series]], rounds: int) -> str:
    """The two tables and what they mean."""
    rows, parts, broken = [], [], []
    for path, series in found.items():
        alone = series[ENGINE].per_page(lambda read: read.total)
        allowed = SHARE * statistics.median(alone) + EXTRA_S
        pages = series[ENGINE].reads[0].pages
        row = [path.name + (f" ({pages} pages)" if pages > 1 else ""), milliseconds(alone)]
        for name in (STDIO, HTTP, AGAIN):
            there = series[name].per_page(lambda read: read.total)
            more = [a - b for a, b in zip(there, alone, strict=True)]
            row.append(f"{1000 * statistics.median(more):+.0f} ({percent(there, alone)})")
            if name != AGAIN and statistics.median(more) > allowed:
                broken.append(f"{path.name} over {name}")
        rows.append([*row, f"{1000 * allowed:.0f}"])
        parts.append([path.name, *(part for name in (STDIO, HTTP) for part in shares(series, name))])
    return "\n\n".join(
        [
            table(("ms a page", "engine alone", "stdio", "HTTP", "engine again", "allowed"), rows),
            table(
                ("of which", *(f"{name}: {part}" for name in (STDIO, HTTP) for part in ("engine", "server", "wire"))),
                parts,
            ),
            f"{rounds} rounds. Engine alone: median (min–max). The others: median of the difference to the engine\n"
            "alone in the same round, and of the ratio. Of which: engine, its call through the worker's pipe against\n"
            "the same call made directly; server, everything else in the server, against decoding alone; wire,\n"
            "what client, protocol and transport add.",
            f"At most {SHARE:.0%} plus {EXTRA_S * 1000:g} ms a page: {verdict(not broken)}"
            + (f" for {', '.join(broken)}." if broken else "."),
        ]
    )


def shares(series: dict[str, Series], name: str) -> list[str]:
    """Where the difference to the engine alone arises: in the engine, in the server, on the wire."""
    parts: tuple[Callable[[Read], float], ...] = (
        lambda read: read.engine,
        lambda read: read.inside - read.engine,
        lambda read: read.total - read.inside,
    )
    return [
        f"{1000 * statistics.median(a - b for a, b in zip(series[name].per_page(of), series[ENGINE].per_page(of), strict=True)):+.1f}"
        for of in parts
    ]


def milliseconds(values: list[float]) -> str:
    return spread([1000 * value for value in values], 0)


def percent(there: list[float], alone: list[float]) -> str:
    return f"{statistics.median(a / b for a, b in zip(there, alone, strict=True)) - 1:+.1%}"


def main() -> None:
    """Measure, print, and save if asked."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds (default %(default)s)")
    parser.add_argument("--pages", type=Path, metavar="DIR", help="read the documents in DIR instead")
    parser.add_argument("--mode", default="document", help="mode of all readings (default %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=len(psutil.Process().cpu_affinity()), help="threads for all (default %(default)s)"
    )
    parser.add_argument("--save", action="store_true", help="write results/overhead.md")
    parser.add_argument("--engine", metavar="MODE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        return serve_engine(arguments.engine)

    with tempfile.TemporaryDirectory() as folder:
        if not arguments.pages:
            draw_pages(Path(folder))
        sources = [arguments.pages] if arguments.pages else [PAGES, Path(folder)]
        paths = sorted(
            path.resolve() for source in sources if source.is_dir() for path in source.iterdir() if path.suffix.lower() in SUFFIXES
        )
        if not paths:
            sys.exit(f"No pages in {arguments.pages}.")
        found = anyio.run(measure, paths, arguments.rounds, arguments.mode, arguments.threads)
    report("overhead", __doc__ or "", judged(found, arguments.rounds), save=arguments.save)
    return None


if __name__ == "__main__":
    main()

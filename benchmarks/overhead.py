"""Claim: `ocr_image` costs at most 5 % and 5 ms a page more than the engine alone.

The engine alone is `RapidOcrEngine` in a process of its own, warm, called directly: Pillow or PDFium decodes the file,
the engine gets the pixels in memory and reads the page. Against it, the SDK's `mcp.Client` reads the same file over
stdio (as a path) and over streamable HTTP (as base64), each from a warm server process of its own. The client asks for
progress, as agents do. All have the same number of threads and the same mode, and must return the same text.

In every round all of them read each page in turn, in alternating order, so that a noisy machine is noisy for all. The
engine alone has two turns: the servers are compared with their mean, and their difference is the noise. The SDK alone
takes its turn too: the same call to a server whose tool does nothing (`empty_server.py`).
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
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from mcp import Client, StdioServerParameters

from common import PAGES, PRODUCT, environment, http_server, report, say, spread, table, verdict
from deepseek_ocr_mcp.engines.cores import usable_cores

SHARE: Final = 0.05
EXTRA_S: Final = 0.005
CALL_TIMEOUT_S: Final = 120.0
PDF_DPI: Final = 200  # the server's own default, OCR_PDF_DPI
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".pdf", ".tif", ".tiff", ".webp")
ENGINE, AGAIN, STDIO, HTTP = "engine", "engine again", "stdio", "HTTP"
READERS: Final = (ENGINE, STDIO, AGAIN, HTTP)  # nobody after itself, with warm caches
SDK: Final = {STDIO: "stdio: SDK alone", HTTP: "HTTP: SDK alone"}
EMPTY: Final = str(Path(__file__).resolve().parent / "empty_server.py")


@dataclass(slots=True)
class Read:
    """One document, read once, in seconds. `inside` is the time that the reader itself reports for the engine."""

    total: float
    engine: float
    inside: float
    pages: int
    text: str


Reader = Callable[[Path], Awaitable[Read]]
Series = dict[str, list[Read]]
"""One document: what each reader took for it, once a round."""


# -- the engine alone: this file run with --engine


class _Nobody:
    """A call without progress and without cancellation."""

    def progress(self, done: float, message: str = "") -> None: ...
    def raise_if_cancelled(self) -> None: ...


def serve_engine(mode: str) -> None:
    """Read the documents whose paths come on stdin, one a line; answer each with a line of JSON."""
    from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
    from deepseek_ocr_mcp.engines.rapidocr.engine import RapidOcrEngine
    from deepseek_ocr_mcp.layout.answers import answer
    from deepseek_ocr_mcp.modes import MODES

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
            texts.append(answer(page, is_markdown=MODES[mode].is_markdown)[0])
        total = time.perf_counter() - began
        read = {"total": total, "engine": reading, "inside": total, "pages": len(texts)}
        print(json.dumps(read | {"text": "\n\n".join(filter(None, texts))}), flush=True)


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


@contextmanager
def engine_alone(mode: str, threads: int) -> Iterator[Reader]:
    """A reader that asks a process of `serve_engine`; only that process's own clock counts."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--engine", mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(OCR_THREADS=str(threads)),
        text=True,
    )
    questions, answers = process.stdin, process.stdout
    assert questions is not None
    assert answers is not None

    def ask(path: Path) -> Read:
        print(path, file=questions, flush=True)
        line = answers.readline()
        if not line:
            sys.exit(f"The engine alone ended over {path}.")
        return Read(**json.loads(line))

    async def read(path: Path) -> Read:
        return await anyio.to_thread.run_sync(ask, path)

    try:
        yield read
    finally:
        questions.close()
        process.wait()
        answers.close()


# -- the servers


def reader_of(client: Client, mode: str, argument: Callable[[Path], str], watched: bool) -> Reader:
    """A reader that calls `ocr_image` and takes the time from the call to the answer."""

    async def look_at(progress: float, total: float | None, message: str | None) -> None: ...

    async def read(path: Path) -> Read:
        image = argument(path)  # a client has its picture encoded already, so encoding does not count
        began = time.perf_counter()
        result = await client.call_tool(
            "ocr_image",
            {"image": image, "mode": mode, "max_chars": 0},
            read_timeout_seconds=CALL_TIMEOUT_S,
            progress_callback=look_at if watched else None,
        )
        total = time.perf_counter() - began
        facts = result.structured_content
        if result.is_error or facts is None:
            sys.exit(f"{path}: {result.content}")
        timing = facts["timing"]
        text = "\n\n".join(page["text"] for page in facts["pages"] if page["text"])
        return Read(total, timing["infer_s"], timing["total_s"], len(facts["pages"]), text)

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
        pool = ("reading", "room", "opens", "at", "nine", "and", "closes", "six", "every", "day", "but")
        for line in range(lines):
            text = " ".join(pool[(line * 5 + word * 3) % len(pool)] for word in range(words))
            draw.text((2 * font_size, font_size * (2 + 1.6 * line)), text, "black", font)
        image.save(folder / name, quality=85)

    drawn("one-line.png", (600, 100), 28, 1, 6)
    drawn("full-page.png", (1654, 2339), 30, 40, 13)  # A4 at 200 dpi
    drawn("large-scan.jpg", (3508, 4961), 60, 12, 13)  # A3 at 300 dpi: 52 MB of pixels, few words


# -- the run


async def measure(paths: list[Path], arguments: argparse.Namespace) -> dict[Path, Series]:
    """Read every document with every reader, once a round and once before the first."""
    mode, rounds, progress = arguments.mode, arguments.rounds, not arguments.no_progress
    # The model stays loaded, as on a server that is in use.
    settings = {"OCR_THREADS": str(arguments.threads), "OCR_ENGINE": "rapidocr", "GPU_IDLE_TIMEOUT": "-1"}
    stdio_server = StdioServerParameters(command=sys.executable, args=[*PRODUCT], env=environment(**settings))
    found: dict[Path, Series] = {path: {name: [] for name in (*READERS, *SDK.values())} for path in paths}
    async with AsyncExitStack() as stack:
        _, url = stack.enter_context(http_server(**settings))
        alone = stack.enter_context(engine_alone(mode, arguments.threads))
        stdio = await stack.enter_async_context(Client(stdio_server))
        http = await stack.enter_async_context(Client(url))
        empty_server = StdioServerParameters(command=sys.executable, args=[EMPTY], env=environment())
        empty_stdio = await stack.enter_async_context(Client(empty_server))
        _, empty_url = stack.enter_context(http_server(EMPTY, "http"))
        empty_http = await stack.enter_async_context(Client(empty_url))
        readers = {
            ENGINE: alone,
            STDIO: reader_of(stdio, mode, str, progress),
            HTTP: reader_of(http, mode, as_base64, progress),
            SDK[STDIO]: reader_of(empty_stdio, mode, str, progress),
            SDK[HTTP]: reader_of(empty_http, mode, as_base64, progress),
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
                        found[path][name].append(read)
                for name in SDK.values():
                    read = await readers[name](path)
                    if number:
                        found[path][name].append(read)
                if len(texts) > 1:
                    sys.exit(f"{path} was not read alike by all: {sorted(map(len, texts))} characters.")
    return found


# -- the result


def judged(found: dict[Path, Series]) -> str:
    """The two tables and the verdict."""
    rows, parts, broken, noisy = [], [], [], []
    for path, series in found.items():
        alone = engine_per_page(series, lambda read: read.total)
        allowed = SHARE * statistics.median(alone) + EXTRA_S
        pages = series[ENGINE][0].pages
        row = [
            path.name + (f" ({pages} pages)" if pages > 1 else ""),
            spread([1000 * seconds for seconds in alone], 0),
        ]
        for name in (STDIO, HTTP):
            more = difference(series, name, lambda read: read.total)
            there = per_page(series[name], lambda read: read.total)
            share = statistics.median(a / b for a, b in zip(there, alone, strict=True)) - 1
            row.append(f"{1000 * more:+.0f} ({share:+.1%})")
            if more > allowed:
                broken.append(f"{path.name} over {name}")
        noise = 2 * difference(series, AGAIN, lambda read: read.total)  # it differs from the mean by half
        if abs(noise) > allowed / 2:
            noisy.append(path.name)
        rows.append([*row, f"{1000 * noise:+.0f}", f"{1000 * allowed:.0f}"])
        where = [difference(series, name, of) * pages for name in (STDIO, HTTP) for of in PARTS.values()]
        least = [statistics.median(read.total for read in series[name]) for name in SDK.values()]
        parts.append([path.name, *(f"{1000 * seconds:+.1f}" for seconds in (*where, *least))])
    head = ("of which, ms a call", *(f"{name}: {part}" for name in (STDIO, HTTP) for part in PARTS), *SDK.values())
    verdicts = [f"At most {SHARE:.0%} plus {1000 * EXTRA_S:g} ms a page: {verdict(not broken)}"]
    if broken:
        verdicts[0] += f" for {', '.join(broken)}"
    if noisy:
        verdicts.append(
            f"On {', '.join(noisy)} the engine alone differs from itself by more than half of what is "
            "allowed: run it again on a calmer machine"
        )
    return "\n\n".join(
        [
            table(("ms a page", "engine alone", "stdio", "HTTP", "noise", "allowed"), rows),
            table(head, parts),
            LEGEND.format(rounds=len(next(iter(found.values()))[ENGINE])),
            ". ".join(verdicts) + ".",
        ]
    )


LEGEND: Final = """\
{rounds} rounds. Engine alone: median (min–max). stdio, HTTP: median over the rounds of the difference to the
engine alone in the same round, and of the ratio less one. Noise: its second turn less its first. Of which,
engine: reading in the worker against reading in a process of its own; server: all else in the server
against decoding alone; wire: what client, protocol and transport add. SDK alone: the whole call of a
tool that does nothing, which no server of this SDK can save."""

PARTS: Final[dict[str, Callable[[Read], float]]] = {
    "engine": lambda read: read.engine,
    "server": lambda read: read.inside - read.engine,
    "wire": lambda read: read.total - read.inside,
}


def per_page(reads: list[Read], of: Callable[[Read], float]) -> list[float]:
    """Seconds a page, round by round."""
    return [of(read) / read.pages for read in reads]


def engine_per_page(series: Series, of: Callable[[Read], float]) -> list[float]:
    """The same for the engine alone: the mean of its two turns in each round."""
    turns = zip(per_page(series[ENGINE], of), per_page(series[AGAIN], of), strict=True)
    return [statistics.mean(pair) for pair in turns]


def difference(series: Series, name: str, of: Callable[[Read], float]) -> float:
    """Seconds a page that a reader takes more than the engine alone: the median over the rounds."""
    pairs = zip(per_page(series[name], of), engine_per_page(series, of), strict=True)
    return statistics.median(there - alone for there, alone in pairs)


def main() -> None:
    """Measure, print, and save if asked."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    add = parser.add_argument
    add("--rounds", type=int, default=9, help="rounds (default %(default)s)")
    add("--pages", type=Path, metavar="DIR", help="read the documents in DIR instead of ours")
    add("--mode", default="document", help="mode of all readings (default %(default)s)")
    add("--threads", type=int, default=usable_cores(), help="threads for all (default %(default)s)")
    add("--no-progress", action="store_true", help="call as a client does that wants no progress")
    add("--save", action="store_true", help="write results/overhead.md")
    add("--engine", metavar="MODE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        serve_engine(arguments.engine)
        return
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.pages:
            draw_pages(Path(folder))
        sources = [arguments.pages] if arguments.pages else [PAGES, Path(folder)]
        files = [path.resolve() for source in sources if source.is_dir() for path in source.iterdir()]
        paths = sorted(path for path in files if path.suffix.lower() in SUFFIXES)
        if not paths:
            sys.exit(f"There are no pages in {arguments.pages}.")
        found = anyio.run(measure, paths, arguments)
    report("overhead", __doc__ or "", judged(found), save=arguments.save)


if __name__ == "__main__":
    main()

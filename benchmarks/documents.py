"""Claim: a long document is finished by following `next_pages`, every answer in time, no page read twice, memory flat.

A client over stdio reads a scan of many pages, which the benchmark draws, and the shared documents where they are at
hand. It asks as an agent does: first with the path only, then with the `next_pages` of each answer. The peer is the
engine alone: the same file in one process of its own, page after page (as in overhead.py). Half-way, a second client
asks for one page of another file. The benchmark compares its time with the same request on an idle server and with the
longest batch. Then clients of all kinds ask one HTTP server at once.

All of these requests have `text_layer=ignore`, so that the engine reads born-digital pages too. Then the benchmark asks
for such a document both ways, and compares its own text with the text that was read: seconds a page, and wrong
characters (CER, by the corpus' own rule).

Resident memory is the memory of the server process. Its children are the decoder and the engine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import anyio
import psutil
from mcp import Client, StdioServerParameters
from PIL import Image, ImageDraw, ImageFont

from common import PAGES, PRODUCT, environment, http_server, report, resident_mb, say, table, verdict
from overhead import as_base64, engine_alone
from reading import load_evaluate

TOTAL: Final = 1.05  # times the engine alone
FLAT_MB: Final = 20.0  # between the first tenth of the pages and the last
SERVER_MB: Final = 200.0
REPLY_S: Final = 45.0  # OCR_REPLY_SECONDS, its default
SHARED: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "corpus"
CLIENTS: Final = 50
OWN_TEXT_RATIO: Final = 10.0
WORDS: Final = ("ledger", "harbour", "station", "paid", "unpaid", "crates", "of", "oranges", "to", "Mr", "Hale", "per")


@dataclass(slots=True)
class Course:
    """The reading of one document: its calls, times and pages."""

    pages: int
    seconds: float = 0.0
    answers_s: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    read: int = 0
    in_between_s: float | None = None


def page_images(count: int) -> Iterator[Image.Image]:
    """Pages of a ledger, no two the same."""
    font = ImageFont.load_default(size=26)
    for number in range(count):
        image = Image.new("L", (1000, 640), 255)
        draw = ImageDraw.Draw(image)
        draw.text((60, 40), f"Ledger, page {number + 1} of {count}", 0, font)
        for line in range(9):
            words = " ".join(WORDS[(number * 7 + line * 5 + word * 3) % len(WORDS)] for word in range(8))
            draw.text((60, 110 + 54 * line), f"{number * 9 + line + 1}. {words}", 0, font)
        yield image


def draw_scan(path: Path, pages: int) -> None:
    """A PDF of pictures only."""
    first, *_ = page_images(1)
    rest = page_images(pages)
    next(rest)
    first.save(path, "PDF", resolution=100, save_all=True, append_images=rest)


# -- one document, one client


async def follow(client: Client, process: psutil.Process, path: Path, in_between: str | None = None) -> Course:
    """Read a whole document by following `next_pages`."""
    served = (await status(client))["served"]
    began, pages, course = time.perf_counter(), "", Course(0)
    while True:
        at = time.perf_counter()
        result = await client.call_tool("ocr_image", {"image": str(path), "pages": pages, "text_layer": "ignore"})
        course.answers_s.append(time.perf_counter() - at)
        answer = facts(result)
        course.pages = answer["page_count"]
        course.seen += [page["page"] for page in answer["pages"]]
        course.texts.append(answer.get("text") or "\n\n".join(page["text"] for page in answer["pages"]))
        course.memory_mb.append(resident_mb(process))
        if in_between and course.in_between_s is None and 2 * len(course.seen) > course.pages:
            at = time.perf_counter()
            facts(await client.call_tool("ocr_image", {"image": in_between}))
            course.in_between_s = time.perf_counter() - at
            course.read -= 1
        pages = answer.get("next_pages", "")
        if not pages:
            break
    course.seconds = time.perf_counter() - began
    course.read += (await status(client))["served"] - served
    return course


async def status(client: Client) -> dict[str, Any]:
    return facts(await client.call_tool("gpu_status", {}))


def facts(result: Any) -> dict[str, Any]:
    if result.is_error or result.structured_content is None:
        sys.exit(f"An answer was an error: {result.content}")
    answer: dict[str, Any] = result.structured_content
    return answer


def server_process() -> psutil.Process:
    """The one server that this process started over stdio."""
    [process] = [child for child in psutil.Process().children() if "deepseek_ocr_mcp" in " ".join(child.cmdline())]
    return process


async def documents(paths: list[Path]) -> tuple[list[tuple[Path, Course, float]], float, float]:
    """Each document by ours and by the engine alone; seconds of a short request alone; the longest page alone."""
    settings = {"OCR_ENGINE": "rapidocr", "GPU_IDLE_TIMEOUT": "-1", "OCR_CACHE": "on"}
    short = PAGES / "receipt.png"
    found = []
    parameters = StdioServerParameters(command=sys.executable, args=[*PRODUCT], env=environment(**settings))
    async with Client(parameters) as client:
        process = server_process()
        facts(await client.call_tool("ocr_image", {"image": str(PAGES / "table.png")}))  # loads the model
        at = time.perf_counter()
        facts(await client.call_tool("ocr_image", {"image": str(short), "mode": "ocr"}))
        alone_s = time.perf_counter() - at
        with engine_alone("document", 0) as alone:
            await alone(PAGES / "table.png")
            for path in paths:
                say(f"{path.name}, ours")
                course = await follow(client, process, path, in_between=str(short) if path is paths[0] else None)
                say(f"{path.name}, the engine alone")
                bare = await alone(path)
                found.append((path, course, bare.total))
    longest = max(bare / course.pages for _, course, bare in found)
    return found, alone_s, longest


# -- a document's own text


@dataclass(slots=True)
class OwnText:
    """A born-digital document, taken from its text layer and read as a picture."""

    pages: int
    taken_s: float
    read_s: float
    taken_cer: float
    read_cer: float


async def own_text(path: Path, evaluate: ModuleType) -> OwnText:
    """Each way on a server of its own: the first starts no engine, the second has it loaded before."""
    truth = next(
        entry["gt"] for entry in json.loads((SHARED / "manifest.json").read_text()) if entry["file"] == path.name
    )
    found: dict[str, tuple[float, float, int]] = {}
    for way in ("only", "ignore"):
        settings = environment(OCR_ENGINE="rapidocr", GPU_IDLE_TIMEOUT="-1", OCR_CACHE="off", OCR_REPLY_SECONDS="600")
        parameters = StdioServerParameters(command=sys.executable, args=[*PRODUCT], env=settings)
        asked = {"image": str(path), "mode": "free", "text_layer": way, "max_chars": 0}  # Markdown would count as wrong
        async with Client(parameters) as client:
            await client.call_tool("ocr_image", {"image": str(PAGES / "table.png"), "text_layer": way})  # warm
            at = time.perf_counter()
            answer = facts(await client.call_tool("ocr_image", asked))
            seconds = time.perf_counter() - at
            if way == "only" and (await status(client))["served"]:
                sys.exit("A page was read that should not have been.")
        text = "\n".join(page["text"] for page in answer["pages"])
        hay, wanted = (evaluate.norm(evaluate.strip_markup(each), nospace=True) for each in (text, truth))
        found[way] = seconds, evaluate.lev(wanted, hay) / len(wanted), answer["page_count"]
    taken, read = found["only"], found["ignore"]
    return OwnText(taken[2], taken[0], read[0], taken[1], read[1])


# -- many clients


async def mixed(folder: Path) -> dict[str, Any]:
    """Fifty clients of three kinds at one HTTP server; several of them ask for the same pages."""
    document = folder / "ten.pdf"
    draw_scan(document, 10)
    data = as_base64(document)
    pages = [as_base64(PAGES / name) for name in ("receipt.png", "table.png")]
    wrong: Counter[str] = Counter()
    waits: list[float] = []

    async def one(number: int, url: str) -> None:
        async with Client(url, mode="legacy" if number % 2 else "auto") as client:
            at = time.perf_counter()
            if number % 3 == 0:
                seen, following = [], ""
                while True:
                    answer = facts(
                        await client.call_tool("ocr_image", {"image": data, "pages": following, "max_chars": 1000})
                    )
                    seen += [page["page"] for page in answer["pages"]]
                    if not (following := answer.get("next_pages", "")):
                        break
                wrong["document"] += seen != list(range(1, 11))
            elif number % 3 == 1:
                answer = facts(await client.call_tool("ocr_image", {"image": pages[number % 2]}))
                wrong["page"] += not answer["pages"]
            else:
                arguments = {"image": pages[1], "mode": "find", "find_term": "Millbrook"}
                answer = facts(await client.call_tool("ocr_image", arguments))
                wrong["find"] += len(answer["pages"][0]["blocks"]) != 1
            waits.append(time.perf_counter() - at)

    with http_server(OCR_ENGINE="rapidocr", GPU_IDLE_TIMEOUT="-1", OCR_CACHE="on") as (process, url):
        began = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for number in range(CLIENTS):
                tasks.start_soon(one, number, url)
        seconds = time.perf_counter() - began
        async with Client(url) as client:
            served = (await status(client))["served"]
        memory = resident_mb(process)
    return {"seconds": seconds, "served": served, "wrong": sum(wrong.values()), "waits": waits, "memory": memory}


# -- the result


def judged(
    found: list[tuple[Path, Course, float]],
    alone_s: float,
    longest_s: float,
    crowd: dict[str, Any],
    own: OwnText | None,
) -> str:
    rows = []
    for path, course, bare in found:
        rows.append(
            (
                f"{path.name} ({course.pages} pages)",
                f"{course.answers_s[0]:.1f}",
                f"{max(course.answers_s):.1f}",
                str(len(course.answers_s)),
                f"{course.seconds:.1f}",
                f"{bare:.1f}",
                f"×{course.seconds / bare:.2f}",
                str(course.read - course.pages),
            )
        )
    head = ("document", "first answer, s", "longest, s", "answers", "all, s", "engine alone, s", "ratio", "read twice")
    _, long, bare = found[0]
    tenth = max(1, len(long.memory_mb) // 10)
    early, late = statistics.median(long.memory_mb[:tenth]), statistics.median(long.memory_mb[-tenth:])
    assert long.in_between_s is not None
    distinct = 10 + 2 + 1  # pages of the document, two pages as documents, one of them searched
    checks = [
        ("every page once, in order", all(c.seen == list(range(1, c.pages + 1)) for _, c, _ in found)),
        (f"every answer within {REPLY_S:g} s", all(max(c.answers_s) <= REPLY_S for _, c, _ in found)),
        (f"all pages in at most ×{TOTAL:g} of the engine alone", long.seconds / bare <= TOTAL),
        ("no page read twice", all(c.read == c.pages for _, c, _ in found)),
        (f"server process under {SERVER_MB:g} MB", max(long.memory_mb) < SERVER_MB),
        (f"its memory flat within {FLAT_MB:g} MB", late - early < FLAT_MB),
        ("a short request waits for one batch at most", long.in_between_s <= alone_s + 2 * longest_s),
        (f"{CLIENTS} mixed clients: every answer right", crowd["wrong"] == 0),
        (f"{CLIENTS} mixed clients: no page read twice", crowd["served"] == distinct),
    ]
    said = "The shared documents are not at hand: text layers were not measured."
    if own is not None:
        ratio = own.read_s / own.taken_s
        said = (
            f"A born-digital document of {own.pages} pages: its own text in {own.taken_s / own.pages:.3f} s a page, "
            f"CER {own.taken_cer:.4f}; read as pictures in {own.read_s / own.pages:.2f} s a page (×{ratio:.0f}), CER "
            f"{own.read_cer:.4f}."
        )
        checks += [
            ("a page's own text comes ten times as fast as reading it", ratio >= OWN_TEXT_RATIO),
            ("and has no more wrong characters", own.taken_cer <= own.read_cer),
        ]
    return "\n\n".join(
        [
            table(head, rows),
            f"Server process over {found[0][0].name}: {early:.0f} MB in the first tenth of the answers, {late:.0f} in "
            f"the last, {max(long.memory_mb):.0f} at most. A short request: {alone_s:.2f} s on an idle server, "
            f"{long.in_between_s:.2f} s in between; a page takes {longest_s:.2f} s.",
            f"{CLIENTS} clients at once over HTTP (a third follow ten pages, a third read one, a third search one): "
            f"{crowd['seconds']:.1f} s in all, median {statistics.median(crowd['waits']):.1f} s, longest "
            f"{max(crowd['waits']):.1f} s; {crowd['served']} pages read for {distinct} that differ; server "
            f"{crowd['memory']:.0f} MB.",
            said,
            "\n".join(f"- {claim}: {verdict(holds)}" for claim, holds in checks),
        ]
    )


def main() -> None:
    """Measure, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=400, help="of the drawn scan (default %(default)s)")
    parser.add_argument("--save", action="store_true", help="write results/documents.md")
    arguments = parser.parse_args()
    shared = [SHARED / name for name in ("multi_pdf_4p.pdf", "multi_born_5p.pdf")]
    born_digital = shared[-1]
    evaluate = load_evaluate(SHARED) if born_digital.is_file() else None  # a missing package is named now
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / f"scan-{arguments.pages}.pdf"
        draw_scan(scan, arguments.pages)
        paths = [scan, *(path for path in shared if path.is_file())]
        found, alone_s, longest_s = anyio.run(documents, paths)
        say("many clients")
        crowd = anyio.run(mixed, Path(folder))
        say("a document's own text")
        own = anyio.run(own_text, born_digital, evaluate) if evaluate else None
    report("documents", __doc__ or "", judged(found, alone_s, longest_s, crowd, own), save=arguments.save)


if __name__ == "__main__":
    main()

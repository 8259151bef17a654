"""Claim: without a GPU, better than stock RapidOCR and Tesseract on every kind of page, in half RapidOCR's time.

Three readers take turns on each file of the corpus, so that any other work of the machine slows all of them:

- ours through the MCP tool (a client over stdio, the model loaded);
- `RapidOCR()` with its own defaults, in a process of its own that stays;
- Debian's `tesseract` with orientation detection (`--psm 1`) and the right language, where its data is installed.

Ours reads each file once more through `deepseek-ocr-mcp ocr`, one process a file. The benchmark draws PDF and TIFF
pages for the other two beforehand, outside their time; ours draws its own.

The corpus' own evaluate.py gives the scores. Two scores are of the reading order (see `order_scores`), which the corpus
does not check. `--generated` reads pages that `generated_pages.py` draws instead: the same kinds, but pages that nobody
tuned anything to. `--numbers` reads the tables of `number_pages.py` and counts the groups of digits that each reader
got exactly right. CPU seconds count all processes of a reader; trust them on a machine that others use. Needs
rapidfuzz, and the corpus.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import anyio
import psutil

from common import PRODUCT, end_process, environment, family, ratio, report, sample_page, say, spread, table, verdict
from generated_pages import write_pages
from heading_scores import heading_scores
from number_pages import numbers_right, write_number_pages

CORPUS: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "corpus"
READERS: Final = ("ours", "RapidOCR", "Tesseract")
FILE_LIMIT_S: Final = 300.0
MAX_CER, MIN_F1, MAX_WORSE, MIN_ORDER, MIN_TABLE = 0.15, 0.90, 0.02, 0.9, 0.7
MIN_NUMBERS: Final = 0.9995
MAX_TIME, MAX_MEMORY, MAX_RECEIPT, MAX_COLD = 0.5, 0.5, 0.4, 2.0
# What "the import floor of the runtime" may mean: the libraries that ours runs on; the package that others import to
# read; the least program that loads the two models and reads a line, which tells how much of ours is theirs.
IMPORTS: Final = ("import numpy, cv2, onnxruntime", "from rapidocr import RapidOCR")
BARE: Final = "bare_models.py"
FLOORS: Final = {"one line": (*IMPORTS, BARE), "a receipt": IMPORTS}
PIECE: Final = 20  # letters of a piece
MIN_PIECES: Final = 4  # fewer have no order to speak of
MB: Final = 1_000_000  # bytes
RIGHT_DATA: Final = {"el": ["ell"], "fa": ["fas", "ara"], "th": ["tha"]}  # where the manifest just says eng


@dataclass
class Reading:
    """The text of one reader for one file, and its cost."""

    text: str = ""
    seconds: float = 0.0
    cpu: float = 0.0
    peak_mb: float = 0.0
    error: str = ""
    scores: dict[str, float | None] = field(default_factory=dict)


# -- costs


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """CPU time of the processes and of those they have waited for."""
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def forget_peak(processes: Sequence[psutil.Process]) -> None:
    """Start counting the peak anew, where Linux lets us."""
    for process in processes:
        with suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak_mb(processes: Sequence[psutil.Process]) -> float:
    """Sum of each process's own peak since `forget_peak`."""
    total = 0
    for process in processes:
        with suppress(OSError):
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1])
    return total * 1024 / MB


def run_program(arguments: Sequence[str], **settings: str) -> Reading:
    """One program from start to end."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment(**settings)
        )
        watchdog = threading.Timer(FILE_LIMIT_S, child.kill)
        watchdog.start()
        _, status, usage = os.wait4(child.pid, 0)
        watchdog.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        out.seek(0)
        err.seek(0)
        said = err.read().decode(errors="replace").strip()
        return Reading(
            out.read().decode(errors="replace"),
            seconds,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * 1024 / MB,
            f"exit status {child.returncode}: {said[-200:]}" if child.returncode else "",
        )


# -- the readers


class OurTool:
    """The MCP tool, as a client over stdio calls it."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> OurTool:
        from mcp import Client
        from mcp.client.stdio import StdioServerParameters

        before = {child.pid for child in psutil.Process().children()}
        server = StdioServerParameters(command=sys.executable, args=list(PRODUCT), env=environment(**self._settings))
        self._client = await self._stack.enter_async_context(Client(server))
        [self._server] = [child for child in psutil.Process().children() if child.pid not in before]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def read(self, path: str) -> Reading:
        processes = family(self._server)
        forget_peak(processes)
        cpu, began = cpu_seconds(processes), time.perf_counter()
        result = await self._client.call_tool("ocr_image", {"image": path, "max_chars": 0})
        seconds = time.perf_counter() - began
        processes = family(self._server)
        facts = result.structured_content or {}
        said = "\n".join(block.text for block in result.content if block.type == "text")
        cost = (seconds, cpu_seconds(processes) - cpu, peak_mb(processes))
        text = "\n\n".join(page["text"] for page in facts.get("pages", ()) if page["text"])
        return Reading("", *cost, error=said[:200]) if result.is_error else Reading(text, *cost)


class StockRapidOcr:
    """`RapidOCR()` in a process of its own, which is kept."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, __file__, "--child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            text=True,
        )
        self._process = psutil.Process(self._popen.pid)
        self._ask("")

    def _ask(self, path: str) -> dict[str, Any]:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        watchdog = threading.Timer(FILE_LIMIT_S, self._popen.kill)
        watchdog.start()
        try:
            self._popen.stdin.write(json.dumps(path) + "\n")
            self._popen.stdin.flush()
            for line in self._popen.stdout:
                if line.startswith("{"):
                    answer: dict[str, Any] = json.loads(line)
                    return answer
        finally:
            watchdog.cancel()
        sys.exit("Stock RapidOCR died.")

    def read(self, pages: Sequence[str]) -> Reading:
        forget_peak([self._process])
        cpu, began = cpu_seconds([self._process]), time.perf_counter()
        answers = [self._ask(page) for page in pages]
        seconds = time.perf_counter() - began
        errors = [answer["error"] for answer in answers if "error" in answer]
        return Reading(
            "\n\n".join(answer.get("text", "") for answer in answers),
            seconds,
            cpu_seconds([self._process]) - cpu,
            peak_mb([self._process]),
            errors[0] if errors else "",
        )

    def close(self) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        end_process(self._popen)


def serve_rapidocr() -> None:
    """The child: a path a line in, `{"text": …}` or `{"error": …}` a line out."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from rapidocr import RapidOCR

    engine = RapidOCR()
    for line in sys.stdin:
        answer: dict[str, str] = {}
        if path := json.loads(line):
            try:
                answer["text"] = "\n".join(engine(path).txts or ())
            except Exception as exc:
                answer["error"] = f"{type(exc).__name__}: {exc}"[:200]
        print(json.dumps(answer), file=out, flush=True)


def tesseract(pages: Sequence[str], languages: str) -> Reading:
    """Run one process for each page, as most users do."""
    whole = Reading()
    for page in pages:
        one = run_program(["tesseract", page, "-", "--psm", "1", "-l", languages])
        whole.text += one.text + "\n\n"
        whole.seconds += one.seconds
        whole.cpu += one.cpu
        whole.peak_mb = max(whole.peak_mb, one.peak_mb)
        whole.error = whole.error or one.error
    return whole


def right_languages(entry: dict[str, Any], have: set[str]) -> list[str]:
    """The languages that a user would give to `-l`. Our own engine may use the same ones for the page."""
    wanted = [*RIGHT_DATA.get(entry["lang"], ()), *entry["tess_lang"].split("+")]
    return [language for language in wanted if language in have]


def tesseract_languages() -> set[str]:
    """The language data that is installed."""
    listed = subprocess.run(["tesseract", "--list-langs"], capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


# -- the corpus


def load_evaluate(corpus: Path) -> ModuleType:
    """The corpus' own scoring."""
    path = corpus / "evaluate.py"
    spec = importlib.util.spec_from_file_location("evaluate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.fuzz is None:
        sys.exit("The scores need rapidfuzz: pip install rapidfuzz")
    return module


def order_scores(evaluate: ModuleType, entry: dict[str, Any], text: str) -> dict[str, float | None]:
    """How much of the truth's order a reading kept; the corpus' own manifest has no checks of order.

    The truth is cut into pieces of a few words. Those that stand in truth and reading once, or nearly so, have
    two places each. `order`: of all pairs, the share whose first comes first in the reading, as olmOCR-bench
    asks of two passages. `neighbours`: of pieces that follow each other in the truth, the share that do so in
    the reading, with no other piece between them: a page that is read across its columns fails that.
    """
    if not (entry.get("reading_order_meaningful") and "gt" in entry):
        return {}
    hay = evaluate.norm(evaluate.strip_markup(text), nospace=True)
    truth = evaluate.norm(entry["gt"], nospace=True)
    places: list[int] = []
    for piece in _pieces(evaluate, entry["gt"]):
        if truth.count(piece) == 1 and hay.count(piece) <= 1:
            places.append(_place(evaluate, piece, hay))
    found = [place for place in places if place >= 0]
    if len(found) < MIN_PIECES:
        return {}
    ranks = {place: rank for rank, place in enumerate(sorted(found))}
    pairs = [a < b for n, a in enumerate(found) for b in found[n + 1 :]]
    follow = [ranks[b] == ranks[a] + 1 for a, b in pairwise(found)]
    return {"order": sum(pairs) / len(pairs), "neighbours": sum(follow) / len(follow)}


def number_scores(entry: dict[str, Any], text: str) -> dict[str, float | None]:
    """The share of the groups of digits that are exactly right; of a page of numbers only."""
    if not entry["category"].startswith("numbers"):
        return {}
    right, count = numbers_right(entry["gt"], text)
    return {"numbers": right / count}


def _pieces(evaluate: ModuleType, truth: str) -> Iterator[str]:
    """Runs of words of about `PIECE` letters, within a line of the truth; half as long without word spaces."""
    for line in truth.splitlines():
        run = ""
        for word in line.split():
            run += evaluate.norm(word, nospace=True)
            while len(run) >= (least := PIECE // 2 if evaluate.CJKRE.search(run) else PIECE):
                yield run[: 2 * least]
                run = run[2 * least :]
        if len(run) >= PIECE // 2:
            yield run


def _place(evaluate: ModuleType, piece: str, hay: str) -> int:
    """The place of a piece in a reading, with one wrong letter in eight allowed; -1 where it is absent."""
    at = hay.find(piece)
    if at >= 0 or not hay:
        return at
    best = evaluate.fuzz.partial_ratio_alignment(piece, hay)
    if best is None or evaluate.lev(piece, hay[best.dest_start : best.dest_end]) > len(piece) // 8:
        return -1
    return int(best.dest_start)


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def shown(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


Results = dict[str, dict[str, Reading]]


def column(results: dict[str, Reading], entries: Sequence[dict[str, Any]], name: str) -> list[float | None]:
    return [results[entry["id"]].scores.get(name) for entry in entries]


async def read_all(
    entries: Sequence[dict[str, Any]], arguments: argparse.Namespace, evaluate: ModuleType, cache: str
) -> tuple[Results, dict[str, list[list[float]]]]:
    """Every file by every reader; then the first receipt, warm, a few times."""
    results: Results = {name: {} for name in (*READERS, "command line")}
    have = tesseract_languages()
    stock = StockRapidOcr()
    try:
        async with OurTool(arguments.settings) as ours:
            await ours.read(sample_page(cache))  # the model is loaded, as it is in the other process
            stock.read([sample_page(cache)])
            for number, entry in enumerate(entries):
                path = str((arguments.corpus / entry["file"]).resolve())
                pages = evaluate.page_images(path, cache)
                languages = "+".join(right_languages(entry, have)) or "eng"
                turns: list[tuple[str, Callable[[], Reading]]] = [
                    ("RapidOCR", lambda pages=pages: stock.read(pages)),
                    ("Tesseract", lambda pages=pages, languages=languages: tesseract(pages, languages)),
                ]
                if not arguments.no_cli:
                    command = [sys.executable, *PRODUCT, "ocr", path]
                    turns.append(("command line", lambda command=command: run_program(command, **arguments.settings)))
                if number % 2:
                    results["ours"][entry["id"]] = await ours.read(path)
                for name, turn in turns:
                    results[name][entry["id"]] = turn()
                if not number % 2:
                    results["ours"][entry["id"]] = await ours.read(path)
                for reader in results.values():
                    if entry["id"] in reader:
                        text = reader[entry["id"]].text
                        scores = evaluate.score(entry, text) | order_scores(evaluate, entry, text)
                        reader[entry["id"]].scores = scores | heading_scores(entry, text) | number_scores(entry, text)
                say(
                    f"{number + 1}/{len(entries)} {entry['id']}: "
                    + "  ".join(
                        f"{name} {shown(reader[entry['id']].scores.get('cer'))} {reader[entry['id']].seconds:.2f} s"
                        f"{' ERROR ' + reader[entry['id']].error if reader[entry['id']].error else ''}"
                        for name, reader in results.items()
                        if entry["id"] in reader
                    )
                )
            receipt: dict[str, list[list[float]]] = {name: [] for name in ("ours", "RapidOCR")}
            path = next(
                (str((arguments.corpus / e["file"]).resolve()) for e in entries if e["category"] == "receipt"),
                sample_page(cache),
            )
            for _ in range(arguments.rounds):
                for name, reading in (("ours", await ours.read(path)), ("RapidOCR", stock.read([path]))):
                    receipt[name].append([reading.seconds, reading.cpu])
    finally:
        stock.close()
    return results, receipt


def cold_start(arguments: argparse.Namespace, cache: str) -> dict[str, list[list[float]]]:
    """Seconds from spawn to the first text, and to the end; beside them, what the imports alone cost."""
    small = str(Path(cache) / "line.png")
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (640, 96), "white")
    ImageDraw.Draw(image).text((24, 24), "The first page from a cold start.", "black", ImageFont.load_default(36))
    image.save(small)
    runs = {
        "one line": [sys.executable, *PRODUCT, "ocr", small],
        "a receipt": [sys.executable, *PRODUCT, "ocr", sample_page(cache)],
        **{code: [sys.executable, "-P", "-c", code] for code in IMPORTS},
        BARE: [sys.executable, "-P", str(Path(__file__).with_name(BARE)), small],
    }
    found: dict[str, list[list[float]]] = {name: [] for name in runs}
    for number in range(arguments.rounds + 1):
        for name, command in runs.items():
            times = text_and_end(command, **arguments.settings)
            if number:  # the first warms the disk cache
                found[name].append(times)
    return found


def text_and_end(command: Sequence[str], **settings: str) -> list[float]:
    """Seconds from spawn until the program has written something, or has ended without; and until it has ended."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, env=environment(**settings)
        )
        assert child.stdout is not None
        watchdog = threading.Timer(FILE_LIMIT_S, child.kill)
        watchdog.start()
        child.stdout.read(1)
        text = time.perf_counter() - began
        child.stdout.read()
        status = child.wait()
        end = time.perf_counter() - began
        watchdog.cancel()
        child.stdout.close()
        if status:
            err.seek(0)
            sys.exit(f"{shlex.join(command)} failed: {err.read().decode(errors='replace')[-500:]}")
    return [text, end]


# -- what is printed


def categories_table(results: Results, entries: Sequence[dict[str, Any]]) -> tuple[str, list[str]]:
    """CER of each category, and those in which ours is worse than the better of the two."""
    rows, worse = [], []
    for category in dict.fromkeys(entry["category"] for entry in entries):
        inside = [entry for entry in entries if entry["category"] == category]
        ours, *peers = (mean(column(results[name], inside, "cer")) for name in READERS)
        known = [peer for peer in peers if peer is not None]
        difference = None if ours is None or not known else ours - min(known)
        if difference is not None and difference > MAX_WORSE:
            worse.append(category)
        f1 = (mean(column(results[name], inside, "f1")) for name in READERS)
        sign = "–" if difference is None else f"{difference:+.3f}" + (" WORSE" if category in worse else "")
        rows.append((category, str(len(inside)), shown(ours), *map(shown, peers), sign, *map(shown, f1)))
    head = ("CER by category", "files", *READERS, "to the better", "F1 ours", "F1 RapidOCR", "F1 Tesseract")
    return table(head, rows), worse


def summary_table(results: Results, entries: Sequence[dict[str, Any]]) -> str:
    better: dict[str, Reading] = {}
    for entry in entries:
        two = [results[name][entry["id"]] for name in READERS[1:]]
        better[entry["id"]] = min(two, key=lambda r: (r.scores.get("cer") or 0, -(r.scores.get("f1") or 0)))
    columns = {
        "ours, MCP tool": results["ours"],
        **({"ours, command line": results["command line"]} if results["command line"] else {}),
        **{name: results[name] for name in READERS[1:]},
        "better of the two": better,
    }
    rows = [
        (title, *(shown(mean(column(found, entries, name)), digits) for found in columns.values()))
        for title, name, digits in (
            ("mean CER", "cer", 3),
            ("mean CER without spaces, case", "cern", 3),
            ("mean word F1", "f1", 3),
            ("phrases found", "phrases", 2),
            ("reading order: pairs of passages", "order", 3),
            ("reading order: neighbours", "neighbours", 3),
            ("the manifest's checks of order (ORD)", "order_checks", 2),
            ("table cells (TAB)", "table_checks", 2),
            ("numbers exactly right", "numbers", 5),
            ("headings that are none", "false_headings", 3),
            ("headings missed", "missed_headings", 3),
            ("blank pages empty", "blank_ok", 2),
        )
    ]
    for title, value in (
        ("seconds, all files", lambda r: r.seconds),
        ("CPU seconds, all files", lambda r: r.cpu),
    ):
        cells = [f"{sum(value(found[e['id']]) for e in entries):.1f}" for found in columns.values()]
        rows.append((title, *cells[:-1], "–"))
    errors = [str(sum(bool(found[e["id"]].error) for e in entries)) for found in columns.values()]
    rows.append(("files that failed", *errors[:-1], "–"))
    return table(("", *columns), rows)


def costs_table(
    results: Results,
    entries: Sequence[dict[str, Any]],
    receipt: dict[str, list[list[float]]],
    cold: dict[str, list[list[float]]],
) -> tuple[str, dict[str, float]]:
    """Ours beside stock RapidOCR, and the ratios by name."""
    ours, stock = results["ours"], results["RapidOCR"]
    figures: dict[str, float] = {}
    rows: list[tuple[str, ...]] = []

    def add(name: str, a: float, b: float, digits: int) -> None:
        figures[name] = a / b
        rows.append((name, f"{a:.{digits}f}", f"{b:.{digits}f}", f"×{a / b:.2f}"))

    add("all files, s", sum(ours[e["id"]].seconds for e in entries), sum(stock[e["id"]].seconds for e in entries), 1)
    add("all files, CPU s", sum(ours[e["id"]].cpu for e in entries), sum(stock[e["id"]].cpu for e in entries), 1)
    huge = [entry["id"] for entry in entries if entry["category"] == "huge"]
    if huge:
        peaks = [max(found[n].peak_mb for n in huge) for found in (ours, stock)]
        add("peak on huge pages, all processes, MB", peaks[0], peaks[1], 0)
    for n, what in enumerate(("s", "CPU s")):
        a, b = ([run[n] for run in receipt[name]] for name in ("ours", "RapidOCR"))
        name = f"one receipt, model loaded, {what}"
        figures[name] = statistics.median(x / y for x, y in zip(a, b, strict=True))
        rows.append((name, spread(a, 2), spread(b, 2), ratio(a, b)))
    for n, until in enumerate(("text", "the end")):
        for name, beside in ((name, beside) for name, floors in FLOORS.items() for beside in floors):
            seconds, floor = ([run[n] for run in cold[key]] for key in (name, beside))
            title = f"cold start to {until}, {name}, s, beside `{beside}`"
            figures[title] = statistics.median(x / y for x, y in zip(seconds, floor, strict=True))
            rows.append((title, spread(seconds, 2), spread(floor, 2), ratio(seconds, floor)))
    return table(("", "ours", "RapidOCR or floor", "ours / that"), rows), figures


def claims(results: Results, entries: Sequence[dict[str, Any]], worse: Sequence[str], figures: dict[str, float]) -> str:
    """Each requirement, its figure and its verdict."""

    def score(name: str) -> float | None:
        return mean(column(results["ours"], entries, name))

    cer, f1, blank = score("cer"), score("f1"), score("blank_ok")
    order, follow, cells = score("order"), score("neighbours"), score("table_checks")
    asked: list[tuple[str, str, bool | None]] = [
        (f"mean CER ≤ {MAX_CER}", shown(cer), None if cer is None else cer <= MAX_CER),
        (f"mean word F1 ≥ {MIN_F1:.2f}", shown(f1), None if f1 is None else f1 >= MIN_F1),
        (f"no category worse by more than {MAX_WORSE}", ", ".join(worse) or "none", not worse),
        ("every blank page empty", shown(blank, 2), None if blank is None else blank == 1),
        (f"reading order, pairs ≥ {MIN_ORDER}", shown(order), None if order is None else order >= MIN_ORDER),
        (f"reading order, neighbours ≥ {MIN_ORDER}", shown(follow), None if follow is None else follow >= MIN_ORDER),
        (f"table cells ≥ {MIN_TABLE}", shown(cells, 2), None if cells is None else cells >= MIN_TABLE),
    ]
    if (numbers := score("numbers")) is not None:
        below = [
            entry["id"]
            for entry in entries
            if (results["ours"][entry["id"]].scores["numbers"] or 0)
            < (results["RapidOCR"][entry["id"]].scores["numbers"] or 0)
        ]
        asked = [
            (f"numbers exactly right ≥ {MIN_NUMBERS}", shown(numbers, 5), numbers >= MIN_NUMBERS),
            ("numbers below RapidOCR on no page", ", ".join(below) or "none", not below),
        ]
    for part, limit in (
        ("all files, s", MAX_TIME),
        ("peak on huge pages", MAX_MEMORY),
        ("one receipt, model loaded, s", MAX_RECEIPT),
        *((f"cold start to text, one line, s, beside `{floor}`", MAX_COLD) for floor in FLOORS["one line"]),
    ):
        for name, value in figures.items():
            if name.startswith(part):
                asked.append((f"{name} ≤ ×{limit:g}", f"×{value:.2f}", value <= limit))
    return table(
        ("asked", "found", "verdict"),
        [(name, value, "not measured" if holds is None else verdict(holds)) for name, value, holds in asked],
    )


def files_table(results: Results, entries: Sequence[dict[str, Any]]) -> str:
    rows = []
    for entry in entries:
        cells = []
        for name in READERS:
            reading = results[name][entry["id"]]
            cells.append(
                f"{shown(reading.scores.get('cer'))} {shown(reading.scores.get('f1'), 2)} {reading.seconds:.2f}"
            )
        rows.append((f"{entry['category']} {entry['id']}", *cells))
    return table(("CER, F1, s", *READERS), rows)


def pages_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the arguments that say which pages are read."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=formatter)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="folder with manifest.json (default %(default)s)")
    parser.add_argument("--generated", action="store_true", help="read pages that are drawn for it instead")
    parser.add_argument("--numbers", action="store_true", help="read tables of numbers that are drawn for it instead")
    parser.add_argument("--seed", type=int, default=1, help="of the pages that are drawn (default %(default)s)")
    parser.add_argument("--files", type=int, default=0, metavar="N", help="only the first N files")
    return parser


def main() -> None:
    """Measure, print, and save if asked."""
    parser = pages_parser(__doc__)
    parser.add_argument("--categories", default="", metavar="A,B", help="only these")
    parser.add_argument("--rounds", type=int, default=5, help="of the receipt and the cold start (default %(default)s)")
    parser.add_argument("--engine", default="rapidocr", help="OCR_ENGINE of ours (default %(default)s)")
    parser.add_argument("--no-cli", action="store_true", help="leave `deepseek-ocr-mcp ocr` out")
    parser.add_argument("--texts", type=Path, metavar="DIR", help="keep what each reader read in DIR")
    parser.add_argument("--save", action="store_true", help="write results/reading.md, generated.md or numbers.md")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        serve_rapidocr()
        return
    if not (arguments.corpus / "evaluate.py").is_file():
        sys.exit(f"There is no corpus in {arguments.corpus}; name it with --corpus.")
    if shutil.which("tesseract") is None:
        sys.exit("Tesseract is not installed: apt-get install tesseract-ocr")
    arguments.settings = {"OCR_ENGINE": arguments.engine, "OCR_MAX_MEGAPIXELS": "2000"}
    evaluate = load_evaluate(arguments.corpus)
    with tempfile.TemporaryDirectory() as cache:
        if arguments.generated:
            arguments.corpus = Path(cache) / "generated"
            write_pages(arguments.corpus, arguments.seed)
        if arguments.numbers:
            arguments.corpus = Path(cache) / "numbers"
            write_number_pages(arguments.corpus, arguments.seed)
        entries = json.loads((arguments.corpus / "manifest.json").read_text())
        if arguments.categories:
            entries = [entry for entry in entries if entry["category"] in arguments.categories.split(",")]
        entries = entries[: arguments.files or None]
        results, receipt = anyio.run(read_all, entries, arguments, evaluate, cache)
        cold = cold_start(arguments, cache)
    if arguments.texts:
        for name, found in results.items():
            for key, reading in found.items():
                path = arguments.texts / name.replace(" ", "-") / f"{key}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(reading.text, encoding="utf-8")
    by_category, worse = categories_table(results, entries)
    costs, figures = costs_table(results, entries, receipt, cold)
    needed = {lang for entry in entries for lang in entry["tess_lang"].split("+")}
    here = sorted(lang for lang in tesseract_languages() if re.fullmatch("[a-z]{3}(_[a-z]+)?", lang))
    missing = sorted(needed - set(here))
    checks = [(entry["id"], check["type"]) for entry in entries for check in entry.get("checks", [])]
    tables, orders = (sum(kind == wanted for _, kind in checks) for wanted in ("table", "order"))
    files = len({key for key, kind in checks if kind == "table"})
    ordered = sum(value is not None for value in column(results["ours"], entries, "order"))
    text = "\n\n".join(
        [
            claims(results, entries, worse, figures),
            summary_table(results, entries),
            by_category,
            costs,
            files_table(results, entries),
            f"{len(entries)} files; median (min–max) of {arguments.rounds} rounds where a range is given; 1 MB is 10⁶ "
            "bytes. Peaks of ours are the sum of each process's own peak. The command line starts a process and loads "
            f"the model for every file. Tesseract's language data here, for it and for ours: {', '.join(here)}; "
            f"missing: {', '.join(missing) or 'none'}. Table cells: {tables} checks in {files} files. The manifest "
            f"has {orders} checks of order; ours is scored on {ordered} files, on passages of {PIECE} letters.",
        ]
    )
    report(
        "numbers" if arguments.numbers else "generated" if arguments.generated else "reading",
        __doc__ or "",
        text,
        save=arguments.save,
    )


if __name__ == "__main__":
    main()

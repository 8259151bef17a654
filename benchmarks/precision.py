"""Claim: with the recognition model in integers, a page takes 0.62 of the CPU time of float32 and loses nothing.

Two servers over stdio, one with `OCR_PRECISION=float32` and one with `int8`, take turns on each file, each on one
thread, with the model loaded. `--before FOLDER` runs the first server from another checkout, such as the commit before
there were integers. The corpus' own evaluate.py scores both, as in reading.py; `--generated` and `--numbers`
read the pages that reading.py draws instead. CPU seconds count all processes of a server: trust them on a machine that
others use. Run it on a processor with instructions for products of integers. Needs rapidfuzz, and the corpus.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import anyio

from common import report, sample_page, say, table, verdict
from generated_pages import write_pages
from number_pages import write_number_pages
from reading import (
    OurTool,
    Reading,
    column,
    load_evaluate,
    mean,
    number_scores,
    order_scores,
    pages_parser,
    shown,
)

PRECISIONS: Final = ("float32", "int8")
MAX_LOSS: Final = 0.001  # of mean CER and of mean word F1
MAX_NUMBERS: Final = 0.0005  # of the share of numbers that are exactly right
MAX_CATEGORY: Final = 0.005  # of the CER and the word F1 of a category
MAX_CPU, MAX_PEAK = 0.62, 0.85  # of float32's
GROWS: Final = {"cer": 1, "cern": 1}  # the loss is what grows; of the other scores, what shrinks
SCORES: Final = (
    ("mean CER", "cer", 4),
    ("mean word F1", "f1", 4),
    ("phrases found", "phrases", 4),
    ("reading order: pairs of passages", "order", 4),
    ("reading order: neighbours", "neighbours", 4),
    ("table cells", "table_checks", 4),
    ("numbers exactly right", "numbers", 5),
)

Results = dict[str, dict[str, Reading]]


def server_settings(precision: str, before: Path | None) -> dict[str, str]:
    """The settings of a server; the first one may be that of another checkout, `before`."""
    settings = {"OCR_ENGINE": "rapidocr", "OCR_THREADS": "1", "OCR_MAX_MEGAPIXELS": "2000"}
    if before is not None and precision == PRECISIONS[0]:
        return settings | {"PYTHONPATH": str(before.resolve() / "src")}
    return settings | {"OCR_PRECISION": precision}


async def read_all(
    entries: Sequence[dict[str, Any]], folder: Path, evaluate: ModuleType, cache: str, before: Path | None
) -> Results:
    """Every file by both servers, in turns."""
    results: Results = {name: {} for name in PRECISIONS}
    async with AsyncExitStack() as stack:
        servers = {}
        for name in PRECISIONS:
            servers[name] = await stack.enter_async_context(OurTool(server_settings(name, before)))
            await servers[name].read(sample_page(cache))
        for number, entry in enumerate(entries):
            for name in PRECISIONS if number % 2 else reversed(PRECISIONS):
                reading = await servers[name].read(str((folder / entry["file"]).resolve()))
                scores = evaluate.score(entry, reading.text) | order_scores(evaluate, entry, reading.text)
                reading.scores = scores | number_scores(entry, reading.text)
                results[name][entry["id"]] = reading
            both = [results[name][entry["id"]] for name in PRECISIONS]
            cer = " ".join(shown(reading.scores.get("cer"), 4) for reading in both)
            cpu = " ".join(f"{reading.cpu:.2f}" for reading in both)
            errors = "".join(f"  ERROR {reading.error}" for reading in both if reading.error)
            say(f"{number + 1}/{len(entries)} {entry['id']}: CER {cer}  CPU s {cpu}{errors}")
    return results


def loss(results: Results, entries: Sequence[dict[str, Any]], name: str) -> float | None:
    """How much worse int8 is than float32; negative where it is better."""
    exact, whole = (mean(column(results[precision], entries, name)) for precision in PRECISIONS)
    return None if exact is None or whole is None else (whole - exact) * GROWS.get(name, -1)


def categories_table(results: Results, entries: Sequence[dict[str, Any]]) -> tuple[str, list[str]]:
    """The losses of each category, and the categories that lose too much."""
    rows, worse = [], []
    for category in dict.fromkeys(entry["category"] for entry in entries):
        inside = [entry for entry in entries if entry["category"] == category]
        losses = [loss(results, inside, name) for name in ("cer", "f1", "table_checks", "numbers")]
        cpu = [sum(results[name][entry["id"]].cpu for entry in inside) for name in PRECISIONS]
        if any(value is not None and value > MAX_CATEGORY for value in losses):
            worse.append(category)
        signed = ["–" if value is None else f"{value:+.4f}" for value in losses]
        rows.append((category, str(len(inside)), *signed, f"×{cpu[1] / cpu[0]:.2f}"))
    head = ("loss by category", "files", "CER", "word F1", "table cells", "numbers", "CPU s, int8 / float32")
    return table(head, rows), worse


def claims(results: Results, entries: Sequence[dict[str, Any]], worse: Sequence[str]) -> str:
    """Each requirement, its figure and its verdict."""
    rows: list[tuple[str, str, str]] = []
    for title, name, most in (
        ("loss of mean CER", "cer", MAX_LOSS),
        ("loss of mean word F1", "f1", MAX_LOSS),
        ("loss of numbers exactly right", "numbers", MAX_NUMBERS),
        ("loss of table cells", "table_checks", 0.0),
    ):
        if (value := loss(results, entries, name)) is not None:
            rows.append((f"{title} ≤ {most:g}", f"{value:+.5f}", verdict(value <= most)))
    rows.append((f"no category worse by more than {MAX_CATEGORY}", ", ".join(worse) or "none", verdict(not worse)))
    cpu = [sum(results[name][entry["id"]].cpu for entry in entries) for name in PRECISIONS]
    peak = [max(reading.peak_mb for reading in results[name].values()) for name in PRECISIONS]
    for title, (exact, whole), most in (("CPU seconds", cpu, MAX_CPU), ("peak of all processes", peak, MAX_PEAK)):
        rows.append((f"{title} ≤ ×{most:g} of float32's", f"×{whole / exact:.3f}", verdict(whole / exact <= most)))
    return table(("asked", "found", "verdict"), rows)


def summary_table(results: Results, entries: Sequence[dict[str, Any]]) -> str:
    rows = [
        (title, *(shown(mean(column(results[precision], entries, name)), digits) for precision in PRECISIONS))
        for title, name, digits in SCORES
    ]
    readings = [[results[name][entry["id"]] for entry in entries] for name in PRECISIONS]
    rows.append(("CPU seconds, one thread", *(f"{sum(r.cpu for r in found):.1f}" for found in readings)))
    rows.append(("largest peak, all processes, MB", *(f"{max(r.peak_mb for r in found):.0f}" for found in readings)))
    rows.append(("median peak, MB", *(f"{statistics.median(r.peak_mb for r in found):.0f}" for found in readings)))
    rows.append(("files that failed", *(str(sum(bool(r.error) for r in found)) for found in readings)))
    return table(("", *PRECISIONS), rows)


def main() -> None:
    """Measure, print, and save if asked."""
    parser = pages_parser(__doc__)
    parser.add_argument("--without", default="", metavar="A,B", help="leave these categories out")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="a checkout whose server stands for float32")
    parser.add_argument("--save", action="store_true", help="write results/precision.md")
    arguments = parser.parse_args()
    if not (arguments.corpus / "evaluate.py").is_file():
        sys.exit(f"There is no corpus in {arguments.corpus}; name it with --corpus.")
    evaluate = load_evaluate(arguments.corpus)
    with tempfile.TemporaryDirectory() as cache:
        folder: Path = arguments.corpus
        if arguments.generated:
            write_pages(folder := Path(cache) / "generated", arguments.seed)
        if arguments.numbers:
            write_number_pages(folder := Path(cache) / "numbers", arguments.seed)
        entries = json.loads((folder / "manifest.json").read_text())
        entries = [entry for entry in entries if entry["category"] not in arguments.without.split(",")]
        entries = entries[: arguments.files or None]
        results = anyio.run(read_all, entries, folder, evaluate, cache, arguments.before)
    by_category, worse = categories_table(results, entries)
    parts = [claims(results, entries, worse), summary_table(results, entries), by_category, f"{len(entries)} files."]
    report("precision", __doc__ or "", "\n\n".join(parts), save=arguments.save)


if __name__ == "__main__":
    main()

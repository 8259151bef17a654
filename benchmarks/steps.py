"""Claim: each step of the embedded engine that is not detection or recognition itself earns its place.

The engine reads every page with all its steps, then again without each of them (`rapidocr.Steps`), in this process, on
pages that are drawn beforehand. A step earns its place where the engine without it has a worse score or is slower. This
benchmark does not show memory: see `reading.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from common import report, say, table
from deepseek_ocr_mcp.decoder.renderer import PageRenderer
from deepseek_ocr_mcp.engines.base import CPU, PageImage, ReadOptions
from deepseek_ocr_mcp.engines.rapidocr.engine import RapidOcrEngine
from deepseek_ocr_mcp.engines.rapidocr.steps import Steps
from generated_pages import write_pages
from reading import CORPUS, load_evaluate, mean, order_scores, shown

SCORES: Final = (("cer", "CER", -1), ("f1", "F1", 1), ("order", "order", 1), ("neighbours", "neighbours", 1),
                 ("table_checks", "cells", 1), ("blank_ok", "blank", 1))  # fmt: skip
SEEN: Final = 0.0005  # of a mean score; a smaller difference does not count
SLOWER: Final = 1.05  # times the CPU seconds
DPI: Final = 200
NO_LIMIT: Final = 2_000_000_000  # pixels

Entry = dict[str, Any]


class Nobody:
    """A call without progress and without cancellation."""

    def progress(self, done: float, message: str = "") -> None: ...

    def raise_if_cancelled(self) -> None: ...

    def is_dropped(self, page: int) -> bool:
        return False


def drawn(corpus: Path, entries: Sequence[Entry], folder: Path) -> dict[str, list[PageImage]]:
    """Every page of every file, drawn for the engine."""
    pages: dict[str, list[PageImage]] = {}
    for entry in entries:
        renderer, path = PageRenderer(), str(corpus / entry["file"])
        renderer._limited = True  # this process is its own
        count = renderer.inspect(path, entry["id"], NO_LIMIT, 2000, Nobody())["pages"]
        pages[entry["id"]] = []
        for number in range(1, count + 1):
            out = str(folder / f"{entry['id']}-{number}")
            size = renderer.render(path, entry["id"], number, DPI, NO_LIMIT, out, Nobody())
            pages[entry["id"]].append(PageImage(out, size["width"], size["height"]))
        renderer.close()
    return pages


def read(
    steps: Steps, entries: Sequence[Entry], pages: dict[str, list[PageImage]], evaluate: ModuleType
) -> tuple[dict[str, dict[str, float | None]], float]:
    """The scores of each file, and the CPU seconds of all files."""
    engine = RapidOcrEngine(steps)
    engine.load(CPU, Nobody())
    engine.read([pages[entries[0]["id"]][0]], ReadOptions("document"), Nobody())  # memory is there, as in the next
    scores = {}
    cpu = 0.0
    for entry in entries:
        began = time.process_time()
        texts = engine.read(pages[entry["id"]], ReadOptions("document"), Nobody())
        cpu += time.process_time() - began
        text = "\n\n".join(page.text for page in texts)
        scores[entry["id"]] = evaluate.score(entry, text) | order_scores(evaluate, entry, text)
    return scores, cpu


def means(scores: dict[str, dict[str, float | None]]) -> list[float | None]:
    return [mean([one.get(name) for one in scores.values()]) for name, _, _ in SCORES]


def verdict(before: list[float | None], after: list[float | None], slower: float) -> str:
    """The gain of a step, where `after` is the engine without it."""
    worse = [
        title
        for (_, title, sign), a, b in zip(SCORES, before, after, strict=True)
        if a is not None and b is not None and sign * (a - b) > SEEN
    ]
    if slower > SLOWER:
        worse.append("time")
    return ", ".join(worse) or "NOTHING HERE"


def main() -> None:
    """Measure, print, and save if asked."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="folder with manifest.json (default %(default)s)")
    parser.add_argument("--no-generated", action="store_true", help="leave the pages of generated_pages.py out")
    parser.add_argument("--without", default="", metavar="STEP,STEP", help="only these (default each of them)")
    parser.add_argument("--files", type=int, default=0, metavar="N", help="only every Nth file")
    parser.add_argument("--save", action="store_true", help="write results/steps.md")
    arguments = parser.parse_args()
    names = [field.name for field in dataclasses.fields(Steps)]
    chosen = arguments.without.split(",") if arguments.without else names
    if unknown := sorted(set(chosen) - set(names)):
        sys.exit(f"There is no step {', '.join(unknown)}; there are {', '.join(names)}.")
    if not (arguments.corpus / "manifest.json").is_file():
        sys.exit(f"There is no corpus in {arguments.corpus}; name it with --corpus.")
    evaluate = load_evaluate(arguments.corpus)
    with tempfile.TemporaryDirectory() as folder:
        entries: list[Entry] = json.loads((arguments.corpus / "manifest.json").read_text())
        pages = drawn(arguments.corpus, entries, Path(folder))
        if not arguments.no_generated:
            more = write_pages(Path(folder) / "generated")
            pages |= drawn(Path(folder) / "generated", more, Path(folder))
            entries += more
        entries = entries[:: arguments.files or 1]
        whole, seconds = read(Steps(), entries, pages, evaluate)
        before = means(whole)
        rows = [("all steps", *(shown(value) for value in before), f"{seconds:.0f}", "", "")]
        for name in chosen:
            scores, cpu = read(dataclasses.replace(Steps(), **{name: False}), entries, pages, evaluate)
            after = means(scores)
            changed = sum(
                abs((scores[key].get("cer") or 0) - (one.get("cer") or 0)) > SEEN for key, one in whole.items()
            )
            rows.append(
                (
                    f"without {name}",
                    *(shown(value) for value in after),
                    f"{cpu:.0f}",
                    str(changed),
                    verdict(before, after, cpu / seconds),
                )
            )
            say("  ".join(rows[-1]))
    text = "\n\n".join(
        [
            table(("", *(title for _, title, _ in SCORES), "CPU s", "files changed", "earns"), rows),
            f"{len(entries)} files, {sum(len(pages[entry['id']]) for entry in entries)} pages; means over files. "
            f"A score counts as earned from {SEEN:g} on, time from ×{SLOWER:g} on.",
        ]
    )
    report("steps", __doc__ or "", text, save=arguments.save)


if __name__ == "__main__":
    main()

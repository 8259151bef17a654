"""Claim: each step of the embedded engine that is not detection or recognition itself earns its place.

The engine reads every page with all its steps, then again without each of them (`STEPS`), in this process, on pages
that are drawn beforehand. The benchmark leaves a step out by a change to the engine's own modules: the engine has no
switches. A step earns its place where the engine without it has a worse score or is slower. This benchmark does not
show memory: see `reading.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from unittest import mock

import cv2
import numpy as np

from common import report, say, table
from deepseek_ocr_mcp.decoder.renderer import PageRenderer
from deepseek_ocr_mcp.engines import sheet
from deepseek_ocr_mcp.engines.base import CPU, PageImage, ReadOptions
from deepseek_ocr_mcp.engines.rapidocr import detect, engine, orientation, recognise
from deepseek_ocr_mcp.engines.scripts import Unread
from deepseek_ocr_mcp.layout import reading as layout_reading
from deepseek_ocr_mcp.layout.answers import answer
from deepseek_ocr_mcp.layout.lines import whole
from deepseek_ocr_mcp.layout.order import arrange
from generated_pages import write_pages
from reading import CORPUS, load_evaluate, mean, order_scores, shown

SCORES: Final = (("cer", "CER", -1), ("f1", "F1", 1), ("order", "order", 1), ("neighbours", "neighbours", 1),
                 ("table_checks", "cells", 1), ("blank_ok", "blank", 1))  # fmt: skip
SEEN: Final = 0.0005  # of a mean score; a smaller difference does not count
SLOWER: Final = 1.05  # times the CPU seconds
DPI: Final = 200
NO_LIMIT: Final = 2_000_000_000  # pixels

Patch = tuple[ModuleType | type, str, Any]

STEPS: Final[dict[str, tuple[Patch, ...]]] = {
    "normal_weights": ((engine, "without_subnormals", str),),
    "flat_skipped": ((detect, "FLAT_CONTRAST", 0),),
    "enlarged": ((detect, "DET_SHORT_SIDE", 0),),
    "calm_cuts": ((detect, "_calm_band", lambda busy, due, least: None),),
    "second_look": ((detect, "SMALL_TEXT", 0.0), (detect, "SECOND_PIXELS", 0)),
    "words_joined": ((detect, "join_words", lambda regions: regions),),
    "outermost": ((detect, "_outermost", lambda regions: regions),),
    "contour_score": ((detect, "_likelihood", lambda likely, contour: rectangle_score(likely, contour)),),
    "upright": ((engine, "find_upright", lambda run, reader, pixels, regions: orientation.Turn(0, regions, {})),),
    "roomy": ((recognise, "ROOM", 1.0),),
    "cut_to_ink": ((recognise, "_without_room", lambda crop: crop),),
    "trimmed": ((recognise, "inked_columns", lambda line: (0, line.shape[1])),),
    "vertical": ((orientation, "reads_downwards", lambda *_: False),),
    "laid_flat": ((engine, "is_stacked", lambda text: False),),
    "spaces": ((recognise, "with_spaces", lambda chars, steps, dropped: (chars, steps)),),
    "spaces_beside_digits": ((recognise, "_beside_digits", lambda line, chars, places: (chars, frozenset())),),
    "leaders": ((recognise, "find_leaders", lambda line: []),),
    "noise_dropped": ((recognise, "MIN_SCORE", 0.0),),
    "dashes": ((engine, "with_dashes", lambda pixels, regions, readings: (regions, readings)),),
    "other_scripts": ((engine, "find_unread", lambda lines, shares: Unread()),),
    "straightened": ((engine, "skew", lambda regions: 0.0),),
    "gutters": ((sheet, "split_at_gutters", lambda lines, rules: [whole(n, line) for n, line in enumerate(lines)]),),
    "rules": ((layout_reading, "arrange_with_rules", lambda lines, rules: arrange(lines)),),
    "columns": ((layout_reading, "arrange_with_rules", lambda lines, rules: arrange(lines, columns=False)),),
    "tables": ((layout_reading, "arrange_with_rules", lambda lines, rules: arrange(lines, tables=False)),),
}
"""What is done beside detecting lines and recognising them: the names in the engine's modules, and what stands in."""

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
        renderer, file = PageRenderer(), {"path": str(corpus / entry["file"]), "name": entry["id"]}
        renderer._limited = True  # this process is its own
        count = renderer.inspect(file, NO_LIMIT, 2000, Nobody())["pages"]
        pages[entry["id"]] = []
        for number in range(1, count + 1):
            out = str(folder / f"{entry['id']}-{number}")
            size = renderer.render(file, number, DPI, NO_LIMIT, out, Nobody())
            pages[entry["id"]].append(PageImage(out, size["width"], size["height"]))
        renderer.close()
    return pages


def rectangle_score(likely: Any, contour: Any) -> float:
    """The mean inside the rectangle around a contour, as rapidocr takes it."""
    inside = np.zeros(likely.shape, np.uint8)
    cv2.fillPoly(inside, [cv2.boxPoints(cv2.minAreaRect(contour)).astype(np.int32)], 1)
    return float(cv2.mean(likely, inside)[0])


@contextmanager
def without(step: str) -> Iterator[None]:
    """The engine without one of its steps; with all of them where there is no name."""
    with ExitStack() as stack:
        for module, name, stand_in in STEPS.get(step, ()):
            stack.enter_context(mock.patch.object(module, name, stand_in))
        yield


def read(
    step: str, entries: Sequence[Entry], pages: dict[str, list[PageImage]], evaluate: ModuleType
) -> tuple[dict[str, dict[str, float | None]], float]:
    """The scores of each file without a step, and the CPU seconds of all."""
    with without(step):
        return _read(entries, pages, evaluate)


def _read(
    entries: Sequence[Entry], pages: dict[str, list[PageImage]], evaluate: ModuleType
) -> tuple[dict[str, dict[str, float | None]], float]:
    reader = engine.RapidOcrEngine()
    reader.load(CPU, Nobody())
    reader.read([pages[entries[0]["id"]][0]], ReadOptions("document"), Nobody())  # memory is there, as in the next
    scores = {}
    cpu = 0.0
    for entry in entries:
        began = time.process_time()
        readings = reader.read(pages[entry["id"]], ReadOptions("document"), Nobody())
        cpu += time.process_time() - began
        text = "\n\n".join(answer(reading, is_markdown=True)[0] for reading in readings)
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
    chosen = arguments.without.split(",") if arguments.without else list(STEPS)
    if unknown := sorted(set(chosen) - set(STEPS)):
        sys.exit(f"There is no step {', '.join(unknown)}; there are {', '.join(STEPS)}.")
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
        complete, seconds = read("", entries, pages, evaluate)
        before = means(complete)
        rows = [("all steps", *(shown(value) for value in before), f"{seconds:.0f}", "", "")]
        for name in chosen:
            scores, cpu = read(name, entries, pages, evaluate)
            after = means(scores)
            changed = sum(
                abs((scores[key].get("cer") or 0) - (one.get("cer") or 0)) > SEEN for key, one in complete.items()
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

"""Claim: `batch` reads as many pages a second as its engines could alone: at least 0.9 of it, with 1 worker and with 2.

The engine alone is `RapidOcrEngine` in a process of its own for each worker, with one thread each. The benchmark calls
it on decoded pages until all are read; its rate counts from its first page to its last. The peer is the whole command
`deepseek-ocr-mcp batch` with as many workers: a local Ray, planners, actors, decoders, texts and manifest. The command
runs on a few pages and on many pages. The difference is the time to read; start and end stand in a column of their own.

Both take turns. The machine must have a free core for each worker, because the work of Ray and of the driver counts.
`--driver` runs an engine that does nothing, and measures how many documents a second one driver finishes. More workers
than that are of no use.

`--coordination` runs only an engine that sleeps for each page, with 1, 2 and 4 workers. A page costs no processor time
then, so what is missing from the rate that the sleep allows is the coordination's own share, on any number of cores.

`--against SRC` runs the batch of another source tree in turns with this one, with two workers: once with an engine that
sleeps for each page, once with one that takes no time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from common import PAGES, PRODUCT, environment, ratio, report, say, spread, table, verdict
from overhead import decoded
from sleeping_engine import SLEEP_S

LEAST: Final = 0.9
THREADS: Final = 1  # of each engine
SAMPLES: Final = ("receipt.png", "table.png")
TESTS: Final = Path(__file__).resolve().parents[1] / "tests" / "engines"
LIMIT_S: Final = 1200.0
FEW: Final = 6  # pages for each worker, of the short run


class _Nobody:
    def progress(self, done: float, message: str = "") -> None: ...
    def raise_if_cancelled(self) -> None: ...
    def is_dropped(self, page: int) -> bool:
        return False


def make_pages(folder: Path, number: int, rng: random.Random) -> None:
    """Write pages, no two of them equal: copies of the examples, each with a few dots of its own."""
    from PIL import Image

    folder.mkdir(parents=True)
    samples = [Image.open(PAGES / name).convert("RGB") for name in SAMPLES]
    for index in range(number):
        page = samples[index % len(samples)].copy()
        for _ in range(3):
            page.putpixel((rng.randrange(page.width), rng.randrange(page.height)), (250, 250, 250))
        page.save(folder / f"{index:05}.png", compress_level=1)


def serve_alone(folder: Path, share: int, of: int) -> None:
    """Read one of so many equal shares and print pages and seconds, the first page left out.

    A share is a run of pages, so that each holds as many of either sample: rates of unlike pages add up to more than
    the same engines reach together.
    """
    from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
    from deepseek_ocr_mcp.engines.rapidocr.engine import RapidOcrEngine

    engine, options = RapidOcrEngine(), ReadOptions("document")
    engine.load("cpu", _Nobody())
    paths = sorted(folder.glob("*.png"))
    read, began = 0, 0.0
    for path in paths[len(paths) * share // of : len(paths) * (share + 1) // of]:
        for width, height, pixels in decoded(str(path)):
            with tempfile.NamedTemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:
                file.write(pixels)
                file.flush()
                engine.read([PageImage(file.name, width, height)], options, _Nobody())
        read += 1
        began = began or time.perf_counter()
    print(json.dumps([read - 1, time.perf_counter() - began]))


def alone(folder: Path, workers: int) -> float:
    """Pages a second of several engines at once, each on its own share."""
    running = [
        subprocess.Popen(
            [sys.executable, __file__, "--alone", str(folder), str(share), str(workers)],
            stdout=subprocess.PIPE,
            env=environment(OCR_THREADS=str(THREADS), OMP_NUM_THREADS=str(THREADS)),
            text=True,
        )
        for share in range(workers)
    ]
    rate = 0.0
    for process in running:
        pages, seconds = json.loads(process.communicate(timeout=LIMIT_S)[0])
        rate += pages / seconds
    return rate


def batch(folder: Path, workers: int, **settings: str) -> float:
    """Seconds of the whole command."""
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        said = subprocess.run(
            [sys.executable, *PRODUCT, "batch", str(folder), "--out", out, "--workers", str(workers)],
            capture_output=True,
            env=environment(**settings),
            text=True,
            timeout=LIMIT_S,
        )
        if said.returncode:
            sys.exit(f"batch failed:\n{said.stderr[-2000:]}")
        return time.perf_counter() - began


def measure(folder: Path, rounds: int, pages: int) -> str:
    rng = random.Random(7)
    engines: dict[int, list[float]] = {1: [], 2: []}
    ours: dict[int, list[float]] = {1: [], 2: []}
    starts: dict[int, list[float]] = {1: [], 2: []}
    settings = {"OCR_ENGINE": "rapidocr", "OCR_THREADS": str(THREADS)}
    for number in range(rounds):
        for workers in (1, 2):
            few, many = folder / f"{number}-{workers}-few", folder / f"{number}-{workers}-many"
            make_pages(few, FEW * workers, rng)
            make_pages(many, (FEW + pages) * workers, rng)
            say(f"round {number + 1} of {rounds}, workers: {workers}, pages: {pages * workers}")

            def turn_alone(many: Path = many, workers: int = workers) -> None:
                engines[workers].append(alone(many, workers))

            def turn_batch(few: Path = few, many: Path = many, workers: int = workers) -> None:
                short, long = batch(few, workers, **settings), batch(many, workers, **settings)
                rate = pages * workers / (long - short)
                ours[workers].append(rate)
                starts[workers].append(short - FEW * workers / rate)

            for turn in (turn_alone, turn_batch) if number % 2 else (turn_batch, turn_alone):
                turn()
    rows = [
        (f"{n} worker{'s' * (n > 1)}", spread(engines[n], 2), spread(ours[n], 2), ratio(ours[n], engines[n]),
         spread(starts[n], 1))
        for n in (1, 2)
    ]  # fmt: skip
    rows.append(("2 against 1", ratio(engines[2], engines[1]), ratio(ours[2], ours[1]), "", ""))
    head = ("pages/s", "engines alone", "batch", "batch / engines", "start and end, s")
    medians = [statistics.median(a / b for a, b in zip(ours[n], engines[n], strict=True)) for n in (1, 2)]
    said = (
        f"{rounds} rounds of {pages} pages for each worker, {THREADS} thread an engine; median (min–max), ratios of "
        f"what was measured in the same round. At least {LEAST} of the engines alone: "
        f"{verdict(min(medians) >= LEAST)}."
    )
    return f"{table(head, rows)}\n\n{said}"


def measure_driver(folder: Path, documents: int) -> str:
    """Documents a second with an engine that takes no time."""
    from PIL import Image

    seconds = []
    for name, number in (("few", FEW), ("many", FEW + documents)):
        (folder / name).mkdir()
        for index in range(number):
            page = Image.new("RGB", (40 + index % 500, 20 + index // 500), "white")
            page.save(folder / name / f"{index:05}.png")
        seconds.append(batch(folder / name, 2, OCR_ENGINE="faults:Echo", PYTHONPATH=str(TESTS)))
    rate = documents / (seconds[1] - seconds[0])
    return (
        f"With an engine that takes no time for a page, driver, planner, decoders and two workers on this machine "
        f"finish {rate:.0f} documents a second ({documents} of one page)."
    )


def measure_coordination(folder: Path, pages: int) -> str:
    """Pages a second with an engine that sleeps, for 1, 2 and 4 workers."""
    from PIL import Image

    engine = {"OCR_ENGINE": "sleeping_engine:Sleeping", "PYTHONPATH": str(Path(__file__).parent)}
    rows = []
    for workers in (1, 2, 4):
        seconds = []
        for name, number in (("few", FEW * workers), ("many", (FEW + pages) * workers)):
            place = folder / f"{workers}-{name}"
            place.mkdir()
            for index in range(number):
                Image.new("RGB", (40 + index % 500, 20 + index // 500), "white").save(place / f"{index:05}.png")
            say(f"workers: {workers}, pages: {number}")
            seconds.append(batch(place, workers, **engine))
        took = seconds[1] - seconds[0]
        rate, allowed = pages * workers / took, workers / SLEEP_S
        rows.append((f"{workers}", f"{allowed:.2f}", f"{rate:.2f}", f"×{rate / allowed:.2f}"))
    head = ("workers", "pages/s that the sleep allows", "batch", "batch / allowed")
    said = (
        f"{pages} pages for each worker, each a document of its own that takes {SLEEP_S} s of sleep; one run each, the "
        "difference of a long and a short run."
    )
    return f"{table(head, rows)}\n\n{said}"


def measure_against(folder: Path, other: str, rounds: int, pages: int) -> str:
    """Pages a second of this source tree and of another one, in turns."""
    from PIL import Image

    here = Path(__file__).parent
    trees = {"this tree": str(here.parent / "src"), "the other": str(Path(other).resolve())}
    engines = {
        "sleeps": ("sleeping_engine:Sleeping", pages),
        "takes no time": ("faults:Echo", 5 * pages),
    }
    rates: dict[tuple[str, str], list[float]] = {(tree, engine): [] for tree in trees for engine in engines}
    shorts: dict[tuple[str, str], list[float]] = {(tree, engine): [] for tree in trees for engine in engines}
    for engine, (name, number) in engines.items():
        few, many = folder / f"{name}-few", folder / f"{name}-many"
        for place, count in ((few, FEW), (many, FEW + number)):
            place.mkdir()
            for index in range(count):
                Image.new("RGB", (40 + index % 500, 20 + index // 500), "white").save(place / f"{index:05}.png")
        for turn in range(rounds):
            for tree, source in sorted(trees.items(), reverse=bool(turn % 2)):
                say(f"{tree}, an engine that {engine}, round {turn + 1} of {rounds}")
                paths = os.pathsep.join([source, str(here), str(TESTS)])
                short, long = (batch(place, 2, OCR_ENGINE=name, PYTHONPATH=paths) for place in (few, many))
                rates[tree, engine].append(number / (long - short))
                shorts[tree, engine].append(short)
    rows = [
        (f"an engine that {engine}", spread(rates["this tree", engine], 2), spread(rates["the other", engine], 2),
         ratio(rates["this tree", engine], rates["the other", engine]),
         spread(shorts["this tree", engine], 1), spread(shorts["the other", engine], 1))
        for engine in engines
    ]  # fmt: skip
    head = (
        "pages/s of two workers",
        "this tree",
        "the other",
        "ratio",
        f"{FEW} pages, s",
        f"{FEW} pages, the other, s",
    )
    said = (
        f"{rounds} rounds in turns, {pages} pages that sleep, {5 * pages} that take no time, a document each; "
        "median (min–max), the difference of a long and a short run, ratios within a round."
    )
    return f"{table(head, rows)}\n\n{said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pages", type=int, default=60, help="for each worker (default 60)")
    parser.add_argument("--driver", type=int, default=1000, metavar="N", help="documents for the driver's rate; 0: not")
    parser.add_argument("--coordination", type=int, default=0, metavar="N", help="only this: N pages for each worker")
    parser.add_argument("--against", metavar="SRC", help="only this: in turns with the batch of another source tree")
    parser.add_argument("--save", action="store_true", help="keep the result in benchmarks/results/")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        folder, share, of = arguments.alone
        serve_alone(Path(folder), int(share), int(of))
        return
    claim = "\n".join(__doc__.splitlines())
    if arguments.coordination:
        with tempfile.TemporaryDirectory() as folder:
            text = measure_coordination(Path(folder), arguments.coordination)
        report("batch-coordination", claim, text, save=arguments.save)
        return
    if arguments.against:
        with tempfile.TemporaryDirectory() as folder:
            text = measure_against(Path(folder), arguments.against, arguments.rounds, arguments.pages)
        report("batch-against", claim, text, save=arguments.save)
        return
    with tempfile.TemporaryDirectory() as folder:
        text = measure(Path(folder), arguments.rounds, arguments.pages)
        if arguments.driver:
            text += "\n\n" + measure_driver(Path(folder), arguments.driver)
    report("batch", claim, text, save=arguments.save)


if __name__ == "__main__":
    main()

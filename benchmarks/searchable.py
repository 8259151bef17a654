"""Claim: a searchable PDF is found in whatever way its page lies: 0.98 of the words that were read, in their places.

Draws a page of words and numbers, turns or skews it, and stores it as a scanner does: a JPEG in a PDF, 200 dpi. Our
tool `ocr_to_files` and OCRmyPDF (github.com/ocrmypdf/OCRmyPDF) make a searchable PDF of it. OCRmyPDF reads with
Tesseract, turns pages (`--rotate-pages`), and changes no picture (`--output-type pdf --optimize 0`). On skewed pages it
has a second try with `--deskew`, which draws the picture anew, so that places do not compare. Where Tesseract reads
nothing of a page, all figures are 0.

- *own*: words of the program's own reading that `pdftotext` (Poppler) finds in its PDF.
- *Poppler, PDFium, pdf.js*: printed words that each reader of PDF finds. pdf.js needs `--pdfjs`.
- *in place*: printed words whose box in `pdftotext -bbox` overlaps the word's ink by 0.7 (intersection over union).
- *order*: pairs of words that follow each other on a printed line, and in the text that PDFium gives.
- *size*: bytes of the PDF, as a share of those of the scan.
- *CPU s*: of all processes, reading included; our server has its model loaded, as it has after the first page.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import psutil
import pypdfium2
from PIL import Image, ImageDraw, ImageFont

from common import PRODUCT, StdioServer, family, report, say, table, verdict

ANGLES: Final = (0.0, 90.0, 180.0, 270.0, 2.0, 4.0, 6.0, -3.0, 93.0)
DPI: Final = 200
SIZE: Final = (1654, 2339)  # A4
TYPE: Final = 30  # pixels: 11 points
OVERLAP: Final = 0.7
FOUND: Final = 0.98
VOCABULARY: Final = re.findall(
    r"\w+",
    "ledger harbour station paid unpaid crates of oranges to Mr Hale per the quiet morning barge grain typed jury quay "
    "wharf bag on in year rope iron figs payable yearly Captain signed copper glass query",
)
READ_PDFJS: Final = """
const { getDocument } = await import(process.argv[1]);
const fs = await import("fs");
const data = new Uint8Array(fs.readFileSync(process.argv[2]));
const page = await (await getDocument({ data, verbosity: 0 }).promise).getPage(1);
const { items } = await page.getTextContent();
process.stdout.write(items.map((item) => item.str + (item.hasEOL ? "\\n" : "")).join(""));
"""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Scan:
    """A page that was drawn: its lines of words, each with the box around its ink in pixels."""

    image: Image.Image
    lines: list[list[tuple[str, Box]]]

    def words(self) -> list[str]:
        """The printed words."""
        return [word for line in self.lines for word, _ in line]


@dataclass(frozen=True, slots=True)
class Made:
    """What a program made of a scan."""

    path: Path
    own: list[str]
    """The words that it read."""
    cpu_s: float


# -- pages


def drawn(seed: int) -> tuple[Image.Image, list[list[tuple[str, np.ndarray]]]]:
    """A level page, and the places of the dark pixels of each word."""
    chance, font = random.Random(seed), ImageFont.load_default(size=TYPE)
    image = Image.new("L", SIZE, 255)
    draw, lines = ImageDraw.Draw(image), []
    tops = [150 + (TYPE * 3 // 2) * number for number in range(42)]
    for top in (top for number, top in enumerate(tops) if number % 6 < 5):
        x, line = 140.0, []
        end = SIZE[0] - 140 - chance.random() * 400  # of a page with an even right edge Tesseract reads nothing, skewed
        while True:
            word = chance.choice(VOCABULARY) + (str(chance.randrange(1000)) if chance.random() < 0.3 else "")
            wide = draw.textlength(word, font)
            if x + wide > end:
                break
            draw.text((x, top), word, 0, font)
            stamp = Image.new("L", (int(wide) + 8, 2 * TYPE), 0)
            ImageDraw.Draw(stamp).text((0, 0), word, 255, font)
            ys, xs = np.nonzero(np.asarray(stamp) > 100)
            line.append((word, np.stack([xs + x + 0.5, ys + top + 0.5], axis=1)))
            x += wide + draw.textlength(" ", font) * 1.2
        lines.append(line)
    return image, lines


def turned(image: Image.Image, lines: list[list[tuple[str, np.ndarray]]], angle: float) -> Scan:
    """The page as a scanner sees it that lies at an angle, in degrees clockwise."""
    resample = Image.Resampling.NEAREST if angle % 90 == 0 else Image.Resampling.BICUBIC
    scan = image.rotate(-angle, expand=True, fillcolor=255, resample=resample)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn = np.array([[cosine, sine], [-sine, cosine]])

    def box(places: np.ndarray) -> Box:
        seen = (places - np.array(image.size) / 2) @ turn + np.array(scan.size) / 2
        (left, top), (right, bottom) = seen.min(axis=0) - 0.5, seen.max(axis=0) + 0.5
        return float(left), float(top), float(right), float(bottom)

    return Scan(scan, [[(word, box(places)) for word, places in line] for line in lines])


# -- programs


def cpu_seconds(process: psutil.Process) -> float:
    """Of a process and all below it, ended ones included."""
    return sum(sum(each.cpu_times()[:4]) for each in family(process))


def ours(server: StdioServer, scan: Path, folder: Path) -> Made:
    """By our tool `ocr_to_files`."""
    out, read = folder / "ours.pdf", folder / "ours.json"
    before = cpu_seconds(server.process)
    server.call("ocr_to_files", image=str(scan), save_to=str(out), overwrite=True)
    seconds = cpu_seconds(server.process) - before
    server.call("ocr_to_files", image=str(scan), save_to=str(read), overwrite=True)
    pages = json.loads(read.read_text())["pages"]
    own = " ".join(block["text"] for page in pages for block in page["blocks"]).split()
    return Made(out, own, seconds)


def ocrmypdf(program: str, scan: Path, folder: Path, *more: str) -> Made:
    """By OCRmyPDF, on one core: more threads than cores are idle slow its Tesseract down by a factor of ten."""
    out, sidecar = folder / "ocrmypdf.pdf", folder / "ocrmypdf.txt"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    options = ["--quiet", "--output-type", "pdf", "--optimize", "0", "--rotate-pages", *more, "--sidecar", str(sidecar)]
    threads = {"OMP_THREAD_LIMIT": "1"}
    subprocess.run([program, *options, str(scan), str(out)], check=True, env=os.environ | threads)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return Made(out, sidecar.read_text().split(), seconds)


# -- readers


def poppler(path: Path, *options: str) -> str:
    return subprocess.run(["pdftotext", *options, str(path), "-"], capture_output=True, text=True, check=True).stdout


def pdfium(path: Path) -> str:
    with pypdfium2.PdfDocument(path) as pdf:
        return str(pdf[0].get_textpage().get_text_range())


def pdfjs(path: Path, folder: str) -> str:
    library = Path(folder, "node_modules", "pdfjs-dist", "legacy", "build", "pdf.mjs").resolve()
    command = ["node", "--input-type=module", "--eval", READ_PDFJS, str(library), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def word_boxes(path: Path, size: tuple[int, int]) -> Iterator[tuple[str, Box]]:
    """The words that Poppler finds, with their boxes in pixels of the scan, however the PDF turns its page."""
    with pypdfium2.PdfDocument(path) as pdf:
        rotation = pdf[0].get_rotation()
    words = r'<word xMin="(\S+)" yMin="(\S+)" xMax="(\S+)" yMax="(\S+)">(.*?)</word>'
    for *places, word in re.findall(words, poppler(path, "-bbox")):
        left, top, right, bottom = (float(place) * DPI / 72 for place in places)
        for _ in range(rotation // 90):  # back against the clock
            left, top, right, bottom = top, -right, bottom, -left
        x, y = {0: (0, 0), 90: (0, size[1]), 180: size, 270: (size[0], 0)}[rotation]
        yield unescape(word), (left + x, top + y, right + x, bottom + y)


def overlap(a: Box, b: Box) -> float:
    """The intersection of two boxes as a share of their union."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, wide) * max(0.0, high)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def share(wanted: Sequence[object], found: Sequence[object]) -> float:
    """Of `wanted`, the share that is in `found`, each as often."""
    return (Counter(wanted) & Counter(found)).total() / max(1, len(wanted))


def in_place(scan: Scan, path: Path) -> float:
    """The share of printed words that Poppler finds over their ink."""
    places: dict[str, list[Box]] = {}
    for word, box in word_boxes(path, scan.image.size):
        places.setdefault(word, []).append(box)
    words = [each for line in scan.lines for each in line]
    return sum(any(overlap(box, ink) >= OVERLAP for box in places.get(word, ())) for word, ink in words) / len(words)


# -- the comparison


def figures(scan: Scan, original: Path, made: Made, library: str) -> tuple[list[str], float, float]:
    """The cells of a row; the share of the program's own words that are found; the share of words in place."""
    words = scan.words()
    text, order = poppler(made.path), pdfium(made.path).split()
    pairs = [pair for line in scan.lines for pair in pairwise(line)]
    named = [(first[0], second[0]) for first, second in pairs]
    own, placed = share(made.own, text.split()), in_place(scan, made.path)
    scores = [own, share(words, text.split()), share(words, order)]
    scores += [share(words, pdfjs(made.path, library).split())] if library else []
    scores += [placed, share(named, list(pairwise(order)))]
    size = made.path.stat().st_size / original.stat().st_size
    return [*(f"{score:.3f}" for score in scores), f"{size:.3f}", f"{made.cpu_s:.1f}"], own, placed


def run(angles: Sequence[float], program: str, library: str) -> str:
    """The table, and whether the claim holds."""
    image, lines = drawn(1)
    rows, holds = [], True
    with tempfile.TemporaryDirectory() as name, StdioServer(PRODUCT) as server:
        folder, original = Path(name), Path(name) / "scan.pdf"
        server.initialize()
        for number, angle in enumerate(angles):
            say(f"{angle:g} degrees")
            scan = turned(image, lines, angle)
            scan.image.save(original, "PDF", resolution=DPI, quality=85)
            if not number:
                ours(server, original, folder)  # loads the model
            cells, own, placed = figures(scan, original, ours(server, original, folder), library)
            holds = holds and own >= FOUND and placed >= 0.9
            rows.append([f"{angle:g}°, ours", *cells])
            if program:
                made = ocrmypdf(program, original, folder)
                rows.append([f"{angle:g}°, OCRmyPDF", *figures(scan, original, made, library)[0]])
            if program and angle % 90:
                cells, _, _ = figures(scan, original, ocrmypdf(program, original, folder, "--deskew"), library)
                rows.append([f"{angle:g}°, OCRmyPDF --deskew", *cells[:-4], "", *cells[-3:]])
    readers = ["Poppler", "PDFium", *(["pdf.js"] if library else [])]
    head = ["page", "own", *readers, "in place", "order", "size", "CPU s"]
    claim = f"Ours finds {FOUND} of its own reading and has 0.9 of the printed words in place on each page"
    return f"{table(head, rows)}\n\n{claim}: {verdict(holds)}."


def versions(program: str) -> str:
    """The programs of the comparison."""
    known = [subprocess.run(["pdftotext", "-v"], capture_output=True, text=True).stderr.splitlines()[0]]
    if program:
        known.append(
            "OCRmyPDF " + subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip()
        )
        known.append(subprocess.run(["tesseract", "--version"], capture_output=True, text=True).stdout.splitlines()[0])
    return ", ".join(known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--angles", type=float, nargs="*", default=ANGLES, help="degrees clockwise")
    parser.add_argument("--ocrmypdf", default=shutil.which("ocrmypdf") or "", help="the program; empty: ours alone")
    parser.add_argument("--pdfjs", default="", help="folder in which npm has installed pdfjs-dist")
    parser.add_argument("--save", action="store_true", help="write the result to benchmarks/results")
    given = parser.parse_args()
    if shutil.which("pdftotext") is None:
        sys.exit("This benchmark needs pdftotext: install poppler-utils.")
    text = run(given.angles, given.ocrmypdf, given.pdfjs)
    assert __doc__ is not None
    report("searchable", __doc__, f"{text}\n\n{versions(given.ocrmypdf)}", save=given.save)


if __name__ == "__main__":
    main()

"""Claim: a PDF's own text is exact or says that it is not, in 12 ms a page more than a look without drawing it.

    python benchmarks/pdf_text.py                                  pages drawn here, whose visible text is known
    python benchmarks/pdf_text.py --corpus FOLDER [--read 40]      any PDFs, for instance test suites of PDF libraries
    python benchmarks/pdf_text.py --corpus FOLDER --against SRC    in turns with the `src` folder of another checkout

Each page is taken by a child process, so that a file that kills PDFium costs one page. Of each page is told whether its
text stands alone, is to be completed by reading a part of it, or is left to reading. Of a corpus nobody knows the
visible text: a word of ours whose place in the drawn page is of one colour counts as hidden text given, and a word of
`pdftotext` (Debian's poppler-utils) on a place with ink that is not in our text counts as lost; `--list` names them for
the eye. With `--read N`, N pages are also read by the embedded engine, whole, and as the product reads them.

Times are CPU seconds. `--against` measures both builds page by page in turns.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from common import report, say, table, verdict

ADDED_MS: Final = (12.0, 40.0)  # median and 95th percentile, more than without drawing
PAGES_EACH: Final = 3  # of each file, unless told otherwise
PAGE_S: Final = 30.0
DPI: Final = 200
MAX_PIXELS: Final = 40_000_000
UNIFORM: Final = 24  # of 255: less contrast in the place of a word is no ink
TESTS: Final = Path(__file__).resolve().parents[1] / "tests"
SOURCE: Final = Path(__file__).resolve().parents[1] / "src"

Taken = dict[str, Any]


# ---------------------------------------------------------------- the child


def serve(source: str) -> None:
    """Answer each line of stdin, a file and a page, with what the build in `source` takes from it."""
    sys.path.insert(0, source)
    import pypdfium2

    taking = _layer_reader()
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            document = pypdfium2.PdfDocument(asked["file"])
            document.init_forms()
            page = asked["page"]
            width, height = document.get_page_size(page)
            size = (max(4, round(width * DPI / 72)), max(4, round(height * DPI / 72)))
            began = time.process_time()
            taken = taking(document, page, asked["file"], size)
            taken |= {"ms": (time.process_time() - began) * 1000, "size": size, "pages": len(document)}
            document.close()
        except Exception as exc:
            taken = {"why": f"{type(exc).__name__}: {exc}", "usable": False, "text": "", "blocks": [], "broken": True}
        print(json.dumps(taken), flush=True)


def _layer_reader() -> Callable[[Any, int, str, tuple[int, int]], dict[str, Any]]:
    """How the build that is on the path takes the text of a page: `text`, `blocks`, `usable` and `why`."""
    from deepseek_ocr_mcp.engines.base import ReadOptions

    options = ReadOptions("ocr")
    try:
        from deepseek_ocr_mcp.decoder.textlayer.layer import PagePlace, read_layer
    except ImportError:  # a build from before the page was drawn
        from deepseek_ocr_mcp.documents.text_layer import read_layer as old  # type: ignore[import-not-found]

        return lambda document, page, file, size: old(document, page, file, size, options, _nobody)  # type: ignore[no-any-return]
    try:
        from deepseek_ocr_mcp.layout.answers import answer
        from deepseek_ocr_mcp.service.work import reading_of
    except ImportError:  # a build that read anew for each mode
        return lambda document, page, file, size: read_layer(  # type: ignore[return-value]
            PagePlace(document, page, file, size),
            options,
            _nobody,  # type: ignore[arg-type, call-arg]
        )

    def lines_of(reading: Any) -> tuple[str, list[dict[str, Any]]]:
        try:
            return answer(reading, is_markdown=False)
        except TypeError:  # a build that took the mode
            return answer(reading, "ocr")  # type: ignore[call-arg, misc]

    def take(document: Any, page: int, file: str, size: tuple[int, int]) -> dict[str, Any]:
        found = read_layer(PagePlace(document, page, file, size), _nobody)
        reading = found.pop("reading")
        text, blocks = ("", []) if reading is None else lines_of(reading_of(reading))
        return found | {"text": text, "blocks": blocks}

    return take


def _nobody() -> None:
    """Nobody stops waiting."""


class Child:
    """A process that takes pages with one build; a new one where a page killed it."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._process: subprocess.Popen[str] | None = None

    def take(self, file: Path, page: int) -> Taken | None:
        """What it says; None where the file killed it."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__, "--serve", str(self._source)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"file": str(file), "page": page}) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            taken: Taken = json.loads(answer)
            return None if taken.get("broken") else taken
        self.close()
        return None

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


# ---------------------------------------------------------------- what is measured


@dataclass(slots=True)
class Found:
    """A page, as several took it."""

    file: Path
    page: int
    ours: Taken
    before: Taken | None = None
    peer: str = ""
    peer_ms: float = 0.0
    hidden: list[str] | None = None
    """Words of ours that stand on a place of one colour."""
    lost: list[str] | None = None
    """Words of pdftotext on a place with ink that we do not have."""


def words(text: str) -> Counter[str]:
    """The words of a text, whatever their form."""
    return Counter(re.findall(r"\w+", unicodedata.normalize("NFKC", text)))


def f1(one: str, other: str) -> float:
    """How alike the words of two texts are."""
    a, b = words(one), words(other)
    return 1.0 if not (a or b) else 2 * (a & b).total() / (a.total() + b.total())


def pdftotext(file: Path, page: int, *more: str) -> tuple[str, float]:
    """What poppler says, and the CPU milliseconds of its process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["pdftotext", *more, "-f", str(page + 1), "-l", str(page + 1), str(file), "-"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PAGE_S, check=False)
    except subprocess.TimeoutExpired:
        return "", PAGE_S * 1000
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout.decode("utf-8", "replace"), spent * 1000


def by_drawing(found: Found) -> None:
    """Note words that are given without ink, and words with ink that are not given."""
    import numpy as np
    import pypdfium2

    document = pypdfium2.PdfDocument(found.file)
    document.init_forms()
    page = document[found.page]
    if page.get_width() * page.get_height() > MAX_PIXELS:
        return  # a map, or an attack
    pixels = page.render(scale=100 / 72).to_numpy()[..., :3].astype(np.int16)
    across = pixels.shape[1] / found.ours["size"][0]

    def has_ink(left: float, top: float, right: float, bottom: float) -> bool:
        part = pixels[max(0, int(top)) : int(bottom) + 1, max(0, int(left)) : int(right) + 1]
        return part.size > 0 and int((part.max(axis=(0, 1)) - part.min(axis=(0, 1))).max()) >= UNIFORM

    blocks = found.ours["blocks"]
    found.hidden = [block["text"] for block in blocks if not has_ink(*(side * across for side in block["box"]))]
    ours = "".join(sorted(unicodedata.normalize("NFKC", found.ours["text"])))
    letters, found.lost = Counter(ours), []
    boxes, _ = pdftotext(found.file, found.page, "-bbox")
    for x1, y1, x2, y2, word in re.findall(r'<word xMin="(.+?)" yMin="(.+?)" xMax="(.+?)" yMax="(.+?)">(.*?)<', boxes):
        needed = Counter(char for char in unicodedata.normalize("NFKC", html.unescape(word)) if char.isalnum())
        if needed and (needed - letters) and has_ink(*(float(side) * 100 / 72 for side in (x1, y1, x2, y2))):
            found.lost.append(word)
    page.close()
    document.close()


def files_of(folder: Path, each: int) -> Iterator[tuple[Path, int]]:
    """The first pages of each PDF, as far as they exist."""
    import pypdfium2

    for file in sorted(folder.rglob("*.pdf")):
        try:
            document = pypdfium2.PdfDocument(file)
            count = len(document)
            document.close()
        except pypdfium2.PdfiumError:
            continue
        yield from ((file, page) for page in range(min(count, each)))


def measured(pages: Sequence[tuple[Path, int]], against: Path | None) -> list[Found]:
    """Have every page taken by each in turn."""
    ours, theirs = Child(SOURCE), Child(against) if against else None
    out: list[Found] = []
    for number, (file, page) in enumerate(pages):
        if number % 100 == 0:
            say(f"page {number} of {len(pages)}")
        taken = ours.take(file, page)
        if taken is None:
            continue
        found = Found(file, page, taken, theirs.take(file, page) if theirs else None)
        if taken["usable"] or taken.get("partial"):
            found.peer, found.peer_ms = pdftotext(file, page)
            by_drawing(found)
        out.append(found)
    for child in filter(None, (ours, theirs)):
        child.close()
    return out


# ---------------------------------------------------------------- pages with known text


def draw_pages(folder: Path) -> dict[str, tuple[str, str]]:
    """Write PDFs whose text is known. Returns for each what a person sees, and what nobody sees."""
    sys.path.insert(0, str(TESTS))
    from pdf_maker import PROSE, Sheet, pdf

    hidden = "SECRET"
    ways = {
        "plain": Sheet(),
        "white": Sheet().text(72, 300, hidden, more="1 g"),
        "covered": Sheet().text(72, 300, hidden).box(60, 280, 200, 310, "0.2 0.2 0.2"),
        "clipped": Sheet().raw("q 0 700 300 142 re W n").text(72, 300, hidden).raw("Q"),
        "invisible": Sheet().text(72, 300, hidden, more="3 Tr"),
        "transparent": Sheet().raw("q /Clear gs").text(72, 300, hidden).raw("Q"),
        "tiny": Sheet().text(72, 300, hidden, 0.4),
        "outside": Sheet().text(700, 300, hidden),
        "gradient": Sheet().text(72, 300, "Gradient", 20, more="/Pattern cs /Shade scn"),
        "outlined": Sheet().text(72, 300, "Outlined", 20, more="1 Tr"),
        "doubled": Sheet().text(72, 300, "Doubled 74.50", 18, "F2").text(72.4, 300.3, "Doubled 74.50", 18, "F2"),
        "beside": Sheet().text(72, 300, "Beside").raw("0.3 g 500 400 m 500 700 l 60 700 l f"),
    }
    known = {}
    for name, sheet in ways.items():
        whole = Sheet(parts=[*sheet.parts, "0 g 0 Tr", *Sheet().paragraph(72, 100, PROSE).parts])
        (folder / f"{name}.pdf").write_bytes(pdf(whole))
        seen = {"gradient": "Gradient", "outlined": "Outlined", "doubled": "Doubled 74.50", "beside": "Beside"}
        known[name] = (" ".join([*PROSE, seen.get(name, "")]), hidden)
    return known


def check_known(pages: Sequence[Found], known: dict[str, tuple[str, str]]) -> tuple[str, bool]:
    """How drawn pages came out."""
    rows, good = [], True
    for found in pages:
        seen, hidden = known[found.file.stem]
        lost = (words(seen) - words(found.ours["text"])).total()
        given = hidden in found.ours["text"]
        good = good and not lost and not given
        rows.append([found.file.stem, str(lost), "yes" if given else "no"])
    return table(["page", "visible words lost", "hidden text given"], rows), good


# ---------------------------------------------------------------- the result


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def summary(pages: Sequence[Found]) -> tuple[str, bool]:
    """Shares, faults and times of a corpus."""
    whole = [found for found in pages if found.ours["usable"]]
    part = [found for found in pages if found.ours.get("partial")]
    taken = [*whole, *part]
    silent = sum("\ufffd" in found.ours["text"] and not found.ours["remark"] for found in taken)
    alike = [f1(found.ours["text"], found.peer) for found in taken]
    ms = [found.ours["ms"] for found in taken]
    rows = [
        ["pages", str(len(pages))],
        ["from the layer", f"{len(whole)} ({len(whole) / len(pages):.0%})"],
        ["in part, the rest is read", f"{len(part)} ({len(part) / len(pages):.0%})"],
        ["left to reading", str(len(pages) - len(taken))],
        ["with U+FFFD and without a note", str(silent)],
        ["with a word on a place of one colour", str(sum(bool(found.hidden) for found in taken))],
        ["with ink of a word that is missing, and not in part", str(sum(bool(found.lost) for found in whole))],
        ["word F1 with pdftotext: median, p10, p5", ", ".join(f"{percentile(alike, s):.3f}" for s in (0.5, 0.1, 0.05))],
        ["CPU ms a page: median, p95", f"{percentile(ms, 0.5):.1f}, {percentile(ms, 0.95):.1f}"],
        ["pdftotext, its process: median", f"{statistics.median(found.peer_ms for found in taken):.1f}"],
    ]  # fmt: skip
    good = silent == 0
    both = [f for f in taken if f.before is not None and f.before["usable"]]
    if both:
        added = [f.ours["ms"] - f.before["ms"] for f in both if f.before is not None]
        middle, high = percentile(added, 0.5), percentile(added, 0.95)
        rows.append(["more than the other build: median, p95", f"{middle:.1f}, {high:.1f}"])
        good = good and middle <= ADDED_MS[0] and high <= ADDED_MS[1]
    return table(["", "figure"], rows), good


def read_both_ways(pages: Sequence[Found], count: int) -> str:
    """Some pages read whole by the embedded engine, against the product's way: CPU seconds and likeness."""
    from deepseek_ocr_mcp.decoder.renderer import PageRenderer
    from deepseek_ocr_mcp.engines.base import CPU, PageImage, ReadOptions
    from deepseek_ocr_mcp.engines.rapidocr.engine import RapidOcrEngine
    from deepseek_ocr_mcp.layout.answers import answer
    from steps import Nobody

    chosen = pages[:: max(1, len(pages) // count)][:count]
    renderer, engine, nobody = PageRenderer(), RapidOcrEngine(), Nobody()
    renderer._limited = True  # this process is its own
    engine.load(CPU, nobody)
    states = ("from the layer", "read in part", "left to reading")
    spent: dict[str, list[tuple[float, float]]] = {state: [] for state in states}
    alike = []
    with tempfile.TemporaryDirectory() as folder:
        for found in chosen:
            out = f"{folder}/page"
            place = {"file": {"path": str(found.file), "name": "page"}, "page": found.page + 1, "dpi": DPI}
            place |= {"max_pixels": MAX_PIXELS, "out": out, "call": nobody}
            began = time.process_time()
            size = renderer.render(**place)
            [reading] = engine.read([PageImage(out, size["width"], size["height"])], ReadOptions("ocr"), nobody)
            text = answer(reading, is_markdown=False)[0]
            whole = time.process_time() - began
            layer = found.ours["ms"] / 1000
            if found.ours["usable"]:
                alike.append(f1(found.ours["text"], text))
                spent["from the layer"].append((whole, layer))
            elif found.ours.get("partial"):
                began = time.process_time()
                left, top, right, bottom = renderer.render_unread(**place)["box"]
                engine.read([PageImage(out, right - left, bottom - top)], ReadOptions("ocr"), nobody)
                spent["read in part"].append((whole, layer + time.process_time() - began))
            else:
                spent["left to reading"].append((whole, layer + whole))
    rows = [
        ["pages", str(len(chosen))],
        ["CPU s: all read, the product", _ratio([pair for pairs in spent.values() for pair in pairs])],
        *([f"the same of the {len(pairs)} pages {state}", _ratio(pairs)] for state, pairs in spent.items() if pairs),
        ["word F1 of the layer with OCR: median", f"{statistics.median(alike):.3f}" if alike else "-"],
    ]
    return table(["read by the embedded engine", "figure"], rows)


def _ratio(pairs: Sequence[tuple[float, float]]) -> str:
    """CPU seconds of pages in two ways, and how often the second is in the first."""
    one, other = (sum(values) for values in zip(*pairs, strict=True))
    return f"{one:.1f}, {other:.2f} (×{one / max(other, 1e-9):.1f})"


def main() -> None:
    """Measure, and say whether the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="a folder of PDFs; without it, pages are drawn")
    parser.add_argument("--against", type=Path, help="the src folder of another checkout")
    parser.add_argument("--read", type=int, default=0, help="pages to read by the embedded engine, too")
    parser.add_argument("--each", type=int, default=PAGES_EACH, help="pages of each file")
    parser.add_argument("--list", action="store_true", help="name what may be lost or hidden")
    parser.add_argument("--save", action="store_true", help="keep the result in benchmarks/results")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        known = {} if options.corpus else draw_pages(Path(folder))
        pages = measured(list(files_of(options.corpus or Path(folder), options.each)), options.against)
        chunks, good = [], True
        if known:
            text, good = check_known(pages, known)
            chunks.append(text)
        text, fine = summary(pages)
        chunks.append(text)
        if options.read:
            chunks.append(read_both_ways(pages, options.read))
    if options.list:
        for found in pages:
            if found.lost or found.hidden:
                print(f"{found.file.name} {found.page + 1}: lost {found.lost}, hidden {found.hidden}")
    chunks.append(f"The claim {verdict(good and fine)}.")
    report("pdf_text", __doc__.splitlines()[0], "\n\n".join(chunks), save=options.save)


if __name__ == "__main__":
    main()

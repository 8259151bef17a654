"""Claim: the page sends a document once, shows text when its page is read, and never blocks for over 50 ms.

    python benchmarks/page.py [--rounds 3] [--save]

A real Chromium opens the page of a real server with the embedded engine. Of a scan of twelve pages is told: the bytes
of all bodies that the page sends while the scan is added, read, looked through and saved as a searchable PDF, in sizes
of the file; and the seconds from the button to the first text on the page, against the seconds to the whole answer. The
text that goes back for an export is told apart: it grows with the text, not with the file. Of a PDF of 100 pages with
text of its own is told how long the page's main thread works at a stretch while the result comes in and 40 pages are
turned. These stretches are CPU time of that thread, so that another program's work does not count.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, Page, sync_playwright

from common import http_server, report, say, spread, table, verdict

SENT: Final = 1.05  # sizes of the file
BLOCK_MS: Final = 50.0
PAGES: Final = 12
MANY: Final = 100
TURNS: Final = 40
WAIT_MS: Final = 600_000
FLAGS: Final = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
TESTS: Final = Path(__file__).resolve().parents[1] / "tests"
WORDS: Final = (
    "harbour", "tide", "ledger", "station", "lantern", "copper", "window", "ferry", "morning", "basket", "river",
    "signal", "garden", "letter", "winter", "captain", "market", "number", "silver", "bridge", "paper", "anchor",
)  # fmt: skip


def scan() -> bytes:
    """A PDF of pictures of printed pages."""
    order, face, pages = random.Random(1), ImageFont.load_default(size=26), []
    for number in range(PAGES):
        image = Image.effect_noise((1240, 1754), 12).point(lambda value: min(255, value + 120))
        draw = ImageDraw.Draw(image)
        draw.text((120, 100), f"Page {number + 1} of the log", 10, ImageFont.load_default(size=44))
        for line in range(24):
            draw.text((120, 220 + 56 * line), " ".join(order.choices(WORDS, k=9)), 20, face)
        pages.append(image)
    out = io.BytesIO()
    pages[0].save(out, "PDF", save_all=True, append_images=pages[1:], resolution=150, quality=70)
    return out.getvalue()


def printed() -> bytes:
    """A PDF of many pages that hold their text."""
    sys.path.insert(0, str(TESTS))
    from pdf_maker import Sheet, pdf

    order = random.Random(2)
    sheets = []
    for number in range(MANY):
        sheet = Sheet().text(60, 70, f"Chapter {number + 1}", 20)
        for line in range(40):
            sheet = sheet.text(60, 110 + 17 * line, " ".join(order.choices(WORDS, k=11)), 11)
        sheets.append(sheet)
    return bytes(pdf(*sheets))


def opened(browser: Browser, root: str) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en").new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(root)
    page.wait_for_selector("html[data-ready]")
    return page


def sent(page: Page) -> dict[str, int]:
    """The bytes of the bodies that the page sends, by the first part of their path."""
    bodies: dict[str, int] = {}

    def count(request: Any) -> None:
        if body := request.post_data_buffer:
            kind = request.url.split("/")[3].split("?")[0]
            bodies[kind] = bodies.get(kind, 0) + len(body)

    page.on("request", count)
    return bodies


def read_scan(browser: Browser, root: str, data: bytes) -> tuple[dict[str, int], float, float]:
    """The bytes that were sent, and the seconds to the first text and to the whole answer."""
    page = opened(browser, root)
    bodies = sent(page)
    page.set_input_files("#picker", {"name": "log.pdf", "mimeType": "application/pdf", "buffer": data})
    page.wait_for_selector(".sheet-image[src]")
    began = time.perf_counter()
    page.click("#read")
    page.wait_for_selector(".prose")
    first = time.perf_counter() - began
    page.wait_for_selector(".file.done")
    whole = time.perf_counter() - began
    for _ in range(PAGES - 1):
        page.get_by_role("button", name="Next page").click()
        page.wait_for_selector(".sheet-image[src]")
    page.get_by_role("button", name="Download").click()
    with page.expect_download():
        page.get_by_role("menuitem", name="Searchable PDF").first.click()
    page.context.close()
    return bodies, first, whole


def blocks(browser: Browser, root: str, data: bytes, folder: Path) -> list[float]:
    """Milliseconds of CPU time of each stretch of work of the page's main thread, longest first."""
    page = opened(browser, root)
    path = folder / "trace.json"
    browser.start_tracing(page=page, path=path, categories=["toplevel", "disabled-by-default-devtools.timeline"])
    book = folder / "book.pdf"  # a file: what a test would send through the browser's debugger counts as its work
    book.write_bytes(data)
    page.set_input_files("#picker", str(book))
    page.click("#read")
    page.wait_for_selector(".file.done")
    assert "Chapter 1" in page.inner_text(".prose")
    for _ in range(TURNS):
        page.get_by_role("button", name="Next page").click()
    page.wait_for_timeout(1500)  # ms: pictures of the last pages come in
    browser.stop_tracing()
    page.context.close()
    events = json.loads(path.read_text())["traceEvents"]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    tasks = [
        event["tdur"] / 1000
        for event in events
        if "tdur" in event
        and event["name"] == "ThreadControllerImpl::RunTask"
        and names.get((event["pid"], event["tid"])) == "CrRendererMain"
    ]
    return sorted(tasks, reverse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", action="store_true")
    asked = parser.parse_args()
    data, many = scan(), printed()
    found: list[tuple[dict[str, int], float, float]] = []
    stretches: list[list[float]] = []
    path = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("There is no Chromium.")
    with sync_playwright() as play, tempfile.TemporaryDirectory() as folder:
        for _ in range(asked.rounds):
            browser = play.chromium.launch(executable_path=path, args=FLAGS)
            with http_server(OCR_ENGINE="rapidocr") as (_process, address):
                root = address.removesuffix("/mcp")
                found.append(read_scan(browser, root, data))
                stretches.append(blocks(browser, root, many, Path(folder)))
            browser.close()
            say(f"{found[-1]}, longest stretches {[round(ms) for ms in stretches[-1][:5]]} ms")
    of_file = [sum(n for kind, n in bodies.items() if kind != "export") / len(data) for bodies, _, _ in found]
    exported = [bodies.get("export", 0) / 1000 for bodies, _, _ in found]
    longest = [ms[0] for ms in stretches]
    over = [float(sum(ms > BLOCK_MS for ms in each)) for each in stretches]
    rows = [
        ("bytes sent, in sizes of the file", spread(of_file, 3), f"{SENT}", verdict(max(of_file) <= SENT)),
        ("kB sent back for the searchable PDF", spread(exported, 0), "", ""),
        (f"s to the first text, of a scan of {PAGES} pages", spread([f for _, f, _ in found], 1), "", ""),
        ("s to the whole answer", spread([w for _, _, w in found], 1), "", ""),
        (f"longest stretch of the main thread, ms, {MANY} pages", spread(longest, 0), f"{BLOCK_MS:.0f}", ""),
        (f"stretches over {BLOCK_MS:.0f} ms", spread(over, 0), "0", verdict(max(over) == 0)),
    ]
    text = table(("", "median (min–max)", "allowed", ""), rows)
    report("page", (__doc__ or "").partition("\n\n    python")[0] + "\n\n" + _how(), text, save=asked.save)


def _how() -> str:
    return (__doc__ or "").partition("[--save]\n\n")[2].strip()


if __name__ == "__main__":
    main()

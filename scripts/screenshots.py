"""Takes pictures of the page in every state, at three widths, light and dark: to look at it, and for the README.

    .venv-test/bin/python scripts/screenshots.py FOLDER [--only find,gpu] [--width 1440] [--theme dark] [--language ja]
    .venv-test/bin/python scripts/screenshots.py --readme

It names what a picture cuts off: words that do not fit, words in another language, and a page that scrolls sideways.
The states that begin with `app` are the app in a host. Needs Debian's chromium, the packages of the group `dev` and
those of tests/browser (npm); prettier with fonts-inter and fonts-noto-cjk. The server
and the embedded engine are real; what needs a graphics card is shown with a made-up status.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Error, Page, Route, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "engines")]

from browser.rig import AppHost, Shown, bundle_host, limited  # noqa: E402 - it lies with the tests

PAGES = ROOT / "examples" / "pages"
IMAGES = ROOT / "docs" / "images"
BROWSER = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
SIZES = {1440: 900, 820: 1180, 390: 844}
SETTLE_MS = 900  # animations are over, pictures are decoded

CARD = {
    "index": 0, "uuid": "GPU-3f2a", "name": "NVIDIA H100 80GB HBM3", "memory_total_mb": 81_559,
    "memory_used_mb": 21_340, "memory_free_mb": 60_219, "utilization": 37,
}  # fmt: skip
STATUS = {
    "engine": "deepseek", "engine_reason": "OCR_ENGINE is auto: a GPU, torch and the weights are here.",
    "model": "deepseek-ai/DeepSeek-OCR", "modes": [], "state": "gpu", "ready_state": "gpu", "device": "cuda GPU-3f2a",
    "gpus": [CARD], "gpu_note": "", "worker_gpu_mb": 8_050, "worker_host_mb": 9_120, "idle_s": 18.0,
    "offload_in_s": 12.4, "release_in_s": 42.4, "queue": 0, "served": 1_284, "worker_restarts": 0,
    "last_error": "", "prewarmed": False,
}  # fmt: skip


FAULTS = """(language) => {
  const found = [], root = document.scrollingElement;
  if (root.scrollWidth > root.clientWidth + 1) found.push(`scrolls sideways by ${root.scrollWidth - root.clientWidth}`);
  const pen = document.createElement("canvas").getContext("2d");
  for (const element of document.querySelectorAll("body *")) {
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    if (box.width < 2 || box.height < 2 || style.visibility === "hidden") continue;
    if (element.closest("[hidden], .katex")) continue;
    const own = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    const shown = element.tagName === "SELECT" ? element.selectedOptions[0]?.text : element.placeholder;
    pen.font = style.font;
    const room = element.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    if (shown && pen.measureText(shown).width > room + 1) found.push(`cut: ${shown}`);
    const clips = own && ["hidden", "clip"].includes(style.overflowX);
    if (clips && element.scrollWidth > element.clientWidth + 1) found.push(`cut: ${own}`);
    const isText = element.closest(".text, .rendered, .sheet, pre, code, .entry, .bit, textarea");
    const words = isText || language === "en" || /[\\u3040-\\u9fff]/.test(own) ? [] : own.match(/[A-Za-z]{2,}/g);
    if (words?.length > 2) found.push(`English: ${own.slice(0, 90)}`);
  }
  return found;
}"""


@contextmanager
def server(engine: str, **settings: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "deepseek_ocr_mcp", "serve", "--transport", "http", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "engines"), "OCR_ENGINE": engine, **settings},
    )
    assert process.stderr is not None
    try:
        yield process.stderr.readline().split()[-1].removesuffix("/mcp")
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()


def paper() -> bytes:
    """The page that the engine `writers:Scholar` claims to read."""
    width, height = 1240, 1754
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)

    def text(x: float, y: float, words: str, size: int, bold: bool = False) -> None:
        face = ImageFont.truetype(f"DejaVuSerif{'-Bold' if bold else ''}.ttf", size)
        draw.text((x * width, y * height), words, "#222", face)

    text(0.12, 0.063, "Tides of the northern coast", 44, True)
    for n, line in enumerate(
        (
            "The height of the water at the harbour follows, in the first approximation,",
            "the sum of a few harmonic constituents with known periods, as",
            "h(t) = h₀ + Σ Aₖ cos(ωₖt + φₖ).",
        )
    ):
        text(0.12, 0.125 + 0.024 * n, line, 23)
    text(0.12, 0.233, "Heights", 34, True)
    left, right, top, bottom = (0.12 * width, 0.88 * width, 0.28 * height, 0.42 * height)
    for n in range(5):
        y = top + (bottom - top) * n / 4
        draw.line([(left, y), (right, y)], "#777", 2)
    for n, row in enumerate(("Tide  Height in m", "   Spring  Neap", "High  5.82  4.3 ± 0.1", "Low  0.41  1.90")):
        for at, word in enumerate(row.split("  ")):
            text(0.14 + 0.26 * at, 0.288 + 0.035 * n, word.strip(), 24, n < 2)
    text(0.27, 0.437, "Table 1. Mean heights above chart datum.", 21)
    text(0.12, 0.485, "The energy that passes the mouth of the bay in one period is", 23)
    text(0.36, 0.545, "E = ½ ρg ∫ h(t)² dt", 36)
    box = (0.15 * width, 0.62 * height, 0.85 * width, 0.84 * height)
    draw.rectangle(box, outline="#999", width=2)
    for phase, colour in ((0, "#2747c9"), (1.1, "#b4530a")):
        points = []
        for x in range(int(box[0]) + 4, int(box[2]) - 4):
            t = (x - box[0]) / 60 + phase
            points.append((x, (box[1] + box[3]) / 2 - 130 * math.sin(t) * math.cos(t / 6)))
        draw.line(points, colour, 4)
    text(0.15, 0.873, "1.  Readings were taken every ten minutes.", 23)
    text(0.15, 0.908, "2.  Storm days were left out; see the log.", 23)
    out = io.BytesIO()
    image.convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(out, "PNG")
    return out.getvalue()


def ready(page: Page) -> None:
    page.wait_for_selector("html[data-ready]")


def read(page: Page, *names: str, mode: str = "document") -> None:
    if mode != "document":
        page.locator(".mode", has=page.locator(f'input[value="{mode}"]')).click()
    page.set_input_files("#picker", [str(PAGES / name) for name in names])
    page.wait_for_selector(f".thumb img >> nth={len(names) - 1}", state="attached")
    if mode == "find":
        page.fill("#term", "cost")
    page.click("#read")
    page.wait_for_selector(".files:has(.done):not(:has(.file:not(.done)))", timeout=120_000)


def fake_gpu(page: Page, **changes: Any) -> None:
    def status(route: Route) -> None:
        route.fulfill(json={**STATUS, **changes})

    def modes(route: Route) -> None:
        body = route.fetch().json()
        for mode in body["modes"]:
            mode |= {"available": True, "why_not": ""}
        route.fulfill(json=body)

    page.route("**/gpu/status", status)
    page.route("**/modes", modes)


def empty(page: Page) -> None:
    page.wait_for_timeout(700)


def mode_off(page: Page) -> None:
    page.locator(".mode", has=page.locator('input[value="describe"]')).click(force=True)  # it is aria-disabled


def waiting(page: Page) -> None:
    page.set_input_files("#picker", [str(PAGES / name) for name in ("letter.pdf", "receipt.png", "table.png")])
    page.wait_for_selector(".thumb img >> nth=2", state="attached")


def working(page: Page) -> None:
    files = [{"name": "tides.png", "mimeType": "image/png", "buffer": paper()}]
    files += [{"name": f"scan {n}.png", "mimeType": "image/png", "buffer": paper()} for n in (1, 2)]
    page.set_input_files("#picker", files)  # type: ignore[arg-type]
    page.wait_for_selector(".thumb img >> nth=2", state="attached")
    page.click("#read")
    while page.evaluate("Number(document.querySelector('.scan').style.getPropertyValue('--at'))") < 0.35:
        page.wait_for_timeout(50)


def paper_done(page: Page) -> None:
    page.set_input_files("#picker", {"name": "tides.png", "mimeType": "image/png", "buffer": paper()})
    page.click("#read")
    page.wait_for_selector(".file.done", timeout=60_000)
    page.wait_for_selector(".katex")
    page.hover(".entry, .bit")


def parts(page: Page) -> None:
    paper_done(page)
    page.click("#tab-lines")
    page.hover(".entry >> nth=3")


def done(page: Page) -> None:
    read(page, "letter.pdf", "receipt.png", "table.png")
    page.locator(".bit").nth(4).hover()


def table(page: Page) -> None:
    read(page, "table.png")


def find(page: Page) -> None:
    read(page, "letter.pdf", mode="find")
    page.click(".elsewhere .chip >> nth=1")
    page.click(".entry >> nth=1")


def download(page: Page) -> None:
    read(page, "receipt.png", "table.png")
    page.locator(".text-actions .menu-wrap > button").click()


def search(page: Page) -> None:
    read(page, "letter.pdf", "receipt.png")
    page.fill("#search", "room")
    page.wait_for_selector("#search-result:not(:empty)")


def edit(page: Page) -> None:
    read(page, "letter.pdf")
    page.locator(".zoom button:visible").last.click()
    page.locator(".text-actions > button").nth(1).click()
    page.wait_for_selector(".editor")


def error(page: Page) -> None:
    page.set_input_files("#picker", {"name": "notes.pdf", "mimeType": "application/pdf", "buffer": b"no pdf at all"})
    page.click("#read")
    page.wait_for_selector(".error-box")


def notes(page: Page) -> None:
    page.set_input_files("#picker", {"name": "report.pdf", "mimeType": "application/pdf", "buffer": limited()})
    page.click("#read")
    page.wait_for_selector(".note", timeout=60_000)


def notes_failed(page: Page) -> None:
    notes(page)
    for _ in range(2):
        page.locator(".pager button").last.click()
    page.wait_for_selector(".calm")


def gpu(page: Page) -> None:
    fake_gpu(page)
    page.reload()
    ready(page)
    page.wait_for_selector('[data-state="gpu"]')
    page.click("#gpu-button")


def gpus(page: Page) -> None:
    others = {
        "index": 1,
        "uuid": "GPU-77c1",
        "memory_used_mb": 2_300,
        "memory_free_mb": CARD["memory_total_mb"] - 2_300,
    }
    worker = {"pid": 1, "gpu_mb": 8_050, "host_mb": 9_120, "idle_s": None, "offload_in_s": None, "release_in_s": None,
              "queue": 8, "restarts": 0, "last_error": "", "retry_in_s": None}  # fmt: skip
    lost = "The card failed: CUDA error: Xid 79. The driver does not list GPU-77c1 any more."
    fake_gpu(
        page,
        gpus=[CARD, CARD | others],
        workers=[
            worker | {"card": CARD["uuid"], "state": "gpu", "served": 1_204},
            worker
            | {
                "card": "GPU-77c1",
                "state": "unloaded",
                "served": 311,
                "retry_in_s": 38.0,
                "gpu_mb": 0,
                "last_error": lost,
            },
        ],
    )
    page.reload()
    ready(page)
    page.wait_for_selector('[data-state="gpu"]')
    page.click("#gpu-button")


def cpu(page: Page) -> None:
    read(page, "table.png")
    page.click("#gpu-button")
    page.wait_for_selector(".timer")


def token(page: Page) -> None:
    page.route("**/modes", lambda route: route.fulfill(status=401, json={"error": {
        "code": "unauthorized", "message": "This server asks for a bearer token.", "remedy": "Send it."}}))  # fmt: skip
    page.reload()
    page.wait_for_selector("dialog[open]")
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#token-wrong:not([hidden])")


def gone(page: Page) -> None:
    read(page, "receipt.png")
    page.route("**/health", lambda route: route.abort())
    page.route("**/gpu/status", lambda route: route.abort())
    page.wait_for_selector(".banner.bad", timeout=20_000)


def drop(page: Page) -> None:
    page.evaluate("document.body.classList.add('dropping')")


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def app(shown: Shown) -> None:
    shown.call(as_base64(paper()))
    shown.app.locator(".math.display math").wait_for()
    shown.app.locator(".sheet-image").wait_for()
    shown.app.locator(".bit").nth(1).hover()


def app_pages(shown: Shown) -> None:
    shown.call(as_base64((PAGES / "letter.pdf").read_bytes()), max_chars=600)
    shown.app.locator(".sheet-image").wait_for()
    shown.app.locator(".bit").nth(3).hover()


def app_parts(shown: Shown) -> None:
    app_pages(shown)
    shown.app.get_by_role("tab").nth(2).click()
    shown.app.locator(".entry").nth(4).hover()


def app_unread(shown: Shown) -> None:
    app_pages(shown)
    shown.app.locator(".pager button").last.click()


def app_find(shown: Shown) -> None:
    shown.call(as_base64((PAGES / "letter.pdf").read_bytes()), find_term="cost")
    shown.app.locator(".sheet-image").wait_for()
    shown.app.locator(".entry").first.hover()


def app_notes(shown: Shown) -> None:
    shown.call(as_base64(limited()))
    shown.app.locator(".note").first.wait_for()


def app_working(shown: Shown) -> None:
    shown.tell("input", {"image": "/home/me/scans/letter.pdf"})


def app_error(shown: Shown) -> None:
    shown.call(as_base64(b"%PDF-1.7 and then nothing"))


def app_full(shown: Shown) -> None:
    app(shown)
    shown.app.locator('button:has(use[href="#i-expand"])').click()


def app_table(shown: Shown) -> None:
    shown.call(as_base64((PAGES / "table.png").read_bytes()))
    shown.app.locator(".sheet-image").wait_for()


APP_STATES: dict[str, tuple[str, Callable[[Shown], None]]] = {
    "app": ("writers:Scholar", app),
    "app-full": ("writers:Scholar", app_full),
    "app-pages": ("rapidocr", app_pages),
    "app-parts": ("rapidocr", app_parts),
    "app-unread": ("rapidocr", app_unread),
    "app-find": ("rapidocr", app_find),
    "app-table": ("rapidocr", app_table),
    "app-notes": ("rapidocr", app_notes),
    "app-working": ("rapidocr", app_working),
    "app-error": ("rapidocr", app_error),
}
STATES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "empty": ("rapidocr", empty),
    "mode-off": ("rapidocr", mode_off),
    "ready": ("rapidocr", waiting),
    "working": ("writers:Leisurely", working),
    "done": ("rapidocr", done),
    "table": ("rapidocr", table),
    "find": ("rapidocr", find),
    "paper": ("writers:Scholar", paper_done),
    "parts": ("writers:Scholar", parts),
    "download": ("rapidocr", download),
    "search": ("rapidocr", search),
    "edit": ("rapidocr", edit),
    "error": ("rapidocr", error),
    "notes": ("rapidocr", notes),
    "notes-failed": ("rapidocr", notes_failed),
    "gpu": ("rapidocr", gpu),
    "gpus": ("rapidocr", gpus),
    "cpu": ("rapidocr", cpu),
    "token": ("rapidocr", token),
    "gone": ("rapidocr", gone),
    "drop": ("rapidocr", drop),
}
README = {"page": ("done", 1440, "light"), "page-find": ("find", 1440, "dark"), "page-phone": ("table", 390, "light")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--only", default=",".join([*STATES, *APP_STATES]))
    parser.add_argument("--width", default=",".join(map(str, SIZES)))
    parser.add_argument("--theme", default="light,dark")
    parser.add_argument("--language", default="en")
    parser.add_argument("--readme", action="store_true")
    asked = parser.parse_args()
    if asked.readme:
        wanted = [(name, *what) for name, what in README.items()]
        folder = IMAGES
    else:
        folder = asked.folder or ROOT / "build" / "screenshots"
        wanted = [
            (f"{state}-{width}-{theme}", state, int(width), theme)
            for state in asked.only.split(",")
            for width in asked.width.split(",")
            for theme in asked.theme.split(",")
        ]
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=FLAGS)
        script = folder / "host.js"
        if any(state in APP_STATES for _, state, _, _ in wanted):
            bundle_host(ROOT / "tests" / "browser" / "node_modules", script)
        engines = {name: engine for name, (engine, _) in [*STATES.items(), *APP_STATES.items()]}
        for engine in sorted({engines[state] for _, state, _, _ in wanted}):
            with server(engine, GPU_IDLE_TIMEOUT="300") as root:
                host = AppHost(f"{root}/mcp", script)
                for name, state, width, theme in wanted:
                    path = folder / f"{name}.png"
                    if engines[state] != engine:
                        continue
                    if state in APP_STATES:
                        shoot_app(browser, host, path, state, width, theme, asked.language)
                    else:
                        shoot(browser, root, path, state, width, theme, asked.language, asked.readme)
                host.close()
        script.unlink(missing_ok=True)
        browser.close()


def shoot_app(browser: Any, host: AppHost, path: Path, state: str, width: int, theme: str, language: str) -> None:
    page = browser.new_context(viewport={"width": width, "height": SIZES[width]}).new_page()
    page.on("pageerror", lambda problem: print(f"{path.stem}: {problem}", file=sys.stderr))
    page.on("console", lambda said: said.type == "error" and print(f"{path.stem}: {said.text}", file=sys.stderr))
    page.goto(host.root)
    page.wait_for_selector("html[data-ready]")
    page.evaluate(f"document.body.className = '{theme}'")
    try:
        context = {"theme": theme, "locale": language, "availableDisplayModes": ["inline", "fullscreen"]}
        APP_STATES[state][1](Shown(page, host, context=context))
        page.wait_for_timeout(SETTLE_MS)
        page.screenshot(path=path)
        print(path, flush=True)
    except Error as problem:
        print(f"{path.stem}: {problem}", file=sys.stderr)
    finally:
        page.context.close()


def shoot(browser: Any, root: str, path: Path, state: str, width: int, theme: str, language: str, small: bool) -> None:
    context = browser.new_context(viewport={"width": width, "height": SIZES[width]}, locale=language)
    page = context.new_page()
    page.on("pageerror", lambda problem: print(f"{path.stem}: {problem}", file=sys.stderr))
    page.on("console", lambda said: said.type == "error" and print(f"{path.stem}: {said.text}", file=sys.stderr))
    page.add_init_script(f"localStorage.setItem('ocr.theme', {json.dumps(theme)})")
    page.goto(root)
    try:
        if state != "token":
            ready(page)
        STATES[state][1](page)
        page.wait_for_timeout(SETTLE_MS)
        for fault in page.evaluate(FAULTS, language):
            print(f"{path.stem}: {fault}", file=sys.stderr)
        data = page.screenshot()
        if small:
            out = io.BytesIO()
            Image.open(io.BytesIO(data)).convert("RGB").quantize(192, dither=Image.Dither.NONE).save(
                out, "PNG", optimize=True
            )
            data = out.getvalue()
        path.write_bytes(data)
        print(path, flush=True)
    except Error as problem:
        print(f"{path.stem}: {problem}", file=sys.stderr)
    finally:
        context.close()


if __name__ == "__main__":
    main()

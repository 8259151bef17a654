"""The page in a real Chromium, against the real server: what a person does with it."""

from __future__ import annotations

import ast
import io
import json
import re
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
from fake_vllm import fake_vllm
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Locator, Page, Route, expect

from browser.rig import TOLD_ANYWAY, WAIT_MS, Visitor, drawn_at, grave_faults, limited, point_at
from deepseek_ocr_mcp import __version__
from deepseek_ocr_mcp.edges.http import uploads  # which has errors of its own
from deepseek_ocr_mcp.errors import OcrError
from deepseek_ocr_mcp.gpu import probe
from deepseek_ocr_mcp.models import NoteCode
from support import BOUND_S, HttpServer, as_base64, http_server, png, wait_until, written

pytestmark = pytest.mark.browser

Serve = Callable[..., HttpServer]
WEB = Path(__file__).parents[2] / "src" / "deepseek_ocr_mcp" / "edges" / "web"
TOKEN = "a long random string"

expect.set_options(timeout=WAIT_MS)


def add(page: Page, *files: tuple[str, bytes]) -> None:
    page.set_input_files("#picker", [{"name": name, "mimeType": "", "buffer": data} for name, data in files])


def read(page: Page, *files: tuple[str, bytes]) -> None:
    add(page, *files)
    page.click("#read")
    expect(page.locator(".file.done")).to_have_count(len(files))


def pdf(*texts: str) -> bytes:
    pages = [Image.open(io.BytesIO(written(text))).convert("RGB").resize((400, 160)) for text in texts]
    out = io.BytesIO()
    pages[0].save(out, "PDF", save_all=True, append_images=pages[1:], resolution=72)
    return out.getvalue()


def choose(page: Page, mode: str) -> None:
    # The keyboard's way: the radio button itself is out of sight.
    page.locator(f'.mode:has(input[value="{mode}"])').click()


def shown(page: Page) -> Locator:
    return page.locator(".prose")


@pytest.fixture
def rapid(serve: Serve) -> HttpServer:
    return serve("rapidocr")


@pytest.fixture
def patient(serve: Serve) -> HttpServer:
    """Reads one page for ever, and has no room for a second."""
    return serve("Patient", OCR_BUSY_WAIT="0.2", OCR_MAX_QUEUE="1")


@pytest.fixture
def scholar(serve: Serve) -> HttpServer:
    return serve("writers:Scholar", OCR_MAX_FILE_MB="1")


# -- reading


def test_an_upload_becomes_text_that_is_copied_and_saved(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid, permissions=["clipboard-read", "clipboard-write"])
    read(page, ("note.png", written("Hello from the harbour\nSee you at nine")))
    expect(shown(page)).to_contain_text("Hello from the harbour")
    expect(page.locator("#live")).to_contain_text("note.png is read")
    page.get_by_role("button", name="Copy").click()
    expect(page.locator(".toast")).to_contain_text("Copied")
    assert "See you at nine" in page.evaluate("navigator.clipboard.readText()")

    def saved(name: str) -> bytes:
        page.get_by_role("button", name="Download").click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=name).first.click()
        assert download.value.suggested_filename.startswith("note")
        return Path(download.value.path()).read_bytes()

    assert "Hello from the harbour" in saved("Markdown").decode()
    assert "See you at nine" in saved("Plain text").decode()
    assert json.loads(saved("JSON"))["engine"] == "rapidocr"
    document = zipfile.ZipFile(io.BytesIO(saved("Word"))).read("word/document.xml").decode()
    assert "Hello from the harbour" in re.sub("<[^>]+>", "", document)
    assert saved("Searchable PDF").startswith(b"%PDF-")


def test_a_pdf_is_read_page_by_page_and_only_the_pages_asked_for(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid)
    add(page, ("two.pdf", pdf("Alpha page", "Omega page")))
    expect(page.locator(".file-meta")).to_contain_text("2 pages")
    page.click("#read")
    expect(shown(page)).to_contain_text("Alpha page")
    page.get_by_role("button", name="Next page").click()
    expect(shown(page)).to_contain_text("Omega page")
    expect(page.locator(".page-number")).to_have_text("Page 2 of 2")
    page.get_by_label("Pages", exact=True).fill("2")
    page.get_by_role("button", name="Previous page").click()
    page.get_by_role("button", name="Read again").click()
    expect(page.locator(".text-facts")).to_contain_text("1 page ·")
    expect(page.locator(".page-number")).to_have_text("Page 2 of 2")
    page.get_by_role("button", name="Previous page").click()
    expect(page.locator(".view")).to_contain_text("Page 1 was not read")


def test_find_marks_the_words_at_their_pixels_at_every_zoom(visitor: Visitor, rapid: HttpServer) -> None:
    image = Image.new("RGB", (900, 600), "white")
    draw = ImageDraw.Draw(image)
    face = ImageFont.load_default(size=40)
    draw.text((60, 80), "Nothing of interest here", "black", face)
    draw.text((520, 430), "treasure", "black", face)
    drawn = draw.textbbox((520, 430), "treasure", face)
    out = io.BytesIO()
    image.save(out, "PNG")

    page = visitor.open(rapid)
    choose(page, "find")
    page.get_by_label("Words to find").fill("treasure")
    read(page, ("map.png", out.getvalue()))
    expect(page.get_by_role("tab", name="Hits · 1")).to_be_visible()
    expect(page.locator(".entry mark")).to_have_text("treasure")

    def compare() -> None:
        box, sheet = drawn_at(page.locator(".box"), page.locator(".sheet-image"))
        scale = sheet["width"] / 900
        assert abs(sheet["height"] / 600 - scale) < 0.01
        on_screen = (
            (box["x"] - sheet["x"]) / scale,
            (box["y"] - sheet["y"]) / scale,
            (box["x"] + box["width"] - sheet["x"]) / scale,
            (box["y"] + box["height"] - sheet["y"]) / scale,
        )
        # The engine's box has a margin of some pixels around the ink.
        assert all(abs(there - here) < 14 for there, here in zip(on_screen, drawn, strict=True)), (on_screen, drawn)

    compare()
    for _ in range(3):
        page.get_by_role("button", name="Zoom in").click()
    compare()
    page.get_by_role("button", name="Fit the page").last.click()
    page.locator(".entry").click()
    compare()


def test_a_term_that_is_nowhere_is_said_so_and_an_empty_one_is_asked_for(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid)
    choose(page, "find")
    add(page, ("note.png", written("nothing here")))
    page.click("#read")
    expect(page.locator("#live")).to_contain_text("is empty")
    expect(page.locator("#term")).to_be_focused()
    page.keyboard.type("unicorn")
    page.keyboard.press("Enter")
    expect(page.locator(".view")).to_contain_text("“unicorn” is on no page")


def test_a_note_of_the_server_is_in_the_readers_language(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid, locale="ja")
    choose(page, "find")
    add(page, ("note.png", written("nothing here")))
    page.locator("#term").fill("unicorn")
    page.keyboard.press("Enter")
    note = page.locator(".note")
    expect(note).to_have_text("1 ページ: 「unicorn」は見つかりませんでした。")


def test_a_page_that_failed_shows_its_note_and_can_be_left(visitor: Visitor, rapid: HttpServer) -> None:
    visitor.expected.append(TOLD_ANYWAY)  # the picture of the damaged page is refused
    page = visitor.open(rapid)
    read(page, ("report.pdf", limited()))
    notes = page.locator(".note")
    expect(notes).to_have_count(3)
    expect(notes.nth(0)).to_contain_text("1 attached file, which was not read: readings.xlsx")
    expect(notes.nth(1)).to_contain_text("Page 2: blank")
    for _ in range(2):
        page.get_by_role("button", name="Next page").click()
    expect(page.locator(".view")).to_contain_text("This page could not be read. The note says why.")
    expect(notes.nth(1)).to_contain_text("Page 3: report.pdf is damaged")
    expect(page.locator(".zoom")).to_be_hidden()
    page.get_by_role("button", name="Next page").click()
    expect(shown(page)).to_contain_text("Fourth")


def test_what_the_engine_cannot_do_is_shown_with_the_reason(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid)
    expect(page.locator(".mode")).to_have_count(7)
    expect(page.locator(".mode.off")).to_have_count(3)
    page.locator('.mode:has(input[value="describe"])').click(force=True)
    expect(page.locator("#mode-purpose")).to_contain_text("no language model")
    expect(page.locator('input[value="document"]')).to_be_checked()


def test_box_and_text_light_up_together(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    read(page, ("paper.png", png(400, 560)))
    expect(page.locator(".katex").first).to_be_visible()
    page.locator('.bit[data-block="2"]').hover()
    expect(page.locator(".box.lit")).to_have_attribute("data-block", "2")
    expect(page.locator(".box-tag")).to_have_text("Heading")
    page.locator('.box[data-block="8"]').hover()
    expect(page.locator(".bit.lit").first).to_contain_text("Readings")
    for block in (1, 3, 6, 7, 9):  # text around a formula, a table, a formula, a figure, a list
        assert page.locator(f'.prose [data-block="{block}"]').count() > 0
    page.get_by_role("tab", name="Parts · 10").click()
    page.locator(".entry").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".entry").nth(1)).to_be_focused()
    expect(page.locator(".box.lit")).to_have_attribute("data-block", "1")


def test_tables_formulas_and_figures_are_shown_as_such(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    read(page, ("paper.png", png(400, 560)))
    expect(page.locator(".prose table td[rowspan='2']")).to_have_text("Tide")
    expect(page.locator(".prose .math.display .katex")).to_have_count(1)
    expect(page.locator(".prose figure canvas")).to_have_count(1)
    expect(page.locator(".prose ol li")).to_have_count(2)
    link = page.locator(".prose a")
    expect(link).to_have_attribute("rel", re.compile("noopener.*noreferrer"))
    page.get_by_role("tab", name="Markdown").click()
    expect(page.locator(".source")).to_contain_text("# Tides of the northern coast")
    page.get_by_role("tab", name="Parts").click()
    parts = page.locator(".entry-text")
    expect(parts.nth(3)).to_contain_text("Tide | Height in m")
    expect(parts.nth(3)).to_contain_text("Low | 0.41 | 1.90")
    expect(parts.nth(3).locator(".katex")).to_have_count(1)
    expect(parts.nth(1).locator("strong")).to_have_text("harmonic constituents")
    expect(parts.nth(6).locator(".katex")).to_have_count(1)
    assert page.locator(".lines table, .lines a").count() == 0, "a button holds phrases only"


# -- files


def test_files_come_by_drop_and_paste_and_are_ordered_and_removed_with_the_keyboard(
    visitor: Visitor, scholar: HttpServer
) -> None:
    page = visitor.open(scholar)
    page.evaluate(
        """(base64) => {
            const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
            const carry = (...names) => {
                const data = new DataTransfer();
                for (const name of names) data.items.add(new File([bytes], name, { type: "image/png" }));
                return data;
            };
            const how = { bubbles: true, cancelable: true };
            for (const type of ["dragenter", "dragover", "drop"])
                document.body.dispatchEvent(new DragEvent(type, { ...how, dataTransfer: carry("a.png", "b.png") }));
            document.body.dispatchEvent(new ClipboardEvent("paste", { ...how, clipboardData: carry("image.png") }));
        }""",
        as_base64(png()),
    )
    names = page.locator(".file-name")
    expect(names).to_have_count(3)
    expect(names.nth(2)).to_contain_text("Pasted")
    expect(page.locator(".thumb img")).to_have_count(3)
    page.locator(".file-open").nth(1).focus()
    page.keyboard.press("Alt+ArrowUp")
    expect(names.first).to_have_text("b.png")
    expect(page.locator("#live")).to_contain_text("b.png is now 1 of 3")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Delete")
    expect(names).to_have_count(2)
    expect(page.locator("#live")).to_contain_text("a.png removed")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".file.done")).to_have_count(2)
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("heading", name="Drop a page")).to_be_visible()


def test_our_own_sample_can_be_tried(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    page.get_by_role("button", name="Try ours").click()
    expect(page.locator(".file-name")).to_have_text("stations.png")


def test_a_file_that_is_no_page_is_refused_with_the_remedy_and_can_be_tried_again(
    visitor: Visitor, scholar: HttpServer
) -> None:
    visitor.expected.append(TOLD_ANYWAY)
    page = visitor.open(scholar)
    add(page, ("broken.pdf", b"%PDF-1.7 and then nothing"))
    page.click("#read")
    box = page.locator(".error-box")
    expect(box).to_contain_text("broken.pdf")
    assert page.locator(".error-box p").inner_text().strip()
    box.get_by_role("button", name="Try again").click()
    expect(page.locator(".error-box")).to_be_visible()
    page.get_by_label("Language").select_option("zh-TW")
    expect(box).to_contain_text("已損壞，或是無法讀取的類型")
    expect(box.locator("details p")).to_have_attribute("lang", "en")


def test_a_file_over_the_limit_is_not_sent(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    add(page, ("large.png", bytes(1024 * 1024 + 1)))
    expect(page.locator(".error-box")).to_contain_text("larger than the 1 MiB")
    expect(page.locator("#read")).to_be_disabled()


def test_an_empty_file_is_said_to_be_empty_and_is_not_sent(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    add(page, ("empty.png", b""))
    expect(page.locator(".error-box")).to_contain_text("This file is empty.")
    expect(page.locator("#read")).to_be_disabled()


# -- languages and themes


def test_the_language_is_chosen_shown_and_remembered(visitor: Visitor, scholar: HttpServer) -> None:
    context = visitor.context(scholar)
    page = visitor.visit(context, scholar)
    english = page.locator("body").inner_text()
    for code, title in (("zh-CN", "放入页面"), ("zh-TW", "放入頁面"), ("ja", "文字になります")):
        page.get_by_role("combobox").first.select_option(code)
        expect(page.get_by_role("heading", level=1)).to_contain_text(title)
        assert page.locator("html").get_attribute("lang") == code
        left = {line for line in page.locator("body").inner_text().splitlines() if re.search("[a-z]{4}", line)}
        names = {"DeepSeek OCR", "English", "Scholar", f"deepseek-ocr-mcp {__version__}"}
        assert left & set(english.splitlines()) <= names
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text("文字になります")
    expect(visitor.open(scholar, locale="zh-HK").get_by_role("heading", level=1)).to_contain_text("放入頁面")
    expect(visitor.open(scholar, locale="de").get_by_role("heading", level=1)).to_contain_text("Drop a page")


def test_every_language_says_everything_and_nothing_else(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    words: dict[str, dict[str, Any]] = page.evaluate(
        """async () => {
            const { LANGUAGES } = await import("/static/lang/index.js");
            const found = {};
            for (const code of Object.keys(LANGUAGES)) found[code] = (await import(`/static/lang/${code}.js`)).default;
            return found;
        }"""
    )
    english = words["en"]

    def values(text: Any) -> set[str]:
        return set(re.findall(r"\{(\w+)\}", text if isinstance(text, str) else text["other"]))

    for code, texts in words.items():
        assert texts.keys() == english.keys(), code
        for key, text in texts.items():
            assert values(text) == values(english[key]), f"{code} {key}"
            assert all(text.values()) if isinstance(text, dict) else text
    scripts = [*(WEB / "js").glob("*.js"), *(WEB / "view").glob("*.js")]
    source = "\n".join(path.read_text() for path in [WEB / "index.html", WEB / "view" / "view.html", *scripts])
    used = set(re.findall(r'(?:\bt\(|data-t(?:-label)?=)"([\w.]+)"', source))
    assert used <= english.keys()
    assert {f"note.{code}" for code in get_args(NoteCode)} <= english.keys()
    assert {
        f"{kind}.{code}" for code in {cls.code for cls in errors()} for kind in ("error", "remedy")
    } <= english.keys()
    made = re.compile(
        r"(mode|resolution|theme|state|endpoint|label|finish|note|error|remedy|gpu\.(moved|already)|field)\."
    )
    literal = set(re.findall(r'"([\w.]+)"', source))
    assert {key for key in english if key not in literal and not made.match(key)} == set()


def errors() -> list[type[OcrError]]:
    """The class of every error."""
    assert issubclass(uploads.WrongOffset, OcrError)
    found, todo = [], [OcrError]
    while todo:
        found.append(todo.pop())
        todo += found[-1].__subclasses__()
    return found


SOURCE = WEB.parents[1]
SENTENCES_OF = (
    "decoder/formats.py", "decoder/pdf.py", "decoder/exports/sheet.py", "documents/ranges.py", "documents/reader.py",
    "layout/find.py", "service/service.py", "service/search.py",
)  # fmt: skip
"""Where the errors are made that a reader of the page can bring about."""
UNMET = (
    "A page cannot be written to the scratch folder", "A cell of a table", "A table on page", "There is no ",
    "The document decoder cannot be started", "The document is not kept any more", "The folder for pages cannot",
    "A 7 needs the document itself", "Mode 7 looks at pages", "Mode 7 needs 7",
)  # fmt: skip
"""How sentences begin that the page prevents, or whose cause is the machine: they stay beside a sentence for their
code."""
FILLED = (
    "7 is damaged, or of a kind that is not read.",
    "7 is cut off: its end is missing.",
    "7 is locked with a password.",
    "7 does not open with this password.",
    "7 is empty.",
    "7 has 7 MiB or more; the limit is 7 MiB.",
)
"""Sentences of which a part is chosen while they are made."""


def sentences() -> Iterator[str]:
    """The sentences of all errors that are raised there, with a figure in the place of each value."""
    yield from FILLED
    yield probe._HUNG
    yield from (text for text in probe._REASONS.values() if not text.startswith("It"))  # of a card that is listed
    for name in SENTENCES_OF:
        for node in ast.walk(ast.parse((SOURCE / name).read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            if node.func.id not in {cls.__name__ for cls in errors()} | {"BadTerm", "SlowPattern"}:
                continue
            match node.args[0]:
                case ast.Constant(value=str(text)):
                    yield text
                case ast.JoinedStr(values=parts):
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in parts)


def test_every_sentence_that_a_reader_can_meet_is_said_in_their_language(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar, locale="ja")
    met = [text for text in sentences() if not text.startswith(UNMET) and not re.fullmatch(r"7 (is )?7\.?", text)]
    assert len(met) > 30
    unknown = """async (all) => {
        const { inWords } = await import("/static/js/server.js");
        return all.filter((text) => !/[\u3040-\u30ff\u4e00-\u9fff]/.test(inWords(text)));
    }"""
    assert page.evaluate(unknown, met) == []


def test_the_theme_is_chosen_and_remembered_and_follows_the_system(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar, color_scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.get_by_role("button", name="Theme: system").click()
    light = page.evaluate(colour)
    assert light != dark
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate(colour) == light
    page.get_by_role("button", name="Theme: light").click()
    assert page.evaluate(colour) == dark
    page.get_by_role("button", name="Theme: dark").click()
    page.emulate_media(color_scheme="light")
    assert page.evaluate(colour) == light


# -- the engine's memory


def test_the_panel_tells_the_state_and_releases_and_the_next_read_works(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid)
    read(page, ("note.png", written("before the release")))
    page.locator("#gpu-button").click()
    panel = page.get_by_role("region", name="Engine and memory")
    expect(panel).to_contain_text("RapidOCR")
    expect(panel.locator(".here")).to_contain_text("Loaded")
    left = panel.locator(".timer b")
    first = left.inner_text()
    expect(left).not_to_have_text(first)  # it ticks
    panel.get_by_role("button", name="Release all").click()
    expect(panel).to_contain_text("All memory given back")
    expect(panel.locator(".here")).to_contain_text("Not loaded")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    page.get_by_role("button", name="Read again").click()
    expect(page.locator(".text-facts")).to_contain_text("loaded in")
    expect(shown(page)).to_contain_text("before the release")


def test_the_panel_shows_each_of_several_workers(visitor: Visitor, serve: Serve) -> None:
    page = visitor.open(serve("writers:Scholar", OCR_CPU_WORKERS="2"))
    read(page, ("page.png", png()))
    page.locator("#gpu-button").click()
    workers = page.get_by_role("list", name="Workers").get_by_role("listitem")
    expect(workers).to_have_count(2)
    expect(workers.nth(0)).to_contain_text("Worker 1")
    expect(workers.filter(has_text="Pages read: 1")).to_have_count(1)
    expect(workers.filter(has_text="Not loaded")).to_have_count(1)

    def failed(route: Route) -> None:
        body = route.fetch().json()
        body["workers"][1] |= {"retry_in_s": 40, "last_error": "The card failed."}
        route.fulfill(json=body)

    page.route("**/gpu/status", failed)
    expect(workers.nth(1)).to_contain_text("failed, retry in 40")
    expect(workers.nth(1)).to_contain_text("The card failed.")


def test_the_panel_shows_each_endpoint_and_puts_it_to_sleep(visitor: Visitor, serve: Serve) -> None:
    with fake_vllm() as vllm, fake_vllm() as dead:
        dead.stop()
        page = visitor.open(serve("openai", OCR_REMOTE_URL=f"{vllm.url},{dead.url}", GPU_OFFLOAD_AFTER="-1"))
        read(page, ("page.png", png()))
        page.locator("#gpu-button").click()
        panel = page.get_by_role("region", name="Engine and memory")
        endpoints = page.get_by_role("list", name="Endpoints").get_by_role("listitem")
        expect(endpoints).to_have_count(2)
        expect(endpoints.nth(0)).to_contain_text(vllm.url)
        expect(endpoints.nth(0)).to_contain_text("Ready")
        expect(endpoints.nth(0)).to_contain_text("Pages read: 1")
        expect(endpoints.nth(1)).to_contain_text("it cannot be reached")
        expect(panel.locator(".here")).to_contain_text("On the GPU")
        panel.get_by_role("button", name="Release all").click()
        expect(endpoints.nth(0)).to_contain_text("Asleep")
        expect(panel.locator(".here")).to_contain_text("Not loaded")


def test_a_release_that_finds_a_page_being_read_offers_to_stop_it(visitor: Visitor, serve: Serve) -> None:
    visitor.expected.append(TOLD_ANYWAY)
    # A server of its own: the worker that another test left idle could be released before this page has its turn.
    server = serve("Patient", OCR_BUSY_WAIT="0.2")
    page = visitor.open(server)
    add(page, ("page.png", png()))
    page.click("#read")
    expect(page.locator(".file.reading")).to_have_count(1)
    # Loaded and read under one lock: before that, there may be a worker that can be had without waiting.
    wait_until(
        lambda: httpx2.get(f"{server.root}/gpu/status", timeout=BOUND_S).json()["state"] not in ("unloaded", "loading")
    )
    page.locator("#gpu-button").click()
    release = page.get_by_role("button", name="Release all")
    expect(release).to_have_attribute("aria-disabled", "false")
    release.click()
    page.get_by_role("button", name="Stop the reading and release").click()
    expect(page.locator("#gpu-panel")).to_contain_text("All memory given back")
    expect(page.locator(".error-box").last).to_be_visible()


# -- tokens, cancelling, losing the server


def test_a_server_with_a_token_asks_for_it_and_it_is_remembered_as_wished(visitor: Visitor, serve: Serve) -> None:
    visitor.expected.append(TOLD_ANYWAY)
    server = serve("writers:Scholar", OCR_AUTH_TOKEN=TOKEN)
    context = visitor.context(server)
    page = visitor.visit(context, server, ready=False)
    field = page.get_by_label("Token", exact=True)
    field.fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#token-wrong")).to_be_visible()
    field.fill(TOKEN)
    page.get_by_role("button", name="Use it").click()
    page.wait_for_selector("html[data-ready]")
    read(page, ("page.png", png()))
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(page.locator(".mode")).to_have_count(7)
    assert page.evaluate("localStorage.getItem('ocr.token')") is None

    page.get_by_role("button", name="Change the token").click()
    field.fill(TOKEN)
    page.get_by_label("Remember it on this device").check()
    page.keyboard.press("Enter")
    expect(page.locator("#token-dialog")).to_be_hidden()
    expect(visitor.visit(context, server).locator(".mode")).to_have_count(7)


def test_cancel_stops_the_work_on_the_server(visitor: Visitor, patient: HttpServer) -> None:
    visitor.expected.append(TOLD_ANYWAY)  # the picture of the page may have the server's only place for a moment
    page = visitor.open(patient)
    add(page, ("page.png", png()))
    page.click("#read")
    expect(page.locator(".file.reading")).to_have_count(1)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".file-meta")).to_have_text("Cancelled")
    wait_until(lambda: httpx2.get(f"{patient.root}/gpu/status", timeout=BOUND_S).json()["queue"] == 0)
    expect(page.get_by_role("button", name="Read again").first).to_be_visible()


def test_a_full_server_is_asked_again_by_itself(visitor: Visitor, patient: HttpServer) -> None:
    visitor.expected.append(TOLD_ANYWAY)
    page = visitor.open(patient)
    first, second = page.locator(".file").nth(0), page.locator(".file").nth(1)
    add(page, ("a.png", png()))
    expect(first.locator(".thumb img")).to_be_visible()  # the picture asks for a place, too
    page.click("#read")
    expect(page.locator(".file.reading")).to_have_count(1)
    add(page, ("b.png", png(60)))
    page.click("#read")
    expect(page.locator(".file.later .file-meta")).to_contain_text("The server is full; next try in")
    first.get_by_role("button", name="Stop reading").click()
    expect(page.locator(".file.reading")).to_have_count(1)
    second.get_by_role("button", name="Stop reading").click()
    expect(second.locator(".thumb img")).to_be_visible()  # its picture was refused a place, too


def test_a_server_that_dies_is_noticed_and_what_was_cut_off_is_read_when_it_is_back(
    visitor: Visitor, serve: Serve
) -> None:
    visitor.expected += [TOLD_ANYWAY, "net::ERR"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with http_server("writers:Leisurely", port=port) as server:
        page = visitor.open(server)
        add(page, ("page.png", png()))
        page.click("#read")
        expect(page.locator(".file.reading")).to_have_count(1)
        server.process.kill()
        expect(page.locator(".banner")).to_contain_text("The server does not answer")
        expect(page.locator(".file-meta")).to_contain_text("Goes on when the server is back")
    with http_server("writers:Scholar", port=port):
        expect(page.locator(".banner")).to_contain_text("The server is back")
        expect(page.locator(".file.done")).to_have_count(1)
        # Pages that come once more, in a reading that begins again, replace the pages that are here.
        texts = page.evaluate(
            """async () => {
                const { Queue } = await import("/static/js/queue.js");
                const item = { partial: null };
                const queue = { tell() {}, take: Queue.prototype.take };
                for (const [page, text] of [[1, "a"], [2, "b"], [1, "c"]]) queue.take(item, { page, text });
                return item.partial.text;
            }"""
        )
        assert texts == "c\n\nb"
        page.context.close()


# -- what a stranger's page must not do


def test_nothing_that_a_model_writes_comes_to_life(visitor: Visitor, serve: Serve) -> None:
    page = visitor.open(serve("writers:Hostile"))
    read(page, ('<img src=x onerror="window.__pwned=`name`">.png', png(400, 300)))
    expect(shown(page)).to_contain_text("The end of the hostile page.")
    for tab in page.get_by_role("tab").all():
        tab.click()
        point_at(page.locator("#text-view a, #text-view td, #text-view [data-block]"))
    page.get_by_role("tab", name="Text").click()
    expect(shown(page)).to_contain_text("The end of the hostile page.")
    assert page.evaluate("window.__pwned") is None
    found = page.evaluate(
        """() => {
            const all = [...document.querySelectorAll(".prose, .prose *")];
            return {
                tags: [...new Set(all.map((node) => node.tagName.toLowerCase()))],
                handlers: all.flatMap((node) => node.getAttributeNames()).filter((name) => /^on/.test(name)),
                links: all.filter((node) => node.href).map((node) => node.href),
                spans: all.filter((node) => node.colSpan > 200 || node.rowSpan > 200).length,
                ids: all.filter((node) => node.id).length,
            };
        }"""
    )
    assert found["handlers"] == []
    assert all(link.startswith("https://") for link in found["links"])  # to be followed by hand, or not
    assert found["spans"] == 0
    assert found["ids"] == 0
    forbidden = {
        "script",
        "img",
        "iframe",
        "form",
        "input",
        "button",
        "style",
        "link",
        "object",
        "embed",
        "details",
        "audio",
        "video",
    }
    assert not forbidden & set(found["tags"])
    for name, kind in (("Markdown", ".md"), ("Plain text", ".txt"), ("JSON", ".json"), ("Word", ".docx")):
        page.get_by_role("button", name="Download").click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=name).first.click()
        assert download.value.suggested_filename.endswith(kind)
    assert page.evaluate("window.__pwned") is None


def test_the_policy_of_the_page_is_as_strict_as_promised(scholar: HttpServer) -> None:
    answer = httpx2.get(scholar.root, timeout=BOUND_S)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    html = answer.text
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]*src=)", html)
    assert not re.search(r"https?://(?!www\.w3\.org/)", html)


# -- for everyone


def test_on_a_phone_nothing_is_cut_off(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) == 390
    read(
        page, ("paper.png", png(400, 560)), ("a file with quite a long name, as scanners like to give them.png", png())
    )
    expect(page.locator(".katex").first).to_be_visible()
    assert page.evaluate(width) == 390
    for code in ("ja", "zh-CN"):
        page.locator("#language").select_option(code)
        assert page.evaluate(width) == 390
    page.locator("#gpu-button").click()
    frame = page.locator("#gpu-panel").bounding_box()
    assert frame is not None
    assert frame["x"] >= 0
    assert frame["x"] + frame["width"] <= 390
    assert frame["y"] + frame["height"] <= 844


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    visitor: Visitor, scholar: HttpServer, patient: HttpServer, serve: Serve, axe: str, scheme: str
) -> None:
    visitor.expected.append(TOLD_ANYWAY)

    def check(page: Page, where: str) -> None:
        assert grave_faults(page, axe, scheme) == [], where

    page = visitor.open(scholar, color_scheme=scheme)
    check(page, "empty")
    page.locator("#gpu-button").click()
    expect(page.locator("#gpu-panel .actions")).to_be_visible()
    check(page, "panel")
    page.keyboard.press("Escape")
    read(page, ("paper.png", png(400, 560)), ("b.png", png()))
    expect(page.locator(".katex").first).to_be_visible()
    check(page, "done")
    page.get_by_role("tab", name="Parts").click()
    check(page, "parts")
    page.get_by_role("button", name="Download").click()
    check(page, "menu")
    page.keyboard.press("Escape")
    choose(page, "find")
    page.get_by_label("Words to find").fill("tide")
    page.get_by_role("button", name="Read all 2 files again").click()
    expect(page.get_by_role("tab", name="Hits")).to_be_visible()
    check(page, "find")
    add(page, ("broken.pdf", b"%PDF-1.7 and then nothing"))
    page.click("#read")
    expect(page.locator(".error-box")).to_be_visible()
    check(page, "error")

    busy = visitor.open(patient, color_scheme=scheme)
    choose(busy, "document")
    add(busy, ("a.png", png()), ("b.png", png()), ("c.png", png()))
    busy.click("#read")
    expect(busy.locator(".file.reading").first).to_be_visible()
    check(busy, "working")
    busy.get_by_role("button", name="Cancel all").click()

    locked = visitor.open(serve("writers:Scholar", OCR_AUTH_TOKEN=TOKEN), ready=False, color_scheme=scheme)
    expect(locked.locator("#token-dialog")).to_be_visible()
    check(locked, "token")

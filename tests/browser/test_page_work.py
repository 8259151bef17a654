"""The page in a real Chromium: what a person's work goes through, from the upload to what is taken along."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from queue import Queue

import anyio
import httpx2
import pypdfium2
import pytest
from anyio.from_thread import start_blocking_portal
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitRequestURLParams, ElicitResult
from PIL import Image
from playwright.sync_api import CDPSession, FloatRect, Page, Route, expect

from browser.rig import TOLD_ANYWAY, WAIT_MS, Visitor, grave_faults, limited, until_kept
from browser.test_page import TOKEN, Serve, add, choose, pdf, read, shown
from locked_pdf import locked_pdf
from pdf_maker import born_digital
from support import BOUND_S, HttpServer, as_base64, png, said, tiff, wait_until, written

pytestmark = pytest.mark.browser

expect.set_options(timeout=WAIT_MS)


@pytest.fixture
def scholar(serve: Serve) -> HttpServer:
    return serve("writers:Scholar", OCR_MAX_FILE_MB="1")


@pytest.fixture
def rapid(serve: Serve) -> HttpServer:
    return serve("rapidocr")


def uploaded(page: Page) -> list[int]:
    """The bytes of the bodies that the page sends from now on."""
    bodies: list[int] = []
    page.on("request", lambda request: bodies.append(len(request.post_data_buffer or b"")))
    return bodies


def saved(page: Page, name: str, *, last: bool = False) -> bytes:
    """What the entry of the menu with this name saves."""
    page.get_by_role("button", name="Download").click()
    entry = page.get_by_role("menuitem", name=name)
    with page.expect_download() as download:
        (entry.last if last else entry.first).click()
    return Path(download.value.path()).read_bytes()


def page_text(document: pypdfium2.PdfDocument, number: int) -> str:
    return " ".join(document[number].get_textpage().get_text_range().split())


# -- tokens


def test_a_token_that_is_not_given_is_asked_for_once_and_can_be_given_later(visitor: Visitor, serve: Serve) -> None:
    visitor.expected.append(TOLD_ANYWAY)
    page = visitor.open(serve("writers:Scholar", OCR_AUTH_TOKEN=TOKEN), ready=False)
    dialog = page.locator("#token-dialog")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    page.wait_for_selector("html[data-ready]")
    expect(page.locator(".locked")).to_contain_text("asks for a token")
    # The state is asked for every five seconds: no dialog comes for it.
    with page.expect_response("**/gpu/status"):
        pass
    with page.expect_response("**/gpu/status"):
        pass
    expect(dialog).to_be_hidden()
    expect(page.locator("#gpu-summary")).to_have_text("Token needed")  # and not "Connecting" for ever
    page.get_by_role("button", name="Enter the token").click()
    page.get_by_label("Token", exact=True).fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator(".mode")).to_have_count(7)
    read(page, ("page.png", png()))


def test_the_api_page_opens_without_a_token_and_uses_the_one_that_was_given(visitor: Visitor, serve: Serve) -> None:
    visitor.expected.append(TOLD_ANYWAY)
    server = serve("writers:Scholar", OCR_AUTH_TOKEN=TOKEN)
    context = visitor.context(server)
    page = context.new_page()
    page.goto(f"{server.root}/docs")
    expect(page.get_by_role("link", name="start page")).to_be_visible()
    page.goto(server.root)
    page.get_by_label("Token", exact=True).fill(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("html[data-ready]")
    page.goto(f"{server.root}/docs")
    expect(page.get_by_role("link", name="/ocr-pdf")).to_be_visible()


# -- files


def drop(session: CDPSession, *paths: Path) -> None:
    """Drop files or folders on the page, as a file manager does."""
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})


def test_a_dropped_folder_is_read_file_by_file(visitor: Visitor, scholar: HttpServer, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    (folder / "deeper").mkdir(parents=True)
    (folder / "b.png").write_bytes(png())
    (folder / "notes.docx").write_bytes(b"no page")
    (folder / "deeper" / "a.tif").write_bytes(tiff(20))
    page = visitor.open(scholar)
    drop(page.context.new_cdp_session(page), folder)
    expect(page.locator(".file-name")).to_have_text(["scans/b.png", "scans/deeper/a.tif"])
    expect(page.locator(".toast")).to_contain_text("1 file was left out")
    page.click("#read")
    expect(page.locator(".file.done")).to_have_count(2)


def test_a_file_that_changed_on_disk_is_named_as_such(visitor: Visitor, scholar: HttpServer, tmp_path: Path) -> None:
    visitor.expected.append(TOLD_ANYWAY)
    path = tmp_path / "page.png"
    path.write_bytes(png(60, 60))
    page = visitor.open(scholar)
    page.route("**/documents", lambda route: route.abort())  # so that it is not sent at once
    page.route("**/health", lambda route: route.abort())
    visitor.expected.append("net::ERR_FAILED")
    page.set_input_files("#picker", str(path))
    expect(page.locator(".banner")).to_be_visible()
    path.write_bytes(png(90, 90))
    page.unroute("**/documents")
    page.unroute("**/health")
    page.click("#read")
    expect(page.locator(".error-box")).to_contain_text("page.png has changed on your disk")


def test_a_document_is_sent_once_whatever_is_done_with_it(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid)
    data = pdf("Alpha page", "Omega page", "Third page")
    bodies = uploaded(page)
    read(page, ("three.pdf", data))
    page.get_by_role("button", name="Next page").click()
    expect(shown(page)).to_contain_text("Omega page")
    page.get_by_role("button", name="Read again").click()
    expect(page.locator(".file.done")).to_have_count(1)
    assert sum(bodies) < 1.05 * len(data) + 1024
    assert saved(page, "Searchable PDF").startswith(b"%PDF-")


def test_over_a_slow_line_files_arrive_with_a_percentage_and_the_time_left(
    visitor: Visitor, scholar: HttpServer
) -> None:
    page = visitor.open(scholar)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    slow = {"offline": False, "latency": 20, "downloadThroughput": 10_000_000, "uploadThroughput": 60_000}
    session.send("Network.emulateNetworkConditions", slow)
    noise = Image.effect_noise((500, 560), 90)
    out = io.BytesIO()
    noise.save(out, "PNG")
    assert 200_000 < len(out.getvalue()) < 900_000
    add(page, ("a.png", out.getvalue()), ("b.png", out.getvalue()))
    page.click("#read")
    expect(page.locator(".file-meta").first).to_contain_text(re.compile(r"Uploading, \d+%"))
    expect(page.locator(".file-meta").first).to_contain_text("left")
    expect(page.locator(".file.done")).to_have_count(2)


def test_an_upload_that_is_cut_goes_on_where_it_was(visitor: Visitor, serve: Serve) -> None:
    visitor.expected += [TOLD_ANYWAY, "net::ERR"]
    page = visitor.open(serve("writers:Scholar", OCR_MAX_FILE_MB="6"))
    offsets: list[str] = []
    page.on(
        "request",
        lambda sent: offsets.append(sent.headers.get("upload-offset", "")) if "/documents/" in sent.url else None,
    )
    cut = [False]

    def once(route: Route) -> None:
        if cut[0]:
            route.continue_()
        else:
            cut[0] = True
            route.abort("connectionreset")

    page.route("**/documents/*", once)
    image = Image.effect_noise((1400, 1600), 90)
    out = io.BytesIO()
    image.save(out, "PNG")
    assert len(out.getvalue()) > 2 << 20
    read(page, ("large.png", out.getvalue()))
    assert cut[0]
    assert str(1 << 20) in offsets
    assert offsets.count("") >= 1  # where it was: HEAD


# -- locked with a password


def test_a_locked_pdf_asks_for_its_password_and_is_then_read_and_saved(
    visitor: Visitor, rapid: HttpServer, axe: str
) -> None:
    visitor.expected.append(TOLD_ANYWAY)
    context = visitor.context(rapid)
    page = visitor.visit(context, rapid)
    add(page, ("locked.pdf", locked_pdf(born_digital("Secret Title"), user="open sesame")))
    field = page.get_by_label("Password")
    expect(page.locator(".file-meta")).to_contain_text("locked with a password")
    assert not grave_faults(page, axe, "light")
    field.fill("open barley")
    page.keyboard.press("Enter")
    expect(page.get_by_text("That is not its password")).to_be_visible()
    field.fill("open sesame")
    page.get_by_role("button", name="Open", exact=True).click()
    expect(page.locator(".sheet-image")).to_be_visible()
    page.click("#read")
    expect(shown(page)).to_contain_text("Secret Title")
    kept = page.evaluate("indexedDB.databases().then((all) => all.map((each) => each.name))")
    assert kept == ["ocr"]
    assert b"/Encrypt" in saved(page, "Searchable PDF")
    written_down = """new Promise((resolve) => {
      const asked = indexedDB.open("ocr");
      asked.onsuccess = () => {
        const all = asked.result.transaction("items").objectStore("items").getAll();
        all.onsuccess = () => resolve(JSON.stringify([all.result, {...localStorage}, {...sessionStorage}]));
      };
    })"""
    assert "sesame" not in page.evaluate(written_down)


def test_the_password_that_an_agent_needs_is_given_on_a_page_of_the_server_past_the_agent(
    visitor: Visitor, rapid: HttpServer, axe: str
) -> None:
    visitor.expected.append(TOLD_ANYWAY)
    page = visitor.context(rapid).new_page()
    asked: Queue[str] = Queue()

    async def person(context: object, params: object) -> ElicitResult:
        assert isinstance(params, ElicitRequestURLParams)
        asked.put(params.url)
        return ElicitResult(action="accept")

    async def agent() -> str:
        document = as_base64(locked_pdf(born_digital("Secret Title"), user="open sesame"))
        client = Client(streamable_http_client(rapid.url), mode="legacy", elicitation_callback=person)
        with anyio.fail_after(2 * BOUND_S):
            async with client:
                return said(await client.call_tool("ocr_image", {"image": document}))

    with start_blocking_portal() as portal:
        answer = portal.start_task_soon(agent)
        page.goto(asked.get(timeout=BOUND_S))
        expect(page.get_by_text("is locked with a password")).to_be_visible()
        assert not grave_faults(page, axe, "light")
        page.get_by_label("Password").fill("open sesame")
        page.keyboard.press("Enter")
        expect(page.get_by_text("Thank you")).to_be_visible()
        assert "Secret Title" in answer.result(2 * BOUND_S)
    page.reload()
    expect(page.get_by_text("not needed any more")).to_be_visible()


# -- nothing is lost


def test_results_outlive_a_reload_until_they_are_cleared(visitor: Visitor, rapid: HttpServer) -> None:
    context = visitor.context(rapid)
    page = visitor.visit(context, rapid)
    read(page, ("note.png", written("kept in the browser")))
    expect(page.get_by_label("Keep files and texts")).to_be_checked()
    page.get_by_role("link", name="DeepSeek OCR, start").click()
    expect(page.locator(".file.done")).to_have_count(1)  # the logo empties nothing
    until_kept(page, "kept in the browser")
    bodies = uploaded(page)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(page.locator(".file.done")).to_have_count(1)
    expect(shown(page)).to_contain_text("kept in the browser")
    expect(page.locator(".sheet-image")).to_be_visible()
    assert sum(bodies) == 0
    assert saved(page, "Word").startswith(b"PK")
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Undo").click()
    expect(shown(page)).to_contain_text("kept in the browser")
    expect(page.locator(".sheet-image")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(page.get_by_role("heading", name="Drop a page")).to_be_visible()


def test_a_tab_clears_its_own_files_and_leaves_those_of_another_tab(visitor: Visitor, rapid: HttpServer) -> None:
    context = visitor.context(rapid)
    page, other = visitor.visit(context, rapid), visitor.visit(context, rapid)
    read(page, ("note.png", written("kept in the browser")))
    until_kept(page, "kept in the browser")
    read(other, ("other.png", written("cleared again")))
    until_kept(other, "cleared again")
    other.get_by_role("button", name="Clear").click()
    other.reload()
    other.wait_for_selector("html[data-ready]")
    expect(other.locator(".file-name")).to_have_text(["note.png"])
    expect(shown(other)).to_contain_text("kept in the browser")


def test_nothing_is_kept_where_the_reader_does_not_want_it(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    read(page, ("page.png", png()))
    page.get_by_label("Keep files and texts").uncheck()
    expect(page.locator("#live")).to_contain_text("Nothing is kept")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(page.get_by_role("heading", name="Drop a page")).to_be_visible()


def test_leaving_warns_while_a_page_is_read(visitor: Visitor, serve: Serve) -> None:
    visitor.expected.append(TOLD_ANYWAY)
    page = visitor.open(serve("Patient", OCR_BUSY_WAIT="0.2", OCR_MAX_QUEUE="4"))
    add(page, ("page.png", png()))
    page.click("#read")
    expect(page.locator(".file.reading")).to_have_count(1)
    page.close(run_before_unload=True)
    wait_until(lambda: (page.wait_for_timeout(20), visitor.problems)[1], BOUND_S)  # Playwright tells while it waits
    assert visitor.problems == ["dialog: "]  # the browser's own words
    visitor.problems.clear()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".file-meta")).to_have_text("Cancelled")


def test_what_was_read_before_a_cancel_stays(visitor: Visitor, serve: Serve) -> None:
    visitor.expected.append(TOLD_ANYWAY)
    server = serve("Stalling", OCR_BUSY_WAIT="0.2")
    page = visitor.open(server)
    add(page, ("two.tif", tiff(20, 13, 40)))
    page.click("#read")
    expect(shown(page)).to_contain_text("40x20")
    expect(page.locator(".strip")).to_contain_text("Reading page 2 of 3")
    assert b"40x20" in saved(page, "Markdown")  # as much as is there
    page.locator(".strip").get_by_role("button", name="Cancel").click()
    expect(page.locator(".note")).to_contain_text("You stopped the reading")
    expect(shown(page)).to_contain_text("40x20")
    expect(page.locator(".file.done.lacking")).to_have_count(1)
    wait_until(lambda: httpx2.get(f"{server.root}/gpu/status", timeout=BOUND_S).json()["queue"] == 0)


# -- what is read, and how well


def test_a_file_with_a_page_that_failed_has_no_plain_tick(visitor: Visitor, rapid: HttpServer) -> None:
    visitor.expected.append(TOLD_ANYWAY)
    page = visitor.open(rapid)
    read(page, ("report.pdf", limited()))
    row = page.locator(".file.done.lacking")
    expect(row).to_have_count(1)
    expect(row.locator(".file-meta")).to_contain_text("1 page not read")
    expect(row.locator(".file-state use")).to_have_attribute("href", "#i-alert")
    expect(page.locator(".strip-page.failed")).to_have_count(1)


def test_read_again_reads_all_files_and_the_keyboard_stays_where_it_was(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    read(page, ("a.png", png()), ("b.png", png(60)))
    expect(page.locator("#read")).to_be_focused()
    with page.expect_request(lambda sent: sent.url.endswith("/ocr")):
        page.get_by_role("button", name="Read all 2 files again").click()
    expect(page.locator(".file.done")).to_have_count(2)
    expect(page.locator("#read")).to_be_focused()
    expect(page.get_by_role("button", name="Read a.png again")).to_have_count(1)


# -- taking pictures


def test_a_camera_takes_picture_after_picture_and_is_off_afterwards(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    page.locator("#welcome").get_by_role("button", name="Take a photo").click()
    dialog = page.locator("#camera-dialog")
    take = dialog.get_by_role("button", name="Take the picture")
    expect(take).not_to_have_attribute("aria-disabled", "true")
    take.click()
    expect(dialog.get_by_role("status")).to_have_text("1 picture is in the list.")
    take.click()
    expect(dialog.get_by_role("status")).to_have_text("2 pictures are in the list.")
    tracks = "document.querySelector('#camera-view').srcObject?.getTracks().length ?? 0"
    assert page.evaluate(tracks) == 1
    dialog.get_by_role("button", name="Done").click()
    expect(dialog).to_be_hidden()
    wait_until(lambda: page.evaluate(tracks) == 0)  # a dialog tells its end a moment after it is gone
    expect(page.locator(".file-name")).to_have_count(2)
    expect(page.locator(".file-name").first).to_contain_text(re.compile(r"^Photo \d\d\.\d\d\.\d\d\.jpg$"))
    page.click("#read")
    expect(page.locator(".file.done")).to_have_count(2)


def test_a_camera_that_is_refused_says_so(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    refuse = "async () => { throw new DOMException('', 'NotAllowedError'); }"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {refuse}; }}")
    page.locator("#welcome").get_by_role("button", name="Take a photo").click()
    expect(page.locator(".toast.bad")).to_contain_text("did not allow the camera")
    expect(page.locator("#camera-dialog")).to_be_hidden()


def test_a_screenshot_becomes_a_file(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    page.locator("#welcome").get_by_role("button", name="Screenshot").click()
    expect(page.locator(".file-name")).to_contain_text(re.compile(r"^Screenshot \d\d\.\d\d\.\d\d\.png$"))
    page.click("#read")
    expect(page.locator(".file.done")).to_have_count(1)


# -- taking along


def test_several_files_are_saved_as_one_with_their_names(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid)
    read(page, ("first.png", written("Alpha\nBeta")), ("second.png", written("Gamma")))
    heading = page.locator(".menu-heading")
    text = saved(page, "Plain text", last=True).decode()
    assert "== first.png ==" in text
    assert "== second.png ==" in text
    assert not [line for line in text.splitlines() if line.startswith(" ")]
    markdown = saved(page, "Markdown", last=True).decode()
    assert markdown.startswith("# first.png\n")
    word = zipfile.ZipFile(io.BytesIO(saved(page, "Word", last=True))).read("word/document.xml").decode()
    assert "second.png" in word
    assert "Gamma" in word
    with pypdfium2.PdfDocument(saved(page, "Searchable PDF", last=True)) as made:
        assert [page_text(made, n) for n in range(len(made))] == ["Alpha Beta", "Gamma"]
    page.get_by_role("button", name="Download").click()
    expect(heading).to_have_text("All 2 files in one")


def test_a_result_is_saved_whole_as_a_zip(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    read(page, ("paper.png", png(400, 560)))
    with zipfile.ZipFile(io.BytesIO(saved(page, "All of these in a zip"))) as made:
        assert made.testzip() is None
        names = set(made.namelist())
        made_here, made_there = ("md", "txt", "json", "csv"), ("html", "docx", "xlsx", "hocr", "xml")
        assert names == {"paper-searchable.pdf", *(f"paper.{kind}" for kind in (*made_here, *made_there))}
        assert json.loads(made.read("paper.json"))["engine"] == "Scholar"
        rows = list(csv.reader(io.StringIO(made.read("paper.csv").decode("utf-8-sig"))))
    assert ["Tide", "Height in m", ""] in rows


def test_a_table_is_copied_with_tabs_and_as_html(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar, permissions=["clipboard-read", "clipboard-write"])
    read(page, ("paper.png", png(400, 560)))
    page.locator(".prose table").hover()
    page.get_by_role("button", name="Copy the table").click()
    expect(page.locator(".toast")).to_contain_text("Copied")
    kinds = """async () => {
        const [item] = await navigator.clipboard.read();
        const of = async (type) => (await item.getType(type)).text();
        return [await of("text/plain"), await of("text/html")];
    }"""
    plain, html = page.evaluate(kinds)
    assert "Tide\tHeight in m" in plain
    assert '<td rowspan="2">Tide' in html
    assert "data-" not in html
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator(".toast")).to_have_count(2)
    plain, html = page.evaluate(kinds)
    assert plain.startswith("# Tides of the northern coast")
    assert "<table" in html
    assert "<h1>" in html


def test_a_text_is_put_right_before_it_is_saved(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid)
    read(page, ("note.png", written("Hello from the harbour")))
    page.get_by_role("button", name="Edit the text").click()
    area = page.get_by_label("Text of page 1")
    expect(area).to_be_focused()
    area.fill("Hello from the *lighthouse*")
    page.get_by_role("button", name="Done").click()
    expect(shown(page).locator("em")).to_have_text("lighthouse")
    assert "lighthouse" in saved(page, "Markdown").decode()
    word = zipfile.ZipFile(io.BytesIO(saved(page, "Word"))).read("word/document.xml").decode()
    assert "lighthouse" in word
    with pypdfium2.PdfDocument(saved(page, "Searchable PDF")) as made:
        assert page_text(made, 0) == "Hello from the lighthouse"
    until_kept(page, "lighthouse")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(shown(page)).to_contain_text("lighthouse")
    page.get_by_role("button", name="Edit the text").click()
    page.get_by_role("button", name="As it was read").click()
    page.get_by_role("button", name="Done").click()
    expect(shown(page)).to_contain_text("harbour")


def test_words_that_have_no_place_on_the_page_are_counted(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid)
    read(page, ("note.png", written("Hello from the harbour")))
    page.get_by_role("button", name="Edit the text").click()
    page.get_by_label("Text of page 1").fill("Good day from the harbour. " + "More that nobody wrote there. " * 4)
    page.get_by_role("button", name="Done").click()
    with pypdfium2.PdfDocument(saved(page, "Searchable PDF")) as made:
        assert page_text(made, 0).startswith("Good day from the")
    expect(page.locator(".toast.bad")).to_contain_text("words of your text have no place on the page")


EDITED = """async ([blocks, before, after]) => {
  const { placed } = await import("/static/js/edited.js");
  const found = placed(blocks, before, after);
  const rows = found.blocks.map(({ text, words }) => [text, (words ?? []).map((word) => [word.text, word.box[0]])]);
  return [rows, found.homeless];
}"""


def row(text: str, *words: str) -> dict[str, object]:
    """A block with words that are ten pixels apart."""
    boxes = [{"text": word, "box": [10 * n, 0, 10 * n + 9, 10]} for n, word in enumerate(words)]
    return {"text": text, "box": [0, 0, 100, 10], "words": boxes}


def test_what_was_edited_is_put_into_the_places_of_the_words(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    rows = [row("Tota1 due", "Tota1", "due"), row("12.5O EUR", "12.5O", "EUR")]
    before = "Tota1 due\n12.5O EUR"
    for given, text, blocks, homeless in (
        (rows, before, [["Tota1 due", [["Tota1", 0], ["due", 10]]], ["12.5O EUR", [["12.5O", 0], ["EUR", 10]]]], 0),
        (rows, "Total due\n12.50", [["Total due", [["Total", 0], ["due", 10]]], ["12.50", [["12.50", 0]]]], 0),
        (rows, "", [["", []], ["", []]], 0),
        (rows, "Tota1 is due\n12.5O EUR" + " x" * 20,
         [["Tota1 is due", [["Tota1 is", 0], ["due", 10]]], ["12.5O EUR", [["12.5O", 0], ["EUR", 10]]]], 20),
    ):  # fmt: skip
        assert page.evaluate(EDITED, [given, before, text]) == [blocks, homeless]
    kanji = [row("東京都渋谷区", "東京都", "渋谷区")]
    assert page.evaluate(EDITED, [kanji, "東京都渋谷区", "東京都港区"]) == [
        [["東京都港区", [["東京都", 0], ["港区", 10]]]],
        0,
    ]


# -- looking


def test_a_page_is_turned_with_its_boxes(visitor: Visitor, scholar: HttpServer) -> None:
    page = visitor.open(scholar)
    read(page, ("paper.png", png(400, 560)))
    box = page.locator('.box[data-block="2"]')

    def shape() -> tuple[float, float]:
        frame = box.bounding_box()
        assert frame is not None
        return frame["width"], frame["height"]

    wide, high = shape()
    assert wide > high
    page.get_by_role("button", name="Turn the page").click()
    turned_wide, turned_high = shape()
    assert turned_high > turned_wide

    def lights_up() -> bool:
        """Whether the pointer, on the box as it lies now, lights up its text."""
        box.hover(force=True)
        return page.locator('.bit.lit[data-block="2"]').count() > 0

    wait_until(lights_up)
    page.locator(".stage").press("Shift+R")
    assert shape() == pytest.approx((wide, high), abs=1)


def test_a_page_that_leans_is_shown_level_with_its_boxes_on_its_lines(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid)
    lines = "\n".join(["The quiet harbour kept its ledger in iron boxes"] * 8)
    leaning = Image.open(io.BytesIO(written(lines))).convert("RGB").rotate(-4, expand=True, fillcolor="white")
    out = io.BytesIO()
    leaning.save(out, "PNG")
    read(page, ("leaning.png", out.getvalue()))
    straighten = page.get_by_role("button", name="Straighten the page")
    expect(straighten).to_have_attribute("aria-pressed", "true")

    def lean(selector: str, told: str) -> float:
        found = re.search(r"rotate\((-?[\d.]+)", page.locator(selector).first.evaluate(f"(node) => {told} ?? ''"))
        return float(found[1]) if found else 0.0

    lines_lean = lean(".box", "node.getAttribute('transform')")
    assert 3.5 < lines_lean < 4.5
    assert lean(".sheet-upright", "node.style.transform") == pytest.approx(-lines_lean, abs=0.3)
    straighten.click()
    expect(straighten).to_have_attribute("aria-pressed", "false")
    assert lean(".sheet-upright", "node.style.transform") == 0


def test_the_pages_in_small_lead_to_the_pages(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid)
    read(page, ("three.pdf", pdf("Alpha page", "Omega page", "Third page")))
    small = page.locator(".strip-page")
    expect(small).to_have_count(3)
    expect(small.nth(2).locator("img")).to_be_visible()
    small.nth(2).click()
    expect(shown(page)).to_contain_text("Third page")
    expect(small.nth(2)).to_have_attribute("aria-current", "true")
    page.keyboard.press("ArrowUp")
    expect(shown(page)).to_contain_text("Omega page")


def test_mode_find_takes_whole_words_and_patterns(visitor: Visitor, rapid: HttpServer) -> None:
    visitor.expected.append(TOLD_ANYWAY)
    page = visitor.open(rapid)
    choose(page, "find")
    term, how = page.get_by_label("Words to find", exact=True), page.locator("#term-how")
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.post_data_json["find_term"]) if "/ocr" in sent.url else None)
    term.fill("art")
    how.get_by_label("Whole words").check()
    read(page, ("note.png", written("Start of the part\nThe art of maps\nINV-417")))
    expect(page.get_by_role("tab", name="Hits · 1")).to_be_visible()
    how.get_by_label("Whole words").uncheck()
    how.get_by_label("Pattern (regular expression)").check()
    term.fill("inv-[0-9]+")
    page.get_by_role("button", name="Read again").click()
    expect(page.locator(".entry mark")).to_have_text("INV-417")
    assert asked == [r"/(?<!\w)(?:art)(?!\w)/", "/inv-[0-9]+/"]
    term.fill("[0-9")
    page.get_by_role("button", name="Read again").click()
    expect(page.locator(".error-box")).to_contain_text("is no pattern")


def test_words_are_found_in_all_files(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid)
    read(page, ("first.png", written("Harbour fees 2025")), ("second.pdf", pdf("nothing here", "the harbourmaster")))
    field = page.get_by_role("searchbox", name="Search all texts")
    field.fill("harbour")
    expect(page.locator("#search-result")).to_have_text("2 hits in 2 files")
    expect(page.locator(".file-meta").first).to_have_text("1 hit")
    field.press("Enter")  # from the first file, which is shown, to the next hit
    expect(shown(page)).to_contain_text("harbourmaster")
    page.locator("#search-whole").check()
    expect(page.locator("#search-result")).to_have_text("1 hit in 1 file")
    page.locator("#search-whole").uncheck()
    page.locator("#search-regex").check()
    field.fill(r"20\d\d")
    expect(page.locator("#search-result")).to_have_text("1 hit in 1 file")
    field.fill("(")
    expect(page.locator("#search-result")).to_have_text("This is no pattern.")


def test_the_word_under_the_pointer_lights_up_on_the_page_and_in_the_text(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid)
    read(page, ("note.png", written("Hello from the harbour\nSee you at nine")))
    marked = """() => [...(CSS.highlights.get("word") ?? [])].map((range) => range.toString())"""

    def box(name: str) -> FloatRect:
        found = page.locator(name).first.bounding_box()
        assert found is not None
        return found

    def lights_up(name: str, x: Callable[[FloatRect], float], word: str) -> bool:
        """Whether the pointer, on the first of these elements as it lies now, lights up this word alone."""
        place = box(name)
        page.mouse.move(place["x"] + x(place), place["y"] + min(10, place["height"] / 2))
        return bool(page.evaluate(marked) == [word])

    wait_until(lambda: lights_up(".box", lambda line: line["width"] - 12, "harbour"))
    expect(page.locator(".word")).to_be_visible()
    # And from the text to the page: the first word is at the left.
    wait_until(lambda: lights_up(".bit", lambda _: 6, "Hello"))
    line, word = box(".box"), box(".word")
    assert abs(word["x"] - line["x"]) < 8
    assert word["width"] < line["width"] / 3


def test_a_page_shown_large_moves_with_its_text_and_the_text_with_it(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid, viewport={"width": 1280, "height": 560})
    read(page, ("long.png", written("\n".join(f"This is line number {n}" for n in range(40)))))
    for _ in range(3):
        page.get_by_role("button", name="Zoom in").click()
    first = page.locator('.box[data-block="0"]')
    before = first.bounding_box()
    page.locator(".text-body").hover()
    page.mouse.wheel(0, 500)
    assert before is not None
    wait_until(lambda: (first.bounding_box() or before)["y"] < before["y"] - 30)
    page.locator(".stage").hover()
    page.mouse.wheel(0, -5000)
    wait_until(lambda: page.evaluate("document.querySelector('.text-body').scrollTop") < 60)


def test_lines_that_were_read_with_doubt_are_marked(visitor: Visitor, rapid: HttpServer) -> None:
    page = visitor.open(rapid)

    def doubtful(route: Route) -> None:
        body = route.fetch().text()
        route.fulfill(body=re.sub(r'"score":[\d.]+', '"score":0.55', body), content_type="text/event-stream")

    page.route("**/ocr", doubtful)
    read(page, ("note.png", written("Hello from the harbour")))
    expect(page.locator(".bit.unsure").first).to_have_attribute("title", re.compile("55%"))


def test_tables_are_saved_for_excel_and_word_has_the_paper_of_the_readers_country(
    visitor: Visitor, scholar: HttpServer
) -> None:
    for locale, paper in (("en-US", "letter"), ("ja", "a4")):
        page = visitor.open(scholar, locale=locale)
        read(page, ("paper.png", png(400, 560)))
        with page.expect_request("**/export") as asked:
            page.locator(".text-actions .menu-wrap > button").click()
            with page.expect_download() as download:
                page.get_by_role("menuitem", name=".docx").click()
        assert json.loads(asked.value.post_data or "")["paper"] == paper
        assert Path(download.value.path()).read_bytes().startswith(b"PK")
        page.locator(".text-actions .menu-wrap > button").click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=".xlsx").click()
        with zipfile.ZipFile(download.value.path()) as book:
            assert "xl/workbook.xml" in book.namelist()


def test_a_page_that_lies_on_its_side_is_shown_upright(visitor: Visitor, rapid: HttpServer) -> None:
    image = Image.open(io.BytesIO(written("Hello from the harbour\nSee you at nine\nBring the lantern")))
    out = io.BytesIO()
    image.rotate(-90, expand=True).save(out, "PNG")
    page = visitor.open(rapid)
    read(page, ("side.png", out.getvalue()))
    expect(shown(page)).to_contain_text("Hello from the harbour")
    box = page.locator(".box").first.bounding_box()
    sheet = page.locator(".sheet-frame").bounding_box()
    assert box is not None
    assert sheet is not None
    assert box["width"] > 3 * box["height"]
    assert box["y"] - sheet["y"] < sheet["height"] / 3  # the first line is at the top

"""The app in a host in a real Chromium: the reference library's bridge, the specified frames, a real server."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import expect

from browser.rig import WAIT_MS, AppHost, Shown, Visitor, drawn_at, grave_faults, point_at
from support import HttpServer, as_base64, png, tiff, written

pytestmark = pytest.mark.browser

Serve = Callable[..., HttpServer]
CASES = ["opaque", "reference"]
LETTER = as_base64(png(400, 560))

expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def hosting(serve: Serve, host_script: Path) -> Iterator[Callable[..., AppHost]]:
    """A host for a server with this engine and these settings."""
    made: dict[str, AppHost] = {}

    def get(engine: str, **settings: str) -> AppHost:
        server = serve(engine, **settings)
        if server.url not in made:
            made[server.url] = AppHost(server.url, host_script)
        return made[server.url]

    yield get
    for host in made.values():
        host.close()


@pytest.fixture
def scholar(hosting: Callable[..., AppHost]) -> AppHost:
    return hosting("writers:Scholar")


@pytest.fixture
def rapid(hosting: Callable[..., AppHost]) -> AppHost:
    return hosting("rapidocr")


def show(visitor: Visitor, host: AppHost, *, window: dict[str, Any] | None = None, **how: Any) -> Shown:
    return Shown(visitor.open(host, **(window or {})), host, **how)


# -- what is shown


@pytest.mark.parametrize("kind", CASES)
def test_a_page_is_shown_as_picture_boxes_and_text(visitor: Visitor, scholar: AppHost, kind: str) -> None:
    shown = show(visitor, scholar, kind=kind)
    assert {"name": "ocr_page", "appOnly": True} in shown.tell("listed")
    shown.call(LETTER)
    expect(shown.text).to_contain_text("Tides of the northern coast")
    expect(shown.app.locator(".sheet-image")).to_have_js_property("naturalWidth", 400)
    expect(shown.app.locator(".box")).to_have_count(10)
    expect(shown.app.locator(".prose table td[rowspan='2']")).to_have_text("Tide")
    expect(shown.app.locator(".math.display math")).to_have_count(1)
    expect(shown.app.locator(".prose figure canvas")).to_have_count(1)
    expect(shown.app.locator("#live")).to_contain_text("is read")
    assert [call["name"] for call in shown.log("calls")] == ["ocr_page"]
    shown.app.get_by_role("tab", name="Markdown").click()
    expect(shown.app.locator(".source")).to_contain_text("# Tides of the northern coast")
    shown.app.get_by_role("button", name="Copy").click()
    expect(shown.app.locator(".toast")).to_have_text("Copied")
    shown.app.get_by_role("tab", name="Parts · 10").click()
    expect(shown.app.locator(".entry")).to_have_count(10)


def test_the_app_has_no_origin_and_no_storage(visitor: Visitor, scholar: AppHost) -> None:
    shown = show(visitor, scholar, kind="opaque")
    assert shown.frame.evaluate("self.origin") == "null"
    stored = shown.frame.evaluate("() => { try { return Boolean(localStorage); } catch { return 'refused'; } }")
    assert stored == "refused"
    shown.call(LETTER)
    expect(shown.text).to_contain_text("Tides")


def test_box_and_text_light_up_together_and_the_keyboard_does_it_too(visitor: Visitor, scholar: AppHost) -> None:
    shown = show(visitor, scholar)
    shown.call(LETTER)
    shown.app.locator('.bit[data-block="2"]').hover()
    expect(shown.app.locator(".box.lit")).to_have_attribute("data-block", "2")
    expect(shown.app.locator(".box-tag")).to_have_text("Heading")
    shown.app.locator('.box[data-block="8"]').hover()
    expect(shown.app.locator(".bit.lit").first).to_contain_text("Readings")
    shown.app.get_by_role("tab", name="Parts").click()
    shown.app.locator(".entry").first.focus()
    shown.page.keyboard.press("ArrowDown")
    expect(shown.app.locator(".box.lit")).to_have_attribute("data-block", "1")
    shown.app.locator(".stage").focus()
    shown.page.keyboard.press("+")
    expect(shown.app.locator(".percent")).to_have_text("140%")
    shown.page.keyboard.press("0")
    expect(shown.app.locator(".percent")).to_have_text("100%")


def test_boxes_lie_where_the_words_are_at_every_zoom(visitor: Visitor, rapid: AppHost) -> None:
    image = Image.new("RGB", (900, 600), "white")
    word = Image.open(io.BytesIO(written("treasure", 40))).convert("RGB")
    image.paste(word, (500, 400))
    out = io.BytesIO()
    image.save(out, "PNG")
    shown = show(visitor, rapid)
    answer = shown.call(as_base64(out.getvalue()), find_term="treasure")
    [block] = answer["structuredContent"]["pages"][0]["blocks"]
    expect(shown.app.get_by_role("tab", name="Hits · 1")).to_be_visible()
    assert 480 < block["box"][0] < 560
    assert 380 < block["box"][1] < 460

    def compare() -> None:
        box, sheet = drawn_at(shown.app.locator(".box"), shown.app.locator(".sheet-image"))
        scale = sheet["width"] / 900
        assert abs(sheet["height"] / 600 - scale) < 0.01
        x1, y1, x2, y2 = block["box"]
        on_screen = [
            (box["x"] - sheet["x"]) / scale,
            (box["y"] - sheet["y"]) / scale,
            (box["x"] + box["width"] - sheet["x"]) / scale,
            (box["y"] + box["height"] - sheet["y"]) / scale,
        ]
        assert all(abs(there - here) < 3 for there, here in zip(on_screen, (x1, y1, x2, y2), strict=True)), on_screen

    compare()
    for _ in range(3):
        shown.app.get_by_role("button", name="Zoom in").click()
    compare()
    expect(shown.app.locator(".sheet-image")).to_have_js_property("naturalWidth", 900)


# -- pages


def test_further_pages_are_read_by_a_button_and_any_page_can_be_looked_at(visitor: Visitor, scholar: AppHost) -> None:
    shown = show(visitor, scholar)
    shown.call(as_base64(tiff(31, 32, 33, 34)), max_chars=900, annotate=True)
    expect(shown.app.locator(".page-number")).to_have_text("Page 1 of 4")
    expect(shown.app.locator(".more")).to_contain_text("1 of 4 pages read")
    shown.app.get_by_label("Choose a page").select_option("3")
    expect(shown.app.locator(".view")).to_contain_text("Page 3 was not read")
    expect(shown.app.locator(".sheet-image")).to_have_js_property("naturalHeight", 33)
    shown.app.get_by_role("button", name="Read this page").click()
    expect(shown.text).to_contain_text("Tides")
    expect(shown.app.locator(".page-number")).to_have_text("Page 3 of 4")
    shown.app.get_by_role("button", name="Read pages 2–4").click()
    expect(shown.app.locator(".page-number")).to_have_text("Page 2 of 4")
    expect(shown.text).to_contain_text("Tides")
    asked = [call["arguments"] for call in shown.log("calls") if call["name"] == "ocr_image"]
    assert [call["pages"] for call in asked] == ["3", "2-4"]
    assert all("annotate" not in call and call["max_chars"] == 900 for call in asked)
    shown.app.get_by_role("button", name="Previous page").click()
    expect(shown.app.locator(".page-number")).to_have_text("Page 1 of 4")


def test_a_host_that_passes_no_calls_on_shows_the_text_alone(visitor: Visitor, scholar: AppHost) -> None:
    shown = show(visitor, scholar, capabilities={})
    shown.call(as_base64(tiff(31, 32, 33)), pages="1-2")
    expect(shown.text).to_contain_text("Tides")
    expect(shown.app.locator(".page-pane")).to_be_hidden()
    shown.app.get_by_role("button", name="Next page").click()
    expect(shown.app.locator(".more .page-number")).to_have_text("Page 2 of 3")
    expect(shown.app.get_by_role("button", name="Next page")).to_be_disabled()
    shown.call(as_base64(tiff(31, 32)), max_chars=900)
    expect(shown.app.locator(".more")).to_contain_text("1 of 2 pages read")
    expect(shown.app.get_by_role("button", name="Read page")).to_have_count(0)
    assert shown.log("calls") == []


def test_what_is_no_page_is_shown_as_the_agent_was_told_it(
    visitor: Visitor, serve: Serve, hosting: Callable[..., AppHost], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("scans")
    (folder / "a.png").write_bytes(png())
    shown = show(visitor, hosting("writers:Scholar", OCR_ALLOWED_DIRS=str(folder)))
    shown.call(str(folder))
    expect(shown.app.locator(".plain-text")).to_contain_text("1 file that can be read")
    expect(shown.app.locator(".page-pane")).to_be_hidden()


# -- before there is an answer, and where there is none


def test_the_states_before_the_answer_are_told(visitor: Visitor, scholar: AppHost) -> None:
    shown = show(visitor, scholar)
    expect(shown.app.locator(".doing")).to_be_visible()
    shown.tell("partial", {"image": "/scans/a let"})
    shown.tell("partial", {})
    shown.tell("input", {"image": "/scans/a%20letter.pdf"})
    expect(shown.app.locator(".doing")).to_have_text("Reading")
    expect(shown.app.get_by_role("progressbar")).to_be_visible()
    shown.tell("cancel")
    expect(shown.app.locator(".calm")).to_contain_text("You stopped this file")
    expect(shown.app.get_by_role("button", name="Read again")).to_be_visible()


def test_an_error_is_told_with_its_remedy_in_the_readers_language_and_can_be_tried_again(
    visitor: Visitor, scholar: AppHost
) -> None:
    shown = show(visitor, scholar, context={"locale": "zh-TW"})
    shown.call(as_base64(b"%PDF-1.7 and then nothing"))
    box = shown.app.locator(".error-box")
    expect(box).to_contain_text("已損壞，或是無法讀取的類型")
    expect(box.locator("details p")).to_have_attribute("lang", "en")
    shown.tell("change", {"locale": "en-GB"})
    expect(box.locator("h3")).to_contain_text("image")
    assert box.locator("p").first.inner_text().strip()
    box.get_by_role("button", name="Try again").click()
    expect(shown.app.locator(".error-box")).to_be_visible()
    assert [call["name"] for call in shown.log("calls")] == ["ocr_image"]


def test_a_result_that_the_server_has_put_away_can_be_read_again(visitor: Visitor, scholar: AppHost) -> None:
    shown = show(visitor, scholar)
    shown.tell("input", {"image": LETTER})
    page = {"page": 1, "width": 400, "height": 560, "text": "Kept by the host", "finish": "stop"}
    facts = {"pages": [page], "page_count": 1, "mode": "document", "engine": "Scholar", "model": "scholar",
             "device": "cpu", "truncated": False, "timing": {"load_s": 0, "infer_s": 0}}  # fmt: skip
    shown.tell("result", {"content": [], "structuredContent": facts, "_meta": {"deepseek-ocr/result": "A" * 22}})
    expect(shown.text).to_have_text("Kept by the host")
    expect(shown.app.locator(".stage-empty")).to_contain_text("no longer keeps this page")
    shown.app.get_by_role("button", name="Read again").click()
    expect(shown.text).to_contain_text("Tides")
    expect(shown.app.locator(".sheet-image")).to_be_visible()


# -- what a model wrote


@pytest.mark.parametrize("kind", CASES)
def test_nothing_that_a_model_writes_comes_to_life(
    visitor: Visitor, hosting: Callable[..., AppHost], kind: str
) -> None:
    # The visitor fails the test over every request, dialog, window, exception and breach of a policy.
    shown = show(visitor, hosting("writers:Hostile"), kind=kind)
    shown.call(as_base64(png(400, 300)))
    expect(shown.text).to_contain_text("The end of the hostile page.")
    for tab in shown.app.get_by_role("tab").all():
        tab.click()
        point_at(shown.app.locator("#text-view a, #text-view td, #text-view [data-block]"))
    shown.app.get_by_role("tab", name="Text").click()
    for frame in shown.page.frames:
        assert frame.evaluate("window.__pwned") is None
    found = shown.app.locator(".prose").evaluate(
        """(root) => {
            const all = [root, ...root.querySelectorAll("*")];
            return {
                tags: [...new Set(all.map((node) => node.tagName.toLowerCase()))],
                handlers: all.flatMap((node) => node.getAttributeNames()).filter((name) => /^on/.test(name)),
                links: all.filter((node) => node.href).map((node) => node.getAttribute("href")),
            };
        }"""
    )
    assert found["handlers"] == []
    assert all(re.match(r"https://|mailto:", link) for link in found["links"])
    forbidden = {"script", "img", "iframe", "form", "input", "button", "style", "link", "object", "embed", "details"}
    assert not forbidden & set(found["tags"])
    assert shown.log("links") == []


def test_a_hostile_name_label_or_error_is_text(visitor: Visitor, scholar: AppHost) -> None:
    shown = show(visitor, scholar)
    evil = '<img src=x onerror="window.__pwned=1">'
    shown.tell("input", {"image": f"/scans/{evil}.png"})
    error = {"code": evil, "message": evil, "remedy": evil}
    told = {"isError": True, "content": [{"type": "text", "text": evil}], "_meta": {"deepseek-ocr/error": error}}
    shown.tell("result", told)
    expect(shown.app.locator(".error-box")).to_contain_text(evil)
    for frame in shown.page.frames:
        assert frame.evaluate("window.__pwned") is None


def test_a_link_is_opened_by_the_host_or_not_at_all(visitor: Visitor, scholar: AppHost) -> None:
    shown = show(visitor, scholar)
    shown.call(LETTER)
    shown.app.get_by_role("link", name="the log").click()
    shown.page.wait_for_function("host.log.links.length")
    assert shown.log("links") == ["https://tides.example.org/log"]
    other = show(visitor, scholar, capabilities={"serverTools": {}})
    other.call(LETTER)
    other.app.get_by_role("link", name="the log").click()
    expect(other.text).to_be_visible()
    assert other.log("links") == []


def test_messages_from_others_than_the_host_are_not_looked_at(visitor: Visitor, scholar: AppHost) -> None:
    shown = show(visitor, scholar)
    shown.frame.evaluate(
        """() => window.postMessage({ jsonrpc: "2.0", method: "ui/notifications/tool-result",
            params: { isError: true, content: [{ type: "text", text: "forged" }] } }, "*")"""
    )
    shown.call(LETTER)
    expect(shown.text).to_contain_text("Tides")
    expect(shown.app.locator(".error-box")).to_have_count(0)


# -- the host's look


def test_theme_language_and_font_are_the_hosts(visitor: Visitor, scholar: AppHost) -> None:
    shown = show(visitor, scholar, window={"color_scheme": "light"}, context={"theme": "dark", "locale": "ja-JP"})
    shown.call(LETTER)
    colour = "getComputedStyle(document.querySelector('.text-pane')).backgroundColor"
    expect(shown.app.get_by_role("tab", name="テキスト")).to_be_visible()
    dark = shown.frame.evaluate(colour)
    shown.tell("change", {"theme": "light", "locale": "en", "styles": {"variables": {"--font-sans": "Courier"}}})
    expect(shown.app.get_by_role("tab", name="Text", exact=True)).to_be_visible()
    light = shown.frame.evaluate(colour)
    assert (dark, light) == ("rgb(27, 29, 33)", "rgb(255, 255, 255)")
    assert "Courier" in shown.frame.evaluate("getComputedStyle(document.body).fontFamily")


def test_full_screen_is_asked_for_and_left_and_only_where_there_is_one(visitor: Visitor, scholar: AppHost) -> None:
    context = {"availableDisplayModes": ["inline", "fullscreen"], "displayMode": "inline"}
    shown = show(visitor, scholar, context=context)
    shown.call(LETTER)
    shown.app.get_by_role("button", name="Full screen", exact=True).click()
    expect(shown.app.get_by_role("button", name="Leave full screen")).to_be_visible()
    pane = shown.app.locator(".text-pane").bounding_box()
    assert pane is not None
    assert pane["height"] > 700
    shown.app.locator(".stage").focus()
    shown.page.keyboard.press("Escape")
    expect(shown.app.get_by_role("button", name="Full screen", exact=True)).to_be_visible()
    assert shown.log("modes") == ["fullscreen", "inline"]
    other = show(visitor, scholar)
    other.call(LETTER)
    expect(other.text).to_contain_text("Tides")
    expect(other.app.get_by_role("button", name="Full screen")).to_have_count(0)


@pytest.mark.parametrize("width", [1000, 360])
def test_it_tells_the_host_how_high_it_is_and_nothing_is_cut_off(
    visitor: Visitor, scholar: AppHost, width: int
) -> None:
    shown = show(visitor, scholar, window={"viewport": {"width": width, "height": 900}})
    shown.call(LETTER)
    expect(shown.app.locator(".math.display math")).to_be_visible()
    expect(shown.app.locator(".sheet-image")).to_be_visible()
    shown.page.wait_for_function("host.log.sizes.length && host.log.sizes.at(-1) > 500")
    assert 500 < shown.log("sizes")[-1] < 1000
    inside = shown.frame.evaluate("[document.documentElement.scrollWidth, innerWidth, document.body.scrollHeight]")
    assert inside[0] <= inside[1]
    assert inside[2] <= shown.log("sizes")[-1]


def test_it_keeps_to_the_room_that_the_host_gives(visitor: Visitor, scholar: AppHost) -> None:
    shown = show(visitor, scholar, context={"containerDimensions": {"maxHeight": 380, "width": 900}})
    shown.call(LETTER)
    expect(shown.app.locator(".sheet-image")).to_be_visible()
    shown.page.wait_for_function("host.log.sizes.at(-1) === 380")
    assert shown.tell("teardown") == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(visitor: Visitor, scholar: AppHost, rapid: AppHost, axe: str, theme: str) -> None:
    def check(shown: Shown, where: str) -> None:
        assert grave_faults(shown.frame, axe, theme) == [], where

    context = {"theme": theme, "availableDisplayModes": ["inline", "fullscreen"]}
    shown = show(visitor, scholar, context=context, window={"color_scheme": theme})
    check(shown, "waiting")
    shown.call(as_base64(tiff(300, 310, 320)), max_chars=900)
    expect(shown.app.locator(".math.display math")).to_be_visible()
    expect(shown.app.locator(".sheet-image")).to_be_visible()
    check(shown, "read")
    shown.app.get_by_role("tab", name="Parts").click()
    check(shown, "parts")
    shown.app.get_by_role("button", name="Next page").click()
    expect(shown.app.get_by_role("button", name="Read this page")).to_be_visible()
    check(shown, "unread")
    shown.tell("result", {"isError": True, "content": [{"type": "text", "text": "It is broken."}]})
    expect(shown.app.locator(".error-box")).to_be_visible()
    check(shown, "error")
    found = show(visitor, rapid, context=context, window={"color_scheme": theme})
    found.call(as_base64(written("a treasure map")), find_term="treasure")
    expect(found.app.get_by_role("tab", name="Hits · 1")).to_be_visible()
    check(found, "find")

"""The app over MCP: there for clients that show apps, and not a word of it for the others."""

from __future__ import annotations

import base64
import io
import os
import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.server.apps import APP_MIME_TYPE
from mcp.types import CallToolResult
from PIL import Image

from deepseek_ocr_mcp.caller import Caller
from deepseek_ocr_mcp.edges.mcp import apps
from deepseek_ocr_mcp.edges.mcp.server import build_mcp
from deepseek_ocr_mcp.errors import InputNotFound
from deepseek_ocr_mcp.models import MAX_PICTURE_SIDE, PICTURE_SIDE, OcrRequest
from deepseek_ocr_mcp.service import store
from deepseek_ocr_mcp.service.progress import Terms
from support import SHOWS_APPS, as_base64, client, facts, http_client, http_server, png, running, said, tiff

pytestmark = pytest.mark.anyio

PAGE = as_base64(png(400, 560))
ERAS = ["legacy", "auto"]


def name_of(result: CallToolResult) -> str:
    """What the app asks for the pages of this answer by."""
    return str((result.meta or {})["deepseek-ocr/result"])


async def shown(mcp: Client, result: CallToolResult, page: int = 1, **more: Any) -> tuple[Image.Image, dict[str, Any]]:
    answer = await mcp.call_tool("ocr_page", {"result": name_of(result), "page": page, **more})
    assert not answer.is_error, said(answer)
    [picture] = answer.content
    assert picture.type == "image"
    assert picture.mime_type in ("image/png", "image/jpeg")
    assert answer.structured_content is not None
    return Image.open(io.BytesIO(base64.b64decode(picture.data))), answer.structured_content


# -- who sees what


def test_the_page_and_the_server_draw_pictures_of_the_same_sides() -> None:
    script = (Path(apps.__file__).parents[1] / "web" / "js" / "viewer.js").read_text(encoding="utf-8")
    sides = re.findall(r"^export const (?:PREVIEW|SHARP)_SIDE = (\d+);", script, re.MULTILINE)
    assert list(map(int, sides)) == [PICTURE_SIDE, MAX_PICTURE_SIDE]


@pytest.mark.parametrize("mode", ERAS)
async def test_a_client_that_shows_no_apps_sees_nothing_of_them(mode: str) -> None:
    async with client("writers:Scholar", mode=mode) as mcp:
        listed = (await mcp.list_tools()).model_dump_json(by_alias=True, exclude_none=True)
        assert "ocr_page" not in listed
        assert "ui" not in re.findall(r'"(\w+)":', listed)
        assert (await mcp.list_resources()).resources == []
        assert "ui://" not in (await mcp.list_resource_templates()).model_dump_json()
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
        assert not [name for name in result.meta or {} if name.startswith("deepseek-ocr/")]
        refused = await mcp.call_tool("ocr_image", {"image": "/nowhere/at/all.png"})
        assert not [name for name in refused.meta or {} if name.startswith("deepseek-ocr/")]


@pytest.mark.parametrize("mode", ERAS)
async def test_a_client_that_shows_apps_gets_the_link_the_tool_and_the_document(mode: str) -> None:
    async with client(mode=mode, apps=True) as mcp:
        tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
        assert tools["ocr_image"].meta is not None
        uri = tools["ocr_image"].meta["ui"]["resourceUri"]
        assert tools["ocr_page"].meta == {"ui": {"resourceUri": uri, "visibility": ["app"]}}
        assert all("ui" not in (tools[name].meta or {}) for name in ("gpu_status", "gpu_offload", "gpu_release"))
        [listed] = (await mcp.list_resources()).resources
        assert (listed.uri, listed.mime_type) == (uri, APP_MIME_TYPE)
        [content] = (await mcp.read_resource(uri)).contents
        assert content.mime_type == "text/html;profile=mcp-app"
        assert content.meta is not None
        assert content.meta["ui"]["csp"] == {"connectDomains": [], "resourceDomains": []}
        assert content.text.startswith("<!doctype html>")  # type: ignore[union-attr]


async def test_the_list_of_tools_is_the_same_but_for_the_app() -> None:
    async with client() as mcp, client(apps=True) as app:
        without = {tool.name: tool.model_dump() for tool in (await mcp.list_tools()).tools}
        having = {tool.name: tool.model_dump() for tool in (await app.list_tools()).tools}
    assert set(having) - set(without) == {"ocr_page"}
    del having["ocr_image"]["meta"]["ui"]
    assert {name: having[name] for name in without} == without


async def test_an_agent_gets_the_same_answer_with_and_without_the_app() -> None:
    arguments = {"image": PAGE, "max_chars": 200}
    async with client("writers:Scholar") as mcp, client("writers:Scholar", apps=True) as app:
        plain, seen = await mcp.call_tool("ocr_image", arguments), await app.call_tool("ocr_image", arguments)
    name = re.compile(r"ocr://results/[\w-]+")  # each answer has its own
    assert name.sub("", said(plain)) == name.sub("", said(seen))
    known, more = facts(plain), facts(seen)
    assert known | {"timing": {}} == more | {"timing": {}}
    assert len(plain.content) == len(seen.content)


# -- what the app is shown


async def test_a_page_is_shown_with_its_whole_text_and_its_boxes_though_the_agent_asked_for_neither() -> None:
    async with client("writers:Scholar", apps=True) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE, "max_chars": 100})
        answer = facts(result)
        assert "blocks" not in answer["pages"][0]
        picture, told = await shown(mcp, result)
        assert picture.size == (told["width"], told["height"]) == (400, 560)
        assert len(told["read"]["blocks"]) == 10
        assert "Storm days were left out" in told["read"]["text"]
        assert len(answer["text"]) <= 100


async def test_a_picture_is_as_large_as_asked_for_and_never_larger() -> None:
    async with client(apps=True) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": as_base64(png(3000, 1500))})
        assert (await shown(mcp, result, side=300))[0].size == (300, 150)
        assert (await shown(mcp, result))[0].size == (1600, 800)
        for side in (0, 2401):
            refused = await mcp.call_tool("ocr_page", {"result": name_of(result), "page": 1, "side": side})
            assert refused.is_error


async def test_pages_that_were_not_read_can_be_looked_at_and_others_do_not_exist() -> None:
    async with client(apps=True) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": as_base64(tiff(11, 12, 13)), "pages": "2"})
        assert (await shown(mcp, result, 2))[1]["read"]["page"] == 2
        picture, told = await shown(mcp, result, 3)
        assert picture.width / picture.height == pytest.approx(40 / 13, rel=0.05)
        assert "read" not in told
        refused = await mcp.call_tool("ocr_page", {"result": name_of(result), "page": 4})
        assert "has 3 pages" in said(refused)


async def test_the_page_is_the_one_that_was_read_whatever_became_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(png(400, 300))
    async with client(apps=True) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": str(path)})
        path.write_bytes(png(40, 20))
        assert (await shown(mcp, result))[0].size == (400, 300)
        path.unlink()
        assert (await shown(mcp, result))[0].size == (400, 300)


async def test_the_same_document_is_kept_once_and_only_for_those_who_show_it() -> None:
    async with running() as service:
        folder = service._reader._kept_folder
        async with Client(build_mcp(service, local=True)) as mcp:
            await mcp.call_tool("ocr_image", {"image": PAGE})
            assert "kept" not in os.listdir(service._reader._folder)
        async with Client(build_mcp(service, local=True), extensions=SHOWS_APPS) as mcp:
            for height in (20, 20, 30, 20):
                facts(await mcp.call_tool("ocr_image", {"image": as_base64(png(40, height))}))
            assert len(os.listdir(folder)) == 2


async def test_an_answer_and_its_document_are_forgotten_when_their_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "KEEP_S", 0.0)
    async with running() as service, Client(build_mcp(service, local=True), extensions=SHOWS_APPS) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": PAGE})
        await anyio.wait_all_tasks_blocked()
        assert os.listdir(service._reader._kept_folder) == []
        answer = await mcp.call_tool("ocr_page", {"result": name_of(result), "page": 1})
        assert "no such result" in said(answer)


async def test_a_kept_document_goes_with_its_last_holder() -> None:
    request = OcrRequest(image=PAGE)
    async with running() as service:
        first = (await service.ocr(request, Caller(), Terms(keep_document=True))).kept_document
        second = (await service.ocr(request, Caller(), Terms(keep_document=True))).kept_document
        assert first is not None
        assert first is second
        first.let_go()
        async with service.opened(first) as document:
            assert document.page_count == 1
        first.let_go()
        assert os.listdir(service._reader._kept_folder) == []
        with pytest.raises(InputNotFound, match="not kept any more"):
            async with service.opened(first):
                pass
        again = (await service.ocr(request, Caller(), Terms(keep_document=True))).kept_document
        assert again is not first


async def test_without_the_name_of_an_answer_nothing_is_shown() -> None:
    async with client(apps=True) as mcp:
        await mcp.call_tool("ocr_image", {"image": PAGE})
        for name in ("", "x", "A" * 22, "../../etc/passwd"):
            refused = await mcp.call_tool("ocr_page", {"result": name, "page": 1})
            assert refused.is_error
            assert "no such result" in said(refused)
            assert (refused.meta or {})["deepseek-ocr/error"]["remedy"] == "Call ocr_image again."


async def test_a_refusal_tells_the_app_code_message_and_remedy() -> None:
    async with client(apps=True) as mcp, client() as other:
        refused = await mcp.call_tool("ocr_image", {"image": "/nowhere/at/all.png"})
        plain = await other.call_tool("ocr_image", {"image": "/nowhere/at/all.png"})
    assert refused.is_error
    assert said(refused) == said(plain)
    error = (refused.meta or {})["deepseek-ocr/error"]
    assert error["code"] == "input_not_found"
    assert f"{error['message']} {error['remedy']}" == said(refused)


@pytest.mark.parametrize("mode", ERAS)
async def test_over_http_it_is_the_same(mode: str) -> None:
    with http_server("writers:Scholar") as server:
        async with http_client(server, mode=mode, apps=True) as mcp:
            result = await mcp.call_tool("ocr_image", {"image": PAGE})
            assert (await shown(mcp, result))[0].size == (400, 560)
            assert len((await mcp.list_tools()).tools) == 6
        async with http_client(server, mode=mode) as other:
            assert len((await other.list_tools()).tools) == 5
            assert (await other.list_resources()).resources == []


# -- the document


def test_the_document_is_whole_and_asks_nobody_for_anything() -> None:
    html = apps.view_html()
    assert len(html.encode()) < 700_000
    outside = re.sub(r"<script[^>]*>.*?</script>|<style>.*?</style>", "", html, flags=re.DOTALL)
    assert not re.search(r"\b(?:src|href)=\"(?!#)", outside)
    assert not re.search(r"https?://(?!www\.w3\.org/)", outside)
    assert html.count("<script") == html.count("</script>") == 4
    assert html.count('<svg class="sprite"') == 1
    assert "&quot;rapidocr&quot;: &quot;RapidOCR&quot;" in html[: html.index("<head>")]  # it may not ask for the names
    styles = "".join(re.findall(r"<style>.*?</style>", html, flags=re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles
    ours = html[html.rindex("<script") :]
    assert not re.search(r"\bimport\b[^.\n]*[(\"']|\bfetch\(|XMLHttpRequest|WebSocket|EventSource|\beval\(", ours)
    assert "innerHTML" not in ours


async def test_it_is_made_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(apps, "VIEW", tmp_path / "nothing")
    async with client(apps=True) as mcp:
        [listed] = (await mcp.list_resources()).resources
        facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
        with pytest.raises(MCPError):
            await mcp.read_resource(listed.uri)


def test_modules_become_one_in_the_order_they_need_each_other(tmp_path: Path) -> None:
    (tmp_path / "entry.js").write_text('import { two as second } from "./deep/one.js";\n')
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one.js").write_text(
        'import words from "../words.js";\nexport const two = words.n;\nexport async function $three() {}\n'
    )
    (tmp_path / "words.js").write_text("export default { n: 2 };\n")
    (tmp_path / "others.js").write_text("export default { n: 3 };\n")
    made = apps.bundled(tmp_path / "entry.js", {})
    assert made.index("n: 2") < made.index("const two") < made.index("two: second")
    assert "return { two, $three };" in made
    assert "n: 3" in apps.bundled(tmp_path / "entry.js", {tmp_path / "words.js": tmp_path / "others.js"})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("export { x };", "cannot be put into one document"),
        ('import "./other.js";', "cannot be put into one document"),
        ('const x = await import("./other.js");', "cannot be put into one document"),
        ('import { x } from "./entry.js";', "import each other"),
    ],
)
def test_a_module_that_cannot_be_bundled_is_named(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "entry.js").write_text(f"{text}\n")
    with pytest.raises(ValueError, match=problem):
        apps.bundled(tmp_path / "entry.js", {})

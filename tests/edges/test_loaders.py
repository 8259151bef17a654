"""The paths for other programs: Open WebUI's external document loader, and clients of docling-serve."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from support import BOUND_S, HttpServer, Servers, echo, png, tiff

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(serve: Servers) -> HttpServer:
    return serve(OCR_MAX_FILE_MB="6")


@pytest.fixture
async def http(server: HttpServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.root, timeout=BOUND_S) as made:
        yield made


async def test_open_webui_gets_each_page_with_its_place_in_the_document(http: httpx2.AsyncClient) -> None:
    headers = {"Content-Type": "image/tiff", "X-Filename": "scan%20%C3%A4.tif"}
    pages = (await http.put("/process", content=tiff(20, 30), headers=headers)).json()
    assert [page["page_content"] for page in pages] == [echo(), echo(40, 30)]
    assert pages[1]["metadata"] == {
        "source": "scan ä.tif",
        "page": 2,
        "pages": 2,
        "engine": "Echo",
        "notes": "",
    }
    broken = await http.put("/process", content=b"%PDF-1.7 and then nothing", headers={"X-Filename": "a.pdf"})
    assert (broken.status_code, broken.json()["error"]["code"]) == (415, "unreadable_input")
    assert (await http.put("/process", content=b"")).status_code == 415


async def test_a_client_of_docling_serve_gets_markdown(http: httpx2.AsyncClient) -> None:
    form = {"to_formats": "md", "do_ocr": "true"}
    answer = await http.post("/v1/convert/file", data=form, files={"files": ("page.png", png())})
    body = answer.json()
    assert body["document"] == {"filename": "page.png", "md_content": echo()}
    assert (body["status"], body["errors"]) == ("success", [])
    html = await http.post("/v1/convert/file", data={"to_formats": "html"}, files={"files": ("page.png", png())})
    assert html.status_code == 422


async def test_a_client_of_docling_serve_that_asks_for_some_pages_is_not_given_all(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/convert/file", data={"page_range": "2"}, files={"files": ("a.png", png())})
    assert answer.status_code == 422
    assert "page_range" in answer.json()["error"]["message"]

"""Documents that are sent once: forms, pieces that go on after a cut, whom they belong to, and how many are kept."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator

import anyio
import httpx2
import pypdfium2
import pytest
from starlette.requests import Request

from deepseek_ocr_mcp.edges.http.uploads import KEPT_S, Uploads
from deepseek_ocr_mcp.errors import InputNotFound, InputTooLarge
from locked_pdf import locked_pdf
from pdf_maker import born_digital
from support import BOUND_S, HttpServer, Servers, echo, png, running, tiff

pytestmark = pytest.mark.anyio

PIECE = "application/offset+octet-stream"
PAGE = png()


@pytest.fixture
def server(serve: Servers) -> HttpServer:
    return serve(OCR_MAX_FILE_MB="6", OCR_LOG_LEVEL="info")


@pytest.fixture
async def http(server: HttpServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.root, timeout=BOUND_S) as made:
        yield made


async def sent(http: httpx2.AsyncClient, data: bytes = PAGE, name: str = "page.png") -> str:
    """The name of a document that was sent in a form."""
    answer = await http.post("/documents", files={"file": (name, data)})
    assert answer.status_code == 201, answer.text
    facts = answer.json()
    assert facts | {"document": ""} == {
        "document": "",
        "name": name,
        "size": len(data),
        "received": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return str(facts["document"])


def begun(data: bytes, size: int, name: str = "page.png") -> dict[str, str]:
    """The headers that begin an upload."""
    return {
        "Upload-Length": str(size),
        "Upload-Metadata": f"filename {base64.b64encode(name.encode()).decode()}",
        "Content-Type": PIECE,
        "Tus-Resumable": "1.0.0",
    }


# -- once sent, never again


async def test_a_document_is_read_shown_and_exported_by_its_name(http: httpx2.AsyncClient) -> None:
    data = tiff(20, 30)
    name = await sent(http, data, "two.tif")
    by_json = await http.post("/ocr", json={"document": name})
    assert by_json.json()["text"] == f"{echo()}\n\n{echo(40, 30)}"
    form = {"document": (None, name), "pages": (None, "2"), "boxes": (None, "true")}
    by_form = await http.post("/ocr", files=form)
    assert by_form.json()["text"] == echo(40, 30)
    picture = await http.post(f"/preview?page=2&document={name}")
    assert (picture.status_code, picture.headers["x-page-count"]) == (200, "2")
    pictures = await http.post("/pdf-to-images", files={"document": (None, name)})
    assert len(pictures.json()["images"]) == 2
    given = {"format": "pdf", "document": name, "pages": by_form.json()["pages"]}
    assert (await http.post("/export", json=given)).content.startswith(b"%PDF-")


async def test_a_message_names_the_file_as_its_own_client_did(http: httpx2.AsyncClient) -> None:
    broken = b"%PDF-1.7 and then nothing"
    await sent(http, broken, "somebody else's.pdf")
    answer = await http.post("/ocr", json={"document": await sent(http, broken, "mine.pdf")})
    assert "mine.pdf" in answer.json()["error"]["message"]


async def test_a_document_that_was_let_go_is_not_there_any_more(http: httpx2.AsyncClient) -> None:
    name = await sent(http)
    assert (await http.delete(f"/documents/{name}")).status_code == 204
    for answer in (
        await http.post("/ocr", json={"document": name}),
        await http.post(f"/preview?document={name}"),
        await http.delete(f"/documents/{name}"),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "input_not_found"


async def test_json_names_one_source_and_no_more(http: httpx2.AsyncClient) -> None:
    for body in ({}, {"document": "x", "image": "y"}):
        answer = await http.post("/ocr", json=body)
        assert answer.status_code == 422
        assert "either `image` or `document`" in answer.json()["error"]["message"]


async def test_a_form_with_a_file_names_no_other_document(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/ocr", data={"document": "x"}, files={"file": ("a.png", png())})
    assert answer.status_code == 422
    assert "names another document" in answer.json()["error"]["message"]


async def test_several_documents_become_one_searchable_pdf(http: httpx2.AsyncClient) -> None:
    parts = []
    for data, file, more in ((tiff(20, 30), "two.tif", {}), (LOCKED, "locked.pdf", {"password": WORD})):
        name = await sent(http, data, file)
        read = (await http.post("/ocr", json={"document": name, "boxes": "words", **more})).json()
        parts.append({"document": name, "pages": read["pages"], **more})
    answer = await http.post("/export", json={"format": "pdf", "title": "all", "parts": parts})
    assert answer.headers["content-disposition"] == 'attachment; filename="all.pdf"'
    with pypdfium2.PdfDocument(answer.content) as made:
        texts = [page.get_textpage().get_text_range().strip() for page in made]
    assert texts[:2] == [echo(), echo(40, 30)]
    assert texts[2].startswith("Secret Title")
    for body, word in (
        ({"parts": parts, "format": "docx"}, "make a pdf"),
        ({"parts": parts, "pages": parts[0]["pages"]}, "either"),
        ({}, "either"),
    ):
        assert word in refusal(await http.post("/export", json=body), 422)["message"]


# -- locked with a password

WORD = "open sesame"
LOCKED = locked_pdf(born_digital("Secret Title"), user=WORD)


def refusal(answer: httpx2.Response, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    error: dict[str, str] = answer.json()["error"]
    return error


async def test_a_locked_document_is_read_with_the_password_of_the_request(http: httpx2.AsyncClient) -> None:
    file = {"file": ("locked.pdf", LOCKED, "application/pdf")}
    assert refusal(await http.post("/ocr", files=file), 415)["code"] == "password_needed"
    by_form = await http.post("/ocr", data={"password": WORD, "boxes": "words"}, files=file)
    assert "Secret Title" in by_form.json()["text"]
    assert WORD not in by_form.text
    by_json = {"image": base64.b64encode(LOCKED).decode(), "password": WORD}
    assert (await http.post("/ocr", json=by_json)).json()["text"] == by_form.json()["text"]
    # What is in the cache by now is for nobody who lacks the password.
    for data in ({}, {"password": "open barley"}):
        error = refusal(await http.post("/ocr", data=data, files=file), 415)
        assert error["code"] == "password_needed"
        assert "barley" not in json.dumps(error)
    assert (await http.post("/preview", data={"password": WORD}, files=file)).status_code == 200
    assert refusal(await http.post("/preview", files=file), 415)["code"] == "password_needed"
    given = {"result": by_form.text, "password": WORD}
    assert (await http.post("/export", data=given, files=file)).content.startswith(b"%PDF-")


async def test_the_password_of_a_document_is_given_once_and_is_in_no_log(
    server: HttpServer, http: httpx2.AsyncClient
) -> None:
    name = await sent(http, LOCKED, "locked.pdf")
    other = await sent(http, LOCKED, "locked.pdf")
    place = f"/documents/{name}/password"
    assert refusal(await http.post(place, json={"password": "open barley"}), 415)["code"] == "password_needed"
    assert refusal(await http.post("/ocr", json={"document": name}), 415)["code"] == "password_needed"
    assert (await http.post(place, json={"password": WORD})).status_code == 204
    assert "Secret Title" in (await http.post("/ocr", json={"document": name})).json()["text"]
    assert (await http.post(f"/preview?document={name}")).status_code == 200
    assert refusal(await http.post("/ocr", json={"document": other}), 415)["code"] == "password_needed"
    assert refusal(await http.post("/documents/none/password", json={"password": WORD}), 404)
    assert "password is missing" in refusal(await http.post(place, json={}), 422)["message"]
    server.until_logged("An HTTP request has ended.", "404")
    assert not any("sesame" in line or "barley" in line for line in server.log)


# -- piece by piece


async def test_another_version_of_tus_is_refused_with_the_one_that_is_spoken(http: httpx2.AsyncClient) -> None:
    other = begun(PAGE, len(PAGE)) | {"Tus-Resumable": "0.2.2"}
    answer = await http.post("/documents", headers=other, content=PAGE)
    assert (answer.status_code, answer.headers["tus-version"]) == (412, "1.0.0")
    assert answer.json()["error"]["code"] == "wrong_tus_version"
    assert (await http.head("/documents/x", headers={"Tus-Resumable": "2.0.0"})).status_code == 412


async def test_an_upload_goes_on_where_it_was_cut(server: HttpServer, http: httpx2.AsyncClient) -> None:
    data = png(400, 300)
    first = await http.post("/documents", headers=begun(data, len(data)), content=data[:100])
    assert (first.status_code, first.headers["upload-offset"]) == (201, "100")
    place = first.headers["location"]
    early = await http.post("/ocr", json={"document": first.json()["document"]})
    assert f"100 of {len(data)} bytes" in early.json()["error"]["message"]

    wrong = await http.patch(place, headers={"Content-Type": PIECE, "Upload-Offset": "50"}, content=data[50:])
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (409, "wrong_offset")

    class Cut(Exception):
        pass

    async def cut() -> AsyncIterator[bytes]:
        yield data[100:200]
        await anyio.sleep(0.2)
        raise Cut

    with pytest.raises((Cut, httpx2.HTTPError)):
        await http.patch(place, headers={"Content-Type": PIECE, "Upload-Offset": "100"}, content=cut())
    with anyio.fail_after(BOUND_S):
        while (seen := await http.head(place)).headers["upload-offset"] != "200":
            await anyio.sleep(0.05)
    assert seen.headers["upload-length"] == str(len(data))
    rest = await http.patch(place, headers={"Content-Type": PIECE, "Upload-Offset": "200"}, content=data[200:])
    assert (rest.status_code, rest.headers["upload-offset"]) == (204, str(len(data)))
    name = first.json()["document"]
    assert (await http.post("/ocr", json={"document": name})).json()["text"] == echo(400, 300)
    server.until_logged("PATCH", "/documents/")
    assert not any(name in line for line in server.log)  # whoever reads the log cannot read the document


async def test_an_upload_that_is_too_long_or_says_no_length_is_refused(http: httpx2.AsyncClient) -> None:
    more = await http.post("/documents", headers=begun(PAGE, 10), content=PAGE)
    assert more.status_code == 413
    large = await http.post("/documents", headers=begun(PAGE, 7 << 20))
    assert large.status_code == 413
    for headers in ({}, {"Upload-Length": "many"}, {"Upload-Length": "-5"}):
        assert (await http.post("/documents", headers=headers)).status_code == 422
    empty = await http.post("/documents", headers={"Upload-Length": "0"})
    assert (empty.status_code, empty.json()["error"]["message"]) == (415, "The document is empty.")
    told = await http.options("/documents")
    assert told.headers["tus-version"] == "1.0.0"
    assert told.headers["tus-max-size"] == str(6 << 20)


# -- whose they are, and how many there may be


def request(client: str, size: int) -> Request:
    """A request of this client that begins an upload."""
    headers = [(b"upload-length", str(size).encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers, "client": (client, 1)})


async def test_a_document_is_its_own_clients_alone() -> None:
    async with running() as service:
        uploads = Uploads(service)
        async with uploads.running():
            mine = await uploads.begin(request("10.0.0.1", 10))
            assert uploads.get(mine.name, "http 10.0.0.1") is mine
            with pytest.raises(InputNotFound):
                uploads.get(mine.name, "http 10.0.0.2")
            with pytest.raises(InputTooLarge):
                await uploads.begin(request("10.0.0.1", uploads.max_file_bytes + 1))


async def test_the_oldest_documents_of_a_client_make_room_for_its_new_ones() -> None:
    size = 1 << 20
    async with running(ocr_max_file_mb=1) as service:
        uploads = Uploads(service, max_bytes=8 * size)
        async with uploads.running():
            others = await uploads.begin(request("10.0.0.2", size))
            mine = [await uploads.begin(request("10.0.0.1", size)) for _ in range(4)]
            uploads.get(mine[0].name, "http 10.0.0.1")  # asked for again, so it stays
            mine.append(await uploads.begin(request("10.0.0.1", size)))
            assert [each.name in uploads._documents for each in mine] == [True, False, True, True, True]
            assert others.name in uploads._documents
            with pytest.raises(InputNotFound):
                uploads.get(mine[1].name, "http 10.0.0.1")


async def test_a_document_goes_an_hour_after_its_last_use() -> None:
    now = 0.0
    async with running() as service:
        uploads = Uploads(service, clock=lambda: now)
        async with uploads.running():
            used, left = [await uploads.begin(request("10.0.0.1", 10)) for _ in range(2)]
            now = KEPT_S - 1
            uploads.get(used.name, "http 10.0.0.1")
            now = KEPT_S + 1
            await uploads.expire()
            assert uploads.get(used.name, "http 10.0.0.1") is used
            with pytest.raises(InputNotFound):
                uploads.get(left.name, "http 10.0.0.1")

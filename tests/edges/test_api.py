"""The HTTP API against a real server: shapes, errors, progress, who may ask, and what happens when somebody leaves."""

from __future__ import annotations

import base64
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import httpx2
import pypdfium2
import pytest
from PIL import Image

from support import (
    BOUND_S,
    HttpServer,
    Servers,
    as_base64,
    echo,
    facts,
    http_client,
    http_server,
    png,
    said,
    tiff,
    until_answer,
    until_queue,
    until_reading,
)

pytestmark = pytest.mark.anyio

TOKEN = "a long random string"
FILE = {"file": ("page.png", png(), "image/png")}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


@pytest.fixture
def server(serve: Servers) -> HttpServer:
    return serve(OCR_MAX_FILE_MB="6")


@pytest.fixture
def guarded(serve: Servers) -> HttpServer:
    return serve(OCR_AUTH_TOKEN=TOKEN, OCR_ALLOWED_HOSTS="ocr.example.org", OCR_CORS_ORIGINS="https://app.example.org")


@pytest.fixture
def patient(serve: Servers) -> HttpServer:
    """Reads for ever, and takes three requests, one of a client."""
    return serve("Patient", OCR_MAX_QUEUE="3", OCR_UPLOAD_TIMEOUT="2")


@pytest.fixture
def steady(serve: Servers) -> HttpServer:
    """Takes a twentieth of a second for a page."""
    return serve("Steady")


@pytest.fixture
def real(serve: Servers) -> HttpServer:
    return serve("rapidocr")


@pytest.fixture
async def http(server: HttpServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.root, timeout=BOUND_S) as made:
        yield made


def refused(answer: httpx2.Response, status: int, code: str) -> dict[str, str]:
    """The error of an answer that is one: status, code, and the body that all errors have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    error: dict[str, str] = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"code", "message", "remedy"}
    assert error["code"] == code
    assert error["message"]
    assert error["remedy"]
    return error


async def events(answer: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
    """The server-sent events of an answer, one after the other."""
    name = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
        else:
            assert line in ("", ": ping"), line


@asynccontextmanager
async def stream(
    http: httpx2.AsyncClient, path: str = "/ocr", **request: Any
) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    headers = {"Accept": "text/event-stream"}
    async with http.stream("POST", path, headers=headers, **({"files": FILE} | request)) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield events(answer)


@asynccontextmanager
async def asking(server: HttpServer) -> AsyncIterator[tuple[httpx2.AsyncClient, anyio.abc.TaskGroup]]:
    """A client, and tasks that it leaves alone at the end; nobody waits before or after."""
    async with httpx2.AsyncClient(base_url=server.root, timeout=BOUND_S) as http:
        await until_queue(http, 0)
        async with anyio.create_task_group() as tasks:
            yield http, tasks
            tasks.cancel_scope.cancel()
        await until_queue(http, 0)


# -- the first service's own requests and answers


async def test_what_the_first_service_was_asked_is_answered_as_it_did(http: httpx2.AsyncClient) -> None:
    form = {"prompt_type": "ocr", "find_term": "", "custom_prompt": "", "grounding": "true"}
    answer = await http.post("/ocr", data=form, files=FILE)
    assert answer.status_code == 200
    body = answer.json()
    assert {
        "success": True,
        "text": echo(),
        "raw_text": echo(),
        "boxes": [{"label": "line", "box": [0, 0, 40, 20]}],
        "image_dims": {"w": 40, "h": 20},
        "prompt_type": "ocr",
        "metadata": {"mode": "ocr", "grounding": True, "has_boxes": True, "engine": "Echo"},
    }.items() <= body.items()


async def test_the_first_services_find_request(real: HttpServer) -> None:
    page = Path(__file__).parents[2] / "examples" / "pages" / "receipt.png"
    form = {"prompt_type": "find", "find_term": "TOTAL", "grounding": "false"}
    async with httpx2.AsyncClient(base_url=real.root, timeout=60) as client:
        answer = await client.post("/ocr", data=form, files={"file": ("r.png", page.read_bytes(), "image/png")})
    body = answer.json()
    with Image.open(page) as image:
        assert body["image_dims"] == {"w": image.width, "h": image.height}
    assert body["metadata"] == {"mode": "find", "grounding": False, "has_boxes": True, "engine": "rapidocr"}
    assert all(box["label"] == "TOTAL" and len(box["box"]) == 4 for box in body["boxes"])
    assert len(body["boxes"]) >= 1


async def test_the_first_services_documents(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/ocr-pdf", data={"prompt_type": "document"}, files={"file": ("a.tif", tiff(20, 30))})
    body = answer.json()
    assert body["success"] is True
    assert body["merged_text"] == f"{echo(40, 20)}\n\n{echo(40, 30)}"
    assert [page["page"] for page in body["pages"]] == [1, 2]
    assert body["page_count"] == 2


async def test_the_first_services_pictures_of_pages(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/pdf-to-images", files={"file": ("a.pdf", pdf(pages=2), "application/pdf")})
    body = answer.json()
    assert (body["success"], body["page_count"]) == (True, 2)
    assert [image["page"] for image in body["images"]] == [1, 2]
    head, _, data = body["images"][0]["data"].partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == (400, 600)  # 200 by 300 points at 144 dpi
    answer = await http.post("/pdf-to-images", data={"pages": "2"}, files={"file": ("a.pdf", pdf(pages=2))})
    assert [image["page"] for image in answer.json()["images"]] == [2]


async def test_the_first_services_gpu_api(http: httpx2.AsyncClient) -> None:
    await http.post("/ocr", files=FILE)
    status = (await http.get("/gpu/status")).json()
    assert {"model_location", "idle_time", "timeout", "device", "allocated", "reserved"} <= set(status)
    assert status["model_location"] == "cpu"
    assert status["ready_state"] == "host"
    assert status["timeout"] == 60
    assert status["allocated"] is None
    assert (await http.post("/gpu/offload")).json()["success"] is True
    released = (await http.post("/gpu/release")).json()
    assert (released["success"], released["from"], released["to"]) == (True, "host", "unloaded")
    assert (await http.get("/gpu/status")).json()["model_location"] == "unloaded"
    health = (await http.get("/health")).json()
    assert health["status"] == "ok"


# -- reading


async def test_json_and_forms_are_answered_alike(http: httpx2.AsyncClient) -> None:
    form = (await http.post("/ocr", data={"boxes": "true"}, files=FILE)).json()
    asked = {"image": as_base64(png()), "boxes": True}
    by_json = (await http.post("/ocr", json=asked)).json()
    for answer in (form, by_json):
        answer.pop("timing")
    assert form == by_json
    assert form["pages"][0]["blocks"] == [
        {"label": "line", "text": echo(), "box": [0, 0, 40, 20], "score": 1.0},
    ]


async def test_blocks_boxes_and_the_models_own_words_come_where_they_are_asked_for() -> None:
    with http_server("Drawing") as server:
        async with httpx2.AsyncClient(base_url=server.root, timeout=BOUND_S) as http:
            plain = (await http.post("/ocr", files=FILE)).json()
            asked = (await http.post("/ocr", data={"raw": "1", "boxes": "on", "annotate": "yes"}, files=FILE)).json()
    assert plain["raw_text"].startswith("<|ref|>image<|/ref|>")
    assert plain["boxes"] == []
    assert not {"blocks", "raw"} & set(plain["pages"][0])
    assert "images" not in plain
    assert asked["pages"][0]["raw"] == plain["raw_text"]
    assert asked["boxes"] == [{"label": "image", "box": [20, 10, 40, 20]}]
    [image] = asked["images"]
    Image.open(io.BytesIO(base64.b64decode(image["data"]))).close()


async def test_pages_and_max_chars_say_how_to_go_on(http: httpx2.AsyncClient) -> None:
    file = {"file": ("a.tif", tiff(20, 30, 40))}
    body = (await http.post("/ocr", data={"pages": "2-", "max_chars": "20"}, files=file)).json()
    assert [page["page"] for page in body["pages"]] == [2]
    assert body["image_dims"] == {"w": 40, "h": 30}
    assert (body["truncated"], body["next_pages"]) == (True, "3")
    assert any("3" in note["text"] + note["pages"] for note in body["notes"])


async def test_progress_comes_as_events_and_the_answer_is_the_last(steady: HttpServer) -> None:
    document = {"file": ("a.tif", tiff(*range(20, 32)))}
    async with (
        httpx2.AsyncClient(base_url=steady.root, timeout=BOUND_S) as http,
        stream(http, "/ocr-pdf", files=document) as told,
    ):
        got = [event async for event in told]
    assert got[-1][0] == "result"
    assert {name for name, _ in got[:-1]} == {"page", "progress"}
    answered = got[-1][1]["pages"]
    assert len(answered) == 12
    assert [data for name, data in got if name == "page"] == answered  # each as soon as it is read
    steps = [data for name, data in got if name == "progress"]
    done = [step["done"] for step in steps]
    assert done == sorted(set(done))
    assert {step["total"] for step in steps} == {12.0}
    assert all(set(step) == {"done", "total", "message"} for step in steps)


async def test_an_error_while_events_are_told_is_an_event(http: httpx2.AsyncClient) -> None:
    async with stream(http, files={"file": ("a.txt", b"no picture at all, but words")}) as told:
        got = [event async for event in told]
    [(name, data)] = got
    assert name == "error"
    assert data["status"] == 415
    assert set(data["error"]) == {"code", "message", "remedy"}
    assert "a.txt" in data["error"]["message"]


async def test_a_fault_of_the_engine_is_an_error_in_both_forms() -> None:
    with http_server("Broken") as server:
        async with httpx2.AsyncClient(base_url=server.root, timeout=BOUND_S) as http:
            refused(await http.post("/ocr", files=FILE), 500, "internal")
            async with stream(http) as told:
                got = [event async for event in told]
    assert [name for name, _ in got][-1] == "error"
    assert got[-1][1]["status"] == 500


# -- what is refused


@pytest.mark.parametrize(
    ("request_", "status", "code", "word"),
    [
        ({"json": {"image": "x", "colour": "red"}}, 422, "bad_request", "colour"),
        ({"json": {"mode": "ocr"}}, 422, "bad_request", "image"),
        ({"json": {"image": as_base64(png()), "max_chars": -1}}, 422, "bad_request", "max_chars"),
        ({"json": [1]}, 422, "bad_request", "body"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 422, "bad_request", "JSON"),
        ({"json": {"image": "/etc/passwd"}}, 403, "input_forbidden", "OCR_ALLOWED_DIRS"),
        ({"json": {"image": "https://example.org/a.png"}}, 403, "input_forbidden", "OCR_ALLOW_URLS"),
        ({"files": FILE, "data": {"mode": "sing"}}, 422, "bad_request", "sing"),
        ({"files": FILE, "data": {"mode": "find"}}, 422, "bad_request", "find_term"),
        ({"files": FILE, "data": {"boxes": "perhaps"}}, 422, "bad_request", "boxes"),
        ({"files": FILE, "data": {"pages": "9"}}, 422, "bad_request", "page"),
        ({"files": {"file": ("a.png", b"")}}, 415, "unreadable_input", "empty"),
        ({"files": {"file": ("a.png", png()[:60])}}, 415, "unreadable_input", "a.png"),
        ({"files": {"file": ("a.zip", b"PK\x03\x04" + bytes(200))}}, 415, "unreadable_input", "ZIP"),
        ({"files": {"picture": ("a.png", png())}}, 422, "bad_request", "picture"),
        ({"files": [("file", ("a.png", png())), ("file", ("b.png", png()))]}, 422, "bad_request", "more than one"),
        ({"data": {"mode": "ocr"}, "files": {}}, 415, "unreadable_input", "x-www-form-urlencoded"),
        ({"content": b"\x89PNG", "headers": {"Content-Type": "image/png"}}, 415, "unreadable_input", "image/png"),
        ({"content": b"\x89PNG"}, 415, "unreadable_input", "no stated type"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 422, "bad_request", "boundary"),
        (
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
            422,
            "bad_request",
            "multipart",
        ),
        (
            {
                "content": b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc',
                "headers": {"Content-Type": "multipart/form-data; boundary=b"},
            },
            422,
            "bad_request",
            "end is missing",
        ),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_what_to_do(
    http: httpx2.AsyncClient, request_: dict[str, Any], status: int, code: str, word: str
) -> None:
    for path in ("/ocr", "/ocr-pdf"):
        error = refused(await http.post(path, **request_), status, code)
        assert word.lower() in f"{error['message']} {error['remedy']}".lower()


async def test_a_field_of_the_first_pages_without_effect_is_named_in_a_note(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/ocr", data={"base_size": "1024", "mode": ""}, files=FILE)
    assert answer.json()["mode"] == "document"
    assert [(note["code"], note["text"][:22]) for note in answer.json()["notes"]] == [
        ("argument_unused", "base_size was not used")
    ]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"boxs": "lines"}, "There is no field 'boxs': did you mean boxes?"),
        ({"xyz": "1"}, "There is no field 'xyz'. There are mode, find_term, "),
        ({"boxes": "perhaps"}, "boxes='perhaps' is not one of 'none', 'lines' or 'words'."),
        ({"max_chars": "many"}, "max_chars='many' is no whole number."),
        ({"max_chars": "-1"}, "max_chars='-1' is less than 0."),
        ({"annotate": "si"}, "annotate='si' is neither true nor false."),
        ({"password": "p" * 2000}, "password is too long: 1000 at most."),
    ],
)
async def test_a_refusal_names_the_field_what_was_sent_and_what_is_allowed(
    http: httpx2.AsyncClient, fields: dict[str, str], sentence: str
) -> None:
    error = refused(await http.post("/ocr", data=fields, files=FILE), 422, "bad_request")
    assert sentence in error["message"]
    refused(await http.post("/ocr", json={"image": as_base64(png()), **fields}), 422, "bad_request")


async def test_an_address_that_leads_nowhere_and_a_method_that_is_not_answered(http: httpx2.AsyncClient) -> None:
    for path in ("/nothing", "/static/nothing.js", "/static/../http.py", "/static/%2e%2e/http.py", "/ocr/x"):
        refused(await http.get(path), 404, "not_found")
    for method, path in (("GET", "/ocr"), ("PUT", "/ocr"), ("POST", "/health"), ("DELETE", "/gpu/status")):
        answer = await http.request(method, path)
        refused(answer, 405, "method_not_allowed")
        assert answer.headers["allow"]


async def test_a_query_that_cannot_be_meant(http: httpx2.AsyncClient) -> None:
    error = refused(await http.post("/gpu/release?force=perhaps"), 422, "bad_request")
    assert "force" in error["message"]
    refused(await http.post("/gpu/release", json={"force": "perhaps"}), 422, "bad_request")
    refused(await http.post("/preview?side=63", files=FILE), 422, "bad_request")


@pytest.mark.parametrize("name", ["../../../../etc/cron.d/x", "C:\\windows\\x", "/etc/passwd", "", "\x00\n", "ä" * 300])
async def test_the_name_of_a_file_is_nothing_but_a_name(http: httpx2.AsyncClient, name: str) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
        + name.encode()
        + b'"\r\n\r\nnothing that is read, only words\r\n--b--\r\n'
    )
    answer = await http.post("/ocr", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    message = refused(answer, 415, "unreadable_input")["message"]
    assert "/" not in message
    assert "\\" not in message.replace("\\x00\\n", "")  # control characters are shown escaped
    assert len(message) < 250


# -- how much, how fast


async def test_a_file_over_the_limit_is_refused_as_it_comes(http: httpx2.AsyncClient, server: HttpServer) -> None:
    largest = png() + bytes(6 * 1024 * 1024 - len(png()))
    assert (await http.post("/ocr", files={"file": ("a.png", largest)})).json()["text"] == echo()
    error = refused(await http.post("/ocr", files={"file": ("a.png", largest + b"x")}), 413, "input_too_large")
    assert "6 MiB" in error["message"]
    too_long = {"custom_prompt": "x" * 70_000}
    refused(await http.post("/ocr", data=too_long, files=FILE), 413, "input_too_large")
    await until_queue(http, 0)


async def test_a_body_that_says_how_large_it_is_is_refused_before_it_comes(
    http: httpx2.AsyncClient, server: HttpServer
) -> None:
    answer = await http.post("/ocr", content=bytes(9 * 1024 * 1024), headers={"Content-Type": "application/json"})
    refused(answer, 413, "input_too_large")


async def raw(root: str, head: str, pieces: AsyncIterator[bytes]) -> tuple[int, dict[str, Any], bool]:
    """Send a request by hand and hear the answer meanwhile, as curl does: status, error, whether it was cut."""
    host, port = root.removeprefix("http://").split(":")
    received, closed = b"", False
    async with await anyio.connect_tcp(host, int(port)) as connection, anyio.create_task_group() as tasks:

        async def send() -> None:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await connection.send(head.encode())
                async for piece in pieces:
                    await connection.send(piece)

        tasks.start_soon(send)
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                received += await connection.receive()
        closed = True
        tasks.cancel_scope.cancel()
    start, _, body = received.partition(b"\r\n\r\n")
    return int(start.split()[1]), json.loads(body)["error"], closed


HEAD = "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: application/json\r\n{}\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "status"), [("/ocr", 413), ("/mcp", 413), ("/gpu/release", 413), ("/nothing", 404), ("/health", 405)]
)
async def test_a_body_without_an_end_is_cut(server: HttpServer, path: str, status: int) -> None:
    """By its size where it is read, and soon where it is not: no connection lives by sending."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"10000\r\n" + b" " * 65536 + b"\r\n"

    with anyio.fail_after(BOUND_S):
        answer = await raw(server.root, HEAD.format(path, "Transfer-Encoding: chunked"), endless())
    assert (answer[0], answer[2]) == (status, True)


@pytest.mark.parametrize("path", ["/ocr", "/mcp", "/gpu/release"])
async def test_a_body_that_stalls_is_cut(patient: HttpServer, path: str) -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield b"{"
        await anyio.sleep_forever()

    with anyio.fail_after(BOUND_S):
        status, error, closed = await raw(patient.root, HEAD.format(path, "Content-Length: 1000"), stalling())
    assert (status, error["code"], closed) == (408, "slow_upload", True)


# -- clients that leave


async def test_who_hangs_up_stops_the_work(patient: HttpServer) -> None:
    async with asking(patient) as (http, _):
        for accept in ("application/json", "text/event-stream"):
            async with anyio.create_task_group() as tasks:

                async def ask(accept: str = accept) -> None:
                    async with httpx2.AsyncClient(base_url=patient.root, timeout=BOUND_S) as leaving:
                        await leaving.post("/ocr", files=FILE, headers={"Accept": accept})

                tasks.start_soon(ask)
                await until_reading(http)
                tasks.cancel_scope.cancel()
            await until_queue(http, 0)
            assert (await http.post("/gpu/release")).json()["to"] == "unloaded"  # not busy
            assert (await http.get("/gpu/status")).json()["last_error"] == ""  # nor killed


async def test_who_hangs_up_in_the_middle_of_its_upload_leaves_nothing(
    server: HttpServer, http: httpx2.AsyncClient
) -> None:
    host, port = server.root.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(
        b"POST /ocr HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        b'Content-Length: 9999\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
    )
    await until_queue(http, 1)
    connection.close()
    await until_queue(http, 0)
    assert not any("Traceback" in line for line in server.log)


async def test_a_request_that_is_stopped_by_force_hears_so(patient: HttpServer) -> None:
    async with asking(patient) as (http, _):
        answers: list[httpx2.Response] = []

        async def ask() -> None:
            answers.append(await http.post("/ocr", files=FILE))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await until_reading(http)
            assert (await http.post("/gpu/release", json={"force": True})).json()["to"] == "unloaded"
    refused(answers[0], 503, "cancelled")


# -- the queue


async def test_a_full_queue_refuses_on_every_edge_and_says_when_to_come_again(patient: HttpServer) -> None:
    async with asking(patient) as (http, tasks):
        tasks.start_soon(lambda: http.post("/ocr", files=FILE))
        await until_reading(http)
        health = (await http.get("/health")).json()
        assert (health["live"], health["ready"], health["state"]) == (True, True, "host")

        answer = await http.post("/ocr", files=FILE)  # a client may have one of three
        error = refused(answer, 429, "queue_full")
        assert "1 of your requests" in error["message"]
        assert int(answer.headers["retry-after"]) >= 1
        assert f"in {answer.headers['retry-after']} s" in error["remedy"]

        async def never() -> AsyncIterator[bytes]:
            await anyio.sleep_forever()
            yield b""

        # Before the file is sent: what is in vain costs nothing
        assert (await raw(patient.root, HEAD.format("/ocr", "Content-Length: 5000000"), never()))[0] == 429

        async with http_client(patient) as mcp:  # of the era without sessions: the same client
            result = await mcp.call_tool("ocr_image", {"image": as_base64(png())})
            assert result.is_error
            assert "Send the request again in" in said(result)

        for address in ("127.0.0.2", "127.0.0.3"):
            transport = httpx2.AsyncHTTPTransport(local_address=address)
            other = httpx2.AsyncClient(base_url=patient.root, transport=transport, timeout=BOUND_S)
            tasks.start_soon(lambda other=other: other.post("/ocr", files=FILE))
        await until_answer(http, "/health", lambda answer: not answer.json()["ready"])
        answer = await http.get("/health?ready")
        refused(answer, 503, "not_ready")
        assert answer.headers["retry-after"]
        assert (await http.get("/health")).status_code == 200
        transport = httpx2.AsyncHTTPTransport(local_address="127.0.0.9")
        async with httpx2.AsyncClient(base_url=patient.root, transport=transport, timeout=BOUND_S) as fresh:
            assert "3 requests" in refused(await fresh.post("/ocr", files=FILE), 429, "queue_full")["message"]


async def test_who_waits_is_told_how_many_are_before_it(steady: HttpServer) -> None:
    async with asking(steady) as (http, tasks):
        long = {"file": ("a.tif", tiff(*range(20, 60)))}
        tasks.start_soon(lambda: http.post("/ocr", files=long))
        await until_reading(http)
        async with stream(http, files={"file": ("b.tif", tiff(*range(60, 80)))}) as told:
            got = [event async for event in told]
    queued = [data["position"] for name, data in got if name == "queued"]
    assert queued == [1, 0]
    assert got[0][0] == "queued"
    names = [name for name, _ in got]
    assert names.index("progress") > 0
    assert names[-1] == "result"


async def test_an_agent_that_waits_is_told_too(steady: HttpServer) -> None:
    messages: list[str] = []

    async def note(done: float, total: float | None, message: str | None) -> None:
        messages.append(message or "")

    async with asking(steady) as (http, tasks):
        tasks.start_soon(lambda: http.post("/ocr", files={"file": ("a.tif", tiff(*range(20, 60)))}))
        await until_reading(http)
        async with http_client(steady, mode="legacy") as mcp:
            page = as_base64(tiff(*range(60, 80)))
            facts(await mcp.call_tool("ocr_image", {"image": page}, progress_callback=note))
    assert messages[0] == "waiting: 1 request is before this one"
    assert any(message.startswith("page") for message in messages)


async def test_health_and_status_answer_while_a_page_is_read(patient: HttpServer) -> None:
    async with asking(patient) as (http, tasks):
        tasks.start_soon(lambda: http.post("/ocr", files=FILE))
        await until_reading(http)
        with anyio.fail_after(BOUND_S):
            for _ in range(20):
                assert (await http.get("/health")).json()["ready"]
                assert (await http.get("/gpu/status")).json()["queue"] == 1


# -- who may ask, and what a browser may do with it


async def test_every_answer_has_the_security_headers(server: HttpServer, guarded: HttpServer) -> None:
    async with httpx2.AsyncClient(timeout=BOUND_S) as http:
        answers = [
            await http.get(f"{server.root}/health"),
            await http.get(f"{server.root}/nothing"),
            await http.get(f"{server.root}/docs"),
            await http.get(f"{server.root}/static/docs/start.js"),
            await http.post(server.url, json={}),
            await http.post(f"{server.root}/ocr", content=b"x" * 10_000_000),
            await http.get(f"{server.root}/health", headers={"Host": "evil.example.org"}),
            await http.get(f"{guarded.root}/modes"),
        ]
    assert [answer.status_code for answer in answers] == [200, 404, 200, 200, 400, 413, 421, 401]
    for answer in answers:
        assert answer.headers["content-security-policy"] == CSP
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "camera=(self)" in answer.headers["permissions-policy"]
        page = answer.url.path.startswith(("/static", "/docs"))
        assert answer.headers["cache-control"] == ("no-cache" if page else "no-store")


async def test_without_the_token_only_health_and_the_pages_files_are_open(guarded: HttpServer) -> None:
    async with httpx2.AsyncClient(base_url=guarded.root, timeout=BOUND_S) as http:
        for path in ("/openapi.json", "/modes", "/gpu/status", "/metrics", "/static", "/staticx", "/nothing"):
            refused(await http.get(path), 401, "unauthorized")
        for path in ("/ocr", "/static/docs/start.js", "/", "/gpu/release", "/export"):
            refused(await http.post(path), 401, "unauthorized")
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/static/docs/start.js")).status_code == 200
        assert (await http.get("/docs")).status_code == 200
        refused(await http.get("/static/../modes"), 401, "unauthorized")  # the client makes /modes of it
        refused(await http.get("/static/%2e%2e/modes"), 404, "not_found")
        assert (await http.get("/")).status_code in (200, 404)
        allowed = await http.get("/modes", headers={"Authorization": f"Bearer {TOKEN}"})
        assert allowed.json()["auth"] is True


async def test_the_servers_own_page_may_call_it_under_every_name_it_is_served_by(guarded: HttpServer) -> None:
    own = {"Host": "ocr.example.org", "Origin": "https://ocr.example.org", "Authorization": f"Bearer {TOKEN}"}
    async with httpx2.AsyncClient(base_url=guarded.root, timeout=BOUND_S) as http:
        assert (await http.post("/ocr", files=FILE, headers=own)).status_code == 200
        foreign = own | {"Origin": "https://ocr.example.org.evil.org"}
        refused(await http.post("/ocr", files=FILE, headers=foreign), 403, "input_forbidden")


async def test_other_sites_may_read_answers_only_where_the_operator_says_so(
    server: HttpServer, guarded: HttpServer
) -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    app, evil = {"Origin": "https://app.example.org"}, {"Origin": "https://evil.example.org"}
    async with httpx2.AsyncClient(timeout=BOUND_S) as http:
        answer = await http.options(f"{guarded.root}/ocr", headers=preflight | app)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
        assert "authorization" in answer.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in answer.headers
        answer = await http.post(f"{guarded.root}/ocr", files=FILE, headers=app)
        refused(answer, 401, "unauthorized")  # and the page may read why
        assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
        answer = await http.post(f"{guarded.root}/ocr", files=FILE, headers=app | {"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200
        assert "x-page-count" in answer.headers["access-control-expose-headers"].lower()
        for root, origin in ((guarded.root, evil), (server.root, app)):
            for answer in (
                await http.options(f"{root}/ocr", headers=preflight | origin),
                await http.get(f"{root}/health", headers=origin),
            ):
                refused(answer, 403, "input_forbidden")
                assert "access-control-allow-origin" not in answer.headers


async def test_who_comes_through_a_trusted_proxy_is_a_client_of_its_own() -> None:
    with http_server("Patient", OCR_MAX_QUEUE="3", OCR_TRUSTED_PROXIES="127.0.0.1") as server:
        async with asking(server) as (http, tasks):
            tasks.start_soon(lambda: http.post("/ocr", files=FILE, headers={"X-Forwarded-For": "192.0.2.1"}))
            await until_reading(http)
            again = await http.post("/ocr", files=FILE, headers={"X-Forwarded-For": "192.0.2.1"})
            refused(again, 429, "queue_full")
            tasks.start_soon(lambda: http.post("/ocr", files=FILE, headers={"X-Forwarded-For": "192.0.2.2"}))
            await until_reading(http, queue=2)


# -- what can be asked; pages to look at and to take along


async def test_the_modes_say_what_the_engine_can_and_why_not(real: HttpServer) -> None:
    async with httpx2.AsyncClient(base_url=real.root, timeout=BOUND_S) as http:
        told = (await http.get("/modes")).json()
    assert [mode["name"] for mode in told["modes"]] == [
        "document", "ocr", "free", "figure", "describe", "find", "freeform",
    ]  # fmt: skip
    modes = {mode["name"]: mode for mode in told["modes"]}
    assert modes["find"]["available"] is True
    assert (modes["find"]["needs"], modes["find"]["locates"], modes["find"]["why_not"]) == ("find_term", True, "")
    assert modes["figure"]["available"] is False
    assert "rapidocr" in modes["figure"]["why_not"]
    assert told["limits"] == {"max_file_mb": 100, "max_pages": 2000, "max_queue": 64}
    assert told["resolutions"][0] == "auto"
    assert (told["engine_titles"]["rapidocr"], told["engine_titles"]["text_layer"]) == ("RapidOCR", "PDF")
    assert told["auth"] is False


def pdf(pages: int = 1) -> bytes:
    """A PDF of blank pages, 200 by 300 points."""
    made, out = pypdfium2.PdfDocument.new(), io.BytesIO()
    for _ in range(pages):
        made.new_page(200, 300)
    made.save(out)
    return out.getvalue()


async def test_a_preview_is_the_upright_page_made_small(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/preview?page=2&side=64", files={"file": ("a.pdf", pdf(2))})
    assert answer.status_code == 200
    assert answer.headers["content-type"] in ("image/png", "image/jpeg")
    size = (answer.headers["x-page-count"], answer.headers["x-page-width"], answer.headers["x-page-height"])
    assert size == ("2", "556", "834")  # at 200 dpi, as the engine gets it
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert max(picture.size) == 64
    page = (await http.post("/ocr", files={"file": ("a.pdf", pdf(2))})).json()["pages"][1]
    assert (page["width"], page["height"]) == (556, 834)

    turned = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    Image.new("RGB", (300, 100), "red").save(turned, "JPEG", exif=exif)
    answer = await http.post("/preview?side=2000", files={"file": ("a.jpg", turned.getvalue())})
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (100, 300)
    assert answer.headers["x-page-width"] == "100"

    error = refused(await http.post("/preview?page=3", files={"file": ("a.pdf", pdf(2))}), 422, "bad_request")
    assert "no page 3" in error["message"]
    refused(await http.post("/preview", files={"file": ("a.pdf", b"%PDF-1.7 broken")}), 415, "unreadable_input")
    refused(await http.post("/preview", json={}), 415, "unreadable_input")


async def test_what_was_read_comes_back_as_a_word_document(http: httpx2.AsyncClient) -> None:
    import docx

    asked = {"format": "docx", "title": "A/B", "pages": [{"text": "# Head\n\nBody", "width": 10, "height": 10}]}
    answer = await http.post("/export", json=asked)
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == 'attachment; filename="A-B.docx"'
    document = docx.Document(io.BytesIO(answer.content))
    assert [(line.style.name, line.text) for line in document.paragraphs if line.style] == [
        ("Heading 1", "Head"),
        ("Normal", "Body"),
    ]


async def test_the_answer_of_a_reading_makes_a_pdf_that_can_be_searched(http: httpx2.AsyncClient) -> None:
    read = (await http.post("/ocr", data={"boxes": "true"}, files=FILE)).text
    answer = await http.post("/export", data={"result": read}, files=FILE)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/pdf"
    with pypdfium2.PdfDocument(answer.content) as made:
        assert made[0].get_textpage().get_text_range().strip() == echo()


@pytest.mark.parametrize(("name", "suffix"), [(".markdown", "md"), ("htm", "html"), ("MD", "md")])
async def test_a_format_is_named_by_any_of_its_suffixes(http: httpx2.AsyncClient, name: str, suffix: str) -> None:
    asked = {"format": name, "title": "a", "pages": [{"text": "# Head", "width": 10, "height": 10}]}
    answer = await http.post("/export", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == f'attachment; filename="a.{suffix}"'


async def test_what_cannot_be_exported_says_why(http: httpx2.AsyncClient) -> None:
    pages = [{"text": "x", "width": 10, "height": 10}]
    error = refused(await http.post("/export", json={"format": "pdf", "pages": pages}), 422, "bad_request")
    assert "file" in error["remedy"]
    result = json.dumps({"pages": pages})
    error = refused(await http.post("/export", data={"result": result}, files=FILE), 422, "bad_request")
    assert "boxes=words" in error["remedy"]
    refused(await http.post("/export", json={"format": "exe", "pages": pages}), 422, "bad_request")
    refused(await http.post("/export", json={"format": "docx", "pages": []}), 422, "bad_request")
    beyond = {"pages": [pages[0] | {"page": 3, "blocks": [{"text": "x", "box": [1, 2, 3, 4]}]}]}
    error = refused(await http.post("/export", data={"result": json.dumps(beyond)}, files=FILE), 422, "bad_request")
    assert "has no page 3; it has 1" in error["message"]
    refused(await http.post("/export", files=FILE), 422, "bad_request")
    blocks = [{"text": "x", "box": [1, 2, 3, 4]}]
    result = json.dumps({"pages": [pages[0] | {"blocks": blocks}]})
    broken = {"file": ("a.pdf", b"%PDF-1.7 broken")}
    refused(await http.post("/export", data={"result": result}, files=broken), 415, "unreadable_input")


async def test_the_documentation_is_served_by_the_server_itself(http: httpx2.AsyncClient) -> None:
    page = (await http.get("/docs")).text
    assert "http" not in page.replace("https://", "http://").replace("HTTP", "").replace("http-equiv", "")
    assert "<script>" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert f"/static/docs/{asset}" in page
        assert (await http.get(f"/static/docs/{asset}")).status_code == 200
    schema = (await http.get("/openapi.json")).json()
    assert {"/ocr", "/ocr-pdf", "/preview", "/export", "/health", "/gpu/status", "/modes"} <= set(schema["paths"])
    assert set(schema["paths"]["/ocr"]["post"]["requestBody"]["content"]) == {"multipart/form-data", "application/json"}

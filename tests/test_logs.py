"""The log: one form, one id for each request, and never a word of a document nor a token."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx2
import pytest
from fake_vllm import fake_vllm

from deepseek_ocr_mcp import logs
from deepseek_ocr_mcp.errors import UnsupportedMode
from support import BOUND_S, HttpServer, as_base64, facts, http_client, http_server, png, said, stdio_server, written

pytestmark = pytest.mark.anyio

WORD = "Xylophone"
TOKEN = "correct-horse-battery-staple"
PAGE = as_base64(png())
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error) +[a-z_.]+: .*\n")


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Answers what this process has written to stderr; the log is as pytest made it afterwards."""
    named = [logging.getLogger(name) for name in (None, "deepseek_ocr_mcp", "uvicorn", "uvicorn.error")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in named]
    seen = ""

    def shown() -> str:
        nonlocal seen
        seen += capsys.readouterr().err
        return seen

    yield shown
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def entries(server: HttpServer) -> list[dict[str, Any]]:
    """All lines so far; each must be one JSON object."""
    return [json.loads(line) for line in server.log]


def of_request(server: HttpServer, request: str) -> set[tuple[str, str]]:
    return {(entry["logger"], entry["message"]) for entry in entries(server) if entry.get("request") == request}


# -- what is never written


@pytest.mark.parametrize("form", ["text", "json"])
async def test_neither_a_page_s_text_nor_the_token_is_in_any_line_at_debug_level(form: str) -> None:
    page = as_base64(written(f"{WORD}\nsecond line"))
    settings = {"OCR_LOG_LEVEL": "debug", "OCR_LOG_FORMAT": form, "OCR_AUTH_TOKEN": TOKEN}
    with http_server("rapidocr", **settings) as server:
        for mode in ("legacy", "auto"):
            async with http_client(server, mode=mode, token=TOKEN) as mcp:
                assert WORD in said(await mcp.call_tool("ocr_image", {"image": page}))
                await mcp.call_tool("ocr_image", {"image": page, "mode": "find", "find_term": WORD})
        async with httpx2.AsyncClient(timeout=BOUND_S) as http:
            await http.get(server.root + "/health", params={"token": TOKEN})
            await http.get(f"{server.root}/{TOKEN}")
            await http.get(server.root + "/metrics", headers={"Authorization": f"Bearer {TOKEN[:-1]}"})
        server.until_logged("An HTTP request has ended.", count=10)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(BOUND_S)
    log = server.first_line + "".join(server.log)
    assert WORD.lower() not in log.lower()
    assert TOKEN not in log
    assert TOKEN[:-1] not in log
    assert page[:40] not in log
    assert page[-40:] not in log
    for whose in ("edges.http.access", "observer", "worker", "uvicorn.error"):  # it was not silence
        assert whose in log


@pytest.mark.parametrize("form", ["text", "json"])
async def test_an_engine_that_prints_logs_and_raises_what_it_read_gets_nothing_of_it_into_the_log(form: str) -> None:
    with http_server("Indiscreet", OCR_LOG_LEVEL="debug", OCR_LOG_FORMAT=form) as server:
        async with http_client(server) as mcp:
            result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "find", "find_term": WORD})
        assert WORD in said(result), "its caller is told"
        server.until_logged("in a way that this program does not foresee")
    log = "".join(server.log)
    assert WORD not in log
    assert "ValueError" in log
    assert "from KeyError" in log
    assert "faults.py:" in log


@pytest.mark.parametrize("form", ["text", "json"])
async def test_nothing_that_goes_to_an_endpoint_or_comes_from_it_is_in_any_line(form: str) -> None:
    settings = {"OCR_LOG_LEVEL": "debug", "OCR_LOG_FORMAT": form, "OPENAI_LOG": "debug", "OCR_CACHE": "off"}
    with fake_vllm(key=TOKEN) as vllm:
        vllm.script = [f"text:{WORD}", "429", f"refuse:{WORD}", "break", f"text:{WORD}"]
        remote = {"OCR_REMOTE_URL": vllm.url.replace("//", f"//user:{WORD}@"), "OCR_REMOTE_KEY": TOKEN}
        with http_server("openai", **settings, **remote) as server:
            async with http_client(server) as mcp:
                assert WORD in said(await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"}))
                result = await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "find", "find_term": WORD})
                assert WORD in said(result), "its caller is told"
                await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "freeform", "custom_prompt": WORD})
                told = json.dumps((await mcp.call_tool("gpu_status", {})).structured_content)
            server.until_logged("A page is sent again.", count=2)
        log = server.first_line + "".join(server.log)
    assert WORD.lower() not in (log + told).lower()
    assert TOKEN not in log + told
    assert PAGE[:40] not in log


async def test_the_last_words_of_a_worker_are_for_its_callers_and_not_for_the_log() -> None:
    with http_server("Dying", OCR_LOG_LEVEL="debug") as server:
        async with http_client(server) as mcp:
            assert "the engine's last words" in said(await mcp.call_tool("ocr_image", {"image": PAGE}))
        server.until_logged("The worker died.")
    log = "".join(server.log)
    assert "last words" not in log
    assert 'how="exit status 7"' in log


def test_libraries_speak_from_warning_on_and_uvicorn_from_info_on(stderr: Callable[[], str]) -> None:
    logs.configure("debug")
    logging.getLogger("sse_starlette.sse").debug("chunk: %s", WORD)
    logging.getLogger("mcp.server").info("Tool %r failed: %r", "ocr_image", WORD)
    logging.getLogger("uvicorn.error").debug(WORD)
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task exception=%s>", WORD)
    logging.getLogger("uvicorn.error").info("Application startup complete.")
    assert WORD not in stderr()
    assert stderr().count("\n") == 2


def test_of_an_exception_its_class_and_place_are_written_never_its_message(stderr: Callable[[], str]) -> None:
    def fails() -> None:
        try:
            os.stat("/" + WORD)
        except OSError as exc:
            raise UnsupportedMode(WORD, remedy=WORD) from exc

    logs.configure("info", "json")
    try:
        try:
            fails()
        except UnsupportedMode as exc:
            raise ExceptionGroup(WORD, [exc, ValueError(WORD)]) from None
    except ExceptionGroup:
        logging.getLogger("anywhere").exception("It failed.")
    assert WORD not in stderr()
    told = json.loads(stderr())["traceback"]
    assert [line for line in told.splitlines() if not line.startswith(" ")] == [
        "ExceptionGroup",
        "from UnsupportedMode unsupported_mode",
        "from FileNotFoundError ENOENT",
        "from ValueError",
    ]
    assert re.search(r"^  tests/test_logs\.py:\d+ in fails$", told, re.MULTILINE)


def test_a_line_that_cannot_be_formatted_shows_no_arguments(stderr: Callable[[], str]) -> None:
    logs.configure("info")
    logging.getLogger("anywhere").warning("%d pages", WORD)
    assert stderr() == ""


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("token", [TOKEN, 'quoted "and" \\slashed'])
def test_the_token_is_struck_out_wherever_it_would_stand(stderr: Callable[[], str], form: Any, token: str) -> None:
    logs.configure("info", form, secrets=[token])
    log = logging.getLogger("deepseek_ocr_mcp.test")
    log.info(f"It is {token}.", extra=logs.fields(path=f"/{token}"))
    shown = stderr()
    assert token not in shown
    assert json.dumps(token)[1:-1] not in shown
    assert shown.count("[token]") == 2


# -- form


async def test_with_json_every_line_is_one_object_uvicorn_s_too_from_the_first_to_the_last() -> None:
    with http_server(OCR_LOG_LEVEL="debug", OCR_LOG_FORMAT="json") as server:
        async with http_client(server) as mcp:
            facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
            facts(await mcp.call_tool("gpu_release", {}))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(BOUND_S) == 0
    first = json.loads(server.first_line)
    assert (first["level"], first["url"]) == ("info", server.url)
    lines = entries(server)
    for entry in lines:
        assert list(entry)[:4] == ["time", "level", "logger", "message"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"])
    messages = [entry["message"] for entry in lines]
    assert "Application startup complete." in messages
    assert "Shutting down" in messages
    moves = [entry["step"] for entry in lines if entry["message"] == "The model was moved."]
    assert moves == ["load", "release"]


async def test_as_text_a_line_is_a_line_whatever_a_caller_sends() -> None:
    with http_server(OCR_LOG_LEVEL="info") as server:
        async with httpx2.AsyncClient(timeout=BOUND_S) as http:
            await http.get(server.root + "/a%0a2026-01-01T00:00:00.000Z%20error%20forged:%1b%5b31mred%e2%80%a8x")
        server.until_logged("An HTTP request has ended.")
        async with http_client(server) as mcp:
            facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
        server.until_logged("A request has ended.")
    assert server.first_line == f"Serving MCP at {server.url}\n"
    assert [line for line in server.log if not LINE.fullmatch(line)] == []
    log = "".join(server.log)
    assert "\x1b" not in log
    assert "\u2028" not in log
    assert r"/a\\n2026" in log


async def test_what_goes_well_writes_nothing_at_the_level_that_is_set_by_default() -> None:
    with http_server() as server:
        async with http_client(server) as mcp:
            facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(BOUND_S) == 0
    assert server.log == []


async def test_probes_and_scrapes_that_go_well_are_for_debugging_only() -> None:
    with http_server(OCR_LOG_LEVEL="info", OCR_LOG_FORMAT="json") as server:
        async with httpx2.AsyncClient(timeout=BOUND_S) as http:
            for path in ("/health", "/metrics", "/nothing"):
                await http.get(server.root + path)
        server.until_logged("/nothing")
    paths = [entry["path"] for entry in entries(server) if "path" in entry]
    assert paths == ["/nothing"]


def test_over_stdio_the_log_is_on_stderr_and_stdout_is_the_protocol_s() -> None:
    with stdio_server(OCR_LOG_LEVEL="debug", OCR_LOG_FORMAT="json") as server:
        server.initialize()
        server.call("ocr_image", image=PAGE)
        assert server.answer()["result"]["content"][0]["text"]
        assert server.process.stdin is not None
        assert server.process.stderr is not None
        server.process.stdin.close()
        lines = [json.loads(line) for line in server.process.stderr]
    (ended,) = [entry for entry in lines if entry["message"] == "A request has ended."]
    assert ended["outcome"] == "ok"
    worker = [entry for entry in lines if entry["logger"] == "deepseek_ocr_mcp.worker" and entry["call"] == "read"]
    assert [entry["request"] for entry in worker] == [ended["request"]]


# -- one id


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_one_id_leads_from_the_edge_through_the_manager_to_the_worker(mode: str) -> None:
    with http_server(OCR_LOG_LEVEL="debug", OCR_LOG_FORMAT="json") as server:
        async with http_client(server, mode=mode) as mcp:
            for _ in range(2):
                facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
        server.until_logged("A request has ended.", count=2)
        server.until_logged("An HTTP request has ended.", count=3)
        first, second = [entry["request"] for entry in entries(server) if entry["message"] == "A request has ended."]
        assert first != second
        server.until_logged("An HTTP request has ended.", second)
    assert of_request(server, first) >= {
        ("deepseek_ocr_mcp.edges.http.access", "An HTTP request has ended."),
        ("deepseek_ocr_mcp.observer", "A request has ended."),
        ("deepseek_ocr_mcp.observer", "The model was moved."),
        ("deepseek_ocr_mcp.observer", "Pages were read."),
        ("deepseek_ocr_mcp.worker", "A call was answered."),
    }
    workers = {entry["worker"] for entry in entries(server) if entry.get("request") == second and "worker" in entry}
    assert workers == {"Echo worker", "document decoder"}


async def test_a_caller_names_its_request_and_gets_the_name_back() -> None:
    with http_server(OCR_LOG_LEVEL="debug", OCR_LOG_FORMAT="json", OCR_AUTH_TOKEN=TOKEN) as server:
        async with httpx2.AsyncClient(timeout=BOUND_S) as http:
            answer = await http.get(server.root + "/health", headers={"X-Request-ID": "order-66.b_C"})
            assert answer.headers["x-request-id"] == "order-66.b_C"
            for path, status in (("/nothing", 401), ("/health", 200)):
                for wrong in ("", "two words", "a,b", "x" * 65, "é".encode(), "<script>"):
                    answer = await http.get(server.root + path, headers={"X-Request-ID": wrong})
                    assert answer.status_code == status
                    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])
        server.until_logged(answer.headers["x-request-id"])
    (entry,) = [entry for entry in entries(server) if entry.get("request") == "order-66.b_C"]
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/health", 200)


def test_work_for_several_requests_names_them_all_and_not_endlessly() -> None:
    assert logs.request_id() == ""
    with logs.request("a") as one:
        assert one == logs.request_id() == "a"
        with logs.request("no id!") as same, logs.request() as again:
            assert (same, again) == ("a", "a")
        with logs.serving("b", "c,d", "b", "no id!"):
            assert logs.request_id() == "b,c,d"
        with logs.serving():
            assert logs.request_id() == "", "work for nobody is not for whoever asked last"
        with logs.serving(*map(str, range(20))):
            assert logs.request_id() == "0,1,2,3,4,5,6,7"
    assert logs.request_id() == ""


# -- a child's lines


async def test_marks_in_a_library_s_noise_are_noise_and_lines_of_ours_are_lines() -> None:
    with http_server("Marking", OCR_LOG_FORMAT="json") as server:
        async with http_client(server) as mcp:
            facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
        server.until_logged("a line of ours")
    (entry,) = entries(server)
    assert (entry["logger"], entry["message"]) == ("deepseek_ocr_mcp.test", "a line of ours")
    assert entry["worker"] == "Marking worker", "a child cannot say that it is another"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"level":"loud","logger":"a","message":"b"}',
        b'{"level":[],"logger":"a","message":"b"}',
        b"[" * 4000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_line_of_a_child_is_not_written(stderr: Callable[[], str], line: bytes) -> None:
    logs.configure("debug", "json")
    assert not logs.relay(line, worker="w")
    assert stderr() == ""


def test_a_child_that_was_taken_over_can_write_no_more_than_a_bounded_line(stderr: Callable[[], str]) -> None:
    logs.configure("debug", "json")
    forged = {
        "time": "never",
        "level": "error",
        "logger": "root",
        "message": "m" * 10_000,
        "request": "fine,not fine," + "x" * 100,
        "worker": "somebody else",
        "nested": {"a": [1]},
        "bad key\n": 1,
        "traceback": "t" * 10_000,
        **{f"key{number}": "v" * 1000 for number in range(100)},
    }
    assert logs.relay(json.dumps(forged).encode(), worker="document decoder")
    assert len(stderr()) < 10_000
    entry = json.loads(stderr())
    assert entry["time"] != "never"
    assert (entry["logger"], entry["request"], entry["worker"]) == ("deepseek_ocr_mcp", "fine", "document decoder")
    assert "nested" not in entry


def test_a_child_writes_at_the_level_that_is_set(stderr: Callable[[], str]) -> None:
    logs.configure("warning")
    assert logs.level() == logging.WARNING
    assert logs.relay(b'{"level":"info","logger":"deepseek_ocr_mcp.worker","message":"x"}')
    assert stderr() == ""


def test_a_child_s_line_fits_into_one_write_to_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    write: Callable[[int, bytes], int] = lambda fd, data: sent.append(data) or len(data)  # noqa: E731
    monkeypatch.setattr("os.write", write)
    ours = logging.getLogger("deepseek_ocr_mcp")
    before = ours.handlers[:], ours.level, ours.propagate
    try:
        logs.configure_child()
        ours.error("語" * 10_000, extra=logs.fields(**{f"key{number}": "語" * 200 for number in range(50)}))
    finally:
        ours.handlers[:], ours.level, ours.propagate = before
        ours.setLevel(before[1])
    (line,) = sent
    assert len(line) <= 4096
    assert line.startswith(b"\x1e{")
    assert line.endswith(b"}\n")


async def test_the_ids_of_callers_side_by_side_do_not_mix() -> None:
    with http_server("Steady", OCR_LOG_LEVEL="debug", OCR_LOG_FORMAT="json") as server:

        async def caller(number: int) -> None:
            headers = {"X-Request-ID": f"caller-{number}"}
            from mcp import Client
            from mcp.client.streamable_http import streamable_http_client

            async with (
                httpx2.AsyncClient(headers=headers, timeout=BOUND_S) as http,
                Client(streamable_http_client(server.url, http_client=http)) as mcp,
            ):
                facts(await mcp.call_tool("ocr_image", {"image": PAGE}))

        with anyio.fail_after(2 * BOUND_S):
            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(caller, number)
        server.until_logged("A request has ended.", count=6)
    reads = [entry["request"] for entry in entries(server) if entry.get("call") == "read"]
    assert sorted(",".join(reads).split(",")) == [f"caller-{number}" for number in range(6)]

"""Streamable HTTP: who may speak, what is too large, and that nobody's answer is lost."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import httpx2
import pytest

from forked import run_program
from support import (
    BOUND_S,
    HttpServer,
    Servers,
    alive,
    as_base64,
    children,
    echo,
    facts,
    http_client,
    http_server,
    png,
    said,
    tiff,
    until_answer,
    until_queue,
)

pytestmark = pytest.mark.anyio

PAGE = as_base64(png())
TOKEN = "a long random string"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}
HEADERS = {"Accept": "application/json, text/event-stream"}


@pytest.fixture
def server(serve: Servers) -> HttpServer:
    return serve(OCR_MAX_FILE_MB="6")


@pytest.fixture
def guarded(serve: Servers) -> HttpServer:
    return serve(
        OCR_AUTH_TOKEN=TOKEN,
        OCR_ALLOWED_HOSTS="ocr.example.org",
        OCR_ALLOWED_ORIGINS="https://app.example.org",
    )


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_both_protocol_eras_read_a_page(server: HttpServer, mode: str) -> None:
    async with http_client(server, mode=mode) as mcp:
        assert facts(await mcp.call_tool("ocr_image", {"image": PAGE}))["text"] == echo()


async def test_progress_arrives_over_http(server: HttpServer) -> None:
    seen: list[float] = []

    async def note(done: float, total: float | None, message: str | None) -> None:
        seen.append(done)

    async with http_client(server) as mcp:
        await mcp.call_tool("ocr_image", {"image": as_base64(tiff(11, 12, 13))}, progress_callback=note)
    assert seen
    assert seen[-1] < 3, "the answer itself is the last step"
    assert seen == sorted(set(seen))


async def test_a_path_on_the_server_is_not_readable(server: HttpServer) -> None:
    async with http_client(server) as mcp:
        result = await mcp.call_tool("ocr_image", {"image": "/etc/passwd"})
    assert result.is_error
    assert "OCR_ALLOWED_DIRS" in said(result)


async def test_an_upload_as_large_as_the_limit_is_read_and_a_larger_one_refused(server: HttpServer) -> None:
    largest = png() + bytes(6 * 1024 * 1024 - len(png()))  # a decoder stops at the image's end
    async with http_client(server) as mcp:
        assert facts(await mcp.call_tool("ocr_image", {"image": as_base64(largest)}))["text"] == echo()
        result = await mcp.call_tool("ocr_image", {"image": as_base64(largest + b"x")})
        assert result.is_error
        assert "6 MiB" in said(result)
    async with httpx2.AsyncClient(timeout=BOUND_S) as http:
        answer = await http.post(
            server.url, content=b"x" * (9 * 1024 * 1024), headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == 413


@pytest.mark.parametrize("host", ["evil.example.org", "evil.example.org:8001", "127.0.0.1.evil.org", ""])
async def test_a_foreign_host_header_is_refused_on_every_path(server: HttpServer, host: str) -> None:
    async with httpx2.AsyncClient(timeout=BOUND_S) as http:
        for path in ("/mcp", "/health", "/nothing"):
            answer = await http.post(server.root + path, json=INITIALIZE, headers={**HEADERS, "Host": host})
            assert answer.status_code == 421


@pytest.mark.parametrize("origin", ["https://evil.example.org", "null", "http://127.0.0.1.evil.org"])
async def test_a_foreign_origin_is_refused(server: HttpServer, origin: str) -> None:
    async with httpx2.AsyncClient(timeout=BOUND_S) as http:
        answer = await http.post(server.url, json=INITIALIZE, headers={**HEADERS, "Origin": origin})
    assert answer.status_code == 403
    assert "OCR_ALLOWED_ORIGINS" in answer.json()["error"]["remedy"]


async def test_a_local_page_may_call(server: HttpServer) -> None:
    async with httpx2.AsyncClient(timeout=BOUND_S) as http:
        answer = await http.post(server.url, json=INITIALIZE, headers={**HEADERS, "Origin": server.root})
    assert answer.status_code == 200


@pytest.mark.parametrize("given", [None, "Bearer wrong", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", "Bearer \xe4"])
async def test_without_the_token_every_path_but_health_is_closed(guarded: HttpServer, given: str | None) -> None:
    headers = HEADERS if given is None else {**HEADERS, "Authorization": given.encode("latin-1")}
    async with httpx2.AsyncClient(timeout=BOUND_S) as http:
        for path in ("/mcp", "/", "/nothing", "/health/x"):
            answer = await http.post(guarded.root + path, json=INITIALIZE, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert set(answer.json()["error"]) == {"code", "message", "remedy"}
        assert (await http.get(guarded.root + "/health")).json()["status"] == "ok"


async def test_with_the_token_a_page_is_read(guarded: HttpServer) -> None:
    async with http_client(guarded, token=TOKEN) as mcp:
        assert facts(await mcp.call_tool("ocr_image", {"image": PAGE}))["text"] == echo()


async def test_hosts_and_origins_that_the_operator_named_are_served(guarded: HttpServer) -> None:
    headers = {**HEADERS, "Authorization": f"Bearer {TOKEN}", "Origin": "https://app.example.org"}
    async with httpx2.AsyncClient(timeout=BOUND_S) as http:
        for host in ("ocr.example.org", "ocr.example.org:8443"):
            answer = await http.post(guarded.url, json=INITIALIZE, headers={**headers, "Host": host})
            assert answer.status_code == 200


def serve(**environment: str) -> subprocess.CompletedProcess[str]:
    arguments = ["serve", "--transport", "http", "--port", "0"]
    return run_program(arguments, env={**os.environ, **environment}, text=True, timeout=BOUND_S)


PUBLIC = pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "ocr.example.org"])


@PUBLIC
def test_a_public_address_without_a_token_and_hosts_is_refused_with_the_two_settings(host: str) -> None:
    refused = serve(HOST=host)
    assert refused.returncode == 2
    assert "OCR_AUTH_TOKEN" in refused.stderr
    assert "OCR_ALLOWED_HOSTS" in refused.stderr
    assert "Traceback" not in refused.stderr


@PUBLIC
def test_a_public_address_with_a_token_and_no_hosts_is_refused_with_the_one_that_is_missing(host: str) -> None:
    half = serve(HOST=host, OCR_AUTH_TOKEN=TOKEN)
    assert half.returncode == 2
    assert "OCR_ALLOWED_HOSTS" in half.stderr
    assert "OCR_AUTH_TOKEN" not in half.stderr


def test_a_port_that_is_taken_is_an_error_that_names_it(server: HttpServer) -> None:
    port = server.root.rpartition(":")[2]
    arguments = ["serve", "--transport", "http", "--port", port]
    refused = run_program(arguments, env=os.environ, text=True, timeout=BOUND_S)
    assert refused.returncode == 2
    assert port in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_its_children(how: signal.Signals) -> None:
    async def read(server: HttpServer) -> None:
        async with http_client(server) as mcp:
            await mcp.call_tool("ocr_image", {"image": PAGE})

    with http_server() as server:
        anyio.run(read, server)
        workers = children(server.process.pid)
        assert workers
        server.process.send_signal(how)
        assert server.process.wait(BOUND_S) == 0
        assert not any(alive(worker) for worker in workers)
    assert not any("Traceback" in line for line in server.log)


async def until_not_ready(http: httpx2.AsyncClient) -> httpx2.Response:
    return await until_answer(http, "/health?ready=1", lambda answer: answer.status_code != 200)


async def test_a_server_that_is_told_to_end_answers_what_it_reads_and_refuses_what_comes_then(tmp_path: Path) -> None:
    held = tmp_path / "allowed"  # pages that the engine may read
    held.write_text("0")
    with http_server("Noting", FAULTS=str(tmp_path), OCR_DRAIN_SECONDS=str(BOUND_S)) as server:
        answers: list[httpx2.Response] = []
        async with (
            httpx2.AsyncClient(base_url=server.root, timeout=BOUND_S) as http,
            anyio.create_task_group() as tasks,
        ):

            async def read() -> None:
                answers.append(await http.post("/ocr", files={"file": ("page.png", png())}))

            tasks.start_soon(read)
            await until_queue(http, 1)
            server.process.send_signal(signal.SIGTERM)
            health = await until_not_ready(http)
            assert health.json()["error"]["code"] == "not_ready"
            refused = await http.post("/ocr", files={"file": ("page.png", png())})
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "5"
            held.unlink()
        assert [answer.json()["text"] for answer in answers] == [echo()]
        assert server.process.wait(BOUND_S) == 0


async def test_a_second_signal_ends_a_server_at_once() -> None:
    with http_server("Patient", OCR_DRAIN_SECONDS="25") as server:
        async with (
            httpx2.AsyncClient(base_url=server.root, timeout=BOUND_S) as http,
            anyio.create_task_group() as tasks,
        ):

            async def read() -> None:
                with suppress(httpx2.HTTPError):
                    await http.post("/ocr", files={"file": ("page.png", png())})

            tasks.start_soon(read)
            await until_queue(http, 1)
            server.process.send_signal(signal.SIGTERM)
            await until_not_ready(http)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            assert await anyio.to_thread.run_sync(server.process.wait, BOUND_S) == 0


async def test_who_only_looks_is_answered_without_a_body(server: HttpServer) -> None:
    async with httpx2.AsyncClient() as http:
        for path in ("/", "/health", "/docs"):
            answer = await http.head(server.root + path)
            assert answer.status_code == 200, path
            assert answer.content == b""
            assert int(answer.headers["content-length"]) > 0


async def nothing_is_read(server: HttpServer) -> None:
    """The memory can be had back without force: nothing but its caller's leaving ends a page of `Patient`."""
    async with http_client(server) as mcp:
        assert facts(await mcp.call_tool("gpu_release", {}))["to"] == "unloaded"
        assert facts(await mcp.call_tool("gpu_status", {}))["queue"] == 0


async def test_a_caller_that_hangs_up_stops_the_work(serve: Servers) -> None:
    """In the 2026-07-28 era a disconnect cancels; a page that never ends would hold the lock otherwise."""
    server = serve("Patient", OCR_BUSY_WAIT=str(BOUND_S / 2))
    reading = anyio.Event()

    async def note(done: float, total: float | None, message: str | None) -> None:
        if "loading" not in (message or ""):
            reading.set()

    async with http_client(server) as mcp, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(mcp.call_tool, "ocr_image", {"image": PAGE}, progress_callback=note))
        with anyio.fail_after(BOUND_S):
            await reading.wait()
        tasks.cancel_scope.cancel()
    await nothing_is_read(server)


async def test_a_legacy_cancel_stops_the_work(serve: Servers) -> None:
    server = serve("Patient", OCR_BUSY_WAIT=str(BOUND_S / 2))
    async with http_client(server, mode="legacy") as mcp:
        with anyio.CancelScope() as scope:

            async def stop(done: float, total: float | None, message: str | None) -> None:
                if message and message.endswith("reading"):
                    scope.cancel()

            await mcp.call_tool("ocr_image", {"image": PAGE}, progress_callback=stop)
        await nothing_is_read(server)


async def test_64_callers_lose_nothing_while_the_worker_is_killed_three_times() -> None:
    answers: dict[int, str] = {}
    news = anyio.Event()
    with http_server("Steady") as server:

        async def caller(number: int) -> None:
            nonlocal news
            width = 30 + number
            async with http_client(server, mode="legacy" if number % 2 else "auto") as mcp:
                result = await mcp.call_tool("ocr_image", {"image": as_base64(png(width, 20))})
                answers[number] = facts(result)["text"]
                news.set()
                news = anyio.Event()

        async def killer(tasks: anyio.abc.TaskGroup) -> None:
            """Kills while pages wait; each time more callers come, so that there is work left however late it is."""
            killed: set[int] = set()
            answered = 5
            async with http_client(server) as mcp:
                for callers in (range(22, 43), range(43, 64), ()):
                    while True:
                        seen = len(answers)
                        pid = facts(await mcp.call_tool("gpu_status", {})).get("worker_pid")
                        if seen >= answered and pid is not None and pid not in killed:
                            break
                        if len(answers) == seen:
                            await news.wait()
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
                    # A page is read again once: what was read at this kill is answered before the next one.
                    answered = len(answers) + 15
                    for number in callers:
                        tasks.start_soon(caller, number)

        with anyio.fail_after(4 * BOUND_S):
            async with anyio.create_task_group() as tasks:
                for number in range(22):
                    tasks.start_soon(caller, number)
                tasks.start_soon(killer, tasks)
            async with http_client(server) as mcp:
                status: dict[str, Any] = facts(await mcp.call_tool("gpu_status", {}))
    assert answers == {number: echo(30 + number, 20) for number in range(64)}
    assert status["served"] == 64
    assert status["queue"] == 0

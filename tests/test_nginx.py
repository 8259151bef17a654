"""deploy/nginx/nginx.conf at work: Debian's nginx with TLS, two servers of ours behind it, and one of them killed.

The file is run as it is shipped, but for addresses, ports and folders.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult

from leftovers import KEPT
from locked_pdf import locked_pdf
from pdf_maker import born_digital
from support import BOUND_S, HttpServer, as_base64, echo, facts, png, until_answer, until_reading

pytestmark = pytest.mark.anyio

CONFIG = Path(__file__).parents[1] / "deploy" / "nginx" / "nginx.conf"
PAGE = as_base64(png())
HEADERS = {"Accept": "application/json, text/event-stream"}
HOME = "127.0.0.1"
# The servers have an address of this process: nobody else takes a port there between the end of a server and the start
# of the next one.
SERVERS = f"127.{64 + os.getpid() % 64}.{os.getpid() // 64 % 256}.{os.getpid() // 16384 % 255 + 1}"
ADDRESSES = [f"127.0.0.{n}" for n in range(1, 40)]  # all of them are this machine
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
STATUS = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "gpu_status"}}


def certificate(folder: Path) -> None:
    program = shutil.which("openssl")
    assert program is not None, "install Debian's package openssl"
    subprocess.run(
        [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", f"subjectAltName=DNS:localhost,IP:{HOME}",
         "-keyout", "server.key", "-out", "server.crt"],
        cwd=folder, capture_output=True, check=True, timeout=60,
    )  # fmt: skip


class Rig:
    """nginx, and the two servers: `first` reads until it is stopped, `second` takes four seconds for a page."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None, "install Debian's package nginx-light"
        certificate(folder)
        self.servers = {engine: self.start(engine) for engine in ("Patient", "Slow")}
        listener = socket.create_server((HOME, 0))
        port = listener.getsockname()[1]
        config = CONFIG.read_text()
        for old, new in (
            ("ocr-1:8001", self.servers["Patient"].root.removeprefix("http://")),
            ("ocr-2:8001", self.servers["Slow"].root.removeprefix("http://")),
            ("listen 8443 ", f"listen {HOME}:{port} "),
            ("/etc/nginx/tls", str(folder)),
            ("/tmp/nginx", f"{folder}/nginx"),
            ("/dev/stdout", f"{folder}/access.log"),
            ("fail_timeout=5s", "fail_timeout=1s"),
        ):
            assert old in config, old
            config = config.replace(old, new)
        (folder / "nginx.conf").write_text(config)
        self.folder = folder
        self.root = f"https://{HOME}:{port}"
        self.tls = ssl.create_default_context(cafile=str(folder / "server.crt"))
        user = "user root;" if os.geteuid() == 0 else ""  # the folder is ours alone
        self.log = (folder / "error.log").open("wb")
        # It takes over a socket that listens already, as from an nginx that is being replaced: nobody waits for it.
        inherited = {**os.environ, "NGINX": f"{listener.fileno()};"}
        self.process = subprocess.Popen(
            [program, "-e", "stderr", "-c", str(folder / "nginx.conf"), "-g", f"daemon off; {user}"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=inherited, pass_fds=[listener.fileno()],
        )  # fmt: skip
        listener.close()

    def start(self, engine: str, port: str = "0", **environment: str) -> HttpServer:
        settings = {"OCR_LOG_LEVEL": "info", "OCR_TRUSTED_PROXIES": HOME, "OCR_BUSY_WAIT": str(BOUND_S / 2)}
        settings |= {"HOST": SERVERS} | environment
        server = HttpServer(engine, port=port, **settings)
        KEPT.add(server.process.pid)
        return server

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(BOUND_S)
        self.log.close()
        for server in self.servers.values():
            server.close()

    def http(self, address: str = HOME) -> httpx2.AsyncClient:
        transport = httpx2.AsyncHTTPTransport(verify=self.tls, local_address=address)
        return httpx2.AsyncClient(transport=transport, base_url=self.root, timeout=BOUND_S)

    @asynccontextmanager
    async def client(self, mode: str, address: str = HOME, person: Any = None) -> AsyncIterator[Client]:
        async with (
            self.http(address) as http,
            Client(
                streamable_http_client(self.root + "/mcp", http_client=http), mode=mode, elicitation_callback=person
            ) as made,
        ):
            yield made


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("nginx"))
    try:
        yield made
    finally:
        made.close()


async def engine(client: Client) -> str:
    """Which server answers."""
    return str(facts(await client.call_tool("gpu_status", {}))["engine"]).rpartition(":")[2]


async def engine_at(rig: Rig, address: str) -> str:
    async with rig.http(address) as http:
        return str((await http.get("/modes")).json()["engine"]).rpartition(":")[2]


async def address_of(rig: Rig, wanted: str) -> str:
    """An address whose requests go to that server."""
    for address in ADDRESSES:
        if await engine_at(rig, address) == wanted:
            return address
    raise AssertionError(f"39 addresses, and none goes to {wanted}")


@asynccontextmanager
async def session_on(rig: Rig, wanted: str, person: Any = None) -> AsyncIterator[Client]:
    """A session that was begun on that server; they begin anywhere, so some are begun in vain."""
    for _ in range(40):
        async with rig.client("legacy", person=person) as client:
            if await engine(client) == wanted:
                yield client
                return
    raise AssertionError(f"40 sessions, and none on {wanted}")


@asynccontextmanager
async def kept_session(rig: Rig, wanted: str) -> AsyncIterator[dict[str, str]]:
    """The headers of a session on that server that nobody ends: to ask with when the server is gone."""
    async with rig.http() as http:
        for _ in range(40):
            begun = await http.post("/mcp", json=INITIALIZE, headers=HEADERS)
            headers = {**HEADERS, "Mcp-Session-Id": begun.headers["Mcp-Session-Id"]}
            if wanted in (await http.post("/mcp", json=STATUS, headers=headers)).text:
                yield headers
                return
    raise AssertionError(f"40 sessions, and none on {wanted}")


async def test_sessions_begin_on_both_servers_and_each_stays_on_its_own(rig: Rig) -> None:
    """Side by side, from one address: what a hash of the address could not give."""
    with anyio.fail_after(2 * BOUND_S):
        async with session_on(rig, "Patient") as one, session_on(rig, "Slow") as other:
            for _ in range(10):
                assert (await engine(one), await engine(other)) == ("Patient", "Slow")


async def test_what_has_no_session_goes_by_its_address_over_mcp_and_the_api_alike(rig: Rig) -> None:
    with anyio.fail_after(2 * BOUND_S):
        for name in ("Patient", "Slow"):
            address = await address_of(rig, name)
            async with rig.client("auto", address) as client:
                assert client.protocol_version == "2026-07-28"
                assert {await engine(client) for _ in range(5)} == {name}
            assert {await engine_at(rig, address) for _ in range(5)} == {name}


async def test_the_servers_never_see_what_was_put_behind_the_id_of_a_session(rig: Rig) -> None:
    async with rig.http() as http:
        begun = await http.post("/mcp", json=INITIALIZE, headers=HEADERS)
        session = begun.headers["Mcp-Session-Id"]
        own, _, key = session.partition(".")
        assert len(own) == len(key) == 32
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        pong = await http.post("/mcp", json=ping, headers={**HEADERS, "Mcp-Session-Id": session})
        assert (pong.status_code, pong.headers["Mcp-Session-Id"]) == (200, session)
        for foreign in (own, f"{own}.{key[::-1]}.x", "nonsense", f"nonsense.{key}"):
            answer = await http.post("/mcp", json=ping, headers={**HEADERS, "Mcp-Session-Id": foreign})
            assert answer.status_code in (200, 404), foreign  # 200 where chance leads to its server
            assert answer.headers.get("Mcp-Session-Id", "").startswith(("", own))
        ended = await http.delete("/mcp", headers={**HEADERS, "Mcp-Session-Id": session})
        assert ended.status_code == 200


async def test_the_page_that_asks_for_a_password_is_found_from_any_address_and_its_name_is_in_no_log(rig: Rig) -> None:
    locked = as_base64(bytes(locked_pdf(born_digital("First"), user="open sesame")))
    asked: list[str] = []

    async def person(context: Any, params: Any) -> ElicitResult:
        asked.append(params.url)
        async with rig.http(await address_of(rig, "Slow")) as browser:
            assert "is locked" in (await browser.get(params.url)).text
            origin = {"Origin": rig.root}
            answer = await browser.post(params.url, data={"password": "open sesame"}, headers=origin)
            assert "Close this page" in answer.text
        return ElicitResult(action="accept")

    with anyio.fail_after(2 * BOUND_S):
        async with session_on(rig, "Patient", person) as client:
            result = await client.call_tool("ocr_image", {"image": locked})
    assert facts(result)["text"].startswith("# First")
    assert asked[0].startswith(f"{rig.root}/passwords/")
    assert asked[0].rpartition("/")[2] not in (rig.folder / "access.log").read_text()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_progress_comes_through_as_it_happens(rig: Rig, mode: str) -> None:
    """This server ends no reading by itself: a stream that is held back would never show anything."""
    address = await address_of(rig, "Patient")
    seen = anyio.Event()

    async def note(done: float, total: float | None, message: str | None) -> None:
        seen.set()

    async def read(client: Client) -> None:
        await client.call_tool("ocr_image", {"image": PAGE}, progress_callback=note)

    with anyio.fail_after(2 * BOUND_S):
        async with (
            rig.client(mode, address) if mode == "auto" else session_on(rig, "Patient") as client,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(read, client)
            await seen.wait()
            tasks.cancel_scope.cancel()


async def test_the_apis_events_come_through_and_who_hangs_up_is_noticed(rig: Rig) -> None:
    with anyio.fail_after(2 * BOUND_S):
        async with rig.http(await address_of(rig, "Patient")) as http:
            events = {"Accept": "text/event-stream"}
            async with http.stream("POST", "/ocr", json={"image": PAGE}, headers=events) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("event: progress"):
                        break
            # Its caller's leaving ends the page, and nothing else does: the memory can be had back without force.
            released = await http.post("/gpu/release")
            assert (released.status_code, released.json()["to"]) == (200, "unloaded")


async def test_a_document_larger_than_nginx_takes_by_itself_is_taken(rig: Rig) -> None:
    address = await address_of(rig, "Slow")
    noise = png() + os.urandom(8_000_000)  # what follows a picture's end is not looked at
    async with rig.http(address) as http:
        answer = await http.post("/ocr", json={"image": as_base64(noise)})
    assert (answer.status_code, answer.json()["text"]) == (200, echo())


async def test_a_client_cannot_pass_as_another_and_one_id_is_in_all_logs(rig: Rig) -> None:
    address = await address_of(rig, "Slow")
    async with rig.http(address) as http:
        forged = {"X-Forwarded-For": "192.0.2.9", "X-Request-ID": "of-the-caller"}
        assert (await http.get("/modes", headers=forged)).headers["X-Request-ID"] == "of-the-caller"
        assert len((await http.get("/modes")).headers["X-Request-ID"]) == 32
    rig.servers["Slow"].until_logged("request=of-the-caller")
    log = rig.servers["Slow"].log
    (line,) = (line for line in log if "request=of-the-caller" in line)
    assert f"client={address}" in line
    # nginx logs a request before it takes the next one of the connection, and that one was answered.
    assert "of-the-caller" in (rig.folder / "access.log").read_text()
    assert not any("192.0.2.9" in line for line in log)


async def test_the_numbers_of_one_server_are_not_shown_as_those_of_all(rig: Rig) -> None:
    async with rig.http() as http:
        assert (await http.get("/metrics")).status_code == 404
        health = await http.get("/health")
    assert (health.status_code, health.json()["live"]) == (200, True)
    assert health.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert health.headers["X-Frame-Options"] == "DENY"


def test_it_speaks_http_2_and_no_old_tls(rig: Rig) -> None:
    place = (HOME, int(rig.root.rpartition(":")[2]))

    def connect(**how: Any) -> ssl.SSLSocket:
        tls = ssl.create_default_context(cafile=str(rig.folder / "server.crt"))
        tls.set_alpn_protocols(["h2", "http/1.1"])
        for name, value in how.items():
            setattr(tls, name, value)
        with socket.create_connection(place, timeout=60) as plain:
            return tls.wrap_socket(plain, server_hostname="localhost")

    with connect() as made:
        assert (made.selected_alpn_protocol(), made.version()) == ("h2", "TLSv1.3")
    with connect(maximum_version=ssl.TLSVersion.TLSv1_2) as made:
        assert made.version() == "TLSv1.2"


async def test_a_server_that_is_replaced_answers_what_it_reads_and_new_work_goes_to_the_other(rig: Rig) -> None:
    mine, port = await address_of(rig, "Slow"), rig.servers["Slow"].root.rpartition(":")[2]
    rig.servers["Slow"].close()
    gate = rig.folder / "gate"
    gate.mkdir()
    (gate / "allowed").write_text("0")  # pages that it may read, and those that it has read
    (gate / "reads").touch()
    old = rig.start("Noting", port, FAULTS=str(gate), OCR_DRAIN_SECONDS=str(4 * BOUND_S))
    done = []

    async def read(client: Client) -> None:
        done.append(facts(await client.call_tool("ocr_image", {"image": PAGE}))["text"])

    def handed_on() -> int:
        return (rig.folder / "access.log").read_text().count(f":{port} : ")

    try:
        with anyio.fail_after(4 * BOUND_S):
            async with (
                session_on(rig, "Noting") as client,
                kept_session(rig, "Noting") as orphan,
                rig.http(mine) as http,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(read, client)
                async with httpx2.AsyncClient(base_url=old.root, headers={"Host": HOME}, timeout=BOUND_S) as there:
                    await until_reading(there)
                old.process.send_signal(signal.SIGTERM)
                while not handed_on():
                    assert (await http.post("/mcp", json=INITIALIZE, headers=HEADERS)).status_code == 200
                for _ in range(5):
                    async with rig.client("auto", mine) as again, rig.client("legacy") as new:
                        assert (await engine(again), await engine(new)) == ("Patient", "Patient")
                answer = await http.post("/mcp", json=STATUS, headers=orphan)
                assert answer.status_code == 404, "begin a new session, it says"
                assert not done
                (gate / "allowed").unlink()
    finally:
        old.close()
        rig.servers["Slow"] = rig.start("Slow", port)
    assert done == [echo()], "what it read was answered"
    with anyio.fail_after(2 * BOUND_S):
        async with rig.http(mine) as same:
            await until_answer(same, "/modes", lambda answer: answer.json()["engine"].endswith("Slow"))


async def test_when_a_server_is_killed_the_other_goes_on_and_all_new_work_goes_there(rig: Rig) -> None:
    """The last test: one of the servers is dead for a while, then another one."""
    mine = await address_of(rig, "Patient")
    reading, broken, done = anyio.Event(), anyio.Event(), []

    async def note(*_: Any) -> None:
        reading.set()

    async def read_on_the_one_that_dies(client: Client) -> None:
        try:
            await client.call_tool("ocr_image", {"image": PAGE}, progress_callback=note)
        except Exception:
            broken.set()

    async def read_on_the_other(client: Client) -> None:
        done.append(facts(await client.call_tool("ocr_image", {"image": as_base64(png(41))})))

    with anyio.fail_after(4 * BOUND_S):
        async with (
            rig.http() as http,
            session_on(rig, "Slow") as other,
            kept_session(rig, "Patient") as orphan,
            rig.client("auto", mine) as sessionless,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(read_on_the_one_that_dies, sessionless)
            tasks.start_soon(read_on_the_other, other)
            await reading.wait()

            victim = rig.servers["Patient"]
            port = victim.root.rpartition(":")[2]
            victim.process.send_signal(signal.SIGKILL)

            await broken.wait()  # its caller is told
            assert await engine_at(rig, mine) == "Slow"  # whose address led there is served elsewhere
            assert (await http.post("/mcp", json=STATUS, headers=orphan)).status_code == 404  # begin a new one, it says
            for _ in range(5):
                async with rig.client("legacy") as new:
                    assert await engine(new) == "Slow"
            async with rig.client("auto", mine) as again:
                assert await engine(again) == "Slow"

            victim.close()
            rig.servers["Patient"] = rig.start("Patient", port)  # and it is used again
            async with rig.http(mine) as same:  # nginx tries a server that failed again when its second is over
                await until_answer(same, "/modes", lambda answer: answer.json()["engine"] == "Patient")

    assert done[0]["text"] == echo(41)  # what the other was reading was read

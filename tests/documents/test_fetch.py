from __future__ import annotations

import gzip
import http.server
import socket
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx2
import pytest

from deepseek_ocr_mcp.config import MB, Settings
from deepseek_ocr_mcp.documents import fetch as fetch_module
from deepseek_ocr_mcp.documents.fetch import Resolver, fetch, is_public
from deepseek_ocr_mcp.errors import (
    BadRequest,
    InputForbidden,
    InputNotFound,
    InputTooLarge,
    OcrError,
    Timeout,
    UnreadableInput,
)

pytestmark = pytest.mark.anyio
BOUND_S = 60.0  # a bound, not a wait
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(100))
PUBLIC = "93.184.215.14"


def make_settings(**values: object) -> Settings:
    return Settings(_env_file=None, ocr_allow_urls=True, **values)  # type: ignore[arg-type]


OPEN = make_settings(ocr_allow_http=True, ocr_allow_private_addresses=True, ocr_max_file_mb=1)


def resolves(*addresses: str) -> Resolver:
    async def resolver(host: str, port: int) -> list[str]:
        return list(addresses)

    return resolver


async def get(
    url: str,
    tmp_path: Path,
    *,
    settings: Settings | None = None,
    resolver: Resolver | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> tuple[bytes, str | None]:
    path = anyio.Path(tmp_path) / "download"
    with anyio.fail_after(BOUND_S):
        name = await fetch(url, str(path), settings=settings or make_settings(), resolver=resolver, transport=transport)
        return await path.read_bytes(), name


class Site:
    """A real server on loopback; `pages` maps a path to what answers it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.pages: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {}

    def serve(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in ({"Content_Length": str(len(body))} | headers).items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(body)

        self.pages[path] = answer
        return self.url + path


@contextmanager
def serving() -> Iterator[Site]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            try:
                site.pages[self.path.partition("?")[0]](self)
            except ConnectionError:
                self.close_connection = True  # the client has what it wanted

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site = Site(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as one:
        yield one


# -- what comes back


async def test_a_file_is_downloaded_from_a_real_server(site: Site, tmp_path: Path) -> None:
    url = site.serve("/my%20scan.png", PNG)
    assert await get(f"{url}?token=x#page=2", tmp_path, settings=OPEN) == (PNG, "my scan.png")
    path, headers = site.seen[0]
    assert path == "/my%20scan.png?token=x"
    assert headers["host"] == site.url.removeprefix("http://")
    assert headers["user-agent"].startswith("deepseek-ocr-mcp/")
    assert "cookie" not in headers


async def test_an_address_without_a_name_has_none(site: Site, tmp_path: Path) -> None:
    site.serve("/", PNG)
    assert await get(site.url, tmp_path, settings=OPEN) == (PNG, None)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
async def test_a_server_that_compresses_unasked_is_understood(
    site: Site, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    data = PNG * 5000
    encoding = "gzip" if pack is gzip.compress else "deflate"
    url = site.serve("/a.png", pack(data), Content_Encoding=encoding)
    assert (await get(url, tmp_path, settings=OPEN))[0] == data


async def test_redirects_are_followed_without_cookies(site: Site, tmp_path: Path) -> None:
    site.serve("/b/c.png", PNG)
    url = site.serve("/a", b"", 302, Location="b/c.png", Set_Cookie="a=b; Path=/")
    assert await get(url, tmp_path, settings=OPEN) == (PNG, "c.png")
    assert "cookie" not in site.seen[1][1]


async def test_proxies_of_the_environment_are_not_used(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await get(site.serve("/a.png", PNG), tmp_path, settings=OPEN))[0] == PNG


# -- where it may go


async def test_plain_http_needs_leave(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.png", PNG)
    with pytest.raises(InputForbidden) as caught:
        await get(url, tmp_path, settings=make_settings(ocr_allow_private_addresses=True))
    assert "OCR_ALLOW_HTTP" in caught.value.remedy
    assert not site.seen


async def test_an_inner_address_needs_leave(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.png", PNG)
    with pytest.raises(InputForbidden) as caught:
        await get(url, tmp_path, settings=make_settings(ocr_allow_http=True))
    assert "OCR_ALLOW_PRIVATE_ADDRESSES" in caught.value.remedy
    assert not site.seen


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "0", "[::1]", "[::ffff:127.0.0.1]"])
async def test_no_spelling_of_loopback_gets_through(tmp_path: Path, host: str) -> None:
    with pytest.raises((InputForbidden, InputNotFound, BadRequest)):
        await get(f"https://{host}/a.png", tmp_path)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "168.63.129.16",
        "169.254.169.254", "172.16.0.1", "192.0.0.8", "192.0.2.1", "192.168.1.1", "192.88.99.1",
        "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1",
        "::7f00:1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
        "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1", "5f00::1", "fc00::1",
        "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", PUBLIC, "2606:4700::6810:84e5", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_an_address_that_is_public_is_known(address: str) -> None:
    assert is_public(address)


async def test_one_inner_address_among_public_ones_is_enough_to_refuse(tmp_path: Path) -> None:
    with pytest.raises(InputForbidden):
        await get("https://example.org/a.png", tmp_path, resolver=resolves(PUBLIC, "10.0.0.1"))


async def test_a_name_that_changes_its_address_gains_nothing(site: Site, tmp_path: Path) -> None:
    """The connection goes to the address that was checked; the name is never asked again."""
    answers = iter([["127.0.0.1"]])
    asked = []

    async def once(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return next(answers)

    site.serve("/a.png", PNG)
    port = int(site.url.rpartition(":")[2])
    url = f"http://rebinding.invalid:{port}/a.png"
    assert (await get(url, tmp_path, settings=OPEN, resolver=once))[0] == PNG
    assert asked == [("rebinding.invalid", port)]
    assert site.seen[0][1]["host"] == f"rebinding.invalid:{port}"


async def test_the_checked_address_is_connected_to_under_the_hosts_name(tmp_path: Path) -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, content=body())

    async def body() -> AsyncIterator[bytes]:
        yield PNG

    await get(
        "https://Example.org:444/a.png",
        tmp_path,
        resolver=resolves(PUBLIC),
        transport=httpx2.MockTransport(answer),
    )
    assert str(seen[0].url) == f"https://{PUBLIC}:444/a.png"
    assert seen[0].headers["host"] == "example.org:444"
    assert seen[0].extensions["sni_hostname"] == "example.org"


async def test_each_redirect_is_checked_like_the_first_address(tmp_path: Path) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host == "inner.test" else [PUBLIC]

    targets = {
        "https://inner.test/": InputForbidden,
        "http://example.org/": InputForbidden,
        "ftp://example.org/": InputForbidden,
        "file:///etc/passwd": OcrError,
        "https://user:secret@example.org/": InputForbidden,
        "https://[": BadRequest,
    }
    for target, kind in targets.items():
        transport = httpx2.MockTransport(lambda _, to=target: httpx2.Response(302, headers={"Location": to}))
        with pytest.raises(kind) as caught:
            await get("https://example.org/a.png", tmp_path, resolver=resolver, transport=transport)
        assert "secret" not in str(caught.value)


async def test_redirects_end(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a", b"", 301, Location="/a")
    with pytest.raises(UnreadableInput, match="redirected"):
        await get(url, tmp_path, settings=OPEN)
    assert len(site.seen) == 6


async def test_credentials_in_an_address_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputForbidden) as caught:
        await get("https://user:secret@example.org/a.png", tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://", "https:///a.png", "https://[", "https://a:b:c/"])
async def test_what_is_no_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadRequest):
        await get(url, tmp_path)


# -- bounds and failures


async def test_an_unknown_host_is_named(tmp_path: Path) -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror

    for resolver in (unknown, resolves()):
        with pytest.raises(InputNotFound, match=r"example\.org"):
            await get("https://example.org/a.png", tmp_path, resolver=resolver)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, InputNotFound),
        (410, InputNotFound),
        (403, UnreadableInput),
        (500, UnreadableInput),
        (204, UnreadableInput),
    ],
)
async def test_an_http_error_is_told_without_its_body(
    site: Site, tmp_path: Path, status: int, kind: type[OcrError]
) -> None:
    url = site.serve("/a.png", b"" if status == 204 else b"inner secrets", status)
    with pytest.raises(kind, match=str(status)) as caught:
        await get(url, tmp_path, settings=OPEN)
    assert "inner secrets" not in str(caught.value)


async def test_an_announced_length_over_the_limit_is_refused_before_it_is_read(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.png", b"", Content_Length=str(10 * MB))
    with pytest.raises(InputTooLarge, match="limit of 1 MiB"):
        await get(url, tmp_path, settings=OPEN)


async def test_an_endless_answer_is_cut_at_the_limit(site: Site, tmp_path: Path) -> None:
    def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(100_000))

    site.pages["/a.png"] = endless
    with pytest.raises(InputTooLarge):
        await get(f"{site.url}/a.png", tmp_path, settings=OPEN)


async def test_a_compressed_bomb_is_cut_at_the_limit(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a.png", gzip.compress(bytes(50 * MB)), Content_Encoding="gzip")
    with pytest.raises(InputTooLarge):
        await get(url, tmp_path, settings=OPEN)


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "gzip"])
async def test_an_encoding_that_is_not_understood_is_refused(site: Site, tmp_path: Path, encoding: str) -> None:
    url = site.serve("/a.png", PNG, Content_Encoding=encoding)
    with pytest.raises(UnreadableInput):
        await get(url, tmp_path, settings=OPEN)


async def test_a_download_that_breaks_off_is_an_error(site: Site, tmp_path: Path) -> None:
    broken = site.serve("/a.png", PNG, Content_Length="5000")
    packed = site.serve("/b.png", gzip.compress(PNG * 99)[:-20], Content_Encoding="gzip")
    for url in (broken, packed):
        with pytest.raises(UnreadableInput, match="broke off"):
            await get(url, tmp_path, settings=OPEN)


async def test_a_server_that_does_not_speak_http_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(b"220 smtp.example.org ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with pytest.raises(UnreadableInput, match="HTTP"):
                await get(f"http://127.0.0.1:{listener.getsockname()[1]}/", tmp_path, settings=OPEN)
        finally:
            thread.join()


async def test_a_closed_port_is_named_after_all_addresses_were_tried(site: Site, tmp_path: Path) -> None:
    site.serve("/a.png", PNG)
    port = site.url.rpartition(":")[2]
    url = f"http://example.test:{port}/a.png"
    assert (await get(url, tmp_path, settings=OPEN, resolver=resolves("127.0.0.2", "127.0.0.1")))[0] == PNG
    with pytest.raises(UnreadableInput, match="connected"):
        await get(url, tmp_path, settings=OPEN, resolver=resolves("127.0.0.2", "127.0.0.3"))


async def test_a_certificate_of_another_name_is_refused(tmp_path: Path) -> None:
    """TLS is spoken with the host's name: a server that cannot prove it gets no request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hello: list[bytes] = []

        def answer() -> None:
            with listener.accept()[0] as connection:
                hello.append(connection.recv(5000))

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            url = f"https://named.test:{listener.getsockname()[1]}/"
            with pytest.raises(UnreadableInput):
                await get(url, tmp_path, settings=OPEN, resolver=resolves("127.0.0.1"))
        finally:
            thread.join()
    assert b"named.test" in hello[0]


async def test_a_stalled_download_ends_at_its_deadline(site: Site, tmp_path: Path) -> None:
    async def stall() -> AsyncIterator[bytes]:
        yield PNG
        await anyio.sleep_forever()

    class Stalling(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, content=stall())

    settings = make_settings(ocr_fetch_timeout=0.05)
    with pytest.raises(Timeout, match=r"0\.05 s"):
        await get(
            "https://example.org/a.png",
            tmp_path,
            settings=settings,
            resolver=resolves(PUBLIC),
            transport=Stalling(),
        )


async def test_a_name_server_that_does_not_answer_ends_at_the_deadline(tmp_path: Path) -> None:
    async def silent(host: str, port: int) -> list[str]:
        await anyio.sleep_forever()
        raise AssertionError

    with pytest.raises(Timeout):
        await get(
            "https://example.org/a.png",
            tmp_path,
            settings=make_settings(ocr_fetch_timeout=0.05),
            resolver=silent,
        )


def test_the_public_names_are_these() -> None:
    assert fetch_module.__all__ == ["Resolver", "fetch", "is_public"]

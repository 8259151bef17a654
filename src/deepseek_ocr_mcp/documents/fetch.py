"""Downloads one public file: no address is connected to unchecked, every wait and size is bounded.

Each name is resolved once, and the connection goes to the address that was checked. So a name server that changes its
answer gains nothing. Redirects are followed here, each one checked like the first address. No cookies, no proxies, no
credentials; the body of an error is not read.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final
from urllib.parse import unquote

import anyio
import httpx2

from .. import __version__
from ..config import MB, Settings
from ..errors import BadRequest, InputForbidden, InputNotFound, InputTooLarge, OcrError, Timeout, UnreadableInput

__all__ = ["Resolver", "fetch", "is_public"]

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Resolves a host and a port to IP addresses, as text."""

MAX_REDIRECTS: Final = 5
MAX_ADDRESSES: Final = 4  # addresses of one name that are tried, one after the other
CONNECT_TIMEOUT_S: Final = 5.0  # for each address: a dead IPv6 route must not take the whole time
WRITE_CHUNK: Final = MB

_HOST: Final = re.compile(rb"[A-Za-z0-9._:-]+")  # httpx2 quotes a wrong host name instead of refusing it

_HEADERS: Final = {
    "User-Agent": f"deepseek-ocr-mcp/{__version__}",
    "Accept": "image/*, application/pdf;q=0.9, */*;q=0.1",
    "Accept-Encoding": "identity",
}

# Special networks that Python's tables lack, or call global although they lead to inner hosts.
_SPECIAL: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # Azure's host agent
        "2001::/23",  # protocol assignments, Teredo among them
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
_IPV6_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address is public. An IPv4 address inside an IPv6 one (mapped, NAT64) is checked itself."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip not in _IPV6_UNICAST:
            return False
    return (
        ip.is_global and not ip.is_multicast and not ip.is_reserved and not any(ip in network for network in _SPECIAL)
    )


async def fetch(
    url: str,
    dest_path: str,
    *,
    settings: Settings,
    resolver: Resolver | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> str | None:
    """Download a file. Returns its name, if the address has one.

    Args:
        url: the address.
        dest_path: the file to write.
        settings: the bounds, and the networks that are allowed.
        resolver: asks the name server; default: that of the system.
        transport: carries the requests; default: TCP and TLS.

    Raises:
        BadRequest: the address is not valid.
        InputForbidden: the settings keep out the scheme, the credentials or the network.
        InputNotFound: the server answers 404 or 410, or there is no such host.
        InputTooLarge: the file is over `OCR_MAX_FILE_MB`.
        UnreadableInput: the server cannot be reached, refuses or breaks off.
        Timeout: the download took longer than `OCR_FETCH_TIMEOUT`.
    """
    try:
        with anyio.fail_after(settings.ocr_fetch_timeout):
            return await _follow(url, dest_path, settings, resolver or _resolve, transport)
    except TimeoutError:
        raise Timeout(
            f"The download took over {settings.ocr_fetch_timeout:g} s and was stopped.",
            remedy="Try again, download the file yourself and give its path, or raise OCR_FETCH_TIMEOUT.",
        ) from None


async def _follow(
    address: str,
    dest_path: str,
    settings: Settings,
    resolver: Resolver,
    transport: httpx2.AsyncBaseTransport | None,
) -> str | None:
    url = _parsed(address)
    verify = httpx2.create_ssl_context() if transport is None else True
    for _ in range(MAX_REDIRECTS + 1):
        _check_scheme(url, settings)
        addresses = await _addresses(url, settings, resolver)
        # One client per hop: a cookie that a redirect sets goes nowhere.
        async with httpx2.AsyncClient(
            verify=verify,
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
        ) as client:
            response = await _send(client, url, addresses)
            try:
                if not response.has_redirect_location:
                    await _save(response, url, dest_path, settings.max_file_bytes)
                    return _name(url)
                url = _parsed(response.headers["Location"], url)
            except (httpx2.HTTPError, httpx2.StreamError):
                raise _unreachable(url, "broke off the download") from None
            finally:
                await response.aclose()
    raise UnreadableInput(
        f"The address was redirected more than {MAX_REDIRECTS} times.",
        remedy="Open it in a browser and give the address of the file itself.",
    )


def _parsed(address: str, base: httpx2.URL | None = None) -> httpx2.URL:
    try:
        url = base.join(address) if base is not None else httpx2.URL(address)
    except (httpx2.InvalidURL, ValueError):
        url = httpx2.URL("")
    if not _HOST.fullmatch(url.raw_host):
        raise BadRequest("The address is not valid.", remedy="Write https://host/path/file.pdf.")
    return url


def _check_scheme(url: httpx2.URL, settings: Settings) -> None:
    if url.userinfo:
        raise InputForbidden(
            "Addresses with a user name or a password are not fetched.",
            remedy="Download the file yourself and give its path or its base64.",
        )
    if url.scheme == "https" or (url.scheme == "http" and settings.ocr_allow_http):
        return
    if url.scheme == "http":
        raise InputForbidden(
            f"The address of {_host(url)} begins with plain http://, which is not fetched.",
            remedy="Use https://, or set OCR_ALLOW_HTTP=true.",
        )
    raise InputForbidden(
        f"The address leads to {url.scheme}:, which is not fetched.", remedy="Use an https:// address."
    )


async def _addresses(url: httpx2.URL, settings: Settings, resolver: Resolver) -> list[str]:
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        addresses = await resolver(url.raw_host.decode("ascii"), port)
    except (OSError, UnicodeError):
        addresses = []
    if not addresses:
        raise InputNotFound(f"There is no host {_host(url)}.", remedy="Check the address.")
    # All addresses are checked: a name server may hide an inner address among public ones.
    if not settings.ocr_allow_private_addresses and not all(map(is_public, addresses)):
        raise InputForbidden(
            f"{_host(url)} is not an address of the public internet.",
            remedy="Give the file itself, or set OCR_ALLOW_PRIVATE_ADDRESSES=true to reach inner hosts.",
        )
    return addresses[:MAX_ADDRESSES]


async def _resolve(host: str, port: int) -> list[str]:
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def _send(client: httpx2.AsyncClient, url: httpx2.URL, addresses: list[str]) -> httpx2.Response:
    """Ask the checked addresses in turn. The server, and the check of its certificate, still get the name."""
    for address in addresses:
        request = client.build_request(
            "GET",
            url.copy_with(host=address, fragment=None),
            headers={**_HEADERS, "Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        try:
            return await client.send(request, stream=True)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            continue
        except httpx2.HTTPError:
            raise _unreachable(url, "gave no answer that is HTTP") from None
    raise _unreachable(url, "cannot be connected to, or its certificate is not valid")


async def _save(response: httpx2.Response, url: httpx2.URL, dest_path: str, limit: int) -> None:
    if response.status_code != 200:
        raise _refused(response.status_code, url)
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(url, limit)
    size = 0
    async with await anyio.open_file(dest_path, "wb", buffering=WRITE_CHUNK) as file:
        async for chunk in _decoded(response, url):
            size += len(chunk)
            if size > limit:
                raise _too_large(url, limit)
            await file.write(chunk)


async def _decoded(response: httpx2.Response, url: httpx2.URL) -> AsyncIterator[bytes]:
    """The body in bounded pieces. Some servers compress it, although the request says not to."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        async for chunk in response.aiter_raw(WRITE_CHUNK):
            yield chunk
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise _unreachable(url, "compresses its answers in a way that is not read")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by its header
    try:
        async for chunk in response.aiter_raw(WRITE_CHUNK):
            while chunk:
                yield inflater.decompress(chunk, WRITE_CHUNK)
                chunk = inflater.unconsumed_tail
        yield inflater.flush()
    except zlib.error:
        raise _unreachable(url, "sent damaged data") from None
    if not inflater.eof:
        raise _unreachable(url, "broke off the download")


def _host(url: httpx2.URL) -> str:
    return url.host[:100]


def _name(url: httpx2.URL) -> str | None:
    return unquote(os.path.basename(url.path)) or None


def _refused(status: int, url: httpx2.URL) -> OcrError:
    if status in (404, 410):
        return InputNotFound(f"{_host(url)} has no such file (HTTP {status}).", remedy="Check the address.")
    if status in (401, 402, 403, 407, 451):
        return UnreadableInput(
            f"{_host(url)} does not give the file to everybody (HTTP {status}).",
            remedy="Download it yourself and give its path or its base64.",
        )
    return UnreadableInput(
        f"{_host(url)} answered HTTP {status}.", remedy="Try again later, or download the file yourself."
    )


def _too_large(url: httpx2.URL, limit: int) -> InputTooLarge:
    return InputTooLarge(
        f"The file of {_host(url)} is over the limit of {limit // MB} MiB.",
        remedy="Send a smaller scan or fewer pages, or raise OCR_MAX_FILE_MB.",
    )


def _unreachable(url: httpx2.URL, what: str) -> UnreadableInput:
    return UnreadableInput(
        f"{_host(url)} {what}.", remedy="Try again, or download the file yourself and give its path."
    )

"""Bodies: in virtual time what stalls or creeps is cut, and a form comes out the same however it is cut into pieces."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from deepseek_ocr_mcp.config import MB, Settings
from deepseek_ocr_mcp.documents.source import Incoming
from deepseek_ocr_mcp.edges.http.bodies import LEAST_BYTES_PER_S, BodyLimits, read_form
from deepseek_ocr_mcp.errors import BadRequest, InputTooLarge, OcrError


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Client:
    """Sends a body piece by piece, each after a wait; keeps what is answered."""

    def __init__(self, *pieces: tuple[float, int], ends: bool = True) -> None:
        self._pieces = list(pieces)
        self._ends = ends
        self.answered: list[Message] = []

    async def receive(self) -> Message:
        if self._pieces:
            wait, size = self._pieces.pop(0)
            await anyio.sleep(wait)
            more = bool(self._pieces) or not self._ends
            return {"type": "http.request", "body": b"x" * size, "more_body": more}
        await anyio.sleep_forever()
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.answered.append(message)

    @property
    def status(self) -> int:
        return int(self.answered[0]["status"])


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads the body and answers its size."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


async def read_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def say_500(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that makes an answer of its own out of whatever happens, as the MCP SDK does."""
    try:
        await read_all(scope, receive, send)
    except Exception:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"oh dear"})


async def asked(app: Callable[[Scope, Receive, Send], Any], client: Client, **given: Any) -> float:
    """Seconds that the request took."""
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"transfer-encoding", b"chunked")]}
    began = anyio.current_time()
    await BodyLimits(app, Settings(ocr_upload_timeout=20, ocr_max_file_mb=1))(
        scope | given, client.receive, client.send
    )
    return anyio.current_time() - began


@pytest.mark.anyio
async def test_a_slow_body_that_moves_on_is_taken() -> None:
    client = Client(*[(15.0, 16 * LEAST_BYTES_PER_S)] * 4)
    assert await asked(read_all, client) == pytest.approx(60)
    assert client.status == 200
    assert client.answered[1]["body"] == str(64 * LEAST_BYTES_PER_S).encode()


@pytest.mark.anyio
@pytest.mark.parametrize("app", [read_all, say_500])
async def test_a_body_that_stalls_is_cut_whatever_the_application_makes_of_it(app: Any) -> None:
    client = Client((1.0, 1_000_000), (21.0, 10))
    # Twenty seconds, and two in which the client may notice that it has its answer.
    assert await asked(app, client) == pytest.approx(1 + 20 + 2)
    assert client.status == 408
    assert (b"connection", b"close") in client.answered[0]["headers"]
    assert b"slow_upload" in client.answered[1]["body"]
    assert client.answered[-1]["more_body"] is False


@pytest.mark.anyio
async def test_a_body_that_creeps_is_cut() -> None:
    client = Client(*[(0.5, 100)] * 1000)
    assert await asked(read_all, client) < 20 + 2 + 2
    assert client.status == 408


@pytest.mark.anyio
@pytest.mark.parametrize("app", [read_all, say_500])
async def test_a_body_without_an_end_is_cut_at_the_limit(app: Any) -> None:
    client = Client(*[(0.0, 65536)] * 10_000)
    await asked(app, client)
    assert client.status == 413
    assert b"1 MiB" in client.answered[1]["body"]
    assert len(client._pieces) > 9_000  # it was not read to its end, not even to be thrown away


@pytest.mark.anyio
async def test_a_body_that_nobody_reads_is_not_waited_for() -> None:
    client = Client(*[(0.0, 65536)] * 10, ends=False)
    assert await asked(read_nothing, client) == pytest.approx(2)
    assert client.status == 404
    assert (b"connection", b"close") in client.answered[0]["headers"]


@pytest.mark.anyio
async def test_a_request_without_a_body_is_left_alone() -> None:
    client = Client()
    assert await asked(read_nothing, client, headers=[(b"content-length", b"0")]) == 0
    assert client.answered[0]["headers"] == []


@pytest.mark.anyio
async def test_an_error_of_the_application_is_its_own() -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise OcrError("Mine.", remedy="None.")

    with pytest.raises(OcrError, match="Mine"):
        await asked(failing, Client((0.0, 1)))


FORM = (
    b"--the-boundary\r\n"
    b'Content-Disposition: form-data; name="mode"\r\n\r\nfind\r\n'
    b"--the-boundary\r\n"
    b'Content-Disposition: form-data; name="file"; filename="a/b \xc3\xa4.png"\r\nContent-Type: image/png\r\n\r\n'
    b"\x00\r\n--the-bound\r\n\xff\r\n"
    b"--the-boundary\r\n"
    b'Content-Disposition: form-data; name="find_term"\r\n\r\nst\xc3\xbcck\r\n'
    b"--the-boundary--\r\n"
)


def form(body: bytes, cuts: list[int]) -> Request:
    ends = sorted({min(cut, len(body)) for cut in cuts} | {len(body)})
    starts = [0, *ends[:-1]]
    pieces = [body[start:end] for start, end in zip(starts, ends, strict=True)]

    async def receive() -> Message:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    kind = b"multipart/form-data; boundary=the-boundary"
    return Request({"type": "http", "headers": [(b"content-type", kind)]}, receive)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, len(FORM) - 1), max_size=40))
def test_a_form_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    async def check() -> None:
        with tempfile.TemporaryDirectory() as folder:
            incoming = Incoming(Settings(), folder)
            assert await read_form(form(FORM, cuts), incoming) == {"mode": "find", "find_term": "stück"}
            snapshot = await incoming.snapshot()
            assert await anyio.Path(snapshot.path).read_bytes() == b"\x00\r\n--the-bound\r\n\xff"
            assert snapshot.name == "b ä.png"
            assert snapshot.size == 17

    anyio.run(check)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (b"filename*=UTF-8''scan%20%C3%A4.png", "scan ä.png"),
        (b"filename*=iso-8859-1'de'%E4.png", "ä.png"),
        (b"filename*=no-such-charset''a%C3%A4.png", "aä.png"),
        (b"FileName* = utf-8''a.png; x=y", "a.png"),
        (b"filename=\"plain.png\"; filename*=UTF-8''extended.png", "plain.png"),
    ],
)
async def test_a_file_may_be_named_by_the_extended_parameter_alone(
    tmp_path: Path, parameters: bytes, name: str
) -> None:
    body = FORM.replace(b'filename="a/b \xc3\xa4.png"', parameters)
    incoming = Incoming(Settings(), str(tmp_path))
    assert await read_form(form(body, []), incoming) == {"mode": "find", "find_term": "stück"}
    assert (await incoming.snapshot()).name == name


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(FORM) - 3), st.binary(max_size=20))
def test_a_damaged_form_is_an_error_of_ours(at: int, junk: bytes) -> None:
    async def check() -> None:
        for body in (FORM[:at], FORM[:at] + junk + FORM[at:], junk + FORM):
            with tempfile.TemporaryDirectory() as folder, suppress(BadRequest):
                await read_form(form(body, [7]), Incoming(Settings(), folder))

    anyio.run(check)


def test_a_file_is_written_as_it_comes_and_no_further_than_the_limit(tmp_path: Path) -> None:
    async def write() -> None:
        incoming = Incoming(Settings(ocr_max_file_mb=2), str(tmp_path))
        for _ in range(16):
            await incoming.write(bytes(MB // 8))
        with pytest.raises(InputTooLarge, match="2 MiB"):
            await incoming.write(b"x")

    anyio.run(write)
    [file] = tmp_path.iterdir()
    assert file.stat().st_size == 2 * MB
    assert file.stat().st_mode & 0o077 == 0

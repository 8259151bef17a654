"""MCP asks for the password of a locked PDF past the agent: on a page of the server, if the client can open one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitRequestURLParams, ElicitResult

from deepseek_ocr_mcp.edges.mcp import passwords
from deepseek_ocr_mcp.edges.mcp.server import build_mcp
from locked_pdf import locked_pdf
from pdf_maker import born_digital
from support import BOUND_S, HttpServer, Servers, facts, http_server, running, said

pytestmark = pytest.mark.anyio

WORD = "open sesame"
Ask = Callable[[Any, Any], Awaitable[ElicitResult]]


@pytest.fixture
def locked(tmp_path: Path) -> str:
    path = tmp_path / "locked <b>.pdf"
    path.write_bytes(locked_pdf(born_digital("First"), born_digital("Second"), user=WORD))
    return str(path)


class Person:
    """Opens the pages that a client is asked to open, and types words into them, one after the other."""

    def __init__(self, *words: str) -> None:
        self.words = list(words)
        self.asked: list[ElicitRequestURLParams] = []
        self.shown: list[str] = []

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        assert isinstance(params, ElicitRequestURLParams), "a form of the client must not ask for a password"
        self.asked.append(params)
        if not self.words:
            return ElicitResult(action="decline")
        async with httpx2.AsyncClient() as http:
            page = await http.get(params.url)
            self.shown.append(page.text)
            assert "default-src 'none'" in page.headers["content-security-policy"]
            answer = await http.post(params.url, data={"password": self.words.pop(0)})
            assert "Close this page" in answer.text
            assert (await http.get(params.url)).status_code == 404, "each page takes one answer"
        return ElicitResult(action="accept")


@pytest.mark.parametrize("mode", ["legacy", "auto"])  # within a call, and by an answer (2026-07-28)
async def test_the_user_is_asked_on_a_page_until_the_password_opens_the_document(locked: str, mode: Any) -> None:
    person = Person("open barley", WORD)
    with anyio.fail_after(2 * BOUND_S):
        async with (
            running("Echo") as service,
            Client(build_mcp(service, local=True), mode=mode, elicitation_callback=person) as client,
        ):
            first = await client.call_tool("ocr_image", {"image": locked, "pages": "1"})
            assert facts(first)["text"].startswith("# First")
            assert [asked.message.partition("with")[0] for asked in person.asked] == [
                "locked <b>.pdf is locked ",
                "locked <b>.pdf does not open ",
            ]
            assert all(asked.url.startswith("http://127.0.0.1:") for asked in person.asked)
            assert "locked &lt;b&gt;.pdf" in person.shown[0]
            second = await client.call_tool("ocr_image", {"image": locked, "pages": "2"})
            assert facts(second)["text"].startswith("# Second")
            assert len(person.asked) == 2, "it is known by now"
            assert WORD not in f"{said(first)}{first.structured_content}{person.asked}"


async def test_a_user_who_declines_and_a_client_that_opens_no_pages_get_an_error_with_what_to_do(locked: str) -> None:
    declining = Person()
    with anyio.fail_after(2 * BOUND_S):
        async with running("Echo") as service:
            for callback, mode, asked in (
                (declining, "legacy", 1),
                (None, "legacy", 1),
                (declining, "auto", 2),
                (None, "auto", 2),
            ):
                async with Client(build_mcp(service, local=True), mode=mode, elicitation_callback=callback) as client:
                    result = await client.call_tool("ocr_image", {"image": locked})
                assert result.is_error
                assert "OCR_PDF_PASSWORD" in said(result)
                assert len(declining.asked) == asked


async def test_a_user_who_takes_long_is_asked_once_and_the_next_call_finds_the_password(locked: str) -> None:
    addresses: list[str] = []

    async def slow(context: Any, params: Any) -> ElicitResult:
        addresses.append(params.url)
        return ElicitResult(action="accept")

    with anyio.fail_after(2 * BOUND_S):
        async with (
            running("Echo", ocr_reply_seconds=2) as service,
            Client(build_mcp(service, local=True), mode="legacy", elicitation_callback=slow) as client,
        ):
            early = ""
            while "call again with the same arguments" not in early:  # it is another error where the machine is busy
                early = said(await client.call_tool("ocr_image", {"image": locked}))
            asked = len(addresses)
            async with httpx2.AsyncClient() as http:
                await http.post(addresses[-1], data={"password": WORD})
            late = await until_read(client, {"image": locked, "pages": "1"})
            assert late["text"].startswith("# First")
            assert len(addresses) == asked


async def test_by_an_answer_the_client_is_asked_once_and_calls_again_until_the_user_has_typed(
    locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ElicitRequestURLParams] = []
    called_again = anyio.Event()
    wait = passwords._AskRound.wait

    def waits_long_from_now_on(turn: passwords._AskRound) -> Any:
        monkeypatch.setattr(passwords, "ASKING_SHARE", 1.0)
        called_again.set()
        return wait(turn)

    monkeypatch.setattr(passwords, "ASKING_SHARE", 0.0)
    monkeypatch.setattr(passwords._AskRound, "wait", waits_long_from_now_on)

    async def types_slowly(url: str) -> None:
        await called_again.wait()
        async with httpx2.AsyncClient() as http:
            await http.post(url, data={"password": WORD})

    with anyio.fail_after(2 * BOUND_S):
        async with anyio.create_task_group() as tasks, running("Echo", ocr_reply_seconds=BOUND_S) as service:

            async def agrees(context: Any, params: Any) -> ElicitResult:
                asked.append(params)
                tasks.start_soon(types_slowly, params.url)
                return ElicitResult(action="accept")

            async with Client(
                build_mcp(service, local=True), mode="auto", elicitation_callback=agrees, read_timeout_seconds=BOUND_S
            ) as client:
                late = await client.call_tool("ocr_image", {"image": locked, "pages": "1"})
            assert facts(late)["text"].startswith("# First")
            assert len(asked) == 1


async def test_a_user_who_agrees_and_never_types_is_waited_for_with_a_bound(
    locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "ASKING_SHARE", 0.0)
    asked: list[ElicitRequestURLParams] = []

    async def agrees(context: Any, params: Any) -> ElicitResult:
        asked.append(params)
        return ElicitResult(action="accept")

    with anyio.fail_after(2 * BOUND_S):
        async with (
            running("Echo") as service,
            Client(build_mcp(service, local=True), mode="auto", elicitation_callback=agrees) as client,
        ):
            result = await client.call_tool("ocr_image", {"image": locked})
    assert result.is_error
    assert "is locked with a password" in said(result)
    assert len(asked) == 1


async def until_read(client: Client, arguments: dict[str, Any]) -> dict[str, Any]:
    """The answer to a call that may take longer than the server lets a call take."""
    while (result := await client.call_tool("ocr_image", arguments)).is_error:
        assert "could not be opened within" in said(result)
    return facts(result)


async def test_the_locked_documents_of_a_folder_are_opened_with_one_password_each_that_the_user_gives(
    tmp_path: Path,
) -> None:
    source, out = tmp_path / "scans", tmp_path / "texts"
    source.mkdir()
    for name, word in (("a", WORD), ("b", WORD), ("c", "another"), ("d", "")):
        (source / f"{name}.pdf").write_bytes(locked_pdf(born_digital(f"Page of {name}"), user=word))
    person = Person(WORD, "another")
    with anyio.fail_after(2 * BOUND_S):
        async with (
            running("Echo") as service,
            Client(build_mcp(service, local=True), mode="legacy", elicitation_callback=person) as client,
        ):
            folder = {"image": str(source), "save_to": str(out)}
            result = await client.call_tool("ocr_to_files", folder)
            assert facts(result)["folder"]["failed"] == 0
            assert [asked.message.partition(" Enter")[0] for asked in person.asked] == [
                "a.pdf is locked with a password. 2 more of this folder need one, too.",
                "c.pdf does not open with this password.",
            ]
            for name in "abcd":
                assert (out / f"{name}.pdf.md").read_text().startswith(f"# Page of {name}")
            everything = b"".join(path.read_bytes() for path in out.iterdir()) + str(result).encode()
            assert WORD.encode() not in everything


async def test_a_folder_of_which_a_document_stays_locked_gives_the_others_and_says_what_to_do(tmp_path: Path) -> None:
    source, out = tmp_path / "scans", tmp_path / "texts"
    source.mkdir()
    (source / "a.pdf").write_bytes(locked_pdf(born_digital("Page of a"), user=WORD))
    (source / "b.pdf").write_bytes(locked_pdf(born_digital("Page of b"), user=""))
    declining = Person()
    with anyio.fail_after(2 * BOUND_S):
        async with (
            running("Echo") as service,
            Client(build_mcp(service, local=True), mode="legacy", elicitation_callback=declining) as client,
        ):
            result = await client.call_tool("ocr_to_files", {"image": str(source), "save_to": str(out)})
    assert len(declining.asked) == 1
    assert facts(result)["folder"]["read"] == 1
    assert "Set OCR_PDF_PASSWORD" in facts(result)["folder"]["failures"][0]["error"]
    assert "the locked ones of a folder" in (out / "index.md").read_text()


# -- over HTTP


@asynccontextmanager
async def asking(
    server: HttpServer, person: Ask, headers: dict[str, str] | None = None, mode: Any = "legacy"
) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=BOUND_S) as http,
        Client(streamable_http_client(server.url, http_client=http), mode=mode, elicitation_callback=person) as client,
    ):
        yield client


async def test_over_http_the_page_is_one_of_the_server_and_the_password_serves_the_session_that_asked(
    locked: str,
) -> None:
    token = "a long random string"
    person, other = Person("open barley", WORD), Person()
    headers = {"Authorization": f"Bearer {token}"}
    settings = {"OCR_AUTH_TOKEN": token, "OCR_ALLOWED_DIRS": str(Path(locked).parent), "OCR_LOG_LEVEL": "debug"}
    with anyio.fail_after(2 * BOUND_S), http_server(**settings) as server:
        async with asking(server, person, headers) as client:
            first = await client.call_tool("ocr_image", {"image": locked, "pages": "1"})
            assert facts(first)["text"].startswith("# First")
            assert facts(await client.call_tool("ocr_image", {"image": locked, "pages": "2"}))["text"]
            assert len(person.asked) == 2
            assert all(asked.url.startswith(f"{server.root}/passwords/") for asked in person.asked)
            async with asking(server, other, headers) as client:
                refused = await client.call_tool("ocr_image", {"image": locked, "pages": "1"})
            assert refused.is_error
            assert len(other.asked) == 1, "it is asked for a password of its own"
        once, stranger = Person("open barley", WORD), Person()
        async with asking(server, once, headers, "auto") as client:
            assert facts(await client.call_tool("ocr_image", {"image": locked, "pages": "1"}))["text"]
            assert len(once.asked) == 2
            assert all(asked.url.startswith(f"{server.root}/passwords/") for asked in once.asked)
        async with asking(server, stranger, headers, "auto") as client:  # of the same address, and without sessions
            assert (await client.call_tool("ocr_image", {"image": locked, "pages": "1"})).is_error
            assert len(stranger.asked) == 1
    log = "".join(server.log)
    assert "/passwords/…" in log
    for secret in (WORD, "sesame", "barley", *(asked.url.rpartition("/")[2] for asked in person.asked)):
        assert secret not in log


@pytest.mark.parametrize(
    ("headers", "is_asked"),
    [
        ({}, True),
        ({"Host": "ocr.example.org"}, False),  # the password would cross a network in clear
        ({"X-Forwarded-For": "192.0.2.1"}, False),  # a proxy: the host may be its own name for the server
        ({"Host": "ocr.example.org", "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}, True),
    ],
)
async def test_over_http_a_user_is_asked_only_where_the_way_of_the_password_is_safe(
    serve: Servers, locked: str, headers: dict[str, str], is_asked: bool
) -> None:
    server = serve(
        OCR_ALLOWED_DIRS=str(Path(locked).parent),
        OCR_ALLOWED_HOSTS="ocr.example.org",
        OCR_TRUSTED_PROXIES="127.0.0.1" if "X-Forwarded-Proto" in headers else "192.0.2.9",
    )
    person = Person()
    with anyio.fail_after(2 * BOUND_S):
        async with asking(server, person, headers) as client:
            assert (await client.call_tool("ocr_image", {"image": locked})).is_error
    assert len(person.asked) == is_asked
    if "X-Forwarded-Proto" in headers:
        assert person.asked[0].url.startswith("https://ocr.example.org/passwords/")

"""MCP asks for the password of a locked PDF past the agent: on a page of this machine, if the client can open one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import httpx2
import pytest
from mcp import Client
from mcp.types import ElicitRequestURLParams, ElicitResult

from deepseek_ocr_mcp.edges.mcp import server
from deepseek_ocr_mcp.edges.mcp.passwords import PasswordDesk
from deepseek_ocr_mcp.edges.mcp.server import build_mcp
from locked_pdf import locked_pdf
from pdf_maker import born_digital
from support import BOUND_S, facts, running, said

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


async def test_the_user_is_asked_on_a_page_until_the_password_opens_the_document(locked: str) -> None:
    person = Person("open barley", WORD)
    with anyio.fail_after(2 * BOUND_S):
        async with (
            running("Echo") as service,
            Client(build_mcp(service, local=True), mode="legacy", elicitation_callback=person) as client,
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
            for callback, local, mode, asked in (
                (declining, True, "legacy", 1),
                (None, True, "legacy", 1),
                (declining, True, "auto", 1),  # no era but the first lets a server ask in the middle of a call
                (declining, False, "legacy", 1),  # its page would be on another machine
            ):
                async with Client(build_mcp(service, local=local), mode=mode, elicitation_callback=callback) as client:
                    result = await client.call_tool("ocr_image", {"image": locked})
                assert result.is_error
                if local:
                    assert "OCR_PDF_PASSWORD" in said(result)
                assert len(declining.asked) == asked


async def test_a_user_who_takes_long_is_asked_once_and_the_next_call_finds_the_password(
    locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PasswordDesk", lambda *, local, wait_s: PasswordDesk(local=local, wait_s=0.5))
    addresses: list[str] = []

    async def slow(context: Any, params: Any) -> ElicitResult:
        addresses.append(params.url)
        return ElicitResult(action="accept")

    with anyio.fail_after(2 * BOUND_S):
        async with (
            running("Echo") as service,
            Client(build_mcp(service, local=True), mode="legacy", elicitation_callback=slow) as client,
        ):
            early = await client.call_tool("ocr_image", {"image": locked})
            assert "call again with the same arguments" in said(early)
            async with httpx2.AsyncClient() as http:
                await http.post(addresses[0], data={"password": WORD})
            late = await client.call_tool("ocr_image", {"image": locked, "pages": "1"})
            assert facts(late)["text"].startswith("# First")
            assert len(addresses) == 1

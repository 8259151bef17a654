"""Asks a user for the password of a locked PDF, past the agent and its client: on a page that this process serves.

MCP forbids a server to ask for a password in a form of the client, where a model or a log may see it. So the client is
asked to open an address that nobody can guess (elicitation in URL mode, MCP 2025-11-25). Over stdio it leads to a port
of this machine alone. Over HTTP it leads to the server itself, under the name that the client calls it by; the client
is asked only where the way there is encrypted or does not leave the machine. A password stays in memory for an hour
after its last use: the next pages of the document need it again. It serves the session that asked for it.

From MCP 2026-07-28 on, the server asks by an answer (`InputRequiredResult`), and the client repeats its call with the
user's reply. HTTP knows no sessions then: a password serves the one call, which its sealed state tells from all others.
"""

from __future__ import annotations

import hashlib
import html
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final
from urllib.parse import parse_qs

import anyio
import anyio.abc
from mcp.server.mcpserver import Context
from mcp.types import ElicitRequest, ElicitRequestURLParams, ElicitResult, InputRequiredResult
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from ...caller import Caller
from ...config import is_loopback
from ...errors import PasswordNeeded
from ...models import OcrRequest
from ...service.answer import Answer
from ...service.expiry import KEEP_S
from ...service.progress import Terms

__all__ = ["PASSWORDS", "PasswordDesk"]

PASSWORDS: Final = "/passwords/"  # the path before the name of a question, over HTTP
MOST_KNOWN: Final = 256  # passwords that are kept; the ones that were used longest ago are forgotten
MOST_OPEN: Final = 64  # questions without an answer; the oldest are given up
MOST_ASKS: Final = 3  # of one call
MOST_WAITS: Final = 4  # rounds of one call in which the user has agreed and types; clients give up after ten rounds
IN_ROUNDS: Final = "2026-07-28"  # the first revision of MCP in which a server asks by an answer
PASSWORD: Final = "password"  # noqa: S105 - the name of the question in such an answer
ASKING_SHARE: Final = 0.6  # of the time of a call; the rest is for reading
BODY_BYTES: Final = 8192
PASSWORD_CHARS: Final = 1000
LATER: Final = (
    "The page that asks your user for the password stays open. When they have entered it, call again with the same "
    "arguments."
)
FORWARDED: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Headers of a proxy. It may hide the name by which the client calls the server."""
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Connection": "close",
    "Referrer-Policy": "same-origin",  # with no-referrer, a browser sends the form from the origin "null"
}
PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>DeepSeek OCR</title>
<style>:root {{ color-scheme: light dark; font: 16px/1.5 system-ui; }} body {{ max-width: 26rem; margin: 15vh auto;
padding: 0 1rem; }} input, button {{ font: inherit; padding: .5rem .8rem; }} input {{ width: 100%;
box-sizing: border-box; margin: .3rem 0 1rem; }}</style>
<h1>DeepSeek OCR</h1><p>{text}</p>{form}</html>"""
FORM: Final = """<form method="post"><label>Password<input type="password" name="password" autocomplete="off" required
autofocus></label><button>Open the document</button></form>
<p>The password goes to the OCR server {where}, which keeps it in memory alone. Your agent does not see it.</p>"""

_Key = tuple[str, bytes]


class _Reply(Enum):
    GIVEN = "given"
    REFUSED = "refused"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class _AskRound:
    """One round of a call in which the server asks by an answer. The SDK seals what the client carries to the next."""

    asker: str
    """Tells the call from all others: nobody else knows it."""
    asks_left: int = MOST_ASKS
    waits_left: int = MOST_WAITS
    question: str = ""
    """The name of the question that the client was asked in the round before; empty in the first."""

    @classmethod
    def of(cls, ctx: Context) -> _AskRound | None:
        """The round of this call; None where the server asks within a call."""
        if (ctx.protocol_version or "") < IN_ROUNDS:
            return None
        if not ctx.request_state:
            return cls(secrets.token_urlsafe(16))
        asker, asks, waits, question = ctx.request_state.split()
        return cls(asker, int(asks), int(waits), question)

    @property
    def state(self) -> str:
        return f"{self.asker} {self.asks_left} {self.waits_left} {self.question}"

    def ask(self, name: str, message: str, url: str) -> InputRequiredResult:
        """The answer that asks the user to open a page."""
        params = ElicitRequestURLParams(message=message, url=url)
        later = replace(self, asks_left=self.asks_left - 1, waits_left=MOST_WAITS, question=name)
        return InputRequiredResult(input_requests={PASSWORD: ElicitRequest(params=params)}, request_state=later.state)

    def wait(self) -> InputRequiredResult:
        """The answer that has the client call again while the user types."""
        return InputRequiredResult(request_state=replace(self, waits_left=self.waits_left - 1).state)


@dataclass(slots=True)
class _Question:
    """A question to a user that has no answer yet."""

    key: _Key
    text: str
    asked_at: float
    answered: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True)
class _Password:
    text: str = field(repr=False)
    used_at: float


class PasswordDesk:
    """Reads documents, and asks for the passwords that they need. Use it inside `async with desk.running():`.

    Args:
        read: reads a document or a folder; see `OcrService.ocr`.
    """

    def __init__(self, read: Callable[[OcrRequest, Caller, Terms], Awaitable[Answer]]) -> None:
        self._read = read
        self._known: OrderedDict[_Key, _Password] = OrderedDict()
        self._questions: OrderedDict[str, _Question] = OrderedDict()
        self._root = ""
        self._stop = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None

    def __repr__(self) -> str:
        return f"<PasswordDesk {len(self._questions)} questions>"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The lifespan of the page that is served to a caller on this machine."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._stop.set()

    async def read(
        self, ctx: Context, caller: Caller, request: OcrRequest, terms: Terms
    ) -> Answer | InputRequiredResult:
        """The answer to a request. The user is asked for the password of a document that needs one.

        The documents of a folder share one password. Where they have several, the user is asked for one after the
        other: a document that was written already is not read again.

        Args:
            ctx: of the call.
            caller: the client.
            request: the request.
            terms: the way in which the client wants its answer. `reply_s` holds for the user and the reading together.

        Returns:
            The answer; or the question, where the client must ask the user and call again.

        Raises:
            PasswordNeeded: the user cannot be asked, has given no password, or a wrong one.
            OcrError: see `OcrService.ocr`.
        """
        turn = _AskRound.of(ctx)
        name = caller.name if caller.is_local or turn is None else turn.asker
        key = (name, hashlib.sha256(request.image.encode("utf-8", "surrogatepass")).digest())
        began = anyio.current_time()
        asks_until = began + terms.reply_s * ASKING_SHARE
        most_asks = MOST_ASKS
        if turn is not None and turn.question:
            reply = await self._reply(ctx, turn, key, asks_until)
            if reply is _Reply.OPEN and turn.waits_left:
                return turn.wait()
            most_asks = turn.asks_left if reply is _Reply.GIVEN else 0
        for asks_left in range(most_asks, -1, -1):
            left_s = began + terms.reply_s - anyio.current_time()
            now = replace(terms, password=self._password(key), reply_s=left_s)
            answer: Answer | None = None
            try:
                answer = await self._read(request, caller, now)
                if (locked := _locked(answer)) is None:
                    return answer
            except PasswordNeeded as exc:
                locked = exc
            self._known.pop(key, None)
            asked: _Reply | InputRequiredResult = _Reply.REFUSED
            if asks_left:
                question = _Question(key, locked.message, time.monotonic())
                asked = await self._ask(ctx, caller, question, turn, asks_until)
            if isinstance(asked, InputRequiredResult):
                return asked
            if asked is _Reply.GIVEN:
                continue
            if asked is _Reply.OPEN:
                locked = PasswordNeeded(locked.message, remedy=LATER)
            if answer is None:
                raise locked
            if asked is _Reply.OPEN:
                answer.add("more", str(locked))
            return answer
        raise AssertionError("the last round returns or raises")

    async def _reply(self, ctx: Context, turn: _AskRound, key: _Key, until: float) -> _Reply:
        """The reply of the user to the question of the round before. A user who has agreed is waited for.

        Args:
            ctx: of the call.
            turn: this round.
            key: of the document and its caller.
            until: the time of anyio at which the call stops waiting for the user.
        """
        question = self._questions.get(turn.question)
        reply = (ctx.input_responses or {}).get(PASSWORD)
        if isinstance(reply, ElicitResult) and reply.action != "accept":
            self._questions.pop(turn.question, None)
            return _Reply.REFUSED
        if question is not None:
            with anyio.CancelScope(deadline=until):
                await question.answered.wait()
            if not question.answered.is_set():
                return _Reply.OPEN
        return _Reply.GIVEN if key in self._known else _Reply.REFUSED

    async def page(self, request: Request) -> Response:
        """The page of a question (GET), and its answer (POST)."""
        name = request.path_params["name"]
        question = self._questions.get(name)
        if question is None or time.monotonic() - question.asked_at > KEEP_S:
            return _html("This page is not needed any more.", status=404)
        form = FORM.format(where="on this machine" if is_loopback(request.url.hostname or "") else "of this address")
        if request.method != "POST":
            return _html(question.text, form)
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES:
            return _html("That is too long for a password.", status=413)
        fields = parse_qs((await request.body()).decode("utf-8", "replace"))
        password = "".join(fields.get("password", ()))[:PASSWORD_CHARS]
        if not password:
            return _html(question.text, form)
        self._questions.pop(name, None)
        self._known[question.key] = _Password(password, time.monotonic())
        self._known.move_to_end(question.key)
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        question.answered.set()
        return _html("Thank you. Close this page, and go back to your agent.")

    def _password(self, key: _Key) -> str:
        """The password that the user has given; empty: none. Passwords that were not used for long are forgotten."""
        now = time.monotonic()
        while self._known and now - next(iter(self._known.values())).used_at > KEEP_S:
            self._known.popitem(last=False)
        if (known := self._known.get(key)) is None:
            return ""
        known.used_at = now
        self._known.move_to_end(key)
        return known.text

    async def _ask(
        self, ctx: Context, caller: Caller, new: _Question, turn: _AskRound | None, until: float
    ) -> _Reply | InputRequiredResult:
        """Ask for the password of a document, if the client can open a page.

        Args:
            ctx: of the call.
            caller: the client.
            new: the question. If the user has another one about the same document open, it stands.
            turn: the round of the call, where the server asks by an answer.
            until: the time of anyio at which the call stops waiting for the user.
        """
        capabilities = ctx.session.client_capabilities
        elicitation = capabilities.elicitation if capabilities else None
        if elicitation is None or elicitation.url is None or (turn is None and not ctx.session.can_send_request):
            return _Reply.REFUSED
        if not (root := await self._serve() if caller.is_local else _address(ctx)):
            return _Reply.REFUSED
        name, is_open = self._opened(new)
        question = self._questions[name]
        message, url = f"{new.text} Enter its password on this page.", f"{root}{name}"
        if turn is not None:
            return turn.ask(name, message, url)
        has_agreed = is_open
        try:
            with anyio.CancelScope(deadline=until):
                if not has_agreed:
                    has_agreed = (await ctx.elicit_url(message, url, name)).action == "accept"
                if has_agreed:
                    await question.answered.wait()
        finally:
            if not has_agreed:
                self._questions.pop(name, None)
        if question.answered.is_set():
            return _Reply.GIVEN
        return _Reply.OPEN if has_agreed else _Reply.REFUSED

    def _opened(self, new: _Question) -> tuple[str, bool]:
        """The name of the question that stands: the new one, or an open one about the same. And whether it was open."""
        now = time.monotonic()
        for name, each in self._questions.items():
            if each.key == new.key and now - each.asked_at < KEEP_S:
                return name, True
        name = secrets.token_urlsafe(16)
        self._questions[name] = new
        while len(self._questions) > MOST_OPEN:
            self._questions.popitem(last=False)
        return name, False

    async def _serve(self) -> str:
        """Serve the page from now on, at a port of this machine alone. Returns the address before a question's name."""
        if self._root:
            return self._root
        import uvicorn  # 0.1 s that no other call needs

        from ..sleeping_server import SleepingServer

        listener = socket.create_server(("127.0.0.1", 0))
        app = Starlette(routes=[Route("/{name}", self.page, methods=["GET", "POST"])])
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False)
        config.timeout_graceful_shutdown = 1  # s; no connection is kept
        assert self._tasks is not None, "use the desk inside `async with desk.running():`"

        async def serve() -> None:
            with listener:
                await SleepingServer(config, self._stop).serve(sockets=[listener])

        self._tasks.start_soon(serve)
        self._root = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        return self._root


def _locked(answer: Answer) -> PasswordNeeded | None:
    """The reason why documents of a folder were left out: they are locked. None while the folder is still read."""
    if (folder := answer.result.folder) is None or folder.left:
        return None
    locked = [error for error in answer.errors.values() if isinstance(error, PasswordNeeded)]
    if not locked:
        return None
    more = f" {len(locked) - 1} more of this folder need one, too." if locked[1:] else ""
    return PasswordNeeded(locked[0].message + more, remedy=locked[0].remedy)


def _address(ctx: Context) -> str:
    """The address of this server before a question's name, as the client knows it.

    Empty if a password could be read on its way there, or if a proxy hides the way. `Guard` has checked the host.
    """
    request = ctx.request_context.request
    if not isinstance(request, Request):
        return ""
    is_near = is_loopback(request.url.hostname or "") and not any(name in request.headers for name in FORWARDED)
    if request.url.scheme != "https" and not is_near:
        return ""
    return f"{request.url.scheme}://{request.url.netloc}{PASSWORDS}"


def _html(text: str, form: str = "", status: int = 200) -> HTMLResponse:
    return HTMLResponse(PAGE.format(text=html.escape(text), form=form), status, headers=HEADERS)

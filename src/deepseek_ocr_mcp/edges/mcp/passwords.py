"""Asks a user for the password of a locked PDF, past the agent and its client: on a page that this process serves.

MCP forbids a server to ask for a password in a form of the client, where a model or a log may see it. So the client is
asked to open an address of this machine that nobody can guess (elicitation in URL mode, MCP 2025-11-25). A password
stays in memory as long as the server: the next pages of the document need it again.
"""

from __future__ import annotations

import html
import secrets
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs

import anyio
import anyio.abc
from mcp.server.mcpserver import Context
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from ...errors import PasswordNeeded
from ...service.answer import Answer

__all__ = ["PasswordDesk"]

MOST_KNOWN: Final = 32  # documents whose passwords are kept
MOST_OPEN: Final = 8  # questions without an answer; the oldest are given up
MOST_ASKS: Final = 3  # of one call
BODY_BYTES: Final = 8192
PASSWORD_CHARS: Final = 1000
LATER: Final = (
    "The page that asks your user for the password stays open. When they have entered it, call again with the same "
    "arguments."
)
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Connection": "close",
    "Referrer-Policy": "no-referrer",
}
PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>DeepSeek OCR</title>
<style>:root {{ color-scheme: light dark; font: 16px/1.5 system-ui; }} body {{ max-width: 26rem; margin: 15vh auto;
padding: 0 1rem; }} input, button {{ font: inherit; padding: .5rem .8rem; }} input {{ width: 100%;
box-sizing: border-box; margin: .3rem 0 1rem; }}</style>
<h1>DeepSeek OCR</h1><p>{text}</p>{form}</html>"""
FORM: Final = """<form method="post"><label>Password<input type="password" name="password" autocomplete="off" required
autofocus></label><button>Open the document</button></form>
<p>It goes to the OCR server on this machine, which keeps it in memory alone. Your agent does not see it.</p>"""


@dataclass(slots=True)
class _Question:
    """A question to a user that has no answer yet."""

    image: str
    text: str
    answered: anyio.Event = field(default_factory=anyio.Event)


class PasswordDesk:
    """Use it inside `async with desk.running():`.

    Args:
        local: whether the server has one client, on this machine (stdio): only there is its page at hand.
        wait_s: seconds that a call waits for a user; a user who takes longer is not asked again by the next call.
    """

    def __init__(self, *, local: bool, wait_s: float) -> None:
        self._local = local
        self._wait_s = wait_s
        self._known: OrderedDict[str, str] = OrderedDict()
        self._questions: OrderedDict[str, _Question] = OrderedDict()
        self._root = ""
        self._stop = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None

    def __repr__(self) -> str:
        return f"<PasswordDesk {len(self._questions)} questions>"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The page goes with this context."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._stop.set()

    async def read(self, ctx: Context, image: str, read: Callable[[str], Awaitable[Answer]]) -> Answer:
        """The answer of `read`, which takes a password; the user is asked for it where the document needs one.

        Args:
            ctx: of the call.
            image: the argument that names the document.
            read: reads the document with a password; empty: with none.

        Raises:
            PasswordNeeded: the user cannot be asked, has given none, or a wrong one.
        """
        for _ in range(MOST_ASKS):
            try:
                return await read(self._known.get(image, ""))
            except PasswordNeeded as exc:
                self._known.pop(image, None)
                if not self._can_ask(ctx):
                    raise
                if not await self._ask(ctx, image, exc.message):
                    raise
        return await read(self._known.get(image, ""))

    def _can_ask(self, ctx: Context) -> bool:
        capabilities = ctx.session.client_capabilities
        elicitation = capabilities.elicitation if capabilities else None
        return self._local and elicitation is not None and elicitation.url is not None and ctx.session.can_send_request

    async def _ask(self, ctx: Context, image: str, text: str) -> bool:
        """Ask for the password of a document. Returns whether the user has given one.

        Raises:
            PasswordNeeded: the user has not answered yet.
        """
        open_already = [name for name, question in self._questions.items() if question.image == image]
        name = open_already[0] if open_already else secrets.token_urlsafe(16)
        question = self._questions.setdefault(name, _Question(image, text))
        while len(self._questions) > MOST_OPEN:
            self._questions.popitem(last=False)
        has_agreed = bool(open_already)
        with anyio.move_on_after(self._wait_s):
            if not has_agreed:
                await self._serve()
                asked = await ctx.elicit_url(f"{text} Enter its password on this page.", f"{self._root}/{name}", name)
                has_agreed = asked.action == "accept"
            if has_agreed:
                await question.answered.wait()
        if question.answered.is_set():
            return True
        if has_agreed:
            raise PasswordNeeded(text, remedy=LATER)
        self._questions.pop(name, None)
        return False

    async def _serve(self) -> None:
        """Serve the page from now on, at a port of this machine alone."""
        if self._root:
            return
        import uvicorn  # 0.1 s that no other call needs

        from ..sleeping_server import SleepingServer

        listener = socket.create_server(("127.0.0.1", 0))
        app = Starlette(routes=[Route("/{name}", self._page, methods=["GET", "POST"])])
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False)
        config.timeout_graceful_shutdown = 1  # s; no connection is kept
        assert self._tasks is not None, "use the desk inside `async with desk.running():`"

        async def serve() -> None:
            with listener:
                await SleepingServer(config, self._stop).serve(sockets=[listener])

        self._tasks.start_soon(serve)
        self._root = f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def _page(self, request: Request) -> HTMLResponse:
        question = self._questions.get(request.path_params["name"])
        if question is None:
            return _html("This page is not needed any more.", status=404)
        if request.method == "GET":
            return _html(question.text, FORM)
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES:
            return _html("That is too long for a password.", status=413)
        fields = parse_qs((await request.body()).decode("utf-8", "replace"))
        password = "".join(fields.get("password", ()))[:PASSWORD_CHARS]
        if not password:
            return _html(question.text, FORM)
        self._questions.pop(request.path_params["name"], None)
        self._known[question.image] = password
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        question.answered.set()
        return _html("Thank you. Close this page, and go back to your agent.")


def _html(text: str, form: str = "", status: int = 200) -> HTMLResponse:
    return HTMLResponse(PAGE.format(text=html.escape(text), form=form), status, headers=HEADERS)

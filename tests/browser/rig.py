"""A watch over the browser: no test passes if the page broke its policy, spoke to strangers or failed."""

from __future__ import annotations

from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page

from support import HttpServer

WAIT_MS: Final = 30_000  # for anything: two cores that others use too are slow
TOLD_ANYWAY: Final = "Failed to load resource"  # Chromium's own line for every answer that is an error


class Visitor:
    """Opens pages of a server. Whatever goes wrong in one is remembered, and fails the test at its end."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._opened: list[Page] = []
        self.problems: list[str] = []
        self.expected: list[str] = []
        """Parts of console messages that a test brings about itself."""

    def context(self, server: HttpServer, **options: Any) -> BrowserContext:
        options = {"viewport": {"width": 1280, "height": 800}, "locale": "en", "reduced_motion": "reduce", **options}
        context = self._browser.new_context(**options)
        context.set_default_timeout(WAIT_MS)
        context.on("request", lambda request: self._request(request.url, server.root))
        context.on("console", self._console)
        context.on("weberror", lambda error: self.problems.append(f"exception: {error.error}"))
        context.on("dialog", self._dialog)
        context.on("page", lambda page: self.problems.append(f"window: {page.url}") if self._opened else None)
        # Told even where the console is silent.
        context.add_init_script(
            "document.addEventListener('securitypolicyviolation', (e) => "
            "console.error(`policy: ${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`))"
        )
        self._contexts.append(context)
        return context

    def open(self, server: HttpServer, *, ready: bool = True, **options: Any) -> Page:
        """A page in a browser of its own, with nothing remembered."""
        return self.visit(self.context(server, **options), server, ready=ready)

    def visit(self, context: BrowserContext, server: HttpServer, *, ready: bool = True) -> Page:
        self._opened.clear()
        page = context.new_page()
        self._opened.append(page)
        page.goto(server.root)
        if ready:
            page.wait_for_selector("html[data-ready]")
        return page

    def _request(self, url: str, root: str) -> None:
        if not url.startswith((f"{root}/", "blob:", "data:")):
            self.problems.append(f"request to {url}")

    def _dialog(self, dialog: Dialog) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning") and not any(part in said.text for part in self.expected):
            self.problems.append(f"console: {said.text}")

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        if self.problems:
            pytest.fail("\n".join(self.problems))

"""A watch over the browser: no test passes if the page broke its policy, spoke to strangers or failed."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    FloatRect,
    Frame,
    FrameLocator,
    Locator,
    Page,
)

from pdf_maker import Sheet, born_digital, pdf, stream
from support import wait_until

HERE: Final = Path(__file__).parent
WAIT_MS: Final = 60_000  # for anything: two cores that others use too are slow
TOLD_ANYWAY: Final = "Failed to load resource"  # Chromium's own line for every answer that is an error


def grave_faults(page: Page | Frame, axe: str, scheme: str) -> list[str]:
    """What axe-core (`axe` is its source) finds serious or critical on a page.

    Args:
        scheme: `light` or `dark`. Of the dark one the colours are looked at; nothing else differs between the two.
    """
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if scheme == "dark":
        options["runOnly"] = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe)
    found = page.evaluate("(options) => axe.run(document, options)", options)["violations"]
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


KEPT: Final = """() => new Promise((resolve, reject) => {
    const request = indexedDB.open("ocr");
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
        const both = request.result.transaction(["items", "pages"]);
        const items = both.objectStore("items").getAll();
        const pages = both.objectStore("pages").getAll();
        both.oncomplete = () => {
            request.result.close();
            const pictures = items.result.filter((item) => item.picture).length;
            resolve({ pictures, texts: pages.result.map((page) => page.text) });
        };
    };
})"""


def until_kept(page: Page, text: str) -> None:
    """Wait until the browser keeps a page with this text, and a picture."""

    def is_kept() -> bool:
        kept = page.evaluate(KEPT)
        return bool(kept["pictures"]) and any(text in each for each in kept["texts"])

    wait_until(is_kept, WAIT_MS / 1000)


def drawn_at(*parts: Locator) -> list[FloatRect]:
    """Where these are on the screen; what is just being drawn anew is waited for."""
    places: list[FloatRect | None] = []

    def drawn() -> bool:
        places[:] = [part.bounding_box() for part in parts]
        return None not in places

    wait_until(drawn, WAIT_MS / 1000)
    return [place for place in places if place is not None]


def point_at(nodes: Locator) -> None:
    """Have the pointer pass over each of these, by events: the mouse cannot reach a node that has no place just now."""
    nodes.evaluate_all(
        """(nodes) => {
            for (const node of nodes)
                for (const kind of ["pointerover", "mouseover", "mousemove", "mouseout"])
                    node.dispatchEvent(new PointerEvent(kind, { bubbles: true }));
        }"""
    )


class Site(Protocol):
    """What a page is opened of. `also`, if it has it: other addresses that it may speak to."""

    @property
    def root(self) -> str: ...


def limited() -> bytes:
    """A PDF whose answer has notes: a file is attached, the second page is blank, the third one is damaged."""
    file = "<< /Type /Filespec /F (readings.xlsx) /EF << /F 60 0 R >> >>"
    attached = f"/Names << /EmbeddedFiles << /Names [(a) {file}] >> >>"
    sheets = [born_digital("First"), Sheet(), born_digital("Third"), born_digital("Fourth")]
    data = pdf(*sheets, catalog=attached, objects={60: stream("1,2", "/Type /EmbeddedFile")})
    return data.replace(b"\n10004 0 obj\n<<", b"\n10004 0 obj\n[]")  # objects of pages have even numbers from 10,000


class Visitor:
    """Opens pages of a server. Whatever goes wrong in one is remembered, and fails the test at its end."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._opened: list[Page] = []
        self.problems: list[str] = []
        self.expected: list[str] = []
        """Parts of console messages that a test brings about itself."""

    def context(self, server: Site, **options: Any) -> BrowserContext:
        options = {"viewport": {"width": 1280, "height": 800}, "locale": "en", "reduced_motion": "reduce", **options}
        context = self._browser.new_context(**options)
        context.set_default_timeout(WAIT_MS)
        roots = (server.root, *getattr(server, "also", ()))
        context.on("request", lambda request: self._request(request.url, roots))
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

    def open(self, server: Site, *, ready: bool = True, **options: Any) -> Page:
        """A page in a browser of its own, with nothing remembered."""
        return self.visit(self.context(server, **options), server, ready=ready)

    def visit(self, context: BrowserContext, server: Site, *, ready: bool = True) -> Page:
        self._opened.clear()
        page = context.new_page()
        self._opened.append(page)
        page.goto(server.root)
        if ready:
            page.wait_for_selector("html[data-ready]")
        return page

    def _request(self, url: str, roots: tuple[str, ...]) -> None:
        if not url.startswith((*(f"{root}/" for root in roots), "blob:", "data:", "about:")):
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


# What the specification has a host use where a resource declares no domains; inline scripts, no fonts, no network.
STRICTEST: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "media-src 'self' data:; connect-src 'none'; object-src 'none'; base-uri 'none'"
)
# What the reference host makes of no declared domains.
REFERENCE: Final = (
    "default-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; style-src 'self' "
    "'unsafe-inline' blob: data:; img-src 'self' data: blob:; font-src 'self' data: blob:; connect-src 'self'; "
    "worker-src 'self' blob:; frame-src 'none'; object-src 'none'; base-uri 'none'"
)


class AppHost:
    """A host that shows apps: its page on one address, the sandbox on another, `/mcp` passed on to a real server."""

    def __init__(self, mcp: str, script: Path) -> None:
        self._upstream = mcp
        self._script = script
        self._ended = threading.Event()
        self._client = httpx2.Client(timeout=120)
        self._pages = self._served(self._host_page)
        self._frames = self._served(self._sandbox_page)
        self.root = self._address(self._pages)
        self.also = (self._address(self._frames),)

    def close(self) -> None:
        self._ended.set()
        for served in (self._pages, self._frames):
            served.shutdown()
            served.server_close()
        self._client.close()

    @staticmethod
    def _address(served: ThreadingHTTPServer) -> str:
        return f"http://127.0.0.1:{served.server_address[1]}"

    @staticmethod
    def _served(answer: Callable[[BaseHTTPRequestHandler], None]) -> ThreadingHTTPServer:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            do_POST = do_DELETE = do_GET

            def log_message(self, format: str, *args: Any) -> None: ...

        served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=served.serve_forever, daemon=True).start()
        return served

    def _host_page(self, request: BaseHTTPRequestHandler) -> None:
        match urlsplit(request.path).path:
            case "/":
                _send(request, (HERE / "host" / "host.html").read_bytes(), "text/html")
            case "/host.js":
                _send(request, self._script.read_bytes(), "text/javascript")
            case "/mcp":
                self._pass_on(request)
            case _:
                request.send_error(404)

    def _sandbox_page(self, request: BaseHTTPRequestHandler) -> None:
        address = urlsplit(request.path)
        if address.path == "/sandbox.js":
            return _send(request, (HERE / "host" / "sandbox.js").read_bytes(), "text/javascript")
        query = parse_qs(address.query)
        assert query["csp"] == ['{"connectDomains":[],"resourceDomains":[]}'], "the policies below are for no domains"
        policy = STRICTEST if query["kind"] == ["opaque"] else REFERENCE
        return _send(request, (HERE / "host" / "sandbox.html").read_bytes(), "text/html", policy)

    def _pass_on(self, request: BaseHTTPRequestHandler) -> None:
        if request.command == "GET":  # the stream for what a server says by itself: it stays open and silent
            request.send_response(200)
            request.send_header("Content-Type", "text/event-stream")
            request.end_headers()
            self._ended.wait()
            return
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        kept = ("accept", "content-type", "mcp-")
        headers = {name: value for name, value in request.headers.items() if name.lower().startswith(kept)}
        with self._client.stream(request.command, self._upstream, content=body, headers=headers) as answer:
            request.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name.lower().startswith(("content-type", "mcp-")):
                    request.send_header(name, value)
            request.end_headers()  # HTTP/1.0: the end of the connection is the end of the body
            for chunk in answer.iter_bytes():
                request.wfile.write(chunk)
                request.wfile.flush()


def bundle_host(modules: Path, out: Path) -> Path:
    """The script of the host in one file, with the reference library in it."""
    command = [str(modules / ".bin" / "esbuild"), str(HERE / "host" / "host.mjs"), "--bundle", "--format=esm"]
    subprocess.run([*command, "--log-level=warning", f"--outfile={out}"], cwd=HERE, timeout=120, check=True)
    return out


class Shown:
    """A page of a host with the app in it."""

    def __init__(self, page: Page, host: AppHost, **how: Any) -> None:
        """
        Args:
            how: what `open` of host.mjs takes.
        """
        self.page = page
        page.evaluate("(how) => host.open(how)", {"sandbox": host.also[0], **how})
        self.app: FrameLocator = page.frame_locator("#app").frame_locator("iframe")

    @property
    def frame(self) -> Frame:
        """The app's own; the innermost."""
        return next(frame for frame in self.page.frames if not frame.child_frames)

    @property
    def text(self) -> Locator:
        return self.app.locator(".prose")

    def call(self, image: str, **more: Any) -> dict[str, Any]:
        """Have the agent call `ocr_image`, and the app see it."""
        answer: dict[str, Any] = self.page.evaluate("(given) => host.call(given)", {"image": image, **more})
        return answer

    def tell(self, what: str, given: Any = None) -> Any:
        """Have the host do `what` of host.mjs."""
        return self.page.evaluate(f"(given) => host.{what}(given)", given)

    def log(self, what: str) -> list[Any]:
        """What the app asked its host for."""
        said: list[Any] = self.page.evaluate(f"host.log.{what}")
        return said


def _send(request: BaseHTTPRequestHandler, body: bytes, kind: str, policy: str = "") -> None:
    request.send_response(200)
    request.send_header("Content-Type", f"{kind}; charset=utf-8")
    request.send_header("Content-Length", str(len(body)))
    if policy:
        request.send_header("Content-Security-Policy", policy)
    request.end_headers()
    request.wfile.write(body)

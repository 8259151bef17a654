"""The types that a remote lifecycle and its client share: pages, facts about a server, and its failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from ...engines.base import PageImage, ReadOptions
from ...errors import BadRequest, OcrError

__all__ = [
    "Address",
    "Broken",
    "Down",
    "EncodedPage",
    "EndpointClient",
    "Facts",
    "OnText",
    "Overloaded",
    "Server",
    "Trouble",
]


Server = Literal["vllm", "sglang", "ollama", "llama.cpp", "lmstudio", "openai", ""]
"""The server that reads, directly or behind a gateway; empty: nobody says."""

OnText = Callable[[float, str], None]
"""Called with each piece of the answer, thoughts included: how much of it is likely there (0 to 1), and a word on it.
The first call is the first byte of the answer."""


class Trouble(Exception):
    """A fault of an endpoint. `what` is for the log: never a word of a request, of a page or of an answer."""

    def __init__(self, what: str, error: OcrError) -> None:
        super().__init__(what)
        self.what = what
        self.error = error
        """What a caller is told, if nothing better comes of it."""


class Overloaded(Trouble):
    """Not now: 429, 503 and the like."""

    def __init__(self, what: str, error: OcrError, retry_after_s: float | None = None) -> None:
        super().__init__(what, error)
        self.retry_after_s = retry_after_s
        """As the endpoint asked for it."""


class Down(Trouble):
    """No page can be read there at present."""

    def __init__(self, what: str, error: OcrError, *, hopeless: bool = False, sent: bool = True) -> None:
        super().__init__(what, error)
        self.hopeless = hopeless
        """Whether waiting will not help: somebody has to mend it."""
        self.sent = sent
        """Whether the request may have reached the endpoint."""


class Broken(Trouble):
    """It took the page and failed over it; whose fault that is, nobody knows."""


@dataclass(frozen=True, slots=True)
class EncodedPage:
    """A page as a file that can be sent."""

    path: str
    mime: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What an endpoint says of itself."""

    model: str
    server: Server = ""
    grounding: bool = False
    """Whether DeepSeek-OCR's own prompts are sent."""
    sleeping: bool | None = None
    """None: it has no sleep mode."""
    level: int | None = None
    """Of its sleep, if it says so."""
    context: int | None = None
    """Tokens that a question and its answer may have together, where it says so."""


class EndpointClient(Protocol):
    """What the manager asks of a `Client`; tests bring one that runs on virtual time.

    Any method but `others` and `close` may raise `Trouble`; `read` may raise `OcrError` about the page.
    """

    @property
    def url(self) -> str: ...
    async def look(self) -> Facts: ...
    async def read(
        self, facts: Facts, page: PageImage, options: ReadOptions, picture: EncodedPage, tell: OnText
    ) -> dict[str, Any]: ...
    async def sleep(self, level: int) -> None: ...
    async def wake(self, level: int | None, timeout: float) -> None: ...
    async def others(self) -> int: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint is; `parse` makes one."""

    base: str
    """What `/chat/completions` is put behind, without a name or a password."""
    root: str
    """What `/sleep` is put behind."""
    login: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return f"<Address {self.base}>"

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address in an entry of `OCR_REMOTE_URL`: with or without `/v1`, a name and a password allowed.

        Raises:
            BadRequest: it is none. What was given is not repeated: it may hold a password.
        """
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
            raise BadRequest(
                "An entry of OCR_REMOTE_URL is no address of an endpoint.",
                remedy="Give addresses like http://10.0.0.5:8000/v1, with commas between.",
            )
        place = f"[{host}]" if ":" in host else host
        if port is not None:
            place += f":{port}"
        path = parts.path.rstrip("/")
        base = urlunsplit((parts.scheme, place, path or "/v1", "", ""))
        login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        return cls(base, base.removesuffix("/v1"), login)

"""The types that a remote lifecycle and its client share: pages, facts about a server, and its failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
"""The server that reads, directly or behind a gateway; empty if it is not known."""

OnText = Callable[[float, str], None]
"""Called with each piece of the answer, thoughts included. It gets the part that is likely there (0 to 1), and a word
on it. The first call comes with the first byte of the answer."""


class Trouble(Exception):
    """A fault of an endpoint.

    Args:
        what: a phrase for the log. It holds no words of a request, of a page or of an answer.
        error: the error for a caller.
    """

    def __init__(self, what: str, error: OcrError) -> None:
        super().__init__(what)
        self.what = what
        self.error = error
        """The error for a caller, if no other attempt reads the page."""


class Overloaded(Trouble):
    """The endpoint answers "not now": 429, 503 and the like."""

    def __init__(self, what: str, error: OcrError, retry_after_s: float | None = None) -> None:
        super().__init__(what, error)
        self.retry_after_s = retry_after_s
        """The seconds that the endpoint asked for."""


class Down(Trouble):
    """The endpoint can read no page at present."""

    def __init__(self, what: str, error: OcrError, *, hopeless: bool = False, sent: bool = True) -> None:
        super().__init__(what, error)
        self.hopeless = hopeless
        """Whether waiting does not help, because somebody has to repair it."""
        self.sent = sent
        """Whether the request may have reached the endpoint."""


class Broken(Trouble):
    """The endpoint took the page and failed. The page or the endpoint may be at fault."""


@dataclass(frozen=True, slots=True)
class EncodedPage:
    """A page as a file that can be sent."""

    path: str
    mime: str


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that an endpoint tells about itself."""

    model: str
    server: Server = ""
    grounding: bool = False
    """Whether DeepSeek-OCR's own prompts are sent."""
    sleeping: bool | None = None
    """Whether it sleeps; None if it has no sleep mode."""
    level: int | None = None
    """The level of its sleep, if it tells."""
    context: int | None = None
    """Tokens that a question and its answer may have together, if it tells."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """A sentence for the caller by mode; see `VisionModel.remarks`."""


class EndpointClient(Protocol):
    """The part of a `Client` that the manager uses. Tests have one that runs on virtual time.

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
    """The address of an endpoint. Use `parse` to make one."""

    base: str
    """The address that `/chat/completions` is appended to, without a name or a password."""
    root: str
    """The address that `/sleep` is appended to."""
    login: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return f"<Address {self.base}>"

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address in an entry of `OCR_REMOTE_URL`, which may have `/v1`, a name and a password.

        Raises:
            BadRequest: the entry is no address. The message does not repeat it, because it may hold a password.
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

"""Asks one endpoint that speaks OpenAI's chat API about pages, and reads its answers.

The endpoint is vLLM, SGLang, Ollama, llama.cpp, `transformers serve`, or any other server that takes pictures.
DeepSeek-OCR gets its own prompts and, at vLLM and SGLang, the n-gram ban that it needs; any other model is asked in
words (`request.py`). An answer is read while it is written, so that a repetition is cut when it is seen. Closing the
stream stops the endpoint.

The bytes of every answer are bounded, redirects are not followed, and an answer that is no chat completion is an error.
Nothing is tried twice here, and nothing waits: the type of each failure tells its meaning (`Overloaded`, `Down`,
`Broken`, or an `OcrError` about the page itself), and `lifecycle.remote` decides what follows.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx2

from ...engines.base import PageImage, ReadOptions
from ...engines.loops import TextGuard
from ...engines.vision_models import TYPICAL_TOKENS, remarks_of_endpoint
from ...errors import EngineUnavailable, InputTooLarge, OcrError
from ...install import extra_command
from ...modes import RESOLUTIONS
from .answers import QUOTED, Completion, completed, parse_page, quoted, retry_after, server_message
from .names import is_pattern, served_name
from .request import merged, owner_of, page_request, refused_names
from .settings import EndpointSettings
from .trouble import Broken, Down, EncodedPage, Facts, OnText, Overloaded, Trouble

__all__ = ["LARGEST_SIDE", "Client", "side_for"]


CONNECT_TIMEOUT_S: Final = 10.0
LOOK_TIMEOUT_S: Final = 10.0  # seconds for answers that take an endpoint no work
SLEEP_TIMEOUT_S: Final = 60.0  # 7 GB over a slow PCIe link, many times over
OTHERS_LOOK_S: Final = 1.0  # seconds between two looks at the work that an endpoint does for others

LARGEST_SIDE: Final = 3072  # pixels of a page as it is sent; DeepSeek-OCR looks at 1920 of them
MAX_TEXT: Final = 100_000  # characters of one page, for an endpoint that ignores the bound in tokens
MAX_ANSWER_BYTES: Final = 32 << 20  # bytes of one answer on the wire: 8192 tokens in events of 300 bytes are 2.5 MB
MAX_EVENT_BYTES: Final = 1 << 20

_STANDARD: Final = ("model", "messages", "stream", "temperature", "max_tokens", "stream_options")
"""The fields that OpenAI's client takes by name. Other fields of a request go beside them."""
_DEEPSEEK: Final = re.compile(r"(deepseek|unlimited)[-_. ]?ocr", re.IGNORECASE)
_NO_IMAGES: Final = re.compile(
    r"not (a |an )?(multi-?modal|vision)|(not|n't) (support|accept).{0,40}(image|vision|multi-?modal)"
    r"|(image|vision|multi-?modal)\w*.{0,60}(not|n't) (be )?(support|enabl|allow|accept)|at most 0 image",
    re.IGNORECASE | re.DOTALL,
)
_TOO_LONG: Final = re.compile(
    r"context.(length|window|size)|max_model_len|maximum model length|too many tokens|prompt is too long", re.IGNORECASE
)
_NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol)
_ENDED_BY_A_FAULT: Final = ("abort", "error")
"""Finish reasons of vLLM and SGLang for an answer that they gave up. The page is sent again."""
_KEEP_ALIVE: Final = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), number)
        for name, number in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    ),
]
"""Keepalive of TCP: the kernel asks a silent machine, and breaks the connection a minute after its last word. A page
may wait ten minutes for its first byte, and must not wait for a dead machine."""
_SAMPLE: Final = re.compile(r"^vllm:([a-z_]+)(?:\{([^}\n]*)\})? ([0-9.eE+]+)$", re.MULTILINE)
_SLEEP_STATE: Final = re.compile(r'\bsleep_state="(\w+)"')


def side_for(resolution: str) -> int:
    """The pixels of the longer side of a page that is sent, at most."""
    return RESOLUTIONS[resolution] or LARGEST_SIDE


class Client:
    """An `EndpointClient` over HTTP."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._address = settings.address
        self._http: httpx2.AsyncClient | None = None
        self._openai: Any = None
        self._refused: set[str] = set()
        """The fields that this endpoint refuses: it took a request without them."""
        self._gives_reasons = False
        """Whether an answer of this endpoint ever gave a reason for its end. Then an answer without one has broken
        off."""

    def __repr__(self) -> str:
        return f"<Client {self.url}>"

    @property
    def url(self) -> str:
        return self._address.base

    async def close(self) -> None:
        """Close every connection."""
        http, self._http, self._openai = self._http, None, None
        if http is not None:
            await http.aclose()

    # -- its model

    async def look(self) -> Facts:
        """Ask the endpoint for its model, and whether it sleeps."""
        named = self._settings.model
        status, listed = await self._ask("GET", f"{self._address.base}/models", LOOK_TIMEOUT_S)
        if named and (status == 501 or (400 <= status < 500 and status not in (408, 425, 429))):
            # It has no list of models, or none for this key. The name that the operator set is used; a page will show
            # whether it is right.
            return Facts(named, self._settings.server, self._has_grounding(named), remarks=self._remarks(named))
        if (failure := self._failure(status, listed)) is not None:
            raise failure
        card, model = self._chosen(listed)
        root, context = card.get("root"), card.get("max_model_len")  # vLLM: the model behind a served name
        # Behind a gateway these paths belong to the gateway, if they exist.
        is_vllm = owner_of(card) == "vllm"
        if is_vllm:  # a server lists its models even when its engine is dead
            health, _ = await self._ask("GET", f"{self._address.root}/health", LOOK_TIMEOUT_S)
            if health >= 500:
                raise Down("its engine is dead", self._unavailable(f"says that its engine is dead (HTTP {health})"))
        sleeping = await self._is_sleeping() if is_vllm else None
        names = f"{model} {root if isinstance(root, str) else ''}"
        return Facts(
            model,
            self._settings.server or owner_of(card),
            self._has_grounding(names),
            sleeping,
            await self._level() if sleeping else None,
            context if isinstance(context, int) else None,
            self._remarks(names),
        )

    def _has_grounding(self, names: str) -> bool:
        prompts = self._settings.prompts
        return _DEEPSEEK.search(names) is not None if prompts == "auto" else prompts == "deepseek"

    def _remarks(self, names: str) -> Mapping[str, str]:
        """By mode: a sentence for the caller about the prompt that the model gets."""
        return remarks_of_endpoint(names) if self._has_grounding(names) else {}

    def _chosen(self, listed: Any) -> tuple[dict[str, Any], str]:
        """The entry of the model to use, and the name under which to ask for it."""
        entries = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(entries, list):
            raise self._nonsense("its list of models is none")
        cards = {
            entry["id"]: entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)
        }
        named = self._settings.model
        if named:
            if (name := served_name(named, list(cards))) is not None:
                return cards.get(name, {}), name
            if self._settings.server and self._settings.server not in map(owner_of, cards.values()):
                return {}, named  # a gateway serves more models than it lists: LiteLLM lists known names for a pattern
            raise self._missing(named, cards)
        models = {name: card for name, card in cards.items() if not is_pattern(name)}
        if not models:
            raise self._missing("a model that it names", cards)
        likely = (name for name, card in models.items() if _DEEPSEEK.search(f"{name} {card.get('root')}"))
        name = next(likely, next(iter(models)))
        return models[name], name

    def _missing(self, model: str, cards: Mapping[str, Mapping[str, Any]]) -> Down:
        """The error for a model that is not in the list."""
        served = ", ".join(name[:80] for name in list(cards)[:5]) or "none"
        remedy = "Set OCR_MODEL to a model that it serves, or leave it empty."
        if any(map(is_pattern, cards)):
            remedy = "Set OCR_MODEL to the name of a model that fits one of these patterns."
        elif not any(map(owner_of, cards.values())):
            remedy += (
                " If it is a gateway that serves more than it lists, name the server behind it: OCR_REMOTE_SERVER."
            )
        elif "ollama" in map(owner_of, cards.values()):
            remedy = f"Run `ollama pull {model}` there, or set OCR_MODEL to a model that it serves."
        error = EngineUnavailable(f"{self.url} does not serve {model}. It serves: {served}.", remedy=remedy)
        return Down("the model is missing", error, hopeless=True)

    async def _is_sleeping(self) -> bool | None:
        status, answer = await self._ask("GET", f"{self._address.root}/is_sleeping", LOOK_TIMEOUT_S)
        if status >= 500:
            raise Down(f"HTTP {status} to /is_sleeping", self._unavailable(f"answered HTTP {status} to /is_sleeping"))
        asleep = answer.get("is_sleeping") if status == 200 and isinstance(answer, dict) else None
        return asleep if isinstance(asleep, bool) else None

    async def _level(self) -> int | None:
        """The level at which vLLM sleeps; None if it does not tell. Anybody may have put it to sleep."""
        samples = await self._samples()
        if samples.get("engine_sleep_state discard_all"):
            return 2
        return 1 if samples.get("engine_sleep_state weights_offloaded") else None

    async def others(self) -> int:
        """The number of requests that vLLM is working on, ours included; 0 if it does not tell."""
        first = await self._samples()
        if not first.get("num_requests_running") and not first.get("num_requests_waiting"):
            return 0
        # vLLM may count a request that was broken off until the next one comes. A request that runs writes tokens.
        await anyio.sleep(OTHERS_LOOK_S)
        second = await self._samples()
        work = ("generation_tokens_total", "prompt_tokens_total")
        if all(first.get(name) == second.get(name) for name in work):
            return 0
        return int(second.get("num_requests_running", 0) + second.get("num_requests_waiting", 0))

    async def _samples(self) -> dict[str, float]:
        """vLLM's metrics by name, as sums over all its engines; those of `engine_sleep_state` by state."""
        try:
            response = await self._send("GET", f"{self._address.root}/metrics", LOOK_TIMEOUT_S)
        except Trouble:
            return {}
        sums: dict[str, float] = {}
        for name, labels, value in _SAMPLE.findall(response.text if response.status_code == 200 else ""):
            if state := _SLEEP_STATE.search(labels):
                name = f"{name} {state[1]}"
            sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    # -- where its weights are

    async def sleep(self, level: int) -> None:
        """Put the endpoint to sleep. No request may be under way.

        Args:
            level: 1 moves the weights to its host memory, 2 drops them.
        """
        await self._move(f"/sleep?level={level}", SLEEP_TIMEOUT_S)

    async def wake(self, level: int | None, timeout: float) -> None:
        """Wake the endpoint.

        After level 2 its memory comes back without content. By vLLM's documentation `reload_weights` fills it before
        there is a key-value cache again.

        Args:
            level: the level at which it sleeps; None if that is not known: then the weights are read anew.
        """
        if level == 1:
            await self._move("/wake_up", timeout)
        else:
            await self._move("/wake_up?tags=weights", timeout)
            await self._move("/collective_rpc", timeout, {"method": "reload_weights"})
            await self._move("/wake_up?tags=kv_cache", timeout)
        if await self._is_sleeping():
            raise Down("it did not wake up", self._unavailable("still sleeps after it was woken"))

    async def _move(self, path: str, timeout: float, body: Any = None) -> None:
        status, _ = await self._ask("POST", self._address.root + path, timeout, body)
        if not 200 <= status < 300:
            step = path.partition("?")[0]
            raise Down(f"HTTP {status} to {step}", self._unavailable(f"answered HTTP {status} to {step}"))

    # -- a page

    async def read(
        self, facts: Facts, page: PageImage, options: ReadOptions, picture: EncodedPage, tell: OnText
    ) -> dict[str, Any]:
        """Have a page read. Returns the fields of `engines.base.PageText`.

        Args:
            facts: the facts that the last look found.
            page: the page, in whose pixels boxes are.
            options: the question about the page.
            picture: the page as it is sent.
            tell: called as the answer comes.

        Raises:
            InputTooLarge: the page and its text are too long for the model.
            EngineUnavailable: the endpoint refused this request.
            Trouble: the endpoint failed.
        """
        request = await anyio.to_thread.run_sync(self._request, facts, options, picture)
        left_out = set(self._refused)
        while True:
            body = {name: value for name, value in request.items() if name not in left_out}
            try:
                completion = await self._answer(body, facts, tell)
            except _Unwanted as exc:
                left_out |= exc.names
                continue
            self._refused |= left_out  # the endpoint read the page without these fields
            return asdict(parse_page(page, options, facts, completion))

    def _request(self, facts: Facts, options: ReadOptions, picture: EncodedPage) -> dict[str, Any]:
        with open(picture.path, "rb") as file:
            url = f"data:{picture.mime};base64,{base64.b64encode(file.read()).decode('ascii')}"
        return merged(page_request(facts, options, url), self._settings.fields)

    async def _answer(self, request: dict[str, Any], facts: Facts, tell: OnText) -> Completion:
        """Send a request, and read the answer until it ends or must be cut."""
        import openai

        standard = {name: request.pop(name) for name in _STANDARD if name in request}
        headers: Any = {**({} if self._settings.key else {"Authorization": openai.Omit()}), **self._settings.headers}
        chat = (await self._opened())[1].chat.completions
        try:
            async with (
                chat.with_streaming_response.create(**standard, extra_body=request, extra_headers=headers) as response,
                aclosing(self._events(response)) as events,
            ):
                return await self._written(events, tell)
        except openai.APIStatusError as exc:
            raise self._page_failure(exc, {*standard, *request}, facts) from exc
        except _EventFault as exc:
            failure = self._refusal(exc.message, {*standard, *request}, facts)
            raise failure or Broken(
                "it failed while it answered", self._unavailable("failed while it answered")
            ) from None
        except (openai.APIConnectionError, httpx2.HTTPError) as exc:
            cause = exc.__cause__ if isinstance(exc, openai.APIConnectionError) and exc.__cause__ else exc
            raise self._lost(cause) from None

    async def _written(self, events: AsyncIterator[_AnswerPiece], tell: OnText) -> Completion:
        """Put the events of an answer together. A repetition, and a text without end, are cut."""
        guard, tokens, finish, counted, is_done = TextGuard(), 0, "", False, False
        async for piece in events:
            is_done = piece.is_last
            finish = piece.reason or finish
            counted = counted or piece.tokens is not None
            tokens = piece.tokens if piece.tokens is not None else tokens + (bool(piece.text) and not counted)
            if piece.text or piece.is_thought:
                tell(1 - math.exp(-tokens / TYPICAL_TOKENS), f"{tokens} tokens")
            if piece.text:
                if guard.add(piece.text):
                    return Completion(guard.good_text, "loop", tokens)
                if len(guard.text) > MAX_TEXT:
                    return Completion(guard.text[:MAX_TEXT], "length", tokens)
        if finish in _ENDED_BY_A_FAULT:
            raise Broken("its answer was ended", self._unavailable(f"ended its answer with {finish!r}"))
        self._gives_reasons = self._gives_reasons or bool(finish)
        if not finish and not is_done and (self._gives_reasons or not guard.text):
            raise Broken("its answer broke off", self._unavailable("broke its answer off"))
        return completed(guard.text, finish, tokens)

    async def _events(self, response: Any) -> AsyncGenerator[_AnswerPiece, None]:
        """The events of a stream, as the HTML standard defines them ("Server-sent events")."""
        if "text/event-stream" not in response.headers.get("content-type", ""):
            raise self._nonsense("its answer is no stream of events")
        buffer = b""
        async for data in response.iter_bytes():
            *lines, buffer = (buffer + data).split(b"\n")
            if len(buffer) > MAX_EVENT_BYTES:
                raise self._nonsense("an event of its answer has no end")
            for line in lines:
                if not line.startswith(b"data:"):
                    continue
                content = line[5:].strip()
                if content == b"[DONE]":
                    yield _AnswerPiece(is_last=True)
                    return
                try:
                    event = json.loads(content)
                except (ValueError, RecursionError):
                    raise self._nonsense("an event of its answer is no JSON") from None
                if not isinstance(event, dict):
                    raise self._nonsense("an event of its answer is no object")
                yield self._understood(event)

    def _understood(self, event: dict[str, Any]) -> _AnswerPiece:
        """The part of the answer in an event."""
        if event.get("error") is not None:
            raise _EventFault(server_message(event))
        usage = event.get("usage")
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
        if not isinstance(tokens, int) or tokens < 0:
            tokens = None
        choices = event.get("choices")
        if choices == []:
            return _AnswerPiece(tokens=tokens)
        try:
            choice = choices[0]  # type: ignore[index]
            reason = choice.get("finish_reason")
            delta = (choice.get("delta") if reason else choice["delta"]) or {}
            text = delta.get("content")
            is_thought = bool(delta.get("reasoning_content") or delta.get("reasoning"))
        except (TypeError, KeyError, IndexError, AttributeError):
            raise self._nonsense("an event of its answer is no part of a chat completion") from None
        if isinstance(text, list):  # Mistral sends parts, of which some are thoughts
            text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
        if not isinstance(text, str | None) or not isinstance(reason, str | None):
            raise self._nonsense("an event of its answer is no part of a chat completion")
        return _AnswerPiece(text or "", is_thought, reason or "", tokens)

    # -- HTTP

    async def _opened(self) -> tuple[httpx2.AsyncClient, Any]:
        """Open the HTTP client, and OpenAI's client on it. Called on a thread, because the imports take half a
        second."""
        if self._http is None:
            self._http = await anyio.to_thread.run_sync(self._connections_made)
        if self._openai is None:
            try:
                self._openai = await anyio.to_thread.run_sync(self._client_made, self._http)
            except ImportError:
                raise EngineUnavailable(
                    "OCR_ENGINE=openai needs the package openai, which is not installed.",
                    remedy=f"Run: {extra_command('remote')}",
                ) from None
        return self._http, self._openai

    @property
    def _has_own_login(self) -> bool:
        return any(name.lower() == "authorization" for name in self._settings.headers)

    def _connections_made(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=_Bounded(
                verify=self._address.base.startswith("https:"),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=self._settings.connections),
                proxy=httpx2.Proxy(self._settings.proxy) if self._settings.proxy else None,
                socket_options=_KEEP_ALIVE,
            ),
            auth=None if self._settings.key or self._has_own_login else self._address.login,
            headers={"Accept-Encoding": "identity"},  # the bytes of a compressed answer could not be bounded
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
            follow_redirects=False,
        )

    def _client_made(self, http: httpx2.AsyncClient) -> Any:
        import openai

        # At the level debug these libraries write requests to the log, whatever OPENAI_LOG says.
        for name in ("openai", "httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)
        client = openai.AsyncOpenAI(
            base_url=self._address.base,
            api_key=self._settings.key or "none",
            http_client=http,
            max_retries=0,
            timeout=None,
        )
        # OpenAI's client would take these from the environment, where they are meant for another service.
        client.organization = client.project = None
        return client

    async def _send(self, method: str, url: str, timeout: float, body: Any = None) -> httpx2.Response:
        if self._http is None:
            self._http = await anyio.to_thread.run_sync(self._connections_made)
        bearer = {"Authorization": f"Bearer {self._settings.key}"} if self._settings.key else {}
        headers = {**bearer, **self._settings.headers}
        try:
            with anyio.fail_after(timeout):
                return await self._http.request(method, url, headers=headers, json=body)
        except TimeoutError:
            raise Down(
                "it does not answer in time",
                self._unavailable(f"did not answer {urlsplit(url).path} within {timeout:g} s"),
            ) from None
        except httpx2.HTTPError as exc:
            raise self._lost(exc) from None

    async def _ask(self, method: str, url: str, timeout: float, body: Any = None) -> tuple[int, Any]:
        """The status and the JSON of a short answer; None in place of text that is no JSON."""
        response = await self._send(method, url, timeout, body)
        try:
            return response.status_code, response.json()
        except (ValueError, RecursionError):
            return response.status_code, None

    # -- what went wrong

    def _unavailable(self, what: str, remedy: str = "") -> EngineUnavailable:
        return EngineUnavailable(
            f"{self.url} {what}.", remedy=remedy or "See its log; gpu_status shows when it is asked again."
        )

    def _nonsense(self, what: str) -> Down:
        remedy = "OCR_REMOTE_URL must lead to an endpoint that speaks OpenAI's chat API, like http://10.0.0.5:8000/v1."
        return Down(what, EngineUnavailable(f"{self.url} does not speak OpenAI's chat API: {what}.", remedy=remedy))

    def _lost(self, cause: BaseException) -> Trouble:
        """The failure of a connection, as trouble of the endpoint."""
        if isinstance(
            cause, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol)
        ):
            why = str(cause).partition("\n")[0][:QUOTED] or type(cause).__name__
            remedy = "Start it, or correct OCR_REMOTE_URL."
            if "CERTIFICATE_VERIFY_FAILED" in why:
                remedy = "Set SSL_CERT_FILE to a PEM file with the certificate of the authority that signed its own."
            elif self._settings.proxy:
                remedy = "Start it, or correct OCR_REMOTE_URL or OCR_REMOTE_PROXY."
            return Down(
                "it cannot be reached",
                self._unavailable(f"cannot be reached: {why}", remedy),
                sent=False,
            )
        if isinstance(cause, _Oversized):
            return self._nonsense(str(cause))
        what = f"the connection was lost ({type(cause).__name__})"
        return Down(what, self._unavailable(f"closed the connection over a page ({type(cause).__name__})"))

    def _failure(self, status: int, body: Any) -> Trouble | OcrError | None:
        """The trouble that a failed question about the endpoint means; None for a success."""
        if 200 <= status < 300:
            return None
        return self._trouble(status, server_message(body), {}, with_page=False) or self._refused_page(status, body)

    def _page_failure(self, exc: Any, sent: set[str], facts: Facts) -> Trouble | OcrError | _Unwanted:
        """The error that a failed request for a page means.

        Args:
            exc: an `APIStatusError` of OpenAI's client.
            sent: the fields of the request.
            facts: the facts about the endpoint.
        """
        status, message = exc.status_code, server_message(exc.body)
        says_why = status in (400, 404, 413, 415, 422) or status >= 500
        if says_why and (refusal := self._refusal(message, sent, facts)) is not None:
            return refusal
        if status == 413:
            return self._too_large(message)
        trouble = self._trouble(status, message, exc.response.headers, with_page=True)
        return trouble or self._refused_page(status, exc.body)

    def _refusal(self, message: str, sent: set[str], facts: Facts) -> Down | InputTooLarge | _Unwanted | None:
        """The error that the words of an endpoint describe; None for words that are not known.

        llama.cpp sends such words with HTTP 500, and SGLang in an event of an answer that has begun.
        """
        if _NO_IMAGES.search(message):
            return self._blind(facts)
        is_too_long = _TOO_LONG.search(message) is not None
        if unwanted := refused_names(message, sent - self._settings.fields.keys(), is_too_long=is_too_long):
            return _Unwanted(unwanted)
        return self._too_large(message) if is_too_long else None

    def _too_large(self, message: str) -> InputTooLarge:
        return InputTooLarge(
            f"The page is too large for the model at {self.url}{quoted(message)}.",
            remedy='Ask with resolution="base" or smaller, or have the endpoint started with a longer context.',
        )

    def _trouble(self, status: int, message: str, headers: Mapping[str, str], *, with_page: bool) -> Trouble | None:
        """The trouble of the endpoint that a status means; None if the status is about the request."""
        name = f"HTTP {status}"
        match status:
            case 401 | 403:
                return Down(name, self._locked(name), hopeless=True)
            case 404 | 405:
                remedy = (
                    "OCR_REMOTE_URL must be what /chat/completions is put behind, OCR_MODEL a model that it serves."
                )
                return Down(name, self._unavailable(f"answered {name}{quoted(message)}", remedy), hopeless=True)
            case 408 | 425 | 429 | 502 | 503 | 504 | 529:
                error = self._unavailable(f"takes no more requests at present ({name})")
                return Overloaded(name, error, retry_after(headers))
            case _ if 300 <= status < 400:
                remedy = "Redirects are not followed: set OCR_REMOTE_URL to where it leads."
                return Down(name, self._unavailable(f"answered with a redirect ({name})", remedy), hopeless=True)
            case _ if status >= 500 and with_page:
                return Broken(name, self._unavailable(f"failed over a page ({name})"))
            case _ if status >= 500 or not with_page:
                return Down(name, self._unavailable(f"answered {name}"))
        return None

    def _locked(self, name: str) -> EngineUnavailable:
        remedy = "Set OCR_REMOTE_KEY to a key that it takes."
        if not self._settings.model:
            remedy += " If the key is right, the endpoint keeps its list of models from you: set OCR_MODEL."
        return self._unavailable(f"answered {name}: it does not take the key", remedy)

    def _blind(self, facts: Facts) -> Down:
        """The error for a model that takes no pictures."""
        remedy = "Serve a model that sees, such as deepseek-ai/DeepSeek-OCR-2, and name it in OCR_MODEL."
        if facts.server == "llama.cpp":
            remedy = "Start llama-server with the projector of a model that sees: --mmproj, or -hf, which finds it."
        return Down("no images", self._unavailable("serves a model that takes no pictures", remedy), hopeless=True)

    def _refused_page(self, status: int, body: Any) -> EngineUnavailable:
        return self._unavailable(
            f"refused the page (HTTP {status}){quoted(server_message(body))}",
            "See its log. OCR_REMOTE_PROMPTS=words sends nothing but a picture and a question; OCR_REMOTE_FIELDS adds "
            "fields to the request and leaves fields out.",
        )


@dataclass(frozen=True, slots=True)
class _AnswerPiece:
    """The part of an answer in one event."""

    text: str = ""
    is_thought: bool = False
    reason: str = ""
    """The reason why the answer ends here; empty if it goes on, or if the endpoint gives none."""
    tokens: int | None = None
    """Tokens of the answer until now, if the endpoint counts them."""
    is_last: bool = False
    """Whether this is the last event."""


class _EventFault(Exception):
    """An event with the news that the answer failed."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message
        """The words of the endpoint. They must not reach the log."""


class _Unwanted(Exception):
    """A request that was refused for fields that it can do without."""

    def __init__(self, names: set[str]) -> None:
        super().__init__()
        self.names = names


class _Oversized(httpx2.TransportError):
    """An answer that is too long."""


class _Bounded(httpx2.AsyncHTTPTransport):
    """Ends an answer that has more bytes than any page needs. A compressed answer is ended, too, because its size is
    hidden."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise _Oversized("its answer is packed though it was asked not to")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Counted(response.stream)
        return response


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_ANSWER_BYTES
        async for data in self._stream:
            left -= len(data)
            if left < 0:
                raise _Oversized(f"its answer has more than {MAX_ANSWER_BYTES >> 20} MiB")
            yield data

    async def aclose(self) -> None:
        await self._stream.aclose()

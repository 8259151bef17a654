"""A vLLM server as its documents describe it, for OCR: it reads a page's size and fingerprint, and it can misbehave.

A real HTTP server on a thread. What vLLM refuses is refused; what harms vLLM is written down in `harms`, which a test
looks at in the end: a request or a second move while it sleeps, sleep while it works. After sleep of level 2 it
writes nonsense until its weights have been loaded again in the documented order.

A test puts names of faults into `script`; each request for a page takes one: `429`, `503`, `500`, `401`, … answer so
(`429:2` with `Retry-After: 2`); `crash` ends its engine; `reset` resets the connection at once and `break` in the
middle of the answer; `hang` writes nothing more; `event` sends an error as event, `unfit:…` as the first one with these
words; `loop`, `length`, `filter`, `abort` end so, `end:…` with that reason; `done` gives no reason and `fade` not even
the last event; `text:…` writes that, `thought:…` thinks that first; `refuse:…` is a 400 that says so, `fault:…` a 500,
and `faults:…` a 422 with a list of one; `noise`, `plain`, `packed`, `endless`, `redirect` are no answers; an empty name
is none.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from faults import fingerprint
from PIL import Image

LIMIT = 64  # requests that are kept


class Refusal(Exception):
    """An answer that is an error, in vLLM's form."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


class FakeVllm:
    """Start it with `fake_vllm()`."""

    def __init__(self, model: str = "deepseek-ai/DeepSeek-OCR", **options: Any) -> None:
        self.model = model
        self.root = options.pop("root", model)
        self.key = options.pop("key", "")
        self.dev_mode = options.pop("dev_mode", True)
        self.sleep_mode = options.pop("sleep_mode", True)
        self.context = options.pop("context", 8192)
        self.owner = options.pop("owner", "vllm")
        self.most = options.pop("most", 1000)
        """Requests at once; more are turned away with 503."""
        self.seconds = options.pop("seconds", 0.0)
        """For which an answer is written."""
        self.slots = threading.Semaphore(options.pop("slots", 1000))
        """Requests that it reads side by side; more of them wait without a word, as at llama.cpp."""
        self.listed = options.pop("listed", [])
        """The names of its models; empty: its one model. A pattern stands for every name that fits."""
        self.list_status = options.pop("list_status", 200)
        """What it answers to whoever asks for its models."""
        self.tls: ssl.SSLContext | None = options.pop("tls", None)
        self.headers: list[dict[str, str]] = []
        """Of what was asked about pages, by names in small letters."""
        assert not options, options
        self.script: list[str] = []
        self.requests: list[dict[str, Any]] = []
        """The bodies of what was asked about pages."""
        self.calls: list[str] = []
        """Methods and paths of everything else."""
        self.harms: list[str] = []
        self.read: list[str] = []
        """What was read to its end."""
        self.broken_off = 0
        """Answers that the client hung up on."""
        self.others = 0
        """Requests that somebody else has in work."""
        self.running = 0
        self.most_running = 0
        self.tokens = 0
        self.asleep: set[str] = set()
        self.level = 0
        self.weights = True
        self.refuse_wake = False
        self.engine_dead = False
        """As after a crash of its engine: the list of models stays, all else fails."""
        self.lock = threading.RLock()
        self._news = threading.Condition()
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self._hung: list[threading.Event] = []

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if "_news" in self.__dict__:
            with self._news:
                self._news.notify_all()

    def until(self, condition: Callable[[], bool], bound_s: float) -> None:
        """Wait until this is true of what was set here; fails when the time is over."""
        with self._news:
            assert self._news.wait_for(condition, bound_s), "it did not come true in time"

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Listen, on the port it had before, if it had one."""
        fake = self

        class Handler(_Handler):
            vllm = fake

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None: ...

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Die: nothing listens, and what was being answered breaks."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        for hung in self._hung:
            hung.set()

    # -- sleep

    def sleep(self, query: dict[str, list[str]]) -> None:
        if not self.sleep_mode:
            raise Refusal(500, "Sleep mode is not enabled")
        level = int(query.get("level", ["1"])[0])
        if level not in (1, 2):
            raise Refusal(400, f"level {level}")
        if self.running or self.others:
            self.harms.append("slept while it worked: its requests are aborted")
        if self.asleep:
            self.harms.append("slept while it slept: vLLM does nothing then")
            return
        self.asleep, self.level = {"weights", "kv_cache"}, level
        self.weights = level == 1

    def wake_up(self, query: dict[str, list[str]]) -> None:
        tags = set(query.get("tags", ["weights", "kv_cache"]))
        if not tags <= {"weights", "kv_cache"}:
            raise Refusal(400, "unknown tags")
        if self.refuse_wake:
            raise Refusal(500, "CUDA out of memory")
        self.asleep -= tags
        if not self.asleep:
            self.level = 0

    def collective_rpc(self, body: Any) -> None:
        if not isinstance(body, dict) or body.get("method") != "reload_weights":
            raise Refusal(400, "Missing 'method' in request body")
        if "weights" in self.asleep:
            raise Refusal(500, "there is no memory to load weights into")
        if "kv_cache" not in self.asleep:
            self.harms.append("weights loaded beside the cache: vLLM may run out of memory")
        self.weights = True

    # -- a page

    def check(self, body: Any, headers: Any) -> tuple[Image.Image, str]:
        """The picture and the question of a request that vLLM takes."""
        if "application/json" not in headers.get("Content-Type", ""):
            raise Refusal(415, "Unsupported Media Type: Only 'application/json' is allowed")
        if body.get("model") != self.model and not any(fnmatch(body.get("model", ""), name) for name in self.listed):
            raise Refusal(404, f"The model `{body.get('model')}` does not exist.")
        if body.get("stream_options") and not body.get("stream"):
            raise Refusal(400, "Stream options can only be defined when `stream=True`.")
        known = {
            "model", "messages", "temperature", "max_tokens", "stream", "stream_options", "skip_special_tokens",
            "vllm_xargs", "custom_logit_processor", "custom_params", "max_completion_tokens", "reasoning_effort",
        }  # fmt: skip
        if unknown := body.keys() - known:
            raise Refusal(400, f"this fake knows no {unknown}: is it documented?")
        if body.get("max_tokens", 0) >= self.context:
            raise Refusal(400, f"'max_tokens' is too large: this model's maximum context length is {self.context}.")
        arguments = body.get("vllm_xargs", {})
        for value in arguments.values():
            if not isinstance(value, (str, int, float, list)):
                raise Refusal(400, "vllm_xargs holds what is no argument")
        if "ngram_size" in arguments and not (isinstance(arguments["ngram_size"], int) and arguments["ngram_size"] > 0):
            raise Refusal(400, "`ngram_size` has to be a strictly positive integer")
        (message,) = body["messages"]
        pictures = [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]
        texts = [part["text"] for part in message["content"] if part["type"] == "text"]
        if message["role"] != "user" or len(pictures) != 1 or len(texts) != 1:
            raise Refusal(400, "this fake takes one picture and one text")
        if "<image>" in texts[0]:
            raise Refusal(400, "Found more '<image>' placeholders in input prompt than actual multimodal data items.")
        head, _, data = pictures[0].partition(",")
        try:
            assert head in ("data:image/png;base64", "data:image/jpeg;base64"), head
            image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
            assert head == f"data:image/{image.format.lower()};base64"
            return image.convert("RGB"), texts[0]
        except (binascii.Error, OSError, AssertionError) as exc:
            raise Refusal(400, f"Failed to load image: {exc}") from None

    def text(self, image: Image.Image, question: str) -> str:
        if not self.weights:
            return "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"
        seen = f"{image.width}x{image.height} {fingerprint(image.tobytes())}"
        if question.startswith(("<|grounding|>", "Locate ")):
            return f"<|ref|>title<|/ref|><|det|>[[0, 0, 999, 999]]<|/det|>\n{seen}"
        return seen


class _Handler(BaseHTTPRequestHandler):
    vllm: FakeVllm
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._serve(json.loads(raw) if raw else None)

    def _serve(self, body: Any) -> None:
        vllm, parts = self.vllm, urlsplit(self.path)
        try:
            if parts.path.startswith("/v1") and vllm.key and self.headers.get("Authorization") != f"Bearer {vllm.key}":
                raise Refusal(401, "Unauthorized")
            if parts.path == "/v1/chat/completions" and self.command == "POST":
                self._chat(body)
                return
            with vllm.lock:
                vllm.calls.append(f"{self.command} {self.path}")
                self._json(200, self._called(parts.path, parse_qs(parts.query), body))
        except Refusal as refusal:
            error = {"message": refusal.message, "type": "error", "param": None, "code": refusal.status}
            self._json(refusal.status, {"error": error}, **refusal.headers)

    def _called(self, path: str, query: dict[str, list[str]], body: Any) -> Any:
        vllm = self.vllm
        if vllm.engine_dead and path != "/v1/models":
            raise Refusal(503 if path == "/health" else 500, "EngineCore encountered an issue.")
        match self.command, path:
            case "GET", "/health":
                return ""
            case "GET", "/v1/models":
                if vllm.list_status != 200:
                    raise Refusal(vllm.list_status, "this key may not list models")
                card = {"object": "model", "created": 1, "owned_by": vllm.owner, "root": vllm.root, "parent": None}
                names = vllm.listed or [vllm.model]
                return {
                    "object": "list",
                    "data": [{"id": name, **card, "max_model_len": vllm.context} for name in names],
                }
            case "GET", "/metrics":
                return self._metrics()
            case "GET", "/is_sleeping" if vllm.dev_mode:
                return {"is_sleeping": bool(vllm.asleep)}
            case "POST", "/sleep" if vllm.dev_mode:
                vllm.sleep(query)
            case "POST", "/wake_up" if vllm.dev_mode:
                vllm.wake_up(query)
            case "POST", "/collective_rpc" if vllm.dev_mode:
                vllm.collective_rpc(body)
            case _:
                raise Refusal(404, "Not Found")
        return None

    def _metrics(self) -> str:
        vllm = self.vllm
        labels = f'engine="0",model_name="{vllm.model}"'
        if vllm.others:
            vllm.tokens += 10
        states = {"awake": not vllm.asleep, "weights_offloaded": vllm.level == 1, "discard_all": vllm.level == 2}
        lines = [
            "# HELP vllm:num_requests_running Number of requests in model execution batches.",
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{{{labels}}} {float(vllm.running + vllm.others)}",
            f"vllm:num_requests_waiting{{{labels}}} 0.0",
            f"vllm:generation_tokens_total{{{labels}}} {float(vllm.tokens)}",
            f"vllm:prompt_tokens_total{{{labels}}} 1.234e+06",
            *(f'vllm:engine_sleep_state{{{labels},sleep_state="{name}"}} {float(on)}' for name, on in states.items()),
        ]
        return "\n".join(lines) + "\n"

    def _chat(self, body: Any) -> None:
        vllm = self.vllm
        with vllm.lock:
            fault, _, detail = (vllm.script.pop(0) if vllm.script else "").partition(":")
            if vllm.engine_dead or fault == "crash":
                vllm.engine_dead = True
                raise Refusal(500, "EngineCore encountered an issue. See stack trace (above) for the root cause.")
            if fault == "reset":
                self._reset()
                return
            if fault.isdigit():
                raise Refusal(int(fault), "as the test wants it", **({"Retry-After": detail} if detail else {}))
            if fault in ("refuse", "fault"):
                raise Refusal(400 if fault == "refuse" else 500, detail)
            if fault == "faults":
                entry = {"type": "less_than", "loc": ["body", detail], "msg": "Input should be less", "input": "secret"}
                self._json(422, {"detail": [entry]})
                return
            if vllm.asleep:
                vllm.harms.append("was asked about a page while it slept")
                raise Refusal(503, "The model is sleeping")  # a real one has it wait until it is woken
            if vllm.running >= vllm.most:
                raise Refusal(503, "too many requests")
            image, question = vllm.check(body, self.headers)
            vllm.requests = [*vllm.requests[-LIMIT:], body]
            vllm.headers = [*vllm.headers[-LIMIT:], {name.lower(): value for name, value in self.headers.items()}]
            vllm.running += 1
            vllm.most_running = max(vllm.most_running, vllm.running)
        try:
            with vllm.slots:
                self._answer(body, vllm.text(image, question), fault, detail)
        except (BrokenPipeError, ConnectionResetError):
            vllm.broken_off += 1
            self.close_connection = True
        finally:
            with vllm.lock:
                vllm.running -= 1

    def _answer(self, body: Any, text: str, fault: str, detail: str) -> None:
        vllm = self.vllm
        if fault == "redirect":
            self._json(307, None, Location="http://169.254.169.254/latest")
            return
        if fault == "plain":
            self._json(200, {"choices": [{"message": {"content": text}}]})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        if fault == "packed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if fault == "endless":
            while True:
                self._chunk(b"data: " + b"x" * 65536)
        if fault == "noise":
            self._event("{'choices': 1}")
        reason = {"length": "length", "filter": "content_filter", "abort": "abort", "end": detail}.get(fault, "stop")
        if fault == "text":
            text = detail
        pieces = [text[start : start + 7] for start in range(0, len(text), 7)]
        if fault == "loop":
            pieces += ["The same line again.\n"] * 100_000
        if fault == "thought":
            self._event(self._part({"reasoning_content": detail}, None, 1, body))
        for number, piece in enumerate(pieces, 1):
            if fault == "break" and number == 2:
                self._reset()
                return
            if fault == "hang" and number == 2:
                hung = threading.Event()
                vllm._hung.append(hung)
                hung.wait(30)
                self._reset()
                return
            if fault == "unfit":
                self._event({"error": {"message": detail, "code": 400}})
                break
            if fault == "event" and number == 2:
                self._event({"error": {"message": "EngineCore died", "code": 500}})
                break
            if vllm.seconds:
                time.sleep(vllm.seconds / len(pieces))
            vllm.tokens += 1
            self._event(self._part({"content": piece}, None, number, body))
        if fault in ("done", "fade"):
            if fault == "done":
                self._event("[DONE]")
            self._chunk(b"")
            return
        self._event(self._part({"content": ""}, reason, len(pieces), body))
        if body.get("stream_options", {}).get("include_usage"):
            self._event({**self._part({}, None, len(pieces), body), "choices": []})
        self._event("[DONE]")
        self._chunk(b"")
        if fault not in ("event", "unfit", "noise", "packed", "abort"):
            vllm.read = [*vllm.read, text]

    def _part(self, delta: dict[str, Any], reason: str | None, tokens: int, body: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        part = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": self.vllm.model}
        usage = {"prompt_tokens": 900, "total_tokens": 900 + tokens, "completion_tokens": tokens}
        return {**part, "choices": [choice], "usage": usage}

    def _event(self, data: Any) -> None:
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        self._chunk(f"data: {text}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _json(self, status: int, answer: Any, **headers: str) -> None:
        is_text = isinstance(answer, str)
        data = b"" if answer is None else answer.encode() if is_text else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def _reset(self) -> None:
        """As a process that dies does it."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RD)
        self.close_connection = True
        self.connection.close()


@contextmanager
def fake_vllm(model: str = "deepseek-ai/DeepSeek-OCR", **options: Any) -> Iterator[FakeVllm]:
    """A server that runs. When it ends, nothing may have been done that harms vLLM."""
    vllm = FakeVllm(model, **options)
    vllm.start()
    try:
        yield vllm
    finally:
        vllm.stop()
    assert vllm.harms == []

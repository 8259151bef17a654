"""The one table of settings. `scripts/configuration.py` writes docs/configuration.md and .env.example from it.

Every setting is an environment variable of the field's name in capitals. No other module reads a setting from the
environment. A `.env` file is read only where the operator names one (`--env-file`, `OCR_ENV_FILE`): an agent starts its
servers in whatever folder is open, and a stranger's `.env` file there could name an engine to import.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .errors import BadRequest

__all__ = ["REMOTE_SERVERS", "Settings", "is_loopback", "json_object", "load_settings", "per_endpoint"]

MB = 1024 * 1024
MIN_TOKEN = 16  # characters; of hex digits, 64 bits: guessed over a network, centuries

REMOTE_SERVERS: Final = ("vllm", "sglang", "ollama", "llama.cpp", "lmstudio", "openai")
"""The servers whose ways with a request are known; see `lifecycle/remote/request.py`."""

_FIXED_FIELDS: Final = frozenset({"messages", "model", "n", "stream"})
_FIXED_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
MIN_SECRET: Final = 8  # characters of a header that the log strikes out: a short one is a word of other lines, too

_List = Annotated[tuple[str, ...], NoDecode]


def _field(default: Any, group: str, description: str, **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"group": group}, **limits)


class Settings(BaseSettings):
    """The settings of an operator. Immutable: one object, made once, handed down."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=False, hide_input_in_errors=True)

    # -- engine
    ocr_engine: str = _field(
        "auto",
        "Engine",
        "The engine that reads pages: `auto`, `rapidocr`, `deepseek`, `vlm` (a smaller vision-language model; see "
        "docs/gpu-management.md), `tesseract`, `openai` (endpoints that read; see docs/remote.md), or "
        "`package.module:Class` for an engine of your own. `auto` takes DeepSeek-OCR where a GPU with room for it, the "
        "`[gpu]` extra and its weights are there. Elsewhere it takes RapidOCR.",
    )
    ocr_model: str = _field(
        "",
        "Engine",
        "The weights of a vision-language model: a folder or a hub id. Empty: `deepseek-community/DeepSeek-OCR-2` (or "
        "DeepSeek-OCR, where only that is here), and with `OCR_ENGINE=vlm` `lightonai/LightOnOCR-3-1B`. With "
        "`OCR_ENGINE=openai`: the model as the endpoints name it. Empty: the model that they serve.",
    )
    ocr_auto_download: bool = _field(
        False,
        "Engine",
        "Whether the first call starts a download of missing weights. The call gets an answer that says how far the "
        "download is.",
    )
    ocr_fallback: Literal["", "rapidocr"] = _field(
        "",
        "Engine",
        "`rapidocr`: RapidOCR reads, in the modes that it can do, while no GPU has room or can be used, or no "
        "endpoint can read. "
        "Empty: such a request gets an error.",
    )
    ocr_prewarm: Literal["off", "imports", "host", "gpu"] = _field(
        "imports",
        "Engine",
        "What a GPU engine does before the first call. `off`: nothing. `imports`: the worker imports its libraries and "
        "uses no GPU memory. `host`: it loads the weights into host memory. `gpu`: it loads the weights onto the GPU.",
    )
    ocr_reply_seconds: float = _field(
        45.0,
        "Engine",
        "Seconds within which an MCP call gets its answer. The answer has the pages that are read by then, and names "
        "the next ones. The server reads on meanwhile. Most clients give up after 60 seconds.",
        gt=0,
    )
    ocr_threads: int = _field(
        0,
        "Engine",
        "CPU threads that an engine on the CPU uses. 0: one for each core that this process may use.",
        ge=0,
        le=512,
    )
    ocr_precision: Literal["auto", "int8", "float32"] = _field(
        "auto",
        "Engine",
        "The arithmetic of RapidOCR's recognition model. `int8`: 8-bit integers. A page takes seven tenths of the time "
        "on a processor with instructions for integer products (AVX-512 VNNI, AVX-VNNI, Arm's dot products). RapidOCR "
        "reads a line again in float32 where the integers are unsure. `float32`: the model as it was trained. `auto`: "
        "`int8` if the processor has such instructions, else `float32`.",
    )
    ocr_cpu_workers: int = _field(
        1,
        "Engine",
        "Workers that read side by side where the engine runs on the CPU. With `OCR_THREADS=0` they share the cores. "
        "Each worker holds its own model in memory.",
        ge=1,
        le=64,
    )
    ocr_load_timeout: float = _field(
        600.0, "Engine", "Seconds that a model may take to load. Then its worker is killed.", gt=0
    )
    ocr_page_timeout: float = _field(
        300.0,
        "Engine",
        "Seconds that a page may take to read. Then its worker is killed. At an endpoint: seconds from the first byte "
        "of the answer, all attempts together.",
        gt=0,
    )
    ocr_busy_wait: float = _field(
        10.0,
        "Engine",
        "Seconds that `gpu_offload` and `gpu_release` wait for the pages that are being read. Then they answer `busy`.",
        ge=0,
    )

    ocr_worker_env: _List = _field(
        (),
        "Engine",
        "Names of environment variables that an engine of your own needs, separated by commas. Workers get these "
        "variables, and those that libraries are known to need. Set this in the environment itself, not in a `.env` "
        "file.",
    )

    ocr_max_queue: int = _field(
        64,
        "Engine",
        "Requests that may wait or be read at once, over MCP, HTTP and the page together. One client may have half of "
        "them. The next request gets an error that says when to come again.",
        ge=1,
        le=4096,
    )

    # -- endpoints
    ocr_remote_url: _List = _field(
        (),
        "Endpoints",
        "Addresses of endpoints that speak OpenAI's chat API, separated by commas, like `http://10.0.0.5:8000/v1`.",
    )
    ocr_remote_key: SecretStr | None = _field(
        None,
        "Endpoints",
        "The bearer token for all endpoints, or a JSON object with a token for each address.",
    )
    ocr_remote_headers: SecretStr | None = _field(
        None,
        "Endpoints",
        'Headers of every request, as a JSON object, like `{"X-Team": "ocr"}`. A value that is an object itself holds '
        "the headers for the address that is its name.",
    )
    ocr_remote_fields: str = _field(
        "",
        "Endpoints",
        'A JSON object that is merged into every request for a page, like `{"reasoning_effort": "none"}`. The value '
        "`null` leaves a field out.",
    )
    ocr_remote_server: str = _field(
        "",
        "Endpoints",
        "The server that reads behind a gateway: `vllm`, `sglang`, `ollama`, `llama.cpp`, `lmstudio` or `openai`, or a "
        "JSON object with one of them for each address. Empty: the server that the endpoint names.",
    )
    ocr_remote_concurrency: int = _field(
        32,
        "Endpoints",
        "Pages that one endpoint has at once, at most. The server begins with two and learns how many the endpoint "
        "can take.",
        ge=1,
        le=1024,
    )
    ocr_remote_queue_timeout: float = _field(
        600.0,
        "Endpoints",
        "Seconds that a page may wait at endpoints for the first byte of its answer, all attempts together. From that "
        "byte on, `OCR_PAGE_TIMEOUT` counts.",
        gt=0,
    )
    ocr_remote_proxy: SecretStr | None = _field(
        None,
        "Endpoints",
        "The HTTP proxy for all endpoints, like `http://proxy.example.org:3128`. Empty: none. The server ignores "
        "`HTTPS_PROXY` and its like.",
    )
    ocr_remote_prompts: Literal["auto", "deepseek", "words"] = _field(
        "auto",
        "Endpoints",
        "How the server asks a model. `deepseek`: with DeepSeek-OCR's own prompts, whose answers have boxes. `words`: "
        "in words, for any other model. `auto`: decide by the name of the model.",
    )

    # -- GPU
    ocr_gpu: str = _field(
        "auto",
        "GPU",
        "The card: `auto` (the one with most free memory), an index in PCI order, a UUID, a MIG UUID, or `cpu`.",
    )
    ocr_gpus: _List = _field(
        (),
        "GPU",
        "Several cards at once, with a worker on each: `all`, or indices in PCI order and UUIDs, separated by commas. "
        "Empty: one card, which `OCR_GPU` names.",
    )
    ocr_gpu_reserve_mb: int = _field(
        1024,
        "GPU",
        "MiB that must stay free on the card beside the model, for other programs.",
        ge=0,
    )
    gpu_offload_after: float = _field(
        0.0,
        "GPU",
        "Idle seconds until the weights leave the GPU. 0: as soon as nobody waits. -1: never.",
        ge=-1,
    )
    ocr_park: Literal["successor", "resident"] = _field(
        "successor",
        "GPU",
        "How weights wait in host memory. `successor`: a fresh worker maps the weights and holds nothing on the card. "
        "`resident`: the worker that read stays, with a locked copy of the weights. The next page begins sooner, but "
        "the worker's CUDA context keeps 300 to 700 MB of the card, and the copy takes as much host memory again.",
    )
    gpu_idle_timeout: float = _field(
        60.0, "GPU", "Idle seconds until the worker ends and gives all memory back. -1: never.", ge=-1
    )

    # -- input
    ocr_allowed_dirs: _List = _field(
        (),
        "Input",
        "Folders whose files the server may read and write, separated by `:` (`;` on Windows). "
        "Empty: every folder over stdio and on the command line, no folder over HTTP.",
    )
    ocr_allow_urls: bool = _field(False, "Input", "Whether the server fetches a document from an `https://` address.")
    ocr_allow_http: bool = _field(
        False, "Input", "Whether the server fetches from plain `http://` too. Needs `OCR_ALLOW_URLS`."
    )
    ocr_allow_private_addresses: bool = _field(
        False, "Input", "Whether the server fetches from addresses inside your network. Needs `OCR_ALLOW_URLS`."
    )
    ocr_fetch_timeout: float = _field(30.0, "Input", "Seconds that a download may take, redirects included.", gt=0)
    ocr_max_file_mb: int = _field(100, "Input", "MiB that a file may have.", ge=1, le=4096)
    ocr_max_megapixels: int = _field(200, "Input", "Million pixels that a page may have.", ge=1, le=2000)
    ocr_max_pages: int = _field(2000, "Input", "Pages that a document may have.", ge=1)
    ocr_pdf_dpi: int = _field(200, "Input", "Dots per inch at which PDF pages are drawn.", ge=36, le=1200)
    ocr_pdf_password: SecretStr | None = _field(
        None,
        "Input",
        "The password of locked PDFs, for callers on this machine: MCP over stdio, the command line and `batch`. The "
        "server tries it where a PDF does not open without one. A request over HTTP brings its own password.",
    )

    ocr_barcodes: Literal["off", "on"] = _field(
        "off",
        "Input",
        "`on`: the server also reads QR codes and barcodes. Their content stands at the end of the page's text, and "
        "each code is a block. This needs the extra `[barcodes]`. The server then draws every page, even a PDF page "
        "whose own text it takes.",
    )

    # -- results
    ocr_cache: Literal["on", "off"] = _field(
        "on", "Results", "`on` keeps pages that were read, so that no page is read twice. `off` keeps none."
    )
    ocr_cache_mb: int = _field(64, "Results", "MiB of pages that memory keeps, for an hour at most.", ge=1)
    ocr_cache_dir: str = _field(
        "",
        "Results",
        "Folder that keeps pages on disk too. Servers of one machine may share it, servers of several machines may "
        "not: the locks of SQLite do not hold on network disks. Empty: no disk.",
    )
    ocr_cache_dir_mb: int = _field(1024, "Results", "MiB of pages that the folder may keep.", ge=1)

    # -- HTTP
    host: str = _field("127.0.0.1", "HTTP", "The address that `serve --transport http` binds.")
    port: int = _field(8001, "HTTP", "The port that `serve --transport http` binds. 0: any free port.", ge=0, le=65535)
    ocr_auth_token: SecretStr | None = _field(
        None,
        "HTTP",
        "The bearer token. Every path but `/health` and the page's own files asks for it. "
        "Every address but loopback needs it.",
    )
    ocr_allowed_hosts: _List = _field(
        (),
        "HTTP",
        "`Host` headers that the server accepts beside loopback, separated by commas, like `ocr.example.org`, "
        "`10.0.0.5:*`.",
    )
    ocr_allowed_origins: _List = _field(
        (), "HTTP", "`Origin` headers of browsers that the server accepts beside loopback, separated by commas."
    )

    ocr_cors_origins: _List = _field(
        (),
        "HTTP",
        "Origins of other sites, separated by commas. Pages of these sites may call the server and read its answers.",
    )
    ocr_trusted_proxies: _List = _field(
        (),
        "HTTP",
        "Addresses of reverse proxies, separated by commas. The server believes their `X-Forwarded-For`. "
        "Without this setting, all callers behind a proxy count as one client.",
    )
    ocr_upload_timeout: float = _field(
        20.0,
        "HTTP",
        "Seconds that the body of a request may stall. Then the request is cut. A body slower than 4 KiB a second is "
        "cut too.",
        gt=0,
    )

    ocr_drain_seconds: float = _field(
        25.0,
        "HTTP",
        "Seconds that a server goes on with the pages that it reads after it was told to end (SIGTERM). New requests "
        "get 503 meanwhile. A second signal ends the server at once.",
        ge=0,
    )

    # -- logs
    ocr_log_level: Literal["debug", "info", "warning", "error"] = _field(
        "warning",
        "Logs",
        "The level of the log on stderr: `debug`, `info`, `warning` or `error`. The log holds no text of a document, "
        "at no level. See docs/observability.md.",
    )
    ocr_log_format: Literal["text", "json"] = _field(
        "text", "Logs", "The format of the log: `text` for people, or `json` for programs, one object a line."
    )

    @field_validator("ocr_allowed_dirs", mode="before")
    @classmethod
    def _split_dirs(cls, value: object) -> object:
        if isinstance(value, str):
            value = tuple(part for part in value.split(os.pathsep) if part)
        if isinstance(value, (tuple, list)):
            return tuple(os.path.realpath(os.path.expanduser(str(part))) for part in value)
        return value

    @field_validator(
        "ocr_allowed_hosts", "ocr_allowed_origins", "ocr_cors_origins", "ocr_gpus", "ocr_trusted_proxies",
        "ocr_remote_url", "ocr_worker_env",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("ocr_gpus")
    @classmethod
    def _several_gpus(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not value:
            return value
        for entry in value:
            if entry.lower() == "cpu":
                raise ValueError("cpu is not a card; set OCR_CPU_WORKERS for several workers on the CPU")
            if entry.lower() == "all" and len(value) > 1:
                raise ValueError("all means every card; write all alone, or name some cards")
            if entry.lower() == "auto":
                raise ValueError("auto is a value of OCR_GPU, for one card; set OCR_GPUS=all for every card")
            if not (entry.lower() == "all" or entry.isdecimal() or entry.lower().startswith(("gpu-", "mig-"))):
                raise ValueError(f"{entry!r} is neither an index nor a UUID; nvidia-smi -L lists both")
        if (one := str(info.data.get("ocr_gpu", "auto")).strip().lower()) not in ("", "auto"):
            raise ValueError(f"it names several cards, and OCR_GPU={one} names one; unset one of the two")
        return value

    @field_validator("ocr_remote_url")
    @classmethod
    def _each_endpoint_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))

    @field_validator("ocr_remote_fields")
    @classmethod
    def _fields_of_a_request(cls, value: str) -> str:
        if fixed := sorted(json_object(value).keys() & _FIXED_FIELDS):
            raise ValueError(f"{', '.join(fixed)}: the server sets this itself; OCR_MODEL names the model")
        return value

    @field_validator("ocr_remote_server")
    @classmethod
    def _known_server(cls, value: str) -> str:
        for name in per_endpoint(value).values():
            if name not in REMOTE_SERVERS:
                raise ValueError(f"{str(name)[:40]!r} is no server that is known; the names are "
                                 f"{', '.join(REMOTE_SERVERS)}")  # fmt: skip
        return value

    @field_validator("ocr_remote_headers")
    @classmethod
    def _headers_that_can_be_sent(cls, value: SecretStr | None) -> SecretStr | None:
        for name, entry in json_object(value.get_secret_value() if value else "").items():
            for header, text in (entry if isinstance(entry, dict) else {name: entry}).items():
                if not _HEADER_NAME.fullmatch(header) or header.lower() in _FIXED_HEADERS:
                    raise ValueError(f"{header[:40]!r} is no header that you can set")
                if not isinstance(text, str) or not (text.isascii() and text.isprintable()):
                    raise ValueError(f"the value of {header} is no text that a header can carry")
        return value

    @field_validator("ocr_remote_proxy")
    @classmethod
    def _address_of_a_proxy(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            parts = urlsplit(value.get_secret_value() if value else "http://none")
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address:
            raise ValueError("it is no address of a proxy; write it like http://proxy.example.org:3128")
        return value

    @field_validator("ocr_remote_key")
    @classmethod
    def _key_of_each_address(cls, value: SecretStr | None) -> SecretStr | None:
        keys = per_endpoint(value.get_secret_value() if value else "").values()
        if not all(isinstance(key, str) for key in keys):
            raise ValueError("a key is a text; give a JSON object of texts, with addresses as names")
        return value

    @field_validator(
        "ocr_auth_token",
        "ocr_pdf_password",
        "ocr_remote_key",
        "ocr_remote_headers",
        "ocr_remote_proxy",
        mode="before",
    )
    @classmethod
    def _empty_token_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("ocr_auth_token", "ocr_remote_key")
    @classmethod
    def _token_fits_a_header(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        token = "" if value is None else value.get_secret_value()
        if not (token.isascii() and token.isprintable()):
            raise ValueError("it has characters that no header can carry; use letters, digits and signs of ASCII")
        if value is not None and info.field_name == "ocr_auth_token" and len(token) < MIN_TOKEN:
            raise ValueError(f"it is shorter than {MIN_TOKEN} characters, and nothing slows down who guesses; "
                             "`openssl rand -hex 32` makes a good one")  # fmt: skip
        return value

    @field_validator("ocr_allowed_hosts", "ocr_allowed_origins", "ocr_cors_origins")
    @classmethod
    def _no_wildcard(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if "*" in entry.removesuffix(":*"):
                raise ValueError(
                    f"{entry!r} would let every page in a browser call this server, or means nothing; name each one"
                )
        return value

    @property
    def secrets(self) -> list[str]:
        """Every text that no line of the log may show."""
        headers = json_object(self.ocr_remote_headers.get_secret_value() if self.ocr_remote_headers else "")
        values: list[str] = []
        for entry in headers.values():
            values += entry.values() if isinstance(entry, dict) else [entry]
        keys = per_endpoint(self.ocr_remote_key.get_secret_value() if self.ocr_remote_key else "").values()
        proxy = urlsplit(self.ocr_remote_proxy.get_secret_value()).password if self.ocr_remote_proxy else None
        token = self.ocr_auth_token.get_secret_value() if self.ocr_auth_token else ""
        long = (value for value in values if len(value) >= MIN_SECRET)
        return [secret for secret in (token, *keys, *long, proxy, self.local_pdf_password) if secret]

    @property
    def local_pdf_password(self) -> str:
        """The password of locked PDFs for callers on this machine; empty: none is known."""
        return self.ocr_pdf_password.get_secret_value() if self.ocr_pdf_password else ""

    @property
    def max_file_bytes(self) -> int:
        return self.ocr_max_file_mb * MB

    @property
    def max_pixels(self) -> int:
        return self.ocr_max_megapixels * 1_000_000


def per_endpoint(value: str) -> dict[str, Any]:
    """A setting that may differ from endpoint to endpoint, by address; the name "" stands for every endpoint.

    Raises:
        ValueError: the value begins like a JSON object and is none.
    """
    return json_object(value) if value.lstrip().startswith("{") else {"": value} if value else {}


def json_object(text: str) -> dict[str, Any]:
    """The JSON object that is written there; an empty text is an empty one.

    Raises:
        ValueError: it is none. The text is not repeated: it may hold a secret.
    """
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError('it is no JSON object; write it like {"name": "value"}')
    return found


def load_settings(env_file: str | None = None, overrides: Mapping[str, object] | None = None) -> Settings:
    """Settings from flags, then environment, then the named `.env` file, then defaults.

    Args:
        env_file: path of a `.env` file. None: the file that `OCR_ENV_FILE` names, if it is set.
        overrides: field name to value, from the command line. A value of None is skipped.

    Raises:
        BadRequest: a value is out of its range, or the `.env` file is missing.
    """
    env_file = env_file or os.environ.get("OCR_ENV_FILE")
    if env_file and not Path(env_file).is_file():
        raise BadRequest(f"There is no settings file {env_file}.", remedy="Name a file that exists, or name no file.")
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        return Settings(_env_file=env_file, **given)  # type: ignore[call-arg, arg-type]
    except ValidationError as exc:
        problems = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in exc.errors())
        raise BadRequest(
            f"A setting has a wrong value: {problems}.",
            remedy="Correct the setting. docs/configuration.md lists all settings.",
        ) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that binds this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""The one table of settings. `docs/configuration.md` is generated from it; nothing else reads the environment.

Every setting is an environment variable of the field's name in capitals. A `.env` file is read
only where the operator names one (`--env-file`, `OCR_ENV_FILE`): an agent starts its servers in
whatever folder is open, and a stranger's `.env` there could name an engine to import.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .errors import BadRequest

__all__ = ["Settings", "is_loopback", "load_settings"]

MB = 1024 * 1024
MIN_TOKEN = 16  # characters; of hex digits, 64 bits: guessed over a network, centuries

_List = Annotated[tuple[str, ...], NoDecode]


def _field(default: Any, group: str, description: str, **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"group": group}, **limits)


class Settings(BaseSettings):
    """All that an operator can set. Immutable: one object, built once, handed down."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=False, hide_input_in_errors=True)

    # -- engine
    ocr_engine: str = _field(
        "auto",
        "Engine",
        "`auto`, `rapidocr`, `deepseek`, `tesseract`, `openai` (endpoints that read: see docs/remote.md), or "
        "`package.module:Class` for an engine of your own. "
        "`auto` is DeepSeek-OCR "
        "where a GPU with room for it, the `[gpu]` extra and its weights are there, and RapidOCR elsewhere.",
    )
    ocr_model: str = _field(
        "",
        "Engine",
        "DeepSeek-OCR's weights: a folder or a hub id. Empty: `deepseek-ai/DeepSeek-OCR`. With `OCR_ENGINE=openai`, "
        "the model as its endpoints name it; empty: the one that they serve.",
    )
    ocr_auto_download: bool = _field(
        False, "Engine", "Whether missing weights are fetched at the first call; it is told how far they are."
    )
    ocr_fallback: Literal["", "rapidocr"] = _field(
        "", "Engine", "Engine that reads, in the modes it can, while no GPU has room or no endpoint can read."
    )
    ocr_prewarm: Literal["off", "imports", "host", "gpu"] = _field(
        "imports",
        "Engine",
        "What a GPU engine does before the first call: nothing, import its libraries in the worker (no GPU memory), "
        "load the weights to host memory, or to the GPU.",
    )
    ocr_reply_seconds: float = _field(
        45.0,
        "Engine",
        "Seconds within which an MCP call is answered, with what is read by then and how to go on; the rest is read "
        "meanwhile. Most clients give up after 60.",
        gt=0,
    )
    ocr_threads: int = _field(
        0,
        "Engine",
        "CPU threads the embedded engine uses; 0: one for each core this process may use.",
        ge=0,
        le=512,
    )
    ocr_cpu_workers: int = _field(
        1,
        "Engine",
        "Workers that read side by side where the engine runs on the CPU. With OCR_THREADS=0 they share the cores; "
        "each holds its own model in memory.",
        ge=1,
        le=64,
    )
    ocr_load_timeout: float = _field(
        600.0, "Engine", "Seconds a model may take to load before its worker is killed.", gt=0
    )
    ocr_page_timeout: float = _field(
        300.0,
        "Engine",
        "Seconds a page may take to read before its worker is killed; at an endpoint, all attempts together.",
        gt=0,
    )
    ocr_busy_wait: float = _field(
        10.0,
        "Engine",
        "Seconds `gpu_offload` and `gpu_release` wait for the page in flight before they say busy.",
        ge=0,
    )

    ocr_worker_env: _List = _field(
        (),
        "Engine",
        "Names of variables that workers are given beside those that libraries are known to need, separated by commas: "
        "for an engine of your own. It must be in the environment itself, not in a `.env` file.",
    )

    ocr_max_queue: int = _field(
        64,
        "Engine",
        "Requests that may wait or run at once, over all edges; a client may have at most half of them. "
        "Further ones are told when to come again.",
        ge=1,
        le=4096,
    )

    # -- endpoints
    ocr_remote_url: _List = _field(
        (),
        "Endpoints",
        "Addresses of endpoints that speak OpenAI's chat API, separated by commas: `http://10.0.0.5:8000/v1`.",
    )
    ocr_remote_key: SecretStr | None = _field(None, "Endpoints", "Bearer token that is sent to them.")
    ocr_remote_concurrency: int = _field(32, "Endpoints", "Pages that an endpoint has at once.", ge=1, le=1024)
    ocr_remote_prompts: Literal["auto", "deepseek", "words"] = _field(
        "auto",
        "Endpoints",
        "How a model is asked: with DeepSeek-OCR's prompts, which give boxes, or in words. `auto`: by its name.",
    )

    # -- GPU
    ocr_gpu: str = _field(
        "auto",
        "GPU",
        "`auto` (the card with most free memory), an index in PCI order, a UUID, a MIG UUID, or `cpu`.",
    )
    ocr_gpus: _List = _field(
        (),
        "GPU",
        "Several cards at once, with a worker on each: `all`, or indices in PCI order and UUIDs, separated by commas. "
        "Empty: one card, the one that OCR_GPU says.",
    )
    ocr_gpu_reserve_mb: int = _field(
        1024,
        "GPU",
        "MiB that must stay free on the card beside the model, for the other programs there.",
        ge=0,
    )
    gpu_offload_after: float = _field(
        0.0,
        "GPU",
        "Idle seconds until the weights leave the GPU; 0: as soon as nobody waits; -1: never.",
        ge=-1,
    )
    gpu_idle_timeout: float = _field(
        60.0, "GPU", "Idle seconds until the worker exits and gives everything back; -1: never.", ge=-1
    )

    # -- input
    ocr_allowed_dirs: _List = _field(
        (),
        "Input",
        "Folders whose files may be read and written, separated by `:` (`;` on Windows). "
        "Empty: every folder over stdio and the CLI, none over HTTP.",
    )
    ocr_allow_urls: bool = _field(False, "Input", "Whether `image` may be an `https://` address.")
    ocr_allow_http: bool = _field(False, "Input", "Whether plain `http://` is fetched too (with OCR_ALLOW_URLS).")
    ocr_allow_private_addresses: bool = _field(
        False, "Input", "Whether addresses inside your network are fetched (with OCR_ALLOW_URLS)."
    )
    ocr_fetch_timeout: float = _field(30.0, "Input", "Seconds a download may take, redirects included.", gt=0)
    ocr_max_file_mb: int = _field(100, "Input", "MiB a file may have.", ge=1, le=4096)
    ocr_max_megapixels: int = _field(200, "Input", "Million pixels a page may have.", ge=1, le=2000)
    ocr_max_pages: int = _field(2000, "Input", "Pages a document may have.", ge=1)
    ocr_pdf_dpi: int = _field(200, "Input", "Resolution at which PDF pages are drawn.", ge=36, le=1200)

    # -- results
    ocr_cache: Literal["on", "off"] = _field(
        "on", "Results", "Whether pages that were read are kept, so that nothing is read twice."
    )
    ocr_cache_mb: int = _field(64, "Results", "MiB of read pages kept in memory, for an hour at most.", ge=1)
    ocr_cache_dir: str = _field(
        "",
        "Results",
        "Folder where read pages are kept on disk too, for servers of this machine: SQLite's locks do not hold on "
        "network disks. Empty: nowhere.",
    )
    ocr_cache_dir_mb: int = _field(1024, "Results", "MiB that the pages on disk may take.", ge=1)

    # -- HTTP
    host: str = _field("127.0.0.1", "HTTP", "Address that `serve --transport http` binds.")
    port: int = _field(8001, "HTTP", "Port that `serve --transport http` binds; 0: any free one.", ge=0, le=65535)
    ocr_auth_token: SecretStr | None = _field(
        None,
        "HTTP",
        "Bearer token that every path but `/health` and the page's own files asks for. "
        "Needed for any address but loopback.",
    )
    ocr_allowed_hosts: _List = _field(
        (),
        "HTTP",
        "`Host` headers that are served beside loopback, separated by commas: `ocr.example.org`, `10.0.0.5:*`.",
    )
    ocr_allowed_origins: _List = _field(
        (), "HTTP", "`Origin` headers of browsers that are served beside loopback, separated by commas."
    )

    ocr_cors_origins: _List = _field(
        (),
        "HTTP",
        "Origins of other sites whose pages may call this server and read its answers, separated by commas.",
    )
    ocr_trusted_proxies: _List = _field(
        (),
        "HTTP",
        "Addresses of reverse proxies whose `X-Forwarded-For` is believed, separated by commas; "
        "without it all who come through a proxy are one client.",
    )
    ocr_upload_timeout: float = _field(
        20.0,
        "HTTP",
        "Seconds that the body of a request may stall before it is cut; one slower than 16 KiB a second is cut too.",
        gt=0,
    )

    ocr_drain_seconds: float = _field(
        25.0,
        "HTTP",
        "Seconds that a server which is told to end (SIGTERM) goes on with what it reads. New requests get 503 "
        "meanwhile; a second signal ends it at once.",
        ge=0,
    )

    # -- logs
    ocr_log_level: Literal["debug", "info", "warning", "error"] = _field(
        "warning", "Logs", "What is written to stderr; never text of a document. See docs/observability.md."
    )
    ocr_log_format: Literal["text", "json"] = _field(
        "text", "Logs", "`text` for people, `json` for machines: one object on each line."
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
                raise ValueError("cpu is no card; set OCR_CPU_WORKERS for several workers on the CPU")
            if entry.lower() == "all" and len(value) > 1:
                raise ValueError("all names every card already; name all, or some")
            if entry.lower() == "auto":
                raise ValueError("auto is for OCR_GPU, which means one card; set OCR_GPUS=all for every card")
            if not (entry.lower() == "all" or entry.isdecimal() or entry.lower().startswith(("gpu-", "mig-"))):
                raise ValueError(f"{entry!r} is no index and no UUID; nvidia-smi -L lists both")
        if (one := str(info.data.get("ocr_gpu", "auto")).strip().lower()) not in ("", "auto"):
            raise ValueError(f"it names several cards and OCR_GPU={one} says which one; unset one of the two")
        return value

    @field_validator("ocr_remote_url")
    @classmethod
    def _each_endpoint_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))

    @field_validator("ocr_auth_token", "ocr_remote_key", mode="before")
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
    def max_file_bytes(self) -> int:
        return self.ocr_max_file_mb * MB

    @property
    def max_pixels(self) -> int:
        return self.ocr_max_megapixels * 1_000_000


def load_settings(env_file: str | None = None, overrides: Mapping[str, object] | None = None) -> Settings:
    """Settings from flags, then environment, then the named `.env` file, then defaults.

    Args:
        env_file: path of a `.env` file; default: `OCR_ENV_FILE`, if set.
        overrides: field name to value, from the command line; None values are skipped.

    Raises:
        BadRequest: a value is out of its range, or the `.env` file is missing.
    """
    env_file = env_file or os.environ.get("OCR_ENV_FILE")
    if env_file and not Path(env_file).is_file():
        raise BadRequest(f"There is no settings file {env_file}.", remedy="Name an existing one, or none.")
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        return Settings(_env_file=env_file, **given)  # type: ignore[call-arg, arg-type]
    except ValidationError as exc:
        problems = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in exc.errors())
        raise BadRequest(
            f"A setting is not usable: {problems}.",
            remedy="Correct it; docs/configuration.md lists them all.",
        ) from None


def is_loopback(host: str) -> bool:
    """Whether a bind address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

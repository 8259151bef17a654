"""The log of this program: one format, one id for each request, and no word of a document.

- Our own lines come at the level that is set. Other libraries' lines come from `warning` on, uvicorn's from `info` on:
  below these levels, libraries write data that passes through them.
- Of an exception the log has the class and the place, never the message: the message may repeat text of a page.
- Secrets (`OCR_AUTH_TOKEN`, `OCR_REMOTE_KEY`) are struck out of every line.
- The lines of a child travel on its stderr with a mark (RFC 7464: a record separator, JSON, a line feed), and the
  parent writes them. The parent keeps other output of the child as its last words and never logs it.

    log.info("Loaded.", extra=fields(engine="rapidocr", seconds=0.5))
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from errno import errorcode
from typing import Any, Final, Literal

from .text import one_line

__all__ = [
    "LEVELS",
    "MAX_CHILD_LINE",
    "RECORD_MARK",
    "announce",
    "configure",
    "configure_child",
    "fields",
    "is_request_id",
    "level",
    "relay",
    "request",
    "request_id",
    "serve_now",
    "serving",
]

PACKAGE: Final = "deepseek_ocr_mcp"
LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
RECORD_MARK: Final = b"\x1e"  # RFC 7464

MAX_MESSAGE: Final = 500  # characters; a longer message does not belong into a line
MAX_VALUE: Final = 200
MAX_FIELDS: Final = 20
MAX_TRACEBACK: Final = 1500  # characters, the end of it
MAX_CHILD_LINE: Final = 4096  # bytes; a write to a pipe of up to PIPE_BUF bytes is never mixed with another write
MAX_FRAMES: Final = 12  # of one exception, the innermost
MAX_CAUSES: Final = 5
MAX_REQUESTS: Final = 8  # ids named in a line about a batch that several requests share
MIN_SECRET: Final = 8  # characters; a shorter token is no secret, and striking it out would spoil ordinary words

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OURS: Final = re.compile(rf"{PACKAGE}(\.[a-z_]{{1,30}}){{0,4}}")
_PLAIN: Final = re.compile(r"[^\s\"'=\\]+")
_RESERVED: Final = frozenset({"time", "level", "logger", "message", "request", "traceback"})

_request: ContextVar[str] = ContextVar("request", default="")


# -- the request's id


def is_request_id(text: str) -> bool:
    """Whether a caller may choose this id for its request: 1 to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`."""
    return _ID.fullmatch(text) is not None


def request_id() -> str:
    """The id of the request that this task serves, or the ids of several, with commas between; empty outside of any."""
    return _request.get()


@contextmanager
def request(given: str = "") -> Iterator[str]:
    """Give every line inside the context one id, here and in the worker. Yields the id.

    Args:
        given: the id to use. Where it is no valid id, the id that is set already is used, else a fresh one.
    """
    made = given if is_request_id(given) else _request.get() or os.urandom(8).hex()
    token = _request.set(made)
    try:
        yield made
    finally:
        _request.reset(token)


@contextmanager
def serving(*ids: str, level: int | None = None) -> Iterator[None]:
    """Give every line inside the context these ids and no others, with commas between; eight ids at most.

    Args:
        ids: ids, or texts of several ids with commas between.
        level: the level of our lines from now on. A child gets it with each call.
    """
    if level is not None:
        logging.getLogger(PACKAGE).setLevel(level)
    token = _request.set(_joined(ids))
    try:
        yield
    finally:
        _request.reset(token)


def serve_now(*ids: str) -> None:
    """Give every line these ids and no others, from here to the end of the `serving` that this is inside of.

    Args:
        ids: as for `serving`.
    """
    _request.set(_joined(ids))


def _joined(ids: Iterable[str]) -> str:
    """Valid ids, each once, with commas between."""
    parts = dict.fromkeys(part for text in ids for part in text.split(",") if is_request_id(part))
    return ",".join(list(parts)[:MAX_REQUESTS])


# -- one line


def fields(**values: object) -> dict[str, dict[str, object]]:
    """The `extra` of a line: facts beside its message. A fact that is None is left out."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


def _entry(record: logging.LogRecord) -> dict[str, Any]:
    """The parts of a record that are written, in order."""
    message = record.getMessage()
    if not _OURS.fullmatch(record.name):
        message = message.partition("\n")[0]  # asyncio puts the repr of an exception into the second line
    entry: dict[str, Any] = {
        "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": message[:MAX_MESSAGE],
    }
    entry |= getattr(record, "fields", {})
    if served := getattr(record, "request", _request.get()):
        entry["request"] = served
    if record.exc_info and record.exc_info[1] is not None:
        entry["traceback"] = _described(record.exc_info[1])
    elif told := getattr(record, "traceback", ""):
        entry["traceback"] = told
    return entry


def _described(exc: BaseException) -> str:
    """The classes and places of an exception and its causes, as lines."""
    lines: list[str] = []
    seen: set[int] = set()

    def add(exc: BaseException) -> None:
        if id(exc) in seen or len(seen) == MAX_CAUSES:
            return
        seen.add(id(exc))
        name = type(exc).__name__
        if isinstance(exc, OSError) and exc.errno is not None:
            name += f" {errorcode.get(exc.errno, exc.errno)}"
        elif isinstance(code := getattr(exc, "code", None), str) and type(exc).__module__ == f"{PACKAGE}.errors":
            name += f" {code}"
        lines.append(name if len(seen) == 1 else f"from {name}")
        lines.extend(_places(exc))
        if isinstance(exc, BaseExceptionGroup):
            for part in exc.exceptions:
                add(part)
        cause = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
        if cause is not None:
            add(cause)

    add(exc)
    return "\n".join(lines)


def _places(exc: BaseException) -> list[str]:
    places = []
    traceback = exc.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        file = "/".join(code.co_filename.replace(os.sep, "/").rsplit("/", 2)[-2:])
        places.append(f"  {file}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    return places[-MAX_FRAMES:]


def _shown(value: object) -> str:
    text = one_line(str(value)[:MAX_VALUE])
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


class _Formatter(logging.Formatter):
    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__()
        found = {form for secret in secrets if len(secret) >= MIN_SECRET for form in (secret, json.dumps(secret)[1:-1])}
        self._secrets = re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True)))) if found else None

    def format(self, record: logging.LogRecord) -> str:
        line = self.line(_entry(record))
        return line if self._secrets is None else self._secrets.sub("[token]", line)

    def line(self, entry: dict[str, Any]) -> str:
        raise NotImplementedError


class _Json(_Formatter):
    def line(self, entry: dict[str, Any]) -> str:
        return json.dumps(entry, default=str)


class _Text(_Formatter):
    def line(self, entry: dict[str, Any]) -> str:
        told = entry.pop("traceback", "")
        time_, level_, logger, message = (str(entry.pop(name)) for name in ("time", "level", "logger", "message"))
        parts = [time_, level_.ljust(7), f"{logger}:", one_line(message)]
        parts += [f"{name}={_shown(value)}" for name, value in entry.items()]
        return "\n    ".join([" ".join(parts), *map(one_line, str(told).splitlines())])


class _Lines(logging.StreamHandler[Any]):
    """The only handler of a process."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing. The report of `logging` would show the arguments of the line, which may be text of a page."""


# -- set up


def configure(
    level: Literal["debug", "info", "warning", "error"],
    form: Literal["text", "json"] = "text",
    *,
    secrets: Sequence[str] = (),
) -> None:
    """Write to stderr from now on, and nowhere else.

    Args:
        level: the level of our lines.
        form: `text` for people, `json` for programs.
        secrets: strings that are struck out of every line.
    """
    handler = _Lines(sys.stderr)
    handler.setFormatter((_Json if form == "json" else _Text)(secrets))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    number = LEVELS[level]
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger(PACKAGE).setLevel(number)
    # Each by its name: uvicorn asks this very logger for its level before it writes a trace.
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(max(number, logging.INFO))


def announce(message: str, **values: object) -> None:
    """Write a line at every level. As text it is the message alone, for the person who started the program."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Lines) and isinstance(handler.formatter, _Json):
            record = logging.LogRecord(PACKAGE, logging.INFO, "", 0, message, None, None)
            record.__dict__.update(fields(**values))
            handler.handle(record)
            return
    print(message, file=sys.stderr, flush=True)


def level() -> int:
    """The level of our own lines. Children get it with each call."""
    return logging.getLogger(PACKAGE).getEffectiveLevel()


# -- a child's lines


class _Marked(logging.Handler):
    """Writes to file descriptor 2, for `relay` in the parent."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # the parent may be gone
            entry = _entry(record)
            told = entry.pop("traceback", "")[-MAX_TRACEBACK:]
            line = _encoded({**entry, "traceback": told} if told else entry)
            if len(line) > MAX_CHILD_LINE:
                line = _encoded({name: value for name, value in entry.items() if name in _RESERVED})
            os.write(2, line)

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing; see `_Lines`."""


def _encoded(entry: dict[str, Any]) -> bytes:
    return RECORD_MARK + json.dumps(entry, default=str).encode() + b"\n"


def configure_child() -> None:
    """In a child: send our own lines to the parent. Lines of other libraries stay on stderr as they are."""
    ours = logging.getLogger(PACKAGE)
    ours.addHandler(_Marked())
    ours.propagate = False


def relay(line: bytes, **origin: object) -> bool:
    """Write a line of a child as a line of ours. Returns False where it is no such line.

    A child that a hostile file has taken over can send lines too. So the line is bounded, and says where it comes from.

    Args:
        line: the JSON of the line, without its mark.
        origin: facts about the child that are added to the line.
    """
    try:
        entry = json.loads(line)
        number = LEVELS[entry["level"]]
        name, message = str(entry["logger"]), str(entry["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    ours = logging.getLogger(PACKAGE)
    if ours.isEnabledFor(number):
        record = logging.LogRecord(name if _OURS.fullmatch(name) else PACKAGE, number, "", 0, message, None, None)
        kept = {
            key: value[:MAX_VALUE] if isinstance(value, str) else value
            for key, value in list(entry.items())[: MAX_FIELDS + len(_RESERVED)]
            if key not in _RESERVED and key.isidentifier() and isinstance(value, (str, int, float, bool))
        }
        served = ",".join(part for part in str(entry.get("request", "")).split(",") if is_request_id(part))
        told = str(entry.get("traceback", ""))[-MAX_TRACEBACK:]
        record.__dict__.update(fields(**{**kept, **origin}), request=served, traceback=told)
        ours.handle(record)
    return True

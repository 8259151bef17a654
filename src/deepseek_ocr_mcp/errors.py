"""The failures that a caller can meet. Each class has a stable code, an HTTP status and an exit code.

The message says what happened and where. The remedy says what to do. Each edge has one translator from these classes to
its own answers. An error crosses the pipe of a child as `to_dict()` and comes back as the same class through
`from_dict()`.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "BadRequest",
    "Busy",
    "Cancelled",
    "EngineUnavailable",
    "GpuBusy",
    "GpuLost",
    "InputForbidden",
    "InputNotFound",
    "InputTooLarge",
    "MethodNotAllowed",
    "NotFound",
    "NotReady",
    "OcrError",
    "OutputExists",
    "PasswordNeeded",
    "QueueFull",
    "SlowUpload",
    "Timeout",
    "TooManyFailedPages",
    "Unauthorized",
    "UnreadableInput",
    "UnsupportedMode",
    "WorkerCrashed",
    "WriteFailed",
    "cause_of",
    "class_of",
    "closing",
    "from_dict",
    "unforeseen",
]


class OcrError(Exception):
    """An expected failure. `message` says what happened and where, `remedy` says what to do next."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    is_passing: ClassVar[bool] = False
    """Whether the same request may succeed soon: a run over many documents tries it again."""
    is_fatal: ClassVar[bool] = False
    """Whether every further document would meet the same: a run over many documents ends."""
    blames_document: ClassVar[bool] = False
    """Whether the document itself is at fault: the same bytes fail again, however often they are sent."""
    retry_after_s: int | None = None
    """Whole seconds after which the same request may succeed. None: waiting does not help, or nobody knows how long."""

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}"

    def to_dict(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "remedy": self.remedy}


class BadRequest(OcrError):
    """An argument makes no sense: an unknown mode, a page range upside down."""

    code = "bad_request"
    http_status = 422
    exit_code = 2
    blames_document = True


class UnsupportedMode(BadRequest):
    """The engine in use cannot do this mode. The remedy names an engine that can."""

    code = "unsupported_mode"
    is_fatal = True
    blames_document = False


class InputNotFound(OcrError):
    """There is no such file."""

    code = "input_not_found"
    http_status = 404
    exit_code = 3


class InputForbidden(OcrError):
    """The operator's settings keep out this path, address or kind of file."""

    code = "input_forbidden"
    http_status = 403
    exit_code = 3


class InputTooLarge(OcrError):
    """The document has more bytes, pixels or pages than the settings allow. The message names the limit."""

    code = "input_too_large"
    http_status = 413
    exit_code = 3
    blames_document = True


class UnreadableInput(OcrError):
    """The bytes are no page: they are empty, truncated, encrypted, or of a format that no engine reads."""

    code = "unreadable_input"
    http_status = 415
    exit_code = 3
    blames_document = True


class PasswordNeeded(UnreadableInput):
    """The document is locked, and no password was given, or another one. The message says which."""

    code = "password_needed"


class TooManyFailedPages(OcrError):
    """Of a document in a batch, a larger share of pages could not be read than `--max-page-error-rate` allows."""

    code = "too_many_failed_pages"
    http_status = 422
    exit_code = 3


class OutputExists(OcrError):
    """`save_to` names a file that exists already."""

    code = "output_exists"
    http_status = 409
    exit_code = 3


class WriteFailed(OcrError):
    """A disk is full or broken: neither this file nor another one can be written there."""

    code = "write_failed"
    http_status = 507
    is_fatal = True


class Unauthorized(OcrError):
    """The request lacks the bearer token that the operator set."""

    code = "unauthorized"
    http_status = 401
    exit_code = 3


class NotFound(OcrError):
    """The HTTP server has nothing at this path."""

    code = "not_found"
    http_status = 404
    exit_code = 2


class MethodNotAllowed(OcrError):
    """The HTTP server does not answer this method at this path."""

    code = "method_not_allowed"
    http_status = 405
    exit_code = 2


class SlowUpload(OcrError):
    """The body of the request stalled, or came so slowly that it was cut."""

    code = "slow_upload"
    http_status = 408
    exit_code = 6


class QueueFull(OcrError):
    """As many requests wait as the operator allows, or as one client may have. The message says which limit it is.

    Args:
        message: the limit that is reached.
        remedy: the way out.
        retry_after_s: seconds after which a place may be free.
    """

    code = "queue_full"
    http_status = 429
    exit_code = 5
    is_passing = True

    def __init__(self, message: str, *, remedy: str, retry_after_s: int = 5) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class EngineUnavailable(OcrError):
    """The engine cannot be loaded, because a package, the weights or a driver is missing."""

    code = "engine_unavailable"
    http_status = 503
    exit_code = 4
    is_fatal = True


class NotReady(OcrError):
    """The model is loading, or its weights are being fetched. This goes on. The remedy says when to call again."""

    code = "not_ready"
    http_status = 503
    exit_code = 5
    is_passing = True
    retry_after_s = 30


class WorkerCrashed(OcrError):
    """The child process died while it worked. The message ends with the last lines of its stderr."""

    code = "worker_crashed"
    http_status = 500
    exit_code = 4


class GpuBusy(OcrError):
    """No allowed card has room. The message names each card and its free memory."""

    code = "gpu_busy"
    http_status = 503
    exit_code = 5
    is_fatal = True
    retry_after_s = 30


class GpuLost(OcrError):
    """The card failed or was unplugged while the model was on it. The worker is replaced."""

    code = "gpu_lost"
    http_status = 503
    exit_code = 4


class Busy(OcrError):
    """A page is being read, and the bounded wait for its end is over."""

    code = "busy"
    http_status = 503
    exit_code = 5
    is_fatal = True
    retry_after_s = 10


class Timeout(OcrError):
    """The work took longer than its bound and was stopped."""

    code = "timeout"
    http_status = 504
    exit_code = 6


class Cancelled(OcrError):
    """The work was stopped on purpose, by `gpu_release(force=true)` or by the end of the server."""

    code = "cancelled"
    http_status = 503
    exit_code = 6
    is_fatal = True


def closing() -> Cancelled:
    """The error of a request that the end of the server cuts off."""
    return Cancelled("The server is shutting down.", remedy="Start it again, then send the request again.")


def unforeseen(
    exc: BaseException, what: str = "Reading", remedy: str = "The server goes on; its log on stderr has the details."
) -> OcrError:
    """The error for a fault of this program. Log `exc` before: its own message may hold text of a page and is left out.

    Args:
        exc: the fault; the error names its class only.
        what: the work that failed, as the subject of a sentence.
        remedy: what to do.
    """
    return OcrError(f"{what} failed in a way that this program does not foresee ({type(exc).__name__}).", remedy=remedy)


def cause_of(exc: BaseException) -> BaseException:
    """The first failure inside an exception group. A task group cancels its other tasks because of it."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def _classes() -> dict[str, type[OcrError]]:
    found: dict[str, type[OcrError]] = {}
    todo: list[type[OcrError]] = [OcrError]
    while todo:
        cls = todo.pop()
        found.setdefault(cls.code, cls)  # a subclass without a code of its own does not stand for its parent
        todo.extend(cls.__subclasses__())
    return found


def class_of(code: str) -> type[OcrError]:
    """The error with this code; `OcrError` where no error has it."""
    return _classes().get(code, OcrError)


def from_dict(data: dict[str, Any]) -> OcrError:
    """The error that `to_dict()` described. An unknown code becomes a plain `OcrError`."""
    cls = class_of(str(data.get("code")))
    return cls(str(data.get("message", "")), remedy=str(data.get("remedy", "")))

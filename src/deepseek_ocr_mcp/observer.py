"""What happens, told once: each event is a line in the log, and whoever counts overrides the methods.

The service and the managers hold one `Observer` and call it; none of these calls waits or raises. Nothing here
knows a document: modes, engines, outcomes, numbers.
"""

from __future__ import annotations

import logging
from typing import Final

from .errors import OcrError
from .logs import fields
from .models import Doing, Timing

__all__ = ["CLIENT_GONE", "INTERNAL", "OK", "OURS_TO_MEND", "STEPS", "UNKNOWN", "Observer", "outcomes"]

log = logging.getLogger(__name__)

OK: Final = "ok"
CLIENT_GONE: Final = "client_gone"
"""The caller hung up or cancelled."""
UNKNOWN: Final = "unknown"
"""The mode of a request that named none that there is, or that was turned away before it could."""
INTERNAL: Final = OcrError.code
OURS_TO_MEND: Final = frozenset({INTERNAL, "worker_crashed", "gpu_lost", "timeout", "engine_unavailable"})
"""Outcomes that an operator should look at; of the others the caller is told what to do."""

STEPS: Final[dict[Doing, str]] = {
    "loading": "load",
    "restoring": "restore",
    "offloading": "offload",
    "releasing": "release",
}


def outcomes() -> list[str]:
    """How a request can end: `ok`, `client_gone`, and the code of every error."""
    codes = {OcrError.code}
    todo: list[type[OcrError]] = [OcrError]
    while todo:
        below = todo.pop().__subclasses__()
        codes.update(cls.code for cls in below)
        todo.extend(below)
    return [OK, CLIENT_GONE, *sorted(codes)]


class Observer:
    """Writes the log. A subclass that overrides a method calls this one too."""

    def request_ended(
        self, mode: str, engine: str, outcome: str, seconds: float, *, pages: int = 0, timing: Timing | None = None
    ) -> None:
        """A document was read, or was not.

        Args:
            mode: as the caller gave it, if there is such a mode; otherwise `UNKNOWN`.
            timing: what the answer says of itself; None where there is no answer.
        """
        log.log(
            logging.WARNING if outcome in OURS_TO_MEND else logging.INFO,
            "A request has ended.",
            extra=fields(
                outcome=outcome,
                mode=mode,
                engine=engine,
                pages=pages,
                seconds=round(seconds, 3),
                queued_s=timing and timing.queued_s,
                load_s=timing and timing.load_s,
                infer_s=timing and timing.infer_s,
            ),
        )

    def pages_read(self, engine: str, pages: int, tokens: int | None, seconds: float) -> None:
        """An engine has read a batch.

        Args:
            tokens: that the model wrote; None where the engine has none.
        """
        log.debug(
            "Pages were read.", extra=fields(engine=engine, pages=pages, tokens=tokens, seconds=round(seconds, 3))
        )

    def moved(self, engine: str, doing: Doing, seconds: float, device: str) -> None:
        """The model is where it was to be."""
        log.info(
            "The model was moved.",
            extra=fields(step=STEPS[doing], engine=engine, device=device, seconds=round(seconds, 3)),
        )

    def move_failed(self, engine: str, doing: Doing, error: str) -> None:
        """A step failed; the worker was ended, so that the state is true.

        Args:
            error: the code.
        """
        log.warning("The model could not be moved.", extra=fields(step=STEPS[doing], engine=engine, error=error))

    def worker_died(self, engine: str, pid: int, how: str) -> None:
        """A worker died, or had to be killed, while it was needed. The next request gets a fresh one."""
        log.warning("The worker died.", extra=fields(engine=engine, worker_pid=pid, how=how))

    def card_failed(self, engine: str, device: str, error: str, retry_s: float) -> None:
        """One of several cards is left out for a while; the others serve on.

        Args:
            error: the code.
            retry_s: seconds until it may be tried again.
        """
        log.warning(
            "A card is left out.", extra=fields(engine=engine, device=device, error=error, retry_s=round(retry_s))
        )

    def memory_missing(self, engine: str, device: str, missing_mb: int) -> None:
        """A worker is dead and its card has not got all of its memory back."""
        log.warning(
            "The card lacks memory that a worker held.",
            extra=fields(engine=engine, device=device, missing_mb=missing_mb),
        )

    def endpoint_out(self, engine: str, endpoint: str, why: str) -> None:
        """An endpoint was taken out: it is sent nothing until it answers a look.

        Args:
            endpoint: its address, without a name or a password.
        """
        log.warning("An endpoint was taken out.", extra=fields(engine=engine, endpoint=endpoint, why=why))

    def endpoint_back(self, engine: str, endpoint: str, seconds: float) -> None:
        """It answers again."""
        log.warning("An endpoint is back.", extra=fields(engine=engine, endpoint=endpoint, seconds=round(seconds, 3)))

    def page_sent_again(self, engine: str, endpoint: str, why: str) -> None:
        """An endpoint did not read a page, which goes to another one, or there again."""
        log.info("A page is sent again.", extra=fields(engine=engine, endpoint=endpoint, why=why))

"""The events of the service. The base class writes each one to the log; a subclass also counts it.

The service and the managers hold one `Observer` and call it. No call waits, and none raises. An event holds modes,
engines, outcomes and numbers, and nothing of a document.
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
"""The mode of a request that named an unknown mode, or that was turned away before it named one."""
INTERNAL: Final = OcrError.code
OURS_TO_MEND: Final = frozenset(
    {INTERNAL, "worker_crashed", "write_failed", "gpu_lost", "timeout", "engine_unavailable"}
)
"""The outcomes on which the operator acts. For every other outcome the caller gets a remedy."""

STEPS: Final[dict[Doing, str]] = {
    "loading": "load",
    "restoring": "restore",
    "offloading": "offload",
    "releasing": "release",
}


def outcomes() -> list[str]:
    """All outcomes of a request: `ok`, `client_gone`, and the code of every error."""
    codes = {OcrError.code}
    todo: list[type[OcrError]] = [OcrError]
    while todo:
        below = todo.pop().__subclasses__()
        codes.update(cls.code for cls in below)
        todo.extend(below)
    return [OK, CLIENT_GONE, *sorted(codes)]


class Observer:
    """Writes the log. A subclass that overrides a method calls the method of this class too."""

    def request_ended(
        self, mode: str, engine: str, outcome: str, seconds: float, *, pages: int = 0, timing: Timing | None = None
    ) -> None:
        """A request got its answer or its error.

        Args:
            mode: the mode that the caller named, or `UNKNOWN`.
            engine: the name of the engine, or `text_layer`.
            outcome: one of `outcomes()`.
            seconds: from the request to its end.
            pages: pages of the answer; 0 for an error.
            timing: the timing of the answer; None for an error.
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
        """An engine has read a batch, or some pages of one before the others.

        Args:
            engine: the name of the engine.
            pages: how many.
            tokens: tokens that the model wrote; None where the engine writes none.
            seconds: of the reading, since its last report in this batch.
        """
        log.debug(
            "Pages were read.", extra=fields(engine=engine, pages=pages, tokens=tokens, seconds=round(seconds, 3))
        )

    def moved(self, engine: str, doing: Doing, seconds: float, device: str) -> None:
        """A move of the model succeeded.

        Args:
            engine: the name of the engine.
            doing: the move.
            seconds: that the move took.
            device: `cpu`, the UUID of the card, or `none`.
        """
        log.info(
            "The model was moved.",
            extra=fields(step=STEPS[doing], engine=engine, device=device, seconds=round(seconds, 3)),
        )

    def move_failed(self, engine: str, doing: Doing, error: str) -> None:
        """A move of the model failed. The worker was ended, so that the state is true.

        Args:
            engine: the name of the engine.
            doing: the move.
            error: the code of the error.
        """
        log.warning("The model could not be moved.", extra=fields(step=STEPS[doing], engine=engine, error=error))

    def worker_died(self, engine: str, pid: int, how: str) -> None:
        """A worker died, or was killed because it hung. The next request gets a fresh worker.

        Args:
            engine: the name of the engine.
            pid: the process id of the worker.
            how: the cause of its death, without its output.
        """
        log.warning("The worker died.", extra=fields(engine=engine, worker_pid=pid, how=how))

    def card_failed(self, engine: str, device: str, error: str, retry_s: float) -> None:
        """One of several cards is left out for a while; the others serve on.

        Args:
            engine: the name of the engine.
            device: the UUID of the card.
            error: the code of the error.
            retry_s: seconds until the card is tried again.
        """
        log.warning(
            "A card is left out.", extra=fields(engine=engine, device=device, error=error, retry_s=round(retry_s))
        )

    def memory_missing(self, engine: str, device: str, missing_mb: int) -> None:
        """A worker is dead, and not all of its memory has come back to its card.

        Args:
            engine: the name of the engine.
            device: the UUID of the card.
            missing_mb: MiB that the card lacks.
        """
        log.warning(
            "The card lacks memory that a worker held.",
            extra=fields(engine=engine, device=device, missing_mb=missing_mb),
        )

    def endpoint_out(self, engine: str, endpoint: str, why: str) -> None:
        """An endpoint was taken out. It gets no page until it answers a check.

        Args:
            engine: the name of the engine.
            endpoint: its address, without name and password.
            why: the cause, as a phrase.
        """
        log.warning("An endpoint was taken out.", extra=fields(engine=engine, endpoint=endpoint, why=why))

    def endpoint_back(self, engine: str, endpoint: str, seconds: float) -> None:
        """An endpoint answers again.

        Args:
            engine: the name of the engine.
            endpoint: its address, without name and password.
            seconds: that it was out.
        """
        log.warning("An endpoint is back.", extra=fields(engine=engine, endpoint=endpoint, seconds=round(seconds, 3)))

    def page_sent_again(self, engine: str, endpoint: str, why: str) -> None:
        """An endpoint did not read a page. The page goes to another endpoint, or to the same one again.

        Args:
            engine: the name of the engine.
            endpoint: its address, without name and password.
            why: the cause, as a phrase.
        """
        log.info("A page is sent again.", extra=fields(engine=engine, endpoint=endpoint, why=why))

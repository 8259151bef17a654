"""The numbers of a batch for Prometheus, on a port of this machine's loopback while the batch runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..errors import BadRequest
from .counts import Counts

__all__ = ["served"]

LOOPBACK: Final = "127.0.0.1"


class _BatchCollector(Collector):
    """Asks for the counts when Prometheus asks."""

    def __init__(self, counts: Callable[[], Counts], workers: int) -> None:
        self._counts = counts
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        counts = self._counts()
        ended = CounterMetricFamily(
            "deepseek_ocr_batch_documents", "Documents by what became of them.", labels=["result"]
        )
        results = {"read": counts.read, "copied": counts.copied, "failed": counts.failed, "there": counts.there}
        for result, number in results.items():
            ended.add_metric([result], number)
        yield ended
        yield CounterMetricFamily("deepseek_ocr_batch_pages", "Pages that were read.", counts.pages)
        yield CounterMetricFamily("deepseek_ocr_batch_tokens", "Tokens that a model wrote for them.", counts.tokens)
        notes = CounterMetricFamily("deepseek_ocr_batch_notes", "Documents with a note of this code.", labels=["code"])
        for code, number in sorted(counts.notes.items()):
            notes.add_metric([code], number)
        yield notes
        left = counts.todo - counts.ended
        yield GaugeMetricFamily("deepseek_ocr_batch_documents_left", "Documents that are listed and not done.", left)
        yield GaugeMetricFamily("deepseek_ocr_batch_workers", "Workers at the start of the run.", self._workers)


@contextmanager
def served(port: int, counts: Callable[[], Counts], workers: int) -> Iterator[None]:
    """Answer `GET /metrics` on loopback within the context; nothing where the port is 0.

    Args:
        port: the port on loopback; 0: nothing is served.
        counts: is asked for the counts at each scrape.
        workers: the number of workers.

    Raises:
        BadRequest: the port is taken, or not permitted.
    """
    if not port:
        yield
        return
    registry = CollectorRegistry()
    registry.register(_BatchCollector(counts, workers))
    try:
        server, thread = start_http_server(port, LOOPBACK, registry)
    except OSError as exc:
        raise BadRequest(
            f"Nothing can be served at {LOOPBACK}:{port} ({exc.strerror}).", remedy="Give another --metrics-port."
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

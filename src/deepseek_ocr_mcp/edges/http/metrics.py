"""Keeps the metrics for Prometheus: counters of the observer's events, and facts at the moment of a scrape.

A scrape waits for no page: its facts come from `service.status()`, whose wait for the driver is bounded.
Each application has a registry of its own. docs/observability.md explains every metric.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ... import __version__
from ...errors import QueueFull
from ...models import Doing, GpuStatus, State, Timing
from ...modes import MODES
from ...observer import STEPS, UNKNOWN, Observer, outcomes
from ...service.service import OcrService

__all__ = ["Metrics"]


MIB: Final = 1024 * 1024
STATES: Final = (*(state.value for state in State), *STEPS)

WAIT_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)  # seconds
REQUEST_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
MOVE_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)

# No `_created` series for each counter: process_start_time_seconds tells the start of the process.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics(Observer):
    """Counts the events of a service, from its construction on."""

    def __init__(self, service: OcrService) -> None:
        self._service = service
        self._registry = registry = CollectorRegistry()
        engine = service.engine.name

        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(f"deepseek_ocr_{name}", help, labels, registry=registry)

        def histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"deepseek_ocr_{name}", help, labels, buckets=buckets, registry=registry)

        self._requests = counter("requests", "Documents asked for, by how that ended.", "mode", "engine", "outcome")
        self._request_seconds = histogram(
            "request_seconds", "From a request to its answer.", REQUEST_BUCKETS, "mode", "engine"
        )
        self._queue_wait = histogram(
            "queue_wait_seconds", "Time that an answered request waited for others.", WAIT_BUCKETS
        )
        self._pages = counter("pages", "Pages read.", "engine")
        self._tokens = counter("tokens", "Tokens that the model wrote.", "engine")
        self._reading_seconds = counter("reading_seconds", "Time that the engine read pages.", "engine")
        self._move_seconds = histogram(
            "model_move_seconds", "Time that a move of the model took.", MOVE_BUCKETS, "engine", "step"
        )
        self._move_failures = counter("model_move_failures", "Moves of the model that failed.", "engine", "step")
        self._restarts = counter("worker_restarts", "Workers that died, or had to be killed, at work.", "engine")
        self._http = counter("http_responses", "HTTP answers, on any path, by status.", "code")
        build = Gauge("deepseek_ocr_build_info", "The server itself; always 1.", ["version", "python", "engine"],
                      registry=registry)  # fmt: skip
        build.labels(__version__, platform.python_version(), engine).set(1)
        limit = Gauge("deepseek_ocr_queue_limit_requests", "Requests that may hold a place.", registry=registry)
        limit.set(service.settings.ocr_max_queue)
        ProcessCollector(registry=registry)
        self._facts = _ServiceFacts()
        registry.register(self._facts)
        # `increase()` does not see a step from no series to 1, so the series of the alerts exist from the beginning.
        for mode in MODES:
            if mode in service.engine.modes:
                for outcome in outcomes():
                    self._requests.labels(mode, engine, outcome)
        self._requests.labels(UNKNOWN, engine, QueueFull.code)
        for series in (self._pages, self._reading_seconds, self._restarts):
            series.labels(engine)
        for step in STEPS.values():
            self._move_failures.labels(engine, step)
        service.tell(self)

    async def render(self) -> tuple[bytes, str]:
        """The body of `/metrics`, and its content type."""
        self._facts.status = await self._service.status()
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def answered(self, status: int) -> None:
        """Count the answer to an HTTP request; see `access.Access`."""
        self._http.labels(str(status)).inc()

    # -- see Observer

    def request_ended(
        self, mode: str, engine: str, outcome: str, seconds: float, *, pages: int = 0, timing: Timing | None = None
    ) -> None:
        super().request_ended(mode, engine, outcome, seconds, pages=pages, timing=timing)
        self._requests.labels(mode, engine, outcome).inc()
        if timing is not None:
            self._request_seconds.labels(mode, engine).observe(seconds)
            self._queue_wait.observe(timing.queued_s)

    def pages_read(self, engine: str, pages: int, tokens: int | None, seconds: float) -> None:
        super().pages_read(engine, pages, tokens, seconds)
        self._pages.labels(engine).inc(pages)
        self._reading_seconds.labels(engine).inc(seconds)
        if tokens is not None:
            self._tokens.labels(engine).inc(tokens)

    def moved(self, engine: str, doing: Doing, seconds: float, device: str) -> None:
        super().moved(engine, doing, seconds, device)
        self._move_seconds.labels(engine, STEPS[doing]).observe(seconds)

    def move_failed(self, engine: str, doing: Doing, error: str) -> None:
        super().move_failed(engine, doing, error)
        self._move_failures.labels(engine, STEPS[doing]).inc()

    def worker_died(self, engine: str, pid: int, how: str) -> None:
        super().worker_died(engine, pid, how)
        self._restarts.labels(engine).inc()


class _ServiceFacts(Collector):
    """Make the gauges of one status, so that a card that is gone leaves no series behind."""

    status: GpuStatus | None = None

    def collect(self) -> Iterator[Metric]:
        if self.status is not None:
            yield from _model_gauges(self.status)
            yield from _worker_gauges(self.status)
            yield from _card_gauges(self.status)
            yield from _endpoint_gauges(self.status)


def _gauge(name: str, help: str, value: float | None = None, *labels: str) -> GaugeMetricFamily:
    """A gauge, with its value if it has no labels."""
    gauge = GaugeMetricFamily(f"deepseek_ocr_{name}", help, labels=labels)
    if value is not None:
        gauge.add_metric([], value)
    return gauge


def _model_gauges(status: GpuStatus) -> Iterator[Metric]:
    """The place of the model, and the queue in front of it."""
    state = _gauge("model_state", "The state of the model, or its move: 1 for that one, 0 for others.", None,
                   "state")  # fmt: skip
    for name in STATES:
        state.add_metric([name], float(name == status.state))
    yield state
    yield _gauge("queue_requests", "Requests that hold a place, the running ones included.", status.queue)


def _worker_gauges(status: GpuStatus) -> Iterator[Metric]:
    """The worker, and each of several workers."""
    yield _gauge("worker_memory_bytes", "Host memory that the worker holds.", (status.worker_host_mb or 0) * MIB)
    workers = status.workers or []
    yield _gauge("workers", "Workers that read side by side.", len(workers) or 1)
    yield _gauge("workers_out", "Workers that are left out after a failure.",
                 sum(worker.retry_in_s is not None for worker in workers))  # fmt: skip
    pages = CounterMetricFamily("deepseek_ocr_worker_pages", "Pages that each of several workers has read.",
                                labels=["worker", "uuid"])  # fmt: skip
    held = _gauge("worker_gpu_memory_bytes", "GPU memory that each of several workers holds.", None, "worker", "uuid")
    for number, worker in enumerate(workers):
        pages.add_metric([str(number), worker.card], worker.served)
        if worker.gpu_mb is not None:
            held.add_metric([str(number), worker.card], worker.gpu_mb * MIB)
    yield from (pages, held)


def _card_gauges(status: GpuStatus) -> Iterator[Metric]:
    """The cards, and our part of their memory."""
    yield _gauge("gpus", "Cards that the driver shows.", len(status.gpus))
    total = _gauge("gpu_memory_total_bytes", "Memory of a card.", None, "gpu", "uuid")
    used = _gauge("gpu_memory_used_bytes", "Memory of a card that any program uses.", None, "gpu", "uuid")
    for card in status.gpus:
        total.add_metric([str(card.index), card.uuid], card.memory_total_mb * MIB)
        used.add_metric([str(card.index), card.uuid], card.memory_used_mb * MIB)
    yield from (total, used)
    ours = None if status.worker_gpu_mb is None else status.worker_gpu_mb * MIB
    if status.worker_pid is None:
        ours = 0
    yield _gauge("gpu_memory_ours_bytes", "GPU memory that the worker holds.", ours)
    yield _gauge(
        "gpu_memory_unreturned_bytes",
        "GPU memory that an ended worker held and that its card still lacks.",
        (status.unreturned_mb or 0) * MIB,
    )


def _endpoint_gauges(status: GpuStatus) -> Iterator[Metric]:
    """The endpoints; series only where there are some."""
    up = _gauge("endpoint_up", "Whether an endpoint can be sent pages.", None, "endpoint")
    under_way = _gauge("endpoint_pages_in_flight", "Pages that an endpoint has now.", None, "endpoint")
    read = CounterMetricFamily("deepseek_ocr_endpoint_pages", "Pages that an endpoint read.", labels=["endpoint"])
    failed = CounterMetricFamily(
        "deepseek_ocr_endpoint_failures", "Requests that an endpoint failed.", labels=["endpoint"]
    )
    for endpoint in status.endpoints or ():
        up.add_metric([endpoint.url], float(endpoint.state not in ("out", "unasked")))
        under_way.add_metric([endpoint.url], endpoint.in_flight)
        read.add_metric([endpoint.url], endpoint.served)
        failed.add_metric([endpoint.url], endpoint.failures)
    yield from (up, under_way, read, failed)

"""/metrics: what is counted, that a scrape waits for nothing, and that nobody else reads it."""

from __future__ import annotations

import base64
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.abc
import httpx2
import pytest
from mcp import Client
from prometheus_client.parser import text_string_to_metric_families

from deepseek_ocr_mcp import __version__
from deepseek_ocr_mcp.caller import Caller
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents.private import private_folder
from deepseek_ocr_mcp.documents.reader import DocumentReader
from deepseek_ocr_mcp.edges.http.metrics import Metrics
from deepseek_ocr_mcp.engines import EngineSpec
from deepseek_ocr_mcp.errors import OcrError
from deepseek_ocr_mcp.gpu.probe import GpuProbe
from deepseek_ocr_mcp.lifecycle.manager import ModelManager
from deepseek_ocr_mcp.models import OcrRequest
from deepseek_ocr_mcp.modes import MODES
from deepseek_ocr_mcp.service.progress import Terms
from deepseek_ocr_mcp.service.service import OcrService
from fake_nvml import FakeNvml
from support import BOUND_S, HttpServer, as_base64, facts, http_client, http_server, png, running, tiff

pytestmark = pytest.mark.anyio

PAGE = as_base64(png())
TOKEN = "correct-horse-battery-staple"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name.removeprefix("deepseek_ocr_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


async def scrape(server: HttpServer) -> Samples:
    async with httpx2.AsyncClient(timeout=60) as http:
        answer = await http.get(server.root + "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.text)


async def rendered(metrics: Metrics) -> Samples:
    return samples((await metrics.render())[0].decode())


@asynccontextmanager
async def on_a_card(nvml: FakeNvml, engine: str = "Echo", **settings: Any) -> AsyncIterator[OcrService]:
    """A real worker that believes that it is on a card."""
    chosen = Settings(
        **{"ocr_prewarm": "off", "ocr_cache": "off", "gpu_offload_after": -1, "gpu_idle_timeout": -1, **settings}
    )
    spec = EngineSpec(engine, f"faults:{engine}", frozenset(MODES), gpu_mb=1000)
    with private_folder() as folder, anyio.fail_after(60):
        manager = ModelManager(spec, chosen, probe=GpuProbe(nvml, sees_host_pids=True))
        async with OcrService(chosen, "a test", manager, DocumentReader(chosen, folder)).running() as service:
            yield service


async def test_requests_are_counted_by_mode_engine_and_how_they_ended() -> None:
    with http_server("Counting") as server:
        async with http_client(server) as mcp:
            facts(await mcp.call_tool("ocr_image", {"image": as_base64(tiff(10, 11, 12))}))
            facts(await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "free"}))
            await mcp.call_tool("ocr_image", {"image": as_base64(b"no picture" * 20), "mode": "free"})
            await mcp.call_tool("ocr_image", {"image": "/etc/passwd"})
            await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "nonsense" * 50})
            await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "find"})
        found = await scrape(server)

    def requests(mode: str, outcome: str) -> float | None:
        return value(found, "requests_total", mode=mode, engine="Counting", outcome=outcome)

    assert requests("document", "ok") == 1
    assert requests("free", "ok") == 1
    assert requests("free", "unreadable_input") == 1
    assert requests("document", "input_forbidden") == 1
    assert requests("unknown", "bad_request") == 1, "what a caller writes is no label"
    assert requests("find", "bad_request") == 1
    assert requests("describe", "worker_crashed") == 0, "alerts see the first one only if there was a zero before"
    assert sum(count for (name, _), count in found.items() if name == "requests_total") == 6
    assert value(found, "pages_total", engine="Counting") == 4
    assert value(found, "tokens_total", engine="Counting") == 28
    assert value(found, "request_seconds_count", mode="document", engine="Counting") == 1
    assert value(found, "queue_wait_seconds_count") == 2
    reading = value(found, "reading_seconds_total", engine="Counting")
    assert reading is not None
    assert reading > 0


async def test_an_engine_without_tokens_has_no_count_of_them() -> None:
    async with running("Echo") as service:
        metrics = Metrics(service)
        await service.ocr(OcrRequest(image=PAGE), Caller())
        found = await rendered(metrics)
    assert value(found, "pages_total", engine="Echo") == 1
    assert not any(name == "tokens_total" for name, _ in found)


@pytest.mark.parametrize(
    ("engine", "outcome", "restarts"),
    [("Dying", "worker_crashed", 2), ("Broken", "internal", 0), ("Hanging", "timeout", 1), ("Lying", "internal", 0)],
)
async def test_failures_are_counted_by_their_code_and_dead_workers_too(
    engine: str, outcome: str, restarts: int
) -> None:
    async with running(engine, **({"ocr_page_timeout": 0.3} if outcome == "timeout" else {})) as service:
        metrics = Metrics(service)
        with pytest.raises(OcrError):
            await service.ocr(OcrRequest(image=PAGE), Caller())
        found = await rendered(metrics)
    assert value(found, "requests_total", mode="document", engine=engine, outcome=outcome) == 1
    assert value(found, "worker_restarts_total", engine=engine) == restarts


async def test_a_caller_that_goes_away_is_counted_as_such() -> None:
    async with running("Patient") as service:
        metrics = Metrics(service)
        with anyio.CancelScope() as scope:

            async def stop(done: float, total: float, message: str) -> None:
                if message.endswith("reading"):
                    scope.cancel()

            await service.ocr(OcrRequest(image=PAGE), Caller(), Terms(on_progress=stop))
        found = await rendered(metrics)
    assert value(found, "requests_total", mode="document", engine="Patient", outcome="client_gone") == 1


async def begin_reading(mcp: Client, tasks: anyio.abc.TaskGroup) -> None:
    """Have a page read by an engine that never ends; returns when it has begun."""
    reading = anyio.Event()

    async def note(done: float, total: float | None, message: str | None) -> None:
        if "loading" not in (message or ""):
            reading.set()

    tasks.start_soon(partial(mcp.call_tool, "ocr_image", {"image": PAGE}, progress_callback=note))
    with anyio.fail_after(BOUND_S):
        await reading.wait()


async def test_who_is_turned_away_is_counted_on_every_edge() -> None:
    with http_server("Patient", OCR_MAX_QUEUE="1") as server:
        async with http_client(server) as mcp, anyio.create_task_group() as tasks:
            await begin_reading(mcp, tasks)
            found = await scrape(server)
            assert value(found, "queue_requests") == 1
            assert value(found, "queue_limit_requests") == 1
            assert value(found, "requests_total", mode="unknown", engine="Patient", outcome="queue_full") == 0
            async with http_client(server) as other, httpx2.AsyncClient(timeout=BOUND_S) as http:
                assert (await other.call_tool("ocr_image", {"image": PAGE})).is_error
                assert (await http.post(server.root + "/ocr", json={"image": PAGE})).status_code == 429
            found = await scrape(server)
            tasks.cancel_scope.cancel()
    assert value(found, "requests_total", mode="document", engine="Patient", outcome="queue_full") == 1
    assert value(found, "requests_total", mode="unknown", engine="Patient", outcome="queue_full") == 1


async def test_pages_of_several_requests_in_one_batch_are_counted_once() -> None:
    async with running("Counting") as service:
        metrics = Metrics(service)
        async with anyio.create_task_group() as tasks:
            for width in range(30, 36):
                request = OcrRequest(image=as_base64(png(width)))
                tasks.start_soon(lambda request=request: service.ocr(request, Caller(request.image)))
        found = await rendered(metrics)
    assert value(found, "pages_total", engine="Counting") == 6
    assert value(found, "tokens_total", engine="Counting") == 42
    assert value(found, "requests_total", mode="document", engine="Counting", outcome="ok") == 6


async def test_each_move_of_the_model_is_timed_and_its_state_shown() -> None:
    nvml = FakeNvml()
    nvml.add_card(free_mb=20_000)
    async with on_a_card(nvml) as service:
        metrics = Metrics(service)
        assert value(await rendered(metrics), "model_state", state="unloaded") == 1
        await service.ocr(OcrRequest(image=PAGE), Caller())
        assert value(await rendered(metrics), "model_state", state="gpu") == 1
        await service.offload()
        assert value(await rendered(metrics), "model_state", state="host") == 1
        await service.ocr(OcrRequest(image=PAGE), Caller())
        await service.release()
        await service.ocr(OcrRequest(image=PAGE), Caller())
        found = await rendered(metrics)
        assert sum(shown for (name, _), shown in found.items() if name == "model_state") == 1
    counts = {
        step: value(found, "model_move_seconds_count", engine="Echo", step=step)
        for step in ("load", "restore", "offload", "release")
    }
    assert counts == {"load": 2, "restore": 1, "offload": 1, "release": 1}
    load = value(found, "model_move_seconds_sum", engine="Echo", step="load")
    assert load is not None
    assert 0 < load < 30


async def test_a_forced_release_is_a_move_too_and_no_restart() -> None:
    async with running("Patient") as service:
        metrics = Metrics(service)
        reading = anyio.Event()

        async def note(done: float, total: float, message: str) -> None:
            if message.endswith("reading"):
                reading.set()

        async def read() -> None:
            with pytest.raises(OcrError):
                await service.ocr(OcrRequest(image=PAGE), Caller(), Terms(on_progress=note))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            with anyio.fail_after(60):
                await reading.wait()
                await service.release(force=True)
        found = await rendered(metrics)
    assert value(found, "model_move_seconds_count", engine="Patient", step="release") == 1
    assert value(found, "worker_restarts_total", engine="Patient") == 0
    assert value(found, "requests_total", mode="document", engine="Patient", outcome="cancelled") == 1


async def test_a_load_that_fails_is_counted() -> None:
    async with running("Unloadable") as service:
        metrics = Metrics(service)
        with pytest.raises(OcrError):
            await service.ocr(OcrRequest(image=PAGE), Caller())
        found = await rendered(metrics)
    assert value(found, "model_move_failures_total", engine="Unloadable", step="load") == 1
    assert value(found, "requests_total", mode="document", engine="Unloadable", outcome="engine_unavailable") == 1


async def test_gpu_memory_is_shown_total_used_and_ours() -> None:
    nvml = FakeNvml()
    card, other = nvml.add_card(total_mb=24_000, free_mb=20_000), nvml.add_card(total_mb=8_000, free_mb=8_000)
    async with on_a_card(nvml) as service:
        metrics = Metrics(service)
        assert value(await rendered(metrics), "gpu_memory_ours_bytes") == 0
        await service.ocr(OcrRequest(image=PAGE), Caller())
        pid = (await service.status()).worker_pid
        assert pid is not None
        card.take(pid, 7_000)
        found = await rendered(metrics)
        card.give_back(pid)
    mib = 1024 * 1024
    assert value(found, "gpus") == 2
    assert value(found, "gpu_memory_total_bytes", gpu="0", uuid=card.uuid) == 24_000 * mib
    assert value(found, "gpu_memory_used_bytes", gpu="0", uuid=card.uuid) == 11_000 * mib
    assert value(found, "gpu_memory_used_bytes", gpu="1", uuid=other.uuid) == 0
    assert value(found, "gpu_memory_ours_bytes") == 7_000 * mib
    assert value(found, "gpu_memory_unreturned_bytes") == 0
    assert value(found, "worker_memory_bytes") != 0


async def test_a_card_that_the_driver_lost_leaves_no_series_behind() -> None:
    nvml = FakeNvml()
    nvml.add_card()
    async with on_a_card(nvml) as service:
        metrics = Metrics(service)
        assert value(await rendered(metrics), "gpus") == 1
        nvml.devices[0].lost = True
        found = await rendered(metrics)
    assert value(found, "gpus") == 0
    assert not any(name.startswith("gpu_memory_total") for name, _ in found)


async def test_a_driver_that_hangs_does_not_hang_a_scrape() -> None:
    nvml = FakeNvml()
    nvml.add_card()
    async with on_a_card(nvml) as service:
        metrics = Metrics(service)
        nvml.hanging["nvmlDeviceGetCount"] = threading.Event()
        try:
            with anyio.fail_after(60):
                found = await rendered(metrics)
        finally:
            nvml.hanging["nvmlDeviceGetCount"].set()
    assert value(found, "gpus") == 0
    assert value(found, "model_state", state="unloaded") == 1


async def test_a_scrape_waits_for_no_page() -> None:
    with http_server("Hanging") as server:
        async with http_client(server) as mcp, anyio.create_task_group() as tasks:
            await begin_reading(mcp, tasks)
            with anyio.fail_after(BOUND_S):  # the engine never answers
                found = await scrape(server)
            assert value(found, "model_state", state="host") == 1
            assert value(found, "queue_requests") == 1
            tasks.cancel_scope.cancel()


async def test_the_process_and_its_build_are_told() -> None:
    with http_server() as server:
        found = await scrape(server)
        (build,) = [labels for name, labels in found if name == "build_info"]
        assert dict(build)["version"] == __version__
        assert dict(build)["engine"] == "Echo"
        resident = value(found, "process_resident_memory_bytes")
        assert resident is not None
        assert resident > 10_000_000
        assert not any(name.endswith("_created") for name, _ in found)


async def test_a_worker_that_is_killed_while_the_server_runs_shows_as_a_restart() -> None:
    with http_server("Steady") as server:
        async with http_client(server) as mcp:
            facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
            os.kill(facts(await mcp.call_tool("gpu_status", {}))["worker_pid"], signal.SIGKILL)
            facts(await mcp.call_tool("ocr_image", {"image": PAGE}))
        found = await scrape(server)
    assert value(found, "worker_restarts_total", engine="Steady") == 1
    assert value(found, "requests_total", mode="document", engine="Steady", outcome="ok") == 2


async def test_metrics_ask_for_the_token_and_refusals_are_counted() -> None:
    with http_server(OCR_AUTH_TOKEN=TOKEN) as server:
        async with httpx2.AsyncClient(timeout=BOUND_S) as http:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
                refused = await http.get(server.root + "/metrics", headers=headers)
                assert refused.status_code == 401
                assert "deepseek_ocr" not in refused.text
            await http.get(server.root + "/health")
            answer = await http.get(server.root + "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    found = samples(answer.text)
    assert value(found, "http_responses_total", code="401") == 3
    assert value(found, "http_responses_total", code="200") == 1


async def test_two_applications_in_one_process_count_apart() -> None:
    async with running("Echo") as one, running("Echo") as other:
        first, second = Metrics(one), Metrics(other)
        await one.ocr(OcrRequest(image=PAGE), Caller())
        assert value(await rendered(first), "pages_total", engine="Echo") == 1
        assert value(await rendered(second), "pages_total", engine="Echo") == 0


async def test_no_text_of_a_document_is_in_the_metrics() -> None:
    with http_server("Indiscreet") as server:
        async with http_client(server) as mcp:
            await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "find", "find_term": "Xylophone"})
            await mcp.call_tool("ocr_image", {"image": PAGE, "mode": "Xylophone"})
        async with httpx2.AsyncClient(timeout=BOUND_S) as http:
            text = (await http.get(server.root + "/metrics")).text
    assert 'mode="find"' in text
    assert "Xylophone" not in text
    assert base64.b64decode(PAGE).hex() not in text

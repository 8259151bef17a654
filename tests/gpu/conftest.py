"""The GPU is tested with a stand-in for NVML: cards that are plain objects."""

from __future__ import annotations

import pytest

from deepseek_ocr_mcp.gpu.probe import GpuProbe
from fake_nvml import FakeNvml


@pytest.fixture
def nvml() -> FakeNvml:
    return FakeNvml()


@pytest.fixture
def probe(nvml: FakeNvml) -> GpuProbe:
    return GpuProbe(nvml, sees_host_pids=True)

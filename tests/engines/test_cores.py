"""Processors that an engine may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deepseek_ocr_mcp.engines import cores


def test_threads_follow_the_setting_and_the_quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OCR_THREADS", "3")
    assert cores.usable_cores() == 3
    monkeypatch.setenv("OCR_THREADS", "0")
    assert 1 <= cores.usable_cores() <= cores.MAX_THREADS
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.setattr(cores, "_cgroup_quota", lambda: 9.0)
    for workers, threads in ((1, 9), (2, 4), (4, 2), (20, 1)):
        monkeypatch.setenv("OCR_CORES_SHARED_BY", str(workers))
        assert cores.usable_cores() == threads
    monkeypatch.setattr(cores, "_cgroup_quota", lambda: 64.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert cores.usable_cores() == 3, "twenty workers on 64 cores"
    monkeypatch.setenv("OCR_CORES_SHARED_BY", "2")
    assert cores.usable_cores() == cores.MAX_THREADS
    monkeypatch.undo()
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert cores._cgroup_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cores._cgroup_quota(tmp_path) == float("inf")

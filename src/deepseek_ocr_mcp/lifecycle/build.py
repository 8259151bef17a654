"""Builds the lifecycle that the settings ask for: one worker, a pool of workers, or remote servers."""

from __future__ import annotations

import os

from ..config import Settings
from ..engines import EngineSpec
from ..engines.base import CPU
from ..gpu.choice import several_gpus, visible_devices
from ..gpu.probe import GpuProbe
from .base import Lifecycle
from .manager import ModelManager, Spawn, spawn_engine
from .pool import Pool

__all__ = ["build_lifecycle"]


def build_lifecycle(
    engine: EngineSpec, settings: Settings, *, probe: GpuProbe, spawn: Spawn = spawn_engine
) -> Lifecycle:
    """What the settings ask for: one manager, or a pool of them."""
    if not engine.gpu_mb or settings.ocr_gpu.strip().lower() == CPU:
        if settings.ocr_cpu_workers > 1:
            return Pool(engine, settings, [CPU] * settings.ocr_cpu_workers, probe=probe, spawn=spawn)
    elif settings.ocr_gpus:
        names = several_gpus(
            probe.cards(),
            settings.ocr_gpus,
            least_mb=engine.gpu_mb + settings.ocr_gpu_reserve_mb,
            visible=visible_devices(os.environ),
        )
        if len(names) > 1:
            return Pool(engine, settings, names, probe=probe, spawn=spawn)
        settings = settings.model_copy(update={"ocr_gpu": names[0] if names else "auto"})
    return ModelManager(engine, settings, probe=probe, spawn=spawn)

"""Chooses the engine and its lifecycle, once, when a server starts.

Modules that only some settings need are imported only then: over stdio the first answer is due within a second.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..config import Settings
from ..engines import EngineSpec, choose_engine
from ..engines.base import CPU
from ..gpu.causes import torch_build
from ..gpu.choice import examine, several_gpus, visible_devices
from ..gpu.probe import GpuProbe
from .base import Lifecycle
from .manager import ModelManager, Spawn, spawn_engine

if TYPE_CHECKING:
    from .remote.manager import Encode

__all__ = ["build_lifecycle", "engine_for"]


def engine_for(settings: Settings, probe: GpuProbe) -> tuple[EngineSpec, str]:
    """The engine that reads, and a sentence that says why.

    Raises:
        BadRequest: `OCR_ENGINE` names no engine.
    """

    def trouble(engine: EngineSpec) -> str:
        uuids = [card.uuid for card in probe.cards()]
        causes, _ = examine(probe, uuids, torch_build() if "torch" in engine.needs else None)
        if not causes or len(causes) < len(uuids):
            return ""
        message = next(iter(causes.values())).message
        return f"the {message[4:]}" if message.startswith("The ") else message

    return choose_engine(
        settings.ocr_engine, model=settings.ocr_model, gpu=settings.ocr_gpu, cards=probe.cards, trouble=trouble
    )


def build_lifecycle(
    engine: EngineSpec,
    settings: Settings,
    *,
    probe: GpuProbe,
    spawn: Spawn = spawn_engine,
    encode: Encode | None = None,
) -> Lifecycle:
    """The lifecycle that the settings ask for: endpoints elsewhere, a pool of workers, or one worker.

    Args:
        engine: the engine that reads.
        settings: the settings of the operator.
        probe: the cards of this machine.
        spawn: starts a worker.
        encode: encodes a page as a file to send; needed for an engine that reads elsewhere.
    """
    if engine.is_remote:
        from .remote.manager import RemoteManager

        assert encode is not None, "an engine that reads elsewhere is sent encoded pages"
        return RemoteManager(engine, settings, probe=probe, encode=encode)
    if not engine.gpu_mb or settings.ocr_gpu.strip().lower() == CPU:
        names = [CPU] * settings.ocr_cpu_workers
    else:
        names = _cards(engine, settings, probe)
        if len(names) == 1:
            settings = settings.model_copy(update={"ocr_gpu": names[0]})
    if len(names) < 2:
        return ModelManager(engine, settings, probe=probe, spawn=spawn)
    from .pool import Pool

    return Pool(engine, settings, names, probe=probe, spawn=spawn)


def _cards(engine: EngineSpec, settings: Settings, probe: GpuProbe) -> list[str]:
    """The cards that `OCR_GPUS` names, each in the form of `OCR_GPU`; one entry at least."""
    if not settings.ocr_gpus:
        return [settings.ocr_gpu]
    found = several_gpus(
        probe.cards(),
        settings.ocr_gpus,
        least_mb=engine.gpu_mb + settings.ocr_gpu_reserve_mb,
        visible=visible_devices(os.environ),
    )
    return found or ["auto"]

"""Knows the memory of cards: the card that has room, and the memory that an ended worker has not given back.

Memory of our own worker counts as free for it: the CUDA context of a parked worker does not keep its weights out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from ..config import Settings
from ..engines import EngineSpec
from ..gpu.causes import Cause, torch_build
from ..gpu.choice import CardRequest, choose_gpu, examine, visible_devices
from ..gpu.probe import ENOUGH_FREED, GpuProbe, wait_freed
from ..logs import fields
from ..models import Gpu

__all__ = ["CardMemory", "Footprint", "card_request", "difference", "resident_mb"]

log = logging.getLogger(__name__)

LARGEST_CONTEXT_MB: Final = 1024
"""MiB that count as our own context, at most, if NVML hides the memory of processes (in containers, on Windows).

Contexts take 300 to 700 MB. With a larger value a card may be chosen on which the weights do not fit; the restore then
fails with an error that says so. With a smaller value a card may refuse its own model."""


@dataclass(slots=True)
class Footprint:
    """The memory of one worker on its card, as far as it is known."""

    card: str
    """UUID."""
    pid: int
    free_before_mb: int | None = None
    """MiB that were free on the card before the worker took any."""
    free_parked_mb: int | None = None
    """MiB that were free on the card when the weights had just left it."""


@dataclass(slots=True)
class _Owed:
    """Memory of a dead worker that its card did not get back within the bound."""

    card: str
    free_before_mb: int
    """MiB that were free on the card before that worker took any."""
    missing_mb: int


@dataclass(slots=True)
class CardMemory:
    """The memory of the cards, from the point of view of one manager."""

    engine: EngineSpec
    settings: Settings
    probe: GpuProbe
    _owed: _Owed | None = field(default=None, init=False)
    _remarks: set[str] = field(default_factory=set, init=False)

    async def choose(self, parked: Footprint | None) -> str:
        """Choose a card. Returns its UUID.

        Args:
            parked: the footprint of a worker whose context is on a card, if there is one.

        Raises:
            GpuBusy: no allowed card has room.
            EngineUnavailable: there is no card that can be used.
        """
        cards = await anyio.to_thread.run_sync(self.probe.cards)
        causes = await self._causes([card.uuid for card in cards], parked)
        if parked is not None:
            own_mb = await self._context_mb(parked)
            cards = [
                card.model_copy(update={"memory_free_mb": card.memory_free_mb + own_mb})
                if card.uuid == parked.card
                else card
                for card in cards
            ]
        request = card_request(self.engine, self.settings)
        current = None if parked is None else parked.card
        card = choose_gpu(cards, request, current=current, unusable=causes, note=self.probe.note)
        return card.uuid

    async def _causes(self, uuids: list[str], parked: Footprint | None) -> dict[str, Cause]:
        """The reasons why cards cannot be used, by UUID. Remarks on slow cards go to the log, each once."""
        ours = [] if parked is None else [parked.pid]
        build = torch_build() if "torch" in self.engine.needs else None
        causes, slow = await anyio.to_thread.run_sync(examine, self.probe, uuids, build, ours)
        for uuid, remarks in slow.items():
            for remark in remarks:
                if remark not in self._remarks:
                    self._remarks.add(remark)
                    log.warning(remark, extra=fields(engine=self.engine.name, device=uuid))
        return causes

    async def _context_mb(self, parked: Footprint) -> int:
        """MiB that a parked worker holds on its card."""
        held = await anyio.to_thread.run_sync(self.probe.process_mb, parked.pid, parked.card)
        if held is not None:
            return held
        return min(difference(parked.free_parked_mb, parked.free_before_mb) or 0, LARGEST_CONTEXT_MB)

    async def free_mb(self, card: str | None) -> int | None:
        """The free MiB of a card; None if there is no card, or if NVML does not tell."""
        return None if card is None else await anyio.to_thread.run_sync(self.probe.free_mb, card)

    async def see_freed(self, ended: Footprint) -> int:
        """Wait, within a bound, until the card of a dead worker has its memory back. Returns the MiB that are missing.

        Without the wait the next choice of a card would count memory as taken that is about to be free.
        """
        if ended.free_before_mb is None:
            return 0
        free_now = await self.free_mb(ended.card)
        if free_now is None or free_now >= ended.free_before_mb:
            return 0
        held = ended.free_before_mb - free_now
        freed = await wait_freed(self.probe, ended.card, free_before_mb=free_now, expect_mb=held)
        if freed >= held * ENOUGH_FREED:
            return 0
        self._owed = _Owed(ended.card, ended.free_before_mb, held - freed)
        return held - freed

    def settle(self, card: str, free_mb: int) -> None:
        """Note the free memory of a card without a worker of ours: memory that came back late is not missing any
        more."""
        owed = self._owed
        if owed is not None and owed.card == card:
            owed.missing_mb = min(owed.missing_mb, owed.free_before_mb - free_mb)
            if owed.missing_mb <= 0:
                self._owed = None

    def unreturned_mb(self, cards: Sequence[Gpu], *, has_worker: bool) -> int | None:
        """MiB that an ended worker held and that its card has not got back; None if nothing is missing.

        Args:
            cards: the cards.
            has_worker: whether a worker of ours is on a card. Then the figure is from before it came.
        """
        if not has_worker:
            for card in cards:
                self.settle(card.uuid, card.memory_free_mb)
        return None if self._owed is None else self._owed.missing_mb


def card_request(engine: EngineSpec, settings: Settings) -> CardRequest:
    """The card that an engine asks for, within the settings and the environment."""
    return CardRequest(
        need_mb=engine.gpu_mb,
        reserve_mb=settings.ocr_gpu_reserve_mb,
        name=settings.ocr_gpu,
        setting="OCR_GPUS" if settings.ocr_gpus else "OCR_GPU",
        visible=visible_devices(os.environ),
    )


def difference(before: int | None, after: int | None) -> int | None:
    """The difference by which `after` is above `before`, at least 0; None if one of them is not known."""
    return None if before is None or after is None else max(0, after - before)


def resident_mb(pid: int) -> int | None:
    """MiB of host memory that a process holds; None if /proc does not tell."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // 1024
    except OSError:
        pass
    return None

"""Checks the promises that only a real card can prove, each with its finding and a remedy.

The checks move a real model in a real worker through every state: load, read, offload, restore, read again, release. If
a check fails that later checks depend on, the later ones are skipped. `deepseek-ocr-mcp doctor --gpu` prints them, and
those of `clone_checks`; docs/first-day-on-a-gpu.md says which findings are right.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from ..config import Settings
from ..engines import KNOWN, PREFERRED, EngineSpec
from ..engines.base import CPU, PageImage, ReadOptions
from ..errors import OcrError
from ..gpu.causes import torch_build
from ..gpu.choice import choose_gpu, examine
from ..gpu.probe import GpuProbe
from ..install import extra_command
from ..models import Gpu, State
from ..modes import DEFAULT_MODE, PLAIN_MODE
from .base import PagesRead
from .manager import ModelManager
from .memory import card_request

__all__ = ["NAMES", "Check", "checks_on_a_card", "draw_page", "gpu_checks"]

WORD: Final = "HELLO 42"
LINES: Final = (WORD, "HOLE 24", "EEL 24", "HEEL 22", "OLE 44", "ELLE 2", "LOO 242", "HOHO 424")
"""The text of the page. It is long enough that decode steps are recorded."""
ENOUGH_TOKENS: Final = 24  # a step is recorded once it has run 16 times
RESTORE_S: Final = 1.0  # the promise of docs/gpu-management.md, on PCIe 4 with 16 lanes or better
LEFT_MB: Final = 64  # MiB by which two measurements of an idle card may differ

NAMES: Final = (
    "cards", "torch", "weights", "load", "read", "recorded steps", "offload", "restore", "same text", "release",
)  # fmt: skip
"""The checks in their order. All after the first error are skipped."""

_LETTERS: Final = {
    "H": ("10001", "10001", "10001", "11111", "10001", "10001", "10001"),
    "E": ("11111", "10000", "10000", "11110", "10000", "10000", "11111"),
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "O": ("01110", "10001", "10001", "10001", "10001", "10001", "01110"),
    "4": ("00010", "00110", "01010", "10010", "11111", "00010", "00010"),
    "2": ("01110", "10001", "00001", "00110", "01000", "10000", "11111"),
    " ": ("00000",) * 7,
}
_SCALE: Final = 8  # pixels of a dot


@dataclass(frozen=True, slots=True)
class Check:
    """One check and its finding."""

    name: str
    passed: bool
    found: str
    """A sentence, with the figures; of a check that was skipped, the reason."""
    remedy: str = ""
    is_skipped: bool = False


def draw_page(path: Path) -> PageImage:
    """Write a page with `LINES` on it as raw RGB, which engines read. No library is needed."""
    width, height = (6 * max(map(len, LINES)) + 5) * _SCALE, (10 * len(LINES) + 7) * _SCALE
    rows = [bytearray(b"\xff" * (3 * width)) for _ in range(height)]
    for number, line in enumerate(LINES):
        for place, letter in enumerate(line):
            for down, dots in enumerate(_LETTERS[letter]):
                top = _SCALE * (10 * number + down + 5)
                for across in (index for index, dot in enumerate(dots) if dot == "1"):
                    left = 3 * _SCALE * (6 * place + across + 3)
                    for row in rows[top : top + _SCALE]:
                        row[left : left + 3 * _SCALE] = bytes(3 * _SCALE)
    path.write_bytes(b"".join(rows))
    return PageImage(str(path), width, height)


async def gpu_checks(settings: Settings, folder: Path) -> AsyncGenerator[Check, None]:
    """Make all checks of the engine that needs a card.

    Args:
        settings: the settings of the operator.
        folder: a private folder for the page that is read.
    """
    probe = GpuProbe()
    usable = True
    async for check in _before_loading(settings, probe):
        usable &= check.passed
        yield check
    if not usable:
        return
    page = await anyio.to_thread.run_sync(draw_page, folder / "first-day.rgb")
    # The idle policy is switched off, because each move is one of the checks.
    still = settings.model_copy(
        update={"gpu_offload_after": -1.0, "gpu_idle_timeout": -1.0, "ocr_prewarm": "off", "ocr_gpus": ()}
    )
    manager = ModelManager(_engine(settings), still, probe=probe)
    async with manager.running():
        async for check in checks_on_a_card(manager, page):
            yield check


def _engine(settings: Settings) -> EngineSpec:
    """The engine for a card that the settings name, or else the preferred one, for the model that they name."""
    named = KNOWN.get(settings.ocr_engine)
    return (named if named is not None and named.gpu_mb else KNOWN[PREFERRED]).for_model(settings.ocr_model)


async def _before_loading(settings: Settings, probe: GpuProbe) -> AsyncIterator[Check]:
    """Checks 1 to 3: the driver and the cards, whether torch fits them, the weights."""
    engine = _engine(settings)
    cards = await anyio.to_thread.run_sync(probe.cards)
    yield _lists_a_card(cards, probe.note, engine, settings)
    if not cards:
        return
    build = torch_build()
    causes, slow = await anyio.to_thread.run_sync(examine, probe, [card.uuid for card in cards], build)
    good = build is not None and len(causes) < len(cards)
    remarks = dict.fromkeys(remark for remarks in slow.values() for remark in remarks)
    messages = dict.fromkeys(cause.message for cause in causes.values())
    found = ["torch is missing."] if build is None else [f"torch {build.version}."] if good else []  # else causes do
    first = next(iter(causes.values()), None)
    yield Check(
        "torch",
        good,
        " ".join([*found, *messages, *remarks]),
        "" if good else first.remedy if first else extra_command("gpu"),
    )
    folder = await anyio.to_thread.run_sync(engine.weights_here, settings.ocr_model)
    missing = f"The weights of {settings.ocr_model or engine.weights} are not on this machine."
    remedy = "" if folder else "deepseek-ocr-mcp download"
    yield Check("weights", folder is not None, f"{folder or missing} {engine.about_weights}".rstrip(), remedy)


def _lists_a_card(cards: Sequence[Gpu], note: str, engine: EngineSpec, settings: Settings) -> Check:
    """Whether the driver lists a card that the settings allow and that has room, before anything is fetched for it."""
    listed = "; ".join(f"GPU {card.index} {card.name}, {card.memory_free_mb} MiB free" for card in cards)
    if not cards:
        return Check("cards", False, note, "nvidia-smi -L must list the card first.")
    if settings.ocr_gpu.lower() == CPU:
        return Check("cards", False, f"{listed}; but OCR_GPU=cpu.", "Unset OCR_GPU.")
    try:
        choose_gpu(cards, card_request(engine, settings))
    except OcrError as exc:
        return Check("cards", False, exc.message, exc.remedy)
    return Check("cards", True, " ".join(filter(None, [f"{listed}.", note])))


async def checks_on_a_card(manager: ModelManager, page: PageImage) -> AsyncIterator[Check]:
    """Checks 4 to 10: load, read, record, offload, restore, read again, release. Stops at the first error.

    Args:
        manager: a manager inside its `running()`, with no model loaded.
        page: a page with `LINES` on it.
    """
    name = "load"
    try:
        async with manager.lease():
            first = await _read(manager, page)
            card = manager.device
            free_mb = await anyio.to_thread.run_sync(manager.probe.free_mb, card)
            yield Check("load", True, f"{first.model} on {card} in {first.load_s:.1f} s.")
            name = "read"
            yield _reads(first)
            second = await _read(manager, page)
            yield _records(manager, second)
        name = "offload"
        moved = await manager.offload()
        yield await _leaves_nothing(manager, card, moved.freed_mb, moved.message)
        name = "restore"
        async with manager.lease():
            again = await _read(manager, page)
        quick = again.load_s <= RESTORE_S
        yield Check("restore", quick, f"{again.load_s:.2f} s.", "" if quick else "See docs/first-day-on-a-gpu.md.")
        same = again.pages[0]["text"] == first.pages[0]["text"]
        yield Check("same text", same, "Before and after." if same else "The text changed.", "" if same else _REPORT)
        name = "release"
        moved = await manager.release()
        yield await _all_came_back(manager, card, free_mb, moved.message)
    except OcrError as exc:
        yield Check(name, False, exc.message, exc.remedy)


_REPORT: Final = "Report it, with gpu_status and the log at OCR_LOG_LEVEL=debug."


async def _read(manager: ModelManager, page: PageImage) -> PagesRead:
    mode = PLAIN_MODE if PLAIN_MODE in manager.engine.modes else DEFAULT_MODE
    return await manager.read([page], ReadOptions(mode))


def _reads(reading: PagesRead) -> Check:
    text = str(reading.pages[0]["text"]).strip()
    good = WORD in text
    return Check(
        "read",
        good,
        f"{text[:80]!r} in {reading.infer_s:.2f} s.",
        "" if good else f"It should have read {WORD!r}: fetch the weights again, then report it.",
    )


def _records(manager: ModelManager, reading: PagesRead) -> Check:
    tokens = reading.pages[0].get("tokens") or 0
    if tokens < ENOUGH_TOKENS:
        found, good = f"Only {tokens} tokens were written, which is too few to record a step.", False
    elif not manager.records_steps:
        found, good = "A decode step could not be recorded.", False
    else:
        found, good = f"{tokens} tokens in {reading.infer_s:.2f} s, the second time.", True
    return Check("recorded steps", good, found, "" if good else f"It reads all the same, slower. {_REPORT}")


async def _leaves_nothing(manager: ModelManager, card: str, freed_mb: int | None, message: str) -> Check:
    pid = manager.status().worker_pid
    held = 0 if pid is None else await anyio.to_thread.run_sync(manager.probe.process_mb, pid, card)
    good = manager.device == "none" and not held
    return Check(
        "offload",
        good,
        f"{message} {freed_mb} MiB came back.",
        "" if good else "OCR_PARK=resident keeps the context on the card; otherwise report it.",
    )


async def _all_came_back(manager: ModelManager, card: str, free_mb: int | None, message: str) -> Check:
    free_now = await anyio.to_thread.run_sync(manager.probe.free_mb, card)
    cards = await anyio.to_thread.run_sync(manager.probe.cards)
    missing = manager.unreturned_mb(cards) or 0
    good = manager.state is State.UNLOADED and missing <= LEFT_MB
    came = "" if free_mb is None or free_now is None else f" {free_now - free_mb} MiB are free again."
    return Check("release", good, f"{message}{came}", "" if good else "nvidia-smi says which process holds the memory.")

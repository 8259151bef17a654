"""`doctor`: checks each part of the installation, and reads a page that it drew itself."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .. import __version__
from ..errors import EngineUnavailable, OcrError
from ..install import extra_command, install_command
from .server import endpoint_line, settled_status
from .shared import settings_from

if TYPE_CHECKING:
    from ..config import Settings
    from ..models import GpuStatus
    from ..service.service import OcrService

__all__ = ["run_doctor"]


PROBE_TEXT: Final = "12345"
PROBE_PAGE: Final = (  # a PNG of 150×48 pixels that says so
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAJYAAAAwAQAAAADbP768AAAA/ElEQVR42t2SMU7DQBBF3zou0tklhaX4CNzAS5dj5CZsQUHHFSxO"
    "ARUukEgHN8BGOYCNUqwle4YisbwON8gUq9HTn9X8v2uUyxoj/te1s9FqTOPoMeuJHZGRssQHupajd08tLYUHiIFnTKy3W+rNrHvg"
    "N6qwoDO7AcTCPrhvd+5dwBywcpAuds6AveY0LvAhFieWvJx2AaBLB/g89aoqhXptC++l+FDV4TzrSb56ZJFLBy8t2CxgP0DEyoW6"
    "d8gOF5k+9vC6zkOmJwtjOCt57Lj3dagbLNRAdZiZd1Tx/GCqKkWjsknUS5LMPr7NXZOC6dJFBtXbdGCu+I//AfwlZzkhdVDxAAAA"
    "AElFTkSuQmCC"
)


def run_doctor(arguments: argparse.Namespace) -> int:
    """Print a line for each part that must be in place. Returns 0 if all are, else a missing engine's exit code."""
    import anyio

    settings = settings_from(arguments)
    return anyio.run(_examine_gpu if arguments.gpu else _examine, settings)


@dataclass(slots=True)
class _Checklist:
    """Prints the state of each part, and remembers whether all are in place."""

    is_sound: bool = True

    def line(self, sound: bool, part: str, found: str, remedy: str = "") -> None:
        """Print one part.

        Args:
            sound: whether the part is in place.
            part: its name.
            found: its state.
            remedy: what to do about a part that is not in place.
        """
        self.is_sound &= sound
        print(f"{'ok  ' if sound else 'FIX '} {part:<16} {found}" + (f"\n     → {remedy}" if remedy else ""))

    def skip(self, part: str, reason: str) -> None:
        """Print a part that was not looked at, with the reason."""
        print(f"skip {part:<16} {reason}")


async def _examine(settings: Settings) -> int:
    from ..app.run import running_service

    checks = _Checklist()
    checks.line(True, "Python", f"{platform.python_version()} at {sys.executable}")
    checks.line(True, "deepseek-ocr-mcp", __version__)
    async with running_service(settings) as service:
        if await _check_packages(checks, service):
            await _check_reading(checks, service)
        await _check_decoder(checks, service)
        status = await settled_status(service)
        _check_hardware(checks, status, needs_gpu=service.engine.gpu_mb > 0 and settings.ocr_gpu != "cpu")
    await _check_folders(checks, settings)
    return 0 if checks.is_sound else EngineUnavailable.exit_code


async def _examine_gpu(settings: Settings) -> int:
    """The checks of docs/first-day-on-a-gpu.md."""
    from ..app.run import card_checks

    checks = _Checklist()
    async for check in card_checks(settings):
        if check.is_skipped:
            checks.skip(check.name, check.found)
        else:
            checks.line(check.passed, check.name, check.found, check.remedy)
    return 0 if checks.is_sound else EngineUnavailable.exit_code


async def _check_packages(checks: _Checklist, service: OcrService) -> bool:
    """Whether all packages of the engine are installed."""
    from ..engines import missing_packages

    engine = service.engine
    if missing := missing_packages(engine):
        remedy = extra_command(engine.extra) if engine.extra else install_command(*missing)
        checks.line(False, "engine", f"{engine.name} lacks {', '.join(missing)}", remedy)
        return False
    checks.line(True, "engine", f"{engine.name}. {(await service.status()).engine_reason}")
    return True


async def _check_decoder(checks: _Checklist, service: OcrService) -> None:
    """What keeps the program that parses strangers' files from everything else on this machine."""
    try:
        checks.line(True, "decoder", f"confined by {await service.confined()}")
    except OcrError as exc:
        checks.line(False, "decoder", exc.message, exc.remedy)


async def _check_reading(checks: _Checklist, service: OcrService) -> None:
    """Read a page whose text is known."""
    from ..caller import Caller
    from ..models import OcrRequest

    part = "endpoint" if service.engine.is_remote else "weights"
    try:
        answer = await service.ocr(OcrRequest(image=PROBE_PAGE, mode="free"), Caller())
    except OcrError as exc:
        checks.line(False, part, exc.message, exc.remedy)
        return
    result, text = answer.result, answer.result.text.strip()
    found = (
        f"{result.model}: loaded in {result.timing.load_s:.1f} s, read {text!r} in {result.timing.infer_s:.2f} s on "
        f"{result.device}"
    )
    mend = "look at the model." if service.engine.is_remote else "reinstall the engine."
    sound = PROBE_TEXT in text
    checks.line(sound, part, found, "" if sound else f"It should have read {PROBE_TEXT!r}: {mend}")


def _check_hardware(checks: _Checklist, status: GpuStatus, *, needs_gpu: bool) -> None:
    """The remote servers and the GPUs."""
    for endpoint in status.endpoints or ():
        sound = endpoint.state != "out"
        remedy = "" if sound else "See OCR_REMOTE_URL, OCR_REMOTE_KEY and OCR_MODEL, and the log of the endpoint."
        checks.line(sound, "endpoint", endpoint_line(endpoint.model_dump()), remedy)
    for gpu in status.gpus:
        found = f"{gpu.name}, {gpu.memory_free_mb} of {gpu.memory_total_mb} MiB free"
        checks.line(True, f"GPU {gpu.index}", found)
    if not status.gpus:
        remedy = "Set OCR_GPU=cpu, or install the driver." if needs_gpu else ""
        checks.line(not needs_gpu, "GPU", status.gpu_note, remedy)


async def _check_folders(checks: _Checklist, settings: Settings) -> None:
    """The folders that may be read."""
    import anyio.to_thread

    for folder in settings.ocr_allowed_dirs:
        there = await anyio.to_thread.run_sync(os.access, folder, os.R_OK | os.X_OK)
        checks.line(there, "allowed folder", folder, "" if there else "Make it, or correct OCR_ALLOWED_DIRS.")
    if not settings.ocr_allowed_dirs:
        checks.line(True, "allowed folders", "every folder over stdio, none over HTTP (OCR_ALLOWED_DIRS)")

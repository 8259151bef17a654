"""`doctor`: checks each part of the installation, and reads a page that it drew itself."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from typing import TYPE_CHECKING, Final

from .. import __version__
from ..errors import EngineUnavailable, OcrError
from .server import endpoint_line, settled_status
from .shared import settings_from

if TYPE_CHECKING:
    from ..config import Settings

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
    """Print a line for each thing that must be in place; 0 if all are."""
    import anyio

    settings = settings_from(arguments)
    return anyio.run(_examine, settings)


async def _examine(settings: Settings) -> int:
    import anyio.to_thread

    from ..app.run import running_service
    from ..engines import missing_packages
    from ..models import OcrRequest

    bad = 0

    def line(ok: bool, what: str, found: str, remedy: str = "") -> None:
        nonlocal bad
        bad += not ok
        print(f"{'ok  ' if ok else 'FIX '} {what:<16} {found}" + (f"\n     → {remedy}" if remedy else ""))

    line(True, "Python", f"{platform.python_version()} at {sys.executable}")
    line(True, "deepseek-ocr-mcp", __version__)
    async with running_service(settings) as service:
        engine = service.engine
        missing = missing_packages(engine)
        line(
            not missing,
            "engine",
            f"{engine.name} lacks {', '.join(missing)}"
            if missing
            else f"{engine.name}. {(await service.status()).engine_reason}",
            f"pip install {' '.join(missing)}" if missing else "",
        )
        if not missing:
            try:
                answer = await service.read(OcrRequest(image=PROBE_PAGE, mode="free"), local=True)
                timing = answer.result.timing
                read = answer.result.text.strip()
                line(
                    PROBE_TEXT in read,
                    "endpoint" if engine.is_remote else "weights",
                    f"{answer.result.model}: loaded in {timing.load_s:.1f} s, "
                    f"read {read!r} in {timing.infer_s:.2f} s on {answer.result.device}",
                    ""
                    if PROBE_TEXT in read
                    else f"It should have read {PROBE_TEXT!r}: "
                    + ("look at the model." if engine.is_remote else "reinstall the engine."),
                )
            except OcrError as exc:
                line(False, "endpoint" if engine.is_remote else "weights", exc.message, exc.remedy)
        try:
            line(True, "decoder", f"confined by {await service.confined()}")
        except OcrError as exc:
            line(False, "decoder", exc.message, exc.remedy)
        status = await settled_status(service)
    for endpoint in status.endpoints or ():
        remedy = "See OCR_REMOTE_URL, OCR_REMOTE_KEY and OCR_MODEL, and its log."
        found = endpoint_line(endpoint.model_dump())
        line(endpoint.state != "out", "endpoint", found, remedy if endpoint.state == "out" else "")
    for gpu in status.gpus:
        line(True, f"GPU {gpu.index}", f"{gpu.name}, {gpu.memory_free_mb} of {gpu.memory_total_mb} MiB free")
    if not status.gpus:
        needed = engine.gpu_mb > 0 and settings.ocr_gpu != "cpu"
        line(
            not needed,
            "GPU",
            status.gpu_note,
            "" if needed is False else "Set OCR_GPU=cpu, or install the driver.",
        )
    for folder in settings.ocr_allowed_dirs:
        there = await anyio.to_thread.run_sync(os.access, folder, os.R_OK | os.X_OK)
        line(there, "allowed folder", folder, "" if there else "Make it, or correct OCR_ALLOWED_DIRS.")
    if not settings.ocr_allowed_dirs:
        line(True, "allowed folders", "every folder over stdio, none over HTTP (OCR_ALLOWED_DIRS)")
    return 0 if bad == 0 else EngineUnavailable.exit_code

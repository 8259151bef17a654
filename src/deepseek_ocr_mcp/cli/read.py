"""`ocr`: reads files and folders, and writes each text to stdout, a file or a folder."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..engines import cpu_engine
from ..errors import BadRequest, InputNotFound, OcrError
from ..modes import ONLY_LAYER
from ..text import well_formed, well_formed_values
from .shared import INTERRUPTED, ProgressBar, print_error, reading_fields, settings_from

if TYPE_CHECKING:
    from ..engines import EngineSpec
    from ..models import OcrRequest
    from ..service.answer import Answer
    from ..service.service import OcrService

__all__ = ["SUFFIXES", "run_ocr"]

SUFFIXES: Final = {"markdown": ".md", "text": ".txt", "json": ".json"}


def run_ocr(arguments: argparse.Namespace) -> int:
    import anyio

    return anyio.run(_read_files, arguments)


async def _read_files(arguments: argparse.Namespace) -> int:
    """Read all files. The children start first: they import and load while this process imports its own modules."""
    from ..app.headstart import HeadStart
    from ..app.signals import until_signal

    worst = 0

    async def work() -> None:
        nonlocal worst
        async with HeadStart() as children:
            env = {"OCR_THREADS": os.environ.get("OCR_THREADS", "0")}
            if (workers := os.environ.get("OCR_CPU_WORKERS", "1")) != "1":
                env["OCR_CORES_SHARED_BY"] = workers
            await children.begin(_likely_engine(arguments), env)
            from ..app.run import running_service

            settings = settings_from(arguments)
            _make_folder(arguments.output_dir)
            async with running_service(settings, children) as service:
                for file in arguments.files:
                    try:
                        worst = max(worst, await _read_argument(service, file, arguments))
                    except OcrError as exc:
                        print_error(exc, file)
                        worst = max(worst, exc.exit_code)

    return INTERRUPTED if await until_signal(work) else worst


def _likely_engine(arguments: argparse.Namespace) -> EngineSpec | None:
    """The engine that the settings will name, as far as flags and environment say; None where it needs a GPU."""
    if arguments.text_layer == ONLY_LAYER or arguments.env_file or os.environ.get("OCR_ENV_FILE"):
        return None
    return cpu_engine(
        arguments.ocr_engine or os.environ.get("OCR_ENGINE", "auto"),
        model=os.environ.get("OCR_MODEL", ""),
        gpu=os.environ.get("OCR_GPU", "auto"),
    )


def _make_folder(folder: str | None) -> None:
    if folder:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise BadRequest(f"{folder} cannot be made: {exc.strerror}.", remedy="Name another --output-dir.") from None


async def _read_argument(service: OcrService, file: str, arguments: argparse.Namespace) -> int:
    """Read a file, or all that a folder or a quoted pattern names.

    Returns:
        The worst exit code.
    """
    answer = await _answered(service, file, arguments)
    folder = answer.result.folder
    if folder is None or arguments.output_dir:
        _print_answer(file, answer, arguments)
        return _worst(answer.errors)
    if not folder.files:
        raise InputNotFound(f"{file} names no file that can be read.", remedy='Name images or PDFs: "scans/**/*.pdf".')
    worst = 0
    for name in folder.files:
        path = os.path.join(folder.folder, name)
        try:
            answer = await _answered(service, path, arguments)
            _print_answer(path, answer, arguments)
            worst = max(worst, _worst(answer.errors))
        except OcrError as exc:
            print_error(exc, name)
            worst = max(worst, exc.exit_code)
    return worst


def _worst(errors: Mapping[str, OcrError]) -> int:
    return max((error.exit_code for error in errors.values()), default=0)


async def _answered(service: OcrService, file: str, arguments: argparse.Namespace) -> Answer:
    from ..caller import Caller
    from ..service.progress import Terms

    bar = ProgressBar(file)
    try:
        return await service.ocr(_request(file, arguments), Caller(), Terms(on_progress=bar))
    finally:
        bar.clear()


def _print_answer(file: str, answer: Answer, arguments: argparse.Namespace) -> None:
    """The text to stdout, the notes and the errors of files to stderr."""
    notes = answer.result.notes[:1] if answer.result.folder else answer.result.notes
    for note in notes:
        print(f"{file}: {note}", file=sys.stderr)
    if answer.result.folder:
        for name, error in answer.errors.items():
            print_error(error, name)
    if not arguments.output_dir and (text := _formatted(answer, arguments.format)):
        sys.stdout.write(text)
        sys.stdout.flush()


def _request(file: str, arguments: argparse.Namespace, name: str = "") -> OcrRequest:
    from ..models import OcrRequest

    save_to = ""
    if arguments.output_dir:
        name = name or (Path(file).name if len(file) < 4096 else "page")
        save_to = str((Path(arguments.output_dir) / (name + SUFFIXES[arguments.format])).resolve())
    return OcrRequest(
        image=_absolute(file),
        **reading_fields(arguments),
        boxes="lines" if arguments.format == "json" else "none",
        raw=arguments.format == "json",
        max_chars=0,
        save_to=save_to,
        overwrite=arguments.overwrite,
    )


def _absolute(file: str) -> str:
    """A shell's user means the folder that the shell is in; anything that is no path stays as it is."""
    if file.startswith(("file:", "data:", "http:", "https:", "~")):
        return file
    return os.path.abspath(file)


def _formatted(answer: Answer, kind: str) -> str:
    if kind == "json":
        data = well_formed_values(answer.result.model_dump(mode="json", exclude_none=True))
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    return well_formed(answer.result.text) + "\n" if answer.result.text else ""

"""The engines by name. A new engine is one file in this package and one line in `KNOWN`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from ..errors import BadRequest
from ..modes import MODES

__all__ = ["KNOWN", "EngineSpec", "choose_engine", "missing_packages"]


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What the parent knows of an engine without importing it."""

    name: str
    target: str
    """`package.module:Class`, imported by the child only."""
    modes: frozenset[str]
    gpu_mb: int = 0
    """MiB it needs on a card to load and read; 0 for an engine that runs on the CPU."""
    batch_pages: int = 1
    """Pages read under one hold of the inference lock."""
    needs: tuple[str, ...] = ()
    """Modules that must be installed."""


KNOWN: Final[dict[str, EngineSpec]] = {
    spec.name: spec
    for spec in (
        EngineSpec(
            "rapidocr",
            "deepseek_ocr_mcp.engines.rapidocr:RapidOcrEngine",
            frozenset({"document", "ocr", "free", "find"}),
            needs=("rapidocr", "onnxruntime"),
        ),
    )
}

DEFAULT: Final = "rapidocr"


def choose_engine(name: str) -> tuple[EngineSpec, str]:
    """The engine that `OCR_ENGINE` names, and a sentence that says why.

    `auto` takes the embedded engine; `package.module:Class` an engine of the user's own.

    Raises:
        BadRequest: nothing is known by that name.
    """
    if name == "auto":
        return KNOWN[DEFAULT], "OCR_ENGINE is auto: the embedded engine runs on every machine."
    if name in KNOWN:
        return KNOWN[name], f"OCR_ENGINE={name}."
    module, _, cls = name.partition(":")
    if module and cls.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        return EngineSpec(cls, name, frozenset(MODES)), f"OCR_ENGINE={name}."
    raise BadRequest(
        f"OCR_ENGINE={name!r} names no engine.",
        remedy=f"Set it to auto, {', '.join(sorted(KNOWN))}, or package.module:Class of your own.",
    )


def missing_packages(spec: EngineSpec) -> list[str]:
    """The modules that this engine needs and that are not installed. Imports none of them."""
    return [name for name in spec.needs if find_spec(name) is None]

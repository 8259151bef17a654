"""An MCP server that gives AI agents real OCR and shares a GPU politely. Importing it costs nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import Settings
    from .errors import OcrError
    from .models import OcrRequest, OcrResult
    from .service.service import OcrService

__version__ = "0.1.0"

__all__ = ["OcrError", "OcrRequest", "OcrResult", "OcrService", "Settings", "__version__"]

_HOME = {
    "OcrError": "errors",
    "OcrRequest": "models",
    "OcrResult": "models",
    "OcrService": "service.service",
    "Settings": "config",
}


def __getattr__(name: str) -> object:
    # Lazy: a worker child imports this package first and must not pay for pydantic.
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

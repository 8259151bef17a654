"""What every test shares: the event loop, and children that find the fault engines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's own shell, and `faults:…` importable in children."""
    for name in list(os.environ):
        if name.startswith(("OCR_", "GPU_")) or name in ("HOST", "PORT"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(TESTS / "engines"))

"""What every test shares: the event loop, and children that find the fault engines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FAULT_SETTINGS = "FAULTS,EAGER_NOTE"  # what fault engines are told


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def fault_engines() -> Iterator[None]:
    """`faults:…` is importable in children, those of a module's fixtures too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS / "engines"))
        patch.setenv("OCR_WORKER_ENV", FAULT_SETTINGS)
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's own shell."""
    for name in list(os.environ):
        if name.startswith(("OCR_", "GPU_")) or name in ("HOST", "PORT"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OCR_WORKER_ENV", FAULT_SETTINGS)

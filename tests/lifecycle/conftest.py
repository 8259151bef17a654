"""The lifecycle is tested on virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from virtual_time import inline_threads, virtual_time


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_time()


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    inline_threads(monkeypatch)

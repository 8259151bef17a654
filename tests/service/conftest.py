"""What the service is made of is tested on virtual time, without a child process."""

from __future__ import annotations

from typing import Any

import pytest

from virtual_time import inline_threads, virtual_time


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return virtual_time()


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    inline_threads(monkeypatch)

"""What the tests of models share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def quiet_torch() -> Iterator[None]:
    """PyTorch on one thread, and collections that look at a test's own objects only."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # more only get in each other's way with a model of this size
    gc.collect()
    gc.freeze()  # or each collection, and the engine asks for some, goes through all that was imported
    yield
    gc.unfreeze()
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def ample_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine seems to have memory to spare: how many pages fit at once must not depend on who else runs on it."""
    monkeypatch.setattr("deepseek_ocr_mcp.engines.deepseek.host_memory.free_bytes", lambda: 64 << 30)

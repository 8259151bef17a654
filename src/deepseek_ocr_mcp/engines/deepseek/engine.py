"""DeepSeek-OCR, v1 and v2, in this process, with transformers' own classes; see `checkpoint` for what is refused.

The weights are in a folder that the environment variable OCR_MODEL_PATH names; the parent finds or fetches it.
Nothing of torch is imported before `load()`. Numbers: bfloat16 on a GPU, float32 on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch

from ...errors import EngineUnavailable, GpuLost
from ..base import CPU, Call, PageImage, PageText, ReadOptions
from ..cores import usable_cores
from ..markup import page_text
from .checkpoint import read_checkpoint
from .generate import ModelReader
from .weights import ParkedModel

__all__ = ["MODEL_PATH", "DeepSeekEngine"]


MODEL_PATH: Final = "OCR_MODEL_PATH"
"""Environment variable: the checkpoint's folder."""


class DeepSeekEngine:
    """See `engines.base.Engine`."""

    def __init__(self) -> None:
        self._weights: Any = None
        self._reader: Any = None

    def __repr__(self) -> str:
        return f"<DeepSeekEngine {self._weights.device if self._weights else 'not loaded'}>"

    def prewarm(self) -> None:
        """Nothing is left to do: importing this module imported torch, transformers and the model code."""

    def load(self, device: str, call: Call) -> dict[str, Any]:
        """Read the checkpoint and place it on `device`, `cuda` or `cpu`.

        Raises:
            EngineUnavailable: packages, the folder or some of its weights are missing.
        """
        path = os.environ.get(MODEL_PATH, "")
        if not path:
            raise EngineUnavailable(
                "There are no weights of DeepSeek-OCR here.", remedy="Run deepseek-ocr-mcp download."
            )
        call.progress(0.0, "importing torch and transformers")
        checkpoint = read_checkpoint(path)
        call.raise_if_cancelled()
        if device == CPU:
            torch.set_num_threads(usable_cores())
        call.progress(0.3, "reading the weights (the first time they are converted, which takes half a minute)")
        self._weights = ParkedModel.open(checkpoint, torch.float32 if device == CPU else torch.bfloat16)
        call.raise_if_cancelled()
        call.progress(0.8, f"placing the weights on {device}")
        with _losses_told():
            self._weights.place(device)
        self._reader = ModelReader(checkpoint, self._weights.model)
        name = "DeepSeek-OCR" if checkpoint.kind == "v1" else "DeepSeek-OCR-2"
        return {"model": f"{name} ({Path(path).name})", "notes": list(self._weights.notes)}

    def offload(self) -> None:
        """Take the weights off the GPU."""
        with _losses_told():
            self._weights.park()

    def restore(self, device: str) -> None:
        """Put the weights back on `device`."""
        with _losses_told():
            self._weights.place(device)

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        """See `generate.Reader.read` for what may be raised."""
        with _losses_told():
            answers = self._reader.read(pages, options, call)
        return [
            page_text(page, options, written.text, written.finish, len(written.tokens))
            for page, written in zip(pages, answers, strict=True)
        ]


@contextmanager
def _losses_told() -> Iterator[None]:
    """A CUDA error that is not about memory poisons the process: nothing on the card works any more."""
    try:
        yield
    except RuntimeError as exc:
        said = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
        lost = isinstance(exc, torch.AcceleratorError) or "CUDA error" in said or "CUDA driver error" in said
        if not lost or isinstance(exc, torch.OutOfMemoryError):
            raise
        raise GpuLost(
            f"The card failed: {said}",
            remedy="See nvidia-smi, and dmesg for an Xid; OCR_GPU can name another card. Send the page again.",
        ) from exc

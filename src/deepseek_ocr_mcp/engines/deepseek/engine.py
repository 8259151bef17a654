"""Vision-language models in this process, with transformers' own classes; see `vision_models` for which.

The weights are in a folder that the environment variable OCR_MODEL_PATH names; the parent finds or fetches it.
`open()` does all that needs no card and calls nothing of CUDA's: whoever opened the weights can still be sent to any
card. Numbers: bfloat16 on a GPU, float32 on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ...errors import EngineUnavailable, GpuBusy, GpuLost
from ...gpu.causes import card_not_compiled_for, cause_of_cuda_error
from ...install import extra_command
from ...modes import MODES
from ..base import CPU, Call, PageImage, PageText, ReadOptions
from ..cores import usable_cores
from ..grounding import parse_page
from ..markup import page_text
from ..vision_models import VISION_MODELS

# torch asks NVML whether there is a card, not CUDA: CUDA reads CUDA_VISIBLE_DEVICES once, and must read ours.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
try:
    import torch
    import transformers
except ImportError as exc:
    raise EngineUnavailable(
        f"DeepSeek-OCR needs torch and transformers 5.24: {exc}.",
        remedy=f"Run: {extra_command('gpu')}",
    ) from exc

from .checkpoint import Checkpoint, read_checkpoint
from .experts import use_recordable_experts
from .generate import ModelReader, Written
from .shortage import first_line, is_out_of_memory
from .slots import Slots
from .weights import ParkedModel

__all__ = ["MODEL_PATH", "DeepSeekEngine"]

MODEL_PATH: Final = "OCR_MODEL_PATH"
"""Environment variable: the checkpoint's folder."""
PARK: Final = "OCR_PARK"
"""Environment variable: `resident` keeps a copy of the weights in host memory that is locked for the card."""
RECORD: Final = "OCR_RECORD_STEPS"
"""Environment variable: `off` in a worker whose forerunner failed to record a decode step."""


class DeepSeekEngine:
    """See `engines.base.Engine`."""

    def __init__(self) -> None:
        self._checkpoint: Checkpoint | None = None
        self._weights: ParkedModel | None = None
        self._reader: ModelReader | None = None

    def __repr__(self) -> str:
        return f"<DeepSeekEngine {self._weights.device if self._weights else 'not loaded'}>"

    def prewarm(self) -> None:
        """Import the model classes too: with torch's compiler, which they pull in, as long again as torch itself."""
        for row in VISION_MODELS:  # the first takes nearly all of the time
            getattr(transformers, row.model_class)
            getattr(transformers, row.image_processor or row.model_class)

    def load(self, device: str, call: Call) -> dict[str, Any]:
        """Read the checkpoint and place it on `device`, `cuda` or `cpu`.

        Raises:
            EngineUnavailable: the folder or some of its weights are missing, or torch cannot use this card.
            GpuBusy: the card has no room.
        """
        if device != CPU:
            _start_cuda()  # before half a minute goes into weights that no card could take
        facts = self.open(device, call)
        call.raise_if_cancelled()
        call.progress(0.8, f"placing the weights on {device}")
        self.restore(device)
        return facts

    def open(self, device: str, call: Call) -> dict[str, Any]:
        """Map the weights and build the model; calls nothing of CUDA's. `restore` places them.

        Args:
            device: the kind of device that they will be placed on, `cuda` or `cpu`.

        Raises:
            EngineUnavailable: the folder or some of its weights are missing.
        """
        path = os.environ.get(MODEL_PATH, "")
        if not path:
            raise EngineUnavailable(
                "There are no weights of a vision-language model here.", remedy="Run deepseek-ocr-mcp download."
            )
        call.progress(0.1, "importing the model")
        checkpoint = read_checkpoint(path)
        if device == CPU:
            torch.set_num_threads(usable_cores())
        call.raise_if_cancelled()
        call.progress(0.3, "reading the weights (the first time they are converted, which takes half a minute)")
        dtype = torch.float32 if device == CPU else torch.bfloat16
        self._weights = ParkedModel.open(checkpoint, dtype, locked=os.environ.get(PARK) == "resident")
        if device != CPU and checkpoint.kind != "native":  # the others have no experts
            use_recordable_experts(self._weights.model)
        Slots.recordable = os.environ.get(RECORD) != "off"
        self._reader = ModelReader(checkpoint, self._weights.model)
        self._checkpoint = checkpoint
        return {"model": f"{checkpoint.row.name} ({Path(path).name})", "notes": list(self._weights.notes)}

    def offload(self) -> None:
        """Take the weights off the GPU."""
        assert self._weights is not None
        with _losses_translated():
            self._weights.park()

    def restore(self, device: str) -> None:
        """Put the weights on `device`.

        Raises:
            EngineUnavailable: torch cannot use this card.
            GpuBusy: the card has no room.
        """
        assert self._weights is not None
        if device != CPU:
            _start_cuda()
        with _losses_translated():
            self._weights.place(device)

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        """See `engines.base.Engine.read`; `generate.ModelReader.read` says what may be raised."""
        assert self._reader is not None
        texts: dict[int, PageText] = {}

        def finished(number: int, page: PageImage, written: Written) -> None:
            texts[number] = self._text(page, written, options)
            call.finished(number, texts[number])

        with _losses_translated():
            self._reader.read(pages, options, call, on_written=finished)
        return [texts[number] for number in range(len(texts))]

    def _text(self, page: PageImage, written: Written, options: ReadOptions) -> PageText:
        """The text and the blocks of what the model wrote."""
        assert self._checkpoint is not None
        row = self._checkpoint.row
        if row.markup == "deepseek":
            text = page_text(page, options, written.text, written.finish, len(written.tokens))
        else:
            is_markdown = MODES[options.mode].is_markdown
            text = parse_page(row.markup, page, written.text, written.finish, is_markdown=is_markdown)
        return replace(text, remark=row.remarks.get(options.mode, ""), tokens=len(written.tokens))

    @property
    def spoiled(self) -> str:
        """Why this process is to be replaced after the pages that it has just read; empty: it is sound."""
        return Slots.spoiled


def _start_cuda() -> None:
    """Create the context on the card that the environment names, and see whether torch can compute there.

    Raises:
        EngineUnavailable: it cannot; the message is from the table in `gpu.causes`.
        GpuBusy: there is no room for the context.
    """
    if torch.cuda.is_initialized():
        return
    try:
        torch.cuda.init()
        capability = torch.cuda.get_device_capability()
        cause = card_not_compiled_for(capability, torch.cuda.get_arch_list(), torch.__version__)
        if cause is None:
            torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError) as exc:  # the latter: torch without CUDA
        if is_out_of_memory(exc):
            raise GpuBusy(
                f"The card has no room for a CUDA context: {first_line(exc)}.",
                remedy="Wait until other programs leave the card, or choose another with OCR_GPU.",
            ) from exc
        cause = cause_of_cuda_error(str(exc))
        if cause is None:
            raise _lost(exc) from exc
    if cause is not None:
        raise EngineUnavailable(cause.message, remedy=cause.remedy)


@contextmanager
def _losses_translated() -> Iterator[None]:
    """A CUDA error that is not about memory poisons the process: nothing on the card works any more."""
    try:
        yield
    except RuntimeError as exc:
        text = first_line(exc)
        lost = isinstance(exc, torch.AcceleratorError) or "CUDA error" in text or "CUDA driver error" in text
        if not lost or is_out_of_memory(exc):
            raise
        raise _lost(exc) from exc


def _lost(exc: BaseException) -> GpuLost:
    return GpuLost(
        f"The card failed: {first_line(exc)}.",
        remedy="See nvidia-smi, and dmesg for an Xid; OCR_GPU can name another card. Send the page again.",
    )

"""Tells a lack of memory from every other error of torch, in all the words that torch has for it."""

from __future__ import annotations

from typing import Final

import torch

__all__ = ["first_line", "is_out_of_memory"]

NO_MEMORY: Final = (
    "can't allocate memory",
    "not enough memory",
    "CUDA error: out of memory",  # an AcceleratorError: of a context, a graph or a locked buffer
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # its handle takes memory, and these are its words when there is none
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""How torch says it where it does not raise `torch.OutOfMemoryError`."""


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether an error of torch says that the memory of the card, or of the host, is too small."""
    return isinstance(exc, torch.OutOfMemoryError) or any(words in str(exc) for words in NO_MEMORY)


def first_line(exc: BaseException) -> str:
    """The first line of an exception's message, without a full stop; its class where it has none."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0].rstrip(".")

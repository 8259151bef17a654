"""Reads the header of a safetensors file: 8 bytes of length, little-endian, then JSON, then the tensors.

Standard library only: the parent looks at weights with it too.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["LIMIT", "Header", "read_header"]

LIMIT: Final = 100_000_000  # bytes of a header; what the format allows


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself."""

    text: bytes
    """The JSON, as it stands in the file."""
    metadata: dict[str, str]
    tensors: dict[str, dict[str, Any]]
    """`{name: {"dtype": …, "shape": […], "data_offsets": [begin, end]}}`, in bytes from `begin`."""
    begin: int
    """The place of the tensors in the file, in bytes."""
    nbytes: int
    """The bytes of the tensors."""
    is_whole: bool
    """Whether the file is exactly as long as its header says."""


def read_header(file: Path) -> Header:
    """The header of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no safetensors file.
    """
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(LIMIT, size - 8):
            raise ValueError(f"{file} has no header of a length that can be")
        text = stream.read(length)
    try:
        tensors = json.loads(text)
        metadata = tensors.pop("__metadata__", {})
        nbytes = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as exc:
        raise ValueError(f"{file} has a header of another form") from exc
    return Header(text, metadata, tensors, 8 + length, nbytes, size == 8 + length + nbytes)

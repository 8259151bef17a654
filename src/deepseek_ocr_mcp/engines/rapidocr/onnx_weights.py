"""Reads an ONNX file with its weakest weights set to zero; the result stands for the same model.

Weights below 1.2e-38 have no normal float: processors take up to a hundred times as long for each.
A quarter of a million of them, in two layers, cost PP-OCRv6's detector two thirds of its time.
onnxruntime can flush them (`session.set_denormal_as_zero`), but only by changing how the whole
thread that calls it computes. Standard library and numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

__all__ = ["without_subnormals"]


# Field numbers of onnx.proto: ModelProto.graph, GraphProto.initializer, TensorProto.data_type and raw_data.
WEIGHTS: Final = (7, 5)
DATA_TYPE: Final = 2
RAW_DATA: Final = 9
FLOAT32: Final = 1
# Wire types of protocol buffers.
NUMBER: Final = 0
EIGHT_BYTES: Final = 1
BYTES: Final = 2


def without_subnormals(model: Path) -> bytes:
    """The bytes of `model`, with every float32 weight that is not zero and not normal made zero."""
    data = bytearray(model.read_bytes())
    smallest = np.finfo(np.float32).smallest_normal
    for start, stop in _raw_weights(data, 0, len(data), WEIGHTS):
        weights = np.frombuffer(data, "<f4", (stop - start) // 4, start)
        weights[np.abs(weights) < smallest] = 0
    return bytes(data)


def _raw_weights(data: bytearray, start: int, stop: int, path: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Where the raw float32 data are in the message from `start` to `stop`; `path` leads to its tensors."""
    numbers: dict[int, int] = {}
    for field, kind, begin, end in _fields(data, start, stop):
        if path and (field, kind) == (path[0], BYTES):
            yield from _raw_weights(data, begin, end, path[1:])
        elif kind == NUMBER:
            numbers[field] = _number(data, begin)[0]
        elif not path and field == RAW_DATA and numbers.get(DATA_TYPE) == FLOAT32:
            yield begin, end


def _fields(data: bytearray, at: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message: number, wire type, and where the value begins and ends."""
    while at < stop:
        key, at = _number(data, at)
        kind = key & 7
        if kind == NUMBER:
            end = _number(data, at)[1]
        elif kind == BYTES:
            size, at = _number(data, at)
            end = at + size
        else:
            end = at + (8 if kind == EIGHT_BYTES else 4)
        yield key >> 3, kind, at, end
        at = end


def _number(data: bytearray, at: int) -> tuple[int, int]:
    """The number of variable length at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at

"""Weights too small for a normal float, in a file written by hand and in the one that ships."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from deepseek_ocr_mcp.engines.rapidocr.onnx_weights import without_subnormals

SUBNORMAL = 1e-40
WEIGHTS = np.array([1.5, SUBNORMAL, 0, -SUBNORMAL, -2e-38, 3], np.float32)


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """A protocol buffer of numbers and bytes."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def test_subnormal_weights_become_zero_and_all_else_stays(tmp_path: Path) -> None:
    def model(floats: np.ndarray) -> bytes:
        counts = np.arange(6, dtype=np.int64)  # as floats these would be subnormal
        tensors = [message((1, 3), (2, 7), (9, counts.tobytes())), message((1, 6), (2, 1), (9, floats.tobytes()))]
        graph = message((2, b"x" * 300), *((5, tensor) for tensor in tensors))
        return message((1, 8), (7, graph)) + varint(20 << 3 | 1) + b"eight by" + varint(21 << 3 | 5) + b"four"

    path = tmp_path / "model.onnx"
    path.write_bytes(model(WEIGHTS))
    assert without_subnormals(path) == model(np.array([1.5, 0, 0, 0, -2e-38, 3], np.float32))


def test_the_shipped_detector_still_says_the_same() -> None:
    spec = find_spec("rapidocr")
    if spec is None or spec.origin is None:
        pytest.skip("rapidocr is not installed")
    [path] = (Path(spec.origin).parent / "models").glob("PP-OCR*_det_*.onnx")
    pixels = np.random.default_rng(1).uniform(-1, 1, (1, 3, 64, 96)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": pixels})[0]
        for model in (str(path), without_subnormals(path))
    )
    assert after == pytest.approx(before, abs=1e-6)

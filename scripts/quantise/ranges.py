"""Finds the range of values that each tensor of a float model has on drawn pages, and the scale that suits it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from floats import Graph
from integers import Scale
from numpy.typing import NDArray
from onnx import helper

__all__ = ["Histogram", "best_scale", "histograms", "upstream"]

BINS: Final = 4096
STRIDE: Final = 5  # every so many values are counted; neighbours tell the same
SHARES: Final = tuple(np.linspace(1.0, 0.2, 41))  # of a range: what is tried instead of all of it


class Histogram:
    """How often each value was seen between the least and the most."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = min(low, 0.0), max(high, 0.0)
        self.counts = np.zeros(BINS, np.int64)

    def count(self, values: NDArray[np.float32]) -> None:
        places = ((values - self.low) * (BINS / max(self.high - self.low, 1e-6))).astype(np.int32)
        self.counts += np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS)

    @property
    def centres(self) -> NDArray[np.float64]:
        """The value in the middle of each bin."""
        return self.low + (np.arange(BINS) + 0.5) * ((self.high - self.low) / BINS)


def upstream(graph: Graph, tensor: str) -> set[str]:
    """The names of the nodes that a tensor is computed by."""
    makers = {name: node for node in graph.nodes for name in node.output}
    found: set[str] = set()
    left = [tensor]
    while left:
        node = makers.get(left.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            left += node.input
    return found


def session_with(model: onnx.ModelProto, tensors: Sequence[str]) -> Any:
    """A session of the model that gives these tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])


def histograms(
    model: onnx.ModelProto, tensors: Sequence[str], inputs: Iterable[NDArray[np.float32]]
) -> dict[str, Histogram]:
    """The values of tensors on all inputs, which are gone through twice."""
    inputs = list(inputs)
    session = session_with(model, tensors)
    lows, highs = np.zeros(len(tensors)), np.zeros(len(tensors))
    for data in inputs:
        values = session.run(None, {"x": data})
        lows = np.minimum(lows, [value.min() for value in values])
        highs = np.maximum(highs, [value.max() for value in values])
    found = {name: Histogram(low, high) for name, low, high in zip(tensors, lows, highs, strict=True)}
    for data in inputs:
        for histogram, value in zip(found.values(), session.run(None, {"x": data}), strict=True):
            histogram.count(value.ravel()[::STRIDE] if value.size > 100 * STRIDE else value.ravel())
    return found


def best_scale(histogram: Histogram, curve: Any = None, weight: float = 2.0) -> Scale:
    """The scale with the least squared error, after `curve` where the tensor goes through one."""
    centres, counts = histogram.centres, histogram.counts
    seen = counts > 0
    centres, counts = centres[seen], counts[seen]
    exact = centres if curve is None else curve(centres)
    best, least = Scale.of(histogram.low, histogram.high), np.inf
    for down in SHARES if histogram.low < 0 else (0.0,):
        for up in SHARES:
            scale = Scale.of(histogram.low * down, histogram.high * up)
            held = (np.clip(np.round(centres / scale.step) + scale.zero, 0, 255) - scale.zero) * scale.step
            error = float((np.abs((held if curve is None else curve(held)) - exact) ** weight * counts).sum())
            if error < least:
                best, least = scale, error
    return best

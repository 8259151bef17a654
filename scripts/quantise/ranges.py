"""Finds the range of values that each tensor of the float model has on drawn lines, and the scale that suits it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnx
from floats import Graph, session_of
from integers import Scale
from numpy.typing import NDArray
from onnx import NodeProto

__all__ = ["scales"]

BINS: Final = 4096
STRIDE: Final = 5  # every so many values of a large tensor are counted; neighbours tell the same
SHARES: Final = tuple(np.linspace(1.0, 0.2, 41))  # of a range: what is tried in its place
Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]


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


def scales(
    model: onnx.ModelProto, inside: Sequence[NodeProto], others: Sequence[str], inputs: Sequence[NDArray[np.float32]]
) -> dict[str, Scale]:
    """The scale of each tensor that the nodes of `inside` make, and of `others`.

    Args:
        model: in float.
        inside: the nodes that are translated.
        others: more tensors.
        inputs: on which the values are counted.
    """
    graph = Graph(model)
    tensors = [name for node in inside for name in node.output] + list(others)
    curved = {node.input[0] for node in graph.nodes if node.op_type == "Gelu"}
    found = {
        name: _best_scale(histogram, _gelu if name in curved else lambda values: values)
        for name, histogram in _histograms(model, tensors, inputs).items()
    }
    for node in inside:
        if node.op_type == "MaxPool":  # it picks among integers
            found[node.output[0]] = found[node.input[0]]
    return found


def _histograms(
    model: onnx.ModelProto, tensors: Sequence[str], inputs: Sequence[NDArray[np.float32]]
) -> dict[str, Histogram]:
    """The values of tensors on all inputs, which are gone through twice."""
    session = session_of(model, tensors)
    lows, highs = np.zeros(len(tensors)), np.zeros(len(tensors))
    for data in inputs:
        values = session.run(None, {"x": data})
        lows = np.minimum(lows, [value.min() for value in values])
        highs = np.maximum(highs, [value.max() for value in values])
    found = {name: Histogram(low, high) for name, low, high in zip(tensors, lows, highs, strict=True)}
    for data in inputs:
        for histogram, value in zip(found.values(), session.run(None, {"x": data}), strict=True):
            histogram.count(value.ravel()[:: STRIDE if value.size > 100 * STRIDE else 1])
    return found


def _best_scale(histogram: Histogram, curve: Curve) -> Scale:
    """The scale with the least squared error after `curve`, which the tensor goes through.

    To cut off the largest values may cost less than to hold all others more coarsely. What a Gelu makes nothing of
    needs no values at all.
    """
    seen = histogram.counts > 0
    centres, counts = histogram.centres[seen], histogram.counts[seen]
    exact = curve(centres)
    best, least = Scale.covering(histogram.low, histogram.high), np.inf
    for down in SHARES if histogram.low < 0 else (0.0,):
        for up in SHARES:
            scale = Scale.covering(histogram.low * down, histogram.high * up)
            error = float(((curve(scale.rounded(centres)) - exact) ** 2 * counts).sum())
            if error < least:
                best, least = scale, error
    return best


def _gelu(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The approximation with tanh: off by less than 0.0005."""
    curved: Any = np.tanh(np.sqrt(2 / np.pi) * (values + 0.044715 * values**3))
    return np.asarray(values * (1 + curved) / 2)

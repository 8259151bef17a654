"""Brings the channels of a tensor to like sizes, without a change of what the model computes.

All channels of a tensor share one scale in integers. Where one channel reaches 40 and another 0.5, the small one has
three of 256 values. Between two convolutions, each channel may be multiplied by any number, if the weights that
take it are divided by that number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx
from floats import Graph, session_of
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

__all__ = ["with_even_channels"]

LINEAR: Final = frozenset({"Add", "AveragePool", "MaxPool", "ReduceMean", "Relu"})
"""Operators whose result is so many times as large where all that they take is."""
MOST: Final = 64.0  # times: how much a channel is enlarged at most; a dead one would be enlarged without end
STRENGTH: Final = 0.5
"""0 leaves the channels as they are, 1 makes all of a tensor equally large and spreads the weights most.

Tuned on 1,500 lines: the probability of a character moves by 0.0114 on the shared corpus and by 0.0058 on numbers at
0.5, by 0.0139 and 0.0080 at 0, by 0.0148 and 0.0104 at 0.75.
"""


def with_even_channels(
    model: onnx.ModelProto, inside: Sequence[NodeProto], inputs: Sequence[NDArray[np.float32]]
) -> onnx.ModelProto:
    """The same function with other weights, in which the channels of each tensor are of more even sizes.

    Args:
        model: in float.
        inside: the nodes whose tensors count.
        inputs: on which the sizes are measured.
    """
    graph = Graph(model)
    sizes = _sizes(model, [name for node in inside for name in node.output], inputs)
    weights = dict(graph.weights)
    for group in _groups(graph, inside):
        makers = [node for node in inside if node.output[0] in group and node.op_type == "Conv"]
        takers = [node for node in graph.nodes if node.op_type == "Conv" and node.input[0] in group]
        if not makers or not takers or not _is_closed(graph, group):
            continue
        shares = [sizes[tensor] / sizes[tensor].max() for tensor in sorted(group) if tensor in sizes]
        size = np.maximum(np.max(shares, axis=0), 1 / MOST)
        factors = (size.max() / size) ** STRENGTH
        for node in makers:
            for name in node.input[1:]:
                weights[name] = _multiplied(weights[name], factors, 0)
        for node in takers:
            name = node.input[1]
            depthwise = weights[name].shape[:2] == (len(factors), 1)
            weights[name] = _multiplied(weights[name], 1 / factors, 0 if depthwise else 1)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.initializer[:]
    result.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return result


def _sizes(
    model: onnx.ModelProto, tensors: Sequence[str], inputs: Sequence[NDArray[np.float32]]
) -> dict[str, NDArray[np.float64]]:
    """How large each channel is: its largest value on an input, the sum over all inputs."""
    session = session_of(model, tensors)
    sums: dict[str, NDArray[np.float64]] = {}
    for data in inputs:
        for name, value in zip(tensors, session.run(None, {"x": data}), strict=True):
            sums[name] = sums.get(name, 0) + np.abs(value).max(axis=(0, 2, 3)).astype(np.float64)
    return sums


def _multiplied(weights: NDArray[np.float32], factors: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    shape = [1] * weights.ndim
    shape[axis] = -1
    return np.asarray(weights * factors.reshape(shape), np.float32)


def _groups(graph: Graph, inside: Sequence[NodeProto]) -> list[set[str]]:
    """Tensors that have to be multiplied by the same factors."""
    groups: list[set[str]] = [{node.output[0]} for node in inside]
    for node in graph.nodes:
        if node.op_type in LINEAR or node.op_type == "Mul":
            # The second factor of a product is the gate of its channels, between 0 and 1.
            ends = {node.input[0], node.output[0]} | ({node.input[1]} if node.op_type == "Add" else set())
            joined = [group for group in groups if group & ends]
            groups = [group for group in groups if not group & ends] + [ends.union(*joined)]
    return groups


def _is_closed(graph: Graph, group: set[str]) -> bool:
    """Whether only convolutions make a group of tensors and take them."""
    made = {name for node in graph.nodes for name in node.output}
    if not group <= made or graph.output in group:
        return False
    for node in graph.nodes:
        if node.output[0] in group or not group.isdisjoint(node.input):
            product = node.op_type == "Mul" and node.input[0] in group and node.input[1] not in group
            if not (product or node.op_type == "Conv" or node.op_type in LINEAR):
                return False
    return True

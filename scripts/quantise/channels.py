"""Brings the channels of a tensor to like sizes, without changing what the model computes.

All channels of a tensor share one scale in integers. Where one channel reaches 40 and another 0.5, the small one is left
with three of 256 values. Between two convolutions, each channel may be multiplied by any number, if the weights that
take it are divided by that number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import onnx
from floats import Graph
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper
from ranges import session_with

__all__ = ["channel_sizes", "with_even_channels"]

LINEAR: Final = {"Add", "AveragePool", "GlobalAveragePool", "MaxPool", "ReduceMean", "Relu", "Resize"}
"""Operators whose result is so many times as large where all that they take is."""
MOST: Final = 64.0  # times: how much a channel is enlarged at most; a dead one would be enlarged without end


def channel_sizes(
    model: onnx.ModelProto, tensors: Sequence[str], inputs: Iterable[NDArray[np.float32]]
) -> dict[str, NDArray[np.float64]]:
    """How large each channel of some tensors is: its largest value on an input, the mean over all inputs."""
    session = session_with(model, tensors)
    sums: dict[str, NDArray[np.float64]] = {}
    for data in inputs:
        for name, value in zip(tensors, session.run(None, {"x": data}), strict=True):
            sums[name] = sums.get(name, 0) + np.abs(value).max(axis=(0, 2, 3)).astype(np.float64)
    return sums


def with_even_channels(
    model: onnx.ModelProto, inside: set[str], sizes: dict[str, NDArray[np.float64]], strength: float
) -> onnx.ModelProto:
    """The same function with other weights, in which the channels of each tensor are of more even sizes.

    Args:
        strength: 0 changes nothing, 1 makes all channels of a tensor equally large.
    """
    graph = Graph(model)
    nodes = [node for node in graph.nodes if node.name in inside]
    weights = dict(graph.weights)
    for group in _groups(graph, nodes):
        makers = [node for node in nodes if node.output[0] in group and node.op_type == "Conv"]
        takers = [node for node in graph.nodes if node.op_type == "Conv" and node.input[0] in group]
        if not makers or not takers or not _is_closed(graph, group, nodes):
            continue
        known = [sizes[tensor] / sizes[tensor].max() for tensor in sorted(group) if tensor in sizes]
        size = np.maximum(np.max(known, axis=0), 1 / MOST)
        factors = (size.max() / size) ** strength
        for node in makers:
            for name in node.input[1:]:
                weights[name] = _multiplied(weights[name], factors, 0)
        for node in takers:
            by_group = weights[node.input[1]].shape[1] == 1 and weights[node.input[1]].shape[0] == len(factors)
            weights[node.input[1]] = _multiplied(weights[node.input[1]], 1 / factors, 0 if by_group else 1)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.initializer[:]
    result.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return result


def _multiplied(weights: NDArray[np.float32], factors: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    shape = [1] * weights.ndim
    shape[axis] = -1
    return np.asarray(weights * factors.reshape(shape), np.float32)


def _groups(graph: Graph, nodes: list[NodeProto]) -> list[set[str]]:
    """Tensors that have to be multiplied by the same factors."""
    groups: list[set[str]] = [{node.output[0]} for node in nodes]
    for node in graph.nodes:
        if node.op_type in LINEAR or node.op_type == "Mul":
            # The second factor of a product is the gate of its channels, between 0 and 1.
            ends = {node.input[0], node.output[0]} | ({node.input[1]} if node.op_type == "Add" else set())
            joined = [group for group in groups if group & ends]
            groups = [group for group in groups if not group & ends] + [ends.union(*joined)]
    return groups


def _is_closed(graph: Graph, group: set[str], nodes: list[NodeProto]) -> bool:
    """Whether only convolutions make and take a group of tensors."""
    for node in graph.nodes:
        within = node.op_type in LINEAR or (node.op_type == "Mul" and node.input[0] in group)
        if node.output[0] in group and not (within or node.op_type == "Conv"):
            return False
        if any(tensor in group for tensor in node.input) and not (within or node.op_type == "Conv"):
            return False
        if node.op_type == "Mul" and node.input[1] in group:
            return False
    made = {node.output[0] for node in graph.nodes}
    return all(tensor in made for tensor in group) and graph.output not in group

"""Translates the convolutions of the recogniser, and what lies between them, into 8-bit integers.

The translation writes the operators that onnxruntime runs (`QLinearConv` with the channels last, and the like) and not
pairs of QuantizeLinear and DequantizeLinear. So nothing is left to what a release of onnxruntime makes of such pairs,
and a session starts sooner.

Activations are uint8 with one scale for each tensor, weights int8 with one scale for each output channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from floats import MICROSOFT, OPSET, Graph
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["Scale", "translated"]

PIXELS: Final = "x"  # the input
TO_PLANES: Final = (0, 3, 1, 2)  # the order of axes in float; integers have the channels last
MOST_BIAS: Final = 1 << 30  # of a bias in int32, which leaves as much for the products
SHARES: Final = tuple(np.linspace(1.0, 0.8, 9))  # of the largest weight of a channel: what is tried as the largest


@dataclass(frozen=True, slots=True)
class Scale:
    """How a tensor is held in uint8: `value = step * (integer - zero)`."""

    step: float
    zero: int

    @classmethod
    def covering(cls, low: float, high: float) -> Scale:
        """The scale that covers a range and 0, which is exact."""
        low, high = min(low, 0.0), max(high, 0.0)
        step = float(np.float32(max(high - low, 1e-6) / 255))
        return cls(step, int(np.clip(round(-low / step), 0, 255)))

    def rounded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values as they come back from uint8."""
        held = np.clip(np.round(values / self.step) + self.zero, 0, 255)
        return np.asarray((held - self.zero) * self.step)


PIXEL_SCALE: Final = Scale(1 / 127.5, 127)
"""Of the input. Grey is 127.5, which no integer is: the first convolution makes up for the half."""


@dataclass
class _Writer:
    """The integer model that is being written."""

    graph: Graph
    scales: dict[str, Scale]
    nodes: list[NodeProto] = field(default_factory=list)
    weights: dict[str, TensorProto] = field(default_factory=dict)
    integers: dict[str, str] = field(default_factory=lambda: {PIXELS: PIXELS})
    """The uint8 tensor, channels last, of each float tensor that has one."""
    values: dict[str, str] = field(default_factory=dict)
    """The float tensor, channels last, of each uint8 one that has been made."""
    planes: set[str] = field(default_factory=set)
    """The float tensors that were made for the rest of the graph."""

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.weights.setdefault(name, numpy_helper.from_array(value, name))
        return name

    def scale(self, tensor: str) -> list[str]:
        """The names of the step and the zero of a tensor."""
        scale = self.scales[tensor]
        return [
            self.constant(f"{tensor}:step", np.float32(scale.step).reshape(())),
            self.constant(f"{tensor}:zero", np.uint8(scale.zero).reshape(())),
        ]

    def scaled(self, tensor: str) -> list[str]:
        """The names of a uint8 tensor, its step and its zero: three inputs of many operators."""
        return [self.integers[tensor], *self.scale(tensor)]

    def add(self, kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Add a node; returns its output."""
        node = helper.make_node(kind, list(inputs), [output], f"{kind} {output}", domain=domain, **attributes)
        self.nodes.append(node)
        return output

    def make(self, tensor: str, kind: str, inputs: Sequence[str], domain: str = MICROSOFT, **attributes: Any) -> None:
        """Add a node that makes the uint8 tensor of a float one."""
        self.integers[tensor] = self.add(kind, inputs, f"{tensor}:u8", domain, **attributes)

    def value(self, tensor: str) -> str:
        """The float tensor of a uint8 one, channels last."""
        if tensor not in self.values:
            self.values[tensor] = self.add("DequantizeLinear", self.scaled(tensor), f"{tensor}:f32")
        return self.values[tensor]

    def as_planes(self, tensor: str) -> None:
        """Make the float tensor of a uint8 one, as the rest of the graph takes it."""
        if tensor in self.integers and tensor not in self.planes:
            self.planes.add(tensor)
            self.add("Transpose", [self.value(tensor)], tensor, perm=TO_PLANES)


def translated(model: onnx.ModelProto, inside: Sequence[NodeProto], scales: dict[str, Scale]) -> onnx.ModelProto:
    """The model with the nodes of `inside`, and its last product with weights, in integers.

    It takes pixels as they are (`1 * height * width * 3`, uint8, RGB) where the float model takes
    `1 * 3 * height * width`, BGR, -1 to 1. The Softmax at the end is left out: who wants the probability of the best of
    18,710 characters needs it for one step in three.

    Args:
        scales: of every tensor that the nodes of `inside` and the last product take and make.
    """
    graph = Graph(model)
    writer = _Writer(graph, scales | {PIXELS: PIXEL_SCALE})
    names = {node.name for node in inside}
    last = [node for node in graph.nodes if node.op_type == "MatMul"][-1]
    skipped: set[str] = set()
    for node in graph.nodes:
        if node.name in skipped:
            continue
        if node.name in names:
            skipped.update(_RULES[node.op_type](writer, node))
        elif node.name == last.name:
            skipped.update(_product(writer, node))
        elif graph.output not in node.output:
            for tensor in node.input:
                writer.as_planes(tensor)
            writer.nodes.append(node)
    return _model_of(writer, model, graph.weights[last.input[1]].shape[1])


def _model_of(writer: _Writer, model: onnx.ModelProto, characters: int) -> onnx.ModelProto:
    """The model that has been written. It ends before the Softmax."""
    [softmax] = [node for node in writer.graph.nodes if writer.graph.output in node.output]
    assert softmax.op_type == "Softmax", softmax.op_type
    used = {name for node in writer.nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    pixels = helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, [1, "height", "width", 3])
    result = helper.make_tensor_value_info(softmax.input[0], TensorProto.FLOAT, [1, "steps", characters])
    graph = helper.make_graph(writer.nodes, model.graph.name, [pixels], [result], kept + list(writer.weights.values()))
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    whole = helper.make_model(graph, opset_imports=opsets, producer_name="scripts/quantise")
    whole.ir_version = 8  # of opset 17
    whole.metadata_props.extend(model.metadata_props)
    return whole


def _rounded(
    weights: NDArray[np.float32], axis: int, least: NDArray[np.float64] | float = 0.0
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights in int8 and the step of each channel of `axis`, which is not below `least`."""
    others = tuple(n for n in range(weights.ndim) if n != axis)
    most = np.maximum(np.abs(weights).max(axis=others, keepdims=True), 1e-6)
    best, error = most / 127, np.full(most.shape, np.inf)
    for share in SHARES:
        step = most * share / 127
        off = ((np.clip(np.round(weights / step), -127, 127) * step - weights) ** 2).sum(axis=others, keepdims=True)
        best, error = np.where(off < error, step, best), np.minimum(off, error)
    shape = [1] * weights.ndim
    shape[axis] = -1
    best = np.maximum(best, np.reshape(least, shape)).astype(np.float32)
    return np.clip(np.round(weights / best), -127, 127).astype(np.int8), best.reshape(-1)


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


# -- rules: each translates a node and returns the names of those behind it that it has translated too


def _conv(writer: _Writer, node: NodeProto) -> list[str]:
    """A convolution, with the Relu behind it: a scale from 0 on cuts off what is below."""
    relu = writer.graph.only_taker(node.output[0], "Relu")
    source, target = node.input[0], relu.output[0] if relu is not None else node.output[0]
    step = writer.scales[source].step
    weights, bias = (writer.graph.weights[name] for name in node.input[1:])
    bias = bias.reshape(-1).astype(np.float64)
    if source == PIXELS:
        weights = weights[:, ::-1]  # RGB
    whole, steps = _rounded(weights, 0, np.abs(bias) / (MOST_BIAS * step))
    if source == PIXELS:
        bias = bias - step / 2 * whole.sum(axis=(1, 2, 3)) * steps
    inputs = [
        *writer.scaled(source),
        writer.constant(f"{node.name}:weights", whole),
        writer.constant(f"{node.name}:steps", steps),
        writer.constant(f"{node.name}:zeros", np.zeros(len(steps), np.int8)),
        *writer.scale(target),
        writer.constant(f"{node.name}:bias", np.round(bias / (steps.astype(np.float64) * step)).astype(np.int32)),
    ]
    writer.make(target, "QLinearConv", inputs, channels_last=1, **_attributes(node))
    return [relu.name] if relu is not None else []


def _in_float(writer: _Writer, node: NodeProto) -> list[str]:
    """A node that is computed in float, between integers."""
    target = node.output[0]
    value = writer.add(node.op_type, [writer.value(node.input[0])], f"{target}:f32", node.domain, **_attributes(node))
    writer.make(target, "QuantizeLinear", [value, *writer.scale(target)], "")
    return []


def _of_two(writer: _Writer, node: NodeProto) -> list[str]:
    target = node.output[0]
    inputs = [name for tensor in node.input for name in writer.scaled(tensor)]
    writer.make(target, f"QLinear{node.op_type}", [*inputs, *writer.scale(target)])
    return []


def _mean(writer: _Writer, node: NodeProto) -> list[str]:
    """The mean of each channel."""
    target = node.output[0]
    inputs = [*writer.scaled(node.input[0]), *writer.scale(target)]
    writer.make(target, "QLinearGlobalAveragePool", inputs, channels_last=1)
    return []


def _pool(writer: _Writer, node: NodeProto) -> list[str]:
    attributes = _attributes(node)
    attributes.pop("storage_order", None)  # of the indices, which nobody asks for
    writer.make(node.output[0], "NhwcMaxPool", [writer.integers[node.input[0]]], **attributes)
    return []


def _concat(writer: _Writer, node: NodeProto) -> list[str]:
    target = node.output[0]
    inputs = [name for tensor in node.input for name in writer.scaled(tensor)]
    writer.make(target, "QLinearConcat", [*writer.scale(target), *inputs], axis=3)
    return []


_RULES: Final[dict[str, Callable[[_Writer, NodeProto], list[str]]]] = {
    "Add": _of_two,
    "Concat": _concat,
    "Conv": _conv,
    "Gelu": _in_float,
    "HardSigmoid": _in_float,
    "MaxPool": _pool,
    "Mul": _of_two,
    "ReduceMean": _mean,
}


def _product(writer: _Writer, node: NodeProto) -> list[str]:
    """A product with weights and the bias added to it; the result is float."""
    add = writer.graph.only_taker(node.output[0], "Add")
    assert add is not None, node.name
    [bias] = [writer.graph.weights[name] for name in add.input if name in writer.graph.weights]
    whole, steps = _rounded(writer.graph.weights[node.input[1]], 1)
    source = node.input[0]
    step, zero = writer.scale(source)
    inputs = [
        writer.add("QuantizeLinear", [source, step, zero], f"{source}:u8"),
        writer.constant(f"{node.name}:weights", whole),
        step,
        writer.constant(f"{node.name}:steps", steps),
        zero,
        writer.constant(f"{node.name}:zeros", np.zeros(len(steps), np.int8)),
        writer.constant(f"{node.name}:bias", bias.astype(np.float32)),
    ]
    writer.add("MatMulIntegerToFloat", inputs, add.output[0], MICROSOFT)
    return [add.name]

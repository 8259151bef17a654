"""Translates the convolutional part of a PP-OCR model into 8-bit integers.

The translation writes the operators that onnxruntime runs (`QLinearConv` on rows of channels and the like) and not pairs
of QuantizeLinear and DequantizeLinear. So nothing is left to chance at load time, and a session starts sooner.

Activations are uint8 with one scale for each tensor, weights int8 with one scale for each output channel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from floats import MICROSOFT, OPSET, Graph
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["Scale", "translated"]

TO_ROWS: Final = (0, 2, 3, 1)  # channels last, as integers are computed
TO_PLANES: Final = (0, 3, 1, 2)
PIXELS: Final = "x"
MOST_BIAS: Final = 1 << 30  # of a bias in int32, which leaves as much for the products


@dataclass(frozen=True, slots=True)
class Scale:
    """How a tensor is held in uint8: `value = step * (integer - zero)`."""

    step: float
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> Scale:
        """The scale that covers a range, in which 0 is exact."""
        low, high = min(low, 0.0), max(high, 0.0)
        step = float(np.float32(max(high - low, 1e-6) / 255))
        return cls(step, int(np.clip(round(-low / step), 0, 255)))


PIXEL_SCALE: Final = Scale(1 / 127.5, 127)
"""Of the input. Grey is 127.5, which no integer is: the first convolution makes up for the half."""


@dataclass
class _Writer:
    """The integer model that is being written."""

    graph: Graph
    scales: dict[str, Scale]
    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)
    integers: dict[str, str] = field(default_factory=dict)
    """The uint8 tensor, channels last, of each float tensor that has one."""
    floats: dict[str, str] = field(default_factory=dict)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        if all(tensor.name != name for tensor in self.weights):
            self.weights.append(numpy_helper.from_array(value, name))
        return name

    def scale(self, tensor: str) -> list[str]:
        """The names of the step and the zero of a tensor."""
        scale = self.scales[tensor]
        return [
            self.constant(f"{tensor}:step", np.float32(scale.step).reshape(())),
            self.constant(f"{tensor}:zero", np.uint8(scale.zero).reshape(())),
        ]

    def add(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(
            helper.make_node(kind, inputs, [output], f"{kind} {output}", domain=domain, **attributes)
        )
        return output

    def depth(self, tensor: str) -> int:
        """How many channels a tensor has."""
        node = self.graph.maker(tensor)
        assert node is not None, tensor
        if node.op_type == "Conv":
            return int(self.graph.weights[node.input[1]].shape[0])
        return self.depth(node.input[0])

    def output(self) -> str:
        """The output of the model. A Softmax at the end is dropped: its largest value is where it was before."""
        if self.nodes[-1].op_type == "Softmax":
            return str(self.nodes.pop().input[0])
        return self.graph.output

    def integer(self, tensor: str) -> str:
        """The uint8 tensor of a float one; made of the float one where there is none yet."""
        if tensor not in self.integers:
            rows = self.add("Transpose", [tensor], f"{tensor}:rows", perm=TO_ROWS)
            self.integers[tensor] = self.add("QuantizeLinear", [rows, *self.scale(tensor)], f"{tensor}:u8")
        return self.integers[tensor]

    def value(self, tensor: str) -> str:
        """The float tensor of a uint8 one, channels last."""
        if f"{tensor}:rows" not in self.floats:
            self.floats[f"{tensor}:rows"] = self.add(
                "DequantizeLinear", [self.integer(tensor), *self.scale(tensor)], f"{tensor}:f32"
            )
        return self.floats[f"{tensor}:rows"]

    def convolution(
        self, name: str, source: str, target: str, weights: NDArray[Any], bias: NDArray[Any], output: str, **how: Any
    ) -> str:
        """A convolution of a uint8 tensor, on the scale of `target`."""
        step = self.scales[source].step
        if source == PIXELS:
            weights = weights[:, ::-1]
        weights, steps = rounded_weights(weights, 0, np.abs(bias) / (MOST_BIAS * step))
        if source == PIXELS:  # 127.5 is grey
            bias = bias - step / 2 * weights.sum(axis=(1, 2, 3)) * steps
        inputs = [
            self.integer(source),
            *self.scale(source),
            self.constant(f"{name}:weights", weights),
            self.constant(f"{name}:steps", steps),
            self.constant(f"{name}:zeros", np.zeros(len(steps), np.int8)),
            *self.scale(target),
            self.constant(f"{name}:bias", np.round(bias / (steps.astype(np.float64) * step)).astype(np.int32)),
        ]
        return self.add("QLinearConv", inputs, output, MICROSOFT, channels_last=1, **how)

    def product(
        self, name: str, integers: str, source: str, weights: NDArray[Any], bias: NDArray[Any], output: str
    ) -> str:
        """The float product of a uint8 tensor on the scale of `source` with weights, and a bias."""
        whole, steps = rounded_weights(weights, axis=1)
        step, zero = self.scale(source)
        inputs = [
            integers,
            self.constant(f"{name}:weights", whole),
            step,
            self.constant(f"{name}:steps", steps),
            zero,
            self.constant(f"{name}:zeros", np.zeros(len(steps), np.int8)),
            self.constant(f"{name}:bias", bias.astype(np.float32)),
        ]
        return self.add("MatMulIntegerToFloat", inputs, output, MICROSOFT)

    def planes(self, tensor: str) -> None:
        """Make the float tensor of a uint8 one, as the rest of the graph takes it."""
        if tensor == PIXELS and tensor not in self.floats:
            rows = self.add("DequantizeLinear", [PIXELS, *self.scale(PIXELS)], f"{PIXELS}:rows")
            half = self.constant(f"{PIXELS}:half", np.float32(PIXEL_SCALE.step / 2).reshape(1))
            rows = self.add("Sub", [rows, half], f"{PIXELS}:f32")
            self.floats[tensor] = self.add("Transpose", [rows], f"{PIXELS}:planes", perm=TO_PLANES)
        if tensor in self.integers and tensor not in self.floats:
            self.floats[tensor] = self.add("Transpose", [self.value(tensor)], tensor, perm=TO_PLANES)


def translated(model: onnx.ModelProto, scales: dict[str, Scale], inside: set[str]) -> onnx.ModelProto:
    """The model with the nodes named in `inside` in integers.

    It takes pixels as they are (`1 * height * width * 3`, uint8, RGB) where the float model takes
    `1 * 3 * height * width`, BGR, -1 to 1. A Softmax at the end is left out.

    Args:
        scales: of every tensor that the nodes in `inside` take and make.
    """
    graph = Graph(model)
    writer = _Writer(graph, scales | {PIXELS: PIXEL_SCALE})
    writer.integers[PIXELS] = PIXELS
    skip: set[str] = set()
    for node in graph.nodes:
        if node.name in skip:
            continue
        if node.name in inside:
            skip.update(_RULES[node.op_type](writer, node))
        elif node.op_type == "MatMul" and node.name in scales:
            skip.update(_matmul(writer, node))
        else:
            for tensor in node.input:
                writer.planes(tensor)
            writer.nodes.append(_of_pixels(writer, node) if PIXELS in node.input else node)
    used = {name for node in writer.nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    pixels = helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, [1, "height", "width", 3])
    result = helper.make_tensor_value_info(writer.output(), TensorProto.FLOAT, None)
    integers = helper.make_graph(writer.nodes, model.graph.name, [pixels], [result], kept + writer.weights)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    whole = helper.make_model(integers, opset_imports=opsets, producer_name="scripts/quantise")
    whole.ir_version = 8
    whole.metadata_props.extend(model.metadata_props)
    return whole


def _of_pixels(writer: _Writer, node: NodeProto) -> NodeProto:
    """The first convolution in float: its weights for blue, green and red change places."""
    name = writer.constant(f"{node.name}:weights", writer.graph.weights[node.input[1]][:, ::-1])
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[0], copy.input[1] = f"{PIXELS}:planes", name
    return copy


def rounded_weights(
    weights: NDArray[np.float32], axis: int = 0, least: NDArray[np.float32] | float = 0.0
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights in int8 and the step of each channel of `axis`, which is not below `least`."""
    others = tuple(n for n in range(weights.ndim) if n != axis)
    most = np.abs(weights).max(axis=others, keepdims=True)
    best = np.maximum(most, 1e-8) / 127
    error = np.full(best.shape, np.inf)
    for share in np.linspace(1.0, 0.8, 9):  # to clip the largest weight may cost less than to round all others
        step = np.maximum(most * share, 1e-8) / 127
        off = ((np.clip(np.round(weights / step), -127, 127) * step - weights) ** 2).sum(axis=others, keepdims=True)
        best, error = np.where(off < error, step, best), np.minimum(off, error)
    best = np.maximum(best, np.reshape(least, (-1, *[1] * (weights.ndim - 1)) if axis == 0 else (1, -1)))
    best = best.astype(np.float32)
    return np.clip(np.round(weights / best), -127, 127).astype(np.int8), best.reshape(-1)


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _next_if(writer: _Writer, tensor: str, kind: str) -> NodeProto | None:
    """The one node that takes a tensor, if it is of that kind."""
    takers = writer.graph.takers(tensor)
    return takers[0] if len(takers) == 1 and takers[0].op_type == kind else None


def _conv(writer: _Writer, node: NodeProto) -> list[str]:
    """A convolution, with the Relu behind it."""
    relu = _next_if(writer, node.output[0], "Relu")
    source, target = node.input[0], relu.output[0] if relu is not None else node.output[0]
    weights = writer.graph.weights[node.input[1]]
    bias = np.zeros(len(weights), np.float32)
    if len(node.input) > 2:
        bias = writer.graph.weights[node.input[2]].reshape(-1)
    writer.integers[target] = writer.convolution(
        node.name, source, target, weights, bias, f"{target}:u8", **_attributes(node)
    )
    return [relu.name] if relu is not None else []


def _gelu(writer: _Writer, node: NodeProto) -> list[str]:
    source, target = node.input[0], node.output[0]
    curved = writer.add("Gelu", [writer.value(source)], f"{target}:f32", MICROSOFT)
    writer.integers[target] = writer.add("QuantizeLinear", [curved, *writer.scale(target)], f"{target}:u8")
    return []


def _binary(writer: _Writer, node: NodeProto) -> list[str]:
    target = node.output[0]
    inputs = [name for tensor in node.input for name in (writer.integer(tensor), *writer.scale(tensor))]
    writer.integers[target] = writer.add(
        f"QLinear{node.op_type}", [*inputs, *writer.scale(target)], f"{target}:u8", MICROSOFT
    )
    return []


def _mean(writer: _Writer, node: NodeProto) -> list[str]:
    source, target = node.input[0], node.output[0]
    writer.integers[target] = writer.add(
        "QLinearGlobalAveragePool",
        [writer.integer(source), *writer.scale(source), *writer.scale(target)],
        f"{target}:u8",
        MICROSOFT,
        channels_last=1,
    )
    return []


def _gate(writer: _Writer, node: NodeProto) -> list[str]:
    """The gate of each channel, with the 1 that may be added to it: in float, one value for a channel."""
    source, target = node.input[0], node.output[0]
    plus = _next_if(writer, target, "Add")
    whole = writer.add(node.op_type, [writer.value(source)], f"{target}:f32", **_attributes(node))
    if plus is not None:
        target = plus.output[0]
        whole = writer.add("Add", [whole, plus.input[1]], f"{target}:f32")
    writer.integers[target] = writer.add("QuantizeLinear", [whole, *writer.scale(target)], f"{target}:u8")
    return [] if plus is None else [plus.name]


def _pool(writer: _Writer, node: NodeProto) -> list[str]:
    source, target = node.input[0], node.output[0]
    assert writer.scales[source] == writer.scales[target], node.name
    attributes = _attributes(node)
    attributes.pop("storage_order", None)  # of the indices, which nobody asks for
    writer.integers[target] = writer.add(
        "NhwcMaxPool", [writer.integer(source)], f"{target}:u8", MICROSOFT, **attributes
    )
    return []


def _concat(writer: _Writer, node: NodeProto) -> list[str]:
    target = node.output[0]
    if all(writer.scales[tensor] == writer.scales[target] for tensor in node.input):
        inputs = [writer.integer(tensor) for tensor in node.input]
        writer.integers[target] = writer.add("Concat", inputs, f"{target}:u8", axis=3)
        return []
    inputs = [name for tensor in node.input for name in (writer.integer(tensor), *writer.scale(tensor))]
    writer.integers[target] = writer.add(
        "QLinearConcat", [*writer.scale(target), *inputs], f"{target}:u8", MICROSOFT, axis=3
    )
    return []


def _resize(writer: _Writer, node: NodeProto) -> list[str]:
    """Each place of a tensor as a square of so many like it.

    Each row of channels is put beside itself, and each row of places below itself: onnxruntime's Resize takes seven
    times as long.
    """
    source, target = node.input[0], node.output[0]
    assert writer.scales[source] == writer.scales[target], node.name
    _, channels, down, across = writer.graph.weights[node.input[2]]
    assert channels == 1 and down == across, node.name
    times, depth = int(down), writer.depth(source)
    beside = writer.add("Concat", [writer.integer(source)] * times, f"{target}:beside", axis=3)
    shape = writer.constant(f"{node.name}:row", np.array([0, 0, -1, depth], np.int64))
    wide = writer.add("Reshape", [beside, shape], f"{target}:wide")
    below = writer.add("Concat", [wide] * times, f"{target}:below", axis=2)
    size = writer.add("Shape", [wide], f"{target}:size", start=2, end=4)
    first = writer.constant("one image, any height", np.array([1, -1], np.int64))
    whole = writer.add("Concat", [first, size], f"{target}:shape", axis=0)
    writer.integers[target] = writer.add("Reshape", [below, whole], f"{target}:u8")
    return []


def _matmul(writer: _Writer, node: NodeProto) -> list[str]:
    """A product with weights, and the bias added to it; the result is float."""
    add = _next_if(writer, node.output[0], "Add")
    assert add is not None, node.name
    [bias] = [writer.graph.weights[name] for name in add.input if name in writer.graph.weights]
    source = node.input[0]
    integers = writer.add("QuantizeLinear", [source, *writer.scale(source)], f"{source}:u8")
    writer.product(node.name, integers, source, writer.graph.weights[node.input[1]], bias, add.output[0])
    return [add.name]


def _enlarge(writer: _Writer, node: NodeProto) -> list[str]:
    """A transposed convolution that makes 2 * 2 places of each one, with the bias and the Relu or Sigmoid behind it.

    It is a product of channels: each place gives four, which are then laid out.
    """
    add = _next_if(writer, node.output[0], "Add")
    assert add is not None, node.name
    end = _next_if(writer, add.output[0], "Relu") or _next_if(writer, add.output[0], "Sigmoid")
    assert end is not None, node.name
    source, target = node.input[0], end.output[0]
    weights = writer.graph.weights[node.input[1]]  # channels in, channels out, 2, 2
    depth = weights.shape[1]
    by_place = weights.transpose(2, 3, 1, 0).reshape(-1, weights.shape[0], 1, 1)
    [bias] = [writer.graph.weights[name] for name in add.input if name in writer.graph.weights]
    bias = np.tile(bias.reshape(-1), 4)
    if end.op_type == "Relu":
        four = writer.convolution(node.name, source, target, by_place, bias, f"{target}:four")
        writer.integers[target] = _laid_out(writer, node, four, depth, f"{target}:u8")
    else:
        flat = by_place.reshape(-1, weights.shape[0]).T
        four = writer.product(node.name, writer.integer(source), source, flat, bias, f"{target}:four")
        likely = writer.add("Sigmoid", [four], f"{target}:likely")
        rows = _laid_out(writer, node, likely, depth, f"{target}:f32")
        writer.add("Transpose", [rows], target, perm=TO_PLANES)
    return [add.name, end.name]


def _laid_out(writer: _Writer, node: NodeProto, four: str, depth: int, output: str) -> str:
    """The four places that each place has in its channels, as 2 * 2 places."""
    size = writer.add("Shape", [four], f"{output}:size", start=1, end=3)
    last = np.array([2, 2, depth], np.int64)
    split = writer.add(
        "Concat",
        [size, writer.constant(f"{node.name}:square", last)],
        f"{output}:split",
        axis=0,
    )
    squares = writer.add("Reshape", [four, split], f"{output}:squares")  # without the axis of images
    rows = writer.add("Transpose", [squares], f"{output}:rows", perm=(0, 2, 1, 3, 4))
    twice = writer.add("Mul", [size, writer.constant(f"{node.name}:twice", np.array([2, 2], np.int64))], f"{output}:2")
    ends = [writer.constant(f"{node.name}:one", np.array([1], np.int64)), twice]
    ends.append(writer.constant(f"{node.name}:depth", np.array([depth], np.int64)))
    whole = writer.add("Concat", ends, f"{output}:shape", axis=0)
    return writer.add("Reshape", [rows, whole], output)


_RULES: Final = {
    "Add": _binary,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _enlarge,
    "Gelu": _gelu,
    "GlobalAveragePool": _mean,
    "HardSigmoid": _gate,
    "MaxPool": _pool,
    "Mul": _binary,
    "ReduceMean": _mean,
    "Resize": _resize,
}

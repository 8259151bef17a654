"""Brings a float model of PP-OCR into the form that `integers.py` translates: nothing to fold, one node for a Gelu."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, helper, numpy_helper, version_converter

__all__ = ["MICROSOFT", "Graph", "normalised"]

OPSET: Final = 17  # the first that has LayerNormalization
MICROSOFT: Final = "com.microsoft"
GELU: Final = ("Div", "Erf", "Add", "Mul", "Mul")


class Graph:
    """The nodes of a model, and who makes and who takes each tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    @property
    def output(self) -> str:
        """The one output of the model."""
        return str(self.model.graph.output[0].name)

    def takers(self, tensor: str) -> list[NodeProto]:
        """The nodes that take a tensor."""
        return [node for node in self.nodes if tensor in node.input]

    def maker(self, tensor: str) -> NodeProto | None:
        """The node that makes a tensor; none for weights and the input."""
        return next((node for node in self.nodes if tensor in node.output), None)


def normalised(data: bytes) -> onnx.ModelProto:
    """The same model in opset 17, constants folded, batch normalisations in the convolutions, each Gelu one node."""
    model = version_converter.convert_version(onnx.load_from_string(data), OPSET)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "basic.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        basic = onnx.load(str(path))
    _fuse_gelus(basic)
    _join_gates(basic)
    return basic


def _fuse_gelus(model: onnx.ModelProto) -> None:
    """Make one node of each `x * (1 + erf(x / sqrt(2))) / 2`."""
    graph = Graph(model)
    fused: list[NodeProto] = []
    gone: set[str] = set()
    for node in graph.nodes:
        if node.name in gone:
            continue
        chain = _gelu_from(graph, node)
        if chain:
            gone.update(link.name for link in chain)
            fused.append(
                helper.make_node("Gelu", [node.input[0]], [chain[-1].output[0]], chain[-1].name, domain=MICROSOFT)
            )
        else:
            fused.append(node)
    del model.graph.node[:]
    model.graph.node.extend(fused)


def _join_gates(model: onnx.ModelProto) -> None:
    """Make `x * (1 + gate)` of each `x + x * gate`: one walk over a large tensor less, and one rounding."""
    graph = Graph(model)
    one = numpy_helper.from_array(np.float32(1).reshape(1), "one")
    for add in graph.nodes:
        product = graph.maker(add.input[1]) if add.op_type == "Add" else None
        if product is None or product.op_type != "Mul" or product.input[0] != add.input[0]:
            continue
        gate = f"{product.input[1]}:1"
        plus = helper.make_node("Add", [product.input[1], "one"], [gate], f"{product.name}:1")
        whole = helper.make_node("Mul", [add.input[0], gate], [add.output[0]], add.name)
        places = list(model.graph.node)
        model.graph.node.insert(places.index(product), plus)
        model.graph.node.remove(product)
        places = list(model.graph.node)
        model.graph.node.insert(places.index(add), whole)
        model.graph.node.remove(add)
        if all(tensor.name != one.name for tensor in model.graph.initializer):
            model.graph.initializer.append(one)


def _gelu_from(graph: Graph, node: NodeProto) -> list[NodeProto]:
    """The five nodes of the Gelu that begins at `node`; none where there is none."""
    if node.op_type != "Div" or not np.isclose(graph.weights.get(node.input[1], 0), np.sqrt(2)).all():
        return []
    chain = [node]
    for kind in GELU[1:]:
        takers = graph.takers(chain[-1].output[0])
        if len(takers) != 1 or takers[0].op_type != kind:
            return []
        chain.append(takers[0])
    return chain if node.input[0] in chain[3].input else []

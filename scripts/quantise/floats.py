"""Brings the float model into the form that `integers.py` translates: constants folded, one node for each Gelu."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, helper, numpy_helper, version_converter

__all__ = ["MICROSOFT", "OPSET", "Graph", "normalised", "session_of"]

OPSET: Final = 17  # the first that has LayerNormalization
MICROSOFT: Final = "com.microsoft"
GELU: Final = ("Div", "Erf", "Add", "Mul", "Mul")


class Graph:
    """The nodes and weights of a model, and who takes each tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.output = str(model.graph.output[0].name)

    def takers(self, tensor: str) -> list[NodeProto]:
        """The nodes that take a tensor."""
        return [node for node in self.nodes if tensor in node.input]

    def only_taker(self, tensor: str, kind: str) -> NodeProto | None:
        """The one node that takes a tensor, if there is one and it is of that kind."""
        takers = self.takers(tensor)
        return takers[0] if len(takers) == 1 and takers[0].op_type == kind else None

    def upstream(self, tensor: str) -> list[NodeProto]:
        """The nodes that a tensor is computed by, in their order."""
        makers = {name: node for node in self.nodes for name in node.output}
        found: set[str] = set()
        left = [tensor]
        while left:
            node = makers.get(left.pop())
            if node is not None and node.name not in found:
                found.add(node.name)
                left += node.input
        return [node for node in self.nodes if node.name in found]


def session_of(model: onnx.ModelProto, tensors: Sequence[str]) -> Any:
    """A session of the model, on one thread, that gives these tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])


def normalised(data: bytes) -> onnx.ModelProto:
    """The model of `data` in opset 17, constants folded, batch normalisations in the convolutions."""
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
    return basic


def _fuse_gelus(model: onnx.ModelProto) -> None:
    """Make one node of each `x * (1 + erf(x / sqrt(2))) / 2`."""
    graph = Graph(model)
    fused: list[NodeProto] = []
    gone: set[str] = set()
    for node in graph.nodes:
        if node.name in gone:
            continue
        if chain := _gelu_from(graph, node):
            gone.update(link.name for link in chain)
            end = chain[-1]
            node = helper.make_node("Gelu", [node.input[0]], [end.output[0]], end.name, domain=MICROSOFT)
        fused.append(node)
    del model.graph.node[:]
    model.graph.node.extend(fused)


def _gelu_from(graph: Graph, node: NodeProto) -> list[NodeProto]:
    """The five nodes of the Gelu that begins at `node`; none where there is none."""
    if node.op_type != GELU[0] or not np.isclose(graph.weights.get(node.input[1], 0), np.sqrt(2)).all():
        return []
    chain = [node]
    for kind in GELU[1:]:
        following = graph.only_taker(chain[-1].output[0], kind)
        if following is None:
            return []
        chain.append(following)
    return chain if node.input[0] in chain[3].input else []

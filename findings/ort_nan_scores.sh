#!/usr/bin/env bash
# One score in a row is not a number, as a model with a broken weight or an overflow in float16 gives.
# A good guess: ArgMax names its place and ReduceMax gives NaN, as numpy's argmax and max do: the fault shows.
# Seen: ArgMax skips it unless it comes first, ReduceMax gives the largest of the others: the row looks sound.
. "$(dirname "$0")/common.sh"
python_with onnxruntime==1.32.0 onnx==1.23.2
python_runs <<'EOF'
import numpy
import onnxruntime
from finding import as_described, versions
from onnx import TensorProto, helper

versions("onnxruntime", "onnx", "numpy")


def of(operator, kind, row):
    node = helper.make_node(operator, ["x"], ["y"], axis=1) if operator == "ArgMax" else helper.make_node(operator, ["x"], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, len(row)])]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", kind, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": numpy.array([row], numpy.float32)})[0].item()


nan = float("nan")
as_described("numpy", (int(numpy.argmax([1, nan, 3, 2])), bool(numpy.isnan(numpy.max([1, nan, 3, 2])))), (1, True))
as_described("ArgMax, NaN in second place", of("ArgMax", TensorProto.INT64, [1, nan, 3, 2]), 2)
as_described("ArgMax, NaN in first place", of("ArgMax", TensorProto.INT64, [nan, 1, 3, 2]), 0)
as_described("ReduceMax, NaN in second place", of("ReduceMax", TensorProto.FLOAT, [1, nan, 3, 2]), 3.0)
EOF

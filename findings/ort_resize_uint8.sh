#!/usr/bin/env bash
# A model enlarges a picture of bytes with Resize (linear), as models with built-in preprocessing do.
# A good guess: the result is that of float arithmetic, rounded.
# Seen: it is cut off towards zero: 95.6 becomes 95, so pictures get darker by half a level on average.
. "$(dirname "$0")/common.sh"
python_with onnxruntime==1.32.0 onnx==1.23.2
python_runs <<'EOF'
import numpy
import onnxruntime
from finding import as_described, versions
from onnx import TensorProto, helper, numpy_helper

versions("onnxruntime", "onnx")


def enlarged(kind, values):
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear")
    scales = numpy_helper.from_array(numpy.array([1, 1, 1, 4], numpy.float32), "scales")
    inputs = [helper.make_tensor_value_info("x", kind, [1, 1, 1, 2])]
    outputs = [helper.make_tensor_value_info("y", kind, None)]
    graph = helper.make_graph([node], "g", inputs, outputs, [scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": values})[0].ravel()


row = numpy.array([[[[0, 255]]]], numpy.uint8)
exact = enlarged(TensorProto.FLOAT, row.astype(numpy.float32))
as_described("in floats", exact.tolist(), [0.0, 0.0, 31.875, 95.625, 159.375, 223.125, 255.0, 255.0])
as_described("in bytes", enlarged(TensorProto.UINT8, row).tolist(), [0, 0, 31, 95, 159, 223, 255, 255])
EOF

#!/usr/bin/env bash
# A model of opset 12 is quantised with onnxruntime (quantize_static, QDQ).
# A good guess: what needs a newer opset is refused, or the model is raised to it and means the same.
# Seen: per_channel=True needs opset 13, says nothing, and writes a file that cannot be loaded. Activations of 16 bits
# raise the model to 21; Softmax is adapted on the way, and Hardmax, whose axis changed its meaning in 13, is not: the
# highest of a row of 32 becomes the highest of each 8.
. "$(dirname "$0")/common.sh"
python_with onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
python_runs <<'EOF'
import logging

import numpy
import onnx
import onnxruntime
from finding import as_described, versions
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

versions("onnxruntime", "onnx")
logging.disable(logging.WARNING)
onnxruntime.set_default_logger_severity(4)
random = numpy.random.default_rng(0)
SHAPE = (2, 4, 8)
pictures = [random.standard_normal(SHAPE).astype(numpy.float32) for _ in range(4)]
weights = numpy_helper.from_array(random.standard_normal((8, 8)).astype(numpy.float32), "w")


class Pictures(CalibrationDataReader):
    def __init__(self):
        self.left = iter(pictures)

    def get_next(self):
        return next(({"x": each} for each in self.left), None)


def written(last):
    """A model of opset 12: a product, and one of the operators that take the highest of a row."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node(last, ["a"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7), "model.onnx")


def quantised(**settings):
    """The opset of the quantised model, and the sum of its answer; or the name of the error at loading."""
    quantize_static("model.onnx", "small.onnx", Pictures(), quant_format=QuantFormat.QDQ, **settings)
    opset = next(each.version for each in onnx.load("small.onnx").opset_import if not each.domain)
    return opset, answered("small.onnx")


def answered(file):
    try:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    except Exception as error:
        return type(error).__name__
    return round(float(session.run(None, {"x": pictures[0]})[0].sum()))


sixteen = {"activation_type": QuantType.QUInt16, "weight_type": QuantType.QInt8}
for last, described in (("Softmax", (21, 2)), ("Hardmax", (21, 8))):
    written(last)
    as_described(f"{last}: sum over two rows of 32", answered("model.onnx"), 2)
    as_described(f"{last}: opset and sum with bytes", quantised(), (12, 2))
    as_described(f"{last}: opset and sum with 16 bits", quantised(**sixteen), described)
as_described("opset and loading, per channel", quantised(per_channel=True), (12, "InvalidGraph"))
EOF

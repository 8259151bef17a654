#!/usr/bin/env bash
# Resize with antialias=1, which ONNX has since opset 18, makes a picture smaller: the step before a model, moved into it.
# A good guess: it gives what Pillow's resize() gives with the same filter, up to rounding.
# Seen: inside the picture it does; at its border the values are off, by 17 of 255 here, as the last pixels count several
# times. exclude_outside=1 makes them equal. torch's exporter sets it; a model that is written by hand has 0.
. "$(dirname "$0")/common.sh"
python_with onnxruntime==1.32.0 onnx==1.23.2 pillow==13.0.0 numpy==2.4.6
python_runs <<'EOF'
import numpy
import onnxruntime
from finding import as_described, versions
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

versions("onnxruntime", "onnx", "pillow")
picture = numpy.random.default_rng(0).integers(0, 256, (1, 1, 8, 8)).astype(numpy.float32)
FILTERS = {"linear": Image.Resampling.BILINEAR, "cubic": Image.Resampling.BICUBIC}


def differences(mode, size, **attributes):
    """Largest difference to Pillow: in the middle, and at the border."""
    goal = numpy_helper.from_array(numpy.array([1, 1, size, size], numpy.int64), "size")
    node = helper.make_node("Resize", ["x", "", "", "size"], ["y"], mode=mode, antialias=1, cubic_coeff_a=-0.5, **attributes)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [goal])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    resized = session.run(None, {"x": picture})[0][0, 0]
    apart = numpy.abs(resized - numpy.asarray(Image.fromarray(picture[0, 0]).resize((size, size), FILTERS[mode])))
    inside = apart[1:-1, 1:-1].max()
    apart[1:-1, 1:-1] = 0
    return round(float(inside)), round(float(apart.max()))


as_described("linear, 8 to 3: inside, at the border", differences("linear", 3), (0, 17))
as_described("linear, 8 to 4", differences("linear", 4), (0, 15))
as_described("cubic, 8 to 3", differences("cubic", 3), (1, 11))
for mode in FILTERS:
    as_described(f"{mode}, exclude_outside", differences(mode, 3, exclude_outside=1), (0, 0))
EOF

"""Makes the integer model of the recogniser from the float model inside the rapidocr wheel, offline.

    python scripts/quantise [FILE]        default: the file that the package ships

The same wheel, typefaces and packages give the same bytes. It takes half a minute of one core. Needs the group
`quantise` of pyproject.toml, and the typefaces that benchmarks/generated_pages.py names.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
from channels import with_even_channels
from drawn import lines
from floats import Graph, normalised
from integers import translated
from numpy.typing import NDArray
from ranges import scales

from deepseek_ocr_mcp.engines.rapidocr.models import INTEGER_MODELS, model_file, model_folder

LINES = 300
"""Drawn lines that the ranges are taken from. From 60 to 300 the loss falls by a tenth; each costs 0.08 CPU seconds."""
LINES_FOR_CHANNELS = 100


def main() -> None:
    """Make the model, write it, and say what it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = model_file(model_folder(), "rec")
    shipped = INTEGER_MODELS / f"{source.stem}_int8.onnx"
    parser.add_argument("file", nargs="?", type=Path, default=shipped, metavar="FILE")
    target: Path = parser.parse_args().file
    data = integer_model(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    print(f"{target}: {len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")


def integer_model(source: Path) -> bytes:
    """The integer model of a float one, with the float one's name and SHA-256 in its metadata."""
    data = source.read_bytes()
    model = normalised(data)
    inputs = [_as_float(pixels) for pixels in lines(LINES)]
    # The convolutions end where the mean over the height is taken; what follows works on few values, in float.
    [pool] = [node for node in Graph(model).nodes if node.op_type == "AveragePool"]
    names = {node.name for node in Graph(model).upstream(pool.input[0])}
    model = with_even_channels(model, _named(model, names), inputs[:LINES_FOR_CHANNELS])
    last = [node for node in model.graph.node if node.op_type == "MatMul"][-1]
    inside = _named(model, names)
    result = translated(model, inside, scales(model, inside, [last.input[0]], inputs))
    for key, value in (
        ("made_from", source.name),
        ("made_from_sha256", hashlib.sha256(data).hexdigest()),
        ("licence", "Apache-2.0"),
    ):
        result.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(result)
    return bytes(result.SerializeToString(deterministic=True))


def _named(model: onnx.ModelProto, names: set[str]) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.name in names]


def _as_float(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB pixels as the float model takes them."""
    planes = pixels[:, :, ::-1].transpose(2, 0, 1)[None]
    return np.ascontiguousarray(planes * np.float32(1 / 127.5) - 1, np.float32)


if __name__ == "__main__":
    main()

"""The shortest program that reads a line on onnxruntime: rapidocr's two models, both loaded at once, and nothing else.

    python -P benchmarks/bare_models.py IMAGE

The program has no isolation of the document, no orientation, no reading order and no command line. `reading.py` runs it
to show how much of a cold start belongs to onnxruntime itself.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the threads of numpy's BLAS would double its import

import onnxruntime

LINE_HEIGHT = 48  # pixels, fixed by the recogniser
MARGIN = 10  # pixels around what was detected
sessions: dict[str, onnxruntime.InferenceSession] = {}


def load(part: str, threads: int) -> None:
    spec = find_spec("rapidocr")
    assert spec is not None
    assert spec.origin is not None
    [model] = (Path(spec.origin).parent / "models").glob(f"PP-OCR*_{part}_*.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    sessions[part] = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


loading = [Thread(target=load, args=arguments) for arguments in (("det", 2), ("rec", 1))]
for thread in loading:
    thread.start()

import cv2  # noqa: E402 - while the models are loaded
import numpy as np  # noqa: E402


def run(part: str, pixels: np.ndarray) -> np.ndarray:
    tensor = np.ascontiguousarray((pixels.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None])
    return sessions[part].run(None, {"x": tensor})[0][0]


page = cv2.imread(sys.argv[1])
for thread in loading:
    thread.join()
rows, columns = np.nonzero(run("det", page)[0] > 0.3)
top, left = max(0, rows.min() - MARGIN), max(0, columns.min() - MARGIN)
line = page[top : rows.max() + MARGIN, left : columns.max() + MARGIN]
steps = run("rec", cv2.resize(line, (LINE_HEIGHT * line.shape[1] // line.shape[0] // 8 * 8, LINE_HEIGHT)))
alphabet = ["", *sessions["rec"].get_modelmeta().custom_metadata_map["character"].splitlines(), " "]
best = steps.argmax(axis=1)
print("".join(alphabet[code] for n, code in enumerate(best) if n == 0 or code != best[n - 1]), flush=True)

"""The embedded engine: PP-OCR models on onnxruntime. Only a worker process imports this package."""

import os

# numpy multiplies no matrices here: starting the threads of its BLAS would double the time of its import.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

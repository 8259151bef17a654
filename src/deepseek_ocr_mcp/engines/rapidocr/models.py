"""Finds the model files and loads them into onnxruntime. Nothing is downloaded.

The float models are those inside the rapidocr wheel. `scripts/quantise` made the integer model beside this module from
one of them; it counts only while the wheel holds that very model.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Final

import onnxruntime

from ...errors import EngineUnavailable
from ...install import install_command

__all__ = [
    "SpareModel",
    "installed_release",
    "integer_model",
    "model_file",
    "model_folder",
    "new_session",
    "share_arena",
]

INTEGER_MODELS: Final = Path(__file__).parent / "integers"


def model_folder() -> Path:
    """Where the wheel keeps its models.

    Raises:
        EngineUnavailable: a package is missing.
    """
    missing = [name for name in ("rapidocr", "onnxruntime", "cv2", "numpy") if find_spec(name) is None]
    spec = find_spec("rapidocr")
    if missing or spec is None or spec.origin is None:
        raise EngineUnavailable(
            f"The rapidocr engine needs packages that are not installed: {', '.join(missing)}.",
            remedy=f"Run: {install_command('rapidocr', 'onnxruntime', 'opencv-python-headless')}",
        )
    return Path(spec.origin).parent / "models"  # found without importing it: that would cost half a second


def model_file(folder: Path, part: str) -> Path:
    """The newest model of a part: `det` finds text, `rec` reads it.

    Raises:
        EngineUnavailable: there is none.
    """
    found = sorted(folder.glob(f"PP-OCR*_{part}_*.onnx"))
    if not found:
        raise EngineUnavailable(
            f"The rapidocr package holds no PP-OCR_{part} model in {folder}.",
            remedy=f"Run: {install_command('--force-reinstall', 'rapidocr>=3.10,<4')}",
        )
    return found[-1]


def integer_model(made_from: Path) -> Path | None:
    """The integer model that stands for a float model of the wheel; None where there is none for that one."""
    path = INTEGER_MODELS / f"{made_from.stem}_int8.onnx"
    return path if path.is_file() else None


def installed_release(folder: Path) -> str:
    """Which release of rapidocr this is, by the name of its metadata: `importlib.metadata` takes 15 ms to import."""
    found = [path.name for path in folder.parents[1].glob("rapidocr-*.dist-info")]
    return found[0].removesuffix(".dist-info").rpartition("-")[2] if found else "of unknown release"


@cache
def share_arena() -> None:
    """One arena for all sessions of this process: the recogniser uses the memory that the detector gave back.

    With an arena for each, a page takes a third more memory; without any, reading takes a tenth more time.
    """
    cpu = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(cpu, None)


def new_session(model: str | bytes, threads: int) -> Any:
    """A model, by its path or its bytes, ready to run on so many threads."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only: stopping a run on purpose is logged as an error
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.use_env_allocators", "1")  # see `share_arena`
    # Lines and tiles have many shapes. A pattern for each asks for one block as large as all tensors of a run together,
    # beside what other shapes have left in the arena: a quarter more memory, no CPU time saved.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads sleep
    # Sums of two products overflow on a processor without instructions for four: exact and slow, if it is asked for.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class SpareModel:
    """A model that is loaded when it is first asked for, for one thread at a time. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._session: Any = None

    def session(self) -> Any:
        """The model, ready to run."""
        with self._lock:
            if self._session is None:
                self._session = new_session(str(self._path), 1)
            return self._session

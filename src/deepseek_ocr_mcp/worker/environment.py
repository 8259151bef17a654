"""The environment of a child: the variables that its libraries need, and none else.

A child parses documents that strangers made, or runs a model; it serves nobody and asks no cluster. So it gets the
names below and no others: a token, a key or a proxy's password of the server is not in it. An engine of the operator's
own may need more: `OCR_WORKER_ENV` names it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

__all__ = ["MORE", "SILENCED", "child_environment"]

MORE: Final = "OCR_WORKER_ENV"
"""The variable that names further ones, separated by commas. Read where children are started, before any settings."""


SILENCED: Final[Mapping[str, str]] = {
    # onnxruntime from 1.29 on reports to its maker by default, and leaves an id of the machine in the user's cache.
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",  # a convention that many libraries follow
}
"""What keeps libraries from calling home. Whatever the operator's own environment says, these win."""

_NAMES: Final = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP", "VIRTUAL_ENV",
        "CONDA_PREFIX", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH",
        "GLIBC_TUNABLES", "XDG_CACHE_HOME", "FONTCONFIG_FILE", "FONTCONFIG_PATH", "TESSDATA_PREFIX",
        "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
        "OCR_THREADS", "OCR_PRECISION", "OCR_CORES_SHARED_BY", "OCR_MODEL_PATH",
        # Windows starts no program without the first of them.
        "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE",
        "PROCESSOR_IDENTIFIER", "USERPROFILE", "LOCALAPPDATA", "APPDATA", "PROGRAMDATA", "PROGRAMFILES",
    }
)  # fmt: skip
_BEGINNINGS: Final = (
    "LC_", "PYTHON",
    "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "BLIS_", "VECLIB_", "NUMEXPR_",  # threads of arithmetic
    "ORT_", "CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "NV_", "TORCH", "PYTORCH_", "TRITON_",
    "MALLOC_", "MIMALLOC_", "JEMALLOC_",
)  # fmt: skip
# Names that begin as allowed ones do and hold a secret all the same, of whatever library.
_SECRETS: Final = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "ACCESS_KEY", "PRIVATE_KEY")


def child_environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that a child starts with.

    Args:
        own: this process's environment; default: `os.environ`.
    """
    own = os.environ if own is None else own
    more = {name.strip().upper() for name in own.get(MORE, "").split(",")}
    needed = {name: value for name, value in own.items() if name.upper() in more or _is_needed(name.upper())}
    return {**needed, **SILENCED}


def _is_needed(name: str) -> bool:
    if any(part in name for part in _SECRETS):
        return False
    return name in _NAMES or name.startswith(_BEGINNINGS)

"""Makes the environment of a child: the variables that its libraries need, and no others.

A child parses documents of strangers or runs a model; it needs no secret for that. So it gets the variables with the
names below, and no token, key or proxy password of the server. `OCR_WORKER_ENV` names further variables, for an engine
of the operator's own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

__all__ = ["MORE", "SILENCED", "child_environment"]

MORE: Final = "OCR_WORKER_ENV"
"""The variable that names further variables, with commas between. It is read when a child is started, before any
settings."""


SILENCED: Final[Mapping[str, str]] = {
    # From release 1.29 on onnxruntime reports to its maker, and leaves an id of the machine in the user's cache.
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",  # a convention that many libraries follow
}
"""Variables that keep libraries from reporting to their makers. They override the operator's own environment."""

_NAMES: Final = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP", "VIRTUAL_ENV",
        "CONDA_PREFIX", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH",
        "GLIBC_TUNABLES", "XDG_CACHE_HOME", "FONTCONFIG_FILE", "FONTCONFIG_PATH", "TESSDATA_PREFIX",
        "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
        "OCR_THREADS", "OCR_PRECISION", "OCR_CORES_SHARED_BY", "OCR_MODEL_PATH",
        # Windows starts no program without the first of the following.
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
# Parts of names of variables that hold a secret, even if the name begins like an allowed one.
_SECRETS: Final = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "ACCESS_KEY", "PRIVATE_KEY")


def child_environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child.

    Args:
        own: the environment of this process; default: `os.environ`.
    """
    own = os.environ if own is None else own
    more = {name.strip().upper() for name in own.get(MORE, "").split(",")}
    needed = {name: value for name, value in own.items() if name.upper() in more or _is_needed(name.upper())}
    return {**needed, **SILENCED}


def _is_needed(name: str) -> bool:
    if any(part in name for part in _SECRETS):
        return False
    return name in _NAMES or name.startswith(_BEGINNINGS)

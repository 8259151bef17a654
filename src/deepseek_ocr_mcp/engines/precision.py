"""Which arithmetic the embedded engine reads with: integers where the processor multiplies them fast, else float32.

Eight-bit integers pay only where one instruction multiplies and sums four of them. Elsewhere onnxruntime takes longer
for them than for float32.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Final, Literal

__all__ = ["Precision", "choose_precision", "has_integer_products", "precision_setting"]

Precision = Literal["int8", "float32"]

CPU_INFO: Final = Path("/proc/cpuinfo")
FLAGS: Final = frozenset({"avx512_vnni", "avx_vnni", "asimddp", "i8mm"})
"""Instructions for sums of products of integers, as Linux names them: two of x86-64, two of Arm."""
APPLE_FEATURES: Final = (b"hw.optional.arm.FEAT_DotProd", b"hw.optional.arm.FEAT_I8MM")


def choose_precision(setting: str) -> Precision:
    """The precision that a setting means on this machine.

    Args:
        setting: `OCR_PRECISION`: `int8` and `float32` mean themselves; `auto` and anything else asks the processor.
    """
    if setting == "float32":
        return "float32"
    return "int8" if setting == "int8" or has_integer_products() else "float32"


@cache
def has_integer_products() -> bool:
    """Whether this processor has instructions for sums of products of 8-bit integers.

    Linux and macOS tell. On other systems the answer is no.
    """
    if sys.platform == "darwin":
        return any(_apple_feature(name) for name in APPLE_FEATURES)
    return not FLAGS.isdisjoint(_linux_flags(CPU_INFO))


def _linux_flags(path: Path) -> set[str]:
    """The instructions of the first processor; empty where the file cannot be read, as on other systems."""
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    return set(value.split())
    except OSError:
        pass
    return set()


def _apple_feature(name: bytes) -> bool:
    """What the kernel of macOS says about a feature of the processor."""
    value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    try:
        failed = ctypes.CDLL(None).sysctlbyname(name, ctypes.byref(value), ctypes.byref(size), None, 0)
    except (OSError, AttributeError):
        return False
    return not failed and value.value == 1


def precision_setting() -> str:
    """`OCR_PRECISION` as a worker is given it."""
    return os.environ.get("OCR_PRECISION", "").strip().lower() or "auto"

#!/usr/bin/env bash
# NVML's newer calls take a struct whose version number holds its size; nvidia-ml-py has both in Python.
# A good guess: the size in each version number is that of the struct of the same name.
# Seen: 43 agree, two do not: nvmlC2cModeInfo_v1 and nvmlPerfMetricsSamples_v1, so the library and Python disagree
# about how much memory a call may write. No card is needed to see it.
. "$(dirname "$0")/common.sh"
python_with nvidia-ml-py==13.615.71
python_runs <<'EOF'
import ctypes

import pynvml
from finding import as_described, versions

versions("nvidia-ml-py")


def plain(name):
    return name.lower().removeprefix("c_").removesuffix("_t").replace("_", "")


sizes = {
    plain(name): ctypes.sizeof(kind)
    for name, kind in vars(pynvml).items()
    if isinstance(kind, type) and issubclass(kind, ctypes.Structure) and hasattr(kind, "_fields_")
}
agree, differ = 0, {}
for name, value in vars(pynvml).items():
    if isinstance(value, int) and 0 < value >> 24 < 16 and plain(name) in sizes:
        told, real = value & 0xFFFFFF, sizes[plain(name)]
        agree += told == real
        if told != real:
            differ[name] = (told, real)
as_described("version numbers that hold the struct's size", agree, 43)
described = {"nvmlC2cModeInfo_v1": (8, 4), "nvmlPerfMetricsSamples_v1": (42024, 115344)}
as_described("size in the version number, size of the struct", differ, described)
EOF

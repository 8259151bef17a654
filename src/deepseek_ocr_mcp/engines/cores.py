"""How many processors an engine may use: what the machine, the container and the operator leave it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

__all__ = ["granted_cores", "usable_cores"]

MAX_THREADS: Final = 16  # beyond this a page has too few lines to share out


def usable_cores() -> int:
    """Threads to use: `OCR_THREADS` where it is set, else the cores that are granted.

    Where several workers read side by side (`OCR_CORES_SHARED_BY`, which the pool sets), each has its share.
    """
    threads = os.environ.get("OCR_THREADS", "").strip()
    if threads.isdigit() and int(threads) > 0:
        return int(threads)
    workers = int(os.environ.get("OCR_CORES_SHARED_BY", "1"))
    return max(1, min(granted_cores() // workers, MAX_THREADS))


def granted_cores() -> int:
    """Cores that this process may use: its CPU affinity and the quota of its control group (version 1 or 2) count."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(cores, _cgroup_quota()))


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Processors that the control group mounted at `root` grants; infinity where it sets no limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((root / name).read_text() for name in files).split()
            if float(quota) > 0:
                return float(quota) / float(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue  # not this version, or "max": no limit
    return math.inf

"""Tells how much host memory this process may still take: the least that the machine or one of our cgroups allows.

A container's limit may be in cgroup v2 or v1, and a limit of any group above ours binds us too: all of them are asked.
Memory that the kernel gives back by itself (the page cache, where mapped weights are) does not count as taken.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["free_bytes"]

NO_LIMIT: Final = 1 << 60  # bytes; cgroup v1 writes "no limit" as a number close to 2**63


def free_bytes(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take; None where nothing tells.

    Args:
        root: where `proc` and `sys` are; for tests.
    """
    found = [*_of_machine(root), *_of_groups(root)]
    if not found:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return max(0, min(found)) if found else None


def _of_machine(root: Path) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024


def _of_groups(root: Path) -> Iterator[int]:
    """Bytes that each cgroup above us leaves to this process."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:
            for group in _upwards(mount, path):
                yield from _left_v2(group)
        elif "memory" in controllers.split(","):
            for group in _upwards(mount / "memory", path):
                yield from _left_v1(group)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The group of that path, and all above it. Inside a container the path may be the host's: then the mount's root
    is our own group."""
    group = mount / path.lstrip("/")
    while True:
        yield group
        if group == mount or mount not in group.parents:
            return
        group = group.parent


def _left_v2(group: Path) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError, KeyError):
        limit = int((group / "memory.max").read_text(encoding="ascii"))  # "max": no limit
        used = _stat(group)
        yield limit - used["anon"] - used.get("shmem", 0)


def _left_v1(group: Path) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError, KeyError):
        limit = int((group / "memory.limit_in_bytes").read_text(encoding="ascii"))
        if limit < NO_LIMIT:
            used = _stat(group)
            yield limit - used["total_rss"] - used.get("total_shmem", 0)


def _stat(group: Path) -> dict[str, int]:
    lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}

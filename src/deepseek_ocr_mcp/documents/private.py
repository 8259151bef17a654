"""The private folder of one process: made for this user only, and removed when the process ends or is dead."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["private_folder"]

PREFIX: Final = "deepseek-ocr-mcp-"


@contextmanager
def private_folder() -> Iterator[str]:
    """A folder for this server's pages, readable by nobody else, gone at the end.

    Folders that a killed server left behind are removed on the way: their lock is free.
    """
    _sweep(Path(tempfile.gettempdir()))
    folder = tempfile.mkdtemp(prefix=PREFIX)
    lock = os.open(os.path.join(folder, "lock"), os.O_CREAT | os.O_RDWR, 0o600)
    _try_lock(lock)
    try:
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(folder: Path) -> None:
    for stale in folder.glob(f"{PREFIX}*/lock"):
        with contextlib.suppress(OSError):
            lock = os.open(stale, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                abandoned = _try_lock(lock)
            finally:
                os.close(lock)
            if abandoned:
                shutil.rmtree(stale.parent, ignore_errors=True)


def _try_lock(descriptor: int) -> bool:
    """Take the lock if it is free. Where there are no such locks, nothing counts as abandoned."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

"""The private folder, in which a server keeps its pages: readable for this user only, and removed at the end.

A folder is made under a name that no sweep looks at, is locked, and then gets its final name. So every folder with a
final name is locked for as long as its server lives. The lock ends with the process, however the process ends, and the
next start removes all folders that are not locked. `restore` makes a folder again that another program removed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["is_whole", "private_folder", "restore"]

PREFIX: Final = "deepseek-ocr-mcp-"
UNFINISHED: Final = "deepseek-ocr-mcp.new-"
LOCK: Final = "lock"
ABANDONED_S: Final = 86_400.0  # seconds that a folder without a lock is kept; its server may be starting

_locks: dict[str, int | None] = {}
"""The folders of this process, each with the descriptor that holds its lock; None on a system without locks."""


@contextmanager
def private_folder() -> Iterator[str]:
    """The path of a folder for the pages of this process. The folder is removed at the end."""
    base = tempfile.gettempdir()
    with contextlib.suppress(OSError):
        _sweep(Path(base))
    path = os.path.join(base, f"{PREFIX}{secrets.token_hex(6)}")
    _make(path)
    try:
        yield path
    finally:
        _unlock(path)
        shutil.rmtree(path, ignore_errors=True)


def is_whole(path: str) -> bool:
    """Whether a folder that `private_folder` made is there, with its lock."""
    return os.path.exists(os.path.join(path, LOCK))


def restore(path: str) -> None:
    """Make a private folder of this process again, or its lock, if somebody removed it.

    Raises:
        OSError: the folder cannot be made, for lack of permission or space, or because its name is taken.
    """
    _unlock(path)
    if os.path.isdir(path):
        _locks[path] = _lock(path)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _make(path)


def _make(path: str) -> None:
    folder = tempfile.mkdtemp(prefix=UNFINISHED, dir=os.path.dirname(path))
    try:
        held = _lock(folder)
        try:
            os.rename(folder, path)
        except BaseException:
            if held is not None:
                os.close(held)
            raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _locks[path] = held


def _lock(folder: str) -> int | None:
    """Make the lock of a folder and hold it. None on Windows, which renames no folder that has an open file."""
    descriptor = os.open(os.path.join(folder, LOCK), os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600)
    if _try_lock(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _unlock(path: str) -> None:
    if (held := _locks.pop(path, None)) is not None:
        os.close(held)


def _sweep(base: Path) -> None:
    """Remove the folders of servers that are gone."""
    for lock in base.glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(lock, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                # Held until the folder is gone: a server that restores its lock meanwhile makes another folder.
                if _try_lock(descriptor):
                    shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(descriptor)
    oldest = time.time() - ABANDONED_S
    for folder in (*base.glob(f"{UNFINISHED}*"), *base.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):
            if not is_whole(str(folder)) and folder.lstat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)


def _try_lock(descriptor: int) -> bool:
    """Take the lock if it is free. False on a system without such locks, where no folder counts as abandoned."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

"""Keeps pages that were read, within bounds, so that the same page is rarely read twice.

Pages stay in memory for a while, and on disk where the operator names a folder. A lookup returns an entry exactly as it
was put, or nothing: every entry on disk carries a digest of its key and its bytes. An entry that does not match its
digest is dropped, and a damaged database is begun anew. SQLite writes it, so a kill at any moment leaves the old state
or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from ..logs import fields
from .expiry import KEEP_S, Expiry

if TYPE_CHECKING:
    import sqlite3

__all__ = ["DiskCache", "PageCache", "cache_key"]


log = logging.getLogger(__name__)

PENDING_S: Final = 120.0  # seconds; with OCR_CACHE=off, pages that were read ahead wait this long for their caller
DIGEST_BYTES: Final = 16
FILE: Final = "readings-v3.sqlite"
OLD_FILES: Final = ("pages-v1.sqlite", "readings-v2.sqlite")  # of earlier releases; their entries cannot be used
BUSY_S: Final = 2.0  # seconds to wait for another server that writes the same file
TOUCH_S: Final = 60.0  # seconds; the last use is written no more often, so that most hits write nothing
SLACK: Final = 0.9  # part of the bound that entries may take after a clean-up


def cache_key(*parts: object) -> str:
    """The key of a page.

    Args:
        parts: the content of the document, the options of the reading, the engine with its version, and more. Two
            pages share a key only if all parts are equal.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class PageCache:
    """The pages that were read, as JSON objects by their keys.

    Args:
        enabled: if false, an entry is kept only until its caller has it.
        max_bytes: bytes of compressed entries in memory.
        disk: keeps entries on disk, too; None: no entry is written to disk.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        max_bytes: int = 64 << 20,
        disk: DiskCache | None = None,
    ) -> None:
        self.enabled = enabled
        self._max_bytes = max_bytes
        self._disk = disk if enabled else None
        self._expiry = Expiry(KEEP_S if enabled else PENDING_S, self._drop)
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<PageCache {len(self._entries)} pages, {self._bytes} bytes{', on disk too' if self._disk else ''}>"

    async def get(self, key: str) -> dict[str, Any] | None:
        """The entry of a key; None if there is none."""
        self._expiry.forget_old()
        if (entry := self._entries.get(key)) is not None:
            self._entries.move_to_end(key)
            return _loaded(entry)
        if self._disk is None:
            return None
        data = await anyio.to_thread.run_sync(self._disk.get, key)
        if data is None:
            return None
        self._put(key, data)
        return _loaded(data)

    async def put(self, key: str, value: dict[str, Any], *, for_long: bool = True) -> None:
        """Keep an entry. The entries that were used longest ago make room.

        Args:
            key: the key of the page.
            value: the page.
            for_long: whether the entry may be kept on disk, where it outlives this process.
        """
        data = zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 1)
        self._put(key, data)
        if self._disk is not None and for_long:
            await anyio.to_thread.run_sync(self._disk.put, key, data)

    def answered(self, key: str) -> None:
        """Note that the caller has the entry. With `OCR_CACHE=off` the entry is forgotten now."""
        if not self.enabled:
            self._drop(key)

    async def run_expiry(self) -> None:
        """Forget entries in memory when their time is over, until cancelled."""
        await self._expiry.run()

    def close(self) -> None:
        if self._disk is not None:
            self._disk.close()

    def _put(self, key: str, data: bytes) -> None:
        self._drop(key)
        if len(data) > self._max_bytes:
            return
        self._entries[key] = data
        self._expiry.add(key)
        self._bytes += len(data)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._expiry.remove(key)
            self._bytes -= len(entry)


def _loaded(data: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(zlib.decompress(data))
    return value


class DiskCache:
    """Bytes by key in one SQLite file. No method raises for a file that cannot be read or written, or that is damaged:
    such a cache only misses.

    Args:
        folder: the folder of the file. It is made if it does not exist, readable for this user only.
        max_bytes: bytes of all entries. The entries that were used longest ago make room.
    """

    def __init__(self, folder: str, max_bytes: int) -> None:
        self._path = os.path.join(folder, FILE)
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        """The device and the inode of the file that is open."""
        self._warned = False

    def __repr__(self) -> str:
        return f"<DiskCache {self._path}>"

    def get(self, key: str) -> bytes | None:
        """The bytes exactly as they were put; None if they are missing or damaged."""
        with self._open() as connection:
            if connection is None:
                return None
            row = connection.execute("SELECT value, used FROM pages WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            value, used = row
            data = _checked(key, value) if isinstance(used, float) else None
            if data is None:
                log.warning("A damaged entry of the page cache was dropped.")
                connection.execute("DELETE FROM pages WHERE key = ?", (key,))
            elif time.time() - used > TOUCH_S:
                connection.execute("UPDATE pages SET used = ? WHERE key = ?", (time.time(), key))
            return data
        return None

    def put(self, key: str, data: bytes) -> None:
        """Keep the bytes."""
        with self._open() as connection:
            if connection is None:
                return
            value = _digest(key, data) + data
            connection.execute(
                "INSERT OR REPLACE INTO pages (key, value, size, used) VALUES (?, ?, ?, ?)",
                (key, value, len(value), time.time()),
            )
            (total,) = connection.execute("SELECT COALESCE(SUM(size), 0) FROM pages").fetchone()
            if total > self._max_bytes:
                self._make_room(connection, total)

    def close(self) -> None:
        with self._lock:
            self._drop_connection()

    def _make_room(self, connection: sqlite3.Connection, total: int) -> None:
        goal = int(SLACK * self._max_bytes)
        for key, size in connection.execute("SELECT key, size FROM pages ORDER BY used").fetchall():
            if total <= goal:
                break
            connection.execute("DELETE FROM pages WHERE key = ?", (key,))
            total -= size

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection | None]:
        """The database within one transaction; None, with one warning, if it cannot be opened."""
        import sqlite3

        with self._lock:
            try:
                if self._connection is not None and self._identity != _identity(self._path):
                    self._drop_connection()  # somebody removed the folder, or put another one in its place
                connection = self._connection = self._connection or self._connect()
            except (sqlite3.Error, OSError) as exc:
                self._failed(exc)
                yield None
                return
            try:
                with connection:
                    yield connection
                self._warned = False
            except sqlite3.Error as exc:
                self._failed(exc)

    def _failed(self, exc: Exception) -> None:
        """Warn once. Remove a file that is no database any more, so that a new one is begun."""
        import sqlite3

        if not self._warned:
            self._warned = True
            log.warning("The page cache cannot be used.", extra=fields(folder=self._folder, reason=exc))
        # An OperationalError is temporary: the disk is full, or another server holds the lock.
        if isinstance(exc, sqlite3.DatabaseError) and not isinstance(exc, sqlite3.OperationalError):
            self._drop_connection()
            _remove_database(self._path)

    def _connect(self) -> sqlite3.Connection:
        import sqlite3

        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        for name in OLD_FILES:
            _remove_database(os.path.join(self._folder, name))
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(self._path, timeout=BUSY_S, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS pages (key TEXT PRIMARY KEY, value BLOB, size INTEGER, used REAL)"
            )
            connection.commit()
        except BaseException:
            connection.close()
            raise
        self._identity = _identity(self._path)
        return connection

    def _drop_connection(self) -> None:
        import sqlite3

        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _remove_database(path: str) -> None:
    """Remove a database and the files that SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            os.unlink(path + suffix)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _digest(key: str, data: bytes) -> bytes:
    return hashlib.blake2b(b"\0".join((key.encode(), data)), digest_size=DIGEST_BYTES).digest()


def _checked(key: str, value: object) -> bytes | None:
    if not isinstance(value, bytes) or len(value) < DIGEST_BYTES:
        return None
    digest, data = value[:DIGEST_BYTES], value[DIGEST_BYTES:]
    return data if digest == _digest(key, data) else None

"""The page cache: what comes back is what was put in, or nothing, whatever happens to the disk."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from deepseek_ocr_mcp.service.cache import FILE, OLD_FILES, PENDING_S, DiskCache, PageCache, cache_key
from deepseek_ocr_mcp.service.expiry import KEEP_S

pytestmark = pytest.mark.anyio


def entry(number: int, size: int = 10) -> dict[str, Any]:
    return {"page": number, "text": os.urandom(size).hex()}


async def test_what_was_put_comes_back_and_nothing_else_does() -> None:
    cache = PageCache()
    value = {"text": "Grüße, 你好, \ud800", "blocks": [{"box": [1, 2, 3, 4], "score": 0.5}]}
    await cache.put("a", value)
    assert await cache.get("a") == value
    assert await cache.get("b") is None


async def test_the_entries_used_longest_ago_make_room() -> None:
    cache = PageCache(max_bytes=2500)  # four of them
    for number in range(3):
        await cache.put(str(number), entry(number, 500))
    assert await cache.get("0")
    for number in (3, 4):
        await cache.put(str(number), entry(number, 500))
    assert await cache.get("0")
    assert await cache.get("1") is None


async def test_an_entry_larger_than_the_bound_is_not_kept_and_evicts_nobody() -> None:
    cache = PageCache(max_bytes=2000)
    await cache.put("small", entry(1))
    await cache.put("large", entry(2, 5000))
    assert await cache.get("large") is None
    assert await cache.get("small")


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize(("enabled", "seconds"), [(True, KEEP_S), (False, PENDING_S)])
async def test_entries_are_forgotten_when_their_time_is_over_and_nobody_asks(enabled: bool, seconds: float) -> None:
    cache = PageCache(enabled=enabled)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.run_expiry)
        await cache.put("a", entry(1))
        await anyio.sleep(seconds * 0.6)
        await cache.put("b", entry(2))
        assert await cache.get("a")
        await anyio.sleep(seconds * 0.6)
        assert repr(cache).startswith("<PageCache 1 pages")
        assert await cache.get("b")
        await anyio.sleep(seconds)
        assert repr(cache) == "<PageCache 0 pages, 0 bytes>"
        tasks.cancel_scope.cancel()


async def test_switched_off_it_keeps_an_entry_until_it_was_answered() -> None:
    cache = PageCache(enabled=False)
    await cache.put("a", entry(1))
    assert await cache.get("a")
    cache.answered("a")
    assert await cache.get("a") is None


def test_keys_differ_wherever_anything_differs() -> None:
    keys = {
        cache_key("sha", {"mode": "free"}, 200),
        cache_key("sha", {"mode": "ocr"}, 200),
        cache_key("sha", {"mode": "free"}, 300),
        cache_key("sha2", {"mode": "free"}, 200),
    }
    assert len(keys) == 4


# -- on disk


def on_disk(folder: Path, max_bytes: int = 1 << 20) -> PageCache:
    return PageCache(disk=DiskCache(str(folder), max_bytes))


async def test_another_process_finds_on_disk_what_this_one_read(tmp_path: Path) -> None:
    first = on_disk(tmp_path / "new" / "folder")
    await first.put("a", {"text": "kept"})
    first.close()
    assert await on_disk(tmp_path / "new" / "folder").get("a") == {"text": "kept"}


async def test_nobody_else_can_read_what_is_on_disk(tmp_path: Path) -> None:
    cache = on_disk(tmp_path / "pages")
    await cache.put("a", {"text": "secret"})
    assert (tmp_path / "pages").stat().st_mode & 0o077 == 0
    assert (tmp_path / "pages" / FILE).stat().st_mode & 0o077 == 0
    cache.close()


async def test_the_disk_is_bounded_and_the_newest_entries_stay(tmp_path: Path) -> None:
    cache = on_disk(tmp_path, max_bytes=20_000)
    for number in range(100):
        await cache.put(str(number), entry(number, 500))
    cache.close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        (total,) = connection.execute("SELECT SUM(size) FROM pages").fetchone()
    connection.close()
    assert total <= 20_000
    fresh = on_disk(tmp_path)
    assert await fresh.get("99")
    assert await fresh.get("0") is None
    fresh.close()


async def test_two_servers_share_a_folder(tmp_path: Path) -> None:
    one, other = on_disk(tmp_path), on_disk(tmp_path)
    for number in range(20):
        await (one if number % 2 else other).put(str(number), {"n": number})
    assert [await one.get(str(n)) for n in range(20)] == [{"n": n} for n in range(20)]
    one.close()
    other.close()


async def test_a_damaged_entry_is_dropped_not_served(tmp_path: Path) -> None:
    cache = on_disk(tmp_path)
    await cache.put("a", {"text": "right"})
    await cache.put("b", {"text": "also right"})
    cache.close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        (value,) = connection.execute("SELECT value FROM pages WHERE key = 'a'").fetchone()
        broken = value[:-1] + bytes([value[-1] ^ 1])
        connection.execute("UPDATE pages SET value = ? WHERE key = 'a'", (broken,))
        # An entry under another's name is damage too.
        connection.execute("INSERT INTO pages SELECT 'c', value, size, used FROM pages WHERE key = 'b'")
    connection.close()
    fresh = on_disk(tmp_path)
    assert [await fresh.get(key) for key in "abc"] == [None, {"text": "also right"}, None]
    fresh.close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        assert connection.execute("SELECT key FROM pages").fetchall() == [("b",)]
    connection.close()


@pytest.mark.parametrize(
    "garbage", [b"", b"this is no database" * 1000, bytes(100_000)], ids=["nothing", "words", "zeros"]
)
async def test_a_file_that_is_no_database_is_begun_anew(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / FILE).write_bytes(garbage)
    cache = on_disk(tmp_path)
    await cache.get("a")
    await cache.put("a", {"text": "kept"})
    cache.close()
    again = on_disk(tmp_path)
    assert await again.get("a") == {"text": "kept"}
    again.close()


async def test_a_folder_that_cannot_be_written_is_a_miss_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = on_disk(tmp_path / "file")
    await cache.put("a", {"text": "kept in memory"})
    assert await cache.get("a") == {"text": "kept in memory"}
    assert await cache.get("b") is None


WRITER = """
import sys
from deepseek_ocr_mcp.service.cache import DiskCache
cache = DiskCache(sys.argv[1], 1 << 22)
cache.put("0", b"0" * 500)
print("ready", flush=True)
for number in range(1_000_000):
    cache.put(str(number), str(number).encode() * 500)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_nothing_that_was_written_and_serves_nothing_wrong(tmp_path: Path) -> None:
    chance = random.Random(3)
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 + 0.2 * chance.random())  # the moment itself is what is tested
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        cache = DiskCache(str(tmp_path), 1 << 22)
        found = {n: data for n in range(2000) if (data := cache.get(str(n))) is not None}
        assert found
        assert all(data == str(n).encode() * 500 for n, data in found.items())
        cache.close()


async def test_the_disk_comes_back_when_its_folder_does(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    disk = DiskCache(str(folder), 1 << 20)
    disk.put("a", b"1")
    shutil.rmtree(folder)
    assert disk.get("a") is None
    disk.put("a", b"2")
    assert disk.get("a") == b"2"
    assert DiskCache(str(folder), 1 << 20).get("a") == b"2"
    disk.close()


async def test_an_entry_that_is_not_for_long_is_not_put_on_disk(tmp_path: Path) -> None:
    cache = PageCache(disk=DiskCache(str(tmp_path), 10_000))
    await cache.put("a", entry(1), for_long=False)
    assert await cache.get("a")
    cache.close()
    assert await PageCache(disk=DiskCache(str(tmp_path), 10_000)).get("a") is None


def test_the_file_of_an_earlier_release_is_removed(tmp_path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"{OLD_FILES[0]}{suffix}").write_bytes(b"SQLite format 3")
    disk = DiskCache(str(tmp_path), 10_000)
    disk.put("a", b"1")
    disk.close()
    assert not list(tmp_path.glob(f"{OLD_FILES[0]}*"))


def test_an_entry_is_no_entry_of_another_page_of_the_same_document(tmp_path: Path) -> None:
    keys = [f"{cache_key('sha')}-{page}" for page in (1, 2)]
    disk = DiskCache(str(tmp_path), 10_000)
    for key in keys:
        disk.put(key, key.encode())
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("UPDATE pages SET value = (SELECT value FROM pages WHERE key = ?) WHERE key = ?", keys)
    database.close()
    assert [disk.get(key) for key in keys] == [keys[0].encode(), None]
    disk.close()


def test_an_entry_whose_time_is_no_number_is_dropped(tmp_path: Path) -> None:
    disk = DiskCache(str(tmp_path), 10_000)
    disk.put("a", b"1")
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("UPDATE pages SET used = 'yesterday'")
    database.close()
    assert disk.get("a") is None
    disk.close()

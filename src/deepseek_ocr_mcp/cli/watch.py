"""`ocr --watch`: reads files as they appear in folders, until it is interrupted.

A file is read when its size and its time have stayed the same between two looks: then its writer is done. A file whose
text is newer than the file itself is not read again. Looking means listing: this works on network disks too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ..errors import InputNotFound, OcrError
from .shared import absolute_path

if TYPE_CHECKING:
    from .read import FileReader

__all__ = ["Arrivals", "watch_folders"]

LOOK_S: Final = 2.0  # seconds between two looks: a scanner that pauses for longer within a file gets a failed reading
LOOK_SHARE: Final = 0.1  # of the time, at most, that looking may take: a slow disk is looked at less often

Stamp = tuple[int, int]
"""Size and time of a file, by which a change shows."""


class Arrivals:
    """Tells which files are ready to be read. It looks at nothing itself."""

    def __init__(self) -> None:
        self._done: dict[str, Stamp] = {}
        self._seen: dict[str, Stamp] = {}

    def ready(self, found: Mapping[str, Stamp]) -> list[str]:
        """The files that are new or changed, and that have stayed the same since the last call.

        Args:
            found: all files that are there now.
        """
        ready = [
            file
            for file, stamp in found.items()
            if self._done.get(file) != stamp and self._seen.get(file) == stamp and stamp[0] > 0
        ]
        self._seen = dict(found)
        self._done = {file: stamp for file, stamp in self._done.items() if file in found}
        return ready

    def done(self, file: str, stamp: Stamp) -> None:
        """The file need not be read again until it changes."""
        self._done[file] = stamp


async def watch_folders(reading: FileReader) -> None:
    """Read what is in the folders and what appears in them. It never returns by itself.

    Raises:
        InputNotFound: one of them is neither a folder nor a pattern.
        OcrError: an error that every further file would meet.
    """
    import anyio

    out = str(await anyio.Path(reading.arguments.output_dir).resolve())
    arrivals, named = Arrivals(), set[str]()
    if not reading.arguments.quiet:
        folders = ", ".join(reading.arguments.files)
        print(f"Watching {folders}; texts go to {out}. Press Ctrl-C to end.", file=sys.stderr, flush=True)
    while True:
        began = time.monotonic()
        found = await _look(reading, out, named)
        pause = max(LOOK_S, (time.monotonic() - began) / LOOK_SHARE)
        for source in arrivals.ready({source: stamp for source, (stamp, _) in found.items()}):
            stamp, name = found[source]
            arrivals.done(source, stamp)
            await _read(reading, source, stamp, os.path.join(out, name + reading.suffix))
        await anyio.sleep(pause)


async def _read(reading: FileReader, source: str, stamp: Stamp, target: str) -> None:
    """Read a file into `target`, unless its text is there and newer."""
    if _is_newer(target, stamp):
        return
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        await reading.read_document(source, save_to=target, overwrite=True)
        print(target, flush=True)
    except OcrError as exc:
        if exc.is_fatal:
            raise
        reading.failed(exc, source)


async def _look(reading: FileReader, out: str, named: set[str]) -> dict[str, tuple[Stamp, str]]:
    """All files: by path, their stamps and their names in the folder.

    Args:
        named: the names that were left out, and that are not named again.
    """
    from ..caller import Caller
    from ..documents.listing import list_files, unlisted_text
    from ..documents.reach import Reach

    found: dict[str, tuple[Stamp, str]] = {}
    reach = Reach.of(Caller(), reading.service.settings)
    for folder in reading.arguments.files:
        listing = await list_files(absolute_path(folder), reach, leave_out=out)
        if listing is None:
            raise InputNotFound(f"{folder} is no folder.", remedy="Name a folder, or a quoted pattern: 'scans/**'.")
        if (fresh := [each for each in listing.left_out if each.name not in named]) and not reading.arguments.quiet:
            named.update(each.name for each in fresh)
            print(f"{folder}: {unlisted_text(fresh)}", file=sys.stderr, flush=True)
        for name in listing.files:
            path = os.path.join(listing.root, *name.split("/"))
            try:
                facts = os.stat(path)
            except OSError:  # gone meanwhile
                continue
            found[path] = (facts.st_size, facts.st_mtime_ns), name
    return found


def _is_newer(target: str, source: Stamp) -> bool:
    """Whether the text is there already and was written after its source."""
    try:
        return os.stat(target).st_mtime_ns >= source[1]
    except OSError:
        return False

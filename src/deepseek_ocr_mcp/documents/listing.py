"""A folder or a pattern becomes a list of files: bounded, in a stable order, nothing hidden, nothing from outside.

Links to folders are not followed, so that no pattern runs in circles or out of the allowed folders.
A link to a file is listed; whether it may be read is decided when it is opened.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import anyio.to_thread

from ..config import Settings
from ..errors import BadRequest, OcrError
from .paths import MAX_PATH, READABLE, places, unwrapped
from .reach import allowed_path, below_bases, checked_path

__all__ = ["Listing", "complete_path", "list_files"]

MAX_FILES: Final = 10_000
MAX_ENTRIES: Final = 200_000  # names that a pattern may look at: a second of work
ENTRIES_PER_FILE: Final = 20  # of them, where the caller says how many files are not too many
MAX_DEPTH: Final = 60  # folders in folders
MAX_COMPLETIONS: Final = 100  # what a client may be sent
MAX_PATTERNS: Final = 64  # {a,b}{c,d}… multiply

_MAGIC: Final = re.compile(r"[*?\[{]")
_BRACES: Final = re.compile(r"\{([^{}]*,[^{}]*)\}")
_FIGURES: Final = "-figures"  # what a saved Markdown keeps its pictures in


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that a folder or a pattern names."""

    root: str
    """The real path of the folder that they are in; names are relative to it."""
    files: tuple[str, ...]
    subfolders: bool = False
    """Whether there are folders in it that were not looked into."""


async def list_files(
    image: str, *, settings: Settings, local: bool, leave_out: str = "", most: int | None = None
) -> Listing | None:
    """The files that `image` names if it is a folder or a pattern; None if it is anything else.

    A folder means the files in it whose names say that they can be read, not those of its
    subfolders. In a pattern `*`, `?`, `[ab]`, `{a,b}` and `**` (any depth) stand for names; capitals
    do not count. What the settings keep out is None too: whoever opens it is told so.

    Args:
        leave_out: the real path of a folder to pass over: where the texts of these files go.
        most: files that are not too many; default: what a client that waits can be told.

    Raises:
        BadRequest: too many files, or a pattern that looks at too many.
    """
    text = unwrapped(image)
    if not text or len(text) > MAX_PATH or text[:5].lower() == "data:":
        return None
    return await anyio.to_thread.run_sync(
        _list_files, text, settings.ocr_allowed_dirs, local, leave_out, most, abandon_on_cancel=True
    )


async def complete_path(text: str, *, settings: Settings, local: bool) -> list[str]:
    """Paths that begin with `text`: files that can be read, and folders (which end with a separator).

    Nothing outside the allowed folders, and over HTTP nothing at all while there are none.
    """
    if len(text) > MAX_PATH:
        return []
    return await anyio.to_thread.run_sync(
        _complete_path, text, settings.ocr_allowed_dirs, local, abandon_on_cancel=True
    )


def _list_files(text: str, dirs: Sequence[str], local: bool, leave_out: str, most: int | None) -> Listing | None:
    try:
        paths = places(text, local) or below_bases(text, dirs, local)
    except OcrError:
        return None
    for path in paths:
        try:
            path = checked_path(path, dirs, local)
        except OcrError:
            continue
        root, pattern = _root_and_pattern(path)
        root = root and os.path.realpath(root)
        if not root or (dirs and not allowed_path(root, dirs)):
            continue
        if pattern:
            suffix = os.path.splitext(pattern[-1])[1]
            walk = _Walk(dirs, leave_out, most, any_suffix=bool(suffix) and not _MAGIC.search(suffix))
            return Listing(root, tuple(sorted(set(walk.matching(root, "", pattern)), key=_natural)))
        walk = _Walk(dirs, leave_out, most)
        found = sorted(walk.matching(root, "", ["*"]), key=_natural)
        return Listing(root, tuple(found), walk.subfolders)
    return None


def _root_and_pattern(path: str) -> tuple[str, list[str]]:
    """The folder that a path begins with, and what of it is a pattern; no folder where it is neither."""
    if os.path.lexists(path):
        return (path, []) if os.path.isdir(path) else ("", [])
    parts = path.split("/") if os.sep == "/" else re.split(r"[\\/]", path)
    root = parts[0] + os.sep
    for n, part in enumerate(parts[1:], start=1):
        further = os.path.join(root, part)
        if not os.path.isdir(further):  # a folder that is called "[2024]" is that folder
            return (root, [each for each in parts[n:] if each]) if _MAGIC.search(part) else ("", [])
        root = further
    return root, []


class _Walk:
    """One listing: it counts what it looks at."""

    def __init__(
        self, dirs: Sequence[str], leave_out: str, most: int | None = None, *, any_suffix: bool = False
    ) -> None:
        self._dirs = dirs
        self._leave_out = leave_out
        self._most_files = most or MAX_FILES
        self._most_entries = most * ENTRIES_PER_FILE if most else MAX_ENTRIES
        self._any_suffix = any_suffix
        self._entries = self._files = 0
        self.subfolders = False

    def matching(self, folder: str, prefix: str, pattern: Sequence[str]) -> Iterator[str]:
        """The files below `folder` that the components of a pattern name, relative to where it began."""
        if prefix.count("/") > MAX_DEPTH:
            return
        head, rest = pattern[0], list(pattern[1:])
        deep = head == "**"
        while deep and rest and rest[0] == "**":
            rest = rest[1:]
        if deep and not rest:
            rest = ["*"]
        files, folders = self._look(folder)
        if deep:
            yield from self._files_of(prefix, files, rest) if len(rest) == 1 else ()
            if len(rest) > 1:
                for name in self._named(folders, rest[0]):
                    yield from self.matching(os.path.join(folder, name), f"{prefix}{name}/", rest[1:])
            for name in folders:
                yield from self.matching(os.path.join(folder, name), f"{prefix}{name}/", ["**", *rest])
        elif rest:
            for name in self._named(folders, head):
                yield from self.matching(os.path.join(folder, name), f"{prefix}{name}/", rest)
        else:
            self.subfolders = self.subfolders or bool(folders)
            yield from self._files_of(prefix, files, [head])

    def _files_of(self, prefix: str, files: Sequence[str], pattern: Sequence[str]) -> Iterator[str]:
        for name in self._named(files, pattern[0]):
            if self._any_suffix or name.lower().endswith(READABLE):
                self._files += 1
                if self._files > self._most_files:
                    raise BadRequest(
                        f"`image` names more than {self._most_files:,} files.",
                        remedy='Name a part of them, for instance "/scans/2024/*.pdf".',
                    )
                yield prefix + name

    @staticmethod
    def _named(names: Sequence[str], pattern: str) -> list[str]:
        tests = [re.compile(fnmatch.translate(each.casefold())) for each in _alternatives(pattern)]
        return [name for name in names if any(test.match(name.casefold()) for test in tests)]

    def _look(self, folder: str) -> tuple[list[str], list[str]]:
        """The files and the folders in a folder, without what is hidden or ours."""
        files, folders, saved = [], [], set()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._entries += 1
                    if self._entries > self._most_entries:
                        raise BadRequest(
                            f"The pattern looks at more than {self._most_entries:,} names.",
                            remedy='Begin it further down, for instance "/scans/2024/**/*.pdf".',
                        )
                    saved.add(entry.name)
                    if entry.name.startswith("."):
                        continue
                    with contextlib.suppress(OSError):  # a link that goes in a circle, or one that may not be looked at
                        if entry.is_dir(follow_symlinks=False):
                            if entry.path != self._leave_out:
                                folders.append(entry.name)
                        elif self._is_file(entry):
                            files.append(entry.name)
        except OSError:  # no permission, or gone meanwhile
            return [], []
        return files, [name for name in folders if not _holds_figures(name, saved)]

    def _is_file(self, entry: os.DirEntry[str]) -> bool:
        if entry.is_symlink() and self._dirs and not allowed_path(os.path.realpath(entry.path), self._dirs):
            return True  # nothing is asked about what lies outside; to open it will be refused
        return entry.is_file()


def _holds_figures(name: str, beside: set[str]) -> bool:
    stem = name.removesuffix(_FIGURES)
    return stem != name and (f"{stem}.md" in beside or f"{stem}.markdown" in beside)


def _alternatives(pattern: str) -> list[str]:
    """The patterns without braces that one with `{a,b}` stands for."""
    done: list[str] = []
    todo = [pattern]
    while todo and len(done) + len(todo) <= MAX_PATTERNS:
        each = todo.pop()
        if match := _BRACES.search(each):
            todo += [each[: match.start()] + choice.strip() + each[match.end() :] for choice in match[1].split(",")]
        else:
            done.append(each)
    return done


def _natural(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Sorts page 2 before page 10."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(1, int(part)) if part.isdecimal() else (0, part) for part in parts if part], name


def _complete_path(text: str, dirs: Sequence[str], local: bool) -> list[str]:
    if not local and not dirs:
        return []
    if not text.strip():
        return [folder + os.sep for folder in dirs] or ([os.path.expanduser("~") + os.sep] if local else [])
    try:
        path = checked_path(text, dirs, local)
    except OcrError:
        return []
    folder, begin = os.path.split(path)
    folder = os.path.realpath(folder)
    if dirs and not allowed_path(folder, dirs):
        return [each + os.sep for each in dirs if each.startswith(path)]
    files, folders = _Walk(dirs, "")._look(folder)
    names = [name for name in files if name.lower().endswith(READABLE)] + [name + os.sep for name in folders]
    names = [name for name in names if name.casefold().startswith(begin.casefold())]
    return [os.path.join(folder, name) for name in sorted(names, key=_natural)][:MAX_COMPLETIONS]

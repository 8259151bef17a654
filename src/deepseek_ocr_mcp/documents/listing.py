"""A folder or a pattern becomes a list of files: bounded, in a stable order, nothing hidden, nothing from outside.

Links to folders are not followed, so that no pattern runs in circles or out of the allowed folders.
A link to a file is listed; whether it may be read is decided when it is opened. Nothing that a pattern names vanishes:
the listing says which names were left out, and why. Hidden names and files that this program wrote do not count.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import anyio.to_thread

from ..errors import BadRequest, OcrError
from .argument import Argument
from .paths import MAX_PATH, READABLE, printable
from .reach import Reach, allowed_path

__all__ = ["Listing", "Unlisted", "complete_path", "find", "list_files", "looks_readable", "unlisted_text"]

MAX_FILES: Final = 10_000
MAX_ENTRIES: Final = 200_000  # names that a pattern may look at: a second of work
ENTRIES_PER_FILE: Final = 20  # of them, where the caller says how many files are not too many
MAX_DEPTH: Final = 60  # folders in folders
MAX_COMPLETIONS: Final = 100  # what a client may be sent
SHOWN: Final = 3  # names of each kind, of those that were left out
NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither
NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
MAX_PATTERNS: Final = 64  # {a,b}{c,d}… multiply

_MAGIC: Final = re.compile(r"[*?\[{]")
_BRACES: Final = re.compile(r"\{([^{}]*,[^{}]*)\}")
_FIGURES: Final = "-figures"  # what a saved Markdown keeps its pictures in
_WRITTEN: Final = (".md", ".markdown", ".txt", ".json", ".html", ".docx", ".csv", ".xlsx", ".hocr", ".xml")
"""Suffixes that the name of a document has behind its own where this program wrote its text."""
_OF_FOLDERS: Final = frozenset({"index.md", "manifest.parquet"})  # files about a whole folder that this program writes

_HEAD: Final = 1024  # bytes: a PDF may begin so far into its file
_SIGNATURES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+",
                      b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")  # fmt: skip

NO_SUFFIX: Final = "by name and content neither a picture nor a PDF"
SUFFIX: Final = "by name neither a picture nor a PDF"
CIRCLE: Final = "links that lead in a circle or nowhere"
LINK: Final = "links to folders, which are not followed"
SPECIAL: Final = "neither files nor folders"


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A name that a pattern names, and that was left out of the listing."""

    name: str
    """Relative to the root of the listing; `.` is the root."""
    why: str
    """What such names are, as a phrase in the plural."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that a folder or a pattern names."""

    root: str
    """The real path of the folder that they are in; names are relative to it."""
    files: tuple[str, ...]
    subfolders: bool = False
    """Whether there are folders in it that were not looked into."""
    left_out: tuple[Unlisted, ...] = ()


async def find(image: str, reach: Reach) -> Listing | Argument:
    """Interpret an `image` argument: the files that it names if it is a folder or a pattern, else its meaning.

    Raises:
        BadRequest: it names too many files, or a pattern that looks at too many names.
    """
    if len(image) > MAX_PATH:
        return Argument.of(image, reach)
    return await anyio.to_thread.run_sync(_find, image, reach, abandon_on_cancel=True)


async def list_files(image: str, reach: Reach, *, leave_out: str = "", most: int | None = None) -> Listing | None:
    """The files that `image` names if it is a folder or a pattern; None if it is anything else.

    A folder means the files in it whose names say that they can be read, not those of its
    subfolders. In a pattern `*`, `?`, `[ab]`, `{a,b}` and `**` (any depth) stand for names; capitals
    do not count. A path outside the caller's reach is None too: the error comes when it is opened.

    Args:
        image: as the caller wrote it.
        reach: of the caller.
        leave_out: the real path of a folder to pass over: the one that the texts of these files go to.
        most: the largest number of files that is not too many; default: `MAX_FILES`.

    Raises:
        BadRequest: too many files, or a pattern that looks at too many names.
    """
    return await anyio.to_thread.run_sync(_list_files, image, reach, leave_out, most, abandon_on_cancel=True)


async def complete_path(text: str, reach: Reach) -> list[str]:
    """Paths that begin with `text`: files that can be read, and folders (which end with a separator).

    Nothing outside the allowed folders, and over HTTP nothing at all while there are none.
    """
    if len(text) > MAX_PATH:
        return []
    return await anyio.to_thread.run_sync(_complete_path, text, reach, abandon_on_cancel=True)


def _find(image: str, reach: Reach) -> Listing | Argument:
    argument = Argument.of(image, reach)
    return _listing_of(argument) or argument


def _list_files(image: str, reach: Reach, leave_out: str, most: int | None) -> Listing | None:
    return _listing_of(Argument.of(image, reach), leave_out, most)


def _listing_of(argument: Argument, leave_out: str = "", most: int | None = None) -> Listing | None:
    """The files of a folder or a pattern, of the likeliest path that is one; None where no path is."""
    reach = argument.reach
    for path in argument.paths if len(argument.text) <= MAX_PATH else ():
        try:
            path = reach.checked(path)
        except OcrError:
            continue
        root, pattern = _root_and_pattern(path)
        root = root and os.path.realpath(root)
        if not root or not reach.holds(root):
            continue
        if pattern:
            suffix = os.path.splitext(pattern[-1])[1]
            walk = _Walk(reach.dirs, leave_out, most, any_suffix=bool(suffix) and not _MAGIC.search(suffix))
            found = sorted(set(walk.matching(root, "", pattern)), key=_natural)
            return Listing(root, tuple(found), left_out=walk.left_out())
        walk = _Walk(reach.dirs, leave_out, most)
        found = sorted(walk.matching(root, "", ["*"]), key=_natural)
        return Listing(root, tuple(found), walk.subfolders, walk.left_out())
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
        self._left_out: dict[str, str] = {}
        self.subfolders = False

    def left_out(self) -> tuple[Unlisted, ...]:
        """The names that the pattern names and that are not among the files, in the order of people."""
        return tuple(Unlisted(name, self._left_out[name]) for name in sorted(self._left_out, key=_natural))

    def matching(self, folder: str, prefix: str, pattern: Sequence[str]) -> Iterator[str]:
        """The files below `folder` that the components of a pattern name, relative to where it began."""
        if prefix.count("/") > MAX_DEPTH:
            self._left_out[prefix.rstrip("/")] = f"folders below more than {MAX_DEPTH} others"
            return
        head, rest = pattern[0], list(pattern[1:])
        deep = head == "**"
        while deep and rest and rest[0] == "**":
            rest = rest[1:]
        if deep and not rest:
            rest = ["*"]
        files, folders = self._look(folder, prefix)
        if deep:
            yield from self._files_of(folder, prefix, files, rest) if len(rest) == 1 else ()
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
            yield from self._files_of(folder, prefix, files, [head])

    def _files_of(self, folder: str, prefix: str, files: Sequence[str], pattern: Sequence[str]) -> Iterator[str]:
        beside = set(files)
        for name in self._named(files, pattern[0]):
            if self._is_document(folder, prefix, name, beside):
                self._files += 1
                if self._files > self._most_files:
                    raise BadRequest(
                        f"`image` names more than {self._most_files:,} files.",
                        remedy='Name a part of them, for instance "/scans/2024/*.pdf".',
                    )
                yield prefix + name

    def _is_document(self, folder: str, prefix: str, name: str, beside: set[str]) -> bool:
        """Whether a file is listed. A file that is not, and that this program did not write, is left out."""
        if self._any_suffix or name.lower().endswith(READABLE):
            return True
        stem, suffix = os.path.splitext(name)
        if not suffix and looks_readable(os.path.join(folder, name)):
            return True
        if name not in _OF_FOLDERS and not (suffix.lower() in _WRITTEN and stem in beside):
            self._left_out[prefix + name] = SUFFIX if suffix else NO_SUFFIX
        return False

    @staticmethod
    def _named(names: Sequence[str], pattern: str) -> list[str]:
        tests = [re.compile(fnmatch.translate(each.casefold())) for each in _alternatives(pattern)]
        return [name for name in names if any(test.match(name.casefold()) for test in tests)]

    def _look(self, folder: str, prefix: str = "") -> tuple[list[str], list[str]]:
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
                    match self._kind_of(entry):
                        case "file":
                            files.append(entry.name)
                        case "folder":
                            folders.append(entry.name)
                        case why if why:
                            self._left_out[prefix + entry.name] = why
        except OSError as exc:
            self._left_out[prefix.rstrip("/") or "."] = f"folders that could not be listed ({exc.strerror})"
            return [], []
        return files, [name for name in folders if not _holds_figures(name, saved)]

    def _kind_of(self, entry: os.DirEntry[str]) -> str:
        """`file`, `folder`, or why the name is left out; empty for the folder that the texts go to."""
        try:
            if entry.is_dir(follow_symlinks=False):
                return "" if entry.path == self._leave_out else "folder"
            if self._is_file(entry):
                return "file"
            if entry.is_symlink():
                return LINK if entry.is_dir() else CIRCLE
        except OSError:  # a link that goes in a circle, or one that may not be looked at
            return CIRCLE
        return SPECIAL

    def _is_file(self, entry: os.DirEntry[str]) -> bool:
        if entry.is_symlink() and self._dirs and not allowed_path(os.path.realpath(entry.path), self._dirs):
            return True  # nothing is asked about what lies outside; to open it will be refused
        return entry.is_file()


def looks_readable(path: str) -> bool:
    """Whether a file begins like a picture or a PDF. A link is not opened: it may lead anywhere."""
    try:
        with open(os.open(path, os.O_RDONLY | NO_FOLLOW | NO_WAIT), "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    if head.startswith(_SIGNATURES) or b"%PDF-" in head:
        return True
    return head[8:12] == b"WEBP" or (head[4:8] == b"ftyp" and head[8:11] in (b"avi", b"hei", b"mif"))


def unlisted_text(left_out: Sequence[Unlisted]) -> str:
    """A sentence for a person or an agent: how many names were left out, the first of them, and why."""
    names: dict[str, list[str]] = {}
    for each in left_out:
        names.setdefault(each.why, []).append(each.name)
    parts = []
    for why, of_kind in names.items():
        more = f" and {len(of_kind) - SHOWN:,} more" if len(of_kind) > SHOWN else ""
        parts.append(f"{', '.join(map(printable, of_kind[:SHOWN]))}{more} ({why})")
    count = "1 name was" if len(left_out) == 1 else f"{len(left_out):,} names were"
    return f"{count} left out: {'; '.join(parts)}."


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


def _complete_path(text: str, reach: Reach) -> list[str]:
    dirs = reach.dirs
    if not reach.is_local and not dirs:
        return []
    if not text.strip():
        return [folder + os.sep for folder in dirs] or [os.path.expanduser("~") + os.sep]
    try:
        path = reach.checked(text)
    except OcrError:
        return []
    folder, begin = os.path.split(path)
    folder = os.path.realpath(folder)
    if not reach.holds(folder):
        return [each + os.sep for each in dirs if each.startswith(path)]
    files, folders = _Walk(dirs, "")._look(folder)
    names = [name for name in files if name.lower().endswith(READABLE)] + [name + os.sep for name in folders]
    names = [name for name in names if name.casefold().startswith(begin.casefold())]
    return [os.path.join(folder, name) for name in sorted(names, key=_natural)][:MAX_COMPLETIONS]

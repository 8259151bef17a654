"""Lists the files that a folder or a pattern names: a bounded number, in a stable order, all in the caller's reach.

Links to folders are not followed, so that no pattern runs in circles or out of the allowed folders. A link to a file is
listed; whether it may be read is decided when it is opened. The listing names every file that was left out, and why.
Hidden files, and files that this program wrote, are left out without a word.
"""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import anyio.to_thread

from ..errors import BadRequest, OcrError
from .argument import Argument
from .paths import MAGIC, MAX_PATH, READABLE, printable
from .reach import Reach, allowed_path

__all__ = [
    "HEAD",
    "OTHER_SUFFIX",
    "SHOWN",
    "FileTree",
    "Listing",
    "Unlisted",
    "begins_like_document",
    "complete_path",
    "find",
    "find_tree",
    "left_out_text",
    "list_files",
    "looks_readable",
    "subfolders",
    "unlisted_text",
    "walk_tree",
]

MAX_FILES: Final = 10_000
MAX_ENTRIES: Final = 200_000  # names that a pattern may look at; they take a second
ENTRIES_PER_FILE: Final = 20  # names to look at for each file, if the caller sets the most files
UNBOUNDED: Final = 1 << 40  # files of a tree that nobody waits for
MAX_DEPTH: Final = 60  # folders in folders
MAX_COMPLETIONS: Final = 100  # paths that a client is sent
SHOWN: Final = 3  # names of each kind of names that were left out
NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither this flag nor the next
NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
MAX_PATTERNS: Final = 64  # patterns that one with {a,b}{c,d}… may stand for

_BRACES: Final = re.compile(r"\{([^{}]*,[^{}]*)\}")
_FIGURES: Final = "-figures"  # end of the name of a folder with the pictures of a saved Markdown
_WRITTEN: Final = (".md", ".markdown", ".txt", ".json", ".html", ".docx", ".csv", ".xlsx", ".hocr", ".xml")
"""Suffixes of texts. This program adds one to the name of the document: `scan.pdf.md`."""
_OF_FOLDERS: Final = frozenset({"index.md", "manifest.parquet"})  # about a whole folder; this program writes them

HEAD: Final = 1024  # bytes; the signature of a PDF may stand so far into the file
_SIGNATURES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+",
                      b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")  # fmt: skip

NO_SUFFIX: Final = "by name and content neither a picture nor a PDF"
OTHER_SUFFIX: Final = "by name neither a picture nor a PDF"
CIRCLE: Final = "links that lead in a circle or nowhere"
LINK: Final = "links to folders, which are not followed"
SPECIAL: Final = "neither files nor folders"


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A name that a pattern names, and that was left out of the listing."""

    name: str
    """Relative to the root of the listing; `.` is the root."""
    why: str
    """The kind of the name, as a phrase in the plural."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that a folder or a pattern names."""

    root: str
    """The real path of the folder. The names of the files are relative to it."""
    files: tuple[str, ...]
    subfolders: bool = False
    """Whether the folder has subfolders that were not looked into."""
    left_out: tuple[Unlisted, ...] = ()


@dataclass(frozen=True, slots=True)
class FileTree:
    """A folder or a pattern that is not listed yet."""

    root: str
    """The real path of the folder that it begins with."""
    pattern: tuple[str, ...] = ()
    """The components of the pattern below the root; empty: the files of the root itself."""

    @property
    def names_a_suffix(self) -> bool:
        """Whether the pattern asks for one suffix: then each name with that suffix is a document."""
        suffix = os.path.splitext(self.pattern[-1])[1] if self.pattern else ""
        return bool(suffix) and not MAGIC.search(suffix)


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

    A folder names the files in it that can be read, by their names, and none in its subfolders. In a pattern `*`, `?`,
    `[ab]`, `{a,b}` and `**` (any depth) stand for names; capitals do not count. A path outside the caller's reach gives
    None too: the error comes when it is opened.

    Args:
        image: the argument as the caller wrote it.
        reach: the reach of the caller.
        leave_out: the real path of a folder to pass over: the one that the texts of these files go to.
        most: the largest number of files that is not too many; default: `MAX_FILES`.

    Raises:
        BadRequest: too many files, or a pattern that looks at too many names.
    """
    return await anyio.to_thread.run_sync(_list_files, image, reach, leave_out, most, abandon_on_cancel=True)


async def complete_path(text: str, reach: Reach) -> list[str]:
    """The paths that begin with `text`: files that can be read, and folders (which end with a separator).

    No path is outside the caller's reach.
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
    """The files of a folder or a pattern, of the likeliest path that is one; None if no path is one."""
    tree = find_tree(argument)
    if tree is None:
        return None
    walk = _Walk(argument.reach.dirs, leave_out, most, any_suffix=tree.names_a_suffix)
    if tree.pattern:
        found = sorted(set(walk.matching(tree.root, "", tree.pattern)), key=_natural)
        return Listing(tree.root, tuple(found), left_out=walk.left_out())
    found = sorted(walk.matching(tree.root, "", ["*"]), key=_natural)
    return Listing(tree.root, tuple(found), walk.subfolders, walk.left_out())


def find_tree(argument: Argument) -> FileTree | None:
    """The folder that a path or a pattern begins with, of the likeliest path that is one; None if no path is one."""
    reach = argument.reach
    for path in argument.paths if len(argument.text) <= MAX_PATH else ():
        try:
            path = reach.checked(path)
        except OcrError:
            continue
        root, pattern = _root_and_pattern(path)
        root = root and os.path.realpath(root)
        if root and reach.holds(root):
            return FileTree(root, tuple(pattern))
    return None


def walk_tree(tree: FileTree, prefix: str, dirs: Sequence[str], leave_out: str) -> Iterator[str | Unlisted]:
    """The files of a part of a tree, and the names that are left out, while the folders are listed.

    No list is held, but that of one folder. The order is the same each time while nothing changes.

    Args:
        tree: with the pattern that holds from `prefix` on.
        prefix: the folder to begin with, relative to the root, with a slash behind; empty: the root.
        dirs: the allowed folders; empty: all.
        leave_out: the real path of a folder to pass over.
    """
    walk = _Walk(dirs, leave_out, UNBOUNDED, any_suffix=tree.names_a_suffix)
    for name in walk.matching(os.path.join(tree.root, prefix), prefix, tree.pattern or ("*",)):
        yield from walk.take_left_out()
        yield name
    yield from walk.take_left_out()


def subfolders(tree: FileTree, prefix: str, dirs: Sequence[str], leave_out: str, most: int) -> list[str] | None:
    """The names of the folders in a folder of a tree; None where it holds more than `most` names of any kind.

    Args:
        tree: the file tree.
        prefix: the folder, as its names begin.
        dirs: the allowed folders; empty: all.
        leave_out: a folder that is passed over; empty: none.
        most: the most names to look at.
    """
    folder = os.path.join(tree.root, prefix)
    try:
        with os.scandir(folder) as entries:
            if sum(1 for _ in itertools.islice(entries, most + 1)) > most:
                return None
    except OSError:  # whoever lists it says so
        return []
    return _Walk(dirs, leave_out, UNBOUNDED)._look(folder)[1]


def _root_and_pattern(path: str) -> tuple[str, list[str]]:
    """The folder that a path begins with, and the parts behind it that are a pattern.

    The folder is empty if the path is neither a folder nor a pattern.
    """
    if os.path.lexists(path):
        return (path, []) if os.path.isdir(path) else ("", [])
    parts = path.split("/") if os.sep == "/" else re.split(r"[\\/]", path)
    root = parts[0] + os.sep
    for n, part in enumerate(parts[1:], start=1):
        further = os.path.join(root, part)
        if not os.path.isdir(further):  # the name of a folder that exists is no pattern: "[2024]"
            return (root, [each for each in parts[n:] if each]) if MAGIC.search(part) else ("", [])
        root = further
    return root, []


class _Walk:
    """One listing. It counts the names that it looks at.

    Args:
        dirs: the allowed folders.
        leave_out: the real path of a folder to pass over.
        most: the largest number of files; None: `MAX_FILES`.
        any_suffix: whether files are listed whatever their names end in, because the pattern names a suffix.
    """

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
        """The names that were left out, in natural order."""
        return tuple(Unlisted(name, self._left_out[name]) for name in sorted(self._left_out, key=_natural))

    def take_left_out(self) -> list[Unlisted]:
        """The names that were left out since the last call."""
        left_out, self._left_out = self.left_out(), {}
        return list(left_out)

    def matching(self, folder: str, prefix: str, pattern: Sequence[str]) -> Iterator[str]:
        """The files below `folder` that a pattern names.

        Args:
            folder: the folder.
            prefix: the path of the folder, relative to the root of the listing; empty or with a slash at its end.
            pattern: the parts of the pattern.

        Returns:
            Paths relative to the root of the listing.
        """
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
        """Whether a file is listed. Other files are noted as left out, except those that this program wrote."""
        if self._any_suffix or name.lower().endswith(READABLE):
            return True
        stem, suffix = os.path.splitext(name)
        if not suffix and looks_readable(os.path.join(folder, name)):
            return True
        if name not in _OF_FOLDERS and not (suffix.lower() in _WRITTEN and stem in beside):
            self._left_out[prefix + name] = OTHER_SUFFIX if suffix else NO_SUFFIX
        return False

    @staticmethod
    def _named(names: Sequence[str], pattern: str) -> list[str]:
        tests = [re.compile(fnmatch.translate(each.casefold())) for each in _alternatives(pattern)]
        return [name for name in names if any(test.match(name.casefold()) for test in tests)]

    def _look(self, folder: str, prefix: str = "") -> tuple[list[str], list[str]]:
        """The files and the folders in a folder, without hidden ones and those that this program wrote."""
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
        return sorted(files), sorted(name for name in folders if not _holds_figures(name, saved))

    def _kind_of(self, entry: os.DirEntry[str]) -> str:
        """`file`, `folder`, or the reason why the name is left out; empty for the folder to pass over."""
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
            return True  # the system is not asked about a file outside; opening it will be refused
        return entry.is_file()


def looks_readable(path: str) -> bool:
    """Whether a file begins like a picture or a PDF. A link is not opened: it may lead anywhere."""
    try:
        with open(os.open(path, os.O_RDONLY | NO_FOLLOW | NO_WAIT), "rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return begins_like_document(head)


def begins_like_document(head: bytes) -> bool:
    """Whether the first `HEAD` bytes are those of a picture or a PDF."""
    if head.startswith(_SIGNATURES) or b"%PDF-" in head:
        return True
    return head[8:12] == b"WEBP" or (head[4:8] == b"ftyp" and head[8:11] in (b"avi", b"hei", b"mif"))


def unlisted_text(left_out: Sequence[Unlisted]) -> str:
    """A sentence for a person or an agent: how many names were left out, the first of them, and why."""
    names: dict[str, list[str]] = {}
    for each in left_out:
        names.setdefault(each.why, []).append(each.name)
    return left_out_text({why: (len(of_kind), of_kind[:SHOWN]) for why, of_kind in names.items()})


def left_out_text(kinds: Mapping[str, tuple[int, Sequence[str]]]) -> str:
    """The same sentence from numbers.

    Args:
        kinds: by the reason, how many names were left out for that reason, and the first of the names.
    """
    parts = []
    for why, (count, names) in kinds.items():
        more = f" and {count - len(names):,} more" if count > len(names) else ""
        parts.append(f"{', '.join(map(printable, names))}{more} ({why})")
    total = sum(count for count, _ in kinds.values())
    return f"{'1 name was' if total == 1 else f'{total:,} names were'} left out: {'; '.join(parts)}."


def _holds_figures(name: str, beside: set[str]) -> bool:
    stem = name.removesuffix(_FIGURES)
    return stem != name and (f"{stem}.md" in beside or f"{stem}.markdown" in beside)


def _alternatives(pattern: str) -> list[str]:
    """The patterns without braces that a pattern with `{a,b}` stands for."""
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
    """The key of natural order, in which page 2 comes before page 10."""
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

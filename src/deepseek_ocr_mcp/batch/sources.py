"""The documents that a path, a pattern or a URL names, listed part by part while they are read.

A `SourcePart` is what one task lists: a folder of this machine, or a prefix of a bucket. No process holds the list, and
nothing that was named vanishes: a name that is no document is yielded, too, with the reason. An archive that is named
by its suffix is listed like a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

from ..documents.argument import Argument
from ..documents.listing import OTHER_SUFFIX, FileTree, Unlisted, find_tree, subfolders, walk_tree
from ..documents.reach import Reach
from ..errors import BadRequest
from .archives import is_archive, list_members
from .files import (
    PAGE,
    STATE,
    Location,
    SourceDocument,
    lists_in_pages,
    may_be_document,
    place_of,
    safe_name,
    translated,
)

__all__ = ["LIST", "SourcePart", "list_part", "parts_of"]

LIST: Final = f"{STATE}/list"
LISTED: Final = 5_000  # documents of a list that one part holds
LOOKED_UP: Final = 16  # URLs of a list at once: each is a request
PARTS: Final = 64  # that are enough to keep all listers busy until the end
FOLDER_ENTRIES: Final = 10_000  # a folder of more names is listed by one task: to look for its folders takes as long
# What file systems call the time or the content of a file.
_STAMPS: Final = ("ETag", "etag", "md5", "mtime", "LastModified", "last_modified", "updated", "modified", "created")


@dataclass(frozen=True, slots=True)
class SourcePart:
    """What one task lists."""

    root: str
    """The folder, or the URL, that the names of its documents are relative to."""
    prefix: str = ""
    """Relative to the root: a folder with a slash behind, or a file; empty: all of the root."""
    pattern: tuple[str, ...] = ()
    """On this machine: the components of the pattern from the prefix on; empty: the prefix is a document.
    Elsewhere: one pattern for whole paths, or nothing."""
    local: bool = True
    own_files: bool = False
    """Elsewhere: only the files in the prefix itself, not those in its folders."""
    dirs: tuple[str, ...] = ()
    """The allowed folders of this machine; empty: all."""
    listed: str = ""
    """Instead of a pattern: the path or URL of a file that names a document in each line, by its whole path or URL."""
    leave_out: str = ""
    """The folder that the texts go to: nothing in it is a document."""


def parts_of(text: str, out: Location, reach: Reach) -> list[SourcePart]:
    """The parts of what a path, a pattern or a URL names; of a folder, those below it included.

    Args:
        text: a path, a pattern or a URL; or `@` and the path of a list of paths and URLs, `@-` for standard input.
        out: where the texts go.
        reach: the folders of this machine that are allowed.

    Raises:
        InputNotFound: it names nothing.
        OcrError: the file system refused, or is not known.
    """
    if text.startswith("@"):
        return _listed_parts(text[1:], out, reach)
    place = place_of(text)
    if not place.local:
        return _remote_parts(place, out)
    leave_out = os.path.realpath(out.url) if out.local else ""
    pattern = os.path.join(place.url, "**") if os.path.isdir(place.url) else place.url
    tree = find_tree(Argument.of(pattern, reach))
    if tree is not None:
        whole = SourcePart(tree.root, "", tree.pattern, dirs=tuple(reach.dirs), leave_out=leave_out)
        return _divided(whole)
    if os.path.isfile(place.url):
        folder, name = os.path.split(place.url)
        return [SourcePart(folder, name, dirs=tuple(reach.dirs))]
    return []


def _listed_parts(path: str, out: Location, reach: Reach) -> list[SourcePart]:
    """The documents that a list names, one a line. The lines go to the output folder, where the workers find them."""
    out.remove(out.names(LIST))
    parts: list[SourcePart] = []
    with translated(path), contextlib.ExitStack() as stack:
        lines = sys.stdin.buffer if path == "-" else stack.enter_context(open(path, "rb"))
        names = _names_in(lines, path)
        while chunk := list(itertools.islice(names, LISTED)):
            name = f"{LIST}/{len(parts):06}"
            out.write(name, b"\n".join(chunk))
            parts.append(SourcePart("/", listed=out.url_of(name), dirs=tuple(reach.dirs)))
    return parts


def _names_in(lines: Iterable[bytes], path: str) -> Iterator[bytes]:
    """What the lines name, in their order, each once. Empty lines do not count. Of each name 16 bytes are held."""
    seen: set[bytes] = set()
    is_local: bool | None = None
    for line in lines:
        if not line.strip():
            continue
        place = place_of(os.fsdecode(line.strip()))
        name = os.fsencode(os.path.normpath(place.url) if place.local else place.url)
        if is_local is not None and place.local != is_local:
            raise BadRequest(
                f"The list {path} names both files of this machine and URLs.",
                remedy="Make two lists, with an --out each.",
            )
        is_local = place.local
        key = hashlib.blake2b(name, digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            yield name


def _divided(whole: SourcePart) -> list[SourcePart]:
    """A folder in parts: each folder in it alone, down to where there are enough. Other patterns stay whole."""
    files = whole.pattern[1:] or ("*",)
    if whole.pattern[:1] != ("**",) or len(files) > 1 or files == ("**",):
        return [whole]
    done: list[SourcePart] = []
    deep = deque([whole])
    while deep and len(done) + len(deep) < PARTS:
        part = deep.popleft()
        tree = FileTree(part.root, part.pattern)
        names = subfolders(tree, part.prefix, part.dirs, part.leave_out, FOLDER_ENTRIES)
        if names:
            done.append(replace(part, pattern=files))
            deep.extend(replace(part, prefix=f"{part.prefix}{name}/") for name in names)
        else:
            done.append(part)
    return [*done, *deep]


def _remote_parts(place: Location, out: Location) -> list[SourcePart]:
    fs, root = place.fs, place.root
    leave_out = out.root if not out.local and type(out.fs) is type(fs) else ""
    with translated(place.url):
        if any(char in place.url for char in "*?["):
            fixed = re.split(r"[*?\[]", root)[0].rpartition("/")[0]
            url = re.split(r"[*?\[]", place.url)[0].rpartition("/")[0]
            return [SourcePart(url, "", (root,), local=False, leave_out=leave_out)] if fixed else []
        if _is_folder(place):
            whole = SourcePart(place.url, local=False, leave_out=leave_out)
            names = _first_prefixes(place)
            if not names:
                return [whole]
            return [replace(whole, own_files=True), *(replace(whole, prefix=f"{name}/") for name in names)]
        fs.info(root)  # says what is wrong with it
    folder, _, name = place.url.rpartition("/")
    return [SourcePart(folder, name, local=False)]


def _is_folder(place: Location) -> bool:
    if lists_in_pages(place.fs):  # its `isdir` lists all of it
        return next(place.entries(deep=False), None) is not None
    return bool(place.fs.isdir(place.root))


def _first_prefixes(place: Location) -> list[str]:
    """The folders of a bucket's prefix; none where one answer of the store does not hold them all."""
    if not lists_in_pages(place.fs):
        return []
    entries = list(itertools.islice(place.entries(deep=False), PAGE))
    if len(entries) >= PAGE:
        return []
    return [entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory"]


def list_part(part: SourcePart) -> Iterator[SourceDocument | Unlisted]:
    """The documents of a part, and the names that are none, with their whole paths or URLs. Of an archive, its members.

    Raises:
        OcrError: the file system refused.
    """
    list_it = _list_listed if part.listed else _list_local if part.local else _list_remote
    for found in list_it(part):
        if isinstance(found, SourceDocument) and is_archive(found.url):
            yield from _list_archive(found, part.dirs)
        else:
            yield found


def _list_archive(archive: SourceDocument, dirs: Sequence[str]) -> Iterator[SourceDocument | Unlisted]:
    if not archive.local and not archive.url.startswith("http"):
        place = Location(archive.url)
        if any(entry["name"] != place.root for entry in place.entries()):  # whose texts would have the same names
            yield Unlisted(archive.url, "archives beside a folder of the same name")
            return
    yield from list_members(archive, dirs)


def _list_listed(part: SourcePart) -> Iterator[SourceDocument | Unlisted]:
    folder, _, name = part.listed.rpartition("/")
    names = [os.fsdecode(line) for line in Location(folder).read(name).split(b"\n")]
    with ThreadPoolExecutor(LOOKED_UP, "list") as looks:
        for at in range(0, len(names), LOOKED_UP):
            yield from looks.map(partial(_listed_document, dirs=part.dirs), names[at : at + LOOKED_UP])


def _listed_document(name: str, dirs: Sequence[str]) -> SourceDocument | Unlisted:
    """A document of a list. Its text is called after all of its path, so that it keeps its name in every list."""
    place = place_of(name)
    if place.local:
        if os.path.isdir(name):
            return Unlisted(name, "folders in a list")
        return _local_document(name, os.path.splitdrive(name)[1].replace(os.sep, "/").lstrip("/"), dirs)
    url = place.url
    try:
        facts = place.fs.info(place.root)
    except Exception:  # its planner says what is wrong with it
        facts = {}
    stamp = _remote_stamp(facts) if facts else ""
    return SourceDocument(url, _safe(url.partition("://")[2]), stamp, False, facts.get("size"), True)


def _list_local(part: SourcePart) -> Iterator[SourceDocument | Unlisted]:
    def path_of(name: str) -> str:
        return os.path.normpath(os.path.join(part.root, *name.split("/")))

    if not part.pattern:
        yield _local_document(os.path.join(part.root, part.prefix), part.prefix, part.dirs)
        return
    may_repeat = part.pattern.count("**") > 1  # such a pattern may name a file twice
    seen: set[str] = set()
    for found in walk_tree(FileTree(part.root, part.pattern), part.prefix, part.dirs, part.leave_out):
        if isinstance(found, Unlisted):
            yield Unlisted(path_of(found.name), found.why)
        elif found not in seen:
            if may_repeat:
                seen.add(found)
            yield _local_document(path_of(found), found, part.dirs)


def _local_document(path: str, name: str, dirs: Sequence[str]) -> SourceDocument:
    try:
        # Of a link that leads out of the allowed folders nothing is asked; to open it will be refused.
        facts = os.lstat(path) if dirs else os.stat(path)
    except OSError:
        return SourceDocument(path, name, "")
    return SourceDocument(path, name, f"{facts.st_size} {facts.st_mtime_ns}", size=facts.st_size)


def _list_remote(part: SourcePart) -> Iterator[SourceDocument | Unlisted]:
    place = Location(part.root)
    fs, root = place.fs, place.root
    if part.prefix and not part.prefix.endswith("/"):
        with translated(place.url_of(part.prefix)):
            facts = fs.info(f"{root}/{part.prefix}")
        yield _remote_document(fs, part.prefix, facts)
        return
    matches = _matcher(part.pattern)
    any_suffix = FileTree("", part.pattern).names_a_suffix
    failed: list[OSError] = []
    for facts in place.entries(part.prefix.rstrip("/"), deep=not part.own_files, failed=failed.append):
        path = facts["name"]
        name = path[len(root) :].lstrip("/")
        if not name or facts.get("type") == "directory" or name.endswith("/"):
            continue
        if part.leave_out and path.startswith(f"{part.leave_out}/"):
            continue
        if any(each.startswith(".") for each in name.split("/")) or not matches(path):
            continue
        if any_suffix or may_be_document(name.partition("?")[0]):
            yield _remote_document(fs, name, facts)
        else:
            yield Unlisted(fs.unstrip_protocol(path), OTHER_SUFFIX)
    for exc in failed:
        yield Unlisted(place.url_of(part.prefix), f"folders that could not be listed ({type(exc).__name__})")


def _matcher(pattern: Sequence[str]) -> Any:
    """Whether a path of another file system fits a pattern."""
    if not pattern:
        return lambda path: True
    from fsspec.utils import glob_translate

    return re.compile(glob_translate(pattern[0])).match


def _remote_document(fs: Any, name: str, facts: dict[str, Any]) -> SourceDocument:
    url, safe = fs.unstrip_protocol(facts["name"]), _safe(name)
    renamed = safe != name or url.startswith("http")  # two addresses on the web may be one name
    return SourceDocument(url, safe, _remote_stamp(facts), False, facts.get("size"), renamed)


def _safe(name: str) -> str:
    return safe_name(unquote(name.partition("?")[0]))


def _remote_stamp(facts: dict[str, Any]) -> str:
    """Size and whatever else tells one state of a file from another; empty where it is the size alone."""
    known = [str(facts[name]) for name in _STAMPS if facts.get(name)]
    return f"{facts.get('size')} {' '.join(known)}" if known else ""

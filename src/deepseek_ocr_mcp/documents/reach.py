"""Which files a caller may read: absolute paths inside the allowed folders, opened once and checked after opening."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Sequence
from typing import Final

from ..errors import BadRequest, InputForbidden, InputNotFound, OcrError, UnreadableInput
from .paths import in_sandbox, is_drive_path, lookalikes, on_this_system, path_of_uri, places, printable, spellings

__all__ = [
    "ACCEPTED",
    "ASK",
    "BINARY",
    "CREATE",
    "allowed_path",
    "below_a_base",
    "below_bases",
    "checked_path",
    "open_named",
    "outside_allowed_dirs",
    "path_of_open_file",
]


ASK: Final = (
    "Ask the user for the file's absolute path on their computer and give that (a picture that was pasted has none "
    "until it is saved), or give the base64 of the file."
)
ACCEPTED: Final = 'Give an absolute path ("/home/me/scan.pdf"), a file:// or data: URI, or the base64 of the file.'

BINARY: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_READ: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | BINARY
CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | BINARY


def allowed_path(path: str, dirs: Sequence[str]) -> bool:
    """Whether `path` lies in one of `dirs` or below. Both are real paths: no link is followed here."""
    path = os.path.normcase(path)
    for folder in dirs:
        folder = os.path.normcase(folder)
        if path == folder or path.startswith(folder.rstrip(os.sep) + os.sep):
            return True
    return False


def open_named(image: str, dirs: Sequence[str], local: bool) -> tuple[int, str]:
    """Open the file that an absolute path or a `file:` URI means.

    Each path that it can mean is judged; told is what became of the likeliest one.

    Raises:
        BadRequest, InputForbidden, InputNotFound, UnreadableInput: see `open_source`.
    """
    path, *others = places(image, local) or [image]
    try:
        return _open_file(path, dirs, local)
    except (InputForbidden, InputNotFound) as exc:
        if image[:5].lower() == "file:" and (host := path_of_uri(image)[0]):
            raise BadRequest(
                f"The URI names the machine {printable(host, 60)!r}; only this one's files are read.",
                remedy="Write file:///home/me/scan.pdf, with three slashes, or give the path itself.",
            ) from None
        if isinstance(exc, InputForbidden):
            raise _sandboxed(exc, path, dirs, local) from None
        missing = exc
    folder, name = os.path.split(path)
    near: list[str] = []
    # The folder is asked for its names only where the caller may read it.
    if not dirs or allowed_path(os.path.realpath(folder), dirs):
        alike, near = lookalikes(folder, name)
        others += [os.path.join(folder, alike)] if alike else []
    for other in others:
        with contextlib.suppress(BadRequest, InputForbidden, InputNotFound):
            return _open_file(other, dirs, local)
    if near:
        missing.remedy = _did_you_mean([os.path.join(folder, each) for each in near])
    elif not os.path.isdir(folder):
        missing.remedy = f"There is no folder {printable(folder)} either. Ask the user for the path."
    raise _sandboxed(missing, path, dirs, local)


def _did_you_mean(paths: Sequence[str]) -> str:
    return f"Did you mean {' or '.join(printable(path) for path in paths)}?"


def _sandboxed(exc: OcrError, path: str, dirs: Sequence[str], local: bool) -> OcrError:
    """The refusal of a path, in better words where it is one on the assistant's own machine."""
    if not in_sandbox(path):
        return exc
    return type(exc)(
        f"{printable(path)} is in the assistant's own sandbox: another machine, whose files no tool here can reach.",
        remedy=ASK if local or dirs else "Send the file itself, as base64.",
    )


def below_a_base(text: str, dirs: Sequence[str], local: bool) -> str:
    """The absolute path of the one file that a relative path can mean.

    Raises:
        BadRequest: there is none, or there are several.
    """
    found = [path for path in below_bases(text, dirs, local) if os.path.lexists(path)]
    near: list[str] = []
    for path in [] if found else below_bases(text, dirs, local):
        folder, name = os.path.split(path)
        if not dirs or allowed_path(os.path.realpath(folder), dirs):
            alike, close = lookalikes(folder, name)
            found += [os.path.join(folder, alike)] if alike else []
            near += [os.path.join(folder, each) for each in close if os.path.join(folder, each) not in near]
    if len({os.path.realpath(path) for path in found}) == 1:
        return found[0]
    shown = printable(text, 80)
    if found:
        raise BadRequest(
            f"`image` is {shown!r}: a relative path, and there are {len(found)} such files.",
            remedy=f"Give the absolute path: {' or '.join(map(printable, found))}.",
        )
    bases = [*_working_folder(local), *dirs]
    where = (
        f"there is no such file in {' or '.join(map(printable, bases))}" if bases else "the server has no such folder"
    )
    example = re.sub(r"^(\.{1,2}[\\/])+", "", shown.replace("\\", "/")).lstrip("~/") or "scan.pdf"
    raise BadRequest(
        f"`image` is {shown!r}: a relative path, and {where}.",
        remedy=(f"{_did_you_mean(near)} " if near else "")
        + f'Give an absolute path, for instance "/home/me/{example}", or the base64 of the file.',
    )


def below_bases(text: str, dirs: Sequence[str], local: bool) -> list[str]:
    """The absolute paths that a relative one can mean, whether they exist or not: all in allowed folders.

    Below the caller's working folder, where the caller sits on this machine, and the allowed folders.
    """
    bases = list(dict.fromkeys([*_working_folder(local), *dirs]))
    paths = [os.path.join(base, each) for each in spellings(text) if _is_path(each) for base in bases]
    return [path for path in paths if not dirs or allowed_path(os.path.realpath(path), dirs)]


def _working_folder(local: bool) -> list[str]:
    """The folder that a client on this machine started the server in: its project, most often."""
    if local:
        with contextlib.suppress(OSError):
            return [os.getcwd()]
    return []


def _is_path(text: str) -> bool:
    """Whether the system can be asked for it at all."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def checked_path(path: str, dirs: Sequence[str], local: bool) -> str:
    """An absolute path on this machine, `~` expanded, before anything is touched.

    Raises:
        BadRequest: it is none.
        InputForbidden: this caller may use no paths.
    """
    if not _is_path(path):
        raise BadRequest("The path has a character that no path can have.", remedy="Give the path without it.")
    if not local and not dirs:
        raise InputForbidden(
            "Paths on the server are not used over HTTP.",
            remedy="Send the file itself, as base64 or an upload; or the operator sets OCR_ALLOWED_DIRS.",
        )
    if local:
        path = os.path.expanduser(path)
    if is_drive_path(path) and os.name != "nt":
        here = on_this_system(path)
        if here is None:
            raise BadRequest(
                f"{printable(path, 80)!r} is a Windows path, and this machine has no such drive.",
                remedy='Give the path as this machine has it (in WSL "/mnt/c/…"), or the base64 of the file.',
            )
        path = here
    if path.startswith("\\\\") and not local:
        # Only looking at it would send the machine's credentials to the host that it names.
        raise InputForbidden("Network paths are not used over HTTP.", remedy="Send the file itself.")
    if not os.path.isabs(path):
        raise BadRequest(f"{printable(path, 80)!r} is no absolute path.", remedy=ACCEPTED)
    return path


def outside_allowed_dirs(what: str, dirs: Iterable[str]) -> InputForbidden:
    return InputForbidden(
        f"{what} is outside the allowed folders: {', '.join(dirs)}.",
        remedy="Use a file there, or send the file itself as base64; the operator can set OCR_ALLOWED_DIRS.",
    )


def _open_file(path: str, dirs: Sequence[str], local: bool) -> tuple[int, str]:
    path = checked_path(path, dirs, local)
    name = printable(os.path.basename(path.rstrip(os.sep)) or path, 100)
    # Asked before the file is opened: even to open a pipe or a tape is to do something to it.
    if dirs and not allowed_path(os.path.realpath(path), dirs):
        raise outside_allowed_dirs(name, dirs)
    try:
        descriptor = os.open(path, _READ)
    except OSError as exc:
        raise _open_error(exc, path, name) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise _not_a_file(name, mode)
        # Asked again of the file that was opened: a link may have been turned in between.
        if dirs and not allowed_path(path_of_open_file(descriptor, path), dirs):
            raise outside_allowed_dirs(name, dirs)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, name


def path_of_open_file(descriptor: int, path: str) -> str:
    """Where an open file lies; empty if that cannot be told."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{descriptor}")
    real = os.path.realpath(path)
    with contextlib.suppress(OSError):
        if os.path.samestat(os.stat(real, follow_symlinks=False), os.fstat(descriptor)):
            return real
    return ""


def _open_error(exc: OSError, path: str, name: str) -> OcrError:
    if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL):
        return InputNotFound(f"There is no file {printable(path)}.", remedy="Check the path, or ask the user for it.")
    if os.path.isdir(path):  # Windows does not open folders
        return _not_a_file(name, stat.S_IFDIR)
    if exc.errno in (errno.EACCES, errno.EPERM):
        return UnreadableInput(
            f"No permission to read {printable(path)}.",
            remedy="Make it readable for the user that the server runs as, or send the file as base64.",
        )
    if exc.errno in (errno.ENXIO, errno.ENODEV):  # a socket, a device that is not there
        return _not_a_file(name, 0)
    return UnreadableInput(
        f"{printable(path)} cannot be opened: {exc.strerror}.", remedy="Copy it elsewhere and give that path."
    )


def _not_a_file(name: str, mode: int) -> UnreadableInput:
    if stat.S_ISDIR(mode):
        return UnreadableInput(f"{name} is a folder.", remedy="Name one file in it; read several in several calls.")
    kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
    return UnreadableInput(f"{name} is {kind}, not a file.", remedy="Save what it gives to a file first.")

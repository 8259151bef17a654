"""Tells which files a caller may use, and opens them: a path is checked before it is opened, and the file after."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from ..caller import Caller
from ..config import Settings
from ..errors import BadRequest, InputForbidden, InputNotFound, OcrError, UnreadableInput
from .paths import MAGIC, in_sandbox, is_drive_path, lookalikes, on_this_system, printable, spellings

__all__ = [
    "ACCEPTED",
    "ASK",
    "BINARY",
    "CREATE",
    "Reach",
    "allowed_path",
    "below_a_base",
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


@dataclass(frozen=True, slots=True)
class Reach:
    """The files of this machine that a caller may read and write."""

    dirs: tuple[str, ...] = ()
    """The allowed folders, as real paths. Empty: a caller on this machine may use every path, any other caller none."""
    is_local: bool = True
    """Whether the caller runs on this machine as this user: then relative paths and `~` mean the caller's own."""

    @classmethod
    def of(cls, caller: Caller, settings: Settings) -> Self:
        """The reach of a caller of this server."""
        return cls(settings.ocr_allowed_dirs, caller.is_local)

    def holds(self, path: str) -> bool:
        """Whether the allowed folders hold a path, by the place to which it really leads. True if there are none."""
        return not self.dirs or allowed_path(os.path.realpath(path), self.dirs)

    @property
    def bases(self) -> list[str]:
        """The folders that a relative path may begin in: the caller's working folder, then the allowed folders."""
        own = []
        if self.is_local:  # the folder that the client started the server in: its project, most often
            with contextlib.suppress(OSError):
                own = [os.getcwd()]
        return list(dict.fromkeys([*own, *self.dirs]))

    def below_bases(self, text: str) -> list[str]:
        """The absolute paths that a relative path can mean, whether they exist or not. All are in allowed folders."""
        paths = [os.path.join(base, each) for each in spellings(text) if _is_path(each) for base in self.bases]
        return [path for path in paths if self.holds(path)]

    def checked(self, path: str) -> str:
        """An absolute path of this machine, with `~` expanded. Nothing on the disk is touched.

        Raises:
            BadRequest: the text is no absolute path of this machine.
            InputForbidden: this caller may use no paths.
        """
        if not _is_path(path):
            raise BadRequest("The path has a character that no path can have.", remedy="Give the path without it.")
        if not self.is_local and not self.dirs:
            raise InputForbidden(
                "Paths on the server are not used over HTTP.",
                remedy="Send the file itself, as base64 or an upload; or the operator sets OCR_ALLOWED_DIRS.",
            )
        if self.is_local:
            path = os.path.expanduser(path)
        if is_drive_path(path) and os.name != "nt":
            here = on_this_system(path)
            if here is None:
                raise BadRequest(
                    f"{printable(path, 80)!r} is a Windows path, and this machine has no such drive.",
                    remedy='Give the path as this machine has it (in WSL "/mnt/c/…"), or the base64 of the file.',
                )
            path = here
        if path.startswith("\\\\") and not self.is_local:
            # Only looking at it would send the machine's credentials to the host that it names.
            raise InputForbidden("Network paths are not used over HTTP.", remedy="Send the file itself.")
        if not os.path.isabs(path):
            raise BadRequest(f"{printable(path, 80)!r} is no absolute path.", remedy=ACCEPTED)
        return path


def allowed_path(path: str, dirs: Sequence[str]) -> bool:
    """Whether a path lies in one of these folders or below. All are real paths: no link is followed here."""
    path = os.path.normcase(path)
    for folder in dirs:
        folder = os.path.normcase(folder)
        if path == folder or path.startswith(folder.rstrip(os.sep) + os.sep):
            return True
    return False


def open_named(paths: Sequence[str], host: str, reach: Reach) -> tuple[int, str]:
    """Open the file that a caller means.

    Each path is judged. If none can be opened, the error is that of the likeliest path.

    Args:
        paths: the absolute paths that the caller can mean, the likeliest first; one at least.
        host: the machine that a `file:` URI names; empty for this one.
        reach: the reach of the caller.

    Returns:
        The descriptor of the file, and its name for messages.

    Raises:
        BadRequest, InputForbidden, InputNotFound, UnreadableInput: see `open_source`.
    """
    path, *others = paths
    try:
        return _open_file(path, reach)
    except (InputForbidden, InputNotFound) as exc:
        if host:
            raise BadRequest(
                f"The URI names the machine {printable(host, 60)!r}; only this one's files are read.",
                remedy="Write file:///home/me/scan.pdf, with three slashes, or give the path itself.",
            ) from None
        if isinstance(exc, InputForbidden):
            raise _sandboxed(exc, path, reach) from None
        missing = exc
    folder, name = os.path.split(path)
    near: list[str] = []
    if reach.holds(folder):  # the folder is asked for its names only where the caller may read it
        alike, near = lookalikes(folder, name)
        others += [os.path.join(folder, alike)] if alike else []
    for other in others:
        with contextlib.suppress(BadRequest, InputForbidden, InputNotFound):
            return _open_file(other, reach)
    if near:
        missing.remedy = _did_you_mean([os.path.join(folder, each) for each in near])
    elif (base := _before_pattern(folder)) != folder:
        missing = InputNotFound(f"{printable(path)} names no file.", remedy=f"There is no folder {printable(base)}.")
    elif not os.path.isdir(folder):
        missing.remedy = f"There is no folder {printable(folder)} either. Ask the user for the path."
    raise _sandboxed(missing, path, reach)


def _before_pattern(folder: str) -> str:
    """The folder that a pattern begins in; a path that is no pattern comes back as it is."""
    base = folder
    while MAGIC.search(base):
        base = os.path.dirname(base)
    return base


def _did_you_mean(paths: Sequence[str]) -> str:
    return f"Did you mean {' or '.join(printable(path) for path in paths)}?"


def _sandboxed(exc: OcrError, path: str, reach: Reach) -> OcrError:
    """The refusal of a path. For a path on the assistant's own machine, the message says so."""
    if not in_sandbox(path):
        return exc
    return type(exc)(
        f"{printable(path)} is in the assistant's own sandbox: another machine, whose files no tool here can reach.",
        remedy=ASK if reach.is_local or reach.dirs else "Send the file itself, as base64.",
    )


def below_a_base(text: str, paths: Sequence[str], reach: Reach) -> str:
    """The absolute path of the one file that a relative path means.

    Args:
        text: the relative path.
        paths: the absolute paths that it can mean; see `Reach.below_bases`.
        reach: the reach of the caller.

    Raises:
        BadRequest: there is no such file, or there are several.
    """
    found = [path for path in paths if os.path.lexists(path)]
    near: list[str] = []
    for path in [] if found else paths:
        folder, name = os.path.split(path)
        if reach.holds(folder):
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
    bases = reach.bases
    where = (
        f"there is no such file in {' or '.join(map(printable, bases))}" if bases else "the server has no such folder"
    )
    example = re.sub(r"^(\.{1,2}[\\/])+", "", shown.replace("\\", "/")).lstrip("~/") or "scan.pdf"
    raise BadRequest(
        f"`image` is {shown!r}: a relative path, and {where}.",
        remedy=(f"{_did_you_mean(near)} " if near else "")
        + f'Give an absolute path, for instance "/home/me/{example}", or the base64 of the file.',
    )


def _is_path(text: str) -> bool:
    """Whether a text has only characters that the system accepts in a path."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def outside_allowed_dirs(what: str, dirs: Iterable[str]) -> InputForbidden:
    return InputForbidden(
        f"{what} is outside the allowed folders: {', '.join(dirs)}.",
        remedy="Use a file there, or send the file itself as base64; the operator can set OCR_ALLOWED_DIRS.",
    )


def _open_file(path: str, reach: Reach) -> tuple[int, str]:
    path, dirs = reach.checked(path), reach.dirs
    name = printable(os.path.basename(path.rstrip(os.sep)) or path, 100)
    # Checked before the file is opened, because opening alone can change a pipe or a tape.
    if not reach.holds(path):
        raise outside_allowed_dirs(name, dirs)
    try:
        descriptor = os.open(path, _READ)
    except OSError as exc:
        raise _open_error(exc, path, name) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise _not_a_file(name, mode)
        # Checked again, because a link may have been changed before the file was opened.
        if dirs and not allowed_path(path_of_open_file(descriptor, path), dirs):
            raise outside_allowed_dirs(name, dirs)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, name


def path_of_open_file(descriptor: int, path: str) -> str:
    """The real path of an open file; empty if the system does not tell."""
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
    if exc.errno in (errno.ENXIO, errno.ENODEV):  # a socket, or a device that is missing
        return _not_a_file(name, 0)
    return UnreadableInput(
        f"{printable(path)} cannot be opened: {exc.strerror}.", remedy="Copy it elsewhere and give that path."
    )


def _not_a_file(name: str, mode: int) -> UnreadableInput:
    if stat.S_ISDIR(mode):
        return UnreadableInput(f"{name} is a folder.", remedy="Name one file in it; read several in several calls.")
    kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
    return UnreadableInput(f"{name} is {kind}, not a file.", remedy="Save what it gives to a file first.")

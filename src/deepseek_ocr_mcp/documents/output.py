"""Writes files for a caller: inside the allowed folders only, and each file whole or not at all.

A path is checked before anything is read, and the file may be written minutes later. So the writer opens the folder,
checks once more where it lies, and works in it by its descriptor: a link that was changed meanwhile has no effect.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import anyio

from ..errors import BadRequest, InputForbidden, InputNotFound, OcrError, OutputExists, WriteFailed
from ..export_formats import EXPORT_FORMATS, export_format
from .paths import is_drive_path, path_of_uri, printable, unwrapped
from .reach import CREATE, Reach, allowed_path, outside_allowed_dirs, path_of_open_file

__all__ = [
    "disk_error",
    "make_folder",
    "resolve_output",
    "resolve_output_folder",
    "write_atomically",
]


MARKDOWN: Final = EXPORT_FORMATS["md"]
BY_DESCRIPTOR: Final = {os.open, os.mkdir, os.stat, os.unlink, os.rename, os.link} <= os.supports_dir_fd
"""Whether this system can name a file by an open folder and a name in it. Windows cannot."""


async def resolve_output(save_to: str, reach: Reach, *, overwrite: bool) -> str:
    """The real path of a file to write. Nothing is written yet.

    Args:
        save_to: the path as the caller wrote it.
        reach: the reach of the caller.
        overwrite: whether a file that exists is replaced.

    Raises:
        BadRequest: the path is not absolute, has no suffix of `export_formats`, or is that of a folder.
        InputForbidden: the path is outside the caller's reach.
        InputNotFound: the folder does not exist.
        OutputExists: the file exists, and `overwrite` is false.
    """
    return await anyio.to_thread.run_sync(_resolve_output, save_to, reach, overwrite, abandon_on_cancel=True)


async def resolve_output_folder(save_to: str, reach: Reach) -> tuple[str, str]:
    """Make a folder for the texts of many documents. Returns its real path, and the suffix of the texts.

    Args:
        save_to: the path of a folder for Markdown, or a pattern that names another suffix: `/out/*.json`.
        reach: the reach of the caller.

    Raises:
        BadRequest: the path is not absolute, names one file, or has a suffix that is not written.
        InputForbidden: the path is outside the caller's reach.
        InputNotFound: the folder above it does not exist.
    """
    return await anyio.to_thread.run_sync(_resolve_output_folder, save_to, reach, abandon_on_cancel=True)


async def make_folder(path: str, dirs: Sequence[str]) -> None:
    """Make a folder in an output folder, with the folders above it.

    Args:
        path: the absolute path of the folder.
        dirs: the allowed folders. If there are none, every folder is allowed.

    Raises:
        InputForbidden: a link on the way leads out of the allowed folders, or permission is missing.
    """
    await anyio.to_thread.run_sync(_make_folder, path, dirs, abandon_on_cancel=True)


async def write_atomically(path: str, data: bytes, overwrite: bool, dirs: Sequence[str] = ()) -> None:
    """Write a file whole or not at all. Of two writers without `overwrite`, one gets an error.

    Args:
        path: the absolute path; its folder exists.
        data: the content.
        overwrite: whether a file of this name is replaced. A link is replaced, not followed.
        dirs: the allowed folders. If there are none, every folder is allowed.

    Raises:
        OutputExists: the file exists, and `overwrite` is false.
        InputForbidden: permission is missing, or the folder lies outside the allowed folders by now.
        WriteFailed: the disk is full or broken.
    """
    await anyio.to_thread.run_sync(_write_atomically, path, data, overwrite, dirs)


def disk_error(exc: OSError, where: str) -> OcrError:
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputForbidden(
            f"No permission to write to {where}.", remedy="Choose another folder, or change its permissions."
        )
    if exc.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.ENOENT):
        return BadRequest(f"{where} cannot hold a file of that name: {exc.strerror}.", remedy="Choose another name.")
    message = f"Writing to {where} failed: {exc.strerror or exc}."
    return WriteFailed(message, remedy="Free space there, or choose another place.")


def _output_path(save_to: str, reach: Reach) -> str:
    """The absolute path that `save_to` names. No other spelling is tried, because a file will be written there."""
    save_to = unwrapped(save_to)
    if save_to[:5].lower() == "file:":
        host, path = path_of_uri(save_to)
        save_to = f"//{host}{path}" if host else path
    if not save_to.startswith(("/", "~")) and not is_drive_path(save_to):
        raise BadRequest(
            f"`save_to` is {printable(save_to, 80)!r}: no absolute path.",
            remedy=f'Give an absolute one, for instance "{reach.dirs[0] if reach.dirs else "/home/me"}/scan.md".',
        )
    return reach.checked(save_to)


def _suffixes() -> str:
    return ", ".join(known.suffix for known in EXPORT_FORMATS.values())


def _resolve_output(save_to: str, reach: Reach, overwrite: bool) -> str:
    path = _output_path(save_to, reach)
    shown = printable(path)
    folder, name = os.path.split(path)
    if reach.holds(path) and os.path.isdir(path):
        raise BadRequest(
            f"`save_to` is {shown!r}, a folder.",
            remedy=f'Name a file in it, for instance "{shown.rstrip("/")}/scan.md".',
        )
    if "*" in name or export_format(name) is None:
        raise BadRequest(
            f"`save_to` is {shown!r}; it must end in {_suffixes()}.",
            remedy='Name such a file, for instance "/home/me/scan.md".',
        )
    folder = os.path.realpath(folder)
    if not reach.holds(folder):
        raise outside_allowed_dirs(f"The folder of {printable(name, 100)}", reach.dirs)
    if not os.path.isdir(folder):
        raise InputNotFound(f"There is no folder {printable(folder)}.", remedy="Create it, or choose another.")
    path = os.path.join(folder, name)
    if not overwrite and os.path.lexists(path):
        raise _exists(path)
    return path


def _resolve_output_folder(save_to: str, reach: Reach) -> tuple[str, str]:
    path = _output_path(save_to, reach)
    folder, name = os.path.split(path)
    suffix = os.path.splitext(name)[1].lower()
    if "*" in name:
        if export_format(name) is None:
            raise BadRequest(
                f"`save_to` is {printable(path)!r}; files that end like this are not written.",
                remedy=f"Name a folder, or {folder}/* with one of {_suffixes()}.",
            )
    elif suffix and not (reach.holds(path) and os.path.isdir(path)) and not save_to.rstrip().endswith(("/", os.sep)):
        raise BadRequest(
            f"`save_to` is {printable(path)!r}, one file, and `image` names a folder.",
            remedy=f'Name a folder, for instance save_to="{folder}" (or "{folder}/*.json"), or one file as `image`.',
        )
    else:
        folder, suffix = path.rstrip(os.sep) or os.sep, MARKDOWN.suffix
    folder = os.path.realpath(folder)
    if not reach.holds(folder):
        raise outside_allowed_dirs(f"The folder {printable(os.path.basename(folder), 100)}", reach.dirs)
    if not os.path.isdir(os.path.dirname(folder)):
        raise InputNotFound(
            f"There is no folder {printable(os.path.dirname(folder))}.", remedy="Create it, or choose another."
        )
    _make_folder(folder, reach.dirs)
    return folder, suffix


def _make_folder(path: str, dirs: Sequence[str]) -> None:
    if dirs and not allowed_path(os.path.realpath(path), dirs):
        raise outside_allowed_dirs(f"The folder {printable(os.path.basename(path), 100)}", dirs)
    try:
        if dirs and BY_DESCRIPTOR:
            _make_below(path, dirs)
        else:
            os.makedirs(path, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadRequest(f"{printable(path)} is a file, not a folder.", remedy="Choose another folder.") from None
    except OSError as exc:
        raise disk_error(exc, printable(os.path.dirname(path))) from None


def _make_below(path: str, dirs: Sequence[str]) -> None:
    """Make the missing folders of a path, each in a folder that was opened and lies in an allowed folder."""
    there, missing = path, []
    while not os.path.isdir(there) and os.path.dirname(there) != there:
        there, name = os.path.split(there)
        missing.append(name)
    while missing:
        with _opened(there, dirs) as folder, contextlib.suppress(FileExistsError):
            os.mkdir(missing[-1], dir_fd=folder.descriptor)
        there = os.path.join(there, missing.pop())
    with _opened(there, dirs):
        pass


@dataclass(frozen=True, slots=True)
class _OpenFolder:
    """A folder in which files are written."""

    path: str
    descriptor: int | None
    """None if the system cannot name files by an open folder."""

    def name(self, name: str) -> str:
        """The name of a file in the folder, for a system call that gets `descriptor`."""
        return name if self.descriptor is not None else os.path.join(self.path, name)


@contextmanager
def _opened(path: str, dirs: Sequence[str]) -> Iterator[_OpenFolder]:
    """Open a folder to write in.

    Raises:
        InputForbidden: the folder does not lie in an allowed folder.
        OSError: the folder cannot be opened, or is no folder.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if BY_DESCRIPTOR else None
    try:
        real = os.path.realpath(path) if descriptor is None else path_of_open_file(descriptor, path)
        if dirs and not allowed_path(real, dirs):
            raise outside_allowed_dirs(f"The folder {printable(os.path.basename(path), 100)}", dirs)
        yield _OpenFolder(path, descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _exists(path: str) -> OutputExists:
    return OutputExists(
        f"{printable(path)} exists already.",
        remedy="Choose another name, or set overwrite=true to replace it.",
    )


def _write_atomically(path: str, data: bytes, overwrite: bool, dirs: Sequence[str]) -> None:
    path, name = os.path.split(path)
    # The temporary name is not made of the file's own, which may be as long as a name can be.
    temporary = f".ocr-{secrets.token_hex(8)}.part"
    try:
        with _opened(path, dirs) as folder:
            try:
                _fill(folder, temporary, data)
                if overwrite:
                    _copy_mode(folder, name, temporary)
                    _rename(folder, temporary, name)
                else:
                    _link(folder, temporary, name)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(folder.name(temporary), dir_fd=folder.descriptor)
    except FileExistsError:
        raise _exists(os.path.join(path, name)) from None
    except OSError as exc:
        raise disk_error(exc, printable(path)) from None


def _fill(folder: _OpenFolder, name: str, data: bytes) -> None:
    descriptor = os.open(folder.name(name), CREATE, 0o666, dir_fd=folder.descriptor)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _copy_mode(folder: _OpenFolder, name: str, to: str) -> None:
    """Give the new file the permissions of the file that it replaces, unless that is a link."""
    with contextlib.suppress(OSError):
        mode = os.stat(folder.name(name), dir_fd=folder.descriptor, follow_symlinks=False).st_mode
        if stat.S_ISREG(mode):
            os.chmod(folder.name(to), stat.S_IMODE(mode), dir_fd=folder.descriptor)


def _rename(folder: _OpenFolder, name: str, to: str) -> None:
    where = folder.descriptor
    os.replace(folder.name(name), folder.name(to), src_dir_fd=where, dst_dir_fd=where)


def _link(folder: _OpenFolder, temporary: str, name: str) -> None:
    """Give the file its name, unless another file has it."""
    where = folder.descriptor
    try:
        os.link(folder.name(temporary), folder.name(name), src_dir_fd=where, dst_dir_fd=where)
    except FileExistsError:
        raise
    except OSError:  # FAT, SMB and Android know no links: take the name first, then fill it
        os.close(os.open(folder.name(name), CREATE, 0o666, dir_fd=where))
        _rename(folder, temporary, name)

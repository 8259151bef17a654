"""Finds the paths that a caller can mean by a text. Nothing is opened here, and nothing allowed.

Each path is checked like any other before it is opened. So tolerance for odd spellings never widens the files that a
caller may read; it only saves an agent a second call.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import unicodedata
from typing import Final
from urllib.parse import unquote_to_bytes

from ..errors import BadRequest
from ..text import one_line, well_formed

__all__ = [
    "MAGIC",
    "MAX_PATH",
    "READABLE",
    "in_conversation",
    "in_sandbox",
    "is_drive_path",
    "lookalikes",
    "on_this_system",
    "path_of_uri",
    "places",
    "printable",
    "spellings",
    "unwrapped",
]

READABLE: Final = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".pdf", ".jp2", ".j2k",
    ".jpx", ".avif", ".heic", ".heif", ".pnm", ".pbm", ".pgm", ".ppm", ".pcx", ".tga",
)  # fmt: skip
"""The suffixes by which readable files are found in a folder. Whether a file can be read, its content decides."""

MAGIC: Final = re.compile(r"[*?\[{]")
"""A character that stands for other characters in a pattern."""

MAX_PATH: Final = 4096  # characters; no system opens a longer path
MAX_NAME: Final = 255  # characters; no file's name is longer
MAX_LOOK: Final = 5000  # names in a folder that are compared with the name of a missing file
WRAPPERS: Final = 4  # pairs of quotes or brackets around a path; `"<path>"` has two
SHOWN_NAMES: Final = 3

WSL_DRIVES: Final = "/mnt"  # the Linux inside Windows has the drive C: there, as c

# Folders in which assistants keep the files of a conversation. They are on another machine.
SANDBOXES: Final = ("/mnt/user-data/", "/home/claude/", "/mnt/data/", "/home/oai/")
# Schemes with which clients and assistants name such a file.
CONVERSATION: Final = frozenset(
    {"attachment", "attachments", "upload", "uploads", "sandbox", "cid", "blob", "content", "conversation", "artifact"}
)

_PAIRS: Final = {'"': '"', "'": "'", "`": "`", "<": ">", "“": "”", "„": "“", "‘": "’", "«": "»"}
_TITLE: Final = re.compile(r"\s+(\"[^\"]*\"|'[^']*')$")
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_WSL_SHARE: Final = re.compile(r"\\\\wsl(?:\$|\.localhost)\\[^\\]+", re.IGNORECASE)
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
INVISIBLE: Final = "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
_INVISIBLE: Final = re.compile(f"[{INVISIBLE}]")
_AROUND: Final = re.compile(f"^[{INVISIBLE}\\s]+|[{INVISIBLE}\\s]+$")
"""White space and invisible marks around a text. Windows copies a path with a direction mark before it."""


def printable(name: str, limit: int = 200) -> str:
    """A name for one line of a message: control characters and lone surrogates are escaped, a long name is cut."""
    name = one_line(name)
    return name if len(name) <= limit else f"{name[: limit // 2]}…{name[-limit // 2 :]}"


def unwrapped(text: str) -> str:
    """The text without the signs that people and models put around a path: space, quotes, brackets, a link, an `@`."""
    text = _AROUND.sub("", text)
    for _ in range(WRAPPERS):
        if len(text) > 1 and _PAIRS.get(text[0]) == text[-1]:
            text = _AROUND.sub("", text[1:-1])
        elif text.startswith(("[", "![")) and text.endswith(")") and "](" in text[:MAX_PATH]:
            text = _TITLE.sub("", text[text.index("](") + 2 : -1].strip()).strip()
        elif text.startswith("@"):  # how a file is mentioned in a chat
            text = text[1:].strip()
        else:
            break
    return text


def path_of_uri(uri: str) -> tuple[str, str]:
    """The host and the path that a `file:` URI names. The host is empty for this machine.

    Raises:
        BadRequest: the URI has no path.
    """
    host, quoted = _parts_of_uri(uri)
    return host, os.fsdecode(unquote_to_bytes(quoted))


def _parts_of_uri(uri: str) -> tuple[str, str]:
    """Host and path, still quoted. "?" and "#" belong to the path: agents paste paths behind file:// without
    quoting."""
    rest, host = uri[len("file:") :], ""
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        rest = slash + rest
        if host.lower() == "localhost":
            host = ""
        elif host == "~" or re.fullmatch(r"[A-Za-z]:", host):  # file://~/scan.pdf, file://C:/scan.pdf
            rest, host = f"/{host}{rest}", ""
    if not rest.startswith(("/", "%2F", "%2f")):
        raise BadRequest(
            "The file: URI has no absolute path.",
            remedy="Write file:///home/me/scan.pdf, with three slashes.",
        )
    if re.match(r"/([A-Za-z](:|%3A)|~(/|$))", rest, re.IGNORECASE):  # file:///C:/scan.pdf
        rest = rest[1:]
    return host, rest


def places(image: str, is_local: bool) -> list[str]:
    """The absolute paths that an argument can mean, the likeliest first; none if it is no absolute path.

    Args:
        image: the argument, unwrapped.
        is_local: whether the caller runs on this machine: then `~` is its home folder.

    Raises:
        BadRequest: a `file:` URI without a path, or a home folder over HTTP.
    """
    if image[:5].lower() == "file:":
        host, path = path_of_uri(image)
        if host:  # a slash is missing: file://home/me/a.png
            return [f"/{host}{path}"]
        return list(dict.fromkeys([*places(path, is_local), *places(_parts_of_uri(image)[1], is_local)]))
    if is_drive_path(image):
        here = on_this_system(image)
        return [image] if here is None else spellings(here)
    if image.startswith("~"):
        if not is_local:
            raise BadRequest(
                f"{printable(image, 80)!r} begins in a home folder. Over HTTP, the server does not know whose "
                "home folder that is.",
                remedy='Give an absolute path on the server ("/home/me/scan.pdf"), or the base64 of the file.',
            )
        with contextlib.suppress(ValueError):  # a name that no user can have; `Reach` refuses the path
            image = os.path.expanduser(image)
    return spellings(image) if image.startswith(("/", "~")) else []


def spellings(path: str) -> list[str]:
    """The path, and other paths that it can mean: it may be quoted for a URI or a shell, or end in a full stop."""
    found = [path]
    if len(path) <= MAX_PATH:
        if _ESCAPE.search(path):
            found.append(os.fsdecode(unquote_to_bytes(path)))
        if os.sep == "/" and "\\" in path:
            found.append(re.sub(r"\\(.)", r"\1", path))
            found.append(path.replace("\\", "/"))
        found.append(path.rstrip(".,;:!?"))
    return list(dict.fromkeys(each for each in found if each))


def is_drive_path(path: str) -> bool:
    """Whether a path is one of Windows: with a drive, or of a share."""
    return _DRIVE.match(path) is not None


def on_this_system(path: str) -> str | None:
    """The path on this machine that a Windows path means; None if this machine has no such drive.

    The Linux inside Windows sees the drives of Windows, and Windows sees its files as a share.
    """
    if os.name == "nt":
        return path
    if share := _WSL_SHARE.match(path):
        return path[share.end() :].replace("\\", "/") or "/"
    if path.startswith("\\\\"):
        return None
    drive = f"{WSL_DRIVES}/{path[0].lower()}"
    if not os.path.isdir(drive):
        return None
    return drive + re.sub(r"[\\/]+", "/", path[2:])


def in_conversation(scheme: str) -> bool:
    """Whether addresses of this scheme name a file of the conversation."""
    return scheme.lower() in CONVERSATION


def in_sandbox(path: str) -> bool:
    """Whether a path is one on the machine of an assistant, which is another machine than this."""
    return path.startswith(SANDBOXES)


def lookalikes(folder: str, name: str) -> tuple[str, list[str]]:
    """The names in a folder that are nearly the name of a missing file. The caller may read the folder.

    Returns:
        The name that differs only in capitals, spaces or the encoding of accents, if there is one such name, else "";
        and up to three names of readable files that are near.
    """
    if len(name) > MAX_NAME:
        return "", []
    folded = _folded(name)
    alike, readable = [], {}
    try:
        with os.scandir(folder) as entries:
            for _, entry in zip(range(MAX_LOOK), entries, strict=False):
                if _folded(entry.name) == folded:
                    alike.append(entry.name)
                elif entry.name.lower().endswith(READABLE) and not entry.name.startswith("."):
                    readable[_folded(entry.name)] = entry.name
    except OSError:
        return "", []
    close = difflib.get_close_matches(folded, readable, n=SHOWN_NAMES)
    return alike[0] if len(alike) == 1 else "", sorted(alike)[:SHOWN_NAMES] + [readable[each] for each in close]


def _folded(name: str) -> str:
    """A name without the differences that nobody sees: a screenshot's name has a narrow no-break space before PM.

    A byte that is no UTF-8 becomes the replacement character, as in every answer.
    """
    name = well_formed(name)
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFKC", name)).casefold().split())

"""How this copy was installed, and the shell command that installs more packages beside it.

No package index has this project. Therefore advice never names the project alone: it names the folder that this copy
was installed from, or, where that folder is gone, the packages themselves. Each command works in any folder, because
it names this environment's own Python.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

if TYPE_CHECKING:
    from importlib.metadata import Distribution

__all__ = ["extra_command", "install_command"]

NAME: Final = "deepseek-ocr-mcp"
_OF_EXTRA: Final = re.compile(r"""(.+?)\s*;\s*extra\s*==\s*["']([\w-]+)["']""")
"""A requirement of an extra, as the core metadata writes it: `torch>=2.13; extra == 'gpu'`."""


def extra_command(extra: str) -> str:
    """The command that installs one of this project's extras into this environment.

    Args:
        extra: `gpu`, `remote`, `ray` or `barcodes`.

    The record of the folder is PEP 610's `direct_url.json`, which pip and uv write.
    """
    found = _distribution()
    folder, editable = _source_folder(found)
    if folder is not None:
        target = f"{folder}[{extra}]"
        return install_command("--editable", target) if editable else install_command(target)
    return install_command(*_requirements(found, extra))


def install_command(*arguments: str) -> str:
    """The command that installs these requirements into this environment, quoted for this system's shell."""
    installer = ((found := _distribution()) and found.read_text("INSTALLER")) or "pip"
    if installer.strip() == "uv":  # an environment that uv made has no pip
        return _quoted("uv", "pip", "install", "--python", sys.executable, *arguments)
    return _quoted(sys.executable, "-m", "pip", "install", *arguments)


def _quoted(*words: str) -> str:
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _distribution() -> Distribution | None:
    """The metadata of this copy; None where nothing was installed and the package is imported from its folder."""
    from importlib.metadata import PackageNotFoundError, distribution  # 7 ms, which a child never needs

    try:
        return distribution(NAME)
    except PackageNotFoundError:
        return None


def _source_folder(found: Distribution | None) -> tuple[Path | None, bool]:
    """The folder that this copy was installed from, if it is still there, and whether the install is editable."""
    if found is None:
        return Path(__file__).resolve().parents[2], True
    record = json.loads(found.read_text("direct_url.json") or "{}")
    if "dir_info" not in record:
        return None, False
    folder = Path(url2pathname(urlsplit(record["url"]).path))
    return (folder if (folder / "pyproject.toml").is_file() else None), bool(record["dir_info"].get("editable"))


def _requirements(found: Distribution | None, extra: str) -> list[str]:
    """The packages that an extra lists."""
    entries = (found and found.requires) or []
    return [match[1] for entry in entries if (match := _OF_EXTRA.fullmatch(entry)) and match[2] == extra]

"""The command that adds packages to this copy: it works for how this copy was installed."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from deepseek_ocr_mcp.install import extra_command, install_command

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the words are taken apart as a POSIX shell does")


def installed(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, direct_url: object = None, installer: str = "pip"
) -> None:
    """Have the metadata of this copy be what an installer writes."""
    info = folder / "deepseek_ocr_mcp-1.0.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.4", "Name: deepseek-ocr-mcp", "Version: 1.0", "Requires-Dist: anyio>=4.10"]
    lines += [f"Requires-Dist: {needed}; extra == '{extra}'" for extra, names in EXTRAS.items() for needed in names]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "INSTALLER").write_text(installer + "\n")
    if direct_url is not None:
        (info / "direct_url.json").write_text(json.dumps(direct_url))
    found = importlib.metadata.Distribution.at(info)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: found)


def clone(folder: Path) -> Path:
    path = folder / "a clone"
    path.mkdir()
    (path / "pyproject.toml").write_text("")
    return path


@pytest.mark.parametrize("editable", [False, True])
def test_a_copy_from_a_clone_takes_its_extra_from_that_clone(
    editable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = clone(tmp_path)
    installed(
        monkeypatch, tmp_path, direct_url={"url": folder.as_uri(), "dir_info": {"editable": True} if editable else {}}
    )
    expected = [sys.executable, "-m", "pip", "install", *(["--editable"] if editable else []), f"{folder}[gpu]"]
    assert shlex.split(extra_command("gpu")) == expected


def test_a_clone_that_is_gone_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, tmp_path, direct_url={"url": (tmp_path / "gone").as_uri(), "dir_info": {}})
    assert shlex.split(extra_command("gpu"))[4:] == EXTRAS["gpu"]


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_copy_from_a_wheel_takes_the_packages_of_the_extra(
    extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, tmp_path, direct_url={"url": "file:///w/x.whl", "archive_info": {}})
    assert shlex.split(extra_command(extra)) == [sys.executable, "-m", "pip", "install", *EXTRAS[extra]]


def test_a_copy_that_uv_installed_is_added_to_by_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, tmp_path, installer="uv")
    assert shlex.split(install_command("rapidocr>=3")) == [
        "uv", "pip", "install", "--python", sys.executable, "rapidocr>=3",
    ]  # fmt: skip


def test_a_copy_that_was_never_installed_is_added_to_from_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert shlex.split(extra_command("ray"))[4:] == ["--editable", f"{ROOT}[ray]"]

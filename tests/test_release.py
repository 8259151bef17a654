"""scripts/release stops at what is not in order and says what to do; the changelog."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from clients.rig import MODULES, install_modules
from deepseek_ocr_mcp import __version__

ROOT = Path(__file__).parents[1]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
NEEDED = ("scripts/release", "scripts/bundle", "packaging", "src", "pyproject.toml", "README.md", "LICENSE",
          "CHANGELOG.md", "CONTRIBUTING.md", "server.json", ".gitignore", "deploy/constraints-cpu.txt",
          "deploy/hashes-cpu.txt", "deploy/hashes-gpu.txt")  # fmt: skip
VERSION_FILE = "src/deepseek_ocr_mcp/__init__.py"


class Clone:
    """A repository of its own with what a release is made of."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        for name in NEEDED:
            source, target = ROOT / name, root / name
            target.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        self.git("init", "--quiet", "--initial-branch=main")
        (root / ".git" / "info" / "exclude").write_text(".venv-test\ntests/\n")
        (root / ".venv-test").symlink_to(Path(sys.executable).parents[1])
        modules = root / "tests" / "clients" / "node_modules"
        modules.parent.mkdir(parents=True)
        modules.symlink_to(MODULES)
        self.replace("CHANGELOG.md", "## Unreleased\n", f"## Unreleased\n\n## {__version__} - 2026-11-25\n")
        self.commit()

    def git(self, *command: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *who, *command], cwd=self.root, check=True, capture_output=True, timeout=60)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "a change")

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        (self.root / name).write_text(text.replace(old, new))

    def release(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.root / "scripts" / "release"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "clone")


def test_a_release_that_is_in_order_is_built_and_its_last_steps_are_named(clone: Clone) -> None:
    install_modules()
    done = clone.release("--no-tests")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (clone.root / "dist").iterdir()} == {
        f"deepseek_ocr_mcp-{__version__}-py3-none-any.whl",
        f"deepseek_ocr_mcp-{__version__}.tar.gz",
        f"deepseek-ocr-mcp-{__version__}.mcpb",
        f"deepseek-ocr-mcp-{__version__}-cpu.hashes.txt",
        f"deepseek-ocr-mcp-{__version__}-gpu.hashes.txt",
        f"deepseek-ocr-mcp-{__version__}-cpu.cdx.json",
        f"deepseek-ocr-mcp-{__version__}-gpu.cdx.json",
        "SHA256SUMS",
    }
    sums = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=clone.root / "dist", capture_output=True, text=True
    )
    assert sums.returncode == 0
    assert sums.stdout.count(": OK") == 7
    with zipfile.ZipFile(clone.root / "dist" / f"deepseek-ocr-mcp-{__version__}.mcpb") as bundle:
        check_lock(tomllib.loads(bundle.read("uv.lock").decode()))
    for image in ("cpu", "gpu"):
        bill = json.loads((clone.root / "dist" / f"deepseek-ocr-mcp-{__version__}-{image}.cdx.json").read_text())
        check_bill(bill, hashes(image))
    assert f"git tag --annotate v{__version__}" in done.stdout
    assert done.stdout.endswith("The tests were NOT run: this is no release.\n")
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone.root, capture_output=True, text=True)
    assert status.stdout == "", "it changes nothing but dist/"


def check_lock(locked: dict[str, Any]) -> None:
    """The lock of the bundle has the releases that were tested, each file with its hash."""
    pins = dict(line.split("==") for line in hashes("cpu"))
    packages = {package["name"]: package for package in locked["package"]}
    for name in ("mcp", "onnxruntime", "pypdfium2", "rapidocr"):
        assert packages[name]["version"] == pins[name]
    for name, package in packages.items():
        files = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
        assert files or name == "deepseek-ocr-mcp"
        assert all(file["hash"].startswith("sha256:") for file in files)
    assert "torch" not in packages


def check_bill(bill: dict[str, Any], expected: dict[str, set[str]]) -> None:
    """A CycloneDX bill of materials names this release, and each package with its release and hashes."""
    assert bill["bomFormat"] == "CycloneDX"
    main = bill["metadata"]["component"]
    assert (main["name"], main["version"]) == ("deepseek-ocr-mcp", __version__)
    found = {
        f"{each['name']}=={each['version']}": {
            entry["content"] for reference in each["externalReferences"] for entry in reference["hashes"]
        }
        for each in bill["components"]
    }
    assert found == expected


def hashes(image: str) -> dict[str, set[str]]:
    """`name==release` to the SHA-256 of its files, as deploy/hashes-*.txt has them."""
    lines = (ROOT / "deploy" / f"hashes-{image}.txt").read_text().replace(" \\\n", " ").splitlines()
    return {
        pin: {entry.removeprefix("--hash=sha256:") for entry in entries}
        for pin, *entries in (line.split() for line in lines if not line.startswith("#"))
    }


@pytest.mark.parametrize("image", ["cpu", "gpu"])
def test_every_pinned_release_has_hashes(image: str) -> None:
    pins = (ROOT / "deploy" / f"constraints-{image}.txt").read_text().splitlines()
    found = hashes(image)
    assert set(found) == {pin for pin in pins if not pin.startswith("#")}, "run scripts/constraints --hashes"
    for pin, entries in found.items():
        assert entries, pin
        assert all(re.fullmatch("[0-9a-f]{64}", entry) for entry in entries), "hashes only, and no addresses"


def test_without_the_flag_the_tests_are_run_and_must_pass(clone: Clone) -> None:
    test = clone.root / "scripts" / "test"
    test.write_text("#!/bin/sh\necho the tests ran\nexit 1\n")
    test.chmod(0o755)
    clone.commit()
    done = clone.release()
    assert done.returncode == 1
    assert "the tests ran" in done.stdout
    assert "The tests fail." in done.stderr
    assert not (clone.root / "dist").exists()


@pytest.mark.parametrize(
    ("name", "old", "new", "committed", "told"),
    [
        ("README.md", "\n", "\n\n", False, "Not everything is committed"),
        (VERSION_FILE, f'"{__version__}"', '"next"', True, '__version__ is "next"'),
        (VERSION_FILE, f'"{__version__}"', '"99.0.0"', True, "server.json has"),
        ("CHANGELOG.md", f"## {__version__} - 2026-11-25\n", "", True, "CHANGELOG.md has no section"),
        ("CHANGELOG.md", "## Unreleased\n", "## Unreleased\n\n- Something.\n", True, "lists 1 changes as unreleased"),
    ],
)
def test_what_is_not_in_order_is_named_with_what_to_do(
    clone: Clone, name: str, old: str, new: str, committed: bool, told: str
) -> None:
    clone.replace(name, old, new)
    if committed:
        clone.commit()
    done = clone.release("--no-tests")
    assert done.returncode == 1
    what, remedy = done.stderr.rstrip("\n").split("\n")
    assert told in what
    assert remedy.startswith("  ")
    assert not (clone.root / "dist").exists()


@pytest.mark.parametrize(
    ("tag", "told"), [(f"v{__version__}", "is a tag already"), ("v99.0.0", "comes before v99.0.0")]
)
def test_a_version_that_is_out_or_older_is_refused(clone: Clone, tag: str, told: str) -> None:
    clone.git("tag", tag)
    done = clone.release("--no-tests")
    assert done.returncode == 1
    assert told in done.stderr


def test_the_changelog_is_in_order() -> None:
    headings = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    assert headings[0] == "Unreleased"
    released = [re.fullmatch(r"(\d+)\.(\d+)\.(\d+) - (20\d\d-\d\d-\d\d)", heading) for heading in headings[1:]]
    assert all(released)
    versions = [tuple(int(part) for part in found.groups()[:3]) for found in released if found]
    assert versions == sorted(versions, reverse=True)
    kinds = re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

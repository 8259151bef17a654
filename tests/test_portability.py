"""What a Linux machine can show about Windows and macOS: no module needs POSIX to be imported, and nothing forks."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deepseek_ocr_mcp

SOURCE = Path(deepseek_ocr_mcp.__file__).parent
POSIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
"""Modules of the standard library that Windows does not have."""

IMPORT_WITHOUT_POSIX = f"""
import builtins, importlib, pkgutil, signal
for name in ("SIGHUP", "SIGKILL", "SIGALRM"):
    delattr(signal, name)
real = builtins.__import__
def refuse(name, variables=None, *rest, **others):
    ours = (variables or {{}}).get("__name__", "").startswith("deepseek_ocr_mcp")
    if ours and name.partition(".")[0] in {POSIX!r}:
        raise ModuleNotFoundError(name)
    return real(name, variables, *rest, **others)
builtins.__import__ = refuse
import deepseek_ocr_mcp
for _, name, _ in pkgutil.walk_packages(deepseek_ocr_mcp.__path__, "deepseek_ocr_mcp."):
    if not name.endswith("__main__") and ".engines.deepseek" not in name:  # torch takes seconds
        importlib.import_module(name)
"""


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return {str(path.relative_to(SOURCE)): ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}


def test_no_module_imports_at_its_top_what_windows_lacks(trees: dict[str, ast.Module]) -> None:
    for module, tree in trees.items():
        for node in tree.body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.partition(".")[0] for name in names} & POSIX, module


def test_every_module_can_be_imported_without_posix() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_WITHOUT_POSIX], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_nothing_forks_because_macos_and_windows_cannot(trees: dict[str, ast.Module]) -> None:
    """Every child is a new program. Before it is started, code of ours runs on Linux only."""
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("fork", "forkpty"), module
            if isinstance(node, ast.Import):
                assert "multiprocessing" not in {alias.name.partition(".")[0] for alias in node.names}, module
            if isinstance(node, ast.keyword) and node.arg == "preexec_fn":
                assert ast.unparse(node.value) == "_dying_with_us()", f"{module}: this function is None elsewhere"

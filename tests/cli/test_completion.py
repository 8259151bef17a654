"""A shell completes commands, flags and their values."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from deepseek_ocr_mcp.cli.completion import SHELLS
from deepseek_ocr_mcp.cli.parser import build_parser
from deepseek_ocr_mcp.modes import MODES


def completed(*words: str) -> set[str]:
    """What bash offers for the last of these words."""
    script = SHELLS["bash"](build_parser())
    line = " ".join(f"'{word}'" for word in ("deepseek-ocr-mcp", *words))
    asked = (
        f'{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; _deepseek_ocr_mcp; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_commands_flags_and_values() -> None:
    assert {"ocr", "serve", "client-config", "--version"} <= completed("")
    assert completed("cl") == {"client-config"}
    assert {"--format", "--find", "--exit-code"} <= completed("ocr", "--")
    assert completed("ocr", "--mode", "") == set(MODES)
    assert completed("ocr", "--pages", "") == set()
    assert completed("ocr", "a.png", "--format", "j") == {"json"}
    assert completed("client-config", "v") == {"vscode"}


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_each_shell_understands_its_script(shell: str) -> None:
    script = SHELLS[shell](build_parser())
    assert "client-config" in script
    assert "--exit-code" in script or "-l exit-code" in script
    if (program := shutil.which(shell)) is not None:
        done = subprocess.run([program, "-n"], input=script, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")

#!/usr/bin/env python3
"""Runs commands and draws the terminal that they leave: docs/images/terminal.svg.

    .venv-test/bin/python scripts/terminal_picture.py

Needs the packages of the group `dev`: rich draws the picture. The picture loads no font from anywhere.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

ROOT: Final = Path(__file__).resolve().parents[1]
PICTURE: Final = ROOT / "docs" / "images" / "terminal.svg"
COLUMNS: Final = 72
COMMANDS: Final = (
    "ocr examples/pages/table.png",
    "ocr examples/pages/receipt.png --find total",
    "ocr examples/pages/letter.pdf -o letter.txt",
)
FONT_FACE: Final = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)


def run(command: str, folder: Path) -> str:
    """The text that a command prints, both streams as a terminal shows them."""
    words = [sys.executable, "-m", "deepseek_ocr_mcp", *command.replace("examples/", f"{ROOT}/examples/").split()]
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return done.stdout.replace(f"{ROOT}/", "").replace(f"{folder}/", "").rstrip("\n")


def main() -> None:
    """Run the commands in a folder that is deleted afterwards, and write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            console.print(Text.assemble(("$ ", "green"), (f"deepseek-ocr-mcp {command}", "bold")))
            console.print(Text(run(command, Path(folder))))
            console.print()
    picture = console.export_svg(
        title="deepseek-ocr-mcp",
        theme=SVG_EXPORT_THEME,
        code_format=FONT_FACE.sub("", CONSOLE_SVG_FORMAT),
        unique_id="t",
    )
    PICTURE.write_text(picture, "utf-8")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes docs/configuration.md and .env.example from the one table of settings, `config.Settings`.

`--check` writes nothing. It exits with 1 where a file differs from the table.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from deepseek_ocr_mcp.config import Settings

ROOT = Path(__file__).parents[1]

HEAD = """\
# Configuration

<!-- scripts/configuration.py writes this page from src/deepseek_ocr_mcp/config.py. Change the settings there. -->

Every setting is an environment variable. [README.md](README.md#which-setting-do-i-need) lists them by task.

- In a desktop client, put settings into the `env` of the server's entry.
- On a server, put them into its unit file or its container.
- Or write them into a file, like [.env.example](../.env.example), and name the file: `--env-file FILE` or
  `OCR_ENV_FILE=FILE`. No `.env` file is read unless you name it. An agent starts its servers in whatever folder is
  open, and a stranger's `.env` file there must not decide what runs.

A flag of the command line wins over the environment. The environment wins over the file. A value that is out of its
range stops the start with a message that names the variable. A variable that no setting has is ignored.
"""

ENV_HEAD = """\
# All settings of deepseek-ocr-mcp with their defaults.
# scripts/configuration.py writes this file from src/deepseek_ocr_mcp/config.py. Change the settings there.
#
# 1. Copy this file:                          cp .env.example my.env
# 2. Take the # away before each setting that you change.
# 3. Name the file when you start the server: deepseek-ocr-mcp serve --env-file my.env
#
# No .env file is read unless you name it. Variables of the environment win over the file.
# For docker compose, copy deploy/env.example instead.
"""


def groups() -> Iterator[tuple[str, list[tuple[str, FieldInfo]]]]:
    """The settings in their order: each group's name, and its variables with their fields."""
    found: dict[str, list[tuple[str, FieldInfo]]] = {}
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        found.setdefault(str(extra["group"]), []).append((name.upper(), field))
    yield from found.items()


def value(default: Any) -> str:
    """A default as the environment would give it."""
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def document() -> str:
    """docs/configuration.md."""
    parts = [HEAD]
    for group, settings in groups():
        rows = [
            f"| `{name}` | {f'`{shown}`' if (shown := value(field.default)) else '–'} | {field.description} |"
            for name, field in settings
        ]
        parts.append(f"\n## {group}\n\n| variable | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def example() -> str:
    """.env.example."""
    parts = [ENV_HEAD]
    for group, settings in groups():
        parts.append(f"\n# -- {group}\n")
        for name, field in settings:
            text = str(field.description).replace("`", "")
            comment = textwrap.fill(
                text, 118, initial_indent="# ", subsequent_indent="# ",
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
            parts.append(f"\n{comment}\n#{name}={value(field.default)}\n")
    return "".join(parts)


FILES = {ROOT / "docs" / "configuration.md": document, ROOT / ".env.example": example}

if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(any(path.read_text() != text() for path, text in FILES.items()))
    for path, text in FILES.items():
        path.write_text(text())

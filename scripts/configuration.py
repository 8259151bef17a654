#!/usr/bin/env python3
"""Writes docs/configuration.md from the one table of settings. `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from deepseek_ocr_mcp.config import Settings

TARGET = Path(__file__).parents[1] / "docs" / "configuration.md"

HEAD = """\
# Configuration

<!-- Written by scripts/configuration.py from src/deepseek_ocr_mcp/config.py. Change it there. -->

Every setting is an environment variable. In a desktop client they go into the `env` of the server's
entry; on a server, into its unit file or container. A `.env` file is read only where you name it, with
`--env-file FILE` or `OCR_ENV_FILE`: an agent starts its servers in whatever folder is open, and a
stranger's `.env` there must not decide what runs. Flags win over the environment, the environment over
the file.
"""


def shown(value: Any) -> str:
    if value is None or value == () or value == "":
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def document() -> str:
    groups: dict[str, list[str]] = {}
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        groups.setdefault(str(extra["group"]), []).append(
            f"| `{name.upper()}` | {shown(field.default)} | {field.description} |"
        )
    parts = [HEAD]
    for group, rows in groups.items():
        parts.append(f"\n## {group}\n\n| variable | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(TARGET.read_text() != document())
    TARGET.write_text(document())

"""Names the folder with the files of the web page, from which the MCP app is made too. It reads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["WEB"]

WEB: Final = Path(__file__).resolve().parent / "web"

"""Interprets an `image` argument for tests that open documents without a service."""

from __future__ import annotations

from deepseek_ocr_mcp.documents.argument import Argument
from deepseek_ocr_mcp.documents.reach import Reach


def meant(image: object, *dirs: str, is_local: bool = True) -> Argument:
    """The meaning of an `image` that a caller on this machine gives, unless `is_local` says otherwise."""
    return Argument.of(str(image), Reach(dirs, is_local))

"""Messages for agents become messages for people at a terminal."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import deepseek_ocr_mcp
from deepseek_ocr_mcp.cli.words import SEARCHES, for_terminal
from deepseek_ocr_mcp.service.search import REMEDY

SOURCE = Path(deepseek_ocr_mcp.__file__).parent
OF_AGENTS = re.compile(
    r"\b(?:gpu_release|gpu_offload|save_to|find_term|custom_prompt|text_layer|ocr_image)\b"
    r"|\b(?:overwrite|image|pages|boxes)=|[Cc]all again|the operator sets?\b|ask the user"
    r"|[Ss]end (?:it|the request|the page) again"
)
"""Names and phrases that mean nothing at a terminal."""


def remedies() -> Iterator[tuple[str, str]]:
    """All remedies in the source, with the module that has them. Values that are put in stand as `X`."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "remedy":
                for part in ast.walk(node.value):
                    if isinstance(part, ast.JoinedStr):
                        pieces = [str(v.value) if isinstance(v, ast.Constant) else "X" for v in part.values]
                        yield path.name, "".join(pieces)
                    elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield path.name, part.value


@pytest.mark.parametrize(
    ("for_agents", "for_people"),
    [
        (
            "Choose another name, or set overwrite=true to replace it.",
            "Choose another name, or set --overwrite to replace it.",
        ),
        ('To go on, call again with pages="3-12".', 'To go on, run the command again with --pages 3-12.'),
        ("Call again with text_layer=ignore.", "Run the command again with --text-layer ignore."),
        (
            "Call again when they are done, or gpu_release with force=true to stop what runs.",
            "Run the command again when they are done, or `deepseek-ocr-mcp release --force` to stop what runs.",
        ),
        ("Mode find needs find_term. Give find_term, or use another mode.",
         "Mode find needs --find. Give --find, or use another mode."),
        ("Use one of its modes (free), or have the operator set OCR_ENGINE=deepseek.",
         "Use one of its modes (free), or set OCR_ENGINE=deepseek."),
        ("Send a smaller file, or fewer pages; the operator sets OCR_MAX_FILE_MB.",
         "Use a smaller file, or fewer pages; set OCR_MAX_FILE_MB."),
        ("`image` names more than 10 files.", "FILE names more than 10 files."),
        ('Files in its subfolders were not read. To include them, use image="/scans/**".',
         'Files in its subfolders were not read. To include them, use "/scans/**".'),
        ("pages='3-1' counts backwards or from 0.", "--pages '3-1' counts backwards or from 0."),
        (f"/(/ is no pattern. {REMEDY}", f"/(/ is no pattern. {SEARCHES}"),
        ("The page is blank.", "The page is blank."),
    ],
)  # fmt: skip
def test_arguments_become_flags_and_tools_become_commands(for_agents: str, for_people: str) -> None:
    assert for_terminal(for_agents) == for_people


def test_no_remedy_speaks_to_an_agent_at_a_terminal() -> None:
    found = list(remedies())
    assert len(found) > 150
    edges = {"api.py", "auth.py", "bodies.py", "stream.py", "shapes.py", "access.py"}  # these never reach a terminal
    wrong = [(name, text) for name, text in found if name not in edges and OF_AGENTS.search(for_terminal(text))]
    assert wrong == []

"""The bounds that the benchmarks print without a card, and that the documentation repeats."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def printed() -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_bounds.py")]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def rows(text: str) -> dict[str, list[str]]:
    """The cells of each table row by the first cell; of two rows with one name, the first."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("| "):
            name, *cells = (cell.strip() for cell in line.strip("| ").split("|"))
            found.setdefault(name, cells)
    return found


def test_a_step_of_deepseek_ocr_reads_what_was_counted(printed: str) -> None:
    assert "1.25 at batch 1," in printed
    assert re.search(r"6\.2\d at batch 16", printed)
    assert "50.8 of 64 experts" in printed


def test_the_documentation_repeats_the_bounds_as_they_are_printed(printed: str) -> None:
    page = (ROOT / "docs" / "first-day-on-a-gpu.md").read_text(encoding="utf-8")
    told = rows(page[page.index("## The bounds") :])
    for card in ("H200", "RTX 4090", "A10", "RTX 3060"):
        rate, at_1, _, at_16, _ = rows(printed)[card]
        assert told[card] == [rate, at_1, at_16]


def test_the_estimate_for_an_h200_reaches_its_share_of_vllm(printed: str) -> None:
    *_, ratio, target = rows(printed[printed.index("vLLM, scaled") :])["H200"]
    assert target == "≥ ×0.8"
    assert 0.8 <= float(ratio.removeprefix("×")) < 1.5


def test_a_card_is_found_by_the_name_that_its_driver_gives() -> None:
    names = {
        "NVIDIA H200": 4800,
        "NVIDIA A100-SXM4-80GB": 2039,
        "NVIDIA GeForce RTX 4090": 1008,
        "NVIDIA A10": 600,
        "NVIDIA A100-SXM4-40GB": None,
        "NVIDIA L4": None,
    }
    code = f"from gpu_bounds import card_rate; print([card_rate(name) for name in {list(names)}])"
    child = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "benchmarks",
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert child.stdout.strip() == str(list(names.values()))

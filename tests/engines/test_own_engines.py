"""The two engines that docs/engines.md shows work as they stand there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from deepseek_ocr_mcp.caller import Caller
from deepseek_ocr_mcp.models import OcrRequest
from support import as_base64, png, running

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"
LIBRARY = """
def find_lines(pixels):
    height, width, _ = pixels.shape
    return [("Invoice 4711", (2, 2, width - 2, 10), 0.9), ("Total 12.50", (2, 20, width - 2, 28), 0.8)]

def write_text(pixels, mode):
    return f"{mode} of {pixels.shape[1]} pixels"
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of the page as modules that a child can import, and the library that they stand for."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for name, text in (("line_engine", blocks[0]), ("text_engine", blocks[1]), ("my_ocr", LIBRARY)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.anyio
async def test_an_engine_that_finds_lines_answers_every_mode_from_one_reading() -> None:
    image = as_base64(png(200, 40))
    async with running("line_engine:LineEngine", ocr_cache="on") as service:
        document = await service.ocr(OcrRequest(image=image), Caller())
        hits = await service.ocr(OcrRequest(image=image, find_term="total"), Caller())
    assert document.result.text.split("\n")[0] == "Invoice 4711"
    assert document.result.model == "my lines 1.0"
    assert hits.result.text == "Total 12.50"
    assert hits.result.cached, "the second question needs no reading"


@pytest.mark.anyio
async def test_an_engine_that_writes_text_is_asked_for_each_mode() -> None:
    image = as_base64(png(200, 40))
    async with running("text_engine:TextEngine", ocr_cache="on") as service:
        for mode in ("document", "free"):
            answer = await service.ocr(OcrRequest(image=image, mode=mode), Caller())
            assert answer.result.text == f"{mode} of 200 pixels"
            assert not answer.result.cached

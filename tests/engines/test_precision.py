"""Integers or float32: what the embedded engine chooses, what it ships, and that both read the same."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from deepseek_ocr_mcp.config import load_settings
from deepseek_ocr_mcp.engines import KNOWN, precision
from deepseek_ocr_mcp.engines.base import CPU
from deepseek_ocr_mcp.engines.rapidocr.engine import RapidOcrEngine
from deepseek_ocr_mcp.engines.rapidocr.models import SpareModel, integer_model, model_file, model_folder, new_session
from deepseek_ocr_mcp.engines.rapidocr.recognise import SURE_SCORE, LineReader
from deepseek_ocr_mcp.errors import BadRequest

MOST_BYTES = 9_000_000
PAPERS = (("white", "black"), ("#202028", "#e0e0d8"), ("#f0ead8", "#503020"), ("white", "#707070"))
LINES = (
    "The reading room opens at nine.", "Invoice No. 2024-00718", "1,204.50", "98,765.43 EUR", "Total (incl. VAT)",
    "IBAN DE89 3704 0044 0532 0130 00", "+49 (0)30 901820", "https://example.org/a?b=1", "A", "7", "17:45",
    "Orders arrive the same afternoon.", "WE WISH YOU A QUIET DAY", "x = (a + b) / 2", "3.14159265358979", "50 %",
)  # fmt: skip


class _Processor:
    """Flags of a processor, as Linux tells them."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = path
        monkeypatch.setattr(precision, "CPU_INFO", path)
        monkeypatch.setattr(sys, "platform", "linux")

    def has(self, line: str) -> bool:
        self._path.write_text(f"processor\t: 0\nmodel name\t: AMD avx512_vnni imitation\n{line}\npower:\n")
        precision.has_integer_products.cache_clear()
        return precision.has_integer_products()


@pytest.fixture(autouse=True)
def _asks_anew() -> Any:
    precision.has_integer_products.cache_clear()
    yield
    precision.has_integer_products.cache_clear()


def test_integers_need_a_processor_with_instructions_for_their_products(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = _Processor(tmp_path / "cpuinfo", monkeypatch)
    assert processor.has("flags\t\t: fpu sse4_2 avx2 avx512f avx512_vnni avx512vl")
    assert processor.has("flags\t\t: fpu avx2 avx_vnni")
    assert processor.has("Features\t: fp asimd asimddp sve")
    assert processor.has("Features\t: fp asimd i8mm")
    assert not processor.has("flags\t\t: fpu sse4_2 avx2 fma avx512f avx512bw")
    assert not processor.has("Features\t: fp asimd evtstrm aes")
    assert not processor.has("isa\t\t: rv64imafdc")
    assert precision.choose_precision("auto") == "float32"


def test_a_processor_that_cannot_be_asked_reads_in_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "absent")
    monkeypatch.setattr(sys, "platform", "win32")
    assert precision.choose_precision("auto") == "float32"
    assert not precision._apple_feature(b"no.such.feature")


def test_macos_is_asked_by_the_names_of_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def feature(name: bytes) -> bool:
        asked.append(name)
        return name.endswith(b"I8MM")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(precision, "_apple_feature", feature)
    assert precision.choose_precision("auto") == "int8"
    assert asked == list(precision.APPLE_FEATURES)


def test_the_setting_wins_over_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _Processor(tmp_path / "cpuinfo", monkeypatch).has("flags : avx2")
    assert precision.choose_precision("int8") == "int8"
    assert _Processor(tmp_path / "cpuinfo", monkeypatch).has("flags : avx_vnni")
    assert precision.choose_precision("float32") == "float32"
    assert precision.choose_precision("auto") == "int8"
    assert load_settings(overrides={"ocr_precision": "int8"}).ocr_precision == "int8"
    with pytest.raises(BadRequest, match="OCR_PRECISION"):
        load_settings(overrides={"ocr_precision": "int4"})


def test_pages_that_one_precision_has_read_do_not_count_as_read_by_the_other() -> None:
    engine = KNOWN["rapidocr"]
    assert engine.version("", "int8") != engine.version("", "float32")
    assert engine.version("", "auto") in (engine.version("", "int8"), engine.version("", "float32"))


def test_the_integer_model_is_small_and_made_of_the_very_model_in_the_wheel() -> None:
    source = model_file(model_folder(), "rec")
    path = integer_model(source)
    assert path is not None
    assert path.stat().st_size <= MOST_BYTES
    facts = new_session(str(path), 1).get_modelmeta().custom_metadata_map
    assert facts["made_from"] == source.name
    assert facts["made_from_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert facts["licence"] == "Apache-2.0"
    assert facts["character"] == new_session(str(source), 1).get_modelmeta().custom_metadata_map["character"]
    assert "Apache License" in (path.parent / "LICENSE.txt").read_text()
    assert source.name in (path.parent / "ORIGIN.md").read_text()


def test_a_wheel_with_another_model_is_read_with_in_float() -> None:
    assert integer_model(Path("PP-OCRv7_rec_small.onnx")) is None


def test_both_models_read_drawn_lines_alike() -> None:
    source = model_file(model_folder(), "rec")
    exact, whole = (LineReader(new_session(str(path), 1)) for path in (source, integer_model(source)))
    run: Any = _Run()
    for n, text in enumerate(LINES):
        for size in (14, 20, 31):
            paper, ink = PAPERS[(n + size) % len(PAPERS)]
            font = ImageFont.load_default(size)
            image = Image.new("RGB", (round(font.getlength(text)) + 2 * size, round(1.9 * size)), paper)
            ImageDraw.Draw(image).text((size, image.height // 2), text, ink, font, anchor="lm")
            expected, found = (reader.read_crop(run, np.asarray(image)) for reader in (exact, whole))
            assert "".join(found.text.split()) == "".join(expected.text.split()), (size, paper)
            assert abs(found.score - expected.score) < 0.1
            if found.text == expected.text:
                assert np.allclose(found.centres, expected.centres, atol=0.05)


class _Run:
    """Runs a model at once, for nobody who could hang up."""

    def model(self, session: Any, tensor: Any) -> Any:
        return session.run(None, {"x": tensor})[0]


@pytest.mark.parametrize("setting", ["int8", "float32"])
def test_the_model_says_which_arithmetic_it_reads_with(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nobody:
        def progress(self, done: float, message: str = "") -> None: ...
        def raise_if_cancelled(self) -> None: ...

    monkeypatch.setenv("OCR_PRECISION", setting)
    model = RapidOcrEngine().load(CPU, Nobody())["model"]
    assert model.startswith("PP-OCR")
    assert model.endswith(f", {setting})")


def test_a_line_that_the_integer_model_is_unsure_of_is_read_again_in_float() -> None:
    """Faint, small and blurred type: the score of the reading is then the float model's own."""
    source = model_file(model_folder(), "rec")
    whole = integer_model(source)
    spare = SpareModel(source)
    exact = LineReader(new_session(str(source), 1))
    both = LineReader(new_session(str(whole), 1), spare)
    run: Any = _Run()
    image = Image.new("RGB", (300, 40), "white")
    ImageDraw.Draw(image).text((10, 12), "Orders arrive the same day.", "black", ImageFont.load_default(18))
    clear = np.asarray(image)
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(4)))
    assert both.read_crop(run, clear).score > SURE_SCORE
    assert spare._session is None, "a sure line needs no second model"
    assert exact.read_crop(run, blurred).score < SURE_SCORE
    assert both.read_crop(run, blurred) == exact.read_crop(run, blurred)

"""QR codes and barcodes on a page: their content is text and blocks in every mode, where the operator asks for it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import zxingcpp
from PIL import Image

from deepseek_ocr_mcp.app import run
from deepseek_ocr_mcp.caller import Caller
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.decoder.codes import codes_on
from deepseek_ocr_mcp.errors import BadRequest
from deepseek_ocr_mcp.models import OcrRequest, Page
from deepseek_ocr_mcp.service.codes import Code, codes_note, with_codes
from deepseek_ocr_mcp.service.work import ReadPage, View
from pdf_maker import born_digital, pdf
from support import running, written

ADDRESS = "https://example.org/pay?id=4711&to=[x](y)"
EAN = "4006381333931"


def with_both_codes(text: str) -> Image.Image:
    """A page with a line of text, a QR code at (60, 200) and a barcode below."""
    page = Image.new("L", (700, 700), 255)
    if text:
        page.paste(Image.open(io.BytesIO(written(text))).convert("L").resize((600, 120)), (40, 20))
    for content, format, scale, place in (
        (ADDRESS, zxingcpp.BarcodeFormat.QRCode, 6, (60, 200)),
        (EAN, zxingcpp.BarcodeFormat.EAN13, 3, (60, 480)),
    ):
        drawn = zxingcpp.write_barcode_to_image(zxingcpp.create_barcode(content, format), scale=scale)
        page.paste(Image.fromarray(np.array(drawn)), place)
    return page


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codes") / "scan.png"
    with_both_codes("Please pay").save(path)
    return path


@pytest.mark.anyio
async def test_the_content_of_codes_is_text_and_a_block_in_each_mode_and_a_note_says_so(scan: Path) -> None:
    async with running("rapidocr", ocr_barcodes="on") as service:
        answers = {
            mode: (await service.ocr(OcrRequest(image=str(scan), mode=mode, boxes="lines"), Caller())).result
            for mode in ("document", "ocr", "free")
        }
        found = (await service.ocr(OcrRequest(image=str(scan), find_term="example.org"), Caller())).result
        nothing = (await service.ocr(OcrRequest(image=str(scan), find_term="no such words"), Caller())).result
    for mode, result in answers.items():
        lines = result.text.splitlines()
        assert lines[0].startswith("Please"), mode
        assert f"EAN-13: {EAN}" in lines, mode
        codes = {block.label: block for block in result.pages[0].blocks or () if block.label in ("qr_code", "barcode")}
        assert (codes["qr_code"].text, codes["barcode"].text) == (ADDRESS, EAN)
        left, top, right, bottom = codes["qr_code"].box
        assert 60 <= left < right < 330
        assert 200 <= top < bottom < 470
        assert [(note.code, note.pages) for note in result.notes] == [("codes", "1")]
        assert "QR Code, EAN-13" in result.notes[0].text
    assert f"QR Code: {ADDRESS}" in answers["free"].text
    assert r"[x\](y)" in answers["document"].text, "Markdown must not make a link of it"
    assert [block.text for block in found.pages[0].blocks or ()] == [ADDRESS]
    assert ADDRESS in found.text
    assert not nothing.text


def test_equal_barcodes_below_each_other_are_one_code_as_the_page_on_tools_says(tmp_path: Path) -> None:
    drawn = zxingcpp.write_barcode_to_image(zxingcpp.create_barcode(EAN, zxingcpp.BarcodeFormat.EAN13), scale=3)
    label = Image.fromarray(np.array(drawn))
    page = Image.new("L", (1000, 700), 255)
    for place in ((40, 40), (40, 40 + label.height + 40), (600, 40)):
        page.paste(label, place)
    path = tmp_path / "page"
    path.write_bytes(page.convert("RGB").tobytes())
    left, right = sorted(code["box"] for code in codes_on(str(path), {"width": 1000, "height": 700}))
    assert left[3] - left[1] > 2 * label.height
    assert right[3] - right[1] <= label.height


@pytest.mark.anyio
async def test_codes_are_read_whether_a_page_has_text_of_its_own_or_not(tmp_path: Path) -> None:
    photo = io.BytesIO()
    with_both_codes("").save(photo, "PDF", resolution=72)
    path = tmp_path / "two.pdf"
    path.write_bytes(pdf(born_digital("A Title")))
    scanned = tmp_path / "scanned.pdf"
    scanned.write_bytes(photo.getvalue())
    async with running("Echo", ocr_barcodes="on") as service:
        own = (await service.ocr(OcrRequest(image=str(path)), Caller())).result
        assert own.pages[0].source == "text_layer"
        assert not own.notes
        seen = (await service.ocr(OcrRequest(image=str(scanned), mode="free"), Caller())).result
    assert seen.text.endswith(f"EAN-13: {EAN}")


def test_the_cache_keeps_the_codes_of_a_page_and_they_are_put_into_its_text_once() -> None:
    code = Code("EAN-13", EAN, (1, 2, 3, 4))
    read = ReadPage(Page(page=1, width=10, height=10, text="by a model"), "e", "m", "cpu", codes=(code,))
    kept = ReadPage.from_dict(json.loads(json.dumps(read.to_dict())))
    assert kept.codes == (code,)
    once = kept.seen(View("free"))
    assert once.page.text == f"by a model\nEAN-13: {EAN}"
    assert once.seen(View("free")).page.text == once.page.text


@pytest.mark.anyio
async def test_no_code_is_read_where_nobody_asked_for_it(scan: Path) -> None:
    async with running("Echo") as service:
        result = (await service.ocr(OcrRequest(image=str(scan)), Caller())).result
    assert EAN not in json.dumps(result.model_dump())
    assert not result.notes


def test_a_mode_that_asks_about_a_picture_keeps_its_answer_and_has_the_codes_as_blocks() -> None:
    page = Page(page=1, width=10, height=10, text="A poster.")
    code = Code("QR Code", "one\ntwo", (1, 2, 3, 4))
    described = with_codes(page, [code], "describe")
    assert described.text == "A poster."
    assert [(block.label, block.text) for block in described.blocks or ()] == [("qr_code", "one\ntwo")]
    assert with_codes(page, [code], "document").text == "A poster.\n\nQR Code: one two"
    assert codes_note([code], "describe").endswith("each is a block.")


def test_the_note_of_a_search_names_only_the_codes_that_hold_the_term() -> None:
    codes = (Code("EAN-13", EAN, (1, 2, 3, 4)), Code("QR Code", "hello", (5, 6, 7, 8)))
    page = Page(page=1, width=10, height=10, text="")
    seen = ReadPage(page, "e", "m", "cpu", codes=codes).seen(View("find", "hello"))
    assert [code.symbology for code in seen.codes_seen] == ["QR Code"]
    assert [block.text for block in seen.page.blocks or ()] == ["hello"]


def test_without_its_package_the_setting_is_refused_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "find_spec", lambda _: None)
    with pytest.raises(BadRequest) as caught:
        run.build_service(Settings(ocr_barcodes="on"), str(tmp_path))
    assert "barcodes" in caught.value.remedy or "zxing-cpp" in caught.value.remedy

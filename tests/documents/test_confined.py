"""The decoder, confined as it is in a server, still opens every format and writes every export."""

from __future__ import annotations

import io
import os
from pathlib import Path

import anyio
import pillow_heif
import pytest
from PIL import Image

from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.documents.child import spawn_decoder
from deepseek_ocr_mcp.documents.private import private_folder
from deepseek_ocr_mcp.documents.reader import DocumentReader
from deepseek_ocr_mcp.errors import OcrError
from deepseek_ocr_mcp.export_formats import EXPORT_FORMATS, ExportOptions
from deepseek_ocr_mcp.worker.confine import landlock_version
from meaning import meant
from support import BOUND_S, as_base64

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock"),
]


def encoded(kind: str) -> bytes:
    image, out = Image.new("RGB", (120, 80), "white"), io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(out, format="HEIF")
    else:
        image.save(out, kind)
    return out.getvalue()


async def test_every_format_is_drawn() -> None:
    with private_folder() as folder, anyio.fail_after(60):
        async with DocumentReader(Settings(), folder).running() as reader:
            for kind in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "JPEG2000", "AVIF", "HEIF", "PDF"):
                async with reader.open(meant(as_base64(encoded(kind)))) as document:
                    page = await document.page(1)
                    assert page.width >= 120, kind
                    assert (await document.preview(1, 64)).data, kind
                    await document.text_layer(1)


async def test_every_format_of_files_is_written() -> None:
    text = [{"page": 1, "width": 333, "height": 222, "text": "# Title\n\n| a |\n|---|\n| 1 |", "blocks": [
        {"label": "line", "text": "Words 文字", "box": [10, 10, 100, 30]}]}]  # fmt: skip
    starts = {"docx": b"PK", "xlsx": b"PK", "pdf": b"%PDF", "csv": b"a\r\n1", "html": b"<!DOCTYPE html>"}
    with private_folder() as folder, anyio.fail_after(60):
        async with (
            DocumentReader(Settings(), folder).running() as reader,
            reader.open(meant(as_base64(encoded("PDF")))) as document,
        ):
            for name in EXPORT_FORMATS:
                async with reader.exported(name, text, ExportOptions("t"), document.snapshot) as path:
                    assert (await anyio.Path(path).read_bytes()).startswith(starts.get(name, b""))


async def test_a_file_outside_of_the_private_folder_cannot_be_opened_whatever_is_asked(tmp_path: Path) -> None:
    outside = tmp_path / "page.png"
    outside.write_bytes(encoded("PNG"))
    with private_folder() as folder:
        decoder = await spawn_decoder(folder)
        try:
            asked = {"file": {"path": str(outside), "name": "page.png"}, "max_pixels": 100_000, "max_pages": 1}
            with pytest.raises(OcrError):
                await decoder.call("inspect", asked, timeout=BOUND_S)
            inside = os.path.join(folder, "page.png")
            os.link(outside, inside)
            allowed = asked | {"file": {"path": inside, "name": "page.png"}}
            found = await decoder.call("inspect", allowed, timeout=BOUND_S)
            assert found == {"format": "PNG", "pages": 1}
        finally:
            await decoder.stop()

from __future__ import annotations

import pytest

from deepseek_ocr_mcp.decoder.textlayer import dingbats
from deepseek_ocr_mcp.decoder.textlayer.dingbats import symbol_character, symbol_font


@pytest.mark.parametrize(
    ("font", "character", "shown"),
    [
        ("ABCDEF+Wingdings-Regular", "\uf0fc", "✓"),
        ("Wingdings", "ü", "✓"),  # the Windows character at the same code
        ("Wingdings", "\uf0fb", "✗"),
        ("Wingdings", "\uf0fe", "☑"),
        ("Wingdings", "\uf0fd", "☒"),
        ("Wingdings", "\uf0a8", "☐"),
        ("Wingdings", "o", "□"),
        ("Wingdings", "§", "▪"),
        ("Wingdings", "Ÿ", "•"),  # code 0x9F, which Windows calls U+0178
        ("Wingdings", "Ø", "➢"),
        ("Wingdings", "à", "→"),
        ("Wingdings2", "P", "✓"),
        ("Wingdings 2", "R", "☑"),
        ("GHIJKL+Wingdings2", "\uf0a3", "☐"),
        ("Wingdings3", "}", "▸"),
        ("Webdings", "a", "✔"),
        ("Webdings", "r", "✗"),
        ("SymbolMT", "\uf0b7", "•"),
        ("Symbol", "·", "•"),
        ("ZapfDingbats", "4", "✔"),
        ("ITCZapfDingbats", "8", "✘"),
        ("D050000L", "n", "■"),
    ],
)
def test_a_glyph_of_a_symbol_font_is_the_character_that_a_reader_sees(font: str, character: str, shown: str) -> None:
    assert symbol_character(font, character) == shown


@pytest.mark.parametrize("font", ["Helvetica", "ABCDEF+SymbolaNova", "WingdingsLike", "Segoe UI Symbol", ""])
def test_the_letters_of_other_fonts_are_left_alone(font: str) -> None:
    assert symbol_font(font) is None
    assert symbol_character(font, "ü") is None


@pytest.mark.parametrize("character", ["", "ab", "中", "\uf0ff", "A", "\ufffd"])
def test_a_glyph_that_the_table_lacks_has_no_meaning(character: str) -> None:
    assert symbol_character("Wingdings", character) is None


def test_every_font_has_a_tick_or_a_bullet_and_every_character_is_one_character() -> None:
    for key, table in dingbats._FONTS.items():
        assert symbol_font(key) == key
        assert all(0x20 < code <= 0xFF and len(shown) == 1 for code, shown in table.items())
        assert set(table.values()) & set("✓✔•●▸")


def test_zapf_dingbats_follow_the_order_of_the_unicode_block_that_was_made_of_them() -> None:
    for code, shown in dingbats._ZAPF_DINGBATS.items():
        if shown not in "●■▲▼◆★→":  # characters that Unicode had before the block
            assert ord(shown) == code + (0x26E0 if code < 0x80 else 0x26C0), hex(code)

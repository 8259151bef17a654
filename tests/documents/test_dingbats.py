from __future__ import annotations

import pytest

from deepseek_ocr_mcp.decoder.textlayer import dingbats
from deepseek_ocr_mcp.decoder.textlayer.dingbats import meaning_of, symbol_character, symbol_font


@pytest.mark.parametrize(
    ("font", "character", "shown", "meaning"),
    [
        ("ABCDEF+Wingdings-Regular", "\uf0fc", "✓", "tick"),
        ("Wingdings", "ü", "✓", "tick"),  # the Windows character at the same code
        ("Wingdings", "\uf0fb", "✗", "cross"),
        ("Wingdings", "\uf0fe", "☑", "ticked box"),
        ("Wingdings", "\uf0fd", "☒", "crossed box"),
        ("Wingdings", "\uf0a8", "☐", "box"),
        ("Wingdings", "o", "□", "box"),
        ("Wingdings", "§", "▪", "bullet"),
        ("Wingdings", "Ÿ", "•", "bullet"),  # code 0x9F, which Windows calls U+0178
        ("Wingdings", "Ø", "➢", "bullet"),
        ("Wingdings", "à", "→", "arrow"),
        ("Wingdings2", "P", "✓", "tick"),
        ("Wingdings 2", "R", "☑", "ticked box"),
        ("GHIJKL+Wingdings2", "\uf0a3", "☐", "box"),
        ("Wingdings3", "}", "▸", "bullet"),
        ("Webdings", "a", "✔", "tick"),
        ("Webdings", "r", "✗", "cross"),
        ("SymbolMT", "\uf0b7", "•", "bullet"),
        ("Symbol", "·", "•", "bullet"),
        ("ZapfDingbats", "4", "✔", "tick"),
        ("ITCZapfDingbats", "8", "✘", "cross"),
        ("D050000L", "n", "■", "bullet"),
    ],
)
def test_a_glyph_of_a_symbol_font_is_the_character_that_a_reader_sees(
    font: str, character: str, shown: str, meaning: str
) -> None:
    assert symbol_character(font, character) == shown
    assert meaning_of(shown) == meaning


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
        assert {meaning_of(shown) for shown in table.values()} & {"tick", "bullet"}


def test_zapf_dingbats_follow_the_order_of_the_unicode_block_that_was_made_of_them() -> None:
    for code, shown in dingbats._ZAPF_DINGBATS.items():
        if shown not in "●■▲▼◆★→":  # characters that Unicode had before the block
            assert ord(shown) == code + (0x26E0 if code < 0x80 else 0x26C0), hex(code)

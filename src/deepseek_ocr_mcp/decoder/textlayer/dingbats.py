"""Ticks, crosses, boxes, bullets and arrows of the symbol fonts that office programs use, as Unicode characters.

A symbol font has a picture at the code of an ordinary character: Wingdings draws a tick at the code of "ü". A PDF
names such a glyph by its bare code, by the Windows character at that code, or by the code plus U+F000. This module
turns each of the three into the character that a reader sees. Where Unicode has no common character for the very
shape, the table gives the common one of the same meaning (a handwritten tick becomes "✓").

Sources: the glyph names inside the fonts, the mapping of the Wingdings family that Unicode 7.0 was extended for
(document L2/11-052), and Adobe's ZapfDingbats and Symbol encodings.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["symbol_character", "symbol_font"]

_PRIVATE: Final = 0xF000
_SUBSET: Final = re.compile(r"[A-Z]{6}\+")
_NOT_A_LETTER: Final = re.compile(r"[^a-z0-9]")

_WINGDINGS: Final = {
    0x6C: "●", 0x6D: "○", 0x6E: "■", 0x6F: "□", 0x70: "□", 0x71: "❑", 0x72: "❒", 0x73: "◆", 0x74: "◆", 0x75: "◆",
    0x76: "❖", 0x77: "◆", 0x78: "☒", 0x9E: "·", 0x9F: "•", 0xA0: "▪", 0xA1: "○", 0xA2: "○", 0xA3: "○", 0xA4: "◉",
    0xA5: "◎", 0xA7: "▪", 0xA8: "☐", 0xAA: "✦", 0xAB: "★", 0xD8: "➢", 0xDC: "➲", 0xDF: "←", 0xE0: "→", 0xE1: "↑",
    0xE2: "↓", 0xE7: "←", 0xE8: "➔", 0xE9: "↑", 0xEA: "↓", 0xEF: "⇦", 0xF0: "⇨", 0xF1: "⇧", 0xF2: "⇩", 0xFB: "✗",
    0xFC: "✓", 0xFD: "☒", 0xFE: "☑",
}  # fmt: skip
_WINGDINGS_2: Final = {
    0x4F: "✗", 0x50: "✓", 0x51: "☒", 0x52: "☑", 0x53: "☒", 0x54: "☒", 0x95: "·", 0x96: "•", 0x97: "●", 0x98: "●",
    0x99: "○", 0x9A: "○", 0x9B: "○", 0x9F: "▪", 0xA0: "▪", 0xA1: "■", 0xA2: "■", 0xA3: "☐", 0xA4: "□", 0xA5: "□",
    0xA6: "□", 0xAE: "◆", 0xAF: "◇",
}  # fmt: skip
_WINGDINGS_3: Final = {
    0x21: "←", 0x22: "→", 0x23: "↑", 0x24: "↓", 0x70: "▲", 0x71: "▼", 0x72: "△", 0x73: "▽", 0x74: "◀", 0x75: "▶",
    0x76: "◁", 0x77: "▷", 0x7C: "◂", 0x7D: "▸",
}  # fmt: skip
_WEBDINGS: Final = {0x33: "◀", 0x34: "▶", 0x35: "▲", 0x36: "▼", 0x61: "✔", 0x63: "☐", 0x67: "■", 0x6E: "●", 0x72: "✗"}
_SYMBOL: Final = {
    0xA7: "♣", 0xA8: "♦", 0xA9: "♥", 0xAA: "♠", 0xAC: "←", 0xAD: "↑", 0xAE: "→", 0xAF: "↓", 0xB4: "×", 0xB7: "•",
    0xD6: "√", 0xD7: "⋅", 0xDC: "⇐", 0xDD: "⇑", 0xDE: "⇒", 0xDF: "⇓", 0xE0: "◊",
}  # fmt: skip
_SYMBOL_LETTERS: Final = frozenset("¬×")
"""Characters of the Symbol font that stand at other codes than in Windows: such a one is what it says."""
_ZAPF_DINGBATS: Final = {
    0x33: "✓", 0x34: "✔", 0x35: "✕", 0x36: "✖", 0x37: "✗", 0x38: "✘", 0x48: "★", 0x6C: "●", 0x6D: "❍", 0x6E: "■",
    0x6F: "❏", 0x70: "❐", 0x71: "❑", 0x72: "❒", 0x73: "▲", 0x74: "▼", 0x75: "◆", 0x76: "❖", 0xD4: "➔", 0xD5: "→",
    0xE0: "➠", 0xE1: "➡", 0xE2: "➢", 0xE3: "➣", 0xE4: "➤",
}  # fmt: skip

_FONTS: Final = {
    "wingdings": _WINGDINGS,
    "wingdings2": _WINGDINGS_2,
    "wingdings3": _WINGDINGS_3,
    "webdings": _WEBDINGS,
    "symbol": _SYMBOL,
    "zapfdingbats": _ZAPF_DINGBATS,
}
_NAMES: Final = {
    **{name: name for name in _FONTS},
    "symbolmt": "symbol",
    "standardsymbolsps": "symbol",
    "standardsymbolsl": "symbol",
    "itczapfdingbats": "zapfdingbats",
    "dingbats": "zapfdingbats",
    "d050000l": "zapfdingbats",
}
"""Names of the same fonts by others: Microsoft's, and the free twins that Ghostscript and Linux programs embed."""


def symbol_font(name: str) -> str | None:
    """The key of this module's table for a font of that name in a PDF; None: the font is no symbol font.

    Args:
        name: the font's name as PDF has it, with or without a subset's prefix ("ABCDEF+Wingdings-Regular").
    """
    plain = _NOT_A_LETTER.sub("", _SUBSET.sub("", name).lower())
    return _NAMES.get(plain) or _NAMES.get(re.sub(r"(regular|normal|bold|italic|oblique)+$", "", plain))


def symbol_character(font: str, character: str) -> str | None:
    """The Unicode character that a glyph of a symbol font shows; None: no symbol font, or no glyph of the table.

    Args:
        font: the font's name as PDF has it.
        character: one character as a PDF library gives it: the glyph's code, the Windows character at that code, or
            the code plus U+F000.
    """
    key = symbol_font(font)
    if key is None or len(character) != 1 or (key == "symbol" and character in _SYMBOL_LETTERS):
        return None
    code = ord(character)
    if _PRIVATE <= code <= _PRIVATE + 0xFF:
        code -= _PRIVATE
    elif code > 0xFF:
        encoded = character.encode("cp1252", "ignore")
        if not encoded:
            return None
        code = encoded[0]
    return _FONTS[key].get(code)

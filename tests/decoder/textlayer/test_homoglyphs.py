"""Letters of several alphabets that look alike."""

from __future__ import annotations

import pytest

from deepseek_ocr_mcp.decoder.textlayer.content import Glyph, Run
from deepseek_ocr_mcp.decoder.textlayer.homoglyphs import given_one_alphabet


def glyphs(text: str, font: int = 1) -> list[Glyph]:
    run = Run(size=10.0, font=font)
    out: list[Glyph] = []
    space = 0
    for n, char in enumerate(text):
        if char == " ":
            space = 3
            continue
        out.append(Glyph(char, (6.0 * n, 0.0, 6.0 * n + 5, 8.0), 6.0 * n, 8.0, run, space))
        space = 0
    return out


def given(text: str) -> str:
    found = glyphs(text)
    given_one_alphabet(found)
    return "".join(" " * (glyph.space == 3) + glyph.text for glyph in found)


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        ("thе quаrtеrly ассоunt", "the quarterly account"),  # Cyrillic а, с, е, о
        ("а cоst оf thе hаrbоur", "a cost of the harbour"),  # and a word of lookalikes alone
        ("quαrtεrly αccοunts fοr rεραirs οf thε wall", "quarterly accounts for repairs of the wall"),
        ("московcкий цeнтр", "московский центр"),  # Latin c and e
    ],
)
def test_a_word_is_of_the_alphabet_of_its_letters_that_look_like_no_other(named: str, shown: str) -> None:
    assert given(named) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Москва и Tver",
        "он а оса",
        "5 μm at 20 kΩ",
        "αx + νt",
        "ο λόγος και ο νους",
        "plain words",
        "iPhone для всех",
        "Ho Но",
        "Eк и Iк",  # Latin symbols with Cyrillic indices
        "ρfluid, νflow, κmodel",
    ],
)
def test_words_of_one_alphabet_and_units_stay(text: str) -> None:
    assert given(text) == text


def test_letters_of_two_fonts_are_no_word() -> None:
    found = [*glyphs("о", font=1), *glyphs("tter", font=2)]
    assert given_one_alphabet(found) == 0


@pytest.mark.parametrize(("symbol", "index"), [("ρ", "fluid"), ("αν", "rms"), ("T", "доп"), ("x", "нач")])
def test_a_symbol_and_its_index_in_smaller_type_are_no_word(symbol: str, index: str) -> None:
    small = glyphs(index)
    for glyph in small:
        glyph.run = Run(size=7.0, font=1)
    assert given_one_alphabet([*glyphs(symbol), *small]) == 0

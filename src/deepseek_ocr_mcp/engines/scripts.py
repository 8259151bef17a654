"""Which script is on a page, and what reads it. Pure Python; decides, runs nothing.

The bundled models know Latin, Chinese and Japanese characters. On any other script they give
next to no characters for long lines, or characters they are not sure of; `seems_unread` tells such
a page by that alone. It was set where pages of readable text, blurred, tiny or photographed ones
too, stay clear of it: a false alarm costs more than a missed one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from ..layout.lines import NO_SPACES, TextLine

__all__ = ["LATIN", "SCRIPTS", "Script", "languages_for", "remark", "seems_unread"]

LONG: Final = 3.0  # lengths over thickness of a line that tells something
ENOUGH: Final = 4.0  # the same of all lines together: less is a speck or a picture
READABLE_SCORE: Final = 0.78  # readable lines score 0.82 and more, in noise and at 5 pixels too
READABLE_DENSITY: Final = 0.8  # characters per thickness: readable lines have 1.3 to 3, unread ones 0 to 0.7
UNREAD_SHARE: Final = 0.5  # of the length of all lines


@dataclass(frozen=True, slots=True)
class Script:
    """A script as Tesseract's detection names it, and the language data that reads it."""

    name: str
    languages: tuple[str, ...]
    """Codes of Tesseract's language data, the commonest first."""
    model: str = ""
    """Tesseract's own name of the model for the whole script, where it is another."""

    @property
    def foreign(self) -> bool:
        """Whether data for Latin script does not read it at all."""
        return self.name not in ("Latin", "Fraktur")

    @property
    def whole(self) -> str:
        """The language data for the whole script, whatever the language."""
        return f"script/{self.model or self.name}"

    @property
    def package(self) -> str:
        """The Debian package with data for this script."""
        return "tesseract-ocr-" + self.languages[0].replace("_", "-")


_LATIN_LANGUAGES: Final = (
    "eng deu fra spa por ita nld pol tur vie swe dan nor ces hun ron fin ind msa hrv slk slv est lav lit "
    "cat glg eus isl gle afr sqi bos srp_latn swa tgl lat oci bre cym ltz mlt"
)

SCRIPTS: Final[dict[str, Script]] = {
    script.name: script
    for script in (
        Script("Latin", tuple(_LATIN_LANGUAGES.split())),
        Script("Arabic", ("ara", "fas", "urd", "pus", "uig", "snd", "kur_ara")),
        Script("Armenian", ("hye",)),
        Script("Bengali", ("ben", "asm")),
        Script("Canadian_Aboriginal", ("iku",)),
        Script("Cherokee", ("chr",)),
        Script("Cyrillic", ("rus", "ukr", "bul", "srp", "bel", "mkd", "kaz", "mon", "kir", "tat", "tgk", "uzb_cyrl")),
        Script("Devanagari", ("hin", "mar", "nep", "san")),
        Script("Ethiopic", ("amh", "tir")),
        Script("Fraktur", ("frk", "deu_frak")),
        Script("Georgian", ("kat",)),
        Script("Greek", ("ell", "grc")),
        Script("Gujarati", ("guj",)),
        Script("Gurmukhi", ("pan",)),
        Script("Han", ("chi_sim", "chi_tra"), "HanS"),
        Script("Hangul", ("kor",)),
        Script("Hebrew", ("heb", "yid")),
        Script("Japanese", ("jpn", "jpn_vert")),
        Script("Kannada", ("kan",)),
        Script("Khmer", ("khm",)),
        Script("Korean", ("kor",), "Hangul"),
        Script("Lao", ("lao",)),
        Script("Malayalam", ("mal",)),
        Script("Myanmar", ("mya",)),
        Script("Oriya", ("ori",)),
        Script("Sinhala", ("sin",)),
        Script("Syriac", ("syr",)),
        Script("Tamil", ("tam",)),
        Script("Telugu", ("tel",)),
        Script("Thaana", ("div",)),
        Script("Thai", ("tha",)),
        Script("Tibetan", ("bod",)),
    )
}

LATIN: Final = SCRIPTS["Latin"]


def languages_for(script: Script, installed: Collection[str]) -> list[str]:
    """The installed language data that reads this script: the model of the whole script, or languages."""
    if script.whole in installed:
        return [script.whole]
    return [language for language in script.languages if language in installed]


def seems_unread(lines: Sequence[TextLine]) -> str | None:
    """Whether most of the page is in a script that the bundled models do not know.

    `lines` are all that were detected, those with a bad score or no text too. Returns the script's
    name, empty where the characters do not tell it; None for a page that was read, or where there
    is too little to tell.
    """
    unread = total = 0.0
    letters: list[str] = []
    for line in lines:
        sides = (line.box[2] - line.box[0], line.box[3] - line.box[1])
        length = max(sides) / max(1.0, min(sides))
        if length < LONG:
            continue
        total += length
        text = "".join(line.text.split())
        density = (len(text) + len(NO_SPACES.findall(text))) / length
        greek = _is_greek(text)
        if greek or line.score < READABLE_SCORE or density < READABLE_DENSITY:
            unread += length
            letters.append("Greek" if greek else "")
    if total < ENOUGH or unread < UNREAD_SHARE * total:
        return None
    return "Greek" if letters.count("Greek") > len(letters) / 2 else ""


def remark(script: str = "") -> str:
    """What to tell a reader of a page that `seems_unread`, and what to do about it."""
    if (found := SCRIPTS.get(script)) and found.foreign:
        name = found.name.replace("_", " ")
        return (
            f"The text of this page seems to be in {name} script, which the bundled models cannot read. "
            f"Install Tesseract with data for it (Debian: apt-get install tesseract-ocr {found.package}), "
            "and it will be read."
        )
    return (
        "Most text on this page could not be read: it is faint, or in a script that the bundled models do not know "
        "(Cyrillic, Greek, Arabic, Hebrew, Thai, Korean and those of India are such). Install Tesseract with "
        "data for its language (Debian: apt-get install tesseract-ocr tesseract-ocr-rus for Russian) to have it read."
    )


def _is_greek(text: str) -> bool:
    """Whether most letters are Greek: the models know those as signs of formulas, not as a language."""
    letters = [char for char in text if char.isalpha()]
    greek = sum("GREEK" in unicodedata.name(char, "") for char in letters)
    return greek > len(letters) / 4 and len(letters) > 3

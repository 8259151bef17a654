"""Finds out which lines of a page are in a script that the bundled models do not know, and names what reads it.

Pure Python; it decides and runs nothing. The bundled models know Latin, Chinese and Japanese characters. Of any other
script they read next to nothing: the ink of a line is there, and no character near it. That share of unread ink tells
such a line, whatever the script; how sure the model is tells the rest.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ..layout.lines import NO_SPACES, TextLine

__all__ = ["LATIN", "SCRIPTS", "Script", "Unread", "find_unread", "how_to_install", "languages_for", "remark"]

# Tuned on 2,270 lines of the shared corpus and on drawn lines of nine foreign scripts, sharp, blurred and tiny. A false
# alarm takes a readable line out of the answer; a missed one gives noise out as text.
NO_CHARACTERS: Final = 0.5  # of a line's ink without a character: no text, however sure the model is (menus: 0.43)
FEW_CHARACTERS: Final = 0.3  # the same of a line that the model is not sure of; a bad scan has 0.26, Greek 0.4
UNSURE_SCORE: Final = 0.85  # readable lines score 0.9 and more, foreign ones with a few characters 0.25 to 0.82
LONG: Final = 3.0  # times its thickness is a line long that tells something
LOST_WORD: Final = 1.1
"""Heights of a line: so long a stretch of its ink without a character is a word that was not read.

Tuned on 2,270 lines of the shared corpus, where the longest stretch of a readable line is 0.6, an icon; an icon has 1.0
at most. Drawn words of Cyrillic, Arabic, Korean, Devanagari, Bengali and Tamil with three letters and more have 1.15 to
4.7. Too low, icons raise an alarm; too high, words go missing without a note.
"""
SHORT: Final = 1.0  # the same of a line that is read again where that can be done, but tells nothing
ENOUGH: Final = 4.0  # the same of all lines together: less is a speck or a picture
FOREIGN_SCORE: Final = 0.7  # on a page with foreign lines, a line that the model is less sure of is foreign as well
FEW: Final = 2.0  # the same of lines that are read again where that can be done: two words on a sign

# The same for a page as a whole, tuned on photos and scans that are hard to read.
READABLE_SCORE: Final = 0.81  # readable lines score 0.82 and more, in noise and at 5 pixels too; Hebrew up to 0.8
READABLE_DENSITY: Final = 0.8  # characters per thickness: readable lines have 1.3 to 3, unread ones 0 to 0.7 …
SURE_SCORE: Final = 0.95  # … but for a figure in a cell, of which the model is sure, with all of its ink
UNREAD_SHARE: Final = 0.5  # of the length of all lines

# Vietnamese, whose words are one syllable each. French has 0.1 of such words, Portuguese 0.15, Vietnamese 0.5.
SYLLABLE: Final = re.compile(
    r"(?:ngh|ng|nh|th|tr|ch|gh|gi|kh|ph|qu|[bcdđghklmnpqrstvx])?"
    r"[aeiouyàáâãăèéêìíĩòóôõơùúũưýạảấầẩẫậắằẳẵặẹẻẽếềểễệịỉọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]{1,3}(?:ng|nh|ch|[cmnpt])?"
)
MARKED: Final = re.compile("[đăơưàáâãèéêìíĩòóôõùúũýạảấầẩẫậắằẳẵặẹẻẽếềểễệịỉọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]")
VIETNAMESE_SHARE: Final = 0.3  # of the words of a line are such syllables with a mark
VIETNAMESE_WORDS: Final = 4  # of the page, at least
TELLING: Final = re.compile("[đươăạảấầẩẫậắằẳẵặẹẻẽếềểễệịỉọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]")
"""Letters that French, Portuguese and Italian, whose short words look alike, do not have."""


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
    def bundled(self) -> bool:
        """Whether the bundled models read it."""
        return self.name in ("Latin", "Fraktur", "Han", "Japanese")

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
        Script("Vietnamese", ("vie",)),  # Tesseract's detection calls it Latin
    )
}

LATIN: Final = SCRIPTS["Latin"]


def languages_for(script: Script, installed: Collection[str]) -> list[str]:
    """The installed language data that reads this script: the model of the whole script, or languages."""
    if script.whole in installed:
        return [script.whole]
    return [language for language in script.languages if language in installed]


@dataclass(frozen=True, slots=True)
class Unread:
    """The lines of a page that the bundled models cannot read.

    `lines` are the numbers of those to read again, `noise` those whose reading is no text. `certain`: there surely is
    text that was not read; else these may be pictures. `whole`: most of the page is concerned, so that it may lie
    otherwise than it seems. `script` is the script's name where the characters tell it, else empty. `total` counts
    the lines of the page.
    """

    lines: tuple[int, ...] = ()
    noise: frozenset[int] = field(default_factory=frozenset)
    certain: bool = False
    whole: bool = False
    script: str = ""
    total: int = 0


def find_unread(lines: Sequence[TextLine], shares: Sequence[float], gaps: Sequence[float] = ()) -> Unread:
    """The lines that are in a script which the bundled models do not know, or know in part, as a whole or for a word.

    Args:
        lines: all that were detected, those with a bad score or no text too.
        shares: of each line's ink, the share from which no character was read.
        gaps: of each line, the longest stretch of such ink, in heights of the line; empty: unknown.
    """
    found = _find_foreign(lines, shares)
    in_part = [n for n, gap in enumerate(gaps) if gap >= LOST_WORD and n not in found.noise and _has_words(lines[n])]
    if not in_part:
        return found
    return replace(found, lines=tuple(sorted({*found.lines, *in_part})), certain=True, total=len(lines))


def _has_words(line: TextLine) -> bool:
    """Whether a line is more than a row of signs: the model loses a few of forty asterisks."""
    return any(char.isalnum() for char in line.text)


def _find_foreign(lines: Sequence[TextLine], shares: Sequence[float]) -> Unread:
    """The lines that are foreign as a whole."""
    lengths = [_length(line) for line in lines]
    shares = [share if line.text.strip() or not share else 1.0 for line, share in zip(lines, shares, strict=True)]
    telling = [n for n, length in enumerate(lengths) if length >= LONG]
    if sum(lengths[n] for n in telling) < ENOUGH:  # a page of a few words
        telling = [n for n, length in enumerate(lengths) if length >= SHORT]
    noise = [n for n in telling if _is_noise(lines[n], shares[n])]
    doubtful = [n for n in telling if n in noise or _is_doubtful(lines[n], lengths[n], shares[n])]
    unread, total = (sum(lengths[n] for n in numbers) for numbers in (doubtful, telling))
    if doubtful and unread >= UNREAD_SHARE * total:
        greek = sum(_is_greek(lines[n].text) for n in doubtful) > len(doubtful) / 2
        script = "Greek" if greek else ""
        return Unread(tuple(doubtful), frozenset(noise), unread >= ENOUGH, True, script, len(lines))
    noise = [n for n in noise if lengths[n] >= LONG]
    if sum(lengths[n] for n in noise) >= ENOUGH:
        noise += [n for n in range(len(lines)) if n not in noise and lines[n].score < FOREIGN_SCORE]
        return Unread(tuple(sorted(noise)), frozenset(noise), certain=True, total=len(lines))
    if vietnamese := _vietnamese(lines):
        return Unread(tuple(vietnamese), certain=True, script="Vietnamese", total=len(lines))
    empty = [n for n, line in enumerate(lines) if lengths[n] >= SHORT and not line.text and shares[n] == 1]
    if sum(lengths[n] for n in empty) < FEW:
        return Unread(total=len(lines))
    return Unread(tuple(empty), frozenset(empty), total=len(lines))


def how_to_install(script: Script) -> str:
    """How to get the program and its data for a script, on each kind of machine."""
    code = script.languages[0]
    return (
        f"Debian and Ubuntu: apt-get install tesseract-ocr {script.package}; macOS: brew install tesseract "
        f"tesseract-lang; Windows: winget install UB-Mannheim.TesseractOCR, then put {code}.traineddata into its "
        f"tessdata folder; container: build the image with --build-arg LANGUAGES={code.replace('_', '-')}"
    )


def remark(script: str = "", unread: int = 0, total: int = 0) -> str:
    """Tells a reader which text was not read, and what to do about it.

    Args:
        script: its name, empty where it is not known.
        unread: how many lines of the page were not read; 0 for the whole page.
        total: how many lines it has.
    """
    part = f"{unread} of the {total} lines" if unread else "The text"
    if (found := SCRIPTS.get(script)) and not found.bundled:
        kind = "Vietnamese" if found.name == "Vietnamese" else f"{found.name.replace('_', ' ')} script"
        knows = "know in part" if found.name == "Vietnamese" else "cannot read"
        return (
            f"{part} of this page seem{'' if unread > 1 else 's'} to be in {kind}, which the bundled models {knows}. "
            f"Install Tesseract with data for it, and it will be read ({how_to_install(found)})."
        )
    where = f"{part} of this page could not be read in full" if unread else "Most text on this page could not be read"
    return (
        f"{where}: faint print, or a script that the bundled models do not know (Cyrillic, Greek, Arabic, Hebrew, "
        "Thai, Korean, those of India). Install Tesseract with data for its language to have it read (for Russian, "
        f"{how_to_install(SCRIPTS['Cyrillic'])})."
    )


def _length(line: TextLine) -> float:
    """How many times its thickness a line is long."""
    sides = (line.box[2] - line.box[0], line.box[3] - line.box[1])
    return max(sides) / max(1.0, min(sides))


def _is_noise(line: TextLine, share: float) -> bool:
    """Whether the ink of a line, or too much of it, is no character to the model."""
    return share >= NO_CHARACTERS or (share >= FEW_CHARACTERS and line.score < UNSURE_SCORE)


def _is_doubtful(line: TextLine, length: float, share: float) -> bool:
    """Whether a line may be foreign, faint or badly blurred."""
    text = "".join(line.text.split())
    density = (len(text) + len(NO_SPACES.findall(text))) / length
    is_sure = (line.score >= SURE_SCORE or "…" in text) and share == 0  # a leader is long and has no letters
    return _is_greek(text) or line.score < READABLE_SCORE or (density < READABLE_DENSITY and not is_sure)


def _vietnamese(lines: Sequence[TextLine]) -> list[int]:
    """The numbers of the lines in Vietnamese, of which the models know every second letter."""
    found, count, telling = [], 0, False
    for n, line in enumerate(lines):
        words = re.findall(r"[^\W\d_]+", line.text.lower())
        marked = [word for word in words if MARKED.search(word) and SYLLABLE.fullmatch(word)]
        if len(marked) >= max(1.0, VIETNAMESE_SHARE * len(words)):
            found.append(n)
            count += len(marked)
            telling = telling or any(TELLING.search(word) for word in marked)
    return found if telling and count >= VIETNAMESE_WORDS else []


def _is_greek(text: str) -> bool:
    """Whether most letters are Greek: the models know those as signs of formulas, not as a language."""
    letters = [char for char in text if char.isalpha()]
    greek = sum("GREEK" in unicodedata.name(char, "") for char in letters)
    return greek > len(letters) / 4 and len(letters) > 3

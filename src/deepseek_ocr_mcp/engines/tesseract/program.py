"""Runs the program `tesseract`, with a bound on time, and parses its tables."""

from __future__ import annotations

import ctypes
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import EngineUnavailable, OcrError, Timeout
from ..base import Call
from ..scripts import LATIN, SCRIPTS, Script, languages_for
from ..sheet import POLL_S

__all__ = [
    "INSTALL",
    "UNSEEN",
    "Orientation",
    "Pixels",
    "Program",
    "Recognition",
    "Word",
    "by_line",
    "find_program",
    "mean_confidence",
    "parse_orientation",
    "parse_words",
    "reduce_pixels",
]


Pixels = NDArray[np.uint8]
RUN_LIMIT_S: Final = 240.0  # longest run over one page
ASK_LIMIT_S: Final = 20.0  # longest run for a version or a list
MAX_LANGUAGES: Final = 8  # at once: each takes memory, and time for every word that the others could not read
OSD_SIDE: Final = 2000  # pixels that are enough to see how a page lies
OSD_CHARACTERS: Final = 5  # least number of characters to judge by; the program's own default is 50
SURE_ORIENTATION: Final = 1.0  # the program's measure; upright pages are called turned at up to 0.7
SURE_SCRIPT: Final = 1.5  # the same for the script: wrong ones had 0.7 and 1.3, right ones have 1.7 and more
CLEAR_CONFIDENCE: Final = 0.85  # of a page in a script that is not sure
GOOD_CONFIDENCE: Final = 0.7  # of a page, 0 to 1: the right language has about 0.9, a wrong one about 0.4
TELLING_LETTERS: Final = 8  # of a page; fewer look clear in a wrong script too, so that all are tried
ONE_SCRIPT_SHARE: Final = 0.9  # of the letters
PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

HEADER: Final = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext"
WORD: Final = "5"  # the level of a row
LATIN_LETTER: Final = re.compile("[A-Za-z\\u00c0-\\u024f]")

LATIN_DATA: Final = frozenset(
    name for script in SCRIPTS.values() if not script.foreign for name in (*script.languages, script.whole)
) - {"vie"}

INSTALL: Final = (
    "Install it (Debian and Ubuntu: apt-get install tesseract-ocr; Fedora: dnf install tesseract; macOS: brew install "
    "tesseract; Windows: winget install UB-Mannheim.TesseractOCR), or set OCR_ENGINE=rapidocr."
)


@dataclass(frozen=True, slots=True)
class Word:
    """A row of the program's table: a word, the line it is in, its box and the program's confidence, 0 to 1."""

    line: tuple[int, int, int]
    text: str
    box: tuple[int, int, int, int]
    confidence: float


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a page lies: `quarters` for `np.rot90`, how sure that is; the script on it, and how sure that is."""

    quarters: int
    confidence: float
    script: str
    script_confidence: float

    @property
    def known(self) -> Script:
        """The script; Latin where this says none that is known."""
        return SCRIPTS.get(self.script, LATIN)

    @property
    def is_sure_of_script(self) -> bool:
        """Whether the script may be named: a guess at a page of which the program cannot see the top is none."""
        return self.script_confidence >= SURE_SCRIPT and (self.confidence > 0 or math.isinf(self.script_confidence))


UNSEEN: Final = Orientation(0, 0.0, "", 0.0)


@dataclass(frozen=True, slots=True)
class Recognition:
    """What the program made of a page: turned by `quarters`, in a script, with its words."""

    quarters: int
    script: Script
    words: tuple[Word, ...]

    @property
    def confidence(self) -> float:
        return mean_confidence(self.words)

    @property
    def is_clear(self) -> bool:
        """Whether the program is as sure as of clear text in the right language."""
        return self.trusted and self.confidence >= CLEAR_CONFIDENCE

    @property
    def trusted(self) -> bool:
        """Whether this is text: the right language is surer of itself, and does not mix scripts."""
        return self.confidence >= GOOD_CONFIDENCE and _is_one_script(self.words)


class Program:
    """The installed program: what it is, which languages it has, and a run of it."""

    def __init__(self, path: str, call: Call) -> None:
        """Ask the program for its languages.

        Raises:
            EngineUnavailable: it does not run, or has no language data.
        """
        self.path = path
        listed = self.run(["--list-langs"], call, limit=ASK_LIMIT_S).splitlines()
        self.languages = frozenset(line.strip() for line in listed if re.fullmatch(r"[\w/-]+", line.strip()))
        if not self.readers:
            raise EngineUnavailable(
                f"Tesseract ({path}) has no language data.",
                remedy="Install it (Debian and Ubuntu: apt-get install tesseract-ocr-eng; Fedora: dnf install "
                "tesseract-langpack-eng; macOS: brew install tesseract-lang; Windows: choose languages in the "
                "installer), or set TESSDATA_PREFIX to the folder that has it.",
            )

    def version(self, call: Call) -> str:
        """What it calls itself; empty where it does not say."""
        said = self.run(["--version"], call, limit=ASK_LIMIT_S)
        return next(iter(re.findall(r"tesseract v?(\S+)", said)), "")

    @property
    def readers(self) -> list[str]:
        """The language data that reads text."""
        return sorted(self.languages - {"osd", "equ"})

    def lacks(self, script: Script) -> bool:
        """Whether text in this script cannot be read here."""
        return script.foreign and not languages_for(script, self.languages)

    @property
    def foreign_scripts(self) -> list[Script]:
        """The scripts that can be read here and that the bundled models do not know, those without a twin."""
        known: dict[tuple[str, ...], Script] = {}
        for script in SCRIPTS.values():
            if not script.bundled and (languages := languages_for(script, self.languages)):
                known.setdefault(tuple(languages), script)
        return list(known.values())

    def may_read(self, script: Script) -> bool:
        """Whether `read` may find more than Latin letters on a page in this script.

        Data with a name of somebody's own may be for any script.
        """
        tried = self._tried_first(script) if script.foreign else self.readers
        return not LATIN_DATA.issuperset(tried)

    def _tried_first(self, script: Script) -> list[str]:
        """The script's data and that of Latin script; any, where there is neither."""
        fitting = [*languages_for(script, self.languages), *languages_for(LATIN, self.languages)]
        return list(dict.fromkeys(fitting or self.readers))[:MAX_LANGUAGES]

    def run(self, arguments: Sequence[str], call: Call, *, image: bytes = b"", limit: float = RUN_LIMIT_S) -> str:
        """What the program prints. It ends within the limit, or it is killed.

        Args:
            arguments: the arguments of the program.
            call: tells whether the caller has gone.
            image: the picture for its standard input, encoded.
            limit: seconds.

        Raises:
            Cancelled: nobody waits any more; the program is dead.
            Timeout: it took longer than `limit` seconds; the program is dead.
            OcrError: it failed; the message ends with what it wrote last.
        """
        call.raise_if_cancelled()
        end = time.monotonic() + limit
        with tempfile.TemporaryFile() as given:  # no name, so it is gone with us
            given.write(image)
            given.seek(0)
            try:
                process = subprocess.Popen(
                    [self.path, *arguments],
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**os.environ, "OMP_THREAD_LIMIT": "1"},  # its threads wait more than they work
                    preexec_fn=_dying_with_us(),
                )
            except OSError as exc:
                raise EngineUnavailable(
                    f"Tesseract ({self.path}) cannot be run: {exc.strerror}.", remedy=INSTALL
                ) from None
        try:
            while True:
                try:
                    out, err = process.communicate(timeout=POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    call.raise_if_cancelled()
                if time.monotonic() > end:
                    raise Timeout(
                        f"Tesseract did not read a page within {limit:g} s and was stopped.",
                        remedy="Send a smaller page, or a smaller resolution.",
                    )
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        if process.returncode:
            said = err.decode(errors="replace").strip().splitlines()
            raise OcrError(
                f"Tesseract failed with status {process.returncode}: {said[-1] if said else 'it says nothing'}",
                remedy="Run `tesseract --list-langs`; install its language data again if that fails.",
            )
        return out.decode(errors="replace")

    def orientation(self, grey: Pixels, call: Call) -> Orientation:
        """How the page lies and its script; `UNSEEN` where the program cannot tell."""
        if "osd" not in self.languages:
            return UNSEEN
        small = reduce_pixels(grey, OSD_SIDE)
        settings = ["--psm", "0", "-c", f"min_characters_to_try={OSD_CHARACTERS}"]
        try:
            return parse_orientation(self.run(["-", "-", *settings], call, image=_as_pgm(small))) or UNSEEN
        except Timeout:
            raise
        except OcrError as exc:
            if type(exc) is not OcrError:
                raise
            return UNSEEN  # "Too few characters": a blank page has no orientation

    def words(self, grey: Pixels, languages: Sequence[str], call: Call) -> list[Word]:
        """The words of an upright page.

        Args:
            grey: the page, 8-bit grey.
            languages: the names of the languages' data.
            call: tells whether the caller has gone.
        """
        settings = ["-l", "+".join(languages), "--psm", "3", "-c", "tessedit_create_tsv=1"]
        return parse_words(self.run(["-", "-", *settings], call, image=_as_pgm(grey)))

    def words_in(self, grey: Pixels, script: Script, call: Call) -> list[Word]:
        """The words of an upright page in one script, whose data is here.

        Args:
            grey: the page, 8-bit grey.
            script: the script.
            call: tells whether the caller has gone.
        """
        return self.words(grey, languages_for(script, self.languages)[:MAX_LANGUAGES], call)

    def read(self, grey: Pixels, seen: Orientation, call: Call) -> Recognition:
        """The words of a page that may lie on its side.

        The script's languages are tried together with those of Latin script, among which the program chooses word
        by word. Where that reads badly, detection may have erred: each other script that can be read here is tried,
        unless the script's own data is missing; and the same at each turn in which the page may lie, as it is first.

        Args:
            grey: the page, 8-bit grey.
            seen: the turn and the script that detection found.
            call: tells whether the caller has gone.
        """
        turns = [seen.quarters]
        if seen.confidence < SURE_ORIENTATION:
            turns = [0, seen.quarters, (seen.quarters + 2) % 4]
        found = seen.known
        others = self._other_scripts(found)
        best = Recognition(turns[0], found, ())
        for quarters in dict.fromkeys(turns):
            upright = np.rot90(grey, quarters)
            read = Recognition(quarters, found, tuple(self.words(upright, self._tried_first(found), call)))
            best = max(best, read, key=lambda r: r.confidence)
            if not best.words:
                return best  # a blank page is blank however it lies
            if read.trusted and (seen.script_confidence >= SURE_SCRIPT or read.is_clear):
                return self._surer(upright, read, call)
            for other in others:
                read = Recognition(quarters, other, tuple(self.words_in(upright, other, call)))
                if read.trusted and (read.confidence > best.confidence or not best.trusted):
                    best = read
                if best.is_clear and sum(len(word.text) for word in best.words) >= TELLING_LETTERS:
                    return best
            if best.is_clear:
                return best
        return best

    def _other_scripts(self, found: Script) -> list[Script]:
        """What a page may be in, if not in the script that was found; none where that cannot be read here."""
        if self.lacks(found):
            return []
        known = {tuple(languages_for(found, self.languages)): found}
        for script in SCRIPTS.values():
            if languages := languages_for(script, self.languages):
                known.setdefault(tuple(languages), script)
        return [script for script in known.values() if script != found]

    def _surer(self, upright: Pixels, reading: Recognition, call: Call) -> Recognition:
        """Latin words amid another script are often guesses: without Latin data, their lines may read better."""
        mixed = any(LATIN_LETTER.search(word.text) for word in reading.words)
        if not (mixed and reading.script.foreign and languages_for(reading.script, self.languages)):
            return reading
        alone = by_line(self.words_in(upright, reading.script, call))
        lines = [max(line, alone.get(key, []), key=mean_confidence) for key, line in by_line(reading.words).items()]
        return Recognition(reading.quarters, reading.script, tuple(word for line in lines for word in line))


def find_program() -> str | None:
    """Where the program is, if it is installed."""
    found = shutil.which("tesseract")
    if found is None and sys.platform == "win32":
        found = shutil.which(r"C:\Program Files\Tesseract-OCR\tesseract.exe")  # its installer leaves PATH alone
    return found


def parse_orientation(said: str) -> Orientation | None:
    """What `--psm 0` prints; None where a part of it is missing."""
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in said.splitlines())}
    try:
        degrees = int(found["Rotate"])  # clockwise, to upright
        confidence = float(found["Orientation confidence"])
        script, script_confidence = found["Script"], float(found["Script confidence"])
    except (KeyError, ValueError):
        return None
    return Orientation(-degrees // 90 % 4, confidence, script, script_confidence)


def parse_words(table: str) -> list[Word]:
    """The words in the program's table, in its order, blank ones left out.

    Raises:
        OcrError: this is no such table.
    """
    head, *rows = table.replace("\r\n", "\n").split("\n")
    if head != HEADER:
        raise _no_table(head)
    words = []
    for row in rows:
        cells = row.split("\t")
        if cells[0] != WORD:
            continue
        try:
            _, _, block, paragraph, line, _, left, top, width, height = map(int, cells[:10])
            confidence, text = float(cells[10]), cells[11].strip()
        except (ValueError, IndexError):
            raise _no_table(row) from None
        if text and width > 0 and height > 0 and confidence >= 0:
            box = (left, top, left + width, top + height)
            words.append(Word((block, paragraph, line), text, box, min(1.0, confidence / 100)))
    return words


def _no_table(row: str) -> OcrError:
    return OcrError(
        f"Tesseract printed something that is no table of words: {row[:80]!r}.",
        remedy="Install Tesseract 4.1 or newer.",
    )


def mean_confidence(words: Sequence[Word]) -> float:
    """Of the whole page: each character counts."""
    count = sum(len(word.text) for word in words)
    return sum(word.confidence * len(word.text) for word in words) / count if count else 0.0


def by_line(words: Iterable[Word]) -> dict[tuple[int, int, int], list[Word]]:
    """Lines are found before they are read: they are the same whatever languages are tried."""
    return {key: list(line) for key, line in groupby(words, lambda word: word.line)}


def _is_one_script(words: Sequence[Word]) -> bool:
    """Whether nearly all letters are of one script, or of that and Latin: languages mixed at will are noise."""
    scripts = Counter(
        unicodedata.name(char, "").partition(" ")[0] for word in words for char in word.text if char.isalpha()
    )
    count = scripts.total()
    latin = scripts.pop("LATIN", 0)
    scripts["CJK"] = sum(scripts.pop(name, 0) for name in ("CJK", "HIRAGANA", "KATAKANA"))  # Japanese has all
    return latin + max(scripts.values(), default=0) >= ONE_SCRIPT_SHARE * count


def reduce_pixels(pixels: Pixels, longest: int) -> Pixels:
    """The page, no side longer than `longest`."""
    scale = longest / max(pixels.shape)
    if scale >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    reduced: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return reduced


def _as_pgm(grey: Pixels) -> bytes:
    return b"P5\n%d %d\n255\n" % grey.shape[::-1] + grey.tobytes()


def _dying_with_us() -> Callable[[], object] | None:
    """Asks Linux to end the child with the thread that starts it; elsewhere the end of its pipes does."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork
    return lambda: prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)

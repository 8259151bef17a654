"""Reads pages with the `tesseract` program, a bounded child process; no file is left behind, nothing is downloaded.

Languages are those that are installed and fit the script that Tesseract detects on the page. A
cancelled call kills the program within a tenth of a second, and it dies with this process. Where
the page's script has no language data here, a remark names the package that brings it: what
Tesseract makes of a foreign script is not given out as the page's text.

`reread` gives another engine's page of unknown script to the same program, where it is installed.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from ..errors import EngineUnavailable, OcrError, Timeout, UnsupportedMode
from ..modes import RESOLUTIONS
from ..results.reading_order import NO_SPACES, RIGHT_TO_LEFT, TextLine, cut, split_at_gutters
from .base import Call, PageImage, PageText, ReadOptions
from .rapidocr import _Region, _Sheet, _slice
from .scripts import LATIN, SCRIPTS, Script, languages_for, remark

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

__all__ = [
    "Orientation",
    "Program",
    "Reading",
    "Rereading",
    "TesseractEngine",
    "Word",
    "find_program",
    "parse_orientation",
    "parse_words",
    "reread",
]

MODES: Final = frozenset({"document", "ocr", "free", "find"})
POLL_S: Final = 0.1  # how often a waiting call asks whether it is cancelled
RUN_LIMIT_S: Final = 240.0  # longest run over one page
ASK_LIMIT_S: Final = 20.0  # longest run for a version or a list
MAX_LANGUAGES: Final = 8  # at once: each takes memory, and time for every word that the others could not read
LONGEST_SIDE: Final = 10_000  # pixels; the program refuses 32768
OSD_SIDE: Final = 2000  # pixels that are enough to see how a page lies
OSD_CHARACTERS: Final = 5  # least number of characters to judge by; the program's own default is 50
SURE_ORIENTATION: Final = 1.0  # the program's measure; upright pages are called turned at up to 0.7
SURE_SCRIPT: Final = 1.0  # the same for the script: a wrong one had 0.7, right ones have 1.7 and more
CLEAR_CONFIDENCE: Final = 0.85  # of a page in a script that is not sure
GOOD_CONFIDENCE: Final = 0.7  # of a page, 0 to 1: the right language has about 0.9, a wrong one about 0.4
ONE_SCRIPT_SHARE: Final = 0.9  # of the letters
NOISE: Final = 0.3  # confidence of a line that is no text
TILTED_DEG: Final = 0.5
SPACE_EM: Final = 0.6  # least gap that is a space in scripts without spaces between words
HANGUL_SPACE_EM: Final = 0.25  # the same in Korean, where the program takes syllables for words
PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

HEADER: Final = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext"
WORD: Final = "5"  # the level of a row
UNSPACED: Final = re.compile(f"{NO_SPACES.pattern[:-1]}\\u0e00-\\u0eff\\u1000-\\u109f\\u1780-\\u17ff]")
LATIN_LETTER: Final = re.compile("[A-Za-z\\u00c0-\\u024f]")
HANGUL: Final = re.compile("[\\uac00-\\ud7a3]")

LATIN_DATA: Final = frozenset(
    name for script in SCRIPTS.values() if not script.foreign for name in (*script.languages, script.whole)
)

INSTALL: Final = (
    "Install it (Debian and Ubuntu: apt-get install tesseract-ocr; macOS: brew install tesseract; "
    "Windows: winget install UB-Mannheim.TesseractOCR), or set OCR_ENGINE=rapidocr."
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


UNSEEN: Final = Orientation(0, 0.0, "", 0.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the program made of a page: turned by `quarters`, in a script, with its words."""

    quarters: int
    script: Script
    words: tuple[Word, ...]

    @property
    def confidence(self) -> float:
        return _confidence(self.words)

    @property
    def trusted(self) -> bool:
        """Whether this is text: the right language is surer of itself, and does not mix scripts."""
        return self.confidence >= GOOD_CONFIDENCE and _is_one_script(self.words)


@dataclass(frozen=True, slots=True)
class Rereading:
    """A page that was read again, or a sentence that says why it was not.

    `quarters` is how often `np.rot90` turns the given pixels upright. `inks[n]` is where `lines[n]`
    stands on the upright page; `lines` are straightened, and cut where columns are.
    """

    remark: str = ""
    quarters: int = 0
    lines: tuple[TextLine, ...] = ()
    inks: tuple[_Region, ...] = ()


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
                f"Tesseract ({path}) has no language data.", remedy="On Debian run: apt-get install tesseract-ocr-eng"
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
        small = _reduced(grey, OSD_SIDE)
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
        """The words of an upright page."""
        settings = ["-l", "+".join(languages), "--psm", "3", "-c", "tessedit_create_tsv=1"]
        return parse_words(self.run(["-", "-", *settings], call, image=_as_pgm(grey)))

    def read(self, grey: Pixels, seen: Orientation, call: Call) -> Reading:
        """The words of a page that may lie on its side, and of which `seen` is known.

        The script's languages are tried together with those of Latin script, among which the program
        chooses word by word. Where that reads badly, detection may have erred: the page is turned, then
        each other script that can be read here is tried, unless the script's own data is missing.
        """
        found = seen.known
        sure = seen.script_confidence >= SURE_SCRIPT
        own = languages_for(found, self.languages)
        first = self._tried_first(found)
        turns = [seen.quarters]
        if seen.confidence < SURE_ORIENTATION:
            turns = [0, seen.quarters, (seen.quarters + 2) % 4]
        best = Reading(turns[0], found, ())
        for quarters in dict.fromkeys(turns):
            read = self._read(grey, quarters, found, first, call)
            best = max(best, read, key=lambda r: r.confidence)
            if not best.words:
                return best  # a blank page is blank however it lies
            if best.trusted and (sure or best.confidence >= CLEAR_CONFIDENCE):
                return self._surer(grey, best, own, call)
        if own or not found.foreign:
            for other in dict.fromkeys(SCRIPTS.values()):
                if other != found and (languages := languages_for(other, self.languages)[:MAX_LANGUAGES]):
                    last = self._read(grey, best.quarters, other, languages, call)
                    if last.trusted and last.confidence > best.confidence:
                        best = last
                    if best.trusted and best.confidence >= CLEAR_CONFIDENCE:
                        break
        return best

    def _surer(self, grey: Pixels, reading: Reading, own: Sequence[str], call: Call) -> Reading:
        """Latin words amid another script are often guesses: without Latin data, their lines may read better."""
        if not (own and reading.script.foreign and any(LATIN_LETTER.search(word.text) for word in reading.words)):
            return reading
        alone = _by_line(self._read(grey, reading.quarters, reading.script, own, call).words)
        lines = [max(line, alone.get(key, []), key=_confidence) for key, line in _by_line(reading.words).items()]
        return Reading(reading.quarters, reading.script, tuple(word for line in lines for word in line))

    def _read(self, grey: Pixels, quarters: int, script: Script, languages: Sequence[str], call: Call) -> Reading:
        import numpy as np

        words = self.words(np.rot90(grey, quarters), languages, call) if languages else []
        return Reading(quarters, script, tuple(words))


class TesseractEngine:
    """Tesseract as it is installed on this machine. Needs no GPU and holds no memory between pages."""

    def __init__(self) -> None:
        self._program: Program | None = None

    def load(self, device: str, call: Call) -> dict[str, Any]:
        """Find the program and its languages. `device` is ignored.

        Raises:
            EngineUnavailable: the program or its language data is missing.
        """
        path = find_program()
        if path is None:
            raise EngineUnavailable("The program tesseract is not installed.", remedy=INSTALL)
        self._program = Program(path, call)
        call.progress(1.0, "program found")
        return {"model": f"Tesseract {self._program.version(call)}", "languages": self._program.readers}

    def offload(self) -> None:
        """Nothing to do: there is nothing on a GPU."""

    def restore(self, device: str) -> None:
        """Nothing to do: there is nothing on a GPU."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        """One `PageText` per page, as the rapidocr engine gives it.

        A page in a script for which no language data is installed has no text, but a remark.

        Raises:
            UnsupportedMode: the mode needs a model that understands pictures or questions.
            Cancelled: nobody waits any more.
        """
        if options.mode not in MODES:
            raise UnsupportedMode(
                f"The tesseract engine cannot do mode {options.mode!r}: it reads text and nothing else.",
                remedy=f"Set OCR_ENGINE=deepseek for it, or use one of {', '.join(sorted(MODES))}.",
            )
        texts = []
        for number, page in enumerate(pages):
            texts.append(self._read_page(page, options, call))
            call.progress((number + 1) / len(pages), "page read")
        return texts

    def _read_page(self, page: PageImage, options: ReadOptions, call: Call) -> PageText:
        import numpy as np

        if self._program is None:
            raise RuntimeError("read() before load()")
        pixels: Pixels = np.memmap(page.path, np.uint8, "r", shape=(page.height, page.width, 3))
        pixels = _reduced(pixels, min(RESOLUTIONS[options.resolution] or LONGEST_SIDE, LONGEST_SIDE))
        grey = _grey(pixels)
        reading = self._program.read(grey, self._program.orientation(grey, call), call)
        script = reading.script
        if reading.words and not reading.trusted and self._program.lacks(script):
            return PageText(
                "",
                remark=f"The page seems to be in {script.name.replace('_', ' ')} script, and Tesseract has no language "
                f"data for it (it has {', '.join(self._program.readers)}). Install it (Debian: apt-get install "
                f"{script.package}; elsewhere put {script.languages[0]}.traineddata into its tessdata folder) and "
                "restart the server.",
            )
        upright = np.rot90(pixels, reading.quarters)
        lines, inks = _laid_out(reading.words, upright.shape[1], upright.shape[0])
        sheet = _Sheet(page, upright, reading.quarters, lines, inks)
        return sheet.found(options.find_term) if options.mode == "find" else sheet.written(options.mode)


def reread(pixels: Pixels, script: str, call: Call) -> Rereading:
    """What Tesseract reads on an upright page that the bundled models could not read.

    Args:
        script: what `scripts.seems_unread` found.

    Returns:
        A reading; or a remark without lines, where Tesseract is not installed or reads no better.
    """
    import numpy as np

    path = find_program()
    if path is None:
        return Rereading(remark(script))
    program = Program(path, call)
    grey = _grey(_reduced(pixels, LONGEST_SIDE))
    seen = program.orientation(grey, call)
    if script:
        seen = replace(seen, script=script, script_confidence=math.inf)
    found = seen.known
    if program.may_read(found):  # else it is not read: that takes longest, and nobody would be given the text
        reading = program.read(grey, seen, call)
        if reading.trusted and _is_foreign(reading.words):  # the bundled models would have read Latin text
            scale = max(pixels.shape[:2]) / max(grey.shape)
            height, width = np.rot90(pixels, reading.quarters).shape[:2]
            lines, inks = _laid_out(reading.words, width, height, scale)
            return Rereading("", reading.quarters, tuple(lines), tuple(inks))
        found = reading.script
    return Rereading(remark(found.name if program.lacks(found) else script))


def find_program() -> str | None:
    """Where the program is, if it is installed."""
    found = shutil.which("tesseract")
    if found is None and sys.platform == "win32":
        found = shutil.which(r"C:\Program Files\Tesseract-OCR\tesseract.exe")  # its installer leaves PATH alone
    return found


# ---------------------------------------------------------------- what the program says


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


def _confidence(words: Sequence[Word]) -> float:
    """Of the whole page: each character counts."""
    count = sum(len(word.text) for word in words)
    return sum(word.confidence * len(word.text) for word in words) / count if count else 0.0


def _by_line(words: Iterable[Word]) -> dict[tuple[int, int, int], list[Word]]:
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


def _is_foreign(words: Sequence[Word]) -> bool:
    """Whether most letters are of scripts that the bundled models do not know."""
    letters = [unicodedata.name(char, "") for word in words for char in word.text if char.isalpha()]
    return 2 * sum(name.startswith(("LATIN", "CJK", "HIRAGANA", "KATAKANA")) for name in letters) < len(letters)


# ---------------------------------------------------------------- words to lines


def _laid_out(
    words: Sequence[Word], width: int, height: int, scale: float = 1.0
) -> tuple[list[TextLine], list[_Region]]:
    """The lines of a page of that size, straightened and cut at gutters, and where their ink is.

    `scale`: pixels of the page per pixel that the program saw.
    """
    groups = [group for group in _by_line(words).values() if _confidence(group) >= NOISE]
    tilt = _tilt(groups)
    made = [_line(group, tilt, width, height, scale) for group in groups]
    lines, inks = [line for line, _ in made], [ink for _, ink in made]
    pieces = split_at_gutters(lines)
    return (
        [cut(lines[piece.line], piece) for piece in pieces],
        [_slice(inks[piece.line], piece.begin, piece.end) for piece in pieces],
    )


def _tilt(groups: Sequence[Sequence[Word]]) -> float:
    """Degrees by which the page is tilted: the middle tilt of its long lines; 0 for less than half a degree."""
    tilts = []
    for group in groups:
        middles = [((w.box[0] + w.box[2]) / 2, (w.box[1] + w.box[3]) / 2) for w in group]
        size = statistics.median(w.box[3] - w.box[1] for w in group)
        if len(group) >= 4 and max(x for x, _ in middles) - min(x for x, _ in middles) >= 8 * size:
            slope, _ = statistics.linear_regression(*zip(*middles, strict=True))
            tilts.append(math.degrees(math.atan(slope)))
    tilt = statistics.median(tilts) if tilts else 0.0
    return tilt if abs(tilt) >= TILTED_DEG else 0.0


def _line(group: Sequence[Word], tilt: float, width: int, height: int, scale: float) -> tuple[TextLine, _Region]:
    """A line of words on a page that is tilted: straightened, and as it lies."""
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    boxes = []
    for word in group:
        x1, y1, x2, y2 = (side * scale for side in word.box)
        dx, dy = (x1 + x2 - width) / 2, (y1 + y2 - height) / 2
        x, y = width / 2 + dx * cos + dy * sin, height / 2 - dx * sin + dy * cos
        half = (max((y2 - y1) - (x2 - x1) * abs(sin), 0.3 * (y2 - y1))) / 2  # a tilted word's box is higher than it
        boxes.append((x - (x2 - x1) / 2, y - half, x + (x2 - x1) / 2, y + half))
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[2] for box in boxes), max(box[3] for box in boxes)
    text, places = _joined(group, boxes, vertical=bottom - top > 1.5 * (right - left) and len(group) > 1)
    vertical = bottom - top > 1.5 * (right - left) and len(text) > 1
    begin, extent = (top, bottom - top) if vertical else (left, right - left)
    centres = tuple((place - begin) / extent for place in places)
    if RIGHT_TO_LEFT.search(text):
        centres = ()  # they would run backwards
    dx, dy = (left + right - width) / 2, (top + bottom - height) / 2
    ink = _Region(width / 2 + dx * cos - dy * sin, height / 2 + dx * sin + dy * cos, right - left, bottom - top, tilt)
    return TextLine(text, (left, top, right, bottom), _confidence(group), centres, vertical), ink


def _joined(
    group: Sequence[Word], boxes: Sequence[tuple[float, float, float, float]], *, vertical: bool
) -> tuple[str, list[float]]:
    """The words as one text, and the middle of each of its characters along the line."""
    first, last = (1, 3) if vertical else (0, 2)
    text, places = "", []
    for n, word in enumerate(group):
        begin, end = boxes[n][first], boxes[n][last]
        if n:
            gap = begin - boxes[n - 1][last]
            size = boxes[n][2] - boxes[n][0] if vertical else boxes[n][3] - boxes[n][1]
            if gap >= _space(text[-1], word.text[0]) * size:
                text += " "
                places.append((boxes[n - 1][last] + begin) / 2)
        text += word.text
        places += [begin + (at + 0.5) / len(word.text) * (end - begin) for at in range(len(word.text))]
    return text, places


def _space(before: str, after: str) -> float:
    """The least gap between two characters, in heights of the line, that is a space."""
    if UNSPACED.match(before) and UNSPACED.match(after):
        return SPACE_EM
    return HANGUL_SPACE_EM if HANGUL.match(before) and HANGUL.match(after) else -math.inf


# ---------------------------------------------------------------- pixels and processes


def _reduced(pixels: Pixels, longest: int) -> Pixels:
    """The page, no side longer than `longest`."""
    import cv2

    scale = longest / max(pixels.shape)
    if scale >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    reduced: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return reduced


def _grey(pixels: Pixels) -> Pixels:
    import cv2

    grey: Pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return grey


def _as_pgm(grey: Pixels) -> bytes:
    return b"P5\n%d %d\n255\n" % grey.shape[::-1] + grey.tobytes()


def _dying_with_us() -> Callable[[], object] | None:
    """Asks Linux to end the child with the thread that starts it; elsewhere the end of its pipes does."""
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl  # looked up before the fork
    return lambda: prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)

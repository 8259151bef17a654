"""The engine on Debian's tesseract with its English data: what it reads, how it ends, what it says when it cannot."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from answering import page_text
from deepseek_ocr_mcp.engines import KNOWN
from deepseek_ocr_mcp.engines.base import CPU, PageImage, PageText, ReadOptions
from deepseek_ocr_mcp.engines.scripts import SCRIPTS, Unread, find_unread, languages_for, remark
from deepseek_ocr_mcp.engines.tesseract import engine as tesseract
from deepseek_ocr_mcp.engines.tesseract.engine import TesseractEngine, reread
from deepseek_ocr_mcp.engines.tesseract.program import (
    Orientation,
    Program,
    Word,
    find_program,
    parse_orientation,
    parse_words,
)
from deepseek_ocr_mcp.errors import Cancelled, EngineUnavailable, OcrError, UnsupportedMode
from deepseek_ocr_mcp.layout.lines import TextLine
from support import Signs, until_dead

SENTENCES = [
    "The reading room opens at nine.",
    "Pencils and paper are welcome.",
    "Orders arrive the same afternoon.",
    "We wish you a quiet day.",
]
HEAD = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext"


class Listener:
    """A caller that hangs up when told to."""

    def __init__(self) -> None:
        self.gone = threading.Event()

    def progress(self, done: float, message: str = "") -> None:
        assert 0 <= done <= 1

    def raise_if_cancelled(self) -> None:
        if self.gone.is_set():
            raise Cancelled("The call was cancelled.", remedy="Call again.")


@pytest.fixture(scope="module")
def engine() -> TesseractEngine:
    if find_program() is None:
        pytest.fail("These tests need tesseract: apt-get install tesseract-ocr")
    engine = TesseractEngine()
    facts = engine.load(CPU, Listener())
    assert str(facts["model"]).startswith("Tesseract ")
    assert "eng" in facts["languages"]
    return engine


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Image.Image], PageImage]:
    """Writes a picture the way the server gives pages to an engine."""
    count = iter(range(100))

    def write(image: Image.Image) -> PageImage:
        path = tmp_path / f"{next(count)}.rgb"
        path.write_bytes(image.convert("RGB").tobytes())
        return PageImage(str(path), image.width, image.height)

    return write


@pytest.fixture
def impostor(tmp_path: Path, monkeypatch) -> Callable[[str], None]:
    """Puts a program of that name and these Python lines in front of the real one."""

    def impostor(body: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "tesseract"
        program.write_text(f"#!{sys.executable}\nimport os, sys, time\n{body}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return impostor


def drawn(rows: list[str], size: int = 28, width: int = 800) -> Image.Image:
    page = Image.new("RGB", (width, 80 + 2 * size * len(rows)), "white")
    draw = ImageDraw.Draw(page)
    for n, row in enumerate(rows):
        draw.text((40, 40 + 2 * size * n), row, "black", ImageFont.load_default(size))
    return page


def read(engine: TesseractEngine, page: PageImage, mode: str = "ocr", **options: str) -> PageText:
    asked = ReadOptions(mode, **options)
    [reading] = engine.read([page], asked, Listener())
    text = page_text(reading, asked)
    for block in text.blocks:
        x1, y1, x2, y2 = block.box
        assert 0 <= x1 < x2 <= page.width
        assert 0 <= y1 < y2 <= page.height
        assert block.score is not None
        assert 0 <= block.score <= 1
    return text


def likeness(text: str, rows: list[str]) -> float:
    return SequenceMatcher(None, " ".join(text.split()), " ".join(rows)).ratio()


# -- pages


def test_a_drawn_page_is_read_line_by_line_and_boxed(engine, write) -> None:
    page = drawn(SENTENCES)
    text = read(engine, write(page))
    assert text.text.split("\n") == SENTENCES
    draw = ImageDraw.Draw(page)
    for n, block in enumerate(text.blocks):
        ink = draw.textbbox((40, 40 + 56 * n), SENTENCES[n], ImageFont.load_default(28))
        assert (block.label, block.text) == ("line", SENTENCES[n])
        assert block.box == pytest.approx(ink, abs=6)


def test_document_mode_gives_markdown(engine, write) -> None:
    page = drawn(["", "", *SENTENCES])
    ImageDraw.Draw(page).text((40, 30), "A Guide", "black", ImageFont.load_default(60))
    assert read(engine, write(page), "document").text.startswith("# A Guide\n\n")


def test_found_words_are_boxed_to_a_few_pixels(engine, write) -> None:
    page = drawn(SENTENCES)
    text = read(engine, write(page), "find", find_term="same afternoon")
    font = ImageFont.load_default(28)
    ink = ImageDraw.Draw(page).textbbox(
        (40 + font.getlength("Orders arrive the "), 40 + 56 * 2), "same afternoon", font
    )
    [block] = text.blocks
    assert (block.label, block.text) == ("same afternoon", "same afternoon")
    assert block.box[0] == pytest.approx(ink[0], abs=4)
    assert block.box[2] == pytest.approx(ink[2], abs=4)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_page_on_its_side_or_head_is_read(engine, write, degrees: int) -> None:
    turned = drawn(SENTENCES * 3).rotate(degrees, expand=True)
    text = read(engine, write(turned))
    assert likeness(text.text, SENTENCES * 3) > 0.97
    x1, y1, x2, y2 = text.blocks[0].box
    assert (x2 - x1 > y2 - y1) == (degrees == 180)


def test_a_tilted_page_is_read_in_order(engine, write) -> None:
    tilted = drawn(SENTENCES * 2).rotate(2, fillcolor="white", resample=Image.Resampling.BICUBIC)
    assert likeness(read(engine, write(tilted)).text, SENTENCES * 2) > 0.97


def test_columns_are_read_one_after_the_other(engine, write) -> None:
    left = [f"Left column line {n} goes on here" for n in range(6)]
    right = [f"Right column line {n} goes on too" for n in range(6)]
    page = drawn(left, width=1200)
    draw = ImageDraw.Draw(page)
    for n, row in enumerate(right):
        draw.text((620, 40 + 56 * n), row, "black", ImageFont.load_default(28))
    assert likeness(read(engine, write(page)).text, left + right) > 0.97


def test_boxes_are_in_pixels_of_the_page_whatever_the_resolution(engine, write) -> None:
    page = write(drawn(SENTENCES, size=80, width=2000))
    full, shrunk = read(engine, page), read(engine, page, resolution="base")
    assert shrunk.blocks[0].box == pytest.approx(full.blocks[0].box, abs=12)


@pytest.mark.parametrize("size", [(600, 400), (1, 1), (3, 500)])
@pytest.mark.parametrize("mode", ["document", "find"])
def test_a_blank_page_has_no_text(engine, write, size, mode: str) -> None:
    text = read(engine, write(Image.new("RGB", size, "white")), mode, find_term="x")
    assert (text.text, list(text.blocks)) == ("", [])


# -- ends


def test_a_cancelled_call_kills_the_program(impostor, write) -> None:
    impostor(
        "if '--version' in sys.argv: print('tesseract 5'); sys.exit()\n"
        "if '--list-langs' in sys.argv: print('eng'); sys.exit()\n"
        "time.sleep(60)"
    )
    engine, listener = TesseractEngine(), Listener()
    engine.load(CPU, listener)
    page = write(drawn(SENTENCES))
    threading.Timer(0.5, listener.gone.set).start()
    with pytest.raises(Cancelled):
        engine.read([page], ReadOptions("ocr"), listener)


def test_a_run_ends_at_its_limit(impostor) -> None:
    impostor("time.sleep(60)")
    path = find_program()
    assert path is not None
    program = Program.__new__(Program)
    program.path = path
    with pytest.raises(OcrError, match=r"within 0\.3 s"):
        program.run([], Listener(), limit=0.3)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_the_program_dies_with_the_process_that_started_it(impostor, signs: Signs) -> None:
    impostor(f"os.write(os.open({signs.path!r}, os.O_WRONLY), f'{{os.getpid()}}\\n'.encode()); time.sleep(600)")
    code = (
        "from deepseek_ocr_mcp.engines.tesseract.program import Program, find_program\n"
        "program = Program.__new__(Program); program.path = find_program()\n"
        "class Call:\n"
        "    def raise_if_cancelled(self): pass\n"
        "program.run([], Call())"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        program = int(signs.next())
    finally:
        parent.kill()
        parent.wait()
    until_dead([program])


def test_a_failing_program_is_quoted(impostor) -> None:
    impostor("print('read_params_file: no such file', file=sys.stderr); sys.exit(3)")
    with pytest.raises(OcrError, match=r"status 3: read_params_file"):
        TesseractEngine().load(CPU, Listener())


def test_a_missing_program_is_named_with_the_command_to_run(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EngineUnavailable, match=r"apt-get install tesseract-ocr.*brew.*winget"):
        TesseractEngine().load(CPU, Listener())


def test_a_program_without_language_data_says_what_to_install(impostor) -> None:
    impostor("print('tesseract 5' if '--version' in sys.argv else 'List of available languages (1):\\nosd')")
    with pytest.raises(EngineUnavailable, match="tesseract-ocr-eng"):
        TesseractEngine().load(CPU, Listener())


@pytest.mark.parametrize("mode", ["figure", "describe", "freeform"])
def test_other_modes_name_the_engine_that_can(engine, write, mode: str) -> None:
    with pytest.raises(UnsupportedMode, match="OCR_ENGINE=deepseek"):
        read(engine, write(drawn([])), mode)


def test_the_engine_is_known_with_its_modes_and_needs_no_module() -> None:
    assert KNOWN["tesseract"].modes == {"document", "ocr", "free", "find"}
    assert KNOWN["tesseract"].needs == ()


# -- scripts

FOREIGN = (
    "given = sys.stdin.buffer.read()\n"
    "if '--version' in sys.argv: print('tesseract 5.3.0')\n"
    "elif '--list-langs' in sys.argv: print('List (n):', *LANGUAGES, sep='\\n')\n"
    "elif '0' in sys.argv: print('Rotate: 0\\nOrientation confidence: 3.0\\nScript: Cyrillic\\nScript confidence: 2')\n"
    f"else: print({HEAD!r}); print('5', 1, 1, 1, 1, 1, 40, 40, 400, 30, *SAYS, sep='\\t')"
)


def test_a_script_without_its_data_gives_a_remark_that_names_the_package(impostor, write) -> None:
    impostor(f"LANGUAGES = ['eng', 'osd']; SAYS = ('41', 'Bce nroau')\n{FOREIGN}")
    engine = TesseractEngine()
    engine.load(CPU, Listener())
    text = read(engine, write(drawn(SENTENCES)))
    assert (text.text, list(text.blocks)) == ("", [])
    assert "Cyrillic" in text.remark
    assert "tesseract-ocr-rus" in text.remark


def test_a_script_seen_by_mistake_does_not_matter_where_the_text_is_clear(impostor, write) -> None:
    impostor(f"LANGUAGES = ['eng', 'osd']; SAYS = ('95', 'Receipt')\n{FOREIGN}")
    engine = TesseractEngine()
    engine.load(CPU, Listener())
    assert read(engine, write(drawn(SENTENCES))).text == "Receipt"


def test_the_data_of_the_script_seen_is_used(impostor, write, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    impostor(
        f"if '-l' in sys.argv: open({str(asked)!r}, 'w').write(' '.join(sys.argv))\n"
        f"LANGUAGES = ['eng', 'rus', 'tha', 'osd']; SAYS = ('95', 'Все')\n{FOREIGN}"
    )
    engine = TesseractEngine()
    engine.load(CPU, Listener())
    assert read(engine, write(drawn(SENTENCES))).text == "Все"
    assert "-l rus+eng " in asked.read_text()


def test_the_model_of_a_whole_script_is_preferred_to_its_languages() -> None:
    assert languages_for(SCRIPTS["Han"], {"chi_tra", "chi_sim", "eng"}) == ["chi_sim", "chi_tra"]
    assert languages_for(SCRIPTS["Han"], {"script/HanS", "chi_sim"}) == ["script/HanS"]
    assert languages_for(SCRIPTS["Thai"], {"eng"}) == []


def line(text: str, score: float, row: int = 0) -> TextLine:
    return TextLine(text, (0, 50 * row, 600, 50 * row + 30), score)


ENGLISH = [line("The reading room opens at nine o'clock", 0.99, n) for n in range(4)]


@pytest.mark.parametrize(
    ("lines", "shares", "script"),
    [
        ([line("", 0.0), line("3J", 0.46, 1)], [1.0, 0.3], ""),  # Arabic
        ([line("H ne ao.", 0.92), line("K co", 0.9, 1)], [0.7, 0.7], ""),  # Cyrillic: sure of what looks like Latin
        ([line("VUNUILNNLUNLULUILUNISLUMACN", 0.74)], [0.4], ""),  # Thai
        ([line("Ωαíο αρ σμεα οι άνθρωποι και ίσοι", 0.87)], [0.2], "Greek"),
    ],
)
def test_a_page_in_an_unknown_script_is_noticed(lines: list[TextLine], shares: list[float], script: str) -> None:
    unread = find_unread(lines, shares)
    assert (unread.lines, unread.whole, unread.certain) == (tuple(range(len(lines))), True, True)
    assert unread.script == script


@pytest.mark.parametrize(
    ("foreign", "share"),
    [
        (line("", 0.0, 9), 1.0),  # Korean
        (line("v onn5a o8", 0.47, 9), 0.4),  # Thai
        (line("K   co  ", 0.93, 9), 0.7),  # Cyrillic
        (line("D  v  n  yn", 0.75, 9), 0.45),  # Hebrew
    ],
)
def test_a_foreign_line_between_english_ones_is_noticed(foreign: TextLine, share: float) -> None:
    unread = find_unread([*ENGLISH[:2], foreign, *ENGLISH[2:]], [0.0, 0.0, share, 0.0, 0.05])
    assert unread == Unread((2,), frozenset({2}), certain=True, total=5)


def test_vietnamese_is_noticed_by_its_words_and_its_text_is_kept() -> None:
    lines = [
        line("Thư vin m ca mi ngày vào lúc chín gi sáng", 0.98, 8),
        line("Dòng sông chy qua làng và núi rồi ra đn bin", 0.98, 9),
    ]
    unread = find_unread([*ENGLISH, *lines], [0.0] * 6)
    assert unread == Unread((4, 5), certain=True, script="Vietnamese", total=6)
    assert "tesseract-ocr-vie" in remark(unread.script, 2, 6)


@pytest.mark.parametrize(
    "text",
    [
        "Il a été à la mer où il a vu des chats et de la pluie, là et là",
        "Não há mais pão nem sal, só há chá e mel no chão da casa",
        "È già qui, ma non c'è più sole, né là né qua",
        "Má to být už tě nemá, já vím, že se to má dít",
        "Đak je došao u kuću i rekao da će sutra biti kiše",
    ],
)
def test_other_languages_with_short_words_are_not_taken_for_vietnamese(text: str) -> None:
    assert find_unread([line(text, 0.98, n) for n in range(4)], [0.0] * 4).lines == ()


@pytest.mark.parametrize(
    ("lines", "shares"),
    [
        ([], []),
        ([line("The reading room opens at nine o'clock", 0.99)], [0.0]),
        ([line("text of five pixels, which is hard to read", 0.85)], [0.1]),
        ([line("人人生而自由在尊严和权利上一律平等", 0.97)], [0.0]),
        ([line("T Y P E W R I T E R, wide set", 0.95)], [0.0]),
        ([TextLine("PART 41 SCALE 2", (0, 0, 900, 45), 0.97)], [0.0]),  # letters that stand far apart
        ([line("The area α + β = γ of the figure is known", 0.98)], [0.0]),
        ([line("~~", 0.3), *ENGLISH], [0.0] * 5),
        ([line("Copy  Paste  Find", 0.95), *ENGLISH], [0.43, 0, 0, 0, 0]),  # pictures between the words of a menu
        ([TextLine("", (0, 0, 30, 30), 0.1), *ENGLISH], [1.0, 0, 0, 0, 0]),  # a picture
    ],
)
def test_readable_pages_and_pictures_raise_no_alarm(lines: list[TextLine], shares: list[float]) -> None:
    unread = find_unread(lines, shares)
    assert (unread.lines, unread.certain) == ((), False)


def test_a_remark_names_the_script_where_it_is_known_and_says_how_to_get_its_data_everywhere() -> None:
    assert "Greek" in remark("Greek")
    for part in ("tesseract-ocr-ell", "brew install", "ell.traineddata", "LANGUAGES"):
        assert part in remark("Greek")
    assert remark("Greek", 2, 9).startswith("2 of the 9 lines")


@pytest.mark.parametrize("script", ["", "Latin", "Fraktur", "Han", "Japanese"])
def test_a_script_that_the_bundled_models_read_is_never_named_as_unreadable(script: str) -> None:
    assert "could not be read" in remark(script) == remark()


WHOLE = Unread((0,), certain=True, whole=True, total=1)
BOX = {0: (30.0, 30.0, 460.0, 80.0)}


def test_without_the_program_rereading_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(tesseract, "find_program", lambda: None)
    again = reread(None, WHOLE, BOX, Listener())
    assert "apt-get install tesseract-ocr" in again.remark
    assert again.lines == ()


def test_rereading_gives_lines_in_pixels_of_the_page(impostor) -> None:
    impostor(f"LANGUAGES = ['eng', 'rus', 'osd']; SAYS = ('95', 'Привет')\n{FOREIGN}")
    again = reread(np.zeros((300, 800, 3), np.uint8), WHOLE, BOX, Listener())
    [found], [ink] = again.lines, again.inks
    assert again.whole_page
    assert (found.text, found.box) == ("Привет", (40, 40, 440, 70))
    assert (ink.x, ink.y, ink.width, ink.height) == (240, 55, 400, 30)


def test_some_lines_are_read_again_with_the_rest_of_the_page_painted_out(impostor, tmp_path: Path) -> None:
    given = tmp_path / "given"
    impostor(
        f"if '-l' in sys.argv: open({str(given)!r}, 'wb').write(sys.stdin.buffer.read())\n"
        f"LANGUAGES = ['eng', 'rus', 'osd']; SAYS = ('95', 'Привет')\n{FOREIGN}"
    )
    page = np.full((300, 800, 3), 200, np.uint8)
    page[50:60, 100:400] = page[150:160, 100:400] = 10
    again = reread(page, Unread((7,), certain=True, total=9), {7: (30.0, 30.0, 460.0, 80.0)}, Listener())
    assert [line.text for line in again.lines] == ["Привет"]
    assert (again.numbers, again.whole_page, again.remark) == ({7}, False, "")
    seen = np.frombuffer(given.read_bytes()[-300 * 800 :], np.uint8).reshape(300, 800)
    assert set(np.unique(seen[50:60])) == {10, 200}
    assert (seen[80:] == 200).all()


def test_a_line_that_no_script_fits_is_counted_in_the_remark(impostor) -> None:
    impostor(f"LANGUAGES = ['eng', 'rus', 'osd']; SAYS = ('43', 'Мзу')\n{FOREIGN}")
    again = reread(np.zeros((300, 800, 3), np.uint8), Unread((0,), certain=True, total=9), BOX, Listener())
    assert again.lines == ()
    assert again.remark.startswith("1 of the 9 lines")


def test_rereading_gives_no_garbage_out(impostor) -> None:
    impostor(f"LANGUAGES = ['eng', 'osd']; SAYS = ('43', 'Mpwset')\n{FOREIGN}")
    again = reread(np.zeros((300, 800, 3), np.uint8), WHOLE, BOX, Listener())
    assert again.lines == ()
    assert "Cyrillic" in again.remark


@pytest.mark.parametrize(("script", "sure"), [("2.0", "0.0"), ("0.9", "5.0")])
def test_a_script_that_is_a_mere_guess_is_not_named(impostor, script: str, sure: str) -> None:
    guess = FOREIGN.replace("confidence: 3.0", f"confidence: {sure}")
    guess = guess.replace("confidence: 2'", f"confidence: {script}'")
    assert guess != FOREIGN
    impostor(f"LANGUAGES = ['eng', 'osd']; SAYS = ('43', 'Mpwset')\n{guess}")
    again = reread(np.zeros((300, 800, 3), np.uint8), WHOLE, BOX, Listener())
    assert again.remark == remark()


def test_rereading_runs_no_reading_of_which_nothing_can_come(impostor, tmp_path: Path) -> None:
    read = tmp_path / "read"
    mark = f"if '-l' in sys.argv: open({str(read)!r}, 'w').close()\n"
    for languages in (["eng", "frk", "osd"], ["eng", "tha", "osd"]):
        impostor(f"{mark}LANGUAGES = {languages}; SAYS = ('95', 'Привет')\n{FOREIGN}")
        again = reread(np.zeros((300, 800, 3), np.uint8), WHOLE, BOX, Listener())
        assert "tesseract-ocr-rus" in again.remark
        assert not read.exists()
    impostor(f"{mark}LANGUAGES = ['ours', 'osd']; SAYS = ('95', 'Привет')\n{FOREIGN}")
    assert reread(np.zeros((300, 800, 3), np.uint8), WHOLE, BOX, Listener()).lines
    assert read.exists()


# -- what the program says


def test_orientation_is_parsed_strictly() -> None:
    said = "Page number: 0\nRotate: 90\nOrientation confidence: 2.30\nScript: Latin\nScript confidence: 8.33\n"
    assert parse_orientation(said) == Orientation(3, 2.3, "Latin", 8.33)
    assert parse_orientation(said.replace("90", "many")) is None
    assert parse_orientation("Too few characters. Skipping this page") is None


def test_words_are_parsed_with_their_line_box_and_confidence() -> None:
    rows = [
        HEAD,
        "4\t1\t1\t1\t2\t0\t5\t6\t70\t8\t-1\t",
        '5\t1\t1\t1\t2\t1\t5\t6\t70\t8\t96.5\t"odd',
        "5\t1\t1\t1\t2\t2\t9\t6\t1\t8\t95\t ",
        "",
    ]
    assert parse_words("\n".join(rows)) == [Word((1, 1, 2), '"odd', (5, 6, 75, 14), 0.965)]
    assert parse_words(HEAD + "\n") == []


@pytest.mark.parametrize("table", ["", "text\n", f"{HEAD}\n5\t1\t1", f"{HEAD}\n5\t1\t1\t1\t1\t1\tx\t6\t7\t8\t90\ta"])
def test_what_is_no_table_is_refused(table: str) -> None:
    with pytest.raises(OcrError, match="no table of words"):
        parse_words(table)

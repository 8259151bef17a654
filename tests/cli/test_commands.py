"""The command line, as a shell runs it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fake_vllm import fake_vllm

from deepseek_ocr_mcp.cli.parser import build_parser
from deepseek_ocr_mcp.cli.server import server_url
from forked import COMMAND, OUTPUT, run_program, start_program, start_unforked
from locked_pdf import locked_pdf
from pdf_maker import born_digital
from support import BOUND_S, Signs, alive, children, echo, http_server, png, tiff, wait_until, written


def run(*arguments: str, engine: str = "faults:Echo", cwd: Path | None = None, **environment: str):
    return run_program(
        arguments,
        env={**os.environ, "OCR_ENGINE": engine, **environment},
        timeout=2 * BOUND_S,
        cwd=cwd,
        text=True,
    )


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "page.png"
    file.write_bytes(png())
    return file


def test_ocr_prints_the_text_and_nothing_else_to_stdout(page: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "ocr", str(page)],
        env={**os.environ, "OCR_ENGINE": "faults:Echo"},
        capture_output=True,
        text=True,
        timeout=2 * BOUND_S,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, echo() + "\n", "")


def test_a_relative_path_is_meant_from_the_current_folder(page: Path) -> None:
    assert run("ocr", "page.png", cwd=page.parent).stdout == echo() + "\n"


def test_the_embedded_engine_reads_a_page(tmp_path: Path) -> None:
    (tmp_path / "page.png").write_bytes(written("Invoice 4711\nTotal 12.50 EUR"))
    done = run("ocr", "page.png", "--format", "text", engine="auto", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.split() == ["Invoice", "4711", "Total", "12.50", "EUR"]


def test_json_has_pages_blocks_and_timing(page: Path) -> None:
    result = json.loads(run("ocr", str(page), "--format", "json").stdout)
    assert result["pages"][0]["blocks"][0]["box"] == [0, 0, 40, 20]
    assert result["timing"]["total_s"] > 0


def test_several_files_are_read_by_one_worker_and_a_bad_one_stops_none(page: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    done = run("ocr", str(page), "bad.png", "missing.png", str(page), cwd=tmp_path)
    assert done.stdout == (echo() + "\n") * 2
    assert done.returncode == 3
    assert "bad.png" in done.stderr
    assert "missing.png" in done.stderr
    assert "Traceback" not in done.stderr


def test_output_dir_gets_one_file_each_and_replaces_none(page: Path, tmp_path: Path) -> None:
    for suffix, kind in ((".md", "markdown"), (".txt", "text"), (".json", "json")):
        done = run("ocr", str(page), "--output-dir", "out/texts", "--format", kind, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "")
        assert echo() in (tmp_path / "out" / "texts" / f"page.png{suffix}").read_text()
    again = run("ocr", str(page), "--output-dir", "out/texts", cwd=tmp_path)
    assert (again.returncode, "--overwrite" in again.stderr) == (3, True)
    assert run("ocr", str(page), "--output-dir", "out/texts", "--overwrite", cwd=tmp_path).returncode == 0


def test_a_folder_goes_to_output_dir_file_by_file(page: Path, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    page.rename(tmp_path / "scans" / "page.png")
    done = run("ocr", "scans", "--output-dir", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert echo() in (tmp_path / "out" / "page.png.md").read_text()


def test_a_full_disk_is_an_error_without_a_traceback(page: Path, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = run_program(
            ["ocr", str(page)],
            env={**os.environ, "OCR_ENGINE": "faults:Echo"},
            stdout=full,
            text=True,
            timeout=2 * BOUND_S,
        )
    assert done.returncode != 0
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_standard_streams_that_the_caller_has_closed_break_nothing(page: Path, tmp_path: Path) -> None:
    def closed(redirections: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", f'exec "$@" {redirections}', "sh", *COMMAND, "ocr", str(page), *arguments],
            env={**os.environ, "OCR_ENGINE": "faults:Echo"},
            capture_output=True,
            text=True,
            timeout=2 * BOUND_S,
        )

    lost = closed(">&-")
    assert lost.returncode == 1
    assert lost.stderr == "Writing failed: Bad file descriptor.\n  Send the text somewhere else.\n"
    silent = closed("2>&-")
    assert (silent.returncode, silent.stdout) == (0, echo() + "\n")
    assert closed("<&- >&- 2>&-", "-o", str(tmp_path / "page.md")).returncode == 0
    assert (tmp_path / "page.md").read_text() == echo() + "\n"


def test_an_interrupt_while_the_program_is_imported_leaves_no_traceback() -> None:
    interrupted = """
import sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "deepseek_ocr_mcp.cli.parser":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from deepseek_ocr_mcp.cli.main import main
main(["ocr", "page.png"])
"""
    done = subprocess.run([COMMAND[0], "-c", interrupted], capture_output=True, text=True, timeout=2 * BOUND_S)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("names", [("", "--out", "texts"), ("@", "--out", "texts"), (".", "--out", "")])
def test_a_batch_without_a_name_does_not_mean_the_current_folder(page: Path, names: tuple[str, ...]) -> None:
    refused = run("batch", *names, cwd=page.parent)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "The name of SRC or of --out is empty." in refused.stderr
    assert not (page.parent / "texts").exists()


def test_an_empty_name_is_refused_and_does_not_mean_the_current_folder(page: Path) -> None:
    refused = run("ocr", "", cwd=page.parent)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "The name of a FILE is empty." in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("orc", "page.png"), "did you mean ocr?"),
        (("ocr", "page.png", "--page", "2"), "did you mean --pages?"),
        (("ocr", "page.png", "--frmat=json"), "did you mean --format?"),
        (("ocr", "page.png", "--mode", "documents"), "did you mean document?"),
        (("statsu",), "did you mean status?"),
        (("ocr", "page.png", "--out", "x.md"), "did you mean --output?"),
        (("ocr", "page.png", "--xyz"), "unknown: --xyz"),
        (("ocr", "page.png", "--words"), "unknown: --words"),  # and not "did you mean --password?"
        (("client-config", "cursr"), "did you mean cursor?"),
        (("batch", "scans", "--out", "texts", "--port", "9"), "unknown: --port 9"),
    ],
)
def test_a_misspelt_word_is_named_with_the_one_that_is_most_like_it(arguments: tuple[str, ...], hint: str) -> None:
    refused = run(*arguments)
    assert refused.returncode == 2
    fault, _, more = refused.stderr.partition("\n")
    assert fault.endswith(hint)
    assert re.fullmatch(r"  All arguments: deepseek-ocr-mcp( \S+)? --help\n", more)


def test_a_file_that_begins_like_a_flag_is_told_from_a_flag(page: Path) -> None:
    page.rename(page.parent / "-page.png")
    refused = run("ocr", "-page.png", cwd=page.parent)
    assert refused.returncode == 2
    assert "-page.png begins like a flag: write ./-page.png" in refused.stderr
    assert echo() in run("ocr", "./-page.png", cwd=page.parent).stdout


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("ocr", "page.png", "-o", "."), "--output . is a folder."),
        (("ocr", "no/**/*.pdf"), "There is no folder {folder}/no."),
        (("batch", ".", "--out", "page.png"), "page.png is a file, not a folder."),
        (("batch", ".", "--out", "page.png/texts"), "page.png is a file, not a folder."),
        (("batch", ".", "--out", "texts", "--metrics-port", "0"), "--metrics-port 0 is no port."),
    ],
)
def test_what_cannot_be_meant_is_named_with_the_reason(page: Path, arguments: tuple[str, ...], fault: str) -> None:
    refused = run(*arguments, cwd=page.parent)
    assert refused.returncode in (2, 3)
    assert fault.format(folder=page.parent) in refused.stderr
    assert not (page.parent / "texts").exists()


def test_output_names_the_file_and_the_format_and_dashes_are_standard_input_and_output(
    page: Path, tmp_path: Path
) -> None:
    assert run("ocr", "page.png", "-o", "deep.json", cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "deep.json").read_text())["pages"][0]["blocks"]
    with page.open("rb") as data:
        done = run_program(
            ["ocr", "-", "-o", "-"],
            env={**os.environ, "OCR_ENGINE": "faults:Echo"},
            stdin=data,
            text=True,
            timeout=2 * BOUND_S,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, echo() + "\n", "")


def test_an_interrupted_reading_leaves_the_pages_that_were_read_and_says_how_to_go_on(
    tmp_path: Path, signs: Signs
) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(11, 12, 13, 14))
    process = start_program(
        ["ocr", "a.tif"],
        env={**os.environ, "OCR_ENGINE": "faults:Stalling"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert signs.next() == "reading"
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=BOUND_S)
    finally:
        process.kill()
        process.wait()
    assert [line.split()[0] for line in printed if line.strip()] == ["40x11", "40x12"]
    assert (process.returncode, rest.strip()) == (130, "")
    assert "stopped after page 2" in errors
    assert "--pages 3-" in errors


def test_a_format_that_is_no_text_goes_to_standard_output_too(page: Path, tmp_path: Path) -> None:
    allowed = {"OCR_ENGINE": "faults:Echo", "OCR_ALLOWED_DIRS": str(tmp_path)}
    for kind, begins in (("pdf", b"%PDF-"), ("docx", b"PK")):
        done = run_program(
            ["ocr", str(page), "--format", kind],
            env={**os.environ, **allowed},
            timeout=2 * BOUND_S,
        )
        assert (done.returncode, done.stdout[: len(begins)], done.stderr) == (0, begins, b"")


def test_text_is_utf_8_whatever_the_system_writes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xe6\x96\x87.png")
    (tmp_path / name).write_bytes(b"no picture")
    done = run_program(
        ["ocr", name],
        env={**os.environ, "OCR_ENGINE": "faults:Echo", "PYTHONIOENCODING": "ascii"},
        cwd=tmp_path,
        timeout=2 * BOUND_S,
    )
    assert done.returncode == 3
    assert "文.png" in done.stderr.decode()


def test_an_error_in_the_middle_leaves_the_pages_before_and_is_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(11, 12, 13, 14))
    done = run("ocr", "a.tif", engine="faults:RunningOut", cwd=tmp_path)
    assert [line.split()[0] for line in done.stdout.split("\n\n")] == ["40x11", "40x12"]
    assert done.returncode == 4
    assert "The engine has run out. Fill it." in done.stderr
    assert "run the command again with --pages 3-4" in done.stderr


def test_an_interrupt_ends_the_wait_for_standard_input(tmp_path: Path) -> None:
    process = start_program(
        ["ocr", "-", "-o", str(tmp_path / "out.md")],
        env={**os.environ, "OCR_ENGINE": "faults:Echo"},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: children(process.pid))
        process.send_signal(signal.SIGINT)
        assert process.wait(BOUND_S) == 130
    finally:
        process.kill()
        process.communicate()


def test_the_exit_code_can_say_that_something_is_missing(page: Path) -> None:
    for flags, code in ((["--find", "nowhere"], 0), (["--find", "nowhere", "--exit-code"], 7)):
        done = run("ocr", str(page), *flags, engine="faults:Blank")
        assert (done.returncode, "not found" in done.stderr) == (code, True)
    quiet = run("ocr", str(page), "--find", "nowhere", "-q", engine="faults:Blank")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_a_folder_or_a_quoted_pattern_is_read_into_files_and_only_once(page: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep.tif").write_bytes(tiff(11, 12))
    (tmp_path / "bad.png").write_text("no picture")
    for read, there in ((2, 0), (0, 2)):
        done = run("ocr", "**/*", "--output-dir", "out", "--format", "text", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (3, "")
        assert f"{read} of 3 files were read" in done.stderr
        assert ("2 were there already" in done.stderr) == (there == 2)
        assert "bad.png" in done.stderr
    assert echo() in (tmp_path / "out" / "page.png.txt").read_text()
    assert (tmp_path / "out" / "sub" / "deep.tif.txt").is_file()
    assert "2 of 3 files" in (tmp_path / "out" / "index.md").read_text()


def test_a_folder_is_printed_file_by_file_in_order(page: Path, tmp_path: Path) -> None:
    (tmp_path / "page 10.png").write_bytes(png(42))
    (tmp_path / "page 2.png").write_bytes(png(41))
    done = run("ocr", str(tmp_path))
    assert done.stdout == "".join(f"{echo(width)}\n" for width in (41, 42, 40))
    (tmp_path / "notes.txt").touch()
    done = run("ocr", str(tmp_path), "-q")
    assert (done.returncode, done.stdout.count(echo())) == (3, 1)
    assert "1 name was left out: notes.txt" in done.stderr
    empty = run("ocr", str(tmp_path / "*.webp"))
    assert empty.returncode == 3
    assert "names no file" in empty.stderr


def test_pages_choose(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(11, 12, 13))
    done = run("ocr", "a.tif", "--pages", "2-", cwd=tmp_path)
    assert [line.split()[0] for line in done.stdout.split("\n\n")] == ["40x12", "40x13"]


def test_a_blank_page_prints_nothing_and_says_so(page: Path) -> None:
    done = run("ocr", str(page), engine="faults:Blank")
    assert (done.returncode, done.stdout) == (0, "")
    assert "blank" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "engine", "code"),
    [
        (["ocr", "page.png", "--pages", "9"], "faults:Echo", 2),
        (["ocr", "page.png", "--mode", "figure"], "rapidocr", 2),
        (["ocr", "page.png"], "no such engine", 2),
        (["ocr", "missing.png"], "faults:Echo", 3),
        (["ocr", "page.png"], "faults:Unloadable", 4),
        (["ocr", "page.png"], "faults:Dying", 4),
        (["ocr"], "faults:Echo", 2),
        (["nonsense"], "faults:Echo", 2),
    ],
)
def test_exit_codes_tell_the_class_of_the_error(page: Path, arguments: list[str], engine: str, code: int) -> None:
    done = run(*arguments, engine=engine, cwd=page.parent)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_a_hung_page_exits_with_its_own_code(page: Path) -> None:
    assert run("ocr", str(page), engine="faults:Hanging", OCR_PAGE_TIMEOUT="0.3").returncode == 6


def test_a_reader_that_goes_away_is_no_error(page: Path) -> None:
    process = start_program(
        ["ocr", str(page), str(page)],
        env={**os.environ, "OCR_ENGINE": "faults:Verbose"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=BOUND_S)
    assert "Traceback" not in errors


@pytest.mark.parametrize("engine", ["Patient", "Hanging"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_reading_and_leaves_nothing(
    page: Path, tmp_path: Path, engine: str, how: signal.Signals, signs: Signs
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = start_program(
        ["ocr", str(page)],
        env={**os.environ, "OCR_ENGINE": f"faults:{engine}", "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert signs.next() == "reading"
        workers = children(process.pid)
        assert len(workers) == 2  # the engine and the decoder
        process.send_signal(how)
        assert process.wait(BOUND_S) == 130
        assert not any(alive(worker) for worker in workers)
        assert list(scratch.iterdir()) == []
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def test_progress_is_drawn_on_a_terminal_only(page: Path) -> None:
    terminal, side = pty.openpty()
    try:
        done = run_program(
            ["ocr", str(page)],
            env={**os.environ, "OCR_ENGINE": "faults:Echo"},
            stdout=subprocess.DEVNULL,
            stderr=side,
            timeout=BOUND_S,
        )
    finally:
        os.close(side)
    drawn = os.read(terminal, 65536).decode()
    os.close(terminal)
    assert done.returncode == 0
    assert "page 1 of 1" in drawn
    assert drawn.endswith("\r\x1b[K")


def test_a_locked_pdf_is_read_with_a_password_that_is_no_argument(tmp_path: Path) -> None:
    (tmp_path / "locked.pdf").write_bytes(locked_pdf(born_digital("Secret Title"), user="open sesame"))
    refused = run("ocr", "locked.pdf", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "locked.pdf is locked with a password" in refused.stderr
    assert "--password - reads it from standard input" in refused.stderr
    by_setting = run("ocr", "locked.pdf", cwd=tmp_path, OCR_PDF_PASSWORD="open sesame")
    assert "Secret Title" in by_setting.stdout
    wrong = run("ocr", "locked.pdf", "--password", "open barley", cwd=tmp_path)
    assert (wrong.returncode, "barley" in wrong.stderr) == (3, False)
    line = subprocess.run(
        [*COMMAND, "ocr", "locked.pdf", "--password", "-"],
        env={**os.environ, "OCR_ENGINE": "faults:Echo"},
        input="open sesame\n",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=2 * BOUND_S,
    )
    assert "Secret Title" in line.stdout


def test_the_password_is_asked_for_at_a_terminal_until_it_opens_the_document_and_is_not_shown(tmp_path: Path) -> None:
    for name in ("a.pdf", "b.pdf"):
        (tmp_path / name).write_bytes(locked_pdf(born_digital("Secret Title"), user="open sesame"))
    terminal, side = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "ocr", "a.pdf", "b.pdf"],
        env={**os.environ, "OCR_ENGINE": "faults:Echo"},
        cwd=tmp_path,
        stdin=side,
        stdout=subprocess.PIPE,
        stderr=side,
    )
    watchdog = threading.Timer(2 * BOUND_S, process.kill)
    watchdog.start()
    try:
        shown = b""
        for question, word in ((b"Password of ", b"open barley\n"), (b"not the password", b"open sesame\n")):
            while question not in shown or not shown.endswith(b"(empty: leave it out): "):
                shown += os.read(terminal, 4096)
            os.write(terminal, word)
        printed = process.communicate()[0]
        assert printed.count(b"Secret Title") == 2, "what was typed opens the next document, too"
        os.close(side)
        side = -1
        with contextlib.suppress(OSError):  # the end of a terminal
            while piece := os.read(terminal, 4096):
                shown += piece
        assert b"sesame" not in shown
        assert b"barley" not in shown
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        if side >= 0:
            os.close(side)
        os.close(terminal)


def test_a_person_who_starts_the_server_in_a_terminal_learns_what_it_is() -> None:
    terminal, side = pty.openpty()
    process = subprocess.Popen([*COMMAND], stdin=side, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "This is an MCP server" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=BOUND_S)[0] == ""
    finally:
        process.kill()
        process.communicate()
        os.close(side)
        os.close(terminal)


def test_a_folder_that_is_served_and_missing_is_told(tmp_path: Path) -> None:
    serve = ["serve", str(tmp_path / "http")]
    done = run_program(serve, env=os.environ, timeout=2 * BOUND_S, stdin=subprocess.DEVNULL, text=True)
    assert f"An allowed folder is missing. folder={tmp_path / 'http'}" in done.stderr


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("127.0.0.1:9", "http://127.0.0.1:9/mcp"),
        ("https://ocr.example.org", "https://ocr.example.org/mcp"),
        ("https://ocr.example.org/a/mcp", "https://ocr.example.org/a/mcp"),
    ],
)
def test_the_address_of_a_server_may_be_short(given: str, meant: str) -> None:
    assert server_url(build_parser().parse_args(["status", "--url", given])) == meant


# -- help, status, doctor, client-config


@pytest.mark.parametrize("arguments", [["--help"], ["ocr", "--help"], ["serve", "--help"], ["doctor", "--help"]])
def test_help_teaches(arguments: list[str]) -> None:
    shown = run(*arguments)
    assert shown.returncode == 0
    assert len(shown.stdout) > 300


def test_doctor_says_ok_to_a_sound_machine() -> None:
    done = run("doctor", engine="rapidocr")
    assert re.search(r"ok +decoder +confined by ", done.stdout), done.stdout
    assert done.returncode == 0, done.stdout
    assert "read '12345'" in done.stdout
    assert "FIX" not in done.stdout


def test_doctor_says_what_to_do_about_a_broken_engine_and_a_missing_folder(tmp_path: Path) -> None:
    done = run("doctor", engine="faults:Unloadable", OCR_ALLOWED_DIRS=str(tmp_path / "missing"))
    assert done.returncode == 4
    assert "The weights are not here." in done.stdout
    assert "Fetch them." in done.stdout
    assert "OCR_ALLOWED_DIRS" in done.stdout


def test_status_without_a_server_tells_what_one_would_find() -> None:
    done = run("status", "--json", "--engine", "rapidocr")
    assert json.loads(done.stdout)["state"] == "unloaded"


def test_status_shows_each_of_several_workers() -> None:
    with http_server(OCR_CPU_WORKERS="2") as server:
        status = run("status", "--url", server.url).stdout.splitlines()
    assert [line.split()[:2] for line in status if line.startswith("worker ")] == [["worker", "0"], ["worker", "1"]]
    assert sum("cpu, unloaded, 0 pages read, 0 to read" in line for line in status) == 2


def test_status_offload_and_release_speak_to_a_running_server() -> None:
    with http_server(OCR_AUTH_TOKEN="correct-horse-battery") as server:
        status = run("status", "--url", server.url, "--token", "correct-horse-battery")
        assert "faults" in status.stdout
        assert "runs on the CPU" in run("offload", "--url", server.url, OCR_AUTH_TOKEN="correct-horse-battery").stdout
        released = run("release", "--force", "--url", server.url, "--token", "correct-horse-battery")
        assert "Nothing was loaded" in released.stdout
        for token, words in (((), "requests without a token"), (("--token", "wrong"), "this token")):
            refused = run("release", "--url", server.url, *token)
            assert refused.returncode == 3
            assert words in refused.stderr
            assert "--token" in refused.stderr
            assert "Traceback" not in refused.stderr


def test_status_tells_a_silent_address_from_another_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    silent = run("status", "--url", f"http://127.0.0.1:{port}/mcp")
    assert (silent.returncode, "No server listens at" in silent.stderr) == (4, True)
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        found = run("status", "--url", f"http://127.0.0.1:{other.server_port}/mcp")
        other.shutdown()
    assert (found.returncode, "Another program answers" in found.stderr) == (4, True)


def test_status_asks_the_port_of_the_settings() -> None:
    with http_server() as server:
        port = server.url.split(":")[2].split("/")[0]
        assert "faults" in run("status", PORT=port).stdout


def test_the_printed_command_starts_a_server() -> None:
    entry = json.loads(run("client-config", "claude-desktop").stdout)["mcpServers"]["deepseek-ocr"]
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    done = subprocess.run(
        [entry["command"], *entry["args"]],
        input=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}) + "\n",
        env={"PATH": "/usr/bin:/bin"},  # what a desktop client gives it
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )
    assert json.loads(done.stdout.splitlines()[0])["result"]["serverInfo"]["name"] == "deepseek-ocr"


def test_the_example_config_is_what_the_readme_shows() -> None:
    root = Path(__file__).parents[2]
    example = (root / "examples" / "claude_desktop_config.json").read_text()
    assert list(json.loads(example)["mcpServers"]) == ["deepseek-ocr"]
    assert example.strip() in (root / "README.md").read_text()


# -- endpoints


def test_status_and_doctor_show_endpoints_and_what_is_wrong_with_them() -> None:
    with fake_vllm(key="sesame-street") as vllm:
        remote = {"OCR_REMOTE_URL": vllm.url, "OCR_REMOTE_KEY": "sesame-street"}
        done = run("status", engine="openai", **remote)
        assert f"{vllm.url}, ready, deepseek-ai/DeepSeek-OCR, 0 pages under way" in done.stdout
        vllm.script = ["text:12345"]
        done = run("doctor", engine="openai", **remote)
        assert done.returncode == 0, done.stdout + done.stderr
        # Once its page is read, the endpoint is put to sleep; a slow machine looks later.
        assert f"{vllm.url}, ready" in done.stdout or f"{vllm.url}, asleep" in done.stdout
        done = run("doctor", engine="openai", OCR_REMOTE_URL=vllm.url, OCR_REMOTE_KEY="a-wrong-key")
        assert done.returncode == 4
        assert "does not take the key" in done.stdout
        assert "OCR_REMOTE_KEY" in done.stdout
        assert "a-wrong-key" not in done.stdout + done.stderr
        assert "sesame" not in done.stdout + done.stderr


def test_a_page_is_read_by_an_endpoint_and_printed(page: Path) -> None:
    with fake_vllm() as vllm:
        done = run("ocr", str(page), "--mode", "free", engine="openai", OCR_REMOTE_URL=vllm.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, echo() + "\n", "")


def test_an_engine_without_its_endpoint_is_refused_with_the_setting() -> None:
    for arguments in (["doctor"], ["ocr", "page.png"], ["status"]):
        done = run(*arguments, engine="openai")
        assert done.returncode == 2
        assert "OCR_REMOTE_URL" in done.stderr
        assert "Traceback" not in done.stderr


# -- how the tests start it


def test_a_forked_program_does_what_a_started_one_does(page: Path) -> None:
    env = {**os.environ, "OCR_ENGINE": "faults:Echo"}
    for arguments in (["ocr", page.name], ["ocr", "missing.png"], ["nonsense"]):
        with start_unforked(arguments, env=env, cwd=page.parent, text=True, **OUTPUT) as started:
            stdout, stderr = started.communicate(timeout=2 * BOUND_S)
        forked = run_program(arguments, env=env, cwd=page.parent, text=True, timeout=2 * BOUND_S)
        assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, stdout, stderr)

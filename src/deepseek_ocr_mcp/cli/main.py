"""The command line. Alone it serves MCP over stdio; its subcommands do the rest.

Text goes to stdout and everything else to stderr, so that `deepseek-ocr-mcp ocr page.png > page.md`
writes the text of the page and nothing else. Exit codes: 0 done, 1 a failed write, 2 wrong usage, 3 the input, 4 the
engine, 5 busy, 6 timed out or cancelled, 7 incomplete (with `--exit-code`), 130 interrupted; of several files, the
worst.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

# The other imports take 0.2 s and stand in functions: Ctrl-C may come meanwhile, and must not end in a traceback.
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program and exit with its status."""
    try:
        _fill_closed_streams()
        _write_any_character()
        code = _run(argv)
    except BaseException as exc:
        code = _failed(exc)
    import gc

    gc.freeze()  # else the end of the interpreter searches all that was imported for garbage: 60 ms
    sys.exit(code)


def _failed(exc: BaseException) -> int:
    """Print what went wrong. Returns the exit code; raises `exc` where nobody foresaw it."""
    from ..errors import OcrError, WriteFailed, cause_of
    from .shared import INTERRUPTED, print_error

    match cause_of(exc):
        case KeyboardInterrupt():
            return INTERRUPTED
        case OcrError() as error:
            print_error(error)
            return error.exit_code
        case BrokenPipeError():  # the reader of our stdout went away: `… | head`
            _silence_stdout()
            return 0
        case OSError(filename=None) as error:  # of a stream: the disk is full, or standard output is closed
            message = f"Writing failed: {error.strerror or error}."
            print_error(WriteFailed(message, remedy="Send the text somewhere else."))
            _silence_stdout()
            return WriteFailed.exit_code
        case _:
            raise exc


def _run(argv: Sequence[str] | None) -> int:
    from .commands import run_serve
    from .parser import build_parser

    arguments = build_parser().parse_args(argv)
    return int(getattr(arguments, "run", run_serve)(arguments))


def _silence_stdout() -> None:
    """Lead standard output to nowhere: else the interpreter tries to write the rest once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fill_closed_streams() -> None:
    """Occupy the descriptors 0 to 2 where the caller has closed them: else a file or a pipe of ours would get them.

    Writing to standard output then fails as on a closed descriptor; messages to standard error vanish.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # it takes the lowest descriptor that is free: this one
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = sys.stdout or io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)))
    sys.stderr = sys.stderr or io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, "w", closefd=False)))


def _write_any_character() -> None:
    """Files and pipes get UTF-8, on Windows too; a terminal gets a sign for a character that it cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8", errors="replace")

"""The arguments of every command. A flag must be written in full: a short form would change its meaning one day."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from .. import __version__, logs
from ..engines import KNOWN, PREFERRED
from ..modes import DEFAULT_MODE, DEFAULT_RESOLUTION, DEFAULT_TEXT_LAYER, MODES, RESOLUTIONS, TEXT_LAYERS
from ..text import nearest
from .clients import CLIENTS, run_client_config
from .commands import run_batch_command, run_download, run_serve
from .completion import SHELLS, run_completion
from .doctor import run_doctor
from .output import FORMATS, format_named
from .read import INCOMPLETE, run_ocr
from .server import run_offload, run_release, run_status
from .words import for_terminal

__all__ = ["build_parser"]

_CHOICE: Final = re.compile(r"(?P<fault>.*invalid choice: '(?P<word>.*)') \(choose from (?P<known>.*)\)", re.DOTALL)
_WORD: Final = re.compile(r"[\w-]+")
PREFERRED_WEIGHTS: Final = KNOWN[PREFERRED].weights

EPILOG: Final = """\
examples:
  deepseek-ocr-mcp ocr receipt.png                 print the text of a page
  deepseek-ocr-mcp ocr scan.pdf --pages 1-3 -o scan.md
  deepseek-ocr-mcp ocr *.jpg --output-dir texts    one Markdown file for each
  deepseek-ocr-mcp ocr 'scans/**' --output-dir texts   all below a folder; again, to read what is new
  deepseek-ocr-mcp batch scans --out texts         any number of files, on all GPUs or cores
  deepseek-ocr-mcp client-config claude-desktop    what to paste into a client
  deepseek-ocr-mcp serve --transport http          serve http://127.0.0.1:8001/mcp
  deepseek-ocr-mcp doctor                          is everything in place?

Settings are environment variables; docs/configuration.md lists them."""

OCR_EPILOG: Final = f"""\
A FILE may also be a folder or a quoted pattern ('scans/**/*.pdf'), a file:// or data: URI, - for standard input, or
an https:// address where OCR_ALLOW_URLS is on. With --output-dir, a file of a folder or a pattern is read only where
its text is not there yet, and DIR/index.md lists all files with their outcome.

Pages are printed as they are read. Ctrl-C keeps what was printed, and says how to read the rest.

examples:
  deepseek-ocr-mcp ocr scan.pdf                    print Markdown
  deepseek-ocr-mcp ocr scan.pdf -o scan.txt        write plain text
  deepseek-ocr-mcp ocr - --format json < scan.pdf  read standard input
  deepseek-ocr-mcp ocr scan.pdf --find IBAN --format json
  deepseek-ocr-mcp ocr --watch inbox --output-dir texts
  deepseek-ocr-mcp ocr locked.pdf                  asks for the password

exit codes: 0 done, 2 wrong usage, 3 the input, 4 the engine, 5 busy, 6 timed out, 130 interrupted;
with --exit-code, {INCOMPLETE}: read, and a note says what is missing"""

BATCH_EPILOG: Final = """\
DIR gets the Markdown of each document (a/scan.pdf becomes DIR/a/scan.pdf.md) and DIR/manifest.parquet with one row
for each: source, output, sha256, pages, characters, seconds, finish, notes, error, engine, model and more. With
--format dolma or parquet, DIR/documents gets shards of many documents instead. @LIST is a file that names a document
in each line (@- reads standard input).

Stop it at any moment, even with kill -9, and run the same command again: what was read is not read again. A file
that cannot be read is named on stderr and in the manifest, and stops nothing. A name that is no document, or a folder
that cannot be listed, is named too. Run it again later: only files that are new or were changed are read. The exit
code is 0 if all is well, else that of the worst file, as with `ocr`.

examples:
  deepseek-ocr-mcp batch scans --out texts
  deepseek-ocr-mcp batch 'scans/**/*.pdf' --out texts --pages 1-3 --workers 4
  deepseek-ocr-mcp batch @names.txt --out shards --format dolma --price-per-hour 2.50
  deepseek-ocr-mcp batch s3://bucket/scans --out s3://bucket/texts --ray auto    (pip install s3fs, on every machine)

docs/scaling.md tells how long a folder will take, and how a cluster is set up."""


class _Parser(argparse.ArgumentParser):
    """A parser that names the word which a misspelt one is most like."""

    _words: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        """Print one line, and end the program. The whole usage would push that line out of sight."""
        if (choice := _CHOICE.match(message)) and (near := nearest(choice["word"], _WORD.findall(choice["known"]))):
            message = f"{choice['fault']}: did you mean {near}?"
        if file := next((word for word in self._words if word.startswith("-") and os.path.isfile(word)), ""):
            message = f"{file} begins like a flag: write ./{file}"
        self.exit(2, f"{self.prog}: {message}\n  All arguments: {self.prog} --help\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse words as `argparse` does, and keep them for an error."""
        self._words = sys.argv[1:] if args is None else args
        parsed: tuple[Any, list[str]] = super().parse_known_args(args, namespace)
        return parsed

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """Parse the words of a command line. The command itself refuses the words that it does not know."""
        arguments: argparse.Namespace
        arguments, unknown = self.parse_known_args(args, namespace)
        if unknown:
            getattr(arguments, "command", self)._refuse(unknown)
        return arguments

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        flags = {flag.lstrip("-").replace("-", "_"): flag for flag in self._option_string_actions}
        near = flags.get(nearest(unknown[0].partition("=")[0].lstrip("-"), flags))
        self.error(f"unknown: {' '.join(unknown)}" + (f": did you mean {near}?" if near else ""))


class _Commands:
    """The parser of the program, and its commands."""

    def __init__(self) -> None:
        self.parser = _Parser(
            prog="deepseek-ocr-mcp",
            description="An MCP server that reads text from images and PDFs. Without a command it serves MCP on "
            "stdin and stdout, as desktop agents expect.",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.parser.add_argument("--version", action="version", version=f"deepseek-ocr-mcp {__version__}")
        self._commands = self.parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(
        self, name: str, help: str, run: Any, *, settings: bool = True, epilog: str | None = None
    ) -> argparse.ArgumentParser:
        """Add a command.

        Args:
            name: its name.
            help: a sentence.
            run: a function of the arguments that returns the exit code.
            settings: whether the command takes flags for settings.
            epilog: stands under its help.
        """
        command: _Parser = self._commands.add_parser(
            name,
            help=help,
            description=help,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(run=run, command=command)
        if settings:
            _add_settings(command)
        return command


def build_parser() -> _Parser:
    """The parser of the whole program. The parsed arguments have `run`, a function that takes them."""
    commands = _Commands()
    _add_serve(commands)
    _add_ocr(commands)
    _add_batch(commands)
    _add_server_commands(commands)
    _add_download(commands)
    doctor = commands.add("doctor", "Check Python, engine, GPU and folders; say how to mend each.", run_doctor)
    doctor.add_argument(
        "--gpu",
        action="store_true",
        help="check a new GPU instead: every state of a real model, and a clone's measurements (up to 75 minutes)",
    )
    _add_helpers(commands)
    return commands.parser


def _add_settings(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("settings")
    group.add_argument("--env-file", metavar="FILE", help="read settings from this .env file")
    group.add_argument(
        "--engine",
        dest="ocr_engine",
        metavar="NAME",
        help=f"OCR_ENGINE: auto (default), {', '.join(KNOWN)}, or module:Class of your own",
    )
    group.add_argument(
        "--allow-dir",
        dest="ocr_allowed_dirs",
        metavar="DIR",
        action="append",
        help="OCR_ALLOWED_DIRS; may be repeated",
    )
    group.add_argument("--log-level", dest="ocr_log_level", choices=list(logs.LEVELS), help="OCR_LOG_LEVEL")
    group.add_argument("--log-format", dest="ocr_log_format", choices=["text", "json"], help="OCR_LOG_FORMAT")


def _add_reading(command: argparse.ArgumentParser) -> None:
    """Add the arguments that say which pages are read, and how."""
    command.add_argument(
        "--mode",
        choices=list(MODES),
        default=DEFAULT_MODE,
        help=for_terminal("; ".join(f"{mode.name}: {mode.purpose}" for mode in MODES.values()))
        + f" (default {DEFAULT_MODE})",
        metavar="MODE",
    )
    command.add_argument(
        "--find",
        dest="find_term",
        action="append",
        metavar="WORDS",
        help="print the lines that hold WORDS (mode find); given several times, any of them",
    )
    how = command.add_mutually_exclusive_group()
    how.add_argument("--whole-word", action="store_true", help="WORDS of --find are no part of a longer word")
    how.add_argument("--regex", action="store_true", help="WORDS of --find are a regular expression")
    command.add_argument(
        "--prompt", dest="custom_prompt", default="", metavar="TEXT", help="the question of mode freeform"
    )
    command.add_argument("--pages", default="", metavar="RANGE", help='like "1-3,7" or "last"')
    command.add_argument("--resolution", choices=list(RESOLUTIONS), default=DEFAULT_RESOLUTION)
    command.add_argument(
        "--text-layer",
        choices=list(TEXT_LAYERS),
        default=DEFAULT_TEXT_LAYER,
        help="; ".join(f"{name}: {use}" for name, use in TEXT_LAYERS.items()) + f" (default {DEFAULT_TEXT_LAYER})",
    )


def _add_serve(commands: _Commands) -> None:
    serve = commands.add("serve", "Serve MCP over stdio (default) or streamable HTTP.", run_serve)
    serve.add_argument("folders", nargs="*", metavar="DIR", help="the same as --allow-dir DIR")
    serve.add_argument("--transport", choices=["stdio", "http"], default="stdio")
    serve.add_argument("--host", help="HOST: address to bind (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="PORT: port to bind (default 8001; 0: any free one)")


def _add_ocr(commands: _Commands) -> None:
    ocr = commands.add("ocr", "Print the text of images and PDFs.", run_ocr, epilog=OCR_EPILOG)
    ocr.add_argument("files", nargs="+", metavar="FILE", help="pictures, PDFs, folders, quoted patterns, or -")
    _add_reading(ocr)
    ocr.add_argument(
        "--format",
        type=format_named,
        choices=list(FORMATS),
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)}; json has boxes, pdf is searchable; default: by the name of --output, or markdown",
    )
    ocr.add_argument(
        "--boxes", choices=["none", "lines", "words"], help="what json shows with its place (default lines)"
    )
    ocr.add_argument(
        "-o", "--output", default="", metavar="FILE", help="write the text of one document here; - for standard output"
    )
    ocr.add_argument("--output-dir", metavar="DIR", help="write one file per FILE here")
    ocr.add_argument("--overwrite", action="store_true", help="replace files that are there")
    ocr.add_argument(
        "--password",
        dest="ocr_pdf_password",
        metavar="WORD",
        help="of locked PDFs; - takes the first line of standard input. Others on this machine can see WORD: set "
        "OCR_PDF_PASSWORD instead, or leave it out: at a terminal it is asked for",
    )
    ocr.add_argument("--upright", action="store_true", help="turn pages upright that lie on their side, in a PDF")
    ocr.add_argument("--watch", action="store_true", help="read what is in the folders FILE, and what appears in them")
    ocr.add_argument("-q", "--quiet", action="store_true", help="print neither progress nor notes, only errors")
    ocr.add_argument(
        "--exit-code",
        action="store_true",
        help=f"end with {INCOMPLETE} where a note says that something is missing from the text",
    )


def _add_batch(commands: _Commands) -> None:
    batch = commands.add(
        "batch",
        "Read a folder of any size on all GPUs or cores, of this machine or of a Ray cluster. Needs the [ray] extra.",
        run_batch_command,
        epilog=BATCH_EPILOG,
    )
    batch.add_argument(
        "source",
        metavar="SRC",
        help="a folder with all below it, a file, a tar or WARC file, a quoted pattern, a URL, or @LIST",
    )
    batch.add_argument("--out", required=True, metavar="DIR", help="a folder or a URL; one for each SRC")
    batch.add_argument("--ray", default="", metavar="ADDRESS", help="join this Ray cluster: HOST:6379, or auto")
    batch.add_argument("--workers", type=int, default=0, metavar="N", help="default: one for each GPU, or each core")
    _add_reading(batch)
    batch.add_argument("--again", action="store_true", help="read files again that were read before")
    batch.add_argument("--retry-failed", action="store_true", help="try files once more that failed by their own fault")
    batch.add_argument(
        "--progress", choices=("text", "json"), default="text", help="json: progress and summary on stderr for programs"
    )
    batch.add_argument(
        "--format", choices=("files", "dolma", "parquet"), default="files",
        help="Markdown files (default), Dolma's JSON lines, or Parquet with a row for each page and its words",
    )  # fmt: skip
    batch.add_argument(
        "--max-page-error-rate", type=float, default=1.0, metavar="SHARE",
        help="a document with a larger share of pages that cannot be read fails (0 to 1; default 1)",
    )  # fmt: skip
    batch.add_argument(
        "--price-per-hour", type=float, default=0.0, metavar="PRICE", help="of a worker: the summary says the cost"
    )
    batch.add_argument("--metrics-port", type=int, metavar="PORT", help="serve Prometheus on this port of 127.0.0.1")
    batch.add_argument("--keep-older", action="store_true", help="keep texts that an older version has read")


def _add_server_commands(commands: _Commands) -> None:
    status = commands.add("status", "Show a running HTTP server's model and GPUs; without one, this machine's.",
                          run_status)  # fmt: skip
    status.add_argument("--json", action="store_true", help="print JSON")
    offload = commands.add("offload", "Move a running HTTP server's model off its GPU.", run_offload, settings=False)
    release = commands.add("release", "Have a running HTTP server give all memory back.", run_release, settings=False)
    release.add_argument("--force", action="store_true", help="stop the page that is being read")
    for command in (status, offload, release):
        command.add_argument(
            "--url",
            default="",
            help="address of the running server (default: that of HOST and PORT, http://127.0.0.1:8001/mcp)",
        )
        command.add_argument("--token", help="its bearer token (default: OCR_AUTH_TOKEN)")


def _add_download(commands: _Commands) -> None:
    download = commands.add(
        "download",
        "Fetch the weights of a GPU's model (DeepSeek-OCR-2: 6.8 GB), or the missing part of them.",
        run_download,
        settings=False,
        epilog="HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE and the usual proxy variables are honoured.",
    )
    download.add_argument(
        "model", nargs="?", help=f"a hub id (default: OCR_MODEL, or else {PREFERRED_WEIGHTS})", metavar="MODEL"
    )
    download.add_argument("--to", metavar="DIR", help="put the files here instead of the hub's cache")


def _add_helpers(commands: _Commands) -> None:
    config = commands.add(
        "client-config", "Print the configuration to paste into a client.", run_client_config, settings=False
    )
    config.add_argument("client", choices=list(CLIENTS))
    config.add_argument(
        "--url", metavar="URL", help="for a server that runs elsewhere, like https://ocr.example.org/mcp; its token is "
        "never printed: the client asks for it, or takes it from OCR_AUTH_TOKEN",
    )  # fmt: skip
    completion = commands.add(
        "completion", "Print a script with which a shell completes commands and flags.", run_completion, settings=False
    )
    completion.add_argument("shell", choices=list(SHELLS))

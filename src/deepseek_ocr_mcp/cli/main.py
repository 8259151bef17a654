"""The command line. Alone it serves MCP over stdio; its subcommands do the rest.

Text goes to stdout and everything else to stderr, so that `deepseek-ocr-mcp ocr page.png > page.md`
writes the text of the page and nothing else. Exit codes: 0 done, 2 wrong usage, 3 the input, 4 the engine, 5 busy,
6 timed out or cancelled, 130 interrupted; of several files, the worst.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from .. import __version__, logs
from ..engines import KNOWN, PREFERRED
from ..errors import BadRequest, OcrError, cause_of
from ..modes import DEFAULT_MODE, DEFAULT_RESOLUTION, DEFAULT_TEXT_LAYER, MODES, RESOLUTIONS, TEXT_LAYERS
from .clients import CLIENTS, run_client_config
from .doctor import run_doctor
from .read import SUFFIXES, run_ocr
from .server import run_offload, run_release, run_status
from .shared import INTERRUPTED, ProgressBar, print_error, reading_fields, settings_from

__all__ = ["main"]

PREFERRED_WEIGHTS: Final = KNOWN[PREFERRED].weights

BATCH_EPILOG: Final = """\
DIR gets the Markdown of each document (a/scan.pdf becomes DIR/a/scan.pdf.md) and DIR/manifest.parquet with one row
for each: source, output, sha256, pages, characters, seconds, finish, error, engine, model and more.

Stop it at any moment, even with kill -9, and run the same command again: what was read is not read again. A file
that cannot be read is named on stderr and in the manifest, and stops nothing. Run it again later, too: only files
that are new or were changed are read. The exit code is 0 if all is well, else that of the worst file, as with `ocr`.

examples:
  deepseek-ocr-mcp batch scans --out texts
  deepseek-ocr-mcp batch 'scans/**/*.pdf' --out texts --pages 1-3 --workers 4
  deepseek-ocr-mcp batch s3://bucket/scans --out s3://bucket/texts --ray auto    (pip install s3fs, on every machine)

docs/scaling.md tells how long a folder will take, and how a cluster is set up."""

EPILOG: Final = """\
examples:
  deepseek-ocr-mcp ocr receipt.png                 print the text of a page
  deepseek-ocr-mcp ocr scan.pdf --pages 1-3 --format json
  deepseek-ocr-mcp ocr *.jpg --output-dir texts    one Markdown file for each
  deepseek-ocr-mcp ocr 'scans/**' --output-dir texts   all below a folder; again, to read what is new
  deepseek-ocr-mcp batch scans --out texts         any number of files, on all GPUs or cores
  deepseek-ocr-mcp client-config claude-desktop    what to paste into a client
  deepseek-ocr-mcp serve --transport http          serve http://127.0.0.1:8001/mcp
  deepseek-ocr-mcp doctor                          is everything in place?

Settings are environment variables; docs/configuration.md lists them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program and exit with its status."""
    arguments = _parser().parse_args(argv)
    run = getattr(arguments, "run", _serve)
    try:
        code = run(arguments)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException as exc:
        match cause_of(exc):
            case OcrError() as error:
                print_error(error)
                code = error.exit_code
            case BrokenPipeError():  # the reader of our stdout went away: `… | head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                code = 0
            case _:
                raise
    gc.freeze()  # else the end of the interpreter searches all that was imported for garbage: 60 ms
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="deepseek-ocr-mcp",
        description="An MCP server that reads text from images and PDFs. Without a command it serves MCP on "
        "stdin and stdout, as desktop agents expect.",
        epilog=EPILOG,
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"deepseek-ocr-mcp {__version__}")
    settings = argparse.ArgumentParser(add_help=False)
    group = settings.add_argument_group("settings")
    group.add_argument("--env-file", metavar="FILE", help="read settings from this .env file")
    group.add_argument("--engine", dest="ocr_engine", metavar="NAME", help="OCR_ENGINE: auto, rapidocr, module:Class")
    group.add_argument(
        "--allow-dir",
        dest="ocr_allowed_dirs",
        metavar="DIR",
        action="append",
        help="OCR_ALLOWED_DIRS; may be repeated",
    )
    group.add_argument("--log-level", dest="ocr_log_level", choices=list(logs.LEVELS), help="OCR_LOG_LEVEL")
    group.add_argument("--log-format", dest="ocr_log_format", choices=["text", "json"], help="OCR_LOG_FORMAT")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, help: str, run: Any, *, parents: Sequence[argparse.ArgumentParser] = (settings,),
                epilog: str | None = None) -> argparse.ArgumentParser:  # fmt: skip
        made = commands.add_parser(
            name, help=help, description=help, epilog=epilog, parents=list(parents), formatter_class=formatter
        )
        made.set_defaults(run=run)
        return made

    serve = command("serve", "Serve MCP over stdio (default) or streamable HTTP.", _serve)
    serve.add_argument("folders", nargs="*", metavar="DIR", help="the same as --allow-dir DIR")
    serve.add_argument("--transport", choices=["stdio", "http"], default="stdio")
    serve.add_argument("--host", help="HOST: address to bind (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="PORT: port to bind (default 8001; 0: any free one)")

    ocr = command(
        "ocr",
        "Print the text of images and PDFs.",
        run_ocr,
        epilog="A FILE may also be a folder or a quoted pattern ('scans/**/*.pdf'), a file:// or data: URI, or an "
        "https:// address where OCR_ALLOW_URLS is on. With --output-dir, a file of a folder or a pattern is read only "
        "where its text is not there yet, and DIR/index.md lists all files with their outcome.",
    )
    ocr.add_argument("files", nargs="+", metavar="FILE")
    _add_reading(ocr)
    ocr.add_argument("--format", choices=list(SUFFIXES), default="markdown", help="json has boxes (default markdown)")
    ocr.add_argument("--output-dir", metavar="DIR", help="write one file per FILE here instead of printing")
    ocr.add_argument("--overwrite", action="store_true", help="replace files in --output-dir")

    batch = command(
        "batch",
        "Read a folder of any size on all GPUs or cores, of this machine or of a Ray cluster. Needs the [ray] extra.",
        _batch,
        epilog=BATCH_EPILOG,
    )
    batch.add_argument("source", metavar="SRC", help="a folder with all below it, a file, a quoted pattern, or a URL")
    batch.add_argument("--out", required=True, metavar="DIR", help="a folder or a URL; one for each SRC")
    batch.add_argument("--ray", default="", metavar="ADDRESS", help="join this Ray cluster: HOST:6379, or auto")
    batch.add_argument("--workers", type=int, default=0, metavar="N", help="default: one for each GPU, or each core")
    _add_reading(batch)
    batch.add_argument("--again", action="store_true", help="read files again that were read before")
    batch.add_argument("--retry-failed", action="store_true", help="try files once more that failed by their own fault")
    batch.add_argument("--keep-older", action="store_true", help="keep texts that an older version has read")

    remote = argparse.ArgumentParser(add_help=False)
    remote.add_argument(
        "--url",
        default="",
        help="address of the running server (default: that of HOST and PORT, http://127.0.0.1:8001/mcp)",
    )
    remote.add_argument("--token", help="its bearer token (default: OCR_AUTH_TOKEN)")
    status = command("status", "Show a running HTTP server's model and GPUs; without one, this machine's.", run_status,
                     parents=(settings, remote))  # fmt: skip
    status.add_argument("--json", action="store_true", help="print JSON")
    command("offload", "Move a running HTTP server's model off its GPU.", run_offload, parents=(remote,))
    release = command("release", "Have a running HTTP server give all memory back.", run_release, parents=(remote,))
    release.add_argument("--force", action="store_true", help="stop the page that is being read")

    download = command(
        "download",
        "Fetch DeepSeek-OCR's weights (6.7 GB), or the missing part of them.",
        _download,
        parents=(),
        epilog="HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE and the usual proxy variables are honoured.",
    )
    download.add_argument(
        "model", nargs="?", default=PREFERRED_WEIGHTS, help="a hub id (default %(default)s)", metavar="MODEL"
    )
    download.add_argument("--to", metavar="DIR", help="put the files here instead of the hub's cache")

    doctor = command("doctor", "Check Python, engine, GPU and folders; say how to mend each.", run_doctor)
    doctor.add_argument(
        "--gpu",
        action="store_true",
        help="also move a real model through every state on a GPU: load, read, offload, restore, release",
    )
    config = command("client-config", "Print the configuration to paste into a client.", run_client_config, parents=())
    config.add_argument("client", choices=CLIENTS)
    config.add_argument(
        "--url", metavar="URL", help="for a server that runs elsewhere, like https://ocr.example.org/mcp; its token is "
        "never printed: the client asks for it, or takes it from OCR_AUTH_TOKEN",
    )  # fmt: skip
    return parser


def _add_reading(command: argparse.ArgumentParser) -> None:
    """Add the arguments that say which pages are read, and how."""
    command.add_argument(
        "--mode",
        choices=list(MODES),
        default=DEFAULT_MODE,
        help="; ".join(f"{mode.name}: {mode.purpose}" for mode in MODES.values()) + f" (default {DEFAULT_MODE})",
        metavar="MODE",
    )
    command.add_argument("--find", dest="find_term", metavar="WORDS", help="locate WORDS: mode find")
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


def _serve(arguments: argparse.Namespace) -> int:
    stdio = getattr(arguments, "transport", "stdio") == "stdio"
    wire = None
    if stdio:
        # Until the protocol owns stdout, the output of imports goes to stderr.
        wire = os.dup(1)
        os.dup2(2, 1)
    import anyio

    from ..app.run import serve_http, serve_stdio

    settings = settings_from(arguments)
    if stdio:
        anyio.run(serve_stdio, settings, wire)

    def announce(url: str) -> None:
        logs.announce(f"Serving MCP at {url}", url=url)

    anyio.run(serve_http, settings, announce)
    return 0


def _batch(arguments: argparse.Namespace) -> int:
    from ..batch.driver import Batch, run_batch
    from ..models import OcrRequest

    settings = settings_from(arguments)
    if arguments.workers < 0:
        raise BadRequest(f"--workers {arguments.workers} is no number of workers.", remedy="Give 1 or more.")
    request = OcrRequest(image="", **reading_fields(arguments))
    names = ("source", "out", "ray", "workers", "again", "retry_failed", "keep_older")
    batch = Batch(request=request, **{name: getattr(arguments, name) for name in names})
    try:
        summary = run_batch(batch, settings)
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to go on.", file=sys.stderr)
        raise
    parts = [f"{summary.documents:,} files: {summary.read:,} read ({summary.pages:,} pages)"]
    parts += [f"{summary.copied:,} with the same content as another"] if summary.copied else []
    parts += [f"{summary.there:,} done before"] if summary.there else []
    parts += [f"{summary.failed:,} failed"] if summary.failed else []
    print(", ".join(parts) + ".", file=sys.stderr)
    print(summary.manifest)
    return summary.exit_code


def _download(arguments: argparse.Namespace) -> int:
    from ..engines import fetch_weights

    bar = ProgressBar(arguments.model)

    def progress(done: int, total: int) -> None:
        bar.draw(done, total, f"{done / 1e9:.2f} of {total / 1e9:.2f} GB")

    try:
        folder = fetch_weights(arguments.model, to=arguments.to, on_progress=progress)
    finally:
        bar.clear()
    print(folder)
    return 0

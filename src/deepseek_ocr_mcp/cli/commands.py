"""The commands that hand over at once: `serve`, `batch` and `download`."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from typing import Final

from .. import logs
from ..errors import BadRequest
from .shared import ProgressBar, reading_fields, settings_from

__all__ = ["run_batch_command", "run_download", "run_serve"]

log = logging.getLogger(__name__)

MAX_PORT: Final = 65_535


FOR_A_PERSON: Final = """\
This is an MCP server: it speaks with a program on standard input and output, and waits for one.
  deepseek-ocr-mcp client-config CLIENT   print the entry with which a client starts it
  deepseek-ocr-mcp ocr FILE               print the text of a file
  deepseek-ocr-mcp --help                 list all commands
Press Ctrl-C to end."""


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve MCP until the client or a signal ends it."""
    stdio = getattr(arguments, "transport", "stdio") == "stdio"
    wire = None
    if stdio and sys.stdin.isatty():
        print(FOR_A_PERSON, file=sys.stderr)
    if stdio:
        # Until the protocol owns stdout, the output of imports goes to stderr.
        wire = os.dup(1)
        os.dup2(2, 1)
    import anyio

    from ..app.run import serve_http, serve_stdio

    settings = settings_from(arguments)
    for folder in settings.ocr_allowed_dirs:
        if not os.path.isdir(folder):
            log.warning("An allowed folder is missing.", extra=logs.fields(folder=str(folder)))
    if stdio:
        anyio.run(serve_stdio, settings, wire)

    def announce(url: str) -> None:
        logs.announce(f"Serving MCP at {url}", url=url)

    anyio.run(serve_http, settings, announce)
    return 0


def run_batch_command(arguments: argparse.Namespace) -> int:
    """Read a folder on a cluster. Returns the exit code of the worst document."""
    from ..batch.driver import Batch, run_batch
    from ..batch.plan import Rules
    from ..models import OcrRequest

    settings = settings_from(arguments)
    if arguments.source in ("", "@") or not arguments.out:
        raise BadRequest("The name of SRC or of --out is empty.", remedy="Name both; . is the folder that you are in.")
    if file := _file_above(arguments.out):
        raise BadRequest(f"--out {arguments.out}: {file} is a file, not a folder.", remedy="Name another folder.")
    if arguments.workers < 0:
        raise BadRequest(f"--workers {arguments.workers} is no number of workers.", remedy="Give 1 or more.")
    if not 0 <= arguments.max_page_error_rate <= 1:
        raise BadRequest(
            f"--max-page-error-rate {arguments.max_page_error_rate:g} is no share.", remedy="Give a number from 0 to 1."
        )
    if not 0 <= arguments.price_per_hour < math.inf:
        raise BadRequest(f"--price-per-hour {arguments.price_per_hour:g} is no price.", remedy="Give 0 or more.")
    if arguments.metrics_port is not None and not 1 <= arguments.metrics_port <= MAX_PORT:
        raise BadRequest(f"--metrics-port {arguments.metrics_port} is no port.", remedy=f"Give 1 to {MAX_PORT}.")
    request = OcrRequest(image="", **reading_fields(arguments))
    rules = Rules(arguments.again, arguments.retry_failed, arguments.keep_older, arguments.max_page_error_rate)
    names = ("source", "out", "ray", "workers", "format", "price_per_hour", "progress")
    given = {name: getattr(arguments, name) for name in names}
    batch = Batch(request=request, rules=rules, metrics_port=arguments.metrics_port or 0, **given)
    try:
        summary = run_batch(batch, settings)
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to go on.", file=sys.stderr)
        raise
    print(summary.dump() if batch.progress == "json" else "\n".join(summary.lines()), file=sys.stderr)
    print(summary.manifest)
    return summary.exit_code


def _file_above(path: str) -> str:
    """The file that stands where a path must have a folder; empty if none does, or if the path is a URL."""
    if "://" in path:
        return ""
    while not os.path.lexists(path) and (above := os.path.dirname(path)):
        path = above
    return path if os.path.lexists(path) and not os.path.isdir(path) else ""


def run_download(arguments: argparse.Namespace) -> int:
    """Fetch the weights of a model and print their folder."""
    from ..engines import fetch_weights, weights_to_fetch

    settings = settings_from(arguments)
    model = arguments.model or weights_to_fetch(settings.ocr_engine, settings.ocr_model)
    bar = ProgressBar(model)

    def progress(done: int, total: int) -> None:
        bar.draw(done, total, f"{done / 1e9:.2f} of {total / 1e9:.2f} GB")

    try:
        folder = fetch_weights(model, to=arguments.to, on_progress=progress)
    finally:
        bar.clear()
    print(folder)
    return 0

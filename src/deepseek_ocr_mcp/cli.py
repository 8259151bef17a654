"""The command line. Alone it serves MCP over stdio; its subcommands do the rest.

Text goes to stdout and everything else to stderr, so that `deepseek-ocr-mcp ocr page.png > page.md`
is what it looks like. Exit codes: 0 done, 2 wrong usage, 3 the input, 4 the engine, 5 busy,
6 timed out or cancelled, 130 interrupted; of several files, the worst.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import __version__, logs
from .engines import KNOWN, PREFERRED, cpu_engine
from .errors import BadRequest, EngineUnavailable, InputNotFound, OcrError, cause_of
from .modes import DEFAULT_MODE, DEFAULT_RESOLUTION, DEFAULT_TEXT_LAYER, MODES, ONLY_LAYER, RESOLUTIONS, TEXT_LAYERS

if TYPE_CHECKING:
    from .config import Settings
    from .documents.listing import Listing
    from .engines import EngineSpec
    from .folders import FolderReader
    from .models import GpuStatus, OcrRequest
    from .service import Answer, OcrService

__all__ = ["main"]

INTERRUPTED: Final = 130  # what shells report for a program that Ctrl-C ended
SUFFIXES: Final = {"markdown": ".md", "text": ".txt", "json": ".json"}
CLIENTS: Final = ("claude-desktop", "claude-code", "cursor", "vscode", "codex")
SERVER_NAME: Final = "deepseek-ocr"
DEFAULT_URL: Final = "http://127.0.0.1:8001/mcp"
CALL_TIMEOUT_S: Final = 60.0
FIRST_ANSWERS_S: Final = 10.0  # from endpoints, to the question what they are
PREFERRED_WEIGHTS: Final = KNOWN[PREFERRED].weights

PROBE_TEXT: Final = "12345"
PROBE_PAGE: Final = (  # a PNG of 150×48 pixels that says so
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAJYAAAAwAQAAAADbP768AAAA/ElEQVR42t2SMU7DQBBF3zou0tklhaX4CNzAS5dj5CZsQUHHFSxO"
    "ARUukEgHN8BGOYCNUqwle4YisbwON8gUq9HTn9X8v2uUyxoj/te1s9FqTOPoMeuJHZGRssQHupajd08tLYUHiIFnTKy3W+rNrHvg"
    "N6qwoDO7AcTCPrhvd+5dwBywcpAuds6AveY0LvAhFieWvJx2AaBLB/g89aoqhXptC++l+FDV4TzrSb56ZJFLBy8t2CxgP0DEyoW6"
    "d8gOF5k+9vC6zkOmJwtjOCt57Lj3dagbLNRAdZiZd1Tx/GCqKkWjsknUS5LMPr7NXZOC6dJFBtXbdGCu+I//AfwlZzkhdVDxAAAA"
    "AElFTkSuQmCC"
)

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
                _fail(error)
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
        _ocr,
        epilog="A FILE may also be a folder or a quoted pattern ('scans/**/*.pdf'), a file:// or data: URI, or an "
        "https:// address where OCR_ALLOW_URLS is on. With --output-dir, what a folder or a pattern names is read only "
        "where its text is not there yet, and DIR/index.md lists what became of each.",
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
    batch.add_argument("--again", action="store_true", help="read what was read before, too")
    batch.add_argument("--retry-failed", action="store_true", help="try once more what failed by its own fault")
    batch.add_argument("--keep-older", action="store_true", help="what an older version has read counts as read")

    remote = argparse.ArgumentParser(add_help=False)
    remote.add_argument(
        "--url",
        default="http://127.0.0.1:8001/mcp",
        help="address of the running server (default %(default)s)",
    )
    remote.add_argument("--token", help="its bearer token (default: OCR_AUTH_TOKEN)")
    status = command("status", "Show a running HTTP server's model and GPUs; without one, this machine's.", _status,
                     parents=(settings, remote))  # fmt: skip
    status.add_argument("--json", action="store_true", help="print JSON")
    command("offload", "Move a running HTTP server's model off its GPU.", _offload, parents=(remote,))
    release = command("release", "Have a running HTTP server give all memory back.", _release, parents=(remote,))
    release.add_argument("--force", action="store_true", help="stop what is being read")

    download = command(
        "download",
        "Fetch DeepSeek-OCR's weights (6.7 GB), or what is missing of them.",
        _download,
        parents=(),
        epilog="HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE and the usual proxy variables are honoured.",
    )
    download.add_argument(
        "model", nargs="?", default=PREFERRED_WEIGHTS, help="a hub id (default %(default)s)", metavar="MODEL"
    )
    download.add_argument("--to", metavar="DIR", help="put the files here instead of the hub's cache")

    command("doctor", "Check Python, engine, GPU and folders; say what to do about each.", _doctor)
    config = command("client-config", "Print the configuration to paste into a client.", _client_config, parents=())
    config.add_argument("client", choices=CLIENTS)
    config.add_argument(
        "--url", metavar="URL", help="for a server that runs elsewhere, like https://ocr.example.org/mcp; its token is "
        "never printed: the client asks for it, or takes it from OCR_AUTH_TOKEN",
    )  # fmt: skip
    return parser


def _add_reading(command: argparse.ArgumentParser) -> None:
    """What is read, and how."""
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


def _reading(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `_add_reading` was told, as fields of a request."""
    names = ("custom_prompt", "pages", "resolution", "text_layer")
    return {
        "mode": "find" if arguments.find_term is not None else arguments.mode,
        "find_term": arguments.find_term or "",
        **{name: getattr(arguments, name) for name in names},
    }


def _settings(arguments: argparse.Namespace) -> Settings:
    from .config import Settings, load_settings

    given = {name: value for name, value in vars(arguments).items() if name in Settings.model_fields}
    if folders := getattr(arguments, "folders", None):
        given["ocr_allowed_dirs"] = [*(given.get("ocr_allowed_dirs") or ()), *folders]
    settings = load_settings(arguments.env_file if "env_file" in arguments else None, given)
    secrets = [secret.get_secret_value() for secret in (settings.ocr_auth_token, settings.ocr_remote_key) if secret]
    logs.configure(settings.ocr_log_level, settings.ocr_log_format, secrets=secrets)
    return settings


def _fail(error: OcrError, what: str = "") -> None:
    print(f"{what}{': ' if what else ''}{error.message}\n  {error.remedy}", file=sys.stderr)


# -- serve


def _serve(arguments: argparse.Namespace) -> int:
    stdio = getattr(arguments, "transport", "stdio") == "stdio"
    wire = None
    if stdio:
        # Until the protocol owns stdout, whatever an import prints goes to stderr.
        wire = os.dup(1)
        os.dup2(2, 1)
    import anyio

    from .app import serve_http, serve_stdio

    settings = _settings(arguments)
    if stdio:
        anyio.run(serve_stdio, settings, wire)

    def announce(url: str) -> None:
        logs.announce(f"Serving MCP at {url}", url=url)

    anyio.run(serve_http, settings, announce)
    return 0


# -- ocr


def _ocr(arguments: argparse.Namespace) -> int:
    import anyio

    return anyio.run(_read_files, arguments)


async def _read_files(arguments: argparse.Namespace) -> int:
    """The children start first: they import and load while this process imports what it needs to use them."""
    from .headstart import HeadStart
    from .signals import until_signal

    worst = 0

    async def work() -> None:
        nonlocal worst
        async with HeadStart() as children:
            env = {"OCR_THREADS": os.environ.get("OCR_THREADS", "0")}
            if (workers := os.environ.get("OCR_CPU_WORKERS", "1")) != "1":
                env["OCR_CORES_SHARED_BY"] = workers
            await children.begin(_likely_engine(arguments), env)
            from .app import running_service
            from .folders import FolderReader

            settings = _settings(arguments)
            _make_folder(arguments.output_dir)
            async with running_service(settings, children) as service, FolderReader(service).running() as folders:
                for file in arguments.files:
                    try:
                        worst = max(worst, await _read_argument(service, folders, file, arguments))
                    except OcrError as exc:
                        _fail(exc, file)
                        worst = max(worst, exc.exit_code)

    return INTERRUPTED if await until_signal(work) else worst


def _likely_engine(arguments: argparse.Namespace) -> EngineSpec | None:
    """What the settings will name, as far as flags and environment tell it, if it needs no GPU."""
    if arguments.text_layer == ONLY_LAYER or arguments.env_file or os.environ.get("OCR_ENV_FILE"):
        return None
    return cpu_engine(
        arguments.ocr_engine or os.environ.get("OCR_ENGINE", "auto"),
        model=os.environ.get("OCR_MODEL", ""),
        gpu=os.environ.get("OCR_GPU", "auto"),
    )


def _make_folder(folder: str | None) -> None:
    if folder:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise BadRequest(f"{folder} cannot be made: {exc.strerror}.", remedy="Name another --output-dir.") from None


async def _read_argument(service: OcrService, folders: FolderReader, file: str, arguments: argparse.Namespace) -> int:
    """Read a file, or all that a folder or a quoted pattern names; the worst exit code."""
    listing = await folders.find(_absolute(file), local=True)
    if listing is None:
        await _read_file(service, file, arguments)
        return 0
    if arguments.output_dir:
        return await _read_folder(folders, file, listing, arguments)
    if not listing.files:
        raise InputNotFound(f"{file} names no file that can be read.", remedy='Name images or PDFs: "scans/**/*.pdf".')
    worst = 0
    for name in listing.files:
        try:
            await _read_file(service, os.path.join(listing.root, name), arguments)
        except OcrError as exc:
            _fail(exc, name)
            worst = max(worst, exc.exit_code)
    return worst


async def _read_folder(folders: FolderReader, file: str, listing: Listing, arguments: argparse.Namespace) -> int:
    request = _request(file, arguments, name="*")
    bar = _Bar(file)
    try:
        answer, outcomes = await folders.read(request, listing, local=True, on_progress=bar)
    finally:
        bar.clear()
    for note in answer.notes[:1]:
        print(f"{file}: {note}", file=sys.stderr)
    failed = {name: outcome.error for name, outcome in outcomes.items() if outcome.error}
    for name, error in failed.items():
        _fail(error, name)
    return max((error.exit_code for error in failed.values()), default=0)


async def _read_file(service: OcrService, file: str, arguments: argparse.Namespace) -> None:
    bar = _Bar(file)
    try:
        answer = await service.read(_request(file, arguments), local=True, on_progress=bar)
    finally:
        bar.clear()
    for note in answer.notes:
        print(f"{file}: {note}", file=sys.stderr)
    if not arguments.output_dir:
        text = _formatted(answer, arguments.format)
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()


def _request(file: str, arguments: argparse.Namespace, name: str = "") -> OcrRequest:
    from .models import OcrRequest

    save_to = ""
    if arguments.output_dir:
        name = name or (Path(file).name if len(file) < 4096 else "page")
        save_to = str((Path(arguments.output_dir) / (name + SUFFIXES[arguments.format])).resolve())
    return OcrRequest(
        image=_absolute(file),
        **_reading(arguments),
        boxes=arguments.format == "json",
        raw=arguments.format == "json",
        max_chars=0,
        save_to=save_to,
        overwrite=arguments.overwrite,
    )


def _absolute(file: str) -> str:
    """A shell's user means the folder that the shell is in; anything that is no path stays as it is."""
    if file.startswith(("file:", "data:", "http:", "https:", "~")):
        return file
    return os.path.abspath(file)


def _formatted(answer: Answer, kind: str) -> str:
    if kind == "json":
        return answer.result.model_dump_json(indent=2, exclude_none=True) + "\n"
    return answer.result.text + "\n" if answer.result.text else ""


class _Bar:
    """One line of progress on stderr, on a terminal only."""

    def __init__(self, what: str) -> None:
        self._what = os.path.basename(what)[:40]
        self._shown = sys.stderr.isatty()

    async def __call__(self, done: float, total: float, message: str) -> None:
        self.draw(done, total, message)

    def draw(self, done: float, total: float, message: str) -> None:
        if self._shown:
            width = 24
            full = int(width * min(1.0, done / max(1.0, total)))
            line = f"{self._what} [{'█' * full}{' ' * (width - full)}] {message}"
            sys.stderr.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


# -- batch


def _batch(arguments: argparse.Namespace) -> int:
    from .batch.driver import Batch, run_batch
    from .models import OcrRequest

    settings = _settings(arguments)
    if arguments.workers < 0:
        raise BadRequest(f"--workers {arguments.workers} is no number of workers.", remedy="Give 1 or more.")
    request = OcrRequest(image="", **_reading(arguments))
    names = ("source", "out", "ray", "workers", "again", "retry_failed", "keep_older")
    batch = Batch(request=request, **{name: getattr(arguments, name) for name in names})
    try:
        summary = run_batch(batch, settings)
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to go on.", file=sys.stderr)
        raise
    said = [f"{summary.documents:,} files: {summary.read:,} read ({summary.pages:,} pages)"]
    said += [f"{summary.copied:,} with the same content as another"] if summary.copied else []
    said += [f"{summary.there:,} done before"] if summary.there else []
    said += [f"{summary.failed:,} failed"] if summary.failed else []
    print(", ".join(said) + ".", file=sys.stderr)
    print(summary.manifest)
    return summary.exit_code


# -- status, offload, release


async def _call_server(arguments: argparse.Namespace, tool: str, given: dict[str, Any]) -> dict[str, Any]:
    """What a tool of a running server answers, as its structured content.

    Raises:
        EngineUnavailable: nobody answers there, or not to us.
        OcrError: what the tool said.
    """
    import anyio
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    token = arguments.token or os.environ.get("OCR_AUTH_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with anyio.fail_after(CALL_TIMEOUT_S):
            async with (
                httpx2.AsyncClient(headers=headers, timeout=CALL_TIMEOUT_S) as http,
                Client(streamable_http_client(arguments.url, http_client=http)) as client,
            ):
                result = await client.call_tool(tool, given)
    except Exception as exc:
        cause = cause_of(exc)
        raise EngineUnavailable(
            f"No server answered at {arguments.url}: {str(cause) or type(cause).__name__}.",
            remedy="Start one with `deepseek-ocr-mcp serve --transport http`, or name it with --url and --token.",
        ) from None
    if result.is_error:
        raise OcrError(" ".join(block.text for block in result.content if block.type == "text"), remedy="")
    structured: dict[str, Any] = result.structured_content or {}
    return structured


def _status(arguments: argparse.Namespace) -> int:
    import anyio

    async def local() -> dict[str, Any]:
        from .app import running_service

        async with running_service(_settings(arguments)) as service:
            return (await _settled(service)).model_dump(mode="json", exclude_none=True)

    try:
        status = anyio.run(_call_server, arguments, "gpu_status", {})
    except EngineUnavailable:
        if arguments.url != DEFAULT_URL:
            raise
        print("No server answers on this machine; this is what one would find.", file=sys.stderr)
        status = anyio.run(local)
    if arguments.json:
        print(json.dumps(status, indent=2))
        return 0
    for name, value in status.items():
        if name == "gpus":
            for gpu in value:
                print(
                    f"gpu {gpu['index']:<14} {gpu['name']}, {gpu['memory_free_mb']} of {gpu['memory_total_mb']} MiB "
                    f"free, {gpu['uuid']}"
                )
        elif name == "endpoints":
            for endpoint in value:
                print(f"endpoint           {_endpoint_line(endpoint)}")
        elif name == "workers":
            for number, worker in enumerate(value):
                print(f"worker {number:<11} {_worker_line(worker)}")
        elif value not in ("", []):
            print(f"{name:<18} {', '.join(value) if isinstance(value, list) else value}")
    return 0


async def _settled(service: OcrService) -> GpuStatus:
    """The status, once every endpoint has been asked what it is; or what is known after a bounded wait."""
    import anyio

    status = await service.status()
    with anyio.move_on_after(FIRST_ANSWERS_S):
        while any(one.state == "unasked" for one in status.endpoints or ()):
            await anyio.sleep(0.02)  # what looks at them is of the service's own: it tells nobody
            status = await service.status()
    return status


def _endpoint_line(endpoint: dict[str, Any]) -> str:
    counts = f"{endpoint['in_flight']} pages under way, {endpoint['served']} read, {endpoint['failures']} failures"
    parts = [endpoint["url"], endpoint["state"], endpoint["model"], counts, endpoint.get("last_error", "")]
    return ", ".join(part for part in parts if part)


def _worker_line(worker: dict[str, Any]) -> str:
    """One of several workers: where it is, what it has done, and whether it is left out."""
    said = f"{worker['card']}, {worker['state']}, {worker['served']} pages read, {worker['queue']} to read"
    if (mb := worker.get("gpu_mb")) is not None:
        said += f", {mb} MiB on its card"
    if (left := worker.get("retry_in_s")) is not None:
        said += f"; it failed and is tried again {f'in {left:.0f} s' if left else 'when others wait'}"
        said += f": {worker['last_error']}" if worker.get("last_error") else ""
    return said


def _offload(arguments: argparse.Namespace) -> int:
    return _move(arguments, "gpu_offload", {})


def _release(arguments: argparse.Namespace) -> int:
    return _move(arguments, "gpu_release", {"force": arguments.force})


def _move(arguments: argparse.Namespace, tool: str, given: dict[str, Any]) -> int:
    import anyio

    moved = anyio.run(_call_server, arguments, tool, given)
    print(f"{moved['message']} ({moved['from']} → {moved['to']}, {moved['seconds']:.2f} s)")
    return 0


# -- download


def _download(arguments: argparse.Namespace) -> int:
    from .engines import fetch_weights

    bar = _Bar(arguments.model)

    def progress(done: int, total: int) -> None:
        bar.draw(done, total, f"{done / 1e9:.2f} of {total / 1e9:.2f} GB")

    try:
        folder = fetch_weights(arguments.model, to=arguments.to, on_progress=progress)
    finally:
        bar.clear()
    print(folder)
    return 0


# -- doctor


def _doctor(arguments: argparse.Namespace) -> int:
    """Print a line for each thing that must be in place; 0 if all are."""
    import anyio

    settings = _settings(arguments)
    return anyio.run(_examine, settings)


async def _examine(settings: Settings) -> int:
    import anyio.to_thread

    from .app import running_service
    from .engines import missing_packages
    from .models import OcrRequest

    bad = 0

    def line(ok: bool, what: str, found: str, remedy: str = "") -> None:
        nonlocal bad
        bad += not ok
        print(f"{'ok  ' if ok else 'FIX '} {what:<16} {found}" + (f"\n     → {remedy}" if remedy else ""))

    line(True, "Python", f"{platform.python_version()} at {sys.executable}")
    line(True, "deepseek-ocr-mcp", __version__)
    async with running_service(settings) as service:
        engine = service.engine
        missing = missing_packages(engine)
        line(
            not missing,
            "engine",
            f"{engine.name} lacks {', '.join(missing)}"
            if missing
            else f"{engine.name}. {(await service.status()).engine_reason}",
            f"pip install {' '.join(missing)}" if missing else "",
        )
        if not missing:
            try:
                answer = await service.read(OcrRequest(image=PROBE_PAGE, mode="free"), local=True)
                timing = answer.result.timing
                read = answer.result.text.strip()
                line(
                    PROBE_TEXT in read,
                    "endpoint" if engine.is_remote else "weights",
                    f"{answer.result.model}: loaded in {timing.load_s:.1f} s, "
                    f"read {read!r} in {timing.infer_s:.2f} s on {answer.result.device}",
                    ""
                    if PROBE_TEXT in read
                    else f"It should have read {PROBE_TEXT!r}: "
                    + ("look at the model." if engine.is_remote else "reinstall the engine."),
                )
            except OcrError as exc:
                line(False, "endpoint" if engine.is_remote else "weights", exc.message, exc.remedy)
        status = await _settled(service)
    for endpoint in status.endpoints or ():
        remedy = "See OCR_REMOTE_URL, OCR_REMOTE_KEY and OCR_MODEL, and its log."
        found = _endpoint_line(endpoint.model_dump())
        line(endpoint.state != "out", "endpoint", found, remedy if endpoint.state == "out" else "")
    for gpu in status.gpus:
        line(True, f"GPU {gpu.index}", f"{gpu.name}, {gpu.memory_free_mb} of {gpu.memory_total_mb} MiB free")
    if not status.gpus:
        needed = engine.gpu_mb > 0 and settings.ocr_gpu != "cpu"
        line(
            not needed,
            "GPU",
            status.gpu_note,
            "" if needed is False else "Set OCR_GPU=cpu, or install the driver.",
        )
    for folder in settings.ocr_allowed_dirs:
        there = await anyio.to_thread.run_sync(os.access, folder, os.R_OK | os.X_OK)
        line(there, "allowed folder", folder, "" if there else "Make it, or correct OCR_ALLOWED_DIRS.")
    if not settings.ocr_allowed_dirs:
        line(True, "allowed folders", "every folder over stdio, none over HTTP (OCR_ALLOWED_DIRS)")
    return 0 if bad == 0 else EngineUnavailable.exit_code


# -- client-config


def _client_config(arguments: argparse.Namespace) -> int:
    print(_for_server(arguments.client, arguments.url) if arguments.url else _for_program(arguments.client))
    return 0


def _for_program(client: str) -> str:
    """The server as a program that the client starts."""
    command, *rest = _own_command()
    entry: dict[str, Any] = {"command": command, "args": rest}
    match client:
        case "vscode":
            return json.dumps({"servers": {SERVER_NAME: {"type": "stdio", **entry}}}, indent=2)
        case "codex":
            return f"[mcp_servers.{SERVER_NAME}]\ncommand = {json.dumps(command)}\nargs = {json.dumps(rest)}"
        case "claude-code":
            return f"claude mcp add {SERVER_NAME} -- {_for_shell(command, *rest)}"
        case _:
            return json.dumps({"mcpServers": {SERVER_NAME: entry}}, indent=2)


def _for_server(client: str, url: str) -> str:
    """The server as an address. The token stays out of the file where the client has another place for it."""
    match client:
        case "vscode":
            token = {"type": "promptString", "id": "ocr-token", "description": "OCR_AUTH_TOKEN", "password": True}
            entry = {"type": "http", "url": url, "headers": {"Authorization": "Bearer ${input:ocr-token}"}}
            return json.dumps({"servers": {SERVER_NAME: entry}, "inputs": [token]}, indent=2)
        case "codex":
            return f'[mcp_servers.{SERVER_NAME}]\nurl = {json.dumps(url)}\nbearer_token_env_var = "OCR_AUTH_TOKEN"'
        case "claude-code":
            header = '"Authorization: Bearer $OCR_AUTH_TOKEN"'  # the shell puts it in
            return f"claude mcp add --transport http {SERVER_NAME} {_for_shell(url)} --header {header}"
        case "cursor":
            entry = {"url": url, "headers": {"Authorization": "Bearer ${env:OCR_AUTH_TOKEN}"}}
            return json.dumps({"mcpServers": {SERVER_NAME: entry}}, indent=2)
        case _:  # Claude Desktop's file knows programs only: mcp-remote is one, and Node's npx brings it
            entry = {
                "command": "npx",
                "args": ["-y", "mcp-remote", url, "--header", "Authorization:${AUTH_HEADER}"],
                "env": {"AUTH_HEADER": "Bearer <OCR_AUTH_TOKEN of the server>"},
            }
            return json.dumps({"mcpServers": {SERVER_NAME: entry}}, indent=2)


def _for_shell(*words: str) -> str:
    import shlex

    return shlex.join(words)


def _own_command() -> list[str]:
    """This program as an absolute command: a desktop client has another PATH than a shell."""
    beside = Path(sys.executable).with_name("deepseek-ocr-mcp" + (".exe" if os.name == "nt" else ""))
    if beside.is_file():
        return [str(beside)]
    return [sys.executable, "-m", "deepseek_ocr_mcp"]

"""`ocr`: reads files, folders and standard input, and writes each text to standard output, a file or a folder.

Pages are printed as they are read. A reading that is stopped leaves the pages that were read on standard output, and
says how to read the rest.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .. import observer
from ..engines import cpu_engine
from ..errors import BadRequest, InputNotFound, OcrError, PasswordNeeded
from ..modes import DEFAULT_MODE, ONLY_LAYER
from .output import FORMATS, PRINTED, PagePrinter, format_of, limits, print_notes
from .password import ask_password, can_ask, password_from_stdin
from .shared import INTERRUPTED, ProgressBar, absolute_path, print_error, reading_fields, settings_from, typed_terms

if TYPE_CHECKING:
    from ..config import Settings
    from ..documents.source import Snapshot
    from ..engines import EngineSpec
    from ..models import Note, OcrRequest
    from ..service.answer import Answer
    from ..service.service import OcrService
    from ..service.work import ReadPage

__all__ = ["INCOMPLETE", "STDIO", "FileReader", "check_arguments", "run_ocr"]

STDIO: Final = "-"  # as FILE: standard input; as --output: standard output
INCOMPLETE: Final = 7  # the exit code of an answer that misses something, with --exit-code
CHUNK: Final = 1 << 20


def run_ocr(arguments: argparse.Namespace) -> int:
    import anyio

    check_arguments(arguments)
    return anyio.run(_read_files, arguments)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Check the arguments that say where texts go, and fill in the format that the name of the file says.

    Raises:
        BadRequest: they cannot be meant.
    """
    if "" in arguments.files:
        raise BadRequest("The name of a FILE is empty.", remedy="Name a file, or . for the folder that you are in.")
    output = "" if arguments.output == STDIO else arguments.output
    if output and arguments.output_dir:
        raise BadRequest("--output names one file, --output-dir a folder.", remedy="Give one of them.")
    if output and (len(arguments.files) > 1 or os.path.isdir(arguments.files[0])):
        raise BadRequest("--output takes the text of one document.", remedy="For several, name a folder: --output-dir.")
    if output and os.path.isdir(output):
        raise BadRequest(f"--output {output} is a folder.", remedy="Name a file in it, or give it as --output-dir.")
    if (arguments.regex or arguments.whole_word) and not arguments.find_term:
        raise BadRequest("--regex and --whole-word say how --find searches.", remedy="Name the words: --find WORDS.")
    if arguments.files.count(STDIO) > 1:
        raise BadRequest("Standard input (-) is one document.", remedy="Name it once.")
    if arguments.watch and (not arguments.output_dir or STDIO in arguments.files):
        raise BadRequest("--watch needs a folder for the texts.", remedy="Name one: --output-dir texts.")
    if arguments.ocr_pdf_password == STDIO:
        if STDIO in arguments.files:
            raise BadRequest("Standard input cannot be a document and a password.", remedy="Set OCR_PDF_PASSWORD.")
        arguments.ocr_pdf_password = password_from_stdin()
    named = format_of(output)
    if output and not named:
        known = ", ".join(each.suffix for each in FORMATS.values())
        raise BadRequest(f"--output {output} ends in no format that is written.", remedy=f"Use one of {known}.")
    if named and arguments.format not in (None, named):
        raise BadRequest(
            f"--output {output} is {named}, and --format says {arguments.format}.", remedy="Leave out --format."
        )
    arguments.format = named or arguments.format or "markdown"


async def _read_files(arguments: argparse.Namespace) -> int:
    """Read all files. The children start first: they import and load while this process imports its own modules."""
    import anyio

    from ..app.headstart import HeadStart
    from ..app.signals import until_signal

    worst = 0

    async def work() -> None:
        nonlocal worst
        async with HeadStart() as children:
            env = {
                "OCR_THREADS": os.environ.get("OCR_THREADS", "0"),
                "OCR_PRECISION": os.environ.get("OCR_PRECISION", "auto"),
            }
            if (workers := os.environ.get("OCR_CPU_WORKERS", "1")) != "1":
                env["OCR_CORES_SHARED_BY"] = workers
            await children.begin(_likely_engine(arguments), env)
            from ..app.run import running_service
            from ..documents.private import private_folder

            with private_folder() as folder:
                scratch = str(await anyio.Path(folder).resolve())
                settings = _with_folder(settings_from(arguments), scratch)
                if settings.ocr_log_level == "warning":
                    logging.getLogger(observer.__name__).setLevel(logging.ERROR)  # the command prints each failure
                _make_folder(arguments.output_dir)
                async with running_service(settings, children) as service:
                    reading = FileReader(service, arguments, scratch)
                    try:
                        await reading.run()
                    finally:
                        worst = reading.exit_code

    return INTERRUPTED if await until_signal(work) else worst


def _likely_engine(arguments: argparse.Namespace) -> EngineSpec | None:
    """The engine that the settings will name, as far as flags and environment say; None where it needs a GPU."""
    if arguments.text_layer == ONLY_LAYER or arguments.env_file or os.environ.get("OCR_ENV_FILE"):
        return None
    return cpu_engine(
        arguments.ocr_engine or os.environ.get("OCR_ENGINE", "auto"),
        model=os.environ.get("OCR_MODEL", ""),
        gpu=os.environ.get("OCR_GPU", "auto"),
    )


def _with_folder(settings: Settings, folder: str) -> Settings:
    """The settings, with our own folder among the allowed ones: files for standard output are written there first."""
    if not settings.ocr_allowed_dirs:
        return settings
    return settings.model_copy(update={"ocr_allowed_dirs": (*settings.ocr_allowed_dirs, folder)})


def _make_folder(folder: str | None) -> None:
    if folder:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise BadRequest(f"{folder} cannot be made: {exc.strerror}.", remedy="Name another --output-dir.") from None


class FileReader:
    """Reads the files of one command and remembers the worst exit code.

    Args:
        service: reads.
        arguments: of the command.
        scratch: the real path of a private folder, for files that standard output gets.
    """

    def __init__(self, service: OcrService, arguments: argparse.Namespace, scratch: str) -> None:
        self.service = service
        self.arguments = arguments
        self.exit_code = 0
        self.suffix = FORMATS[arguments.format].suffix
        self._scratch = scratch
        self._password = ""
        """Typed for a document before: the next locked one may have the same."""
        self._terms = typed_terms(arguments)
        self._to_files = bool(arguments.output_dir) or arguments.output not in ("", STDIO)

    async def run(self) -> None:
        """Read all files. A file that fails stops no other."""
        if self.arguments.watch:
            from .watch import watch_folders

            await watch_folders(self)
            return
        for file in self.arguments.files:
            try:
                await self._read_argument(file)
            except OcrError as exc:
                self.failed(exc, file)

    def failed(self, error: OcrError, name: str) -> None:
        """Print the error of a file, and remember its exit code."""
        print_error(error, name)
        self.exit_code = max(self.exit_code, error.exit_code)

    async def _read_argument(self, file: str) -> None:
        """Read a file, standard input, or all that a folder or a quoted pattern names."""
        if file == STDIO:
            await self._read_stdin()
            return
        answer = await self.read_document(file)
        folder = answer.result.folder
        if folder is None or self._to_files:
            return
        if not folder.files:
            raise InputNotFound(
                f"{file} names no file that can be read.", remedy='Name images or PDFs: "scans/**/*.pdf".'
            )
        for name in folder.files:
            try:
                await self.read_document(os.path.join(folder.folder, name))
            except OcrError as exc:
                self.failed(exc, name)

    async def _read_stdin(self) -> None:
        if sys.stdin.isatty():
            raise BadRequest("Standard input is a terminal.", remedy="Send a document: `… ocr - < scan.pdf`.")
        async with self.service.receive() as incoming:
            incoming.call("stdin")
            async for piece in _pieces(sys.stdin.fileno()):
                await incoming.write(piece)
            await self.read_document("stdin", upload=await incoming.snapshot())

    async def read_document(
        self, file: str, *, upload: Snapshot | None = None, save_to: str = "", overwrite: bool = False
    ) -> Answer:
        """Read one document, and ask for its password where somebody is there; see `_read_document`."""
        again = False
        while True:
            try:
                return await self._read_document(file, upload=upload, save_to=save_to, overwrite=overwrite)
            except PasswordNeeded:
                if upload is not None or self.arguments.watch or not can_ask():
                    raise
                if not (password := await ask_password(file, again=again)):
                    raise
                again, self._password = True, password

    async def _read_document(
        self, file: str, *, upload: Snapshot | None = None, save_to: str = "", overwrite: bool = False
    ) -> Answer:
        """Read one document and print it, or have the service write it; or have the service list a folder.

        Args:
            file: the path, or the name of the upload.
            upload: the document, where it is no file.
            save_to: the file to write; default: the file that the arguments name.
            overwrite: whether that file is replaced; default: as the arguments say.

        Raises:
            OcrError: nothing was read.
        """
        import anyio

        from ..caller import Caller
        from ..service.progress import Terms

        quiet, kind = self.arguments.quiet, self.arguments.format
        save_to = save_to or self._target(file)
        printer = None if save_to else PagePrinter(kind)
        bar, scope = ProgressBar(file, quiet=quiet), anyio.CancelScope()

        async def deliver(pages: Sequence[ReadPage]) -> None:
            if printer is not None:
                bar.clear()
                try:
                    printer.add(read.page for read in pages)
                except BrokenPipeError:  # nobody reads our stdout any more: `… | head`
                    scope.cancel()

        terms = Terms(on_progress=bar, on_pages=deliver, upload=upload, password=self._password)
        request = self._request("" if upload else absolute_path(file), save_to, overwrite)
        try:
            with scope:
                answer = await self.service.ocr(request, Caller(), terms)
            if scope.cancel_called:
                raise BrokenPipeError
        except anyio.get_cancelled_exc_class():
            bar.clear()
            self._stopped(file, printer)
            raise
        finally:
            bar.clear()
        self._finish(file, answer, printer)
        return answer

    def _finish(self, file: str, answer: Answer, printer: PagePrinter | None) -> None:
        """Print the rest of an answer, its notes, and the errors that it survived."""
        result = answer.result
        if any(note.code == "left_out" for note in result.notes):
            self.exit_code = max(self.exit_code, InputNotFound.exit_code)
        if result.folder is not None and not self._to_files:  # its files are read one by one
            print_notes(file, [note for note in result.notes if note.code == "left_out"], self._terms)
            return
        if printer is not None:
            printer.finish(answer)
        elif self._is_scratch(result.saved_to):
            sys.stdout.flush()
            sys.stdout.buffer.write(Path(result.saved_to).read_bytes())
            sys.stdout.flush()
        if not self.arguments.quiet:
            print_notes(file, self._shown_notes(answer), self._terms)
        if result.folder is not None:
            for name, error in answer.errors.items():
                print_error(error, name)
        self._count(answer.errors)
        if self.arguments.exit_code and limits(result.notes):
            self.exit_code = max(self.exit_code, INCOMPLETE)

    def _shown_notes(self, answer: Answer) -> list[Note]:
        """The notes of a document; of a folder the summary, because each failed file is printed as an error."""
        notes = answer.result.notes
        if answer.result.folder is not None:
            return [*notes[:1], *(note for note in notes[1:] if note.code not in ("files", "saved"))]
        return [note for note in notes if note.code != "saved" or not self._is_scratch(answer.result.saved_to)]

    def _is_scratch(self, path: str) -> bool:
        return path.startswith(self._scratch + os.sep)

    def _count(self, errors: Mapping[str, OcrError]) -> None:
        self.exit_code = max([self.exit_code, *(error.exit_code for error in errors.values())])

    def _stopped(self, file: str, printer: PagePrinter | None) -> None:
        """Say how to go on after an interrupt."""
        if printer is None or not printer.last_page:
            return
        from ..documents.ranges import pages_after

        left = pages_after(self.arguments.pages, printer.last_page)
        printer.stop(left)
        if left and not self.arguments.quiet:
            print(
                f"{file}: stopped after page {printer.last_page}. To read the rest, run the command again with "
                f"--pages {shlex.quote(left)}.",
                file=sys.stderr,
            )

    def _target(self, file: str) -> str:
        """The absolute path of the file, or of the folder, that gets the text of `file`; empty: standard output."""
        if self.arguments.output_dir:
            if os.path.isdir(file):
                return str(Path(self.arguments.output_dir).resolve() / f"*{self.suffix}")
            name = Path(file).name if len(file) < 4096 else "page"
            return str((Path(self.arguments.output_dir) / (name + self.suffix)).resolve())
        if self.arguments.output not in ("", STDIO):
            return str(Path(self.arguments.output).resolve())
        if self.arguments.format not in PRINTED:
            return os.path.join(self._scratch, f"page{self.suffix}")
        return ""

    def _request(self, image: str, save_to: str, overwrite: bool) -> OcrRequest:
        from ..models import OcrRequest

        arguments = self.arguments
        fields = reading_fields(arguments)
        if arguments.format == "text" and fields["mode"] == DEFAULT_MODE:
            fields["mode"] = "free"  # the same text without Markdown
        return OcrRequest(
            image=image,
            **fields,
            boxes=arguments.boxes or FORMATS[arguments.format].boxes,
            raw=arguments.format == "json",
            max_chars=0,
            save_to=save_to,
            overwrite=overwrite or arguments.overwrite or self._is_scratch(save_to),
            upright=arguments.upright,
        )


async def _pieces(descriptor: int) -> AsyncIterator[bytes]:
    """The bytes of an open file, a piece at a time. No thread waits for a pipe: it would outlive an interrupt."""
    import anyio
    import anyio.to_thread

    is_pollable = os.name == "posix"
    while True:
        if is_pollable:
            try:
                await anyio.wait_readable(descriptor)
            except PermissionError:  # a file on a disk, which can be read at once
                is_pollable = False
        piece = await anyio.to_thread.run_sync(os.read, descriptor, CHUNK)
        if not piece:
            return
        yield piece

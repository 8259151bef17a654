"""Reads the documents of a folder in one request, each into a file of its own, and writes an index of them.

A document whose text exists already is not read again. A document that fails stops no other document. A call that has
to answer before all documents are read loses nothing: the reading goes on for a while, and the same call, made again,
follows it. A file is replaced only if the request says so, but for the index, which each call writes anew.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Self

import anyio
import anyio.abc
import anyio.to_thread

from ..caller import Caller
from ..config import Settings
from ..documents.argument import Argument
from ..documents.listing import Listing, complete_path, list_files, unlisted_text
from ..documents.output import make_folder, resolve_output_folder, write_atomically
from ..documents.reach import Reach
from ..errors import BadRequest, InputNotFound, OcrError, OutputExists, unforeseen
from ..models import Failure, Folder, NoteCode, OcrRequest, OcrResult
from ..text import how_many
from .answer import Answer
from .folder_index import INDEX_NAME, IndexedText, Outcome, read_index, written_index
from .progress import Progress, Terms

__all__ = ["ABOUT_ANSWER", "FolderReader", "ReadDocument"]


log = logging.getLogger(__name__)

LINGER_S: Final = 60.0  # a folder is read on for so many seconds after its last caller has left
RETRY_S: Final = 1.0  # seconds between two tries while the model loads or the queue is full
MAX_JOBS: Final = 16  # jobs that are kept for a caller that may come back
INDEX_EVERY_S: Final = 5.0
MAX_FAILURES: Final = 10  # failures that an answer names; the index has all of them
ABOUT_ANSWER: Final[frozenset[NoteCode]] = frozenset({"saved", "more", "contents", "files", "argument_unused"})
"""The codes of notes that the index leaves out: they limit no text, or every document would repeat them."""


@dataclass(eq=False)
class _FolderJob:
    """The reading of one folder. Callers whose requests and passwords are equal share it."""

    request: OcrRequest
    caller: Caller
    listing: Listing
    out: str
    suffix: str
    password: str = field(repr=False)
    """The password of the locked documents; empty: none was given."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    known: dict[str, IndexedText] = field(default_factory=dict)
    """The texts that an earlier run wrote, by their paths, as the index of that run describes them."""
    fraction: float = 0.0
    message: str = ""
    waits_for: str = ""
    """The reason why no document is being read: the model loads, or the queue is full. Empty while one is read."""
    prepared: bool = False
    callers: int = 0
    left_at: float = 0.0
    finished: bool = False
    delivered: bool = False
    """Whether a caller got the answer that the folder is finished. Until a caller got it, an equal request joins this
    job."""
    error: OcrError | None = None
    index: str = ""
    written_at: float = 0.0
    scope: anyio.CancelScope | None = None
    """The scope of the task that reads; None while no task does."""
    changed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def done(self) -> int:
        return sum(file in self.outcomes for file in self.listing.files)

    def tell(self) -> None:
        """Wake the callers that wait."""
        self.changed.set()
        self.changed = anyio.Event()


_JobKey = tuple[bool, str, str]

ReadDocument = Callable[[OcrRequest, Argument, Caller, Terms], Awaitable[Answer]]
"""Reads one document; see `OcrService.read`."""


class FolderReader:
    """Use it inside `async with reader.running():`.

    Args:
        settings: the settings of the operator.
        engine: the name of the engine that reads.
        read: reads one document.
    """

    def __init__(self, settings: Settings, engine: str, read: ReadDocument) -> None:
        self._settings = settings
        self._engine = engine
        self._read_document = read
        self._jobs: OrderedDict[_JobKey, _FolderJob] = OrderedDict()
        self._tasks: anyio.abc.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The lifespan of all folder jobs.

        A document that is being read when the lifespan ends is read again by the next call.
        """
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                yield self
            finally:
                tasks.cancel_scope.cancel()

    async def complete(self, text: str, caller: Caller) -> list[str]:
        """Paths that begin with `text`, as far as the caller may read."""
        return await complete_path(text, Reach.of(caller, self._settings))

    def describe(self, request: OcrRequest, listing: Listing) -> Answer:
        """An answer that lists the files of a folder, and says how to read them."""
        files, shown, used = listing.files, 0, 0
        while shown < len(files) and (not request.max_chars or used + len(files[shown]) < request.max_chars):
            used += len(files[shown]) + 1
            shown += 1
        many = f"{how_many(len(files), 'file')} that can be read"
        folder = Folder(folder=listing.root, found=len(files), left=len(files), files=list(files[:shown]))
        answer = Answer(self._result(request, folder, pages=0))
        if shown < len(files):
            answer.result.truncated, answer.result.next_max_chars = True, sum(len(file) + 1 for file in files)
        answer.add("files", f"{request.image} names {many}, in {listing.root}.")
        if files:
            more = f"\n… and {len(files) - shown:,} more" if shown < len(files) else ""
            answer.add("files", "\n".join(files[:shown]) + more)
            answer.add(
                "files",
                f'To read one, give its path: image="{os.path.join(listing.root, files[0])}". To read all into files, '
                'call ocr_to_files with save_to="/path/of/a/folder" (Markdown; "/path/of/a/folder/*.json": JSON with '
                "boxes).",
            )
        if listing.subfolders:
            pattern = os.path.join(listing.root, "**")
            answer.add("files", f'Files in its subfolders do not count. To include them, use image="{pattern}".')
        if listing.left_out:
            answer.add("left_out", unlisted_text(listing.left_out))
        answer.result.notes += request.notes
        return answer

    async def read(self, request: OcrRequest, listing: Listing, caller: Caller, terms: Terms) -> Answer:
        """Read the files of a listing into the folder that `request.save_to` names.

        After `terms.reply_s` the answer says how many files are done. Its `errors` names the files that failed so far.

        Args:
            request: the request; `save_to` names the folder.
            listing: the files.
            caller: the client, and the folders that it may use.
            terms: the way in which the caller wants its answer. `password` opens locked documents. `on_progress` gets
                the number of files that are done, the number of all files, and a sentence.

        Raises:
            OcrError: no file can be read, or none can be written into that folder.
        """
        if not listing.files:
            raise InputNotFound(
                f"{request.image} names no file that can be read.",
                remedy='Name a folder with images or PDFs, or a pattern such as "/scans/**/*.pdf".',
            )
        out, suffix = await resolve_output_folder(request.save_to, Reach.of(caller, self._settings))
        job = self._job(_FolderJob(request, caller, listing, out, suffix, terms.password))
        job.callers += 1
        try:
            if job.scope is None and not job.finished:
                assert self._tasks is not None, "use the reader inside `async with reader.running():`"
                job.scope = anyio.CancelScope()
                self._tasks.start_soon(self._run, job)
            with anyio.move_on_after(terms.reply_s):
                await self._follow(job, terms.on_progress)
        except anyio.get_cancelled_exc_class():
            if job.callers == 1 and job.scope is not None:
                job.scope.cancel()
            raise
        finally:
            job.callers -= 1
            job.left_at = anyio.current_time()
        if job.error is not None:
            raise type(job.error)(
                f"{job.error.message} {job.done} of {how_many(len(job.listing.files), 'file')} were done before.",
                remedy=job.error.remedy,
            )
        await self._write_index(job)
        job.delivered = job.finished
        return self._answer(job)

    def _job(self, new: _FolderJob) -> _FolderJob:
        """The job that reads for the same request, or that waits for its caller; else the new job.

        A caller without the password gets none of the texts for which it is needed. So it has a job of its own.
        """
        key = new.caller.is_local, repr(new.request), new.password
        job = self._jobs.pop(key, None)
        if job is None or job.delivered or job.error is not None:
            job = new
        self._jobs[key] = job
        resting = [name for name, each in self._jobs.items() if each.scope is None and each is not job]
        for name in [*resting[:-MAX_JOBS], *(name for name in resting if self._jobs[name].delivered)]:
            self._jobs.pop(name, None)
        return job

    async def _follow(self, job: _FolderJob, on_progress: Progress | None) -> None:
        reported = -1.0
        while True:
            changed, done = job.changed, round(job.done + job.fraction, 3)
            if on_progress is not None and job.message and done > reported:
                reported = done
                await on_progress(done, float(len(job.listing.files)), job.message)
            if job.scope is None:
                return
            await changed.wait()

    # -- reading

    async def _run(self, job: _FolderJob) -> None:
        """Read file after file until all are done, or until no caller has come back for `LINGER_S`."""
        assert job.scope is not None
        try:
            with job.scope:
                await self._prepare(job)
                for file in job.listing.files:
                    if file in job.outcomes:
                        continue
                    if self._is_forsaken(job):
                        break
                    job.fraction = 0.0
                    job.message = f"{file} ({job.done + 1} of {len(job.listing.files)})"
                    job.tell()
                    outcome = await self._read_file(job, file)
                    if outcome is None:
                        break
                    job.outcomes[file], job.fraction = outcome, 0.0
                    job.tell()
                    if anyio.current_time() - job.written_at > INDEX_EVERY_S:
                        await self._write_index(job)
                else:
                    job.finished = True
        except OcrError as exc:
            job.error = exc
        except Exception as exc:  # the task belongs to the server, which an error here would end
            log.exception("A folder failed in a way that this program does not foresee.")
            job.error = unforeseen(exc, "Reading the folder")
        finally:
            job.scope, job.fraction = None, 0.0
            job.tell()

    async def _prepare(self, job: _FolderJob) -> None:
        """List the folder again, because files may have come or gone since, and links may lead elsewhere."""
        listed = await list_files(job.request.image, Reach.of(job.caller, self._settings), leave_out=job.out)
        job.listing = _without_own_files(listed or job.listing, job)
        if not job.outcomes:
            job.index, job.known = await anyio.to_thread.run_sync(read_index, job.out, job.request.overwrite)
            job.prepared = True

    @staticmethod
    def _is_forsaken(job: _FolderJob) -> bool:
        return job.callers == 0 and anyio.current_time() - job.left_at > LINGER_S

    async def _read_file(self, job: _FolderJob, file: str) -> Outcome | None:
        """Read one file. Returns its outcome; None if no caller waits any more.

        Raises:
            OcrError: an error that every other file of the folder would meet too.
        """
        source = os.path.join(job.listing.root, file)
        target = os.path.join(job.out, file + job.suffix)
        if not job.request.overwrite and (outcome := await anyio.to_thread.run_sync(_already, source, target)):
            return Outcome(outcome, job.known.get(target, IndexedText()))
        document = Argument.of_file(source, Reach.of(job.caller, self._settings))
        request = job.request.model_copy(update={"image": source, "save_to": target, "max_chars": 0, "annotate": False})

        async def progress(done: float, total: float, message: str) -> None:
            job.fraction = min(0.99, done / total if total else 0.0)
            job.message = f"{file} ({job.done + 1} of {len(job.listing.files)}): {message}"
            job.tell()

        terms = Terms(on_progress=progress, password=job.password)
        try:
            await make_folder(os.path.dirname(target), self._settings.ocr_allowed_dirs)
            while True:
                try:
                    answer = await self._read_document(request, document, job.caller, terms)
                    job.waits_for = ""
                    if answer.result.saved_to or not answer.result.next_pages:
                        break
                except OcrError as exc:
                    if not exc.is_passing:
                        raise
                    job.waits_for = str(exc)
                    await anyio.sleep(RETRY_S)
                if self._is_forsaken(job):
                    return None
        except OutputExists as exc:  # a caller with another password has written it meanwhile
            outcome = await anyio.to_thread.run_sync(_already, source, target)
            return Outcome(outcome, job.known.get(target, IndexedText())) if outcome else Outcome("failed", error=exc)
        except OcrError as exc:
            # A page range may suit one document and not another; any other argument is wrong for all.
            if exc.is_fatal or (type(exc) is BadRequest and not request.pages):
                raise
            return Outcome("failed", error=exc)
        notes = tuple(note for note in answer.result.notes if note.code not in ABOUT_ANSWER)
        return Outcome("read", IndexedText(len(answer.result.pages), len(answer.result.text), notes))

    # -- telling

    def _answer(self, job: _FolderJob) -> Answer:
        files = job.listing.files
        states = [job.outcomes[file].state for file in files if file in job.outcomes]
        failed = [(file, outcome) for file in files if (outcome := job.outcomes.get(file)) and outcome.error]
        pages = sum(outcome.text.pages or 0 for outcome in job.outcomes.values() if outcome.state == "read")
        folder = Folder(
            folder=job.listing.root,
            found=len(files),
            read=states.count("read"),
            there=states.count("there") + states.count("outdated"),
            failed=len(failed),
            left=len(files) - len(states),
            index=job.index,
            failures=[Failure(file=file, error=outcome.remark) for file, outcome in failed[:MAX_FAILURES]] or None,
        )
        answer = Answer(
            self._result(job.request, folder, pages, job.out),
            errors={file: outcome.error for file, outcome in failed if outcome.error is not None},
            chars=sum(outcome.text.chars or 0 for outcome in job.outcomes.values() if outcome.state == "read"),
        )
        answer.add("files", self._summary(job, folder, states.count("outdated")))
        if folder.left:
            answer.add("more", f"{folder.left} are left: call again with the same arguments to go on.")
        answer.result.notes += job.request.notes
        self._add_notes_of_files(job, answer)
        for failure in folder.failures or ():
            answer.add("files", f"{failure.file}: {failure.error}")
        if folder.failed > MAX_FAILURES:
            answer.add("files", f"… and {folder.failed - MAX_FAILURES} more.")
        if job.index:
            answer.add("files", f"The index is {job.index}.")
        elif job.prepared:
            path = os.path.join(job.out, INDEX_NAME)
            answer.add("files", f"No index was written: {path} is a file that this program did not write.")
        if job.listing.subfolders:
            pattern = os.path.join(job.listing.root, "**")
            answer.add("files", f'Files in its subfolders were not read. To include them, use image="{pattern}".')
        if job.listing.left_out:
            answer.add("left_out", unlisted_text(job.listing.left_out))
        return answer

    @staticmethod
    def _add_notes_of_files(job: _FolderJob, answer: Answer) -> None:
        """Pass on the notes about texts that are written, also by an earlier call: the first of them."""
        limited = [(file, note) for file, outcome in job.outcomes.items() for note in outcome.text.notes]
        for file, note in limited[:MAX_FAILURES]:
            answer.add(note.code, f"{file}: {note}")
        if len(limited) > MAX_FAILURES:
            answer.add("files", f"… and {len(limited) - MAX_FAILURES} more notes; the index has them.")

    @staticmethod
    def _summary(job: _FolderJob, folder: Folder, outdated: int) -> str:
        """A sentence on the numbers of files that were read, existed already, failed, and are left."""
        pages = sum(outcome.text.pages or 0 for outcome in job.outcomes.values() if outcome.state == "read")
        read = f"{folder.read} of {how_many(folder.found, 'file')} {'was' if folder.found == 1 else 'were'} read"
        sentences = [f"{read} ({how_many(pages, 'page')}) into {job.out}."]
        if folder.there:
            sentences.append(f"{folder.there} were there already.")
        if outdated:
            sentences.append(f"{outdated} of them are older than their files; overwrite=true reads all again.")
        if folder.failed:
            sentences.append(f"{folder.failed} failed.")
        if job.waits_for:
            sentences.append(job.waits_for)
        return " ".join(sentences)

    def _result(self, request: OcrRequest, folder: Folder, pages: int, saved_to: str = "") -> OcrResult:
        return OcrResult(
            text="",
            pages=[],
            page_count=pages,
            mode=request.mode,
            engine=self._engine,
            model="",
            device="",
            truncated=bool(saved_to) and folder.left > 0,
            saved_to=saved_to,
            folder=folder,
        )

    async def _write_index(self, job: _FolderJob) -> None:
        if job.index and job.outcomes:
            job.written_at = anyio.current_time()
            data = written_index(job.listing.root, job.listing.files, job.outcomes, job.suffix).encode()
            await write_atomically(job.index, data, True, self._settings.ocr_allowed_dirs)


def _without_own_files(listing: Listing, job: _FolderJob) -> Listing:
    """The listing without the files that an earlier run wrote beside their documents: `a.png.pdf` beside `a.png`."""
    if listing.root != job.out:
        return listing
    sources = set(listing.files)
    own = {file for file in listing.files if file.removesuffix(job.suffix) in sources - {file}}
    return replace(listing, files=tuple(file for file in listing.files if file not in own)) if own else listing


def _already(source: str, target: str) -> Literal["there", "outdated"] | None:
    """Whether the text of a source is there already, and whether it is older than the source."""
    try:
        written = os.stat(target).st_mtime
    except OSError:
        return None
    try:
        return "there" if written >= os.stat(source).st_mtime else "outdated"
    except OSError:
        return "there"

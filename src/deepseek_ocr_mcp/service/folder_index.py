"""The index of a folder of texts: a table of its documents, and a table of the notes about them.

A later call reads the index again, and so knows the pages, the characters and the notes of each text that exists.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, unquote_to_bytes

from pydantic import ValidationError

from ..errors import OcrError
from ..models import Note
from ..text import one_line, well_formed

__all__ = ["INDEX_MARK", "INDEX_NAME", "IndexedText", "Outcome", "read_index", "written_index"]

INDEX_NAME: Final = "index.md"
INDEX_MAX_BYTES: Final = 4 * 1024 * 1024
INDEX_MARK: Final = (
    "<!-- written by deepseek-ocr-mcp -->"  # an index with this mark may be replaced: this program wrote it
)
MAX_REMARKS: Final = 3  # notes in the row of a document; the table of the notes has all

_TEXT_ROW: Final = re.compile(r"\| \[.*\]\((?P<target>[^)]*)\) \| (?P<pages>[\d,]*) \| (?P<chars>[\d,]*) \| ")
_NOTE_ROW: Final = re.compile(
    r"\| \[.*\]\((?P<target>[^)]*)\) \| (?P<pages>[\d,-]*) \| (?P<code>[a-z_]+) \| (?P<text>.*) \|"
)


@dataclass(frozen=True, slots=True)
class IndexedText:
    """The facts about one text in an index."""

    pages: int | None = None
    chars: int | None = None
    notes: tuple[Note, ...] = ()
    """The notes about the text."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one document."""

    state: Literal["read", "there", "outdated", "failed"]
    text: IndexedText = IndexedText()
    error: OcrError | None = None

    @property
    def remark(self) -> str:
        """Why the document failed, or the first notes about its text."""
        return str(self.error) if self.error else " ".join(map(str, self.text.notes[:MAX_REMARKS]))


def written_index(root: str, files: Sequence[str], outcomes: Mapping[str, Outcome], suffix: str) -> str:
    """The index as Markdown.

    Args:
        root: the folder of the documents.
        files: the names of the documents.
        outcomes: of the documents that are done.
        suffix: of the texts.
    """
    done = [outcome.text for file in files if (outcome := outcomes.get(file)) and outcome.state != "failed"]
    pages, chars = sum(text.pages or 0 for text in done), sum(text.chars or 0 for text in done)
    lines = [
        INDEX_MARK,
        f"# Texts of {root}",
        "",
        f"{len(done):,} of {len(files):,} files, {pages:,} pages, {chars:,} characters.",
        "",
        "| file | pages | characters | status |",
        "| --- | ---: | ---: | --- |",
        *(_text_row(file, outcomes.get(file), suffix) for file in files),
        "",
    ]
    notes = [
        f"| {_link(file, suffix)} | {note.pages} | {note.code} | {_cell(note.text)} |"
        for file in files
        if file in outcomes
        for note in outcomes[file].text.notes
    ]
    if notes:
        lines += ["## Notes", "", "| file | pages | code | note |", "| --- | --- | --- | --- |", *notes, ""]
    return well_formed("\n".join(lines))


def _text_row(file: str, outcome: Outcome | None, suffix: str) -> str:
    if outcome is None:
        return f"| {_cell(one_line(file))} |  |  | waiting |"
    if outcome.state == "failed":
        return f"| {_cell(one_line(file))} |  |  | failed: {_cell(outcome.remark)} |"
    state = "older than its file" if outcome.state == "outdated" else "read"
    remark = f". {_cell(outcome.remark)}" if outcome.remark else ""
    text = outcome.text
    return f"| {_link(file, suffix)} | {_number(text.pages)} | {_number(text.chars)} | {state}{remark} |"


def _link(file: str, suffix: str) -> str:
    return f"[{_cell(one_line(well_formed(file)))}]({quote(os.fsencode(file + suffix))})"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _number(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def read_index(out: str, overwrite: bool) -> tuple[str, dict[str, IndexedText]]:
    """The path of a folder's index, and the facts about the texts that an earlier call wrote, by their paths.

    The path is empty where a file of that name exists that this program did not write.
    """
    path = os.path.join(out, INDEX_NAME)
    if not os.path.lexists(path):
        return path, {}
    try:
        # A link is not followed, and a pipe is not waited for.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with open(os.open(path, flags), encoding="utf-8", errors="replace") as file:
            text = file.read(INDEX_MAX_BYTES) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else ""
    except OSError:
        text = ""
    if not text.startswith(INDEX_MARK):
        return (path if overwrite else ""), {}
    lines = text.splitlines()
    notes = _notes(lines)
    known = {}
    for line in lines:
        if match := _TEXT_ROW.match(line):
            pages, chars = (int(each.replace(",", "")) if each.strip(",") else None for each in match.group(2, 3))
            target = match["target"]
            known[os.path.join(out, os.fsdecode(unquote_to_bytes(target)))] = IndexedText(
                pages, chars, tuple(notes.get(target, ()))
            )
    return path, known


def _notes(lines: Sequence[str]) -> dict[str, list[Note]]:
    """The notes of an index, by the link to the text that they are about. A row that was changed may be no note."""
    found: dict[str, list[Note]] = {}
    for line in lines:
        if match := _NOTE_ROW.fullmatch(line):
            fields = {"code": match["code"], "text": match["text"].replace("\\|", "|"), "pages": match["pages"]}
            try:
                note = Note.model_validate(fields)
            except ValidationError:
                continue
            found.setdefault(match["target"], []).append(note)
    return found

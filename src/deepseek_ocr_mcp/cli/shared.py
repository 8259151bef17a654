"""The parts that all commands share: settings from flags, the progress bar, printed errors."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from .. import logs
from ..errors import OcrError
from ..text import duration
from .words import for_terminal

if TYPE_CHECKING:
    from ..config import Settings

__all__ = [
    "INTERRUPTED",
    "ProgressBar",
    "absolute_path",
    "print_error",
    "reading_fields",
    "settings_from",
    "typed_terms",
]


_ESCAPED_OR_SLASH: Final = re.compile(r"\\.|/", re.DOTALL)  # a slash that nothing escapes would end the pattern
INTERRUPTED: Final = 130  # the exit code that shells report after Ctrl-C
PACE_S: Final = 2.0  # seconds, and
PACE_SHARE: Final = 0.05  # share of the work, from which on the pace predicts the end


def reading_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments that say which pages are read, and how, as fields of a request."""
    names = ("custom_prompt", "pages", "resolution", "text_layer")
    terms = [_term(each, arguments) for each in arguments.find_term or ()]
    return {
        "mode": "find" if terms else arguments.mode,
        "find_term": terms[0] if len(terms) == 1 else terms or "",
        **{name: getattr(arguments, name) for name in names},
    }


def _term(words: str, arguments: argparse.Namespace) -> str:
    """The term of a search: the words themselves, or a pattern between slashes."""
    if not (arguments.regex or arguments.whole_word):
        return words
    pattern = words if arguments.regex else rf"(?<!\w){re.escape(words)}(?!\w)"
    body = _ESCAPED_OR_SLASH.sub(lambda match: r"\/" if match[0] == "/" else match[0], pattern)
    return f"/{body}/"


def typed_terms(arguments: argparse.Namespace) -> dict[str, str]:
    """The words of `--find` as they were typed, by the pattern that stands for them in notes."""
    how = " as a whole word" if arguments.whole_word else ""
    patterned = arguments.regex or arguments.whole_word
    return {repr(_term(each, arguments)): f"'{each}'{how}" for each in arguments.find_term or () if patterned}


def settings_from(arguments: argparse.Namespace) -> Settings:
    from ..config import Settings, load_settings

    given = {name: value for name, value in vars(arguments).items() if name in Settings.model_fields}
    if folders := getattr(arguments, "folders", None):
        given["ocr_allowed_dirs"] = [*(given.get("ocr_allowed_dirs") or ()), *folders]
    settings = load_settings(arguments.env_file if "env_file" in arguments else None, given)
    logs.configure(settings.ocr_log_level, settings.ocr_log_format, secrets=settings.secrets)
    return settings


def absolute_path(file: str) -> str:
    """A shell's user means the folder that the shell is in; anything that is no path stays as it is."""
    if file.startswith(("file:", "data:", "http:", "https:", "~")):
        return file
    return os.path.abspath(file)


def print_error(error: OcrError, name: str = "") -> None:
    """Print an error to stderr, with the name of the file that it is about."""
    message, remedy = for_terminal(error.message), for_terminal(error.remedy)
    print(f"{name}{': ' if name else ''}{message}\n  {remedy}", file=sys.stderr)


class ProgressBar:
    """One line of progress on stderr, on a terminal only, with the time that is left.

    Args:
        name: the path of a file, or the name of a model.
        quiet: whether nothing is drawn.
        clock: seconds; for tests.
    """

    def __init__(self, name: str, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = os.path.basename(name)[:40]
        self._shown = sys.stderr.isatty() and not quiet
        self._clock = clock
        self._began: tuple[float, float] | None = None
        """The time when the work had begun, and the share that was done then."""

    async def __call__(self, done: float, total: float, message: str) -> None:
        self.draw(done, total, message)

    def draw(self, done: float, total: float, message: str) -> None:
        """Draw the line anew.

        Args:
            done: pages or bytes that are done.
            total: pages or bytes in all.
            message: the step that runs, as a phrase.
        """
        left = self._time_left(done, total)
        if self._shown:
            width = 24
            full = int(width * min(1.0, done / max(1.0, total)))
            line = f"{self._name} [{'█' * full}{' ' * (width - full)}] {message}{left and f', {left} left'}"
            sys.stderr.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])
            sys.stderr.flush()

    def _time_left(self, done: float, total: float) -> str:
        """The time that is left at the pace so far; empty while the pace is unknown."""
        now = self._clock()
        if self._began is None:
            self._began = now, done
        seconds, share = now - self._began[0], done - self._began[1]
        if seconds < PACE_S or share < PACE_SHARE * total or done >= total:
            return ""
        return duration(seconds / share * (total - done))

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

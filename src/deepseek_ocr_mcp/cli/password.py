"""Asks for the password of a locked PDF at a terminal. What is typed is not shown."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Final

__all__ = ["ask_password", "can_ask", "password_from_stdin"]

MAX_BYTES: Final = 4096  # a terminal gives no longer line


def can_ask() -> bool:
    """Whether somebody sits at a terminal who can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


async def ask_password(name: str, *, again: bool) -> str:
    """The line that somebody types; empty: there is none.

    No thread waits for it on POSIX: the thread would outlive an interrupt.

    Args:
        name: of the document.
        again: whether a password was given that does not open it.
    """
    import anyio

    question = f"{'That is not the password. ' if again else ''}Password of {name} (empty: leave it out): "
    if os.name != "posix":
        import getpass

        import anyio.to_thread

        return await anyio.to_thread.run_sync(getpass.getpass, question, abandon_on_cancel=True)
    terminal = sys.stdin.fileno()
    with _without_echo(terminal):
        print(question, end="", file=sys.stderr, flush=True)
        await anyio.wait_readable(terminal)
        line = os.read(terminal, MAX_BYTES)
    return line.decode("utf-8", "replace").rstrip("\r\n")


def password_from_stdin() -> str:
    """The first line of standard input."""
    return sys.stdin.readline().rstrip("\r\n")


@contextlib.contextmanager
def _without_echo(terminal: int) -> Iterator[None]:
    import termios  # which Windows does not have

    before = termios.tcgetattr(terminal)
    quiet = termios.tcgetattr(terminal)
    quiet[3] &= ~termios.ECHO  # the local modes
    termios.tcsetattr(terminal, termios.TCSAFLUSH, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
        print(file=sys.stderr, flush=True)

"""Who asks for a page: the one thing that every layer below an edge knows of a client."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LOCAL_NAME", "Caller"]

LOCAL_NAME = "local"
"""The name of the client of stdio and of the command line: there is one."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A client of the service.

    Clients take turns by name, and no client takes all places in the queue.
    """

    name: str = LOCAL_NAME
    is_local: bool = True
    """Whether the client runs on this machine as this user: then relative paths and `~` mean the client's own."""

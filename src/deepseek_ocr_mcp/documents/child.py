"""Starts a decoder: the child that parses documents, confined before it imports anything.

Imported before the rest of the program, so it imports next to nothing itself.
"""

from __future__ import annotations

from ..worker.client import DECODER, WorkerHandle
from ..worker.confine import Rights

__all__ = ["spawn_decoder"]


async def spawn_decoder(folder: str, *arguments: str) -> WorkerHandle:
    """A decoder that reads its libraries and `folder`, writes there, and reaches nothing else of this machine.

    Args:
        folder: the private folder: what it is given to read lies there, and so does what it draws.
        arguments: further ones for `worker/main.py`.
    """
    rights = Rights(read=(), write=(folder,))
    # numpy compares drawings there and multiplies no matrices; for each thread OpenBLAS reserves address space, and the
    # decoder has a bound on that.
    env = {"OPENBLAS_NUM_THREADS": "1"}
    return await WorkerHandle.spawn(DECODER, *arguments, env=env, rights=rights, name="document decoder")

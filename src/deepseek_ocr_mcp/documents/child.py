"""Starts a decoder: the child that parses documents, confined before it imports anything.

This module is imported before the rest of the program, so it imports very little itself.
"""

from __future__ import annotations

from ..worker.client import DECODER, WorkerHandle
from ..worker.confine import Rights

__all__ = ["spawn_decoder"]


async def spawn_decoder(folder: str, *arguments: str) -> WorkerHandle:
    """A decoder that reads its libraries and `folder`, writes there, and reaches nothing else of this machine.

    Args:
        folder: the private folder. It holds the files that the decoder reads, and those that it draws.
        arguments: further arguments of `worker/main.py`.
    """
    rights = Rights(read=(), write=(folder,))
    # In the decoder numpy compares drawings and multiplies no matrices. OpenBLAS reserves address space for each
    # thread, and the decoder's address space is bounded.
    env = {"OPENBLAS_NUM_THREADS": "1"}
    return await WorkerHandle.spawn(DECODER, *arguments, env=env, rights=rights, name="document decoder")

"""Starts children ahead, while the parent still imports its own modules.

A wrong guess costs only the child that was started: a caller that needs another child gets one, and a child that no
caller took ends with the context. This module is imported first, so it imports almost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from ..documents.child import spawn_decoder
from ..documents.private import private_folder
from ..worker.client import ENGINE_HOST, WorkerHandle
from ..worker.protocol import AHEAD

if TYPE_CHECKING:
    from ..engines import EngineSpec

__all__ = ["HeadStart"]


class HeadStart:
    """Gives each child that was started ahead to the first caller that needs such a child."""

    def __init__(self, folder: str | None = None) -> None:
        """
        Args:
            folder: the private folder. Default: a new one, which lasts as long as the context.
        """
        self._children: dict[object, WorkerHandle] = {}
        self._stack = ExitStack()
        self._folder = folder

    @property
    def folder(self) -> str:
        """The private folder to which the decoder is confined."""
        if self._folder is None:
            self._folder = self._stack.enter_context(private_folder())
        return self._folder

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with self._stack:
            while self._children:
                await self._children.popitem()[1].kill()

    async def begin(self, engine: EngineSpec | None, env: Mapping[str, str]) -> None:
        """Start a document decoder, and the worker of the engine that will probably be used, if there is one.

        Args:
            env: variables that the manager will want that worker to have.
        """
        if engine is not None:
            self._children[_key(engine, env)] = await _worker(engine, env, AHEAD)
        self._children["documents"] = await spawn_decoder(self.folder, AHEAD)

    async def decoder(self) -> WorkerHandle:
        """For `DocumentReader(spawn=…)`."""
        return self._children.pop("documents", None) or await spawn_decoder(self.folder)

    async def worker(self, engine: EngineSpec, env: Mapping[str, str]) -> WorkerHandle:
        """For `ModelManager(spawn=…)`."""
        return self._children.pop(_key(engine, env), None) or await _worker(engine, env)


def _key(engine: EngineSpec, env: Mapping[str, str]) -> object:
    return engine.target, frozenset(env.items())


async def _worker(engine: EngineSpec, env: Mapping[str, str], *arguments: str) -> WorkerHandle:
    return await WorkerHandle.spawn(
        ENGINE_HOST, engine.target, *arguments, env=env, rights=engine.rights, name=f"{engine.name} worker"
    )

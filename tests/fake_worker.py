"""A worker that runs on virtual time: it takes its time by the clock of the test, and memory from a fake card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from deepseek_ocr_mcp.errors import Timeout
from deepseek_ocr_mcp.worker.client import OnFrame, WorkerDied
from fake_nvml import FakeCard

PREWARM_S, LOAD_S, RESTORE_S, OFFLOAD_S, READ_S, OPEN_S = 8.0, 20.0, 2.0, 1.0, 5.0, 9.0
WEIGHTS_MB, CONTEXT_MB = 7000, 500


class FakeWorker:
    """Takes its time by the clock of the test, and memory from a fake card."""

    def __init__(
        self,
        pid: int,
        cards: Sequence[FakeCard],
        script: list[BaseException],
        *,
        by_card: Mapping[str, list[BaseException]] | None = None,
        load_errors: Mapping[str, list[BaseException]] | None = None,
    ) -> None:
        """
        Args:
            script: what the next readings raise, by whichever worker.
            by_card: the same, for workers on these cards.
            load_errors: what the next loads on these cards raise.
        """
        self.pid = pid
        self.calls: list[str] = []
        self.environment: Mapping[str, str] = {}
        self._cards = cards
        self._card: FakeCard | None = None
        self._script = script
        self._by_card = by_card or {}
        self._load_errors = load_errors or {}
        self._dead = anyio.Event()
        self.read_options: list[str] = []
        self.batches: list[list[str]] = []
        """The paths of the pages of each batch."""
        self.dropped: list[int] = []
        self.slots = 0
        """Pages that it reads side by side, and lets join; 0: it reads a batch as a whole."""
        self.seconds: dict[str, float] = {}
        """How long a page takes in its slot, by its path; others take `READ_S`."""
        self.limits: list[float] = []
        """The seconds by which each addition raised the time limit, and those that a frame set."""
        self._pages: list[Mapping[str, Any]] = []
        self._news = anyio.Event()
        self.spoiled = ""
        """What its next answer says of it."""

    def __repr__(self) -> str:
        return f"<FakeWorker {self.pid} {'alive' if self.alive else 'dead'} {' '.join(self.calls)}>"

    @property
    def alive(self) -> bool:
        return not self._dead.is_set()

    def die(self) -> None:
        if self.alive:
            self._dead.set()
            if self._card is not None and self.pid in self._card.processes:
                self._card.give_back(self.pid)

    async def drop(self, pages: Sequence[int]) -> None:
        self.dropped += pages

    async def add(self, pages: Sequence[Mapping[str, Any]], seconds: float) -> None:
        self.limits.append(seconds)
        self.batches[-1] += [page["path"] for page in pages]
        self._pages += pages
        self._news.set()

    async def stop(self) -> None:
        self.die()

    async def kill(self) -> None:
        self.die()

    async def call(
        self,
        method: str,
        arguments: Mapping[str, Any],
        *,
        timeout: float,
        on_frame: OnFrame | None = None,
    ) -> dict[str, Any]:
        self.calls.append(method)
        if method == "load" or arguments.get("environment"):
            self.environment = arguments["environment"]
            uuid = self.environment.get("CUDA_VISIBLE_DEVICES")
            self._card = next((card for card in self._cards if card.uuid == uuid), None)
            self._script = self._by_card.get(uuid or "", self._script)
            if errors := self._load_errors.get(uuid or ""):
                error = errors.pop(0)
                if isinstance(error, (WorkerDied, Timeout)):
                    self.die()
                raise error
        seconds = {
            "prewarm": PREWARM_S,
            "open": OPEN_S,
            "load": LOAD_S,
            "restore": RESTORE_S,
            "offload": OFFLOAD_S,
            "read": READ_S,
        }[method]
        if method == "read":
            self.batches.append([page["path"] for page in arguments["pages"]])
            self.read_options.append(arguments["options"]["mode"])
        if self._script and method == "read":
            failure = self._script.pop(0)
            if isinstance(failure, (WorkerDied, Timeout)):
                self.die()
            raise failure
        if method == "read" and on_frame is not None:
            await on_frame({"progress": 0.1, "message": "begun"})
            if self.slots:
                self._pages = list(arguments["pages"])
                return await self._read_side_by_side(on_frame)
        with anyio.move_on_after(seconds):
            await self._dead.wait()
        if not self.alive:
            raise WorkerDied(-9, "")
        if self._card is not None:
            if method in ("load", "restore"):
                context = 0 if self.pid in self._card.processes else CONTEXT_MB
                self._card.take(self.pid, context + WEIGHTS_MB)
            elif method == "offload":
                self._card.take(self.pid, -WEIGHTS_MB)
        if method in ("load", "open"):
            return {"model": "fake"}
        if method == "read":
            pages = [{"text": f"by {self.pid}", "raw": page["path"]} for page in arguments["pages"]]
            return {"pages": pages, "spoiled": self.spoiled}
        return {}

    async def _read_side_by_side(self, on_frame: OnFrame) -> dict[str, Any]:
        """As an engine with slots does: each page ends for itself, and the next takes its slot."""
        begun, ends, most = 0, dict[int, float](), 0
        while begun < len(self._pages) or ends:
            while begun < len(self._pages) and len(ends) < self.slots:
                ends[begun] = anyio.current_time() + self.seconds.get(self._pages[begun]["path"], READ_S)
                begun += 1
            self._news = anyio.Event()
            if (room := begun + self.slots - len(ends)) > max(most, len(self._pages)):
                most = room
                await on_frame({"room": room})
            if not self._news.is_set():
                await self._news_until(min(ends.values()))
            if not self.alive:
                raise WorkerDied(-9, "")
            for number in [number for number, end in ends.items() if end <= anyio.current_time()]:
                del ends[number]
                path = self._pages[number]["path"]
                seconds = await on_frame({"page": number, "answer": {"text": f"by {self.pid}", "raw": path}})
                self.limits.append(seconds or 0.0)
        return {"pages": [None] * len(self._pages), "spoiled": self.spoiled}

    async def _news_until(self, deadline: float) -> None:
        """Return when pages were added or this worker died, or at the deadline."""
        async with anyio.create_task_group() as tasks:
            tasks.cancel_scope.deadline = deadline

            async def either(event: anyio.Event) -> None:
                await event.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(either, self._news)
            tasks.start_soon(either, self._dead)

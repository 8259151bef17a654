"""Has a model write the text of pages: side by side, each page as if it were alone.

Every page is looked at by itself, and its vectors are put in its prompt. It gets a slot (`slots`), writes there, and
leaves it to the next page that waits, which may have joined the call meanwhile; no page's text depends on its
neighbours. A page ends with a reason: the model's
own end (`stop`), the limit of tokens (`length`), a repetition (`loop`), or because nobody waits for it (`cancelled`),
while its neighbours go on. Cancellation is asked for before every layer while pages are looked at, and before every
token while they are written. When memory runs out, the pages that are finished are kept, and the others are read in
half as many slots, without more that join; a single page that does not fit is an error, and the model is as sound as
before.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ...errors import GpuBusy
from ..base import Call, Finish, PageImage, ReadOptions
from ..cores import usable_cores
from ..loops import LoopGuard
from ..vision_models import MAX_NEW_TOKENS, TYPICAL_TOKENS
from . import host_memory
from .checkpoint import Checkpoint
from .prompts import prompts_for
from .shortage import first_line, is_out_of_memory
from .slots import Sampling, Slot, Slots, bucket_for

__all__ = [
    "MAX_NEW_TOKENS",
    "ModelReader",
    "Written",
]

MAX_SLOTS: Final = 32  # pages at once; a step of more is not recorded, and its experts are computed as for a prompt
PROMPT_ELEMENTS: Final = 41.5
"""Numbers that live for each prompt token, and each of the model's `hidden_size`, beside the key-value cache.

Counted over v1 at its real size (tests/engines/test_deepseek_memory.py): most are the experts' inputs and outputs."""
CONTEXT_BYTES: Final = 700 << 20  # of CUDA itself, before any tensor: 300 to 700 MB by card and driver
WORKING_BYTES: Final = 512 << 20  # kept free beside the counted tensors: cuBLAS workspaces, recorded steps, fragments
CPU_SHARE: Final = 0.5  # of the memory that is available, where there is no card
LOOKED_AT_ONCE: Final = 4  # pages; one alone keeps a card busy, several start its kernels less often
PREPARING_THREADS: Final = 4  # for the pages of a batch; one page takes a core for a tenth of a second
LEAVING_S: Final = 0.5  # from the end of a picture to the word that its caller went away; a frame takes a millisecond
PROGRESS_S: Final = 0.2  # between two messages

BUSY_REMEDY: Final = (
    "Close what else runs on this card, set OCR_GPU to another one, or ask for resolution base, which needs less."
)


@dataclass(frozen=True, slots=True)
class Written:
    """One page's answer, as the model wrote it: tags included, the end token not."""

    text: str
    tokens: tuple[int, ...]
    finish: Finish


OnWritten = Callable[[int, PageImage, Written], None]
"""Gets the number of a page, the page, and its text."""


@dataclass(slots=True)
class _Sequence:
    """A page that is being written."""

    number: int
    guard: LoopGuard
    finish: Finish | None = None


@dataclass(slots=True)
class _ReadingAttempt:
    """Pages on their way through one attempt."""

    most: int
    """Slots that there may be."""
    capacity: int = 0
    """Slots that there are."""
    prepared: dict[int, Future[Any]] = field(default_factory=dict)
    """The pages that wait, as they were cut, by their number."""
    rows: list[_Sequence] = field(default_factory=list)
    """All that were taken in."""
    active: dict[Slot, _Sequence] = field(default_factory=dict)
    """The pages that are being written."""


@dataclass(slots=True)
class _ReadingTask:
    """The arguments of one call of `ModelReader.read`."""

    pages: list[PageImage]
    """The pages of the call, and the pages that joined it."""
    options: ReadOptions
    report: _Report
    limit: int
    """Tokens that a page may have."""
    free_running: bool
    on_written: OnWritten
    is_open: bool = True
    """Whether pages may join."""

    @property
    def call(self) -> Call:
        return self.report.call


class ModelReader:
    """Reads pages with a model that somebody else puts in its place and takes away.

    Args:
        model: on `device`, in eval mode, of `checkpoint.model_class`.
    """

    def __init__(self, checkpoint: Checkpoint, model: nn.Module) -> None:
        self._checkpoint = checkpoint
        self._model: Any = model
        self._prompts = prompts_for(checkpoint)

    def read(
        self,
        pages: Sequence[PageImage],
        options: ReadOptions,
        call: Call,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        free_running: bool = False,
        on_written: OnWritten = lambda *_: None,
    ) -> list[Written]:
        """One answer per page, in order: those that joined the call come last.

        Args:
            pages: to read, with those that `call.more` gives.
            options: of all of them.
            call: see `engines.base.Call`.
            max_new_tokens: of each page.
            free_running: write on past the model's end token and through every loop, always to the limit: what a
                comparison with recorded tokens needs.
            on_written: called as soon as a page has its answer.

        Raises:
            Cancelled: nobody waits any more.
            GpuBusy: one page alone does not fit on the card.
            MemoryError: one page alone does not fit in this machine's memory.
        """
        task = _ReadingTask(list(pages), options, _Report(call, len(pages)), max_new_tokens, free_running, on_written)
        answers: dict[int, Written] = {}
        most = MAX_SLOTS
        while waiting := [number for number in range(len(task.pages)) if number not in answers]:
            task.report.done = len(answers)
            attempt = _ReadingAttempt(min(most, self._room(max_new_tokens)))
            shortage = self._attempt(task, attempt, waiting)
            answers.update((row.number, self._written(row)) for row in attempt.rows if row.finish is not None)
            if not shortage:
                continue
            self._empty_caches()
            if attempt.capacity == 1:
                raise self._too_large(next(task.pages[n] for n in waiting if n not in answers), shortage)
            most, task.is_open = attempt.capacity // 2, False
        return [answers[number] for number in range(len(task.pages))]

    # ------------------------------------------------------------ one attempt

    def _attempt(self, task: _ReadingTask, attempt: _ReadingAttempt, numbers: Sequence[int]) -> str:
        """Read these pages, and those that join. Returns how torch said that memory ran out; empty: it did not.

        When it did, some pages have no row, or a row without a finish: they are not read. Nothing that takes memory is
        alive on return: not even the traceback, which would hold its tensors.
        """
        try:
            with torch.inference_mode():
                self._read_all(task, attempt, numbers)
        except RuntimeError as exc:
            if not is_out_of_memory(exc):
                raise
            return first_line(exc)
        finally:
            attempt.prepared.clear()
        return ""

    def _read_all(self, task: _ReadingTask, attempt: _ReadingAttempt, numbers: Sequence[int]) -> None:
        """Write these pages, and those that join, to their ends. Each has a row then."""
        with self._preparing(task, attempt) as prepare:
            for number in numbers:
                prepare(number)
            while True:
                self._invite(task, attempt, prepare)
                if not attempt.active:
                    if not attempt.prepared:
                        return
                    # without a cache, whose room a page that is looked at may need
                    attempt.capacity = min(attempt.most, len(attempt.prepared))
                    slots = self._slots(attempt.capacity)
                elif attempt.prepared and not slots.free and slots.capacity < attempt.most:
                    attempt.capacity = bucket_for(slots.active + len(attempt.prepared), attempt.most)
                    slots.widen(attempt.capacity)
                while slots.free and attempt.prepared:
                    self._take_in(task, attempt, slots)
                if attempt.active:
                    self._write_on(task, attempt, slots)

    def _write_on(self, task: _ReadingTask, attempt: _ReadingAttempt, slots: Slots) -> None:
        """Write one token of each page; give away the pages that end here."""
        tokens = self._next_tokens(slots, attempt.active, task)
        task.report.writing(attempt.rows)
        for slot in [slot for slot, row in attempt.active.items() if row.finish is not None]:
            slots.leave(slot)
            self._end(task, attempt.active.pop(slot))
        if attempt.active:
            slots.write({slot: tokens[slot] for slot in attempt.active})

    def _end(self, task: _ReadingTask, row: _Sequence) -> None:
        task.on_written(row.number, task.pages[row.number], self._written(row))

    def _invite(self, task: _ReadingTask, attempt: _ReadingAttempt, prepare: Callable[[int], None]) -> None:
        """Let pages join that can begin at once; none any more in a process that is to be replaced."""
        if not task.is_open or Slots.spoiled:
            return
        room = attempt.most - len(attempt.active) - len(attempt.prepared)
        for page in task.call.more(max(0, room)):
            task.pages.append(page)
            task.report.total += 1
            prepare(len(task.pages) - 1)

    def _take_in(self, task: _ReadingTask, attempt: _ReadingAttempt, slots: Slots) -> None:
        """Look at the next pages for free slots, at several at once where there is room, and let them enter."""
        together: dict[int, Any] = {}
        most = min(slots.free, self._looked_at_once())
        while attempt.prepared and len(together) < most:
            number = next(iter(attempt.prepared))
            future = attempt.prepared.pop(number)
            views = None if task.call.is_dropped(number) else _cut(task.call, number, future)
            if views is None:
                attempt.rows.append(row := _Sequence(number, self._prompts.guard(), "cancelled"))
                self._end(task, row)
                continue
            task.report.looking(number)
            together[number] = views
        if not together:
            return
        with self._cancellable(task.call):
            prompts = self._prompts.prompts(self._model, list(together.values()), task.options)
            for number, prompt in zip(together, prompts, strict=True):
                row = _Sequence(number, self._prompts.guard())
                attempt.rows.append(row)
                attempt.active[slots.enter(prompt)] = row

    def _next_tokens(self, slots: Slots, active: dict[Slot, _Sequence], task: _ReadingTask) -> dict[Slot, int]:
        """The next token of each page, noted; pages that end here have their finish."""
        task.call.raise_if_cancelled()
        likeliest = slots.chosen()
        tokens = {}
        for slot, row in active.items():
            token = likeliest[slot.row]
            if task.call.is_dropped(row.number):
                row.finish = "cancelled"
            elif task.free_running:
                row.guard.tokens.append(token)
            else:
                token = _take(row, token, slots.logits[slot.row], self._checkpoint.end_tokens)
            if row.finish is None and len(row.guard.tokens) >= task.limit:
                row.finish = "length"
            tokens[slot] = token
        return tokens

    @contextmanager
    def _preparing(self, task: _ReadingTask, attempt: _ReadingAttempt) -> Iterator[Callable[[int], None]]:
        """Gives a function that has a page cut on a thread: the card looks at one page while the next ones are cut."""
        resolution = task.options.resolution
        pool = ThreadPoolExecutor(min(PREPARING_THREADS, usable_cores()), "prepare")

        def prepare(number: int) -> None:
            attempt.prepared[number] = pool.submit(self._prompts.prepare, task.pages[number], resolution)

        try:
            yield prepare
        finally:
            pool.shutdown(cancel_futures=True)

    def _slots(self, capacity: int) -> Slots:
        row = self._checkpoint.row
        sampling = Sampling(row.temperature, row.top_p) if row.temperature else None
        return Slots(self._model, capacity, window=self._prompts.window, sampling=sampling)

    def _written(self, row: _Sequence) -> Written:
        tokens = row.guard.tokens if row.guard.good_tokens is None else row.guard.tokens[: row.guard.good_tokens]
        assert row.finish is not None
        return Written(self._prompts.decode(tokens), tuple(tokens), row.finish)

    @contextmanager
    def _cancellable(self, call: Call) -> Iterator[None]:
        """Ask before every layer of the vision towers and of the language model, as long as this lasts."""
        layers = [module for module in self._model.modules() if isinstance(module, GradientCheckpointingLayer)]
        hooks = [layer.register_forward_pre_hook(lambda *_: call.raise_if_cancelled()) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    # ------------------------------------------------------------ memory

    def _room(self, limit: int) -> int:
        """How many pages fit at once, should each be written to the limit; at least one."""
        text = self._model.model.language_model.config
        size = self._model.lm_head.weight.element_size()
        size_of_head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        per_token: int = 2 * text.num_hidden_layers * text.num_key_value_heads * size_of_head * size
        prompt = int(PROMPT_ELEMENTS * text.hidden_size * size * self._prompts.longest)  # one at a time
        # A page may be looked at while others are written. A page alone is looked at before it has a cache.
        beside = WORKING_BYTES + max(prompt, self._checkpoint.row.looking_mb << 20)
        return max(1, (self._free_bytes() - beside) // (per_token * (self._prompts.longest + limit)))

    def _looked_at_once(self) -> int:
        """How many pages fit into the vision part at once now; at least one."""
        room = (self._free_bytes() - WORKING_BYTES) // (self._checkpoint.row.looking_mb << 20)
        return min(LOOKED_AT_ONCE, max(1, room)) if self._device.type == "cuda" else 1

    @property
    def _device(self) -> torch.device:
        device: torch.device = self._model.lm_head.weight.device
        return device

    def _free_bytes(self) -> int:
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            return int(free + torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device))
        return int(CPU_SHARE * (host_memory.free_bytes() or 0))

    def _empty_caches(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _too_large(self, page: PageImage, shortage: str) -> GpuBusy | MemoryError:
        if self._device.type == "cpu" and "CUDA" not in shortage:
            return MemoryError(shortage)
        return GpuBusy(
            f"A page of {page.width} x {page.height} pixels does not fit in the card's free memory: {shortage}.",
            remedy=BUSY_REMEDY,
        )


class _Report:
    """Progress of one call; few messages, however fast the tokens come."""

    def __init__(self, call: Call, total: int) -> None:
        self.call = call
        self.done = 0
        """Pages that were read in the attempts before."""
        self.total = total
        self._spoke = -math.inf
        self._furthest = 0.0

    def looking(self, number: int) -> None:
        self._say(self.done, f"looking at page {number + 1} of {self.total}", {})

    def writing(self, rows: Sequence[_Sequence]) -> None:
        now = time.monotonic()
        if now - self._spoke < PROGRESS_S:
            return
        counts = [len(row.guard.tokens) for row in rows]
        shares = [1 - math.exp(-count / TYPICAL_TOKENS) for count in counts]
        ended = [share if row.finish is None else 1.0 for row, share in zip(rows, shares, strict=True)]
        begun = {row.number: share for row, share in zip(rows, shares, strict=True) if row.finish is None}
        self._say(self.done + sum(ended), f"{sum(counts)} tokens", begun)

    def _say(self, done: float, message: str, shares: Mapping[int, float]) -> None:
        self._spoke = time.monotonic()
        self._furthest = max(self._furthest, done / self.total)
        self.call.progress(min(self._furthest, 1.0), message, shares)


def _cut(call: Call, number: int, future: Future[Any]) -> Any:
    """The views of a page; None if its caller went away.

    A caller that goes away deletes its picture, and the word of that may come a moment later. The other pages are not
    read anew for it.

    Raises:
        FileNotFoundError: the picture is gone, though somebody waits for it.
    """
    try:
        return future.result()
    except FileNotFoundError:
        ends = time.monotonic() + LEAVING_S
        while not call.is_dropped(number):
            call.raise_if_cancelled()
            if time.monotonic() > ends:
                raise
            time.sleep(0.005)
        return None


def _take(row: _Sequence, chosen: int, logits: torch.Tensor, ends: Set[int]) -> int:
    """The row's next token, noted; `chosen` unless it is banned."""
    likeliest = chosen
    banned = row.guard.banned()
    if chosen in banned:
        logits[list(banned)] = -math.inf
        chosen = int(logits.argmax())
    if chosen in ends:
        row.finish = "stop"
    elif row.guard.add(chosen, likeliest):
        row.finish = "loop"
    return chosen

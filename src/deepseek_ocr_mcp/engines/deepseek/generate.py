"""Has DeepSeek-OCR write the text of pages: greedy, side by side, each page as if it were alone.

Every page is looked at by itself, and its vectors are put in its prompt. It gets a slot (`slots`), writes there, and
leaves it to the next page that waits; no page's text depends on its neighbours. A page ends with a reason: the model's
own end (`stop`), the limit of tokens (`length`), a repetition (`loop`), or because nobody waits for it (`cancelled`),
while its neighbours go on. Cancellation is asked for before every layer while pages are looked at, and before every
token while they are written. When memory runs out, the pages that are finished are kept, and the others are read in
half as many slots; a single page that does not fit is an error, and the model is as sound as before.
"""

from __future__ import annotations

import gc
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ...errors import GpuBusy
from ...modes import MODES
from ..base import Call, Finish, PageImage, ReadOptions
from ..cores import usable_cores
from ..loops import LoopGuard
from . import host_memory
from .checkpoint import IMAGE, Checkpoint
from .preprocess import Kind, Pixels, Views, cut_views, level_table, read_page
from .shortage import first_line, is_out_of_memory
from .slots import Prompt, Slot, Slots

__all__ = [
    "MAX_NEW_TOKENS",
    "ModelReader",
    "Written",
    "encode_prompt",
    "normalised",
    "prompt_for",
]

MAX_NEW_TOKENS: Final = 8192  # of one page; upstream's own limit
MAX_SLOTS: Final = 32  # pages at once; a step of more is not recorded, and its experts are computed as for a prompt
LONGEST_PROMPT: Final = 1300  # tokens: nine tiles, the whole page and a question
PROMPT_ELEMENTS: Final = 41.5
"""Numbers that live for each prompt token, and each of the model's `hidden_size`, beside the key-value cache.

Counted over v1 at its real size (tests/engines/test_deepseek_memory.py): most are the experts' inputs and outputs."""
CONTEXT_BYTES: Final = 700 << 20  # of CUDA itself, before any tensor: 300 to 700 MB by card and driver
WORKING_BYTES: Final = 512 << 20  # kept free beside the counted tensors: cuBLAS workspaces, recorded steps, fragments
LOOKING_BYTES: Final = 2 << 30
"""Of the vision part for a page, at the resolution that needs most (`large`; counted in the same test). A page may be
looked at while others are written, so it is kept free beside their caches. A page alone needs it before its own."""
CPU_SHARE: Final = 0.5  # of the memory that is available, where there is no card
PREPARING_THREADS: Final = 4  # for the pages of a batch; one page takes a core for a tenth of a second
TYPICAL_TOKENS: Final = 1500  # of a page; only the progress bar believes it
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


@dataclass(slots=True)
class _Sequence:
    """A page that is being written."""

    number: int
    guard: LoopGuard
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class _ReadingTask:
    """The arguments of one call of `ModelReader.read`."""

    pages: Sequence[PageImage]
    options: ReadOptions
    report: _Report
    limit: int
    """Tokens that a page may have."""
    free_running: bool

    @property
    def call(self) -> Call:
        return self.report.call


def prompt_for(options: ReadOptions) -> str:
    """The question to the model, without the picture. Tags in the request's own words are taken out."""
    return MODES[options.mode].question(options.find_term, options.custom_prompt)


def encode_prompt(tokenizer: Any, prompt: str, placeholders: int) -> list[int]:
    """Token ids as the original's `infer()` makes them: begin, one placeholder per vector, the question.

    The original strips the whole text, so a prompt of nothing loses its newline too.

    Args:
        tokenizer: a `transformers.PreTrainedTokenizerFast`.
        prompt: the question, without the picture.
        placeholders: vectors that the picture takes.
    """
    text = f"{IMAGE}\n{prompt.replace(IMAGE, '').strip()}".strip().removeprefix(IMAGE)
    image: int = tokenizer.convert_tokens_to_ids(IMAGE)
    question: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return [tokenizer.bos_token_id, *[image] * placeholders, *question]


class ModelReader:
    """Reads pages with a model that somebody else puts in its place and takes away.

    Args:
        model: on `device`, in eval mode, of `checkpoint.model_class`.
    """

    def __init__(self, checkpoint: Checkpoint, model: nn.Module) -> None:
        self._checkpoint = checkpoint
        self._model: Any = model
        self._tokenizer = checkpoint.tokenizer
        known = self._tokenizer.get_vocab()
        self._cells = frozenset(known[tag] for tag in ("<td>", "</td>") if tag in known)
        blank = {known[tag] for tag in ("<td>", "</td>", "<tr>", "</tr>") if tag in known}
        for text in ("\n", " "):
            blank.update(self._tokenizer.encode(text, add_special_tokens=False))
        self._blank = frozenset(blank)

    def read(
        self,
        pages: Sequence[PageImage],
        options: ReadOptions,
        call: Call,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        free_running: bool = False,
    ) -> list[Written]:
        """One answer per page, in order.

        Args:
            max_new_tokens: of each page.
            free_running: write on past the model's end token and through every loop, always to the limit: what a
                comparison with recorded tokens needs.

        Raises:
            Cancelled: nobody waits any more.
            GpuBusy: one page alone does not fit on the card.
            MemoryError: one page alone does not fit in this machine's memory.
        """
        task = _ReadingTask(pages, options, _Report(call, len(pages)), max_new_tokens, free_running)
        answers: dict[int, Written] = {}
        waiting = list(range(len(pages)))
        most = MAX_SLOTS
        while waiting:
            task.report.done = len(answers)
            capacity = min(most, self._room(max_new_tokens), len(waiting))
            rows, shortage = self._attempt(task, waiting, capacity)
            answers.update((row.number, self._written(row)) for row in rows if row.finish is not None)
            waiting = [number for number in waiting if number not in answers]
            if not shortage:
                continue
            self._empty_caches()
            if capacity == 1:
                raise self._too_large(pages[waiting[0]], shortage)
            most = capacity // 2
        return [answers[number] for number in range(len(pages))]

    # ------------------------------------------------------------ one attempt

    def _attempt(self, task: _ReadingTask, numbers: Sequence[int], capacity: int) -> tuple[list[_Sequence], str]:
        """The rows of these pages, and how torch said that memory ran out; empty: it did not.

        When it did, some rows may have no finish: those pages are not read. Nothing of the attempt is alive on return:
        not even the traceback, which would hold its tensors.
        """
        rows: list[_Sequence] = []
        try:
            with torch.inference_mode():
                self._read_all(task, numbers, capacity, rows)
        except RuntimeError as exc:
            if not is_out_of_memory(exc):
                raise
            return rows, first_line(exc)
        return rows, ""

    def _read_all(self, task: _ReadingTask, numbers: Sequence[int], capacity: int, rows: list[_Sequence]) -> None:
        """Fill `rows` with a row for each of these pages, and write them all to their ends."""
        waiting = deque(numbers)
        active: dict[Slot, _Sequence] = {}
        with self._prepared(task, numbers) as prepared:
            while waiting or active:
                if not active:
                    slots = self._slots(capacity)  # without a cache, whose room a page that is looked at may need
                while slots.free and waiting:
                    row = _Sequence(number := waiting.popleft(), LoopGuard(self._cells, self._blank))
                    rows.append(row)
                    if task.call.is_dropped(number):
                        row.finish = "cancelled"
                        continue
                    task.report.looking(number)
                    with self._cancellable(task.call):
                        active[slots.enter(self._prompt(prepared.pop(number).result(), task.options))] = row
                if not active:
                    continue
                tokens = self._next_tokens(slots, active, task)
                task.report.writing(rows)
                for slot in [slot for slot, row in active.items() if row.finish is not None]:
                    slots.leave(slot)
                    del active[slot]
                if active:
                    slots.write({slot: tokens[slot] for slot in active})

    def _next_tokens(self, slots: Slots, active: dict[Slot, _Sequence], task: _ReadingTask) -> dict[Slot, int]:
        """The next token of each page, noted; pages that end here have their finish."""
        task.call.raise_if_cancelled()
        end: int = self._tokenizer.eos_token_id
        likeliest = slots.chosen()
        tokens = {}
        for slot, row in active.items():
            token = likeliest[slot.row]
            if task.call.is_dropped(row.number):
                row.finish = "cancelled"
            elif task.free_running:
                row.guard.tokens.append(token)
            else:
                token = _take(row, token, slots.logits[slot.row], end)
            if row.finish is None and len(row.guard.tokens) >= task.limit:
                row.finish = "length"
            tokens[slot] = token
        return tokens

    @contextmanager
    def _prepared(self, task: _ReadingTask, numbers: Sequence[int]) -> Iterator[dict[int, Future[Views]]]:
        """The views of these pages, cut on threads: the card looks at one page while the next ones are cut."""
        kind, resolution = self._checkpoint.kind, task.options.resolution

        def cut(page: PageImage) -> Views:
            return cut_views(read_page(page.path, page.width, page.height), kind, resolution)

        pool = ThreadPoolExecutor(min(PREPARING_THREADS, usable_cores(), len(numbers)), "prepare")
        try:
            yield {number: pool.submit(cut, task.pages[number]) for number in numbers}
        finally:
            pool.shutdown(cancel_futures=True)

    def _slots(self, capacity: int) -> Slots:
        return Slots(self._model, capacity)

    def _prompt(self, views: Views, options: ReadOptions) -> Prompt:
        """The page and its question, the picture's vectors in the place of the placeholders."""
        ids = encode_prompt(self._tokenizer, prompt_for(options), views.placeholders)
        model = self._model.model
        table = model.language_model.embed_tokens
        device, dtype = table.weight.device, table.weight.dtype
        kind = self._checkpoint.kind
        arguments: dict[str, Any] = {"pixel_values": normalised(views.whole[None], kind, table.weight)}
        if views.tiles is not None:
            arguments["pixel_values_local"] = normalised(views.tiles, kind, table.weight)
            arguments["num_local_patches"] = [len(views.tiles)]
            if kind == "v1":
                arguments["patches_grid"] = [list(views.grid)]
        (seen,) = model.get_image_features(**arguments, return_dict=True).pooler_output
        if len(seen) != views.placeholders:
            raise RuntimeError(f"the model saw {len(seen)} vectors where {views.placeholders} were expected")
        vectors: torch.Tensor = table(torch.tensor(ids, device=device))
        vectors[1 : 1 + len(seen)] = seen.to(dtype)
        return Prompt(vectors)

    def _written(self, row: _Sequence) -> Written:
        tokens = row.guard.tokens if row.guard.keep is None else row.guard.tokens[: row.guard.keep]
        text = self._tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert row.finish is not None
        return Written(text, tuple(tokens), row.finish)

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
        per_token: int = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * size
        prompt = int(PROMPT_ELEMENTS * text.hidden_size * size * LONGEST_PROMPT)  # one at a time
        room = self._free_bytes() - WORKING_BYTES - max(prompt, LOOKING_BYTES)
        return max(1, room // (per_token * (LONGEST_PROMPT + limit)))

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


def normalised(pixels: Pixels, kind: Kind, like: torch.Tensor) -> torch.Tensor:
    """`(…, height, width, 3)` of 8 bits as `(…, 3, height, width)` from -1 to 1, of the device and dtype of `like`.

    Bytes travel to the card, not floats. A table of 256 values gives each what the original's arithmetic gives it.

    Args:
        pixels: of one view, or of several.
        kind: of the model: each has its own arithmetic.
        like: a tensor of the model.
    """
    levels = torch.from_numpy(level_table(kind)).to(like.device, like.dtype)
    numbers = torch.from_numpy(np.array(pixels)).to(like.device).int()
    return levels.index_select(0, numbers.view(-1)).view(numbers.shape).movedim(-1, -3).contiguous()


class _Report:
    """Progress of one call; few messages, however fast the tokens come."""

    def __init__(self, call: Call, total: int) -> None:
        self.call = call
        self.done = 0
        """Pages that were read in the batches before."""
        self._total = total
        self._spoke = -math.inf
        self._furthest = 0.0

    def looking(self, number: int) -> None:
        self._say(self.done, f"looking at page {number + 1} of {self._total}")

    def writing(self, rows: Sequence[_Sequence]) -> None:
        now = time.monotonic()
        if now - self._spoke < PROGRESS_S:
            return
        counts = [len(row.guard.tokens) for row in rows]
        shares = [1 - math.exp(-count / TYPICAL_TOKENS) for count in counts]
        ended = [share if row.finish is None else 1.0 for row, share in zip(rows, shares, strict=True)]
        self._say(self.done + sum(ended), f"{sum(counts)} tokens")

    def _say(self, done: float, message: str) -> None:
        self._spoke = time.monotonic()
        self._furthest = max(self._furthest, done / self._total)
        self.call.progress(min(self._furthest, 1.0), message)


def _take(row: _Sequence, chosen: int, logits: torch.Tensor, end: int) -> int:
    """The row's next token, noted; `chosen` unless it is banned."""
    likeliest = chosen
    banned = row.guard.banned()
    if chosen in banned:
        logits[list(banned)] = -math.inf
        chosen = int(logits.argmax())
    if chosen == end:
        row.finish = "stop"
    elif row.guard.add(chosen, likeliest):
        row.finish = "loop"
    return chosen

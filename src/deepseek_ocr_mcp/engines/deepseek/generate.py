"""Has DeepSeek-OCR write the text of pages: greedy, in batches, each page as if it were alone.

Every page is looked at by itself and its vectors are put in its prompt; the prompts of a batch are padded on the
left, so that no page's text depends on its neighbours. A page ends with a reason: the model's own end (`stop`),
the limit of tokens (`length`), a repetition (`loop`), or because nobody waits for it (`cancelled`), while its
neighbours go on. Cancellation is asked for before every layer while pages are looked at, and before every token
while they are written. When memory runs out, the pages that are finished are kept and the batch is halved for the
others; a single page that does not fit is an error, and the model is as sound as before.
"""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad
from transformers.cache_utils import StaticCache
from transformers.modeling_layers import GradientCheckpointingLayer

from ...errors import GpuBusy
from ...logs import fields
from ...modes import MODES
from ..base import Call, Finish, PageImage, ReadOptions
from ..cores import usable_cores
from ..loops import LoopGuard
from . import host_memory
from .checkpoint import IMAGE, Checkpoint
from .preprocess import Kind, Pixels, Views, cut_views, level_table, read_page
from .shortage import first_line, is_out_of_memory

__all__ = [
    "MAX_NEW_TOKENS",
    "ModelReader",
    "TokenSheet",
    "Written",
    "encode_prompt",
    "normalised",
    "prompt_for",
    "record",
]

log = logging.getLogger(__name__)

MAX_NEW_TOKENS: Final = 8192  # of one page; upstream's own limit
MAX_BATCH: Final = 16  # pages; beyond it decoding gains little, and a short page waits for a long one
LONGEST_PROMPT: Final = 1300  # tokens: nine tiles, the whole page and a question
PROMPT_ELEMENTS: Final = 41.5
"""Numbers that live for each prompt token, and each of the model's `hidden_size`, beside the key-value cache.

Counted over v1 at its real size (tests/engines/test_deepseek_memory.py): most are the experts' inputs and outputs."""
CONTEXT_BYTES: Final = 700 << 20  # of CUDA itself, before any tensor: 300 to 700 MB by card and driver
WORKING_BYTES: Final = 512 << 20  # kept free beside the counted tensors: cuBLAS workspaces, recorded steps, fragments
CPU_SHARE: Final = 0.5  # of the memory that is available, where there is no card
PREPARING_THREADS: Final = 4  # for the pages of a batch; one page takes a core for a tenth of a second
TYPICAL_TOKENS: Final = 1500  # of a page; only the progress bar believes it
PROGRESS_S: Final = 0.2  # between two messages

GROW: Final = {"cuda": 1024, "cpu": 256}  # tokens by which a cache grows; on a card each growth is recorded anew
RECORD_AFTER: Final = 16  # steps of one shape until it is recorded: a short answer does not pay for it

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
    """A page in a batch."""

    number: int
    ids: list[int]
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
        size = MAX_BATCH
        while waiting:
            task.report.done = len(answers)
            batch = waiting[: min(size, self._room(max_new_tokens))]
            rows, shortage = self._attempt(task, batch)
            answers.update((row.number, self._written(row)) for row in rows if row.finish is not None)
            waiting = [number for number in waiting if number not in answers]
            if not shortage:
                continue
            self._empty_caches()
            if len(batch) == 1:
                raise self._too_large(pages[batch[0]], shortage)
            size = len(batch) // 2
        return [answers[number] for number in range(len(pages))]

    # ------------------------------------------------------------ one batch

    def _attempt(self, task: _ReadingTask, numbers: Sequence[int]) -> tuple[list[_Sequence], str]:
        """The rows of these pages, and how torch said that memory ran out; empty: it did not.

        When it did, some rows may have no finish: those pages are not read. Nothing of the batch is alive on return:
        not even the traceback, which would hold its tensors.
        """
        rows: list[_Sequence] = []
        try:
            with torch.inference_mode():
                self._read_batch(task, numbers, rows)
        except RuntimeError as exc:
            if not is_out_of_memory(exc):
                raise
            return rows, first_line(exc)
        return rows, ""

    def _read_batch(self, task: _ReadingTask, numbers: Sequence[int], rows: list[_Sequence]) -> None:
        """Fill `rows` with a row for each of these pages, and write them all to their ends."""
        embedded: list[torch.Tensor] = []
        active: list[_Sequence] = []
        prompt = prompt_for(task.options)
        with self._prepared(task, numbers) as prepared, self._cancellable(task.call):
            for number in numbers:
                if task.call.is_dropped(number):
                    rows.append(_Sequence(number, [], LoopGuard(), "cancelled"))
                    continue
                task.report.looking(number)
                views = prepared[number].result()
                ids = encode_prompt(self._tokenizer, prompt, views.placeholders)
                embedded.append(self._embed(ids, views))
                active.append(_Sequence(number, ids, LoopGuard(self._cells, self._blank)))
            rows += active
            if not active:
                return
            sheet = self._sheet(*_padded(embedded))
            embedded.clear()
        self._decode(active, sheet, task)

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

    def _sheet(self, mask: torch.Tensor, vectors: torch.Tensor) -> TokenSheet:
        return TokenSheet(self._model, mask, vectors)

    def _decode(self, rows: Sequence[_Sequence], sheet: TokenSheet, task: _ReadingTask) -> None:
        """Write until every row has its reason to end. Rows that ended leave the batch when half of it has."""
        end: int = self._tokenizer.eos_token_id
        active = list(rows)
        while True:
            task.call.raise_if_cancelled()
            chosen = sheet.chosen()
            for index, row in enumerate(active):
                if row.finish is None and task.call.is_dropped(row.number):
                    row.finish = "cancelled"
                if row.finish is None:
                    if task.free_running:
                        row.guard.tokens.append(chosen[index])
                    else:
                        chosen[index] = _take(row, chosen[index], sheet.logits[index], end)
                    if row.finish is None and len(row.guard.tokens) >= task.limit:
                        row.finish = "length"
            task.report.writing(rows)
            going = [index for index, row in enumerate(active) if row.finish is None]
            if not going:
                return
            if 2 * len(going) <= len(active):
                active = [active[index] for index in going]
                chosen = [chosen[index] for index in going]
                sheet.keep(going)
            sheet.write(chosen)

    def _embed(self, ids: Sequence[int], views: Views) -> torch.Tensor:
        """The prompt as vectors, `(tokens, size)`, the picture's in the place of the placeholders."""
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
        return vectors

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
        at_the_end = per_token * (LONGEST_PROMPT + limit)
        first_cache = per_token * (LONGEST_PROMPT + GROW.get(self._device.type, GROW["cpu"]))
        at_the_start = first_cache + int(PROMPT_ELEMENTS * text.hidden_size * size * LONGEST_PROMPT)
        return max(1, (self._free_bytes() - WORKING_BYTES) // max(at_the_end, at_the_start))

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


def _padded(prompts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts of `(tokens, size)` as a mask `(rows, longest)` and vectors `(rows, longest, size)`, padded on the
    left."""
    longest = max(map(len, prompts))
    first = prompts[0]
    mask = torch.zeros((len(prompts), longest), dtype=torch.long, device=first.device)
    vectors = first.new_zeros((len(prompts), longest, first.shape[-1]))
    for index, prompt in enumerate(prompts):
        mask[index, longest - len(prompt) :] = 1
        vectors[index, longest - len(prompt) :] = prompt
    return mask, vectors


class TokenSheet:
    """A batch as it is being written: cache, mask and next tokens of fixed shapes, changed in place.

    A step of one shape is the same work on the same addresses every time. So on a card it is recorded as a CUDA graph
    once it has run `RECORD_AFTER` times, and replayed: at batch 1 a step is a thousand small kernels, and starting
    them one by one takes longer than they do. Nothing recorded outlives its batch: weights may be parked and come
    back elsewhere in between. Where recording fails, steps are run as they are, and `spoiled` says why: the allocator
    of that process no longer empties its cache before it gives up, so the process is to be replaced.

    Args:
        mask: `(rows, tokens)`, 1 where a prompt is and 0 where it is padded, on the left.
        vectors: `(rows, tokens, size)`, the prompts.
    """

    recordable = True
    """Whether steps are recorded in this process: not where it is switched off, nor once it has failed."""
    spoiled = ""
    """Why recording failed in this process; empty: it has not."""
    recorded_on = ("cuda",)
    """Kinds of device whose steps are recorded."""

    def __init__(self, model: Any, mask: torch.Tensor, vectors: torch.Tensor) -> None:
        self._model = model
        self._grow_by = GROW.get(mask.device.type, GROW["cpu"])
        self._used = mask.shape[-1]
        self._length = self._used + self._grow_by
        self._cache = self._new_cache()
        positions = (mask.cumsum(-1) - 1).clamp_(min=0)
        hidden = self._hidden(attention_mask=mask, position_ids=positions, inputs_embeds=vectors)
        self._mask = torch.zeros((len(mask), 1, 1, self._length), dtype=torch.bool, device=mask.device)
        self._mask[:, 0, 0, : self._used] = mask.bool()
        self._positions = positions[:, -1:] + 1
        self._tokens = torch.zeros((len(mask), 1), dtype=torch.long, device=mask.device)
        self.logits: torch.Tensor = model.lm_head(hidden)
        """`(rows, vocabulary)`: how likely each next token is."""
        self._steps = 0  # of this shape
        self._replay: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<TokenSheet {len(self._tokens)} rows, {self._used} of {self._length} tokens>"

    def _new_cache(self) -> Any:
        return StaticCache(config=self._model.model.language_model.config, max_cache_len=self._length)

    def chosen(self) -> list[int]:
        """The likeliest next token of each row. The one place where a step waits for the card."""
        tokens: list[int] = self.logits.argmax(-1).tolist()
        return tokens

    def write(self, tokens: Sequence[int]) -> None:
        """Append a token to each row and compute the `logits` of the next one."""
        if self._used == self._length:
            self._grow()
        self._tokens.copy_(torch.tensor(tokens)[:, None])
        if self._steps == RECORD_AFTER and self._tokens.device.type in self.recorded_on and self.recordable:
            self._replay = self._recorded()
        (self._replay or self._step)()
        self._used += 1
        self._steps += 1

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        kept = torch.tensor(rows, device=self._tokens.device)
        self._mask, self._positions = self._mask[kept], self._positions[kept]
        self._tokens, self.logits = self._tokens[kept], self.logits[kept]
        for layer in self._cache.layers:  # one after the other, so that never more than one is there twice
            layer.keys, layer.values = layer.keys[kept], layer.values[kept]
            layer.batch_size = len(rows)
        self._reshaped()

    def _grow(self) -> None:
        self._length += self._grow_by
        self._mask = pad(self._mask, (0, self._grow_by))
        for layer in self._cache.layers:
            layer.keys = pad(layer.keys, (0, 0, 0, self._grow_by))
            layer.values = pad(layer.values, (0, 0, 0, self._grow_by))
            layer.max_cache_len = self._length
        self._reshaped()

    def _reshaped(self) -> None:
        self._steps, self._replay = 0, None

    def _step(self) -> None:
        """One decode step. All of it is in place and nothing waits for the card, so it can be recorded."""
        written = self._cache.layers[0].cumulative_length
        self._mask.index_fill_(3, written.reshape(1), True)
        # With a mask of four dimensions, which attention takes as it is, the model makes none of its own.
        hidden = self._hidden(input_ids=self._tokens, attention_mask=self._mask, position_ids=self._positions)
        self.logits.copy_(self._model.lm_head(hidden))
        self._positions.add_(1)

    def _hidden(self, **inputs: torch.Tensor) -> torch.Tensor:
        """The last hidden state of each row, `(rows, size)`."""
        output = self._model.model.language_model(**inputs, cache=self._cache, use_cache=True)
        last: torch.Tensor = output.last_hidden_state[:, -1]
        return last

    def _recorded(self) -> Callable[[], None] | None:
        """The step as a CUDA graph; None, for good, where this model or card has an operation that cannot be in one."""
        try:
            return record(self._step)
        except RuntimeError as exc:
            TokenSheet.recordable = False
            TokenSheet.spoiled = first_line(exc)
            log.warning("A step could not be recorded as a CUDA graph.", extra=fields(reason=TokenSheet.spoiled))
            if is_out_of_memory(exc):
                raise
            return None


def record(step: Callable[[], None]) -> Callable[[], None]:
    """`step` as a CUDA graph: to call it replays the same work on the same addresses. Recording executes nothing."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


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

"""Writes what DeepSeek-OCR reads on prepared pages: greedy, in batches, each page as if it were alone.

Every page is looked at by itself and its vectors are put in its prompt; the prompts of a batch are padded on the
left, so that no page's text depends on its neighbours. A page ends with a reason: the model's own end (`stop`),
the limit of tokens (`length`), a repetition (`loop`), cut off, or because nobody waits for it (`cancelled`), while its
neighbours go on. Cancellation is asked for before every layer
while pages are looked at and before every token while they are written. When memory runs out, the batch is halved
and nothing of it is kept; a single page that does not fit is an error, and the model is as sound as before.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ...errors import GpuBusy
from ...logs import fields
from ...modes import MODES
from ..base import Call, Finish, PageImage, ReadOptions
from ..loops import LoopGuard
from .checkpoint import IMAGE, Checkpoint
from .preprocess import Views, cut_views, normalised, read_page

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["MAX_NEW_TOKENS", "ModelReader", "TokenSheet", "Written", "encode_prompt", "prompt_for", "record"]

log = logging.getLogger(__name__)

MAX_NEW_TOKENS: Final = 8192  # of one page; upstream's own limit
MAX_BATCH: Final = 16  # pages; beyond it decoding gains little, and a short page waits for a long one
LONGEST_PROMPT: Final = 1300  # tokens: nine tiles, the whole page and a question
WORKING_BYTES: Final = 512 << 20  # kept free beside the key-value cache
CPU_SHARE: Final = 0.5  # of the memory that is available, where there is no card
TYPICAL_TOKENS: Final = 1500  # of a page; only the progress bar believes it
PROGRESS_S: Final = 0.2  # between two messages

GROW: Final = {"cuda": 1024, "cpu": 256}  # tokens by which a cache grows; on a card each growth is recorded anew
RECORD_AFTER: Final = 16  # steps of one shape until it is recorded: a short answer does not pay for it

NO_MEMORY: Final = (
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""How torch says it where it does not raise `torch.OutOfMemoryError`."""

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


def prompt_for(options: ReadOptions) -> str:
    """What the model is asked, without the picture. Tags in the request's own words are taken out."""
    return MODES[options.mode].question(options.find_term, options.custom_prompt)


def encode_prompt(tokenizer: Any, prompt: str, placeholders: int) -> list[int]:
    """Token ids as the original's `infer()` makes them: begin, one placeholder per vector, the question.

    The original strips the whole text, so a prompt of nothing loses its newline too.
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
        import torch

        answers: dict[int, Written] = {}
        waiting = list(range(len(pages)))
        size = MAX_BATCH
        while waiting:
            batch: list[int] = []
            try:
                with torch.inference_mode():
                    batch = waiting[: min(size, self._room(max_new_tokens))]
                    report = _Report(call, len(pages), len(answers))
                    rows = self._read_batch(pages, batch, options, report, max_new_tokens, free_running)
            except RuntimeError as exc:
                if not _is_out_of_memory(exc):
                    raise
                shortage, of_card = str(exc).strip().splitlines()[0], isinstance(exc, torch.OutOfMemoryError)
            else:
                answers.update((row.number, self._written(row)) for row in rows)
                waiting = waiting[len(batch) :]
                continue
            # Outside of the handler: its traceback held the tensors that are to be freed.
            self._empty_caches()
            if len(batch) <= 1:
                raise _too_large(pages[waiting[0]], shortage) if of_card else MemoryError(shortage)
            size = len(batch) // 2
        return [answers[number] for number in range(len(pages))]

    # ------------------------------------------------------------ one batch

    def _read_batch(
        self,
        pages: Sequence[PageImage],
        numbers: Sequence[int],
        options: ReadOptions,
        report: _Report,
        limit: int,
        free_running: bool,
    ) -> list[_Sequence]:
        import torch

        prompt = prompt_for(options)
        rows: list[_Sequence] = []
        dropped: list[_Sequence] = []
        embedded: list[torch.Tensor] = []
        with self._cancellable(report.call):
            for number in numbers:
                if report.call.is_dropped(number):
                    dropped.append(_Sequence(number, [], LoopGuard(), "cancelled"))
                    continue
                report.looking(number)
                page = pages[number]
                views = cut_views(
                    read_page(page.path, page.width, page.height), self._checkpoint.kind, options.resolution
                )
                ids = encode_prompt(self._tokenizer, prompt, views.placeholders)
                embedded.append(self._embed(ids, views))
                rows.append(_Sequence(number, ids, LoopGuard(self._cells, self._blank)))
            if not rows:
                return dropped
            longest = max(len(row.ids) for row in rows)
            device = embedded[0].device
            mask = torch.zeros((len(rows), longest), dtype=torch.long, device=device)
            padded = embedded[0].new_zeros((len(rows), longest, embedded[0].shape[-1]))
            for index, vectors in enumerate(embedded):
                mask[index, longest - len(vectors) :] = 1
                padded[index, longest - len(vectors) :] = vectors
            embedded.clear()
            sheet = self._sheet(mask, padded)
            del padded
        self._decode(rows, sheet, report, limit, free_running)
        return rows + dropped

    def _sheet(self, mask: torch.Tensor, vectors: torch.Tensor) -> TokenSheet:
        return TokenSheet(self._model, mask, vectors)

    def _decode(
        self, rows: Sequence[_Sequence], sheet: TokenSheet, report: _Report, limit: int, free_running: bool
    ) -> None:
        """Write until every row has its reason to end. Rows that ended leave the batch when half of it has."""
        end: int = self._tokenizer.eos_token_id
        active = list(rows)
        while True:
            report.call.raise_if_cancelled()
            chosen = sheet.chosen()
            for index, row in enumerate(active):
                if row.finish is None and report.call.is_dropped(row.number):
                    row.finish = "cancelled"
                if row.finish is None:
                    if free_running:
                        row.guard.tokens.append(chosen[index])
                    else:
                        chosen[index] = _take(row, chosen[index], sheet.logits[index], end)
                    if row.finish is None and len(row.guard.tokens) >= limit:
                        row.finish = "length"
            report.writing(rows)
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
        import torch

        model = self._model.model
        table = model.language_model.embed_tokens
        device, dtype = table.weight.device, table.weight.dtype

        def pixels(part: Any) -> torch.Tensor:
            return torch.from_numpy(normalised(part, self._checkpoint.kind)).to(device, dtype)

        arguments: dict[str, Any] = {"pixel_values": pixels(views.whole[None])}
        if views.tiles is not None:
            arguments["pixel_values_local"] = pixels(views.tiles)
            arguments["num_local_patches"] = [len(views.tiles)]
            if self._checkpoint.kind == "v1":
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
        from transformers.modeling_layers import GradientCheckpointingLayer

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
        weight = self._model.lm_head.weight
        per_token: int = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * weight.element_size()
        each: int = per_token * (LONGEST_PROMPT + limit)
        return max(1, (self._free_bytes() - WORKING_BYTES) // each)

    def _free_bytes(self) -> int:
        import torch

        device = self._model.lm_head.weight.device
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
        return int(CPU_SHARE * _available_memory())

    def _empty_caches(self) -> None:
        import torch

        gc.collect()
        if self._model.lm_head.weight.device.type == "cuda":
            torch.cuda.empty_cache()


class TokenSheet:
    """A batch as it is being written: cache, mask and next tokens of fixed shapes, changed in place.

    A step of one shape is the same work on the same addresses every time. So on a card it is recorded as a CUDA graph
    once it has run `RECORD_AFTER` times, and replayed: at batch 1 a step is a thousand small kernels, and starting
    them one by one takes longer than they do. Nothing recorded outlives its batch: weights may be parked and come
    back elsewhere in between. Where recording fails, steps are run as they are.

    Args:
        mask: `(rows, tokens)`, 1 where a prompt is and 0 where it is padded, on the left.
        vectors: `(rows, tokens, size)`, the prompts.
    """

    recordable = True
    """Whether recording has not failed in this process."""
    recorded_on = ("cuda",)
    """Kinds of device whose steps are recorded."""

    def __init__(self, model: Any, mask: torch.Tensor, vectors: torch.Tensor) -> None:
        import torch

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
        """`(rows, vocabulary)`: what may come next."""
        self._steps = 0  # of this shape
        self._replay: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Sheet {len(self._tokens)} rows, {self._used} of {self._length} tokens>"

    def _new_cache(self) -> Any:
        from transformers.cache_utils import StaticCache

        return StaticCache(config=self._model.model.language_model.config, max_cache_len=self._length)

    def chosen(self) -> list[int]:
        """The likeliest next token of each row. The one place where a step waits for the card."""
        tokens: list[int] = self.logits.argmax(-1).tolist()
        return tokens

    def write(self, tokens: Sequence[int]) -> None:
        """Append a token to each row; `logits` tell afterwards what may follow."""
        import torch

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
        import torch

        kept = torch.tensor(rows, device=self._tokens.device)
        self._mask, self._positions = self._mask[kept], self._positions[kept]
        self._tokens, self.logits = self._tokens[kept], self.logits[kept]
        for layer in self._cache.layers:  # one after the other, so that never more than one is there twice
            layer.keys, layer.values = layer.keys[kept], layer.values[kept]
            layer.batch_size = len(rows)
        self._reshaped()

    def _grow(self) -> None:
        from torch.nn.functional import pad

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
        """Everything in place, nothing that waits: what can be recorded."""
        written = self._cache.layers[0].cumulative_length
        self._mask.index_fill_(3, written.reshape(1), True)
        # A mask of four dimensions is what attention wants: the model makes none of its own.
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
            if _is_out_of_memory(exc):
                raise
            TokenSheet.recordable = False
            said = str(exc).strip().splitlines()[0]
            log.warning("Steps are not recorded as a CUDA graph.", extra=fields(reason=said))
            return None


def record(step: Callable[[], None]) -> Callable[[], None]:
    """`step` as a CUDA graph: to call it replays the same work on the same addresses. Recording executes nothing."""
    import torch

    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


class _Report:
    """Progress of one batch of a call; few messages, however fast the tokens come."""

    def __init__(self, call: Call, total: int, done: int) -> None:
        self.call = call
        self._total = total
        self._done = done
        self._spoke = -math.inf
        self._furthest = 0.0

    def looking(self, number: int) -> None:
        self._say(self._done, f"looking at page {number + 1} of {self._total}")

    def writing(self, rows: Sequence[_Sequence]) -> None:
        now = time.monotonic()
        if now - self._spoke < PROGRESS_S:
            return
        counts = [len(row.guard.tokens) for row in rows]
        shares = [1 - math.exp(-count / TYPICAL_TOKENS) for count in counts]
        ended = [share if row.finish is None else 1.0 for row, share in zip(rows, shares, strict=True)]
        self._say(self._done + sum(ended), f"{sum(counts)} tokens")

    def _say(self, done: float, message: str) -> None:
        self._spoke = time.monotonic()
        self._furthest = max(self._furthest, done / self._total)
        self.call.progress(min(self._furthest, 1.0), message)


def _too_large(page: PageImage, shortage: str) -> GpuBusy:
    return GpuBusy(
        f"A page of {page.width} x {page.height} pixels does not fit in the card's free memory: {shortage}",
        remedy=BUSY_REMEDY,
    )


def _take(row: _Sequence, chosen: int, logits: torch.Tensor, end: int) -> int:
    """The row's next token, noted; `chosen` unless it is banned."""
    wanted = chosen
    banned = row.guard.banned()
    if chosen in banned:
        logits[list(banned)] = -math.inf
        chosen = int(logits.argmax())
    if chosen == end:
        row.finish = "stop"
    elif row.guard.add(chosen, wanted):
        row.finish = "loop"
    return chosen


def _is_out_of_memory(exc: BaseException) -> bool:
    import torch

    if isinstance(exc, torch.OutOfMemoryError):
        return True
    return any(sign in str(exc) for sign in NO_MEMORY)


def _available_memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0

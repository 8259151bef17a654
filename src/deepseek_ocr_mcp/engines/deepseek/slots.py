"""Writes several pages side by side, each in a slot of its own, and takes a new page as soon as a slot is free.

A slot is a row of the key-value cache with a length of its own. A page enters it with its prompt, unpadded, and leaves
it when its text ends; the others write on meanwhile. So no page waits for the longest of its batch, and no page's text
depends on its neighbours or on the order in which pages come.

A step runs over the first rows of the cache: 1, 2, 4, 8, 16 or 32 of them, as many as are in use. Rows move down when
that makes the step smaller. One number of rows is one shape: a step of it is the same work on the same addresses every
time. So on a card it is recorded as a CUDA graph once it has run `RECORD_AFTER` times, and replayed: at batch 1 a step
is some 640 small kernels, and starting them one by one takes longer than they do. Nothing recorded outlives its
slots: weights may be parked and come back elsewhere in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.nn.functional import pad
from transformers.cache_utils import Cache, CacheLayerMixin

from ...logs import fields
from .shortage import first_line, is_out_of_memory

__all__ = ["BUCKETS", "Prompt", "Sampling", "Slot", "Slots", "bucket_for", "record"]

log = logging.getLogger(__name__)

BUCKETS: Final = (1, 2, 4, 8, 16, 32)
"""Rows of a step. Each is recorded for itself, in some 30 MB; a step has up to twice the rows that it needs."""

GROW: Final = {"cuda": 1024, "cpu": 256}  # tokens by which a cache grows; on a card each growth is recorded anew
SEED: Final = 0  # of the tokens that are drawn: the same page has the same text again
RECORD_AFTER: Final = 16  # steps of one shape until it is recorded: a short answer does not pay for it


@dataclass(frozen=True, slots=True)
class Prompt:
    """A page and its question, as the language model takes them."""

    vectors: torch.Tensor
    """`(tokens, size)`."""
    positions: torch.Tensor | None = None
    """`(3, tokens)` for a model that places pictures in two dimensions; None: one after the other from 0."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn, for a model whose publisher advises against the likeliest."""

    temperature: float
    """More than 0."""
    top_p: float = 1.0
    """The share of the likeliest tokens that are drawn from."""

    def draw(self, logits: torch.Tensor, randoms: Sequence[torch.Generator | None]) -> torch.Tensor:
        """A token for each row of `logits`, `(rows, vocabulary)`; any for a row without a generator."""
        shares = torch.softmax(logits.float() / self.temperature, -1)
        if self.top_p < 1:
            ordered, order = shares.sort(descending=True)
            ordered[ordered.cumsum(-1) - ordered >= self.top_p] = 0  # the likeliest always stays
            shares = torch.zeros_like(shares).scatter_(-1, order, ordered)
        # The largest of shares over exponential noise is drawn as `multinomial` draws, and waits for no card.
        noise = torch.ones_like(shares)
        for row, random in enumerate(randoms):
            if random is not None:
                noise[row].exponential_(generator=random)
        return (shares / noise).argmax(-1)


@dataclass(slots=True, eq=False)
class Slot:
    """The place of one page; its row may change between steps."""

    row: int
    used: int
    """Tokens in the cache."""
    random: torch.Generator | None = None
    """Of this page's own: its text does not depend on its neighbours, nor on what was read before."""


class Slots:
    """Pages as they are being written: cache, mask and next tokens of fixed shapes, changed in place.

    Where recording fails, steps are run as they are, and `spoiled` says why: the allocator of that process no longer
    empties its cache before it gives up, so the process is to be replaced.

    Args:
        model: with `model.language_model` and `lm_head`.
        capacity: pages at once.
        window: of its own text, the last tokens that a page looks back to, beside its whole prompt; 0: all of it.
        sampling: None: the likeliest tokens.
    """

    recordable = True
    """Whether steps are recorded in this process: not where it is switched off, nor once it has failed."""
    spoiled = ""
    """Why recording failed in this process; empty: it has not."""
    recorded_on = ("cuda",)
    """Kinds of device whose steps are recorded."""

    def __init__(self, model: Any, capacity: int, *, window: int = 0, sampling: Sampling | None = None) -> None:
        self._model = model
        self._window = window
        self._sampling = sampling
        head = model.lm_head.weight
        device = head.device
        self._grow_by = GROW.get(device.type, GROW["cpu"])
        self._length = 0
        self._slots: list[Slot | None] = [None] * capacity
        self._cache = _RowCache(model.model.language_model.config.num_hidden_layers)
        self._tokens = torch.zeros((capacity, 1), dtype=torch.long, device=device)
        self._used, self._positions = torch.zeros_like(self._tokens), torch.zeros_like(self._tokens)
        self._prompts, self._alive = torch.zeros_like(self._tokens), torch.zeros_like(self._tokens)
        self._places = torch.zeros((1, 0), dtype=torch.long, device=device)
        self._mask = torch.zeros((capacity, 1, 1, 0), dtype=torch.bool, device=device)
        self.logits = torch.zeros((capacity, len(head)), dtype=head.dtype, device=device)
        """`(capacity, vocabulary)`: how likely each next token of each row is."""
        self._steps: dict[int, int] = {}  # by rows, since the last growth
        self._replays: dict[int, Callable[[], None] | None] = {}

    def __repr__(self) -> str:
        return f"<Slots {self.active} of {len(self._slots)} in use, {self._length} tokens each>"

    def widen(self, capacity: int) -> None:
        """Let so many pages be here at once. What was recorded is forgotten, because the cache moves."""
        more = capacity - len(self._slots)
        self._slots += [None] * more
        self._replays.clear()
        self._steps.clear()
        for name in ("_tokens", "_used", "_positions", "_prompts", "_alive", "logits"):
            setattr(self, name, pad(getattr(self, name), (0, 0, 0, more)))
        self._mask = torch.zeros((capacity, 1, 1, self._length), dtype=torch.bool, device=self._mask.device)
        self._cache.grow(self._length, more)

    @property
    def capacity(self) -> int:
        """Pages that may be here at once."""
        return len(self._slots)

    @property
    def active(self) -> int:
        """Pages that are being written."""
        return sum(slot is not None for slot in self._slots)

    @property
    def free(self) -> int:
        """Pages that may enter."""
        return len(self._slots) - self.active

    def enter(self, prompt: Prompt) -> Slot:
        """Take a page into a free slot and compute the `logits` of its first token."""
        row, count = self._slots.index(None), len(prompt.vectors)
        self._make_room(count + 1)
        device = prompt.vectors.device
        order = torch.arange(count, device=device)
        places = order[None] if prompt.positions is None else prompt.positions[:, None]
        with self._cache.taking_prompt(row, self._length, len(self._slots)):
            hidden = self._hidden(
                inputs_embeds=prompt.vectors[None],
                attention_mask=(order[None] <= order[:, None])[None, None],
                position_ids=places,
            )
        self.logits[row] = self._model.lm_head(hidden)[0]
        self._used[row], self._prompts[row], self._alive[row] = count, count, 1
        self._positions[row] = places.max() + 1
        slot = self._slots[row] = Slot(row, count)
        if self._sampling is not None:
            slot.random = torch.Generator(device).manual_seed(SEED)
        return slot

    def leave(self, slot: Slot) -> None:
        """Give a page's slot back."""
        self._slots[slot.row] = None
        self._used[slot.row] = self._alive[slot.row] = 0

    def chosen(self) -> list[int]:
        """The next token of each row; of a free one any. The one place where a step waits for the card."""
        logits = self.logits[: self._rows()]
        if self._sampling is None:
            chosen = logits.argmax(-1)
        else:
            randoms = [None if slot is None else slot.random for slot in self._slots[: len(logits)]]
            chosen = self._sampling.draw(logits, randoms)
        tokens: list[int] = chosen.tolist()
        return tokens

    def write(self, tokens: Mapping[Slot, int]) -> None:
        """Append a token to each page and compute the `logits` of the next one.

        Args:
            tokens: one for each slot in use.
        """
        self._move_down()
        rows = self._rows()
        self._make_room(1 + max(slot.used for slot in tokens))
        row_tokens = [0] * rows
        for slot, token in tokens.items():
            row_tokens[slot.row] = token
            slot.used += 1
        self._tokens[:rows].copy_(torch.tensor(row_tokens)[:, None])
        self._run(rows)

    def _rows(self) -> int:
        """Rows of the next step: up to the last that is in use."""
        last = max((row for row, slot in enumerate(self._slots) if slot is not None), default=0)
        return bucket_for(last + 1, len(self._slots))

    def _move_down(self) -> None:
        """Move the last rows to free places below, where a step of fewer rows can then hold all of them."""
        rows = bucket_for(self.active, len(self._slots))
        for slot in [slot for slot in self._slots[rows:] if slot is not None]:
            below, above = self._slots.index(None), slot.row
            for tensor in (self._used, self._positions, self._prompts, self._alive):  # logits are computed anew
                tensor[below] = tensor[above]
            self._cache.move(above, below, slot.used)
            self._slots[below], slot.row = slot, below
            self._slots[above] = None
            self._used[above] = self._alive[above] = 0

    def _make_room(self, length: int) -> None:
        """Let each row hold so many tokens. What was recorded is forgotten where the cache moves."""
        if length <= self._length:
            return
        self._length = self._length + self._grow_by * -(-(length - self._length) // self._grow_by)
        self._replays.clear()
        self._steps.clear()
        device = self._mask.device
        self._mask = torch.zeros((len(self._slots), 1, 1, self._length), dtype=torch.bool, device=device)
        self._places = torch.arange(self._length, device=device)[None]
        self._cache.grow(self._length)

    def _run(self, rows: int) -> None:
        """One decode step, recorded or not."""
        steps = self._steps.get(rows, 0)
        if steps == RECORD_AFTER and self._tokens.device.type in self.recorded_on and self.recordable:
            self._replays[rows] = self._recorded(rows)
        replay = self._replays.get(rows)
        if replay is not None:
            replay()
        else:
            self._step(rows)
        self._steps[rows] = steps + 1

    def _step(self, rows: int) -> None:
        """One decode step. All of it is in place and nothing waits for the card, so it can be recorded."""
        used, alive, positions = self._used[:rows], self._alive[:rows], self._positions[:rows]
        mask = self._mask[:rows, 0, 0]
        torch.le(self._places, used, out=mask)
        if self._window:
            mask.logical_and_((self._places < self._prompts[:rows]) | (self._places > used - self._window))
        self._cache.write_at(used)
        # With a mask of four dimensions, which attention takes as it is, the model makes none of its own.
        hidden = self._hidden(input_ids=self._tokens[:rows], attention_mask=self._mask[:rows], position_ids=positions)
        self.logits[:rows].copy_(self._model.lm_head(hidden))
        used.add_(alive)
        positions.add_(alive)

    def _hidden(self, **inputs: torch.Tensor) -> torch.Tensor:
        """The last hidden state of each row, `(rows, size)`."""
        output = self._model.model.language_model(**inputs, cache=self._cache, use_cache=True)
        last: torch.Tensor = output.last_hidden_state[:, -1]
        return last

    def _recorded(self, rows: int) -> Callable[[], None] | None:
        """The step as a CUDA graph; None, for good, where this model or card has an operation that cannot be in one."""
        try:
            return record(lambda: self._step(rows))
        except RuntimeError as exc:
            Slots.recordable = False
            Slots.spoiled = first_line(exc)
            log.warning("A step could not be recorded as a CUDA graph.", extra=fields(reason=Slots.spoiled))
            if is_out_of_memory(exc):
                raise
            return None


def bucket_for(rows: int, capacity: int) -> int:
    """Rows of the smallest step that holds so many, and no more than there are."""
    return min(capacity, next((bucket for bucket in BUCKETS if bucket >= rows), capacity))


def record(step: Callable[[], None]) -> Callable[[], None]:
    """`step` as a CUDA graph: to call it replays the same work on the same addresses. Recording executes nothing."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


class _RowCache(Cache):  # type: ignore[misc]
    """Keys and values of all layers, `(capacity, heads, length, size)` each."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[_RowLayer() for _ in range(layers)])

    @contextmanager
    def taking_prompt(self, row: int, length: int, capacity: int) -> Iterator[None]:
        """While it lasts, layers take a whole prompt into that row."""
        for layer in self.layers:
            layer.prompt_row, layer.shape = row, (capacity, length)
        try:
            yield
        finally:
            for layer in self.layers:
                layer.prompt_row = None

    def write_at(self, used: torch.Tensor) -> None:
        """From here on, layers take one token for each row, at these places `(rows, 1)`."""
        for layer in self.layers:
            layer.at = used[..., None, None]

    def move(self, above: int, below: int, used: int) -> None:
        """Copy a row to another."""
        for layer in self.layers:
            layer.keys[below, :, :used] = layer.keys[above, :, :used]
            layer.values[below, :, :used] = layer.values[above, :, :used]

    def grow(self, length: int, rows: int = 0) -> None:
        """Let each row hold so many tokens, and let there be so many more rows.

        It does one layer after the other, so that never more than one is there twice.
        """
        for layer in self.layers:
            if layer.is_initialized:
                size = (0, 0, 0, length - layer.keys.shape[2], 0, 0, 0, rows)
                layer.keys, layer.values = pad(layer.keys, size), pad(layer.values, size)


class _RowLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values; see `_RowCache`."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt_row: int | None = None
        self.shape = (0, 0)
        """Capacity and length."""
        self.at = torch.empty(0)
        """`(rows, 1, 1, 1)`: where each row's next token goes."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Zeros: what is masked is multiplied with 0, and must be a number."""
        capacity, length = self.shape
        self.keys = key_states.new_zeros((capacity, key_states.shape[1], length, key_states.shape[-1]))
        self.values = value_states.new_zeros((capacity, value_states.shape[1], length, value_states.shape[-1]))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take keys and values, `(rows, heads, tokens, size)`; those that attention looks at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.prompt_row is not None:
            count = key_states.shape[2]
            self.keys[self.prompt_row, :, :count] = key_states[0]
            self.values[self.prompt_row, :, :count] = value_states[0]
            return key_states, value_states
        rows = len(key_states)
        keys, values = self.keys[:rows], self.values[:rows]
        keys.scatter_(2, self.at.expand_as(key_states), key_states)
        values.scatter_(2, self.at.expand_as(value_states), value_states)
        return keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Of a mask that nobody makes: it is always given."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Not one for all rows."""
        return 0

    def get_max_length(self) -> int:
        """As many tokens as a row holds now."""
        return self.shape[1]
